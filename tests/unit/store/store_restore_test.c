// What the shards are told after an opening. The shards here only take notes.
#include "core/identity.h"
#include "core/shard.h"
#include "store_rig.h"

enum { SHARDS = 3, NOTES = 32 };

struct shard {
  struct restored_session sessions[NOTES];
  char client_ids[NOTES][32], users[NOTES][32];
  uint64_t wills[NOTES];   // delay of each, 0: none
  char makers[NOTES][32];  // their users
  size_t session_count;
  char filters[NOTES][64];
  size_t filter_count;
  char topics[NOTES][64];
  size_t topic_count;
  uint32_t next_session;
  unsigned done;
};

static void copy_text(char *out, size_t size, struct span text)
{
  snprintf(out, size, "%.*s", (int)text.size, (const char *)text.at);
}

struct session *shard_restore_session(struct shard *shard, const struct restored_session *restored)
{
  assert_true(shard->session_count < NOTES);
  size_t index = shard->session_count++;
  shard->sessions[index] = *restored;
  copy_text(shard->client_ids[index], sizeof shard->client_ids[index], restored->client_id);
  copy_text(shard->users[index], sizeof shard->users[index], restored->user);
  shard->wills[index] = restored->will ? restored->will->delay_s : 0;
  if (restored->will && restored->will->maker.size > 0) {
    const struct identity *maker = identity_read(restored->will->maker);
    assert_non_null(maker);
    copy_text(shard->makers[index], sizeof shard->makers[index], maker->user);
    identity_unref(maker);
  }
  return (struct session *)&shard->sessions[index];
}

enum status shard_restore_subscription(struct shard *shard, struct session *session, const struct record_subscribe *record)
{
  assert_ptr_equal(session, &shard->sessions[shard->session_count - 1]);
  assert_int_equal(record->session, shard->sessions[shard->session_count - 1].number);
  assert_true(shard->filter_count < NOTES);
  copy_text(shard->filters[shard->filter_count++], sizeof shard->filters[0], record->filter);
  return OK;
}

enum status shard_restore_retained(struct shard *shard, const struct record_message *record)
{
  assert_true(shard->topic_count < NOTES);
  copy_text(shard->topics[shard->topic_count++], sizeof shard->topics[0], record->topic);
  assert_int_equal(record->payload.size, 8);
  return OK;
}

void shard_restore_done(struct shard *shard, uint32_t next_session)
{
  shard->next_session = next_session;
  shard->done++;
}

// ---- Records

static void put_session(struct buffer *records, uint32_t number, const char *client_id)
{
  struct record_session record = {.session = number, .expiry_s = 100 + number, .client_id = span_text(client_id)};
  if (number >= 8) record.user = span_text("ann");
  assert_ok(record_put_session(records, &record));
}

static void put_message(struct buffer *records, uint32_t session, uint64_t place)
{
  struct buffer targets = {0};
  struct record_target target = {.session = session, .place = (uint32_t)place, .qos = 1};
  assert_ok(record_put_target(&targets, &target, NULL));
  struct record_message message = {.qos = 1,
                                   .time_ms = 1000,
                                   .target_count = 1,
                                   .targets = buffer_peek(&targets),
                                   .topic = span_text("a"),
                                   .payload = span_text("12345678")};
  assert_ok(record_put_message(records, &message));
  buffer_deinit(&targets);
}

static void put_retained(struct buffer *records, const char *topic, uint64_t expiry_ms)
{
  struct record_message message = {
      .store = true, .time_ms = 1000, .expiry_ms = expiry_ms, .topic = span_text(topic), .payload = span_text("12345678")};
  assert_ok(record_put_message(records, &message));
}

static void commit(struct rig *rig, struct buffer *records)
{
  struct journal_batch *batch = calloc(1, sizeof *batch);
  assert_non_null(batch);
  *batch = (struct journal_batch){.number = ++rig->batches, .records = *records};
  *records = (struct buffer){0};
  store_submit(rig->store, batch);
  for (unsigned i = 0; store_round(rig->store, rig->now, rig->wall); i++) assert_true(i < 1000);
  assert_int_equal(store_committed(rig->store), rig->batches);
}

static void restore(struct rig *rig, struct shard *shards)
{
  struct shard *all[SHARDS];
  struct error error;
  memset(shards, 0, SHARDS * sizeof *shards);
  for (unsigned i = 0; i < SHARDS; i++) all[i] = &shards[i];
  assert_ok(store_restore(rig->store, all, SHARDS, &error));
}

static void reopen(struct rig *rig, struct shard *shards)
{
  rig_crash_blind(rig, SIM_POWER_CUT);
  restore(rig, shards);
}

// ---- Tests

