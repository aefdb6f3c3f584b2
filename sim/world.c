#include "world.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "mqtt/topic.h"

enum { REST_ROUNDS = 20000, WITNESSES = 3 };

// ---- The plan

static void choose_plan(struct world *world)
{
  static const size_t windows[] = {64, 300, 2000, 65536}, scratches[] = {512, 2048, 65536};
  static const unsigned mailboxes[] = {1, 4, 32, SIM_MAILS};
  struct plan *plan = &world->plan;
  plan->brokers = percent(world, 10) ? 2 : 1;
  plan->roomy = percent(world, 70);
  plan->lag_ms = percent(world, 70) ? 0 : pick(world, 30);
  plan->scratch_size = scratches[pick(world, 3)];
  plan->window = windows[pick(world, 4)];
  plan->mailbox = mailboxes[pick(world, 4)];
  plan->cut_weight = (unsigned)pick(world, 4);
  plan->stall_weight = (unsigned)pick(world, 20);
  plan->jump_weight = (unsigned)pick(world, 3);
  plan->connect_percent = 10 + (unsigned)pick(world, 60);
  plan->ack_percent = 20 + (unsigned)pick(world, 80);
  plan->publish_percent = 20 + (unsigned)pick(world, 80);
}

static void choose_limits(struct broker *broker)
{
  struct world *world = broker->world;
  struct limits *limits = &broker->limits;
  *limits = limits_default();
  limits->in_flight = (uint16_t)(1 + pick(world, 20));
  limits->topic_alias = (uint16_t)pick(world, 12);
  limits->queue_messages = 100000;
  limits->queue_bytes = 1 << 30;
  limits->output_bytes = 1 << 30;
  limits->retained_messages = 0;
  limits->session_expiry_max_s = percent(world, 70) ? UINT32_MAX : 5;
  limits->share_strategy = (enum share_strategy)pick(world, 4);
  limits->connect_timeout_ms = 1000 + (uint32_t)pick(world, 20000);
  broker->budget.limit_bytes = 1 << 30;
  if (world->plan.roomy) return;
  if (percent(world, 50)) limits->queue_messages = 1 + (uint32_t)pick(world, 10);
  if (percent(world, 50)) limits->queue_bytes = 500 + pick(world, 3000);
  if (percent(world, 50)) limits->output_bytes = 500 + pick(world, 3000);
  if (percent(world, 30)) limits->retained_messages = 1 + (uint32_t)pick(world, 8);
  if (percent(world, 30)) broker->budget.limit_bytes = 100000 + (int64_t)pick(world, 200000);
}

static void random_levels(struct world *world, char out[64], bool filter)
{
  static const char *const levels[] = {"a", "b", "c", "", "dd"};
  size_t size = 0, depth = 1 + (size_t)pick(world, 4);
  for (size_t i = 0; i < depth; i++) {
    const char *level = levels[pick(world, 5)];
    if (filter && percent(world, 30)) level = "+";
    if (i == 0 && !filter && percent(world, 10)) level = "$s";
    if (i + 1 == depth && filter && percent(world, 30)) level = "#";
    size += (size_t)snprintf(out + size, 64 - size, "%s%s", i ? "/" : "", level);
  }
  if (size == 0) snprintf(out, 64, "/");
}

static bool is_known(char (*texts)[64], size_t count)
{
  for (size_t i = 0; i < count; i++)
    if (strcmp(texts[i], texts[count]) == 0) return true;
  return false;
}

static void choose_words(struct world *world)
{
  for (size_t i = 0; i < SIM_TOPICS; i++) {
    do random_levels(world, world->topics[i], false);
    while (is_known(world->topics, i));
  }
  snprintf(world->filters[0], 64, "#");
  for (size_t i = 1; i < SIM_FILTERS; i++) {
    do random_levels(world, world->filters[i], true);
    while (is_known(world->filters, i));
  }
  for (size_t f = 0; f < SIM_FILTERS; f++)
    for (size_t t = 0; t < SIM_TOPICS; t++)
      world->matches[f][t] = mqtt_filter_matches(span_text(world->filters[f]), span_text(world->topics[t]));
}

