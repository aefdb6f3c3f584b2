#include "catalog_rig.h"

// ---- The log

static enum status read_record(void *context, uint64_t position, struct record_header *out_header, struct span *out_body)
{
  struct rig *rig = context;
  size_t low = 0, high = rig->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (rig->records[middle].position < position)
      low = middle + 1;
    else
      high = middle;
  }
  // Only what is referred to is ever read.
  assert_true(low < rig->count);
  const struct rig_record *record = &rig->records[low];
  assert_int_equal(record->position, position);
  if (record->gone) return ERR_INVALID;
  free(rig->lent);
  rig->lent = malloc(record->body.size + 1);
  if (!rig->lent) return ERR_NO_MEMORY;
  memcpy(rig->lent, record->body.at, record->body.size);
  *out_header =
      (struct record_header){.size = (uint32_t)record->body.size, .mark = (uint64_t)record->type << RECORD_SEQUENCE_BITS};
  *out_body = span_of(rig->lent, record->body.size);
  return OK;
}

static void catalog_begin(struct rig *rig, struct catalog *catalog)
{
  catalog_init(catalog, read_record, rig);
  catalog->seed = 77;
}

void rig_init(struct rig *rig, uint64_t segment_bytes)
{
  *rig = (struct rig){
      .segment_bytes = segment_bytes, .next = position_of(1, 64), .next_session = 1, .next_message = 1, .time_ms = 5000};
  catalog_begin(rig, &rig->catalog);
}

void rig_deinit(struct rig *rig)
{
  catalog_deinit(&rig->catalog);
  for (size_t i = 0; i < rig->count; i++) free((void *)(uintptr_t)rig->records[i].body.at);
  for (size_t i = 0; i < rig->session_count; i++) free(rig->sessions[i].entries);
  free(rig->records);
  free(rig->lent);
  free(rig->sessions);
  buffer_deinit(&rig->batch);
  buffer_deinit(&rig->targets);
}

struct rig *rig_make(void **state, uint64_t segment_bytes)
{
  struct rig *rig = malloc(sizeof *rig);
  assert_non_null(rig);
  rig_init(rig, segment_bytes);
  *state = rig;
  return rig;
}

int rig_free(void **state)
{
  rig_deinit(*state);
  free(*state);
  return 0;
}

uint32_t rig_segment(const struct rig *rig)
{
  return position_segment(rig->next);
}

void rig_begin_segment(struct rig *rig)
{
  rig->next = position_of(position_segment(rig->next) + 1, 64);
}

void rig_put(struct rig *rig, enum record_type type, struct span body)
{
  uint64_t length = record_length((uint32_t)body.size);
  if (position_offset(rig->next) + length > rig->segment_bytes) rig_begin_segment(rig);
  if (rig->count == rig->capacity) {
    rig->capacity = rig->capacity > 0 ? rig->capacity * 2 : 1024;
    rig->records = realloc(rig->records, rig->capacity * sizeof *rig->records);
    assert_non_null(rig->records);
  }
  uint8_t *copy = malloc(body.size + 1);
  assert_non_null(copy);
  if (body.size > 0) memcpy(copy, body.at, body.size);
  rig->records[rig->count++] = (struct rig_record){.type = type, .position = rig->next, .body = span_of(copy, body.size)};
  if (type == RECORD_CHECKPOINT_BEGIN) rig->begun = rig->count - 1;
  if (type == RECORD_CHECKPOINT_END) rig->replay_from = rig->begun;
  uint64_t position = rig->next;
  rig->next += length;
  enum status status = rig->fail_allocation ? ERR_NO_MEMORY : OK;
  for (long n = 0; status == ERR_NO_MEMORY; n++) {
    rig->fail_allocation(n);
    status = catalog_apply(&rig->catalog, type, span_of(copy, body.size), position);
    rig->fail_allocation(-1);
    if (status == ERR_NO_MEMORY) check_live(&rig->catalog);
  }
  if (!rig->fail_allocation) status = catalog_apply(&rig->catalog, type, span_of(copy, body.size), position);
  assert_ok(status);
}

