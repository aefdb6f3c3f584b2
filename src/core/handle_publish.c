// PUBLISH from a client, and the acknowledgements of both directions (5.0 sections 3.3 to 3.7, 4.3).

#include <assert.h>
#include <string.h>

#include "core/shard_internal.h"

static bool fail(struct connection *connection, enum mqtt_reason reason, const char *statement, const char *text)
{
  connection_fail(connection, &(struct mqtt_fault){reason, statement, text});
  return false;
}

// Taken as far as the protocol goes: the packet is answered, whatever became of the message.
static bool answer(struct connection *connection, const struct mqtt_publish *publish, enum mqtt_reason reason,
                   const char *text, uint64_t need)
{
  if (publish->qos == 0) return true;
  enum mqtt_packet_type type = publish->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC;
  if (reason >= MQTT_UNSPECIFIED_ERROR) count_fault(connection->shard, reason);
  connection_send_ack(connection, type, publish->packet_id, reason, text, need);
  return connection->state == CONNECTED;
}

static bool refuse(struct connection *connection, const struct mqtt_publish *publish, enum refuse_reason why,
                   enum mqtt_reason reason, const char *text)
{
  struct shard *shard = connection->shard;
  shard->counters.publish_refused[why]++;
  LOG(shard->settings.log, shard->now, LOG_WARNING, "publish_refused", FIELD_SPAN("client", session_id(connection->session)),
      FIELD_TEXT("cause", refuse_reason_name(why)), FIELD_SPAN("topic", publish->topic));
  return answer(connection, publish, reason, text, 0);
}

bool topic_is_too_deep(const struct connection *connection, struct span text)
{
  uint32_t maximum = connection_limits(connection)->topic_levels;
  uint32_t levels = 1;
  for (size_t i = 0; i < text.size; i++) levels += text.at[i] == '/';
  if (levels <= maximum) return false;
  connection->shard->counters.limits_reached[LIMIT_TOPIC_LEVELS]++;
  log_limit(connection, LIMIT_TOPIC_LEVELS, "refused");
  return true;
}

bool topic_reserved(struct span topic)
{
  static const char *const names[] = {"$SYS", "$share", "$skerry"};
  if (topic.at[0] != '$') return false;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    size_t size = strlen(names[i]);
    if (topic.size >= size && memcmp(topic.at, names[i], size) == 0 && (topic.size == size || topic.at[size] == '/'))
      return true;
  }
  return false;
}

// What its message will weigh, or a little more.
static size_t publish_size(const struct mqtt_publish *publish)
{
  size_t properties = publish->properties.present ? publish->properties.raw.size : 0;
  return sizeof(struct message) + 2 + publish->topic.size + publish->payload.size + properties;
}

static bool retained_room(const struct shard *shard, const struct mqtt_publish *publish)
{
  if (publish->payload.size == 0) return true;
  return retained_has_room(&shard->retained, publish->topic, publish_size(publish), &shard->limits[BROKER_LIMITS]);
}

// MQTT_SUCCESS, MQTT_NO_MATCHING_SUBSCRIBERS, or MQTT_QUOTA_EXCEEDED when memory is short and the message has gone nowhere.
// *out_need: what its acknowledgement waits for.
static enum mqtt_reason route(struct connection *connection, const struct mqtt_publish *publish, bool retain,
                              uint64_t *out_need)
{
  struct shard *shard = connection->shard;
  struct index *index = &shard->index;
  uint64_t hash = index_hash(index, publish->topic);
  const struct match *match = index_match(index, publish->topic, hash);
  bool wanted = retain || (match && (match->target_count || match->group_count || match->remote));
  size_t before = buffer_size(&shard->journal.records);
  if (match && !wanted) {
    shard->counters.publish_unrouted++;
    if (publish->qos == 2) journal_packet_id(connection->session, RECORD_RECEIVED, publish->packet_id);
    *out_need = journal_need(shard, before);
    return MQTT_NO_MATCHING_SUBSCRIBERS;
  }
  struct message_parts parts = {.topic = publish->topic,
                                .payload = publish->payload,
                                .topic_hash = hash,
                                .origin = connection->session->origin,
                                .qos = publish->qos,
                                .retain = publish->retain};
  if (publish->properties.present) {
    parts.raw_properties = publish->properties.raw;
    if (MQTT_HAS(&publish->properties, MESSAGE_EXPIRY))
      parts.expiry_ms = shard->now.ms + publish->properties.message_expiry_s * UINT64_C(1000);
  }
  struct message *message = match ? message_create(&shard->pool, &parts) : NULL;
  if (!message) return MQTT_QUOTA_EXCEEDED;
  uint16_t packet_id = publish->qos == 2 ? publish->packet_id : 0;
  uint64_t wanted_before = shard->journal.wanted;
  bool anybody = route_message(shard, message, match, retain, connection->session, packet_id);
  *out_need = journal_need(shard, before);
  if (shard->journal.wanted != wanted_before && shard->settings.journal_waits) *out_need = shard->journal.wanted;
  if (anybody || retain)
    shard->counters.publish_routed++;
  else
    shard->counters.publish_unrouted++;
  return anybody ? MQTT_SUCCESS : MQTT_NO_MATCHING_SUBSCRIBERS;
}

