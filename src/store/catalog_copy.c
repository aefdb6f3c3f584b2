// Copying forward: what is still needed of a segment is written again, so that the segment can go.
#include "store/catalog_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/search.h"

// ---- What is needed

// Whether a queue still waits for the message at this position.
static bool target_needs(const struct catalog *catalog, const struct record_target *target, uint64_t position)
{
  const struct catalog_session *session = catalog_find(catalog, target->session);
  uint64_t place;
  if (!session || !catalog_queue_place(session, target->place, &place)) return false;
  if (place >= last_place(session)) return last_at(session, place)->position == position;
  if (catalog_place_done(session, place) || catalog_place_sent(session, place)) return false;
  size_t index = (size_t)((place - session->blocks_from) / CATALOG_BLOCK);
  return catalog_block_touches(block_at(session, index), position_segment(position)) &&
         !catalog_moved_find(catalog, position);
}

static enum status put_message_copy(struct catalog *catalog, struct span body, uint64_t position, struct buffer *out)
{
  struct record_message message;
  if (!record_get_message(body, &message)) return OK;
  struct buffer *targets = &catalog->scratch;
  buffer_consume(targets, buffer_size(targets));
  struct record_target target;
  uint32_t count = 0;
  size_t cursor = 0;
  for (size_t from = 0; record_next_target(message.targets, &cursor, &target); from = cursor) {
    if (!target_needs(catalog, &target, position)) continue;
    enum status status = buffer_append(targets, message.targets.at + from, cursor - from);
    if (status != OK) return status;
    count++;
  }
  const struct catalog_retained *retained = message.store ? catalog_retained_find(catalog, message.topic) : NULL;
  message.store = retained && retained->position == position;
  if (count == 0 && !message.store) return OK;
  message.targets = buffer_peek(targets);
  message.target_count = count;
  message.has_publisher = false;
  message.copy_of = position;
  return record_put_message(out, &message);
}

static enum status put_will_copy(const struct catalog *catalog, struct span body, uint64_t position, struct buffer *out)
{
  struct record_will will;
  if (!record_get_will(body, &will)) return OK;
  const struct catalog_session *session = catalog_find(catalog, will.session);
  return session && session->will_position == position ? record_put(out, RECORD_WILL, body) : OK;
}

static enum status put_references_copy(const struct catalog *catalog, struct span body, uint64_t position,
                                       struct buffer *out)
{
  uint32_t number, count;
  uint64_t place;
  if (!catalog_get_references(body, &number, &place, &count)) return OK;
  const struct catalog_session *session = catalog_find(catalog, number);
  if (!session || place < session->blocks_from || place >= last_place(session)) return OK;
  const struct block *block = block_at(session, (size_t)((place - session->blocks_from) / CATALOG_BLOCK));
  return block->position == position ? record_put(out, RECORD_REFERENCES, body) : OK;
}

enum status catalog_put_copy(struct catalog *catalog, const struct record_header *header, struct span body,
                             uint64_t position, struct buffer *out)
{
  catalog->copied = position_segment(position);
  switch ((int)record_type(header)) {
    case RECORD_MESSAGE:
    case RECORD_MESSAGE_COPY: return put_message_copy(catalog, body, position, out);
    case RECORD_WILL: return put_will_copy(catalog, body, position, out);
    case RECORD_REFERENCES: return put_references_copy(catalog, body, position, out);
    default: return OK;
  }
}

// ---- Applying a copy

static void move_target(struct catalog *catalog, const struct record_target *target, uint64_t from, uint64_t to,
                        bool *out_in_block)
{
  struct catalog_session *session = catalog_find(catalog, target->session);
  uint64_t place;
  if (!session || !catalog_queue_place(session, target->place, &place)) return;
  if (place >= last_place(session)) {
    struct reference *reference = last_at(session, place);
    if (reference->position != from) return;
    catalog_live_add(catalog, position_segment(to), 1, reference->weight);
    catalog_live_release(catalog, position_segment(from), 1, reference->weight);
    reference->position = to;
  } else if (!catalog_place_done(session, place) && !catalog_place_sent(session, place)) {
    size_t index = (size_t)((place - session->blocks_from) / CATALOG_BLOCK);
    if (catalog_block_touches(block_at(session, index), position_segment(from))) *out_in_block = true;
  }
}

