// The shard's side of the journal: the batch that is open, what is routed, and what happens when batches are safe.

#include <assert.h>
#include <stdlib.h>

#include "core/access.h"
#include "core/shard_internal.h"

// A change that the journal does not get is a promise that cannot be kept: without memory for the record there is no way on.
static void must(enum status status)
{
  if (status != OK) abort();
}

// ---- Milestones

void milestone_reach(struct milestone *milestone, uint64_t batch, uint64_t value)
{
  unsigned slot = milestone->batch[0] == 0 || milestone->batch[0] == batch ? 0 : 1;
  assert(batch >= milestone->batch[slot]);
  milestone->batch[slot] = batch;
  milestone->value[slot] = value;
}

bool milestone_commit(struct milestone *milestone, uint64_t committed)
{
  bool moved = false;
  while (milestone->batch[0] && milestone->batch[0] <= committed) {
    milestone->safe = milestone->value[0];
    milestone->batch[0] = milestone->batch[1];
    milestone->value[0] = milestone->value[1];
    milestone->batch[1] = 0;
    moved = true;
  }
  return moved;
}

// ---- Life

void journal_init(struct shard *shard)
{
  struct journal *journal = &shard->journal;
  journal->on = shard->settings.journal && shard->settings.shard == JOURNAL_SHARD;
  journal->epoch_ms = shard->settings.journal_epoch_ms;
  // What all the other shards may have under way is as much as this shard takes of its own.
  unsigned others = shard->settings.shard_count > 1 ? shard->settings.shard_count - 1u : 1;
  journal->high_bytes = shard->settings.journal_high_bytes / (shard->settings.shard == JOURNAL_SHARD ? 1 : others);
  journal->batch = 1;
  journal->next_session = 1;
  list_init(&journal->unsafe);
  list_init(&journal->done);
  list_init(&journal->wanting);
  list_init(&journal->holding);
}

void journal_deinit(struct shard *shard)
{
  struct journal *journal = &shard->journal;
  pool_charge(&shard->pool, -(int64_t)(journal->pending_bytes + journal->charged_bytes));
  buffer_deinit(&journal->records);
  buffer_deinit(&journal->message.targets);
  map_deinit(&journal->sessions);
}

// ---- The open batch

uint64_t journal_need(const struct shard *shard, size_t records_before)
{
  const struct journal *journal = &shard->journal;
  if (!shard->settings.journal_waits) return 0;
  return buffer_size(&journal->records) > records_before ? journal->batch : 0;
}

uint64_t journal_need_all(const struct shard *shard)
{
  const struct journal *journal = &shard->journal;
  if (!shard->settings.journal_waits || !journal->on) return 0;
  return buffer_size(&journal->records) > 0 ? journal->batch : journal->batch - 1;
}

bool journal_heavy(const struct journal *journal)
{
  uint64_t under_way = journal->wanted - journal->committed;
  if (journal->on) under_way = journal->pending_bytes + buffer_size(&journal->records);
  return under_way > journal->high_bytes;
}

bool journal_behind(const struct journal *journal)
{
  return journal->state == JOURNAL_OK && journal_heavy(journal);
}

static void record_runs(struct shard *shard)
{
  LIST_EACH (link, &shard->journal.done) {
    durable_record_done(CONTAINER_OF(link, struct durable, recorded));
  }
}

void journal_charge(struct shard *shard)
{
  struct journal *journal = &shard->journal;
  if (journal->records.capacity == journal->charged_bytes) return;
  pool_charge(&shard->pool, (int64_t)journal->records.capacity - (int64_t)journal->charged_bytes);
  journal->charged_bytes = journal->records.capacity;
}

struct journal_batch *shard_take_batch(struct shard *shard)
{
  struct journal *journal = &shard->journal;
  if (!journal->on) return NULL;
  record_runs(shard);
  size_t size = buffer_size(&journal->records);
  if (size == 0) return NULL;
  struct journal_batch *batch = malloc(sizeof *batch);
  if (!batch) return NULL;  // the next turn tries again
  *batch = (struct journal_batch){.number = journal->batch, .records = journal->records};
  journal->records = (struct buffer){0};
  // The batch keeps being charged to this shard until it is safe.
  pool_charge(&shard->pool, (int64_t)size);
  journal_charge(shard);
  journal->taken_bytes[journal->batch % JOURNAL_TAKEN] += size;
  journal->pending_bytes += size;
  journal->batch++;
  return batch;
}

