// Acknowledgements that wait for the journal: which ones, for how long, and in which order.
#include "bench.h"

#include "core/shard_internal.h"

// A durable subscriber to t/# that gets QoS 2, and a publisher. Nothing is safe any more until the test says so.
struct scene {
  struct bench bench;
  struct client *sub, *pub;
};

static void begin_with(struct scene *scene, uint8_t shard_count, const struct limits *limits, enum mqtt_version version)
{
  bench_init_journal(&scene->bench, shard_count, limits, true);
  scene->sub = client_durable(&scene->bench, "sub", "t/#", 2);
  scene->pub = client_new(&scene->bench, version, "pub");
  scene->bench.store->hold_commits = true;
}

static void begin(struct scene *scene)
{
  begin_with(scene, 1, NULL, MQTT_5_0);
}

static void finish(struct scene *scene)
{
  scene->bench.store->hold_commits = false;
  scene->bench.store->hold_batches = false;
  bench_run(&scene->bench);
  bench_deinit(&scene->bench);
}

static int make_scene(void **state)
{
  struct scene *scene = malloc(sizeof *scene);
  assert_non_null(scene);
  begin(scene);
  *state = scene;
  return 0;
}

static int free_scene(void **state)
{
  finish(*state);
  free(*state);
  return 0;
}

#define WITH_SCENE(test) cmocka_unit_test_setup_teardown(test, make_scene, free_scene)

// ---- What waits

static void puback_waits(void **state)
{
  struct scene *scene = *state;
  uint16_t id = client_send_publish(scene->pub, "t/1", "x", 1, false);
  client_expect_nothing(scene->pub);
  client_expect_publish(scene->sub, "t/1", "x");  // QoS 1 need not wait on its way to a subscriber
  bench_advance(&scene->bench, 5000);
  client_expect_nothing(scene->pub);
  bench_commit(&scene->bench, 1);
  client_expect_ack(scene->pub, MQTT_PUBACK, id, MQTT_SUCCESS);
}

static void qos_2_waits_both_ways(void **state)
{
  struct scene *scene = *state;
  uint16_t id = client_send_publish(scene->pub, "t/1", "x", 2, false);
  client_expect_nothing(scene->pub);
  client_expect_nothing(scene->sub);  // QoS 2 must not reach anybody before it is safe
  bench_commit(&scene->bench, 1);
  client_expect_ack(scene->pub, MQTT_PUBREC, id, MQTT_SUCCESS);
  // The publisher's session is not durable: its PUBREL changes nothing on disk.
  client_ack(scene->pub, MQTT_PUBREL, id, MQTT_SUCCESS);
  client_expect_ack(scene->pub, MQTT_PUBCOMP, id, MQTT_SUCCESS);
  uint16_t sent_id = client_expect_publish(scene->sub, "t/1", "x")->packet_id;
  assert_int_equal(sent_id, 1);
  client_ack(scene->sub, MQTT_PUBREC, sent_id, MQTT_SUCCESS);
  client_expect_nothing(scene->sub);  // PUBREL: that PUBREC came must be safe first
  bench_commit(&scene->bench, 1);
  client_expect_ack(scene->sub, MQTT_PUBREL, sent_id, MQTT_SUCCESS);
  client_ack(scene->sub, MQTT_PUBCOMP, sent_id, MQTT_SUCCESS);
}

