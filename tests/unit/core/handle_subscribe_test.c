// SUBSCRIBE and UNSUBSCRIBE, retained messages at SUBSCRIBE, across shards.
#include "bench.h"

#include "core/shard_internal.h"

// ---- Codes

static void filters_are_judged(void **state)
{
  (void)state;
  struct limits limits = limits_default();
  limits.topic_levels = 4;
  limits.subscriptions = 6;
  for (uint8_t shards = 1; shards <= 2; shards++) {
    struct bench bench;
    bench_init(&bench, shards, &limits);
    struct client *client = client_new(&bench, MQTT_5_0, "c");
    static const struct sub subs[] = {
        {.filter = "a", .qos = 0},         {.filter = "a/#", .qos = 1},       {.filter = "#/a", .qos = 1},
        {.filter = "a+", .qos = 1},        {.filter = "a/b/c/d/e", .qos = 1}, {.filter = "+/+/+/+", .qos = 2},
        {.filter = "$share/g", .qos = 1},  {.filter = "$share//a", .qos = 1}, {.filter = "$share/g/a", .qos = 2},
        {.filter = "$share/g+/a"},         {.filter = "$share/g/#/a"},        {.filter = "$SYS/#", .qos = 0},
        {.filter = "/", .qos = 1},         {.filter = "one too many"},        {.filter = "a", .qos = 2},
        {.filter = "$share/g/a", .qos = 1}};
    static const uint8_t codes[] = {0, 1, 0x8f, 0x8f, 0x8f, 2, 0x8f, 0x8f, 2, 0x8f, 0x8f, 0, 1, 0x97, 2, 1};
    client_queue_subscribe(client, subs, sizeof subs / sizeof subs[0]);
    bench_run(&bench);
    client_expect_codes(client, subs, codes, sizeof codes);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.subscriptions, 5);
    assert_int_equal(counters.shared_subscriptions, 1);
    assert_true(bench_logged(&bench, "subscribe_refused"));
    assert_int_equal(client_unsubscribe(client, "a"), MQTT_SUCCESS);
    assert_int_equal(client_unsubscribe(client, "a"), MQTT_NO_SUBSCRIPTION_EXISTED);
    assert_int_equal(client_unsubscribe(client, "b"), MQTT_NO_SUBSCRIPTION_EXISTED);
    assert_int_equal(client_unsubscribe(client, "#/a"), MQTT_TOPIC_FILTER_INVALID);
    assert_int_equal(client_unsubscribe(client, "$share/g/b"), MQTT_NO_SUBSCRIPTION_EXISTED);
    assert_int_equal(client_unsubscribe(client, "$share/g/a"), MQTT_SUCCESS);
    counters = bench_counters(&bench);
    assert_int_equal(counters.subscriptions, 4);
    assert_int_equal(counters.shared_subscriptions, 0);
    // Before 5.0 there is but one code of failure.
    struct client *old = client_new(&bench, MQTT_3_1_1, "o");
    client_subscribe_with(old, &(struct sub){.filter = "#/a"}, MQTT_UNSPECIFIED_ERROR);
    client_unsubscribe(old, "#/a");
    bench_deinit(&bench);
  }
}

// ---- What is delivered

static void overlaps_are_one_copy(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  client_subscribe_with(client, &(struct sub){.filter = "a/b", .qos = 0, .id = 1}, MQTT_SUCCESS);
  client_subscribe_with(client, &(struct sub){.filter = "a/+", .qos = 2, .id = 2}, MQTT_GRANTED_QOS_2);
  client_subscribe_with(client, &(struct sub){.filter = "#", .qos = 1}, MQTT_GRANTED_QOS_1);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  client_publish(publisher, "a/b", "x", 2, false);
  const struct mqtt_publish *publish = client_expect_publish(client, "a/b", "x");
  assert_int_equal(publish->qos, 2);
  assert_int_equal(publish->properties.subscription_id_count, 2);
  uint32_t first = 0, second = 0;
  size_t cursor = 0;
  assert_true(mqtt_next_subscription_id(&publish->properties, &cursor, &first));
  assert_true(mqtt_next_subscription_id(&publish->properties, &cursor, &second));
  assert_int_equal(first + second, 3);
  client_expect_nothing(client);
  // Subscribed anew without an identifier: it has none any more [MQTT-3.8.4-3].
  client_subscribe_with(client, &(struct sub){.filter = "a/+", .qos = 0}, MQTT_SUCCESS);
  client_publish(publisher, "a/c", "x", 2, false);
  publish = client_expect_publish(client, "a/c", "x");
  assert_int_equal(publish->qos, 1);
  assert_int_equal(publish->properties.subscription_id_count, 0);
}

