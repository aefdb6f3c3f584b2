// Clients on the bench: what they expect from the broker, and whole exchanges with it.
#include "bench.h"

// ---- What they expect

const struct mqtt_packet *client_expect(struct client *client, enum mqtt_packet_type type)
{
  struct span in = buffer_peek(&client->incoming);
  struct mqtt_fixed_header header = {0};
  if (mqtt_fixed_header(in, &header) != MQTT_HEADER_OK) fail_msg("nothing came instead of %s", mqtt_packet_name(type));
  size_t size = header.size + (size_t)header.remaining;
  assert_true(in.size >= size);
  free(client->packet_bytes);
  client->packet_bytes = malloc(size);
  assert_non_null(client->packet_bytes);
  memcpy(client->packet_bytes, in.at, size);
  buffer_consume(&client->incoming, size);
  struct mqtt_fault fault;
  struct span body = span_of(client->packet_bytes + header.size, header.remaining);
  if (!mqtt_decode(client->version, MQTT_FROM_SERVER, header.first, body, &client->packet, &fault))
    fail_msg("a %s that cannot be decoded: %s", mqtt_packet_name(header.first >> 4), fault.text);
  if (client->packet.type != type)
    fail_msg("%s instead of %s", mqtt_packet_name(client->packet.type), mqtt_packet_name(type));
  client->packet_size = size;
  return &client->packet;
}

const struct mqtt_publish *client_expect_publish(struct client *client, const char *topic, const char *payload)
{
  const struct mqtt_publish *publish = &client_expect(client, MQTT_PUBLISH)->publish;
  if (!span_equal(publish->topic, span_text(topic)) || !span_equal(publish->payload, span_text(payload)))
    fail_msg("%.*s '%.*s' instead of %s '%s'", (int)publish->topic.size, (const char *)publish->topic.at,
             (int)publish->payload.size, (const char *)publish->payload.at, topic, payload);
  return publish;
}

void client_expect_ack(struct client *client, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason)
{
  const struct mqtt_packet *packet = client_expect(client, type);
  assert_int_equal(packet->ack.packet_id, packet_id);
  assert_int_equal(packet->ack.reason, reason);
}

void client_expect_nothing(struct client *client)
{
  if (client_waiting(client) > 0)
    fail_msg("%s instead of nothing", mqtt_packet_name(buffer_peek(&client->incoming).at[0] >> 4));
}

void client_expect_closed(struct client *client)
{
  client_expect_nothing(client);
  assert_null(client->connection);
  assert_true(client->by_broker);
}

void client_expect_disconnect(struct client *client, enum mqtt_reason reason)
{
  if (client->version == MQTT_5_0) assert_int_equal(client_expect(client, MQTT_DISCONNECT)->disconnect.reason, reason);
  client_expect_closed(client);
}

void client_expect_refused(struct client *client, enum mqtt_reason reason)
{
  const struct mqtt_connack *connack = &client_expect(client, MQTT_CONNACK)->connack;
  assert_int_equal(connack->reason, reason);
  assert_false(connack->session_present);
  client_expect_closed(client);
}

// ---- Exchanges

void property_set(struct mqtt_properties *properties, enum mqtt_property property)
{
  properties->present |= UINT64_C(1) << property;
}

struct mqtt_packet connect_packet(enum mqtt_version version, const char *id)
{
  return (struct mqtt_packet){
      .type = MQTT_CONNECT,
      .connect = {.version = version, .clean_start = true, .keep_alive_s = 600, .client_id = span_text(id)}};
}

const struct mqtt_connack *client_connect_packet(struct client *client, const struct mqtt_packet *packet)
{
  client_send(client, packet);
  const struct mqtt_connack *connack = &client_expect(client, MQTT_CONNACK)->connack;
  assert_int_equal(connack->reason, MQTT_SUCCESS);
  assert_non_null(client->connection);
  return connack;
}

const struct mqtt_connack *client_connect(struct client *client, const char *id, bool clean_start, uint32_t expiry_s)
{
  struct mqtt_packet packet = connect_packet(client->version, id);
  packet.connect.clean_start = clean_start;
  if (expiry_s) {
    property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
    packet.connect.properties.session_expiry_s = expiry_s;
  }
  return client_connect_packet(client, &packet);
}

struct client *client_new(struct bench *bench, enum mqtt_version version, const char *id)
{
  struct client *client = client_open(bench, version, 0);
  assert_false(client_connect(client, id, true, 0)->session_present);
  return client;
}

