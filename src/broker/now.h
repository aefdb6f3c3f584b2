// The clocks, for the broker process around its loops, which read theirs once a turn. Any thread.
#pragma once

#include "base/clock.h"

struct mono broker_now(void);
struct wall broker_wall(void);
