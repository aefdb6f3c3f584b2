// Structured logs: a stable event name and typed fields, formatted as text or as one JSON object a line. Formatting is here
// and pure; writing is the sink's business, which the composition gives. Never log payloads or secrets.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/span.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
  const char *name;
  enum { LOG_FIELD_SPAN, LOG_FIELD_INT, LOG_FIELD_UINT, LOG_FIELD_BOOL } kind;
  union {
    struct span span;  // bytes that need not be UTF-8: escaped when formatted, cut at 256 bytes
    int64_t i;
    uint64_t u;
    bool b;
  };
};

#define FIELD_TEXT(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_SPAN, .span = span_text(v)})
#define FIELD_SPAN(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_SPAN, .span = (v)})
#define FIELD_INT(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_INT, .i = (v)})
#define FIELD_UINT(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_UINT, .u = (v)})
#define FIELD_BOOL(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_BOOL, .b = (v)})

// Takes one event. Called on the thread that logs.
typedef void log_sink(void *context, enum log_level level, const char *event, const struct log_field *fields, size_t count);

enum {
  LOG_RATE_EVENTS = 32,
  LOG_RATE_BURST = 20,
  LOG_RATE_WINDOW_MS = 10000,
  LOG_FIELDS_MAX = 32,   // of one event
  LOG_SPAN_BYTES = 256,  // of one field's span; the rest is cut
};

// One per thread. Per event name at most LOG_RATE_BURST lines each LOG_RATE_WINDOW_MS; how many were left out is told with
// the first line of the next window (field "suppressed"). Events at LOG_ERROR are never left out. When more than
// LOG_RATE_EVENTS names are about, the one whose window began first is forgotten. Event names are string literals: their
// pointers are kept.
struct log {
  log_sink *sink;  // NULL: nothing is logged
  void *context;
  enum log_level level;  // events above it are dropped before anything is formatted
  struct log_rate {
    const char *event;
    uint64_t window_start_ms;
    uint32_t count;
  } rates[LOG_RATE_EVENTS];
};

void log_init(struct log *log, log_sink *sink, void *context, enum log_level level);

void log_write(struct log *log, struct mono now, enum log_level level, const char *event, const struct log_field *fields,
               size_t count);

#define LOG(log, now, level_, event, ...)                                                                                   \
  do {                                                                                                                      \
    if ((level_) <= (log)->level) {                                                                                         \
      const struct log_field log_fields_[] = {__VA_ARGS__};                                                                 \
      log_write((log), (now), (level_), (event), log_fields_, sizeof log_fields_ / sizeof log_fields_[0]);                  \
    }                                                                                                                       \
  } while (0)

// Formats one line with its newline into `out`; returns its length, never more than `size`. Fields that do not fit are left
// out from the first such on, and the field "cut" says so; 0 when not even time, level and event fit (4 KiB always do for
// LOG_FIELDS_MAX fields of usual length). Not NUL-terminated. A line is always one line of valid UTF-8 without control
// characters: in text they are written \n, \x1b or \u009b, and bytes that are not UTF-8 as \xNN; in JSON as \u001b and
// U+FFFD.
// Text:  2026-01-31T12:00:00.123Z info ready listeners=2 url="mqtt://127.0.0.1:1883"
// JSON:  {"time":"2026-01-31T12:00:00.123Z","level":"info","event":"ready","listeners":2}
size_t log_format_line(enum log_format format, struct wall time, enum log_level level, const char *event,
                       const struct log_field *fields, size_t count, char *out, size_t size);
