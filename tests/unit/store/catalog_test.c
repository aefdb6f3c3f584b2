// The catalog, case by case. Random histories: catalog_random_test.c.
#include "catalog_rig.h"

static struct catalog_session *found(struct rig *rig, const struct model_session *session)
{
  struct catalog_session *there = catalog_find(&rig->catalog, session->number);
  assert_non_null(there);
  return there;
}

static const struct message_options plain = {.topic = MODEL_TOPICS};

static void sessions_begin_and_end(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  assert_int_equal(rig->catalog.next_session, 2);
  assert_true(span_equal(found(rig, session)->client_id, span_text("client-1")));
  assert_true(found(rig, session)->connected);
  rig_away(rig, session);
  assert_false(found(rig, session)->connected);
  assert_int_equal(found(rig, session)->since_ms, rig->time_ms);
  assert_int_equal(found(rig, session)->expiry_s, 7200);
  rig_back(rig, session);
  assert_int_equal(found(rig, session)->window, 20);
  // The same number twice is none of ours.
  struct record_session again = {.session = 1, .client_id = span_text("x")};
  struct buffer out = {0};
  assert_ok(record_put_session(&out, &again));
  struct span body = span_of(out.data + sizeof(struct record_header), 11);
  assert_int_equal(catalog_apply(&rig->catalog, RECORD_SESSION, body, rig->next), ERR_INVALID);
  buffer_deinit(&out);
  rig_messages(rig, session, 700);
  rig_references(rig);
  rig_will(rig, session, true);
  assert_int_equal(catalog_live(&rig->catalog, 1)->references, 700 + 1 + 0);
  check_model(rig);
  rig_away(rig, session);
  rig_references(rig);
  assert_int_equal(found(rig, session)->block_count, 2);
  assert_int_equal(catalog_live(&rig->catalog, 1)->references, 700 + 1 + 2);
  rig_end(rig, session);
  assert_null(catalog_live(&rig->catalog, 1));
  check_both(rig);
}

static void unknown_sessions_are_ignored(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session nobody = {.number = 77, .alive = true};
  rig_messages(rig, &nobody, 3);
  rig_done(rig, &nobody, 0, 2, OUTCOME_DELIVERED);
  rig_sent(rig, &nobody, 2);
  rig_will(rig, &nobody, true);
  rig_away(rig, &nobody);
  rig_back(rig, &nobody);
  rig_end(rig, &nobody);
  assert_int_equal(rig->catalog.sessions.count, 0);
  assert_int_equal(rig->catalog.live_count, 0);
  struct queue_entry entry;
  size_t count;
  uint64_t next;
  assert_int_equal(catalog_entries(&rig->catalog, 77, 0, &entry, 1, &count, &next), ERR_NOT_FOUND);
}

static void bodies_that_are_none_change_nothing(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_messages(rig, session, 3);
  for (int type = 0; type < 64; type++) {
    if (type == RECORD_BATCH || type == RECORD_CHECKPOINT_BEGIN || type == RECORD_CHECKPOINT_RETAINED) continue;
    assert_int_equal(catalog_apply(&rig->catalog, (enum record_type)type, (struct span){0}, rig->next), ERR_INVALID);
  }
  assert_int_equal(catalog_apply(&rig->catalog, RECORD_CHECKPOINT_RETAINED, span_of("\1", 1), rig->next), ERR_INVALID);
  check_model(rig);
}

static void acknowledged_out_of_order(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_messages(rig, session, 20);
  rig_done(rig, session, 5, 2, OUTCOME_DELIVERED);
  rig_done(rig, session, 10, 1, OUTCOME_EXPIRED);
  rig_done(rig, session, 8, 1, OUTCOME_DELIVERED);
  assert_int_equal(found(rig, session)->done_count, 3);
  assert_int_equal(found(rig, session)->head, 0);
  rig_done(rig, session, 7, 1, OUTCOME_DELIVERED);  // joins two
  assert_int_equal(found(rig, session)->done_count, 2);
  check_model(rig);
  rig_done(rig, session, 9, 2, OUTCOME_QUEUE_FULL);  // 10 is done: the second is 11
  assert_int_equal(found(rig, session)->done_count, 1);
  assert_int_equal(found(rig, session)->outcomes[OUTCOME_QUEUE_FULL], 2);
  rig_done(rig, session, 0, 5, OUTCOME_DELIVERED);
  assert_int_equal(found(rig, session)->done_count, 0);
  assert_int_equal(found(rig, session)->head, 12);
  rig_done(rig, session, 3, UINT32_MAX, OUTCOME_REFUSED);  // whatever is left, from below the head on
  assert_int_equal(found(rig, session)->head, 20);
  assert_int_equal(found(rig, session)->outcomes[OUTCOME_REFUSED], 8);
  rig_done(rig, session, 20, 5, OUTCOME_REFUSED);  // beyond the tail
  assert_int_equal(found(rig, session)->waiting, 0);
  assert_null(catalog_live(&rig->catalog, 1));
  check_both(rig);
}

