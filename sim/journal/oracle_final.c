// What holds after every turn, when nobody is connected, and at rest when all are back.
#include <string.h>

#include "ledger.h"
#include "world.h"

// Whether not one message may be lost, stated or not.
static bool nothing_lost(const struct world *world)
{
  return world->plan.roomy && !world->rotten && !world->unreadable;
}

// ---- The ledger

void oracle_ledger(struct world *world, uint8_t shard)
{
  struct counters c;
  shard_counters(world->broker.shards[shard], &c);
  ledger_check(world, 0, shard, &c);
  if (ledger_sum(c.access_denied, ACCESS_VERBS) > 0)
    world_fail(world, "shard %u: somebody was denied what it may do", shard);
}

// What a roomy world drops of QoS 1 and 2.
static uint64_t unstated(const struct counters *c)
{
  return c->dropped[DROP_QUEUE_FULL] + c->dropped[DROP_QUEUE_AGE] + c->dropped[DROP_MEMORY] + c->dropped[DROP_DAMAGED] +
         c->dropped[DROP_PACKET_TOO_LARGE] + c->dropped[DROP_REFUSED];
}

static void all_counters(const struct world *world, struct counters *out)
{
  broker_counters(world, out);
  counters_add(out, &world->past);
}

// ---- The catalog

static int by_number(const void *a, const void *b)
{
  const struct catalog_session *const *x = a, *const *y = b;
  return (*x)->number < (*y)->number ? -1 : (*x)->number > (*y)->number;
}

// They do not end with a zero.
static int compare_texts(const char *a, size_t a_size, const char *b, size_t b_size)
{
  int result = memcmp(a, b, a_size < b_size ? a_size : b_size);
  return result ? result : a_size < b_size ? -1 : a_size > b_size;
}

static int by_filter(const void *a, const void *b)
{
  const struct catalog_subscription *const *x = a, *const *y = b;
  return compare_texts((*x)->filter, (*x)->filter_size, (*y)->filter, (*y)->filter_size);
}

static int by_topic(const void *a, const void *b)
{
  const struct catalog_retained *const *x = a, *const *y = b;
  return compare_texts((*x)->topic, (*x)->topic_size, (*y)->topic, (*y)->topic_size);
}

static void mix(uint64_t *digest, uint64_t value)
{
  *digest = (*digest ^ value) * UINT64_C(0x9e3779b97f4a7c15);
  *digest ^= *digest >> 29;
}

static void mix_bytes(uint64_t *digest, const void *bytes, size_t size)
{
  for (size_t i = 0; i < size; i++) mix(digest, ((const uint8_t *)bytes)[i]);
}

static void mix_subscriptions(uint64_t *digest, const struct catalog_session *session)
{
  size_t count = session->subscription_count;
  const struct catalog_subscription **sorted = sim_alloc((count + 1) * sizeof(void *));
  for (size_t i = 0; i < count; i++) sorted[i] = session->subscriptions[i];
  qsort(sorted, count, sizeof(void *), by_filter);
  for (size_t i = 0; i < count; i++) {
    mix_bytes(digest, sorted[i]->filter, sorted[i]->filter_size);
    mix(digest, sorted[i]->id | (uint64_t)sorted[i]->qos << 32 | (uint64_t)sorted[i]->no_local << 40 |
                    (uint64_t)sorted[i]->retain_as_published << 41);
  }
  free(sorted);
}

static void mix_session(uint64_t *digest, const struct catalog_session *session)
{
  mix(digest, session->number);
  mix(digest, session->expiry_s);
  mix(digest, session->connected);
  mix(digest, session->connected ? session->window : session->since_ms ^ session->sent);
  mix_bytes(digest, session->client_id.at, session->client_id.size);
  mix_bytes(digest, catalog_owner(session).at, catalog_owner(session).size);
  mix(digest, session->head);
  mix(digest, session->tail);
  mix(digest, session->waiting);
  for (size_t i = 0; i < session->done_count; i++) mix(digest, session->done[i].from * 31 + session->done[i].count);
  for (size_t i = 0; i < session->sent_count; i++) mix(digest, session->sent_places[i]);
  for (size_t i = 0; i < session->received_count; i++) mix(digest, session->received[i]);
  for (size_t i = 0; i < OUTCOMES; i++) mix(digest, session->outcomes[i]);
  mix(digest, session->will_position);
  mix_subscriptions(digest, session);
}

