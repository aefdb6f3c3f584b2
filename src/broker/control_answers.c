// What is done for those who ask on the control socket, and what they are told.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "broker/config_schema.h"
#include "broker/control_answer.h"

// ---- Reload

static void show_value(struct answer *answer, const struct config_change *change)
{
  const char *before = change->before, *after = change->after;
  if (!before)
    answer_say(answer, "  %s: new\n", change->path);
  else if (!after)
    answer_say(answer, "  %s: gone\n", change->path);
  else
    answer_say(answer, "  %s: %s -> %s%s\n", change->path, *before ? before : "(not set)", *after ? after : "(not set)",
               change->reloadable ? "" : "  (needs a restart)");
}

static void list_changes(struct answer *answer, const struct config_changes *changes)
{
  struct control_json *json = &answer->json;
  control_json_open(json, "changes", '[');
  for (size_t i = 0; i < changes->count; i++) {
    const struct config_change *change = &changes->items[i];
    control_json_open(json, NULL, '{');
    control_json_text(json, "key", change->path);
    control_json_text(json, "before", change->before);
    control_json_text(json, "after", change->after);
    control_json_truth(json, "needs_restart", !change->reloadable);
    control_json_close(json, '}');
    show_value(answer, change);
  }
  control_json_close(json, ']');
}

static void list_texts(struct answer *answer, const char *name, const struct diagnostics *diagnostics)
{
  control_json_open(&answer->json, name, '[');
  for (size_t i = 0; i < diagnostics->count; i++) {
    control_json_text(&answer->json, NULL, diagnostics->texts[i]);
    answer_say(answer, "  %s\n", diagnostics->texts[i]);
  }
  control_json_close(&answer->json, ']');
}

static void answer_reload(struct answer *answer, const struct control_request *request)
{
  struct broker *broker = answer->broker;
  struct reload_report report;
  BROKER_LOG(broker, LOG_INFO, "reload_asked", FIELD_INT("uid", request->uid), FIELD_INT("pid", request->pid),
             FIELD_UINT("confirm_ms", request->confirm_ms));
  broker_reload(broker, request->confirm_ms, &report);
  control_json_truth(&answer->json, "ok", report.good);
  if (!report.good) {
    bool restart = report.changes.needs_restart > 0;
    answer_say(answer, "refused, everything stays as it was: %s\n",
               report.mistakes.count ? "there are mistakes" : report.why);
    control_json_text(&answer->json, "why", report.why);
    list_texts(answer, "mistakes", &report.mistakes);
    if (restart) list_changes(answer, &report.changes);
  } else {
    size_t count = report.changes.count;
    if (count == 0)
      answer_say(answer, "reloaded; the configuration is the same, its files were read again\n");
    else
      answer_say(answer, "reloaded; %zu key%s changed:\n", count, count == 1 ? " has" : "s have");
    list_changes(answer, &report.changes);
    list_texts(answer, "warnings", &report.warnings);
    if (request->confirm_ms)
      answer_say(answer, "rolled back in %g s unless \"skerry ctl confirm\" comes before\n", request->confirm_ms / 1000.0);
  }
  reload_report_deinit(&report);
}

static void answer_confirm(struct answer *answer, const struct control_request *request)
{
  struct broker *broker = answer->broker;
  bool good =
      request->command == CONTROL_CONFIRM ? broker_confirm(broker) : broker_roll_back(broker, "somebody asked for it");
  control_json_truth(&answer->json, "ok", good);
  if (!good)
    answer_say(answer, "no reload waits for a confirmation; it may have been rolled back already\n");
  else if (request->command == CONTROL_CONFIRM)
    answer_say(answer, "confirmed; the reload holds\n");
  else
    answer_say(answer, "rolled back; the file still holds what was not confirmed\n");
}

// ---- Status