static void sent_ones_need_no_message(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_messages(rig, session, 600);
  rig_away(rig, session);
  rig_references(rig);
  for (uint64_t place = 0; place < 600; place++) {
    if (place == 300) check_model(rig);
    rig_sent(rig, session, 599 - place);
    rig_sent(rig, session, 599 - place);
  }
  check_model(rig);
  assert_int_equal(found(rig, session)->waiting, 600);
  assert_int_equal(found(rig, session)->waiting_bytes, 0);
  assert_null(catalog_live(&rig->catalog, 1));
  check_replay(rig);
  rig_checkpoint(rig, 100);
  check_replay(rig);
  rig_done(rig, session, 0, 600, OUTCOME_DELIVERED);
  check_model(rig);
}

// A million places in one record: by whole blocks, and nothing is read.
static enum status never_read(void *context, uint64_t position, struct record_header *out_header, struct span *out_body)
{
  (void)context, (void)position, (void)out_header, (void)out_body;
  fail_msg("a block was read");
  return ERR_IO;
}

static void long_queues_go_without_being_read(void **state)
{
  struct rig *rig = rig_make(state, 1 << 14);
  struct model_session *session = rig_session(rig);
  rig_away(rig, session);
  for (int i = 0; i < 40; i++) {
    rig_messages(rig, session, 500);
    rig_references(rig);
  }
  const struct catalog_session *queue = found(rig, session);
  assert_int_equal(queue->block_count, 20000 / CATALOG_BLOCK);
  assert_true(queue->last_capacity <= 1024);
  rig->catalog.read = never_read;
  assert_int_equal(catalog_oldest_s(&rig->catalog, queue), session->entries[0].time_s);
  for (uint64_t place = 0; place < 5000; place++) rig_done(rig, session, place, 1, OUTCOME_QUEUE_FULL);
  check_live(&rig->catalog);
  assert_true(queue->blocks[queue->block_first].behind);
  rig_done(rig, session, 10000, 4000, OUTCOME_EXPIRED);
  rig_done(rig, session, 5000, 14900, OUTCOME_EXPIRED);
  check_live(&rig->catalog);
  assert_int_equal(queue->waiting, 20000 - 5000 - 18900 > 0 ? 1100 : queue->waiting);
  rig_done(rig, session, 0, UINT32_MAX, OUTCOME_DELIVERED);
  assert_int_equal(queue->waiting, 0);
  assert_int_equal(queue->waiting_bytes, 0);
  assert_int_equal(rig->catalog.live_count, 0);
  assert_int_equal(catalog_oldest_s(&rig->catalog, queue), 0);
  assert_true(queue->block_capacity <= 64);
}

static void connected_queues_stay_in_memory_for_a_while(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_messages(rig, session, 1023);
  rig_references(rig);
  assert_int_equal(found(rig, session)->block_count, 0);
  rig_messages(rig, session, 1);
  rig_references(rig);
  assert_int_equal(found(rig, session)->block_count, 1);
  rig_away(rig, session);
  bool more = false;
  assert_ok(catalog_put_references(&rig->catalog, &rig->batch, 1, &more));
  assert_true(more);
  rig_write(rig);
  assert_int_equal(found(rig, session)->block_count, 2);
  rig_references(rig);
  assert_int_equal(found(rig, session)->block_count, 4);
  assert_ok(catalog_put_references(&rig->catalog, &rig->batch, 1000, &more));
  assert_false(more);
  assert_int_equal(buffer_size(&rig->batch), 0);
  check_model(rig);
}

