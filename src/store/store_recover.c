// Opening: the log is replayed through the catalog from the last complete checkpoint on. When that one is damaged, from the
// one before, and else from the first segment there is: then whatever still can be read is used. Damaged segments are
// emptied and set aside.
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "store/store_internal.h"

enum {
  START_MS = 1000,  // journal time of a new journal: 0 means "never"
  REPAIR_ROUNDS_MAX = 100000,
};

// 2020: a clock that shows less was never set.
#define WALL_PLAUSIBLE_MS INT64_C(1577836800000)

struct replay {
  struct store *store;
  uint64_t bytes;
  enum status status;
  bool damaged;             // anywhere
  bool checkpoint_damaged;  // before the first checkpoint was complete
  uint64_t ends;            // complete checkpoints
  bool batch_found;
  struct store_batch batch;  // the newest
};

static void lost_between(struct replay *replay, const struct record_target *target)
{
  struct store *store = replay->store;
  const struct catalog_session *session = catalog_find(&store->catalog, target->session);
  if (!session) return;
  uint32_t lost = target->place - (uint32_t)session->tail;
  if (lost == 0 || lost > UINT32_MAX / 2) return;
  store->counters.damaged_messages += lost;
  LOG(store->log, store->now, LOG_ERROR, "journal_messages_lost", FIELD_SPAN("client_id", session->client_id),
      FIELD_UINT("messages", lost));
}

// After damage, places of a queue that never came tell how many messages were in what could not be read.
static void report_gaps(struct replay *replay, struct span body)
{
  struct record_message message;
  if (!record_get_message(body, &message)) return;
  struct record_target target;
  for (size_t cursor = 0; record_next_target(message.targets, &cursor, &target);) lost_between(replay, &target);
}

static bool replay_record(void *context, const struct record_header *header, struct span body, uint64_t position)
{
  struct replay *replay = context;
  enum record_type type = record_type(header);
  replay->bytes += record_length(header->size);
  if (type == RECORD_BATCH) {
    if (store_batch_get(body, &replay->batch)) replay->batch_found = true;
  } else if (type == RECORD_CHECKPOINT_END) {
    replay->ends++;
  } else if (type == RECORD_MESSAGE && replay->damaged) {
    report_gaps(replay, body);
  }
  replay->status = store_apply(replay->store, header, body, position);
  return replay->status == OK;
}

static void replay_damage(void *context, const struct log_damage *damage)
{
  struct replay *replay = context;
  struct store *store = replay->store;
  char file[32];
  snprintf(file, sizeof file, "%010" PRIu32 ".segment", damage->segment);
  if (damage->torn) {
    store->counters.torn_bytes += damage->bytes;
    LOG(store->log, store->now, LOG_INFO, "journal_tail_cut", FIELD_TEXT("file", file), FIELD_UINT("offset", damage->offset),
        FIELD_UINT("bytes", damage->bytes));
    return;
  }
  replay->damaged = true;
  if (replay->ends == 0) replay->checkpoint_damaged = true;
  store->counters.damaged_records += damage->sequences_lost ? damage->sequences_lost : 1;
  LOG(store->log, store->now, LOG_ERROR, "journal_damaged", FIELD_TEXT("file", file), FIELD_UINT("offset", damage->offset),
      FIELD_UINT("bytes", damage->bytes), FIELD_UINT("records_lost", damage->sequences_lost));
  if (numbers_add(&store->repair, damage->segment)) replay->status = ERR_NO_MEMORY;
}

// The record that the anchor names must be there.
static bool start_exists(struct store *store, const struct anchor_start *start)
{
  struct record_header header;
  struct span body;
  if (start->position == 0 || journal_log_read(store->journal, start->position, &header, &body)) return false;
  return record_type(&header) == RECORD_CHECKPOINT_BEGIN && record_sequence(&header) == start->sequence;
}

static void forget_replayed(struct store *store)
{
  catalog_deinit(&store->catalog);
  store_reset_catalog(store);
  store->checkpoint.since_begin = store->checkpoint.since_last = store->checkpoint.bytes = 0;
  store->checkpoint.begin = store->checkpoint.last = (struct anchor_start){0};
  store->checkpoint.changed = false;
  store->repair.count = 0;
  store->counters.torn_bytes = store->counters.damaged_records = store->counters.damaged_messages = 0;
}

