// When all has come to rest: what was owed has arrived, exactly as often as it should; nothing waits; nothing is left over.
#include <inttypes.h>
#include <stdio.h>

#include "client.h"

static bool exempt(const struct session *session, const struct message *message)
{
  if (message->empty || message->expiry_s != 0) return true;
  return message_may_exceed(session->broker->world, message, session->client->maximum_packet_size);
}

// Whether the session is owed one copy of this receipt by its own (not shared) subscriptions.
static bool owed(const struct session *session, const struct publication *publication)
{
  unsigned qos = 0;
  bool any = false;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    const struct subscription *subscription = session->subscriptions.items[i];
    if (subscription->group || !subscription_matches(session->broker->world, subscription, publication->message)) continue;
    if (!subscription_must_get(subscription, publication)) continue;
    any = true;
    if (subscription->qos > qos) qos = subscription->qos;
  }
  return any && (smaller(qos, publication->message->qos) > 0 || publication->message->probe);
}

static unsigned retained_owed(const struct session *session, const struct publication *publication)
{
  unsigned count = 0;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    const struct subscription *subscription = session->subscriptions.items[i];
    if (smaller(subscription->qos, publication->message->qos) == 0) continue;
    if (retained_must(session->broker->world, subscription, publication)) count++;
  }
  return count;
}

static unsigned arrived(const struct session *session, const struct message *message)
{
  unsigned count = 0;
  for (size_t i = 0; i < message->copies.count; i++) {
    const struct copy *copy = message->copies.items[i];
    if (copy->session == session && !copy->group && copy->times_read > 0) count++;
  }
  return count;
}

static uint64_t count_missing(const struct session *session, char *first, size_t first_size)
{
  struct world *world = session->broker->world;
  uint64_t missing = 0;
  for (size_t i = 0; i < world->messages.count; i++) {
    const struct message *message = world->messages.items[i];
    if (!message->publications || message->publications->broker != session->broker || exempt(session, message)) continue;
    unsigned wanted = 0;
    for (const struct publication *p = message->publications; p; p = p->older) {
      wanted += owed(session, p);
      wanted += message->retain ? retained_owed(session, p) : 0;
    }
    unsigned got = arrived(session, message);
    if (got >= wanted) continue;
    if (missing == 0)
      snprintf(first, first_size, "message %u (%s%s, QoS %u%s) to client %s session %u: %u of %u copies", message->id,
               message->is_will ? "will, " : "", world->topics[message->topic], message->qos,
               message->retain ? ", retain" : "", session->client->id, session->number, got, wanted);
    missing += wanted - got;
  }
  return missing;
}

// Copies that the broker owns up to having dropped for want of room.
static uint64_t count_dropped(const struct broker *broker)
{
  struct counters counters;
  broker_counters(broker, &counters);
  return counters.dropped[DROP_QUEUE_FULL] + counters.dropped[DROP_MEMORY] + counters.dropped[DROP_SLOW_CONSUMER] +
         broker->client_count * (counters.publish_refused[REFUSE_MEMORY] + counters.publish_refused[REFUSE_RETAINED_LIMIT] +
                                 counters.not_retained);
}

// ---- Shared subscriptions: one copy for each group

static bool had_losses(const struct broker *broker)
{
  for (size_t i = 0; i < broker->sessions.count; i++)
    if (broker->sessions.items[i]->connections > 0 || broker->sessions.items[i]->client->careless) return true;
  return false;
}

struct group_view {  // one message and one shared group
  struct broker *broker;
  const struct message *message;
  uint8_t filter, group;
};

static bool is_member(const struct group_view *view, const struct subscription *subscription)
{
  return subscription->group == view->group && subscription->filter == view->filter;
}

// *out_members: all there ever were. *out_limited: those to whom a copy may be lost, for its size or at QoS 0.
static void count_members(const struct group_view *view, unsigned *out_members, unsigned *out_limited)
{
  for (size_t i = 0; i < view->broker->sessions.count; i++) {
    const struct session *session = view->broker->sessions.items[i];
    for (size_t k = 0; k < session->subscriptions.count; k++) {
      const struct subscription *subscription = session->subscriptions.items[k];
      if (!is_member(view, subscription)) continue;
      ++*out_members;
      // Who unsubscribes keeps the copies that wait for him; when his session then ends they end too.
      bool left_first = session->gone && subscription->end.tick != NEVER && subscription->end.tick != 0;
      *out_limited += exempt(session, view->message) || subscription->qos == 0 || left_first;
    }
  }
}

// Whether somebody was a member from before the publication to the end.
static bool group_must_get(const struct group_view *view, const struct publication *publication)
{
  for (size_t i = 0; i < view->broker->sessions.count; i++) {
    const struct session *session = view->broker->sessions.items[i];
    for (size_t k = 0; k < session->subscriptions.count && !session->gone; k++) {
      const struct subscription *subscription = session->subscriptions.items[k];
      if (!is_member(view, subscription) || subscription->end.tick != NEVER) continue;
      if (subscription_must_get(subscription, publication)) return true;
    }
  }
  return false;
}

