// The queue of a durable session between memory and disk: see durable.h.

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"
#include "core/shard_internal.h"
#include "mqtt/topic.h"

enum {
  KEEP_COPIES = 4096,  // most that wait in memory; what is behind is loaded when they run out
  KEEP_BYTES = 1 << 20,
  LOAD_BELOW = 1024,  // copies in memory: time to ask for more
  LOAD_COPIES = 2048,
  LOAD_BYTES = 512 * 1024,
  LOAD_FEW = 256,  // for a look, or when memory is short
  LOAD_FEW_BYTES = 64 * 1024,
};

// ---- By number

static uint64_t number_hash(const struct shard *shard, uint32_t number)
{
  return hash_bytes(shard->settings.seed, &number, sizeof number);
}

static bool number_matches(const void *item, const void *key)
{
  return ((const struct durable *)item)->number == *(const uint32_t *)key;
}

static struct durable *find(const struct shard *shard, uint32_t number)
{
  return map_find(&shard->journal.sessions, number_hash(shard, number), number_matches, &number);
}

// ---- Life

static enum status create(struct session *session, uint32_t number)
{
  struct shard *shard = session->shard;
  struct durable *durable = calloc(1, sizeof *durable);
  if (!durable) return ERR_NO_MEMORY;
  durable->session = session;
  durable->number = number;
  if (map_insert(&shard->journal.sessions, number_hash(shard, number), durable) != OK) {
    free(durable);
    return ERR_NO_MEMORY;
  }
  list_init(&durable->unsafe);
  list_init(&durable->recorded);
  list_init(&durable->wanting);
  pool_charge(&shard->pool, (int64_t)sizeof *durable);
  session->durable = durable;
  return OK;
}

enum status durable_begin(struct session *session)
{
  struct journal *journal = &session->shard->journal;
  // After four thousand million they begin anew: some sessions live as long.
  while (journal->next_session == 0 || find(session->shard, journal->next_session)) journal->next_session++;
  enum status status = create(session, journal->next_session);
  if (status != OK) return status;
  journal->next_session++;
  durable_put_session(session);
  return OK;
}

void durable_free(struct session *session)
{
  struct shard *shard = session->shard;
  struct durable *durable = session->durable;
  if (!durable) return;
  session->durable = NULL;
  list_remove(&durable->unsafe);
  list_remove(&durable->recorded);
  list_remove(&durable->wanting);
  map_remove(&shard->journal.sessions, number_hash(shard, durable->number), durable);
  pool_charge(&shard->pool, -(int64_t)sizeof *durable);
  free(durable);
}

// ---- Places

uint64_t durable_place(const struct durable *durable, const struct copy *copy)
{
  return durable->next - (uint32_t)((uint32_t)durable->next - copy->place);
}

bool durable_may_send(const struct session *session, const struct copy *copy)
{
  const struct durable *durable = session->durable;
  uint64_t place = durable_place(durable, copy);
  const struct window *window = &session->window;
  // Packet identifiers repeat after 65,535 places.
  if (window->span > 0 && place - durable_place(durable, window_at(window, 0)) >= 65535) return false;
  // A QoS 2 message that a crash takes back would leave its packet identifier at the receiver, and the next message of that
  // place would be taken for a repeat.
  const struct shard *shard = session->shard;
  if (!shard->settings.journal_waits) return true;
  if (copy->qos == 2 && place >= durable->safe.safe) return false;
  // A disk that fails holds nobody up; then DUP may be missing after a crash.
  return durable->done - durable->done_safe.safe < JOURNAL_UNSAFE_DONE || shard->journal.state != JOURNAL_OK;
}

// Whether what is queued now goes into memory too.
static bool keep(const struct session *session)
{
  const struct durable *durable = session->durable;
  return session->connection && durable->spilled == durable->next && session->queue.count < KEEP_COPIES &&
         durable->kept_bytes < KEEP_BYTES && !shard_memory_tight(session->shard);
}