static enum status replay_from(struct store *store, uint64_t position, struct replay *replay)
{
  uint64_t before = replay->bytes;
  *replay = (struct replay){.store = store, .bytes = before};
  struct log_reader reader = {.context = replay, .record = replay_record, .damage = replay_damage};
  enum status status = journal_log_scan(store->journal, position, &reader);
  return replay->status ? replay->status : status;
}

static enum status replay_best(struct store *store, struct replay *replay)
{
  const struct anchor_start starts[] = {store->anchor.last, store->anchor.previous};
  bool expected = store->anchor.last.position != 0;
  for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
    if (!start_exists(store, &starts[i])) continue;
    forget_replayed(store);
    enum status status = replay_from(store, starts[i].position, replay);
    if (status || (replay->ends > 0 && !replay->checkpoint_damaged)) return status;
    LOG(store->log, store->now, LOG_WARNING, "journal_checkpoint_damaged",
        FIELD_TEXT("effect", "more of the journal is read"));
  }
  if (expected)
    LOG(store->log, store->now, LOG_WARNING, "journal_checkpoint_missing",
        FIELD_TEXT("effect", "the whole journal is read"));
  if (store->anchor.generation == 0 && journal_log_segments(store->journal) > 0)
    LOG(store->log, store->now, LOG_WARNING, "journal_anchor_missing", FIELD_TEXT("effect", "the whole journal is read"));
  forget_replayed(store);
  return replay_from(store, 0, replay);
}

// Journal time goes on from the newest batch, by as much as the wall clock says has passed. A clock that was set meanwhile
// for the first time, or back, counts as no time at all.
static void set_time(struct store *store, const struct replay *replay, struct wall wall)
{
  uint64_t time_ms = START_MS;
  if (replay->batch_found) {
    int64_t then_ms = replay->batch.wall.ms;
    bool set_meanwhile = then_ms < WALL_PLAUSIBLE_MS && wall.ms >= WALL_PLAUSIBLE_MS;
    time_ms = replay->batch.journal_ms;
    if (wall.ms > then_ms && !set_meanwhile) time_ms += (uint64_t)(wall.ms - then_ms);
  }
  store->epoch_ms = time_ms - store->now.ms;
}

// What was found damaged now, and earlier: the latter may lie below where replaying began.
static enum status note_suspects(struct store *store)
{
  for (size_t i = 0; i < store->repair.count; i++) {
    enum status status = journal_log_suspect(store->journal, store->repair.at[i]);
    if (status && status != ERR_NOT_FOUND)
      LOG(store->log, store->now, LOG_WARNING, "journal_segment_not_marked", FIELD_UINT("segment", store->repair.at[i]),
          FIELD_TEXT("reason", status_name(status)));
  }
  for (size_t i = 0; i < journal_log_segments(store->journal); i++) {
    struct segment_info info;
    journal_log_segment(store->journal, i, &info);
    enum status status = info.suspect ? numbers_add(&store->repair, info.number) : OK;
    if (status) return status;
  }
  return OK;
}

static void run_rounds(struct store *store, struct wall wall)
{
  for (unsigned i = 0; i < REPAIR_ROUNDS_MAX; i++)
    if (!store_round(store, store->now, wall)) return;
}

// Copies what can be read of damaged segments and makes holes of the rest. They are set aside when no checkpoint that may be
// replayed refers to them any more, which is after two. What cannot be done now (no room, the disk fails) is done later.
static void repair(struct store *store, struct wall wall)
{
  store->review_due = true;
  store_upkeep_applied(store);
  run_rounds(store, wall);
  for (unsigned i = 0; i < 2 && store->aside.count > 0; i++) {
    store->checkpoint.wanted = true;
    run_rounds(store, wall);
  }
}

