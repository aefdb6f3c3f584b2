// Opening the log: which files there are, whose they are, and which of them can be used; and starting to write where the
// scan has found the end. Nothing is changed before it is clear that the directory is ours.
#include <inttypes.h>
#include <stdio.h>

#include "store/log_internal.h"

enum file_kind { FILE_OTHER, FILE_SEGMENT, FILE_SPARE, FILE_DAMAGED, FILE_SUSPECT };

// NNNNNNNNNN.kind, nothing else.
static enum file_kind parse_name(const char *name, uint32_t *out_number)
{
  uint64_t number = 0;
  for (int i = 0; i < 10; i++) {
    if (name[i] < '0' || name[i] > '9') return FILE_OTHER;
    number = number * 10 + (uint64_t)(name[i] - '0');
  }
  if (number == 0 || number >= UINT32_MAX) return FILE_OTHER;
  *out_number = (uint32_t)number;
  if (strcmp(name + 10, ".segment") == 0) return FILE_SEGMENT;
  if (strcmp(name + 10, ".spare") == 0) return FILE_SPARE;
  if (strcmp(name + 10, ".damaged") == 0) return FILE_DAMAGED;
  if (strcmp(name + 10, ".suspect") == 0) return FILE_SUSPECT;
  return FILE_OTHER;
}

struct listing {
  struct journal_log *log;
  bool no_memory;
};

static void list_file(void *context, const char *name)
{
  struct listing *listing = context;
  struct journal_log *log = listing->log;
  uint32_t number;
  enum file_kind kind = parse_name(name, &number);
  if (kind == FILE_OTHER) return;
  uint32_t *next = kind == FILE_SPARE ? &log->next_spare : &log->next_number;
  if (number >= *next) *next = number + 1;
  if (kind == FILE_SEGMENT) {
    struct segment *segments = log_grow(log->segments, log->count, &log->capacity, sizeof *segments);
    if (segments) {
      log->segments = segments;
      segments[log->count++] = (struct segment){.number = number};
      return;
    }
    listing->no_memory = true;
  }
  if (kind == FILE_SPARE) {
    struct spare *spares = log_grow(log->spares, log->spare_count, &log->spare_capacity, sizeof *spares);
    if (spares) {
      log->spares = spares;
      spares[log->spare_count++] = (struct spare){.number = number};
      return;
    }
    listing->no_memory = true;
  }
  if (kind == FILE_SUSPECT) {
    uint32_t *suspects = log_grow(log->suspects, log->suspect_count, &log->suspect_capacity, sizeof *suspects);
    if (suspects) {
      log->suspects = suspects;
      suspects[log->suspect_count++] = number;
      return;
    }
    listing->no_memory = true;
  }
}

// Marks belong to segments; one without is left of a segment that was set aside.
static void match_suspects(struct journal_log *log)
{
  for (size_t i = 0; i < log->suspect_count; i++) {
    struct segment *segment = log_find(log, log->suspects[i]);
    if (segment) segment->suspect = true;
  }
}

static void tidy_suspects(struct journal_log *log)
{
  for (size_t i = 0; i < log->suspect_count; i++)
    if (!log_find(log, log->suspects[i])) log_forget_suspect(log, log->suspects[i]);
}

static int by_number(const void *a, const void *b)
{
  uint32_t left = ((const struct segment *)a)->number, right = ((const struct segment *)b)->number;
  return (left > right) - (left < right);
}

// ---- Headers

enum header_state { HEADER_GOOD, HEADER_DAMAGED, HEADER_EMPTY, HEADER_GONE };

static bool all_zeros(const uint8_t *at, size_t size)
{
  for (size_t i = 0; i < size; i++)
    if (at[i] != 0) return false;
  return true;
}

// Whether the whole file is zeros, so that nothing can be lost with it.
static enum status is_empty(struct journal_log *log, struct segment *segment, bool *out)
{
  struct log_window window = {.ahead = LOG_WINDOW_BYTES};
  enum status status = OK;
  *out = true;
  for (uint64_t offset = 0; offset < segment->size && *out && status == OK;) {
    uint64_t left = segment->size - offset;
    size_t piece = left < LOG_WINDOW_BYTES ? (size_t)left : LOG_WINDOW_BYTES;
    const uint8_t *at;
    status = log_view(log, segment, &window, offset, piece, &at);
    if (status == OK && (window.faulty || !all_zeros(at, piece))) *out = false;
    offset += piece;
  }
  if (status == ERR_INVALID || status == ERR_IO) {  // shorter than it was, or unreadable
    *out = false;
    status = OK;
  }
  log_window_free(&window);
  return status;
}

