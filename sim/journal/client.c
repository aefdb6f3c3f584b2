// Clients that behave right: whims from the seed, but the protocol as it has to be kept.
#include <stdio.h>

#include "packets.h"
#include "world.h"

enum { SUBSCRIPTIONS = 5, PACKET_SIZE = 80 * 1024 };

struct client *client_create(struct world *world, unsigned index)
{
  struct client *client = sim_alloc(sizeof *client);
  client->world = world;
  client->index = index;
  client->version = percent(world, 60) ? MQTT_5_0 : MQTT_3_1_1;
  client->kind = percent(world, 60) ? KIND_DURABLE : percent(world, 60) ? KIND_MIXED : KIND_CLEAN;
  client->any_order = percent(world, 30);
  client->receive_maximum = UINT16_MAX;
  client->connect_percent = world->plan.connect_percent;
  client->publish_percent = world->plan.publish_percent;
  client->away_ms = world->trial.now_ms;
  snprintf(client->id, sizeof client->id, "c%u", index);
  if (client->version == MQTT_5_0 && percent(world, 50)) client->receive_maximum = (uint16_t)(1 + pick(world, 10));
  if (world->plan.backlog) {  // the first ones publish, the others are mostly away
    bool publisher = index < 2;
    client->publish_percent = publisher ? 90 : 5;
    client->connect_percent = publisher ? 80 : 50;
    if (!publisher) client->kind = KIND_DURABLE;
  }
  return client;
}

void client_destroy(struct client *client)
{
  splitter_deinit(&client->in);
  free(client->flights.items);
  acks_deinit(&client->acks);
  free(client->requests.items);
  free(client);
}

void client_send(struct client *client, const struct mqtt_packet *packet)
{
  uint8_t *bytes = malloc(PACKET_SIZE);
  if (!bytes) abort();
  size_t size = mqtt_encode(client->version, packet, bytes, PACKET_SIZE);
  if (size == 0) world_fail(client->world, "the simulation cannot encode %s", mqtt_packet_name(packet->type));
  pipe_write(&client->link->up, span_of(bytes, size));
  free(bytes);
}

// ---- Connecting

static struct message *random_message(struct client *client, bool will)
{
  struct world *world = client->world;
  struct message *message = model_message(world, client);
  message->topic = (uint8_t)pick(world, TOPICS);
  if (world->plan.users && will) message->topic = WILL_TOPIC;
  if (world->plan.users && !client->named && message->topic == WILL_TOPIC) message->topic = 0;
  message->qos = percent(world, 10) ? 0 : percent(world, 55) ? 1 : 2;
  message->is_will = will;
  message->retain = !will && percent(world, world->plan.backlog ? 5 : 20);
  message->empty = message->retain && percent(world, 25);
  message->payload_size = 4 + (uint32_t)(percent(world, 80) ? pick(world, 60) : pick(world, world->plan.payload_most));
  if (message->empty) message->payload_size = 0;
  if (client->version == MQTT_5_0 && percent(world, 40)) message->flavour = (uint8_t)pick(world, 16);
  if (client->version == MQTT_5_0 && !will && percent(world, 15))
    message->expiry_s = percent(world, 50) ? 1 + (uint32_t)pick(world, 20) : 10000000;
  return message;
}

static void first_sent(struct message *message)
{
  struct world *world = message->author->world;
  if (message->first_sent != NEVER) return;
  message->first_sent = world->trial.tick;
  message->first_sent_ms = world->trial.now_ms;
  message->sequence = ++message->author->sequence;
}

static void set_will(struct client *client, struct mqtt_will *will, uint8_t *payload, uint8_t *properties)
{
  struct world *world = client->world;
  struct message *message = random_message(client, true);
  first_sent(message);
  will->present = true;
  will->qos = message->qos;
  will->topic = span_text(TOPIC_NAMES[message->topic]);
  will->payload = span_of(payload, message_payload(message, payload));
  message_properties(message, properties, &will->properties);
  if (client->version == MQTT_5_0 && percent(world, 60)) {
    will->properties.present |= 1ull << MQTT_PROPERTY_WILL_DELAY;
    will->properties.will_delay_s = (uint32_t)pick(world, 5);
  }
}

