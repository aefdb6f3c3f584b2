#include "store_model.h"

#include "../core/test.h"
#include "store/catalog.h"
#include "store/log.h"

// What is drawn is drawn one statement after the other: in one, each compiler would draw in another order.

void model_init(struct model *model)
{
  *model = (struct model){.next_session = 1, .next_message = 1};
}

void model_deinit(struct model *model)
{
  for (unsigned i = 0; i < MODEL_SESSIONS; i++) free(model->sessions[i].entries);
}

static struct model_session *find(struct model *model, uint32_t number)
{
  struct model_session *session = &model->sessions[number % MODEL_SESSIONS];
  return session->exists && session->number == number ? session : NULL;
}

// ---- Names and payloads

static struct span filter_name(unsigned index, char out[32])
{
  return span_of(out, (size_t)snprintf(out, 32, "plant/%u/#", index));
}

static struct span topic_name(unsigned index, char out[32])
{
  return span_of(out, (size_t)snprintf(out, 32, "state/%u", index));
}

static unsigned trailing_number(struct span text)
{
  for (size_t i = 0; i < text.size; i++)
    if (text.at[i] >= '0' && text.at[i] <= '9') return (unsigned)(text.at[i] - '0');
  return 0;
}

static struct span make_payload(uint64_t number, unsigned size, uint8_t out[MODEL_PAYLOAD_MAX])
{
  if (size < 8) size = 8;
  if (size > MODEL_PAYLOAD_MAX) size = MODEL_PAYLOAD_MAX;
  record_write_u64(out, number);
  for (unsigned i = 8; i < size; i++) out[i] = (uint8_t)(number * 31 + i);
  return span_of(out, size);
}

// Its number; every byte must be what was made.
static uint64_t payload_number(struct span payload)
{
  struct record_reader reader = {.rest = payload};
  uint64_t number = record_read_u64(&reader);
  assert_false(reader.failed);
  for (size_t i = 8; i < payload.size; i++) assert_int_equal(payload.at[i], (uint8_t)(number * 31 + i));
  return number;
}

// ---- Applying

static void add_entry(struct model_session *session, uint64_t message, uint32_t weight)
{
  if (session->tail == session->capacity) {
    session->capacity = session->capacity ? 2 * session->capacity : 64;
    session->entries = realloc(session->entries, session->capacity * sizeof *session->entries);
    assert_non_null(session->entries);
  }
  session->entries[session->tail++] = (struct model_entry){.message = message, .weight = weight, .state = MODEL_WAITING};
}

static void apply_message(struct model *model, struct span body)
{
  struct record_message message;
  struct record_target target;
  assert_true(record_get_message(body, &message));
  uint64_t number = message.payload.size ? payload_number(message.payload) : 0;
  for (size_t cursor = 0; record_next_target(message.targets, &cursor, &target);) {
    struct model_session *session = find(model, target.session);
    if (!session) continue;
    assert_int_equal(target.place, session->tail);
    add_entry(session, number, (uint32_t)record_message_weight(&message));
  }
  if (message.store) model->retained[trailing_number(message.topic)] = number;
  struct model_session *publisher = message.has_publisher ? find(model, message.publisher) : NULL;
  if (publisher) publisher->received[message.packet_id % MODEL_IDS] = true;
  if (number >= model->next_message) model->next_message = number + 1;
}

static void apply_done(struct model *model, struct span body)
{
  struct record_done done;
  assert_true(record_get_done(body, &done));
  struct model_session *session = find(model, done.session);
  if (!session) return;
  uint64_t place = done.place;
  for (uint32_t left = done.count; left > 0; place++) {
    assert_true(place < session->tail);
    if (session->entries[place].state == MODEL_DONE) continue;
    session->entries[place].state = MODEL_DONE;
    session->outcomes[done.outcome]++;
    left--;
  }
}

