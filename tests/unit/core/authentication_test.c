// Who a client is: questions that its CONNECT and its AUTH become, and what happens with the answers.
#include "bench.h"

#include "core/access.h"
#include "core/admission.h"
#include "core/shard_internal.h"

static void init(struct bench *bench, uint8_t shard_count)
{
  bench_init(bench, shard_count, NULL);
  bench->authenticate = true;
}

static struct mqtt_packet connect_as(enum mqtt_version version, const char *id, const char *user, const char *password)
{
  struct mqtt_packet packet = connect_packet(version, id);
  packet.connect.has_user_name = user;
  if (user) packet.connect.user_name = span_text(user);
  packet.connect.has_password = password;
  if (password) packet.connect.password = span_text(password);
  return packet;
}

// A client whom `believe` lets in.
static struct client *client_as(struct bench *bench, enum mqtt_version version, const char *id, const char *user)
{
  struct client *client = client_open(bench, version, 0);
  bool believe = bench->believe;
  bench->believe = true;
  struct mqtt_packet packet = connect_as(version, id, user, "secret");
  client_connect_packet(client, &packet);
  bench->believe = believe;
  return client;
}

static void assert_user(const struct client *client, const char *user)
{
  assert_non_null(client->connection);
  const struct identity *identity = access_identity(client->connection);
  assert_non_null(identity);
  assert_span_text(identity->user, user);
}

static void set_method(struct mqtt_properties *properties, const char *method, const char *data)
{
  property_set(properties, MQTT_PROPERTY_AUTHENTICATION_METHOD);
  properties->authentication_method = span_text(method);
  if (!data) return;
  property_set(properties, MQTT_PROPERTY_AUTHENTICATION_DATA);
  properties->authentication_data = span_text(data);
}

static struct mqtt_packet auth_packet(enum mqtt_reason reason, const char *method, const char *data)
{
  struct mqtt_packet packet = {.type = MQTT_AUTH, .disconnect = {.reason = reason}};
  set_method(&packet.disconnect.properties, method, data);
  return packet;
}

static void expect_auth(struct client *client, enum mqtt_reason reason, const char *data)
{
  const struct mqtt_disconnect *auth = &client_expect(client, MQTT_AUTH)->disconnect;
  assert_int_equal(auth->reason, reason);
  assert_span_text(auth->properties.authentication_method, "M");
  assert_int_equal(MQTT_HAS(&auth->properties, AUTHENTICATION_DATA), data != NULL);
  assert_false(MQTT_HAS(&auth->properties, REASON_STRING));
  struct mqtt_user_property user;
  size_t cursor = 0;
  assert_false(mqtt_next_user_property(&auth->properties, &cursor, &user));
  if (data) assert_span_text(auth->properties.authentication_data, data);
}

static const struct answer REFUSE = {.reason = MQTT_NOT_AUTHORIZED};

// A client that names the method "M", up to its first question.
static struct client *client_asked(struct bench *bench, const char *id, const char *data)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, id);
  set_method(&packet.connect.properties, "M", data);
  client_send(client, &packet);
  return client;
}

// ... in an exchange: the next AUTH is the client's.
static struct client *client_in_exchange(struct bench *bench, const char *id)
{
  struct client *client = client_asked(bench, id, "first");
  bench_answer(bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .data = "go on"});
  expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, "go on");
  return client;
}

// ... and let in.
static struct client *client_enhanced(struct bench *bench, const char *id, const char *user, uint64_t expires_ms)
{
  struct client *client = client_asked(bench, id, NULL);
  bench_answer(bench, &(struct answer){.user = user, .expires = {expires_ms}});
  const struct mqtt_connack *connack = &client_expect(client, MQTT_CONNACK)->connack;
  assert_int_equal(connack->reason, MQTT_SUCCESS);
  assert_span_text(connack->properties.authentication_method, "M");
  return client;
}

// ---- CONNECT

