// The connections mode: many clients connect and stay; what each costs the broker in CPU time and in memory.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/bench_engine.h"
#include "cli/bench_histogram.h"
#include "cli/bench_packets.h"
#include "cli/bench_report.h"
#include "cli/commands.h"

enum { SETTLE_MS = 300, IDLE_TURN_MS = 100 };

struct crowd {
  const struct bench_options *options;
  struct engine engine;
  struct engine_connection *connections;  // options->connections, and one more that warms the broker up
  uint32_t count;
  uint32_t ready;
  struct histogram *times;  // from connect() until the broker has accepted, and subscribed where that is asked
  struct bench_progress progress;
  struct bench_usage before, connected, idle;
  struct process_memory memory_before, memory_after;
};

static void on_ready(void *context, struct engine_connection *connection)
{
  struct crowd *crowd = context;
  crowd->ready++;
  histogram_add(crowd->times, crowd->engine.now_ns - connection->opened_ns);
  bench_progress(&crowd->progress, crowd->options, crowd->engine.now_ns, "connecting: %u", crowd->ready);
}

static void on_message(void *context, struct engine_connection *connection, const uint8_t *payload, size_t size)
{
  // Retained messages of somebody else's, at most.
  (void)context, (void)connection, (void)payload, (void)size;
}

static void on_acknowledged(void *context, struct engine_connection *connection, uint16_t packet_id, enum mqtt_reason reason)
{
  (void)context, (void)connection, (void)packet_id, (void)reason;
}

static const struct engine_handlers handlers = {on_ready, on_message, on_acknowledged};

static enum status prepare(void *context, struct engine_connection *connection, struct error *error)
{
  struct crowd *crowd = context;
  const struct bench_options *options = crowd->options;
  unsigned run = (unsigned)getpid() & 0xffffff;
  char client_id[32];
  snprintf(client_id, sizeof client_id, "c%06x-%u", run, connection->index);
  struct packet_login login = {.version = options->version,
                               .client_id = client_id,
                               .user_name = options->user_name,
                               .password = options->password,
                               .clean_start = true};
  enum status status = packet_write_connect(&login, &connection->hello);
  if (!status && options->subscribe) {
    char filter[SHAPE_TEXT_SIZE];
    snprintf(filter, sizeof filter, "%s/%06x/%05u", options->prefix, run, connection->index);
    status = packet_write_subscribe(options->version, NULL, 0, filter, (uint8_t)options->qos, &connection->subscribe);
  }
  return status ? error_set(error, status, "cannot build the packets to connect with") : OK;
}

static enum status stay(struct crowd *crowd, uint64_t duration_ms, struct error *error)
{
  uint64_t until_ns = bench_now_ns() + duration_ms * BENCH_NS_PER_MS;
  enum status status = OK;
  for (uint64_t now_ns = bench_now_ns(); now_ns < until_ns && !status; now_ns = bench_now_ns()) {
    uint64_t left_ns = until_ns - now_ns;
    uint64_t turn_ns = IDLE_TURN_MS * BENCH_NS_PER_MS;
    status = engine_poll(&crowd->engine, left_ns < turn_ns ? left_ns : turn_ns, error);
    bench_progress(&crowd->progress, crowd->options, now_ns, "idle: %.0f s left", (double)left_ns / BENCH_NS_PER_S);
  }
  return status;
}

static enum status open_range(struct crowd *crowd, uint32_t first, uint32_t end, struct error *error)
{
  struct engine_opening opening = {.prepare = prepare, .ready_count = &crowd->ready, .opened = crowd->ready};
  enum status status = OK;
  for (uint32_t i = first; i < end && !status; i++)
    status = engine_open_next(&crowd->engine, &opening, &crowd->connections[i], error);
  return status ? status : engine_open_finish(&crowd->engine, &opening, error);
}

static enum status run(struct crowd *crowd, struct error *error)
{
  const struct bench_options *options = crowd->options;
  // The first connection pays for the broker's own first steps.
  enum status status = open_range(crowd, 0, 1, error);
  if (!status) status = stay(crowd, SETTLE_MS, error);
  if (!status) status = bench_memory_take(options, &crowd->memory_before, error);
  if (!status) status = bench_usage_take(options, &crowd->before, error);
  if (!status) status = open_range(crowd, 1, crowd->count, error);
  if (!status) status = bench_usage_take(options, &crowd->connected, error);
  if (!status) status = stay(crowd, SETTLE_MS, error);
  if (!status) status = bench_memory_take(options, &crowd->memory_after, error);
  struct bench_usage settled = {0};
  if (!status) status = bench_usage_take(options, &settled, error);
  if (!status) status = stay(crowd, options->idle_ms, error);
  if (!status) status = bench_usage_take(options, &crowd->idle, error);
  if (status) return status;
  crowd->idle.broker_cpu_ns -= settled.broker_cpu_ns;
  crowd->idle.time_ns -= settled.time_ns;
  return OK;
}

static int report(const struct crowd *crowd)
{
  struct bench_report out;
  double count = (double)crowd->options->connections;
  bench_report_begin(&out, crowd->options, "connections");
  bench_report_uint(&out, "connections", crowd->options->connections);
  bench_report_bool(&out, "subscribed", crowd->options->subscribe);
  bench_report_usage(&out, &crowd->before, &crowd->connected);
  bench_report_number(&out, "connects_per_s",
                      count * BENCH_NS_PER_S / (double)(crowd->connected.time_ns - crowd->before.time_ns));
  bench_report_latencies(&out, crowd->times);
  if (crowd->options->broker_pid) {
    double grown = (double)crowd->memory_after.rss_bytes - (double)crowd->memory_before.rss_bytes;
    bench_report_number(&out, "broker_us_per_connect",
                        (double)(crowd->connected.broker_cpu_ns - crowd->before.broker_cpu_ns) / 1e3 / count);
    bench_report_number(&out, "broker_bytes_per_connection", grown / count);
    bench_report_memory(&out, &crowd->memory_after);
    if (crowd->options->idle_ms)
      bench_report_number(&out, "broker_idle_cpu_percent",
                          100 * (double)crowd->idle.broker_cpu_ns / (double)crowd->idle.time_ns);
  }
  return bench_report_end(&out, crowd->ready == crowd->count);
}

int bench_connections(const struct bench_options *options)
{
  struct error error = {0};
  struct crowd crowd = {.options = options, .engine = {.epoll_fd = -1}, .count = (uint32_t)options->connections + 1};
  crowd.connections = calloc(crowd.count, sizeof *crowd.connections);
  crowd.times = calloc(1, sizeof *crowd.times);
  enum status status = OK;
  if (!crowd.connections || !crowd.times) status = error_set(&error, ERR_NO_MEMORY, "out of memory");
  for (uint32_t i = 0; !status && i < crowd.count; i++) crowd.connections[i].index = i;
  if (!status) status = engine_init(&crowd.engine, options, &handlers, &crowd, &error);
  if (!status) status = run(&crowd, &error);
  bench_progress_end(&crowd.progress);
  int code = status ? bench_failed(&error) : report(&crowd);
  for (uint32_t i = 0; crowd.connections && i < crowd.count; i++) engine_close(&crowd.engine, &crowd.connections[i]);
  engine_deinit(&crowd.engine);
  free(crowd.connections);
  free(crowd.times);
  return code;
}
