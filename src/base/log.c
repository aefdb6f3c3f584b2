// Formatting and rate limits. Every value is escaped here, so that a peer's bytes can neither break a line nor drive a
// terminal.
#include "base/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

void log_init(struct log *log, log_sink *sink, void *context, enum log_level level)
{
  *log = (struct log){.sink = sink, .context = context, .level = level};
}

// The event's entry: the one that has it, else a free one, else the one whose window began first.
static struct log_rate *find_rate(struct log *log, const char *event)
{
  struct log_rate *oldest = &log->rates[0];
  for (size_t i = 0; i < LOG_RATE_EVENTS; i++) {
    struct log_rate *rate = &log->rates[i];
    if (!rate->event || rate->event == event || strcmp(rate->event, event) == 0) return rate;
    if (rate->window_start_ms < oldest->window_start_ms) oldest = rate;
  }
  *oldest = (struct log_rate){0};
  return oldest;
}

// Whether the event may be logged now. `*out_suppressed`: how many were left out in the window that has just ended.
static bool admit(struct log *log, struct mono now, const char *event, uint32_t *out_suppressed)
{
  struct log_rate *rate = find_rate(log, event);
  *out_suppressed = 0;
  if (!rate->event || now.ms - rate->window_start_ms >= LOG_RATE_WINDOW_MS) {
    if (rate->event && rate->count > LOG_RATE_BURST) *out_suppressed = rate->count - LOG_RATE_BURST;
    *rate = (struct log_rate){.event = event, .window_start_ms = now.ms};
  }
  if (rate->count < UINT32_MAX) rate->count++;
  return rate->count <= LOG_RATE_BURST;
}

void log_write(struct log *log, struct mono now, enum log_level level, const char *event, const struct log_field *fields,
               size_t count)
{
  assert(count <= LOG_FIELDS_MAX);
  if (!log->sink || level > log->level) return;

  uint32_t suppressed = 0;
  if (level != LOG_ERROR && !admit(log, now, event, &suppressed)) return;
  if (suppressed == 0) {
    log->sink(log->context, level, event, fields, count);
    return;
  }
  struct log_field extended[LOG_FIELDS_MAX + 1];
  if (count > 0) memcpy(extended, fields, count * sizeof *fields);
  extended[count] = FIELD_UINT("suppressed", suppressed);
  log->sink(log->context, level, event, extended, count + 1);
}

// Where formatting writes. Once something did not fit, nothing more is written.
struct writer {
  char *out;
  size_t size;
  size_t length;
  bool overflow;
};

static void put(struct writer *writer, const char *bytes, size_t size)
{
  if (writer->overflow || size > writer->size - writer->length) {
    writer->overflow = true;
    return;
  }
  memcpy(writer->out + writer->length, bytes, size);
  writer->length += size;
}

static void put_text(struct writer *writer, const char *text)
{
  put(writer, text, strlen(text));
}

static void put_format(struct writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));

// For short things only.
static void put_format(struct writer *writer, const char *format, ...)
{
  char text[64];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  assert(length >= 0);
  assert((size_t)length < sizeof text);
  put(writer, text, (size_t)length);
}

// RFC 3339 with milliseconds. Years outside 0000-9999 have no such form and are shown as the nearest that has.
static void put_time(struct writer *writer, struct wall time)
{
  const int64_t day_ms = 86400000, first_ms = -62167219200000, last_ms = 253402300799999;
  int64_t ms = time.ms < first_ms ? first_ms : time.ms > last_ms ? last_ms : time.ms;
  ms -= first_ms;
  unsigned in_day = (unsigned)(ms % day_ms);

  // Days since 0000-03-01, so that the leap day is a year's last. Those of January and February 0000 belong to the year
  // before.
  int64_t days = ms / day_ms - 60 + 146097;
  unsigned era_day = (unsigned)(days % 146097);
  unsigned era_year = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
  unsigned year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
  unsigned month_from_march = (5 * year_day + 2) / 153;
  unsigned day = year_day - (153 * month_from_march + 2) / 5 + 1;
  unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
  unsigned year = (unsigned)(days / 146097) * 400 + era_year + (month <= 2 ? 1 : 0) - 400;
  put_format(writer, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", year, month, day, in_day / 3600000, in_day / 60000 % 60,
             in_day / 1000 % 60, in_day % 1000);
}

