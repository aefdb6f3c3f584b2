// Whole shards: messages end to end, yielding, the broker's own messages, mails, and a storm of everything.
#include "bench.h"

#include "core/shard_internal.h"

static void a_message_goes_through(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 4; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    struct client *subscriber = client_new(&bench, MQTT_5_0, "subscriber");
    struct client *publisher = client_new(&bench, MQTT_3_1_1, "publisher");
    for (uint8_t qos = 0; qos <= 2; qos++) {
      client_subscribe(subscriber, "a/+", qos);
      for (uint8_t sent = 0; sent <= 2; sent++) {
        client_publish(publisher, "a/b", "hello", sent, false);
        client_take(subscriber, "a/b", "hello", sent < qos ? sent : qos);
      }
    }
    client_expect_nothing(subscriber);
    client_expect_nothing(publisher);
    bench_deinit(&bench);
  }
}

// Order per publisher and topic holds, whatever the shards.
static void order_holds_across_shards(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 4; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    bench.carry = 3;
    struct client *subscribers[4];
    char text[16];
    for (uint8_t i = 0; i < 4; i++) {
      subscribers[i] = client_new_on(&bench, MQTT_5_0, i % shards);
      client_subscribe(subscribers[i], "t", 2);
    }
    struct client *publisher = client_new(&bench, MQTT_3_1_1, "publisher");
    for (unsigned i = 0; i < 30; i++) {
      snprintf(text, sizeof text, "%u", i);
      struct mqtt_packet packet = publish_packet(publisher, "t", text, (uint8_t)(i % 3));
      client_queue(publisher, &packet);
    }
    bench_run(&bench);
    for (unsigned s = 0; s < 4; s++) {
      for (unsigned i = 0; i < 30; i++) {
        snprintf(text, sizeof text, "%u", i);
        assert_int_equal(client_expect_publish(subscribers[s], "t", text)->qos, i % 3);
      }
    }
    assert_int_equal(bench_counters(&bench).copies, 120);
    bench_deinit(&bench);
  }
}

// Many copies of many messages: the shard asks for output to be written in between.
static void fan_out_yields(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  enum { CLIENTS = 300, MESSAGES = 200 };
  struct client *clients[CLIENTS];
  char id[16];
  for (unsigned i = 0; i < CLIENTS; i++) {
    snprintf(id, sizeof id, "s%u", i);
    clients[i] = client_new(bench, MQTT_3_1_1, id);
    client_subscribe(clients[i], "t", 0);
  }
  struct client *publisher = client_new(bench, MQTT_3_1_1, "p");
  for (unsigned portion = 0; portion < 2; portion++) {
    publisher->read_chunk = portion ? 601 : 0;  // packets cut in the middle
    size_t before = bench->yields;
    for (unsigned i = 0; i < MESSAGES; i++) client_queue_bytes(publisher, "\x30\4\0\1tx", 6);
    bench_run(bench);
    assert_in_range(bench->yields - before, 2, 20);
    assert_int_equal(bench_counters(bench).delivered, (portion + 1) * CLIENTS * MESSAGES);
    assert_int_equal(bench_counters(bench).dropped[DROP_SLOW_CONSUMER], 0);
  }
  for (unsigned i = 0; i < CLIENTS; i++)
    for (unsigned k = 0; k < 2 * MESSAGES; k++) client_expect_publish(clients[i], "t", "x");
}

static void the_broker_publishes_itself(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *all = client_subscribed(bench, MQTT_5_0, "all", "#", 0);
  struct client *watching = client_subscribed(bench, MQTT_5_0, "w", "$SYS/#", 1);
  shard_publish(bench->shards[0], span_text("$SYS/broker/uptime"), span_text("1 s"), 0, true);
  shard_publish(bench->shards[1], span_text("$SYS/broker/load"), span_text("0"), 1, false);
  bench_run(bench);
  // They start on two shards: no order between them.
  for (unsigned i = 0; i < 2; i++) client_expect(watching, MQTT_PUBLISH);
  client_expect_nothing(all);
  shard_publish(bench->shards[0], span_text("$SYS/broker/uptime"), span_text("2 s"), 0, true);
  bench_run(bench);
  client_expect_publish(watching, "$SYS/broker/uptime", "2 s");
  client_subscribe(all, "$SYS/broker/+", 0);
  assert_true(client_expect_publish(all, "$SYS/broker/uptime", "2 s")->retain);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.publish_received, 0);
  assert_int_equal(counters.copies, 4);
}

