// MQTT 5.0 properties from words. See properties.h.
#include "cli/properties.h"

#include "base/nearest.h"
#include "cli/options.h"
#include "mqtt/topic.h"

#include <assert.h>
#include <string.h>

enum {
  AT_CONNECT = 1 << PROPERTY_CONNECT,
  AT_WILL = 1 << PROPERTY_WILL,
  AT_PUBLISH = 1 << PROPERTY_PUBLISH,
  AT_SUBSCRIBE = 1 << PROPERTY_SUBSCRIBE,
  AT_UNSUBSCRIBE = 1 << PROPERTY_UNSUBSCRIBE,
  AT_DISCONNECT = 1 << PROPERTY_DISCONNECT
};

enum { SUBSCRIPTION_ID_MAX = 268435455 };  // MQTT 5.0 section 3.8.2.1.2

enum property_form { FORM_BYTE, FORM_TWO, FORM_FOUR, FORM_TEXT, FORM_BINARY, FORM_USER };

struct property_row {
  const char *name;
  enum mqtt_property id;
  unsigned packets;  // AT_...
  enum property_form form;
  uint32_t minimum;
  uint32_t maximum;
  size_t offset;  // in struct mqtt_properties
};

#define FIELD(name) offsetof(struct mqtt_properties, name)

// MQTT 5.0 section 2.2.2.2, table 2-4, without what only a server sends. authentication-* wait for the methods.
static const struct property_row rows[] = {
    {"payload-format-indicator", MQTT_PROPERTY_PAYLOAD_FORMAT, AT_PUBLISH | AT_WILL, FORM_BYTE, 0, 1, FIELD(payload_format)},
    {"message-expiry-interval", MQTT_PROPERTY_MESSAGE_EXPIRY, AT_PUBLISH | AT_WILL, FORM_FOUR, 0, UINT32_MAX,
     FIELD(message_expiry_s)},
    {"content-type", MQTT_PROPERTY_CONTENT_TYPE, AT_PUBLISH | AT_WILL, FORM_TEXT, 0, 0, FIELD(content_type)},
    {"response-topic", MQTT_PROPERTY_RESPONSE_TOPIC, AT_PUBLISH | AT_WILL, FORM_TEXT, 0, 0, FIELD(response_topic)},
    {"correlation-data", MQTT_PROPERTY_CORRELATION_DATA, AT_PUBLISH | AT_WILL, FORM_BINARY, 0, 0, FIELD(correlation_data)},
    {"topic-alias", MQTT_PROPERTY_TOPIC_ALIAS, AT_PUBLISH, FORM_TWO, 1, UINT16_MAX, FIELD(topic_alias)},
    {"will-delay-interval", MQTT_PROPERTY_WILL_DELAY, AT_WILL, FORM_FOUR, 0, UINT32_MAX, FIELD(will_delay_s)},
    {"session-expiry-interval", MQTT_PROPERTY_SESSION_EXPIRY, AT_CONNECT | AT_DISCONNECT, FORM_FOUR, 0, UINT32_MAX,
     FIELD(session_expiry_s)},
    {"receive-maximum", MQTT_PROPERTY_RECEIVE_MAXIMUM, AT_CONNECT, FORM_TWO, 1, UINT16_MAX, FIELD(receive_maximum)},
    {"maximum-packet-size", MQTT_PROPERTY_MAXIMUM_PACKET_SIZE, AT_CONNECT, FORM_FOUR, 1, UINT32_MAX,
     FIELD(maximum_packet_size)},
    {"topic-alias-maximum", MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM, AT_CONNECT, FORM_TWO, 0, UINT16_MAX,
     FIELD(topic_alias_maximum)},
    {"request-response-information", MQTT_PROPERTY_REQUEST_RESPONSE_INFORMATION, AT_CONNECT, FORM_BYTE, 0, 1,
     FIELD(request_response_information)},
    {"request-problem-information", MQTT_PROPERTY_REQUEST_PROBLEM_INFORMATION, AT_CONNECT, FORM_BYTE, 0, 1,
     FIELD(request_problem_information)},
    {"authentication-method", MQTT_PROPERTY_AUTHENTICATION_METHOD, AT_CONNECT, FORM_TEXT, 0, 0,
     FIELD(authentication_method)},
    {"authentication-data", MQTT_PROPERTY_AUTHENTICATION_DATA, AT_CONNECT, FORM_BINARY, 0, 0, FIELD(authentication_data)},
    {"subscription-identifier", MQTT_PROPERTY_SUBSCRIPTION_ID, AT_SUBSCRIBE, FORM_FOUR, 1, SUBSCRIPTION_ID_MAX,
     FIELD(subscription_id)},
    {"reason-string", MQTT_PROPERTY_REASON_STRING, AT_DISCONNECT, FORM_TEXT, 0, 0, FIELD(reason_string)},
    {"user-property", MQTT_PROPERTY_USER, AT_CONNECT | AT_WILL | AT_PUBLISH | AT_SUBSCRIBE | AT_UNSUBSCRIBE | AT_DISCONNECT,
     FORM_USER, 0, 0, 0},
};

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

static const char *const packet_names[PROPERTY_PACKETS] = {"connect",   "will",        "publish",
                                                           "subscribe", "unsubscribe", "disconnect"};

