// Keyed 64-bit hashing for tables whose keys come from peers. The seed is secret and random per process, so that nobody can
// choose keys that collide. Not cryptographic and not stable across processes: never store a hash.
#pragma once

#include <stdint.h>

#include "base/span.h"

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t size);

static inline uint64_t hash_span(uint64_t seed, struct span span)
{
  return hash_bytes(seed, span.at, span.size);
}
