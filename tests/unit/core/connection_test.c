// Bytes in any portions, time-outs, pauses, ends.
#include "bench.h"

#include "core/shard_internal.h"

enum { SLOW_MS = 100 };  // how often a publisher that is paused for memory goes on

// ---- Portions

// A conversation of every kind of packet; the answers must not depend on how the bytes arrive.
static void queue_conversation(struct client *client)
{
  struct mqtt_packet packet = connect_packet(client->version, "talker");
  client_queue(client, &packet);
  client_queue_subscribe(client, &(struct sub){.filter = "a/#", .qos = 2}, 1);
  client_queue_bytes(client, "\xc0\0", 2);
  char payload[300];
  memset(payload, 'p', sizeof payload);
  payload[sizeof payload - 1] = 0;
  for (uint8_t qos = 0; qos <= 2; qos++) {
    packet = publish_packet(client, "a/b", payload, qos);
    client_queue(client, &packet);
  }
  packet = (struct mqtt_packet){.type = MQTT_PUBREL, .ack = {.packet_id = (uint16_t)(client->next_id - 1)}};
  client_queue(client, &packet);
  client_queue_bytes(client, "\xc0\0", 2);
}

static void input_may_be_cut_anywhere(void **state)
{
  (void)state;
  for (enum mqtt_version version = MQTT_3_1_1; version <= MQTT_5_0; version++) {
    uint8_t whole[2048];
    size_t whole_size = 0;
    for (size_t chunk = 0; chunk < 60; chunk++) {
      struct bench bench;
      bench_init(&bench, 1, NULL);
      struct client *client = client_open(&bench, version, 0);
      client->read_chunk = chunk;
      queue_conversation(client);
      bench_run(&bench);
      // Acknowledgements and messages may be mixed in another way: compare what came, not when.
      struct span got = buffer_peek(&client->incoming);
      if (chunk == 0) {
        assert_true(got.size < sizeof whole);
        memcpy(whole, got.at, got.size);
        whole_size = got.size;
      }
      assert_int_equal(got.size, whole_size);
      client_expect(client, MQTT_CONNACK);
      unsigned counts[16] = {0};
      while (client_waiting(client) > 0) {
        struct mqtt_fixed_header header = {0};
        assert_int_equal(mqtt_fixed_header(buffer_peek(&client->incoming), &header), MQTT_HEADER_OK);
        counts[client_expect(client, (enum mqtt_packet_type)(header.first >> 4))->type]++;
      }
      assert_int_equal(counts[MQTT_SUBACK], 1);
      assert_int_equal(counts[MQTT_PUBLISH], 3);
      assert_int_equal(counts[MQTT_PUBACK], 1);
      assert_int_equal(counts[MQTT_PUBREC], 1);
      assert_int_equal(counts[MQTT_PUBCOMP], 1);
      assert_int_equal(counts[MQTT_PINGRESP], 2);
      struct counters counters = bench_counters(&bench);
      assert_int_equal(counters.packets_received[MQTT_PUBLISH], 3);
      assert_int_equal(counters.packets_received[MQTT_PINGREQ], 2);
      assert_int_equal(counters.packets_sent[MQTT_PUBLISH], 3);
      assert_int_equal(counters.bytes_sent, whole_size);
      bench_deinit(&bench);
    }
  }
}

// The same cut once at every place: two portions.
static void input_may_be_cut_once(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *model = client_open(bench, MQTT_5_0, 0);
  queue_conversation(model);
  uint8_t conversation[2048];
  struct span bytes = span_of(conversation, buffer_size(&model->outgoing));
  assert_true(bytes.size <= sizeof conversation);
  memcpy(conversation, buffer_peek(&model->outgoing).at, bytes.size);
  client_drop(model);
  for (size_t cut = 0; cut <= bytes.size; cut++) {
    struct client *client = client_open(bench, MQTT_5_0, 0);
    if (cut) client_send_bytes(client, bytes.at, cut);
    if (cut < bytes.size) client_send_bytes(client, bytes.at + cut, bytes.size - cut);
    assert_non_null(client->connection);
    assert_null(client->connection->input);
    struct counters counters = bench_counters(bench);
    assert_int_equal(counters.publish_received, 3 * (cut + 1));
    client_drop(client);
  }
}

