#include "bench.h"

#include "core/shard_internal.h"

static struct connection_origin origin_of(const struct bench *bench)
{
  return (struct connection_origin){.address = "192.0.2.1:1000",
                                    .anonymous = !bench->authenticate,
                                    .authenticate = bench->authenticate,
                                    .limits = bench->limits_number};
}

// ---- The broker

static void remember_event(void *context, enum log_level level, const char *event, const struct log_field *fields,
                           size_t count)
{
  struct bench *bench = context;
  (void)level;
  (void)fields;
  (void)count;
  snprintf(bench->events[bench->event_count++ % BENCH_EVENTS], sizeof bench->events[0], "%s", event);
}

bool bench_logged(const struct bench *bench, const char *event)
{
  for (size_t i = 0; i < BENCH_EVENTS; i++)
    if (strcmp(bench->events[i], event) == 0) return true;
  return false;
}

static void free_exchange(struct enhanced *exchange)
{
  ++*exchange->freed;
  free(exchange);
}

struct enhanced *bench_exchange(unsigned *freed)
{
  struct enhanced *exchange = malloc(sizeof *exchange);
  assert_non_null(exchange);
  exchange->freed = freed;
  return exchange;
}

static void create_shards(struct bench *bench)
{
  for (uint8_t i = 0; i < bench->shard_count; i++) {
    log_init(&bench->logs[i], remember_event, bench, LOG_DEBUG);
    struct shard_settings settings = {.shard = i,
                                      .shard_count = bench->shard_count,
                                      .limits = bench->limits,
                                      .seed = 99,
                                      .budget = &bench->budget,
                                      .log = &bench->logs[i],
                                      .journal = bench->store,
                                      .journal_waits = bench->journal_waits,
                                      .journal_epoch_ms = bench->epoch_ms,
                                      .journal_high_bytes = 16 << 20,
                                      .free_enhanced = free_exchange};
    bench->shards[i] = shard_create(&settings, bench->now);
    assert_non_null(bench->shards[i]);
  }
}

static void init(struct bench *bench, uint8_t shard_count, const struct limits *limits)
{
  *bench = (struct bench){.shard_count = shard_count,
                          .limits = limits ? *limits : limits_default(),
                          .budget = {.limit_bytes = INT64_MAX},
                          .now = {1000},
                          .scratch_size = BENCH_SCRATCH};
}

void bench_init(struct bench *bench, uint8_t shard_count, const struct limits *limits)
{
  init(bench, shard_count, limits);
  create_shards(bench);
}

void bench_init_journal(struct bench *bench, uint8_t shard_count, const struct limits *limits, bool waits)
{
  init(bench, shard_count, limits);
  bench->store = malloc(sizeof *bench->store);
  assert_non_null(bench->store);
  store_bench_init(bench->store);
  bench->journal_waits = waits;
  bench->epoch_ms = UINT64_C(1000000000);
  create_shards(bench);
}

static void forget_question(struct authentication *question)
{
  if (question->enhanced) free_exchange(question->enhanced);
  question->enhanced = NULL;
  authentication_free(question);
}

static void destroy_shards(struct bench *bench)
{
  for (struct authentication *question; (question = bench->questions);) {
    bench->questions = question->next;
    forget_question(question);
  }
  for (uint8_t i = 0; i < bench->shard_count; i++) shard_destroy(bench->shards[i]);
  assert_int_equal(bench->budget.used_bytes, 0);
}

void bench_deinit(struct bench *bench)
{
  destroy_shards(bench);
  if (bench->store) store_bench_deinit(bench->store);
  free(bench->store);
  for (struct client *client = bench->clients, *next; client; client = next) {
    next = client->next;
    buffer_deinit(&client->outgoing);
    buffer_deinit(&client->incoming);
    free(client->packet_bytes);
    free(client);
  }
}

static struct bench *allocate(void **state)
{
  assert_null(*state);
  *state = malloc(sizeof(struct bench));
  assert_non_null(*state);
  return *state;
}

struct bench *bench_make(void **state, uint8_t shard_count, const struct limits *limits)
{
  struct bench *bench = allocate(state);
  bench_init(bench, shard_count, limits);
  return bench;
}

struct bench *bench_make_journal(void **state, uint8_t shard_count, const struct limits *limits, bool waits)
{
  struct bench *bench = allocate(state);
  bench_init_journal(bench, shard_count, limits, waits);
  return bench;
}

int bench_free(void **state)
{
  bench_deinit(*state);
  free(*state);
  return 0;
}