static void sessions_come_in_order_to_the_keeper(void **state)
{
  struct rig *rig = *state;
  struct shard shards[SHARDS];
  struct buffer records = {0};
  rig_open(rig);
  for (uint32_t i = 1; i <= 9; i++) {
    char id[16];
    snprintf(id, sizeof id, "client-%u", (unsigned)i);
    put_session(&records, i, id);
  }
  assert_ok(record_put_session_end(&records, &(struct record_session_end){.session = 4}));
  assert_ok(record_put_subscribe(&records, &(struct record_subscribe){.session = 7, .qos = 1, .filter = span_text("x/#")}));
  assert_ok(record_put_subscribe(&records, &(struct record_subscribe){.session = 7, .filter = span_text("$share/g/y")}));
  assert_ok(record_put_subscribe(&records, &(struct record_subscribe){.session = 2, .filter = span_text("z")}));
  struct record_will will = {.session = 5, .delay_s = 77, .qos = 1, .topic = span_text("gone"), .payload = span_text("bye")};
  struct buffer maker = {0};
  const struct identity *bob = identity_create(&(struct identity){.user = span_text("bob")});
  assert_ok(identity_write(&maker, bob));
  identity_unref(bob);
  will.maker = buffer_peek(&maker);
  assert_ok(record_put_will(&records, &will));
  buffer_deinit(&maker);
  assert_ok(record_put_owner(&records, &(struct record_owner){.session = 5, .user = span_text("bob")}));
  assert_ok(record_put_packet_id(&records, RECORD_RECEIVED, &(struct record_packet_id){.session = 3, .packet_id = 12}));
  commit(rig, &records);
  reopen(rig, shards);
  const struct shard *keeper = &shards[JOURNAL_SHARD];
  assert_int_equal(keeper->session_count, 8);
  for (size_t i = 0; i < 8; i++) {
    uint32_t number = (uint32_t)(i < 3 ? i + 1 : i + 2);
    assert_int_equal(keeper->sessions[i].number, number);
    assert_int_equal(keeper->sessions[i].expiry_s, 100 + number);
    assert_int_equal(keeper->wills[i], number == 5 ? 77 : 0);
    assert_string_equal(keeper->users[i], number == 5 ? "bob" : number >= 8 ? "ann" : "");
    assert_string_equal(keeper->makers[i], number == 5 ? "bob" : "");
    assert_int_equal(keeper->sessions[i].received_count, number == 3);
  }
  assert_string_equal(keeper->client_ids[7], "client-9");
  assert_int_equal(keeper->filter_count, 3);
  assert_string_equal(keeper->filters[0], "z");
  for (unsigned i = 0; i < SHARDS; i++) {
    assert_int_equal(shards[i].done, 1);
    assert_int_equal(shards[i].next_session, 10);
    if (i != JOURNAL_SHARD) assert_int_equal(shards[i].session_count, 0);
  }
}

// The broker died while the client was connected: it is away since the opening, for nobody knows since when, and what its
// window let out may have been sent.
static void who_was_connected_is_away_from_now_on(void **state)
{
  struct rig *rig = rig_of_seed(state, 2);
  struct shard shards[SHARDS];
  struct buffer records = {0};
  rig_open(rig);
  put_session(&records, 1, "connected");
  assert_ok(record_put_session_back(&records, &(struct record_session_back){.session = 1, .expiry_s = 50, .window = 5}));
  put_session(&records, 2, "away");
  const unsigned count = JOURNAL_UNSAFE_DONE + 50;
  for (unsigned i = 0; i < count; i++) {
    put_message(&records, 1, i);
    put_message(&records, 2, i);
  }
  assert_ok(record_put_done(&records, &(struct record_done){.session = 1, .place = 0, .count = 3}));
  assert_ok(record_put_done(&records, &(struct record_done){.session = 1, .place = 5, .count = 4}));
  struct record_session_away away = {.session = 2, .expiry_s = 60, .since_ms = 3000, .sent = 11};
  assert_ok(record_put_session_away(&records, &away));
  commit(rig, &records);
  rig->wall.ms += 60000;
  rig_crash_blind(rig, SIM_POWER_CUT);
  uint64_t now_ms = rig->now.ms + store_epoch_ms(rig->store);
  restore(rig, shards);
  const struct restored_session *one = &shards[0].sessions[0], *other = &shards[0].sessions[1];
  assert_int_equal(one->since_ms, now_ms);
  assert_int_equal(one->expiry_s, 50);
  assert_int_equal(one->head, 3);
  assert_int_equal(one->tail, count);
  assert_int_equal(one->sent, 12 + JOURNAL_UNSAFE_DONE);  // 3, 4, 9, 10, 11, and as many as may have been done since
  assert_int_equal(one->sent_waiting, 5 + JOURNAL_UNSAFE_DONE);
  assert_int_equal(one->waiting, count - 7);
  assert_int_equal(other->since_ms, 3000);
  assert_int_equal(other->sent, 11);
  assert_int_equal(other->sent_waiting, 11);
  assert_int_equal(other->waiting, count);
  assert_int_equal(other->waiting_bytes % count, 0);
}

