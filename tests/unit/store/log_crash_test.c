// The log and a disk that stops or fails at any step: what was synced is there when it is opened again, in order and without
// gaps, and nothing is taken for damaged.
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "log_history.h"
#include "store/store_batch.h"
#include "sim/disk.h"

static struct disk *new_disk(uint64_t seed, const struct sim_disk_settings *more)
{
  struct sim_disk_settings settings = more ? *more : (struct sim_disk_settings){0};
  prng_seed(&settings.prng, seed);
  return sim_disk_create(&settings);
}

static void assert_history(const struct history *history, const struct seen *seen)
{
  bool good = !seen->wrong && seen->gaps == 0 && seen->damages == 0 && seen->last >= history->committed &&
              (seen->count == 0 || seen->first == 1);
  if (!good)
    print_message("seed %llu: committed %llu, seen %llu from %llu to %llu, %llu gaps, %llu damages\n",
                  (unsigned long long)history->seed, (unsigned long long)history->committed, (unsigned long long)seen->count,
                  (unsigned long long)seen->first, (unsigned long long)seen->last, (unsigned long long)seen->gaps,
                  (unsigned long long)seen->damages);
  assert_true(good);
}

// Opens after a crash, crashes while opening too when `again` is not 0, and goes on writing.
static void recover(struct history *history, struct disk *disk, struct prng *prng, uint64_t again)
{
  struct seen seen = {0};
  sim_disk_stop_at(disk, again);
  enum status status = history_try_open(history, &seen);
  if (status == OK) {
    assert_history(history, &seen);
    // Whatever opening has shown is safe from now on.
    history->committed = seen.last;
    history_close(history);
  }
  sim_disk_crash(disk, prng_below(prng, 4) ? SIM_POWER_CUT : SIM_KILL, prng);
  history_open(history, &seen);
  assert_history(history, &seen);
  history->committed = seen.last;
  for (unsigned i = 0; i < 3; i++) assert_int_equal(history_round(history, 2), OK);
  history_close(history);
  sim_disk_crash(disk, SIM_POWER_CUT, prng);
  history_open(history, &seen);
  assert_history(history, &seen);
  assert_int_equal(seen.torn, 0);
  assert_int_equal(seen.last, history->committed);
  history_close(history);
}

// Returns whether the workload ended before the machine stopped.
static bool crash_at(uint64_t seed, uint64_t step, bool no_reserve)
{
  struct disk *disk = new_disk(seed, &(struct sim_disk_settings){.no_reserve = no_reserve});
  struct prng prng;
  prng_seed(&prng, seed * 1000 + step);
  struct history history;
  history_init(&history, disk, seed);
  history.settings.segment_bytes = 1024;
  history.largest = 60 + (uint32_t)(seed % 5) * 100;
  sim_disk_stop_at(disk, step);
  struct seen seen;
  if (history_try_open(&history, &seen) == OK)
    for (unsigned i = 0; i < 12; i++)
      if (history_round(&history, 1 + (unsigned)prng_below(&prng, 5))) break;
  bool done = !sim_disk_stopped(disk);
  enum sim_crash how = prng_below(&prng, 4) ? SIM_POWER_CUT : SIM_KILL;
  if (prng_below(&prng, 2)) {
    history_close(&history);
    sim_disk_crash(disk, how, &prng);
  } else {
    sim_disk_crash(disk, how, &prng);
    history_close(&history);
  }
  recover(&history, disk, &prng, prng_below(&prng, 12));
  disk_destroy(disk);
  return done;
}

static void what_was_synced_survives_a_stop_at_every_step(void **state)
{
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    uint64_t step = 1;
    while (!crash_at(seed, step, seed % 4 == 0)) step++;
    assert_true(step > 40);
  }
}

