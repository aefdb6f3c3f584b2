// Enhanced authentication: exchanges of AUTH packets, when a client comes and once more when it is in.
#include "bench_authentication.h"

// ---- Enhanced authentication

static void an_exchange_goes_step_by_step(void **state)
{
  (void)state;
  struct bench bench;
  bench_init_authentication(&bench, 1);
  unsigned freed = 0;
  struct client *client = client_asked(&bench, "c", "one");
  assert_span_text(bench_question(&bench)->method, "M");
  assert_span_text(bench_question(&bench)->data, "one");
  struct enhanced *exchange = bench_exchange(&freed);
  for (unsigned step = 0; step < 3; step++) {
    struct answer answer = {.reason = MQTT_CONTINUE_AUTHENTICATION, .data = "two", .enhanced = exchange};
    bench_answer(&bench, &answer);
    expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, "two");
    client_expect_nothing(client);
    struct mqtt_packet packet = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", "three");
    client_queue(client, &packet);
    if (step == 2) client_queue_bytes(client, "\xc0\0", 2);  // early, but not to be looked at yet
    bench_run(&bench);
    const struct authentication *question = bench_question(&bench);
    assert_span_text(question->data, "three");
    assert_span_text(question->method, "M");
    assert_span_text(question->client_id, "c");
    assert_false(question->again);
    assert_ptr_equal(question->enhanced, exchange);
    client_expect_nothing(client);
  }
  bench_answer(&bench, &(struct answer){.user = "ann", .data = "four"});
  assert_int_equal(freed, 1);
  const struct mqtt_connack *connack = &client_expect(client, MQTT_CONNACK)->connack;
  assert_int_equal(connack->reason, MQTT_SUCCESS);
  assert_span_text(connack->properties.authentication_method, "M");
  assert_span_text(connack->properties.authentication_data, "four");
  client_expect(client, MQTT_PINGRESP);
  assert_user(client, "ann");
  struct counters counters = bench_counters(&bench);
  assert_int_equal(counters.packets_received[MQTT_AUTH], 3);
  assert_int_equal(counters.packets_sent[MQTT_AUTH], 3);
  assert_int_equal(counters.packets_received[MQTT_CONNECT], 1);
  bench_deinit(&bench);
}

static void an_exchange_may_be_cut_anywhere(void **state)
{
  (void)state;
  for (size_t chunk = 1; chunk < 40; chunk++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *client = client_open(&bench, MQTT_5_0, 0);
    client->read_chunk = chunk;
    struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
    set_method(&packet.connect.properties, "M", "one");
    client_queue(client, &packet);
    packet = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", "two");
    client_queue(client, &packet);  // before it was asked for
    bench_run(&bench);
    bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION});
    expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, NULL);
    assert_span_text(bench_question(&bench)->data, "two");
    bench_answer(&bench, &(struct answer){.user = "ann"});
    client_expect(client, MQTT_CONNACK);
    client_publish(client, "t", "x", 1, false);
    assert_null(client->connection->input);
    bench_deinit(&bench);
  }
}

static void an_exchange_may_be_refused_at_any_step(void **state)
{
  (void)state;
  for (unsigned steps = 0; steps < 3; steps++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    unsigned freed = 0;
    struct client *client = client_asked(&bench, "c", NULL);
    for (unsigned step = 0; step < steps; step++) {
      struct enhanced *exchange = bench_question(&bench)->enhanced;
      if (!exchange) exchange = bench_exchange(&freed);
      bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .enhanced = exchange});
      expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, NULL);
      struct mqtt_packet packet = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", "x");
      client_send(client, &packet);
    }
    bench_answer(&bench, &REFUSE);
    client_expect_refused(client, MQTT_NOT_AUTHORIZED);
    assert_int_equal(freed, steps > 0);
    assert_int_equal(bench_counters(&bench).connects_refused, 1);
    bench_deinit(&bench);
  }
}

static void only_auth_and_disconnect_in_an_exchange(void **state)
{
  (void)state;
  static const struct {
    const char *bytes;
    size_t size;
    enum mqtt_reason reason;  // of CONNACK
  } cases[] = {
      {"\xc0\0", 2, MQTT_PROTOCOL_ERROR},                            // PINGREQ
      {"\x30\3\0\1t", 5, MQTT_PROTOCOL_ERROR},                       // PUBLISH
      {"\x10\x0e\0\4MQTT\5\2\0\0\0\0\1d", 16, MQTT_PROTOCOL_ERROR},  // CONNECT
      {"\xf2\6\x18\4\x15\0\1M", 8, MQTT_MALFORMED_PACKET},           // flags
      {"\xf0\1\x18", 3, MQTT_MALFORMED_PACKET},                      // no properties
      {"\xf0\2\x18\0", 4, MQTT_PROTOCOL_ERROR},                      // no method
      {"\xf0\0", 2, MQTT_PROTOCOL_ERROR},                            // nothing at all
      {"\xf0\6\x18\4\x15\0\1N", 8, MQTT_PROTOCOL_ERROR},             // another method
      {"\xf0\6\x19\4\x15\0\1M", 8, MQTT_PROTOCOL_ERROR},             // again, before the first time has ended
      {"\xf0\6\x00\4\x15\0\1M", 8, MQTT_PROTOCOL_ERROR},             // what the server says
      {"\xf0\6\x42\4\x15\0\1M", 8, MQTT_PROTOCOL_ERROR},             // what nobody says
      {"\xf0\x84\0\x18", 4, MQTT_MALFORMED_PACKET},                  // a length with more bytes than it needs
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *client = client_in_exchange(&bench, "c");
    client_send_bytes(client, cases[i].bytes, cases[i].size);
    client_expect_refused(client, cases[i].reason);
    assert_null(bench.questions);
    bench_deinit(&bench);
  }
}

