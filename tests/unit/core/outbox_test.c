// What connections write: partial writes, large messages, flow control, sizes, aliases, resending.
#include "bench.h"

#include "core/shard_internal.h"

static char *text_of(size_t size)
{
  char *text = malloc(size + 1);
  assert_non_null(text);
  for (size_t i = 0; i < size; i++) text[i] = (char)('a' + i % 26);
  text[size] = 0;
  return text;
}

// ---- Portions

// Whatever the transport takes at a time, the bytes are the same.
static void writes_may_be_cut_anywhere(void **state)
{
  (void)state;
  char *large = text_of(BENCH_SCRATCH * 3);
  struct span whole = {0};
  for (size_t chunk = 0; chunk < 40; chunk++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *subscriber = client_subscribed(&bench, MQTT_5_0, "s", "#", 2);
    struct client *publisher = client_new(&bench, MQTT_5_0, "p");
    subscriber->stalled = true;
    static const char ping[2] = {(char)0xc0, 0};
    for (unsigned i = 0; i < 12; i++) {
      const char *payload = i == 5 || i == 6 ? large : "small";
      client_publish(publisher, i % 2 ? "a/b" : "topic", payload, (uint8_t)(i % 3), false);
      if (i % 4 == 0) client_send_bytes(subscriber, ping, sizeof ping);
    }
    subscriber->write_chunk = chunk;
    client_unstall(subscriber);
    struct span got = buffer_peek(&subscriber->incoming);
    if (chunk == 0) {
      assert_true(got.size > 2 * strlen(large));
      uint8_t *copy = malloc(got.size);
      assert_non_null(copy);
      memcpy(copy, got.at, got.size);
      whole = span_of(copy, got.size);
    }
    assert_true(span_equal(got, whole));
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.copies_queued, 0);
    assert_int_equal(counters.delivered, 4);
    assert_int_equal(counters.copies_in_flight, 8);
    bench_deinit(&bench);
  }
  union {
    const uint8_t *borrowed;
    void *owned;
  } memory = {.borrowed = whole.at};
  free(memory.owned);
  free(large);
}

// A write that is cut at many places, and then the connection is lost: nothing leaks, the session still has the messages.
static void connections_may_be_lost_in_the_middle(void **state)
{
  (void)state;
  char *large = text_of(BENCH_SCRATCH * 2);
  for (size_t cut = 0; cut < 64; cut++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *subscriber = client_durable(&bench, "s", "#", 1);
    struct client *publisher = client_new(&bench, MQTT_3_1_1, "p");
    subscriber->stalled = true;
    client_publish(publisher, "t", "one", 1, false);
    client_publish(publisher, "t", large, 1, false);
    uint8_t scratch[BENCH_SCRATCH];
    struct output out;
    for (unsigned i = 0; i < 2; i++) {
      size_t size = connection_output(bench.shards[0], subscriber->connection, scratch, sizeof scratch, &out);
      assert_true(size > 0);
      if (i == 0)
        assert_int_equal(connection_sent(bench.shards[0], subscriber->connection, size), CONNECTION_OUTPUT);
      else if (cut % 2)
        assert_int_equal(connection_sent(bench.shards[0], subscriber->connection, cut * 32), 0);
      // else: the write has failed, the driver gives up without a word
    }
    client_drop(subscriber);
    struct client *again = client_back(&bench, "s");
    assert_true(client_expect_publish(again, "t", "one")->dup);
    assert_true(client_expect_publish(again, "t", large)->dup);
    client_expect_nothing(again);
    bench_deinit(&bench);
  }
  free(large);
}

static void destroyed_in_the_middle(void **state)
{
  (void)state;
  char *large = text_of(BENCH_SCRATCH * 2);
  struct bench bench;
  bench_init(&bench, 1, NULL);
  struct client *subscriber = client_subscribed(&bench, MQTT_5_0, "s", "#", 0);
  struct client *publisher = client_new(&bench, MQTT_5_0, "p");
  subscriber->stalled = true;
  client_publish(publisher, "t", large, 0, false);
  uint8_t scratch[BENCH_SCRATCH];
  struct output out;
  assert_true(connection_output(bench.shards[0], subscriber->connection, scratch, sizeof scratch, &out) > 0);
  bench_deinit(&bench);
  free(large);
}

