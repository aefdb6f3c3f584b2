// `skerry sense`: publishes what this host measures of itself, one message for each series and interval.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/client_command.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/sense_read.h"
#include "cli/sense_report.h"
#include "cli/signals.h"
#include "mqtt/topic.h"

enum {
  QUEUE_MAX = 10000,  // messages kept while the broker is away
  PREFIX_MAX = 300,
};

struct sense_options {
  struct client_options client;
  const char *prefix;
  uint64_t qos;
  uint64_t interval_ms;
  uint64_t count;  // 0: no end
  bool retain;
  bool print;
  char host_prefix[160];  // what `prefix` is when it is not given
};

struct sense {
  const struct sense_options *options;
  struct client *client;  // NULL: print
  struct sense_sample *before;
  struct sense_sample *now;
  uint64_t next_ms;
  uint64_t reports;
  uint64_t dropped;
  int exit_code;
};

#define FIELD(name) offsetof(struct sense_options, name)

static const struct option rows[] = {
    {0, "interval", "SECONDS", "Pause between two reports. Default: 1.", OPTION_DURATION, FIELD(interval_ms), 100, 86400000,
     NULL},
    {0, "count", "N", "End after N reports.", OPTION_UINT, FIELD(count), 1, UINT64_MAX, NULL},
    {0, "prefix", "TOPIC", "What the topics start with. Default: host/ and this host's name.", OPTION_TEXT, FIELD(prefix), 0,
     0, NULL},
    {'q', "qos", "QOS", "0, 1 or 2. Default: 0.", OPTION_UINT, FIELD(qos), 0, 2, NULL},
    {'r', "retain", NULL, "The broker keeps the latest values.", OPTION_FLAG, FIELD(retain), 0, 0, NULL},
    {'n', "print", NULL, "Print the messages instead of publishing them.", OPTION_FLAG, FIELD(print), 0, 0, NULL},
};

static const char notes[] = "Series: cpu/total, cpu/N, memory, load, disk/NAME, filesystem/PATH, network/NAME, "
                            "temperature/NAME, pressure/NAME, uptime,\n"
                            "those that this host has. Each message is a JSON object; \"t\" is the Unix time in "
                            "milliseconds, sizes are bytes, shares are\n"
                            "percent.\n"
                            "\n"
                            "  skerry sense -n --count 1\n"
                            "  skerry sense -h gateway.local --interval 10s -q 1 --retain";

// ---- Messages

static enum status print_message(void *context, struct span topic, struct span payload)
{
  (void)context;
  printf("%.*s %.*s\n", (int)topic.size, (const char *)topic.at, (int)payload.size, (const char *)payload.at);
  return OK;
}

static enum status publish_message(void *context, struct span topic, struct span payload)
{
  struct sense *sense = context;
  if (client_unfinished(sense->client) >= QUEUE_MAX) {
    sense->dropped++;
    return OK;
  }
  struct mqtt_publish publish = {
      .qos = (uint8_t)sense->options->qos,
      .retain = sense->options->retain,
      .topic = topic,
      .payload = payload,
      .properties = sense->options->client.properties.packets[PROPERTY_PUBLISH].properties,
  };
  return client_publish(sense->client, &publish, 0);
}

// Live values are what counts: QoS 0 is not kept for a broker that is away.
static bool is_wanted(const struct sense *sense)
{
  return !sense->client || sense->options->qos > 0 || client_state(sense->client) == CLIENT_ONLINE;
}

static void report(struct sense *sense)
{
  sense_read(sense->now);
  uint64_t dropped = sense->dropped;
  enum status status = OK;
  if (is_wanted(sense)) {
    status = sense_report(sense->before, sense->now, sense->options->prefix, sense->client ? publish_message : print_message,
                          sense);
    sense->reports++;
  }
  if (sense->dropped > dropped && dropped == 0)
    client_complain(&sense->options->client, "the broker does not keep up; readings are dropped (%d are waiting)",
                    QUEUE_MAX);
  if (status != OK) {
    client_complain(&sense->options->client, "%s", status_name(status));
    sense->exit_code = COMMAND_FAILED;
  }
  struct sense_sample *before = sense->before;
  sense->before = sense->now;
  sense->now = before;
}

// Reports when it is time; keeps to the beat that was started, and skips beats that were missed.
static void report_if_due(struct sense *sense)
{
  uint64_t now_ms = client_now_ms();
  if (now_ms < sense->next_ms) return;
  uint64_t interval_ms = sense->options->interval_ms;
  sense->next_ms += interval_ms * ((now_ms - sense->next_ms) / interval_ms + 1);
  report(sense);
}

static bool is_over(const struct sense *sense)
{
  return sense->exit_code != COMMAND_OK || (sense->options->count > 0 && sense->reports >= sense->options->count);
}

static int until_ms(const struct sense *sense)
{
  uint64_t now_ms = client_now_ms();
  return sense->next_ms > now_ms ? (int)(sense->next_ms - now_ms) : 0;
}

