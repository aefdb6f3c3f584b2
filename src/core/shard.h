// One shard of a broker: a single-threaded actor that owns its connections and sessions. Pure: bytes, mails and the time
// come in as arguments; what is to be written, closed, resumed and mailed goes out as data. Nothing here blocks, sleeps or
// locks.
//
// A turn of whoever drives a shard (src/net/loop.c, or the simulation):
//   shard_set_time → shard_mail for every mail → shard_receive for every readable connection → shard_tick
//   → for every connection of shard_next_attention: read what it wants (connection_wants)
//   → have the questions of shard_next_authentication answered
//   → for every other shard: move the outgoing mails (shard_outgoing) on
//   → with a journal: hand the batch (shard_take_batch) and the loads (shard_next_load) to the store
//   → sleep until shard_next_ms, a socket or a mail
//
// Sources: MQTT 5.0, 3.1.1, 3.1. Memory, ownership: whatever is handed out here belongs to the shard unless it says
// otherwise.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/span.h"
#include "base/status.h"
#include "core/counters.h"
#include "core/journal.h"
#include "core/limits.h"
#include "core/mail.h"
#include "mqtt/reason.h"

struct admission;
struct authentication;
struct connection;
struct enhanced;
struct shard;

enum { SHARDS_MAX = 16 };

struct shard_settings {
  uint8_t shard;        // which one this is, from 0
  uint8_t shard_count;  // 1..SHARDS_MAX
  struct limits limits;
  uint64_t seed;  // secret and random, the same for all shards of a broker: keys of hash tables, choice of the owner
  struct memory_budget *budget;  // shared by all shards of a broker
  struct log *log;               // this shard's own
  bool journal;                  // there is a store: shard JOURNAL_SHARD keeps the durable sessions
  bool journal_waits;            // durability `commit`: acknowledgements wait until what they acknowledge is safe
  uint64_t journal_epoch_ms;     // journal time is the monotonic time plus this
  uint64_t journal_high_bytes;  // so much may wait for the disk before publishers do; what is under way must fit the store's
                                // reserve
  void (*free_enhanced)(
      struct enhanced *);  // of an exchange that nobody goes on with; may be NULL where no answer brings any
};

// NULL when memory is short.
struct shard *shard_create(const struct shard_settings *settings, struct mono now);
void shard_destroy(struct shard *shard);  // connections and sessions too; no effects

// New limits, for what starts from now on (a reload). Rates, limits of queues and the share strategy change at once.
void shard_set_limits(struct shard *shard, const struct limits *limits);

// The same of one listener, by its number, from 1 to LIMIT_SETS - 1; before its first connection too. Its clients have
// these, and so have their sessions, until they come back by another listener. NULL: the listener is gone; those that came
// by it have the broker's.
void shard_set_listener_limits(struct shard *shard, uint8_t number, const struct limits *limits);

// ---- Time

// Every call below uses the time that was set last. Never goes back.
void shard_set_time(struct shard *shard, struct mono now);

// Fires what is due: keep alive, wills, session expiry. Also resumes what was paused and may go on.
void shard_tick(struct shard *shard);

// Milliseconds until shard_tick has something to do, -1 for never.
int64_t shard_next_ms(const struct shard *shard);

// ---- Connections

struct connection_origin {
  const char *address;          // of the peer, for logs: "192.0.2.7:51234". The driver's; lives as long as the connection
  bool anonymous;               // the listener lets clients in whatever they show
  bool authenticate;            // every CONNECT becomes a question, and `anonymous` is not looked at
  uint8_t limits;               // the number of the listener's limits; BROKER_LIMITS: the broker's
  struct admission *admission;  // shard_adopt takes it, whatever it returns: from connection_take_admission. NULL: none
};

// A transport has connected. `transport` is the driver's and handed back by connection_transport. NULL when memory is short.
struct connection *shard_open(struct shard *shard, void *transport, const struct connection_origin *origin);

// The same, for a connection that another shard has handed over: `input` are the bytes that it had received.
struct connection *shard_adopt(struct shard *shard, void *transport, const struct connection_origin *origin,
                               struct span input);

void *connection_transport(const struct connection *connection);

// Another address than at first, when a PROXY header has told it. Lives as long as the connection.
void connection_set_address(struct connection *connection, const char *address);

enum receive_result {
  RECEIVE_OK,       // all bytes are taken
  RECEIVE_YIELD,    // much output has gathered: handle shard_next_attention, then offer the rest (from *out_taken) again
  RECEIVE_PAUSED,   // all bytes are taken; do not read before the connection wants CONNECTION_RESUME
  RECEIVE_MIGRATE,  // another shard owns this client: take it with shard_detach. All bytes are taken
  RECEIVE_CLOSING,  // the connection is closing: no more input is taken
};

// Bytes from the peer, in any portions. Parsed in place; what is left of a packet is kept.
enum receive_result shard_receive(struct shard *shard, struct connection *connection, struct span bytes, size_t *out_taken);

// What a connection that reported RECEIVE_MIGRATE has shown, for the shard that adopts it; before shard_detach. NULL:
// nothing.
struct admission *connection_take_admission(struct connection *connection);

