// The journal and the shards: restarts, a disk that is full, durable sessions and the other shards, anything in any order.
#include "bench.h"

#include "core/shard_internal.h"

enum { HIGH = 16 << 20 };  // as the bench has it

// ---- Milestones

static void milestones_remember_enough(void **state)
{
  (void)state;
  struct milestone milestone = {0};
  assert_false(milestone_commit(&milestone, 100));
  milestone_reach(&milestone, 5, 10);
  milestone_reach(&milestone, 5, 11);
  milestone_reach(&milestone, 6, 12);
  milestone_reach(&milestone, 7, 13);
  milestone_reach(&milestone, 9, 14);
  assert_false(milestone_commit(&milestone, 4));
  assert_true(milestone_commit(&milestone, 5));
  assert_int_equal(milestone.safe, 11);
  assert_false(milestone_commit(&milestone, 8));  // 6 and 7 were forgotten: later is safe, earlier would not be
  assert_int_equal(milestone.safe, 11);
  assert_true(milestone_commit(&milestone, 9));
  assert_int_equal(milestone.safe, 14);
  milestone_reach(&milestone, 10, 15);
  milestone_reach(&milestone, 11, 16);
  assert_true(milestone_commit(&milestone, 20));
  assert_int_equal(milestone.safe, 16);
  assert_int_equal(milestone.batch[0], 0);
}

// ---- Restarts

static void subscriptions_come_back_as_they_were(void **state)
{
  struct bench *bench = bench_make_journal(state, 2, NULL, true);
  struct client *sub = client_durable(bench, "sub", "plain", 0);
  client_subscribe(sub, "gone", 1);
  client_subscribe_with(sub, &(struct sub){.filter = "own", .qos = 1, .no_local = true, .id = 7}, MQTT_GRANTED_QOS_1);
  client_subscribe_with(sub, &(struct sub){.filter = "kept/+", .qos = 2, .retain_as_published = true, .id = 300},
                        MQTT_GRANTED_QOS_2);
  client_subscribe_with(sub, &(struct sub){.filter = "kept/+", .qos = 1, .retain_as_published = true, .id = 301},
                        MQTT_GRANTED_QOS_1);
  client_subscribe_with(sub, &(struct sub){.filter = "$share/g/shared", .qos = 1, .id = 8}, MQTT_GRANTED_QOS_1);
  client_unsubscribe(sub, "gone");
  // Queued before, with the identifiers that held then.
  client_drop(sub);
  struct client *pub = client_new_on(bench, MQTT_5_0, 1);
  client_publish(pub, "kept/1", "before", 2, true);
  client_publish(pub, "shared", "before", 1, false);
  bench_crash(bench, 1000);
  assert_int_equal(bench_counters(bench).subscriptions, 3);
  assert_int_equal(bench_counters(bench).shared_subscriptions, 1);
  pub = client_new_on(bench, MQTT_5_0, 1);
  client_publish(pub, "kept/1", "after", 1, true);
  client_publish(pub, "gone", "after", 1, false);
  client_publish(pub, "shared", "after", 1, false);
  sub = client_back(bench, "sub");
  static const char *const expected[][2] = {
      {"kept/1", "before"}, {"shared", "before"}, {"kept/1", "after"}, {"shared", "after"}};
  for (size_t i = 0; i < 4; i++) {
    const struct mqtt_publish *message = client_expect_publish(sub, expected[i][0], expected[i][1]);
    assert_int_equal(message->retain, i % 2 == 0);
    assert_int_equal(message->qos, 1);
    client_ack(sub, MQTT_PUBACK, message->packet_id, MQTT_SUCCESS);
  }
  client_publish(sub, "own", "mine", 1, false);
  client_publish(pub, "own", "other", 1, false);
  client_take(sub, "own", "other", 1);
  client_publish(pub, "plain", "p", 2, false);
  client_take(sub, "plain", "p", 0);
  client_expect_nothing(sub);
}

static void what_was_not_safe_is_gone_and_was_not_promised(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t", 2), *pub = client_new(bench, MQTT_5_0, "pub");
  client_publish(pub, "t", "safe", 1, false);
  client_take(sub, "t", "safe", 1);
  bench->store->hold_commits = true;
  client_send_publish(pub, "t", "x", 1, true);
  client_send_publish(pub, "t", "x", 2, false);
  client_expect_nothing(pub);
  client_expect_publish(sub, "t", "x");
  client_expect_nothing(sub);
  bench->store->hold_commits = false;
  bench_crash(bench, 1000);
  assert_int_equal(bench_counters(bench).retained_messages, 0);
  // The places are given again: no packet identifier is taken for another message's.
  pub = client_new(bench, MQTT_5_0, "pub");
  sub = client_back(bench, "sub");
  client_expect_nothing(sub);
  client_publish(pub, "t", "again", 2, false);
  const struct mqtt_publish *message = client_expect_publish(sub, "t", "again");
  assert_int_equal(message->packet_id, 2);
  assert_false(message->dup);
}

