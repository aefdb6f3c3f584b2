// What a client reads is judged when it reads it: whether somebody sent it, whether it is as it was, in order, not too
// often, with DUP where the client has had it before; and whether session present says the truth.
#include "world.h"

enum { IDS = 16 };

struct read {
  struct client *client;
  struct session *session;
  const struct mqtt_publish *publish;
  struct message *message;
  uint64_t written_ms;
  uint8_t topic;
  uint32_t ids[IDS];
  unsigned id_count;
  const struct subscription *group;  // the shared subscription by which it came
  bool as_retained;                  // came because it was retained; may be, when `unclear`
  bool unclear;
};

static void refuse(const struct read *read, const char *why)
{
  struct world *world = read->client->world;
  const struct message *message = read->message;
  if (message)
    world_fail(world, "message %u (%s, QoS %u%s, sent %u times) to client %s session %u at QoS %u%s: %s", message->id,
               TOPIC_NAMES[message->topic], message->qos, message->retain ? ", retain" : "", message->attempts,
               read->client->id, read->session->number, read->publish->qos, read->publish->dup ? " with DUP" : "", why);
  else
    world_fail(world, "a message to client %s session %u, topic %s: %s", read->client->id, read->session->number,
               TOPIC_NAMES[read->topic], why);
}

static bool read_topic(struct read *read)
{
  for (uint8_t t = 0; t < TOPICS; t++) {
    if (!span_equal(read->publish->topic, span_text(TOPIC_NAMES[t]))) continue;
    read->topic = t;
    return true;
  }
  world_fail(read->client->world, "client %s was sent a topic that is not one of ours", read->client->id);
  return false;
}

static void read_ids(struct read *read)
{
  size_t cursor = 0;
  while (read->id_count < IDS && mqtt_next_subscription_id(&read->publish->properties, &cursor, &read->ids[read->id_count]))
    read->id_count++;
}

static const struct subscription *find_id(const struct session *session, uint32_t id)
{
  for (size_t i = 0; i < session->subscriptions.count; i++)
    if (session->subscriptions.items[i]->id == id) return session->subscriptions.items[i];
  return NULL;
}

// ---- As it was sent

static bool same_users(const struct mqtt_properties *wanted, const struct mqtt_properties *got)
{
  struct mqtt_properties sent = {.present = 1, .raw = wanted->user, .user = wanted->user};
  struct mqtt_user_property a, b;
  size_t at_a = 0, at_b = 0;
  for (;;) {
    bool more = mqtt_next_user_property(&sent, &at_a, &a);
    if (more != mqtt_next_user_property(got, &at_b, &b)) return false;
    if (!more) return true;
    if (!span_equal(a.name, b.name) || !span_equal(a.value, b.value)) return false;
  }
}

static void check_properties(const struct read *read)
{
  struct mqtt_properties wanted;
  const struct mqtt_properties *got = &read->publish->properties;
  uint8_t scratch[1024];
  if (read->client->version != MQTT_5_0) return;
  message_properties(read->message, scratch, &wanted);
  const struct mqtt_properties none = {0};
  if (!got->present) got = &none;
  if (MQTT_HAS(&wanted, CONTENT_TYPE) != MQTT_HAS(got, CONTENT_TYPE) ||
      (MQTT_HAS(got, CONTENT_TYPE) && !span_equal(wanted.content_type, got->content_type)))
    refuse(read, "its content type has changed");
  if (MQTT_HAS(&wanted, CORRELATION_DATA) != MQTT_HAS(got, CORRELATION_DATA) ||
      (MQTT_HAS(got, CORRELATION_DATA) && !span_equal(wanted.correlation_data, got->correlation_data)))
    refuse(read, "its correlation data has changed");
  if (!same_users(&wanted, got)) refuse(read, "its user properties have changed");
}

static void check_expiry(const struct read *read)
{
  const struct message *message = read->message;
  const struct mqtt_properties *got = &read->publish->properties;
  bool has = got->present && MQTT_HAS(got, MESSAGE_EXPIRY);
  if (message->expiry_s == 0) {
    if (has) refuse(read, "it has an expiry");
    return;
  }
  // It waited at least since its acknowledgement was read.
  uint64_t life_ms = message->expiry_s * 1000ull, waited_ms = 0;
  if (message->acked != NEVER && read->written_ms > message->acked_ms) waited_ms = read->written_ms - message->acked_ms;
  if (!read->publish->dup && waited_ms > life_ms + 1000) refuse(read, "it has expired");
  if (read->client->version != MQTT_5_0) return;
  if (!has) {
    refuse(read, "its expiry is missing");
    return;
  }
  uint64_t most_ms = waited_ms > life_ms ? 0 : life_ms - waited_ms;
  if (got->message_expiry_s * 1000ull > most_ms + 1000) refuse(read, "more of its expiry is left than can be");
}

// ---- Why it comes

// Of a subscription that was surely gone before the message was sent, nothing comes.
static bool may_explain(const struct read *read, const struct subscription *subscription)
{
  if (!read->client->world->matches[subscription->filter][read->topic]) return false;
  return !read->message || read->message->first_sent == NEVER || subscription->dead >= read->message->first_sent ||
         read->publish->retain;
}

