// PUBLISH and its acknowledgements: the packets that come by the million. Sections 3.3 to 3.7.
#include "mqtt/internal.h"

#include <assert.h>

static const struct text_words words_topic = TEXT_WORDS("topic name");

// What is wrong with a topic name that is not plain, if anything.
__attribute__((noinline)) static bool check_odd_topic(const struct reader *reader, struct span topic)
{
  if (!mqtt_check_text(reader, topic, &words_topic)) return false;
  if (text_has_wildcard(topic))
    return reader_refuse(reader, MQTT_TOPIC_NAME_INVALID, STATEMENT("MQTT-3.3.2-2", "MQTT-3.3.2-2"),
                         "topic name has a wildcard");
  return true;
}

__attribute__((noinline)) static bool take_publish_properties(struct reader *reader, enum mqtt_sender sender,
                                                              struct mqtt_properties *out)
{
  if (!mqtt_take_properties(reader, MQTT_PUBLISH, out)) return false;
  if (sender == MQTT_FROM_CLIENT && MQTT_HAS(out, SUBSCRIPTION_ID))
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.3.4-6", NULL),
                         "a client's PUBLISH has a subscription identifier");
  return true;
}

__attribute__((noinline)) static bool refuse_publish_flags(const struct reader *reader, unsigned qos)
{
  if (qos == 3)
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.3.1-4", "MQTT-3.3.1-4"), "PUBLISH has QoS 3");
  return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.3.1-2", "MQTT-3.3.1-2"), "DUP is set at QoS 0");
}

bool mqtt_decode_publish(enum mqtt_version version, enum mqtt_sender sender, uint8_t first, struct span body,
                         struct mqtt_publish *out, struct mqtt_fault *out_fault)
{
  assert(first >> 4 == MQTT_PUBLISH);
  struct reader reader = {.at = body.at, .fault = out_fault, .version = version};
  unsigned qos = (first >> 1) & 3;
  bool dup = first & 0x08;
  if (UNLIKELY(qos == 3 || (dup && qos == 0))) return refuse_publish_flags(&reader, qos);

  if (UNLIKELY(body.size < 2)) return reader_refuse(&reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, words_topic.cut_off);
  size_t topic_size = (size_t)(body.at[0] << 8 | body.at[1]);
  if (UNLIKELY(body.size - 2 < topic_size))
    return reader_refuse(&reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, words_topic.cut_off);
  struct span topic = span_of(body.at + 2, topic_size);
  if (UNLIKELY(!text_plain(topic)) && !check_odd_topic(&reader, topic)) return false;
  reader.at = topic.at + topic_size;
  reader.end = body.at + body.size;

  uint16_t packet_id = 0;
  struct statement not_zero = STATEMENT(sender == MQTT_FROM_CLIENT ? "MQTT-2.2.1-3" : "MQTT-2.2.1-4", "MQTT-2.3.1-1");
  if (qos > 0 && UNLIKELY(!mqtt_take_packet_id(&reader, not_zero, &packet_id))) return false;

  if (version == MQTT_5_0 && UNLIKELY(reader.at == reader.end || *reader.at != 0)) {
    if (!take_publish_properties(&reader, sender, &out->properties)) return false;
  } else {
    properties_none(&out->properties);
    reader.at += version == MQTT_5_0;
  }
  if (UNLIKELY(topic_size == 0) && !MQTT_HAS(&out->properties, TOPIC_ALIAS))
    return reader_refuse(&reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-4.7.3-1", "MQTT-4.7.3-1"), "topic name is empty");

  out->qos = (uint8_t)qos;
  out->dup = dup;
  out->retain = first & 0x01;
  out->packet_id = packet_id;
  out->topic = topic;
  out->payload = span_of(reader.at, reader_left(&reader));
  return true;
}

// 3.1.1 and 5.0: exactly 0010 for PUBREL and 0000 for the others. 3.1 calls DUP and RETAIN "not used" in them, and DUP is
// set when a PUBREL is sent again.
static bool check_ack_flags(const struct reader *reader, unsigned type, unsigned flags)
{
  if (type == MQTT_PUBREL) {
    unsigned looked_at = reader->version == MQTT_3_1 ? 0x06 : 0x0f;
    if (UNLIKELY((flags & looked_at) != 0x02))
      return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.6.1-1", "MQTT-3.6.1-1"),
                           "the flags of PUBREL are not 0010");
    return true;
  }
  if (UNLIKELY(flags != 0) && reader->version != MQTT_3_1)
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-2.1.3-1", "MQTT-2.2.2-1"),
                         "reserved flags of an acknowledgement are set");
  return true;
}

static const char *const ack_reason_statements[] = {
    [MQTT_PUBACK] = "MQTT-3.4.2-1",
    [MQTT_PUBREC] = "MQTT-3.5.2-1",
    [MQTT_PUBREL] = "MQTT-3.6.2-1",
    [MQTT_PUBCOMP] = "MQTT-3.7.2-1",
};

__attribute__((noinline)) static bool refuse_ack_reason(const struct reader *reader, unsigned type)
{
  return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT(ack_reason_statements[type], NULL),
                       "this acknowledgement cannot have this reason code");
}

// Reason code and properties, of which both or the latter may be left out (5.0 sections 3.4.2.1, 3.4.2.2.1).
static bool take_ack_reason(struct reader *reader, unsigned type, struct mqtt_ack *out)
{
  uint8_t code;
  if (!read_u8(reader, &code)) return mqtt_take_end(reader);
  // Either side may be the receiver of the message, so either side's codes will do.
  if (code != MQTT_SUCCESS && !mqtt_reason_allowed(code, (enum mqtt_packet_type)type, MQTT_FROM_SERVER))
    return refuse_ack_reason(reader, type);
  out->reason = (enum mqtt_reason)code;
  if (reader_left(reader) == 0) return true;
  if (!mqtt_take_properties(reader, type, &out->properties)) return false;
  return mqtt_take_end(reader);
}

bool mqtt_decode_ack(enum mqtt_version version, uint8_t first, struct span body, struct mqtt_ack *out,
                     struct mqtt_fault *out_fault)
{
  unsigned type = first >> 4;
  assert(type >= MQTT_PUBACK);
  assert(type <= MQTT_PUBCOMP);
  struct reader reader = {.at = body.at, .fault = out_fault, .version = version};
  if (!check_ack_flags(&reader, type, first & 0x0f)) return false;
  reader.end = body.size > 0 ? body.at + body.size : body.at;
  uint16_t packet_id;
  if (!mqtt_take_packet_id(&reader, STATEMENT("MQTT-2.2.1-5", "MQTT-2.3.1-6"), &packet_id)) return false;
  out->packet_id = packet_id;
  out->reason = MQTT_SUCCESS;
  properties_none(&out->properties);
  if (UNLIKELY(reader_left(&reader) > 0)) {
    if (version != MQTT_5_0) return mqtt_take_end(&reader);
    return take_ack_reason(&reader, type, out);
  }
  return true;
}
