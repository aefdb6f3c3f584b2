// Shared subscriptions: strategies, members that come and go, across shards.
#include "bench.h"

#include "core/shard_internal.h"

enum { MEMBERS = 4 };

struct team {
  struct bench bench;
  struct client *members[MEMBERS];
  struct client *publisher;
  unsigned got[MEMBERS];
};

static void team_init(struct team *team, uint8_t shards, enum share_strategy strategy, uint8_t qos)
{
  *team = (struct team){0};
  struct limits limits = limits_default();
  limits.share_strategy = strategy;
  bench_init(&team->bench, shards, &limits);
  char id[16];
  for (unsigned i = 0; i < MEMBERS; i++) {
    bench_new_id(&team->bench, (uint8_t)(i % shards), id);
    team->members[i] = client_lasting(&team->bench, MQTT_5_0, id);
    client_subscribe(team->members[i], "$share/team/t/#", qos);
  }
  team->publisher = client_new(&team->bench, MQTT_5_0, "publisher");
}

// Takes what has come and acknowledges it; returns how many messages in all.
static unsigned team_take(struct team *team)
{
  unsigned total = 0;
  for (unsigned i = 0; i < MEMBERS; i++) {
    struct client *member = team->members[i];
    while (client_waiting(member) > 0) {
      const struct mqtt_publish *publish = &client_expect(member, MQTT_PUBLISH)->publish;
      if (publish->qos == 1) client_ack(member, MQTT_PUBACK, publish->packet_id, MQTT_SUCCESS);
      team->got[i]++;
      total++;
    }
  }
  return total;
}

static void everything_goes_to_one(void **state)
{
  (void)state;
  for (enum share_strategy strategy = SHARE_ROUND_ROBIN; strategy <= SHARE_STICKY; strategy++) {
    for (uint8_t shards = 1; shards <= 4; shards++) {
      struct team team;
      team_init(&team, shards, strategy, 1);
      char topic[16];
      for (unsigned i = 0; i < 80; i++) {
        snprintf(topic, sizeof topic, "t/%u", i);
        client_publish(team.publisher, topic, "x", (uint8_t)(i % 2), false);
        assert_int_equal(team_take(&team), 1);
      }
      for (unsigned i = 0; i < MEMBERS; i++) assert_in_range(team.got[i], strategy == SHARE_ROUND_ROBIN ? 20 : 5, 40);
      if (strategy == SHARE_ROUND_ROBIN)
        for (unsigned i = 0; i < MEMBERS; i++) assert_int_equal(team.got[i], 20);
      struct counters counters = bench_counters(&team.bench);
      assert_int_equal(counters.delivered, 80);
      assert_int_equal(counters.shared_subscriptions, MEMBERS);
      bench_deinit(&team.bench);
    }
  }
}

static void sticky_topics_stay(void **state)
{
  (void)state;
  struct team team;
  team_init(&team, 2, SHARE_STICKY, 0);
  unsigned owner[40];
  char topic[16];
  for (unsigned round = 0; round < 3; round++) {
    if (round == 2) client_drop(team.members[1]);  // only its topics move
    for (unsigned i = 0; i < 40; i++) {
      snprintf(topic, sizeof topic, "t/%u", i);
      unsigned before[MEMBERS];
      memcpy(before, team.got, sizeof before);
      client_publish(team.publisher, topic, "x", 0, false);
      assert_int_equal(team_take(&team), 1);
      unsigned member = 0;
      while (team.got[member] == before[member]) member++;
      if (round == 0) owner[i] = member;
      if (round == 1 || (round == 2 && owner[i] != 1)) assert_int_equal(member, owner[i]);
      if (round == 2) assert_int_not_equal(member, 1);
    }
  }
  bench_deinit(&team.bench);
}

// The one that acknowledges gets, the one that does not gets no more than its share of what is outstanding.
static void least_in_flight_goes_to_the_free(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 3; shards++) {
    struct team team;
    team_init(&team, shards, SHARE_LEAST_IN_FLIGHT, 1);
    for (unsigned i = 0; i < 40; i++) {
      client_publish(team.publisher, "t/x", "x", 1, false);
      for (unsigned m = 1; m < MEMBERS; m++) {
        if (client_waiting(team.members[m]) == 0) continue;
        client_take(team.members[m], "t/x", "x", 1);
        team.got[m]++;
      }
    }
    client_expect_publish(team.members[0], "t/x", "x");
    client_expect_nothing(team.members[0]);
    assert_int_equal(team.got[1] + team.got[2] + team.got[3], 39);
    bench_deinit(&team.bench);
  }
}

