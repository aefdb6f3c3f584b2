// A round: what is due and what was submitted is appended, made safe with one sync, and only then applied. Whatever fails
// before the sync is repeated from memory: the store's own records are made anew, batches are appended again from where they
// were last safe.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

enum {
  GATHER_BYTES = 64 << 10,  // up to this much of small batches is copied behind the own records: a small round is one write
  OWN_KEPT_BYTES = 512 << 10  // of memory for own records, between rounds
};

// ---- Applying

static void count_message(struct store *store, struct span body)
{
  struct record_message message;
  if (!record_get_message(body, &message)) return;
  store->counters.messages++;
  store->counters.message_bytes += record_message_weight(&message);
  store->references_waiting += message.target_count;
}

static enum status apply_record(struct store *store, const struct record_header *header, struct span body, uint64_t position)
{
  struct checkpoint *checkpoint = &store->checkpoint;
  uint64_t length = record_length(header->size);
  enum record_type type = record_type(header);
  bool of_checkpoint = type == RECORD_CHECKPOINT_BEGIN || type == RECORD_CHECKPOINT_SESSION ||
                       type == RECORD_CHECKPOINT_RETAINED || type == RECORD_CHECKPOINT_END;
  enum status status = OK;
  if (type == RECORD_CHECKPOINT_BEGIN) status = store_checkpoint_begun(store, header, position);
  if (!status && type != RECORD_BATCH) status = catalog_apply(&store->catalog, type, body, position);
  if (status) return status;

  if (of_checkpoint) {
    checkpoint->bytes += length;
  } else {
    checkpoint->since_begin += length;
    checkpoint->since_last += length;
    if (type != RECORD_BATCH) checkpoint->changed = true;
  }
  if (type == RECORD_CHECKPOINT_END) store_checkpoint_ended(store);
  if (type == RECORD_MESSAGE) count_message(store, body);
  if (type == RECORD_RETAINED_DROP) store->others = position_segment(position);  // time has passed
  store->counters.records++;
  return OK;
}

enum status store_apply(struct store *store, const struct record_header *header, struct span body, uint64_t position)
{
  enum status status = apply_record(store, header, body, position);
  if (status != ERR_INVALID) return status;
  // Whole, but it says what cannot be. Everything else goes on.
  store->counters.damaged_records++;
  LOG(store->log, store->now, LOG_ERROR, "journal_record_refused", FIELD_UINT("segment", position_segment(position)),
      FIELD_UINT("offset", position_offset(position)), FIELD_UINT("type", record_type(header)));
  return OK;
}

static enum status apply_extent(struct store *store, struct extent *extent)
{
  while (extent->applied < extent->size) {
    struct record_header header;
    memcpy(&header, extent->records + extent->applied, sizeof header);
    uint64_t length = record_length(header.size);
    assert(length <= extent->size - extent->applied);
    struct span body = span_of(extent->records + extent->applied + sizeof header, header.size);
    enum status status = store_apply(store, &header, body, extent->position + extent->applied);
    if (status) return status;
    extent->applied += (size_t)length;
  }
  return OK;
}

// The front batch is safe and applied as a whole.
static void pop_batch(struct store *store)
{
  struct journal_batch *batch = store->first;
  assert(batch);
  if (store->queued == batch) store->queued = batch->next;
  store->first = batch->next;
  if (!store->first) store->last = NULL;
  store->committed = batch->number;
  journal_batch_free(batch);
}

// All that is safe is applied: batches give up that much, and those that are whole are committed. The rest begins anew.
static void release_chunks(struct store *store)
{
  for (size_t i = 0; i < store->chunk_count; i++) {
    struct chunk *chunk = &store->chunks[i];
    assert(chunk->done == chunk->safe);
    if (!chunk->batch) {
      if (chunk->done < chunk->size) store_upkeep_undo(store);
      continue;
    }
    assert(chunk->batch == store->first);
    if (chunk->done > 0) store->others = position_segment(store->extents[store->extent_count - 1].position);
    buffer_consume(&chunk->batch->records, chunk->done);
    if (buffer_size(&chunk->batch->records) > 0) break;
    pop_batch(store);
  }
  store->chunk_count = 0;
  store->extent_count = 0;
  store->safe_extents = 0;
  store->queued = store->first;
  if (store->own.capacity > OWN_KEPT_BYTES) buffer_deinit(&store->own);
}