static void an_exchange_may_be_left(void **state)
{
  (void)state;
  struct bench bench;
  bench_init_authentication(&bench, 1);
  unsigned freed = 0;
  struct client *client = client_asked(&bench, "c", NULL);
  bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .enhanced = bench_exchange(&freed)});
  client_expect(client, MQTT_AUTH);
  client_disconnect(client, MQTT_SUCCESS);
  assert_int_equal(freed, 1);
  client = client_asked(&bench, "c", NULL);
  bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .enhanced = bench_exchange(&freed)});
  client_drop(client);
  assert_int_equal(freed, 2);
  // While a step is looked at: the exchange is freed when it comes back.
  client = client_asked(&bench, "c", NULL);
  struct enhanced *exchange = bench_exchange(&freed);
  bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .enhanced = exchange});
  struct mqtt_packet packet = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", NULL);
  client_send(client, &packet);
  client_drop(client);
  assert_int_equal(freed, 2);
  bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .enhanced = exchange});
  assert_int_equal(freed, 3);
  assert_int_equal(bench_counters(&bench).sessions, 0);
  bench_deinit(&bench);
}

// [MQTT-3.1.2-24]
static void an_auth_must_fit(void **state)
{
  (void)state;
  for (unsigned last = 0; last < 2; last++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *client = client_open(&bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
    set_method(&packet.connect.properties, "M", NULL);
    property_set(&packet.connect.properties, MQTT_PROPERTY_MAXIMUM_PACKET_SIZE);
    packet.connect.properties.maximum_packet_size = 40;
    client_send(client, &packet);
    static const char data[] = "0123456789012345678901234567890123456789";
    enum mqtt_reason reason = last ? MQTT_SUCCESS : MQTT_CONTINUE_AUTHENTICATION;
    bench_answer(&bench, &(struct answer){.reason = reason, .user = "ann", .data = data});
    if (last)
      client_expect_closed(client);
    else
      client_expect_refused(client, MQTT_PACKET_TOO_LARGE);
    bench_deinit(&bench);
  }
}

// ---- Again

static void a_client_may_show_again_who_it_is(void **state)
{
  (void)state;
  struct bench bench;
  bench_init_authentication(&bench, 1);
  unsigned freed = 0;
  struct client *client = client_enhanced(&bench, "c", "ann", 0);
  struct mqtt_packet packet = auth_packet(MQTT_RE_AUTHENTICATE, "M", "one");
  client_send(client, &packet);
  const struct authentication *question = bench_question(&bench);
  assert_true(question->again);
  assert_span_text(question->client_id, "c");
  assert_span_text(question->user, "ann");
  assert_span_text(question->data, "one");
  assert_null(question->enhanced);
  client_publish(client, "t", "x", 1, false);  // it goes on meanwhile
  struct enhanced *exchange = bench_exchange(&freed);
  bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .data = "two", .enhanced = exchange});
  expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, "two");
  client_publish(client, "t", "x", 2, false);
  packet = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", "three");
  client_send(client, &packet);
  assert_true(bench_question(&bench)->again);
  assert_ptr_equal(bench_question(&bench)->enhanced, exchange);
  client_publish(client, "t", "x", 1, false);
  bench_answer(&bench, &(struct answer){.user = "ann", .data = "four"});
  expect_auth(client, MQTT_SUCCESS, "four");
  assert_int_equal(freed, 1);
  assert_user(client, "ann");
  assert_true(bench_logged(&bench, "client_authenticated_again"));
  // As often as it likes.
  packet = auth_packet(MQTT_RE_AUTHENTICATE, "M", NULL);
  client_send(client, &packet);
  bench_answer(&bench, &(struct answer){.user = "ann"});
  expect_auth(client, MQTT_SUCCESS, NULL);
  client_publish(client, "t", "x", 1, false);
  bench_deinit(&bench);
}

