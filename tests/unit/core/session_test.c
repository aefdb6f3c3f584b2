// Sessions: expiry, wills, queues while the client is away, subscriptions.
#include "bench.h"

#include "core/shard_internal.h"

static struct client *connect_will(struct bench *bench, const char *id, const struct mqtt_will *will, uint32_t expiry_s)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, id);
  packet.connect.clean_start = false;
  packet.connect.will = *will;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = expiry_s;
  client_connect_packet(client, &packet);
  return client;
}

static struct mqtt_will will_of(const char *payload, uint32_t delay_s)
{
  struct mqtt_will will = {.present = true, .qos = 1, .topic = span_text("will"), .payload = span_text(payload)};
  property_set(&will.properties, MQTT_PROPERTY_WILL_DELAY);
  will.properties.will_delay_s = delay_s;
  return will;
}

static struct client *watcher(struct bench *bench)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "watcher");
  packet.connect.keep_alive_s = 0;
  client_connect_packet(client, &packet);
  client_subscribe_with(client, &(struct sub){.filter = "will", .qos = 1, .retain_as_published = true}, MQTT_GRANTED_QOS_1);
  return client;
}

static struct limits without_keep_alive(void)
{
  struct limits limits = limits_default();
  limits.keep_alive_max_s = 0;
  return limits;
}

// ---- Wills

static void wills_are_sent_when_due(void **state)
{
  (void)state;
  enum way { LOST, NORMAL, WITH_WILL, OTHER_REASON, PROTOCOL_ERROR, KEEP_ALIVE, BY_BROKER, TAKEN_OVER };
  for (enum way way = LOST; way <= TAKEN_OVER; way++) {
    struct limits limits = without_keep_alive();
    struct bench bench;
    bench_init(&bench, 2, &limits);
    struct client *watching = watcher(&bench);
    struct mqtt_will will = will_of("gone", 0);
    struct client *client = connect_will(&bench, "c", &will, 100);
    switch (way) {
      case LOST: client_drop(client); break;
      case NORMAL: client_disconnect(client, MQTT_SUCCESS); break;
      case WITH_WILL: client_disconnect(client, MQTT_DISCONNECT_WITH_WILL); break;
      case OTHER_REASON: client_disconnect(client, MQTT_UNSPECIFIED_ERROR); break;
      case PROTOCOL_ERROR: client_send_bytes(client, "\xf8\0", 2); break;
      case KEEP_ALIVE: bench_advance(&bench, 900 * 1000); break;
      case BY_BROKER:
        shard_disconnect(bench.shards[client->shard], client->connection, MQTT_ADMINISTRATIVE_ACTION);
        bench_run(&bench);
        break;
      case TAKEN_OVER: client_lasting(&bench, MQTT_5_0, "c"); break;
    }
    assert_null(client->connection);
    if (way != NORMAL) client_take(watching, "will", "gone", 1);
    client_expect_nothing(watching);
    assert_int_equal(bench_counters(&bench).wills_sent, way != NORMAL);
    bench_advance(&bench, 200 * 1000);
    client_expect_nothing(watching);
    bench_deinit(&bench);
  }
}

