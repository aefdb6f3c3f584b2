// A catalog over a log that is an array in memory, and what the tests of the catalog check it with: a model that keeps every
// message of every queue, a recount of all that lives, and a comparison of two catalogs.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "store/catalog.h"
#include "store/log.h"

#define assert_ok(call) assert_int_equal((call), OK)

struct rig_record {
  enum record_type type;
  uint64_t position;
  struct span body;  // heap
  bool gone;         // its segment was removed, or it is damaged
};

enum model_state { MODEL_WAITING, MODEL_SENT, MODEL_DONE };

struct model_entry {
  uint32_t message;  // its number, which it carries as its properties
  uint32_t weight;
  uint32_t time_s;
  uint8_t state;
  bool lost;
};

struct model_session {
  uint32_t number;
  bool alive, has_will, connected;
  char user[16];                // whose it is; "": nobody's
  struct model_entry *entries;  // by place
  size_t count, capacity;
  uint64_t outcomes[OUTCOMES];
  bool received[32];
  bool subscribed[16];
};

enum { MODEL_TOPICS = 24 };

struct rig {
  struct catalog catalog;
  struct rig_record *records;
  size_t count, capacity;
  uint64_t segment_bytes;
  uint64_t next;        // position
  size_t replay_from;   // record of the BEGIN of the last whole checkpoint
  size_t begun;         // of the one that is being written
  uint8_t *lent;        // the body that was read last
  struct buffer batch;  // what is written next
  struct buffer targets;
  uint32_t next_session, next_message;
  uint64_t time_ms;
  struct model_session *sessions;
  size_t session_count;
  uint32_t retained[MODEL_TOPICS];  // message, 0: none
  uint64_t retained_expiry_ms[MODEL_TOPICS];
  void (*fail_allocation)(long n);  // makes the n-th from now on fail, -1: none; each record is applied with each failing
};

void rig_init(struct rig *rig, uint64_t segment_bytes);
void rig_deinit(struct rig *rig);

// The same for a test that is listed as WITH_RIG: *state becomes the rig, which is freed after the test.
struct rig *rig_make(void **state, uint64_t segment_bytes);
int rig_free(void **state);
#define WITH_RIG(test) cmocka_unit_test_teardown(test, rig_free)

// Writes what is in `batch` and applies it.
void rig_write(struct rig *rig);
// The same for one record of its own.
void rig_put(struct rig *rig, enum record_type type, struct span body);
uint32_t rig_segment(const struct rig *rig);  // that is being written
void rig_begin_segment(struct rig *rig);
// Removes each segment where nothing lives that is older than where replaying begins.
void rig_remove_dead(struct rig *rig);
void rig_damage_segment(struct rig *rig, uint32_t segment);
// Records of a segment go through catalog_put_copy, then the blocks are moved.
void rig_copy_segment(struct rig *rig, uint32_t segment);
void rig_checkpoint(struct rig *rig, size_t slice);
void rig_references(struct rig *rig);

struct model_session *rig_session(struct rig *rig);  // a new one; every other is a user's
void rig_own(struct rig *rig, struct model_session *session, const char *user);
void rig_end(struct rig *rig, struct model_session *session);
void rig_away(struct rig *rig, struct model_session *session);
void rig_back(struct rig *rig, struct model_session *session);
// A message to these sessions (the same one may come twice); `topic` < MODEL_TOPICS is retained.
struct message_options {
  unsigned topic;
  uint64_t expiry_ms;
  bool empty;
  struct model_session *publisher;
  uint16_t packet_id;
};
uint64_t rig_message(struct rig *rig, struct model_session *const *to, size_t count, const struct message_options *options);
void rig_messages(struct rig *rig, struct model_session *session, size_t count);
void rig_done(struct rig *rig, struct model_session *session, uint64_t place, uint32_t count, enum record_outcome outcome);
void rig_sent(struct rig *rig, struct model_session *session, uint64_t place);
void rig_will(struct rig *rig, struct model_session *session, bool set);
uint64_t model_head(const struct model_session *session);
uint64_t model_waiting(const struct model_session *session);

// What lives, from scratch, is what the catalog says.
void check_live(const struct catalog *catalog);
// Sessions, queues, retained messages: all as the model has them, and every reference leads to its message.
void check_model(struct rig *rig);
// A catalog made by replaying from the last checkpoint on is the same.
void check_replay(struct rig *rig);
void check_both(struct rig *rig);
// Goes on with a replayed catalog, as after a crash.
void rig_crash(struct rig *rig);