static void keep_user(struct model_session *session, struct span user)
{
  assert_true(user.size < sizeof session->user);
  snprintf(session->user, sizeof session->user, "%.*s", (int)user.size, (const char *)user.at);
}

static void apply_session(struct model *model, struct span body)
{
  struct record_session record;
  assert_true(record_get_session(body, &record));
  struct model_session *session = &model->sessions[record.session % MODEL_SESSIONS];
  assert_false(session->exists);
  free(session->entries);
  *session =
      (struct model_session){.exists = true, .number = record.session, .expiry_s = record.expiry_s, .connected = true};
  keep_user(session, record.user);
  if (record.session >= model->next_session) model->next_session = record.session + 1;
}

static void apply_presence(struct model *model, enum record_type type, struct span body)
{
  if (type == RECORD_SESSION_BACK) {
    struct record_session_back record;
    assert_true(record_get_session_back(body, &record));
    struct model_session *session = find(model, record.session);
    session->connected = true;
    session->expiry_s = record.expiry_s;
    session->window = record.window;
    return;
  }
  struct record_session_away record;
  assert_true(record_get_session_away(body, &record));
  struct model_session *session = find(model, record.session);
  session->connected = false;
  session->expiry_s = record.expiry_s;
  session->since_ms = record.since_ms;
  session->sent = record.sent;
}

static void apply_subscription(struct model *model, enum record_type type, struct span body)
{
  if (type == RECORD_UNSUBSCRIBE) {
    struct record_unsubscribe record;
    assert_true(record_get_unsubscribe(body, &record));
    find(model, record.session)->subscriptions[trailing_number(record.filter)].exists = false;
    return;
  }
  struct record_subscribe record;
  assert_true(record_get_subscribe(body, &record));
  find(model, record.session)->subscriptions[trailing_number(record.filter)] = (struct model_subscription){
      .exists = true,
      .id = record.id,
      .qos = record.qos,
      .no_local = record.no_local,
      .retain_as_published = record.retain_as_published,
  };
}

static void apply_small(struct model *model, enum record_type type, struct span body)
{
  struct record_packet_id packet;
  struct record_sent sent;
  struct record_will will;
  struct record_session_end end;
  struct record_owner owner;
  if (type == RECORD_RECEIVED || type == RECORD_RELEASED) {
    assert_true(record_get_packet_id(body, &packet));
    find(model, packet.session)->received[packet.packet_id % MODEL_IDS] = type == RECORD_RECEIVED;
  } else if (type == RECORD_SENT) {
    assert_true(record_get_sent(body, &sent));
    find(model, sent.session)->entries[sent.place].state = MODEL_SENT;
  } else if (type == RECORD_WILL) {
    assert_true(record_get_will(body, &will));
    find(model, will.session)->will = will.topic.size ? payload_number(will.payload) : 0;
  } else if (type == RECORD_OWNER) {
    assert_true(record_get_owner(body, &owner));
    keep_user(find(model, owner.session), owner.user);
  } else {
    assert_int_equal(type, RECORD_SESSION_END);
    assert_true(record_get_session_end(body, &end));
    find(model, end.session)->exists = false;
  }
}

void model_apply(struct model *model, struct span record)
{
  struct record_header header;
  memcpy(&header, record.at, sizeof header);
  struct span body = span_of(record.at + sizeof header, header.size);
  enum record_type type = record_type(&header);
  if (type == RECORD_MESSAGE)
    apply_message(model, body);
  else if (type == RECORD_DONE)
    apply_done(model, body);
  else if (type == RECORD_SESSION)
    apply_session(model, body);
  else if (type == RECORD_SESSION_BACK || type == RECORD_SESSION_AWAY)
    apply_presence(model, type, body);
  else if (type == RECORD_SUBSCRIBE || type == RECORD_UNSUBSCRIBE)
    apply_subscription(model, type, body);
  else
    apply_small(model, type, body);
}

// ---- Making records

