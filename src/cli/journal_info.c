// skerry journal info: what a journal holds, as tables or as one JSON object.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/journal.h"
#include "cli/journal_reading.h"
#include "cli/json.h"

enum { CLIENT_WIDTH = 32, IDENTITY_TEXT = 2 * LOG_IDENTITY_SIZE + 1 };

struct info {
  struct journal_reading *reading;
  uint64_t now_ms;  // journal time
  struct info_session {
    const struct catalog_session *session;
    uint64_t oldest_s;  // age of the oldest message that waits
  } * sessions;         // by depth
  size_t session_count;
  uint64_t queued, queued_bytes, oldest_s, queues;
  uint64_t used, live, total_bytes;
};

// ---- Gathering

static int by_depth(const void *a, const void *b)
{
  const struct catalog_session *left = ((const struct info_session *)a)->session;
  const struct catalog_session *right = ((const struct info_session *)b)->session;
  if (left->waiting != right->waiting) return left->waiting > right->waiting ? -1 : 1;
  return (left->number > right->number) - (left->number < right->number);
}

static uint64_t age_s(const struct info *info, uint64_t then_ms)
{
  return info->now_ms > then_ms ? (info->now_ms - then_ms) / 1000 : 0;
}

static enum status gather_sessions(struct info *info)
{
  struct catalog *catalog = &info->reading->catalog;
  if (catalog->sessions.count == 0) return OK;
  info->sessions = calloc(catalog->sessions.count, sizeof *info->sessions);
  if (!info->sessions) return ERR_NO_MEMORY;
  struct catalog_session *session;
  for (size_t cursor = 0; (session = map_next(&catalog->sessions, &cursor));) {
    enum status status = catalog_settle(catalog, session);
    if (status != OK) return status;
    struct info_session *row = &info->sessions[info->session_count++];
    row->session = session;
    if (session->waiting == 0) continue;
    uint32_t oldest_s = catalog_oldest_s(catalog, session);
    if (oldest_s > 0) row->oldest_s = age_s(info, (uint64_t)oldest_s * 1000);
    info->queues++;
    info->queued += session->waiting;
    info->queued_bytes += session->waiting_bytes;
    if (row->oldest_s > info->oldest_s) info->oldest_s = row->oldest_s;
  }
  qsort(info->sessions, info->session_count, sizeof *info->sessions, by_depth);
  return OK;
}

// What waits cannot take more than what is used.
static uint64_t live_bytes(const struct info *info, const struct segment_info *segment)
{
  const struct segment_live *live = catalog_live(&info->reading->catalog, segment->number);
  if (!live) return 0;
  return live->bytes < segment->used ? live->bytes : segment->used;
}

static void gather_segments(struct info *info)
{
  struct journal_log *log = info->reading->log;
  info->total_bytes = journal_log_bytes(log);
  for (size_t i = 0; i < journal_log_segments(log); i++) {
    struct segment_info segment;
    journal_log_segment(log, i, &segment);
    info->used += segment.used;
    info->live += live_bytes(info, &segment);
  }
}

