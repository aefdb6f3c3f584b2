// Judges every PUBLISH that a broker writes, at the instant it is written: is this copy owed or at least allowed, with this
// QoS, this retain flag, these subscription identifiers and these properties, in this order, now?
#include "client.h"

struct written {  // one PUBLISH and what its identifiers say
  struct link *link;
  struct session *session;
  const struct mqtt_publish *publish;
  struct message *message;
  uint32_t ids[SIM_IDS];
  unsigned id_count;
};

// ---- Topic, alias, payload, properties

static int find_topic(const struct world *world, struct span text)
{
  for (int i = 0; i < SIM_TOPICS; i++)
    if (span_equal(text, span_text(world->topics[i]))) return i;
  return -1;
}

static int read_topic(struct link *link, const struct mqtt_publish *publish)
{
  struct world *world = link->world;
  bool has_alias = MQTT_HAS(&publish->properties, TOPIC_ALIAS) && publish->properties.present;
  uint16_t alias = has_alias ? publish->properties.topic_alias : 0;
  if (has_alias && (alias == 0 || alias > link->alias_maximum || alias > 255)) {
    world_fail(world, "alias %u to client %s, which takes %u", alias, link->client->id, link->alias_maximum);
    return -1;
  }
  if (publish->topic.size == 0) {
    if (!has_alias || link->aliases[alias] == 0) {
      world_fail(world, "client %s was sent a topic alias that was not set", link->client->id);
      return -1;
    }
    return link->aliases[alias] - 1;
  }
  int topic = find_topic(world, publish->topic);
  if (topic < 0) world_fail(world, "client %s was sent a topic that nobody published to", link->client->id);
  if (has_alias && topic >= 0) link->aliases[alias] = (uint8_t)(topic + 1);
  return topic;
}

static void check_properties(struct link *link, const struct mqtt_publish *publish, const struct message *message)
{
  struct world *world = link->world;
  static const struct mqtt_properties none = {0};
  const struct mqtt_properties *got = publish->properties.present ? &publish->properties : &none;
  struct mqtt_properties wanted;
  uint8_t scratch[2048], user[512];
  if (link->version != MQTT_5_0) return;
  message_properties(message, scratch, &wanted);
  const uint64_t forwarded = 1ull << MQTT_PROPERTY_PAYLOAD_FORMAT | 1ull << MQTT_PROPERTY_CONTENT_TYPE |
                             1ull << MQTT_PROPERTY_RESPONSE_TOPIC | 1ull << MQTT_PROPERTY_CORRELATION_DATA |
                             1ull << MQTT_PROPERTY_USER;
  const uint64_t ours =
      1ull << MQTT_PROPERTY_MESSAGE_EXPIRY | 1ull << MQTT_PROPERTY_TOPIC_ALIAS | 1ull << MQTT_PROPERTY_SUBSCRIPTION_ID;
  if ((got->present & forwarded) != wanted.present || (got->present & ~forwarded & ~ours) != 0)
    world_fail(world, "message %u has lost or gained properties: %llx instead of %llx", message->id,
               (unsigned long long)got->present, (unsigned long long)wanted.present);
  size_t size = 0, cursor = 0;
  struct mqtt_user_property property;
  if (wanted.user.size > 0) {
    while (mqtt_next_user_property(got, &cursor, &property) && size < sizeof user)
      size += mqtt_write_user_property(user + size, sizeof user - size, property.name, property.value);
  }
  bool same = span_equal(wanted.user, span_of(user, size)) && got->payload_format == wanted.payload_format &&
              span_equal(got->content_type, wanted.content_type) && span_equal(got->response_topic, wanted.response_topic) &&
              span_equal(got->correlation_data, wanted.correlation_data);
  if (!same) world_fail(world, "the properties of message %u were altered", message->id);
}

static void check_content(struct written *written, int topic)
{
  struct world *world = written->link->world;
  const struct message *message = written->message;
  uint8_t scratch[2048];
  if (topic != message->topic)
    world_fail(world, "message %u was published to %s and arrived at %s", message->id, world->topics[message->topic],
               world->topics[topic]);
  if (!span_equal(message_payload(message, scratch), written->publish->payload))
    world_fail(world, "the payload of message %u was altered", message->id);
  if (message->author && message->author->broker != written->link->broker)
    world_fail(world, "message %u went to another broker", message->id);
  if (!message->empty) check_properties(written->link, written->publish, message);
}

static void read_ids(struct written *written)
{
  const struct mqtt_publish *publish = written->publish;
  size_t cursor = 0;
  if (!publish->properties.present || publish->properties.subscription_id_count == 0) return;
  while (written->id_count < SIM_IDS &&
         mqtt_next_subscription_id(&publish->properties, &cursor, &written->ids[written->id_count]))
    written->id_count++;
}

