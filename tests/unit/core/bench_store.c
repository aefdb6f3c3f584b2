#include "bench_store.h"

static void *grown(void *items, size_t count, size_t size)
{
  void *more = realloc(items, count * size);
  assert_non_null(more);
  return more;
}

void store_bench_init(struct store_bench *store)
{
  *store = (struct store_bench){0};
}

static void free_session(struct stored_session *session)
{
  free(session->places);
  free(session->subscriptions);
  free(session->received);
}

void store_bench_deinit(struct store_bench *store)
{
  for (size_t i = 0; i < store->batch_count; i++) journal_batch_free(store->batches[i]);
  for (size_t i = 0; i < store->session_count; i++) free_session(&store->sessions[i]);
  for (size_t i = 0; i < store->load_count; i++) journal_loaded_free(store->loads[i].answer);
  free(store->batches);
  free(store->sessions);
  free(store->retained);
  free(store->loads);
  *store = (struct store_bench){0};
}

// ---- What the records mean

struct stored_session *store_bench_numbered(const struct store_bench *store, uint32_t number)
{
  for (size_t i = store->session_count; i > 0; i--)
    if (store->sessions[i - 1].number == number && !store->sessions[i - 1].ended) return &store->sessions[i - 1];
  return NULL;
}

struct stored_session *store_bench_find(const struct store_bench *store, const char *client_id)
{
  for (size_t i = 0; i < store->session_count; i++)
    if (!store->sessions[i].ended && span_equal(store->sessions[i].client_id, span_text(client_id)))
      return &store->sessions[i];
  return NULL;
}

// Nothing is ever said of a session that is not there.
static struct stored_session *known(const struct store_bench *store, uint32_t number)
{
  struct stored_session *session = store_bench_numbered(store, number);
  if (!session) fail_msg("a record about session %u, which does not exist", number);
  return session;
}

static void begin_session(struct store_bench *store, struct span body)
{
  struct record_session record;
  assert_true(record_get_session(body, &record));
  for (size_t i = 0; i < store->session_count; i++) {
    assert_int_not_equal(store->sessions[i].number, record.session);
    assert_true(store->sessions[i].ended || !span_equal(store->sessions[i].client_id, record.client_id));
  }
  store->sessions = grown(store->sessions, store->session_count + 1, sizeof *store->sessions);
  store->sessions[store->session_count++] = (struct stored_session){.number = record.session,
                                                                    .expiry_s = record.expiry_s,
                                                                    .client_id = record.client_id,
                                                                    .user = record.user,
                                                                    .connected = true};
}

static void set_owner(struct store_bench *store, struct span body)
{
  struct record_owner record;
  assert_true(record_get_owner(body, &record));
  struct stored_session *session = known(store, record.session);
  assert_int_equal(session->user.size, 0);
  session->user = record.user;
}

static void put_place(struct store_bench *store, const struct record_target *target, struct span message)
{
  struct stored_session *session = known(store, target->session);
  assert_int_equal(target->place, session->tail);
  assert_true(target->qos > 0);
  if (session->tail == session->places_capacity) {
    session->places_capacity = session->places_capacity ? session->places_capacity * 2 : 16;
    session->places = grown(session->places, session->places_capacity, sizeof *session->places);
  }
  session->places[session->tail++] = (struct stored_place){.message = message};
  session->waiting++;
}

static void put_received(struct stored_session *session, uint16_t packet_id)
{
  for (size_t i = 0; i < session->received_count; i++) assert_int_not_equal(session->received[i], packet_id);
  session->received = grown(session->received, session->received_count + 1, sizeof *session->received);
  session->received[session->received_count++] = packet_id;
}

static void retain(struct store_bench *store, const struct record_message *record, struct span body)
{
  size_t i = 0;
  while (i < store->retained_count && !span_equal(store->retained[i].topic, record->topic)) i++;
  if (record->payload.size == 0) {
    if (i < store->retained_count) store->retained[i] = store->retained[--store->retained_count];
    return;
  }
  if (i == store->retained_count) store->retained = grown(store->retained, ++store->retained_count, sizeof *store->retained);
  store->retained[i] = (struct stored_retained){record->topic, body};
}

static void put_message(struct store_bench *store, struct span body)
{
  struct record_message record;
  assert_true(record_get_message(body, &record));
  assert_true(record.store || record.target_count > 0);
  assert_true(record.time_ms >= store->time_ms);
  store->time_ms = record.time_ms;
  struct record_target target;
  for (size_t cursor = 0; record_next_target(record.targets, &cursor, &target);) put_place(store, &target, body);
  if (record.store) retain(store, &record, body);
  if (record.has_publisher) put_received(known(store, record.publisher), record.packet_id);
}

static void release(struct store_bench *store, struct span body)
{
  struct record_packet_id record;
  assert_true(record_get_packet_id(body, &record));
  struct stored_session *session = known(store, record.session);
  size_t i = 0;
  while (i < session->received_count && session->received[i] != record.packet_id) i++;
  assert_true(i < session->received_count);
  session->received[i] = session->received[--session->received_count];
}

