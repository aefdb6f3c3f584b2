// What the store writes for itself: blocks of references, checkpoints, copies; and what it removes when that is safe.
//
// In one round own records stand in this order, all made from the same state of the catalog: a slice of a checkpoint, blocks
// of references, copies. A checkpoint and the copying of a segment never overlap: what is copied is remembered in the
// catalog until its blocks have moved, and a checkpoint does not tell that.
//
// A segment is removed when nothing in it was alive at the BEGIN of the checkpoint from which replaying starts: from there
// on no state refers to it. As long as there is room, that is the checkpoint before the last: so that damage in the last one
// costs nothing.
#include <assert.h>
#include <stdlib.h>

#include "store/store_internal.h"

enum {
  COPY_SCAN_BYTES = 4 << 20,  // most that is read of a segment in one round, and more when batches are larger
  REVIEW_MS = 1000,           // between looks for what can be freed, while there is no room
  IDLE_SEGMENTS = 4,          // that may stay dead when nothing else is written
  COPY_TRIES = 5,             // of reading what is to be copied again, after errors of the disk: it may recover
  TIGHT_GAIN = 4,             // times its size is what a checkpoint frees, when there is little room
};

static void cut_own(struct store *store, size_t size)
{
  assert(size <= buffer_size(&store->own));
  store->own.end = store->own.start + size;
}

// Own records could not be made: `own` is as it was, and the next batch brings another try.
static void give_up(struct store *store, size_t size)
{
  cut_own(store, size);
  store->upkeep_failed = true;
}

// ---- Checkpoints

uint64_t store_round_bytes(const struct store *store)
{
  uint64_t bytes = store->settings.replay_bytes / 8;
  return bytes > STORE_ROUND_BYTES ? bytes : STORE_ROUND_BYTES;
}

// Other records between two checkpoints: half of what may be replayed, but more when checkpoints are large, so that they do
// not make up most of what is written: four times their size while the bound on replaying allows, and at least once.
// Replayed are, at most, the last checkpoint, this distance and a round that ends behind it, and the next checkpoint with as
// much that comes while it is written, and another round.
static uint64_t checkpoint_distance(const struct store *store)
{
  uint64_t replay = store->settings.replay_bytes, size = store->checkpoint.last_bytes;
  uint64_t others = 2 * size + 2 * store_round_bytes(store);
  uint64_t bound = replay > others ? replay - others : 0;
  uint64_t distance = 4 * size < bound ? 4 * size : bound;
  if (distance < replay / 2) distance = replay / 2;
  return distance < size ? size : distance;
}

// A little more than the next one takes.
static uint64_t checkpoint_room(const struct store *store)
{
  return store->checkpoint.last_bytes + store->checkpoint.last_bytes / 4 + 1024;
}

uint64_t store_room_kept(const struct store *store)
{
  uint64_t kept = checkpoint_room(store) + store->settings.segment_bytes;
  return kept < store->settings.reserve_bytes / 2 ? kept : store->settings.reserve_bytes / 2;
}

static bool checkpoint_due(const struct store *store)
{
  if (store->checkpoint.writing || store->anchor_due) return false;
  return store->checkpoint.wanted || store->checkpoint.since_last > checkpoint_distance(store);
}

static void put_checkpoint(struct store *store, size_t budget)
{
  struct checkpoint *checkpoint = &store->checkpoint;
  if (!checkpoint->writing) {
    if (!checkpoint_due(store) || store->copying.segment || store->moves_pending) return;
    size_t before = buffer_size(&store->own);
    enum status status = catalog_checkpoint_begin(&store->catalog, &store->own, store_time_ms(store));
    // Replaying begins here, and is to find the time even when nothing is written any more.
    if (!status) status = store_put_batch(store);
    if (status) {
      give_up(store, before);
      return;
    }
    checkpoint->writing = true;
  }
  size_t before = buffer_size(&store->own);
  bool done = false;
  if (catalog_checkpoint_slice(&store->catalog, &store->own, budget, &done)) {
    give_up(store, before);
    store_upkeep_undo(store);
    return;
  }
  if (done) {
    checkpoint->writing = false;
    checkpoint->wanted = false;
  }
}

