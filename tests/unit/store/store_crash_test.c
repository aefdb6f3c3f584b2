// Crashes at every operation of the disk, and random lives of a store with crashes, failures and full disks in between: what
// was reported committed is always there, in order and whole, and what is there was written by somebody.
#include "store_rig.h"

enum { BATCHES = 60 };

static void small_work(struct rig *rig, unsigned batches)
{
  for (unsigned i = 0; i < batches && !sim_disk_stopped(rig->disk); i++) {
    rig_submit(rig, 1 + i % 5);
    if (i % 6 == 5) {
      store_append(rig->store, rig->now, rig->wall);
      rig_submit(rig, 2);
    }
    rig_rounds(rig, 10);
  }
}

// Also while the store is made, opened, repaired and closed.
static void open_or_stop(struct rig *rig)
{
  struct error error;
  if (rig_try_open(rig, &error)) assert_true(sim_disk_stopped(rig->disk));
}

static uint64_t operations_of_work(uint64_t seed)
{
  struct rig rig;
  rig_init(&rig, seed);
  rig_open(&rig);
  small_work(&rig, BATCHES);
  assert_ok(store_finish(rig.store, rig.now, rig.wall));
  uint64_t operations = sim_disk_operations(rig.disk);
  rig_deinit(&rig);
  return operations;
}

static void stop_at(uint64_t seed, uint64_t operation, enum sim_crash how)
{
  struct rig rig;
  rig_init(&rig, seed);
  sim_disk_stop_at(rig.disk, operation);
  open_or_stop(&rig);
  if (rig.store) small_work(&rig, BATCHES);
  if (rig.store && !sim_disk_stopped(rig.disk)) assert_ok(store_finish(rig.store, rig.now, rig.wall));
  rig_crash(&rig, how);
  // And it goes on from there.
  small_work(&rig, 10);
  assert_int_equal(rig.committed, rig.count);
  rig_survives(&rig, how);
  rig_deinit(&rig);
}

static void a_crash_at_every_operation(void **state)
{
  (void)state;
  uint64_t operations = operations_of_work(11);
  assert_true(operations > 200);
  for (uint64_t i = 1; i <= operations; i++) {
    stop_at(11, i, SIM_KILL);
    stop_at(11, i, SIM_POWER_CUT);
  }
}

// A crash, and another one while what it left is opened.
static void a_crash_while_opening(void **state)
{
  (void)state;
  uint64_t operations = operations_of_work(12);
  for (uint64_t i = 1; i <= operations; i += 7) {
    for (uint64_t second = 1; second < 12; second++) {
      struct rig rig;
      rig_init(&rig, 12);
      sim_disk_stop_at(rig.disk, i);
      open_or_stop(&rig);
      if (rig.store) small_work(&rig, BATCHES);
      rig_close(&rig);
      sim_disk_crash(rig.disk, SIM_POWER_CUT, &rig.prng);
      sim_disk_stop_at(rig.disk, second);
      open_or_stop(&rig);
      rig_crash(&rig, SIM_POWER_CUT);
      rig_deinit(&rig);
    }
  }
}

// ---- Random lives

static void shake(struct rig *rig)
{
  switch (prng_below(&rig->prng, 12)) {
    case 0: sim_disk_fail_at(rig->disk, 1 + prng_below(&rig->prng, 20)); break;
    case 1: sim_disk_stop_at(rig->disk, 1 + prng_below(&rig->prng, 60)); break;
    case 2: rig_crash(rig, SIM_KILL); break;
    case 3: rig_crash(rig, SIM_POWER_CUT); break;
    case 4:
      if (store_finish(rig->store, rig->now, rig->wall)) break;
      rig->committed = rig->count;
      rig_crash(rig, SIM_POWER_CUT);
      break;
    default: break;
  }
}

