// A history of a log on a simulated disk: numbered records, appended in rounds, and what of them a reopened log must show.
// Shared by the tests of the log.
#pragma once

#include "../../../sim/disk.h"
#include "../core/test.h"
#include "base/buffer.h"
#include "store/log.h"

// What a scan has shown.
struct seen {
  uint64_t count;  // records, without those in front of rounds
  uint64_t first, last;
  uint64_t batches;
  uint64_t gaps;  // numbers skipped
  uint64_t damages, torn, sequences_lost;
  uint64_t last_sequence;
  bool wrong;  // order or contents
};

struct history {
  struct disk *disk;  // the settings' too; a test may put a copy there for a while
  struct journal_log_settings settings;
  struct journal_log *log;
  struct seen seen;    // by the last opening or scan
  struct prng prng;    // for crashes and whatever the test draws
  uint64_t seed;       // of the disk and of `prng`
  uint64_t next;       // number of the next record that is made
  uint64_t committed;  // all records up to this number were synced
  uint64_t safe_sequence;
  uint32_t largest;     // body of a record
  uint64_t *positions;  // of record i, as appended last; NULL: not kept
};

// On a new disk; NULL: one that has room and does not fail. Settings of the log may be changed before it is opened.
void history_init(struct history *history, uint64_t seed, const struct sim_disk_settings *disk);
void history_init_on(struct history *history, uint64_t seed, struct disk *disk);  // takes the disk
void history_deinit(struct history *history);

// The same, closed, on a copy of the disk.
struct history history_copy(const struct history *history);

// Around a test: *state is a history of seed 1 on such a disk.
int make_history(void **state);
int free_history(void **state);
#define WITH_HISTORY(test) cmocka_unit_test_setup_teardown(test, make_history, free_history)

// Opens, scans from the first segment, and starts unless read-only. Everything that fails is a failure of the test.
void history_open(struct history *history);
void history_close(struct history *history);
void history_reopen(struct history *history);

// Closes, crashes the disk, opens.
void history_crash(struct history *history, enum sim_crash how);

// As they are: ERR_… of open, scan or start, with nothing left open.
enum status history_try_open(struct history *history);

enum status history_scan(struct history *history, uint64_t from);

// One round of `count` records. After an error they are still to be written: the next round begins with the same numbers.
enum status history_round(struct history *history, unsigned count);

// So many, one after the other; none may fail.
void history_rounds(struct history *history, unsigned rounds, unsigned count);

// The body of record `number`.
uint32_t history_body_size(const struct history *history, uint64_t number);

// The file of a segment.
void segment_name(char out[32], unsigned number);
