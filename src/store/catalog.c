// Sessions, the retained index, and what each record does to them. Queues: catalog_queue.c and catalog_block.c.
#include "store/catalog_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/search.h"

// ---- Life

void catalog_init(struct catalog *catalog, catalog_read *read, void *context)
{
  *catalog = (struct catalog){.read = read, .read_context = context, .next_session = 1};
  list_init(&catalog->session_list);
  list_init(&catalog->retained_list);
}

void catalog_deinit(struct catalog *catalog)
{
  LIST_EACH (link, &catalog->session_list) catalog_session_free(session_of(link));
  LIST_EACH (link, &catalog->retained_list) free(retained_of(link));
  map_deinit(&catalog->sessions);
  map_deinit(&catalog->retained);
  catalog_cache_destroy(catalog->cache);
  buffer_deinit(&catalog->scratch);
  free(catalog->live);
  free(catalog->moved);
  free(catalog->ripe);
  catalog_init(catalog, catalog->read, catalog->read_context);
}

// ---- Sessions

// Numbers count up: what they need is spreading.
static uint64_t hash_number(uint32_t number)
{
  uint64_t hash = number * UINT64_C(0x9E3779B97F4A7C15);
  return hash ^ hash >> 32;
}

static bool number_matches(const void *item, const void *key)
{
  const struct catalog_session *session = item;
  const uint32_t *number = key;
  return session->number == *number;
}

struct catalog_session *catalog_find(const struct catalog *catalog, uint32_t session)
{
  return map_find(&catalog->sessions, hash_number(session), number_matches, &session);
}

struct catalog_session *catalog_session_create(uint32_t number, struct span client_id)
{
  struct catalog_session *session = calloc(1, sizeof *session);
  uint8_t *id = malloc(client_id.size > 0 ? client_id.size : 1);
  if (!session || !id) {
    free(session);
    free(id);
    return NULL;
  }
  record_write_bytes(id, client_id);
  session->number = number;
  session->client_id = span_of(id, client_id.size);
  list_init(&session->link);
  return session;
}

static void free_bytes(struct span bytes)
{
  free((void *)(uintptr_t)bytes.at);
}

enum status catalog_session_own(struct catalog_session *session, struct span user)
{
  if (user.size > UINT16_MAX) return ERR_INVALID;
  uint8_t *id = realloc((void *)(uintptr_t)session->client_id.at, session->client_id.size + user.size + 1);
  if (!id) return ERR_NO_MEMORY;
  record_write_bytes(id + session->client_id.size, user);
  session->client_id.at = id;
  session->user_size = (uint16_t)user.size;
  return OK;
}

void catalog_session_free(struct catalog_session *session)
{
  if (!session) return;
  for (size_t i = 0; i < session->block_count; i++)
    if (block_at(session, i)->part_count > 1) free(block_at(session, i)->parts);
  for (size_t i = 0; i < session->subscription_count; i++) free(session->subscriptions[i]);
  map_deinit(&session->by_filter);
  free_bytes(session->client_id);
  free(session->blocks);
  free(session->last);
  free(session->done);
  free(session->sent_places);
  free(session->received);
  free(session->subscriptions);
  free(session);
}

enum status catalog_session_insert(struct catalog *catalog, struct catalog_session *session)
{
  void *ripe = catalog->ripe;
  enum status status =
      catalog_grow_array(&ripe, &catalog->ripe_capacity, catalog->sessions.count + 1, sizeof *catalog->ripe);
  catalog->ripe = ripe;
  if (status == OK) status = map_insert(&catalog->sessions, hash_number(session->number), session);
  if (status != OK) return status;
  list_insert_before(catalog->session_list.next, &session->link);
  if (session->number >= catalog->next_session) catalog->next_session = session->number + 1;
  return OK;
}

void catalog_session_release(struct catalog *catalog, struct catalog_session *session)
{
  catalog_queue_clear(catalog, session, OUTCOME_SESSION_ENDED);
  if (session->will_position)
    catalog_live_release(catalog, position_segment(session->will_position), 1, session->will_bytes);
  session->will_position = 0;
}

