#include "broker/control.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "base/list.h"
#include "broker/control_json.h"

enum { BACKLOG = 16, WORD_SIZE = 32, ACCEPT_PAUSE_MS = 100 };

struct control {
  struct event_base *base;
  int fd;
  struct event *accepting;
  struct event *again;  // accepting has failed: goes on with it
  char *path;
  control_answer *answer;
  void *context;
  struct link clients;
  unsigned count;
  struct control *older;  // retired before it was; NULL: none
};

struct client {
  struct control *control;
  struct link link;
  struct bufferevent *stream;
  int64_t uid, pid;
  bool last;  // closed as soon as what was answered is written
};

// ---- Requests

struct reading {
  struct control_request *request;
  struct error *error;
  bool has_command;
  enum status status;
};

static void take_command(struct reading *reading, const struct control_json_member *member)
{
  static const char *const names[] = {
      [CONTROL_RELOAD] = "reload", [CONTROL_CONFIRM] = "confirm", [CONTROL_ROLLBACK] = "rollback",
      [CONTROL_STATUS] = "status", [CONTROL_CLIENTS] = "clients", [CONTROL_DISCONNECT] = "disconnect"};
  char word[WORD_SIZE] = "";
  bool text = member->kind == CONTROL_JSON_TEXT && control_json_unescape(member->value, word, sizeof word);
  for (size_t i = 0; text && i < sizeof names / sizeof names[0]; i++) {
    if (strcmp(names[i], word) != 0) continue;
    reading->request->command = (enum control_command)i;
    reading->has_command = true;
    return;
  }
  reading->status = error_set(reading->error, ERR_INVALID,
                              "unknown command; known are reload, confirm, rollback, status, clients and disconnect");
}

static void take_confirm(struct reading *reading, const struct control_json_member *member)
{
  uint64_t value = 0;
  bool good = member->kind == CONTROL_JSON_NUMBER && member->value.size <= 9;
  for (size_t i = 0; good && i < member->value.size; i++) {
    good = member->value.at[i] >= '0' && member->value.at[i] <= '9';
    value = value * 10 + (uint64_t)(member->value.at[i] - '0');
  }
  if (good && value <= CONTROL_CONFIRM_MAX_MS)
    reading->request->confirm_ms = (uint32_t)value;
  else
    reading->status = error_set(reading->error, ERR_INVALID, "confirm_ms has to be a number of milliseconds up to %d",
                                CONTROL_CONFIRM_MAX_MS);
}

// An empty name would mean everybody, or whoever is anonymous: neither is what a script whose variable is empty wants.
static void take_name(struct reading *reading, const struct control_json_member *member, const char *what,
                      char out[CONTROL_NAME_SIZE])
{
  bool text = member->kind == CONTROL_JSON_TEXT && control_json_unescape(member->value, out, CONTROL_NAME_SIZE);
  if (text && *out) return;
  reading->status =
      error_set(reading->error, ERR_INVALID, "%s has to be a text of 1 to %d bytes", what, CONTROL_NAME_SIZE - 1);
}

static void take_member(void *context, const struct control_json_member *member)
{
  struct reading *reading = context;
  if (reading->status != OK) return;
  if (span_equal(member->name, span_text("command")))
    take_command(reading, member);
  else if (span_equal(member->name, span_text("confirm_ms")))
    take_confirm(reading, member);
  else if (span_equal(member->name, span_text("client")))
    take_name(reading, member, "client", reading->request->client);
  else if (span_equal(member->name, span_text("user")))
    take_name(reading, member, "user", reading->request->user);
  else
    reading->status =
        error_set(reading->error, ERR_INVALID, "unknown member; known are command, confirm_ms, client and user");
}

enum status control_parse(struct span line, struct control_request *out, struct error *error)
{
  struct control_request request = {.uid = -1, .pid = -1};
  struct reading reading = {.request = &request, .error = error};
  if (!control_json_read(line, take_member, &reading) && reading.status == OK)
    return error_set(error, ERR_INVALID, "not a JSON object; write {\"command\":\"status\"}");
  if (reading.status != OK) return reading.status;
  if (!reading.has_command) return error_set(error, ERR_INVALID, "no command; write {\"command\":\"status\"}");
  if (request.confirm_ms && request.command != CONTROL_RELOAD)
    return error_set(error, ERR_INVALID, "confirm_ms goes with reload only");
  bool named = request.client[0] || request.user[0];
  if (named && request.command != CONTROL_CLIENTS && request.command != CONTROL_DISCONNECT)
    return error_set(error, ERR_INVALID, "client and user go with clients and disconnect only");
  if (!named && request.command == CONTROL_DISCONNECT)
    return error_set(error, ERR_INVALID, "disconnect needs a client, a user, or both");
  *out = request;
  return OK;
}