static void durable_publishers_get_pubcomp_when_it_is_safe(void **state)
{
  struct scene *scene = *state;
  scene->bench.store->hold_commits = false;
  struct client *durable = client_lasting(&scene->bench, MQTT_3_1_1, "durable");
  scene->bench.store->hold_commits = true;
  // Nobody gets the message, but its identifier must survive.
  uint16_t id = client_send_publish(durable, "nobody", "x", 2, false);
  client_expect_nothing(durable);
  bench_commit(&scene->bench, 1);
  client_expect_ack(durable, MQTT_PUBREC, id, MQTT_SUCCESS);
  assert_int_equal(store_bench_find(scene->bench.store, "durable")->received_count, 1);
  client_ack(durable, MQTT_PUBREL, id, MQTT_SUCCESS);
  client_expect_nothing(durable);
  bench_commit(&scene->bench, 1);
  client_expect_ack(durable, MQTT_PUBCOMP, id, MQTT_SUCCESS);
  // An unknown one waits for nothing.
  client_ack(durable, MQTT_PUBREL, 77, MQTT_SUCCESS);
  client_expect_ack(durable, MQTT_PUBCOMP, 77, MQTT_SUCCESS);
  // One that is sent again is answered again, not before the first one is safe.
  struct mqtt_packet packet = publish_packet(durable, "t/2", "x", 2);
  client_queue(durable, &packet);
  packet.publish.dup = true;
  client_send(durable, &packet);
  client_expect_nothing(durable);
  bench_commit(&scene->bench, 1);
  client_expect_ack(durable, MQTT_PUBREC, packet.publish.packet_id, MQTT_SUCCESS);
  client_expect_ack(durable, MQTT_PUBREC, packet.publish.packet_id, MQTT_SUCCESS);
  client_expect_publish(scene->sub, "t/2", "x");
  client_expect_nothing(scene->sub);
}

static void suback_and_unsuback_wait(void **state)
{
  (void)state;
  for (uint8_t shard_count = 1; shard_count <= 3; shard_count++) {
    struct scene scene;
    begin_with(&scene, shard_count, NULL, MQTT_5_0);
    struct sub sub = {.filter = "a", .qos = 1};
    client_queue_subscribe(scene.sub, &sub, 1);
    bench_run(&scene.bench);
    client_expect_nothing(scene.sub);
    // Messages do not overtake it, and what is asked behind it is answered behind it.
    client_publish(scene.pub, "a", "live", 0, false);
    client_queue_subscribe(scene.sub, &(struct sub){.filter = "b", .qos = 0}, 1);
    client_send_bytes(scene.sub, "\xc0\0", 2);
    client_expect_nothing(scene.sub);
    bench_commit(&scene.bench, SIZE_MAX);
    client_expect(scene.sub, MQTT_SUBACK);
    client_expect_publish(scene.sub, "a", "live");
    client_expect_nothing(scene.sub);
    bench_commit(&scene.bench, SIZE_MAX);
    client_expect(scene.sub, MQTT_SUBACK);
    client_expect(scene.sub, MQTT_PINGRESP);
    client_expect_nothing(scene.sub);

    size_t batches = scene.bench.store->batch_count;
    uint8_t unsubscribe[] = {0xa2, 9, 0, 9, 0, 0, 1, 'a', 0, 1, 'b'};
    client_send_bytes(scene.sub, unsubscribe, sizeof unsubscribe);
    client_expect_nothing(scene.sub);
    assert_int_equal(store_bench_records(scene.bench.store, RECORD_UNSUBSCRIBE, batches, NULL), 2);
    bench_commit(&scene.bench, SIZE_MAX);
    assert_int_equal(client_expect(scene.sub, MQTT_UNSUBACK)->suback.codes.size, 2);
    // Nothing changes, nothing waits.
    unsubscribe[3] = 10;
    client_send_bytes(scene.sub, unsubscribe, sizeof unsubscribe);
    client_expect(scene.sub, MQTT_UNSUBACK);
    // Nor does it for a session that the journal does not know.
    client_subscribe(scene.pub, "a", 1);
    assert_int_equal(client_unsubscribe(scene.pub, "a"), MQTT_SUCCESS);
    finish(&scene);
  }
}

static void connack_of_durable_sessions_waits(void **state)
{
  struct scene *scene = *state;
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "c");
  // Beginning one, coming back to one.
  for (int i = 0; i < 2; i++) {
    struct client *client = client_open(&scene->bench, MQTT_5_0, 0);
    packet.connect.clean_start = false;
    property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
    packet.connect.properties.session_expiry_s = 3600;
    client_send(client, &packet);
    client_expect_nothing(client);
    bench_commit(&scene->bench, SIZE_MAX);
    assert_int_equal(client_expect(client, MQTT_CONNACK)->connack.session_present, i > 0);
    client_drop(client);
  }
  // Ending one: nothing overtakes it.
  struct client *client = client_open(&scene->bench, MQTT_5_0, 0);
  packet = connect_packet(MQTT_5_0, "c");
  client_queue(client, &packet);
  client_send_bytes(client, "\xc0\0", 2);
  client_expect_nothing(client);
  bench_commit(&scene->bench, SIZE_MAX);
  assert_false(client_expect(client, MQTT_CONNACK)->connack.session_present);
  client_expect(client, MQTT_PINGRESP);
  // Now it is not durable, so another one need not wait.
  client_new(&scene->bench, MQTT_5_0, "c");
}

