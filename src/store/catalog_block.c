// Full blocks of references: their records, what they keep alive, and a few that were read and may be wanted again.
#include "store/catalog_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_BLOCKS = 64 };

struct cached_block {
  uint64_t position;  // of its record, 0: none
  uint64_t used;
  struct reference *references;  // CATALOG_BLOCK of them
};

struct block_cache {
  uint64_t clock;
  struct cached_block *newest;
  struct cached_block blocks[CACHE_BLOCKS];
};

// ---- Numbers

uint8_t *catalog_write_varint(uint8_t *at, uint64_t value)
{
  for (; value >= 0x80; value >>= 7) *at++ = (uint8_t)(value | 0x80);
  *at++ = (uint8_t)value;
  return at;
}

uint64_t catalog_read_varint(struct record_reader *reader)
{
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && shift / 7 < reader->rest.size; shift += 7) {
    uint8_t byte = reader->rest.at[shift / 7];
    if (shift == 63 && byte > 1) break;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte & 0x80) continue;
    reader->rest = span_from(reader->rest, shift / 7 + 1);
    return value;
  }
  reader->failed = true;
  reader->rest.size = 0;
  return 0;
}

enum status catalog_put_varints(struct buffer *out, const uint64_t *values, size_t count)
{
  uint8_t *begin = buffer_reserve(out, count * VARINT_MOST), *at = begin;
  if (!at) return ERR_NO_MEMORY;
  for (size_t i = 0; i < count; i++) at = catalog_write_varint(at, values[i]);
  buffer_commit(out, (size_t)(at - begin));
  return OK;
}

// ---- References as bytes

uint8_t *catalog_write_reference(uint8_t *at, struct reference_coder *coder, const struct reference *reference)
{
  assert((reference->weight > 0) == (reference->position > 0));
  at = catalog_write_varint(at, reference->weight);
  at = catalog_write_varint(at, fold_sign((uint64_t)reference->time_s - coder->time_s));
  coder->time_s = reference->time_s;
  if (reference->position == 0) return at;
  at = catalog_write_varint(at, fold_sign(reference->position - coder->position));
  coder->position = reference->position;
  return at;
}

struct reference catalog_read_reference(struct record_reader *reader, struct reference_coder *coder)
{
  uint64_t weight = catalog_read_varint(reader);
  uint64_t time_s = coder->time_s + unfold_sign(catalog_read_varint(reader));
  if (weight > UINT32_MAX || time_s > UINT32_MAX) reader->failed = true;
  coder->time_s = (uint32_t)time_s;
  if (weight == 0) return (struct reference){.time_s = coder->time_s};
  coder->position += unfold_sign(catalog_read_varint(reader));
  if (position_segment(coder->position) == 0) reader->failed = true;
  return (struct reference){.position = coder->position, .weight = (uint32_t)weight, .time_s = coder->time_s};
}

// RECORD_REFERENCES: session u32, place u64, kind u8, then KIND_BLOCK: CATALOG_BLOCK references; KIND_HOLES: count u32.
enum { KIND_BLOCK = 0, KIND_HOLES = 1, REFERENCES_FIXED = 13 };

enum status catalog_put_block(struct buffer *out, uint32_t session, uint64_t place,
                              const struct reference references[static CATALOG_BLOCK])
{
  uint8_t body[REFERENCES_FIXED + CATALOG_BLOCK * REFERENCE_MOST];
  uint8_t *at = record_write_u32(body, session);
  at = record_write_u64(at, place);
  at = record_write_u8(at, KIND_BLOCK);
  struct reference_coder coder = {0};
  for (size_t i = 0; i < CATALOG_BLOCK; i++) at = catalog_write_reference(at, &coder, &references[i]);
  return record_put(out, RECORD_REFERENCES, span_of(body, (size_t)(at - body)));
}

enum status catalog_put_hole_run(struct buffer *out, uint32_t session, uint64_t place, uint32_t count)
{
  uint8_t body[REFERENCES_FIXED + 4];
  uint8_t *at = record_write_u32(body, session);
  at = record_write_u64(at, place);
  at = record_write_u8(at, KIND_HOLES);
  record_write_u32(at, count);
  return record_put(out, RECORD_REFERENCES, span_of(body, sizeof body));
}

struct references {
  uint32_t session;
  uint64_t place;
  uint32_t count;
  bool holes;
  struct reference at[CATALOG_BLOCK];
};