static void lost_records_leave_holes(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_messages(rig, session, 2);
  // Two messages that never reach the log.
  struct model_entry lost = {.lost = true};
  session->entries[session->count++] = lost;
  session->entries[session->count++] = lost;
  rig_messages(rig, session, 1);
  assert_int_equal(found(rig, session)->tail, 5);
  assert_int_equal(found(rig, session)->waiting, 5);
  check_model(rig);
  rig_checkpoint(rig, 100);
  check_replay(rig);

  // A place that was there before.
  session->count = 3;
  rig_messages(rig, session, 1);
  assert_int_equal(found(rig, session)->tail, 5);
  session->count = 5;
  rig_done(rig, session, 0, 5, OUTCOME_DAMAGED);
  check_live(&rig->catalog);
  assert_int_equal(found(rig, session)->outcomes[OUTCOME_DAMAGED], 5);
}

static void too_many_lost_ones_end_the_queue(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_messages(rig, session, 300);
  rig_sent(rig, session, 7);
  rig_done(rig, session, 10, 5, OUTCOME_DELIVERED);
  rig_away(rig, session);
  rig_references(rig);
  size_t count = session->count;
  session->count = 1000000;
  session->entries = realloc(session->entries, 1000002 * sizeof *session->entries);
  assert_non_null(session->entries);
  session->capacity = 1000002;
  struct model_session *twice[] = {session, session};
  rig_message(rig, twice, 2, &plain);
  const struct catalog_session *queue = found(rig, session);
  assert_int_equal(queue->tail, 1000002);
  assert_int_equal(queue->waiting, 2);
  assert_int_equal(queue->head, 1000000);
  assert_int_equal(queue->outcomes[OUTCOME_DAMAGED], 1000000 - 5);
  assert_int_equal(queue->sent_count + queue->done_count, 0);
  assert_int_equal(catalog_live(&rig->catalog, 1)->references, 2);
  check_live(&rig->catalog);
  check_replay(rig);
  session->count = count;
}

static void retained_messages(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  rig_message(rig, NULL, 0, &(struct message_options){.topic = 3});
  rig_message(rig, NULL, 0, &(struct message_options){.topic = 3, .expiry_ms = 9000});
  rig_message(rig, NULL, 0, &(struct message_options){.topic = 4});
  rig_message(rig, NULL, 0, &(struct message_options){.topic = 5, .empty = true});
  assert_int_equal(rig->catalog.retained.count, 2);
  assert_int_equal(catalog_live(&rig->catalog, 1)->references, 2);
  check_model(rig);
  rig_checkpoint(rig, 1);
  check_replay(rig);
  rig->time_ms = 9000;  // the one has expired
  rig_checkpoint(rig, 1);
  rig->retained[3] = 0;
  check_both(rig);
  rig_message(rig, NULL, 0, &(struct message_options){.topic = 4, .empty = true});
  assert_int_equal(rig->catalog.retained.count, 0);
  assert_int_equal(rig->catalog.retained_bytes, 0);
  check_both(rig);
}

// A drop that was written before the topic got another message.
static void a_late_drop_is_harmless(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  rig_message(rig, NULL, 0, &(struct message_options){.topic = 3, .expiry_ms = 1});
  bool done;
  assert_ok(catalog_checkpoint_begin(&rig->catalog, &rig->batch, rig->time_ms));
  assert_ok(catalog_checkpoint_slice(&rig->catalog, &rig->batch, 1 << 20, &done));
  assert_true(done);
  struct buffer late = rig->batch;
  rig->batch = (struct buffer){0};
  rig_message(rig, NULL, 0, &(struct message_options){.topic = 3});
  buffer_deinit(&rig->batch);
  rig->batch = late;
  rig_write(rig);
  check_model(rig);
}

static void copying_moves_everything(void **state)
{
  struct rig *rig = rig_make(state, 1 << 16);
  struct model_session *a = rig_session(rig), *b = rig_session(rig);
  struct model_session *both[] = {a, b, b};
  for (unsigned i = 0; i < 600; i++)
    rig_message(rig, both, 3, &(struct message_options){.topic = i < 10 ? i : MODEL_TOPICS});
  rig_away(rig, a);
  rig_references(rig);
  rig_will(rig, b, true);
  rig_done(rig, a, 10, 100, OUTCOME_DELIVERED);
  rig_sent(rig, a, 3);
  rig_done(rig, b, 0, 1100, OUTCOME_DELIVERED);
  rig_begin_segment(rig);
  uint32_t end = rig_segment(rig);
  for (uint32_t segment = 1; segment < end; segment++) {
    rig_copy_segment(rig, segment);
    assert_null(catalog_live(&rig->catalog, segment));
    check_model(rig);
  }
  assert_int_equal(rig->catalog.moved_count, 0);
  check_replay(rig);
  rig_checkpoint(rig, 100);
  rig_remove_dead(rig);
  check_replay(rig);
  rig_crash(rig);
  check_model(rig);
}

