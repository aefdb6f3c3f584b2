// The queue of a session: places from head to tail. The front lies in full blocks (catalog_block.c), what is behind them in
// `last`.
#include "store/catalog_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/search.h"

enum {
  LAST_KEPT = 64,        // an emptied queue keeps room for so many: it will be used again
  GAP_MOST = 1 << 18,    // places lost in a row that are kept as holes
  CONNECTED_BLOCKS = 3,  // so many blocks of a connected client's queue stay in memory
};

enum status catalog_grow_array(void **items, size_t *capacity, size_t needed, size_t item_size)
{
  if (needed <= *capacity) return OK;
  size_t larger = *capacity > 0 ? *capacity : 4;
  while (larger < needed) {
    if (larger > SIZE_MAX / 2 / item_size) return ERR_NO_MEMORY;
    larger *= 2;
  }
  void *grown = realloc(*items, larger * item_size);
  if (!grown) return ERR_NO_MEMORY;
  *items = grown;
  *capacity = larger;
  return OK;
}

// ---- Where a place is

size_t catalog_first_run(const struct catalog_session *session, uint64_t place)
{
  return SEARCH_FIRST(i, session->done_count, session->done[i].from + session->done[i].count <= place);
}

size_t catalog_first_sent(const struct catalog_session *session, uint64_t place)
{
  return SEARCH_FIRST(i, session->sent_count, session->sent_places[i] < place);
}

bool catalog_place_done(const struct catalog_session *session, uint64_t place)
{
  if (place < session->head) return true;
  size_t index = catalog_first_run(session, place);
  return index < session->done_count && session->done[index].from <= place;
}

bool catalog_place_sent(const struct catalog_session *session, uint64_t place)
{
  size_t index = catalog_first_sent(session, place);
  return index < session->sent_count && session->sent_places[index] == place;
}

bool catalog_queue_place(const struct catalog_session *session, uint32_t low, uint64_t *out_place)
{
  uint64_t place = session->head + (uint32_t)(low - (uint32_t)session->head);
  if (place >= session->tail) return false;
  *out_place = place;
  return true;
}

// ---- Memory

// Room for `more` references behind the last one.
static enum status last_reserve(struct catalog_session *session, size_t more)
{
  if (session->last_capacity - session->last_first - session->last_count >= more) return OK;
  if (session->last_first > 0 && session->last_first >= session->last_count &&
      session->last_capacity - session->last_count >= more) {
    memcpy(session->last, &session->last[session->last_first], session->last_count * sizeof *session->last);
    session->last_first = 0;
    return OK;
  }
  void *last = session->last;
  size_t needed = session->last_first + session->last_count + more;
  enum status status = catalog_grow_array(&last, &session->last_capacity, needed, sizeof *session->last);
  session->last = last;
  return status;
}

// Memory that a long queue needed goes back.
static void last_shrink(struct catalog_session *session)
{
  if (session->last_count == 0) session->last_first = 0;
  size_t keep = session->last_count * 2 > LAST_KEPT ? session->last_count * 2 : LAST_KEPT;
  if (session->last_capacity <= 4 * keep) return;
  memmove(session->last, &session->last[session->last_first], session->last_count * sizeof *session->last);
  session->last_first = 0;
  struct reference *last = realloc(session->last, keep * sizeof *last);
  if (!last) return;
  session->last = last;
  session->last_capacity = keep;
}

void catalog_queue_drop_first_of_last(struct catalog_session *session, size_t count)
{
  assert(count <= session->last_count);
  session->last_first += count;
  session->last_count -= count;
  last_shrink(session);
}

enum status catalog_block_reserve(struct catalog_session *session, size_t needed)
{
  if (session->block_capacity - session->block_first - session->block_count >= needed) return OK;
  if (session->block_first > 0 && session->block_first >= session->block_count) {
    memcpy(session->blocks, &session->blocks[session->block_first], session->block_count * sizeof *session->blocks);
    session->block_first = 0;
    if (session->block_capacity - session->block_count >= needed) return OK;
  }
  void *blocks = session->blocks;
  enum status status = catalog_grow_array(&blocks, &session->block_capacity,
                                          session->block_first + session->block_count + needed, sizeof *session->blocks);
  session->blocks = blocks;
  return status;
}

