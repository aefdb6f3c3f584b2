// A journal as `skerry journal` reads it: the files, and the state that replaying them makes, as the broker would make it at
// its start. Changes nothing.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/journal.h"
#include "cli/journal_names.h"
#include "store/anchor.h"
#include "store/catalog.h"
#include "store/log.h"

struct journal_reading {
  const char *path;
  uint32_t holder;  // process of the broker that has it open, 0: none
  struct disk *disk;
  struct journal_log *log;
  struct log quiet;            // nothing is printed on the way
  struct journal_files files;  // when it was opened
  struct anchor anchor;
  enum anchor_state anchor_state;
  struct catalog catalog;
  struct journal_names names;
  uint64_t first;              // position from which journal_reading_replay has read everything; 0: the first segment
  uint64_t start;              // position at which the replay that counts began; 0: the first segment
  uint64_t replay_bytes;       // from there to the end
  bool complete;               // there was a whole checkpoint at `start`, or none is needed
  uint64_t sequence;           // of the newest record
  uint64_t records, bytes;     // of all that a visit has seen
  uint64_t refused;            // whole records that say what cannot be
  struct log_damage *damages;  // each place once; the torn end too, unless a broker is writing it
  size_t damage_count, damage_capacity;
  enum status failure;  // memory is short
  bool moved_on;        // a file was gone: the broker is running
};

// What else is done with each record, before it is replayed. false: stop.
typedef bool journal_visit(void *context, const struct record_header *header, struct span body, uint64_t position);

// `path` lives as long as the reading.
CHECK_RESULT enum status journal_reading_open(struct journal_reading *reading, const char *path, struct error *error);
void journal_reading_close(struct journal_reading *reading);  // a zeroed one too

// Replays what follows the last complete checkpoint; when that one is damaged, the one before or everything, as the broker
// does. `visit` may be NULL; it sees each record from reading->first on, once.
CHECK_RESULT enum status journal_reading_replay(struct journal_reading *reading, journal_visit *visit, void *context,
                                                struct error *error);

// After journal_reading_replay: reads what lies before `before`, which is reading->first, or, when it is 0, everything once
// more.
CHECK_RESULT enum status journal_reading_scan(struct journal_reading *reading, uint64_t before, journal_visit *visit,
                                              void *context, struct error *error);

// How many damages there are that are no torn end.
size_t journal_reading_damages(const struct journal_reading *reading);

// Whether what is missing is explained by a broker that writes, and gives back files, meanwhile: then read it once more.
bool journal_reading_moved_on(struct journal_reading *reading);

// "0000000003.segment: offset 4096: 312 bytes cannot be read, 2 records lost"
enum { JOURNAL_DAMAGE_SIZE = 200 };
const char *journal_damage_text(const struct log_damage *damage, char out[static JOURNAL_DAMAGE_SIZE]);

// Journal time now, as far as it can be known.
uint64_t journal_reading_now_ms(const struct journal_reading *reading, int64_t wall_ms);
