// Acknowledgements that wait for the disk. They keep their order on a connection [MQTT-4.6.0-2 to -4]: one that could go at
// once waits behind one that cannot. Other connections are not held up.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/shard_internal.h"

// Packets next to each other that wait for the same.
struct mark {
  uint64_t need;
  size_t size;
  bool answer;
};

struct held {
  struct link link;  // in journal.holding
  struct connection *connection;
  struct buffer bytes;
  struct mark *marks;  // a ring, a power of two of them
  uint32_t capacity, first, count;
};

struct connection *held_connection(struct link *link)
{
  return CONTAINER_OF(link, struct held, link)->connection;
}

bool held_must(const struct connection *connection, uint64_t need)
{
  return connection->held || !journal_safe(&connection->shard->journal, need);
}

size_t held_bytes(const struct connection *connection)
{
  return connection->held ? buffer_size(&connection->held->bytes) : 0;
}

static struct held *create(struct connection *connection)
{
  struct held *held = calloc(1, sizeof *held);
  if (!held) return NULL;
  held->connection = connection;
  list_append(&connection->shard->journal.holding, &held->link);
  pool_charge(&connection->shard->pool, (int64_t)sizeof *held);
  connection->held = held;
  return held;
}

void held_free(struct connection *connection)
{
  struct held *held = connection->held;
  if (!held) return;
  connection->held = NULL;
  pool_charge(&connection->shard->pool,
              -(int64_t)(sizeof *held + held->bytes.capacity + held->capacity * sizeof *held->marks));
  list_remove(&held->link);
  buffer_deinit(&held->bytes);
  free(held->marks);
  free(held);
}

uint8_t *held_reserve(struct connection *connection, size_t size)
{
  struct held *held = connection->held ? connection->held : create(connection);
  if (!held) return NULL;
  size_t before = held->bytes.capacity;
  uint8_t *room = buffer_reserve(&held->bytes, size);
  pool_charge(&connection->shard->pool, (int64_t)held->bytes.capacity - (int64_t)before);
  return room;
}

static void grow(struct held *held)
{
  uint32_t capacity = held->capacity ? held->capacity * 2 : 4;
  struct mark *marks = malloc(capacity * sizeof *marks);
  if (!marks) abort();  // a few bytes for what a client waits for
  for (uint32_t i = 0; i < held->count; i++) marks[i] = held->marks[(held->first + i) & (held->capacity - 1)];
  free(held->marks);
  pool_charge(&held->connection->shard->pool, (int64_t)((capacity - held->capacity) * sizeof *marks));
  held->marks = marks;
  held->capacity = capacity;
  held->first = 0;
}

void held_commit(struct connection *connection, size_t size, uint64_t need, bool answer)
{
  struct held *held = connection->held;
  buffer_commit(&held->bytes, size);
  if (held->count > 0) {
    struct mark *last = &held->marks[(held->first + held->count - 1) & (held->capacity - 1)];
    if (last->need >= need && !last->answer && !answer) {
      last->size += size;
      return;
    }
  }
  if (held->count == held->capacity) grow(held);
  held->marks[(held->first + held->count++) & (held->capacity - 1)] = (struct mark){need, size, answer};
}

static void count_sent(struct shard *shard, struct span packets)
{
  for (size_t at = 0; at < packets.size;) {
    struct mqtt_fixed_header header;
    enum mqtt_header_result result = mqtt_fixed_header(span_from(packets, at), &header);
    assert(result == MQTT_HEADER_OK);
    shard->counters.packets_sent[header.first >> 4]++;
    at += header.size + (size_t)header.remaining;
  }
}

void held_release(struct connection *connection)
{
  struct held *held = connection->held;
  struct shard *shard = connection->shard;
  size_t size = 0;
  bool answered = false;
  while (held->count > 0) {
    const struct mark *mark = &held->marks[held->first];
    if (!journal_safe(&shard->journal, mark->need)) break;
    size += mark->size;
    answered |= mark->answer;
    held->first = (held->first + 1) & (held->capacity - 1);
    held->count--;
  }
  if (size == 0) return;
  struct span bytes = buffer_peek(&held->bytes);
  bytes.size = size;
  // One that is closing says what it owes before it goes.
  uint8_t *room = control_reserve(connection, size);
  if (room) {
    memcpy(room, bytes.at, size);
    count_sent(shard, bytes);
    control_commit(connection, size);
    if (answered) connection_unpause(connection, PAUSED_ANSWER);
  }
  buffer_consume(&held->bytes, size);
  if (held->count == 0) held_free(connection);
}
