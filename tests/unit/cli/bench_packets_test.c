#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bench_packets.h"

static const enum mqtt_version versions[] = {MQTT_3_1, MQTT_3_1_1, MQTT_5_0};
enum { VERSIONS = sizeof versions / sizeof versions[0] };

static struct span body_of(const uint8_t *packet, size_t size, uint8_t *out_first)
{
  struct mqtt_fixed_header header = {0};
  assert_int_equal(mqtt_fixed_header(span_of(packet, size), &header), MQTT_HEADER_OK);
  assert_int_equal(header.size + header.remaining, size);
  *out_first = header.first;
  return span_of(packet + header.size, header.remaining);
}

static struct mqtt_packet decode(enum mqtt_version version, const uint8_t *bytes, size_t size)
{
  struct mqtt_packet packet = {0};
  struct mqtt_fault fault;
  uint8_t first;
  struct span body = body_of(bytes, size, &first);
  assert_true(mqtt_decode(version, MQTT_FROM_CLIENT, first, body, &packet, &fault));
  return packet;
}

static void assert_span(struct span span, const char *text)
{
  assert_true(span_equal(span, span_text(text)));
}

static void test_connect(void **state)
{
  (void)state;
  for (size_t i = 0; i < VERSIONS; i++) {
    struct buffer out = {0};
    struct packet_login login = {.version = versions[i],
                                 .client_id = "b1-p0",
                                 .user_name = "ann",
                                 .password = "secret",
                                 .clean_start = true,
                                 .session_expiry_s = 60};
    assert_int_equal(packet_write_connect(&login, &out), OK);
    struct mqtt_packet packet = decode(versions[i], out.data, out.end);
    assert_int_equal(packet.type, MQTT_CONNECT);
    assert_int_equal(packet.connect.version, versions[i]);
    assert_true(packet.connect.clean_start);
    assert_int_equal(packet.connect.keep_alive_s, 0);
    assert_false(packet.connect.will.present);
    assert_span(packet.connect.client_id, "b1-p0");
    assert_span(packet.connect.user_name, "ann");
    assert_span(packet.connect.password, "secret");
    if (versions[i] == MQTT_5_0) assert_int_equal(packet.connect.properties.session_expiry_s, 60);
    buffer_deinit(&out);
  }
}

static void test_subscribe(void **state)
{
  (void)state;
  struct shape shape = {.prefix = "bench/x", .publishers = 1, .subscribers = 3, .topics = 1, .filters = 20};
  for (size_t i = 0; i < VERSIONS; i++) {
    struct buffer out = {0};
    assert_int_equal(packet_write_subscribe(versions[i], &shape, 2, NULL, 1, &out), OK);
    struct mqtt_packet packet = decode(versions[i], out.data, out.end);
    assert_int_equal(packet.type, MQTT_SUBSCRIBE);
    assert_int_equal(packet.subscribe.count, 20);
    size_t cursor = 0;
    struct mqtt_subscription subscription;
    for (uint32_t filter = 0; filter < 20; filter++) {
      char text[SHAPE_TEXT_SIZE];
      (void)shape_filter(&shape, 2, filter, text);
      assert_true(mqtt_next_subscription(versions[i], &packet.subscribe, &cursor, &subscription));
      assert_span(subscription.filter, text);
      assert_int_equal(subscription.qos, 1);
    }
    assert_false(mqtt_next_subscription(versions[i], &packet.subscribe, &cursor, &subscription));
    buffer_deinit(&out);
  }
}

static void test_subscribe_to_one_filter(void **state)
{
  (void)state;
  struct buffer out = {0};
  assert_int_equal(packet_write_subscribe(MQTT_5_0, NULL, 0, "bench/c/1", 2, &out), OK);
  struct mqtt_packet packet = decode(MQTT_5_0, out.data, out.end);
  struct mqtt_subscription subscription;
  size_t cursor = 0;
  assert_int_equal(packet.subscribe.count, 1);
  assert_true(mqtt_next_subscription(MQTT_5_0, &packet.subscribe, &cursor, &subscription));
  assert_span(subscription.filter, "bench/c/1");
  assert_int_equal(subscription.qos, 2);
  buffer_deinit(&out);
}

// What is written where the template says must come out of the library's decoder, and out of the fast reader too.
static void test_template(void **state)
{
  (void)state;
  static const size_t payload_sizes[] = {SHAPE_STAMP_SIZE, 64, 1024, 20000};
  for (size_t i = 0; i < VERSIONS * 3 * 4; i++) {
    enum mqtt_version version = versions[i % VERSIONS];
    uint8_t qos = (uint8_t)(i / VERSIONS % 3);
    size_t payload_size = payload_sizes[i / (VERSIONS * 3)];
    struct packet_template template;
    assert_int_equal(packet_template_init(&template, version, "bench/x/0001", qos, payload_size), OK);
    struct stamp stamp = {.publisher = 3, .number = 4, .time_ns = 5};
    stamp_write(template.bytes + template.payload_at, stamp);
    assert_int_equal(template.packet_id_at != 0, qos != 0);
    if (qos) {
      template.bytes[template.packet_id_at] = 0x12;
      template.bytes[template.packet_id_at + 1] = 0x34;
    }
    struct mqtt_packet packet = decode(version, template.bytes, template.size);
    assert_int_equal(packet.type, MQTT_PUBLISH);
    assert_int_equal(packet.publish.qos, qos);
    assert_int_equal(packet.publish.packet_id, qos ? 0x1234 : 0);
    assert_span(packet.publish.topic, "bench/x/0001");
    assert_int_equal(packet.publish.payload.size, payload_size);
    struct packet_publish publish = {0};
    uint8_t first;
    struct span body = body_of(template.bytes, template.size, &first);
    assert_true(packet_read_publish(version, first, body, &publish));
    assert_ptr_equal(publish.payload.at, packet.publish.payload.at);
    assert_int_equal(publish.payload.size, payload_size);
    assert_int_equal(publish.packet_id, packet.publish.packet_id);
    assert_int_equal(publish.qos, qos);
    struct stamp back = stamp_read(publish.payload.at);
    assert_memory_equal(&back, &stamp, sizeof stamp);
    assert_true(packet_payload_intact(&template, publish.payload.at));
    packet_template_deinit(&template);
  }
}

