// What a process does not find does not come back to the next one.
#include "store_rig.h"

enum { CHANGES = 12 };  // of the first batch, and a few more

static size_t sessions(const struct rig *rig)
{
  return store_catalog(rig->store)->sessions.count;
}

// The disk refuses the `count`-th change; the process dies, the next one does nothing, then the power goes.
static void leave_behind(uint64_t seed, uint64_t count)
{
  struct rig rig;
  rig_init(&rig, seed);
  rig_open(&rig);
  struct buffer records = {0};
  model_put_session(&rig.model, &records);
  sim_disk_fail_at(rig.disk, count);
  rig_submit_records(&rig, &records);
  (void)store_round(rig.store, rig.now, rig.wall);
  rig_crash_blind(&rig, SIM_KILL);
  size_t found = sessions(&rig);
  rig_crash_blind(&rig, SIM_POWER_CUT);
  if (sessions(&rig) != found)
    fail_msg("seed %u, change %u: %zu sessions, then %zu", (unsigned)seed, (unsigned)count, found, sessions(&rig));
  buffer_deinit(&records);
  rig_deinit(&rig);
}

// The first segment was given up and removed, but its name is still on the disk.
static void the_first_segment_stays_removed(void **state)
{
  (void)state;
  for (uint64_t seed = 1; seed <= 30; seed++)
    for (uint64_t count = 1; count <= CHANGES; count++) leave_behind(seed, count);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_segment_stays_removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
