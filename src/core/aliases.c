// Topic aliases of one connection, both directions. Towards the client the most recently used topics keep theirs.

#include <stdlib.h>
#include <string.h>

#include "core/shard_internal.h"

struct alias {
  uint64_t hash;
  uint64_t used;  // when, in the table's own count
  uint32_t size;
  char *topic;  // heap; NULL: free
};

struct aliases {
  uint64_t uses;
  struct pool *pool;
  uint16_t received_count, sent_count;  // places allocated
  struct alias *received;               // by alias - 1
  struct alias *sent;
};

static struct aliases *of(struct connection *connection)
{
  if (!connection->aliases) {
    connection->aliases = calloc(1, sizeof *connection->aliases);
    if (connection->aliases) connection->aliases->pool = &connection->shard->pool;
  }
  return connection->aliases;
}

static bool set(struct aliases *aliases, struct alias *alias, struct span topic, uint64_t hash)
{
  char *copy = pool_alloc(aliases->pool, topic.size);
  if (!copy) return false;
  memcpy(copy, topic.at, topic.size);
  pool_free(aliases->pool, alias->topic, alias->size);
  *alias = (struct alias){.hash = hash, .used = ++aliases->uses, .size = (uint32_t)topic.size, .topic = copy};
  return true;
}

static struct alias *table(struct aliases *aliases, struct alias **places, uint16_t *count, uint16_t wanted)
{
  if (!*places) {
    *places = pool_alloc(aliases->pool, wanted * sizeof **places);
    if (!*places) return NULL;
    memset(*places, 0, wanted * sizeof **places);
    *count = wanted;
  }
  return *places;
}

bool aliases_receive(struct connection *connection, struct mqtt_publish *publish, struct mqtt_fault *out_fault)
{
  uint16_t maximum = connection->granted_aliases;
  uint16_t number = publish->properties.topic_alias;
  if (number == 0 || number > maximum) {
    *out_fault = (struct mqtt_fault){MQTT_TOPIC_ALIAS_INVALID, "MQTT-3.3.2-9", "the topic alias is above the maximum"};
    return false;
  }
  struct aliases *aliases = of(connection);
  struct alias *places = aliases ? table(aliases, &aliases->received, &aliases->received_count, maximum) : NULL;
  if (!places || number > aliases->received_count) {
    *out_fault = (struct mqtt_fault){MQTT_QUOTA_EXCEEDED, NULL, "no memory for a topic alias"};
    return false;
  }
  struct alias *alias = &places[number - 1];
  if (publish->topic.size > 0) {
    if (set(aliases, alias, publish->topic, 0)) return true;
    *out_fault = (struct mqtt_fault){MQTT_QUOTA_EXCEEDED, NULL, "no memory for a topic alias"};
    return false;
  }
  if (!alias->topic) {
    *out_fault = (struct mqtt_fault){MQTT_PROTOCOL_ERROR, "MQTT-3.3.4-1", "the topic alias has not been set"};
    return false;
  }
  publish->topic = span_of(alias->topic, alias->size);
  return true;
}

uint16_t aliases_send(struct connection *connection, const struct message *message, bool *out_known)
{
  *out_known = false;
  struct aliases *aliases = of(connection);
  if (!aliases) return 0;
  struct alias *places = table(aliases, &aliases->sent, &aliases->sent_count, connection->alias_maximum);
  if (!places) return 0;
  uint16_t oldest = 0;
  for (uint16_t i = 0; i < aliases->sent_count; i++) {
    struct alias *alias = &places[i];
    if (alias->topic && alias->hash == message->topic_hash &&
        span_equal(span_of(alias->topic, alias->size), message_topic(message))) {
      alias->used = ++aliases->uses;
      *out_known = true;
      return (uint16_t)(i + 1);
    }
    if (alias->used < places[oldest].used) oldest = i;
  }
  // A place changes hands only when its topic has been quiet for a while: topics that take turns must not chase each other
  // out.
  bool free = !places[oldest].topic;
  bool quiet = aliases->uses - places[oldest].used > 8u * aliases->sent_count;
  if (!free && !quiet) {
    aliases->uses++;
    return 0;
  }
  return (uint16_t)(oldest + 1);
}

void aliases_sent(struct connection *connection, const struct message *message, uint16_t alias)
{
  struct aliases *aliases = connection->aliases;
  struct alias *place = &aliases->sent[alias - 1];
  if (set(aliases, place, message_topic(message), message->topic_hash)) return;
  pool_free(aliases->pool, place->topic, place->size);
  *place = (struct alias){0};  // the client knows it, we forget it: it is introduced again
}

static void free_table(struct aliases *aliases, struct alias *places, uint16_t count)
{
  for (uint16_t i = 0; i < count; i++) pool_free(aliases->pool, places[i].topic, places[i].size);
  pool_free(aliases->pool, places, count * sizeof *places);
}

void aliases_free(struct aliases *aliases)
{
  if (!aliases) return;
  if (aliases->received) free_table(aliases, aliases->received, aliases->received_count);
  if (aliases->sent) free_table(aliases, aliases->sent, aliases->sent_count);
  free(aliases);
}
