#include "tls/tickets.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/references.h"

struct tickets {
  struct references references;
  pthread_mutex_t lock;
  int count;  // of the keys that exist; the newest is first
  struct {
    struct ticket_key key;
    struct mono made;
  } keys[TICKET_KEYS];
};

struct tickets *tickets_create(void)
{
  struct tickets *tickets = calloc(1, sizeof *tickets);
  if (!tickets) return NULL;
  references_init(&tickets->references);
  pthread_mutex_init(&tickets->lock, NULL);
  return tickets;
}

struct tickets *tickets_ref(struct tickets *tickets)
{
  if (tickets) references_take(&tickets->references);
  return tickets;
}

void tickets_unref(struct tickets *tickets)
{
  if (!tickets || !references_drop(&tickets->references)) return;
  pthread_mutex_destroy(&tickets->lock);
  OPENSSL_cleanse(tickets, sizeof *tickets);
  free(tickets);
}

// Threads come here in another order than they have read the clock.
static uint64_t age_ms(const struct tickets *tickets, int key, struct mono now)
{
  uint64_t made_ms = tickets->keys[key].made.ms;
  return now.ms > made_ms ? now.ms - made_ms : 0;
}

// Lets keys go that are too old to open anything, and makes a new one when the newest is too old to seal.
static bool rotate(struct tickets *tickets, struct mono now)
{
  while (tickets->count > 0 && age_ms(tickets, tickets->count - 1, now) >= (uint64_t)TICKET_KEYS * TICKET_KEY_MS)
    OPENSSL_cleanse(&tickets->keys[--tickets->count], sizeof *tickets->keys);
  if (tickets->count > 0 && age_ms(tickets, 0, now) < TICKET_KEY_MS) return true;
  struct ticket_key fresh;
  if (RAND_bytes(fresh.name, sizeof fresh.name) != 1 || RAND_priv_bytes(fresh.cipher, sizeof fresh.cipher) != 1 ||
      RAND_priv_bytes(fresh.authentication, sizeof fresh.authentication) != 1)
    return false;
  memmove(&tickets->keys[1], &tickets->keys[0], (TICKET_KEYS - 1) * sizeof *tickets->keys);
  if (tickets->count < TICKET_KEYS) tickets->count++;
  tickets->keys[0].key = fresh;
  tickets->keys[0].made = now;
  OPENSSL_cleanse(&fresh, sizeof fresh);
  return true;
}

bool tickets_current(struct tickets *tickets, struct mono now, struct ticket_key *out)
{
  pthread_mutex_lock(&tickets->lock);
  bool fine = rotate(tickets, now);
  if (fine) *out = tickets->keys[0].key;
  pthread_mutex_unlock(&tickets->lock);
  return fine;
}

bool tickets_find(struct tickets *tickets, struct mono now, const uint8_t name[TICKET_NAME], struct ticket_key *out,
                  bool *out_renew)
{
  bool found = false;
  pthread_mutex_lock(&tickets->lock);
  bool rotated = rotate(tickets, now);
  for (int i = 0; i < tickets->count && !found; i++) {
    found = memcmp(tickets->keys[i].key.name, name, TICKET_NAME) == 0;
    if (!found) continue;
    *out = tickets->keys[i].key;
    *out_renew = i > 0 && rotated;
  }
  pthread_mutex_unlock(&tickets->lock);
  return found;
}
