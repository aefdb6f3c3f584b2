// Base64 with the standard alphabet and padding (RFC 4648, section 4).
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/span.h"

// Characters of the encoding of `size` bytes, without a NUL.
static inline size_t base64_size(size_t size)
{
  return (size + 2) / 3 * 4;
}

// Writes base64_size(bytes.size) characters and no NUL; returns how many.
size_t base64_encode(struct span bytes, char *out);

// Whether `text` is the encoding of exactly `size` bytes, with its padding and with the unused bits zero.
bool base64_valid(struct span text, size_t size);
