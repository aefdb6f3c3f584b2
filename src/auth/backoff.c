// Two tables of the same make, each with a list in order of the last that was heard of an entry: the first in it is the one
// to go.
#include "auth/backoff.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/map.h"
#include "wire/ip_text.h"

// User names are kept as hashes: their key is secret, and two names that share one share a wait, no more.
struct who {
  struct backoff_source source;
  uint64_t user;
};

struct entry {
  struct who who;
  struct link link;
  uint32_t wrong;       // guesses that are held against it
  uint64_t last_ms;     // of the last wrong guess
  uint64_t drained_ms;  // up to when the table has forgiven by the time
  bool known;           // was right once
};

struct table {
  struct map map;
  struct link entries;
  uint32_t most;
  uint32_t free;      // guesses before there is a wait
  uint64_t drain_ms;  // one guess is forgiven each; 0: none
};

struct backoff {
  uint64_t seed;
  struct table users, addresses;
};

// ---- Sources

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

static bool take_ipv4(struct span text, struct backoff_source *out)
{
  if (!ipv4_parse(text, out->bytes + sizeof mapped_prefix)) return false;
  memcpy(out->bytes, mapped_prefix, sizeof mapped_prefix);
  return true;
}

struct backoff_source backoff_source_of(const char *address)
{
  struct backoff_source source = {0};
  const char *colon = strrchr(address, ':');
  struct span whole = span_text(address);
  struct span host = colon ? span_of(address, (size_t)(colon - address)) : whole;
  if (host.size >= 2 && host.at[0] == '[' && host.at[host.size - 1] == ']') host = span_of(host.at + 1, host.size - 2);
  if (take_ipv4(host, &source)) return source;
  if (!ipv6_parse(host, source.bytes) && !ipv6_parse(whole, source.bytes)) return (struct backoff_source){0};
  bool is_ipv4 = memcmp(source.bytes, mapped_prefix, sizeof mapped_prefix) == 0;
  if (!is_ipv4) memset(source.bytes + 8, 0, 8);
  return source;
}

// ---- Tables

static void table_init(struct table *table, uint32_t most, uint32_t free_guesses, uint64_t drain_ms)
{
  map_init(&table->map);
  list_init(&table->entries);
  table->most = most;
  table->free = free_guesses;
  table->drain_ms = drain_ms;
}

static uint64_t hash_who(const struct backoff *backoff, const struct who *who)
{
  return hash_bytes(backoff->seed, who, sizeof *who);
}

static bool matches(const void *item, const void *key)
{
  const struct entry *entry = item;
  return memcmp(&entry->who, key, sizeof entry->who) == 0;
}

static void forget(const struct backoff *backoff, struct table *table, struct entry *entry)
{
  bool removed = map_remove(&table->map, hash_who(backoff, &entry->who), entry);
  assert(removed);
  list_remove(&entry->link);
  free(entry);
}

// Threads that read the clock may come in another order than they did that in.
static uint64_t since_ms(uint64_t then_ms, struct mono now)
{
  return now.ms > then_ms ? now.ms - then_ms : 0;
}

// Guesses that still count.
static uint32_t wrong_guesses(const struct table *table, const struct entry *entry, struct mono now)
{
  if (since_ms(entry->last_ms, now) >= BACKOFF_FORGET_MS) return 0;
  if (table->drain_ms == 0) return entry->wrong;
  uint64_t forgiven = since_ms(entry->drained_ms, now) / table->drain_ms;
  return forgiven < entry->wrong ? entry->wrong - (uint32_t)forgiven : 0;
}

static struct entry *table_find(const struct backoff *backoff, const struct table *table, const struct who *who)
{
  return map_find(&table->map, hash_who(backoff, who), matches, who);
}

static uint64_t table_wait_ms(const struct table *table, const struct entry *entry, struct mono now)
{
  uint32_t wrong = entry ? wrong_guesses(table, entry, now) : 0;
  if (wrong <= table->free) return 0;
  uint32_t doublings = wrong - table->free - 1;
  uint64_t wait_ms = doublings < 16 ? (uint64_t)BACKOFF_FIRST_MS << doublings : BACKOFF_MOST_MS;
  if (wait_ms > BACKOFF_MOST_MS) wait_ms = BACKOFF_MOST_MS;
  uint64_t past_ms = since_ms(entry->last_ms, now);
  return past_ms < wait_ms ? wait_ms - past_ms : 0;
}