// What is dropped, refused or sent at QoS 0 is not outstanding either.
static void credit_comes_back_whatever_happens(void **state)
{
  struct limits limits = limits_default();
  limits.share_strategy = SHARE_LEAST_IN_FLIGHT;
  limits.queue_messages = 1;
  limits.in_flight = 1;
  struct bench *bench = bench_make(state, 2, &limits);
  char id[2][16];
  struct client *members[2];
  for (uint8_t i = 0; i < 2; i++) {
    bench_new_id(bench, i, id[i]);
    members[i] = client_lasting(bench, MQTT_5_0, id[i]);
    client_subscribe(members[i], "$share/g/t", 1);
  }
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  for (unsigned i = 0; i < 20; i++) {
    struct mqtt_packet packet = publish_packet(publisher, "t", "x", (uint8_t)(i % 2));
    client_queue(publisher, &packet);
    bench_advance(bench, LIVE_MS + 1);  // nobody waits for members that do not acknowledge
    if (i % 2) client_expect_ack(publisher, MQTT_PUBACK, packet.publish.packet_id, MQTT_SUCCESS);
  }
  assert_true(bench_counters(bench).dropped[DROP_QUEUE_FULL] > 0);
  // All but one in flight and one waiting, for each, were dropped; then both have taken everything.
  for (unsigned i = 0; i < 2; i++) {
    while (client_waiting(members[i]) > 0) {
      const struct mqtt_publish *publish = &client_expect(members[i], MQTT_PUBLISH)->publish;
      if (publish->qos) client_ack(members[i], MQTT_PUBACK, publish->packet_id, i ? MQTT_SUCCESS : MQTT_UNSPECIFIED_ERROR);
    }
  }
  for (uint8_t shard = 0; shard < 2; shard++) {
    size_t cursor = 0;
    for (const struct group *group; (group = map_next(&bench->shards[shard]->groups, &cursor));)
      for (uint32_t i = 0; i < group->count; i++) assert_int_equal(group->members[i].outstanding, 0);
  }
}

// ---- Queues of members, in memory and on disk

static uint32_t waiting(const struct bench *bench, const char *id)
{
  const struct session *session = session_find(bench->shards[JOURNAL_SHARD], span_text(id));
  assert_non_null(session);
  return session->waiting;
}

static void absent_member(struct bench *bench, const char *id)
{
  struct client *client = client_durable(bench, id, id, 1);
  client_subscribe(client, "$share/team/t/#", 1);
  client_drop(client);
}

static void publish_many(struct client *publisher, const char *topic, unsigned count)
{
  for (unsigned i = 0; i < count; i++) client_publish(publisher, topic, "x", 1, false);
}

static void full_members_are_passed_over(void **state)
{
  (void)state;
  for (enum share_strategy strategy = SHARE_ROUND_ROBIN; strategy <= SHARE_STICKY; strategy++) {
    for (int reject = 0; reject < 2; reject++) {
      struct limits limits = limits_default();
      limits.share_strategy = strategy;
      limits.queue_messages = 6;
      limits.queue_drop = reject ? QUEUE_REJECT : QUEUE_DROP_NEWEST;
      struct bench bench;
      bench_init_journal(&bench, 1, &limits, true);
      absent_member(&bench, "a");
      absent_member(&bench, "b");
      struct client *publisher = client_new(&bench, MQTT_5_0, "p");
      publish_many(publisher, "a", 6);
      unsigned refused = 0;
      for (unsigned i = 0; i < 10; i++) {
        client_send_publish(publisher, "t/x", "x", 1, false);
        enum mqtt_reason reason = client_expect(publisher, MQTT_PUBACK)->ack.reason;
        assert_true(reason == MQTT_SUCCESS || (reject && reason == MQTT_QUOTA_EXCEEDED));
        refused += reason != MQTT_SUCCESS;
      }
      struct counters counters = bench_counters(&bench);
      assert_int_equal(waiting(&bench, "a"), 6);
      // One topic: with "sticky" all of it may belong to the full one.
      if (strategy != SHARE_STICKY) assert_int_equal(waiting(&bench, "b"), 6);
      unsigned lost = 10 - waiting(&bench, "b");
      assert_int_equal(refused, reject ? lost : 0);
      assert_int_equal(counters.dropped[DROP_QUEUE_FULL], reject ? 0 : lost);
      assert_int_equal(counters.publish_refused[REFUSE_QUEUE_FULL], refused);
      bench_deinit(&bench);
    }
  }
}

