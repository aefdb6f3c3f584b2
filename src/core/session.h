// A session: what the broker remembers of a client identifier (5.0 section 4.1). Owned by the shard that the identifier
// hashes to.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "base/wheel.h"
#include "core/durable.h"
#include "core/index.h"
#include "core/queue.h"
#include "core/retained.h"

struct shard;
struct connection;
struct identity;
struct membership;

struct will {
  struct message *message;  // its expiry starts when it is published
  uint64_t due_ms;          // while the client is away: when it is sent; 0 before
  uint32_t delay_s;
  uint32_t expiry_s;
  bool has_expiry;
  const struct identity *identity;  // while the client is away: of whoever left it; NULL: an anonymous client
};

enum { SESSION_NEVER_EXPIRES = UINT32_MAX };

struct session {
  struct shard *shard;
  struct connection *connection;  // NULL while the client is away
  struct will *will;              // of the last connection, until it is sent or dropped
  struct subscription *subscriptions;
  struct membership *memberships;
  struct durable *durable;  // NULL: it is not in the journal
  struct queue queue;
  struct window window;
  struct packet_ids received;  // QoS 2, waiting for PUBREL
  struct timer timer;          // while away: the will or the expiry, whichever is first
  uint64_t expires_ms;         // while away: monotonic; UINT64_MAX: never
  uint64_t origin;             // hash of the client identifier, for no local
  uint64_t matched_walk;       // scratch of index_match
  uint64_t waiting_bytes;      // of QoS 1/2 in the queue
  uint64_t qos0_bytes;         // of QoS 0 in the queue
  uint32_t waiting;            // QoS 1/2 in the queue
  uint32_t matched_at;
  uint32_t subscription_count;  // shared ones too
  uint32_t expiry_s;
  uint32_t progress_ms;  // low bits of when it last acknowledged something, or was first given something to do
  bool congested : 1;    // see congestion.c
  bool owned : 1;        // see owner.h
  uint8_t limits;        // the number of its limits in shard->limits: those that its last connection had
  uint16_t client_id_size;
  char client_id[];
};

static inline struct span session_id(const struct session *session)
{
  return span_of(session->client_id, session->client_id_size);
}

struct session *session_find(const struct shard *shard, struct span client_id);

// NULL when memory is short.
struct session *session_create(struct shard *shard, struct span client_id);

// The session is over: sends a will that still waits, returns shared messages to their groups, counts and drops the rest,
// frees it. It must have no connection.
void session_end(struct session *session);

// Frees it without any effect, for shard_destroy.
void session_free(struct session *session);

// The connection is gone. `with_will`: it did not end with a normal DISCONNECT. May end the session.
void session_detach(struct session *session, bool with_will);

// A client is back: stops the timers, drops a waiting will [MQTT-3.1.3-9].
void session_attach(struct session *session, struct connection *connection);

void will_free(struct shard *shard, struct will *will);  // NULL is harmless

// Queues one message for the session, or counts why not. Takes its own references. `wanted` says message, tag, QoS and
// flags. Returns false when the copy was dropped.
bool session_deliver(struct session *session, const struct copy *wanted);

// Queues what a cursor finds, `most` messages at a time, as live messages are queued: a durable session may have to get them
// again. Only as many as there is room for, so that a cursor never drops anything. True: it is finished. False: there is
// more, to be looked for later.
bool session_queue_retained(struct session *session, const struct copy *place, unsigned most);

// Whether one more QoS 1 or 2 message of this size is too many for its queue.
bool session_is_full(const struct session *session, size_t size);

// The same, where limits.queue_drop wants the publisher to know.
bool session_rejects(const struct session *session, size_t size);

// Takes the front of the queue out of the queue and of its counts; what it refers to is the caller's (look first).
void session_take_front(struct session *session);

// The same when the copy's references are used up already.
void session_sent_front(struct session *session, bool qos_0, uint64_t bytes);

// The counts of what waits.
void session_count_in(struct session *session, bool qos_0, uint64_t bytes);
void session_count_out(struct session *session, bool qos_0, uint64_t bytes);

uint64_t session_hash(const struct session *session);  // in shard->sessions

// While it is away: when the will is due or the session ends.
void session_arm_timer(struct session *session);

// A copy has left the queue or the window for good: releases what it holds. The caller counts the outcome.
void copy_release(struct shard *shard, struct copy *copy);

// ---- Subscriptions

// Adds or replaces; *out_new tells which. ERR_FULL: limits.subscriptions reached. `ticket`: 0, or the ticket that waits
// until other shards know (see ticket.h).
CHECK_RESULT enum status session_subscribe(struct session *session, const struct subscription *options, struct span filter,
                                           uint64_t ticket, bool *out_new);
bool session_unsubscribe(struct session *session, struct span filter);  // false when there was none