static void packets_are_limited(void **state)
{
  struct limits limits = limits_default();
  limits.packet_size = 100;
  struct bench *bench = bench_make(state, 1, &limits);
  char payload[101];
  memset(payload, 'x', sizeof payload);
  for (size_t size = 90; size <= 100; size++) {
    struct client *client = client_new(bench, MQTT_5_0, "c");
    payload[size] = 0;
    struct mqtt_packet packet = publish_packet(client, "t", payload, 0);
    size_t whole = mqtt_encoded_size(MQTT_5_0, &packet);
    client_send(client, &packet);
    payload[size] = 'x';
    if (whole <= 100) {
      client_expect_nothing(client);
      assert_non_null(client->connection);
    } else {
      client_expect_disconnect(client, MQTT_PACKET_TOO_LARGE);
    }
  }
  // Known from the header alone: nothing is gathered.
  struct client *client = client_new(bench, MQTT_5_0, "d");
  client_send_bytes(client, "\x30\xff\xff\xff\x7f", 5);
  client_expect_disconnect(client, MQTT_PACKET_TOO_LARGE);
  // For a CONNECT too, without a word.
  client = client_open(bench, MQTT_5_0, 0);
  client_send_bytes(client, "\x10\xff\x7f", 3);
  client_expect_closed(client);
  // A length that is none.
  client = client_new(bench, MQTT_5_0, "d");
  client_send_bytes(client, "\x30\xff\xff\xff\xff", 5);
  client_expect_disconnect(client, MQTT_MALFORMED_PACKET);
  // Lower limits hold for those that come later.
  client = client_new(bench, MQTT_5_0, "d");
  limits.packet_size = 20;
  bench_set_limits(bench, &limits);
  client_publish(client, "topic", "more than twenty bytes", 0, false);
  assert_non_null(client->connection);
  assert_true(bench_logged(bench, "client_error"));
}

static void packets_of_servers_are_errors(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  static const char *const packets[] = {"\x20\2\0\0", "\x90\3\0\1\0", "\xb0\2\0\1", "\xd0\0", "\0\0"};
  static const size_t sizes[] = {4, 5, 4, 2, 2};
  for (size_t i = 0; i < 5; i++) {
    struct client *client = client_new(bench, MQTT_3_1_1, "c");
    client_send_bytes(client, packets[i], sizes[i]);
    client_expect_closed(client);
  }
  assert_int_equal(bench_counters(bench).disconnects_protocol, 5);
}

// ---- Time

static void connecting_has_a_limit(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *silent = client_open(bench, MQTT_5_0, 0);
  struct client *slow = client_open(bench, MQTT_5_0, 0);
  client_send_bytes(slow, "\x10\x20\0\4", 4);
  bench_advance(bench, 9000);
  client_send_bytes(slow, "MQ", 2);
  struct client *fine = client_new(bench, MQTT_5_0, "fine");
  bench_advance(bench, 999);
  assert_non_null(silent->connection);
  bench_advance(bench, 1);
  client_expect_closed(silent);
  client_expect_closed(slow);
  bench_advance(bench, 20000);
  assert_non_null(fine->connection);
  assert_int_equal(bench_counters(bench).connect_timeouts, 2);
}

static void keep_alive_is_one_and_a_half(void **state)
{
  (void)state;
  for (enum mqtt_version version = MQTT_3_1; version <= MQTT_5_0; version++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *client = client_open(&bench, version, 0);
    struct mqtt_packet packet = connect_packet(version, "c");
    packet.connect.keep_alive_s = 10;
    client_connect_packet(client, &packet);
    for (unsigned i = 0; i < 5; i++) {
      bench_advance(&bench, 14999);
      client_send_bytes(client, "\xc0\0", 2);
      client_expect(client, MQTT_PINGRESP);
    }
    client_send_bytes(client, "\xc0", 1);  // half a packet is none
    bench_advance(&bench, 14999);
    assert_non_null(client->connection);
    bench_advance(&bench, 1);
    client_expect_disconnect(client, MQTT_KEEP_ALIVE_TIMEOUT);
    assert_int_equal(bench_counters(&bench).keep_alive_timeouts, 1);
    assert_int_equal(shard_next_ms(bench.shards[0]), -1);  // nothing is left to wait for
    bench_deinit(&bench);
  }
}

static void closing_does_not_wait_for_ever(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  client->stalled = true;
  client_send_bytes(client, "\x30\3\0\1#", 5);
  bench_advance(bench, LINGER_MS - 1);
  assert_non_null(client->connection);
  bench_advance(bench, 1);
  assert_null(client->connection);
  client_expect_closed(client);
}

// ---- Ends

static void disconnects_are_told(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  struct client *new = client_new(bench, MQTT_5_0, "n");
  struct client *old = client_lasting(bench, MQTT_3_1_1, "o");
  struct client *half = client_open(bench, MQTT_5_0, 1);
  shard_disconnect(bench->shards[new->shard], new->connection, MQTT_ADMINISTRATIVE_ACTION);
  shard_disconnect(bench->shards[new->shard], new->connection, MQTT_ADMINISTRATIVE_ACTION);  // already
  bench_run(bench);
  client_expect_disconnect(new, MQTT_ADMINISTRATIVE_ACTION);
  struct client *more = client_new(bench, MQTT_5_0, "m");
  for (uint8_t i = 0; i < 2; i++) shard_disconnect_all(bench->shards[i], MQTT_SERVER_SHUTTING_DOWN);
  bench_run(bench);
  client_expect_disconnect(more, MQTT_SERVER_SHUTTING_DOWN);
  client_expect_closed(old);
  client_expect_closed(half);
  assert_int_equal(bench_counters(bench).sessions, 1);
  assert_int_equal(bench_counters(bench).connections, 0);
}