static void a_connect_is_a_question(void **state)
{
  (void)state;
  static const enum mqtt_version versions[] = {MQTT_3_1, MQTT_3_1_1, MQTT_5_0};
  for (size_t i = 0; i < 3; i++) {
    struct bench bench;
    init(&bench, 1);
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
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct client *client = client_open(&bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "", NULL, NULL);
  client_send(client, &packet);
  const struct authentication *question = bench_question(&bench);
  assert_false(question->has_user);
  assert_false(question->has_password);
  assert_int_equal(question->client_id.size, 0);
  assert_int_equal(question->user.size, 0);
  bench_answer(&bench, &(struct answer){0});  // an anonymous client, by the word of who answers
  assert_true(MQTT_HAS(&client_expect(client, MQTT_CONNACK)->connack.properties, ASSIGNED_CLIENT_ID));
  assert_user(client, "");
  // Of several they are asked in order.
  struct client *clients[3];
  static const char *const ids[] = {"a", "b", "c"};
  for (size_t i = 0; i < 3; i++) {
    clients[i] = client_open(&bench, MQTT_3_1_1, 0);
    packet = connect_as(MQTT_3_1_1, ids[i], ids[i], NULL);
    client_send(clients[i], &packet);
  }
  for (size_t i = 0; i < 3; i++) {
    assert_span_text(bench_question(&bench)->client_id, ids[i]);
    bench_answer(&bench, &(struct answer){.user = ids[i]});
    client_expect(clients[i], MQTT_CONNACK);
  }
  bench_deinit(&bench);
}

static void answers_may_come_in_any_order(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct client *first = client_open(&bench, MQTT_5_0, 0), *second = client_open(&bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "first", "one", "1");
  client_send(first, &packet);
  packet = connect_as(MQTT_5_0, "second", "two", "2");
  client_send(second, &packet);
  struct authentication *held = bench.questions;
  bench.questions = held->next;
  bench_answer(&bench, &(struct answer){.user = "two"});
  client_expect(second, MQTT_CONNACK);
  client_expect_nothing(first);
  held->next = NULL;
  bench.questions = held;
  bench_answer(&bench, &(struct answer){.user = "one"});
  client_expect(first, MQTT_CONNACK);
  assert_user(first, "one");
  assert_user(second, "two");
  bench_deinit(&bench);
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
    init(&bench, 1);
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
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct client *client = client_open(&bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "c", "ann", "secret");
  packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text("$SYS/x")};
  client_send(client, &packet);
  client_expect_nothing(client);
  bench_answer(&bench, &(struct answer){.user = "ann"});
  client_expect_refused(client, MQTT_NOT_AUTHORIZED);
  bench_deinit(&bench);
}

static void wills_ask_the_list(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
  bench.believe = true;
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
  access_set_list(bench.shards[0], acl);
  acl_unref(acl);
  static const struct {
    const char *user, *topic;
    bool allowed;
  } cases[] = {{"ann", "of/ann/x", true}, {"ann", "of/bob/x", false}, {"bob", "of/bob/x", false}};
  for (size_t i = 0; i < 3; i++) {
    struct client *client = client_open(&bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_as(MQTT_5_0, cases[i].topic, cases[i].user, "secret");
    packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text(cases[i].topic)};
    client_send(client, &packet);
    if (cases[i].allowed)
      assert_int_equal(client_expect(client, MQTT_CONNACK)->connack.reason, MQTT_SUCCESS);
    else
      client_expect_refused(client, MQTT_NOT_AUTHORIZED);
  }
  access_set_list(bench.shards[0], NULL);
  bench_deinit(&bench);
}

// ---- Time, and clients that do not wait

static void the_time_of_connect_goes_on(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct client *client = client_open(&bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "c", "ann", "secret");
  client_send(client, &packet);
  uint64_t most = bench.limits.connect_timeout_ms;
  bench_advance(&bench, most - 1);
  assert_non_null(client->connection);
  bench_advance(&bench, 1);
  client_expect_closed(client);
  assert_int_equal(bench_counters(&bench).connect_timeouts, 1);
  bench_answer(&bench, &(struct answer){.user = "ann"});  // too late for anything
  assert_int_equal(bench_counters(&bench).connections, 0);
  assert_int_equal(bench_counters(&bench).sessions, 0);
  // The steps of an exchange share the same time.
  client = client_in_exchange(&bench, "c");
  bench_advance(&bench, most);
  client_expect_closed(client);
  bench_deinit(&bench);
}

