// Between the shards and the store, as src/net/keeper.c has it: batches and loads go in order, two batches are under way at
// most, commits and answers come back late.
#include "world.h"

void keeper_post(struct world *world)
{
  struct keeper *keeper = &world->broker.keeper;
  struct shard *shard = world->broker.shards[JOURNAL_SHARD];
  struct journal_batch *batch;
  while (keeper->given - keeper->released < BATCHES && (batch = shard_take_batch(shard))) {
    if (batch->number != keeper->given + 1)
      world_fail(world, "batch %llu after %llu", (unsigned long long)batch->number, (unsigned long long)keeper->given);
    keeper->given = batch->number;
    struct waiting waiting = {.batch = batch};
    VECTOR_PUSH(&keeper->inbox, waiting);
    world->statistics.batches++;
  }
  struct waiting waiting = {0};
  while (keeper->loads_open < LOADS && shard_next_load(shard, &waiting.load)) {
    keeper->loads_open++;
    // A store may answer with less than it is asked for.
    if (world->plan.load_entries < waiting.load.max_entries) waiting.load.max_entries = world->plan.load_entries;
    VECTOR_PUSH(&keeper->inbox, waiting);
    world->statistics.loads++;
  }
}

void keeper_take(struct world *world, uint8_t shard, bool everything)
{
  struct broker *broker = &world->broker;
  struct keeper *keeper = &broker->keeper;
  if (!everything && percent(world, 30)) return;
  if (keeper->told[shard] != keeper->state) {
    keeper->told[shard] = keeper->state;
    shard_set_journal_state(broker->shards[shard], keeper->state);
  }
  if (shard != JOURNAL_SHARD) return;
  if (broker->told_committed != keeper->committed) {
    broker->told_committed = keeper->committed;
    shard_committed(broker->shards[shard], keeper->committed);
  }
  while (keeper->answers.count > 0) {
    struct journal_loaded *loaded = keeper->answers.items[0];
    VECTOR_REMOVE(&keeper->answers, 0);
    keeper->loads_open--;
    world->statistics.loaded += loaded->count;
    shard_loaded(broker->shards[shard], loaded);
  }
}

// Takes what has arrived, in order. Returns whether any batch was taken.
static bool take_inbox(struct world *world, bool everything)
{
  struct keeper *keeper = &world->broker.keeper;
  size_t most = everything ? keeper->inbox.count : (size_t)pick(world, keeper->inbox.count + 1);
  bool any = false;
  for (; most > 0; most--) {
    struct waiting waiting = keeper->inbox.items[0];
    VECTOR_REMOVE(&keeper->inbox, 0);
    if (waiting.batch) {
      keeper->submitted = waiting.batch->number;
      store_submit(keeper->store, waiting.batch);
      any = true;
    } else {
      waiting.behind = keeper->submitted;
      VECTOR_PUSH(&keeper->loads, waiting);
    }
  }
  return any;
}

static bool answer(struct world *world, const struct waiting *waiting)
{
  struct keeper *keeper = &world->broker.keeper;
  bool due = waiting->behind <= keeper->committed;
  if (!due && !keeper->failed && world->plan.waits) return false;
  struct journal_loaded *loaded = store_load(keeper->store, &waiting->load);
  if (!loaded) return false;  // later
  if (!due && loaded->count == 0) {
    journal_loaded_free(loaded);
    return false;
  }
  VECTOR_PUSH(&keeper->answers, loaded);
  return true;
}

static bool answer_loads(struct world *world)
{
  struct keeper *keeper = &world->broker.keeper;
  bool any = false;
  for (size_t i = 0; i < keeper->loads.count;) {
    if (!answer(world, &keeper->loads.items[i])) {
      i++;
      continue;
    }
    VECTOR_REMOVE(&keeper->loads, i);
    any = true;
  }
  return any;
}

static void report(struct world *world)
{
  struct keeper *keeper = &world->broker.keeper;
  uint64_t committed = store_committed(keeper->store);
  if (committed > keeper->submitted) world_fail(world, "more is committed than was submitted");
  if (committed < keeper->committed) world_fail(world, "what was committed is not any more");
  keeper->committed = committed;
  if (keeper->released < committed) keeper->released = committed;
  keeper->state = store_state(keeper->store);
  if (keeper->state != JOURNAL_OK) world->statistics.full++;
  keeper->failed = keeper->submitted > committed;
}

// Whether the disk has stopped: then the process has died at that operation, and nothing that came after it was seen by
// anybody.
static bool stopped(struct world *world)
{
  if (!sim_disk_stopped(world->disk)) return false;
  world->broker.dying = true;
  return true;
}

bool keeper_turn(struct world *world, bool everything)
{
  struct keeper *keeper = &world->broker.keeper;
  struct mono now = world_mono(world);
  world->trial.tick++;
  bool any = take_inbox(world, everything);
  bool moved = answer_loads(world);
  int64_t next_ms = store_next_ms(keeper->store, now);
  bool pending = keeper->submitted > keeper->committed;
  if (any && !world->plan.waits) {  // written now, synced some time later
    store_append(keeper->store, now, world_wall(world));
    if (stopped(world)) return true;
    report(world);
    if (store_state(keeper->store) == JOURNAL_OK) keeper->released = keeper->submitted;
    moved = true;
    if (!everything) return moved;
  }
  if (any || ((pending || keeper->more) && (everything || percent(world, 50))) || next_ms == 0) {
    uint64_t before = keeper->committed;
    world->statistics.rounds++;
    bool more = store_round(keeper->store, now, world_wall(world));
    if (stopped(world)) return true;
    report(world);
    keeper->more = more && !keeper->failed;
    TRACE(world, "  round: batch %llu of %llu is safe, journal %s", (unsigned long long)keeper->committed,
          (unsigned long long)keeper->submitted, journal_state_name(keeper->state));
    moved |= any || keeper->more || keeper->committed != before;
  }
  moved |= answer_loads(world);
  if (stopped(world)) return true;
  return moved;
}

bool keeper_idle(const struct world *world)
{
  const struct keeper *keeper = &world->broker.keeper;
  return keeper->inbox.count == 0 && keeper->loads.count == 0 && keeper->answers.count == 0 &&
         keeper->given == keeper->committed && world->broker.told_committed == keeper->committed;
}

void keeper_free(struct world *world)
{
  struct keeper *keeper = &world->broker.keeper;
  for (size_t i = 0; i < keeper->inbox.count; i++) journal_batch_free(keeper->inbox.items[i].batch);
  for (size_t i = 0; i < keeper->answers.count; i++) journal_loaded_free(keeper->answers.items[i]);
  free(keeper->inbox.items);
  free(keeper->loads.items);
  free(keeper->answers.items);
  store_close(keeper->store);
  *keeper = (struct keeper){0};
}
