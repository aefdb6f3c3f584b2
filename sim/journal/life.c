// The process and its machine: starting, stopping, dying, and what happens to the disk.
#include <stdio.h>
#include <string.h>

#include "store/log.h"
#include "world.h"

enum { STOP_ROUNDS = 200, START_TRIES = 50 };

// ---- Starting

static enum status open_store(struct world *world, struct error *error)
{
  const struct plan *plan = &world->plan;
  struct store_settings settings = {.disk = world->disk,
                                    .log = &world->broker.store_log,
                                    .broker_id = "simulated",
                                    .segment_bytes = plan->segment_bytes,
                                    .limit_bytes = plan->limit_bytes,
                                    .reserve_bytes = plan->reserve_bytes,
                                    .replay_bytes = plan->replay_bytes};
  for (size_t i = 0; i < sizeof settings.identity; i++) settings.identity[i] = (uint8_t)pick(world, 256);
  log_init(&world->broker.store_log, world_log, world, LOG_DEBUG);
  return store_open(&settings, world_mono(world), world_wall(world), &world->broker.keeper.store, error);
}

static void create_shards(struct world *world)
{
  struct broker *broker = &world->broker;
  uint64_t secret = prng_next(&world->trial.prng);
  for (uint8_t i = 0; i < broker->shard_count; i++) {
    log_init(&broker->logs[i], world_log, world, LOG_DEBUG);
    struct shard_settings settings = {.shard = i,
                                      .shard_count = broker->shard_count,
                                      .limits = broker->limits,
                                      .seed = secret,
                                      .budget = &broker->budget,
                                      .log = &broker->logs[i],
                                      .journal = true,
                                      .journal_waits = world->plan.waits,
                                      .journal_epoch_ms = store_epoch_ms(broker->keeper.store),
                                      .journal_high_bytes = world->plan.high_bytes};
    broker->shards[i] = shard_create(&settings, world_mono(world));
    if (!broker->shards[i]) abort();
  }
  users_set_list(world);
}

static void compare_digests(struct world *world)
{
  if (!world->has_digest) return;
  world->has_digest = false;
  uint64_t digest = oracle_digest(world, false);
  world->statistics.digests++;
  if (digest == world->digest || world->rotten) return;
  oracle_digest(world, world->trial.trace);
  world_fail(world, "what was recovered is not what was applied");
}

static void note_opening(struct world *world)
{
  struct store_counters counters;
  store_counters(world->broker.keeper.store, world_mono(world), &counters);
  world->statistics.torn += counters.torn_bytes > 0;
  if (!world->rotten && counters.damaged_records + counters.damaged_messages > 0)
    world_fail(world, "found %llu damaged records at opening, though nothing was damaged",
               (unsigned long long)(counters.damaged_records + counters.damaged_messages));
  TRACE(world, "opened: %llu bytes replayed, %llu torn, %llu segments, %llu sessions, %llu waiting",
        (unsigned long long)counters.replayed_bytes, (unsigned long long)counters.torn_bytes,
        (unsigned long long)counters.segments, (unsigned long long)counters.queues, (unsigned long long)counters.queued);
}

// False: the machine stopped meanwhile, or its disk refused.
static bool start_once(struct world *world)
{
  struct broker *broker = &world->broker;
  struct error error = {0};
  if (!world->healing && percent(world, 15)) sim_disk_stop_at(world->disk, 1 + pick(world, 12));
  enum status status = open_store(world, &error);
  if (sim_disk_stopped(world->disk)) {
    if (!status) keeper_free(world);
    world->statistics.in_recovery++;
    sim_disk_crash(world->disk, percent(world, 50) ? SIM_KILL : SIM_POWER_CUT, &world->trial.prng);
    return false;
  }
  sim_disk_stop_at(world->disk, 0);
  if (status) {
    if (!world->disk_bad) world_fail(world, "the journal does not open: %s", error.text);
    return false;
  }
  note_opening(world);
  if (world->trial.trace) oracle_digest(world, true);
  compare_digests(world);
  broker->keeper.committed = store_committed(broker->keeper.store);
  broker->keeper.state = store_state(broker->keeper.store);
  broker->told_committed = 0;
  create_shards(world);
  if (store_restore(broker->keeper.store, broker->shards, broker->shard_count, &error))
    world_fail(world, "cannot restore: %s", error.text);
  for (uint8_t i = 0; i < broker->shard_count; i++) {
    shard_set_time(broker->shards[i], world_mono(world));
    shard_tick(broker->shards[i]);
    broker->ticked_ms[i] = world->trial.now_ms;
  }
  broker->up = true;
  return true;
}

