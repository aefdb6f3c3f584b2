// SIGHUP: the configuration is read again. Either all of it holds afterwards, or none of it; connections stay.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/running.h"
#include "broker/service.h"

void reload_report_deinit(struct reload_report *report)
{
  diagnostics_deinit(&report->mistakes);
  diagnostics_deinit(&report->warnings);
  config_changes_deinit(&report->changes);
  *report = (struct reload_report){0};
}

// One reload under way.
struct reload {
  struct broker *broker;
  struct reload_report *report;
  struct config config;      // the new one; zeroed when it has been taken
  struct entrance entrance;  // of it; the same
};

static void refuse(struct reload *reload, const char *why)
{
  snprintf(reload->report->why, sizeof reload->report->why, "%s", why);
  reload->broker->reloads_refused++;
  BROKER_LOG(reload->broker, LOG_ERROR, "reload_failed", FIELD_TEXT("error", why));
}

static void refuse_mistakes(struct reload *reload, enum status status)
{
  const struct diagnostics *mistakes = &reload->report->mistakes;
  for (size_t i = 0; i < mistakes->count; i++)
    BROKER_LOG(reload->broker, LOG_ERROR, "configuration_error", FIELD_TEXT("error", mistakes->texts[i]));
  refuse(reload, mistakes->count ? mistakes->texts[0] : status_name(status));
}

static bool load(struct reload *reload)
{
  enum status status = config_load(&reload->broker->options->source, &reload->config, &reload->report->mistakes);
  if (status != OK) refuse_mistakes(reload, status);
  return status == OK;
}

static bool may_change(struct reload *reload)
{
  const struct config_changes *changes = &reload->report->changes;
  if (changes->needs_restart == 0) return true;
  char why[256];
  size_t size = (size_t)snprintf(why, sizeof why, "needs a restart:");
  for (size_t i = 0; i < changes->count && size < sizeof why; i++)
    if (!changes->items[i].reloadable)
      size += (size_t)snprintf(why + size, sizeof why - size, " %s", changes->items[i].path);
  refuse(reload, why);
  return false;
}

static bool build_entrance(struct reload *reload)
{
  struct broker *broker = reload->broker;
  const struct entrance_before before = {.config = &broker->config, .entrance = &broker->doors.entrance};
  if (entrance_has_secrets(&reload->config) && !entrance_has_secrets(&broker->config)) hardening_hide_memory();
  struct error error = {0};
  if (broker_make_secret(broker, &reload->config, &error) != OK) {
    refuse(reload, error.text);
    return false;
  }
  enum status status = entrance_build(&reload->config, broker->options->source.file, broker->doors.secret, broker_wall(),
                                      &before, &reload->entrance, &reload->report->mistakes);
  if (status != OK) refuse_mistakes(reload, status);
  return status == OK;
}

static void log_changes(struct broker *broker, const struct config_changes *changes)
{
  for (size_t i = 0; i < changes->count; i++) {
    const struct config_change *change = &changes->items[i];
    BROKER_LOG(broker, LOG_INFO, "configuration_changed", FIELD_TEXT("key", change->path),
               FIELD_TEXT("before", change->before ? change->before : ""),
               FIELD_TEXT("after", change->after ? change->after : ""));
  }
}

// ---- Listeners

static size_t find_listener(const struct config *config, const char *url)
{
  size_t i = 0;
  while (i < config->listener_count && strcmp(config->listeners[i].address.text, url) != 0) i++;
  return i;
}

static void close_listener(struct broker *broker, struct listener *listener)
{
  net_remove_listener(broker->net, listener);
  listener_close(listener);
  listener_unref(listener);
}

static void close_where(struct broker *broker, struct listener **listeners, const bool *which, size_t count)
{
  for (size_t i = 0; i < count; i++)
    if (which[i] && listeners[i]) {
      close_listener(broker, listeners[i]);
      listeners[i] = NULL;
    }
}

static bool clashes(const struct listener_config *a, const struct listener_config *b)
{
  return listen_address_clashes(&a->address, a->ipv6_only, &b->address, b->ipv6_only);
}

