// MQTT control packets of versions 3.1, 3.1.1 and 5.0, both directions, decoded in place and encoded into the caller's
// memory.
// Pure: bytes in, structs out. Spans in decoded structs point into the input and live as long as it does.
// Sources: MQTT 5.0 (OASIS, 2019-03-07), MQTT 3.1.1 (OASIS, 2014-10-29), MQTT 3.1 (IBM/Eurotech, 2010).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"
#include "mqtt/reason.h"

enum mqtt_version { MQTT_3_1 = 3, MQTT_3_1_1 = 4, MQTT_5_0 = 5 };

enum mqtt_packet_type {
  MQTT_CONNECT = 1,
  MQTT_CONNACK = 2,
  MQTT_PUBLISH = 3,
  MQTT_PUBACK = 4,
  MQTT_PUBREC = 5,
  MQTT_PUBREL = 6,
  MQTT_PUBCOMP = 7,
  MQTT_SUBSCRIBE = 8,
  MQTT_SUBACK = 9,
  MQTT_UNSUBSCRIBE = 10,
  MQTT_UNSUBACK = 11,
  MQTT_PINGREQ = 12,
  MQTT_PINGRESP = 13,
  MQTT_DISCONNECT = 14,
  MQTT_AUTH = 15,
};

enum {
  MQTT_MAX_REMAINING_LENGTH = 268435455,
  MQTT_MAX_FIXED_HEADER = 5,
  MQTT_MAX_STRING = 65535,
};

// What is wrong with a packet: the reason code to close with (never MQTT_SUCCESS), the normative statement that it breaks
// ("MQTT-3.3.1-4", or NULL where the standard has no number for it) and a sentence for logs and reason strings.
struct mqtt_fault {
  enum mqtt_reason reason;
  const char *statement;
  const char *text;
};

// ---- Fixed header (5.0 section 2.1)

struct mqtt_fixed_header {
  uint8_t first;       // type and flags
  uint8_t size;        // bytes of this header, 2..5
  uint32_t remaining;  // bytes that follow it
};

enum mqtt_header_result { MQTT_HEADER_OK, MQTT_HEADER_INCOMPLETE, MQTT_HEADER_MALFORMED };

// Reads the fixed header at the front of `in`. Malformed: a remaining length of more than four bytes. Inline: hot path.
static inline enum mqtt_header_result mqtt_fixed_header(struct span in, struct mqtt_fixed_header *out_header)
{
  if (in.size < 2) return MQTT_HEADER_INCOMPLETE;
  uint32_t value = 0;
  for (unsigned i = 0; i < 4; i++) {
    if (in.size < i + 2) return MQTT_HEADER_INCOMPLETE;
    uint8_t byte = in.at[i + 1];
    value |= (uint32_t)(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      *out_header = (struct mqtt_fixed_header){.first = in.at[0], .size = (uint8_t)(i + 2), .remaining = value};
      return MQTT_HEADER_OK;
    }
  }
  return MQTT_HEADER_MALFORMED;
}

// Bytes of the fixed header for this remaining length, 2..5.
static inline size_t mqtt_fixed_header_size(size_t remaining)
{
  return remaining < 128 ? 2 : remaining < 16384 ? 3 : remaining < 2097152 ? 4 : 5;
}

// Writes the fixed header and returns its size. `out` has MQTT_MAX_FIXED_HEADER bytes.
static inline size_t mqtt_write_fixed_header(uint8_t *out, uint8_t first, size_t remaining)
{
  size_t n = 0;
  out[n++] = first;
  do {
    uint8_t byte = remaining & 0x7f;
    remaining >>= 7;
    out[n++] = remaining ? byte | 0x80 : byte;
  } while (remaining);
  return n;
}

// ---- Properties (5.0 section 2.2.2)

