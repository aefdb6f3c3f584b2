// The plan, the steps with their faults, and then healing: all is well again, and everything that is owed must arrive.
#include "world.h"

#include <assert.h>

#include "mqtt/topic.h"

enum { REST_ROUNDS = 20000, ARMED_TICKS = 4000 };

// ---- The plan

static void choose_plan(struct world *world)
{
  static const size_t windows[] = {300, 4000, 65536};
  static const unsigned bursts[] = {1, 4, 20};
  struct plan *plan = &world->plan;
  plan->roomy = percent(world, 65);
  plan->waits = percent(world, 88);
  plan->bit_rot = percent(world, 8);
  plan->backlog = percent(world, 25);
  plan->tiny_limit = !plan->roomy && percent(world, 40);
  plan->steady = plan->backlog || percent(world, 60);
  plan->clients = plan->backlog ? 3 + (unsigned)pick(world, 2) : 3 + (unsigned)pick(world, 6);
  plan->crash_weight = (unsigned)pick(world, plan->backlog ? 3 : 8);
  plan->cut_weight = (unsigned)pick(world, 6);
  plan->fault_weight = percent(world, 50) ? (unsigned)pick(world, 5) : 0;
  plan->jump_weight = (unsigned)pick(world, 4);
  plan->connect_percent = 20 + (unsigned)pick(world, 60);
  plan->ack_percent = 30 + (unsigned)pick(world, 70);
  plan->publish_percent = 30 + (unsigned)pick(world, 70);
  plan->round_percent = 20 + (unsigned)pick(world, 80);
  plan->burst = plan->backlog ? 80 : bursts[pick(world, 3)];
  plan->flights = plan->backlog ? 200 : 4 + (uint32_t)pick(world, 16);
  plan->payload_most = percent(world, 80) ? 1000 : 20000;
  plan->load_entries = percent(world, 50) ? UINT32_MAX : 1 + (uint32_t)pick(world, 60);
  plan->window = plan->backlog ? 65536 : windows[pick(world, 3)];
  plan->segment_bytes = UINT64_C(4096) << pick(world, 5);
  plan->limit_bytes = UINT64_C(1) << 30;
  // Without a choice of its own: the worlds of earlier seeds stay as they were.
  plan->high_bytes = world->trial.seed % 3 == 0 ? UINT64_C(256) << world->trial.seed / 3 % 8 : UINT64_C(16) << 20;
  unsigned of_eleven = (unsigned)(world->trial.seed % 11);
  plan->users = of_eleven == 1 || of_eleven == 3 || of_eleven == 5;
  plan->reserve_bytes = plan->segment_bytes * (1 + pick(world, 2));
  plan->replay_bytes = plan->segment_bytes * (1 + pick(world, 8));
  if (!plan->tiny_limit) return;
  // The reserve takes what is under way when the limit is reached, whatever it is: all that publishers may have in flight.
  plan->payload_most = 300;
  plan->reserve_bytes = 65536 + plan->clients * plan->flights * (plan->payload_most + 200);
  plan->limit_bytes = 2 * plan->reserve_bytes + plan->segment_bytes * (4 + pick(world, 20));
}

static void choose_limits(struct world *world)
{
  struct limits *limits = &world->broker.limits;
  *limits = limits_default();
  limits->in_flight = (uint16_t)(world->plan.backlog ? 200 : 1 + pick(world, 30));
  limits->queue_messages = 0;
  limits->queue_bytes = 1 << 30;
  limits->queue_age_s = 0;
  limits->output_bytes = 1 << 30;
  limits->retained_messages = 0;
  limits->retained_bytes = 1 << 30;
  limits->session_expiry_max_s = percent(world, 75) ? UINT32_MAX : percent(world, 50) ? 3600 * 48 : 20;
  limits->connect_timeout_ms = 100000000;
  limits->share_strategy = (enum share_strategy)pick(world, 4);
  limits->keep_alive_max_s = 0;
  world->broker.budget.limit_bytes = 1 << 30;
  if (world->plan.roomy) return;
  limits->queue_drop = (enum queue_drop)pick(world, 3);
  if (percent(world, 50)) limits->queue_messages = 1 + (uint32_t)pick(world, world->plan.backlog ? 400 : 20);
  if (percent(world, 40)) limits->queue_bytes = 500 + pick(world, 20000);
  if (percent(world, 30)) limits->queue_age_s = 1 + (uint32_t)pick(world, 100);
  if (percent(world, 20)) limits->retained_messages = 1 + (uint32_t)pick(world, 5);
}