// ---- The run

static void on_lost(void *context, const char *text, uint64_t retry_ms)
{
  struct sense *sense = context;
  client_complain(&sense->options->client, "%s; trying again in %.1f s", text, (double)retry_ms / 1000);
}

static void on_published(void *context, uint64_t tag, enum mqtt_reason reason)
{
  (void)tag;
  struct sense *sense = context;
  if (reason < MQTT_UNSPECIFIED_ERROR || sense->exit_code != COMMAND_OK) return;
  client_complain(&sense->options->client, "the broker refuses a reading: %s (0x%02x)", mqtt_reason_name(reason), reason);
  sense->exit_code = (int)reason;
}

static void run_printing(struct sense *sense, int signal_fd)
{
  while (!is_over(sense)) {
    struct pollfd fd = {.fd = signal_fd, .events = POLLIN};
    if (poll(&fd, 1, until_ms(sense)) > 0 && signals_take(signal_fd) != 0) return;
    report_if_due(sense);
    if (!client_flush_output(&sense->options->client)) sense->exit_code = COMMAND_FAILED;
  }
}

static void run_publishing(struct sense *sense, int signal_fd)
{
  client_start(sense->client);
  bool leaving = false;
  while (client_state(sense->client) < CLIENT_ENDED) {
    if (!leaving && client_state(sense->client) < CLIENT_ENDING) report_if_due(sense);
    leaving = leaving || is_over(sense);
    if (leaving && client_unfinished(sense->client) == 0) client_end(sense->client, false);
    struct pollfd fds[2] = {[1] = {.fd = signal_fd, .events = POLLIN}};
    client_wait(sense->client, fds, 2, leaving ? -1 : until_ms(sense));
    if (fds[1].revents && signals_take(signal_fd) != 0) client_end(sense->client, false);
  }
  if (client_state(sense->client) != CLIENT_FAILED) return;
  client_complain(&sense->options->client, "%s", client_failure(sense->client));
  sense->exit_code = client_exit_code(sense->client);
}

static enum status check(void *target, struct client_settings *settings, struct error *error)
{
  struct sense_options *options = target;
  char host[128] = "localhost";
  (void)gethostname(host, sizeof host - 1);
  for (char *at = host; *at; at++)
    if (strchr("/+#$ ", *at)) *at = '_';
  snprintf(options->host_prefix, sizeof options->host_prefix, "host/%s", host);
  if (!options->prefix) options->prefix = options->host_prefix;
  struct span prefix = span_text(options->prefix);
  if (prefix.size > PREFIX_MAX || !mqtt_topic_valid(prefix) || !mqtt_utf8_valid(prefix))
    return error_set(error, ERR_INVALID,
                     "--prefix is no topic name: empty, too long, not UTF-8, or with a wildcard (+ or #)");
  settings->reconnect = true;
  settings->retry_first = true;
  return OK;
}

static int sense_host(void *target, const struct client_settings *settings)
{
  const struct sense_options *options = target;
  struct sense sense = {.options = options};
  const struct client_handler handler = {.context = &sense, .lost = on_lost, .published = on_published};
  int signal_fd = signals_open(false);
  sense.before = malloc(sizeof *sense.before);
  sense.now = malloc(sizeof *sense.now);
  bool ready = signal_fd >= 0 && sense.before && sense.now;
  if (ready && !options->print) ready = client_create(settings, &handler, &sense.client) == OK;
  if (ready) {
    // The first report comes after one interval: rates need two samples.
    sense_read(sense.before);
    sense.next_ms = client_now_ms() + options->interval_ms;
    if (options->print)
      run_printing(&sense, signal_fd);
    else
      run_publishing(&sense, signal_fd);
  } else {
    client_complain(&options->client, "the system has no memory or descriptors left");
    sense.exit_code = COMMAND_FAILED;
  }
  client_destroy(sense.client);
  free(sense.before);
  free(sense.now);
  if (signal_fd >= 0) close(signal_fd);
  return sense.exit_code;
}

int sense_command(int argc, char **argv)
{
  struct sense_options options = {.interval_ms = 1000};
  const struct option_section sections[] = {
      OPTION_SECTION("Readings", rows, &options),
      client_connection_section(&options.client),
      client_tls_section(&options.client.tls),
      client_session_section(&options.client),
      client_will_section(&options.client),
  };
  const struct option_command command = {
      .name = "sense",
      .summary = "Publishes this host's readings: CPU, memory, load, disks, file systems, network, temperatures, pressure.",
      .usage = "[OPTIONS]",
      .notes = notes,
      .sections = sections,
      .section_count = sizeof sections / sizeof sections[0],
  };
  const struct client_command frame = {
      .command = &command, .client = &options.client, .options = &options, .check = check, .run = sense_host};
  return client_command_run(&frame, argc, argv);
}