static void no_local_leaves_out_ones_own(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 2; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    struct client *client = client_new(&bench, MQTT_5_0, "c");
    client_subscribe_with(client, &(struct sub){.filter = "t/#", .qos = 2, .no_local = true, .id = 1}, MQTT_GRANTED_QOS_2);
    client_publish(client, "t/a", "own", 0, true);
    client_expect_nothing(client);
    // Another subscription that has no such option is served as if it were alone.
    client_subscribe_with(client, &(struct sub){.filter = "t/+", .qos = 0, .id = 2}, MQTT_SUCCESS);
    client_expect_publish(client, "t/a", "own");  // retained
    client_publish(client, "t/b", "own", 0, false);
    const struct mqtt_publish *publish = client_expect_publish(client, "t/b", "own");
    assert_int_equal(publish->qos, 0);
    assert_int_equal(publish->properties.subscription_id_count, 1);
    assert_int_equal(publish->properties.subscription_id, 2);
    struct client *other = client_new(&bench, MQTT_5_0, "o");
    client_publish(other, "t/c", "other", 2, false);
    client_take(client, "t/c", "other", 2);
    // At SUBSCRIBE too, one's own retained messages are left out; the session's identity counts, not the connection's.
    client_subscribe_with(client, &(struct sub){.filter = "t/#", .no_local = true}, MQTT_SUCCESS);
    client_publish(other, "t/d", "other", 0, true);
    client_expect_publish(client, "t/d", "other");
    client_subscribe_with(client, &(struct sub){.filter = "t/#", .no_local = true}, MQTT_SUCCESS);
    client_expect_publish(client, "t/d", "other");
    client_expect_nothing(client);
    bench_deinit(&bench);
  }
}

// ---- Retained

static void retain_handling_is_obeyed(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 3; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    struct client *publisher = client_new(&bench, MQTT_5_0, "p");
    client_publish(publisher, "a/1", "one", 1, true);
    client_publish(publisher, "a/2", "two", 0, true);
    client_publish(publisher, "b", "three", 2, true);
    struct client *client = client_new(&bench, MQTT_5_0, "c");
    struct sub sub = {.filter = "a/1", .qos = 2, .retain_handling = MQTT_RETAIN_DO_NOT_SEND};
    client_subscribe_with(client, &sub, MQTT_GRANTED_QOS_2);
    client_expect_nothing(client);
    sub.retain_handling = MQTT_RETAIN_SEND_IF_NEW;
    client_subscribe_with(client, &sub, MQTT_GRANTED_QOS_2);
    client_expect_nothing(client);
    sub.retain_handling = MQTT_RETAIN_SEND;
    sub.id = 5;
    client_subscribe_with(client, &sub, MQTT_GRANTED_QOS_2);
    const struct mqtt_publish *publish = client_expect_publish(client, "a/1", "one");
    assert_true(publish->retain);
    assert_int_equal(publish->qos, 1);
    assert_int_equal(publish->properties.subscription_id, 5);
    client_ack(client, MQTT_PUBACK, publish->packet_id, MQTT_SUCCESS);
    sub = (struct sub){.filter = "b", .qos = 1, .retain_handling = MQTT_RETAIN_SEND_IF_NEW};
    client_subscribe_with(client, &sub, MQTT_GRANTED_QOS_1);
    client_take(client, "b", "three", 1);
    // Shared subscriptions get none.
    client_subscribe(client, "$share/g/a/#", 1);
    client_expect_nothing(client);
    client_publish(publisher, "b", "", 1, true);
    client_take(client, "b", "", 1);
    struct client *late = client_subscribed(&bench, MQTT_3_1_1, "l", "#", 0);
    for (unsigned i = 0; i < 2; i++) assert_true(client_expect(late, MQTT_PUBLISH)->publish.retain);
    client_expect_nothing(late);
    assert_int_equal(bench_counters(&bench).retained_messages, 2u * shards);
    bench_deinit(&bench);
  }
}

static void live_messages_lose_the_flag(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *plain = client_new(bench, MQTT_5_0, "plain");
  struct client *keep = client_new(bench, MQTT_5_0, "keep");
  client_subscribe(plain, "t", 0);
  client_subscribe_with(keep, &(struct sub){.filter = "t", .retain_as_published = true}, MQTT_SUCCESS);
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  for (unsigned retain = 0; retain < 2; retain++) {
    client_publish(publisher, "t", "x", 0, retain);
    assert_false(client_expect_publish(plain, "t", "x")->retain);
    assert_int_equal(client_expect_publish(keep, "t", "x")->retain, retain);
  }
}