static void a_client_may_go_before_the_answer(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
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
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct shard *shard = bench.shards[0];
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
  bench_deinit(&bench);
}

static void a_stop_does_not_wait_for_answers(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
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

// ---- Secrets

static bool holds(struct span bytes, const char *text)
{
  return bytes.size > 0 && memmem(bytes.at, bytes.size, text, strlen(text));
}

static void passwords_are_not_kept(void **state)
{
  (void)state;
  for (size_t chunk = 0; chunk < 40; chunk++) {
    struct bench bench;
    init(&bench, 1);
    struct client *client = client_open(&bench, chunk % 2 ? MQTT_5_0 : MQTT_3_1_1, 0);
    client->read_chunk = chunk;
    struct mqtt_packet packet = connect_as(client->version, "c", "ann", "s3cret");
    packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text("t"), .payload = span_text("gone")};
    client_queue(client, &packet);
    client_queue_bytes(client, "\xc0\0", 2);
    bench_run(&bench);
    assert_span_text(bench_question(&bench)->password, "s3cret");
    struct span kept = buffer_peek(client->connection->input);
    assert_true(holds(kept, "ann"));
    assert_false(holds(kept, "s3cret"));
    bench_answer(&bench, &(struct answer){.user = "ann"});
    client_expect(client, MQTT_CONNACK);
    client_expect(client, MQTT_PINGRESP);
    assert_span_text(message_topic(client->connection->session->will->message), "t");
    bench_deinit(&bench);
  }
}

// ... nor while an exchange goes on, with a packet length that is longer than it need be.
static void passwords_are_not_kept_in_exchanges(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct client *client = client_open(&bench, MQTT_5_0, 0);
  static const char connect[] = "\x10\x9f\0\0\4MQTT\5\xc2\0\x3c\4\x15\0\1M\0\1c\0\3ann\0\6s3cret";
  client_send_bytes(client, connect, sizeof connect - 1);
  assert_span_text(bench_question(&bench)->password, "s3cret");
  assert_span_text(bench_question(&bench)->method, "M");
  bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION});
  expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, NULL);
  const struct admission *admission = admission_of(client->connection);
  assert_int_equal(admission->connect_size, sizeof connect - 1);
  assert_true(holds(span_of(admission->connect, admission->connect_size), "ann"));
  assert_false(holds(span_of(admission->connect, admission->connect_size), "s3cret"));
  struct mqtt_packet auth = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", NULL);
  client_send(client, &auth);
  assert_span_text(bench_question(&bench)->user, "ann");
  assert_false(bench_question(&bench)->has_password);
  bench_answer(&bench, &(struct answer){.user = "ann"});
  client_expect(client, MQTT_CONNACK);
  bench_deinit(&bench);
}

static void authentications_are_copies(void **state)
{
  (void)state;
  char text[] = "abcde";
  const struct authentication parts = {.ticket = 7,
                                       .version = 5,
                                       .client_id = span_of(text, 1),
                                       .user = span_of(text + 1, 1),
                                       .password = span_of(text + 2, 1),
                                       .method = span_of(text + 3, 1),
                                       .data = span_of(text + 4, 1)};
  struct authentication *question = authentication_create(&parts);
  memset(text, 'x', sizeof text);
  assert_int_equal(question->ticket, 7);
  assert_span_text(question->client_id, "a");
  assert_span_text(question->user, "b");
  assert_span_text(question->password, "c");
  assert_span_text(question->method, "d");
  assert_span_text(question->data, "e");
  assert_int_equal(question->size, 5);
  authentication_free(question);
  question = authentication_create(&(struct authentication){.again = true});
  assert_int_equal(question->size, 0);
  assert_true(question->again);
  authentication_free(question);
  authentication_free(NULL);
  admission_free(NULL);
}

// ---- Portions, and several shards

