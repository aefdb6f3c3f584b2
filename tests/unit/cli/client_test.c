// The client against a broker that this file plays by hand, over a Unix socket: every packet is read and answered in the
// test.
#include "cli/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"

enum { TURNS_MAX = 2000, TURN_MS = 5 };  // no test waits longer than ten seconds for something

struct bench {
  char folder[64];
  char path[96];
  int listener;
  int peer;  // the broker's end; -1: none
  struct buffer in;
  struct mqtt_packet packet;  // the last one that the broker read; its spans are in `held`
  uint8_t *held;
  enum mqtt_version version;
  struct client_settings settings;
  struct client *client;
  // What the client told.
  unsigned connected;
  unsigned lost;
  unsigned messages;
  unsigned published;
  enum mqtt_reason reason;
  uint64_t tag;
  uint8_t codes[8];
  size_t code_count;
  char topic[64];
  char payload[64];
  bool alias_shown;
};

// ---- What the client tells

static void on_connected(void *context, const struct mqtt_connack *connack)
{
  (void)connack;
  ((struct bench *)context)->connected++;
}

static void on_lost(void *context, const char *text, uint64_t retry_ms)
{
  (void)text;
  (void)retry_ms;
  ((struct bench *)context)->lost++;
}

static void on_message(void *context, const struct mqtt_publish *publish)
{
  struct bench *bench = context;
  bench->messages++;
  bench->alias_shown = MQTT_HAS(&publish->properties, TOPIC_ALIAS);
  snprintf(bench->topic, sizeof bench->topic, "%.*s", (int)publish->topic.size, (const char *)publish->topic.at);
  snprintf(bench->payload, sizeof bench->payload, "%.*s", (int)publish->payload.size, (const char *)publish->payload.at);
}

static void on_published(void *context, uint64_t tag, enum mqtt_reason reason)
{
  struct bench *bench = context;
  bench->published++;
  bench->tag = tag;
  bench->reason = reason;
}

static void on_subscribed(void *context, uint16_t packet_id, struct span codes)
{
  struct bench *bench = context;
  assert_true(packet_id != 0);
  assert_true(codes.size <= sizeof bench->codes);
  memcpy(bench->codes, codes.at, codes.size);
  bench->code_count = codes.size;
}

// ---- The bench

static int set_up(void **state)
{
  struct bench *bench = calloc(1, sizeof *bench);
  if (!bench) return -1;
  snprintf(bench->folder, sizeof bench->folder, "/tmp/skerry-client-test.XXXXXX");
  if (!mkdtemp(bench->folder)) return -1;
  snprintf(bench->path, sizeof bench->path, "%s/s", bench->folder);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", bench->path);
  bench->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(bench->listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(bench->listener, 4) < 0) return -1;
  bench->peer = -1;
  bench->version = MQTT_5_0;
  bench->settings = (struct client_settings){.address = {.unix_path = bench->path},
                                             .version = MQTT_5_0,
                                             .client_id = span_text("me"),
                                             .keep_alive_s = 60,
                                             .clean_start = true,
                                             .reconnect = true,
                                             .backoff_first_ms = 1};
  *state = bench;
  return 0;
}

static int tear_down(void **state)
{
  struct bench *bench = *state;
  client_destroy(bench->client);
  if (bench->peer >= 0) close(bench->peer);
  close(bench->listener);
  unlink(bench->path);
  rmdir(bench->folder);
  buffer_deinit(&bench->in);
  free(bench->held);
  free(bench);
  return 0;
}

static void turn(struct bench *bench)
{
  struct pollfd fd;
  if (client_state(bench->client) < CLIENT_ENDED) client_wait(bench->client, &fd, 1, TURN_MS);
}

static void start(struct bench *bench)
{
  const struct client_handler handler = {.context = bench,
                                         .connected = on_connected,
                                         .lost = on_lost,
                                         .message = on_message,
                                         .published = on_published,
                                         .subscribed = on_subscribed};
  bench->settings.version = bench->version;
  assert_int_equal(client_create(&bench->settings, &handler, &bench->client), OK);
  client_start(bench->client);
}

