// CONNECT and CONNACK: who is let in, with which session, and what both sides are told.
#include "bench.h"

// ---- Accepted

static void all_versions_connect(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  static const enum mqtt_version versions[] = {MQTT_3_1, MQTT_3_1_1, MQTT_5_0};
  for (size_t i = 0; i < 3; i++) {
    struct client *client = client_new(bench, versions[i], "client");
    client_expect_nothing(client);
    client_disconnect(client, MQTT_SUCCESS);
  }
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.connects_accepted, 3);
  assert_int_equal(counters.connections_accepted, 3);
  assert_int_equal(counters.disconnects_clean, 3);
  assert_int_equal(counters.connections, 0);
  assert_int_equal(counters.sessions, 0);
  assert_true(bench_logged(bench, "client_connected"));
  assert_true(bench_logged(bench, "client_disconnected"));
}

static void connack_tells_the_limits(void **state)
{
  struct limits limits = limits_default();
  limits.packet_size = 5000;
  limits.in_flight = 17;
  limits.topic_alias = 9;
  limits.keep_alive_max_s = 100;
  limits.session_expiry_max_s = 1000;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  packet.connect.keep_alive_s = 101;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 1001;
  const struct mqtt_properties *properties = &client_connect_packet(client, &packet)->properties;
  assert_int_equal(properties->maximum_packet_size, 5000);
  assert_int_equal(properties->receive_maximum, 17);
  assert_int_equal(properties->topic_alias_maximum, 9);
  assert_int_equal(properties->server_keep_alive_s, 100);
  assert_int_equal(properties->session_expiry_s, 1000);
  assert_false(MQTT_HAS(properties, ASSIGNED_CLIENT_ID));
  assert_false(MQTT_HAS(properties, RESPONSE_INFORMATION));
  // What is within the limits is not repeated.
  client = client_open(bench, MQTT_5_0, 0);
  packet = connect_packet(MQTT_5_0, "d");
  packet.connect.keep_alive_s = 100;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 1000;
  properties = &client_connect_packet(client, &packet)->properties;
  assert_false(MQTT_HAS(properties, SERVER_KEEP_ALIVE));
  assert_false(MQTT_HAS(properties, SESSION_EXPIRY));
  // No keep alive at all is more than the maximum.
  client = client_open(bench, MQTT_5_0, 0);
  packet = connect_packet(MQTT_5_0, "e");
  packet.connect.keep_alive_s = 0;
  assert_int_equal(client_connect_packet(client, &packet)->properties.server_keep_alive_s, 100);
}

static void keep_alive_without_a_maximum(void **state)
{
  struct limits limits = limits_default();
  limits.keep_alive_max_s = 0;
  struct bench *bench = bench_make(state, 1, &limits);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  packet.connect.keep_alive_s = 0;
  assert_false(MQTT_HAS(&client_connect_packet(client, &packet)->properties, SERVER_KEEP_ALIVE));
  bench_advance(bench, 100 * 3600 * 1000);
  assert_non_null(client->connection);
}