static void start(struct world *world)
{
  choose_plan(world);
  choose_limits(world);
  for (size_t f = 0; f < FILTERS; f++)
    for (size_t t = 0; t < TOPICS; t++)
      world->matches[f][t] = mqtt_filter_matches(span_text(FILTER_NAMES[f]), span_text(TOPIC_NAMES[t]));
  struct sim_disk_settings settings = {.no_reserve = percent(world, 20)};
  prng_seed(&settings.prng, prng_next(&world->trial.prng));
  world->disk = sim_disk_create(&settings);
  world->trial.boot_ms = world->trial.now_ms - 5000;
  const struct plan *plan = &world->plan;
  TRACE(world, "%s%s%s%s%s%s, segments of %llu, limit %llu, replay %llu, %u in flight", plan->roomy ? "roomy" : "tight",
        plan->waits ? "" : ", does not wait", plan->backlog ? ", backlog" : "", plan->tiny_limit ? ", little space" : "",
        plan->bit_rot ? ", rot" : "", plan->users ? ", users" : "", (unsigned long long)plan->segment_bytes,
        (unsigned long long)plan->limit_bytes, (unsigned long long)plan->replay_bytes, world->broker.limits.in_flight);
  life_start(world);
  for (unsigned i = 0; i < plan->clients; i++) world->clients[world->client_count++] = client_create(world, i);
}

// ---- Time

// The shard whose tick is due first, or the store (SHARDS), and when.
static bool next_due(struct world *world, uint8_t *out_who, uint64_t *out_ms)
{
  const struct broker *broker = &world->broker;
  bool any = false;
  for (uint8_t s = 0; s < broker->shard_count; s++) {
    int64_t wait = shard_next_ms(broker->shards[s]);
    if (wait < 0) continue;
    uint64_t due_ms = broker->ticked_ms[s] + (uint64_t)wait;
    if (any && due_ms >= *out_ms) continue;
    any = true;
    *out_who = s;
    *out_ms = due_ms;
  }
  int64_t wait = store_next_ms(broker->keeper.store, world_mono(world));
  if (wait > 0 && (!any || world->trial.now_ms + (uint64_t)wait < *out_ms)) {
    any = true;
    *out_who = SHARDS;
    *out_ms = world->trial.now_ms + (uint64_t)wait;
  }
  return any;
}

static void advance(struct world *world, uint64_t ms)
{
  uint64_t target_ms = world->trial.now_ms + ms, due_ms = 0;
  uint8_t who = 0;
  for (unsigned guard = 0; !world->trial.failed && !world->broker.dying && next_due(world, &who, &due_ms); guard++) {
    if (due_ms > target_ms) break;
    if (guard > 10000) world_fail(world, "shard %u is always due", who);
    if (due_ms > world->trial.now_ms) world->trial.now_ms = due_ms;
    if (who == SHARDS)
      keeper_turn(world, false);
    else
      broker_turn(world, who, false);
  }
  if (world->trial.now_ms < target_ms) world->trial.now_ms = target_ms;
}

// ---- Faults

static void cut(struct world *world, struct wire *link)
{
  TRACE(world, "link %u of client %s is cut", link->number, link->client->id);
  pipe_cut(&link->up);
  pipe_cut(&link->down);
}

static void disk_heals(struct world *world)
{
  if (world->disk_bad) TRACE(world, "---- the disk is well again");
  life_heal_disk(world);
}

static void disk_suffers(struct world *world)
{
  struct store_counters counters;
  store_counters(world->broker.keeper.store, world_mono(world), &counters);
  world->statistics.disk_faults++;
  world->disk_bad = world->ever_bad = true;
  if (percent(world, 50)) {
    uint64_t bytes = counters.bytes + 8192 + pick(world, 2 * world->plan.segment_bytes);
    TRACE(world, "---- the disk has room for %llu bytes", (unsigned long long)bytes);
    sim_disk_set_capacity(world->disk, bytes);
    return;
  }
  struct sim_disk_faults faults = {0};
  if (percent(world, 70)) faults.writes = 1 + (uint32_t)pick(world, 6);
  if (percent(world, 70)) faults.syncs = 1 + (uint32_t)pick(world, 6);
  // What cannot be read although something else can is given up as damaged: then that is stated.
  bool all = percent(world, 60);
  if (percent(world, 40)) faults.names = all ? 1 : 2 + (uint32_t)pick(world, 6);
  if (percent(world, 20)) faults.reads = all ? 1 : 2 + (uint32_t)pick(world, 6);
  world->unreadable |= faults.names > 1 || faults.reads > 1;
  TRACE(world, "---- the disk fails: one in %u writes, %u syncs, %u names, %u reads", faults.writes, faults.syncs,
        faults.names, faults.reads);
  world->faults = faults;
  sim_disk_set_faults(world->disk, &faults);
}