// A member that is there and full does not make one that is away get messages.
static void the_absent_get_nothing_while_the_others_are_full(void **state)
{
  struct limits limits = limits_default();
  limits.queue_messages = 3;
  limits.in_flight = 1;
  limits.queue_drop = QUEUE_REJECT;
  struct bench *bench = bench_make_journal(state, 1, &limits, true);
  absent_member(bench, "a");
  client_durable(bench, "there", "$share/team/t/#", 1);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  bool refused = false;
  for (unsigned i = 0; i < 20 && !refused; i++) {
    struct mqtt_packet packet = publish_packet(publisher, "t/x", "x", 1);
    client_queue(publisher, &packet);
    bench_advance(bench, LIVE_MS + 1);
    refused = client_expect(publisher, MQTT_PUBACK)->ack.reason == MQTT_QUOTA_EXCEEDED;
  }
  assert_true(refused);
  assert_int_equal(waiting(bench, "a"), 0);
}

// What waits on disk counts, also what was there before a restart, and what was dropped does not.
static void least_in_flight_looks_at_the_disk(void **state)
{
  (void)state;
  for (int crash = 0; crash < 2; crash++) {
    struct limits limits = limits_default();
    limits.share_strategy = SHARE_LEAST_IN_FLIGHT;
    limits.queue_messages = 10;
    struct bench bench;
    bench_init_journal(&bench, 1, &limits, true);
    absent_member(&bench, "a");
    absent_member(&bench, "b");
    struct client *publisher = client_new(&bench, MQTT_5_0, "p");
    publish_many(publisher, "a", 30);
    assert_int_equal(waiting(&bench, "a"), 10);
    if (crash) {
      bench_crash(&bench, 1000);
      publisher = client_new(&bench, MQTT_5_0, "p");
    }
    publish_many(publisher, "t/x", 6);
    assert_int_equal(waiting(&bench, "a"), 10);
    assert_int_equal(waiting(&bench, "b"), 6);
    publish_many(publisher, "b", 2);
    struct client *back = client_open(&bench, MQTT_5_0, 0);
    client_connect(back, "a", false, 3600);
    for (unsigned i = 0; i < 10; i++) client_take(back, "a", "x", 1);
    client_drop(back);
    publish_many(publisher, "t/x", 8);
    assert_int_equal(waiting(&bench, "a"), 8);
    assert_int_equal(waiting(&bench, "b"), 8);
    bench_deinit(&bench);
  }
}

// ---- Members that come and go

static void members_that_are_there_come_first(void **state)
{
  (void)state;
  for (enum share_strategy strategy = SHARE_ROUND_ROBIN; strategy <= SHARE_STICKY; strategy++) {
    for (uint8_t shards = 1; shards <= 3; shards++) {
      struct team team;
      team_init(&team, shards, strategy, 1);
      for (unsigned i = 0; i < MEMBERS; i++)
        if (i != 2) client_drop(team.members[i]);
      for (unsigned i = 0; i < 10; i++) {
        client_publish(team.publisher, "t/x", "x", 1, false);
        client_take(team.members[2], "t/x", "x", 1);
      }
      // Nobody is there: it waits for one of them; QoS 0 is dropped.
      client_drop(team.members[2]);
      for (unsigned i = 0; i < 4; i++) client_publish(team.publisher, "t/x", "waits", 1, false);
      client_publish(team.publisher, "t/x", "lost", 0, false);
      struct counters counters = bench_counters(&team.bench);
      assert_int_equal(counters.copies_queued, 4);
      assert_int_equal(counters.dropped[DROP_OFFLINE_QOS_0], 1);
      bench_deinit(&team.bench);
    }
  }
}

