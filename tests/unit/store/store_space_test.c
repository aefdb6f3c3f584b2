// Space: what is not needed any more goes, replaying stays bounded, limits hold, and a full disk passes.
#include "store_rig.h"

static void steady_traffic_takes_steady_space(void **state)
{
  struct rig *rig = *state;
  rig->settings.segment_bytes = 16384;
  rig->settings.reserve_bytes = 16384;
  rig->settings.replay_bytes = 65536;
  rig_open(rig);
  rig_put_session(rig);
  uint64_t most = 0;
  for (unsigned i = 0; i < 1000; i++) {
    rig_put_messages(rig, 1, 20, 200);
    if (i >= 5) rig_put_done(rig, 1, (i - 5) * 20, 20);
    uint64_t bytes = rig_counters(rig).bytes;
    if (bytes > most) most = bytes;
  }
  // 20 MB have passed. The backlog is 25 KB; two checkpoints' distances and some segments that are only just dead.
  assert_in_range(most, 16384, 300000);
  assert_true(rig_counters(rig).segments_removed > 200);
  assert_true(rig_counters(rig).checkpoints > 20);
  assert_true(rig->disk->bytes_written < (uint64_t)1000 * 20 * 200 * 2);
  rig_survives(rig, SIM_POWER_CUT);
}

static void replaying_is_bounded(void **state)
{
  struct rig *rig = rig_of_seed(state, 2);
  rig->settings.segment_bytes = 65536;
  rig->settings.replay_bytes = 200000;
  rig_open(rig);
  rig_put_session(rig);
  for (unsigned i = 0; i < 60; i++) {
    for (unsigned j = 0; j < 37; j++) rig_put_messages(rig, 1, 10, 200);
    rig_crash(rig, SIM_KILL);
    uint64_t bytes = rig_counters(rig).replayed_bytes;
    assert_in_range(bytes, 0, 200000 + 40000);  // and a checkpoint: 40 bytes for 256 messages
  }
  rig_check(rig);
}

// Batches that are larger than what may be replayed, as they come when the disk is slower than the publishers.
static void a_flood_does_not_outrun_it(void **state)
{
  struct rig *rig = rig_of_seed(state, 11);
  rig->settings.segment_bytes = 65536;
  rig->settings.replay_bytes = 400000;
  rig_open(rig);
  rig_put_session(rig);
  for (unsigned i = 0; i < 12; i++) {
    struct buffer records = {0};
    for (unsigned j = 0; j < 400; j++) model_put_message(&rig->model, 1, 4000, &records);
    rig_submit_records(rig, &records);
    buffer_deinit(&records);
    size_t end = rig->count;
    if (i % 3 == 2) store_append(rig->store, rig->now, rig->wall);  // all at once
    if (i % 3 == 1) sim_disk_stop_at(rig->disk, 10 + 2 * i);        // between two parts
    (void)store_round(rig->store, rig->now, rig->wall);
    rig_crash(rig, SIM_KILL);
    if (i % 3 != 1) assert_int_equal(rig->count, end);
    uint64_t appended = i % 3 == 2 ? 400 * 4400 : 0;
    assert_in_range(rig_counters(rig).replayed_bytes, 1, 400000 + appended + 40000);
  }
  rig_check(rig);
}

// A checkpoint that is as large as what may be replayed is not written all the time.
static void large_checkpoints_are_rare(void **state)
{
  struct rig *rig = rig_of_seed(state, 3);
  rig->settings.segment_bytes = 65536;
  rig->settings.replay_bytes = 20000;
  rig_open(rig);
  for (unsigned i = 0; i < MODEL_SESSIONS - 1; i++) {
    rig_put_session(rig);
    rig_put_messages(rig, i + 1, 200, 20);  // each in the checkpoint, reference by reference
  }
  uint64_t written = rig->disk->bytes_written, before = rig_counters(rig).message_bytes;
  for (unsigned i = 0; i < 2000; i++) {
    rig_put_messages(rig, 1, 10, 100);
    rig_put_done(rig, 1, 200 + i * 10, 10);
  }
  uint64_t messages = 2000 * 10 * 100;
  assert_true(rig_counters(rig).message_bytes > before);
  assert_true(rig->disk->bytes_written - written < messages * 5);
}

