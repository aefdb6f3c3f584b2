// Errors with words, for the control plane. The caller owns the struct; a callee fills it on failure, and each caller on the
// way up may prefix where it was ("skerry.yaml:12: limits.connections: ...").
#pragma once

#include "base/status.h"

struct error {
  enum status status;
  char text[512];  // NUL-terminated; cut at a whole character with "..." when it does not fit
};

// Sets status and text and returns the status, so that `return error_set(...)` works. `error` may be NULL.
enum status error_set(struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts the formatted prefix and ": " before the text. Returns the error's status. `error` may be NULL (returns
// `ERR_INVALID`).
enum status error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
