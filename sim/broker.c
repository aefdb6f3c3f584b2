// Drives the shards of a broker as the real loop does, but at the whim of the seed: input in any portions, output into pipes
// that take less than offered, mails late, connections handed over between shards.
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "core/authentication.h"

enum { SIM_SCRATCH = 65536, GUARD = 100000 };

static struct connection_origin origin_of(const struct broker *broker)
{
  return (struct connection_origin){
      .address = "198.51.100.7:4711", .anonymous = !broker->authenticate, .authenticate = broker->authenticate};
}

void broker_start(struct broker *broker)
{
  struct world *world = broker->world;
  uint64_t secret = prng_next(&world->trial.prng);
  broker->authenticate = secret % 8 == 0;
  for (uint8_t i = 0; i < broker->shard_count; i++) {
    log_init(&broker->logs[i], world_log, world, LOG_DEBUG);
    struct shard_settings settings = {.shard = i,
                                      .shard_count = broker->shard_count,
                                      .limits = broker->limits,
                                      .seed = secret,
                                      .budget = &broker->budget,
                                      .log = &broker->logs[i]};
    broker->shards[i] = shard_create(&settings, world_mono(world));
    if (!broker->shards[i]) abort();
    shard_tick(broker->shards[i]);
  }
  broker->idle_bytes = broker->budget.used_bytes;
}

static void forget_questions(struct broker *broker)
{
  for (uint8_t i = 0; i < broker->shard_count; i++) {
    for (struct authentication *question; (question = broker->questions[i]);) {
      broker->questions[i] = question->next;
      authentication_free(question);
    }
  }
}

void broker_stop(struct broker *broker)
{
  forget_questions(broker);
  for (uint8_t from = 0; from < broker->shard_count; from++) {
    for (uint8_t to = 0; to < broker->shard_count; to++) {
      struct mailbox *mailbox = &broker->mail[from][to];
      for (; mailbox->count > 0; mailbox->count--, mailbox->first++)
        mail_discard(broker->shards[to], &mailbox->mails[mailbox->first % SIM_MAILS]);
    }
  }
  for (uint8_t i = 0; i < broker->shard_count; i++) {
    if (broker->shards[i]) shard_destroy(broker->shards[i]);
    broker->shards[i] = NULL;
  }
}

void broker_counters(const struct broker *broker, struct counters *out)
{
  *out = (struct counters){0};
  for (uint8_t i = 0; i < broker->shard_count; i++) {
    struct counters counters;
    shard_counters(broker->shards[i], &counters);
    counters_add(out, &counters);
  }
}

// ---- Connections

struct link *broker_connect(struct broker *broker, struct client *client)
{
  struct world *world = broker->world;
  struct link *link = sim_alloc(sizeof *link);
  *link = (struct link){.world = world,
                        .broker = broker,
                        .client = client,
                        .number = world->link_count++,
                        .shard = (uint8_t)pick(world, broker->shard_count),
                        .version = client->version,
                        .closing_ms = NEVER,
                        .last_packet_ms = world->trial.now_ms,
                        .last_taken_ms = world->trial.now_ms};
  pipe_init(&link->up, world->plan.window);
  pipe_init(&link->down, world->plan.window);
  VECTOR_PUSH(&broker->links, link);
  struct connection_origin origin = origin_of(broker);
  link->connection = shard_open(broker->shards[link->shard], link, &origin);
  if (!link->connection) abort();
  TRACE(world, "link %u: client %s connects to broker %u shard %u", link->number, client->id, broker->index, link->shard);
  return link;
}

void link_free(struct link *link)
{
  admission_free(link->admission);
  pipe_deinit(&link->up);
  pipe_deinit(&link->down);
  buffer_deinit(&link->handed_over);
  buffer_deinit(&link->offered);
  splitter_deinit(&link->in);
  splitter_deinit(&link->out);
  free(link->writes.items);
  free(link->reads.items);
  free(link->requests.items);
  free(link->receipts.items);
  free(link);
}

static void forget(struct link *link, const char *why)
{
  TRACE(link->world, "link %u of client %s is closed: %s", link->number, link->client->id, why);
  link->world->trial.tick++;
  shard_closed(link->broker->shards[link->shard], link->connection);
  link->connection = NULL;
  link->ended = true;
  tap_closed(link);
  pipe_close(&link->down);
}

// The driver's close: what was offered and not taken is lost, as with a socket that is closed.
static void close_link(struct link *link)
{
  if (!link->guilty && link->closing_ms == NEVER && link->connack_written)
    world_fail(link->world, "the broker closes client %s for nothing", link->client->id);
  forget(link, "the broker wants it");
}

