#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/span.h"
#include "cli/bench_shape.h"
#include "mqtt/topic.h"

static bool filters_match(const struct shape *shape, uint32_t subscriber, const char *topic, uint32_t *out_matching)
{
  *out_matching = 0;
  for (uint32_t i = 0; i < shape_filter_count(shape); i++) {
    char filter[SHAPE_TEXT_SIZE];
    size_t size = shape_filter(shape, subscriber, i, filter);
    assert_int_equal(size, strlen(filter));
    struct mqtt_filter parsed;
    assert_true(mqtt_filter_parse(span_text(filter), &parsed));
    if (mqtt_filter_matches(parsed.filter, span_text(topic))) (*out_matching)++;
  }
  return *out_matching > 0;
}

// shape_hears must say exactly what the filters say when a broker matches them, and no message may match two of them.
static void check(const struct shape *shape)
{
  for (uint32_t p = 0; p < shape->publishers; p++) {
    size_t length = 0;
    for (uint32_t t = 0; t < shape_topics_per_publisher(shape); t++) {
      char topic[SHAPE_TEXT_SIZE];
      size_t size = shape_topic(shape, p, t, topic);
      assert_int_equal(size, strlen(topic));
      assert_true(mqtt_topic_valid(span_text(topic)));
      if (t) assert_int_equal(size, length);
      length = size;
      for (uint32_t s = 0; s < shape->subscribers; s++) {
        uint32_t matching;
        assert_int_equal(filters_match(shape, s, topic, &matching), shape_hears(shape, s, p, t));
        assert_true(matching <= 1);
      }
    }
  }
}

static uint32_t count_listeners(const struct shape *shape, uint32_t publisher)
{
  uint32_t count = 0;
  for (uint32_t s = 0; s < shape->subscribers; s++) count += shape_hears(shape, s, publisher, 0);
  return count;
}

static void test_dealt_out(void **state)
{
  (void)state;
  static const uint32_t rows[][3] = {{1, 1, 1}, {4, 4, 4}, {50, 1, 1}, {1, 50, 1}, {5, 7, 3}, {8, 3, 2}, {6, 9, 6}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    struct shape shape = {.prefix = "bench/x", .publishers = rows[i][0], .subscribers = rows[i][1], .topics = rows[i][2]};
    check(&shape);
    uint32_t most = 0;
    for (uint32_t s = 0; s < shape.subscribers; s++) {
      uint32_t heard = 0;
      for (uint32_t p = 0; p < shape.publishers; p++) heard += shape_hears(&shape, s, p, 0);
      if (heard > most) most = heard;
    }
    assert_int_equal(shape_heard(&shape), most);
    for (uint32_t p = 0; p < shape.publishers; p++) assert_int_equal(shape_listeners(&shape, p), count_listeners(&shape, p));
  }
}

static void test_wildcards(void **state)
{
  (void)state;
  static const uint32_t filters[] = {1, 7, 20, SHAPE_WILDCARD_TOPICS};
  for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
    struct shape shape = {.prefix = "bench/x", .publishers = 2, .subscribers = 13, .topics = 1, .filters = filters[i]};
    check(&shape);
    assert_int_equal(shape_listeners(&shape, 1), 13);
    assert_int_equal(shape_heard(&shape), 2);
  }
}

static void test_wildcards_are_spread_evenly(void **state)
{
  (void)state;
  struct shape shape = {.prefix = "b", .publishers = 1, .subscribers = 100, .topics = 1, .filters = 20};
  for (uint32_t t = 0; t < SHAPE_WILDCARD_TOPICS; t++) {
    uint32_t listeners = 0;
    for (uint32_t s = 0; s < shape.subscribers; s++) listeners += shape_hears(&shape, s, 0, t);
    assert_int_equal(listeners, 10);
  }
}

static void test_stamp(void **state)
{
  (void)state;
  uint8_t payload[SHAPE_STAMP_SIZE + 3] = {0};
  struct stamp stamp = {.publisher = 7, .number = UINT32_MAX, .time_ns = UINT64_C(0x123456789abcdef)};
  stamp_write(payload + 1, stamp);
  struct stamp back = stamp_read(payload + 1);
  assert_memory_equal(&back, &stamp, sizeof stamp);
  assert_int_equal(payload[0], 0);
  assert_int_equal(payload[SHAPE_STAMP_SIZE + 1], 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_dealt_out),
      cmocka_unit_test(test_wildcards),
      cmocka_unit_test(test_wildcards_are_spread_evenly),
      cmocka_unit_test(test_stamp),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