// A session that ends gives what it has not acknowledged to the others, but not QoS 2 that was sent [MQTT-4.8.2-5].
static void ended_sessions_give_back(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 3; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    char first[16], second[16];
    bench_new_id(&bench, 0, first);
    bench_new_id(&bench, (uint8_t)(shards - 1), second);
    struct client *a = client_open(&bench, MQTT_5_0, 0);
    struct mqtt_packet packet = connect_packet(MQTT_5_0, first);
    packet.connect.clean_start = false;
    property_set(&packet.connect.properties, MQTT_PROPERTY_RECEIVE_MAXIMUM);
    packet.connect.properties.receive_maximum = 2;
    property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
    packet.connect.properties.session_expiry_s = 10;
    client_connect_packet(a, &packet);
    client_subscribe_with(a, &(struct sub){.filter = "$share/g/t", .qos = 2, .id = 3}, MQTT_GRANTED_QOS_2);
    struct client *publisher = client_new(&bench, MQTT_3_1_1, "p");
    client_publish(publisher, "t", "sent 1", 1, false);
    client_publish(publisher, "t", "sent 2", 2, false);
    // Subscribed anew: what was queued before belongs to the group all the same.
    client_publish(publisher, "t", "waits 1", 1, false);
    client_queue_subscribe(a, &(struct sub){.filter = "$share/g/t", .qos = 2, .id = 4}, 1);
    bench_run(&bench);
    client_publish(publisher, "t", "waits 2", 2, false);
    assert_int_equal(client_expect_publish(a, "t", "sent 1")->properties.subscription_id, 3);
    client_expect_publish(a, "t", "sent 2");
    struct client *b = client_subscribed(&bench, MQTT_5_0, second, "$share/g/t", 2);
    client_drop(a);
    bench_advance(&bench, 10000);
    client_take(b, "t", "sent 1", 1);
    client_take(b, "t", "waits 1", 1);
    client_take(b, "t", "waits 2", 2);
    client_expect_nothing(b);
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.shared_subscriptions, 1);
    assert_int_equal(counters.copies_queued + counters.copies_in_flight, 0);
    bench_deinit(&bench);
  }
}

static void unsubscribing_ends_the_group(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 4; shards++) {
    struct team team;
    team_init(&team, shards, SHARE_ROUND_ROBIN, 1);
    for (unsigned i = 0; i < MEMBERS; i++) {
      assert_int_equal(client_unsubscribe(team.members[i], "$share/team/t/#"), MQTT_SUCCESS);
      client_publish(team.publisher, "t/x", "x", 1, false);
      assert_int_equal(team_take(&team), i + 1 < MEMBERS);
    }
    for (uint8_t shard = 0; shard < shards; shard++) {
      assert_int_equal(team.bench.shards[shard]->groups.count, 0);
      assert_int_equal(team.bench.shards[shard]->memberships.count, 0);
      assert_int_equal(team.bench.shards[shard]->index.children.count, 0);
    }
    bench_deinit(&team.bench);
  }
}

// Groups, names and plain subscriptions are apart from each other.
static void groups_are_apart(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  client_subscribe_with(client, &(struct sub){.filter = "$share/a/t", .qos = 0, .id = 1}, MQTT_SUCCESS);
  client_subscribe_with(client, &(struct sub){.filter = "$share/b/t", .qos = 1, .id = 2, .retain_as_published = true},
                        MQTT_GRANTED_QOS_1);
  client_subscribe_with(client, &(struct sub){.filter = "t", .qos = 2, .id = 4}, MQTT_GRANTED_QOS_2);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  client_publish(publisher, "t", "x", 2, true);
  uint32_t ids = 0;
  for (unsigned i = 0; i < 3; i++) {
    const struct mqtt_publish *publish = client_expect_publish(client, "t", "x");
    assert_int_equal(publish->properties.subscription_id_count, 1);
    uint32_t id = publish->properties.subscription_id;
    ids |= id;
    assert_int_equal(publish->qos, id == 4 ? 2 : id - 1);
    assert_int_equal(publish->retain, id == 2);
  }
  assert_int_equal(ids, 7);
  client_expect_nothing(client);
  // One shared with nobody is not served by somebody else's name.
  assert_int_equal(client_unsubscribe(client, "$share/a/t"), MQTT_SUCCESS);
  client_publish(publisher, "t", "y", 0, false);
  client_expect_publish(client, "t", "y");
  client_expect_publish(client, "t", "y");
  client_expect_nothing(client);
}

// ---- Mails that cross

