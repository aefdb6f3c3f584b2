// The retained store in memory.

#include "core/retained.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "mqtt/topic.h"

struct child_key {
  const struct retained_node *parent;
  struct span level;
};

static uint64_t child_hash(uint64_t seed, const struct retained_node *parent, struct span level)
{
  return hash_span(seed ^ (uintptr_t)parent * 0x9e3779b97f4a7c15u, level);
}

static bool child_matches(const void *item, const void *key)
{
  const struct retained_node *node = item;
  const struct child_key *wanted = key;
  return node->parent == wanted->parent && span_equal(span_of(node->level, node->level_size), wanted->level);
}

static struct retained_node *find_child(const struct retained *retained, const struct retained_node *parent,
                                        struct span level)
{
  struct child_key key = {.parent = parent, .level = level};
  return map_find(&retained->children, child_hash(retained->seed, parent, level), child_matches, &key);
}

enum status retained_init(struct retained *retained, struct pool *pool, uint64_t seed)
{
  *retained = (struct retained){.seed = seed, .pool = pool};
  retained->root = calloc(1, sizeof *retained->root);
  return retained->root ? OK : ERR_NO_MEMORY;
}

static size_t node_size(const struct retained_node *node)
{
  return sizeof *node + node->level_size;
}

void retained_deinit(struct retained *retained)
{
  size_t cursor = 0;
  for (struct retained_node *node; (node = map_next(&retained->children, &cursor));) {
    if (node->message) message_unref(retained->pool, node->message);
    pool_free(retained->pool, node, node_size(node));
  }
  map_deinit(&retained->children);
  free(retained->root);
}

uint64_t retained_stamp(struct retained *retained, uint8_t shard, struct mono now)
{
  uint64_t count = (retained->clock >> 8) + 1, least = now.ms << 16;
  retained->clock = (count < least ? least : count) << 8 | shard;
  return retained->clock;
}

static struct retained_node *add_child(struct retained *retained, struct retained_node *parent, struct span level)
{
  struct retained_node *node = pool_alloc(retained->pool, sizeof *node + level.size);
  if (!node) return NULL;
  *node = (struct retained_node){
      .parent = parent, .level_size = (uint16_t)level.size, .hash = child_hash(retained->seed, parent, level)};
  if (level.size) memcpy(node->level, level.at, level.size);
  if (map_insert(&retained->children, node->hash, node) != OK) {
    pool_free(retained->pool, node, sizeof *node + level.size);
    return NULL;
  }
  // In front: a cursor that stands at an older sibling has passed it, and its value was or will be delivered live.
  node->next = parent->first_child;
  if (node->next) node->next->previous = node;
  parent->first_child = node;
  retained->bytes += node_size(node);
  return node;
}

// Frees nodes from here upwards that hold nothing, lead nowhere and are not remembered or stood on.
static void prune(struct retained *retained, struct retained_node *node)
{
  while (node->parent && !node->message && !node->first_child && node->pins == 0 && node->stamp == 0) {
    struct retained_node *parent = node->parent;
    if (node->previous)
      node->previous->next = node->next;
    else
      parent->first_child = node->next;
    if (node->next) node->next->previous = node->previous;
    map_remove(&retained->children, node->hash, node);
    retained->bytes -= node_size(node);
    pool_free(retained->pool, node, node_size(node));
    node = parent;
  }
}

static struct retained_node *find_node(const struct retained *retained, struct span topic)
{
  struct retained_node *node = retained->root;
  struct span level;
  for (size_t cursor = 0; node && mqtt_next_level(topic, &cursor, &level);) node = find_child(retained, node, level);
  return node;
}

static struct retained_node *make_node(struct retained *retained, struct span topic)
{
  struct retained_node *node = retained->root;
  struct span level;
  for (size_t cursor = 0; mqtt_next_level(topic, &cursor, &level);) {
    struct retained_node *child = find_child(retained, node, level);
    if (!child) child = add_child(retained, node, level);
    if (!child) {
      prune(retained, node);
      return NULL;
    }
    node = child;
  }
  return node;
}

