// `skerry top`: a live view of one broker, made from ordinary subscriptions and, when asked, from its metrics.
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/client_command.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "cli/top_fetch.h"
#include "cli/top_metrics.h"
#include "cli/top_table.h"
#include "cli/top_view.h"
#include "mqtt/topic.h"

enum { FILTERS_MAX = 64, ADDRESS_SIZE = 300, STATE_SIZE = 300, RETAINED_MS = 1000, PLAIN_COLUMNS = 120 };

struct top_options {
  struct client_options client;
  const char *filters[FILTERS_MAX];
  size_t filter_count;
  uint64_t interval_ms;
  uint64_t seconds_ms;  // 0: no end
  uint64_t limit;
  uint64_t lines;
  enum top_sort sort;
  bool plain;
  struct url metrics;  // memory is NULL when not given
};

struct top {
  const struct top_options *options;
  struct client *client;
  struct top_table table;
  struct top_broker broker;
  struct top_fetch fetch;
  struct top_metrics metrics;
  struct top_view view;
  struct buffer screen;
  bool terminal;
  struct termios saved;
  uint64_t connected_ms;
  uint64_t last_tick_ms;
  uint64_t next_tick_ms;
  uint64_t end_ms;  // UINT64_MAX: never
  int exit_code;
  char address[ADDRESS_SIZE];
  char state[STATE_SIZE];
  char metrics_state[STATE_SIZE * 2];
  char clock[16];
};

// ---- Options

static enum status apply_filter(void *target, struct option_words *words, struct error *error)
{
  struct top_options *options = target;
  const char *text = option_word(words);
  struct mqtt_filter filter;
  if (!mqtt_filter_parse(span_text(text), &filter) || !mqtt_utf8_valid(span_text(text)))
    return error_set(error, ERR_INVALID, "\"%s\" is no topic filter", text);
  if (options->filter_count == FILTERS_MAX) return error_set(error, ERR_INVALID, "more than %d filters", FILTERS_MAX);
  options->filters[options->filter_count++] = text;
  return OK;
}

static enum status apply_sort(void *target, struct option_words *words, struct error *error)
{
  struct top_options *options = target;
  const char *text = option_word(words);
  for (unsigned i = 0; i < TOP_SORTS; i++) {
    if (strcmp(text, top_sort_name((enum top_sort)i)) != 0) continue;
    options->sort = (enum top_sort)i;
    return OK;
  }
  return error_set(error, ERR_INVALID, "\"%s\" is no order; known are rate, count, bytes, age and topic", text);
}

static enum status apply_metrics(void *target, struct option_words *words, struct error *error)
{
  struct top_options *options = target;
  const char *text = option_word(words);
  url_deinit(&options->metrics);
  return top_fetch_parse(text, &options->metrics, error);
}

#define FIELD(name) offsetof(struct top_options, name)

static const struct option rows[] = {
    {'t', "topic", "FILTER", "Topics to watch, several allowed. Default: #.", OPTION_APPLY, 0, 0, 0, apply_filter},
    {0, "metrics", "HOST:PORT", "Show the broker's Prometheus figures too; also http://HOST:PORT/metrics.", OPTION_APPLY, 0,
     0, 0, apply_metrics},
    {0, "sort", "KEY", "rate, count, bytes, age or topic. Default: rate.", OPTION_APPLY, 0, 0, 0, apply_sort},
    {0, "interval", "SECONDS", "Pause between two updates. Default: 1.", OPTION_DURATION, FIELD(interval_ms), 100, 3600000,
     NULL},
    {0, "seconds", "SECONDS", "End after that time, with exit code 0.", OPTION_DURATION, FIELD(seconds_ms), 1,
     86400000ULL * 365, NULL},
    {0, "limit", "N", "How many topics are kept. Default: 10000.", OPTION_UINT, FIELD(limit), 1, 1000000, NULL},
    {0, "plain", NULL, "Print lines, as it is done without a terminal.", OPTION_FLAG, FIELD(plain), 0, 0, NULL},
    {0, "lines", "N", "Of plain lines: how many topics. Default: 5.", OPTION_UINT, FIELD(lines), 0, 1000000, NULL},
};

static const char notes[] = "Keys: q quit, p pause, s next order, r c b a t order by rate, count, bytes, age, topic, i "
                            "invert, $ show system topics,\n"
                            "arrows, PgUp, PgDn, Home and End scroll. Q is the QoS, R says retained.\n"
                            "\n"
                            "  skerry top -h gateway.local --metrics gateway.local:9100";