struct client *client_lasting(struct bench *bench, enum mqtt_version version, const char *id)
{
  struct client *client = client_open(bench, version, 0);
  client_connect(client, id, false, 3600);
  return client;
}

void client_queue_subscribe(struct client *client, const struct sub *subs, size_t count)
{
  uint8_t *payload = calloc(count, 3 + 65535);
  assert_non_null(payload);
  size_t size = 0;
  for (size_t i = 0; i < count; i++) {
    size_t length = strlen(subs[i].filter);
    payload[size++] = (uint8_t)(length >> 8);
    payload[size++] = (uint8_t)length;
    memcpy(payload + size, subs[i].filter, length);
    size += length;
    unsigned options = subs[i].qos;
    if (client->version == MQTT_5_0)
      options |=
          (subs[i].no_local ? 4u : 0) | (subs[i].retain_as_published ? 8u : 0) | (unsigned)subs[i].retain_handling << 4;
    payload[size++] = (uint8_t)options;
  }
  struct mqtt_packet packet = {
      .type = MQTT_SUBSCRIBE,
      .subscribe = {.packet_id = client->next_id++, .count = (uint32_t)count, .payload = span_of(payload, size)}};
  if (subs[0].id) {
    property_set(&packet.subscribe.properties, MQTT_PROPERTY_SUBSCRIPTION_ID);
    packet.subscribe.properties.subscription_id = subs[0].id;
  }
  client_queue(client, &packet);
  free(payload);
}

// Moves the first packet of the type to the front: messages may come before the SUBACK of their subscription
// (5.0 section 3.8.4).
static void bring_forward(struct client *client, enum mqtt_packet_type type)
{
  struct span in = buffer_peek(&client->incoming);
  struct mqtt_fixed_header header = {0};
  for (size_t at = 0; mqtt_fixed_header(span_from(in, at), &header) == MQTT_HEADER_OK;) {
    size_t size = header.size + (size_t)header.remaining;
    if (header.first >> 4 != type) {
      at += size;
      continue;
    }
    struct buffer ordered = {0};
    assert_ok(buffer_append(&ordered, in.at + at, size));
    assert_ok(buffer_append(&ordered, in.at, at));
    assert_ok(buffer_append(&ordered, in.at + at + size, in.size - at - size));
    buffer_deinit(&client->incoming);
    client->incoming = ordered;
    return;
  }
}

void client_subscribe_with(struct client *client, const struct sub *sub, enum mqtt_reason expected)
{
  client_queue_subscribe(client, sub, 1);
  bench_run(client->bench);
  bring_forward(client, MQTT_SUBACK);
  const struct mqtt_suback *suback = &client_expect(client, MQTT_SUBACK)->suback;
  assert_int_equal(suback->packet_id, client->next_id - 1);
  assert_int_equal(suback->codes.size, 1);
  assert_int_equal(suback->codes.at[0], expected);
}

void client_subscribe(struct client *client, const char *filter, uint8_t qos)
{
  client_subscribe_with(client, &(struct sub){.filter = filter, .qos = qos}, (enum mqtt_reason)qos);
}

void client_expect_codes(struct client *client, const struct sub *subs, const uint8_t *codes, size_t count)
{
  const struct mqtt_suback *suback = &client_expect(client, MQTT_SUBACK)->suback;
  assert_int_equal(suback->codes.size, count);
  for (size_t i = 0; i < count; i++)
    if (suback->codes.at[i] != codes[i]) fail_msg("%s: %#x", subs[i].filter, suback->codes.at[i]);
}

enum mqtt_reason client_unsubscribe(struct client *client, const char *filter)
{
  size_t length = strlen(filter);
  uint8_t *payload = malloc(2 + length);
  assert_non_null(payload);
  payload[0] = (uint8_t)(length >> 8);
  payload[1] = (uint8_t)length;
  memcpy(payload + 2, filter, length);
  struct mqtt_packet packet = {
      .type = MQTT_UNSUBSCRIBE,
      .unsubscribe = {.packet_id = client->next_id++, .count = 1, .payload = span_of(payload, 2 + length)}};
  client_send(client, &packet);
  free(payload);
  const struct mqtt_suback *unsuback = &client_expect(client, MQTT_UNSUBACK)->suback;
  assert_int_equal(unsuback->packet_id, client->next_id - 1);
  return client->version == MQTT_5_0 ? (enum mqtt_reason)unsuback->codes.at[0] : MQTT_SUCCESS;
}

