// What the system says about this process.
#pragma once

#include <stdint.h>

#include "base/status.h"

struct process_stats {
  uint64_t cpu_us;  // user and system
  uint64_t resident_bytes;
  uint64_t virtual_bytes;
  uint64_t open_fds;
  uint64_t max_fds;        // 0: unlimited
  uint64_t start_time_ms;  // since 1970-01-01T00:00:00Z
};

// Reads /proc/self. ERR_NOT_FOUND where there is none; `out` is then untouched. Any thread.
CHECK_RESULT enum status process_stats_read(struct process_stats *out);
