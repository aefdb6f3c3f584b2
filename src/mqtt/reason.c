// Reason codes: their names, which packets may carry them, and their counterparts before 5.0.
#include "mqtt/reason.h"

#include "mqtt/internal.h"

#define BIT(type) (1u << MQTT_##type)
#define BIT_ACKS (BIT(PUBACK) | BIT(PUBREC))
#define BIT_RELEASES (BIT(PUBREL) | BIT(PUBCOMP))

// A row per code of section 2.4: in which packets a client and a server may send it.
static const struct reason_row {
  const char *name;
  uint16_t from_client;
  uint16_t from_server;
} rows[] = {
    [0x00] = {"success", BIT_ACKS | BIT_RELEASES | BIT(DISCONNECT),
              BIT_ACKS | BIT_RELEASES | BIT(DISCONNECT) | BIT(CONNACK) | BIT(SUBACK) | BIT(UNSUBACK) | BIT(AUTH)},
    [0x01] = {"granted QoS 1", 0, BIT(SUBACK)},
    [0x02] = {"granted QoS 2", 0, BIT(SUBACK)},
    [0x04] = {"disconnect with will message", BIT(DISCONNECT), 0},
    [0x10] = {"no matching subscribers", 0, BIT_ACKS},
    [0x11] = {"no subscription existed", 0, BIT(UNSUBACK)},
    [0x18] = {"continue authentication", BIT(AUTH), BIT(AUTH)},
    [0x19] = {"re-authenticate", BIT(AUTH), 0},
    [0x80] = {"unspecified error", BIT_ACKS | BIT(DISCONNECT),
              BIT_ACKS | BIT(DISCONNECT) | BIT(CONNACK) | BIT(SUBACK) | BIT(UNSUBACK)},
    [0x81] = {"malformed packet", BIT(DISCONNECT), BIT(DISCONNECT) | BIT(CONNACK)},
    [0x82] = {"protocol error", BIT(DISCONNECT), BIT(DISCONNECT) | BIT(CONNACK)},
    [0x83] = {"implementation specific error", BIT_ACKS | BIT(DISCONNECT),
              BIT_ACKS | BIT(DISCONNECT) | BIT(CONNACK) | BIT(SUBACK) | BIT(UNSUBACK)},
    [0x84] = {"unsupported protocol version", 0, BIT(CONNACK)},
    [0x85] = {"client identifier not valid", 0, BIT(CONNACK)},
    [0x86] = {"bad user name or password", 0, BIT(CONNACK)},
    [0x87] = {"not authorized", BIT_ACKS, BIT_ACKS | BIT(CONNACK) | BIT(DISCONNECT) | BIT(SUBACK) | BIT(UNSUBACK)},
    [0x88] = {"server unavailable", 0, BIT(CONNACK)},
    [0x89] = {"server busy", 0, BIT(CONNACK) | BIT(DISCONNECT)},
    [0x8A] = {"banned", 0, BIT(CONNACK)},
    [0x8B] = {"server shutting down", 0, BIT(DISCONNECT)},
    [0x8C] = {"bad authentication method", 0, BIT(CONNACK) | BIT(DISCONNECT)},
    [0x8D] = {"keep alive timeout", 0, BIT(DISCONNECT)},
    [0x8E] = {"session taken over", 0, BIT(DISCONNECT)},
    [0x8F] = {"topic filter invalid", 0, BIT(DISCONNECT) | BIT(SUBACK) | BIT(UNSUBACK)},
    [0x90] = {"topic name invalid", BIT_ACKS | BIT(DISCONNECT), BIT_ACKS | BIT(DISCONNECT) | BIT(CONNACK)},
    [0x91] = {"packet identifier in use", BIT_ACKS, BIT_ACKS | BIT(SUBACK) | BIT(UNSUBACK)},
    [0x92] = {"packet identifier not found", BIT_RELEASES, BIT_RELEASES},
    [0x93] = {"receive maximum exceeded", BIT(DISCONNECT), BIT(DISCONNECT)},
    [0x94] = {"topic alias invalid", BIT(DISCONNECT), BIT(DISCONNECT)},
    [0x95] = {"packet too large", BIT(DISCONNECT), BIT(DISCONNECT) | BIT(CONNACK)},
    [0x96] = {"message rate too high", BIT(DISCONNECT), BIT(DISCONNECT)},
    [0x97] = {"quota exceeded", BIT_ACKS | BIT(DISCONNECT), BIT_ACKS | BIT(DISCONNECT) | BIT(CONNACK) | BIT(SUBACK)},
    [0x98] = {"administrative action", BIT(DISCONNECT), BIT(DISCONNECT)},
    [0x99] = {"payload format invalid", BIT_ACKS | BIT(DISCONNECT), BIT_ACKS | BIT(DISCONNECT) | BIT(CONNACK)},
    [0x9A] = {"retain not supported", 0, BIT(DISCONNECT) | BIT(CONNACK)},
    [0x9B] = {"QoS not supported", 0, BIT(DISCONNECT) | BIT(CONNACK)},
    [0x9C] = {"use another server", 0, BIT(DISCONNECT) | BIT(CONNACK)},
    [0x9D] = {"server moved", 0, BIT(DISCONNECT) | BIT(CONNACK)},
    [0x9E] = {"shared subscriptions not supported", 0, BIT(DISCONNECT) | BIT(SUBACK)},
    [0x9F] = {"connection rate exceeded", 0, BIT(DISCONNECT) | BIT(CONNACK)},
    [0xA0] = {"maximum connect time", 0, BIT(DISCONNECT)},
    [0xA1] = {"subscription identifiers not supported", 0, BIT(DISCONNECT) | BIT(SUBACK)},
    [0xA2] = {"wildcard subscriptions not supported", 0, BIT(DISCONNECT) | BIT(SUBACK)},
};

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