static bool get_references(struct span body, struct references *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->place = record_read_u64(&reader);
  uint8_t kind = record_read_u8(&reader);
  out->holes = kind == KIND_HOLES;
  out->count = CATALOG_BLOCK;
  struct reference_coder coder = {0};
  if (out->holes)
    out->count = record_read_u32(&reader);
  else
    for (size_t i = 0; i < CATALOG_BLOCK && !reader.failed; i++) out->at[i] = catalog_read_reference(&reader, &coder);
  return !reader.failed && reader.rest.size == 0 && kind <= KIND_HOLES && out->place <= UINT64_MAX - out->count;
}

bool catalog_get_references(struct span body, uint32_t *out_session, uint64_t *out_place, uint32_t *out_count)
{
  struct references references;
  if (!get_references(body, &references)) return false;
  *out_session = references.session;
  *out_place = references.place;
  *out_count = references.count;
  return true;
}

// ---- What a block keeps alive. It has a record of its own, which lives, exactly as long as it has parts.

static void parts_add(struct parts *parts, uint32_t segment, uint32_t weight)
{
  size_t i = parts->count;
  while (i > 0 && parts->at[i - 1].segment != segment) i--;
  if (i == 0) {
    parts->at[parts->count++] = (struct block_part){.segment = segment};
    i = parts->count;
  }
  parts->at[i - 1].count++;
  parts->at[i - 1].bytes += weight;
}

void catalog_parts_count(struct parts *parts, const struct catalog_session *session, uint64_t from,
                         const struct reference references[static CATALOG_BLOCK])
{
  parts->count = 0;
  uint64_t place = from > session->head ? from : session->head;
  size_t run = catalog_first_run(session, place), sent = catalog_first_sent(session, place);
  for (; place < from + CATALOG_BLOCK; place++) {
    while (run < session->done_count && session->done[run].from + session->done[run].count <= place) run++;
    if (run < session->done_count && session->done[run].from <= place) continue;
    while (sent < session->sent_count && session->sent_places[sent] < place) sent++;
    if (sent < session->sent_count && session->sent_places[sent] == place) continue;
    const struct reference *reference = &references[place - from];
    if (reference->position) parts_add(parts, position_segment(reference->position), reference->weight);
  }
}

bool catalog_block_touches(const struct block *block, uint32_t segment)
{
  const struct block_part *parts = block_parts_const(block);
  for (size_t i = 0; i < block->part_count; i++)
    if (parts[i].segment == segment) return true;
  return false;
}

static void add_parts(struct catalog *catalog, struct catalog_session *session, const struct parts *parts)
{
  for (size_t i = 0; i < parts->count; i++) {
    catalog_live_add(catalog, parts->at[i].segment, parts->at[i].count, parts->at[i].bytes);
    session->waiting_bytes += parts->at[i].bytes;
  }
}

void catalog_block_release(struct catalog *catalog, struct catalog_session *session, struct block *block)
{
  const struct block_part *parts = block_parts(block);
  for (size_t i = 0; i < block->part_count; i++) {
    assert(session->waiting_bytes >= parts[i].bytes);
    session->waiting_bytes -= parts[i].bytes;
    catalog_live_release(catalog, parts[i].segment, parts[i].count, parts[i].bytes);
  }
  if (block->part_count > 0) catalog_live_release(catalog, position_segment(block->position), 1, BLOCK_BYTES);
  if (block->part_count > 1) free(block->parts);
  *block = (struct block){.time_s = block->time_s};
}

enum status catalog_block_set(struct catalog *catalog, struct catalog_session *session, struct block *block,
                              const struct parts *parts, uint64_t position)
{
  struct block_part *heap = NULL;
  enum status status = OK;
  if (parts->count > 1 && !(heap = malloc(parts->count * sizeof *heap))) return ERR_NO_MEMORY;
  for (size_t i = 0; i < parts->count && status == OK; i++) status = catalog_live_ensure(catalog, parts->at[i].segment);
  if (status == OK && parts->count > 0) status = catalog_live_ensure(catalog, position_segment(position));
  if (status != OK) {
    free(heap);
    return status;
  }
  add_parts(catalog, session, parts);
  if (parts->count > 0) catalog_live_add(catalog, position_segment(position), 1, BLOCK_BYTES);
  catalog_block_release(catalog, session, block);
  block->position = parts->count > 0 ? position : 0;
  block->part_count = (uint16_t)parts->count;
  if (heap) {
    memcpy(heap, parts->at, parts->count * sizeof *heap);
    block->parts = heap;
  } else if (parts->count == 1) {
    block->part = parts->at[0];
  }
  return OK;
}