// A step fails, and the broker goes on: the round is written again.
static bool fail_at(uint64_t seed, uint64_t step)
{
  struct disk *disk = new_disk(seed, NULL);
  struct prng prng;
  prng_seed(&prng, seed * 1000 + step);
  struct history history;
  history_init(&history, disk, seed);
  history.settings.segment_bytes = 1024;
  struct seen seen;
  sim_disk_fail_at(disk, step);
  unsigned failures = 0;
  // Only the steps that make safe what was found may fail an opening; the next one works.
  if (history_try_open(&history, &seen)) history_open(&history, &seen);
  uint64_t before = sim_disk_operations(disk);
  for (unsigned i = 0; i < 12; i++) {
    unsigned count = 1 + (unsigned)prng_below(&prng, 5);
    if (history_round(&history, count) == OK) continue;
    failures++;
    assert_int_equal(history_round(&history, count), OK);
  }
  assert_true(failures <= 1);
  bool done = step > sim_disk_operations(disk);
  if (!done && step > before) assert_true(failures == 1 || history.committed > 0);
  history_close(&history);
  sim_disk_crash(disk, SIM_POWER_CUT, &prng);
  uint64_t committed = history.committed;
  history_open(&history, &seen);
  assert_history(&history, &seen);
  assert_int_equal(seen.last, committed);
  history.committed = seen.last;
  history_close(&history);
  recover(&history, disk, &prng, 0);
  disk_destroy(disk);
  return done;
}

static void a_failure_at_any_step_loses_nothing(void **state)
{
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    uint64_t step = 1;
    while (!fail_at(seed, step)) step++;
    assert_true(step > 40);
  }
}

static void a_failed_sync_goes_to_a_new_segment(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, NULL);
  struct history history;
  history_init(&history, disk, 1);
  struct seen seen;
  history_open(&history, &seen);
  assert_int_equal(history_round(&history, 3), OK);
  size_t segments = journal_log_segments(history.log);
  uint64_t sequence = journal_log_sequence(history.log);
  sim_disk_fail_at(disk, 2);  // the write, then the sync
  assert_int_equal(history_round(&history, 3), ERR_IO);
  assert_int_equal(history_round(&history, 3), OK);
  assert_int_equal(journal_log_segments(history.log), segments + 1);
  struct segment_info info;
  journal_log_segment(history.log, segments, &info);
  assert_int_equal(info.first_sequence, sequence);
  history_close(&history);
  history_open(&history, &seen);
  assert_int_equal(seen.count, 6);
  assert_int_equal(seen.last, 6);
  assert_int_equal(seen.damages, 0);
  history_close(&history);
  disk_destroy(disk);
}

// What a failed sync has left in a segment may be there or not: nothing is written behind it any more, even when there is no
// other place.
static void a_segment_that_failed_is_not_written_again(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, NULL);
  struct history history;
  history_init(&history, disk, 1);
  struct seen seen;
  history_open(&history, &seen);
  assert_int_equal(history_round(&history, 3), OK);
  sim_disk_fail_at(disk, 2);
  assert_int_equal(history_round(&history, 6), ERR_IO);
  sim_disk_set_capacity(disk, 1);
  while (history_round(&history, 5) == OK) assert_true(history.committed < 1000);
  sim_disk_set_capacity(disk, 0);
  uint64_t last = history.committed;
  assert_int_equal(history_round(&history, 2), OK);
  history_close(&history);
  struct prng prng;
  prng_seed(&prng, 1);
  sim_disk_crash(disk, SIM_KILL, &prng);
  history_open(&history, &seen);
  assert_int_equal(seen.last, last + 2);
  assert_int_equal(seen.count, last + 2);
  history_close(&history);
  disk_destroy(disk);
}

