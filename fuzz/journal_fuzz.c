// The files of a journal, as a broker may find them: bytes behind the valid header of one or two segments, as they come or framed as records with right
// checksums and sequences. Whatever it is: it opens, everything in it can be loaded, and what is written from then on is kept.
//
// Input: a byte of flags, then bytes of the segments. Framed: type u8, size of the body u16, body; a byte 0 in place of the type ends the segment
// that is being filled.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sim/disk.h"
#include "core/identity.h"
#include "store/log.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
  FLAG_FRAMED = 1,
  FLAG_TWO_SEGMENTS = 2,
  FLAG_READ_ONLY = 4,
  SEGMENT_BYTES = 16384,
  LOADS_MOST = 300,  // of one queue
};

static const uint8_t identity[LOG_IDENTITY_SIZE] = {7, 7, 7};

static void check(bool condition)
{
  if (!condition) abort();
}

// ---- The files

struct segment_file {
  uint8_t bytes[SEGMENT_BYTES];
  size_t used;
  uint32_t number;
};

static void begin_segment(struct segment_file *file, uint32_t number, uint64_t sequence)
{
  memset(file, 0, sizeof *file);
  log_segment_header(file->bytes, identity, number, sequence);
  file->used = LOG_SEGMENT_HEADER;
  file->number = number;
}

static void put_segment(struct disk *disk, const struct segment_file *file)
{
  char name[32];
  snprintf(name, sizeof name, "%010u.segment", (unsigned)file->number);
  sim_disk_put(disk, name, span_of(file->bytes, sizeof file->bytes));
}

static void put_raw(struct disk *disk, struct segment_file *file, struct span bytes, bool two)
{
  size_t split = two ? bytes.size / 2 : bytes.size;
  size_t room = SEGMENT_BYTES - LOG_SEGMENT_HEADER;
  begin_segment(file, 1, 1);
  if (split > 0) memcpy(file->bytes + file->used, bytes.at, split < room ? split : room);
  put_segment(disk, file);
  if (!two) return;
  begin_segment(file, 2, 1 + split / 32);
  size_t rest = bytes.size - split;
  if (rest > 0) memcpy(file->bytes + file->used, bytes.at + split, rest < room ? rest : room);
  put_segment(disk, file);
}

// Returns false when it does not fit.
static bool put_framed_record(struct segment_file *file, uint8_t type, struct span body, uint64_t sequence)
{
  uint64_t length = record_length((uint32_t)body.size);
  if (length > SEGMENT_BYTES - file->used) return false;
  uint8_t *at = file->bytes + file->used;
  record_write_u32(at + 4, (uint32_t)body.size);
  record_write_u64(at + 8, (uint64_t)type << RECORD_SEQUENCE_BITS);
  if (body.size > 0) memcpy(at + sizeof(struct record_header), body.at, body.size);
  log_stamp(at, log_seed(identity, file->number), sequence);
  file->used += (size_t)length;
  return true;
}

static void put_framed(struct disk *disk, struct segment_file *file, struct span bytes)
{
  struct record_reader reader = {.rest = bytes};
  uint64_t sequence = 1;
  begin_segment(file, 1, sequence);
  while (reader.rest.size > 0 && file->number < 4) {
    uint8_t type = record_read_u8(&reader);
    if (type == 0) {
      put_segment(disk, file);
      begin_segment(file, file->number + 1, sequence);
      continue;
    }
    size_t body_size = record_read_u16(&reader);
    if (body_size > reader.rest.size) body_size = reader.rest.size;
    if (!put_framed_record(file, type, record_read_bytes(&reader, body_size), sequence)) break;
    sequence++;
  }
  put_segment(disk, file);
}

// ---- What is done with them

static void load_queue(struct store *store, const struct catalog_session *session)
{
  uint64_t place = session->head;
  for (unsigned i = 0; i < LOADS_MOST; i++) {
    struct journal_load load = {.session = session->number, .place = place, .max_entries = 500, .max_bytes = 1 << 20};
    struct journal_loaded *loaded = store_load(store, &load);
    check(loaded != NULL);
    struct journal_entry entry;
    uint64_t at = place;
    for (size_t cursor = 0; journal_next_entry(loaded, &cursor, &entry); at = entry.place + 1) check(entry.place >= at);
    bool end = loaded->count == 0;
    check(end || loaded->next > place);
    place = loaded->next;
    journal_loaded_free(loaded);
    if (end) return;
  }
}