// Topic and properties alone are larger than what is written at once.
static void heads_larger_than_scratch(void **state)
{
  (void)state;
  char *topic = text_of(65535);
  char *value = text_of(60000);
  uint8_t *user = malloc(3 * 60010);
  assert_non_null(user);
  size_t size = 0;
  for (unsigned i = 0; i < 3; i++) size += mqtt_write_user_property(user + size, 60010, span_text("name"), span_text(value));
  for (size_t chunk = 0; chunk <= 5000; chunk += 1000) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *subscriber = client_durable(&bench, "s", "#", 1);
    subscriber->write_chunk = chunk;
    struct client *publisher = client_new(&bench, MQTT_5_0, "p");
    struct mqtt_packet packet = publish_packet(publisher, topic, "payload", 1);
    packet.publish.properties.user = span_of(user, size);
    property_set(&packet.publish.properties, MQTT_PROPERTY_USER);
    client_send(publisher, &packet);
    client_expect_ack(publisher, MQTT_PUBACK, packet.publish.packet_id, MQTT_SUCCESS);
    const struct mqtt_publish *publish = client_expect_publish(subscriber, topic, "payload");
    assert_int_equal(publish->properties.raw.size, size);
    assert_memory_equal(publish->properties.raw.at, user, size);
    client_publish(publisher, "next", "x", 0, false);
    client_expect_publish(subscriber, "next", "x");
    client_drop(subscriber);
    assert_true(client_expect_publish(client_back(&bench, "s"), topic, "payload")->dup);
    bench_deinit(&bench);
  }
  free(user);
  free(value);
  free(topic);
}

// ---- Flow control

static void window_is_the_smaller_of_both_maxima(void **state)
{
  (void)state;
  static const struct {
    uint16_t client, limit, expected;
  } cases[] = {{1, 32, 1}, {5, 32, 5}, {100, 32, 32}, {0, 7, 7}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct limits limits = limits_default();
    limits.in_flight = cases[i].limit;
    struct bench bench;
    bench_init(&bench, 1, &limits);
    struct client *subscriber = client_open(&bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_packet(MQTT_5_0, "s");
    if (cases[i].client) property_set(&packet.connect.properties, MQTT_PROPERTY_RECEIVE_MAXIMUM);
    packet.connect.properties.receive_maximum = cases[i].client;
    client_connect_packet(subscriber, &packet);
    client_subscribe(subscriber, "t", 2);
    struct client *publisher = client_new(&bench, MQTT_5_0, "p");
    for (unsigned n = 0; n < 50; n++) publish_numbers(publisher, "t", n, n + 1, (uint8_t)(1 + n % 2));
    assert_int_equal(bench_counters(&bench).copies_in_flight, cases[i].expected);
    assert_int_equal(bench_counters(&bench).copies_queued, 50u - cases[i].expected);
    // One in, one out. A QoS 2 message counts until its PUBCOMP.
    uint16_t ids[50];
    unsigned arrived = 0;
    for (unsigned done = 0; done < 50; done++) {
      for (; client_waiting(subscriber) > 0; arrived++) ids[arrived] = expect_number(subscriber, "t", arrived, false);
      assert_int_equal(arrived, done + cases[i].expected < 50 ? done + cases[i].expected : 50);
      if (done % 2 == 0) {
        client_ack(subscriber, MQTT_PUBACK, ids[done], MQTT_SUCCESS);
        continue;
      }
      client_ack(subscriber, MQTT_PUBREC, ids[done], MQTT_SUCCESS);
      client_expect_ack(subscriber, MQTT_PUBREL, ids[done], MQTT_SUCCESS);
      client_expect_nothing(subscriber);
      client_ack(subscriber, MQTT_PUBCOMP, ids[done], MQTT_SUCCESS);
    }
    assert_int_equal(bench_counters(&bench).delivered, 50);
    assert_int_equal(bench_counters(&bench).copies_in_flight, 0);
    bench_deinit(&bench);
  }
}

// Nothing overtakes a message that waits for room in the window, not even QoS 0.
static void order_is_kept_across_qos(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "s");
  property_set(&packet.connect.properties, MQTT_PROPERTY_RECEIVE_MAXIMUM);
  packet.connect.properties.receive_maximum = 1;
  client_connect_packet(subscriber, &packet);
  client_subscribe(subscriber, "t", 2);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  client_publish(publisher, "t", "1", 1, false);
  client_publish(publisher, "t", "2", 2, false);
  client_publish(publisher, "t", "3", 0, false);
  client_publish(publisher, "t", "4", 1, false);
  uint16_t id = client_expect_publish(subscriber, "t", "1")->packet_id;
  client_expect_nothing(subscriber);
  client_ack(subscriber, MQTT_PUBACK, id, MQTT_SUCCESS);
  id = client_expect_publish(subscriber, "t", "2")->packet_id;
  client_expect_publish(subscriber, "t", "3");
  client_expect_nothing(subscriber);
  client_ack(subscriber, MQTT_PUBREC, id, MQTT_UNSPECIFIED_ERROR);  // gives the place back at once
  client_take(subscriber, "t", "4", 1);
  client_expect_nothing(subscriber);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.dropped[DROP_REFUSED], 1);
  assert_int_equal(counters.delivered, 3);
}

