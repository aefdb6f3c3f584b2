// What arrives from the broker. See client_internal.h.
#include "cli/client_internal.h"

#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"

enum { ID_BITMAP_BYTES = 65536 / 8 };

void client_forget_aliases(struct client *client)
{
  for (size_t i = 0; i < CLIENT_TOPIC_ALIASES; i++) free(client->aliases[i].topic);
  memset(client->aliases, 0, sizeof client->aliases);
}

// ---- CONNACK, DISCONNECT

// " (reason string)" or "".
static void reason_suffix(const struct mqtt_properties *properties, char *out, size_t size)
{
  struct span text = properties->reason_string;
  out[0] = '\0';
  if (MQTT_HAS(properties, REASON_STRING) && text.size > 0)
    snprintf(out, size, " (%.*s)", (int)text.size, (const char *)text.at);
}

// Refusals that pass.
static bool is_temporary(enum mqtt_reason reason)
{
  return reason < MQTT_UNSPECIFIED_ERROR || reason == MQTT_SERVER_UNAVAILABLE || reason == MQTT_SERVER_BUSY ||
         reason == MQTT_CONNECTION_RATE_EXCEEDED || reason == MQTT_QUOTA_EXCEEDED || reason == MQTT_SERVER_SHUTTING_DOWN ||
         reason == MQTT_KEEP_ALIVE_TIMEOUT || reason == MQTT_MESSAGE_RATE_TOO_HIGH || reason == MQTT_MAXIMUM_CONNECT_TIME ||
         reason == MQTT_UNSPECIFIED_ERROR;
}

static void refuse(struct client *client, const char *what, enum mqtt_reason reason,
                   const struct mqtt_properties *properties)
{
  char suffix[200];
  char text[400];
  reason_suffix(properties, suffix, sizeof suffix);
  snprintf(text, sizeof text, "%s: %s (0x%02x)%s", what, mqtt_reason_name(reason), reason, suffix);
  bool again = client->was_online ? client->settings.reconnect : client->settings.retry_first;
  if (again && is_temporary(reason) && client->state != CLIENT_ENDING)
    client_lose(client, text);
  else
    client_fail(client, reason >= MQTT_UNSPECIFIED_ERROR ? (int)reason : COMMAND_FAILED, "%s", text);
}

// What they point at goes with the packet.
static void forget_spans(struct mqtt_properties *properties)
{
  properties->raw = properties->user = (struct span){0};
  properties->assigned_client_id = properties->reason_string = (struct span){0};
  properties->response_information = properties->server_reference = (struct span){0};
  properties->authentication_method = properties->authentication_data = (struct span){0};
}

static void accepted(struct client *client, const struct mqtt_connack *connack)
{
  const struct mqtt_properties *properties = &connack->properties;
  client->connack = *connack;
  forget_spans(&client->connack.properties);
  if (MQTT_HAS(properties, ASSIGNED_CLIENT_ID) && properties->assigned_client_id.size < sizeof client->assigned_id) {
    struct span id = properties->assigned_client_id;
    memcpy(client->assigned_id, id.at, id.size);
    client->settings.client_id = span_of(client->assigned_id, id.size);
  }
  client->keep_alive_s =
      MQTT_HAS(properties, SERVER_KEEP_ALIVE) ? properties->server_keep_alive_s : client->settings.keep_alive_s;
  size_t in_flight = client->settings.version == MQTT_5_0 ? CLIENT_IN_FLIGHT : CLIENT_IN_FLIGHT_OLD;
  client->in_flight_limit = client->settings.in_flight ? client->settings.in_flight : in_flight;
  if (MQTT_HAS(properties, RECEIVE_MAXIMUM) && properties->receive_maximum < client->in_flight_limit)
    client->in_flight_limit = properties->receive_maximum;
  // Before 3.1.1 the broker cannot say whether it has a session.
  bool present = connack->session_present || (client->settings.version == MQTT_3_1 && !client->settings.clean_start);
  if (!present) {
    free(client->received_ids);
    client->received_ids = NULL;
  }
  client->state = CLIENT_ONLINE;
  client->was_online = true;
  client->ping_waits = false;
  client->online_since_ms = client_now_ms();
  client_resume(client, present);
  if (client->state == CLIENT_ONLINE && client->handler.connected)
    client->handler.connected(client->handler.context, connack);
}

