// What a broker shows of itself, and where: /metrics, $SYS, the control socket.
#include "broker/running.h"

void broker_fill_view(void *context, struct status_view *out)
{
  struct broker *broker = context;
  *out = (struct status_view){.shard_count = net_loops(broker->net),
                              .memory_limit_bytes = broker->budget.limit_bytes,
                              .uptime_s = (broker_now().ms - broker->started.ms) / 1000,
                              .reloads = broker->reloads,
                              .reloads_refused = broker->reloads_refused,
                              .version = broker->options->version,
                              .broker_id = broker->id,
                              .ready = broker->ready};
  net_snapshot(broker->net, out->shards, &out->net);
  (void)net_authentication(broker->net, &out->authentication);
  out->has_journal = net_journal(broker->net, &out->journal, &out->journal_state);
  for (uint8_t i = 0; i < out->shard_count; i++) counters_add(&out->total, &out->shards[i]);
  out->certificate_count = broker_certificates(broker, out->certificates, CERTIFICATES_MAX);
  out->memory_used_bytes = atomic_load(&broker->budget.used_bytes);
}

enum status broker_open_metrics(struct broker *broker, const struct config *config, struct admin_http **out,
                                struct error *error)
{
  const struct listen_address *address = &config->metrics.listen;
  *out = NULL;
  if (!address->text) return OK;
  return admin_http_open(broker->base, address->host, address->port, broker_fill_view, broker, out, error);
}

static void publish_sys(evutil_socket_t fd, short what, void *context)
{
  (void)fd;
  (void)what;
  struct broker *broker = context;
  struct status_view view;
  broker_fill_view(broker, &view);
  struct mono now = broker_now();
  uint32_t interval_s = broker->sys_published.ms ? (uint32_t)((now.ms - broker->sys_published.ms + 500) / 1000) : 0;
  broker->sys_published = now;
  size_t count;
  const struct net_value *values = sys_topics_update(broker->sys, &view, interval_s, &count);
  net_publish(broker->net, values, count, true);
}

bool broker_make_sys(struct broker *broker)
{
  broker->sys_timer = event_new(broker->base, -1, EV_PERSIST, publish_sys, broker);
  broker->sys = sys_topics_create();
  return broker->sys_timer && broker->sys;
}

void broker_start_sys(struct broker *broker)
{
  event_del(broker->sys_timer);
  uint32_t interval_s = broker->config.sys.interval_s;
  if (interval_s == 0) return;
  struct timeval interval = {.tv_sec = interval_s};
  event_add(broker->sys_timer, &interval);
  publish_sys(-1, 0, broker);
}

enum status broker_open_control(struct broker *broker, const struct config *config, struct control **out,
                                struct error *error)
{
  const char *path = config->control.socket;
  *out = NULL;
  if (!path) return OK;
  enum status status = control_open(broker->base, path, config->control.mode, broker->answer, broker, out, error);
  if (status == OK) status = hardening_give(&broker->user, path, error);
  if (status == OK) return OK;
  control_close(*out);
  *out = NULL;
  return status;
}
