// Sessions: their life, their queue, their will.

#include "core/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/shard_internal.h"

static uint64_t id_hash(const struct shard *shard, struct span client_id)
{
  return hash_span(shard->settings.seed ^ 0x5e5510, client_id);
}

uint64_t session_hash(const struct session *session)
{
  return id_hash(session->shard, session_id(session));
}

static bool id_matches(const void *item, const void *key)
{
  return span_equal(session_id(item), *(const struct span *)key);
}

struct session *session_find(const struct shard *shard, struct span client_id)
{
  return map_find(&shard->sessions, id_hash(shard, client_id), id_matches, &client_id);
}

static void timer_due(struct timer *timer, struct mono now);

struct session *session_create(struct shard *shard, struct span client_id)
{
  assert(client_id.size <= MQTT_MAX_STRING);
  struct session *session = calloc(1, sizeof *session + client_id.size);
  if (!session) return NULL;
  session->shard = shard;
  session->origin = id_hash(shard, client_id);
  session->client_id_size = (uint16_t)client_id.size;
  memcpy(session->client_id, client_id.at, client_id.size);
  timer_init(&session->timer, timer_due);
  if (map_insert(&shard->sessions, id_hash(shard, client_id), session) != OK) {
    free(session);
    return NULL;
  }
  pool_charge(&shard->pool, (int64_t)(sizeof *session + client_id.size));
  return session;
}

// ---- Copies

void copy_release(struct shard *shard, struct copy *copy)
{
  if (copy->is_cursor)
    retained_cursor_destroy(&shard->retained, copy->cursor);
  else if (copy->message)
    message_unref(&shard->pool, copy->message);
  tag_unref(copy->tag);
  copy->message = NULL;
  copy->tag = NULL;
}

void session_count_in(struct session *session, bool qos_0, uint64_t bytes)
{
  *(qos_0 ? &session->qos0_bytes : &session->waiting_bytes) += bytes;
  if (!qos_0) session->waiting++;
  session->shard->counters.queued_bytes += bytes;
  session->shard->counters.copies_queued++;
}

void session_count_out(struct session *session, bool qos_0, uint64_t bytes)
{
  // In the journal weights are estimates where messages were dropped unseen.
  if (!qos_0 && session->durable && (session->waiting == 1 || bytes > session->waiting_bytes))
    bytes = session->waiting_bytes;
  *(qos_0 ? &session->qos0_bytes : &session->waiting_bytes) -= bytes;
  if (!qos_0) session->waiting--;
  session->shard->counters.queued_bytes -= bytes;
  session->shard->counters.copies_queued--;
}

void session_sent_front(struct session *session, bool qos_0, uint64_t bytes)
{
  session_count_out(session, qos_0, bytes);
  if (!qos_0 && session->durable) session->durable->kept_bytes -= bytes;
  queue_drop(&session->queue, &session->shard->pool);
}

void session_take_front(struct session *session)
{
  const struct copy *copy = queue_peek(&session->queue);
  if (!copy->is_cursor) {
    uint64_t bytes = message_size(copy->message);
    if (copy->qos > 0 && session->durable) session->durable->kept_bytes -= bytes;
    session_count_out(session, copy->qos == 0, bytes);
  }
  queue_drop(&session->queue, &session->shard->pool);
}

// What is rare stays out of session_deliver, which is then without a frame of its own on the stack.
__attribute__((noinline)) static bool drop(struct session *session, const struct tag *tag, enum drop_reason reason)
{
  struct shard *shard = session->shard;
  shard->counters.dropped[reason]++;
  share_credit(shard, tag);
  if (reason != DROP_OFFLINE_QOS_0)  // which is as it should be
    LOG(shard->settings.log, shard->now, LOG_WARNING, "message_dropped", FIELD_SPAN("client", session_id(session)),
        FIELD_TEXT("cause", drop_reason_name(reason)), FIELD_UINT("queued", session->queue.count));
  return false;
}