// ---- The terminal

static void measure_terminal(struct top *top)
{
  struct winsize size = {0};
  bool known = top->terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
  top->view.rows = known ? size.ws_row : 24;
  top->view.columns = known ? size.ws_col : PLAIN_COLUMNS;
  if (top->view.rows < TOP_MIN_ROWS) top->view.rows = TOP_MIN_ROWS;
  if (top->view.columns < TOP_MIN_COLUMNS) top->view.columns = TOP_MIN_COLUMNS;
}

// Keys come one by one and unseen; the screen is another one, so that the shell's comes back. A line that is longer than a
// narrow terminal, or has wide characters, is cut and not wrapped: it would push all others down.
static void enter_terminal(struct top *top)
{
  top->terminal =
      !top->options->plain && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && tcgetattr(STDIN_FILENO, &top->saved) == 0;
  measure_terminal(top);
  if (!top->terminal) return;
  struct termios raw = top->saved;
  raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  raw.c_cc[VSUSP] = _POSIX_VDISABLE;
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  fputs("\033[?1049h\033[?25l\033[?7l\033[2J", stdout);
  fflush(stdout);
}

static void leave_terminal(struct top *top)
{
  if (!top->terminal) return;
  fputs("\033[?7h\033[?25h\033[?1049l", stdout);
  fflush(stdout);
  tcsetattr(STDIN_FILENO, TCSANOW, &top->saved);
  top->terminal = false;
}

// ---- Output

static void clamp_scroll(struct top *top)
{
  size_t visible = top_visible(&top->table, &top->view);
  size_t page = top_page(&top->view);
  size_t furthest = visible > page ? visible - page : 0;
  if (top->view.scroll > furthest) top->view.scroll = furthest;
}

static void show(struct top *top)
{
  time_t now = time(NULL);
  struct tm local;
  localtime_r(&now, &local);
  strftime(top->clock, sizeof top->clock, "%H:%M:%S", &local);
  top->view.now_ms = client_now_ms();
  clamp_scroll(top);
  enum status status = OK;
  if (top->terminal)
    status = top_draw(&top->table, &top->broker, &top->view, &top->screen);
  else
    status = top_print(&top->table, &top->broker, &top->view, top->options->lines, &top->screen);
  struct span bytes = buffer_peek(&top->screen);
  if (status == OK) fwrite(bytes.at, 1, bytes.size, stdout);
  buffer_consume(&top->screen, bytes.size);
  if (!client_flush_output(&top->options->client)) top->exit_code = COMMAND_FAILED;
}

static void tick_if_due(struct top *top)
{
  uint64_t now_ms = client_now_ms();
  if (now_ms < top->next_tick_ms) return;
  top_table_tick(&top->table, (double)(now_ms - top->last_tick_ms + 1) / 1000);
  top->last_tick_ms = now_ms;
  top->next_tick_ms = now_ms + top->options->interval_ms;
  if (top->view.paused) return;
  top_table_sort(&top->table, top->view.sort, top->view.reverse);
  show(top);
}

// ---- Keys

static void scroll(struct top *top, long rows_down)
{
  size_t *at = &top->view.scroll;
  if (rows_down < 0)
    *at = *at > (size_t)-rows_down ? *at - (size_t)-rows_down : 0;
  else
    *at += (size_t)rows_down;
}

// False: quit.
static bool handle_key(struct top *top, enum top_key key)
{
  struct top_view *view = &top->view;
  long page = (long)top_page(view);
  switch (key) {
    case TOP_KEY_NONE: return true;
    case TOP_KEY_QUIT: return false;
    case TOP_KEY_PAUSE: view->paused = !view->paused; break;
    case TOP_KEY_UP: scroll(top, -1); break;
    case TOP_KEY_DOWN: scroll(top, 1); break;
    case TOP_KEY_PAGE_UP: scroll(top, -page); break;
    case TOP_KEY_PAGE_DOWN: scroll(top, page); break;
    case TOP_KEY_HOME: view->scroll = 0; break;
    case TOP_KEY_END: view->scroll = SIZE_MAX / 2; break;
    case TOP_KEY_SORT_NEXT: view->sort = (enum top_sort)((view->sort + 1) % TOP_SORTS); break;
    case TOP_KEY_REVERSE: view->reverse = !view->reverse; break;
    case TOP_KEY_SYS: view->show_sys = !view->show_sys; break;
    case TOP_KEY_SORT_FIRST:
    default: view->sort = (enum top_sort)(key - TOP_KEY_SORT_FIRST); break;
  }
  top_table_sort(&top->table, view->sort, view->reverse);
  show(top);
  return true;
}