// What was written from the record `first` on are copies of messages that still know their publisher, for no local.
static void check_copies(const struct rig *rig, size_t first)
{
  unsigned copies = 0;
  for (size_t i = first; i < rig->count; i++) {
    struct record_message message;
    if (rig->records[i].type != RECORD_MESSAGE_COPY) continue;
    assert_true(record_get_message(rig->records[i].body, &message));
    assert_int_equal(message.origin, 99);
    copies++;
  }
  assert_int_equal(copies, 256);
}

// Copies of messages that full blocks refer to live until the blocks have moved.
static void copies_live_before_their_blocks_move(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_away(rig, session);
  rig_messages(rig, session, 256);
  rig_references(rig);
  rig_begin_segment(rig);
  size_t count = rig->count;
  for (size_t i = 0; i < count; i++) {
    struct rig_record record = rig->records[i];
    struct record_header header = {.size = (uint32_t)record.body.size,
                                   .mark = (uint64_t)record.type << RECORD_SEQUENCE_BITS};
    assert_ok(catalog_put_copy(&rig->catalog, &header, record.body, record.position, &rig->batch));
  }
  rig_write(rig);
  assert_int_equal(rig->catalog.moved_count, 256);
  check_copies(rig, count);
  assert_int_equal(catalog_live(&rig->catalog, 1)->references, 256);
  assert_int_equal(catalog_live(&rig->catalog, 2)->references, 256 + 1);  // and the block's own record
  check_live(&rig->catalog);
  check_replay(rig);
  // A second time there is nothing to copy.
  for (size_t i = 0; i < count; i++) {
    struct rig_record record = rig->records[i];
    struct record_header header = {.mark = (uint64_t)record.type << RECORD_SEQUENCE_BITS};
    assert_ok(catalog_put_copy(&rig->catalog, &header, record.body, record.position, &rig->batch));
  }
  assert_int_equal(buffer_size(&rig->batch), 0);
  rig_crash(rig);
  assert_ok(catalog_put_moved(&rig->catalog, &rig->batch));
  rig_write(rig);
  assert_int_equal(rig->catalog.moved_count, 0);
  assert_null(catalog_live(&rig->catalog, 1));
  assert_int_equal(catalog_live(&rig->catalog, 2)->references, 256 + 1);
  check_model(rig);
}

struct losses {
  uint64_t count;
};

static void count_lost(void *context, const struct catalog_session *session, uint64_t count)
{
  assert_non_null(session);
  ((struct losses *)context)->count += count;
}

// The record of a block is gone: its messages cannot be found any more.
static void a_lost_block_loses_what_waits_in_it(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_away(rig, session);
  rig_messages(rig, session, 300);
  rig_begin_segment(rig);
  rig_references(rig);
  uint64_t block = rig->records[rig->count - 1].position;
  rig_begin_segment(rig);
  rig_messages(rig, session, 10);
  rig_done(rig, session, 0, 6, OUTCOME_DELIVERED);
  rig_sent(rig, session, 9);
  rig_damage_segment(rig, 2);

  struct queue_entry entries[400];
  size_t count;
  uint64_t next;
  assert_ok(catalog_entries(&rig->catalog, session->number, 0, entries, 400, &count, &next));
  assert_int_equal(count, 304);
  assert_int_equal(next, 310);
  assert_int_equal(entries[0].place, 6);
  assert_int_equal(entries[0].position, 0);
  assert_int_equal(entries[3].state, ENTRY_SENT);
  assert_int_not_equal(entries[250].position, 0);
  assert_ok(catalog_settle(&rig->catalog, found(rig, session)));  // it stays as it is

  struct losses losses = {0};
  assert_int_equal(catalog_live(&rig->catalog, position_segment(block))->references, 1);
  assert_ok(catalog_put_holes(&rig->catalog, position_segment(block), &rig->batch, count_lost, &losses));
  rig_write(rig);
  assert_int_equal(losses.count, 256 - 6 - 1);
  assert_null(catalog_live(&rig->catalog, position_segment(block)));
  for (uint64_t place = 6; place < 256; place++) session->entries[place].lost = place != 9;
  check_both(rig);
  rig_done(rig, session, 0, 400, OUTCOME_DAMAGED);
  check_model(rig);
  assert_int_equal(rig->catalog.live_count, 0);
}