bool session_is_full(const struct session *session, size_t size)
{
  const struct limits *limits = session_limits(session);
  if (limits->queue_messages && session->waiting >= limits->queue_messages) return true;
  return session->waiting > 0 && session->waiting_bytes + size > limits->queue_bytes;  // one message always fits
}

bool session_rejects(const struct session *session, size_t size)
{
  return session_limits(session)->queue_drop == QUEUE_REJECT && session_is_full(session, size);
}

// Drops the message that waits longest, but none that was sent: it may have arrived. False when it cannot be told yet: the
// front of the queue is being loaded.
__attribute__((noinline)) static bool drop_oldest(struct session *session)
{
  struct shard *shard = session->shard;
  struct durable *durable = session->durable;
  for (uint32_t left = session->queue.count; left > 0; left--) {
    struct copy copy = *queue_peek(&session->queue);
    if (copy.is_cursor) {
      // Retained messages are sent behind what is live: nothing is lost when they come a little later.
      if (queue_append(&session->queue, &shard->pool, &copy) != OK) return false;
      queue_drop(&session->queue, &shard->pool);
      continue;
    }
    session_take_front(session);
    drop(session, copy.tag, DROP_QUEUE_FULL);
    if (durable && copy.qos > 0) durable_done(session, &copy, OUTCOME_QUEUE_FULL);
    copy_release(shard, &copy);
    if (copy.qos > 0) return true;
  }
  if (!durable || session->connection || session->waiting <= durable->sent_waiting) return false;
  uint64_t mean = session->waiting_bytes / session->waiting;
  durable_done_front(session, OUTCOME_QUEUE_FULL);
  session_count_out(session, false, mean);
  drop(session, NULL, DROP_QUEUE_FULL);
  return true;
}

// Makes room for one more, as limits.queue_drop says. False: the new one is dropped.
static bool make_room(struct session *session, size_t size)
{
  const struct limits *limits = session_limits(session);
  bool over_count = limits->queue_messages && session->waiting >= limits->queue_messages;
  bool over_bytes = session->waiting > 0 && session->waiting_bytes + size > limits->queue_bytes;
  if (!over_bytes && (!over_count || congestion_excuses(session))) return true;
  if (limits->queue_drop != QUEUE_DROP_OLDEST) return false;
  while (session->waiting > 0 && session_is_full(session, size))
    if (!drop_oldest(session)) return session->durable != NULL;
  return true;
}

bool session_deliver(struct session *session, const struct copy *wanted)
{
  struct message *message = wanted->message;
  struct tag *tag = wanted->tag;
  uint8_t qos = wanted->qos;
  struct shard *shard = session->shard;
  shard->counters.copies++;
  size_t size = message_size(message);
  if (qos == 0) {
    if (!session->connection) return drop(session, tag, DROP_OFFLINE_QOS_0);
    // One message always fits, however large.
    if (session->qos0_bytes > 0 && session->qos0_bytes + size > session_limits(session)->output_bytes)
      return drop(session, tag, DROP_SLOW_CONSUMER);
  } else {
    if (!make_room(session, size)) return drop(session, tag, DROP_QUEUE_FULL);
  }
  if (qos > 0 && session->durable) {
    durable_enqueue(session, wanted);
  } else {
    if (shard_memory_full(shard)) return drop(session, tag, DROP_MEMORY);
    if (queue_append(&session->queue, &shard->pool, wanted) != OK) return drop(session, tag, DROP_MEMORY);
    message_ref(message, 1);
    tag_ref(tag);
  }
  session_count_in(session, qos == 0, size);
  shard->turn_copies++;
  if (qos > 0) congestion_look(session);
  if (session->connection) connection_want(session->connection, CONNECTION_OUTPUT);
  return true;
}

static bool has_room(const struct session *session, uint8_t qos, size_t size)
{
  if (qos > 0) return !session_is_full(session, size);
  return session->qos0_bytes == 0 || session->qos0_bytes + size <= session_limits(session)->output_bytes;
}