static void handle_connack(struct client *client, const struct mqtt_connack *connack)
{
  client_trace(client, "received CONNACK (%s%s)", mqtt_reason_name(connack->reason),
               connack->session_present ? ", session present" : "");
  if (connack->reason == MQTT_SUCCESS)
    accepted(client, connack);
  else
    refuse(client, "the broker refuses the connection", connack->reason, &connack->properties);
}

static void handle_disconnect(struct client *client, const struct mqtt_disconnect *disconnect)
{
  client_trace(client, "received DISCONNECT (%s)", mqtt_reason_name(disconnect->reason));
  refuse(client, "the broker disconnects", disconnect->reason, &disconnect->properties);
}

// ---- PUBLISH

static bool resolve_alias(struct client *client, struct mqtt_publish *publish)
{
  if (!MQTT_HAS(&publish->properties, TOPIC_ALIAS)) return true;
  uint16_t number = publish->properties.topic_alias;
  // An alias that was our idea is nobody's business but ours.
  if (!MQTT_HAS(&client->settings.connect_properties, TOPIC_ALIAS_MAXIMUM))
    publish->properties.present &= ~(1ULL << MQTT_PROPERTY_TOPIC_ALIAS);
  if (number == 0 || number > CLIENT_TOPIC_ALIASES) return false;
  struct topic_alias *alias = &client->aliases[number - 1];
  if (publish->topic.size == 0) {
    publish->topic = span_of(alias->topic, alias->size);
    return alias->topic != NULL;
  }
  uint8_t *topic = malloc(publish->topic.size);
  if (!topic) return false;
  memcpy(topic, publish->topic.at, publish->topic.size);
  free(alias->topic);
  *alias = (struct topic_alias){.topic = topic, .size = publish->topic.size};
  return true;
}

// Remembers the identifier. False when it is remembered already: the message was given to the owner before.
static bool is_first_receipt(struct client *client, uint16_t packet_id, bool *out_memory)
{
  if (!client->received_ids) client->received_ids = calloc(1, ID_BITMAP_BYTES);
  *out_memory = client->received_ids != NULL;
  if (!client->received_ids) return false;
  uint8_t *byte = &client->received_ids[packet_id / 8];
  uint8_t bit = (uint8_t)(1U << (packet_id % 8));
  bool first = (*byte & bit) == 0;
  *byte |= bit;
  return first;
}

static void acknowledge(struct client *client, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason)
{
  struct mqtt_packet packet = {.type = type, .ack = {.packet_id = packet_id, .reason = reason}};
  client_trace(client, "sending %s (packet %u)", mqtt_packet_name(type), packet_id);
  (void)client_send(client, &packet);
}

static void handle_publish(struct client *client, struct mqtt_publish *publish)
{
  if (!resolve_alias(client, publish)) {
    client_fail(client, MQTT_TOPIC_ALIAS_INVALID, "the broker used a topic alias that it has not assigned");
    return;
  }
  client_trace(client, "received PUBLISH (%.*s, QoS %u, packet %u%s%s, %zu bytes)", (int)publish->topic.size,
               (const char *)publish->topic.at, publish->qos, publish->packet_id, publish->retain ? ", retain" : "",
               publish->dup ? ", again" : "", publish->payload.size);
  bool memory = true;
  bool first = publish->qos < 2 || is_first_receipt(client, publish->packet_id, &memory);
  if (!memory) {
    client_fail(client, COMMAND_FAILED, "out of memory");
    return;
  }
  if (first && client->handler.message) client->handler.message(client->handler.context, publish);
  // The owner may have ended the client: then the message is not acknowledged and the broker keeps it.
  if (client->state != CLIENT_ONLINE || publish->qos == 0) return;
  acknowledge(client, publish->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, publish->packet_id, MQTT_SUCCESS);
}