static struct model_session *any_session(struct model *model, struct prng *prng)
{
  unsigned start = (unsigned)prng_below(prng, MODEL_SESSIONS);
  for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
    struct model_session *session = &model->sessions[(start + i) % MODEL_SESSIONS];
    if (session->exists) return session;
  }
  return NULL;
}

static unsigned session_count(const struct model *model)
{
  unsigned count = 0;
  for (unsigned i = 0; i < MODEL_SESSIONS; i++) count += model->sessions[i].exists;
  return count;
}

static uint64_t session_head(const struct model_session *session)
{
  uint64_t head = 0;
  while (head < session->tail && session->entries[head].state == MODEL_DONE) head++;
  return head;
}

static void put_targets(struct model *model, struct prng *prng, unsigned fan_out, struct buffer *targets,
                        uint32_t *out_count)
{
  unsigned count = (unsigned)prng_below(prng, fan_out + 1);
  uint32_t taken = 0;
  unsigned start = (unsigned)prng_below(prng, MODEL_SESSIONS);
  for (unsigned i = 0; i < MODEL_SESSIONS && taken < count; i++) {
    struct model_session *session = &model->sessions[(start + i) % MODEL_SESSIONS];
    if (!session->exists) continue;
    uint32_t ids[2] = {7, 9};
    struct record_target target = {.session = session->number, .place = (uint32_t)session->tail};
    target.qos = (uint8_t)(1 + prng_below(prng, 2));
    target.retain = prng_below(prng, 2);
    target.id_count = (uint16_t)prng_below(prng, 3);
    assert_ok(record_put_target(targets, &target, ids));
    taken++;
  }
  *out_count = taken;
}

static void next_message(struct model *model, struct prng *prng, const struct model_mix *mix, struct buffer *out)
{
  uint8_t payload[MODEL_PAYLOAD_MAX];
  char topic[32];
  struct buffer targets = {0};
  struct record_message message = {.qos = 1, .time_ms = 1000 + model->next_message * 10};
  put_targets(model, prng, mix->fan_out, &targets, &message.target_count);
  message.targets = buffer_peek(&targets);
  message.store = message.target_count == 0 || prng_below(prng, 8) == 0;
  message.retain = message.store;
  message.topic = topic_name((unsigned)prng_below(prng, MODEL_TOPICS), topic);
  bool clears = message.store && prng_below(prng, 4) == 0 && message.target_count == 0;
  unsigned size = 8 + (unsigned)prng_below(prng, mix->payload_most);
  message.payload = clears ? span_of(NULL, 0) : make_payload(model->next_message, size, payload);
  struct model_session *publisher = prng_below(prng, 6) == 0 ? any_session(model, prng) : NULL;
  if (publisher) {
    message.has_publisher = true;
    message.publisher = publisher->number;
    message.packet_id = (uint16_t)(MODEL_IDS + prng_below(prng, MODEL_IDS));
    if (publisher->received[message.packet_id % MODEL_IDS]) message.has_publisher = false;
  }
  assert_ok(record_put_message(out, &message));
  buffer_deinit(&targets);
}

// Acknowledgements: mostly a run from the head on, sometimes out of order, sometimes over what is done already.
static bool next_done(struct model *model, struct prng *prng, struct buffer *out)
{
  struct model_session *session = any_session(model, prng);
  if (!session || session->tail == 0) return false;
  uint64_t head = session_head(session);
  uint64_t waiting = session->tail - head;
  if (waiting == 0) return false;
  uint64_t place = prng_below(prng, 4) ? head : head + prng_below(prng, waiting);
  uint64_t most = 0;
  for (uint64_t i = place; i < session->tail; i++) most += session->entries[i].state != MODEL_DONE;
  if (most == 0) return false;
  if (most > 8 && prng_below(prng, 3)) most = 8;
  struct record_done done = {.session = session->number, .place = place};
  done.count = (uint32_t)(1 + prng_below(prng, most));
  done.outcome = (enum record_outcome)prng_below(prng, OUTCOMES);
  assert_ok(record_put_done(out, &done));
  return true;
}

