#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/prng.h"
#include "cli/bench_histogram.h"

static void test_empty(void **state)
{
  (void)state;
  static const struct histogram empty;
  assert_int_equal(histogram_percentile(&empty, 50), 0);
  assert_int_equal(histogram_percentile(&empty, 100), 0);
  assert_true(histogram_mean(&empty) < 1e-9);
}

static void test_small_values_are_exact(void **state)
{
  (void)state;
  struct histogram *histogram = calloc(1, sizeof *histogram);
  for (uint64_t value = 1; value <= 200; value++) histogram_add(histogram, value);
  assert_int_equal(histogram->count, 200);
  assert_int_equal(histogram->least, 1);
  assert_int_equal(histogram->most, 200);
  assert_int_equal(histogram_percentile(histogram, 0), 1);
  assert_int_equal(histogram_percentile(histogram, 50), 100);
  assert_int_equal(histogram_percentile(histogram, 99), 198);
  assert_int_equal(histogram_percentile(histogram, 99.5), 199);
  assert_int_equal(histogram_percentile(histogram, 100), 200);
  assert_true(histogram_mean(histogram) > 100.4 && histogram_mean(histogram) < 100.6);
  free(histogram);
}

static void test_percentile_is_a_rank_not_a_step_further(void **state)
{
  (void)state;
  struct histogram *histogram = calloc(1, sizeof *histogram);
  // 99.9 % of 1000 is exactly 999 of them, whatever binary fractions make of it.
  for (uint64_t i = 0; i < 999; i++) histogram_add(histogram, 10);
  histogram_add(histogram, 90);
  assert_int_equal(histogram_percentile(histogram, 99.9), 10);
  assert_int_equal(histogram_percentile(histogram, 99.91), 90);
  free(histogram);
}

static int compare(const void *left, const void *right)
{
  uint64_t a = *(const uint64_t *)left;
  uint64_t b = *(const uint64_t *)right;
  return a < b ? -1 : a > b;
}

// Against a sorted list: never below the true value, and less than 1 % above it.
static void test_error_is_below_one_percent(void **state)
{
  (void)state;
  enum { COUNT = 20000 };
  struct histogram *histogram = calloc(1, sizeof *histogram);
  uint64_t *values = malloc(COUNT * sizeof *values);
  struct prng prng;
  prng_seed(&prng, 7);
  for (size_t i = 0; i < COUNT; i++) {
    // All magnitudes up to 2^40 alike.
    values[i] = prng_next(&prng) >> (24 + prng_below(&prng, 38));
    histogram_add(histogram, values[i]);
  }
  qsort(values, COUNT, sizeof *values, compare);
  for (size_t rank = 1; rank <= COUNT; rank += 13) {
    uint64_t exact = values[rank - 1];
    uint64_t found = histogram_percentile(histogram, 100.0 * (double)rank / COUNT);
    assert_true(found >= exact);
    assert_true((double)found <= (double)exact * 1.01);
  }
  assert_int_equal(histogram_percentile(histogram, 100), values[COUNT - 1]);
  assert_int_equal(histogram->least, values[0]);
  free(values);
  free(histogram);
}

static void test_too_large_values_are_kept(void **state)
{
  (void)state;
  struct histogram *histogram = calloc(1, sizeof *histogram);
  histogram_add(histogram, 5);
  histogram_add(histogram, UINT64_MAX / 4);
  assert_int_equal(histogram_percentile(histogram, 50), 5);
  assert_int_equal(histogram_percentile(histogram, 100), UINT64_MAX / 4);
  free(histogram);
}

static void test_merge_is_adding_all(void **state)
{
  (void)state;
  struct histogram *both = calloc(3, sizeof *both);
  struct histogram *left = both + 1;
  struct histogram *right = both + 2;
  for (uint64_t i = 0; i < 5000; i++) {
    uint64_t value = i * i * 37 + 3;
    histogram_add(both, value);
    histogram_add(i % 3 ? left : right, value);
  }
  histogram_merge(left, right);
  assert_memory_equal(left, both, sizeof *both);
  struct histogram *empty = calloc(1, sizeof *empty);
  histogram_merge(left, empty);
  assert_memory_equal(left, both, sizeof *both);
  histogram_merge(empty, left);
  assert_memory_equal(empty, both, sizeof *both);
  free(empty);
  free(both);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_small_values_are_exact),
      cmocka_unit_test(test_percentile_is_a_rank_not_a_step_further),
      cmocka_unit_test(test_error_is_below_one_percent),
      cmocka_unit_test(test_too_large_values_are_kept),
      cmocka_unit_test(test_merge_is_adding_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
