// The store as its users see it: rounds, commits, loads, a clean stop, time, what is counted. Crashes, space and damage have
// tests of their own.
#include "store_rig.h"

// One session with `count` messages.
static void put_queue(struct rig *rig, unsigned count)
{
  rig_put_session(rig);
  rig_put_messages(rig, 1, count, 100);
}

static void nothing_is_written_without_need(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  rig_rounds(rig, 1);
  uint64_t operations = sim_disk_operations(rig->disk);
  for (unsigned i = 0; i < 100; i++) rig_rounds(rig, 100000);
  assert_int_equal(sim_disk_operations(rig->disk), operations);
  assert_int_equal(store_next_ms(rig->store, rig->now), -1);
  put_queue(rig, 600);
  operations = sim_disk_operations(rig->disk);
  for (unsigned i = 0; i < 100; i++) rig_rounds(rig, 100000);
  assert_int_equal(sim_disk_operations(rig->disk), operations);
}

static void a_batch_is_committed_by_its_round(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  assert_int_equal(store_committed(rig->store), 0);
  rig_submit(rig, 1);
  assert_int_equal(store_committed(rig->store), 0);
  (void)store_round(rig->store, rig->now, rig->wall);  // begins a segment
  assert_int_equal(store_committed(rig->store), 1);
  rig_submit(rig, 1);
  uint64_t syncs = rig->disk->syncs;
  (void)store_round(rig->store, rig->now, rig->wall);
  assert_int_equal(store_committed(rig->store), 2);
  assert_int_equal(rig->disk->syncs, syncs + 1);
  for (unsigned i = 0; i < 3; i++) rig_submit(rig, 2);
  syncs = rig->disk->syncs;
  (void)store_round(rig->store, rig->now, rig->wall);
  assert_int_equal(store_committed(rig->store), 5);
  assert_int_equal(rig->disk->syncs, syncs + 1);
  rig_check(rig);
}

static void an_empty_batch_is_committed(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  rig_submit(rig, 0);
  rig_rounds(rig, 1);
  assert_int_equal(store_committed(rig->store), 1);
}

static void what_was_committed_is_there_again(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  for (unsigned i = 0; i < 50; i++) {
    rig_submit(rig, 1 + i % 7);
    rig_rounds(rig, 1);
  }
  assert_int_equal(rig->committed, rig->count);
  rig_survives(rig, SIM_POWER_CUT);
}

static void large_and_many_batches_keep_their_order(void **state)
{
  struct rig *rig = rig_of_seed(state, 3);
  rig->settings.segment_bytes = 1 << 20;
  rig->mix.payload_most = 4000;
  rig_open(rig);
  for (unsigned i = 0; i < 40; i++) rig_submit(rig, i % 4 == 0 ? 200 : 1);
  rig_rounds(rig, 1);
  assert_int_equal(store_committed(rig->store), 40);
  rig_survives(rig, SIM_KILL);
}

// ---- Durability `interval`

static void what_is_appended_survives_a_kill(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  rig_submit(rig, 20);
  store_append(rig->store, rig->now, rig->wall);
  rig_submit(rig, 20);
  store_append(rig->store, rig->now, rig->wall);
  assert_int_equal(store_committed(rig->store), 0);
  assert_int_equal(store_catalog(rig->store)->sessions.count, 0);
  size_t count = rig->count;
  rig_crash(rig, SIM_KILL);
  assert_int_equal(rig->count, count);
}

static void the_next_round_commits_what_was_appended(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  for (unsigned i = 0; i < 30; i++) {
    rig_submit(rig, 10);
    store_append(rig->store, rig->now, rig->wall);
    if (i % 3 == 0) rig_submit(rig, 2);
    if (i % 5 == 0) rig_rounds(rig, 10);
  }
  rig_rounds(rig, 10);
  assert_int_equal(rig->committed, rig->count);
  rig_survives(rig, SIM_POWER_CUT);
}

// ---- Failures

// Whatever operation fails, once: nothing is lost, and the store goes on by itself.
static void a_failure_loses_nothing(void **state)
{
  (void)state;
  for (uint64_t at = 1; at < 120; at++) {
    struct rig rig;
    rig_init(&rig, 7);
    rig_open(&rig);
    sim_disk_fail_at(rig.disk, at);
    for (unsigned i = 0; i < 30; i++) {
      rig_submit(&rig, 6);
      if (i % 4 == 1) store_append(rig.store, rig.now, rig.wall);
      rig_rounds(&rig, 20);
    }
    rig_rounds(&rig, 10000);
    assert_int_equal(store_state(rig.store), JOURNAL_OK);
    assert_int_equal(rig.committed, rig.count);
    rig_survives(&rig, SIM_POWER_CUT);
    rig_deinit(&rig);
  }
}

