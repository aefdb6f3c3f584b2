// Memory that held a secret.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Zeroes it, and is not left out because nobody reads it afterwards. With size 0 `at` may be NULL.
static inline void wipe(void *at, size_t size)
{
  if (size == 0) return;
  memset(at, 0, size);
  __asm__ volatile("" : : "r"(at) : "memory");
}

// ... and frees it. NULL is harmless.
static inline void wipe_and_free(uint8_t *bytes, size_t size)
{
  if (bytes) wipe(bytes, size);
  free(bytes);
}
