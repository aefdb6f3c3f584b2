// `skerry sub`: subscribes and prints what comes.
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/client_command.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "mqtt/topic.h"

// Topic filters as they stand on the command line.
struct filter_list {
  const char **items;
  size_t count;
};

struct sub_options {
  struct client_options client;
  struct filter_list filters;
  struct filter_list leave_out;
  struct filter_list unsubscribe;
  uint64_t qos;
  uint64_t count;       // 0: no end
  uint64_t timeout_ms;  // 0: none
  bool verbose;
  bool no_newline;
  bool no_stale;
  bool retained_only;
  bool remove_retained;
  bool retain_as_published;
  bool no_local;
  bool exit_after_suback;
  bool json;
  const char *format;
};

struct sub {
  const struct sub_options *options;
  struct client *client;
  struct buffer line;
  uint64_t left;  // messages until the end, when options.count
  uint64_t give_up_ms;
  uint16_t suback_id;
  uint16_t unsuback_id;
  bool suback_waits;
  bool unsuback_waits;
  bool over;  // no more messages are printed
  int exit_code;
};

// ---- Options

static enum status append_filter(struct filter_list *list, struct option_words *words, struct error *error)
{
  const char *text = option_word(words);
  struct mqtt_filter filter;
  if (!mqtt_filter_parse(span_text(text), &filter) || !mqtt_utf8_valid(span_text(text)))
    return error_set(
        error, ERR_INVALID,
        "\"%s\" is no topic filter: it is empty, \"#\" is not its last level, a wildcard is not alone in its level, "
        "or it is not UTF-8",
        text);
  const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
  if (!items) return error_set(error, ERR_NO_MEMORY, "out of memory");
  list->items = items;
  items[list->count++] = text;
  return OK;
}

static enum status apply_filter(void *target, struct option_words *words, struct error *error)
{
  return append_filter(&((struct sub_options *)target)->filters, words, error);
}

static enum status apply_leave_out(void *target, struct option_words *words, struct error *error)
{
  return append_filter(&((struct sub_options *)target)->leave_out, words, error);
}

static enum status apply_unsubscribe(void *target, struct option_words *words, struct error *error)
{
  return append_filter(&((struct sub_options *)target)->unsubscribe, words, error);
}

#define FIELD(name) offsetof(struct sub_options, name)

static const struct option subscription_rows[] = {
    {'t', "topic", "FILTER", "Topic filter, several allowed; also $share/GROUP/FILTER.", OPTION_APPLY, 0, 0, 0,
     apply_filter},
    {'T', "filter-out", "FILTER", "Do not print messages whose topics match, several allowed.", OPTION_APPLY, 0, 0, 0,
     apply_leave_out},
    {'U', "unsubscribe", "FILTER", "Unsubscribe (for sessions that are kept), several allowed.", OPTION_APPLY, 0, 0, 0,
     apply_unsubscribe},
    {'q', "qos", "QOS", "Highest QoS to receive with: 0, 1 or 2. Default: 0.", OPTION_UINT, FIELD(qos), 0, 2, NULL},
    {'R', "no-retained", NULL, "Do not print stale messages, those with the retain flag.", OPTION_FLAG, FIELD(no_stale), 0,
     0, NULL},
    {0, "retained-only", NULL, "Print retained messages only, and end with the first that is not.", OPTION_FLAG,
     FIELD(retained_only), 0, 0, NULL},
    {0, "remove-retained", NULL, "Clear the retained messages that match.", OPTION_FLAG, FIELD(remove_retained), 0, 0, NULL},
    {0, "retain-as-published", NULL, "Keep the retain flag as the publisher set it (5.0).", OPTION_FLAG,
     FIELD(retain_as_published), 0, 0, NULL},
    {0, "no-local", NULL, "Not the messages that this client identifier publishes (5.0).", OPTION_FLAG, FIELD(no_local), 0,
     0, NULL},
    {'C', "count", "N", "End after N messages.", OPTION_UINT, FIELD(count), 1, UINT64_MAX, NULL},
    {'W', "timeout", "SECONDS", "End after that time, with exit code 27.", OPTION_DURATION, FIELD(timeout_ms), 1,
     86400000ULL * 365, NULL},
    {'E', "exit-after-suback", NULL, "End when the broker has confirmed the subscriptions.", OPTION_FLAG,
     FIELD(exit_after_suback), 0, 0, NULL},
};

