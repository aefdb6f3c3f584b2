// PUBLISH from clients and the acknowledgements of both directions.
#include "bench.h"

// ---- QoS

static void answers_say_whether_anybody_listens(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 3; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    struct client *publisher = client_new(&bench, MQTT_5_0, "p");
    struct client *old = client_new(&bench, MQTT_3_1_1, "o");
    struct client *subscriber = client_new_on(&bench, MQTT_5_0, (uint8_t)(shards - 1));
    for (unsigned listening = 0; listening < 2; listening++) {
      enum mqtt_reason expected = listening ? MQTT_SUCCESS : MQTT_NO_MATCHING_SUBSCRIBERS;
      struct mqtt_packet packet = publish_packet(publisher, "t", "x", 1);
      client_send(publisher, &packet);
      client_expect_ack(publisher, MQTT_PUBACK, packet.publish.packet_id, expected);
      packet = publish_packet(publisher, "t", "x", 2);
      client_send(publisher, &packet);
      client_expect_ack(publisher, MQTT_PUBREC, packet.publish.packet_id, expected);
      client_ack(publisher, MQTT_PUBREL, packet.publish.packet_id, MQTT_SUCCESS);
      client_expect_ack(publisher, MQTT_PUBCOMP, packet.publish.packet_id, MQTT_SUCCESS);
      client_publish(old, "t", "x", 1, false);
      client_publish(old, "t", "x", 2, false);
      if (!listening) client_subscribe(subscriber, "+", 0);
    }
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.publish_received, 8);
    assert_int_equal(counters.publish_routed, 4);
    assert_int_equal(counters.publish_unrouted, 4);
    assert_int_equal(counters.delivered, 4);
    assert_int_equal(counters.publish_received_bytes, 8);
    assert_int_equal(counters.delivered_bytes, 4);
    bench_deinit(&bench);
  }
}

// [MQTT-4.3.3-10..12]: what comes again before its PUBREL is not delivered again, over reconnects too.
static void qos_2_is_delivered_once(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = client_subscribed(bench, MQTT_5_0, "s", "t", 0);
  struct client *publisher = client_lasting(bench, MQTT_5_0, "p");
  struct mqtt_packet packet = publish_packet(publisher, "t", "x", 2);
  uint16_t id = packet.publish.packet_id;
  for (unsigned i = 0; i < 4; i++) {
    client_send(publisher, &packet);
    client_expect_ack(publisher, MQTT_PUBREC, id, MQTT_SUCCESS);
    packet.publish.dup = true;
    if (i != 1) continue;
    client_drop(publisher);
    publisher = client_open(bench, MQTT_5_0, 0);
    client_connect(publisher, "p", false, 100);
  }
  client_expect_publish(subscriber, "t", "x");
  client_expect_nothing(subscriber);
  assert_int_equal(bench_counters(bench).publish_refused[REFUSE_DUPLICATE], 3);
  client_ack(publisher, MQTT_PUBREL, id, MQTT_SUCCESS);
  client_expect_ack(publisher, MQTT_PUBCOMP, id, MQTT_SUCCESS);
  client_ack(publisher, MQTT_PUBREL, id, MQTT_SUCCESS);
  client_expect_ack(publisher, MQTT_PUBCOMP, id, MQTT_PACKET_ID_NOT_FOUND);
  packet.publish.dup = false;
  client_send(publisher, &packet);  // the identifier is free for another message
  client_expect_ack(publisher, MQTT_PUBREC, id, MQTT_SUCCESS);
  client_expect_publish(subscriber, "t", "x");
}

// A clean start forgets what was half received.
static void a_clean_start_forgets_identifiers(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = client_subscribed(bench, MQTT_5_0, "s", "t", 0);
  for (unsigned i = 0; i < 3; i++) {
    struct client *publisher = client_open(bench, MQTT_5_0, 0);
    client_connect(publisher, "p", true, 100);
    client_send_publish(publisher, "t", "x", 2, false);
    client_expect_publish(subscriber, "t", "x");
  }
}

// ---- Receive maximum

