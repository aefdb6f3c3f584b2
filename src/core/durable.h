// A session of the journal, and what the shard that keeps it tells the journal (journal.c). Only shards inside src/core
// include it.
//
// The queue of a durable session is on disk whole: every QoS 1 or 2 message gets a place in it, counting up, and a record.
// Memory holds the front while the client is connected: what is in flight (session->window), then some that wait
// (session->queue), up to `spilled`; what is behind is loaded when the front runs out. A session whose client is away holds
// nothing in memory, so coming back after a restart and coming back after an hour are the same. The packet identifier
// follows from the place: it survives everything without a record.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "core/journal.h"
#include "core/mail.h"
#include "core/message.h"

struct connection;
struct copy;
struct match;
struct session;
struct shard;
struct subscription;

// A value that counts up, and how much of it is safe: each batch that is not committed yet makes more of it safe. Remembers
// two batches, the next to be committed and the newest: enough to go on at every second commit at the latest.
struct milestone {
  uint64_t batch[2];  // 0: none
  uint64_t value[2];
  uint64_t safe;
};

void milestone_reach(struct milestone *milestone, uint64_t batch, uint64_t value);
bool milestone_commit(struct milestone *milestone, uint64_t committed);  // whether `safe` has moved

struct durable {
  struct session *session;
  struct link unsafe;     // in journal.unsafe: places that are not safe yet
  struct link recorded;   // in journal.done: a run is not recorded yet
  struct link wanting;    // in journal.wanting: something is to be loaded
  uint64_t next;          // place of the next message
  uint64_t spilled;       // first place that is not in memory; all from here to `next` are on disk only
  uint64_t sent;          // places below may have been sent
  uint32_t sent_waiting;  // of these: on disk only, and not done
  uint64_t done_from, done_count;
  struct milestone safe;       // places
  struct milestone done_safe;  // of `done`
  uint64_t done;               // how many places were completed by this process
  uint64_t kept_bytes;         // of those that wait in memory
  uint64_t settled;            // batch: what it says of places on disk must be safe before they are loaded
  uint32_t number;
  uint32_t ticket;       // of the load under way, 0: none
  uint32_t tickets;      // given
  uint8_t done_outcome;  // enum record_outcome
  bool done_front;       // the run is of the first that are not done from `done_from` on
  bool has_will;         // the journal knows of one
  bool was_connected;    // for the journal it still is: restored, and not yet recorded as away
  bool looking;          // the load is for a look at the front of an absent client's queue (durable_look)
  bool look_again;       // all that was seen was too old: there may be more, when `settled` is safe
};

// What is being routed: its record is written when it has been to all queues.
struct journal_message {
  struct message *message;  // borrowed while it is routed, NULL: none
  struct buffer targets;
  uint32_t count;
  bool store;
};

enum { JOURNAL_TAKEN = 64 };

struct journal {
  bool on;  // this shard writes
  enum journal_state state;
  struct buffer records;  // of the open batch
  uint64_t batch;         // its number
  // On other shards: bytes of the messages that were mailed with MAIL_COMMIT, all in all; and how many of these are safe.
  uint64_t wanted;
  uint64_t committed;  // here: the last batch that is safe
  uint64_t epoch_ms;
  uint64_t high_bytes;
  uint64_t ended;  // batch of the last end of a session: until it is safe, a client that was told of it must be told again
  uint32_t next_session;
  // By batch number, of those that are not committed; of more than there is room for, several together.
  uint64_t taken_bytes[JOURNAL_TAKEN];
  uint64_t pending_bytes;  // of these
  size_t charged_bytes;    // to the pool, for `records`
  struct link unsafe, done, wanting, holding;
  struct map sessions;         // by number
  uint32_t told;               // shards, a bit each: some of their mails need no disk, they are to be told
  struct milestone mails[16];  // by shard: how many bytes of its mails that wait are safe
  uint64_t mails_taken[16];    // ... have come
  struct journal_message message;
};

void journal_init(struct shard *shard);
void journal_deinit(struct shard *shard);

static inline uint64_t journal_ms(const struct journal *journal, uint64_t mono_ms)
{
  return mono_ms + journal->epoch_ms;
}

// What an answer that is given now must wait for, given how many bytes of records there were before what it answers; 0:
// nothing.
uint64_t journal_need(const struct shard *shard, size_t records_before);

