// Shared by catalog*.c.
#pragma once

#include "store/catalog.h"
#include "store/log.h"

enum {
  BLOCK_BYTES = 1536,  // what copying the record of a block costs, about
  VARINT_MOST = 10,
};

// ---- Numbers of variable size: seven bits a byte, the lowest first; the top bit says that there is more. Signed ones are
// folded, so that small ones of both signs are short.

uint8_t *catalog_write_varint(uint8_t *at, uint64_t value);
uint64_t catalog_read_varint(struct record_reader *reader);  // 0 and `failed` when it is none

static inline uint64_t fold_sign(uint64_t difference)
{
  return difference << 1 ^ (difference >> 63 ? UINT64_MAX : 0);
}

static inline uint64_t unfold_sign(uint64_t folded)
{
  return folded >> 1 ^ (folded & 1 ? UINT64_MAX : 0);
}

CHECK_RESULT enum status catalog_put_varints(struct buffer *out, const uint64_t *values, size_t count);

// ---- What lives (catalog_live.c)

// Makes room, so that catalog_live_add cannot fail for this segment.
CHECK_RESULT enum status catalog_live_ensure(struct catalog *catalog, uint32_t segment);
void catalog_live_add(struct catalog *catalog, uint32_t segment, uint64_t references, uint64_t bytes);
void catalog_live_release(struct catalog *catalog, uint32_t segment, uint64_t references, uint64_t bytes);

CHECK_RESULT enum status catalog_moved_ensure(struct catalog *catalog);       // room for one more
void catalog_moved_put(struct catalog *catalog, uint64_t from, uint64_t to);  // `to`: a segment with room in live
uint64_t catalog_moved_find(const struct catalog *catalog, uint64_t from);    // 0: not moved
void catalog_moved_tidy(struct catalog *catalog);  // those whose old segment is dead are forgotten

// ---- Queues (catalog_queue.c)

// Grows an array to hold `needed` items. The first `used` are kept.
CHECK_RESULT enum status catalog_grow_array(void **items, size_t *capacity, size_t needed, size_t item_size);

// Place of session->last[last_first].
static inline uint64_t last_place(const struct catalog_session *session)
{
  return session->blocks_from + (uint64_t)session->block_count * CATALOG_BLOCK;
}

static inline struct reference *last_at(const struct catalog_session *session, uint64_t place)
{
  return &session->last[session->last_first + (size_t)(place - last_place(session))];
}

static inline struct block *block_at(const struct catalog_session *session, size_t index)
{
  return &session->blocks[session->block_first + index];
}

static inline uint64_t block_place(const struct catalog_session *session, size_t index)
{
  return session->blocks_from + (uint64_t)index * CATALOG_BLOCK;
}

bool catalog_place_done(const struct catalog_session *session, uint64_t place);
bool catalog_place_sent(const struct catalog_session *session, uint64_t place);

// First run that ends behind the place; first sent place at or behind it.
size_t catalog_first_run(const struct catalog_session *session, uint64_t place);
size_t catalog_first_sent(const struct catalog_session *session, uint64_t place);

// The place of the queue that a record means by its low 32 bits; false when it is not in the queue.
bool catalog_queue_place(const struct catalog_session *session, uint32_t low, uint64_t *out_place);

// Places that a message will take: catalog_queue_plan for each target, and catalog_queue_add cannot fail;
// catalog_queue_unplan when they are planned, before they are added.
CHECK_RESULT enum status catalog_queue_plan(struct catalog_session *session, uint32_t low);
void catalog_queue_unplan(struct catalog_session *session);
void catalog_queue_add(struct catalog *catalog, struct catalog_session *session, uint32_t low,
                       const struct reference *reference);
CHECK_RESULT enum status catalog_queue_sent(struct catalog *catalog, struct catalog_session *session, uint64_t place);
CHECK_RESULT enum status catalog_queue_done(struct catalog *catalog, struct catalog_session *session,
                                            const struct record_done *record);
void catalog_queue_clear(struct catalog *catalog, struct catalog_session *session, enum record_outcome outcome);
void catalog_queue_release_last(struct catalog *catalog, struct catalog_session *session, struct reference *reference);
void catalog_queue_drop_first_of_last(struct catalog_session *session, size_t count);
void catalog_queue_look_ripe(struct catalog *catalog, struct catalog_session *session);
CHECK_RESULT enum status catalog_block_reserve(struct catalog_session *session, size_t needed);

// ---- Blocks (catalog_block.c)

static inline struct block_part *block_parts(struct block *block)
{
  return block->part_count > 1 ? block->parts : &block->part;
}

static inline const struct block_part *block_parts_const(const struct block *block)
{
  return block->part_count > 1 ? block->parts : &block->part;
}

