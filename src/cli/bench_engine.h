// The load generator's connections: one epoll loop, non-blocking sockets, 256 KiB reads, one write per connection and turn.
// Knows MQTT's client side just as far as load needs it and must stay much cheaper per message than any broker. What the
// messages mean is the handlers' business. One thread; an engine owns no connection, the modes do.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/bench.h"
#include "mqtt/packet.h"

enum {
  ENGINE_READ_SIZE = 256 * 1024,
  ENGINE_PACKET_MAX = 2 * 1024 * 1024,  // larger packets than this are not ours
  ENGINE_EVENTS = 256,
};

// CLOSED -> CONNECTING -> (SECURING: TLS shakes hands ->) (UPGRADING: WebSocket does ->) GREETED (CONNECT sent) ->
// SUBSCRIBING -> READY -> CLOSED; every state may go to CLOSED.
enum engine_state {
  ENGINE_CLOSED,
  ENGINE_CONNECTING,
  ENGINE_SECURING,
  ENGINE_UPGRADING,
  ENGINE_GREETED,
  ENGINE_SUBSCRIBING,
  ENGINE_READY
};

struct engine_frames;  // of a WebSocket: bench_frames.h

// Zeroed is closed. Once open it must not move. All buffers are the engine's from engine_open to engine_close.
struct engine_connection {
  int fd;
  enum engine_state state;
  uint32_t index;  // the owner's
  bool publisher;  // the owner's
  bool blocked;    // the socket took no more; EPOLLOUT is armed
  bool session_present;
  uint16_t receive_maximum;  // what the broker granted; 65535 before 5.0
  uint64_t opened_ns;
  struct tls_session *tls;       // NULL: none
  struct engine_frames *frames;  // NULL: no WebSocket
  struct buffer in;              // the beginning of a packet
  struct buffer out;
  struct buffer hello;      // CONNECT, or the announcement of the raw mode
  struct buffer subscribe;  // sent behind CONNACK; empty: none
  uint64_t *held_ids;       // QoS 2: a bit for each packet identifier that was received and not yet released
};

// Any may be called from engine_poll only. In `message` and `acknowledged` no connection may be closed.
struct engine_handlers {
  void (*ready)(void *context, struct engine_connection *connection);
  // A message that is not a repetition of a QoS 2 message in flight.
  void (*message)(void *context, struct engine_connection *connection, const uint8_t *payload, size_t size);
  // The broker has finished with one of our messages: PUBACK, PUBCOMP, or a PUBREC that refuses it.
  void (*acknowledged)(void *context, struct engine_connection *connection, uint16_t packet_id, enum mqtt_reason reason);
};

struct engine {
  const struct bench_options *options;
  const struct engine_handlers *handlers;
  void *context;
  int epoll_fd;
  uint8_t *scratch;
  uint64_t now_ns;      // when the bytes that are being handled were read
  uint32_t opened;      // connections so far: spreads them over source addresses
  struct error broken;  // why a connection was closed by the broker or had to be: engine_poll reports it
};

// `options`, `handlers` and `context` must outlive the engine.
CHECK_RESULT enum status engine_init(struct engine *engine, const struct bench_options *options,
                                     const struct engine_handlers *handlers, void *context, struct error *error);
void engine_deinit(struct engine *engine);

// Starts connecting; `hello` and `subscribe` have been filled. Its end is a call to `ready` or a failing engine_poll. A
// failure leaves it closed.
CHECK_RESULT enum status engine_open(struct engine *engine, struct engine_connection *connection, struct error *error);

// Says DISCONNECT when it is ready, closes, frees. Harmless on a closed one.
void engine_close(struct engine *engine, struct engine_connection *connection);

// Waits for events, at most `timeout_ns`, and handles them. Fails when the broker closed or refused a connection or broke
// the protocol (ERR_CLOSED, ERR_DENIED, ERR_INVALID): that connection is closed then, and a bench is over.
CHECK_RESULT enum status engine_poll(struct engine *engine, uint64_t timeout_ns, struct error *error);

// Writes what is in `out`, as far as the socket takes it; the rest follows by itself.
void engine_flush(struct engine *engine, struct engine_connection *connection);

// Opening many: at most options->at_once are on their way at a time. `prepare` fills hello and subscribe of a connection;
// `ready_count` is counted up by the owner's handler. Fails as engine_poll does, and with ERR_TIMEOUT when no connection
// got ready for options->timeout_ms.
typedef enum status engine_prepare(void *context, struct engine_connection *connection, struct error *error);
struct engine_opening {
  engine_prepare *prepare;
  const uint32_t *ready_count;
  uint32_t opened;
  uint32_t seen_ready;
  uint64_t seen_ns;  // when seen_ready last grew; 0: not started
};
CHECK_RESULT enum status engine_open_next(struct engine *engine, struct engine_opening *opening,
                                          struct engine_connection *connection, struct error *error);
// Returns when all are ready.
CHECK_RESULT enum status engine_open_finish(struct engine *engine, struct engine_opening *opening, struct error *error);

// Monotonic time in ns.
uint64_t bench_now_ns(void);