// ---- Sizes

static struct client *connect_with_size(struct bench *bench, const char *id, uint32_t size, uint16_t aliases)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, id);
  packet.connect.clean_start = false;
  property_set(&packet.connect.properties, MQTT_PROPERTY_MAXIMUM_PACKET_SIZE);
  packet.connect.properties.maximum_packet_size = size;
  property_set(&packet.connect.properties, MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM);
  packet.connect.properties.topic_alias_maximum = aliases;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 600;
  client_connect_packet(client, &packet);
  return client;
}

static void maximum_packet_size_is_exact(void **state)
{
  (void)state;
  for (uint16_t aliases = 0; aliases <= 8; aliases += 8) {
    for (uint8_t qos = 0; qos <= 2; qos++) {
      struct bench bench;
      bench_init(&bench, 1, NULL);
      struct client *subscriber = connect_with_size(&bench, "s", 200, aliases);
      client_subscribe(subscriber, "#", qos);
      struct client *publisher = client_new(&bench, MQTT_5_0, "p");
      // 3 bytes of fixed header, the topic with its length, the identifier, the property length.
      size_t exact = 200 - 3 - 2 - strlen("a/topic") - (qos ? 2 : 0) - 1;
      char *payload = text_of(exact + 1);
      client_publish(publisher, "a/topic", payload, qos, false);  // one too many
      client_expect_nothing(subscriber);
      assert_int_equal(bench_counters(&bench).dropped[DROP_PACKET_TOO_LARGE], 1);
      payload[exact] = 0;
      client_publish(publisher, "a/topic", payload, qos, false);
      client_take(subscriber, "a/topic", payload, qos);
      assert_int_equal(bench_counters(&bench).delivered, 1);
      assert_int_equal(bench_counters(&bench).copies_in_flight, 0);
      free(payload);
      bench_deinit(&bench);
    }
  }
}

// What was in flight and is now too large for the client counts as sent [MQTT-3.1.2-25].
static void maximum_may_shrink_over_a_reconnect(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = connect_with_size(bench, "s", 200, 0);
  client_subscribe(subscriber, "#", 2);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  char *payload = text_of(100);
  client_publish(publisher, "t", "1", 1, false);
  client_publish(publisher, "t", payload, 1, false);
  client_publish(publisher, "t", "3", 2, false);
  client_expect_publish(subscriber, "t", "1");
  client_expect_publish(subscriber, "t", payload);
  uint16_t id = client_expect_publish(subscriber, "t", "3")->packet_id;
  client_drop(subscriber);
  subscriber = connect_with_size(bench, "s", 60, 0);
  assert_true(client_expect_publish(subscriber, "t", "1")->dup);
  const struct mqtt_publish *publish = client_expect_publish(subscriber, "t", "3");
  assert_true(publish->dup);
  assert_int_equal(publish->packet_id, id);
  client_expect_nothing(subscriber);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.dropped[DROP_PACKET_TOO_LARGE], 1);
  assert_int_equal(counters.copies_in_flight, 2);
  assert_int_equal(counters.redelivered, 2);
  free(payload);
}

// ---- Aliases towards the client

