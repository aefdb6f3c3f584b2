// The backlog mode: messages for a session whose client is away, and how fast and how completely it gets them when it is
// back.
#include "cli/bench_load.h"

struct backlog {
  struct bench_usage queue_begin, queued, drain_begin, drained;
  struct process_memory memory_before, memory_queued, memory_drained;
};

static enum status open_one(struct load *load, struct engine_connection *connection, struct error *error)
{
  struct engine_opening opening = {.prepare = load_prepare, .ready_count = &load->ready, .opened = load->ready};
  enum status status = engine_open_next(&load->engine, &opening, connection, error);
  return status ? status : engine_open_finish(&load->engine, &opening, error);
}

static enum status open_publishers(struct load *load, struct error *error)
{
  struct engine_opening opening = {.prepare = load_prepare, .ready_count = &load->ready, .opened = load->ready};
  enum status status = OK;
  for (uint32_t i = 0; i < load->options->publishers && !status; i++)
    status = engine_open_next(&load->engine, &opening, &load->publishers[i].connection, error);
  return status ? status : engine_open_finish(&load->engine, &opening, error);
}

static enum status queue_up(struct load *load, struct backlog *backlog, struct error *error)
{
  enum status status = open_publishers(load, error);
  if (!status) status = bench_memory_take(load->options, &backlog->memory_before, error);
  if (!status) status = bench_usage_take(load->options, &backlog->queue_begin, error);
  load->sending = true;
  struct load_goal goal = {
      .phase = "queueing", .until_ns = UINT64_MAX, .published = load->sent_limit, .acknowledged = load->sent_limit};
  if (!status) status = load_run(load, &goal, error);
  if (!status) status = bench_usage_take(load->options, &backlog->queued, error);
  if (!status) status = bench_memory_take(load->options, &backlog->memory_queued, error);
  return status;
}

static enum status drain(struct load *load, struct backlog *backlog, struct error *error)
{
  struct engine_connection *subscriber = &load->subscribers[0].connection;
  enum status status = bench_usage_take(load->options, &backlog->drain_begin, error);
  if (!status) status = open_one(load, subscriber, error);
  if (status) return status;
  if (!subscriber->session_present) return error_set(error, ERR_NOT_FOUND, "the broker did not keep the session");
  struct load_goal goal = {.phase = "draining", .until_ns = UINT64_MAX, .received = load->counts.published};
  status = load_run(load, &goal, error);
  if (!status) status = bench_usage_take(load->options, &backlog->drained, error);
  if (!status) status = bench_memory_take(load->options, &backlog->memory_drained, error);
  return status;
}

static enum status run(struct load *load, struct backlog *backlog, struct error *error)
{
  struct engine_connection *subscriber = &load->subscribers[0].connection;
  load->persistent = true;
  // Nobody is there to receive, so only the window holds the publisher back.
  uint32_t publishers = (uint32_t)load->options->publishers;
  for (uint32_t i = 0; i < publishers; i++) load->publishers[i].listeners = 0;
  enum status status = open_one(load, subscriber, error);
  engine_close(&load->engine, subscriber);
  if (!status) status = queue_up(load, backlog, error);
  for (uint32_t i = 0; i < publishers; i++) load->publishers[i].listeners = 1;
  if (load->options->keep) return status;
  if (!status && !load->stalled) status = drain(load, backlog, error);
  if (status) return status;
  // A last visit with a clean start leaves no session behind.
  engine_close(&load->engine, subscriber);
  load->persistent = false;
  return open_one(load, subscriber, error);
}

static double seconds_between(const struct bench_usage *from, const struct bench_usage *to)
{
  return (double)(to->time_ns - from->time_ns) / BENCH_NS_PER_S;
}

static double broker_us_between(const struct bench_usage *from, const struct bench_usage *to)
{
  return (double)(to->broker_cpu_ns - from->broker_cpu_ns) / 1e3;
}

static int report(const struct load *load, const struct backlog *backlog)
{
  struct bench_report out;
  double count = (double)load->counts.published;
  bench_report_begin(&out, load->options, "backlog");
  bench_report_uint(&out, "qos", load->options->qos);
  bench_report_uint(&out, "payload_bytes", load->options->payload_bytes);
  bench_report_uint(&out, "messages", load->counts.published);
  bench_report_number(&out, "queued_per_s", count / seconds_between(&backlog->queue_begin, &backlog->queued));
  bool drained = !load->options->keep;
  if (drained)
    bench_report_number(&out, "drained_per_s",
                        (double)load->verdict.received / seconds_between(&backlog->drain_begin, &backlog->drained));
  if (load->options->broker_pid) {
    double grown = (double)backlog->memory_queued.rss_bytes - (double)backlog->memory_before.rss_bytes;
    bench_report_number(&out, "broker_us_per_queued", broker_us_between(&backlog->queue_begin, &backlog->queued) / count);
    if (drained)
      bench_report_number(&out, "broker_us_per_drained",
                          broker_us_between(&backlog->drain_begin, &backlog->drained) / count);
    bench_report_number(&out, "broker_bytes_per_queued", grown / count);
    bench_report_uint(&out, "broker_rss_bytes_queued", backlog->memory_queued.rss_bytes);
    if (drained) bench_report_memory(&out, &backlog->memory_drained);
  }
  if (drained) load_report_verdict(&out, load);
  bool passed = drained ? load_passed(load) : load->counts.acknowledged == load->sent_limit && !load->counts.refused;
  return bench_report_end(&out, passed);
}

int bench_backlog(const struct bench_options *options)
{
  struct load load;
  struct backlog backlog = {0};
  struct error error = {0};
  enum status status = load_init(&load, options, &error);
  if (!status) status = run(&load, &backlog, &error);
  bench_progress_end(&load.progress);
  int code = status ? bench_failed(&error) : report(&load, &backlog);
  load_deinit(&load);
  return code;
}
