// The roll of the clients that are connected: who is on it, and who goes when somebody is sent away.
#include "bench.h"

#include "core/roll.h"
#include "core/shard_internal.h"

static void become(struct client *client, const char *user)
{
  const struct identity *identity = identity_create(&(struct identity){.user = span_text(user), .method = "password"});
  assert_non_null(identity);
  assert_ok(access_open(client->connection, identity, session_id(client->connection->session)));
  identity_unref(identity);
}

static struct client *arrive(struct bench *bench, enum mqtt_version version, const char *id, const char *user)
{
  struct client *client = client_new(bench, version, id);
  if (user) become(client, user);
  return client;
}

static struct roll_choice choose(const char *id, const char *user)
{
  return (struct roll_choice){.client_id = id ? span_text(id) : (struct span){0},
                              .user = user ? span_text(user) : (struct span){0}};
}

static size_t dismiss(struct bench *bench, const char *id, const char *user)
{
  const struct roll_choice choice = choose(id, user);
  size_t count = 0;
  for (uint8_t i = 0; i < bench->shard_count; i++)
    count += roll_dismiss(bench->shards[i], &choice, MQTT_ADMINISTRATIVE_ACTION);
  bench_run(bench);
  return count;
}

struct seen {
  char names[200];
  struct roll_entry last;
  size_t most;
};

static bool see(void *context, const struct roll_entry *entry)
{
  struct seen *seen = context;
  size_t size = strlen(seen->names);
  snprintf(seen->names + size, sizeof seen->names - size, "%.*s:%.*s ", (int)entry->client_id.size,
           (const char *)entry->client_id.at, (int)entry->user.size, entry->user.size ? (const char *)entry->user.at : "");
  seen->last = *entry;
  return --seen->most > 0;
}

static struct seen call(struct bench *bench, const char *id, const char *user, size_t most)
{
  struct seen seen = {.most = most};
  const struct roll_choice choice = choose(id, user);
  roll_call(bench->shards[0], &choice, see, &seen);
  return seen;
}

static void the_roll_has_who_is_connected(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *pump = arrive(bench, MQTT_3_1_1, "pump", "ann");
  arrive(bench, MQTT_5_0, "nobody", NULL);
  struct client *away = client_lasting(bench, MQTT_5_0, "away");
  client_drop(away);
  client_open(bench, MQTT_5_0, 0);  // has not said who it is
  client_subscribe(pump, "a", 0);
  bench_advance(bench, 5000);
  assert_string_equal(call(bench, NULL, NULL, 9).names, "pump:ann nobody: ");
  assert_string_equal(call(bench, NULL, NULL, 1).names, "pump:ann ");
  assert_string_equal(call(bench, "away", NULL, 9).names, "");
  assert_string_equal(call(bench, "nobody", NULL, 9).names, "nobody: ");
  assert_string_equal(call(bench, "nobody", "ann", 9).names, "");
  struct seen seen = call(bench, NULL, "ann", 9);
  assert_string_equal(seen.names, "pump:ann ");
  assert_string_equal(seen.last.method, "password");
  assert_int_equal(seen.last.version, MQTT_3_1_1);
  assert_int_equal(seen.last.subscriptions, 1);
  assert_int_equal(seen.last.silent_ms, 5000);
  assert_ptr_equal(seen.last.transport, connection_transport(pump->connection));
  assert_string_equal(call(bench, "nobody", NULL, 9).last.method, "anonymous");
}

static void a_user_goes_from_every_shard(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  char ids[4][16];
  struct client *clients[4];
  for (unsigned i = 0; i < 4; i++) {
    bench_new_id(bench, i % 2, ids[i]);
    clients[i] = arrive(bench, i < 2 ? MQTT_5_0 : MQTT_3_1_1, ids[i], "ann");
  }
  char other_id[16];
  bench_new_id(bench, 1, other_id);
  struct client *bob = arrive(bench, MQTT_5_0, other_id, "bob");
  struct client *nobody = arrive(bench, MQTT_5_0, "nobody", NULL);
  assert_int_equal(dismiss(bench, NULL, "an"), 0);
  assert_int_equal(dismiss(bench, NULL, "ann"), 4);
  for (unsigned i = 0; i < 4; i++) client_expect_disconnect(clients[i], MQTT_ADMINISTRATIVE_ACTION);
  assert_true(bench_logged(bench, "client_dismissed"));
  assert_int_equal(dismiss(bench, NULL, "ann"), 0);
  client_publish(bob, "a", "x", 1, false);
  client_publish(nobody, "a", "x", 1, false);
}

static void one_client_goes(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *one = arrive(bench, MQTT_5_0, "one", "ann"), *two = arrive(bench, MQTT_5_0, "two", "ann");
  assert_int_equal(dismiss(bench, "one", "bob"), 0);
  assert_int_equal(dismiss(bench, "one", "ann"), 1);
  client_expect_disconnect(one, MQTT_ADMINISTRATIVE_ACTION);
  assert_int_equal(dismiss(bench, "two", NULL), 1);
  client_expect_disconnect(two, MQTT_ADMINISTRATIVE_ACTION);
}

