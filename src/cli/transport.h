// A client's byte stream to a broker: TCP over IPv4 and IPv6, Unix sockets, TLS over TCP, and WebSocket over any.
// Non-blocking but for the look-up of a host's name. Knows nothing of MQTT. One thread.
#pragma once

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "tls/client.h"
#include "wire/websocket.h"
#include "wire/websocket_handshake.h"

// The texts are the caller's and outlive the transport.
struct transport_address {
  const char *host;  // NULL when unix_path is given
  uint16_t port;
  const char *unix_path;       // NULL: TCP
  const char *websocket_path;  // NULL: plain
  const char *subprotocol;     // of a WebSocket: "mqtt", or "mqttv3.1"
  struct tls_client *tls;      // NULL: no TLS; the caller's; not with unix_path
};

// CLOSED → CONNECTING → (SECURING →) (UPGRADING →) OPEN → CLOSED, and from every state to CLOSED. SECURING: TLS shakes
// hands.
enum transport_state { TRANSPORT_CLOSED, TRANSPORT_CONNECTING, TRANSPORT_SECURING, TRANSPORT_UPGRADING, TRANSPORT_OPEN };

struct transport {
  int fd;
  enum transport_state state;
  const struct transport_address *address;
  struct addrinfo *resolved;  // NULL for Unix sockets
  struct addrinfo *next;      // the one to try when the current one fails
  struct tls_session *tls;    // NULL: none
  struct buffer out;          // bytes for the wire, or for TLS, framed already
  struct buffer upgrade;      // what has arrived of the WebSocket response
  bool finishing;             // transport_finish was called
  bool finished;              // and the broker told
  uint64_t taken_bytes;       // by the kernel or by TLS since the start, framing included
  uint64_t flushed_bytes;     // of these, what the kernel has
  uint8_t nonce[WEBSOCKET_NONCE_SIZE];
  struct websocket websocket;
};

void transport_init(struct transport *transport);

// Closes and frees everything; the transport can be used again.
void transport_close(struct transport *transport);

// Starts to connect. The address must outlive the connection. Failures come with a text that names the address.
CHECK_RESULT enum status transport_connect(struct transport *transport, const struct transport_address *address,
                                           struct error *error);

// What to poll the descriptor for.
short transport_poll_events(const struct transport *transport);

// Goes on after poll: finishes connecting, reads what is there and appends the stream's bytes to `in`. ERR_CLOSED when the
// broker has closed; bytes that came before are in `in`. Sends nothing.
CHECK_RESULT enum status transport_handle(struct transport *transport, short events, struct buffer *in, struct error *error);

// Room for `size` bytes that belong together, NULL when memory is short; then fill it and commit exactly that many. Only
// when OPEN.
uint8_t *transport_reserve(struct transport *transport, size_t size);
void transport_commit(struct transport *transport, uint8_t *bytes, size_t size);

// How TLS is spoken, for people: "TLSv1.3, TLS_AES_128_GCM_SHA256", in `text`. NULL without TLS.
const char *transport_security(struct transport *transport, char *text, size_t size);

// Bytes that wait for the kernel.
size_t transport_unsent(const struct transport *transport);

// Where the stream's end will be when all that is committed now has been flushed; compare with flushed_bytes.
uint64_t transport_end(const struct transport *transport);

// Writes what the socket takes. OK when some is left, too.
CHECK_RESULT enum status transport_flush(struct transport *transport, struct error *error);

// Nothing more will be sent: queues the WebSocket's Close, and once all is flushed tells the broker, which then closes.
void transport_finish(struct transport *transport);
