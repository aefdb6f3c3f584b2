#include "bytes.h"

#define C MQTT_FROM_CLIENT
#define S MQTT_FROM_SERVER

static void directions_are_judged(void **state)
{
  (void)state;
  // The shortest packet of each type, per version; NULL where the type is not defined.
  static const struct {
    const char *v3;
    const char *v5;
    bool from_client;
    bool from_server;
  } types[16] = {
      [2] = {"20 0000", "20 0000 00", false, true},
      [3] = {"30 0001'a'", "30 0001'a' 00", true, true},
      [4] = {"40 0001", "40 0001", true, true},
      [5] = {"50 0001", "50 0001", true, true},
      [6] = {"62 0001", "62 0001", true, true},
      [7] = {"70 0001", "70 0001", true, true},
      [8] = {"82 0001 0001'a' 00", "82 0001 00 0001'a' 00", true, false},
      [9] = {"90 0001 00", "90 0001 00 00", false, true},
      [10] = {"a2 0001 0001'a'", "a2 0001 00 0001'a'", true, false},
      [11] = {"b0 0001", "b0 0001 00 00", false, true},
      [12] = {"c0", "c0", true, false},
      [13] = {"d0", "d0", false, true},
      [14] = {"e0", "e0", true, false},
      [15] = {"f0", "f0 19 04 15 0001'm'", true, false},
  };
  for (unsigned type = 2; type < 16; type++) {
    for (unsigned version = MQTT_3_1; version <= MQTT_5_0; version++) {
      for (unsigned sender = 0; sender <= 1; sender++) {
        bool modern = version == MQTT_5_0;
        bool allowed = sender == C ? types[type].from_client : types[type].from_server;
        enum mqtt_reason reason = allowed ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR;
        const char *bytes = modern ? types[type].v5 : types[type].v3;
        if (type == MQTT_DISCONNECT && modern) reason = MQTT_SUCCESS;
        if (type == MQTT_AUTH && !modern) reason = MQTT_MALFORMED_PACKET;
        if (type == MQTT_AUTH && modern && sender == S) {
          reason = MQTT_SUCCESS;
          bytes = "f0 18 04 15 0001'm'";
        }
        struct packet_case test = {
            mqtt_packet_name(type), (enum mqtt_version)version, (enum mqtt_sender)sender, bytes, reason, NULL};
        run_packet_case(&test);
      }
    }
  }
  for (unsigned version = MQTT_3_1; version <= MQTT_5_0; version++) {
    struct packet_case test = {"type 0", (enum mqtt_version)version, C, "00", MQTT_MALFORMED_PACKET, NULL};
    run_packet_case(&test);
  }
}

