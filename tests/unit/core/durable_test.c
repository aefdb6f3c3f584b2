// Queues of durable sessions: places and packet identifiers, memory and disk, what is dropped and when.
#include "bench.h"

#include "core/shard_internal.h"

static struct session *session_of(const struct bench *bench, const char *id)
{
  struct session *session = session_find(bench->shards[JOURNAL_SHARD], span_text(id));
  assert_non_null(session);
  return session;
}

// How many places of a queue came to this end.
static size_t outcomes(const struct bench *bench, const char *id, enum record_outcome outcome)
{
  const struct stored_session *session = store_bench_find(bench->store, id);
  size_t count = 0;
  for (size_t i = 0; i < session->tail; i++)
    count += session->places[i].state == STORED_DONE && session->places[i].outcome == outcome;
  return count;
}

// ---- Places and acknowledgements

static void runs_of_acknowledgements_are_one_record(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t", 1), *pub = client_new(bench, MQTT_5_0, "pub");
  publish_numbers(pub, "t", 0, 20, 1);
  size_t batches = bench->store->batch_count;
  bench->store->hold_batches = true;
  take_numbers(sub, "t", 0, 20, 1);
  bench->store->hold_batches = false;
  bench_run(bench);
  struct span body;
  struct record_done done;
  assert_int_equal(store_bench_records(bench->store, RECORD_DONE, batches, &body), 1);
  assert_true(record_get_done(body, &done));
  assert_int_equal(done.place, 0);
  assert_int_equal(done.count, 20);
  assert_int_equal(done.outcome, OUTCOME_DELIVERED);
  // Out of order, and another outcome: what adjoins is together.
  publish_numbers(pub, "t", 20, 26, 1);
  uint16_t ids[6];
  for (unsigned i = 0; i < 6; i++) ids[i] = expect_number(sub, "t", 20 + i, false);
  batches = bench->store->batch_count;
  bench->store->hold_batches = true;
  client_ack(sub, MQTT_PUBACK, ids[2], MQTT_SUCCESS);
  client_ack(sub, MQTT_PUBACK, ids[3], MQTT_SUCCESS);
  client_ack(sub, MQTT_PUBACK, ids[0], MQTT_SUCCESS);
  client_ack(sub, MQTT_PUBACK, ids[0], MQTT_SUCCESS);  // again: nothing
  client_ack(sub, MQTT_PUBACK, ids[1], MQTT_NOT_AUTHORIZED);
  bench->store->hold_batches = false;
  bench_run(bench);
  assert_int_equal(store_bench_records(bench->store, RECORD_DONE, batches, &body), 3);
  assert_true(record_get_done(body, &done));
  assert_int_equal(done.outcome, OUTCOME_REFUSED);
  assert_int_equal(store_bench_find(bench->store, "sub")->waiting, 2);
  // The rest comes again, with what it had.
  client_drop(sub);
  sub = client_back(bench, "sub");
  assert_int_equal(expect_number(sub, "t", 24, true), ids[4]);
  assert_int_equal(expect_number(sub, "t", 25, true), ids[5]);
  client_expect_nothing(sub);
  client_ack(sub, MQTT_PUBACK, ids[5], MQTT_SUCCESS);
  client_ack(sub, MQTT_PUBACK, ids[4], MQTT_SUCCESS);
  assert_int_equal(store_bench_find(bench->store, "sub")->waiting, 0);
  assert_int_equal(bench_counters(bench).dropped[DROP_REFUSED], 1);
}

static void identifiers_survive_everything(void **state)
{
  (void)state;
  for (int crash = 0; crash < 2; crash++) {
    struct bench bench;
    bench_init_journal(&bench, 1, NULL, true);
    struct client *sub = client_durable(&bench, "sub", "t", 2), *pub = client_new(&bench, MQTT_5_0, "pub");
    publish_numbers(pub, "t", 0, 3, 1);
    take_numbers(sub, "t", 0, 3, 1);
    publish_numbers(pub, "t", 3, 6, 2);
    uint16_t ids[8];
    for (unsigned i = 3; i < 6; i++) assert_int_equal(ids[i] = expect_number(sub, "t", i, false), i + 1);
    client_ack(sub, MQTT_PUBREC, ids[4], MQTT_SUCCESS);
    client_expect_ack(sub, MQTT_PUBREL, ids[4], MQTT_SUCCESS);
    for (int times = 0; times < 3; times++) {
      if (crash) {
        bench_crash(&bench, 5000);
        pub = client_new(&bench, MQTT_5_0, "pub");
      } else {
        client_drop(sub);
      }
      if (times == 0) publish_numbers(pub, "t", 6, 8, 2);
      sub = client_back(&bench, "sub");
      assert_int_equal(expect_number(sub, "t", 3, true), ids[3]);
      client_expect_ack(sub, MQTT_PUBREL, ids[4], MQTT_SUCCESS);
      assert_int_equal(expect_number(sub, "t", 5, true), ids[5]);
      ids[6] = expect_number(sub, "t", 6, times > 0);
      ids[7] = expect_number(sub, "t", 7, times > 0);
      assert_int_equal(ids[6], 7);
      client_expect_nothing(sub);
    }
    for (unsigned i = 3; i < 8; i++) {
      if (i != 4) {
        client_ack(sub, MQTT_PUBREC, ids[i], MQTT_SUCCESS);
        client_expect_ack(sub, MQTT_PUBREL, ids[i], MQTT_SUCCESS);
      }
      client_ack(sub, MQTT_PUBCOMP, ids[i], MQTT_SUCCESS);
    }
    client_expect_nothing(sub);
    assert_int_equal(store_bench_find(bench.store, "sub")->waiting, 0);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.copies_queued + counters.copies_in_flight, 0);
    bench_deinit(&bench);
  }
}