bool session_queue_retained(struct session *session, const struct copy *place, unsigned most)
{
  struct shard *shard = session->shard;
  struct retained_cursor *cursor = place->cursor;
  for (unsigned i = 0; i < most; i++) {
    struct message *message;
    enum cursor_result result = retained_cursor_next(&shard->retained, cursor, CURSOR_STEPS, &message);
    if (result == CURSOR_END) return true;
    if (result == CURSOR_MORE) return false;
    if (message_expired(message, shard->now)) continue;
    if (shard->acl && session->connection && !access_may_receive(session->connection, message)) continue;
    struct copy copy = {.message = message, .tag = place->tag, .retain = true, .from_cursor = true};
    copy.qos = message->qos < place->qos ? message->qos : place->qos;
    if (!has_room(session, copy.qos, message_size(message))) {
      retained_cursor_put_back(cursor);
      return false;
    }
    journal_route_begin(shard, message);
    session_deliver(session, &copy);
    journal_route_end(shard, NULL, 0);
  }
  return false;
}

// What no connection will read: QoS 0 is not kept for a client that is away. What the journal has need not be kept in
// memory.
static void empty_for_absence(struct session *session)
{
  struct shard *shard = session->shard;
  if (session->durable) durable_away(session);
  for (uint32_t left = session->queue.count; left > 0; left--) {
    struct copy copy = *queue_peek(&session->queue);
    if (session->durable && copy.qos > 0 && !copy.is_cursor) {
      durable_let_go(session, &copy);
      continue;
    }
    session_take_front(session);
    if (copy.qos == 0) {
      if (!copy.is_cursor) drop(session, copy.tag, DROP_OFFLINE_QOS_0);
      copy_release(shard, &copy);
      continue;
    }
    if (queue_append(&session->queue, &shard->pool, &copy) == OK) {
      if (!copy.is_cursor) session_count_in(session, false, message_size(copy.message));
    } else {
      if (!copy.is_cursor) drop(session, copy.tag, DROP_MEMORY);
      copy_release(shard, &copy);
    }
  }
}

// A copy that will never reach this session: another member of its group gets it, if it was chosen by a group and may be
// given away [MQTT-4.8.2-5: not QoS 2 once it was sent].
static void give_up(struct shard *shard, struct copy *copy, bool sent)
{
  if (!copy->is_cursor) {
    shard->counters.dropped[DROP_SESSION_ENDED]++;
    struct membership *membership = copy->tag ? copy->tag->membership : NULL;
    if (membership && copy->message && !(sent && copy->qos == 2)) share_return(shard, membership->key, copy->message);
  }
  copy_release(shard, copy);
}

static void empty_queues(struct session *session)
{
  struct shard *shard = session->shard;
  for (uint32_t place = 0; place < session->window.span; place++) {
    struct copy *copy = window_at(&session->window, place);
    if (copy->state == COPY_DONE) continue;
    give_up(shard, copy, true);
    copy->state = COPY_DONE;
    shard->counters.copies_in_flight--;
  }
  session->window.count = 0;
  window_deinit(&session->window, &shard->pool);
  while (session->queue.count > 0) {
    struct copy copy = *queue_peek(&session->queue);
    session_take_front(session);
    give_up(shard, &copy, false);
  }
  // What was on disk only.
  shard->counters.dropped[DROP_SESSION_ENDED] += session->waiting;
  shard->counters.copies_queued -= session->waiting;
  shard->counters.queued_bytes -= session->waiting_bytes;
  session->waiting = 0;
  session->waiting_bytes = 0;
  packet_ids_deinit(&session->received);
}

// ---- Wills

void will_free(struct shard *shard, struct will *will)
{
  if (!will) return;
  if (will->message) message_unref(&shard->pool, will->message);
  identity_unref(will->identity);
  free(will);
}

