// From bytes to packets: which packets there are, who may send them, and those that are not on the hot path.
#include "mqtt/internal.h"

#include <assert.h>

static const char *const packet_names[] = {
    "RESERVED",  "CONNECT", "CONNACK",     "PUBLISH",  "PUBACK",  "PUBREC",   "PUBREL",     "PUBCOMP",
    "SUBSCRIBE", "SUBACK",  "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
};

const char *mqtt_packet_name(unsigned type)
{
  return type < sizeof packet_names / sizeof packet_names[0] ? packet_names[type] : packet_names[0];
}

#define BIT(type) (1u << MQTT_##type)

static const unsigned from_both = BIT(PUBLISH) | BIT(PUBACK) | BIT(PUBREC) | BIT(PUBREL) | BIT(PUBCOMP);
static const unsigned from_client = BIT(CONNECT) | BIT(SUBSCRIBE) | BIT(UNSUBSCRIBE) | BIT(PINGREQ) | BIT(DISCONNECT);
static const unsigned from_server = BIT(CONNACK) | BIT(SUBACK) | BIT(UNSUBACK) | BIT(PINGRESP);

// Table 2.1: direction of flow.
static bool check_direction(const struct reader *reader, enum mqtt_sender sender, unsigned type)
{
  bool modern = reader->version == MQTT_5_0;
  if (type == 0 || (type == MQTT_AUTH && !modern))
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "the packet type is reserved");
  unsigned allowed = from_both | (modern ? BIT(AUTH) | BIT(DISCONNECT) : 0);
  allowed |= sender == MQTT_FROM_CLIENT ? from_client : from_server;
  if ((allowed >> type) & 1) return true;
  return reader_refuse(reader, MQTT_PROTOCOL_ERROR, NO_STATEMENT,
                       sender == MQTT_FROM_CLIENT ? "a client never sends this packet" : "a server never sends this packet");
}

static struct statement flags_statement(unsigned type)
{
  switch (type) {
    case MQTT_SUBSCRIBE: return STATEMENT("MQTT-3.8.1-1", "MQTT-3.8.1-1");
    case MQTT_UNSUBSCRIBE: return STATEMENT("MQTT-3.10.1-1", "MQTT-3.10.1-1");
    case MQTT_DISCONNECT: return STATEMENT("MQTT-3.14.1-1", "MQTT-3.14.1-1");
    case MQTT_AUTH: return STATEMENT("MQTT-3.15.1-1", NULL);
    default: return STATEMENT("MQTT-2.1.3-1", "MQTT-2.2.2-1");
  }
}

// Table 2.2. In 3.1 SUBSCRIBE and UNSUBSCRIBE go at QoS 1 and may be sent again with DUP; other flags are "not used".
static bool check_flags(const struct reader *reader, unsigned type, unsigned flags)
{
  unsigned wanted = type == MQTT_SUBSCRIBE || type == MQTT_UNSUBSCRIBE ? 0x02 : 0x00;
  unsigned looked_at = 0x0f;
  if (reader->version == MQTT_3_1) looked_at = wanted ? 0x06 : 0x00;
  if ((flags & looked_at) == wanted) return true;
  return reader_refuse(reader, MQTT_MALFORMED_PACKET, flags_statement(type),
                       "reserved flags of the fixed header are not as listed");
}

static bool decode_connack(struct reader *reader, struct mqtt_connack *out)
{
  uint8_t flags;
  uint8_t code;
  if (!read_u8(reader, &flags) || !read_u8(reader, &code))
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "CONNACK is cut off");
  bool modern = reader->version == MQTT_5_0;
  if (reader->version == MQTT_3_1) flags = 0;  // unused there
  if (flags > 1)
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.2.2-1", "MQTT-2.2.2-1"),
                         "reserved acknowledge flags are set");
  if (modern ? !mqtt_reason_allowed(code, MQTT_CONNACK, MQTT_FROM_SERVER) : code > 5)
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.2.2-8", "MQTT-3.2.2-6"),
                         "CONNACK cannot have this code");
  if (flags && code != 0)
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.2.2-6", "MQTT-3.2.2-4"),
                         "session present in a CONNACK that refuses");
  out->session_present = flags;
  out->reason = modern ? (enum mqtt_reason)code : mqtt_reason_from_return_code(code);
  return mqtt_take_properties(reader, MQTT_CONNACK, &out->properties) && mqtt_take_end(reader);
}

