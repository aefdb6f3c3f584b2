// The client's life: connecting, keep alive, the end. See client.h.
#include "cli/client_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"

enum { END_TIMEOUT_MS = 2000 };  // how long the broker may take to close after DISCONNECT

enum status client_create(const struct client_settings *settings, const struct client_handler *handler,
                          struct client **out_client)
{
  struct client *client = calloc(1, sizeof *client);
  if (!client) return ERR_NO_MEMORY;
  client->settings = *settings;
  client->handler = *handler;
  client->state = CLIENT_IDLE;
  transport_init(&client->transport);
  uint64_t seed = 0;
  arc4random_buf(&seed, sizeof seed);
  prng_seed(&client->prng, seed);
  list_init(&client->queued);
  list_init(&client->flying);
  list_init(&client->unflushed);
  *out_client = client;
  return OK;
}

void client_destroy(struct client *client)
{
  if (!client) return;
  client_free_outgoing(client);
  client_forget_aliases(client);
  transport_close(&client->transport);
  buffer_deinit(&client->in);
  free(client->received_ids);
  free(client);
}

enum client_state client_state(const struct client *client)
{
  return client->state;
}

const char *client_failure(const struct client *client)
{
  return client->failure.text;
}

int client_exit_code(const struct client *client)
{
  return client->exit_code;
}

const struct mqtt_connack *client_connack(const struct client *client)
{
  return &client->connack;
}

// ---- Connecting

static void fill_connect(const struct client *client, struct mqtt_connect *connect)
{
  const struct client_settings *settings = &client->settings;
  // A 5.0 session that outlives the connection is taken up again; before 5.0 "clean" is a property of the session itself.
  bool resumes = client->was_online && settings->version == MQTT_5_0;
  *connect = (struct mqtt_connect){
      .version = settings->version,
      .clean_start = settings->clean_start && !resumes,
      .keep_alive_s = settings->keep_alive_s,
      .client_id = settings->client_id,
      .has_user_name = settings->has_user_name,
      .has_password = settings->has_password,
      .user_name = settings->user_name,
      .password = settings->password,
      .will = settings->will,
      .properties = settings->connect_properties,
  };
  struct mqtt_properties *properties = &connect->properties;
  if (!MQTT_HAS(properties, TOPIC_ALIAS_MAXIMUM) || properties->topic_alias_maximum > CLIENT_TOPIC_ALIASES) {
    properties->present |= 1ULL << MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM;
    properties->topic_alias_maximum = CLIENT_TOPIC_ALIASES;
  }
}

static void send_connect(struct client *client)
{
  struct mqtt_packet packet = {.type = MQTT_CONNECT};
  char security[128];
  fill_connect(client, &packet.connect);
  if (transport_security(&client->transport, security, sizeof security)) client_trace(client, "secured by %s", security);
  client_trace(client, "sending CONNECT (version %s, client identifier \"%.*s\", clean %d, keep alive %u s%s)",
               client->settings.version == MQTT_5_0     ? "5.0"
               : client->settings.version == MQTT_3_1_1 ? "3.1.1"
                                                        : "3.1",
               (int)client->settings.client_id.size, (const char *)client->settings.client_id.at, packet.connect.clean_start,
               packet.connect.keep_alive_s, packet.connect.will.present ? ", will" : "");
  if (!client_send(client, &packet) && client->state == CLIENT_CONNECTING)
    client_fail(client, COMMAND_USAGE, "a text is too long for CONNECT");
}

static void begin_connecting(struct client *client)
{
  struct error error = {0};
  client->state = CLIENT_CONNECTING;
  client->deadline_ms = client_now_ms() + CLIENT_CONNECT_TIMEOUT_MS;
  client_forget_aliases(client);
  if (transport_connect(&client->transport, &client->settings.address, &error) != OK) {
    client_lose(client, error.text);
    return;
  }
  if (client->transport.state == TRANSPORT_OPEN) send_connect(client);
}

void client_start(struct client *client)
{
  assert(client->state == CLIENT_IDLE);
  begin_connecting(client);
}

// ---- The end

void client_end(struct client *client, bool with_will)
{
  if (client->state >= CLIENT_ENDING) return;
  if (client->state != CLIENT_ONLINE) {
    transport_close(&client->transport);
    client->state = CLIENT_ENDED;
    return;
  }
  struct mqtt_packet packet = {.type = MQTT_DISCONNECT};
  packet.disconnect.properties = client->settings.disconnect_properties;
  if (with_will && client->settings.version == MQTT_5_0) packet.disconnect.reason = MQTT_DISCONNECT_WITH_WILL;
  if (client->settings.discard_session) {
    packet.disconnect.properties.present |= 1ULL << MQTT_PROPERTY_SESSION_EXPIRY;
    packet.disconnect.properties.session_expiry_s = 0;
  }
  client_trace(client, "sending DISCONNECT");
  if (!client_send(client, &packet)) return;
  transport_finish(&client->transport);
  client->state = CLIENT_ENDING;
  client->deadline_ms = client_now_ms() + END_TIMEOUT_MS;
}

