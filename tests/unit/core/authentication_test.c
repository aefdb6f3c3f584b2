// Who a client is: questions that its CONNECT becomes, and what happens with the answers.
#include "bench_authentication.h"

// ---- CONNECT

static void a_connect_is_a_question(void **state)
{
  (void)state;
  static const enum mqtt_version versions[] = {MQTT_3_1, MQTT_3_1_1, MQTT_5_0};
  for (size_t i = 0; i < 3; i++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *client = client_open(&bench, versions[i], 0);
    struct mqtt_packet packet = connect_as(versions[i], "pump", "ann", "secret");
    client_queue(client, &packet);
    client_queue_bytes(client, "\xc0\0", 2);  // behind it, and not to be lost
    bench_run(&bench);
    client_expect_nothing(client);
    assert_true(client->paused);
    const struct authentication *question = bench_question(&bench);
    assert_int_equal(question->version, versions[i]);
    assert_ptr_equal(question->transport, client);
    assert_false(question->again);
    assert_true(question->has_user);
    assert_true(question->has_password);
    assert_span_text(question->client_id, "pump");
    assert_span_text(question->user, "ann");
    assert_span_text(question->password, "secret");
    assert_int_equal(question->method.size, 0);
    assert_null(question->enhanced);
    assert_int_equal(bench_counters(&bench).sessions, 0);
    bench_answer(&bench, &(struct answer){.user = "ann.b"});
    assert_int_equal(client_expect(client, MQTT_CONNACK)->connack.reason, MQTT_SUCCESS);
    client_expect(client, MQTT_PINGRESP);
    assert_user(client, "ann.b");
    assert_null(admission_of(client->connection));  // nothing is kept of it
    assert_null(client->connection->input);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.packets_received[MQTT_CONNECT], 1);
    assert_int_equal(counters.connects_accepted, 1);
    assert_int_equal(counters.paused_connections, 0);
    bench_deinit(&bench);
  }
}

static void what_a_client_does_not_show_is_not_asked(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "", NULL, NULL);
  client_send(client, &packet);
  const struct authentication *question = bench_question(bench);
  assert_false(question->has_user);
  assert_false(question->has_password);
  assert_int_equal(question->client_id.size, 0);
  assert_int_equal(question->user.size, 0);
  bench_answer(bench, &(struct answer){0});  // an anonymous client, by the word of who answers
  assert_true(MQTT_HAS(&client_expect(client, MQTT_CONNACK)->connack.properties, ASSIGNED_CLIENT_ID));
  assert_user(client, "");
  // Of several they are asked in order.
  struct client *clients[3];
  static const char *const ids[] = {"a", "b", "c"};
  for (size_t i = 0; i < 3; i++) {
    clients[i] = client_open(bench, MQTT_3_1_1, 0);
    packet = connect_as(MQTT_3_1_1, ids[i], ids[i], NULL);
    client_send(clients[i], &packet);
  }
  for (size_t i = 0; i < 3; i++) {
    assert_span_text(bench_question(bench)->client_id, ids[i]);
    bench_answer(bench, &(struct answer){.user = ids[i]});
    client_expect(clients[i], MQTT_CONNACK);
  }
}

static void answers_may_come_in_any_order(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct client *first = client_open(bench, MQTT_5_0, 0), *second = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "first", "one", "1");
  client_send(first, &packet);
  packet = connect_as(MQTT_5_0, "second", "two", "2");
  client_send(second, &packet);
  struct authentication *held = bench->questions;
  bench->questions = held->next;
  bench_answer(bench, &(struct answer){.user = "two"});
  client_expect(second, MQTT_CONNACK);
  client_expect_nothing(first);
  held->next = NULL;
  bench->questions = held;
  bench_answer(bench, &(struct answer){.user = "one"});
  client_expect(first, MQTT_CONNACK);
  assert_user(first, "one");
  assert_user(second, "two");
}