// Each of the 16 flag values for each type that has fixed flags.
static void flags_of_the_fixed_header(void **state)
{
  (void)state;
  static const struct {
    const char *v3;
    const char *v5;
    enum mqtt_sender sender;
    unsigned first;
    const char *statement_v3;
    const char *statement_v5;
  } types[] = {
      {"0000", "0000 00", S, 0x20, "MQTT-2.2.2-1", "MQTT-2.1.3-1"},
      {"0001", "0001", C, 0x40, "MQTT-2.2.2-1", "MQTT-2.1.3-1"},
      {"0001", "0001", C, 0x50, "MQTT-2.2.2-1", "MQTT-2.1.3-1"},
      {"0001", "0001", C, 0x62, "MQTT-3.6.1-1", "MQTT-3.6.1-1"},
      {"0001", "0001", C, 0x70, "MQTT-2.2.2-1", "MQTT-2.1.3-1"},
      {"0001 0001'a' 00", "0001 00 0001'a' 00", C, 0x82, "MQTT-3.8.1-1", "MQTT-3.8.1-1"},
      {"0001 00", "0001 00 00", S, 0x90, "MQTT-2.2.2-1", "MQTT-2.1.3-1"},
      {"0001 0001'a'", "0001 00 0001'a'", C, 0xa2, "MQTT-3.10.1-1", "MQTT-3.10.1-1"},
      {"0001", "0001 00 00", S, 0xb0, "MQTT-2.2.2-1", "MQTT-2.1.3-1"},
      {"", "", C, 0xc0, "MQTT-2.2.2-1", "MQTT-2.1.3-1"},
      {"", "", S, 0xd0, "MQTT-2.2.2-1", "MQTT-2.1.3-1"},
      {"", "", C, 0xe0, "MQTT-3.14.1-1", "MQTT-3.14.1-1"},
      {NULL, "19 04 15 0001'm'", C, 0xf0, NULL, "MQTT-3.15.1-1"},
  };
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    for (unsigned flags = 0; flags < 16; flags++) {
      for (unsigned version = MQTT_3_1; version <= MQTT_5_0; version++) {
        const char *body = version == MQTT_5_0 ? types[i].v5 : types[i].v3;
        if (!body) continue;
        uint8_t bytes[BYTES_MAX];
        size_t size = bytes_parse(body, bytes);
        struct mqtt_packet packet;
        struct mqtt_fault fault = {0};
        bool accepted = mqtt_decode((enum mqtt_version)version, types[i].sender, (uint8_t)((types[i].first & 0xf0) | flags),
                                    span_of(bytes, size), &packet, &fault);
        unsigned wanted = types[i].first & 0x0f;
        bool right = flags == wanted;
        // 3.1: DUP may be set where QoS 1 is used, and what is "not used" is not looked at.
        if (version == MQTT_3_1) right = wanted ? (flags & 0x06) == wanted : true;
        if (accepted != right) fail_msg("%#x flags %#x version %u", types[i].first, flags, version);
        if (accepted) continue;
        assert_int_equal(fault.reason, MQTT_MALFORMED_PACKET);
        assert_string_equal(fault.statement, version == MQTT_5_0 ? types[i].statement_v5 : types[i].statement_v3);
      }
    }
  }
}

static void connack_is_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"accepted", MQTT_3_1, S, "20 0000", MQTT_SUCCESS, NULL},
      {"accepted", MQTT_3_1_1, S, "20 0100", MQTT_SUCCESS, NULL},
      {"accepted", MQTT_5_0, S, "20 0100 00", MQTT_SUCCESS, NULL},
      {"first byte unused", MQTT_3_1, S, "20 ff00", MQTT_SUCCESS, NULL},
      {"return code 5", MQTT_3_1, S, "20 0005", MQTT_SUCCESS, NULL},
      {"return code 5", MQTT_3_1_1, S, "20 0005", MQTT_SUCCESS, NULL},
      {"return code 6", MQTT_3_1_1, S, "20 0006", MQTT_PROTOCOL_ERROR, "MQTT-3.2.2-6"},
      {"reason", MQTT_5_0, S, "20 0086 00", MQTT_SUCCESS, NULL},
      {"reason that is not for CONNACK", MQTT_5_0, S, "20 008e 00", MQTT_PROTOCOL_ERROR, "MQTT-3.2.2-8"},
      {"unknown reason", MQTT_5_0, S, "20 0005 00", MQTT_PROTOCOL_ERROR, "MQTT-3.2.2-8"},
      {"flags", MQTT_3_1_1, S, "20 0200", MQTT_MALFORMED_PACKET, "MQTT-2.2.2-1"},
      {"flags", MQTT_5_0, S, "20 8100 00", MQTT_MALFORMED_PACKET, "MQTT-3.2.2-1"},
      {"session present in a refusal", MQTT_3_1_1, S, "20 0102", MQTT_PROTOCOL_ERROR, "MQTT-3.2.2-4"},
      {"session present in a refusal", MQTT_5_0, S, "20 0187 00", MQTT_PROTOCOL_ERROR, "MQTT-3.2.2-6"},
      {"cut off", MQTT_3_1_1, S, "20 00", MQTT_MALFORMED_PACKET, NULL},
      {"no property length", MQTT_5_0, S, "20 0000", MQTT_MALFORMED_PACKET, NULL},
      {"too long", MQTT_3_1_1, S, "20 0000 00", MQTT_MALFORMED_PACKET, NULL},
      {"too long", MQTT_5_0, S, "20 0000 00 00", MQTT_MALFORMED_PACKET, NULL},
  };
  RUN_PACKET_CASES(cases);
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes(MQTT_3_1_1, S, "20 0004", bytes, &packet);
  assert_int_equal(packet.connack.reason, MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_false(packet.connack.session_present);
  decode_bytes(MQTT_5_0, S, "20 01 00 03 22000a", bytes, &packet);
  assert_true(packet.connack.session_present);
  assert_int_equal(packet.connack.properties.topic_alias_maximum, 10);
}