static void aliases_are_given_once(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = connect_with_size(bench, "s", 1000, 2);
  client_subscribe(subscriber, "#", 0);
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  uint16_t alias[2];
  static const char *const topics[2] = {"first/topic", "second/topic"};
  for (unsigned i = 0; i < 2; i++) {
    client_publish(publisher, topics[i], "x", 0, false);
    const struct mqtt_publish *publish = client_expect_publish(subscriber, topics[i], "x");
    assert_true(MQTT_HAS(&publish->properties, TOPIC_ALIAS));
    alias[i] = publish->properties.topic_alias;
    assert_in_range(alias[i], 1, 2);
  }
  assert_int_not_equal(alias[0], alias[1]);
  for (unsigned i = 0; i < 10; i++) {
    client_publish(publisher, topics[i % 2], "x", 0, false);
    const struct mqtt_publish *publish = client_expect_publish(subscriber, "", "x");
    assert_int_equal(publish->properties.topic_alias, alias[i % 2]);
  }
  // A name shorter than an alias is worth none.
  client_publish(publisher, "t", "x", 0, false);
  assert_int_equal(client_expect_publish(subscriber, "t", "x")->properties.present, 0);
  // A new connection knows nothing.
  client_drop(subscriber);
  subscriber = connect_with_size(bench, "s", 1000, 2);
  client_publish(publisher, topics[1], "x", 0, false);
  client_expect_publish(subscriber, topics[1], "x");
}

// Many more topics than aliases: whatever the policy, what the client understands is right.
static void aliases_are_always_resolvable(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = connect_with_size(bench, "s", 1000, 5);
  client_subscribe(subscriber, "#", 1);
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  struct prng prng;
  prng_seed(&prng, 4);
  char known[6][32] = {{0}};
  unsigned short_names = 0;
  for (unsigned i = 0; i < 3000; i++) {
    char topic[32];
    uint64_t hot = prng_below(&prng, 4) ? prng_below(&prng, 3 + i / 1000) : prng_below(&prng, 40);
    snprintf(topic, sizeof topic, "plant/%u", (unsigned)hot);
    client_publish(publisher, topic, "x", 0, false);
    const struct mqtt_publish *publish = &client_expect(subscriber, MQTT_PUBLISH)->publish;
    unsigned alias = MQTT_HAS(&publish->properties, TOPIC_ALIAS) ? publish->properties.topic_alias : 0;
    assert_true(alias <= 5);
    if (publish->topic.size > 0) {
      assert_span_text(publish->topic, topic);
      if (alias) snprintf(known[alias], sizeof known[alias], "%s", topic);
    } else {
      assert_string_equal(known[alias], topic);
      short_names++;
    }
  }
  assert_true(short_names > 1500);
}

// ---- Properties

static void properties_are_forwarded(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *subscriber = client_new(bench, MQTT_5_0, "s");
  struct sub sub = {.filter = "t", .qos = 1, .id = 268435455};
  client_subscribe_with(subscriber, &sub, MQTT_GRANTED_QOS_1);
  struct client *old = client_subscribed(bench, MQTT_3_1_1, "old", "t", 1);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  struct mqtt_packet packet = publish_packet(publisher, "t", "x", 1);
  struct mqtt_properties *properties = &packet.publish.properties;
  property_set(properties, MQTT_PROPERTY_PAYLOAD_FORMAT);
  properties->payload_format = 1;
  property_set(properties, MQTT_PROPERTY_RESPONSE_TOPIC);
  properties->response_topic = span_text("answers");
  property_set(properties, MQTT_PROPERTY_CORRELATION_DATA);
  properties->correlation_data = span_text("42");
  property_set(properties, MQTT_PROPERTY_MESSAGE_EXPIRY);
  properties->message_expiry_s = 100;
  client_send(publisher, &packet);
  const struct mqtt_publish *publish = client_expect_publish(subscriber, "t", "x");
  assert_int_equal(publish->properties.payload_format, 1);
  assert_span_text(publish->properties.response_topic, "answers");
  assert_span_text(publish->properties.correlation_data, "42");
  assert_int_equal(publish->properties.message_expiry_s, 100);
  assert_int_equal(publish->properties.subscription_id, 268435455);
  client_take(old, "t", "x", 1);
}

// ---- Expiry