void bench_set_limits(struct bench *bench, const struct limits *limits)
{
  bench->limits = *limits;
  for (uint8_t i = 0; i < bench->shard_count; i++) shard_set_limits(bench->shards[i], limits);
}

void bench_set_listener_limits(struct bench *bench, uint8_t number, const struct limits *limits)
{
  for (uint8_t i = 0; i < bench->shard_count; i++) shard_set_listener_limits(bench->shards[i], number, limits);
  bench_run(bench);
}

static uint64_t sum(const uint64_t *values, size_t count)
{
  uint64_t total = 0;
  for (size_t i = 0; i < count; i++) total += values[i];
  return total;
}

static void check_balance(const struct counters *c)
{
  assert_int_equal(c->publish_received, c->publish_routed + c->publish_unrouted + sum(c->publish_refused, REFUSE_REASONS));
  assert_int_equal(c->copies,
                   c->delivered + c->copies_queued + c->copies_in_flight + c->expired + sum(c->dropped, DROP_REASONS));
  if (c->copies_queued == 0) assert_int_equal(c->queued_bytes, 0);
  assert_true(c->connections < 1u << 31);
  assert_true(c->subscriptions < 1u << 31);
  assert_true(c->shared_subscriptions < 1u << 31);
  assert_true(c->paused_connections <= c->connections);
}

struct counters bench_counters(const struct bench *bench)
{
  struct counters total = {0};
  for (uint8_t i = 0; i < bench->shard_count; i++) {
    struct counters one;
    shard_counters(bench->shards[i], &one);
    check_balance(&one);
    counters_add(&total, &one);
  }
  return total;
}

void bench_id_on(const struct bench *bench, uint8_t shard, unsigned *number, char out[16])
{
  do snprintf(out, 16, "c%u", (*number)++);
  while (shard_owner(bench->shards[0], span_text(out)) != shard);
}

void bench_new_id(struct bench *bench, uint8_t shard, char out[16])
{
  bench_id_on(bench, shard, &bench->id_number, out);
}

// ---- Moving things

static bool carry_mails(struct bench *bench)
{
  bool moved = false;
  for (uint8_t from = 0; from < bench->shard_count; from++) {
    for (uint8_t to = 0; to < bench->shard_count; to++) {
      if (from == to || bench->hold[from][to]) continue;
      size_t count;
      struct mail *mails = shard_outgoing(bench->shards[from], to, &count);
      if (bench->carry && count > bench->carry) count = bench->carry;
      struct mail taken[256];
      if (count > 256) count = 256;
      for (size_t i = 0; i < count; i++) taken[i] = mails[i];
      shard_outgoing_taken(bench->shards[from], to, count);
      for (size_t i = 0; i < count; i++) {
        assert_int_equal(taken[i].from, from);
        shard_mail(bench->shards[to], &taken[i]);
      }
      moved |= count > 0;
    }
  }
  return moved;
}

static void close_transport(struct client *client)
{
  client->by_broker = true;
  shard_closed(client->bench->shards[client->shard], client->connection);
  client->connection = NULL;
}

// Memory of exactly the size, so that a sanitizer sees a write beyond it.
static void write_output(struct client *client)
{
  struct bench *bench = client->bench;
  struct shard *shard = bench->shards[client->shard];
  uint8_t *scratch = malloc(bench->scratch_size);
  assert_non_null(scratch);
  while (!client->stalled) {
    struct output out;
    size_t size = connection_output(shard, client->connection, scratch, bench->scratch_size, &out);
    assert_int_equal(size, out.parts[0].size + out.parts[1].size);
    if (size == 0) break;
    size_t chunk = client->write_chunk && client->write_chunk < size ? client->write_chunk : size;
    size_t first = chunk < out.parts[0].size ? chunk : out.parts[0].size;
    assert_ok(buffer_append(&client->incoming, out.parts[0].at, first));
    assert_ok(buffer_append(&client->incoming, out.parts[1].at, chunk - first));
    bool owes = client->connection->state == CLOSING && client->connection->held;
    unsigned wants = connection_sent(shard, client->connection, chunk);
    if (wants & CONNECTION_CLOSE) {
      assert_int_equal(chunk, size);
      close_transport(client);
      break;
    }
    assert_true(wants == (chunk < size ? 0 : CONNECTION_OUTPUT) || (owes && wants == 0));
  }
  free(scratch);
}

