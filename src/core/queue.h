// The messages that wait for a session, in the order in which they were routed, and the window of those in flight.
// This is the interface that a durable implementation fills too: the rest of core only appends at the end, looks at the
// front, takes the front, and reports what happened to packet identifiers.
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "core/message.h"
#include "core/tag.h"

struct retained_cursor;

// One message for one session. `cursor` stands for all retained messages that a SUBSCRIBE asked for: it keeps their place in
// the order without loading them.
struct copy {
  union {
    struct message *message;
    struct retained_cursor *cursor;
  };
  struct tag *tag;
  uint32_t place;      // in a durable session: low bits of its place in the queue, see durable.h
  uint16_t packet_id;  // in flight only
  uint8_t qos;
  uint8_t state : 2;  // enum copy_state
  bool retain : 1;    // the RETAIN flag to send
  bool is_cursor : 1;
  bool from_cursor : 1;  // a retained message: however old it is
};

static_assert(sizeof(struct copy) == 24, "queues are mostly made of these");

enum { QUEUE_BLOCK_COPIES = 21 };  // 512 bytes a block

struct queue_block {
  struct queue_block *next;
  struct copy copies[QUEUE_BLOCK_COPIES];
};

// Waiting, first in first out. Zeroed is empty; an empty queue owns no memory.
struct queue {
  struct queue_block *first, *last;
  uint16_t first_at, last_end;  // index of the first copy in `first`, one past the last in `last`
  uint32_t count;
};

// One more block at the end. ERR_NO_MEMORY leaves all as it was.
CHECK_RESULT enum status queue_grow(struct queue *queue, struct pool *pool);

// Takes the references that the copy holds, on success. ERR_NO_MEMORY leaves all as it was.
CHECK_RESULT static inline enum status queue_append(struct queue *queue, struct pool *pool, const struct copy *copy)
{
  if (!queue->last || queue->last_end == QUEUE_BLOCK_COPIES) {
    enum status status = queue_grow(queue, pool);
    if (status != OK) return status;
  }
  queue->last->copies[queue->last_end++] = *copy;
  queue->count++;
  return OK;
}

// NULL when empty; valid until the next change.
static inline struct copy *queue_peek(const struct queue *queue)
{
  return queue->count ? &queue->first->copies[queue->first_at] : NULL;
}

// Gives back the first block, all of which was taken.
void queue_shrink(struct queue *queue, struct pool *pool);

// Removes the front; its references go to the caller (look first).
static inline void queue_drop(struct queue *queue, struct pool *pool)
{
  assert(queue->count > 0);
  queue->first_at++;
  queue->count--;
  if (queue->count == 0 || queue->first_at == QUEUE_BLOCK_COPIES) queue_shrink(queue, pool);
}

// States of a copy in flight: SENT → (QoS 1) DONE; SENT → (QoS 2) RELEASED → DONE. A DONE one is a hole that goes when it is
// first.
enum copy_state { COPY_WAITING, COPY_SENT, COPY_RELEASED, COPY_DONE };

// Messages sent at QoS 1 or 2 and not complete, in order of sending. Identifiers are given in sequence, so the place in the
// ring follows from the first one's; in a durable session some may be left out, and it is found in a few steps. Zeroed is
// empty.
struct window {
  struct copy *ring;              // a power of two of them
  uint32_t capacity, head, span;  // span: from the first to the last, holes included
  uint32_t count;                 // without holes
  uint32_t resent;   // how many from the front were sent on this connection, when resending after a reconnect; else span
  uint16_t next_id;  // 0 before the first
};

// Whether another identifier can be given: the span of identifiers must stay below 65,535.
bool window_open(const struct window *window);

// Moves the copy into the window, gives it a packet identifier (0: the next in sequence; less than 65,535 behind the first
// one's) and state COPY_SENT. ERR_NO_MEMORY leaves all as it was.
CHECK_RESULT enum status window_append(struct window *window, struct pool *pool, struct copy *copy, uint16_t packet_id);

// NULL when the identifier is not in flight.
struct copy *window_find(const struct window *window, uint16_t packet_id);

// The copy at a place 0..span-1 from the front.
static inline struct copy *window_at(const struct window *window, uint32_t place)
{
  return &window->ring[(window->head + place) & (window->capacity - 1)];
}

// Drops complete ones from the front.
void window_trim(struct window *window);

// The copy is complete; whoever calls has released what it held.
void window_done(struct window *window, struct copy *copy);

// Its place from the front.
static inline uint32_t window_place(const struct window *window, const struct copy *copy)
{
  return ((uint32_t)(copy - window->ring) - window->head) & (window->capacity - 1);
}

void window_deinit(struct window *window, struct pool *pool);  // must hold nothing

// Packet identifiers of QoS 2 messages received and not yet released [MQTT-4.3.3-10]. Zeroed is empty.
struct packet_ids {
  uint16_t *ids;
  uint32_t count, capacity;
};
bool packet_ids_have(const struct packet_ids *set, uint16_t id);
CHECK_RESULT enum status packet_ids_add(struct packet_ids *set, uint16_t id);
bool packet_ids_remove(struct packet_ids *set, uint16_t id);  // false when it was not there
void packet_ids_deinit(struct packet_ids *set);