// With one small record, and nothing behind it. Then the store is at rest.
static void a_drained_backlog_is_given_back(void **state)
{
  struct rig *rig = rig_of_seed(state, 9);
  rig->settings.segment_bytes = 16384;
  rig->settings.reserve_bytes = 16384;
  rig->settings.replay_bytes = 65536;
  rig_open(rig);
  rig_put_session(rig);
  uint64_t place = 0;
  for (unsigned turn = 0; turn < 3; turn++) {
    for (unsigned i = 0; i < 100; i++) rig_put_messages(rig, 1, 20, 1000);
    assert_true(rig_counters(rig).bytes > 2000000);
    if (turn == 2) rig_crash(rig, SIM_POWER_CUT);
    rig_put_done(rig, 1, place, 2000);
    place += 2000;
    // The bound on what may stay dead, the last two distances, the reserve, the segment that is written.
    assert_in_range(rig_counters(rig).bytes, 1, 65536 + 2 * 65536 + 2 * 16384);
    uint64_t operations = sim_disk_operations(rig->disk), checkpoints = rig_counters(rig).checkpoints;
    for (unsigned i = 0; i < 10; i++) rig_rounds(rig, 100000);
    assert_int_equal(sim_disk_operations(rig->disk), operations);
    assert_int_equal(store_next_ms(rig->store, rig->now), -1);
    // Little is not worth it.
    rig_put_messages(rig, 1, 20, 1000);
    rig_put_done(rig, 1, place, 20);
    place += 20;
    assert_in_range(rig_counters(rig).checkpoints, checkpoints, checkpoints + 1);
  }
  rig_survives(rig, SIM_POWER_CUT);
}

static enum status unlink_nothing(struct disk *disk, const char *name)
{
  (void)disk;
  (void)name;
  return ERR_IO;
}

// What cannot be removed is no reason to write checkpoints for ever.
static void a_disk_that_removes_nothing_is_left_alone(void **state)
{
  struct rig *rig = rig_of_seed(state, 10);
  rig->settings.segment_bytes = 16384;
  rig->settings.replay_bytes = 65536;
  rig_open(rig);
  rig_put_session(rig);
  for (unsigned i = 0; i < 20; i++) rig_put_messages(rig, 1, 20, 1000);
  struct disk_operations operations = *rig->disk->operations;
  const struct disk_operations *whole = rig->disk->operations;
  operations.unlink = unlink_nothing;
  rig->disk->operations = &operations;
  rig_put_done(rig, 1, 0, 400);  // comes to rest
  assert_true(rig_counters(rig).errors > 10);
  assert_int_equal(rig_counters(rig).segments_removed, 0);
  rig->disk->operations = whole;
  for (unsigned i = 0; i < 20; i++) rig_put_messages(rig, 1, 20, 1000);
  assert_true(rig_counters(rig).segments_removed > 10);
  rig_check(rig);
}

static void one_old_message_does_not_hold_a_segment(void **state)
{
  struct rig *rig = rig_of_seed(state, 4);
  rig->settings.segment_bytes = 16384;
  rig->settings.replay_bytes = 32768;
  rig->settings.limit_bytes = 400000;
  rig_open(rig);
  for (unsigned i = 0; i < 30; i++) rig_put_session(rig);
  // Each session holds one message in a segment of its own; everything else is done.
  uint64_t places[MODEL_SESSIONS] = {0};
  for (unsigned i = 0; i < 600; i++) {
    uint32_t old = 2 + i % 29;
    if (places[old] == 0) {
      rig_put_messages(rig, old, 1, 100);
      places[old] = 1;
    }
    rig_put_messages(rig, 1, 40, 300);
    rig_put_done(rig, 1, i * 40, 40);
  }
  struct store_counters counters = rig_counters(rig);
  assert_true(counters.segments_copied > 5);
  assert_true(counters.bytes <= rig->settings.limit_bytes);
  assert_int_equal(counters.queued, 29);
  assert_int_equal(store_state(rig->store), JOURNAL_OK);
  rig_survives(rig, SIM_POWER_CUT);
}

