// skerry ctl: asks a running broker over its control socket, and prints the answer.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "broker/config.h"
#include "broker/control.h"
#include "broker/control_json.h"
#include "cli/commands.h"
#include "cli/options.h"

#define complain(...) option_complain("ctl", __VA_ARGS__)

enum { TIMEOUT_MS = 60 * 1000, READ_SIZE = 4096 };

static const char default_socket[] = "/run/skerry/control.sock";

struct ctl_options {
  const char *socket;
  const char *config;
  const char *client, *user;
  uint64_t confirm_ms;
  bool json;
};

// ---- The socket

// The path from the broker's configuration; heap. False after a message.
static bool find_socket(const struct ctl_options *options, char **out)
{
  const char *path = options->socket ? options->socket : default_socket;
  struct config config = {0};
  struct diagnostics diagnostics = {0};
  bool good = true;
  if (!options->socket && options->config) {
    const struct config_source source = {.file = options->config};
    good = config_load(&source, &config, &diagnostics) == OK;
    for (size_t i = 0; i < diagnostics.count; i++) complain("%s", diagnostics.texts[i]);
    path = config.control.socket;
    if (good && !path) complain("%s: has no control socket; write control: {socket: %s}", options->config, default_socket);
  }
  *out = good && path ? strdup(path) : NULL;
  config_deinit(&config);
  diagnostics_deinit(&diagnostics);
  return *out != NULL;
}

static int dial(const char *path)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) return fd;
  int number = errno;
  close(fd);
  errno = number;
  return -1;
}

static void explain(const char *path)
{
  const char *hint = "";
  if (errno == ENOENT || errno == ECONNREFUSED)
    hint = "; no broker listens there: is it running, and is control.socket in its configuration?";
  if (errno == EACCES) hint = "; its permissions (control.mode) let only its owner in";
  complain("%s: %s%s", path, strerror(errno), hint);
}

