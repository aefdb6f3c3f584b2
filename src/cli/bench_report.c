#include "cli/bench_report.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli/bench_engine.h"
#include "cli/commands.h"

enum { PROGRESS_INTERVAL_MS = 250 };

static uint64_t own_cpu_ns(void)
{
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return (uint64_t)used.tv_sec * BENCH_NS_PER_S + (uint64_t)used.tv_nsec;
}

enum status bench_usage_take(const struct bench_options *options, struct bench_usage *out, struct error *error)
{
  struct bench_usage usage = {0};
  if (options->broker_pid) {
    enum status status = process_cpu((pid_t)options->broker_pid, &usage.broker_cpu_ns);
    if (status)
      return error_set(error, status, "cannot read the CPU time of process %lu", (unsigned long)options->broker_pid);
  }
  usage.own_cpu_ns = own_cpu_ns();
  usage.time_ns = bench_now_ns();
  *out = usage;
  return OK;
}

enum status bench_memory_take(const struct bench_options *options, struct process_memory *out, struct error *error)
{
  struct process_memory memory = {0};
  if (options->broker_pid) {
    enum status status = process_memory((pid_t)options->broker_pid, &memory);
    if (status) return error_set(error, status, "cannot read the memory of process %lu", (unsigned long)options->broker_pid);
  }
  *out = memory;
  return OK;
}

// ---- The line of JSON

void bench_report_number(struct bench_report *report, const char *name, double value)
{
  json_member_number(&report->json, name, value, 4);
}

void bench_report_uint(struct bench_report *report, const char *name, uint64_t value)
{
  json_member_uint(&report->json, name, value);
}

void bench_report_bool(struct bench_report *report, const char *name, bool value)
{
  json_member_bool(&report->json, name, value);
}

static const char *version_name(enum mqtt_version version)
{
  switch (version) {
    case MQTT_3_1: return "3.1";
    case MQTT_3_1_1: return "3.1.1";
    case MQTT_5_0: return "5.0";
  }
  return "?";
}

void bench_report_begin(struct bench_report *report, const struct bench_options *options, const char *mode)
{
  *report = (struct bench_report){0};
  json_begin(&report->json, &report->buffer);
  json_open_object(&report->json);
  json_member_text(&report->json, "mode", span_text(mode));
  json_member_text(&report->json, "version", span_text(options->raw ? "raw" : version_name(options->version)));
}

void bench_report_usage(struct bench_report *report, const struct bench_usage *from, const struct bench_usage *to)
{
  bench_report_number(report, "seconds", (double)(to->time_ns - from->time_ns) / BENCH_NS_PER_S);
  bench_report_number(report, "bench_cpu_s", (double)(to->own_cpu_ns - from->own_cpu_ns) / BENCH_NS_PER_S);
  bench_report_number(report, "broker_cpu_s", (double)(to->broker_cpu_ns - from->broker_cpu_ns) / BENCH_NS_PER_S);
}

void bench_report_memory(struct bench_report *report, const struct process_memory *memory)
{
  bench_report_uint(report, "broker_rss_bytes", memory->rss_bytes);
  bench_report_uint(report, "broker_pss_bytes", memory->pss_bytes);
}

void bench_report_latencies(struct bench_report *report, const struct histogram *histogram)
{
  static const struct {
    const char *name;
    double percent;
  } rows[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99_9", 99.9}};
  json_key(&report->json, "latency_us");
  json_open_object(&report->json);
  bench_report_uint(report, "samples", histogram->count);
  bench_report_number(report, "mean", histogram_mean(histogram) / 1e3);
  bench_report_number(report, "min", (double)histogram->least / 1e3);
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    bench_report_number(report, rows[i].name, (double)histogram_percentile(histogram, rows[i].percent) / 1e3);
  bench_report_number(report, "max", (double)histogram->most / 1e3);
  json_close_object(&report->json);
}

int bench_report_end(struct bench_report *report, bool passed)
{
  bench_report_bool(report, "verified", passed);
  json_close_object(&report->json);
  struct span line = buffer_peek(&report->buffer);
  bool written = !report->json.failed && fwrite(line.at, 1, line.size, stdout) == line.size && fputc('\n', stdout) != EOF &&
                 fflush(stdout) == 0;
  buffer_deinit(&report->buffer);
  if (!written) fprintf(stderr, "skerry bench: the result could not be written\n");
  return written && passed ? COMMAND_OK : COMMAND_FAILED;
}

int bench_failed(const struct error *error)
{
  fprintf(stderr, "skerry bench: %s\n", error->text);
  return COMMAND_FAILED;
}

// ---- Progress

void bench_progress(struct bench_progress *progress, const struct bench_options *options, uint64_t now_ns,
                    const char *format, ...)
{
  if (options->quiet || now_ns - progress->last_ns < PROGRESS_INTERVAL_MS * (uint64_t)BENCH_NS_PER_MS) return;
  progress->last_ns = now_ns;
  if (!isatty(STDERR_FILENO)) return;
  progress->shown = true;
  fputs("\r\033[K", stderr);
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fflush(stderr);
}

void bench_progress_end(struct bench_progress *progress)
{
  if (progress->shown) fputs("\r\033[K", stderr);
  progress->shown = false;
}