static void will_send(struct session *session)
{
  struct shard *shard = session->shard;
  struct will *will = session->will;
  session->will = NULL;
  if (!will) return;
  struct message *message = will->message;
  if (!access_may_send_will(shard, will->identity, session_id(session), message)) {
    will_free(shard, will);
    durable_will(session);
    return;
  }
  if (will->has_expiry) message->expiry_ms = shard->now.ms + will->expiry_s * UINT64_C(1000);
  will->message = NULL;
  will_free(shard, will);
  shard->counters.wills_sent++;
  bool retain = message->retain;
  if (retain && message->payload_size > 0 &&
      !retained_has_room(&shard->retained, message_topic(message), message_size(message), &shard->limits[BROKER_LIMITS])) {
    shard_not_retained(shard, session_id(session), message_topic(message));
    retain = false;
  }
  route_topic(shard, message, retain);
  durable_will(session);  // behind the message: a crash in between sends it twice rather than not at all
}

// ---- Away and back

void session_arm_timer(struct session *session)
{
  uint64_t due = session->expires_ms;
  if (session->will && session->will->due_ms < due) due = session->will->due_ms;
  if (due == UINT64_MAX)
    wheel_cancel(&session->timer);
  else
    wheel_arm(&session->shard->wheel, &session->timer, (struct mono){due});
}

static void timer_due(struct timer *timer, struct mono now)
{
  struct session *session = CONTAINER_OF(timer, struct session, timer);
  assert(!session->connection);
  if (now.ms >= session->expires_ms) {
    session->shard->counters.sessions_expired++;
    session_end(session);
    return;
  }
  if (session->will && now.ms >= session->will->due_ms) will_send(session);
  session_arm_timer(session);
}

void session_detach(struct session *session, bool with_will)
{
  struct shard *shard = session->shard;
  assert(session->connection);
  if (session->will) session->will->identity = identity_ref(access_identity(session->connection));
  session->connection = NULL;
  congestion_leave(session);
  shard->counters.clients--;
  session->window.resent = 0;
  if (!with_will) {
    will_free(shard, session->will);
    session->will = NULL;
    durable_will(session);
  }
  if (session->expiry_s == 0) {
    session_end(session);
    return;
  }
  empty_for_absence(session);
  share_set_online(session, false);
  session->expires_ms =
      session->expiry_s == SESSION_NEVER_EXPIRES ? UINT64_MAX : shard->now.ms + session->expiry_s * UINT64_C(1000);
  if (session->will) {
    if (session->will->delay_s == 0)
      will_send(session);
    else
      session->will->due_ms = shard->now.ms + session->will->delay_s * UINT64_C(1000);
  }
  session_arm_timer(session);
}

void session_attach(struct session *session, struct connection *connection)
{
  struct shard *shard = session->shard;
  wheel_cancel(&session->timer);
  will_free(shard, session->will);
  session->will = NULL;
  session->connection = connection;
  session->progress_ms = (uint32_t)shard->now.ms;
  shard->counters.clients++;
  session->window.resent = 0;
  share_set_online(session, true);
  if (session->durable) durable_want(session);
  if (session->queue.count > 0 || session->window.count > 0) connection_want(connection, CONNECTION_OUTPUT);
}

static void remove_subscription(struct shard *shard, struct subscription *subscription)
{
  struct filter_end *end = subscription->end;
  bool durable = subscription->session->durable != NULL;
  *subscription->link_at_end = subscription->next_at_end;
  if (subscription->next_at_end) subscription->next_at_end->link_at_end = subscription->link_at_end;
  *subscription->link_in_session = subscription->next_in_session;
  if (subscription->next_in_session) subscription->next_in_session->link_in_session = subscription->link_in_session;
  subscription->session->subscription_count--;
  shard->counters.subscriptions--;
  pool_free(&shard->pool, subscription, sizeof *subscription);
  interest_remove(shard, end, durable);
}

void session_end(struct session *session)
{
  struct shard *shard = session->shard;
  assert(!session->connection);
  wheel_cancel(&session->timer);
  while (session->subscriptions) remove_subscription(shard, session->subscriptions);
  share_leave_groups(session);
  empty_queues(session);
  share_free_memberships(session);
  will_send(session);
  durable_end(session);
  owner_forget(session);
  map_remove(&shard->sessions, id_hash(shard, session_id(session)), session);
  pool_charge(&shard->pool, -(int64_t)(sizeof *session + session->client_id_size));
  free(session);
}