static uint64_t now_ms(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool send_all(int fd, struct span bytes)
{
  while (bytes.size) {
    ssize_t sent = send(fd, bytes.at, bytes.size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes = span_from(bytes, (size_t)sent);
  }
  return true;
}

// One line, without its end. False: closed, too long or too late; errno says which.
static bool receive_line(int fd, struct buffer *out)
{
  uint64_t deadline = now_ms() + TIMEOUT_MS;
  while (buffer_size(out) <= CONTROL_ANSWER_MAX) {
    struct span have = buffer_peek(out);
    const uint8_t *end = have.size ? memchr(have.at, '\n', have.size) : NULL;
    if (end) {
      out->end = out->start + (size_t)(end - have.at);
      return true;
    }
    uint64_t now = now_ms();
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    int ready = poll(&waiting, 1, now < deadline ? (int)(deadline - now) : 0);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) errno = ETIMEDOUT;
    uint8_t *room = ready > 0 ? buffer_reserve(out, READ_SIZE) : NULL;
    if (!room) return false;
    ssize_t got = read(fd, room, READ_SIZE);
    if (got == 0) errno = ECONNRESET;
    if (got <= 0) return false;
    buffer_commit(out, (size_t)got);
  }
  errno = EMSGSIZE;
  return false;
}

// ---- The answer

struct outcome {
  bool has_ok, ok;
  struct span text;
};

static void take_member(void *context, const struct control_json_member *member)
{
  struct outcome *outcome = context;
  if (span_equal(member->name, span_text("ok")) && member->kind == CONTROL_JSON_TRUTH) {
    outcome->has_ok = true;
    outcome->ok = span_equal(member->value, span_text("true"));
  }
  if (span_equal(member->name, span_text("text")) && member->kind == CONTROL_JSON_TEXT) outcome->text = member->value;
}

static int print_answer(struct span line, bool json)
{
  struct outcome outcome = {0};
  if (!control_json_read(line, take_member, &outcome) || !outcome.has_ok) {
    complain("the broker's answer cannot be read; is it of another version?");
    return COMMAND_FAILED;
  }
  if (json) {
    printf("%.*s\n", (int)line.size, (const char *)line.at);
  } else {
    char *text = malloc(outcome.text.size + 1);
    if (text && control_json_unescape(outcome.text, text, outcome.text.size + 1)) {
      bool whole = outcome.text.size && text[strlen(text) - 1] == '\n';
      fprintf(outcome.ok ? stdout : stderr, "%s%s", text, whole ? "" : "\n");
    }
    free(text);
  }
  return outcome.ok ? COMMAND_OK : COMMAND_USAGE;
}

static int ask(const char *path, struct span request, bool json)
{
  int fd = dial(path);
  if (fd < 0) {
    explain(path);
    return COMMAND_FAILED;
  }
  struct buffer answer = {0};
  int code = COMMAND_FAILED;
  if (send_all(fd, request) && receive_line(fd, &answer))
    code = print_answer(buffer_peek(&answer), json);
  else
    complain("%s: no answer: %s", path, strerror(errno));
  buffer_deinit(&answer);
  close(fd);
  return code;
}

// ---- The command line

static bool is_known(const char *command)
{
  static const char *const commands[] = {"reload", "confirm", "rollback", "status", "clients", "disconnect"};
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
    if (strcmp(commands[i], command) == 0) return true;
  return false;
}

// What is wrong with the words; NULL: nothing.
static const char *find_mistake(const char *command, const struct ctl_options *options)
{
  bool disconnect = strcmp(command, "disconnect") == 0;
  bool named = options->client || options->user;
  if (options->confirm_ms && strcmp(command, "reload") != 0) return "--confirm goes with reload only";
  if (named && !disconnect && strcmp(command, "clients") != 0)
    return "--client and --user go with clients and disconnect only";
  if (disconnect && !named) return "say whom: \"skerry ctl disconnect --client ID\", or --user NAME";
  return NULL;
}

// One line of JSON; false after a message.
static bool write_request(const char *command, const struct ctl_options *options, struct buffer *out)
{
  if (!is_known(command)) {
    fprintf(stderr,
            "skerry ctl: unknown request \"%.40s\"; known are reload, confirm, rollback, status, clients and disconnect\n",
            command);
    return false;
  }
  const char *mistake = find_mistake(command, options);
  if (mistake) {
    fprintf(stderr, "skerry ctl: %s\n", mistake);
    return false;
  }
  struct control_json json = {.out = out};
  control_json_open(&json, NULL, '{');
  control_json_text(&json, "command", command);
  if (options->confirm_ms) control_json_number(&json, "confirm_ms", (int64_t)options->confirm_ms);
  if (options->client) control_json_text(&json, "client", options->client);
  if (options->user) control_json_text(&json, "user", options->user);
  control_json_close(&json, '}');
  if (json.failed || buffer_append(out, "\n", 1) != OK) {
    fprintf(stderr, "skerry ctl: out of memory\n");
    return false;
  }
  return true;
}

int ctl_command(int argc, char **argv)
{
  struct ctl_options options = {0};
  const struct option rows[] = {
      {.short_name = 's',
       .name = "socket",
       .argument = "PATH",
       .help = "the broker's control socket; /run/skerry/control.sock without it",
       .kind = OPTION_TEXT,
       .offset = offsetof(struct ctl_options, socket)},
      {.short_name = 'c',
       .name = "config",
       .argument = "FILE",
       .help = "take the path of the socket from this configuration",
       .kind = OPTION_TEXT,
       .offset = offsetof(struct ctl_options, config)},
      {.name = "confirm",
       .argument = "TIME",
       .help = "with reload: roll back after this time (60s, 5m) unless\n\"skerry ctl confirm\" comes before",
       .kind = OPTION_DURATION,
       .offset = offsetof(struct ctl_options, confirm_ms),
       .minimum = 1,
       .maximum = CONTROL_CONFIRM_MAX_MS},
      {.short_name = 'i',
       .name = "client",
       .argument = "ID",
       .help = "with clients and disconnect: this client identifier only",
       .kind = OPTION_TEXT,
       .offset = offsetof(struct ctl_options, client)},
      {.short_name = 'u',
       .name = "user",
       .argument = "NAME",
       .help = "with clients and disconnect: clients of this user only",
       .kind = OPTION_TEXT,
       .offset = offsetof(struct ctl_options, user)},
      {.name = "json",
       .help = "print the broker's answer as it comes, one JSON object",
       .kind = OPTION_FLAG,
       .offset = offsetof(struct ctl_options, json)},
  };
  const struct option_section section = OPTION_SECTION("Options", rows, &options);
  const struct option_command command = {
      .name = "ctl",
      .summary =
          "Asks a running broker: reload its configuration, confirm a reload or roll it back, tell its state, list or\n"
          "disconnect clients.",
      .usage = "[-s PATH | -c FILE] [--json] reload [--confirm TIME]\n"
               "[-s PATH | -c FILE] [--json] confirm | rollback | status\n"
               "[-s PATH | -c FILE] [--json] clients | disconnect [--client ID] [--user NAME]",
      .notes = "Exits with 0 when the broker has done it, 2 when it refuses (a mistake in the configuration, nothing to "
               "confirm) or\n"
               "the command line is wrong, 1 when it cannot be reached.",
      .sections = &section,
      .section_count = 1,
      .positional_maximum = 1,
  };
  int positional = 0;
  int exit_code = options_begin(&command, argc, argv, &positional);
  if (exit_code >= 0) return exit_code;
  if (positional != 1) {
    complain("nothing is asked; write \"skerry ctl status\", reload, confirm or rollback");
    return COMMAND_USAGE;
  }
  struct buffer request = {0};
  char *path = NULL;
  exit_code = COMMAND_USAGE;
  if (write_request(argv[1], &options, &request) && find_socket(&options, &path))
    exit_code = ask(path, buffer_peek(&request), options.json);
  buffer_deinit(&request);
  free(path);
  return exit_code;
}