// As after 65,530 messages.
static void move_on(struct bench *bench, const char *id, size_t place)
{
  struct stored_session *stored = store_bench_find(bench->store, id);
  struct durable *durable = session_of(bench, id)->durable;
  assert_int_equal(stored->tail, 0);
  stored->places = calloc(place, sizeof *stored->places);
  assert_non_null(stored->places);
  for (size_t i = 0; i < place; i++) stored->places[i].state = STORED_DONE;
  stored->tail = stored->places_capacity = place;
  durable->next = durable->spilled = durable->sent = durable->safe.safe = place;
}

static void identifiers_wrap(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t", 1), *pub = client_new(bench, MQTT_5_0, "pub");
  move_on(bench, "sub", 65530);
  publish_numbers(pub, "t", 0, 10, 1);
  uint16_t ids[10];
  for (unsigned i = 0; i < 10; i++) {
    ids[i] = expect_number(sub, "t", i, false);
    assert_int_equal(ids[i], (65530 + i) % 65535 + 1);
  }
  // Holes on both sides of the end, and identifiers that are left out.
  client_ack(sub, MQTT_PUBACK, ids[1], MQTT_SUCCESS);
  client_ack(sub, MQTT_PUBACK, ids[4], MQTT_SUCCESS);
  client_ack(sub, MQTT_PUBACK, ids[5], MQTT_SUCCESS);
  client_ack(sub, MQTT_PUBACK, ids[8], MQTT_SUCCESS);
  client_drop(sub);
  sub = client_back(bench, "sub");
  static const unsigned left[] = {0, 2, 3, 6, 7, 9};
  for (unsigned i = 0; i < 6; i++) assert_int_equal(expect_number(sub, "t", left[i], true), ids[left[i]]);
  client_ack(sub, MQTT_PUBACK, ids[5], MQTT_SUCCESS);  // done before
  client_ack(sub, MQTT_PUBACK, 20000, MQTT_SUCCESS);   // never sent
  for (unsigned i = 6; i > 0; i--) client_ack(sub, MQTT_PUBACK, ids[left[i - 1]], MQTT_SUCCESS);
  assert_int_equal(store_bench_find(bench->store, "sub")->waiting, 0);
  assert_int_equal(session_of(bench, "sub")->window.count, 0);
}

// A message that is never acknowledged keeps its identifier: the one that would get the same waits.
static void identifiers_are_given_once(void **state)
{
  enum { SPAN = 65535 };
  struct limits limits = limits_default();
  limits.in_flight = 65535;
  struct bench *bench = bench_make_journal(state, 1, &limits, false);
  struct client *sub = client_durable(bench, "sub", "t", 1), *pub = client_new(bench, MQTT_3_1_1, "pub");
  move_on(bench, "sub", 1000);
  publish_numbers(pub, "t", 0, 1, 1);
  uint16_t first = expect_number(sub, "t", 0, false);
  assert_int_equal(first, 1001);
  publish_numbers(pub, "t", 1, 3, 1);
  uint16_t second = expect_number(sub, "t", 1, false), third = expect_number(sub, "t", 2, false);
  for (unsigned i = 3; i < SPAN; i += 500) {
    unsigned to = i + 500 < SPAN ? i + 500 : SPAN;
    publish_numbers(pub, "t", i, to, 1);
    take_numbers(sub, "t", i, to, 1);
  }
  publish_numbers(pub, "t", SPAN, SPAN + 2, 1);
  client_expect_nothing(sub);
  client_ack(sub, MQTT_PUBACK, third, MQTT_SUCCESS);
  client_expect_nothing(sub);
  client_ack(sub, MQTT_PUBACK, first, MQTT_SUCCESS);
  assert_int_equal(expect_number(sub, "t", SPAN, false), first);
  client_expect_nothing(sub);
  client_ack(sub, MQTT_PUBACK, second, MQTT_SUCCESS);
  assert_int_equal(expect_number(sub, "t", SPAN + 1, false), second);
  client_ack(sub, MQTT_PUBACK, first, MQTT_SUCCESS);
  client_ack(sub, MQTT_PUBACK, second, MQTT_SUCCESS);
  assert_int_equal(store_bench_find(bench->store, "sub")->waiting, 0);
}