static void start(struct world *world)
{
  choose_plan(world);
  choose_words(world);
  for (unsigned b = 0; b < world->plan.brokers; b++) {
    struct broker *broker = &world->brokers[b];
    broker->world = world;
    broker->index = b;
    broker->shard_count = (uint8_t)(1 + pick(world, SIM_SHARDS));
    choose_limits(broker);
    broker_start(broker);
    TRACE(world, "broker %u: %u shards, %u in flight, %s", b, broker->shard_count, broker->limits.in_flight,
          world->plan.roomy ? "roomy" : "tight");
    broker->client_count = 2 + (unsigned)pick(world, 6);
    for (unsigned i = 0; i < broker->client_count; i++) broker->clients[i] = client_create(broker, i);
  }
}

// ---- Time

// The shard whose tick is due first, and when.
static bool next_due(struct world *world, struct broker **out_broker, uint8_t *out_shard, uint64_t *out_ms)
{
  bool any = false;
  for (unsigned b = 0; b < world->plan.brokers; b++) {
    struct broker *broker = &world->brokers[b];
    for (uint8_t s = 0; s < broker->shard_count; s++) {
      int64_t wait = shard_next_ms(broker->shards[s]);
      if (wait < 0) continue;
      uint64_t due_ms = broker->ticked_ms[s] + (uint64_t)wait;
      if (any && due_ms >= *out_ms) continue;
      any = true;
      *out_broker = broker;
      *out_shard = s;
      *out_ms = due_ms;
    }
  }
  return any;
}

// Time passes; shards have their turns when something is due, as late as the plan lets them.
static void advance(struct world *world, uint64_t ms)
{
  uint64_t target_ms = world->trial.now_ms + ms, due_ms = 0;
  struct broker *broker = NULL;
  uint8_t shard = 0;
  for (unsigned guard = 0; !world->trial.failed && next_due(world, &broker, &shard, &due_ms); guard++) {
    due_ms += world->plan.lag_ms;
    if (due_ms > target_ms) break;
    if (guard > 10000) world_fail(world, "a shard is always due");
    if (due_ms > world->trial.now_ms) world->trial.now_ms = due_ms;
    broker_turn(broker, shard, false);
  }
  world->trial.now_ms = target_ms;
}

// ---- Faults first

static struct broker *pick_broker(struct world *world)
{
  return &world->brokers[pick(world, world->plan.brokers)];
}

static void cut(struct link *link)
{
  TRACE(link->world, "link %u of client %s is cut", link->number, link->client->id);
  pipe_cut(&link->up);
  pipe_cut(&link->down);
}

static void move_network(struct broker *broker)
{
  struct world *world = broker->world;
  if (broker->links.count > 0) {
    struct link *link = broker->links.items[pick(world, broker->links.count)];
    pipe_move(&link->up, &world->trial.prng, false);
    pipe_move(&link->down, &world->trial.prng, false);
  }
  uint8_t from = (uint8_t)pick(world, broker->shard_count), to = (uint8_t)pick(world, broker->shard_count);
  broker_move_mails(broker, from, to, false);
}

static void act_of_broker(struct broker *broker)
{
  struct world *world = broker->world;
  if (broker->links.count > 0 && percent(world, 20)) {
    broker_kick(broker->links.items[pick(world, broker->links.count)]);
    return;
  }
  struct message *message = model_message(world, NULL);
  message->topic = (uint8_t)pick(world, SIM_TOPICS);
  message->qos = (uint8_t)pick(world, 3);
  message->retain = percent(world, 50);
  message->payload_size = 9 + (uint16_t)pick(world, 20);
  broker_publish(broker, (uint8_t)pick(world, broker->shard_count), message);
}

