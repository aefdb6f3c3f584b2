// The properties of MQTT 5.0 (section 2.2.2): one table says for each identifier its type, where it may appear and where it
// is kept; decoding, encoding, walking and forwarding all go by it.
#include "mqtt/internal.h"

#include <assert.h>

enum property_type {
  PROPERTY_NONE,  // the standard does not have this identifier
  PROPERTY_FLAG,  // a byte, 0 or 1: all byte properties are such
  PROPERTY_U16,
  PROPERTY_U32,
  PROPERTY_VARINT,  // only the subscription identifier
  PROPERTY_TEXT,
  PROPERTY_TOPIC,  // text that is a topic name
  PROPERTY_BINARY,
  PROPERTY_PAIR,  // only the user property
};

#define BIT(type) (1u << MQTT_##type)
#define BIT_WILL (1u << PACKET_WILL)
#define BIT_ANSWERS (BIT(PUBACK) | BIT(PUBREC) | BIT(PUBREL) | BIT(PUBCOMP) | BIT(SUBACK) | BIT(UNSUBACK))
#define BIT_EVERYWHERE                                                                                                      \
  (BIT_ANSWERS | BIT_WILL | BIT(CONNECT) | BIT(CONNACK) | BIT(PUBLISH) | BIT(SUBSCRIBE) | BIT(UNSUBSCRIBE) |                \
   BIT(DISCONNECT) | BIT(AUTH))

static const struct property_kind {
  uint8_t type;      // enum property_type
  bool not_zero;     // 0 is out of range
  uint16_t offset;   // in struct mqtt_properties
  uint32_t packets;  // where it may appear: bits 1 << type
  const char *misplaced;
  const char *repeated;
  const char *out_of_range;
} kinds[] = {
#define KIND(identifier, name, type_, not_zero_, field, packets_)                                                           \
  [MQTT_PROPERTY_##identifier] = {                                                                                          \
      .type = PROPERTY_##type_,                                                                                             \
      .not_zero = (not_zero_),                                                                                              \
      .offset = offsetof(struct mqtt_properties, field),                                                                    \
      .packets = (packets_),                                                                                                \
      .misplaced = name " is not allowed in this packet",                                                                   \
      .repeated = name " appears more than once",                                                                           \
      .out_of_range = name " is out of range",                                                                              \
  }
    KIND(PAYLOAD_FORMAT, "payload format indicator", FLAG, false, payload_format, BIT(PUBLISH) | BIT_WILL),
    KIND(MESSAGE_EXPIRY, "message expiry interval", U32, false, message_expiry_s, BIT(PUBLISH) | BIT_WILL),
    KIND(CONTENT_TYPE, "content type", TEXT, false, content_type, BIT(PUBLISH) | BIT_WILL),
    KIND(RESPONSE_TOPIC, "response topic", TOPIC, false, response_topic, BIT(PUBLISH) | BIT_WILL),
    KIND(CORRELATION_DATA, "correlation data", BINARY, false, correlation_data, BIT(PUBLISH) | BIT_WILL),
    KIND(SUBSCRIPTION_ID, "subscription identifier", VARINT, true, subscription_id, BIT(PUBLISH) | BIT(SUBSCRIBE)),
    KIND(SESSION_EXPIRY, "session expiry interval", U32, false, session_expiry_s,
         BIT(CONNECT) | BIT(CONNACK) | BIT(DISCONNECT)),
    KIND(ASSIGNED_CLIENT_ID, "assigned client identifier", TEXT, false, assigned_client_id, BIT(CONNACK)),
    KIND(SERVER_KEEP_ALIVE, "server keep alive", U16, false, server_keep_alive_s, BIT(CONNACK)),
    KIND(AUTHENTICATION_METHOD, "authentication method", TEXT, false, authentication_method,
         BIT(CONNECT) | BIT(CONNACK) | BIT(AUTH)),
    KIND(AUTHENTICATION_DATA, "authentication data", BINARY, false, authentication_data,
         BIT(CONNECT) | BIT(CONNACK) | BIT(AUTH)),
    KIND(REQUEST_PROBLEM_INFORMATION, "request problem information", FLAG, false, request_problem_information, BIT(CONNECT)),
    KIND(WILL_DELAY, "will delay interval", U32, false, will_delay_s, BIT_WILL),
    KIND(REQUEST_RESPONSE_INFORMATION, "request response information", FLAG, false, request_response_information,
         BIT(CONNECT)),
    KIND(RESPONSE_INFORMATION, "response information", TEXT, false, response_information, BIT(CONNACK)),
    KIND(SERVER_REFERENCE, "server reference", TEXT, false, server_reference, BIT(CONNACK) | BIT(DISCONNECT)),
    KIND(REASON_STRING, "reason string", TEXT, false, reason_string,
         BIT_ANSWERS | BIT(CONNACK) | BIT(DISCONNECT) | BIT(AUTH)),
    KIND(RECEIVE_MAXIMUM, "receive maximum", U16, true, receive_maximum, BIT(CONNECT) | BIT(CONNACK)),
    KIND(TOPIC_ALIAS_MAXIMUM, "topic alias maximum", U16, false, topic_alias_maximum, BIT(CONNECT) | BIT(CONNACK)),
    KIND(TOPIC_ALIAS, "topic alias", U16, true, topic_alias, BIT(PUBLISH)),
    KIND(MAXIMUM_QOS, "maximum QoS", FLAG, false, maximum_qos, BIT(CONNACK)),
    KIND(RETAIN_AVAILABLE, "retain available", FLAG, false, retain_available, BIT(CONNACK)),
    KIND(USER, "user property", PAIR, false, user, BIT_EVERYWHERE),
    KIND(MAXIMUM_PACKET_SIZE, "maximum packet size", U32, true, maximum_packet_size, BIT(CONNECT) | BIT(CONNACK)),
    KIND(WILDCARD_SUBSCRIPTION_AVAILABLE, "wildcard subscription available", FLAG, false, wildcard_subscription_available,
         BIT(CONNACK)),
    KIND(SUBSCRIPTION_ID_AVAILABLE, "subscription identifier available", FLAG, false, subscription_id_available,
         BIT(CONNACK)),
    KIND(SHARED_SUBSCRIPTION_AVAILABLE, "shared subscription available", FLAG, false, shared_subscription_available,
         BIT(CONNACK)),
#undef KIND
};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };
static_assert(KIND_COUNT <= 64, "an identifier is a bit in mqtt_properties.present");

