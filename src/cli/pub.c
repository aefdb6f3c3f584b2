// `skerry pub`: publishes one message, the same one several times, or each line of standard input.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/client_command.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "mqtt/topic.h"

enum {
  AHEAD_MESSAGES = 1000,  // lines that are read ahead of the broker
  AHEAD_BYTES = 16 * 1024 * 1024,
  READ_BYTES = 65536,
  RESUME_S = 300,  // how long a broker shall keep the session of `-l` while the link is down
};

struct pub_options {
  struct client_options client;
  const char *topic;
  const char *message;
  const char *file;
  bool lines;
  bool whole_input;
  bool null_message;
  uint64_t qos;
  bool retain;
  uint64_t repeat;  // 0: not given
  uint64_t repeat_delay_ms;
  uint64_t timeout_ms;  // 0: none
};

struct pub {
  const struct pub_options *options;
  struct client *client;
  struct mqtt_publish publish;  // topic, payload, options of every message
  struct buffer input;          // the payload, or lines that are not given to the client yet
  bool input_over;
  uint64_t left;        // repetitions to give to the client
  uint64_t next_ms;     // when the next one is due
  uint64_t give_up_ms;  // UINT64_MAX: never
  int exit_code;
};

#define FIELD(name) offsetof(struct pub_options, name)

static const struct option rows[] = {
    {'t', "topic", "TOPIC", "Topic to publish to.", OPTION_TEXT, FIELD(topic), 0, 0, NULL},
    {'m', "message", "TEXT", "Publish TEXT.", OPTION_TEXT, FIELD(message), 0, 0, NULL},
    {'f', "file", "FILE", "Publish a file's contents.", OPTION_TEXT, FIELD(file), 0, 0, NULL},
    {'l', "stdin-line", NULL,
     "Publish each line of standard input. Survives reconnections; what was not acknowledged is sent again.", OPTION_FLAG,
     FIELD(lines), 0, 0, NULL},
    {'s', "stdin-file", NULL, "Publish all of standard input as one message.", OPTION_FLAG, FIELD(whole_input), 0, 0, NULL},
    {'n', "null-message", NULL, "Publish an empty message; with -r it clears the retained one.", OPTION_FLAG,
     FIELD(null_message), 0, 0, NULL},
    {'q', "qos", "QOS", "0, 1 or 2. Default: 0.", OPTION_UINT, FIELD(qos), 0, 2, NULL},
    {'r', "retain", NULL, "The broker keeps the message for later subscribers.", OPTION_FLAG, FIELD(retain), 0, 0, NULL},
    {0, "repeat", "N", "Publish the message N times.", OPTION_UINT, FIELD(repeat), 1, UINT64_MAX, NULL},
    {0, "repeat-delay", "SECONDS", "Pause between two of them. Default: 0.", OPTION_DURATION, FIELD(repeat_delay_ms), 0,
     86400000, NULL},
    {'W', "timeout", "SECONDS", "Give up after that time, with exit code 27.", OPTION_DURATION, FIELD(timeout_ms), 1,
     86400000ULL * 365, NULL},
};

static const char usage[] =
    "-t TOPIC {-m TEXT | -f FILE | -l | -s | -n} [OPTIONS]\n-L URL {-m TEXT | -f FILE | -l | -s | -n} [OPTIONS]";

static const char notes[] =
    "Exit code: 0 when the broker has everything (at QoS 1 and 2: has acknowledged it), 1 for network and file errors, 2 "
    "for a\n"
    "wrong command line, 27 for a time-out; 128 and more is the MQTT reason code with which the broker refused.\n"
    "\n"
    "  skerry pub -t plant/line1/temp -m 21.5\n"
    "  skerry pub -L mqtt://gateway.local/plant/state -m up -q 1 -r -D publish content-type text/plain\n"
    "  tail -F log | skerry pub -t host/log -l -q 1";

// ---- Input

static enum status read_whole(int fd, struct buffer *out, struct error *error)
{
  for (;;) {
    uint8_t *at = buffer_reserve(out, READ_BYTES);
    if (!at) return error_set(error, ERR_NO_MEMORY, "out of memory");
    ssize_t size = read(fd, at, READ_BYTES);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return error_set(error, status_from_errno(errno), "%s", strerror(errno));
    if (size == 0) return OK;
    buffer_commit(out, (size_t)size);
    if (buffer_size(out) > MQTT_MAX_REMAINING_LENGTH)
      return error_set(error, ERR_LIMIT, "more than a message can hold (256 MiB)");
  }
}

