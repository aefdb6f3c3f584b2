// Drawing for `skerry top`. See top_view.h.
#include "cli/top_view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { RATE_WIDTH = 9, COUNT_WIDTH = 9, AGE_WIDTH = 6, FLAGS_WIDTH = 3, LINE_SIZE = 512 };

struct canvas {
  struct buffer *out;
  bool failed;
};

static void put(struct canvas *canvas, const void *bytes, size_t size)
{
  if (!canvas->failed && buffer_append(canvas->out, bytes, size) != OK) canvas->failed = true;
}

static void put_text(struct canvas *canvas, const char *text)
{
  put(canvas, text, strlen(text));
}

static void put_spaces(struct canvas *canvas, size_t count)
{
  for (; count > 0; count--) put(canvas, " ", 1);
}

// Bytes from the network, at most `width` characters of them, filled up with spaces when `fill`. A character counts as one
// column; control characters and what is not UTF-8 become a dot.
static void put_cell(struct canvas *canvas, struct span text, size_t width, bool fill)
{
  size_t used = 0;
  size_t at = 0;
  while (at < text.size && used < width) {
    struct utf8_character character = utf8_next(span_from(text, at));
    bool shown = character.size > 0 && !utf8_is_control(character.code);
    if (shown)
      put(canvas, text.at + at, character.size);
    else
      put_text(canvas, "\xc2\xb7");
    at += character.size > 0 ? character.size : 1;
    used++;
  }
  if (fill) put_spaces(canvas, width - used);
}

void top_human(double value, char *out, size_t size)
{
  static const char units[] = " kMGTPE";
  size_t unit = 0;
  if (value < 0) value = 0;
  while (value >= 9999.5 && unit + 2 < sizeof units) {
    value /= 1000;
    unit++;
  }
  const char *format = value >= 99.95 || value == (double)(uint64_t)value ? "%.0f" : "%.1f";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  int written = snprintf(out, size, format, value);
#pragma GCC diagnostic pop
  if (unit > 0 && written > 0 && (size_t)written + 1 < size)
    snprintf(out + written, size - (size_t)written, "%c", units[unit]);
}

void top_human_memory(double bytes, char *out, size_t size)
{
  static const char units[][4] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1023.5 && unit + 1 < sizeof units / sizeof units[0]) {
    bytes /= 1024;
    unit++;
  }
  bool whole = bytes >= 99.95 || bytes == (double)(uint64_t)bytes;
  snprintf(out, size, "%.*f%s", whole ? 0 : 1, bytes, units[unit]);
}

static void write_duration(uint64_t seconds, char *out, size_t size)
{
  if (seconds < 60)
    snprintf(out, size, "%" PRIu64 "s", seconds);
  else if (seconds < 3600)
    snprintf(out, size, "%" PRIu64 "m%02" PRIu64, seconds / 60, seconds % 60);
  else if (seconds < 86400)
    snprintf(out, size, "%" PRIu64 "h%02" PRIu64, seconds / 3600, seconds / 60 % 60);
  else
    snprintf(out, size, "%" PRIu64 "d%02" PRIu64, seconds / 86400, seconds / 3600 % 24);
}

// ---- Figures

// What the metrics tell is newer and more than what $SYS tells.
static struct top_broker choose_figures(const struct top_broker *sys, const struct top_view *view)
{
  struct top_broker chosen = *sys;
  const struct top_metrics *metrics = view->metrics;
  if (!metrics || !metrics->known) return chosen;
  chosen.uptime_s = metrics->uptime_s;
  chosen.clients_connected = metrics->clients;
  chosen.clients_total = metrics->sessions;
  chosen.subscriptions = metrics->subscriptions;
  chosen.retained = metrics->retained;
  chosen.messages_in = metrics->received;
  chosen.messages_out = metrics->delivered;
  chosen.bytes_in = metrics->bytes_in;
  chosen.bytes_out = metrics->bytes_out;
  chosen.memory_bytes.known = false;  // it has its own line, as the dropped messages have
  chosen.dropped.known = false;
  return chosen;
}

static void append(char *line, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

// Cut where the line is full.
static void append(char *line, size_t size, const char *format, ...)
{
  size_t used = strlen(line);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + used, size - used, format, arguments);
  va_end(arguments);
}

static void append_count(char *line, size_t size, const char *name, const struct top_counter *counter)
{
  if (!counter->known) return;
  char number[16];
  top_human((double)counter->value, number, sizeof number);
  append(line, size, "%s%s %s", line[0] ? "   " : "", name, number);
}

