// The model of `skerry top`. See top_table.h.
#include "cli/top_table.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

// The smoothed rate moves towards a new one with this time constant.
static const double rate_time_s = 2.0;

void top_table_init(struct top_table *table, size_t limit)
{
  *table = (struct top_table){.limit = limit};
}

void top_table_deinit(struct top_table *table)
{
  for (size_t i = 0; i < table->count; i++) free(table->items[i]);
  free(table->items);
  map_deinit(&table->map);
  top_table_init(table, table->limit);
}

static bool has_topic(const void *item, const void *key)
{
  const struct top_topic *topic = item;
  return span_equal(span_of(topic->topic, topic->topic_size), *(const struct span *)key);
}

static bool grow(struct top_table *table)
{
  if (table->count < table->capacity) return true;
  size_t capacity = table->capacity ? table->capacity * 2 : 64;
  struct top_topic **items = realloc(table->items, capacity * sizeof(struct top_topic *));
  if (!items) return false;
  table->items = items;
  table->capacity = capacity;
  return true;
}

static struct top_topic *insert(struct top_table *table, struct span name, uint64_t hash)
{
  if (!grow(table)) return NULL;
  struct top_topic *topic = calloc(1, sizeof *topic + name.size);
  if (!topic) return NULL;
  topic->hash = hash;
  topic->topic_size = name.size;
  if (name.size > 0) memcpy(topic->topic, name.at, name.size);
  if (map_insert(&table->map, hash, topic) != OK) {
    free(topic);
    return NULL;
  }
  table->items[table->count++] = topic;
  return topic;
}

static void remember(struct top_topic *topic, const struct mqtt_publish *publish, bool counts, uint64_t now_ms)
{
  topic->qos = publish->qos;
  topic->retain = publish->retain;
  topic->last_ms = now_ms;
  topic->payload_size = (uint32_t)publish->payload.size;
  topic->value_size = publish->payload.size < TOP_VALUE_SIZE ? (uint32_t)publish->payload.size : TOP_VALUE_SIZE;
  if (topic->value_size > 0) memcpy(topic->value, publish->payload.at, topic->value_size);
  if (!counts) return;
  topic->count++;
  topic->fresh++;
  topic->bytes += publish->payload.size;
}

enum status top_table_add(struct top_table *table, const struct mqtt_publish *publish, bool counts, uint64_t now_ms)
{
  if (counts) {
    table->messages++;
    table->fresh++;
    table->bytes += publish->payload.size;
    table->fresh_bytes += publish->payload.size;
  }
  // The table is our own process's and shown, not attacked: any seed does.
  uint64_t hash = hash_span(1, publish->topic);
  struct top_topic *topic = map_find(&table->map, hash, has_topic, &publish->topic);
  if (!topic && table->count >= table->limit) {
    table->unkept++;
    return OK;
  }
  if (!topic) topic = insert(table, publish->topic, hash);
  if (!topic) return ERR_NO_MEMORY;
  remember(topic, publish, counts, now_ms);
  return OK;
}

static double smooth(double old, double fresh, double elapsed_s)
{
  // What starts is shown at once, what goes on is smoothed.
  double weight = old > 0 ? elapsed_s / (elapsed_s + rate_time_s) : 1;
  double rate = old + (fresh / elapsed_s - old) * weight;
  return rate < 0.005 ? 0 : rate;
}

void top_table_tick(struct top_table *table, double elapsed_s)
{
  assert(elapsed_s > 0);
  for (size_t i = 0; i < table->count; i++) {
    struct top_topic *topic = table->items[i];
    topic->rate = smooth(topic->rate, topic->fresh, elapsed_s);
    topic->fresh = 0;
  }
  table->rate = smooth(table->rate, table->fresh, elapsed_s);
  table->byte_rate = smooth(table->byte_rate, (double)table->fresh_bytes, elapsed_s);
  table->fresh = 0;
  table->fresh_bytes = 0;
}

// ---- Order

static int compare_u64(uint64_t a, uint64_t b)
{
  return (a > b) - (a < b);
}

static int compare_topics(const struct top_topic *a, const struct top_topic *b)
{
  size_t shorter = a->topic_size < b->topic_size ? a->topic_size : b->topic_size;
  int order = memcmp(a->topic, b->topic, shorter);
  return order ? order : compare_u64(a->topic_size, b->topic_size);
}

