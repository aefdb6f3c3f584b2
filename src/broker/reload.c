// SIGHUP: the configuration is read again. Either all of it holds afterwards, or none of it; connections stay.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker_internal.h"
#include "broker/service.h"

static void refuse(struct broker *broker, const char *why)
{
  broker->reloads_refused++;
  BROKER_LOG(broker, LOG_ERROR, "reload_failed", FIELD_TEXT("error", why));
}

static bool load(struct broker *broker, struct config *out)
{
  struct diagnostics diagnostics = {0};
  enum status status = config_load(&broker->options->source, out, &diagnostics);
  for (size_t i = 0; i < diagnostics.count; i++)
    BROKER_LOG(broker, LOG_ERROR, "configuration_error", FIELD_TEXT("error", diagnostics.texts[i]));
  if (status != OK) refuse(broker, diagnostics.count ? diagnostics.texts[0] : status_name(status));
  diagnostics_deinit(&diagnostics);
  return status == OK;
}

static bool may_change(struct broker *broker, const struct config_changes *changes)
{
  if (changes->needs_restart == 0) return true;
  char why[256];
  size_t size = (size_t)snprintf(why, sizeof why, "needs a restart:");
  for (size_t i = 0; i < changes->count && size < sizeof why; i++)
    if (!changes->items[i].reloadable)
      size += (size_t)snprintf(why + size, sizeof why - size, " %s", changes->items[i].path);
  refuse(broker, why);
  return false;
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

// Opens what is new and takes over what stays; `added` and `stays` are told by the new and the old list. A listener that goes is closed
// first only when a new one needs its address.
static enum status open_listeners(struct broker *broker, const struct config *config, struct listener **next, bool *added,
                                  const bool *goes, struct error *error)
{
  const struct config *old = &broker->config;
  for (size_t i = 0; i < config->listener_count; i++) {
    size_t before = find_listener(old, config->listeners[i].address.text);
    if (before < old->listener_count && !goes[before]) {
      next[i] = broker->listeners[before];
      continue;
    }
    added[i] = true;
    for (size_t k = 0; k < old->listener_count; k++)
      if (goes[k] && broker->listeners[k] && clashes(&config->listeners[i], &old->listeners[k])) {
        close_listener(broker, broker->listeners[k]);
        broker->listeners[k] = NULL;
      }
    enum status status = broker_open_listener(&config->listeners[i], &next[i], error);
    if (status != OK) return status;
    broker_apply_listener(&config->listeners[i], config->connection_rate, next[i]);
  }
  return OK;
}

// Listeners that were closed for the sake of new ones come back when these could not be opened.
static void reopen(struct broker *broker)
{
  for (size_t i = 0; i < broker->config.listener_count; i++) {
    if (broker->listeners[i]) continue;
    const struct listener_config *config = &broker->config.listeners[i];
    struct error error = {0};
    if (broker_open_listener(config, &broker->listeners[i], &error) != OK) {
      BROKER_LOG(broker, LOG_ERROR, "listener_lost", FIELD_TEXT("url", config->address.text),
                 FIELD_TEXT("error", error.text));
      continue;
    }
    broker_apply_listener(config, broker->config.connection_rate, broker->listeners[i]);
    net_add_listener(broker->net, broker->listeners[i]);
  }
}

// What is fixed when a socket is opened.
static bool needs_new_socket(const struct listener_config *a, const struct listener_config *b)
{
  return a->ipv6_only != b->ipv6_only || a->mode != b->mode;
}

static bool change_listeners(struct broker *broker, const struct config *config)
{
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
  bool good = open_listeners(broker, config, next, added, goes, &error) == OK;
  if (good) {
    close_where(broker, broker->listeners, goes, old->listener_count);
    for (size_t i = 0; i < config->listener_count; i++) {
      broker_apply_listener(&config->listeners[i], config->connection_rate, next[i]);
      if (added[i]) net_add_listener(broker->net, next[i]);
    }
    free(broker->listeners);
    broker->listeners = next;
  } else {
    for (size_t i = 0; i < config->listener_count; i++)
      if (added[i]) listener_unref(next[i]);
    free(next);
    reopen(broker);
    refuse(broker, error.text);
  }
  free(added);
  free(goes);
  return good;
}

// ---- All of it

static bool same_metrics(const struct config *a, const struct config *b)
{
  const char *before = a->metrics.listen.text, *after = b->metrics.listen.text;
  return before && after ? strcmp(before, after) == 0 : before == after;
}

static bool apply(struct broker *broker, struct config *config)
{
  struct admin_http *http = NULL;
  bool new_metrics = !same_metrics(&broker->config, config);
  struct error error = {0};
  if (new_metrics && broker_open_metrics(broker, config, &http, &error) != OK) {
    refuse(broker, error.text);
    return false;
  }
  if (!change_listeners(broker, config)) {
    admin_http_close(http);
    return false;
  }
  if (new_metrics) {
    admin_http_close(broker->http);
    broker->http = http;
  }
  bool new_sys = broker->config.sys.interval_s != config->sys.interval_s;
  config_deinit(&broker->config);
  broker->config = *config;
  *config = (struct config){0};
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

void broker_reload(struct broker *broker)
{
  notify_reloading();
  struct config config = {0};
  struct config_changes changes = {0};
  bool good = load(broker, &config);
  if (good && config_diff(&broker->config, &config, &changes) != OK) {
    refuse(broker, "out of memory");
    good = false;
  }
  if (good && may_change(broker, &changes) && apply(broker, &config)) {
    broker->reloads++;
    log_changes(broker, &changes);
    BROKER_LOG(broker, LOG_INFO, "reloaded", FIELD_UINT("changes", changes.count));
  }
  config_changes_deinit(&changes);
  config_deinit(&config);
  service_notify("READY=1");
}