static void write_counts(const struct top_broker *broker, char *line, size_t size)
{
  line[0] = '\0';
  append_count(line, size, "clients", &broker->clients_connected);
  append_count(line, size, "sessions", &broker->clients_total);
  append_count(line, size, "subscriptions", &broker->subscriptions);
  append_count(line, size, "retained", &broker->retained);
  append_count(line, size, "memory", &broker->memory_bytes);
  append_count(line, size, "dropped", &broker->dropped);
}

static void write_rates(const struct top_broker *broker, char *line, size_t size)
{
  char in[16], out[16], bytes_in[16], bytes_out[16];
  line[0] = '\0';
  if (!broker->messages_in.known && !broker->bytes_in.known) return;
  top_human(broker->messages_in.rate, in, sizeof in);
  top_human(broker->messages_out.rate, out, sizeof out);
  top_human(broker->bytes_in.rate, bytes_in, sizeof bytes_in);
  top_human(broker->bytes_out.rate, bytes_out, sizeof bytes_out);
  snprintf(line, size, "in %s msg/s %s B/s   out %s msg/s %s B/s", in, bytes_in, out, bytes_out);
}

static void append_memory(char *line, size_t size, const char *name, const struct top_counter *counter)
{
  if (!counter->known) return;
  char number[16];
  top_human_memory((double)counter->value, number, sizeof number);
  append(line, size, "%s%s %s", line[0] ? "   " : "", name, number);
}

static void write_process(const struct top_metrics *metrics, char *line, size_t size)
{
  line[0] = '\0';
  if (metrics->cpu_us.known) append(line, size, "cpu %.1f%%", metrics->cpu_us.rate / 10000);
  append_memory(line, size, "resident", &metrics->resident_bytes);
  append_memory(line, size, "memory", &metrics->memory_used_bytes);
  if (!metrics->memory_used_bytes.known || !metrics->memory_limit_bytes.known) return;
  char limit[16];
  top_human_memory((double)metrics->memory_limit_bytes.value, limit, sizeof limit);
  append(line, size, " of %s", limit);
}

// The copies that have not reached their subscriber, and why.
static void write_copies(const struct top_metrics *metrics, char *line, size_t size)
{
  line[0] = '\0';
  append_count(line, size, "queued", &metrics->queued);
  append_count(line, size, "in flight", &metrics->in_flight);
  append_count(line, size, "expired", &metrics->expired);
  append_count(line, size, "refused", &metrics->refused);
  append_count(line, size, "dropped", &metrics->dropped);
  for (size_t i = 0; i < metrics->reason_count; i++) {
    char number[16];
    top_human((double)metrics->reasons[i].count, number, sizeof number);
    append(line, size, "%s%s %s", i > 0 ? ", " : ": ", metrics->reasons[i].name, number);
  }
}

// ---- Header