static const char *level_name(enum log_level level)
{
  switch (level) {
    case LOG_ERROR: return "error";
    case LOG_WARNING: return "warning";
    case LOG_INFO: return "info";
    case LOG_DEBUG: return "debug";
  }
  return "unknown";
}

static void put_escaped_character(struct writer *writer, enum log_format format, struct utf8_character character,
                                  const uint8_t *at)
{
  uint32_t code = character.code;
  if (code == '"')
    put_text(writer, "\\\"");
  else if (code == '\\')
    put_text(writer, "\\\\");
  else if (code == '\n')
    put_text(writer, "\\n");
  else if (code == '\r')
    put_text(writer, "\\r");
  else if (code == '\t')
    put_text(writer, "\\t");
  else if ((code < 0x20 || code == 0x7F) && format == LOG_TEXT)
    put_format(writer, "\\x%02x", (unsigned)code);
  else if (utf8_is_control(code))
    put_format(writer, "\\u%04x", (unsigned)code);
  else
    put(writer, (const char *)at, character.size);
}

static void put_quoted(struct writer *writer, enum log_format format, struct span span)
{
  struct span whole = span;
  if (span.size > LOG_SPAN_BYTES) span.size = utf8_cut(span, LOG_SPAN_BYTES);
  put_text(writer, "\"");
  for (size_t i = 0; i < span.size;) {
    struct utf8_character character = utf8_next(span_from(span, i));
    if (character.size > 0) {
      put_escaped_character(writer, format, character, span.at + i);
      i += character.size;
    } else {
      if (format == LOG_JSON)
        put_text(writer, "\xEF\xBF\xBD");
      else
        put_format(writer, "\\x%02x", (unsigned)span.at[i]);
      i++;
    }
  }
  put_text(writer, span.size < whole.size ? "...\"" : "\"");
}

// In text, plain words stay without quotes.
static bool is_plain(struct span span)
{
  if (span.size == 0 || span.size > LOG_SPAN_BYTES) return false;
  for (size_t i = 0; i < span.size; i++) {
    uint8_t c = span.at[i];
    bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    if (!plain) return false;
  }
  return true;
}

static void put_value(struct writer *writer, enum log_format format, const struct log_field *field)
{
  switch (field->kind) {
    case LOG_FIELD_SPAN:
      if (format == LOG_TEXT && is_plain(field->span))
        put(writer, (const char *)field->span.at, field->span.size);
      else
        put_quoted(writer, format, field->span);
      break;
    case LOG_FIELD_INT: put_format(writer, "%lld", (long long)field->i); break;
    case LOG_FIELD_UINT: put_format(writer, "%llu", (unsigned long long)field->u); break;
    case LOG_FIELD_BOOL: put_text(writer, field->b ? "true" : "false"); break;
  }
}

static void put_field(struct writer *writer, enum log_format format, const struct log_field *field)
{
  put_text(writer, format == LOG_JSON ? ",\"" : " ");
  put_text(writer, field->name);
  put_text(writer, format == LOG_JSON ? "\":" : "=");
  put_value(writer, format, field);
}

size_t log_format_line(enum log_format format, struct wall time, enum log_level level, const char *event,
                       const struct log_field *fields, size_t count, char *out, size_t size)
{
  bool json = format == LOG_JSON;
  const char *end = json ? "}\n" : "\n";
  const char *cut_end = json ? ",\"cut\":true}\n" : " cut=true\n";
  if (size < strlen(cut_end)) return 0;

  // What the longer ending needs is kept free, so that it fits wherever the fields stop fitting.
  struct writer writer = {.out = out, .size = size - strlen(cut_end)};
  if (json) put_text(&writer, "{\"time\":\"");
  put_time(&writer, time);
  put_text(&writer, json ? "\",\"level\":\"" : " ");
  put_text(&writer, level_name(level));
  put_text(&writer, json ? "\",\"event\":\"" : " ");
  put_text(&writer, event);
  if (json) put_text(&writer, "\"");
  if (writer.overflow) return 0;

  for (size_t i = 0; i < count && !writer.overflow; i++) {
    size_t before = writer.length;
    put_field(&writer, format, &fields[i]);
    if (writer.overflow) writer.length = before;
  }
  const char *ending = writer.overflow ? cut_end : end;
  memcpy(out + writer.length, ending, strlen(ending));
  return writer.length + strlen(ending);
}