// A driver that ends does not wait for those that take nothing.
static void whatever_is_left_can_be_closed(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  client->stalled = true;
  shard_disconnect_all(bench->shards[0], MQTT_SERVER_SHUTTING_DOWN);
  bench_run(bench);
  assert_non_null(client->connection);
  assert_ptr_equal(shard_any_connection(bench->shards[0]), client->connection);
  client_drop(client);
  assert_null(shard_any_connection(bench->shards[0]));
}

// Acknowledgements that were not written yet go out in front of the DISCONNECT; nothing goes behind it.
static void the_disconnect_is_last(void **state)
{
  (void)state;
  for (size_t chunk = 0; chunk < 8; chunk++) {
    struct bench bench;
    bench_init(&bench, 1, NULL);
    struct client *client = client_subscribed(&bench, MQTT_5_0, "c", "#", 0);
    client->stalled = true;
    client->write_chunk = chunk;
    struct mqtt_packet packet = publish_packet(client, "a", "x", 1);
    client_queue(client, &packet);
    client_queue_bytes(client, "\xc0\0\x30\3\0\1#\xc0\0\xc0\0", 11);
    bench_run(&bench);
    client_unstall(client);
    client_expect_ack(client, MQTT_PUBACK, packet.publish.packet_id, MQTT_SUCCESS);
    if (client_waiting(client) > 0 && buffer_peek(&client->incoming).at[0] == MQTT_PUBLISH << 4)
      client_expect_publish(client, "a", "x");
    if (client_waiting(client) > 0 && buffer_peek(&client->incoming).at[0] == MQTT_PINGRESP << 4)
      client_expect(client, MQTT_PINGRESP);
    client_expect_disconnect(client, MQTT_TOPIC_NAME_INVALID);
    bench_deinit(&bench);
  }
}

static void bytes_behind_the_end_are_ignored(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  client_queue_bytes(client, "\xe0\0\xc0\0garbage", 11);
  bench_run(bench);
  client_expect_closed(client);
  assert_int_equal(bench_counters(bench).disconnects_clean, 1);
  assert_int_equal(bench_counters(bench).disconnects_protocol, 0);
}

// ---- Pauses

// A client that does not read its acknowledgements is not read from either; when it reads, it goes on where it was.
static void unread_answers_pause(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *client = client_new(bench, MQTT_5_0, "c");
  client->stalled = true;
  client->read_chunk = 4096;
  unsigned sent = 0;
  for (; sent < 40000; sent++) {
    struct mqtt_packet packet = publish_packet(client, "t", "x", 1);
    if (packet.publish.packet_id == 0) packet.publish.packet_id = client->next_id++;
    client_queue(client, &packet);
  }
  bench_run(bench);
  assert_true(client->paused);
  assert_int_equal(bench_counters(bench).paused_connections, 1);
  uint64_t received = bench_counters(bench).publish_received;
  assert_true(received < 20000);
  assert_true(buffer_size(client->connection->control) < CONTROL_HIGH + 4096);
  client_unstall(client);
  assert_false(client->paused);
  assert_int_equal(bench_counters(bench).publish_received, sent);
  assert_int_equal(bench_counters(bench).paused_connections, 0);
  for (unsigned i = 0; i < sent; i++) client_expect(client, MQTT_PUBACK);
  // But it may be dead: keep alive goes on.
  client->stalled = true;
  for (unsigned i = 0; i < 40000; i++) client_queue_bytes(client, "\xc0\0", 2);
  bench_run(bench);
  assert_true(client->paused);
  bench_advance(bench, 900 * 1000 + LINGER_MS + 1);
  client_expect_closed(client);
}