static void put_line(struct canvas *canvas, const struct top_view *view, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// One row, cut to the screen and cleared behind.
static void put_line(struct canvas *canvas, const struct top_view *view, const char *format, ...)
{
  char text[LINE_SIZE];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  put_cell(canvas, span_text(text), view->columns, false);
  put_text(canvas, "\033[K\r\n");
}

static bool has_metrics_rows(const struct top_view *view)
{
  return view->metrics && view->rows >= TOP_MIN_ROWS + TOP_METRICS_ROWS;
}

static void draw_metrics(struct canvas *canvas, const struct top_view *view)
{
  char text[LINE_SIZE];
  if (!has_metrics_rows(view)) return;
  write_process(view->metrics, text, sizeof text);
  put_line(canvas, view, "process %s", text);
  write_copies(view->metrics, text, sizeof text);
  put_line(canvas, view, "copies  %s", text);
}

static void draw_header(struct canvas *canvas, const struct top_table *table, const struct top_broker *broker,
                        const struct top_view *view)
{
  char uptime[32] = "";
  const char *metrics_state = view->metrics ? view->metrics_state : "";
  char text[LINE_SIZE];
  char rate[16], bytes[16];
  if (broker->uptime_s.known) {
    // $SYS says it every few seconds only.
    uint64_t since_ms = view->now_ms > broker->uptime_s.at_ms ? view->now_ms - broker->uptime_s.at_ms : 0;
    write_duration(broker->uptime_s.value + since_ms / 1000, uptime, sizeof uptime);
  }
  put_line(canvas, view, "skerry top  %s  %s  %s%s%s%s%s", view->clock, view->address, broker->version,
           broker->version[0] ? "  " : "", uptime[0] ? "up " : "", uptime, view->paused ? "  [paused]" : "");
  put_line(canvas, view, "%s%s%s", view->state, metrics_state[0] ? "; metrics: " : "", metrics_state);
  write_counts(broker, text, sizeof text);
  put_line(canvas, view, "%s", text[0] ? text : "no figures of the broker yet");
  write_rates(broker, text, sizeof text);
  put_line(canvas, view, "broker  %s", text);
  draw_metrics(canvas, view);
  top_human(table->rate, rate, sizeof rate);
  top_human(table->byte_rate, bytes, sizeof bytes);
  char unkept[48] = "";
  if (table->unkept > 0) snprintf(unkept, sizeof unkept, "   %" PRIu64 " messages of more topics", table->unkept);
  put_line(canvas, view, "here    %zu topics   %s msg/s   %s B/s   %" PRIu64 " messages%s", table->count, rate, bytes,
           table->messages, unkept);
}

// ---- Rows

struct layout {
  size_t topic;
  size_t value;
};

// The fixed columns come first; the topic gets up to half of what is left, the value the rest.
static struct layout lay_out(const struct top_table *table, const struct top_view *view)
{
  size_t fixed = RATE_WIDTH + COUNT_WIDTH + AGE_WIDTH + FLAGS_WIDTH + 5;
  size_t left = view->columns > fixed ? view->columns - fixed : 0;
  size_t longest = 12;
  for (size_t i = 0; i < table->count; i++)
    if (table->items[i]->topic_size > longest) longest = table->items[i]->topic_size;
  size_t topic = longest < left * 3 / 5 ? longest : left * 3 / 5;
  return (struct layout){.topic = topic, .value = left - topic};
}

static bool is_shown(const struct top_topic *topic, const struct top_view *view)
{
  return view->show_sys || topic->topic_size == 0 || topic->topic[0] != '$';
}

static void put_row(struct canvas *canvas, const struct top_topic *topic, const struct top_view *view, struct layout layout)
{
  char text[96];
  char rate[16], count[16], age[16];
  top_human(topic->rate, rate, sizeof rate);
  top_human((double)topic->count, count, sizeof count);
  write_duration(view->now_ms > topic->last_ms ? (view->now_ms - topic->last_ms) / 1000 : 0, age, sizeof age);
  put_cell(canvas, span_of(topic->topic, topic->topic_size), layout.topic, true);
  snprintf(text, sizeof text, " %*s %*s %*s %u%c  ", RATE_WIDTH, rate, COUNT_WIDTH, count, AGE_WIDTH, age, topic->qos,
           topic->retain ? 'R' : ' ');
  put_text(canvas, text);
  put_cell(canvas, span_of(topic->value, topic->value_size), layout.value, false);
}

static void put_column_names(struct canvas *canvas, const struct top_view *view, struct layout layout)
{
  char text[96];
  snprintf(text, sizeof text, " %*s %*s %*s %-3s ", RATE_WIDTH, "RATE/s", COUNT_WIDTH, "COUNT", AGE_WIDTH, "AGE", "QR");
  put_text(canvas, "\033[7m");
  put_cell(canvas, span_text("TOPIC"), layout.topic, true);
  put_text(canvas, text);
  size_t used = layout.topic + strlen(text);
  put_cell(canvas, span_text("VALUE"), view->columns > used ? view->columns - used : 0, true);
  put_text(canvas, "\033[0m\033[K\r\n");
}

size_t top_visible(const struct top_table *table, const struct top_view *view)
{
  size_t visible = 0;
  for (size_t i = 0; i < table->count; i++) visible += is_shown(table->items[i], view);
  return visible;
}

size_t top_page(const struct top_view *view)
{
  unsigned taken = TOP_HEADER_ROWS + TOP_FOOTER_ROWS + (has_metrics_rows(view) ? TOP_METRICS_ROWS : 0);
  return view->rows > taken ? view->rows - taken : 1;
}

static void draw_rows(struct canvas *canvas, const struct top_table *table, const struct top_view *view,
                      struct layout layout)
{
  size_t skipped = 0;
  size_t drawn = 0;
  size_t page = top_page(view);
  for (size_t i = 0; i < table->count && drawn < page; i++) {
    if (!is_shown(table->items[i], view) || skipped++ < view->scroll) continue;
    put_row(canvas, table->items[i], view, layout);
    put_text(canvas, "\033[K\r\n");
    drawn++;
  }
  for (; drawn < page; drawn++) put_text(canvas, "\033[K\r\n");
}

enum status top_draw(const struct top_table *table, const struct top_broker *broker, const struct top_view *view,
                     struct buffer *out)
{
  struct canvas canvas = {.out = out};
  struct layout layout = lay_out(table, view);
  struct top_broker figures = choose_figures(broker, view);
  char keys[160];
  put_text(&canvas, "\033[H");
  draw_header(&canvas, table, &figures, view);
  put_column_names(&canvas, view, layout);
  draw_rows(&canvas, table, view, layout);
  snprintf(keys, sizeof keys, "q quit  p pause  s sort: %s%s  r c b a t  i invert  $ system topics  arrows, PgUp, PgDn",
           top_sort_name(view->sort), view->reverse ? " (inverted)" : "");
  put_cell(&canvas, span_text(keys), view->columns > 0 ? view->columns - 1 : 0, false);
  put_text(&canvas, "\033[K");
  return canvas.failed ? ERR_NO_MEMORY : OK;
}

// What is known of the broker, behind the totals.
static void print_figures(struct canvas *canvas, const struct top_broker *broker, const struct top_view *view)
{
  const struct top_metrics *metrics = view->metrics;
  struct top_broker figures = choose_figures(broker, view);
  char texts[4][LINE_SIZE] = {""};
  write_counts(&figures, texts[0], LINE_SIZE);
  if (metrics && metrics->known) {
    write_rates(&figures, texts[1], LINE_SIZE);
    write_process(metrics, texts[2], LINE_SIZE);
    write_copies(metrics, texts[3], LINE_SIZE);
  }
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    if (texts[i][0]) put_text(canvas, "; ");
    put_cell(canvas, span_text(texts[i]), LINE_SIZE, false);
  }
  if (!metrics || !view->metrics_state[0]) return;
  put_text(canvas, "; metrics: ");
  put_cell(canvas, span_text(view->metrics_state), LINE_SIZE, false);
}