// Opens what is new, or was lost, and takes over what stays; `added` and `goes` are told by the new and the old list. A
// listener that goes is closed first only when a new one needs its address.
static enum status open_listeners(struct broker *broker, const struct config *config, struct listener **next, bool *added,
                                  const bool *goes, struct error *error)
{
  const struct config *old = &broker->config;
  for (size_t i = 0; i < config->listener_count; i++) {
    size_t before = find_listener(old, config->listeners[i].address.text);
    if (before < old->listener_count && !goes[before] && broker->listeners[before]) {
      next[i] = broker->listeners[before];
      continue;
    }
    added[i] = true;
    for (size_t k = 0; k < old->listener_count; k++)
      if (goes[k] && broker->listeners[k] && clashes(&config->listeners[i], &old->listeners[k])) {
        close_listener(broker, broker->listeners[k]);
        broker->listeners[k] = NULL;
      }
    enum status status = broker_open_listener(&config->listeners[i], &broker->user, &next[i], error);
    if (status != OK) return status;
    broker_apply_listener(&config->listeners[i], next[i]);
  }
  return OK;
}

// Listeners that were closed for the sake of new ones come back when these could not be opened. One that cannot be opened
// either is lost until a reload that can.
static void reopen(struct broker *broker)
{
  for (size_t i = 0; i < broker->config.listener_count; i++) {
    if (broker->listeners[i]) continue;
    const struct listener_config *config = &broker->config.listeners[i];
    struct error error = {0};
    if (broker_open_listener(config, &broker->user, &broker->listeners[i], &error) != OK) {
      BROKER_LOG(broker, LOG_ERROR, "listener_lost", FIELD_TEXT("url", config->address.text),
                 FIELD_TEXT("error", error.text));
      continue;
    }
    broker_apply_listener(config, broker->listeners[i]);
    listener_set_gate(broker->listeners[i], gate_ref(broker->doors.entrance.gates[i]));
    net_set_listener_limits(broker->net, broker->listeners[i], &config->limits);
    net_add_listener(broker->net, broker->listeners[i]);
  }
}

// What is fixed when a socket is opened.
static bool needs_new_socket(const struct listener_config *a, const struct listener_config *b)
{
  return a->ipv6_only != b->ipv6_only || a->mode != b->mode || a->has_tls != b->has_tls;
}

static enum status prepare_all(struct broker *broker, struct listener *const *listeners, const struct entrance *entrance,
                               struct error *error)
{
  enum status status = OK;
  for (size_t i = 0; i < entrance->count && status == OK; i++)
    status = net_prepare(broker->net, listeners[i], entrance->gates[i], error);
  return status;
}

// From here on nothing fails.
static void take_listeners(struct reload *reload, struct listener **next, const bool *added)
{
  struct broker *broker = reload->broker;
  for (size_t i = 0; i < reload->config.listener_count; i++) {
    broker_apply_listener(&reload->config.listeners[i], next[i]);
    net_set_listener_limits(broker->net, next[i], &reload->config.listeners[i].limits);
    net_set_gate(broker->net, next[i], gate_ref(reload->entrance.gates[i]));
    if (added[i]) net_add_listener(broker->net, next[i]);
  }
  free(broker->listeners);
  broker->listeners = next;
}

static bool change_listeners(struct reload *reload)
{
  struct broker *broker = reload->broker;
  const struct config *config = &reload->config;
  const struct config *old = &broker->config;
  struct listener **next = calloc(config->listener_count, sizeof(struct listener *));
  bool *added = calloc(config->listener_count, sizeof *added);
  bool *goes = calloc(old->listener_count, sizeof *goes);
  if (!next || !added || !goes) abort();
  for (size_t i = 0; i < old->listener_count; i++) {
    size_t after = find_listener(config, old->listeners[i].address.text);
    goes[i] = after == config->listener_count || needs_new_socket(&old->listeners[i], &config->listeners[after]);
  }
  struct error error = {0};
  bool good = open_listeners(broker, config, next, added, goes, &error) == OK &&
              prepare_all(broker, next, &reload->entrance, &error) == OK;
  if (good) {
    close_where(broker, broker->listeners, goes, old->listener_count);
    take_listeners(reload, next, added);
  } else {
    for (size_t i = 0; i < config->listener_count; i++)
      if (added[i]) listener_unref(next[i]);
    free(next);
    reopen(broker);
    refuse(reload, error.text);
  }
  free(added);
  free(goes);
  return good;
}