static void hand_over(struct link *link)
{
  struct broker *broker = link->broker;
  uint8_t *input = NULL;
  size_t size = 0;
  link->admission = connection_take_admission(link->connection);
  uint8_t target = shard_detach(broker->shards[link->shard], link->connection, &input, &size);
  TRACE(link->world, "link %u moves from shard %u to %u with %zu bytes", link->number, link->shard, target, size);
  if (target >= broker->shard_count || target == link->shard) world_fail(link->world, "handed over to shard %u", target);
  if (buffer_append(&link->handed_over, input, size) != OK) abort();
  free(input);
  link->connection = NULL;
  link->travelling = true;
  link->shard = target;
}

static void adopt(struct link *link)
{
  struct broker *broker = link->broker;
  link->travelling = false;
  link->paused = true;  // until the shard says so
  struct connection_origin origin = origin_of(broker);
  origin.admission = link->admission;
  link->admission = NULL;
  link->connection = shard_adopt(broker->shards[link->shard], link, &origin, buffer_peek(&link->handed_over));
  if (!link->connection) abort();
  buffer_deinit(&link->handed_over);
}

void broker_kick(struct link *link)
{
  struct world *world = link->world;
  struct shard *shard = link->broker->shards[link->shard];
  if (!link->connection || (link->connect_taken && !link->connack_written)) return;
  TRACE(world, "link %u of client %s is kicked out", link->number, link->client->id);
  world->trial.tick++;
  link->guilty = true;
  if (link->closing_ms == NEVER) link->closing_ms = world->trial.now_ms;
  shard_set_time(shard, world_mono(world));
  shard_disconnect(shard, link->connection, MQTT_ADMINISTRATIVE_ACTION);
  tap_closed(link);
}

void broker_publish(struct broker *broker, uint8_t shard, struct message *message)
{
  struct world *world = broker->world;
  uint8_t scratch[2048];
  TRACE(world, "broker %u publishes message %u to %s", broker->index, message->id, world->topics[message->topic]);
  world->trial.tick++;
  shard_set_time(broker->shards[shard], world_mono(world));
  struct publication *publication = model_publication(broker, shard, message, model_moment(broker, shard));
  shard_publish(broker->shards[shard], span_text(world->topics[message->topic]), message_payload(message, scratch),
                message->qos, message->retain);
  publication_processed(publication);
}

// ---- Input

static void after_receive(struct link *link, enum receive_result result)
{
  struct world *world = link->world;
  switch (result) {
    case RECEIVE_OK:
    case RECEIVE_YIELD:
      if (tap_has_packet(link) && result == RECEIVE_OK)
        world_fail(world, "a packet of client %s was not looked at", link->client->id);
      break;
    case RECEIVE_PAUSED: link->paused = true; break;
    case RECEIVE_CLOSING:
      if (link->connect_taken && !link->connack_written && !world->plan.roomy) link->guilty = true;  // no memory for it
      if (link->closing_ms == NEVER && !link->guilty) world_fail(world, "client %s is closed for nothing", link->client->id);
      if (link->closing_ms == NEVER) link->closing_ms = world->trial.now_ms;
      tap_closed(link);
      break;
    case RECEIVE_MIGRATE: hand_over(link); break;
  }
}

// Only one connection is looked at between two counts, so they tell how many of its packets were handled.
static uint64_t count_packets(const struct link *link)
{
  struct counters counters;
  uint64_t packets = 0;
  shard_counters(link->broker->shards[link->shard], &counters);
  for (unsigned i = 0; i < 16; i++) packets += counters.packets_received[i];
  return packets;
}

static void offer_input(struct link *link, struct span bytes)
{
  struct world *world = link->world;
  struct broker *broker = link->broker;
  world->trial.tick++;
  struct moment at = model_moment(broker, link->shard);
  uint8_t *exact = malloc(bytes.size ? bytes.size : 1);  // so that a sanitizer sees reads beyond it
  if (!exact) abort();
  if (bytes.size > 0) memcpy(exact, bytes.at, bytes.size);
  size_t taken = 0;
  uint64_t before = count_packets(link);
  enum receive_result result =
      shard_receive(broker->shards[link->shard], link->connection, span_of(exact, bytes.size), &taken);
  free(exact);
  if (taken > bytes.size || (taken < bytes.size && result != RECEIVE_YIELD))
    world_fail(world, "took %zu of %zu bytes", taken, bytes.size);
  if (bytes.size > 0) link->last_taken_ms = world->trial.now_ms;
  tap_in(link, span_of(bytes.at, taken));
  tap_take(link, count_packets(link) - before, &at);
  if (bytes.size > 0) pipe_read(&link->up, taken);
  after_receive(link, result);
}

