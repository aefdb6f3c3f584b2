#include "cli/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/json.h"

// 2026-01-31T12:34:56.007008009+0100
static struct format_time moment(void)
{
  return (struct format_time){
      .local = {.tm_year = 126, .tm_mon = 0, .tm_mday = 31, .tm_hour = 12, .tm_min = 34, .tm_sec = 56, .tm_gmtoff = 3600},
      .unix_s = 1769859296,
      .nanoseconds = 7008009,
  };
}

// A PUBLISH as it comes from a broker: its properties are read from the wire.
struct message {
  uint8_t bytes[512];
  struct mqtt_publish publish;
};

static void make(struct message *message, const struct mqtt_publish *publish)
{
  struct mqtt_packet packet = {.type = MQTT_PUBLISH, .publish = *publish};
  size_t size = mqtt_encode(MQTT_5_0, &packet, message->bytes, sizeof message->bytes);
  assert_true(size > 0);
  struct mqtt_fixed_header header = {0};
  struct mqtt_fault fault;
  assert_int_equal(mqtt_fixed_header(span_of(message->bytes, size), &header), MQTT_HEADER_OK);
  memset(&message->publish, 0xee, sizeof message->publish);  // what the decoder leaves unwritten must not be read
  assert_true(mqtt_decode_publish(MQTT_5_0, MQTT_FROM_SERVER, header.first,
                                  span_of(message->bytes + header.size, header.remaining), &message->publish, &fault));
}

static const struct mqtt_publish plain = {
    .qos = 1, .retain = true, .packet_id = 7, .topic = {(const uint8_t *)"a/b", 3}, .payload = {(const uint8_t *)"hey", 3}};

static void make_full(struct message *message)
{
  uint8_t user[64];
  size_t size = mqtt_write_user_property(user, sizeof user, span_text("k"), span_text("v"));
  size += mqtt_write_user_property(user + size, sizeof user - size, span_text("k"), span_text("w\""));
  static const uint32_t ids[2] = {5, 300};
  struct mqtt_publish publish = plain;
  publish.properties = (struct mqtt_properties){
      .present = 1ULL << MQTT_PROPERTY_CONTENT_TYPE | 1ULL << MQTT_PROPERTY_RESPONSE_TOPIC | 1ULL << MQTT_PROPERTY_USER |
                 1ULL << MQTT_PROPERTY_MESSAGE_EXPIRY | 1ULL << MQTT_PROPERTY_PAYLOAD_FORMAT |
                 1ULL << MQTT_PROPERTY_CORRELATION_DATA | 1ULL << MQTT_PROPERTY_SUBSCRIPTION_ID |
                 1ULL << MQTT_PROPERTY_TOPIC_ALIAS,
      .content_type = span_text("text/plain"),
      .response_topic = span_text("r/t"),
      .correlation_data = span_of("\xff\x01", 2),
      .message_expiry_s = 60,
      .payload_format = 1,
      .topic_alias = 9,
      .user = span_of(user, size),
      .subscription_ids = ids,
      .subscription_id_count = 2,
  };
  make(message, &publish);
}

static void expect_message(const char *format, const struct mqtt_publish *publish, const char *wanted, size_t size)
{
  struct buffer out = {0};
  struct format_time time = moment();
  struct error error = {0};
  if (format_check(format, &error) != OK) fail_msg("%s: %s", format, error.text);
  assert_int_equal(format_message(format, publish, &time, &out), OK);
  struct span got = buffer_peek(&out);
  if (!span_equal(got, span_of(wanted, size))) fail_msg("%s: %.*s", format, (int)got.size, (const char *)got.at);
  buffer_deinit(&out);
}

static void expect(const char *format, const struct mqtt_publish *publish, const char *wanted)
{
  expect_message(format, publish, wanted, strlen(wanted));
}

static void letters(void **state)
{
  (void)state;
  struct message message;
  make(&message, &plain);
  const struct mqtt_publish *p = &message.publish;
  expect("", p, "");
  expect("plain text", p, "plain text");
  expect("%t=%p", p, "a/b=hey");
  expect("%q %r %d %l %m", p, "1 1 0 3 7");
  expect("%x %X", p, "686579 686579");
  expect("100%% %t@@", p, "100% a/b@");
  expect("[%A%C%D%E%F%P%R%S]", p, "[]");
}

static void properties(void **state)
{
  (void)state;
  struct message message;
  make_full(&message);
  const struct mqtt_publish *p = &message.publish;
  expect("%C|%R|%E|%F|%A", p, "text/plain|r/t|60|1|9");
  expect("%P", p, "k:v k:w\"");
  expect("%S", p, "5 300");
  expect_message("%D", p, "\xff\x01", 2);
}

static void widths(void **state)
{
  (void)state;
  struct message message;
  make(&message, &plain);
  const struct mqtt_publish *p = &message.publish;
  expect("[%5t][%-5t][%.2t][%5.2t][%-5.1t]", p, "[  a/b][a/b  ][a/][   a/][a    ]");
  expect("[%05l][%5l][%-5l][%-05l]", p, "[00003][    3][3    ][3    ]");
  expect("[%05t]", p, "[  a/b]");
  expect("[%08x][%-8x]", p, "[00686579][686579  ]");
  expect("[%2t]", p, "[a/b]");
  expect("[%.0p]", p, "[]");
}