// ---- Clients

static void close_client(struct client *client)
{
  list_remove(&client->link);
  client->control->count--;
  bufferevent_free(client->stream);
  free(client);
}

static void refuse(const char *why, struct buffer *out)
{
  struct control_json json = {.out = out};
  control_json_open(&json, NULL, '{');
  control_json_truth(&json, "ok", false);
  control_json_text(&json, "text", why);
  control_json_close(&json, '}');
}

static void answer_line(struct client *client, struct span line)
{
  struct control_request request;
  struct error error = {0};
  struct buffer out = {0};
  if (control_parse(line, &request, &error) == OK) {
    request.uid = client->uid;
    request.pid = client->pid;
    client->control->answer(client->control->context, &request, &out);
  } else {
    refuse(error.text, &out);
  }
  struct span bytes = buffer_peek(&out);
  bool sent = bytes.size > 0 && bufferevent_write(client->stream, bytes.at, bytes.size) == 0 &&
              bufferevent_write(client->stream, "\n", 1) == 0;
  buffer_deinit(&out);
  if (!sent) client->last = true;
}

// Whether the client stays: one that asks and does not read answers is closed.
static bool may_go_on(const struct client *client)
{
  return !client->last && evbuffer_get_length(bufferevent_get_output(client->stream)) < CONTROL_ANSWER_MAX;
}

static void take_lines(struct bufferevent *stream, void *context)
{
  struct client *client = context;
  struct evbuffer *input = bufferevent_get_input(stream);
  size_t size;
  char *line;
  while (may_go_on(client) && (line = evbuffer_readln(input, &size, EVBUFFER_EOL_LF))) {
    if (size > CONTROL_LINE_MAX) client->last = true;
    if (!client->last) answer_line(client, span_of(line, size));
    free(line);
  }
  if (evbuffer_get_length(input) > CONTROL_LINE_MAX) client->last = true;
  if (!may_go_on(client)) close_client(client);
}

static void take_event(struct bufferevent *stream, short what, void *context)
{
  (void)stream;
  (void)what;
  close_client(context);  // the end, an error, or nothing for too long
}

static void know_peer(struct client *client, int fd)
{
  struct ucred peer;
  socklen_t size = sizeof peer;
  bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  client->uid = known ? (int64_t)peer.uid : -1;
  client->pid = known ? (int64_t)peer.pid : -1;
}

// Without descriptors (EMFILE) whoever waits goes on waiting: he must not wake this thread all the time.
static void pause_accepting(struct control *control)
{
  const struct timeval in = {.tv_usec = ACCEPT_PAUSE_MS * 1000};
  event_del(control->accepting);
  event_add(control->again, &in);
}

static void accept_again(evutil_socket_t fd, short what, void *context)
{
  (void)fd;
  (void)what;
  struct control *control = context;
  event_add(control->accepting, NULL);
}

static void accept_client(evutil_socket_t listening, short what, void *context)
{
  (void)what;
  struct control *control = context;
  int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) pause_accepting(control);
    return;
  }
  struct client *client = control->count < CONTROL_CLIENTS_MAX ? calloc(1, sizeof *client) : NULL;
  if (client) client->stream = bufferevent_socket_new(control->base, fd, BEV_OPT_CLOSE_ON_FREE);
  if (!client || !client->stream) {
    free(client);
    close(fd);
    return;
  }
  client->control = control;
  know_peer(client, fd);
  list_append(&control->clients, &client->link);
  control->count++;
  const struct timeval idle = {.tv_sec = CONTROL_IDLE_S};
  bufferevent_setcb(client->stream, take_lines, NULL, take_event, client);
  bufferevent_set_timeouts(client->stream, &idle, &idle);
  bufferevent_enable(client->stream, EV_READ | EV_WRITE);
}

// ---- The socket

static enum status fail(struct error *error, const char *path, const char *what)
{
  int number = errno;
  return error_set(error, status_from_errno(number), "control.socket %s: cannot %s: %s", path, what, strerror(number));
}