static void receive_maximum_is_exact(void **state)
{
  (void)state;
  for (unsigned kind = 0; kind < 3; kind++) {
    struct limits limits = limits_default();
    limits.in_flight = 3;
    struct bench bench;
    bench_init(&bench, 1, &limits);
    struct client *client = client_new(&bench, kind == 2 ? MQTT_3_1_1 : MQTT_5_0, "c");
    if (kind == 0) {  // lowered by a reload: what was promised holds
      limits.in_flight = 1;
      bench_set_limits(&bench, &limits);
    }
    for (unsigned i = 0; i < 3; i++) {
      client_send_publish(client, "t", "x", 2, false);
      client_expect(client, MQTT_PUBREC);
    }
    // The same again is no new one; QoS 1 is answered at once but counts while it is.
    struct mqtt_packet packet = publish_packet(client, "t", "x", 2);
    packet.publish.packet_id = 1;
    packet.publish.dup = true;
    client_send(client, &packet);
    client_expect(client, MQTT_PUBREC);
    client_ack(client, MQTT_PUBREL, 2, MQTT_SUCCESS);
    client_expect(client, MQTT_PUBCOMP);
    client_publish(client, "t", "x", 1, false);
    client_send_publish(client, "t", "x", 2, false);
    client_expect(client, MQTT_PUBREC);
    client_send_publish(client, "t", "x", kind == 1 ? 1 : 2, false);
    if (kind == 2)
      client_expect(client, MQTT_PUBREC);  // a client before 5.0 was never told
    else
      client_expect_disconnect(client, MQTT_RECEIVE_MAXIMUM_EXCEEDED);
    (void)bench_counters(&bench);
    bench_deinit(&bench);
  }
}

// A refused QoS 2 message is over with its PUBREC.
static void refused_messages_give_their_place_back(void **state)
{
  struct limits limits = limits_default();
  limits.in_flight = 1;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  for (unsigned i = 0; i < 3; i++) {
    client_expect_ack(client, MQTT_PUBREC, client_send_publish(client, "$SYS/x", "x", 2, false), MQTT_NOT_AUTHORIZED);
  }
  client_publish(client, "t", "x", 2, false);
}

// ---- What is not taken

// The store is full: a client of 5.0 is told so for QoS 1 and 2. What others publish, and what was acknowledged to them, comes
// to who is subscribed all the same.
static void what_cannot_be_retained_is_passed_on(void **state)
{
  struct limits limits = limits_default();
  limits.retained_messages = 1;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *subscriber = client_subscribed(bench, MQTT_5_0, "s", "#", 2);
  struct client *new = client_new(bench, MQTT_5_0, "n"), *old = client_new(bench, MQTT_3_1_1, "o");
  client_publish(new, "a", "1", 1, true);
  client_ack(subscriber, MQTT_PUBACK, client_expect_publish(subscriber, "a", "1")->packet_id, MQTT_SUCCESS);
  client_expect_ack(new, MQTT_PUBACK, client_send_publish(new, "b", "2", 1, true), MQTT_QUOTA_EXCEEDED);
  client_expect_ack(new, MQTT_PUBREC, client_send_publish(new, "b", "2", 2, true), MQTT_QUOTA_EXCEEDED);
  client_expect_nothing(subscriber);
  client_publish(new, "b", "3", 0, true);
  client_expect_publish(subscriber, "b", "3");
  for (uint8_t qos = 0; qos <= 2; qos++) {
    client_publish(old, "b", "4", qos, true);
    const struct mqtt_publish *publish = client_expect_publish(subscriber, "b", "4");
    assert_int_equal(publish->qos, qos);
    if (qos == 1) client_ack(subscriber, MQTT_PUBACK, publish->packet_id, MQTT_SUCCESS);
    if (qos == 2) client_ack(subscriber, MQTT_PUBREC, publish->packet_id, MQTT_SUCCESS);
  }
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.retained_messages, 1);
  assert_int_equal(counters.publish_refused[REFUSE_RETAINED_LIMIT], 2);
  assert_int_equal(counters.not_retained, 4);
  assert_true(bench_logged(bench, "message_not_retained"));
}