enum mqtt_property {
  MQTT_PROPERTY_PAYLOAD_FORMAT = 1,
  MQTT_PROPERTY_MESSAGE_EXPIRY = 2,
  MQTT_PROPERTY_CONTENT_TYPE = 3,
  MQTT_PROPERTY_RESPONSE_TOPIC = 8,
  MQTT_PROPERTY_CORRELATION_DATA = 9,
  MQTT_PROPERTY_SUBSCRIPTION_ID = 11,
  MQTT_PROPERTY_SESSION_EXPIRY = 17,
  MQTT_PROPERTY_ASSIGNED_CLIENT_ID = 18,
  MQTT_PROPERTY_SERVER_KEEP_ALIVE = 19,
  MQTT_PROPERTY_AUTHENTICATION_METHOD = 21,
  MQTT_PROPERTY_AUTHENTICATION_DATA = 22,
  MQTT_PROPERTY_REQUEST_PROBLEM_INFORMATION = 23,
  MQTT_PROPERTY_WILL_DELAY = 24,
  MQTT_PROPERTY_REQUEST_RESPONSE_INFORMATION = 25,
  MQTT_PROPERTY_RESPONSE_INFORMATION = 26,
  MQTT_PROPERTY_SERVER_REFERENCE = 28,
  MQTT_PROPERTY_REASON_STRING = 31,
  MQTT_PROPERTY_RECEIVE_MAXIMUM = 33,
  MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM = 34,
  MQTT_PROPERTY_TOPIC_ALIAS = 35,
  MQTT_PROPERTY_MAXIMUM_QOS = 36,
  MQTT_PROPERTY_RETAIN_AVAILABLE = 37,
  MQTT_PROPERTY_USER = 38,
  MQTT_PROPERTY_MAXIMUM_PACKET_SIZE = 39,
  MQTT_PROPERTY_WILDCARD_SUBSCRIPTION_AVAILABLE = 40,
  MQTT_PROPERTY_SUBSCRIPTION_ID_AVAILABLE = 41,
  MQTT_PROPERTY_SHARED_SUBSCRIPTION_AVAILABLE = 42,
};

#define MQTT_HAS(properties, name) (((properties)->present >> MQTT_PROPERTY_##name) & 1)

// Fields are meaningful when their bit in `present` (1 << identifier) is set, and 0 otherwise.
// `raw` holds the validated property bytes of a decoded packet, without their length; user properties and repeated
// subscription identifiers are read from it with the iterators below. When encoding, `raw` is ignored and the
// user properties come from `user` (bytes in wire form: 0x26 key value, repeated; they are copied as they are, last, and
// whatever their bit in `present` says, so the output of mqtt_forward_properties may stand there too), the subscription
// identifiers from `subscription_ids`, or when that is NULL and the bit is set, from `subscription_id`. Properties that the
// packet cannot have are left out. A decoded struct is not for encoding as it is: its `user` may hold other properties in
// between.
struct mqtt_properties {
  uint64_t present;
  struct span raw;
  struct span user;                  // decoded: raw bytes from the first user property on, or empty; use the iterator
  const uint32_t *subscription_ids;  // encoding only
  uint32_t subscription_id_count;    // encoding: how many; decoded: how many are in raw
  uint32_t subscription_id;          // decoded: the first one
  uint32_t message_expiry_s;
  uint32_t session_expiry_s;
  uint32_t will_delay_s;
  uint32_t maximum_packet_size;
  uint16_t server_keep_alive_s;
  uint16_t receive_maximum;
  uint16_t topic_alias_maximum;
  uint16_t topic_alias;
  uint8_t payload_format;
  uint8_t request_problem_information;
  uint8_t request_response_information;
  uint8_t maximum_qos;
  uint8_t retain_available;
  uint8_t wildcard_subscription_available;
  uint8_t subscription_id_available;
  uint8_t shared_subscription_available;
  struct span content_type;
  struct span response_topic;
  struct span correlation_data;
  struct span assigned_client_id;
  struct span authentication_method;
  struct span authentication_data;
  struct span response_information;
  struct span server_reference;
  struct span reason_string;
};

