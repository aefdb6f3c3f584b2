#include "core/throttle.h"

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"
#include "core/rate.h"
#include "core/shard_internal.h"

enum {
  STEP_MS = 10,          // a client that is held back goes on for what this brings, not for one packet at a time
  TELL_EVERY_MS = 60000  // how often the log says of one client that it is held back
};

struct throttle {
  struct connection *connection;
  struct timer timer;  // while it is paused: until there are tokens
  struct rate messages, bytes;
  uint64_t told_ms;
  bool told;
};

static uint64_t key_hash(const struct connection *connection)
{
  return hash_bytes(connection->shard->settings.seed, &connection, sizeof connection);
}

static bool is_of(const void *item, const void *connection)
{
  return ((const struct throttle *)item)->connection == connection;
}

static struct throttle *throttle_of(const struct connection *connection)
{
  struct throttle *throttle = map_find(&connection->shard->throttles, key_hash(connection), is_of, connection);
  assert(throttle);
  return throttle;
}

static struct rate_limit message_limit(const struct limits *limits)
{
  return (struct rate_limit){.per_s = limits->message_rate,
                             .burst = rate_burst(limits->message_rate, limits->rate_burst_ms, 1)};
}

// One packet always fits, however large.
static struct rate_limit byte_limit(const struct connection *connection, const struct limits *limits)
{
  return (struct rate_limit){.per_s = limits->byte_rate,
                             .burst = rate_burst(limits->byte_rate, limits->rate_burst_ms, connection->granted_packet_size)};
}

static void timer_due(struct timer *timer, struct mono now)
{
  struct throttle *throttle = CONTAINER_OF(timer, struct throttle, timer);
  (void)now;
  connection_unpause(throttle->connection, PAUSED_RATE);
}

static struct throttle *begin(struct connection *connection)
{
  struct shard *shard = connection->shard;
  struct throttle *throttle = calloc(1, sizeof *throttle);
  if (!throttle) return NULL;
  throttle->connection = connection;
  timer_init(&throttle->timer, timer_due);
  if (map_insert(&shard->throttles, key_hash(connection), throttle) != OK) {
    free(throttle);
    return NULL;
  }
  pool_charge(&shard->pool, (int64_t)sizeof *throttle);
  connection->limited = true;
  return throttle;
}

enum status throttle_set(struct connection *connection)
{
  struct shard *shard = connection->shard;
  const struct limits *limits = connection_limits(connection);
  if (limits->message_rate == 0 && limits->byte_rate == 0) {
    throttle_close(connection);
    return OK;
  }
  struct throttle *throttle = connection->limited ? throttle_of(connection) : NULL;
  if (!throttle) {
    throttle = begin(connection);
    if (!throttle) return ERR_NO_MEMORY;
    struct rate_limit messages = message_limit(limits), bytes = byte_limit(connection, limits);
    rate_fill(&throttle->messages, &messages, shard->now);
    rate_fill(&throttle->bytes, &bytes, shard->now);
  }
  wheel_cancel(&throttle->timer);
  connection_unpause(connection, PAUSED_RATE);  // the next packet asks anew
  return OK;
}

void throttle_close(struct connection *connection)
{
  if (!connection->limited) return;
  struct shard *shard = connection->shard;
  struct throttle *throttle = throttle_of(connection);
  connection->limited = false;
  wheel_cancel(&throttle->timer);
  bool removed = map_remove(&shard->throttles, key_hash(connection), throttle);
  assert(removed);
  pool_charge(&shard->pool, -(int64_t)sizeof *throttle);
  free(throttle);
  connection_unpause(connection, PAUSED_RATE);
}

// ---- Packets

static bool is_publish(struct span packet)
{
  return packet.at[0] >> 4 == MQTT_PUBLISH;
}

// Not for every pause: who is over its rate pauses many times a second.
static bool to_be_told(struct throttle *throttle, struct mono now)
{
  if (throttle->told && now.ms - throttle->told_ms < TELL_EVERY_MS) return false;
  throttle->told = true;
  throttle->told_ms = now.ms;
  return true;
}

static void hold_back(struct throttle *throttle, enum limit limit, uint64_t wait_ms)
{
  struct connection *connection = throttle->connection;
  struct shard *shard = connection->shard;
  shard->counters.limits_reached[limit]++;
  if (to_be_told(throttle, shard->now)) log_limit(connection, limit, "slowed down");
  connection_pause(connection, PAUSED_RATE);
  if (wait_ms < STEP_MS) wait_ms = STEP_MS;
  wheel_arm(&shard->wheel, &throttle->timer, (struct mono){shard->now.ms + wait_ms});
}

static void end(struct connection *connection, enum limit limit)
{
  const char *text =
      limit == LIMIT_MESSAGE_RATE ? "more messages than the message rate allows" : "more bytes than the byte rate allows";
  connection_exceed(connection, limit, &(struct mqtt_fault){MQTT_MESSAGE_RATE_TOO_HIGH, NULL, text});
}

bool throttle_admit(struct connection *connection, struct span packet)
{
  struct throttle *throttle = throttle_of(connection);
  struct mono now = connection->shard->now;
  const struct limits *limits = connection_limits(connection);
  struct rate_limit messages = message_limit(limits), bytes = byte_limit(connection, limits);
  enum limit over;
  uint64_t wait_ms;
  if (limits->byte_rate > 0 && !rate_take(&throttle->bytes, &bytes, now, packet.size)) {
    over = LIMIT_BYTE_RATE;
    wait_ms = rate_wait_ms(&throttle->bytes, &bytes, now, packet.size);
  } else if (is_publish(packet) && limits->message_rate > 0 && !rate_take(&throttle->messages, &messages, now, 1)) {
    if (limits->byte_rate > 0) rate_give_back(&throttle->bytes, &bytes, packet.size);
    over = LIMIT_MESSAGE_RATE;
    wait_ms = rate_wait_ms(&throttle->messages, &messages, now, 1);
  } else {
    return true;
  }
  if (limits->rate_action == RATE_DISCONNECT)
    end(connection, over);
  else
    hold_back(throttle, over, wait_ms);
  return false;
}

void throttle_give_back(struct connection *connection, struct span packet)
{
  struct throttle *throttle = throttle_of(connection);
  const struct limits *limits = connection_limits(connection);
  struct rate_limit messages = message_limit(limits), bytes = byte_limit(connection, limits);
  if (limits->byte_rate > 0) rate_give_back(&throttle->bytes, &bytes, packet.size);
  if (is_publish(packet) && limits->message_rate > 0) rate_give_back(&throttle->messages, &messages, 1);
}