static uint32_t choose_expiry(struct client *client)
{
  static const uint32_t expiries_s[] = {3600 * 24, UINT32_MAX, UINT32_MAX, 30, 8};
  struct world *world = client->world;
  if (client->kind == KIND_CLEAN || client->is_witness) return 0;
  if (world->healing) return UINT32_MAX;
  if (client->kind == KIND_MIXED && percent(world, 40)) return 0;
  return expiries_s[pick(world, world->plan.steady ? 3 : 5)];
}

void client_connect(struct client *client, bool clean_start)
{
  struct world *world = client->world;
  uint8_t properties[1024];
  uint8_t *payload = malloc(world->plan.payload_most + 64);
  if (!payload) abort();
  uint32_t most_s = world->broker.limits.session_expiry_max_s, expiry_s = choose_expiry(client);
  if (client->version == MQTT_3_1_1) {
    if (expiry_s == 0) clean_start = true;
    expiry_s = clean_start ? 0 : most_s;
  }
  if (expiry_s > most_s) expiry_s = most_s;
  client->link = broker_connect(world, client);
  client->connected = false;
  client->bytes_read = 0;
  acks_clear(&client->acks);
  client->requests.count = 0;
  client->connect_clean = clean_start;
  client->connect_expiry_s = expiry_s;
  client->connect_ms = world->trial.now_ms;
  client->connect_gone = client->session && session_surely_gone(client->session);
  client->alive_before_ms = client->alive_ms;
  client->away_ms = NEVER;
  buffer_deinit(&client->in.bytes);
  if (clean_start && client->session) {
    session_over(client->session);
    client->session = NULL;
    client->must_clean = true;  // until the broker has said that it is gone
  }
  if (client->session && expiry_s < client->session->least_expiry) client->session->least_expiry = expiry_s;
  if (client->session && expiry_s > client->session->most_expiry) client->session->most_expiry = expiry_s;
  TRACE(world, "client %s connects by link %u, shard %u%s, expiry %u", client->id, client->link->number, client->link->shard,
        clean_start ? ", clean" : "", expiry_s);
  struct mqtt_packet packet = {
      .type = MQTT_CONNECT,
      .connect = {.version = client->version, .clean_start = clean_start, .client_id = span_text(client->id)}};
  if (client->version == MQTT_5_0) {
    struct mqtt_properties *sent = &packet.connect.properties;
    sent->session_expiry_s = expiry_s;
    sent->present |= 1ull << MQTT_PROPERTY_SESSION_EXPIRY;
    if (client->receive_maximum != UINT16_MAX) {
      sent->present |= 1ull << MQTT_PROPERTY_RECEIVE_MAXIMUM;
      sent->receive_maximum = client->receive_maximum;
    }
  }
  char user[16];
  if (world->plan.users && (world->healing || percent(world, 30))) client->named = true;
  if (client->named) {
    packet.connect.has_user_name = true;
    packet.connect.user_name = span_of(user, users_name(client, user));
  }
  bool may_leave_will = !world->plan.users || client->named;
  if (!world->healing && may_leave_will && percent(world, 30)) set_will(client, &packet.connect.will, payload, properties);
  client_send(client, &packet);
  free(payload);
}

// What the client knows when its connection is gone.
static void after_link(struct client *client)
{
  struct session *session = client->session;
  bool answered = client->connected;
  client->link = NULL;
  client->connected = false;
  acks_clear(&client->acks);
  client->requests.count = 0;
  if (!answered) {
    // Whether this CONNECT has ended the session cannot be told: only a clean start makes that certain again.
    bool uncertain = client->connect_expiry_s == 0 || !session || session_may_be_gone(session);
    client->connect_open = true;
    if (uncertain) {
      if (session) session_over(session);
      client->session = NULL;
      client->must_clean = true;
    }
    return;
  }
  if (session && session->expiry_s == 0) {
    client->must_clean = session->ever_durable;
    session_over(session);
    client->session = NULL;
  }
}

