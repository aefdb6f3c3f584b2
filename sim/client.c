#include "client.h"

#include <stdio.h>
#include <string.h>

#include "packets.h"

enum { PACKET_IDS = 200, FLIGHTS = 16, SUBSCRIPTIONS = 8 };

struct client *client_create(struct broker *broker, unsigned index)
{
  struct world *world = broker->world;
  static const enum mqtt_version versions[] = {MQTT_5_0, MQTT_5_0, MQTT_5_0, MQTT_3_1_1, MQTT_3_1_1, MQTT_3_1};
  struct client *client = sim_alloc(sizeof *client);
  client->broker = broker;
  client->world = world;
  client->index = index;
  client->version = versions[pick(world, 6)];
  client->receive_maximum = UINT16_MAX;
  snprintf(client->id, sizeof client->id, "c%u-%u", broker->index, index);
  if (client->version == MQTT_5_0) {
    if (percent(world, 50)) client->receive_maximum = (uint16_t)(1 + pick(world, 8));
    if (percent(world, 20)) client->maximum_packet_size = 60 + (uint32_t)pick(world, 400);
    if (percent(world, 60)) client->alias_maximum = (uint16_t)(1 + pick(world, 10));
    client->careless = percent(world, 15);
  } else {
    client->shares_only = percent(world, 30);
  }
  return client;
}

void client_destroy(struct client *client)
{
  splitter_deinit(&client->in);
  free(client->flights.items);
  acks_deinit(&client->acks);
  free(client->received.items);
  free(client->requests.items);
  free(client);
}

void client_send(struct client *client, const struct mqtt_packet *packet)
{
  uint8_t bytes[4096];
  size_t size = mqtt_encode(client->version, packet, bytes, sizeof bytes);
  if (size == 0) {
    world_fail(client->world, "the simulation cannot encode %s", mqtt_packet_name(packet->type));
    return;
  }
  pipe_write(&client->link->up, span_of(bytes, size));
}

// ---- Connecting

static struct message *random_message(struct client *client, bool will)
{
  struct world *world = client->world;
  struct message *message = model_message(world, client);
  message->topic = (uint8_t)pick(world, SIM_TOPICS);
  message->qos = (uint8_t)pick(world, 3);
  message->retain = percent(world, 25);
  message->is_will = will;
  message->payload_size = (uint16_t)(percent(world, 85) ? 9 + pick(world, 40) : 9 + pick(world, 1800));
  message->empty = !will && percent(world, message->retain ? 25 : 3);
  if (message->empty) message->payload_size = 0;
  if (client->version == MQTT_5_0 && percent(world, 60)) message->flavour = (uint8_t)pick(world, 64);
  if (client->version == MQTT_5_0 && percent(world, 20)) message->expiry_s = 1 + (uint32_t)pick(world, 5);
  return message;
}

static void set_will(struct client *client, struct mqtt_will *will, uint8_t *scratch)
{
  struct world *world = client->world;
  struct message *message = random_message(client, true);
  client->link->will_message = message;
  will->present = true;
  will->qos = message->qos;
  will->retain = message->retain;
  will->topic = span_text(world->topics[message->topic]);
  will->payload = message_payload(message, scratch);
  message_properties(message, scratch + 2048, &will->properties);
  packet_expiry(&will->properties, message->expiry_s);
  if (client->version == MQTT_5_0 && percent(world, 60)) {
    will->properties.present |= 1ull << MQTT_PROPERTY_WILL_DELAY;
    will->properties.will_delay_s = (uint32_t)pick(world, 5);
  }
}