static enum status gather(struct info *info, const char *path, struct error *error)
{
  struct journal_reading *reading = info->reading;
  enum status status = journal_reading_open(reading, path, error);
  if (status == OK) status = journal_reading_replay(reading, NULL, NULL, error);
  if (status != OK) return status;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  info->now_ms = journal_reading_now_ms(reading, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
  gather_segments(info);
  status = gather_sessions(info);
  return status == OK ? OK : error_set(error, status, "%s", status_name(status));
}

static const char *identity_text(const struct info *info, char out[static IDENTITY_TEXT])
{
  const uint8_t *identity = journal_log_identity(info->reading->log);
  for (size_t i = 0; i < LOG_IDENTITY_SIZE; i++) snprintf(out + 2 * i, 3, "%02x", identity[i]);
  return out;
}

static bool is_damaged(const struct info *info)
{
  const struct journal_reading *reading = info->reading;
  return journal_reading_damages(reading) > 0 || reading->refused > 0 || !reading->complete ||
         reading->anchor_state == ANCHOR_DAMAGED;
}

// ---- Tables

// At least `width` wide.
static void print_escaped(struct span bytes, int width)
{
  struct buffer text = {0};
  if (journal_escape(&text, bytes) == OK) {
    int size = (int)buffer_size(&text);
    printf("%-*.*s", width, size, size > 0 ? (const char *)buffer_peek(&text).at : "");
  }
  buffer_deinit(&text);
}

// Of what was written last.
static uint32_t format_version(const struct info *info)
{
  const struct journal_log *log = info->reading->log;
  struct segment_info segment = {.version = LOG_VERSION};
  if (journal_log_segments(log) > 0) journal_log_segment(log, journal_log_segments(log) - 1, &segment);
  return segment.version;
}

static void print_whose(const struct info *info)
{
  const struct journal_reading *reading = info->reading;
  char identity[IDENTITY_TEXT], text[JOURNAL_TEXT_SIZE];
  printf("Journal   %s\n", reading->path);
  printf("Broker    ");
  if (reading->anchor.broker_id[0])
    print_escaped(span_text(reading->anchor.broker_id), 0);
  else
    printf("not known");
  if (reading->holder)
    printf(", running as process %" PRIu32 "\n", reading->holder);
  else
    printf("\n");
  printf("Identity  %s, format version %" PRIu32 "\n", identity_text(info, identity), format_version(info));
  printf("Records   up to %" PRIu64, reading->sequence);
  if (reading->names.clock_known)
    printf(", the last at %s", journal_time_text((int64_t)reading->names.newest_ms + reading->names.clock_ms, text));
  printf("\n");
}

static void print_totals(const struct info *info)
{
  const struct journal_reading *reading = info->reading;
  char text[JOURNAL_TEXT_SIZE], age[JOURNAL_TEXT_SIZE], count[JOURNAL_COUNT_SIZE], more[JOURNAL_COUNT_SIZE];
  printf("Files     %s: %s, %zu spare", journal_size_text(info->total_bytes, text),
         journal_count_text(journal_log_segments(reading->log), "segment", count), reading->files.spares);
  if (reading->files.damaged_count > 0) printf(", %zu damaged and set aside", reading->files.damaged_count);
  printf("\nReplay    %s, from ", journal_size_text(reading->replay_bytes, text));
  if (reading->start)
    printf("segment %" PRIu32 ", offset %" PRIu32 "\n", position_segment(reading->start), position_offset(reading->start));
  else
    printf("the first segment\n");
  printf("Queues    %s, %s, in %" PRIu64 " of %s", journal_count_text(info->queued, "message", count),
         journal_size_text(info->queued_bytes, text), info->queues,
         journal_count_text(info->session_count, "session", more));
  if (info->queued > 0) printf(", the oldest %s old", journal_age_text(info->oldest_s, age));
  printf("\nRetained  %s, %s\n", journal_count_text(reading->catalog.retained.count, "message", count),
         journal_size_text(reading->catalog.retained_bytes, text));
}

static void print_segments(const struct info *info)
{
  struct journal_log *log = info->reading->log;
  char size[JOURNAL_TEXT_SIZE], used[JOURNAL_TEXT_SIZE], live[JOURNAL_TEXT_SIZE], dead[JOURNAL_TEXT_SIZE];
  if (journal_log_segments(log) == 0) return;
  printf("\n%10s %11s %11s %11s %11s %11s\n", "SEGMENT", "SIZE", "USED", "LIVE", "DEAD", "REFERENCES");
  for (size_t i = 0; i < journal_log_segments(log); i++) {
    struct segment_info segment;
    journal_log_segment(log, i, &segment);
    const struct segment_live *found = catalog_live(&info->reading->catalog, segment.number);
    uint64_t bytes = live_bytes(info, &segment);
    printf("%10" PRIu32 " %11s %11s %11s %11s %11" PRIu64 "%s\n", segment.number, journal_size_text(segment.size, size),
           journal_size_text(segment.used, used), journal_size_text(bytes, live),
           journal_size_text(segment.used - bytes, dead), found ? found->references : 0, segment.damaged ? "  damaged" : "");
  }
  printf("%10s %11s %11s %11s %11s\n", "all", "", journal_size_text(info->used, used), journal_size_text(info->live, live),
         journal_size_text(info->used - info->live, dead));
}

static void print_session(const struct info *info, const struct info_session *row)
{
  const struct catalog_session *session = row->session;
  char bytes[JOURNAL_TEXT_SIZE], age[JOURNAL_TEXT_SIZE];
  print_escaped(session->client_id, CLIENT_WIDTH);
  printf(" %11" PRIu64 " %11s %9s %5zu  ", session->waiting, journal_size_text(session->waiting_bytes, bytes),
         session->waiting > 0 ? journal_age_text(row->oldest_s, age) : "-", session->subscription_count);
  if (session->connected)
    printf(info->reading->holder ? "connected" : "was connected");
  else
    printf("away for %s", journal_age_text(age_s(info, session->since_ms), age));
  if (session->user_size > 0) {
    printf(", user ");
    print_escaped(catalog_owner(session), 0);
  }
  if (session->outcomes[OUTCOME_DAMAGED] > 0) printf(", %" PRIu64 " lost by damage", session->outcomes[OUTCOME_DAMAGED]);
  printf("\n");
}

static void print_sessions(const struct info *info, bool all)
{
  size_t shown = all || info->session_count < JOURNAL_TOP ? info->session_count : JOURNAL_TOP;
  if (shown == 0) return;
  printf("\n%-*s %11s %11s %9s %5s  %s\n", CLIENT_WIDTH, "CLIENT", "QUEUED", "BYTES", "OLDEST", "SUBS", "STATE");
  for (size_t i = 0; i < shown; i++) print_session(info, &info->sessions[i]);
  if (shown < info->session_count) printf("and %zu more sessions; --all shows them\n", info->session_count - shown);
}

// ---- JSON

static void json_head(struct json *json, const struct info *info)
{
  const struct journal_reading *reading = info->reading;
  char identity[IDENTITY_TEXT];
  json_member_text(json, "directory", span_text(reading->path));
  json_member_text(json, "broker_id", span_text(reading->anchor.broker_id));
  json_member_uint(json, "process", info->reading->holder);
  json_member_text(json, "identity", span_text(identity_text(info, identity)));
  json_member_uint(json, "version", format_version(info));
  json_member_uint(json, "sequence", reading->sequence);
  json_member_uint(json, "journal_ms", info->now_ms);
  json_key(json, "replay");
  json_open_object(json);
  json_member_uint(json, "segment", position_segment(reading->start));
  json_member_uint(json, "offset", position_offset(reading->start));
  json_member_uint(json, "bytes", reading->replay_bytes);
  json_close_object(json);
  json_member_bool(json, "damaged", is_damaged(info));
}

static void json_segments(struct json *json, const struct info *info)
{
  const struct journal_reading *reading = info->reading;
  json_key(json, "segments");
  json_open_array(json);
  for (size_t i = 0; i < journal_log_segments(reading->log); i++) {
    struct segment_info segment;
    journal_log_segment(reading->log, i, &segment);
    const struct segment_live *found = catalog_live(&reading->catalog, segment.number);
    uint64_t live = live_bytes(info, &segment);
    json_open_object(json);
    json_member_uint(json, "number", segment.number);
    json_member_uint(json, "first_sequence", segment.first_sequence);
    json_member_uint(json, "size", segment.size);
    json_member_uint(json, "used", segment.used);
    json_member_uint(json, "live", live);
    json_member_uint(json, "dead", segment.used - live);
    json_member_uint(json, "references", found ? found->references : 0);
    json_member_bool(json, "damaged", segment.damaged);
    json_close_object(json);
  }
  json_close_array(json);
  json_key(json, "totals");
  json_open_object(json);
  json_member_uint(json, "bytes", info->total_bytes);
  json_member_uint(json, "used", info->used);
  json_member_uint(json, "live", info->live);
  json_member_uint(json, "dead", info->used - info->live);
  json_member_uint(json, "spares", reading->files.spares);
  json_member_uint(json, "set_aside", reading->files.damaged_count);
  json_close_object(json);
}

static void json_session(struct json *json, const struct info *info, const struct info_session *row)
{
  const struct catalog_session *session = row->session;
  json_open_object(json);
  json_member_text(json, "client_id", session->client_id);
  json_member_uint(json, "session", session->number);
  if (session->user_size > 0) json_member_text(json, "user", catalog_owner(session));
  json_member_bool(json, "connected", session->connected);
  if (!session->connected) {
    char since[JOURNAL_TEXT_SIZE];
    json_member_uint(json, "away_s", age_s(info, session->since_ms));
    journal_time_text((int64_t)session->since_ms + info->reading->names.clock_ms, since);
    if (info->reading->names.clock_known) json_member_text(json, "away_since", span_text(since));
  }
  if (session->expiry_s != UINT32_MAX) json_member_uint(json, "expiry_s", session->expiry_s);
  json_member_uint(json, "subscriptions", session->subscription_count);
  json_member_bool(json, "will", session->will_position != 0);
  json_member_uint(json, "queued", session->waiting);
  json_member_uint(json, "queued_bytes", session->waiting_bytes);
  if (session->waiting > 0) json_member_uint(json, "oldest_s", row->oldest_s);
  json_member_uint(json, "received", session->received_count);
  json_key(json, "outcomes");
  json_open_object(json);
  for (unsigned i = 0; i < OUTCOMES; i++)
    json_member_uint(json, record_outcome_name((enum record_outcome)i), session->outcomes[i]);
  json_close_object(json);
  json_close_object(json);
}

static enum status print_json(const struct info *info, bool all)
{
  const struct catalog *catalog = &info->reading->catalog;
  struct buffer out = {0};
  struct json json;
  json_begin(&json, &out);
  json_open_object(&json);
  json_head(&json, info);
  json_segments(&json, info);
  json_key(&json, "retained");
  json_open_object(&json);
  json_member_uint(&json, "messages", catalog->retained.count);
  json_member_uint(&json, "bytes", catalog->retained_bytes);
  json_close_object(&json);
  json_key(&json, "queues");
  json_open_object(&json);
  json_member_uint(&json, "sessions", info->session_count);
  json_member_uint(&json, "queues", info->queues);
  json_member_uint(&json, "messages", info->queued);
  json_member_uint(&json, "bytes", info->queued_bytes);
  json_member_uint(&json, "oldest_s", info->oldest_s);
  json_close_object(&json);
  json_key(&json, "sessions");
  json_open_array(&json);
  for (size_t i = 0; i < info->session_count && (all || i < JOURNAL_TOP); i++) json_session(&json, info, &info->sessions[i]);
  json_close_array(&json);
  json_close_object(&json);
  struct span bytes = buffer_peek(&out);
  if (!json.failed) {
    fwrite(bytes.at, 1, bytes.size, stdout);
    putchar('\n');
  }
  buffer_deinit(&out);
  return json.failed ? ERR_NO_MEMORY : OK;
}

// ---- The run

static void info_deinit(struct info *info)
{
  free(info->sessions);
  journal_reading_close(info->reading);
}

static enum status print(const struct info *info, const struct journal_options *options, struct error *error)
{
  if (options->json && print_json(info, options->all) != OK) return error_set(error, ERR_NO_MEMORY, "out of memory");
  if (!options->json) {
    print_whose(info);
    print_totals(info);
    print_segments(info);
    print_sessions(info, options->all);
  }
  return fflush(stdout) == 0 ? OK : error_set(error, ERR_IO, "the output cannot be written");
}

int journal_info(const struct journal_options *options)
{
  struct journal_reading reading = {0};
  struct info info = {0};
  struct error error = {0};
  enum status status = OK;
  for (unsigned attempt = 1; attempt <= JOURNAL_TRIES; attempt++) {
    info = (struct info){.reading = &reading};
    status = gather(&info, options->path, &error);
    if (status != OK || !is_damaged(&info) || attempt == JOURNAL_TRIES || !journal_reading_moved_on(&reading)) break;
    info_deinit(&info);
  }
  if (status != OK) {
    journal_complain("%s", error.text);
    info_deinit(&info);
    return COMMAND_USAGE;
  }
  int exit_code = is_damaged(&info) ? JOURNAL_DAMAGED : JOURNAL_WHOLE;
  if (print(&info, options, &error) != OK) {
    journal_complain("%s", error.text);
    exit_code = COMMAND_FAILED;
  }
  if (is_damaged(&info)) journal_complain("something is damaged; \"skerry journal verify %s\" says what", options->path);
  info_deinit(&info);
  return exit_code;
}
