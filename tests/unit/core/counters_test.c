// Names and sums of what a shard counts.
#include "test.h"

#include "core/counters.h"
#include "core/limits.h"

static void reasons_have_their_own_names(void **state)
{
  (void)state;
  for (unsigned i = 0; i < DROP_REASONS; i++) {
    assert_non_null(drop_reason_name((enum drop_reason)i));
    for (unsigned k = 0; k < i; k++)
      assert_string_not_equal(drop_reason_name((enum drop_reason)i), drop_reason_name((enum drop_reason)k));
  }
  for (unsigned i = 0; i < REFUSE_REASONS; i++) {
    assert_non_null(refuse_reason_name((enum refuse_reason)i));
    for (unsigned k = 0; k < i; k++)
      assert_string_not_equal(refuse_reason_name((enum refuse_reason)i), refuse_reason_name((enum refuse_reason)k));
  }
  assert_string_equal(drop_reason_name(DROP_QUEUE_FULL), "queue_full");
  assert_string_equal(refuse_reason_name(REFUSE_MEMORY), "memory");
}

static void every_field_is_added(void **state)
{
  (void)state;
  enum { FIELDS = sizeof(struct counters) / sizeof(uint64_t) };
  struct counters a, b;
  uint64_t values[FIELDS];
  for (size_t i = 0; i < FIELDS; i++) values[i] = i + 1;
  memcpy(&a, values, sizeof a);
  for (size_t i = 0; i < FIELDS; i++) values[i] = 1000 * i;
  memcpy(&b, values, sizeof b);
  counters_add(&a, &b);
  memcpy(values, &a, sizeof a);
  for (size_t i = 0; i < FIELDS; i++) assert_int_equal(values[i], 1001 * i + 1);
}

// A limit of nothing would be a broker that takes nothing.
static void defaults_allow_something(void **state)
{
  (void)state;
  struct limits limits = limits_default();
  assert_true(limits.packet_size >= 1024);
  assert_true(limits.in_flight > 0);
  assert_true(limits.topic_levels > 1);
  assert_true(limits.subscriptions > 0);
  assert_true(limits.queue_bytes > limits.packet_size);
  assert_true(limits.output_bytes > 0);
  assert_true(limits.retained_bytes > limits.packet_size);
  assert_true(limits.connect_timeout_ms > 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reasons_have_their_own_names),
      cmocka_unit_test(every_field_is_added),
      cmocka_unit_test(defaults_allow_something),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
