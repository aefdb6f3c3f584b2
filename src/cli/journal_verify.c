// skerry journal verify: every record of every segment, and whether what queues, retained messages and wills refer to is
// there.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/search.h"
#include "cli/commands.h"
#include "cli/journal.h"
#include "cli/journal_body.h"
#include "cli/journal_print.h"
#include "cli/journal_reading.h"
#include "cli/journal_verify.h"

enum { ENTRIES = 1024, PROGRESS_MS = 200, PROGRESS_EVERY = 4096 };

static void *grow(struct verify *verify, void *array, size_t count, size_t *capacity, size_t element)
{
  if (count < *capacity) return array;
  size_t larger = *capacity > 0 ? *capacity * 2 : 16;
  void *grown = reallocarray(array, larger, element);
  if (grown)
    *capacity = larger;
  else
    verify->failure = ERR_NO_MEMORY;
  return grown;
}

// ---- Where records are

// Index of the first segment that is not below it.
static size_t places_index(const struct verify *verify, uint32_t segment)
{
  return SEARCH_FIRST(i, verify->segment_count, verify->segments[i].segment < segment);
}

static struct places *places_of(struct verify *verify, uint32_t segment)
{
  size_t index = places_index(verify, segment);
  if (index < verify->segment_count && verify->segments[index].segment == segment) return &verify->segments[index];
  struct places *segments =
      grow(verify, verify->segments, verify->segment_count, &verify->segment_capacity, sizeof *segments);
  if (!segments) return NULL;
  verify->segments = segments;
  memmove(segments + index + 1, segments + index, (verify->segment_count - index) * sizeof *segments);
  segments[index] = (struct places){.segment = segment};
  verify->segment_count++;
  return &segments[index];
}

static void remember(struct verify *verify, uint64_t position)
{
  struct places *places = places_of(verify, position_segment(position));
  if (!places) return;
  uint32_t *offsets = grow(verify, places->offsets, places->count, &places->capacity, sizeof *offsets);
  if (!offsets) return;
  places->offsets = offsets;
  offsets[places->count++] = position_offset(position);
}

static int compare_offsets(const void *a, const void *b)
{
  const uint32_t *left = a;
  const uint32_t *right = b;
  return (*left > *right) - (*left < *right);
}

// The part of a segment behind the checkpoint was read before the part in front of it.
static void sort_places(struct verify *verify)
{
  for (size_t i = 0; i < verify->segment_count; i++)
    qsort(verify->segments[i].offsets, verify->segments[i].count, sizeof(uint32_t), compare_offsets);
}

static bool is_there(const struct verify *verify, uint64_t position)
{
  size_t index = places_index(verify, position_segment(position));
  if (index == verify->segment_count || verify->segments[index].segment != position_segment(position)) return false;
  const struct places *places = &verify->segments[index];
  uint32_t offset = position_offset(position);
  return bsearch(&offset, places->offsets, places->count, sizeof offset, compare_offsets) != NULL;
}

// ---- What is lost

static bool loss_matches(const void *item, const void *key)
{
  const struct loss *loss = item;
  const uint32_t *session = key;
  return loss->session == *session;
}

static struct loss *loss_of(struct verify *verify, uint32_t session)
{
  uint64_t hash = session * UINT64_C(0x9e3779b97f4a7c15);
  struct loss *loss = map_find(&verify->by_session, hash, loss_matches, &session);
  if (loss) return loss;
  struct loss **losses = grow(verify, verify->losses, verify->loss_count, &verify->loss_capacity, sizeof(struct loss *));
  if (!losses) return NULL;
  verify->losses = losses;
  loss = malloc(sizeof *loss);
  if (!loss || map_insert(&verify->by_session, hash, loss) != OK) {
    free(loss);
    verify->failure = ERR_NO_MEMORY;
    return NULL;
  }
  *loss = (struct loss){.session = session};
  losses[verify->loss_count++] = loss;
  return loss;
}

uint64_t verify_lost_messages(const struct loss *loss)
{
  return loss->lost + (loss->missing < loss->holes ? loss->missing : loss->holes);
}

uint64_t verify_lost_earlier(const struct loss *loss)
{
  return loss->lost + loss->holes - verify_lost_messages(loss);
}

// Behind damage, places of a queue that never came tell how many messages were in it.
static void look_for_gaps(struct verify *verify, struct span body)
{
  struct record_message message;
  struct record_target target;
  if (!record_get_message(body, &message)) return;
  for (size_t cursor = 0; record_next_target(message.targets, &cursor, &target);) {
    const struct catalog_session *session = catalog_find(&verify->reading->catalog, target.session);
    uint32_t missing = session ? target.place - (uint32_t)session->tail : 0;
    struct loss *loss = missing > 0 && missing <= UINT32_MAX / 2 ? loss_of(verify, target.session) : NULL;
    if (loss) loss->missing += missing;
  }
}

// ---- Reading

