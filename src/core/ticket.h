// Waiting for other shards: a SUBACK is sent when every shard knows of the filter, so that whatever anybody publishes after
// the client has seen the SUBACK arrives. A ticket counts the answers that are still out.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

struct shard;
struct connection;

// A ticket of one waiting answer (the caller's own; give it back with ticket_done when all requests are made). What to do in
// the end: write these bytes to the connection if it is still there.
uint64_t ticket_for_connection(struct shard *shard, struct connection *connection);

// ... or handle its CONNECT again, which waits until another shard has ended what it had of the client (a hash of the
// identifier, not 0).
uint64_t ticket_for_connect(struct shard *shard, struct connection *connection, uint64_t client);
void ticket_refuse(struct shard *shard, uint64_t ticket);  // ... which that shard does not do: the client is another user's
bool ticket_has_connect(const struct shard *shard, uint64_t client);

// ... or tell another shard that its ticket is done.
uint64_t ticket_for_shard(struct shard *shard, uint8_t target, uint64_t ticket);

void ticket_expect(struct shard *shard, uint64_t ticket);  // one more answer is out. 0 is harmless
void ticket_set_bytes(struct shard *shard, uint64_t ticket, struct span bytes, uint64_t need);  // need: of the journal
void ticket_done(struct shard *shard, uint64_t ticket);  // one answer came. Unknown ones and 0 are ignored

// The connection is gone: nothing is written for it any more.
void ticket_forget(struct shard *shard, const struct connection *connection);
void ticket_free_all(struct shard *shard);
