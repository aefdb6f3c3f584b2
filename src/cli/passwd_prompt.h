// A password from whoever sits there: from the terminal without echo, or a line of standard input when it is no terminal.
// Never from the command line, which others on the machine can see. Main thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/span.h"

enum { PASSWD_MAX = 4095 };  // a terminal gives no longer lines

struct passwd_entry {
  char text[PASSWD_MAX + 1];
  size_t size;
};

// `prompt` is shown on a terminal only; `again`, when it is not NULL, asks for the same once more there. ERR_INVALID: the
// password is empty, too long, has a NUL in it, or the two differ; ERR_CLOSED: a signal came, or the input ended. `signals`
// is what signals_open gave.
CHECK_RESULT enum status passwd_prompt(const char *prompt, const char *again, int signals, struct passwd_entry *out,
                                       struct error *error);

static inline struct span passwd_entry_span(const struct passwd_entry *entry)
{
  return span_of(entry->text, entry->size);
}

void passwd_entry_wipe(struct passwd_entry *entry);
