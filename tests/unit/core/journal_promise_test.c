// What an acknowledgement promises must be safe before it leaves, also where the record that it relies on is another's.
#include "bench.h"

#include "core/shard_internal.h"

static struct client *client_on(struct bench *bench, uint8_t shard)
{
  char id[16];
  unsigned number = 0;
  bench_id_on(bench, shard, &number, id);
  return client_new(bench, MQTT_5_0, id);
}

static uint16_t publish_retained(struct client *client, const char *payload)
{
  struct mqtt_packet packet = publish_packet(client, "t", payload, 1);
  packet.publish.retain = true;
  client_send(client, &packet);
  return packet.publish.packet_id;
}

// A value that comes to the journal's shard behind a later one is not recorded: the later one stands for it.
static void an_overtaken_value_waits_for_the_one_that_overtook_it(void **state)
{
  (void)state;
  struct bench bench;
  bench_init_journal(&bench, 2, NULL, true);
  struct client *slow = client_on(&bench, 1), *quick = client_on(&bench, 0);
  client_publish(slow, "t", "first", 1, true);
  bench.hold[1][0] = bench.store->hold_commits = true;
  uint16_t older = publish_retained(slow, "older");
  bench_advance(&bench, 10);
  uint16_t later = publish_retained(quick, "later");
  bench.hold[1][0] = false;
  bench_run(&bench);
  const struct message *retained = retained_find(&bench.shards[0]->retained, span_text("t"));
  assert_true(span_equal(message_payload(retained), span_text("later")));
  client_expect_nothing(quick);
  client_expect_nothing(slow);  // a crash now brings back "first"
  bench.store->hold_commits = false;
  bench_run(&bench);
  client_expect_ack(quick, MQTT_PUBACK, later, MQTT_NO_MATCHING_SUBSCRIBERS);
  client_expect_ack(slow, MQTT_PUBACK, older, MQTT_NO_MATCHING_SUBSCRIBERS);
  // When the later one is safe there is nothing to wait for.
  bench.hold[1][0] = true;
  older = publish_retained(slow, "older");
  bench_advance(&bench, 10);
  client_publish(quick, "t", "later", 1, true);
  bench.hold[1][0] = false;
  bench.store->hold_commits = true;
  bench_run(&bench);
  client_expect_ack(slow, MQTT_PUBACK, older, MQTT_NO_MATCHING_SUBSCRIBERS);
  bench_deinit(&bench);
}

// Numbers of sessions have 32 bits. One that is in use is not given a second time.
static void numbers_of_sessions_come_round(void **state)
{
  (void)state;
  struct bench bench;
  bench_init_journal(&bench, 1, NULL, true);
  client_subscribe(client_lasting(&bench, MQTT_5_0, "one"), "t", 1);
  client_subscribe(client_lasting(&bench, MQTT_5_0, "two"), "t", 1);
  bench.shards[0]->journal.next_session = UINT32_MAX;
  client_subscribe(client_lasting(&bench, MQTT_5_0, "last"), "t", 1);
  client_subscribe(client_lasting(&bench, MQTT_5_0, "three"), "t", 1);
  static const char *const ids[] = {"one", "two", "last", "three"};
  static const uint32_t numbers[] = {1, 2, UINT32_MAX, 3};
  for (size_t i = 0; i < 4; i++)
    assert_int_equal(session_find(bench.shards[0], span_text(ids[i]))->durable->number, numbers[i]);
  client_publish(client_new(&bench, MQTT_5_0, "pub"), "t", "x", 1, false);
  for (size_t i = 0; i < 4; i++) assert_int_equal(store_bench_find(bench.store, ids[i])->tail, 1);
  bench_deinit(&bench);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_of_sessions_come_round),
      cmocka_unit_test(an_overtaken_value_waits_for_the_one_that_overtook_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
