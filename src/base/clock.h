// The two times. They are different types because mixing them up disconnects every client when the wall clock jumps.
// Nothing here reads a clock: time comes in as an argument.
#pragma once

#include <stdint.h>

// Since an arbitrary point, never going back. All deadlines, keep alive, expiry and delays use it.
struct mono {
  uint64_t ms;
};

// Since 1970-01-01T00:00:00Z. Only for what leaves the process: logs, $SYS, files.
struct wall {
  int64_t ms;
};