static void explain(struct read *read)
{
  const struct session *session = read->session;
  bool any = false, as_published = false, only_no_local = true;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    const struct subscription *subscription = session->subscriptions.items[i];
    if (!may_explain(read, subscription)) continue;
    any = true;
    only_no_local &= subscription->no_local;
    as_published |= subscription->retain_as_published;
    if (subscription->group && read->id_count == 1 && read->ids[0] == subscription->id) read->group = subscription;
  }
  if (session->surprise || read->client->world->lossy) {
    read->unclear = true;
    return;
  }
  if (!any) refuse(read, "it has subscribed to nothing that explains it");
  bool own = read->message && read->message->author == read->client;
  if (own && only_no_local && !read->publish->retain) refuse(read, "its own, though it wants nothing of its own");
  read->as_retained = read->publish->retain && !as_published;
  read->unclear = read->publish->retain && as_published;
  for (unsigned i = 0; i < read->id_count; i++) {
    const struct subscription *subscription = find_id(session, read->ids[i]);
    if (!subscription || !may_explain(read, subscription))
      refuse(read, "a subscription identifier is not of a subscription for it");
  }
}

// Each ordinary subscription that was there all the time must be named.
static void check_ids(const struct read *read)
{
  const struct session *session = read->session;
  if (read->client->version != MQTT_5_0 || read->group || read->publish->retain || session->surprise || !read->message)
    return;
  if (read->message->is_will) return;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    const struct subscription *subscription = session->subscriptions.items[i];
    bool own = subscription->no_local && read->message->author == read->client;
    if (subscription->id == 0 || subscription->group || own ||
        !read->client->world->matches[subscription->filter][read->topic])
      continue;
    if (subscription->acked >= read->message->first_sent || subscription->ended != NEVER) continue;
    bool named = false;
    for (unsigned k = 0; k < read->id_count; k++) named |= read->ids[k] == subscription->id;
    if (!named) refuse(read, "a subscription identifier is missing");
  }
}

// ---- How often, and in which order

static unsigned groups_of(const struct read *read)
{
  unsigned count = 0;
  for (size_t i = 0; i < read->session->subscriptions.count; i++) {
    const struct subscription *subscription = read->session->subscriptions.items[i];
    count += subscription->group && read->client->world->matches[subscription->filter][read->topic];
  }
  return count;
}

// A new copy for each time that it was sent. At QoS 2 nothing is sent that a crash can take back, and what its author sends
// again is no new one.
static void check_count(const struct read *read)
{
  const struct world *world = read->client->world;
  struct message *message = read->message;
  struct receipt *receipt = session_receipt(read->session, message);
  // While the disk fails, acknowledgements that are not safe make room for what a crash then does not know to have been
  // sent.
  bool crashed = receipt->fresh > 0 && receipt->crashes < world->bad_crash;
  receipt->crashes = (uint16_t)world->crashes;
  if (read->as_retained || read->unclear) {
    receipt->retained++;
    return;
  }
  if (read->publish->dup || read->publish->qos == 0 || message->is_will || crashed) return;
  bool exactly = message->qos == 2 && read->publish->qos == 2, judged = !world->lossy && !message->rotten;
  if (read->group) {
    unsigned groups = groups_of(read);
    receipt->shared++;
    receipt->shared_2 += exactly;
    bool too_often = receipt->shared > message->attempts * groups || receipt->shared_2 > message->generations * groups;
    if (judged && too_often) refuse(read, "once too often");
    return;
  }
  receipt->fresh++;
  receipt->fresh_2 += exactly;
  bool too_often = receipt->fresh > message->attempts || receipt->fresh_2 > message->generations;
  if (judged && too_often) refuse(read, "again without DUP, or once too often");
}

// Whether it was there, surely, when the message was sent first: what was sent again may come behind what was sent later.
static bool was_subscribed(const struct read *read)
{
  for (size_t i = 0; i < read->session->subscriptions.count; i++) {
    const struct subscription *subscription = read->session->subscriptions.items[i];
    if (subscription->no_local && read->message->author == read->client) continue;
    if (read->client->world->matches[subscription->filter][read->topic] && subscription->qos > 0 &&
        subscription->acked < read->message->first_sent && subscription->ended == NEVER)
      return true;
  }
  return false;
}

// Whether its author may have been told that it was refused, and not have heard it: what it sent later went first, then.
static bool may_be_refused(const struct read *read)
{
  struct counters counters;
  broker_counters(read->client->world, &counters);
  counters_add(&counters, &read->client->world->past);
  return counters.publish_refused[REFUSE_JOURNAL] + counters.publish_refused[REFUSE_QUEUE_FULL] +
             counters.publish_refused[REFUSE_RETAINED_LIMIT] >
         0;
}

