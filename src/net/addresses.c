#include "net/addresses.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "auth/backoff.h"
#include "base/hash.h"
#include "base/map.h"
#include "net/listener.h"

struct addresses {
  pthread_mutex_t lock;
  uint64_t seed;
  struct map map;  // under the lock
};

struct key {
  const struct listener *listener;
  struct backoff_source source;
};

struct entry {
  struct key key;
  uint32_t count;
};

struct addresses *addresses_create(uint64_t seed)
{
  struct addresses *addresses = calloc(1, sizeof *addresses);
  if (!addresses) return NULL;
  pthread_mutex_init(&addresses->lock, NULL);
  addresses->seed = seed ^ 0xadd7e55;
  return addresses;
}

void addresses_destroy(struct addresses *addresses)
{
  if (!addresses) return;
  size_t cursor = 0;
  for (struct entry *entry; (entry = map_next(&addresses->map, &cursor));) free(entry);
  map_deinit(&addresses->map);
  pthread_mutex_destroy(&addresses->lock);
  free(addresses);
}

static bool is_of(const void *item, const void *key)
{
  return memcmp(&((const struct entry *)item)->key, key, sizeof(struct key)) == 0;
}

static struct key key_of(const struct listener *listener, const char *address)
{
  static_assert(sizeof(struct key) == sizeof(void *) + sizeof(struct backoff_source), "compared as bytes");
  return (struct key){.listener = listener, .source = backoff_source_of(address)};
}

static uint64_t hash_of(const struct addresses *addresses, const struct key *key)
{
  return hash_bytes(addresses->seed, key, sizeof *key);
}

static uint32_t limit_of(const struct listener *listener, const char *address)
{
  if (strcmp(address, "unix") == 0) return 0;
  return atomic_load_explicit(&listener->most_per_address, memory_order_relaxed);
}

// Under the lock. False when it is one too many, or memory is short.
static bool add(struct addresses *addresses, const struct key *key, uint32_t most)
{
  uint64_t hash = hash_of(addresses, key);
  struct entry *entry = map_find(&addresses->map, hash, is_of, key);
  if (entry) {
    if (entry->count >= most) return false;
    entry->count++;
    return true;
  }
  entry = calloc(1, sizeof *entry);
  if (!entry) return false;
  *entry = (struct entry){.key = *key, .count = 1};
  if (map_insert(&addresses->map, hash, entry) == OK) return true;
  free(entry);
  return false;
}

bool addresses_enter(struct addresses *addresses, const struct listener *listener, const char *address, bool *out_counted)
{
  uint32_t most = limit_of(listener, address);
  *out_counted = false;
  if (most == 0) return true;
  struct key key = key_of(listener, address);
  pthread_mutex_lock(&addresses->lock);
  *out_counted = add(addresses, &key, most);
  pthread_mutex_unlock(&addresses->lock);
  return *out_counted;
}

void addresses_leave(struct addresses *addresses, const struct listener *listener, const char *address)
{
  struct key key = key_of(listener, address);
  uint64_t hash = hash_of(addresses, &key);
  pthread_mutex_lock(&addresses->lock);
  struct entry *entry = map_find(&addresses->map, hash, is_of, &key);
  assert(entry);
  if (--entry->count == 0) {
    (void)map_remove(&addresses->map, hash, entry);
    free(entry);
  }
  pthread_mutex_unlock(&addresses->lock);
}

bool addresses_full(struct addresses *addresses, const struct listener *listener, const char *address)
{
  uint32_t most = limit_of(listener, address);
  if (most == 0) return false;
  struct key key = key_of(listener, address);
  pthread_mutex_lock(&addresses->lock);
  const struct entry *entry = map_find(&addresses->map, hash_of(addresses, &key), is_of, &key);
  bool full = entry && entry->count >= most;
  pthread_mutex_unlock(&addresses->lock);
  return full;
}