static void accept_peer(struct bench *bench)
{
  if (bench->peer >= 0) close(bench->peer);
  bench->peer = -1;
  buffer_consume(&bench->in, buffer_size(&bench->in));
  for (int i = 0; i < TURNS_MAX && bench->peer < 0; i++) {
    bench->peer = accept4(bench->listener, NULL, NULL, SOCK_NONBLOCK);
    if (bench->peer < 0) turn(bench);
  }
  assert_true(bench->peer >= 0);
}

// Takes one packet from what the broker has; false when none is whole.
static bool take_packet(struct bench *bench)
{
  struct mqtt_fixed_header header;
  struct mqtt_fault fault;
  struct span all = buffer_peek(&bench->in);
  if (mqtt_fixed_header(all, &header) != MQTT_HEADER_OK || all.size < (size_t)header.size + header.remaining) return false;
  free(bench->held);
  bench->held = malloc((size_t)header.remaining + 1);
  assert_non_null(bench->held);
  memcpy(bench->held, all.at + header.size, header.remaining);
  if (!mqtt_decode(bench->version, MQTT_FROM_CLIENT, header.first, span_of(bench->held, header.remaining), &bench->packet,
                   &fault))
    fail_msg("the client sent something wrong: %s", fault.text);
  buffer_consume(&bench->in, (size_t)header.size + header.remaining);
  return true;
}

static bool read_peer(struct bench *bench)
{
  uint8_t *at = buffer_reserve(&bench->in, 65536);
  assert_non_null(at);
  ssize_t size = recv(bench->peer, at, 65536, 0);
  if (size > 0) buffer_commit(&bench->in, (size_t)size);
  return size != 0;
}

static void expect(struct bench *bench, enum mqtt_packet_type type)
{
  for (int i = 0; i < TURNS_MAX; i++) {
    if (take_packet(bench)) {
      if (bench->packet.type != type)
        fail_msg("%s instead of %s", mqtt_packet_name(bench->packet.type), mqtt_packet_name(type));
      return;
    }
    turn(bench);
    if (!read_peer(bench)) fail_msg("the connection ended before %s", mqtt_packet_name(type));
  }
  fail_msg("no %s", mqtt_packet_name(type));
}

// Nothing is on its way from the client: it was given its turn, and the broker has read everything.
static void expect_nothing(struct bench *bench)
{
  turn(bench);
  turn(bench);
  (void)read_peer(bench);
  if (take_packet(bench)) fail_msg("unexpected %s", mqtt_packet_name(bench->packet.type));
}

