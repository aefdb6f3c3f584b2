// Where to listen, as a person writes it: mqtt://host:port, ws://host:port/path (mqtts, wss: with TLS), unix:///path,
// systemd://name, or host:port.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum listen_kind {
  LISTEN_TCP,        // mqtt://, mqtts://, and plain host:port
  LISTEN_WEBSOCKET,  // ws://, wss://
  LISTEN_UNIX,       // unix://
  LISTEN_SYSTEMD,    // systemd://: a socket that the service manager passes by name, MQTT on it
};

enum {
  LISTEN_PORT_MQTT = 1883,
  LISTEN_PORT_MQTTS = 8883,
  LISTEN_PORT_WEBSOCKET = 80,
  LISTEN_PORT_WEBSOCKETS = 443,
  LISTEN_UNIX_PATH_MAX = 107
};

// Owns its texts. A zeroed struct is "not set": its text is NULL.
struct listen_address {
  char *text;  // as it was written
  enum listen_kind kind;
  bool tls;    // mqtts://, wss://
  char *host;  // an IPv4 or IPv6 address (without brackets, perhaps with a %zone) or a name; NULL: every address, v4 and v6
  uint16_t port;  // 0: any free one
  char *path;     // ws: of the request, NULL for any; unix: of the socket; systemd: the name (FileDescriptorName=)
};

void listen_address_deinit(struct listen_address *address);

// Both replace nothing on failure: ERR_INVALID with the error's text, or ERR_NO_MEMORY. `out` must be zeroed or
// deinitialised.
CHECK_RESULT enum status listen_url_parse(const char *text, struct listen_address *out, struct error *error);
CHECK_RESULT enum status listen_host_port_parse(const char *text, struct listen_address *out, struct error *error);

// Only this machine can connect: a loopback address, "localhost", or a Unix socket.
bool listen_address_local(const struct listen_address *address);

// Whether both cannot be open at once. `ipv6_only` says that the address takes IPv6 connections only.
bool listen_address_clashes(const struct listen_address *a, bool a_ipv6_only, const struct listen_address *b,
                            bool b_ipv6_only);