// malloc has failed. A client before 5.0 cannot be told and must not take the message for delivered: its connection ends.
static bool out_of_memory(struct connection *connection, const struct mqtt_publish *publish)
{
  if (publish->qos == 0 || connection->version == MQTT_5_0)
    return refuse(connection, publish, REFUSE_MEMORY, MQTT_QUOTA_EXCEEDED, "the broker is out of memory");
  connection->shard->counters.publish_refused[REFUSE_MEMORY]++;
  return fail(connection, MQTT_QUOTA_EXCEEDED, NULL, "the broker is out of memory");
}

static bool needs_journal(const struct connection *connection, const struct mqtt_publish *publish)
{
  struct shard *shard = connection->shard;
  if (publish->qos == 0) return publish->retain;
  if (publish->qos == 2 && connection->session->durable) return true;
  const struct match *match = index_match(&shard->index, publish->topic, index_hash(&shard->index, publish->topic));
  return match && journal_concerns(shard, match, publish->retain);
}

// Whether a QoS 1 or 2 PUBLISH would need the journal while that takes nothing.
static bool needs_failing_journal(const struct connection *connection, const struct mqtt_publish *publish)
{
  return connection->shard->journal.state != JOURNAL_OK && publish->qos > 0 && needs_journal(connection, publish);
}

// Whether a queue that this PUBLISH would go to is full, and limits.queue_drop wants the publisher to know.
static bool hits_full_queue(const struct connection *connection, const struct mqtt_publish *publish)
{
  struct shard *shard = connection->shard;
  if (!shard->queues_reject || publish->qos == 0 || connection->version != MQTT_5_0) return false;
  uint64_t hash = index_hash(&shard->index, publish->topic);
  const struct match *match = index_match(&shard->index, publish->topic, hash);
  size_t size = publish_size(publish);
  for (uint32_t i = 0; match && i < match->target_count; i++)
    if (match->targets[i].qos > 0 && session_rejects(match->targets[i].session, size)) return true;
  for (uint32_t i = 0; match && i < match->group_count; i++)
    if (share_rejects(shard, match->groups[i], hash, size)) return true;
  return false;
}

// Access control does not let it in. A client before 5.0 cannot be told by an acknowledgement: it gets one all the same, or
// its connection ends (limits.denied_disconnects).
static bool deny(struct connection *connection, const struct mqtt_publish *publish)
{
  struct shard *shard = connection->shard;
  shard->counters.publish_refused[REFUSE_NOT_AUTHORIZED]++;
  static const char text[] = "access control does not allow to publish this";
  if (connection->version != MQTT_5_0 && shard->limits[BROKER_LIMITS].denied_disconnects)
    return fail(connection, MQTT_NOT_AUTHORIZED, NULL, text);
  return answer(connection, publish, MQTT_NOT_AUTHORIZED, text, 0);
}

static bool may_publish(struct connection *connection, const struct mqtt_publish *publish)
{
  const struct shard *shard = connection->shard;
  if (!shard->acl) return true;
  uint64_t hash = index_hash(&shard->index, publish->topic);
  return access_may_publish(connection, publish->topic, hash, publish->qos, publish->retain);
}

// Whether this PUBLISH may be taken; answers it when not. *out_go_on: what handle_publish returns then. *out_retain: it goes into
// the retained store, too. When there is no room and its client cannot be told, who is subscribed gets it all the same.
static bool admit(struct connection *connection, const struct mqtt_publish *publish, bool *out_retain, bool *out_go_on)
{
  struct shard *shard = connection->shard;
  if (topic_too_deep(connection, publish->topic)) {
    *out_go_on = refuse(connection, publish, REFUSE_TOPIC_LEVELS, MQTT_TOPIC_NAME_INVALID, "the topic has too many levels");
    return false;
  }
  if (topic_reserved(publish->topic)) {
    *out_go_on = refuse(connection, publish, REFUSE_NOT_AUTHORIZED, MQTT_NOT_AUTHORIZED, "the topic belongs to the broker");
    return false;
  }
  if (!may_publish(connection, publish)) {
    *out_go_on = deny(connection, publish);
    return false;
  }
  *out_retain = publish->retain;
  if (publish->retain && !retained_room(shard, publish)) {
    if (publish->qos > 0 && connection->version == MQTT_5_0) {
      *out_go_on = refuse(connection, publish, REFUSE_RETAINED_LIMIT, MQTT_QUOTA_EXCEEDED, "the retained store is full");
      return false;
    }
    shard_not_retained(shard, session_id(connection->session), publish->topic);
    *out_retain = false;
  }
  if (publish->qos > 0 && shard_memory_full(shard) && connection->version == MQTT_5_0) {
    *out_go_on = refuse(connection, publish, REFUSE_MEMORY, MQTT_QUOTA_EXCEEDED, "the broker's memory limit is reached");
    return false;
  }
  if (needs_failing_journal(connection, publish)) {  // 5.0: must_wait has seen to the others
    *out_go_on = refuse(connection, publish, REFUSE_JOURNAL, MQTT_QUOTA_EXCEEDED, "the broker cannot store the message");
    return false;
  }
  if (hits_full_queue(connection, publish)) {
    *out_go_on = refuse(connection, publish, REFUSE_QUEUE_FULL, MQTT_QUOTA_EXCEEDED, "the queue of a subscriber is full");
    return false;
  }
  return true;
}

