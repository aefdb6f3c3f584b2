#include "bytes.h"

#define C MQTT_FROM_CLIENT
#define S MQTT_FROM_SERVER

static void publish_is_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"QoS 0", MQTT_3_1, C, "30 0003 'a/b' 'hi'", MQTT_SUCCESS, NULL},
      {"QoS 0", MQTT_3_1_1, C, "30 0003 'a/b' 'hi'", MQTT_SUCCESS, NULL},
      {"QoS 0", MQTT_5_0, C, "30 0003 'a/b' 00 'hi'", MQTT_SUCCESS, NULL},
      {"QoS 0 from a server", MQTT_5_0, S, "31 0003 'a/b' 00 'hi'", MQTT_SUCCESS, NULL},
      {"no payload", MQTT_3_1_1, C, "30 0001 'a'", MQTT_SUCCESS, NULL},
      {"no payload", MQTT_5_0, C, "30 0001 'a' 00", MQTT_SUCCESS, NULL},
      {"QoS 1", MQTT_3_1_1, C, "32 0001 'a' 1234 'x'", MQTT_SUCCESS, NULL},
      {"QoS 1, again", MQTT_3_1_1, C, "3a 0001 'a' 1234 'x'", MQTT_SUCCESS, NULL},
      {"QoS 2, retained, again", MQTT_5_0, C, "3d 0001 'a' ffff 00 'x'", MQTT_SUCCESS, NULL},
      {"QoS 3", MQTT_3_1, C, "36 0001 'a' 1234 'x'", MQTT_MALFORMED_PACKET, "MQTT-3.3.1-4"},
      {"QoS 3", MQTT_3_1_1, C, "36 0001 'a' 1234 'x'", MQTT_MALFORMED_PACKET, "MQTT-3.3.1-4"},
      {"QoS 3", MQTT_5_0, S, "36 0001 'a' 1234 00 'x'", MQTT_MALFORMED_PACKET, "MQTT-3.3.1-4"},
      {"QoS 3 and DUP", MQTT_5_0, S, "3e 0001 'a' 1234 00 'x'", MQTT_MALFORMED_PACKET, "MQTT-3.3.1-4"},
      {"DUP at QoS 0", MQTT_3_1_1, C, "38 0001 'a' 'x'", MQTT_PROTOCOL_ERROR, "MQTT-3.3.1-2"},
      {"DUP at QoS 0", MQTT_5_0, S, "39 0001 'a' 00 'x'", MQTT_PROTOCOL_ERROR, "MQTT-3.3.1-2"},
      {"packet identifier 0", MQTT_3_1_1, C, "32 0001 'a' 0000 'x'", MQTT_PROTOCOL_ERROR, "MQTT-2.3.1-1"},
      {"packet identifier 0", MQTT_5_0, C, "34 0001 'a' 0000 00 'x'", MQTT_PROTOCOL_ERROR, "MQTT-2.2.1-3"},
      {"packet identifier 0", MQTT_5_0, S, "34 0001 'a' 0000 00 'x'", MQTT_PROTOCOL_ERROR, "MQTT-2.2.1-4"},
      {"no packet identifier", MQTT_5_0, C, "32 0001 'a' 12", MQTT_MALFORMED_PACKET, NULL},
      {"no topic", MQTT_3_1_1, C, "30", MQTT_MALFORMED_PACKET, NULL},
      {"half a topic length", MQTT_3_1_1, C, "30 00", MQTT_MALFORMED_PACKET, NULL},
      {"topic beyond the packet", MQTT_5_0, C, "30 0004 'a/b'", MQTT_MALFORMED_PACKET, NULL},
      {"no property length", MQTT_5_0, C, "30 0003 'a/b'", MQTT_MALFORMED_PACKET, NULL},
      {"empty topic", MQTT_3_1, C, "30 0000 'x'", MQTT_PROTOCOL_ERROR, "MQTT-4.7.3-1"},
      {"empty topic", MQTT_3_1_1, S, "30 0000 'x'", MQTT_PROTOCOL_ERROR, "MQTT-4.7.3-1"},
      {"empty topic", MQTT_5_0, C, "30 0000 00 'x'", MQTT_PROTOCOL_ERROR, "MQTT-4.7.3-1"},
      {"empty topic with properties", MQTT_5_0, C, "30 0000 02 0101 'x'", MQTT_PROTOCOL_ERROR, "MQTT-4.7.3-1"},
      {"empty topic with an alias", MQTT_5_0, C, "30 0000 03 230001 'x'", MQTT_SUCCESS, NULL},
      {"topic and alias", MQTT_5_0, C, "30 0001 'a' 03 23ffff 'x'", MQTT_SUCCESS, NULL},
      {"alias 0", MQTT_5_0, C, "30 0000 03 230000 'x'", MQTT_TOPIC_ALIAS_INVALID, "MQTT-3.3.2-8"},
      {"wildcard", MQTT_3_1, C, "30 0001 '+' 'x'", MQTT_TOPIC_NAME_INVALID, "MQTT-3.3.2-2"},
      {"wildcard", MQTT_3_1_1, C, "30 0003 'a/#' 'x'", MQTT_TOPIC_NAME_INVALID, "MQTT-3.3.2-2"},
      {"wildcard", MQTT_5_0, S, "30 0009 'a/b/+/c/d' 00 'x'", MQTT_TOPIC_NAME_INVALID, "MQTT-3.3.2-2"},
      {"wildcard beside other scripts", MQTT_5_0, S, "30 0004 c3a4 '/+' 00 'x'", MQTT_TOPIC_NAME_INVALID, "MQTT-3.3.2-2"},
      {"NUL", MQTT_3_1_1, C, "30 0003 'a' 00 'b' 'x'", MQTT_MALFORMED_PACKET, "MQTT-1.5.3-2"},
      {"NUL", MQTT_5_0, C, "30 0003 'a' 00 'b' 00 'x'", MQTT_MALFORMED_PACKET, "MQTT-1.5.4-2"},
      {"surrogate", MQTT_3_1_1, C, "30 0003 eda080 'x'", MQTT_MALFORMED_PACKET, "MQTT-1.5.3-1"},
      {"surrogate", MQTT_5_0, C, "30 0003 eda080 00 'x'", MQTT_MALFORMED_PACKET, "MQTT-1.5.4-1"},
      {"byte order mark", MQTT_5_0, C, "30 0004 efbbbf 'a' 00 'x'", MQTT_SUCCESS, NULL},
      {"other scripts, cut", MQTT_5_0, C, "30 000a e6b8a9e5baa6 '/' f09f8ca1 00 'x'", MQTT_MALFORMED_PACKET, "MQTT-1.5.4-1"},
      {"other scripts", MQTT_5_0, C, "30 000b e6b8a9e5baa6 '/' f09f8ca1 00 'x'", MQTT_SUCCESS, NULL},
      {"subscription identifier from a server", MQTT_5_0, S, "30 0001 'a' 02 0b05 'x'", MQTT_SUCCESS, NULL},
      {"two subscription identifiers", MQTT_5_0, S, "30 0001 'a' 05 0b05 0b8001 'x'", MQTT_SUCCESS, NULL},
      {"subscription identifier from a client", MQTT_5_0, C, "30 0001 'a' 02 0b05 'x'", MQTT_PROTOCOL_ERROR, "MQTT-3.3.4-6"},
      {"property length beyond the packet", MQTT_5_0, C, "30 0001 'a' 03 0101", MQTT_MALFORMED_PACKET, NULL},
      {"property length not in its shortest form", MQTT_5_0, C, "30 0001 'a' 8000 'x'", MQTT_MALFORMED_PACKET,
       "MQTT-1.5.5-1"},
      {"payload that looks like properties", MQTT_5_0, C, "30 0001 'a' 00 230000", MQTT_SUCCESS, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void publish_fields_are_read(void **state)
{
  (void)state;
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes(MQTT_5_0, S, "3d 0003 'a/b' 1234 0f 0101 02 00000e10 080003'r/t' 0b07 'hello'", bytes, &packet);
  const struct mqtt_publish *publish = &packet.publish;
  assert_int_equal(publish->qos, 2);
  assert_true(publish->dup);
  assert_true(publish->retain);
  assert_int_equal(publish->packet_id, 0x1234);
  assert_span_text(publish->topic, "a/b");
  assert_span_text(publish->payload, "hello");
  assert_true(MQTT_HAS(&publish->properties, PAYLOAD_FORMAT));
  assert_int_equal(publish->properties.payload_format, 1);
  assert_int_equal(publish->properties.message_expiry_s, 3600);
  assert_span_text(publish->properties.response_topic, "r/t");
  assert_int_equal(publish->properties.subscription_id, 7);
  assert_int_equal(publish->properties.subscription_id_count, 1);
  assert_false(MQTT_HAS(&publish->properties, CONTENT_TYPE));
  assert_int_equal(publish->properties.raw.size, 15);

  decode_bytes(MQTT_3_1_1, C, "30 0003 'a/b' 'hello'", bytes, &packet);
  assert_int_equal(publish->qos, 0);
  assert_false(publish->dup);
  assert_false(publish->retain);
  assert_int_equal(publish->packet_id, 0);
  assert_span_text(publish->payload, "hello");
}

// The hot path must not spend time on properties that are not there, and nothing of an earlier packet may shine through.
static void properties_are_left_alone_when_there_are_none(void **state)
{
  (void)state;
  struct mqtt_fault fault;
  uint8_t body[BYTES_MAX];
  for (unsigned version = MQTT_3_1; version <= MQTT_5_0; version++) {
    struct mqtt_publish publish;
    memset(&publish, 0xee, sizeof publish);
    size_t size = bytes_parse("0003 'a/b' 00 'hello'", body);
    assert_true(mqtt_decode_publish((enum mqtt_version)version, C, 0x30, span_of(body, size), &publish, &fault));
    assert_int_equal(publish.properties.present, 0);
    assert_int_equal(publish.properties.raw.size, 0);
    assert_int_equal(publish.properties.user.size, 0);
    assert_int_equal(publish.properties.subscription_id_count, 0);
    assert_int_equal(publish.properties.message_expiry_s, 0xeeeeeeee);
    size_t cursor = 0;
    struct mqtt_user_property user;
    assert_false(mqtt_next_user_property(&publish.properties, &cursor, &user));

    struct mqtt_ack ack;
    memset(&ack, 0xee, sizeof ack);
    assert_true(mqtt_decode_ack((enum mqtt_version)version, 0x40, span_of("\0\1", 2), &ack, &fault));
    assert_int_equal(ack.packet_id, 1);
    assert_int_equal(ack.reason, MQTT_SUCCESS);
    assert_int_equal(ack.properties.present, 0);
    assert_int_equal(ack.properties.will_delay_s, 0xeeeeeeee);
  }
}

// Every byte value at every place of topics of every length around the word size.
static void odd_bytes_are_found_wherever_they_are(void **state)
{
  (void)state;
  for (size_t size = 1; size <= 26; size++) {
    for (size_t at = 0; at < size; at++) {
      for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t body[2 + 26] = {0, (uint8_t)size};
        memset(body + 2, 'k', size);
        body[2 + at] = (uint8_t)byte;
        struct span copy = exact_copy(body, 2 + size);
        struct mqtt_publish publish;
        struct mqtt_fault fault;
        bool accepted = mqtt_decode_publish(MQTT_3_1_1, C, 0x30, copy, &publish, &fault);
        bool wanted = byte != 0 && byte < 0x80 && byte != '+' && byte != '#';
        if (accepted != wanted) fail_msg("byte %#x at %zu of %zu", byte, at, size);
        exact_free(copy);
      }
    }
  }
}