void life_heal_disk(struct world *world)
{
  const struct sim_disk_faults none = {0};
  world->faults = none;
  sim_disk_set_faults(world->disk, &none);
  sim_disk_set_capacity(world->disk, 0);
  world->disk_bad = false;
}

void life_start(struct world *world)
{
  struct broker *broker = &world->broker;
  uint8_t before = broker->shard_count;
  // What cannot be read at opening is given up for good, as it must be: no errors that are gone a moment later, then.
  struct sim_disk_faults faults = world->faults;
  faults.reads = faults.names = 0;
  sim_disk_set_faults(world->disk, &faults);
  if (before == 0 || percent(world, 40)) broker->shard_count = (uint8_t)(1 + pick(world, SHARDS));
  if (before != broker->shard_count) world->statistics.resharded++;
  for (unsigned i = 0; !start_once(world) && !world->trial.failed; i++) {
    world->trial.now_ms += pick(world, 50);
    if (i > START_TRIES / 2) life_heal_disk(world);
    if (i > START_TRIES) world_fail(world, "the broker does not start");
  }
  sim_disk_set_faults(world->disk, &world->faults);
  TRACE(world, "the broker starts with %u shards", broker->shard_count);
}

// ---- The end

static void count_past(struct world *world)
{
  struct counters counters;
  struct store_counters store;
  broker_counters(world, &counters);
  counters_add(&world->past, &counters);
  store_counters(world->broker.keeper.store, world_mono(world), &store);
  struct statistics *statistics = &world->statistics;
  statistics->checkpoints += store.checkpoints;
  statistics->removed += store.segments_removed;
  statistics->copied += store.segments_copied;
  statistics->errors += store.errors;
  statistics->wills += counters.wills_sent;
  statistics->redelivered += counters.redelivered;
  statistics->expired_sessions += counters.sessions_expired;
  for (unsigned i = 0; i < DROP_REASONS; i++)
    if (i != DROP_OFFLINE_QOS_0 && i != DROP_SLOW_CONSUMER && i != DROP_SESSION_ENDED)
      statistics->dropped += counters.dropped[i];
  statistics->damaged += counters.dropped[DROP_DAMAGED];
  statistics->refused += counters.publish_refused[REFUSE_JOURNAL] + counters.publish_refused[REFUSE_QUEUE_FULL];
  bool blocks = false;
  size_t cursor = 0;
  const struct catalog_session *session;
  while ((session = map_next(&store_catalog(world->broker.keeper.store)->sessions, &cursor)))
    blocks |= session->block_count > 0;
  statistics->blocks += blocks;
}

// Nobody tells the clients: what is on its way to them arrives, or not.
static void break_links(struct world *world)
{
  for (size_t i = 0; i < world->broker.links.count; i++) {
    struct wire *link = world->broker.links.items[i];
    pipe_cut(&link->up);
    if (percent(world, 50)) pipe_cut(&link->down);
  }
}

// What the disk has is what is applied: nothing is half done.
static bool is_clear(const struct world *world)
{
  return world->plan.waits && !world->disk_bad && !sim_disk_stopped(world->disk) && !world->rotten &&
         world->broker.keeper.state == JOURNAL_OK && !world->ever_bad;
}