static void name_broker(struct store *store)
{
  struct anchor next = store->anchor;
  const char *id = store->settings.broker_id;
  bool known = !id || strcmp(next.broker_id, id) == 0;
  if (id) snprintf(next.broker_id, sizeof next.broker_id, "%s", id);
  // A checkpoint that was complete before its anchor was written.
  bool newer = store->checkpoint.last.position && store->checkpoint.last.position != next.last.position;
  if (newer) {
    next.previous = next.last;
    next.last = store->checkpoint.last;
  }
  if (known && !newer && next.generation > 0) return;
  enum status status = anchor_write(store->disk, &next);
  if (!status) {
    store->anchor = next;
    return;
  }
  LOG(store->log, store->now, LOG_ERROR, "journal_anchor_not_written", FIELD_TEXT("reason", status_name(status)));
}

// Segments that are referred to and not there: nothing can be copied, but what is lost is told, and given up.
static enum status find_missing(struct store *store)
{
  size_t index = 0;
  for (size_t i = 0; i < store->catalog.live_count; i++) {
    const struct segment_live *live = &store->catalog.live[i];
    struct segment_info info = {0};
    while (index < journal_log_segments(store->journal)) {
      journal_log_segment(store->journal, index, &info);
      if (info.number >= live->segment) break;
      index++;
    }
    if (info.number == live->segment || live->references == 0) continue;
    enum status status = numbers_add(&store->repair, live->segment);
    if (status) return status;
  }
  return OK;
}

static bool has_client_id(const void *item, const void *key)
{
  const struct catalog_session *session = item;
  return span_equal(session->client_id, *(const struct span *)key);
}

// When the end of a session is lost and its client has begun another one, the first would take messages that nobody ever
// fetches.
static enum status find_superseded(struct store *store)
{
  struct map newest = {0};
  size_t cursor = 0;
  enum status status = OK;
  for (struct catalog_session *session; !status && (session = map_next(&store->catalog.sessions, &cursor));) {
    uint64_t hash = hash_span(store->catalog.seed, session->client_id);
    struct catalog_session *other = map_find(&newest, hash, has_client_id, &session->client_id), *older = NULL;
    if (other) older = other->number < session->number ? other : session;
    if (older == other && other) map_remove(&newest, hash, other);
    if (older != session) status = map_insert(&newest, hash, session);
    if (!older || status) continue;
    status = numbers_add(&store->superseded, older->number);
    LOG(store->log, store->now, LOG_ERROR, "journal_session_superseded", FIELD_SPAN("client_id", older->client_id),
        FIELD_UINT("messages", older->waiting));
  }
  map_deinit(&newest);
  return status;
}

static void begin_counting(struct store *store, const struct replay *replay)
{
  store->counters.replayed_bytes = replay->bytes;
  store->counters.records = 0;
  store->counters.messages = 0;
  store->counters.message_bytes = 0;
}

enum status store_recover(struct store *store, struct wall wall, struct error *error)
{
  struct replay replay = {.store = store};
  store->recovering = true;
  enum status status = replay_best(store, &replay);
  store->recovering = false;
  if (status) return error_set(error, status, "cannot read the journal: %s", status_name(status));
  status = find_missing(store);
  if (!status) status = find_superseded(store);
  if (status) return error_set(error, status, "memory is short for the journal");
  set_time(store, &replay, wall);
  begin_counting(store, &replay);
  if (store->settings.read_only) return OK;

  status = journal_log_start(store->journal, error);
  if (status) return status;
  store->safe_sequence = journal_log_sequence(store->journal);
  status = note_suspects(store);
  if (status) return error_set(error, status, "memory is short for the journal");
  name_broker(store);
  store->moves_pending = true;
  store->references_waiting = STORE_REFERENCES_WAIT;
  if (!journal_log_roomy(store->journal, true)) {
    store->state = JOURNAL_FULL;
    LOG(store->log, store->now, LOG_ERROR, "journal_state", FIELD_TEXT("state", journal_state_name(store->state)),
        FIELD_TEXT("reason", "reserve"), FIELD_UINT("bytes", journal_log_bytes(store->journal)),
        FIELD_UINT("limit", store->settings.limit_bytes));
  }
  store->roomy_segment = store->others = position_segment(journal_log_end(store->journal));
  if (store->repair.count > 0 || store->superseded.count > 0) repair(store, wall);
  return OK;
}
