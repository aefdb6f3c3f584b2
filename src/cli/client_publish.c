// Messages on their way out, kept until they are done with. See client_internal.h.
#include "cli/client_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { UNSENT_MAX_BYTES = 256 * 1024 };  // more than this is not encoded ahead of the socket

static struct outgoing *first_of(struct link *head)
{
  return list_empty(head) ? NULL : CONTAINER_OF(head->next, struct outgoing, link);
}

static size_t payload_bytes(const struct outgoing *outgoing)
{
  return outgoing->publish.topic.size + outgoing->publish.payload.size;
}

static void finish(struct client *client, struct outgoing *outgoing, enum mqtt_reason reason)
{
  uint64_t tag = outgoing->tag;
  list_remove(&outgoing->link);
  client->unfinished_count--;
  client->queued_bytes -= payload_bytes(outgoing);
  free(outgoing);
  if (client->handler.published) client->handler.published(client->handler.context, tag, reason);
}

enum status client_publish(struct client *client, const struct mqtt_publish *publish, uint64_t tag)
{
  if (client->state >= CLIENT_ENDING) return ERR_CLOSED;
  size_t topic_size = publish->topic.size;
  size_t payload_size = publish->payload.size;
  struct outgoing *outgoing = malloc(sizeof *outgoing + topic_size + payload_size);
  if (!outgoing) return ERR_NO_MEMORY;
  *outgoing = (struct outgoing){.phase = OUTGOING_QUEUED, .tag = tag, .publish = *publish};
  if (topic_size > 0) memcpy(outgoing->bytes, publish->topic.at, topic_size);
  if (payload_size > 0) memcpy(outgoing->bytes + topic_size, publish->payload.at, payload_size);
  outgoing->publish.topic = span_of(outgoing->bytes, topic_size);
  outgoing->publish.payload = span_of(outgoing->bytes + topic_size, payload_size);
  outgoing->publish.packet_id = 0;
  outgoing->publish.dup = false;
  list_append(&client->queued, &outgoing->link);
  client->unfinished_count++;
  client->queued_bytes += topic_size + payload_size;
  return OK;
}

size_t client_unfinished(const struct client *client)
{
  return client->unfinished_count;
}

size_t client_queued_bytes(const struct client *client)
{
  return client->queued_bytes;
}

void client_free_outgoing(struct client *client)
{
  struct link *heads[] = {&client->queued, &client->flying, &client->unflushed};
  for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
    struct link *link;
    while ((link = list_take_first(heads[i]))) free(CONTAINER_OF(link, struct outgoing, link));
  }
}

static struct outgoing *find_flying(struct client *client, uint16_t packet_id)
{
  LIST_EACH (link, &client->flying) {
    struct outgoing *outgoing = CONTAINER_OF(link, struct outgoing, link);
    if (outgoing->packet_id == packet_id) return outgoing;
  }
  return NULL;
}

// In flight are at most 65,534 messages, so that there is always a free one.
uint16_t client_next_packet_id(struct client *client)
{
  assert(client->flying_count < UINT16_MAX);
  do {
    client->last_packet_id = (uint16_t)(client->last_packet_id + 1);
  } while (client->last_packet_id == 0 || find_flying(client, client->last_packet_id));
  return client->last_packet_id;
}

// ---- What the broker does not allow is found before it closes the connection for it

static enum mqtt_reason refused(const struct client *client, const struct mqtt_packet *packet, size_t size)
{
  const struct mqtt_properties *allowed = &client->connack.properties;
  const struct mqtt_publish *publish = &packet->publish;
  if (size == 0) return MQTT_PACKET_TOO_LARGE;
  if (MQTT_HAS(allowed, MAXIMUM_PACKET_SIZE) && size > allowed->maximum_packet_size) return MQTT_PACKET_TOO_LARGE;
  if (MQTT_HAS(allowed, MAXIMUM_QOS) && publish->qos > allowed->maximum_qos) return MQTT_QOS_NOT_SUPPORTED;
  if (MQTT_HAS(allowed, RETAIN_AVAILABLE) && !allowed->retain_available && publish->retain) return MQTT_RETAIN_NOT_SUPPORTED;
  if (publish->properties.topic_alias > allowed->topic_alias_maximum) return MQTT_TOPIC_ALIAS_INVALID;
  return MQTT_SUCCESS;
}

