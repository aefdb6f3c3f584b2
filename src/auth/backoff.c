// Two tables of the same make, each with a list in order of the last wrong guess: the first in it is the one to go.
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
  struct link link;  // by `last_ms`
  uint32_t wrong;
  uint64_t last_ms;  // of the last wrong guess
};

struct table {
  struct map map;
  struct link entries;  // the least recent first
  uint32_t most;
  uint32_t free;  // guesses before there is a wait
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

static void table_init(struct table *table, uint32_t most, uint32_t free_guesses)
{
  map_init(&table->map);
  list_init(&table->entries);
  table->most = most;
  table->free = free_guesses;
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
static uint64_t since_last_ms(const struct entry *entry, struct mono now)
{
  return now.ms > entry->last_ms ? now.ms - entry->last_ms : 0;
}

static bool is_old(const struct entry *entry, struct mono now)
{
  return since_last_ms(entry, now) >= BACKOFF_FORGET_MS;
}

static struct entry *table_find(const struct backoff *backoff, const struct table *table, const struct who *who)
{
  return map_find(&table->map, hash_who(backoff, who), matches, who);
}

static uint64_t table_wait_ms(const struct backoff *backoff, const struct table *table, const struct who *who,
                              struct mono now)
{
  const struct entry *entry = table_find(backoff, table, who);
  if (!entry || entry->wrong <= table->free || is_old(entry, now)) return 0;
  uint32_t doublings = entry->wrong - table->free - 1;
  uint64_t wait_ms = doublings < 16 ? (uint64_t)BACKOFF_FIRST_MS << doublings : BACKOFF_MOST_MS;
  if (wait_ms > BACKOFF_MOST_MS) wait_ms = BACKOFF_MOST_MS;
  uint64_t past_ms = since_last_ms(entry, now);
  return past_ms < wait_ms ? wait_ms - past_ms : 0;
}

// A new entry, at the end of the list; NULL when memory is short: that guess is not held against anybody.
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
  list_append(&table->entries, &entry->link);
  return entry;
}

static void table_wrong(const struct backoff *backoff, struct table *table, const struct who *who, struct mono now)
{
  while (!list_empty(&table->entries)) {
    struct entry *first = CONTAINER_OF(table->entries.next, struct entry, link);
    if (!is_old(first, now)) break;
    forget(backoff, table, first);
  }
  struct entry *entry = table_find(backoff, table, who);
  if (!entry) entry = table_add(backoff, table, who);
  if (!entry) return;
  if (entry->wrong < UINT32_MAX) entry->wrong++;
  entry->last_ms = now.ms;
  list_remove(&entry->link);
  list_append(&table->entries, &entry->link);
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
  table_init(&backoff->users, entries, BACKOFF_FREE_USER);
  table_init(&backoff->addresses, entries, BACKOFF_FREE_ADDRESS);
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
  uint64_t address_ms = table_wait_ms(backoff, &backoff->addresses, &anybody, now);
  uint64_t user_ms = user.size > 0 ? table_wait_ms(backoff, &backoff->users, &one, now) : 0;
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
  struct entry *entry = user.size > 0 ? table_find(backoff, &backoff->users, &one) : NULL;
  if (entry) forget(backoff, &backoff->users, entry);
}

uint32_t backoff_count(const struct backoff *backoff)
{
  return (uint32_t)(backoff->users.map.count + backoff->addresses.map.count);
}
