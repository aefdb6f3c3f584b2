// What connections may do: publishing, subscribing, receiving, wills, with lists that change.
#include "bench.h"

#include "core/shard_internal.h"

enum { PUB = ACL_PUBLISH, SUB = ACL_SUBSCRIBE, REC = ACL_RECEIVE, ALL = PUB | SUB | REC };

struct row {
  const char *user;  // NULL: anybody
  bool allow;
  uint8_t verbs;
  const char *topic;
  uint8_t qos_less;  // than 2
};

static struct acl *list_of(const struct row *rows, size_t count)
{
  struct acl *acl;
  assert_ok(acl_create(&acl));
  for (size_t i = 0; i < count; i++) {
    const struct span topic = span_text(rows[i].topic);
    const struct acl_rule rule = {.subject = rows[i].user ? ACL_USER : ACL_ANYBODY,
                                  .who = span_text(rows[i].user ? rows[i].user : ""),
                                  .verbs = rows[i].verbs,
                                  .allow = rows[i].allow,
                                  .qos_max = (uint8_t)(2 - rows[i].qos_less),
                                  .topics = &topic,
                                  .topic_count = 1,
                                  .file = "acl.yaml",
                                  .line = (uint32_t)i + 1};
    struct error error;
    assert_ok(acl_add(acl, &rule, &error));
  }
  return acl;
}

static void set_list(struct bench *bench, struct acl *acl)
{
  for (uint8_t i = 0; i < bench->shard_count; i++) access_set_list(bench->shards[i], acl);
  acl_unref(acl);
}

#define SET(bench, ...)                                                                                                     \
  set_list((bench),                                                                                                         \
           list_of((const struct row[]){__VA_ARGS__}, sizeof((const struct row[]){__VA_ARGS__}) / sizeof(struct row)))
#define ALLOW(verbs_, topic_)                                                                                               \
  {                                                                                                                         \
    .allow = true, .verbs = (verbs_), .topic = (topic_)                                                                     \
  }
#define DENY(verbs_, topic_)                                                                                                \
  {                                                                                                                         \
    .allow = false, .verbs = (verbs_), .topic = (topic_)                                                                    \
  }

// From now on the client is this one.
static void become_whole(struct client *client, const struct identity *parts)
{
  const struct identity *identity = identity_create(parts);
  assert_non_null(identity);
  assert_ok(access_open(client->connection, identity, session_id(client->connection->session)));
  assert_ptr_equal(access_identity(client->connection), identity);
  identity_unref(identity);
}

// ... this user.
static void become(struct client *client, const char *user)
{
  become_whole(client, &(struct identity){.user = span_text(user), .method = "password"});
}

// ---- Publishing

static void without_a_list_everything_goes(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  assert_null(client->connection->access);  // it costs nothing
  assert_null(access_identity(client->connection));
  client_subscribe(client, "#", 2);
  client_publish(client, "a", "x", 1, false);
  client_take(client, "a", "x", 1);
  assert_null(client->connection->access);
}

static void denied_publishes_are_told(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *watching = client_subscribed(bench, MQTT_5_0, "w", "#", 2);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  SET(bench, DENY(PUB, "no/#"), ALLOW(ALL, "#"));
  client_send_publish(client, "no/0", "x", 0, false);
  client_expect_ack(client, MQTT_PUBACK, client_send_publish(client, "no/1", "x", 1, false), MQTT_NOT_AUTHORIZED);
  client_expect_ack(client, MQTT_PUBREC, client_send_publish(client, "no/2", "x", 2, false), MQTT_NOT_AUTHORIZED);
  client_expect_nothing(client);
  client_publish(client, "yes", "x", 1, false);
  client_take(watching, "yes", "x", 1);
  client_expect_nothing(watching);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.publish_refused[REFUSE_NOT_AUTHORIZED], 3);
  assert_int_equal(counters.access_denied[0], 3);
  assert_int_equal(counters.faults[MQTT_NOT_AUTHORIZED], 2);
  assert_true(bench_logged(bench, "access_denied"));
}

