// What a client does with what it reads, and what it must never read.
#include "world.h"

// ---- PUBLISH

static struct flight *find_received(const struct session *session, uint16_t packet_id)
{
  for (size_t i = 0; i < session->received.count; i++)
    if (session->received.items[i].packet_id == packet_id) return &session->received.items[i];
  return NULL;
}

static void receive_qos_2(struct client *client, const struct mqtt_publish *publish, uint64_t written_ms)
{
  struct world *world = client->world;
  struct session *session = client->session;
  struct flight *known = find_received(session, publish->packet_id);
  struct message *message = oracle_receive(client, publish, written_ms, known != NULL);
  acks_push(&client->acks, MQTT_PUBREC, publish->packet_id, MQTT_SUCCESS);
  if (known && world->lossy) {
    known->message = message;
    return;
  }
  if (known) {
    if (known->message != message)
      world_fail(world, "packet %u to client %s is message %d and message %d", publish->packet_id, client->id,
                 known->message ? (int)known->message->id : -1, message ? (int)message->id : -1);
    if (!publish->dup && session->crashes >= world->bad_crash)
      world_fail(world, "packet %u came to client %s again without DUP", publish->packet_id, client->id);
    return;
  }
  struct flight flight = {.packet_id = publish->packet_id, .message = message};
  VECTOR_PUSH(&session->received, flight);
  oracle_taken(client, message, publish);
}

static void receive_publish(struct client *client, const struct mqtt_publish *publish, uint64_t written_ms)
{
  if (publish->qos > 0) acks_receive(&client->acks, client->world, client->id, publish->packet_id, client->receive_maximum);
  if (publish->qos == 2) {
    receive_qos_2(client, publish, written_ms);
    return;
  }
  struct message *message = oracle_receive(client, publish, written_ms, false);
  oracle_taken(client, message, publish);
  if (publish->qos == 1) acks_push(&client->acks, MQTT_PUBACK, publish->packet_id, MQTT_SUCCESS);
}

// ---- The rest

static void receive_connack(struct client *client, const struct mqtt_connack *connack)
{
  struct world *world = client->world;
  const struct mqtt_properties *properties = &connack->properties;
  if (connack->reason != MQTT_SUCCESS) {
    world_fail(world, "client %s is refused: %s", client->id, mqtt_reason_name(connack->reason));
    return;
  }
  uint32_t granted_s = client->connect_expiry_s;
  if (client->version == MQTT_5_0 && MQTT_HAS(properties, SESSION_EXPIRY)) granted_s = properties->session_expiry_s;
  if (granted_s != client->connect_expiry_s)
    world_fail(world, "client %s was granted an expiry of %u s", client->id, granted_s);
  oracle_connack(client, connack->session_present);
  if (world->trial.failed) return;
  client->connected = true;
  client->must_clean = false;
  client->connect_open = false;
  client->server_receive_maximum = MQTT_HAS(properties, RECEIVE_MAXIMUM) ? properties->receive_maximum : UINT16_MAX;
  if (client->version != MQTT_5_0) client->server_receive_maximum = world->broker.limits.in_flight;
  if (!connack->session_present && client->session) {
    session_over(client->session);
    client->session = NULL;
  }
  bool fresh = !client->session;
  if (fresh) client->session = session_begin(client);
  struct session *session = client->session;
  if (fresh && connack->session_present) session->surprise = true;
  session->expiry_s = session->least_expiry = session->most_expiry = granted_s;
  if (granted_s > 0) session->ever_durable = session->known = true;
  if (client->named) session->owned = true;
  session->connections++;
  world->statistics.resumed += connack->session_present;
  if (connack->session_present)
    client_send_again(client);
  else
    client_publish_again(client);
}

static void acknowledged(struct client *client, struct message *message)
{
  if (message->acked != NEVER) return;
  message->acked = client->world->trial.tick;
  message->acked_ms = client->world->trial.now_ms;
  client->world->statistics.acked++;
}

static void receive_ack(struct client *client, enum mqtt_packet_type type, const struct mqtt_ack *ack)
{
  uint8_t qos = type == MQTT_PUBACK ? 1 : 2;
  for (size_t i = 0; i < client->flights.count; i++) {
    struct flight *flight = &client->flights.items[i];
    if (flight->packet_id != ack->packet_id || flight->message->qos != qos) continue;
    TRACE(client->world, "client %s reads %s for message %u, reason %u", client->id, mqtt_packet_name(type),
          flight->message->id, ack->reason);
    if (ack->reason >= 0x80 && type != MQTT_PUBCOMP) {
      flight->message->refused = true;
      VECTOR_REMOVE(&client->flights, i);
      return;
    }
    acknowledged(client, flight->message);
    if (type == MQTT_PUBREC) {
      flight->released = true;
      acks_push(&client->acks, MQTT_PUBREL, ack->packet_id, MQTT_SUCCESS);
      return;
    }
    if (type == MQTT_PUBCOMP && !flight->released)
      world_fail(client->world, "PUBCOMP before PUBREC to client %s", client->id);
    VECTOR_REMOVE(&client->flights, i);
    return;
  }
  world_fail(client->world, "%s for packet %u to client %s, which waits for none", mqtt_packet_name(type), ack->packet_id,
             client->id);
}