static void a_full_mailbox_pauses_publishers(void **state)
{
  struct bench *bench = bench_make(state, 2, NULL);
  char here[16];
  bench_new_id(bench, 0, here);
  struct client *subscriber = client_new_on(bench, MQTT_3_1_1, 1);
  client_subscribe(subscriber, "t", 0);
  struct client *publisher = client_open(bench, MQTT_3_1_1, 0);
  struct mqtt_packet packet = connect_packet(MQTT_3_1_1, here);
  packet.connect.keep_alive_s = 10;
  client_connect_packet(publisher, &packet);
  publisher->read_chunk = 1000;
  bench->hold[0][1] = true;
  for (unsigned i = 0; i < 3 * OUTGOING_HIGH; i++) client_queue_bytes(publisher, "\x30\4\0\1tx", 6);
  bench_run(bench);
  assert_true(publisher->paused);
  size_t count;
  shard_outgoing(bench->shards[0], 1, &count);
  assert_in_range(count, OUTGOING_HIGH, OUTGOING_HIGH + 1000);
  bench_advance(bench, 800 * 1000);  // paused by us: not silent
  assert_non_null(publisher->connection);
  bench->hold[0][1] = false;
  bench->carry = 100;
  bench_run(bench);
  assert_false(publisher->paused);
  assert_int_equal(bench_counters(bench).delivered, 3 * OUTGOING_HIGH);
  for (unsigned i = 0; i < 3 * OUTGOING_HIGH; i++) client_expect_publish(subscriber, "t", "x");
  assert_true(bench_counters(bench).pauses > 0);
}

// Above the soft mark publishers go on slowly, one read at a time.
static void tight_memory_slows_publishers(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *publisher = client_new(bench, MQTT_5_0, "p");
  struct client *other = client_new(bench, MQTT_5_0, "o");
  bench->budget.limit_bytes = 1000000;
  bench->budget.used_bytes += 800000;
  bench_run(bench);  // seen at the end of a turn
  for (unsigned i = 0; i < 5; i++) client_queue_bytes(publisher, "\x30\5\0\1t\0x", 7);
  bench_run(bench);
  assert_true(publisher->paused);
  assert_int_equal(bench_counters(bench).publish_received, 1);
  client_send_bytes(other, "\xc0\0", 2);  // who does not publish is not slowed
  client_expect(other, MQTT_PINGRESP);
  assert_in_range(shard_next_ms(bench->shards[0]), 1, SLOW_MS);
  bench_advance(bench, SLOW_MS);
  assert_int_equal(bench_counters(bench).publish_received, 2);
  bench_advance(bench, SLOW_MS);
  assert_int_equal(bench_counters(bench).publish_received, 3);
  bench->budget.used_bytes -= 800000;
  bench_advance(bench, 1);
  assert_int_equal(bench_counters(bench).publish_received, 5);
  assert_false(publisher->paused);
}

// Over the limit: 5.0 clients are told, older ones wait unacknowledged, QoS 0 goes on and its copies are dropped.
static void full_memory_refuses(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct client *subscriber = client_subscribed(bench, MQTT_5_0, "s", "t", 1);
  struct client *new = client_new(bench, MQTT_5_0, "n");
  struct client *old = client_new(bench, MQTT_3_1_1, "o");
  bench->budget.limit_bytes = 1000000;
  bench->budget.used_bytes += 2000000;
  bench_run(bench);
  client_expect_ack(new, MQTT_PUBACK, client_send_publish(new, "t", "new", 1, false), MQTT_QUOTA_EXCEEDED);
  struct mqtt_packet packet = publish_packet(old, "t", "old", 1);
  client_queue(old, &packet);
  client_queue_bytes(old, "\xc0\0", 2);
  bench_run(bench);
  client_expect_nothing(old);
  assert_true(old->paused);
  bench_advance(bench, 5 * SLOW_MS);
  client_expect_nothing(old);
  client_publish(new, "t", "zero", 0, false);
  client_expect_nothing(subscriber);
  struct counters counters = bench_counters(bench);
  assert_int_equal(counters.publish_refused[REFUSE_MEMORY], 1);
  assert_int_equal(counters.dropped[DROP_MEMORY], 1);
  client_subscribe_with(subscriber, &(struct sub){.filter = "more"}, MQTT_QUOTA_EXCEEDED);
  bench->budget.used_bytes -= 2000000;
  bench_advance(bench, SLOW_MS);
  client_expect_ack(old, MQTT_PUBACK, packet.publish.packet_id, MQTT_SUCCESS);
  client_expect(old, MQTT_PINGRESP);
  client_take(subscriber, "t", "old", 1);
  assert_int_equal(bench_counters(bench).packets_received[MQTT_PUBLISH], 3);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(input_may_be_cut_anywhere),
      WITH_BENCH(input_may_be_cut_once),
      WITH_BENCH(packets_are_limited),
      WITH_BENCH(packets_of_servers_are_errors),
      WITH_BENCH(connecting_has_a_limit),
      cmocka_unit_test(keep_alive_is_one_and_a_half),
      WITH_BENCH(closing_does_not_wait_for_ever),
      WITH_BENCH(disconnects_are_told),
      WITH_BENCH(whatever_is_left_can_be_closed),
      cmocka_unit_test(the_disconnect_is_last),
      WITH_BENCH(bytes_behind_the_end_are_ignored),
      WITH_BENCH(unread_answers_pause),
      WITH_BENCH(a_full_mailbox_pauses_publishers),
      WITH_BENCH(tight_memory_slows_publishers),
      WITH_BENCH(full_memory_refuses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
