// A count of references, for what is immutable once it is shared and is freed by whoever lets go last. Any thread.
#pragma once

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct references {
  _Atomic uint32_t count;
};

// One reference: the maker's.
static inline void references_init(struct references *references)
{
  atomic_init(&references->count, 1);
}

// One more, by somebody who has one. Orders nothing: what the object holds came to this thread along with the reference that
// it has already, and none can be the last one meanwhile.
static inline void references_take(struct references *references)
{
  uint32_t before = atomic_fetch_add_explicit(&references->count, 1, memory_order_relaxed);
  assert(before > 0);           // it is on its way to be freed
  assert(before < UINT32_MAX);  // the next one would be the first again
}

// True: this was the last one, and the caller frees. Releasing, so that all that a thread has done with the object is done
// before its reference goes; acquiring, so that the last one sees the others done before it frees.
__attribute__((warn_unused_result)) static inline bool references_drop(struct references *references)
{
  uint32_t before = atomic_fetch_sub_explicit(&references->count, 1, memory_order_acq_rel);
  assert(before > 0);
  return before == 1;
}
