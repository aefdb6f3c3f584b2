// Who gets a topic: the walk through the trie, and the cache of its results. The cache is dropped entry by entry: a result
// made before the last change is made again when it is asked for.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/index.h"
#include "core/index_internal.h"
#include "core/session.h"
#include "core/share.h"
#include "mqtt/topic.h"

enum { CACHE_WAYS = 4 };  // an entry lives in one of four neighbouring places

uint64_t index_hash(const struct index *index, struct span topic)
{
  return hash_span(index->seed, topic);
}

// ---- Gathering

static bool grow(void **items, uint32_t *capacity, uint32_t count, size_t item_size)
{
  if (count < *capacity) return true;
  uint32_t wanted = *capacity ? *capacity * 2 : 4;
  void *bigger = realloc(*items, wanted * item_size);
  if (!bigger) return false;
  *items = bigger;
  *capacity = wanted;
  return true;
}

static bool merge(struct target *target, const struct subscription *subscription)
{
  if (subscription->qos > target->qos) target->qos = subscription->qos;
  target->retain_as_published |= subscription->retain_as_published;
  target->no_local |= subscription->no_local;
  return subscription->id == 0 || tag_add(&target->tag, subscription->id) == OK;
}

struct walk {
  struct index *index;
  struct match *match;
  uint64_t number;  // of this walk: sessions remember where in the targets they are, so that overlaps merge in constant time
  bool failed;
};

static void gather(struct walk *walk, const struct filter_end *end)
{
  if (!end) return;
  struct match *match = walk->match;
  match->remote |= end->remote;
  match->remote_durable |= end->remote_durable;
  for (struct subscription *s = end->subscriptions; s; s = s->next_at_end) {
    struct session *session = s->session;
    if (session->matched_walk != walk->number) {
      if (!grow((void **)&match->targets, &match->target_capacity, match->target_count, sizeof *match->targets)) {
        walk->failed = true;
        return;
      }
      session->matched_walk = walk->number;
      session->matched_at = match->target_count;
      match->targets[match->target_count++] = (struct target){.session = session};
    }
    if (!merge(&match->targets[session->matched_at], s)) walk->failed = true;
  }
  for (struct group *group = end->groups; group; group = group->next_at_end) {
    if (!grow((void **)&match->groups, &match->group_capacity, match->group_count, sizeof *match->groups)) {
      walk->failed = true;
      return;
    }
    match->groups[match->group_count++] = group;
  }
}

struct walk_step {
  const struct node *node;
  size_t cursor;  // of the next level of the topic
};

static void push(struct walk *walk, size_t *depth, const struct node *node, size_t cursor)
{
  struct index *index = walk->index;
  if (*depth == index->step_capacity) {
    size_t capacity = *depth ? *depth * 2 : 32;
    struct walk_step *steps = realloc(index->steps, capacity * sizeof *steps);
    if (!steps) {
      walk->failed = true;
      return;
    }
    index->steps = steps;
    index->step_capacity = capacity;
  }
  index->steps[(*depth)++] = (struct walk_step){.node = node, .cursor = cursor};
}

// Visits every node that the topic's levels lead to. "a/#" matches "a" too. Wildcards in the first level do not match topics
// that start with '$' [MQTT-4.7.2-1].
static void walk_topic(struct walk *walk, struct span topic)
{
  struct index *index = walk->index;
  bool dollar = topic.size > 0 && topic.at[0] == '$';
  size_t depth = 0;
  push(walk, &depth, index->root, 0);
  while (depth > 0 && !walk->failed) {
    struct walk_step step = index->steps[--depth];
    bool no_wildcard = dollar && step.node == index->root;
    if (!no_wildcard) gather(walk, step.node->ends[1]);
    struct span level;
    if (!mqtt_next_level(topic, &step.cursor, &level)) {
      gather(walk, step.node->ends[0]);
      continue;
    }
    if (step.node->children == 0) continue;
    const struct node *child = index_child(index, step.node, level);
    if (child) push(walk, &depth, child, step.cursor);
    if (step.node->plus && !no_wildcard) push(walk, &depth, step.node->plus, step.cursor);
  }
}

// ---- The cache

