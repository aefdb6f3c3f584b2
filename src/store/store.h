// The store: what the broker keeps on disk. Takes batches of records from the shard that keeps the durable sessions, makes
// them safe in rounds (append, one sync, apply), and answers loads. Single-threaded; the broker runs it on a thread of its
// own (net/keeper.h), the simulation in its one thread. Nothing here waits for anything but the disk.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status.h"
#include "core/journal.h"
#include "store/catalog.h"
#include "store/disk.h"

struct shard;
struct store;

struct store_settings {
  struct disk *disk;  // outlives the store
  struct log *log;
  const char *broker_id;   // as configured; NULL: not configured, not compared
  uint64_t segment_bytes;  // 1 MiB at least, but smaller ones work, for tests
  uint64_t limit_bytes;
  uint64_t reserve_bytes;
  uint64_t replay_bytes;  // most that is read at the start besides the checkpoint
  uint8_t identity[16];   // random, for a journal that is made new
  bool read_only;
};

// Opens and recovers. Always succeeds with whatever can be read, except: ERR_INVALID for a newer format version or another
// broker's directory (nothing is changed), and what the disk refuses. `wall`: for how long the broker was away.
CHECK_RESULT enum status store_open(const struct store_settings *settings, struct mono now, struct wall wall,
                                    struct store **out, struct error *error);

// Without a checkpoint: as a crash would. Call store_finish first for a clean stop.
void store_close(struct store *store);

// Journal time = mono + this; see docs/formats/journal.md.
uint64_t store_epoch_ms(const struct store *store);

// Gives every session, with subscriptions, will and counts, to `keeper`, and every retained message to all shards. Before
// the shards run.
CHECK_RESULT enum status store_restore(struct store *store, struct shard *const *shards, unsigned shard_count,
                                       struct error *error);

// ---- Rounds

// Takes the batch over (journal_batch_free when done). Batches are numbered without gaps.
void store_submit(struct store *store, struct journal_batch *batch);

// One round: own records that are due, then all submitted batches: append, sync, apply. Returns whether another round should
// follow at once (own work is left). When the disk fails, batches stay submitted and store_state tells; a later round tries
// again.
bool store_round(struct store *store, struct mono now, struct wall wall);

// Only appends (durability `interval`: a kill of the process loses nothing that was appended); the next round syncs and
// applies.
void store_append(struct store *store, struct mono now, struct wall wall);

uint64_t store_committed(const struct store *store);  // number of the last batch that is safe

enum journal_state store_state(const struct store *store);

// When store_round should be called next though nothing is submitted: milliseconds, -1: never.
int64_t store_next_ms(const struct store *store, struct mono now);

// Answers a load from what is applied. What cannot be read any more comes as damaged. NULL: not now, because memory is short
// or the disk answers nothing; ask again when store_next_ms says.
struct journal_loaded *store_load(struct store *store, const struct journal_load *load);

// A clean stop: everything safe, a whole checkpoint, so that the next start replays nothing.
CHECK_RESULT enum status store_finish(struct store *store, struct mono now, struct wall wall);

// ---- Watching

enum { COMMIT_BUCKETS = 16 };  // upper bounds: 2^i * 50 µs

struct store_counters {
  uint64_t segments, bytes, live_bytes, limit_bytes;  // gauges
  uint64_t queues, queued, queued_bytes,
      oldest_s;  // of all sessions; oldest_s: age of the oldest waiting message in seconds
  uint64_t retained, retained_bytes;
  uint64_t bytes_written, syncs, records, messages,
      message_bytes;  // since start. message_bytes: weights of the messages appended
  uint64_t checkpoints, segments_removed, segments_copied;
  uint64_t errors, full;                                   // rounds that failed by I/O error; for want of space
  uint64_t torn_bytes, damaged_records, damaged_messages;  // found at opening and since
  uint64_t loads, loaded_messages;
  uint64_t replayed_bytes, open_ms;
  uint64_t commit_count, commit_us_sum, commit_us[COMMIT_BUCKETS];  // filled by the thread that measures (net/keeper.c)
};
void store_counters(struct store *store, struct mono now, struct store_counters *out);

// For `skerry journal`: read-only views.
const struct catalog *store_catalog(const struct store *store);
struct journal_log *store_log(const struct store *store);
