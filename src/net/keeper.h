// The thread that keeps the store: takes batches and loads from the loop of JOURNAL_SHARD, has the store make them safe in
// rounds, and reports. Neither side ever waits for the other. Each function says whose it is; what is not said is the
// control thread's.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "core/journal.h"
#include "store/store.h"

struct keeper;

struct keeper_settings {
  struct store *store;  // outlives the keeper. Its thread's from keeper_start to keeper_stop, the control thread's otherwise
  struct log *log;      // that of the store, or NULL; follows keeper_set_log_level
  uint32_t
      interval_ms;  // durability `interval`: at most this long between two syncs. 0: one sync for what has arrived, at once
  // Something has changed for the loop of JOURNAL_SHARD (a commit, an answer), or for all loops (`state`). On the keeper's
  // thread.
  void (*news)(void *context, bool state);
  void *context;
};

CHECK_RESULT enum status keeper_create(const struct keeper_settings *settings, struct keeper **out, struct error *error);
CHECK_RESULT enum status keeper_start(struct keeper *keeper, struct error *error);

// Makes everything safe that was handed over, has the store finish and ends the thread. When the disk refuses: after a few
// tries, with an error that says so; what is safe by then is what keeper_committed tells. The loop must not run any more.
CHECK_RESULT enum status keeper_stop(struct keeper *keeper, struct error *error);
void keeper_destroy(struct keeper *keeper);  // stopped, or never started; NULL is harmless

void keeper_set_log_level(struct keeper *keeper, enum log_level level);

// The store's counters, with the commit latencies. A store that is waiting for its disk is not waited for: the counters are
// those of a moment ago then.
void keeper_counters(struct keeper *keeper, struct store_counters *out);

// ---- For the loop

// Whether a batch is wanted now. While two are under way the next one grows where it is: that is the group commit.
bool keeper_wants_batch(const struct keeper *keeper);
void keeper_give(struct keeper *keeper, struct journal_batch *batch);  // takes it; also when it is not wanted, at the end

// Whether a load may be asked for now; the answers of all of them have room.
bool keeper_wants_load(const struct keeper *keeper);
void keeper_ask(struct keeper *keeper, const struct journal_load *load);

struct journal_loaded *keeper_take_loaded(struct keeper *keeper);  // NULL: none. The caller's

// ---- For any thread

uint64_t keeper_committed(const struct keeper *keeper);  // number of the last batch that is safe
enum journal_state keeper_state(const struct keeper *keeper);

// Whether keeper_take_loaded has something. Exact on the loop's thread.
bool keeper_loaded_waits(const struct keeper *keeper);