static bool read_link(struct link *link, bool everything)
{
  struct world *world = link->world;
  if (!link->connection) return false;
  bool moved = false;
  size_t arrived = link->up.arrived;
  if (!link->paused && arrived > 0) {
    struct span bytes = pipe_peek(&link->up);
    if (!everything && percent(world, 50)) bytes.size = 1 + (size_t)pick(world, arrived < 200 ? arrived : 200);
    offer_input(link, bytes);
    moved = true;
  }
  // Never between CONNECT and CONNACK: only CONNACK tells the model what became of the session.
  bool half_connected = link->connect_taken && !link->connack_written;
  if (link->connection && !half_connected && pipe_at_end(&link->up) && (everything || percent(world, 50))) {
    forget(link, "the client is gone");
    moved = true;
  }
  return moved;
}

static void resume(struct link *link)
{
  link->paused = false;
  offer_input(link, span_of(NULL, 0));
}

// ---- Questions

static void answer(struct broker *broker, uint8_t shard, struct authentication *question)
{
  char user[80];
  int size =
      snprintf(user, sizeof user, "user of %.*s", (int)question->client_id.size, (const char *)question->client_id.at);
  const struct identity identity = {.method = "simulation", .user = span_of(user, (size_t)size)};
  question->next = NULL;
  question->identity = identity_create(&identity);
  if (!question->identity) abort();
  broker->world->trial.tick++;
  shard_authenticated(broker->shards[shard], question);
}

// Late, and in any order.
static bool answer_questions(struct broker *broker, uint8_t shard, bool everything)
{
  bool moved = false;
  for (struct authentication *question; (question = shard_next_authentication(broker->shards[shard]));) {
    question->next = broker->questions[shard];
    broker->questions[shard] = question;
  }
  for (struct authentication **at = &broker->questions[shard]; *at;) {
    struct authentication *question = *at;
    if (!everything && percent(broker->world, 50)) {
      at = &question->next;
      continue;
    }
    *at = question->next;
    answer(broker, shard, question);
    moved = true;
  }
  return moved;
}

// ---- Output

// What was shown and not taken must be shown again, byte for byte; what is new goes to the model.
static void compare_offer(struct link *link, const struct output *output)
{
  struct span kept = buffer_peek(&link->offered);
  size_t at = 0;
  for (unsigned i = 0; i < 2; i++) {
    struct span part = output->parts[i];
    size_t known = kept.size - at < part.size ? kept.size - at : part.size;
    if (known > 0 && memcmp(kept.at + at, part.at, known) != 0)
      world_fail(link->world, "output to client %s has changed after it was half written", link->client->id);
    at += known;
    if (part.size == known) continue;
    uint8_t *fresh = malloc(part.size - known);
    if (!fresh) abort();
    memcpy(fresh, part.at + known, part.size - known);
    if (buffer_append(&link->offered, fresh, part.size - known) != OK) abort();
    kept = buffer_peek(&link->offered);
    at = kept.size;
    tap_out(link, span_of(fresh, part.size - known));
    free(fresh);
  }
}

// Writes until there is nothing or the pipe is full. Returns whether anything was written.
static bool write_link(struct link *link)
{
  struct world *world = link->world;
  struct shard *shard = link->broker->shards[link->shard];
  uint8_t *scratch = malloc(SIM_SCRATCH);
  if (!scratch) abort();
  bool moved = false;
  unsigned wants = CONNECTION_OUTPUT;
  link->blocked = false;
  while ((wants & CONNECTION_OUTPUT) && !world->trial.failed) {
    struct output output = {0};
    world->trial.tick++;
    size_t scratch_size = percent(world, 20) ? 512 + (size_t)pick(world, 1024) : world->plan.scratch_size;
    size_t total = connection_output(shard, link->connection, scratch, scratch_size, &output);
    if (total == 0) break;
    compare_offer(link, &output);
    size_t room = pipe_room(&link->down);
    if (room > 0 && percent(world, 20)) room = 1 + (size_t)pick(world, room);
    size_t size = total < room ? total : room;
    struct span first = output.parts[0], second = output.parts[1];
    if (first.size > size) first.size = size;
    if (second.size > size - first.size) second.size = size - first.size;
    pipe_write(&link->down, first);
    pipe_write(&link->down, second);
    buffer_consume(&link->offered, size);
    link->broker->bytes_out[link->shard] += size;
    moved |= size > 0;
    wants = connection_sent(shard, link->connection, size);
    if (size < total) {
      link->blocked = true;
      break;
    }
  }
  free(scratch);
  if (wants & CONNECTION_CLOSE) close_link(link);
  return moved;
}

static bool attend(struct broker *broker, uint8_t shard)
{
  struct connection *connection;
  unsigned wants = 0, guard = 0;
  bool moved = false;
  while ((connection = shard_next_attention(broker->shards[shard], &wants)) && !broker->world->trial.failed) {
    struct link *link = connection_transport(connection);
    if (++guard > GUARD) world_fail(broker->world, "a shard asks for attention for ever");
    moved = true;
    if (wants & CONNECTION_CLOSE) {
      close_link(link);
      continue;
    }
    if (wants & CONNECTION_RESUME) resume(link);
    if (link->connection && (wants & CONNECTION_OUTPUT) && !link->blocked) write_link(link);
  }
  return moved;
}

