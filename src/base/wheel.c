// A timer's level is the highest group of six bits in which its deadline differs from the wheel's time, its slot the value
// of that group. So a timer is on level 0 exactly when the wheel has entered the 64 ms block of its deadline, and by then
// all timers of that block have been re-filed there, in the order in which they were armed: that is what keeps equal
// deadlines in order.
#include "base/wheel.h"

#include <assert.h>
#include <stddef.h>

enum { SLOT_BITS = 6, WHEEL_BITS = SLOT_BITS * WHEEL_LEVELS };

static_assert(WHEEL_SLOTS == 1 << SLOT_BITS, "a slot is a group of bits");

void wheel_init(struct wheel *wheel, struct mono now)
{
  *wheel = (struct wheel){.now_ms = now.ms, .target_ms = now.ms};
  list_init(&wheel->overdue);
  for (unsigned level = 0; level < WHEEL_LEVELS; level++)
    for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) list_init(&wheel->slots[level][slot]);
}

void timer_init(struct timer *timer, timer_fired *fired)
{
  list_init(&timer->link);
  timer->deadline_ms = 0;
  timer->fired = fired;
}

static unsigned slot_of(uint64_t time_ms, unsigned level)
{
  return (unsigned)(time_ms >> (SLOT_BITS * level)) & (WHEEL_SLOTS - 1);
}

// The deadline must not be before the wheel's time.
static void file(struct wheel *wheel, struct timer *timer)
{
  assert(timer->deadline_ms >= wheel->now_ms);
  uint64_t difference = timer->deadline_ms ^ wheel->now_ms;
  unsigned level = difference == 0 ? 0 : (unsigned)(63 - __builtin_clzll(difference)) / SLOT_BITS;
  unsigned slot = slot_of(timer->deadline_ms, level);
  if (level >= WHEEL_LEVELS) {
    // Beyond the wheel's reach. Slot 0 of the last level is where the wheel arrives when its higher bits change, and no
    // timer within reach is ever ahead of the wheel there.
    level = WHEEL_LEVELS - 1;
    slot = 0;
  }
  list_append(&wheel->slots[level][slot], &timer->link);
  wheel->occupied[level] |= UINT64_C(1) << slot;
}

void wheel_arm(struct wheel *wheel, struct timer *timer, struct mono deadline)
{
  assert(timer->fired);
  list_remove(&timer->link);
  timer->deadline_ms = deadline.ms;
  if (deadline.ms > wheel->target_ms)
    file(wheel, timer);
  else
    list_append(&wheel->overdue, &timer->link);
}

void wheel_cancel(struct timer *timer)
{
  list_remove(&timer->link);
}

static void fire_all(struct link *list, struct mono now)
{
  struct link due;
  list_take_all(&due, list);
  for (struct link *link = list_take_first(&due); link; link = list_take_first(&due)) {
    struct timer *timer = CONTAINER_OF(link, struct timer, link);
    timer->fired(timer, now);
  }
}

struct position {
  unsigned level;
  unsigned slot;
  uint64_t start_ms;  // when the wheel arrives there
};

// The next slot after `after` with its bit set, WHEEL_SLOTS when there is none.
static unsigned next_slot(uint64_t occupied, unsigned after)
{
  uint64_t ahead = after + 1 < WHEEL_SLOTS ? occupied & UINT64_MAX << (after + 1) : 0;
  return ahead ? (unsigned)__builtin_ctzll(ahead) : WHEEL_SLOTS;
}

// Where the wheel has to stop next. Slots ahead on a lower level all come before those on a higher one. False: nowhere.
static bool next_position(const struct wheel *wheel, struct position *out)
{
  for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
    unsigned slot = slot_of(wheel->now_ms, level);
    while ((slot = next_slot(wheel->occupied[level], slot)) < WHEEL_SLOTS) {
      if (list_empty(&wheel->slots[level][slot])) continue;  // its timers were cancelled
      unsigned shift = SLOT_BITS * level;
      uint64_t block_ms = wheel->now_ms >> shift >> SLOT_BITS << SLOT_BITS << shift;
      *out = (struct position){.level = level, .slot = slot, .start_ms = block_ms | (uint64_t)slot << shift};
      return true;
    }
  }
  if (list_empty(&wheel->slots[WHEEL_LEVELS - 1][0])) return false;
  uint64_t start_ms = ((wheel->now_ms >> WHEEL_BITS) + 1) << WHEEL_BITS;
  if (start_ms == 0) return false;  // the end of time
  *out = (struct position){.level = WHEEL_LEVELS - 1, .slot = 0, .start_ms = start_ms};
  return true;
}

// Files the slot's timers again, now that they are nearer.
static void file_again(struct wheel *wheel, struct link *slot)
{
  struct link near;
  list_take_all(&near, slot);
  for (struct link *link = list_take_first(&near); link; link = list_take_first(&near))
    file(wheel, CONTAINER_OF(link, struct timer, link));
}

// Clears the bits that the wheel has passed, so that slots emptied by cancelling are not looked at again next time round.
static void forget_passed(struct wheel *wheel)
{
  for (unsigned level = 0; level < WHEEL_LEVELS; level++)
    wheel->occupied[level] &= UINT64_MAX << slot_of(wheel->now_ms, level);
}

static void arrive(struct wheel *wheel, struct position at, struct mono now)
{
  assert(at.start_ms >= wheel->now_ms);
  wheel->now_ms = at.start_ms;
  wheel->occupied[at.level] &= ~(UINT64_C(1) << at.slot);
  if (at.level > 0) file_again(wheel, &wheel->slots[at.level][at.slot]);

  // Either the slot that the wheel came for, or what file_again just found to be due at once.
  fire_all(&wheel->slots[0][slot_of(wheel->now_ms, 0)], now);
}

void wheel_advance(struct wheel *wheel, struct mono now)
{
  assert(!wheel->advancing);
  wheel->advancing = true;
  if (now.ms > wheel->target_ms) wheel->target_ms = now.ms;
  now.ms = wheel->target_ms;

  fire_all(&wheel->overdue, now);
  struct position next;
  while (next_position(wheel, &next) && next.start_ms <= now.ms) arrive(wheel, next, now);
  wheel->now_ms = now.ms;
  forget_passed(wheel);
  wheel->advancing = false;
}

int64_t wheel_next_ms(const struct wheel *wheel, struct mono now)
{
  if (!list_empty(&wheel->overdue)) return 0;
  struct position next;
  if (!next_position(wheel, &next)) return -1;
  if (next.start_ms <= now.ms) return 0;
  uint64_t left_ms = next.start_ms - now.ms;
  return left_ms < INT64_MAX ? (int64_t)left_ms : INT64_MAX;
}
