// The log and a disk that stops or fails at any step: what was synced is there when it is opened again, in order and without
// gaps, and nothing is taken for damaged.
#include "log_history.h"
#include "store/store_batch.h"

static void assert_history(const struct history *history)
{
  const struct seen *seen = &history->seen;
  bool good = !seen->wrong && seen->gaps == 0 && seen->damages == 0 && seen->last >= history->committed &&
              (seen->count == 0 || seen->first == 1);
  if (!good)
    print_message("seed %llu: committed %llu, seen %llu from %llu to %llu, %llu gaps, %llu damages\n",
                  (unsigned long long)history->seed, (unsigned long long)history->committed, (unsigned long long)seen->count,
                  (unsigned long long)seen->first, (unsigned long long)seen->last, (unsigned long long)seen->gaps,
                  (unsigned long long)seen->damages);
  assert_true(good);
}

static enum sim_crash any_crash(struct history *history, uint64_t cuts)
{
  return prng_below(&history->prng, cuts) ? SIM_POWER_CUT : SIM_KILL;
}

// Opens after a crash, crashes while opening too when `again` is not 0, and goes on writing.
static void recover(struct history *history, uint64_t again)
{
  sim_disk_stop_at(history->disk, again);
  if (history_try_open(history) == OK) {
    assert_history(history);
    // Whatever opening has shown is safe from now on.
    history->committed = history->seen.last;
  }
  history_crash(history, any_crash(history, 4));
  assert_history(history);
  history->committed = history->seen.last;
  history_rounds(history, 3, 2);
  history_crash(history, SIM_POWER_CUT);
  assert_history(history);
  assert_int_equal(history->seen.torn, 0);
  assert_int_equal(history->seen.last, history->committed);
}

// Returns whether the workload ended before the machine stopped.
static bool crash_at(uint64_t seed, uint64_t step)
{
  struct history history;
  history_init(&history, seed, &(struct sim_disk_settings){.no_reserve = seed % 4 == 0});
  prng_seed(&history.prng, seed * 1000 + step);
  history.settings.segment_bytes = 1024;
  history.largest = 60 + (uint32_t)(seed % 5) * 100;
  sim_disk_stop_at(history.disk, step);
  if (history_try_open(&history) == OK)
    for (unsigned i = 0; i < 12; i++)
      if (history_round(&history, 1 + (unsigned)prng_below(&history.prng, 5))) break;
  bool done = !sim_disk_stopped(history.disk);
  enum sim_crash how = any_crash(&history, 4);
  if (prng_below(&history.prng, 2)) history_close(&history);
  sim_disk_crash(history.disk, how, &history.prng);
  history_close(&history);
  recover(&history, prng_below(&history.prng, 12));
  history_deinit(&history);
  return done;
}

// A step fails, and the broker goes on: the round is written again.
static bool fail_at(uint64_t seed, uint64_t step)
{
  struct history history;
  history_init(&history, seed, NULL);
  prng_seed(&history.prng, seed * 1000 + step);
  history.settings.segment_bytes = 1024;
  sim_disk_fail_at(history.disk, step);
  unsigned failures = 0;
  // Only the steps that make safe what was found may fail an opening; the next one works.
  if (history_try_open(&history)) history_open(&history);
  uint64_t before = sim_disk_operations(history.disk);
  for (unsigned i = 0; i < 12; i++) {
    unsigned count = 1 + (unsigned)prng_below(&history.prng, 5);
    if (history_round(&history, count) == OK) continue;
    failures++;
    assert_ok(history_round(&history, count));
  }
  assert_true(failures <= 1);
  bool done = step > sim_disk_operations(history.disk);
  if (!done && step > before) assert_true(failures == 1 || history.committed > 0);
  history_crash(&history, SIM_POWER_CUT);
  assert_history(&history);
  assert_int_equal(history.seen.last, history.committed);
  history_close(&history);
  recover(&history, 0);
  history_deinit(&history);
  return done;
}

static void at_every_step(bool (*done_at)(uint64_t seed, uint64_t step))
{
  for (uint64_t seed = 1; seed <= 40; seed++) {
    uint64_t step = 1;
    while (!done_at(seed, step)) step++;
    assert_true(step > 40);
  }
}

static void what_was_synced_survives_a_stop_at_every_step(void **state)
{
  (void)state;
  at_every_step(crash_at);
}

static void a_failure_at_any_step_loses_nothing(void **state)
{
  (void)state;
  at_every_step(fail_at);
}

