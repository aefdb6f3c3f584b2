// Cuts a stream of bytes into control packets, as a client has to.
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "mqtt/packet.h"

struct splitter {
  struct buffer bytes;
};

static inline void splitter_add(struct splitter *splitter, struct span bytes)
{
  if (buffer_append(&splitter->bytes, bytes.at, bytes.size) != OK) __builtin_trap();
}

enum splitter_result { SPLITTER_PACKET, SPLITTER_INCOMPLETE, SPLITTER_MALFORMED };

// The packet at the front, which may refer to the bytes until splitter_drop takes them away; or what is wrong with it.
static inline enum splitter_result splitter_peek(const struct splitter *splitter, enum mqtt_version version,
                                                 enum mqtt_sender sender, struct mqtt_packet *out, size_t *out_size,
                                                 struct mqtt_fault *out_fault)
{
  struct span span = buffer_peek(&splitter->bytes);
  struct mqtt_fixed_header header;
  switch (mqtt_fixed_header(span, &header)) {
    case MQTT_HEADER_MALFORMED: *out_fault = (struct mqtt_fault){.text = "its length"}; return SPLITTER_MALFORMED;
    case MQTT_HEADER_INCOMPLETE: return SPLITTER_INCOMPLETE;
    case MQTT_HEADER_OK: break;
  }
  *out_size = (size_t)header.size + header.remaining;
  if (span.size < *out_size) return SPLITTER_INCOMPLETE;
  struct span body = span_of(span.at + header.size, header.remaining);
  return mqtt_decode(version, sender, header.first, body, out, out_fault) ? SPLITTER_PACKET : SPLITTER_MALFORMED;
}

static inline void splitter_drop(struct splitter *splitter, size_t size)
{
  buffer_consume(&splitter->bytes, size);
}

static inline void splitter_deinit(struct splitter *splitter)
{
  buffer_deinit(&splitter->bytes);
}
