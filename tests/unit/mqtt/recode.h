// Encodes a decoded packet: what differs between a decoded struct and one for encoding (how user properties and subscription
// identifiers are held) is converted. For tests and fuzzers.
#pragma once

#include <stdlib.h>

#include "mqtt/packet.h"

struct recoded_properties {
  uint8_t *user;
  uint32_t *ids;
};

static inline void recode_properties(struct mqtt_properties *properties, struct recoded_properties *memory)
{
  *memory = (struct recoded_properties){.user = NULL};
  if (properties->present == 0) return;
  memory->user = malloc(properties->raw.size + 1);
  memory->ids = calloc(properties->subscription_id_count + 1u, sizeof *memory->ids);
  if (!memory->user || !memory->ids) abort();
  size_t size = 0;
  size_t cursor = 0;
  struct mqtt_user_property user;
  while (mqtt_next_user_property(properties, &cursor, &user))
    size += mqtt_write_user_property(memory->user + size, properties->raw.size - size, user.name, user.value);
  size_t count = 0;
  cursor = 0;
  while (count < properties->subscription_id_count && mqtt_next_subscription_id(properties, &cursor, &memory->ids[count]))
    count++;
  if (count != properties->subscription_id_count) abort();
  properties->user = span_of(memory->user, size);
  properties->subscription_ids = memory->ids;
}

static inline struct mqtt_properties *properties_of(struct mqtt_packet *packet)
{
  switch (packet->type) {
    case MQTT_CONNECT: return &packet->connect.properties;
    case MQTT_CONNACK: return &packet->connack.properties;
    case MQTT_PUBLISH: return &packet->publish.properties;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: return &packet->ack.properties;
    case MQTT_SUBSCRIBE: return &packet->subscribe.properties;
    case MQTT_UNSUBSCRIBE: return &packet->unsubscribe.properties;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK: return &packet->suback.properties;
    case MQTT_DISCONNECT:
    case MQTT_AUTH: return &packet->disconnect.properties;
    case MQTT_PINGREQ:
    case MQTT_PINGRESP: break;
  }
  return NULL;
}

// As mqtt_encode.
static inline size_t recode(enum mqtt_version version, const struct mqtt_packet *packet, uint8_t *out, size_t size)
{
  struct mqtt_packet copy = *packet;
  struct recoded_properties memory = {.user = NULL};
  struct recoded_properties will_memory = {.user = NULL};
  struct mqtt_properties *properties = properties_of(&copy);
  if (properties) recode_properties(properties, &memory);
  if (copy.type == MQTT_CONNECT) recode_properties(&copy.connect.will.properties, &will_memory);
  size_t written = mqtt_encode(version, &copy, out, size);
  free(memory.user);
  free(memory.ids);
  free(will_memory.user);
  free(will_memory.ids);
  return written;
}