static void answer(struct bench *bench, const struct mqtt_packet *packet)
{
  uint8_t bytes[1024];
  size_t size = mqtt_encode(bench->version, packet, bytes, sizeof bytes);
  assert_true(size > 0);
  assert_int_equal(send(bench->peer, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static void answer_ack(struct bench *bench, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason)
{
  answer(bench, &(struct mqtt_packet){.type = type, .ack = {.packet_id = packet_id, .reason = reason}});
}

static void answer_connack(struct bench *bench, bool session_present, const struct mqtt_properties *properties)
{
  struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.session_present = session_present}};
  if (properties) packet.connack.properties = *properties;
  unsigned before = bench->connected;
  answer(bench, &packet);
  for (int i = 0; i < TURNS_MAX && bench->connected == before; i++) turn(bench);
  assert_int_equal(bench->connected, before + 1);
}

static void connect_now(struct bench *bench, bool session_present, const struct mqtt_properties *properties)
{
  accept_peer(bench);
  expect(bench, MQTT_CONNECT);
  answer_connack(bench, session_present, properties);
}

static void cut(struct bench *bench)
{
  unsigned before = bench->lost;
  close(bench->peer);
  bench->peer = -1;
  for (int i = 0; i < TURNS_MAX && bench->lost == before; i++) turn(bench);
  assert_int_equal(bench->lost, before + 1);
}

static void publish(struct bench *bench, uint8_t qos, const char *payload, uint64_t tag)
{
  struct mqtt_publish message = {.qos = qos, .topic = span_text("t"), .payload = span_text(payload)};
  assert_int_equal(client_publish(bench->client, &message, tag), OK);
}

static void expect_publish(struct bench *bench, const char *payload, uint16_t packet_id, bool dup)
{
  expect(bench, MQTT_PUBLISH);
  assert_true(span_equal(bench->packet.publish.payload, span_text(payload)));
  assert_int_equal(bench->packet.publish.packet_id, packet_id);
  assert_int_equal(bench->packet.publish.dup, dup);
}

static void until_published(struct bench *bench, unsigned count)
{
  for (int i = 0; i < TURNS_MAX && bench->published < count; i++) turn(bench);
  assert_int_equal(bench->published, count);
}

static void until_state(struct bench *bench, enum client_state wanted)
{
  for (int i = 0; i < TURNS_MAX && client_state(bench->client) != wanted; i++) turn(bench);
  assert_int_equal(client_state(bench->client), wanted);
}

// ---- Connecting

static void connects_and_ends(void **state)
{
  struct bench *bench = *state;
  bench->settings.will =
      (struct mqtt_will){.present = true, .qos = 1, .topic = span_text("w"), .payload = span_text("gone")};
  bench->settings.has_user_name = true;
  bench->settings.user_name = span_text("u");
  start(bench);
  accept_peer(bench);
  expect(bench, MQTT_CONNECT);
  const struct mqtt_connect *connect = &bench->packet.connect;
  assert_true(span_equal(connect->client_id, span_text("me")));
  assert_true(span_equal(connect->user_name, span_text("u")));
  assert_true(span_equal(connect->will.payload, span_text("gone")));
  assert_false(connect->has_password);
  assert_true(connect->clean_start);
  assert_int_equal(connect->keep_alive_s, 60);
  assert_int_equal(connect->properties.topic_alias_maximum, CLIENT_TOPIC_ALIASES);
  answer_connack(bench, false, NULL);
  assert_int_equal(client_state(bench->client), CLIENT_ONLINE);
  client_end(bench->client, true);
  expect(bench, MQTT_DISCONNECT);
  assert_int_equal(bench->packet.disconnect.reason, MQTT_DISCONNECT_WITH_WILL);
  close(bench->peer);
  bench->peer = -1;
  until_state(bench, CLIENT_ENDED);
}

static void refused(void **state)
{
  struct bench *bench = *state;
  start(bench);
  accept_peer(bench);
  expect(bench, MQTT_CONNECT);
  answer(bench, &(struct mqtt_packet){.type = MQTT_CONNACK, .connack = {.reason = MQTT_NOT_AUTHORIZED}});
  until_state(bench, CLIENT_FAILED);
  assert_int_equal(client_exit_code(bench->client), MQTT_NOT_AUTHORIZED);
  assert_non_null(strstr(client_failure(bench->client), "(0x87)"));
}

static void nobody_listens(void **state)
{
  struct bench *bench = *state;
  unlink(bench->path);
  start(bench);
  assert_int_equal(client_state(bench->client), CLIENT_FAILED);
  assert_int_equal(client_exit_code(bench->client), 1);
  struct mqtt_publish message = {.topic = span_text("t")};
  assert_int_equal(client_publish(bench->client, &message, 1), ERR_CLOSED);
}

static void not_mqtt(void **state)
{
  struct bench *bench = *state;
  start(bench);
  accept_peer(bench);
  expect(bench, MQTT_CONNECT);
  assert_int_equal(send(bench->peer, "SSH-2.0-x\r\n", 11, MSG_NOSIGNAL), 11);
  close(bench->peer);
  bench->peer = -1;
  until_state(bench, CLIENT_FAILED);
}

static void taken_over(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  answer(bench, &(struct mqtt_packet){.type = MQTT_DISCONNECT, .disconnect = {.reason = MQTT_SESSION_TAKEN_OVER}});
  until_state(bench, CLIENT_FAILED);  // coming back would be a fight
  assert_int_equal(client_exit_code(bench->client), MQTT_SESSION_TAKEN_OVER);
}

static void comes_back_after_shutdown(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  answer(bench, &(struct mqtt_packet){.type = MQTT_DISCONNECT, .disconnect = {.reason = MQTT_SERVER_SHUTTING_DOWN}});
  for (int i = 0; i < TURNS_MAX && bench->lost == 0; i++) turn(bench);
  accept_peer(bench);
  expect(bench, MQTT_CONNECT);
  assert_false(bench->packet.connect.clean_start);  // it takes up what there may be
}

static void assigned_id_is_kept(void **state)
{
  struct bench *bench = *state;
  bench->settings.client_id = (struct span){0};
  start(bench);
  struct mqtt_properties properties = {.present = 1ULL << MQTT_PROPERTY_ASSIGNED_CLIENT_ID,
                                       .assigned_client_id = span_text("auto-7")};
  connect_now(bench, false, &properties);
  cut(bench);
  accept_peer(bench);
  expect(bench, MQTT_CONNECT);
  assert_true(span_equal(bench->packet.connect.client_id, span_text("auto-7")));
}

// ---- Publishing

static void qos_0_is_done_when_sent(void **state)
{
  struct bench *bench = *state;
  start(bench);
  publish(bench, 0, "early", 1);  // waits for the connection
  connect_now(bench, false, NULL);
  expect_publish(bench, "early", 0, false);
  until_published(bench, 1);
  assert_int_equal(bench->tag, 1);
  assert_int_equal(client_unfinished(bench->client), 0);
  assert_int_equal(client_queued_bytes(bench->client), 0);
}

static void qos_1_is_done_when_acknowledged(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  publish(bench, 1, "a", 7);
  expect_publish(bench, "a", 1, false);
  expect_nothing(bench);
  assert_int_equal(bench->published, 0);
  answer_ack(bench, MQTT_PUBCOMP, 1, MQTT_SUCCESS);  // not what it waits for
  answer_ack(bench, MQTT_PUBACK, 2, MQTT_SUCCESS);   // not its identifier
  expect_nothing(bench);
  assert_int_equal(bench->published, 0);
  answer_ack(bench, MQTT_PUBACK, 1, MQTT_QUOTA_EXCEEDED);
  until_published(bench, 1);
  assert_int_equal(bench->tag, 7);
  assert_int_equal(bench->reason, MQTT_QUOTA_EXCEEDED);
}

static void qos_2_in_four_steps(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  publish(bench, 2, "a", 7);
  expect_publish(bench, "a", 1, false);
  answer_ack(bench, MQTT_PUBREC, 1, MQTT_SUCCESS);
  expect(bench, MQTT_PUBREL);
  assert_int_equal(bench->packet.ack.packet_id, 1);
  assert_int_equal(bench->published, 0);
  answer_ack(bench, MQTT_PUBCOMP, 1, MQTT_SUCCESS);
  until_published(bench, 1);
  publish(bench, 2, "b", 8);
  expect_publish(bench, "b", 2, false);
  answer_ack(bench, MQTT_PUBREC, 2, MQTT_NOT_AUTHORIZED);  // ends it
  until_published(bench, 2);
  assert_int_equal(bench->reason, MQTT_NOT_AUTHORIZED);
}

static void receive_maximum_is_honoured(void **state)
{
  struct bench *bench = *state;
  start(bench);
  struct mqtt_properties properties = {.present = 1ULL << MQTT_PROPERTY_RECEIVE_MAXIMUM, .receive_maximum = 2};
  connect_now(bench, false, &properties);
  publish(bench, 1, "a", 1);
  publish(bench, 1, "b", 2);
  publish(bench, 1, "c", 3);
  expect_publish(bench, "a", 1, false);
  expect_publish(bench, "b", 2, false);
  expect_nothing(bench);
  answer_ack(bench, MQTT_PUBACK, 2, MQTT_SUCCESS);
  expect_publish(bench, "c", 3, false);
  assert_int_equal(client_unfinished(bench->client), 2);
}

static void limits_of_the_broker(void **state)
{
  struct bench *bench = *state;
  start(bench);
  struct mqtt_properties properties = {.present = 1ULL << MQTT_PROPERTY_MAXIMUM_QOS |
                                                  1ULL << MQTT_PROPERTY_RETAIN_AVAILABLE |
                                                  1ULL << MQTT_PROPERTY_MAXIMUM_PACKET_SIZE,
                                       .maximum_qos = 1,
                                       .retain_available = 0,
                                       .maximum_packet_size = 20};
  connect_now(bench, false, &properties);
  publish(bench, 2, "a", 1);
  until_published(bench, 1);
  assert_int_equal(bench->reason, MQTT_QOS_NOT_SUPPORTED);
  publish(bench, 1, "0123456789abc", 2);  // 2 + 3 + 2 + 1 + 13 = 21 bytes
  until_published(bench, 2);
  assert_int_equal(bench->reason, MQTT_PACKET_TOO_LARGE);
  struct mqtt_publish retained = {.retain = true, .topic = span_text("t")};
  assert_int_equal(client_publish(bench->client, &retained, 3), OK);
  until_published(bench, 3);
  assert_int_equal(bench->reason, MQTT_RETAIN_NOT_SUPPORTED);
  publish(bench, 1, "0123456789ab", 4);
  expect_publish(bench, "0123456789ab", 3, false);
}

static void sent_again_in_order(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  publish(bench, 2, "a", 1);
  publish(bench, 2, "b", 2);
  publish(bench, 1, "c", 3);
  expect_publish(bench, "a", 1, false);
  expect_publish(bench, "b", 2, false);
  expect_publish(bench, "c", 3, false);
  answer_ack(bench, MQTT_PUBREC, 1, MQTT_SUCCESS);
  expect(bench, MQTT_PUBREL);
  cut(bench);
  publish(bench, 1, "d", 4);
  connect_now(bench, true, NULL);
  expect(bench, MQTT_PUBREL);
  assert_int_equal(bench->packet.ack.packet_id, 1);
  expect_publish(bench, "b", 2, true);
  expect_publish(bench, "c", 3, true);
  expect_publish(bench, "d", 4, false);
  answer_ack(bench, MQTT_PUBCOMP, 1, MQTT_PACKET_ID_NOT_FOUND);  // it was done with it before the cut
  until_published(bench, 1);
  assert_int_equal(bench->tag, 1);
  assert_int_equal(bench->reason, MQTT_SUCCESS);
}

static void sent_anew_without_a_session(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  publish(bench, 2, "a", 1);
  publish(bench, 2, "b", 2);
  expect_publish(bench, "a", 1, false);
  expect_publish(bench, "b", 2, false);
  answer_ack(bench, MQTT_PUBREC, 1, MQTT_SUCCESS);
  expect(bench, MQTT_PUBREL);
  cut(bench);
  publish(bench, 1, "c", 3);
  connect_now(bench, false, NULL);
  // The broker had taken "a" over; "b" is a new message for it.
  assert_int_equal(bench->published, 1);
  assert_int_equal(bench->tag, 1);
  expect_publish(bench, "b", 3, false);
  expect_publish(bench, "c", 4, false);
}

static void no_reconnection_unless_asked_for(void **state)
{
  struct bench *bench = *state;
  bench->settings.reconnect = false;
  start(bench);
  connect_now(bench, false, NULL);
  publish(bench, 1, "a", 1);
  expect_publish(bench, "a", 1, false);
  close(bench->peer);
  bench->peer = -1;
  until_state(bench, CLIENT_FAILED);
  assert_int_equal(client_exit_code(bench->client), 1);
  assert_int_equal(client_unfinished(bench->client), 1);
}

// ---- Receiving

static void deliver(struct bench *bench, uint8_t qos, uint16_t packet_id, const char *topic, uint16_t alias,
                    const char *payload)
{
  struct mqtt_packet packet = {.type = MQTT_PUBLISH};
  packet.publish =
      (struct mqtt_publish){.qos = qos, .packet_id = packet_id, .topic = span_text(topic), .payload = span_text(payload)};
  if (alias) {
    packet.publish.properties.present = 1ULL << MQTT_PROPERTY_TOPIC_ALIAS;
    packet.publish.properties.topic_alias = alias;
  }
  answer(bench, &packet);
}

static void until_messages(struct bench *bench, unsigned count)
{
  for (int i = 0; i < TURNS_MAX && bench->messages < count; i++) turn(bench);
  assert_int_equal(bench->messages, count);
}

static void qos_1_is_acknowledged(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  deliver(bench, 1, 9, "a/b", 0, "x");
  expect(bench, MQTT_PUBACK);
  assert_int_equal(bench->packet.ack.packet_id, 9);
  assert_int_equal(bench->messages, 1);
  assert_string_equal(bench->topic, "a/b");
}

static void qos_2_is_given_once(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  deliver(bench, 2, 65535, "a", 0, "x");
  expect(bench, MQTT_PUBREC);
  deliver(bench, 2, 65535, "a", 0, "x");
  expect(bench, MQTT_PUBREC);
  assert_int_equal(bench->messages, 1);
  cut(bench);
  connect_now(bench, true, NULL);
  deliver(bench, 2, 65535, "a", 0, "x");
  expect(bench, MQTT_PUBREC);
  assert_int_equal(bench->messages, 1);
  answer_ack(bench, MQTT_PUBREL, 65535, MQTT_SUCCESS);
  expect(bench, MQTT_PUBCOMP);
  assert_int_equal(bench->packet.ack.reason, MQTT_SUCCESS);
  answer_ack(bench, MQTT_PUBREL, 65535, MQTT_SUCCESS);
  expect(bench, MQTT_PUBCOMP);
  assert_int_equal(bench->packet.ack.reason, MQTT_PACKET_ID_NOT_FOUND);
  deliver(bench, 2, 65535, "a", 0, "y");
  until_messages(bench, 2);
}

static void a_new_session_forgets_qos_2(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  deliver(bench, 2, 1, "a", 0, "x");
  expect(bench, MQTT_PUBREC);
  cut(bench);
  connect_now(bench, false, NULL);
  deliver(bench, 2, 1, "a", 0, "another");
  until_messages(bench, 2);
}

static void aliases(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  deliver(bench, 0, 0, "long/topic", CLIENT_TOPIC_ALIASES, "1");
  deliver(bench, 0, 0, "", CLIENT_TOPIC_ALIASES, "2");
  until_messages(bench, 2);
  assert_string_equal(bench->topic, "long/topic");
  assert_string_equal(bench->payload, "2");
  assert_false(bench->alias_shown);
  deliver(bench, 0, 0, "other", CLIENT_TOPIC_ALIASES, "3");
  deliver(bench, 0, 0, "", CLIENT_TOPIC_ALIASES, "4");
  until_messages(bench, 4);
  assert_string_equal(bench->topic, "other");
  cut(bench);
  connect_now(bench, true, NULL);
  deliver(bench, 0, 0, "", CLIENT_TOPIC_ALIASES, "5");  // a new connection has none
  until_state(bench, CLIENT_FAILED);
  assert_int_equal(client_exit_code(bench->client), MQTT_TOPIC_ALIAS_INVALID);
}

// Bytes come one at a time.
static void torn_packets(void **state)
{
  struct bench *bench = *state;
  start(bench);
  connect_now(bench, false, NULL);
  struct mqtt_packet packet = {.type = MQTT_PUBLISH};
  packet.publish = (struct mqtt_publish){.qos = 1, .packet_id = 3, .topic = span_text("a"), .payload = span_text("torn")};
  uint8_t bytes[64];
  size_t size = mqtt_encode(bench->version, &packet, bytes, sizeof bytes);
  for (size_t i = 0; i < size; i++) {
    assert_int_equal(bench->messages, 0);
    assert_int_equal(send(bench->peer, &bytes[i], 1, MSG_NOSIGNAL), 1);
    turn(bench);
  }
  until_messages(bench, 1);
  assert_string_equal(bench->payload, "torn");
}

static void subscriptions(void **state)
{
  struct bench *bench = *state;
  start(bench);
  const struct mqtt_subscription wanted[2] = {
      {.filter = span_text("a/#"),
       .qos = 2,
       .no_local = true,
       .retain_as_published = true,
       .retain_handling = MQTT_RETAIN_DO_NOT_SEND},
      {.filter = span_text("b"), .qos = 1},
  };
  uint16_t packet_id = 0;
  assert_int_equal(client_subscribe(bench->client, wanted, 2, NULL, &packet_id), ERR_CLOSED);
  connect_now(bench, false, NULL);
  assert_int_equal(client_subscribe(bench->client, wanted, 2, NULL, &packet_id), OK);
  expect(bench, MQTT_SUBSCRIBE);
  assert_int_equal(bench->packet.subscribe.packet_id, packet_id);
  size_t cursor = 0;
  struct mqtt_subscription got;
  assert_true(mqtt_next_subscription(MQTT_5_0, &bench->packet.subscribe, &cursor, &got));
  assert_true(span_equal(got.filter, span_text("a/#")));
  assert_int_equal(got.qos, 2);
  assert_true(got.no_local && got.retain_as_published);
  assert_int_equal(got.retain_handling, MQTT_RETAIN_DO_NOT_SEND);
  assert_true(mqtt_next_subscription(MQTT_5_0, &bench->packet.subscribe, &cursor, &got));
  assert_int_equal(got.qos, 1);
  assert_false(got.no_local || got.retain_as_published);
  static const uint8_t codes[2] = {2, 0x87};
  struct mqtt_packet suback = {.type = MQTT_SUBACK};
  suback.suback = (struct mqtt_suback){.packet_id = packet_id, .codes = span_of(codes, 2)};
  answer(bench, &suback);
  for (int i = 0; i < TURNS_MAX && bench->code_count == 0; i++) turn(bench);
  assert_int_equal(bench->code_count, 2);
  assert_memory_equal(bench->codes, codes, 2);
}

static void version_3_1_1(void **state)
{
  struct bench *bench = *state;
  bench->version = MQTT_3_1_1;
  start(bench);
  connect_now(bench, false, NULL);
  publish(bench, 1, "a", 1);
  expect_publish(bench, "a", 1, false);
  answer_ack(bench, MQTT_PUBACK, 1, MQTT_SUCCESS);
  until_published(bench, 1);
  cut(bench);
  accept_peer(bench);
  expect(bench, MQTT_CONNECT);
  assert_true(bench->packet.connect.clean_start);  // "clean" belongs to the session
}

int main(void)
{
#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      BENCH_TEST(connects_and_ends),
      BENCH_TEST(refused),
      BENCH_TEST(nobody_listens),
      BENCH_TEST(not_mqtt),
      BENCH_TEST(taken_over),
      BENCH_TEST(comes_back_after_shutdown),
      BENCH_TEST(assigned_id_is_kept),
      BENCH_TEST(qos_0_is_done_when_sent),
      BENCH_TEST(qos_1_is_done_when_acknowledged),
      BENCH_TEST(qos_2_in_four_steps),
      BENCH_TEST(receive_maximum_is_honoured),
      BENCH_TEST(limits_of_the_broker),
      BENCH_TEST(sent_again_in_order),
      BENCH_TEST(sent_anew_without_a_session),
      BENCH_TEST(no_reconnection_unless_asked_for),
      BENCH_TEST(qos_1_is_acknowledged),
      BENCH_TEST(qos_2_is_given_once),
      BENCH_TEST(a_new_session_forgets_qos_2),
      BENCH_TEST(aliases),
      BENCH_TEST(torn_packets),
      BENCH_TEST(subscriptions),
      BENCH_TEST(version_3_1_1),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