static void receive_pubrel(struct client *client, uint16_t packet_id)
{
  struct session *session = client->session;
  enum mqtt_reason reason = MQTT_PACKET_ID_NOT_FOUND;
  for (size_t i = 0; i < session->received.count; i++) {
    if (session->received.items[i].packet_id != packet_id) continue;
    VECTOR_REMOVE(&session->received, i);
    reason = MQTT_SUCCESS;
    break;
  }
  acks_push(&client->acks, MQTT_PUBCOMP, packet_id, reason);
}

static void receive_suback(struct client *client, const struct request *request, const struct mqtt_suback *suback)
{
  struct world *world = client->world;
  struct subscription *subscription = request->subscription;
  if (request->unsubscribe) {
    subscription->dead = world->trial.tick;
    return;
  }
  if (suback->codes.size != 1 || suback->codes.at[0] != subscription->qos)
    world_fail(world, "client %s was granted another QoS", client->id);
  subscription->acked = world->trial.tick;
  TRACE(world, "client %s reads SUBACK for %s group %u", client->id, FILTER_NAMES[subscription->filter],
        subscription->group);
  client->session->known = true;
  for (size_t i = 0; i < client->session->subscriptions.count; i++) {  // what it replaces
    struct subscription *other = client->session->subscriptions.items[i];
    if (other != subscription && other->filter == subscription->filter && other->group == subscription->group &&
        other->ended <= request->sent && other->dead == NEVER)
      other->dead = world->trial.tick;
  }
}

static void receive_answer(struct client *client, const struct mqtt_suback *suback)
{
  for (size_t i = 0; i < client->requests.count; i++) {
    struct request request = client->requests.items[i];
    if (request.packet_id != suback->packet_id) continue;
    VECTOR_REMOVE(&client->requests, i);
    receive_suback(client, &request, suback);
    return;
  }
  world_fail(client->world, "client %s was answered what it did not ask (packet %u)", client->id, suback->packet_id);
}

static void receive_disconnect(struct client *client, enum mqtt_reason reason)
{
  if (reason == MQTT_RECEIVE_MAXIMUM_EXCEEDED && client->world->lossy) {
    // PUBREL was taken back, so identifiers are left behind in its session: another one, then.
    client->must_clean = true;
  } else if (reason != MQTT_SERVER_SHUTTING_DOWN && reason != MQTT_SESSION_TAKEN_OVER) {
    world_fail(client->world, "client %s is disconnected: %s", client->id, mqtt_reason_name(reason));
  }
  client_lose_link(client);
}

static void receive_packet(struct client *client, struct mqtt_packet *packet, uint64_t written_ms)
{
  if (packet->type != MQTT_CONNACK && packet->type != MQTT_DISCONNECT && !client->connected)
    world_fail(client->world, "client %s reads %s before CONNACK", client->id, mqtt_packet_name(packet->type));
  if (client->world->trial.failed) return;
  switch (packet->type) {
    case MQTT_CONNACK: receive_connack(client, &packet->connack); break;
    case MQTT_PUBLISH: receive_publish(client, &packet->publish, written_ms); break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBCOMP: receive_ack(client, packet->type, &packet->ack); break;
    case MQTT_PUBREL: receive_pubrel(client, packet->ack.packet_id); break;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK: receive_answer(client, &packet->suback); break;
    case MQTT_DISCONNECT: receive_disconnect(client, packet->disconnect.reason); break;
    case MQTT_PINGRESP:
    case MQTT_CONNECT:
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
    case MQTT_PINGREQ:
    case MQTT_AUTH: break;
  }
}

// When the byte at this place of the stream was written.
static uint64_t written_ms(const struct wire *link, uint64_t end)
{
  for (size_t i = 0; i < link->written.count; i++)
    if (link->written.items[i].end >= end) return link->written.items[i].ms;
  return 0;
}

bool client_read(struct client *client, size_t size)
{
  struct wire *link = client->link;
  struct world *world = client->world;
  if (!link) return false;
  struct span bytes = pipe_peek(&link->down);
  if (bytes.size > size) bytes.size = size;
  splitter_add(&client->in, bytes);
  pipe_read(&link->down, bytes.size);
  struct mqtt_packet packet;
  struct mqtt_fault fault;
  size_t packet_size;
  enum splitter_result result = SPLITTER_INCOMPLETE;
  while (client->link == link && !world->trial.failed &&
         (result = splitter_peek(&client->in, client->version, MQTT_FROM_SERVER, &packet, &packet_size, &fault)) ==
             SPLITTER_PACKET) {
    world->trial.tick++;
    client->bytes_read += packet_size;
    receive_packet(client, &packet, written_ms(link, client->bytes_read));
    splitter_drop(&client->in, packet_size);
  }
  if (result == SPLITTER_MALFORMED) world_fail(world, "client %s was sent what does not decode: %s", client->id, fault.text);
  if (client->link == link && pipe_at_end(&link->down)) {
    client_lose_link(client);
    return true;
  }
  return bytes.size > 0;
}