static void identifiers_are_assigned(void **state)
{
  struct bench *bench = bench_make(state, 3, NULL);
  enum { CLIENTS = 60 };
  char ids[CLIENTS][32];
  unsigned at[3] = {0};
  for (unsigned i = 0; i < CLIENTS; i++) {
    struct client *client = client_open(bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_packet(MQTT_5_0, "");
    struct span id = client_connect_packet(client, &packet)->properties.assigned_client_id;
    assert_int_equal(id.size, 23);
    at[client->shard]++;
    snprintf(ids[i], sizeof ids[i], "%.*s", (int)id.size, (const char *)id.at);
    for (unsigned k = 0; k < i; k++) assert_string_not_equal(ids[i], ids[k]);
    // Who comes back with it belongs to the same shard.
    uint8_t home = client->shard;
    client_drop(client);
    struct client *again = client_open(bench, MQTT_5_0, 0);
    struct mqtt_packet named = connect_packet(MQTT_5_0, ids[i]);
    client_connect_packet(again, &named);
    assert_int_equal(again->shard, home);
  }
  for (unsigned i = 0; i < 3; i++) assert_true(at[i] > 0);  // dealt out over all shards, though one accepted all
  struct client *old = client_open(bench, MQTT_3_1_1, 0);
  struct mqtt_packet packet = connect_packet(MQTT_3_1_1, "");
  client_connect_packet(old, &packet);
}

static void response_information_is_given_when_asked(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "me");
  property_set(&packet.connect.properties, MQTT_PROPERTY_REQUEST_RESPONSE_INFORMATION);
  packet.connect.properties.request_response_information = 1;
  assert_span_text(client_connect_packet(client, &packet)->properties.response_information, "responses/me");
  // ... and fits.
  client = client_open(bench, MQTT_5_0, 0);
  property_set(&packet.connect.properties, MQTT_PROPERTY_MAXIMUM_PACKET_SIZE);
  packet.connect.properties.maximum_packet_size = 26;
  const struct mqtt_connack *connack = client_connect_packet(client, &packet);
  assert_false(MQTT_HAS(&connack->properties, RESPONSE_INFORMATION));
  assert_true(client->packet_size <= 26);
}

// ---- Refused

static void strangers_are_refused(void **state)
{
  (void)state;
  static const enum mqtt_version versions[] = {MQTT_3_1_1, MQTT_5_0};
  for (size_t i = 0; i < 2; i++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *client = client_open(&bench, versions[i], 0);
    shard_closed(bench.shards[0], client->connection);
    static const struct connection_origin origin = {.address = "192.0.2.1:1"};
    client->connection = shard_open(bench.shards[0], client, &origin);
    struct mqtt_packet packet = connect_packet(versions[i], "c");
    client_send(client, &packet);
    client_expect_refused(client, MQTT_NOT_AUTHORIZED);
    assert_int_equal(bench_counters(&bench).connects_refused, 1);
    assert_int_equal(bench_counters(&bench).sessions, 0);
    bench_deinit(&bench);
  }
}

static void authentication_methods_are_unknown(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  property_set(&packet.connect.properties, MQTT_PROPERTY_AUTHENTICATION_METHOD);
  packet.connect.properties.authentication_method = span_text("SCRAM-SHA-1");
  client_send(client, &packet);
  client_expect_refused(client, MQTT_BAD_AUTHENTICATION_METHOD);
  // AUTH without a method is a protocol error.
  client = client_new(bench, MQTT_5_0, "c");
  packet = (struct mqtt_packet){.type = MQTT_AUTH, .disconnect = {.reason = MQTT_RE_AUTHENTICATE}};
  property_set(&packet.disconnect.properties, MQTT_PROPERTY_AUTHENTICATION_METHOD);
  packet.disconnect.properties.authentication_method = span_text("x");
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
}

static void bad_connects_are_answered_or_not(void **state)
{
  (void)state;
  static const struct {
    const char *bytes;
    size_t size;
    enum mqtt_version version;  // of the answer; 0: none
    enum mqtt_reason reason;
  } cases[] = {
      {"\x30\3\0\1a", 5, 0, 0},           // not a CONNECT
      {"\x10\xff\xff\xff\xff", 5, 0, 0},  // a remaining length of five bytes
      {"\x10\x0c\0\4MQTX\4\2\0\0\0\0", 14, MQTT_3_1_1, MQTT_UNSUPPORTED_PROTOCOL_VERSION},  // another protocol
      {"\x10\x0c\0\4MQTT\3\2\0\0\0\0", 14, MQTT_3_1_1, MQTT_UNSUPPORTED_PROTOCOL_VERSION},
      {"\x10\x0d\0\4MQTT\6\2\0\0\0\0\0", 15, MQTT_5_0, MQTT_UNSUPPORTED_PROTOCOL_VERSION},
      {"\x10\x0c\0\4MQTT\4\3\0\0\0\0", 14, 0, 0},  // reserved flag, 3.1.1: no CONNACK
      {"\x10\x0d\0\4MQTT\5\3\0\0\0\0\0", 15, MQTT_5_0, MQTT_MALFORMED_PACKET},
      {"\x10\x0c\0\4MQTT\4\0\0\0\0\0", 14, MQTT_3_1_1, MQTT_CLIENT_IDENTIFIER_NOT_VALID},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *client = client_open(&bench, MQTT_5_0, 0);
    client_send_bytes(client, cases[i].bytes, cases[i].size);
    if (cases[i].version) {
      client->version = cases[i].version;
      client_expect_refused(client, cases[i].reason);
    } else {
      client_expect_closed(client);
    }
    assert_int_equal(bench_counters(&bench).connections, 0);
    bench_deinit(&bench);
  }
}