void rig_write(struct rig *rig)
{
  struct record_reader reader = {.rest = buffer_peek(&rig->batch)};
  while (reader.rest.size > 0) {
    record_read_u32(&reader);
    struct record_header header = {.size = record_read_u32(&reader)};
    header.mark = record_read_u64(&reader);
    struct span body = record_read_bytes(&reader, header.size);
    record_read_bytes(&reader, (size_t)(record_length(header.size) - sizeof header - header.size));
    assert_false(reader.failed);
    rig_put(rig, record_type(&header), body);
  }
  buffer_consume(&rig->batch, buffer_size(&rig->batch));
}

static void wipe(struct rig *rig, uint32_t segment)
{
  for (size_t i = 0; i < rig->count; i++)
    if (position_segment(rig->records[i].position) == segment) rig->records[i].gone = true;
}

void rig_remove_dead(struct rig *rig)
{
  if (rig->count == 0) return;
  uint32_t end = position_segment(rig->records[rig->replay_from].position);
  for (uint32_t segment = 1; segment < end; segment++)
    if (!catalog_live(&rig->catalog, segment)) wipe(rig, segment);
}

void rig_damage_segment(struct rig *rig, uint32_t segment)
{
  wipe(rig, segment);
}

void rig_references(struct rig *rig)
{
  bool more = true;
  while (more) {
    assert_ok(catalog_put_references(&rig->catalog, &rig->batch, 4000, &more));
    rig_write(rig);
  }
}

void rig_checkpoint(struct rig *rig, size_t slice)
{
  assert_ok(catalog_checkpoint_begin(&rig->catalog, &rig->batch, rig->time_ms));
  for (bool done = false; !done;) {
    assert_ok(catalog_checkpoint_slice(&rig->catalog, &rig->batch, slice, &done));
    rig_write(rig);
  }
}

void rig_copy_segment(struct rig *rig, uint32_t segment)
{
  for (size_t i = 0; i < rig->count && position_segment(rig->records[i].position) <= segment; i++) {
    struct rig_record record = rig->records[i];
    if (position_segment(record.position) != segment || record.gone) continue;
    struct record_header header = {.size = (uint32_t)record.body.size,
                                   .mark = (uint64_t)record.type << RECORD_SEQUENCE_BITS};
    assert_ok(catalog_put_copy(&rig->catalog, &header, record.body, record.position, &rig->batch));
    if (i % 7 == 0) rig_write(rig);
  }
  rig_write(rig);
  assert_ok(catalog_put_moved(&rig->catalog, &rig->batch));
  rig_write(rig);
}

// ---- Doing things, in the log and in the model

struct model_session *rig_session(struct rig *rig)
{
  // Pointers to sessions stay good: room for all is made at once.
  enum { SESSIONS_MOST = 512 };
  if (!rig->sessions) rig->sessions = calloc(SESSIONS_MOST, sizeof *rig->sessions);
  assert_non_null(rig->sessions);
  assert_true(rig->session_count < SESSIONS_MOST);
  struct model_session *session = &rig->sessions[rig->session_count++];
  *session = (struct model_session){.number = rig->next_session++, .alive = true, .connected = true};
  char id[32];
  snprintf(id, sizeof id, "client-%u", session->number);
  if (session->number % 2 == 0) snprintf(session->user, sizeof session->user, "user-%u", session->number % 5);
  struct record_session record = {
      .session = session->number, .expiry_s = 3600, .client_id = span_text(id), .user = span_text(session->user)};
  assert_ok(record_put_session(&rig->batch, &record));
  rig_write(rig);
  return session;
}

void rig_own(struct rig *rig, struct model_session *session, const char *user)
{
  struct record_owner record = {.session = session->number, .user = span_text(user)};
  assert_ok(record_put_owner(&rig->batch, &record));
  rig_write(rig);
  snprintf(session->user, sizeof session->user, "%s", user);
}

