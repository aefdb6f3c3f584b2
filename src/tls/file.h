// Files of credentials and of who may do what, read once each and looked at in memory, so that what is checked is what is used.
// Needs no cryptography.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

// The whole of a regular file. *out: heap, NUL-terminated, and `out_size` bytes without the NUL; if it is secret, to be wiped
// when it is freed (base/wipe.h). `expected`, for the error: "a certificate in PEM". ERR_LIMIT: larger than `limit` bytes. The
// error's text begins with the path and ": ".
CHECK_RESULT enum status file_read(const char *path, const char *expected, size_t limit, uint8_t **out, size_t *out_size,
                                   struct error *error);