static void set_connect_properties(struct client *client, struct mqtt_properties *properties)
{
  static const uint32_t expiries_s[] = {0, 1, 3, 10, 3600, UINT32_MAX};
  struct world *world = client->world;
  properties->session_expiry_s = expiries_s[world->healing ? 4 : pick(world, 6)];
  properties->present |= 1ull << MQTT_PROPERTY_SESSION_EXPIRY;
  if (client->receive_maximum != UINT16_MAX) {
    properties->present |= 1ull << MQTT_PROPERTY_RECEIVE_MAXIMUM;
    properties->receive_maximum = client->receive_maximum;
  }
  if (client->maximum_packet_size) {
    properties->present |= 1ull << MQTT_PROPERTY_MAXIMUM_PACKET_SIZE;
    properties->maximum_packet_size = client->maximum_packet_size;
  }
  if (client->alias_maximum) {
    properties->present |= 1ull << MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM;
    properties->topic_alias_maximum = client->alias_maximum;
  }
}

void client_forget_session(struct client *client)
{
  client->flights.count = 0;
  client->received.count = 0;
}

void client_connect(struct client *client, bool clean_start)
{
  struct world *world = client->world;
  uint8_t scratch[4096];
  client->link = broker_connect(client->broker, client);
  client->connected = false;
  client->stalled = false;
  acks_clear(&client->acks);
  client->requests.count = 0;
  memset(client->aliases, 0, sizeof client->aliases);
  memset(client->server_aliases, 0, sizeof client->server_aliases);
  buffer_deinit(&client->in.bytes);
  struct mqtt_packet packet = {
      .type = MQTT_CONNECT,
      .connect = {
          .version = client->version, .clean_start = clean_start, .client_id = span_text(client->id), .keep_alive_s = 60}};
  if (!world->healing && percent(world, 30)) packet.connect.keep_alive_s = (uint16_t)pick(world, 6);
  if (client->version == MQTT_5_0) set_connect_properties(client, &packet.connect.properties);
  if (!world->healing && percent(world, 40)) set_will(client, &packet.connect.will, scratch);
  client_send(client, &packet);
}

void client_lose_link(struct client *client)
{
  if (!client->link) return;
  client->link->client_done = true;
  pipe_close(&client->link->up);
  client->link = NULL;
  client->connected = false;
}

// Goes on without telling anybody: the broker still believes in the old connection.
static void abandon(struct client *client)
{
  client->link->abandoned = true;
  client->link->client_done = true;
  client->link = NULL;
  client->connected = false;
}

void client_disconnect(struct client *client, bool with_will, bool end_session)
{
  struct mqtt_packet packet = {.type = MQTT_DISCONNECT};
  if (client->version == MQTT_5_0) {
    if (with_will) packet.disconnect.reason = MQTT_DISCONNECT_WITH_WILL;
    if (end_session) packet.disconnect.properties.present = 1ull << MQTT_PROPERTY_SESSION_EXPIRY;
  }
  client_send(client, &packet);
  client_lose_link(client);
}

// ---- Publishing

static uint16_t next_packet_id(struct client *client)
{
  for (;;) {
    client->next_packet_id = (uint16_t)(client->next_packet_id % PACKET_IDS + 1);
    bool used = false;
    for (size_t i = 0; i < client->flights.count; i++) used |= client->flights.items[i].packet_id == client->next_packet_id;
    for (size_t i = 0; i < client->requests.count; i++) used |= client->requests.items[i] == client->next_packet_id;
    if (!used) return client->next_packet_id;
  }
}

static void send_publish(struct client *client, struct message *message, uint16_t packet_id, bool dup)
{
  struct world *world = client->world;
  uint8_t payload[2048], properties[2048];
  struct mqtt_packet packet = {.type = MQTT_PUBLISH,
                               .publish = {.qos = message->qos,
                                           .dup = dup,
                                           .retain = message->retain,
                                           .packet_id = packet_id,
                                           .topic = span_text(world->topics[message->topic]),
                                           .payload = message_payload(message, payload)}};
  message_properties(message, properties, &packet.publish.properties);
  packet_expiry(&packet.publish.properties, message->expiry_s);
  uint16_t most = client->server_alias_maximum < 63 ? client->server_alias_maximum : 63;
  if (client->version == MQTT_5_0 && most > 0 && percent(world, 40)) {
    uint16_t alias = (uint16_t)(1 + message->topic % most);
    packet.publish.properties.present |= 1ull << MQTT_PROPERTY_TOPIC_ALIAS;
    packet.publish.properties.topic_alias = alias;
    if (client->server_aliases[alias] == message->topic + 1) packet.publish.topic = span_of(NULL, 0);
    client->server_aliases[alias] = (uint8_t)(message->topic + 1);
  }
  TRACE(world, "client %s publishes message %u to %s at QoS %u%s%s", client->id, message->id, world->topics[message->topic],
        message->qos, message->retain ? " retain" : "", dup ? " again" : "");
  VECTOR_PUSH(&client->link->writes, message);
  client_send(client, &packet);
}