// ... for all that was recorded up to now.
uint64_t journal_need_all(const struct shard *shard);

static inline bool journal_safe(const struct journal *journal, uint64_t need)
{
  return need <= journal->committed;
}

// Counts the memory of the open batch. Once a turn is enough.
void journal_charge(struct shard *shard);

// Whether much waits for the disk; and whether connections that publish should wait for it: not when what they publish is
// refused anyway.
bool journal_heavy(const struct journal *journal);
bool journal_behind(const struct journal *journal);

// ---- Sessions. Those without `durable` are not recorded.

CHECK_RESULT enum status
durable_begin(struct session *session);                       // gets a number and a record. ERR_NO_MEMORY: stays as it was
void durable_end(struct session *session);                    // the session is over
void durable_free(struct session *session);                   // without a record
void durable_back(struct session *session, uint16_t window);  // most in flight on this connection
void durable_away(struct session *session);                   // what is in flight is let go of: all is on disk
void durable_let_go(struct session *session, struct copy *copy);  // the same for the copy at the front of the queue
void durable_will(struct session *session);                       // as it is now, or that there is none any more
void durable_subscribed(struct session *session, const struct subscription *options, struct span filter);
void durable_unsubscribed(struct session *session, struct span filter);

// The message that is being routed gets a place in the queue; memory takes its own references where it keeps it.
void durable_enqueue(struct session *session, const struct copy *copy);

uint64_t durable_place(const struct durable *durable, const struct copy *copy);

static inline uint16_t place_packet_id(uint64_t place)
{
  return (uint16_t)(place % 65535 + 1);
}

// Whether a copy of the queue may be sent already.
bool durable_may_send(const struct session *session, const struct copy *copy);

// A copy is complete; a place is; while the client is away, the first that was never sent is dropped, whichever it is.
void durable_done(struct session *session, const struct copy *copy, enum record_outcome outcome);
void durable_done_place(struct session *session, uint64_t place, enum record_outcome outcome);
void durable_done_front(struct session *session, enum record_outcome outcome);

// The first place on disk that was not sent yet.
static inline uint64_t durable_unsent(const struct durable *durable)
{
  return durable->spilled > durable->sent ? durable->spilled : durable->sent;
}

// PUBREC came.
void durable_sent(struct session *session, const struct copy *copy);

// Asks for the next part of the queue when the part in memory is about to run out.
void durable_want(struct session *session);

// Absent clients' queues: drops what has expired or is too old at their fronts. Called from time to time.
void durable_look(struct shard *shard);

// ---- Records (journal.c)

void durable_put_session(struct session *session);
void durable_put_owner(struct session *session);
void durable_put_away(struct session *session);
void durable_record_done(struct durable *durable);

// ---- Publishing

struct record_target;

void journal_route_begin(struct shard *shard, struct message *message);
void journal_add_target(struct shard *shard, const struct record_target *target, const uint32_t *ids);

// Writes the record when a queue or the retained store has it, or when the publisher's QoS 2 packet identifier (0: none)
// must be kept.
void journal_route_end(struct shard *shard, const struct session *publisher, uint16_t packet_id);

void journal_packet_id(const struct session *publisher, enum record_type type, uint16_t packet_id);

// Whether a PUBLISH to these would need the journal.
bool journal_concerns(const struct shard *shard, const struct match *match, bool retain);

// A mail of another shard that waits for the journal has been handled; the answer to one of ours.
void journal_mail_taken(struct shard *shard, uint8_t from, const struct message *message, size_t records_before);
void journal_tell_unneeded(struct shard *shard);
void journal_mail_committed(struct shard *shard, const struct mail *mail);

// ---- Acknowledgements that wait (held.c)

struct held;

// Whether bytes that wait for the commit `need` (0: for nothing) must be held: for the disk, or behind others that are.
bool held_must(const struct connection *connection, uint64_t need);

// Room for them, NULL when memory is short. `answer`: the connection is paused for them (PAUSED_ANSWER) and goes on when
// they are written.
uint8_t *held_reserve(struct connection *connection, size_t size);
void held_commit(struct connection *connection, size_t size, uint64_t need, bool answer);
size_t held_bytes(const struct connection *connection);
void held_release(struct connection *connection);  // what is safe by now goes out
void held_free(struct connection *connection);     // without being sent
struct connection *held_connection(struct link *link);
