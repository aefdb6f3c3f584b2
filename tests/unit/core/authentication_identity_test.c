// What becomes of an identity: it moves with its connection, it expires, and sessions are its own.
#include "bench_authentication.h"

// ---- Several shards

static void identities_move_with_their_connections(void **state)
{
  struct bench *bench = bench_make_authentication(state, 4);
  for (uint8_t owner = 0; owner < 4; owner++) {
    char id[16];
    bench_new_id(bench, owner, id);
    // One that is asked once, and one after an exchange with something to tell at its end; both have to leave.
    struct client *plain = client_open(bench, MQTT_5_0, 1);
    struct mqtt_packet packet = connect_as(MQTT_5_0, id, "ann", "secret");
    client_queue(plain, &packet);
    client_queue_bytes(plain, "\xc0\0", 2);
    bench_run(bench);
    assert_int_equal(plain->shard, 1);  // who is not known yet goes nowhere
    uint64_t end_ms = bench->now.ms + 5000;
    bench_answer(bench, &(struct answer){.user = "ann", .expires = {end_ms}});
    assert_int_equal(plain->shard, owner);
    assert_false(MQTT_HAS(&client_expect(plain, MQTT_CONNACK)->connack.properties, AUTHENTICATION_METHOD));
    client_expect(plain, MQTT_PINGRESP);
    assert_user(plain, "ann");
    assert_null(bench->questions);  // it is asked once

    bench_new_id(bench, owner, id);
    struct client *enhanced = client_in_exchange(bench, id);
    packet = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", "second");
    client_send(enhanced, &packet);
    assert_int_equal(enhanced->shard, 0);
    bench_answer(bench, &(struct answer){.user = "bob", .data = "proof", .expires = {end_ms}});
    assert_int_equal(enhanced->shard, owner);
    const struct mqtt_properties *properties = &client_expect(enhanced, MQTT_CONNACK)->connack.properties;
    assert_span_text(properties->authentication_method, "M");
    assert_span_text(properties->authentication_data, "proof");
    assert_user(enhanced, "bob");
    bench_advance(bench, 5000);
    client_expect_disconnect(plain, MQTT_MAXIMUM_CONNECT_TIME);
    client_expect_disconnect(enhanced, MQTT_MAXIMUM_CONNECT_TIME);
  }
  assert_int_equal(bench_counters(bench).packets_received[MQTT_CONNECT], 8);
}

static void an_identity_may_be_lost_on_its_way(void **state)
{
  struct bench *bench = bench_make_authentication(state, 2);
  char id[16];
  bench_new_id(bench, 1, id);
  struct mqtt_packet packet = connect_as(MQTT_5_0, id, "ann", "secret");
  uint8_t bytes[64];
  size_t size = mqtt_encode(MQTT_5_0, &packet, bytes, sizeof bytes), taken;
  static const struct connection_origin origin = {.address = "x", .authenticate = true};
  for (unsigned way = 0; way < 2; way++) {
    struct connection *connection = shard_open(bench->shards[0], NULL, &origin);
    assert_int_equal(shard_receive(bench->shards[0], connection, span_of(bytes, size), &taken), RECEIVE_PAUSED);
    struct authentication *question = shard_next_authentication(bench->shards[0]);
    question->identity = identity_create(&(struct identity){.method = "test", .user = span_text("ann")});
    shard_authenticated(bench->shards[0], question);
    unsigned wants;
    assert_ptr_equal(shard_next_attention(bench->shards[0], &wants), connection);
    assert_int_equal(wants, CONNECTION_RESUME);
    assert_int_equal(shard_receive(bench->shards[0], connection, (struct span){0}, &taken), RECEIVE_MIGRATE);
    if (way == 0) {
      shard_closed(bench->shards[0], connection);
      continue;
    }
    struct admission *admission = connection_take_admission(connection);
    assert_non_null(admission);
    assert_null(connection_take_admission(connection));
    uint8_t *input;
    shard_detach(bench->shards[0], connection, &input, &size);
    free(input);
    admission_free(admission);
  }
}

// ---- The end of an identity

