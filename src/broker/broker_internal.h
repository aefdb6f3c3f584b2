// Between broker.c (start, signals, stop), listeners.c and reload.c.
#pragma once

#include <event2/event.h>

#include "broker/admin_http.h"
#include "broker/broker.h"
#include "broker/log_output.h"
#include "broker/storage.h"
#include "broker/sys_topics.h"
#include "net/loop.h"

struct broker {
  const struct broker_options *options;
  struct config config;
  struct log_output output;
  struct log_origin origin;
  struct log_origin shard_origins[SHARDS_MAX];
  struct log log;
  struct memory_budget budget;
  struct storage storage;
  struct net *net;
  struct listener **listeners;  // one per config.listeners, same order
  struct event_base *base;
  struct event *signals;
  struct event *sys_timer;
  struct admin_http *http;
  struct sys_topics *sys;
  struct mono started, sys_published;
  uint64_t reloads, reloads_refused;
  int signal_fd;
  bool ready;
  char id[256];  // configured, or the host's name
};

struct mono broker_now(void);

#define BROKER_LOG(broker, level, event, ...) LOG(&(broker)->log, broker_now(), level, event, __VA_ARGS__)

// Opens one listener as configured; not yet accepting.
CHECK_RESULT enum status broker_open_listener(const struct listener_config *config, struct listener **out,
                                              struct error *error);

// What may change while it is open.
void broker_apply_listener(const struct listener_config *config, uint32_t connection_rate, struct listener *listener);

// Reads the configuration again and makes it so, or logs why not and leaves all as it is.
void broker_reload(struct broker *broker);

CHECK_RESULT enum status broker_open_metrics(struct broker *broker, const struct config *config, struct admin_http **out,
                                             struct error *error);
void broker_start_sys(struct broker *broker);
