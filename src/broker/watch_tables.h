// The tables behind /metrics and $SYS: what they publish, and what docs/metrics.md says about it.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

const char *metric_type_name(enum metric_type type);  // "counter"

// Where the value of a row is, and which series come of it.
enum metric_source {
  METRIC_U64,               // a uint64_t of struct status_view
  METRIC_U32,               // a uint32_t
  METRIC_I64,               // an int64_t there, shown as 0 when it is negative
  METRIC_BOOL,              // a bool there
  METRIC_SHARDS_COUNT,      // how many shards there are
  METRIC_SHARDS,            // a uint64_t of struct counters: one series per shard
  METRIC_PACKETS_RECEIVED,  // one series per packet type that a server may receive
  METRIC_PACKETS_SENT,      // one per packet type that a server may send
  METRIC_REFUSED,           // one per enum refuse_reason
  METRIC_DROPPED,           // one per enum drop_reason
  METRIC_FAULTS,            // one per reason code that has occurred
  METRIC_BUILD_INFO,        // always 1, the labels are what is told
  METRIC_PROCESS,           // a uint64_t of struct process_stats
  METRIC_CERTIFICATES,      // one per listener with TLS
  METRIC_CRLS,              // one per listener with a CRL
  // Of a broker with a journal only
  METRIC_JOURNAL,                    // a uint64_t of struct store_counters
  METRIC_JOURNAL_STATE,              // one per enum journal_state: 1 for that which holds
  METRIC_JOURNAL_BYTES_PER_MESSAGE,  // a quotient
  METRIC_JOURNAL_COMMITS,            // a histogram
};

struct metric {
  const char *name;
  enum metric_type type;
  const char *help;    // NULL: a further series of the row before, which has the same name
  const char *labels;  // for the documentation: "reason"; NULL: none
  const char *series;  // the labels of this row's only series: "reason=\"limit\""; NULL: none, or the source makes them
  enum metric_source source;
  uint8_t decimals;  // the value is in units of 10^-decimals of what the name says
  size_t offset;
};

const struct metric *metrics_table(size_t *out_count);

struct sys_topic_row {
  const char *topic;
  const char *help;
};

// The rows in order, NULL behind the last. Topics of averages are one row, "{1min,5min,15min}" being their last level.
const struct sys_topic_row *sys_topics_row(size_t index);
