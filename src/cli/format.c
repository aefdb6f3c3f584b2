// Formats of printed messages. See format.h.
#include "cli/format.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "cli/json.h"

enum { WIDTH_MAX = 65535, NUMBER_SIZE = 24, TIME_SIZE = 128 };

static const char letters[] = "tpqrlmdxXACDEFPRSIUjJ%";

// What stands between '%' and its letter.
struct field {
  bool left;
  bool zero;
  size_t width;
  size_t maximum;  // SIZE_MAX: none
  char letter;
};

static size_t read_number(const char **at)
{
  size_t value = 0;
  for (; isdigit((unsigned char)**at); (*at)++)
    if (value <= WIDTH_MAX) value = value * 10 + (size_t)(**at - '0');
  return value;
}

// `at` is behind the '%', and afterwards behind the letter (or at the end of the text).
static struct field read_field(const char **at)
{
  struct field field = {.maximum = SIZE_MAX};
  for (; **at == '-' || **at == '0'; (*at)++) {
    if (**at == '-') field.left = true;
    if (**at == '0') field.zero = true;
  }
  field.width = read_number(at);
  if (**at == '.') {
    (*at)++;
    field.maximum = read_number(at);
  }
  field.letter = **at;
  if (field.letter) (*at)++;
  return field;
}

enum status format_check(const char *format, struct error *error)
{
  for (const char *at = format; *at;) {
    char start = *at++;
    if (start == '%') {
      struct field field = read_field(&at);
      if (field.letter == '\0') return error_set(error, ERR_INVALID, "\"%%\" at the end; write \"%%%%\" for a percent sign");
      if (!strchr(letters, field.letter)) return error_set(error, ERR_INVALID, "\"%%%c\" does not exist", field.letter);
      if (field.width > WIDTH_MAX) return error_set(error, ERR_INVALID, "a width of more than %d", WIDTH_MAX);
    } else if (start == '@') {
      if (*at == '\0') return error_set(error, ERR_INVALID, "\"@\" at the end; write \"@@\" for an at sign");
      at++;
    } else if (start == '\\') {
      if (*at == '\0' || !strchr("\\0aenrtv", *at))
        return error_set(error, ERR_INVALID, "\"\\%c\" does not exist; write \"\\\\\" for a backslash", *at ? *at : ' ');
      at++;
    }
  }
  return OK;
}

// ---- Fields

static enum status fill(struct buffer *out, char with, size_t count)
{
  uint8_t *at = count ? buffer_reserve(out, count) : NULL;
  if (count && !at) return ERR_NO_MEMORY;
  if (count) memset(at, with, count);
  buffer_commit(out, count);
  return OK;
}

// `numeric`: may be filled with zeros.
static enum status put_field(struct buffer *out, const struct field *field, struct span text, bool numeric)
{
  if (text.size > field->maximum) text.size = utf8_cut(text, field->maximum);
  size_t missing = text.size < field->width ? field->width - text.size : 0;
  enum status status = OK;
  if (!field->left) status = fill(out, numeric && field->zero ? '0' : ' ', missing);
  if (status == OK) status = buffer_append(out, text.at, text.size);
  if (status == OK && field->left) status = fill(out, ' ', missing);
  return status;
}

static enum status put_number(struct buffer *out, const struct field *field, uint64_t value)
{
  char text[NUMBER_SIZE];
  snprintf(text, sizeof text, "%" PRIu64, value);
  return put_field(out, field, span_text(text), true);
}

// A property that is not there is an empty field.
static enum status put_number_if(struct buffer *out, const struct field *field, bool present, uint64_t value)
{
  return present ? put_number(out, field, value) : put_field(out, field, (struct span){0}, false);
}

static enum status put_hex(struct buffer *out, const struct field *field, struct span bytes)
{
  const char *digits = field->letter == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  size_t missing = bytes.size * 2 < field->width ? field->width - bytes.size * 2 : 0;
  if (!field->left && fill(out, field->zero ? '0' : ' ', missing) != OK) return ERR_NO_MEMORY;
  uint8_t *at = bytes.size ? buffer_reserve(out, bytes.size * 2) : NULL;
  if (bytes.size && !at) return ERR_NO_MEMORY;
  for (size_t i = 0; i < bytes.size; i++) {
    at[2 * i] = (uint8_t)digits[bytes.at[i] >> 4];
    at[2 * i + 1] = (uint8_t)digits[bytes.at[i] & 15];
  }
  buffer_commit(out, bytes.size * 2);
  return field->left ? fill(out, ' ', missing) : OK;
}

