// Back-pressure for QoS 1 and 2: who waits for whom, and for how long.
#include "bench.h"

#include "core/shard_internal.h"

enum { QUEUE = 8, COUNT = 100 };

struct pair {
  struct bench bench;
  struct client *subscriber, *publisher;
};

static void pair_init(struct pair *pair, uint8_t shards)
{
  struct limits limits = limits_default();
  limits.queue_messages = QUEUE;
  limits.in_flight = 2;
  *pair = (struct pair){0};
  bench_init(&pair->bench, shards, &limits);
  char id[16];
  bench_new_id(&pair->bench, 0, id);
  pair->subscriber = client_lasting(&pair->bench, MQTT_5_0, id);
  client_subscribe(pair->subscriber, "t", 1);
  bench_new_id(&pair->bench, (uint8_t)(shards - 1), id);
  pair->publisher = client_open(&pair->bench, MQTT_3_1_1, (uint8_t)(shards - 1));
  client_connect(pair->publisher, id, true, 0);
  pair->publisher->read_chunk = 8;  // one message
}

static void queue_messages(struct pair *pair, unsigned count)
{
  for (unsigned i = 0; i < count; i++) {
    char payload[4];
    snprintf(payload, sizeof payload, "%02u", i);
    struct mqtt_packet packet = publish_packet(pair->publisher, "t", payload, 1);
    client_queue(pair->publisher, &packet);
  }
}

// A client that is slow but acknowledges gets everything: the publisher waits.
static void slow_clients_lose_nothing(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 3; shards++) {
    struct pair pair;
    pair_init(&pair, shards);
    queue_messages(&pair, COUNT);
    bench_run(&pair.bench);
    unsigned got = 0;
    bool waited = false;
    for (unsigned turns = 0; got < COUNT; turns++) {
      assert_true(turns < 10 * COUNT);
      waited |= bench_counters(&pair.bench).paused_connections > 0;
      assert_true(bench_counters(&pair.bench).copies_queued <= 2 * QUEUE);
      if (client_waiting(pair.subscriber) > 0) {
        char payload[4];
        snprintf(payload, sizeof payload, "%02u", got++);
        client_take(pair.subscriber, "t", payload, 1);
      }
      bench_advance(&pair.bench, 60);
    }
    assert_true(waited);
    struct counters counters = bench_counters(&pair.bench);
    assert_int_equal(counters.delivered, COUNT);
    assert_int_equal(counters.dropped[DROP_QUEUE_FULL], 0);
    assert_int_equal(counters.paused_connections, 0);
    bench_deinit(&pair.bench);
  }
}

// One that does not acknowledge holds nobody up for long.
static void stuck_clients_lose(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 2; shards++) {
    struct pair pair;
    pair_init(&pair, shards);
    queue_messages(&pair, COUNT);
    bench_advance(&pair.bench, 2 * LIVE_MS);
    assert_int_equal(bench_counters(&pair.bench).publish_received, COUNT);
    assert_true(bench_counters(&pair.bench).dropped[DROP_QUEUE_FULL] > COUNT / 2);
    assert_int_equal(bench_counters(&pair.bench).paused_connections, 0);
    for (uint8_t i = 0; i < shards; i++) {
      assert_int_equal(pair.bench.shards[i]->congested_count, 0);
      assert_int_equal(pair.bench.shards[i]->congested_shards, 0);
    }
    bench_deinit(&pair.bench);
  }
}

// One that goes away holds nobody up at all.
static void lost_clients_let_go(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 2; shards++) {
    struct pair pair;
    pair_init(&pair, shards);
    queue_messages(&pair, COUNT);
    bench_run(&pair.bench);
    assert_true(pair.publisher->paused);
    client_drop(pair.subscriber);
    assert_false(pair.publisher->paused);
    assert_int_equal(bench_counters(&pair.bench).publish_received, COUNT);
    bench_deinit(&pair.bench);
  }
}

// QoS 0 goes by the bytes that wait, and pauses nobody.
static void qos_0_waits_for_nobody(void **state)
{
  (void)state;
  struct pair pair;
  pair_init(&pair, 1);
  pair.subscriber->stalled = true;
  for (unsigned i = 0; i < COUNT; i++) client_publish(pair.publisher, "t", "x", 0, false);
  assert_int_equal(bench_counters(&pair.bench).publish_received, COUNT);
  assert_int_equal(bench_counters(&pair.bench).pauses, 0);
  bench_deinit(&pair.bench);
}

// Two that publish to each other do not wait for each other for ever.
static void a_circle_goes_on(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 2; shards++) {
    struct limits limits = limits_default();
    limits.queue_messages = QUEUE;
    limits.in_flight = 2;
    struct bench bench;
    bench_init(&bench, shards, &limits);
    struct client *clients[2];
    char id[16];
    for (uint8_t i = 0; i < 2; i++) {
      bench_new_id(&bench, i % shards, id);
      clients[i] = client_lasting(&bench, MQTT_5_0, id);
      client_subscribe_with(clients[i], &(struct sub){.filter = "t", .qos = 1}, MQTT_GRANTED_QOS_1);
    }
    for (unsigned n = 0; n < COUNT; n++) {
      for (unsigned i = 0; i < 2; i++) {
        struct mqtt_packet packet = publish_packet(clients[i], "t", "x", 1);
        client_queue(clients[i], &packet);
      }
    }
    bench_run(&bench);
    unsigned got = 0;
    for (unsigned turns = 0; turns < 20 * COUNT; turns++) {
      for (unsigned i = 0; i < 2; i++) {
        if (client_waiting(clients[i]) == 0) continue;
        struct mqtt_fixed_header header = {0};
        assert_int_equal(mqtt_fixed_header(buffer_peek(&clients[i]->incoming), &header), MQTT_HEADER_OK);
        const struct mqtt_packet *packet = client_expect(clients[i], (enum mqtt_packet_type)(header.first >> 4));
        if (packet->type != MQTT_PUBLISH) continue;
        got++;
        client_ack(clients[i], MQTT_PUBACK, packet->publish.packet_id, MQTT_SUCCESS);
      }
      bench_advance(&bench, 20);
    }
    struct counters counters = bench_counters(&bench);
    assert_int_equal(counters.publish_received, 2 * COUNT);
    assert_int_equal(got + counters.dropped[DROP_QUEUE_FULL], 4 * COUNT);
    assert_int_equal(counters.paused_connections, 0);
    bench_deinit(&bench);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(slow_clients_lose_nothing), cmocka_unit_test(stuck_clients_lose),
      cmocka_unit_test(lost_clients_let_go),       cmocka_unit_test(qos_0_waits_for_nobody),
      cmocka_unit_test(a_circle_goes_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
