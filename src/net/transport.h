// One accepted socket and what lies between it and MQTT: a PROXY header, the WebSocket handshake and frames. Belongs to one loop at a
// time; may be handed to another with everything it has read.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/span.h"
#include "core/shard.h"
#include "net/listener.h"

struct connection;
struct loop;
struct framing;  // only for PROXY and WebSocket

// What an epoll event belongs to; first member of everything that is registered.
enum source_kind { SOURCE_TRANSPORT, SOURCE_LISTENER, SOURCE_WAKE };

struct transport {
  enum source_kind source;
  int fd;
  struct connection *connection;
  struct listener *listener;
  struct framing *framing;      // NULL: bytes are MQTT
  char *address;                // heap
  struct transport *next_dead;  // of those that are closed and freed at the end of the turn
  bool registered;              // with the loop's epoll
  bool reading;                 // registered for input
  bool paused;                  // input is not wanted now; it is only unregistered when some arrives
  bool blocked;                 // the socket is full: registered for output
  char own_address[];
};

// NULL when memory is short; the descriptor is then still the caller's. Takes a reference of the listener.
struct transport *transport_create(int fd, struct listener *listener, const char *address);

// Closes the socket.
void transport_destroy(struct transport *transport);

enum transport_result { TRANSPORT_OK, TRANSPORT_CLOSED, TRANSPORT_REFUSED };

// Makes MQTT bytes of what was read into `bytes` , in place. *out: the MQTT bytes; may be empty.
// REFUSED: the peer broke the framing; what it is to be told has been written where that is possible; *out_why says what was wrong.
enum transport_result transport_unwrap(struct transport *transport, uint8_t *bytes, size_t size, struct span *out,
                                       const char **out_why);

// Writes as much as the socket takes. Returns how many of the given bytes it took (0: try again when it is writable), or -1 when
// the connection is gone.
ssize_t transport_write(struct transport *transport, const struct span parts[2]);

// Whether framing of its own is still unsent (part of a frame's header, a Pong): call transport_write when it is writable.
bool transport_frame_unsent(const struct transport *transport);

// Before the socket is closed by us: a WebSocket Close frame, if it can be written at once.
void transport_goodbye(struct transport *transport);