static void refusals_are_told(void **state)
{
  (void)state;
  static const struct {
    enum mqtt_version version;
    enum mqtt_reason reason, told;  // told: before 5.0 there are fewer
  } cases[] = {
      {MQTT_5_0, MQTT_BAD_USER_NAME_OR_PASSWORD, MQTT_BAD_USER_NAME_OR_PASSWORD},
      {MQTT_5_0, MQTT_NOT_AUTHORIZED, MQTT_NOT_AUTHORIZED},
      {MQTT_5_0, MQTT_BAD_AUTHENTICATION_METHOD, MQTT_BAD_AUTHENTICATION_METHOD},
      {MQTT_5_0, MQTT_CONNECTION_RATE_EXCEEDED, MQTT_CONNECTION_RATE_EXCEEDED},
      {MQTT_5_0, MQTT_SERVER_BUSY, MQTT_SERVER_BUSY},
      {MQTT_3_1_1, MQTT_BAD_USER_NAME_OR_PASSWORD, MQTT_BAD_USER_NAME_OR_PASSWORD},
      {MQTT_3_1_1, MQTT_NOT_AUTHORIZED, MQTT_NOT_AUTHORIZED},
      {MQTT_3_1, MQTT_NOT_AUTHORIZED, MQTT_NOT_AUTHORIZED},
      {MQTT_3_1_1, MQTT_SERVER_BUSY, MQTT_SERVER_UNAVAILABLE},
      {MQTT_3_1_1, MQTT_CONNECTION_RATE_EXCEEDED, MQTT_SERVER_UNAVAILABLE},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *client = client_open(&bench, cases[i].version, 0);
    struct mqtt_packet packet = connect_as(cases[i].version, "c", "ann", "wrong");
    client_queue(client, &packet);
    client_queue_bytes(client, "\xc0\0", 2);  // nothing behind it is processed
    bench_run(&bench);
    bench_answer(&bench, &(struct answer){.reason = cases[i].reason});
    client_expect_refused(client, cases[i].told);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.connects_refused, 1);
    assert_int_equal(counters.faults[cases[i].reason], 1);
    assert_int_equal(counters.sessions, 0);
    assert_int_equal(counters.packets_received[MQTT_CONNECT], 1);
    assert_int_equal(counters.packets_received[MQTT_PINGREQ], 0);
    assert_true(bench_logged(&bench, "authentication_failed"));
    bench_deinit(&bench);
  }
}

// What a client may not do is found out when it is known who it is, and not told to others.
static void other_checks_come_after_the_answer(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "c", "ann", "secret");
  packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text("$SYS/x")};
  client_send(client, &packet);
  client_expect_nothing(client);
  bench_answer(bench, &(struct answer){.user = "ann"});
  client_expect_refused(client, MQTT_NOT_AUTHORIZED);
}

static void wills_ask_the_list(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  bench->believe = true;
  struct acl *acl;
  assert_ok(acl_create(&acl));
  struct error error;
  const struct span topics[] = {span_text("of/{username}/#")};
  const struct acl_rule rule = {.subject = ACL_USER,
                                .who = span_text("a*"),
                                .verbs = ACL_PUBLISH,
                                .allow = true,
                                .qos_max = 2,
                                .topics = topics,
                                .topic_count = 1};
  assert_ok(acl_add(acl, &rule, &error));
  access_set_list(bench->shards[0], acl);
  acl_unref(acl);
  static const struct {
    const char *user, *topic;
    bool allowed;
  } cases[] = {{"ann", "of/ann/x", true}, {"ann", "of/bob/x", false}, {"bob", "of/bob/x", false}};
  for (size_t i = 0; i < 3; i++) {
    struct client *client = client_open(bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_as(MQTT_5_0, cases[i].topic, cases[i].user, "secret");
    packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text(cases[i].topic)};
    client_send(client, &packet);
    if (cases[i].allowed)
      assert_int_equal(client_expect(client, MQTT_CONNACK)->connack.reason, MQTT_SUCCESS);
    else
      client_expect_refused(client, MQTT_NOT_AUTHORIZED);
  }
  access_set_list(bench->shards[0], NULL);
}

// ---- Time, and clients that do not wait

static void the_time_of_connect_goes_on(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "c", "ann", "secret");
  client_send(client, &packet);
  uint64_t most = bench->limits.connect_timeout_ms;
  bench_advance(bench, most - 1);
  assert_non_null(client->connection);
  bench_advance(bench, 1);
  client_expect_closed(client);
  assert_int_equal(bench_counters(bench).connect_timeouts, 1);
  bench_answer(bench, &(struct answer){.user = "ann"});  // too late for anything
  assert_int_equal(bench_counters(bench).connections, 0);
  assert_int_equal(bench_counters(bench).sessions, 0);
  // The steps of an exchange share the same time.
  client = client_in_exchange(bench, "c");
  bench_advance(bench, most);
  client_expect_closed(client);
}