static void migrate(struct client *client)
{
  struct bench *bench = client->bench;
  uint8_t *input;
  size_t size;
  struct connection_origin origin = origin_of(bench);
  origin.admission = connection_take_admission(client->connection);
  uint8_t to = shard_detach(bench->shards[client->shard], client->connection, &input, &size);
  assert_int_not_equal(to, client->shard);
  client->shard = to;
  client->connection = shard_adopt(bench->shards[to], client, &origin, span_of(input, size));
  assert_non_null(client->connection);
  free(input);
}

// Returns false when there was nothing to do.
static bool offer_input(struct client *client, bool resume)
{
  size_t size = buffer_size(&client->outgoing);
  if (!client->connection || (!resume && (client->paused || size == 0))) return false;
  if (resume) size = 0;
  if (client->read_chunk && size > client->read_chunk) size = client->read_chunk;
  // A copy of its own, so that a sanitizer sees every read beyond it.
  uint8_t *bytes = malloc(size ? size : 1);
  assert_non_null(bytes);
  if (size) memcpy(bytes, buffer_peek(&client->outgoing).at, size);
  size_t taken = size + 1;
  client->paused = false;
  struct shard *shard = client->bench->shards[client->shard];
  enum receive_result result = shard_receive(shard, client->connection, span_of(bytes, size), &taken);
  assert_true(taken <= size);
  free(bytes);
  buffer_consume(&client->outgoing, taken);
  switch (result) {
    case RECEIVE_OK: assert_int_equal(taken, size); break;
    case RECEIVE_YIELD:
      client->bench->yields++;
      client->yielded = true;
      break;
    case RECEIVE_PAUSED:
      assert_int_equal(taken, size);
      client->paused = true;
      break;
    case RECEIVE_MIGRATE:
      assert_int_equal(taken, size);
      migrate(client);
      break;
    case RECEIVE_CLOSING: buffer_consume(&client->outgoing, buffer_size(&client->outgoing)); break;
  }
  return true;
}

static bool give_attention(struct bench *bench, uint8_t shard)
{
  bool any = false;
  unsigned wants;
  for (struct connection *connection; (connection = shard_next_attention(bench->shards[shard], &wants));) {
    struct client *client = connection_transport(connection);
    assert_ptr_equal(client->connection, connection);
    assert_int_equal(client->shard, shard);
    assert_int_not_equal(wants, 0);
    any = true;
    if (wants & CONNECTION_CLOSE) {
      assert_int_equal(wants, CONNECTION_CLOSE);
      close_transport(client);
      continue;
    }
    if (wants & CONNECTION_OUTPUT) write_output(client);
    if (client->connection && wants & CONNECTION_RESUME) offer_input(client, true);
  }
  return any;
}

static bool offer_inputs(struct bench *bench)
{
  bool moved = false;
  for (struct client *client = bench->clients; client; client = client->next) {
    if (client->yielded) {
      client->yielded = false;
      if (buffer_size(&client->outgoing) == 0) moved |= offer_input(client, true);
    }
    moved |= offer_input(client, false);
  }
  return moved;
}

// ---- Questions

const struct authentication *bench_question(const struct bench *bench)
{
  assert_non_null(bench->questions);
  return bench->questions;
}

static void hand_back(struct bench *bench, const struct answer *answer)
{
  struct authentication *question = bench->questions;
  assert_non_null(question);
  bench->questions = question->next;
  question->next = NULL;
  question->reason = answer->reason;
  question->expires = answer->expires;
  if (answer->reason != MQTT_SUCCESS && answer->reason != MQTT_CONTINUE_AUTHENTICATION) question->why = "the test says so";
  if (answer->reason == MQTT_SUCCESS) {
    struct identity identity = {.method = "test",
                                .user = span_text(answer->user ? answer->user : ""),
                                .listener = span_text("listener"),
                                .expires_ms = answer->expires.ms ? 1 : 0};
    question->identity = identity_create(&identity);
    assert_non_null(question->identity);
  }
  if (answer->data) {
    question->answer_size = strlen(answer->data);
    question->answer = malloc(question->answer_size);
    assert_non_null(question->answer);
    memcpy(question->answer, answer->data, question->answer_size);
  }
  if (question->enhanced && question->enhanced != answer->enhanced) free_exchange(question->enhanced);
  question->enhanced = answer->enhanced;
  const uint8_t *shard = question->driver;
  shard_authenticated(bench->shards[*shard], question);
}

void bench_answer(struct bench *bench, const struct answer *answer)
{
  hand_back(bench, answer);
  bench_run(bench);
}