static uint64_t digest_sessions(struct world *world, const struct catalog *catalog, bool trace)
{
  const struct catalog_session **sessions = sim_alloc((catalog->sessions.count + 1) * sizeof(void *));
  uint64_t digest = 1;
  size_t count = 0, cursor = 0;
  while ((sessions[count] = map_next(&catalog->sessions, &cursor))) count++;
  qsort(sessions, count, sizeof(void *), by_number);
  for (size_t i = 0; i < count; i++) {
    const struct catalog_session *s = sessions[i];
    mix_session(&digest, s);
    if (trace)
      TRACE(world,
            "  catalog: session %u %.*s expiry %u %s since %llu sent %llu places %llu..%llu, %llu waiting, %zu done apart, "
            "%zu sent, %zu "
            "received, %zu subscriptions, %zu blocks, will %llu, digest %llx",
            s->number, (int)s->client_id.size, (const char *)s->client_id.at, s->expiry_s,
            s->connected ? "connected" : "away", (unsigned long long)s->since_ms, (unsigned long long)s->sent,
            (unsigned long long)s->head, (unsigned long long)s->tail, (unsigned long long)s->waiting, s->done_count,
            s->sent_count, s->received_count, s->subscription_count, s->block_count, (unsigned long long)s->will_position,
            (unsigned long long)digest);
  }
  free(sessions);
  return digest;
}

static bool has_blocks(const struct catalog *catalog)
{
  size_t cursor = 0;
  const struct catalog_session *session;
  while ((session = map_next(&catalog->sessions, &cursor)))
    if (session->block_count > 0) return true;
  return false;
}

// Of all that a replay must bring back.
uint64_t oracle_digest(struct world *world, bool trace)
{
  const struct catalog *catalog = store_catalog(world->broker.keeper.store);
  uint64_t digest = digest_sessions(world, catalog, trace);
  const struct catalog_retained **retained = sim_alloc((catalog->retained.count + 1) * sizeof(void *));
  size_t count = 0, cursor = 0;
  while ((retained[count] = map_next(&catalog->retained, &cursor))) count++;
  qsort(retained, count, sizeof(void *), by_topic);
  for (size_t i = 0; i < count; i++) {
    mix_bytes(&digest, retained[i]->topic, retained[i]->topic_size);
    mix(&digest, retained[i]->position);
    if (trace)
      TRACE(world, "  catalog: %.*s retained at %u:%u", (int)retained[i]->topic_size, retained[i]->topic,
            (unsigned)(retained[i]->position >> 32), (unsigned)retained[i]->position);
    mix(&digest, retained[i]->expiry_ms);
    mix(&digest, retained[i]->weight);
  }
  free(retained);
  mix(&digest, catalog->next_session);
  mix(&digest, catalog->retained_bytes);
  // What a block on disk that is done in part keeps alive is known better once it was read: that is forgotten at a crash,
  // and harmless.
  for (size_t i = 0; i < catalog->live_count && !has_blocks(catalog); i++) {
    if (catalog->live[i].references == 0) continue;
    mix(&digest, catalog->live[i].segment);
    mix(&digest, catalog->live[i].references);
    if (trace)
      TRACE(world, "  catalog: segment %u has %llu references", catalog->live[i].segment,
            (unsigned long long)catalog->live[i].references);
  }
  if (trace) TRACE(world, "  catalog: %zu retained, digest %llx", count, (unsigned long long)digest);
  return digest;
}

// Whose a session is in the catalog, as far as its client knows.
static void check_owner(struct world *world, const struct catalog_session *session)
{
  struct span owner = catalog_owner(session);
  if (!world->plan.users && owner.size > 0) world_fail(world, "session %u is a user's, and there are none", session->number);
  for (unsigned i = 0; i < world->client_count; i++) {
    const struct client *client = world->clients[i];
    char name[16];
    if (!span_equal(session->client_id, span_text(client->id))) continue;
    bool right = span_equal(owner, span_of(name, users_name(client, name)));
    if (owner.size > 0 ? !right : client->session && client->session->owned && !world->lossy)
      world_fail(world, "session %u of client %s is of user \"%.*s\"", session->number, client->id, (int)owner.size,
                 (const char *)owner.at);
  }
}

void oracle_catalog(struct world *world)
{
  struct counters c;
  struct store_counters s;
  broker_counters(world, &c);
  store_counters(world->broker.keeper.store, world_mono(world), &s);
  world->statistics.compared++;
  if (c.clients > 0 || c.connections > 0) world_fail(world, "%llu clients are left", (unsigned long long)c.clients);
  if (c.sessions != s.queues)
    world_fail(world, "shards have %llu sessions, the catalog has %llu", (unsigned long long)c.sessions,
               (unsigned long long)s.queues);
  if (c.copies_in_flight > 0) world_fail(world, "in flight to nobody: %llu", (unsigned long long)c.copies_in_flight);
  if (c.copies_queued != s.queued)
    world_fail(world, "%llu copies are queued, in the catalog %llu", (unsigned long long)c.copies_queued,
               (unsigned long long)s.queued);
  const struct catalog *catalog = store_catalog(world->broker.keeper.store);
  size_t cursor = 0;
  const struct catalog_session *session;
  while ((session = map_next(&catalog->sessions, &cursor))) {
    check_owner(world, session);
    if (session->tail != session->waiting + ledger_sum(session->outcomes, OUTCOMES))
      world_fail(world, "session %u has %llu places, which do not balance", session->number,
                 (unsigned long long)session->tail);
    if (nothing_lost(world) &&
        session->outcomes[OUTCOME_QUEUE_FULL] + session->outcomes[OUTCOME_QUEUE_AGE] + session->outcomes[OUTCOME_DAMAGED] >
            0)
      world_fail(world, "session %u has lost messages", session->number);
  }
}

