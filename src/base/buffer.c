// Bytes move to the front only when that costs less than half a buffer: a slow reader of a full buffer must not make every
// append a large memmove.
#include "base/buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"

enum { BUFFER_FIRST_CAPACITY = 256 };

void buffer_init(struct buffer *buffer)
{
  *buffer = (struct buffer){0};
}

void buffer_deinit(struct buffer *buffer)
{
  free(buffer->data);
  buffer_init(buffer);
}

void buffer_wipe(struct buffer *buffer)
{
  wipe(buffer->data, buffer->capacity);
  buffer_deinit(buffer);
}

// At least doubles, so that appending n bytes copies O(n) bytes in all.
static enum status grow(struct buffer *buffer, size_t needed)
{
  size_t capacity = buffer->capacity;
  do {
    if (capacity > SIZE_MAX / 2) return ERR_NO_MEMORY;
    capacity = capacity > 0 ? capacity * 2 : BUFFER_FIRST_CAPACITY;
  } while (capacity < needed);

  uint8_t *data = malloc(capacity);
  if (!data) return ERR_NO_MEMORY;
  size_t unread = buffer_size(buffer);
  if (unread > 0) memcpy(data, buffer->data + buffer->start, unread);
  free(buffer->data);
  *buffer = (struct buffer){.data = data, .end = unread, .capacity = capacity};
  return OK;
}

uint8_t *buffer_make_room(struct buffer *buffer, size_t size)
{
  assert(buffer->start <= buffer->end);
  assert(buffer->end <= buffer->capacity);
  size_t unread = buffer_size(buffer);
  if (size > SIZE_MAX - unread) return NULL;
  bool worth_moving = buffer->data && unread <= buffer->capacity / 2 && size <= buffer->capacity - unread;
  if (worth_moving) {
    memmove(buffer->data, buffer->data + buffer->start, unread);
    buffer->start = 0;
    buffer->end = unread;
  } else if (grow(buffer, unread + size) != OK) {
    return NULL;
  }
  return buffer->data + buffer->end;
}

void buffer_commit(struct buffer *buffer, size_t size)
{
  assert(size <= buffer->capacity - buffer->end);
  buffer->end += size;
}

enum status buffer_append(struct buffer *buffer, const void *bytes, size_t size)
{
  if (size == 0) return OK;
  uint8_t *at = buffer_reserve(buffer, size);
  if (!at) return ERR_NO_MEMORY;
  memcpy(at, bytes, size);
  buffer_commit(buffer, size);
  return OK;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
  assert(size <= buffer_size(buffer));
  buffer->start += size;
  if (buffer->start == buffer->end) {
    buffer->start = 0;
    buffer->end = 0;
  }
}
