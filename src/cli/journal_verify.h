// What `skerry journal verify` has found, and how it is told.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/status.h"
#include "cli/journal_reading.h"

// Where records are that something may refer to: offsets in one segment.
struct places {
  uint32_t segment;
  uint32_t *offsets;
  size_t count, capacity;
};

// What cannot be delivered to one session.
struct loss {
  uint32_t session;
  uint64_t missing;  // places that never came while the log was replayed
  uint64_t holes;    // places that wait without a message: the missing ones, and those that were given up earlier
  uint64_t lost;     // messages that are not where they should be
  bool will;
};

struct verify {
  struct journal_reading *reading;
  struct places *segments;  // ascending
  size_t segment_count, segment_capacity;
  uint64_t unreadable;     // whole records whose body is not what their type says
  uint64_t unreadable_at;  // position of the first of them
  struct loss **losses;    // in the order in which they were found
  struct map by_session;
  size_t loss_count, loss_capacity;
  uint64_t retained_lost;
  uint64_t queues, queued, wills, subscriptions;  // that were found
  uint64_t total_bytes;                           // of all segments, for the progress
  uint64_t shown_ms;
  bool terminal;
  enum status failure;
};

// Lost by damage that is there now; what else is a hole was lost, and told, when a broker found the damage.
uint64_t verify_lost_messages(const struct loss *loss);
uint64_t verify_lost_earlier(const struct loss *loss);

uint64_t verify_lost(const struct verify *verify);  // all that is lost now: messages, retained messages, wills
bool verify_whole(const struct verify *verify);

void verify_print_text(const struct verify *verify);
CHECK_RESULT enum status verify_print_json(const struct verify *verify);
