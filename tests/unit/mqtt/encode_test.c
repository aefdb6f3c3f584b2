#include "bytes.h"

#include "mqtt/topic.h"

static void check_bytes(const char *what, enum mqtt_version version, const struct mqtt_packet *packet, const char *wanted)
{
  uint8_t bytes[BYTES_MAX];
  uint8_t out[BYTES_MAX];
  size_t size = bytes_parse(wanted, bytes);
  if (mqtt_encoded_size(version, packet) != size)
    fail_msg("%s: %zu bytes instead of %zu", what, mqtt_encoded_size(version, packet), size);
  // Not a byte beyond what it says, and nothing at all when there is one too few.
  struct span exact = exact_copy(out, size);
  union {
    const uint8_t *borrowed;
    uint8_t *writable;
  } memory = {.borrowed = exact.at};
  assert_int_equal(mqtt_encode(version, packet, memory.writable, size), size);
  assert_memory_equal(memory.writable, bytes, size);
  memory.writable[0] = 0xee;
  assert_int_equal(mqtt_encode(version, packet, memory.writable, size - 1), 0);
  assert_int_equal(memory.writable[0], 0xee);
  exact_free(exact);
}

static void connect_packets(void **state)
{
  (void)state;
  struct mqtt_packet packet = {.type = MQTT_CONNECT,
                               .connect = {.version = MQTT_3_1_1, .clean_start = true, .keep_alive_s = 60}};
  struct mqtt_connect *connect = &packet.connect;
  connect->client_id = span_text("cli");
  check_bytes("plain", MQTT_3_1_1, &packet, "10 0f 0004'MQTT' 04 02 003c 0003'cli'");
  connect->bridge = true;
  check_bytes("bridge", MQTT_3_1_1, &packet, "10 0f 0004'MQTT' 84 02 003c 0003'cli'");
  connect->version = MQTT_3_1;
  check_bytes("its own version counts", MQTT_5_0, &packet, "10 11 0006'MQIsdp' 83 02 003c 0003'cli'");
  connect->version = MQTT_5_0;
  check_bytes("no bridge bit in 5.0", MQTT_5_0, &packet, "10 10 0004'MQTT' 05 02 003c 00 0003'cli'");
  connect->will = (struct mqtt_will){.present = true, .qos = 2, .retain = true};
  connect->will.topic = span_text("w");
  connect->will.payload = span_text("bye");
  connect->will.properties.present = UINT64_C(1) << MQTT_PROPERTY_WILL_DELAY;
  connect->will.properties.will_delay_s = 5;
  connect->properties.present = UINT64_C(1) << MQTT_PROPERTY_RECEIVE_MAXIMUM;
  connect->properties.receive_maximum = 20;
  connect->has_user_name = true;
  connect->user_name = span_text("user");
  connect->has_password = true;
  connect->password = span_of("\0\xff", 2);
  check_bytes("everything", MQTT_5_0, &packet,
              "10 2b 0004'MQTT' 05 f6 003c 03 210014 0003'cli' 05 1800000005 0001'w' 0003'bye' 0004'user' 0002 00ff");
  connect->version = MQTT_3_1_1;
  check_bytes("no properties in 3.1.1", MQTT_3_1_1, &packet,
              "10 21 0004'MQTT' 84 f6 003c 0003'cli' 0001'w' 0003'bye' 0004'user' 0002 00ff");
}

static void connack_packets(void **state)
{
  (void)state;
  struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.session_present = true}};
  check_bytes("present", MQTT_3_1, &packet, "20 02 0000");
  check_bytes("present", MQTT_3_1_1, &packet, "20 02 0100");
  check_bytes("present", MQTT_5_0, &packet, "20 03 0100 00");
  packet.connack.reason = MQTT_NOT_AUTHORIZED;
  check_bytes("refused", MQTT_3_1_1, &packet, "20 02 0005");
  check_bytes("refused", MQTT_5_0, &packet, "20 03 0087 00");
  packet.connack.properties.present = UINT64_C(1) << MQTT_PROPERTY_MAXIMUM_QOS | UINT64_C(1) << MQTT_PROPERTY_REASON_STRING;
  packet.connack.properties.reason_string = span_text("no");
  check_bytes("properties by number", MQTT_5_0, &packet, "20 0a 0087 07 1f0002'no' 2400");
  check_bytes("no properties before 5.0", MQTT_3_1_1, &packet, "20 02 0005");
}