static enum status apply_safe(struct store *store)
{
  assert(store->safe_extents == store->extent_count);
  for (size_t i = 0; i < store->extent_count; i++) {
    enum status status = apply_extent(store, &store->extents[i]);
    if (status) return status;
  }
  release_chunks(store);
  return OK;
}

// ---- Appending

static enum status reserve_chunk(struct store *store)
{
  if (store->chunk_count < store->chunk_capacity) return OK;
  size_t capacity = store->chunk_capacity ? 2 * store->chunk_capacity : 16;
  struct chunk *chunks = realloc(store->chunks, capacity * sizeof *chunks);
  if (!chunks) return ERR_NO_MEMORY;
  store->chunks = chunks;
  store->chunk_capacity = capacity;
  return OK;
}

static enum status reserve_extent(struct store *store)
{
  if (store->extent_count < store->extent_capacity) return OK;
  size_t capacity = store->extent_capacity ? 2 * store->extent_capacity : 16;
  struct extent *extents = realloc(store->extents, capacity * sizeof *extents);
  if (!extents) return ERR_NO_MEMORY;
  store->extents = extents;
  store->extent_capacity = capacity;
  return OK;
}

static void add_chunk(struct store *store, uint8_t *bytes, size_t size, struct journal_batch *batch)
{
  assert(store->chunk_count < store->chunk_capacity);
  store->chunks[store->chunk_count++] = (struct chunk){.bytes = bytes, .size = size, .batch = batch};
}

static size_t queued_bytes(const struct store *store)
{
  size_t bytes = 0;
  for (const struct journal_batch *batch = store->queued; batch; batch = batch->next) bytes += buffer_size(&batch->records);
  return bytes;
}

enum status store_put_batch(struct store *store)
{
  struct store_batch record = {.journal_ms = store_time_ms(store), .wall = store->wall, .safe = store->safe_sequence};
  return store_batch_put(&store->own, &record);
}

// Copies of small batches behind the own records; as many as there is memory for. Chunks point into `own`, which does not
// change afterwards.
static void gather_small(struct store *store, size_t own_size)
{
  struct journal_batch *end = store->queued;
  size_t gathered = 0;
  for (; end && gathered + buffer_size(&end->records) <= GATHER_BYTES; end = end->next) {
    struct span records = buffer_peek(&end->records);
    if (buffer_append(&store->own, records.at, records.size)) break;
    gathered += records.size;
  }
  uint8_t *at = store->own.data + store->own.start + own_size;
  for (; store->queued != end; store->queued = store->queued->next) {
    if (reserve_chunk(store)) break;
    size_t size = buffer_size(&store->queued->records);
    add_chunk(store, at, size, store->queued);
    at += size;
  }
}

// Of these records, as many as there is room for, and one at least.
static size_t whole_records(struct span records, size_t room)
{
  if (records.size <= room) return records.size;
  for (size_t at = 0;;) {
    struct record_header header;
    memcpy(&header, records.at + at, sizeof header);
    size_t end = at + (size_t)record_length(header.size);
    assert(end <= records.size);
    if (end > room || end == records.size) return at > 0 ? at : end;
    at = end;
  }
}

// What batches may take: while the journal is full, and was so when this round began, not all.
static size_t room_for_batches(const struct store *store)
{
  if (!store->short_of_room) return SIZE_MAX;
  uint64_t room = journal_log_room(store->journal), kept = store_room_kept(store);
  return room > kept ? (size_t)(room - kept) : 0;
}