static void crash_soon(struct world *world)
{
  uint64_t how = pick(world, 3);
  if (how == 0) {
    life_restart(world);
  } else if (how == 1 && world->crash_at == 0) {
    sim_disk_stop_at(world->disk, 1 + pick(world, 25));
    world->crash_at = world->trial.tick;
    world->statistics.mid_write++;
  } else if (world->broker.doom == 0) {
    world->broker.doom = 1 + (unsigned)pick(world, 6);
    world->statistics.mid_turn++;
  }
}

static bool everybody_leaves(struct world *world);

static void step(struct world *world)
{
  struct broker *broker = &world->broker;
  const struct plan *plan = &world->plan;
  uint64_t what = pick(world, 1000);
  world->trial.tick++;
  world->events++;
  if (what < 280) {
    broker_turn(world, (uint8_t)pick(world, broker->shard_count), false);
  } else if (what < 400) {
    if (percent(world, plan->round_percent)) keeper_turn(world, false);
  } else if (what < 600) {
    if (broker->links.count > 0) {
      struct wire *link = broker->links.items[pick(world, broker->links.count)];
      pipe_move(&link->up, &world->trial.prng, false);
      pipe_move(&link->down, &world->trial.prng, false);
    }
    uint8_t to = (uint8_t)pick(world, broker->shard_count);
    broker_move_mails(world, (uint8_t)pick(world, broker->shard_count), to, false);
  } else if (what < 920) {
    client_act(world->clients[pick(world, world->client_count)]);
  } else if (what < 970) {
    advance(world, pick(world, 20));
  } else if (what < 970 + plan->crash_weight) {
    crash_soon(world);
  } else if (what < 978 + plan->cut_weight) {
    if (broker->links.count > 0) cut(world, broker->links.items[pick(world, broker->links.count)]);
  } else if (what < 984 + plan->fault_weight) {
    if (world->disk_bad)
      disk_heals(world);
    else if (world->crash_at == 0)
      disk_suffers(world);
  } else if (what < 990 + plan->jump_weight) {
    advance(world, pick(world, percent(world, 80) ? 5000 : 60000));
  } else if (what == 999 && !world->disk_bad && world->crash_at == 0) {
    everybody_leaves(world);
  }
  if (world->crash_at > 0 && world->trial.tick > world->crash_at + ARMED_TICKS) broker->dying = true;
  if (broker->dying && !world->trial.failed) life_restart(world);
}

// ---- Then healing

static bool round_of_all(struct world *world, bool with_clients)
{
  struct broker *broker = &world->broker;
  bool moved = false;
  world->trial.now_ms++;
  for (unsigned i = 0; with_clients && i < world->client_count && !world->trial.failed; i++)
    moved |= client_act(world->clients[i]);
  for (size_t i = 0; i < broker->links.count; i++) {
    moved |= pipe_move(&broker->links.items[i]->up, &world->trial.prng, true);
    moved |= pipe_move(&broker->links.items[i]->down, &world->trial.prng, true);
  }
  for (uint8_t from = 0; from < broker->shard_count; from++)
    for (uint8_t to = 0; to < broker->shard_count; to++) moved |= broker_move_mails(world, from, to, true);
  for (uint8_t s = 0; s < broker->shard_count && !world->trial.failed; s++) moved |= broker_turn(world, s, true);
  if (!world->trial.failed) moved |= keeper_turn(world, true);
  return moved;
}

// Until nothing moves any more.
static void rest(struct world *world, bool with_clients)
{
  // Publishers that pause go on after a while, and a store that has failed tries again.
  unsigned quiet = 0, wanted = world->plan.roomy ? 6 : 250;
  for (unsigned i = 0; quiet < wanted && !world->trial.failed; i++) {
    bool moved = round_of_all(world, with_clients);
    bool waits = !keeper_idle(world) || (world->broker.keeper.state != JOURNAL_OK && i < 3000);
    quiet = moved || waits ? 0 : quiet + 1;
    if (waits && !moved) world->trial.now_ms += 20;
    if (i > REST_ROUNDS) world_fail(world, "the world does not come to rest");
  }
}

// All connections end, and all is applied: then the shards and the catalog must agree.
static bool everybody_leaves(struct world *world)
{
  TRACE(world, "---- everybody leaves");
  for (unsigned i = 0; i < world->client_count; i++) client_lose_link(world->clients[i]);
  for (size_t i = 0; i < world->broker.links.count; i++) {
    pipe_close(&world->broker.links.items[i]->up);
    world->broker.links.items[i]->down.window = 1 << 30;
  }
  world->broker.doom = 0;
  rest(world, false);
  if (!world->trial.failed) oracle_catalog(world);
  return true;
}