static void retained_messages_wait(void **state)
{
  struct scene *scene = *state;
  uint16_t id = client_send_publish(scene->pub, "retained", "x", 1, true);
  client_expect_nothing(scene->pub);
  bench_commit(&scene->bench, 1);
  client_expect_ack(scene->pub, MQTT_PUBACK, id, MQTT_NO_MATCHING_SUBSCRIBERS);
  id = client_send_publish(scene->pub, "retained", "x", 2, true);
  client_expect_nothing(scene->pub);
  bench_commit(&scene->bench, 1);
  client_expect_ack(scene->pub, MQTT_PUBREC, id, MQTT_NO_MATCHING_SUBSCRIBERS);
  // Clearing, too.
  id = client_send_publish(scene->pub, "retained", "", 1, true);
  client_expect_nothing(scene->pub);
  assert_int_equal(scene->bench.store->retained_count, 1);
  bench_commit(&scene->bench, 1);
  assert_int_equal(scene->bench.store->retained_count, 0);
  client_expect_ack(scene->pub, MQTT_PUBACK, id, MQTT_NO_MATCHING_SUBSCRIBERS);
}

// ---- What does not wait

static void what_needs_no_disk_is_not_held_up(void **state)
{
  struct scene *scene = *state;
  struct client *other = client_new(&scene->bench, MQTT_3_1_1, "other");
  struct client *clean = client_subscribed(&scene->bench, MQTT_5_0, "clean", "live", 2);
  uint16_t first = client_send_publish(scene->pub, "t/1", "x", 1, false);
  size_t batches = scene->bench.store->batch_count;
  // Another connection goes on.
  for (uint8_t qos = 0; qos <= 2; qos++) {
    client_publish(other, "live", "m", qos, false);
    client_take(clean, "live", "m", qos);
  }
  client_publish(other, "t/0", "m", 0, false);
  // The same one keeps the order of its acknowledgements; pings and messages go on.
  uint16_t second = client_send_publish(scene->pub, "live", "x", 1, false);
  client_take(clean, "live", "x", 1);
  client_send_bytes(scene->pub, "\xc0\0", 2);
  client_expect(scene->pub, MQTT_PINGRESP);
  uint16_t third = client_send_publish(scene->pub, "live", "x", 2, false);
  client_expect_nothing(scene->pub);
  assert_int_equal(scene->bench.store->batch_count, batches);
  bench_commit(&scene->bench, 1);
  client_expect_ack(scene->pub, MQTT_PUBACK, first, MQTT_SUCCESS);
  client_expect_ack(scene->pub, MQTT_PUBACK, second, MQTT_SUCCESS);
  client_expect_ack(scene->pub, MQTT_PUBREC, third, MQTT_SUCCESS);
}

static void each_batch_releases_its_own(void **state)
{
  struct scene *scene = *state;
  uint16_t ids[6];
  for (size_t i = 0; i < 6; i++) ids[i] = client_send_publish(scene->pub, i % 2 ? "free" : "t/1", "x", 1, false);
  for (size_t i = 0; i < 6; i += 2) {
    client_expect_nothing(scene->pub);
    bench_commit(&scene->bench, 1);
    client_expect_ack(scene->pub, MQTT_PUBACK, ids[i], MQTT_SUCCESS);
    client_expect_ack(scene->pub, MQTT_PUBACK, ids[i + 1], MQTT_NO_MATCHING_SUBSCRIBERS);
  }
  client_expect_nothing(scene->pub);
}

static void refusals_keep_their_place(void **state)
{
  struct scene *scene = *state;
  uint16_t first = client_send_publish(scene->pub, "t/1", "x", 1, false);
  uint16_t second = client_send_publish(scene->pub, "$SYS/mine", "x", 1, false);
  client_expect_nothing(scene->pub);
  bench_commit(&scene->bench, 1);
  client_expect_ack(scene->pub, MQTT_PUBACK, first, MQTT_SUCCESS);
  client_expect_ack(scene->pub, MQTT_PUBACK, second, MQTT_NOT_AUTHORIZED);
}

