// The control thread: starts everything in order, waits for signals, stops everything in order.

#include "broker/broker.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "broker/running.h"
#include "broker/service.h"
#include "security/security.h"
#include "store/log.h"

enum { STOP_PATIENCE_MS = 3000, JOURNAL_HIGH_BYTES = 16 << 20 };

// ---- Signals

static void take_signal(evutil_socket_t fd, short what, void *context)
{
  (void)what;
  struct broker *broker = context;
  struct signalfd_siginfo info;
  if (read(fd, &info, sizeof info) != sizeof info) return;
  if (info.ssi_signo == SIGHUP) {
    struct reload_report report;
    broker_reload(broker, 0, &report);
    reload_report_deinit(&report);
    return;
  }
  BROKER_LOG(broker, LOG_INFO, "stopping", FIELD_TEXT("signal", strsignal((int)info.ssi_signo)));
  event_base_loopbreak(broker->base);
}

// Before any thread starts: all of them inherit the mask, so that signals arrive only here.
static enum status block_signals(struct broker *broker, struct error *error)
{
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // RLIMIT_FSIZE: a write that fails, which the journal takes for a full disk
  broker->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  return broker->signal_fd >= 0 ? OK : error_set(error, status_from_errno(errno), "signalfd: %s", strerror(errno));
}

// ---- Starting

static void raise_descriptor_limit(void)
{
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

// By root, who can, before it becomes another user; else when all files were found to be good.
static enum status prepare_data(struct broker *broker, struct error *error)
{
  if (!config_has_journal(&broker->config)) return OK;
  return hardening_prepare_directory(&broker->user, broker->config.broker.data, error);
}

static enum status start_net(struct broker *broker, struct error *error)
{
  const struct config *config = &broker->config;
  struct mono began = broker_now();
  enum status status = prepare_data(broker, error);
  if (status == OK) status = storage_open(config, &broker->output, &broker->storage, error);
  if (status != OK) return status;
  uint64_t seed;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
    return error_set(error, ERR_IO, "no random numbers: %s", strerror(errno));
  // As random, and the same at every start: retained messages in the journal name their publishers by a hash, for no local.
  if (broker->storage.store) memcpy(&seed, journal_log_identity(store_log(broker->storage.store)), sizeof seed);
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  broker->budget.limit_bytes = (int64_t)config->broker.memory_limit_bytes;
  struct net_settings settings = {.loops = (uint8_t)config_shards(config, cores > 0 ? (uint32_t)cores : 1),
                                  .limits = config->limits,
                                  .seed = seed,
                                  .budget = &broker->budget,
                                  .max_connections = config->connections,
                                  .store = broker->storage.store,
                                  .store_log = &broker->storage.log,
                                  .acl = broker->doors.entrance.acl,
                                  .log_sink = log_output_write,
                                  .log_level = config->log.level};
  // What is on its way when the disk turns out to be full must fit the reserve: a few batches of this.
  settings.journal_high_bytes = config->journal.reserve_bytes / 4;
  if (settings.journal_high_bytes > JOURNAL_HIGH_BYTES) settings.journal_high_bytes = JOURNAL_HIGH_BYTES;
  if (config->journal.durability == DURABILITY_INTERVAL) settings.journal_interval_ms = config->journal.interval_ms;
  broker->side_origin = (struct log_origin){.output = &broker->output, .shard = -1};
  settings.side_log_context = &broker->side_origin;
  for (uint8_t i = 0; i < settings.loops; i++) {
    broker->shard_origins[i] = (struct log_origin){.output = &broker->output, .shard = i};
    settings.log_contexts[i] = &broker->shard_origins[i];
  }
  status = net_create(&settings, &broker->net, error);
  if (status == OK) status = net_restore(broker->net, error);
  if (status == OK) storage_log_opened(&broker->storage, &broker->log, broker_now().ms - began.ms);
  return status == OK ? net_start(broker->net, error) : status;
}

static enum status open_listeners(struct broker *broker, struct error *error)
{
  const struct config *config = &broker->config;
  broker->listeners = calloc(config->listener_count, sizeof(struct listener *));
  if (!broker->listeners) return error_set(error, ERR_NO_MEMORY, "out of memory");
  for (size_t i = 0; i < config->listener_count; i++) {
    enum status status = broker_open_listener(&config->listeners[i], &broker->user, &broker->listeners[i], error);
    if (status != OK) return status;
    broker_apply_listener(&config->listeners[i], broker->listeners[i]);
  }
  return OK;
}

// All sockets are open: what needs the rights of root is behind us. Files are read as the user, so that what works now works
// at a reload.
static enum status settle_down(struct broker *broker, struct error *error)
{
  enum status status = OK;
  if (entrance_has_secrets(&broker->config)) {
    hardening_hide_memory();
    status = security_load(error);
  }
  if (status == OK && broker->user.change) status = prepare_data(broker, error);
  if (status == OK) status = hardening_become(&broker->user, error);
  // Becoming another user opens the memory to that user's debuggers, or closes it, as the system is set.
  if (status == OK && entrance_has_secrets(&broker->config)) hardening_hide_memory();
  return status;
}

static void accept_clients(struct broker *broker)
{
  for (size_t i = 0; i < broker->config.listener_count; i++) {
    net_set_listener_limits(broker->net, broker->listeners[i], &broker->config.listeners[i].limits);
    net_add_listener(broker->net, broker->listeners[i]);
  }
}

static enum status start_control(struct broker *broker, struct error *error)
{
  struct event_config *settings = event_config_new();
  if (settings) event_config_set_flag(settings, EVENT_BASE_FLAG_NOLOCK);
  broker->base = settings ? event_base_new_with_config(settings) : NULL;
  if (settings) event_config_free(settings);
  if (!broker->base) return error_set(error, ERR_NO_MEMORY, "cannot make the control loop");
  broker->signals = event_new(broker->base, broker->signal_fd, EV_READ | EV_PERSIST, take_signal, broker);
  if (!broker->signals || !broker_make_sys(broker)) return error_set(error, ERR_NO_MEMORY, "cannot make the control loop");
  event_add(broker->signals, NULL);
  enum status status = broker_open_metrics(broker, &broker->config, &broker->http, error);
  return status == OK ? broker_open_control(broker, &broker->config, &broker->control, error) : status;
}

// One malloc arena: those of other threads grow by a page at a time, a system call for every few connections. The hot path
// allocates from the shards' pools and does not meet in it.
static void tune_malloc(void)
{
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TOP_PAD, 256 * 1024);
}

