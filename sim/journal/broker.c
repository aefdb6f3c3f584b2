// Drives the shards as the real loop does, but at the whim of the seed: input in any portions, output into pipes that take
// less than offered, mails late, connections handed over between shards, and the end of the process between any two
// connections.
#include <string.h>

#include "core/authentication.h"
#include "world.h"

enum { SCRATCH = 65536, GUARD = 100000 };

static struct connection_origin origin(const struct world *world, struct admission *admission)
{
  return (struct connection_origin){.address = "198.51.100.7:4711",
                                    .anonymous = !world->plan.users,
                                    .authenticate = world->plan.users,
                                    .admission = admission};
}

void broker_counters(const struct world *world, struct counters *out)
{
  *out = (struct counters){0};
  for (uint8_t i = 0; i < world->broker.shard_count; i++) {
    struct counters counters;
    shard_counters(world->broker.shards[i], &counters);
    counters_add(out, &counters);
  }
}

// ---- Connections

struct wire *broker_connect(struct world *world, struct client *client)
{
  struct broker *broker = &world->broker;
  struct wire *link = sim_alloc(sizeof *link);
  link->client = client;
  link->number = world->link_count++;
  link->life = world->crashes + 1;
  link->shard = (uint8_t)pick(world, broker->shard_count);
  pipe_init(&link->up, world->plan.window);
  pipe_init(&link->down, world->plan.window);
  VECTOR_PUSH(&broker->links, link);
  shard_set_time(broker->shards[link->shard], world_mono(world));
  const struct connection_origin from = origin(world, NULL);
  link->connection = shard_open(broker->shards[link->shard], link, &from);
  if (!link->connection) abort();
  return link;
}

void link_free(struct wire *link)
{
  pipe_deinit(&link->up);
  pipe_deinit(&link->down);
  buffer_deinit(&link->handed_over);
  admission_free(link->admission);
  free(link->written.items);
  free(link);
}

static struct world *world_of(const struct wire *link)
{
  return link->client->world;
}

static void ended(struct wire *link)
{
  const struct broker *broker = &world_of(link)->broker;
  link->connection = NULL;
  link->ended = true;
  pipe_close(&link->down);
  bool others = false;
  for (size_t i = 0; i < broker->links.count; i++)
    others |= broker->links.items[i]->client == link->client && !broker->links.items[i]->ended;
  if (!others) link->client->away_ms = world_of(link)->trial.now_ms;
}

static void forget(struct wire *link, const char *why)
{
  struct world *world = world_of(link);
  TRACE(world, "link %u of client %s is closed: %s", link->number, link->client->id, why);
  shard_closed(world->broker.shards[link->shard], link->connection);
  ended(link);
}

static void hand_over(struct wire *link)
{
  struct world *world = world_of(link);
  uint8_t *input = NULL;
  size_t size = 0;
  link->admission = connection_take_admission(link->connection);
  uint8_t target = shard_detach(world->broker.shards[link->shard], link->connection, &input, &size);
  if (target >= world->broker.shard_count || target == link->shard) world_fail(world, "handed over to shard %u", target);
  if (buffer_append(&link->handed_over, input, size) != OK) abort();
  free(input);
  link->connection = NULL;
  // Behind the shard's own mails, as in src/net: what it tells the other shard of this client arrives in order.
  shard_send_host(world->broker.shards[link->shard], target, (struct mail){.kind = MAIL_HOST, .pointer = link});
  link->shard = target;
}

static void adopt(struct wire *link)
{
  link->paused = true;  // until the shard says so
  const struct connection_origin from = origin(world_of(link), link->admission);
  link->admission = NULL;
  link->connection = shard_adopt(world_of(link)->broker.shards[link->shard], link, &from, buffer_peek(&link->handed_over));
  if (!link->connection) abort();
  buffer_deinit(&link->handed_over);
}

// ---- Input

static void offer_input(struct wire *link, struct span bytes)
{
  struct world *world = world_of(link);
  uint8_t *exact = malloc(bytes.size ? bytes.size : 1);  // so that a sanitizer sees reads beyond it
  if (!exact) abort();
  if (bytes.size > 0) memcpy(exact, bytes.at, bytes.size);
  size_t taken = 0;
  world->trial.tick++;
  enum receive_result result =
      shard_receive(world->broker.shards[link->shard], link->connection, span_of(exact, bytes.size), &taken);
  free(exact);
  if (bytes.size > 0) pipe_read(&link->up, taken);
  switch (result) {
    case RECEIVE_OK:
    case RECEIVE_YIELD: break;
    case RECEIVE_PAUSED: link->paused = true; break;
    case RECEIVE_CLOSING: link->closing = true; break;
    case RECEIVE_MIGRATE: hand_over(link); break;
  }
}