static void put_sent(struct store_bench *store, struct span body)
{
  struct record_sent record;
  assert_true(record_get_sent(body, &record));
  struct stored_session *session = known(store, record.session);
  assert_true(record.place < session->tail);
  assert_int_equal(session->places[record.place].state, STORED_WAITING);
  session->places[record.place].state = STORED_SENT;
}

static void put_done(struct store_bench *store, struct span body)
{
  struct record_done record;
  assert_true(record_get_done(body, &record));
  struct stored_session *session = known(store, record.session);
  uint32_t left = record.count;
  assert_true(left > 0);
  for (uint64_t place = record.place; left > 0; place++) {
    if (place >= session->tail) fail_msg("%u places too many are done from %u on", left, (unsigned)record.place);
    if (session->places[place].state == STORED_DONE) continue;
    session->places[place].state = STORED_DONE;
    session->places[place].outcome = (uint8_t)record.outcome;
    session->waiting--;
    left--;
  }
}

static void subscribe(struct store_bench *store, struct span body, bool add)
{
  struct record_subscribe record = {0};
  struct record_unsubscribe gone;
  if (add) {
    assert_true(record_get_subscribe(body, &record));
  } else {
    assert_true(record_get_unsubscribe(body, &gone));
    record.session = gone.session;
    record.filter = gone.filter;
  }
  struct stored_session *session = known(store, record.session);
  size_t i = 0;
  while (i < session->subscription_count && !span_equal(session->subscriptions[i].filter, record.filter)) i++;
  if (!add) {
    assert_true(i < session->subscription_count);
    session->subscriptions[i] = session->subscriptions[--session->subscription_count];
    return;
  }
  if (i == session->subscription_count)
    session->subscriptions = grown(session->subscriptions, ++session->subscription_count, sizeof record);
  session->subscriptions[i] = record;
}

static void set_will(struct store_bench *store, struct span body)
{
  struct record_will record;
  assert_true(record_get_will(body, &record));
  known(store, record.session)->will = record.topic.size ? body : (struct span){0};
}

static void set_connected(struct store_bench *store, struct span body, bool connected)
{
  struct record_session_back back;
  struct record_session_away away;
  if (connected) {
    assert_true(record_get_session_back(body, &back));
    struct stored_session *session = known(store, back.session);
    session->connected = true;
    session->expiry_s = back.expiry_s;
    session->window = back.window;
    return;
  }
  assert_true(record_get_session_away(body, &away));
  struct stored_session *session = known(store, away.session);
  assert_true(session->connected);
  assert_true(away.sent <= session->tail);
  session->connected = false;
  session->expiry_s = away.expiry_s;
  session->since_ms = away.since_ms;
  session->sent = away.sent;
}

static void apply(struct store_bench *store, enum record_type type, struct span body)
{
  struct record_session_end end;
  struct record_packet_id id;
  switch ((unsigned)type) {
    case RECORD_SESSION: begin_session(store, body); break;
    case RECORD_SESSION_END:
      assert_true(record_get_session_end(body, &end));
      known(store, end.session)->ended = true;
      break;
    case RECORD_SESSION_BACK: set_connected(store, body, true); break;
    case RECORD_SESSION_AWAY: set_connected(store, body, false); break;
    case RECORD_SUBSCRIBE: subscribe(store, body, true); break;
    case RECORD_UNSUBSCRIBE: subscribe(store, body, false); break;
    case RECORD_WILL: set_will(store, body); break;
    case RECORD_MESSAGE: put_message(store, body); break;
    case RECORD_RECEIVED:
      assert_true(record_get_packet_id(body, &id));
      put_received(known(store, id.session), id.packet_id);
      break;
    case RECORD_RELEASED: release(store, body); break;
    case RECORD_SENT: put_sent(store, body); break;
    case RECORD_DONE: put_done(store, body); break;
    case RECORD_OWNER: set_owner(store, body); break;
    default: fail_msg("a record of type %u from a shard", (unsigned)type);
  }
}

// ---- Batches

static bool next_record(const struct journal_batch *batch, size_t *cursor, enum record_type *out_type, struct span *out_body)
{
  struct span bytes = buffer_peek(&batch->records);
  if (*cursor >= bytes.size) return false;
  struct record_header header;
  assert_true(bytes.size - *cursor >= sizeof header);
  memcpy(&header, bytes.at + *cursor, sizeof header);
  assert_int_equal(header.checksum, 0);
  assert_int_equal(record_sequence(&header), 0);
  assert_true(record_length(header.size) <= bytes.size - *cursor);
  *out_type = record_type(&header);
  *out_body = span_of(bytes.at + *cursor + sizeof header, header.size);
  *cursor += record_length(header.size);
  return true;
}

