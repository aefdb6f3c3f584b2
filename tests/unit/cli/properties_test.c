#include "cli/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct property_sets sets;

static int tear_down(void **state)
{
  (void)state;
  property_sets_deinit(&sets);
  return 0;
}

static void add(const char *packet, const char *name, const char *value, const char *second)
{
  struct error error = {0};
  if (property_add(&sets, packet, name, value, second, &error) != OK) fail_msg("%s %s: %s", packet, name, error.text);
}

static void refuse(const char *packet, const char *name, const char *value, const char *second, const char *wanted)
{
  struct error error = {0};
  assert_int_equal(property_add(&sets, packet, name, value, second, &error), ERR_INVALID);
  assert_string_equal(error.text, wanted);
}

static void every_form(void **state)
{
  (void)state;
  add("publish", "payload-format-indicator", "1", NULL);
  add("publish", "message-expiry-interval", "4294967295", NULL);
  add("publish", "topic-alias", "65535", NULL);
  add("PUBLISH", "content-type", "text/plain", NULL);
  add("publish", "correlation-data", "\xff", NULL);
  const struct mqtt_properties *properties = &sets.packets[PROPERTY_PUBLISH].properties;
  assert_int_equal(properties->payload_format, 1);
  assert_int_equal(properties->message_expiry_s, 4294967295U);
  assert_int_equal(properties->topic_alias, 65535);
  assert_true(span_equal(properties->content_type, span_text("text/plain")));
  assert_true(span_equal(properties->correlation_data, span_text("\xff")));
  assert_int_equal(properties->present, 1ULL << MQTT_PROPERTY_PAYLOAD_FORMAT | 1ULL << MQTT_PROPERTY_MESSAGE_EXPIRY |
                                            1ULL << MQTT_PROPERTY_TOPIC_ALIAS | 1ULL << MQTT_PROPERTY_CONTENT_TYPE |
                                            1ULL << MQTT_PROPERTY_CORRELATION_DATA);
  assert_int_equal(sets.packets[PROPERTY_CONNECT].properties.present, 0);
}

// What is given comes out on the wire.
static void encoded(void **state)
{
  (void)state;
  add("subscribe", "subscription-identifier", "268435455", NULL);
  add("subscribe", "user-property", "a", "1");
  add("subscribe", "user-property", "a", "2");
  static const uint8_t filter[] = {0, 1, 'x', 0};
  struct mqtt_packet packet = {.type = MQTT_SUBSCRIBE};
  packet.subscribe = (struct mqtt_subscribe){.packet_id = 1,
                                             .count = 1,
                                             .payload = span_of(filter, sizeof filter),
                                             .properties = sets.packets[PROPERTY_SUBSCRIBE].properties};
  uint8_t bytes[128];
  static const uint8_t wanted[] = {0x82, 26, 0,   1,    19, 0x0b, 0xff, 0xff, 0xff, 0x7f, 0x26, 0, 1,   'a',
                                   0,    1,  '1', 0x26, 0,  1,    'a',  0,    1,    '2',  0,    1, 'x', 0};
  size_t size = mqtt_encode(MQTT_5_0, &packet, bytes, sizeof bytes);
  assert_int_equal(size, sizeof wanted);
  assert_memory_equal(bytes, wanted, sizeof wanted);
}

static void value_counts(void **state)
{
  (void)state;
  assert_int_equal(property_value_count("user-property"), 2);
  assert_int_equal(property_value_count("content-type"), 1);
}

static void refusals(void **state)
{
  (void)state;
  refuse("pubblish", "content-type", "x", NULL,
         "\"pubblish\" is no packet that properties can be given for; it can be connect, will, publish, subscribe, "
         "unsubscribe or disconnect");
  refuse("publish", "content-typ", "x", NULL, "unknown property \"content-typ\"; did you mean \"content-type\"?");
  refuse("publish", "zebra", "x", NULL, "unknown property \"zebra\"");
  refuse("subscribe", "content-type", "x", NULL, "content-type is not allowed for subscribe");
  refuse("publish", "will-delay-interval", "1", NULL, "will-delay-interval is not allowed for publish");
  refuse("publish", "topic-alias", "0", NULL, "topic-alias: 0 is out of range; allowed is 1 to 65535");
  refuse("publish", "payload-format-indicator", "2", NULL, "payload-format-indicator: 2 is out of range; allowed is 0 to 1");
  refuse("publish", "message-expiry-interval", "4294967296", NULL,
         "message-expiry-interval: 4294967296 is out of range; allowed is 0 to 4294967295");
  refuse("connect", "receive-maximum", "x", NULL, "receive-maximum: \"x\" is not a whole number");
  refuse("publish", "content-type", "\xff", NULL, "content-type: is not valid UTF-8");
  refuse("publish", "user-property", "a", "\xc0", "user-property: is not valid UTF-8");
  refuse("publish", "response-topic", "a/+", NULL,
         "response-topic: \"a/+\" is not a topic name: it is empty or has a wildcard");
  add("will", "content-type", "x", NULL);
  refuse("will", "content-type", "y", NULL, "content-type is given twice for will");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(every_form, tear_down),
      cmocka_unit_test_teardown(encoded, tear_down),
      cmocka_unit_test_teardown(refusals, tear_down),
      cmocka_unit_test(value_counts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
