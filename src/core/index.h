// The subscription index of one shard: a trie by topic level, and a cache from topic to the flat list of who gets it,
// because sensors repeat their topics. Holds this shard's sessions, the shared groups that this shard owns, and for each
// filter which other shards have somebody interested. Pure; tested against mqtt_filter_matches over a plain list.
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/pool.h"
#include "base/span.h"
#include "base/status.h"
#include "core/tag.h"

struct session;
struct group;

// A level of some filter. A filter ends either at a node, or at its '#'.
struct node {
  struct node *parent;         // NULL: the root
  struct node *plus;           // the '+' child
  uint64_t hash;               // of (parent, level), for the children map
  struct filter_end *ends[2];  // [0] filters that end here, [1] filters that go on with "/#"; NULL when there are none
  uint32_t children;           // literal ones and '+'
  uint16_t level_size;
  bool is_plus;
  char level[];
};

// Everybody who has subscribed to one filter.
struct filter_end {
  struct node *node;
  bool multi;              // "/#"
  bool remote_durable;     // the journal's shard has such as durable_count counts
  uint32_t remote;         // a bit per other shard that is interested
  uint32_t local_count;    // subscriptions and groups here; others are told when it comes and goes
  uint32_t durable_count;  // of these: of durable sessions, and groups, which may have such members; told like it
  struct subscription *subscriptions;
  struct group *groups;
};
static_assert(sizeof(struct filter_end) == 40, "one for each filter: 8 bytes more cost an allocation 16");

// One subscription of one session, not shared.
struct subscription {
  struct subscription *next_at_end, **link_at_end;
  struct subscription *next_in_session, **link_in_session;
  struct filter_end *end;
  struct session *session;
  uint32_t id;  // subscription identifier, 0: none
  uint8_t qos;
  bool no_local;
  bool retain_as_published;
};

// A session that gets a message, once, whatever the number of its subscriptions that match [MQTT-3.3.4-2, -3].
struct target {
  struct session *session;
  struct tag *tag;  // subscription identifiers, or NULL
  uint8_t qos;      // the highest of the matching subscriptions
  bool retain_as_published;
  bool no_local;  // at least one matching subscription has it: ask index_own_target when the publisher is this session
};

struct match {
  uint64_t hash;
  uint64_t generation;
  uint32_t target_count, group_count;
  uint32_t target_capacity, group_capacity;
  uint32_t remote;      // shards, a bit each
  bool remote_durable;  // the journal's shard may have to store it
  uint16_t topic_size;
  bool referenced;  // looked up since the eviction hand came by
  size_t charged;   // bytes, in the memory budget
  struct target *targets;
  struct group **groups;
  char topic[];
};

enum {
  INDEX_CACHE_MATCHES = 8192,
  INDEX_CACHE_TARGETS = 1 << 20,  // in all matches
  INDEX_CACHE_TOPIC = 255,        // bytes; of longer topics only the last one is kept
};

struct index {
  uint64_t seed;
  struct pool *pool;  // nodes come from it, so that they count in the memory budget
  struct node *root;
  struct map children;     // literal children of all nodes
  uint64_t generation;     // rises with every change
  struct match **matches;  // INDEX_CACHE_MATCHES of them, allocated with the first look-up
  struct match *long_match;
  uint64_t cached_targets;
  uint64_t hits, misses;
  struct walk_step *steps;  // of the walk under way: an explicit stack, because levels are only bounded by configuration
  size_t step_capacity;
};

CHECK_RESULT enum status index_init(struct index *index, struct pool *pool, uint64_t seed);
void index_deinit(struct index *index);  // subscriptions and groups are the caller's and must be gone

// The end of a valid filter, made when it is not there. NULL when memory is short. An end that nobody uses must be given to
// index_release.
struct filter_end *index_end(struct index *index, struct span filter);
struct filter_end *index_find(const struct index *index, struct span filter);

// Frees the end and the nodes that lead only to it, when it has neither local nor remote interest.
void index_release(struct index *index, struct filter_end *end);

// The filter's text, NUL-terminated, on the heap; NULL when memory is short.
char *filter_end_text(const struct filter_end *end);

// Tell the index that a subscription, group or remote interest came, went or changed its options.
static inline void index_changed(struct index *index)
{
  index->generation++;
}

// Who gets a topic. Valid until the next change or look-up. NULL when memory is short.
// `hash` is index_hash of the topic.
const struct match *index_match(struct index *index, struct span topic, uint64_t hash);
uint64_t index_hash(const struct index *index, struct span topic);

// The target of one session without its no-local subscriptions; false when none is left. The tag is a new reference.
bool index_own_target(struct index *index, struct span topic, struct session *session, struct target *out);