static void handle_pubrel(struct client *client, const struct mqtt_ack *ack)
{
  bool known = false;
  if (client->received_ids) {
    uint8_t *byte = &client->received_ids[ack->packet_id / 8];
    uint8_t bit = (uint8_t)(1U << (ack->packet_id % 8));
    known = (*byte & bit) != 0;
    *byte &= (uint8_t)~bit;
  }
  acknowledge(client, MQTT_PUBCOMP, ack->packet_id, known ? MQTT_SUCCESS : MQTT_PACKET_ID_NOT_FOUND);
}

// ---- Dispatch

static void handle_online(struct client *client, struct mqtt_packet *packet)
{
  const struct client_handler *handler = &client->handler;
  switch (packet->type) {
    case MQTT_PUBLISH: handle_publish(client, &packet->publish); return;
    case MQTT_PUBREL: handle_pubrel(client, &packet->ack); return;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBCOMP: client_handle_ack(client, packet->type, &packet->ack); return;
    case MQTT_SUBACK:
      if (handler->subscribed) handler->subscribed(handler->context, packet->suback.packet_id, packet->suback.codes);
      return;
    case MQTT_UNSUBACK:
      if (handler->unsubscribed) handler->unsubscribed(handler->context, packet->suback.packet_id, packet->suback.codes);
      return;
    case MQTT_PINGRESP: client->ping_waits = false; return;
    case MQTT_DISCONNECT: handle_disconnect(client, &packet->disconnect); return;
    case MQTT_AUTH: client_fail(client, COMMAND_FAILED, "the broker asks for an authentication exchange"); return;
    case MQTT_CONNECT:
    case MQTT_CONNACK:
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
    case MQTT_PINGREQ: break;
  }
  client_fail(client, COMMAND_FAILED, "the broker sent %s, which does not belong here", mqtt_packet_name(packet->type));
}

static void handle_packet(struct client *client, struct mqtt_packet *packet)
{
  client->last_received_ms = client_now_ms();
  bool quiet = packet->type == MQTT_PUBLISH || packet->type == MQTT_CONNACK || packet->type == MQTT_DISCONNECT;
  if (!quiet) client_trace(client, "received %s", mqtt_packet_name(packet->type));
  if (client->state == CLIENT_ENDING) {
    if (packet->type == MQTT_DISCONNECT) handle_disconnect(client, &packet->disconnect);
    return;
  }
  if (client->state == CLIENT_ONLINE)
    handle_online(client, packet);
  else if (packet->type == MQTT_CONNACK)
    handle_connack(client, &packet->connack);
  else if (packet->type == MQTT_AUTH)
    client_fail(client, COMMAND_FAILED, "the broker asks for an authentication exchange");
  else
    client_fail(client, COMMAND_FAILED, "the broker's first packet is %s instead of CONNACK",
                mqtt_packet_name(packet->type));
}