static bool next_sent(struct model *model, struct prng *prng, struct buffer *out)
{
  struct model_session *session = any_session(model, prng);
  if (!session) return false;
  uint64_t head = session_head(session);
  if (head == session->tail) return false;
  uint64_t most = session->tail - head < 20 ? session->tail - head : 20;
  struct record_sent sent = {.session = session->number, .place = head + prng_below(prng, most)};
  if (session->entries[sent.place].state != MODEL_WAITING) return false;
  assert_ok(record_put_sent(out, &sent));
  return true;
}

void model_put_session(struct model *model, struct buffer *out)
{
  size_t before = buffer_size(out);
  char id[32];
  int size = snprintf(id, sizeof id, "client-%u", (unsigned)model->next_session);
  struct record_session record = {.session = model->next_session, .expiry_s = 3600, .client_id = span_of(id, (size_t)size)};
  if (model->next_session % 3 == 0) record.user = span_text("ann");
  assert_ok(record_put_session(out, &record));
  model_apply(model, span_from(buffer_peek(out), before));
}

void model_put_owner(struct model *model, uint32_t session, const char *user, struct buffer *out)
{
  size_t before = buffer_size(out);
  assert_ok(record_put_owner(out, &(struct record_owner){.session = session, .user = span_text(user)}));
  model_apply(model, span_from(buffer_peek(out), before));
}

static void next_presence(struct model *model, struct prng *prng, struct buffer *out)
{
  struct model_session *session = any_session(model, prng);
  if (session->connected) {
    struct record_session_away away = {.session = session->number};
    away.expiry_s = (uint32_t)prng_below(prng, 1000);
    away.since_ms = prng_below(prng, 100000);
    away.sent = prng_below(prng, session->tail + 1);
    assert_ok(record_put_session_away(out, &away));
    return;
  }
  struct record_session_back back = {.session = session->number};
  back.expiry_s = (uint32_t)prng_below(prng, 1000);
  back.window = (uint16_t)(1 + prng_below(prng, 100));
  assert_ok(record_put_session_back(out, &back));
}

static void next_subscription(struct model *model, struct prng *prng, struct buffer *out)
{
  struct model_session *session = any_session(model, prng);
  unsigned index = (unsigned)prng_below(prng, MODEL_FILTERS);
  char filter[32];
  if (session->subscriptions[index].exists && prng_below(prng, 2)) {
    struct record_unsubscribe record = {.session = session->number, .filter = filter_name(index, filter)};
    assert_ok(record_put_unsubscribe(out, &record));
    return;
  }
  struct record_subscribe record = {.session = session->number, .filter = filter_name(index, filter)};
  record.id = (uint32_t)prng_below(prng, 5);
  record.qos = (uint8_t)prng_below(prng, 3);
  record.no_local = prng_below(prng, 2);
  record.retain_as_published = prng_below(prng, 2);
  assert_ok(record_put_subscribe(out, &record));
}

static void next_will(struct model *model, struct prng *prng, struct buffer *out)
{
  struct model_session *session = any_session(model, prng);
  uint8_t payload[MODEL_PAYLOAD_MAX];
  struct record_will will = {.session = session->number};
  if (!session->will || prng_below(prng, 2)) {
    will.topic = span_text("wills/x");
    uint64_t number = 1 + prng_below(prng, 1000);
    will.payload = make_payload(number, 8 + (unsigned)prng_below(prng, 100), payload);
    will.delay_s = 5;
    will.qos = 1;
  }
  assert_ok(record_put_will(out, &will));
}

static bool next_owner(struct model *model, struct prng *prng, struct buffer *out)
{
  struct model_session *session = any_session(model, prng);
  if (session->user[0]) return false;
  struct record_owner record = {.session = session->number, .user = span_text(prng_below(prng, 2) ? "bob" : "carl")};
  assert_ok(record_put_owner(out, &record));
  return true;
}