static void release_held(struct shard *shard)
{
  LIST_EACH (link, &shard->journal.holding) {
    held_release(held_connection(link));
  }
}

// Places that are safe may be loaded, and QoS 2 messages that waited may be sent.
static void places_safe(struct shard *shard)
{
  struct journal *journal = &shard->journal;
  LIST_EACH (link, &journal->unsafe) {
    struct durable *durable = CONTAINER_OF(link, struct durable, unsafe);
    bool settled = durable->settled <= journal->committed;
    bool places = milestone_commit(&durable->safe, journal->committed);
    bool done = milestone_commit(&durable->done_safe, journal->committed);
    if (!places && !done && !settled) continue;
    if (settled && durable->safe.batch[0] == 0 && durable->done_safe.batch[0] == 0) list_remove(&durable->unsafe);
    struct session *session = durable->session;
    durable_want(session);
    if (session->connection && session->queue.count > 0) connection_want(session->connection, CONNECTION_OUTPUT);
  }
}

static void tell_others(struct shard *shard)
{
  struct journal *journal = &shard->journal;
  for (uint8_t i = 0; i < shard->settings.shard_count; i++)
    if (milestone_commit(&journal->mails[i], journal->committed))
      shard_send_mail(shard, i, (struct mail){.kind = MAIL_COMMITTED, .ticket = journal->mails[i].safe});
}

void shard_committed(struct shard *shard, uint64_t batch)
{
  struct journal *journal = &shard->journal;
  assert(batch < journal->batch);
  while (journal->committed < batch) {
    uint64_t *taken = &journal->taken_bytes[++journal->committed % JOURNAL_TAKEN];
    size_t size = *taken;
    *taken = 0;
    journal->pending_bytes -= size;
    pool_charge(&shard->pool, -(int64_t)size);
  }
  tell_others(shard);
  places_safe(shard);
  release_held(shard);
}

void shard_set_journal_state(struct shard *shard, enum journal_state state)
{
  bool recovers = shard->journal.state != JOURNAL_OK && state == JOURNAL_OK;
  shard->journal.state = state;
  if (!recovers) return;
  LIST_EACH (link, &shard->connections) {  // retained messages wait for room in durable queues
    struct connection *connection = CONTAINER_OF(link, struct connection, all);
    if (connection->session && connection->session->queue.count > 0) connection_want(connection, CONNECTION_OUTPUT);
  }
}

// ---- Mails of other shards that wait

void journal_mail_taken(struct shard *shard, uint8_t from, const struct message *message, size_t records_before)
{
  struct journal *journal = &shard->journal;
  struct milestone *mails = &journal->mails[from];
  uint64_t taken = journal->mails_taken[from] += message_size(message);
  uint64_t need = buffer_size(&journal->records) > records_before ? journal->batch : 0;
  // Without a record of its own it is as safe as those before it; a value that is not retained, because a later one is, as
  // safe as that, whoever that came from.
  if (need == 0 && message->retain) need = buffer_size(&journal->records) > 0 ? journal->batch : journal->batch - 1;
  if (need <= journal->committed) need = 0;
  if (need == 0 && mails->batch[0]) need = mails->batch[1] ? mails->batch[1] : mails->batch[0];
  if (need > 0) {
    milestone_reach(mails, need, taken);
    return;
  }
  mails->safe = taken;
  shard->journal.told |= 1u << from;
}

// Once a turn: those whose mails needed no disk.
void journal_tell_unneeded(struct shard *shard)
{
  struct journal *journal = &shard->journal;
  for (uint8_t i = 0; journal->told; i++, journal->told >>= 1)
    if (journal->told & 1)
      shard_send_mail(shard, i, (struct mail){.kind = MAIL_COMMITTED, .ticket = journal->mails[i].safe});
}

void journal_mail_committed(struct shard *shard, const struct mail *mail)
{
  shard->journal.committed = mail->ticket;
  release_held(shard);
}

