// From packets to bytes. Each body is written by one function that runs twice: first without a place to write to, to learn
// the length for the fixed header, then for good.
#include "mqtt/internal.h"

#include <assert.h>

static void put_connect(struct writer *writer, const struct mqtt_connect *connect)
{
  const struct mqtt_will *will = &connect->will;
  bool modern = connect->version == MQTT_5_0;
  put_binary(writer, span_text(connect->version == MQTT_3_1 ? "MQIsdp" : "MQTT"));
  put_u8(writer, (uint8_t)((unsigned)connect->version | (connect->bridge && !modern ? 0x80u : 0u)));
  unsigned flags =
      (connect->clean_start ? 0x02u : 0u) | (connect->has_password ? 0x40u : 0u) | (connect->has_user_name ? 0x80u : 0u);
  if (will->present) flags |= 0x04u | (unsigned)will->qos << 3 | (will->retain ? 0x20u : 0u);
  put_u8(writer, (uint8_t)flags);
  put_u16(writer, connect->keep_alive_s);
  if (modern) mqtt_put_properties(writer, MQTT_CONNECT, &connect->properties);
  put_binary(writer, connect->client_id);
  if (will->present) {
    if (modern) mqtt_put_properties(writer, PACKET_WILL, &will->properties);
    put_binary(writer, will->topic);
    put_binary(writer, will->payload);
  }
  if (connect->has_user_name) put_binary(writer, connect->user_name);
  if (connect->has_password) put_binary(writer, connect->password);
}

static void put_connack(struct writer *writer, enum mqtt_version version, const struct mqtt_connack *connack)
{
  // [MQTT-3.2.2-6]: never present in a refusal; 3.1 does not have the flag.
  bool present = connack->session_present && connack->reason == MQTT_SUCCESS && version != MQTT_3_1;
  put_u8(writer, present);
  put_u8(writer, version == MQTT_5_0 ? (uint8_t)connack->reason : mqtt_reason_to_return_code(connack->reason));
  if (version == MQTT_5_0) mqtt_put_properties(writer, MQTT_CONNACK, &connack->properties);
}

static void put_publish(struct writer *writer, enum mqtt_version version, const struct mqtt_publish *publish)
{
  put_binary(writer, publish->topic);
  if (publish->qos > 0) put_u16(writer, publish->packet_id);
  if (version == MQTT_5_0) mqtt_put_properties(writer, MQTT_PUBLISH, &publish->properties);
  put_bytes(writer, publish->payload.at, publish->payload.size);
}

static void put_ack(struct writer *writer, enum mqtt_version version, unsigned type, const struct mqtt_ack *ack)
{
  put_u16(writer, ack->packet_id);
  if (version != MQTT_5_0) return;
  bool empty = mqtt_properties_empty(type, &ack->properties);
  if (empty && ack->reason == MQTT_SUCCESS) return;
  put_u8(writer, (uint8_t)ack->reason);
  if (!empty) mqtt_put_properties(writer, type, &ack->properties);
}

static void put_suback(struct writer *writer, enum mqtt_version version, unsigned type, const struct mqtt_suback *suback)
{
  put_u16(writer, suback->packet_id);
  if (version == MQTT_5_0) {
    mqtt_put_properties(writer, type, &suback->properties);
    put_bytes(writer, suback->codes.at, suback->codes.size);
    return;
  }
  if (type == MQTT_UNSUBACK) return;
  for (size_t i = 0; i < suback->codes.size; i++) {
    uint8_t code = suback->codes.at[i];
    put_u8(writer, code >= MQTT_UNSPECIFIED_ERROR ? MQTT_UNSPECIFIED_ERROR : code);
  }
}

static void put_disconnect(struct writer *writer, enum mqtt_version version, unsigned type,
                           const struct mqtt_disconnect *disconnect)
{
  if (version != MQTT_5_0) return;
  bool empty = mqtt_properties_empty(type, &disconnect->properties);
  if (empty && disconnect->reason == MQTT_SUCCESS) return;
  put_u8(writer, (uint8_t)disconnect->reason);
  // AUTH has no form without a property length.
  if (!empty || type == MQTT_AUTH) mqtt_put_properties(writer, type, &disconnect->properties);
}

static void put_body(struct writer *writer, enum mqtt_version version, const struct mqtt_packet *packet)
{
  switch (packet->type) {
    case MQTT_CONNECT: put_connect(writer, &packet->connect); break;
    case MQTT_CONNACK: put_connack(writer, version, &packet->connack); break;
    case MQTT_PUBLISH: put_publish(writer, version, &packet->publish); break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: put_ack(writer, version, packet->type, &packet->ack); break;
    case MQTT_SUBSCRIBE:
      put_u16(writer, packet->subscribe.packet_id);
      if (version == MQTT_5_0) mqtt_put_properties(writer, MQTT_SUBSCRIBE, &packet->subscribe.properties);
      put_bytes(writer, packet->subscribe.payload.at, packet->subscribe.payload.size);
      break;
    case MQTT_UNSUBSCRIBE:
      put_u16(writer, packet->unsubscribe.packet_id);
      if (version == MQTT_5_0) mqtt_put_properties(writer, MQTT_UNSUBSCRIBE, &packet->unsubscribe.properties);
      put_bytes(writer, packet->unsubscribe.payload.at, packet->unsubscribe.payload.size);
      break;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK: put_suback(writer, version, packet->type, &packet->suback); break;
    case MQTT_AUTH:
      if (version != MQTT_5_0) writer->failed = true;
      put_disconnect(writer, version, MQTT_AUTH, &packet->disconnect);
      break;
    case MQTT_DISCONNECT: put_disconnect(writer, version, MQTT_DISCONNECT, &packet->disconnect); break;
    case MQTT_PINGREQ:
    case MQTT_PINGRESP: break;
  }
}

static uint8_t first_byte(const struct mqtt_packet *packet)
{
  unsigned flags = 0;
  if (packet->type == MQTT_PUBREL || packet->type == MQTT_SUBSCRIBE || packet->type == MQTT_UNSUBSCRIBE) flags = 0x02;
  if (packet->type == MQTT_PUBLISH) {
    const struct mqtt_publish *publish = &packet->publish;
    assert(publish->qos <= 2);
    // [MQTT-3.3.1-2]: never DUP at QoS 0.
    flags = (publish->dup && publish->qos > 0 ? 0x08u : 0u) | (unsigned)publish->qos << 1 | (publish->retain ? 0x01u : 0u);
  }
  return (uint8_t)((unsigned)packet->type << 4 | flags);
}

// Of the body; false when the packet cannot be encoded.
static bool measure(enum mqtt_version version, const struct mqtt_packet *packet, size_t *out_size)
{
  struct writer counter = {.at = NULL};
  put_body(&counter, version, packet);
  *out_size = counter.size;
  return !counter.failed && counter.size <= MQTT_MAX_REMAINING_LENGTH;
}

size_t mqtt_encoded_size(enum mqtt_version version, const struct mqtt_packet *packet)
{
  size_t body;
  if (!measure(version, packet, &body)) return 0;
  return mqtt_fixed_header_size(body) + body;
}

size_t mqtt_encode(enum mqtt_version version, const struct mqtt_packet *packet, uint8_t *out, size_t size)
{
  size_t body;
  if (!measure(version, packet, &body)) return 0;
  size_t whole = mqtt_fixed_header_size(body) + body;
  if (size < whole) return 0;
  size_t header = mqtt_write_fixed_header(out, first_byte(packet), body);
  struct writer writer = {.at = out + header};
  put_body(&writer, version, packet);
  assert(header + writer.size == whole);
  return whole;
}