static void times_are_told(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct shard *shard = bench->shards[0];
  assert_int_equal(shard_next_ms(shard), -1);  // an idle shard sleeps
  struct client *client = client_open(bench, MQTT_5_0, 0);
  int64_t next = shard_next_ms(shard);
  assert_in_range(next, 1, 10000);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  packet.connect.keep_alive_s = 1;
  client_connect_packet(client, &packet);
  assert_in_range(shard_next_ms(shard), 1, 1500);
  // Time never goes back.
  shard_set_time(shard, (struct mono){5});
  shard_tick(shard);
  assert_int_equal(shard->now.ms, bench->now.ms);
  client_disconnect(client, MQTT_SUCCESS);
  assert_int_equal(shard_next_ms(shard), -1);
}

static void host_mails_keep_their_place(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *client = client_new_on(bench, MQTT_5_0, 0);
  bench->hold[0][1] = true;
  client_queue_subscribe(client, &(struct sub){.filter = "t"}, 1);
  bench_run(bench);
  int anything;
  shard_send_host(bench->shards[0], 1, (struct mail){.kind = MAIL_HOST, .pointer = &anything});
  size_t count;
  struct mail *mails = shard_outgoing(bench->shards[0], 1, &count);
  assert_int_equal(count, 2);
  assert_int_equal(mails[0].kind, MAIL_INTEREST_ADD);
  assert_int_equal(mails[1].kind, MAIL_HOST);
  assert_int_equal(mails[1].from, 0);
  assert_ptr_equal(mails[1].pointer, &anything);
  struct mail first = mails[0];
  shard_outgoing_taken(bench->shards[0], 1, 1);
  mails = shard_outgoing(bench->shards[0], 1, &count);
  assert_int_equal(count, 1);
  assert_int_equal(mails[0].kind, MAIL_HOST);
  shard_outgoing_taken(bench->shards[0], 1, 1);
  shard_mail(bench->shards[1], &first);
  bench->hold[0][1] = false;
  bench_run(bench);
  client_expect(client, MQTT_SUBACK);
}

// Mails that never arrive are freed, whatever they are.
static void mails_can_be_discarded(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct shard *shard = bench->shards[0];
  for (unsigned kind = MAIL_PUBLISH; kind <= MAIL_HOST; kind++) {
    struct mail mail = {.kind = (uint8_t)kind};
    bool has_message = kind == MAIL_PUBLISH || kind == MAIL_SHARE_DELIVER || kind == MAIL_SHARE_RETURN || kind == MAIL_FREE;
    bool has_text = kind == MAIL_INTEREST_ADD || kind == MAIL_INTEREST_REMOVE || kind == MAIL_SHARE_JOIN ||
                    kind == MAIL_SHARE_LEAVE || kind == MAIL_SHARE_STATE || kind == MAIL_SHARE_CREDIT ||
                    kind == MAIL_SHARE_RETURN;
    if (has_message) {
      struct message_parts parts = {.topic = span_text("t")};
      mail.message = message_create(&shard->pool, &parts);
      assert_non_null(mail.message);
      if (kind == MAIL_FREE) mail.message->next_home = NULL;
    }
    if (has_text) mail.text = strdup("g/t");
    mail_discard(shard, &mail);
  }
}

// ---- A storm

enum { STORM_CLIENTS = 12 };

struct storm {
  struct bench bench;
  struct prng prng;
  struct client *clients[STORM_CLIENTS];
};

static unsigned pick(struct storm *storm, unsigned bound)
{
  return (unsigned)prng_below(&storm->prng, bound);
}

static void storm_connect(struct storm *storm, unsigned i)
{
  struct client *client =
      client_open(&storm->bench, pick(storm, 2) ? MQTT_5_0 : MQTT_3_1_1, (uint8_t)pick(storm, storm->bench.shard_count));
  client->read_chunk = pick(storm, 3) ? 0 : 1 + pick(storm, 20);
  client->write_chunk = pick(storm, 3) ? 0 : 1 + pick(storm, 20);
  char id[4] = {(char)('a' + pick(storm, STORM_CLIENTS))};  // they fight over their sessions
  struct mqtt_packet packet = connect_packet(client->version, id);
  packet.connect.clean_start = pick(storm, 3) == 0;
  packet.connect.keep_alive_s = (uint16_t)pick(storm, 20);
  struct mqtt_properties *properties = &packet.connect.properties;
  if (pick(storm, 2)) {
    property_set(properties, MQTT_PROPERTY_SESSION_EXPIRY);
    properties->session_expiry_s = pick(storm, 20);
  }
  if (pick(storm, 2)) {
    property_set(properties, MQTT_PROPERTY_RECEIVE_MAXIMUM);
    properties->receive_maximum = (uint16_t)(1 + pick(storm, 5));
  }
  if (pick(storm, 3) == 0) {
    property_set(properties, MQTT_PROPERTY_MAXIMUM_PACKET_SIZE);
    properties->maximum_packet_size = 60 + pick(storm, 200);
  }
  if (pick(storm, 2)) {
    property_set(properties, MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM);
    properties->topic_alias_maximum = (uint16_t)pick(storm, 4);
  }
  if (pick(storm, 2)) {
    packet.connect.will = (struct mqtt_will){.present = true,
                                             .qos = (uint8_t)pick(storm, 3),
                                             .retain = pick(storm, 2),
                                             .topic = span_text("a/will"),
                                             .payload = span_text("w")};
    property_set(&packet.connect.will.properties, MQTT_PROPERTY_WILL_DELAY);
    packet.connect.will.properties.will_delay_s = pick(storm, 5);
  }
  client_queue(client, &packet);
  storm->clients[i] = client;
}

