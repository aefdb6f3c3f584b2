// A small fast pseudo-random generator (xoshiro256**), seeded by the caller. For jitter, choice and simulation; not for
// keys.
#pragma once

#include <stdint.h>

struct prng {
  uint64_t state[4];
};

void prng_seed(struct prng *prng, uint64_t seed);
uint64_t prng_next(struct prng *prng);

// Uniform in [0, bound), without modulo bias. `bound` must not be 0.
uint64_t prng_below(struct prng *prng, uint64_t bound);