static void publish_expiring(struct client *publisher, const char *payload, uint8_t qos, uint32_t expiry_s)
{
  struct mqtt_packet packet = publish_packet(publisher, "t", payload, qos);
  property_set(&packet.publish.properties, MQTT_PROPERTY_MESSAGE_EXPIRY);
  packet.publish.properties.message_expiry_s = expiry_s;
  client_send(publisher, &packet);
  if (qos == 1) client_expect(publisher, MQTT_PUBACK);
  if (qos == 2) {
    client_expect(publisher, MQTT_PUBREC);
    client_ack(publisher, MQTT_PUBREL, packet.publish.packet_id, MQTT_SUCCESS);
    client_expect(publisher, MQTT_PUBCOMP);
  }
}

static void waiting_messages_expire(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = client_durable(bench, "s", "t", 2);
  client_drop(subscriber);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  publish_expiring(publisher, "0", 1, 0);
  publish_expiring(publisher, "1", 2, 1);
  publish_expiring(publisher, "2", 1, 2);
  publish_expiring(publisher, "most", 1, UINT32_MAX);
  client_publish(publisher, "t", "for ever", 1, false);
  bench_advance(bench, 1001);
  subscriber = client_back(bench, "s");
  const struct mqtt_publish *publish = client_expect_publish(subscriber, "t", "2");
  assert_int_equal(publish->properties.message_expiry_s, 1);  // 0.999 s left, never sent as none
  publish = client_expect_publish(subscriber, "t", "most");
  assert_int_equal(publish->properties.message_expiry_s, UINT32_MAX - 1);
  publish = client_expect_publish(subscriber, "t", "for ever");
  assert_false(MQTT_HAS(&publish->properties, MESSAGE_EXPIRY));
  client_expect_nothing(subscriber);
  assert_int_equal(bench_counters(bench).expired, 2);
}

// [MQTT-4.3.3-7], [MQTT-4.4.0-1]: what has been sent is sent again, expired or not.
static void started_deliveries_do_not_expire(void **state)
{
  (void)state;
  for (uint8_t qos = 1; qos <= 2; qos++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *subscriber = client_durable(&bench, "s", "t", qos);
    struct client *publisher = client_new(&bench, MQTT_5_0, "p");
    publish_expiring(publisher, "begun", qos, 1);
    uint16_t id = client_expect_publish(subscriber, "t", "begun")->packet_id;
    client_drop(subscriber);
    bench_advance(&bench, 5000);
    subscriber = client_back(&bench, "s");
    const struct mqtt_publish *publish = client_expect_publish(subscriber, "t", "begun");
    assert_true(publish->dup);
    assert_int_equal(publish->packet_id, id);
    assert_int_equal(publish->properties.message_expiry_s, 0);
    assert_int_equal(bench_counters(&bench).expired, 0);
    assert_int_equal(bench_counters(&bench).copies_in_flight, 1);
    bench_deinit(&bench);
  }
}

// ---- Resending

static void in_flight_is_resent_in_order(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = client_lasting(bench, MQTT_3_1_1, "s");
  client_subscribe(subscriber, "t", 2);
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  uint16_t ids[10];
  for (unsigned i = 0; i < 10; i++) {
    publish_numbers(publisher, "t", i, i + 1, (uint8_t)(1 + i % 2));
    ids[i] = expect_number(subscriber, "t", i, false);
  }
  client_ack(subscriber, MQTT_PUBACK, ids[4], MQTT_SUCCESS);  // a hole
  client_ack(subscriber, MQTT_PUBREC, ids[3], MQTT_SUCCESS);
  client_ack(subscriber, MQTT_PUBREC, ids[7], MQTT_SUCCESS);
  client_expect_ack(subscriber, MQTT_PUBREL, ids[3], MQTT_SUCCESS);
  client_expect_ack(subscriber, MQTT_PUBREL, ids[7], MQTT_SUCCESS);
  client_drop(subscriber);
  client_publish(publisher, "t", "later", 1, false);
  subscriber = client_open(bench, MQTT_3_1_1, 0);
  assert_true(client_connect(subscriber, "s", false, 0)->session_present);
  for (unsigned i = 0; i < 10; i++) {
    if (i == 4) continue;
    if (i == 3 || i == 7) {
      client_expect_ack(subscriber, MQTT_PUBREL, ids[i], MQTT_SUCCESS);
      continue;
    }
    assert_int_equal(expect_number(subscriber, "t", i, true), ids[i]);
    assert_int_equal(subscriber->packet.publish.qos, 1 + i % 2);
  }
  const struct mqtt_publish *publish = client_expect_publish(subscriber, "t", "later");
  assert_false(publish->dup);
  client_ack(subscriber, MQTT_PUBACK, publish->packet_id, MQTT_SUCCESS);
  client_ack(subscriber, MQTT_PUBCOMP, ids[3], MQTT_SUCCESS);
  client_expect_nothing(subscriber);
  assert_int_equal(bench_counters(bench).copies_in_flight, 8);
  assert_int_equal(bench_counters(bench).delivered, 3);
}

