// An HTTP response, as far as a client needs it that fetches one page again and again over one connection. RFC 9112. Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum { TOP_ANSWER_MAX = 1024 * 1024 };  // bytes of the body

// INCOMPLETE: more bytes are needed.
enum top_answer_state { TOP_ANSWER_INCOMPLETE, TOP_ANSWER_WHOLE, TOP_ANSWER_BROKEN };

struct top_answer {
  unsigned http_status;
  struct span body;
  bool keep;        // the connection can be used again
  const char *why;  // BROKEN: what is wrong
};

// Reads what has arrived: `closed` says that nothing more comes. A body in chunks is put together in place, so that once it
// is WHOLE the bytes are the caller's to drop. Points into `bytes`.
enum top_answer_state top_answer_read(uint8_t *bytes, size_t size, bool closed, struct top_answer *out);