// More copies than receipts are allowed at QoS 1 after a connection was lost, never at QoS 2; each receipt that somebody was
// there for must have arrived. Returns how many have not.
static unsigned check_group(const struct group_view *view)
{
  const struct message *message = view->message;
  unsigned members = 0, limited = 0, receipts = 0, owed_copies = 0, written = 0, exactly = 0, read = 0;
  count_members(view, &members, &limited);
  if (members == 0) return 0;
  for (const struct publication *p = message->publications; p; p = p->older) {
    receipts += !p->refused;
    owed_copies += group_must_get(view, p);
  }
  for (size_t i = 0; i < message->copies.count; i++) {
    const struct copy *copy = message->copies.items[i];
    if (copy->group != view->group || copy->filter != view->filter) continue;
    written++;
    exactly += copy->qos == 2 && copy->times_read > 0;
    // A QoS 2 message that was sent once is not given to another member when the session ends [MQTT-4.8.2-5].
    read += copy->times_read > 0 || (copy->qos == 2 && copy->session->gone);
  }
  if (written > receipts && (exactly > receipts || !had_losses(view->broker)))
    world_fail(view->broker->world, "message %u (QoS %u): %u copies for the shared subscription $share/g%u/%s instead of %u",
               message->id, message->qos, written, view->group, view->broker->world->filters[view->filter], receipts);
  bool counts = message->qos > 0 && limited == 0 && message->expiry_s == 0;
  return counts && read < owed_copies ? owed_copies - read : 0;
}

static uint64_t check_groups(struct broker *broker, char *first, size_t first_size)
{
  struct world *world = broker->world;
  uint64_t missing = 0;
  for (size_t i = 0; i < world->messages.count; i++) {
    struct group_view view = {.broker = broker, .message = world->messages.items[i]};
    if (view.message->empty || !view.message->publications || view.message->publications->broker != broker) continue;
    for (view.filter = 0; view.filter < SIM_FILTERS; view.filter++) {
      for (view.group = 1; view.group <= SIM_GROUPS && world->matches[view.filter][view.message->topic]; view.group++) {
        unsigned lost = check_group(&view);
        if (lost == 0) continue;
        missing += lost;
        snprintf(first, first_size, "message %u (QoS %u): %u copies too few for $share/g%u/%s", view.message->id,
                 view.message->qos, lost, view.group, world->filters[view.filter]);
      }
    }
  }
  return missing;
}

// ---- At rest

static void check_rest(struct broker *broker)
{
  struct world *world = broker->world;
  struct counters counters;
  broker_counters(broker, &counters);
  if (counters.copies_queued > 0 || counters.copies_in_flight > 0 || counters.queued_bytes > 0)
    world_fail(world, "broker %u at rest: %" PRIu64 " queued (%" PRIu64 " bytes), %" PRIu64 " in flight", broker->index,
               counters.copies_queued, counters.queued_bytes, counters.copies_in_flight);
  for (unsigned i = 0; i < broker->client_count; i++) {
    const struct client *client = broker->clients[i];
    if (client->flights.count > 0)
      world_fail(world, "message %u of client %s was never acknowledged", client->flights.items[0].message->id, client->id);
    if (client->requests.count > 0) world_fail(world, "a request of client %s was never answered", client->id);
  }
}

void oracle_final(struct broker *broker)
{
  struct world *world = broker->world;
  char first[256] = "";
  uint64_t missing = 0;
  check_rest(broker);
  for (size_t i = 0; i < broker->sessions.count; i++) {
    const struct session *session = broker->sessions.items[i];
    if (session->gone || !session->link) continue;
    missing += count_missing(session, first, sizeof first);
  }
  missing += check_groups(broker, first, sizeof first);
  if (missing > count_dropped(broker))
    world_fail(world, "%" PRIu64 " owed messages did not arrive, the broker counts %" PRIu64 " as dropped; %s", missing,
               count_dropped(broker), first);
}

// ---- Retained: every shard tells the same, and it is the last value

static bool was_retained(const struct session *session, const struct message *message)
{
  for (size_t i = 0; i < message->copies.count; i++)
    if (message->copies.items[i]->session == session && message->copies.items[i]->retain) return true;
  return false;
}

void oracle_retained(struct broker *broker)
{
  struct world *world = broker->world;
  const struct session *first = NULL;
  for (unsigned i = 0; i < broker->client_count; i++) {
    const struct session *session = broker->clients[i]->session;
    if (!broker->clients[i]->is_witness) continue;
    if (!session || !session->link) {
      world_fail(world, "witness %s could not connect", broker->clients[i]->id);
      return;
    }
    if (!first) first = session;
    for (size_t k = 0; k < world->messages.count; k++) {
      const struct message *message = world->messages.items[k];
      if (!message->retain || message->expiry_s != 0) continue;
      if (was_retained(session, message) != was_retained(first, message))
        world_fail(world, "retained message %u at %s is on one of shards %u and %u only", message->id,
                   world->topics[message->topic], first->shard, session->shard);
    }
  }
}

// ---- Everything taken down again: only caches may be larger than in the beginning

void oracle_drained(struct broker *broker)
{
  struct world *world = broker->world;
  struct counters c;
  const int64_t cache_bytes = 64 * 1024;
  broker_counters(broker, &c);
  if (c.connections + c.sessions + c.subscriptions + c.shared_subscriptions + c.retained_messages + c.copies_queued +
          c.copies_in_flight + c.paused_connections >
      0)
    world_fail(world,
               "left over on broker %u: %" PRIu64 " connections, %" PRIu64 " sessions, %" PRIu64 " + %" PRIu64
               " subscriptions, %" PRIu64 " retained, %" PRIu64 " queued, %" PRIu64 " in flight",
               broker->index, c.connections, c.sessions, c.subscriptions, c.shared_subscriptions, c.retained_messages,
               c.copies_queued, c.copies_in_flight);
  int64_t left = broker->budget.used_bytes - broker->idle_bytes;
  TRACE(world, "broker %u: %lld bytes more than idle", broker->index, (long long)left);
  if (left > cache_bytes)
    world_fail(world, "broker %u uses %lld bytes more than when it was new", broker->index, (long long)left);
  broker_stop(broker);
  if (broker->budget.used_bytes != 0)
    world_fail(world, "%lld bytes of broker %u were never given back", (long long)broker->budget.used_bytes, broker->index);
}
