// A disk in memory behind the disk port, for the simulation and for tests: it keeps apart what was written and what was
// synced, and at a power cut loses what it may lose: each 512-byte sector and each change of the directory that was not
// synced, for itself, so that writes are torn and reordered. What was synced stays. One thread; memory that is not there
// ends the program.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/prng.h"
#include "base/span.h"
#include "store/disk.h"

enum { SIM_SECTOR = 512 };

struct sim_disk_faults {
  // One in so many of these fails with ERR_IO; 0: none. A write that fails may have written a part. A sync that fails may
  // have synced a part, and what it has not synced is taken for clean: later syncs pass over it, although it can still be
  // read until the power is cut.
  uint32_t writes, syncs, reads, names;  // names: open, rename, unlink, sync of the directory
};

struct sim_disk_settings {
  struct prng prng;
  uint64_t capacity;  // bytes; 0: without limit
  bool no_reserve;    // allocate only sets the size, as file systems do that cannot reserve: a later write may find the disk
                      // full
  struct sim_disk_faults faults;
};

struct disk *sim_disk_create(const struct sim_disk_settings *settings);  // disk_destroy ends it

void sim_disk_set_capacity(struct disk *disk, uint64_t bytes);
void sim_disk_set_faults(struct disk *disk, const struct sim_disk_faults *faults);

// Operations that change something are counted: create, allocate, write, sync, truncate, rename, unlink, sync of the
// directory.
uint64_t sim_disk_operations(const struct disk *disk);

// The `count`-th such operation from now on (1: the next) fails with ERR_IO, and only that one; 0: none.
void sim_disk_fail_at(struct disk *disk, uint64_t count);

// The `count`-th is where the machine stops: from it on everything fails with ERR_IO until sim_disk_crash. A write there is
// done in part.
void sim_disk_stop_at(struct disk *disk, uint64_t count);
bool sim_disk_stopped(const struct disk *disk);

enum sim_crash {
  SIM_KILL,       // the process died: all that was written is there, and still not synced
  SIM_POWER_CUT,  // the machine did
};

// Files that are open are not any more: every operation on them fails, but close. No failure or stop is pending afterwards.
void sim_disk_crash(struct disk *disk, enum sim_crash how, struct prng *prng);

// ---- For tests

// A copy of what can be read now, all of it synced, with the same settings.
struct disk *sim_disk_clone(struct disk *disk);

// What can be read of a file; valid until it is written. False: there is none.
bool sim_disk_peek(const struct disk *disk, const char *name, struct span *out);

// Changes it behind everybody's back, synced: XOR of one byte; cut to a size; a whole file.
void sim_disk_flip(struct disk *disk, const char *name, uint64_t offset, uint8_t mask);
void sim_disk_cut(struct disk *disk, const char *name, uint64_t size);
void sim_disk_put(struct disk *disk, const char *name, struct span bytes);