static void retained_messages_come_to_all_but_the_expired(void **state)
{
  struct rig *rig = rig_of_seed(state, 3);
  struct shard shards[SHARDS];
  struct buffer records = {0};
  rig_open(rig);
  uint64_t now_ms = rig->now.ms + store_epoch_ms(rig->store);
  put_retained(&records, "forever", 0);
  put_retained(&records, "long", now_ms + 3600000);
  put_retained(&records, "short", now_ms + 30000);
  commit(rig, &records);
  rig->wall.ms += 60000;
  reopen(rig, shards);
  for (unsigned i = 0; i < SHARDS; i++) {
    assert_int_equal(shards[i].topic_count, 2);
    assert_string_equal(shards[i].topics[0], "forever");  // as in the log
    assert_string_equal(shards[i].topics[1], "long");
  }
  // The checkpoint forgets it.
  assert_int_equal(rig_counters(rig).retained, 3);
  put_retained(&records, "more", 0);
  rig->batches = 0;
  commit(rig, &records);
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  assert_int_equal(rig_counters(rig).retained, 3);
  reopen(rig, shards);
  assert_int_equal(shards[1].topic_count, 3);
}

static void what_cannot_be_read_is_told(void **state)
{
  struct rig *rig = rig_of_seed(state, 4);
  struct shard shards[SHARDS];
  struct buffer records = {0};
  rig_open(rig);
  put_session(&records, 1, "one");
  struct record_will will = {.session = 1, .qos = 1, .topic = span_text("gone"), .payload = span_text("bye")};
  assert_ok(record_put_will(&records, &will));
  put_retained(&records, "kept", 0);
  commit(rig, &records);
  rig_crash_blind(rig, SIM_POWER_CUT);
  const struct catalog_session *session = catalog_find(store_catalog(rig->store), 1);
  sim_disk_flip(rig->disk, "0000000001.segment", (uint32_t)session->will_position + 20, 1);
  size_t cursor = 0;
  const struct catalog_retained *retained = map_next(&store_catalog(rig->store)->retained, &cursor);
  sim_disk_flip(rig->disk, "0000000001.segment", (uint32_t)retained->position + 20, 1);
  restore(rig, shards);
  assert_int_equal(shards[0].session_count, 1);
  assert_int_equal(shards[0].topic_count, 0);
  assert_true(rig_logged(rig, "journal_will_lost"));
  assert_true(rig_logged(rig, "journal_retained_lost"));
}

// The end of a session was lost, and its client has begun another one.
static void of_two_sessions_of_a_client_the_later_one_stays(void **state)
{
  struct rig *rig = rig_of_seed(state, 6);
  struct shard shards[SHARDS] = {0};
  struct buffer records = {0};
  rig_open(rig);
  put_session(&records, 1, "one");
  put_session(&records, 2, "two");
  put_message(&records, 1, 0);
  put_session(&records, 3, "one");
  put_session(&records, 4, "one");
  put_message(&records, 4, 0);
  commit(rig, &records);
  rig_crash_blind(rig, SIM_POWER_CUT);
  assert_true(rig_logged(rig, "journal_session_superseded"));
  restore(rig, shards);
  assert_int_equal(shards[0].session_count, 2);
  assert_int_equal(shards[0].sessions[0].number, 2);
  assert_int_equal(shards[0].sessions[1].number, 4);
  assert_int_equal(shards[0].sessions[1].waiting, 1);
  for (unsigned i = 0; i < 2; i++) {  // for good
    assert_null(catalog_find(store_catalog(rig->store), 1));
    assert_null(catalog_find(store_catalog(rig->store), 3));
    assert_int_equal(store_catalog(rig->store)->sessions.count, 2);
    assert_int_equal(rig_logged(rig, "journal_session_superseded"), i == 0);
    rig_crash_blind(rig, SIM_POWER_CUT);
  }
}

static void errors_that_pass_take_nothing_along(void **state)
{
  struct rig *rig = *state;
  struct shard shards[SHARDS];
  struct buffer records = {0};
  rig_open(rig);
  put_session(&records, 1, "one");
  struct record_will will = {.session = 1, .delay_s = 77, .topic = span_text("gone"), .payload = span_text("bye")};
  assert_ok(record_put_will(&records, &will));
  put_retained(&records, "kept", 0);
  commit(rig, &records);
  for (unsigned i = 0; i < 300; i++) {
    rig_crash_blind(rig, SIM_KILL);
    sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){.reads = 2});
    restore(rig, shards);
    sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){0});
    assert_int_equal(shards[0].wills[0], 77);
    assert_int_equal(shards[0].topic_count, 1);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_RIG(sessions_come_in_order_to_the_keeper),
      WITH_RIG(who_was_connected_is_away_from_now_on),
      WITH_RIG(retained_messages_come_to_all_but_the_expired),
      WITH_RIG(what_cannot_be_read_is_told),
      WITH_RIG(of_two_sessions_of_a_client_the_later_one_stays),
      WITH_RIG(errors_that_pass_take_nothing_along),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