void rig_end(struct rig *rig, struct model_session *session)
{
  struct record_session_end record = {.session = session->number};
  assert_ok(record_put_session_end(&rig->batch, &record));
  rig_write(rig);
  session->alive = false;
  free(session->entries);
  session->entries = NULL;
  session->count = session->capacity = 0;
}

void rig_away(struct rig *rig, struct model_session *session)
{
  struct record_session_away record = {
      .session = session->number, .expiry_s = 7200, .since_ms = rig->time_ms, .sent = model_head(session) + 3};
  assert_ok(record_put_session_away(&rig->batch, &record));
  rig_write(rig);
  session->connected = false;
}

void rig_back(struct rig *rig, struct model_session *session)
{
  struct record_session_back record = {.session = session->number, .expiry_s = 1800, .window = 20};
  assert_ok(record_put_session_back(&rig->batch, &record));
  rig_write(rig);
  session->connected = true;
}

static void model_add(struct model_session *session, struct model_entry entry)
{
  if (session->count == session->capacity) {
    session->capacity = session->capacity > 0 ? session->capacity * 2 : 64;
    session->entries = realloc(session->entries, session->capacity * sizeof *session->entries);
    assert_non_null(session->entries);
  }
  session->entries[session->count++] = entry;
}

static struct span topic_text(unsigned topic, char text[static 32])
{
  snprintf(text, 32, "plant/%u/temperature", topic);
  return span_text(text);
}

uint64_t rig_message(struct rig *rig, struct model_session *const *to, size_t count, const struct message_options *options)
{
  uint8_t payload[64], properties[4];
  uint32_t number = rig->next_message++;
  record_write_u32(properties, number);
  memset(payload, 'x', sizeof payload);
  char topic[32];
  rig->time_ms += 10;
  struct record_message message = {.qos = 1,
                                   .time_ms = rig->time_ms,
                                   .expiry_ms = options->expiry_ms,
                                   .origin = 99,
                                   .store = options->topic < MODEL_TOPICS,
                                   .topic = topic_text(options->topic, topic),
                                   .payload = span_of(payload, options->empty ? 0 : 1 + number % 63),
                                   .properties = span_of(properties, sizeof properties),
                                   .has_publisher = options->publisher != NULL,
                                   .publisher = options->publisher ? options->publisher->number : 0,
                                   .packet_id = options->packet_id,
                                   .target_count = (uint32_t)count};
  struct model_entry entry = {
      .message = number, .weight = (uint32_t)record_message_weight(&message), .time_s = (uint32_t)(rig->time_ms / 1000)};
  for (size_t i = 0; i < count; i++) {
    struct record_target target = {.session = to[i]->number, .place = (uint32_t)to[i]->count, .qos = 1};
    const uint32_t id = number;
    target.id_count = (uint16_t)(number % 2);
    assert_ok(record_put_target(&rig->targets, &target, &id));
    model_add(to[i], entry);
  }
  message.targets = buffer_peek(&rig->targets);
  assert_ok(record_put_message(&rig->batch, &message));
  buffer_consume(&rig->targets, buffer_size(&rig->targets));
  rig_write(rig);
  if (options->publisher) options->publisher->received[options->packet_id] = true;
  if (options->topic < MODEL_TOPICS) {
    rig->retained[options->topic] = options->empty ? 0 : number;
    rig->retained_expiry_ms[options->topic] = options->expiry_ms;
  }
  return rig->records[rig->count - 1].position;
}

void rig_messages(struct rig *rig, struct model_session *session, size_t count)
{
  const struct message_options plain = {.topic = MODEL_TOPICS};
  for (size_t i = 0; i < count; i++) rig_message(rig, &session, 1, &plain);
}

