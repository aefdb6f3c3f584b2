// Rates of one client, and limits that listeners have of their own.
#include "bench.h"

#include "core/shard_internal.h"

static struct limits with_rates(uint32_t message_rate, uint64_t byte_rate, enum rate_action action)
{
  struct limits limits = limits_default();
  limits.message_rate = message_rate;
  limits.byte_rate = byte_rate;
  limits.rate_action = action;
  return limits;
}

static void queue_messages(struct client *client, unsigned count, uint8_t qos)
{
  for (unsigned i = 0; i < count; i++) {
    struct mqtt_packet packet = publish_packet(client, "t", "x", qos);
    client_queue(client, &packet);
  }
}

static uint64_t reached(const struct bench *bench, enum limit limit)
{
  return bench_counters(bench).limits_reached[limit];
}

// ---- Shaping

static void messages_beyond_the_rate_wait(void **state)
{
  (void)state;
  for (enum mqtt_version version = MQTT_3_1_1; version <= MQTT_5_0; version++) {
    struct bench bench;
    struct limits limits = with_rates(10, 0, RATE_SHAPE);
    bench_init(&bench, 1, &limits);
    struct client *client = client_new(&bench, version, "c");
    queue_messages(client, 35, 0);
    bench_run(&bench);
    assert_int_equal(bench_counters(&bench).publish_received, 10);
    assert_true(client->paused);
    bench_advance(&bench, 99);
    assert_int_equal(bench_counters(&bench).publish_received, 10);
    bench_advance(&bench, 1);
    assert_int_equal(bench_counters(&bench).publish_received, 11);
    bench_advance(&bench, 900);
    assert_int_equal(bench_counters(&bench).publish_received, 20);
    bench_advance(&bench, 1500);
    assert_int_equal(bench_counters(&bench).publish_received, 35);
    assert_false(client->paused);
    assert_int_equal(reached(&bench, LIMIT_MESSAGE_RATE), 25);
    assert_int_equal(reached(&bench, LIMIT_BYTE_RATE), 0);
    assert_int_equal(bench_counters(&bench).disconnects_protocol, 0);
    assert_true(bench_logged(&bench, "limit_reached"));
    bench_deinit(&bench);
  }
}

// At a high rate a client goes on for many messages at a time, not for one.
static void waking_up_is_worth_it(void **state)
{
  struct limits limits = with_rates(1000, 0, RATE_SHAPE);
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  queue_messages(client, 2000, 0);
  bench_run(bench);
  assert_int_equal(bench_counters(bench).publish_received, 1000);
  bench_advance(bench, 1000);
  assert_int_equal(bench_counters(bench).publish_received, 2000);
  assert_int_equal(reached(bench, LIMIT_MESSAGE_RATE), 100);
}

static void a_burst_can_be_saved_up(void **state)
{
  struct limits limits = with_rates(2, 0, RATE_SHAPE);
  limits.rate_burst_ms = 10000;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  queue_messages(client, 20, 1);
  bench_run(bench);
  for (unsigned i = 0; i < 20; i++) client_expect(client, MQTT_PUBACK);
  assert_int_equal(reached(bench, LIMIT_MESSAGE_RATE), 0);
  bench_advance(bench, 10000);
  queue_messages(client, 21, 1);
  bench_run(bench);
  for (unsigned i = 0; i < 20; i++) client_expect(client, MQTT_PUBACK);
  client_expect_nothing(client);
  bench_advance(bench, 500);
  client_expect(client, MQTT_PUBACK);
}

// What is no PUBLISH is no message: while there are tokens nothing holds it up.
static void only_publishes_are_messages(void **state)
{
  struct limits limits = with_rates(1, 0, RATE_DISCONNECT);
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  for (unsigned i = 0; i < 50; i++) {
    client_send_bytes(client, "\xc0\0", 2);
    client_expect(client, MQTT_PINGRESP);
  }
  client_subscribe(client, "t", 1);
  client_publish(client, "u", "x", 2, false);
  assert_int_equal(reached(bench, LIMIT_MESSAGE_RATE), 0);
}

// The largest packet passes at any rate, and is paid for by the time after it.
static void bytes_count_whatever_the_packet(void **state)
{
  struct limits limits = with_rates(0, 1000, RATE_SHAPE);
  limits.packet_size = 5000;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  char large[4900];
  memset(large, 'x', sizeof large);
  large[sizeof large - 1] = 0;
  struct mqtt_packet packet = publish_packet(client, "t", large, 1);
  client->read_chunk = 700;
  client_queue(client, &packet);
  client_queue_bytes(client, "\xc0\0", 2);
  packet = publish_packet(client, "t", large, 1);
  client_queue(client, &packet);
  bench_run(bench);
  client_expect(client, MQTT_PUBACK);
  client_expect(client, MQTT_PINGRESP);
  client_expect_nothing(client);
  bench_advance(bench, 4700);
  client_expect_nothing(client);
  bench_advance(bench, 250);
  client_expect(client, MQTT_PUBACK);
  assert_true(reached(bench, LIMIT_BYTE_RATE) > 0);
  assert_int_equal(reached(bench, LIMIT_MESSAGE_RATE), 0);
}

