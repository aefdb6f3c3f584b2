#include "cli/bench_histogram.h"

#include <assert.h>

static_assert(HISTOGRAM_VALUE_BITS < 64, "a value's top bit is found in 64 bits");

static uint32_t bucket_of(uint64_t value)
{
  const uint64_t largest = (UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1;
  if (value > largest) value = largest;
  // Below two octaves of steps every value has a bucket of its own.
  if (value < 2 * HISTOGRAM_STEPS) return (uint32_t)value;
  uint32_t top_bit = 63 - (uint32_t)__builtin_clzll(value);
  uint32_t shift = top_bit - HISTOGRAM_STEPS_LOG2;
  return shift * HISTOGRAM_STEPS + (uint32_t)(value >> shift);
}

static uint64_t bucket_top(uint32_t bucket)
{
  if (bucket < 2 * HISTOGRAM_STEPS) return bucket;
  uint32_t shift = bucket / HISTOGRAM_STEPS - 1;
  uint64_t step = bucket - shift * HISTOGRAM_STEPS;
  return ((step + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
  uint32_t bucket = bucket_of(value);
  assert(bucket < HISTOGRAM_BUCKETS);
  histogram->buckets[bucket]++;
  if (histogram->count == 0 || value < histogram->least) histogram->least = value;
  if (value > histogram->most) histogram->most = value;
  histogram->count++;
  histogram->sum += value;
}

void histogram_merge(struct histogram *histogram, const struct histogram *from)
{
  if (from->count == 0) return;
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) histogram->buckets[i] += from->buckets[i];
  if (histogram->count == 0 || from->least < histogram->least) histogram->least = from->least;
  if (from->most > histogram->most) histogram->most = from->most;
  histogram->count += from->count;
  histogram->sum += from->sum;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
  assert(percent >= 0);
  assert(percent <= 100);
  if (histogram->count == 0) return 0;
  // What binary fractions add to an exact rank is far below this.
  double exact = percent / 100 * (double)histogram->count - 1e-6;
  uint64_t rank = exact > 0 ? (uint64_t)exact : 0;
  if ((double)rank < exact) rank++;
  if (rank == 0) return histogram->least;
  uint64_t seen = 0;
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += histogram->buckets[i];
    if (seen < rank) continue;
    uint64_t top = bucket_top(i);
    return i == HISTOGRAM_BUCKETS - 1 || top > histogram->most ? histogram->most : top;
  }
  return histogram->most;
}

double histogram_mean(const struct histogram *histogram)
{
  return histogram->count ? (double)histogram->sum / (double)histogram->count : 0;
}