static void refusals_have_reasons(void **state)
{
  struct limits limits = limits_default();
  limits.topic_levels = 3;
  limits.retained_messages = 2;
  limits.retained_bytes = 2000;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  client_publish(client, "a", "1", 1, true);
  client_publish(client, "b", "1", 1, true);
  char large[3000];
  memset(large, 'x', sizeof large);
  large[sizeof large - 1] = 0;
  static const struct {
    const char *topic;
    bool retain, large;
    enum mqtt_reason reason;
    enum refuse_reason why;
  } cases[] = {
      {"a/b/c/d", false, false, MQTT_TOPIC_NAME_INVALID, REFUSE_TOPIC_LEVELS},
      {"///", false, false, MQTT_TOPIC_NAME_INVALID, REFUSE_TOPIC_LEVELS},
      {"$SYS/x", false, false, MQTT_NOT_AUTHORIZED, REFUSE_NOT_AUTHORIZED},
      {"$SYS", false, false, MQTT_NOT_AUTHORIZED, REFUSE_NOT_AUTHORIZED},
      {"$share/a/b", false, false, MQTT_NOT_AUTHORIZED, REFUSE_NOT_AUTHORIZED},
      {"c", true, false, MQTT_QUOTA_EXCEEDED, REFUSE_RETAINED_LIMIT},
      {"a", true, true, MQTT_QUOTA_EXCEEDED, REFUSE_RETAINED_LIMIT},
      {"a/b/c", false, false, MQTT_NO_MATCHING_SUBSCRIBERS, REFUSE_REASONS},
      {"$SYSTEM", false, false, MQTT_NO_MATCHING_SUBSCRIBERS, REFUSE_REASONS},
      {"$other/x", false, false, MQTT_NO_MATCHING_SUBSCRIBERS, REFUSE_REASONS},
      {"a", true, false, MQTT_NO_MATCHING_SUBSCRIBERS, REFUSE_REASONS},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    for (uint8_t qos = 0; qos <= 2; qos++) {
      struct counters before = bench_counters(bench);
      struct mqtt_packet packet = publish_packet(client, cases[i].topic, cases[i].large ? large : "x", qos);
      packet.publish.retain = cases[i].retain;
      client_send(client, &packet);
      uint16_t id = packet.publish.packet_id;
      if (qos == 1) client_expect_ack(client, MQTT_PUBACK, id, cases[i].reason);
      if (qos == 2) {
        client_expect_ack(client, MQTT_PUBREC, id, cases[i].reason);
        if (cases[i].reason < MQTT_UNSPECIFIED_ERROR) {
          client_ack(client, MQTT_PUBREL, id, MQTT_SUCCESS);
          client_expect_ack(client, MQTT_PUBCOMP, id, MQTT_SUCCESS);
        }
      }
      client_expect_nothing(client);
      struct counters after = bench_counters(bench);
      bool passed_on = cases[i].why == REFUSE_RETAINED_LIMIT && qos == 0;  // nobody can be told
      if (cases[i].why < REFUSE_REASONS)
        assert_int_equal(after.publish_refused[cases[i].why], before.publish_refused[cases[i].why] + !passed_on);
      assert_int_equal(after.not_retained, before.not_retained + passed_on);
      assert_int_equal(after.publish_received, before.publish_received + 1);
    }
  }
  // A client before 5.0 cannot be told: its exchange goes on.
  struct client *old = client_new(bench, MQTT_3_1_1, "o");
  client_publish(old, "$SYS/x", "x", 1, false);
  client_publish(old, "$SYS/x", "x", 2, false);
  // Clearing always has room.
  client_publish(client, "b", "", 1, true);
  client_publish(client, "c", "1", 1, true);
  assert_int_equal(bench_counters(bench).retained_messages, 2);
}