static bool read_link(struct wire *link, bool everything)
{
  struct world *world = world_of(link);
  if (!link->connection) return false;
  bool moved = false;
  if (!link->paused && link->up.arrived > 0) {
    struct span bytes = pipe_peek(&link->up);
    if (!everything && percent(world, 40)) bytes.size = 1 + (size_t)pick(world, bytes.size);
    offer_input(link, bytes);
    moved = true;
  }
  if (link->connection && pipe_at_end(&link->up) && (everything || percent(world, 50))) {
    forget(link, "the client is gone");
    moved = true;
  }
  return moved;
}

// ---- Output

// Writes until there is nothing or the pipe is full. Returns whether anything was written.
static bool write_link(struct wire *link)
{
  static const size_t sizes[] = {600, 4096, SCRATCH};
  struct world *world = world_of(link);
  struct shard *shard = world->broker.shards[link->shard];
  uint8_t *scratch = malloc(SCRATCH);
  if (!scratch) abort();
  bool moved = false;
  unsigned wants = CONNECTION_OUTPUT;
  link->blocked = false;
  while ((wants & CONNECTION_OUTPUT) && !world->trial.failed) {
    struct output output = {0};
    world->trial.tick++;
    size_t total = connection_output(shard, link->connection, scratch, sizes[pick(world, 3)], &output);
    if (total == 0) break;
    struct written written = {.end = link->bytes_written + total, .ms = world->trial.now_ms};
    VECTOR_PUSH(&link->written, written);
    size_t room = pipe_room(&link->down);
    if (link->down.closed) room = total;  // a socket that nobody reads takes it all the same
    if (room > 0 && percent(world, 10)) room = 1 + (size_t)pick(world, room);
    size_t size = total < room ? total : room;
    struct span first = output.parts[0], second = output.parts[1];
    if (first.size > size) first.size = size;
    if (second.size > size - first.size) second.size = size - first.size;
    if (size > 0 && link->bytes_written == 0) {
      link->answered = true;
      if ((first.at[0] >> 4) != MQTT_CONNACK)
        world_fail(world, "the first packet to client %s is no CONNACK", link->client->id);
    }
    pipe_write(&link->down, first);
    pipe_write(&link->down, second);
    link->bytes_written += size;
    moved |= size > 0;
    wants = connection_sent(shard, link->connection, size);
    if (size < total) {
      link->blocked = true;
      break;
    }
  }
  free(scratch);
  if (wants & CONNECTION_CLOSE) forget(link, "the broker wants it");
  return moved;
}

// Whether the process is to die here.
static bool doomed(struct world *world)
{
  struct broker *broker = &world->broker;
  if (broker->doom == 0 || --broker->doom > 0) return false;
  broker->dying = true;
  return true;
}

static bool attend(struct world *world, uint8_t shard)
{
  struct connection *connection;
  unsigned wants = 0, guard = 0;
  bool moved = false;
  while (!world->trial.failed && (connection = shard_next_attention(world->broker.shards[shard], &wants))) {
    struct wire *link = connection_transport(connection);
    if (++guard > GUARD) world_fail(world, "a shard asks for attention for ever");
    moved = true;
    if (doomed(world)) return true;
    if (wants & CONNECTION_CLOSE) {
      forget(link, "the broker wants it");
      continue;
    }
    if (wants & CONNECTION_RESUME) {
      link->paused = false;
      offer_input(link, span_of(NULL, 0));
    }
    if (link->connection && (wants & CONNECTION_OUTPUT) && !link->blocked) write_link(link);
  }
  return moved;
}

// ---- Mails

bool broker_move_mails(struct world *world, uint8_t from, uint8_t to, bool everything)
{
  struct mailbox *mailbox = &world->broker.mail[from][to];
  size_t waiting = mailbox->count - mailbox->arrived;
  if (waiting == 0) return false;
  mailbox->arrived += everything ? waiting : 1 + (size_t)pick(world, waiting);
  return true;
}

static bool deliver_mails(struct world *world, uint8_t to, bool everything)
{
  struct broker *broker = &world->broker;
  bool moved = false;
  for (uint8_t from = 0; from < broker->shard_count; from++) {
    struct mailbox *mailbox = &broker->mail[from][to];
    size_t most = everything ? mailbox->arrived : (size_t)pick(world, mailbox->arrived + 1);
    for (; most > 0; most--) {
      struct mail mail = mailbox->mails[mailbox->first++ % MAILS];
      mailbox->count--;
      mailbox->arrived--;
      world->trial.tick++;
      if (mail.kind == MAIL_HOST)
        adopt(mail.pointer);
      else
        shard_mail(broker->shards[to], &mail);
      moved = true;
    }
  }
  return moved;
}

