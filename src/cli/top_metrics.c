// From Prometheus' text to figures. See top_metrics.h.
#include "cli/top_metrics.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_SIZE = 64 };

// ---- Samples

static bool is_blank(uint8_t c)
{
  return c == ' ' || c == '\t';
}

static struct span skip_blanks(struct span text)
{
  while (text.size > 0 && is_blank(text.at[0])) text = span_from(text, 1);
  return text;
}

// Up to the first byte that is one of `ends`, or all.
static struct span take_until(struct span *text, const char *ends)
{
  size_t size = 0;
  while (size < text->size && !(text->at[size] != '\0' && strchr(ends, text->at[size]))) size++;
  struct span taken = span_of(text->at, size);
  *text = span_from(*text, size);
  return taken;
}

// One name="value", with the comma behind it. False when there is none.
static bool take_label(struct span *labels, struct span *out_name, struct span *out_value)
{
  struct span rest = skip_blanks(*labels);
  *out_name = take_until(&rest, "= \t\"{}");
  rest = skip_blanks(rest);
  if (out_name->size == 0 || rest.size == 0 || rest.at[0] != '=') return false;
  rest = skip_blanks(span_from(rest, 1));
  if (rest.size == 0 || rest.at[0] != '"') return false;
  rest = span_from(rest, 1);
  size_t size = 0;
  while (size < rest.size && rest.at[size] != '"') size += rest.at[size] == '\\' ? 2 : 1;
  if (size >= rest.size) return false;
  *out_value = span_of(rest.at, size);
  rest = skip_blanks(span_from(rest, size + 1));
  if (rest.size > 0 && rest.at[0] == ',') rest = span_from(rest, 1);
  *labels = rest;
  return true;
}

static bool take_labels(struct span *line, struct span *out_labels)
{
  *out_labels = (struct span){0};
  if (line->size == 0 || line->at[0] != '{') return true;
  struct span rest = span_from(*line, 1);
  const uint8_t *start = rest.at;
  struct span name, value;
  while (take_label(&rest, &name, &value)) continue;
  rest = skip_blanks(rest);
  if (rest.size == 0 || rest.at[0] != '}') return false;
  *out_labels = span_of(start, (size_t)(rest.at - start));
  *line = span_from(rest, 1);
  return true;
}

static bool take_value(struct span *line, double *out)
{
  char text[NUMBER_SIZE];
  *line = skip_blanks(*line);
  struct span number = take_until(line, " \t\r");
  if (number.size == 0 || number.size >= sizeof text) return false;
  memcpy(text, number.at, number.size);
  text[number.size] = '\0';
  char *end = NULL;
  *out = strtod(text, &end);
  return end == text + number.size && isfinite(*out) && *out >= 0;
}

static bool read_sample(struct span line, struct top_sample *out)
{
  line = skip_blanks(line);
  if (line.size == 0 || line.at[0] == '#') return false;
  out->name = take_until(&line, "{ \t");
  line = skip_blanks(line);
  return out->name.size > 0 && take_labels(&line, &out->labels) && take_value(&line, &out->value);
}

bool top_next_sample(struct span *page, struct top_sample *out_sample)
{
  while (page->size > 0) {
    struct span line = take_until(page, "\n");
    if (page->size > 0) *page = span_from(*page, 1);
    struct top_sample sample;
    if (!read_sample(line, &sample)) continue;
    *out_sample = sample;
    return true;
  }
  return false;
}

struct span top_sample_label(const struct top_sample *sample, const char *name)
{
  struct span labels = sample->labels;
  struct span found, value;
  while (take_label(&labels, &found, &value))
    if (span_equal(found, span_text(name))) return value;
  return (struct span){0};
}

// ---- Figures