void client_lose_link(struct client *client)
{
  if (!client->link) return;
  client->link->client_done = true;
  pipe_close(&client->link->up);
  after_link(client);
}

// Goes on without telling anybody: the broker still believes in the old connection, until it is taken over.
static void abandon(struct client *client)
{
  client->link->client_done = true;
  after_link(client);
}

void client_disconnect(struct client *client, bool with_will, bool end_session)
{
  struct mqtt_packet packet = {.type = MQTT_DISCONNECT};
  if (client->version == MQTT_5_0) {
    if (with_will) packet.disconnect.reason = MQTT_DISCONNECT_WITH_WILL;
    if (end_session) packet.disconnect.properties.present = 1ull << MQTT_PROPERTY_SESSION_EXPIRY;
  }
  TRACE(client->world, "client %s disconnects", client->id);
  client_send(client, &packet);
  if (end_session && client->version == MQTT_5_0 && client->session && client->session->expiry_s > 0) {
    client->must_clean = true;
    session_over(client->session);
    client->session = NULL;
  }
  client_lose_link(client);
}

// ---- Publishing

static uint16_t next_packet_id(struct client *client)
{
  uint32_t ids = client->world->plan.flights + 4;  // few, so that they come again soon
  for (;;) {
    client->next_packet_id = (uint16_t)(client->next_packet_id % ids + 1);
    bool used = false;
    for (size_t i = 0; i < client->flights.count; i++) used |= client->flights.items[i].packet_id == client->next_packet_id;
    for (size_t i = 0; i < client->requests.count; i++)
      used |= client->requests.items[i].packet_id == client->next_packet_id;
    if (!used) return client->next_packet_id;
  }
}

static void send_publish(struct client *client, struct message *message, uint16_t packet_id, bool dup)
{
  struct world *world = client->world;
  uint8_t properties[1024];
  uint8_t *payload = malloc(message->payload_size + 1);
  if (!payload) abort();
  struct mqtt_packet packet = {.type = MQTT_PUBLISH,
                               .publish = {.qos = message->qos,
                                           .dup = dup,
                                           .retain = message->retain,
                                           .packet_id = packet_id,
                                           .topic = span_text(TOPIC_NAMES[message->topic]),
                                           .payload = span_of(payload, message_payload(message, payload))}};
  message_properties(message, properties, &packet.publish.properties);
  packet_expiry(&packet.publish.properties, message->expiry_s);
  first_sent(message);
  message->attempts++;
  TRACE(world, "client %s publishes message %u to %s at QoS %u packet %u%s%s%s", client->id, message->id,
        TOPIC_NAMES[message->topic], message->qos, packet_id, message->retain ? " retain" : "",
        message->empty ? " empty" : "", dup ? " again" : "");
  client_send(client, &packet);
  free(payload);
}

void client_publish(struct client *client, struct message *message)
{
  uint16_t packet_id = message->qos > 0 ? next_packet_id(client) : 0;
  struct flight flight = {.packet_id = packet_id, .message = message};
  if (message->qos > 0) VECTOR_PUSH(&client->flights, flight);
  message->generations++;
  send_publish(client, message, packet_id, false);
}

bool client_may_publish(const struct client *client)
{
  return client->flights.count < client->world->plan.flights && client->flights.count < client->server_receive_maximum &&
         pipe_room(&client->link->up) > 0;
}

// The broker has kept the session: everything again, in the original order [MQTT-4.4.0-1].
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

// It has not: what was not acknowledged is published again, as new. More of it than the window takes waits its turn.
void client_publish_again(struct client *client)
{
  size_t kept = 0;
  for (size_t i = 0; i < client->flights.count; i++) {
    struct flight flight = client->flights.items[i];
    if (!flight.released) client->flights.items[kept++] = flight;
  }
  client->flights.count = kept;
  for (size_t i = 0; i < kept; i++) {
    client->flights.items[i].message->generations++;
    send_publish(client, client->flights.items[i].message, client->flights.items[i].packet_id, false);
  }
}

// ---- Subscribing