static void blocks_shrink(struct catalog_session *session)
{
  if (session->block_count == 0) session->block_first = 0;
  size_t keep = session->block_count * 2 > 4 ? session->block_count * 2 : 4;
  if (session->block_capacity <= 4 * keep) return;
  memmove(session->blocks, &session->blocks[session->block_first], session->block_count * sizeof *session->blocks);
  session->block_first = 0;
  struct block *blocks = realloc(session->blocks, keep * sizeof *blocks);
  if (!blocks) return;
  session->blocks = blocks;
  session->block_capacity = keep;
}

// Forgets sessions that have ended.
static void compact_ripe(struct catalog *catalog)
{
  size_t kept = 0;
  for (size_t i = 0; i < catalog->ripe_count; i++)
    if (catalog_find(catalog, catalog->ripe[i])) catalog->ripe[kept++] = catalog->ripe[i];
  catalog->ripe_count = kept;
}

void catalog_queue_look_ripe(struct catalog *catalog, struct catalog_session *session)
{
  size_t kept = session->connected ? CONNECTED_BLOCKS * CATALOG_BLOCK : 0;
  if (session->ripe || session->last_count < kept + CATALOG_BLOCK) return;
  if (catalog->ripe_count == catalog->ripe_capacity) compact_ripe(catalog);
  assert(catalog->ripe_count < catalog->ripe_capacity);  // there is room for every session
  catalog->ripe[catalog->ripe_count++] = session->number;
  session->ripe = true;
}

enum status catalog_put_references(struct catalog *catalog, struct buffer *out, size_t budget, bool *out_more)
{
  size_t before = buffer_size(out), kept_count = 0;
  bool more = false;
  enum status status = OK;
  for (size_t i = 0; i < catalog->ripe_count; i++) {
    struct catalog_session *session = catalog_find(catalog, catalog->ripe[i]);
    if (!session || !session->ripe) continue;
    size_t kept = session->connected ? CONNECTED_BLOCKS * CATALOG_BLOCK : 0;
    size_t count = session->last_count >= kept ? (session->last_count - kept) / CATALOG_BLOCK : 0;
    if (count == 0) {
      session->ripe = false;
      continue;
    }
    catalog->ripe[kept_count++] = session->number;
    for (size_t k = 0; k < count && status == OK; k++) {
      more = buffer_size(out) - before >= budget;
      if (more) break;
      const struct reference *references = &session->last[session->last_first + k * CATALOG_BLOCK];
      status = catalog_put_block(out, session->number, last_place(session) + k * CATALOG_BLOCK, references);
    }
  }
  catalog->ripe_count = kept_count;
  *out_more = more;
  return status;
}

// ---- Messages come

enum status catalog_queue_plan(struct catalog_session *session, uint32_t low)
{
  uint64_t tail = session->tail + session->planned;
  uint32_t gap = low - (uint32_t)tail;
  if (gap > UINT32_MAX / 2) return OK;  // it was there before
  enum status status = last_reserve(session, session->planned_entries + (gap <= GAP_MOST ? gap : 0) + 1);
  if (status != OK) return status;
  session->planned += (uint64_t)gap + 1;
  session->planned_entries += (gap <= GAP_MOST ? gap : 0) + 1;
  return OK;
}

void catalog_queue_unplan(struct catalog_session *session)
{
  session->planned = 0;
  session->planned_entries = 0;
}

static void append(struct catalog *catalog, struct catalog_session *session, const struct reference *reference)
{
  assert(session->last_first + session->last_count < session->last_capacity);
  session->last[session->last_first + session->last_count++] = *reference;
  session->tail++;
  session->waiting++;
  if (reference->position == 0) return;
  session->waiting_bytes += reference->weight;
  catalog_live_add(catalog, position_segment(reference->position), 1, reference->weight);
}

void catalog_queue_add(struct catalog *catalog, struct catalog_session *session, uint32_t low,
                       const struct reference *reference)
{
  uint32_t gap = low - (uint32_t)session->tail;
  if (gap > UINT32_MAX / 2) return;
  if (gap > GAP_MOST) {
    catalog_queue_clear(catalog, session, OUTCOME_DAMAGED);
    session->outcomes[OUTCOME_DAMAGED] += gap;
    session->tail += gap;
    session->head = session->blocks_from = session->tail;
    gap = 0;
  }
  const struct reference hole = {.time_s = reference->time_s};
  for (; gap > 0; gap--) append(catalog, session, &hole);
  append(catalog, session, reference);
  catalog_queue_look_ripe(catalog, session);
}