static void die(struct world *world, enum sim_crash how)
{
  TRACE(world, "---- %s", how == SIM_KILL ? "killed" : "power cut");
  count_past(world);
  world->has_digest = is_clear(world);
  world->digest = oracle_digest(world, world->trial.trace);
  if (!world->plan.waits) world->lossy = true;
  break_links(world);
  broker_destroy(world);
  keeper_free(world);
  sim_disk_crash(world->disk, how, &world->trial.prng);
  *(how == SIM_KILL ? &world->statistics.kills : &world->statistics.power_cuts) += 1;
  world->broker.doom = 0;
  world->broker.dying = false;
  world->crash_at = 0;
  world->crashes++;
  if (world->ever_bad) world->bad_crash = world->crashes;
  world->ever_bad = world->disk_bad;
  if (how == SIM_POWER_CUT) world->trial.boot_ms = world->trial.now_ms - 1000 - pick(world, 30000);
}

// As the binary stops: connections end, what is left goes to the store, the store finishes.
void life_stop(struct world *world)
{
  struct broker *broker = &world->broker;
  struct keeper *keeper = &broker->keeper;
  TRACE(world, "---- a clean stop");
  sim_disk_stop_at(world->disk, 0);
  for (uint8_t i = 0; i < broker->shard_count; i++) {
    shard_set_time(broker->shards[i], world_mono(world));
    shard_disconnect_all(broker->shards[i], MQTT_SERVER_SHUTTING_DOWN);
  }
  for (unsigned i = 0; i < 3; i++) {
    for (uint8_t s = 0; s < broker->shard_count; s++) broker_turn(world, s, true);
    keeper_turn(world, true);
    for (uint8_t s = 0; s < broker->shard_count; s++)  // loops go on until their connections are gone
      for (uint8_t t = 0; t < broker->shard_count; t++) broker_move_mails(world, s, t, true);
  }
  broker_close_all(world);
  struct journal_batch *batch = shard_take_batch(broker->shards[JOURNAL_SHARD]);
  if (batch) {
    struct waiting waiting = {.batch = batch};
    keeper->given = batch->number;
    VECTOR_PUSH(&keeper->inbox, waiting);
  }
  for (unsigned i = 0; keeper->inbox.count > 0 || (keeper->committed < keeper->given && i < 5); i++)
    keeper_turn(world, true);
  enum status status = store_finish(keeper->store, world_mono(world), world_wall(world));
  keeper->committed = store_committed(keeper->store);
  if (status && !world->disk_bad && world->plan.roomy)
    world_fail(world, "the store does not finish: %s", status_name(status));
  if (keeper->committed < keeper->given) {
    if (!world->disk_bad && world->plan.roomy) world_fail(world, "a clean stop leaves batches behind");
    world->bad_crash = ++world->crashes;  // what was not acknowledged is gone
    if (!world->plan.waits) world->lossy = true;
  }
  count_past(world);
  world->has_digest = !status && is_clear(world);
  if (world->has_digest) world->digest = oracle_digest(world, world->trial.trace);
  for (size_t i = 0; i < broker->links.count; i++) pipe_close(&broker->links.items[i]->down);
  broker_destroy(world);
  keeper_free(world);
  sim_disk_crash(world->disk, percent(world, 50) ? SIM_KILL : SIM_POWER_CUT,
                 &world->trial.prng);  // it does not matter any more
  world->crash_at = 0;
  broker->dying = false;
  broker->doom = 0;
  world->statistics.stops++;
  world->ever_bad = world->disk_bad;
}

// ---- Rot

struct files {
  char names[256][32];
  size_t count;
};

static void found(void *context, const char *name)
{
  struct files *files = context;
  if (files->count < 256 && (strstr(name, ".segment") || strcmp(name, "anchor") == 0))
    snprintf(files->names[files->count++], 32, "%s", name);
}

static int compare_names(const void *a, const void *b)
{
  return strcmp(a, b);
}

static void message_rots(struct world *world, struct span body)
{
  struct record_message record;
  if (!record_get_message(body, &record)) return;
  for (uint8_t t = 0; t < TOPICS; t++)
    if (record.store && span_equal(record.topic, span_text(TOPIC_NAMES[t]))) world->topic_rotten[t] = true;
  struct message *message = model_find(world, record.payload);
  if (message) {
    message->rotten = true;
    TRACE(world, "message %u rots", message->id);
  } else {
    world->nameless_rotten = true;
  }
}