static bool read_keys(struct top *top)
{
  uint8_t bytes[64];
  ssize_t size = read(STDIN_FILENO, bytes, sizeof bytes);
  if (size <= 0) return false;  // the terminal is gone
  struct span input = span_of(bytes, (size_t)size);
  while (input.size > 0)
    if (!handle_key(top, top_next_key(&input))) return false;
  return true;
}

// ---- What the client tells

static void on_connected(void *context, const struct mqtt_connack *connack)
{
  (void)connack;
  struct top *top = context;
  struct mqtt_subscription subscriptions[FILTERS_MAX + 2];
  size_t count = 0;
  for (size_t i = 0; i < top->options->filter_count; i++)
    subscriptions[count++] = (struct mqtt_subscription){.filter = span_text(top->options->filters[i]), .qos = 2};
  if (count == 0) subscriptions[count++] = (struct mqtt_subscription){.filter = span_text("#"), .qos = 2};
  subscriptions[count++] = (struct mqtt_subscription){.filter = span_text("$SYS/#")};
  for (size_t i = 0; i < count; i++) subscriptions[i].retain_as_published = true;
  uint16_t packet_id = 0;
  top->connected_ms = client_now_ms();
  snprintf(top->state, sizeof top->state, "connected");
  if (client_subscribe(top->client, subscriptions, count, NULL, &packet_id) == OK) return;
  snprintf(top->state, sizeof top->state, "the topic filters do not fit into one packet");
}

static void on_lost(void *context, const char *text, uint64_t retry_ms)
{
  struct top *top = context;
  snprintf(top->state, sizeof top->state, "%s; trying again in %.1f s", text, (double)retry_ms / 1000);
}

static void on_subscribed(void *context, uint16_t packet_id, struct span codes)
{
  (void)packet_id;
  struct top *top = context;
  // The last one is $SYS/#, which a broker may keep to itself.
  for (size_t i = 0; i + 1 < codes.size; i++)
    if (codes.at[i] >= MQTT_UNSPECIFIED_ERROR)
      snprintf(top->state, sizeof top->state, "connected, but the broker refuses \"%s\": %s",
               top->options->filter_count ? top->options->filters[i] : "#", mqtt_reason_name((enum mqtt_reason)codes.at[i]));
}

static void on_message(void *context, const struct mqtt_publish *publish)
{
  struct top *top = context;
  uint64_t now_ms = client_now_ms();
  bool system = publish->topic.size >= 5 && memcmp(publish->topic.at, "$SYS/", 5) == 0;
  if (system) top_broker_update(&top->broker, publish->topic, publish->payload, now_ms);
  // What comes retained right after subscribing is the broker's memory, not traffic.
  bool counts = !system && !(publish->retain && now_ms - top->connected_ms < RETAINED_MS);
  if (top_table_add(&top->table, publish, counts, now_ms) == OK) return;
  client_complain(&top->options->client, "out of memory");
  top->exit_code = COMMAND_FAILED;
}

// ---- The metrics

static void fetch_metrics(struct top *top, short events)
{
  struct span page;
  struct error error = {0};
  uint64_t now_ms = client_now_ms();
  enum top_fetched fetched = top_fetch_turn(&top->fetch, events, now_ms, &page, &error);
  if (fetched == TOP_FETCHED_NOTHING) return;
  if (fetched == TOP_FETCHED_PAGE && !top_metrics_update(&top->metrics, page, now_ms)) {
    snprintf(top->metrics_state, sizeof top->metrics_state, "no figures of a Skerry broker on that page");
  } else if (fetched == TOP_FETCHED_PAGE) {
    top->metrics_state[0] = '\0';
  } else {
    top->metrics = (struct top_metrics){0};
    snprintf(top->metrics_state, sizeof top->metrics_state, "unreachable (%s)", error.text);
  }
}

// ---- The run

