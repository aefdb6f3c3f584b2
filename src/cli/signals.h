// Signals as something to poll: no handlers, no globals. Main thread only.
#pragma once

#include <stdbool.h>

// Blocks SIGINT, SIGTERM and SIGHUP, and SIGWINCH when `resize`, and returns a descriptor that becomes readable when one
// comes; -1 when the system refuses. Close it when done; the signals stay blocked.
int signals_open(bool resize);

// The number of the next signal, 0 when there is none.
int signals_take(int fd);