// Many retained messages go through a small window, in step with acknowledgements, while live ones come behind them.
static void retained_messages_obey_flow_control(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  enum { COUNT = 200 };
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  char topic[16];
  for (unsigned i = 0; i < COUNT; i++) {
    snprintf(topic, sizeof topic, "t/%u", i);
    client_publish(publisher, topic, "old", (uint8_t)(i % 3), true);
  }
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  property_set(&packet.connect.properties, MQTT_PROPERTY_RECEIVE_MAXIMUM);
  packet.connect.properties.receive_maximum = 3;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 60;
  packet.connect.clean_start = false;
  client_connect_packet(client, &packet);
  client_subscribe(client, "t/#", 1);
  client_publish(publisher, "t/new", "new", 1, false);
  client_publish(publisher, "t/0", "changed", 1, true);  // comes live or as it was, never both
  bool seen[COUNT] = {false};
  unsigned old = 0, live = 0, outstanding = 0, rounds = 0;
  uint16_t ids[4];
  while (live < 2) {
    assert_true(++rounds < 10 * COUNT);
    while (client_waiting(client) > 0) {
      const struct mqtt_publish *publish = &client_expect(client, MQTT_PUBLISH)->publish;
      if (publish->qos) ids[outstanding++] = publish->packet_id;
      assert_true(outstanding <= 3);
      if (!publish->retain) {
        live++;
        continue;
      }
      assert_int_equal(live, 0);
      unsigned number = (unsigned)strtoul((const char *)publish->topic.at + 2, NULL, 10);
      assert_true(number < COUNT);
      assert_false(seen[number]);
      seen[number] = true;
      old++;
    }
    if (rounds == 20) {  // over a reconnect too
      client_drop(client);
      client = client_open(bench, MQTT_5_0, 0);
      assert_true(client_connect_packet(client, &packet)->session_present);
      for (unsigned i = 0; i < outstanding; i++) assert_true(client_expect(client, MQTT_PUBLISH)->publish.dup);
    }
    if (outstanding) client_ack(client, MQTT_PUBACK, ids[--outstanding], MQTT_SUCCESS);
  }
  assert_true(old == COUNT || old == COUNT - 1);
}

static void expired_retained_messages_are_not_sent(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  struct mqtt_packet packet = publish_packet(publisher, "short", "x", 0);
  packet.publish.retain = true;
  property_set(&packet.publish.properties, MQTT_PROPERTY_MESSAGE_EXPIRY);
  packet.publish.properties.message_expiry_s = 5;
  client_send(publisher, &packet);
  client_publish(publisher, "long", "y", 0, true);
  bench_advance(bench, 3000);
  struct client *client = client_subscribed(bench, MQTT_5_0, "c", "short", 0);
  assert_int_equal(client_expect_publish(client, "short", "x")->properties.message_expiry_s, 2);
  bench_advance(bench, 2000);
  client_subscribe(client, "#", 0);
  client_expect_publish(client, "long", "y");
  client_expect_nothing(client);
  bench_advance(bench, 3000);  // and is swept
  assert_int_equal(bench_counters(bench).retained_messages, 2);
  bench_advance(bench, 120000);
  assert_int_equal(bench->shards[0]->retained.mortal, 0);
}

// The cursor of a filter that matches nothing looks at many nodes: it does so in portions.
static void cursors_take_turns(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  enum { COUNT = 5000 };
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  char topic[16];
  for (unsigned i = 0; i < COUNT; i++) {
    snprintf(topic, sizeof topic, "t/%u/x", i);
    client_publish(publisher, topic, "v", 0, true);
  }
  struct client *client = client_subscribed(bench, MQTT_3_1_1, "c", "t/+/y", 1);
  client_expect_nothing(client);
  client_subscribe(client, "+/4999/+", 1);
  client_expect_publish(client, "t/4999/x", "v");
  client_expect_nothing(client);
  assert_null(queue_peek(&session_find(bench->shards[0], span_text("c"))->queue));
}

// ---- Across shards