// One packet from the front of what has arrived; false when it is not whole, or cannot be read.
static bool receive_one(struct client *client)
{
  struct span all = buffer_peek(&client->in);
  struct mqtt_fixed_header header;
  enum mqtt_header_result result = mqtt_fixed_header(all, &header);
  if (result == MQTT_HEADER_INCOMPLETE) return false;
  if (result == MQTT_HEADER_MALFORMED) {
    client_fail(client, MQTT_MALFORMED_PACKET, "the broker sent something that is not MQTT");
    return false;
  }
  size_t size = (size_t)header.size + header.remaining;
  if (all.size < size) return false;
  struct mqtt_packet packet;
  struct mqtt_fault fault;
  struct span body = span_of(all.at + header.size, header.remaining);
  if (!mqtt_decode(client->settings.version, MQTT_FROM_SERVER, header.first, body, &packet, &fault)) {
    client_fail(client, (int)fault.reason, "the broker sent a packet that cannot be read: %s", fault.text);
    return false;
  }
  handle_packet(client, &packet);
  // A lost connection has emptied the buffer.
  if (buffer_size(&client->in) >= size) buffer_consume(&client->in, size);
  return client->state == CLIENT_CONNECTING || client->state == CLIENT_ONLINE || client->state == CLIENT_ENDING;
}

void client_receive(struct client *client)
{
  while (receive_one(client)) {
  }
}

// ---- SUBSCRIBE, UNSUBSCRIBE

static enum status send_request(struct client *client, const struct mqtt_packet *packet)
{
  if (client->state != CLIENT_ONLINE) return ERR_CLOSED;
  if (client_send(client, packet)) return OK;
  return client->state == CLIENT_ONLINE ? ERR_INVALID : ERR_NO_MEMORY;
}

static void put_string(struct buffer *out, struct span text, bool *failed)
{
  uint8_t size[2] = {(uint8_t)(text.size >> 8), (uint8_t)text.size};
  if (text.size > MQTT_MAX_STRING || buffer_append(out, size, 2) != OK || buffer_append(out, text.at, text.size) != OK)
    *failed = true;
}

enum status client_subscribe(struct client *client, const struct mqtt_subscription *subscriptions, size_t count,
                             const struct mqtt_properties *properties, uint16_t *out_packet_id)
{
  struct buffer payload = {0};
  bool failed = false;
  for (size_t i = 0; i < count; i++) {
    const struct mqtt_subscription *subscription = &subscriptions[i];
    put_string(&payload, subscription->filter, &failed);
    uint8_t options = subscription->qos;
    if (client->settings.version == MQTT_5_0)
      options |= (uint8_t)((subscription->no_local ? 4 : 0) | (subscription->retain_as_published ? 8 : 0) |
                           (subscription->retain_handling << 4));
    if (buffer_append(&payload, &options, 1) != OK) failed = true;
  }
  struct mqtt_packet packet = {.type = MQTT_SUBSCRIBE};
  packet.subscribe.packet_id = client_next_packet_id(client);
  packet.subscribe.count = (uint32_t)count;
  packet.subscribe.payload = buffer_peek(&payload);
  if (properties) packet.subscribe.properties = *properties;
  client_trace(client, "sending SUBSCRIBE (%zu filters, packet %u)", count, packet.subscribe.packet_id);
  enum status status = failed ? ERR_INVALID : send_request(client, &packet);
  buffer_deinit(&payload);
  if (status == OK) *out_packet_id = packet.subscribe.packet_id;
  return status;
}

enum status client_unsubscribe(struct client *client, const struct span *filters, size_t count,
                               const struct mqtt_properties *properties, uint16_t *out_packet_id)
{
  struct buffer payload = {0};
  bool failed = false;
  for (size_t i = 0; i < count; i++) put_string(&payload, filters[i], &failed);
  struct mqtt_packet packet = {.type = MQTT_UNSUBSCRIBE};
  packet.unsubscribe.packet_id = client_next_packet_id(client);
  packet.unsubscribe.count = (uint32_t)count;
  packet.unsubscribe.payload = buffer_peek(&payload);
  if (properties) packet.unsubscribe.properties = *properties;
  client_trace(client, "sending UNSUBSCRIBE (%zu filters, packet %u)", count, packet.unsubscribe.packet_id);
  enum status status = failed ? ERR_INVALID : send_request(client, &packet);
  buffer_deinit(&payload);
  if (status == OK) *out_packet_id = packet.unsubscribe.packet_id;
  return status;
}
