// What a client does with what it reads, and what it must never read.
#include "client.h"

// ---- PUBLISH

static struct flight *find_received(struct client *client, uint16_t packet_id)
{
  for (size_t i = 0; i < client->received.count; i++)
    if (client->received.items[i].packet_id == packet_id) return &client->received.items[i];
  return NULL;
}

static enum mqtt_reason whim_reason(struct client *client)
{
  static const enum mqtt_reason reasons[] = {MQTT_UNSPECIFIED_ERROR, MQTT_NOT_AUTHORIZED, MQTT_QUOTA_EXCEEDED};
  if (!client->careless || !percent(client->world, 10)) return MQTT_SUCCESS;
  return reasons[pick(client->world, 3)];
}

static void receive_qos_2(struct client *client, struct copy *copy, uint16_t packet_id)
{
  struct flight *known = find_received(client, packet_id);
  if (known) {
    if (known->message != copy->message)
      world_fail(client->world, "packet %u to client %s is message %u and message %u", packet_id, client->id,
                 known->message->id, copy->message->id);
    acks_push(&client->acks, MQTT_PUBREC, packet_id, MQTT_SUCCESS);
    return;
  }
  enum mqtt_reason reason = whim_reason(client);
  copy->times_taken++;
  if (copy->times_taken > 1 && !client->careless)
    world_fail(client->world, "message %u was delivered to client %s at QoS 2 twice", copy->message->id, client->id);
  if (reason < 0x80) {
    struct flight flight = {.packet_id = packet_id, .message = copy->message};
    VECTOR_PUSH(&client->received, flight);
  }
  acks_push(&client->acks, MQTT_PUBREC, packet_id, reason);
}

static void receive_publish(struct client *client, const struct mqtt_publish *publish)
{
  struct link *link = client->link;
  if (link->reads_first == link->reads.count) {
    world_fail(client->world, "client %s read more messages than were written", client->id);
    return;
  }
  struct copy *copy = link->reads.items[link->reads_first++];
  copy->times_read++;
  if (publish->qos > 0) acks_receive(&client->acks, client->world, client->id, publish->packet_id, client->receive_maximum);
  if (publish->qos == 2) {
    receive_qos_2(client, copy, publish->packet_id);
    return;
  }
  copy->times_taken++;
  if (publish->qos == 1) acks_push(&client->acks, MQTT_PUBACK, publish->packet_id, whim_reason(client));
}

// ---- The rest

static void receive_connack(struct client *client, const struct mqtt_connack *connack)
{
  const struct mqtt_properties *properties = &connack->properties;
  uint16_t in_flight = client->broker->limits.in_flight;
  if (connack->reason != MQTT_SUCCESS) {
    client_lose_link(client);
    return;
  }
  client->connected = true;
  client->server_receive_maximum = MQTT_HAS(properties, RECEIVE_MAXIMUM) ? properties->receive_maximum : UINT16_MAX;
  if (client->version != MQTT_5_0) client->server_receive_maximum = in_flight;
  client->server_alias_maximum = properties->topic_alias_maximum;
  // The client is told more than a real one would know: whether an earlier CONNACK that it has lost began another session.
  if (client->believed != client->link->session) client_forget_session(client);
  client->believed = client->link->session;
  if (connack->session_present || client->version == MQTT_3_1)
    client_send_again(client);
  else
    client_forget_session(client);
}

static void receive_ack(struct client *client, enum mqtt_packet_type type, const struct mqtt_ack *ack)
{
  uint8_t qos = type == MQTT_PUBACK ? 1 : 2;
  for (size_t i = 0; i < client->flights.count; i++) {
    struct flight *flight = &client->flights.items[i];
    if (flight->packet_id != ack->packet_id || flight->message->qos != qos) continue;
    if (type == MQTT_PUBREC && ack->reason < 0x80) {
      flight->released = true;
      acks_push(&client->acks, MQTT_PUBREL, ack->packet_id, MQTT_SUCCESS);
    } else if (type == MQTT_PUBCOMP && !flight->released) {
      world_fail(client->world, "PUBCOMP before PUBREL to client %s", client->id);
    } else {
      VECTOR_REMOVE(&client->flights, i);
    }
    return;
  }
  world_fail(client->world, "%s for packet %u to client %s, which waits for none", mqtt_packet_name(type), ack->packet_id,
             client->id);
}

static void receive_pubrel(struct client *client, uint16_t packet_id)
{
  enum mqtt_reason reason = MQTT_PACKET_ID_NOT_FOUND;
  for (size_t i = 0; i < client->received.count; i++) {
    if (client->received.items[i].packet_id != packet_id) continue;
    VECTOR_REMOVE(&client->received, i);
    reason = MQTT_SUCCESS;
    break;
  }
  acks_push(&client->acks, MQTT_PUBCOMP, packet_id, reason);
}

static void receive_answer(struct client *client, uint16_t packet_id)
{
  for (size_t i = 0; i < client->requests.count; i++) {
    if (client->requests.items[i] != packet_id) continue;
    VECTOR_REMOVE(&client->requests, i);
    return;
  }
  world_fail(client->world, "client %s was answered what it did not ask (packet %u)", client->id, packet_id);
}

static void receive_packet(struct client *client, struct mqtt_packet *packet)
{
  switch (packet->type) {
    case MQTT_CONNACK: receive_connack(client, &packet->connack); break;
    case MQTT_PUBLISH: receive_publish(client, &packet->publish); break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBCOMP: receive_ack(client, packet->type, &packet->ack); break;
    case MQTT_PUBREL: receive_pubrel(client, packet->ack.packet_id); break;
    case MQTT_SUBACK: receive_answer(client, packet->suback.packet_id); break;
    case MQTT_UNSUBACK: receive_answer(client, packet->suback.packet_id); break;
    case MQTT_DISCONNECT: client_lose_link(client); break;
    case MQTT_PINGRESP:
    case MQTT_CONNECT:
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
    case MQTT_PINGREQ:
    case MQTT_AUTH: break;
  }
}

bool client_read(struct client *client, size_t size)
{
  struct link *link = client->link;
  struct world *world = client->world;
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
    receive_packet(client, &packet);
    splitter_drop(&client->in, packet_size);
  }
  if (result == SPLITTER_MALFORMED) world_fail(world, "client %s was sent what does not decode: %s", client->id, fault.text);
  if (client->link == link && pipe_at_end(&link->down)) {
    client_lose_link(client);
    return true;
  }
  return bytes.size > 0;
}
