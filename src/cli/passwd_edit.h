// What `skerry passwd` does to the text of a password file: lines of one user change, everything else, comments too, stays
// as it is, byte by byte. Calls no system.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/password_line.h"
#include "base/buffer.h"
#include "base/error.h"

enum passwd_action {
  PASSWD_SET,      // one line, in the place of the user's first
  PASSWD_ROTATE,   // one more line; those before end at `keep_until_ms` at the latest, those that have ended go
  PASSWD_DELETE,   // no line
  PASSWD_REGROUP,  // the same lines with other groups
};

struct passwd_change {
  enum passwd_action action;
  struct span user;
  struct span hash;       // of the new line
  int64_t until_ms;       // of the new line; INT64_MAX: no end
  bool has_groups;        // false: the groups stay
  struct span groups;     // "a,b"
  int64_t now_ms;         // wall time
  int64_t keep_until_ms;  // for PASSWD_ROTATE
};

// What the file has of a user.
struct passwd_lines {
  size_t count;
  struct span scram;  // the hash of the SCRAM verifier that holds longest, in the text; empty: none
};

// The text must be one that passwords_parse takes.
struct passwd_lines passwd_look(struct span text, struct span user, int64_t now_ms);

// Appends the new text to *out. ERR_NO_MEMORY.
CHECK_RESULT enum status passwd_edit(struct span text, const struct passwd_change *change, struct buffer *out);

// A table for people: a line for each password, no hashes.
CHECK_RESULT enum status passwd_list(struct span text, int64_t now_ms, struct buffer *out);
