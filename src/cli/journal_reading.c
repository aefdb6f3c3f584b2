// Reading a journal. See journal_reading.h.
#include "cli/journal_reading.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/journal_print.h"
#include "store/store_batch.h"

static enum status read_record(void *context, uint64_t position, struct record_header *out_header, struct span *out_body)
{
  struct journal_reading *reading = context;
  return journal_log_read(reading->log, position, out_header, out_body);
}

static enum status open_segments(struct journal_reading *reading, struct journal_log **out, struct error *error)
{
  const struct journal_log_settings settings = {
      .disk = reading->disk, .log = &reading->quiet, .limit_bytes = UINT64_MAX, .read_only = true};
  return journal_log_open(&settings, out, error);
}

static enum status open_log(struct journal_reading *reading, struct error *error)
{
  enum status status = journal_list(reading->disk, &reading->files);
  if (status != OK) return error_set(error, status, "%s: cannot be listed: %s", reading->path, status_name(status));
  status = anchor_read(reading->disk, &reading->anchor_state, &reading->anchor);
  if (status != OK) return error_set(error, status, "%s/%s: %s", reading->path, ANCHOR_FILE, status_name(status));
  if (reading->anchor_state == ANCHOR_NEWER)
    return error_set(error, ERR_INVALID, "%s: the format is newer than this program; use the version that wrote it",
                     reading->path);
  status = open_segments(reading, &reading->log, error);
  if (status != OK) return error_prefix(error, "%s", reading->path);
  bool foreign = memcmp(journal_log_identity(reading->log), reading->anchor.identity, LOG_IDENTITY_SIZE) != 0;
  if (reading->anchor_state == ANCHOR_GOOD && journal_log_segments(reading->log) > 0 && foreign)
    reading->anchor_state = ANCHOR_DAMAGED;
  if (reading->anchor_state != ANCHOR_GOOD) reading->anchor = (struct anchor){0};
  return OK;
}

enum status journal_reading_open(struct journal_reading *reading, const char *path, struct error *error)
{
  *reading = (struct journal_reading){.path = path, .holder = journal_holder(path)};
  log_init(&reading->quiet, NULL, NULL, LOG_ERROR);
  catalog_init(&reading->catalog, read_record, reading);
  enum status status = disk_posix_open(path, false, false, &reading->disk, error);
  if (status == OK) status = open_log(reading, error);
  if (status != OK) journal_reading_close(reading);
  return status;
}

void journal_reading_close(struct journal_reading *reading)
{
  if (!reading->path) return;
  catalog_deinit(&reading->catalog);
  journal_log_close(reading->log);
  disk_destroy(reading->disk);
  journal_files_deinit(&reading->files);
  journal_names_deinit(&reading->names);
  free(reading->damages);
  *reading = (struct journal_reading){0};
}

// ---- Scanning

struct scan {
  struct journal_reading *reading;
  journal_visit *visit;
  void *context;
  bool replay;
  uint64_t before;  // 0: to the end
  bool begun, ended, damaged;
};

static enum status replay_record(struct scan *scan, enum record_type type, const struct record_header *header,
                                 struct span body, uint64_t position)
{
  struct journal_reading *reading = scan->reading;
  reading->replay_bytes += record_length(header->size);
  if (type == RECORD_CHECKPOINT_BEGIN && position == reading->start) scan->begun = true;
  if (type == RECORD_CHECKPOINT_END && !scan->damaged) scan->ended = true;
  if (type == RECORD_BATCH) return OK;
  enum status status = catalog_apply(&reading->catalog, type, body, position);
  if (status != ERR_INVALID) return status;
  reading->refused++;
  return OK;
}

static bool scan_record(void *context, const struct record_header *header, struct span body, uint64_t position)
{
  struct scan *scan = context;
  struct journal_reading *reading = scan->reading;
  if (scan->before && position >= scan->before) return false;
  if (record_sequence(header) > reading->sequence) reading->sequence = record_sequence(header);
  enum status status = journal_learn(&reading->names, record_type(header), body);
  if (status == OK && scan->visit) {
    reading->records++;
    reading->bytes += record_length(header->size);
    if (!scan->visit(scan->context, header, body, position)) return false;
  }
  if (status == OK && scan->replay) status = replay_record(scan, record_type(header), header, body, position);
  reading->failure = status;
  return status == OK;
}

static void scan_damage(void *context, const struct log_damage *damage)
{
  struct scan *scan = context;
  struct journal_reading *reading = scan->reading;
  // What lies behind was met by the replay.
  if (scan->before && position_of(damage->segment, (uint32_t)damage->offset) >= reading->start) return;
  if (damage->torn && reading->holder) return;
  if (!damage->torn) scan->damaged = true;
  if (reading->damage_count == reading->damage_capacity) {
    size_t capacity = reading->damage_capacity > 0 ? reading->damage_capacity * 2 : 16;
    struct log_damage *damages = realloc(reading->damages, capacity * sizeof *damages);
    if (!damages) {
      reading->failure = ERR_NO_MEMORY;
      return;
    }
    reading->damages = damages;
    reading->damage_capacity = capacity;
  }
  reading->damages[reading->damage_count++] = *damage;
}

static enum status run_scan(struct scan *scan, uint64_t from, struct error *error)
{
  struct journal_reading *reading = scan->reading;
  const struct log_reader reader = {.context = scan, .record = scan_record, .damage = scan_damage};
  enum status status = journal_log_scan(reading->log, from, &reader);
  if (reading->failure != OK) status = reading->failure;
  if (status == ERR_NOT_FOUND) {
    reading->moved_on = true;
    status = OK;
  }
  return status == OK ? OK : error_set(error, status, "%s: cannot be read: %s", reading->path, status_name(status));
}

