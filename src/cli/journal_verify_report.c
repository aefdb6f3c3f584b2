// Telling what verify has found. See journal_verify.h.
#include "cli/journal_verify.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/journal.h"
#include "cli/journal_names.h"
#include "cli/json.h"

enum { CLIENT_TEXT = 400 };

static void client_text(const struct verify *verify, uint32_t session, char out[static CLIENT_TEXT])
{
  struct span client_id;
  struct buffer text = {0};
  if (journal_names_find(&verify->reading->names, session, &client_id) && journal_escape(&text, client_id) == OK)
    snprintf(out, CLIENT_TEXT, "\"%.*s\"", (int)buffer_size(&text), (const char *)buffer_peek(&text).at);
  else
    snprintf(out, CLIENT_TEXT, "session %" PRIu32, session);
  buffer_deinit(&text);
}

static void print_losses(const struct verify *verify)
{
  char messages[JOURNAL_COUNT_SIZE], client[CLIENT_TEXT];
  for (size_t i = 0; i < verify->loss_count; i++) {
    const struct loss *loss = verify->losses[i];
    client_text(verify, loss->session, client);
    if (verify_lost_messages(loss) > 0)
      printf("lost: %s for %s\n", journal_count_text(verify_lost_messages(loss), "message", messages), client);
    if (verify_lost_earlier(loss) > 0)
      printf("lost earlier, in damage that the broker has told: %s for %s\n",
             journal_count_text(verify_lost_earlier(loss), "message", messages), client);
    if (loss->will) printf("lost: the will of %s\n", client);
  }
  if (verify->retained_lost > 0)
    printf("lost: %s\n", journal_count_text(verify->retained_lost, "retained message", messages));
  if (!verify_whole(verify) && verify_lost(verify) == 0 && verify->reading->complete)
    printf("nothing of what waits is lost\n");
}

static void print_damages(const struct verify *verify)
{
  const struct journal_reading *reading = verify->reading;
  char text[JOURNAL_DAMAGE_SIZE], name[JOURNAL_TEXT_SIZE];
  if (reading->anchor_state == ANCHOR_DAMAGED)
    printf("%s: is damaged: a broker would read the journal from its first segment on\n", ANCHOR_FILE);
  for (size_t i = 0; i < reading->damage_count; i++) printf("%s\n", journal_damage_text(&reading->damages[i], text));
  if (verify->unreadable > 0)
    printf("%s: offset %" PRIu32 ": a record that is whole, and does not say what its type has to say (%" PRIu64
           " in all)\n",
           journal_segment_name(position_segment(verify->unreadable_at), name), position_offset(verify->unreadable_at),
           verify->unreadable);
  else if (reading->refused > 0)
    printf("%" PRIu64 " records contradict those before them\n", reading->refused);
  if (!reading->complete) printf("no whole checkpoint: sessions and retained messages from before are lost\n");
  for (size_t i = 0; i < reading->files.damaged_count; i++)
    printf("%010" PRIu32 ".damaged: set aside by a broker, not used any more\n", reading->files.damaged[i]);
}

void verify_print_text(const struct verify *verify)
{
  const struct journal_reading *reading = verify->reading;
  char size[JOURNAL_TEXT_SIZE], counts[8][JOURNAL_COUNT_SIZE];
  print_damages(verify);
  print_losses(verify);
  printf("%s: %s: %s, %s, in %s; %s in %s; %s, %s, %s, %s\n", reading->path, verify_whole(verify) ? "whole" : "damaged",
         journal_count_text(reading->records, "record", counts[0]), journal_size_text(reading->bytes, size),
         journal_count_text(journal_log_segments(reading->log), "segment", counts[1]),
         journal_count_text(verify->queued, "waiting message", counts[2]),
         journal_count_text(verify->queues, "queue", counts[3]),
         journal_count_text(reading->catalog.sessions.count, "session", counts[4]),
         journal_count_text(verify->subscriptions, "subscription", counts[5]),
         journal_count_text(verify->wills, "will", counts[6]),
         journal_count_text(reading->catalog.retained.count, "retained message", counts[7]));
}

static void json_damages(struct json *json, const struct verify *verify)
{
  const struct journal_reading *reading = verify->reading;
  char name[JOURNAL_TEXT_SIZE];
  json_key(json, "damages");
  json_open_array(json);
  for (size_t i = 0; i < reading->damage_count; i++) {
    const struct log_damage *damage = &reading->damages[i];
    json_open_object(json);
    json_member_text(json, "file", span_text(journal_segment_name(damage->segment, name)));
    json_member_uint(json, "offset", damage->offset);
    json_member_uint(json, "bytes", damage->bytes);
    json_member_uint(json, "records_lost", damage->sequences_lost);
    json_member_bool(json, "torn", damage->torn);
    json_close_object(json);
  }
  json_close_array(json);
  json_member_text(json, "anchor",
                   span_text(reading->anchor_state == ANCHOR_GOOD      ? "good"
                             : reading->anchor_state == ANCHOR_MISSING ? "missing"
                                                                       : "damaged"));
  json_member_bool(json, "checkpoint", reading->complete);
  json_member_uint(json, "refused", verify->unreadable + reading->refused);
  json_member_uint(json, "set_aside", reading->files.damaged_count);
}

static void json_losses(struct json *json, const struct verify *verify)
{
  json_key(json, "lost");
  json_open_array(json);
  for (size_t i = 0; i < verify->loss_count; i++) {
    const struct loss *loss = verify->losses[i];
    struct span client_id;
    json_open_object(json);
    json_member_uint(json, "session", loss->session);
    if (journal_names_find(&verify->reading->names, loss->session, &client_id)) {
      json_member_text(json, "client_id", client_id);
    }
    json_member_uint(json, "messages", verify_lost_messages(loss));
    json_member_uint(json, "messages_earlier", verify_lost_earlier(loss));
    json_member_bool(json, "will", loss->will);
    json_close_object(json);
  }
  json_close_array(json);
  json_member_uint(json, "retained_lost", verify->retained_lost);
}

enum status verify_print_json(const struct verify *verify)
{
  const struct journal_reading *reading = verify->reading;
  struct buffer out = {0};
  struct json json;
  json_begin(&json, &out);
  json_open_object(&json);
  json_member_text(&json, "directory", span_text(reading->path));
  json_member_uint(&json, "process", reading->holder);
  json_member_bool(&json, "whole", verify_whole(verify));
  json_member_uint(&json, "segments", journal_log_segments(reading->log));
  json_member_uint(&json, "records", reading->records);
  json_member_uint(&json, "bytes", reading->bytes);
  json_member_uint(&json, "sequence", reading->sequence);
  json_member_uint(&json, "sessions", reading->catalog.sessions.count);
  json_member_uint(&json, "subscriptions", verify->subscriptions);
  json_member_uint(&json, "queues", verify->queues);
  json_member_uint(&json, "queued", verify->queued);
  json_member_uint(&json, "wills", verify->wills);
  json_member_uint(&json, "retained", reading->catalog.retained.count);
  json_damages(&json, verify);
  json_losses(&json, verify);
  json_close_object(&json);
  if (!json.failed) printf("%.*s\n", (int)buffer_size(&out), (const char *)buffer_peek(&out).at);
  buffer_deinit(&out);
  return json.failed ? ERR_NO_MEMORY : OK;
}