void rig_done(struct rig *rig, struct model_session *session, uint64_t place, uint32_t count, enum record_outcome outcome)
{
  struct record_done record = {.session = session->number, .place = place, .count = count, .outcome = outcome};
  assert_ok(record_put_done(&rig->batch, &record));
  rig_write(rig);
  for (uint64_t i = place; i < session->count && count > 0; i++) {
    if (session->entries[i].state == MODEL_DONE) continue;
    session->entries[i].state = MODEL_DONE;
    session->outcomes[outcome]++;
    count--;
  }
}

void rig_sent(struct rig *rig, struct model_session *session, uint64_t place)
{
  struct record_sent record = {.session = session->number, .place = place};
  assert_ok(record_put_sent(&rig->batch, &record));
  rig_write(rig);
  if (place < session->count && session->entries[place].state == MODEL_WAITING) session->entries[place].state = MODEL_SENT;
}

void rig_will(struct rig *rig, struct model_session *session, bool set)
{
  struct record_will record = {.session = session->number, .delay_s = 5, .qos = 1};
  if (set) {
    record.topic = span_text("gone");
    record.payload = span_text("he is");
  }
  assert_ok(record_put_will(&rig->batch, &record));
  rig_write(rig);
  session->has_will = set;
}

uint64_t model_head(const struct model_session *session)
{
  uint64_t head = 0;
  while (head < session->count && session->entries[head].state == MODEL_DONE) head++;
  return head;
}

uint64_t model_waiting(const struct model_session *session)
{
  uint64_t waiting = 0;
  for (size_t i = 0; i < session->count; i++) waiting += session->entries[i].state != MODEL_DONE;
  return waiting;
}

// ---- Counting what lives

struct count {
  struct segment_live *live;
  size_t count;
};

static void count_add(struct count *count, uint64_t position, uint64_t references, uint64_t bytes)
{
  uint32_t segment = position_segment(position);
  assert_int_not_equal(segment, 0);
  size_t i = 0;
  while (i < count->count && count->live[i].segment < segment) i++;
  if (i == count->count || count->live[i].segment != segment) {
    count->live = realloc(count->live, (count->count + 1) * sizeof *count->live);
    assert_non_null(count->live);
    memmove(&count->live[i + 1], &count->live[i], (count->count - i) * sizeof *count->live);
    count->live[i] = (struct segment_live){.segment = segment};
    count->count++;
  }
  count->live[i].references += references;
  count->live[i].bytes += bytes;
}

static void count_block(struct count *count, const struct block *block, uint64_t *bytes)
{
  assert_int_equal(block->position == 0, block->part_count == 0);
  if (block->part_count == 0) return;
  count_add(count, block->position, 1, 1536);
  const struct block_part *parts = block->part_count > 1 ? block->parts : &block->part;
  uint32_t references = 0;
  for (size_t i = 0; i < block->part_count; i++) {
    assert_true(parts[i].count > 0);
    count_add(count, position_of(parts[i].segment, 0), parts[i].count, parts[i].bytes);
    *bytes += parts[i].bytes;
    references += parts[i].count;
  }
  assert_true(references <= CATALOG_BLOCK);
}

static void count_session(struct count *count, const struct catalog_session *session)
{
  uint64_t bytes = 0, outcomes = 0;
  for (size_t i = 0; i < session->block_count; i++) count_block(count, &session->blocks[session->block_first + i], &bytes);
  for (size_t i = 0; i < session->last_count; i++) {
    const struct reference *reference = &session->last[session->last_first + i];
    assert_int_equal(reference->position == 0, reference->weight == 0);
    if (reference->position == 0) continue;
    count_add(count, reference->position, 1, reference->weight);
    bytes += reference->weight;
  }
  if (session->will_position) count_add(count, session->will_position, 1, session->will_bytes);
  assert_int_equal(bytes, session->waiting_bytes);
  assert_int_equal(session->blocks_from + session->block_count * CATALOG_BLOCK + session->last_count, session->tail);
  assert_true(session->blocks_from <= session->head);
  assert_true(session->head <= session->tail);
  for (size_t i = 0; i < OUTCOMES; i++) outcomes += session->outcomes[i];
  assert_int_equal(session->waiting + outcomes, session->tail);
  assert_int_equal(session->planned, 0);
}

