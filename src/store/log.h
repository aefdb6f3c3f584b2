// The log: records in segments, files of a fixed size that are filled one after the other. Knows nothing of what the records
// mean. Above it, store.c decides what is written and when; below it is the disk port. One thread.
//
// Files: NNNNNNNNNN.segment (ten digits, counting up from 1) and NNNNNNNNNN.spare, preallocated and empty: the reserve. A
// segment begins with a header (magic, version, the journal's identity, its number, the sequence of its first record, a
// checksum). Records follow back to back; zeros, or what is not a record with the next sequence, is the end. Byte by byte:
// docs/formats/journal.md.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "core/record.h"
#include "store/disk.h"

struct journal_log;

// Where a record is: the segment's number in the upper half, the offset of its header in the lower. 0: nowhere.
static inline uint32_t position_segment(uint64_t position)
{
  return (uint32_t)(position >> 32);
}

static inline uint32_t position_offset(uint64_t position)
{
  return (uint32_t)position;
}

static inline uint64_t position_of(uint32_t segment, uint32_t offset)
{
  return (uint64_t)segment << 32 | offset;
}

// Header of a segment, little-endian; the checksum's place is the same in all versions:
//    0  8 bytes  "SKRYSGMT"
//    8  u32      version of the format
//   12  u32      number, as in the file's name
//   16  16 bytes identity of the journal
//   32  u64      sequence of the first record
//   40  20 bytes 0
//   60  u32      CRC32C of the bytes before
// The checksum of a record (core/record.h) is the CRC32C of identity, number of the segment (u32), and then the record from
// its size on to the end of its body.
//
// Version 2 has records that version 1 has not (OWNER, who a will is of); all that version 1 has means the same. What is
// written is of the newest version; segments of all versions from LOG_VERSION_LEAST on are read.
enum { LOG_VERSION = 2, LOG_VERSION_LEAST = 1 };
enum { LOG_IDENTITY_SIZE = 16, LOG_SEGMENT_HEADER = 64, LOG_MAGIC_SIZE = 8, LOG_CHECKSUM_OFFSET = 60 };

#define LOG_MAGIC "SKRYSGMT"

struct journal_log_settings {
  struct disk *disk;  // outlives the log
  struct log *log;    // may be NULL
  struct mono now;    // for log lines at opening
  uint64_t segment_bytes;
  uint64_t limit_bytes;    // of all segments and spares; ERR_FULL beyond. Below the reserve and two segments: never roomy
  uint64_t reserve_bytes;  // kept as spares, rounded up to whole segments, at least one
  bool read_only;          // of a directory in use, perhaps: nothing is changed; appending is not allowed
  uint8_t identity[LOG_IDENTITY_SIZE];  // of a journal that is made new (random); an existing one keeps its own
};

struct segment_info {
  uint32_t number;
  uint64_t size;  // of the file
  uint64_t used;  // header and good records; of a segment that was neither scanned nor written since opening: `size`
  uint64_t first_sequence;
  uint32_t version;
  bool damaged;  // something in it could not be read
  bool suspect;  // was so at some opening: see journal_log_suspect
};

// Reads the headers of all segments. A segment whose header is damaged is renamed to NNNNNNNNNN.damaged (not when
// read_only), with a log line, and the rest is used. ERR_INVALID with a clear error when the directory belongs to a newer
// format version, or when segments of several journals (identities) are in it; nothing has been changed then.
CHECK_RESULT enum status journal_log_open(const struct journal_log_settings *settings, struct journal_log **out,
                                          struct error *error);
void journal_log_close(struct journal_log *log);

const uint8_t *journal_log_identity(const struct journal_log *log);

// ---- Reading

// Something that should be there and is not readable. `bytes`: how many were skipped. `torn`: the unsynced end of what was
// written last, nothing that was acknowledged. `unread`: the disk has reported errors there, another time it may read it.
struct log_damage {
  uint32_t segment;
  uint64_t offset, bytes;
  uint64_t sequences_lost;  // records that were surely there, by the sequence of the next good one; 0: not known
  bool torn, unread;
};

struct log_reader {
  void *context;
  // false: stop
  bool (*record)(void *context, const struct record_header *header, struct span body, uint64_t position);
  void (*damage)(void *context, const struct log_damage *damage);
};

