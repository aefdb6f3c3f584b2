#include "model.h"

#include <stdio.h>
#include <string.h>

#include "client.h"
#include "packets.h"

// ---- Messages

struct message *model_message(struct world *world, struct client *author)
{
  struct message *message = sim_alloc(sizeof *message);
  message->id = (uint32_t)world->messages.count;
  message->author = author;
  VECTOR_PUSH(&world->messages, message);
  return message;
}

struct span message_payload(const struct message *message, uint8_t *scratch)
{
  if (message->empty) return span_of(scratch, 0);
  snprintf((char *)scratch, 16, "m%08x", message->id);
  for (size_t i = 9; i < message->payload_size; i++) scratch[i] = (uint8_t)('a' + (message->id + i) % 26);
  return span_of(scratch, message->payload_size);
}

bool message_may_exceed(const struct world *world, const struct message *message, uint32_t maximum_packet_size)
{
  const size_t overhead = 60;  // header, packet identifier, expiry, alias, subscription identifiers
  struct mqtt_properties properties;
  uint8_t scratch[2048];
  if (maximum_packet_size == 0) return false;
  message_properties(message, scratch, &properties);
  size_t size = overhead + strlen(world->topics[message->topic]) + message->payload_size + properties.user.size +
                properties.content_type.size + properties.response_topic.size + properties.correlation_data.size;
  return size > maximum_packet_size;
}

struct message *model_find(struct world *world, struct span payload)
{
  unsigned id = 0;
  char text[10] = {0};
  if (payload.size < 9 || payload.at[0] != 'm') return NULL;
  memcpy(text, payload.at, 9);
  if (sscanf(text + 1, "%8x", &id) != 1 || id >= world->messages.count) return NULL;
  return world->messages.items[id];
}

void message_properties(const struct message *message, uint8_t *scratch, struct mqtt_properties *out)
{
  *out = (struct mqtt_properties){0};
  unsigned flavour = message->flavour;
  if (flavour & 1) {
    out->present |= 1ull << MQTT_PROPERTY_PAYLOAD_FORMAT;
    out->payload_format = 1;
  }
  if (flavour & 2) {
    out->present |= 1ull << MQTT_PROPERTY_CONTENT_TYPE;
    out->content_type = packet_text(scratch, "text/x-", message->id);
  }
  if (flavour & 4) {
    out->present |= 1ull << MQTT_PROPERTY_RESPONSE_TOPIC;
    out->response_topic = packet_text(scratch + 64, "answer/", message->id);
  }
  if (flavour & 8) {
    out->present |= 1ull << MQTT_PROPERTY_CORRELATION_DATA;
    out->correlation_data = packet_text(scratch + 128, "c", message->id);
  }
  size_t size = 0;
  for (unsigned i = 0; i < ((flavour >> 4) & 3); i++) {
    uint8_t name[64], value[64];
    size += mqtt_write_user_property(scratch + 192 + size, 512 - size, packet_text(name, "name ", i % 2),
                                     packet_text(value, "value ", message->id + i));
  }
  if (size > 0) out->present |= 1ull << MQTT_PROPERTY_USER;
  out->user = span_of(scratch + 192, size);
}

// ---- Publications

struct moment model_moment(const struct broker *broker, uint8_t shard)
{
  struct moment moment = {.tick = broker->world->trial.tick, .ms = broker->world->trial.now_ms};
  for (uint8_t from = 0; from < broker->shard_count; from++) moment.mails[from] = broker->mail[from][shard].delivered;
  return moment;
}

struct publication *model_publication(struct broker *broker, uint8_t shard, struct message *message, struct moment at)
{
  struct publication *publication = sim_alloc(sizeof *publication);
  *publication = (struct publication){.message = message,
                                      .older = message->publications,
                                      .broker = broker,
                                      .sequence = broker->publications.count + 1,
                                      .shard = shard,
                                      .start = at,
                                      .end = NEVER,
                                      .end_ms = NEVER};
  message->publications = publication;
  VECTOR_PUSH(&broker->publications, publication);
  return publication;
}

// How many mails the one shard has made for the other.
static uint64_t count_mails(const struct broker *broker, uint8_t from, uint8_t to)
{
  size_t waiting = 0;
  if (from != to) (void)shard_outgoing(broker->shards[from], to, &waiting);
  return broker->mail[from][to].posted + waiting;
}

