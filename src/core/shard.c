// A shard's life, its time, its list of connections that want something, and its mails to others.

#include "core/shard_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/admission.h"
#include "core/throttle.h"

static void sweep_fired(struct timer *timer, struct mono now)
{
  struct shard *shard = CONTAINER_OF(timer, struct shard, sweep);
  retained_sweep(&shard->retained, now, SWEEP_STEPS);
  if (shard->retained.mortal) wheel_arm(&shard->wheel, timer, (struct mono){now.ms + SWEEP_MS});
}

// A store without anything mortal needs no sweeping: an idle broker sleeps.
void shard_want_sweep(struct shard *shard)
{
  if (!timer_armed(&shard->sweep)) wheel_arm(&shard->wheel, &shard->sweep, (struct mono){shard->now.ms + SWEEP_MS});
}

static void look_fired(struct timer *timer, struct mono now)
{
  struct shard *shard = CONTAINER_OF(timer, struct shard, look);
  durable_look(shard);
  shard_want_look(shard);
  (void)now;
}

// Only while there are durable sessions: an idle broker sleeps.
void shard_want_look(struct shard *shard)
{
  if (shard->journal.sessions.count == 0 || timer_armed(&shard->look)) return;
  wheel_arm(&shard->wheel, &shard->look, (struct mono){shard->now.ms + LOOK_MS});
}

static void set_time(struct shard *shard, struct mono now)
{
  shard->now = now;
  shard->now_s = (uint32_t)(now.ms / 1000);
}

static void store_limits(struct shard *shard, uint8_t number, const struct limits *limits)
{
  shard->limits[number] = *limits;
  if (shard->limit_sets <= number) shard->limit_sets = number + 1;
  shard->queues_reject = false;
  shard->least_topic_levels = UINT16_MAX;
  for (unsigned i = 0; i < shard->limit_sets; i++) {
    const struct limits *set = &shard->limits[i];
    if (set->queue_drop == QUEUE_REJECT) shard->queues_reject = true;
    if (set->topic_levels > 0 && set->topic_levels < shard->least_topic_levels)
      shard->least_topic_levels = set->topic_levels;
  }
}

struct shard *shard_create(const struct shard_settings *settings, struct mono now)
{
  assert(settings->shard_count >= 1);
  assert(settings->shard_count <= SHARDS_MAX);
  assert(settings->shard < settings->shard_count);
  struct shard *shard = calloc(1, sizeof *shard);
  if (!shard) return NULL;
  shard->settings = *settings;
  store_limits(shard, BROKER_LIMITS, &settings->limits);
  set_time(shard, now);
  pool_init(&shard->pool, settings->budget);
  shard->pool.number = settings->shard;
  shard->pool.homes = shard->homes;
  wheel_init(&shard->wheel, now);
  list_init(&shard->connections);
  list_init(&shard->attention);
  list_init(&shard->paused);
  list_init(&shard->tickets);
  timer_init(&shard->sweep, sweep_fired);
  timer_init(&shard->look, look_fired);
  journal_init(shard);
  prng_seed(&shard->prng, settings->seed + settings->shard);
  if (index_init(&shard->index, &shard->pool, settings->seed) != OK ||
      retained_init(&shard->retained, &shard->pool, settings->seed) != OK) {
    index_deinit(&shard->index);
    free(shard);
    return NULL;
  }
  return shard;
}

void shard_destroy(struct shard *shard)
{
  if (!shard) return;
  for (struct link *link; (link = list_take_first(&shard->connections));)
    connection_free(CONTAINER_OF(link, struct connection, all));
  acl_unref(shard->acl);
  admission_deinit(shard);
  map_deinit(&shard->throttles);
  ticket_free_all(shard);
  size_t cursor = 0;
  for (struct session *session; (session = map_next(&shard->sessions, &cursor));) session_free(session);
  map_deinit(&shard->sessions);
  map_deinit(&shard->owners);
  map_deinit(&shard->memberships);
  journal_deinit(shard);
  share_free_groups(shard);
  map_deinit(&shard->groups);
  for (unsigned i = 0; i < SHARDS_MAX; i++) {
    struct outgoing *outgoing = &shard->outgoing[i];
    for (size_t k = 0; k < outgoing->count; k++) mail_discard(shard, &outgoing->mails[outgoing->first + k]);
    free(outgoing->mails);
  }
  index_deinit(&shard->index);
  retained_deinit(&shard->retained);
  for (unsigned i = 0; i < SHARDS_MAX; i++) message_free_chain(&shard->pool, shard->homes[i]);
  pool_deinit(&shard->pool);
  free(shard->congested);
  free(shard);
}

// Rates hold at once, for those too who are connected: who floods the broker is not waited for.
static void apply_to(struct connection *connection)
{
  if (connection->state == CONNECTED && throttle_set(connection) != OK) connection_end(connection, MQTT_SERVER_BUSY, true);
}