// The session stays, and the will goes out: the client did not say goodbye.
static void what_it_leaves(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *watcher = client_subscribed(bench, MQTT_5_0, "watcher", "will", 0);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text("will"), .payload = span_text("gone")};
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 100;
  client_connect_packet(client, &packet);
  assert_int_equal(dismiss(bench, "c", NULL), 1);
  client_expect_disconnect(client, MQTT_ADMINISTRATIVE_ACTION);
  client_expect_publish(watcher, "will", "gone");
  struct client *again = client_open(bench, MQTT_5_0, 0);
  assert_true(client_connect(again, "c", false, 100)->session_present);
}

// Whoever is being asked who it is begins again: the answer may be made of a file that has it still.
static void who_is_being_asked_begins_again(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  bench->authenticate = true;
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  packet.connect.has_user_name = true;
  packet.connect.user_name = span_text("ann");
  client_send(client, &packet);
  assert_int_equal(dismiss(bench, "c", NULL), 0);
  assert_non_null(client->connection);
  assert_int_equal(dismiss(bench, NULL, "ann"), 0);
  client_expect_closed(client);
  bench_answer(bench, &(struct answer){.reason = MQTT_SUCCESS, .user = "ann"});
  assert_int_equal(bench_counters(bench).clients, 0);
}

static bool is_not_ann(void *context, const struct roll_entry *entry)
{
  (void)context;
  return !span_equal(entry->user, span_text("ann"));
}

static void who_does_not_stay_goes(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *ann = arrive(bench, MQTT_5_0, "one", "ann"), *bob = arrive(bench, MQTT_5_0, "two", "bob");
  client_open(bench, MQTT_5_0, 0);
  assert_int_equal(roll_review(bench->shards[0], is_not_ann, NULL, MQTT_NOT_AUTHORIZED), 1);
  bench_run(bench);
  client_expect_disconnect(ann, MQTT_NOT_AUTHORIZED);
  client_publish(bob, "a", "x", 1, false);
  assert_int_equal(roll_review(bench->shards[0], is_not_ann, NULL, MQTT_NOT_AUTHORIZED), 0);
}

// Its answer is there, and its CONNECT is about to be handled again: it may have to wait for other shards, or for the disk.
static void who_is_known_and_not_in_yet_goes_too(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct shard *shard = bench->shards[0];
  static const struct connection_origin origin = {.address = "x", .authenticate = true};
  static const char *const users[] = {"ann", "bob"};
  for (size_t i = 0; i < 2; i++) {
    struct mqtt_packet packet = connect_packet(MQTT_5_0, users[i]);
    packet.connect.has_user_name = true;
    packet.connect.user_name = span_text(users[i]);
    uint8_t bytes[64];
    size_t size = mqtt_encode(MQTT_5_0, &packet, bytes, sizeof bytes), taken;
    struct connection *connection = shard_open(shard, NULL, &origin);
    assert_int_equal(shard_receive(shard, connection, span_of(bytes, size), &taken), RECEIVE_PAUSED);
    struct authentication *question = shard_next_authentication(shard);
    assert_true(shard_awaits(shard, question));
    assert_int_equal(roll_review(shard, is_not_ann, NULL, MQTT_NOT_AUTHORIZED), 0);
    question->identity = identity_create(&(struct identity){.method = "password", .user = span_text(users[i])});
    shard_authenticated(shard, question);
    assert_int_equal(roll_review(shard, is_not_ann, NULL, MQTT_NOT_AUTHORIZED), i == 0);
    unsigned wants;
    assert_ptr_equal(shard_next_attention(shard, &wants), connection);
    assert_int_equal((wants & CONNECTION_CLOSE) != 0, i == 0);
    shard_closed(shard, connection);
  }
}

static void an_answer_that_nobody_awaits(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  static const struct connection_origin origin = {.address = "x", .authenticate = true};
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  uint8_t bytes[64];
  size_t size = mqtt_encode(MQTT_5_0, &packet, bytes, sizeof bytes), taken;
  struct connection *connection = shard_open(bench->shards[0], NULL, &origin);
  assert_int_equal(shard_receive(bench->shards[0], connection, span_of(bytes, size), &taken), RECEIVE_PAUSED);
  struct authentication *question = shard_next_authentication(bench->shards[0]);
  shard_closed(bench->shards[0], connection);
  assert_false(shard_awaits(bench->shards[0], question));
  question->reason = MQTT_NOT_AUTHORIZED;
  shard_authenticated(bench->shards[0], question);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_BENCH(the_roll_has_who_is_connected),
      WITH_BENCH(a_user_goes_from_every_shard),
      WITH_BENCH(one_client_goes),
      WITH_BENCH(what_it_leaves),
      WITH_BENCH(who_is_being_asked_begins_again),
      WITH_BENCH(who_does_not_stay_goes),
      WITH_BENCH(who_is_known_and_not_in_yet_goes_too),
      WITH_BENCH(an_answer_that_nobody_awaits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
