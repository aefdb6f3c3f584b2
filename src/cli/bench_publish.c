// The publishers of bench_load.h: when they may send, and the sending.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_load.h"

enum { PUBLISH_BYTES_PER_TURN = 256 * 1024 };

enum status publisher_init(struct load *load, struct publisher *publisher, uint32_t index)
{
  const struct bench_options *options = load->options;
  publisher->connection.index = index;
  publisher->connection.publisher = true;
  publisher->group = index % load->shape.topics;
  publisher->slot = index / load->shape.topics;
  publisher->next_packet_id = 1;
  publisher->listeners = shape_listeners(&load->shape, index);
  publisher->positions = calloc(publisher->listeners ? publisher->listeners : 1, sizeof *publisher->positions);
  if (!publisher->positions) return ERR_NO_MEMORY;
  if (options->qos) {
    publisher->packet_ids = calloc(UINT16_MAX / 64 + 1, sizeof *publisher->packet_ids);
    if (!publisher->packet_ids) return ERR_NO_MEMORY;
  }
  for (uint32_t topic = 0; topic < load->topics; topic++) {
    char text[SHAPE_TEXT_SIZE];
    (void)shape_topic(&load->shape, index, topic, text);
    struct packet_template template;
    enum status status =
        packet_template_init(&template, options->version, text, (uint8_t)options->qos, options->payload_bytes);
    if (status) return status;
    if (!publisher->templates) {
      publisher->layout = template;
      publisher->templates = malloc(template.size * load->topics);
    }
    assert(template.size == publisher->layout.size);
    if (publisher->templates) memcpy(publisher->templates + topic * template.size, template.bytes, template.size);
    packet_template_deinit(&template);
    if (!publisher->templates) return ERR_NO_MEMORY;
  }
  publisher->layout.bytes = publisher->templates;
  return OK;
}

void publisher_deinit(struct publisher *publisher)
{
  free(publisher->positions);
  free(publisher->packet_ids);
  free(publisher->templates);
}

// How many messages the slowest listener allows.
static uint32_t room_ahead(const struct load *load, const struct publisher *publisher)
{
  if (publisher->listeners == 0) return load->ahead;
  uint32_t slowest = UINT32_MAX;
  for (uint32_t i = 0; i < publisher->listeners; i++)
    if (publisher->positions[i] < slowest) slowest = publisher->positions[i];
  uint32_t out = publisher->sent - slowest;
  uint32_t room = out < load->ahead ? load->ahead - out : 0;
  // Small refills would make small writes; all brokers are to see the same bursts.
  return room < load->batch ? 0 : room;
}

static uint32_t may_send(const struct load *load, const struct publisher *publisher)
{
  // What the socket has not taken yet comes first.
  if (publisher->connection.blocked) return 0;
  uint32_t room = room_ahead(load, publisher);
  if (load->options->qos) {
    uint32_t window = publisher->window - publisher->in_flight;
    if (window < room) room = window;
  }
  uint64_t left = load->sent_limit - load->counts.published;
  if (left < room) room = (uint32_t)left;
  uint32_t most = (uint32_t)(PUBLISH_BYTES_PER_TURN / publisher->layout.size) + 1;
  return room < most ? room : most;
}

static uint16_t take_packet_id(struct publisher *publisher)
{
  for (;;) {
    uint16_t packet_id = publisher->next_packet_id;
    publisher->next_packet_id = packet_id == UINT16_MAX ? 1 : (uint16_t)(packet_id + 1);
    uint64_t bit = UINT64_C(1) << (packet_id % 64);
    if (publisher->packet_ids[packet_id / 64] & bit) continue;
    publisher->packet_ids[packet_id / 64] |= bit;
    publisher->in_flight++;
    return packet_id;
  }
}