static void quality_and_retain_count(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  SET(bench, {.allow = true, .verbs = PUB, .topic = "#", .qos_less = 1});
  client_expect_ack(client, MQTT_PUBREC, client_send_publish(client, "a", "x", 2, false), MQTT_NOT_AUTHORIZED);
  client_expect_ack(client, MQTT_PUBACK, client_send_publish(client, "a", "x", 1, false), MQTT_NO_MATCHING_SUBSCRIBERS);
}

static void older_clients_are_answered_or_closed(void **state)
{
  (void)state;
  for (int closes = 0; closes < 2; closes++) {
    struct limits limits = limits_default();
    limits.denied_disconnects = closes;
    struct bench bench;
    bench_init(&bench, 1, &limits);
    struct client *watching = client_subscribed(&bench, MQTT_5_0, "w", "#", 2);
    SET(&bench, DENY(PUB, "no/#"), ALLOW(ALL, "#"));
    for (uint8_t qos = 0; qos < 3; qos++) {
      struct client *client = client_new(&bench, qos == 1 ? MQTT_3_1 : MQTT_3_1_1, "c");
      uint16_t id = client_send_publish(client, "no/x", "x", qos, false);
      if (closes) {
        client_expect_closed(client);
        continue;
      }
      if (qos == 1) client_expect_ack(client, MQTT_PUBACK, id, MQTT_SUCCESS);
      if (qos == 2) {
        client_expect_ack(client, MQTT_PUBREC, id, MQTT_SUCCESS);
        client_ack(client, MQTT_PUBREL, id, MQTT_SUCCESS);
        client_expect_ack(client, MQTT_PUBCOMP, id, MQTT_SUCCESS);
      }
      client_expect_nothing(client);
      client_disconnect(client, MQTT_SUCCESS);
    }
    client_expect_nothing(watching);
    assert_int_equal(bench_counters(&bench).publish_refused[REFUSE_NOT_AUTHORIZED], 3);
    bench_deinit(&bench);
  }
}

// ---- Subscribing

static void subscriptions_are_judged_one_by_one(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 2; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    struct client *client = client_new(&bench, MQTT_5_0, "c");
    SET(&bench, {.allow = true, .verbs = SUB, .topic = "low/#", .qos_less = 2}, ALLOW(SUB, "a/#"), DENY(SUB, "secret/#"),
        ALLOW(SUB, "+/b"));
    static const struct sub subs[] = {{.filter = "a/+", .qos = 2},        {.filter = "b", .qos = 1},
                                      {.filter = "low/x", .qos = 2},      {.filter = "$share/g/a/x", .qos = 1},
                                      {.filter = "$share/g/b", .qos = 1}, {.filter = "$share/g/low/y", .qos = 1},
                                      {.filter = "+/b", .qos = 0},        {.filter = "x/b", .qos = 1},
                                      {.filter = "$SYS/#", .qos = 0},     {.filter = "#", .qos = 0},
                                      {.filter = "a/#/b", .qos = 0}};
    static const uint8_t codes[] = {2, 0x87, 0, 1, 0x87, 0, 0x87, 1, 0x87, 0x87, 0x8f};
    client_queue_subscribe(client, subs, sizeof subs / sizeof subs[0]);
    bench_run(&bench);
    client_expect_codes(client, subs, codes, sizeof codes);
    struct client *old = client_new(&bench, MQTT_3_1_1, "o");
    client_subscribe_with(old, &(struct sub){.filter = "b"}, MQTT_UNSPECIFIED_ERROR);
    assert_int_equal(bench_counters(&bench).access_denied[1], 6);
    bench_deinit(&bench);
  }
}

static void the_granted_quality_is_what_comes(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  client_publish(publisher, "t", "kept", 2, true);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  SET(bench, {.allow = true, .verbs = SUB, .topic = "t", .qos_less = 1}, ALLOW(REC | PUB, "#"));
  client_subscribe_with(client, &(struct sub){.filter = "t", .qos = 2}, MQTT_GRANTED_QOS_1);
  client_take(client, "t", "kept", 1);
  client_publish(publisher, "t", "live", 2, false);
  client_take(client, "t", "live", 1);
}

// ---- Receiving