// The record at an offset. False: there is none.
static bool read_header(struct span file, uint64_t at, struct record_header *out)
{
  if (at + sizeof *out > file.size) return false;
  struct record_reader reader = {.rest = span_of(file.at + at, sizeof *out)};
  out->checksum = record_read_u32(&reader);
  out->size = record_read_u32(&reader);
  out->mark = record_read_u64(&reader);
  return out->mark != 0 && at + record_length(out->size) <= file.size;
}

// Whether something was written behind it later. If not, nobody can tell damage from what was never written whole: the end
// is cut off there.
static bool has_batch_behind(struct span file, uint64_t at)
{
  struct record_header header;
  for (; read_header(file, at, &header); at += record_length(header.size))
    if (record_type(&header) == RECORD_BATCH) return true;
  return false;
}

// What the byte belongs to, and hence what may be missing afterwards.
static void judge_rot(struct world *world, struct span file, uint64_t offset)
{
  struct record_header header;
  uint64_t at = LOG_SEGMENT_HEADER;
  if (offset < at) world->lossy = true;  // a whole segment
  while (offset >= at && read_header(file, at, &header)) {
    uint64_t end = at + record_length(header.size);
    if (offset < end) {
      enum record_type type = record_type(&header);
      TRACE(world, "rot in a record of type %d", type);
      if (type == RECORD_MESSAGE || type == RECORD_MESSAGE_COPY)
        message_rots(world, span_of(file.at + at + sizeof header, header.size));
      else if (type != RECORD_BATCH)
        world->lossy = true;
      if (!has_batch_behind(file, end)) world->lossy = true;
      return;
    }
    at = end;
  }
}

static void let_rot(struct world *world)
{
  struct files *files = sim_alloc(sizeof *files);
  if (world->disk->operations->list(world->disk, found, files)) files->count = 0;
  qsort(files->names, files->count, sizeof files->names[0], compare_names);
  struct span file;
  if (files->count > 0) {
    const char *name = files->names[pick(world, files->count)];
    if (sim_disk_peek(world->disk, name, &file) && file.size > 0) {
      size_t used = file.size;
      while (used > 1 && file.at[used - 1] == 0) used--;
      uint64_t offset = pick(world, used);
      TRACE(world, "---- byte %llu of %s rots", (unsigned long long)offset, name);
      if (strcmp(name, "anchor") != 0) judge_rot(world, file, offset);
      sim_disk_flip(world->disk, name, offset, (uint8_t)(1u << pick(world, 8)));
      world->rotten = true;
      world->has_digest = false;
      world->statistics.rot++;
    }
  }
  free(files);
}

// ---- All of it

static uint64_t downtime_ms(struct world *world)
{
  if (percent(world, 70)) return pick(world, 500);
  if (percent(world, 80)) return pick(world, 20000);
  return pick(world, 7200 * 1000);
}

void life_restart(struct world *world)
{
  bool crash = world->broker.dying || percent(world, 80);
  enum sim_crash how = percent(world, 50) ? SIM_KILL : SIM_POWER_CUT;
  uint64_t died_ms = world->trial.now_ms;
  unsigned crashes = world->crashes;
  if (crash)
    die(world, how);
  else
    life_stop(world);
  if (world->plan.bit_rot && (!crash || how == SIM_POWER_CUT) && percent(world, 50)) let_rot(world);
  world->trial.now_ms += downtime_ms(world);
  for (unsigned i = 0; i < world->client_count; i++) client_read(world->clients[i], SIZE_MAX);
  life_start(world);
  // The journal still calls those connected that a crash has cut off: their absence begins anew with each start.
  for (unsigned i = 0; i < world->client_count; i++) {
    struct client *client = world->clients[i];
    client->away_by_crash |= crashes != world->crashes;
    if (client->away_by_crash) client->away_ms = world->trial.now_ms;
  }
  if (!world->trial.failed) users_intrude(world);
  TRACE(world, "it was down for %llu ms", (unsigned long long)(world->trial.now_ms - died_ms));
}