// Whole blocks of references lie between messages that are done.
static void old_blocks_are_copied_too(void **state)
{
  struct rig *rig = rig_of_seed(state, 5);
  rig->settings.segment_bytes = 16384;
  rig->settings.replay_bytes = 32768;
  rig->settings.limit_bytes = 600000;
  rig_open(rig);
  rig_put_session(rig);
  rig_put_session(rig);
  for (unsigned i = 0; i < 900; i++) {
    rig_put_messages(rig, 2, 1, 30);
    rig_put_messages(rig, 1, 20, 300);
    rig_put_done(rig, 1, i * 20, 20);
  }
  struct store_counters counters = rig_counters(rig);
  assert_true(counters.segments_copied > 20);
  assert_true(counters.bytes <= rig->settings.limit_bytes);
  assert_int_equal(counters.queued, 900);
  rig_survives(rig, SIM_POWER_CUT);
}

// ---- Limits

// What a shard does: while the journal is not OK, only what frees space is sent.
static unsigned fill_up(struct rig *rig, unsigned most)
{
  unsigned i = 0;
  for (; i < most && store_state(rig->store) == JOURNAL_OK; i++) rig_put_messages(rig, 1, 10, 200);
  return i;
}

static void the_limit_holds_and_draining_ends_it(void **state)
{
  struct rig *rig = rig_of_seed(state, 6);
  rig->settings.segment_bytes = 16384;
  rig->settings.reserve_bytes = 3 * 16384;
  rig->settings.limit_bytes = 500000;
  rig_open(rig);
  rig_put_session(rig);
  uint64_t place = 0;
  for (unsigned turn = 0; turn < 5; turn++) {
    unsigned filled = fill_up(rig, 1000);
    assert_in_range(filled, 50, 999);
    assert_int_equal(store_state(rig->store), JOURNAL_FULL);
    assert_int_equal(rig->committed, rig->count);
    assert_true(rig_counters(rig).bytes <= rig->settings.limit_bytes);
    assert_in_range(store_next_ms(rig->store, rig->now), 0, 5000);
    // Acknowledgements go on.
    uint64_t tail = catalog_find(store_catalog(rig->store), 1)->tail;
    for (; place + 10 <= tail; place += 10) {
      rig_put_done(rig, 1, place, 10);
      assert_int_equal(rig->committed, rig->count);
    }
    for (unsigned i = 0; i < 20 && store_state(rig->store) != JOURNAL_OK; i++) rig_rounds(rig, 1000);
    assert_int_equal(store_state(rig->store), JOURNAL_OK);
    assert_true(rig_counters(rig).bytes <= rig->settings.limit_bytes);
  }
  rig_survives(rig, SIM_POWER_CUT);
}