// The owner has chosen a member that has just left: another one gets the message, or nobody when none is left.
static void a_chosen_member_may_have_left(void **state)
{
  (void)state;
  for (unsigned others = 0; others < 2; others++) {
    struct bench bench;
    bench_init(&bench, 2, NULL);
    // The group's owner is one shard, its member is on the other.
    uint8_t owner = shard_owner(bench.shards[0], span_text("g/t"));
    uint8_t away = 1 - owner;
    struct client *leaver = client_new_on(&bench, MQTT_5_0, away), *publisher = client_new_on(&bench, MQTT_5_0, owner);
    client_subscribe(leaver, "$share/g/t", 1);
    bench.hold[owner][away] = true;
    client_publish(publisher, "t", "x", 1, false);
    struct client *stayer = NULL;
    if (others) {
      stayer = client_new_on(&bench, MQTT_5_0, owner);
      client_queue_subscribe(stayer, &(struct sub){.filter = "$share/g/t", .qos = 1}, 1);
      bench_run(&bench);
    }
    client_drop(leaver);
    bench.hold[owner][away] = false;
    bench_run(&bench);
    if (others) {
      client_expect(stayer, MQTT_SUBACK);
      client_take(stayer, "t", "x", 1);
    }
    assert_int_equal(bench_counters(&bench).shared_subscriptions, others);
    bench_deinit(&bench);
  }
}

// A return to a group that has ended and begun anew is for the old one.
static void a_later_group_is_another(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  uint8_t owner = shard_owner(bench->shards[0], span_text("g/t"));
  uint8_t away = 1 - owner;
  struct client *leaver = client_new_on(bench, MQTT_5_0, away), *publisher = client_new_on(bench, MQTT_5_0, owner);
  client_subscribe(leaver, "$share/g/t", 1);
  bench->hold[owner][away] = true;
  client_publish(publisher, "t", "old", 1, false);
  client_drop(leaver);
  struct client *later = client_new_on(bench, MQTT_5_0, owner);
  client_queue_subscribe(later, &(struct sub){.filter = "$share/g/t", .qos = 1}, 1);
  bench_run(bench);
  bench->hold[owner][away] = false;
  bench_run(bench);
  client_expect(later, MQTT_SUBACK);
  client_expect_nothing(later);
  client_publish(publisher, "t", "new", 1, false);
  client_take(later, "t", "new", 1);
}

// A member that leaves while its join, its state and its credits are under way.
static void mails_about_members_that_are_gone(void **state)
{
  (void)state;
  struct team team;
  team_init(&team, 3, SHARE_LEAST_IN_FLIGHT, 1);
  for (unsigned from = 0; from < 3; from++)
    for (unsigned to = 0; to < 3; to++) team.bench.hold[from][to] = true;
  for (unsigned i = 0; i < 6; i++) {
    client_send_publish(team.publisher, "t/x", "x", 1, false);
  }
  team_take(&team);
  for (unsigned i = 0; i < MEMBERS; i++) {
    struct mqtt_packet packet = {.type = MQTT_DISCONNECT};
    property_set(&packet.disconnect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
    if (i % 2)
      client_send(team.members[i], &packet);
    else
      client_drop(team.members[i]);
  }
  for (unsigned from = 0; from < 3; from++) {
    for (unsigned to = 0; to < 3; to++) {
      team.bench.hold[from][to] = false;
      bench_run(&team.bench);
    }
  }
  assert_int_equal(bench_counters(&team.bench).shared_subscriptions, MEMBERS / 2);
  assert_int_equal(bench_counters(&team.bench).sessions, MEMBERS / 2 + 1);
  bench_deinit(&team.bench);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(everything_goes_to_one),
      cmocka_unit_test(sticky_topics_stay),
      cmocka_unit_test(least_in_flight_goes_to_the_free),
      WITH_BENCH(credit_comes_back_whatever_happens),
      cmocka_unit_test(full_members_are_passed_over),
      WITH_BENCH(the_absent_get_nothing_while_the_others_are_full),
      cmocka_unit_test(least_in_flight_looks_at_the_disk),
      cmocka_unit_test(members_that_are_there_come_first),
      cmocka_unit_test(ended_sessions_give_back),
      cmocka_unit_test(unsubscribing_ends_the_group),
      WITH_BENCH(groups_are_apart),
      cmocka_unit_test(a_chosen_member_may_have_left),
      WITH_BENCH(a_later_group_is_another),
      cmocka_unit_test(mails_about_members_that_are_gone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
