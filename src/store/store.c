// Opening, closing and what is told about a store. The work is in store_recover.c, store_round.c, store_upkeep.c and
// store_load.c.
#include "store/store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/search.h"
#include "store/store_internal.h"

// ---- Sets of segment numbers

static size_t numbers_index(const struct numbers *numbers, uint32_t number)
{
  return SEARCH_FIRST(i, numbers->count, numbers->at[i] < number);
}

bool numbers_have(const struct numbers *numbers, uint32_t number)
{
  size_t index = numbers_index(numbers, number);
  return index < numbers->count && numbers->at[index] == number;
}

enum status numbers_add(struct numbers *numbers, uint32_t number)
{
  size_t index = numbers_index(numbers, number);
  if (index < numbers->count && numbers->at[index] == number) return OK;
  if (numbers->count == numbers->capacity) {
    size_t capacity = numbers->capacity ? 2 * numbers->capacity : 16;
    uint32_t *at = realloc(numbers->at, capacity * sizeof *at);
    if (!at) return ERR_NO_MEMORY;
    numbers->at = at;
    numbers->capacity = capacity;
  }
  memmove(numbers->at + index + 1, numbers->at + index, (numbers->count - index) * sizeof *numbers->at);
  numbers->at[index] = number;
  numbers->count++;
  return OK;
}

void numbers_remove(struct numbers *numbers, uint32_t number)
{
  size_t index = numbers_index(numbers, number);
  if (index == numbers->count || numbers->at[index] != number) return;
  numbers->count--;
  memmove(numbers->at + index, numbers->at + index + 1, (numbers->count - index) * sizeof *numbers->at);
}

void numbers_deinit(struct numbers *numbers)
{
  free(numbers->at);
  *numbers = (struct numbers){0};
}

// ---- Opening

enum status store_read(void *context, uint64_t position, struct record_header *out_header, struct span *out_body)
{
  struct store *store = context;
  return journal_log_read(store->journal, position, out_header, out_body);
}

void store_reset_catalog(struct store *store)
{
  catalog_init(&store->catalog, store_read, store);
  memcpy(&store->catalog.seed, store->settings.identity, sizeof store->catalog.seed);  // random, and nobody's business
}

// Whose directory it is, before anything is changed.
static enum status check_anchor(struct store *store, struct error *error)
{
  enum anchor_state state;
  const char *id = store->settings.broker_id;
  enum status status = anchor_read(store->disk, &state, &store->anchor);
  if (status) return error_set(error, status, "cannot read the file anchor of the journal: %s", status_name(status));
  switch (state) {
    case ANCHOR_MISSING: break;
    case ANCHOR_NEWER:
      return error_set(error, ERR_INVALID,
                       "the journal was written by a newer version of skerry (its anchor is not of format version %d): "
                       "start that version, or give this one another broker.data; nothing was changed",
                       ANCHOR_VERSION);
    case ANCHOR_DAMAGED:
      store->counters.damaged_records++;
      LOG(store->log, store->now, LOG_WARNING, "journal_anchor_damaged", FIELD_TEXT("file", ANCHOR_FILE));
      break;
    case ANCHOR_GOOD:
      if (!id || store->anchor.broker_id[0] == 0 || strcmp(id, store->anchor.broker_id) == 0) break;
      return error_set(
          error, ERR_INVALID,
          "the journal belongs to the broker \"%s\", and this one is \"%s\": set broker.id to \"%s\", or give this "
          "broker another broker.data; nothing was changed",
          store->anchor.broker_id, id, store->anchor.broker_id);
  }
  return OK;
}

static enum status open_log(struct store *store, struct error *error)
{
  const struct store_settings *settings = &store->settings;
  struct journal_log_settings log_settings = {
      .disk = settings->disk,
      .log = settings->log,
      .now = store->now,
      .segment_bytes = settings->segment_bytes,
      .limit_bytes = settings->limit_bytes,
      .reserve_bytes = settings->reserve_bytes,
      .read_only = settings->read_only,
  };
  bool known = store->anchor.generation > 0;
  memcpy(log_settings.identity, known ? store->anchor.identity : settings->identity, LOG_IDENTITY_SIZE);
  enum status status = journal_log_open(&log_settings, &store->journal, error);
  if (status) return status;
  const uint8_t *identity = journal_log_identity(store->journal);
  if (known && memcmp(identity, store->anchor.identity, LOG_IDENTITY_SIZE) != 0) {
    LOG(store->log, store->now, LOG_WARNING, "journal_anchor_foreign", FIELD_TEXT("file", ANCHOR_FILE),
        FIELD_TEXT("effect", "the whole journal is read"));
    store->anchor.last = store->anchor.previous = (struct anchor_start){0};
  }
  memcpy(store->anchor.identity, identity, LOG_IDENTITY_SIZE);
  return OK;
}

static enum status open_parts(struct store *store, struct wall wall, struct error *error)
{
  enum status status = check_anchor(store, error);
  if (!status) status = open_log(store, error);
  if (!status) status = store_recover(store, wall, error);
  return status;
}