static void subscribe_is_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"one", MQTT_3_1, C, "82 0001 0003'a/b' 01", MQTT_SUCCESS, NULL},
      {"upper bits", MQTT_3_1, C, "82 0001 0003'a/b' fd", MQTT_SUCCESS, NULL},
      {"sent again", MQTT_3_1, C, "8a 0001 0003'a/b' 01", MQTT_SUCCESS, NULL},
      {"two", MQTT_3_1_1, C, "82 0001 0003'a/b' 01 0001'#' 02", MQTT_SUCCESS, NULL},
      {"two", MQTT_5_0, C, "82 0001 02 0b01 0003'a/b' 2d 0001'#' 1a", MQTT_SUCCESS, NULL},
      {"none", MQTT_3_1, C, "82 0001", MQTT_PROTOCOL_ERROR, "MQTT-3.8.3-3"},
      {"none", MQTT_3_1_1, C, "82 0001", MQTT_PROTOCOL_ERROR, "MQTT-3.8.3-3"},
      {"none", MQTT_5_0, C, "82 0001 00", MQTT_PROTOCOL_ERROR, "MQTT-3.8.3-2"},
      {"identifier 0", MQTT_3_1_1, C, "82 0000 0001'a' 00", MQTT_PROTOCOL_ERROR, "MQTT-2.3.1-1"},
      {"identifier 0", MQTT_5_0, C, "82 0000 00 0001'a' 00", MQTT_PROTOCOL_ERROR, "MQTT-2.2.1-3"},
      {"no identifier", MQTT_5_0, C, "82", MQTT_MALFORMED_PACKET, NULL},
      {"QoS 3", MQTT_3_1, C, "82 0001 0001'a' 03", MQTT_MALFORMED_PACKET, "MQTT-3-8.3-4"},
      {"QoS 3", MQTT_3_1_1, C, "82 0001 0001'a' 03", MQTT_MALFORMED_PACKET, "MQTT-3-8.3-4"},
      {"QoS 3", MQTT_5_0, C, "82 0001 00 0001'a' 03", MQTT_PROTOCOL_ERROR, NULL},
      {"reserved bits", MQTT_3_1_1, C, "82 0001 0001'a' 04", MQTT_MALFORMED_PACKET, "MQTT-3-8.3-4"},
      {"reserved bits", MQTT_5_0, C, "82 0001 00 0001'a' 40", MQTT_MALFORMED_PACKET, "MQTT-3.8.3-5"},
      {"reserved bits", MQTT_5_0, C, "82 0001 00 0001'a' 80", MQTT_MALFORMED_PACKET, "MQTT-3.8.3-5"},
      {"retain handling 3", MQTT_5_0, C, "82 0001 00 0001'a' 30", MQTT_PROTOCOL_ERROR, NULL},
      {"no local, shared", MQTT_5_0, C, "82 0001 00 000a'$share/g/a' 04", MQTT_PROTOCOL_ERROR, "MQTT-3.8.3-4"},
      {"shared", MQTT_5_0, C, "82 0001 00 000a'$share/g/a' 01", MQTT_SUCCESS, NULL},
      {"no local, not shared", MQTT_5_0, C, "82 0001 00 0006'$share' 04", MQTT_SUCCESS, NULL},
      {"the second one is wrong", MQTT_5_0, C, "82 0001 00 0001'a' 00 0001'b' c0", MQTT_MALFORMED_PACKET, "MQTT-3.8.3-5"},
      {"empty filter", MQTT_3_1_1, C, "82 0001 0000 00", MQTT_PROTOCOL_ERROR, "MQTT-4.7.3-1"},
      {"empty filter", MQTT_5_0, C, "82 0001 00 0000 00", MQTT_PROTOCOL_ERROR, "MQTT-4.7.3-1"},
      {"not UTF-8", MQTT_3_1_1, C, "82 0001 0001 ff 00", MQTT_MALFORMED_PACKET, "MQTT-1.5.3-1"},
      {"not UTF-8", MQTT_5_0, C, "82 0001 00 0001 ff 00", MQTT_MALFORMED_PACKET, "MQTT-1.5.4-1"},
      {"NUL", MQTT_5_0, C, "82 0001 00 0001 00 00", MQTT_MALFORMED_PACKET, "MQTT-1.5.4-2"},
      {"no options", MQTT_3_1_1, C, "82 0001 0001'a'", MQTT_MALFORMED_PACKET, NULL},
      {"filter cut off", MQTT_3_1_1, C, "82 0001 0002'a'", MQTT_MALFORMED_PACKET, NULL},
      {"invalid filters are not for closing", MQTT_5_0, C, "82 0001 00 0003'a#/' 00", MQTT_SUCCESS, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void subscriptions_are_walked(void **state)
{
  (void)state;
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes(MQTT_5_0, C, "82 1234 02 0b07 0003'a/b' 2d 0001'#' 12", bytes, &packet);
  assert_int_equal(packet.subscribe.packet_id, 0x1234);
  assert_int_equal(packet.subscribe.count, 2);
  assert_int_equal(packet.subscribe.properties.subscription_id, 7);
  size_t cursor = 0;
  struct mqtt_subscription one;
  assert_true(mqtt_next_subscription(MQTT_5_0, &packet.subscribe, &cursor, &one));
  assert_span_text(one.filter, "a/b");
  assert_int_equal(one.qos, 1);
  assert_true(one.no_local);
  assert_true(one.retain_as_published);
  assert_int_equal(one.retain_handling, MQTT_RETAIN_DO_NOT_SEND);
  assert_true(mqtt_next_subscription(MQTT_5_0, &packet.subscribe, &cursor, &one));
  assert_span_text(one.filter, "#");
  assert_int_equal(one.qos, 2);
  assert_false(one.no_local);
  assert_false(one.retain_as_published);
  assert_int_equal(one.retain_handling, MQTT_RETAIN_SEND_IF_NEW);
  assert_false(mqtt_next_subscription(MQTT_5_0, &packet.subscribe, &cursor, &one));

  decode_bytes(MQTT_3_1, C, "82 0001 0003'a/b' fd", bytes, &packet);
  cursor = 0;
  assert_true(mqtt_next_subscription(MQTT_3_1, &packet.subscribe, &cursor, &one));
  assert_int_equal(one.qos, 1);
  assert_false(one.no_local);
  assert_int_equal(one.retain_handling, MQTT_RETAIN_SEND);
  assert_false(mqtt_next_subscription(MQTT_3_1, &packet.subscribe, &cursor, &one));
}

static void unsubscribe_is_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"one", MQTT_3_1_1, C, "a2 0001 0003'a/b'", MQTT_SUCCESS, NULL},
      {"two", MQTT_5_0, C, "a2 0001 00 0003'a/b' 0001'#'", MQTT_SUCCESS, NULL},
      {"none", MQTT_3_1_1, C, "a2 0001", MQTT_PROTOCOL_ERROR, "MQTT-3.10.3-2"},
      {"none", MQTT_5_0, C, "a2 0001 00", MQTT_PROTOCOL_ERROR, "MQTT-3.10.3-2"},
      {"identifier 0", MQTT_3_1, C, "a2 0000 0001'a'", MQTT_PROTOCOL_ERROR, "MQTT-2.3.1-1"},
      {"empty filter", MQTT_5_0, C, "a2 0001 00 0000", MQTT_PROTOCOL_ERROR, "MQTT-4.7.3-1"},
      {"not UTF-8", MQTT_5_0, C, "a2 0001 00 0002 c328", MQTT_MALFORMED_PACKET, "MQTT-1.5.4-1"},
      {"filter cut off", MQTT_3_1_1, C, "a2 0001 0004'a/b'", MQTT_MALFORMED_PACKET, NULL},
  };
  RUN_PACKET_CASES(cases);
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes(MQTT_5_0, C, "a2 1234 00 0003'a/b' 0001'#'", bytes, &packet);
  assert_int_equal(packet.unsubscribe.packet_id, 0x1234);
  assert_int_equal(packet.unsubscribe.count, 2);
  size_t cursor = 0;
  struct span filter;
  assert_true(mqtt_next_filter(&packet.unsubscribe, &cursor, &filter));
  assert_span_text(filter, "a/b");
  assert_true(mqtt_next_filter(&packet.unsubscribe, &cursor, &filter));
  assert_span_text(filter, "#");
  assert_false(mqtt_next_filter(&packet.unsubscribe, &cursor, &filter));
}