static struct count count_all(const struct catalog *catalog, bool with_moved)
{
  struct count count = {0};
  size_t cursor = 0;
  for (const struct catalog_session *session; (session = map_next(&catalog->sessions, &cursor));)
    count_session(&count, session);
  uint64_t bytes = 0;
  cursor = 0;
  for (const struct catalog_retained *retained; (retained = map_next(&catalog->retained, &cursor));) {
    count_add(&count, retained->position, 1, retained->weight);
    bytes += retained->weight;
  }
  assert_int_equal(bytes, catalog->retained_bytes);
  for (size_t i = 0; i < catalog->moved_count && with_moved; i++) count_add(&count, catalog->moved[i].to, 1, 0);
  return count;
}

void check_live(const struct catalog *catalog)
{
  struct count count = count_all(catalog, true);
  size_t alive = 0;
  for (size_t i = 0; i < catalog->live_count; i++) alive += catalog->live[i].references > 0;
  assert_int_equal(count.count, alive);
  for (size_t i = 0; i < count.count; i++) {
    const struct segment_live *live = catalog_live(catalog, count.live[i].segment);
    assert_non_null(live);
    assert_int_equal(live->references, count.live[i].references);
    assert_int_equal(live->bytes, count.live[i].bytes);
  }
  free(count.live);
}

// ---- The model

static const struct rig_record *record_at(struct rig *rig, uint64_t position)
{
  struct record_header header;
  struct span body;
  assert_ok(read_record(rig, position, &header, &body));
  size_t low = 0;
  for (size_t high = rig->count; low < high;) {
    size_t middle = low + (high - low) / 2;
    if (rig->records[middle].position < position)
      low = middle + 1;
    else
      high = middle;
  }
  return &rig->records[low];
}

static void check_message(struct rig *rig, uint64_t position, uint32_t number, const struct model_session *session,
                          uint64_t place)
{
  const struct rig_record *record = record_at(rig, position);
  struct record_message message;
  assert_true(record->type == RECORD_MESSAGE || record->type == RECORD_MESSAGE_COPY);
  assert_true(record_get_message(record->body, &message));
  struct record_reader reader = {.rest = message.properties};
  assert_int_equal(record_read_u32(&reader), number);
  if (!session) return;
  struct record_target target;
  bool found = false;
  for (size_t cursor = 0; !found && record_next_target(message.targets, &cursor, &target);)
    found = target.session == session->number && target.place == (uint32_t)place;
  assert_true(found);
}

static void check_queue(struct rig *rig, const struct model_session *model)
{
  struct catalog_session *session = catalog_find(&rig->catalog, model->number);
  assert_non_null(session);
  assert_int_equal(session->head, model_head(model));
  assert_int_equal(session->tail, model->count);
  assert_int_equal(session->waiting, model_waiting(model));
  assert_memory_equal(session->outcomes, model->outcomes, sizeof model->outcomes);
  assert_true(span_equal(catalog_owner(session), span_text(model->user)));
  assert_int_equal(session->will_position != 0, model->has_will);
  assert_int_equal(session->connected, model->connected);

  struct queue_entry entries[100];
  size_t count = 0, at = 0;
  uint64_t next = session->head, bytes = 0;
  for (uint64_t place = session->head; place < model->count; place++) {
    const struct model_entry *entry = &model->entries[place];
    if (entry->state == MODEL_DONE) continue;
    if (at == count) {
      assert_ok(catalog_entries(&rig->catalog, model->number, next, entries, 1 + place % 100, &count, &next));
      at = 0;
    }
    assert_true(at < count);
    const struct queue_entry *found = &entries[at++];
    assert_int_equal(found->place, place);
    assert_int_equal(found->state, entry->state == MODEL_SENT ? ENTRY_SENT : ENTRY_WAITING);
    if (entry->state == MODEL_SENT || entry->lost) {
      assert_int_equal(found->position, 0);
      continue;
    }
    assert_int_not_equal(found->position, 0);
    check_message(rig, found->position, entry->message, model, place);
    bytes += entry->weight;
  }
  assert_int_equal(at, count);
  assert_true(session->waiting_bytes >= bytes);
  assert_ok(catalog_settle(&rig->catalog, session));
  assert_int_equal(session->waiting_bytes, bytes);
}

