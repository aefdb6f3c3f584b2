// Any bytes as a packet. The first byte selects version and sender, the second is the packet's first, the rest is its body.
// What is accepted must survive encoding and decoding; a packet that is cut anywhere must never pass as a whole one.
#include <stdlib.h>
#include <string.h>

#include "mqtt/packet.h"
#include "mqtt/topic.h"
#include "recode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition)
{
  if (!condition) abort();
}

// Memory of exactly this size, so that a read beyond it is seen.
static uint8_t *exact_copy(struct span bytes)
{
  uint8_t *copy = malloc(bytes.size > 0 ? bytes.size : 1);
  check(copy != NULL);
  if (bytes.size > 0) memcpy(copy, bytes.at, bytes.size);
  return copy;
}

static bool decode(enum mqtt_version version, enum mqtt_sender sender, uint8_t first, struct span body,
                   struct mqtt_packet *out)
{
  struct mqtt_fault fault = {0};
  if (mqtt_decode(version, sender, first, body, out, &fault)) return true;
  check(fault.reason >= MQTT_UNSPECIFIED_ERROR);
  check(fault.text != NULL);
  return false;
}

// The special path and the general one agree.
static void check_hot_path(enum mqtt_version version, enum mqtt_sender sender, uint8_t first, struct span body,
                           bool accepted)
{
  struct mqtt_fault fault;
  struct mqtt_publish publish;
  struct mqtt_ack ack;
  unsigned type = first >> 4;
  if (type == MQTT_PUBLISH) check(mqtt_decode_publish(version, sender, first, body, &publish, &fault) == accepted);
  if (type >= MQTT_PUBACK && type <= MQTT_PUBCOMP) check(mqtt_decode_ack(version, first, body, &ack, &fault) == accepted);
}

static void check_contents(enum mqtt_version version, const struct mqtt_packet *packet)
{
  size_t cursor = 0;
  uint32_t count = 0;
  if (packet->type == MQTT_PUBLISH) {
    const struct mqtt_publish *publish = &packet->publish;
    check(mqtt_utf8_valid(publish->topic));
    check(mqtt_topic_valid(publish->topic) || (publish->topic.size == 0 && MQTT_HAS(&publish->properties, TOPIC_ALIAS)));
    check((publish->qos > 0) == (publish->packet_id > 0));
    check(mqtt_forward_properties(publish->properties.raw, NULL) <= publish->properties.raw.size);
  }
  if (packet->type == MQTT_SUBSCRIBE) {
    struct mqtt_subscription subscription;
    for (; mqtt_next_subscription(version, &packet->subscribe, &cursor, &subscription); count++) {
      check(subscription.qos <= 2);
      check(subscription.filter.size > 0);
    }
    check(count == packet->subscribe.count);
  }
  if (packet->type == MQTT_UNSUBSCRIBE) {
    struct span filter;
    while (mqtt_next_filter(&packet->unsubscribe, &cursor, &filter)) count++;
    check(count == packet->unsubscribe.count);
  }
}

// A whole packet on the wire: framing finds its end, and finds none when a byte is missing.
static void check_framing(struct span wire)
{
  struct mqtt_fixed_header header;
  check(mqtt_fixed_header(wire, &header) == MQTT_HEADER_OK);
  check(header.size + header.remaining == wire.size);
  size_t step = wire.size > 512 ? wire.size / 64 : 1;
  for (size_t cut = 0; cut < wire.size; cut += step) {
    struct span part = {.at = exact_copy(span_of(wire.at, cut)), .size = cut};
    enum mqtt_header_result result = mqtt_fixed_header(part, &header);
    check(result == MQTT_HEADER_INCOMPLETE || (result == MQTT_HEADER_OK && header.size + header.remaining > cut));
    free((void *)(uintptr_t)part.at);
  }
}

static void check_round_trip(enum mqtt_version version, enum mqtt_sender sender, const struct mqtt_packet *packet,
                             size_t size)
{
  size_t room = size + 64;
  uint8_t *once = malloc(room);
  uint8_t *twice = malloc(room);
  check(once && twice);
  size_t once_size = recode(version, packet, once, room);
  check(once_size > 0);
  check_framing(span_of(once, once_size));
  struct mqtt_fixed_header header;
  check(mqtt_fixed_header(span_of(once, once_size), &header) == MQTT_HEADER_OK);
  struct mqtt_packet again;
  check(decode(version, sender, header.first, span_of(once + header.size, header.remaining), &again));
  check(again.type == packet->type);
  check(recode(version, &again, twice, room) == once_size);
  check(memcmp(once, twice, once_size) == 0);
  free(once);
  free(twice);
}

// Part of a body is hardly ever a body, but if it is (a PUBLISH with less payload), it holds.
static void check_cuts(enum mqtt_version version, enum mqtt_sender sender, uint8_t first, struct span body)
{
  size_t step = body.size > 256 ? body.size / 32 : 1;
  for (size_t cut = 0; cut < body.size; cut += step) {
    struct mqtt_packet packet;
    uint8_t *copy = exact_copy(span_of(body.at, cut));
    if (decode(version, sender, first, span_of(copy, cut), &packet)) check_round_trip(version, sender, &packet, cut);
    free(copy);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2) return 0;
  enum mqtt_version version = (enum mqtt_version)(MQTT_3_1 + data[0] % 3);
  enum mqtt_sender sender = data[0] / 3 % 2 ? MQTT_FROM_SERVER : MQTT_FROM_CLIENT;
  uint8_t first = data[1];
  struct span body = {.at = exact_copy(span_of(data + 2, size - 2)), .size = size - 2};
  struct mqtt_packet packet;
  bool accepted = decode(version, sender, first, body, &packet);
  check_hot_path(version, sender, first, body, accepted);
  if (accepted) {
    check_contents(version, &packet);
    check_round_trip(version, sender, &packet, body.size);
  }
  check_cuts(version, sender, first, body);
  // The bytes as a stream, too.
  struct mqtt_fixed_header header;
  (void)mqtt_fixed_header(span_of(data + 1, size - 1), &header);
  free((void *)(uintptr_t)body.at);
  return 0;
}