void durable_enqueue(struct session *session, const struct copy *copy)
{
  struct shard *shard = session->shard;
  struct durable *durable = session->durable;
  struct journal *journal = &shard->journal;
  assert(journal->message.message == copy->message);
  struct record_target target = {.session = durable->number,
                                 .place = (uint32_t)durable->next,
                                 .qos = copy->qos,
                                 .retain = copy->retain,
                                 .id_count = copy->tag ? (uint16_t)copy->tag->id_count : 0};
  if (copy->tag && copy->tag->membership) target.group = share_hash(copy->tag->membership);
  journal_add_target(shard, &target, copy->tag ? copy->tag->ids : NULL);
  bool kept = keep(session);
  if (kept) {
    struct copy mine = *copy;
    mine.place = (uint32_t)durable->next;
    kept = queue_append(&session->queue, &shard->pool, &mine) == OK;
  }
  if (kept) {
    message_ref(copy->message, 1);
    tag_ref(copy->tag);
    durable->kept_bytes += message_size(copy->message);
    durable->spilled++;
  }
  durable->next++;
  milestone_reach(&durable->safe, journal->batch, durable->next);
  if (link_idle(&durable->unsafe)) list_append(&journal->unsafe, &durable->unsafe);
}

// ---- Loading

// A look found nothing but what was too old: when that is safe there is another one.
static void look_on(struct durable *durable)
{
  struct journal *journal = &durable->session->shard->journal;
  if (!durable->look_again || durable->ticket || durable->session->waiting == 0) return;
  if (durable->settled > journal->committed) return;
  durable->look_again = false;
  if (link_idle(&durable->wanting)) list_append(&journal->wanting, &durable->wanting);
}

void durable_want(struct session *session)
{
  struct durable *durable = session->durable;
  if (!session->connection) {
    look_on(durable);
    return;
  }
  if (durable->ticket || durable->spilled >= durable->next) return;
  struct journal *journal = &session->shard->journal;
  if (session->queue.count >= LOAD_BELOW) return;
  if (durable->kept_bytes > 0 && shard_memory_tight(session->shard)) return;
  if (durable->settled > journal->committed) {  // what is done would come too
    if (link_idle(&durable->unsafe)) list_append(&journal->unsafe, &durable->unsafe);
    return;
  }
  if (durable->spilled >= durable->safe.safe) return;
  if (link_idle(&durable->wanting)) list_append(&journal->wanting, &durable->wanting);
}

bool shard_next_load(struct shard *shard, struct journal_load *out)
{
  struct link *link = list_take_first(&shard->journal.wanting);
  if (!link) return false;
  struct durable *durable = CONTAINER_OF(link, struct durable, wanting);
  durable->ticket = ++durable->tickets ? durable->tickets : ++durable->tickets;
  durable->looking = !durable->session->connection;
  bool few = durable->looking || shard_memory_tight(shard);
  *out = (struct journal_load){.session = durable->number,
                               .ticket = durable->ticket,
                               .place = durable->looking ? durable_unsent(durable) : durable->spilled,
                               .max_entries = few ? LOAD_FEW : LOAD_COPIES,
                               .max_bytes = few ? LOAD_FEW_BYTES : LOAD_BYTES};
  return true;
}

static struct tag *tag_of(const struct session *session, const struct record_target *target, bool *out_failed)
{
  *out_failed = false;
  if (target->group) {
    struct tag *tag = share_tag(session, target->group);
    if (tag) return tag_ref(tag);
  }
  if (target->id_count == 0) return NULL;
  struct tag *tag = NULL;
  for (unsigned i = 0; i < target->id_count && !*out_failed; i++)
    *out_failed = tag_add(&tag, record_target_id(target, i)) != OK;
  if (!*out_failed) return tag;
  tag_unref(tag);
  return NULL;
}

static struct mono mono_of(const struct journal *journal, uint64_t journal_time_ms)
{
  // Before this process began: at its beginning. (The epoch may be "negative".)
  int64_t mono_ms = (int64_t)(journal_time_ms - journal->epoch_ms);
  return (struct mono){mono_ms > 1 ? (uint64_t)mono_ms : 1};
}

static struct message *message_of(struct shard *shard, const struct record_message *record)
{
  struct message_parts parts = {.topic = record->topic,
                                .payload = record->payload,
                                .raw_properties = record->properties,
                                .topic_hash = index_hash(&shard->index, record->topic),
                                .origin = record->origin,
                                .qos = record->qos,
                                .retain = record->retain};
  if (record->expiry_ms) parts.expiry_ms = mono_of(&shard->journal, record->expiry_ms).ms;
  struct message *message = message_create(&shard->pool, &parts);
  // Before this process began: less than nothing, but the difference to now is right.
  if (message) message->time_s = (uint32_t)((int64_t)(record->time_ms - shard->journal.epoch_ms) / 1000);
  return message;
}

