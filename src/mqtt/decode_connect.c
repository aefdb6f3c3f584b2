// CONNECT of 3.1, 3.1.1 and 5.0. Sections 3.1 of the standards.
#include "mqtt/internal.h"

enum {
  FLAG_RESERVED = 0x01,
  FLAG_CLEAN_START = 0x02,
  FLAG_WILL = 0x04,
  FLAG_WILL_QOS = 0x18,
  FLAG_WILL_RETAIN = 0x20,
  FLAG_PASSWORD = 0x40,
  FLAG_USER_NAME = 0x80,
  LEVEL_BRIDGE = 0x80,  // the bit that Mosquitto's bridges set in the protocol level before 5.0
  CLIENT_ID_MAX_CHARACTERS_3_1 = 23,
};

static const struct text_words words_client_id = TEXT_WORDS("client identifier");
static const struct text_words words_will_topic = TEXT_WORDS("will topic");
static const struct text_words words_user_name = TEXT_WORDS("user name");

static bool refuse_cut_off(const struct reader *reader, const char *text)
{
  return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.1.4-1", "MQTT-3.1.4-1"), text);
}

// Protocol name and level. Leaves the version 0 when it is none of ours, or 5.0 when the client is from the future: it will
// understand a CONNACK of 5.0 rather than an older one.
static bool take_version(struct reader *reader, struct mqtt_connect *out)
{
  struct span name;
  uint8_t level;
  if (!read_binary(reader, &name)) return refuse_cut_off(reader, "protocol name is cut off");
  if (!read_u8(reader, &level)) return refuse_cut_off(reader, "CONNECT is cut off");
  bool modern = span_equal(name, span_text("MQTT"));
  bool old = span_equal(name, span_text("MQIsdp"));
  if (!modern && !old)
    return reader_refuse(reader, MQTT_UNSUPPORTED_PROTOCOL_VERSION, STATEMENT("MQTT-3.1.2-1", "MQTT-3.1.2-1"),
                         "the protocol name is not MQTT");
  uint8_t plain_level = level & (uint8_t)~LEVEL_BRIDGE;
  if (modern && level == MQTT_5_0) {
    out->version = MQTT_5_0;
  } else if ((modern && plain_level == MQTT_3_1_1) || (old && plain_level == MQTT_3_1)) {
    out->version = (enum mqtt_version)plain_level;
    out->bridge = level & LEVEL_BRIDGE;
  } else {
    if (modern && level > MQTT_5_0) out->version = MQTT_5_0;
    reader->version = out->version;
    return reader_refuse(reader, MQTT_UNSUPPORTED_PROTOCOL_VERSION, STATEMENT("MQTT-3.1.2-2", "MQTT-3.1.2-2"),
                         "the protocol version is not supported");
  }
  reader->version = out->version;
  return true;
}

// 3.1 calls bit 0 unused, and disregards the will's QoS and retain when there is no will.
static bool check_flags(const struct reader *reader, uint8_t flags)
{
  bool old = reader->version == MQTT_3_1;
  if ((flags & FLAG_RESERVED) && !old)
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.1.2-3", "MQTT-3.1.2-3"),
                         "the reserved flag of CONNECT is set");
  if (flags & FLAG_WILL) {
    if ((flags & FLAG_WILL_QOS) == FLAG_WILL_QOS)
      return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.1.2-14", "MQTT-3.1.2-14"), "will QoS is 3");
  } else if (!old) {
    if (flags & FLAG_WILL_QOS)
      return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.1.2-13", "MQTT-3.1.2-13"),
                           "will QoS without a will");
    if (flags & FLAG_WILL_RETAIN)
      return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.1.2-15", "MQTT-3.1.2-15"),
                           "will retain without a will");
  }
  if ((flags & FLAG_PASSWORD) && !(flags & FLAG_USER_NAME) && reader->version != MQTT_5_0)
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT(NULL, "MQTT-3.1.2-22"), "password without a user name");
  return true;
}

static bool take_connect_properties(struct reader *reader, struct mqtt_properties *out)
{
  if (!mqtt_take_properties(reader, MQTT_CONNECT, out)) return false;
  if (MQTT_HAS(out, AUTHENTICATION_DATA) && !MQTT_HAS(out, AUTHENTICATION_METHOD))
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, NO_STATEMENT, "authentication data without an authentication method");
  return true;
}