static void answers_to_them_are_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"SUBACK", MQTT_3_1, S, "90 0001 00 01 02", MQTT_SUCCESS, NULL},
      {"SUBACK", MQTT_3_1_1, S, "90 0001 00 80", MQTT_SUCCESS, NULL},
      {"SUBACK", MQTT_5_0, S, "90 0001 00 00 01 02 80 83 87 8f 91 97 9e a1 a2", MQTT_SUCCESS, NULL},
      {"SUBACK code", MQTT_3_1_1, S, "90 0001 03", MQTT_PROTOCOL_ERROR, "MQTT-3.9.3-2"},
      {"SUBACK code", MQTT_3_1_1, S, "90 0001 00 87", MQTT_PROTOCOL_ERROR, "MQTT-3.9.3-2"},
      {"SUBACK code", MQTT_5_0, S, "90 0001 00 11", MQTT_PROTOCOL_ERROR, "MQTT-3.9.3-2"},
      {"SUBACK without codes", MQTT_3_1_1, S, "90 0001", MQTT_PROTOCOL_ERROR, "MQTT-3.8.4-5"},
      {"SUBACK without codes", MQTT_5_0, S, "90 0001 00", MQTT_PROTOCOL_ERROR, "MQTT-3.8.4-6"},
      {"SUBACK identifier 0", MQTT_3_1_1, S, "90 0000 00", MQTT_PROTOCOL_ERROR, "MQTT-2.3.1-7"},
      {"SUBACK identifier 0", MQTT_5_0, S, "90 0000 00 00", MQTT_PROTOCOL_ERROR, "MQTT-2.2.1-6"},
      {"UNSUBACK", MQTT_3_1_1, S, "b0 0001", MQTT_SUCCESS, NULL},
      {"UNSUBACK with codes", MQTT_3_1_1, S, "b0 0001 00", MQTT_MALFORMED_PACKET, NULL},
      {"UNSUBACK", MQTT_5_0, S, "b0 0001 00 00 11 80 83 87 8f 91", MQTT_SUCCESS, NULL},
      {"UNSUBACK code", MQTT_5_0, S, "b0 0001 00 01", MQTT_PROTOCOL_ERROR, "MQTT-3.11.3-2"},
      {"UNSUBACK without codes", MQTT_5_0, S, "b0 0001 00", MQTT_PROTOCOL_ERROR, "MQTT-3.11.3-2"},
      {"UNSUBACK identifier 0", MQTT_5_0, S, "b0 0000 00 00", MQTT_PROTOCOL_ERROR, "MQTT-2.2.1-6"},
  };
  RUN_PACKET_CASES(cases);
}