enum status store_open(const struct store_settings *settings, struct mono now, struct wall wall, struct store **out,
                       struct error *error)
{
  if (settings->broker_id && strlen(settings->broker_id) > ANCHOR_BROKER_ID_MAX)
    return error_set(error, ERR_INVALID, "broker.id is longer than %d bytes", ANCHOR_BROKER_ID_MAX);
  struct store *store = calloc(1, sizeof *store);
  if (!store) return error_set(error, ERR_NO_MEMORY, "memory is short for the journal");
  store->settings = *settings;
  store->disk = settings->disk;
  store->log = settings->log;
  store->now = now;
  store->backoff_ms = STORE_RETRY_FIRST_MS;
  store_reset_catalog(store);
  enum status status = open_parts(store, wall, error);
  if (status) {
    store_close(store);
    return status;
  }
  *out = store;
  return OK;
}

void store_close(struct store *store)
{
  if (!store) return;
  while (store->first) {
    struct journal_batch *next = store->first->next;
    journal_batch_free(store->first);
    store->first = next;
  }
  free(store->chunks);
  free(store->extents);
  free(store->rebuilt);
  buffer_deinit(&store->own);
  numbers_deinit(&store->checkpoint.dead);
  numbers_deinit(&store->checkpoint.dead_last);
  numbers_deinit(&store->repair);
  numbers_deinit(&store->aside);
  numbers_deinit(&store->refused);
  numbers_deinit(&store->kept);
  numbers_deinit(&store->superseded);
  catalog_deinit(&store->catalog);
  if (store->journal) journal_log_close(store->journal);
  free(store);
}

// ---- A clean stop

// Rounds until nothing is left to write. After a failure the rest stays in memory and is lost with it.
static enum status drain(struct store *store, struct mono now, struct wall wall)
{
  do {
    uint64_t failures = store->counters.errors + store->counters.full;
    (void)store_round(store, now, wall);
    if (store->state == JOURNAL_FAILING) return ERR_IO;
    if (store->counters.errors + store->counters.full != failures) return store->state == JOURNAL_FULL ? ERR_FULL : ERR_IO;
    if (store->upkeep_failed) return ERR_NO_MEMORY;
  } while (store->first || store_upkeep_left(store));
  return OK;
}

static enum status finish(struct store *store, struct mono now, struct wall wall)
{
  enum status status = drain(store, now, wall);
  if (status) return status;
  const struct checkpoint *checkpoint = &store->checkpoint;
  bool covered = store->anchor.last.position && store->anchor.last.position == checkpoint->begin.position;
  if ((covered || checkpoint->begin.position == 0) && !checkpoint->changed) return OK;
  store->checkpoint.wanted = true;
  status = drain(store, now, wall);
  return !status && store->anchor_due ? ERR_IO : status;
}

enum status store_finish(struct store *store, struct mono now, struct wall wall)
{
  if (store->settings.read_only) return OK;
  store->retry_ms = store->anchor_retry_ms = now.ms;  // one last try, whatever failed before
  if (store->references_waiting > 0) store->references_waiting = STORE_REFERENCES_WAIT;  // blocks make the checkpoint small
  if (store->copying.segment && store->copying.stage == COPY_READ) store_upkeep_leave_copy(store);
  store->finishing = true;
  enum status status = finish(store, now, wall);
  store->finishing = false;
  return status;
}

// ---- Watching

uint64_t store_epoch_ms(const struct store *store)
{
  return store->epoch_ms;
}

static void count_segments(const struct store *store, struct store_counters *out)
{
  for (size_t i = 0; i < journal_log_segments(store->journal); i++) {
    struct segment_info info;
    journal_log_segment(store->journal, i, &info);
    const struct segment_live *live = catalog_live(&store->catalog, info.number);
    uint64_t bytes = live ? live->bytes : 0;
    out->live_bytes += bytes < info.used ? bytes : info.used;
    out->segments++;
  }
}

static void count_queues(struct store *store, struct store_counters *out)
{
  uint32_t now_s = (uint32_t)(store_time_ms(store) / 1000), oldest_s = 0;
  size_t cursor = 0;
  const struct catalog_session *session;
  while ((session = map_next(&store->catalog.sessions, &cursor))) {
    out->queues++;
    out->queued += session->waiting;
    out->queued_bytes += session->waiting_bytes;
    if (session->waiting == 0) continue;
    uint32_t s = catalog_oldest_s(&store->catalog, session);
    if (s > 0 && (oldest_s == 0 || s < oldest_s)) oldest_s = s;
  }
  if (oldest_s > 0 && now_s > oldest_s) out->oldest_s = now_s - oldest_s;
}

void store_counters(struct store *store, struct mono now, struct store_counters *out)
{
  store->now = now;
  *out = store->counters;
  count_segments(store, out);
  count_queues(store, out);
  out->bytes = journal_log_bytes(store->journal);
  out->limit_bytes = store->settings.limit_bytes;
  out->retained = store->catalog.retained.count;
  out->retained_bytes = store->catalog.retained_bytes;
  out->bytes_written = store->disk->bytes_written;
  out->syncs = store->disk->syncs;
}

const struct catalog *store_catalog(const struct store *store)
{
  return &store->catalog;
}

struct journal_log *store_log(const struct store *store)
{
  return store->journal;
}
