// What a run says: one line of JSON on stdout at its end, and a line of progress on stderr while it runs, when that is a
// terminal.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/bench.h"
#include "cli/bench_histogram.h"
#include "cli/bench_process.h"
#include "cli/json.h"

// Points in time between which a broker is measured. Without a process identifier of the broker its numbers are 0.
struct bench_usage {
  uint64_t time_ns;
  uint64_t own_cpu_ns;
  uint64_t broker_cpu_ns;
};

CHECK_RESULT enum status bench_usage_take(const struct bench_options *options, struct bench_usage *out, struct error *error);
CHECK_RESULT enum status bench_memory_take(const struct bench_options *options, struct process_memory *out,
                                           struct error *error);

// The line begins with the mode and what is common to all modes; members may be added until it is printed.
struct bench_report {
  struct buffer buffer;
  struct json json;
};

void bench_report_begin(struct bench_report *report, const struct bench_options *options, const char *mode);
void bench_report_usage(struct bench_report *report, const struct bench_usage *from, const struct bench_usage *to);
void bench_report_memory(struct bench_report *report, const struct process_memory *memory);
void bench_report_latencies(struct bench_report *report, const struct histogram *histogram);
void bench_report_number(struct bench_report *report, const char *name, double value);
void bench_report_uint(struct bench_report *report, const char *name, uint64_t value);
void bench_report_bool(struct bench_report *report, const char *name, bool value);

// Prints and frees. Returns an exit code: COMMAND_OK when `passed` and the line could be written.
int bench_report_end(struct bench_report *report, bool passed);

// A failure that leaves nothing to report: prints the error, returns COMMAND_FAILED.
int bench_failed(const struct error *error);

// Shows "text" on stderr in place of the line before, when it is a terminal and not --quiet; at most a few times a second.
struct bench_progress {
  uint64_t last_ns;
  bool shown;
};
void bench_progress(struct bench_progress *progress, const struct bench_options *options, uint64_t now_ns,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));
void bench_progress_end(struct bench_progress *progress);
