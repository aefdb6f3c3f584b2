// The one allocation of an application message.

#include "core/message.h"

#include <assert.h>
#include <stdlib.h>

struct message *message_create(struct pool *pool, const struct message_parts *parts)
{
  assert(parts->topic.size <= MQTT_MAX_STRING);
  size_t properties = parts->raw_properties.size ? mqtt_forward_properties(parts->raw_properties, NULL) : 0;
  size_t size = sizeof(struct message) + 2 + parts->topic.size + parts->payload.size + properties;
  struct message *message = pool_alloc(pool, size);
  if (!message) return NULL;
  *message = (struct message){.refs = 1,
                              .payload_size = (uint32_t)parts->payload.size,
                              .properties_size = (uint32_t)properties,
                              .topic_size = (uint16_t)parts->topic.size,
                              .qos = parts->qos,
                              .retain = parts->retain,
                              .home = pool->number,
                              .topic_hash = parts->topic_hash,
                              .origin = parts->origin,
                              .expiry_ms = parts->expiry_ms};
  uint8_t *at = message->body;
  *at++ = (uint8_t)(parts->topic.size >> 8);
  *at++ = (uint8_t)parts->topic.size;
  if (parts->topic.size) memcpy(at, parts->topic.at, parts->topic.size);
  at += parts->topic.size;
  if (parts->payload.size) memcpy(at, parts->payload.at, parts->payload.size);
  at += parts->payload.size;
  if (properties) mqtt_forward_properties(parts->raw_properties, at);
  return message;
}

void message_free(struct pool *pool, struct message *message)
{
  if (pool->homes && message->home != pool->number) {
    void **chain = &pool->homes[message->home];
    message->next_home = *chain;
    *chain = message;
    return;
  }
  pool_free(pool, message, message_size(message));
}

void message_free_chain(struct pool *pool, struct message *first)
{
  for (struct message *next; first; first = next) {
    next = first->next_home;
    pool_free(pool, first, message_size(first));
  }
}
