// Queues and windows in memory.

#include "core/queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(sizeof(struct queue_block) == 512, "a size class of the pool");

enum status queue_grow(struct queue *queue, struct pool *pool)
{
  struct queue_block *block = pool_alloc(pool, sizeof *block);
  if (!block) return ERR_NO_MEMORY;
  block->next = NULL;
  if (queue->last)
    queue->last->next = block;
  else
    *queue = (struct queue){.first = block};
  queue->last = block;
  queue->last_end = 0;
  return OK;
}

void queue_shrink(struct queue *queue, struct pool *pool)
{
  struct queue_block *block = queue->first;
  if (queue->count == 0)
    *queue = (struct queue){0};
  else {
    queue->first = block->next;
    queue->first_at = 0;
  }
  pool_free(pool, block, sizeof *block);
}

// ---- Window

enum { PACKET_IDS = 65535 };  // 1..65535, wrapping

bool window_open(const struct window *window)
{
  return window->span < PACKET_IDS;
}

static enum status window_grow(struct window *window, struct pool *pool)
{
  uint32_t capacity = window->capacity ? window->capacity * 2 : 8;
  struct copy *ring = pool_alloc(pool, capacity * sizeof *ring);
  if (!ring) return ERR_NO_MEMORY;
  for (uint32_t i = 0; i < window->span; i++) ring[i] = *window_at(window, i);
  pool_free(pool, window->ring, window->capacity * sizeof *ring);
  window->ring = ring;
  window->capacity = capacity;
  window->head = 0;
  return OK;
}

enum status window_append(struct window *window, struct pool *pool, struct copy *copy, uint16_t packet_id)
{
  assert(window_open(window));
  if (window->span == window->capacity) {
    enum status status = window_grow(window, pool);
    if (status != OK) return status;
  }
  if (packet_id == 0) packet_id = window->next_id < PACKET_IDS ? (uint16_t)(window->next_id + 1) : 1;
  window->next_id = packet_id;
  copy->packet_id = window->next_id;
  copy->state = COPY_SENT;
  *window_at(window, window->span) = *copy;
  window->span++;
  window->count++;
  return OK;
}

// How many identifiers further, going on with 1 after the last. No division: this is asked for every acknowledgement.
static uint32_t distance_between(uint32_t first, uint32_t packet_id)
{
  return packet_id >= first ? packet_id - first : packet_id + PACKET_IDS - first;
}

// Of the places 0..last: the first whose identifier is at least `distance` behind the first one's, or `last`.
static uint32_t search(const struct window *window, uint32_t last, uint32_t first, uint32_t distance)
{
  uint32_t low = 0, high = last;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (distance_between(first, window_at(window, middle)->packet_id) < distance)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

struct copy *window_find(const struct window *window, uint16_t packet_id)
{
  if (window->span == 0) return NULL;
  uint32_t first = window_at(window, 0)->packet_id;
  uint32_t distance = distance_between(first, packet_id);
  // Where it is when no identifier was left out; else further in front.
  uint32_t place = distance < window->span ? distance : window->span - 1;
  struct copy *copy = window_at(window, place);
  if (copy->packet_id != packet_id) {
    copy = window_at(window, search(window, place, first, distance));
    if (copy->packet_id != packet_id) return NULL;
  }
  return copy->state == COPY_DONE ? NULL : copy;
}

void window_done(struct window *window, struct copy *copy)
{
  assert(copy->state != COPY_DONE);
  copy->state = COPY_DONE;
  copy->message = NULL;
  copy->tag = NULL;
  window->count--;
  window_trim(window);
}

void window_trim(struct window *window)
{
  uint32_t complete = 0;
  while (complete < window->span && window_at(window, complete)->state == COPY_DONE) complete++;
  if (complete == 0) return;
  window->head = (window->head + complete) & (window->capacity - 1);
  window->span -= complete;
  window->resent = window->resent > complete ? window->resent - complete : 0;
}

void window_deinit(struct window *window, struct pool *pool)
{
  assert(window->count == 0);
  pool_free(pool, window->ring, window->capacity * sizeof *window->ring);
  *window = (struct window){.next_id = window->next_id};
}

// ---- Packet identifiers received

bool packet_ids_have(const struct packet_ids *set, uint16_t id)
{
  for (uint32_t i = 0; i < set->count; i++)
    if (set->ids[i] == id) return true;
  return false;
}

enum status packet_ids_add(struct packet_ids *set, uint16_t id)
{
  if (set->count == set->capacity) {
    uint32_t capacity = set->capacity ? set->capacity * 2 : 8;
    uint16_t *ids = realloc(set->ids, capacity * sizeof *ids);
    if (!ids) return ERR_NO_MEMORY;
    set->ids = ids;
    set->capacity = capacity;
  }
  set->ids[set->count++] = id;
  return OK;
}

bool packet_ids_remove(struct packet_ids *set, uint16_t id)
{
  for (uint32_t i = 0; i < set->count; i++) {
    if (set->ids[i] != id) continue;
    set->ids[i] = set->ids[--set->count];
    return true;
  }
  return false;
}

void packet_ids_deinit(struct packet_ids *set)
{
  free(set->ids);
  *set = (struct packet_ids){0};
}
