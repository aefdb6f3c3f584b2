#include "core/identity.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// One piece of memory: this, the groups, the facts, the texts.
struct owned {
  _Atomic uint32_t references;
  struct identity identity;
};

static size_t text_size(struct span text)
{
  return text.size + 1;
}

static struct span keep(char **at, struct span text)
{
  char *kept = *at;
  if (text.size > 0) memcpy(kept, text.at, text.size);
  kept[text.size] = '\0';
  *at += text_size(text);
  return span_of(kept, text.size);
}

const struct identity *identity_create(const struct identity *parts)
{
  size_t texts = text_size(parts->user) + text_size(parts->listener);
  for (size_t i = 0; i < parts->group_count; i++) texts += text_size(parts->groups[i]);
  for (size_t i = 0; i < parts->fact_count; i++) texts += text_size(parts->facts[i].name) + text_size(parts->facts[i].value);
  size_t groups_size = parts->group_count * sizeof(struct span),
         facts_size = parts->fact_count * sizeof(struct identity_fact);
  struct owned *owned = malloc(sizeof *owned + groups_size + facts_size + texts);
  if (!owned) return NULL;
  struct span *groups = (struct span *)(owned + 1);
  struct identity_fact *facts = (struct identity_fact *)(groups + parts->group_count);
  char *at = (char *)(facts + parts->fact_count);
  for (size_t i = 0; i < parts->group_count; i++) groups[i] = keep(&at, parts->groups[i]);
  for (size_t i = 0; i < parts->fact_count; i++) {
    facts[i].name = keep(&at, parts->facts[i].name);
    facts[i].value = keep(&at, parts->facts[i].value);
  }
  atomic_init(&owned->references, 1);
  owned->identity = *parts;
  owned->identity.user = keep(&at, parts->user);
  owned->identity.listener = keep(&at, parts->listener);
  owned->identity.groups = groups;
  owned->identity.facts = facts;
  return &owned->identity;
}

static struct owned *owned_of(const struct identity *identity)
{
  return (struct owned *)((uintptr_t)identity - offsetof(struct owned, identity));
}

const struct identity *identity_ref(const struct identity *identity)
{
  if (identity) atomic_fetch_add_explicit(&owned_of(identity)->references, 1, memory_order_relaxed);
  return identity;
}

void identity_unref(const struct identity *identity)
{
  if (!identity) return;
  struct owned *owned = owned_of(identity);
  if (atomic_fetch_sub_explicit(&owned->references, 1, memory_order_acq_rel) == 1) free(owned);
}

struct span identity_find(const struct identity *identity, struct span name)
{
  for (size_t i = 0; i < identity->fact_count; i++)
    if (span_equal(identity->facts[i].name, name)) return identity->facts[i].value;
  return (struct span){0};
}