// Whether not even a record of the first batch can be written now.
static bool is_blocked(struct store *store, size_t heading)
{
  store->short_of_room = store->state == JOURNAL_FULL && !journal_log_roomy(store->journal, true);
  if (!store->queued) return false;
  struct span records = buffer_peek(&store->queued->records);
  size_t needed = records.size > 0 ? heading + whole_records(records, 0) : 0;
  return needed > room_for_batches(store);
}

// Begins what is written together with the own records that are due. Nothing waits to be applied.
static enum status gather_own(struct store *store, struct wall wall)
{
  assert(store->extent_count == 0 && store->chunk_count == 0);
  buffer_consume(&store->own, buffer_size(&store->own));
  store->copying_before = store->copying;
  enum status status = reserve_chunk(store);
  store->wall = wall;
  if (!status) status = store_put_batch(store);
  if (status) return status;
  size_t heading = buffer_size(&store->own);
  size_t queued = queued_bytes(store), most = (size_t)store_round_bytes(store);
  store_upkeep_put(store, queued < most ? queued : most);
  size_t size = buffer_size(&store->own);
  bool blocked = is_blocked(store, heading);
  if (size == heading && (blocked || !store->queued) && store->state != JOURNAL_FAILING) {
    buffer_consume(&store->own, size);  // nothing to write: write nothing
    if (!blocked) return OK;
    store->futile = false;  // any gain is one now
    store->review_due = true;
    return ERR_FULL;
  }
  if (store->copying.segment) store->copying.written += size;
  add_chunk(store, NULL, size, NULL);
  if (!store->short_of_room) gather_small(store, size);
  store->chunks[0].bytes = store->own.data + store->own.start;
  return OK;
}

static size_t gathered_bytes(const struct store *store)
{
  size_t bytes = 0;
  for (size_t i = 0; i < store->chunk_count; i++)
    if (store->chunks[i].batch) bytes += store->chunks[i].size;
  return bytes;
}

// Batches behind what was gathered, up to `most` bytes in all. The last one may be there in part: nothing comes behind it
// then.
static enum status gather_batches(struct store *store, size_t most)
{
  size_t bytes = gathered_bytes(store);
  struct chunk *last = store->chunk_count > 0 ? &store->chunks[store->chunk_count - 1] : NULL;
  if (last && last->batch) {
    size_t whole = buffer_size(&last->batch->records);
    if (last->size < whole && most == SIZE_MAX) last->size = whole;
    if (last->size < whole) return OK;
  }
  for (; store->queued; store->queued = store->queued->next) {
    struct span records = buffer_peek(&store->queued->records);
    if (bytes > 0 && bytes >= most) return OK;
    enum status status = reserve_chunk(store);
    if (status) return status;
    uint8_t *at = records.size > 0 ? store->queued->records.data + store->queued->records.start : NULL;
    size_t size = whole_records(records, most - bytes);
    add_chunk(store, at, size, store->queued);
    bytes += size;
    if (size < records.size) {
      store->queued = store->queued->next;
      return OK;
    }
  }
  return OK;
}

// The run of bytes that begins with the first chunk that is not wholly appended, over chunks that lie behind each other.
static size_t find_run(const struct store *store, size_t first, uint8_t **out_bytes)
{
  const struct chunk *chunk = &store->chunks[first];
  *out_bytes = chunk->bytes + chunk->done;
  size_t size = chunk->size - chunk->done;
  for (size_t i = first + 1; i < store->chunk_count && store->chunks[i].bytes == *out_bytes + size; i++)
    size += store->chunks[i].size;
  return size;
}

static void mark_done(struct store *store, size_t first, size_t size)
{
  for (size_t i = first; size > 0; i++) {
    struct chunk *chunk = &store->chunks[i];
    size_t part = chunk->size - chunk->done < size ? chunk->size - chunk->done : size;
    chunk->done += part;
    size -= part;
  }
}

// What was appended since the last sync cannot be counted on.
static void drop_unsafe(struct store *store)
{
  store->extent_count = store->safe_extents;
  for (size_t i = 0; i < store->chunk_count; i++) store->chunks[i].done = store->chunks[i].safe;
}

