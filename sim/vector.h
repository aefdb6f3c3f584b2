// A growing array for the simulation's own book-keeping. Running out of memory ends the simulation.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define VECTOR(type)                                                                                                        \
  struct {                                                                                                                  \
    type *items;                                                                                                            \
    size_t count, capacity;                                                                                                 \
  }

static inline void *vector_room(void *items, size_t count, size_t *capacity, size_t item_size)
{
  if (count < *capacity) return items;
  *capacity = *capacity ? *capacity * 2 : 16;
  void *grown = reallocarray(items, *capacity, item_size);
  if (!grown) abort();
  return grown;
}

#define VECTOR_PUSH(vector, item)                                                                                           \
  ((vector)->items = vector_room((vector)->items, (vector)->count, &(vector)->capacity, sizeof *(vector)->items),           \
   (vector)->items[(vector)->count++] = (item))

// Keeps the order.
#define VECTOR_REMOVE(vector, at)                                                                                           \
  do {                                                                                                                      \
    for (size_t remove_ = (at); remove_ + 1 < (vector)->count; remove_++)                                                   \
      (vector)->items[remove_] = (vector)->items[remove_ + 1];                                                              \
    (vector)->count--;                                                                                                      \
  } while (0)

static inline void *sim_alloc(size_t size)
{
  void *block = calloc(1, size);
  if (!block) abort();
  return block;
}
