#include "base/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/prng.h"

enum { TIMERS = 60 };

// The model: when each timer has to fire is written beside it, and the next one is found by looking at all of them.
struct modelled {
  struct timer timer;
  struct world *world;
  bool armed;
  uint64_t due_ms;
  uint64_t order;       // of arming
  uint64_t not_before;  // number of the advance
};

struct world {
  struct wheel wheel;
  struct prng prng;
  uint64_t now_ms;
  uint64_t advance;
  uint64_t armings;
  uint64_t firings;
  bool busy;  // whether functions arm and cancel others
  struct modelled timers[TIMERS];
};

static struct modelled *next_due(struct world *world)
{
  struct modelled *next = NULL;
  for (size_t i = 0; i < TIMERS; i++) {
    struct modelled *timer = &world->timers[i];
    if (!timer->armed || timer->due_ms > world->now_ms || timer->not_before > world->advance) continue;
    bool sooner = !next || timer->due_ms < next->due_ms || (timer->due_ms == next->due_ms && timer->order < next->order);
    if (sooner) next = timer;
  }
  return next;
}

static void arm(struct modelled *timer, uint64_t deadline_ms)
{
  struct world *world = timer->world;
  bool passed = deadline_ms <= world->now_ms;
  timer->armed = true;
  timer->due_ms = passed ? world->now_ms : deadline_ms;
  timer->order = world->armings++;
  timer->not_before = passed ? world->advance + 1 : 0;
  wheel_arm(&world->wheel, &timer->timer, (struct mono){deadline_ms});
  assert_true(timer_armed(&timer->timer));
}

static void cancel(struct modelled *timer)
{
  timer->armed = false;
  wheel_cancel(&timer->timer);
  assert_false(timer_armed(&timer->timer));
}

// Of any magnitude, now and then in the past or at a round number where wheels turn over.
static uint64_t random_deadline(struct world *world)
{
  uint64_t distance = prng_below(&world->prng, UINT64_C(1) << prng_below(&world->prng, 36));
  uint64_t deadline_ms = world->now_ms + distance;
  switch (prng_below(&world->prng, 8)) {
    case 0: return world->now_ms - (distance < world->now_ms ? distance : world->now_ms);
    case 1: return deadline_ms & ~UINT64_C(63);
    case 2: return deadline_ms & ~UINT64_C(0xFFFFFF);
    case 3: return world->timers[prng_below(&world->prng, TIMERS)].due_ms;
    default: return deadline_ms;
  }
}

static void change_something(struct world *world)
{
  struct modelled *timer = &world->timers[prng_below(&world->prng, TIMERS)];
  if (prng_below(&world->prng, 4) == 0)
    cancel(timer);
  else
    arm(timer, random_deadline(world));
}

static void fired(struct timer *timer, struct mono now)
{
  struct modelled *modelled = CONTAINER_OF(timer, struct modelled, timer);
  struct world *world = modelled->world;
  assert_true(now.ms == world->now_ms);
  assert_false(timer_armed(timer));
  assert_ptr_equal(modelled, next_due(world));
  modelled->armed = false;
  world->firings++;
  if (world->busy && prng_below(&world->prng, 2) == 0) change_something(world);
  if (world->busy && prng_below(&world->prng, 4) == 0) arm(modelled, random_deadline(world));
}

static void advance(struct world *world, uint64_t now_ms)
{
  world->now_ms = now_ms;
  world->advance++;
  wheel_advance(&world->wheel, (struct mono){now_ms});
  assert_null(next_due(world));
}

static void check_next(struct world *world)
{
  uint64_t soonest_ms = UINT64_MAX;
  for (size_t i = 0; i < TIMERS; i++)
    if (world->timers[i].armed && world->timers[i].due_ms < soonest_ms) soonest_ms = world->timers[i].due_ms;
  int64_t next_ms = wheel_next_ms(&world->wheel, (struct mono){world->now_ms});
  if (soonest_ms == UINT64_MAX) {
    assert_true(next_ms == -1);
  } else {
    assert_true(next_ms >= 0);
    assert_true((uint64_t)next_ms <= soonest_ms - world->now_ms);
    assert_true(next_ms > 0 || soonest_ms == world->now_ms);
  }
}