static void a_client_may_go_before_the_answer(void **state)
{
  (void)state;
  struct bench bench;
  bench_init_authentication(&bench, 1);
  static const enum mqtt_reason reasons[] = {MQTT_SUCCESS, MQTT_NOT_AUTHORIZED, MQTT_CONTINUE_AUTHENTICATION};
  for (size_t i = 0; i < 3; i++) {
    unsigned freed = 0;
    struct client *client = client_asked(&bench, "c", "data");
    client_drop(client);
    struct answer answer = {.reason = reasons[i], .user = "ann", .data = "x", .enhanced = bench_exchange(&freed)};
    bench_answer(&bench, &answer);
    assert_int_equal(freed, 1);
    client_expect_nothing(client);
  }
  assert_int_equal(bench_counters(&bench).connects_accepted, 0);
  assert_int_equal(bench.shards[0]->asking.count, 0);
  bench_deinit(&bench);
}

static void a_question_that_nobody_has_taken_goes_with_its_client(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct shard *shard = bench->shards[0];
  struct mqtt_packet packet = connect_as(MQTT_5_0, "c", "ann", "secret");
  uint8_t bytes[100];
  size_t size = mqtt_encode(MQTT_5_0, &packet, bytes, sizeof bytes), taken;
  struct connection_origin origin = {.address = "x", .authenticate = true};
  struct connection *connections[3];
  for (size_t i = 0; i < 3; i++) {
    connections[i] = shard_open(shard, NULL, &origin);
    assert_int_equal(shard_receive(shard, connections[i], span_of(bytes, size), &taken), RECEIVE_PAUSED);
  }
  shard_closed(shard, connections[0]);
  shard_closed(shard, connections[2]);
  struct authentication *question = shard_next_authentication(shard);
  assert_non_null(question);
  assert_null(shard_next_authentication(shard));
  question->reason = MQTT_SERVER_BUSY;
  shard_authenticated(shard, question);
  assert_int_equal(connections[1]->state, CLOSING);
  shard_closed(shard, connections[1]);
  // And with the shard.
  connections[0] = shard_open(shard, NULL, &origin);
  assert_int_equal(shard_receive(shard, connections[0], span_of(bytes, size), &taken), RECEIVE_PAUSED);
}

static void a_stop_does_not_wait_for_answers(void **state)
{
  (void)state;
  struct bench bench;
  bench_init_authentication(&bench, 1);
  unsigned freed = 0;
  struct client *waiting = client_asked(&bench, "a", NULL);
  bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .enhanced = bench_exchange(&freed)});
  client_expect(waiting, MQTT_AUTH);
  struct client *asked = client_asked(&bench, "b", NULL);
  shard_disconnect_all(bench.shards[0], MQTT_SERVER_SHUTTING_DOWN);
  bench_run(&bench);
  client_expect_closed(waiting);
  client_expect_closed(asked);
  assert_int_equal(freed, 1);
  bench_deinit(&bench);
}

// ---- Portions

static void input_may_be_cut_anywhere(void **state)
{
  (void)state;
  for (size_t chunk = 1; chunk < 60; chunk++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    bench.believe = true;
    struct client *client = client_open(&bench, MQTT_5_0, 0);
    client->read_chunk = chunk;
    struct mqtt_packet packet = connect_as(MQTT_5_0, "c", "ann", "secret");
    client_queue(client, &packet);
    client_queue_subscribe(client, &(struct sub){.filter = "t", .qos = 1}, 1);
    packet = publish_packet(client, "t", "x", 1);
    client_queue(client, &packet);
    bench_run(&bench);
    client_expect(client, MQTT_CONNACK);
    client_expect(client, MQTT_SUBACK);
    client_expect(client, MQTT_PUBACK);
    client_take(client, "t", "x", 1);
    assert_null(client->connection->input);
    bench_deinit(&bench);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_connect_is_a_question),
      WITH_BENCH(what_a_client_does_not_show_is_not_asked),
      WITH_BENCH(answers_may_come_in_any_order),
      cmocka_unit_test(refusals_are_told),
      WITH_BENCH(other_checks_come_after_the_answer),
      WITH_BENCH(wills_ask_the_list),
      WITH_BENCH(the_time_of_connect_goes_on),
      cmocka_unit_test(a_client_may_go_before_the_answer),
      WITH_BENCH(a_question_that_nobody_has_taken_goes_with_its_client),
      cmocka_unit_test(a_stop_does_not_wait_for_answers),
      cmocka_unit_test(input_may_be_cut_anywhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