void publication_processed(struct publication *publication)
{
  struct broker *broker = publication->broker;
  if (publication->end != NEVER) return;
  publication->end = broker->world->trial.tick;
  publication->end_ms = broker->world->trial.now_ms;
  for (uint8_t to = 0; to < broker->shard_count; to++) publication->need[to] = count_mails(broker, publication->shard, to);
}

// Whether a shard had surely seen it at a moment of its own.
static bool publication_arrived(const struct publication *publication, uint8_t shard, const struct moment *moment)
{
  if (publication->end >= moment->tick) return false;
  return publication->shard == shard || moment->mails[publication->shard] >= publication->need[shard];
}

// Whether one surely took effect before the other, everywhere.
static bool publication_before(const struct publication *first, const struct publication *second)
{
  if (first->end >= second->start.tick) return false;
  return first->shard == second->shard || first->end_ms < second->start.ms ||
         second->start.mails[first->shard] >= first->need[second->shard];
}

// ---- Subscriptions

bool subscription_matches(const struct world *world, const struct subscription *subscription, const struct message *message)
{
  if (!world->matches[subscription->filter][message->topic]) return false;
  return !subscription->no_local || message->author != subscription->session->client;
}

bool subscription_may_get(const struct subscription *subscription, const struct publication *publication)
{
  if (subscription->failed || publication->refused) return false;
  if (publication->start.tick > subscription->ended) return false;
  // A shared one may get what another member has given back.
  return subscription->group || !publication_arrived(publication, subscription->session->shard, &subscription->taken);
}

bool subscription_must_get(const struct subscription *subscription, const struct publication *publication)
{
  if (subscription->failed || publication->refused || publication->end == NEVER || publication->doubtful) return false;
  if (subscription->effective >= publication->start.tick) return false;
  return subscription->end.tick == NEVER ||
         publication_arrived(publication, subscription->session->shard, &subscription->end);
}

static bool is_retained(const struct publication *publication)
{
  return publication->message->retain && !publication->refused;
}

bool retained_may(const struct world *world, const struct subscription *subscription, const struct publication *publication)
{
  const struct message *message = publication->message;
  if (!is_retained(publication) || message->empty || subscription->group || subscription->failed) return false;
  if (subscription->retain_handling == MQTT_RETAIN_DO_NOT_SEND) return false;
  if (subscription->retain_handling == MQTT_RETAIN_SEND_IF_NEW && !subscription->is_new) return false;
  if (!world->matches[subscription->filter][message->topic]) return false;
  if (publication->start.tick > subscription->effective) return false;
  if (!world->plan.roomy) return true;  // a later value may have been refused, which clients before 5.0 are not told
  const struct broker *broker = publication->broker;
  for (size_t i = 0; i < broker->publications.count; i++) {
    const struct publication *other = broker->publications.items[i];
    if (other == publication || other->message->topic != message->topic || !is_retained(other) || other->end == NEVER)
      continue;
    if (!publication_arrived(other, subscription->session->shard, &subscription->taken)) continue;
    if (publication_before(publication, other)) return false;
  }
  return true;
}

bool retained_must(const struct world *world, const struct subscription *subscription, const struct publication *publication)
{
  const struct message *message = publication->message;
  if (publication->end == NEVER || publication->doubtful || message->expiry_s != 0) return false;
  if (subscription->effective == NEVER) return false;
  if (subscription->no_local) return false;
  if (!retained_may(world, subscription, publication)) return false;
  if (!publication_arrived(publication, subscription->session->shard, &subscription->taken)) return false;
  const struct broker *broker = publication->broker;
  for (size_t i = 0; i < broker->publications.count; i++) {
    const struct publication *other = broker->publications.items[i];
    if (other == publication || other->message->topic != message->topic || !is_retained(other)) continue;
    // A later value may take its place before the subscriber has room for it; that one is then delivered as it is published.
    if (!publication_before(other, publication)) return false;
  }
  return true;
}

// ---- Sessions

bool session_may_be_gone(const struct session *session, uint64_t now_ms)
{
  if (session->gone) return true;
  if (session->link) return false;
  if (session->expiry_s == UINT32_MAX) return false;
  return session->expiry_s == 0 || now_ms >= session->closed_lo_ms + session->expiry_s * 1000ull;
}