static bool take_questions(struct bench *bench)
{
  bool any = false;
  for (uint8_t i = 0; i < bench->shard_count; i++) {
    for (struct authentication *question; (question = shard_next_authentication(bench->shards[i]));) {
      any = true;
      assert_null(question->next);
      bench->numbers[i] = i;
      question->driver = &bench->numbers[i];
      struct authentication **end = &bench->questions;
      while (*end) end = &(*end)->next;
      *end = question;
    }
  }
  while (bench->believe && bench->questions) {
    char user[64];
    snprintf(user, sizeof user, "%.*s", (int)bench->questions->user.size, (const char *)bench->questions->user.at);
    hand_back(bench, &(struct answer){.user = user});
  }
  return any;
}

// ---- The journal

static bool commit(struct bench *bench, size_t count)
{
  if (!store_bench_commit(bench->store, count)) return false;
  shard_committed(bench->shards[JOURNAL_SHARD], store_bench_committed(bench->store));
  return true;
}

static bool answer_load(struct bench *bench)
{
  struct journal_loaded *answer = store_bench_next_answer(bench->store);
  if (!answer) return false;
  shard_loaded(bench->shards[JOURNAL_SHARD], answer);
  return true;
}

static bool serve_journal(struct bench *bench)
{
  struct store_bench *store = bench->store;
  if (!store) return false;
  bool moved = false;
  struct journal_batch *batch = store->hold_batches ? NULL : shard_take_batch(bench->shards[JOURNAL_SHARD]);
  if (batch) store_bench_take(store, batch);
  if (batch) store->end_ms = bench->epoch_ms + bench->now.ms;
  struct journal_load load;
  while (shard_next_load(bench->shards[JOURNAL_SHARD], &load)) store_bench_load(store, &load);
  if (!store->hold_commits) moved |= commit(bench, SIZE_MAX);
  while (!store->hold_loads && answer_load(bench)) moved = true;
  return moved || batch;
}

void bench_commit(struct bench *bench, size_t count)
{
  commit(bench, count);
  bench_run(bench);
}

void bench_answer_load(struct bench *bench)
{
  assert_true(answer_load(bench));
  bench_run(bench);
}

void bench_journal_state(struct bench *bench, enum journal_state state)
{
  bench->store->hold_commits = state != JOURNAL_OK;
  for (uint8_t i = 0; i < bench->shard_count; i++) shard_set_journal_state(bench->shards[i], state);
  bench_run(bench);
}

static void check_session(const struct store_bench *store, const struct session *session)
{
  const struct stored_session *stored = store_bench_numbered(store, session->durable->number);
  assert_non_null(stored);
  assert_true(span_equal(stored->client_id, session_id(session)));
  assert_true(span_equal(stored->user, owner_of(session)));
  assert_int_equal(stored->connected, session->connection != NULL);
  assert_int_equal(stored->expiry_s, session->expiry_s);
  assert_int_equal(stored->tail, session->durable->next);
  assert_int_equal(stored->waiting, session->waiting + session->window.count);
  assert_int_equal(stored->subscription_count, session->subscription_count);
  assert_int_equal(stored->received_count, session->received.count);
  assert_int_equal(stored->will.size > 0, session->will != NULL);
}

// What the store knows is what the shard knows.
static void check_store(const struct bench *bench)
{
  const struct store_bench *store = bench->store;
  if (!store || store->hold_batches || store->load_count > 0 || !store_bench_all_safe(store)) return;
  const struct shard *shard = bench->shards[JOURNAL_SHARD];
  size_t cursor = 0, count = 0;
  for (const struct session *session; (session = map_next(&shard->sessions, &cursor));) {
    if (!session->durable) continue;
    check_session(store, session);
    count++;
  }
  for (size_t i = 0; i < store->session_count; i++) count -= !store->sessions[i].ended;
  assert_int_equal(count, 0);
  assert_int_equal(shard->journal.pending_bytes, 0);
}

// A restart

static void restore_session(struct bench *bench, struct stored_session *stored)
{
  struct restored_session restored;
  struct record_will will;
  store_bench_describe(bench->store, stored, &restored);
  if (stored->will.size) {
    assert_true(record_get_will(stored->will, &will));
    restored.will = &will;
  }
  struct session *session = shard_restore_session(bench->shards[JOURNAL_SHARD], &restored);
  assert_non_null(session);
  for (size_t i = 0; i < stored->subscription_count; i++)
    assert_ok(shard_restore_subscription(bench->shards[JOURNAL_SHARD], session, &stored->subscriptions[i]));
  stored->since_ms = restored.since_ms;
  stored->sent = restored.sent;
  stored->connected = false;
}

