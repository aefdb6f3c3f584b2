// A borrowed run of bytes. Whoever hands one out says how long it lives.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
  const uint8_t *at;  // may be NULL when size is 0
  size_t size;
};

static inline struct span span_of(const void *at, size_t size)
{
  return (struct span){.at = at, .size = size};
}

// Of a NUL-terminated string, without the NUL.
static inline struct span span_text(const char *text)
{
  return span_of(text, strlen(text));
}

static inline bool span_equal(struct span a, struct span b)
{
  return a.size == b.size && (a.size == 0 || memcmp(a.at, b.at, a.size) == 0);
}

// The bytes from `offset` on; `offset` must not exceed the size.
static inline struct span span_from(struct span span, size_t offset)
{
  return (struct span){.at = span.at ? span.at + offset : NULL, .size = span.size - offset};
}
