// Retained messages (5.0 section 3.3.1.3): a trie of topics with cursors that walk what a filter matches without loading or
// copying it. Every shard holds all of them, by reference, so that a SUBSCRIBE is answered locally and orders exactly
// against the live messages that the same shard delivers: a value is either stored before the cursor comes by, or delivered
// behind it, never lost between. Two values of one topic that race on two shards carry stamps (a logical clock that keeps up
// with the time, shard): the higher one stays, on every shard.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/pool.h"
#include "base/span.h"
#include "base/status.h"
#include "core/limits.h"
#include "core/message.h"

struct retained_node {
  struct retained_node *parent, *first_child, *previous, *next;  // siblings, in order of arrival
  struct message *message;                                       // NULL: none
  uint64_t stamp;                                                // of the last change, a deletion too; 0: none is remembered
  uint64_t changed;                                              // when it last changed here, in the store's own count
  uint64_t hash;
  uint32_t pins;   // cursors that stand here
  uint8_t sweeps;  // that have seen it cleared
  uint16_t level_size;
  char level[];
};

struct retained {
  uint64_t seed;
  struct pool *pool;
  struct retained_node *root;
  struct map children;
  uint64_t clock;               // hybrid logical: above every stamp seen, not behind the time
  uint64_t changes;             // counts them
  uint64_t mortal;              // nodes with a message that expires, or that remember a deletion: what a sweep is for
  uint64_t messages;            // gauges
  uint64_t bytes;               // messages and nodes
  struct retained_node *sweep;  // where the search for expired ones is, pinned; NULL: at the start
};

CHECK_RESULT enum status retained_init(struct retained *retained, struct pool *pool, uint64_t seed);
void retained_deinit(struct retained *retained);

// A stamp for a change that starts here: later than all that was seen, and than all that began in an earlier millisecond
// anywhere.
uint64_t retained_stamp(struct retained *retained, uint8_t shard, struct mono now);

// Stores the message under its topic (its own reference), or clears the topic when the payload is empty, unless a later
// change is known already: *out_taken. ERR_NO_MEMORY leaves the old value.
CHECK_RESULT enum status retained_set(struct retained *retained, struct message *message, uint64_t stamp, bool *out_taken);

// Whether a message of this size (message_size) may be stored under the topic, given what it would replace.
bool retained_has_room(const struct retained *retained, struct span topic, size_t size, const struct limits *limits);

// NULL when there is none. An expired one may be returned: look.
struct message *retained_find(const struct retained *retained, struct span topic);

// Frees expired ones and nodes that only remembered deletions, at most `steps` nodes; call once a second while there is
// something mortal. A deletion is remembered for SWEEPS_REMEMBERED rounds, far longer than a mail is under way.
enum { SWEEPS_REMEMBERED = 30 };
void retained_sweep(struct retained *retained, struct mono now, unsigned steps);

// ---- Cursors

struct retained_cursor {
  struct retained_node *at;  // pinned; NULL: at the end
  uint64_t changes;          // of the store when the cursor was made: what changed since is delivered live behind it
  struct message *held;      // found, referenced, but there was no room for it yet; NULL: none
  bool again;                // what is stored at `at` was found, but there was no room: it is looked at once more
  uint64_t origin_excluded;  // no local: skip what this client published; 0: nothing
  uint8_t qos;               // of the subscription
  uint32_t filter_size;
  char filter[];
};

// NULL when memory is short. The filter is copied.
struct retained_cursor *retained_cursor_create(struct retained *retained, struct span filter);
void retained_cursor_destroy(struct retained *retained, struct retained_cursor *cursor);

// There was no room for what was found last: it comes again, or what has become of it by then.
void retained_cursor_put_back(struct retained_cursor *cursor);

enum cursor_result { CURSOR_MESSAGE, CURSOR_END, CURSOR_MORE };

// The next message that matches, borrowed; CURSOR_MORE when `steps` nodes were looked at without finding one: call again
// later.
enum cursor_result retained_cursor_next(struct retained *retained, struct retained_cursor *cursor, unsigned steps,
                                        struct message **out_message);