static void received_identifiers_survive(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t", 2), *pub = client_lasting(bench, MQTT_3_1_1, "pub");
  struct mqtt_packet packets[3];
  for (size_t i = 0; i < 3; i++) {
    packets[i] = publish_packet(pub, i == 2 ? "nobody" : "t", "m", 2);
    client_send(pub, &packets[i]);
    client_expect_ack(pub, MQTT_PUBREC, packets[i].publish.packet_id, MQTT_SUCCESS);
  }
  client_ack(pub, MQTT_PUBREL, packets[0].publish.packet_id, MQTT_SUCCESS);
  bench_crash(bench, 1000);
  pub = client_open(bench, MQTT_3_1_1, 0);
  assert_true(client_connect(pub, "pub", false, 0)->session_present);
  size_t batches = bench->store->batch_count;
  for (size_t i = 1; i < 3; i++) {  // sent again, and not taken twice
    packets[i].publish.dup = true;
    client_send(pub, &packets[i]);
    client_expect_ack(pub, MQTT_PUBREC, packets[i].publish.packet_id, MQTT_SUCCESS);
    client_ack(pub, MQTT_PUBREL, packets[i].publish.packet_id, MQTT_SUCCESS);
    client_expect_ack(pub, MQTT_PUBCOMP, packets[i].publish.packet_id, MQTT_SUCCESS);
  }
  assert_int_equal(store_bench_records(bench->store, RECORD_MESSAGE, batches, NULL), 0);
  client_send(pub, &packets[1]);  // a new one now
  client_expect_ack(pub, MQTT_PUBREC, packets[1].publish.packet_id, MQTT_SUCCESS);
  assert_int_equal(store_bench_records(bench->store, RECORD_MESSAGE, batches, NULL), 1);
  assert_int_equal(store_bench_find(bench->store, "sub")->tail, 3);
  (void)sub;
}

static void retained_messages_survive(void **state)
{
  struct bench *bench = bench_make_journal(state, 3, NULL, true);
  struct client *pub = client_new_on(bench, MQTT_5_0, 2);
  client_publish(pub, "r/1", "first", 1, true);
  client_publish(pub, "r/1", "second", 0, true);
  client_publish(pub, "r/2", "gone", 1, true);
  client_publish(pub, "r/2", "", 1, true);
  client_publish(pub, "r/4", "kept", 2, true);
  for (uint32_t i = 1; i <= 2; i++) {
    struct mqtt_packet packet = publish_packet(pub, i == 1 ? "r/3" : "r/5", "mortal", 1);
    packet.publish.retain = true;
    property_set(&packet.publish.properties, MQTT_PROPERTY_MESSAGE_EXPIRY);
    packet.publish.properties.message_expiry_s = i * 100;
    client_send(pub, &packet);
    client_expect(pub, MQTT_PUBACK);
  }
  shard_publish(bench->shards[0], span_text("$SYS/x"), span_text("y"), 0, true);
  bench_run(bench);
  bench_crash(bench, 150 * 1000);
  for (uint8_t i = 0; i < 3; i++) {
    struct client *sub = client_new_on(bench, MQTT_5_0, i);
    client_queue_subscribe(sub, &(struct sub){.filter = "#", .qos = 0}, 1);
    client_queue_subscribe(sub, &(struct sub){.filter = "$SYS/#", .qos = 0}, 1);
    bench_run(bench);
    client_expect(sub, MQTT_SUBACK);
    bool seen[6] = {false};
    for (unsigned k = 0; k < 3; k++) {
      const struct mqtt_publish *message = &client_expect(sub, MQTT_PUBLISH)->publish;
      unsigned number = message->topic.at[2] - '0';
      assert_true(message->retain);
      assert_span_text(message->payload, number == 1 ? "second" : number == 4 ? "kept" : "mortal");
      if (number == 5) assert_int_equal(message->properties.message_expiry_s, 50);
      assert_false(seen[number]);
      seen[number] = true;
    }
    client_expect(sub, MQTT_SUBACK);
    client_expect_nothing(sub);
    client_disconnect(sub, MQTT_SUCCESS);
  }
  // What comes now is later than what was restored, on every shard.
  pub = client_new_on(bench, MQTT_5_0, 1);
  client_publish(pub, "r/1", "third", 1, true);
  struct client *sub = client_new_on(bench, MQTT_5_0, 2);
  client_subscribe(sub, "r/1", 0);
  client_take(sub, "r/1", "third", 0);
}

static struct client *with_will(struct bench *bench, const char *id, uint32_t expiry_s, uint32_t delay_s)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, id);
  packet.connect.clean_start = false;
  packet.connect.will = (struct mqtt_will){.present = true, .qos = 1, .topic = span_text("will"), .payload = span_text(id)};
  property_set(&packet.connect.will.properties, MQTT_PROPERTY_WILL_DELAY);
  packet.connect.will.properties.will_delay_s = delay_s;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = expiry_s;
  client_connect_packet(client, &packet);
  return client;
}