static enum status judge_header(struct journal_log *log, struct segment *segment, const uint8_t *header,
                                bool *identity_known, enum header_state *out, struct error *error)
{
  if (memcmp(header, LOG_MAGIC, LOG_MAGIC_SIZE) != 0) return OK;
  struct record_reader reader = {.rest = span_of(header + LOG_MAGIC_SIZE, LOG_SEGMENT_HEADER - LOG_MAGIC_SIZE)};
  uint32_t version = record_read_u32(&reader);
  uint32_t number = record_read_u32(&reader);
  struct span identity = record_read_bytes(&reader, LOG_IDENTITY_SIZE);
  uint64_t first_sequence = record_read_u64(&reader);
  reader.rest = span_of(header + LOG_CHECKSUM_OFFSET, sizeof(uint32_t));
  if (record_read_u32(&reader) != crc32c(0, span_of(header, LOG_CHECKSUM_OFFSET))) return OK;

  char name[LOG_NAME_SIZE];
  log_name(name, segment->number, "segment");
  if (version < LOG_VERSION_LEAST || version > LOG_VERSION)
    return error_set(error, ERR_INVALID,
                     "%s: the journal has format version %" PRIu32 ", and this program knows versions up to %d: "
                     "use the version of the program that wrote it, or another directory",
                     name, version, LOG_VERSION);
  if (number != segment->number || first_sequence == 0 || first_sequence >> RECORD_SEQUENCE_BITS != 0) return OK;
  if (*identity_known && memcmp(identity.at, log->identity, LOG_IDENTITY_SIZE) != 0)
    return error_set(error, ERR_INVALID,
                     "%s: belongs to another journal than the other files of the directory: "
                     "put the files of each journal into a directory of its own",
                     name);
  memcpy(log->identity, identity.at, LOG_IDENTITY_SIZE);
  *identity_known = true;
  segment->first_sequence = first_sequence;
  segment->version = (uint8_t)version;
  *out = HEADER_GOOD;
  return OK;
}

static enum status read_header(struct journal_log *log, struct segment *segment, bool *identity_known,
                               enum header_state *out, struct error *error)
{
  *out = HEADER_DAMAGED;
  char name[LOG_NAME_SIZE];
  log_name(name, segment->number, "segment");
  struct disk_file *file;
  enum status status = log_file(log, segment, &file);
  if (status == ERR_IO) status = log_file(log, segment, &file);
  if (status == ERR_NOT_FOUND) {  // removed since it was listed: the broker that it belongs to is running
    *out = HEADER_GONE;
    return OK;
  }
  if (status == OK) status = log->disk->operations->size(log->disk, file, &segment->size);
  // Not to be taken for damage: there is nothing wrong with the file that anybody could know.
  if (status) return error_set(error, status, "%s: cannot be opened: %s", name, status_name(status));
  if (segment->size > UINT32_MAX) segment->size = UINT32_MAX & ~(uint64_t)(RECORD_ALIGN - 1);
  segment->used = segment->size;
  uint8_t header[LOG_SEGMENT_HEADER];
  size_t size = 0;
  status = ERR_IO;
  for (unsigned tries = 0; status == ERR_IO && tries < LOG_OPEN_TRIES; tries++)
    status = log->disk->operations->read(log->disk, file, 0, header, sizeof header, &size);
  bool unreadable = status == ERR_IO;
  if (status && !unreadable) return error_set(error, status, "%s: cannot be read: %s", name, status_name(status));
  status = OK;
  if (!unreadable && size == sizeof header) status = judge_header(log, segment, header, identity_known, out, error);
  if (status == OK && *out == HEADER_DAMAGED && !unreadable) {
    bool empty = false;
    status = is_empty(log, segment, &empty);
    if (status) return error_set(error, status, "%s: cannot be read: %s", name, status_name(status));
    if (empty) *out = HEADER_EMPTY;
  }
  log_close_file(log, segment);
  return status;
}

static void tell_damaged(struct journal_log *log, const struct segment *segment)
{
  if (!log->log) return;
  char name[LOG_NAME_SIZE], aside[LOG_NAME_SIZE];
  log_name(name, segment->number, "segment");
  log_name(aside, segment->number, log->read_only ? "segment" : "damaged");
  LOG(log->log, log->now, LOG_ERROR, "journal_header_damaged", FIELD_TEXT("file", name), FIELD_UINT("offset", 0),
      FIELD_UINT("bytes", segment->size), FIELD_TEXT("kept_as", aside));
}