static void other_durabilities_wait_for_nothing(void **state)
{
  (void)state;
  for (uint8_t shard_count = 1; shard_count <= 2; shard_count++) {
    struct bench bench;
    bench_init_journal(&bench, shard_count, NULL, false);
    bench.store->hold_commits = true;
    struct client *sub = client_durable(&bench, "sub", "t/#", 2);
    struct client *pub = client_new(&bench, MQTT_5_0, "pub"), *durable = client_lasting(&bench, MQTT_5_0, "durable");
    for (uint8_t qos = 0; qos <= 2; qos++) {
      client_publish(pub, "t/1", "m", qos, true);
      client_take(sub, "t/1", "m", qos);
      client_publish(durable, "t/1", "n", qos, false);
      client_take(sub, "t/1", "n", qos);
    }
    assert_int_equal(client_unsubscribe(sub, "t/#"), MQTT_SUCCESS);
    client_new(&bench, MQTT_5_0, "sub");
    assert_true(bench.store->batch_count > 0);
    bench.store->hold_commits = false;
    bench_run(&bench);
    assert_int_equal(bench.store->retained_count, 1);
    bench_deinit(&bench);
  }
}

static void clean_sessions_make_no_records(void **state)
{
  (void)state;
  for (uint8_t shard_count = 1; shard_count <= 2; shard_count++) {
    struct bench bench;
    bench_init_journal(&bench, shard_count, NULL, true);
    bench.store->hold_commits = true;
    struct client *subs[2];
    for (uint8_t i = 0; i < 2; i++) {
      subs[i] = client_new_on(&bench, i ? MQTT_5_0 : MQTT_3_1_1, i % shard_count);
      client_subscribe(subs[i], "t/#", 2);
      client_subscribe(subs[i], "$share/g/s", 1);
    }
    struct client *pub = client_new(&bench, MQTT_5_0, "pub");
    for (uint8_t qos = 0; qos <= 2; qos++) {
      client_publish(pub, "t/1", "m", qos, false);
      for (uint8_t i = 0; i < 2; i++) client_take(subs[i], "t/1", "m", qos);
      client_publish(pub, "s", "m", qos, false);
      client_take(subs[client_waiting(subs[0]) == 0], "s", "m", qos < 1 ? qos : 1);
    }
    for (uint8_t i = 0; i < 2; i++) client_unsubscribe(subs[i], "t/#");
    for (uint8_t i = 0; i < 2; i++) client_drop(subs[i]);
    // Nor does QoS 0 to a durable one that is there or away.
    bench.store->hold_commits = false;
    struct client *durable = client_lasting(&bench, MQTT_5_0, "durable");
    bench.store->hold_commits = true;
    client_queue_subscribe(durable, &(struct sub){.filter = "t/#", .qos = 2}, 1);
    bench_run(&bench);
    bench_commit(&bench, SIZE_MAX);
    client_expect(durable, MQTT_SUBACK);
    size_t batches = bench.store->batch_count;
    client_publish(pub, "t/1", "m", 0, false);
    client_take(durable, "t/1", "m", 0);
    client_drop(durable);
    bench_commit(&bench, SIZE_MAX);
    client_publish(pub, "t/1", "m", 0, false);
    assert_int_equal(store_bench_records(bench.store, RECORD_MESSAGE, batches, NULL), 0);
    assert_int_equal(bench_counters(&bench).dropped[DROP_OFFLINE_QOS_0], 1);
    bench_deinit(&bench);
  }
}

// ---- Across shards

