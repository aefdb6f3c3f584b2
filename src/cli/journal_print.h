// A record as a line. Pure.
#pragma once

#include "base/buffer.h"
#include "base/span.h"
#include "base/status.h"
#include "cli/journal_line.h"
#include "cli/journal_names.h"
#include "core/record.h"

struct journal_print {
  struct buffer *out;
  enum line_form form;
  enum line_bytes payloads;  // of messages and wills, with their properties
  const struct journal_names *names;
};

// Learns what the record says of clients and of time; for every record, in order.
CHECK_RESULT enum status journal_learn(struct journal_names *names, enum record_type type, struct span body);

// Appends one line: sequence, type, where it is, and what it says. A body that cannot be read is told as such.
CHECK_RESULT enum status journal_print_record(const struct journal_print *print, const struct record_header *header,
                                              struct span body, uint64_t position);
