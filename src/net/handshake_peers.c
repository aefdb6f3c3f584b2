#include "net/handshake_peers.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

void peers_init(struct peers *peers, uint64_t seed)
{
  *peers = (struct peers){.seed = seed};
  list_init(&peers->all);
}

void peers_deinit(struct peers *peers)
{
  assert(list_empty(&peers->all));
  map_deinit(&peers->map);
}

void peer_key(const struct sockaddr_storage *address, uint8_t key[PEER_KEY])
{
  memset(key, 0, PEER_KEY);
  if (address->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const void *)address;
    key[0] = 4;
    memcpy(key + 1, &v4->sin_addr, 4);
  } else if (address->ss_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const void *)address;
    bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
    key[0] = mapped ? 4 : 6;
    memcpy(key + 1, (const uint8_t *)&v6->sin6_addr + (mapped ? 12 : 0), mapped ? 4 : 8);
  }
}

void peer_key_proxied(const struct proxy_source *source, uint8_t key[PEER_KEY])
{
  memset(key, 0, PEER_KEY);
  if (source->family == PROXY_UNIX) return;
  key[0] = source->family == PROXY_IPV4 ? 4 : 6;
  memcpy(key + 1, source->address, key[0] == 4 ? 4 : 8);
}

static bool peer_is(const void *item, const void *key)
{
  const struct peer *peer = item;
  return memcmp(peer->key, key, sizeof peer->key) == 0;
}

struct peer *peers_find(struct peers *peers, const uint8_t key[PEER_KEY])
{
  uint64_t hash = hash_bytes(peers->seed, key, PEER_KEY);
  struct peer *peer = map_find(&peers->map, hash, peer_is, key);
  if (peer) return peer;
  peer = calloc(1, sizeof *peer);
  if (!peer) return NULL;
  memcpy(peer->key, key, sizeof peer->key);
  list_init(&peer->members);
  if (map_insert(&peers->map, hash, peer) != OK) {
    free(peer);
    return NULL;
  }
  list_append(&peers->all, &peer->all);
  return peer;
}

void peer_join(struct peer *peer, struct link *member)
{
  peer->count++;
  list_append(&peer->members, member);
}

void peers_leave(struct peers *peers, struct peer *peer, struct link *member)
{
  list_remove(member);
  if (--peer->count > 0) return;
  bool removed = map_remove(&peers->map, hash_bytes(peers->seed, peer->key, PEER_KEY), peer);
  assert(removed);
  list_remove(&peer->all);
  free(peer);
}

struct peer *peers_busiest(const struct peers *peers)
{
  struct peer *most = NULL;
  LIST_EACH (link, &peers->all) {
    struct peer *peer = CONTAINER_OF(link, struct peer, all);
    if (!most || peer->count > most->count) most = peer;
  }
  return most;
}