// ---- Between memory and disk

static void queues_spill_and_come_back_in_order(void **state)
{
  enum { MANY = 12000 };
  struct limits limits = limits_default();
  limits.in_flight = 5;
  struct bench *bench = bench_make_journal(state, 1, &limits, true);
  struct client *sub = client_durable(bench, "sub", "t", 1), *pub = client_new(bench, MQTT_5_0, "pub");
  publish_numbers(pub, "t", 0, MANY, 1);
  const struct session *session = session_of(bench, "sub");
  assert_int_equal(session->waiting, MANY - 5);
  assert_true(session->queue.count < MANY / 2);
  assert_int_equal(bench->store->loads_asked, 0);
  take_numbers(sub, "t", 0, MANY / 2, 1);
  // What comes now is behind all that.
  publish_numbers(pub, "t", MANY, MANY + 100, 1);
  assert_true(session->queue.count < MANY / 2);
  take_numbers(sub, "t", MANY / 2, MANY + 100, 1);
  client_expect_nothing(sub);
  assert_true(bench->store->loads_asked > 1);
  assert_int_equal(session->waiting, 0);
  assert_int_equal(session->durable->kept_bytes, 0);
  // Memory serves again.
  size_t loads = bench->store->loads_asked;
  publish_numbers(pub, "t", 0, 50, 1);
  take_numbers(sub, "t", 0, 50, 1);
  assert_int_equal(bench->store->loads_asked, loads);
  assert_int_equal(bench_counters(bench).delivered, MANY + 150);
}

static void absent_clients_need_no_memory(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t", 2), *pub = client_new(bench, MQTT_5_0, "pub");
  publish_numbers(pub, "t", 0, 100, 1);  // some in flight, some waiting
  client_drop(sub);
  int64_t before = bench->budget.used_bytes;
  publish_numbers(pub, "t", 100, 3000, 1);
  bench_run(bench);
  assert_in_range(bench->budget.used_bytes, 0, (uint64_t)before + 2048);
  const struct session *session = session_of(bench, "sub");
  assert_int_equal(session->queue.count, 0);
  assert_int_equal(session->waiting, 3000);
  sub = client_back(bench, "sub");
  for (unsigned i = 0; i < 32; i++) {
    uint16_t id = expect_number(sub, "t", i, true);
    client_ack(sub, MQTT_PUBACK, id, MQTT_SUCCESS);
  }
  take_numbers(sub, "t", 32, 3000, 1);
  client_expect_nothing(sub);
  assert_int_equal(session->waiting, 0);
  assert_int_equal(session->waiting_bytes, 0);
}

static void loads_wait_until_it_is_safe(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, false);
  struct client *sub = client_durable(bench, "sub", "t", 1), *pub = client_new(bench, MQTT_5_0, "pub");
  publish_numbers(pub, "t", 0, 3, 1);
  bench->store->hold_commits = true;
  uint16_t id = expect_number(sub, "t", 0, false);
  client_ack(sub, MQTT_PUBACK, id, MQTT_SUCCESS);
  client_drop(sub);
  publish_numbers(pub, "t", 3, 6, 1);
  // That the first one was acknowledged is not safe yet: it would be loaded again.
  sub = client_back(bench, "sub");
  client_expect_nothing(sub);
  assert_int_equal(bench->store->loads_asked, 0);
  bench->store->hold_commits = false;
  bench_run(bench);
  for (unsigned i = 1; i < 6; i++) {
    id = expect_number(sub, "t", i, i < 3);
    assert_int_equal(id, i + 1);
    client_ack(sub, MQTT_PUBACK, id, MQTT_SUCCESS);
  }
  client_expect_nothing(sub);
}

