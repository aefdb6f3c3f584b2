#include "bytes.h"

#include "mqtt/internal.h"

static void names(void **state)
{
  (void)state;
  assert_string_equal(mqtt_reason_name(MQTT_SUCCESS), "success");
  assert_string_equal(mqtt_reason_name(MQTT_TOPIC_FILTER_INVALID), "topic filter invalid");
  assert_string_equal(mqtt_reason_name(MQTT_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED), "wildcard subscriptions not supported");
  assert_string_equal(mqtt_reason_name((enum mqtt_reason)0x03), "unknown reason");
  assert_string_equal(mqtt_reason_name((enum mqtt_reason)0xa3), "unknown reason");
  assert_string_equal(mqtt_reason_name((enum mqtt_reason) - 1), "unknown reason");
  unsigned count = 0;
  for (unsigned code = 0; code < 256; code++)
    count += strcmp(mqtt_reason_name((enum mqtt_reason)code), "unknown reason") != 0;
  assert_int_equal(count, 43);  // of section 2.4; codes with several names once
}

// The tables of sections 3.2.2.2 ... 3.15.2.1, written out once more.
static void codes_of_each_packet(void **state)
{
  (void)state;
  static const struct {
    enum mqtt_packet_type type;
    enum mqtt_sender sender;
    const char *codes;
  } cases[] = {
      {MQTT_CONNACK, MQTT_FROM_SERVER, "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f"},
      {MQTT_CONNACK, MQTT_FROM_CLIENT, ""},
      {MQTT_PUBACK, MQTT_FROM_SERVER, "00 10 80 83 87 90 91 97 99"},
      {MQTT_PUBACK, MQTT_FROM_CLIENT, "00 80 83 87 90 91 97 99"},
      {MQTT_PUBREC, MQTT_FROM_SERVER, "00 10 80 83 87 90 91 97 99"},
      {MQTT_PUBREC, MQTT_FROM_CLIENT, "00 80 83 87 90 91 97 99"},
      {MQTT_PUBREL, MQTT_FROM_SERVER, "00 92"},
      {MQTT_PUBREL, MQTT_FROM_CLIENT, "00 92"},
      {MQTT_PUBCOMP, MQTT_FROM_SERVER, "00 92"},
      {MQTT_PUBCOMP, MQTT_FROM_CLIENT, "00 92"},
      {MQTT_SUBACK, MQTT_FROM_SERVER, "00 01 02 80 83 87 8f 91 97 9e a1 a2"},
      {MQTT_SUBACK, MQTT_FROM_CLIENT, ""},
      {MQTT_UNSUBACK, MQTT_FROM_SERVER, "00 11 80 83 87 8f 91"},
      {MQTT_DISCONNECT, MQTT_FROM_CLIENT, "00 04 80 81 82 83 90 93 94 95 96 97 98 99"},
      {MQTT_DISCONNECT, MQTT_FROM_SERVER,
       "00 80 81 82 83 87 89 8b 8c 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2"},
      {MQTT_AUTH, MQTT_FROM_CLIENT, "18 19"},
      {MQTT_AUTH, MQTT_FROM_SERVER, "00 18"},
      {MQTT_PUBLISH, MQTT_FROM_CLIENT, ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t codes[BYTES_MAX];
    size_t count = bytes_parse(cases[i].codes, codes);
    for (unsigned code = 0; code < 256; code++) {
      bool wanted = memchr(codes, (int)code, count) != NULL;
      if (mqtt_reason_allowed((uint8_t)code, cases[i].type, cases[i].sender) != wanted)
        fail_msg("%s %s: %#x", mqtt_packet_name(cases[i].type), cases[i].sender == MQTT_FROM_CLIENT ? "client" : "server",
                 code);
    }
  }
}

static void return_codes(void **state)
{
  (void)state;
  static const struct {
    enum mqtt_reason reason;
    uint8_t code;
  } pairs[] = {
      {MQTT_SUCCESS, 0},
      {MQTT_UNSUPPORTED_PROTOCOL_VERSION, 1},
      {MQTT_CLIENT_IDENTIFIER_NOT_VALID, 2},
      {MQTT_SERVER_UNAVAILABLE, 3},
      {MQTT_BAD_USER_NAME_OR_PASSWORD, 4},
      {MQTT_NOT_AUTHORIZED, 5},
  };
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    assert_int_equal(mqtt_reason_to_return_code(pairs[i].reason), pairs[i].code);
    assert_int_equal(mqtt_reason_from_return_code(pairs[i].code), pairs[i].reason);
  }
  assert_int_equal(mqtt_reason_to_return_code(MQTT_SERVER_BUSY), 3);
  assert_int_equal(mqtt_reason_to_return_code(MQTT_BANNED), 5);
  assert_int_equal(mqtt_reason_from_return_code(6), MQTT_UNSPECIFIED_ERROR);
  // Whatever goes wrong, it never looks like success.
  for (unsigned code = 0x80; code < 256; code++) {
    uint8_t return_code = mqtt_reason_to_return_code((enum mqtt_reason)code);
    assert_true(return_code >= 1);
    assert_true(return_code <= 5);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names),
      cmocka_unit_test(codes_of_each_packet),
      cmocka_unit_test(return_codes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