static void restore(struct bench *bench)
{
  struct store_bench *store = bench->store;
  uint32_t next_session = 1;
  for (size_t i = 0; i < store->session_count; i++) {
    struct stored_session *stored = &store->sessions[i];
    next_session = stored->number + 1;
    if (!stored->ended) restore_session(bench, stored);
  }
  for (size_t i = 0; i < store->retained_count; i++) {
    struct record_message message;
    assert_true(record_get_message(store->retained[i].message, &message));
    for (uint8_t k = 0; k < bench->shard_count; k++) assert_ok(shard_restore_retained(bench->shards[k], &message));
  }
  for (uint8_t k = 0; k < bench->shard_count; k++) shard_restore_done(bench->shards[k], next_session);
}

void bench_crash(struct bench *bench, uint64_t down_ms)
{
  for (struct client *client = bench->clients; client; client = client->next) {
    client->connection = NULL;
    buffer_consume(&client->outgoing, buffer_size(&client->outgoing));
    buffer_consume(&client->incoming, buffer_size(&client->incoming));
  }
  destroy_shards(bench);
  store_bench_crash(bench->store);
  uint64_t journal_ms = bench->epoch_ms + bench->now.ms + down_ms;
  bench->now = (struct mono){1000};
  bench->epoch_ms = journal_ms - bench->now.ms;
  bench->store->end_ms = journal_ms;  // whoever was connected is away from now on
  create_shards(bench);
  restore(bench);
  bench_run(bench);
}

void bench_run(struct bench *bench)
{
  bool moved = true;
  for (unsigned rounds = 0; moved; rounds++) {
    assert_true(rounds < 2000000);
    for (uint8_t i = 0; i < bench->shard_count; i++) shard_set_time(bench->shards[i], bench->now);
    moved = offer_inputs(bench);
    for (uint8_t i = 0; i < bench->shard_count; i++) {
      shard_tick(bench->shards[i]);
      moved |= give_attention(bench, i);
    }
    moved |= take_questions(bench);
    moved |= carry_mails(bench);
    moved |= serve_journal(bench);
  }
  (void)bench_counters(bench);
  check_store(bench);
}

static int64_t next_ms(const struct bench *bench)
{
  int64_t next = -1;
  for (uint8_t i = 0; i < bench->shard_count; i++) {
    int64_t one = shard_next_ms(bench->shards[i]);
    if (one >= 0 && (next < 0 || one < next)) next = one;
  }
  return next;
}

void bench_advance(struct bench *bench, uint64_t ms)
{
  bench_run(bench);
  uint64_t target = bench->now.ms + ms;
  while (bench->now.ms < target) {
    int64_t next = next_ms(bench);
    uint64_t left = target - bench->now.ms;
    uint64_t step = next > 0 ? (uint64_t)next : next == 0 ? 1 : left;
    bench->now.ms += step < left ? step : left;
    bench_run(bench);
  }
}

// ---- Clients: bytes

struct client *client_open(struct bench *bench, enum mqtt_version version, uint8_t shard)
{
  struct client *client = calloc(1, sizeof *client);
  assert_non_null(client);
  client->bench = bench;
  client->version = version;
  client->shard = shard;
  client->next_id = 1;
  client->next = bench->clients;
  bench->clients = client;
  struct connection_origin origin = origin_of(bench);
  client->connection = shard_open(bench->shards[shard], client, &origin);
  assert_non_null(client->connection);
  assert_ptr_equal(connection_transport(client->connection), client);
  return client;
}

void client_queue_bytes(struct client *client, const void *bytes, size_t size)
{
  assert_ok(buffer_append(&client->outgoing, bytes, size));
}

void client_send_bytes(struct client *client, const void *bytes, size_t size)
{
  client_queue_bytes(client, bytes, size);
  bench_run(client->bench);
}

void client_queue(struct client *client, const struct mqtt_packet *packet)
{
  size_t size = mqtt_encoded_size(client->version, packet);
  assert_true(size > 0);
  uint8_t *room = buffer_reserve(&client->outgoing, size);
  assert_non_null(room);
  assert_int_equal(mqtt_encode(client->version, packet, room, size), size);
  buffer_commit(&client->outgoing, size);
}

void client_send(struct client *client, const struct mqtt_packet *packet)
{
  client_queue(client, packet);
  bench_run(client->bench);
}

void client_drop(struct client *client)
{
  assert_non_null(client->connection);
  shard_closed(client->bench->shards[client->shard], client->connection);
  client->connection = NULL;
  bench_run(client->bench);
}

