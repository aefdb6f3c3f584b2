#include "core/identity.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/references.h"
#include "core/record.h"

// One piece of memory: this, the groups, the facts, the texts.
struct owned {
  struct references references;
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
  references_init(&owned->references);
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
  if (identity) references_take(&owned_of(identity)->references);
  return identity;
}

void identity_unref(const struct identity *identity)
{
  if (!identity) return;
  struct owned *owned = owned_of(identity);
  if (references_drop(&owned->references)) free(owned);
}

struct span identity_find(const struct identity *identity, struct span name)
{
  for (size_t i = 0; i < identity->fact_count; i++)
    if (span_equal(identity->facts[i].name, name)) return identity->facts[i].value;
  return (struct span){0};
}

// ---- In the journal: user, listener (texts), number of groups u32, these (texts), number of facts u32, of each its name
// and its value (texts).

static uint64_t written_size(struct span text)
{
  return 2 + (uint64_t)text.size;
}

static uint8_t *write_text(uint8_t *at, struct span text)
{
  assert(text.size <= UINT16_MAX);  // packets, certificates and tokens hold none that is longer
  return record_write_bytes(record_write_u16(at, (uint16_t)text.size), text);
}

enum status identity_write(struct buffer *out, const struct identity *identity)
{
  uint64_t size = written_size(identity->user) + written_size(identity->listener) + 4 + 4;
  for (size_t i = 0; i < identity->group_count; i++) size += written_size(identity->groups[i]);
  for (size_t i = 0; i < identity->fact_count; i++)
    size += written_size(identity->facts[i].name) + written_size(identity->facts[i].value);
  uint8_t *at = size <= UINT32_MAX ? buffer_reserve(out, (size_t)size) : NULL;
  if (!at) return ERR_NO_MEMORY;
  buffer_commit(out, (size_t)size);
  at = write_text(write_text(at, identity->user), identity->listener);
  at = record_write_u32(at, (uint32_t)identity->group_count);
  for (size_t i = 0; i < identity->group_count; i++) at = write_text(at, identity->groups[i]);
  at = record_write_u32(at, (uint32_t)identity->fact_count);
  for (size_t i = 0; i < identity->fact_count; i++)
    at = write_text(write_text(at, identity->facts[i].name), identity->facts[i].value);
  return OK;
}

static struct span read_text(struct record_reader *reader)
{
  return record_read_bytes(reader, record_read_u16(reader));
}

// How many things follow that take `size` bytes at least: nobody makes room for more than can be there.
static uint32_t read_count(struct record_reader *reader, size_t size)
{
  uint32_t count = record_read_u32(reader);
  if (count > reader->rest.size / size) reader->failed = true;
  return reader->failed ? 0 : count;
}

enum { GROUP_LEAST = 2, FACT_LEAST = 4 };

bool identity_readable(struct span bytes)
{
  struct record_reader reader = {.rest = bytes};
  read_text(&reader);
  read_text(&reader);
  for (uint32_t left = read_count(&reader, GROUP_LEAST); left > 0; left--) read_text(&reader);
  for (uint32_t left = read_count(&reader, FACT_LEAST); left > 0; left--) {
    read_text(&reader);
    read_text(&reader);
  }
  return !reader.failed && reader.rest.size == 0;
}

const struct identity *identity_read(struct span bytes)
{
  struct record_reader reader = {.rest = bytes};
  struct identity parts = {.method = "restored"};
  parts.user = read_text(&reader);
  parts.listener = read_text(&reader);
  parts.group_count = read_count(&reader, GROUP_LEAST);
  struct span *groups = malloc((parts.group_count + 1) * sizeof *groups);
  if (!groups) return NULL;
  for (size_t i = 0; i < parts.group_count; i++) groups[i] = read_text(&reader);
  parts.fact_count = read_count(&reader, FACT_LEAST);
  struct identity_fact *facts = malloc((parts.fact_count + 1) * sizeof *facts);
  for (size_t i = 0; facts && i < parts.fact_count; i++) {
    facts[i].name = read_text(&reader);
    facts[i].value = read_text(&reader);
  }
  assert(!facts || !reader.failed);
  parts.groups = groups;
  parts.facts = facts;
  const struct identity *identity = facts ? identity_create(&parts) : NULL;
  free(facts);
  free(groups);
  return identity;
}
