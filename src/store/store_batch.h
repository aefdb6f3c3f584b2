// RECORD_BATCH: what stands in front of everything that is written at once. Body, little-endian:
//   0  u64  journal time in milliseconds
//   8  i64  wall time in milliseconds since 1970
//  16  u64  every record with a sequence below this one was safe before this record was written
// What is missing below `safe` is damage; what is missing from there on may never have been written.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "core/record.h"

enum { STORE_BATCH_SIZE = 24 };

struct store_batch {
  uint64_t journal_ms;
  struct wall wall;
  uint64_t safe;
};

static inline enum status store_batch_put(struct buffer *out, const struct store_batch *batch)
{
  uint8_t body[STORE_BATCH_SIZE];
  uint8_t *at = record_write_u64(body, batch->journal_ms);
  at = record_write_u64(at, (uint64_t)batch->wall.ms);
  record_write_u64(at, batch->safe);
  return record_put(out, RECORD_BATCH, span_of(body, sizeof body));
}

static inline bool store_batch_get(struct span body, struct store_batch *out)
{
  if (body.size != STORE_BATCH_SIZE) return false;
  struct record_reader reader = {.rest = body};
  out->journal_ms = record_read_u64(&reader);
  out->wall.ms = (int64_t)record_read_u64(&reader);
  out->safe = record_read_u64(&reader);
  return !reader.failed;
}
