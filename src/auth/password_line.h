// One line of a password file (auth/passwords.h), taken apart and put together. Knows no cryptography: the hash is a text
// here.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/span.h"

struct password_line {
  struct span user;    // empty: the line holds no password, it is blank or a comment
  struct span hash;    // "$kind$..."
  int64_t until_ms;    // wall time after which the password does not hold; INT64_MAX: no end
  struct span groups;  // "a,b"; empty: none
};

enum { PASSWORD_MAX_USER = 65535, PASSWORD_MAX_GROUP = 255, PASSWORD_UNTIL_TEXT = 21 };

// `line` has no line end; blanks around it, and around user and hash, do not count. ERR_INVALID: the error says what is
// wrong and what would be right. Spans in *out point into `line`.
CHECK_RESULT enum status password_line_parse(struct span line, struct password_line *out, struct error *error);

// Appends the line, with its line end.
CHECK_RESULT enum status password_line_append(const struct password_line *line, struct buffer *out);

// Whether a line may begin with it: UTF-8 without ':' and control characters, no blanks around, no '#' and no byte
// order mark in front.
CHECK_RESULT enum status password_user_check(struct span user, struct error *error);
CHECK_RESULT enum status password_group_check(struct span group, struct error *error);

// Walks the names in line.groups: takes the first off *groups; false at the end.
bool password_next_group(struct span *groups, struct span *out);

// "argon2id", "7", "6", "scram-sha-256": what stands between the first two '$'. Empty: no hash.
struct span password_hash_kind(struct span hash);

// Takes the next line off *text, without its line end, be that LF or CRLF; false at the end.
bool password_next_line(struct span *text, struct span *out);

// "2026-12-31T23:59:59Z", UTC, years 1970 to 9999.
bool password_until_parse(struct span text, int64_t *out_ms);
void password_until_format(int64_t ms, char out[PASSWORD_UNTIL_TEXT]);