// ---- Messages go

void catalog_queue_release_last(struct catalog *catalog, struct catalog_session *session, struct reference *reference)
{
  if (reference->position == 0) return;
  assert(session->waiting_bytes >= reference->weight);
  session->waiting_bytes -= reference->weight;
  catalog_live_release(catalog, position_segment(reference->position), 1, reference->weight);
  reference->position = 0;
  reference->weight = 0;
}

// The places from..to-1, none of which is done, need their messages no more.
static void release_places(struct catalog *catalog, struct catalog_session *session, uint64_t from, uint64_t to)
{
  uint64_t behind = last_place(session);
  for (uint64_t place = from > behind ? from : behind; place < to; place++)
    catalog_queue_release_last(catalog, session, last_at(session, place));
  for (uint64_t place = from; place < to && place < behind;) {
    size_t index = (size_t)((place - session->blocks_from) / CATALOG_BLOCK);
    uint64_t next = block_place(session, index + 1);
    catalog_block_release_places(catalog, session, index, place, to < next ? to : next);
    place = next;
  }
}

// Adds the run, all places of which are done now, to the runs; there is room for one more.
static void merge_run(struct catalog_session *session, uint64_t from, uint64_t to)
{
  size_t first = catalog_first_run(session, from > 0 ? from - 1 : 0), behind = first;
  while (behind < session->done_count && session->done[behind].from <= to) {
    struct run run = session->done[behind++];
    if (run.from < from) from = run.from;
    if (run.from + run.count > to) to = run.from + run.count;
  }
  memmove(&session->done[first + 1], &session->done[behind], (session->done_count - behind) * sizeof *session->done);
  session->done[first] = (struct run){.from = from, .count = to - from};
  session->done_count = session->done_count - (behind - first) + 1;
}

static void forget_sent(struct catalog_session *session, uint64_t from, uint64_t to)
{
  size_t first = catalog_first_sent(session, from), behind = first;
  while (behind < session->sent_count && session->sent_places[behind] < to) behind++;
  if (behind == first) return;
  memmove(&session->sent_places[first], &session->sent_places[behind],
          (session->sent_count - behind) * sizeof *session->sent_places);
  session->sent_count -= behind - first;
}

// A block at the edge of a run that has grown: it may be done as a whole now, or what is left of it be counted at last.
static void look_at_block(struct catalog *catalog, struct catalog_session *session, uint64_t place)
{
  if (place < session->blocks_from || place >= last_place(session)) return;
  size_t index = (size_t)((place - session->blocks_from) / CATALOG_BLOCK);
  struct block *block = block_at(session, index);
  uint64_t from = block_place(session, index);
  size_t run = catalog_first_run(session, place);
  assert(run < session->done_count);
  bool from_head = session->done[run].from <= session->head;
  if ((from_head || session->done[run].from <= from) &&
      session->done[run].from + session->done[run].count >= from + CATALOG_BLOCK)
    catalog_block_release(catalog, session, block);
  else if (block->behind && catalog_block_peek(catalog, block))
    (void)!catalog_block_settle(catalog, session, index);  // without memory it stays behind
}

// Everything below the head goes.
static void advance_head(struct catalog *catalog, struct catalog_session *session)
{
  if (session->done_count == 0 || session->done[0].from > session->head) return;
  session->head = session->done[0].from + session->done[0].count;
  session->done_count--;
  memmove(&session->done[0], &session->done[1], session->done_count * sizeof *session->done);

  while (session->block_count > 0 && session->blocks_from + CATALOG_BLOCK <= session->head) {
    catalog_block_release(catalog, session, block_at(session, 0));
    session->block_first++;
    session->block_count--;
    session->blocks_from += CATALOG_BLOCK;
    blocks_shrink(session);
  }
  if (session->block_count == 0) {
    catalog_queue_drop_first_of_last(session, (size_t)(session->head - session->blocks_from));
    session->blocks_from = session->head;
    return;
  }
  struct block *block = block_at(session, 0);
  const struct reference *references = catalog_block_peek(catalog, block);
  if (references) block->time_s = references[session->head - session->blocks_from].time_s;
}

enum status catalog_queue_done(struct catalog *catalog, struct catalog_session *session, const struct record_done *record)
{
  uint64_t from = record->place > session->head ? record->place : session->head;
  if (from >= session->tail) return OK;
  void *done = session->done;
  enum status status = catalog_grow_array(&done, &session->done_capacity, session->done_count + 1, sizeof *session->done);
  session->done = done;
  if (status != OK) return status;

