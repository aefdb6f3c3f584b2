// A history of a log: numbered records, appended in rounds, and what of them a reopened log must show. Shared by the tests
// of the log.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "store/log.h"

struct history {
  struct journal_log_settings settings;
  struct journal_log *log;
  uint64_t seed;       // of the disk, for messages
  uint64_t next;       // number of the next record that is made
  uint64_t committed;  // all records up to this number were synced
  uint64_t safe_sequence;
  uint32_t largest;     // body of a record
  uint64_t *positions;  // of record i, as appended last; NULL: not kept
};

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

void history_init(struct history *history, struct disk *disk, uint64_t seed);

// Opens, scans from the first segment, and starts unless read-only. Everything that fails is a failure of the test.
void history_open(struct history *history, struct seen *out);
void history_close(struct history *history);

// As they are: ERR_… of open, scan or start, with nothing left open.
enum status history_try_open(struct history *history, struct seen *out);

enum status history_scan(struct history *history, uint64_t from, struct seen *out);

// One round of `count` records. After an error they are still to be written: the next round begins with the same numbers.
enum status history_round(struct history *history, unsigned count);

// The body of record `number`.
uint32_t history_body_size(uint64_t number, uint32_t largest);
void history_fill(uint8_t *out, uint64_t number, uint32_t size);