static const struct option output_rows[] = {
    {'v', "verbose", NULL, "Print the topic before the payload.", OPTION_FLAG, FIELD(verbose), 0, 0, NULL},
    {'N', "no-newline", NULL, "Print no newline behind a message.", OPTION_FLAG, FIELD(no_newline), 0, 0, NULL},
    {0, "json", NULL, "Print each message as one JSON object.", OPTION_FLAG, FIELD(json), 0, 0, NULL},
    {'F', "format", "FORMAT", "Print in this form, see below.", OPTION_TEXT, FIELD(format), 0, 0, NULL},
};

static const char notes[] =
    "FORMAT: %t topic, %p payload, %x %X payload in hexadecimal, %l its length, %q QoS, %r retain, %d DUP, %m packet "
    "identifier,\n"
    "%C content type, %R response topic, %D correlation data, %E message expiry, %F payload format, %A topic alias,\n"
    "%S subscription identifiers, %P user properties, %I time (ISO 8601), %U Unix time, %j JSON, %J JSON with a JSON "
    "payload put\n"
    "in as it is, %% percent sign; @X is strftime's %X, @N nanoseconds; \\n \\t \\r \\0 \\e \\a \\v \\\\ are characters.\n"
    "Widths as in printf: %-20t, %05l, %.10p.\n"
    "\n"
    "Exit code: 0 after -C, -E, --retained-only and when interrupted; 27 after -W; 1 for network errors; 2 for a wrong "
    "command\n"
    "line; 128 and more is the MQTT reason code with which the broker refused the connection or all subscriptions.\n"
    "\n"
    "  skerry sub -t '#' -v\n"
    "  skerry sub -t 'plant/+/temp' -q 1 -i collector -c --json | jq .payload\n"
    "  skerry sub -L ws://gateway.local:8083/mqtt -t plant/# -F '@H:@M:@S %-30t %p'";

// ---- Printing

static struct format_time now(void)
{
  struct format_time time;
  struct timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  localtime_r(&wall.tv_sec, &time.local);
  time.unix_s = wall.tv_sec;
  time.nanoseconds = (uint32_t)wall.tv_nsec;
  return time;
}

static enum status format_line(struct sub *sub, const struct mqtt_publish *publish)
{
  const struct sub_options *options = sub->options;
  if (options->format || options->json) {
    struct format_time time = now();
    if (options->json) return format_json(publish, &time, false, &sub->line);
    return format_message(options->format, publish, &time, &sub->line);
  }
  enum status status = OK;
  if (options->verbose) {
    status = buffer_append(&sub->line, publish->topic.at, publish->topic.size);
    if (status == OK) status = buffer_append(&sub->line, " ", 1);
  }
  return status == OK ? buffer_append(&sub->line, publish->payload.at, publish->payload.size) : status;
}

static void finish(struct sub *sub, int exit_code)
{
  sub->over = true;
  sub->exit_code = exit_code;
}

static void print_message(struct sub *sub, const struct mqtt_publish *publish)
{
  enum status status = format_line(sub, publish);
  if (status == OK && !sub->options->no_newline) status = buffer_append(&sub->line, "\n", 1);
  if (status != OK) {
    client_complain(&sub->options->client, "out of memory");
    finish(sub, COMMAND_FAILED);
    return;
  }
  struct span line = buffer_peek(&sub->line);
  fwrite(line.at, 1, line.size, stdout);
  buffer_consume(&sub->line, line.size);
}

// ---- What the client tells

static bool is_left_out(const struct sub_options *options, struct span topic)
{
  for (size_t i = 0; i < options->leave_out.count; i++)
    if (mqtt_filter_matches(span_text(options->leave_out.items[i]), topic)) return true;
  return false;
}

static void clear_retained(struct sub *sub, const struct mqtt_publish *publish)
{
  struct mqtt_publish empty = {.qos = 1, .retain = true, .topic = publish->topic};
  if (client_publish(sub->client, &empty, 0) == OK) return;
  client_complain(&sub->options->client, "out of memory");
  finish(sub, COMMAND_FAILED);
}

static void on_message(void *context, const struct mqtt_publish *publish)
{
  struct sub *sub = context;
  const struct sub_options *options = sub->options;
  if (!sub->over && options->retained_only && !publish->retain) finish(sub, COMMAND_OK);
  if (sub->over) {
    // Ended here, this message is not acknowledged: a session that is kept gets it again.
    if (client_unfinished(sub->client) == 0) client_end(sub->client, false);
    return;
  }
  if (options->no_stale && publish->retain) return;
  if (is_left_out(options, publish->topic)) return;
  if (options->remove_retained && publish->retain && publish->payload.size > 0) clear_retained(sub, publish);
  print_message(sub, publish);
  if (options->count > 0 && !sub->over && --sub->left == 0) finish(sub, COMMAND_OK);
}

