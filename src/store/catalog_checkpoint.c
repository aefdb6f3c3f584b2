// Checkpoints: the whole state as records, a slice at a time. Retained messages and sessions that are new go to the front of
// their lists, so whoever walks to the end meets each old one once; the new ones have records of their own behind the BEGIN.
#include "store/catalog_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
  RETAINED_BYTES = 8192,  // about so much of the retained index in one record
  DROPS_MOST = 256,       // of expired ones beside it
  SCRATCH_KEPT = 1 << 16,
  PLACE_BITS = 62,  // no queue gets that long
};

// No message weighs as much: sums of them stay sums.
#define WEIGHT_BOUND (UINT64_C(1) << 40)

// ---- Walking

void catalog_checkpoint_forget_session(struct catalog *catalog, const struct catalog_session *session)
{
  struct link **next = &catalog->checkpoint.next_session;
  if (*next == &session->link) *next = session->link.next;
}

void catalog_checkpoint_forget_retained(struct catalog *catalog, const struct catalog_retained *retained)
{
  struct link **next = &catalog->checkpoint.next_retained;
  if (*next == &retained->link) *next = retained->link.next;
}

void catalog_checkpoint_cancel(struct catalog *catalog)
{
  catalog->checkpoint = (struct catalog_checkpoint){0};
}

// RECORD_CHECKPOINT_BEGIN: journal time u64.
enum status catalog_checkpoint_begin(struct catalog *catalog, struct buffer *out, uint64_t now_ms)
{
  uint8_t *at = record_put_room(out, RECORD_CHECKPOINT_BEGIN, 8);
  if (!at) return ERR_NO_MEMORY;
  record_write_u64(at, now_ms);
  catalog->checkpoint = (struct catalog_checkpoint){.writing = true,
                                                    .next_retained = catalog->retained_list.next,
                                                    .next_session = catalog->session_list.next,
                                                    .now_ms = now_ms};
  return OK;
}

// ---- The retained index. RECORD_CHECKPOINT_RETAINED: for each of some messages numbers of variable size: position as the
// difference to the last one, expiry, weight, size of the topic; then the topic.

static enum status put_retained(struct buffer *body, const struct catalog_retained *retained, uint64_t *position)
{
  const uint64_t numbers[] = {fold_sign(retained->position - *position), retained->expiry_ms, retained->weight,
                              retained->topic_size};
  *position = retained->position;
  enum status status = catalog_put_varints(body, numbers, sizeof numbers / sizeof numbers[0]);
  return status == OK ? buffer_append(body, retained->topic, retained->topic_size) : status;
}

static enum status put_some_retained(struct catalog *catalog, struct buffer *out)
{
  struct catalog_checkpoint *checkpoint = &catalog->checkpoint;
  struct buffer *body = &catalog->scratch;
  buffer_consume(body, buffer_size(body));
  uint64_t position = 0;
  enum status status = OK;
  struct link *link = checkpoint->next_retained;
  for (int drops = 0; link != &catalog->retained_list && status == OK; link = link->next) {
    if (buffer_size(body) >= RETAINED_BYTES || drops >= DROPS_MOST) break;
    const struct catalog_retained *retained = retained_of(link);
    bool expired = retained->expiry_ms && retained->expiry_ms <= checkpoint->now_ms;
    drops += expired;
    status = expired ? catalog_put_retained_drop(out, retained) : put_retained(body, retained, &position);
  }
  if (status == OK && buffer_size(body) > 0) status = record_put(out, RECORD_CHECKPOINT_RETAINED, buffer_peek(body));
  if (status == OK) checkpoint->next_retained = link;
  return status;
}

struct retained_entry {
  uint64_t position, expiry_ms, weight;
  struct span topic;
};

static bool next_retained(struct record_reader *reader, struct retained_entry *entry)
{
  entry->position += unfold_sign(catalog_read_varint(reader));
  entry->expiry_ms = catalog_read_varint(reader);
  entry->weight = catalog_read_varint(reader);
  uint64_t size = catalog_read_varint(reader);
  if (size > UINT16_MAX) return false;
  entry->topic = record_read_bytes(reader, (size_t)size);
  return !reader->failed && position_segment(entry->position) > 0 && entry->weight > 0 && entry->weight < WEIGHT_BOUND;
}

