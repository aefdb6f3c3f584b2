// Which records `skerry journal dump` shows. Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/span.h"
#include "cli/journal_names.h"
#include "core/record.h"

enum { JOURNAL_TYPES_MAX = 64 };

// A zeroed filter lets everything through.
struct journal_filter {
  const char *session;  // client identifier; NULL: all
  const char *topic;    // a valid topic filter; NULL: all
  uint64_t types;       // bit per enum record_type; 0: all
  uint64_t from, to;    // sequences; to 0: to the end
  uint32_t segment;     // 0: all
};

// "message", "checkpoint_begin"; NULL when no record of this type is known.
const char *journal_type_name(enum record_type type);

// Adds a type by its name. ERR_INVALID: there is none; the error names those that there are.
CHECK_RESULT enum status journal_filter_add_type(struct journal_filter *filter, const char *name, struct error *error);

// `names` tells whose the sessions are that the body numbers.
bool journal_filter_passes(const struct journal_filter *filter, const struct journal_names *names,
                           const struct record_header *header, struct span body, uint64_t position);