static struct world *world_create(uint64_t seed, uint64_t now_ms)
{
  struct world *world = calloc(1, sizeof *world);
  assert_non_null(world);
  prng_seed(&world->prng, seed);
  world->now_ms = now_ms;
  wheel_init(&world->wheel, (struct mono){now_ms});
  for (size_t i = 0; i < TIMERS; i++) {
    world->timers[i].world = world;
    timer_init(&world->timers[i].timer, fired);
  }
  return world;
}

static void an_empty_wheel_has_nothing_to_do(void **state)
{
  (void)state;
  struct world *world = world_create(1, 1000);
  check_next(world);
  advance(world, UINT64_C(1) << 50);
  check_next(world);
  free(world);
}

static void a_timer_fires_at_its_deadline_and_not_before(void **state)
{
  (void)state;
  static const uint64_t distances[] = {1,      2,       63,        64,        65,       4095,           4096,
                                       262143, 1 << 18, 16777215u, 16777217u, 1u << 30, (1u << 30) + 1, UINT64_C(1) << 40};
  for (size_t i = 0; i < sizeof distances / sizeof distances[0]; i++) {
    for (uint64_t start = 0; start < 200; start += 37) {
      struct world *world = world_create(1, start);
      arm(&world->timers[0], start + distances[i]);
      advance(world, start + distances[i] - 1);
      assert_int_equal(world->firings, 0);
      assert_int_equal(wheel_next_ms(&world->wheel, (struct mono){world->now_ms}), 1);
      advance(world, start + distances[i]);
      assert_int_equal(world->firings, 1);
      free(world);
    }
  }
}

static void a_passed_deadline_fires_at_the_next_advance(void **state)
{
  (void)state;
  struct world *world = world_create(1, 500);
  arm(&world->timers[0], 100);
  arm(&world->timers[1], 500);
  assert_int_equal(wheel_next_ms(&world->wheel, (struct mono){500}), 0);
  advance(world, 500);
  assert_int_equal(world->firings, 2);
  free(world);
}

static void time_does_not_go_back(void **state)
{
  (void)state;
  struct world *world = world_create(1, 500);
  arm(&world->timers[0], 600);
  wheel_advance(&world->wheel, (struct mono){400});
  assert_int_equal(world->firings, 0);
  assert_int_equal(wheel_next_ms(&world->wheel, (struct mono){400}) > 0, 1);
  advance(world, 600);
  assert_int_equal(world->firings, 1);

  // Nor for the function that is handed the time.
  arm(&world->timers[0], 50);
  world->advance++;
  wheel_advance(&world->wheel, (struct mono){400});
  assert_int_equal(world->firings, 2);
  free(world);
}

static void a_cancelled_or_rearmed_timer_forgets_its_deadline(void **state)
{
  (void)state;
  struct world *world = world_create(1, 0);
  cancel(&world->timers[0]);
  arm(&world->timers[0], 10);
  arm(&world->timers[1], 10);
  cancel(&world->timers[0]);
  arm(&world->timers[1], 5000);
  advance(world, 4999);
  assert_int_equal(world->firings, 0);
  advance(world, 5000);
  assert_int_equal(world->firings, 1);
  check_next(world);
  free(world);
}

// Armed from afar, from near and from within the last block: still in the order of arming.
static void equal_deadlines_keep_the_order_of_arming(void **state)
{
  (void)state;
  const uint64_t deadline_ms = (UINT64_C(1) << 32) + 100;
  struct world *world = world_create(1, 0);
  static const uint64_t before[] = {UINT64_C(1) << 32, 1 << 29, 1 << 20, 5000, 200, 50, 3, 1};
  for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
    advance(world, deadline_ms - before[i]);
    arm(&world->timers[i * 2 + 1], deadline_ms);
    arm(&world->timers[i * 2], deadline_ms);
  }
  advance(world, deadline_ms);
  assert_int_equal(world->firings, 2 * sizeof before / sizeof before[0]);
  free(world);
}