static void loads_that_come_late(void **state)
{
  (void)state;
  enum way { AWAY, BACK, TAKEN_OVER, ENDED, NEW, MORE, LAST };
  for (enum way way = AWAY; way < LAST; way++) {
    struct bench bench;
    bench_init_journal(&bench, 1, NULL, true);
    struct client *sub = client_durable(&bench, "sub", "t", 1), *pub = client_new(&bench, MQTT_5_0, "pub");
    client_drop(sub);
    publish_numbers(pub, "t", 0, 40, 1);
    bench.store->hold_loads = true;
    sub = client_back(&bench, "sub");
    assert_int_equal(bench.store->load_count, 1);
    client_expect_nothing(sub);
    switch (way) {
      case AWAY: client_drop(sub); break;
      case BACK:
        client_drop(sub);
        sub = client_back(&bench, "sub");
        assert_int_equal(bench.store->load_count, 2);
        break;
      case TAKEN_OVER: sub = client_back(&bench, "sub"); break;
      case ENDED: sub = client_new(&bench, MQTT_5_0, "sub"); break;
      case NEW:
        sub = client_new(&bench, MQTT_5_0, "sub");
        client_disconnect(sub, MQTT_SUCCESS);
        sub = client_durable(&bench, "sub", "t", 1);
        break;
      case MORE: publish_numbers(pub, "t", 40, 50, 1); break;
      case LAST: break;
    }
    client_expect_nothing(sub);
    bench_answer_load(&bench);
    if (way != MORE) client_expect_nothing(sub);
    bench.store->hold_loads = false;
    bench_run(&bench);
    if (way == AWAY) sub = client_back(&bench, "sub");
    unsigned expected = way == ENDED || way == NEW ? 0 : way == MORE ? 50 : 40;
    take_numbers(sub, "t", 0, expected, 1);
    client_expect_nothing(sub);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.delivered, expected);
    assert_int_equal(counters.copies_queued, 0);
    assert_int_equal(counters.dropped[DROP_SESSION_ENDED], expected ? 0 : 40);
    bench_deinit(&bench);
  }
}

static void damaged_messages_are_counted(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *sub = client_durable(bench, "sub", "#", 1), *pub = client_new(bench, MQTT_5_0, "pub");
  publish_numbers(pub, "bad/1", 0, 1, 1);  // in flight, even
  client_expect(sub, MQTT_PUBLISH);
  client_drop(sub);
  publish_numbers(pub, "good", 0, 2, 1);
  publish_numbers(pub, "bad/2", 0, 3, 1);
  publish_numbers(pub, "good", 2, 4, 1);
  bench->store->damage = span_text("bad");
  sub = client_back(bench, "sub");
  take_numbers(sub, "good", 0, 4, 1);
  client_expect_nothing(sub);
  assert_int_equal(bench_counters(bench).dropped[DROP_DAMAGED], 4);
  assert_int_equal(outcomes(bench, "sub", OUTCOME_DAMAGED), 4);
  assert_true(bench_logged(bench, "message_damaged"));
  assert_int_equal(session_of(bench, "sub")->waiting_bytes, 0);
  // The only one there is.
  client_drop(sub);
  publish_numbers(pub, "bad/3", 0, 1, 1);
  sub = client_back(bench, "sub");
  client_expect_nothing(sub);
  assert_int_equal(bench_counters(bench).dropped[DROP_DAMAGED], 5);
}

// What is short of memory lives on disk.
static void short_memory_spills(void **state)
{
  struct limits limits = limits_default();
  limits.in_flight = 1;
  struct bench *bench = bench_make_journal(state, 1, &limits, true);
  struct client *sub = client_durable(bench, "sub", "t", 1), *pub = client_new(bench, MQTT_5_0, "pub");
  publish_numbers(pub, "t", 0, 2, 1);
  static char large[200001];
  memset(large, 'x', sizeof large - 1);
  client_publish(pub, "large", large, 0, true);
  client_take(sub, "t", "0", 1);                                               // settles what is counted
  atomic_store(&bench->budget.limit_bytes, bench->budget.used_bytes * 8 / 7);  // tight, not full
  for (unsigned i = 2; i < 30; i++) {
    char payload[16];
    snprintf(payload, sizeof payload, "%u", i);
    client_send_publish(pub, "t", payload, 1, false);
    bench_advance(bench, 200);
    client_expect(pub, MQTT_PUBACK);
  }
  assert_in_range(session_of(bench, "sub")->queue.count, 0, 1);
  atomic_store(&bench->budget.limit_bytes, INT64_MAX);
  take_numbers(sub, "t", 1, 30, 1);
  client_expect_nothing(sub);
}

// ---- What is dropped

