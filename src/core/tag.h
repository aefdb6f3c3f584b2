// What a copy carries besides the message because of the subscriptions that it matched: their identifiers, and the shared
// group that chose its receiver. Reference-counted within one shard; most copies have none (NULL).
#pragma once

#include <stdint.h>

#include "base/status.h"

struct tag {
  uint32_t refs;
  uint32_t id_count;
  struct membership *membership;  // of the chosen member; cleared when the membership ends
  struct tag *older;              // an earlier one of the same membership, which copies still carry: referenced
  uint32_t ids[];                 // subscription identifiers, in no particular order
};

// One reference, the caller's. NULL when memory is short.
struct tag *tag_create(const uint32_t *ids, uint32_t id_count);

// Adds an identifier to a tag that came from this function and that nobody else refers to yet, or makes the first one when
// it is NULL. The same identifier may be in it several times (5.0 section 3.3.4). ERR_NO_MEMORY leaves it as it was.
CHECK_RESULT enum status tag_add(struct tag **tag, uint32_t id);

static inline struct tag *tag_ref(struct tag *tag)
{
  if (tag) tag->refs++;
  return tag;
}

void tag_unref(struct tag *tag);  // NULL is harmless