struct order {
  enum top_sort by;
  bool reverse;
};

// Busiest, largest, newest first; topics by alphabet. Equals by alphabet, so that rows do not dance.
static int compare(const void *left, const void *right, void *context)
{
  const struct order *wanted = context;
  const struct top_topic *a = *(struct top_topic *const *)left;
  const struct top_topic *b = *(struct top_topic *const *)right;
  int order = 0;
  switch (wanted->by) {
    case TOP_BY_RATE: order = (b->rate > a->rate) - (b->rate < a->rate); break;
    case TOP_BY_COUNT: order = compare_u64(b->count, a->count); break;
    case TOP_BY_BYTES: order = compare_u64(b->bytes, a->bytes); break;
    case TOP_BY_AGE: order = compare_u64(b->last_ms, a->last_ms); break;
    case TOP_BY_TOPIC:
    case TOP_SORTS: break;
  }
  if (order == 0 && wanted->by != TOP_BY_TOPIC) return compare_topics(a, b);
  if (order == 0) order = compare_topics(a, b);
  return wanted->reverse ? -order : order;
}

void top_table_sort(struct top_table *table, enum top_sort by, bool reverse)
{
  struct order order = {.by = by, .reverse = reverse};
  if (table->count > 1) qsort_r(table->items, table->count, sizeof(struct top_topic *), compare, &order);
}

const char *top_sort_name(enum top_sort by)
{
  static const char *const names[TOP_SORTS] = {"rate", "count", "bytes", "age", "topic"};
  assert(by < TOP_SORTS);
  return names[by];
}

// ---- $SYS

static bool leading_uint(struct span text, uint64_t *out)
{
  uint64_t value = 0;
  size_t i = 0;
  for (; i < text.size && isdigit(text.at[i]) && i < 19; i++) value = value * 10 + (uint64_t)(text.at[i] - '0');
  if (i == 0) return false;
  *out = value;
  return true;
}

void top_counter_update(struct top_counter *counter, uint64_t value, uint64_t now_ms)
{
  if (counter->known && now_ms > counter->at_ms)
    counter->rate = value > counter->value ? (double)(value - counter->value) * 1000 / (double)(now_ms - counter->at_ms) : 0;
  if (counter->known && now_ms == counter->at_ms) return;
  *counter = (struct top_counter){.known = true, .value = value, .at_ms = now_ms, .rate = counter->rate};
}

void top_broker_update(struct top_broker *broker, struct span topic, struct span payload, uint64_t now_ms)
{
  static const struct {
    const char *topic;
    size_t offset;
  } names[] = {
      {"$SYS/broker/uptime", offsetof(struct top_broker, uptime_s)},
      {"$SYS/broker/clients/connected", offsetof(struct top_broker, clients_connected)},
      {"$SYS/broker/clients/total", offsetof(struct top_broker, clients_total)},
      {"$SYS/broker/subscriptions/count", offsetof(struct top_broker, subscriptions)},
      {"$SYS/broker/retained messages/count", offsetof(struct top_broker, retained)},
      {"$SYS/broker/heap/current", offsetof(struct top_broker, memory_bytes)},
      {"$SYS/broker/publish/messages/received", offsetof(struct top_broker, messages_in)},
      {"$SYS/broker/publish/messages/sent", offsetof(struct top_broker, messages_out)},
      {"$SYS/broker/publish/messages/dropped", offsetof(struct top_broker, dropped)},
      {"$SYS/broker/bytes/received", offsetof(struct top_broker, bytes_in)},
      {"$SYS/broker/bytes/sent", offsetof(struct top_broker, bytes_out)},
  };
  if (span_equal(topic, span_text("$SYS/broker/version"))) {
    size_t size = payload.size < TOP_VERSION_SIZE - 1 ? payload.size : TOP_VERSION_SIZE - 1;
    if (size > 0) memcpy(broker->version, payload.at, size);
    broker->version[size] = '\0';
    return;
  }
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    uint64_t value = 0;
    if (!span_equal(topic, span_text(names[i].topic)) || !leading_uint(payload, &value)) continue;
    top_counter_update((struct top_counter *)(void *)((char *)broker + names[i].offset), value, now_ms);
    return;
  }
}
