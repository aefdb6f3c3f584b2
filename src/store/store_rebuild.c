// A block of references that cannot be read costs none of its 256 messages: each says in its record to which places of which
// queues it went, and the catalog knows in which segments they are. These few are searched.
#include <stdlib.h>

#include "store/store_internal.h"

enum { SEARCHES = 5 };  // while the disk reports errors

struct rebuilt {
  uint32_t session;
  uint64_t from;      // first place of the block
  uint64_t position;  // of the record that cannot be read; 0: nothing is here
  bool unread;        // while it was searched last the disk has reported errors
  unsigned searches;
  uint64_t positions[CATALOG_BLOCK];
};

struct search {
  struct rebuilt *rebuilt;
  uint32_t segment;
  uint64_t found;
};

static void note_targets(struct search *search, const struct record_message *message, uint64_t position)
{
  struct rebuilt *rebuilt = search->rebuilt;
  struct record_target target;
  for (size_t cursor = 0; record_next_target(message->targets, &cursor, &target);) {
    uint32_t index = target.place - (uint32_t)rebuilt->from;
    if (target.session != rebuilt->session || index >= CATALOG_BLOCK) continue;
    if (rebuilt->positions[index] == 0) search->found++;
    rebuilt->positions[index] = position;  // a copy is behind what it was made of
  }
}

static bool search_record(void *context, const struct record_header *header, struct span body, uint64_t position)
{
  struct search *search = context;
  if (position_segment(position) != search->segment) return false;
  struct record_message message;
  enum record_type type = record_type(header);
  bool wanted = type == RECORD_MESSAGE || type == RECORD_MESSAGE_COPY;
  if (wanted && record_get_message(body, &message)) note_targets(search, &message, position);
  return true;
}

static void note_damage(void *context, const struct log_damage *damage)
{
  struct search *search = context;
  if (damage->segment == search->segment) search->rebuilt->unread |= damage->unread;
}

static void search_segments(struct store *store, const struct catalog_session *session, const struct block *block,
                            struct rebuilt *rebuilt)
{
  const struct block_part *parts = block->part_count > 1 ? block->parts : &block->part;
  struct search search = {.rebuilt = rebuilt};
  struct log_reader reader = {.context = &search, .record = search_record, .damage = note_damage};
  rebuilt->unread = false;
  for (size_t i = 0; i < block->part_count; i++) {
    search.segment = parts[i].segment;
    // What cannot be read of it is not found.
    if (journal_log_scan(store->journal, position_of(search.segment, LOG_SEGMENT_HEADER), &reader)) rebuilt->unread = true;
  }
  if (rebuilt->searches++ > 0) return;
  store->counters.damaged_records++;
  LOG(store->log, store->now, LOG_ERROR, "journal_references_damaged", FIELD_SPAN("client_id", session->client_id),
      FIELD_UINT("segment", position_segment(block->position)), FIELD_UINT("offset", position_offset(block->position)),
      FIELD_UINT("messages_found", search.found));
}

static const struct block *block_of(const struct catalog_session *session, uint64_t place, uint64_t *out_from)
{
  if (place < session->blocks_from) return NULL;
  uint64_t index = (place - session->blocks_from) / CATALOG_BLOCK;
  if (index >= session->block_count) return NULL;
  *out_from = session->blocks_from + index * CATALOG_BLOCK;
  const struct block *block = &session->blocks[session->block_first + (size_t)index];
  return block->position ? block : NULL;
}

// It was not, but the disk may recover.
static bool may_be_found(const struct rebuilt *rebuilt, uint64_t place)
{
  return rebuilt->positions[place - rebuilt->from] == 0 && rebuilt->unread && rebuilt->searches < SEARCHES;
}

// The block can be read, after all. Where the message is, unless the place is a hole that was made.
static enum status look_again(struct store *store, uint32_t number, uint64_t place, uint64_t *out_position)
{
  struct queue_entry entry;
  size_t count;
  uint64_t next;
  enum status status = catalog_entries(&store->catalog, number, place, &entry, 1, &count, &next);
  if (!status && count > 0 && entry.place == place) *out_position = entry.position;
  return status;
}

enum status store_rebuild(struct store *store, uint32_t number, uint64_t place, uint64_t *out_position)
{
  *out_position = 0;
  const struct catalog_session *session = catalog_find(&store->catalog, number);
  uint64_t from = 0;
  const struct block *block = session ? block_of(session, place, &from) : NULL;
  if (!block) return OK;
  if (!store->rebuilt) store->rebuilt = calloc(1, sizeof *store->rebuilt);
  struct rebuilt *rebuilt = store->rebuilt;
  if (!rebuilt) return ERR_NO_MEMORY;
  if (rebuilt->session != number || rebuilt->from != from || rebuilt->position != block->position) {
    struct record_header header;
    struct span body;
    enum status status = journal_log_read(store->journal, block->position, &header, &body);
    if (status == OK) return look_again(store, number, place, out_position);
    if (!store_is_lost(store, status, block->position)) return status;
    *rebuilt = (struct rebuilt){.session = number, .from = from, .position = block->position};
    search_segments(store, session, block, rebuilt);
  } else if (may_be_found(rebuilt, place)) {
    search_segments(store, session, block, rebuilt);
  }
  if (may_be_found(rebuilt, place)) return ERR_IO;
  *out_position = rebuilt->positions[place - from];
  return OK;
}
