// Giving the shards what was recovered. The only file of the store that knows a shard.
#include <assert.h>
#include <stdlib.h>

#include "core/shard.h"
#include "store/store_internal.h"

enum {
  WAITING_WINDOW = 65535,  // most packet identifiers in flight
  READ_TRIES = 5,          // of a will or a retained message, after errors of the disk
};

// Behind the place of the queue that is the `window`th waiting one: all before it may have been sent.
static uint64_t sent_within(const struct catalog_session *session, uint64_t window)
{
  uint64_t place = session->head;
  for (size_t i = 0; i < session->done_count; i++) {
    const struct run *run = &session->done[i];
    uint64_t gap = run->from - place;
    if (gap >= window) break;
    window -= gap;
    place = run->from + run->count;
  }
  return session->tail - place < window ? session->tail : place + window;
}

// How many places below `end` are not done.
static uint64_t waiting_below(const struct catalog_session *session, uint64_t end)
{
  if (end <= session->head) return 0;
  uint64_t count = end - session->head;
  for (size_t i = 0; i < session->done_count && session->done[i].from < end; i++) {
    const struct run *run = &session->done[i];
    count -= run->from + run->count < end ? run->count : end - run->from;
  }
  return count;
}

static void describe(const struct store *store, const struct catalog_session *session, struct restored_session *out)
{
  uint64_t window = session->window ? session->window : WAITING_WINDOW;
  *out = (struct restored_session){
      .number = session->number,
      .expiry_s = session->expiry_s,
      .client_id = session->client_id,
      .user = catalog_owner(session),
      // When a connection ended with the process nobody knows: its time begins now.
      .since_ms = session->connected ? store_time_ms(store) : session->since_ms,
      .connected = session->connected,
      .head = session->head,
      .tail = session->tail,
      .sent = session->connected ? sent_within(session, window + JOURNAL_UNSAFE_DONE) : session->sent,
      .waiting = session->waiting,
      .waiting_bytes = session->waiting_bytes,
      .received = session->received,
      .received_count = session->received_count,
  };
  out->sent_waiting = waiting_below(session, out->sent);
}

// What is not read now is missing for as long as the broker runs.
static enum status read_patiently(struct store *store, uint64_t position, struct record_header *out_header,
                                  struct span *out_body)
{
  enum status status = ERR_IO;
  for (unsigned tries = 0; status == ERR_IO && tries < READ_TRIES; tries++)
    status = journal_log_read(store->journal, position, out_header, out_body);
  return status;
}

static const struct record_will *read_will(struct store *store, const struct catalog_session *session,
                                           struct record_will *out)
{
  if (session->will_position == 0) return NULL;
  struct record_header header;
  struct span body;
  bool good = !read_patiently(store, session->will_position, &header, &body) && record_type(&header) == RECORD_WILL &&
              record_get_will(body, out);
  if (good) return out;
  store->counters.damaged_records++;
  LOG(store->log, store->now, LOG_ERROR, "journal_will_lost", FIELD_SPAN("client_id", session->client_id),
      FIELD_UINT("segment", position_segment(session->will_position)),
      FIELD_UINT("offset", position_offset(session->will_position)));
  return NULL;
}

static enum status restore_session(struct store *store, struct shard *shard, struct catalog_session *session)
{
  struct restored_session restored;
  struct record_will will;
  enum status status = catalog_settle(&store->catalog, session);
  if (status) return status;
  describe(store, session, &restored);
  restored.will = read_will(store, session, &will);
  struct session *to = shard_restore_session(shard, &restored);
  if (!to) return ERR_NO_MEMORY;
  for (size_t i = 0; i < session->subscription_count; i++) {
    const struct catalog_subscription *subscription = session->subscriptions[i];
    struct record_subscribe record = {
        .session = session->number,
        .id = subscription->id,
        .qos = subscription->qos,
        .no_local = subscription->no_local,
        .retain_as_published = subscription->retain_as_published,
        .filter = span_of(subscription->filter, subscription->filter_size),
    };
    status = shard_restore_subscription(shard, to, &record);
    if (status) return status;
  }
  return OK;
}

static int compare_sessions(const void *a, const void *b)
{
  const struct catalog_session *const *one = a, *const *other = b;
  return ((*one)->number > (*other)->number) - ((*one)->number < (*other)->number);
}

static int compare_retained(const void *a, const void *b)
{
  const struct catalog_retained *const *one = a, *const *other = b;
  return ((*one)->position > (*other)->position) - ((*one)->position < (*other)->position);
}

// The items of a map as a sorted array, which the caller frees. NULL when memory is short, or when there are none.
static void **sorted(const struct map *map, int (*compare)(const void *, const void *))
{
  void **items = map->count ? malloc(map->count * sizeof *items) : NULL;
  if (!items) return NULL;
  size_t cursor = 0;
  for (size_t i = 0; i < map->count; i++) items[i] = map_next(map, &cursor);
  qsort(items, map->count, sizeof *items, compare);
  return items;
}

static enum status restore_sessions(struct store *store, struct shard *keeper)
{
  const struct map *map = &store->catalog.sessions;
  if (map->count == 0) return OK;
  void **sessions = sorted(map, compare_sessions);
  enum status status = sessions ? OK : ERR_NO_MEMORY;
  for (size_t i = 0; !status && i < map->count; i++) {
    struct catalog_session *session = sessions[i];
    if (!numbers_have(&store->superseded, session->number)) status = restore_session(store, keeper, session);
  }
  free(sessions);
  return status;
}

static enum status restore_message(struct store *store, struct shard *const *shards, unsigned shard_count,
                                   const struct catalog_retained *retained)
{
  struct record_header header;
  struct span body;
  struct record_message message;
  if (retained->expiry_ms && retained->expiry_ms <= store_time_ms(store)) return OK;
  enum status status = read_patiently(store, retained->position, &header, &body);
  if (status == ERR_NO_MEMORY) return status;
  bool good = !status && (record_type(&header) == RECORD_MESSAGE || record_type(&header) == RECORD_MESSAGE_COPY) &&
              record_get_message(body, &message);
  if (!good) {
    store->counters.damaged_messages++;
    LOG(store->log, store->now, LOG_ERROR, "journal_retained_lost",
        FIELD_SPAN("topic", span_of(retained->topic, retained->topic_size)),
        FIELD_UINT("segment", position_segment(retained->position)),
        FIELD_UINT("offset", position_offset(retained->position)));
    return OK;
  }
  for (unsigned i = 0; i < shard_count; i++) {
    status = shard_restore_retained(shards[i], &message);
    if (status) return status;
  }
  return OK;
}

// In the order of the log, so that it is read once.
static enum status restore_retained(struct store *store, struct shard *const *shards, unsigned shard_count)
{
  const struct map *map = &store->catalog.retained;
  if (map->count == 0) return OK;
  void **items = sorted(map, compare_retained);
  enum status status = items ? OK : ERR_NO_MEMORY;
  for (size_t i = 0; !status && i < map->count; i++) status = restore_message(store, shards, shard_count, items[i]);
  free(items);
  return status;
}

enum status store_restore(struct store *store, struct shard *const *shards, unsigned shard_count, struct error *error)
{
  assert(shard_count > JOURNAL_SHARD);
  enum status status = restore_sessions(store, shards[JOURNAL_SHARD]);
  if (!status) status = restore_retained(store, shards, shard_count);
  if (status) return error_set(error, status, "cannot restore the sessions of the journal: %s", status_name(status));
  for (unsigned i = 0; i < shard_count; i++) shard_restore_done(shards[i], store->catalog.next_session);
  return OK;
}