static void forget(struct session *session, uint64_t place, uint64_t bytes, enum drop_reason reason)
{
  struct shard *shard = session->shard;
  shard->counters.dropped[reason]++;
  session_count_out(session, false, bytes);
  if (place < session->durable->sent) session->durable->sent_waiting--;
  durable_done_place(session, place, reason == DROP_QUEUE_AGE ? OUTCOME_QUEUE_AGE : OUTCOME_DAMAGED);
}

static void forget_damaged(struct session *session, uint64_t place)
{
  // Its weight is not known any more: the mean.
  forget(session, place, session->waiting_bytes / session->waiting, DROP_DAMAGED);
  LOG(session->shard->settings.log, session->shard->now, LOG_ERROR, "message_damaged",
      FIELD_SPAN("client", session_id(session)), FIELD_UINT("place", place));
}

// Puts what was in flight back into flight: it goes to the client again before anything else. ERR_NO_MEMORY: nothing was
// done.
static enum status resume_flight(struct session *session, struct copy *copy, enum copy_state state)
{
  struct shard *shard = session->shard;
  uint64_t place = durable_place(session->durable, copy);
  uint64_t bytes = copy->message ? message_size(copy->message) : 0;
  if (!window_open(&session->window)) return ERR_FULL;
  enum status status = window_append(&session->window, &shard->pool, copy, place_packet_id(place));
  if (status != OK) return status;
  window_at(&session->window, session->window.span - 1)->state = (unsigned)state & 3u;
  session_count_out(session, false, bytes);
  session->durable->sent_waiting--;
  shard->counters.copies_in_flight++;
  return OK;
}

static bool too_old(const struct session *session, uint64_t time_ms)
{
  const struct shard *shard = session->shard;
  uint64_t now_ms = journal_ms(&shard->journal, shard->now.ms), age_s = session_limits(session)->queue_age_s;
  return age_s > 0 && now_ms > time_ms && now_ms - time_ms > age_s * 1000;
}

static enum status take_message(struct session *session, const struct journal_entry *entry)
{
  struct shard *shard = session->shard;
  struct durable *durable = session->durable;
  bool failed;
  if (entry->place >= durable->sent && too_old(session, entry->message.time_ms)) {
    forget(session, entry->place, record_message_weight(&entry->message), DROP_QUEUE_AGE);
    return OK;
  }
  struct copy copy = {.place = (uint32_t)entry->place, .qos = entry->target.qos, .retain = entry->target.retain};
  copy.message = message_of(shard, &entry->message);
  if (!copy.message) return ERR_NO_MEMORY;
  copy.tag = tag_of(session, &entry->target, &failed);
  enum status status = failed ? ERR_NO_MEMORY : OK;
  size_t size = message_size(copy.message);
  if (status == OK && entry->place < durable->sent)
    status = resume_flight(session, &copy, COPY_SENT);
  else if (status == OK && (status = queue_append(&session->queue, &shard->pool, &copy)) == OK)
    durable->kept_bytes += size;
  if (status != OK) copy_release(shard, &copy);
  return status;
}

// A crash may have kept that PUBREC came, and not that those before it are done: then it is further behind than was thought
// possible.
static void raise_sent(struct durable *durable, uint64_t place)
{
  if (place < durable->sent) return;
  durable->sent_waiting++;
  durable->sent = place + 1;
}

static enum status take_entry(struct session *session, const struct journal_entry *entry)
{
  if (entry->state == LOADED_WAITING) return take_message(session, entry);
  if (entry->state == LOADED_SENT) {
    raise_sent(session->durable, entry->place);
    struct copy copy = {.place = (uint32_t)entry->place, .qos = 2};
    return resume_flight(session, &copy, COPY_RELEASED);
  }
  forget_damaged(session, entry->place);
  return OK;
}

static void take_entries(struct session *session, const struct journal_loaded *loaded)
{
  struct durable *durable = session->durable;
  struct journal_entry entry;
  size_t cursor = 0;
  while (journal_next_entry(loaded, &cursor, &entry)) {
    if (entry.place < durable->spilled) continue;   // dropped meanwhile
    if (take_entry(session, &entry) != OK) return;  // asked for again when there is memory
    durable->spilled = entry.place + 1;
  }
  if (durable->spilled < loaded->next) durable->spilled = loaded->next;
}

