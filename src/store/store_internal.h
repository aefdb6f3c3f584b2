// What the files store*.c share. A round goes through them in this order: store_upkeep.c (own records that are due) →
// store_round.c (append, sync, apply) → store_upkeep.c again (anchor, removal of segments).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/anchor.h"
#include "store/log.h"
#include "store/store.h"
#include "store/store_batch.h"

enum {
  STORE_SLICE_BYTES =
      256 << 10,  // of a checkpoint, of references and of copies in one round, and more when batches are larger
  STORE_ROUND_BYTES = 64 << 10,   // of batches are let into one sync at least, see store_round_bytes
  STORE_REFERENCES_WAIT = 16384,  // so many references go with the next batch: they are not worth a sync of their own
  STORE_RETRY_FIRST_MS = 100,
  STORE_RETRY_MOST_MS = 5000,
  DAMAGED_RUNS = 128,
};

// Bytes that are to be appended: the store's own records, or those of a batch.
struct chunk {
  uint8_t *bytes;
  size_t size;
  size_t done;                  // appended
  size_t safe;                  // synced
  struct journal_batch *batch;  // NULL: own
};

// Bytes that have been appended and not been applied.
struct extent {
  uint8_t *records;
  size_t size, applied;
  uint64_t position;
};

struct numbers {  // of segments, ascending
  uint32_t *at;
  size_t count, capacity;
};

enum copy_stage {
  COPY_READ,  // its records are read and copied, slice by slice → COPY_MOVE at its end
  COPY_MOVE,  // blocks of references that still point into it are written again → COPY_CHECK
  COPY_CHECK  // what is left cannot be read and becomes holes; then done
};

struct copying {
  uint32_t segment;  // 0: none
  enum copy_stage stage;
  uint64_t cursor;    // position to go on from
  bool damaged;       // something in it could not be read
  unsigned tries;     // of the slice that is read now, which the disk did not read
  uint64_t retry_ms;  // monotonic: not before
  uint64_t used;      // bytes of the segment
  uint64_t written;   // of own records since it was begun
};

struct checkpoint {
  bool writing;               // begun in the catalog, its end is not written yet
  bool wanted;                // begin one as soon as possible, whether due or not
  struct anchor_start begin;  // of the one that was begun last
  struct anchor_start last;   // of the last complete one
  uint64_t bytes;             // written of the one that was begun last
  uint64_t last_bytes;        // size of the last complete one
  uint64_t since_begin;       // other records since the last BEGIN
  uint64_t since_last;        // other records since the BEGIN of the last complete one
  bool changed;               // among those since the last BEGIN are more than RECORD_BATCH
  struct numbers dead;        // segments in which nothing lived at the last BEGIN
  struct numbers dead_last;   // the same of the last complete one
};

// Places of a queue that loads have found damaged.
struct damaged_run {
  uint32_t session;
  uint64_t from, count;
};

struct store {
  struct store_settings settings;
  struct disk *disk;
  struct log *log;
  struct journal_log *journal;
  struct catalog catalog;
  struct anchor anchor;
  bool anchor_due;  // a checkpoint is complete and the anchor does not say so yet
  uint64_t anchor_retry_ms;
  uint64_t epoch_ms;
  struct mono now;
  struct wall wall;  // of the round

  // Batches in the order of their numbers, the oldest first; behind `queued` none is in `chunks`.
  struct journal_batch *first, *last, *queued;
  uint64_t committed;

  // What is appended together: from the first append to the end of apply.
  struct buffer own;
  struct chunk *chunks;
  size_t chunk_count, chunk_capacity;
  struct extent *extents;
  size_t extent_count, extent_capacity;
  size_t safe_extents;     // so many of them are synced
  uint64_t safe_sequence;  // of the first record that is not known to be safe
  bool applying;           // memory was short while they were applied

  struct rebuilt *rebuilt;  // the last block that could not be read, found again; heap

