// Between the shard that keeps the durable sessions and the store: what is handed over, and the shard's own side of it.
// Shard 0 of a broker with a journal keeps all sessions that outlive their connection, so that there is one writer and one
// order: whatever a PUBLISH changes durably is one record, and is there whole or not at all.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "core/record.h"

enum { JOURNAL_SHARD = 0 };

// So many completions of one queue at most are not safe yet: a crash forgets that they made room for others to be sent. What
// may have been sent before a crash is therefore bounded: the first so many waiting ones, and as many as may be in flight.
enum { JOURNAL_UNSAFE_DONE = 1024 };

// Records of one turn, in order, whole, in their final form but for sequence and checksum. On the heap; moves to whoever it
// is given to.
struct journal_batch {
  struct journal_batch *next;  // the holder's
  uint64_t number;             // counts up from 1
  struct buffer records;
};

void journal_batch_free(struct journal_batch *batch);  // NULL is harmless

enum journal_state {
  JOURNAL_OK,
  JOURNAL_FULL,     // no space, or the limit: only what frees space is taken
  JOURNAL_FAILING,  // the disk reports errors
};

const char *journal_state_name(enum journal_state state);  // "ok", "full", "failing"

// What a shard asks to have loaded: entries of one queue.
struct journal_load {
  uint32_t session;
  uint32_t ticket;  // handed back
  uint64_t place;   // from here on
  uint32_t max_entries, max_bytes;
};

// The answer: entries in order. Moves to the shard, on the heap.
struct journal_loaded {
  uint32_t session, ticket;
  uint64_t next;  // place to go on from
  uint32_t count;
  struct buffer entries;  // see journal_next_entry
};

enum loaded_state { LOADED_WAITING, LOADED_SENT, LOADED_DAMAGED };  // SENT: PUBREC has come; no message

struct journal_entry {
  uint64_t place;
  uint8_t state;                  // enum loaded_state
  struct record_target target;    // WAITING: that of this session
  struct record_message message;  // WAITING
};

CHECK_RESULT enum status journal_put_entry(struct journal_loaded *loaded, uint64_t place, enum loaded_state state,
                                           struct span message_body);  // empty unless WAITING
bool journal_next_entry(const struct journal_loaded *loaded, size_t *cursor, struct journal_entry *out);
void journal_loaded_free(struct journal_loaded *loaded);  // NULL is harmless

// ---- Restoring, before the shard runs (store_restore calls these)

struct restored_session {
  uint32_t number;
  uint32_t expiry_s;
  struct span client_id;
  struct span user;           // whose it is; size 0: nobody's
  uint64_t since_ms;          // journal time since when it is away
  uint64_t head, tail, sent;  // places, see record.h; below `sent`: may have been sent
  uint64_t waiting, waiting_bytes;
  uint64_t sent_waiting;  // of `waiting`: below `sent`
  bool connected;         // when the journal ended: its absence, which begins now, is to be recorded
  const uint16_t *received;
  size_t received_count;
  const struct record_will *will;  // NULL: none
};