static enum status sync_appended(struct store *store)
{
  if (store->extent_count == store->safe_extents) return OK;
  enum status status = journal_log_sync(store->journal);
  if (status) {
    drop_unsafe(store);
    return status;
  }
  store->safe_extents = store->extent_count;
  store->safe_sequence = journal_log_sequence(store->journal);
  for (size_t i = 0; i < store->chunk_count; i++) store->chunks[i].safe = store->chunks[i].done;
  return OK;
}

// Whether the record goes into the segment that is written.
static bool fits(const struct store *store, const uint8_t *record)
{
  struct record_header header;
  memcpy(&header, record, sizeof header);
  size_t count = journal_log_segments(store->journal);
  uint64_t end = journal_log_end(store->journal);
  if (count == 0) return false;
  struct segment_info info;
  journal_log_segment(store->journal, count - 1, &info);
  return info.number == position_segment(end) && record_length(header.size) <= info.size - position_offset(end);
}

// Of these records of batches, those that leave room for what frees some.
static enum status leave_room(const struct store *store, const uint8_t *records, size_t *size)
{
  size_t most = room_for_batches(store);
  *size = whole_records(span_of(records, *size), most);
  return *size <= most ? OK : ERR_FULL;
}

// An append that fails takes with it what is not synced. A segment is synced before the next one is begun anyway: done here,
// what was full costs nothing that was written before.
static enum status append_run(struct store *store, size_t first)
{
  uint8_t *bytes;
  size_t size = find_run(store, first, &bytes), written;
  uint64_t position;
  enum status status = reserve_extent(store);
  if (!status && store->chunks[first].batch) status = leave_room(store, bytes, &size);
  if (!status && !fits(store, bytes)) status = sync_appended(store);
  if (status) return status;
  status = journal_log_append(store->journal, bytes, size, &written, &position);
  if (status) {
    drop_unsafe(store);
    return status;
  }
  store->extents[store->extent_count++] = (struct extent){.records = bytes, .size = written, .position = position};
  mark_done(store, first, written);
  return OK;
}

// All chunks. When there is no room for own records, batches go on without them: what they hold may free some.
static enum status append_chunks(struct store *store)
{
  enum status own = OK;
  for (size_t i = 0; i < store->chunk_count;) {
    struct chunk *chunk = &store->chunks[i];
    if (chunk->done == chunk->size) {
      i++;
      continue;
    }
    enum status status = append_run(store, i);
    if (status == ERR_FULL && !chunk->batch) {
      chunk->size = chunk->safe;
      store_upkeep_refused(store);
      own = status;
      continue;
    }
    if (status) return status;
  }
  return own;
}

static enum status append_due(struct store *store, struct wall wall, size_t most)
{
  enum status status = OK;
  if (store->chunk_count == 0) status = gather_own(store, wall);
  if (!status) status = gather_batches(store, most);
  if (status && store->chunk_count == 0) return status;
  enum status appended = append_chunks(store);
  return status ? status : appended;
}

// ---- Rounds

void store_submit(struct store *store, struct journal_batch *batch)
{
  assert(!store->settings.read_only);
  assert(batch->number == (store->last ? store->last->number : store->committed) + 1);
  batch->next = NULL;
  if (store->last) store->last->next = batch;
  if (!store->first) store->first = batch;
  store->last = batch;
  if (!store->queued) store->queued = batch;
}

static void set_state(struct store *store, enum journal_state state, enum status status)
{
  if (state == store->state) return;
  store->state = state;
  store->review_due = true;
  enum log_level level = state == JOURNAL_OK ? LOG_INFO : LOG_ERROR;
  LOG(store->log, store->now, level, "journal_state", FIELD_TEXT("state", journal_state_name(state)),
      FIELD_TEXT("reason", status                  ? status_name(status)
                           : state == JOURNAL_FULL ? "reserve"
                                                   : "ok"),
      FIELD_UINT("bytes", journal_log_bytes(store->journal)), FIELD_UINT("limit", store->settings.limit_bytes));
}