// A segment that cannot be used: kept for whoever wants to look at it.
static enum status put_aside(struct journal_log *log, const struct segment *segment, enum header_state state,
                             struct error *error)
{
  char name[LOG_NAME_SIZE], aside[LOG_NAME_SIZE];
  log_name(name, segment->number, "segment");
  log_name(aside, segment->number, "damaged");
  enum status status = OK;
  if (!log->read_only && state == HEADER_EMPTY) status = log->disk->operations->unlink(log->disk, name);
  if (!log->read_only && state == HEADER_DAMAGED) status = log->disk->operations->rename(log->disk, name, aside);
  if (status) return error_set(error, status, "%s: damaged, and cannot be put aside: %s", name, status_name(status));
  if (state == HEADER_EMPTY) return OK;
  tell_damaged(log, segment);
  struct lost_segment *lost = log_grow(log->lost, log->lost_count, &log->lost_capacity, sizeof *lost);
  if (!lost) return error_set(error, ERR_NO_MEMORY, "out of memory");
  log->lost = lost;
  lost[log->lost_count++] = (struct lost_segment){.number = segment->number, .size = segment->size};
  return OK;
}

// All headers are read before anything is changed.
static enum status read_headers(struct journal_log *log, struct error *error)
{
  if (log->count == 0) return OK;
  enum header_state *states = calloc(log->count, sizeof *states);
  if (!states) return error_set(error, ERR_NO_MEMORY, "out of memory");
  enum status status = OK;
  bool identity_known = false;
  for (size_t i = 0; i < log->count && status == OK; i++)
    status = read_header(log, &log->segments[i], &identity_known, &states[i], error);
  size_t kept = 0;
  for (size_t i = 0; i < log->count && status == OK; i++) {
    struct segment *segment = &log->segments[i];
    if (states[i] == HEADER_GOOD) {
      log->bytes += segment->size;
      log->segments[kept++] = *segment;
    } else if (states[i] != HEADER_GONE) {
      status = put_aside(log, segment, states[i], error);
    }
  }
  if (status == OK) log->count = kept;
  free(states);
  return status;
}

static void read_spares(struct journal_log *log)
{
  size_t kept = 0;
  for (size_t i = 0; i < log->spare_count; i++) {
    struct spare *spare = &log->spares[i];
    char name[LOG_NAME_SIZE];
    log_name(name, spare->number, "spare");
    struct disk_file *file;
    if (log->disk->operations->open(log->disk, name, DISK_READ, &file)) continue;
    if (log->disk->operations->size(log->disk, file, &spare->size)) spare->size = 0;
    log->disk->operations->close(log->disk, file);
    log->bytes += spare->size;
    log->spares[kept++] = *spare;
  }
  log->spare_count = kept;
}

enum status journal_log_open(const struct journal_log_settings *settings, struct journal_log **out, struct error *error)
{
  struct journal_log *log = calloc(1, sizeof *log);
  if (!log) return error_set(error, ERR_NO_MEMORY, "out of memory");
  log->disk = settings->disk;
  log->log = settings->log;
  log->now = settings->now;
  log->segment_bytes = settings->segment_bytes & ~(uint64_t)(RECORD_ALIGN - 1);
  assert(settings->read_only || log->segment_bytes > LOG_SEGMENT_HEADER + sizeof(struct record_header));
  if (log->segment_bytes > LOG_SEGMENT_MAX) log->segment_bytes = LOG_SEGMENT_MAX;
  log->limit_bytes = settings->limit_bytes;
  if (log->segment_bytes > 0)
    log->reserve = (size_t)((settings->reserve_bytes + log->segment_bytes - 1) / log->segment_bytes);
  if (log->reserve == 0) log->reserve = 1;
  log->read_only = settings->read_only;
  memcpy(log->identity, settings->identity, LOG_IDENTITY_SIZE);
  log->next_number = 1;
  log->next_spare = 1;

  struct listing listing = {.log = log};
  enum status status = log->disk->operations->list(log->disk, list_file, &listing);
  if (status) error_set(error, status, "the directory cannot be listed: %s", status_name(status));
  if (status == OK && listing.no_memory) status = error_set(error, ERR_NO_MEMORY, "out of memory");
  if (status == OK) {
    if (log->count > 0) qsort(log->segments, log->count, sizeof *log->segments, by_number);
    status = read_headers(log, error);
  }
  if (status) {
    journal_log_close(log);
    return status;
  }
  read_spares(log);
  match_suspects(log);
  *out = log;
  return OK;
}

void journal_log_close(struct journal_log *log)
{
  if (!log) return;
  for (size_t i = 0; i < log->count; i++) log_close_file(log, &log->segments[i]);
  for (size_t i = 0; i < LOG_WINDOWS; i++) log_window_free(&log->windows[i]);
  free(log->segments);
  free(log->spares);
  free(log->lost);
  free(log->suspects);
  free(log);
}

// ---- Starting