static void full_queues_drop_their_oldest(void **state)
{
  (void)state;
  for (int connected = 0; connected < 2; connected++) {
    struct limits limits = limits_default();
    limits.queue_messages = 10;
    limits.in_flight = 2;
    struct bench bench;
    bench_init_journal(&bench, 1, &limits, true);
    struct client *sub = client_durable(&bench, "sub", "t", 1), *pub = client_new(&bench, MQTT_5_0, "pub");
    if (connected) {
      bench_advance(&bench, 2000);
      publish_numbers(pub, "t", 0, 2, 1);  // in flight
      bench_advance(&bench, 2000);         // it is stuck
    } else {
      client_drop(sub);
    }
    unsigned from = connected ? 2 : 0;
    publish_numbers(pub, "t", from, from + 35, 1);
    assert_int_equal(session_of(&bench, "sub")->waiting, 10);
    assert_int_equal(outcomes(&bench, "sub", OUTCOME_QUEUE_FULL), 25);
    assert_int_equal(bench_counters(&bench).dropped[DROP_QUEUE_FULL], 25);
    if (connected)
      take_numbers(sub, "t", 0, 2, 1);
    else
      sub = client_back(&bench, "sub");
    take_numbers(sub, "t", from + 25, from + 35, 1);
    client_expect_nothing(sub);
    assert_int_equal(session_of(&bench, "sub")->waiting_bytes, 0);
    bench_deinit(&bench);
  }
}

// What has been sent may have arrived: it is not what a full queue drops.
static void full_queues_keep_what_was_sent(void **state)
{
  (void)state;
  for (int crash = 0; crash < 2; crash++) {
    struct limits limits = limits_default();
    limits.queue_messages = 5;
    limits.in_flight = 3;
    struct bench bench;
    bench_init_journal(&bench, 1, &limits, true);
    struct client *sub = client_durable(&bench, "sub", "t", 2), *pub = client_new(&bench, MQTT_5_0, "pub");
    publish_numbers(pub, "t", 0, 3, 2);
    uint16_t ids[3];
    for (unsigned i = 0; i < 3; i++) ids[i] = expect_number(sub, "t", i, false);
    client_ack(sub, MQTT_PUBREC, ids[0], MQTT_SUCCESS);
    client_expect_ack(sub, MQTT_PUBREL, ids[0], MQTT_SUCCESS);
    client_drop(sub);
    if (crash) {
      bench_crash(&bench, 1000);
      pub = client_new(&bench, MQTT_5_0, "pub");
    }
    publish_numbers(pub, "t", 3, 20, 1);
    sub = client_back(&bench, "sub");
    client_expect_ack(sub, MQTT_PUBREL, ids[0], MQTT_SUCCESS);
    assert_int_equal(expect_number(sub, "t", 1, true), ids[1]);
    assert_int_equal(expect_number(sub, "t", 2, true), ids[2]);
    client_ack(sub, MQTT_PUBCOMP, ids[0], MQTT_SUCCESS);
    for (unsigned i = 1; i < 3; i++) {
      client_ack(sub, MQTT_PUBREC, ids[i], MQTT_SUCCESS);
      client_ack(sub, MQTT_PUBCOMP, ids[i], MQTT_SUCCESS);
    }
    bench_run(&bench);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.delivered, 3);
    assert_int_equal(session_of(&bench, "sub")->waiting + session_of(&bench, "sub")->window.count +
                         counters.dropped[DROP_QUEUE_FULL],
                     17);
    bench_deinit(&bench);
  }
}

static void full_queues_by_bytes(void **state)
{
  struct limits limits = limits_default();
  limits.queue_messages = 0;
  limits.queue_bytes = 3000;
  struct bench *bench = bench_make_journal(state, 1, &limits, true);
  struct client *sub = client_durable(bench, "sub", "t", 1), *pub = client_new(bench, MQTT_5_0, "pub");
  client_drop(sub);
  publish_numbers(pub, "t", 0, 200, 1);
  const struct session *session = session_of(bench, "sub");
  assert_in_range(session->waiting_bytes, 2000, 3000);
  // One message always fits, however large.
  char large[5001];
  memset(large, 'x', 5000);
  large[5000] = '\0';
  client_publish(pub, "t", large, 1, false);
  assert_int_equal(session->waiting, 1);
  sub = client_back(bench, "sub");
  client_take(sub, "t", large, 1);
  client_expect_nothing(sub);
  assert_int_equal(session->waiting_bytes, 0);
  assert_int_equal(outcomes(bench, "sub", OUTCOME_QUEUE_FULL), 200);
}