static void apply_limits(struct shard *shard, uint8_t number)
{
  LIST_EACH (link, &shard->connections) {
    struct connection *connection = CONTAINER_OF(link, struct connection, all);
    if (connection->limits == number) apply_to(connection);
  }
}

void shard_set_limits(struct shard *shard, const struct limits *limits)
{
  store_limits(shard, BROKER_LIMITS, limits);
  apply_limits(shard, BROKER_LIMITS);
}

// Nobody is left with the number of a listener that is gone.
static void leave_to_broker(struct shard *shard, uint8_t number)
{
  LIST_EACH (link, &shard->connections) {
    struct connection *connection = CONTAINER_OF(link, struct connection, all);
    if (connection->limits != number) continue;
    connection->limits = BROKER_LIMITS;
    apply_to(connection);
  }
  size_t cursor = 0;
  for (struct session *session; (session = map_next(&shard->sessions, &cursor));)
    if (session->limits == number) session->limits = BROKER_LIMITS;
}

void shard_set_listener_limits(struct shard *shard, uint8_t number, const struct limits *limits)
{
  assert(number > BROKER_LIMITS);
  assert(number < LIMIT_SETS);
  if (!limits) {
    leave_to_broker(shard, number);
    return;
  }
  store_limits(shard, number, limits);
  apply_limits(shard, number);
}

// ---- Time

void shard_set_time(struct shard *shard, struct mono now)
{
  if (now.ms > shard->now.ms) set_time(shard, now);
}

static void unpause_due(struct shard *shard)
{
  bool mail_room = true;
  for (unsigned i = 0; i < shard->settings.shard_count; i++)
    if (shard->outgoing[i].count > OUTGOING_LOW) mail_room = false;
  bool tight = shard_memory_tight(shard);
  LIST_EACH (link, &shard->paused) {
    struct connection *connection = CONTAINER_OF(link, struct connection, paused);
    if (mail_room) connection_unpause(connection, PAUSED_MAIL);
    bool long_enough = (uint32_t)shard->now.ms - connection->paused_ms >= PAUSE_MS;
    if (!tight || long_enough) connection_unpause(connection, PAUSED_MEMORY);
    if (!journal_behind(&shard->journal)) connection_unpause(connection, PAUSED_JOURNAL);
    if (shard->journal.state == JOURNAL_OK) connection_unpause(connection, PAUSED_FULL);
    if (shard->congestion_eased || long_enough) connection_unpause(connection, PAUSED_QUEUE);
  }
  shard->congestion_eased = false;
}

void shard_tick(struct shard *shard)
{
  wheel_advance(&shard->wheel, shard->now);
  journal_tell_unneeded(shard);
  journal_charge(shard);
  congestion_tick(shard);
  pool_settle(&shard->pool);
  if (!list_empty(&shard->paused)) unpause_due(shard);
}

int64_t shard_next_ms(const struct shard *shard)
{
  int64_t next = wheel_next_ms(&shard->wheel, shard->now);
  if (shard->congested_count > 0 && (next < 0 || next > LIVE_MS)) next = LIVE_MS;
  LIST_EACH (link, &shard->paused) {
    const struct connection *connection = CONTAINER_OF(link, struct connection, paused);
    if (connection->pauses & (PAUSED_MEMORY | PAUSED_QUEUE)) {
      // The oldest pause is first in the list.
      uint32_t passed_ms = (uint32_t)shard->now.ms - connection->paused_ms;
      int64_t wait = passed_ms < PAUSE_MS ? PAUSE_MS - (int64_t)passed_ms : 0;
      return next < 0 || wait < next ? wait : next;
    }
  }
  return next;
}

bool shard_memory_full(const struct shard *shard)
{
  return pool_full(&shard->pool);
}

bool shard_memory_tight(const struct shard *shard)
{
  return pool_tight(&shard->pool);
}

void shard_not_retained(struct shard *shard, struct span client_id, struct span topic)
{
  shard->counters.not_retained++;
  LOG(shard->settings.log, shard->now, LOG_WARNING, "message_not_retained", FIELD_SPAN("client", client_id),
      FIELD_SPAN("topic", topic));
}

// ---- Attention

void connection_want(struct connection *connection, unsigned wants)
{
  connection->wants |= (uint8_t)wants;
  if (link_idle(&connection->attention)) list_append(&connection->shard->attention, &connection->attention);
}

struct connection *shard_next_attention(struct shard *shard, unsigned *out_wants)
{
  shard->turn_copies = 0;
  struct link *link = list_take_first(&shard->attention);
  if (!link) return NULL;
  struct connection *connection = CONTAINER_OF(link, struct connection, attention);
  *out_wants = connection->wants & CONNECTION_CLOSE ? CONNECTION_CLOSE : connection->wants;
  connection->wants = 0;
  return connection;
}