void check_model(struct rig *rig)
{
  check_live(&rig->catalog);
  size_t alive = 0;
  for (size_t i = 0; i < rig->session_count; i++) {
    if (rig->sessions[i].alive) {
      check_queue(rig, &rig->sessions[i]);
      alive++;
    } else {
      assert_null(catalog_find(&rig->catalog, rig->sessions[i].number));
    }
  }
  assert_int_equal(rig->catalog.sessions.count, alive);
  size_t retained_count = 0, cursor = 0;
  for (const struct catalog_retained *retained; (retained = map_next(&rig->catalog.retained, &cursor));) {
    unsigned topic = (unsigned)strtoul(retained->topic + 6, NULL, 10);
    assert_true(topic < MODEL_TOPICS);
    assert_int_not_equal(rig->retained[topic], 0);
    assert_int_equal(retained->expiry_ms, rig->retained_expiry_ms[topic]);
    check_message(rig, retained->position, rig->retained[topic], NULL, 0);
  }
  for (size_t i = 0; i < MODEL_TOPICS; i++) retained_count += rig->retained[i] != 0;
  assert_int_equal(rig->catalog.retained.count, retained_count);
  check_live(&rig->catalog);
}

// ---- Two catalogs

static void same_blocks(const struct catalog_session *a, const struct catalog_session *b)
{
  assert_int_equal(a->blocks_from, b->blocks_from);
  assert_int_equal(a->block_count, b->block_count);
  for (size_t i = 0; i < a->block_count; i++) {
    const struct block *x = &a->blocks[a->block_first + i], *y = &b->blocks[b->block_first + i];
    assert_int_equal(x->position, y->position);
    assert_int_equal(x->part_count, y->part_count);
    assert_int_equal(x->behind, y->behind);
  }
  assert_int_equal(a->last_count, b->last_count);
  if (a->last_count > 0)
    assert_memory_equal(a->last + a->last_first, b->last + b->last_first, a->last_count * sizeof *a->last);
}

static void same_subscriptions(const struct catalog_session *a, const struct catalog_session *b)
{
  assert_int_equal(a->subscription_count, b->subscription_count);
  assert_int_equal(a->by_filter.count, b->by_filter.count);
  for (size_t i = 0; i < a->subscription_count; i++) {
    const struct catalog_subscription *x = a->subscriptions[i], *y = NULL;
    assert_int_equal(x->index, i);
    for (size_t k = 0; k < b->subscription_count; k++)
      if (span_equal(span_of(x->filter, x->filter_size),
                     span_of(b->subscriptions[k]->filter, b->subscriptions[k]->filter_size)))
        y = b->subscriptions[k];
    assert_non_null(y);
    assert_int_equal(x->id, y->id);
    assert_int_equal(x->qos, y->qos);
    assert_int_equal(x->no_local, y->no_local);
    assert_int_equal(x->retain_as_published, y->retain_as_published);
  }
}