struct repeating {
  struct timer timer;
  struct wheel *wheel;
  int firings;
};

static void fire_again_now(struct timer *timer, struct mono now)
{
  struct repeating *repeating = CONTAINER_OF(timer, struct repeating, timer);
  repeating->firings++;
  wheel_arm(repeating->wheel, timer, now);
}

static void rearming_for_now_does_not_hang(void **state)
{
  (void)state;
  struct wheel wheel;
  wheel_init(&wheel, (struct mono){0});
  struct repeating repeating = {.wheel = &wheel};
  timer_init(&repeating.timer, fire_again_now);
  wheel_arm(&wheel, &repeating.timer, (struct mono){0});
  for (int i = 1; i <= 3; i++) {
    wheel_advance(&wheel, (struct mono){7});
    assert_int_equal(repeating.firings, i);
  }
}

static void free_itself(struct timer *timer, struct mono now)
{
  (void)now;
  free(timer);
}

static void a_fired_timer_may_be_freed(void **state)
{
  (void)state;
  struct wheel wheel;
  wheel_init(&wheel, (struct mono){0});
  for (uint64_t i = 0; i < 20; i++) {
    struct timer *timer = malloc(sizeof *timer);
    assert_non_null(timer);
    timer_init(timer, free_itself);
    wheel_arm(&wheel, timer, (struct mono){i / 2 * 50});
  }
  wheel_advance(&wheel, (struct mono){1000});
  assert_true(wheel_next_ms(&wheel, (struct mono){1000}) == -1);
}

static void random_use_agrees_with_the_model(void **state)
{
  (void)state;
  uint64_t firings = 0;
  for (uint64_t seed = 0; seed < 300; seed++) {
    // Some worlds begin just before the wheel's highest bits change.
    uint64_t start = seed % 3 == 0 ? (UINT64_C(5) << 30) - seed : seed * 7919;
    struct world *world = world_create(seed, start);
    world->busy = seed % 2 == 0;
    for (int step = 0; step < 300; step++) {
      for (uint64_t changes = prng_below(&world->prng, 5); changes > 0; changes--) change_something(world);
      check_next(world);
      uint64_t jump = prng_below(&world->prng, UINT64_C(1) << prng_below(&world->prng, 35));
      advance(world, world->now_ms + jump);
      check_next(world);
    }
    firings += world->firings;
    free(world);
  }
  assert_true(firings > 50000);
}

// A loop that sleeps as long as it is told wakes at most once per level, and a few times more far from the wheel's reach.
static void sleeping_as_told_wakes_seldom(void **state)
{
  (void)state;
  for (uint64_t seed = 0; seed < 500; seed++) {
    struct world *world = world_create(seed, seed * 104729);
    uint64_t deadline_ms = world->now_ms + 1 + prng_below(&world->prng, UINT64_C(1) << prng_below(&world->prng, 31));
    arm(&world->timers[0], deadline_ms);
    int wakes = 0;
    while (world->firings == 0) {
      int64_t next_ms = wheel_next_ms(&world->wheel, (struct mono){world->now_ms});
      assert_true(next_ms > 0);
      advance(world, world->now_ms + (uint64_t)next_ms);
      wakes++;
    }
    assert_true(world->now_ms == deadline_ms);
    assert_in_range(wakes, 1, WHEEL_LEVELS + 1);
    free(world);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_empty_wheel_has_nothing_to_do),
      cmocka_unit_test(a_timer_fires_at_its_deadline_and_not_before),
      cmocka_unit_test(a_passed_deadline_fires_at_the_next_advance),
      cmocka_unit_test(time_does_not_go_back),
      cmocka_unit_test(a_cancelled_or_rearmed_timer_forgets_its_deadline),
      cmocka_unit_test(equal_deadlines_keep_the_order_of_arming),
      cmocka_unit_test(rearming_for_now_does_not_hang),
      cmocka_unit_test(a_fired_timer_may_be_freed),
      cmocka_unit_test(random_use_agrees_with_the_model),
      cmocka_unit_test(sleeping_as_told_wakes_seldom),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