// A greatest width does not cut a character in two.
static void cut_between_characters(void **state)
{
  (void)state;
  struct message message;
  struct mqtt_publish publish = plain;
  publish.payload = span_text("\xc3\xa9\xc3\xa9");
  make(&message, &publish);
  expect("%.3p", &message.publish, "\xc3\xa9");
}

static void times(void **state)
{
  (void)state;
  struct message message;
  make(&message, &plain);
  const struct mqtt_publish *p = &message.publish;
  expect("%I", p, "2026-01-31T12:34:56+0100");
  expect("%U", p, "1769859296.007008009");
  expect("@Y-@m-@d @H:@M:@S.@N", p, "2026-01-31 12:34:56.007008009");
}

static void escapes(void **state)
{
  (void)state;
  struct message message;
  make(&message, &plain);
  expect_message("a\\0b\\n\\t\\r\\v\\a\\e\\\\", &message.publish, "a\0b\n\t\r\v\a\033\\", 10);
}

static void wrong_formats(void **state)
{
  (void)state;
  static const char *const wrong[] = {"%", "abc%", "%k", "%5", "%-", "%.3", "%5z", "@", "x\\", "\\q", "%99999999t"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    struct error error = {0};
    if (format_check(wrong[i], &error) != ERR_INVALID) fail_msg("accepted: %s", wrong[i]);
    assert_true(error.text[0] != '\0');
  }
}

static void expect_json(const struct mqtt_publish *publish, bool embed, const char *wanted)
{
  struct buffer out = {0};
  struct format_time time = moment();
  assert_int_equal(format_json(publish, &time, embed, &out), OK);
  assert_true(json_valid(buffer_peek(&out)));
  assert_int_equal(buffer_append(&out, "", 1), OK);
  assert_string_equal((const char *)buffer_peek(&out).at, wanted);
  buffer_deinit(&out);
}

static void json_of_messages(void **state)
{
  (void)state;
  struct message message;
  make(&message, &plain);
  expect_json(&message.publish, false,
              "{\"tst\":\"2026-01-31T12:34:56.007008+0100\",\"topic\":\"a/b\",\"qos\":1,\"retain\":1,\"payloadlen\":3,"
              "\"mid\":7,\"payload\":\"hey\"}");
  struct mqtt_publish publish = {.topic = span_text("t"), .payload = span_text(" {\"x\": [1]} ")};
  make(&message, &publish);
  expect_json(&message.publish, false,
              "{\"tst\":\"2026-01-31T12:34:56.007008+0100\",\"topic\":\"t\",\"qos\":0,\"retain\":0,\"payloadlen\":12,"
              "\"payload\":\" {\\\"x\\\": [1]} \"}");
  expect_json(&message.publish, true,
              "{\"tst\":\"2026-01-31T12:34:56.007008+0100\",\"topic\":\"t\",\"qos\":0,\"retain\":0,\"payloadlen\":12,"
              "\"payload\": {\"x\": [1]} }");
  publish.payload = span_of("\xff\x00", 2);
  make(&message, &publish);
  expect_json(&message.publish, true,
              "{\"tst\":\"2026-01-31T12:34:56.007008+0100\",\"topic\":\"t\",\"qos\":0,\"retain\":0,\"payloadlen\":2,"
              "\"payload_base64\":\"/wA=\"}");
}

static void json_of_properties(void **state)
{
  (void)state;
  struct message message;
  make_full(&message);
  expect_json(&message.publish, false,
              "{\"tst\":\"2026-01-31T12:34:56.007008+0100\",\"topic\":\"a/b\",\"qos\":1,\"retain\":1,\"payloadlen\":3,"
              "\"mid\":7,\"properties\":{\"payload-format-indicator\":1,\"message-expiry-interval\":60,"
              "\"content-type\":\"text/plain\",\"response-topic\":\"r/t\",\"correlation-data_base64\":\"/wE=\","
              "\"topic-alias\":9,\"subscription-identifiers\":[5,300],"
              "\"user-properties\":[[\"k\",\"v\"],[\"k\",\"w\\\"\"]]},\"payload\":\"hey\"}");
  expect("%j", &message.publish,
         "{\"tst\":\"2026-01-31T12:34:56.007008+0100\",\"topic\":\"a/b\",\"qos\":1,\"retain\":1,\"payloadlen\":3,"
         "\"mid\":7,\"properties\":{\"payload-format-indicator\":1,\"message-expiry-interval\":60,"
         "\"content-type\":\"text/plain\",\"response-topic\":\"r/t\",\"correlation-data_base64\":\"/wE=\","
         "\"topic-alias\":9,\"subscription-identifiers\":[5,300],"
         "\"user-properties\":[[\"k\",\"v\"],[\"k\",\"w\\\"\"]]},\"payload\":\"hey\"}");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(letters),
      cmocka_unit_test(properties),
      cmocka_unit_test(widths),
      cmocka_unit_test(times),
      cmocka_unit_test(escapes),
      cmocka_unit_test(wrong_formats),
      cmocka_unit_test(json_of_messages),
      cmocka_unit_test(json_of_properties),
      cmocka_unit_test(cut_between_characters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
