// A store on a simulated disk, fed with random records of the model, crashed and opened again. After each crash what it
// knows must be the model's state after some record, and not before the last one that was reported committed.
#pragma once

#include "../../../sim/disk.h"
#include "../core/test.h"
#include "store/store.h"
#include "store_model.h"

struct rig_record {
  size_t offset, size;  // in `records`
};

struct rig {
  struct disk *disk;
  struct store *store;
  struct store_settings settings;
  struct log log;
  struct prng prng;
  struct model_mix mix;
  struct mono now;
  struct wall wall;

  struct model model;  // after all records
  struct buffer records;
  struct rig_record *history;
  size_t count, capacity;
  size_t committed;  // records reported committed

  uint64_t batches;        // submitted to this store
  size_t batch_end[4096];  // records in the history when it was submitted, by number % 4096
  unsigned log_lines;      // since the last look
  char last_event[64];
  char events[4096];  // all names, one after the other
};

void rig_init(struct rig *rig, uint64_t seed);  // settings may be changed before rig_open
void rig_deinit(struct rig *rig);

// Around a test: *state is a rig of seed 1 that is not open yet. Of another seed: made anew.
int make_rig(void **state);
int free_rig(void **state);
struct rig *rig_of_seed(void **state, uint64_t seed);
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, make_rig, free_rig)

void rig_open(struct rig *rig);
enum status rig_try_open(struct rig *rig, struct error *error);

// Makes `count` records and submits them as one batch.
void rig_submit(struct rig *rig, unsigned count);

// Takes records that were put into `records` and applied to the model by the test, as one batch.
void rig_submit_records(struct rig *rig, struct buffer *records);

// One batch of these, and its rounds. Sessions are numbered from 1 on, places of a queue from 0.
void rig_put_session(struct rig *rig);
void rig_put_messages(struct rig *rig, uint32_t session, unsigned count, unsigned size);
void rig_put_done(struct rig *rig, uint32_t session, uint64_t place, uint32_t count);

// Rounds until the store has nothing left to do, and notes what is committed. `ms` pass before.
void rig_rounds(struct rig *rig, uint64_t ms);

// Closes without a checkpoint.
void rig_close(struct rig *rig);

// Closes, crashes the disk, opens.
void rig_crash_blind(struct rig *rig, enum sim_crash how);

// ... and compares; the model goes back to what is there.
void rig_crash(struct rig *rig, enum sim_crash how);

// The store knows exactly what the model does.
void rig_check(struct rig *rig);

// Now, and after a crash.
void rig_survives(struct rig *rig, enum sim_crash how);

// What it knows is the state after some record; the model goes back to it.
void rig_check_prefix(struct rig *rig);

bool rig_logged(const struct rig *rig, const char *event);
struct store_counters rig_counters(struct rig *rig);
