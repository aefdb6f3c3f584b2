// What a connection has to write: acknowledgements first, then what a reconnect must repeat, then the session's queue.
// Messages are encoded when the transport is ready for them, straight from the shared message into the driver's scratch
// memory.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/shard_internal.h"

// What every message goes through, in functions that two paths share: sending, and sending again. Calls would cost the first
// one instruction in twenty.
#define ON_EVERY_PATH __attribute__((always_inline)) static inline

// One copy on its way onto the wire.
struct encoding {
  const struct message *message;
  const struct tag *tag;
  uint32_t expiry_s;  // remaining, when the message has one
  uint16_t alias;     // 0: none
  bool alias_known;   // the topic can be left out
  size_t properties;  // bytes behind the property length
  size_t remaining, size;
};

static size_t varint_size(size_t value)
{
  return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

static uint8_t *write_varint(uint8_t *at, size_t value)
{
  do {
    uint8_t byte = value & 0x7f;
    value >>= 7;
    *at++ = value ? byte | 0x80 : byte;
  } while (value);
  return at;
}

static uint8_t *write_u16(uint8_t *at, unsigned value)
{
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
  return at + 2;
}

static uint8_t *write_bytes(uint8_t *at, struct span bytes)
{
  if (bytes.size) memcpy(at, bytes.at, bytes.size);
  return at + bytes.size;
}

enum { ALIAS_BYTES = 3 };  // of the property: a topic that is no longer needs no alias

ON_EVERY_PATH void measure(struct connection *connection, struct encoding *e, uint8_t qos, bool may_alias)
{
  const struct message *message = e->message;
  size_t topic = message->topic_size;
  e->alias = 0;
  e->alias_known = false;
  e->remaining = 2 + topic + (qos ? 2 : 0) + message->payload_size;
  if (connection->version == MQTT_5_0) {
    // Not at QoS 2: widely used clients (mqtt.js) forget what an alias stood for between PUBLISH and PUBREL.
    if (may_alias && qos < 2 && connection->alias_maximum && topic > ALIAS_BYTES)
      e->alias = aliases_send(connection, message, &e->alias_known);
    e->properties = message->properties_size;
    if (message->expiry_ms) {
      e->properties += 5;
      // Rounded up: a message with a little life left must not be sent with none.
      // What is sent again may have none left.
      uint64_t now_ms = connection->shard->now.ms;
      e->expiry_s = message->expiry_ms > now_ms ? (uint32_t)((message->expiry_ms - now_ms + 999) / 1000) : 0;
    }
    if (e->alias) e->properties += ALIAS_BYTES;
    if (e->tag)
      for (uint32_t i = 0; i < e->tag->id_count; i++) e->properties += 1 + varint_size(e->tag->ids[i]);
    e->remaining += varint_size(e->properties) + e->properties;
    if (e->alias_known) e->remaining -= topic;
  }
  e->size = mqtt_fixed_header_size(e->remaining) + e->remaining;
}

// Everything in front of the payload.
ON_EVERY_PATH uint8_t *write_head(const struct connection *connection, const struct encoding *e, uint8_t first,
                                  uint16_t packet_id, uint8_t *at)
{
  const struct message *message = e->message;
  at += mqtt_write_fixed_header(at, first, e->remaining);
  if (e->alias_known)
    at = write_u16(at, 0);
  else
    at = write_bytes(at, span_of(message->body, 2u + message->topic_size));
  if (packet_id) at = write_u16(at, packet_id);
  if (connection->version != MQTT_5_0) return at;
  at = write_varint(at, e->properties);
  if (message->expiry_ms) {
    *at++ = MQTT_PROPERTY_MESSAGE_EXPIRY;
    at = write_u16(at, e->expiry_s >> 16);
    at = write_u16(at, e->expiry_s & 0xffff);
  }
  if (e->alias) {
    *at++ = MQTT_PROPERTY_TOPIC_ALIAS;
    at = write_u16(at, e->alias);
  }
  for (uint32_t i = 0; e->tag && i < e->tag->id_count; i++) {
    *at++ = MQTT_PROPERTY_SUBSCRIPTION_ID;
    at = write_varint(at, e->tag->ids[i]);
  }
  return write_bytes(at, message_properties(message));
}

// ---- Filling the scratch memory

struct fill {
  struct shard *shard;
  struct connection *connection;
  uint8_t *scratch;
  size_t size, used;
  bool full;
  struct unsent *large;  // for a topic and properties that are larger than the scratch memory altogether
};

enum fate { SENT, DROPPED_EXPIRED, DROPPED_AGE, DROPPED_TOO_LARGE, DROPPED_DENIED, NO_ROOM };

// Whether the message can be written now, and how. What was sent before does not expire: its delivery has started
// [MQTT-3.3.2-5, 4.4.0-1], and the client may hold its packet identifier.
ON_EVERY_PATH enum fate plan(struct fill *fill, struct encoding *e, uint8_t qos, bool again)
{
  struct connection *connection = fill->connection;
  if (!again && message_expired(e->message, fill->shard->now)) return DROPPED_EXPIRED;
  for (bool may_alias = true;; may_alias = false) {
    measure(connection, e, qos, may_alias);
    if (e->size <= connection->maximum_packet_size || !e->alias) break;
  }
  if (e->size > connection->maximum_packet_size) return DROPPED_TOO_LARGE;
  bool fits = e->size <= fill->size - fill->used;
  if (!fits && fill->used > 0) return NO_ROOM;
  // Last, so that it is asked, and counted, once.
  if (fill->shard->acl && !access_may_receive(connection, e->message)) return DROPPED_DENIED;
  if (fits) return SENT;
  // Larger than the scratch memory altogether: its payload is written from the message itself, behind an otherwise empty
  // scratch.
  size_t head = e->size - e->message->payload_size;
  if (head <= fill->size) return SENT;
  fill->large = pool_alloc(&fill->shard->pool, sizeof *fill->large + head);
  if (!fill->large) return NO_ROOM;
  *fill->large = (struct unsent){.size = head};
  return SENT;
}

ON_EVERY_PATH void write_message(struct fill *fill, const struct encoding *e, const struct copy *copy, bool dup)
{
  struct connection *connection = fill->connection;
  struct message *message = copy->message;
  uint8_t first = (uint8_t)(MQTT_PUBLISH << 4 | (dup ? 8 : 0) | copy->qos << 1 | (copy->retain ? 1 : 0));
  uint8_t *start = fill->large ? fill->large->bytes : fill->scratch + fill->used;
  uint8_t *at = write_head(connection, e, first, copy->qos ? copy->packet_id : 0, start);
  if (e->size <= fill->size - fill->used) {
    at = write_bytes(at, message_payload(message));
    assert(at == start + e->size);
    fill->used += e->size;
  } else {
    message_ref(message, 1);
    fill->full = true;
    if (fill->large) {
      assert(at == start + fill->large->size);
      fill->large->message = message;
      connection->unsent = fill->large;
      fill->large = NULL;
    } else {
      fill->shard->offer.message = message;
      fill->used += (size_t)(at - start);
    }
  }
  if (e->alias && !e->alias_known) aliases_sent(connection, message, e->alias);
  fill->shard->counters.packets_sent[MQTT_PUBLISH]++;
  fill->shard->counters.delivered_bytes += message->payload_size;
}

static bool quota_left(const struct fill *fill)
{
  const struct connection *connection = fill->connection;
  return connection->in_flight < connection->receive_maximum;
}

static void count_dropped(struct fill *fill, enum fate fate)
{
  struct counters *counters = &fill->shard->counters;
  if (fate == DROPPED_EXPIRED)
    counters->expired++;
  else
    counters->dropped[fate == DROPPED_AGE      ? DROP_QUEUE_AGE
                      : fate == DROPPED_DENIED ? DROP_NOT_AUTHORIZED
                                               : DROP_PACKET_TOO_LARGE]++;
}

static void record_dropped(struct session *session, const struct copy *copy, enum fate fate)
{
  if (!session->durable || copy->qos == 0) return;
  enum record_outcome outcome = fate == DROPPED_EXPIRED  ? OUTCOME_EXPIRED
                                : fate == DROPPED_AGE    ? OUTCOME_QUEUE_AGE
                                : fate == DROPPED_DENIED ? OUTCOME_REFUSED
                                                         : OUTCOME_PACKET_TOO_LARGE;
  durable_done(session, copy, outcome);
}

// Messages of QoS 1 and 2 that have waited for too long; a retained message is as old as it is.
static bool too_old(const struct connection *connection, const struct copy *copy)
{
  if (copy->qos == 0 || copy->from_cursor) return false;
  const struct shard *shard = connection->shard;
  uint32_t age_s = connection_limits(connection)->queue_age_s;
  if (age_s == 0) return false;
  return (int32_t)(shard->now_s - copy->message->time_s) > (int64_t)age_s;
}

// After a reconnect: what was in flight goes first, in the order in which it was sent [MQTT-4.4.0-1, 4.6.0-1].
static void fill_resend(struct fill *fill)
{
  struct connection *connection = fill->connection;
  struct window *window = &connection->session->window;
  while (window->resent < window->span && !fill->full) {
    struct copy *copy = window_at(window, window->resent);
    if (copy->state == COPY_RELEASED) {
      if (fill->size - fill->used < 4) break;
      uint8_t *at = fill->scratch + fill->used;
      *at++ = MQTT_PUBREL << 4 | 2;
      *at++ = 2;
      write_u16(at, copy->packet_id);
      fill->used += 4;
      fill->shard->counters.packets_sent[MQTT_PUBREL]++;
      connection->in_flight++;
    } else if (copy->state == COPY_SENT) {
      if (!quota_left(fill)) {
        fill->full = true;  // nothing may overtake it
        return;
      }
      struct encoding e = {.message = copy->message, .tag = copy->tag};
      enum fate fate = plan(fill, &e, copy->qos, true);
      if (fate == NO_ROOM) {
        fill->full = true;
        return;
      }
      if (fate == SENT) {
        write_message(fill, &e, copy, true);
        fill->shard->counters.redelivered++;
        connection->in_flight++;
      } else {
        count_dropped(fill, fate);
        record_dropped(connection->session, copy, fate);
        fill->shard->counters.copies_in_flight--;
        share_credit(fill->shard, copy->tag);
        copy_release(fill->shard, copy);
        copy->state = COPY_DONE;
        window->count--;
      }
    }
    window->resent++;
  }
  window_trim(window);
}

// Sends one copy from the queue or a cursor. `copy` is the caller's and still holds its references when NO_ROOM is returned;
// otherwise they are used up.
static enum fate send_copy(struct fill *fill, struct copy *copy)
{
  struct shard *shard = fill->shard;
  struct connection *connection = fill->connection;
  struct session *session = connection->session;
  struct encoding e = {.message = copy->message, .tag = copy->tag};
  if (copy->qos > 0 && (!quota_left(fill) || !window_open(&session->window))) return NO_ROOM;
  bool durable = session->durable && copy->qos > 0;
  if (durable && !durable_may_send(session, copy)) return NO_ROOM;
  enum fate fate = too_old(connection, copy) ? DROPPED_AGE : plan(fill, &e, copy->qos, false);
  if (fate == NO_ROOM) return fate;
  if (fate != SENT) {
    count_dropped(fill, fate);
    record_dropped(session, copy, fate);
    share_credit(shard, copy->tag);
    copy_release(shard, copy);
    return fate;
  }
  if (copy->qos > 0) {
    uint64_t place = durable ? durable_place(session->durable, copy) : 0;
    uint16_t packet_id = durable ? place_packet_id(place) : 0;
    if (window_append(&session->window, &shard->pool, copy, packet_id) != OK) return NO_ROOM;
    if (durable) session->durable->sent = place + 1;
    session->window.resent = session->window.span;
    connection->in_flight++;
    shard->counters.copies_in_flight++;
  }
  write_message(fill, &e, copy, false);
  if (copy->qos == 0) {
    shard->counters.delivered++;
    share_credit(shard, copy->tag);
    copy_release(shard, copy);
  }
  return SENT;
}

// The retained messages that a SUBSCRIBE asked for. False when the cursor is not finished.
static bool fill_cursor(struct fill *fill, const struct copy *place)
{
  struct shard *shard = fill->shard;
  struct retained_cursor *cursor = place->cursor;
  while (!fill->full) {
    if (place->qos > 0 && !quota_left(fill)) return false;
    struct message *message = cursor->held;
    enum cursor_result result = CURSOR_MESSAGE;
    if (!message) result = retained_cursor_next(&shard->retained, cursor, CURSOR_STEPS, &message);
    if (result == CURSOR_END) return true;
    if (result == CURSOR_MORE) {
      connection_want(fill->connection, CONNECTION_OUTPUT);  // others get their turn in between
      return false;
    }
    if (!cursor->held) message_ref(message, 1);
    cursor->held = NULL;
    struct copy copy = {.message = message, .tag = tag_ref(place->tag), .retain = true, .from_cursor = true};
    copy.qos = message->qos < place->qos ? message->qos : place->qos;
    if (send_copy(fill, &copy) == NO_ROOM) {
      cursor->held = message;
      tag_unref(place->tag);
      return false;
    }
    shard->counters.copies++;
  }
  return false;
}

enum { CURSOR_QUEUED = 256 };

// For a durable session what the cursor finds is queued. The cursor at the front gives its place to the messages behind it,
// and goes on when none waits. False: there is nothing to send now.
static bool turn_cursor(struct fill *fill, struct copy *place)
{
  struct shard *shard = fill->shard;
  struct session *session = fill->connection->session;
  bool may_queue = session->waiting == 0 && shard->journal.state == JOURNAL_OK;
  bool finished = may_queue && session_queue_retained(session, place, CURSOR_QUEUED);
  if (!finished && queue_append(&session->queue, &shard->pool, place) != OK) return false;
  queue_drop(&session->queue, &shard->pool);
  if (finished) copy_release(shard, place);
  if (finished || session->durable->kept_bytes > 0 || session->qos0_bytes > 0) return true;
  // What is on disk is being loaded; a journal that takes nothing wakes its connections when it does.
  if (may_queue) connection_want(fill->connection, CONNECTION_OUTPUT);  // others get their turn in between
  return false;
}

static void fill_queue(struct fill *fill)
{
  struct shard *shard = fill->shard;
  struct session *session = fill->connection->session;
  while (!fill->full && session->queue.count > 0) {
    struct copy copy = *queue_peek(&session->queue);
    if (copy.is_cursor && copy.qos > 0 && session->durable) {
      if (!turn_cursor(fill, &copy)) break;
      continue;
    }
    if (copy.is_cursor) {
      if (!fill_cursor(fill, &copy)) break;
      session_take_front(session);
      copy_release(shard, &copy);
      continue;
    }
    uint64_t bytes = message_size(copy.message);
    bool qos_0 = copy.qos == 0;
    if (send_copy(fill, &copy) == NO_ROOM) break;
    session_sent_front(session, qos_0, bytes);
  }
  if (session->durable) durable_want(session);
}

static void fill_control(struct fill *fill)
{
  struct connection *connection = fill->connection;
  if (!connection->control) return;
  struct span bytes = buffer_peek(connection->control);
  size_t size = bytes.size < fill->size ? bytes.size : fill->size;
  memcpy(fill->scratch, bytes.at, size);
  fill->used = size;
  if (size < bytes.size) {
    buffer_consume(connection->control, size);
    fill->full = true;
  } else {
    control_written(connection);
  }
}

// Behind the messages, so that a client that sees its PINGRESP has seen what was there before its PINGREQ; but not for ever:
// when the scratch memory is full they come first the next time.
static void fill_pongs(struct fill *fill)
{
  struct connection *connection = fill->connection;
  if (connection->state != CONNECTED || connection->unsent) return;
  while (connection->pongs > 0 && fill->size - fill->used >= 2 && !fill->shard->offer.message) {
    fill->scratch[fill->used++] = MQTT_PINGRESP << 4;
    fill->scratch[fill->used++] = 0;
    connection->pongs--;
    fill->shard->counters.packets_sent[MQTT_PINGRESP]++;
  }
  connection->pongs_late = connection->pongs > 0;
}

static size_t offer_unsent(struct shard *shard, struct connection *connection, struct output *out)
{
  const struct unsent *unsent = connection->unsent;
  shard->offer = (struct offer){.connection = connection,
                                .scratch = span_of(unsent->bytes + unsent->at, unsent->size - unsent->at),
                                .message = unsent->message,
                                .message_at = unsent->message_at};
  out->parts[0] = shard->offer.scratch;
  out->parts[1] = unsent->message ? span_from(message_payload(unsent->message), unsent->message_at) : (struct span){0};
  return out->parts[0].size + out->parts[1].size;
}

size_t connection_output(struct shard *shard, struct connection *connection, uint8_t *scratch, size_t scratch_size,
                         struct output *out)
{
  if (connection->unsent) return offer_unsent(shard, connection, out);
  struct fill fill = {.shard = shard, .connection = connection, .scratch = scratch, .size = scratch_size};
  shard->offer = (struct offer){.connection = connection};
  fill_control(&fill);
  if (connection->pongs_late) fill_pongs(&fill);
  // While a SUBACK waits for other shards, so do messages: it comes in front of the retained ones, as with one shard.
  bool answered = !(connection->pauses & PAUSED_ANSWER);
  if (connection->state == CONNECTED && answered && !fill.full) {
    struct session *session = connection->session;
    if (session->window.resent < session->window.span) fill_resend(&fill);
    if (!fill.full && session->window.resent == session->window.span) fill_queue(&fill);
  }
  if (connection->pongs) fill_pongs(&fill);
  if (fill.large) pool_free(&shard->pool, fill.large, sizeof *fill.large + fill.large->size);
  if (connection->unsent) return offer_unsent(shard, connection, out);
  shard->offer.scratch = span_of(scratch, fill.used);
  out->parts[0] = shard->offer.scratch;
  out->parts[1] = shard->offer.message ? message_payload(shard->offer.message) : (struct span){0};
  return out->parts[0].size + out->parts[1].size;
}

// ---- What was written

static bool keep_rest(struct shard *shard, struct connection *connection, size_t scratch_sent)
{
  struct offer *offer = &shard->offer;
  size_t rest = offer->scratch.size - scratch_sent;
  struct unsent *unsent = pool_alloc(&shard->pool, sizeof *unsent + rest);
  if (!unsent) return false;
  *unsent = (struct unsent){.size = rest, .message = offer->message, .message_at = offer->message_at};
  if (rest) memcpy(unsent->bytes, offer->scratch.at + scratch_sent, rest);
  connection->unsent = unsent;
  offer->message = NULL;
  return true;
}

void connection_free_output(struct connection *connection)
{
  struct pool *pool = &connection->shard->pool;
  struct offer *offer = &connection->shard->offer;
  struct unsent *unsent = connection->unsent;
  if (offer->connection == connection) {
    if (offer->message && !unsent) message_unref(pool, offer->message);  // else it is the unsent one's
    *offer = (struct offer){0};
  }
  if (!unsent) return;
  if (unsent->message) message_unref(pool, unsent->message);
  pool_free(pool, unsent, sizeof *unsent + unsent->size);
  connection->unsent = NULL;
}

unsigned connection_sent(struct shard *shard, struct connection *connection, size_t size)
{
  struct offer *offer = &shard->offer;
  assert(offer->connection == connection);
  shard->counters.bytes_sent += size;
  size_t scratch_sent = size < offer->scratch.size ? size : offer->scratch.size;
  size_t message_sent = size - scratch_sent;
  size_t message_left = offer->message ? offer->message->payload_size - offer->message_at - message_sent : 0;
  bool all = scratch_sent == offer->scratch.size && message_left == 0;
  if (connection->unsent) {
    connection->unsent->at += scratch_sent;
    connection->unsent->message_at += message_sent;
    if (!all) return 0;
    connection_free_output(connection);
  } else if (all) {
    if (offer->message) message_unref(&shard->pool, offer->message);
    offer->message = NULL;
  } else {
    offer->message_at += message_sent;
    if (keep_rest(shard, connection, scratch_sent)) return 0;
    connection_free_output(connection);
    return CONNECTION_CLOSE;  // a stream with a hole is of no use
  }
  if (connection->state == CLOSING) return connection->control ? CONNECTION_OUTPUT : connection->held ? 0 : CONNECTION_CLOSE;
  if (connection->pauses & PAUSED_OUTPUT) connection_unpause(connection, PAUSED_OUTPUT);
  return CONNECTION_OUTPUT;
}