static void step(struct world *world)
{
  struct broker *broker = pick_broker(world);
  uint64_t what = pick(world, 1000);
  world->trial.tick++;
  if (what < 350) {
    broker_turn(broker, (uint8_t)pick(world, broker->shard_count), false);
  } else if (what < 650) {
    move_network(broker);
  } else if (what < 940) {
    client_act(broker->clients[pick(world, broker->client_count)]);
  } else if (what < 985) {
    advance(world, pick(world, 20));
  } else if (what < 985 + world->plan.cut_weight) {
    if (broker->links.count > 0) cut(broker->links.items[pick(world, broker->links.count)]);
  } else if (what < 990 + world->plan.jump_weight) {
    advance(world, pick(world, 3000));
  } else if (what >= 995) {
    act_of_broker(broker);
  }
}

// ---- Then healing

static bool round_of_all(struct world *world)
{
  bool moved = false;
  world->trial.now_ms++;
  for (unsigned b = 0; b < world->plan.brokers && !world->trial.failed; b++) {
    struct broker *broker = &world->brokers[b];
    for (unsigned i = 0; i < broker->client_count; i++) moved |= client_act(broker->clients[i]);
    for (size_t i = 0; i < broker->links.count; i++) {
      moved |= pipe_move(&broker->links.items[i]->up, &world->trial.prng, true);
      moved |= pipe_move(&broker->links.items[i]->down, &world->trial.prng, true);
    }
    for (uint8_t from = 0; from < broker->shard_count; from++)
      for (uint8_t to = 0; to < broker->shard_count; to++) moved |= broker_move_mails(broker, from, to, true);
    for (uint8_t s = 0; s < broker->shard_count && !world->trial.failed; s++) moved |= broker_turn(broker, s, true);
  }
  return moved;
}

// Until nothing moves any more.
static void rest(struct world *world)
{
  unsigned quiet = 0, wanted = world->plan.roomy ? 4 : 250;  // publishers that pause for memory go on after a while
  for (unsigned i = 0; quiet < wanted && !world->trial.failed; i++) {
    quiet = round_of_all(world) ? 0 : quiet + 1;
    if (i > REST_ROUNDS) world_fail(world, "the world does not come to rest");
  }
}

static void heal(struct world *world)
{
  TRACE(world, "---- healing");
  world->healing = true;
  for (unsigned b = 0; b < world->plan.brokers; b++) {
    struct broker *broker = &world->brokers[b];
    for (size_t i = 0; i < broker->links.count; i++) {
      struct link *link = broker->links.items[i];
      link->up.window = link->down.window = 65536;
      bool impatient = link->keep_alive_ms > 0 && link->keep_alive_ms < 60000;
      if (link->abandoned || impatient || !link->connack_written || percent(world, 50)) cut(link);
    }
  }
  world->plan.window = 65536;
  rest(world);
}

// All is well: what is published now arrives everywhere, at QoS 0 too.
static void probe(struct world *world)
{
  TRACE(world, "---- probing");
  for (unsigned b = 0; b < world->plan.brokers && !world->trial.failed; b++) {
    struct broker *broker = &world->brokers[b];
    for (uint8_t topic = 0; topic < SIM_TOPICS && !world->trial.failed; topic++) {
      struct client *client = broker->clients[pick(world, broker->client_count)];
      if (!client->connected) continue;
      if (!client_may_publish(client)) rest(world);
      if (!client_may_publish(client)) continue;
      struct message *message = model_message(world, client);
      message->topic = topic;
      message->qos = topic % 3;
      message->retain = topic % 2;
      message->payload_size = 20;
      message->probe = world->plan.roomy;
      client_publish(client, message);
      if (topic % 4 == 3) rest(world);
    }
  }
  rest(world);
  for (unsigned b = 0; b < world->plan.brokers && !world->trial.failed; b++) oracle_final(&world->brokers[b]);
}

static struct client *add_witness(struct broker *broker)
{
  struct client *client = client_create(broker, broker->client_count);
  client->is_witness = true;
  client->version = MQTT_5_0;
  client->maximum_packet_size = 0;
  client->shares_only = client->careless = false;
  broker->clients[broker->client_count++] = client;
  return client;
}