// `at` has room for one packet.
static inline void write_message(struct load *load, struct publisher *publisher, uint8_t *at, uint64_t time_ns)
{
  const struct packet_template *layout = &publisher->layout;
  memcpy(at, publisher->templates + publisher->topic * layout->size, layout->size);
  struct stamp stamp = {.publisher = publisher->connection.index, .number = publisher->sent, .time_ns = time_ns};
  stamp_write(at + layout->payload_at, stamp);
  if (layout->packet_id_at) {
    uint16_t packet_id = take_packet_id(publisher);
    at[layout->packet_id_at] = (uint8_t)(packet_id >> 8);
    at[layout->packet_id_at + 1] = (uint8_t)packet_id;
  }
  publisher->sent++;
  if (++publisher->topic == load->topics) publisher->topic = 0;
}

// Sends `count` messages; from `time_ns` on one each `step_ns`.
static void send_messages(struct load *load, struct publisher *publisher, uint32_t count, uint64_t time_ns, uint64_t step_ns)
{
  size_t size = publisher->layout.size;
  uint8_t *at = buffer_reserve(&publisher->connection.out, count * size);
  // Without memory the load is just smaller; the run then ends with what it has.
  if (!at) return;
  for (uint32_t i = 0; i < count; i++) write_message(load, publisher, at + i * size, time_ns + i * step_ns);
  buffer_commit(&publisher->connection.out, count * size);
  load->counts.published += count;
  engine_flush(&load->engine, &publisher->connection);
}

// At a fixed rate the publishers take turns: message i belongs to publisher i % publishers and is due at start + i/rate.
static uint64_t publish_at_rate(struct load *load, uint64_t now_ns)
{
  const uint64_t rate = load->options->rate;
  for (;;) {
    uint64_t due_ns = load->rate_start_ns + (uint64_t)((__uint128_t)load->counts.published * BENCH_NS_PER_S / rate);
    if (due_ns > now_ns) return load->counts.published < load->sent_limit ? due_ns : UINT64_MAX;
    struct publisher *publisher = &load->publishers[load->counts.published % load->options->publishers];
    if (may_send(load, publisher) == 0) return UINT64_MAX;
    send_messages(load, publisher, 1, due_ns, 0);
  }
}

uint64_t load_publish(struct load *load, uint64_t now_ns)
{
  if (!load->sending) return UINT64_MAX;
  if (load->options->rate) return publish_at_rate(load, now_ns);
  for (uint32_t i = 0; i < load->options->publishers; i++) {
    struct publisher *publisher = &load->publishers[i];
    uint32_t count = may_send(load, publisher);
    if (count) send_messages(load, publisher, count, now_ns, 0);
  }
  return UINT64_MAX;
}

void publisher_acknowledged(struct load *load, struct publisher *publisher, uint16_t packet_id, enum mqtt_reason reason)
{
  uint64_t bit = UINT64_C(1) << (packet_id % 64);
  if (!publisher->packet_ids || (publisher->packet_ids[packet_id / 64] & bit) == 0) {
    load->counts.unexpected++;
    return;
  }
  publisher->packet_ids[packet_id / 64] &= ~bit;
  publisher->in_flight--;
  load->counts.acknowledged++;
  if (reason >= MQTT_UNSPECIFIED_ERROR) load->counts.refused++;
}

// How many of a publisher's messages went to this topic of its.
static uint64_t sent_to_topic(const struct publisher *publisher, uint32_t topics, uint32_t topic)
{
  return publisher->sent / topics + (publisher->sent % topics > topic ? 1 : 0);
}

uint64_t load_expected(const struct load *load)
{
  uint64_t expected = 0;
  for (uint32_t p = 0; p < load->shape.publishers; p++) {
    const struct publisher *publisher = &load->publishers[p];
    if (load->shape.filters == 0) {
      expected += (uint64_t)publisher->sent * publisher->listeners;
      continue;
    }
    for (uint32_t s = 0; s < load->shape.subscribers; s++)
      for (uint32_t topic = 0; topic < load->topics; topic++)
        if (shape_hears(&load->shape, s, p, topic)) expected += sent_to_topic(publisher, load->topics, topic);
  }
  return expected;
}
