#include "bench_authentication.h"

#include "core/access.h"

void bench_init_authentication(struct bench *bench, uint8_t shard_count)
{
  bench_init(bench, shard_count, NULL);
  bench->authenticate = true;
}

struct bench *bench_make_authentication(void **state, uint8_t shard_count)
{
  struct bench *bench = bench_make(state, shard_count, NULL);
  bench->authenticate = true;
  return bench;
}

struct mqtt_packet connect_as(enum mqtt_version version, const char *id, const char *user, const char *password)
{
  struct mqtt_packet packet = connect_packet(version, id);
  packet.connect.has_user_name = user;
  if (user) packet.connect.user_name = span_text(user);
  packet.connect.has_password = password;
  if (password) packet.connect.password = span_text(password);
  return packet;
}

struct client *client_as(struct bench *bench, enum mqtt_version version, const char *id, const char *user)
{
  struct client *client = client_open(bench, version, 0);
  bool believe = bench->believe;
  bench->believe = true;
  struct mqtt_packet packet = connect_as(version, id, user, "secret");
  client_connect_packet(client, &packet);
  bench->believe = believe;
  return client;
}

void assert_user(const struct client *client, const char *user)
{
  assert_non_null(client->connection);
  const struct identity *identity = access_identity(client->connection);
  assert_non_null(identity);
  assert_span_text(identity->user, user);
}

void set_method(struct mqtt_properties *properties, const char *method, const char *data)
{
  property_set(properties, MQTT_PROPERTY_AUTHENTICATION_METHOD);
  properties->authentication_method = span_text(method);
  if (!data) return;
  property_set(properties, MQTT_PROPERTY_AUTHENTICATION_DATA);
  properties->authentication_data = span_text(data);
}

struct mqtt_packet auth_packet(enum mqtt_reason reason, const char *method, const char *data)
{
  struct mqtt_packet packet = {.type = MQTT_AUTH, .disconnect = {.reason = reason}};
  set_method(&packet.disconnect.properties, method, data);
  return packet;
}

void expect_auth(struct client *client, enum mqtt_reason reason, const char *data)
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

struct client *client_asked(struct bench *bench, const char *id, const char *data)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  struct mqtt_packet packet = connect_packet(MQTT_5_0, id);
  set_method(&packet.connect.properties, "M", data);
  client_send(client, &packet);
  return client;
}

struct client *client_in_exchange(struct bench *bench, const char *id)
{
  struct client *client = client_asked(bench, id, "first");
  bench_answer(bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION, .data = "go on"});
  expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, "go on");
  return client;
}

struct client *client_enhanced(struct bench *bench, const char *id, const char *user, uint64_t expires_ms)
{
  struct client *client = client_asked(bench, id, NULL);
  bench_answer(bench, &(struct answer){.user = user, .expires = {expires_ms}});
  const struct mqtt_connack *connack = &client_expect(client, MQTT_CONNACK)->connack;
  assert_int_equal(connack->reason, MQTT_SUCCESS);
  assert_span_text(connack->properties.authentication_method, "M");
  return client;
}