static const char *storm_topic(struct storm *storm)
{
  static const char *const topics[] = {"a", "a/b", "a/b/c", "b", "/", "$x/a", "long/topic/name/that/deserves/an/alias"};
  return topics[pick(storm, 7)];
}

static void storm_subscribe(struct storm *storm, struct client *client)
{
  static const char *const filters[] = {"#",          "a/#",        "+/b",    "a",    "$share/g/a/#",
                                        "$share/g/#", "$share/h/a", "long/#", "$x/#", "#/bad"};
  struct sub subs[3] = {{0}};
  bool local = client->version == MQTT_5_0 && pick(storm, 4) == 0;
  for (unsigned i = 0; i < 3; i++) {
    subs[i] = (struct sub){.filter = filters[pick(storm, 10)],
                           .qos = (uint8_t)pick(storm, 3),
                           .retain_as_published = pick(storm, 2),
                           .retain_handling = (enum mqtt_retain_handling)pick(storm, 3),
                           .id = pick(storm, 3)};
    subs[i].no_local = local && subs[i].filter[0] != '$';
  }
  if (client->next_id == 0) client->next_id = 1;
  client_queue_subscribe(client, subs, 1 + pick(storm, 3));
}

static void storm_unsubscribe(struct storm *storm, struct client *client)
{
  static const char *const payloads[] = {"\0\1#", "\0\3a/#", "\0\14$share/g/a/#", "\0\12$share/h/a"};
  static const size_t sizes[] = {3, 5, 14, 12};
  unsigned which = pick(storm, 4);
  if (client->next_id == 0) client->next_id = 1;
  struct mqtt_packet packet = {
      .type = MQTT_UNSUBSCRIBE,
      .unsubscribe = {.packet_id = client->next_id++, .count = 1, .payload = span_of(payloads[which], sizes[which])}};
  client_queue(client, &packet);
}

static void storm_publish(struct storm *storm, struct client *client)
{
  char payload[600];
  size_t size = pick(storm, 4) ? pick(storm, 20) : pick(storm, sizeof payload);
  memset(payload, 'p', sizeof payload);
  payload[size] = 0;
  if (client->next_id == 0) client->next_id = 1;
  struct mqtt_packet packet = publish_packet(client, storm_topic(storm), payload, (uint8_t)pick(storm, 3));
  packet.publish.retain = pick(storm, 4) == 0;
  if (pick(storm, 4) == 0) {
    property_set(&packet.publish.properties, MQTT_PROPERTY_MESSAGE_EXPIRY);
    packet.publish.properties.message_expiry_s = pick(storm, 4);
  }
  client_queue(client, &packet);
}

// Answers what came, or leaves it, or answers something else.
static void storm_answer(struct storm *storm, struct client *client)
{
  struct mqtt_fixed_header header = {0};
  while (mqtt_fixed_header(buffer_peek(&client->incoming), &header) == MQTT_HEADER_OK &&
         buffer_size(&client->incoming) >= header.size + (size_t)header.remaining) {
    const struct mqtt_packet *packet = client_expect(client, (enum mqtt_packet_type)(header.first >> 4));
    struct mqtt_packet answer = {.type = MQTT_PINGREQ};
    if (packet->type == MQTT_PUBLISH && packet->publish.qos) {
      answer.type = packet->publish.qos == 1 ? MQTT_PUBACK : MQTT_PUBREC;
      answer.ack.packet_id = packet->publish.packet_id;
    } else if (packet->type == MQTT_PUBREC && packet->ack.reason < MQTT_UNSPECIFIED_ERROR) {
      answer.type = MQTT_PUBREL;
      answer.ack.packet_id = packet->ack.packet_id;
    } else if (packet->type == MQTT_PUBREL) {
      answer.type = MQTT_PUBCOMP;
      answer.ack.packet_id = packet->ack.packet_id;
    }
    if (answer.type == MQTT_PINGREQ || !client->connection || pick(storm, 8) == 0) continue;
    if (answer.type != MQTT_PUBCOMP && client->version == MQTT_5_0 && pick(storm, 20) == 0)
      answer.ack.reason = MQTT_PACKET_ID_NOT_FOUND;
    if (answer.type != MQTT_PUBREL && answer.ack.reason) answer.ack.reason = MQTT_UNSPECIFIED_ERROR;
    client_queue(client, &answer);
  }
}