// ---- All of it

static bool same_text(const char *a, const char *b)
{
  return a == b || (a && b && strcmp(a, b) == 0);
}

// New sockets besides those of clients, opened before anything changes.
struct sockets {
  bool new_metrics, new_control;
  struct admin_http *http;
  struct control *control;
};

static void close_control(evutil_socket_t fd, short what, void *context)
{
  (void)fd;
  (void)what;
  struct broker *broker = context;
  control_close(broker->retired_control);
  broker->retired_control = NULL;
}

// Whoever asked for the reload on the socket that goes, or on one that has gone a moment ago, gets the answer yet.
static void retire_control(struct broker *broker)
{
  if (!broker->control) return;
  control_retire(broker->control, broker->retired_control);
  broker->retired_control = broker->control;
  const struct timeval soon = {.tv_sec = 1};
  (void)event_base_once(broker->base, -1, EV_TIMEOUT, close_control, broker, &soon);  // or with the next, or at the stop
}

static bool open_sockets(struct reload *reload, struct sockets *out)
{
  struct broker *broker = reload->broker;
  const struct config *config = &reload->config;
  struct error error = {0};
  *out = (struct sockets){.new_metrics = !same_text(broker->config.metrics.listen.text, config->metrics.listen.text),
                          .new_control = !same_text(broker->config.control.socket, config->control.socket)};
  enum status status = OK;
  if (out->new_metrics) status = broker_open_metrics(broker, config, &out->http, &error);
  if (status == OK && out->new_control) status = broker_open_control(broker, config, &out->control, &error);
  if (status == OK) return true;
  admin_http_close(out->http);
  refuse(reload, error.text);
  return false;
}

static void take_sockets(struct broker *broker, const struct config *config, const struct sockets *sockets)
{
  if (sockets->new_metrics) {
    admin_http_close(broker->http);
    broker->http = sockets->http;
  }
  if (sockets->new_control) {
    retire_control(broker);
    broker->control = sockets->control;
  } else if (broker->control && broker->config.control.mode != config->control.mode) {
    control_set_mode(broker->control, config->control.mode);
  }
}

// What was before goes to `before`, its owner's from then on.
static bool apply(struct reload *reload, struct fallback *before)
{
  struct broker *broker = reload->broker;
  struct sockets sockets;
  if (!open_sockets(reload, &sockets)) return false;
  if (!change_listeners(reload)) {
    admin_http_close(sockets.http);
    control_close(sockets.control);
    return false;
  }
  take_sockets(broker, &reload->config, &sockets);
  bool new_sys = broker->config.sys.interval_s != reload->config.sys.interval_s;
  before->config = broker->config;
  broker->config = reload->config;
  reload->config = (struct config){0};
  broker_take_entrance(broker, &reload->entrance, &before->entrance);
  broker->log.level = broker->config.log.level;
  atomic_store(&broker->output.format, (int)broker->config.log.format);
  broker->budget.limit_bytes = (int64_t)broker->config.broker.memory_limit_bytes;
  net_set_limits(broker->net, &broker->config.limits, broker->config.connections, broker->config.log.level);
  if (new_sys) broker_start_sys(broker);
  return true;
}

static void notify_reloading(void)
{
  char text[64];
  snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)broker_now().ms * 1000);
  service_notify(text);
}

// ---- Until it is confirmed

static void forget(struct fallback *fallback)
{
  config_deinit(&fallback->config);
  entrance_deinit(&fallback->entrance);
  file_set_deinit(&fallback->files);
  if (fallback->timer) event_free(fallback->timer);
  *fallback = (struct fallback){0};
}

void broker_forget_fallback(struct broker *broker)
{
  forget(&broker->fallback);
}

static void take_time_out(evutil_socket_t fd, short what, void *context)
{
  (void)fd;
  (void)what;
  (void)broker_roll_back(context, "nobody has confirmed it");
}