static void wills_and_expiry_go_on_while_the_broker_is_down(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *watching = client_durable(bench, "watcher", "will", 1);
  client_drop(with_will(bench, "due", 1000, 50));
  client_drop(with_will(bench, "later", 1000, 100));
  client_disconnect(with_will(bench, "none", 1000, 50), MQTT_SUCCESS);
  client_drop(with_will(bench, "sent", 1000, 0));
  client_take(watching, "will", "sent", 1);
  client_drop(with_will(bench, "over", 60, 100));  // the session ends first, and its will with it
  struct client *there = with_will(bench, "there", 1000, 30);
  assert_non_null(there->connection);
  bench_crash(bench, 70 * 1000);
  watching = client_back(bench, "watcher");
  // Two that fell due meanwhile, in any order.
  for (unsigned i = 0; i < 2; i++) {
    const struct mqtt_publish *message = &client_expect(watching, MQTT_PUBLISH)->publish;
    assert_true(span_equal(message->payload, span_text("due")) || span_equal(message->payload, span_text("over")));
    client_ack(watching, MQTT_PUBACK, message->packet_id, MQTT_SUCCESS);
  }
  client_expect_nothing(watching);
  assert_null(store_bench_find(bench->store, "over"));
  assert_int_equal(bench_counters(bench).sessions_expired, 1);
  bench_advance(bench, 29 * 1000);
  client_expect_nothing(watching);
  bench_advance(bench, 1100);
  // "later" has waited for 100 s altogether, "there" for 30 s since the broker came back.
  for (unsigned i = 0; i < 2; i++) {
    const struct mqtt_publish *message = &client_expect(watching, MQTT_PUBLISH)->publish;
    client_ack(watching, MQTT_PUBACK, message->packet_id, MQTT_SUCCESS);
  }
  client_expect_nothing(watching);
  // None twice.
  bench_crash(bench, 70 * 1000);
  watching = client_back(bench, "watcher");
  bench_advance(bench, 100 * 1000);
  client_expect_nothing(watching);
  // The sessions' time goes on: 1000 s after they were left.
  bench_crash(bench, 740 * 1000);
  assert_null(store_bench_find(bench->store, "due"));
  assert_non_null(store_bench_find(bench->store, "there"));
  bench_crash(bench, 200 * 1000);
  bench_advance(bench, 300 * 1000);
  assert_null(store_bench_find(bench->store, "there"));
}

// ---- A disk that takes nothing

static void full_disks_refuse_and_recover(void **state)
{
  (void)state;
  for (uint8_t shard = 0; shard < 2; shard++) {
    struct bench bench;
    bench_init_journal(&bench, 2, NULL, true);
    struct client *sub = client_durable(&bench, "sub", "t", 2);
    struct client *pub = client_new_on(&bench, MQTT_5_0, shard);
    struct client *durable = client_lasting(&bench, MQTT_5_0, "durable");
    struct client *old = client_new_on(&bench, MQTT_3_1_1, shard);
    struct client *clean = client_new_on(&bench, MQTT_5_0, 1);
    client_subscribe(clean, "live", 2);
    bench_journal_state(&bench, shard ? JOURNAL_FAILING : JOURNAL_FULL);
    for (uint8_t qos = 1; qos <= 2; qos++) {
      uint16_t packet_id = client_send_publish(pub, "t", "x", qos, false);
      client_expect_ack(pub, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, packet_id, MQTT_QUOTA_EXCEEDED);
    }
    client_expect_ack(pub, MQTT_PUBACK, client_send_publish(pub, "r", "x", 1, true), MQTT_QUOTA_EXCEEDED);
    // A durable publisher's QoS 2 needs the disk whoever gets it.
    client_expect_ack(durable, MQTT_PUBREC, client_send_publish(durable, "live", "x", 2, false), MQTT_QUOTA_EXCEEDED);
    assert_int_equal(bench_counters(&bench).publish_refused[REFUSE_JOURNAL], 4);
    // What needs no disk goes on.
    for (uint8_t qos = 0; qos <= 2; qos++) {
      client_publish(pub, "live", "m", qos, false);
      client_take(clean, "live", "m", qos);
    }
    client_publish(pub, "t", "m", 0, false);
    client_take(sub, "t", "m", 0);
    client_publish(pub, "r", "m", 0, true);
    // One that cannot be told waits, and what is behind it.
    uint16_t waiting = client_send_publish(old, "t", "x", 1, false);
    client_queue_subscribe(old, &(struct sub){.filter = "z", .qos = 0}, 1);
    bench_advance(&bench, 3000 * 1000);
    assert_non_null(old->connection);
    client_expect_nothing(old);
    assert_true(old->paused);
    for (struct client *client = bench.clients; client; client = client->next)
      if (client->connection && client != old) client_send_bytes(client, "\xc0\0", 2);
    bench_journal_state(&bench, JOURNAL_OK);
    client_expect_ack(old, MQTT_PUBACK, waiting, MQTT_SUCCESS);
    client_expect(old, MQTT_SUBACK);
    assert_int_equal(bench_counters(&bench).paused_connections, 0);
    bench_deinit(&bench);
  }
}