enum status catalog_apply_copy(struct catalog *catalog, const struct record_message *message, uint64_t position)
{
  enum status status = catalog_moved_ensure(catalog);
  if (status != OK) return status;
  bool in_block = false;
  struct record_target target;
  for (size_t cursor = 0; record_next_target(message->targets, &cursor, &target);)
    move_target(catalog, &target, message->copy_of, position, &in_block);
  if (in_block) catalog_moved_put(catalog, message->copy_of, position);

  struct catalog_retained *retained = message->store ? catalog_retained_find(catalog, message->topic) : NULL;
  if (retained && retained->position == message->copy_of)
    catalog_retained_set(catalog, retained, position, retained->weight);
  return OK;
}

// ---- Blocks of references that still tell the old places

// How the references of a block are to change; false: not at all.
typedef bool change_reference(void *context, struct reference *reference);

// The reference to the message of a place whose block cannot be read; a hole when it is not found.
static enum status search_reference(const struct catalog *catalog, const struct catalog_session *session, uint64_t place,
                                    struct reference *out)
{
  *out = (struct reference){0};
  uint64_t position = catalog->search(catalog->read_context, session->number, place);
  if (position == 0) return OK;
  struct record_header header;
  struct span body;
  struct record_message message;
  enum status status = catalog->read(catalog->read_context, position, &header, &body);
  if (status == OK && record_get_message(body, &message)) *out = catalog_reference_to(&message, position);
  return status == ERR_NO_MEMORY ? status : OK;
}

// A block as it is to be put anew.
struct rewritten {
  struct reference references[CATALOG_BLOCK];  // holes where nothing waits
  bool searched;                               // the block could not be read
  uint64_t missing;                            // of what waits: not found
};

// *out_known: false when nothing is known of the block.
static enum status read_or_search(struct catalog *catalog, const struct catalog_session *session, size_t index,
                                  struct rewritten *out, bool *out_known)
{
  const struct reference *references;
  enum status status = catalog_block_read(catalog, session, index, &references);
  out->searched = !references && catalog->search;
  out->missing = 0;
  *out_known = references || out->searched;
  uint64_t place = block_place(session, index);
  for (size_t i = 0; i < CATALOG_BLOCK && *out_known && status == OK; i++, place++) {
    struct reference *reference = &out->references[i];
    bool waits = !catalog_place_done(session, place) && !catalog_place_sent(session, place);
    *reference = references ? references[i] : (struct reference){0};
    if (!waits) *reference = (struct reference){.time_s = reference->time_s};
    if (!waits || references) continue;
    status = search_reference(catalog, session, place, reference);
    if (reference->position == 0) out->missing++;
  }
  return status;
}

// Puts a block anew with its references changed, when that concerns what waits in it; anyhow when it had to be searched for
// or its record is in the segment `lost`. *out_known: false when nothing is known of it. *out_missing: how many are not
// found.
static enum status rewrite_block(struct catalog *catalog, struct catalog_session *session, size_t index, uint32_t lost,
                                 change_reference *change, void *context, struct buffer *out, bool *out_known,
                                 uint64_t *out_missing)
{
  *out_known = true;
  *out_missing = 0;
  enum status status = catalog_block_settle(catalog, session, index);
  if (status != OK || block_at(session, index)->part_count == 0) return status;
  struct rewritten rewritten;
  status = read_or_search(catalog, session, index, &rewritten, out_known);
  if (status != OK || !*out_known) return status;

  bool any = rewritten.searched || position_segment(block_at(session, index)->position) == lost;
  for (size_t i = 0; i < CATALOG_BLOCK; i++)
    if (rewritten.references[i].position) any |= change(context, &rewritten.references[i]);
  *out_missing = rewritten.missing;
  uint64_t place = block_place(session, index);
  return any ? catalog_put_block(out, session->number, place, rewritten.references) : OK;
}

static bool to_new_place(void *context, struct reference *reference)
{
  const struct catalog *catalog = context;
  uint64_t to = catalog_moved_find(catalog, reference->position);
  if (to) reference->position = to;
  return to != 0;
}

static bool touches_moved(const struct catalog *catalog, const struct block *block)
{
  const struct block_part *parts = block_parts_const(block);
  for (size_t i = 0; i < block->part_count; i++) {
    // The first message that was copied out of this segment, or out of a later one.
    uint64_t begin = position_of(parts[i].segment, 0);
    size_t index = SEARCH_FIRST(m, catalog->moved_count, catalog->moved[m].from < begin);
    if (index < catalog->moved_count && position_segment(catalog->moved[index].from) == parts[i].segment) return true;
  }
  return false;
}