static void same_session(const struct catalog_session *a, const struct catalog_session *b)
{
  assert_non_null(b);
  assert_int_equal(a->expiry_s, b->expiry_s);
  assert_int_equal(a->connected, b->connected);
  assert_int_equal(a->window, b->window);
  assert_int_equal(a->since_ms, b->since_ms);
  assert_int_equal(a->sent, b->sent);
  assert_true(span_equal(a->client_id, b->client_id));
  assert_true(span_equal(catalog_owner(a), catalog_owner(b)));
  assert_int_equal(a->head, b->head);
  assert_int_equal(a->tail, b->tail);
  assert_int_equal(a->waiting, b->waiting);
  assert_int_equal(a->waiting_bytes, b->waiting_bytes);
  assert_memory_equal(a->outcomes, b->outcomes, sizeof a->outcomes);
  assert_int_equal(a->will_position, b->will_position);
  assert_int_equal(a->will_bytes, b->will_bytes);
  assert_int_equal(a->done_count, b->done_count);
  if (a->done_count > 0) assert_memory_equal(a->done, b->done, a->done_count * sizeof *a->done);
  assert_int_equal(a->sent_count, b->sent_count);
  if (a->sent_count > 0) assert_memory_equal(a->sent_places, b->sent_places, a->sent_count * sizeof *a->sent_places);
  assert_int_equal(a->received_count, b->received_count);
  if (a->received_count > 0) assert_memory_equal(a->received, b->received, a->received_count * sizeof *a->received);
  same_blocks(a, b);
  same_subscriptions(a, b);
}

static void settle_all(struct catalog *catalog)
{
  size_t cursor = 0;
  for (struct catalog_session *session; (session = map_next(&catalog->sessions, &cursor));)
    assert_ok(catalog_settle(catalog, session));
}

static void same_catalog(struct catalog *a, struct catalog *b)
{
  settle_all(a);
  settle_all(b);
  assert_int_equal(a->next_session, b->next_session);
  assert_int_equal(a->sessions.count, b->sessions.count);
  size_t cursor = 0;
  for (const struct catalog_session *session; (session = map_next(&a->sessions, &cursor));)
    same_session(session, catalog_find(b, session->number));
  assert_int_equal(a->retained.count, b->retained.count);
  cursor = 0;
  for (const struct catalog_retained *x; (x = map_next(&a->retained, &cursor));) {
    const struct catalog_retained *y = NULL;
    size_t other = 0;
    for (const struct catalog_retained *z; !y && (z = map_next(&b->retained, &other));)
      if (x->topic_size == z->topic_size && memcmp(x->topic, z->topic, x->topic_size) == 0) y = z;
    assert_non_null(y);
    assert_int_equal(x->position, y->position);
    assert_int_equal(x->weight, y->weight);
    assert_int_equal(x->expiry_ms, y->expiry_ms);
  }
  // Copies whose blocks have not moved are remembered only since the replay began.
  struct count x = count_all(a, false), y = count_all(b, false);
  assert_int_equal(x.count, y.count);
  for (size_t i = 0; i < x.count; i++) {
    assert_int_equal(x.live[i].segment, y.live[i].segment);
    assert_int_equal(x.live[i].references, y.live[i].references);
    assert_int_equal(x.live[i].bytes, y.live[i].bytes);
  }
  free(x.live);
  free(y.live);
}

static void replay(struct rig *rig, struct catalog *catalog)
{
  catalog_begin(rig, catalog);
  for (size_t i = rig->replay_from; i < rig->count; i++)
    assert_ok(catalog_apply(catalog, rig->records[i].type, rig->records[i].body, rig->records[i].position));
  check_live(catalog);
}

void check_replay(struct rig *rig)
{
  struct catalog again;
  replay(rig, &again);
  same_catalog(&rig->catalog, &again);
  check_live(&again);
  catalog_deinit(&again);
}

void check_both(struct rig *rig)
{
  check_model(rig);
  check_replay(rig);
}

void rig_crash(struct rig *rig)
{
  struct catalog again;
  replay(rig, &again);
  same_catalog(&rig->catalog, &again);
  catalog_deinit(&again);
  catalog_deinit(&rig->catalog);
  replay(rig, &rig->catalog);
}