static void storm_step(struct storm *storm)
{
  unsigned i = pick(storm, STORM_CLIENTS);
  struct client *client = storm->clients[i];
  if (client) storm_answer(storm, client);
  if (!client || !client->connection) {
    storm_connect(storm, i);
    return;
  }
  switch (pick(storm, 20)) {
    case 0: client_drop(client); break;
    case 1: client_queue_bytes(client, "\xe0\0", 2); break;
    case 2: client_queue_bytes(client, "\xf0\1\1", 3); break;  // an error
    case 3: client->stalled = true; break;
    case 4: client_unstall(client); break;
    case 5: client_queue_bytes(client, "\xc0\0", 2); break;
    case 6:
    case 7:
    case 8: storm_subscribe(storm, client); break;
    case 9: storm_unsubscribe(storm, client); break;
    case 10: shard_publish(storm->bench.shards[0], span_text("$SYS/x"), span_text("1"), 1, true); break;
    case 11: storm->bench.budget.limit_bytes = pick(storm, 3) ? INT64_MAX : storm->bench.budget.used_bytes; break;
    case 12: storm->bench.hold[pick(storm, 4)][pick(storm, 4)] ^= true; break;
    case 13: storm->bench.limits.share_strategy = (enum share_strategy)pick(storm, 4); break;
    case 14: bench_set_limits(&storm->bench, &storm->bench.limits); break;
    default: storm_publish(storm, client); break;
  }
}

// Nothing is expected of it but that assertions hold, the balance is kept at every step, and all memory comes back.
static void a_storm_of_everything(void **state)
{
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    struct storm storm = {0};
    prng_seed(&storm.prng, seed);
    struct limits limits = limits_default();
    limits.queue_messages = 10;
    limits.in_flight = 4;
    limits.output_bytes = 2000;
    limits.retained_messages = 5;
    limits.topic_alias = 3;
    limits.subscriptions = 5;
    bench_init(&storm.bench, (uint8_t)(1 + seed % 4), &limits);
    storm.bench.scratch_size = seed % 3 ? BENCH_SCRATCH : 200;
    for (unsigned step = 0; step < 400; step++) {
      storm_step(&storm);
      if (pick(&storm, 2)) bench_run(&storm.bench);
      if (pick(&storm, 4) == 0) bench_advance(&storm.bench, pick(&storm, 2000));
    }
    if (seed % 2) {  // at rest everything is gone in the end; otherwise destroyed as it is
      storm.bench.budget.limit_bytes = INT64_MAX;
      memset(storm.bench.hold, 0, sizeof storm.bench.hold);
      for (uint8_t i = 0; i < storm.bench.shard_count; i++)
        shard_disconnect_all(storm.bench.shards[i], MQTT_SERVER_SHUTTING_DOWN);
      bench_advance(&storm.bench, 8 * 24 * 3600 * UINT64_C(1000));
      struct counters counters = bench_counters(&storm.bench);
      assert_int_equal(counters.connections + counters.sessions + counters.subscriptions, 0);
      assert_int_equal(counters.shared_subscriptions + counters.copies_queued + counters.copies_in_flight, 0);
      assert_int_equal(counters.paused_connections, 0);
      for (uint8_t i = 0; i < storm.bench.shard_count; i++) {
        assert_int_equal(storm.bench.shards[i]->groups.count, 0);
        assert_int_equal(storm.bench.shards[i]->index.children.count, 0);
        assert_true(list_empty(&storm.bench.shards[i]->tickets));
        assert_true(storm.bench.shards[i]->retained.messages <= 2 * 5);
      }
    }
    bench_deinit(&storm.bench);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_message_goes_through),
      cmocka_unit_test(order_holds_across_shards),
      WITH_BENCH(fan_out_yields),
      WITH_BENCH(the_broker_publishes_itself),
      WITH_BENCH(times_are_told),
      WITH_BENCH(host_mails_keep_their_place),
      WITH_BENCH(mails_can_be_discarded),
      cmocka_unit_test(a_storm_of_everything),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