// Takes a connection that reported RECEIVE_MIGRATE away: returns the shard to hand it to, and the bytes received so far,
// which the caller frees. The connection is gone afterwards.
uint8_t shard_detach(struct shard *shard, struct connection *connection, uint8_t **out_input, size_t *out_size);

// The transport is gone (end of file, an error, or the driver gives up). Frees the connection; the will is sent where due.
void shard_closed(struct shard *shard, struct connection *connection);

// Ends the connection from our side; 5.0 clients are told the reason first. It will want CONNECTION_CLOSE when that is
// written.
void shard_disconnect(struct shard *shard, struct connection *connection, enum mqtt_reason reason);

// All of them, for a stop. Sessions stay.
void shard_disconnect_all(struct shard *shard, enum mqtt_reason reason);

// One of those that are left, whatever its state; NULL when there is none. For a driver that ends and closes them one by
// one.
struct connection *shard_any_connection(struct shard *shard);

// ---- What connections want

enum {
  CONNECTION_OUTPUT = 1,  // call connection_output until it has nothing, or until the transport is full
  CONNECTION_RESUME =
      2,  // read again: first call shard_receive with an empty span, it may report RECEIVE_PAUSED or RECEIVE_YIELD again
  CONNECTION_CLOSE = 4,  // close the transport, then call shard_closed. Comes alone, last
};

// The next connection that wants something, taken off the list, and what; NULL when there is none.
// A connection that could not write everything is not put on the list again by itself: the driver waits for the transport.
struct connection *shard_next_attention(struct shard *shard, unsigned *out_wants);

// Up to two runs of bytes to write, valid until connection_sent. The first lies in `scratch` (or in memory of the
// connection), the second in a message. Total 0: nothing to write now.
struct output {
  struct span parts[2];
};
size_t connection_output(struct shard *shard, struct connection *connection, uint8_t *scratch, size_t scratch_size,
                         struct output *out);

// The transport took the first `size` bytes of what connection_output returned; the rest is kept and offered first next
// time. Returns what the connection wants now that these bytes are gone: CONNECTION_OUTPUT (there may be more),
// CONNECTION_CLOSE, or 0.
unsigned connection_sent(struct shard *shard, struct connection *connection, size_t size);

// ---- Who clients are (core/authentication.h)

// The next question; it is the driver's until it hands it back. NULL: none. The connection waits, but not for longer than
// connect_timeout_ms.
struct authentication *shard_next_authentication(struct shard *shard);

// Whether somebody waits for this answer: the connection, and its transport, are there still.
bool shard_awaits(const struct shard *shard, const struct authentication *answer);

// The answer; takes it. The connection may be gone meanwhile. Unless it says MQTT_CONTINUE_AUTHENTICATION, `enhanced` is
// freed here if it is still there.
void shard_authenticated(struct shard *shard, struct authentication *answer);

// ---- Other shards

// A mail from another shard. Takes it. Never MAIL_HOST.
void shard_mail(struct shard *shard, struct mail *mail);

// The mails for another shard, in order. The driver takes from the front with shard_outgoing_taken, as many as there is room
// for; while many are left, the shard pauses the connections that publish.
struct mail *shard_outgoing(struct shard *shard, uint8_t target, size_t *out_count);
void shard_outgoing_taken(struct shard *shard, uint8_t target, size_t count);

// Puts a MAIL_HOST of the driver's own behind the shard's mails.
void shard_send_host(struct shard *shard, uint8_t target, struct mail mail);

// ---- The journal (core/journal.h). On shard JOURNAL_SHARD of a broker that has one.

// What has changed durably since the last call, NULL when nothing has. Numbers count up from 1. The driver may leave it for
// a while when the store is busy: the batch grows.
struct journal_batch *shard_take_batch(struct shard *shard);

// All batches up to this number are safe: what waited for them goes out.
void shard_committed(struct shard *shard, uint64_t batch);

// The next load that the shard asks for; false when there is none. Goes to the store behind the batches that were taken
// before.
bool shard_next_load(struct shard *shard, struct journal_load *out);
void shard_loaded(struct shard *shard, struct journal_loaded *loaded);  // takes it

// While the journal is not OK, what would need room is refused. All shards.
void shard_set_journal_state(struct shard *shard, enum journal_state state);

// Before the first turn, in this order. The session counts as away, since `since_ms`. NULL, or ERR_NO_MEMORY: memory is
// short.
struct session *shard_restore_session(struct shard *shard, const struct restored_session *restored);
CHECK_RESULT enum status shard_restore_subscription(struct shard *shard, struct session *session,
                                                    const struct record_subscribe *record);
CHECK_RESULT enum status shard_restore_retained(struct shard *shard, const struct record_message *record);  // every shard

// All are restored: the number that the next session gets. Timers start; what expired meanwhile ends.
void shard_restore_done(struct shard *shard, uint32_t next_session);

// ---- From inside the broker

// Publishes for the broker itself ($SYS). Retained values replace each other as usual. `topic` is a valid topic name.
void shard_publish(struct shard *shard, struct span topic, struct span payload, uint8_t qos, bool retain);

// A copy of the counters; balanced (see counters.h).
void shard_counters(const struct shard *shard, struct counters *out);