enum status top_print(const struct top_table *table, const struct top_broker *broker, const struct top_view *view,
                      size_t topics, struct buffer *out)
{
  struct canvas canvas = {.out = out};
  char text[LINE_SIZE];
  char rate[16], bytes[16];
  top_human(table->rate, rate, sizeof rate);
  top_human(table->byte_rate, bytes, sizeof bytes);
  snprintf(text, sizeof text, "%s %s: %s; %zu topics, %s msg/s, %s B/s, %" PRIu64 " messages", view->clock, view->address,
           view->state, table->count, rate, bytes, table->messages);
  put_cell(&canvas, span_text(text), sizeof text, false);
  print_figures(&canvas, broker, view);
  put_text(&canvas, "\n");
  size_t printed = 0;
  struct layout layout = lay_out(table, view);
  for (size_t i = 0; i < table->count && printed < topics; i++) {
    if (!is_shown(table->items[i], view)) continue;
    put_text(&canvas, "  ");
    put_row(&canvas, table->items[i], view, layout);
    put_text(&canvas, "\n");
    printed++;
  }
  return canvas.failed ? ERR_NO_MEMORY : OK;
}

// ---- Keys

enum top_key top_next_key(struct span *input)
{
  static const struct {
    const char *bytes;
    enum top_key key;
  } keys[] = {
      {"\033[A", TOP_KEY_UP},
      {"\033OA", TOP_KEY_UP},
      {"\033[B", TOP_KEY_DOWN},
      {"\033OB", TOP_KEY_DOWN},
      {"\033[5~", TOP_KEY_PAGE_UP},
      {"\033[6~", TOP_KEY_PAGE_DOWN},
      {"\033[H", TOP_KEY_HOME},
      {"\033[1~", TOP_KEY_HOME},
      {"\033OH", TOP_KEY_HOME},
      {"\033[F", TOP_KEY_END},
      {"\033[4~", TOP_KEY_END},
      {"\033OF", TOP_KEY_END},
      {"q", TOP_KEY_QUIT},
      {"Q", TOP_KEY_QUIT},
      {"p", TOP_KEY_PAUSE},
      {" ", TOP_KEY_PAUSE},
      {"k", TOP_KEY_UP},
      {"j", TOP_KEY_DOWN},
      {"g", TOP_KEY_HOME},
      {"G", TOP_KEY_END},
      {"s", TOP_KEY_SORT_NEXT},
      {"i", TOP_KEY_REVERSE},
      {"$", TOP_KEY_SYS},
      {"r", TOP_KEY_SORT_FIRST + TOP_BY_RATE},
      {"c", TOP_KEY_SORT_FIRST + TOP_BY_COUNT},
      {"b", TOP_KEY_SORT_FIRST + TOP_BY_BYTES},
      {"a", TOP_KEY_SORT_FIRST + TOP_BY_AGE},
      {"t", TOP_KEY_SORT_FIRST + TOP_BY_TOPIC},
  };
  if (input->size == 0) return TOP_KEY_NONE;
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
    size_t size = strlen(keys[i].bytes);
    if (input->size < size || memcmp(input->at, keys[i].bytes, size) != 0) continue;
    *input = span_from(*input, size);
    return keys[i].key;
  }
  // Of an unknown sequence nothing may be taken for a key.
  bool sequence = input->at[0] == '\033';
  *input = span_from(*input, sequence ? input->size : 1);
  return TOP_KEY_NONE;
}
