// Where log events go: one line each on standard error, written whole, from any thread.
#pragma once

#include <stdatomic.h>

#include "base/log.h"

struct log_output {
  _Atomic int format;  // enum log_format; may change while threads log
  int fd;
};

// The context to give to log_init for a shard's log; the number is added to each event. The control thread uses
// log_output_control.
struct log_origin {
  struct log_output *output;
  int shard;  // -1: the control thread
};

// A log_sink; its context is a struct log_origin.
void log_output_write(void *origin, enum log_level level, const char *event, const struct log_field *fields, size_t count);