// The file system is full, of something else.
static void a_full_disk_passes(void **state)
{
  (void)state;
  for (unsigned reserved = 0; reserved < 2; reserved++) {
    struct rig rig;
    rig_init(&rig, 7);
    disk_destroy(rig.disk);
    struct sim_disk_settings disk = {.no_reserve = reserved == 0};
    prng_seed(&disk.prng, 5);
    rig.disk = rig.settings.disk = sim_disk_create(&disk);
    rig.settings.segment_bytes = 16384;
    rig.settings.reserve_bytes = 2 * 16384;
    rig_open(&rig);
    rig_put_session(&rig);
    for (unsigned turn = 0; turn < 4; turn++) {
      rig_put_messages(&rig, 1, 30, 200);
      sim_disk_set_capacity(rig.disk, 1);
      fill_up(&rig, 1000);
      assert_int_not_equal(store_state(rig.store), JOURNAL_OK);
      for (unsigned i = 0; i < 300; i++) rig_put_messages(&rig, 1, 10, 200);  // more than the reserve holds
      assert_true(rig.committed < rig.count);
      if (turn == 2) rig_crash(&rig, SIM_POWER_CUT);
      sim_disk_set_capacity(rig.disk, 0);
      for (unsigned i = 0; i < 10; i++) rig_rounds(&rig, 1000);
      assert_int_equal(store_state(rig.store), JOURNAL_OK);
      assert_int_equal(rig.committed, rig.count);
      rig_check(&rig);
    }
    rig_crash(&rig, SIM_POWER_CUT);
    rig_check(&rig);
    rig_deinit(&rig);
  }
}

// Opened while there is no room for anything.
static void a_full_disk_can_be_opened(void **state)
{
  struct rig *rig = rig_of_seed(state, 8);
  rig_open(rig);
  rig_put_session(rig);
  rig_put_messages(rig, 1, 500, 100);
  rig_close(rig);
  sim_disk_set_capacity(rig->disk, 1);
  rig_open(rig);
  rig_check(rig);
  rig_rounds(rig, 1000);
  rig_check(rig);
}

// Random work at the limit: whatever is dropped or kept, the store comes to rest after each batch, and back to OK when the
// queues are drained.
static void random_work_at_the_limit(void **state)
{
  (void)state;
  for (uint64_t seed = 1; seed <= 400; seed++) {
    struct rig rig;
    rig_init(&rig, seed);
    rig.settings.segment_bytes = 8192;
    rig.settings.reserve_bytes = 4 * 8192;
    rig.settings.limit_bytes = 200000;
    rig.settings.replay_bytes = UINT64_C(16384) << prng_below(&rig.prng, 4);
    rig.mix.sessions = 3;
    rig_open(&rig);
    for (unsigned i = 0; i < 300; i++) {
      bool ok = store_state(rig.store) == JOURNAL_OK;
      rig.mix.message_share = ok ? 70 : 0;
      rig.mix.done_share = ok ? 20 : 95;
      rig_submit(&rig, 10);
      rig_rounds(&rig, 100);
      assert_true(rig_counters(&rig).bytes <= rig.settings.limit_bytes);
      if (prng_below(&rig.prng, 60) == 0) rig_crash(&rig, SIM_POWER_CUT);
    }
    rig.mix.message_share = 0;
    rig.mix.done_share = 95;
    for (unsigned i = 0; i < 100 || (i < 1000 && store_state(rig.store) != JOURNAL_OK); i++) {
      rig_submit(&rig, 5);
      rig_rounds(&rig, 1000);
    }
    assert_int_equal(store_state(rig.store), JOURNAL_OK);
    assert_int_equal(rig.committed, rig.count);
    rig_check(&rig);
    rig_deinit(&rig);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_RIG(steady_traffic_takes_steady_space),
      WITH_RIG(replaying_is_bounded),
      WITH_RIG(a_flood_does_not_outrun_it),
      WITH_RIG(large_checkpoints_are_rare),
      WITH_RIG(a_drained_backlog_is_given_back),
      WITH_RIG(a_disk_that_removes_nothing_is_left_alone),
      WITH_RIG(one_old_message_does_not_hold_a_segment),
      WITH_RIG(old_blocks_are_copied_too),
      WITH_RIG(the_limit_holds_and_draining_ends_it),
      cmocka_unit_test(a_full_disk_passes),
      WITH_RIG(a_full_disk_can_be_opened),
      cmocka_unit_test(random_work_at_the_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
