// A store that is as simple as can be, for shards on the bench: keeps the batches that it is given, makes them safe when
// the test says so, and knows what the safe ones mean. It finds fault with records that a catalog could not apply.
#pragma once

#include "test.h"

#include "core/journal.h"

enum stored_state { STORED_WAITING, STORED_SENT, STORED_DONE };

struct stored_place {
  uint8_t state;
  uint8_t outcome;      // when DONE: enum record_outcome
  struct span message;  // body of its record
};

struct stored_session {
  uint32_t number;
  uint32_t expiry_s;
  uint16_t window;
  bool ended, connected;
  uint64_t since_ms, sent;
  struct span client_id;
  struct span user;             // whose it is
  struct stored_place *places;  // from 0 on
  size_t tail, places_capacity;
  size_t waiting;  // not DONE
  struct record_subscribe *subscriptions;
  size_t subscription_count;
  uint16_t *received;
  size_t received_count;
  struct span will;  // body of its record; size 0: none
};

struct stored_retained {
  struct span topic, message;  // body of its record
};

struct stored_load {
  struct journal_loaded *answer;  // as it was when it was asked for
};

struct store_bench {
  bool hold_batches, hold_commits, hold_loads;
  struct journal_batch **batches;  // in order, of all processes
  size_t batch_count, batch_capacity;
  size_t first;  // of this process
  size_t safe;   // so many of them all
  struct stored_session *sessions;
  size_t session_count;
  struct stored_retained *retained;
  size_t retained_count;
  struct stored_load *loads;  // that wait
  size_t load_count, loads_asked;
  uint64_t time_ms;    // of the last message
  uint64_t end_ms;     // journal time when the last batch came
  struct span damage;  // messages to topics that start like this cannot be read; size 0: all can
};

void store_bench_init(struct store_bench *store);
void store_bench_deinit(struct store_bench *store);

void store_bench_take(struct store_bench *store, struct journal_batch *batch);
bool store_bench_commit(struct store_bench *store, size_t count);  // so many more; whether any
uint64_t store_bench_committed(const struct store_bench *store);   // of this process, as shard_committed wants it
bool store_bench_all_safe(const struct store_bench *store);

// What was not safe is lost; a new process counts from 1 again.
void store_bench_crash(struct store_bench *store);

void store_bench_load(struct store_bench *store, const struct journal_load *load);
struct journal_loaded *store_bench_next_answer(struct store_bench *store);  // NULL: none

// NULL when there is no such session (any more).
struct stored_session *store_bench_find(const struct store_bench *store, const char *client_id);
struct stored_session *store_bench_numbered(const struct store_bench *store, uint32_t number);

// Records of the type in the batches from `first_batch` (index) on, safe or not; the body of the last of them.
size_t store_bench_records(const struct store_bench *store, enum record_type type, size_t first_batch,
                           struct span *out_last);

// What shard_restore_session wants to know.
void store_bench_describe(const struct store_bench *store, const struct stored_session *session,
                          struct restored_session *out);