static bool mortal(const struct retained_node *node)
{
  return node->message ? node->message->expiry_ms != 0 : node->stamp != 0;
}

// Puts `message` (or nothing) in the node and keeps the gauges.
static void replace(struct retained *retained, struct retained_node *node, struct message *message, uint64_t stamp)
{
  retained->mortal -= mortal(node);
  if (node->message) {
    retained->messages--;
    retained->bytes -= message_size(node->message);
    message_unref(retained->pool, node->message);
  }
  node->message = message;
  node->stamp = stamp;
  node->sweeps = 0;
  node->changed = ++retained->changes;
  if (message) {
    message_ref(message, 1);
    retained->messages++;
    retained->bytes += message_size(message);
  }
  retained->mortal += mortal(node);
}

enum status retained_set(struct retained *retained, struct message *message, uint64_t stamp, bool *out_taken)
{
  if (stamp > retained->clock) retained->clock = stamp;
  struct retained_node *node = make_node(retained, message_topic(message));
  if (!node) return ERR_NO_MEMORY;
  // A cleared topic keeps its stamp until the sweep: an older value may still be on its way from another shard.
  *out_taken = stamp > node->stamp;
  if (*out_taken) replace(retained, node, message->payload_size ? message : NULL, stamp);
  return OK;
}

struct message *retained_find(const struct retained *retained, struct span topic)
{
  const struct retained_node *node = find_node(retained, topic);
  return node ? node->message : NULL;
}

bool retained_has_room(const struct retained *retained, struct span topic, size_t size, const struct limits *limits)
{
  const struct message *old = retained_find(retained, topic);
  size_t old_size = old ? message_size(old) : 0;
  if (old && size <= old_size) return true;
  if (!old && limits->retained_messages > 0 && retained->messages >= limits->retained_messages) return false;
  return retained->bytes - old_size + size <= limits->retained_bytes;
}

// ---- Walking

static struct retained_node *after_subtree(const struct retained *retained, struct retained_node *node)
{
  while (node != retained->root && !node->next) node = node->parent;
  return node == retained->root ? NULL : node->next;
}

static void pin(struct retained_node *node)
{
  node->pins++;
}

static void unpin(struct retained *retained, struct retained_node *node)
{
  assert(node->pins > 0);
  node->pins--;
  prune(retained, node);
}

static void sweep_node(struct retained *retained, struct retained_node *node, struct mono now)
{
  if (node->message && message_expired(node->message, now))
    replace(retained, node, NULL, node->stamp);
  else if (!node->message && node->stamp && ++node->sweeps > SWEEPS_REMEMBERED)
    replace(retained, node, NULL, 0);
}

void retained_sweep(struct retained *retained, struct mono now, unsigned steps)
{
  struct retained_node *node = retained->sweep;
  if (!node && (node = retained->root->first_child)) pin(node);
  while (node && steps-- > 0) {
    sweep_node(retained, node, now);
    struct retained_node *next = node->first_child ? node->first_child : after_subtree(retained, node);
    if (next) pin(next);
    unpin(retained, node);
    node = next;
  }
  retained->sweep = node;
}

// ---- Cursors

struct retained_cursor *retained_cursor_create(struct retained *retained, struct span filter)
{
  struct retained_cursor *cursor = pool_alloc(retained->pool, sizeof *cursor + filter.size);
  if (!cursor) return NULL;
  *cursor =
      (struct retained_cursor){.at = retained->root, .changes = retained->changes, .filter_size = (uint32_t)filter.size};
  memcpy(cursor->filter, filter.at, filter.size);
  pin(retained->root);
  return cursor;
}

static void move_to(struct retained *retained, struct retained_cursor *cursor, struct retained_node *node)
{
  if (node) pin(node);
  if (cursor->at) unpin(retained, cursor->at);
  cursor->at = node;
}

