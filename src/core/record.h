// What a shard tells the journal: one record for every durable change, in the order in which the changes took place. A
// record is a header and a body, little-endian, padded to 8 bytes; docs/formats/journal.md describes each byte. The shard
// writes records in their final form into one buffer; only sequence and checksum are left to the store, which writes the
// buffer as it is. The same functions read them back: at recovery, at a load, in `skerry journal dump`.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/span.h"
#include "base/status.h"

// Never renumbered: files outlive a release.
enum record_type {
  RECORD_NONE = 0,  // zeros: the end of what was written to a segment
  // From the shard
  RECORD_SESSION = 1,  // a session with an expiry begins
  RECORD_SESSION_END = 2,
  RECORD_SESSION_BACK = 3,  // its client has connected
  RECORD_SESSION_AWAY = 4,  // its connection has ended
  RECORD_SUBSCRIBE = 5,     // adds or replaces
  RECORD_UNSUBSCRIBE = 6,
  RECORD_WILL = 7,       // sets, or clears when it has no topic
  RECORD_MESSAGE = 8,    // a message with the queues that it goes to; retained; QoS 2 received
  RECORD_RECEIVED = 9,   // a QoS 2 packet identifier of a publisher, when the message itself needs no disk
  RECORD_RELEASED = 10,  // PUBREL for it: forgotten
  RECORD_SENT = 11,      // PUBREC came for one of a queue: only the packet identifier is left
  RECORD_DONE = 12,      // a run of a queue is complete: delivered, expired or dropped
  RECORD_OWNER = 13,     // a session that was nobody's becomes a user's
  // The store's own
  RECORD_BATCH = 32,         // in front of what is written at once: times, and what was synced before (store/store_batch.h)
  RECORD_REFERENCES = 33,    // a full block of references of one queue
  RECORD_MESSAGE_COPY = 34,  // a message that was copied forward; same body as RECORD_MESSAGE, with `copy_of`
  RECORD_CHECKPOINT_BEGIN = 35,
  RECORD_CHECKPOINT_SESSION = 36,   // the whole state of one session; replaces what was known of it
  RECORD_CHECKPOINT_RETAINED = 37,  // some entries of the retained index
  RECORD_CHECKPOINT_END = 38,       // live references per segment, next session number
  RECORD_RETAINED_DROP = 39,        // an expired retained message
};

struct record_header {
  uint32_t checksum;  // CRC32C of all that follows in header and body, without the padding
  uint32_t size;      // of the body, without the padding
  uint64_t mark;      // type in the top byte, sequence below
};

enum { RECORD_ALIGN = 8, RECORD_SEQUENCE_BITS = 56 };

static inline enum record_type record_type(const struct record_header *header)
{
  return (enum record_type)(header->mark >> RECORD_SEQUENCE_BITS);
}

static inline uint64_t record_sequence(const struct record_header *header)
{
  return header->mark & ((UINT64_C(1) << RECORD_SEQUENCE_BITS) - 1);
}

