// What the broker shows of itself, taken at one moment: every shard's counters balance in it (core/counters.h).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "core/counters.h"
#include "core/shard.h"
#include "net/authenticator.h"
#include "net/loop.h"
#include "store/store.h"

// Of a listener with TLS.
struct certificate_view {
  const char *listener;  // its name; borrowed
  int64_t end_s;         // when the first of its certificates ends, since 1970; 0: it has none
  int64_t crl_end_s;     // when the first of its CRLs does; 0: it has none that ends
};

enum { CERTIFICATES_MAX = 64 };

struct status_view {
  struct counters shards[SHARDS_MAX];
  struct counters total;
  uint8_t shard_count;
  struct net_counters net;
  struct authenticator_counters authentication;  // zeros when nobody is asked who he is
  bool has_journal;                              // otherwise the next two are zeros
  struct store_counters journal;
  enum journal_state journal_state;
  int64_t memory_used_bytes;
  int64_t memory_limit_bytes;
  struct certificate_view certificates[CERTIFICATES_MAX];
  size_t certificate_count;
  uint64_t uptime_s;
  uint64_t reloads, reloads_refused;
  const char *version;    // "0.1.0"
  const char *broker_id;  // never NULL
  bool ready;             // every listener accepts
};