static void next_received(struct model *model, struct prng *prng, struct buffer *out)
{
  struct model_session *session = any_session(model, prng);
  unsigned id = (unsigned)prng_below(prng, MODEL_IDS);
  struct record_packet_id record = {.session = session->number, .packet_id = (uint16_t)(MODEL_IDS + id)};
  assert_ok(record_put_packet_id(out, session->received[id] ? RECORD_RELEASED : RECORD_RECEIVED, &record));
}

static bool next_other(struct model *model, struct prng *prng, const struct model_mix *mix, struct buffer *out)
{
  struct model_session *session = any_session(model, prng);
  switch (prng_below(prng, 7)) {
    case 0: next_presence(model, prng, out); return true;
    case 1: next_subscription(model, prng, out); return true;
    case 2: next_will(model, prng, out); return true;
    case 3: next_received(model, prng, out); return true;
    case 4: return next_sent(model, prng, out);
    case 5: return next_owner(model, prng, out);
    default:
      if (session_count(model) <= mix->sessions || prng_below(prng, 3)) return false;
      assert_ok(record_put_session_end(out, &(struct record_session_end){.session = session->number}));
      return true;
  }
}

void model_next(struct model *model, struct prng *prng, const struct model_mix *mix, struct buffer *out)
{
  bool room = !model->sessions[model->next_session % MODEL_SESSIONS].exists;
  unsigned count = session_count(model);
  if (count == 0 || (room && count < 2 * mix->sessions && prng_below(prng, 20 * (count + 1)) < 4)) {
    model_put_session(model, out);
    return;
  }
  size_t before = buffer_size(out);
  uint64_t what = prng_below(prng, 100);
  bool made = false;
  if (what >= mix->message_share + mix->done_share) made = next_other(model, prng, mix, out);
  if (what >= mix->message_share && !made) made = next_done(model, prng, out);
  if (!made) next_message(model, prng, mix, out);
  model_apply(model, span_from(buffer_peek(out), before));
}

void model_put_message(struct model *model, uint32_t session, unsigned payload_size, struct buffer *out)
{
  size_t before = buffer_size(out);
  uint8_t payload[MODEL_PAYLOAD_MAX];
  struct buffer targets = {0};
  struct record_target target = {.session = session, .place = (uint32_t)find(model, session)->tail, .qos = 1};
  assert_ok(record_put_target(&targets, &target, NULL));
  struct record_message message = {.qos = 1,
                                   .time_ms = 1000 + model->next_message,
                                   .target_count = 1,
                                   .targets = buffer_peek(&targets),
                                   .topic = span_text("line/1"),
                                   .payload = make_payload(model->next_message, payload_size, payload)};
  assert_ok(record_put_message(out, &message));
  buffer_deinit(&targets);
  model_apply(model, span_from(buffer_peek(out), before));
}

void model_put_done(struct model *model, uint32_t session, uint64_t place, uint32_t count, struct buffer *out)
{
  size_t before = buffer_size(out);
  struct record_done done = {.session = session, .place = place, .count = count, .outcome = OUTCOME_DELIVERED};
  assert_ok(record_put_done(out, &done));
  model_apply(model, span_from(buffer_peek(out), before));
}

// ---- Describing

static void say(struct buffer *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct buffer *out, const char *format, ...)
{
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  assert_true(size >= 0 && (size_t)size < sizeof line);
  assert_ok(buffer_append(out, line, (size_t)size));
}

struct queue_text {
  uint64_t head, tail, waiting, waiting_bytes;
  const uint64_t *outcomes;
};