// ---- Decoding

static const struct text_words words_text = TEXT_WORDS("a property");
static const struct text_words words_name = TEXT_WORDS("the name of a user property");
static const struct text_words words_value = TEXT_WORDS("the value of a user property");

static bool refuse_cut_off(const struct reader *reader)
{
  return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "a property is cut off");
}

static bool refuse_range(const struct reader *reader, const struct property_kind *kind, unsigned identifier)
{
  if (identifier == MQTT_PROPERTY_TOPIC_ALIAS)
    return reader_refuse(reader, MQTT_TOPIC_ALIAS_INVALID, STATEMENT("MQTT-3.3.2-8", NULL), "topic alias is 0");
  return reader_refuse(reader, MQTT_PROTOCOL_ERROR, NO_STATEMENT, kind->out_of_range);
}

static bool take_number(struct reader *reader, const struct property_kind *kind, unsigned identifier, void *field)
{
  uint32_t value = 0;
  uint8_t u8 = 0;
  uint16_t u16 = 0;
  bool whole = true;
  if (kind->type == PROPERTY_FLAG) {
    whole = read_u8(reader, &u8);
    value = u8;
  } else if (kind->type == PROPERTY_U16) {
    whole = read_u16(reader, &u16);
    value = u16;
  } else if (kind->type == PROPERTY_U32) {
    whole = read_u32(reader, &value);
  } else if (!mqtt_take_varint(reader, &value)) {
    return false;
  }
  if (!whole) return refuse_cut_off(reader);
  if (kind->not_zero && value == 0) return refuse_range(reader, kind, identifier);
  if (kind->type == PROPERTY_FLAG && value > 1) return refuse_range(reader, kind, identifier);
  if (kind->type == PROPERTY_FLAG) {
    memcpy(field, &u8, sizeof u8);
  } else if (kind->type == PROPERTY_U16) {
    memcpy(field, &u16, sizeof u16);
  } else {
    memcpy(field, &value, sizeof value);
  }
  return true;
}

static bool take_pair(struct reader *reader)
{
  struct span name;
  struct span value;
  if (mqtt_take_text(reader, &words_name, &name) && mqtt_take_text(reader, &words_value, &value)) return true;
  // Ill-formed strings of a pair have a statement of their own.
  if (reader->fault->statement) reader->fault->statement = "MQTT-1.5.7-1";
  return false;
}

static bool take_string(struct reader *reader, const struct property_kind *kind, void *field)
{
  struct span text;
  if (kind->type == PROPERTY_BINARY) {
    if (!read_binary(reader, &text)) return refuse_cut_off(reader);
  } else {
    if (!mqtt_take_text(reader, &words_text, &text)) return false;
  }
  if (kind->type == PROPERTY_TOPIC && text_has_wildcard(text))
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.3.2-14", NULL), "response topic has a wildcard");
  if (kind->type == PROPERTY_TOPIC && text.size == 0)
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-4.7.3-1", NULL), "response topic is empty");
  memcpy(field, &text, sizeof text);
  return true;
}

