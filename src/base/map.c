// Slots keep the full hash, so that growing and removing never look into an item.
#include "base/map.h"

#include <assert.h>
#include <stdlib.h>

enum { MAP_FIRST_CAPACITY = 8 };

void map_init(struct map *map)
{
  *map = (struct map){0};
}

void map_deinit(struct map *map)
{
  free(map->slots);
  map_init(map);
}

static void place(struct map_slot *slots, size_t mask, struct map_slot slot)
{
  size_t i = (size_t)slot.hash & mask;
  while (slots[i].item) i = (i + 1) & mask;
  slots[i] = slot;
}

static enum status resize(struct map *map, size_t capacity)
{
  assert((capacity & (capacity - 1)) == 0);
  assert(map->count < capacity);

  struct map_slot *slots = calloc(capacity, sizeof *slots);
  if (!slots) return ERR_NO_MEMORY;
  for (size_t i = 0; i < map->capacity; i++)
    if (map->slots[i].item) place(slots, capacity - 1, map->slots[i]);
  free(map->slots);
  map->slots = slots;
  map->capacity = capacity;
  return OK;
}

enum status map_insert(struct map *map, uint64_t hash, void *item)
{
  assert(item);
  if (map->count >= map->capacity / 4 * 3) {
    if (map->capacity > SIZE_MAX / 2 / sizeof *map->slots) return ERR_NO_MEMORY;
    enum status status = resize(map, map->capacity > 0 ? map->capacity * 2 : MAP_FIRST_CAPACITY);
    if (status != OK) return status;
  }
  place(map->slots, map->capacity - 1, (struct map_slot){.hash = hash, .item = item});
  map->count++;
  return OK;
}

// Closes the gap at `hole`: every item behind it that may move closer to its own place does, so no tombstones are needed.
static void shift_back(struct map *map, size_t hole)
{
  size_t mask = map->capacity - 1;
  for (size_t i = (hole + 1) & mask; map->slots[i].item; i = (i + 1) & mask) {
    size_t home = (size_t)map->slots[i].hash & mask;
    bool home_is_behind_hole = ((i - home) & mask) < ((i - hole) & mask);
    if (home_is_behind_hole) continue;
    map->slots[hole] = map->slots[i];
    hole = i;
  }
  map->slots[hole] = (struct map_slot){0};
}

bool map_remove(struct map *map, uint64_t hash, const void *item)
{
  if (map->count == 0) return false;
  size_t mask = map->capacity - 1;
  size_t i = (size_t)hash & mask;
  while (map->slots[i].item != item) {
    if (!map->slots[i].item) return false;
    i = (i + 1) & mask;
  }
  shift_back(map, i);
  map->count--;

  // Without memory for a smaller table the larger one goes on serving.
  if (map->capacity > MAP_FIRST_CAPACITY && map->count <= map->capacity / 8) (void)!resize(map, map->capacity / 2);
  return true;
}

void *map_next(const struct map *map, size_t *cursor)
{
  while (*cursor < map->capacity) {
    void *item = map->slots[(*cursor)++].item;
    if (item) return item;
  }
  return NULL;
}