// What waits for a disk that takes nothing is bounded, and nobody stands still for it who needs it not.
static void memory_is_bounded_while_the_disk_takes_nothing(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t", 1), *pub = client_new(bench, MQTT_3_1_1, "pub");
  struct client *other = client_new(bench, MQTT_5_0, "other");
  client_drop(sub);
  bench->store->hold_commits = true;
  enum { SIZE = 100 * 1000 };
  char *large = calloc(1, SIZE + 1);
  assert_non_null(large);
  memset(large, 'x', SIZE);
  unsigned sent = 0;
  while (!pub->paused) {
    client_send_publish(pub, "t", large, 1, false);
    assert_true(++sent < 2 * HIGH / SIZE);
  }
  assert_true(sent * SIZE > HIGH - SIZE);
  client_expect_nothing(pub);
  client_publish(other, "free", "m", 1, false);
  bench_advance(bench, 5000);
  assert_true(pub->paused);
  // QoS 0 goes on, without being kept.
  bench_journal_state(bench, JOURNAL_FULL);
  int64_t before = bench->budget.used_bytes;
  for (unsigned i = 0; i < 100; i++) client_publish(other, "r", large, 0, true);
  assert_true(bench->budget.used_bytes < before + 3 * SIZE);
  client_expect_ack(other, MQTT_PUBACK, client_send_publish(other, "t", "x", 1, false), MQTT_QUOTA_EXCEEDED);
  bench_journal_state(bench, JOURNAL_OK);
  for (unsigned i = 0; i < sent; i++) client_expect(pub, MQTT_PUBACK);
  assert_false(pub->paused);
  assert_int_equal(store_bench_find(bench->store, "sub")->waiting, sent);
  client_publish(other, "r", "last", 0, true);
  assert_int_equal(bench->store->retained_count, 1);
  free(large);
}

// The publishers of each shard, of every version, wait when there is much under way: all of it together fits the store's
// reserve.
static void what_is_under_way_is_bounded_on_all_shards(void **state)
{
  (void)state;
  enum { SIZE = 100 * 1000, SHARDS = 3 };
  char *large = calloc(1, SIZE + 1);
  assert_non_null(large);
  memset(large, 'x', SIZE);
  for (unsigned waits = 0; waits <= 1; waits++) {
    struct bench bench;
    bench_init_journal(&bench, SHARDS, NULL, waits);
    struct client *sub = client_durable(&bench, "sub", "t/#", 1), *pubs[SHARDS];
    client_drop(sub);
    unsigned sent = 0, of_one[SHARDS] = {0};
    for (uint8_t i = 0; i < SHARDS; i++) pubs[i] = client_new_on(&bench, i == 1 ? MQTT_3_1_1 : MQTT_5_0, i);
    bench.store->hold_commits = true;
    for (uint8_t i = 0; i < SHARDS; i++) {
      while (!pubs[i]->paused) {
        client_send_publish(pubs[i], "t/1", large, 1, false);
        assert_true(++of_one[i] < 2 * HIGH / SIZE);
      }
      sent += of_one[i];
    }
    assert_true(of_one[2] > 1 && of_one[1] > 1 && of_one[0] > 1);
    // The last of each was not taken yet.
    size_t taken = bench_counters(&bench).publish_received;
    assert_int_equal(taken, sent - SHARDS);
    assert_true(taken * SIZE > 2 * HIGH - 2 * SHARDS * SIZE && taken * SIZE <= 2 * HIGH + SHARDS * SIZE);
    // Whom it does not concern goes on, also beside them; with the disk full, 5.0 is told.
    struct client *other = client_new(&bench, MQTT_5_0, "other");
    client_publish(other, "free", "m", 1, false);
    bench_journal_state(&bench, JOURNAL_FULL);
    bench.store->hold_commits = false;
    bench_journal_state(&bench, JOURNAL_OK);
    for (uint8_t i = 0; i < SHARDS; i++) {
      assert_false(pubs[i]->paused);
      for (unsigned k = 1; k < of_one[i]; k++)
        assert_int_equal(client_expect(pubs[i], MQTT_PUBACK)->ack.reason, MQTT_SUCCESS);
      enum mqtt_reason last = client_expect(pubs[i], MQTT_PUBACK)->ack.reason;
      assert_int_equal(last, pubs[i]->version == MQTT_5_0 ? MQTT_QUOTA_EXCEEDED : MQTT_SUCCESS);
      client_publish(pubs[i], "t/2", "m", 1, false);
    }
    bench_deinit(&bench);
  }
  free(large);
}

static void retained_reads_wait_for_the_journal(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  struct client *pub = client_new(bench, MQTT_5_0, "pub"), *sub = client_durable(bench, "sub", "t", 1);
  client_publish(pub, "r", "one", 1, true);
  client_publish(pub, "r/2", "two", 0, true);
  sub->stalled = true;
  bench_journal_state(bench, JOURNAL_FULL);
  bench->store->hold_commits = false;  // the reserve takes what is not refused
  client_queue_subscribe(sub, &(struct sub){.filter = "r/#", .qos = 1}, 1);
  bench_run(bench);
  client_publish(pub, "t", "live", 0, false);
  client_unstall(sub);
  client_expect(sub, MQTT_SUBACK);
  client_take(sub, "t", "live", 0);
  client_expect_nothing(sub);
  bench_journal_state(bench, JOURNAL_OK);
  for (unsigned i = 0; i < 2; i++) {
    const struct mqtt_publish *message = &client_expect(sub, MQTT_PUBLISH)->publish;
    if (message->qos) client_ack(sub, MQTT_PUBACK, message->packet_id, MQTT_SUCCESS);
  }
  client_expect_nothing(sub);
}

// ---- Durable sessions and other shards