// What the journal is to keep waits while the disk is behind: so what is under way to it is bounded, and fits the reserve
// when the disk is found full. Over the memory limit, or when the disk is full, a client before 5.0 cannot be told: its
// message is not acknowledged and it is not read from, until there is room. QoS 0 is taken and its copies are dropped with a
// count. Returns why it is paused, 0: it is not.
static unsigned must_wait(const struct connection *connection, const struct mqtt_publish *publish)
{
  if (publish->qos == 0 && !publish->retain) return 0;
  const struct shard *shard = connection->shard;
  if (shard->settings.journal && journal_behind(&shard->journal) && needs_journal(connection, publish))
    return PAUSED_JOURNAL;
  if (publish->qos == 0 || connection->version == MQTT_5_0) return 0;
  if (shard_memory_full(shard)) return PAUSED_MEMORY;
  return needs_failing_journal(connection, publish) ? PAUSED_FULL : 0;
}

static bool exceed_receive_maximum(struct connection *connection)
{
  connection_exceed(
      connection, LIMIT_IN_FLIGHT,
      &(struct mqtt_fault){MQTT_RECEIVE_MAXIMUM_EXCEEDED, "MQTT-3.3.4-9", "more than the receive maximum is in flight"});
  return false;
}

bool handle_publish(struct connection *connection, uint8_t first, struct span body)
{
  struct shard *shard = connection->shard;
  struct mqtt_publish publish;
  struct mqtt_fault fault;
  if (!mqtt_decode_publish(connection->version, MQTT_FROM_CLIENT, first, body, &publish, &fault)) {
    connection_fail(connection, &fault);
    return false;
  }
  if (publish.properties.present && MQTT_HAS(&publish.properties, TOPIC_ALIAS) &&
      !aliases_receive(connection, &publish, &fault)) {
    connection_fail(connection, &fault);
    return false;
  }
  unsigned wait = must_wait(connection, &publish);
  if (wait) {
    shard->counters.packets_received[MQTT_PUBLISH]--;  // it comes again
    connection_pause(connection, wait);
    return false;
  }
  struct packet_ids *received = &connection->session->received;
  bool known = publish.qos == 2 && packet_ids_have(received, publish.packet_id);
  // QoS 1 is answered at once, so only QoS 2 is ever outstanding.
  if (publish.qos > 0 && !known && connection->version == MQTT_5_0 &&
      received->count >= (uint32_t)connection->granted_in_flight + connection->received_before)
    return exceed_receive_maximum(connection);
  shard->counters.publish_received++;
  shard->counters.publish_received_bytes += publish.payload.size;
  if (known) {  // sent again because our PUBREC was lost: not delivered again [MQTT-4.3.3-10]
    shard->counters.publish_refused[REFUSE_DUPLICATE]++;
    return answer(connection, &publish, MQTT_SUCCESS, NULL, journal_need_all(shard));
  }
  bool retain, go_on;
  if (!admit(connection, &publish, &retain, &go_on)) return go_on;
  if (publish.qos == 2 && packet_ids_add(received, publish.packet_id) != OK) return out_of_memory(connection, &publish);
  shard->hit_congestion = false;
  uint64_t need = 0;
  enum mqtt_reason reason = route(connection, &publish, retain, &need);
  if (reason >= MQTT_UNSPECIFIED_ERROR) {
    if (publish.qos == 2) packet_ids_remove(received, publish.packet_id);
    return out_of_memory(connection, &publish);
  }
  if (shard_memory_tight(shard)) connection_pause(connection, PAUSED_MEMORY);
  if (publish.qos > 0 && shard->hit_congestion) congestion_pause(connection);
  if (publish.qos == 0) return true;
  return answer(connection, &publish, reason, NULL, need);
}