// Whether it may have been left out because it had expired, and a crash has forgotten that before it was safe: it then comes
// as if it had been sent, behind what really was. All that overtook it was written after it had expired, and in an earlier
// life of the broker.
static bool may_be_left_out(const struct read *read)
{
  const struct world *world = read->client->world;
  const struct message *message = read->message;
  if (!read->publish->dup || message->expiry_s == 0) return false;
  uint64_t expired_ms = message->first_sent_ms + message->expiry_s * 1000ull;
  for (size_t i = 0; i < world->messages.count; i++) {
    const struct message *later = world->messages.items[i];
    if (later->author != message->author || later->topic != message->topic || later->sequence <= message->sequence) continue;
    const struct receipt *receipt = session_receipt(read->session, later);
    if (receipt->life == 0 || receipt->qos != read->publish->qos) continue;
    if (receipt->life == read->client->link->life || receipt->written_ms < expired_ms) return false;
  }
  return true;
}

static void check_order(const struct read *read)
{
  struct message *message = read->message;
  struct session *session = read->session;
  if (message->is_will || read->as_retained || read->unclear || groups_of(read) > 0 || message->rotten) return;
  // Of a message that was sent again the first copy may have expired, or been dropped for want of room.
  if (message->attempts > 1 && (message->expiry_s > 0 || !read->client->world->plan.roomy)) return;
  struct receipt *receipt = session_receipt(session, message);
  if (receipt->taken > 0) return;  // not the first time
  receipt->life = read->client->link->life;
  receipt->qos = read->publish->qos;
  receipt->written_ms = read->written_ms;
  uint64_t *last = &session->order[message->topic][message->author->index][read->publish->qos];
  bool early = message->sequence < *last && was_subscribed(read) && !read->client->world->lossy;
  if (early && !may_be_refused(read) && !may_be_left_out(read)) refuse(read, "out of order");
  if (message->sequence > *last) *last = message->sequence;
}

struct message *oracle_receive(struct client *client, const struct mqtt_publish *publish, uint64_t written_ms, bool repeated)
{
  struct world *world = client->world;
  struct read read = {.client = client, .session = client->session, .publish = publish, .written_ms = written_ms};
  if (!read_topic(&read)) return NULL;
  read_ids(&read);
  world->statistics.delivered++;
  if (publish->payload.size > 0) {
    read.message = model_find(world, publish->payload);
    if (!read.message || read.message->topic != read.topic) {
      refuse(&read, "nobody has sent that");
      return NULL;
    }
  }
  TRACE(world, "client %s reads message %d from %s at QoS %u packet %u%s%s", client->id,
        read.message ? (int)read.message->id : -1, TOPIC_NAMES[read.topic], publish->qos, publish->packet_id,
        publish->dup ? " dup" : "", publish->retain ? " retain" : "");
  if (publish->dup && client->session->connections == 1 && !client->session->surprise && !world->lossy)
    refuse(&read, "DUP on the first connection of a session");
  explain(&read);
  if (!read.message) return NULL;
  if (publish->qos > read.message->qos) refuse(&read, "at more than the QoS at which it was sent");
  check_properties(&read);
  check_expiry(&read);
  if (!world->lossy) check_ids(&read);
  if (repeated) return read.message;
  check_count(&read);
  check_order(&read);
  if (read.group) world->statistics.shared++;
  if (client->is_witness && publish->retain) client->retained[read.topic] = read.message;
  return read.message;
}

void oracle_taken(struct client *client, struct message *message, const struct mqtt_publish *publish)
{
  const struct world *world = client->world;
  if (!message) return;
  struct session *session = client->session;
  struct receipt *receipt = session_receipt(session, message);
  receipt->taken++;
  if (publish->qos < 2 || message->is_will) return;
  receipt->taken_2++;
  unsigned groups = 0;
  for (size_t i = 0; i < session->subscriptions.count; i++)
    groups +=
        session->subscriptions.items[i]->group && world->matches[session->subscriptions.items[i]->filter][message->topic];
  unsigned most = message->generations * (1 + groups) + receipt->retained;
  if (receipt->taken_2 > most && !world->lossy && !message->rotten && message->qos == 2)
    world_fail(client->world, "message %u was delivered to client %s session %u at QoS 2 %u times", message->id, client->id,
               session->number, receipt->taken_2);
}

// ---- Session present

void oracle_connack(struct client *client, bool present)
{
  struct world *world = client->world;
  const struct session *session = client->session;
  if (present && client->connect_clean) world_fail(world, "session present after a clean start of client %s", client->id);
  if (world->lossy) return;
  if (present && !session && !client->connect_open)
    world_fail(world, "client %s has a session that it never began", client->id);
  if (present && session && client->connect_gone)
    world_fail(world, "session %u of client %s should have expired", session->number, client->id);
  if (present || !session) return;
  bool safe = session->known || session->crashes == world->crashes;
  if (safe && !session_may_be_gone(session))
    world_fail(world, "session %u of client %s is gone (known %d, expiry %u s, away for %llu ms)", session->number,
               client->id, session->known, session->least_expiry,
               (unsigned long long)(world->trial.now_ms - client->alive_before_ms));
}