enum status store_checkpoint_begun(struct store *store, const struct record_header *header, uint64_t position)
{
  struct checkpoint *checkpoint = &store->checkpoint;
  checkpoint->begin = (struct anchor_start){.position = position, .sequence = record_sequence(header)};
  checkpoint->bytes = 0;
  checkpoint->since_begin = 0;
  checkpoint->changed = false;
  checkpoint->dead.count = 0;
  if (store->recovering) return OK;
  for (size_t i = 0; i < journal_log_segments(store->journal); i++) {
    struct segment_info info;
    journal_log_segment(store->journal, i, &info);
    const struct segment_live *live = catalog_live(&store->catalog, info.number);
    if (info.number >= position_segment(position) || (live && live->references > 0)) continue;
    enum status status = numbers_add(&checkpoint->dead, info.number);
    if (status) return status;
  }
  return OK;
}

void store_checkpoint_ended(struct store *store)
{
  struct checkpoint *checkpoint = &store->checkpoint;
  checkpoint->last = checkpoint->begin;
  checkpoint->last_bytes = checkpoint->bytes;
  checkpoint->since_last = checkpoint->since_begin;
  if (store->recovering) return;
  store->counters.checkpoints++;
  store->anchor_due = true;
  store->anchor_retry_ms = 0;
}

// ---- The anchor, and what may go when it is safe

static void drop_segment(struct store *store, uint32_t number)
{
  bool aside = numbers_have(&store->aside, number);
  enum status status = aside ? journal_log_set_aside(store->journal, number) : journal_log_remove(store->journal, number);
  if (status == ERR_NOT_FOUND) status = OK;
  if (status) {  // it is dead at the next checkpoint, too
    store->counters.errors++;
    if (numbers_add(&store->kept, number)) store->upkeep_failed = true;
    LOG(store->log, store->now, LOG_WARNING, "journal_segment_not_removed", FIELD_UINT("segment", number),
        FIELD_TEXT("reason", status_name(status)));
    return;
  }
  numbers_remove(&store->aside, number);
  numbers_remove(&store->kept, number);
  store->counters.segments_removed++;
  store->roomy_segment = 0;
  if (aside) LOG(store->log, store->now, LOG_WARNING, "journal_segment_set_aside", FIELD_UINT("segment", number));
}

static void drop_segments(struct store *store, struct numbers *dead)
{
  for (size_t i = 0; i < dead->count; i++) drop_segment(store, dead->at[i]);
  dead->count = 0;
}

static void write_anchor(struct store *store)
{
  struct checkpoint *checkpoint = &store->checkpoint;
  struct anchor next = store->anchor;
  next.previous = store->tight ? (struct anchor_start){0} : next.last;
  next.last = checkpoint->last;
  enum status status = anchor_write(store->disk, &next);
  if (status) {
    store->counters.errors++;
    store->anchor_retry_ms = store->now.ms + STORE_RETRY_MOST_MS;
    LOG(store->log, store->now, LOG_ERROR, "journal_anchor_not_written", FIELD_TEXT("reason", status_name(status)));
    return;
  }
  store->anchor = next;
  store->anchor_due = false;
  store->review_due = true;
  if (store->tight) drop_segments(store, &checkpoint->dead);
  drop_segments(store, &checkpoint->dead_last);
  struct numbers unused = checkpoint->dead_last;
  checkpoint->dead_last = checkpoint->dead;
  checkpoint->dead = unused;
}

// ---- Copying forward

struct copy_slice {
  struct store *store;
  uint64_t scanned;
  size_t budget;  // size of `own` at which to stop
  size_t scan;    // bytes read, the same
  enum status status;
  bool stopped;  // there is more
  bool unread;   // the disk has reported errors
};

static bool copy_record(void *context, const struct record_header *header, struct span body, uint64_t position)
{
  struct copy_slice *slice = context;
  struct store *store = slice->store;
  if (position_segment(position) != store->copying.segment) return false;
  if (buffer_size(&store->own) >= slice->budget || slice->scanned >= slice->scan) {
    store->copying.cursor = position;
    slice->stopped = true;
    return false;
  }
  size_t before = buffer_size(&store->own);
  slice->status = catalog_put_copy(&store->catalog, header, body, position, &store->own);
  if (slice->status) {
    give_up(store, before);
    store->copying.cursor = position;
    slice->stopped = true;
    return false;
  }
  slice->scanned += record_length(header->size);
  return true;
}

static void copy_damage(void *context, const struct log_damage *damage)
{
  struct copy_slice *slice = context;
  struct store *store = slice->store;
  if (damage->segment != store->copying.segment || damage->torn) return;
  store->copying.damaged = true;
  slice->unread |= damage->unread;
}

