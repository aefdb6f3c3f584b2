// The seeds that a command line names, and running a world of each.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "trial.h"

struct seeds {
  const char *program;   // its path, for who replays a failure
  uint64_t first, last;  // a range of them
  uint64_t steps;        // of each in the range
  const char *file;      // more, which go first, with their steps; NULL: none
  bool has_range;        // seeds, or nothing at all, were named
  bool trace, keep_going;
  uint64_t passed, failed;  // of those that were run
};

typedef void seeds_count(void *totals, const struct world *world);

// Options as a usage message lists them.
extern const char SEEDS_OPTIONS[];

struct seeds seeds_default(const char *program, uint64_t steps);

// Reads one option and its value. Returns how many arguments these are, 0: it is none, or its value is wrong.
int seeds_read(struct seeds *seeds, char *const *arguments);

// Until one fails. `count` is told each world after its run. Returns whether all have passed.
bool seeds_run(struct seeds *seeds, seeds_count *count, void *totals);