static void say_session(struct buffer *out, uint32_t number, uint32_t expiry_s, bool connected, uint64_t since_ms,
                        uint64_t sent, const struct queue_text *queue)
{
  say(out, "session %u expiry %u %s", (unsigned)number, (unsigned)expiry_s, connected ? "connected" : "away");
  if (!connected) say(out, " since %llu sent %llu", (unsigned long long)since_ms, (unsigned long long)sent);
  say(out, "\n queue %llu-%llu waiting %llu bytes %llu outcomes", (unsigned long long)queue->head,
      (unsigned long long)queue->tail, (unsigned long long)queue->waiting, (unsigned long long)queue->waiting_bytes);
  for (unsigned i = 0; i < OUTCOMES; i++) say(out, " %llu", (unsigned long long)queue->outcomes[i]);
  say(out, "\n");
}

static void say_entry(struct buffer *out, uint64_t place, bool sent, uint64_t message)
{
  if (sent)
    say(out, " %llu sent\n", (unsigned long long)place);
  else
    say(out, " %llu message %llu\n", (unsigned long long)place, (unsigned long long)message);
}

static void say_subscription(struct buffer *out, const char *filter, size_t filter_size,
                             const struct model_subscription *subscription)
{
  say(out, " filter %.*s id %u qos %u %d %d\n", (int)filter_size, filter, (unsigned)subscription->id,
      (unsigned)subscription->qos, subscription->no_local, subscription->retain_as_published);
}

static void describe_model_session(const struct model_session *session, struct buffer *out)
{
  struct queue_text queue = {.head = session_head(session), .tail = session->tail, .outcomes = session->outcomes};
  for (uint64_t i = queue.head; i < session->tail; i++) {
    if (session->entries[i].state == MODEL_DONE) continue;
    queue.waiting++;
    if (session->entries[i].state == MODEL_WAITING) queue.waiting_bytes += session->entries[i].weight;
  }
  say_session(out, session->number, session->expiry_s, session->connected, session->since_ms, session->sent, &queue);
  for (uint64_t i = queue.head; i < session->tail; i++)
    if (session->entries[i].state != MODEL_DONE)
      say_entry(out, i, session->entries[i].state == MODEL_SENT, session->entries[i].message);
  for (unsigned i = 0; i < MODEL_FILTERS; i++) {
    char filter[32];
    struct span name = filter_name(i, filter);
    if (session->subscriptions[i].exists) say_subscription(out, filter, name.size, &session->subscriptions[i]);
  }
  for (unsigned i = 0; i < MODEL_IDS; i++)
    if (session->received[i]) say(out, " received %u\n", MODEL_IDS + i);
  if (session->will) say(out, " will %llu\n", (unsigned long long)session->will);
  if (session->user[0]) say(out, " user %s\n", session->user);
}

void model_describe(const struct model *model, struct buffer *out)
{
  buffer_consume(out, buffer_size(out));
  for (uint32_t number = 1; number < model->next_session; number++) {
    const struct model_session *session = &model->sessions[number % MODEL_SESSIONS];
    if (session->exists && session->number == number) describe_model_session(session, out);
  }
  for (unsigned i = 0; i < MODEL_TOPICS; i++)
    if (model->retained[i]) say(out, "retained %u message %llu\n", i, (unsigned long long)model->retained[i]);
}

static void describe_queue(struct store *store, const struct catalog_session *session, struct buffer *out)
{
  uint64_t place = session->head;
  while (place < session->tail) {
    struct journal_load load = {
        .session = session->number, .ticket = 5, .place = place, .max_entries = 100, .max_bytes = 20000};
    struct journal_loaded *loaded = store_load(store, &load);
    assert_non_null(loaded);
    assert_int_equal(loaded->ticket, 5);
    struct journal_entry entry;
    size_t count = 0;
    for (size_t cursor = 0; journal_next_entry(loaded, &cursor, &entry); count++) {
      assert_true(entry.place >= place);
      if (entry.state == LOADED_DAMAGED)
        say(out, " %llu damaged\n", (unsigned long long)entry.place);
      else
        say_entry(out, entry.place, entry.state == LOADED_SENT,
                  entry.state == LOADED_SENT ? 0 : payload_number(entry.message.payload));
    }
    assert_int_equal(count, loaded->count);
    assert_true(loaded->next > place);
    place = loaded->next;
    journal_loaded_free(loaded);
  }
}