void client_subscribe(struct client *client, uint8_t filter, uint8_t group)
{
  struct world *world = client->world;
  uint8_t payload[128];
  size_t size = packet_filter(payload, FILTER_NAMES[filter], group);
  bool v5 = client->version == MQTT_5_0;
  struct subscription *subscription = sim_alloc(sizeof *subscription);
  *subscription = (struct subscription){.filter = filter,
                                        .group = group,
                                        .qos = percent(world, 10)   ? 0
                                               : percent(world, 50) ? 1
                                                                    : 2,
                                        .acked = NEVER,
                                        .ended = NEVER,
                                        .dead = NEVER};
  if (client->is_witness) subscription->qos = 2;
  if (v5 && !group) subscription->no_local = percent(world, 10);
  if (v5) subscription->retain_as_published = percent(world, 15);
  if (v5 && (group || percent(world, 70))) subscription->id = ++world->subscription_ids;
  uint8_t options =
      (uint8_t)(subscription->qos | (subscription->no_local ? 4 : 0) | (subscription->retain_as_published ? 8 : 0));
  if (v5 && !client->is_witness) options |= (uint8_t)(pick(world, 3) << 4);
  payload[size++] = options;
  struct mqtt_packet packet = {
      .type = MQTT_SUBSCRIBE,
      .subscribe = {.packet_id = next_packet_id(client), .count = 1, .payload = span_of(payload, size)}};
  if (subscription->id) {
    packet.subscribe.properties.present = 1ull << MQTT_PROPERTY_SUBSCRIPTION_ID;
    packet.subscribe.properties.subscription_ids = &subscription->id;
    packet.subscribe.properties.subscription_id_count = 1;
  }
  struct subscription *before = session_subscription(client->session, filter, group);
  if (before) before->ended = world->trial.tick;
  world->used[group][filter] = true;
  if (client->session->expiry_s == 0) world->disturbed[group][filter] = true;
  VECTOR_PUSH(&client->session->subscriptions, subscription);
  struct request request = {
      .packet_id = packet.subscribe.packet_id, .subscription = subscription, .sent = world->trial.tick};
  VECTOR_PUSH(&client->requests, request);
  TRACE(world, "client %s subscribes to %s group %u QoS %u identifier %u options 0x%02x", client->id, FILTER_NAMES[filter],
        group, subscription->qos, subscription->id, options);
  client_send(client, &packet);
}

static void random_subscribe(struct client *client)
{
  struct world *world = client->world;
  uint8_t filter = (uint8_t)pick(world, world->plan.backlog ? 3 : FILTERS), group = 0;
  if (client->version == MQTT_5_0 && percent(world, 15)) {
    filter = (uint8_t)pick(world, 3);
    group = (uint8_t)(1 + pick(world, GROUPS));
  }
  client_subscribe(client, filter, group);
}

static void unsubscribe(struct client *client, struct subscription *subscription)
{
  struct world *world = client->world;
  uint8_t payload[128];
  size_t size = packet_filter(payload, FILTER_NAMES[subscription->filter], subscription->group);
  struct mqtt_packet packet = {
      .type = MQTT_UNSUBSCRIBE,
      .unsubscribe = {.packet_id = next_packet_id(client), .count = 1, .payload = span_of(payload, size)}};
  subscription->ended = world->trial.tick;
  world->disturbed[subscription->group][subscription->filter] = true;
  struct request request = {.packet_id = packet.unsubscribe.packet_id,
                            .unsubscribe = true,
                            .subscription = subscription,
                            .sent = world->trial.tick};
  VECTOR_PUSH(&client->requests, request);
  TRACE(world, "client %s unsubscribes from %s group %u", client->id, FILTER_NAMES[subscription->filter],
        subscription->group);
  client_send(client, &packet);
}

static unsigned live_subscriptions(const struct client *client)
{
  unsigned count = 0;
  for (size_t i = 0; i < client->session->subscriptions.count; i++)
    count += client->session->subscriptions.items[i]->ended == NEVER;
  return count;
}

// ---- Whims

