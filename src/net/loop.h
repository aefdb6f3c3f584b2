// A thread with a shard: waits for sockets, mails and time, and drives the shard. All loops of a broker are a `struct net`; the thread that
// made it (the control thread) starts them, gives them listeners and tasks, and stops them.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "core/shard.h"
#include "net/listener.h"

struct loop;
struct net;
struct store;
struct store_counters;

// What the loops count besides their shards. Any thread may read.
struct net_counters {
  uint64_t accepted;
  uint64_t refused_limit;    // limits.connections or a listener's max_connections
  uint64_t refused_framing;  // PROXY header, WebSocket handshake or frames
  uint64_t accept_errors;    // out of descriptors, for example; accepting pauses and goes on
  uint64_t rate_pauses;      // connection_rate reached
};

struct net_settings {
  uint8_t loops;
  struct limits limits;
  uint64_t seed;                 // secret and random
  struct memory_budget *budget;  // outlives the net
  uint32_t max_connections;
  log_sink *log_sink;  // called on the loops' threads, each with its own context
  void *log_contexts[SHARDS_MAX];
  enum log_level log_level;
  struct store *store;           // NULL: no journal. Outlives the net; used by nobody else from net_start to net_stop
  struct log *store_log;         // that of the store
  uint32_t journal_interval_ms;  // 0: what is acknowledged is safe (durability `commit`)
  uint64_t journal_high_bytes;   // see struct shard_settings
};

CHECK_RESULT enum status net_create(const struct net_settings *settings, struct net **out, struct error *error);

// With a journal, before the start: sessions and retained messages come back.
CHECK_RESULT enum status net_restore(struct net *net, struct error *error);

// Starts the threads.
CHECK_RESULT enum status net_start(struct net *net, struct error *error);

// Ends all connections with the reason (5.0 clients are told), waits for that at most `patience_ms`, then ends the threads. With a journal it
// waits until all is on disk, and fails when the disk does not take it.
CHECK_RESULT enum status net_stop(struct net *net, enum mqtt_reason reason, unsigned patience_ms, struct error *error);
void net_destroy(struct net *net);

// ---- For the control thread

uint8_t net_loops(const struct net *net);

// Accepts from the listener; it stays the caller's (each transport takes its own reference).
void net_add_listener(struct net *net, struct listener *listener);

// Its socket is not used any more when this returns; connections stay.
void net_remove_listener(struct net *net, struct listener *listener);

void net_set_limits(struct net *net, const struct limits *limits, uint32_t max_connections, enum log_level log_level);

// The balanced counters of every shard, each taken between two turns; `out` has net_loops() of them.
void net_snapshot(struct net *net, struct counters *out, struct net_counters *out_net);

// The same of the store; of a moment ago when it waits for its disk. False when there is no journal.
bool net_journal(struct net *net, struct store_counters *out, enum journal_state *out_state);

// Publishes for the broker on the first shard. All values are copied.
struct net_value {
  struct span topic, payload;
};
void net_publish(struct net *net, const struct net_value *values, size_t count, bool retain);