// What a block refers to, counted anew.
struct parts {
  size_t count;
  struct block_part at[CATALOG_BLOCK];
};

// References by place, of a block whose first place is `from`: only those that wait and are no holes.
void catalog_parts_count(struct parts *parts, const struct catalog_session *session, uint64_t from,
                         const struct reference references[static CATALOG_BLOCK]);

// Replaces what a block refers to, and where its record is (0: nowhere, and always when nothing waits in it).
CHECK_RESULT enum status catalog_block_set(struct catalog *catalog, struct catalog_session *session, struct block *block,
                                           const struct parts *parts, uint64_t position);
void catalog_block_release(struct catalog *catalog, struct catalog_session *session, struct block *block);  // all of it
// Some places of it are done or sent.
void catalog_block_release_places(struct catalog *catalog, struct catalog_session *session, size_t index, uint64_t from,
                                  uint64_t to);
bool catalog_block_touches(const struct block *block, uint32_t segment);

// The references of a block, from the cache or the log. *out NULL: it cannot be read. Valid until the next call.
CHECK_RESULT enum status catalog_block_read(struct catalog *catalog, const struct catalog_session *session, size_t index,
                                            const struct reference **out);
const struct reference *catalog_block_peek(struct catalog *catalog, const struct block *block);  // NULL: not at hand
CHECK_RESULT enum status catalog_block_settle(struct catalog *catalog, struct catalog_session *session, size_t index);
void catalog_cache_destroy(struct block_cache *cache);

// RECORD_REFERENCES: a block, or a run of places that become holes: whole blocks, or what is behind the last one.
CHECK_RESULT enum status catalog_put_block(struct buffer *out, uint32_t session, uint64_t place,
                                           const struct reference references[static CATALOG_BLOCK]);
CHECK_RESULT enum status catalog_put_hole_run(struct buffer *out, uint32_t session, uint64_t place, uint32_t count);
CHECK_RESULT enum status catalog_apply_references(struct catalog *catalog, struct span body, uint64_t position);

// References of variable size: weight, 0 for a hole; the difference of the time to the last one; unless it is a hole that of
// the position.
struct reference_coder {
  uint64_t position;
  uint32_t time_s;
};
uint8_t *catalog_write_reference(uint8_t *at, struct reference_coder *coder, const struct reference *reference);
struct reference catalog_read_reference(struct record_reader *reader, struct reference_coder *coder);
enum { REFERENCE_MOST = 3 * VARINT_MOST };

// ---- The rest (catalog.c)

static inline struct catalog_session *session_of(struct link *link)
{
  return CONTAINER_OF(link, struct catalog_session, link);
}

static inline struct catalog_retained *retained_of(struct link *link)
{
  return CONTAINER_OF(link, struct catalog_retained, link);
}

// A session that is in no table: heap, with everything it holds.
struct catalog_session *catalog_session_create(uint32_t number, struct span client_id);
void catalog_session_free(struct catalog_session *session);
CHECK_RESULT enum status catalog_session_own(struct catalog_session *session, struct span user);
CHECK_RESULT enum status catalog_session_insert(struct catalog *catalog, struct catalog_session *session);
CHECK_RESULT enum status catalog_session_subscribe(const struct catalog *catalog, struct catalog_session *session,
                                                   const struct record_subscribe *record);
// Gives up all that it refers to.
void catalog_session_release(struct catalog *catalog, struct catalog_session *session);

struct reference catalog_reference_to(const struct record_message *message, uint64_t position);
struct catalog_retained *catalog_retained_find(const struct catalog *catalog, struct span topic);
CHECK_RESULT enum status catalog_retained_insert(struct catalog *catalog, struct span topic, struct catalog_retained **out);
void catalog_retained_set(struct catalog *catalog, struct catalog_retained *retained, uint64_t position, uint64_t weight);
void catalog_retained_remove(struct catalog *catalog, struct catalog_retained *retained);
CHECK_RESULT enum status catalog_put_retained_drop(struct buffer *out, const struct catalog_retained *retained);

// ---- Checkpoints (catalog_checkpoint.c), copies (catalog_copy.c)

void catalog_checkpoint_forget_session(struct catalog *catalog, const struct catalog_session *session);
void catalog_checkpoint_forget_retained(struct catalog *catalog, const struct catalog_retained *retained);
CHECK_RESULT enum status catalog_apply_checkpoint_session(struct catalog *catalog, struct span body);
CHECK_RESULT enum status catalog_apply_checkpoint_retained(struct catalog *catalog, struct span body);
CHECK_RESULT enum status catalog_apply_checkpoint_end(struct catalog *catalog, struct span body);
CHECK_RESULT enum status catalog_apply_copy(struct catalog *catalog, const struct record_message *message,
                                            uint64_t position);
