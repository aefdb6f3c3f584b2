// The shapes in which batches and loaded entries cross from one thread to the other. An entry: place u64, size of the
// message u32, state u8, then the message as in its record, but with one target: that of the queue. A message to a hundred
// thousand queues is not carried with all of them into each.
#include "core/journal.h"

#include <assert.h>
#include <stdlib.h>

enum { ENTRY_FIXED = 13 };

void journal_batch_free(struct journal_batch *batch)
{
  if (!batch) return;
  buffer_deinit(&batch->records);
  free(batch);
}

const char *journal_state_name(enum journal_state state)
{
  switch (state) {
    case JOURNAL_OK: return "ok";
    case JOURNAL_FULL: return "full";
    case JOURNAL_FAILING: return "failing";
  }
  return "unknown";
}

// The message with nothing but the target at this place of this queue; false when the body is none, or is not for it.
static bool narrow(struct span body, uint32_t session, uint64_t place, struct record_message *out)
{
  if (!record_get_message(body, out)) return false;
  struct record_target target;
  size_t cursor = 0;
  for (size_t from = 0; record_next_target(out->targets, &cursor, &target); from = cursor) {
    if (target.session != session || target.place != (uint32_t)place) continue;
    out->target_count = 1;
    out->targets = span_of(out->targets.at + from, cursor - from);
    return true;
  }
  return false;
}

enum status journal_put_entry(struct journal_loaded *loaded, uint64_t place, enum loaded_state state,
                              struct span message_body)
{
  struct record_message message = {0};
  if (state == LOADED_WAITING && !narrow(message_body, loaded->session, place, &message)) state = LOADED_DAMAGED;
  uint64_t size = state == LOADED_WAITING ? record_message_body_size(&message) : 0;
  assert(size <= UINT32_MAX);

  uint8_t *at = buffer_reserve(&loaded->entries, ENTRY_FIXED + (size_t)size);
  if (!at) return ERR_NO_MEMORY;
  buffer_commit(&loaded->entries, ENTRY_FIXED + (size_t)size);
  at = record_write_u64(at, place);
  at = record_write_u32(at, (uint32_t)size);
  at = record_write_u8(at, (uint8_t)state);
  if (state == LOADED_WAITING) record_write_message(at, &message);
  loaded->count++;
  return OK;
}

bool journal_next_entry(const struct journal_loaded *loaded, size_t *cursor, struct journal_entry *out)
{
  struct span bytes = buffer_peek(&loaded->entries);
  if (*cursor >= bytes.size) return false;
  struct record_reader reader = {.rest = span_from(bytes, *cursor)};
  *out = (struct journal_entry){.place = record_read_u64(&reader)};
  uint32_t size = record_read_u32(&reader);
  out->state = record_read_u8(&reader);
  struct span body = record_read_bytes(&reader, size);
  assert(!reader.failed);
  *cursor = bytes.size - reader.rest.size;
  if (out->state != LOADED_WAITING) return true;

  size_t target_cursor = 0;
  bool good =
      record_get_message(body, &out->message) && record_next_target(out->message.targets, &target_cursor, &out->target);
  assert(good);
  return good;
}

void journal_loaded_free(struct journal_loaded *loaded)
{
  if (!loaded) return;
  buffer_deinit(&loaded->entries);
  free(loaded);
}
