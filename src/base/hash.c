// Each 16 bytes are folded through one widening multiplication. Both factors carry bits of the secret seed: a factor that a
// peer could make zero would swallow the other one, and with it everything hashed so far.
#include "base/hash.h"

#include <string.h>

#include "base/wide.h"

// Odd, with about as many ones as zeros: the fractions of the square roots of 2, 3, 5 and 7.
static const uint64_t mix_0 = 0x6A09E667F3BCC909u;
static const uint64_t mix_1 = 0xBB67AE8584CAA73Bu;
static const uint64_t mix_2 = 0x3C6EF372FE94F82Bu;
static const uint64_t mix_3 = 0xA54FF53A5F1D36F1u;

static inline uint64_t fold(uint64_t a, uint64_t b)
{
  struct wide product = wide_multiply(a, b);
  return product.low ^ product.high;
}

static inline uint64_t load_8(const uint8_t *at)
{
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static inline uint64_t load_4(const uint8_t *at)
{
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t size)
{
  const uint8_t *at = bytes;
  uint64_t key = seed ^ mix_0;
  uint64_t state = (seed << 32 | seed >> 32) ^ mix_1;
  uint64_t first = 0;
  uint64_t last = 0;

  if (size > 16) {
    size_t left = size;
    for (; left > 16; left -= 16, at += 16) state = fold(load_8(at) ^ key, load_8(at + 8) ^ state);
    first = load_8(at + left - 16);
    last = load_8(at + left - 8);
  } else if (size >= 8) {
    first = load_8(at);
    last = load_8(at + size - 8);
  } else if (size >= 4) {
    first = load_4(at);
    last = load_4(at + size - 4);
  } else if (size > 0) {
    first = (uint64_t)at[0] << 16 | (uint64_t)at[size >> 1] << 8 | at[size - 1];
  }
  // The size goes into the last factor, so that runs which read alike (1 byte "a", 2 bytes "aa") differ.
  uint64_t mixed = fold(first ^ key ^ mix_2, last ^ state);
  return fold(mixed ^ mix_3, key ^ (uint64_t)size * mix_1);
}