static unsigned count_id(const struct written *written, uint32_t id)
{
  unsigned count = 0;
  for (unsigned i = 0; i < written->id_count; i++) count += written->ids[i] == id;
  return count;
}

// ---- Expiry

static bool expiry_fits(const struct written *written, const struct publication *publication, bool again)
{
  const struct message *message = publication->message;
  const struct mqtt_properties *properties = &written->publish->properties;
  uint64_t now_ms = written->link->world->trial.now_ms;
  if (message->expiry_s == 0) return true;
  // It was taken between these two instants, the second one later when its connection was paused.
  uint64_t last_ms = publication->end_ms == NEVER ? now_ms : publication->end_ms;
  uint64_t most_waited_ms = now_ms - publication->start.ms, least_waited_ms = now_ms - last_ms,
           life_ms = message->expiry_s * 1000ull;
  if (least_waited_ms > life_ms && !again && !message->is_will) return false;
  if (written->link->version != MQTT_5_0) return true;
  if (!properties->present || !MQTT_HAS(properties, MESSAGE_EXPIRY)) return false;
  uint64_t left_s = properties->message_expiry_s;
  if (message->is_will) return left_s <= message->expiry_s;  // counted from when it is sent
  uint64_t least_s = most_waited_ms >= life_ms ? 0 : (life_ms - most_waited_ms) / 1000;
  uint64_t most_s = least_waited_ms >= life_ms ? 1 : (life_ms - least_waited_ms + 999) / 1000;
  return left_s >= least_s && left_s <= most_s;
}

// ---- The three reasons for which a copy may be sent

// By a shared subscription: exactly its identifier, its QoS.
static struct subscription *explain_shared(const struct written *written)
{
  const struct session *session = written->session;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    struct subscription *subscription = session->subscriptions.items[i];
    if (!subscription->group || !subscription_matches(session->broker->world, subscription, written->message)) continue;
    if (written->link->version == MQTT_5_0 && (written->id_count != 1 || written->ids[0] != subscription->id)) continue;
    if (written->publish->qos > smaller(subscription->qos, written->message->qos)) continue;
    if (written->publish->retain != (subscription->retain_as_published && written->message->retain)) continue;
    for (const struct publication *p = written->message->publications; p; p = p->older)
      if (subscription_may_get(subscription, p) && expiry_fits(written, p, false)) return subscription;
  }
  return NULL;
}

// As the retained value, at a subscription: its identifier, its QoS, the retain flag.
static bool explain_retained(const struct written *written)
{
  const struct session *session = written->session;
  if (!written->publish->retain) return false;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    const struct subscription *subscription = session->subscriptions.items[i];
    if (written->publish->qos != smaller(subscription->qos, written->message->qos)) continue;
    if (written->link->version == MQTT_5_0 && written->id_count != (subscription->id ? 1u : 0u)) continue;
    if (written->link->version == MQTT_5_0 && subscription->id && written->ids[0] != subscription->id) continue;
    for (const struct publication *p = written->message->publications; p; p = p->older)
      if (retained_may(session->broker->world, subscription, p) && expiry_fits(written, p, false)) return true;
  }
  return false;
}

// How often an identifier must and may be named: once for each subscription that has it.
enum { EXPLAIN_IDS = 64 };
struct id_range {
  uint32_t id;
  unsigned least, most;
};

static unsigned find_id(struct id_range *ids, unsigned *count, uint32_t id)
{
  unsigned i = 0;
  while (i < *count && ids[i].id != id) i++;
  if (i == *count && i < EXPLAIN_IDS) ids[(*count)++] = (struct id_range){.id = id};
  return i;
}

static bool ids_fit(const struct written *written, const struct id_range *ids, unsigned count)
{
  unsigned named = 0;
  for (unsigned i = 0; i < count; i++) {
    unsigned times = count_id(written, ids[i].id);
    if (times < ids[i].least || times > ids[i].most) return false;
    named += times;
  }
  return named == written->id_count;
}

