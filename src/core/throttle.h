// What one client may send in a second: limits.message_rate and limits.byte_rate. A packet is taken when there are tokens
// for it; else its connection is not read from until there are (PAUSED_RATE), or ends (0x96). Only connections that have a
// rate have any of this.
#pragma once

#include <stdbool.h>

#include "base/span.h"
#include "base/status.h"

struct connection;

// By the limits that hold for the connection: begins, goes on with other rates, or ends. ERR_NO_MEMORY leaves it without a
// rate.
CHECK_RESULT enum status throttle_set(struct connection *connection);

// Harmless without a rate.
void throttle_close(struct connection *connection);

// Whether the whole packet may be handled now. False: it comes again, or the connection is closing. For connections that are
// `limited`.
bool throttle_admit(struct connection *connection, struct span packet);

// The packet was admitted, and was not taken for another reason: it comes again.
void throttle_give_back(struct connection *connection, struct span packet);
