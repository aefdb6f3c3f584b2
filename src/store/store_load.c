// Loads: entries of a queue with their messages, read from the log. A queue is read forward, and so is the log: what is read
// at once serves many entries.
#include <stdlib.h>

#include "store/store_internal.h"

enum {
  LOAD_ENTRIES = 256,  // looked up at once
  SUSPECT_TRIES = 5    // loads that must fail at the same record before it is given up: a disk may recover
};

// A part of the disk that fails to be read is damage. But when nothing can be read, or files cannot be opened, messages are
// not given up for it.
bool store_is_damage(struct store *store, enum status status)
{
  if (status == ERR_INVALID || status == ERR_NOT_FOUND) return true;
  if (status != ERR_IO || store->state == JOURNAL_FAILING) return false;
  struct disk_file *file;
  status = store->disk->operations->open(store->disk, ANCHOR_FILE, DISK_READ, &file);
  if (status) return status == ERR_NOT_FOUND;
  uint8_t byte;
  size_t size;
  status = store->disk->operations->read(store->disk, file, 0, &byte, sizeof byte, &size);
  store->disk->operations->close(store->disk, file);
  return status == OK;
}

bool store_is_lost(struct store *store, enum status status, uint64_t position)
{
  if (!store_is_damage(store, status)) return false;
  if (status != ERR_IO) return true;
  if (store->suspect != position) store->suspect_tries = 0;
  store->suspect = position;
  return ++store->suspect_tries > SUSPECT_TRIES;
}

struct loading {
  struct store *store;
  const struct journal_load *load;
  struct journal_loaded *loaded;
  uint32_t damaged;
  uint64_t first_damaged;  // position
};

// Whether it is a message, and went to this place of this queue.
static bool is_meant(const struct journal_load *load, uint64_t place, const struct record_header *header, struct span body)
{
  struct record_message message;
  struct record_target target;
  if (record_type(header) != RECORD_MESSAGE && record_type(header) != RECORD_MESSAGE_COPY) return false;
  if (!record_get_message(body, &message)) return false;
  for (size_t cursor = 0; record_next_target(message.targets, &cursor, &target);)
    if (target.session == load->session && target.place == (uint32_t)place) return true;
  return false;
}

// Whether this place was counted as damaged before: until it is done, it comes with each load from its beginning on.
static bool was_counted(struct store *store, uint32_t session, uint64_t place)
{
  struct damaged_run *run = NULL;
  for (size_t i = 0; i < DAMAGED_RUNS; i++) {
    struct damaged_run *at = &store->damaged_runs[i];
    if (at->count == 0 || at->session != session || place < at->from || place > at->from + at->count) continue;
    if (place < at->from + at->count) return true;
    run = at;
  }
  if (!run) {  // in place of the oldest
    run = &store->damaged_runs[store->next_damaged_run++ % DAMAGED_RUNS];
    *run = (struct damaged_run){.session = session, .from = place};
  }
  run->count++;
  return false;
}

// `position`: of the message, 0 when it is a hole or not known.
static enum status put_damaged(struct loading *loading, const struct queue_entry *entry, uint64_t position)
{
  struct store *store = loading->store;
  bool hole = position == 0;  // counted when it was found
  if (!hole && was_counted(store, loading->load->session, entry->place))
    return journal_put_entry(loading->loaded, entry->place, LOADED_DAMAGED, span_of(NULL, 0));
  if (loading->damaged++ == 0) loading->first_damaged = position;
  if (!hole) store->counters.damaged_messages++;
  return journal_put_entry(loading->loaded, entry->place, LOADED_DAMAGED, span_of(NULL, 0));
}

static enum status put_waiting(struct loading *loading, const struct queue_entry *entry)
{
  struct record_header header;
  struct span body;
  uint64_t position = entry->position;
  enum status status = OK;
  if (position == 0) status = store_rebuild(loading->store, loading->load->session, entry->place, &position);
  if (status) return status;
  if (position == 0) return put_damaged(loading, entry, 0);
  status = journal_log_read(loading->store->journal, position, &header, &body);
  if (status && !store_is_lost(loading->store, status, position)) return status;
  if (status || !is_meant(loading->load, entry->place, &header, body)) return put_damaged(loading, entry, position);
  return journal_put_entry(loading->loaded, entry->place, LOADED_WAITING, body);
}

static enum status put_entry(struct loading *loading, const struct queue_entry *entry)
{
  if (entry->state == ENTRY_SENT) return journal_put_entry(loading->loaded, entry->place, LOADED_SENT, span_of(NULL, 0));
  return put_waiting(loading, entry);
}

// Appends until the load is full or the queue ends. loaded->next is always behind what was put.
static enum status fill(struct loading *loading)
{
  const struct journal_load *load = loading->load;
  struct journal_loaded *loaded = loading->loaded;
  uint32_t put = 0;
  while (put < load->max_entries) {
    struct queue_entry entries[LOAD_ENTRIES];
    size_t wanted = load->max_entries - put < LOAD_ENTRIES ? load->max_entries - put : LOAD_ENTRIES, count = 0;
    uint64_t next = loaded->next;
    enum status status =
        catalog_entries(&loading->store->catalog, load->session, loaded->next, entries, wanted, &count, &next);
    if (status == ERR_NOT_FOUND) return OK;
    if (status) return status;
    for (size_t i = 0; i < count; i++) {
      if (put > 0 && buffer_size(&loaded->entries) >= load->max_bytes) return OK;
      status = put_entry(loading, &entries[i]);
      if (status) return put > 0 ? OK : status;
      loaded->next = entries[i].place + 1;
      put++;
    }
    loaded->next = next;
    if (count < wanted) return OK;
  }
  return OK;
}

static void report_damage(const struct loading *loading)
{
  struct store *store = loading->store;
  const struct catalog_session *session = catalog_find(&store->catalog, loading->load->session);
  LOG(store->log, store->now, LOG_ERROR, "journal_messages_damaged",
      FIELD_SPAN("client_id", session ? session->client_id : span_of(NULL, 0)), FIELD_UINT("messages", loading->damaged),
      FIELD_UINT("segment", position_segment(loading->first_damaged)),
      FIELD_UINT("offset", position_offset(loading->first_damaged)));
}

struct journal_loaded *store_load(struct store *store, const struct journal_load *load)
{
  struct journal_loaded *loaded = calloc(1, sizeof *loaded);
  if (!loaded) return NULL;
  loaded->session = load->session;
  loaded->ticket = load->ticket;
  loaded->next = load->place;
  struct loading loading = {.store = store, .load = load, .loaded = loaded};
  enum status status = fill(&loading);
  if (status)
    store->load_failed = load->session;
  else if (store->load_failed == load->session)
    store->load_failed = 0;
  if (status) {
    journal_loaded_free(loaded);
    return NULL;
  }
  if (loading.damaged > 0) report_damage(&loading);
  store->counters.loads++;
  store->counters.loaded_messages += loaded->count;
  return loaded;
}