static void full_queues_may_drop_the_new_one_or_refuse(void **state)
{
  (void)state;
  for (int reject = 0; reject < 2; reject++) {
    struct limits limits = limits_default();
    limits.queue_messages = 3;
    limits.queue_drop = reject ? QUEUE_REJECT : QUEUE_DROP_NEWEST;
    struct bench bench;
    bench_init_journal(&bench, 1, &limits, true);
    struct client *sub = client_durable(&bench, "sub", "t", 2), *pub = client_new(&bench, MQTT_5_0, "pub");
    struct client *old = client_new(&bench, MQTT_3_1_1, "old");
    client_drop(sub);
    publish_numbers(pub, "t", 0, 3, 1);
    size_t batches = bench.store->batch_count;
    for (uint8_t qos = 1; qos <= 2; qos++) {
      uint16_t id = client_send_publish(pub, "t", "late", qos, false);
      client_expect_ack(pub, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, id, reject ? MQTT_QUOTA_EXCEEDED : MQTT_SUCCESS);
    }
    client_publish(old, "t", "late", 1, false);  // cannot be told
    client_publish(pub, "t", "late", 0, false);
    assert_int_equal(store_bench_records(bench.store, RECORD_MESSAGE, batches, NULL), 0);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.publish_refused[REFUSE_QUEUE_FULL], reject ? 2 : 0);
    assert_int_equal(counters.dropped[DROP_QUEUE_FULL], reject ? 1 : 3);
    sub = client_back(&bench, "sub");
    take_numbers(sub, "t", 0, 3, 1);
    client_expect_nothing(sub);
    if (reject) client_publish(pub, "t", "again", 2, false);
    bench_deinit(&bench);
  }
}

static void messages_expire_while_their_receiver_is_away(void **state)
{
  (void)state;
  for (int crash = 0; crash < 2; crash++) {
    struct bench bench;
    bench_init_journal(&bench, 1, NULL, true);
    struct client *sub = client_durable(&bench, "sub", "t", 2), *pub = client_new(&bench, MQTT_5_0, "pub");
    client_drop(sub);
    for (uint32_t i = 1; i <= 4; i++) {
      struct mqtt_packet packet = publish_packet(pub, "t", i == 3 ? "stays" : "goes", 1);
      property_set(&packet.publish.properties, MQTT_PROPERTY_MESSAGE_EXPIRY);
      packet.publish.properties.message_expiry_s = i == 3 ? 100 : i * 10;
      client_send(pub, &packet);
      client_expect(pub, MQTT_PUBACK);
    }
    if (crash)
      bench_crash(&bench, 50 * 1000);
    else
      bench_advance(&bench, 50 * 1000);
    sub = client_back(&bench, "sub");
    const struct mqtt_publish *publish = client_expect_publish(sub, "t", "stays");
    assert_int_equal(publish->properties.message_expiry_s, 50);
    assert_int_equal(publish->packet_id, 3);
    client_ack(sub, MQTT_PUBACK, 3, MQTT_SUCCESS);
    client_expect_nothing(sub);
    assert_int_equal(outcomes(&bench, "sub", OUTCOME_EXPIRED), 3);
    assert_int_equal(bench_counters(&bench).expired, 3);
    bench_deinit(&bench);
  }
}

// Looked at every minute, so that they are gone though their receiver never comes back; all of them, however many.
static void absent_queues_lose_what_is_too_old(void **state)
{
  (void)state;
  for (int crash = 0; crash < 2; crash++) {
    struct limits limits = limits_default();
    limits.queue_age_s = 3600;
    limits.keep_alive_max_s = 0;
    struct bench bench;
    bench_init_journal(&bench, 1, &limits, true);
    struct client *sub = client_open(&bench, MQTT_5_0, 0);
    client_connect(sub, "sub", false, 7 * 24 * 3600);
    client_subscribe(sub, "t", 2);
    struct client *pub = client_new(&bench, MQTT_5_0, "pub");
    publish_numbers(pub, "t", 0, 3, 2);
    for (unsigned i = 0; i < 3; i++) expect_number(sub, "t", i, false);
    client_drop(sub);  // three were sent
    publish_numbers(pub, "t", 3, 1000, 1);
    client_disconnect(pub, MQTT_SUCCESS);
    bench_advance(&bench, 1800 * 1000);
    pub = client_new(&bench, MQTT_5_0, "pub");
    publish_numbers(pub, "t", 1000, 1010, 1);
    client_disconnect(pub, MQTT_SUCCESS);
    assert_int_equal(session_of(&bench, "sub")->waiting, 1010);
    if (crash) bench_crash(&bench, 1000);
    bench_advance(&bench, 1800 * 1000 - 10000);
    assert_int_equal(session_of(&bench, "sub")->waiting, 1010);
    bench_advance(&bench, 130 * 1000);
    assert_int_equal(session_of(&bench, "sub")->waiting, 13);
    assert_int_equal(outcomes(&bench, "sub", OUTCOME_QUEUE_AGE), 997);
    sub = client_open(&bench, MQTT_5_0, 0);
    client_connect(sub, "sub", false, 3600);
    for (unsigned i = 0; i < 3; i++) expect_number(sub, "t", i, true);
    take_numbers(sub, "t", 1000, 1010, 1);
    client_expect_nothing(sub);
    bench_deinit(&bench);
  }
}