// A client that takes no CONNACK of any kind is let go without one.
static void a_connack_must_fit(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  connection_set_address(client->connection, "203.0.113.9:9");
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  property_set(&packet.connect.properties, MQTT_PROPERTY_MAXIMUM_PACKET_SIZE);
  packet.connect.properties.maximum_packet_size = 4;
  client_send(client, &packet);
  client_expect_closed(client);
  assert_true(bench_logged(bench, "connection_abandoned"));
  assert_int_equal(bench_counters(bench).sessions, 0);
}

static void a_second_connect_is_an_error(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
}

static void memory_full_refuses_new_sessions(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *old = client_lasting(bench, MQTT_5_0, "old");
  client_drop(old);
  bench->budget.limit_bytes = 1;
  bench_run(bench);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "new");
  client_send(client, &packet);
  client_expect_refused(client, MQTT_SERVER_BUSY);
  old = client_open(bench, MQTT_5_0, 0);  // one that is there may come back
  assert_true(client_connect(old, "old", false, 10)->session_present);
}

// A will is a PUBLISH to come: the same names are refused.
static void wills_obey_the_rules_of_publishing(void **state)
{
  struct limits limits = limits_default();
  limits.topic_levels = 4;
  struct bench *bench = bench_make(state, 1, &limits);
  static const struct {
    const char *topic;
    enum mqtt_reason reason;
  } cases[] = {
      {"$SYS/broker/uptime", MQTT_NOT_AUTHORIZED}, {"a/b/c/d/e", MQTT_TOPIC_NAME_INVALID}, {"a/b/c/d", MQTT_SUCCESS}};
  for (size_t i = 0; i < 3; i++) {
    struct client *client = client_open(bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
    packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text(cases[i].topic)};
    if (cases[i].reason == MQTT_SUCCESS) {
      client_connect_packet(client, &packet);
    } else {
      client_send(client, &packet);
      client_expect_refused(client, cases[i].reason);
    }
  }
}

// ---- Taken over

static void the_later_connection_wins(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *first = client_durable(bench, "c", "t", 1);
  struct client *second = client_open(bench, MQTT_3_1_1, 1);
  assert_true(client_connect(second, "c", false, 0)->session_present);
  client_expect_disconnect(first, MQTT_SESSION_TAKEN_OVER);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  client_publish(publisher, "t", "x", 1, false);
  client_take(second, "t", "x", 1);
  // One that ends with its connection ends when it is taken over.
  struct client *third = client_subscribed(bench, MQTT_5_0, "d", "t", 1);
  struct client *fourth = client_open(bench, MQTT_5_0, 0);
  assert_false(client_connect(fourth, "d", false, 0)->session_present);
  client_expect_disconnect(third, MQTT_SESSION_TAKEN_OVER);
  // And so does one that is to be started afresh.
  struct client *fifth = client_open(bench, MQTT_5_0, 0);
  assert_false(client_connect(fifth, "c", true, 0)->session_present);
  client_expect_closed(second);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.takeovers, 3);
  assert_int_equal(counters.sessions, 3);
  assert_int_equal(counters.subscriptions, 0);
}