static void what_may_not_be_received_is_dropped(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  client_publish(publisher, "secret/kept", "x", 1, true);
  client_publish(publisher, "open/kept", "y", 1, true);
  SET(bench, ALLOW(PUB | SUB, "#"), DENY(REC, "secret/#"), ALLOW(REC, "#"));
  struct client *client = client_subscribed(bench, MQTT_5_0, "c", "#", 2);
  client_take(client, "open/kept", "y", 1);
  client_expect_nothing(client);
  for (uint8_t qos = 0; qos < 3; qos++) {
    client_publish(publisher, "secret/x", "x", qos, false);
    client_publish(publisher, "open/x", "y", qos, false);
    client_take(client, "open/x", "y", qos);
    client_expect_nothing(client);
  }
  client_subscribe(client, "$share/g/+/shared", 1);
  client_unsubscribe(client, "#");
  client_publish(publisher, "secret/shared", "x", 1, false);
  client_publish(publisher, "open/shared", "y", 1, false);
  client_take(client, "open/shared", "y", 1);
  client_expect_nothing(client);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.dropped[DROP_NOT_AUTHORIZED], 5);
  assert_int_equal(counters.access_denied[2], 5);
  assert_int_equal(counters.copies_queued, 0);
  assert_int_equal(counters.copies_in_flight, 0);
}

static void what_was_queued_before_is_asked_about_when_it_goes(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  struct client *client = client_durable(bench, "c", "#", 2);
  client_publish(publisher, "secret", "in flight", 1, false);  // sent, never acknowledged
  client_expect_publish(client, "secret", "in flight");
  client_publish(publisher, "open", "in flight", 1, false);
  client_expect_publish(client, "open", "in flight");
  client_drop(client);
  client_publish(publisher, "secret", "queued", 1, false);
  client_publish(publisher, "open", "queued", 1, false);
  SET(bench, DENY(ALL, "secret"), ALLOW(ALL, "#"));
  client = client_lasting(bench, MQTT_5_0, "c");
  client_take(client, "open", "in flight", 1);
  client_take(client, "open", "queued", 1);
  client_expect_nothing(client);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.dropped[DROP_NOT_AUTHORIZED], 2);
  assert_int_equal(counters.copies_in_flight, 0);
}

static void a_group_passes_over_members_that_may_not_have_it(void **state)
{
  (void)state;
  for (enum share_strategy strategy = SHARE_ROUND_ROBIN; strategy <= SHARE_STICKY; strategy++) {
    struct limits limits = limits_default();
    limits.share_strategy = strategy;
    struct bench bench;
    bench_init(&bench, 1, &limits);
    struct client *publisher = client_new(&bench, MQTT_5_0, "p"), *ann = client_new(&bench, MQTT_5_0, "a"),
                  *bob = client_new(&bench, MQTT_5_0, "b");
    become(ann, "ann");
    become(bob, "bob");
    client_subscribe(ann, "$share/g/#", 1);
    client_subscribe(bob, "$share/g/#", 1);
    SET(&bench, ALLOW(PUB, "#"), {.user = "ann", .allow = true, .verbs = REC, .topic = "#"},
        {.user = "bob", .allow = true, .verbs = REC, .topic = "bob/#"});
    for (unsigned i = 0; i < 9; i++) {
      client_publish(publisher, "ann", "x", (uint8_t)(i % 2), false);
      client_take(ann, "ann", "x", i % 2);
    }
    SET(&bench, ALLOW(PUB, "#"), {.user = "bob", .allow = true, .verbs = REC, .topic = "bob/#"});
    client_publish(publisher, "bob/1", "x", 1, false);
    client_take(bob, "bob/1", "x", 1);
    assert_int_equal(bench_counters(&bench).dropped[DROP_NOT_AUTHORIZED], 0);
    assert_int_equal(bench_counters(&bench).access_denied[2], 0);
    client_publish(publisher, "nobody", "x", 1, false);
    assert_int_equal(bench_counters(&bench).dropped[DROP_NOT_AUTHORIZED], 1);
    client_expect_nothing(ann);
    client_expect_nothing(bob);
    bench_deinit(&bench);
  }
}