static enum status start(struct broker *broker, struct error *error)
{
  tune_malloc();
  raise_descriptor_limit();
  hardening_set_umask();
  enum status status = block_signals(broker, error);
  if (status == OK) status = hardening_find_user(broker->config.broker.user, &broker->user, error);
  if (status == OK) status = start_control(broker, error);
  if (status == OK) status = open_listeners(broker, error);
  if (status == OK) status = settle_down(broker, error);
  if (status == OK) status = broker_open_doors(broker, error);
  if (status == OK) status = start_net(broker, error);
  if (status == OK) status = broker_man_doors(broker, error);
  if (status == OK) accept_clients(broker);
  return status;
}

static void log_ready(struct broker *broker)
{
  struct diagnostics warnings = {0};
  broker_log_warnings(broker, &warnings);
  diagnostics_deinit(&warnings);
  storage_log(&broker->config, &broker->storage, &broker->log);
  for (size_t i = 0; i < broker->config.listener_count; i++)
    BROKER_LOG(broker, LOG_INFO, "listening", FIELD_TEXT("url", broker->listeners[i]->url),
               FIELD_UINT("port", listener_port(broker->listeners[i])),
               FIELD_BOOL("anonymous", broker->config.listeners[i].anonymous));
  BROKER_LOG(broker, LOG_INFO, "ready", FIELD_TEXT("version", broker->options->version), FIELD_TEXT("id", broker->id),
             FIELD_UINT("listeners", broker->config.listener_count), FIELD_UINT("shards", net_loops(broker->net)));
}