// Whether this message of an absent client's queue, which was never sent, is to go; it goes.
static bool let_old_go(struct session *session, const struct journal_entry *entry)
{
  struct shard *shard = session->shard;
  if (entry->state == LOADED_SENT) return false;
  if (entry->state == LOADED_DAMAGED) {
    forget_damaged(session, entry->place);
    return true;
  }
  uint64_t bytes = record_message_weight(&entry->message);
  if (entry->message.expiry_ms && journal_ms(&shard->journal, shard->now.ms) >= entry->message.expiry_ms) {
    shard->counters.expired++;
    session_count_out(session, false, bytes);
    durable_done_place(session, entry->place, OUTCOME_EXPIRED);
  } else if (too_old(session, entry->message.time_ms)) {
    forget(session, entry->place, bytes, DROP_QUEUE_AGE);
  } else {
    return false;
  }
  if (entry->target.group) share_credit(shard, share_tag(session, entry->target.group));
  return true;
}

static void look_at_entries(struct session *session, const struct journal_loaded *loaded)
{
  struct journal *journal = &session->shard->journal;
  struct durable *durable = session->durable;
  struct journal_entry entry;
  size_t cursor = 0;
  bool any = false;
  while (journal_next_entry(loaded, &cursor, &entry)) {
    if (entry.place < durable->sent) continue;
    durable->look_again = let_old_go(session, &entry);
    if (!durable->look_again) break;
    any = true;
  }
  if (!any) return;
  durable->settled = journal->batch;
  if (link_idle(&durable->unsafe)) list_append(&journal->unsafe, &durable->unsafe);
}

void shard_loaded(struct shard *shard, struct journal_loaded *loaded)
{
  struct durable *durable = find(shard, loaded->session);
  if (durable && durable->ticket == loaded->ticket) {
    struct session *session = durable->session;
    durable->ticket = 0;
    if (durable->looking)
      look_at_entries(session, loaded);
    else
      take_entries(session, loaded);
    durable_want(session);
    if (session->connection) connection_want(session->connection, CONNECTION_OUTPUT);
  }
  journal_loaded_free(loaded);
}

// ---- Away and back

void durable_let_go(struct session *session, struct copy *copy)
{
  struct durable *durable = session->durable;
  uint64_t place = durable_place(durable, copy);
  if (place < durable->spilled) durable->spilled = place;
  queue_drop(&session->queue, &session->shard->pool);
  copy_release(session->shard, copy);
}

void durable_away(struct session *session)
{
  struct shard *shard = session->shard;
  struct durable *durable = session->durable;
  struct window *window = &session->window;
  durable->sent_waiting += window->count;
  for (uint32_t i = 0; i < window->span; i++) {
    struct copy *copy = window_at(window, i);
    if (copy->state == COPY_DONE) continue;
    uint64_t place = durable_place(durable, copy);
    if (place < durable->spilled) durable->spilled = place;
    session_count_in(session, false, copy->message ? message_size(copy->message) : 0);
    shard->counters.copies_in_flight--;
    copy_release(shard, copy);
    copy->state = COPY_DONE;
  }
  window->count = 0;
  window_deinit(window, &shard->pool);
  durable->ticket = 0;
  durable->look_again = false;
  durable->kept_bytes = 0;
  list_remove(&durable->wanting);
  durable->settled = shard->journal.batch;
  durable_put_away(session);
}

// ---- Looking at absent clients' queues

void durable_look(struct shard *shard)
{
  struct journal *journal = &shard->journal;
  size_t cursor = 0;
  for (struct durable *durable; (durable = map_next(&journal->sessions, &cursor));) {
    const struct session *session = durable->session;
    if (session->connection || session->waiting == 0 || durable->ticket) continue;
    if (durable->settled > journal->committed || !link_idle(&durable->wanting)) continue;
    list_append(&journal->wanting, &durable->wanting);
  }
}

// ---- Restoring