static void reason_strings_come_when_wanted(void **state)
{
  (void)state;
  for (unsigned wanted = 0; wanted < 3; wanted++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *client = client_open(&bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
    property_set(&packet.connect.properties, MQTT_PROPERTY_REQUEST_PROBLEM_INFORMATION);
    packet.connect.properties.request_problem_information = wanted > 0;
    if (wanted == 2) property_set(&packet.connect.properties, MQTT_PROPERTY_MAXIMUM_PACKET_SIZE);
    packet.connect.properties.maximum_packet_size = 20;
    client_connect_packet(client, &packet);
    client_send_publish(client, "$SYS/x", "x", 1, false);
    const struct mqtt_ack *ack = &client_expect(client, MQTT_PUBACK)->ack;
    assert_int_equal(ack->reason, MQTT_NOT_AUTHORIZED);
    assert_int_equal(MQTT_HAS(&ack->properties, REASON_STRING), wanted == 1);
    // A DISCONNECT may always have one, when it fits.
    client_send_bytes(client, "\x30\3\0\1#", 5);
    const struct mqtt_disconnect *disconnect = &client_expect(client, MQTT_DISCONNECT)->disconnect;
    assert_true(disconnect->reason >= MQTT_UNSPECIFIED_ERROR);
    assert_int_equal(MQTT_HAS(&disconnect->properties, REASON_STRING), wanted != 2);
    client_expect_closed(client);
    bench_deinit(&bench);
  }
}

// ---- Aliases from the client

static struct mqtt_packet with_alias(struct client *client, const char *topic, uint16_t alias)
{
  struct mqtt_packet packet = publish_packet(client, topic, "x", 0);
  property_set(&packet.publish.properties, MQTT_PROPERTY_TOPIC_ALIAS);
  packet.publish.properties.topic_alias = alias;
  return packet;
}

static void aliases_resolve(void **state)
{
  struct limits limits = limits_default();
  limits.topic_alias = 4;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *subscriber = client_subscribed(bench, MQTT_5_0, "s", "#", 0);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  limits.topic_alias = 1;  // what was promised holds over a reload
  bench_set_limits(bench, &limits);
  static const char *const topics[] = {"one", "two", "three", "four"};
  for (uint16_t alias = 1; alias <= 4; alias++) {
    struct mqtt_packet packet = with_alias(client, topics[alias - 1], alias);
    client_send(client, &packet);
    client_expect_publish(subscriber, topics[alias - 1], "x");
  }
  for (uint16_t alias = 4; alias >= 1; alias--) {
    struct mqtt_packet packet = with_alias(client, "", alias);
    client_send(client, &packet);
    client_expect_publish(subscriber, topics[alias - 1], "x");
  }
  struct mqtt_packet packet = with_alias(client, "another", 2);
  client_send(client, &packet);
  client_expect_publish(subscriber, "another", "x");
  packet = with_alias(client, "", 2);
  client_send(client, &packet);
  client_expect_publish(subscriber, "another", "x");
  packet = with_alias(client, "t", 5);
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_TOPIC_ALIAS_INVALID);
  // One that was not set; aliases do not outlive a connection.
  client = client_new(bench, MQTT_5_0, "c");
  packet = with_alias(client, "", 1);
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
  // None are allowed.
  limits.topic_alias = 0;
  bench_set_limits(bench, &limits);
  client = client_new(bench, MQTT_5_0, "c");
  packet = with_alias(client, "t", 1);
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_TOPIC_ALIAS_INVALID);
}

// ---- Acknowledgements

struct flow {
  struct bench bench;
  struct client *subscriber, *publisher;
  uint16_t ids[3];  // QoS 1, 2 and 2, the last with PUBREC
};

static void flow_init(struct flow *flow)
{
  bench_init(&flow->bench, 1, NULL);
  flow->subscriber = client_new(&flow->bench, MQTT_5_0, "s");
  client_subscribe(flow->subscriber, "t", 2);
  flow->publisher = client_new(&flow->bench, MQTT_5_0, "p");
  for (unsigned i = 0; i < 3; i++) {
    client_publish(flow->publisher, "t", "x", i ? 2 : 1, false);
    flow->ids[i] = client_expect_publish(flow->subscriber, "t", "x")->packet_id;
  }
  client_ack(flow->subscriber, MQTT_PUBREC, flow->ids[2], MQTT_SUCCESS);
  client_expect_ack(flow->subscriber, MQTT_PUBREL, flow->ids[2], MQTT_SUCCESS);
}