static enum status restore_retained(struct catalog *catalog, const struct retained_entry *entry)
{
  struct catalog_retained *retained = catalog_retained_find(catalog, entry->topic);
  if (retained && catalog->checkpoint.writing) return OK;
  enum status status = catalog_live_ensure(catalog, position_segment(entry->position));
  if (status == OK && !retained) status = catalog_retained_insert(catalog, entry->topic, &retained);
  if (status != OK) return status;
  catalog_retained_set(catalog, retained, entry->position, entry->weight);
  retained->expiry_ms = entry->expiry_ms;
  return OK;
}

// Applying a part of it twice makes no difference.
enum status catalog_apply_checkpoint_retained(struct catalog *catalog, struct span body)
{
  struct record_reader check = {.rest = body}, reader = check;
  struct retained_entry entry = {0};
  while (check.rest.size > 0)
    if (!next_retained(&check, &entry)) return ERR_INVALID;
  entry = (struct retained_entry){0};
  while (reader.rest.size > 0) {
    bool good = next_retained(&reader, &entry);
    assert(good);
    enum status status = restore_retained(catalog, &entry);
    if (status != OK) return status;
  }
  return OK;
}

// ---- Sessions. RECORD_CHECKPOINT_SESSION: number u32, client identifier (size u16, text), then numbers of variable size:
//   flags (1: connected, 2: a user's), expiry, window, since, sent; will: position, bytes
//   blocks from, head - that, tail - head, each outcome
//   of a user's: size of the user name; the name
//   packet identifiers received: how many, the difference of each to the last one
//   subscriptions: how many, each: identifier, flags as in RECORD_SUBSCRIBE, size of the filter; the filter
//   runs that are done: how many, each: places between the last one (head at first) and it, count
//   places sent: how many, the difference of each to the last one (head at first)
//   blocks: how many, each: differences of position and time, parts * 2 + 1 if behind; each part: difference of the
//     segment, count, bytes
//   the places behind the blocks as references
// Differences of positions, times and segments have a sign.

enum {
  SESSION_CONNECTED = 1,
  SESSION_OWNED = 2,
  SESSION_FLAGS = 3,
  OPTION_QOS = 3,
  OPTION_NO_LOCAL = 4,
  OPTION_AS_PUBLISHED = 8,
  OPTIONS_MOST = 15
};

static enum status put_number(struct buffer *body, uint64_t number)
{
  return catalog_put_varints(body, &number, 1);
}

static enum status put_head(struct buffer *body, const struct catalog_session *session)
{
  uint8_t *at = buffer_reserve(body, 6);
  if (!at) return ERR_NO_MEMORY;
  assert(session->client_id.size <= UINT16_MAX);
  record_write_u16(record_write_u32(at, session->number), (uint16_t)session->client_id.size);
  buffer_commit(body, 6);
  enum status status = buffer_append(body, session->client_id.at, session->client_id.size);
  if (status != OK) return status;
  unsigned flags = (session->connected ? SESSION_CONNECTED : 0u) | (session->user_size > 0 ? SESSION_OWNED : 0u);
  const uint64_t numbers[] = {flags,
                              session->expiry_s,
                              session->window,
                              session->since_ms,
                              session->sent,
                              session->will_position,
                              session->will_bytes,
                              session->blocks_from,
                              session->head - session->blocks_from,
                              session->tail - session->head};
  status = catalog_put_varints(body, numbers, sizeof numbers / sizeof numbers[0]);
  if (status == OK) status = catalog_put_varints(body, session->outcomes, OUTCOMES);
  if (status != OK || session->user_size == 0) return status;
  status = put_number(body, session->user_size);
  return status == OK ? buffer_append(body, catalog_owner(session).at, session->user_size) : status;
}