// Who a will is of, when it can be read, is known to whoever restores it.
static void read_whose(struct store *store, const struct catalog_session *session)
{
  struct record_header header;
  struct span body, owner = catalog_owner(session);
  struct record_will will;
  struct buffer copy = {0};
  check(buffer_append(&copy, owner.at, owner.size) == OK);
  buffer_deinit(&copy);
  if (!session->will_position || journal_log_read(store_log(store), session->will_position, &header, &body)) return;
  if (record_type(&header) != RECORD_WILL || !record_get_will(body, &will) || will.maker.size == 0) return;
  const struct identity *maker = identity_read(will.maker);
  struct buffer again = {0};
  check(maker && identity_write(&again, maker) == OK && span_equal(buffer_peek(&again), will.maker));
  buffer_deinit(&again);
  identity_unref(maker);
}

static void load_all(struct store *store)
{
  const struct catalog *catalog = store_catalog(store);
  size_t cursor = 0;
  const struct catalog_session *session;
  while ((session = map_next(&catalog->sessions, &cursor))) {
    load_queue(store, session);
    read_whose(store, session);
  }
  struct store_counters counters;
  store_counters(store, (struct mono){2000}, &counters);
}

static void submit(struct store *store, uint32_t number)
{
  struct journal_batch *batch = calloc(1, sizeof *batch);
  check(batch != NULL);
  batch->number = 1;
  struct record_session session = {.session = number, .expiry_s = 60, .client_id = span_text("newcomer")};
  struct record_target target = {.session = number, .qos = 1};
  struct buffer targets = {0};
  check(!record_put_target(&targets, &target, NULL));
  struct record_message message = {
      .qos = 1, .target_count = 1, .targets = buffer_peek(&targets), .topic = span_text("t"), .payload = span_text("p")};
  check(!record_put_session(&batch->records, &session));
  check(!record_put_message(&batch->records, &message));
  buffer_deinit(&targets);
  store_submit(store, batch);
}

static struct store *open_store(struct disk *disk, struct log *log, bool read_only)
{
  struct store_settings settings = {
      .disk = disk,
      .log = log,
      .segment_bytes = SEGMENT_BYTES,
      .limit_bytes = 64 << 20,
      .reserve_bytes = SEGMENT_BYTES,
      .replay_bytes = 1 << 20,
      .identity = {9},
      .read_only = read_only,
  };
  struct store *store = NULL;
  struct error error;
  check(store_open(&settings, (struct mono){1000}, (struct wall){INT64_C(1767225600000)}, &store, &error) == OK);
  return store;
}

static void go_on(struct disk *disk, struct log *log)
{
  struct mono now = {3000};
  struct wall wall = {INT64_C(1767225700000)};
  struct store *store = open_store(disk, log, false);
  load_all(store);
  uint32_t number = store_catalog(store)->next_session;
  bool free_number = number > 0 && number < UINT32_MAX - 1;
  if (free_number) {
    submit(store, number);
    for (unsigned i = 0; store_round(store, now, wall); i++) check(i < 100000);
    check(store_committed(store) == 1);
  }
  check(store_finish(store, now, wall) == OK);
  store_close(store);
  store = open_store(disk, log, false);
  const struct catalog_session *session = catalog_find(store_catalog(store), number);
  check(!free_number || (session && session->waiting == 1));
  load_all(store);
  store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 1) return 0;
  struct sim_disk_settings disk_settings = {0};
  prng_seed(&disk_settings.prng, 1);
  struct disk *disk = sim_disk_create(&disk_settings);
  struct segment_file *file = malloc(sizeof *file);
  check(file != NULL);
  struct span bytes = span_of(data + 1, size - 1);
  if (data[0] & FLAG_FRAMED)
    put_framed(disk, file, bytes);
  else
    put_raw(disk, file, bytes, data[0] & FLAG_TWO_SEGMENTS);
  free(file);

  struct log log;
  log_init(&log, NULL, NULL, LOG_ERROR);
  if (data[0] & FLAG_READ_ONLY) {
    struct store *store = open_store(disk, &log, true);
    load_all(store);
    store_close(store);
  }
  go_on(disk, &log);
  disk_destroy(disk);
  return 0;
}