static enum status read_file(const char *path, struct buffer *out, struct error *error)
{
  FILE *file = fopen(path, "re");
  if (!file) return error_set(error, status_from_errno(errno), "%s: %s", path, strerror(errno));
  enum status status = read_whole(fileno(file), out, error);
  fclose(file);
  return status == OK ? OK : error_prefix(error, "%s", path);
}

static enum status load_payload(struct pub *pub, struct error *error)
{
  const struct pub_options *options = pub->options;
  enum status status = OK;
  pub->publish.payload = span_text(options->message ? options->message : "");
  if (options->file) status = read_file(options->file, &pub->input, error);
  if (options->whole_input) status = read_whole(STDIN_FILENO, &pub->input, error);
  if (status == OK && (options->file || options->whole_input)) pub->publish.payload = buffer_peek(&pub->input);
  return status;
}

// False when the client takes no more.
static bool give(struct pub *pub, struct span payload)
{
  pub->publish.payload = payload;
  enum status status = client_publish(pub->client, &pub->publish, 0);
  if (status == OK) return true;
  pub->input_over = true;
  if (status == ERR_CLOSED) return false;  // the client has said why
  client_complain(&pub->options->client, "out of memory");
  pub->exit_code = COMMAND_FAILED;
  client_end(pub->client, false);
  return false;
}

static bool has_room(const struct pub *pub)
{
  return client_unfinished(pub->client) < AHEAD_MESSAGES && client_queued_bytes(pub->client) < AHEAD_BYTES;
}

static void give_lines(struct pub *pub)
{
  size_t done = 0;
  struct span all = buffer_peek(&pub->input);
  const uint8_t *newline;
  while (done < all.size && (newline = memchr(all.at + done, '\n', all.size - done))) {
    size_t size = (size_t)(newline - (all.at + done));
    if (!give(pub, span_of(all.at + done, size))) break;
    done += size + 1;
  }
  buffer_consume(&pub->input, done);
}