// The same where the sync fails when all is full already.
static void nor_is_it_when_there_is_no_other(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, NULL);
  struct history history;
  history_init(&history, disk, 1);
  history.settings.segment_bytes = 1 << 16;
  history.settings.limit_bytes = 2 << 16;
  struct seen seen;
  history_open(&history, &seen);
  assert_int_equal(history_round(&history, 3), OK);
  sim_disk_fail_at(disk, 2);
  assert_int_equal(history_round(&history, 6), ERR_IO);
  assert_int_equal(history_round(&history, 6), OK);  // from the reserve
  sim_disk_fail_at(disk, 2);
  assert_int_equal(history_round(&history, 6), ERR_IO);
  for (unsigned i = 0; i < 3; i++) assert_int_equal(history_round(&history, 2), ERR_FULL);
  struct segment_info info;
  journal_log_segment(history.log, 0, &info);
  assert_int_equal(journal_log_remove(history.log, info.number), OK);
  assert_int_equal(history_round(&history, 2), OK);
  history_close(&history);
  struct prng prng;
  prng_seed(&prng, 1);
  sim_disk_crash(disk, SIM_KILL, &prng);
  history_open(&history, &seen);
  assert_int_equal(seen.first, 4);
  assert_int_equal(seen.last, 11);
  assert_int_equal(seen.gaps, 0);
  history_close(&history);
  disk_destroy(disk);
}

// While every sync fails nothing piles up.
static void failing_for_long_takes_no_space(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, NULL);
  struct history history;
  history_init(&history, disk, 1);
  struct seen seen;
  history_open(&history, &seen);
  assert_int_equal(history_round(&history, 3), OK);
  uint64_t bytes = journal_log_bytes(history.log);
  struct prng prng;
  prng_seed(&prng, 1);
  for (unsigned i = 0; i < 200; i++) {
    sim_disk_fail_at(disk, 1 + prng_below(&prng, 8));
    enum status status = history_round(&history, 3);
    if (status == OK) continue;
    assert_int_equal(status, ERR_IO);
  }
  sim_disk_set_faults(disk, &(struct sim_disk_faults){.syncs = 1});
  bytes = journal_log_bytes(history.log);
  for (unsigned i = 0; i < 200; i++) {
    assert_int_equal(history_round(&history, 3), ERR_IO);
    assert_true(journal_log_bytes(history.log) <= bytes + 4096);
  }
  sim_disk_set_faults(disk, &(struct sim_disk_faults){0});
  assert_int_equal(history_round(&history, 3), OK);
  history_close(&history);
  sim_disk_crash(disk, SIM_POWER_CUT, &prng);
  history_open(&history, &seen);
  assert_history(&history, &seen);
  history_close(&history);
  disk_destroy(disk);
}

static void an_append_that_failed_is_not_synced(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, NULL);
  struct history history;
  history_init(&history, disk, 1);
  struct seen seen;
  history_open(&history, &seen);
  assert_int_equal(history_round(&history, 3), OK);
  uint8_t record[32] = {0};
  record_write_u32(record + 4, 16);
  record_write_u64(record + 8, (uint64_t)RECORD_MESSAGE << RECORD_SEQUENCE_BITS);
  size_t size;
  uint64_t position;
  uint64_t sequence = journal_log_sequence(history.log);
  assert_int_equal(journal_log_append(history.log, record, sizeof record, &size, &position), OK);
  assert_int_equal(journal_log_sequence(history.log), sequence + 1);
  sim_disk_fail_at(disk, 1);
  assert_int_equal(journal_log_append(history.log, record, sizeof record, &size, &position), ERR_IO);
  // The first one went with the second: whoever takes the sync for its commit is told.
  assert_int_equal(journal_log_sync(history.log), ERR_AGAIN);
  assert_int_equal(journal_log_sequence(history.log), sequence);
  assert_int_equal(history_round(&history, 3), OK);
  history_close(&history);
  history_open(&history, &seen);
  assert_int_equal(seen.count, 6);
  assert_int_equal(seen.last, 6);
  history_close(&history);
  disk_destroy(disk);
}

// ---- Everything at once