static void clean_clients_become_durable_and_back(void **state)
{
  struct bench *bench = bench_make_journal(state, 3, NULL, true);
  char id[16];
  bench_new_id(bench, 2, id);
  struct client *client = client_new(bench, MQTT_5_0, id);
  assert_int_equal(client->shard, 2);
  client_subscribe(client, "t", 1);
  // The same one with a clean session stays where it is.
  struct client *again = client_new(bench, MQTT_3_1_1, id);
  client_expect_disconnect(client, MQTT_SESSION_TAKEN_OVER);
  assert_int_equal(again->shard, 2);
  // It moves to the shard that keeps durable sessions; what it was ends first.
  bench->hold[0][2] = true;
  struct client *durable = client_open(bench, MQTT_5_0, 1);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, id);
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 100;
  packet.connect.clean_start = false;
  client_send(durable, &packet);
  client_expect_nothing(durable);
  assert_non_null(again->connection);
  // A clean one that comes meanwhile must not slip by.
  struct client *clean = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet clean_packet = connect_packet(MQTT_5_0, id);
  client_send(clean, &clean_packet);
  client_expect_nothing(clean);
  bench->hold[0][2] = false;
  bench_run(bench);
  client_expect_disconnect(again, MQTT_SESSION_TAKEN_OVER);
  assert_int_equal(bench_counters(bench).sessions, 1);
  assert_int_equal(bench_counters(bench).clients, 1);
  if (durable->connection) client_drop(durable);
  if (clean->connection) client_drop(clean);
  durable = client_open(bench, MQTT_5_0, 2);
  client_connect(durable, id, false, 100);
  assert_int_equal(durable->shard, JOURNAL_SHARD);
  client_subscribe(durable, "t", 1);
  client_drop(durable);
  // Clean again: the durable one ends.
  clean = client_new(bench, MQTT_3_1_1, id);
  assert_null(store_bench_find(bench->store, id));
  assert_int_equal(bench_counters(bench).sessions, 1);
  assert_int_equal(bench_counters(bench).subscriptions, 0);
  client_disconnect(clean, MQTT_SUCCESS);
  assert_int_equal(bench_counters(bench).sessions, 0);
  // Refused ones take nobody over.
  clean = client_new(bench, MQTT_5_0, id);
  durable = client_open(bench, MQTT_5_0, 0);
  packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text("$SYS/x"), .payload = span_text("x")};
  client_send(durable, &packet);
  client_expect_refused(durable, MQTT_NOT_AUTHORIZED);
  assert_non_null(clean->connection);
  client_expect_nothing(clean);
}

// One that gives up while the other shard is asked, and one that is answered when its time is over.
static void take_overs_that_nobody_waits_for(void **state)
{
  struct bench *bench = bench_make_journal(state, 2, NULL, true);
  char id[16];
  bench_new_id(bench, 1, id);
  for (int timed_out = 0; timed_out < 2; timed_out++) {
    bench->hold[1][0] = true;
    struct client *client = client_open(bench, MQTT_3_1_1, 0);
    struct mqtt_packet packet = connect_packet(MQTT_3_1_1, id);
    packet.connect.clean_start = false;
    client_send(client, &packet);
    client_expect_nothing(client);
    if (timed_out)
      bench_advance(bench, 20000);
    else
      client_drop(client);
    assert_null(client->connection);
    bench->hold[1][0] = false;
    bench_run(bench);
    assert_int_equal(bench_counters(bench).sessions, 0);
    assert_true(list_empty(&bench->shards[0]->tickets));
  }
  client_lasting(bench, MQTT_3_1_1, id);
  assert_true(list_empty(&bench->shards[0]->tickets));
}

static void clients_without_a_name_are_dealt_out(void **state)
{
  struct bench *bench = bench_make_journal(state, 2, NULL, true);
  unsigned on[2] = {0};
  for (unsigned i = 0; i < 40; i++) {
    struct client *client = client_open(bench, MQTT_5_0, i % 2);
    struct mqtt_packet packet = connect_packet(MQTT_5_0, "");
    client_connect_packet(client, &packet);
    on[client->shard]++;
  }
  assert_in_range(on[0], 8, 32);
}