static void stop_copying(struct store *store)
{
  numbers_remove(&store->repair, store->copying.segment);
  store->copying = (struct copying){0};
}

static void refuse_copying(struct store *store, const char *reason)
{
  LOG(store->log, store->now, LOG_ERROR, "journal_segment_not_copied", FIELD_UINT("segment", store->copying.segment),
      FIELD_TEXT("reason", reason));
  if (numbers_add(&store->refused, store->copying.segment)) {
    store->upkeep_failed = true;
    return;
  }
  stop_copying(store);
}

static bool segment_exists(const struct store *store, uint32_t segment)
{
  for (size_t i = 0; i < journal_log_segments(store->journal); i++) {
    struct segment_info info;
    journal_log_segment(store->journal, i, &info);
    if (info.number == segment) return true;
  }
  return false;
}

static void copy_slice(struct store *store, size_t budget)
{
  if (!segment_exists(store, store->copying.segment)) {
    store->copying.stage = COPY_MOVE;
    return;
  }
  struct copying begun = store->copying;
  size_t own = buffer_size(&store->own);
  struct copy_slice slice = {.store = store, .budget = own + budget, .scan = COPY_SCAN_BYTES + budget};
  struct log_reader reader = {.context = &slice, .record = copy_record, .damage = copy_damage};
  enum status status = journal_log_scan(store->journal, store->copying.cursor, &reader);
  if (slice.unread || status == ERR_IO) {
    // What was taken for damage may be whole: not lost before it has failed for some time, or while nothing can be read.
    bool damage = store_is_damage(store, ERR_IO);
    if (!damage || begun.tries < COPY_TRIES) {
      cut_own(store, own);
      store->copying = begun;
      store->copying.tries += damage;
      store->copying.retry_ms = store->now.ms + STORE_RETRY_FIRST_MS;
      return;
    }
  }
  if (slice.status == ERR_NO_MEMORY || status == ERR_NO_MEMORY) {  // goes on where it was
    store->upkeep_failed = true;
    return;
  }
  if (status || slice.status) {
    refuse_copying(store, status_name(status ? status : slice.status));
    store->moves_pending = true;
    return;
  }
  store->copying.tries = 0;
  if (!slice.stopped) store->copying.stage = COPY_MOVE;
}

static void report_lost(void *context, const struct catalog_session *session, uint64_t count)
{
  struct store *store = context;
  store->counters.damaged_messages += count;
  LOG(store->log, store->now, LOG_ERROR, "journal_messages_lost", FIELD_SPAN("client_id", session->client_id),
      FIELD_UINT("messages", count), FIELD_UINT("segment", store->copying.segment));
}

// What a copy has cost is known only now: blocks of references that were put again, and a part of the checkpoint that
// follows.
static void look_back(struct store *store)
{
  uint64_t cost = store->copying.written + store->checkpoint.last_bytes / TIGHT_GAIN;
  if (store->state == JOURNAL_FULL) cost = store->copying.written;
  store->futile = cost > store->copying.used / 8 * 7;
  store->futile_dead = UINT64_MAX;
}

// Blocks have moved: nothing should be left in the segment but what cannot be read.
static void check_copied(struct store *store)
{
  uint32_t segment = store->copying.segment;
  const struct segment_live *live = catalog_live(&store->catalog, segment);
  bool damaged = store->copying.damaged || numbers_have(&store->repair, segment);
  if (!live || live->references == 0) {
    if (damaged && segment_exists(store, segment) && numbers_add(&store->aside, segment)) return;
    store->counters.segments_copied++;
    store->review_due = true;
    look_back(store);
    LOG(store->log, store->now, LOG_INFO, "journal_segment_copied", FIELD_UINT("segment", segment));
    stop_copying(store);
    return;
  }
  if (!damaged) {
    refuse_copying(store, "references_left");
    return;
  }
  size_t before = buffer_size(&store->own);
  enum status status = catalog_put_holes(&store->catalog, segment, &store->own, report_lost, store);
  if (status) give_up(store, before);
  if (!status && buffer_size(&store->own) > before) return;
  if (status != ERR_NO_MEMORY) refuse_copying(store, "references_left");
}

static bool put_moved(struct store *store)
{
  size_t before = buffer_size(&store->own);
  if (!catalog_put_moved(&store->catalog, &store->own)) return true;
  give_up(store, before);
  return false;
}