static enum status put_received(struct buffer *body, const struct catalog_session *session)
{
  enum status status = put_number(body, session->received_count);
  uint64_t before = 0;
  for (size_t i = 0; i < session->received_count && status == OK; i++) {
    status = put_number(body, session->received[i] - before);
    before = session->received[i];
  }
  return status;
}

static enum status put_subscriptions(struct buffer *body, const struct catalog_session *session)
{
  enum status status = put_number(body, session->subscription_count);
  for (size_t i = 0; i < session->subscription_count && status == OK; i++) {
    const struct catalog_subscription *subscription = session->subscriptions[i];
    unsigned options = subscription->qos | (subscription->no_local ? OPTION_NO_LOCAL : 0u) |
                       (subscription->retain_as_published ? OPTION_AS_PUBLISHED : 0u);
    const uint64_t numbers[] = {subscription->id, options, subscription->filter_size};
    status = catalog_put_varints(body, numbers, sizeof numbers / sizeof numbers[0]);
    if (status == OK) status = buffer_append(body, subscription->filter, subscription->filter_size);
  }
  return status;
}

static enum status put_places(struct buffer *body, const struct catalog_session *session)
{
  enum status status = put_number(body, session->done_count);
  uint64_t before = session->head;
  for (size_t i = 0; i < session->done_count && status == OK; i++) {
    const uint64_t numbers[] = {session->done[i].from - before, session->done[i].count};
    status = catalog_put_varints(body, numbers, 2);
    before = session->done[i].from + session->done[i].count;
  }
  if (status == OK) status = put_number(body, session->sent_count);
  before = session->head;
  for (size_t i = 0; i < session->sent_count && status == OK; i++) {
    status = put_number(body, session->sent_places[i] - before);
    before = session->sent_places[i];
  }
  return status;
}

// What a block is written relative to.
struct block_coder {
  uint64_t position, time_s, segment;
};

static enum status put_block_state(struct buffer *body, struct block_coder *coder, const struct block *block)
{
  const uint64_t numbers[] = {fold_sign(block->position - coder->position), fold_sign(block->time_s - coder->time_s),
                              (uint64_t)block->part_count * 2 + (block->behind ? 1 : 0)};
  coder->position = block->position;
  coder->time_s = block->time_s;
  enum status status = catalog_put_varints(body, numbers, sizeof numbers / sizeof numbers[0]);
  const struct block_part *parts = block_parts_const(block);
  for (size_t i = 0; i < block->part_count && status == OK; i++) {
    const uint64_t part[] = {fold_sign(parts[i].segment - coder->segment), parts[i].count, parts[i].bytes};
    coder->segment = parts[i].segment;
    status = catalog_put_varints(body, part, sizeof part / sizeof part[0]);
  }
  return status;
}

static enum status put_queue(struct buffer *body, const struct catalog_session *session)
{
  enum status status = put_number(body, session->block_count);
  struct block_coder block_coder = {0};
  for (size_t i = 0; i < session->block_count && status == OK; i++)
    status = put_block_state(body, &block_coder, block_at(session, i));
  struct reference_coder coder = {0};
  for (size_t i = 0; i < session->last_count && status == OK; i++) {
    uint8_t *at = buffer_reserve(body, REFERENCE_MOST);
    if (!at) return ERR_NO_MEMORY;
    buffer_commit(body, (size_t)(catalog_write_reference(at, &coder, &session->last[session->last_first + i]) - at));
  }
  return status;
}

static enum status put_session(struct catalog *catalog, const struct catalog_session *session, struct buffer *out)
{
  struct buffer *body = &catalog->scratch;
  buffer_consume(body, buffer_size(body));
  enum status status = put_head(body, session);
  if (status == OK) status = put_received(body, session);
  if (status == OK) status = put_subscriptions(body, session);
  if (status == OK) status = put_places(body, session);
  if (status == OK) status = put_queue(body, session);
  return status == OK ? record_put(out, RECORD_CHECKPOINT_SESSION, buffer_peek(body)) : status;
}

