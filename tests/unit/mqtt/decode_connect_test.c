#include "bytes.h"

#define C MQTT_FROM_CLIENT
#define NAME "0004 'MQTT'"
#define NAME_3_1 "0006 'MQIsdp'"
#define V3 NAME_3_1 " 03 "
#define V4 NAME " 04 "
#define V5 NAME " 05 "
#define ALIVE " 003c "
#define ID " 0003 'cli' "

static void versions_are_told_apart(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"3.1", MQTT_3_1, C, "10" V3 "02" ALIVE ID, MQTT_SUCCESS, NULL},
      {"3.1.1", MQTT_3_1_1, C, "10" V4 "02" ALIVE ID, MQTT_SUCCESS, NULL},
      {"5.0", MQTT_5_0, C, "10" V5 "02" ALIVE "00" ID, MQTT_SUCCESS, NULL},
      {"3.1 bridge", MQTT_3_1, C, "10" NAME_3_1 "83 02" ALIVE ID, MQTT_SUCCESS, NULL},
      {"3.1.1 bridge", MQTT_3_1_1, C, "10" NAME "84 02" ALIVE ID, MQTT_SUCCESS, NULL},
      {"5.0 has no bridge bit", MQTT_5_0, C, "10" NAME "85 02" ALIVE "00" ID, MQTT_UNSUPPORTED_PROTOCOL_VERSION,
       "MQTT-3.1.2-2"},
      {"level 6", MQTT_5_0, C, "10" NAME "06 02" ALIVE "00" ID, MQTT_UNSUPPORTED_PROTOCOL_VERSION, "MQTT-3.1.2-2"},
      {"level 3 by its new name", MQTT_3_1, C, "10" NAME "03 02" ALIVE ID, MQTT_UNSUPPORTED_PROTOCOL_VERSION,
       "MQTT-3.1.2-2"},
      {"level 4 by its old name", MQTT_3_1_1, C, "10" NAME_3_1 "04 02" ALIVE ID, MQTT_UNSUPPORTED_PROTOCOL_VERSION,
       "MQTT-3.1.2-2"},
      {"level 0", MQTT_3_1, C, "10" NAME "00 02" ALIVE ID, MQTT_UNSUPPORTED_PROTOCOL_VERSION, "MQTT-3.1.2-2"},
      {"another name", MQTT_3_1_1, C, "10 0004 'MQTX' 04 02" ALIVE ID, MQTT_UNSUPPORTED_PROTOCOL_VERSION, "MQTT-3.1.2-1"},
      {"lower case", MQTT_3_1_1, C, "10 0004 'mqtt' 04 02" ALIVE ID, MQTT_UNSUPPORTED_PROTOCOL_VERSION, "MQTT-3.1.2-1"},
      {"no name", MQTT_3_1_1, C, "10 0000 04 02" ALIVE ID, MQTT_UNSUPPORTED_PROTOCOL_VERSION, "MQTT-3.1.2-1"},
      {"name beyond the packet", MQTT_3_1_1, C, "10 0005 'MQTT'", MQTT_MALFORMED_PACKET, "MQTT-3.1.4-1"},
      {"nothing", MQTT_3_1_1, C, "10", MQTT_MALFORMED_PACKET, "MQTT-3.1.4-1"},
      {"flags of the fixed header", MQTT_3_1_1, C, "11" V4 "02" ALIVE ID, MQTT_MALFORMED_PACKET, "MQTT-2.1.3-1"},
      {"from a server", MQTT_3_1_1, MQTT_FROM_SERVER, "10" V4 "02" ALIVE ID, MQTT_PROTOCOL_ERROR, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void refused_versions_are_known(void **state)
{
  (void)state;
  static const struct {
    const char *bytes;
    unsigned version;
  } cases[] = {
      {NAME "04 03" ALIVE ID, 4},  // the reserved flag
      {V5 "03" ALIVE "00" ID, 5},
      {V5 "02" ALIVE "02 2100" ID, 5},
      {V3 "02" ALIVE "0000", 3},
      {NAME "07 02" ALIVE ID, 5},
      {NAME "ff 02" ALIVE ID, 5},
      {NAME "03 02" ALIVE ID, 0},
      {NAME_3_1 "05 02" ALIVE ID, 0},
      {"0003 'abc' 05 02" ALIVE ID, 0},
      {"0004 'MQ'", 0},
      {"", 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t bytes[BYTES_MAX];
    size_t size = bytes_parse(cases[i].bytes, bytes);
    struct mqtt_packet packet;
    memset(&packet, 0xee, sizeof packet);
    struct mqtt_fault fault;
    assert_false(mqtt_decode(MQTT_5_0, C, 0x10, span_of(bytes, size), &packet, &fault));
    assert_int_equal(packet.type, MQTT_CONNECT);
    if ((unsigned)packet.connect.version != cases[i].version) fail_msg("case %zu: %u", i, (unsigned)packet.connect.version);
  }
}

static void flags_are_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"reserved flag", MQTT_3_1_1, C, "10" V4 "03" ALIVE ID, MQTT_MALFORMED_PACKET, "MQTT-3.1.2-3"},
      {"reserved flag", MQTT_5_0, C, "10" V5 "03" ALIVE "00" ID, MQTT_MALFORMED_PACKET, "MQTT-3.1.2-3"},
      {"unused flag", MQTT_3_1, C, "10" V3 "03" ALIVE ID, MQTT_SUCCESS, NULL},
      {"will QoS without a will", MQTT_3_1_1, C, "10" V4 "0a" ALIVE ID, MQTT_MALFORMED_PACKET, "MQTT-3.1.2-13"},
      {"will QoS without a will", MQTT_5_0, C, "10" V5 "1a" ALIVE "00" ID, MQTT_MALFORMED_PACKET, "MQTT-3.1.2-13"},
      {"will QoS without a will", MQTT_3_1, C, "10" V3 "1a" ALIVE ID, MQTT_SUCCESS, NULL},
      {"will retain without a will", MQTT_3_1_1, C, "10" V4 "22" ALIVE ID, MQTT_MALFORMED_PACKET, "MQTT-3.1.2-15"},
      {"will retain without a will", MQTT_5_0, C, "10" V5 "22" ALIVE "00" ID, MQTT_MALFORMED_PACKET, "MQTT-3.1.2-15"},
      {"will retain without a will", MQTT_3_1, C, "10" V3 "22" ALIVE ID, MQTT_SUCCESS, NULL},
      {"will QoS 3", MQTT_3_1, C, "10" V3 "1e" ALIVE ID "0001 'w' 0000", MQTT_MALFORMED_PACKET, "MQTT-3.1.2-14"},
      {"will QoS 3", MQTT_3_1_1, C, "10" V4 "1e" ALIVE ID "0001 'w' 0000", MQTT_MALFORMED_PACKET, "MQTT-3.1.2-14"},
      {"will QoS 3", MQTT_5_0, C, "10" V5 "1e" ALIVE "00" ID "00 0001 'w' 0000", MQTT_MALFORMED_PACKET, "MQTT-3.1.2-14"},
      {"password alone", MQTT_3_1, C, "10" V3 "42" ALIVE ID "0001 'p'", MQTT_MALFORMED_PACKET, "MQTT-3.1.2-22"},
      {"password alone", MQTT_3_1_1, C, "10" V4 "42" ALIVE ID "0001 'p'", MQTT_MALFORMED_PACKET, "MQTT-3.1.2-22"},
      {"password alone", MQTT_5_0, C, "10" V5 "42" ALIVE "00" ID "0001 'p'", MQTT_SUCCESS, NULL},
      {"user name alone", MQTT_3_1_1, C, "10" V4 "82" ALIVE ID "0001 'u'", MQTT_SUCCESS, NULL},
      {"no flags", MQTT_3_1_1, C, "10" V4, MQTT_MALFORMED_PACKET, "MQTT-3.1.4-1"},
      {"no keep alive", MQTT_3_1_1, C, "10" V4 "02 00", MQTT_MALFORMED_PACKET, "MQTT-3.1.4-1"},
      {"no properties", MQTT_5_0, C, "10" V5 "02" ALIVE, MQTT_MALFORMED_PACKET, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void payload_is_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"no client identifier", MQTT_3_1_1, C, "10" V4 "02" ALIVE, MQTT_MALFORMED_PACKET, NULL},
      {"client identifier cut off", MQTT_5_0, C, "10" V5 "02" ALIVE "00 0004 'cli'", MQTT_MALFORMED_PACKET, NULL},
      {"client identifier with NUL", MQTT_3_1_1, C, "10" V4 "02" ALIVE "0001 00", MQTT_MALFORMED_PACKET, "MQTT-1.5.3-2"},
      {"client identifier not UTF-8", MQTT_5_0, C, "10" V5 "02" ALIVE "00 0001 ff", MQTT_MALFORMED_PACKET, "MQTT-1.5.4-1"},
      {"empty, clean", MQTT_3_1_1, C, "10" V4 "02" ALIVE "0000", MQTT_SUCCESS, NULL},
      {"empty, not clean", MQTT_3_1_1, C, "10" V4 "00" ALIVE "0000", MQTT_CLIENT_IDENTIFIER_NOT_VALID, "MQTT-3.1.3-8"},
      {"empty, not clean", MQTT_5_0, C, "10" V5 "00" ALIVE "00 0000", MQTT_SUCCESS, NULL},
      {"empty, clean", MQTT_3_1, C, "10" V3 "02" ALIVE "0000", MQTT_CLIENT_IDENTIFIER_NOT_VALID, NULL},
      {"23 characters", MQTT_3_1, C, "10" V3 "02" ALIVE "0017 'abcdefghijklmnopqrstuvw'", MQTT_SUCCESS, NULL},
      {"23 characters in 24 bytes", MQTT_3_1, C, "10" V3 "02" ALIVE "0018 'abcdefghijklmnopqrstuv' c3a4", MQTT_SUCCESS,
       NULL},
      {"24 characters", MQTT_3_1, C, "10" V3 "02" ALIVE "0018 'abcdefghijklmnopqrstuvwx'", MQTT_CLIENT_IDENTIFIER_NOT_VALID,
       NULL},
      {"24 characters", MQTT_3_1_1, C, "10" V4 "02" ALIVE "0018 'abcdefghijklmnopqrstuvwx'", MQTT_SUCCESS, NULL},
      {"will", MQTT_3_1, C, "10" V3 "36" ALIVE ID "0001 'w' 0003 'bye'", MQTT_SUCCESS, NULL},
      {"will", MQTT_3_1_1, C, "10" V4 "0e" ALIVE ID "0001 'w' 0000", MQTT_SUCCESS, NULL},
      {"will", MQTT_5_0, C, "10" V5 "06" ALIVE "00" ID "00 0001 'w' 0002 00ff", MQTT_SUCCESS, NULL},
      {"will without properties", MQTT_5_0, C, "10" V5 "06" ALIVE "00" ID, MQTT_MALFORMED_PACKET, NULL},
      {"will without a topic", MQTT_3_1_1, C, "10" V4 "06" ALIVE ID, MQTT_MALFORMED_PACKET, NULL},
      {"will without a payload", MQTT_3_1_1, C, "10" V4 "06" ALIVE ID "0001 'w'", MQTT_MALFORMED_PACKET, "MQTT-3.1.4-1"},
      {"will topic empty", MQTT_3_1_1, C, "10" V4 "06" ALIVE ID "0000 0000", MQTT_TOPIC_NAME_INVALID, "MQTT-4.7.3-1"},
      {"will topic with a wildcard", MQTT_3_1_1, C, "10" V4 "06" ALIVE ID "0001 '#' 0000", MQTT_TOPIC_NAME_INVALID,
       "MQTT-4.7.1-1"},
      {"will topic with a wildcard", MQTT_5_0, C, "10" V5 "06" ALIVE "00" ID "00 0003 'a/+' 0000", MQTT_TOPIC_NAME_INVALID,
       "MQTT-4.7.0-1"},
      {"will topic not UTF-8", MQTT_5_0, C, "10" V5 "06" ALIVE "00" ID "00 0002 c080 0000", MQTT_MALFORMED_PACKET,
       "MQTT-1.5.4-1"},
      {"user name and password", MQTT_3_1_1, C, "10" V4 "c2" ALIVE ID "0001 'u' 0002 00ff", MQTT_SUCCESS, NULL},
      {"user name missing", MQTT_3_1, C, "10" V3 "82" ALIVE ID, MQTT_SUCCESS, NULL},
      {"user name and password missing", MQTT_3_1, C, "10" V3 "c2" ALIVE ID, MQTT_SUCCESS, NULL},
      {"password missing", MQTT_3_1, C, "10" V3 "c2" ALIVE ID "0001 'u'", MQTT_SUCCESS, NULL},
      {"user name missing", MQTT_3_1_1, C, "10" V4 "82" ALIVE ID, MQTT_MALFORMED_PACKET, NULL},
      {"password missing", MQTT_3_1_1, C, "10" V4 "c2" ALIVE ID "0001 'u'", MQTT_MALFORMED_PACKET, "MQTT-3.1.4-1"},
      {"password cut off", MQTT_5_0, C, "10" V5 "42" ALIVE "00" ID "0002 'p'", MQTT_MALFORMED_PACKET, "MQTT-3.1.4-1"},
      {"user name not UTF-8", MQTT_3_1_1, C, "10" V4 "82" ALIVE ID "0001 80", MQTT_MALFORMED_PACKET, "MQTT-1.5.3-1"},
      {"unannounced user name", MQTT_3_1_1, C, "10" V4 "02" ALIVE ID "0001 'u'", MQTT_MALFORMED_PACKET, NULL},
      {"one byte too many", MQTT_5_0, C, "10" V5 "02" ALIVE "00" ID "00", MQTT_MALFORMED_PACKET, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void authentication_properties(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"method", MQTT_5_0, C, "10" V5 "02" ALIVE "04 15 0001 'm'" ID, MQTT_SUCCESS, NULL},
      {"method and data", MQTT_5_0, C, "10" V5 "02" ALIVE "08 15 0001 'm' 16 0001 ff" ID, MQTT_SUCCESS, NULL},
      {"data and method", MQTT_5_0, C, "10" V5 "02" ALIVE "08 16 0001 ff 15 0001 'm'" ID, MQTT_SUCCESS, NULL},
      {"data alone", MQTT_5_0, C, "10" V5 "02" ALIVE "04 16 0001 ff" ID, MQTT_PROTOCOL_ERROR, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void all_fields_are_read(void **state)
{
  (void)state;
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes((enum mqtt_version)0, C,
               "10" V5 "f6" ALIVE "08 11 0000000a 21 0014" ID "09 18 00000005 03 0001 't' 0001 'w' 0003 'bye' "
               "0004 'user' 0002 00ff",
               bytes, &packet);
  const struct mqtt_connect *connect = &packet.connect;
  assert_int_equal(connect->version, MQTT_5_0);
  assert_true(connect->clean_start);
  assert_false(connect->bridge);
  assert_int_equal(connect->keep_alive_s, 60);
  assert_span_text(connect->client_id, "cli");
  assert_int_equal(connect->properties.session_expiry_s, 10);
  assert_int_equal(connect->properties.receive_maximum, 20);
  assert_false(MQTT_HAS(&connect->properties, MAXIMUM_PACKET_SIZE));
  assert_true(connect->will.present);
  assert_int_equal(connect->will.qos, 2);
  assert_true(connect->will.retain);
  assert_int_equal(connect->will.properties.will_delay_s, 5);
  assert_span_text(connect->will.properties.content_type, "t");
  assert_span_text(connect->will.topic, "w");
  assert_span_text(connect->will.payload, "bye");
  assert_true(connect->has_user_name);
  assert_span_text(connect->user_name, "user");
  assert_true(connect->has_password);
  assert_int_equal(connect->password.size, 2);

  decode_bytes((enum mqtt_version)0, C, "10" NAME "84 00" ALIVE ID, bytes, &packet);
  assert_int_equal(connect->version, MQTT_3_1_1);
  assert_true(connect->bridge);
  assert_false(connect->clean_start);
  assert_false(connect->will.present);
  assert_false(connect->has_user_name);

  decode_bytes((enum mqtt_version)0, C, "10" V3 "fa" ALIVE ID, bytes, &packet);
  assert_false(connect->will.present);
  assert_int_equal(connect->will.qos, 0);
  assert_false(connect->has_user_name);
  assert_false(connect->has_password);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(versions_are_told_apart),   cmocka_unit_test(refused_versions_are_known),
      cmocka_unit_test(flags_are_judged),          cmocka_unit_test(payload_is_judged),
      cmocka_unit_test(authentication_properties), cmocka_unit_test(all_fields_are_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