static void live(uint64_t seed)
{
  struct rig rig;
  rig_init(&rig, seed);
  struct prng *prng = &rig.prng;
  rig.settings.segment_bytes = UINT64_C(1024) << prng_below(prng, 5);
  rig.settings.replay_bytes = UINT64_C(1024) << prng_below(prng, 7);
  rig.mix.payload_most = 20 + (unsigned)prng_below(prng, prng_below(prng, 2) ? 100 : 2000);
  rig.mix.fan_out = 1 + (unsigned)prng_below(prng, 6);
  rig.mix.message_share = 20 + (unsigned)prng_below(prng, 50);
  rig.mix.sessions = 1 + (unsigned)prng_below(prng, 8);
  unsigned records_most = 12;
  if (seed % 8 == 0) {  // batches that take several syncs
    rig.mix.payload_most = 2000;
    records_most = 400;
  }
  rig_open(&rig);
  for (unsigned i = 0; i < 40; i++) {
    rig_submit(&rig, 1 + (unsigned)prng_below(prng, records_most));
    if (prng_below(prng, 4) == 0) store_append(rig.store, rig.now, rig.wall);
    if (prng_below(prng, 3)) rig_rounds(&rig, prng_below(prng, 300));
    if (sim_disk_stopped(rig.disk)) rig_crash(&rig, prng_below(prng, 2) ? SIM_KILL : SIM_POWER_CUT);
    shake(&rig);
  }
  if (sim_disk_stopped(rig.disk)) rig_crash(&rig, SIM_POWER_CUT);
  sim_disk_fail_at(rig.disk, 0);
  sim_disk_stop_at(rig.disk, 0);
  rig_rounds(&rig, 10000);
  assert_int_equal(rig.committed, rig.count);
  rig_survives(&rig, SIM_POWER_CUT);
  rig_deinit(&rig);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
  const char *value = getenv(name);
  return value ? strtoull(value, NULL, 10) : otherwise;
}

static void random_lives(void **state)
{
  (void)state;
  uint64_t first = from_environment("SEED", 1), count = from_environment("SEEDS", 1500);
  for (uint64_t seed = first; seed < first + count; seed++) {
    live(seed);
    if (getenv("VERBOSE")) printf("seed %llu\n", (unsigned long long)seed);
  }
}

// ---- Long queues: blocks of references, checkpoints and replays of them

static void long_life(uint64_t seed)
{
  struct rig rig;
  rig_init(&rig, seed);
  struct prng *prng = &rig.prng;
  rig.settings.segment_bytes = 8192;
  rig.settings.replay_bytes = 65536;
  rig.settings.limit_bytes = 2 << 20;
  rig.mix = (struct model_mix){.sessions = 2, .payload_most = 40, .message_share = 80, .done_share = 10, .fan_out = 2};
  rig_open(&rig);
  for (unsigned i = 0; i < 60; i++) {
    rig.mix.done_share = prng_below(prng, 3) ? 10 : 19;
    rig_submit(&rig, 100);
    if (prng_below(prng, 10) == 0) sim_disk_fail_at(rig.disk, 1 + prng_below(prng, 30));
    if (prng_below(prng, 10) == 0) sim_disk_stop_at(rig.disk, 1 + prng_below(prng, 100));
    rig_rounds(&rig, 100);
    if (sim_disk_stopped(rig.disk) || prng_below(prng, 12) == 0)
      rig_crash(&rig, prng_below(prng, 2) ? SIM_KILL : SIM_POWER_CUT);
  }
  if (sim_disk_stopped(rig.disk)) rig_crash(&rig, SIM_POWER_CUT);
  sim_disk_fail_at(rig.disk, 0);
  sim_disk_stop_at(rig.disk, 0);
  rig_rounds(&rig, 10000);
  rig_survives(&rig, SIM_POWER_CUT);
  rig_deinit(&rig);
}

static void long_lives(void **state)
{
  (void)state;
  uint64_t first = from_environment("SEED", 1), count = from_environment("SEEDS", 40);
  for (uint64_t seed = first; seed < first + count; seed++) {
    if (getenv("VERBOSE")) printf("seed %llu\n", (unsigned long long)seed);
    long_life(seed);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_crash_at_every_operation),
      cmocka_unit_test(a_crash_while_opening),
      cmocka_unit_test(random_lives),
      cmocka_unit_test(long_lives),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
