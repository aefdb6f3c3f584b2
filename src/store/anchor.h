// The anchor: where replaying begins, and whose journal it is. The file "anchor" has two slots that are written in turn, so
// that a write that is torn leaves the other one. One thread.
//
// A slot, 512 bytes at offset 0 and at offset 4096, little-endian:
//     0  8 bytes  "SKRYANCR"
//     8  u32      version of the format
//    12  u32      0
//    16  16 bytes identity of the journal
//    32  u64      generation: counts up by one with each write; the higher of two good slots counts
//    40  u64      position of the CHECKPOINT_BEGIN of the last complete checkpoint; 0: there is none
//    48  u64      sequence of that record
//    56  u64      the same two of the checkpoint before it, whose segments are still there
//    64  u64
//    72  u32      size of the broker's identifier
//    76  bytes    the broker's identifier, then zeros
//   508  u32      CRC32C of the bytes before
// Magic, version, size of a slot and place of the checksum stay the same in all versions.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "store/disk.h"
#include "store/log.h"

enum { ANCHOR_VERSION = 1, ANCHOR_BROKER_ID_MAX = 256, ANCHOR_SLOT_SIZE = 512, ANCHOR_SLOT_DISTANCE = 4096 };

#define ANCHOR_FILE "anchor"

struct anchor_start {
  uint64_t position, sequence;  // 0: there is none
};

struct anchor {
  uint8_t identity[LOG_IDENTITY_SIZE];
  uint64_t generation;
  struct anchor_start last, previous;
  char broker_id[ANCHOR_BROKER_ID_MAX + 1];  // "": not known
  bool directory_safe;                       // this process has synced the directory since it found or made the file
};

enum anchor_state {
  ANCHOR_MISSING,
  ANCHOR_GOOD,
  ANCHOR_DAMAGED,
  ANCHOR_NEWER,  // of a version that this program does not know
};

// Fills *out only when good. Damaged: a file is there, and none of its slots is whole.
CHECK_RESULT enum status anchor_read(struct disk *disk, enum anchor_state *out_state, struct anchor *out);

// Makes it safe, with the next generation. After an error the one before still counts.
CHECK_RESULT enum status anchor_write(struct disk *disk, struct anchor *anchor);