static void publish_packets(void **state)
{
  (void)state;
  struct mqtt_packet packet = {.type = MQTT_PUBLISH};
  struct mqtt_publish *publish = &packet.publish;
  publish->topic = span_text("a/b");
  publish->payload = span_text("hi");
  check_bytes("QoS 0", MQTT_3_1_1, &packet, "30 07 0003'a/b' 'hi'");
  check_bytes("QoS 0", MQTT_5_0, &packet, "30 08 0003'a/b' 00 'hi'");
  publish->dup = true;
  check_bytes("never DUP at QoS 0", MQTT_3_1_1, &packet, "30 07 0003'a/b' 'hi'");
  publish->qos = 2;
  publish->retain = true;
  publish->packet_id = 0x1234;
  check_bytes("QoS 2", MQTT_3_1_1, &packet, "3d 09 0003'a/b' 1234 'hi'");
  static const uint32_t ids[] = {1, 128, MQTT_MAX_REMAINING_LENGTH};
  uint8_t user[64];
  publish->properties.present = UINT64_C(1) << MQTT_PROPERTY_TOPIC_ALIAS | UINT64_C(1) << MQTT_PROPERTY_MESSAGE_EXPIRY;
  publish->properties.topic_alias = 7;
  publish->properties.message_expiry_s = 60;
  publish->properties.subscription_ids = ids;
  publish->properties.subscription_id_count = 3;
  publish->properties.user = span_of(user, mqtt_write_user_property(user, sizeof user, span_text("k"), span_text("v")));
  publish->topic = span_of(NULL, 0);
  check_bytes("properties", MQTT_5_0, &packet,
              "3d 20 0000 1234 19 02 0000003c 230007 0b01 0b8001 0bffffff7f 26 0001'k' 0001'v' 'hi'");
  publish->properties = (struct mqtt_properties){.present = UINT64_C(1) << MQTT_PROPERTY_WILL_DELAY, .will_delay_s = 9};
  publish->topic = span_text("a");
  check_bytes("what PUBLISH cannot have is left out", MQTT_5_0, &packet, "3d 08 0001'a' 1234 00 'hi'");
}

static void forwarded_properties_may_stand_for_user_properties(void **state)
{
  (void)state;
  uint8_t raw[BYTES_MAX];
  uint8_t forwarded[BYTES_MAX];
  size_t size = bytes_parse("0101 230001 26 0001'k' 0001'v' 02 0000000a", raw);
  size_t forwarded_size = mqtt_forward_properties(span_of(raw, size), forwarded);
  struct mqtt_packet packet = {.type = MQTT_PUBLISH, .publish = {.payload = span_text("hi")}};
  packet.publish.topic = span_text("a");
  packet.publish.properties.user = span_of(forwarded, forwarded_size);
  packet.publish.properties.present = UINT64_C(1) << MQTT_PROPERTY_MESSAGE_EXPIRY;
  packet.publish.properties.message_expiry_s = 9;
  check_bytes("forwarded", MQTT_5_0, &packet, "30 14 0001'a' 0e 02 00000009 0101 26 0001'k' 0001'v' 'hi'");
}

