// The files of the log: their names, which of them are open, spares, and how a new segment comes to be. What is in
// them is the business of the other files.
#include <inttypes.h>
#include <stdio.h>

#include "base/search.h"
#include "store/log_internal.h"

void log_name(char name[LOG_NAME_SIZE], uint32_t number, const char *kind)
{
  snprintf(name, LOG_NAME_SIZE, "%010" PRIu32 ".%s", number, kind);
}

size_t log_index(const struct journal_log *log, uint32_t number)
{
  return SEARCH_FIRST(i, log->count, log->segments[i].number < number);
}

struct segment *log_find(const struct journal_log *log, uint32_t number)
{
  size_t index = log_index(log, number);
  return index < log->count && log->segments[index].number == number ? &log->segments[index] : NULL;
}

void *log_grow(void *array, size_t count, size_t *capacity, size_t element)
{
  if (count < *capacity) return array;
  size_t wanted = *capacity ? *capacity * 2 : 16;
  void *grown = reallocarray(array, wanted, element);
  if (grown) *capacity = wanted;
  return grown;
}

void log_close_file(struct journal_log *log, struct segment *segment)
{
  if (!segment->file) return;
  log->disk->operations->close(log->disk, segment->file);
  segment->file = NULL;
  assert(log->open_files > 0);
  log->open_files--;
}

static void close_least_used(struct journal_log *log)
{
  struct segment *least = NULL;
  for (size_t i = 0; i < log->count; i++) {
    struct segment *segment = &log->segments[i];
    if (!segment->file || segment->number == log->current) continue;
    if (!least || segment->touched < least->touched) least = segment;
  }
  if (least) log_close_file(log, least);
}

enum status log_file(struct journal_log *log, struct segment *segment, struct disk_file **out)
{
  segment->touched = ++log->uses;
  if (!segment->file) {
    if (log->open_files >= LOG_OPEN_FILES) close_least_used(log);
    char name[LOG_NAME_SIZE];
    log_name(name, segment->number, "segment");
    enum status status = log->disk->operations->open(log->disk, name, DISK_READ, &segment->file);
    if (status) {
      segment->file = NULL;
      return status;
    }
    log->open_files++;
  }
  *out = segment->file;
  return OK;
}

// ---- Spares

enum status log_make_spare(struct journal_log *log, uint64_t size, uint32_t *out_number, struct disk_file **out)
{
  struct disk *disk = log->disk;
  if (size > log->limit_bytes || log->bytes > log->limit_bytes - size) return ERR_FULL;
  // Asked first, because some file systems cannot reserve, and on others trying takes the last byte from everybody for a
  // moment.
  uint64_t available, total;
  if (disk->operations->space(disk, &available, &total) == OK && available < size) return ERR_FULL;

  if (log->next_spare == UINT32_MAX) return ERR_FULL;
  uint32_t number = log->next_spare;
  char name[LOG_NAME_SIZE];
  log_name(name, number, "spare");
  struct disk_file *file = NULL;
  enum status status = disk->operations->open(disk, name, DISK_CREATE, &file);
  if (status) return status;
  log->next_spare++;
  status = disk->operations->allocate(disk, file, size);
  if (status) {
    disk->operations->close(disk, file);
    enum status ignored = disk->operations->unlink(disk, name);  // if not, it is set right at the next opening
    (void)ignored;
    return status;
  }
  *out_number = number;
  *out = file;
  return OK;
}

void log_replenish(struct journal_log *log)
{
  while (log->spare_count < log->reserve) {
    struct spare *spares = log_grow(log->spares, log->spare_count, &log->spare_capacity, sizeof *spares);
    if (!spares) return;
    log->spares = spares;
    struct disk_file *file;
    uint32_t number;
    if (log_make_spare(log, log->segment_bytes, &number, &file)) return;
    log->disk->operations->close(log->disk, file);
    spares[log->spare_count++] = (struct spare){.number = number, .size = log->segment_bytes};
    log->bytes += log->segment_bytes;
  }
}

bool journal_log_roomy(struct journal_log *log, bool replenish)
{
  assert(log->started);
  if (replenish) log_replenish(log);
  if (log->spare_count < log->reserve) return false;
  if (log->segment_bytes > log->limit_bytes || log->bytes > log->limit_bytes - log->segment_bytes) return false;
  uint64_t available, total;
  return log->disk->operations->space(log->disk, &available, &total) == OK && available >= log->segment_bytes;
}

// ---- Segments

