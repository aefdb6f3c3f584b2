// A socket that listens on TCP. Any thread; looking a name up may take its time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct tcp_listen {
  const char *name;  // of the listener, for errors
  const char *host;  // NULL: all addresses, IPv6 and IPv4
  uint16_t port;
  bool ipv6_only;
  int backlog;
};

// The first address of the host that this machine has. Does not block, closes on exec; accepted sockets inherit TCP_NODELAY.
// ERR_EXISTS: somebody else has the address. ERR_INVALID: there is no such host. The error says which listener and why.
CHECK_RESULT enum status tcp_listen(const struct tcp_listen *where, int *out_fd, struct error *error);
