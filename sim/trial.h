// One trial of a seed: its chances, its clock, its trace, and how it failed. Every simulated world begins with its trial, so
// that what both simulations share needs to know no more of a world.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/prng.h"

struct world;

#define NEVER UINT64_MAX

struct trial {
  uint64_t seed;
  bool trace;
  bool failed;
  char failure[512];  // the first one
  struct prng prng;
  uint64_t now_ms;
  uint64_t boot_ms;  // the broker's monotonic time counts from here
  uint64_t tick;     // counts up before everything that is done
};

struct trial trial_begin(uint64_t seed, bool trace);

static inline struct trial *trial_of(struct world *world)
{
  return (struct trial *)world;
}

static inline struct mono world_mono(const struct world *world)
{
  const struct trial *trial = (const struct trial *)world;
  return (struct mono){trial->now_ms - trial->boot_ms};
}

// In 2026.
static inline struct wall world_wall(const struct world *world)
{
  return (struct wall){INT64_C(1770000000000) + (int64_t)((const struct trial *)world)->now_ms};
}

// Runs one seed; `failure` of its trial says which oracle failed. world_free frees all of it. Each simulation has its own.
struct world *world_run(uint64_t seed, uint64_t steps, bool trace);
void world_free(struct world *world);

// The first failure is kept.
void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_trace(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define TRACE(world, ...)                                                                                                   \
  do {                                                                                                                      \
    if (trial_of(world)->trace) world_trace((world), __VA_ARGS__);                                                          \
  } while (0)

// A log_sink: what a broker logs is a part of the trace.
void world_log(void *world, enum log_level level, const char *event, const struct log_field *fields, size_t count);

// Chances, from the seed.
static inline uint64_t pick(struct world *world, uint64_t bound)
{
  return prng_below(&trial_of(world)->prng, bound);
}

static inline bool percent(struct world *world, unsigned chance)
{
  return prng_below(&trial_of(world)->prng, 100) < chance;
}