// One that has what it came for, and now stays away while its queue grows.
static bool is_full_subscriber(const struct client *client)
{
  if (!client->world->plan.backlog || client->index < 2 || !client->session) return false;
  for (size_t i = 0; i < client->session->subscriptions.count; i++)
    if (client->session->subscriptions.items[i]->acked != NEVER) return true;
  return false;
}

static void leave_whim(struct client *client)
{
  struct world *world = client->world;
  uint64_t whim = pick(world, 100);
  if (whim < 50) {
    bool end_session = !world->plan.steady && percent(world, 15);
    client_disconnect(client, percent(world, 30), end_session);
  } else if (whim < 75)
    client_lose_link(client);
  else
    abandon(client);
}

static void connected_whim(struct client *client)
{
  struct world *world = client->world;
  uint64_t whim = pick(world, 1000);
  bool wants_any =
      client->requests.count == 0 && (!world->plan.backlog || client->index >= 2) && live_subscriptions(client) == 0;
  if (wants_any && percent(world, 30)) {
    random_subscribe(client);
  } else if (whim < client->publish_percent * 6u) {
    uint64_t most = 1 + pick(world, world->plan.burst);
    while (most-- > 0 && client_may_publish(client)) client_publish(client, random_message(client, false));
  } else if (whim < 720) {
    if (client->requests.count < 3 && live_subscriptions(client) < SUBSCRIPTIONS && percent(world, 40))
      random_subscribe(client);
  } else if (whim < (world->plan.steady ? 723u : 735u)) {
    size_t count = client->session->subscriptions.count;
    struct subscription *subscription = count ? client->session->subscriptions.items[pick(world, count)] : NULL;
    if (subscription && subscription->ended == NEVER && client->requests.count < 3) unsubscribe(client, subscription);
  } else if (whim < 755 || (is_full_subscriber(client) && whim < 900)) {
    leave_whim(client);
  }
}

// The first of a type that was received first: others of the type must not overtake it [MQTT-4.6.0-2].
static size_t choose_ack(struct client *client)
{
  struct world *world = client->world;
  size_t at = (size_t)pick(world, client->acks.due.count);
  if (client->any_order && percent(world, 40)) return at;
  enum mqtt_packet_type type = client->acks.due.items[at].type;
  for (size_t i = 0; i < at; i++)
    if (client->acks.due.items[i].type == type) return i;
  return at;
}

static bool send_acks(struct client *client)
{
  struct world *world = client->world;
  bool sent = false;
  while (client->acks.due.count > 0 && (world->healing || percent(world, world->plan.ack_percent))) {
    struct mqtt_packet packet = acks_take(&client->acks, world->healing ? 0 : choose_ack(client));
    client_send(client, &packet);
    sent = true;
  }
  return sent;
}

// Whether an earlier CONNECT of its own may still be handled, behind the one that it would send now: then it would not know
// which counts.
static bool is_half_open(const struct client *client)
{
  const struct broker *broker = &client->world->broker;
  for (size_t i = 0; i < broker->links.count; i++) {
    const struct wire *wire = broker->links.items[i];
    if (wire->client == client && !wire->ended && !wire->answered) return true;
  }
  return false;
}

bool client_act(struct client *client)
{
  struct world *world = client->world;
  world->trial.tick++;
  if (!client->link) {
    if (is_half_open(client)) return false;
    unsigned eager = is_full_subscriber(client) ? 2 : client->connect_percent;
    if (world->ending || (!world->healing && !percent(world, eager))) return false;
    unsigned clean_percent = client->kind == KIND_CLEAN ? 90 : client->kind == KIND_MIXED ? 25 : 3;
    if (world->plan.steady && client->kind != KIND_CLEAN) clean_percent = client->kind == KIND_MIXED ? 5 : 0;
    client_connect(client, client->must_clean || client->is_witness || (!world->healing && percent(world, clean_percent)));
    return true;
  }
  bool acted = client_read(client, world->healing ? SIZE_MAX : 1 + (size_t)pick(world, 4000));
  if (!client->link || !client->connected) return acted;
  acted |= send_acks(client);
  if (!world->healing) connected_whim(client);
  return acted || !world->healing;
}