// False: out of memory, and the reload must not be tried.
static bool prepare_fallback(struct reload *reload, struct fallback *fallback)
{
  fallback->timer = event_new(reload->broker->base, -1, 0, take_time_out, reload->broker);
  bool good = fallback->timer && file_set_copy(&reload->entrance.files, &fallback->files) == OK;
  if (!good) refuse(reload, "out of memory");
  return good;
}

static void wait_for_word(struct broker *broker, struct fallback *fallback, uint32_t confirm_ms)
{
  broker->fallback = *fallback;
  *fallback = (struct fallback){0};
  broker->fallback.waits = true;
  broker->fallback.deadline_ms = broker_now().ms + confirm_ms;
  const struct timeval in = {.tv_sec = confirm_ms / 1000, .tv_usec = (suseconds_t)(confirm_ms % 1000 * 1000)};
  event_add(broker->fallback.timer, &in);
  BROKER_LOG(broker, LOG_WARNING, "reload_waits_for_confirmation", FIELD_UINT("ms", confirm_ms));
}

bool broker_confirm(struct broker *broker)
{
  if (!broker->fallback.waits) return false;
  forget(&broker->fallback);
  BROKER_LOG(broker, LOG_INFO, "reload_confirmed", FIELD_UINT("reloads", broker->reloads));
  return true;
}

bool broker_roll_back(struct broker *broker, const char *why)
{
  if (!broker->fallback.waits) return false;
  struct reload_report report = {0};
  struct reload reload = {
      .broker = broker, .report = &report, .config = broker->fallback.config, .entrance = broker->fallback.entrance};
  struct fallback undone = {0};
  broker->fallback.config = (struct config){0};
  broker->fallback.entrance = (struct entrance){0};
  file_set_refuse(&reload.entrance.files, &broker->fallback.files);
  reload.entrance.fingerprint = file_set_fingerprint_then(&reload.entrance.files);
  bool good = apply(&reload, &undone);
  if (good)
    BROKER_LOG(broker, LOG_WARNING, "reload_rolled_back", FIELD_TEXT("why", why),
               FIELD_TEXT("detail", "the file still holds what was not confirmed"));
  else
    BROKER_LOG(broker, LOG_ERROR, "roll_back_failed", FIELD_TEXT("why", why), FIELD_TEXT("error", report.why));
  forget(&undone);
  forget(&broker->fallback);
  config_deinit(&reload.config);
  entrance_deinit(&reload.entrance);
  reload_report_deinit(&report);
  return good;
}

// ---- The reload

void broker_log_warnings(struct broker *broker, struct diagnostics *out)
{
  config_warn(&broker->config, broker->options->source.file, out);
  for (size_t i = 0; i < out->count; i++)
    BROKER_LOG(broker, LOG_WARNING, "configuration_warning", FIELD_TEXT("warning", out->texts[i]));
}

static bool run(struct reload *reload, uint32_t confirm_ms)
{
  struct broker *broker = reload->broker;
  if (broker->fallback.waits) {
    refuse(reload, "the reload before waits for its confirmation; confirm it (skerry ctl confirm), or roll it back");
    return false;
  }
  if (!load(reload)) return false;
  if (config_diff(&broker->config, &reload->config, &reload->report->changes) != OK) {
    refuse(reload, "out of memory");
    return false;
  }
  if (!may_change(reload) || !build_entrance(reload)) return false;
  struct fallback before = {0};
  bool good = !confirm_ms || prepare_fallback(reload, &before);
  if (good) good = apply(reload, &before);
  if (good && confirm_ms) wait_for_word(broker, &before, confirm_ms);
  forget(&before);
  return good;
}

void broker_reload(struct broker *broker, uint32_t confirm_ms, struct reload_report *out)
{
  notify_reloading();
  *out = (struct reload_report){0};
  struct reload reload = {.broker = broker, .report = out};
  out->good = run(&reload, confirm_ms);
  if (out->good) {
    broker->reloads++;
    log_changes(broker, &out->changes);
    broker_log_warnings(broker, &out->warnings);
    BROKER_LOG(broker, LOG_INFO, "reloaded", FIELD_UINT("changes", out->changes.count));
  }
  config_deinit(&reload.config);
  entrance_deinit(&reload.entrance);
  service_notify("READY=1");
}