static void put_copies(struct store *store, size_t budget)
{
  if (store->moves_pending && store->copying.segment == 0) {
    size_t before = buffer_size(&store->own);
    if (put_moved(store) && buffer_size(&store->own) == before) store->moves_pending = false;
    return;
  }
  if (store->copying.segment == 0 || store->checkpoint.writing || store->now.ms < store->copying.retry_ms) return;
  switch (store->copying.stage) {
    case COPY_READ: copy_slice(store, budget); break;
    case COPY_MOVE:
      if (put_moved(store)) store->copying.stage = COPY_CHECK;
      break;
    case COPY_CHECK: check_copied(store); break;
  }
}

// ---- What could be freed
//
// Freeing writes: copies, a checkpoint. So that the store comes to rest whatever the sizes are, only segments up to the last
// record that came from elsewhere are freed or copied (`others`): between two such records they only become fewer. And so
// that it does not write more than it frees, a checkpoint waits until it frees a multiple of its own size; only a journal
// that is full takes what it can get.

struct review {
  uint64_t used;
  uint64_t freeable;  // nothing lives there
  uint64_t dead;      // bytes, in all
  uint64_t stuck;     // dead bytes beside living ones, below the replay start
  uint64_t gain;      // of copying all that is worth it
  uint32_t best;      // segment that costs least to copy, 0: none
  uint64_t best_used, best_live;
};

static void review_segment(const struct store *store, const struct segment_info *info, struct review *review)
{
  const struct segment_live *live = catalog_live(&store->catalog, info->number);
  uint64_t living = live ? live->bytes : 0;
  if (living > info->used) living = info->used;
  review->used += info->used;
  review->dead += info->used - living;
  if (info->number >= position_segment(journal_log_end(store->journal)) || info->number > store->others) return;
  if (!live || live->references == 0) {
    if (!numbers_have(&store->kept, info->number)) review->freeable += info->size;
    return;
  }
  bool below = info->number < position_segment(store->anchor.last.position);
  if (below) review->stuck += info->used - living;
  if (!below && !store->tight) return;
  uint64_t most = store->state == JOURNAL_FULL ? info->used / 3 * 2 : info->used / 2;
  if (living > most || numbers_have(&store->refused, info->number)) return;
  review->gain += info->used - living;
  if (review->best && living * review->best_used >= review->best_live * info->used) return;
  review->best = info->number;
  review->best_used = info->used;
  review->best_live = living;
}

static void begin_copying(struct store *store, uint32_t segment, uint64_t used)
{
  store->copying = (struct copying){.segment = segment, .used = used, .cursor = position_of(segment, LOG_SEGMENT_HEADER)};
}

// A damaged segment that can be emptied now, 0: none.
static uint32_t next_repair(const struct store *store)
{
  for (size_t i = 0; i < store->repair.count; i++)
    if (store->repair.at[i] < position_segment(journal_log_end(store->journal))) return store->repair.at[i];
  return 0;
}

static bool review_due(const struct store *store)
{
  if (store->review_due) return true;
  if (position_segment(journal_log_end(store->journal)) != store->reviewed_segment) return true;
  if (store->catalog.deaths != store->reviewed_deaths) return true;
  return store->state == JOURNAL_FULL && store->now.ms >= store->reviewed_ms + REVIEW_MS;
}

// Whether what is dead is worth a checkpoint before one is due, and the second one that removal takes: a backlog was drained
// and little comes behind it. What dies in steady traffic is less: as much as was written since the checkpoint before, and
// that waits for the next one. Nor are these two checkpoints worth two others, when they are all that died since.
static bool worth_freeing(const struct store *store, uint64_t freeable)
{
  const struct store_settings *settings = &store->settings;
  const struct checkpoint *checkpoint = &store->checkpoint;
  if (store->tight) return freeable > TIGHT_GAIN * checkpoint->last_bytes;
  uint64_t most = IDLE_SEGMENTS * settings->segment_bytes;
  if (most < settings->replay_bytes) most = settings->replay_bytes;
  return freeable > most + 3 * checkpoint->last_bytes + checkpoint->since_last;
}