static size_t refused_places(const struct bench *bench)
{
  size_t count = 0;
  for (size_t s = 0; s < bench->store->session_count; s++) {
    const struct stored_session *session = &bench->store->sessions[s];
    for (size_t i = 0; i < session->tail; i++)
      count += session->places[i].state == STORED_DONE && session->places[i].outcome == OUTCOME_REFUSED;
  }
  return count;
}

static void durable_queues_go_on_behind_it(void **state)
{
  (void)state;
  for (int waits = 0; waits < 2; waits++) {
    struct bench bench;
    bench_init_journal(&bench, 1, NULL, waits);
    struct client *publisher = client_new(&bench, MQTT_5_0, "p");
    client_publish(publisher, "secret/kept", "x", 1, true);
    client_publish(publisher, "open/kept", "y", 1, true);
    struct client *client = client_lasting(&bench, MQTT_5_0, "c");
    SET(&bench, DENY(REC, "secret/#"), ALLOW(ALL, "#"));
    client_subscribe(client, "#", 2);
    client_take(client, "open/kept", "y", 1);
    client_expect_nothing(client);
    assert_int_equal(bench.store->sessions[0].tail, 1);  // what it may not have is not even queued for it
    client_drop(client);
    for (unsigned i = 0; i < 50; i++) client_publish(publisher, i % 2 ? "open/x" : "secret/x", "z", 1, false);
    client = client_lasting(&bench, MQTT_5_0, "c");
    for (unsigned i = 1; i < 50; i += 2) client_take(client, "open/x", "z", 1);
    client_expect_nothing(client);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.dropped[DROP_NOT_AUTHORIZED], 25);
    assert_int_equal(counters.copies_queued, 0);
    assert_int_equal(refused_places(&bench), 25);
    bench_deinit(&bench);
  }
}

// ---- Lists that change

static void a_new_list_holds_from_now_on(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  become(client, "ann");
  struct client *other = client_new(bench, MQTT_5_0, "o");
  client_subscribe(client, "a", 1);
  client_subscribe(other, "a", 1);
  SET(bench, ALLOW(PUB, "#"), {.user = "ann", .allow = true, .verbs = ALL, .topic = "#"});
  client_publish(client, "a", "one", 1, false);
  client_take(client, "a", "one", 1);
  client_expect_nothing(other);
  SET(bench, ALLOW(REC, "#"));
  client_expect_ack(client, MQTT_PUBACK, client_send_publish(client, "a", "x", 1, false), MQTT_NOT_AUTHORIZED);
  SET(bench, ALLOW(PUB, "#"), {.user = "bob", .allow = true, .verbs = ALL, .topic = "#"});
  become(other, "bob");
  client_publish(client, "a", "two", 1, false);
  client_take(other, "a", "two", 1);
  client_expect_nothing(client);  // its subscription stays, and brings nothing
  set_list(bench, NULL);
  client_publish(client, "a", "three", 1, false);
  client_take(client, "a", "three", 1);
  client_take(other, "a", "three", 1);
  assert_ok(access_open(client->connection, NULL, span_text("c")));
  assert_null(client->connection->access);
}

static void the_list_before_is_not_kept(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  SET(bench, ALLOW(ALL, "#"));
  client_publish(client, "a", "x", 1, false);
  int64_t before = bench->budget.used_bytes;
  SET(bench, ALLOW(ALL, "#"));
  client_publish(client, "a", "x", 1, false);
  assert_int_equal(bench->budget.used_bytes, before);
  assert_non_null(client->connection->access);
}

static void the_brokers_topics_need_a_rule(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_subscribed(bench, MQTT_5_0, "c", "$SYS/#", 0);
  shard_publish(bench->shards[0], span_text("$SYS/a"), span_text("1"), 0, true);
  bench_run(bench);
  client_take(client, "$SYS/a", "1", 0);
  SET(bench, ALLOW(ALL, "#"));
  shard_publish(bench->shards[0], span_text("$SYS/a"), span_text("2"), 0, true);
  bench_run(bench);
  client_expect_nothing(client);
  client_subscribe_with(client, &(struct sub){.filter = "$SYS/a"}, MQTT_NOT_AUTHORIZED);
  SET(bench, ALLOW(ALL, "#"), ALLOW(ALL, "$SYS/#"));
  client_subscribe(client, "$SYS/a", 0);
  client_take(client, "$SYS/a", "2", 0);
  client_send_publish(client, "$SYS/a", "x", 1, false);  // whatever a rule says
  client_expect_ack(client, MQTT_PUBACK, (uint16_t)(client->next_id - 1), MQTT_NOT_AUTHORIZED);
}

