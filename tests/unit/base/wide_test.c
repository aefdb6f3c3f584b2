#include "base/wide.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/prng.h"

static void products_of_known_numbers(void **state)
{
  (void)state;
  const struct {
    uint64_t a, b, high, low;
  } cases[] = {
      {0, 0, 0, 0},
      {0, UINT64_MAX, 0, 0},
      {1, UINT64_MAX, 0, UINT64_MAX},
      {2, UINT64_MAX, 1, UINT64_MAX - 1},
      {UINT64_MAX, UINT64_MAX, UINT64_MAX - 1, 1},
      {UINT64_C(1) << 32, UINT64_C(1) << 32, 1, 0},
      {UINT32_MAX, UINT32_MAX, 0, 0xFFFFFFFE00000001u},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct wide portable = wide_multiply_portable(cases[i].a, cases[i].b);
    assert_true(portable.high == cases[i].high);
    assert_true(portable.low == cases[i].low);
    struct wide product = wide_multiply(cases[i].a, cases[i].b);
    assert_true(product.high == cases[i].high);
    assert_true(product.low == cases[i].low);
  }
}

static void both_ways_agree(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 7);
  for (int i = 0; i < 100000; i++) {
    uint64_t a = prng_next(&prng) >> (i % 64), b = prng_next(&prng) >> (i / 64 % 64);
    struct wide product = wide_multiply(a, b), portable = wide_multiply_portable(a, b);
    assert_true(product.low == portable.low);
    assert_true(product.high == portable.high);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(products_of_known_numbers),
      cmocka_unit_test(both_ways_agree),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