static void live_once(struct history *history, struct disk *disk, struct prng *prng)
{
  struct sim_disk_faults faults = {0};
  if (prng_below(prng, 2)) {  // one after the other: compilers order one initializer as they like
    faults.writes = 10 + (uint32_t)prng_below(prng, 50);
    faults.syncs = 10 + (uint32_t)prng_below(prng, 50);
    faults.names = 10 + (uint32_t)prng_below(prng, 50);
  }
  sim_disk_set_faults(disk, &faults);
  sim_disk_stop_at(disk, prng_below(prng, 2) ? 1 + prng_below(prng, 80) : 0);
  struct seen seen;
  enum status status = history_try_open(history, &seen);
  if (status) return;
  assert_history(history, &seen);
  history->committed = seen.last;
  for (unsigned i = 0; i < 20 && !sim_disk_stopped(disk); i++) {
    status = history_round(history, 1 + (unsigned)prng_below(prng, 8));
    if (status == ERR_FULL && prng_below(prng, 3) == 0) sim_disk_set_capacity(disk, 0);
    if (prng_below(prng, 4) == 0 && journal_log_roomy(history->log, true)) assert_true(journal_log_bytes(history->log) > 0);
  }
}

static void live(uint64_t seed)
{
  struct prng prng;
  prng_seed(&prng, seed);
  struct sim_disk_settings settings = {.capacity = prng_below(&prng, 2) ? 8000 + prng_below(&prng, 50000) : 0};
  settings.no_reserve = prng_below(&prng, 3) == 0;
  struct disk *disk = new_disk(seed, &settings);
  struct history history;
  history_init(&history, disk, seed);
  history.settings.segment_bytes = 512 + 512 * prng_below(&prng, 8);
  history.settings.reserve_bytes = prng_below(&prng, 3) * history.settings.segment_bytes;
  history.largest = 40 + (uint32_t)prng_below(&prng, prng_below(&prng, 2) ? 1500 : 200);
  for (unsigned i = 0; i < 8; i++) {
    live_once(&history, disk, &prng);
    history_close(&history);
    sim_disk_crash(disk, prng_below(&prng, 3) ? SIM_POWER_CUT : SIM_KILL, &prng);
  }
  sim_disk_set_faults(disk, &(struct sim_disk_faults){0});
  sim_disk_set_capacity(disk, 0);
  recover(&history, disk, &prng, 0);
  disk_destroy(disk);
}

// What is left behind the end of a torn write would go on, record by record, from what is written next, if that has the size
// of what is torn: an opening makes zeros of it first.
static void a_torn_tail_does_not_come_back(void **state)
{
  (void)state;
  struct sim_disk_settings settings = {0};
  struct disk *disk = new_disk(1, &settings);
  struct prng prng;
  prng_seed(&prng, 1);
  struct history history;
  struct seen seen;
  uint64_t positions[64];
  history_init(&history, disk, 1);
  history.largest = 32;
  history.positions = positions;
  history_open(&history, &seen);
  uint32_t batch_length = (uint32_t)record_length(STORE_BATCH_SIZE);
  while (record_length(history_body_size(history.next, history.largest)) != batch_length) {
    assert_in_range(history.next, 1, 40);
    assert_int_equal(history_round(&history, 1), OK);
  }
  uint64_t torn = history.next;
  assert_int_equal(history_round(&history, 3), OK);
  history_close(&history);
  sim_disk_flip(disk, "0000000001.segment", position_offset(positions[torn]) + 20, 1);  // as if it had not reached the disk

  history_open(&history, &seen);
  assert_int_equal(seen.torn, 1);
  assert_int_equal(seen.last, torn - 1);
  assert_int_equal(journal_log_end(history.log), positions[torn]);
  assert_int_equal(history_round(&history, 0), OK);
  assert_int_equal(journal_log_end(history.log), positions[torn] + batch_length);
  history_close(&history);
  sim_disk_crash(disk, SIM_POWER_CUT, &prng);

  history_open(&history, &seen);
  assert_int_equal(seen.last, torn - 1);
  assert_int_equal(seen.torn + seen.damages, 0);
  history_close(&history);
  disk_destroy(disk);
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
      cmocka_unit_test(a_failed_sync_goes_to_a_new_segment),
      cmocka_unit_test(a_segment_that_failed_is_not_written_again),
      cmocka_unit_test(nor_is_it_when_there_is_no_other),
      cmocka_unit_test(failing_for_long_takes_no_space),
      cmocka_unit_test(an_append_that_failed_is_not_synced),
      cmocka_unit_test(a_torn_tail_does_not_come_back),
      cmocka_unit_test(thousands_of_lives),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
