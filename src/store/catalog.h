// The catalog: what the records mean. Sessions with their queues, the retained index, and how many live references each segment has.
// A state machine: catalog_apply is the only way to change it, so that replaying the log makes the same state again. Holds no
// payloads: a queue is a run of references (positions in the log); full blocks of them are records too (RECORD_REFERENCES), so
// that a waiting message costs a fraction of a byte. Does no I/O but through `read`. One thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/map.h"
#include "base/span.h"
#include "base/status.h"
#include "core/record.h"

enum { CATALOG_BLOCK = 256 };  // references in a full block

// Reads a record of the log (journal_log_read).
typedef enum status catalog_read(void *context, uint64_t position, struct record_header *out_header, struct span *out_body);

struct reference {
  uint64_t position;  // 0: a hole (relocation found it damaged)
  uint32_t weight;    // record_message_weight, saturated
  uint32_t time_s;    // journal time of the message
};

// A full block on disk. `first` and `last` segments that it refers to; when it refers to more than these two, `complex`.
struct block {
  uint64_t position;  // of its RECORD_REFERENCES
  uint32_t first_segment, last_segment;
  uint32_t first_bytes, last_bytes;
  uint16_t first_count, last_count;
  bool complex;
  uint32_t time_s;  // of its first message
};

// A run of places that are done although an earlier one is not, or that wait for PUBCOMP.
struct run {
  uint64_t from, count;
};

struct catalog_subscription {
  uint32_t id;
  uint8_t qos;
  bool no_local, retain_as_published;
  uint32_t filter_size;
  char filter[];
};

struct catalog_session {
  uint32_t number;
  uint32_t expiry_s;
  bool connected;
  uint16_t window;        // while connected: most in flight
  uint64_t since_ms;      // while away: since when (journal time)
  uint64_t sent;          // while away: places below may have been sent
  struct span client_id;  // heap
  // The queue: places head..tail-1. Below head everything is done.
  uint64_t head, tail;
  uint64_t
      blocks_from;  // place of the first entry of blocks[0]; a multiple of CATALOG_BLOCK from the place where the session's queue began
  struct block *blocks;  // [block_first .. block_first + block_count)
  size_t block_first, block_count, block_capacity;
  struct reference *last;  // the places behind the full blocks
  size_t last_first, last_count, last_capacity;
  struct run *done;  // sorted, above head
  size_t done_count, done_capacity;
  uint64_t *sent_places;  // PUBREC has come: sorted; only the packet identifier is left, the message is released
  size_t sent_count, sent_capacity;
  uint16_t *received;  // QoS 2 identifiers of the client's own messages
  size_t received_count, received_capacity;
  uint64_t waiting;             // places not done: depth
  uint64_t waiting_bytes;       // their weights, without those in sent_places
  uint64_t outcomes[OUTCOMES];  // since the session began: tail = waiting + the sum of these
  struct catalog_subscription **subscriptions;
  size_t subscription_count, subscription_capacity;
  struct map by_filter;
  uint64_t will_position;  // of the RECORD_WILL, 0: none
};

struct catalog_retained {
  uint64_t position;
  uint64_t expiry_ms;  // journal time, 0: never
  uint64_t weight;
  uint32_t topic_size;
  char topic[];
};

struct segment_live {
  uint32_t segment;
  uint64_t references;  // queue entries, retained messages, wills and blocks of references in use
  uint64_t bytes;       // weights of these: an estimate of what copying the segment would cost
};

struct catalog {
  struct map sessions;  // by number
  struct map retained;  // by topic
  uint64_t retained_bytes;
  uint32_t next_session;      // number
  struct segment_live *live;  // sorted by segment
  size_t live_count, live_capacity;
  catalog_read *read;
  void *read_context;
  // a checkpoint that is being written
  // … (catalog.c may add what it needs)
};

void catalog_init(struct catalog *catalog, catalog_read *read, void *context);
void catalog_deinit(struct catalog *catalog);

// Applies one record that is at `position`. Records about sessions that are not known are ignored (at replay they come before the session's own
// CHECKPOINT record). ERR_INVALID: the body is not what its type says; the state is unchanged. ERR_NO_MEMORY: the same.
CHECK_RESULT enum status catalog_apply(struct catalog *catalog, enum record_type type, struct span body, uint64_t position);

struct catalog_session *catalog_find(const struct catalog *catalog, uint32_t session);
const struct segment_live *catalog_live(const struct catalog *catalog, uint32_t segment);  // NULL: nothing lives there

// ---- Records of the store's own: appended to `out`, and applied like all others when they have been written.

// For queues with CATALOG_BLOCK references or more behind their last full block: RECORD_REFERENCES for them, up to about `budget` bytes. Returns
// whether there are more. Call only when all that was written has been applied.
CHECK_RESULT enum status catalog_put_references(struct catalog *catalog, struct buffer *out, size_t budget, bool *out_more);

// A checkpoint: begin, then slices between other batches until *out_done; the last slice ends with CHECKPOINT_END. `now_ms`: journal time, expired
// retained messages are dropped on the way (RECORD_RETAINED_DROP). Sessions and retained messages may change, come and go between slices.
CHECK_RESULT enum status catalog_checkpoint_begin(struct catalog *catalog, struct buffer *out, uint64_t now_ms);
CHECK_RESULT enum status catalog_checkpoint_slice(struct catalog *catalog, struct buffer *out, size_t budget,
                                                  bool *out_done);
void catalog_checkpoint_cancel(struct catalog *catalog);

// ---- Loading a queue

enum entry_state { ENTRY_WAITING, ENTRY_SENT };  // SENT: PUBREC has come, there is no message any more

struct queue_entry {
  uint64_t place;
  uint64_t position;  // 0: a hole, see struct reference
  enum entry_state state;
};

// The entries from `place` on that are not done, at most `capacity`. *out_next: where to go on. May read blocks of references. A block that cannot be
// read: its entries come with position 0. ERR_NOT_FOUND: no such session.
CHECK_RESULT enum status catalog_entries(struct catalog *catalog, uint32_t session, uint64_t place,
                                         struct queue_entry *entries, size_t capacity, size_t *out_count,
                                         uint64_t *out_next);

// When its oldest waiting message was received, in seconds of journal time; 0: it has none.
uint32_t catalog_oldest_s(struct catalog *catalog, const struct catalog_session *session);

// ---- Copying forward

// Whether the record of the log at `position` is still needed, and if so appends what keeps it: for a message a RECORD_MESSAGE_COPY with the targets that are
// still waiting, for a retained one with `store` set, for RECORD_WILL itself again, for RECORD_REFERENCES itself again. Nothing for what is not needed. When the copy
// is applied, references that are still in memory move to it; those in full blocks are remembered in the catalog until catalog_put_moved.
CHECK_RESULT enum status catalog_put_copy(struct catalog *catalog, const struct record_header *header, struct span body,
                                          uint64_t position, struct buffer *out);

// After the last copy of a segment was applied: new RECORD_REFERENCES for the full blocks that still refer to the old places.
CHECK_RESULT enum status catalog_put_moved(struct catalog *catalog, struct buffer *out);

// Gives up what cannot be read: all references to `segment` that are left become holes. `lost` is called per session with how many (may be NULL).
CHECK_RESULT enum status
catalog_put_holes(struct catalog *catalog, uint32_t segment, struct buffer *out,
                  void (*lost)(void *context, const struct catalog_session *session, uint64_t count), void *context);