struct mqtt_user_property {
  struct span name;
  struct span value;
};

// Start with *cursor = 0; false at the end. Works on decoded properties only.
bool mqtt_next_user_property(const struct mqtt_properties *properties, size_t *cursor, struct mqtt_user_property *out);
bool mqtt_next_subscription_id(const struct mqtt_properties *properties, size_t *cursor, uint32_t *out_id);

// Writes one user property in wire form to `out` (capacity `size`, NULL to measure) and returns its length, or 0 when it
// does not fit or a string is over 65,535 bytes.
size_t mqtt_write_user_property(uint8_t *out, size_t size, struct span name, struct span value);

// The properties of a PUBLISH that a server forwards unaltered and in order (payload format, content type, response topic,
// correlation data, user properties [MQTT-3.3.2-4, -15, -16, -17, -18, -20]): everything in `raw` (PUBLISH or will
// properties) except topic alias, message expiry, subscription identifiers and will delay. Writes them to `out` and returns
// the length; with `out` NULL only the length, which never exceeds raw.size.
size_t mqtt_forward_properties(struct span raw, uint8_t *out);

// ---- The packets

struct mqtt_will {
  bool present;
  uint8_t qos;
  bool retain;
  struct span topic;
  struct span payload;
  struct mqtt_properties properties;
};

struct mqtt_connect {
  enum mqtt_version version;
  bool clean_start;    // clean session before 5.0
  bool bridge;         // 3.1/3.1.1: the top bit of the protocol level, as bridges of Mosquitto set it
  bool has_user_name;  // whether the field is there; in 3.1 a client may set the flag and leave the field out
  bool has_password;
  uint16_t keep_alive_s;
  struct span client_id;
  struct span user_name;
  struct span password;
  struct mqtt_will will;
  struct mqtt_properties properties;
};

struct mqtt_connack {
  bool session_present;
  enum mqtt_reason reason;  // encoded as a return code before 5.0
  struct mqtt_properties properties;
};

struct mqtt_publish {
  uint8_t qos;
  bool dup;
  bool retain;
  uint16_t packet_id;  // 0 at QoS 0
  struct span topic;   // may be empty in 5.0 when a topic alias is there
  struct span payload;
  struct mqtt_properties properties;
};

// PUBACK, PUBREC, PUBREL, PUBCOMP
struct mqtt_ack {
  uint16_t packet_id;
  enum mqtt_reason reason;
  struct mqtt_properties properties;
};

struct mqtt_subscribe {
  uint16_t packet_id;
  uint32_t count;       // of topic filters, at least 1
  struct span payload;  // read with mqtt_next_subscription
  struct mqtt_properties properties;
};

enum mqtt_retain_handling { MQTT_RETAIN_SEND = 0, MQTT_RETAIN_SEND_IF_NEW = 1, MQTT_RETAIN_DO_NOT_SEND = 2 };

struct mqtt_subscription {
  struct span filter;
  uint8_t qos;
  bool no_local;
  bool retain_as_published;
  enum mqtt_retain_handling retain_handling;
};

struct mqtt_unsubscribe {
  uint16_t packet_id;
  uint32_t count;
  struct span payload;  // read with mqtt_next_filter
  struct mqtt_properties properties;
};

// SUBACK, UNSUBACK. UNSUBACK has no codes before 5.0.
struct mqtt_suback {
  uint16_t packet_id;
  // One byte per topic filter: enum mqtt_reason. Before 5.0: 0, 1, 2, 0x80; when 3.1 or 3.1.1 is encoded any code from 0x80
  // on becomes 0x80.
  struct span codes;
  struct mqtt_properties properties;
};

// DISCONNECT, AUTH
struct mqtt_disconnect {
  enum mqtt_reason reason;
  struct mqtt_properties properties;
};