static void acknowledgements_fit_their_message(void **state)
{
  (void)state;
  static const struct {
    enum mqtt_packet_type type;
    unsigned of;
    enum mqtt_reason reason;
    enum mqtt_packet_type answer;  // PINGRESP: none
    bool error;
    unsigned left;  // in flight
  } cases[] = {
      {MQTT_PUBACK, 0, MQTT_SUCCESS, MQTT_PINGRESP, false, 2},
      {MQTT_PUBACK, 0, MQTT_NOT_AUTHORIZED, MQTT_PINGRESP, false, 2},
      {MQTT_PUBACK, 1, MQTT_SUCCESS, MQTT_PINGRESP, true, 0},
      {MQTT_PUBREC, 0, MQTT_SUCCESS, MQTT_PINGRESP, true, 0},
      {MQTT_PUBREC, 1, MQTT_SUCCESS, MQTT_PUBREL, false, 3},
      {MQTT_PUBREC, 1, MQTT_QUOTA_EXCEEDED, MQTT_PINGRESP, false, 2},
      {MQTT_PUBREC, 2, MQTT_SUCCESS, MQTT_PUBREL, false, 3},
      {MQTT_PUBCOMP, 1, MQTT_SUCCESS, MQTT_PINGRESP, true, 0},
      {MQTT_PUBCOMP, 2, MQTT_SUCCESS, MQTT_PINGRESP, false, 2},
      {MQTT_PUBCOMP, 2, MQTT_PACKET_ID_NOT_FOUND, MQTT_PINGRESP, false, 2},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct flow flow;
    flow_init(&flow);
    client_ack(flow.subscriber, cases[i].type, flow.ids[cases[i].of], cases[i].reason);
    if (cases[i].answer != MQTT_PINGRESP)
      client_expect_ack(flow.subscriber, cases[i].answer, flow.ids[cases[i].of], MQTT_SUCCESS);
    if (cases[i].error)
      client_expect_disconnect(flow.subscriber, MQTT_PROTOCOL_ERROR);
    else
      client_expect_nothing(flow.subscriber);
    assert_int_equal(bench_counters(&flow.bench).copies_in_flight, cases[i].left);
    bench_deinit(&flow.bench);
  }
}

static void acknowledgements_of_nothing(void **state)
{
  (void)state;
  struct flow flow;
  flow_init(&flow);
  client_ack(flow.subscriber, MQTT_PUBACK, 999, MQTT_SUCCESS);
  client_ack(flow.subscriber, MQTT_PUBCOMP, 999, MQTT_SUCCESS);
  client_ack(flow.subscriber, MQTT_PUBREC, 999, MQTT_UNSPECIFIED_ERROR);
  client_expect_nothing(flow.subscriber);
  client_ack(flow.subscriber, MQTT_PUBREC, 999, MQTT_SUCCESS);
  client_expect_ack(flow.subscriber, MQTT_PUBREL, 999, MQTT_PACKET_ID_NOT_FOUND);
  client_ack(flow.subscriber, MQTT_PUBREL, 999, MQTT_SUCCESS);
  client_expect_ack(flow.subscriber, MQTT_PUBCOMP, 999, MQTT_PACKET_ID_NOT_FOUND);
  assert_int_equal(bench_counters(&flow.bench).copies_in_flight, 3);
  // A malformed one closes.
  client_send_bytes(flow.subscriber, "\x40\2\0\0", 4);
  client_expect_disconnect(flow.subscriber, MQTT_PROTOCOL_ERROR);
  bench_deinit(&flow.bench);
}

// A large window is given back when it is empty.
static void windows_shrink(void **state)
{
  struct limits limits = limits_default();
  limits.in_flight = 500;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *subscriber = client_subscribed(bench, MQTT_5_0, "s", "t", 1);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  uint16_t ids[300];
  for (unsigned round = 0; round < 3; round++) {
    for (unsigned i = 0; i < 300; i++) {
      client_publish(publisher, "t", "x", 1, false);
      ids[i] = client_expect_publish(subscriber, "t", "x")->packet_id;
    }
    for (unsigned i = 0; i < 300; i++) client_ack(subscriber, MQTT_PUBACK, ids[(i * 7) % 300], MQTT_SUCCESS);
  }
  assert_int_equal(bench_counters(bench).delivered, 900);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answers_say_whether_anybody_listens),
      WITH_BENCH(qos_2_is_delivered_once),
      WITH_BENCH(a_clean_start_forgets_identifiers),
      cmocka_unit_test(receive_maximum_is_exact),
      WITH_BENCH(refused_messages_give_their_place_back),
      WITH_BENCH(what_cannot_be_retained_is_passed_on),
      WITH_BENCH(refusals_have_reasons),
      cmocka_unit_test(reason_strings_come_when_wanted),
      WITH_BENCH(aliases_resolve),
      cmocka_unit_test(acknowledgements_fit_their_message),
      cmocka_unit_test(acknowledgements_of_nothing),
      WITH_BENCH(windows_shrink),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