void log_segment_header(uint8_t out[LOG_SEGMENT_HEADER], const uint8_t identity[LOG_IDENTITY_SIZE], uint32_t number,
                        uint64_t first_sequence)
{
  memset(out, 0, LOG_SEGMENT_HEADER);
  uint8_t *at = record_write_bytes(out, span_of(LOG_MAGIC, LOG_MAGIC_SIZE));
  at = record_write_u32(at, LOG_VERSION);
  at = record_write_u32(at, number);
  at = record_write_bytes(at, span_of(identity, LOG_IDENTITY_SIZE));
  record_write_u64(at, first_sequence);
  record_write_u32(out + LOG_CHECKSUM_OFFSET, crc32c(0, span_of(out, LOG_CHECKSUM_OFFSET)));
}

// Turns the spare into the segment `number`. The header is safe before the file has the name of a segment, and the name is
// before anything in it can count.
static enum status name_segment(struct journal_log *log, struct disk_file *file, uint32_t spare, uint32_t number,
                                bool *out_renamed)
{
  struct disk *disk = log->disk;
  uint8_t header[LOG_SEGMENT_HEADER];
  log_segment_header(header, log->identity, number, log->sequence);
  enum status status = disk->operations->write(disk, file, 0, span_of(header, sizeof header));
  if (!status) status = disk->operations->sync(disk, file);
  if (status) return status;
  char from[LOG_NAME_SIZE], to[LOG_NAME_SIZE];
  log_name(from, spare, "spare");
  log_name(to, number, "segment");
  status = disk->operations->rename(disk, from, to);
  if (status) return status;
  *out_renamed = true;
  status = disk->operations->sync_directory(disk);
  if (status == OK) log->directory_dirty = false;
  return status;
}

static void forget_spare(struct journal_log *log)
{
  assert(log->spare_count > 0);
  log->bytes -= log->spares[--log->spare_count].size;
}

static bool reserve_holds(struct journal_log *log, uint64_t size)
{
  uint64_t spared = 0, available, total;
  for (size_t i = 0; i < log->spare_count; i++) spared += log->spares[i].size;
  if (size > log->limit_bytes || log->bytes - spared > log->limit_bytes - size) return false;
  return log->disk->operations->space(log->disk, &available, &total) == OK && available + spared >= size;
}

// No file of the reserve is large enough: as many of them as it takes make room for one that is.
static enum status trade_reserve(struct journal_log *log, uint64_t size, uint32_t *out_number, struct disk_file **out)
{
  if (!reserve_holds(log, size)) return ERR_FULL;
  enum status status = ERR_FULL;
  while (status == ERR_FULL && log->spare_count > 0) {
    char name[LOG_NAME_SIZE];
    log_name(name, log->spares[log->spare_count - 1].number, "spare");
    status = log->disk->operations->unlink(log->disk, name);
    if (status && status != ERR_NOT_FOUND) return status;
    forget_spare(log);
    status = log_make_spare(log, size, out_number, out);
  }
  return status;
}

// A file for a segment: a new one or, when there can be none, one of the reserve.
static enum status obtain(struct journal_log *log, uint64_t size, uint32_t *out_spare, bool *out_reserve,
                          struct disk_file **out)
{
  enum status status = log_make_spare(log, size, out_spare, out);
  *out_reserve = false;
  if (status == ERR_FULL && size > log->segment_bytes) return trade_reserve(log, size, out_spare, out);
  if (status == OK || size != log->segment_bytes || log->spare_count == 0) return status;
  *out_spare = log->spares[log->spare_count - 1].number;
  *out_reserve = true;
  char name[LOG_NAME_SIZE];
  log_name(name, *out_spare, "spare");
  status = log->disk->operations->open(log->disk, name, DISK_WRITE, out);
  if (status == ERR_NOT_FOUND) forget_spare(log);
  return status;
}

// After a failure. The number is used again, unless the name cannot be removed.
static void undo_begin(struct journal_log *log, struct disk_file *file, uint32_t spare, bool reserve, bool renamed)
{
  log->disk->operations->close(log->disk, file);
  if (reserve && !renamed) return;  // it stays a spare: nothing of it but its header is in use
  if (reserve) forget_spare(log);
  char name[LOG_NAME_SIZE];
  log_name(name, renamed ? log->next_number : spare, renamed ? "segment" : "spare");
  enum status status = log->disk->operations->unlink(log->disk, name);
  if (!renamed) return;
  log->directory_dirty = true;
  if (status) log->next_number++;  // what is begun next hides it
}

