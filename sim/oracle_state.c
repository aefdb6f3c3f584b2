// After every turn: the shard's counters balance and agree with what the world has seen.
#include <inttypes.h>

#include "client.h"
#include "ledger.h"

enum { LINGER_MS = 5000 };  // what a closing connection may take to write its last packet

static void check_roomy(struct broker *broker, uint8_t shard, const struct counters *c)
{
  static const enum drop_reason never[] = {DROP_QUEUE_FULL, DROP_SLOW_CONSUMER, DROP_MEMORY};
  if (!broker->world->plan.roomy) return;
  for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
    if (c->dropped[never[i]] > 0)
      world_fail(broker->world, "broker %u shard %u dropped a message (%s) with all limits far away", broker->index, shard,
                 drop_reason_name(never[i]));
  if (c->publish_refused[REFUSE_MEMORY] + c->publish_refused[REFUSE_RETAINED_LIMIT] +
          c->publish_refused[REFUSE_TOPIC_LEVELS] + c->publish_refused[REFUSE_NOT_AUTHORIZED] >
      0)
    world_fail(broker->world, "broker %u shard %u refused a message with all limits far away", broker->index, shard);
}

static void check_gauges(struct broker *broker, uint8_t shard, const struct counters *c)
{
  struct world *world = broker->world;
  uint64_t connections = 0, least = 0, most = 0, connecting = 0;
  for (size_t i = 0; i < broker->links.count; i++) {
    const struct link *link = broker->links.items[i];
    if (link->shard != shard || !link->connection) continue;
    connections++;
    if (!link->connack_written) connecting++;
  }
  for (unsigned i = 0; i < broker->client_count; i++) {
    const struct session *session = broker->clients[i]->session;
    if (!session || session->shard != shard) continue;
    bool closing = session->link && session->link->closing_ms != NEVER;
    if (!session_may_be_gone(session, world->trial.now_ms) && !closing) least++;
    if (!session_surely_gone(session, world->trial.now_ms, 0)) most++;
  }
  if (c->connections != connections)
    world_fail(world, "broker %u shard %u counts %" PRIu64 " connections of %" PRIu64, broker->index, shard, c->connections,
               connections);
  if (c->sessions < least || c->sessions > most + connecting)
    world_fail(world, "broker %u shard %u has %" PRIu64 " sessions, not %" PRIu64 " to %" PRIu64, broker->index, shard,
               c->sessions, least, most + connecting);
  if (c->bytes_sent != broker->bytes_out[shard])
    world_fail(world, "broker %u shard %u counts %" PRIu64 " bytes sent of %" PRIu64, broker->index, shard, c->bytes_sent,
               broker->bytes_out[shard]);
}

// Over the limit publishers pause and copies are dropped; what one turn can add before that is the slack.
static void check_memory(struct broker *broker)
{
  const int64_t slack = 1 << 20;
  if (broker->budget.used_bytes > broker->budget.limit_bytes + slack)
    world_fail(broker->world, "broker %u uses %lld bytes of %lld", broker->index, (long long)broker->budget.used_bytes,
               (long long)broker->budget.limit_bytes);
  if (broker->budget.used_bytes < 0) world_fail(broker->world, "broker %u uses less than nothing", broker->index);
}

void oracle_ledger(struct broker *broker, uint8_t shard)
{
  struct counters counters;
  shard_counters(broker->shards[shard], &counters);
  ledger_check(broker->world, broker->index, shard, &counters);
  check_roomy(broker, shard, &counters);
  check_gauges(broker, shard, &counters);
  check_memory(broker);
}

// Who is silent for longer than his keep alive allows is disconnected.
void oracle_connections(struct broker *broker)
{
  for (size_t i = 0; i < broker->links.count; i++) {
    const struct link *link = broker->links.items[i];
    if (!link->connection || link->keep_alive_ms == 0 || !link->connack_written) continue;
    uint64_t limit_ms =
        link->last_taken_ms + link->keep_alive_ms * 3ull / 2 + LINGER_MS + 2 * broker->world->plan.lag_ms + 1;
    if (broker->ticked_ms[link->shard] > limit_ms)
      world_fail(broker->world, "client %s is still connected, silent since %" PRIu64 " ms", link->client->id,
                 link->last_taken_ms);
  }
}

// Wills are sent when they are due, not before, not later, and never when they were cancelled.
void oracle_wills(struct broker *broker, uint8_t shard)
{
  struct counters counters;
  uint64_t now_ms = broker->world->trial.now_ms, least = 0, most = 0;
  for (size_t i = 0; i < broker->wills.count; i++) {
    struct will *will = broker->wills.items[i];
    if (will->shard != shard || will->cancelled) continue;
    if (will->due_hi_ms != NEVER && will->due_hi_ms <= now_ms) {
      least++;
      publication_processed(will->publication);
    }
    if (will->due_lo_ms <= now_ms || will->reconnecting) most++;
  }
  shard_counters(broker->shards[shard], &counters);
  if (counters.wills_sent < least || counters.wills_sent > most)
    world_fail(broker->world, "broker %u shard %u sent %" PRIu64 " wills, due are %" PRIu64 " to %" PRIu64, broker->index,
               shard, counters.wills_sent, least, most);
}