static void old_messages_are_not_sent(void **state)
{
  struct limits limits = limits_default();
  limits.queue_age_s = 100;
  limits.keep_alive_max_s = 0;
  limits.in_flight = 1;
  struct bench *bench = bench_make_journal(state, 1, &limits, true);
  struct client *sub = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "sub");
  packet.connect.keep_alive_s = 0;
  packet.connect.clean_start = false;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 3600;
  client_connect_packet(sub, &packet);
  client_subscribe(sub, "t", 1);
  struct client *pub = client_new(bench, MQTT_5_0, "pub");
  publish_numbers(pub, "t", 0, 5, 1);
  bench_advance(bench, 90 * 1000);
  publish_numbers(pub, "t", 5, 6, 1);
  bench_advance(bench, 30 * 1000);
  take_numbers(sub, "t", 0, 1, 1);  // was sent in time
  take_numbers(sub, "t", 5, 6, 1);
  client_expect_nothing(sub);
  assert_int_equal(outcomes(bench, "sub", OUTCOME_QUEUE_AGE), 4);
  assert_int_equal(bench_counters(bench).dropped[DROP_QUEUE_AGE], 4);
}

// A look at an absent client's queue that is answered when much has happened.
static void looks_that_come_late(void **state)
{
  (void)state;
  enum way { BACK, DROPPED, BACK_AND_AWAY, ENDED, LAST };
  for (enum way way = BACK; way < LAST; way++) {
    struct limits limits = limits_default();
    limits.queue_age_s = 30;
    limits.queue_messages = 20;
    limits.keep_alive_max_s = 0;
    struct bench bench;
    bench_init_journal(&bench, 1, &limits, true);
    struct client *sub = client_durable(&bench, "sub", "t", 1), *pub = client_new(&bench, MQTT_5_0, "pub");
    client_drop(sub);
    publish_numbers(pub, "t", 0, 20, 1);
    bench.store->hold_loads = true;
    bench_advance(&bench, 61 * 1000);
    assert_int_equal(bench.store->load_count, 1);
    unsigned from = 20, to = 20;
    if (way == DROPPED) publish_numbers(pub, "t", 20, to = 25, 1);
    if (way == BACK || way == BACK_AND_AWAY) sub = client_back(&bench, "sub");
    if (way == BACK_AND_AWAY) client_drop(sub);
    if (way == ENDED) client_new(&bench, MQTT_5_0, "sub");
    bench.store->hold_loads = false;
    bench_run(&bench);
    if (way == ENDED) {
      assert_int_equal(bench_counters(&bench).dropped[DROP_SESSION_ENDED], 20);
    } else {
      if (way != BACK) sub = client_back(&bench, "sub");
      take_numbers(sub, "t", from, to, 1);
      client_expect_nothing(sub);
      assert_int_equal(session_of(&bench, "sub")->waiting, 0);
    }
    assert_int_equal(bench_counters(&bench).copies_queued, 0);
    bench_deinit(&bench);
  }
}

// ---- Retained messages for durable sessions

static void retained_messages_are_queued(void **state)
{
  (void)state;
  enum { MANY = 600 };
  for (uint8_t published = 0; published <= 1; published++) {
    struct limits limits = limits_default();
    limits.in_flight = 10;
    limits.queue_messages = 100;
    limits.output_bytes = 20000;
    limits.queue_bytes = 30000;
    struct bench bench;
    bench_init_journal(&bench, 1, &limits, true);
    struct client *pub = client_new(&bench, MQTT_5_0, "pub");
    for (unsigned i = 0; i < MANY; i++) {
      char topic[16], payload[400];
      snprintf(topic, sizeof topic, "r/%u", i);
      snprintf(payload, sizeof payload, "%-390u", i);
      client_publish(pub, topic, payload, published, true);
    }
    struct client *sub = client_lasting(&bench, MQTT_5_0, "sub");
    client_queue_subscribe(sub, &(struct sub){.filter = "r/#", .qos = 1}, 1);
    bench_run(&bench);
    client_expect(sub, MQTT_SUBACK);
    bool dropped = !published;
    for (unsigned i = 0; i < MANY; i++) {
      const struct mqtt_publish *publish = &client_expect(sub, MQTT_PUBLISH)->publish;
      assert_int_equal(publish->qos, published);
      assert_true(publish->retain);
      if (i == 100 && !dropped) {
        dropped = true;
        // Some are in flight, some queued, the rest waits in the cursor.
        client_drop(sub);
        sub = client_back(&bench, "sub");
        i--;
        continue;
      }
      if (published) client_ack(sub, MQTT_PUBACK, publish->packet_id, MQTT_SUCCESS);
    }
    client_expect_nothing(sub);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.delivered, MANY);
    assert_int_equal(counters.dropped[DROP_QUEUE_FULL] + counters.dropped[DROP_SLOW_CONSUMER], 0);
    bench_deinit(&bench);
  }
}

