// A token bucket: so many a second in the long run, so many at once after a while of silence. Integers only: tokens are
// kept in thousandths, and a millisecond brings as many thousandths as a second brings tokens, so nothing is ever rounded
// away. It reads no clock. Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

enum { RATE_SCALE = 1000 };

struct rate_limit {
  uint64_t per_s;  // at least 1
  uint64_t burst;  // tokens that the bucket holds: at least 1, at most RATE_BURST_MAX
};

#define RATE_BURST_MAX (UINT64_MAX / RATE_SCALE)

// How many tokens a bucket for `per_s` holds that saves up for `burst_ms`: at least `least`.
uint64_t rate_burst(uint64_t per_s, uint64_t burst_ms, uint64_t least);

struct rate {
  uint64_t level;  // thousandths of a token
  uint64_t at_ms;  // when it was so
};

// A full bucket.
void rate_fill(struct rate *rate, const struct rate_limit *limit, struct mono now);

// Takes `amount` tokens if they are there. More than the burst never are. After a change of the limit the bucket goes on
// with what it holds, or with what it can hold now.
bool rate_take(struct rate *rate, const struct rate_limit *limit, struct mono now, uint64_t amount);

// What was taken was not used.
void rate_give_back(struct rate *rate, const struct rate_limit *limit, uint64_t amount);

// Milliseconds until `amount` tokens are there, at most the burst: 0 when they are. Never early.
uint64_t rate_wait_ms(struct rate *rate, const struct rate_limit *limit, struct mono now, uint64_t amount);