static void input_may_be_cut_anywhere(void **state)
{
  (void)state;
  for (size_t chunk = 1; chunk < 60; chunk++) {
    struct bench bench;
    init(&bench, 1);
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

static void identities_move_with_their_connections(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 4);
  unsigned number = 0;
  for (uint8_t owner = 0; owner < 4; owner++) {
    char id[16];
    bench_id_on(&bench, owner, &number, id);
    // One that is asked once, and one after an exchange with something to tell at its end; both have to leave.
    struct client *plain = client_open(&bench, MQTT_5_0, 1);
    struct mqtt_packet packet = connect_as(MQTT_5_0, id, "ann", "secret");
    client_queue(plain, &packet);
    client_queue_bytes(plain, "\xc0\0", 2);
    bench_run(&bench);
    assert_int_equal(plain->shard, 1);  // who is not known yet goes nowhere
    uint64_t end_ms = bench.now.ms + 5000;
    bench_answer(&bench, &(struct answer){.user = "ann", .expires = {end_ms}});
    assert_int_equal(plain->shard, owner);
    assert_false(MQTT_HAS(&client_expect(plain, MQTT_CONNACK)->connack.properties, AUTHENTICATION_METHOD));
    client_expect(plain, MQTT_PINGRESP);
    assert_user(plain, "ann");
    assert_null(bench.questions);  // it is asked once

    bench_id_on(&bench, owner, &number, id);
    struct client *enhanced = client_in_exchange(&bench, id);
    packet = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", "second");
    client_send(enhanced, &packet);
    assert_int_equal(enhanced->shard, 0);
    bench_answer(&bench, &(struct answer){.user = "bob", .data = "proof", .expires = {end_ms}});
    assert_int_equal(enhanced->shard, owner);
    const struct mqtt_properties *properties = &client_expect(enhanced, MQTT_CONNACK)->connack.properties;
    assert_span_text(properties->authentication_method, "M");
    assert_span_text(properties->authentication_data, "proof");
    assert_user(enhanced, "bob");
    bench_advance(&bench, 5000);
    client_expect_disconnect(plain, MQTT_MAXIMUM_CONNECT_TIME);
    client_expect_disconnect(enhanced, MQTT_MAXIMUM_CONNECT_TIME);
  }
  assert_int_equal(bench_counters(&bench).packets_received[MQTT_CONNECT], 8);
  bench_deinit(&bench);
}

static void an_identity_may_be_lost_on_its_way(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 2);
  unsigned number = 0;
  char id[16];
  bench_id_on(&bench, 1, &number, id);
  struct mqtt_packet packet = connect_as(MQTT_5_0, id, "ann", "secret");
  uint8_t bytes[64];
  size_t size = mqtt_encode(MQTT_5_0, &packet, bytes, sizeof bytes), taken;
  static const struct connection_origin origin = {.address = "x", .authenticate = true};
  for (unsigned way = 0; way < 2; way++) {
    struct connection *connection = shard_open(bench.shards[0], NULL, &origin);
    assert_int_equal(shard_receive(bench.shards[0], connection, span_of(bytes, size), &taken), RECEIVE_PAUSED);
    struct authentication *question = shard_next_authentication(bench.shards[0]);
    question->identity = identity_create(&(struct identity){.method = "test", .user = span_text("ann")});
    shard_authenticated(bench.shards[0], question);
    unsigned wants;
    assert_ptr_equal(shard_next_attention(bench.shards[0], &wants), connection);
    assert_int_equal(wants, CONNECTION_RESUME);
    assert_int_equal(shard_receive(bench.shards[0], connection, (struct span){0}, &taken), RECEIVE_MIGRATE);
    if (way == 0) {
      shard_closed(bench.shards[0], connection);
      continue;
    }
    struct admission *admission = connection_take_admission(connection);
    assert_non_null(admission);
    assert_null(connection_take_admission(connection));
    uint8_t *input;
    shard_detach(bench.shards[0], connection, &input, &size);
    free(input);
    admission_free(admission);
  }
  bench_deinit(&bench);
}

// ---- Enhanced authentication