static bool post_mails(struct world *world, uint8_t from)
{
  struct broker *broker = &world->broker;
  bool moved = false;
  for (uint8_t to = 0; to < broker->shard_count; to++) {
    if (to == from) continue;
    struct mailbox *mailbox = &broker->mail[from][to];
    size_t count = 0, room = MAILS - mailbox->count;
    struct mail *mails = shard_outgoing(broker->shards[from], to, &count);
    size_t size = count < room ? count : room;
    for (size_t i = 0; i < size; i++) mailbox->mails[(mailbox->first + mailbox->count++) % MAILS] = mails[i];
    shard_outgoing_taken(broker->shards[from], to, size);
    moved |= size > 0;
  }
  return moved;
}

// ---- A turn

static void sweep_links(struct world *world)
{
  struct broker *broker = &world->broker;
  for (size_t i = 0; i < broker->links.count;) {
    struct wire *link = broker->links.items[i];
    if (link->ended && link->client_done) {
      VECTOR_REMOVE(&broker->links, i);
      link_free(link);
      continue;
    }
    if (link->connection && link->answered && !link->closing && link->client->link == link) {
      link->client->alive_ms = world->trial.now_ms;
      link->client->away_by_crash = false;
    }
    i++;
  }
}

static bool read_links(struct world *world, uint8_t shard, bool everything)
{
  struct broker *broker = &world->broker;
  size_t first = broker->links.count ? (size_t)pick(world, broker->links.count) : 0;
  bool moved = false;
  for (size_t i = 0; i < broker->links.count && !world->trial.failed; i++) {
    struct wire *link = broker->links.items[(first + i) % broker->links.count];
    if (link->shard != shard) continue;
    if (everything || percent(world, 70)) moved |= read_link(link, everything);
  }
  return moved;
}

bool broker_turn(struct world *world, uint8_t shard, bool everything)
{
  struct broker *broker = &world->broker;
  bool moved = false;
  world->trial.tick++;
  shard_set_time(broker->shards[shard], world_mono(world));
  keeper_take(world, shard, everything);
  moved |= deliver_mails(world, shard, everything);
  moved |= read_links(world, shard, everything);
  shard_tick(broker->shards[shard]);
  moved |= users_answer(world, shard, everything);
  broker->ticked_ms[shard] = world->trial.now_ms;
  if (shard == JOURNAL_SHARD && percent(world, 70)) keeper_post(world);
  moved |= attend(world, shard);
  for (size_t i = 0; i < broker->links.count && !world->trial.failed && !broker->dying; i++) {
    struct wire *link = broker->links.items[i];
    if (!link->connection || link->shard != shard || !link->blocked) continue;
    if (pipe_room(&link->down) > 0 || link->down.closed) moved |= write_link(link);
  }
  if (broker->dying) return true;
  moved |= post_mails(world, shard);
  if (shard == JOURNAL_SHARD && (everything || percent(world, 50))) keeper_post(world);
  oracle_ledger(world, shard);
  sweep_links(world);
  return moved;
}

// ---- The end

void broker_close_all(struct world *world)
{
  struct broker *broker = &world->broker;
  for (uint8_t i = 0; i < broker->shard_count; i++) {
    shard_set_time(broker->shards[i], world_mono(world));
    for (struct connection *connection; (connection = shard_any_connection(broker->shards[i]));)
      forget(connection_transport(connection), "the broker stops");
  }
}

void broker_destroy(struct world *world)
{
  struct broker *broker = &world->broker;
  for (uint8_t from = 0; from < broker->shard_count; from++) {
    for (uint8_t to = 0; to < broker->shard_count; to++) {
      struct mailbox *mailbox = &broker->mail[from][to];
      for (; mailbox->count > 0; mailbox->count--) {
        struct mail *mail = &mailbox->mails[mailbox->first++ % MAILS];
        if (mail->kind != MAIL_HOST) mail_discard(broker->shards[to], mail);
      }
      *mailbox = (struct mailbox){0};
    }
  }
  for (uint8_t i = 0; i < broker->shard_count; i++) shard_destroy(broker->shards[i]);
  for (size_t i = 0; i < broker->links.count; i++) {
    struct wire *link = broker->links.items[i];
    if (!link->ended) ended(link);
  }
  if (broker->budget.used_bytes != 0)
    world_fail(world, "%lld bytes of the budget are left behind", (long long)broker->budget.used_bytes);
  broker->up = false;
}