// ---- SUBSCRIBE and UNSUBSCRIBE

static const struct text_words words_filter = TEXT_WORDS("topic filter");

static bool take_filter(struct reader *reader, struct span *out)
{
  if (!mqtt_take_text(reader, &words_filter, out)) return false;
  if (out->size == 0)
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-4.7.3-1", "MQTT-4.7.3-1"), "topic filter is empty");
  return true;
}

enum {
  OPTION_QOS = 0x03,
  OPTION_NO_LOCAL = 0x04,
  OPTION_RETAIN_AS_PUBLISHED = 0x08,
  OPTION_RETAIN_HANDLING = 0x30,
  OPTION_RESERVED = 0xc0,
  OPTION_RESERVED_3_1_1 = 0xfc,
};

static bool is_shared(struct span filter)
{
  struct span prefix = span_text("$share/");
  return filter.size >= prefix.size && span_equal(span_of(filter.at, prefix.size), prefix);
}

// 3.1 does not say what the upper bits must be.
static bool check_options(const struct reader *reader, struct span filter, uint8_t options)
{
  bool modern = reader->version == MQTT_5_0;
  unsigned reserved = modern ? OPTION_RESERVED : reader->version == MQTT_3_1_1 ? OPTION_RESERVED_3_1_1 : 0;
  // The hyphen in 3.1.1's number is the standard's own.
  if (options & reserved)
    return reader_refuse(reader, MQTT_MALFORMED_PACKET, STATEMENT("MQTT-3.8.3-5", "MQTT-3-8.3-4"),
                         "reserved bits of the subscription options are set");
  if ((options & OPTION_QOS) == 3)
    return reader_refuse(reader, modern ? MQTT_PROTOCOL_ERROR : MQTT_MALFORMED_PACKET, STATEMENT(NULL, "MQTT-3-8.3-4"),
                         "the requested QoS is 3");
  if (!modern) return true;
  if ((options & OPTION_RETAIN_HANDLING) == OPTION_RETAIN_HANDLING)
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, NO_STATEMENT, "retain handling is 3");
  if ((options & OPTION_NO_LOCAL) && is_shared(filter))
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.8.3-4", NULL), "no local on a shared subscription");
  return true;
}

static bool decode_subscribe(struct reader *reader, struct mqtt_subscribe *out)
{
  if (!mqtt_take_packet_id(reader, STATEMENT("MQTT-2.2.1-3", "MQTT-2.3.1-1"), &out->packet_id)) return false;
  if (!mqtt_take_properties(reader, MQTT_SUBSCRIBE, &out->properties)) return false;
  out->payload = span_of(reader->at, reader_left(reader));
  out->count = 0;
  while (reader_left(reader) > 0) {
    struct span filter;
    uint8_t options;
    if (!take_filter(reader, &filter)) return false;
    if (!read_u8(reader, &options))
      return reader_refuse(reader, MQTT_MALFORMED_PACKET, NO_STATEMENT, "subscription options are cut off");
    if (!check_options(reader, filter, options)) return false;
    out->count++;
  }
  if (out->count > 0) return true;
  return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.8.3-2", "MQTT-3.8.3-3"),
                       "SUBSCRIBE names no topic filter");
}