static enum status apply_session(struct catalog *catalog, struct span body)
{
  struct record_session record;
  if (!record_get_session(body, &record)) return ERR_INVALID;
  if (catalog_find(catalog, record.session)) return ERR_INVALID;
  struct catalog_session *session = catalog_session_create(record.session, record.client_id);
  if (!session) return ERR_NO_MEMORY;
  session->expiry_s = record.expiry_s;
  session->connected = true;
  enum status status = record.user.size > 0 ? catalog_session_own(session, record.user) : OK;
  if (status == OK) status = catalog_session_insert(catalog, session);
  if (status != OK) catalog_session_free(session);
  return status;
}

static enum status apply_owner(struct catalog *catalog, struct span body)
{
  struct record_owner record;
  if (!record_get_owner(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  return session ? catalog_session_own(session, record.user) : OK;
}

static enum status apply_session_end(struct catalog *catalog, struct span body)
{
  struct record_session_end record;
  if (!record_get_session_end(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  if (!session) return OK;
  catalog_session_release(catalog, session);
  catalog_checkpoint_forget_session(catalog, session);
  list_remove(&session->link);
  map_remove(&catalog->sessions, hash_number(session->number), session);
  catalog_session_free(session);
  return OK;
}

static enum status apply_session_back(struct catalog *catalog, struct span body)
{
  struct record_session_back record;
  if (!record_get_session_back(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  if (!session) return OK;
  session->connected = true;
  session->expiry_s = record.expiry_s;
  session->window = record.window;
  return OK;
}

static enum status apply_session_away(struct catalog *catalog, struct span body)
{
  struct record_session_away record;
  if (!record_get_session_away(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  if (!session) return OK;
  session->connected = false;
  session->expiry_s = record.expiry_s;
  session->since_ms = record.since_ms;
  session->sent = record.sent;
  catalog_queue_look_ripe(catalog, session);
  return OK;
}

// ---- Subscriptions

static bool filter_matches(const void *item, const void *key)
{
  const struct catalog_subscription *subscription = item;
  return span_equal(span_of(subscription->filter, subscription->filter_size), *(const struct span *)key);
}

static void set_options(struct catalog_subscription *subscription, const struct record_subscribe *record)
{
  subscription->id = record->id;
  subscription->qos = record->qos;
  subscription->no_local = record->no_local;
  subscription->retain_as_published = record->retain_as_published;
}

enum status catalog_session_subscribe(const struct catalog *catalog, struct catalog_session *session,
                                      const struct record_subscribe *record)
{
  uint64_t hash = hash_span(catalog->seed, record->filter);
  struct catalog_subscription *found = map_find(&session->by_filter, hash, filter_matches, &record->filter);
  if (found) {
    set_options(found, record);
    return OK;
  }
  void *array = session->subscriptions;
  enum status status = catalog_grow_array(&array, &session->subscription_capacity, session->subscription_count + 1,
                                          sizeof *session->subscriptions);
  session->subscriptions = array;
  if (status != OK) return status;
  struct catalog_subscription *subscription = malloc(sizeof *subscription + record->filter.size);
  if (!subscription) return ERR_NO_MEMORY;
  *subscription =
      (struct catalog_subscription){.index = session->subscription_count, .filter_size = (uint32_t)record->filter.size};
  set_options(subscription, record);
  if (record->filter.size > 0) memcpy(subscription->filter, record->filter.at, record->filter.size);
  status = map_insert(&session->by_filter, hash, subscription);
  if (status != OK) {
    free(subscription);
    return status;
  }
  session->subscriptions[session->subscription_count++] = subscription;
  return OK;
}

static enum status apply_subscribe(struct catalog *catalog, struct span body)
{
  struct record_subscribe record;
  if (!record_get_subscribe(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  return session ? catalog_session_subscribe(catalog, session, &record) : OK;
}

static enum status apply_unsubscribe(struct catalog *catalog, struct span body)
{
  struct record_unsubscribe record;
  if (!record_get_unsubscribe(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  if (!session) return OK;
  uint64_t hash = hash_span(catalog->seed, record.filter);
  struct catalog_subscription *found = map_find(&session->by_filter, hash, filter_matches, &record.filter);
  if (!found) return OK;
  map_remove(&session->by_filter, hash, found);
  struct catalog_subscription *last = session->subscriptions[--session->subscription_count];
  session->subscriptions[found->index] = last;
  last->index = found->index;
  free(found);
  return OK;
}

// ---- Packet identifiers of publishers

static size_t received_index(const struct catalog_session *session, uint16_t packet_id)
{
  return SEARCH_FIRST(i, session->received_count, session->received[i] < packet_id);
}

static enum status received_reserve(struct catalog_session *session)
{
  void *received = session->received;
  enum status status =
      catalog_grow_array(&received, &session->received_capacity, session->received_count + 1, sizeof *session->received);
  session->received = received;
  return status;
}

static void received_add(struct catalog_session *session, uint16_t packet_id)
{
  size_t index = received_index(session, packet_id);
  if (index < session->received_count && session->received[index] == packet_id) return;
  memmove(&session->received[index + 1], &session->received[index],
          (session->received_count - index) * sizeof *session->received);
  session->received[index] = packet_id;
  session->received_count++;
}

static enum status apply_packet_id(struct catalog *catalog, enum record_type type, struct span body)
{
  struct record_packet_id record;
  if (!record_get_packet_id(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  if (!session) return OK;
  if (type == RECORD_RECEIVED) {
    enum status status = received_reserve(session);
    if (status == OK) received_add(session, record.packet_id);
    return status;
  }
  size_t index = received_index(session, record.packet_id);
  if (index == session->received_count || session->received[index] != record.packet_id) return OK;
  session->received_count--;
  memmove(&session->received[index], &session->received[index + 1],
          (session->received_count - index) * sizeof *session->received);
  return OK;
}

// ---- Wills

static enum status apply_will(struct catalog *catalog, struct span body, uint64_t position)
{
  struct record_will record;
  if (!record_get_will(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  if (!session) return OK;
  bool sets = record.topic.size > 0;
  enum status status = sets ? catalog_live_ensure(catalog, position_segment(position)) : OK;
  if (status != OK) return status;
  if (sets) catalog_live_add(catalog, position_segment(position), 1, body.size);
  if (session->will_position)
    catalog_live_release(catalog, position_segment(session->will_position), 1, session->will_bytes);
  session->will_position = sets ? position : 0;
  session->will_bytes = sets ? body.size : 0;
  return OK;
}

// ---- Retained messages

static bool topic_matches(const void *item, const void *key)
{
  const struct catalog_retained *retained = item;
  return span_equal(span_of(retained->topic, retained->topic_size), *(const struct span *)key);
}

struct catalog_retained *catalog_retained_find(const struct catalog *catalog, struct span topic)
{
  return map_find(&catalog->retained, hash_span(catalog->seed, topic), topic_matches, &topic);
}

// New, and without a message: position 0.
enum status catalog_retained_insert(struct catalog *catalog, struct span topic, struct catalog_retained **out)
{
  struct catalog_retained *retained = malloc(sizeof *retained + topic.size);
  if (!retained) return ERR_NO_MEMORY;
  *retained = (struct catalog_retained){.topic_size = (uint32_t)topic.size};
  if (topic.size > 0) memcpy(retained->topic, topic.at, topic.size);
  enum status status = map_insert(&catalog->retained, hash_span(catalog->seed, topic), retained);
  if (status != OK) {
    free(retained);
    return status;
  }
  list_insert_before(catalog->retained_list.next, &retained->link);
  *out = retained;
  return OK;
}

void catalog_retained_set(struct catalog *catalog, struct catalog_retained *retained, uint64_t position, uint64_t weight)
{
  catalog_live_add(catalog, position_segment(position), 1, weight);
  if (retained->position) catalog_live_release(catalog, position_segment(retained->position), 1, retained->weight);
  catalog->retained_bytes += weight - retained->weight;
  retained->position = position;
  retained->weight = weight;
}

void catalog_retained_remove(struct catalog *catalog, struct catalog_retained *retained)
{
  if (retained->position) catalog_live_release(catalog, position_segment(retained->position), 1, retained->weight);
  catalog->retained_bytes -= retained->weight;
  catalog_checkpoint_forget_retained(catalog, retained);
  list_remove(&retained->link);
  struct span topic = span_of(retained->topic, retained->topic_size);
  map_remove(&catalog->retained, hash_span(catalog->seed, topic), retained);
  free(retained);
}

// RECORD_RETAINED_DROP: position u64 of the message, topic size u16, topic.
enum status catalog_put_retained_drop(struct buffer *out, const struct catalog_retained *retained)
{
  assert(retained->topic_size <= UINT16_MAX);
  uint8_t *at = record_put_room(out, RECORD_RETAINED_DROP, (uint64_t)10 + retained->topic_size);
  if (!at) return ERR_NO_MEMORY;
  at = record_write_u64(at, retained->position);
  at = record_write_u16(at, (uint16_t)retained->topic_size);
  record_write_bytes(at, span_of(retained->topic, retained->topic_size));
  return OK;
}

static enum status apply_retained_drop(struct catalog *catalog, struct span body)
{
  struct record_reader reader = {.rest = body};
  uint64_t position = record_read_u64(&reader);
  uint16_t size = record_read_u16(&reader);
  struct span topic = record_read_bytes(&reader, size);
  if (reader.failed || reader.rest.size > 0) return ERR_INVALID;
  struct catalog_retained *retained = catalog_retained_find(catalog, topic);
  if (retained && retained->position == position) catalog_retained_remove(catalog, retained);
  return OK;
}

// ---- Messages

struct reference catalog_reference_to(const struct record_message *message, uint64_t position)
{
  uint64_t weight = record_message_weight(message), time_s = message->time_ms / 1000;
  return (struct reference){.position = position,
                            .weight = weight < UINT32_MAX ? (uint32_t)weight : UINT32_MAX,
                            .time_s = time_s < UINT32_MAX ? (uint32_t)time_s : UINT32_MAX};
}

// Sees to it that nothing can fail afterwards.
static enum status plan_targets(const struct catalog *catalog, struct span targets)
{
  struct record_target target;
  enum status status = OK;
  for (size_t cursor = 0; status == OK && record_next_target(targets, &cursor, &target);) {
    struct catalog_session *session = catalog_find(catalog, target.session);
    if (session) status = catalog_queue_plan(session, target.place);
  }
  for (size_t cursor = 0; record_next_target(targets, &cursor, &target);) {
    struct catalog_session *session = catalog_find(catalog, target.session);
    if (session) catalog_queue_unplan(session);
  }
  return status;
}

static void add_to_queues(struct catalog *catalog, const struct record_message *message, uint64_t position)
{
  struct reference reference = catalog_reference_to(message, position);
  struct record_target target;
  for (size_t cursor = 0; record_next_target(message->targets, &cursor, &target);) {
    struct catalog_session *session = catalog_find(catalog, target.session);
    if (session) catalog_queue_add(catalog, session, target.place, &reference);
  }
}

// The one queue that most messages go to.
static enum status add_to_one(struct catalog *catalog, const struct record_message *message, uint64_t position)
{
  struct record_target target;
  size_t cursor = 0;
  bool any = record_next_target(message->targets, &cursor, &target);
  assert(any);
  struct catalog_session *session = catalog_find(catalog, target.session);
  if (!session) return OK;
  enum status status = catalog_queue_plan(session, target.place);
  catalog_queue_unplan(session);
  if (status != OK) return status;
  struct reference reference = catalog_reference_to(message, position);
  catalog_queue_add(catalog, session, target.place, &reference);
  return OK;
}

static enum status add_message(struct catalog *catalog, const struct record_message *message, uint64_t position)
{
  struct catalog_session *publisher = message->has_publisher ? catalog_find(catalog, message->publisher) : NULL;
  enum status status = publisher ? received_reserve(publisher) : OK;
  if (status == OK && message->target_count == 1) {
    status = add_to_one(catalog, message, position);
  } else if (status == OK && message->target_count > 1) {
    status = plan_targets(catalog, message->targets);
    if (status == OK) add_to_queues(catalog, message, position);
  }
  if (status == OK && publisher) received_add(publisher, message->packet_id);
  return status;
}

static enum status apply_message(struct catalog *catalog, struct span body, uint64_t position)
{
  struct record_message message;
  if (!record_get_message(body, &message) || message.copy_of) return ERR_INVALID;
  uint32_t segment = position_segment(position);
  enum status status = catalog_live_ensure(catalog, segment);
  if (status != OK) return status;
  catalog_live_add(catalog, segment, 1, 0);  // until all that refers to it is counted
  struct catalog_retained *retained = NULL;
  bool begun = false;
  if (message.store) {
    retained = catalog_retained_find(catalog, message.topic);
    begun = !retained && message.payload.size > 0;
    if (begun) status = catalog_retained_insert(catalog, message.topic, &retained);
  }
  if (status == OK) {
    status = add_message(catalog, &message, position);
    if (status != OK && begun) catalog_retained_remove(catalog, retained);
  }
  if (status == OK && retained) {
    if (message.payload.size > 0) {
      catalog_retained_set(catalog, retained, position, record_message_weight(&message));
      retained->expiry_ms = message.expiry_ms;
    } else {
      catalog_retained_remove(catalog, retained);
    }
  }
  catalog_live_release(catalog, segment, 1, 0);
  return status;
}

static enum status apply_message_copy(struct catalog *catalog, struct span body, uint64_t position)
{
  struct record_message message;
  if (!record_get_message(body, &message) || message.copy_of == 0) return ERR_INVALID;
  uint32_t segment = position_segment(position);
  enum status status = catalog_live_ensure(catalog, segment);
  if (status != OK) return status;
  catalog_live_add(catalog, segment, 1, 0);  // until all that refers to it is counted
  status = catalog_apply_copy(catalog, &message, position);
  catalog_live_release(catalog, segment, 1, 0);
  return status;
}

static enum status apply_sent(struct catalog *catalog, struct span body)
{
  struct record_sent record;
  if (!record_get_sent(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  return session ? catalog_queue_sent(catalog, session, record.place) : OK;
}

static enum status apply_done(struct catalog *catalog, struct span body)
{
  struct record_done record;
  if (!record_get_done(body, &record)) return ERR_INVALID;
  struct catalog_session *session = catalog_find(catalog, record.session);
  return session ? catalog_queue_done(catalog, session, &record) : OK;
}

// ---- All

static enum status apply(struct catalog *catalog, enum record_type type, struct span body, uint64_t position)
{
  switch (type) {
    case RECORD_SESSION: return apply_session(catalog, body);
    case RECORD_SESSION_END: return apply_session_end(catalog, body);
    case RECORD_SESSION_BACK: return apply_session_back(catalog, body);
    case RECORD_SESSION_AWAY: return apply_session_away(catalog, body);
    case RECORD_SUBSCRIBE: return apply_subscribe(catalog, body);
    case RECORD_UNSUBSCRIBE: return apply_unsubscribe(catalog, body);
    case RECORD_WILL: return apply_will(catalog, body, position);
    case RECORD_MESSAGE: return apply_message(catalog, body, position);
    case RECORD_RECEIVED:
    case RECORD_RELEASED: return apply_packet_id(catalog, type, body);
    case RECORD_SENT: return apply_sent(catalog, body);
    case RECORD_DONE: return apply_done(catalog, body);
    case RECORD_OWNER: return apply_owner(catalog, body);
    case RECORD_REFERENCES: return catalog_apply_references(catalog, body, position);
    case RECORD_MESSAGE_COPY: return apply_message_copy(catalog, body, position);
    case RECORD_CHECKPOINT_SESSION: return catalog_apply_checkpoint_session(catalog, body);
    case RECORD_CHECKPOINT_RETAINED: return catalog_apply_checkpoint_retained(catalog, body);
    case RECORD_CHECKPOINT_END: return catalog_apply_checkpoint_end(catalog, body);
    case RECORD_RETAINED_DROP: return apply_retained_drop(catalog, body);
    case RECORD_BATCH:
    case RECORD_CHECKPOINT_BEGIN: return OK;
    case RECORD_NONE: break;
  }
  return ERR_INVALID;
}

enum status catalog_apply(struct catalog *catalog, enum record_type type, struct span body, uint64_t position)
{
  enum status status = apply(catalog, type, body, position);
  if (catalog->moved_stale) catalog_moved_tidy(catalog);
  return status;
}