static void match_empty(struct index *index, struct match *match)
{
  for (uint32_t i = 0; i < match->target_count; i++) tag_unref(match->targets[i].tag);
  index->cached_targets -= match->target_count;
  match->target_count = 0;
  match->group_count = 0;
  match->remote = 0;
  match->remote_durable = false;
}

// The cache counts in the memory budget like everything that clients can make grow.
static void match_charge(struct index *index, struct match *match, size_t bytes)
{
  pool_charge(index->pool, (int64_t)bytes - (int64_t)match->charged);
  match->charged = bytes;
}

static void match_free(struct index *index, struct match *match)
{
  if (!match) return;
  match_empty(index, match);
  match_charge(index, match, 0);
  free(match->targets);
  free(match->groups);
  free(match);
}

void index_cache_clear(struct index *index)
{
  if (!index->matches) return;
  for (size_t i = 0; i < INDEX_CACHE_MATCHES; i++) {
    match_free(index, index->matches[i]);
    index->matches[i] = NULL;
  }
  match_free(index, index->long_match);
  index->long_match = NULL;
}

static bool is_for(const struct match *match, struct span topic, uint64_t hash)
{
  return match->hash == hash && span_equal(span_of(match->topic, match->topic_size), topic);
}

static struct match **cache_place(struct index *index, struct span topic, uint64_t hash, struct match **out_found)
{
  if (topic.size > INDEX_CACHE_TOPIC) {
    struct match *match = index->long_match;
    *out_found = match && is_for(match, topic, hash) ? match : NULL;
    return &index->long_match;
  }
  size_t first = (size_t)(hash >> 32) & (INDEX_CACHE_MATCHES - 1) & ~(size_t)(CACHE_WAYS - 1);
  struct match **victim = NULL;
  *out_found = NULL;
  for (size_t i = first; i < first + CACHE_WAYS; i++) {
    struct match *match = index->matches[i];
    if (!match) {
      if (!victim || *victim) victim = &index->matches[i];
    } else if (is_for(match, topic, hash)) {
      *out_found = match;
      return &index->matches[i];
    } else if (!match->referenced && !victim) {
      victim = &index->matches[i];
    } else {
      match->referenced = false;  // second chance
    }
  }
  return victim ? victim : &index->matches[first + (hash & (CACHE_WAYS - 1))];
}

static struct match *fill(struct index *index, struct match *match, struct span topic)
{
  struct walk walk = {.index = index, .match = match, .number = ++index->misses};
  match_empty(index, match);
  walk_topic(&walk, topic);
  index->cached_targets += match->target_count;
  match_charge(index, match,
               sizeof *match + match->topic_size + match->target_capacity * sizeof *match->targets +
                   match->group_capacity * sizeof(struct group *));
  match->generation = index->generation;
  if (walk.failed) {
    match->generation = 0;  // never current: tried again next time
    return NULL;
  }
  return match;
}

const struct match *index_match(struct index *index, struct span topic, uint64_t hash)
{
  if (!index->matches) {
    index->matches = calloc(INDEX_CACHE_MATCHES, sizeof *index->matches);
    if (!index->matches) return NULL;
  }
  struct match *found;
  struct match **place = cache_place(index, topic, hash, &found);
  if (found) {
    found->referenced = true;
    if (found->generation == index->generation) {
      index->hits++;
      return found;
    }
    return fill(index, found, topic);
  }
  if (index->cached_targets > INDEX_CACHE_TARGETS || pool_tight(index->pool)) index_cache_clear(index);
  match_free(index, *place);
  *place = NULL;
  struct match *match = malloc(sizeof *match + topic.size);
  if (!match) return NULL;
  *match = (struct match){.hash = hash, .topic_size = (uint16_t)topic.size, .referenced = true};
  memcpy(match->topic, topic.at, topic.size);
  *place = match;
  return fill(index, match, topic);
}

bool index_own_target(struct index *index, struct span topic, struct session *session, struct target *out)
{
  (void)index;
  struct target target = {.session = session};
  bool any = false;
  for (struct subscription *s = session->subscriptions; s; s = s->next_in_session) {
    if (s->no_local) continue;
    char *filter = filter_end_text(s->end);
    bool matches = filter && mqtt_filter_matches(span_text(filter), topic);
    free(filter);
    if (!matches) continue;
    any = true;
    if (!merge(&target, s)) break;
  }
  if (any) *out = target;
  return any;
}
