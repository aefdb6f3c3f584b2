// A thread with a shard: waits for sockets, mails and time, and drives the shard. All loops of a broker are a `struct
// net`; the thread that made it (the control thread) starts them, gives them listeners and tasks, and stops them.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "core/shard.h"
#include "net/listener.h"

struct acl;
struct authenticator_counters;
struct gate;
struct loop;
struct net;
struct store;
struct store_counters;

// What the loops count besides their shards. Any thread may read.
struct net_counters {
  uint64_t accepted;
  uint64_t refused_limit;    // limits.connections or a listener's max_connections
  uint64_t refused_address;  // limits.connections_per_address
  uint64_t refused_framing;  // PROXY header, WebSocket handshake or frames
  uint64_t accept_errors;    // out of descriptors, for example; accepting pauses and goes on
  uint64_t rate_pauses;      // connection_rate reached
  uint64_t tls_full;         // TLS handshakes that came through: full ones
  uint64_t tls_resumed;      // ... of a session or with a ticket from before
  uint64_t tls_failed;       // ... that the two sides did not agree on: versions, certificates, keys, nonsense
  uint64_t tls_closed;       // ... that the peer gave up
  uint64_t tls_timeouts;     // ... that took longer than limits.connect_timeout
  uint64_t tls_crowded;      // ... that went because too many were in progress
  uint64_t tls_in_progress;  // now
  uint64_t tls_connections;  // open, and past their handshake
  uint64_t tls_revoked;      // disconnected because a new CRL names their certificate
};

void net_counters_add(struct net_counters *sum, const struct net_counters *other);

struct net_settings {
  uint8_t loops;
  struct limits limits;
  uint64_t seed;                 // secret and random
  struct memory_budget *budget;  // outlives the net
  uint32_t max_connections;
  log_sink *log_sink;  // called on the loops' threads, each with its own context
  void *log_contexts[SHARDS_MAX];
  void *side_log_context;  // of the thread for TLS handshakes; NULL: that of the first loop
  enum log_level log_level;
  struct store *store;           // NULL: no journal. Outlives the net; used by nobody else from net_start to net_stop
  struct log *store_log;         // that of the store
  uint32_t journal_interval_ms;  // 0: what is acknowledged is safe (durability `commit`)
  uint64_t journal_high_bytes;   // see struct shard_settings
  struct acl *acl;               // as by net_set_acl, but from the first moment: wills may be due at once. NULL: none
};

CHECK_RESULT enum status net_create(const struct net_settings *settings, struct net **out, struct error *error);

// With a journal, before the start: sessions and retained messages come back.
CHECK_RESULT enum status net_restore(struct net *net, struct error *error);

// Starts the threads.
CHECK_RESULT enum status net_start(struct net *net, struct error *error);

// Ends all connections with the reason (5.0 clients are told), waits for that at most `patience_ms`, then ends the
// threads. With a journal it waits until all is on disk, and fails when the disk does not take it.
CHECK_RESULT enum status net_stop(struct net *net, enum mqtt_reason reason, unsigned patience_ms, struct error *error);
void net_destroy(struct net *net);

// ---- For the control thread

uint8_t net_loops(const struct net *net);

// Starts the threads that a listener and its gate (NULL: none) need, where they do not run yet. Before the three below,
// which abort where it would have failed; a reload prepares all, then changes all.
CHECK_RESULT enum status net_prepare(struct net *net, const struct listener *listener, const struct gate *gate,
                                     struct error *error);

// Accepts from the listener; it stays the caller's (each transport takes its own reference). One with TLS has a gate by
// then.
void net_add_listener(struct net *net, struct listener *listener);

// Its socket is not used any more when this returns; connections stay, and handshakes in progress go on.
void net_remove_listener(struct net *net, struct listener *listener);

// Who may come in by the listener from now on; takes the caller's reference, NULL: anybody. Connections stay, but for
// clients whose certificate the new gate's CRL revokes: these are disconnected soon after (0x87), and reported in the
// log.
void net_set_gate(struct net *net, struct listener *listener, struct gate *gate);

// Who may do what, for all connections, from now on; NULL: no list. Each shard takes its own reference.
void net_set_acl(struct net *net, struct acl *acl);

// Of the broker: those of listeners are not changed by it.
void net_set_limits(struct net *net, const struct limits *limits, uint32_t max_connections, enum log_level log_level);

// Of the listener's clients, from now on; before net_add_listener. What becomes of them when the listener is removed: see
// shard_set_listener_limits. There are at most LIMIT_SETS - 1 listeners at a time.
void net_set_listener_limits(struct net *net, struct listener *listener, const struct limits *limits);

// Runs on all loops at once, each between two turns of its shard; returns when all have. For what is rare and short.
void net_run_on_shards(struct net *net, void (*run)(struct shard *shard, uint8_t number, void *argument), void *argument);

// The balanced counters of every shard, each taken between two turns; `out` has net_loops() of them.
void net_snapshot(struct net *net, struct counters *out, struct net_counters *out_net);

// What the authenticator counts. False when there is none: no listener has had a gate.
bool net_authentication(struct net *net, struct authenticator_counters *out);

// The same of the store; of a moment ago when it waits for its disk. False when there is no journal.
bool net_journal(struct net *net, struct store_counters *out, enum journal_state *out_state);

// Publishes for the broker on the first shard. All values are copied.
struct net_value {
  struct span topic, payload;
};
void net_publish(struct net *net, const struct net_value *values, size_t count, bool retain);