static void a_refusal_ends_the_connection(void **state)
{
  (void)state;
  static const struct {
    enum mqtt_reason reason, told;
    const char *user;
  } cases[] = {
      {MQTT_NOT_AUTHORIZED, MQTT_NOT_AUTHORIZED, NULL},
      {MQTT_BAD_USER_NAME_OR_PASSWORD, MQTT_NOT_AUTHORIZED, NULL},  // DISCONNECT has no such reason
      {MQTT_SERVER_BUSY, MQTT_SERVER_BUSY, NULL},
      {MQTT_BAD_AUTHENTICATION_METHOD, MQTT_BAD_AUTHENTICATION_METHOD, NULL},
      {MQTT_CONNECTION_RATE_EXCEEDED, MQTT_CONNECTION_RATE_EXCEEDED, NULL},
      {MQTT_SUCCESS, MQTT_NOT_AUTHORIZED, "bob"},  // somebody else
      {MQTT_SUCCESS, MQTT_NOT_AUTHORIZED, ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *client = client_enhanced(&bench, "c", "ann", 0);
    struct mqtt_packet packet = auth_packet(MQTT_RE_AUTHENTICATE, "M", NULL);
    client_send(client, &packet);
    bench_answer(&bench, &(struct answer){.reason = cases[i].reason, .user = cases[i].user});
    client_expect_disconnect(client, cases[i].told);
    assert_int_equal(bench_counters(&bench).faults[cases[i].told], 1);
    assert_int_equal(bench_counters(&bench).connects_refused, 0);
    bench_deinit(&bench);
  }
}

static void auth_out_of_turn_is_an_error(void **state)
{
  (void)state;
  static const struct {
    enum mqtt_reason first, second;  // 0: nothing
    bool go_on;                      // the first is answered
    const char *method;
  } cases[] = {
      {0, MQTT_CONTINUE_AUTHENTICATION, false, "M"},                     // there is no exchange
      {MQTT_RE_AUTHENTICATE, MQTT_RE_AUTHENTICATE, false, "M"},          // the question is out
      {MQTT_RE_AUTHENTICATE, MQTT_CONTINUE_AUTHENTICATION, false, "M"},  // the same
      {MQTT_RE_AUTHENTICATE, MQTT_RE_AUTHENTICATE, true, "M"},           // it goes on
      {0, MQTT_RE_AUTHENTICATE, false, "N"},                             // [MQTT-4.12.1-1]
      {MQTT_RE_AUTHENTICATE, MQTT_CONTINUE_AUTHENTICATION, true, "N"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *client = client_enhanced(&bench, "c", "ann", 0);
    struct mqtt_packet packet = auth_packet(cases[i].first, "M", NULL);
    if (cases[i].first) client_send(client, &packet);
    if (cases[i].go_on) {
      bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION});
      client_expect(client, MQTT_AUTH);
    }
    packet = auth_packet(cases[i].second, cases[i].method, NULL);
    client_send(client, &packet);
    client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
    if (bench.questions) bench_answer(&bench, &(struct answer){.user = "ann"});
    bench_deinit(&bench);
  }
}

// [MQTT-4.12.0-6, -7]
static void who_named_no_method_has_none(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct client *client = client_as(bench, MQTT_5_0, "c", "ann");
  struct mqtt_packet packet = auth_packet(MQTT_RE_AUTHENTICATE, "M", NULL);
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
  struct client *old = client_as(bench, MQTT_3_1_1, "o", "ann");
  client_send_bytes(old, "\xf0\6\x19\4\x15\0\1M", 8);
  client_expect_closed(old);
  // Nor has it been asked on a listener that does not ask.
  bench->authenticate = false;
  client = client_new(bench, MQTT_5_0, "d");
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
}

// What is known of it may have changed: its will is recorded as its own again.
static void who_shows_again_who_it_is_makes_its_will_anew(void **state)
{
  struct bench *bench = bench_make_journal(state, 1, NULL, true);
  bench->authenticate = true;
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  set_method(&packet.connect.properties, "M", NULL);
  packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text("gone"), .payload = span_text("x")};
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 100;
  client_send(client, &packet);
  bench_answer(bench, &(struct answer){.user = "ann"});
  client_expect(client, MQTT_CONNACK);
  for (size_t wills = 1; wills <= 3; wills++) {
    struct span body;
    struct record_will will;
    assert_int_equal(store_bench_records(bench->store, RECORD_WILL, 0, &body), wills);
    assert_true(record_get_will(body, &will));
    const struct identity *maker = identity_read(will.maker);
    assert_non_null(maker);
    assert_span_text(maker->user, "ann");
    assert_span_text(maker->listener, "listener");
    identity_unref(maker);
    packet = auth_packet(MQTT_RE_AUTHENTICATE, "M", NULL);
    client_send(client, &packet);
    bench_answer(bench, &(struct answer){.user = "ann"});
    expect_auth(client, MQTT_SUCCESS, NULL);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_exchange_goes_step_by_step),
      cmocka_unit_test(an_exchange_may_be_cut_anywhere),
      cmocka_unit_test(an_exchange_may_be_refused_at_any_step),
      cmocka_unit_test(only_auth_and_disconnect_in_an_exchange),
      cmocka_unit_test(an_exchange_may_be_left),
      cmocka_unit_test(an_auth_must_fit),
      cmocka_unit_test(a_client_may_show_again_who_it_is),
      WITH_BENCH(who_shows_again_who_it_is_makes_its_will_anew),
      cmocka_unit_test(a_refusal_ends_the_connection),
      cmocka_unit_test(auth_out_of_turn_is_an_error),
      WITH_BENCH(who_named_no_method_has_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
