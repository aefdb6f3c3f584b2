// What the control socket tells of the clients that are connected, and how they are sent away. Shards are asked between two
// of their turns.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/control_answer.h"
#include "core/roll.h"
#include "mqtt/packet.h"
#include "net/transport.h"

enum {
  ROWS_MAX = 1000,         // that are listed
  TEXTS_MAX = 256 * 1024,  // bytes of them, of one shard
  NAME_MAX_BYTES = 1000,   // more of a name is not shown
  ANSWER_ROOM = CONTROL_ANSWER_MAX / 4 * 3,
  MS_PER_S = 1000,
};

static struct roll_choice choice_of(const struct control_request *request)
{
  return (struct roll_choice){.client_id = request->client[0] ? span_text(request->client) : (struct span){0},
                              .user = request->user[0] ? span_text(request->user) : (struct span){0}};
}

// ---- Listing: collected on the shards' threads, as copies

struct row {
  size_t client, user, address, url;  // where they begin in the texts; NUL-terminated
  const char *method;
  uint8_t version;
  uint32_t silent_ms, subscriptions;
};

struct rows {
  struct row *items;
  size_t count;
  uint64_t total;  // that are connected and meant
  struct buffer texts;
};

struct list {
  struct roll_choice choice;
  struct rows shards[SHARDS_MAX];
};

static bool keep_text(struct rows *rows, struct span text, size_t *out_at)
{
  *out_at = buffer_size(&rows->texts);
  size_t size = text.size < NAME_MAX_BYTES ? text.size : NAME_MAX_BYTES;
  return buffer_append(&rows->texts, text.at, size) == OK && buffer_append(&rows->texts, "", 1) == OK;
}

static bool take_row(void *context, const struct roll_entry *entry)
{
  struct rows *rows = context;
  rows->total++;
  if (rows->count == ROWS_MAX || buffer_size(&rows->texts) > TEXTS_MAX) return true;
  const struct transport *transport = entry->transport;
  struct row row = {.method = entry->method,
                    .version = entry->version,
                    .silent_ms = entry->silent_ms,
                    .subscriptions = entry->subscriptions};
  if (keep_text(rows, entry->client_id, &row.client) && keep_text(rows, entry->user, &row.user) &&
      keep_text(rows, span_text(entry->address), &row.address) &&
      keep_text(rows, span_text(transport->listener->url), &row.url))
    rows->items[rows->count++] = row;
  return true;
}

static void collect(struct shard *shard, uint8_t number, void *argument)
{
  struct list *list = argument;
  struct rows *rows = &list->shards[number];
  rows->items = calloc(ROWS_MAX, sizeof *rows->items);
  if (rows->items) roll_call(shard, &list->choice, take_row, rows);
}

// ---- ... and told

// What a client calls itself must not do things to the terminal that it is shown on.
static void make_harmless(char *text)
{
  for (unsigned char *at = (unsigned char *)text; *at; at++) {
    bool control = *at < ' ' || *at == 0x7f;
    bool high_control = *at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0;
    if (control || high_control) *at = '?';
    if (high_control) at[1] = '?';
  }
}

static const char *version_name(uint8_t version)
{
  return version == MQTT_5_0 ? "5.0" : version == MQTT_3_1_1 ? "3.1.1" : "3.1";
}

static const char *listener_name(const struct broker *broker, const char *url)
{
  for (size_t i = 0; i < broker->config.listener_count; i++)
    if (strcmp(broker->config.listeners[i].address.text, url) == 0)
      return config_listener_name(&broker->config.listeners[i]);
  return url;
}

