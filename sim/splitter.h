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

// The packet at the front; valid until splitter_drop takes it away.
static inline enum splitter_result splitter_peek(const struct splitter *splitter, uint8_t *out_first, struct span *out_body,
                                                 size_t *out_size)
{
  struct span span = buffer_peek(&splitter->bytes);
  struct mqtt_fixed_header header;
  switch (mqtt_fixed_header(span, &header)) {
    case MQTT_HEADER_MALFORMED: return SPLITTER_MALFORMED;
    case MQTT_HEADER_INCOMPLETE: return SPLITTER_INCOMPLETE;
    case MQTT_HEADER_OK: break;
  }
  if (span.size < (size_t)header.size + header.remaining) return SPLITTER_INCOMPLETE;
  *out_first = header.first;
  *out_body = span_of(span.at + header.size, header.remaining);
  *out_size = (size_t)header.size + header.remaining;
  return SPLITTER_PACKET;
}

static inline void splitter_drop(struct splitter *splitter, size_t size)
{
  buffer_consume(&splitter->bytes, size);
}

static inline void splitter_deinit(struct splitter *splitter)
{
  buffer_deinit(&splitter->bytes);
}