static enum status put_user_properties(struct buffer *out, const struct mqtt_properties *properties)
{
  if (!MQTT_HAS(properties, USER)) return OK;
  size_t cursor = 0;
  struct mqtt_user_property user;
  for (bool first = true; mqtt_next_user_property(properties, &cursor, &user); first = false) {
    if (!first && buffer_append(out, " ", 1) != OK) return ERR_NO_MEMORY;
    if (buffer_append(out, user.name.at, user.name.size) != OK || buffer_append(out, ":", 1) != OK ||
        buffer_append(out, user.value.at, user.value.size) != OK)
      return ERR_NO_MEMORY;
  }
  return OK;
}

static enum status put_subscription_ids(struct buffer *out, const struct field *field,
                                        const struct mqtt_properties *properties)
{
  if (!MQTT_HAS(properties, SUBSCRIPTION_ID)) return put_field(out, field, (struct span){0}, false);
  size_t cursor = 0;
  uint32_t id = 0;
  for (bool first = true; mqtt_next_subscription_id(properties, &cursor, &id); first = false) {
    if (!first && buffer_append(out, " ", 1) != OK) return ERR_NO_MEMORY;
    enum status status = put_number(out, field, id);
    if (status != OK) return status;
  }
  return OK;
}

// ---- Time

// With microseconds: 2026-01-31T12:00:00.123456+0100, as mosquitto_sub writes it in JSON; without: 2026-01-31T12:00:00+0100.
static size_t write_iso_time(const struct format_time *time, bool fraction, char out[TIME_SIZE])
{
  size_t size = strftime(out, TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &time->local);
  if (fraction) size += (size_t)snprintf(out + size, TIME_SIZE - size, ".%06u", time->nanoseconds / 1000);
  return size + strftime(out + size, TIME_SIZE - size, "%z", &time->local);
}

static enum status put_time(struct buffer *out, const struct field *field, const struct format_time *time)
{
  char text[TIME_SIZE];
  size_t size = 0;
  if (field->letter == 'I')
    size = write_iso_time(time, false, text);
  else
    size = (size_t)snprintf(text, sizeof text, "%" PRId64 ".%09u", time->unix_s, time->nanoseconds);
  return put_field(out, field, span_of(text, size), false);
}

static enum status put_strftime(struct buffer *out, char letter, const struct format_time *time)
{
  if (letter == '@') return buffer_append(out, "@", 1);
  char text[TIME_SIZE];
  size_t size = 0;
  if (letter == 'N') {
    size = (size_t)snprintf(text, sizeof text, "%09u", time->nanoseconds);
  } else {
    const char format[3] = {'%', letter, '\0'};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size = strftime(text, sizeof text, format, &time->local);
#pragma GCC diagnostic pop
  }
  return buffer_append(out, text, size);
}

// ---- Whole messages

static enum status put_letter(struct buffer *out, const struct field *field, const struct mqtt_publish *publish,
                              const struct format_time *time)
{
  const struct mqtt_properties *properties = &publish->properties;
  switch (field->letter) {
    case '%': return buffer_append(out, "%", 1);
    case 't': return put_field(out, field, publish->topic, false);
    case 'p': return put_field(out, field, publish->payload, false);
    case 'q': return put_number(out, field, publish->qos);
    case 'r': return put_number(out, field, publish->retain);
    case 'd': return put_number(out, field, publish->dup);
    case 'l': return put_number(out, field, publish->payload.size);
    case 'm': return put_number(out, field, publish->packet_id);
    case 'x':
    case 'X': return put_hex(out, field, publish->payload);
    case 'A': return put_number_if(out, field, MQTT_HAS(properties, TOPIC_ALIAS), properties->topic_alias);
    case 'C': return put_field(out, field, properties->content_type, false);
    case 'D': return put_field(out, field, properties->correlation_data, false);
    case 'E': return put_number_if(out, field, MQTT_HAS(properties, MESSAGE_EXPIRY), properties->message_expiry_s);
    case 'F': return put_number_if(out, field, MQTT_HAS(properties, PAYLOAD_FORMAT), properties->payload_format);
    case 'P': return put_user_properties(out, properties);
    case 'R': return put_field(out, field, properties->response_topic, false);
    case 'S': return put_subscription_ids(out, field, properties);
    case 'I':
    case 'U': return put_time(out, field, time);
    case 'j': return format_json(publish, time, false, out);
    case 'J': return format_json(publish, time, true, out);
    default: break;
  }
  assert(false && "format_check lets only known letters through");
  return ERR_INVALID;
}