// ---- Publishing

void journal_route_begin(struct shard *shard, struct message *message)
{
  struct journal_message *routed = &shard->journal.message;
  if (!shard->journal.on) return;
  assert(!routed->message);
  routed->message = message;
  routed->store = false;
  routed->count = 0;
}

void journal_add_target(struct shard *shard, const struct record_target *target, const uint32_t *ids)
{
  struct journal_message *routed = &shard->journal.message;
  must(record_put_target(&routed->targets, target, ids));
  routed->count++;
}

static void put_message(struct shard *shard, const struct session *publisher, uint16_t packet_id)
{
  struct journal *journal = &shard->journal;
  struct journal_message *routed = &journal->message;
  const struct message *message = routed->message;
  struct record_message record = {.qos = message->qos,
                                  .retain = message->retain,
                                  .store = routed->store,
                                  .has_publisher = packet_id != 0,
                                  .packet_id = packet_id,
                                  .publisher = packet_id ? publisher->durable->number : 0,
                                  .time_ms = journal_ms(journal, shard->now.ms),
                                  .origin = message->origin,
                                  .target_count = routed->count,
                                  .targets = buffer_peek(&routed->targets),
                                  .topic = message_topic(message),
                                  .payload = message_payload(message),
                                  .properties = message_properties(message)};
  if (message->expiry_ms) record.expiry_ms = journal_ms(journal, message->expiry_ms);
  must(record_put_message(&journal->records, &record));
}

void journal_route_end(struct shard *shard, const struct session *publisher, uint16_t packet_id)
{
  struct journal_message *routed = &shard->journal.message;
  if (!shard->journal.on) return;
  assert(routed->message);
  if (!publisher || !publisher->durable) packet_id = 0;
  if (routed->count > 0 || routed->store)
    put_message(shard, publisher, packet_id);
  else if (packet_id)
    journal_packet_id(publisher, RECORD_RECEIVED, packet_id);
  buffer_consume(&routed->targets, buffer_size(&routed->targets));
  routed->message = NULL;
}

bool journal_concerns(const struct shard *shard, const struct match *match, bool retain)
{
  if (!shard->journal.on) return retain || match->remote_durable;
  if (retain || match->group_count > 0) return true;
  for (uint32_t i = 0; i < match->target_count; i++)
    if (match->targets[i].session->durable && match->targets[i].qos > 0) return true;
  return false;
}

void journal_packet_id(const struct session *publisher, enum record_type type, uint16_t packet_id)
{
  if (!publisher->durable) return;
  struct record_packet_id record = {.session = publisher->durable->number, .packet_id = packet_id};
  must(record_put_packet_id(&publisher->shard->journal.records, type, &record));
}

// ---- Sessions

void durable_put_session(struct session *session)
{
  struct record_session record = {.session = session->durable->number,
                                  .expiry_s = session->expiry_s,
                                  .client_id = session_id(session),
                                  .user = owner_of(session)};
  must(record_put_session(&session->shard->journal.records, &record));
}

void durable_put_owner(struct session *session)
{
  struct record_owner record = {.session = session->durable->number, .user = owner_of(session)};
  must(record_put_owner(&session->shard->journal.records, &record));
}

void durable_end(struct session *session)
{
  if (!session->durable) return;
  struct record_session_end record = {.session = session->durable->number};
  must(record_put_session_end(&session->shard->journal.records, &record));
  session->shard->journal.ended = session->shard->journal.batch;
  durable_free(session);
}

void durable_back(struct session *session, uint16_t window)
{
  struct record_session_back record = {.session = session->durable->number, .expiry_s = session->expiry_s, .window = window};
  must(record_put_session_back(&session->shard->journal.records, &record));
}

void durable_put_away(struct session *session)
{
  struct shard *shard = session->shard;
  struct durable *durable = session->durable;
  struct record_session_away record = {.session = durable->number,
                                       .expiry_s = session->expiry_s,
                                       .since_ms = journal_ms(&shard->journal, shard->now.ms),
                                       .sent = durable->sent};
  must(record_put_session_away(&shard->journal.records, &record));
}

