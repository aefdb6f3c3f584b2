// The catalog: what the records mean. Sessions with their queues, the retained index, and how many live references each
// segment has. A state machine: catalog_apply is the only way to change it, so that replaying the log makes the same state
// again. Holds no payloads: a queue is a run of references (positions in the log); full blocks of them are records too
// (RECORD_REFERENCES), so that a waiting message costs a fraction of a byte. Does no I/O but through `read`. One thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/list.h"
#include "base/map.h"
#include "base/span.h"
#include "base/status.h"
#include "core/record.h"

enum { CATALOG_BLOCK = 256 };  // references in a full block

// Reads a record of the log (journal_log_read).
typedef enum status catalog_read(void *context, uint64_t position, struct record_header *out_header, struct span *out_body);

// Where the message of a place is when the block of references that says so cannot be read: found by searching, 0 when it is
// not.
typedef uint64_t catalog_search(void *context, uint32_t session, uint64_t place);

struct reference {
  uint64_t position;  // 0: a hole: it was lost, or its message is not needed any more
  uint32_t weight;    // record_message_weight, saturated; 0 for a hole
  uint32_t time_s;    // journal time of the message
};

// What a full block holds in one segment: references to messages that are waiting.
struct block_part {
  uint64_t bytes;  // weights
  uint32_t segment;
  uint32_t count;
};

// A full block on disk. The parts say exactly which segments it keeps alive, so nothing has to be read to give it up. When
// some of it is done and its references are not at hand, it gets `behind`: the parts stay as they were until it is read
// anyhow or done as a whole.
struct block {
  uint64_t position;  // of its RECORD_REFERENCES; 0: nothing in it is needed, all that waits are holes
  uint32_t time_s;    // of the first message that may be waiting
  uint16_t part_count;
  bool behind;
  union {
    struct block_part part;    // part_count is 1
    struct block_part *parts;  // more: heap
  };
};

// A run of places that are done although an earlier one is not.
struct run {
  uint64_t from, count;
};

struct catalog_subscription {
  uint32_t id;
  uint8_t qos;
  bool no_local, retain_as_published;
  size_t index;  // in the session's array
  uint32_t filter_size;
  char filter[];
};

struct catalog_session {
  struct link link;  // of all sessions; new ones are in front
  uint32_t number;
  uint32_t expiry_s;
  bool connected;
  uint16_t window;        // while connected: most in flight
  uint16_t user_size;     // whose it is; 0: nobody's. Behind the client identifier in memory
  uint64_t since_ms;      // while away: since when (journal time)
  uint64_t sent;          // while away: places below may have been sent
  struct span client_id;  // heap
  // The queue: places head..tail-1. Below head everything is done; head itself is not.
  uint64_t head, tail;
  uint64_t blocks_from;  // place of the first entry of the first block; head when there is none
  struct block *blocks;  // [block_first .. block_first + block_count)
  size_t block_first, block_count, block_capacity;
  struct reference *last;  // the places behind the full blocks, up to tail; holes where done or sent
  size_t last_first, last_count, last_capacity;
  struct run *done;  // sorted, apart, above head
  size_t done_count, done_capacity;
  uint64_t *sent_places;  // PUBREC has come: sorted; only the packet identifier is left, the message is released
  size_t sent_count, sent_capacity;
  uint16_t *received;  // QoS 2 identifiers of the client's own messages, sorted
  size_t received_count, received_capacity;
  uint64_t waiting;             // places not done: depth
  uint64_t waiting_bytes;       // weights of all that is referred to; exact after catalog_settle
  uint64_t outcomes[OUTCOMES];  // since the session began: tail = waiting + the sum of these
  struct catalog_subscription **subscriptions;
  size_t subscription_count, subscription_capacity;
  struct map by_filter;
  uint64_t will_position;  // of the RECORD_WILL, 0: none
  uint64_t will_bytes;
  // Of catalog_*.c
  uint64_t planned;        // places that a record being applied will add
  size_t planned_entries;  // references that takes
  bool ripe;               // listed for catalog_put_references
};

struct catalog_retained {
  struct link link;
  uint64_t position;
  uint64_t expiry_ms;  // journal time, 0: never
  uint64_t weight;
  uint32_t topic_size;
  char topic[];
};

// All of it follows from the rest of the catalog; kept up with each change.
struct segment_live {
  uint32_t segment;
  // Queue entries, retained messages, wills and blocks of references in use, and copies whose blocks have not moved.
  uint64_t references;
  uint64_t bytes;  // weights of these: an estimate of what copying the segment would cost
};

struct moved {
  uint64_t from, to;  // positions
};

struct block_cache;

struct catalog {
  struct map sessions;                      // by number
  struct map retained;                      // by topic
  struct link session_list, retained_list;  // all of these, new ones in front
  uint64_t seed;                            // of hash tables: may be set after catalog_init, before anything is applied
  uint64_t retained_bytes;
  uint32_t next_session;      // number
  struct segment_live *live;  // sorted by segment
  size_t live_count, live_capacity;
  catalog_read *read;
  void *read_context;
  catalog_search *search;     // NULL: none. May be set after catalog_init; `read_context` is handed to it, too
  struct block_cache *cache;  // blocks that were read; heap
  struct moved *moved;        // messages that were copied for full blocks: sorted
  size_t moved_count, moved_capacity;
  uint32_t copied;   // the segment that catalog_put_copy was asked about last
  bool moved_stale;  // a segment has died: some of them may not be needed any more
  uint64_t deaths;   // segments in which the last reference was released
  uint32_t *ripe;    // sessions that may have a full block to write
  size_t ripe_count, ripe_capacity;
  struct catalog_checkpoint {
    bool writing;  // from catalog_checkpoint_begin until its END is applied
    struct link *next_retained, *next_session;
    uint64_t now_ms;
  } checkpoint;
  struct buffer scratch;
};