// Who is not read from cannot be heard: its keep alive waits.
static void keep_alive_does_not_end_whom_we_do_not_read(void **state)
{
  struct limits limits = with_rates(1, 0, RATE_SHAPE);
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet connect = connect_packet(MQTT_5_0, "c");
  connect.connect.keep_alive_s = 1;
  client_connect_packet(client, &connect);
  queue_messages(client, 30, 0);
  bench_run(bench);
  bench_advance(bench, 29000);
  assert_non_null(client->connection);
  assert_int_equal(bench_counters(bench).publish_received, 30);
  assert_int_equal(bench_counters(bench).keep_alive_timeouts, 0);
  bench_advance(bench, 1501);  // now it is silent
  client_expect_disconnect(client, MQTT_KEEP_ALIVE_TIMEOUT);
}

// ---- Disconnecting

static void who_must_not_is_disconnected(void **state)
{
  (void)state;
  for (enum mqtt_version version = MQTT_3_1_1; version <= MQTT_5_0; version++) {
    for (unsigned bytes = 0; bytes < 2; bytes++) {
      struct bench bench;
      struct limits limits = bytes ? with_rates(0, 300, RATE_DISCONNECT) : with_rates(3, 0, RATE_DISCONNECT);
      limits.packet_size = 256;
      bench_init(&bench, 1, &limits);
      struct client *subscriber = client_subscribed(&bench, MQTT_5_0, "s", "t", 0);
      bench_advance(&bench, 1000);  // what the SUBSCRIBE has cost
      struct client *client = client_new(&bench, version, "c");
      queue_messages(client, bytes ? 100 : 4, 0);
      bench_run(&bench);
      client_expect_disconnect(client, MQTT_MESSAGE_RATE_TOO_HIGH);
      unsigned size = version == MQTT_5_0 ? 7 : 6;
      unsigned most = bytes ? 300 / size : 3;
      for (unsigned i = 0; i < most; i++) client_expect_publish(subscriber, "t", "x");
      client_expect_nothing(subscriber);
      assert_int_equal(reached(&bench, bytes ? LIMIT_BYTE_RATE : LIMIT_MESSAGE_RATE), 1);
      assert_int_equal(bench_counters(&bench).faults[MQTT_MESSAGE_RATE_TOO_HIGH], 1);
      assert_true(bench_logged(&bench, "limit_reached"));
      bench_deinit(&bench);
    }
  }
}

// At the rate, or below it, nobody is.
static void who_keeps_to_the_rate_stays(void **state)
{
  struct limits limits = with_rates(10, 0, RATE_DISCONNECT);
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  for (unsigned i = 0; i < 1000; i++) {
    client_publish(client, "t", "x", 1, false);
    bench_advance(bench, 100);
  }
  assert_int_equal(reached(bench, LIMIT_MESSAGE_RATE), 0);
}

// ---- A packet that comes again

// It has not been taken, so it has cost nothing.
static void what_is_not_taken_costs_nothing(void **state)
{
  struct limits limits = with_rates(1, 1000, RATE_SHAPE);
  limits.packet_size = 1000;
  struct bench *bench = bench_make_journal(state, 1, &limits, false);
  struct client *subscriber = client_lasting(bench, MQTT_3_1_1, "s");
  client_subscribe(subscriber, "t", 1);
  struct client *client = client_new(bench, MQTT_3_1_1, "c");
  bench_journal_state(bench, JOURNAL_FULL);
  queue_messages(client, 1, 1);
  bench_run(bench);
  client_expect_nothing(client);
  assert_true(client->paused);
  bench_journal_state(bench, JOURNAL_OK);
  bench_advance(bench, 1);
  client_expect(client, MQTT_PUBACK);
  client_take(subscriber, "t", "x", 1);
  assert_int_equal(reached(bench, LIMIT_MESSAGE_RATE), 0);
}

// ---- Reloads

