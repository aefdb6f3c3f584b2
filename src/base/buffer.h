// A growing run of owned bytes with a read position at its front. Not thread-safe.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/span.h"
#include "base/status.h"

struct buffer {
  uint8_t *data;    // NULL until the first byte
  size_t start;     // first unread byte
  size_t end;       // one past the last byte
  size_t capacity;  // bytes allocated
};

// A zeroed struct is an empty buffer too.
void buffer_init(struct buffer *buffer);

// Frees the bytes. The buffer is empty afterwards and can be used again.
void buffer_deinit(struct buffer *buffer);
// The same, of what was secret: zeroes it first. Not what it has grown out of: reserve room for all of it before.
void buffer_wipe(struct buffer *buffer);

static inline size_t buffer_size(const struct buffer *buffer)
{
  return buffer->end - buffer->start;
}

// Valid until the next call that changes the buffer.
static inline struct span buffer_peek(const struct buffer *buffer)
{
  return (struct span){.at = buffer->data ? buffer->data + buffer->start : NULL, .size = buffer->end - buffer->start};
}

// For buffer_reserve, when there is too little room behind the end: moves unread bytes to the front, or grows by doubling.
uint8_t *buffer_make_room(struct buffer *buffer, size_t size);

// Makes room for `size` more bytes behind the end and returns where they go, never NULL even for size 0 unless memory is
// short. Call buffer_commit with what was written.
static inline uint8_t *buffer_reserve(struct buffer *buffer, size_t size)
{
  if (buffer->data && size <= buffer->capacity - buffer->end) return buffer->data + buffer->end;
  return buffer_make_room(buffer, size);
}

void buffer_commit(struct buffer *buffer, size_t size);

// ERR_NO_MEMORY leaves the buffer as it was.
CHECK_RESULT enum status buffer_append(struct buffer *buffer, const void *bytes, size_t size);

// Drops `size` bytes from the front. An emptied buffer keeps its memory.
void buffer_consume(struct buffer *buffer, size_t size);