// What a record takes in a file.
static inline uint64_t record_length(uint32_t body_size)
{
  return (sizeof(struct record_header) + (uint64_t)body_size + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

// What became of a run of a queue. Recorded: never renumbered.
enum record_outcome {
  OUTCOME_DELIVERED = 0,
  OUTCOME_EXPIRED = 1,
  OUTCOME_QUEUE_FULL = 2,
  OUTCOME_QUEUE_AGE = 3,
  OUTCOME_PACKET_TOO_LARGE = 4,
  OUTCOME_REFUSED = 5,  // by the subscriber, with a reason code
  OUTCOME_DAMAGED = 6,  // its record cannot be read any more
  OUTCOME_SESSION_ENDED = 7,
  OUTCOMES
};

// "delivered", "expired", "queue_full": as in the metrics.
const char *record_outcome_name(enum record_outcome outcome);

// ---- Bodies. Spans point into the record when decoded. Times are journal time: milliseconds of a clock that goes on over
// restarts and never jumps (see docs/formats/journal.md).

struct record_session {
  uint32_t session;   // number, unique in the life of a journal
  uint32_t expiry_s;  // UINT32_MAX: never
  struct span client_id;
  struct span user;  // whose it is; size 0: nobody's
};

struct record_session_end {
  uint32_t session;
};

struct record_session_back {
  uint32_t session;
  uint32_t expiry_s;
  uint16_t window;  // most messages in flight on this connection
};

struct record_session_away {
  uint32_t session;
  uint32_t expiry_s;  // may have changed with DISCONNECT
  uint64_t since_ms;
  uint64_t sent;  // all of the queue below this place may have been sent
};

struct record_subscribe {
  uint32_t session;
  uint32_t id;  // subscription identifier, 0: none
  uint8_t qos;
  bool no_local, retain_as_published;
  struct span filter;  // whole, with "$share/name/"
};

struct record_unsubscribe {
  uint32_t session;
  struct span filter;
};

struct record_will {
  uint32_t session;
  uint32_t delay_s, expiry_s;
  uint8_t qos;
  bool retain, has_expiry;
  struct span topic, payload, properties;  // properties: those that are forwarded, encoded as in PUBLISH
  struct span maker;                       // whose it is (identity_write); size 0: an anonymous client's
};

struct record_owner {
  uint32_t session;
  struct span user;  // never empty
};

enum { RECORD_TARGET_SIZE = 16 };  // without subscription identifiers

// One queue that a message goes to.
struct record_target {
  uint32_t session;
  uint32_t place;  // low 32 bits of the place in the queue: places count up by one, from 0, for the life of the session
  uint32_t group;  // hash of the shared subscription that chose it, 0: none
  uint8_t qos;
  bool retain;  // flag to send
  uint16_t id_count;
  const uint8_t *ids;  // id_count times 4 bytes, see record_target_id
};

struct record_message {
  uint8_t qos;         // as published
  bool retain;         // as published
  bool store;          // becomes the retained message of its topic; an empty payload clears it
  bool has_publisher;  // QoS 2 from a session of the journal: `packet_id` is received
  uint16_t packet_id;
  uint32_t publisher;
  uint64_t time_ms;    // when it was received
  uint64_t expiry_ms;  // 0: never
  uint64_t origin;     // hash of the publisher's client identifier, for no local; 0: the broker itself
  uint64_t copy_of;    // 0: the original; else what it replaces, by position in the log, and it is a RECORD_MESSAGE_COPY
  uint32_t target_count;
  struct span targets;  // encoded; read with record_next_target
  struct span topic, payload, properties;
};

struct record_packet_id {  // RECEIVED, RELEASED
  uint32_t session;
  uint16_t packet_id;
};

struct record_sent {
  uint32_t session;
  uint64_t place;
};

struct record_done {
  uint32_t session;
  uint32_t count;  // the first so many places from `place` on that are not done yet
  uint64_t place;
  enum record_outcome outcome;
};

// ---- Writing: each appends one record with its header, checksum and sequence still 0. ERR_NO_MEMORY leaves the buffer as
// it was, and is also what a body of 4 GiB or more gets. Fields are the caller's to keep within what the layout holds
// (asserted): texts of at most 65535 bytes.

CHECK_RESULT enum status record_put_session(struct buffer *out, const struct record_session *record);
CHECK_RESULT enum status record_put_session_end(struct buffer *out, const struct record_session_end *record);
CHECK_RESULT enum status record_put_session_back(struct buffer *out, const struct record_session_back *record);
CHECK_RESULT enum status record_put_session_away(struct buffer *out, const struct record_session_away *record);
CHECK_RESULT enum status record_put_subscribe(struct buffer *out, const struct record_subscribe *record);
CHECK_RESULT enum status record_put_unsubscribe(struct buffer *out, const struct record_unsubscribe *record);
CHECK_RESULT enum status record_put_will(struct buffer *out, const struct record_will *record);
// `targets`: encoded, `target_count` of them. With `copy_of` a RECORD_MESSAGE_COPY, else a RECORD_MESSAGE.
CHECK_RESULT enum status record_put_message(struct buffer *out, const struct record_message *record);
CHECK_RESULT enum status record_put_packet_id(struct buffer *out, enum record_type type,
                                              const struct record_packet_id *record);
CHECK_RESULT enum status record_put_sent(struct buffer *out, const struct record_sent *record);
CHECK_RESULT enum status record_put_done(struct buffer *out, const struct record_done *record);
CHECK_RESULT enum status record_put_owner(struct buffer *out, const struct record_owner *record);

// Any record from its body, for the store's own types.
CHECK_RESULT enum status record_put(struct buffer *out, enum record_type type, struct span body);

// The same, but only makes room: returns where the body goes, all of which must be written. NULL: memory is short.
uint8_t *record_put_room(struct buffer *out, enum record_type type, uint64_t body_size);

// The body of a message alone, for who keeps it elsewhere: its size (UINT64_MAX: too large for a record), and itself,
// written to `at`.
uint64_t record_message_body_size(const struct record_message *record);
uint8_t *record_write_message(uint8_t *at, const struct record_message *record);

// Appends one target to a buffer that becomes record_message.targets.
CHECK_RESULT enum status record_put_target(struct buffer *out, const struct record_target *target, const uint32_t *ids);

// ---- Reading a body; false when it is not one: something is missing or left over, or a value is impossible. Never reads
// outside of it.

bool record_get_session(struct span body, struct record_session *out);
bool record_get_session_end(struct span body, struct record_session_end *out);
bool record_get_session_back(struct span body, struct record_session_back *out);
bool record_get_session_away(struct span body, struct record_session_away *out);
bool record_get_subscribe(struct span body, struct record_subscribe *out);
bool record_get_unsubscribe(struct span body, struct record_unsubscribe *out);
bool record_get_will(struct span body, struct record_will *out);
bool record_get_message(struct span body, struct record_message *out);  // all targets are good, then
bool record_get_packet_id(struct span body, struct record_packet_id *out);
bool record_get_sent(struct span body, struct record_sent *out);
bool record_get_done(struct span body, struct record_done *out);
bool record_get_owner(struct span body, struct record_owner *out);

// Walks targets; *cursor starts at 0. False at the end or when what follows is not a target.
bool record_next_target(struct span targets, size_t *cursor, struct record_target *out);
uint32_t record_target_id(const struct record_target *target, unsigned index);

// What one copy of the message weighs in queues and budgets: the same as message_size() of it in memory.
uint64_t record_message_weight(const struct record_message *record);

// ---- Little-endian fields

struct record_reader {
  struct span rest;
  bool failed;  // something was missing; every later read gives 0
};

uint8_t record_read_u8(struct record_reader *reader);
uint16_t record_read_u16(struct record_reader *reader);
uint32_t record_read_u32(struct record_reader *reader);
uint64_t record_read_u64(struct record_reader *reader);
struct span record_read_bytes(struct record_reader *reader, size_t size);

static inline uint8_t *record_write_u8(uint8_t *at, uint8_t value)
{
  *at = value;
  return at + 1;
}
uint8_t *record_write_u16(uint8_t *at, uint16_t value);
uint8_t *record_write_u32(uint8_t *at, uint32_t value);
uint8_t *record_write_u64(uint8_t *at, uint64_t value);
uint8_t *record_write_bytes(uint8_t *at, struct span bytes);