// Whether copying the best one, and others after it, pays. When there is little room it is the checkpoint that it has to pay
// for.
static bool worth_copying(const struct store *store, const struct review *found)
{
  uint64_t gain = found->gain + found->freeable, checkpoint = store->checkpoint.last_bytes;
  if (!found->best || store->futile || store->finishing) return false;
  if (store->state == JOURNAL_FULL)
    return gain > 2 * checkpoint &&
           journal_log_room(store->journal) > found->best_live + found->best_used / 4 + checkpoint_room(store);
  if (store->tight) return gain > TIGHT_GAIN * checkpoint;
  return found->stuck > found->used / 2 && found->stuck > 4 * store->settings.segment_bytes;
}

static void review(struct store *store)
{
  const struct store_settings *settings = &store->settings;
  store->review_due = false;
  store->reviewed_segment = position_segment(journal_log_end(store->journal));
  store->reviewed_deaths = store->catalog.deaths;
  store->reviewed_ms = store->now.ms;
  store->tight = store->state == JOURNAL_FULL || journal_log_bytes(store->journal) > settings->limit_bytes / 4 * 3;
  struct review found = {0};
  for (size_t i = 0; i < journal_log_segments(store->journal); i++) {
    struct segment_info info;
    journal_log_segment(store->journal, i, &info);
    review_segment(store, &info, &found);
  }
  if (found.dead < store->futile_dead) store->futile_dead = found.dead;
  if (found.dead - store->futile_dead >= settings->segment_bytes) store->futile = false;
  if (store->checkpoint.writing || store->copying.segment || store->anchor_due) return;
  uint32_t segment = store->finishing ? 0 : next_repair(store);
  if (segment) {
    begin_copying(store, segment, UINT64_MAX);
  } else if (worth_freeing(store, found.freeable)) {
    store->checkpoint.wanted = true;
  } else if (worth_copying(store, &found)) {
    begin_copying(store, found.best, found.best_used);
  } else if (store->state == JOURNAL_FULL && found.freeable > store->checkpoint.last_bytes + settings->segment_bytes / 4) {
    store->checkpoint.wanted = true;
  }
}

// ---- Sessions whose end was lost

static void put_ends(struct store *store)
{
  size_t before = buffer_size(&store->own);
  for (size_t i = 0; i < store->superseded.count; i++) {
    const struct record_session_end end = {.session = store->superseded.at[i]};
    if (record_put_session_end(&store->own, &end)) {
      give_up(store, before);
      return;
    }
  }
}

static void forget_ended(struct store *store)
{
  for (size_t i = store->superseded.count; i > 0; i--) {
    uint32_t number = store->superseded.at[i - 1];
    if (!catalog_find(&store->catalog, number)) numbers_remove(&store->superseded, number);
  }
}

// ---- Parts of a round

void store_upkeep_put(struct store *store, size_t batch_bytes)
{
  size_t before = buffer_size(&store->own);
  store->upkeep_failed = false;
  put_checkpoint(store, STORE_SLICE_BYTES + batch_bytes);
  size_t references = buffer_size(&store->own);
  bool more = false;
  if (catalog_put_references(&store->catalog, &store->own, STORE_SLICE_BYTES, &more)) give_up(store, references);
  if (!more) store->references_waiting = 0;
  size_t size = buffer_size(&store->own) - before;
  put_copies(store, batch_bytes + (size < STORE_SLICE_BYTES ? STORE_SLICE_BYTES - size : 1));
  put_ends(store);
}

void store_upkeep_undo(struct store *store)
{
  if (store->checkpoint.writing) catalog_checkpoint_cancel(&store->catalog);
  store->checkpoint.writing = false;
  store->references_waiting = STORE_REFERENCES_WAIT;
  store->copying = store->copying_before;
}

void store_upkeep_refused(struct store *store)
{
  store_upkeep_undo(store);
  store_upkeep_leave_copy(store);
  store->reviewed_ms = store->now.ms;
}

void store_upkeep_leave_copy(struct store *store)
{
  if (store->copying.segment) store->moves_pending = true;
  store->copying = (struct copying){0};
}

void store_upkeep_applied(struct store *store)
{
  forget_ended(store);
  if (store->anchor_due && store->now.ms >= store->anchor_retry_ms) write_anchor(store);
  if (review_due(store)) review(store);
}

bool store_upkeep_left(const struct store *store)
{
  if (store->upkeep_failed) return false;
  if (store->checkpoint.writing || store->references_waiting >= STORE_REFERENCES_WAIT || store->superseded.count > 0)
    return true;
  if (store->copying.segment) return store->now.ms >= store->copying.retry_ms;  // all else waits for it
  return store->moves_pending || checkpoint_due(store);
}