// Reads through all messages.
static uint64_t search_all(void *context, uint32_t session, uint64_t place)
{
  const struct rig *rig = context;
  uint64_t position = 0;
  for (size_t i = 0; i < rig->count; i++) {
    const struct rig_record *record = &rig->records[i];
    struct record_message message;
    if (record->gone || (record->type != RECORD_MESSAGE && record->type != RECORD_MESSAGE_COPY)) continue;
    assert_true(record_get_message(record->body, &message));
    struct record_target target;
    for (size_t cursor = 0; record_next_target(message.targets, &cursor, &target);)
      if (target.session == session && target.place == (uint32_t)place) position = record->position;
  }
  return position;
}

// ... unless somebody searches for them.
static void a_lost_block_is_searched_for(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  rig->catalog.search = search_all;
  struct model_session *session = rig_session(rig);
  rig_away(rig, session);
  rig_messages(rig, session, 100);
  rig_begin_segment(rig);
  rig_messages(rig, session, 200);
  rig_begin_segment(rig);
  rig_references(rig);
  uint32_t lost = position_segment(rig->records[rig->count - 1].position);
  rig_begin_segment(rig);
  rig_done(rig, session, 0, 6, OUTCOME_DELIVERED);
  rig_sent(rig, session, 9);
  rig_damage_segment(rig, lost);
  // One of the messages is damaged, too.
  for (size_t i = 0; i < rig->count; i++) {
    struct record_message message;
    if (rig->records[i].type != RECORD_MESSAGE) continue;
    assert_true(record_get_message(rig->records[i].body, &message));
    struct record_reader reader = {.rest = message.properties};
    if (record_read_u32(&reader) == session->entries[50].message) rig->records[i].gone = true;
  }
  struct losses losses = {0};
  assert_ok(catalog_put_holes(&rig->catalog, lost, &rig->batch, count_lost, &losses));
  rig_write(rig);
  assert_int_equal(losses.count, 1);
  session->entries[50].lost = true;
  assert_null(catalog_live(&rig->catalog, lost));
  check_both(rig);

  // When messages are copied, what cannot be read is searched for as well.
  rig_damage_segment(rig, position_segment(rig->records[rig->count - 1].position));
  catalog_deinit(&rig->catalog);
  catalog_init(&rig->catalog, rig->catalog.read, rig);
  rig->catalog.search = search_all;
  for (size_t i = 0; i < rig->count; i++)
    assert_ok(catalog_apply(&rig->catalog, rig->records[i].type, rig->records[i].body, rig->records[i].position));
  rig_begin_segment(rig);
  rig_copy_segment(rig, 2);
  assert_null(catalog_live(&rig->catalog, 2));
  check_model(rig);
}

static void lost_messages_become_holes(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_will(rig, session, true);
  rig_message(rig, NULL, 0, &(struct message_options){.topic = 3});
  rig_messages(rig, session, 100);
  rig_begin_segment(rig);
  rig_messages(rig, session, 300);
  rig_begin_segment(rig);
  rig_away(rig, session);
  rig_references(rig);
  struct losses losses = {0};
  rig_damage_segment(rig, 1);
  assert_ok(catalog_put_holes(&rig->catalog, 1, &rig->batch, count_lost, &losses));
  rig_write(rig);
  assert_int_equal(losses.count, 100);
  for (uint64_t place = 0; place < 100; place++) session->entries[place].lost = true;
  session->has_will = false;
  rig->retained[3] = 0;
  check_model(rig);
  // The others, in the block and behind it.
  losses.count = 0;
  rig_damage_segment(rig, 2);
  assert_ok(catalog_put_holes(&rig->catalog, 2, &rig->batch, count_lost, &losses));
  rig_write(rig);
  assert_int_equal(losses.count, 300);
  for (uint64_t place = 0; place < 400; place++) session->entries[place].lost = true;
  check_model(rig);
  assert_int_equal(rig->catalog.live_count, 0);
  assert_ok(catalog_put_holes(&rig->catalog, 2, &rig->batch, NULL, NULL));
  assert_int_equal(buffer_size(&rig->batch), 0);
}