bool catalog_get_checkpoint_session(struct span body, uint32_t *out_session, struct span *out_client_id)
{
  struct record_reader reader = {.rest = body};
  *out_session = record_read_u32(&reader);
  *out_client_id = record_read_bytes(&reader, record_read_u16(&reader));
  return !reader.failed;
}

// ---- Reading them

static bool get_head(struct record_reader *reader, struct catalog_session *session, bool *out_owned)
{
  uint64_t flags = catalog_read_varint(reader);
  uint64_t expiry_s = catalog_read_varint(reader);
  uint64_t window = catalog_read_varint(reader);
  session->connected = flags & SESSION_CONNECTED;
  *out_owned = flags & SESSION_OWNED;
  session->expiry_s = (uint32_t)expiry_s;
  session->window = (uint16_t)window;
  session->since_ms = catalog_read_varint(reader);
  session->sent = catalog_read_varint(reader);
  session->will_position = catalog_read_varint(reader);
  session->will_bytes = catalog_read_varint(reader);
  session->blocks_from = catalog_read_varint(reader);
  uint64_t in_block = catalog_read_varint(reader);
  uint64_t length = catalog_read_varint(reader);
  if (in_block >= CATALOG_BLOCK || session->blocks_from >> PLACE_BITS || length >> PLACE_BITS) return false;
  session->head = session->blocks_from + in_block;
  session->tail = session->head + length;
  session->waiting = length;
  for (size_t i = 0; i < OUTCOMES; i++) session->outcomes[i] = catalog_read_varint(reader);
  return !reader->failed && flags <= SESSION_FLAGS && expiry_s <= UINT32_MAX && window <= UINT16_MAX &&
         (session->will_position == 0 || session->will_bytes > 0) &&
         (position_segment(session->will_position) > 0) == (session->will_bytes > 0) && session->will_bytes <= UINT32_MAX;
}

static bool get_owner(struct record_reader *reader, struct span *out)
{
  uint64_t size = catalog_read_varint(reader);
  if (size == 0 || size > UINT16_MAX) return false;
  *out = record_read_bytes(reader, (size_t)size);
  return !reader->failed;
}

struct span catalog_get_checkpoint_owner(struct span body)
{
  uint32_t number;
  struct catalog_session session = {0};
  struct span user = {0};
  bool owned = false;
  struct record_reader reader = {0};
  if (!catalog_get_checkpoint_session(body, &number, &session.client_id)) return user;
  reader.rest = span_from(body, 6 + session.client_id.size);
  if (!get_head(&reader, &session, &owned) || !owned || !get_owner(&reader, &user)) return (struct span){0};
  return user;
}

// How many things follow; each takes a byte at least.
static bool get_count(struct record_reader *reader, size_t *out)
{
  uint64_t count = catalog_read_varint(reader);
  *out = (size_t)count;
  return !reader->failed && count <= reader->rest.size;
}

static enum status get_received(struct record_reader *reader, struct catalog_session *session)
{
  size_t count;
  if (!get_count(reader, &count) || count > UINT16_MAX) return ERR_INVALID;
  if (count == 0) return OK;
  session->received = malloc(count * sizeof *session->received);
  if (!session->received) return ERR_NO_MEMORY;
  session->received_capacity = count;
  uint64_t id = 0;
  for (size_t i = 0; i < count; i++) {
    uint64_t step = catalog_read_varint(reader);
    if (reader->failed || step == 0 || step > UINT16_MAX - id) return ERR_INVALID;
    id += step;
    session->received[session->received_count++] = (uint16_t)id;
  }
  return OK;
}

