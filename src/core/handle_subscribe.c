// SUBSCRIBE and UNSUBSCRIBE (5.0 sections 3.8 to 3.11, 4.7, 4.8).

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/shard_internal.h"
#include "mqtt/topic.h"

enum { RETAINED_WITH_SUBACK = 1024 };

// Those that the SUBACK promises with the subscription: after a restart the client does not ask again. Of very many, the
// rest is queued when the client has taken these.
static bool queue_durably(struct session *session, const struct copy *copy)
{
  const struct shard *shard = session->shard;
  if (!session->durable || copy->qos == 0 || shard->journal.state != JOURNAL_OK) return false;
  if (journal_heavy(&shard->journal) || shard_memory_tight(shard) || shard->turn_copies >= YIELD_COPIES) return false;
  return session_queue_retained(session, copy, RETAINED_WITH_SUBACK);
}

static void queue_retained(struct connection *connection, const struct mqtt_subscription *wanted, uint8_t qos, uint32_t id)
{
  struct shard *shard = connection->shard;
  struct session *session = connection->session;
  if (shard->retained.messages == 0) return;
  struct retained_cursor *cursor = retained_cursor_create(&shard->retained, wanted->filter);
  if (!cursor) return;
  struct tag *tag = id ? tag_create(&id, 1) : NULL;
  if (wanted->no_local || connection->bridge) cursor->origin_excluded = session->origin;
  struct copy copy = {.cursor = cursor, .tag = tag, .qos = qos, .retain = true, .is_cursor = true};
  bool queued = queue_durably(session, &copy);
  if (queued || queue_append(&session->queue, &shard->pool, &copy) != OK) {
    copy_release(shard, &copy);
    if (!queued) return;
  }
  connection_want(connection, CONNECTION_OUTPUT);
}

static enum mqtt_reason exceed_quota(struct connection *connection, enum status status)
{
  if (status == ERR_FULL) {
    connection->shard->counters.limits_reached[LIMIT_SUBSCRIPTIONS]++;
    log_limit(connection, LIMIT_SUBSCRIPTIONS, "refused");
  }
  return MQTT_QUOTA_EXCEEDED;
}

static enum mqtt_reason subscribe_one(struct connection *connection, const struct mqtt_subscription *wanted, uint32_t id,
                                      uint64_t ticket)
{
  struct shard *shard = connection->shard;
  struct session *session = connection->session;
  struct mqtt_filter filter;
  if (!mqtt_filter_parse(wanted->filter, &filter)) return MQTT_TOPIC_FILTER_INVALID;
  if (topic_too_deep(connection, filter.filter)) return MQTT_TOPIC_FILTER_INVALID;
  uint8_t qos = wanted->qos;
  if (!access_may_subscribe(connection, filter.filter, &qos)) return MQTT_NOT_AUTHORIZED;
  if (shard_memory_full(shard)) return MQTT_QUOTA_EXCEEDED;
  struct subscription options = {.id = id,
                                 .qos = qos,
                                 .no_local = wanted->no_local || connection->bridge,
                                 .retain_as_published = wanted->retain_as_published || connection->bridge};
  bool is_new;
  if (filter.share.size > 0) {
    enum status status = share_subscribe(session, &options, share_key(wanted->filter), ticket, &is_new);
    if (status != OK) return exceed_quota(connection, status);
    durable_subscribed(session, &options, wanted->filter);
    return (enum mqtt_reason)qos;
  }
  enum status status = session_subscribe(session, &options, filter.filter, ticket, &is_new);
  if (status != OK) return exceed_quota(connection, status);
  durable_subscribed(session, &options, wanted->filter);
  bool send = wanted->retain_handling == MQTT_RETAIN_SEND ||
              (wanted->retain_handling == MQTT_RETAIN_SEND_IF_NEW && is_new);  // [MQTT-3.3.1-9..11]
  if (send) queue_retained(connection, wanted, qos, id);
  return (enum mqtt_reason)qos;
}

