// The broker's Prometheus page, as far as `skerry top` shows it. Pure: the page and the time come in.
#pragma once

#include "cli/top_table.h"

enum { TOP_REASON_SIZE = 32, TOP_REASONS_MAX = 16 };

struct top_reason {
  char name[TOP_REASON_SIZE];
  uint64_t count;
};

// Zero it before the first page. A figure that the last page did not have is not known.
struct top_metrics {
  bool known;  // the last page had figures
  struct top_counter uptime_s;
  struct top_counter clients;
  struct top_counter sessions;
  struct top_counter subscriptions;  // shared ones too
  struct top_counter retained;
  struct top_counter received;  // PUBLISH packets
  struct top_counter delivered;
  struct top_counter bytes_in;
  struct top_counter bytes_out;
  struct top_counter queued;
  struct top_counter in_flight;
  struct top_counter expired;
  struct top_counter dropped;
  struct top_counter refused;
  struct top_counter memory_used_bytes;
  struct top_counter memory_limit_bytes;
  struct top_counter resident_bytes;
  struct top_counter cpu_us;                   // its rate: microseconds of CPU in a second
  struct top_reason reasons[TOP_REASONS_MAX];  // of the dropped copies; those that occurred, most frequent first
  size_t reason_count;
};

// Takes a whole page. False when it has none of Skerry's figures; then nothing is known any more.
bool top_metrics_update(struct top_metrics *metrics, struct span page, uint64_t now_ms);

struct top_sample {
  struct span name;
  struct span labels;  // what is between the braces; empty without
  double value;        // finite, not negative
};

// Takes the next sample off the front of the page; comments, and lines that are no such samples, are skipped. False at the
// end. (Prometheus, text exposition format 0.0.4)
bool top_next_sample(struct span *page, struct top_sample *out_sample);

// A label's value, its escapes as they are; empty when there is no such label.
struct span top_sample_label(const struct top_sample *sample, const char *name);