static enum status get_subscriptions(const struct catalog *catalog, struct record_reader *reader,
                                     struct catalog_session *session)
{
  size_t count;
  if (!get_count(reader, &count)) return ERR_INVALID;
  for (size_t i = 0; i < count; i++) {
    uint64_t id = catalog_read_varint(reader), options = catalog_read_varint(reader), size = catalog_read_varint(reader);
    if (reader->failed || id > UINT32_MAX || options > OPTIONS_MOST || size > UINT16_MAX) return ERR_INVALID;
    struct record_subscribe record = {.id = (uint32_t)id,
                                      .qos = options & OPTION_QOS,
                                      .no_local = options & OPTION_NO_LOCAL,
                                      .retain_as_published = options & OPTION_AS_PUBLISHED,
                                      .filter = record_read_bytes(reader, (size_t)size)};
    if (reader->failed || record.qos > 2) return ERR_INVALID;
    enum status status = catalog_session_subscribe(catalog, session, &record);
    if (status != OK) return status;
  }
  return OK;
}

static enum status get_runs(struct record_reader *reader, struct catalog_session *session)
{
  size_t count;
  if (!get_count(reader, &count)) return ERR_INVALID;
  if (count == 0) return OK;
  session->done = malloc(count * sizeof *session->done);
  if (!session->done) return ERR_NO_MEMORY;
  session->done_capacity = count;
  uint64_t place = session->head;
  for (size_t i = 0; i < count; i++) {
    uint64_t gap = catalog_read_varint(reader), length = catalog_read_varint(reader);
    if (reader->failed || gap == 0 || gap > session->tail - place) return ERR_INVALID;
    place += gap;
    if (length == 0 || length > session->tail - place) return ERR_INVALID;
    session->done[session->done_count++] = (struct run){.from = place, .count = length};
    session->waiting -= length;
    place += length;
  }
  return OK;
}

static enum status get_sent(struct record_reader *reader, struct catalog_session *session)
{
  size_t count;
  if (!get_count(reader, &count)) return ERR_INVALID;
  if (count == 0) return OK;
  session->sent_places = malloc(count * sizeof *session->sent_places);
  if (!session->sent_places) return ERR_NO_MEMORY;
  session->sent_capacity = count;
  uint64_t place = session->head;
  for (size_t i = 0; i < count; i++) {
    uint64_t step = catalog_read_varint(reader);
    if (reader->failed || step >= session->tail - place || (step == 0 && i > 0)) return ERR_INVALID;
    place += step;
    if (catalog_place_done(session, place)) return ERR_INVALID;
    session->sent_places[session->sent_count++] = place;
  }
  return OK;
}

static bool get_part(struct record_reader *reader, struct block_coder *coder, struct block_part *part)
{
  coder->segment += unfold_sign(catalog_read_varint(reader));
  uint64_t count = catalog_read_varint(reader);
  uint64_t bytes = catalog_read_varint(reader);
  if (reader->failed || coder->segment == 0 || coder->segment > UINT32_MAX || count == 0 || count > CATALOG_BLOCK)
    return false;
  if (bytes == 0 || bytes > count * UINT32_MAX) return false;
  *part = (struct block_part){.bytes = bytes, .segment = (uint32_t)coder->segment, .count = (uint32_t)count};
  return true;
}

static enum status get_block(struct record_reader *reader, struct block_coder *coder, struct block *block)
{
  coder->position += unfold_sign(catalog_read_varint(reader));
  coder->time_s += unfold_sign(catalog_read_varint(reader));
  uint64_t parts = catalog_read_varint(reader);
  if (reader->failed || coder->time_s > UINT32_MAX || parts / 2 > CATALOG_BLOCK) return ERR_INVALID;
  if ((position_segment(coder->position) > 0) != (parts / 2 > 0)) return ERR_INVALID;
  if (parts / 2 == 0 && coder->position != 0) return ERR_INVALID;
  *block = (struct block){.position = coder->position, .time_s = (uint32_t)coder->time_s, .behind = parts & 1};
  struct block_part *at = &block->part;
  if (parts / 2 > 1) {
    at = malloc((size_t)(parts / 2) * sizeof *at);
    if (!at) return ERR_NO_MEMORY;
    block->parts = at;
  }
  block->part_count = (uint16_t)(parts / 2);
  uint32_t count = 0;
  for (size_t i = 0; i < parts / 2; i++) {
    bool good = get_part(reader, coder, &at[i]);
    for (size_t k = 0; k < i && good; k++) good = at[k].segment != at[i].segment;
    if (good) count += at[i].count;
    if (good && count <= CATALOG_BLOCK) continue;
    if (parts / 2 > 1) free(at);
    return ERR_INVALID;
  }
  return OK;
}