// A smaller receive maximum than before: the rest waits, new messages wait behind it; a PUBREL is no PUBLISH and need not.
static void resending_obeys_the_receive_maximum(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = client_durable(bench, "s", "t", 2);
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  uint16_t ids[6];
  publish_numbers(publisher, "t", 0, 6, 1);
  for (unsigned i = 0; i < 6; i++) ids[i] = expect_number(subscriber, "t", i, false);
  client_drop(subscriber);
  client_publish(publisher, "t", "new", 0, false);
  client_publish(publisher, "t", "6", 1, false);
  subscriber = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "s");
  packet.connect.clean_start = false;
  property_set(&packet.connect.properties, MQTT_PROPERTY_RECEIVE_MAXIMUM);
  packet.connect.properties.receive_maximum = 2;
  client_connect_packet(subscriber, &packet);
  for (unsigned i = 0; i < 7; i++) {
    if (i == 0) client_expect_publish(subscriber, "t", "0");
    if (i < 6) expect_number(subscriber, "t", i + 1, i < 5);
    client_expect_nothing(subscriber);
    client_ack(subscriber, MQTT_PUBACK, (uint16_t)(ids[0] + i), MQTT_SUCCESS);
  }
  client_expect_nothing(subscriber);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.delivered, 7);
  assert_int_equal(counters.dropped[DROP_OFFLINE_QOS_0], 1);
  assert_int_equal(counters.copies_in_flight, 0);
}

// The scratch memory is so small that every packet needs its own turn.
static void resending_through_little_scratch(void **state)
{
  (void)state;
  for (size_t scratch = 8; scratch < 64; scratch++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *subscriber = client_durable(&bench, "s", "t", 2);
    struct client *publisher = client_new(&bench, MQTT_3_1_1, "p");
    uint16_t ids[8];
    for (unsigned i = 0; i < 8; i++) {
      client_publish(publisher, "t", "0123456789", 2, false);
      ids[i] = client_expect_publish(subscriber, "t", "0123456789")->packet_id;
      if (i % 2) continue;
      client_ack(subscriber, MQTT_PUBREC, ids[i], MQTT_SUCCESS);
      client_expect_ack(subscriber, MQTT_PUBREL, ids[i], MQTT_SUCCESS);
    }
    client_drop(subscriber);
    bench.scratch_size = scratch;
    subscriber = client_back(&bench, "s");
    for (unsigned i = 0; i < 8; i++) {
      if (i % 2)
        assert_int_equal(client_expect_publish(subscriber, "t", "0123456789")->packet_id, ids[i]);
      else
        client_expect_ack(subscriber, MQTT_PUBREL, ids[i], MQTT_SUCCESS);
    }
    client_expect_nothing(subscriber);
    bench_deinit(&bench);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(writes_may_be_cut_anywhere),
      cmocka_unit_test(connections_may_be_lost_in_the_middle),
      cmocka_unit_test(destroyed_in_the_middle),
      cmocka_unit_test(heads_larger_than_scratch),
      cmocka_unit_test(window_is_the_smaller_of_both_maxima),
      WITH_BENCH(order_is_kept_across_qos),
      cmocka_unit_test(maximum_packet_size_is_exact),
      WITH_BENCH(maximum_may_shrink_over_a_reconnect),
      WITH_BENCH(aliases_are_given_once),
      WITH_BENCH(aliases_are_always_resolvable),
      WITH_BENCH(properties_are_forwarded),
      WITH_BENCH(waiting_messages_expire),
      cmocka_unit_test(started_deliveries_do_not_expire),
      WITH_BENCH(in_flight_is_resent_in_order),
      WITH_BENCH(resending_obeys_the_receive_maximum),
      cmocka_unit_test(resending_through_little_scratch),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