static void new_rates_hold_at_once(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  queue_messages(client, 50, 0);
  bench_run(bench);
  assert_int_equal(bench_counters(bench).publish_received, 50);
  struct limits limits = with_rates(1, 0, RATE_SHAPE);
  bench_set_limits(bench, &limits);
  queue_messages(client, 50, 0);
  bench_run(bench);
  assert_int_equal(bench_counters(bench).publish_received, 51);
  assert_int_equal(bench_counters(bench).paused_connections, 1);
  limits.message_rate = 10;  // others: it goes on with these
  bench_set_limits(bench, &limits);
  bench_advance(bench, 1000);
  assert_in_range(bench_counters(bench).publish_received, 60, 62);
  limits.message_rate = 0;  // none: nobody waits any more
  bench_set_limits(bench, &limits);
  bench_run(bench);
  assert_int_equal(bench_counters(bench).publish_received, 100);
  assert_int_equal(bench_counters(bench).paused_connections, 0);
  assert_false(client->connection->limited);
  limits = with_rates(1, 0, RATE_DISCONNECT);
  bench_set_limits(bench, &limits);
  queue_messages(client, 2, 0);
  bench_run(bench);
  client_expect_disconnect(client, MQTT_MESSAGE_RATE_TOO_HIGH);
}

static void a_client_may_go_while_it_waits(void **state)
{
  (void)state;
  for (unsigned how = 0; how < 2; how++) {
    struct bench bench;
    struct limits limits = with_rates(1, 0, RATE_SHAPE);
    bench_init(&bench, 1, &limits);
    struct client *client = client_new(&bench, MQTT_5_0, "c");
    queue_messages(client, 5, 0);
    bench_run(&bench);
    assert_true(client->paused);
    if (how == 0)
      client_drop(client);
    else
      shard_disconnect_all(bench.shards[0], MQTT_SERVER_SHUTTING_DOWN);
    bench_run(&bench);
    bench_advance(&bench, 10000);
    assert_int_equal(bench_counters(&bench).publish_received, 1);
    assert_int_equal(bench_counters(&bench).paused_connections, 0);
    assert_int_equal(shard_next_ms(bench.shards[0]), -1);
    bench_deinit(&bench);
  }
}

// ---- Limits of listeners

static struct client *open_by(struct bench *bench, uint8_t number, const char *id, bool lasting)
{
  bench->limits_number = number;
  return lasting ? client_lasting(bench, MQTT_5_0, id) : client_new(bench, MQTT_5_0, id);
}

static void each_listener_has_its_own(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 2; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    struct limits tight = with_rates(2, 0, RATE_DISCONNECT);
    tight.packet_size = 300;
    tight.in_flight = 3;
    tight.topic_alias = 2;
    tight.topic_levels = 2;
    tight.subscriptions = 1;
    tight.session_expiry_max_s = 10;
    tight.keep_alive_max_s = 20;
    bench_set_listener_limits(&bench, 7, &tight);
    for (unsigned i = 0; i < 2 * shards; i++) {
      bool is_tight = i % 2;
      char id[16];
      bench_new_id(&bench, (uint8_t)(i / 2), id);
      bench.limits_number = is_tight ? 7 : 0;
      struct client *client = client_open(&bench, MQTT_5_0, 0);
      const struct mqtt_connack *connack = client_connect(client, id, true, 1000);
      assert_int_equal(connack->properties.maximum_packet_size, is_tight ? 300 : 1 << 20);
      assert_int_equal(connack->properties.receive_maximum, is_tight ? 3 : 32);
      assert_int_equal(connack->properties.topic_alias_maximum, is_tight ? 2 : 32);
      assert_int_equal(MQTT_HAS(&connack->properties, SESSION_EXPIRY), is_tight);
      if (is_tight) assert_int_equal(connack->properties.session_expiry_s, 10);
      client_subscribe(client, "a", 0);
      const struct sub deep = {.filter = "a/b/c"}, second = {.filter = "b"};
      client_subscribe_with(client, &deep, is_tight ? MQTT_TOPIC_FILTER_INVALID : MQTT_SUCCESS);
      client_subscribe_with(client, &second, is_tight ? MQTT_QUOTA_EXCEEDED : MQTT_SUCCESS);
      queue_messages(client, 3, 0);
      bench_run(&bench);
      if (is_tight)
        client_expect_disconnect(client, MQTT_MESSAGE_RATE_TOO_HIGH);
      else
        client_expect_nothing(client);
    }
    assert_int_equal(reached(&bench, LIMIT_TOPIC_LEVELS), shards);
    assert_int_equal(reached(&bench, LIMIT_SUBSCRIPTIONS), shards);
    assert_int_equal(reached(&bench, LIMIT_SESSION_EXPIRY), shards);
    assert_int_equal(reached(&bench, LIMIT_MESSAGE_RATE), shards);
    bench_deinit(&bench);
  }
}