static void heal(struct world *world)
{
  TRACE(world, "---- healing");
  sim_disk_stop_at(world->disk, 0);
  world->crash_at = 0;
  world->broker.doom = 0;
  world->healing = true;
  disk_heals(world);
  world->plan.window = 65536;
  for (size_t i = 0; i < world->broker.links.count; i++) {
    struct wire *link = world->broker.links.items[i];
    link->up.window = link->down.window = 65536;
    if (link->client_done || percent(world, 30)) cut(world, link);
  }
  rest(world, false);
  if (!world->trial.failed) everybody_leaves(world);
  if (!world->trial.failed && percent(world, 50)) life_restart(world);
  if (!world->trial.failed) rest(world, true);
  if (!world->trial.failed) oracle_owed(world);
}

// Again, after everything was delivered: nothing of it may come back.
static void restart_at_rest(struct world *world)
{
  if (!percent(world, 50)) return;
  life_restart(world);
  rest(world, true);
  if (!world->trial.failed) oracle_owed(world);
}

static void look_at_retained(struct world *world)
{
  TRACE(world, "---- looking at retained messages");
  for (unsigned i = 0; i < WITNESSES; i++) {
    struct client *client = client_create(world, world->client_count);
    client->is_witness = true;
    client->version = MQTT_5_0;
    client->kind = KIND_CLEAN;
    client->receive_maximum = UINT16_MAX;
    world->clients[world->client_count++] = client;
  }
  rest(world, true);
  for (unsigned i = 0; i < world->client_count && !world->trial.failed; i++)
    if (world->clients[i]->is_witness) client_subscribe(world->clients[i], 0, 0);
  rest(world, true);
  if (!world->trial.failed) oracle_retained(world);
}

static void clear_retained(struct world *world)
{
  for (uint8_t topic = 0; topic < TOPICS && !world->trial.failed; topic++) {
    struct client *client = world->clients[0];
    struct message *message = model_message(world, client);
    message->topic = topic;
    message->qos = 1;
    message->retain = message->empty = true;
    client_publish(client, message);
    rest(world, true);
  }
}

static void drain(struct world *world)
{
  TRACE(world, "---- draining");
  for (unsigned i = 0; i < world->client_count && !world->trial.failed; i++) {
    struct client *client = world->clients[i];
    client_disconnect(client, false, true);
    client_connect(client, true);
  }
  if (!world->trial.failed) rest(world, true);
  clear_retained(world);
  world->ending = true;
  for (unsigned i = 0; i < world->client_count && !world->trial.failed; i++)
    client_disconnect(world->clients[i], false, true);
  if (!world->trial.failed) rest(world, true);
  for (unsigned i = 0; i < 10 && !world->trial.failed; i++) {
    advance(world, 1000);
    rest(world, true);
  }
  if (world->trial.failed) return;
  oracle_catalog(world);
  oracle_empty(world);
}

struct world *world_run(uint64_t seed, uint64_t steps, bool trace)
{
  static_assert(offsetof(struct world, trial) == 0, "trial_of");
  struct world *world = sim_alloc(sizeof *world);
  world->trial = trial_begin(seed, trace);
  start(world);
  for (uint64_t i = 0; i < steps && !world->trial.failed; i++) step(world);
  if (!world->trial.failed) heal(world);
  if (!world->trial.failed) restart_at_rest(world);
  if (!world->trial.failed) look_at_retained(world);
  if (!world->trial.failed) drain(world);
  if (!world->trial.failed) life_stop(world);
  return world;
}

void world_free(struct world *world)
{
  if (world->broker.up) {
    broker_destroy(world);
    keeper_free(world);
  }
  disk_destroy(world->disk);
  for (unsigned i = 0; i < world->client_count; i++) client_destroy(world->clients[i]);
  for (size_t i = 0; i < world->broker.links.count; i++) link_free(world->broker.links.items[i]);
  for (size_t i = 0; i < world->sessions.count; i++) {
    struct session *session = world->sessions.items[i];
    for (size_t k = 0; k < session->subscriptions.count; k++) free(session->subscriptions.items[k]);
    free(session->subscriptions.items);
    free(session->received.items);
    free(session->receipts);
    free(session);
  }
  for (size_t i = 0; i < world->messages.count; i++) free(world->messages.items[i]);
  free(world->broker.links.items);
  free(world->sessions.items);
  free(world->messages.items);
  free(world);
}