static void pings_are_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"PINGREQ", MQTT_3_1_1, C, "c0", MQTT_SUCCESS, NULL},
      {"PINGREQ with a body", MQTT_3_1, C, "c0 00", MQTT_MALFORMED_PACKET, NULL},
      {"PINGREQ with a body", MQTT_5_0, C, "c0 00", MQTT_MALFORMED_PACKET, NULL},
      {"PINGRESP", MQTT_5_0, S, "d0", MQTT_SUCCESS, NULL},
      {"PINGRESP with a body", MQTT_5_0, S, "d0 00", MQTT_MALFORMED_PACKET, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void disconnect_is_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"normal", MQTT_3_1, C, "e0", MQTT_SUCCESS, NULL},
      {"normal", MQTT_3_1_1, C, "e0", MQTT_SUCCESS, NULL},
      {"with a body", MQTT_3_1_1, C, "e0 00", MQTT_MALFORMED_PACKET, NULL},
      {"normal", MQTT_5_0, C, "e0", MQTT_SUCCESS, NULL},
      {"normal, spelled out", MQTT_5_0, C, "e0 00", MQTT_SUCCESS, NULL},
      {"with will", MQTT_5_0, C, "e0 04", MQTT_SUCCESS, NULL},
      {"with will, empty properties", MQTT_5_0, C, "e0 04 00", MQTT_SUCCESS, NULL},
      {"session expiry", MQTT_5_0, C, "e0 00 05 1100000010", MQTT_SUCCESS, NULL},
      {"session expiry from a server", MQTT_5_0, S, "e0 8b 05 1100000010", MQTT_PROTOCOL_ERROR, "MQTT-3.14.2-2"},
      {"shutting down", MQTT_5_0, S, "e0 8b", MQTT_SUCCESS, NULL},
      {"moved", MQTT_5_0, S, "e0 9d 04 1c0001'b'", MQTT_SUCCESS, NULL},
      {"a server's reason", MQTT_5_0, C, "e0 8b", MQTT_PROTOCOL_ERROR, "MQTT-3.14.2-1"},
      {"a client's reason", MQTT_5_0, S, "e0 04", MQTT_PROTOCOL_ERROR, "MQTT-3.14.2-1"},
      {"unknown reason", MQTT_5_0, C, "e0 01", MQTT_PROTOCOL_ERROR, "MQTT-3.14.2-1"},
      {"unknown reason", MQTT_5_0, C, "e0 ff", MQTT_PROTOCOL_ERROR, "MQTT-3.14.2-1"},
      {"too long", MQTT_5_0, C, "e0 00 00 00", MQTT_MALFORMED_PACKET, NULL},
  };
  RUN_PACKET_CASES(cases);
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes(MQTT_5_0, C, "e0 04 05 1100000010", bytes, &packet);
  assert_int_equal(packet.disconnect.reason, MQTT_DISCONNECT_WITH_WILL);
  assert_int_equal(packet.disconnect.properties.session_expiry_s, 16);
}