void client_publish(struct client *client, struct message *message)
{
  uint16_t packet_id = 0;
  if (message->qos > 0) {
    packet_id = next_packet_id(client);
    struct flight flight = {.packet_id = packet_id, .message = message};
    VECTOR_PUSH(&client->flights, flight);
  }
  send_publish(client, message, packet_id, false);
}

bool client_may_publish(const struct client *client)
{
  return client->flights.count < FLIGHTS && client->flights.count < client->server_receive_maximum &&
         pipe_room(&client->link->up) > 0;
}

// After CONNACK, when the broker has kept the session: everything again, in the original order [MQTT-4.4.0-1].
void client_send_again(struct client *client)
{
  for (size_t i = 0; i < client->flights.count; i++) {
    struct flight *flight = &client->flights.items[i];
    if (flight->released) {
      struct mqtt_packet packet = {.type = MQTT_PUBREL, .ack = {.packet_id = flight->packet_id}};
      client_send(client, &packet);
    } else {
      send_publish(client, flight->message, flight->packet_id, true);
    }
  }
}

// ---- Subscribing

void client_subscribe(struct client *client, const uint8_t *filters, const uint8_t *groups, unsigned count)
{
  struct world *world = client->world;
  uint8_t payload[1024];
  size_t size = 0;
  bool shared = false, v5 = client->version == MQTT_5_0;
  for (unsigned i = 0; i < count; i++) {
    const char *text = (const char *)payload + size + 2;
    size_t text_size = packet_filter(payload + size, world->filters[filters[i]], groups[i]);
    size += text_size;
    uint8_t options = (uint8_t)pick(world, 3);
    if (world->healing) options = 2;
    if (groups[i]) shared = true;
    if (v5 && !groups[i] && !world->healing && percent(world, 20)) options |= 4;
    if (v5 && percent(world, 40)) options |= 8;
    if (v5 && !world->healing) options |= (uint8_t)(pick(world, 3) << 4);
    payload[size++] = options;
    TRACE(world, "client %s subscribes to %.*s with options 0x%02x", client->id, (int)text_size - 2, text, options);
  }
  struct mqtt_packet packet = {
      .type = MQTT_SUBSCRIBE,
      .subscribe = {.packet_id = next_packet_id(client), .count = count, .payload = span_of(payload, size)}};
  uint32_t id = ++world->subscription_ids;
  if (v5 && (shared || percent(world, 70))) {
    packet.subscribe.properties.present = 1ull << MQTT_PROPERTY_SUBSCRIPTION_ID;
    packet.subscribe.properties.subscription_ids = &id;
    packet.subscribe.properties.subscription_id_count = 1;
  }
  VECTOR_PUSH(&client->requests, packet.subscribe.packet_id);
  client_send(client, &packet);
}

// Subscription identifiers tell copies apart only when each has one filter, or the filters of one request do not share a
// topic.
static void random_subscribe(struct client *client)
{
  struct world *world = client->world;
  uint8_t filters[2], groups[2] = {0};
  unsigned count = 1;
  filters[0] = (uint8_t)pick(world, SIM_FILTERS);
  if (client->shares_only) {
    filters[0] = (uint8_t)(client->index % SIM_FILTERS);
    groups[0] = (uint8_t)(1 + client->index % SIM_GROUPS);
  } else if (client->version == MQTT_5_0 && percent(world, 30)) {
    filters[0] = (uint8_t)pick(world, 4);  // few, so that groups have several members
    groups[0] = (uint8_t)(1 + pick(world, SIM_GROUPS));
  } else if (percent(world, 30)) {
    filters[1] = (uint8_t)pick(world, SIM_FILTERS);
    if (filters[1] != filters[0]) count = 2;
  }
  client_subscribe(client, filters, groups, count);
}