// The index is still there: the shard frees it afterwards.
void session_free(struct session *session)
{
  struct shard *shard = session->shard;
  owner_forget(session);
  for (uint32_t place = 0; place < session->window.span; place++) copy_release(shard, window_at(&session->window, place));
  session->window.count = 0;
  window_deinit(&session->window, &shard->pool);
  while (session->queue.count > 0) {
    struct copy copy = *queue_peek(&session->queue);
    queue_drop(&session->queue, &shard->pool);
    copy_release(shard, &copy);
  }
  packet_ids_deinit(&session->received);
  for (struct subscription *s = session->subscriptions, *next; s; s = next) {
    next = s->next_in_session;
    *s->link_at_end = s->next_at_end;
    if (s->next_at_end) s->next_at_end->link_at_end = s->link_at_end;
    pool_free(&shard->pool, s, sizeof *s);
  }
  share_free_memberships(session);
  will_free(shard, session->will);
  durable_free(session);
  pool_charge(&shard->pool, -(int64_t)(sizeof *session + session->client_id_size));
  free(session);
}

// ---- Subscriptions

// A client may have many filters, a filter many clients: both lists are walked side by side, so the shorter one decides.
static struct subscription *find_subscription(const struct session *session, const struct filter_end *end)
{
  struct subscription *mine = session->subscriptions, *at_end = end->subscriptions;
  while (mine && at_end) {
    if (mine->end == end) return mine;
    if (at_end->session == session) return at_end;
    mine = mine->next_in_session;
    at_end = at_end->next_at_end;
  }
  return NULL;
}

static struct subscription *add_subscription(struct session *session, struct filter_end *end)
{
  struct shard *shard = session->shard;
  struct subscription *subscription = pool_alloc(&shard->pool, sizeof *subscription);
  if (!subscription) return NULL;
  *subscription = (struct subscription){.next_at_end = end->subscriptions,
                                        .link_at_end = &end->subscriptions,
                                        .next_in_session = session->subscriptions,
                                        .link_in_session = &session->subscriptions,
                                        .end = end,
                                        .session = session};
  if (end->subscriptions) end->subscriptions->link_at_end = &subscription->next_at_end;
  end->subscriptions = subscription;
  if (session->subscriptions) session->subscriptions->link_in_session = &subscription->next_in_session;
  session->subscriptions = subscription;
  session->subscription_count++;
  shard->counters.subscriptions++;
  return subscription;
}

enum status session_subscribe(struct session *session, const struct subscription *options, struct span filter,
                              uint64_t ticket, bool *out_new)
{
  struct shard *shard = session->shard;
  struct filter_end *end = index_end(&shard->index, filter);
  if (!end) return ERR_NO_MEMORY;
  struct subscription *subscription = find_subscription(session, end);
  *out_new = !subscription;
  if (!subscription) {
    bool room = session->subscription_count < session_limits(session)->subscriptions;
    subscription = room ? add_subscription(session, end) : NULL;
    if (!subscription) {
      index_release(&shard->index, end);
      return room ? ERR_NO_MEMORY : ERR_FULL;
    }
    interest_add(shard, end, session->durable != NULL, ticket);
  } else {
    interest_sync(shard, ticket);
  }
  subscription->id = options->id;
  subscription->qos = options->qos;
  subscription->no_local = options->no_local;
  subscription->retain_as_published = options->retain_as_published;
  index_changed(&shard->index);
  return OK;
}

bool session_unsubscribe(struct session *session, struct span filter)
{
  struct shard *shard = session->shard;
  struct filter_end *end = index_find(&shard->index, filter);
  struct subscription *subscription = end ? find_subscription(session, end) : NULL;
  if (!subscription) return false;
  remove_subscription(shard, subscription);
  return true;
}