// A SUBACK is sent when all shards know of the filter; answers keep the order of the questions.
static void suback_waits_for_all_shards(void **state)
{
  struct bench *bench = bench_make(state, 3, NULL);
  char id[16];
  bench_new_id(bench, 0, id);
  struct client *client = client_new(bench, MQTT_5_0, id);
  bench->hold[1][0] = true;
  client_queue_subscribe(client, &(struct sub){.filter = "t", .qos = 1}, 1);
  client_queue_bytes(client, "\xc0\0", 2);
  bench_run(bench);
  client_expect_nothing(client);
  bench->hold[1][0] = false;
  bench_run(bench);
  client_expect(client, MQTT_SUBACK);
  client_expect(client, MQTT_PINGRESP);
  // Known already: the others are asked all the same, what was told before may still be under way.
  bench->hold[0][2] = true;
  client_queue_subscribe(client, &(struct sub){.filter = "t", .qos = 1}, 1);
  bench_run(bench);
  client_expect_nothing(client);
  // The client leaves: the answers come to nobody.
  client_drop(client);
  client = client_new(bench, MQTT_5_0, id);
  client_queue_subscribe(client, &(struct sub){.filter = "u", .qos = 1}, 1);
  bench_run(bench);
  client_drop(client);
  client = client_new(bench, MQTT_5_0, id);
  client_queue_subscribe(client, &(struct sub){.filter = "u", .qos = 1}, 1);
  bench_run(bench);
  // One that is closing gets nothing behind its DISCONNECT.
  client->stalled = true;
  shard_disconnect(bench->shards[0], client->connection, MQTT_ADMINISTRATIVE_ACTION);
  bench->hold[0][2] = false;
  bench_run(bench);
  client_unstall(client);
  client_expect_disconnect(client, MQTT_ADMINISTRATIVE_ACTION);
}

// Destroyed with answers, interest and messages under way in all directions.
static void destroyed_while_mails_are_under_way(void **state)
{
  struct bench *bench = bench_make(state, 3, NULL);
  char id[16];
  struct client *clients[6];
  for (unsigned i = 0; i < 6; i++) {
    bench_new_id(bench, (uint8_t)(i % 3), id);
    clients[i] = client_lasting(bench, MQTT_5_0, id);
    client_subscribe(clients[i], "t/#", 1);
    client_subscribe(clients[i], "$share/g/t/#", 1);
  }
  for (unsigned from = 0; from < 3; from++)
    for (unsigned to = 0; to < 3; to++) bench->hold[from][to] = true;
  for (unsigned i = 0; i < 6; i++) {
    struct mqtt_packet packet = publish_packet(clients[i], "t/x", "v", 1);
    packet.publish.retain = true;
    client_send(clients[i], &packet);
    client_queue_subscribe(clients[i], &(struct sub){.filter = "$share/h/t"}, 1);
    client_queue_subscribe(clients[i], &(struct sub){.filter = "u"}, 1);
    bench_run(bench);
  }
  client_drop(clients[0]);
  size_t count;
  assert_non_null(shard_outgoing(bench->shards[0], 1, &count));
  assert_true(count > 4);
}

static void other_shards_forget_what_nobody_wants(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *first = client_new_on(bench, MQTT_5_0, 0), *second = client_new_on(bench, MQTT_5_0, 0);
  struct client *publisher = client_new_on(bench, MQTT_5_0, 1);
  client_subscribe(first, "t/+", 0);
  client_subscribe(second, "t/+", 0);
  assert_int_equal(index_find(&bench->shards[1]->index, span_text("t/+"))->remote, 1);
  client_publish(publisher, "t/x", "1", 0, false);
  client_expect_publish(first, "t/x", "1");
  client_expect_publish(second, "t/x", "1");
  client_unsubscribe(first, "t/+");
  assert_non_null(index_find(&bench->shards[1]->index, span_text("t/+")));
  client_disconnect(second, MQTT_SUCCESS);
  assert_null(index_find(&bench->shards[1]->index, span_text("t/+")));
  assert_null(index_find(&bench->shards[0]->index, span_text("t/+")));
  struct counters before = bench_counters(bench);
  client_publish(publisher, "t/x", "2", 0, false);
  assert_int_equal(bench_counters(bench).mails_sent, before.mails_sent);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(filters_are_judged),
      WITH_BENCH(overlaps_are_one_copy),
      cmocka_unit_test(no_local_leaves_out_ones_own),
      cmocka_unit_test(retain_handling_is_obeyed),
      WITH_BENCH(live_messages_lose_the_flag),
      WITH_BENCH(retained_messages_obey_flow_control),
      WITH_BENCH(expired_retained_messages_are_not_sent),
      WITH_BENCH(cursors_take_turns),
      WITH_BENCH(suback_waits_for_all_shards),
      WITH_BENCH(destroyed_while_mails_are_under_way),
      WITH_BENCH(other_shards_forget_what_nobody_wants),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