static void test_payload_damage_is_seen(void **state)
{
  (void)state;
  struct packet_template template;
  assert_int_equal(packet_template_init(&template, MQTT_5_0, "t", 0, 40), OK);
  uint8_t payload[40];
  memcpy(payload, template.bytes + template.payload_at, sizeof payload);
  for (size_t i = 0; i < sizeof payload; i++) {
    payload[i] ^= 1;
    // The stamp is not part of the pattern.
    assert_int_equal(packet_payload_intact(&template, payload), i < SHAPE_STAMP_SIZE);
    payload[i] ^= 1;
  }
  packet_template_deinit(&template);
}

static void test_properties_are_skipped(void **state)
{
  (void)state;
  uint8_t packet[512];
  uint8_t value[200];
  memset(value, 'v', sizeof value);
  uint8_t user[256];
  size_t user_size = mqtt_write_user_property(user, sizeof user, span_text("k"), span_of(value, sizeof value));
  struct mqtt_packet publish = {.type = MQTT_PUBLISH};
  publish.publish.topic = span_text("a/b");
  publish.publish.payload = span_text("0123456789abcdef");
  publish.publish.properties.present = UINT64_C(1) << MQTT_PROPERTY_USER;
  publish.publish.properties.user = span_of(user, user_size);
  size_t size = mqtt_encode(MQTT_5_0, &publish, packet, sizeof packet);
  assert_true(size > 200);
  uint8_t first;
  struct span body = body_of(packet, size, &first);
  struct packet_publish read = {0};
  assert_true(packet_read_publish(MQTT_5_0, first, body, &read));
  assert_span(read.payload, "0123456789abcdef");
}

// Cut anywhere before the payload it must be refused, and nothing behind the cut may be read: the copy is exact.
static void test_publish_cut_short(void **state)
{
  (void)state;
  for (size_t i = 0; i < VERSIONS; i++) {
    struct packet_template template;
    assert_int_equal(packet_template_init(&template, versions[i], "abc", 1, SHAPE_STAMP_SIZE), OK);
    uint8_t first;
    struct span body = body_of(template.bytes, template.size, &first);
    size_t needed = body.size - SHAPE_STAMP_SIZE;
    for (size_t size = 0; size <= body.size; size++) {
      uint8_t *copy = malloc(size ? size : 1);
      memcpy(copy, body.at, size);
      struct packet_publish publish = {0};
      assert_int_equal(packet_read_publish(versions[i], first, span_of(copy, size), &publish), size >= needed);
      free(copy);
    }
    packet_template_deinit(&template);
  }
}

static void test_publish_that_lies(void **state)
{
  (void)state;
  struct packet_publish publish = {0};
  const uint8_t long_topic[] = {0xff, 0xff, 'a', 'b', 0};
  assert_false(packet_read_publish(MQTT_3_1_1, 0x30, span_of(long_topic, sizeof long_topic), &publish));
  const uint8_t long_properties[] = {0, 1, 'a', 0xff, 0xff, 0xff, 0x7f, 1};
  assert_false(packet_read_publish(MQTT_5_0, 0x30, span_of(long_properties, sizeof long_properties), &publish));
  const uint8_t endless_length[] = {0, 1, 'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0};
  assert_false(packet_read_publish(MQTT_5_0, 0x30, span_of(endless_length, sizeof endless_length), &publish));
  const uint8_t qos_3[] = {0, 1, 'a', 0, 1, 0, 'x'};
  assert_false(packet_read_publish(MQTT_5_0, 0x36, span_of(qos_3, sizeof qos_3), &publish));
}

static void test_ack(void **state)
{
  (void)state;
  const uint8_t bytes[] = {0x12, 0x34, 0x97, 0};
  struct packet_ack ack = {0};
  assert_false(packet_read_ack(span_of(bytes, 0), &ack));
  assert_false(packet_read_ack(span_of(bytes, 1), &ack));
  assert_true(packet_read_ack(span_of(bytes, 2), &ack));
  assert_int_equal(ack.packet_id, 0x1234);
  assert_int_equal(ack.reason, MQTT_SUCCESS);
  assert_true(packet_read_ack(span_of(bytes, 3), &ack));
  assert_int_equal(ack.reason, MQTT_QUOTA_EXCEEDED);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_connect),
      cmocka_unit_test(test_subscribe),
      cmocka_unit_test(test_subscribe_to_one_filter),
      cmocka_unit_test(test_template),
      cmocka_unit_test(test_payload_damage_is_seen),
      cmocka_unit_test(test_properties_are_skipped),
      cmocka_unit_test(test_publish_cut_short),
      cmocka_unit_test(test_publish_that_lies),
      cmocka_unit_test(test_ack),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