// Holes are made of whole blocks, or behind them.
static void impossible_holes_are_refused(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *session = rig_session(rig);
  rig_away(rig, session);
  rig_messages(rig, session, 600);
  rig_references(rig);
  uint8_t body[17];
  static const struct {
    uint64_t from;
    uint32_t count;
    enum status status;
  } cases[] = {{1, 255, ERR_INVALID}, {0, 100, ERR_INVALID}, {256, 300, OK}, {0, 256, OK}, {512, 5000, OK}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t *at = record_write_u32(body, session->number);
    at = record_write_u64(at, cases[i].from);
    at = record_write_u8(at, 1);
    record_write_u32(at, cases[i].count);
    struct span span = span_of(body, sizeof body);
    assert_int_equal(catalog_apply(&rig->catalog, RECORD_REFERENCES, span, rig->next), cases[i].status);
    check_live(&rig->catalog);
  }
  assert_int_equal(rig->catalog.live_count, 0);
}

// ---- Bodies of the store's own records, cut and changed

static void make_rich(struct rig *rig)
{
  rig_init(rig, 1 << 14);
  struct model_session *session = rig_session(rig);
  rig_messages(rig, session, 50);
  for (unsigned i = 0; i < 5; i++)
    rig_message(rig, &session, 1,
                &(struct message_options){.topic = i, .publisher = session, .packet_id = (uint16_t)(i + 9)});
  rig_messages(rig, session, 500);
  struct record_subscribe subscribe = {
      .session = session->number, .id = 7, .qos = 2, .no_local = true, .filter = span_text("a/#")};
  assert_ok(record_put_subscribe(&rig->batch, &subscribe));
  rig_away(rig, session);
  rig_references(rig);
  rig_will(rig, session, true);
  rig_own(rig, session, "ann");
  rig_done(rig, session, 3, 4, OUTCOME_DELIVERED);
  rig_done(rig, session, 300, 5, OUTCOME_EXPIRED);
  rig_done(rig, session, 540, 1, OUTCOME_EXPIRED);
  rig_sent(rig, session, 0);
  rig_sent(rig, session, 320);
  rig_checkpoint(rig, 1);
}

static void use_up(struct catalog *catalog)
{
  struct queue_entry entries[64];
  size_t count;
  uint64_t next;
  struct catalog_session *session = catalog_find(catalog, 1);
  if (!session) return;
  assert_ok(catalog_entries(catalog, 1, session->head, entries, 64, &count, &next));
  check_live(catalog);
  for (uint32_t n = 1; n < 1000 && session->waiting > 0; n *= 3) {
    uint8_t body[17];
    uint8_t *at = record_write_u32(body, 1);
    at = record_write_u32(at, n);
    at = record_write_u64(at, session->head + n % 5);
    record_write_u8(at, 0);
    assert_ok(catalog_apply(catalog, RECORD_DONE, span_of(body, sizeof body), 0));
    check_live(catalog);
  }
}

static enum status read_damaged(void *context, uint64_t position, struct record_header *out_header, struct span *out_body)
{
  struct rig *rig = context;
  for (size_t i = 0; i < rig->count; i++) {
    if (rig->records[i].position != position) continue;
    *out_header = (struct record_header){.mark = (uint64_t)rig->records[i].type << RECORD_SEQUENCE_BITS};
    *out_body = rig->records[i].body;
    return OK;
  }
  return ERR_NOT_FOUND;
}