static void remove_part(struct block *block, struct block_part *part)
{
  struct block_part *parts = block_parts(block);
  size_t index = (size_t)(part - parts);
  memmove(part, part + 1, (block->part_count - index - 1) * sizeof *part);
  block->part_count--;
  if (block->part_count != 1) return;
  struct block_part left = parts[0];
  free(parts);
  block->part = left;
}

// One reference that the parts count is not needed any more. What the record of a block says and what the parts say can
// differ only when a checkpoint was made up: then the parts stay until the block is done.
static void part_release(struct catalog *catalog, struct catalog_session *session, struct block *block,
                         const struct reference *reference)
{
  uint32_t segment = position_segment(reference->position);
  struct block_part *part = block_parts(block), *end = part + block->part_count;
  while (part < end && part->segment != segment) part++;
  if (part == end || part->bytes < reference->weight || (part->count == 1 && part->bytes > reference->weight)) {
    block->behind = true;
    return;
  }
  assert(part->count > 0);
  assert(session->waiting_bytes >= reference->weight);
  part->count--;
  part->bytes -= reference->weight;
  session->waiting_bytes -= reference->weight;
  catalog_live_release(catalog, segment, 1, reference->weight);
  if (part->count > 0) return;
  if (block->part_count > 1) {
    remove_part(block, part);
    return;
  }
  catalog_live_release(catalog, position_segment(block->position), 1, BLOCK_BYTES);
  *block = (struct block){.time_s = block->time_s};
}

void catalog_block_release_places(struct catalog *catalog, struct catalog_session *session, size_t index, uint64_t from,
                                  uint64_t to)
{
  struct block *block = block_at(session, index);
  if (block->part_count == 0) return;
  if (to - from == CATALOG_BLOCK) {
    catalog_block_release(catalog, session, block);
    return;
  }
  const struct reference *references = catalog_block_peek(catalog, block);
  if (!references) block->behind = true;
  if (block->behind) return;
  const struct reference *first = &references[from - block_place(session, index)];
  for (uint64_t place = from; place < to && block->part_count > 0 && !block->behind; place++, first++)
    if (first->position && (session->sent_count == 0 || !catalog_place_sent(session, place)))
      part_release(catalog, session, block, first);
}

// ---- Reading

void catalog_cache_destroy(struct block_cache *cache)
{
  if (!cache) return;
  for (size_t i = 0; i < CACHE_BLOCKS; i++) free(cache->blocks[i].references);
  free(cache);
}

static struct cached_block *cache_find(struct block_cache *cache, uint64_t position)
{
  if (!cache || position == 0) return NULL;
  struct cached_block *found = cache->newest && cache->newest->position == position ? cache->newest : NULL;
  for (size_t i = 0; i < CACHE_BLOCKS && !found; i++)
    if (cache->blocks[i].position == position) found = &cache->blocks[i];
  if (!found) return NULL;
  found->used = ++cache->clock;
  cache->newest = found;
  return found;
}

const struct reference *catalog_block_peek(struct catalog *catalog, const struct block *block)
{
  const struct cached_block *cached = cache_find(catalog->cache, block->position);
  return cached ? cached->references : NULL;
}

// The slot that was not used for the longest time, empty. NULL when memory is short.
static struct cached_block *cache_make_room(struct catalog *catalog)
{
  if (!catalog->cache && !(catalog->cache = calloc(1, sizeof *catalog->cache))) return NULL;
  struct block_cache *cache = catalog->cache;
  struct cached_block *oldest = &cache->blocks[0];
  for (size_t i = 1; i < CACHE_BLOCKS; i++)
    if (cache->blocks[i].used < oldest->used) oldest = &cache->blocks[i];
  if (!oldest->references && !(oldest->references = malloc(CATALOG_BLOCK * sizeof *oldest->references))) return NULL;
  oldest->position = 0;
  return oldest;
}