enum status journal_reading_scan(struct journal_reading *reading, uint64_t before, journal_visit *visit, void *context,
                                 struct error *error)
{
  struct scan scan = {.reading = reading, .visit = visit, .context = context, .before = before};
  if (!before) reading->damage_count = 0;
  return run_scan(&scan, 0, error);
}

// ---- Replaying

static bool begins_checkpoint(struct journal_reading *reading, const struct anchor_start *start)
{
  struct record_header header;
  struct span body;
  if (start->position == 0 || journal_log_read(reading->log, start->position, &header, &body) != OK) return false;
  return record_type(&header) == RECORD_CHECKPOINT_BEGIN && record_sequence(&header) == start->sequence;
}

static enum status replay_from(struct journal_reading *reading, uint64_t start, journal_visit *visit, void *context,
                               struct error *error)
{
  struct scan scan = {.reading = reading, .visit = visit, .context = context, .replay = true};
  catalog_deinit(&reading->catalog);
  catalog_init(&reading->catalog, read_record, reading);
  reading->start = start;
  reading->damage_count = 0;
  reading->replay_bytes = 0;
  reading->refused = 0;
  enum status status = run_scan(&scan, start, error);
  reading->complete = start == 0 || (scan.begun && scan.ended);
  return status;
}

enum status journal_reading_replay(struct journal_reading *reading, journal_visit *visit, void *context, struct error *error)
{
  const struct anchor_start *starts[] = {&reading->anchor.last, &reading->anchor.previous};
  bool visited = false;
  for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
    if (!begins_checkpoint(reading, starts[i])) continue;
    if (!visited) reading->first = starts[i]->position;
    enum status status = replay_from(reading, starts[i]->position, visited ? NULL : visit, context, error);
    visited = true;
    if (status != OK || reading->complete || reading->moved_on) return status;
  }
  enum status status = replay_from(reading, 0, visited ? NULL : visit, context, error);
  // Without a checkpoint everything that was ever written is needed.
  reading->complete = reading->anchor.last.position == 0;
  return status;
}

// ---- What was found

size_t journal_reading_damages(const struct journal_reading *reading)
{
  size_t count = 0;
  for (size_t i = 0; i < reading->damage_count; i++)
    if (!reading->damages[i].torn) count++;
  return count;
}

// What was read while it was being written looks damaged, and is whole when it is read once more.
static bool is_readable(struct journal_log *log, const struct log_damage *damage)
{
  struct record_header header;
  struct span body;
  struct segment_info segment;
  if (damage->offset > 0)
    return journal_log_read(log, position_of(damage->segment, (uint32_t)damage->offset), &header, &body) == OK;
  for (size_t i = 0; i < journal_log_segments(log); i++) {
    journal_log_segment(log, i, &segment);
    if (segment.number == damage->segment) return true;
  }
  return false;
}

static bool was_being_written(struct journal_reading *reading)
{
  struct journal_log *log;
  struct error error;
  if (journal_reading_damages(reading) == 0 || open_segments(reading, &log, &error) != OK) return false;
  bool readable = false;
  for (size_t i = 0; i < reading->damage_count && !readable; i++)
    readable = !reading->damages[i].torn && is_readable(log, &reading->damages[i]);
  journal_log_close(log);
  return readable;
}

bool journal_reading_moved_on(struct journal_reading *reading)
{
  struct journal_files now;
  if (reading->moved_on || was_being_written(reading)) return true;
  if (journal_list(reading->disk, &now) != OK) return false;
  bool moved_on = journal_moved_on(&reading->files, &now);
  journal_files_deinit(&now);
  return moved_on;
}

const char *journal_damage_text(const struct log_damage *damage, char out[static JOURNAL_DAMAGE_SIZE])
{
  char name[JOURNAL_TEXT_SIZE], lost[64] = "";
  journal_segment_name(damage->segment, name);
  if (damage->sequences_lost > 0)
    snprintf(lost, sizeof lost, ", %" PRIu64 " record%s lost", damage->sequences_lost,
             damage->sequences_lost == 1 ? "" : "s");
  if (damage->torn)
    snprintf(out, JOURNAL_DAMAGE_SIZE,
             "%s: offset %" PRIu64 ": %" PRIu64 " bytes of an unfinished write, never acknowledged", name, damage->offset,
             damage->bytes);
  else if (damage->offset == 0 && damage->bytes == 0)
    snprintf(out, JOURNAL_DAMAGE_SIZE, "%s: is missing%s", name, lost);
  else if (damage->offset == 0)
    snprintf(out, JOURNAL_DAMAGE_SIZE, "%s: offset 0: the header is damaged, nothing of the file can be used%s", name, lost);
  else if (damage->bytes == 0)
    snprintf(out, JOURNAL_DAMAGE_SIZE, "%s: offset %" PRIu64 ": ends too early%s", name, damage->offset, lost);
  else
    snprintf(out, JOURNAL_DAMAGE_SIZE, "%s: offset %" PRIu64 ": %" PRIu64 " bytes cannot be read%s", name, damage->offset,
             damage->bytes, lost);
  return out;
}

uint64_t journal_reading_now_ms(const struct journal_reading *reading, int64_t wall_ms)
{
  int64_t now_ms = wall_ms - reading->names.clock_ms;
  if (!reading->names.clock_known || now_ms < (int64_t)reading->names.newest_ms) return reading->names.newest_ms;
  return (uint64_t)now_ms;
}