static size_t count_characters(struct span text)
{
  size_t count = 0;
  for (size_t i = 0; i < text.size; i++) count += (text.at[i] & 0xc0) != 0x80;
  return count;
}

static bool take_client_id(struct reader *reader, struct mqtt_connect *out)
{
  if (!mqtt_take_text(reader, &words_client_id, &out->client_id)) return false;
  if (reader->version == MQTT_3_1) {
    size_t characters = count_characters(out->client_id);
    if (characters == 0 || characters > CLIENT_ID_MAX_CHARACTERS_3_1)
      return reader_refuse(reader, MQTT_CLIENT_IDENTIFIER_NOT_VALID, NO_STATEMENT,
                           "a client identifier of MQTT 3.1 has 1 to 23 characters");
  } else if (reader->version == MQTT_3_1_1 && out->client_id.size == 0 && !out->clean_start) {
    return reader_refuse(reader, MQTT_CLIENT_IDENTIFIER_NOT_VALID, STATEMENT(NULL, "MQTT-3.1.3-8"),
                         "an empty client identifier needs a clean session");
  }
  return true;
}

static bool take_will(struct reader *reader, uint8_t flags, struct mqtt_will *out)
{
  if (!(flags & FLAG_WILL)) return true;
  out->present = true;
  out->qos = (uint8_t)((flags & FLAG_WILL_QOS) >> 3);
  out->retain = flags & FLAG_WILL_RETAIN;
  if (!mqtt_take_properties(reader, PACKET_WILL, &out->properties)) return false;
  if (!mqtt_take_text(reader, &words_will_topic, &out->topic)) return false;
  if (out->topic.size == 0)
    return reader_refuse(reader, MQTT_TOPIC_NAME_INVALID, STATEMENT("MQTT-4.7.3-1", "MQTT-4.7.3-1"), "will topic is empty");
  if (text_has_wildcard(out->topic))
    return reader_refuse(reader, MQTT_TOPIC_NAME_INVALID, STATEMENT("MQTT-4.7.0-1", "MQTT-4.7.1-1"),
                         "will topic has a wildcard");
  if (!read_binary(reader, &out->payload)) return refuse_cut_off(reader, "will payload is cut off");
  return true;
}

// 3.1 allows both flags to be set when the fields themselves are missing: "the remaining length takes precedence".
static bool take_credentials(struct reader *reader, uint8_t flags, struct mqtt_connect *out)
{
  bool may_miss = reader->version == MQTT_3_1;
  if ((flags & FLAG_USER_NAME) && !(may_miss && reader_left(reader) == 0)) {
    if (!mqtt_take_text(reader, &words_user_name, &out->user_name)) return false;
    out->has_user_name = true;
  }
  if ((flags & FLAG_PASSWORD) && !(may_miss && reader_left(reader) == 0)) {
    if (!read_binary(reader, &out->password)) return refuse_cut_off(reader, "password is cut off");
    out->has_password = true;
  }
  return true;
}

bool mqtt_decode_connect(struct span body, struct mqtt_connect *out, struct mqtt_fault *out_fault)
{
  struct reader reader = {
      .at = body.at, .end = body.size > 0 ? body.at + body.size : body.at, .fault = out_fault, .version = MQTT_3_1_1};
  memset(out, 0, sizeof *out);
  uint8_t flags;
  if (!take_version(&reader, out)) return false;
  if (!read_u8(&reader, &flags)) return refuse_cut_off(&reader, "CONNECT is cut off");
  if (!check_flags(&reader, flags)) return false;
  out->clean_start = flags & FLAG_CLEAN_START;
  if (!read_u16(&reader, &out->keep_alive_s)) return refuse_cut_off(&reader, "CONNECT is cut off");
  if (!take_connect_properties(&reader, &out->properties)) return false;
  if (!take_client_id(&reader, out)) return false;
  if (!take_will(&reader, flags, &out->will)) return false;
  if (!take_credentials(&reader, flags, out)) return false;
  return mqtt_take_end(&reader);
}