enum status catalog_block_read(struct catalog *catalog, const struct catalog_session *session, size_t index,
                               const struct reference **out)
{
  *out = NULL;
  const struct block *block = block_at(session, index);
  if (block->position == 0) return OK;
  const struct cached_block *found = cache_find(catalog->cache, block->position);
  if (found) {
    *out = found->references;
    return OK;
  }
  struct cached_block *slot = cache_make_room(catalog);
  if (!slot) return ERR_NO_MEMORY;
  struct record_header header;
  struct span body;
  enum status status = catalog->read(catalog->read_context, block->position, &header, &body);
  if (status == ERR_NO_MEMORY) return status;
  struct references references;
  if (status != OK || record_type(&header) != RECORD_REFERENCES || !get_references(body, &references)) return OK;
  if (references.holes || references.session != session->number) return OK;
  if (references.place != block_place(session, index)) return OK;
  memcpy(slot->references, references.at, sizeof references.at);
  slot->position = block->position;
  slot->used = ++catalog->cache->clock;
  catalog->cache->newest = slot;
  *out = slot->references;
  return OK;
}

enum status catalog_block_settle(struct catalog *catalog, struct catalog_session *session, size_t index)
{
  struct block *block = block_at(session, index);
  const struct reference *references;
  enum status status = catalog_block_read(catalog, session, index, &references);
  if (status != OK || !references) return status;
  struct parts parts;
  catalog_parts_count(&parts, session, block_place(session, index), references);
  return catalog_block_set(catalog, session, block, &parts, block->position);
}

enum status catalog_settle(struct catalog *catalog, struct catalog_session *session)
{
  for (size_t i = 0; i < session->block_count; i++) {
    enum status status = block_at(session, i)->behind ? catalog_block_settle(catalog, session, i) : OK;
    if (status != OK) return status;
  }
  return OK;
}

// ---- Applying

// What was behind the last full block is one now.
static enum status begin_block(struct catalog *catalog, struct catalog_session *session, const struct references *references,
                               uint64_t position)
{
  enum status status = catalog_block_reserve(session, 1);
  if (status != OK) return status;
  struct parts parts;
  catalog_parts_count(&parts, session, references->place, references->at);
  struct block *block = block_at(session, session->block_count);
  uint64_t oldest = session->head > references->place ? session->head - references->place : 0;
  *block = (struct block){.time_s = references->at[oldest].time_s};
  status = catalog_block_set(catalog, session, block, &parts, position);
  if (status != OK) return status;
  for (size_t i = 0; i < CATALOG_BLOCK; i++)
    catalog_queue_release_last(catalog, session, &session->last[session->last_first + i]);
  catalog_queue_drop_first_of_last(session, CATALOG_BLOCK);
  session->block_count++;
  return OK;
}

static enum status make_holes(struct catalog *catalog, struct catalog_session *session, uint64_t from, uint64_t to)
{
  uint64_t behind = last_place(session);
  if (from < session->blocks_from) from = session->blocks_from;
  if (to > session->tail) to = session->tail;
  if (from < behind && (from - session->blocks_from) % CATALOG_BLOCK != 0) return ERR_INVALID;
  if (to > from && to < behind && (to - session->blocks_from) % CATALOG_BLOCK != 0) return ERR_INVALID;
  for (; from < to && from < behind; from += CATALOG_BLOCK)
    catalog_block_release(catalog, session, block_at(session, (size_t)((from - session->blocks_from) / CATALOG_BLOCK)));
  for (; from < to; from++) catalog_queue_release_last(catalog, session, last_at(session, from));
  return OK;
}

enum status catalog_apply_references(struct catalog *catalog, struct span body, uint64_t position)
{
  struct references references;
  if (!get_references(body, &references)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, references.session);
  if (!session) return OK;
  if (references.holes) return make_holes(catalog, session, references.place, references.place + references.count);

  uint64_t place = references.place, behind = last_place(session);
  if (place == behind && session->last_count >= CATALOG_BLOCK) return begin_block(catalog, session, &references, position);
  // After damage the blocks may begin elsewhere than when it was written: what it says is known from the messages, then.
  if (place < session->blocks_from || place >= behind || (place - session->blocks_from) % CATALOG_BLOCK != 0) return OK;
  struct parts parts;
  catalog_parts_count(&parts, session, place, references.at);
  struct block *block = block_at(session, (size_t)((place - session->blocks_from) / CATALOG_BLOCK));
  return catalog_block_set(catalog, session, block, &parts, position);
}
