// The roll of the clients that are connected, for whoever operates the broker: who they are, and sending them away.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"
#include "mqtt/reason.h"

struct shard;

struct roll_entry {
  struct span client_id;
  struct span user;       // size 0: anonymous
  const char *method;     // how it has shown that: see struct identity
  const char *address;    // of the peer
  const void *transport;  // the driver's
  uint8_t version;        // enum mqtt_version
  uint32_t silent_ms;     // since its last packet
  uint32_t subscriptions;
};

// Which clients are meant: all that fit what is given. `at` NULL: any.
struct roll_choice {
  struct span client_id;
  struct span user;
};

// Calls `visit` for every client that is connected and meant, in no order; all of the entry is borrowed. It must not change
// the shard. False from `visit` ends it.
void roll_call(struct shard *shard, const struct roll_choice *choice,
               bool (*visit)(void *context, const struct roll_entry *entry), void *context);

// Disconnects them as shard_disconnect does; returns how many. Clients of whom it is not yet known who they are begin again,
// uncounted, when a user is meant: the answer that they wait for may be made of what held before. Sessions stay.
size_t roll_dismiss(struct shard *shard, const struct roll_choice *choice, enum mqtt_reason reason);

// Disconnects all for whom `stays` says no; returns how many. Those too of whom it is known who they are, and who are not in
// yet (client_id.size 0); of whom it is not known: see shard_awaits.
size_t roll_review(struct shard *shard, bool (*stays)(void *context, const struct roll_entry *entry), void *context,
                   enum mqtt_reason reason);