static void send_publish(struct client *client, struct outgoing *outgoing)
{
  struct mqtt_packet packet = {.type = MQTT_PUBLISH, .publish = outgoing->publish};
  packet.publish.packet_id = outgoing->packet_id;
  enum mqtt_reason reason = refused(client, &packet, mqtt_encoded_size(client->settings.version, &packet));
  if (reason != MQTT_SUCCESS) {
    if (packet.publish.qos > 0) client->flying_count--;
    finish(client, outgoing, reason);
    return;
  }
  client_trace(client, "sending PUBLISH (%.*s, QoS %u, packet %u%s%s, %zu bytes)", (int)packet.publish.topic.size,
               (const char *)packet.publish.topic.at, packet.publish.qos, packet.publish.packet_id,
               packet.publish.retain ? ", retain" : "", packet.publish.dup ? ", again" : "", packet.publish.payload.size);
  if (client_send(client, &packet)) outgoing->end = transport_end(&client->transport);
}

void client_send_queued(struct client *client)
{
  struct outgoing *outgoing;
  while (client->state == CLIENT_ONLINE && transport_unsent(&client->transport) < UNSENT_MAX_BYTES &&
         (outgoing = first_of(&client->queued))) {
    bool acknowledged = outgoing->publish.qos > 0;
    if (acknowledged && client->flying_count >= client->in_flight_limit) return;
    list_remove(&outgoing->link);
    if (acknowledged) outgoing->packet_id = client_next_packet_id(client);
    outgoing->phase = OUTGOING_SENT;
    list_append(acknowledged ? &client->flying : &client->unflushed, &outgoing->link);
    if (acknowledged) client->flying_count++;
    send_publish(client, outgoing);
  }
}

void client_settle_flushed(struct client *client)
{
  struct outgoing *outgoing;
  while ((outgoing = first_of(&client->unflushed)) && outgoing->end <= client->transport.flushed_bytes)
    finish(client, outgoing, MQTT_SUCCESS);
}

static void send_ack(struct client *client, enum mqtt_packet_type type, uint16_t packet_id)
{
  struct mqtt_packet packet = {.type = type, .ack = {.packet_id = packet_id}};
  client_trace(client, "sending %s (packet %u)", mqtt_packet_name(type), packet_id);
  (void)client_send(client, &packet);
}

// The broker knows the session: everything in flight goes again, with its identifiers and in its order [MQTT-4.4.0-1].
static void send_flying_again(struct client *client)
{
  LIST_EACH (link, &client->flying) {
    struct outgoing *outgoing = CONTAINER_OF(link, struct outgoing, link);
    if (outgoing->phase == OUTGOING_RELEASED) {
      send_ack(client, MQTT_PUBREL, outgoing->packet_id);
      continue;
    }
    outgoing->publish.dup = true;
    send_publish(client, outgoing);
  }
}

void client_resume(struct client *client, bool session_present)
{
  if (session_present) {
    send_flying_again(client);
    return;
  }
  // The broker took over what it answered with PUBREC; the rest starts anew.
  LIST_EACH (link, &client->flying) {
    struct outgoing *outgoing = CONTAINER_OF(link, struct outgoing, link);
    if (outgoing->phase == OUTGOING_RELEASED) finish(client, outgoing, MQTT_SUCCESS);
  }
  client_requeue(client, &client->flying);
  client->flying_count = 0;
}

// ---- Acknowledgements

static void land(struct client *client, struct outgoing *outgoing, enum mqtt_reason reason)
{
  client->flying_count--;
  finish(client, outgoing, reason);
}

static void handle_pubrec(struct client *client, struct outgoing *outgoing, const struct mqtt_ack *ack)
{
  if (!outgoing) {
    struct mqtt_packet packet = {.type = MQTT_PUBREL, .ack = {.packet_id = ack->packet_id}};
    packet.ack.reason = MQTT_PACKET_ID_NOT_FOUND;
    (void)client_send(client, &packet);
    return;
  }
  if (outgoing->publish.qos != 2) return;
  if (ack->reason >= MQTT_UNSPECIFIED_ERROR) {
    land(client, outgoing, ack->reason);
    return;
  }
  outgoing->phase = OUTGOING_RELEASED;
  send_ack(client, MQTT_PUBREL, ack->packet_id);
}

void client_handle_ack(struct client *client, enum mqtt_packet_type type, const struct mqtt_ack *ack)
{
  struct outgoing *outgoing = find_flying(client, ack->packet_id);
  if (type == MQTT_PUBREC)
    handle_pubrec(client, outgoing, ack);
  else if (outgoing && type == MQTT_PUBACK && outgoing->publish.qos == 1)
    land(client, outgoing, ack->reason);
  else if (outgoing && type == MQTT_PUBCOMP && outgoing->phase == OUTGOING_RELEASED)
    // After a reconnection the broker may have been done with it before: no error (5.0 section 3.7.2.1, table 3-8).
    land(client, outgoing, ack->reason == MQTT_PACKET_ID_NOT_FOUND ? MQTT_SUCCESS : ack->reason);
}
