// The packets that the load generator sends and receives by the million, read and built with no more work than load needs,
// and the two that open a connection. Pure. Sources: MQTT 5.0 sections 3.1, 3.3, 3.4 and 3.8, MQTT 3.1.1 the same.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "base/span.h"
#include "cli/bench_shape.h"
#include "mqtt/packet.h"

// ---- Reading

struct packet_publish {
  uint8_t qos;
  uint16_t packet_id;  // 0 at QoS 0
  struct span payload;
};

struct packet_ack {
  uint16_t packet_id;
  enum mqtt_reason reason;
};

static inline uint16_t packet_read_u16(const uint8_t *at)
{
  return (uint16_t)(at[0] << 8 | at[1]);
}

// Bounds are checked, contents are not: it is the broker's conformance tests that look at them. Inline: hot path.
static inline bool packet_read_publish(enum mqtt_version version, uint8_t first, struct span body,
                                       struct packet_publish *out)
{
  if (body.size < 2) return false;
  size_t at = 2 + (size_t)packet_read_u16(body.at);
  uint8_t qos = first >> 1 & 3;
  uint16_t packet_id = 0;
  if (qos) {
    if (qos == 3 || body.size < at + 2) return false;
    packet_id = packet_read_u16(body.at + at);
    at += 2;
  }
  if (version == MQTT_5_0) {
    // The property length has the form of a remaining length; one byte nearly always.
    size_t length = 0;
    for (unsigned shift = 0;; shift += 7) {
      if (at >= body.size || shift > 21) return false;
      uint8_t byte = body.at[at++];
      length |= (size_t)(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    at += length;
  }
  if (at > body.size) return false;
  *out = (struct packet_publish){.qos = qos, .packet_id = packet_id, .payload = span_from(body, at)};
  return true;
}

static inline bool packet_read_ack(struct span body, struct packet_ack *out)
{
  if (body.size < 2) return false;
  out->packet_id = packet_read_u16(body.at);
  out->reason = body.size > 2 ? (enum mqtt_reason)body.at[2] : MQTT_SUCCESS;
  return true;
}

// ---- Building

struct packet_login {
  enum mqtt_version version;
  const char *client_id;
  const char *user_name;  // NULL: none
  const char *password;   // NULL: none
  bool clean_start;
  uint32_t session_expiry_s;  // 5.0 only
};

// CONNECT without will and keep alive, with the largest receive maximum. ERR_NO_MEMORY, or ERR_INVALID for too long text.
CHECK_RESULT enum status packet_write_connect(const struct packet_login *login, struct buffer *out);

// SUBSCRIBE to all filters of a subscriber of the shape; to `filter` alone when that is not NULL.
CHECK_RESULT enum status packet_write_subscribe(enum mqtt_version version, const struct shape *shape, uint32_t subscriber,
                                                const char *filter, uint8_t qos, struct buffer *out);

// A PUBLISH to be copied, with room for its stamp and identifier.
struct packet_template {
  uint8_t *bytes;
  size_t size;
  size_t packet_id_at;  // 0 at QoS 0
  size_t payload_at;
};

// The payload is a pattern behind its stamp. `payload_size` is SHAPE_STAMP_SIZE or more. Free with packet_template_deinit.
CHECK_RESULT enum status packet_template_init(struct packet_template *template, enum mqtt_version version, const char *topic,
                                              uint8_t qos, size_t payload_size);
void packet_template_deinit(struct packet_template *template);

// Whether a payload of the template's size is as it was made, but for its stamp.
static inline bool packet_payload_intact(const struct packet_template *template, const uint8_t *payload)
{
  size_t size = template->size - template->payload_at - SHAPE_STAMP_SIZE;
  return memcmp(payload + SHAPE_STAMP_SIZE, template->bytes + template->payload_at + SHAPE_STAMP_SIZE, size) == 0;
}