static void shortest_acknowledgements(void **state)
{
  (void)state;
  static const uint8_t firsts[] = {0x40, 0x50, 0x62, 0x70};
  for (unsigned i = 0; i < 4; i++) {
    char wanted[64];
    struct mqtt_packet packet = {.type = (enum mqtt_packet_type)(MQTT_PUBACK + i), .ack = {.packet_id = 0x1234}};
    snprintf(wanted, sizeof wanted, "%02x 02 1234", firsts[i]);
    check_bytes("success", MQTT_3_1, &packet, wanted);
    check_bytes("success", MQTT_5_0, &packet, wanted);
    packet.ack.reason = MQTT_PACKET_ID_NOT_FOUND;
    check_bytes("no reasons before 5.0", MQTT_3_1_1, &packet, wanted);
    snprintf(wanted, sizeof wanted, "%02x 03 1234 92", firsts[i]);
    check_bytes("reason", MQTT_5_0, &packet, wanted);
    packet.ack.reason = MQTT_SUCCESS;
    packet.ack.properties.present = UINT64_C(1) << MQTT_PROPERTY_REASON_STRING;
    packet.ack.properties.reason_string = span_text("ok");
    snprintf(wanted, sizeof wanted, "%02x 09 1234 00 05 1f0002'ok'", firsts[i]);
    check_bytes("properties", MQTT_5_0, &packet, wanted);
    packet.ack.properties.present = UINT64_C(1) << MQTT_PROPERTY_WILL_DELAY;
    snprintf(wanted, sizeof wanted, "%02x 02 1234", firsts[i]);
    check_bytes("only properties that it cannot have", MQTT_5_0, &packet, wanted);
  }
}

static void subscriptions_and_answers(void **state)
{
  (void)state;
  struct mqtt_packet packet = {.type = MQTT_SUBSCRIBE, .subscribe = {.packet_id = 1, .count = 1}};
  packet.subscribe.payload = span_of("\0\1#\2", 4);
  check_bytes("SUBSCRIBE", MQTT_3_1_1, &packet, "82 06 0001 0001'#' 02");
  packet.subscribe.properties.present = UINT64_C(1) << MQTT_PROPERTY_SUBSCRIPTION_ID;
  packet.subscribe.properties.subscription_id = 300;
  check_bytes("SUBSCRIBE", MQTT_5_0, &packet, "82 0a 0001 03 0bac02 0001'#' 02");

  packet = (struct mqtt_packet){.type = MQTT_UNSUBSCRIBE, .unsubscribe = {.packet_id = 1, .count = 1}};
  packet.unsubscribe.payload = span_of("\0\1#", 3);
  check_bytes("UNSUBSCRIBE", MQTT_3_1_1, &packet, "a2 05 0001 0001'#'");
  check_bytes("UNSUBSCRIBE", MQTT_5_0, &packet, "a2 06 0001 00 0001'#'");

  packet = (struct mqtt_packet){.type = MQTT_SUBACK, .suback = {.packet_id = 1}};
  packet.suback.codes = span_of("\0\1\2\x80\x87\x8f", 6);
  check_bytes("SUBACK", MQTT_3_1, &packet, "90 08 0001 00 01 02 80 80 80");
  check_bytes("SUBACK", MQTT_3_1_1, &packet, "90 08 0001 00 01 02 80 80 80");
  check_bytes("SUBACK", MQTT_5_0, &packet, "90 09 0001 00 00 01 02 80 87 8f");
  packet.type = MQTT_UNSUBACK;
  packet.suback.codes = span_of("\0\x11", 2);
  check_bytes("UNSUBACK", MQTT_3_1_1, &packet, "b0 02 0001");
  check_bytes("UNSUBACK", MQTT_5_0, &packet, "b0 05 0001 00 00 11");
}