static bool decode_unsubscribe(struct reader *reader, struct mqtt_unsubscribe *out)
{
  if (!mqtt_take_packet_id(reader, STATEMENT("MQTT-2.2.1-3", "MQTT-2.3.1-1"), &out->packet_id)) return false;
  if (!mqtt_take_properties(reader, MQTT_UNSUBSCRIBE, &out->properties)) return false;
  out->payload = span_of(reader->at, reader_left(reader));
  out->count = 0;
  while (reader_left(reader) > 0) {
    struct span filter;
    if (!take_filter(reader, &filter)) return false;
    out->count++;
  }
  if (out->count > 0) return true;
  return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.10.3-2", "MQTT-3.10.3-2"),
                       "UNSUBSCRIBE names no topic filter");
}

// A filter of a payload that was checked: nothing can be missing.
static struct span next_checked_filter(struct span payload, size_t *cursor)
{
  struct span rest = span_from(payload, *cursor);
  assert(rest.size >= 2);
  size_t size = (size_t)(rest.at[0] << 8 | rest.at[1]);
  assert(rest.size - 2 >= size);
  *cursor += 2 + size;
  return span_of(rest.at + 2, size);
}

bool mqtt_next_subscription(enum mqtt_version version, const struct mqtt_subscribe *subscribe, size_t *cursor,
                            struct mqtt_subscription *out)
{
  if (*cursor >= subscribe->payload.size) return false;
  *out = (struct mqtt_subscription){.filter = next_checked_filter(subscribe->payload, cursor)};
  assert(*cursor < subscribe->payload.size);
  uint8_t options = subscribe->payload.at[(*cursor)++];
  out->qos = options & OPTION_QOS;
  if (version != MQTT_5_0) return true;
  out->no_local = options & OPTION_NO_LOCAL;
  out->retain_as_published = options & OPTION_RETAIN_AS_PUBLISHED;
  out->retain_handling = (enum mqtt_retain_handling)((options & OPTION_RETAIN_HANDLING) >> 4);
  return true;
}

bool mqtt_next_filter(const struct mqtt_unsubscribe *unsubscribe, size_t *cursor, struct span *out)
{
  if (*cursor >= unsubscribe->payload.size) return false;
  *out = next_checked_filter(unsubscribe->payload, cursor);
  return true;
}

// ---- Their answers

static bool suback_code_allowed(enum mqtt_version version, unsigned type, uint8_t code)
{
  if (version == MQTT_5_0) return mqtt_reason_allowed(code, (enum mqtt_packet_type)type, MQTT_FROM_SERVER);
  // 3.1 has no failure code, but servers that speak 3.1.1 too use theirs.
  return code <= 2 || code == MQTT_UNSPECIFIED_ERROR;
}

static bool decode_suback(struct reader *reader, unsigned type, struct mqtt_suback *out)
{
  if (!mqtt_take_packet_id(reader, STATEMENT("MQTT-2.2.1-6", "MQTT-2.3.1-7"), &out->packet_id)) return false;
  if (!mqtt_take_properties(reader, type, &out->properties)) return false;
  out->codes = span_of(reader->at, reader_left(reader));
  if (type == MQTT_UNSUBACK && reader->version != MQTT_5_0) return mqtt_take_end(reader);
  for (size_t i = 0; i < out->codes.size; i++)
    if (!suback_code_allowed(reader->version, type, out->codes.at[i]))
      return reader_refuse(reader, MQTT_PROTOCOL_ERROR,
                           type == MQTT_SUBACK ? STATEMENT("MQTT-3.9.3-2", "MQTT-3.9.3-2")
                                               : STATEMENT("MQTT-3.11.3-2", NULL),
                           "this acknowledgement cannot have this code");
  if (out->codes.size > 0) return true;
  return reader_refuse(reader, MQTT_PROTOCOL_ERROR,
                       type == MQTT_SUBACK ? STATEMENT("MQTT-3.8.4-6", "MQTT-3.8.4-5") : STATEMENT("MQTT-3.11.3-2", NULL),
                       "an acknowledgement without codes");
}

// ---- DISCONNECT and AUTH