static void a_failed_sync_goes_to_a_new_segment(void **state)
{
  struct history *history = *state;
  history_open(history);
  history_rounds(history, 1, 3);
  size_t segments = journal_log_segments(history->log);
  uint64_t sequence = journal_log_sequence(history->log);
  sim_disk_fail_at(history->disk, 2);  // the write, then the sync
  assert_int_equal(history_round(history, 3), ERR_IO);
  history_rounds(history, 1, 3);
  assert_int_equal(journal_log_segments(history->log), segments + 1);
  struct segment_info info;
  journal_log_segment(history->log, segments, &info);
  assert_int_equal(info.first_sequence, sequence);
  history_reopen(history);
  assert_int_equal(history->seen.count, 6);
  assert_int_equal(history->seen.last, 6);
  assert_int_equal(history->seen.damages, 0);
}

// What a failed sync has left in a segment may be there or not: nothing is written behind it any more, even when there is no
// other place.
static void a_segment_that_failed_is_not_written_again(void **state)
{
  struct history *history = *state;
  history_open(history);
  history_rounds(history, 1, 3);
  sim_disk_fail_at(history->disk, 2);
  assert_int_equal(history_round(history, 6), ERR_IO);
  sim_disk_set_capacity(history->disk, 1);
  while (history_round(history, 5) == OK) assert_true(history->committed < 1000);
  sim_disk_set_capacity(history->disk, 0);
  uint64_t last = history->committed;
  history_rounds(history, 1, 2);
  history_crash(history, SIM_KILL);
  assert_int_equal(history->seen.last, last + 2);
  assert_int_equal(history->seen.count, last + 2);
}

// The same where the sync fails when all is full already.
static void nor_is_it_when_there_is_no_other(void **state)
{
  struct history *history = *state;
  history->settings.segment_bytes = 1 << 16;
  history->settings.limit_bytes = 2 << 16;
  history_open(history);
  history_rounds(history, 1, 3);
  sim_disk_fail_at(history->disk, 2);
  assert_int_equal(history_round(history, 6), ERR_IO);
  history_rounds(history, 1, 6);  // from the reserve
  sim_disk_fail_at(history->disk, 2);
  assert_int_equal(history_round(history, 6), ERR_IO);
  for (unsigned i = 0; i < 3; i++) assert_int_equal(history_round(history, 2), ERR_FULL);
  struct segment_info info;
  journal_log_segment(history->log, 0, &info);
  assert_ok(journal_log_remove(history->log, info.number));
  history_rounds(history, 1, 2);
  history_crash(history, SIM_KILL);
  assert_int_equal(history->seen.first, 4);
  assert_int_equal(history->seen.last, 11);
  assert_int_equal(history->seen.gaps, 0);
}

// While every sync fails nothing piles up.
static void failing_for_long_takes_no_space(void **state)
{
  struct history *history = *state;
  history_open(history);
  history_rounds(history, 1, 3);
  for (unsigned i = 0; i < 200; i++) {
    sim_disk_fail_at(history->disk, 1 + prng_below(&history->prng, 8));
    enum status status = history_round(history, 3);
    if (status == OK) continue;
    assert_int_equal(status, ERR_IO);
  }
  sim_disk_set_faults(history->disk, &(struct sim_disk_faults){.syncs = 1});
  uint64_t bytes = journal_log_bytes(history->log);
  for (unsigned i = 0; i < 200; i++) {
    assert_int_equal(history_round(history, 3), ERR_IO);
    assert_true(journal_log_bytes(history->log) <= bytes + 4096);
  }
  sim_disk_set_faults(history->disk, &(struct sim_disk_faults){0});
  history_rounds(history, 1, 3);
  history_crash(history, SIM_POWER_CUT);
  assert_history(history);
}

static void an_append_that_failed_is_not_synced(void **state)
{
  struct history *history = *state;
  history_open(history);
  history_rounds(history, 1, 3);
  uint8_t record[32] = {0};
  record_write_u32(record + 4, 16);
  record_write_u64(record + 8, (uint64_t)RECORD_MESSAGE << RECORD_SEQUENCE_BITS);
  size_t size;
  uint64_t position;
  uint64_t sequence = journal_log_sequence(history->log);
  assert_ok(journal_log_append(history->log, record, sizeof record, &size, &position));
  assert_int_equal(journal_log_sequence(history->log), sequence + 1);
  sim_disk_fail_at(history->disk, 1);
  assert_int_equal(journal_log_append(history->log, record, sizeof record, &size, &position), ERR_IO);
  // The first one went with the second: whoever takes the sync for its commit is told.
  assert_int_equal(journal_log_sync(history->log), ERR_AGAIN);
  assert_int_equal(journal_log_sequence(history->log), sequence);
  history_rounds(history, 1, 3);
  history_reopen(history);
  assert_int_equal(history->seen.count, 6);
  assert_int_equal(history->seen.last, 6);
}