static void delayed_wills_wait(void **state)
{
  struct limits limits = without_keep_alive();
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *watching = watcher(bench);
  struct mqtt_will will = will_of("late", 10);
  // Sent after the delay.
  struct client *client = connect_will(bench, "c", &will, 100);
  client_drop(client);
  bench_advance(bench, 9999);
  client_expect_nothing(watching);
  bench_advance(bench, 1);
  client_take(watching, "will", "late", 1);
  // Not when the client is back in time [MQTT-3.1.3-9], whatever happens then.
  client = connect_will(bench, "c", &will, 100);
  client_drop(client);
  bench_advance(bench, 9999);
  client = client_lasting(bench, MQTT_5_0, "c");
  bench_advance(bench, 20000);
  client_drop(client);
  bench_advance(bench, 20000);
  client_expect_nothing(watching);
  // At once when the session ends first: by time, by a clean start, by DISCONNECT.
  client = connect_will(bench, "c", &will, 3);
  client_drop(client);
  bench_advance(bench, 2999);
  client_expect_nothing(watching);
  bench_advance(bench, 1);
  client_take(watching, "will", "late", 1);
  client = connect_will(bench, "c", &will, 100);
  client_drop(client);
  client = client_open(bench, MQTT_5_0, 0);
  client_connect(client, "c", true, 0);
  client_take(watching, "will", "late", 1);
  client_disconnect(client, MQTT_SUCCESS);
  client = connect_will(bench, "c", &will, 100);
  struct mqtt_packet packet = {.type = MQTT_DISCONNECT, .disconnect = {.reason = MQTT_DISCONNECT_WITH_WILL}};
  property_set(&packet.disconnect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  client_send(client, &packet);
  client_take(watching, "will", "late", 1);
  assert_int_equal(bench_counters(bench).wills_sent, 4);
  assert_int_equal(bench_counters(bench).sessions, 1);
}

// By absolute due time, not by delay.
static void wills_are_ordered_by_when_they_are_due(void **state)
{
  struct limits limits = without_keep_alive();
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *watching = watcher(bench);
  struct mqtt_will first = will_of("10 s, 0 s ago", 10), second = will_of("3 s, 5 s ago", 3),
                   third = will_of("7 s, 5 s ago", 7);
  struct client *a = connect_will(bench, "a", &first, 100);
  struct client *b = connect_will(bench, "b", &second, 100);
  struct client *c = connect_will(bench, "c", &third, 100);
  client_drop(a);
  bench_advance(bench, 5000);
  client_drop(c);
  client_drop(b);
  bench_advance(bench, 3000);
  client_take(watching, "will", "3 s, 5 s ago", 1);
  client_expect_nothing(watching);
  bench_advance(bench, 2000);
  client_take(watching, "will", "10 s, 0 s ago", 1);
  client_expect_nothing(watching);
  bench_advance(bench, 2000);
  client_take(watching, "will", "7 s, 5 s ago", 1);
}

static void wills_have_properties_and_retain(void **state)
{
  struct limits limits = without_keep_alive();
  limits.retained_messages = 1;
  struct bench *bench = bench_make(state, 2, &limits);
  struct client *watching = watcher(bench);
  struct mqtt_will will = will_of("bye", 10);
  will.retain = true;
  property_set(&will.properties, MQTT_PROPERTY_CONTENT_TYPE);
  will.properties.content_type = span_text("text/plain");
  property_set(&will.properties, MQTT_PROPERTY_MESSAGE_EXPIRY);
  will.properties.message_expiry_s = 60;
  struct client *client = connect_will(bench, "c", &will, 1000);
  client_drop(client);
  bench_advance(bench, 10000);
  const struct mqtt_publish *publish = client_expect_publish(watching, "will", "bye");
  assert_true(publish->retain);
  assert_span_text(publish->properties.content_type, "text/plain");
  assert_int_equal(publish->properties.message_expiry_s, 60);  // from when it is published
  assert_false(MQTT_HAS(&publish->properties, WILL_DELAY));
  struct client *late = client_subscribed(bench, MQTT_5_0, "late", "will", 0);
  publish = client_expect_publish(late, "will", "bye");
  assert_true(publish->retain);
  // One for which the store has no room is sent all the same.
  will.topic = span_text("other");
  client = connect_will(bench, "d", &will, 0);
  client_subscribe(late, "other", 0);
  client_drop(client);
  client_expect_publish(late, "other", "bye");
  assert_int_equal(bench_counters(bench).retained_messages, 2);  // one, on two shards
  assert_true(bench_logged(bench, "message_not_retained"));
  assert_int_equal(bench_counters(bench).not_retained, 1);
}

// ---- Expiry

static void sessions_expire(void **state)
{
  struct limits limits = without_keep_alive();
  limits.session_expiry_max_s = UINT32_MAX;
  struct bench *bench = bench_make(state, 1, &limits);
  static const struct {
    const char *id;
    uint32_t expiry_s;
  } cases[] = {{"0", 0}, {"1", 1}, {"1000", 1000}, {"never", UINT32_MAX}};
  for (size_t i = 0; i < 4; i++) {
    struct client *client = client_open(bench, MQTT_5_0, 0);
    client_connect(client, cases[i].id, false, cases[i].expiry_s);
    client_subscribe(client, "t", 1);
    client_drop(client);
  }
  assert_int_equal(bench_counters(bench).sessions, 3);
  bench_advance(bench, 999);
  assert_int_equal(bench_counters(bench).sessions, 3);
  bench_advance(bench, 1);
  assert_int_equal(bench_counters(bench).sessions, 2);
  bench_advance(bench, 998999);
  assert_int_equal(bench_counters(bench).sessions, 2);
  bench_advance(bench, 1);
  assert_int_equal(bench_counters(bench).sessions, 1);
  assert_int_equal(bench_counters(bench).subscriptions, 1);
  bench_advance(bench, UINT64_C(400) * 24 * 3600 * 1000);
  assert_int_equal(bench_counters(bench).sessions, 1);
  assert_int_equal(bench_counters(bench).sessions_expired, 2);
  // One that is used does not expire.
  struct client *client = client_open(bench, MQTT_5_0, 0);
  assert_true(client_connect(client, "never", false, 5)->session_present);
  bench_advance(bench, 60000);
  assert_int_equal(bench_counters(bench).sessions, 1);
}

static void disconnect_may_change_the_expiry(void **state)
{
  struct limits limits = limits_default();
  limits.session_expiry_max_s = 50;
  struct bench *bench = bench_make(state, 1, &limits);
  static const struct {
    uint32_t before, after;
    uint64_t lives_ms;
    bool error;
  } cases[] = {{10, 20, 20000, false}, {10, 0, 0, false}, {10, 60, 50000, false}, {0, 0, 0, false}, {0, 1, 0, true}};
  for (size_t i = 0; i < 5; i++) {
    struct client *client = client_open(bench, MQTT_5_0, 0);
    client_connect(client, "c", false, cases[i].before);
    struct mqtt_packet packet = {.type = MQTT_DISCONNECT};
    property_set(&packet.disconnect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
    packet.disconnect.properties.session_expiry_s = cases[i].after;
    client_send(client, &packet);
    if (cases[i].error)
      client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
    else
      client_expect_closed(client);
    if (cases[i].lives_ms) {
      bench_advance(bench, cases[i].lives_ms - 1);
      assert_int_equal(bench_counters(bench).sessions, 1);
      bench_advance(bench, 1);
    }
    assert_int_equal(bench_counters(bench).sessions, 0);
  }
  // Before 5.0: for ever means the maximum.
  struct client *old = client_lasting(bench, MQTT_3_1_1, "o");
  client_drop(old);
  bench_advance(bench, 49999);
  assert_int_equal(bench_counters(bench).sessions, 1);
  bench_advance(bench, 1);
  assert_int_equal(bench_counters(bench).sessions, 0);
}

// ---- Away

static void check_waiting(enum queue_drop drop, const char *const expected[5])
{
  struct limits limits = limits_default();
  limits.queue_messages = 5;
  limits.queue_drop = drop;
  struct bench bench;
  bench_init(&bench, 1, &limits);
  struct client *client = client_lasting(&bench, MQTT_3_1_1, "c");
  client_subscribe(client, "t", 2);
  client_drop(client);
  struct client *publisher = client_new(&bench, MQTT_3_1_1, "p");
  char number[8];
  for (unsigned i = 0; i < 12; i++) {
    snprintf(number, sizeof number, "%u", i);
    client_publish(publisher, "t", number, (uint8_t)(i % 3), false);
  }
  struct counters counters = bench_counters(&bench);
  assert_int_equal(counters.dropped[DROP_OFFLINE_QOS_0], 4);
  assert_int_equal(counters.dropped[DROP_QUEUE_FULL], 3);
  assert_int_equal(counters.copies_queued, 5);
  assert_true(counters.queued_bytes > 0);
  client = client_open(&bench, MQTT_3_1_1, 0);
  assert_true(client_connect(client, "c", false, 0)->session_present);
  for (unsigned i = 0; i < 5; i++)
    assert_int_equal(client_expect_publish(client, "t", expected[i])->qos, atoi(expected[i]) % 3);
  client_expect_nothing(client);
  assert_int_equal(bench_counters(&bench).copies_in_flight, 5);
  bench_deinit(&bench);
}

static void messages_wait_for_the_client(void **state)
{
  (void)state;
  check_waiting(QUEUE_DROP_OLDEST, (const char *const[]){"5", "7", "8", "10", "11"});
  check_waiting(QUEUE_DROP_NEWEST, (const char *const[]){"1", "2", "4", "5", "7"});
}

static void queues_are_bounded_by_bytes(void **state)
{
  struct limits limits = limits_default();
  limits.queue_messages = 0;
  limits.queue_bytes = 3 * (sizeof(struct message) + 3 + 1000);
  limits.output_bytes = limits.queue_bytes;
  struct bench *bench = bench_make(state, 1, &limits);
  char payload[1001];
  memset(payload, 'x', 1000);
  payload[1000] = 0;
  struct client *client = client_lasting(bench, MQTT_3_1_1, "c");
  client_subscribe(client, "t", 1);
  client->stalled = true;
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  for (unsigned i = 0; i < 10; i++) client_publish(publisher, "t", payload, 1, false);
  for (unsigned i = 0; i < 10; i++) client_publish(publisher, "t", payload, 0, false);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.dropped[DROP_QUEUE_FULL], 7);
  assert_int_equal(counters.dropped[DROP_SLOW_CONSUMER], 7);
  assert_int_equal(counters.copies_queued, 6);
  // What no connection will read goes when it ends.
  client_drop(client);
  counters = bench_counters(bench);
  assert_int_equal(counters.dropped[DROP_OFFLINE_QOS_0], 3);
  assert_int_equal(counters.copies_queued, 3);
  // One message always fits.
  limits.queue_bytes = 10;
  bench_set_limits(bench, &limits);
  client = client_open(bench, MQTT_3_1_1, 0);
  client_connect(client, "c", true, 0);
  client_subscribe(client, "t", 1);
  client->stalled = true;
  client_publish(publisher, "t", payload, 1, false);
  client_publish(publisher, "t", payload, 1, false);
  counters = bench_counters(bench);
  assert_int_equal(counters.copies_queued, 1);
  assert_int_equal(counters.dropped[DROP_SESSION_ENDED], 3);
}

static void ended_sessions_count_what_they_had(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  client_connect(client, "c", false, 10);
  client_subscribe(client, "t", 2);
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  for (unsigned i = 0; i < 40; i++) client_publish(publisher, "t", "x", (uint8_t)(1 + i % 2), false);
  uint16_t id = client_expect_publish(client, "t", "x")->packet_id;
  client_expect_publish(client, "t", "x");
  client_ack(client, MQTT_PUBREC, (uint16_t)(id + 1), MQTT_SUCCESS);
  client_drop(client);
  assert_int_equal(bench_counters(bench).copies_in_flight, 32);
  bench_advance(bench, 10000);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.copies_in_flight + counters.copies_queued, 0);
  assert_int_equal(counters.dropped[DROP_SESSION_ENDED], 40);
  assert_int_equal(counters.subscriptions, 0);
  assert_int_equal(counters.sessions, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(wills_are_sent_when_due),
      WITH_BENCH(delayed_wills_wait),
      WITH_BENCH(wills_are_ordered_by_when_they_are_due),
      WITH_BENCH(wills_have_properties_and_retain),
      WITH_BENCH(sessions_expire),
      WITH_BENCH(disconnect_may_change_the_expiry),
      cmocka_unit_test(messages_wait_for_the_client),
      WITH_BENCH(queues_are_bounded_by_bytes),
      WITH_BENCH(ended_sessions_count_what_they_had),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
