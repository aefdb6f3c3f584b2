// Fields of a packet that have rules of their own.
#include "mqtt/internal.h"

bool mqtt_take_varint(struct reader *reader, uint32_t *out)
{
  uint32_t value = 0;
  for (unsigned i = 0; i < 4; i++) {
    uint8_t byte;
    if (!read_u8(reader, &byte))
      return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "a variable byte integer is cut off");
    value |= (uint32_t)(byte & 0x7f) << (7 * i);
    if (byte & 0x80) continue;
    if (byte == 0 && i > 0)
      return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-1.5.5-1", NULL),
                           "a variable byte integer is longer than it needs to be");
    *out = value;
    return true;
  }
  return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "a variable byte integer is longer than four bytes");
}

bool mqtt_check_text(const struct reader *reader, struct span text, const struct text_words *words)
{
  switch (mqtt_text_check(text)) {
    case TEXT_VALID: return true;
    case TEXT_ILL_FORMED:
      return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-1.5.4-1", "MQTT-1.5.3-1"), words->ill_formed);
    case TEXT_HAS_NUL: break;
  }
  return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-1.5.4-2", "MQTT-1.5.3-2"), words->has_nul);
}

bool mqtt_take_text(struct reader *reader, const struct text_words *words, struct span *out)
{
  struct span text;
  if (!read_binary(reader, &text)) return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, words->cut_off);
  if (!mqtt_check_text(reader, text, words)) return false;
  *out = text;
  return true;
}

bool mqtt_take_packet_id(struct reader *reader, struct statement statement, uint16_t *out)
{
  uint16_t id;
  if (!read_u16(reader, &id))
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "the packet identifier is cut off");
  if (id == 0) return reader_refuse(reader, MQTT_PROTOCOL_ERROR, statement, "the packet identifier is 0");
  *out = id;
  return true;
}

bool mqtt_take_end(const struct reader *reader)
{
  if (reader->at == reader->end) return true;
  return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "bytes are left behind the end of the packet");
}