void client_disconnect(struct client *client, enum mqtt_reason reason)
{
  client_send(client, &(struct mqtt_packet){.type = MQTT_DISCONNECT, .disconnect = {.reason = reason}});
  client_expect_closed(client);
}

void client_unstall(struct client *client)
{
  client->stalled = false;
  if (client->connection) write_output(client);
  bench_run(client->bench);
}

size_t client_waiting(const struct client *client)
{
  return buffer_size(&client->incoming);
}

// ---- Clients: what they expect

const struct mqtt_packet *client_expect(struct client *client, enum mqtt_packet_type type)
{
  struct span in = buffer_peek(&client->incoming);
  struct mqtt_fixed_header header = {0};
  if (mqtt_fixed_header(in, &header) != MQTT_HEADER_OK) fail_msg("nothing came instead of %s", mqtt_packet_name(type));
  size_t size = header.size + (size_t)header.remaining;
  assert_true(in.size >= size);
  free(client->packet_bytes);
  client->packet_bytes = malloc(size);
  assert_non_null(client->packet_bytes);
  memcpy(client->packet_bytes, in.at, size);
  buffer_consume(&client->incoming, size);
  struct mqtt_fault fault;
  struct span body = span_of(client->packet_bytes + header.size, header.remaining);
  if (!mqtt_decode(client->version, MQTT_FROM_SERVER, header.first, body, &client->packet, &fault))
    fail_msg("a %s that cannot be decoded: %s", mqtt_packet_name(header.first >> 4), fault.text);
  if (client->packet.type != type)
    fail_msg("%s instead of %s", mqtt_packet_name(client->packet.type), mqtt_packet_name(type));
  client->packet_size = size;
  return &client->packet;
}

const struct mqtt_publish *client_expect_publish(struct client *client, const char *topic, const char *payload)
{
  const struct mqtt_publish *publish = &client_expect(client, MQTT_PUBLISH)->publish;
  if (!span_equal(publish->topic, span_text(topic)) || !span_equal(publish->payload, span_text(payload)))
    fail_msg("%.*s '%.*s' instead of %s '%s'", (int)publish->topic.size, (const char *)publish->topic.at,
             (int)publish->payload.size, (const char *)publish->payload.at, topic, payload);
  return publish;
}

void client_expect_ack(struct client *client, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason)
{
  const struct mqtt_packet *packet = client_expect(client, type);
  assert_int_equal(packet->ack.packet_id, packet_id);
  assert_int_equal(packet->ack.reason, reason);
}

void client_expect_nothing(struct client *client)
{
  if (client_waiting(client) > 0)
    fail_msg("%s instead of nothing", mqtt_packet_name(buffer_peek(&client->incoming).at[0] >> 4));
}

void client_expect_closed(struct client *client)
{
  client_expect_nothing(client);
  assert_null(client->connection);
  assert_true(client->by_broker);
}

void client_expect_disconnect(struct client *client, enum mqtt_reason reason)
{
  if (client->version == MQTT_5_0) assert_int_equal(client_expect(client, MQTT_DISCONNECT)->disconnect.reason, reason);
  client_expect_closed(client);
}

void client_expect_refused(struct client *client, enum mqtt_reason reason)
{
  const struct mqtt_connack *connack = &client_expect(client, MQTT_CONNACK)->connack;
  assert_int_equal(connack->reason, reason);
  assert_false(connack->session_present);
  client_expect_closed(client);
}

// ---- Clients: exchanges

void property_set(struct mqtt_properties *properties, enum mqtt_property property)
{
  properties->present |= UINT64_C(1) << property;
}

struct mqtt_packet connect_packet(enum mqtt_version version, const char *id)
{
  return (struct mqtt_packet){
      .type = MQTT_CONNECT,
      .connect = {.version = version, .clean_start = true, .keep_alive_s = 600, .client_id = span_text(id)}};
}

const struct mqtt_connack *client_connect_packet(struct client *client, const struct mqtt_packet *packet)
{
  client_send(client, packet);
  const struct mqtt_connack *connack = &client_expect(client, MQTT_CONNACK)->connack;
  assert_int_equal(connack->reason, MQTT_SUCCESS);
  assert_non_null(client->connection);
  return connack;
}

const struct mqtt_connack *client_connect(struct client *client, const char *id, bool clean_start, uint32_t expiry_s)
{
  struct mqtt_packet packet = connect_packet(client->version, id);
  packet.connect.clean_start = clean_start;
  if (expiry_s) {
    property_set(&packet.connect.properties, MQTT_PROPERTY_SESSION_EXPIRY);
    packet.connect.properties.session_expiry_s = expiry_s;
  }
  return client_connect_packet(client, &packet);
}

