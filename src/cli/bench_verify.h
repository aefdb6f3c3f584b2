// Whether every message arrived, once and in order: one tracker per (subscriber, publisher, topic), fed with sequence
// numbers. Pure. One thread.
#pragma once

#include <stdint.h>

// A zeroed tracker expects sequence number 0 next.
struct tracker {
  uint32_t next;     // one past the highest number seen
  uint32_t missing;  // numbers below `next` that have not been seen
  uint64_t recent;   // bit i: number next - 1 - i has been seen
};

struct verdict {
  uint64_t received;    // distinct messages
  uint64_t duplicates;  // arrived again
  uint64_t disordered;  // arrived after a later one
};

enum { TRACKER_WINDOW = 64 };

// The slow path of tracker_receive: `sequence` is not the next one.
void tracker_receive_odd(struct tracker *tracker, uint32_t sequence, struct verdict *verdict);

// Takes the number of an arrived message. Inline: hot path. A late number more than TRACKER_WINDOW back is taken for a late
// one while numbers are missing and for a duplicate when none are.
static inline void tracker_receive(struct tracker *tracker, uint32_t sequence, struct verdict *verdict)
{
  if (sequence != tracker->next) {
    tracker_receive_odd(tracker, sequence, verdict);
    return;
  }
  tracker->next = sequence + 1;
  tracker->recent = tracker->recent << 1 | 1;
  verdict->received++;
}