// ---- Stopping

// Returns whether all that was acknowledged is on disk, where there is one.
static bool stop_net(struct broker *broker)
{
  struct error error = {0};
  enum status status = OK;
  if (broker->net) status = net_stop(broker->net, MQTT_SERVER_SHUTTING_DOWN, STOP_PATIENCE_MS, &error);
  if (status != OK) BROKER_LOG(broker, LOG_ERROR, "journal_close_failed", FIELD_TEXT("error", error.text));
  net_destroy(broker->net);
  storage_close(&broker->storage);
  return status == OK;
}

static bool stop(struct broker *broker)
{
  if (broker->listeners) {
    for (size_t i = 0; i < broker->config.listener_count; i++) {
      if (!broker->listeners[i]) continue;
      if (broker->net) net_remove_listener(broker->net, broker->listeners[i]);
      listener_close(broker->listeners[i]);
      listener_unref(broker->listeners[i]);
    }
  }
  free(broker->listeners);
  control_close(broker->control);
  control_close(broker->retired_control);
  admin_http_close(broker->http);
  bool good = stop_net(broker);
  broker_close_doors(broker);
  broker_forget_fallback(broker);
  sys_topics_destroy(broker->sys);
  if (broker->sys_timer) event_free(broker->sys_timer);
  if (broker->signals) event_free(broker->signals);
  if (broker->base) event_base_free(broker->base);
  if (broker->signal_fd >= 0) close(broker->signal_fd);
  return good;
}

static bool load(const struct broker_options *options, struct config *out)
{
  struct diagnostics diagnostics = {0};
  enum status status = config_load(&options->source, out, &diagnostics);
  for (size_t i = 0; i < diagnostics.count; i++) fprintf(stderr, "skerry broker: %s\n", diagnostics.texts[i]);
  if (status != OK && diagnostics.count == 0) fprintf(stderr, "skerry broker: %s\n", status_name(status));
  diagnostics_deinit(&diagnostics);
  return status == OK;
}

static void set_id(struct broker *broker)
{
  if (broker->config.broker.id)
    snprintf(broker->id, sizeof broker->id, "%s", broker->config.broker.id);
  else if (gethostname(broker->id, sizeof broker->id - 1) < 0)
    strcpy(broker->id, "skerry");
}

enum broker_exit broker_run(const struct broker_options *options)
{
  struct broker broker = {.options = options,
                          .started = broker_now(),
                          .signal_fd = -1,
                          .output = {.fd = STDERR_FILENO},
                          .answer = broker_answer};
  if (!load(options, &broker.config)) return BROKER_CONFIGURATION;
  set_id(&broker);
  atomic_store(&broker.output.format, (int)broker.config.log.format);
  broker.origin = (struct log_origin){.output = &broker.output, .shard = -1};
  log_init(&broker.log, log_output_write, &broker.origin, broker.config.log.level);
  struct error error = {0};
  enum status status = start(&broker, &error);
  if (status == OK) {
    broker.ready = true;
    log_ready(&broker);
    broker_start_sys(&broker);
    service_notify("READY=1\nSTATUS=serving");
    event_base_dispatch(broker.base);
    broker.ready = false;
    service_notify("STOPPING=1");
    (void)broker_roll_back(&broker, "the broker stops");
  } else {
    BROKER_LOG(&broker, LOG_ERROR, "start_failed", FIELD_TEXT("error", error.text));
  }
  bool good = stop(&broker) && status == OK;
  if (status == OK)
    BROKER_LOG(&broker, LOG_INFO, "stopped", FIELD_UINT("uptime_s", (broker_now().ms - broker.started.ms) / 1000));
  config_deinit(&broker.config);
  return good ? BROKER_OK : BROKER_FAILED;
}