static void identities_expire(void **state)
{
  (void)state;
  static const enum mqtt_version versions[] = {MQTT_3_1_1, MQTT_5_0};
  for (size_t i = 0; i < 2; i++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *watcher = client_as(&bench, MQTT_5_0, "w", "bob");
    client_subscribe(watcher, "will", 0);
    struct client *client = client_open(&bench, versions[i], 0);
    struct mqtt_packet packet = connect_as(versions[i], "c", "ann", "token");
    packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text("will"), .payload = span_text("gone")};
    client_send(client, &packet);
    bench_answer(&bench, &(struct answer){.user = "ann", .expires = {bench.now.ms + 60000}});
    client_expect(client, MQTT_CONNACK);
    bench_advance(&bench, 59999);
    client_expect_nothing(client);
    assert_non_null(client->connection);
    bench_advance(&bench, 1);
    client_expect_disconnect(client, MQTT_MAXIMUM_CONNECT_TIME);
    client_expect_publish(watcher, "will", "gone");
    assert_int_equal(bench_counters(&bench).faults[MQTT_MAXIMUM_CONNECT_TIME], 1);
    assert_true(bench_logged(&bench, "authentication_expired"));
    bench_deinit(&bench);
  }
}

static void an_identity_may_have_expired_when_it_arrives(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "c", "ann", "token");
  client_send(client, &packet);
  bench_answer(bench, &(struct answer){.user = "ann", .expires = {1}});
  bench_advance(bench, 1);
  client_expect(client, MQTT_CONNACK);
  client_expect_disconnect(client, MQTT_MAXIMUM_CONNECT_TIME);
}

static void showing_it_again_gives_time(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct client *client = client_enhanced(bench, "c", "ann", bench->now.ms + 1000);
  struct mqtt_packet packet = auth_packet(MQTT_RE_AUTHENTICATE, "M", NULL);
  client_send(client, &packet);
  bench_answer(bench, &(struct answer){.user = "ann", .expires = {bench->now.ms + 3000}});
  expect_auth(client, MQTT_SUCCESS, NULL);
  bench_advance(bench, 2999);
  assert_non_null(client->connection);
  client_send(client, &packet);
  bench_answer(bench, &(struct answer){.user = "ann"});  // for ever, this time
  expect_auth(client, MQTT_SUCCESS, NULL);
  bench_advance(bench, 100 * 1000);
  assert_non_null(client->connection);
  // But asking alone does not, nor does an exchange that stays unfinished.
  client_send(client, &packet);
  bench_answer(bench, &(struct answer){.user = "ann", .expires = {bench->now.ms + 1000}});
  expect_auth(client, MQTT_SUCCESS, NULL);
  client_send(client, &packet);
  bench_answer(bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION});
  expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, NULL);
  bench_advance(bench, 1000);
  client_expect_disconnect(client, MQTT_MAXIMUM_CONNECT_TIME);
}

// ---- Whose sessions are

static void try_as(struct bench *bench, const char *id, const char *user, bool clean, bool allowed)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, id, user, "secret");
  packet.connect.clean_start = clean;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 100;
  client_send(client, &packet);
  if (!allowed) {
    client_expect_refused(client, MQTT_NOT_AUTHORIZED);
    return;
  }
  assert_int_equal(client_expect(client, MQTT_CONNACK)->connack.reason, MQTT_SUCCESS);
  client_disconnect(client, MQTT_SUCCESS);
}

static void sessions_are_their_users(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  bench->believe = true;
  struct client *owner = client_as(bench, MQTT_5_0, "pump", "ann");
  try_as(bench, "pump", "bob", true, false);
  try_as(bench, "pump", "bob", false, false);
  try_as(bench, "pump", NULL, true, false);
  client_publish(owner, "t", "x", 1, false);  // who was there has not noticed
  struct client *again = client_as(bench, MQTT_3_1_1, "pump", "ann");
  client_expect_disconnect(owner, MQTT_SESSION_TAKEN_OVER);
  client_disconnect(again, MQTT_SUCCESS);
  try_as(bench, "pump", "bob", true, true);  // the session has ended, the identifier is free
  try_as(bench, "pump", "ann", true, false);
  try_as(bench, "pump", "bob", false, true);
  // One that outlives its connection stays its user's until it ends.
  bench_advance(bench, 100 * 1000 + 1);
  try_as(bench, "pump", "ann", true, true);
  assert_int_equal(bench_counters(bench).sessions, 1);
  assert_int_equal(bench->shards[0]->owners.count, 1);
}