static void an_exchange_goes_step_by_step(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
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
    init(&bench, 1);
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
    init(&bench, 1);
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
    init(&bench, 1);
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
  init(&bench, 1);
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
    init(&bench, 1);
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
  init(&bench, 1);
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
    init(&bench, 1);
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
    init(&bench, 1);
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
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct client *client = client_as(&bench, MQTT_5_0, "c", "ann");
  struct mqtt_packet packet = auth_packet(MQTT_RE_AUTHENTICATE, "M", NULL);
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
  struct client *old = client_as(&bench, MQTT_3_1_1, "o", "ann");
  client_send_bytes(old, "\xf0\6\x19\4\x15\0\1M", 8);
  client_expect_closed(old);
  // Nor has it been asked on a listener that does not ask.
  bench.authenticate = false;
  client = client_new(&bench, MQTT_5_0, "d");
  client_send(client, &packet);
  client_expect_disconnect(client, MQTT_PROTOCOL_ERROR);
  bench_deinit(&bench);
}

// ---- The end of an identity

static void identities_expire(void **state)
{
  (void)state;
  static const enum mqtt_version versions[] = {MQTT_3_1_1, MQTT_5_0};
  for (size_t i = 0; i < 2; i++) {
    struct bench bench;
    init(&bench, 1);
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
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct client *client = client_open(&bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_as(MQTT_5_0, "c", "ann", "token");
  client_send(client, &packet);
  bench_answer(&bench, &(struct answer){.user = "ann", .expires = {1}});
  bench_advance(&bench, 1);
  client_expect(client, MQTT_CONNACK);
  client_expect_disconnect(client, MQTT_MAXIMUM_CONNECT_TIME);
  bench_deinit(&bench);
}

static void showing_it_again_gives_time(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
  struct client *client = client_enhanced(&bench, "c", "ann", bench.now.ms + 1000);
  struct mqtt_packet packet = auth_packet(MQTT_RE_AUTHENTICATE, "M", NULL);
  client_send(client, &packet);
  bench_answer(&bench, &(struct answer){.user = "ann", .expires = {bench.now.ms + 3000}});
  expect_auth(client, MQTT_SUCCESS, NULL);
  bench_advance(&bench, 2999);
  assert_non_null(client->connection);
  client_send(client, &packet);
  bench_answer(&bench, &(struct answer){.user = "ann"});  // for ever, this time
  expect_auth(client, MQTT_SUCCESS, NULL);
  bench_advance(&bench, 100 * 1000);
  assert_non_null(client->connection);
  // But asking alone does not, nor does an exchange that stays unfinished.
  client_send(client, &packet);
  bench_answer(&bench, &(struct answer){.user = "ann", .expires = {bench.now.ms + 1000}});
  expect_auth(client, MQTT_SUCCESS, NULL);
  client_send(client, &packet);
  bench_answer(&bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION});
  expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, NULL);
  bench_advance(&bench, 1000);
  client_expect_disconnect(client, MQTT_MAXIMUM_CONNECT_TIME);
  bench_deinit(&bench);
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
  (void)state;
  struct bench bench;
  init(&bench, 1);
  bench.believe = true;
  struct client *owner = client_as(&bench, MQTT_5_0, "pump", "ann");
  try_as(&bench, "pump", "bob", true, false);
  try_as(&bench, "pump", "bob", false, false);
  try_as(&bench, "pump", NULL, true, false);
  client_publish(owner, "t", "x", 1, false);  // who was there has not noticed
  struct client *again = client_as(&bench, MQTT_3_1_1, "pump", "ann");
  client_expect_disconnect(owner, MQTT_SESSION_TAKEN_OVER);
  client_disconnect(again, MQTT_SUCCESS);
  try_as(&bench, "pump", "bob", true, true);  // the session has ended, the identifier is free
  try_as(&bench, "pump", "ann", true, false);
  try_as(&bench, "pump", "bob", false, true);
  // One that outlives its connection stays its user's until it ends.
  bench_advance(&bench, 100 * 1000 + 1);
  try_as(&bench, "pump", "ann", true, true);
  assert_int_equal(bench_counters(&bench).sessions, 1);
  assert_int_equal(bench.shards[0]->owners.count, 1);
  bench_deinit(&bench);
}