static void read_lines(struct pub *pub)
{
  uint8_t *at = buffer_reserve(&pub->input, READ_BYTES);
  ssize_t size = at ? read(STDIN_FILENO, at, READ_BYTES) : -1;
  if (at && size < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (size > 0) {
    buffer_commit(&pub->input, (size_t)size);
    give_lines(pub);
    if (buffer_size(&pub->input) <= MQTT_MAX_REMAINING_LENGTH) return;
  }
  if (size != 0) {
    client_complain(&pub->options->client, "standard input: %s",
                    size > 0 ? "a line is longer than a message can be" : strerror(errno));
    pub->exit_code = COMMAND_FAILED;
  } else if (buffer_size(&pub->input) > 0) {
    (void)give(pub, buffer_peek(&pub->input));  // the last line has no newline
  }
  pub->input_over = true;
}

// Gives the client the repetitions that are due.
static void give_repetitions(struct pub *pub)
{
  uint64_t now_ms = client_now_ms();
  while (pub->left > 0 && now_ms >= pub->next_ms && has_room(pub)) {
    if (!give(pub, pub->publish.payload)) return;
    pub->left--;
    pub->next_ms = now_ms + pub->options->repeat_delay_ms;
  }
  if (pub->left == 0) pub->input_over = true;
}

// ---- What the client tells

static void on_lost(void *context, const char *text, uint64_t retry_ms)
{
  struct pub *pub = context;
  client_complain(&pub->options->client, "connection lost: %s; trying again in %.1f s", text, (double)retry_ms / 1000);
}

static void on_published(void *context, uint64_t tag, enum mqtt_reason reason)
{
  (void)tag;
  struct pub *pub = context;
  if (reason < MQTT_UNSPECIFIED_ERROR) return;
  client_complain(&pub->options->client, "message to %s refused: %s (0x%02x)", pub->options->topic, mqtt_reason_name(reason),
                  reason);
  pub->exit_code = (int)reason;
}

// ---- The run

static int64_t until_ms(const struct pub *pub)
{
  uint64_t next_ms = pub->give_up_ms;
  if (!pub->options->lines && pub->left > 0 && pub->next_ms < next_ms && has_room(pub)) next_ms = pub->next_ms;
  if (next_ms == UINT64_MAX) return -1;
  uint64_t now_ms = client_now_ms();
  return next_ms > now_ms ? (int64_t)(next_ms - now_ms) : 0;
}

static void stop(struct pub *pub, int exit_code, const char *why)
{
  if (client_unfinished(pub->client) > 0 || !pub->input_over) {
    client_complain(&pub->options->client, "%s; %zu messages are not with the broker for certain", why,
                    client_unfinished(pub->client));
    pub->exit_code = exit_code;
  }
  pub->input_over = true;
  pub->left = 0;
  pub->give_up_ms = UINT64_MAX;
  client_end(pub->client, false);
}

static void run(struct pub *pub, int signal_fd)
{
  bool lines = pub->options->lines;
  client_start(pub->client);
  while (client_state(pub->client) < CLIENT_ENDED) {
    if (!lines) give_repetitions(pub);
    if (pub->input_over && client_unfinished(pub->client) == 0) client_end(pub->client, false);
    struct pollfd fds[3] = {
        [1] = {.fd = signal_fd, .events = POLLIN},
        [2] = {.fd = lines && !pub->input_over && has_room(pub) ? STDIN_FILENO : -1, .events = POLLIN},
    };
    client_wait(pub->client, fds, 3, until_ms(pub));
    if (fds[1].revents && signals_take(signal_fd) != 0) stop(pub, COMMAND_FAILED, "interrupted");
    if (fds[2].revents) read_lines(pub);
    if (client_now_ms() >= pub->give_up_ms) stop(pub, COMMAND_TIMEOUT, "timed out");
  }
  if (client_state(pub->client) != CLIENT_FAILED) return;
  client_complain(&pub->options->client, "%s", client_failure(pub->client));
  pub->exit_code = client_exit_code(pub->client);
}

static enum status check(void *target, struct client_settings *settings, struct error *error)
{
  struct pub_options *options = target;
  int sources =
      (options->message != NULL) + (options->file != NULL) + options->lines + options->whole_input + options->null_message;
  if (sources != 1) return error_set(error, ERR_INVALID, "say what to publish with one of -m, -f, -l, -s and -n");
  if (!options->topic) options->topic = options->client.url.topic;
  if (!options->topic) return error_set(error, ERR_INVALID, "the topic (-t) is missing");
  struct span topic = span_text(options->topic);
  if (!mqtt_topic_valid(topic) || !mqtt_utf8_valid(topic) || topic.size > MQTT_MAX_STRING)
    return error_set(error, ERR_INVALID, "\"%.80s\" is no topic name: empty, too long, not UTF-8, or with a wildcard (+ or #)",
                     options->topic);
  if (options->lines && options->repeat) return error_set(error, ERR_INVALID, "--repeat does not go with -l");
  settings->reconnect = options->lines || options->repeat > 1;
  // Exactly once needs a session that lasts as long as the command, over its reconnections, and no longer.
  struct mqtt_properties *properties = &settings->connect_properties;
  if (settings->version == MQTT_5_0 && settings->reconnect && options->qos > 0 && !MQTT_HAS(properties, SESSION_EXPIRY)) {
    properties->present |= 1ULL << MQTT_PROPERTY_SESSION_EXPIRY;
    properties->session_expiry_s = RESUME_S;
    settings->discard_session = true;
  }
  return OK;
}

static int publish(void *target, const struct client_settings *settings)
{
  const struct pub_options *options = target;
  struct error error = {0};
  struct pub pub = {
      .options = options,
      .left = options->repeat ? options->repeat : 1,
      .give_up_ms = options->timeout_ms ? client_now_ms() + options->timeout_ms : UINT64_MAX,
      .publish = {.qos = (uint8_t)options->qos,
                  .retain = options->retain,
                  .topic = span_text(options->topic),
                  .properties = options->client.properties.packets[PROPERTY_PUBLISH].properties},
  };
  const struct client_handler handler = {.context = &pub, .lost = on_lost, .published = on_published};
  int signal_fd = signals_open(false);
  enum status status = load_payload(&pub, &error);
  if (status == OK) status = client_create(settings, &handler, &pub.client);
  if (status == OK && signal_fd >= 0) {
    run(&pub, signal_fd);
  } else {
    client_complain(&options->client, "%s", error.text[0] ? error.text : "the system has no memory or descriptors left");
    pub.exit_code = COMMAND_FAILED;
  }
  client_destroy(pub.client);
  buffer_deinit(&pub.input);
  if (signal_fd >= 0) close(signal_fd);
  return pub.exit_code;
}

int pub_command(int argc, char **argv)
{
  struct pub_options options = {0};
  const struct option_section sections[] = {
      OPTION_SECTION("Message", rows, &options),
      client_connection_section(&options.client),
      client_tls_section(&options.client.tls),
      client_session_section(&options.client),
      client_will_section(&options.client),
  };
  const struct option_command command = {
      .name = "pub",
      .summary = "Publishes messages to an MQTT broker.",
      .usage = usage,
      .notes = notes,
      .sections = sections,
      .section_count = sizeof sections / sizeof sections[0],
  };
  const struct client_command frame = {
      .command = &command, .client = &options.client, .options = &options, .check = check, .run = publish};
  return client_command_run(&frame, argc, argv);
}
