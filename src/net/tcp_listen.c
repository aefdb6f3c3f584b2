#include "net/tcp_listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static enum status fail(struct error *error, const struct tcp_listen *where, const char *what)
{
  int number = errno;
  return error_set(error, status_from_errno(number), "%s: cannot %s: %s", where->name, what, strerror(number));
}

static int set(int fd, int level, int option, int value)
{
  return setsockopt(fd, level, option, &value, sizeof value);
}

static enum status bind_address(const struct tcp_listen *where, const struct addrinfo *address, int *out_fd,
                                struct error *error)
{
  int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(error, where, "make a socket");
  const char *failed = NULL;
  bool v6 = address->ai_family == AF_INET6, dual_stack = !where->host && !where->ipv6_only;
  if (set(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0)
    failed = "set SO_REUSEADDR";
  else if (v6 && set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !dual_stack) < 0)
    failed = "set IPV6_V6ONLY";
  else if (set(fd, IPPROTO_TCP, TCP_NODELAY, 1) < 0)
    failed = "set TCP_NODELAY";
  else if (bind(fd, address->ai_addr, address->ai_addrlen) < 0)
    failed = "bind the address";
  else if (listen(fd, where->backlog) < 0)
    failed = "listen";
  if (failed) {
    enum status status = fail(error, where, failed);
    close(fd);
    return status;
  }
  *out_fd = fd;
  return OK;
}

enum status tcp_listen(const struct tcp_listen *where, int *out_fd, struct error *error)
{
  char port[8];
  snprintf(port, sizeof port, "%u", where->port);
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
  if (!where->host) hints.ai_family = AF_INET6;
  struct addrinfo *addresses = NULL;
  int result = getaddrinfo(where->host ? where->host : "::", port, &hints, &addresses);
  if (result != 0)
    return error_set(error, ERR_INVALID, "%s: cannot find the address: %s", where->name, gai_strerror(result));
  // "localhost" may be ::1 first where there is no IPv6.
  enum status status = ERR_INVALID;
  for (const struct addrinfo *at = addresses; at && status != OK && status != ERR_EXISTS; at = at->ai_next)
    status = bind_address(where, at, out_fd, error);
  freeaddrinfo(addresses);
  if (status == OK || status == ERR_EXISTS || where->host || where->ipv6_only) return status;
  // A machine without IPv6: all IPv4 addresses are then all addresses.
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(where->port)};
  struct addrinfo v4 = {.ai_family = AF_INET, .ai_addr = (struct sockaddr *)&any, .ai_addrlen = sizeof any};
  return bind_address(where, &v4, out_fd, error);
}