static enum status get_blocks(struct record_reader *reader, struct catalog_session *session)
{
  size_t count;
  if (!get_count(reader, &count)) return ERR_INVALID;
  if (count > (session->tail - session->blocks_from) / CATALOG_BLOCK) return ERR_INVALID;
  if (count == 0) return session->head == session->blocks_from ? OK : ERR_INVALID;
  session->blocks = malloc(count * sizeof *session->blocks);
  if (!session->blocks) return ERR_NO_MEMORY;
  session->block_capacity = count;
  struct block_coder coder = {0};
  for (size_t i = 0; i < count; i++) {
    enum status status = get_block(reader, &coder, &session->blocks[i]);
    if (status != OK) return status;
    session->block_count++;
  }
  return OK;
}

static enum status get_last(struct record_reader *reader, struct catalog_session *session)
{
  uint64_t count = session->tail - last_place(session);
  if (count > reader->rest.size) return ERR_INVALID;
  if (count == 0) return OK;
  session->last = malloc((size_t)count * sizeof *session->last);
  if (!session->last) return ERR_NO_MEMORY;
  session->last_capacity = (size_t)count;
  struct reference_coder coder = {0};
  for (size_t i = 0; i < count; i++) {
    session->last[i] = catalog_read_reference(reader, &coder);
    uint64_t place = last_place(session) + i;
    if (reader->failed) return ERR_INVALID;
    if (session->last[i].position && (catalog_place_done(session, place) || catalog_place_sent(session, place)))
      return ERR_INVALID;
    session->last_count++;
  }
  return OK;
}

static enum status get_session(const struct catalog *catalog, struct record_reader *reader, struct catalog_session *session)
{
  bool owned;
  struct span user = {0};
  if (!get_head(reader, session, &owned) || (owned && !get_owner(reader, &user))) return ERR_INVALID;
  enum status status = owned ? catalog_session_own(session, user) : OK;
  if (status == OK) status = get_received(reader, session);
  if (status == OK) status = get_subscriptions(catalog, reader, session);
  if (status == OK) status = get_runs(reader, session);
  if (status == OK) status = get_sent(reader, session);
  if (status == OK) status = get_blocks(reader, session);
  if (status == OK) status = get_last(reader, session);
  if (status != OK) return status;
  uint64_t places = session->waiting;
  for (size_t i = 0; i < OUTCOMES; i++) places += session->outcomes[i];
  return reader->rest.size == 0 && places == session->tail ? OK : ERR_INVALID;
}

// ---- Applying

static enum status ensure_all(struct catalog *catalog, const struct catalog_session *session)
{
  enum status status = session->will_position ? catalog_live_ensure(catalog, position_segment(session->will_position)) : OK;
  for (size_t i = 0; i < session->block_count && status == OK; i++) {
    const struct block *block = block_at(session, i);
    const struct block_part *parts = block_parts_const(block);
    if (block->part_count > 0) status = catalog_live_ensure(catalog, position_segment(block->position));
    for (size_t k = 0; k < block->part_count && status == OK; k++) status = catalog_live_ensure(catalog, parts[k].segment);
  }
  for (size_t i = 0; i < session->last_count && status == OK; i++)
    if (session->last[i].position) status = catalog_live_ensure(catalog, position_segment(session->last[i].position));
  return status;
}

