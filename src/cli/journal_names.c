// Names of sessions. See journal_names.h.
#include "cli/journal_names.h"

#include <stdlib.h>
#include <string.h>

struct name {
  uint32_t session;
  uint32_t size;
  uint8_t client_id[];
};

// Numbers count up: spreading them is enough.
static uint64_t hash(uint32_t session)
{
  return session * UINT64_C(0x9e3779b97f4a7c15) ^ session;
}

static bool matches(const void *item, const void *key)
{
  const struct name *name = item;
  const uint32_t *session = key;
  return name->session == *session;
}

void journal_names_deinit(struct journal_names *names)
{
  size_t cursor = 0;
  for (void *item = map_next(&names->clients, &cursor); item; item = map_next(&names->clients, &cursor)) free(item);
  map_deinit(&names->clients);
  *names = (struct journal_names){0};
}

enum status journal_names_add(struct journal_names *names, uint32_t session, struct span client_id)
{
  if (map_find(&names->clients, hash(session), matches, &session)) return OK;
  struct name *name = malloc(sizeof *name + client_id.size);
  if (!name) return ERR_NO_MEMORY;
  *name = (struct name){.session = session, .size = (uint32_t)client_id.size};
  if (client_id.size > 0) memcpy(name->client_id, client_id.at, client_id.size);
  enum status status = map_insert(&names->clients, hash(session), name);
  if (status != OK) free(name);
  return status;
}

bool journal_names_find(const struct journal_names *names, uint32_t session, struct span *out_client_id)
{
  const struct name *name = map_find(&names->clients, hash(session), matches, &session);
  if (!name) return false;
  *out_client_id = span_of(name->client_id, name->size);
  return true;
}