struct client *client_new(struct bench *bench, enum mqtt_version version, const char *id)
{
  struct client *client = client_open(bench, version, 0);
  assert_false(client_connect(client, id, true, 0)->session_present);
  return client;
}

struct client *client_lasting(struct bench *bench, enum mqtt_version version, const char *id)
{
  struct client *client = client_open(bench, version, 0);
  client_connect(client, id, false, 3600);
  return client;
}

void client_queue_subscribe(struct client *client, const struct sub *subs, size_t count)
{
  uint8_t *payload = calloc(count, 3 + 65535);
  assert_non_null(payload);
  size_t size = 0;
  for (size_t i = 0; i < count; i++) {
    size_t length = strlen(subs[i].filter);
    payload[size++] = (uint8_t)(length >> 8);
    payload[size++] = (uint8_t)length;
    memcpy(payload + size, subs[i].filter, length);
    size += length;
    unsigned options = subs[i].qos;
    if (client->version == MQTT_5_0)
      options |=
          (subs[i].no_local ? 4u : 0) | (subs[i].retain_as_published ? 8u : 0) | (unsigned)subs[i].retain_handling << 4;
    payload[size++] = (uint8_t)options;
  }
  struct mqtt_packet packet = {
      .type = MQTT_SUBSCRIBE,
      .subscribe = {.packet_id = client->next_id++, .count = (uint32_t)count, .payload = span_of(payload, size)}};
  if (subs[0].id) {
    property_set(&packet.subscribe.properties, MQTT_PROPERTY_SUBSCRIPTION_ID);
    packet.subscribe.properties.subscription_id = subs[0].id;
  }
  client_queue(client, &packet);
  free(payload);
}

// Moves the first packet of the type to the front: messages may come before the SUBACK of their subscription
// (5.0 section 3.8.4).
static void bring_forward(struct client *client, enum mqtt_packet_type type)
{
  struct span in = buffer_peek(&client->incoming);
  struct mqtt_fixed_header header = {0};
  for (size_t at = 0; mqtt_fixed_header(span_from(in, at), &header) == MQTT_HEADER_OK;) {
    size_t size = header.size + (size_t)header.remaining;
    if (header.first >> 4 != type) {
      at += size;
      continue;
    }
    struct buffer ordered = {0};
    assert_ok(buffer_append(&ordered, in.at + at, size));
    assert_ok(buffer_append(&ordered, in.at, at));
    assert_ok(buffer_append(&ordered, in.at + at + size, in.size - at - size));
    buffer_deinit(&client->incoming);
    client->incoming = ordered;
    return;
  }
}

void client_subscribe_with(struct client *client, const struct sub *sub, enum mqtt_reason expected)
{
  client_queue_subscribe(client, sub, 1);
  bench_run(client->bench);
  bring_forward(client, MQTT_SUBACK);
  const struct mqtt_suback *suback = &client_expect(client, MQTT_SUBACK)->suback;
  assert_int_equal(suback->packet_id, client->next_id - 1);
  assert_int_equal(suback->codes.size, 1);
  assert_int_equal(suback->codes.at[0], expected);
}

void client_subscribe(struct client *client, const char *filter, uint8_t qos)
{
  client_subscribe_with(client, &(struct sub){.filter = filter, .qos = qos}, (enum mqtt_reason)qos);
}

void client_expect_codes(struct client *client, const struct sub *subs, const uint8_t *codes, size_t count)
{
  const struct mqtt_suback *suback = &client_expect(client, MQTT_SUBACK)->suback;
  assert_int_equal(suback->codes.size, count);
  for (size_t i = 0; i < count; i++)
    if (suback->codes.at[i] != codes[i]) fail_msg("%s: %#x", subs[i].filter, suback->codes.at[i]);
}

enum mqtt_reason client_unsubscribe(struct client *client, const char *filter)
{
  size_t length = strlen(filter);
  uint8_t *payload = malloc(2 + length);
  assert_non_null(payload);
  payload[0] = (uint8_t)(length >> 8);
  payload[1] = (uint8_t)length;
  memcpy(payload + 2, filter, length);
  struct mqtt_packet packet = {
      .type = MQTT_UNSUBSCRIBE,
      .unsubscribe = {.packet_id = client->next_id++, .count = 1, .payload = span_of(payload, 2 + length)}};
  client_send(client, &packet);
  free(payload);
  const struct mqtt_suback *unsuback = &client_expect(client, MQTT_UNSUBACK)->suback;
  assert_int_equal(unsuback->packet_id, client->next_id - 1);
  return client->version == MQTT_5_0 ? (enum mqtt_reason)unsuback->codes.at[0] : MQTT_SUCCESS;
}