static void count_all(struct catalog *catalog, struct catalog_session *session)
{
  if (session->will_position) catalog_live_add(catalog, position_segment(session->will_position), 1, session->will_bytes);
  for (size_t i = 0; i < session->block_count; i++) {
    const struct block *block = block_at(session, i);
    const struct block_part *parts = block_parts_const(block);
    if (block->part_count > 0) catalog_live_add(catalog, position_segment(block->position), 1, BLOCK_BYTES);
    for (size_t k = 0; k < block->part_count; k++) {
      catalog_live_add(catalog, parts[k].segment, parts[k].count, parts[k].bytes);
      session->waiting_bytes += parts[k].bytes;
    }
  }
  for (size_t i = 0; i < session->last_count; i++) {
    const struct reference *reference = &session->last[i];
    if (reference->position == 0) continue;
    catalog_live_add(catalog, position_segment(reference->position), 1, reference->weight);
    session->waiting_bytes += reference->weight;
  }
}

// The known session gets the state of the other one, which is used up.
static void replace(struct catalog *catalog, struct catalog_session *known, struct catalog_session *fresh)
{
  catalog_session_release(catalog, known);
  struct catalog_session before = *known;
  *known = *fresh;
  known->link = before.link;
  known->ripe = before.ripe;
  *fresh = before;
  list_init(&fresh->link);
  catalog_session_free(fresh);
}

enum status catalog_apply_checkpoint_session(struct catalog *catalog, struct span body)
{
  uint32_t number;
  struct span client_id;
  if (!catalog_get_checkpoint_session(body, &number, &client_id)) return ERR_INVALID;
  struct catalog_session *known = catalog_find(catalog, number);
  if (known && catalog->checkpoint.writing) return OK;  // it says what is so

  struct catalog_session *fresh = catalog_session_create(number, client_id);
  if (!fresh) return ERR_NO_MEMORY;
  struct record_reader reader = {.rest = span_from(body, 6 + client_id.size)};
  enum status status = get_session(catalog, &reader, fresh);
  if (status == OK) status = ensure_all(catalog, fresh);
  if (status == OK && !known) status = catalog_session_insert(catalog, fresh);
  if (status != OK) {
    catalog_session_free(fresh);
    return status;
  }
  count_all(catalog, fresh);
  if (known)
    replace(catalog, known, fresh);
  else
    known = fresh;
  catalog_queue_look_ripe(catalog, known);
  return OK;
}

// RECORD_CHECKPOINT_END: next session number u32, sessions u32, retained messages u64.
enum { END_SIZE = 16 };

enum status catalog_apply_checkpoint_end(struct catalog *catalog, struct span body)
{
  struct record_reader reader = {.rest = body};
  uint32_t next_session = record_read_u32(&reader);
  if (body.size != END_SIZE) return ERR_INVALID;
  if (next_session > catalog->next_session) catalog->next_session = next_session;
  catalog_checkpoint_cancel(catalog);
  return OK;
}

// ---- Slices

static enum status put_end(const struct catalog *catalog, struct buffer *out)
{
  uint8_t *at = record_put_room(out, RECORD_CHECKPOINT_END, END_SIZE);
  if (!at) return ERR_NO_MEMORY;
  at = record_write_u32(at, catalog->next_session);
  at = record_write_u32(at, (uint32_t)catalog->sessions.count);
  record_write_u64(at, catalog->retained.count);
  return OK;
}

enum status catalog_checkpoint_slice(struct catalog *catalog, struct buffer *out, size_t budget, bool *out_done)
{
  struct catalog_checkpoint *checkpoint = &catalog->checkpoint;
  assert(checkpoint->writing);
  size_t before = buffer_size(out);
  enum status status = OK;
  bool retained_left = true, sessions_left = true;
  do {
    retained_left = checkpoint->next_retained != &catalog->retained_list;
    sessions_left = checkpoint->next_session != &catalog->session_list;
    if (retained_left) {
      status = put_some_retained(catalog, out);
    } else if (sessions_left) {
      status = put_session(catalog, session_of(checkpoint->next_session), out);
      if (status == OK) checkpoint->next_session = checkpoint->next_session->next;
    } else {
      status = put_end(catalog, out);
    }
  } while (status == OK && (retained_left || sessions_left) && buffer_size(out) - before < budget);
  if (status == OK) *out_done = !retained_left && !sessions_left;
  if (catalog->scratch.capacity > SCRATCH_KEPT) buffer_deinit(&catalog->scratch);
  return status;
}