static void changed_bodies_are_harmless(void **state)
{
  (void)state;
  struct rig rig;
  make_rich(&rig);
  struct prng prng;
  prng_seed(&prng, 4);
  unsigned accepted = 0;
  for (size_t i = 0; i < rig.count; i++) {
    struct rig_record record = rig.records[i];
    if (record.type < RECORD_REFERENCES || record.type == RECORD_CHECKPOINT_BEGIN) continue;
    for (unsigned round = 0; round < 1500; round++) {
      size_t size = round < record.body.size ? round : record.body.size;
      uint8_t *body = malloc(size + 1);
      assert_non_null(body);
      if (size > 0) memcpy(body, record.body.at, size);
      if (size == record.body.size)
        for (uint64_t k = 0; k <= prng_below(&prng, 2); k++) {
          size_t at = (size_t)prng_below(&prng, size);
          body[at] ^= (uint8_t)(1 << prng_below(&prng, 8));
        }
      struct catalog catalog;
      catalog_init(&catalog, read_damaged, &rig);
      enum status status = OK;
      for (size_t k = 0; k < rig.count && record.type != RECORD_CHECKPOINT_SESSION && round % 16 == 0; k++)
        if (rig.records[k].type < RECORD_BATCH)
          assert_ok(catalog_apply(&catalog, rig.records[k].type, rig.records[k].body, rig.records[k].position));
      status = catalog_apply(&catalog, record.type, span_of(body, size), record.position);
      assert_true(status == OK || status == ERR_INVALID);
      bool list = record.type == RECORD_CHECKPOINT_RETAINED;
      if (size < record.body.size && !list) assert_int_equal(status, ERR_INVALID);
      accepted += status == OK;
      check_live(&catalog);
      use_up(&catalog);
      catalog_deinit(&catalog);
      free(body);
    }
  }
  assert_true(accepted > 100);
  rig_deinit(&rig);
}

static void bodies_can_be_looked_into(void **state)
{
  (void)state;
  struct rig rig;
  make_rich(&rig);
  unsigned sessions = 0, references = 0;
  for (size_t i = 0; i < rig.count; i++) {
    uint32_t session, count;
    uint64_t place;
    struct span client_id;
    if (rig.records[i].type == RECORD_CHECKPOINT_SESSION) {
      assert_true(catalog_get_checkpoint_session(rig.records[i].body, &session, &client_id));
      assert_int_equal(session, 1);
      assert_true(span_equal(client_id, span_text("client-1")));
      assert_true(span_equal(catalog_get_checkpoint_owner(rig.records[i].body), span_text("ann")));
      sessions++;
    } else if (rig.records[i].type == RECORD_REFERENCES) {
      assert_true(catalog_get_references(rig.records[i].body, &session, &place, &count));
      assert_int_equal(session, 1);
      assert_int_equal(place, CATALOG_BLOCK * references++);
      assert_int_equal(count, CATALOG_BLOCK);
    }
  }
  assert_int_equal(sessions, 1);
  assert_int_equal(references, 2);
  assert_false(catalog_get_checkpoint_session(span_of("\1\0\0\0\3\0ab", 8), &(uint32_t){0}, &(struct span){0}));
  rig_deinit(&rig);
}

static uint8_t *find_bytes(uint8_t *at, size_t size, const char *wanted, size_t wanted_size)
{
  return memmem(at, size, wanted, wanted_size);
}

// The user of a session's checkpoint: what is no name is refused, and what has none is nobody's, as before there were users.
static void owners_in_checkpoints(void **state)
{
  (void)state;
  struct rig rig;
  make_rich(&rig);
  size_t index = 0;
  while (rig.records[index].type != RECORD_CHECKPOINT_SESSION) index++;
  struct span body = rig.records[index].body;
  uint64_t position = rig.records[index].position;
  uint8_t *copy = malloc(body.size);
  assert_non_null(copy);
  memcpy(copy, body.at, body.size);
  uint8_t *user = find_bytes(copy, body.size, "\3ann", 4);
  uint8_t *flags = copy + 6 + strlen("client-1");
  assert_non_null(user);
  assert_int_equal(*flags, 2);
  struct catalog again;
  catalog_init(&again, NULL, NULL);
  *user = 0;
  assert_int_equal(catalog_apply(&again, RECORD_CHECKPOINT_SESSION, span_of(copy, body.size), position), ERR_INVALID);
  *user = 0x7f;  // longer than what follows is
  size_t until_end = (size_t)(copy + body.size - user);
  if (until_end <= 0x7f)
    assert_int_equal(catalog_apply(&again, RECORD_CHECKPOINT_SESSION, span_of(copy, body.size), position), ERR_INVALID);
  *user = 3;
  *flags = 4;  // a flag that does not exist
  assert_int_equal(catalog_apply(&again, RECORD_CHECKPOINT_SESSION, span_of(copy, body.size), position), ERR_INVALID);
  assert_int_equal(catalog_get_checkpoint_owner(span_of(copy, body.size)).size, 0);
  *flags = 2;
  assert_ok(catalog_apply(&again, RECORD_CHECKPOINT_SESSION, span_of(copy, body.size), position));
  assert_true(span_equal(catalog_owner(catalog_find(&again, 1)), span_text("ann")));
  catalog_deinit(&again);
  // As version 1 has written it.
  *flags = 0;
  memmove(user, user + 4, until_end - 4);
  assert_ok(catalog_apply(&again, RECORD_CHECKPOINT_SESSION, span_of(copy, body.size - 4), position));
  assert_int_equal(catalog_owner(catalog_find(&again, 1)).size, 0);
  assert_true(span_equal(catalog_find(&again, 1)->client_id, span_text("client-1")));
  // It becomes somebody's; of one that is not known nothing is said.
  struct buffer records = {0};
  for (uint32_t session = 1; session <= 2; session++) {
    assert_ok(record_put_owner(&records, &(struct record_owner){.session = session, .user = span_text("bob")}));
    struct span owner = span_from(buffer_peek(&records), sizeof(struct record_header));
    owner.size = 4 + 2 + 3;
    assert_ok(catalog_apply(&again, RECORD_OWNER, owner, position));
    owner.size--;
    assert_int_equal(catalog_apply(&again, RECORD_OWNER, owner, position), ERR_INVALID);
    buffer_deinit(&records);
  }
  assert_true(span_equal(catalog_owner(catalog_find(&again, 1)), span_text("bob")));
  assert_int_equal(again.sessions.count, 1);
  catalog_deinit(&again);
  free(copy);
  rig_deinit(&rig);
}

