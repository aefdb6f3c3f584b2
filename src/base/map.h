// A hash table of pointers, open addressing with linear probing and backward-shift removal. Keys live inside the caller's
// objects; the caller hashes. Grows at 3/4 full, shrinks when 1/8 full. Not thread-safe.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct map_slot {
  uint64_t hash;
  void *item;  // NULL: free
};

struct map {
  struct map_slot *slots;  // a power of two of them, NULL until the first item
  size_t capacity;
  size_t count;
};

// Whether `item` has the key. Called only when the full 64-bit hashes agree.
typedef bool map_matches(const void *item, const void *key);

// A zeroed struct is an empty map too.
void map_init(struct map *map);
void map_deinit(struct map *map);  // the items are the caller's

static inline void *map_find(const struct map *map, uint64_t hash, map_matches *matches, const void *key)
{
  if (map->count == 0) return NULL;
  size_t mask = map->capacity - 1;
  for (size_t i = (size_t)hash & mask; map->slots[i].item; i = (i + 1) & mask)
    if (map->slots[i].hash == hash && matches(map->slots[i].item, key)) return map->slots[i].item;
  return NULL;
}

// The item must not be in the map. ERR_NO_MEMORY leaves the map as it was.
CHECK_RESULT enum status map_insert(struct map *map, uint64_t hash, void *item);

// Removes exactly this pointer; false when it was not there.
bool map_remove(struct map *map, uint64_t hash, const void *item);

// Walks in no particular order; start with *cursor = 0, NULL at the end. Removing or inserting while walking is not allowed.
void *map_next(const struct map *map, size_t *cursor);
