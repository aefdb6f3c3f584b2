// Who is shaking hands: addresses, and what each has in progress. An IPv6 address counts by its first 64 bits, which is what
// one customer of a provider has. For the handshaker's thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/list.h"
#include "base/map.h"
#include "wire/proxy.h"

enum { PEER_KEY = 17 };

// An address and its handshakes.
struct peer {
  uint8_t key[PEER_KEY];  // family, then the address, of v6 its first 64 bits
  uint32_t count;
  struct link members;  // oldest first
  struct link all;
};

struct peers {
  uint64_t seed;  // secret and random
  struct map map;
  struct link all;
};

void peers_init(struct peers *peers, uint64_t seed);
void peers_deinit(struct peers *peers);  // all have left

void peer_key(const struct sockaddr_storage *address, uint8_t key[PEER_KEY]);
void peer_key_proxied(const struct proxy_source *source, uint8_t key[PEER_KEY]);

// The peer of that key; a new one gets its first member at once. NULL: memory is short.
struct peer *peers_find(struct peers *peers, const uint8_t key[PEER_KEY]);

void peer_join(struct peer *peer, struct link *member);

// The last one takes the peer along.
void peers_leave(struct peers *peers, struct peer *peer, struct link *member);

// Who has most members; NULL: there is nobody.
struct peer *peers_busiest(const struct peers *peers);