bool session_surely_gone(const struct session *session, uint64_t now_ms, uint64_t lag_ms)
{
  if (session->gone) return true;
  if (session->link || session->closed_hi_ms == NEVER || session->expiry_s == UINT32_MAX) return false;
  return session->expiry_s == 0 || now_ms > session->closed_hi_ms + session->expiry_s * 1000ull + lag_ms;
}

struct session *model_session_begin(struct client *client, struct link *link)
{
  struct session *session = sim_alloc(sizeof *session);
  session->client = client;
  session->broker = client->broker;
  session->number = client->world->session_count++;
  session->link = link;
  session->shard = link->shard;
  VECTOR_PUSH(&client->broker->sessions, session);
  return session;
}

void model_session_end(struct session *session)
{
  session->gone = true;
  session->link = NULL;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    struct subscription *subscription = session->subscriptions.items[i];
    if (subscription->end.tick == NEVER) subscription->end.tick = 0;
    if (subscription->ended == NEVER) subscription->ended = session->broker->world->trial.tick;
  }
}

void model_session_free(struct session *session)
{
  for (size_t i = 0; i < session->subscriptions.count; i++) free(session->subscriptions.items[i]);
  for (size_t i = 0; i < session->copies.count; i++) free(session->copies.items[i]);
  free(session->subscriptions.items);
  free(session->copies.items);
  free(session->open.items);
  free(session);
}

// ---- Wills

void model_will_due(struct link *link, uint64_t lo_ms, uint64_t hi_ms)
{
  if (!link->will_message || !link->session) return;
  struct session *session = link->session;
  uint32_t delay_ms = link->will_delay_ms;
  if (session->expiry_s != UINT32_MAX && session->expiry_s * 1000ull < delay_ms) delay_ms = session->expiry_s * 1000;
  if (!link->will_made) {
    link->will_made = true;
    struct will *will = sim_alloc(sizeof *will);
    *will = (struct will){.message = link->will_message, .session = session, .shard = link->shard};
    will->due_lo_ms = lo_ms + delay_ms;
    will->due_hi_ms = hi_ms == NEVER ? NEVER : hi_ms + delay_ms;
    will->publication = model_publication(link->broker, link->shard, will->message, model_moment(link->broker, link->shard));
    link->will = will;
    TRACE(session->broker->world, "will of link %u is message %u: due from %llu to %lld ms", link->number, will->message->id,
          (unsigned long long)will->due_lo_ms, (long long)will->due_hi_ms);
    VECTOR_PUSH(&link->broker->wills, will);
    return;
  }
  if (link->will->due_hi_ms == NEVER && hi_ms != NEVER) link->will->due_hi_ms = hi_ms + delay_ms;
  TRACE(session->broker->world, "will of link %u is due until %lld ms", link->number, (long long)link->will->due_hi_ms);
}

void model_will_connecting(struct link *link)
{
  for (size_t i = 0; i < link->broker->wills.count; i++) {
    struct will *will = link->broker->wills.items[i];
    if (will->session->client == link->client && will->publication->end == NEVER) will->reconnecting = true;
  }
}

void model_will_reconnect(struct link *link, bool resumed)
{
  struct broker *broker = link->broker;
  uint64_t now_ms = broker->world->trial.now_ms;
  for (size_t i = 0; i < broker->wills.count; i++) {
    struct will *will = broker->wills.items[i];
    if (will->session->client != link->client || will->cancelled || will->publication->end != NEVER) continue;
    will->reconnecting = false;
    if (resumed && now_ms < will->due_lo_ms) {
      will->cancelled = true;
      will->publication->refused = true;
    } else if (resumed && (will->due_hi_ms == NEVER || now_ms <= will->due_hi_ms + broker->world->plan.lag_ms)) {
      will->doubtful = true;
      will->due_hi_ms = NEVER;  // a race between the delay and the connection
    } else if (!resumed) {      // the session has ended, and the will is sent at that instant at the latest
      if (now_ms < will->due_lo_ms) will->due_lo_ms = now_ms;
      if (will->due_hi_ms > now_ms && !will->doubtful) will->due_hi_ms = now_ms;
    }
  }
}