static void describe_listeners(struct answer *answer)
{
  const int64_t day_ms = INT64_C(24) * 3600 * 1000;
  struct broker *broker = answer->broker;
  int64_t today_ms = broker_wall().ms;
  control_json_open(&answer->json, "listeners", '[');
  for (size_t i = 0; i < broker->config.listener_count; i++) {
    const struct listener_config *config = &broker->config.listeners[i];
    const struct listener *listener = broker->listeners[i];
    uint32_t connections = listener ? atomic_load(&listener->connections) : 0;
    int64_t issued_ms, end_ms = entrance_end_ms(&broker->doors.entrance, i);
    int64_t crl_end_ms = entrance_crl_end_ms(&broker->doors.entrance, i, &issued_ms);
    control_json_open(&answer->json, NULL, '{');
    control_json_text(&answer->json, "url", config->address.text);
    control_json_text(&answer->json, "name", config_listener_name(config));
    control_json_truth(&answer->json, "tls", config->has_tls);
    control_json_truth(&answer->json, "anonymous", config->anonymous);
    control_json_number(&answer->json, "connections", connections);
    if (!listener) control_json_truth(&answer->json, "lost", true);
    if (end_ms) control_json_number(&answer->json, "certificate_end_s", end_ms / 1000);
    if (crl_end_ms) control_json_number(&answer->json, "crl_end_s", crl_end_ms / 1000);
    control_json_close(&answer->json, '}');
    answer_say(answer, "  %s: %u connection%s%s%s", config->address.text, connections, connections == 1 ? "" : "s",
               config->anonymous ? ", anonymous" : "", listener ? "" : ", lost: see listener_lost in the log");
    if (end_ms) answer_say(answer, ", certificate ends in %" PRId64 " days", (end_ms - today_ms) / day_ms);
    if (crl_end_ms) answer_say(answer, ", CRL ends in %" PRId64 " days", (crl_end_ms - today_ms) / day_ms);
    answer_say(answer, "\n");
  }
  control_json_close(&answer->json, ']');
}

static void describe_fallback(struct answer *answer)
{
  const struct fallback *fallback = &answer->broker->fallback;
  uint64_t now_ms = broker_now().ms;
  if (!fallback->waits) return;
  uint64_t left_ms = fallback->deadline_ms > now_ms ? fallback->deadline_ms - now_ms : 0;
  control_json_number(&answer->json, "confirm_within_ms", (int64_t)left_ms);
  answer_say(answer, "a reload waits to be confirmed: rolled back in %" PRIu64 " s\n", left_ms / 1000);
}

static void answer_status(struct answer *answer)
{
  struct broker *broker = answer->broker;
  struct status_view *view = calloc(1, sizeof *view);
  control_json_truth(&answer->json, "ok", view != NULL);
  if (!view) {
    answer_say(answer, "out of memory\n");
    return;
  }
  broker_fill_view(broker, view);
  const char *file = broker->options->source.file;
  struct control_json *json = &answer->json;
  control_json_text(json, "version", view->version);
  control_json_text(json, "id", view->broker_id);
  control_json_text(json, "configuration", file);
  control_json_truth(json, "ready", view->ready);
  control_json_number(json, "uptime_s", (int64_t)view->uptime_s);
  control_json_number(json, "clients", (int64_t)view->total.clients);
  control_json_number(json, "sessions", (int64_t)view->total.sessions);
  control_json_number(json, "memory_bytes", view->memory_used_bytes);
  control_json_number(json, "memory_limit_bytes", view->memory_limit_bytes);
  control_json_number(json, "reloads", (int64_t)view->reloads);
  control_json_number(json, "reloads_refused", (int64_t)view->reloads_refused);
  const char *journal = view->has_journal ? journal_state_name(view->journal_state) : "none";
  control_json_text(json, "journal", journal);
  answer_say(answer, "%s: skerry %s, %s, up for %" PRIu64 " s\n", view->broker_id, view->version,
             view->ready ? "ready" : "starting", view->uptime_s);
  answer_say(answer, "configuration: %s\n", file ? file : "none, the defaults");
  answer_say(answer, "clients: %" PRIu64 ", sessions: %" PRIu64 ", journal: %s\n", (uint64_t)view->total.clients,
             (uint64_t)view->total.sessions, journal);
  answer_say(answer, "reloads: %" PRIu64 ", refused: %" PRIu64 "\n", view->reloads, view->reloads_refused);
  describe_fallback(answer);
  answer_say(answer, "listeners:\n");
  describe_listeners(answer);
  free(view);
}

// ---- All of them

void broker_answer(void *context, const struct control_request *request, struct buffer *out)
{
  struct answer answer = {.broker = context, .json = {.out = out}};
  control_json_open(&answer.json, NULL, '{');
  switch (request->command) {
    case CONTROL_RELOAD: answer_reload(&answer, request); break;
    case CONTROL_CONFIRM:
    case CONTROL_ROLLBACK: answer_confirm(&answer, request); break;
    case CONTROL_STATUS: answer_status(&answer); break;
    case CONTROL_CLIENTS: answer_clients(&answer, request); break;
    case CONTROL_DISCONNECT: answer_disconnect(&answer, request); break;
  }
  if (buffer_append(&answer.text, "", 1) != OK) answer.failed = true;  // its NUL
  const char *text = answer.failed ? "out of memory" : (const char *)buffer_peek(&answer.text).at;
  control_json_text(&answer.json, "text", text);
  control_json_close(&answer.json, '}');
  if (answer.json.failed) buffer_consume(out, buffer_size(out));
  buffer_deinit(&answer.text);
}
