// A hierarchical timer wheel with a tick of one millisecond: arming, re-arming and cancelling are constant time, advancing
// costs what has expired. It reads no clock. Not thread-safe.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"

enum {
  WHEEL_LEVELS = 5,
  WHEEL_SLOTS = 64
};  // 64^5 ms, about 12 days; later deadlines wait in the last level and are re-filed

struct timer;
typedef void timer_fired(struct timer *timer, struct mono now);

struct timer {
  struct link link;
  uint64_t deadline_ms;
  timer_fired *fired;  // which object it is, the function knows from the struct that the timer is embedded in
};

struct wheel {
  uint64_t now_ms;     // everything due before it has fired
  uint64_t target_ms;  // what wheel_advance was last told; ahead of now_ms only while it runs
  bool advancing;
  struct link overdue;              // armed for a time that had passed
  uint64_t occupied[WHEEL_LEVELS];  // a bit per slot that may hold timers
  struct link slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, struct mono now);
void timer_init(struct timer *timer, timer_fired *fired);

static inline bool timer_armed(const struct timer *timer)
{
  return !link_idle(&timer->link);
}

// (Re-)arms the timer. A deadline that has passed counts as the present one and fires at the next advance, never in the one
// that is running: a function that re-arms its timer for now cannot hang the loop. Timers fire in order of their deadlines,
// those with the same deadline in the order they were armed.
void wheel_arm(struct wheel *wheel, struct timer *timer, struct mono deadline);
void wheel_cancel(struct timer *timer);  // harmless when it is not armed

// Fires everything due at or before `now`. A fired timer is idle when its function runs and may be re-armed or freed there;
// other timers may be armed and cancelled there too, but wheel_advance must not be called. Each function is handed `now`.
// Time never goes back: an earlier `now` is taken as the latest one.
void wheel_advance(struct wheel *wheel, struct mono now);

// Milliseconds until the next advance has something to do (exact or early, never late); -1 when no timer is armed.
int64_t wheel_next_ms(const struct wheel *wheel, struct mono now);