void store_bench_take(struct store_bench *store, struct journal_batch *batch)
{
  assert_int_equal(batch->number, store->batch_count - store->first + 1);
  assert_true(buffer_size(&batch->records) > 0);
  if (store->batch_count == store->batch_capacity) {
    store->batch_capacity = store->batch_capacity ? store->batch_capacity * 2 : 16;
    store->batches = grown(store->batches, store->batch_capacity, sizeof(struct journal_batch *));
  }
  store->batches[store->batch_count++] = batch;
}

bool store_bench_commit(struct store_bench *store, size_t count)
{
  bool any = false;
  for (; count > 0 && store->safe < store->batch_count; count--, any = true) {
    const struct journal_batch *batch = store->batches[store->safe++];
    enum record_type type;
    struct span body;
    for (size_t cursor = 0; next_record(batch, &cursor, &type, &body);) apply(store, type, body);
  }
  return any;
}

uint64_t store_bench_committed(const struct store_bench *store)
{
  return store->safe - store->first;
}

bool store_bench_all_safe(const struct store_bench *store)
{
  return store->safe == store->batch_count;
}

void store_bench_crash(struct store_bench *store)
{
  while (store->batch_count > store->safe) journal_batch_free(store->batches[--store->batch_count]);
  store->first = store->batch_count;
  for (size_t i = 0; i < store->load_count; i++) journal_loaded_free(store->loads[i].answer);
  store->load_count = 0;
}

size_t store_bench_records(const struct store_bench *store, enum record_type type, size_t first_batch, struct span *out_last)
{
  size_t count = 0;
  for (size_t i = first_batch; i < store->batch_count; i++) {
    enum record_type one;
    struct span body;
    for (size_t cursor = 0; next_record(store->batches[i], &cursor, &one, &body);) {
      if (one != type) continue;
      count++;
      if (out_last) *out_last = body;
    }
  }
  return count;
}

// ---- Loads

static bool damaged(const struct store_bench *store, const struct stored_place *place)
{
  struct record_message message;
  assert_true(record_get_message(place->message, &message));
  return store->damage.size && message.topic.size >= store->damage.size &&
         memcmp(message.topic.at, store->damage.at, store->damage.size) == 0;
}

void store_bench_load(struct store_bench *store, const struct journal_load *load)
{
  struct journal_loaded *loaded = calloc(1, sizeof *loaded);
  assert_non_null(loaded);
  *loaded = (struct journal_loaded){.session = load->session, .ticket = load->ticket, .next = load->place};
  const struct stored_session *session = store_bench_numbered(store, load->session);
  assert_true(load->max_entries > 0);
  for (uint64_t place = load->place; session && place < session->tail; place++) {
    if (loaded->count == load->max_entries || (loaded->count > 0 && buffer_size(&loaded->entries) >= load->max_bytes)) break;
    loaded->next = place + 1;
    const struct stored_place *stored = &session->places[place];
    if (stored->state == STORED_DONE) continue;
    enum loaded_state state = stored->state == STORED_SENT ? LOADED_SENT
                              : damaged(store, stored)     ? LOADED_DAMAGED
                                                           : LOADED_WAITING;
    assert_ok(journal_put_entry(loaded, place, state, state == LOADED_WAITING ? stored->message : span_of(NULL, 0)));
  }
  store->loads = grown(store->loads, store->load_count + 1, sizeof *store->loads);
  store->loads[store->load_count++] = (struct stored_load){loaded};
  store->loads_asked++;
}

struct journal_loaded *store_bench_next_answer(struct store_bench *store)
{
  if (store->load_count == 0) return NULL;
  struct journal_loaded *answer = store->loads[0].answer;
  memmove(store->loads, store->loads + 1, --store->load_count * sizeof *store->loads);
  return answer;
}

// ---- Restoring

void store_bench_describe(const struct store_bench *store, const struct stored_session *session,
                          struct restored_session *out)
{
  *out = (struct restored_session){.number = session->number,
                                   .expiry_s = session->expiry_s,
                                   .client_id = session->client_id,
                                   .user = session->user,
                                   .since_ms = session->connected ? store->end_ms : session->since_ms,
                                   .tail = session->tail,
                                   .sent = session->sent,
                                   .waiting = session->waiting,
                                   .received = session->received,
                                   .received_count = session->received_count};
  while (out->head < out->tail && session->places[out->head].state == STORED_DONE) out->head++;
  uint64_t in_window = 0;
  for (uint64_t place = out->head; place < out->tail; place++) {
    const struct stored_place *stored = &session->places[place];
    if (stored->state == STORED_DONE) continue;
    // A crash: the first ones, as many as may be in flight at once.
    if (session->connected && in_window++ < session->window && place >= out->sent) out->sent = place + 1;
    if (place < out->sent) out->sent_waiting++;
    struct record_message message;
    assert_true(record_get_message(stored->message, &message));
    if (stored->state == STORED_WAITING) out->waiting_bytes += record_message_weight(&message);
  }
}
