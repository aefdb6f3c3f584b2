// The full 128-bit product of two 64-bit numbers, also where the compiler has no 128-bit type (32-bit ARM).
#pragma once

#include <stdint.h>

struct wide {
  uint64_t low;
  uint64_t high;
};

static inline struct wide wide_multiply_portable(uint64_t a, uint64_t b)
{
  uint64_t a_low = (uint32_t)a, a_high = a >> 32, b_low = (uint32_t)b, b_high = b >> 32;
  uint64_t low = a_low * b_low;
  uint64_t middle = a_high * b_low + (low >> 32);
  uint64_t carry = a_low * b_high + (uint32_t)middle;
  return (struct wide){.low = (carry << 32) | (uint32_t)low, .high = a_high * b_high + (middle >> 32) + (carry >> 32)};
}

static inline struct wide wide_multiply(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
  unsigned __int128 product = (unsigned __int128)a * b;
  return (struct wide){.low = (uint64_t)product, .high = (uint64_t)(product >> 64)};
#else
  return wide_multiply_portable(a, b);
#endif
}