// As it is published, by all that match: every identifier, the highest QoS.
static bool explain_live_by(const struct written *written, const struct publication *publication)
{
  const struct session *session = written->session;
  struct id_range ids[EXPLAIN_IDS];
  unsigned id_count = 0, least = 0, most = 0;
  bool may = false, retain_kept = false, retain_cleared = !written->message->retain;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    const struct subscription *subscription = session->subscriptions.items[i];
    if (subscription->group || !subscription_matches(session->broker->world, subscription, written->message)) continue;
    if (!subscription_may_get(subscription, publication)) continue;
    bool must = subscription_must_get(subscription, publication);
    may = true;
    if (subscription->retain_as_published) retain_kept = true;
    if (!subscription->retain_as_published) retain_cleared = true;
    if (subscription->qos > most) most = subscription->qos;
    if (must && subscription->qos > least) least = subscription->qos;
    if (subscription->id == 0) continue;
    unsigned id = find_id(ids, &id_count, subscription->id);
    if (id == EXPLAIN_IDS) continue;
    ids[id].most++;
    if (must) ids[id].least++;
  }
  if (!may || !expiry_fits(written, publication, false)) return false;
  if (written->link->version == MQTT_5_0 && !ids_fit(written, ids, id_count)) return false;
  if (written->publish->retain ? !(written->message->retain && retain_kept) : !retain_cleared) return false;
  unsigned qos = written->publish->qos, own = written->message->qos;
  return qos >= smaller(least, own) && qos <= smaller(most, own);
}

// The earliest receipt that explains it and comes after those that this subscriber had from the same author: a session is
// one queue, so order is kept over all topics and QoS. NULL when there is none.
static const struct publication *explain_live(const struct written *written, uint64_t after)
{
  const struct publication *best = NULL;
  for (const struct publication *p = written->message->publications; p; p = p->older)
    if (p->sequence > after && explain_live_by(written, p)) best = p;
  return best;
}

static void trace_reasons(const struct written *written)
{
  struct world *world = written->link->world;
  if (!world->trial.trace) return;
  for (unsigned i = 0; i < written->id_count; i++) TRACE(world, "  identifier %u", written->ids[i]);
  for (const struct publication *p = written->message->publications; p; p = p->older)
    TRACE(world, "  taken by shard %u at %llu ms, tick %llu to %lld%s", p->shard, (unsigned long long)p->start.ms,
          (unsigned long long)p->start.tick, (long long)p->end, p->refused ? ", refused" : "");
  for (size_t i = 0; i < written->session->subscriptions.count; i++) {
    const struct subscription *s = written->session->subscriptions.items[i];
    if (!world->matches[s->filter][written->message->topic]) continue;
    TRACE(world, "  subscription %s group %u QoS %u identifier %u%s%s handling %u, tick %llu to %lld, until %lld to %lld",
          world->filters[s->filter], s->group, s->qos, s->id, s->no_local ? " no local" : "",
          s->retain_as_published ? " as published" : "", s->retain_handling, (unsigned long long)s->taken.tick,
          (long long)s->effective, (long long)s->end.tick, (long long)s->ended);
  }
}

static void refuse(const struct written *written, const char *why)
{
  const struct message *message = written->message;
  trace_reasons(written);
  world_fail(written->link->world, "message %u (%s%s, QoS %u%s) to client %s session %u at QoS %u%s with %u identifiers: %s",
             message->id, message->is_will ? "will, " : "", written->link->world->topics[message->topic], message->qos,
             message->retain ? ", retain" : "", written->link->client->id, written->session->number, written->publish->qos,
             written->publish->retain ? " retain" : "", written->id_count, why);
}

static bool explain_live_in_order(struct written *written)
{
  struct message *message = written->message;
  bool ordered = message->author && !message->is_will && !message->empty;
  const struct publication *publication = NULL;
  if (ordered) {
    uint64_t *last = &written->session->last_sequence[message->author->index];
    publication = explain_live(written, *last);
    if (publication) {
      *last = publication->sequence;
      return true;
    }
    if (!explain_live(written, 0)) return false;
    refuse(written, "out of order, or once too often");
    return true;
  }
  return explain_live(written, 0) != NULL;
}

static void explain(struct written *written, struct copy *copy)
{
  struct subscription *shared = explain_shared(written);
  if (shared) {
    copy->group = shared->group;
    copy->filter = shared->filter;
    return;
  }
  if (written->publish->retain && explain_retained(written)) {
    copy->retain = true;
    return;
  }
  if (explain_live_in_order(written)) return;
  refuse(written, "nothing that it subscribes to explains this copy");
}

// ---- New copies and repeated ones

static struct copy *find_open(const struct session *session, uint16_t packet_id)
{
  for (size_t i = session->open.count; i-- > 0;)
    if (session->open.items[i]->packet_id == packet_id) return session->open.items[i];
  return NULL;
}

static void check_repeat(struct written *written, struct copy *copy)
{
  if (copy->message != written->message) refuse(written, "sent again under the packet identifier of another message");
  if (copy->last_link == written->link) refuse(written, "sent again on the same connection");
  if (copy->qos != written->publish->qos) refuse(written, "sent again at another QoS");
  if (copy->state != COPY_OPEN) refuse(written, "sent again although it was acknowledged");
  // Those written before it and still open on this connection must have been sent again first.
  for (size_t i = 0; i < written->session->open.count; i++) {
    const struct copy *other = written->session->open.items[i];
    if (other == copy) break;
    // Sent with a topic alias it did fit; again without it may not, and is dropped [MQTT-3.1.2-25].
    if (message_may_exceed(written->link->world, other->message, written->link->maximum_packet_size)) continue;
    if (other->state == COPY_OPEN && other->last_link != written->link) {
      TRACE(written->link->world, "  older: message %u packet %u", other->message->id, other->packet_id);
      refuse(written, "sent again before an older one");
    }
  }
}