static void a_trial_denies_nothing(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  const struct row all[] = {ALLOW(ALL, "#")}, trial[] = {ALLOW(SUB, "#"), DENY(PUB, "b")};
  struct acl *acl = list_of(all, 1);
  acl_set_shadow(acl, list_of(trial, 2));
  set_list(bench, acl);
  client_subscribe(client, "a", 0);
  client_publish(client, "a", "x", 0, false);
  client_take(client, "a", "x", 0);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.trial_denied[0], 1);
  assert_int_equal(counters.trial_denied[1], 0);
  assert_int_equal(counters.trial_denied[2], 1);
  assert_int_equal(counters.access_denied[0] + counters.access_denied[1] + counters.access_denied[2], 0);
  assert_true(bench_logged(bench, "access_trial_denied"));
  assert_false(bench_logged(bench, "access_denied"));
}

// ---- Wills

static struct client *with_will(struct bench *bench, const char *id, const char *topic, uint32_t delay_s)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, id);
  packet.connect.will =
      (struct mqtt_will){.present = true, .qos = 1, .topic = span_text(topic), .payload = span_text("gone")};
  property_set(&packet.connect.will.properties, MQTT_PROPERTY_WILL_DELAY);
  packet.connect.will.properties.will_delay_s = delay_s;
  property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
  packet.connect.properties.session_expiry_s = 1000;
  client_connect_packet(client, &packet);
  return client;
}

static void wills_are_asked_about_when_they_are_sent(void **state)
{
  (void)state;
  for (uint32_t delay_s = 0; delay_s <= 10; delay_s += 10) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *watching = client_subscribed(&bench, MQTT_5_0, "w", "#", 0);
    struct client *ann = with_will(&bench, "a", "will/ann", delay_s), *bob = with_will(&bench, "b", "will/bob", delay_s),
                  *none = with_will(&bench, "n", "will/none", delay_s);
    become(ann, "ann");
    become(bob, "bob");
    SET(&bench, {.user = "ann", .allow = true, .verbs = PUB, .topic = "will/ann"}, ALLOW(REC, "#"));
    client_drop(ann);
    client_drop(bob);
    client_drop(none);
    bench_advance(&bench, delay_s * 1000);
    client_take(watching, "will/ann", "gone", 0);
    client_expect_nothing(watching);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.wills_sent, 1);
    assert_int_equal(counters.access_denied[0], 2);
    bench_deinit(&bench);
  }
}

static void put_rule(struct bench *bench, const struct acl_rule *rule)
{
  struct acl *acl;
  const struct span topics[] = {span_text("#")};
  const struct acl_rule others = {
      .subject = ACL_ANYBODY, .verbs = SUB | REC, .allow = true, .qos_max = 2, .topics = topics, .topic_count = 1};
  struct error error;
  assert_ok(acl_create(&acl));
  assert_ok(acl_add(acl, rule, &error));
  assert_ok(acl_add(acl, &others, &error));
  set_list(bench, acl);
}