void property_sets_deinit(struct property_sets *sets)
{
  for (size_t i = 0; i < PROPERTY_PACKETS; i++) buffer_deinit(&sets->packets[i].user);
  *sets = (struct property_sets){0};
}

static const struct property_row *find_row(const char *name)
{
  for (size_t i = 0; i < ROW_COUNT; i++)
    if (strcmp(rows[i].name, name) == 0) return &rows[i];
  return NULL;
}

unsigned property_value_count(const char *name)
{
  return strcmp(name, "user-property") == 0 ? 2 : 1;
}

static enum status find_packet(const char *name, enum property_packet *out, struct error *error)
{
  for (size_t i = 0; i < PROPERTY_PACKETS; i++) {
    if (strcasecmp(packet_names[i], name) != 0) continue;
    *out = (enum property_packet)i;
    return OK;
  }
  return error_set(error, ERR_INVALID,
                   "\"%s\" is no packet that properties can be given for; it can be connect, will, publish, subscribe, "
                   "unsubscribe or disconnect",
                   name);
}

static enum status unknown_property(const char *name, struct error *error)
{
  const char *names[ROW_COUNT];
  for (size_t i = 0; i < ROW_COUNT; i++) names[i] = rows[i].name;
  const char *nearest = nearest_name(name, names, ROW_COUNT);
  if (nearest) return error_set(error, ERR_INVALID, "unknown property \"%s\"; did you mean \"%s\"?", name, nearest);
  return error_set(error, ERR_INVALID, "unknown property \"%s\"", name);
}

static enum status check_text(const char *text, struct error *error)
{
  if (strlen(text) > MQTT_MAX_STRING) return error_set(error, ERR_INVALID, "is longer than 65535 bytes");
  if (!mqtt_utf8_valid(span_text(text))) return error_set(error, ERR_INVALID, "is not valid UTF-8");
  return OK;
}

static enum status add_user(struct property_set *set, const char *name, const char *value, struct error *error)
{
  enum status status = check_text(name, error);
  if (status == OK) status = check_text(value, error);
  if (status != OK) return status;
  size_t size = mqtt_write_user_property(NULL, 0, span_text(name), span_text(value));
  uint8_t *at = buffer_reserve(&set->user, size);
  if (!at) return error_set(error, ERR_NO_MEMORY, "out of memory");
  size_t written = mqtt_write_user_property(at, size, span_text(name), span_text(value));
  assert(written == size);
  buffer_commit(&set->user, written);
  set->properties.user = buffer_peek(&set->user);
  return OK;
}

static enum status set_number(const struct property_row *row, struct property_set *set, const char *text,
                              struct error *error)
{
  uint64_t value = 0;
  enum status status = option_parse_uint(text, row->minimum, row->maximum, &value, error);
  if (status != OK) return status;
  char *field = (char *)&set->properties + row->offset;
  switch (row->form) {
    case FORM_BYTE: *(uint8_t *)field = (uint8_t)value; break;
    case FORM_TWO: *(uint16_t *)(void *)field = (uint16_t)value; break;
    case FORM_FOUR: *(uint32_t *)(void *)field = (uint32_t)value; break;
    case FORM_TEXT:
    case FORM_BINARY:
    case FORM_USER: assert(false && "not a number");
  }
  if (row->id == MQTT_PROPERTY_SUBSCRIPTION_ID) {
    set->subscription_id = (uint32_t)value;
    set->properties.subscription_ids = &set->subscription_id;
    set->properties.subscription_id_count = 1;
  }
  return OK;
}

static enum status set_text(const struct property_row *row, struct property_set *set, const char *text, struct error *error)
{
  if (strlen(text) > MQTT_MAX_STRING) return error_set(error, ERR_INVALID, "is longer than 65535 bytes");
  if (row->form == FORM_TEXT) {
    enum status status = check_text(text, error);
    if (status != OK) return status;
  }
  if (row->id == MQTT_PROPERTY_RESPONSE_TOPIC && !mqtt_topic_valid(span_text(text)))
    return error_set(error, ERR_INVALID, "\"%s\" is not a topic name: it is empty or has a wildcard", text);
  *(struct span *)(void *)((char *)&set->properties + row->offset) = span_text(text);
  return OK;
}

enum status property_add(struct property_sets *sets, const char *packet_name, const char *name, const char *value,
                         const char *second, struct error *error)
{
  enum property_packet packet = PROPERTY_CONNECT;
  enum status status = find_packet(packet_name, &packet, error);
  if (status != OK) return status;
  const struct property_row *row = find_row(name);
  if (!row) return unknown_property(name, error);
  if (!(row->packets & (1U << packet)))
    return error_set(error, ERR_INVALID, "%s is not allowed for %s", name, packet_names[packet]);
  struct property_set *set = &sets->packets[packet];
  uint64_t bit = 1ULL << row->id;
  if (row->form != FORM_USER && (set->properties.present & bit))
    return error_set(error, ERR_INVALID, "%s is given twice for %s", name, packet_names[packet]);

  if (row->form == FORM_USER)
    status = add_user(set, value, second, error);
  else if (row->form == FORM_TEXT || row->form == FORM_BINARY)
    status = set_text(row, set, value, error);
  else
    status = set_number(row, set, value, error);
  if (status != OK) return error_prefix(error, "%s", name);
  set->properties.present |= bit;
  return OK;
}