static uint16_t next_id(struct client *client)
{
  uint16_t id = client->next_id++;
  if (client->next_id == 0) client->next_id = 1;
  return id;
}

struct mqtt_packet publish_packet(struct client *client, const char *topic, const char *payload, uint8_t qos)
{
  return (struct mqtt_packet){
      .type = MQTT_PUBLISH,
      .publish = {
          .qos = qos, .packet_id = qos ? next_id(client) : 0, .topic = span_text(topic), .payload = span_text(payload)}};
}

void client_ack(struct client *client, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason)
{
  client_send(client, &(struct mqtt_packet){.type = type, .ack = {.packet_id = packet_id, .reason = reason}});
}

static enum mqtt_reason expect_answer(struct client *client, enum mqtt_packet_type type, uint16_t packet_id)
{
  const struct mqtt_packet *packet = client_expect(client, type);
  assert_int_equal(packet->ack.packet_id, packet_id);
  return packet->ack.reason;
}

uint16_t client_send_publish(struct client *client, const char *topic, const char *payload, uint8_t qos, bool retain)
{
  struct mqtt_packet packet = publish_packet(client, topic, payload, qos);
  packet.publish.retain = retain;
  client_send(client, &packet);
  return packet.publish.packet_id;
}

void client_publish(struct client *client, const char *topic, const char *payload, uint8_t qos, bool retain)
{
  uint16_t id = client_send_publish(client, topic, payload, qos, retain);
  if (qos == 1) assert_true(expect_answer(client, MQTT_PUBACK, id) < MQTT_UNSPECIFIED_ERROR);
  if (qos != 2) return;
  assert_true(expect_answer(client, MQTT_PUBREC, id) < MQTT_UNSPECIFIED_ERROR);
  client_ack(client, MQTT_PUBREL, id, MQTT_SUCCESS);
  client_expect_ack(client, MQTT_PUBCOMP, id, MQTT_SUCCESS);
}

void client_take(struct client *client, const char *topic, const char *payload, uint8_t qos)
{
  const struct mqtt_publish *publish = client_expect_publish(client, topic, payload);
  assert_int_equal(publish->qos, qos);
  uint16_t id = publish->packet_id;
  if (qos == 1) client_ack(client, MQTT_PUBACK, id, MQTT_SUCCESS);
  if (qos != 2) return;
  client_ack(client, MQTT_PUBREC, id, MQTT_SUCCESS);
  client_expect_ack(client, MQTT_PUBREL, id, MQTT_SUCCESS);
  client_ack(client, MQTT_PUBCOMP, id, MQTT_SUCCESS);
}

struct client *client_new_on(struct bench *bench, enum mqtt_version version, uint8_t shard)
{
  char id[16];
  bench_new_id(bench, shard, id);
  return client_new(bench, version, id);
}

struct client *client_subscribed(struct bench *bench, enum mqtt_version version, const char *id, const char *filter,
                                 uint8_t qos)
{
  struct client *client = client_new(bench, version, id);
  client_subscribe(client, filter, qos);
  return client;
}

struct client *client_durable(struct bench *bench, const char *id, const char *filter, uint8_t qos)
{
  struct client *client = client_lasting(bench, MQTT_5_0, id);
  client_subscribe(client, filter, qos);
  return client;
}

struct client *client_back(struct bench *bench, const char *id)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  assert_true(client_connect(client, id, false, 3600)->session_present);
  return client;
}

// ---- Numbered messages

struct number {
  char text[16];
};

static struct number number_text(unsigned value)
{
  struct number number;
  snprintf(number.text, sizeof number.text, "%u", value);
  return number;
}

void publish_numbers(struct client *client, const char *topic, unsigned from, unsigned to, uint8_t qos)
{
  for (unsigned i = from; i < to; i++) client_publish(client, topic, number_text(i).text, qos, false);
}

void take_numbers(struct client *client, const char *topic, unsigned from, unsigned to, uint8_t qos)
{
  for (unsigned i = from; i < to; i++) client_take(client, topic, number_text(i).text, qos);
}

uint16_t expect_number(struct client *client, const char *topic, unsigned number, bool dup)
{
  const struct mqtt_publish *publish = client_expect_publish(client, topic, number_text(number).text);
  assert_int_equal(publish->dup, dup);
  return publish->packet_id;
}
