#include "core/owner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/shard_internal.h"

// Beside the session and not in it: most brokers know no users, and sessions are many.
struct owner {
  const struct session *session;
  size_t size;
  char user[];
};

static uint64_t session_key(const struct session *session)
{
  return hash_bytes(session->shard->settings.seed, &session, sizeof session);
}

static bool is_of(const void *item, const void *key)
{
  return ((const struct owner *)item)->session == key;
}

static struct owner *find(const struct session *session)
{
  return session->owned ? map_find(&session->shard->owners, session_key(session), is_of, session) : NULL;
}

struct span owner_of(const struct session *session)
{
  const struct owner *owner = find(session);
  return owner ? span_of(owner->user, owner->size) : (struct span){0};
}

bool owner_allows(const struct session *session, struct span user)
{
  return !session->owned || span_equal(owner_of(session), user);
}

enum status owner_set(struct session *session, struct span user)
{
  if (user.size == 0 || session->owned) return OK;
  struct shard *shard = session->shard;
  struct owner *owner = malloc(sizeof *owner + user.size);
  if (!owner) return ERR_NO_MEMORY;
  owner->session = session;
  owner->size = user.size;
  memcpy(owner->user, user.at, user.size);
  if (map_insert(&shard->owners, session_key(session), owner) != OK) {
    free(owner);
    return ERR_NO_MEMORY;
  }
  pool_charge(&shard->pool, (int64_t)(sizeof *owner + user.size));
  session->owned = true;
  if (session->durable) durable_put_owner(session);
  return OK;
}

void owner_forget(struct session *session)
{
  struct owner *owner = find(session);
  if (!owner) return;
  struct shard *shard = session->shard;
  bool was_there = map_remove(&shard->owners, session_key(session), owner);
  assert(was_there);
  pool_charge(&shard->pool, -(int64_t)(sizeof *owner + owner->size));
  session->owned = false;
  free(owner);
}