void catalog_init(struct catalog *catalog, catalog_read *read, void *context);
void catalog_deinit(struct catalog *catalog);

// Applies one record that is at `position`. Never reads the log. Records about sessions that are not known are ignored (at
// replay they come before the session's own CHECKPOINT record). ERR_INVALID: the body is not what its type says; the state
// is unchanged. ERR_NO_MEMORY: the same.
//
// A message whose place is not the next one of a queue: places that are skipped were in records that are lost; they become
// waiting holes, which come as damaged when they are loaded. When more than 262144 are missing, all that the queue holds is
// given up as damaged with them. A place that was there before is not added again.
CHECK_RESULT enum status catalog_apply(struct catalog *catalog, enum record_type type, struct span body, uint64_t position);

// Whose it is; size 0: nobody's.
static inline struct span catalog_owner(const struct catalog_session *session)
{
  return span_of(session->client_id.at + session->client_id.size, session->user_size);
}

struct catalog_session *catalog_find(const struct catalog *catalog, uint32_t session);
const struct segment_live *catalog_live(const struct catalog *catalog, uint32_t segment);  // NULL: nothing lives there

// Makes waiting_bytes of a session exact: reads the blocks of which a part is done. A block that cannot be read stays as it
// is.
CHECK_RESULT enum status catalog_settle(struct catalog *catalog, struct catalog_session *session);

// ---- Records of the store's own: appended to `out`, and applied like all others when they have been written. What is put
// is made from the state that is applied: all that was put before must have been applied, or dropped. In one round: the
// slice of a checkpoint first, then references, then copies, then what shards have sent. ERR_NO_MEMORY: whatever was
// appended by the call must be dropped.

// For queues with CATALOG_BLOCK references or more behind their last full block: RECORD_REFERENCES for them, up to about
// `budget` bytes. *out_more: whether there are more. Connected clients' queues may be some blocks long before it pays: most
// of what they hold is done soon.
CHECK_RESULT enum status catalog_put_references(struct catalog *catalog, struct buffer *out, size_t budget, bool *out_more);

// A checkpoint: begin, then slices between other batches until *out_done; the last slice ends with CHECKPOINT_END. `now_ms`:
// journal time, expired retained messages are dropped on the way (RECORD_RETAINED_DROP). Sessions and retained messages may
// change, come and go between slices. When a slice is not written after all, cancel. Copies whose blocks have not moved are
// not part of it: do not copy meanwhile.
CHECK_RESULT enum status catalog_checkpoint_begin(struct catalog *catalog, struct buffer *out, uint64_t now_ms);
CHECK_RESULT enum status catalog_checkpoint_slice(struct catalog *catalog, struct buffer *out, size_t budget,
                                                  bool *out_done);
void catalog_checkpoint_cancel(struct catalog *catalog);

// For who prints records: whose RECORD_CHECKPOINT_SESSION or RECORD_REFERENCES this is. false: it is none.
bool catalog_get_checkpoint_session(struct span body, uint32_t *out_session, struct span *out_client_id);
struct span
catalog_get_checkpoint_owner(struct span body);  // of a RECORD_CHECKPOINT_SESSION; size 0: nobody, or it is damaged
bool catalog_get_references(struct span body, uint32_t *out_session, uint64_t *out_place, uint32_t *out_count);

// ---- Loading a queue

enum entry_state { ENTRY_WAITING, ENTRY_SENT };  // SENT: PUBREC has come, there is no message any more

struct queue_entry {
  uint64_t place;
  uint64_t position;  // 0: a hole, see struct reference
  enum entry_state state;
};

// The entries from `place` on that are not done, at most `capacity`. *out_next: where to go on. May read blocks of
// references. A block that cannot be read: its entries come with position 0. ERR_NOT_FOUND: no such session.
CHECK_RESULT enum status catalog_entries(struct catalog *catalog, uint32_t session, uint64_t place,
                                         struct queue_entry *entries, size_t capacity, size_t *out_count,
                                         uint64_t *out_next);

// When its oldest waiting message was received, in seconds of journal time; 0: it has none.
uint32_t catalog_oldest_s(struct catalog *catalog, const struct catalog_session *session);

// ---- Copying forward

// Whether the record of the log at `position` is still needed, and if so appends what keeps it: for a message a
// RECORD_MESSAGE_COPY with the targets that are still waiting, for a retained one with `store` set, for RECORD_WILL itself
// again, for RECORD_REFERENCES itself again. Nothing for what is not needed, or was copied before. When the copy is applied,
// references that are still in memory move to it; those in full blocks are remembered in the catalog, which keeps the copies
// alive, until nothing is left in the old segment.
CHECK_RESULT enum status catalog_put_copy(struct catalog *catalog, const struct record_header *header, struct span body,
                                          uint64_t position, struct buffer *out);

// After the last copy of a segment was applied: new RECORD_REFERENCES for the full blocks that still refer to the old
// places. When they are applied, nothing refers to the segment but what could not be read. A block that cannot be read is
// left: see catalog_put_holes.
CHECK_RESULT enum status catalog_put_moved(struct catalog *catalog, struct buffer *out);

// Gives up what cannot be read: all references to `segment` that are left become holes, retained messages and wills in it
// go. `lost` is called per session with how many messages (may be NULL).
CHECK_RESULT enum status
catalog_put_holes(struct catalog *catalog, uint32_t segment, struct buffer *out,
                  void (*lost)(void *context, const struct catalog_session *session, uint64_t count), void *context);