// A session keeps the limits of its last connection, until it comes back by another listener or that one is gone.
static void sessions_keep_them(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct limits tight = limits_default();
  tight.queue_messages = 2;
  bench_set_listener_limits(bench, 1, &tight);
  struct client *publisher = open_by(bench, 0, "p", false);
  struct client *subscriber = open_by(bench, 1, "s", true);
  client_subscribe(subscriber, "t", 1);
  client_drop(subscriber);
  for (unsigned i = 0; i < 5; i++) client_publish(publisher, "t", "x", 1, false);
  assert_int_equal(bench_counters(bench).dropped[DROP_QUEUE_FULL], 3);
  bench_set_listener_limits(bench, 1, NULL);  // the listener is gone: the broker's
  for (unsigned i = 0; i < 5; i++) client_publish(publisher, "t", "x", 1, false);
  assert_int_equal(bench_counters(bench).dropped[DROP_QUEUE_FULL], 3);
  bench_set_listener_limits(bench, 1, &tight);  // another listener: none of its business
  for (unsigned i = 0; i < 5; i++) client_publish(publisher, "t", "x", 1, false);
  assert_int_equal(bench_counters(bench).dropped[DROP_QUEUE_FULL], 3);
  subscriber = open_by(bench, 1, "s", true);  // back by it
  client_drop(subscriber);
  for (unsigned i = 0; i < 5; i++) client_publish(publisher, "t", "x", 1, false);  // behind what is in flight
  assert_int_equal(bench_counters(bench).dropped[DROP_QUEUE_FULL], 6);
}

// Only queues of sessions whose listener says so reject, and only then is the publisher told.
static void a_listener_may_reject(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct limits tight = limits_default();
  tight.queue_messages = 1;
  tight.queue_drop = QUEUE_REJECT;
  bench_set_listener_limits(bench, 2, &tight);
  struct client *publisher = open_by(bench, 0, "p", false);
  struct client *other = open_by(bench, 0, "o", true);
  client_subscribe(other, "u", 1);
  client_drop(other);
  struct client *subscriber = open_by(bench, 2, "s", true);
  client_subscribe(subscriber, "t", 1);
  client_drop(subscriber);
  client_publish(publisher, "t", "x", 1, false);
  client_expect_ack(publisher, MQTT_PUBACK, client_send_publish(publisher, "t", "x", 1, false), MQTT_QUOTA_EXCEEDED);
  for (unsigned i = 0; i < 3; i++) client_publish(publisher, "u", "x", 1, false);
}

static void the_time_for_connect_is_the_listeners(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct limits quick = limits_default();
  quick.connect_timeout_ms = 200;
  bench_set_listener_limits(bench, 64, &quick);
  struct client *slow = client_open(bench, MQTT_5_0, 0);
  bench->limits_number = 64;
  struct client *fast = client_open(bench, MQTT_5_0, 0);
  bench_advance(bench, 200);
  client_expect_closed(fast);
  assert_non_null(slow->connection);
  bench_advance(bench, 9800);
  client_expect_closed(slow);
}

// The listener goes while its clients stay: they go on with the broker's, rates too.
static void clients_outlive_their_listener(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct limits tight = with_rates(1, 0, RATE_SHAPE);
  bench_set_listener_limits(bench, 3, &tight);
  struct client *client = open_by(bench, 3, "c", false);
  queue_messages(client, 10, 0);
  bench_run(bench);
  assert_int_equal(bench_counters(bench).publish_received, 1);
  bench_set_listener_limits(bench, 3, NULL);
  assert_int_equal(bench_counters(bench).publish_received, 10);
  assert_false(client->connection->limited);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(messages_beyond_the_rate_wait),
      WITH_BENCH(waking_up_is_worth_it),
      WITH_BENCH(a_burst_can_be_saved_up),
      WITH_BENCH(only_publishes_are_messages),
      WITH_BENCH(bytes_count_whatever_the_packet),
      WITH_BENCH(keep_alive_does_not_end_whom_we_do_not_read),
      cmocka_unit_test(who_must_not_is_disconnected),
      WITH_BENCH(who_keeps_to_the_rate_stays),
      WITH_BENCH(what_is_not_taken_costs_nothing),
      WITH_BENCH(new_rates_hold_at_once),
      cmocka_unit_test(a_client_may_go_while_it_waits),
      cmocka_unit_test(each_listener_has_its_own),
      WITH_BENCH(sessions_keep_them),
      WITH_BENCH(a_listener_may_reject),
      WITH_BENCH(the_time_for_connect_is_the_listeners),
      WITH_BENCH(clients_outlive_their_listener),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