void durable_will(struct session *session)
{
  struct durable *durable = session->durable;
  const struct will *will = session->will;
  if (!durable || (!will && !durable->has_will)) return;
  struct record_will record = {.session = durable->number};
  struct buffer maker = {0};
  if (will) {
    const struct identity *identity = session->connection ? access_identity(session->connection) : will->identity;
    if (identity) must(identity_write(&maker, identity));
    record.maker = buffer_peek(&maker);
    record.delay_s = will->delay_s;
    record.has_expiry = will->has_expiry;
    record.expiry_s = will->expiry_s;
    record.qos = will->message->qos;
    record.retain = will->message->retain;
    record.topic = message_topic(will->message);
    record.payload = message_payload(will->message);
    record.properties = message_properties(will->message);
  }
  must(record_put_will(&session->shard->journal.records, &record));
  buffer_deinit(&maker);
  durable->has_will = will != NULL;
}

void durable_subscribed(struct session *session, const struct subscription *options, struct span filter)
{
  if (!session->durable) return;
  struct record_subscribe record = {.session = session->durable->number,
                                    .id = options->id,
                                    .qos = options->qos,
                                    .no_local = options->no_local,
                                    .retain_as_published = options->retain_as_published,
                                    .filter = filter};
  must(record_put_subscribe(&session->shard->journal.records, &record));
}

void durable_unsubscribed(struct session *session, struct span filter)
{
  if (!session->durable) return;
  struct record_unsubscribe record = {.session = session->durable->number, .filter = filter};
  must(record_put_unsubscribe(&session->shard->journal.records, &record));
}

// ---- Queues

void durable_record_done(struct durable *durable)
{
  list_remove(&durable->recorded);
  if (durable->done_count == 0) return;
  struct record_done record = {.session = durable->number,
                               .count = (uint32_t)durable->done_count,
                               .place = durable->done_from,
                               .outcome = (enum record_outcome)durable->done_outcome};
  must(record_put_done(&durable->session->shard->journal.records, &record));
  durable->done_count = 0;
}

static void want_record(struct durable *durable)
{
  struct journal *journal = &durable->session->shard->journal;
  milestone_reach(&durable->done_safe, journal->batch, ++durable->done);
  if (link_idle(&durable->unsafe)) list_append(&journal->unsafe, &durable->unsafe);
  if (link_idle(&durable->recorded)) list_append(&durable->session->shard->journal.done, &durable->recorded);
}

// Runs of places are one record: acknowledgements mostly come in order.
void durable_done_place(struct session *session, uint64_t place, enum record_outcome outcome)
{
  struct durable *durable = session->durable;
  bool adjoins = durable->done_from + durable->done_count == place && durable->done_outcome == outcome &&
                 !durable->done_front && durable->done_count < UINT32_MAX;
  if (durable->done_count > 0 && !adjoins) durable_record_done(durable);
  if (durable->done_count == 0) {
    durable->done_from = place;
    durable->done_outcome = (uint8_t)outcome;
    durable->done_front = false;
  }
  durable->done_count++;
  want_record(durable);
}

void durable_done(struct session *session, const struct copy *copy, enum record_outcome outcome)
{
  durable_done_place(session, durable_place(session->durable, copy), outcome);
}

void durable_done_front(struct session *session, enum record_outcome outcome)
{
  struct durable *durable = session->durable;
  uint64_t from = durable_unsent(durable);
  bool same = durable->done_front && durable->done_from == from && durable->done_outcome == outcome &&
              durable->done_count < UINT32_MAX;
  if (durable->done_count > 0 && !same) durable_record_done(durable);
  if (durable->done_count == 0) {
    durable->done_from = from;
    durable->done_outcome = (uint8_t)outcome;
    durable->done_front = true;
  }
  durable->done_count++;
  durable->ticket = 0;  // what is being loaded may be what was dropped
  list_remove(&durable->wanting);
  durable->settled = session->shard->journal.batch;
  want_record(durable);
}

void durable_sent(struct session *session, const struct copy *copy)
{
  struct durable *durable = session->durable;
  struct record_sent record = {.session = durable->number, .place = durable_place(durable, copy)};
  must(record_put_sent(&session->shard->journal.records, &record));
}