static void shared_subscriptions_with_durable_members(void **state)
{
  (void)state;
  for (uint8_t shard_count = 1; shard_count <= 2; shard_count++) {
    struct bench bench;
    bench_init_journal(&bench, shard_count, NULL, true);
    struct client *durable = client_durable(&bench, "durable", "$share/g/t", 1);
    struct client *clean = client_new_on(&bench, MQTT_5_0, shard_count - 1);
    client_subscribe(clean, "$share/g/t", 1);
    struct client *pub = client_new_on(&bench, MQTT_5_0, shard_count - 1);
    for (unsigned i = 0; i < 4; i++) {
      client_publish(pub, "t", "m", 1, false);
      struct client *chosen = client_waiting(durable) ? durable : clean;
      client_take(chosen, "t", "m", 1);
    }
    assert_int_equal(bench_counters(&bench).delivered, 4);
    assert_int_equal(store_bench_find(bench.store, "durable")->tail, 2);
    // All that is away: the durable one keeps it, on disk.
    client_drop(clean);
    client_drop(durable);
    for (unsigned i = 0; i < 3; i++) client_publish(pub, "t", "away", 1, false);
    assert_int_equal(store_bench_find(bench.store, "durable")->waiting, 3);
    bench_crash(&bench, 1000);
    // Restored as a member that is away: one that is there comes first.
    clean = client_new_on(&bench, MQTT_5_0, shard_count - 1);
    client_subscribe(clean, "$share/g/t", 1);
    pub = client_new_on(&bench, MQTT_5_0, shard_count - 1);
    for (unsigned i = 0; i < 2; i++) {
      client_publish(pub, "t", "m", 1, false);
      client_take(clean, "t", "m", 1);
    }
    durable = client_back(&bench, "durable");
    for (unsigned i = 0; i < 3; i++) client_take(durable, "t", "away", 1);
    // What a clean member cannot take any more goes to the durable one, and is recorded.
    clean->stalled = true;
    client_publish(pub, "t", "m", 1, false);
    client_publish(pub, "t", "m", 1, false);
    client_drop(clean);
    client_take(durable, "t", "m", 1);
    client_take(durable, "t", "m", 1);
    client_expect_nothing(durable);
    // Its session ends with messages in flight and on disk.
    client_publish(pub, "t", "m", 1, false);
    client_drop(durable);
    client_publish(pub, "t", "m", 1, false);
    client_new(&bench, MQTT_5_0, "durable");
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.copies_queued + counters.copies_in_flight, 0);
    assert_int_equal(counters.dropped[DROP_SESSION_ENDED], shard_count == 1 ? 3 : 3);
    bench_deinit(&bench);
  }
}

static void everything_is_freed_whatever_is_open(void **state)
{
  struct bench *bench = bench_make_journal(state, 2, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t", 2), *pub = client_new(bench, MQTT_5_0, "pub");
  struct client *away = client_durable(bench, "away", "t", 1);
  client_drop(away);
  bench->store->hold_commits = true;
  client_send_publish(pub, "t", "x", 1, true);
  bench->store->hold_batches = true;
  client_send_publish(pub, "t", "x", 2, true);
  client_queue_subscribe(sub, &(struct sub){.filter = "x", .qos = 1}, 1);
  bench->store->hold_loads = true;
  struct client *again = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "away");
  packet.connect.clean_start = false;
  client_queue(again, &packet);
  bench_run(bench);
}

// ---- Anything, in any order

enum { WALK_CLIENTS = 3, WALK_MESSAGES = 4000 };

struct walk {
  struct bench bench;
  struct prng prng;
  unsigned seed;
  struct client *subs[WALK_CLIENTS], *pub;
  unsigned next;                             // number of the next message
  uint16_t pub_id[WALK_MESSAGES];            // packet identifier
  bool acked[WALK_MESSAGES];                 // the publisher was told that it is stored
  unsigned from[WALK_CLIENTS];               // messages before this one were published before it subscribed
  uint8_t got[WALK_CLIENTS][WALK_MESSAGES];  // how often
  unsigned first_behind[WALK_CLIENTS];       // messages that come for the first time are not before this one
  uint8_t qos[WALK_MESSAGES];
  unsigned outcomes[OUTCOMES];
  bool maybe_received[WALK_CLIENTS][65536];  // QoS 2 identifiers whose PUBREL has not come
};

static const char *const WALK_IDS[WALK_CLIENTS] = {"s0", "s1", "s2"};

