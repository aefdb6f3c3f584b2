#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/gate.h"
#include "net/tcp_listen.h"

enum { BACKLOG = 4096 };

static enum status fail(struct error *error, const struct listener_settings *settings, const char *what)
{
  int number = errno;
  return error_set(error, status_from_errno(number), "%s: cannot %s: %s", settings->url, what, strerror(number));
}

static enum status open_tcp(const struct listener_settings *settings, int *out_fd, struct error *error)
{
  const struct tcp_listen where = {.name = settings->url,
                                   .host = settings->host,
                                   .port = settings->port,
                                   .ipv6_only = settings->ipv6_only,
                                   .backlog = BACKLOG};
  return tcp_listen(&where, out_fd, error);
}

// A socket file that nobody listens on is left over from a crash and is replaced.
static enum status remove_stale(const struct listener_settings *settings, const struct sockaddr_un *address,
                                struct error *error)
{
  struct stat info;
  if (lstat(address->sun_path, &info) < 0) return errno == ENOENT ? OK : fail(error, settings, "look at the path");
  if (!S_ISSOCK(info.st_mode)) return error_set(error, ERR_EXISTS, "%s: the path exists and is not a socket", settings->url);
  int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return fail(error, settings, "make a socket");
  int result = connect(probe, (const struct sockaddr *)address, sizeof *address);
  int number = errno;
  close(probe);
  if (result == 0 || number == EAGAIN)
    return error_set(error, ERR_EXISTS, "%s: another process listens on this socket", settings->url);
  if (unlink(address->sun_path) < 0) return fail(error, settings, "remove the old socket");
  return OK;
}

static enum status open_unix(const struct listener_settings *settings, int *out_fd, struct error *error)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(settings->unix_path) >= sizeof address.sun_path)
    return error_set(error, ERR_INVALID, "%s: the path is longer than %zu bytes", settings->url,
                     sizeof address.sun_path - 1);
  strcpy(address.sun_path, settings->unix_path);
  enum status status = remove_stale(settings, &address, error);
  if (status != OK) return status;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(error, settings, "make a socket");
  // fchmod before bind decides the mode of the file: nobody can connect in between.
  if (fchmod(fd, settings->unix_mode) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
      chmod(address.sun_path, settings->unix_mode) < 0 || listen(fd, BACKLOG) < 0) {
    status = fail(error, settings, "listen on the path");
    close(fd);
    return status;
  }
  *out_fd = fd;
  return OK;
}

static enum status take_passed(const struct listener_settings *settings, int *out_fd, struct error *error)
{
  int flags = fcntl(settings->passed_fd, F_GETFL);
  if (flags < 0 || fcntl(settings->passed_fd, F_SETFL, flags | O_NONBLOCK) < 0)
    return fail(error, settings, "use the passed socket");
  (void)fcntl(settings->passed_fd, F_SETFD, FD_CLOEXEC);
  int on = 1;
  (void)setsockopt(settings->passed_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // fails on Unix sockets: no delay there
  *out_fd = settings->passed_fd;
  return OK;
}

enum status listener_open(const struct listener_settings *settings, struct listener **out, struct error *error)
{
  struct listener *listener = calloc(1, sizeof *listener);
  if (!listener) return error_set(error, ERR_NO_MEMORY, "%s: out of memory", settings->url);
  references_init(&listener->references);
  listener->fd = -1;
  listener->kind = settings->kind;
  listener->websocket = settings->websocket;
  listener->tls = settings->tls;
  pthread_mutex_init(&listener->gate_lock, NULL);
  listener->url = strdup(settings->url);
  listener->websocket_path = settings->websocket_path ? strdup(settings->websocket_path) : NULL;
  enum status status;
  if (settings->passed_fd >= 0)
    status = take_passed(settings, &listener->fd, error);
  else if (settings->kind == LISTENER_UNIX)
    status = open_unix(settings, &listener->fd, error);
  else
    status = open_tcp(settings, &listener->fd, error);
  if (status == OK && settings->kind == LISTENER_UNIX && settings->passed_fd < 0)
    listener->unix_path = strdup(settings->unix_path);
  if (status != OK) {
    listener_unref(listener);
    return status;
  }
  *out = listener;
  return OK;
}

struct listener *listener_ref(struct listener *listener)
{
  references_take(&listener->references);
  return listener;
}

void listener_unref(struct listener *listener)
{
  if (!listener || !references_drop(&listener->references)) return;
  listener_close(listener);
  gate_unref(listener->gate);
  pthread_mutex_destroy(&listener->gate_lock);
  free(listener->url);
  free(listener->unix_path);
  free(listener->websocket_path);
  free(listener);
}

void listener_close(struct listener *listener)
{
  if (listener->fd < 0) return;
  close(listener->fd);
  listener->fd = -1;
  if (listener->unix_path) unlink(listener->unix_path);
}

struct gate *listener_gate(struct listener *listener)
{
  pthread_mutex_lock(&listener->gate_lock);
  struct gate *gate = gate_ref(listener->gate);
  pthread_mutex_unlock(&listener->gate_lock);
  return gate;
}

void listener_set_gate(struct listener *listener, struct gate *gate)
{
  pthread_mutex_lock(&listener->gate_lock);
  struct gate *before = listener->gate;
  listener->gate = gate;
  atomic_store(&listener->gated, gate);
  atomic_fetch_add(&listener->gate_generation, 1);
  pthread_mutex_unlock(&listener->gate_lock);
  gate_unref(before);
}

uint16_t listener_port(const struct listener *listener)
{
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  if (getsockname(listener->fd, (struct sockaddr *)&address, &size) < 0) return 0;
  if (address.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)(void *)&address)->sin_port);
  if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)(void *)&address)->sin6_port);
  return 0;
}