const char *mqtt_reason_name(enum mqtt_reason reason)
{
  unsigned code = (unsigned)reason;
  return code < ROW_COUNT && rows[code].name ? rows[code].name : "unknown reason";
}

bool mqtt_reason_allowed(uint8_t code, enum mqtt_packet_type type, enum mqtt_sender sender)
{
  if (code >= ROW_COUNT) return false;
  unsigned packets = sender == MQTT_FROM_CLIENT ? rows[code].from_client : rows[code].from_server;
  return (packets >> (unsigned)type) & 1;
}

// 3.1.1 table 3.1.
enum return_code {
  RETURN_ACCEPTED = 0,
  RETURN_UNACCEPTABLE_VERSION = 1,
  RETURN_IDENTIFIER_REJECTED = 2,
  RETURN_SERVER_UNAVAILABLE = 3,
  RETURN_BAD_USER_NAME_OR_PASSWORD = 4,
  RETURN_NOT_AUTHORIZED = 5,
};

uint8_t mqtt_reason_to_return_code(enum mqtt_reason reason)
{
  switch ((unsigned)reason) {
    case MQTT_SUCCESS: return RETURN_ACCEPTED;
    case MQTT_UNSUPPORTED_PROTOCOL_VERSION: return RETURN_UNACCEPTABLE_VERSION;
    case MQTT_CLIENT_IDENTIFIER_NOT_VALID: return RETURN_IDENTIFIER_REJECTED;
    case MQTT_BAD_USER_NAME_OR_PASSWORD: return RETURN_BAD_USER_NAME_OR_PASSWORD;
    case MQTT_NOT_AUTHORIZED:
    case MQTT_BANNED:
    case MQTT_BAD_AUTHENTICATION_METHOD:
    case MQTT_TOPIC_NAME_INVALID:
    case MQTT_RETAIN_NOT_SUPPORTED:
    case MQTT_QOS_NOT_SUPPORTED: return RETURN_NOT_AUTHORIZED;
    default: return RETURN_SERVER_UNAVAILABLE;
  }
}

enum mqtt_reason mqtt_reason_from_return_code(uint8_t return_code)
{
  switch (return_code) {
    case RETURN_ACCEPTED: return MQTT_SUCCESS;
    case RETURN_UNACCEPTABLE_VERSION: return MQTT_UNSUPPORTED_PROTOCOL_VERSION;
    case RETURN_IDENTIFIER_REJECTED: return MQTT_CLIENT_IDENTIFIER_NOT_VALID;
    case RETURN_SERVER_UNAVAILABLE: return MQTT_SERVER_UNAVAILABLE;
    case RETURN_BAD_USER_NAME_OR_PASSWORD: return MQTT_BAD_USER_NAME_OR_PASSWORD;
    case RETURN_NOT_AUTHORIZED: return MQTT_NOT_AUTHORIZED;
    default: return MQTT_UNSPECIFIED_ERROR;
  }
}