static enum status restore_will(struct session *session, const struct record_will *record)
{
  struct shard *shard = session->shard;
  struct message_parts parts = {.topic = record->topic,
                                .payload = record->payload,
                                .raw_properties = record->properties,
                                .topic_hash = index_hash(&shard->index, record->topic),
                                .origin = session->origin,
                                .qos = record->qos,
                                .retain = record->retain};
  struct will *will = calloc(1, sizeof *will);
  if (!will) return ERR_NO_MEMORY;
  *will = (struct will){.message = message_create(&shard->pool, &parts),
                        .delay_s = record->delay_s,
                        .expiry_s = record->expiry_s,
                        .has_expiry = record->has_expiry,
                        .identity = record->maker.size > 0 ? identity_read(record->maker) : NULL};
  if (!will->message || (record->maker.size > 0 && !will->identity)) {
    will_free(shard, will);
    return ERR_NO_MEMORY;
  }
  session->will = will;
  session->durable->has_will = true;
  return OK;
}

static void restore_times(struct session *session, uint64_t since_ms)
{
  const struct journal *journal = &session->shard->journal;
  session->expires_ms = UINT64_MAX;
  if (session->expiry_s != SESSION_NEVER_EXPIRES)
    session->expires_ms = mono_of(journal, since_ms + session->expiry_s * UINT64_C(1000)).ms;
  if (session->will) session->will->due_ms = mono_of(journal, since_ms + session->will->delay_s * UINT64_C(1000)).ms;
}

static enum status fill(struct session *session, const struct restored_session *restored)
{
  enum status status = create(session, restored->number);
  for (size_t i = 0; i < restored->received_count && status == OK; i++)
    status = packet_ids_add(&session->received, restored->received[i]);
  if (status == OK && restored->will) status = restore_will(session, restored->will);
  return status;
}

struct session *shard_restore_session(struct shard *shard, const struct restored_session *restored)
{
  struct session *session = session_create(shard, restored->client_id);
  if (!session) return NULL;
  session->expiry_s = restored->expiry_s;
  // Whose it is before it is durable: the journal knows.
  if (owner_set(session, restored->user) != OK || fill(session, restored) != OK) {
    map_remove(&shard->sessions, session_hash(session), session);
    session_free(session);
    return NULL;
  }
  struct durable *durable = session->durable;
  durable->was_connected = restored->connected;
  durable->next = restored->tail;
  durable->spilled = restored->head;
  durable->sent = restored->sent;
  durable->sent_waiting = (uint32_t)restored->sent_waiting;
  durable->safe.safe = restored->tail;
  session->waiting = (uint32_t)restored->waiting;
  session->waiting_bytes = restored->waiting_bytes;
  shard->counters.copies += restored->waiting;
  shard->counters.copies_queued += restored->waiting;
  shard->counters.queued_bytes += restored->waiting_bytes;
  restore_times(session, restored->since_ms);
  return session;
}

enum status shard_restore_subscription(struct shard *shard, struct session *session, const struct record_subscribe *record)
{
  struct mqtt_filter filter;
  if (!mqtt_filter_parse(record->filter, &filter)) return ERR_INVALID;
  struct subscription options = {.id = record->id,
                                 .qos = record->qos,
                                 .no_local = record->no_local,
                                 .retain_as_published = record->retain_as_published};
  bool is_new;
  enum status status = filter.share.size > 0 ? share_subscribe(session, &options, share_key(record->filter), 0, &is_new)
                                             : session_subscribe(session, &options, filter.filter, 0, &is_new);
  if (status != ERR_FULL) return status;
  LOG(shard->settings.log, shard->now, LOG_WARNING, "subscription_not_restored", FIELD_SPAN("client", session_id(session)),
      FIELD_SPAN("filter", record->filter), FIELD_TEXT("detail", "limits.subscriptions is lower than it was"));
  return OK;
}

enum status shard_restore_retained(struct shard *shard, const struct record_message *record)
{
  struct message *message = message_of(shard, record);
  if (!message) return ERR_NO_MEMORY;
  bool taken;
  // The lowest stamp: whatever is published from now on is later.
  enum status status = retained_set(&shard->retained, message, 1, &taken);
  message_unref(&shard->pool, message);
  if (shard->retained.mortal) shard_want_sweep(shard);
  return status;
}

void shard_restore_done(struct shard *shard, uint32_t next_session)
{
  struct journal *journal = &shard->journal;
  if (next_session > journal->next_session) journal->next_session = next_session;
  size_t cursor = 0;
  for (struct durable *durable; (durable = map_next(&journal->sessions, &cursor));) {
    share_set_online(durable->session, false);
    if (durable->was_connected) durable_put_away(durable->session);
    durable->was_connected = false;
    session_arm_timer(durable->session);
  }
  shard_want_look(shard);
}