enum status log_begin_segment(struct journal_log *log, uint64_t length)
{
  assert(log->current == 0);
  assert(log->count == 0 || log->segments[log->count - 1].number < log->next_number);
  struct segment *segments = log_grow(log->segments, log->count, &log->capacity, sizeof *segments);
  if (!segments) return ERR_NO_MEMORY;
  log->segments = segments;
  if (log->next_number == UINT32_MAX) return ERR_FULL;

  uint64_t size = LOG_SEGMENT_HEADER + length > log->segment_bytes ? LOG_SEGMENT_HEADER + length : log->segment_bytes;
  uint32_t spare = 0;
  bool reserve = false, renamed = false;
  struct disk_file *file = NULL;
  enum status status = obtain(log, size, &spare, &reserve, &file);
  if (status) return status;
  status = name_segment(log, file, spare, log->next_number, &renamed);
  if (status) {
    undo_begin(log, file, spare, reserve, renamed);
    return renamed ? ERR_IO : status;  // the name may still be there: nothing is to be written in front of it
  }
  if (reserve) forget_spare(log);
  log->bytes += size;
  log->open_files++;
  log->current = log->next_number++;
  log->end = LOG_SEGMENT_HEADER;
  log->stale_end = 0;
  log->dirty = false;
  segments[log->count++] = (struct segment){.number = log->current,
                                            .version = LOG_VERSION,
                                            .size = size,
                                            .used = LOG_SEGMENT_HEADER,
                                            .first_sequence = log->sequence,
                                            .file = file,
                                            .touched = ++log->uses};
  return OK;
}

static void forget_segment(struct journal_log *log, struct segment *segment)
{
  log_forget_windows(log, segment->number);
  log_close_file(log, segment);
  log->bytes -= segment->size;
  size_t index = (size_t)(segment - log->segments);
  memmove(segment, segment + 1, (log->count - index - 1) * sizeof *segment);
  log->count--;
}

enum status log_unlink_segment(struct journal_log *log, struct segment *segment)
{
  char name[LOG_NAME_SIZE];
  log_name(name, segment->number, "segment");
  enum status status = log->disk->operations->unlink(log->disk, name);
  if (status && status != ERR_NOT_FOUND) return status;
  forget_segment(log, segment);
  return OK;
}

enum status journal_log_remove(struct journal_log *log, uint32_t number)
{
  assert(!log->read_only);
  struct segment *segment = log_find(log, number);
  if (!segment) return ERR_NOT_FOUND;
  if (number == log->current) return ERR_INVALID;
  return log_unlink_segment(log, segment);
}

enum status journal_log_suspect(struct journal_log *log, uint32_t number)
{
  assert(!log->read_only);
  struct segment *segment = log_find(log, number);
  if (!segment) return ERR_NOT_FOUND;
  if (segment->suspect) return OK;
  char name[LOG_NAME_SIZE];
  log_name(name, number, "suspect");
  struct disk_file *file;
  enum status status = log->disk->operations->open(log->disk, name, DISK_CREATE, &file);
  if (status) return status;
  log->disk->operations->close(log->disk, file);
  status = log->disk->operations->sync_directory(log->disk);
  segment->suspect = status == OK;
  return status;
}

void log_forget_suspect(struct journal_log *log, uint32_t number)
{
  char name[LOG_NAME_SIZE];
  log_name(name, number, "suspect");
  enum status ignored = log->disk->operations->unlink(log->disk, name);  // if not, at the next opening
  (void)ignored;
}

enum status journal_log_set_aside(struct journal_log *log, uint32_t number)
{
  assert(!log->read_only);
  struct segment *segment = log_find(log, number);
  if (!segment) return ERR_NOT_FOUND;
  if (number == log->current) return ERR_INVALID;
  char from[LOG_NAME_SIZE], to[LOG_NAME_SIZE];
  log_name(from, number, "segment");
  log_name(to, number, "damaged");
  enum status status = log->disk->operations->rename(log->disk, from, to);
  if (status) return status;
  if (segment->suspect) log_forget_suspect(log, number);
  forget_segment(log, segment);
  return OK;
}

size_t journal_log_segments(const struct journal_log *log)
{
  return log->count;
}

void journal_log_segment(const struct journal_log *log, size_t index, struct segment_info *out)
{
  assert(index < log->count);
  const struct segment *segment = &log->segments[index];
  *out = (struct segment_info){.number = segment->number,
                               .size = segment->size,
                               .used = segment->used,
                               .first_sequence = segment->first_sequence,
                               .version = segment->version,
                               .damaged = segment->damaged,
                               .suspect = segment->suspect};
}