static bool decode_disconnect(struct reader *reader, enum mqtt_sender sender, struct mqtt_disconnect *out)
{
  uint8_t code = MQTT_SUCCESS;
  memset(&out->properties, 0, sizeof out->properties);
  if (reader->version == MQTT_5_0) {
    if (read_u8(reader, &code) && !mqtt_reason_allowed(code, MQTT_DISCONNECT, sender))
      return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.14.2-1", NULL),
                           "DISCONNECT cannot have this reason code");
    if (reader_left(reader) > 0 && !mqtt_take_properties(reader, MQTT_DISCONNECT, &out->properties)) return false;
    if (sender == MQTT_FROM_SERVER && MQTT_HAS(&out->properties, SESSION_EXPIRY))
      return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.14.2-2", NULL),
                           "a server's DISCONNECT has a session expiry interval");
  }
  out->reason = (enum mqtt_reason)code;
  return mqtt_take_end(reader);
}

// Without anything it means success (5.0 section 3.15.2.1), which only servers say; otherwise the method must be there.
static bool decode_auth(struct reader *reader, enum mqtt_sender sender, struct mqtt_disconnect *out)
{
  uint8_t code = MQTT_SUCCESS;
  bool whole = read_u8(reader, &code);
  if (!mqtt_reason_allowed(code, MQTT_AUTH, sender))
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, STATEMENT("MQTT-3.15.2-1", NULL), "AUTH cannot have this reason code");
  out->reason = (enum mqtt_reason)code;
  if (!whole) {
    memset(&out->properties, 0, sizeof out->properties);
    return true;
  }
  if (!mqtt_take_properties(reader, MQTT_AUTH, &out->properties)) return false;
  if (!MQTT_HAS(&out->properties, AUTHENTICATION_METHOD))
    return reader_refuse(reader, MQTT_PROTOCOL_ERROR, NO_STATEMENT, "AUTH without an authentication method");
  return mqtt_take_end(reader);
}

// ---- All

static bool decode_other(struct reader *reader, enum mqtt_sender sender, struct mqtt_packet *out)
{
  switch (out->type) {
    case MQTT_CONNACK: return decode_connack(reader, &out->connack);
    case MQTT_SUBSCRIBE: return decode_subscribe(reader, &out->subscribe);
    case MQTT_UNSUBSCRIBE: return decode_unsubscribe(reader, &out->unsubscribe);
    case MQTT_SUBACK:
    case MQTT_UNSUBACK: return decode_suback(reader, out->type, &out->suback);
    case MQTT_DISCONNECT: return decode_disconnect(reader, sender, &out->disconnect);
    case MQTT_AUTH: return decode_auth(reader, sender, &out->disconnect);
    case MQTT_PINGREQ:
    case MQTT_PINGRESP: return mqtt_take_end(reader);
    case MQTT_CONNECT:
    case MQTT_PUBLISH:
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: break;
  }
  assert(false);  // decoded elsewhere
  return false;
}

bool mqtt_decode(enum mqtt_version version, enum mqtt_sender sender, uint8_t first, struct span body,
                 struct mqtt_packet *out, struct mqtt_fault *out_fault)
{
  unsigned type = first >> 4;
  struct reader reader = {
      .at = body.at, .end = body.size > 0 ? body.at + body.size : body.at, .fault = out_fault, .version = version};
  out->type = (enum mqtt_packet_type)type;
  if (type == MQTT_CONNECT) {
    out->connect.version = (enum mqtt_version)0;
    reader.version = MQTT_5_0;
  }
  if (!check_direction(&reader, sender, type)) return false;
  if (type == MQTT_PUBLISH) return mqtt_decode_publish(version, sender, first, body, &out->publish, out_fault);
  if (type >= MQTT_PUBACK && type <= MQTT_PUBCOMP) return mqtt_decode_ack(version, first, body, &out->ack, out_fault);
  if (!check_flags(&reader, type, first & 0x0f)) return false;
  if (type == MQTT_CONNECT) return mqtt_decode_connect(body, &out->connect, out_fault);
  return decode_other(&reader, sender, out);
}
