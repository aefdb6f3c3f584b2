// The throughput and latency modes: everybody connects, then warm-up, measurement and drain, then the report.
#include "cli/bench_load.h"

static enum status open_everybody(struct load *load, struct error *error)
{
  struct engine_opening opening = {.prepare = load_prepare, .ready_count = &load->ready};
  for (uint32_t i = 0; i < load->shape.subscribers; i++) {
    enum status status = engine_open_next(&load->engine, &opening, &load->subscribers[i].connection, error);
    if (status) return status;
  }
  // No message may come before the last subscription stands.
  enum status status = engine_open_finish(&load->engine, &opening, error);
  for (uint32_t i = 0; i < load->shape.publishers && !status; i++)
    status = engine_open_next(&load->engine, &opening, &load->publishers[i].connection, error);
  return status ? status : engine_open_finish(&load->engine, &opening, error);
}

struct measurement {
  struct bench_usage before;
  struct bench_usage after;
  struct process_memory memory;
  uint64_t published_before;
  uint64_t received_before;
};

static enum status warm_up(struct load *load, struct error *error)
{
  // A run of a given number of messages is measured whole.
  if (load->options->messages) return OK;
  struct load_goal goal = {.phase = "warming up",
                           .until_ns = bench_now_ns() + load->options->warm_up_ms * BENCH_NS_PER_MS,
                           .published = UINT64_MAX};
  return load_run(load, &goal, error);
}

static enum status measure(struct load *load, struct error *error)
{
  if (load->stalled) return OK;
  struct load_goal goal = {.phase = "measuring", .until_ns = UINT64_MAX, .published = load->sent_limit};
  if (!load->options->messages) goal.until_ns = bench_now_ns() + load->options->duration_ms * BENCH_NS_PER_MS;
  return load_run(load, &goal, error);
}

static enum status drain(struct load *load, struct error *error)
{
  load->sending = false;
  struct load_goal goal = {.phase = "draining",
                           .until_ns = UINT64_MAX,
                           .acknowledged = load->options->qos ? load->counts.published : 0,
                           .received = load_expected(load)};
  return load_run(load, &goal, error);
}

static enum status run(struct load *load, struct measurement *out, struct error *error)
{
  load->sending = true;
  load->rate_start_ns = bench_now_ns();
  load->measure_from_ns = UINT64_MAX;
  enum status status = warm_up(load, error);
  if (!status) status = bench_usage_take(load->options, &out->before, error);
  if (status) return status;
  load->measure_from_ns = load->options->messages ? 0 : out->before.time_ns;
  out->published_before = load->counts.published;
  out->received_before = load->verdict.received;
  status = measure(load, error);
  if (!status) status = bench_memory_take(load->options, &out->memory, error);
  // With the drain inside, exactly what was sent in the interval was also delivered in it, but for one window at its start.
  if (!status) status = drain(load, error);
  if (!status) status = bench_usage_take(load->options, &out->after, error);
  return status;
}

static void report_shape(struct bench_report *report, const struct load *load)
{
  const struct bench_options *options = load->options;
  bench_report_uint(report, "qos", options->qos);
  bench_report_uint(report, "publishers", options->publishers);
  bench_report_uint(report, "subscribers", options->subscribers);
  bench_report_uint(report, "topics", options->topics);
  bench_report_uint(report, "filters", options->filters);
  bench_report_uint(report, "payload_bytes", options->payload_bytes);
  bench_report_uint(report, "packet_bytes", load->publishers[0].layout.size);
  bench_report_uint(report, "ahead", load->ahead);
  if (options->qos) bench_report_uint(report, "window", load->publishers[0].window);
  if (options->rate) bench_report_uint(report, "rate", options->rate);
}

static int report(const struct load *load, const struct measurement *measured)
{
  struct bench_report out;
  bench_report_begin(&out, load->options, load->options->rate ? "latency" : "throughput");
  report_shape(&out, load);
  bench_report_usage(&out, &measured->before, &measured->after);
  double seconds = (double)(measured->after.time_ns - measured->before.time_ns) / BENCH_NS_PER_S;
  double published = (double)(load->counts.published - measured->published_before);
  double received = (double)(load->verdict.received - measured->received_before);
  double broker_us = (double)(measured->after.broker_cpu_ns - measured->before.broker_cpu_ns) / 1e3;
  double own_us = (double)(measured->after.own_cpu_ns - measured->before.own_cpu_ns) / 1e3;
  bench_report_number(&out, "published_per_s", published / seconds);
  bench_report_number(&out, "delivered_per_s", received / seconds);
  if (load->options->broker_pid) {
    // A message costs when it comes in and when it goes out; "per message" counts both.
    bench_report_number(&out, "broker_us_per_message", broker_us / (published + received));
    bench_report_number(&out, "broker_us_per_publish", broker_us / published);
    bench_report_number(&out, "broker_us_per_delivery", broker_us / received);
    bench_report_memory(&out, &measured->memory);
  }
  bench_report_number(&out, "bench_us_per_delivery", own_us / received);
  if (load->latencies) bench_report_latencies(&out, load->latencies);
  load_report_verdict(&out, load);
  return bench_report_end(&out, load_passed(load));
}

int bench_throughput(const struct bench_options *options)
{
  struct load load;
  struct measurement measured = {0};
  struct error error = {0};
  enum status status = load_init(&load, options, &error);
  if (!status) status = open_everybody(&load, &error);
  if (!status) status = run(&load, &measured, &error);
  bench_progress_end(&load.progress);
  int code = status ? bench_failed(&error) : report(&load, &measured);
  load_deinit(&load);
  return code;
}