static void retained_messages_come_behind_a_backlog(void **state)
{
  enum { MANY = 6000 };
  struct limits limits = limits_default();
  limits.in_flight = 65535;
  struct bench *bench = bench_make_journal(state, 1, &limits, true);
  bench->scratch_size = 1 << 20;
  struct client *pub = client_new(bench, MQTT_5_0, "pub");
  client_publish(pub, "r/1", "one", 1, true);
  client_publish(pub, "r/0", "zero", 0, true);
  struct client *sub = client_durable(bench, "sub", "t", 1);
  sub->stalled = true;
  publish_numbers(pub, "t", 0, MANY, 1);
  client_publish(pub, "t", "live", 0, false);
  client_queue_subscribe(sub, &(struct sub){.filter = "r/#", .qos = 1}, 1);
  bench_run(bench);
  client_publish(pub, "t", "live too", 0, false);
  client_unstall(sub);
  bool seen[4] = {false};
  unsigned next = 0;
  while (client_waiting(sub) > 0) {
    const struct mqtt_packet *packet = client_expect(
        sub, client_waiting(sub) && (buffer_peek(&sub->incoming).at[0] >> 4) == MQTT_SUBACK ? MQTT_SUBACK : MQTT_PUBLISH);
    if (packet->type == MQTT_SUBACK) continue;
    struct span payload = packet->publish.payload;
    static const char *const others[] = {"one", "zero", "live", "live too"};
    bool other = false;
    for (unsigned i = 0; i < 4; i++) {
      if (!span_equal(payload, span_text(others[i]))) continue;
      assert_false(seen[i]);
      seen[i] = other = true;
      assert_int_equal(packet->publish.retain, i < 2);
    }
    if (!other) next++;
    if (packet->publish.qos) client_ack(sub, MQTT_PUBACK, packet->publish.packet_id, MQTT_SUCCESS);
  }
  assert_int_equal(next, MANY);
  for (unsigned i = 0; i < 4; i++) assert_true(seen[i]);
  assert_int_equal(session_of(bench, "sub")->queue.count, 0);
}

// What the SUBACK promises is in the journal with the subscription, whatever waits in front of it.
static void retained_messages_are_safe_before_suback(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  enum { MANY = 1500, FIRST = 1024, WAITING = 20 };
  struct client *pub = client_new(bench, MQTT_5_0, "pub");
  for (unsigned i = 0; i < MANY; i++) {
    char topic[16];
    snprintf(topic, sizeof topic, "r/%u", i);
    client_publish(pub, topic, "x", 1, true);
  }
  struct client *sub = client_durable(bench, "sub", "t", 1);
  sub->stalled = true;
  publish_numbers(pub, "t", 0, WAITING, 1);
  client_queue_subscribe(sub, &(struct sub){.filter = "r/#", .qos = 1}, 1);
  bench_run(bench);
  client_unstall(sub);
  client_expect(sub, MQTT_SUBACK);
  assert_true(store_bench_find(bench->store, "sub")->tail >= WAITING + FIRST);
  take_numbers(sub, "t", 0, WAITING, 1);
  for (unsigned i = 0; i < MANY; i++) {
    const struct mqtt_publish *publish = &client_expect(sub, MQTT_PUBLISH)->publish;
    assert_true(publish->retain);
    client_ack(sub, MQTT_PUBACK, publish->packet_id, MQTT_SUCCESS);
  }
  client_expect_nothing(sub);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_BENCH(runs_of_acknowledgements_are_one_record),
      cmocka_unit_test(identifiers_survive_everything),
      WITH_BENCH(identifiers_wrap),
      WITH_BENCH(identifiers_are_given_once),
      WITH_BENCH(queues_spill_and_come_back_in_order),
      WITH_BENCH(absent_clients_need_no_memory),
      WITH_BENCH(loads_wait_until_it_is_safe),
      cmocka_unit_test(loads_that_come_late),
      WITH_BENCH(damaged_messages_are_counted),
      WITH_BENCH(short_memory_spills),
      cmocka_unit_test(full_queues_drop_their_oldest),
      cmocka_unit_test(full_queues_keep_what_was_sent),
      WITH_BENCH(full_queues_by_bytes),
      cmocka_unit_test(full_queues_may_drop_the_new_one_or_refuse),
      cmocka_unit_test(messages_expire_while_their_receiver_is_away),
      cmocka_unit_test(absent_queues_lose_what_is_too_old),
      WITH_BENCH(old_messages_are_not_sent),
      cmocka_unit_test(looks_that_come_late),
      cmocka_unit_test(retained_messages_are_queued),
      WITH_BENCH(retained_messages_come_behind_a_backlog),
      WITH_BENCH(retained_messages_are_safe_before_suback),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