struct mqtt_packet {
  enum mqtt_packet_type type;
  union {
    struct mqtt_connect connect;
    struct mqtt_connack connack;
    struct mqtt_publish publish;
    struct mqtt_ack ack;
    struct mqtt_subscribe subscribe;
    struct mqtt_suback suback;
    struct mqtt_unsubscribe unsubscribe;
    struct mqtt_disconnect disconnect;  // AUTH too
  };
};

// Who sends the packet that is decoded: what is allowed depends on it (a server never receives SUBACK, a client never
// PINGREQ; a subscription identifier in a PUBLISH from a client is a protocol error [MQTT-3.3.4-6]; ...).
enum mqtt_sender { MQTT_FROM_CLIENT, MQTT_FROM_SERVER };

// Decodes one whole packet: `first` from the fixed header, `body` exactly the remaining length. For CONNECT the version is
// taken from the packet itself and `version` is ignored. On success every rule of the standard that can be judged from the
// packet alone has been checked: flags, lengths, UTF-8 [MQTT-1.5.4-1..3], packet identifiers, property sets and ranges,
// duplicated properties, topic names and filters. Returns false and fills `out_fault` otherwise.
// For a CONNECT, `out->type` and `out->connect.version` are also set when it is refused, so that the CONNACK can be encoded
// in the form that the client understands. An unknown protocol level or name yields MQTT_UNSUPPORTED_PROTOCOL_VERSION with
// `out->connect.version` 0 (send the 3.1.1 return code 1), or 5.0 when the level is above 5 (send the 5.0 form). A fault
// before the version is known: 0, too.
bool mqtt_decode(enum mqtt_version version, enum mqtt_sender sender, uint8_t first, struct span body,
                 struct mqtt_packet *out, struct mqtt_fault *out_fault);

// The hot path of mqtt_decode: PUBLISH only, same checks. Properties are only touched when there are any: with no properties
// `out->properties.present`, `.raw`, `.user`, `.subscription_id_count` are 0 and the rest of the properties is not written
// (mqtt_decode does the same for PUBLISH and the acknowledgements).
bool mqtt_decode_publish(enum mqtt_version version, enum mqtt_sender sender, uint8_t first, struct span body,
                         struct mqtt_publish *out, struct mqtt_fault *out_fault);

// The hot path for PUBACK, PUBREC, PUBREL, PUBCOMP, same rules.
bool mqtt_decode_ack(enum mqtt_version version, uint8_t first, struct span body, struct mqtt_ack *out,
                     struct mqtt_fault *out_fault);

// Walk the payload of a decoded SUBSCRIBE / UNSUBSCRIBE: start with *cursor = 0, false at the end.
// Filters were checked to be well-formed UTF-8 of at least one byte; whether they are valid filters is asked with
// mqtt_filter_parse, because an invalid filter is answered with reason 0x8F and not by closing.
bool mqtt_next_subscription(enum mqtt_version version, const struct mqtt_subscribe *subscribe, size_t *cursor,
                            struct mqtt_subscription *out);
bool mqtt_next_filter(const struct mqtt_unsubscribe *unsubscribe, size_t *cursor, struct span *out);

// Whole size of the packet on the wire, 0 when it cannot be encoded (a string over 65,535 bytes, a remaining length over the
// maximum).
size_t mqtt_encoded_size(enum mqtt_version version, const struct mqtt_packet *packet);

// Encodes the packet into `out` and returns its size, or 0 when `size` is too small or the packet cannot be encoded.
// Properties are left out before 5.0. A CONNECT is encoded in its own version. Shortest forms are used (5.0 section 3.4.2.1:
// no reason code and no properties when success).
size_t mqtt_encode(enum mqtt_version version, const struct mqtt_packet *packet, uint8_t *out, size_t size);

// A name for logs, "PUBLISH". "RESERVED" for 0.
const char *mqtt_packet_name(unsigned type);