static void publishers_on_other_shards_wait(void **state)
{
  struct bench *bench = bench_make_journal(state, 2, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t/#", 2);
  struct client *pub = client_new_on(bench, MQTT_5_0, 1);
  assert_int_equal(pub->shard, 1);
  struct client *here = client_new_on(bench, MQTT_5_0, 0);
  client_subscribe(here, "here", 1);
  bench->store->hold_commits = true;

  uint16_t first = client_send_publish(pub, "t/1", "x", 1, false);
  client_take(sub, "t/1", "x", 1);
  uint16_t second = client_send_publish(pub, "here", "x", 1, false);  // needs no disk: stands behind the first
  client_take(here, "here", "x", 1);
  uint16_t third = client_send_publish(pub, "t/2", "x", 2, false),
           fourth = client_send_publish(pub, "retained", "x", 1, true);
  uint16_t fifth = client_send_publish(pub, "nobody", "x", 1, false);
  client_expect_nothing(pub);
  client_expect_nothing(sub);
  bench_commit(bench, 1);
  client_expect_ack(pub, MQTT_PUBACK, first, MQTT_SUCCESS);
  client_expect_ack(pub, MQTT_PUBACK, second, MQTT_SUCCESS);
  client_expect_nothing(pub);
  bench_commit(bench, SIZE_MAX);
  client_expect_ack(pub, MQTT_PUBREC, third, MQTT_SUCCESS);
  client_expect_ack(pub, MQTT_PUBACK, fourth, MQTT_NO_MATCHING_SUBSCRIBERS);
  client_expect_ack(pub, MQTT_PUBACK, fifth, MQTT_NO_MATCHING_SUBSCRIBERS);
  client_expect_publish(sub, "t/2", "x");
  // Nothing durable matches and nothing waits: answered when the other shard has looked.
  second = client_send_publish(pub, "here", "x", 1, false);
  client_expect_ack(pub, MQTT_PUBACK, second, MQTT_SUCCESS);
  client_take(here, "here", "x", 1);
  assert_int_equal(bench->shards[1]->journal.wanted, bench->shards[1]->journal.committed);
  // A mail that never comes holds it up, whatever is safe.
  bench->hold[1][0] = true;
  first = client_send_publish(pub, "t/1", "x", 1, false);
  bench_commit(bench, SIZE_MAX);
  client_expect_nothing(pub);
  bench->hold[1][0] = false;
  bench_run(bench);
  client_expect_nothing(pub);
  bench->hold[0][1] = true;
  bench_commit(bench, SIZE_MAX);
  client_expect_nothing(pub);
  bench->hold[0][1] = false;
  bench_run(bench);
  client_expect_ack(pub, MQTT_PUBACK, first, MQTT_SUCCESS);
  bench->store->hold_commits = false;
}

// What shard 0 has subscribers for is mailed there; only what durable sessions and groups have waits for the journal.
static void other_shards_know_what_is_durable(void **state)
{
  struct bench *bench = bench_make_journal(state, 2, NULL, true);
  char id[16];
  struct client *pub = client_new_on(bench, MQTT_5_0, 1);
  bench_new_id(bench, 0, id);
  struct client *clean = client_new(bench, MQTT_5_0, id), *durable = client_lasting(bench, MQTT_5_0, "durable");
  struct client *other = client_lasting(bench, MQTT_5_0, "other");
  client_subscribe(clean, "f", 1);
  enum change { NOTHING, DURABLE, TWO, ONE, SHARED, NONE, ENDED, RESTORED, CHANGES };
  for (enum change change = NOTHING; change < CHANGES; change++) {
    if (change == DURABLE) client_subscribe(durable, "f", 1);
    if (change == TWO) client_subscribe(other, "f", 1);
    if (change == ONE) client_unsubscribe(durable, "f");
    if (change == SHARED) {
      client_unsubscribe(other, "f");
      client_subscribe(clean, "$share/g/f", 1);
    }
    if (change == NONE) client_unsubscribe(clean, "$share/g/f");
    if (change == ENDED) {
      client_subscribe(durable, "f", 1);
      client_new(bench, MQTT_5_0, "durable");
    }
    if (change == RESTORED) {
      client_subscribe(other, "f", 1);
      bench_crash(bench, 1000);
      pub = client_new_on(bench, MQTT_5_0, 1);
    }
    bool waits = change != NOTHING && change != NONE && change != ENDED;
    bench->hold[0][1] = true;  // shard 0 is not heard of
    bench->store->hold_commits = true;
    uint16_t packet_id = client_send_publish(pub, "f", "x", 1, false);
    if (!waits) client_expect_ack(pub, MQTT_PUBACK, packet_id, MQTT_SUCCESS);
    client_expect_nothing(pub);
    bench->hold[0][1] = false;
    bench_run(bench);
    if (change == SHARED) client_expect_ack(pub, MQTT_PUBACK, packet_id, MQTT_SUCCESS);  // no member was durable
    client_expect_nothing(pub);
    bench->store->hold_commits = false;
    bench_run(bench);
    if (waits && change != SHARED) client_expect_ack(pub, MQTT_PUBACK, packet_id, MQTT_SUCCESS);
    client_expect_nothing(pub);
    struct client *subs[] = {clean, durable, other};
    for (unsigned i = 0; i < 3; i++)
      while (subs[i]->connection && client_waiting(subs[i])) client_take(subs[i], "f", "x", 1);
  }
}

// More turns wait than a milestone remembers: all come in the end, in order, none before its time.
static void many_batches_of_other_shards(void **state)
{
  struct bench *bench = bench_make_journal(state, 3, NULL, true);
  struct client *sub = client_durable(bench, "sub", "t/#", 1);
  client_drop(sub);
  struct client *pubs[2];
  for (uint8_t i = 0; i < 2; i++) {
    pubs[i] = client_new_on(bench, MQTT_3_1_1, (uint8_t)(i + 1));
  }
  bench->store->hold_commits = true;
  size_t first_batch = bench->store->batch_count;
  uint16_t acked[2] = {1, 1};
  for (unsigned i = 0; i < 40; i++) client_send_publish(pubs[i % 2], i % 5 ? "t/1" : "nobody", "x", 1, false);
  while (!store_bench_all_safe(bench->store)) {
    bench_commit(bench, 1);
    for (size_t i = 0; i < 2; i++) {
      while (client_waiting(pubs[i])) client_expect_ack(pubs[i], MQTT_PUBACK, acked[i]++, MQTT_SUCCESS);
      // What has been acknowledged is in the batches that are safe.
      unsigned durable = 0, safe = 0;
      for (unsigned k = 0; k < 40; k++)
        if (k % 2 == i && k / 2 + 1 < acked[i] && k % 5) durable++;
      safe = (unsigned)store_bench_find(bench->store, "sub")->tail;
      assert_true(durable <= safe);
    }
  }
  assert_int_equal(acked[0], 21);
  assert_int_equal(acked[1], 21);
  assert_int_equal(store_bench_records(bench->store, RECORD_MESSAGE, first_batch, NULL), 32);
  bench->store->hold_commits = false;
  bench_run(bench);
}

// ---- Connections that end, and that hold too much

static void connections_end_while_they_wait(void **state)
{
  (void)state;
  enum way { LOST, DISCONNECT, TAKEN_OVER, FAULT, BY_BROKER, LAST };
  for (enum way way = LOST; way < LAST; way++) {
    struct scene scene;
    begin(&scene);
    scene.bench.store->hold_commits = false;
    struct client *durable = client_lasting(&scene.bench, MQTT_5_0, "d");
    scene.bench.store->hold_commits = true;
    client_send_publish(durable, "t/1", "x", 1, false);
    client_send_publish(durable, "t/1", "x", 2, false);
    client_queue_subscribe(durable, &(struct sub){.filter = "z", .qos = 1}, 1);
    bench_run(&scene.bench);
    client_expect_nothing(durable);
    struct client *again = NULL;
    switch (way) {
      case LOST: client_drop(durable); break;
      case DISCONNECT: client_send(durable, &(struct mqtt_packet){.type = MQTT_DISCONNECT}); break;
      case TAKEN_OVER:
        again = client_open(&scene.bench, MQTT_5_0, 0);
        client_send(again, &(struct mqtt_packet){.type = MQTT_CONNECT,
                                                 .connect = {.version = MQTT_5_0, .client_id = span_text("d")}});
        break;
      case FAULT: client_send_bytes(durable, "\xf8\0", 2); break;
      case BY_BROKER:
        shard_disconnect(scene.bench.shards[0], durable->connection, MQTT_SERVER_SHUTTING_DOWN);
        bench_run(&scene.bench);
        break;
      case LAST: break;
    }
    client_expect_nothing(durable);
    bench_commit(&scene.bench, SIZE_MAX);
    // What it owes goes out before it closes.
    if (way != LOST) {
      client_expect(durable, MQTT_PUBACK);
      client_expect(durable, MQTT_PUBREC);
      client_expect(durable, MQTT_SUBACK);
      if (way != DISCONNECT) client_expect(durable, MQTT_DISCONNECT);
      client_expect_closed(durable);
    }
    bench_commit(&scene.bench, SIZE_MAX);
    if (again) client_expect(again, MQTT_CONNACK);
    if (again) client_expect_nothing(again);
    finish(&scene);
  }
}

static void closing_does_not_wait_for_ever(void **state)
{
  struct scene *scene = *state;
  client_send_publish(scene->pub, "t/1", "x", 1, false);
  client_send(scene->pub, &(struct mqtt_packet){.type = MQTT_DISCONNECT});
  bench_advance(&scene->bench, LINGER_MS - 1);
  assert_non_null(scene->pub->connection);
  bench_advance(&scene->bench, 1);
  client_expect_closed(scene->pub);
}

static void clients_that_hold_too_much_are_not_read_from(void **state)
{
  (void)state;
  struct scene scene;
  begin_with(&scene, 1, NULL, MQTT_3_1_1);
  struct client *other = client_open(&scene.bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, "other");
  packet.connect.keep_alive_s = 3600;
  client_connect_packet(other, &packet);
  unsigned sent = 0;
  while (!scene.pub->paused) {
    client_send_publish(scene.pub, "t/1", "x", 1, false);
    assert_true(++sent < 60000);
  }
  assert_true(sent * 4 > CONTROL_HIGH);
  // Its keep alive does not end it: it has no way to be heard.
  bench_advance(&scene.bench, 3000 * 1000);
  assert_non_null(scene.pub->connection);
  client_publish(other, "live", "m", 1, false);
  scene.bench.store->hold_commits = false;
  bench_run(&scene.bench);
  for (unsigned i = 0; i < sent; i++) client_expect(scene.pub, MQTT_PUBACK);
  assert_false(scene.pub->paused);
  client_expect_nothing(scene.pub);
  assert_int_equal(bench_counters(&scene.bench).packets_sent[MQTT_PUBACK], sent + 1);
  finish(&scene);
}

static void slow_transports_get_them_in_pieces(void **state)
{
  struct scene *scene = *state;
  scene->pub->write_chunk = 3;
  uint16_t ids[50];
  for (size_t i = 0; i < 50; i++) {
    ids[i] = client_send_publish(scene->pub, "t/1", "x", 1, false);
    if (i % 7 == 0) bench_commit(&scene->bench, 1);
  }
  scene->pub->stalled = true;
  bench_commit(&scene->bench, SIZE_MAX);
  client_unstall(scene->pub);
  for (size_t i = 0; i < 50; i++) {
    while (client_waiting(scene->pub) == 0) client_unstall(scene->pub);
    while (client_waiting(scene->pub) < 4) client_unstall(scene->pub);
    client_expect_ack(scene->pub, MQTT_PUBACK, ids[i], MQTT_SUCCESS);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_SCENE(puback_waits),
      WITH_SCENE(qos_2_waits_both_ways),
      WITH_SCENE(durable_publishers_get_pubcomp_when_it_is_safe),
      cmocka_unit_test(suback_and_unsuback_wait),
      WITH_SCENE(connack_of_durable_sessions_waits),
      WITH_SCENE(retained_messages_wait),
      WITH_SCENE(what_needs_no_disk_is_not_held_up),
      WITH_SCENE(each_batch_releases_its_own),
      WITH_SCENE(refusals_keep_their_place),
      cmocka_unit_test(other_durabilities_wait_for_nothing),
      cmocka_unit_test(clean_sessions_make_no_records),
      WITH_BENCH(publishers_on_other_shards_wait),
      WITH_BENCH(other_shards_know_what_is_durable),
      WITH_BENCH(many_batches_of_other_shards),
      cmocka_unit_test(connections_end_while_they_wait),
      WITH_SCENE(closing_does_not_wait_for_ever),
      cmocka_unit_test(clients_that_hold_too_much_are_not_read_from),
      WITH_SCENE(slow_transports_get_them_in_pieces),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