// ---- Acknowledgements

static inline void complete(struct connection *connection, struct copy *copy, bool refused)
{
  struct shard *shard = connection->shard;
  struct session *session = connection->session;
  if (window_place(&session->window, copy) < session->window.resent) connection->in_flight--;
  if (refused)
    shard->counters.dropped[DROP_REFUSED]++;
  else
    shard->counters.delivered++;
  shard->counters.copies_in_flight--;
  if (session->durable) durable_done(session, copy, refused ? OUTCOME_REFUSED : OUTCOME_DELIVERED);
  share_credit(shard, copy->tag);
  copy_release(shard, copy);
  window_done(&session->window, copy);
  congestion_progress(session);
  if (session->queue.count > 0 || session->window.resent < session->window.span)
    connection_want(connection, CONNECTION_OUTPUT);
  if (session->window.span == 0 && session->window.capacity > 64) window_deinit(&session->window, &shard->pool);
}

static bool wrong_state(struct connection *connection, const char *text)
{
  return fail(connection, MQTT_PROTOCOL_ERROR, NULL, text);
}

static bool handle_puback(struct connection *connection, const struct mqtt_ack *ack)
{
  struct copy *copy = window_find(&connection->session->window, ack->packet_id);
  if (!copy) return true;  // acknowledged before, by an earlier connection for example
  if (copy->qos != 1) return wrong_state(connection, "PUBACK for a QoS 2 message");
  complete(connection, copy, ack->reason >= MQTT_UNSPECIFIED_ERROR);
  return true;
}

static bool handle_pubrec(struct connection *connection, const struct mqtt_ack *ack)
{
  struct shard *shard = connection->shard;
  struct copy *copy = window_find(&connection->session->window, ack->packet_id);
  if (!copy) {
    if (ack->reason >= MQTT_UNSPECIFIED_ERROR) return true;
    connection_send_ack(connection, MQTT_PUBREL, ack->packet_id, MQTT_PACKET_ID_NOT_FOUND, NULL, 0);
    return connection->state == CONNECTED;
  }
  if (copy->qos != 2) return wrong_state(connection, "PUBREC for a QoS 1 message");
  if (ack->reason >= MQTT_UNSPECIFIED_ERROR) {
    complete(connection, copy, true);
    return true;
  }
  size_t before = buffer_size(&shard->journal.records);
  if (copy->state == COPY_SENT) {
    if (connection->session->durable) durable_sent(connection->session, copy);
    copy->state = COPY_RELEASED;
    message_unref(&shard->pool, copy->message);
    copy->message = NULL;
  }
  // Were it forgotten that PUBREC came, the message would be sent again, to a client that has let go of the identifier.
  connection_send_ack(connection, MQTT_PUBREL, ack->packet_id, MQTT_SUCCESS, NULL, journal_need(shard, before));
  return connection->state == CONNECTED;
}

static bool handle_pubcomp(struct connection *connection, const struct mqtt_ack *ack)
{
  struct copy *copy = window_find(&connection->session->window, ack->packet_id);
  if (!copy) return true;
  if (copy->state != COPY_RELEASED) return wrong_state(connection, "PUBCOMP before PUBREC");
  // It took the message with PUBREC. "Packet identifier not found": to PUBREL that came again, because its first PUBCOMP was
  // lost.
  complete(connection, copy, false);
  return true;
}

static bool handle_pubrel(struct connection *connection, const struct mqtt_ack *ack)
{
  struct shard *shard = connection->shard;
  bool known = packet_ids_remove(&connection->session->received, ack->packet_id);
  // Were it forgotten, the next message with this identifier would be taken for a repeat.
  if (known) journal_packet_id(connection->session, RECORD_RELEASED, ack->packet_id);
  enum mqtt_reason reason = known ? MQTT_SUCCESS : MQTT_PACKET_ID_NOT_FOUND;
  uint64_t need = connection->session->durable ? journal_need_all(shard) : 0;
  connection_send_ack(connection, MQTT_PUBCOMP, ack->packet_id, reason, NULL, need);
  return connection->state == CONNECTED;
}

bool handle_ack(struct connection *connection, enum mqtt_packet_type type, uint8_t first, struct span body)
{
  struct mqtt_ack ack;
  struct mqtt_fault fault;
  if (!mqtt_decode_ack(connection->version, first, body, &ack, &fault)) {
    connection_fail(connection, &fault);
    return false;
  }
  if (type == MQTT_PUBACK) return handle_puback(connection, &ack);
  if (type == MQTT_PUBREC) return handle_pubrec(connection, &ack);
  if (type == MQTT_PUBREL) return handle_pubrel(connection, &ack);
  assert(type == MQTT_PUBCOMP);
  return handle_pubcomp(connection, &ack);
}
