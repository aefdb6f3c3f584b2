#include "cli/bench_verify.h"

#include <assert.h>

static void jump_ahead(struct tracker *tracker, uint32_t sequence, struct verdict *verdict)
{
  uint32_t skipped = sequence - tracker->next;
  tracker->missing += skipped;
  tracker->recent = skipped + 1 < TRACKER_WINDOW ? tracker->recent << (skipped + 1) | 1 : 1;
  tracker->next = sequence + 1;
  verdict->received++;
}

static void take_late(struct tracker *tracker, struct verdict *verdict)
{
  assert(tracker->missing > 0);
  tracker->missing--;
  verdict->received++;
  verdict->disordered++;
}

void tracker_receive_odd(struct tracker *tracker, uint32_t sequence, struct verdict *verdict)
{
  assert(sequence != tracker->next);
  if (sequence > tracker->next) {
    jump_ahead(tracker, sequence, verdict);
    return;
  }
  uint32_t back = tracker->next - 1 - sequence;
  uint64_t bit = back < TRACKER_WINDOW ? UINT64_C(1) << back : 0;
  if (tracker->missing == 0 || (tracker->recent & bit) != 0) {
    verdict->duplicates++;
    return;
  }
  tracker->recent |= bit;
  take_late(tracker, verdict);
}