static void describe_subscriptions(const struct catalog_session *session, struct buffer *out)
{
  size_t found = 0;
  for (unsigned i = 0; i < MODEL_FILTERS; i++) {
    char filter[32];
    struct span name = filter_name(i, filter);
    for (size_t j = 0; j < session->subscription_count; j++) {
      const struct catalog_subscription *is = session->subscriptions[j];
      if (!span_equal(name, span_of(is->filter, is->filter_size))) continue;
      struct model_subscription subscription = {
          .id = is->id, .qos = is->qos, .no_local = is->no_local, .retain_as_published = is->retain_as_published};
      say_subscription(out, filter, name.size, &subscription);
      found++;
    }
  }
  assert_int_equal(found, session->subscription_count);
}

static void describe_will(struct store *store, const struct catalog_session *session, struct buffer *out)
{
  struct record_header header;
  struct span body;
  struct record_will will;
  if (journal_log_read(store_log(store), session->will_position, &header, &body) || !record_get_will(body, &will))
    say(out, " will damaged\n");
  else
    say(out, " will %llu\n", (unsigned long long)payload_number(will.payload));
}

static void describe_store_session(struct store *store, const struct catalog_session *session, struct buffer *out)
{
  struct queue_text queue = {.head = session->head,
                             .tail = session->tail,
                             .waiting = session->waiting,
                             .waiting_bytes = session->waiting_bytes,
                             .outcomes = session->outcomes};
  say_session(out, session->number, session->expiry_s, session->connected, session->since_ms, session->sent, &queue);
  describe_queue(store, session, out);
  describe_subscriptions(session, out);
  for (unsigned i = 0; i < MODEL_IDS; i++)
    for (size_t j = 0; j < session->received_count; j++)
      if (session->received[j] == MODEL_IDS + i) say(out, " received %u\n", MODEL_IDS + i);
  if (session->will_position) describe_will(store, session, out);
  struct span user = catalog_owner(session);
  if (user.size > 0) say(out, " user %.*s\n", (int)user.size, (const char *)user.at);
}

static void describe_retained(struct store *store, struct buffer *out)
{
  const struct catalog *catalog = store_catalog(store);
  for (unsigned i = 0; i < MODEL_TOPICS; i++) {
    char topic[32];
    struct span name = topic_name(i, topic);
    size_t cursor = 0;
    const struct catalog_retained *retained;
    while ((retained = map_next(&catalog->retained, &cursor))) {
      if (!span_equal(name, span_of(retained->topic, retained->topic_size))) continue;
      struct record_header header;
      struct span body;
      struct record_message message;
      if (journal_log_read(store_log(store), retained->position, &header, &body) || !record_get_message(body, &message))
        say(out, "retained %u damaged\n", i);
      else
        say(out, "retained %u message %llu\n", i, (unsigned long long)payload_number(message.payload));
    }
  }
}

void store_describe(struct store *store, struct buffer *out)
{
  buffer_consume(out, buffer_size(out));
  const struct catalog *catalog = store_catalog(store);
  size_t found = 0;
  for (uint32_t number = 1; number < catalog->next_session; number++) {
    const struct catalog_session *session = catalog_find(catalog, number);
    if (session) describe_store_session(store, session, out);
    found += session != NULL;
  }
  assert_int_equal(found, catalog->sessions.count);
  describe_retained(store, out);
}

uint64_t text_hash(const struct buffer *text)
{
  uint64_t hash = UINT64_C(14695981039346656037);
  struct span bytes = buffer_peek(text);
  for (size_t i = 0; i < bytes.size; i++) hash = (hash ^ bytes.at[i]) * UINT64_C(1099511628211);
  return hash;
}