static void sessions_of_nobody_become_the_next_users(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  bench->believe = true;
  try_as(bench, "pump", NULL, false, true);
  try_as(bench, "pump", NULL, false, true);
  assert_int_equal(bench->shards[0]->owners.count, 0);
  try_as(bench, "pump", "ann", false, true);
  try_as(bench, "pump", NULL, false, false);
  try_as(bench, "pump", "bob", false, false);
  try_as(bench, "pump", "ann", true, true);
  // A listener that asks nobody lets nobody have them.
  bench->authenticate = false;
  try_as(bench, "pump", "ann", true, false);
}

// With a journal the two sessions of one identifier may be on different shards.
static void sessions_are_their_users_on_all_shards(void **state)
{
  struct bench *bench = bench_make_journal(state, 3, NULL, true);
  bench->authenticate = bench->believe = true;
  for (uint8_t shard = 0; shard < 3; shard++) {
    char id[16];
    bench_new_id(bench, shard, id);
    struct client *owner = client_as(bench, MQTT_5_0, id, "ann");
    assert_int_equal(owner->shard, shard);
    try_as(bench, id, "bob", true, false);  // would be durable, on shard 0
    try_as(bench, id, NULL, false, false);
    client_publish(owner, "t", "x", 1, false);
    try_as(bench, id, "ann", false, true);
    client_expect_disconnect(owner, MQTT_SESSION_TAKEN_OVER);
    // The durable session is now the one that others do not get.
    struct client *other = client_open(bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_as(MQTT_5_0, id, "bob", "secret");
    client_send(other, &packet);
    client_expect_refused(other, MQTT_NOT_AUTHORIZED);
  }
}

static void sessions_are_their_users_after_a_crash(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 3; shards++) {
    struct bench bench;
    bench_init_journal(&bench, shards, NULL, true);
    bench.authenticate = bench.believe = true;
    try_as(&bench, "pump", "ann", true, true);
    try_as(&bench, "meter", NULL, true, true);  // nobody's
    for (unsigned i = 0; i < 2; i++) {
      bench_crash(&bench, 1000);
      assert_int_equal(bench.shards[0]->owners.count, 1 + i);
      try_as(&bench, "pump", "bob", true, false);
      try_as(&bench, "pump", "bob", false, false);
      try_as(&bench, "pump", NULL, false, false);
      try_as(&bench, "meter", i ? NULL : "bob", true, i == 0);  // which becomes his, for all times
      try_as(&bench, "meter", "ann", true, false);
    }
    // Only while they are there.
    struct client *owner = client_open(&bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_as(MQTT_5_0, "pump", "ann", "secret");
    packet.connect.clean_start = false;
    assert_true(client_connect_packet(owner, &packet)->session_present);
    client_disconnect(owner, MQTT_SUCCESS);
    bench_crash(&bench, 1000);
    try_as(&bench, "pump", "bob", true, true);
    bench_advance(&bench, 200 * 1000);
    bench_crash(&bench, 1000);
    assert_int_equal(bench.shards[0]->owners.count, 0);
    try_as(&bench, "pump", "ann", true, true);
    bench_deinit(&bench);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_BENCH(identities_move_with_their_connections),
      WITH_BENCH(an_identity_may_be_lost_on_its_way),
      cmocka_unit_test(identities_expire),
      WITH_BENCH(an_identity_may_have_expired_when_it_arrives),
      WITH_BENCH(showing_it_again_gives_time),
      WITH_BENCH(sessions_are_their_users),
      WITH_BENCH(sessions_of_nobody_become_the_next_users),
      WITH_BENCH(sessions_are_their_users_on_all_shards),
      cmocka_unit_test(sessions_are_their_users_after_a_crash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
