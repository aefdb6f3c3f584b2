// The two balances that a shard's counters keep at every instant, see src/core/counters.h.
#pragma once

#include "core/counters.h"
#include "trial.h"

void ledger_check(struct world *world, unsigned broker, unsigned shard, const struct counters *counters);

uint64_t ledger_sum(const uint64_t *values, size_t count);