static void tell_row(struct answer *answer, const struct row *row, char *texts)
{
  struct control_json *json = &answer->json;
  char *client = texts + row->client, *user = texts + row->user;
  const char *address = texts + row->address, *listener = listener_name(answer->broker, texts + row->url);
  control_json_open(json, NULL, '{');
  control_json_text(json, "client", client);
  control_json_text(json, "user", *user ? user : NULL);
  control_json_text(json, "method", row->method);
  control_json_text(json, "address", address);
  control_json_text(json, "listener", listener);
  control_json_text(json, "version", version_name(row->version));
  control_json_number(json, "subscriptions", row->subscriptions);
  control_json_number(json, "silent_ms", row->silent_ms);
  control_json_close(json, '}');
  make_harmless(client);
  make_harmless(user);
  answer_say(answer, "  %s: %s%s", client, *user ? "user " : "anonymous", user);
  if (*user) answer_say(answer, " (%s)", row->method);
  answer_say(answer, ", %s at %s, MQTT %s, %" PRIu32 " subscription%s, silent for %" PRIu32 " s\n", address, listener,
             version_name(row->version), row->subscriptions, row->subscriptions == 1 ? "" : "s", row->silent_ms / MS_PER_S);
}

static void tell_list(struct answer *answer, const struct list *list)
{
  uint64_t total = 0, told = 0;
  for (unsigned i = 0; i < SHARDS_MAX; i++) total += list->shards[i].total;
  control_json_truth(&answer->json, "ok", true);
  control_json_number(&answer->json, "total", (int64_t)total);
  answer_say(answer, "%" PRIu64 " client%s connected\n", total, total == 1 ? " is" : "s are");
  control_json_open(&answer->json, "clients", '[');
  for (unsigned i = 0; i < SHARDS_MAX; i++) {
    const struct rows *rows = &list->shards[i];
    char *texts = (char *)rows->texts.data;  // nothing has been taken off its front
    for (size_t k = 0; k < rows->count && told < ROWS_MAX; k++) {
      if (buffer_size(answer->json.out) + 2 * buffer_size(&answer->text) > ANSWER_ROOM) break;
      tell_row(answer, &rows->items[k], texts);
      told++;
    }
  }
  control_json_close(&answer->json, ']');
  if (told < total) answer_say(answer, "  ... and %" PRIu64 " more; name a client or a user\n", total - told);
}

void answer_clients(struct answer *answer, const struct control_request *request)
{
  struct list *list = calloc(1, sizeof *list);
  if (!list) {
    answer->failed = true;
    return;
  }
  list->choice = choice_of(request);
  net_run_on_shards(answer->broker->net, collect, list);
  tell_list(answer, list);
  for (unsigned i = 0; i < SHARDS_MAX; i++) {
    free(list->shards[i].items);
    buffer_deinit(&list->shards[i].texts);
  }
  free(list);
}

// ---- Sending away

struct dismissal {
  struct roll_choice choice;
  size_t counts[SHARDS_MAX];
};

static void dismiss(struct shard *shard, uint8_t number, void *argument)
{
  struct dismissal *dismissal = argument;
  dismissal->counts[number] += roll_dismiss(shard, &dismissal->choice, MQTT_ADMINISTRATIVE_ACTION);
}

void answer_disconnect(struct answer *answer, const struct control_request *request)
{
  struct broker *broker = answer->broker;
  // Whoever has been taken out of a file a moment ago must not come back by what it said before.
  bool current = broker_take_changes(broker);
  struct dismissal dismissal = {.choice = choice_of(request)};
  // Twice: a client that was on its way from one shard to another the first time has arrived.
  for (unsigned i = 0; i < 2; i++) net_run_on_shards(broker->net, dismiss, &dismissal);
  uint64_t count = 0;
  for (unsigned i = 0; i < SHARDS_MAX; i++) count += dismissal.counts[i];
  BROKER_LOG(broker, LOG_WARNING, "disconnect_asked", FIELD_INT("uid", request->uid), FIELD_INT("pid", request->pid),
             FIELD_TEXT("client", request->client), FIELD_TEXT("user", request->user), FIELD_UINT("count", count));
  control_json_truth(&answer->json, "ok", true);
  control_json_number(&answer->json, "count", (int64_t)count);
  control_json_truth(&answer->json, "files_current", current);
  answer_say(answer, "%" PRIu64 " client%s disconnected%s\n", count, count == 1 ? " is" : "s are",
             count ? "; whoever may connect comes back" : "");
  if (!current)
    answer_say(answer,
               "a file that has changed cannot be used, what it said before still holds: see files_refused in the log\n");
}
