#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/prng.h"
#include "cli/bench_verify.h"

static void feed(struct tracker *tracker, struct verdict *verdict, const uint32_t *numbers, size_t count)
{
  for (size_t i = 0; i < count; i++) tracker_receive(tracker, numbers[i], verdict);
}

#define FEED(...)                                                                                                           \
  struct tracker tracker = {0};                                                                                             \
  struct verdict verdict = {0};                                                                                             \
  const uint32_t numbers_[] = {__VA_ARGS__};                                                                                \
  feed(&tracker, &verdict, numbers_, sizeof numbers_ / sizeof numbers_[0])

static void expect(const struct verdict *verdict, uint64_t received, uint64_t duplicates, uint64_t disordered)
{
  assert_int_equal(verdict->received, received);
  assert_int_equal(verdict->duplicates, duplicates);
  assert_int_equal(verdict->disordered, disordered);
}

static void test_in_order(void **state)
{
  (void)state;
  FEED(0, 1, 2, 3, 4);
  expect(&verdict, 5, 0, 0);
  assert_int_equal(tracker.missing, 0);
}

static void test_gap(void **state)
{
  (void)state;
  FEED(0, 1, 4, 5);
  expect(&verdict, 4, 0, 0);
  assert_int_equal(tracker.missing, 2);
}

static void test_first_is_missing(void **state)
{
  (void)state;
  FEED(1, 2);
  expect(&verdict, 2, 0, 0);
  assert_int_equal(tracker.missing, 1);
}

static void test_swapped(void **state)
{
  (void)state;
  FEED(0, 2, 1, 3);
  expect(&verdict, 4, 0, 1);
  assert_int_equal(tracker.missing, 0);
}

static void test_repeated(void **state)
{
  (void)state;
  FEED(0, 1, 1, 2, 0, 3);
  expect(&verdict, 4, 2, 0);
}

static void test_repeated_beside_a_gap(void **state)
{
  (void)state;
  // 1 is missing; 2 and 3 come twice; then 1 comes late, and again.
  FEED(0, 2, 3, 2, 3, 1, 1);
  expect(&verdict, 4, 3, 1);
  assert_int_equal(tracker.missing, 0);
}

static void test_gap_wider_than_the_window(void **state)
{
  (void)state;
  FEED(0, 500, 501, 500, 0);
  // 0 lies before the window while numbers are missing: taken for a late one.
  expect(&verdict, 4, 1, 1);
  assert_int_equal(tracker.missing, 498);
}

static void test_window_edges(void **state)
{
  (void)state;
  for (uint32_t jump = TRACKER_WINDOW - 3; jump <= TRACKER_WINDOW + 3; jump++) {
    struct tracker tracker = {0};
    struct verdict verdict = {0};
    tracker_receive(&tracker, 0, &verdict);
    tracker_receive(&tracker, jump, &verdict);
    tracker_receive(&tracker, jump, &verdict);
    tracker_receive(&tracker, jump - 1, &verdict);
    expect(&verdict, 3, 1, 1);
    assert_int_equal(tracker.missing, jump - 2);
  }
}

// Against a list that remembers everything, with mishaps that stay inside the window.
static void test_like_a_dumb_list(void **state)
{
  (void)state;
  enum { COUNT = 3000 };
  for (uint64_t seed = 1; seed <= 50; seed++) {
    struct prng prng;
    prng_seed(&prng, seed);
    struct tracker tracker = {0};
    struct verdict verdict = {0};
    uint8_t *seen = calloc(COUNT, 1);
    uint64_t received = 0, duplicates = 0, disordered = 0;
    uint32_t highest = 0;
    for (uint32_t next = 0; next < COUNT;) {
      uint32_t number = next;
      if (prng_below(&prng, 5) == 0 && next > 0) {
        uint32_t back = (uint32_t)prng_below(&prng, next < 20 ? next : 20);
        number = next - 1 - back;
      } else {
        next += prng_below(&prng, 10) == 0 ? 2 : 1;
        number = next - 1;
      }
      if (number >= COUNT) break;
      if (seen[number])
        duplicates++;
      else if (number < highest)
        disordered++;
      if (!seen[number]) received++;
      seen[number] = 1;
      if (number > highest) highest = number;
      tracker_receive(&tracker, number, &verdict);
    }
    uint32_t missing = 0;
    for (uint32_t i = 0; i < highest; i++) missing += !seen[i];
    expect(&verdict, received, duplicates, disordered);
    assert_int_equal(tracker.missing, missing);
    free(seen);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_in_order),
      cmocka_unit_test(test_gap),
      cmocka_unit_test(test_first_is_missing),
      cmocka_unit_test(test_swapped),
      cmocka_unit_test(test_repeated),
      cmocka_unit_test(test_repeated_beside_a_gap),
      cmocka_unit_test(test_gap_wider_than_the_window),
      cmocka_unit_test(test_window_edges),
      cmocka_unit_test(test_like_a_dumb_list),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