static enum status send_subscriptions(struct sub *sub)
{
  const struct sub_options *options = sub->options;
  size_t count = options->filters.count;
  struct mqtt_subscription *subscriptions = calloc(count, sizeof *subscriptions);
  if (!subscriptions) return ERR_NO_MEMORY;
  for (size_t i = 0; i < count; i++) {
    struct mqtt_filter filter;
    struct span text = span_text(options->filters.items[i]);
    bool shared = mqtt_filter_parse(text, &filter) && filter.share.size > 0;
    subscriptions[i] = (struct mqtt_subscription){
        .filter = text,
        .qos = (uint8_t)options->qos,
        .no_local = options->no_local && !shared,
        .retain_as_published = options->retain_as_published,
        .retain_handling = options->no_stale ? MQTT_RETAIN_DO_NOT_SEND : MQTT_RETAIN_SEND,
    };
  }
  const struct mqtt_properties *properties = &options->client.properties.packets[PROPERTY_SUBSCRIBE].properties;
  enum status status = client_subscribe(sub->client, subscriptions, count, properties, &sub->suback_id);
  free(subscriptions);
  sub->suback_waits = status == OK;
  return status;
}

static enum status send_unsubscriptions(struct sub *sub)
{
  const struct sub_options *options = sub->options;
  size_t count = options->unsubscribe.count;
  struct span *filters = calloc(count, sizeof *filters);
  if (!filters) return ERR_NO_MEMORY;
  for (size_t i = 0; i < count; i++) filters[i] = span_text(options->unsubscribe.items[i]);
  const struct mqtt_properties *properties = &options->client.properties.packets[PROPERTY_UNSUBSCRIBE].properties;
  enum status status = client_unsubscribe(sub->client, filters, count, properties, &sub->unsuback_id);
  free(filters);
  sub->unsuback_waits = status == OK;
  return status;
}

static void on_connected(void *context, const struct mqtt_connack *connack)
{
  (void)connack;
  struct sub *sub = context;
  // Subscribing again to what the session has is harmless, and right when the command line has changed since.
  enum status status = OK;
  if (sub->options->unsubscribe.count > 0) status = send_unsubscriptions(sub);
  if (status == OK && sub->options->filters.count > 0) status = send_subscriptions(sub);
  if (status == OK) return;
  client_complain(&sub->options->client,
                  status == ERR_INVALID ? "the topic filters do not fit into one packet" : "out of memory");
  finish(sub, COMMAND_FAILED);
}

static void on_lost(void *context, const char *text, uint64_t retry_ms)
{
  struct sub *sub = context;
  fflush(stdout);
  client_complain(&sub->options->client, "connection lost: %s; trying again in %.1f s", text, (double)retry_ms / 1000);
}

static void end_when_confirmed(struct sub *sub)
{
  if (sub->over || sub->suback_waits || sub->unsuback_waits) return;
  if (sub->options->exit_after_suback || sub->options->filters.count == 0) finish(sub, COMMAND_OK);
}

static void on_subscribed(void *context, uint16_t packet_id, struct span codes)
{
  struct sub *sub = context;
  if (!sub->suback_waits || packet_id != sub->suback_id) return;
  const struct filter_list *filters = &sub->options->filters;
  size_t refused = 0;
  for (size_t i = 0; i < codes.size && i < filters->count; i++) {
    if (codes.at[i] < MQTT_UNSPECIFIED_ERROR) continue;
    refused++;
    client_complain(&sub->options->client, "the broker refuses \"%s\": %s (0x%02x)", filters->items[i],
                    mqtt_reason_name((enum mqtt_reason)codes.at[i]), codes.at[i]);
  }
  sub->suback_waits = false;
  if (refused > 0 && refused == filters->count)
    finish(sub, codes.at[0]);
  else
    end_when_confirmed(sub);
}

static void on_unsubscribed(void *context, uint16_t packet_id, struct span codes)
{
  (void)codes;
  struct sub *sub = context;
  if (packet_id != sub->unsuback_id) return;
  sub->unsuback_waits = false;
  end_when_confirmed(sub);
}

// ---- The run

static int64_t until_ms(const struct sub *sub)
{
  if (sub->give_up_ms == UINT64_MAX) return -1;
  uint64_t now_ms = client_now_ms();
  return sub->give_up_ms > now_ms ? (int64_t)(sub->give_up_ms - now_ms) : 0;
}

// What was printed must have left before it is acknowledged, which client_wait does.
static void flush_output(struct sub *sub)
{
  if (sub->exit_code == COMMAND_FAILED || client_flush_output(&sub->options->client)) return;
  finish(sub, COMMAND_FAILED);
}

