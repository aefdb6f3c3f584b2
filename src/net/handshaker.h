// The thread on which TLS connections begin: it accepts them, reads a PROXY header where there is one, and shakes hands,
// within bounds of time and number. What is through goes to a loop. So a flood of connections that never finish costs
// this thread, and no shard waits for it.
//
// When there is no room for one more, the oldest of the address that has most of them goes, unless all have moved within
// the last moment: then new ones wait in the kernel's queue. An IPv6 address counts by its first 64 bits, which is what
// one customer of a provider has.
//
// Everything here is for the control thread, which waits for the handshaker's.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "net/listener.h"
#include "net/loop.h"

struct addresses;
struct handshaker;
struct transport;

enum { HANDSHAKES_MAX = 1000, HANDSHAKES_PER_ADDRESS = 500 };

struct handshaker_settings {
  uint32_t most;              // in progress; 0: HANDSHAKES_MAX
  uint32_t most_per_address;  // 0: HANDSHAKES_PER_ADDRESS
  uint32_t time_limit_ms;     // of one, from accepting it, where its listener does not say
  uint64_t seed;              // secret and random
  log_sink *log_sink;
  void *log_context;
  enum log_level log_level;
  _Atomic uint32_t *connections;  // of the broker: those that are through are counted here
  const _Atomic uint32_t *max_connections;
  struct addresses *addresses;  // NULL: none are counted
  // A connection that is through; takes it. On the handshaker's thread.
  void (*through)(void *context, struct transport *transport);
  void *context;
};

// Starts the thread.
CHECK_RESULT enum status handshaker_create(const struct handshaker_settings *settings, struct handshaker **out,
                                           struct error *error);

// Ends it, and closes what is in progress. NULL is harmless.
void handshaker_destroy(struct handshaker *handshaker);

void handshaker_add_listener(struct handshaker *handshaker, struct listener *listener);

// Its socket is not used any more when this returns; handshakes in progress go on.
void handshaker_remove_listener(struct handshaker *handshaker, struct listener *listener);

void handshaker_set_limits(struct handshaker *handshaker, uint32_t time_limit_ms, enum log_level log_level);

// Adds its own to the sums.
void handshaker_count(struct handshaker *handshaker, struct net_counters *sums);