  uint64_t place = from, count = 0;
  for (size_t run = catalog_first_run(session, from); count < record->count && place < session->tail; run++) {
    uint64_t to = session->tail;
    if (run < session->done_count && session->done[run].from < to) to = session->done[run].from;
    if (to > place) {
      if (to - place > record->count - count) to = place + (record->count - count);
      release_places(catalog, session, place, to);
      count += to - place;
      place = to;
    }
    if (run < session->done_count && place >= session->done[run].from)
      place = session->done[run].from + session->done[run].count;
  }
  if (count == 0) return OK;

  forget_sent(session, from, place);
  assert(session->waiting >= count);
  session->waiting -= count;
  session->outcomes[record->outcome] += count;
  merge_run(session, from, place);
  look_at_block(catalog, session, from);
  look_at_block(catalog, session, place - 1);
  advance_head(catalog, session);
  return OK;
}

enum status catalog_queue_sent(struct catalog *catalog, struct catalog_session *session, uint64_t place)
{
  if (place >= session->tail || catalog_place_done(session, place) || catalog_place_sent(session, place)) return OK;
  void *places = session->sent_places;
  enum status status =
      catalog_grow_array(&places, &session->sent_capacity, session->sent_count + 1, sizeof *session->sent_places);
  session->sent_places = places;
  if (status != OK) return status;

  release_places(catalog, session, place, place + 1);
  size_t index = catalog_first_sent(session, place);
  memmove(&session->sent_places[index + 1], &session->sent_places[index],
          (session->sent_count - index) * sizeof *session->sent_places);
  session->sent_places[index] = place;
  session->sent_count++;
  return OK;
}

void catalog_queue_clear(struct catalog *catalog, struct catalog_session *session, enum record_outcome outcome)
{
  for (size_t i = 0; i < session->block_count; i++) catalog_block_release(catalog, session, block_at(session, i));
  for (size_t i = 0; i < session->last_count; i++)
    catalog_queue_release_last(catalog, session, &session->last[session->last_first + i]);
  assert(session->waiting_bytes == 0);
  session->outcomes[outcome] += session->waiting;
  session->waiting = 0;
  session->head = session->blocks_from = session->tail;
  session->block_count = session->block_first = 0;
  session->last_count = session->last_first = 0;
  session->done_count = 0;
  session->sent_count = 0;
}

// ---- Loading

enum status catalog_entries(struct catalog *catalog, uint32_t number, uint64_t place, struct queue_entry *entries,
                            size_t capacity, size_t *out_count, uint64_t *out_next)
{
  const struct catalog_session *session = catalog_find(catalog, number);
  if (!session) return ERR_NOT_FOUND;
  if (place < session->head) place = session->head;
  size_t count = 0, run = catalog_first_run(session, place), sent = catalog_first_sent(session, place);
  const struct reference *references = NULL;  // of the block `read`
  size_t read = SIZE_MAX;
  uint64_t behind = last_place(session);

  while (place < session->tail && count < capacity) {
    if (run < session->done_count && session->done[run].from <= place) {
      place = session->done[run].from + session->done[run].count;
      run++;
      continue;
    }
    while (sent < session->sent_count && session->sent_places[sent] < place) sent++;
    struct queue_entry *entry = &entries[count++];
    *entry = (struct queue_entry){.place = place, .state = ENTRY_WAITING};
    if (sent < session->sent_count && session->sent_places[sent] == place) {
      entry->state = ENTRY_SENT;
    } else if (place >= behind) {
      entry->position = last_at(session, place)->position;
    } else {
      size_t index = (size_t)((place - session->blocks_from) / CATALOG_BLOCK);
      enum status status = index != read ? catalog_block_read(catalog, session, index, &references) : OK;
      if (status != OK) return status;
      read = index;
      if (references) entry->position = references[place - block_place(session, index)].position;
    }
    place++;
  }
  *out_count = count;
  *out_next = place < session->tail ? place : session->tail;
  return OK;
}

uint32_t catalog_oldest_s(struct catalog *catalog, const struct catalog_session *session)
{
  (void)catalog;
  if (session->waiting == 0) return 0;
  return session->block_count > 0 ? block_at(session, 0)->time_s : last_at(session, session->head)->time_s;
}
