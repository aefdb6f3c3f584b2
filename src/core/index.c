// The trie of filters and the walk that finds who gets a topic.

#include "core/index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/index_internal.h"
#include "core/session.h"
#include "mqtt/topic.h"

struct child_key {
  const struct node *parent;
  struct span level;
};

static uint64_t child_hash(uint64_t seed, const struct node *parent, struct span level)
{
  return hash_span(seed ^ (uintptr_t)parent * 0x9e3779b97f4a7c15u, level);
}

static bool child_matches(const void *item, const void *key)
{
  const struct node *node = item;
  const struct child_key *wanted = key;
  return node->parent == wanted->parent && span_equal(span_of(node->level, node->level_size), wanted->level);
}

struct node *index_child(const struct index *index, const struct node *parent, struct span level)
{
  struct child_key key = {.parent = parent, .level = level};
  return map_find(&index->children, child_hash(index->seed, parent, level), child_matches, &key);
}

enum status index_init(struct index *index, struct pool *pool, uint64_t seed)
{
  *index = (struct index){.seed = seed, .pool = pool, .generation = 1};
  index->root = calloc(1, sizeof *index->root);
  return index->root ? OK : ERR_NO_MEMORY;
}

static void node_free(struct index *index, struct node *node)
{
  pool_free(index->pool, node, sizeof *node + node->level_size);
}

static void free_ends(struct node *node)
{
  for (unsigned i = 0; i < 2; i++) {
    if (!node->ends[i]) continue;
    assert(!node->ends[i]->subscriptions);
    assert(!node->ends[i]->groups);
    free(node->ends[i]);
  }
}

// Literal nodes are found by the map, '+' nodes by their parents.
static void free_plus_chain(struct index *index, struct node *node)
{
  for (struct node *plus = node->plus, *next; plus; plus = next) {
    next = plus->plus;
    free_ends(plus);
    node_free(index, plus);
  }
}

void index_deinit(struct index *index)
{
  index_cache_clear(index);
  free(index->matches);
  free(index->steps);
  if (index->root) {
    free_plus_chain(index, index->root);
    free_ends(index->root);
    free(index->root);
  }
  size_t cursor = 0;
  for (struct node *node; (node = map_next(&index->children, &cursor));) {
    free_plus_chain(index, node);
    free_ends(node);
    node_free(index, node);
  }
  map_deinit(&index->children);
}

static struct node *add_child(struct index *index, struct node *parent, struct span level)
{
  struct node *node = pool_alloc(index->pool, sizeof *node + level.size);
  if (!node) return NULL;
  bool is_plus = level.size == 1 && level.at[0] == '+';
  *node = (struct node){.parent = parent, .level_size = (uint16_t)level.size, .is_plus = is_plus};
  if (level.size) memcpy(node->level, level.at, level.size);
  if (is_plus) {
    parent->plus = node;
  } else {
    node->hash = child_hash(index->seed, parent, level);
    if (map_insert(&index->children, node->hash, node) != OK) {
      node_free(index, node);
      return NULL;
    }
  }
  parent->children++;
  return node;
}

// Frees nodes from `node` upwards while they lead nowhere.
static void prune(struct index *index, struct node *node)
{
  while (node->parent && node->children == 0 && !node->ends[0] && !node->ends[1]) {
    struct node *parent = node->parent;
    if (node->is_plus)
      parent->plus = NULL;
    else
      map_remove(&index->children, node->hash, node);
    assert(parent->children > 0);
    parent->children--;
    node_free(index, node);
    node = parent;
  }
}

static bool is_text(struct span level, char c)
{
  return level.size == 1 && level.at[0] == c;
}

struct filter_end *index_end(struct index *index, struct span filter)
{
  struct node *node = index->root;
  struct span level;
  bool multi = false;
  for (size_t cursor = 0; mqtt_next_level(filter, &cursor, &level);) {
    if (is_text(level, '#')) {
      multi = true;
      break;
    }
    struct node *child = is_text(level, '+') ? node->plus : index_child(index, node, level);
    if (!child) child = add_child(index, node, level);
    if (!child) {
      prune(index, node);
      return NULL;
    }
    node = child;
  }
  struct filter_end **end = &node->ends[multi];
  if (!*end) {
    *end = calloc(1, sizeof **end);
    if (!*end) {
      prune(index, node);
      return NULL;
    }
    (*end)->node = node;
    (*end)->multi = multi;
  }
  return *end;
}

struct filter_end *index_find(const struct index *index, struct span filter)
{
  const struct node *node = index->root;
  struct span level;
  for (size_t cursor = 0; node && mqtt_next_level(filter, &cursor, &level);) {
    if (is_text(level, '#')) return node->ends[1];
    node = is_text(level, '+') ? node->plus : index_child(index, node, level);
  }
  return node ? node->ends[0] : NULL;
}

void index_release(struct index *index, struct filter_end *end)
{
  if (end->local_count > 0 || end->remote) return;
  assert(!end->subscriptions);
  assert(!end->groups);
  struct node *node = end->node;
  node->ends[end->multi] = NULL;
  free(end);
  prune(index, node);
}

char *filter_end_text(const struct filter_end *end)
{
  size_t size = end->multi ? 2 : 0;
  for (const struct node *node = end->node; node->parent; node = node->parent) size += node->level_size + 1u;
  if (size == 0) size = 1;
  char *text = malloc(size + 1);
  if (!text) return NULL;
  // Written from the back; each level is preceded by a '/', and the first '/' is cut off by starting behind it.
  char *buffer = text;
  size_t at = size;
  buffer[at] = 0;
  if (end->multi) {
    buffer[--at] = '#';
    buffer[--at] = '/';
  }
  for (const struct node *node = end->node; node->parent; node = node->parent) {
    at -= node->level_size;
    memcpy(buffer + at, node->level, node->level_size);
    buffer[--at] = '/';
  }
  assert(at == 0);
  memmove(text, text + 1, size);
  return text;
}