// Reads every record from a position on (0: from the first segment), in order, sequentially and in large pieces. A bad
// record in the middle: looks for the next good one (with a higher sequence) in the same segment, 8 bytes by 8 bytes, else
// goes on with the next segment. In the last segment what follows the last good record is the end; bytes there that are
// neither zeros nor synced before (a later BATCH record would say so) are a torn tail. Records in a segment whose sequence
// is not below the first of the next segment were abandoned after a failed sync: skipped.
CHECK_RESULT enum status journal_log_scan(struct journal_log *log, uint64_t from, const struct log_reader *reader);

// One record: its body, with header and checksum verified. *body: a view into memory of the log, valid until the next call:
// pieces of 256 KiB are read at once, so that reading forward is cheap. ERR_INVALID: damaged. ERR_NOT_FOUND: no such
// segment.
CHECK_RESULT enum status journal_log_read(struct journal_log *log, uint64_t position, struct record_header *out_header,
                                          struct span *out_body);

size_t journal_log_segments(const struct journal_log *log);
void journal_log_segment(const struct journal_log *log, size_t index,
                         struct segment_info *out);  // in order of their numbers

// ---- Writing. After opening: scan once from any point to the end, then journal_log_start sets where appending goes on: a
// torn tail is cut off, and the spares are made.
CHECK_RESULT enum status journal_log_start(struct journal_log *log, struct error *error);

// Stamps whole records (sequence, checksum) in place and writes as many of them as fit into the current segment, beginning
// the next one (a spare, or a new file) when none does; a record that is larger than a segment gets a segment of its own
// size. *out_size: bytes of records written (at least one record when OK); *out_position: where the first of them is. Call
// again with the rest. Nothing is safe before journal_log_sync. ERR_FULL: no space, or the limit; ERR_IO: the disk failed;
// ERR_NO_MEMORY. Whatever the error, all that was appended since the last OK of journal_log_sync is not there then, as after
// a failed sync: append it again, from the first record on, now or later.
CHECK_RESULT enum status journal_log_append(struct journal_log *log, uint8_t *records, size_t size, size_t *out_size,
                                            uint64_t *out_position);

// All that was appended is safe when it returns OK. After a failure all that was appended since the last OK must be appended
// again: it goes to a new segment, with the same sequences. ERR_AGAIN: an append has failed meanwhile, nothing is there.
CHECK_RESULT enum status journal_log_sync(struct journal_log *log);

uint64_t journal_log_end(const struct journal_log *log);       // position where the next record goes
uint64_t journal_log_sequence(const struct journal_log *log);  // of the next record
uint64_t journal_log_bytes(const struct journal_log *log);     // of all files: segments, spares

// Whether the reserve is whole and there is room for more within the limit and on the disk. False: refuse what can be
// refused. `replenish` tries to make missing spares first.
bool journal_log_roomy(struct journal_log *log, bool replenish);

// What is sure to be there: the rest of the segment that is written, and the spares.
uint64_t journal_log_room(const struct journal_log *log);

// Removes a segment that nothing refers to. Never the one that is written.
CHECK_RESULT enum status journal_log_remove(struct journal_log *log, uint32_t segment);

// Leaves a mark beside a segment in which damage was found, an empty file NNNNNNNNNN.suspect, so that it is not forgotten by
// the next opening, which may not look into the segment: it is to be set aside, not removed.
CHECK_RESULT enum status journal_log_suspect(struct journal_log *log, uint32_t segment);

// Renames a segment to NNNNNNNNNN.damaged: kept for whoever wants to look at it, not used any more.
CHECK_RESULT enum status journal_log_set_aside(struct journal_log *log, uint32_t segment);

// ---- The format itself: what appending uses, and whoever makes segments by hand to see what opening does with them

void log_segment_header(uint8_t out[LOG_SEGMENT_HEADER], const uint8_t identity[LOG_IDENTITY_SIZE], uint32_t number,
                        uint64_t first_sequence);

// What the checksums of a segment's records begin with, so that no bytes of another segment, and none that a client makes
// up, pass for a record.
uint32_t log_seed(const uint8_t identity[LOG_IDENTITY_SIZE], uint32_t number);

// Puts sequence and checksum into a whole record.
void log_stamp(uint8_t *record, uint32_t seed, uint64_t sequence);