void retained_cursor_destroy(struct retained *retained, struct retained_cursor *cursor)
{
  if (!cursor) return;
  if (cursor->held) message_unref(retained->pool, cursor->held);
  move_to(retained, cursor, NULL);
  pool_free(retained->pool, cursor, sizeof *cursor + cursor->filter_size);
}

struct place {
  struct span level;  // of the filter, at the node's depth + 1: for its children
  bool last;          // no such level: the filter ends at the node
  bool multi;         // it is '#'
};

static unsigned depth_of(const struct retained_node *node)
{
  unsigned depth = 0;
  for (; node->parent; node = node->parent) depth++;
  return depth;
}

// The filter's level for the children of a node at `depth`. A node below a '#' has "multi" too.
static struct place place_at(const struct retained_cursor *cursor, unsigned depth)
{
  struct span filter = span_of(cursor->filter, cursor->filter_size);
  struct place place = {.last = true};
  size_t at = 0;
  for (unsigned i = 0; i <= depth; i++) {
    if (!mqtt_next_level(filter, &at, &place.level)) return (struct place){.last = true};
    if (place.level.size == 1 && place.level.at[0] == '#') return (struct place){.multi = true};
  }
  place.last = false;
  return place;
}

static bool is_plus(struct span level)
{
  return level.size == 1 && level.at[0] == '+';
}

static bool hidden(const struct retained *retained, const struct retained_node *node)
{
  return node->parent == retained->root && node->level_size > 0 && node->level[0] == '$';
}

// First of the siblings from `node` on that a wildcard may match.
static struct retained_node *first_visible(const struct retained *retained, struct retained_node *node)
{
  while (node && hidden(retained, node)) node = node->next;
  return node;
}

static struct retained_node *first_below(const struct retained *retained, const struct retained_cursor *cursor,
                                         const struct retained_node *node, unsigned depth)
{
  struct place place = place_at(cursor, depth);
  if (place.last) return NULL;
  if (place.multi || is_plus(place.level)) return first_visible(retained, node->first_child);
  return find_child(retained, node, place.level);
}

// The next node in the order of the walk that the filter can lead to; *depth follows.
static struct retained_node *advance(const struct retained *retained, const struct retained_cursor *cursor,
                                     struct retained_node *node, unsigned *depth)
{
  struct retained_node *below = first_below(retained, cursor, node, *depth);
  if (below) {
    (*depth)++;
    return below;
  }
  while (node->parent) {
    struct place place = place_at(cursor, *depth - 1);
    struct retained_node *next = place.multi || is_plus(place.level) ? first_visible(retained, node->next) : NULL;
    if (next) return next;
    node = node->parent;
    (*depth)--;
  }
  return NULL;
}

static bool node_matches(const struct retained_cursor *cursor, const struct retained_node *node, unsigned depth)
{
  if (!node->parent) return false;
  struct place place = place_at(cursor, depth);
  return place.last || place.multi;
}

void retained_cursor_put_back(struct retained_cursor *cursor)
{
  cursor->again = true;
}

enum cursor_result retained_cursor_next(struct retained *retained, struct retained_cursor *cursor, unsigned steps,
                                        struct message **out_message)
{
  if (!cursor->at) return CURSOR_END;
  unsigned depth = depth_of(cursor->at);
  while (steps-- > 0) {
    struct retained_node *next = cursor->again ? cursor->at : advance(retained, cursor, cursor->at, &depth);
    cursor->again = false;
    move_to(retained, cursor, next);
    if (!next) return CURSOR_END;
    if (!next->message || !node_matches(cursor, next, depth)) continue;
    if (next->changed > cursor->changes) continue;
    if (cursor->origin_excluded && next->message->origin == cursor->origin_excluded) continue;
    *out_message = next->message;
    return CURSOR_MESSAGE;
  }
  return CURSOR_MORE;
}
