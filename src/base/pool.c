// A free block's first bytes link it to the next free one of its class. No block has a header: the caller knows the size.
#include "base/pool.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_UNCOUNTED_BYTES = 16 * 1024 };

// With AddressSanitizer every block comes from malloc and goes back at once, or it could not see a use after free.
#if defined(__SANITIZE_ADDRESS__)
static const bool reuse_blocks = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
static const bool reuse_blocks = false;
#else
static const bool reuse_blocks = true;
#endif
#else
static const bool reuse_blocks = true;
#endif

static_assert(POOL_CLASS_0 == 64, "class_of counts from 2^6");
static_assert(POOL_CLASS_0 >= sizeof(void *), "a free block holds a link");

void pool_init(struct pool *pool, struct memory_budget *budget)
{
  *pool = (struct pool){.budget = budget, .tight_at = INT64_MAX, .full_at = INT64_MAX};
  pool_settle(pool);
}

void pool_deinit(struct pool *pool)
{
  pool_settle(pool);
  for (unsigned i = 0; i < POOL_CLASSES; i++) {
    while (pool->free_blocks[i]) {
      void *block = pool->free_blocks[i];
      memcpy(&pool->free_blocks[i], block, sizeof block);
      free(block);
    }
  }
  pool->kept_bytes = 0;
}

void pool_settle(struct pool *pool)
{
  int64_t bytes = pool->uncounted_bytes;
  pool->uncounted_bytes = 0;
  struct memory_budget *budget = pool->budget;
  if (!budget) return;
  // All shards write this number: who has nothing to add leaves its cache line alone.
  int64_t used = bytes == 0 ? atomic_load_explicit(&budget->used_bytes, memory_order_relaxed)
                            : atomic_fetch_add_explicit(&budget->used_bytes, bytes, memory_order_relaxed) + bytes;
  int64_t limit = atomic_load_explicit(&budget->limit_bytes, memory_order_relaxed);
  pool->tight_at = limit / 4 * 3 - used;
  pool->full_at = limit - used;
}

static inline unsigned class_of(size_t size)
{
  if (size <= POOL_CLASS_0) return 0;
  return (unsigned)(64 - __builtin_clzll((unsigned long long)size - 1)) - 6;
}

// What a block of the size takes: its class's size, or its own when it is too large for a class.
static inline size_t block_bytes(unsigned class, size_t size)
{
  return class < POOL_CLASSES ? (size_t)POOL_CLASS_0 << class : size;
}

static inline void count(struct pool *pool, int64_t bytes)
{
  pool->uncounted_bytes += bytes;
  if (pool->uncounted_bytes > POOL_UNCOUNTED_BYTES || pool->uncounted_bytes < -POOL_UNCOUNTED_BYTES) pool_settle(pool);
}

void pool_charge(struct pool *pool, int64_t bytes)
{
  count(pool, bytes);
}

void *pool_alloc(struct pool *pool, size_t size)
{
  unsigned class = class_of(size);
  size_t bytes = block_bytes(class, size);
  void *block;
  if (class < POOL_CLASSES && pool->free_blocks[class]) {
    block = pool->free_blocks[class];
    memcpy(&pool->free_blocks[class], block, sizeof block);
    assert(pool->kept_bytes >= bytes);
    pool->kept_bytes -= bytes;
  } else {
    block = malloc(reuse_blocks ? bytes : size);
    if (!block) return NULL;
  }
  count(pool, (int64_t)bytes);
  return block;
}

void pool_free(struct pool *pool, void *block, size_t size)
{
  if (!block) return;
  unsigned class = class_of(size);
  size_t bytes = block_bytes(class, size);
  count(pool, -(int64_t)bytes);
  if (!reuse_blocks || class >= POOL_CLASSES || pool->kept_bytes + bytes > POOL_KEEP_BYTES) {
    free(block);
    return;
  }
  memcpy(block, &pool->free_blocks[class], sizeof(void *));
  pool->free_blocks[class] = block;
  pool->kept_bytes += bytes;
}