static enum status put_escape(struct buffer *out, char letter)
{
  static const char names[] = "\\0aenrtv";
  static const char values[] = "\\\0\a\033\n\r\t\v";
  const char *at = letter ? strchr(names, letter) : NULL;
  assert(at);
  return buffer_append(out, &values[at - names], 1);
}

// MQTT leaves the properties unwritten where there are none.
static struct mqtt_publish tidied(const struct mqtt_publish *publish)
{
  struct mqtt_publish copy = *publish;
  if (publish->properties.present == 0) copy.properties = (struct mqtt_properties){0};
  return copy;
}

enum status format_message(const char *format, const struct mqtt_publish *publish, const struct format_time *time,
                           struct buffer *out)
{
  struct mqtt_publish copy = tidied(publish);
  enum status status = OK;
  for (const char *at = format; *at && status == OK;) {
    size_t plain = strcspn(at, "%@\\");
    if (plain > 0) {
      status = buffer_append(out, at, plain);
      at += plain;
      continue;
    }
    char start = *at++;
    if (start == '%') {
      struct field field = read_field(&at);
      status = put_letter(out, &field, &copy, time);
    } else {
      status = start == '@' ? put_strftime(out, *at, time) : put_escape(out, *at);
      at++;
    }
  }
  return status;
}

// ---- JSON

// Text when it is UTF-8, otherwise base64 under the key with "_base64".
static void json_member_bytes(struct json *json, const char *key, const char *base64_key, struct span bytes)
{
  if (utf8_valid(bytes)) {
    json_member_text(json, key, bytes);
    return;
  }
  json_key(json, base64_key);
  json_base64(json, bytes);
}

static void json_user_properties(struct json *json, const struct mqtt_properties *properties)
{
  size_t cursor = 0;
  struct mqtt_user_property user;
  json_key(json, "user-properties");
  json_open_array(json);
  while (mqtt_next_user_property(properties, &cursor, &user)) {
    json_open_array(json);
    json_text(json, user.name);
    json_text(json, user.value);
    json_close_array(json);
  }
  json_close_array(json);
}

static void json_subscription_ids(struct json *json, const struct mqtt_properties *properties)
{
  size_t cursor = 0;
  uint32_t id = 0;
  json_key(json, "subscription-identifiers");
  json_open_array(json);
  while (mqtt_next_subscription_id(properties, &cursor, &id)) json_uint(json, id);
  json_close_array(json);
}

static void json_properties(struct json *json, const struct mqtt_properties *properties)
{
  json_key(json, "properties");
  json_open_object(json);
  if (MQTT_HAS(properties, PAYLOAD_FORMAT)) json_member_uint(json, "payload-format-indicator", properties->payload_format);
  if (MQTT_HAS(properties, MESSAGE_EXPIRY)) json_member_uint(json, "message-expiry-interval", properties->message_expiry_s);
  if (MQTT_HAS(properties, CONTENT_TYPE)) json_member_text(json, "content-type", properties->content_type);
  if (MQTT_HAS(properties, RESPONSE_TOPIC)) json_member_text(json, "response-topic", properties->response_topic);
  if (MQTT_HAS(properties, CORRELATION_DATA))
    json_member_bytes(json, "correlation-data", "correlation-data_base64", properties->correlation_data);
  if (MQTT_HAS(properties, TOPIC_ALIAS)) json_member_uint(json, "topic-alias", properties->topic_alias);
  if (MQTT_HAS(properties, SUBSCRIPTION_ID)) json_subscription_ids(json, properties);
  if (MQTT_HAS(properties, USER)) json_user_properties(json, properties);
  json_close_object(json);
}

enum status format_json(const struct mqtt_publish *publish, const struct format_time *time, bool embed, struct buffer *out)
{
  struct json json;
  char stamp[TIME_SIZE];
  size_t stamp_size = write_iso_time(time, true, stamp);
  json_begin(&json, out);
  json_open_object(&json);
  json_member_text(&json, "tst", span_of(stamp, stamp_size));
  json_member_text(&json, "topic", publish->topic);
  json_member_uint(&json, "qos", publish->qos);
  json_member_uint(&json, "retain", publish->retain);
  json_member_uint(&json, "payloadlen", publish->payload.size);
  if (publish->qos > 0) json_member_uint(&json, "mid", publish->packet_id);
  if (publish->properties.present != 0) json_properties(&json, &publish->properties);
  if (embed && json_valid(publish->payload)) {
    json_key(&json, "payload");
    json_raw(&json, publish->payload);
  } else {
    json_member_bytes(&json, "payload", "payload_base64", publish->payload);
  }
  json_close_object(&json);
  return json.failed ? ERR_NO_MEMORY : OK;
}