static void longest_topic(void **state)
{
  (void)state;
  size_t size = 2 + MQTT_MAX_STRING;
  uint8_t *body = malloc(size);
  assert_non_null(body);
  memset(body, '/', size);
  body[0] = 0xff;
  body[1] = 0xff;
  struct mqtt_publish publish;
  struct mqtt_fault fault;
  assert_true(mqtt_decode_publish(MQTT_3_1_1, C, 0x30, span_of(body, size), &publish, &fault));
  assert_int_equal(publish.topic.size, MQTT_MAX_STRING);
  body[size - 1] = '#';
  assert_false(mqtt_decode_publish(MQTT_3_1_1, C, 0x30, span_of(body, size), &publish, &fault));
  free(body);
}

static void acknowledgements_are_judged(void **state)
{
  (void)state;
  static const struct packet_case cases[] = {
      {"PUBACK", MQTT_3_1, C, "40 0001", MQTT_SUCCESS, NULL},
      {"PUBACK", MQTT_3_1_1, C, "40 ffff", MQTT_SUCCESS, NULL},
      {"PUBACK", MQTT_5_0, S, "40 0001", MQTT_SUCCESS, NULL},
      {"PUBREC", MQTT_5_0, C, "50 0001", MQTT_SUCCESS, NULL},
      {"PUBREL", MQTT_3_1_1, C, "62 0001", MQTT_SUCCESS, NULL},
      {"PUBREL", MQTT_5_0, C, "62 0001", MQTT_SUCCESS, NULL},
      {"PUBREL sent again in 3.1", MQTT_3_1, C, "6a 0001", MQTT_SUCCESS, NULL},
      {"PUBCOMP", MQTT_5_0, C, "70 0001", MQTT_SUCCESS, NULL},
      {"PUBACK with a reason", MQTT_5_0, S, "40 0001 10", MQTT_SUCCESS, NULL},
      {"PUBACK with success spelled out", MQTT_5_0, C, "40 0001 00", MQTT_SUCCESS, NULL},
      {"PUBACK with an empty property length", MQTT_5_0, C, "40 0001 00 00", MQTT_SUCCESS, NULL},
      {"PUBACK with properties", MQTT_5_0, C, "40 0001 87 0e 1f0002'no' 26000161000162", MQTT_MALFORMED_PACKET, NULL},
      {"PUBACK with properties", MQTT_5_0, C, "40 0001 87 0c 1f0002'no' 26000161000162", MQTT_SUCCESS, NULL},
      {"PUBREL with a reason", MQTT_5_0, C, "62 0001 92", MQTT_SUCCESS, NULL},
      {"PUBCOMP with a reason", MQTT_5_0, C, "70 0001 92 00", MQTT_SUCCESS, NULL},
      {"unknown reason", MQTT_5_0, C, "40 0001 55", MQTT_PROTOCOL_ERROR, "MQTT-3.4.2-1"},
      {"PUBACK with another packet's reason", MQTT_5_0, C, "40 0001 92", MQTT_PROTOCOL_ERROR, "MQTT-3.4.2-1"},
      {"PUBREC with another packet's reason", MQTT_5_0, C, "50 0001 92", MQTT_PROTOCOL_ERROR, "MQTT-3.5.2-1"},
      {"PUBREL with another packet's reason", MQTT_5_0, C, "62 0001 10", MQTT_PROTOCOL_ERROR, "MQTT-3.6.2-1"},
      {"PUBCOMP with another packet's reason", MQTT_5_0, C, "70 0001 80", MQTT_PROTOCOL_ERROR, "MQTT-3.7.2-1"},
      {"flags", MQTT_3_1_1, C, "41 0001", MQTT_MALFORMED_PACKET, "MQTT-2.2.2-1"},
      {"flags", MQTT_5_0, C, "52 0001", MQTT_MALFORMED_PACKET, "MQTT-2.1.3-1"},
      {"flags", MQTT_5_0, C, "78 0001", MQTT_MALFORMED_PACKET, "MQTT-2.1.3-1"},
      {"flags in 3.1", MQTT_3_1, C, "42 0001", MQTT_SUCCESS, NULL},
      {"PUBREL flags", MQTT_3_1, C, "60 0001", MQTT_MALFORMED_PACKET, "MQTT-3.6.1-1"},
      {"PUBREL flags", MQTT_3_1_1, C, "60 0001", MQTT_MALFORMED_PACKET, "MQTT-3.6.1-1"},
      {"PUBREL flags", MQTT_3_1_1, C, "6a 0001", MQTT_MALFORMED_PACKET, "MQTT-3.6.1-1"},
      {"PUBREL flags", MQTT_5_0, S, "63 0001", MQTT_MALFORMED_PACKET, "MQTT-3.6.1-1"},
      {"identifier 0", MQTT_3_1_1, C, "40 0000", MQTT_PROTOCOL_ERROR, "MQTT-2.3.1-6"},
      {"identifier 0", MQTT_5_0, C, "62 0000", MQTT_PROTOCOL_ERROR, "MQTT-2.2.1-5"},
      {"half an identifier", MQTT_5_0, C, "40 00", MQTT_MALFORMED_PACKET, NULL},
      {"nothing", MQTT_3_1_1, C, "40", MQTT_MALFORMED_PACKET, NULL},
      {"more than an identifier", MQTT_3_1, C, "40 0001 00", MQTT_MALFORMED_PACKET, NULL},
      {"more than an identifier", MQTT_3_1_1, C, "62 0001 00", MQTT_MALFORMED_PACKET, NULL},
      {"more than properties", MQTT_5_0, C, "40 0001 00 00 00", MQTT_MALFORMED_PACKET, NULL},
  };
  RUN_PACKET_CASES(cases);
}

static void ack_reasons_are_read(void **state)
{
  (void)state;
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes(MQTT_5_0, C, "50 1234 97 05 1f0002'no'", bytes, &packet);
  assert_int_equal(packet.ack.packet_id, 0x1234);
  assert_int_equal(packet.ack.reason, MQTT_QUOTA_EXCEEDED);
  assert_true(MQTT_HAS(&packet.ack.properties, REASON_STRING));
  assert_span_text(packet.ack.properties.reason_string, "no");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(publish_is_judged),
      cmocka_unit_test(publish_fields_are_read),
      cmocka_unit_test(properties_are_left_alone_when_there_are_none),
      cmocka_unit_test(odd_bytes_are_found_wherever_they_are),
      cmocka_unit_test(longest_topic),
      cmocka_unit_test(acknowledgements_are_judged),
      cmocka_unit_test(ack_reasons_are_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
