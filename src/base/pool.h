// Memory for the hot path: free lists by size class in front of malloc, owned by one thread. A block may be freed into
// another thread's pool than it came from. Sizes are counted into a budget that several pools can share.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  POOL_CLASSES = 8,  // 64, 128, 256 ... 8192 bytes; larger blocks go to malloc each time
  POOL_CLASS_0 = 64,
  POOL_KEEP_BYTES = 1 << 20,  // per pool: more free bytes than this go back to malloc
};

// Shared by the pools of one broker. `used` counts allocated blocks, not the free ones kept for reuse.
struct memory_budget {
  _Atomic int64_t used_bytes;
  _Atomic int64_t limit_bytes;  // may change while it is used
};

struct pool {
  struct memory_budget *budget;  // NULL: not counted
  int64_t uncounted_bytes;       // not yet added to the budget; flushed when beyond +-16 KiB and by pool_settle
  int64_t tight_at, full_at;     // of uncounted_bytes; INT64_MAX without a budget
  size_t kept_bytes;
  uint8_t number;  // of the thread that owns it, for blocks that are to go home
  void **homes;    // chains of blocks that belong to other pools, by number; NULL: all blocks are freed where they are
  void *free_blocks[POOL_CLASSES];
};

void pool_init(struct pool *pool, struct memory_budget *budget);
void pool_deinit(struct pool *pool);  // gives the kept blocks back to malloc

// NULL when malloc fails. The budget is a mark for flow control, not a wall: going over it does not fail.
void *pool_alloc(struct pool *pool, size_t size);

// `size` is what was asked for. NULL is harmless.
void pool_free(struct pool *pool, void *block, size_t size);

// Counts memory that does not come from the pool: positive when it is taken, negative when it is given back.
void pool_charge(struct pool *pool, int64_t bytes);

// Whether three quarters of the budget are used; all of it. False without a budget. Asked several times for every message,
// so what the other pools use, and a new limit, are seen when this pool settles.
static inline bool pool_tight(const struct pool *pool)
{
  return pool->uncounted_bytes > pool->tight_at;
}

static inline bool pool_full(const struct pool *pool)
{
  return pool->uncounted_bytes > pool->full_at;
}

// Adds what is uncounted to the budget, and sees what the others have added. Once per loop turn is enough.
void pool_settle(struct pool *pool);