static uint64_t monotonic_ms(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void show_progress(struct verify *verify)
{
  uint64_t now_ms = monotonic_ms();
  if (now_ms - verify->shown_ms < PROGRESS_MS) return;
  verify->shown_ms = now_ms;
  char done[JOURNAL_TEXT_SIZE], all[JOURNAL_TEXT_SIZE];
  fprintf(stderr, "\r%s of %s, %" PRIu64 " records\033[K", journal_size_text(verify->reading->bytes, done),
          journal_size_text(verify->total_bytes, all), verify->reading->records);
  fflush(stderr);
}

static bool visit(void *context, const struct record_header *header, struct span body, uint64_t position)
{
  struct verify *verify = context;
  enum record_type type = record_type(header);
  if (!journal_body_valid(type, body)) {
    if (verify->unreadable++ == 0) verify->unreadable_at = position;
    return true;
  }
  if (type == RECORD_MESSAGE && position >= verify->reading->start && journal_reading_damages(verify->reading) > 0)
    look_for_gaps(verify, body);
  if (type == RECORD_MESSAGE || type == RECORD_MESSAGE_COPY || type == RECORD_WILL || type == RECORD_REFERENCES)
    remember(verify, position);
  if (verify->terminal && verify->reading->records % PROGRESS_EVERY == 0) show_progress(verify);
  return verify->failure == OK;
}

// ---- What is referred to

static bool in_lost_block(const struct verify *verify, const struct catalog_session *session, uint64_t place)
{
  if (place < session->blocks_from) return false;
  uint64_t index = (place - session->blocks_from) / CATALOG_BLOCK;
  if (index >= session->block_count) return false;
  uint64_t position = session->blocks[session->block_first + index].position;
  return position != 0 && !is_there(verify, position);
}

static void check_queue(struct verify *verify, const struct catalog_session *session)
{
  struct queue_entry entries[ENTRIES];
  uint64_t next = session->head;
  uint64_t lost = 0;
  uint64_t holes = 0;
  size_t count = 1;
  while (next < session->tail && count > 0 && verify->failure == OK) {
    enum status status = catalog_entries(&verify->reading->catalog, session->number, next, entries, ENTRIES, &count, &next);
    if (status != OK) {
      verify->failure = status;
      return;
    }
    for (size_t i = 0; i < count; i++) {
      if (entries[i].state == ENTRY_SENT) continue;
      if (entries[i].position == 0 && !in_lost_block(verify, session, entries[i].place))
        holes++;
      else if (entries[i].position == 0 || !is_there(verify, entries[i].position))
        lost++;
    }
  }
  struct loss *loss = lost > 0 || holes > 0 ? loss_of(verify, session->number) : NULL;
  if (!loss) return;
  loss->lost = lost;
  loss->holes = holes;
}

static void check_session(struct verify *verify, const struct catalog_session *session)
{
  verify->queued += session->waiting;
  verify->subscriptions += session->subscription_count;
  if (session->waiting > 0) {
    verify->queues++;
    check_queue(verify, session);
  }
  if (session->will_position == 0) return;
  verify->wills++;
  struct loss *loss = is_there(verify, session->will_position) ? NULL : loss_of(verify, session->number);
  if (loss) loss->will = true;
}

static void check_references(struct verify *verify)
{
  const struct catalog *catalog = &verify->reading->catalog;
  const struct catalog_session *session;
  const struct catalog_retained *retained;
  size_t cursor = 0;
  while ((session = map_next(&catalog->sessions, &cursor))) check_session(verify, session);
  cursor = 0;
  while ((retained = map_next(&catalog->retained, &cursor)))
    if (!is_there(verify, retained->position)) verify->retained_lost++;
}

uint64_t verify_lost(const struct verify *verify)
{
  uint64_t lost = verify->retained_lost;
  for (size_t i = 0; i < verify->loss_count; i++) lost += verify_lost_messages(verify->losses[i]) + verify->losses[i]->will;
  return lost;
}

bool verify_whole(const struct verify *verify)
{
  const struct journal_reading *reading = verify->reading;
  return journal_reading_damages(reading) == 0 && verify->unreadable == 0 && reading->refused == 0 && reading->complete &&
         reading->anchor_state != ANCHOR_DAMAGED && verify_lost(verify) == 0;
}

// ---- The run

static void verify_deinit(struct verify *verify)
{
  for (size_t i = 0; i < verify->segment_count; i++) free(verify->segments[i].offsets);
  free(verify->segments);
  for (size_t i = 0; i < verify->loss_count; i++) free(verify->losses[i]);
  free(verify->losses);
  map_deinit(&verify->by_session);
  journal_reading_close(verify->reading);
}

static enum status read_all(struct verify *verify, const char *path, struct error *error)
{
  struct journal_reading *reading = verify->reading;
  enum status status = journal_reading_open(reading, path, error);
  if (status != OK) return status;
  for (size_t i = 0; i < journal_log_segments(reading->log); i++) {
    struct segment_info info;
    journal_log_segment(reading->log, i, &info);
    verify->total_bytes += info.used;
  }
  verify->terminal = isatty(STDERR_FILENO);
  status = journal_reading_replay(reading, visit, verify, error);
  if (status == OK && reading->first > 0 && !reading->moved_on)
    status = journal_reading_scan(reading, reading->first, visit, verify, error);
  if (status == OK && verify->failure == OK) {
    sort_places(verify);
    check_references(verify);
  }
  if (verify->terminal) fputs("\r\033[K", stderr);
  if (status == OK && verify->failure != OK) status = error_set(error, verify->failure, "%s", status_name(verify->failure));
  return status;
}

int journal_verify(const struct journal_options *options)
{
  struct journal_reading reading = {0};
  struct verify verify = {0};
  struct error error = {0};
  int exit_code = COMMAND_USAGE;
  enum status status = OK;
  for (unsigned try = 1; try <= JOURNAL_TRIES; try++) {
    verify = (struct verify){.reading = &reading};
    status = read_all(&verify, options->path, &error);
    // A running broker has given back what was to be read: what is missing then was not needed any more.
    if (status != OK || verify_whole(&verify) || !journal_reading_moved_on(&reading) || try == JOURNAL_TRIES) break;
    verify_deinit(&verify);
  }
  if (status == OK) exit_code = verify_whole(&verify) ? JOURNAL_WHOLE : JOURNAL_DAMAGED;
  if (status == OK && options->json)
    status = verify_print_json(&verify);
  else if (status == OK)
    verify_print_text(&verify);
  if (status != OK) journal_complain("%s", error.text[0] ? error.text : status_name(status));
  verify_deinit(&verify);
  return exit_code;
}