// ---- Time

static uint64_t min_u64(uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

// The keep alive runs from the older of the last packet each way, so that a broker that is gone is noticed while we only
// send.
static uint64_t keep_alive_deadline_ms(const struct client *client)
{
  if (client->keep_alive_s == 0) return UINT64_MAX;
  uint64_t period_ms = (uint64_t)client->keep_alive_s * 1000;
  if (client->ping_waits) return client->last_sent_ms + period_ms;
  return min_u64(client->last_sent_ms, client->last_received_ms) + period_ms;
}

static void keep_alive(struct client *client, uint64_t now_ms)
{
  if (now_ms < keep_alive_deadline_ms(client)) return;
  if (client->ping_waits) {
    client_lose(client, "the broker does not answer");
    return;
  }
  client_trace(client, "sending PINGREQ");
  if (!client_send(client, &(struct mqtt_packet){.type = MQTT_PINGREQ})) return;
  client->ping_waits = true;
}

static uint64_t next_deadline_ms(const struct client *client)
{
  switch (client->state) {
    case CLIENT_CONNECTING:
    case CLIENT_WAITING:
    case CLIENT_ENDING: return client->deadline_ms;
    case CLIENT_ONLINE: return keep_alive_deadline_ms(client);
    case CLIENT_IDLE:
    case CLIENT_ENDED:
    case CLIENT_FAILED: break;
  }
  return UINT64_MAX;
}

static void run_timers(struct client *client)
{
  uint64_t now_ms = client_now_ms();
  if (client->state == CLIENT_ONLINE) {
    keep_alive(client, now_ms);
    return;
  }
  if (now_ms < next_deadline_ms(client)) return;
  if (client->state == CLIENT_WAITING)
    begin_connecting(client);
  else if (client->state == CLIENT_CONNECTING)
    client_lose(client, "the broker does not answer");
  else if (client->state == CLIENT_ENDING)
    client_lose(client, "the broker does not close");
}

// ---- The turn

static void flush(struct client *client)
{
  struct error error = {0};
  if (client->state == CLIENT_ONLINE) client_send_queued(client);
  enum status status = transport_flush(&client->transport, &error);
  client_settle_flushed(client);
  // What the broker has sent before it broke the connection (why, for one) is read before the loss is acted on.
  if (status != OK && client->transport.state != TRANSPORT_CLOSED) {
    struct error reading = {0};
    // An alert of TLS says more than that nothing can be sent any more.
    if (transport_handle(&client->transport, POLLIN, &client->in, &reading) == ERR_DENIED) error = reading;
    client_receive(client);
    if (client->state < CLIENT_WAITING || client->state == CLIENT_ENDING) client_lose(client, error.text);
  }
}

static void handle_events(struct client *client, short events)
{
  struct error error = {0};
  enum transport_state before = client->transport.state;
  enum status status = transport_handle(&client->transport, events, &client->in, &error);
  if (before != TRANSPORT_OPEN && client->transport.state == TRANSPORT_OPEN) send_connect(client);
  client_receive(client);
  bool connected = client->state == CLIENT_CONNECTING || client->state == CLIENT_ONLINE || client->state == CLIENT_ENDING;
  if (status != OK && connected) client_lose(client, error.text);
}

static int poll_timeout_ms(const struct client *client, int64_t timeout_ms)
{
  uint64_t now_ms = client_now_ms();
  uint64_t deadline_ms = next_deadline_ms(client);
  uint64_t own_ms = deadline_ms <= now_ms ? 0 : deadline_ms - now_ms;
  if (timeout_ms >= 0) own_ms = min_u64(own_ms, (uint64_t)timeout_ms);
  // A timer of more than a day is looked at again once a day.
  return deadline_ms == UINT64_MAX && timeout_ms < 0 ? -1 : (int)min_u64(own_ms, 86400000);
}

void client_wait(struct client *client, struct pollfd *fds, size_t count, int64_t timeout_ms)
{
  assert(count >= 1);
  size_t unfinished = client->unfinished_count;
  run_timers(client);
  flush(client);
  fds[0] = (struct pollfd){.fd = client->transport.fd, .events = transport_poll_events(&client->transport)};
  // The owner must hear at once of what was finished or lost just now.
  bool news = client->unfinished_count != unfinished || client->state >= CLIENT_ENDED;
  int result = poll(fds, (nfds_t)count, news ? 0 : poll_timeout_ms(client, timeout_ms));
  if (result <= 0) {
    for (size_t i = 0; i < count; i++) fds[i].revents = 0;
    return;
  }
  if (fds[0].revents) handle_events(client, fds[0].revents);
}