static int64_t until_ms(const struct top *top)
{
  uint64_t next_ms = top->next_tick_ms < top->end_ms ? top->next_tick_ms : top->end_ms;
  if (top_fetch_due_ms(&top->fetch) < next_ms) next_ms = top_fetch_due_ms(&top->fetch);
  uint64_t now_ms = client_now_ms();
  return next_ms > now_ms ? (int64_t)(next_ms - now_ms) : 0;
}

static void run(struct top *top, int signal_fd)
{
  client_start(top->client);
  while (client_state(top->client) < CLIENT_ENDED) {
    bool ending = client_state(top->client) == CLIENT_ENDING;
    if (!ending) tick_if_due(top);
    struct pollfd fds[4] = {
        [1] = {.fd = signal_fd, .events = POLLIN},
        [2] = {.fd = top->terminal ? STDIN_FILENO : -1, .events = POLLIN},
        [3] = top_fetch_pollfd(&top->fetch),
    };
    client_wait(top->client, fds, 4, ending ? -1 : until_ms(top));
    fetch_metrics(top, fds[3].revents);
    bool over = client_now_ms() >= top->end_ms || top->exit_code != COMMAND_OK;
    int signal = fds[1].revents ? signals_take(signal_fd) : 0;
    if (signal == SIGWINCH) {
      measure_terminal(top);
      if (top->terminal) fputs("\033[2J", stdout);
      show(top);
    } else if (signal != 0) {
      over = true;
    }
    if (fds[2].revents && !read_keys(top)) over = true;
    if (over) client_end(top->client, false);
  }
}

static enum status check(void *target, struct client_settings *settings, struct error *error)
{
  (void)target;
  (void)error;
  settings->reconnect = true;
  settings->retry_first = true;
  return OK;
}

static int watch(void *target, const struct client_settings *settings)
{
  struct top_options *options = target;
  struct top top = {.options = options, .view = {.sort = options->sort}};
  const struct client_handler handler = {
      .context = &top, .connected = on_connected, .lost = on_lost, .message = on_message, .subscribed = on_subscribed};
  int signal_fd = signals_open(true);
  if (signal_fd < 0 || client_create(settings, &handler, &top.client) != OK) {
    client_complain(&options->client, "the system has no memory or descriptors left");
    if (signal_fd >= 0) close(signal_fd);
    return COMMAND_FAILED;
  }
  top_table_init(&top.table, options->limit);
  top_fetch_init(&top.fetch, &options->metrics);
  if (top.fetch.url.memory) top.view.metrics = &top.metrics;
  top.view.metrics_state = top.metrics_state;
  client_options_describe(settings, top.address, sizeof top.address);
  snprintf(top.state, sizeof top.state, "connecting");
  top.view.address = top.address;
  top.view.state = top.state;
  top.view.clock = top.clock;
  top.last_tick_ms = client_now_ms();
  top.next_tick_ms = top.last_tick_ms + options->interval_ms;
  top.end_ms = options->seconds_ms ? top.last_tick_ms + options->seconds_ms : UINT64_MAX;
  enter_terminal(&top);
  run(&top, signal_fd);
  leave_terminal(&top);
  if (client_state(top.client) == CLIENT_FAILED) {
    client_complain(&options->client, "%s", client_failure(top.client));
    top.exit_code = client_exit_code(top.client);
  }
  client_destroy(top.client);
  top_table_deinit(&top.table);
  top_fetch_deinit(&top.fetch);
  buffer_deinit(&top.screen);
  close(signal_fd);
  return top.exit_code;
}

int top_command(int argc, char **argv)
{
  struct top_options options = {.interval_ms = 1000, .limit = 10000, .lines = 5, .sort = TOP_BY_RATE};
  const struct option_section sections[] = {
      OPTION_SECTION("View", rows, &options),
      client_connection_section(&options.client),
      client_tls_section(&options.client.tls),
      client_session_section(&options.client),
  };
  const struct option_command command = {
      .name = "top",
      .summary = "Shows a broker live: its own figures, and every topic's rate, count, age and latest value.",
      .usage = "[OPTIONS]",
      .notes = notes,
      .sections = sections,
      .section_count = sizeof sections / sizeof sections[0],
  };
  const struct client_command frame = {
      .command = &command, .client = &options.client, .options = &options, .check = check, .run = watch};
  int result = client_command_run(&frame, argc, argv);
  url_deinit(&options.metrics);
  return result;
}