static void look_at_retained(struct world *world)
{
  static const uint8_t everything[] = {0}, no_group[] = {0};
  TRACE(world, "---- looking at retained messages");
  for (unsigned b = 0; b < world->plan.brokers; b++)
    for (unsigned i = 0; i < WITNESSES; i++) add_witness(&world->brokers[b]);
  rest(world);
  for (unsigned b = 0; b < world->plan.brokers && !world->trial.failed; b++) {
    struct broker *broker = &world->brokers[b];
    for (unsigned i = 0; i < broker->client_count; i++)
      if (broker->clients[i]->is_witness && broker->clients[i]->connected)
        client_subscribe(broker->clients[i], everything, no_group, 1);
  }
  rest(world);
  for (unsigned b = 0; b < world->plan.brokers && !world->trial.failed; b++) {
    oracle_final(&world->brokers[b]);
    oracle_retained(&world->brokers[b]);
  }
}

static void clear_retained(struct world *world)
{
  for (unsigned b = 0; b < world->plan.brokers && !world->trial.failed; b++) {
    struct client *client = world->brokers[b].clients[0];
    for (uint8_t topic = 0; topic < SIM_TOPICS && client->connected; topic++) {
      struct message *message = model_message(world, client);
      message->topic = topic;
      message->retain = message->empty = true;
      client_publish(client, message);
    }
  }
  rest(world);
}

static void leave(struct world *world, bool clean)
{
  for (unsigned b = 0; b < world->plan.brokers && !world->trial.failed; b++) {
    struct broker *broker = &world->brokers[b];
    for (unsigned i = 0; i < broker->client_count; i++) {
      struct client *client = broker->clients[i];
      if (client->link && client->connected) client_disconnect(client, false, true);
      if (clean) client_connect(client, true);
    }
  }
  rest(world);
}

static void drain(struct world *world)
{
  TRACE(world, "---- draining");
  leave(world, true);
  clear_retained(world);
  world->ending = true;
  leave(world, false);
  for (unsigned i = 0; i < 50 && !world->trial.failed; i++) {
    advance(world, 2000);
    rest(world);
  }
  for (unsigned b = 0; b < world->plan.brokers && !world->trial.failed; b++) oracle_drained(&world->brokers[b]);
}

struct world *world_run(uint64_t seed, uint64_t steps, bool trace)
{
  static_assert(offsetof(struct world, trial) == 0, "trial_of");
  struct world *world = sim_alloc(sizeof *world);
  world->trial = trial_begin(seed, trace);
  start(world);
  for (uint64_t i = 0; i < steps && !world->trial.failed; i++) step(world);
  if (!world->trial.failed) heal(world);
  if (!world->trial.failed) probe(world);
  if (!world->trial.failed) look_at_retained(world);
  if (!world->trial.failed) drain(world);
  return world;
}

static void free_broker(struct broker *broker)
{
  broker_stop(broker);
  for (size_t i = 0; i < broker->links.count; i++) link_free(broker->links.items[i]);
  for (size_t i = 0; i < broker->sessions.count; i++) model_session_free(broker->sessions.items[i]);
  for (size_t i = 0; i < broker->publications.count; i++) free(broker->publications.items[i]);
  for (size_t i = 0; i < broker->wills.count; i++) free(broker->wills.items[i]);
  for (unsigned i = 0; i < broker->client_count; i++) client_destroy(broker->clients[i]);
  free(broker->links.items);
  free(broker->sessions.items);
  free(broker->publications.items);
  free(broker->wills.items);
}

void world_free(struct world *world)
{
  for (unsigned b = 0; b < world->plan.brokers; b++) free_broker(&world->brokers[b]);
  for (size_t i = 0; i < world->dead_links.count; i++) link_free(world->dead_links.items[i]);
  for (size_t i = 0; i < world->messages.count; i++) {
    free(world->messages.items[i]->copies.items);
    free(world->messages.items[i]);
  }
  free(world->dead_links.items);
  free(world->messages.items);
  free(world);
}
