// xoshiro256** by Blackman and Vigna, its state filled by splitmix64 so that any seed, 0 too, gives a good start.
#include "base/prng.h"

#include <assert.h>

#include "base/wide.h"

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
  return value << bits | value >> (64 - bits);
}

void prng_seed(struct prng *prng, uint64_t seed)
{
  for (unsigned i = 0; i < 4; i++) {
    seed += 0x9E3779B97F4A7C15u;
    uint64_t mixed = seed;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    prng->state[i] = mixed ^ mixed >> 31;
  }
}

uint64_t prng_next(struct prng *prng)
{
  uint64_t *state = prng->state;
  uint64_t result = rotate_left(state[1] * 5, 7) * 9;
  uint64_t shifted = state[1] << 17;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= shifted;
  state[3] = rotate_left(state[3], 45);
  return result;
}

uint64_t prng_below(struct prng *prng, uint64_t bound)
{
  assert(bound > 0);
  // The high half of the product is the result. Of each result's products, those whose low half lies under 2^64 mod bound
  // are one too many and drawn again (Lemire, 2019).
  struct wide product = wide_multiply(prng_next(prng), bound);
  if (product.low < bound) {
    uint64_t excess = (0 - bound) % bound;
    while (product.low < excess) product = wide_multiply(prng_next(prng), bound);
  }
  return product.high;
}
