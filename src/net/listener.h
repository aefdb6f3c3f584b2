// Sockets that accept MQTT connections: TCP (v4, v6, both), Unix, WebSocket over TCP, or one that the service manager
// passed. Opened by the control thread, then shared by all loops.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/references.h"

struct gate;

enum listener_kind { LISTENER_TCP, LISTENER_UNIX };

// What every loop needs to know of a listener. Reference-counted: transports keep theirs.
struct listener {
  struct references references;
  _Atomic uint32_t connections;
  int fd;
  enum listener_kind kind;
  char *url;        // for logs, as configured
  char *unix_path;  // to unlink when it is closed; NULL: none, or not ours
  // May change while it is open (a reload).
  _Atomic bool anonymous;
  _Atomic bool proxy_protocol;
  _Atomic uint32_t max_connections;     // 0: only the broker's limit
  _Atomic uint32_t rate;                // accepted per second at most; 0: no limit
  _Atomic uint32_t most_per_address;    // connections; 0: no limit
  _Atomic uint32_t connect_timeout_ms;  // 0: as the handshaker was told
  _Atomic uint8_t limits;               // the number of its limits in each shard: see net_set_listener_limits
  bool websocket;
  char *websocket_path;  // NULL: any
  bool tls;              // its connections begin with a TLS handshake: see net/handshaker.h
  pthread_mutex_t gate_lock;
  struct gate *gate;                 // NULL: anybody, by `anonymous`. Under the lock
  _Atomic bool gated;                // there is one
  _Atomic uint32_t gate_generation;  // counts up with every new gate
};

struct listener_settings {
  const char *url;
  enum listener_kind kind;
  const char *host;  // NULL: all addresses, v4 and v6
  uint16_t port;
  bool ipv6_only;
  const char *unix_path;
  uint32_t unix_mode;
  int passed_fd;  // from the service manager; -1: none
  bool websocket;
  const char *websocket_path;
  bool tls;
};

// Binds and listens. One reference. ERR_EXISTS: the address is in use. The error says which address.
CHECK_RESULT enum status listener_open(const struct listener_settings *settings, struct listener **out, struct error *error);

struct listener *listener_ref(struct listener *listener);
void listener_unref(struct listener *listener);  // the last one frees; NULL is harmless

// Stops accepting: closes the socket and removes a Unix socket's file. After all loops have let go of the descriptor.
void listener_close(struct listener *listener);

// Who may come in by it. Any thread. The result is a reference, NULL when there is none; set takes the caller's reference
// and lets go of the one before. Connections are not told: see net_set_gate.
struct gate *listener_gate(struct listener *listener);
void listener_set_gate(struct listener *listener, struct gate *gate);

// The port that was bound, for port 0; 0 for Unix sockets.
uint16_t listener_port(const struct listener *listener);