static void ends(void **state)
{
  (void)state;
  struct mqtt_packet packet = {.type = MQTT_PINGREQ};
  check_bytes("PINGREQ", MQTT_3_1_1, &packet, "c0 00");
  packet.type = MQTT_PINGRESP;
  check_bytes("PINGRESP", MQTT_5_0, &packet, "d0 00");
  packet = (struct mqtt_packet){.type = MQTT_DISCONNECT};
  check_bytes("DISCONNECT", MQTT_3_1_1, &packet, "e0 00");
  check_bytes("DISCONNECT", MQTT_5_0, &packet, "e0 00");
  packet.disconnect.reason = MQTT_SERVER_SHUTTING_DOWN;
  check_bytes("DISCONNECT", MQTT_3_1_1, &packet, "e0 00");
  check_bytes("DISCONNECT", MQTT_5_0, &packet, "e0 01 8b");
  packet.disconnect.properties.present = UINT64_C(1) << MQTT_PROPERTY_SERVER_REFERENCE;
  packet.disconnect.properties.server_reference = span_text("b");
  check_bytes("DISCONNECT", MQTT_5_0, &packet, "e0 06 8b 04 1c0001'b'");
  packet = (struct mqtt_packet){.type = MQTT_AUTH};
  check_bytes("AUTH", MQTT_5_0, &packet, "f0 00");
  assert_int_equal(mqtt_encoded_size(MQTT_3_1_1, &packet), 0);
  packet.disconnect.reason = MQTT_CONTINUE_AUTHENTICATION;
  packet.disconnect.properties.present = UINT64_C(1) << MQTT_PROPERTY_AUTHENTICATION_METHOD;
  packet.disconnect.properties.authentication_method = span_text("m");
  check_bytes("AUTH", MQTT_5_0, &packet, "f0 06 18 04 150001'm'");
}

static void what_is_too_long_is_refused(void **state)
{
  (void)state;
  size_t size = MQTT_MAX_STRING + 1;
  uint8_t *text = malloc(size);
  uint8_t *out = malloc(2 * size);
  assert_non_null(text);
  assert_non_null(out);
  memset(text, 'x', size);
  struct mqtt_packet packet = {.type = MQTT_PUBLISH};
  packet.publish.topic = span_of(text, MQTT_MAX_STRING);
  assert_int_equal(mqtt_encode(MQTT_3_1_1, &packet, out, 2 * size), 1 + 3 + 2 + MQTT_MAX_STRING);
  packet.publish.topic = span_of(text, size);
  assert_int_equal(mqtt_encoded_size(MQTT_3_1_1, &packet), 0);
  assert_int_equal(mqtt_encode(MQTT_3_1_1, &packet, out, 2 * size), 0);
  packet.publish.topic = span_text("a");
  packet.publish.properties.present = UINT64_C(1) << MQTT_PROPERTY_CORRELATION_DATA;
  packet.publish.properties.correlation_data = span_of(text, size);
  assert_int_equal(mqtt_encoded_size(MQTT_5_0, &packet), 0);
  packet.publish.properties.correlation_data.size--;
  assert_int_equal(mqtt_encoded_size(MQTT_5_0, &packet), 1 + 3 + 3 + 3 + 3 + MQTT_MAX_STRING);
  // The largest packet that there is, and one byte more; encoding to learn the size reads no payload.
  packet.publish.properties = (struct mqtt_properties){.present = 0};
  packet.publish.payload = span_of(text, MQTT_MAX_REMAINING_LENGTH - 3);
  assert_int_equal(mqtt_encoded_size(MQTT_3_1_1, &packet), 5 + MQTT_MAX_REMAINING_LENGTH);
  packet.publish.payload.size++;
  assert_int_equal(mqtt_encoded_size(MQTT_3_1_1, &packet), 0);
  assert_int_equal(mqtt_encode(MQTT_3_1_1, &packet, out, 2 * size), 0);
  free(text);
  free(out);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(connect_packets),
      cmocka_unit_test(connack_packets),
      cmocka_unit_test(publish_packets),
      cmocka_unit_test(forwarded_properties_may_stand_for_user_properties),
      cmocka_unit_test(shortest_acknowledgements),
      cmocka_unit_test(subscriptions_and_answers),
      cmocka_unit_test(ends),
      cmocka_unit_test(what_is_too_long_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