static enum status put_moved_of(struct catalog *catalog, struct catalog_session *session, struct buffer *out)
{
  for (size_t i = 0; i < session->block_count; i++) {
    // What a block counts although it is done keeps a segment alive without being copied.
    const struct block *block = block_at(session, i);
    bool stale = block->behind && catalog_block_touches(block, catalog->copied);
    if (!stale && !touches_moved(catalog, block)) continue;
    bool known;
    uint64_t missing;
    enum status status = rewrite_block(catalog, session, i, 0, to_new_place, catalog, out, &known, &missing);
    if (status != OK) return status;
  }
  return OK;
}

enum status catalog_put_moved(struct catalog *catalog, struct buffer *out)
{
  LIST_EACH (link, &catalog->session_list) {
    enum status status = put_moved_of(catalog, session_of(link), out);
    if (status != OK) return status;
  }
  catalog_moved_tidy(catalog);
  return OK;
}

// ---- What is lost

struct loss {
  struct catalog *catalog;
  struct catalog_session *session;
  uint32_t segment;
  struct buffer *out;
  uint64_t count;
};

static bool to_hole(void *context, struct reference *reference)
{
  struct loss *loss = context;
  if (position_segment(reference->position) != loss->segment) return false;
  *reference = (struct reference){.time_s = reference->time_s};
  loss->count++;
  return true;
}

static uint64_t count_waiting(const struct catalog_session *session, uint64_t from, uint64_t to)
{
  uint64_t count = 0;
  for (uint64_t place = from; place < to; place++)
    if (!catalog_place_done(session, place) && !catalog_place_sent(session, place)) count++;
  return count;
}

static enum status lose_in_block(struct loss *loss, size_t index)
{
  bool known;
  uint64_t missing;
  enum status status =
      rewrite_block(loss->catalog, loss->session, index, loss->segment, to_hole, loss, loss->out, &known, &missing);
  loss->count += missing;
  if (status != OK || known) return status;
  uint64_t place = block_place(loss->session, index);
  loss->count += count_waiting(loss->session, place, place + CATALOG_BLOCK);
  return catalog_put_hole_run(loss->out, loss->session->number, place, CATALOG_BLOCK);
}

static enum status lose_in_last(struct loss *loss)
{
  const struct catalog_session *session = loss->session;
  const struct reference *last = session->last + session->last_first;
  for (size_t i = 0; i < session->last_count; i++) {
    size_t first = i;
    while (i < session->last_count && last[i].position && position_segment(last[i].position) == loss->segment) i++;
    if (i == first) continue;
    loss->count += i - first;
    enum status status =
        catalog_put_hole_run(loss->out, session->number, last_place(session) + first, (uint32_t)(i - first));
    if (status != OK) return status;
  }
  return OK;
}

static enum status lose_of_session(struct loss *loss)
{
  const struct catalog_session *session = loss->session;
  enum status status = OK;
  for (size_t i = 0; i < session->block_count && status == OK; i++) {
    const struct block *block = block_at(session, i);
    bool concerned = catalog_block_touches(block, loss->segment) ||
                     (block->part_count > 0 && position_segment(block->position) == loss->segment);
    if (concerned) status = lose_in_block(loss, i);
  }
  if (status == OK && session->last_count > 0) status = lose_in_last(loss);
  if (status == OK && session->will_position && position_segment(session->will_position) == loss->segment) {
    const struct record_will none = {.session = session->number};
    status = record_put_will(loss->out, &none);
  }
  return status;
}

enum status catalog_put_holes(struct catalog *catalog, uint32_t segment, struct buffer *out,
                              void (*lost)(void *context, const struct catalog_session *session, uint64_t count),
                              void *context)
{
  LIST_EACH (link, &catalog->session_list) {
    struct loss loss = {.catalog = catalog, .session = session_of(link), .segment = segment, .out = out};
    enum status status = lose_of_session(&loss);
    if (status != OK) return status;
    if (loss.count > 0 && lost) lost(context, loss.session, loss.count);
  }
  LIST_EACH (link, &catalog->retained_list) {
    const struct catalog_retained *retained = retained_of(link);
    if (position_segment(retained->position) != segment) continue;
    enum status status = catalog_put_retained_drop(out, retained);
    if (status != OK) return status;
  }
  catalog_moved_tidy(catalog);
  return OK;
}
