#include "core/rate.h"

#include <assert.h>

uint64_t rate_burst(uint64_t per_s, uint64_t burst_ms, uint64_t least)
{
  uint64_t most = RATE_BURST_MAX;
  uint64_t tokens = burst_ms > 0 && per_s > most / burst_ms ? most : per_s * burst_ms / 1000;
  if (tokens < least) tokens = least;
  return tokens > 0 ? tokens : 1;
}

void rate_fill(struct rate *rate, const struct rate_limit *limit, struct mono now)
{
  assert(limit->burst <= RATE_BURST_MAX);
  *rate = (struct rate){.level = limit->burst * RATE_SCALE, .at_ms = now.ms};
}

// What the time since has brought.
static void settle(struct rate *rate, const struct rate_limit *limit, struct mono now)
{
  assert(limit->per_s > 0);
  assert(limit->burst <= RATE_BURST_MAX);
  uint64_t full = limit->burst * RATE_SCALE;
  uint64_t passed_ms = now.ms > rate->at_ms ? now.ms - rate->at_ms : 0;
  uint64_t missing = full > rate->level ? full - rate->level : 0;
  rate->level = passed_ms > missing / limit->per_s ? full : rate->level + passed_ms * limit->per_s;
  if (rate->level > full) rate->level = full;
  rate->at_ms += passed_ms;
}

bool rate_take(struct rate *rate, const struct rate_limit *limit, struct mono now, uint64_t amount)
{
  settle(rate, limit, now);
  if (amount > rate->level / RATE_SCALE) return false;
  rate->level -= amount * RATE_SCALE;
  return true;
}

void rate_give_back(struct rate *rate, const struct rate_limit *limit, uint64_t amount)
{
  uint64_t full = limit->burst * RATE_SCALE;
  uint64_t missing = full > rate->level ? full - rate->level : 0;
  rate->level = amount > missing / RATE_SCALE ? full : rate->level + amount * RATE_SCALE;
}

uint64_t rate_wait_ms(struct rate *rate, const struct rate_limit *limit, struct mono now, uint64_t amount)
{
  settle(rate, limit, now);
  if (amount > limit->burst) amount = limit->burst;
  uint64_t wanted = amount * RATE_SCALE;
  if (wanted <= rate->level) return 0;
  uint64_t missing = wanted - rate->level;
  return missing / limit->per_s + (missing % limit->per_s > 0);
}