// ---- Everything at once

static void live_once(struct history *history)
{
  struct prng *prng = &history->prng;
  struct sim_disk_faults faults = {0};
  if (prng_below(prng, 2)) {  // one after the other: compilers order one initializer as they like
    faults.writes = 10 + (uint32_t)prng_below(prng, 50);
    faults.syncs = 10 + (uint32_t)prng_below(prng, 50);
    faults.names = 10 + (uint32_t)prng_below(prng, 50);
  }
  sim_disk_set_faults(history->disk, &faults);
  sim_disk_stop_at(history->disk, prng_below(prng, 2) ? 1 + prng_below(prng, 80) : 0);
  if (history_try_open(history)) return;
  assert_history(history);
  history->committed = history->seen.last;
  for (unsigned i = 0; i < 20 && !sim_disk_stopped(history->disk); i++) {
    enum status status = history_round(history, 1 + (unsigned)prng_below(prng, 8));
    if (status == ERR_FULL && prng_below(prng, 3) == 0) sim_disk_set_capacity(history->disk, 0);
    if (prng_below(prng, 4) == 0 && journal_log_roomy(history->log, true)) assert_true(journal_log_bytes(history->log) > 0);
  }
}

static void live(uint64_t seed)
{
  struct prng prng;
  prng_seed(&prng, seed);
  struct sim_disk_settings settings = {.capacity = prng_below(&prng, 2) ? 8000 + prng_below(&prng, 50000) : 0};
  settings.no_reserve = prng_below(&prng, 3) == 0;
  struct history history;
  history_init(&history, seed, &settings);
  history.settings.segment_bytes = 512 + 512 * prng_below(&prng, 8);
  history.settings.reserve_bytes = prng_below(&prng, 3) * history.settings.segment_bytes;
  history.largest = 40 + (uint32_t)prng_below(&prng, prng_below(&prng, 2) ? 1500 : 200);
  history.prng = prng;  // goes on
  for (unsigned i = 0; i < 8; i++) {
    live_once(&history);
    history_close(&history);
    sim_disk_crash(history.disk, any_crash(&history, 3), &history.prng);
  }
  sim_disk_set_faults(history.disk, &(struct sim_disk_faults){0});
  sim_disk_set_capacity(history.disk, 0);
  recover(&history, 0);
  history_deinit(&history);
}

// What is left behind the end of a torn write would go on, record by record, from what is written next, if that has the size
// of what is torn: an opening makes zeros of it first.
static void a_torn_tail_does_not_come_back(void **state)
{
  struct history *history = *state;
  uint64_t positions[64];
  history->largest = 32;
  history->positions = positions;
  history_open(history);
  uint32_t batch_length = (uint32_t)record_length(STORE_BATCH_SIZE);
  while (record_length(history_body_size(history, history->next)) != batch_length) {
    assert_in_range(history->next, 1, 40);
    history_rounds(history, 1, 1);
  }
  uint64_t torn = history->next;
  history_rounds(history, 1, 3);
  history_close(history);
  // As if it had not reached the disk.
  sim_disk_flip(history->disk, "0000000001.segment", position_offset(positions[torn]) + 20, 1);

  history_open(history);
  assert_int_equal(history->seen.torn, 1);
  assert_int_equal(history->seen.last, torn - 1);
  assert_int_equal(journal_log_end(history->log), positions[torn]);
  history_rounds(history, 1, 0);
  assert_int_equal(journal_log_end(history->log), positions[torn] + batch_length);

  history_crash(history, SIM_POWER_CUT);
  assert_int_equal(history->seen.last, torn - 1);
  assert_int_equal(history->seen.torn + history->seen.damages, 0);
}

static void thousands_of_lives(void **state)
{
  (void)state;
  static const uint64_t failed_once[] = {28144};
  for (size_t i = 0; i < sizeof failed_once / sizeof failed_once[0]; i++) live(failed_once[i]);
  for (uint64_t seed = 1; seed <= 1200; seed++) live(seed);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_synced_survives_a_stop_at_every_step),
      cmocka_unit_test(a_failure_at_any_step_loses_nothing),
      WITH_HISTORY(a_failed_sync_goes_to_a_new_segment),
      WITH_HISTORY(a_segment_that_failed_is_not_written_again),
      WITH_HISTORY(nor_is_it_when_there_is_no_other),
      WITH_HISTORY(failing_for_long_takes_no_space),
      WITH_HISTORY(an_append_that_failed_is_not_synced),
      WITH_HISTORY(a_torn_tail_does_not_come_back),
      cmocka_unit_test(thousands_of_lives),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