// The reserve is looked at when a segment was begun, and from time to time while it is not whole.
static void settle_room(struct store *store)
{
  uint32_t segment = position_segment(journal_log_end(store->journal));
  bool again = store->state == JOURNAL_FULL && store->now.ms >= store->roomy_ms + STORE_RETRY_FIRST_MS;
  if (!again && store->state != JOURNAL_FAILING && segment == store->roomy_segment) return;
  store->roomy_segment = segment;
  store->roomy_ms = store->now.ms;
  bool roomy = journal_log_roomy(store->journal, true);
  set_state(store, roomy ? JOURNAL_OK : JOURNAL_FULL, OK);
  store->backoff_ms = STORE_RETRY_FIRST_MS;
  store->retry_ms = store->now.ms + store->backoff_ms;
}

static void settle(struct store *store, enum status status)
{
  if (!status) {
    settle_room(store);
    return;
  }
  if (status == ERR_FULL)
    store->counters.full++;
  else
    store->counters.errors++;
  set_state(store, status == ERR_FULL ? JOURNAL_FULL : JOURNAL_FAILING, status);
  store->retry_ms = store->now.ms + store->backoff_ms;
  if (status != ERR_FULL) store->backoff_ms = 2 * store->backoff_ms;
  if (store->backoff_ms > STORE_RETRY_MOST_MS) store->backoff_ms = STORE_RETRY_MOST_MS;
}

// A part of a round: as much of the batches as one sync takes.
static enum status round_part(struct store *store, struct wall wall)
{
  enum status status = OK;
  if (store->applying) {  // memory was short the last time
    status = apply_safe(store);
  } else {
    enum status appended = append_due(store, wall, (size_t)store_round_bytes(store));
    enum status synced = sync_appended(store);
    status = apply_safe(store);
    if (!status) status = synced ? synced : appended;
  }
  store->applying = store->extent_count > 0;
  if (!store->applying) store_upkeep_applied(store);
  settle(store, status);
  return status;
}

static uint64_t waiting_bytes(const struct store *store)
{
  uint64_t bytes = 0;
  for (const struct journal_batch *batch = store->first; batch; batch = batch->next) bytes += buffer_size(&batch->records);
  return bytes;
}

bool store_round(struct store *store, struct mono now, struct wall wall)
{
  assert(!store->settings.read_only);
  store->now = now;
  if (store->state == JOURNAL_FAILING && now.ms < store->retry_ms) return false;
  enum status status;
  uint64_t before, left = waiting_bytes(store);
  do {
    before = left;
    status = round_part(store, wall);
    left = waiting_bytes(store);
  } while (store->queued && (!status || (status == ERR_FULL && left < before)));  // full for own records, perhaps
  return !status && store_upkeep_left(store);
}

void store_append(struct store *store, struct mono now, struct wall wall)
{
  assert(!store->settings.read_only);
  store->now = now;
  if (store->applying || (store->state == JOURNAL_FAILING && now.ms < store->retry_ms)) return;
  enum status status = append_due(store, wall, SIZE_MAX);
  if (status) settle(store, status);
}

uint64_t store_committed(const struct store *store)
{
  return store->committed;
}

enum journal_state store_state(const struct store *store)
{
  return store->state;
}

int64_t store_next_ms(const struct store *store, struct mono now)
{
  if (store->state == JOURNAL_OK && store->load_failed) return STORE_RETRY_FIRST_MS;
  uint64_t next_ms = store->retry_ms;
  if (store->state == JOURNAL_OK) {
    // Without the anchor nothing is removed, and no other checkpoint begins. Nor does one while a segment is copied.
    bool copies = store->copying.segment && store->copying.retry_ms > store->now.ms;
    if (!store->anchor_due && !copies) return -1;
    next_ms = copies ? store->copying.retry_ms : store->anchor_retry_ms;
  }
  return next_ms > now.ms ? (int64_t)(next_ms - now.ms) : 0;
}
