// Appending to the log: stamping, turning over to the next segment, making safe, and going back to what is safe when
// something failed. See log_internal.h for what holds between all files.
#include "store/log_internal.h"

void log_decode_header(const uint8_t *at, struct record_header *out)
{
  struct record_reader reader = {.rest = span_of(at, sizeof *out)};
  out->checksum = record_read_u32(&reader);
  out->size = record_read_u32(&reader);
  out->mark = record_read_u64(&reader);
}

uint32_t log_seed(const uint8_t identity[LOG_IDENTITY_SIZE], uint32_t number)
{
  uint8_t bytes[LOG_IDENTITY_SIZE + sizeof number];
  record_write_u32(record_write_bytes(bytes, span_of(identity, LOG_IDENTITY_SIZE)), number);
  return crc32c(0, span_of(bytes, sizeof bytes));
}

uint32_t log_record_checksum(uint32_t seed, const uint8_t *record, uint32_t body_size)
{
  size_t skipped = sizeof(uint32_t);
  return crc32c(seed, span_of(record + skipped, sizeof(struct record_header) - skipped + body_size));
}

void log_stamp(uint8_t *record, uint32_t seed, uint64_t sequence)
{
  struct record_header header;
  log_decode_header(record, &header);
  uint64_t low = (UINT64_C(1) << RECORD_SEQUENCE_BITS) - 1;
  assert(sequence <= low);
  record_write_u64(record + 8, (header.mark & ~low) | sequence);
  record_write_u32(record, log_record_checksum(seed, record, header.size));
}

static uint64_t length_of_first(const uint8_t *records, size_t size)
{
  assert(size >= sizeof(struct record_header));
  struct record_header header;
  log_decode_header(records, &header);
  assert(record_type(&header) != RECORD_NONE);
  uint64_t length = record_length(header.size);
  assert(length <= size);
  return length;
}

static struct segment *current_segment(struct journal_log *log)
{
  assert(log->current != 0);
  assert(log->count > 0);
  struct segment *segment = &log->segments[log->count - 1];
  assert(segment->number == log->current);
  return segment;
}

// ---- Going back

// Leaves the segment that was written as it is; the next append begins another.
static void leave_segment(struct journal_log *log)
{
  struct segment *segment = log_find(log, log->current);
  log->current = 0;
  log->dirty = false;
  log->stale_end = 0;
  if (segment) log_close_file(log, segment);
}

// Whether writing can go on in the segment that holds the end of what is safe.
static bool return_to_safe(struct journal_log *log)
{
  if (log->count == 0 || log->segments[log->count - 1].number != log->safe.segment) return false;
  struct segment *segment = &log->segments[log->count - 1];
  if (segment->given_up || segment->damaged) return false;
  log_close_file(log, segment);
  char name[LOG_NAME_SIZE];
  log_name(name, segment->number, "segment");
  if (log->disk->operations->open(log->disk, name, DISK_WRITE, &segment->file)) {
    segment->file = NULL;
    return false;
  }
  log->open_files++;
  log->current = segment->number;
  log->end = log->safe.offset;
  log->stale_end = segment->used > log->end ? segment->used : 0;
  segment->used = log->end;
  return true;
}

// Removes the segments that were begun since the last sync: kept, they would take the space that is missing. One after the
// other, the last one first, so that a power cut does not leave one of them behind a hole.
static void remove_begun(struct journal_log *log)
{
  while (log->count > 0 && log->segments[log->count - 1].number > log->safe.segment) {
    struct segment *last = &log->segments[log->count - 1];
    uint32_t number = last->number;
    last->used = LOG_SEGMENT_HEADER;
    last->given_up = true;
    // On failure they stay, also those below a name that could not be removed: what is begun next hides them, and whoever
    // uses the log removes them as any in which nothing lives.
    if (log->next_number != number + 1) return;
    if (log->directory_dirty && log->disk->operations->sync_directory(log->disk)) return;
    log->directory_dirty = true;
    if (log_unlink_segment(log, last)) return;
    log->next_number = number;
  }
}

// All that was appended since the last sync is gone. `usable`: nothing is wrong with the files, there was only no room, so
// that writing can go on where it was safe; otherwise a new segment takes the records again, and its first sequence hides
// what is left of them.
static void go_back(struct journal_log *log, bool usable)
{
  if (log->sequence != log->safe.sequence) log->dropped = true;
  if (log->current) {
    struct segment *segment = current_segment(log);
    if (log->stale_end > segment->used) segment->used = log->stale_end;
  }
  leave_segment(log);
  log->sequence = log->safe.sequence;
  remove_begun(log);
  struct segment *safe = log_find(log, log->safe.segment);
  if (!safe) return;
  log_forget_windows(log, safe->number);
  if (usable && return_to_safe(log)) return;
  if (safe->used > log->safe.offset) safe->used = log->safe.offset;
  safe->given_up = true;
}

static const uint8_t zeros[65536];