// A spare of another size, of a broker that was stopped while it made it or had another configuration.
static bool fit_spare(struct journal_log *log, struct spare *spare)
{
  if (spare->size == log->segment_bytes) return true;
  const struct disk_operations *operations = log->disk->operations;
  char name[LOG_NAME_SIZE];
  log_name(name, spare->number, "spare");
  struct disk_file *file;
  enum status status = operations->open(log->disk, name, DISK_WRITE, &file);
  if (status == OK) {
    status = spare->size > log->segment_bytes ? operations->truncate(log->disk, file, log->segment_bytes)
                                              : operations->allocate(log->disk, file, log->segment_bytes);
    operations->close(log->disk, file);
  }
  if (status == OK) {
    log->bytes = log->bytes - spare->size + log->segment_bytes;
    spare->size = log->segment_bytes;
    return true;
  }
  enum status ignored = operations->unlink(log->disk, name);  // if not, it is tried again at the next opening
  (void)ignored;
  log->bytes -= spare->size;
  return false;
}

static void fit_spares(struct journal_log *log)
{
  size_t kept = 0;
  for (size_t i = 0; i < log->spare_count; i++) {
    struct spare spare = log->spares[i];
    if (kept < log->reserve) {
      if (fit_spare(log, &spare)) log->spares[kept++] = spare;
      continue;
    }
    char name[LOG_NAME_SIZE];
    log_name(name, spare.number, "spare");
    if (log->disk->operations->unlink(log->disk, name) == OK) log->bytes -= spare.size;
  }
  log->spare_count = kept;
}

// Writes again what nothing says was safe: it was readable, but if the disk failed while the process before wrote it, the
// system may take it for written although it is not.
static enum status write_again(struct journal_log *log, struct segment *segment)
{
  struct log_window window = {.ahead = LOG_WINDOW_BYTES};
  enum status status = OK;
  uint64_t offset = log->found_unsynced;
  while (offset < log->end && status == OK) {
    size_t piece = log->end - offset < LOG_WINDOW_BYTES ? (size_t)(log->end - offset) : LOG_WINDOW_BYTES;
    const uint8_t *at;
    status = log_view(log, segment, &window, offset, piece, &at);
    if (status == OK && window.faulty) status = ERR_IO;
    if (status == OK) status = log->disk->operations->write(log->disk, segment->file, offset, span_of(at, piece));
    offset += piece;
  }
  log_window_free(&window);
  return status;
}

// Makes what was found at the end of the last segment safe, and nothing but that.
static enum status settle_last(struct journal_log *log, struct segment *segment)
{
  log_close_file(log, segment);
  char name[LOG_NAME_SIZE];
  log_name(name, segment->number, "segment");
  enum status status = log->disk->operations->open(log->disk, name, DISK_WRITE, &segment->file);
  if (status) {
    segment->file = NULL;
    return status;
  }
  log->open_files++;
  log->current = segment->number;
  log->end = log->found.offset;
  log->stale_end = log->found_dirty;
  log->directory_dirty = true;  // whatever the process before was doing
  status = write_again(log, segment);
  if (status == OK) status = log_wipe(log);
  if (status == OK) status = log->disk->operations->sync(log->disk, segment->file);
  return status;
}

enum status journal_log_start(struct journal_log *log, struct error *error)
{
  assert(!log->read_only);
  assert(!log->started);
  if (!log->end_known) {
    const struct log_reader nobody = {0};
    uint64_t from = log->count > 0 ? position_of(log->segments[log->count - 1].number, 0) : 0;
    enum status status = journal_log_scan(log, from, &nobody);
    if (status) return error_set(error, status, "the end of the journal cannot be found: %s", status_name(status));
  }
  log->sequence = log->found.sequence;
  struct segment *last = log->count > 0 ? &log->segments[log->count - 1] : NULL;
  if (last && last->number == log->found.segment) {
    char name[LOG_NAME_SIZE];
    log_name(name, last->number, "segment");
    enum status status = settle_last(log, last);
    if (status) {
      log->current = 0;
      return error_set(error, status, "%s: what was written last cannot be made safe: %s", name, status_name(status));
    }
    log_forget_windows(log, last->number);
  } else {
    // Nothing is left of what the process before did: nor may it come back.
    enum status status = log->disk->operations->sync_directory(log->disk);
    if (status) return error_set(error, status, "the directory cannot be made safe: %s", status_name(status));
  }
  log->safe = (struct log_place){.sequence = log->sequence};
  if (last) {
    log->safe.segment = last->number;
    log->safe.offset = last->used;
    // Nothing new goes into a damaged one: whoever uses the log will set it aside. Nor into one of an older version: a
    // program that knows only that one must refuse what is new.
    if (last->damaged || last->version < LOG_VERSION) log->current = 0;
    if (log->current == 0) {
      last->given_up = true;
      log_close_file(log, last);
    }
  }
  log->started = true;
  tidy_suspects(log);
  fit_spares(log);
  log_replenish(log);
  if (log->log && log->spare_count < log->reserve)
    LOG(log->log, log->now, LOG_WARNING, "journal_reserve_missing", FIELD_UINT("wanted", log->reserve),
        FIELD_UINT("present", log->spare_count));
  return OK;
}
