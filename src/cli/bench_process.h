// What a process, the broker under test, has used so far: CPU time and memory, read from /proc. The parsers are pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/span.h"
#include "base/status.h"

struct process_memory {
  uint64_t rss_bytes;
  uint64_t pss_bytes;
};

// CPU time of all live threads, from schedstat in ns where the kernel has it, else in ticks from stat. ERR_NOT_FOUND when
// there is no such process, ERR_DENIED, ERR_IO.
CHECK_RESULT enum status process_cpu(pid_t pid, uint64_t *out_ns);

// From smaps_rollup. The same errors.
CHECK_RESULT enum status process_memory(pid_t pid, struct process_memory *out_memory);

// "5915583 292446 6": the first number is the time on a CPU in ns.
bool process_parse_schedstat(struct span text, uint64_t *out_ns);

// The fields utime + stime of a stat line, in ticks. The command's name, in parentheses, may hold anything.
bool process_parse_stat(struct span text, uint64_t *out_ticks);

// The number of a line "Rss:    8540 kB", in bytes. `name` is with its colon.
bool process_parse_kib_line(struct span text, const char *name, uint64_t *out_bytes);