static void walk_connect(struct walk *walk, unsigned i)
{
  struct client *client = walk->subs[i] = client_open(&walk->bench, i % 2 ? MQTT_3_1_1 : MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(client->version, WALK_IDS[i]);
  packet.connect.clean_start = false;
  packet.connect.keep_alive_s = 0;
  if (client->version == MQTT_5_0) {
    property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
    packet.connect.properties.session_expiry_s = 1000000;
  }
  client_send(client, &packet);
}

// Reads what came for a subscriber, and answers some of it.
static void walk_read(struct walk *walk, unsigned i, unsigned chance)
{
  struct client *client = walk->subs[i];
  while (client && client_waiting(client) >= 2) {
    const struct mqtt_packet *packet =
        client_expect(client, (enum mqtt_packet_type)(buffer_peek(&client->incoming).at[0] >> 4));
    struct mqtt_packet answer = {.type = MQTT_PUBACK, .ack.packet_id = packet->ack.packet_id};
    if (packet->type == MQTT_PUBLISH) {
      unsigned number = (unsigned)strtoul((const char *)packet->publish.payload.at, NULL, 10);
      uint16_t id = packet->publish.packet_id;
      assert_true(number < walk->next);
      bool known = packet->publish.qos == 2 && walk->maybe_received[i][id];
      if (!known && walk->got[i][number]++ == 0) {
        if (number < walk->first_behind[i])
          fail_msg("seed %u: %s gets %u behind %u; qos %u id %u dup %u", walk->seed, WALK_IDS[i], number,
                   walk->first_behind[i] - 1, packet->publish.qos, id, packet->publish.dup);
        walk->first_behind[i] = number + 1;
      }
      if (known) assert_true(packet->publish.dup || walk->got[i][number] > 0);
      if (packet->publish.qos == 2) {
        if (walk->got[i][number] != 1) fail_msg("%s got %u of QoS 2 again as %u", WALK_IDS[i], number, id);
        walk->maybe_received[i][id] = true;
      }
      if (prng_below(&walk->prng, 100) >= chance) continue;
      answer.type = packet->publish.qos == 2 ? MQTT_PUBREC : MQTT_PUBACK;
      answer.ack.packet_id = id;
    } else if (packet->type == MQTT_PUBREL) {
      walk->maybe_received[i][packet->ack.packet_id] = false;
      answer.type = MQTT_PUBCOMP;
      if (prng_below(&walk->prng, 100) >= chance) continue;
    } else {
      assert_true(packet->type == MQTT_CONNACK || packet->type == MQTT_SUBACK || packet->type == MQTT_DISCONNECT);
      continue;
    }
    if (client->connection) client_queue(client, &answer);
  }
}

static void walk_read_publisher(struct walk *walk)
{
  struct client *client = walk->pub;
  while (client && client_waiting(client) >= 2) {
    const struct mqtt_packet *packet =
        client_expect(client, (enum mqtt_packet_type)(buffer_peek(&client->incoming).at[0] >> 4));
    if (packet->type != MQTT_PUBACK && packet->type != MQTT_PUBREC) continue;
    uint16_t id = packet->ack.packet_id;
    bool released = packet->type == MQTT_PUBREC;
    for (unsigned k = walk->next; k > 0; k--) {
      if (walk->pub_id[k - 1] != id) continue;
      walk->acked[k - 1] = true;
      break;
    }
    struct mqtt_packet answer = {.type = MQTT_PUBREL, .ack.packet_id = id};
    if (released) client_queue(client, &answer);
  }
}

// The session ends and another one begins.
static void walk_anew(struct walk *walk, unsigned i)
{
  walk_read(walk, i, 100);
  client_disconnect(client_new(&walk->bench, MQTT_5_0, WALK_IDS[i]), MQTT_SUCCESS);
  walk->from[i] = walk->next;
  memset(walk->maybe_received[i], 0, sizeof walk->maybe_received[i]);
  walk_connect(walk, i);
  client_queue_subscribe(walk->subs[i], &(struct sub){.filter = "t", .qos = 2}, 1);
}

static void walk_publish(struct walk *walk)
{
  if (walk->next == WALK_MESSAGES || !walk->pub || !walk->pub->connection) return;
  char payload[16];
  snprintf(payload, sizeof payload, "%u ", walk->next);
  uint8_t qos = (uint8_t)(1 + prng_below(&walk->prng, 2));
  struct mqtt_packet packet = publish_packet(walk->pub, "t", payload, qos);
  walk->pub_id[walk->next] = packet.publish.packet_id;
  walk->qos[walk->next++] = qos;
  client_queue(walk->pub, &packet);
}

static void walk_all_back(struct walk *walk)
{
  for (unsigned i = 0; i < WALK_CLIENTS; i++)
    if (!walk->subs[i] || !walk->subs[i]->connection) walk_connect(walk, i);
  if (walk->pub && walk->pub->connection) return;
  uint16_t next = walk->pub ? walk->pub->next_id : 1;
  walk->pub = client_new(&walk->bench, MQTT_3_1_1, "pub");
  walk->pub->next_id = next;
}

static void walk_step(struct walk *walk)
{
  struct bench *bench = &walk->bench;
  struct store_bench *store = bench->store;
  unsigned i = (unsigned)prng_below(&walk->prng, WALK_CLIENTS);
  switch (prng_below(&walk->prng, 24)) {
    case 0: store->hold_commits = !store->hold_commits; break;
    case 1: store->hold_loads = !store->hold_loads; break;
    case 2: store->hold_batches = prng_below(&walk->prng, 4) == 0; break;
    case 3:
      if (walk->subs[i] && walk->subs[i]->connection) {
        walk_read(walk, i, 50);
        client_drop(walk->subs[i]);
      }
      break;
    case 4:
    case 5: walk_connect(walk, i); break;  // may take over
    case 6: bench_commit(bench, 1); break;
    case 7:
      if (store->load_count) bench_answer_load(bench);
      break;
    case 8: bench_advance(bench, prng_below(&walk->prng, prng_below(&walk->prng, 8) ? 200 : 65000)); break;
    case 9:
      if (!bench->journal_waits || prng_below(&walk->prng, 10) > 0) break;  // what else is lost was not promised
      for (unsigned k = 0; k < WALK_CLIENTS; k++) walk_read(walk, k, 50);
      walk_read_publisher(walk);
      bench_crash(bench, prng_below(&walk->prng, 10000));
      // What was dropped, and not safely, is there again: behind what has been seen by then.
      memset(walk->first_behind, 0, sizeof walk->first_behind);
      store->hold_commits = store->hold_batches = store->hold_loads = false;
      if (prng_below(&walk->prng, 2)) walk_all_back(walk);
      break;
    case 10:
    case 11:
    case 12:
    case 13: walk_read(walk, i, 30 + (unsigned)prng_below(&walk->prng, 71)); break;
    case 14: walk_read_publisher(walk); break;
    case 15:
      if (store->hold_commits || store->hold_batches) break;
      if (!walk->pub->connection) walk_all_back(walk);
      if (prng_below(&walk->prng, 3) == 0) walk_anew(walk, i);
      break;
    default:
      for (uint64_t count = prng_below(&walk->prng, 6); count > 0; count--) walk_publish(walk);
      break;
  }
  bench_run(bench);
}

static void walk_check(struct walk *walk)
{
  struct store_bench *store = walk->bench.store;
  store->hold_commits = store->hold_batches = store->hold_loads = false;
  bench_run(&walk->bench);
  for (unsigned i = 0; i < WALK_CLIENTS; i++) walk_read(walk, i, 0);
  for (unsigned i = 0; i < WALK_CLIENTS; i++)
    if (walk->subs[i] && walk->subs[i]->connection) client_drop(walk->subs[i]);
  walk_all_back(walk);
  for (bool moved = true; moved;) {
    bench_run(&walk->bench);
    moved = false;
    walk_read_publisher(walk);
    for (unsigned i = 0; i < WALK_CLIENTS; i++) {
      moved |= client_waiting(walk->subs[i]) > 0;
      walk_read(walk, i, 100);
    }
  }
  for (unsigned i = 0; i < WALK_CLIENTS; i++) {
    const struct stored_session *stored = store_bench_find(store, WALK_IDS[i]);
    assert_int_equal(stored->waiting, 0);
    bool *queued = calloc(walk->next, sizeof *queued);
    assert_non_null(queued);
    for (size_t place = 0; place < stored->tail; place++) {
      struct record_message message;
      assert_true(record_get_message(stored->places[place].message, &message));
      unsigned k = (unsigned)strtoul((const char *)message.payload.at, NULL, 10);
      assert_true(k < walk->next);
      assert_false(queued[k]);
      queued[k] = true;
      if (stored->places[place].outcome == OUTCOME_DELIVERED && walk->got[i][k] == 0)
        fail_msg("%s never got %u (QoS %u)", WALK_IDS[i], k, walk->qos[k]);
      walk->outcomes[stored->places[place].outcome]++;
    }
    for (unsigned k = walk->from[i]; k < walk->next; k++)
      if (walk->acked[k] && !queued[k] && walk->bench.limits.queue_drop == QUEUE_DROP_OLDEST)
        fail_msg("%u was never queued for %s", k, WALK_IDS[i]);
    free(queued);
  }
  struct counters counters = bench_counters(&walk->bench);
  assert_int_equal(counters.copies_queued + counters.copies_in_flight, 0);
}

static void anything_in_any_order(void **state)
{
  (void)state;
  enum { WALKS = 300, STEPS = 400 };
  unsigned outcomes[OUTCOMES] = {0};
  for (unsigned seed = 1; seed <= WALKS; seed++) {
    struct walk *walk = calloc(1, sizeof *walk);
    assert_non_null(walk);
    prng_seed(&walk->prng, seed);
    walk->seed = seed;
    struct limits limits = limits_default();
    limits.in_flight = (uint16_t)(1 + prng_below(&walk->prng, 20));
    limits.queue_messages = prng_below(&walk->prng, 2) ? 0 : 1 + (uint32_t)prng_below(&walk->prng, 40);
    limits.queue_drop = prng_below(&walk->prng, 3) ? QUEUE_DROP_OLDEST : QUEUE_DROP_NEWEST;
    limits.queue_age_s = prng_below(&walk->prng, 3) ? 0 : 1 + (uint32_t)prng_below(&walk->prng, 60);
    bench_init_journal(&walk->bench, (uint8_t)(1 + seed % 2), &limits, prng_below(&walk->prng, 5) > 0);
    walk_all_back(walk);
    for (unsigned i = 0; i < WALK_CLIENTS; i++)
      client_queue_subscribe(walk->subs[i], &(struct sub){.filter = "t", .qos = 2}, 1);
    bench_run(&walk->bench);
    for (unsigned i = 0; i < STEPS; i++) walk_step(walk);
    walk_check(walk);
    for (unsigned i = 0; i < OUTCOMES; i++) outcomes[i] += walk->outcomes[i];
    bench_deinit(&walk->bench);
    free(walk);
  }
  // The walks have been everywhere.
  assert_true(outcomes[OUTCOME_DELIVERED] > 10000);
  assert_true(outcomes[OUTCOME_QUEUE_FULL] > 1000);
  assert_true(outcomes[OUTCOME_QUEUE_AGE] > 100);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(milestones_remember_enough),
      WITH_BENCH(subscriptions_come_back_as_they_were),
      WITH_BENCH(what_was_not_safe_is_gone_and_was_not_promised),
      WITH_BENCH(received_identifiers_survive),
      WITH_BENCH(retained_messages_survive),
      WITH_BENCH(wills_and_expiry_go_on_while_the_broker_is_down),
      cmocka_unit_test(full_disks_refuse_and_recover),
      WITH_BENCH(memory_is_bounded_while_the_disk_takes_nothing),
      cmocka_unit_test(what_is_under_way_is_bounded_on_all_shards),
      WITH_BENCH(retained_reads_wait_for_the_journal),
      WITH_BENCH(clean_clients_become_durable_and_back),
      WITH_BENCH(take_overs_that_nobody_waits_for),
      WITH_BENCH(clients_without_a_name_are_dealt_out),
      cmocka_unit_test(shared_subscriptions_with_durable_members),
      WITH_BENCH(everything_is_freed_whatever_is_open),
      cmocka_unit_test(anything_in_any_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