// A new entry; NULL when memory is short: then a guess is not held against anybody.
static struct entry *table_add(const struct backoff *backoff, struct table *table, const struct who *who)
{
  if (table->map.count >= table->most) forget(backoff, table, CONTAINER_OF(table->entries.next, struct entry, link));
  struct entry *entry = calloc(1, sizeof *entry);
  if (!entry) return NULL;
  entry->who = *who;
  if (map_insert(&table->map, hash_who(backoff, who), entry) != OK) {
    free(entry);
    return NULL;
  }
  list_init(&entry->link);
  return entry;
}

// The entry, made if need be, as the most recent one; NULL when memory is short.
static struct entry *table_touch(const struct backoff *backoff, struct table *table, const struct who *who)
{
  struct entry *entry = table_find(backoff, table, who);
  if (!entry) entry = table_add(backoff, table, who);
  if (!entry) return NULL;
  list_remove(&entry->link);
  list_append(&table->entries, &entry->link);
  return entry;
}

static void table_wrong(const struct backoff *backoff, struct table *table, const struct who *who, struct mono now)
{
  struct entry *entry = table_touch(backoff, table, who);
  if (!entry) return;
  uint32_t wrong = wrong_guesses(table, entry, now);
  // What is left of a time that has not forgiven a whole guess goes on counting.
  if (wrong == 0 || table->drain_ms == 0)
    entry->drained_ms = now.ms;
  else
    entry->drained_ms += (uint64_t)(entry->wrong - wrong) * table->drain_ms;
  entry->wrong = wrong < UINT32_MAX ? wrong + 1 : wrong;
  entry->last_ms = now.ms;
}

static void table_deinit(struct table *table)
{
  for (struct link *link; (link = list_take_first(&table->entries)) != NULL;) free(CONTAINER_OF(link, struct entry, link));
  map_deinit(&table->map);
}

// ---- Both

struct backoff *backoff_create(uint32_t entries, uint64_t seed)
{
  assert(entries > 0);
  struct backoff *backoff = malloc(sizeof *backoff);
  if (!backoff) return NULL;
  backoff->seed = seed;
  table_init(&backoff->users, entries, BACKOFF_FREE_USER, 0);
  table_init(&backoff->addresses, entries, BACKOFF_FREE_ADDRESS, BACKOFF_DRAIN_MS);
  return backoff;
}

void backoff_destroy(struct backoff *backoff)
{
  if (!backoff) return;
  table_deinit(&backoff->users);
  table_deinit(&backoff->addresses);
  free(backoff);
}

static struct who user_at(const struct backoff *backoff, const struct backoff_source *source, struct span user)
{
  return (struct who){.source = *source, .user = hash_span(backoff->seed, user)};
}

static struct who anybody_at(const struct backoff_source *source)
{
  return (struct who){.source = *source};
}

uint64_t backoff_wait_ms(const struct backoff *backoff, const struct backoff_source *source, struct span user,
                         struct mono now)
{
  struct who anybody = anybody_at(source), one = user_at(backoff, source, user);
  const struct entry *at_user = user.size > 0 ? table_find(backoff, &backoff->users, &one) : NULL;
  uint64_t user_ms = table_wait_ms(&backoff->users, at_user, now);
  if (at_user && at_user->known) return user_ms;
  uint64_t address_ms = table_wait_ms(&backoff->addresses, table_find(backoff, &backoff->addresses, &anybody), now);
  return address_ms > user_ms ? address_ms : user_ms;
}

void backoff_wrong(struct backoff *backoff, const struct backoff_source *source, struct span user, struct mono now)
{
  struct who anybody = anybody_at(source), one = user_at(backoff, source, user);
  table_wrong(backoff, &backoff->addresses, &anybody, now);
  if (user.size > 0) table_wrong(backoff, &backoff->users, &one, now);
}

void backoff_right(struct backoff *backoff, const struct backoff_source *source, struct span user)
{
  struct who one = user_at(backoff, source, user);
  struct entry *entry = user.size > 0 ? table_touch(backoff, &backoff->users, &one) : NULL;
  if (!entry) return;
  entry->wrong = 0;
  entry->known = true;
}

uint32_t backoff_count(const struct backoff *backoff)
{
  return (uint32_t)(backoff->users.map.count + backoff->addresses.map.count);
}