// ---- What is owed

static bool outlived(const struct world *world, const struct message *message)
{
  return message->expiry_s > 0 && world->trial.now_ms >= message->first_sent_ms + message->expiry_s * 1000ull;
}

static bool is_promised(const struct world *world, const struct message *message)
{
  return message->qos > 0 && message->acked != NEVER && !message->is_will && !message->empty && !message->rotten &&
         !outlived(world, message);
}

static bool is_subscribed(const struct world *world, const struct subscription *subscription, const struct message *message)
{
  return world->matches[subscription->filter][message->topic] && subscription->qos > 0 && subscription->acked != NEVER &&
         subscription->acked < message->first_sent && (subscription->ended == NEVER || subscription->ended > message->acked);
}

static bool is_owed(const struct world *world, const struct session *session, const struct message *message)
{
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    const struct subscription *subscription = session->subscriptions.items[i];
    if (subscription->group || (subscription->no_local && message->author == session->client)) continue;
    if (is_subscribed(world, subscription, message)) return true;
  }
  return false;
}

static void oracle_shared(struct world *world, const struct message *message, uint8_t group, uint8_t filter)
{
  unsigned taken = 0, taken_2 = 0;
  bool owed = false, all_2 = message->qos == 2;
  for (size_t i = 0; i < world->sessions.count; i++) {
    struct session *session = world->sessions.items[i];
    bool member = false;
    for (size_t k = 0; k < session->subscriptions.count; k++) {
      const struct subscription *subscription = session->subscriptions.items[k];
      if (!world->matches[subscription->filter][message->topic]) continue;
      if (subscription->group != group || subscription->filter != filter) return;  // by others, too: cannot be told apart
      member = true;
      all_2 &= subscription->qos == 2;
      if (subscription->qos == 0) return;
      owed |= is_subscribed(world, subscription, message);
    }
    if (!member) continue;
    taken += session_receipt(session, message)->taken;
    taken_2 += session_receipt(session, message)->taken_2;
  }
  if (owed && taken == 0)
    world_fail(world, "message %u was acknowledged and has not reached group %u of %s", message->id, group,
               FILTER_NAMES[filter]);
  if (all_2 && taken_2 > message->generations)
    world_fail(world, "message %u has reached group %u of %s %u times", message->id, group, FILTER_NAMES[filter], taken_2);
}

static uint64_t count_missing(struct world *world, bool tell)
{
  uint64_t missing = 0;
  for (size_t m = 0; m < world->messages.count; m++) {
    const struct message *message = world->messages.items[m];
    if (!is_promised(world, message)) continue;
    for (size_t i = 0; i < world->sessions.count; i++) {
      struct session *session = world->sessions.items[i];
      if (session->over || !is_owed(world, session, message)) continue;
      world->statistics.owed += !tell;
      if (session_receipt(session, message)->taken > 0) continue;
      missing++;
      if (tell)
        world_fail(world, "message %u (%s, QoS %u) was acknowledged and has not reached client %s session %u", message->id,
                   TOPIC_NAMES[message->topic], message->qos, session->client->id, session->number);
    }
  }
  return missing;
}

void oracle_owed(struct world *world)
{
  struct counters c;
  all_counters(world, &c);
  for (unsigned i = 0; i < world->client_count; i++) {
    const struct client *client = world->clients[i];
    if (!client->connected) world_fail(world, "client %s is not connected at rest", client->id);
    if (client->flights.count > 0 && !world->lossy)
      world_fail(world, "client %s waits for the acknowledgement of message %u", client->id,
                 client->flights.items[0].message->id);
  }
  uint64_t queued = c.copies_queued - world->past.copies_queued,
           in_flight = c.copies_in_flight - world->past.copies_in_flight;
  if (queued + in_flight > 0)
    world_fail(world, "at rest, but %llu copies are queued and %llu in flight", (unsigned long long)queued,
               (unsigned long long)in_flight);
  if (world->lossy) return;
  uint64_t missing = count_missing(world, false);
  uint64_t stated = unstated(&c);
  if (nothing_lost(world) && stated > 0)
    world_fail(
        world,
        "copies were dropped in a roomy world: %llu queue full, %llu too old, %llu memory, %llu damaged, %llu refused",
        (unsigned long long)c.dropped[DROP_QUEUE_FULL], (unsigned long long)c.dropped[DROP_QUEUE_AGE],
        (unsigned long long)c.dropped[DROP_MEMORY], (unsigned long long)c.dropped[DROP_DAMAGED],
        (unsigned long long)c.dropped[DROP_REFUSED]);
  if (missing > stated || (nothing_lost(world) && missing > 0)) (void)count_missing(world, true);
  if (!nothing_lost(world)) return;
  for (uint8_t group = 1; group <= GROUPS; group++)
    for (uint8_t filter = 0; filter < FILTERS; filter++)
      for (size_t m = 0; m < world->messages.count && world->used[group][filter] && !world->disturbed[group][filter]; m++)
        if (is_promised(world, world->messages.items[m]) && world->matches[filter][world->messages.items[m]->topic])
          oracle_shared(world, world->messages.items[m], group, filter);
}