// Where anybody may replace the socket by his own, nobody can know whom he speaks to.
static enum status check_directory(const char *path, struct error *error)
{
  char copy[sizeof((struct sockaddr_un *)0)->sun_path];
  snprintf(copy, sizeof copy, "%s", path);
  const char *directory = dirname(copy);
  struct stat info;
  if (stat(directory, &info) < 0) return fail(error, path, "use the directory");
  bool open_to_all = (info.st_mode & S_IWOTH) && !(info.st_mode & S_ISVTX);
  if (!open_to_all) return OK;
  return error_set(error, ERR_DENIED,
                   "control.socket %s: anybody may write to the directory; choose one that is the broker's own", path);
}

static enum status remove_stale(const struct sockaddr_un *address, struct error *error)
{
  const char *path = address->sun_path;
  struct stat info;
  if (lstat(path, &info) < 0) return errno == ENOENT ? OK : fail(error, path, "look at the path");
  if (!S_ISSOCK(info.st_mode))
    return error_set(error, ERR_EXISTS, "control.socket %s: the path exists and is not a socket", path);
  if (geteuid() != 0 && info.st_uid != geteuid())
    return error_set(error, ERR_DENIED, "control.socket %s: the socket there is another user's; remove it", path);
  int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return fail(error, path, "make a socket");
  int result = connect(probe, (const struct sockaddr *)address, sizeof *address);
  int number = errno;
  close(probe);
  if (result == 0 || number == EAGAIN)
    return error_set(error, ERR_EXISTS, "control.socket %s: another process listens on this socket", path);
  return unlink(path) < 0 ? fail(error, path, "remove the old socket") : OK;
}

static enum status listen_on(const struct sockaddr_un *address, uint32_t mode, int *out, struct error *error)
{
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(error, address->sun_path, "make a socket");
  // fchmod before bind decides the mode of the file: nobody can connect in between.
  if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 ||
      chmod(address->sun_path, mode) < 0 || listen(fd, BACKLOG) < 0) {
    enum status status = fail(error, address->sun_path, "listen on the path");
    close(fd);
    return status;
  }
  *out = fd;
  return OK;
}

static enum status open_socket(const char *path, uint32_t mode, int *out, struct error *error)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path)
    return error_set(error, ERR_INVALID, "control.socket %s: the path is longer than %zu bytes", path,
                     sizeof address.sun_path - 1);
  strcpy(address.sun_path, path);
  enum status status = check_directory(path, error);
  if (status == OK) status = remove_stale(&address, error);
  return status == OK ? listen_on(&address, mode, out, error) : status;
}

enum status control_open(struct event_base *base, const char *path, uint32_t mode, control_answer *answer, void *context,
                         struct control **out, struct error *error)
{
  int fd = -1;
  enum status status = open_socket(path, mode, &fd, error);
  if (status != OK) return status;
  struct control *control = calloc(1, sizeof *control);
  if (!control) {
    close(fd);
    return error_set(error, ERR_NO_MEMORY, "out of memory");
  }
  *control = (struct control){.base = base, .fd = fd, .answer = answer, .context = context};
  list_init(&control->clients);
  control->path = strdup(path);
  control->accepting = event_new(base, fd, EV_READ | EV_PERSIST, accept_client, control);
  control->again = event_new(base, -1, 0, accept_again, control);
  if (!control->path || !control->accepting || !control->again) {
    control_close(control);
    return error_set(error, ERR_NO_MEMORY, "out of memory");
  }
  event_add(control->accepting, NULL);
  *out = control;
  return OK;
}

void control_set_mode(struct control *control, uint32_t mode)
{
  (void)!chmod(control->path, mode);
}

static void stop_listening(struct control *control)
{
  if (control->fd < 0) return;
  if (control->accepting) event_del(control->accepting);
  if (control->again) event_del(control->again);
  close(control->fd);
  control->fd = -1;
  if (control->path) unlink(control->path);
}

void control_retire(struct control *control, struct control *older)
{
  stop_listening(control);
  control->older = older;
}

void control_close(struct control *control)
{
  for (struct control *older; control; control = older) {
    older = control->older;
    while (!list_empty(&control->clients)) close_client(CONTAINER_OF(control->clients.next, struct client, link));
    stop_listening(control);
    if (control->accepting) event_free(control->accepting);
    if (control->again) event_free(control->again);
    free(control->path);
    free(control);
  }
}