static bool may_repeat(unsigned identifier, unsigned packet)
{
  return identifier == MQTT_PROPERTY_USER || (identifier == MQTT_PROPERTY_SUBSCRIPTION_ID && packet == MQTT_PUBLISH);
}

static bool take_property(struct reader *reader, unsigned packet, struct mqtt_properties *out)
{
  const uint8_t *start = reader->at;
  uint8_t identifier;
  if (!read_u8(reader, &identifier)) return refuse_cut_off(reader);
  if (identifier >= KIND_COUNT || kinds[identifier].type == PROPERTY_NONE)
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "unknown property");
  const struct property_kind *kind = &kinds[identifier];
  if (!((kind->packets >> packet) & 1)) return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, kind->misplaced);

  uint64_t bit = UINT64_C(1) << identifier;
  bool again = out->present & bit;
  if (again && !may_repeat(identifier, packet))
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, NO_STATEMENT, kind->repeated);
  out->present |= bit;

  if (identifier == MQTT_PROPERTY_USER) {
    if (!again) out->user = span_of(start, reader_left(reader) + 1);
    return take_pair(reader);
  }
  if (identifier == MQTT_PROPERTY_SUBSCRIPTION_ID) {
    uint32_t value;
    if (!take_number(reader, kind, identifier, &value)) return false;
    if (!again) out->subscription_id = value;
    out->subscription_id_count++;
    return true;
  }
  void *field = (char *)out + kind->offset;
  if (kind->type < PROPERTY_TEXT) return take_number(reader, kind, identifier, field);
  return take_string(reader, kind, field);
}

bool mqtt_take_properties(struct reader *reader, unsigned packet, struct mqtt_properties *out)
{
  memset(out, 0, sizeof *out);
  if (reader->version != MQTT_5_0) return true;
  uint32_t size;
  if (!mqtt_take_varint(reader, &size)) return false;
  if (reader_left(reader) < size)
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "the property length exceeds the packet");
  if (size == 0) return true;
  struct reader inside = *reader;
  inside.end = reader->at + size;
  while (inside.at < inside.end)
    if (!take_property(&inside, packet, out)) return false;
  out->raw = span_of(reader->at, size);
  reader->at = inside.end;
  return true;
}

// ---- Walking validated property bytes

static size_t string_size(const uint8_t *at)
{
  return 2 + (size_t)(at[0] << 8 | at[1]);
}

static size_t varint_size(const uint8_t *at)
{
  size_t size = 1;
  while (*at++ & 0x80) size++;
  return size;
}

// Bytes of the property at the front, with its identifier.
static size_t property_size(struct span raw)
{
  assert(raw.size >= 2);
  assert(raw.at[0] < KIND_COUNT);
  const uint8_t *value = raw.at + 1;
  size_t size = 0;
  switch ((enum property_type)kinds[raw.at[0]].type) {
    case PROPERTY_FLAG: size = 1; break;
    case PROPERTY_U16: size = 2; break;
    case PROPERTY_U32: size = 4; break;
    case PROPERTY_VARINT: size = varint_size(value); break;
    case PROPERTY_TEXT:
    case PROPERTY_TOPIC:
    case PROPERTY_BINARY: size = string_size(value); break;
    case PROPERTY_PAIR: {
      size_t name = string_size(value);
      size = name + string_size(value + name);
      break;
    }
    case PROPERTY_NONE: break;
  }
  assert(size > 0);
  assert(size < raw.size);
  return 1 + size;
}

// Moves the cursor behind the next property with this identifier and gives out where that property starts; NULL at the end.
static const uint8_t *next_property(struct span raw, enum mqtt_property identifier, size_t *cursor)
{
  while (*cursor < raw.size) {
    const uint8_t *at = raw.at + *cursor;
    *cursor += property_size(span_from(raw, *cursor));
    if (*at == identifier) return at;
  }
  return NULL;
}

bool mqtt_next_user_property(const struct mqtt_properties *properties, size_t *cursor, struct mqtt_user_property *out)
{
  const uint8_t *at = next_property(properties->user, MQTT_PROPERTY_USER, cursor);
  if (!at) return false;
  const uint8_t *name = at + 1;
  const uint8_t *value = name + string_size(name);
  out->name = span_of(name + 2, string_size(name) - 2);
  out->value = span_of(value + 2, string_size(value) - 2);
  return true;
}

bool mqtt_next_subscription_id(const struct mqtt_properties *properties, size_t *cursor, uint32_t *out_id)
{
  const uint8_t *at = next_property(properties->raw, MQTT_PROPERTY_SUBSCRIPTION_ID, cursor);
  if (!at) return false;
  uint32_t id = 0;
  unsigned shift = 0;
  do {
    at++;
    id |= (uint32_t)(*at & 0x7f) << shift;
    shift += 7;
  } while (*at & 0x80);
  *out_id = id;
  return true;
}

