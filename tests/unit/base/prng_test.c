#include "base/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void the_seed_decides_everything(void **state)
{
  (void)state;
  struct prng a, b, c;
  prng_seed(&a, 1);
  prng_seed(&b, 1);
  prng_seed(&c, 2);
  int equal = 0;
  for (int i = 0; i < 1000; i++) {
    uint64_t next = prng_next(&a);
    assert_true(next == prng_next(&b));
    equal += next == prng_next(&c);
  }
  assert_int_equal(equal, 0);
}

// From the published reference code: state {1, 2, 3, 4}.
static void the_sequence_is_xoshiro256(void **state)
{
  (void)state;
  struct prng prng = {.state = {1, 2, 3, 4}};
  static const uint64_t expected[] = {11520, 0, 1509978240, 1215971899390074240};
  for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) assert_true(prng_next(&prng) == expected[i]);
}

// splitmix64 from 0 begins with this number in its published form.
static void seeding_is_splitmix64(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 0);
  assert_true(prng.state[0] == 0xE220A8397B1DCDAFu);
  assert_true(prng.state[1] == 0x6E789E6AA1B965F4u);
}

static void bounded_numbers_stay_below_and_reach_all(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 5);
  for (int i = 0; i < 100; i++) assert_true(prng_below(&prng, 1) == 0);
  int counts[7] = {0};
  for (int i = 0; i < 70000; i++) {
    uint64_t number = prng_below(&prng, 7);
    assert_true(number < 7);
    counts[number]++;
  }
  for (int i = 0; i < 7; i++) assert_in_range(counts[i], 9500, 10500);
}

// With a bound of 3/4 of the range and nothing drawn again, every third number would come twice as often as the others.
static void large_bounds_are_not_biased(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 9);
  const uint64_t bound = UINT64_C(3) << 62;
  int counts[3] = {0};
  for (int i = 0; i < 30000; i++) {
    uint64_t number = prng_below(&prng, bound);
    assert_true(number < bound);
    counts[number % 3]++;
  }
  for (int i = 0; i < 3; i++) assert_in_range(counts[i], 9500, 10500);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_seed_decides_everything), cmocka_unit_test(the_sequence_is_xoshiro256),
      cmocka_unit_test(seeding_is_splitmix64),       cmocka_unit_test(bounded_numbers_stay_below_and_reach_all),
      cmocka_unit_test(large_bounds_are_not_biased),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
