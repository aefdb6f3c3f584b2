// Token buckets: against a count of what an exact one would let through, over random times, rates and amounts.
#include "test.h"

#include "base/prng.h"
#include "core/rate.h"

static struct mono at(uint64_t ms)
{
  return (struct mono){ms};
}

static void a_full_bucket_gives_its_burst_and_then_its_rate(void **state)
{
  (void)state;
  const struct rate_limit limit = {.per_s = 10, .burst = 5};
  struct rate rate;
  rate_fill(&rate, &limit, at(1000));
  for (unsigned i = 0; i < 5; i++) assert_true(rate_take(&rate, &limit, at(1000), 1));
  assert_false(rate_take(&rate, &limit, at(1000), 1));
  assert_int_equal(rate_wait_ms(&rate, &limit, at(1000), 1), 100);
  assert_int_equal(rate_wait_ms(&rate, &limit, at(1000), 5), 500);
  assert_int_equal(rate_wait_ms(&rate, &limit, at(1099), 1), 1);
  assert_false(rate_take(&rate, &limit, at(1099), 1));
  assert_true(rate_take(&rate, &limit, at(1100), 1));
  assert_false(rate_take(&rate, &limit, at(1100), 1));
  // A long silence brings no more than the burst.
  assert_int_equal(rate_wait_ms(&rate, &limit, at(1000000), 5), 0);
  for (unsigned i = 0; i < 5; i++) assert_true(rate_take(&rate, &limit, at(1000000), 1));
  assert_false(rate_take(&rate, &limit, at(1000000), 1));
}

static void what_does_not_fit_costs_nothing(void **state)
{
  (void)state;
  const struct rate_limit limit = {.per_s = 1, .burst = 3};
  struct rate rate;
  rate_fill(&rate, &limit, at(0));
  assert_false(rate_take(&rate, &limit, at(0), 4));  // never
  assert_int_equal(rate_wait_ms(&rate, &limit, at(0), 4), 0);
  assert_true(rate_take(&rate, &limit, at(0), 3));
  rate_give_back(&rate, &limit, 2);
  assert_true(rate_take(&rate, &limit, at(0), 2));
  assert_false(rate_take(&rate, &limit, at(0), 1));
  rate_give_back(&rate, &limit, 1000);  // never more than the burst
  assert_true(rate_take(&rate, &limit, at(0), 3));
  assert_false(rate_take(&rate, &limit, at(0), 1));
}

static void time_that_stands_still_or_goes_back_brings_nothing(void **state)
{
  (void)state;
  const struct rate_limit limit = {.per_s = 1000, .burst = 1};
  struct rate rate;
  rate_fill(&rate, &limit, at(50));
  assert_true(rate_take(&rate, &limit, at(50), 1));
  assert_false(rate_take(&rate, &limit, at(40), 1));
  assert_false(rate_take(&rate, &limit, at(50), 1));
  assert_true(rate_take(&rate, &limit, at(51), 1));
}

// Slow rates lose nothing to rounding: a token each 1,000 s, asked for every millisecond and a bit.
static void nothing_is_rounded_away(void **state)
{
  (void)state;
  const struct rate_limit limit = {.per_s = 3, .burst = 1};
  struct rate rate;
  rate_fill(&rate, &limit, at(0));
  uint64_t taken = 0;
  for (uint64_t ms = 0; ms <= 1000000; ms++) taken += rate_take(&rate, &limit, at(ms), 1);
  // Each is taken in the first millisecond in which it is there (334 ms at most apart, and never early).
  assert_in_range(taken, 1000000 / 334, 3001);
  assert_in_range(taken, 2994, 3001);
}

static void extremes_do_not_overflow(void **state)
{
  (void)state;
  const struct rate_limit limits[] = {{.per_s = UINT64_MAX, .burst = RATE_BURST_MAX},
                                      {.per_s = 1, .burst = RATE_BURST_MAX},
                                      {.per_s = UINT64_C(1) << 40, .burst = rate_burst(UINT64_C(1) << 40, 3600000, 1)}};
  for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
    struct rate rate;
    rate_fill(&rate, &limits[i], at(0));
    assert_true(rate_take(&rate, &limits[i], at(0), limits[i].burst));
    assert_false(rate_take(&rate, &limits[i], at(0), 1));
    assert_true(rate_wait_ms(&rate, &limits[i], at(0), limits[i].burst) > 0);
    assert_true(rate_take(&rate, &limits[i], at(UINT64_MAX), 1));
    rate_give_back(&rate, &limits[i], UINT64_MAX);
  }
  assert_int_equal(rate_burst(UINT64_MAX, UINT64_MAX, 1), RATE_BURST_MAX);
  assert_int_equal(rate_burst(10, 100, 0), 1);
  assert_int_equal(rate_burst(1, 100, 0), 1);
  assert_int_equal(rate_burst(0, 0, 0), 1);
  assert_int_equal(rate_burst(10, 1000, 64), 64);
  assert_int_equal(rate_burst(100, 10000, 64), 1000);
}

// The dumb one: it keeps the sum of all that came and went, as a fraction of a thousandth in no way rounded either.
static void it_agrees_with_a_dumb_one(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 7);
  for (unsigned round = 0; round < 200; round++) {
    struct rate_limit limit = {.per_s = 1 + prng_below(&prng, 5000), .burst = 1 + prng_below(&prng, 3000)};
    struct rate rate;
    uint64_t now_ms = prng_below(&prng, 1000), dumb = limit.burst * 1000;
    rate_fill(&rate, &limit, at(now_ms));
    for (unsigned step = 0; step < 500; step++) {
      if (prng_below(&prng, 20) == 0) {
        limit.per_s = 1 + prng_below(&prng, 5000);
        limit.burst = 1 + prng_below(&prng, 3000);
        if (dumb > limit.burst * 1000) dumb = limit.burst * 1000;
      }
      uint64_t passed_ms = prng_below(&prng, 4) ? prng_below(&prng, 20) : prng_below(&prng, 2000);
      now_ms += passed_ms;
      for (uint64_t i = 0; i < passed_ms && dumb < limit.burst * 1000; i++) dumb += limit.per_s;
      if (dumb > limit.burst * 1000) dumb = limit.burst * 1000;
      uint64_t amount = prng_below(&prng, 2 + limit.burst / 4);
      uint64_t missing = amount * 1000 > dumb ? amount * 1000 - dumb : 0;
      if (amount <= limit.burst)
        assert_int_equal(rate_wait_ms(&rate, &limit, at(now_ms), amount), (missing + limit.per_s - 1) / limit.per_s);
      bool there = amount * 1000 <= dumb;
      assert_int_equal(rate_take(&rate, &limit, at(now_ms), amount), there);
      if (there) dumb -= amount * 1000;
    }
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_full_bucket_gives_its_burst_and_then_its_rate),
      cmocka_unit_test(what_does_not_fit_costs_nothing),
      cmocka_unit_test(time_that_stands_still_or_goes_back_brings_nothing),
      cmocka_unit_test(nothing_is_rounded_away),
      cmocka_unit_test(extremes_do_not_overflow),
      cmocka_unit_test(it_agrees_with_a_dumb_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
