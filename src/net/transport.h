// One accepted socket and what lies between it and MQTT: a PROXY header, TLS, the WebSocket handshake and frames. Belongs
// to one loop at a time; may be handed to another with everything it has read. With TLS the PROXY header and the
// handshake are done when it begins (net/handshaker.h).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "base/span.h"
#include "core/shard.h"
#include "net/listener.h"

struct connection;
struct loop;
struct framing;  // only for PROXY and WebSocket
struct tls_session;

// What an epoll event belongs to; first member of everything that is registered.
enum source_kind { SOURCE_TRANSPORT, SOURCE_LISTENER, SOURCE_WAKE, SOURCE_PENDING };

// Between a socket and MQTT. Only transports that have something there have one.
struct layers {
  struct framing *framing;  // NULL: bytes are MQTT
  struct tls_session *tls;  // NULL: bytes are the socket's
  struct transport *transport;
  struct link secure;   // TLS: of the loop, all of them
  uint32_t generation;  // TLS: of the listener's gate, the last whose CRL was looked at
};

struct transport {
  enum source_kind source;
  int fd;
  struct connection *connection;
  struct listener *listener;
  struct layers *layers;        // NULL: the socket's bytes are MQTT
  char *address;                // heap
  struct transport *next_dead;  // of those that are closed and freed at the end of the turn
  bool registered;              // with the loop's epoll
  bool reading;                 // registered for input
  bool paused;                  // input is not wanted now; it is only unregistered when some arrives
  bool blocked;                 // the socket is full: registered for output
  bool counted;                 // for its address: see net/addresses.h
  bool proxied;                 // a PROXY header has told its address, for which it is not counted yet
  bool ending;                  // closed as soon as the socket has taken what is still unsent
  char own_address[];
};

// NULL when memory is short; the descriptor is then still the caller's. Takes a reference of the listener.
struct transport *transport_create(int fd, struct listener *listener, const char *address);

// The same for a socket whose handshake is done; takes the session too, unless memory is short. `generation`: see struct
// layers.
struct transport *transport_create_tls(int fd, struct listener *listener, const char *address, struct tls_session *session,
                                       uint32_t generation);

// Closes the socket.
void transport_destroy(struct transport *transport);

static inline struct tls_session *transport_tls(const struct transport *transport)
{
  return transport->layers ? transport->layers->tls : NULL;
}

enum transport_result { TRANSPORT_OK, TRANSPORT_CLOSED, TRANSPORT_REFUSED };

// Reads what has arrived, once: *out_size bytes into `bytes`, which has room for at least TLS_READ_MIN; 0 when there are
// none. What ends the transport is told when there is nothing before it. REFUSED: by TLS; *out_why says what was wrong.
enum transport_result transport_read(struct transport *transport, uint8_t *bytes, size_t size, size_t *out_size,
                                     const char **out_why);

// Makes MQTT bytes of what was read into `bytes`, in place. *out: the MQTT bytes; may be empty. REFUSED: the peer broke
// the framing; what it is to be told has been written where that is possible; *out_why says what was wrong.
enum transport_result transport_unwrap(struct transport *transport, uint8_t *bytes, size_t size, struct span *out,
                                       const char **out_why);

// Writes as much as the socket takes. Returns how many of the given bytes it took (0: try again when it is writable), or
// -1 when the connection is gone. Without bytes: only what is unsent.
ssize_t transport_write(struct transport *transport, const struct span parts[2]);

// Whether something of its own is still unsent (ciphertext, part of a frame's header, a Pong): call transport_write when
// it is writable.
bool transport_waits(const struct transport *transport);

// Before the socket is closed by us: a WebSocket Close frame, the end of TLS, if they can be written at once.
void transport_goodbye(struct transport *transport);