// ---- Mails

bool broker_move_mails(struct broker *broker, uint8_t from, uint8_t to, bool everything)
{
  struct mailbox *mailbox = &broker->mail[from][to];
  size_t waiting = mailbox->count - mailbox->arrived;
  if (waiting == 0) return false;
  mailbox->arrived += everything ? waiting : 1 + (size_t)pick(broker->world, waiting);
  return true;
}

static bool deliver_mails(struct broker *broker, uint8_t to, bool everything)
{
  bool moved = false;
  for (uint8_t from = 0; from < broker->shard_count; from++) {
    struct mailbox *mailbox = &broker->mail[from][to];
    size_t most = everything ? mailbox->arrived : (size_t)pick(broker->world, mailbox->arrived + 1);
    for (; most > 0; most--) {
      struct mail mail = mailbox->mails[mailbox->first % SIM_MAILS];
      mailbox->first++;
      mailbox->count--;
      mailbox->arrived--;
      broker->world->trial.tick++;
      mailbox->delivered++;
      shard_mail(broker->shards[to], &mail);
      moved = true;
    }
  }
  return moved;
}

static bool post_mails(struct broker *broker, uint8_t from)
{
  bool moved = false;
  for (uint8_t to = 0; to < broker->shard_count; to++) {
    if (to == from) continue;
    struct mailbox *mailbox = &broker->mail[from][to];
    size_t count = 0, room = broker->world->plan.mailbox - mailbox->count;
    struct mail *mails = shard_outgoing(broker->shards[from], to, &count);
    size_t size = count < room ? count : room;
    for (size_t i = 0; i < size; i++) mailbox->mails[(mailbox->first + mailbox->count++) % SIM_MAILS] = mails[i];
    shard_outgoing_taken(broker->shards[from], to, size);
    mailbox->posted += size;
    moved |= size > 0;
  }
  return moved;
}

// ---- A turn

static void expect_keep_alive(struct broker *broker, uint8_t shard)
{
  uint64_t now_ms = broker->world->trial.now_ms;
  for (size_t i = 0; i < broker->links.count; i++) {
    struct link *link = broker->links.items[i];
    if (!link->connection || link->shard != shard || link->closing_ms != NEVER) continue;
    if (link->paused) {  // nobody reads what it sends: it cannot be blamed for silence
      link->last_packet_ms = link->last_taken_ms = now_ms;
      continue;
    }
    uint64_t limit_ms = link->connack_written ? link->keep_alive_ms * 3ull / 2 : broker->limits.connect_timeout_ms;
    if (limit_ms == 0 || now_ms < link->last_packet_ms + limit_ms) continue;
    link->closing_ms = now_ms;
    if (link->session) model_will_due(link, now_ms, NEVER);
  }
}

static void sweep_links(struct broker *broker)
{
  for (size_t i = 0; i < broker->links.count;) {
    struct link *link = broker->links.items[i];
    if (!link->ended || !link->client_done) {
      i++;
      continue;
    }
    VECTOR_REMOVE(&broker->links, i);
    VECTOR_PUSH(&broker->world->dead_links, link);
  }
}

bool broker_turn(struct broker *broker, uint8_t shard, bool everything)
{
  struct world *world = broker->world;
  bool moved = false;
  world->trial.tick++;
  shard_set_time(broker->shards[shard], world_mono(world));
  moved |= deliver_mails(broker, shard, everything);
  size_t first = broker->links.count ? (size_t)pick(world, broker->links.count) : 0;
  for (size_t i = 0; i < broker->links.count && !world->trial.failed; i++) {
    struct link *link = broker->links.items[(first + i) % broker->links.count];
    if (link->shard != shard) continue;
    if (link->travelling && (everything || percent(world, 50))) {
      adopt(link);
      moved = true;
    }
    if (everything || percent(world, 70)) moved |= read_link(link, everything);
  }
  world->trial.tick++;
  expect_keep_alive(broker, shard);
  shard_tick(broker->shards[shard]);
  broker->ticked_ms[shard] = world->trial.now_ms;
  moved |= answer_questions(broker, shard, everything);
  moved |= attend(broker, shard);
  for (size_t i = 0; i < broker->links.count && !world->trial.failed; i++) {
    struct link *link = broker->links.items[i];
    if (link->connection && link->shard == shard && link->blocked && pipe_room(&link->down) > 0) moved |= write_link(link);
  }
  moved |= post_mails(broker, shard);
  if (!world->trial.failed) {
    oracle_wills(broker, shard);
    oracle_ledger(broker, shard);
    oracle_connections(broker);
  }
  sweep_links(broker);
  return moved;
}