static void sessions_of_nobody_become_the_next_users(void **state)
{
  (void)state;
  struct bench bench;
  init(&bench, 1);
  bench.believe = true;
  try_as(&bench, "pump", NULL, false, true);
  try_as(&bench, "pump", NULL, false, true);
  assert_int_equal(bench.shards[0]->owners.count, 0);
  try_as(&bench, "pump", "ann", false, true);
  try_as(&bench, "pump", NULL, false, false);
  try_as(&bench, "pump", "bob", false, false);
  try_as(&bench, "pump", "ann", true, true);
  // A listener that asks nobody lets nobody have them.
  bench.authenticate = false;
  try_as(&bench, "pump", "ann", true, false);
  bench_deinit(&bench);
}

// With a journal the two sessions of one identifier may be on different shards.
static void sessions_are_their_users_on_all_shards(void **state)
{
  (void)state;
  struct bench bench;
  bench_init_journal(&bench, 3, NULL, true);
  bench.authenticate = bench.believe = true;
  unsigned number = 0;
  for (uint8_t shard = 0; shard < 3; shard++) {
    char id[16];
    bench_id_on(&bench, shard, &number, id);
    struct client *owner = client_as(&bench, MQTT_5_0, id, "ann");
    assert_int_equal(owner->shard, shard);
    try_as(&bench, id, "bob", true, false);  // would be durable, on shard 0
    try_as(&bench, id, NULL, false, false);
    client_publish(owner, "t", "x", 1, false);
    try_as(&bench, id, "ann", false, true);
    client_expect_disconnect(owner, MQTT_SESSION_TAKEN_OVER);
    // The durable session is now the one that others do not get.
    struct client *other = client_open(&bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_as(MQTT_5_0, id, "bob", "secret");
    client_send(other, &packet);
    client_expect_refused(other, MQTT_NOT_AUTHORIZED);
  }
  bench_deinit(&bench);
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
      cmocka_unit_test(a_connect_is_a_question),
      cmocka_unit_test(what_a_client_does_not_show_is_not_asked),
      cmocka_unit_test(answers_may_come_in_any_order),
      cmocka_unit_test(refusals_are_told),
      cmocka_unit_test(other_checks_come_after_the_answer),
      cmocka_unit_test(wills_ask_the_list),
      cmocka_unit_test(the_time_of_connect_goes_on),
      cmocka_unit_test(a_client_may_go_before_the_answer),
      cmocka_unit_test(a_question_that_nobody_has_taken_goes_with_its_client),
      cmocka_unit_test(a_stop_does_not_wait_for_answers),
      cmocka_unit_test(passwords_are_not_kept),
      cmocka_unit_test(passwords_are_not_kept_in_exchanges),
      cmocka_unit_test(authentications_are_copies),
      cmocka_unit_test(input_may_be_cut_anywhere),
      cmocka_unit_test(identities_move_with_their_connections),
      cmocka_unit_test(an_identity_may_be_lost_on_its_way),
      cmocka_unit_test(an_exchange_goes_step_by_step),
      cmocka_unit_test(an_exchange_may_be_cut_anywhere),
      cmocka_unit_test(an_exchange_may_be_refused_at_any_step),
      cmocka_unit_test(only_auth_and_disconnect_in_an_exchange),
      cmocka_unit_test(an_exchange_may_be_left),
      cmocka_unit_test(an_auth_must_fit),
      cmocka_unit_test(a_client_may_show_again_who_it_is),
      cmocka_unit_test(a_refusal_ends_the_connection),
      cmocka_unit_test(auth_out_of_turn_is_an_error),
      cmocka_unit_test(who_named_no_method_has_none),
      cmocka_unit_test(identities_expire),
      cmocka_unit_test(an_identity_may_have_expired_when_it_arrives),
      cmocka_unit_test(showing_it_again_gives_time),
      cmocka_unit_test(sessions_are_their_users),
      cmocka_unit_test(sessions_of_nobody_become_the_next_users),
      cmocka_unit_test(sessions_are_their_users_on_all_shards),
      cmocka_unit_test(sessions_are_their_users_after_a_crash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