static unsigned count_copies(const struct written *written, bool retained)
{
  unsigned count = 0;
  for (size_t i = 0; i < written->message->copies.count; i++) {
    const struct copy *copy = written->message->copies.items[i];
    if (copy->session == written->session && copy->retain == retained && !copy->group) count++;
  }
  return count;
}

static void check_count(const struct written *written, const struct copy *copy)
{
  const struct session *session = written->session;
  unsigned allowed = 0;
  if (copy->group || written->message->empty) return;
  for (const struct publication *p = written->message->publications; p; p = p->older) {
    bool may = false;
    for (size_t i = 0; i < session->subscriptions.count; i++) {
      const struct subscription *subscription = session->subscriptions.items[i];
      if (copy->retain && retained_may(session->broker->world, subscription, p)) allowed++;
      if (subscription->group || !subscription_matches(session->broker->world, subscription, written->message)) continue;
      if (subscription_may_get(subscription, p)) may = true;
    }
    if (may && (!copy->retain || written->message->retain)) allowed++;
  }
  if (count_copies(written, copy->retain) > allowed) refuse(written, "once too often");
}

static struct copy *new_copy(struct written *written)
{
  struct copy *copy = sim_alloc(sizeof *copy);
  *copy = (struct copy){.message = written->message,
                        .session = written->session,
                        .qos = written->publish->qos,
                        .packet_id = written->publish->packet_id};
  VECTOR_PUSH(&written->session->copies, copy);
  VECTOR_PUSH(&written->message->copies, copy);
  if (copy->qos > 0) VECTOR_PUSH(&written->session->open, copy);
  explain(written, copy);
  check_count(written, copy);
  return copy;
}

// A message without payload names itself only by its topic: any that fits.
static struct message *find_empty(struct written *written, int topic)
{
  struct world *world = written->link->world;
  for (size_t i = world->messages.count; i-- > 0;) {
    struct message *message = world->messages.items[i];
    if (!message->empty || message->topic != topic || message->author->broker != written->link->broker) continue;
    written->message = message;
    if (explain_shared(written) || explain_live(written, 0)) return message;
  }
  return NULL;
}

static void check_will(struct written *written)
{
  struct world *world = written->link->world;
  struct broker *broker = written->link->broker;
  for (size_t i = 0; i < broker->wills.count; i++) {
    const struct will *will = broker->wills.items[i];
    if (will->message != written->message) continue;
    if (will->cancelled) refuse(written, "this will was cancelled");
    if (world->trial.now_ms < will->due_lo_ms && !will->reconnecting) refuse(written, "this will is not due yet");
    return;
  }
  refuse(written, "this will has no reason to be sent");
}

void oracle_publish(struct link *link, const struct mqtt_publish *publish)
{
  struct world *world = link->world;
  struct written written = {.link = link, .session = link->session, .publish = publish};
  int topic = read_topic(link, publish);
  if (topic < 0) return;
  read_ids(&written);
  struct copy *open = publish->qos > 0 ? find_open(link->session, publish->packet_id) : NULL;
  bool dropped = open && !publish->dup && message_may_exceed(world, open->message, link->maximum_packet_size);
  bool again = publish->dup || (open && !dropped);
  if (publish->payload.size == 0)
    written.message = again && open ? open->message : find_empty(&written, topic);
  else
    written.message = model_find(world, publish->payload);
  if (!written.message) {
    world_fail(world, "client %s was sent a message to %s that nobody has published", link->client->id,
               world->topics[topic]);
    return;
  }
  TRACE(world, "  message %u %s qos %u%s%s packet %u session %u", written.message->id, world->topics[topic], publish->qos,
        publish->dup ? " dup" : "", publish->retain ? " retain" : "", publish->packet_id, link->session->number);
  check_content(&written, topic);
  if (written.message->is_will) check_will(&written);
  struct copy *copy = open;
  if (again && !open) {
    refuse(&written, "DUP on what was never sent");
  } else if (again && !publish->dup) {
    refuse(&written, "its packet identifier is in use, or DUP is missing");
  } else if (again) {
    check_repeat(&written, copy);
  } else {
    copy = new_copy(&written);
  }
  if (!copy) return;
  copy->last_link = link;
  VECTOR_PUSH(&link->reads, copy);
  world->delivered++;
}