// Sessions and topics that come and go while a checkpoint is being written.
static void checkpoints_in_slices(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  struct model_session *sessions[20];
  for (size_t i = 0; i < 20; i++) {
    sessions[i] = rig_session(rig);
    rig_messages(rig, sessions[i], i);
  }
  for (unsigned i = 0; i < MODEL_TOPICS; i++) rig_message(rig, NULL, 0, &(struct message_options){.topic = i});
  assert_ok(catalog_checkpoint_begin(&rig->catalog, &rig->batch, rig->time_ms));
  bool done = false;
  unsigned slices = 0;
  for (; !done; slices++) {
    assert_ok(catalog_checkpoint_slice(&rig->catalog, &rig->batch, 1, &done));
    rig_write(rig);
    if (slices < 3) rig_message(rig, NULL, 0, &(struct message_options){.topic = slices, .empty = true});
    if (slices < 6) rig_end(rig, sessions[slices * 3]);
    if (slices == 4) rig_messages(rig, rig_session(rig), 3);
    rig_messages(rig, sessions[1], 1);
  }
  assert_true(slices > 14);
  check_both(rig);
  // One that is given up changes nothing.
  assert_ok(catalog_checkpoint_begin(&rig->catalog, &rig->batch, rig->time_ms));
  assert_ok(catalog_checkpoint_slice(&rig->catalog, &rig->batch, 1, &done));
  rig_write(rig);
  catalog_checkpoint_cancel(&rig->catalog);
  rig_messages(rig, sessions[1], 1);
  check_replay(rig);
}

int main(void)
{
  static const struct CMUnitTest tests[] = {
      WITH_RIG(sessions_begin_and_end),
      WITH_RIG(unknown_sessions_are_ignored),
      WITH_RIG(bodies_that_are_none_change_nothing),
      WITH_RIG(acknowledged_out_of_order),
      WITH_RIG(sent_ones_need_no_message),
      WITH_RIG(long_queues_go_without_being_read),
      WITH_RIG(connected_queues_stay_in_memory_for_a_while),
      WITH_RIG(lost_records_leave_holes),
      WITH_RIG(too_many_lost_ones_end_the_queue),
      WITH_RIG(retained_messages),
      WITH_RIG(a_late_drop_is_harmless),
      WITH_RIG(copying_moves_everything),
      WITH_RIG(copies_live_before_their_blocks_move),
      WITH_RIG(a_lost_block_loses_what_waits_in_it),
      WITH_RIG(a_lost_block_is_searched_for),
      WITH_RIG(lost_messages_become_holes),
      WITH_RIG(impossible_holes_are_refused),
      cmocka_unit_test(changed_bodies_are_harmless),
      cmocka_unit_test(bodies_can_be_looked_into),
      cmocka_unit_test(owners_in_checkpoints),
      WITH_RIG(checkpoints_in_slices),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