static void auth_is_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"success", MQTT_5_0, S, "f0", MQTT_SUCCESS, NULL},
      {"success from a client", MQTT_5_0, C, "f0", MQTT_PROTOCOL_ERROR, "MQTT-3.15.2-1"},
      {"success with method", MQTT_5_0, S, "f0 00 04 15 0001'm'", MQTT_SUCCESS, NULL},
      {"continue", MQTT_5_0, S, "f0 18 08 15 0001'm' 16 0001 ff", MQTT_SUCCESS, NULL},
      {"continue", MQTT_5_0, C, "f0 18 04 15 0001'm'", MQTT_SUCCESS, NULL},
      {"again", MQTT_5_0, C, "f0 19 04 15 0001'm'", MQTT_SUCCESS, NULL},
      {"again from a server", MQTT_5_0, S, "f0 19 04 15 0001'm'", MQTT_PROTOCOL_ERROR, "MQTT-3.15.2-1"},
      {"unknown reason", MQTT_5_0, C, "f0 80 04 15 0001'm'", MQTT_PROTOCOL_ERROR, "MQTT-3.15.2-1"},
      {"without method", MQTT_5_0, C, "f0 18 00", MQTT_PROTOCOL_ERROR, NULL},
      {"without method, with data", MQTT_5_0, C, "f0 18 04 16 0001 ff", MQTT_PROTOCOL_ERROR, NULL},
      {"without property length", MQTT_5_0, C, "f0 18", MQTT_MALFORMED_PACKET, NULL},
      {"too long", MQTT_5_0, C, "f0 18 04 15 0001'm' 00", MQTT_MALFORMED_PACKET, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void fixed_headers_are_read(void **state)
{
  (void)state;
  static const struct {
    const char *bytes;
    enum mqtt_header_result result;
    unsigned size;
    unsigned remaining;
  } cases[] = {
      {"", MQTT_HEADER_INCOMPLETE, 0, 0},
      {"30", MQTT_HEADER_INCOMPLETE, 0, 0},
      {"30 00", MQTT_HEADER_OK, 2, 0},
      {"30 7f", MQTT_HEADER_OK, 2, 127},
      {"30 80", MQTT_HEADER_INCOMPLETE, 0, 0},
      {"30 8001", MQTT_HEADER_OK, 3, 128},
      {"30 ff7f", MQTT_HEADER_OK, 3, 16383},
      {"30 808001", MQTT_HEADER_OK, 4, 16384},
      {"30 ffff7f", MQTT_HEADER_OK, 4, 2097151},
      {"30 80808001", MQTT_HEADER_OK, 5, 2097152},
      {"30 ffffff7f", MQTT_HEADER_OK, 5, MQTT_MAX_REMAINING_LENGTH},
      {"30 ffffff", MQTT_HEADER_INCOMPLETE, 0, 0},
      {"30 ffffffff", MQTT_HEADER_MALFORMED, 0, 0},
      {"30 80808080", MQTT_HEADER_MALFORMED, 0, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t bytes[BYTES_MAX];
    size_t size = bytes_parse(cases[i].bytes, bytes);
    struct span copy = exact_copy(bytes, size);
    struct mqtt_fixed_header header = {0};
    assert_int_equal(mqtt_fixed_header(copy, &header), cases[i].result);
    exact_free(copy);
    assert_int_equal(header.size, cases[i].size);
    assert_int_equal(header.remaining, cases[i].remaining);
    if (cases[i].result != MQTT_HEADER_OK) continue;
    uint8_t out[MQTT_MAX_FIXED_HEADER];
    assert_int_equal(mqtt_write_fixed_header(out, 0x30, header.remaining), size);
    assert_memory_equal(out, bytes, size);
    assert_int_equal(mqtt_fixed_header_size(header.remaining), size);
  }
}

static void names(void **state)
{
  (void)state;
  assert_string_equal(mqtt_packet_name(0), "RESERVED");
  assert_string_equal(mqtt_packet_name(MQTT_CONNECT), "CONNECT");
  assert_string_equal(mqtt_packet_name(MQTT_UNSUBACK), "UNSUBACK");
  assert_string_equal(mqtt_packet_name(MQTT_AUTH), "AUTH");
  assert_string_equal(mqtt_packet_name(16), "RESERVED");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(directions_are_judged),      cmocka_unit_test(flags_of_the_fixed_header),
      cmocka_unit_test(connack_is_judged),          cmocka_unit_test(subscribe_is_judged),
      cmocka_unit_test(subscriptions_are_walked),   cmocka_unit_test(unsubscribe_is_judged),
      cmocka_unit_test(answers_to_them_are_judged), cmocka_unit_test(pings_are_judged),
      cmocka_unit_test(disconnect_is_judged),       cmocka_unit_test(auth_is_judged),
      cmocka_unit_test(fixed_headers_are_read),     cmocka_unit_test(names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
