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

// ---- Clients; what they expect and whole exchanges are in bench_client.c

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
