// What the files of the log share: log.c (appending), log_open.c (headers, starting), log_files.c (names, spares, open
// files), log_read.c (windows), log_scan.c. Nothing outside of them includes this.
//
// What holds, and what recovery relies on:
// - A file gets its name NNNNNNNNNN.segment only after its header is safe, so a segment without a header is damage.
// - A segment is begun only after all earlier ones are safe up to the first sequence of its header. So a hole in front of it
// is damage too,
//   and whatever an earlier segment has from that sequence on was given up.
// - Behind the last record of the segment that is written there are zeros: what is given up there is overwritten and safe
// before
//   anything else is written.
#pragma once

#include <assert.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "store/log.h"

#define LOG_SEGMENT_MAX (UINT64_C(1) << 31)  // as configured; offsets have 32 bits

enum {
  LOG_NAME_SIZE = 32,
  LOG_OPEN_FILES = 8,  // for reading, besides the one that is written
  LOG_WINDOWS = 4,
  LOG_WINDOW_BYTES = 256 * 1024,
  LOG_WINDOW_LEAST = 16 * 1024,  // of a read that does not go on where one before it ended
  LOG_SCAN_BYTES = 1024 * 1024,
  LOG_BLOCK = 4096,    // what is given up at a read error
  LOG_READ_TRIES = 2,  // of a block
  LOG_OPEN_TRIES = 6,  // while a journal is opened: what is given up then does not come back
};

struct segment {
  uint32_t number;
  uint8_t version;
  bool damaged;
  bool given_up;  // after a failure: not to be written any more
  bool suspect;   // a mark says that damage was found in it
  uint64_t size, used, first_sequence;
  struct disk_file *file;  // NULL: not open
  uint64_t touched;
};

struct spare {
  uint32_t number;
  uint64_t size;
};

// A segment whose header could not be read at this opening.
struct lost_segment {
  uint32_t number;
  uint64_t size;
};

// A piece of a segment in memory.
struct log_window {
  uint32_t segment;  // 0: empty
  bool faulty;       // the disk could not read some of it; there are zeros
  uint64_t offset;
  size_t size, capacity;
  size_t ahead;  // how much is read at once: grows while reading goes forward
  uint8_t *data;
  uint64_t touched;
};

// Where records end.
struct log_place {
  uint32_t segment;  // 0: none
  uint64_t offset;
  uint64_t sequence;  // of the next record
};

struct journal_log {
  struct disk *disk;
  struct log *log;  // may be NULL
  struct mono now;
  uint64_t segment_bytes, limit_bytes;
  size_t reserve;  // spares wanted
  bool read_only;
  uint8_t identity[LOG_IDENTITY_SIZE];

  struct segment *segments;  // by number
  size_t count, capacity;
  struct spare *spares;
  size_t spare_count, spare_capacity;
  struct lost_segment *lost;  // by number
  size_t lost_count, lost_capacity;
  uint32_t *suspects;  // marks that were found
  size_t suspect_count, suspect_capacity;
  uint32_t next_number, next_spare;  // higher than those of all segments, set aside or not, and of all spares
  uint64_t bytes;                    // of segments and spares

  unsigned open_files;
  uint64_t uses;  // counts up, for `touched`
  struct log_window windows[LOG_WINDOWS];

  // What a scan to the end has found in the last segment
  bool end_known;
  struct log_place found;
  uint64_t found_dirty;     // bytes from found.offset to here are not zeros; 0: none
  uint64_t found_unsynced;  // offset from which on nothing says that it was safe

  // Writing
  bool started;
  uint32_t current;  // segment that is written, the last; 0: none, the next append begins one
  uint64_t end;      // offset in it
  uint64_t sequence;
  struct log_place safe;  // as of the last sync
  bool dirty;             // `current` has bytes that are not safe
  uint64_t stale_end;     // bytes of `current` from `end` to here were given up and must be zeros first; 0: none
  bool directory_dirty;   // a segment that was given up has been removed, but perhaps not for good
  bool dropped;           // an append has failed and taken with it what was appended before
};

// ---- log_files.c

// "0000000012.segment"
void log_name(char name[LOG_NAME_SIZE], uint32_t number, const char *kind);

size_t log_index(const struct journal_log *log, uint32_t number);  // of the first segment that is not below it
struct segment *log_find(const struct journal_log *log, uint32_t number);

// Room for one more element; NULL: no memory, and the array is as it was.
void *log_grow(void *array, size_t count, size_t *capacity, size_t element);

// The file for reading. The least recently used one is closed when there are too many.
CHECK_RESULT enum status log_file(struct journal_log *log, struct segment *segment, struct disk_file **out);
void log_close_file(struct journal_log *log, struct segment *segment);

// Removes the mark of a segment that is not there any more.
void log_forget_suspect(struct journal_log *log, uint32_t number);

// A file of `size` bytes of zeros, as a spare that is not in the list.
CHECK_RESULT enum status log_make_spare(struct journal_log *log, uint64_t size, uint32_t *out_number,
                                        struct disk_file **out);

// Begins the next segment, with room for a record of `length` bytes: it becomes the last of the list and `current`.
CHECK_RESULT enum status log_begin_segment(struct journal_log *log, uint64_t length);

// Unlinks, and forgets it.
CHECK_RESULT enum status log_unlink_segment(struct journal_log *log, struct segment *segment);

// Makes the spares that are missing, as far as that is possible.
void log_replenish(struct journal_log *log);

// ---- log_read.c

// `size` bytes at `offset` of the segment: a view into the window, valid until it is used again. ERR_INVALID: not all of
// them are in the segment.
CHECK_RESULT enum status log_view(struct journal_log *log, struct segment *segment, struct log_window *window,
                                  uint64_t offset, size_t size, const uint8_t **out);
void log_window_free(struct log_window *window);
void log_forget_windows(struct journal_log *log, uint32_t segment);

void log_decode_header(const uint8_t *at, struct record_header *out);
uint32_t log_record_checksum(uint32_t seed, const uint8_t *record, uint32_t body_size);

// ---- log.c

// Makes zeros of what was given up behind `end` of the current segment, and makes that safe.
CHECK_RESULT enum status log_wipe(struct journal_log *log);