// Samples of one name are added up, and so are rows of one field.
static const struct figure {
  const char *name;
  size_t offset;
  double unit;  // what the sample's one is in the field
} figures[] = {
#define FIGURE(name, field, unit)                                                                                           \
  {                                                                                                                         \
    name, offsetof(struct top_metrics, field), unit                                                                         \
  }
    FIGURE("skerry_uptime_seconds", uptime_s, 1),
    FIGURE("skerry_clients", clients, 1),
    FIGURE("skerry_sessions", sessions, 1),
    FIGURE("skerry_subscriptions", subscriptions, 1),
    FIGURE("skerry_shared_subscriptions", subscriptions, 1),
    FIGURE("skerry_retained_messages", retained, 1),
    FIGURE("skerry_publish_received_total", received, 1),
    FIGURE("skerry_copies_delivered_total", delivered, 1),
    FIGURE("skerry_received_bytes_total", bytes_in, 1),
    FIGURE("skerry_sent_bytes_total", bytes_out, 1),
    FIGURE("skerry_copies_queued", queued, 1),
    FIGURE("skerry_copies_in_flight", in_flight, 1),
    FIGURE("skerry_copies_expired_total", expired, 1),
    FIGURE("skerry_copies_dropped_total", dropped, 1),
    FIGURE("skerry_publish_refused_total", refused, 1),
    FIGURE("skerry_memory_used_bytes", memory_used_bytes, 1),
    FIGURE("skerry_memory_limit_bytes", memory_limit_bytes, 1),
    FIGURE("process_resident_memory_bytes", resident_bytes, 1),
    FIGURE("process_cpu_seconds_total", cpu_us, 1e6),
#undef FIGURE
};

// What a counter can hold; beyond is no figure of a broker.
static const double value_limit = 0x1p63;

enum { FIGURES = sizeof figures / sizeof figures[0] };

// Kept in order as they come: there are few.
static void add_reason(struct top_metrics *metrics, const struct top_sample *sample)
{
  struct span name = top_sample_label(sample, "reason");
  if (sample->value < 1 || sample->value >= value_limit || name.size == 0 || metrics->reason_count == TOP_REASONS_MAX)
    return;
  struct top_reason reason = {.count = (uint64_t)sample->value};
  memcpy(reason.name, name.at, name.size < TOP_REASON_SIZE - 1 ? name.size : TOP_REASON_SIZE - 1);
  size_t at = metrics->reason_count++;
  for (; at > 0 && metrics->reasons[at - 1].count < reason.count; at--) metrics->reasons[at] = metrics->reasons[at - 1];
  metrics->reasons[at] = reason;
}

static struct top_counter *field_of(struct top_metrics *metrics, const struct figure *figure)
{
  return (struct top_counter *)(void *)((char *)metrics + figure->offset);
}

static const struct figure *find_figure(struct span name)
{
  for (size_t i = 0; i < FIGURES; i++)
    if (span_equal(name, span_text(figures[i].name))) return &figures[i];
  return NULL;
}

bool top_metrics_update(struct top_metrics *metrics, struct span page, uint64_t now_ms)
{
  // By the field's offset, so that several rows of one field meet.
  struct {
    double value;
    bool found;
  } sums[sizeof *metrics / sizeof(struct top_counter) + 1] = {0};
  struct top_sample sample;
  metrics->known = false;
  metrics->reason_count = 0;
  while (top_next_sample(&page, &sample)) {
    const struct figure *figure = find_figure(sample.name);
    if (!figure) continue;
    size_t at = figure->offset / sizeof(struct top_counter);
    sums[at].value += sample.value * figure->unit;
    sums[at].found = true;
    // Every program that Prometheus watches has process_ figures.
    if (memcmp(figure->name, "skerry_", 7) == 0) metrics->known = true;
    if (figure->offset == offsetof(struct top_metrics, dropped)) add_reason(metrics, &sample);
  }
  for (size_t i = 0; i < FIGURES; i++) {
    size_t at = figures[i].offset / sizeof(struct top_counter);
    struct top_counter *counter = field_of(metrics, &figures[i]);
    if (metrics->known && sums[at].found && sums[at].value < value_limit)
      top_counter_update(counter, (uint64_t)sums[at].value, now_ms);
    else
      *counter = (struct top_counter){0};
  }
  return metrics->known;
}