static void a_failing_disk_is_tried_less_and_less(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  rig_submit(rig, 5);
  rig_rounds(rig, 1);
  sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){.syncs = 1});
  rig_submit(rig, 5);
  rig_rounds(rig, 1);
  assert_int_equal(store_state(rig->store), JOURNAL_FAILING);
  assert_true(rig_logged(rig, "journal_state"));
  uint64_t before = rig_counters(rig).errors;
  for (unsigned i = 0; i < 10000; i++) {
    rig_rounds(rig, 10);
    int64_t next_ms = store_next_ms(rig->store, rig->now);
    assert_in_range(next_ms, 0, 5000);
  }
  uint64_t tries = rig_counters(rig).errors - before;
  assert_in_range(tries, 15, 40);  // of 100 seconds
  assert_int_equal(store_committed(rig->store), 1);
  sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){0});
  rig_rounds(rig, 5000);
  assert_int_equal(store_state(rig->store), JOURNAL_OK);
  assert_int_equal(store_committed(rig->store), 2);
  assert_int_equal(store_next_ms(rig->store, rig->now), -1);
  rig_survives(rig, SIM_POWER_CUT);
}

// ---- Loads

static struct journal_loaded *load(struct rig *rig, uint32_t session, uint64_t place, uint32_t entries, uint32_t bytes)
{
  struct journal_load wanted = {
      .session = session, .ticket = 42, .place = place, .max_entries = entries, .max_bytes = bytes};
  struct journal_loaded *loaded = store_load(rig->store, &wanted);
  assert_non_null(loaded);
  assert_int_equal(loaded->ticket, 42);
  return loaded;
}

static void loads_are_bounded(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  put_queue(rig, 1000);
  struct journal_loaded *loaded = load(rig, 1, 10, 7, 1 << 20);
  assert_int_equal(loaded->count, 7);
  assert_int_equal(loaded->next, 17);
  journal_loaded_free(loaded);
  loaded = load(rig, 1, 0, 1000, 1000);
  assert_in_range(loaded->count, 5, 10);
  assert_int_equal(loaded->next, loaded->count);
  journal_loaded_free(loaded);
  loaded = load(rig, 1, 500, 1000, 1);  // one at least
  assert_int_equal(loaded->count, 1);
  assert_int_equal(loaded->next, 501);
  journal_loaded_free(loaded);
  loaded = load(rig, 1, 900, 1000, 1 << 20);
  assert_int_equal(loaded->count, 100);
  assert_int_equal(loaded->next, 1000);
  journal_loaded_free(loaded);
  assert_int_equal(rig_counters(rig).loads, 4);
}

static void a_load_of_nothing_is_empty(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  struct journal_loaded *loaded = load(rig, 77, 0, 10, 1000);
  assert_int_equal(loaded->count, 0);
  journal_loaded_free(loaded);
  put_queue(rig, 3);
  loaded = load(rig, 1, 3, 10, 1000);
  assert_int_equal(loaded->count, 0);
  assert_int_equal(loaded->next, 3);
  journal_loaded_free(loaded);
}

static void a_load_passes_over_what_is_done(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  put_queue(rig, 700);
  struct buffer records = {0};
  model_put_done(&rig->model, 1, 0, 300, &records);
  model_put_done(&rig->model, 1, 310, 290, &records);
  assert_ok(record_put_sent(&records, &(struct record_sent){.session = 1, .place = 605}));
  rig_submit_records(rig, &records);
  rig_rounds(rig, 1);
  buffer_deinit(&records);
  struct journal_loaded *loaded = load(rig, 1, 0, 20, 1 << 20);
  assert_int_equal(loaded->count, 20);
  struct journal_entry entry;
  size_t cursor = 0, count = 0;
  for (; journal_next_entry(loaded, &cursor, &entry); count++) {
    assert_int_equal(entry.place, count < 10 ? 300 + count : 590 + count);
    assert_int_equal(entry.state, entry.place == 605 ? LOADED_SENT : LOADED_WAITING);
    if (entry.state == LOADED_SENT) continue;
    assert_int_equal(entry.target.session, 1);
    assert_int_equal(entry.message.target_count, 1);
  }
  assert_int_equal(count, 20);
  assert_int_equal(loaded->next, 610);
  journal_loaded_free(loaded);
}

// The disk answers nothing for a while: no message is given up for that.
static void a_load_waits_for_a_disk_that_does_not_answer(void **state)
{
  (void)state;
  for (unsigned names = 0; names < 2; names++) {
    struct rig rig;
    rig_init(&rig, 1);
    rig_open(&rig);
    put_queue(&rig, 700);
    assert_ok(store_finish(rig.store, rig.now, rig.wall));
    rig_crash(&rig, SIM_KILL);  // nothing is at hand
    struct sim_disk_faults faults = {.reads = names == 0, .names = names == 1};
    sim_disk_set_faults(rig.disk, &faults);
    struct journal_load wanted = {.session = 1, .ticket = 42, .place = 0, .max_entries = 700, .max_bytes = 1 << 20};
    assert_null(store_load(rig.store, &wanted));
    assert_in_range(store_next_ms(rig.store, rig.now), 1, 5000);
    sim_disk_set_faults(rig.disk, &(struct sim_disk_faults){0});
    struct journal_loaded *loaded = load(&rig, 1, 0, 700, 1 << 20);
    assert_int_equal(loaded->count, 700);
    struct journal_entry entry;
    for (size_t cursor = 0; journal_next_entry(loaded, &cursor, &entry);) assert_int_equal(entry.state, LOADED_WAITING);
    journal_loaded_free(loaded);
    assert_int_equal(store_next_ms(rig.store, rig.now), -1);
    assert_int_equal(rig_counters(&rig).damaged_messages, 0);
    rig_deinit(&rig);
  }
}