// ---- Mail

uint8_t shard_owner(const struct shard *shard, struct span key)
{
  if (shard->settings.shard_count == 1) return 0;
  return (uint8_t)(hash_span(shard->settings.seed ^ 0x5ca1ab1e, key) % shard->settings.shard_count);
}

void shard_send_mail(struct shard *shard, uint8_t target, struct mail mail)
{
  assert(target < shard->settings.shard_count);
  assert(target != shard->settings.shard);
  struct outgoing *outgoing = &shard->outgoing[target];
  if (outgoing->first + outgoing->count == outgoing->capacity) {
    if (outgoing->first > outgoing->capacity / 2) {
      memmove(outgoing->mails, outgoing->mails + outgoing->first, outgoing->count * sizeof mail);
      outgoing->first = 0;
    } else {
      size_t capacity = outgoing->capacity ? outgoing->capacity * 2 : 64;
      struct mail *mails = realloc(outgoing->mails, capacity * sizeof mail);
      if (!mails) abort();
      outgoing->mails = mails;
      outgoing->capacity = capacity;
    }
  }
  mail.from = shard->settings.shard;
  outgoing->mails[outgoing->first + outgoing->count++] = mail;
  shard->counters.mails_sent++;
}

void shard_send_host(struct shard *shard, uint8_t target, struct mail mail)
{
  assert(mail.kind == MAIL_HOST);
  shard_send_mail(shard, target, mail);
}

struct mail *shard_outgoing(struct shard *shard, uint8_t target, size_t *out_count)
{
  struct outgoing *outgoing = &shard->outgoing[target];
  if (shard->homes[target]) {
    shard_send_mail(shard, target, (struct mail){.kind = MAIL_FREE, .message = shard->homes[target]});
    shard->homes[target] = NULL;
  }
  *out_count = outgoing->count;
  return outgoing->mails ? outgoing->mails + outgoing->first : NULL;
}

void shard_outgoing_taken(struct shard *shard, uint8_t target, size_t count)
{
  struct outgoing *outgoing = &shard->outgoing[target];
  assert(count <= outgoing->count);
  outgoing->first += count;
  outgoing->count -= count;
  if (outgoing->count == 0) outgoing->first = 0;
}

void shard_mail(struct shard *shard, struct mail *mail)
{
  shard->counters.mails_received++;
  switch ((enum mail_kind)mail->kind) {
    case MAIL_PUBLISH: route_mail(shard, mail); break;
    case MAIL_TAKE_OVER: take_over_mail(shard, mail); break;
    case MAIL_COMMITTED: journal_mail_committed(shard, mail); break;
    case MAIL_INTEREST_ADD:
    case MAIL_INTEREST_REMOVE: interest_mail(shard, mail); break;
    case MAIL_DONE:
      if (mail->flags & MAIL_REFUSED) ticket_refuse(shard, mail->ticket);
      ticket_done(shard, mail->ticket);
      break;
    case MAIL_SHARE_JOIN:
    case MAIL_SHARE_LEAVE:
    case MAIL_SHARE_STATE:
    case MAIL_SHARE_DELIVER:
    case MAIL_SHARE_RETURN:
    case MAIL_SHARE_CREDIT: share_mail(shard, mail); break;
    case MAIL_CONGESTION: congestion_mail(shard, mail); break;
    case MAIL_FREE: message_free_chain(&shard->pool, mail->message); break;
    case MAIL_HOST: abort();  // belongs to the driver
  }
}

void mail_discard(struct shard *shard, struct mail *mail)
{
  switch ((enum mail_kind)mail->kind) {
    case MAIL_PUBLISH:
    case MAIL_SHARE_DELIVER: message_unref(&shard->pool, mail->message); break;
    case MAIL_SHARE_RETURN:
      message_unref(&shard->pool, mail->message);
      free(mail->text);
      break;
    case MAIL_INTEREST_ADD:
    case MAIL_INTEREST_REMOVE:
    case MAIL_SHARE_JOIN:
    case MAIL_SHARE_LEAVE:
    case MAIL_SHARE_STATE:
    case MAIL_TAKE_OVER:
    case MAIL_SHARE_CREDIT: free(mail->text); break;
    case MAIL_FREE: message_free_chain(&shard->pool, mail->message); break;
    case MAIL_DONE:
    case MAIL_CONGESTION:
    case MAIL_COMMITTED:
    case MAIL_HOST: break;
  }
}

// ---- Counters

void shard_counters(const struct shard *shard, struct counters *out)
{
  *out = shard->counters;
  out->retained_messages = shard->retained.messages;
  out->retained_bytes = shard->retained.bytes;
  out->sessions = shard->sessions.count;
  out->match_hits = shard->index.hits;
  out->match_misses = shard->index.misses;
}