// SUBACK, at once or when all shards know and the journal has it.
static bool answer(struct connection *connection, const struct mqtt_packet *packet, uint64_t ticket, uint64_t need)
{
  struct shard *shard = connection->shard;
  if (!connection_fits(connection, packet))
    ticket_forget(shard, connection);  // nothing can be written for it when the others answer
  if (!ticket || !connection_fits(connection, packet)) {
    ticket_done(shard, ticket);
    connection_answer_packet(connection, packet, need);
    return connection->state == CONNECTED;
  }
  size_t size = mqtt_encoded_size(connection->version, packet);
  uint8_t *bytes = malloc(size);
  if (!bytes) abort();
  size = mqtt_encode(connection->version, packet, bytes, size);
  ticket_set_bytes(shard, ticket, span_of(bytes, size), need);
  free(bytes);
  // Answers keep the order of the questions: nothing behind the SUBSCRIBE is looked at before its SUBACK is written.
  connection_pause(connection, PAUSED_ANSWER);
  ticket_done(shard, ticket);
  return connection->state == CONNECTED;
}

static void log_refused(struct connection *connection, struct span filter, enum mqtt_reason reason)
{
  struct shard *shard = connection->shard;
  count_fault(shard, reason);
  shard->counters.subscribes_refused++;
  LOG(shard->settings.log, shard->now, LOG_WARNING, "subscribe_refused",
      FIELD_SPAN("client", session_id(connection->session)), FIELD_SPAN("filter", filter),
      FIELD_TEXT("reason_name", mqtt_reason_name(reason)));
}

bool handle_subscribe(struct connection *connection, const struct mqtt_subscribe *subscribe)
{
  struct shard *shard = connection->shard;
  uint8_t *codes = malloc(subscribe->count);
  if (!codes) abort();
  uint64_t ticket = shard->settings.shard_count > 1 ? ticket_for_connection(shard, connection) : 0;
  uint32_t id = MQTT_HAS(&subscribe->properties, SUBSCRIPTION_ID) ? subscribe->properties.subscription_id : 0;
  struct mqtt_subscription wanted;
  uint32_t count = 0;
  size_t before = buffer_size(&shard->journal.records);
  for (size_t cursor = 0; mqtt_next_subscription(connection->version, subscribe, &cursor, &wanted);) {
    enum mqtt_reason reason = subscribe_one(connection, &wanted, id, ticket);
    if (reason >= MQTT_UNSPECIFIED_ERROR) log_refused(connection, wanted.filter, reason);
    codes[count++] = (uint8_t)reason;
  }
  assert(count == subscribe->count);
  struct mqtt_packet packet = {.type = MQTT_SUBACK,
                               .suback = {.packet_id = subscribe->packet_id, .codes = span_of(codes, count)}};
  bool go_on = answer(connection, &packet, ticket, journal_need(shard, before));
  free(codes);
  return go_on;
}

static enum mqtt_reason unsubscribe_one(struct session *session, struct span text)
{
  struct mqtt_filter filter;
  if (!mqtt_filter_parse(text, &filter)) return MQTT_TOPIC_FILTER_INVALID;
  bool had =
      filter.share.size > 0 ? share_unsubscribe(session, share_key(text)) : session_unsubscribe(session, filter.filter);
  if (had) durable_unsubscribed(session, text);
  return had ? MQTT_SUCCESS : MQTT_NO_SUBSCRIPTION_EXISTED;
}

bool handle_unsubscribe(struct connection *connection, const struct mqtt_unsubscribe *unsubscribe)
{
  uint8_t *codes = malloc(unsubscribe->count);
  if (!codes) abort();
  struct span filter;
  uint32_t count = 0;
  size_t before = buffer_size(&connection->shard->journal.records);
  for (size_t cursor = 0; mqtt_next_filter(unsubscribe, &cursor, &filter);)
    codes[count++] = (uint8_t)unsubscribe_one(connection->session, filter);
  assert(count == unsubscribe->count);
  struct mqtt_packet packet = {.type = MQTT_UNSUBACK,
                               .suback = {.packet_id = unsubscribe->packet_id, .codes = span_of(codes, count)}};
  connection_answer_packet(connection, &packet, journal_need(connection->shard, before));
  free(codes);
  return connection->state == CONNECTED;
}