// Whatever a rule may know a client by is known of a will that is restored: by how the client has left it, and which rule is
// there when it is sent.
static void a_will_that_outlives_the_process_is_asked_about(void **state)
{
  (void)state;
  const struct span groups[] = {span_text("press"), span_text("night")};
  const struct identity_fact facts[] = {{span_text("cert.ou"), span_text("hall-2")}};
  const struct identity ann = {.user = span_text("ann"),
                               .method = "cert",
                               .listener = span_text("plant"),
                               .groups = groups,
                               .group_count = 2,
                               .facts = facts,
                               .fact_count = 1};
  static const struct {
    const char *who, *fact, *topic;
    enum acl_subject subject;
    bool sent, none;  // none: it was an anonymous client
  } cases[] = {
      {.subject = ACL_USER, .who = "ann", .topic = "will/ann", .sent = true},
      {.subject = ACL_USER, .who = "bob", .topic = "will/ann"},
      {.subject = ACL_USER, .who = "ann", .topic = "will/{username}", .sent = true},
      {.subject = ACL_GROUP, .who = "night", .topic = "will/#", .sent = true},
      {.subject = ACL_GROUP, .who = "day", .topic = "will/#"},
      {.subject = ACL_FACT, .fact = "cert.ou", .who = "hall-?", .topic = "will/#", .sent = true},
      {.subject = ACL_FACT, .fact = "cert.ou", .who = "hall-3", .topic = "will/#"},
      {.subject = ACL_LISTENER, .who = "plant", .topic = "will/#", .sent = true},
      {.subject = ACL_CLIENT, .who = "a", .topic = "will/#", .sent = true},
      {.subject = ACL_ANONYMOUS, .topic = "will/#"},
      {.subject = ACL_ANONYMOUS, .topic = "will/#", .sent = true, .none = true},
      {.subject = ACL_USER, .who = "ann", .topic = "will/#", .none = true},
  };
  for (size_t i = 0; i < 2 * (sizeof cases / sizeof cases[0]); i++) {
    bool crashed_at_work = i % 2;
    struct bench bench;
    bench_init_journal(&bench, 1 + (i % 3 == 0), NULL, true);
    struct client *client = with_will(&bench, "a", "will/ann", 30);
    if (!cases[i / 2].none) {
      become_whole(client, &ann);
      durable_will(client->connection->session);
      bench_run(&bench);
    }
    if (!crashed_at_work) client_drop(client);
    bench_crash(&bench, 1000);
    bench_crash(&bench, 1000);  // it is there after the next one too
    const struct span topics[] = {span_text(cases[i / 2].topic)};
    const struct acl_rule rule = {.subject = cases[i / 2].subject,
                                  .fact = cases[i / 2].fact ? span_text(cases[i / 2].fact) : (struct span){0},
                                  .who = cases[i / 2].who ? span_text(cases[i / 2].who) : (struct span){0},
                                  .verbs = PUB,
                                  .allow = true,
                                  .qos_max = 2,
                                  .topics = topics,
                                  .topic_count = 1};
    put_rule(&bench, &rule);
    struct client *watching = client_subscribed(&bench, MQTT_5_0, "w", "#", 0);
    bench_advance(&bench, 40 * 1000);
    if (cases[i / 2].sent) client_take(watching, "will/ann", "gone", 0);
    client_expect_nothing(watching);
    assert_int_equal(bench_counters(&bench).access_denied[0], !cases[i / 2].sent);
    assert_int_equal(bench_logged(&bench, "access_denied"), !cases[i / 2].sent);
    bench_crash(&bench, 1000);  // once, sent or not
    bench_advance(&bench, 40 * 1000);
    assert_int_equal(bench_counters(&bench).wills_sent, 0);
    bench_deinit(&bench);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_BENCH(without_a_list_everything_goes),
      WITH_BENCH(denied_publishes_are_told),
      WITH_BENCH(quality_and_retain_count),
      cmocka_unit_test(older_clients_are_answered_or_closed),
      cmocka_unit_test(subscriptions_are_judged_one_by_one),
      WITH_BENCH(the_granted_quality_is_what_comes),
      WITH_BENCH(what_may_not_be_received_is_dropped),
      cmocka_unit_test(a_group_passes_over_members_that_may_not_have_it),
      WITH_BENCH(what_was_queued_before_is_asked_about_when_it_goes),
      cmocka_unit_test(durable_queues_go_on_behind_it),
      WITH_BENCH(a_new_list_holds_from_now_on),
      WITH_BENCH(the_list_before_is_not_kept),
      WITH_BENCH(the_brokers_topics_need_a_rule),
      WITH_BENCH(a_trial_denies_nothing),
      cmocka_unit_test(wills_are_asked_about_when_they_are_sent),
      cmocka_unit_test(a_will_that_outlives_the_process_is_asked_about),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