static void random_unsubscribe(struct client *client)
{
  struct world *world = client->world;
  const struct session *session = client->believed;
  uint8_t filter = (uint8_t)pick(world, SIM_FILTERS), group = 0;
  if (session && session->subscriptions.count > 0 && percent(world, 80)) {
    const struct subscription *subscription = session->subscriptions.items[pick(world, session->subscriptions.count)];
    filter = subscription->filter;
    group = subscription->group;
  }
  uint8_t payload[128];
  size_t size = packet_filter(payload, world->filters[filter], group);
  TRACE(world, "client %s unsubscribes from %.*s", client->id, (int)size - 2, (const char *)payload + 2);
  struct mqtt_packet packet = {
      .type = MQTT_UNSUBSCRIBE,
      .unsubscribe = {.packet_id = next_packet_id(client), .count = 1, .payload = span_of(payload, size)}};
  VECTOR_PUSH(&client->requests, packet.unsubscribe.packet_id);
  client_send(client, &packet);
}

static unsigned live_subscriptions(const struct client *client)
{
  unsigned count = 0;
  if (!client->believed) return 0;
  for (size_t i = 0; i < client->believed->subscriptions.count; i++)
    count += client->believed->subscriptions.items[i]->end.tick == NEVER;
  return count;
}

// ---- Whims

static void connected_whim(struct client *client)
{
  struct world *world = client->world;
  uint64_t whim = pick(world, 1000);
  if (whim < world->plan.publish_percent * 6u) {
    if (client_may_publish(client)) client_publish(client, random_message(client, false));
  } else if (whim < 700) {
    if (client->requests.count < 3 && live_subscriptions(client) < SUBSCRIPTIONS && percent(world, 40))
      random_subscribe(client);
  } else if (whim < 740) {
    if (client->requests.count < 3) random_unsubscribe(client);
  } else if (whim < 770) {
    struct mqtt_packet packet = {.type = MQTT_PINGREQ};
    client_send(client, &packet);
  } else if (whim < 780) {
    client_disconnect(client, percent(world, 50), percent(world, 30));
  } else if (whim < 785) {
    client_lose_link(client);
  } else if (whim < 795) {
    abandon(client);
  } else if (whim < 795 + world->plan.stall_weight) {
    client->stalled = true;
  }
}

static bool send_acks(struct client *client)
{
  struct world *world = client->world;
  bool sent = false;
  while (client->acks.due.count > 0 && (world->healing || percent(world, world->plan.ack_percent))) {
    size_t at = world->healing || percent(world, 80) ? 0 : (size_t)pick(world, client->acks.due.count);
    struct mqtt_packet packet = acks_take(&client->acks, at);
    client_send(client, &packet);
    sent = true;
  }
  return sent;
}

bool client_act(struct client *client)
{
  struct world *world = client->world;
  world->trial.tick++;
  if (!client->link) {
    if (world->ending || (!world->healing && !percent(world, world->plan.connect_percent))) return false;
    // 3.1 is not told whether its session is there: it resumes one only where sessions do not expire.
    bool uncertain = client->version == MQTT_3_1 && client->broker->limits.session_expiry_max_s != UINT32_MAX;
    client_connect(client, uncertain || (!world->healing && percent(world, 25)));
    return true;
  }
  if (client->stalled && (world->healing || percent(world, 5))) client->stalled = false;
  bool acted = false;
  if (!client->stalled) acted = client_read(client, world->healing ? SIZE_MAX : 1 + (size_t)pick(world, 600));
  if (!client->link || !client->connected) return acted;
  acted |= send_acks(client);
  if (!world->healing) connected_whim(client);
  return acted || !world->healing;
}
