// What `skerry journal` learns on its way through the records: whose session a number is, and what time journal time was.
// Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/span.h"
#include "base/status.h"

struct journal_names {
  struct map clients;  // by session number
  bool clock_known;    // a BATCH record was met
  int64_t clock_ms;    // wall time = journal time + this
  uint64_t newest_ms;  // journal time of the newest BATCH record
};

// A zeroed struct is empty too.
void journal_names_deinit(struct journal_names *names);

// Copies the client identifier; a number that is known keeps its own, for numbers are never used twice.
CHECK_RESULT enum status journal_names_add(struct journal_names *names, uint32_t session, struct span client_id);

// False when the session is not known. The span lives as long as the names.
bool journal_names_find(const struct journal_names *names, uint32_t session, struct span *out_client_id);
