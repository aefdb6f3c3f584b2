#include "ledger.h"

#include <inttypes.h>

uint64_t ledger_sum(const uint64_t *values, size_t count)
{
  uint64_t total = 0;
  for (size_t i = 0; i < count; i++) total += values[i];
  return total;
}

void ledger_check(struct world *world, unsigned broker, unsigned shard, const struct counters *c)
{
  uint64_t refused = ledger_sum(c->publish_refused, REFUSE_REASONS), dropped = ledger_sum(c->dropped, DROP_REASONS);
  if (c->publish_received != c->publish_routed + c->publish_unrouted + refused)
    world_fail(world,
               "broker %u shard %u: received %" PRIu64 " != routed %" PRIu64 " + unrouted %" PRIu64 " + refused %" PRIu64,
               broker, shard, c->publish_received, c->publish_routed, c->publish_unrouted, refused);
  if (c->copies != c->delivered + c->copies_queued + c->copies_in_flight + c->expired + dropped)
    world_fail(world,
               "broker %u shard %u: %" PRIu64 " copies != delivered %" PRIu64 " + queued %" PRIu64 " + in flight %" PRIu64
               " + expired %" PRIu64 " + dropped %" PRIu64,
               broker, shard, c->copies, c->delivered, c->copies_queued, c->copies_in_flight, c->expired, dropped);
}