static enum status write_zeros(struct journal_log *log, struct disk_file *file, uint64_t from, uint64_t to)
{
  while (from < to) {
    size_t size = to - from < sizeof zeros ? (size_t)(to - from) : sizeof zeros;
    enum status status = log->disk->operations->write(log->disk, file, from, span_of(zeros, size));
    if (status) return status;
    from += size;
  }
  return OK;
}

enum status log_wipe(struct journal_log *log)
{
  struct segment *segment = current_segment(log);
  const struct disk_operations *operations = log->disk->operations;
  // First the names: a removed segment that comes back would hide what is written here from now on.
  if (log->directory_dirty) {
    enum status status = operations->sync_directory(log->disk);
    if (status) return status;
    log->directory_dirty = false;
  }
  if (log->stale_end <= log->end) return OK;
  enum status status = write_zeros(log, segment->file, log->end, log->stale_end);
  if (status == ERR_FULL) {  // of a file system that reserves nothing: cutting off needs no space
    status = operations->truncate(log->disk, segment->file, log->end);
    if (status) return status;
    if (operations->allocate(log->disk, segment->file, segment->size)) {
      log->bytes -= segment->size - log->end;
      segment->size = log->end;
    }
  }
  if (status == OK) status = operations->sync(log->disk, segment->file);
  if (status) return status;
  log->stale_end = 0;
  return OK;
}

// ---- Appending

// Makes the current segment one that has room for `length` bytes.
static enum status make_room(struct journal_log *log, uint64_t length)
{
  bool stale = log->directory_dirty || log->stale_end > log->end;
  if (log->current && stale && log_wipe(log)) {
    current_segment(log)->given_up = true;
    leave_segment(log);
  }
  if (log->current && log->end + length <= current_segment(log)->size) return OK;
  if (LOG_SEGMENT_HEADER + length > UINT32_MAX) return ERR_LIMIT;
  if (log->current) {
    // The next segment's header says that all before it is safe.
    struct segment *segment = current_segment(log);
    if (log->dirty) {
      enum status status = log->disk->operations->sync(log->disk, segment->file);
      if (status) return status == ERR_FULL ? ERR_IO : status;
    }
    leave_segment(log);
  }
  return log_begin_segment(log, length);
}

// Stamps and writes as many records as fit; at least the first does.
static enum status write_records(struct journal_log *log, uint8_t *records, size_t size, size_t *out_size)
{
  struct segment *segment = current_segment(log);
  uint64_t room = segment->size - log->end;
  uint32_t seed = log_seed(log->identity, segment->number);
  uint64_t sequence = log->sequence;
  size_t taken = 0;
  while (taken < size) {
    uint64_t length = length_of_first(records + taken, size - taken);
    if (length > room - taken) break;
    log_stamp(records + taken, seed, sequence++);
    taken += (size_t)length;
  }
  assert(taken > 0);
  log->dirty = true;
  segment->used = log->end + taken;  // also when it fails: some of it may be there
  enum status status = log->disk->operations->write(log->disk, segment->file, log->end, span_of(records, taken));
  if (status) return status;
  log->end += taken;
  log->sequence = sequence;
  *out_size = taken;
  return OK;
}

enum status journal_log_append(struct journal_log *log, uint8_t *records, size_t size, size_t *out_size,
                               uint64_t *out_position)
{
  assert(log->started);
  assert(size > 0);
  log->dropped = false;
  enum status status = make_room(log, length_of_first(records, size));
  uint64_t position = status ? 0 : journal_log_end(log);
  size_t taken = 0;
  if (status == OK) status = write_records(log, records, size, &taken);
  if (status) {
    bool no_room = status == ERR_FULL || status == ERR_NO_MEMORY || status == ERR_LIMIT;
    go_back(log, no_room);
    return no_room ? status : ERR_IO;
  }
  *out_size = taken;
  *out_position = position;
  return OK;
}

enum status journal_log_sync(struct journal_log *log)
{
  assert(log->started);
  if (log->dropped) return ERR_AGAIN;
  if (log->dirty) {
    enum status status = log->disk->operations->sync(log->disk, current_segment(log)->file);
    if (status) {
      go_back(log, false);
      log->dropped = false;  // the caller knows
      return status == ERR_FULL ? ERR_FULL : ERR_IO;
    }
    log->dirty = false;
  }
  if (log->current) log->safe = (struct log_place){.segment = log->current, .offset = log->end, .sequence = log->sequence};
  return OK;
}

uint64_t journal_log_end(const struct journal_log *log)
{
  return log->current ? position_of(log->current, (uint32_t)log->end) : position_of(log->next_number, LOG_SEGMENT_HEADER);
}

uint64_t journal_log_sequence(const struct journal_log *log)
{
  return log->sequence;
}

uint64_t journal_log_bytes(const struct journal_log *log)
{
  return log->bytes;
}

uint64_t journal_log_room(const struct journal_log *log)
{
  uint64_t room = log->current ? log->segments[log->count - 1].size - log->end : 0;
  for (size_t i = 0; i < log->spare_count; i++) room += log->spares[i].size;
  return room;
}

const uint8_t *journal_log_identity(const struct journal_log *log)
{
  return log->identity;
}