// ---- A clean stop

static void a_clean_stop_leaves_nothing_to_replay(void **state)
{
  struct rig *rig = rig_of_seed(state, 5);
  rig->settings.replay_bytes = 10 << 20;
  rig_open(rig);
  put_queue(rig, 5000);
  uint64_t written = rig->disk->bytes_written;
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  uint64_t checkpoint = rig->disk->bytes_written - written;
  assert_true(checkpoint < 40000);  // 5000 queued messages, their references and a checkpoint
  rig_crash(rig, SIM_POWER_CUT);
  rig_check(rig);
  assert_in_range(rig_counters(rig).replayed_bytes, 1, 20000);
  // Again, with nothing changed: nothing is written.
  uint64_t operations = sim_disk_operations(rig->disk);
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  assert_int_equal(sim_disk_operations(rig->disk), operations);
}

static void a_stop_takes_what_was_submitted(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  rig_submit(rig, 30);
  store_append(rig->store, rig->now, rig->wall);
  rig_submit(rig, 30);
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  assert_int_equal(store_committed(rig->store), 2);
  rig_crash(rig, SIM_POWER_CUT);
  assert_int_equal(rig->count, 60);
}

// ---- Time

static uint64_t journal_ms(const struct rig *rig)
{
  return rig->now.ms + store_epoch_ms(rig->store);
}

static void reopen_at(struct rig *rig, uint64_t mono_ms, int64_t wall_ms)
{
  rig_close(rig);
  rig->now.ms = mono_ms;
  rig->wall.ms = wall_ms;
  rig_open(rig);
}

static void time_goes_on_over_restarts(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  uint64_t start = journal_ms(rig);
  assert_true(start > 0);
  rig_submit(rig, 5);
  rig_rounds(rig, 7000);
  assert_int_equal(journal_ms(rig), start + 7000);
  int64_t wall = rig->wall.ms;
  reopen_at(rig, 3, wall + 60000);  // the machine was started anew
  assert_int_equal(journal_ms(rig), start + 67000);
  rig_submit(rig, 5);
  rig_rounds(rig, 1000);
  reopen_at(rig, 500000, wall - 3600000);  // the clock was set back: no time has passed
  assert_int_equal(journal_ms(rig), start + 68000);
}

static void a_clock_that_was_never_set_is_no_measure(void **state)
{
  struct rig *rig = *state;
  rig->wall.ms = 5000;  // 1970
  rig_open(rig);
  rig_submit(rig, 5);
  rig_rounds(rig, 1000);
  uint64_t before = journal_ms(rig);
  reopen_at(rig, 10, INT64_C(1767225600000));
  assert_int_equal(journal_ms(rig), before);
}

// ---- Counters

static void counters_tell(void **state)
{
  struct rig *rig = *state;
  rig_open(rig);
  put_queue(rig, 400);
  struct store_counters counters = rig_counters(rig);
  assert_int_equal(counters.queues, 1);
  assert_int_equal(counters.queued, 400);
  assert_int_equal(counters.messages, 400);
  assert_int_equal(counters.queued_bytes, counters.message_bytes);
  assert_int_equal(counters.bytes_written, rig->disk->bytes_written);
  assert_int_equal(counters.syncs, rig->disk->syncs);
  assert_true(counters.segments > 10);
  assert_true(counters.bytes >= counters.segments * 4096);
  assert_true(counters.live_bytes > 400 * 100);
  assert_int_equal(counters.limit_bytes, rig->settings.limit_bytes);
  assert_int_equal(counters.errors, 0);
  assert_int_equal(counters.damaged_messages, 0);
  assert_true(counters.checkpoints > 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_RIG(nothing_is_written_without_need),
      WITH_RIG(a_batch_is_committed_by_its_round),
      WITH_RIG(an_empty_batch_is_committed),
      WITH_RIG(what_was_committed_is_there_again),
      WITH_RIG(large_and_many_batches_keep_their_order),
      WITH_RIG(what_is_appended_survives_a_kill),
      WITH_RIG(the_next_round_commits_what_was_appended),
      cmocka_unit_test(a_failure_loses_nothing),
      WITH_RIG(a_failing_disk_is_tried_less_and_less),
      WITH_RIG(loads_are_bounded),
      WITH_RIG(a_load_of_nothing_is_empty),
      WITH_RIG(a_load_passes_over_what_is_done),
      cmocka_unit_test(a_load_waits_for_a_disk_that_does_not_answer),
      WITH_RIG(a_clean_stop_leaves_nothing_to_replay),
      WITH_RIG(a_stop_takes_what_was_submitted),
      WITH_RIG(time_goes_on_over_restarts),
      WITH_RIG(a_clock_that_was_never_set_is_no_measure),
      WITH_RIG(counters_tell),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