// ---- Retained values

// A clear, or a value, that is surely there: its author was told so, and could be told otherwise.
static bool is_stored(const struct world *world, const struct message *message)
{
  return message->retain && message->qos > 0 && message->acked != NEVER && !message->refused &&
         (message->author->version == MQTT_5_0 || world->broker.limits.retained_messages == 0);
}

// Whether some value came surely later than this one, and is not one that may be gone by itself.
static const struct message *overwritten(const struct world *world, uint8_t topic, uint64_t settled, uint64_t settled_ms,
                                         bool by_values)
{
  for (size_t i = 0; i < world->messages.count; i++) {
    const struct message *message = world->messages.items[i];
    if (message->topic != topic || !is_stored(world, message)) continue;
    if (by_values && (message->empty || outlived(world, message))) continue;
    if (message->first_sent > settled && message->first_sent_ms > settled_ms) return message;
  }
  return NULL;
}

static bool may_be_absent(const struct world *world, uint8_t topic)
{
  if (!overwritten(world, topic, 0, 0, true)) return true;
  for (size_t i = 0; i < world->messages.count; i++) {
    const struct message *message = world->messages.items[i];
    if (message->topic != topic || !message->retain || message->attempts == 0) continue;
    if (!message->empty && !outlived(world, message)) continue;
    if (!overwritten(world, topic, message->acked, message->acked_ms, true)) return true;
  }
  return false;
}

void oracle_retained(struct world *world)
{
  for (unsigned i = 0; i < world->client_count; i++) {
    const struct client *client = world->clients[i];
    for (uint8_t topic = 0; client->is_witness && topic < TOPICS; topic++) {
      const struct message *found = client->retained[topic];
      if (world->topic_rotten[topic] || world->nameless_rotten || world->lossy) continue;
      world->statistics.retained += found != NULL;
      if (!found) {
        if (!may_be_absent(world, topic)) world_fail(world, "nothing is retained for %s", TOPIC_NAMES[topic]);
        continue;
      }
      if (!found->retain) world_fail(world, "message %u is retained and should not be", found->id);
      const struct message *later = overwritten(world, topic, found->acked, found->acked_ms, false);
      if (later)
        world_fail(world, "message %u is retained for %s, though %u was acknowledged later", found->id, TOPIC_NAMES[topic],
                   later->id);
    }
  }
}

// ---- The end

void oracle_empty(struct world *world)
{
  const struct plan *plan = &world->plan;
  struct counters c;
  struct store_counters s;
  broker_counters(world, &c);
  store_counters(world->broker.keeper.store, world_mono(world), &s);
  if (c.sessions > 0 || s.queues > 0)
    world_fail(world, "%llu sessions are left, %llu in the catalog", (unsigned long long)c.sessions,
               (unsigned long long)s.queues);
  if (c.retained_messages > 0 || s.retained > 0)
    world_fail(world, "%llu retained messages are left, %llu in the catalog", (unsigned long long)c.retained_messages,
               (unsigned long long)s.retained);
  const struct catalog *catalog = store_catalog(world->broker.keeper.store);
  for (size_t i = 0; i < catalog->live_count; i++)
    if (catalog->live[i].references > 0)
      world_fail(world, "nothing is left, but segment %u has %llu references", catalog->live[i].segment,
                 (unsigned long long)catalog->live[i].references);
  // What may stay dead when nothing else is written, what came since the last checkpoint, the reserve, and the ends of
  // files.
  uint64_t idle = plan->replay_bytes > 4 * plan->segment_bytes ? plan->replay_bytes : 4 * plan->segment_bytes;
  uint64_t most = idle + plan->replay_bytes + plan->reserve_bytes + 2 * plan->segment_bytes + plan->payload_most;
  if (s.bytes > most) world_fail(world, "nothing is left, but the journal has %llu bytes", (unsigned long long)s.bytes);
}