static void run(struct sub *sub, int signal_fd)
{
  client_start(sub->client);
  while (client_state(sub->client) < CLIENT_ENDED) {
    flush_output(sub);
    if (sub->over && client_unfinished(sub->client) == 0) client_end(sub->client, false);
    struct pollfd fds[2] = {[1] = {.fd = signal_fd, .events = POLLIN}};
    client_wait(sub->client, fds, 2, until_ms(sub));
    bool interrupted = fds[1].revents && signals_take(signal_fd) != 0;
    bool timed_out = client_now_ms() >= sub->give_up_ms;
    if (!interrupted && !timed_out) continue;
    if (!sub->over) finish(sub, interrupted ? COMMAND_OK : COMMAND_TIMEOUT);
    sub->give_up_ms = UINT64_MAX;
    client_end(sub->client, false);
  }
  flush_output(sub);
  if (client_state(sub->client) != CLIENT_FAILED) return;
  // A broker that is gone while we were leaving changes nothing.
  if (sub->over && sub->exit_code == COMMAND_OK && client_exit_code(sub->client) == COMMAND_FAILED) return;
  client_complain(&sub->options->client, "%s", client_failure(sub->client));
  sub->exit_code = client_exit_code(sub->client);
}

static enum status check(void *target, struct client_settings *settings, struct error *error)
{
  struct sub_options *options = target;
  enum status status = OK;
  if (options->client.url.topic) {
    char *word = (char *)(uintptr_t)options->client.url.topic;
    struct option_words words = {.next = &word, .left = 1};
    status = append_filter(&options->filters, &words, error);
    if (status != OK) return error_prefix(error, "the URL's topic");
  }
  if (options->filters.count == 0 && options->unsubscribe.count == 0)
    return error_set(error, ERR_INVALID, "the topic filter (-t) is missing");
  if ((options->retain_as_published || options->no_local) && settings->version != MQTT_5_0)
    return error_set(error, ERR_INVALID, "--retain-as-published and --no-local need MQTT 5.0 (-V 5)");
  if (options->no_stale && (options->retained_only || options->remove_retained))
    return error_set(error, ERR_INVALID, "-R does not go with --retained-only and --remove-retained");
  if (options->format && options->json) return error_set(error, ERR_INVALID, "-F and --json exclude each other");
  if (options->format) {
    status = format_check(options->format, error);
    if (status != OK) return error_prefix(error, "-F");
  }
  settings->reconnect = true;
  return OK;
}

static int subscribe(void *target, const struct client_settings *settings)
{
  const struct sub_options *options = target;
  struct sub sub = {
      .options = options,
      .left = options->count,
      .give_up_ms = options->timeout_ms ? client_now_ms() + options->timeout_ms : UINT64_MAX,
  };
  const struct client_handler handler = {
      .context = &sub,
      .connected = on_connected,
      .lost = on_lost,
      .message = on_message,
      .subscribed = on_subscribed,
      .unsubscribed = on_unsubscribed,
  };
  int signal_fd = signals_open(false);
  if (signal_fd >= 0 && client_create(settings, &handler, &sub.client) == OK) {
    run(&sub, signal_fd);
  } else {
    client_complain(&options->client, "the system has no memory or descriptors left");
    sub.exit_code = COMMAND_FAILED;
  }
  client_destroy(sub.client);
  buffer_deinit(&sub.line);
  if (signal_fd >= 0) close(signal_fd);
  return sub.exit_code;
}

int sub_command(int argc, char **argv)
{
  struct sub_options options = {0};
  const struct option_section sections[] = {
      OPTION_SECTION("Subscription", subscription_rows, &options),
      OPTION_SECTION("Output", output_rows, &options),
      client_connection_section(&options.client),
      client_tls_section(&options.client.tls),
      client_session_section(&options.client),
      client_will_section(&options.client),
  };
  const struct option_command command = {
      .name = "sub",
      .summary = "Subscribes to topics of an MQTT broker and prints the messages.",
      .usage = "-t FILTER [-t FILTER ...] [OPTIONS]\n-L URL [OPTIONS]",
      .notes = notes,
      .sections = sections,
      .section_count = sizeof sections / sizeof sections[0],
  };
  const struct client_command frame = {
      .command = &command, .client = &options.client, .options = &options, .check = check, .run = subscribe};
  int result = client_command_run(&frame, argc, argv);
  free(options.filters.items);
  free(options.leave_out.items);
  free(options.unsubscribe.items);
  return result;
}