static uint16_t next_id(struct client *client)
{
  uint16_t id = client->next_id++;
  if (client->next_id == 0) client->next_id = 1;
  return id;
}

struct mqtt_packet publish_packet(struct client *client, const char *topic, const char *payload, uint8_t qos)
{
  return (struct mqtt_packet){
      .type = MQTT_PUBLISH,
      .publish = {
          .qos = qos, .packet_id = qos ? next_id(client) : 0, .topic = span_text(topic), .payload = span_text(payload)}};
}

void client_ack(struct client *client, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason)
{
  client_send(client, &(struct mqtt_packet){.type = type, .ack = {.packet_id = packet_id, .reason = reason}});
}

static enum mqtt_reason expect_answer(struct client *client, enum mqtt_packet_type type, uint16_t packet_id)
{
  const struct mqtt_packet *packet = client_expect(client, type);
  assert_int_equal(packet->ack.packet_id, packet_id);
  return packet->ack.reason;
}

uint16_t client_send_publish(struct client *client, const char *topic, const char *payload, uint8_t qos, bool retain)
{
  struct mqtt_packet packet = publish_packet(client, topic, payload, qos);
  packet.publish.retain = retain;
  client_send(client, &packet);
  return packet.publish.packet_id;
}

void client_publish(struct client *client, const char *topic, const char *payload, uint8_t qos, bool retain)
{
  uint16_t id = client_send_publish(client, topic, payload, qos, retain);
  if (qos == 1) assert_true(expect_answer(client, MQTT_PUBACK, id) < MQTT_UNSPECIFIED_ERROR);
  if (qos != 2) return;
  assert_true(expect_answer(client, MQTT_PUBREC, id) < MQTT_UNSPECIFIED_ERROR);
  client_ack(client, MQTT_PUBREL, id, MQTT_SUCCESS);
  client_expect_ack(client, MQTT_PUBCOMP, id, MQTT_SUCCESS);
}

void client_take(struct client *client, const char *topic, const char *payload, uint8_t qos)
{
  const struct mqtt_publish *publish = client_expect_publish(client, topic, payload);
  assert_int_equal(publish->qos, qos);
  uint16_t id = publish->packet_id;
  if (qos == 1) client_ack(client, MQTT_PUBACK, id, MQTT_SUCCESS);
  if (qos != 2) return;
  client_ack(client, MQTT_PUBREC, id, MQTT_SUCCESS);
  client_expect_ack(client, MQTT_PUBREL, id, MQTT_SUCCESS);
  client_ack(client, MQTT_PUBCOMP, id, MQTT_SUCCESS);
}

struct client *client_new_on(struct bench *bench, enum mqtt_version version, uint8_t shard)
{
  char id[16];
  bench_new_id(bench, shard, id);
  return client_new(bench, version, id);
}

struct client *client_subscribed(struct bench *bench, enum mqtt_version version, const char *id, const char *filter,
                                 uint8_t qos)
{
  struct client *client = client_new(bench, version, id);
  client_subscribe(client, filter, qos);
  return client;
}

struct client *client_durable(struct bench *bench, const char *id, const char *filter, uint8_t qos)
{
  struct client *client = client_lasting(bench, MQTT_5_0, id);
  client_subscribe(client, filter, qos);
  return client;
}

struct client *client_back(struct bench *bench, const char *id)
{
  struct client *client = client_open(bench, MQTT_5_0, 0);
  assert_true(client_connect(client, id, false, 3600)->session_present);
  return client;
}

// ---- Numbered messages

struct number {
  char text[16];
};

static struct number number_text(unsigned value)
{
  struct number number;
  snprintf(number.text, sizeof number.text, "%u", value);
  return number;
}

void publish_numbers(struct client *client, const char *topic, unsigned from, unsigned to, uint8_t qos)
{
  for (unsigned i = from; i < to; i++) client_publish(client, topic, number_text(i).text, qos, false);
}

void take_numbers(struct client *client, const char *topic, unsigned from, unsigned to, uint8_t qos)
{
  for (unsigned i = from; i < to; i++) client_take(client, topic, number_text(i).text, qos);
}

uint16_t expect_number(struct client *client, const char *topic, unsigned number, bool dup)
{
  const struct mqtt_publish *publish = client_expect_publish(client, topic, number_text(number).text);
  assert_int_equal(publish->dup, dup);
  return publish->packet_id;
}
