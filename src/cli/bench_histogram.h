// Latencies in a log-linear histogram: 128 equal steps in each power of two, so a value is off by less than 1 %, in fixed
// memory. Pure: no clock in here. One thread.
#pragma once

#include <stdint.h>

enum {
  HISTOGRAM_STEPS_LOG2 = 7,
  HISTOGRAM_STEPS = 1 << HISTOGRAM_STEPS_LOG2,
  HISTOGRAM_VALUE_BITS = 40,  // larger values, 18 minutes in ns, are counted as the largest
  HISTOGRAM_BUCKETS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_STEPS_LOG2 + 1) * HISTOGRAM_STEPS,
};

// A zeroed struct is an empty histogram. Values are nanoseconds, but any unit works.
struct histogram {
  uint64_t count;
  uint64_t sum;
  uint64_t least;  // 0 while empty
  uint64_t most;
  uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);

// Adds what `from` has counted.
void histogram_merge(struct histogram *histogram, const struct histogram *from);

// The value that `percent` (0..100) of the values do not exceed: the top of its bucket, never more than the largest value
// seen. 0 while empty.
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

double histogram_mean(const struct histogram *histogram);
