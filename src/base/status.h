// What a function of ours can fail with. 0 is success, failures are negative. errno is mapped here, at the edge, so that
// pure folders never see it. What a peer did wrong is not a status: that is data (enum mqtt_reason).
#pragma once

#define CHECK_RESULT __attribute__((warn_unused_result))

enum status {
  OK = 0,
  ERR_NO_MEMORY = -1,  // an allocation failed or a memory budget is used up
  ERR_INVALID = -2,    // an argument or a configuration value is not usable
  ERR_NOT_FOUND = -3,  // the named thing does not exist
  ERR_EXISTS = -4,     // the named thing exists already, or an address is in use
  ERR_FULL = -5,       // a bounded queue or table has no room
  ERR_AGAIN = -6,      // nothing can be done now; try again after the next event
  ERR_CLOSED = -7,     // the other side has closed
  ERR_DENIED = -8,     // permission denied
  ERR_TIMEOUT = -9,    // a deadline passed
  ERR_LIMIT = -10,     // a configured or system limit was reached (descriptors, sizes)
  ERR_IO = -11,        // the system reported another input or output failure
};

// Returns a short lower-case name, "ok" or "not found". Never NULL. Any thread.
const char *status_name(enum status status);

// Maps an errno value to a status; ERR_IO for what has no closer name. Any thread.
enum status status_from_errno(int error_number);