  struct checkpoint checkpoint;
  struct copying copying, copying_before;  // before: as it was before `own` was made
  struct numbers repair;                   // damaged segments that are to be copied forward
  struct numbers aside;                    // emptied ones that are set aside instead of removed
  struct numbers refused;                  // that could not be emptied: not tried again
  struct numbers kept;                     // dead ones that the disk did not remove: no reason for a checkpoint
  struct numbers superseded;               // sessions, not segments: a later one has their client identifier
  bool moves_pending;                      // blocks may wait for catalog_put_moved
  uint64_t references_waiting;             // that have come since no full block was left: about what is held in memory
  bool upkeep_failed;                      // memory was short for own records
  bool recovering;                         // nothing is decided from what is applied
  bool finishing;                          // no segment is begun to be copied
  bool review_due;                         // look again what could be freed
  uint32_t reviewed_segment;               // that was being written when this was last done
  uint64_t reviewed_deaths;                // segments that had died by then
  uint64_t reviewed_ms;
  uint32_t others;  // segment of the last record that is not of the store's own making: only up to there is anything freed
  bool tight;       // little is left of the limit: free first
  bool short_of_room;  // batches leave some of what there is, see store_room_kept
  bool futile;         // the last copy wrote nearly as much as it frees: none until more is dead than then
  uint64_t futile_dead;

  enum journal_state state;
  uint64_t retry_ms;  // monotonic; while the state is not OK
  uint64_t suspect;   // position of the record at which the last load failed by an error of the disk
  uint32_t suspect_tries;
  struct damaged_run damaged_runs[DAMAGED_RUNS];
  size_t next_damaged_run;
  uint32_t load_failed;  // session whose load could not be answered, the last of them; 0: none
  uint64_t backoff_ms;
  uint64_t roomy_ms;       // when the reserve was last looked at
  uint32_t roomy_segment;  // and which segment was written then

  struct store_counters counters;
};

// ---- store_round.c

// Applies one record that is safe; used at recovery, too.
CHECK_RESULT enum status store_apply(struct store *store, const struct record_header *header, struct span body,
                                     uint64_t position);

// Appends a BATCH record to store->own.
CHECK_RESULT enum status store_put_batch(struct store *store);

// ---- store_upkeep.c

// Most of batches between two looks whether a checkpoint is due: so that a flood does not outrun the bound on replaying.
uint64_t store_round_bytes(const struct store *store);

// Appends the own records that are due to store->own. What could not be made is left for later.
void store_upkeep_put(struct store *store, size_t batch_bytes);

// The own records were not written, or only in part: what goes over several rounds starts again, or from where it was.
void store_upkeep_undo(struct store *store);

// The same for want of room.
void store_upkeep_refused(struct store *store);

// Copying a segment ends where it is, what was copied stays; another time it begins anew.
void store_upkeep_leave_copy(struct store *store);

// After a round was applied: anchor, removal, what comes next.
void store_upkeep_applied(struct store *store);

// While the journal is full: how much room is left to what frees some. Copies leave enough for the checkpoint behind them,
// batches for both.
uint64_t store_room_kept(const struct store *store);

// Whether own work is left that should not wait for the next batch.
bool store_upkeep_left(const struct store *store);

// BEGIN or END of a checkpoint has been applied.
CHECK_RESULT enum status store_checkpoint_begun(struct store *store, const struct record_header *header, uint64_t position);
void store_checkpoint_ended(struct store *store);

// ---- store_recover.c

CHECK_RESULT enum status store_recover(struct store *store, struct wall wall, struct error *error);

// ---- store_rebuild.c

// Where the message of a place is whose block of references cannot be read. 0: not found, or the place is a hole. An error:
// not now.
CHECK_RESULT enum status store_rebuild(struct store *store, uint32_t session, uint64_t place, uint64_t *out_position);

// ---- store_load.c

// Whether a failed read means that the bytes are damaged, and not that nothing can be read at the moment.
bool store_is_damage(struct store *store, enum status status);

// Whether what is at the position is to be given up for what reading it said. An error of the disk counts only when it stays.
bool store_is_lost(struct store *store, enum status status, uint64_t position);

// ---- store.c

CHECK_RESULT enum status numbers_add(struct numbers *numbers, uint32_t number);
bool numbers_have(const struct numbers *numbers, uint32_t number);
void numbers_remove(struct numbers *numbers, uint32_t number);
void numbers_deinit(struct numbers *numbers);

// An empty catalog.
void store_reset_catalog(struct store *store);

// Records of the log as the catalog reads them.
enum status store_read(void *context, uint64_t position, struct record_header *out_header, struct span *out_body);

// Journal time now.
static inline uint64_t store_time_ms(const struct store *store)
{
  return store->now.ms + store->epoch_ms;
}