// ---- Another shard's

static void connections_go_to_their_owners(void **state)
{
  struct bench *bench = bench_make(state, 4, NULL);
  for (uint8_t at = 0; at < 4; at++) {
    for (uint8_t owner = 0; owner < 4; owner++) {
      char id[16];
      bench_new_id(bench, owner, id);
      struct client *client = client_open(bench, MQTT_5_0, at);
      client->read_chunk = (size_t)at * 7;
      // The CONNECT and what comes with it.
      struct mqtt_packet packet = connect_packet(MQTT_5_0, id);
      client_queue(client, &packet);
      client_queue_subscribe(client, &(struct sub){.filter = "t"}, 1);
      client_queue_bytes(client, "\xc0\0\xc0", 3);
      bench_run(bench);
      assert_int_equal(client->shard, owner);
      client_expect(client, MQTT_CONNACK);
      client_expect(client, MQTT_SUBACK);
      client_expect(client, MQTT_PINGRESP);
      client_expect_nothing(client);
      client_send_bytes(client, "\0", 1);
      client_expect(client, MQTT_PINGRESP);
    }
  }
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.connections, 16);
  assert_int_equal(counters.connections_accepted, 16);
  assert_int_equal(counters.connects_accepted, 16);
  assert_int_equal(counters.packets_received[MQTT_CONNECT], 16);
}

// A connection may end between its shards.
static void migrating_connections_may_be_lost(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  char id[16];
  bench_new_id(bench, 1, id);
  static const struct connection_origin origin = {.address = "x", .anonymous = true};
  struct mqtt_packet packet = connect_packet(MQTT_3_1_1, id);
  uint8_t bytes[64];
  size_t size = mqtt_encode(MQTT_3_1_1, &packet, bytes, sizeof bytes);
  for (unsigned way = 0; way < 3; way++) {
    struct connection *connection = shard_open(bench->shards[0], NULL, &origin);
    size_t taken;
    assert_int_equal(shard_receive(bench->shards[0], connection, span_of(bytes, size), &taken), RECEIVE_MIGRATE);
    assert_int_equal(taken, size);
    if (way == 0) {
      shard_closed(bench->shards[0], connection);
      continue;
    }
    uint8_t *input;
    size_t input_size;
    assert_int_equal(shard_detach(bench->shards[0], connection, &input, &input_size), 1);
    assert_true(span_equal(span_of(input, input_size), span_of(bytes, size)));
    if (way == 2) {
      connection = shard_adopt(bench->shards[1], NULL, &origin, span_of(input, input_size));
      assert_non_null(connection);
      unsigned wants;
      assert_ptr_equal(shard_next_attention(bench->shards[1], &wants), connection);
      assert_int_equal(wants, CONNECTION_RESUME);
      shard_closed(bench->shards[1], connection);
    }
    free(input);
  }
  assert_int_equal(bench_counters(bench).connections, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_BENCH(all_versions_connect),
      WITH_BENCH(connack_tells_the_limits),
      WITH_BENCH(keep_alive_without_a_maximum),
      WITH_BENCH(identifiers_are_assigned),
      WITH_BENCH(response_information_is_given_when_asked),
      cmocka_unit_test(strangers_are_refused),
      WITH_BENCH(authentication_methods_are_unknown),
      cmocka_unit_test(bad_connects_are_answered_or_not),
      WITH_BENCH(a_connack_must_fit),
      WITH_BENCH(a_second_connect_is_an_error),
      WITH_BENCH(memory_full_refuses_new_sessions),
      WITH_BENCH(wills_obey_the_rules_of_publishing),
      WITH_BENCH(the_later_connection_wins),
      WITH_BENCH(connections_go_to_their_owners),
      WITH_BENCH(migrating_connections_may_be_lost),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