static bool is_forwarded(uint8_t identifier)
{
  return identifier != MQTT_PROPERTY_TOPIC_ALIAS && identifier != MQTT_PROPERTY_MESSAGE_EXPIRY &&
         identifier != MQTT_PROPERTY_SUBSCRIPTION_ID && identifier != MQTT_PROPERTY_WILL_DELAY;
}

size_t mqtt_forward_properties(struct span raw, uint8_t *out)
{
  size_t written = 0;
  size_t cursor = 0;
  while (cursor < raw.size) {
    size_t size = property_size(span_from(raw, cursor));
    if (is_forwarded(raw.at[cursor])) {
      if (out) memcpy(out + written, raw.at + cursor, size);
      written += size;
    }
    cursor += size;
  }
  return written;
}

// ---- Encoding

size_t mqtt_write_user_property(uint8_t *out, size_t size, struct span name, struct span value)
{
  struct writer writer = {.at = NULL};
  put_u8(&writer, MQTT_PROPERTY_USER);
  put_binary(&writer, name);
  put_binary(&writer, value);
  if (writer.failed) return 0;
  if (!out) return writer.size;
  if (writer.size > size) return 0;
  writer = (struct writer){.at = out};
  put_u8(&writer, MQTT_PROPERTY_USER);
  put_binary(&writer, name);
  put_binary(&writer, value);
  return writer.size;
}

// Everything but what can repeat.
static uint64_t single_properties(unsigned packet, uint64_t present)
{
  uint64_t allowed = 0;
  for (unsigned identifier = 0; identifier < KIND_COUNT; identifier++)
    if ((kinds[identifier].packets >> packet) & 1) allowed |= UINT64_C(1) << identifier;
  allowed &= ~(UINT64_C(1) << MQTT_PROPERTY_USER | UINT64_C(1) << MQTT_PROPERTY_SUBSCRIPTION_ID);
  return present & allowed;
}

static void put_single(struct writer *writer, unsigned identifier, const struct mqtt_properties *properties)
{
  const struct property_kind *kind = &kinds[identifier];
  const char *field = (const char *)properties + kind->offset;
  put_u8(writer, (uint8_t)identifier);
  if (kind->type == PROPERTY_FLAG) {
    uint8_t value;
    memcpy(&value, field, sizeof value);
    put_u8(writer, value);
  } else if (kind->type == PROPERTY_U16) {
    uint16_t value;
    memcpy(&value, field, sizeof value);
    put_u16(writer, value);
  } else if (kind->type == PROPERTY_U32) {
    uint32_t value;
    memcpy(&value, field, sizeof value);
    put_u32(writer, value);
  } else {
    struct span value;
    memcpy(&value, field, sizeof value);
    put_binary(writer, value);
  }
}

static void put_subscription_ids(struct writer *writer, const struct mqtt_properties *properties)
{
  if (properties->subscription_ids) {
    for (uint32_t i = 0; i < properties->subscription_id_count; i++) {
      put_u8(writer, MQTT_PROPERTY_SUBSCRIPTION_ID);
      put_varint(writer, properties->subscription_ids[i]);
    }
  } else if (MQTT_HAS(properties, SUBSCRIPTION_ID)) {
    put_u8(writer, MQTT_PROPERTY_SUBSCRIPTION_ID);
    put_varint(writer, properties->subscription_id);
  }
}

static void put_each(struct writer *writer, unsigned packet, const struct mqtt_properties *properties)
{
  for (uint64_t rest = single_properties(packet, properties->present); rest != 0; rest &= rest - 1)
    put_single(writer, (unsigned)__builtin_ctzll(rest), properties);
  if ((kinds[MQTT_PROPERTY_SUBSCRIPTION_ID].packets >> packet) & 1) put_subscription_ids(writer, properties);
  put_bytes(writer, properties->user.at, properties->user.size);
}

bool mqtt_properties_empty(unsigned packet, const struct mqtt_properties *properties)
{
  if (properties->present == 0 && properties->user.size == 0 && properties->subscription_id_count == 0) return true;
  struct writer counter = {.at = NULL};
  put_each(&counter, packet, properties);
  return counter.size == 0 && !counter.failed;
}

void mqtt_put_properties(struct writer *writer, unsigned packet, const struct mqtt_properties *properties)
{
  if (properties->present == 0 && properties->user.size == 0 && properties->subscription_id_count == 0) {
    put_u8(writer, 0);
    return;
  }
  struct writer counter = {.at = NULL};
  put_each(&counter, packet, properties);
  if (counter.failed) {
    writer->failed = true;
    return;
  }
  put_varint(writer, counter.size);
  if (!writer->at) {
    writer->size += counter.size;
    return;
  }
  put_each(writer, packet, properties);
}
