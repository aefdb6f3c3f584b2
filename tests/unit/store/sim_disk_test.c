// The simulated disk must lose what it may lose, and nothing else: what is built on it is only as good.
#include "sim/disk.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static struct disk *new_disk(uint64_t seed, struct sim_disk_settings settings)
{
  prng_seed(&settings.prng, seed);
  return sim_disk_create(&settings);
}

static struct disk_file *create(struct disk *disk, const char *name)
{
  struct disk_file *file = NULL;
  assert_int_equal(disk->operations->open(disk, name, DISK_CREATE, &file), OK);
  return file;
}

static void fill(struct disk *disk, struct disk_file *file, uint64_t offset, size_t size, uint8_t byte)
{
  uint8_t bytes[8192];
  memset(bytes, byte, sizeof bytes);
  assert_true(size <= sizeof bytes);
  assert_int_equal(disk->operations->write(disk, file, offset, span_of(bytes, size)), OK);
}

static void cut_power(struct disk *disk, uint64_t seed)
{
  struct prng prng;
  prng_seed(&prng, seed);
  sim_disk_crash(disk, SIM_POWER_CUT, &prng);
}

static void what_was_synced_stays(void **state)
{
  (void)state;
  unsigned old = 0, new = 0, mixed = 0, other_size = 0;
  for (uint64_t seed = 0; seed < 200; seed++) {
    struct disk *disk = new_disk(seed, (struct sim_disk_settings){0});
    struct disk_file *file = create(disk, "a");
    fill(disk, file, 0, 4096, 'a');
    assert_int_equal(disk->operations->sync(disk, file), OK);
    assert_int_equal(disk->operations->sync_directory(disk), OK);
    fill(disk, file, 1024, 4096, 'b');
    cut_power(disk, seed);
    disk->operations->close(disk, file);
    struct span bytes;
    assert_true(sim_disk_peek(disk, "a", &bytes));
    assert_true(bytes.size == 4096 || bytes.size == 5120);
    other_size += bytes.size == 5120;
    unsigned changed = 0;
    for (size_t sector = 0; sector < 8; sector++) {
      const uint8_t *at = bytes.at + sector * SIM_SECTOR;
      for (size_t i = 1; i < SIM_SECTOR; i++) assert_int_equal(at[i], at[0]);  // never torn within a sector
      assert_true(at[0] == 'a' || (at[0] == 'b' && sector >= 2));
      changed += at[0] == 'b';
    }
    old += changed == 0;
    new += changed == 6;
    mixed += changed > 0 && changed < 6;
    disk_destroy(disk);
  }
  assert_true(old > 0 && new > 0 && mixed > 100);
  assert_true(other_size > 50 && other_size < 150);
}

static void names_that_were_not_synced_survive_or_not(void **state)
{
  (void)state;
  unsigned seen[8] = {0};
  for (uint64_t seed = 0; seed < 200; seed++) {
    struct disk *disk = new_disk(seed, (struct sim_disk_settings){0});
    struct disk_file *file = create(disk, "old");
    disk->operations->close(disk, file);
    file = create(disk, "gone");
    disk->operations->close(disk, file);
    assert_int_equal(disk->operations->sync_directory(disk), OK);
    file = create(disk, "new");
    disk->operations->close(disk, file);
    assert_int_equal(disk->operations->rename(disk, "old", "renamed"), OK);
    assert_int_equal(disk->operations->unlink(disk, "gone"), OK);
    cut_power(disk, seed);
    struct span bytes;
    bool is_new = sim_disk_peek(disk, "new", &bytes), is_renamed = sim_disk_peek(disk, "renamed", &bytes);
    bool is_gone = !sim_disk_peek(disk, "gone", &bytes);
    assert_int_equal(sim_disk_peek(disk, "old", &bytes), !is_renamed);  // one or the other, never none or both
    seen[is_new * 4 + is_renamed * 2 + is_gone]++;
    disk_destroy(disk);
  }
  for (unsigned i = 0; i < 8; i++) assert_true(seen[i] > 5);
}

static void synced_names_stay(void **state)
{
  (void)state;
  for (uint64_t seed = 0; seed < 50; seed++) {
    struct disk *disk = new_disk(seed, (struct sim_disk_settings){0});
    struct disk_file *file = create(disk, "a");
    assert_int_equal(disk->operations->rename(disk, "a", "b"), OK);
    assert_int_equal(disk->operations->sync_directory(disk), OK);
    cut_power(disk, seed);
    struct span bytes;
    assert_false(sim_disk_peek(disk, "a", &bytes));
    assert_true(sim_disk_peek(disk, "b", &bytes));
    uint64_t size;
    assert_int_equal(disk->operations->size(disk, file, &size), ERR_IO);  // of a process that is gone
    disk->operations->close(disk, file);
    disk_destroy(disk);
  }
}

static void a_kill_loses_nothing_but_makes_nothing_safe(void **state)
{
  (void)state;
  unsigned lost = 0;
  for (uint64_t seed = 0; seed < 50; seed++) {
    struct disk *disk = new_disk(seed, (struct sim_disk_settings){0});
    struct disk_file *file = create(disk, "a");
    assert_int_equal(disk->operations->sync_directory(disk), OK);
    fill(disk, file, 0, 512, 'x');
    struct prng prng;
    prng_seed(&prng, seed);
    sim_disk_crash(disk, SIM_KILL, &prng);
    disk->operations->close(disk, file);
    struct span bytes;
    assert_true(sim_disk_peek(disk, "a", &bytes));
    assert_int_equal(bytes.size, 512);
    assert_int_equal(bytes.at[511], 'x');
    cut_power(disk, seed);
    assert_true(sim_disk_peek(disk, "a", &bytes));
    lost += bytes.size == 0 || bytes.at[511] != 'x';
    disk_destroy(disk);
  }
  assert_true(lost > 10);
}

static void what_a_failed_sync_left_out_is_never_synced(void **state)
{
  (void)state;
  unsigned lost = 0;
  for (uint64_t seed = 0; seed < 100; seed++) {
    struct disk *disk = new_disk(seed, (struct sim_disk_settings){0});
    struct disk_file *file = create(disk, "a");
    assert_int_equal(disk->operations->allocate(disk, file, 1024), OK);
    assert_int_equal(disk->operations->sync(disk, file), OK);
    assert_int_equal(disk->operations->sync_directory(disk), OK);
    fill(disk, file, 0, 512, 'x');
    sim_disk_fail_at(disk, 1);
    assert_int_equal(disk->operations->sync(disk, file), ERR_IO);
    assert_int_equal(disk->operations->sync(disk, file), OK);  // as if all were well
    struct span bytes;
    assert_true(sim_disk_peek(disk, "a", &bytes));
    assert_int_equal(bytes.at[0], 'x');
    cut_power(disk, seed);
    assert_true(sim_disk_peek(disk, "a", &bytes));
    lost += bytes.at[0] != 'x';
    disk->operations->close(disk, file);
    disk_destroy(disk);
  }
  assert_true(lost > 20 && lost < 80);
}

static void space_runs_out_and_comes_back(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, (struct sim_disk_settings){.capacity = 8192});
  struct disk_file *a = create(disk, "a"), *b = create(disk, "b");
  uint64_t available, total;
  assert_int_equal(disk->operations->allocate(disk, a, 6000), OK);
  assert_int_equal(disk->operations->space(disk, &available, &total), OK);
  assert_int_equal(available, 2048);
  assert_int_equal(total, 8192);
  assert_int_equal(disk->operations->allocate(disk, b, 4096), ERR_FULL);
  assert_int_equal(disk->operations->truncate(disk, b, 0), OK);
  fill(disk, a, 0, 6000, 'x');  // reserved
  struct span half = span_of("xxxxxxxxxxxxxxxx", 16);
  assert_int_equal(disk->operations->write(disk, b, 0, half), OK);
  uint8_t large[4096] = {0};
  assert_int_equal(disk->operations->write(disk, b, 0, span_of(large, sizeof large)), ERR_FULL);
  assert_int_equal(disk->operations->unlink(disk, "a"), OK);
  assert_int_equal(disk->operations->write(disk, b, 0, span_of(large, sizeof large)), ERR_FULL);  // still open
  disk->operations->close(disk, a);
  assert_int_equal(disk->operations->write(disk, b, 0, span_of(large, sizeof large)), OK);
  sim_disk_set_capacity(disk, 512);
  assert_int_equal(disk->operations->space(disk, &available, &total), OK);
  assert_int_equal(available, 0);
  disk->operations->close(disk, b);
  disk_destroy(disk);
}

static void without_reserving_writes_find_the_disk_full(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, (struct sim_disk_settings){.capacity = 1024, .no_reserve = true});
  struct disk_file *file = create(disk, "a");
  assert_int_equal(disk->operations->allocate(disk, file, 4096), OK);
  fill(disk, file, 2048, 1024, 'x');
  uint8_t byte = 0;
  assert_int_equal(disk->operations->write(disk, file, 0, span_of(&byte, 1)), ERR_FULL);
  size_t got;
  uint8_t bytes[8];
  assert_int_equal(disk->operations->read(disk, file, 0, bytes, sizeof bytes, &got), OK);
  assert_int_equal(got, 8);
  assert_memory_equal(bytes, "\0\0\0\0\0\0\0\0", 8);
  disk->operations->close(disk, file);
  disk_destroy(disk);
}

static void stops_for_good(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, (struct sim_disk_settings){0});
  struct disk_file *file = create(disk, "a");
  uint64_t before = sim_disk_operations(disk);
  sim_disk_stop_at(disk, 3);
  fill(disk, file, 0, 10, 'x');
  assert_int_equal(disk->operations->sync(disk, file), OK);
  assert_false(sim_disk_stopped(disk));
  assert_int_equal(disk->operations->sync_directory(disk), ERR_IO);
  assert_true(sim_disk_stopped(disk));
  assert_int_equal(sim_disk_operations(disk), before + 3);
  size_t got;
  uint8_t byte;
  struct disk_file *other;
  assert_int_equal(disk->operations->read(disk, file, 0, &byte, 1, &got), ERR_IO);
  assert_int_equal(disk->operations->write(disk, file, 0, span_of(&byte, 1)), ERR_IO);
  assert_int_equal(disk->operations->open(disk, "a", DISK_READ, &other), ERR_IO);
  assert_int_equal(disk->operations->unlink(disk, "a"), ERR_IO);
  struct prng prng;
  prng_seed(&prng, 1);
  sim_disk_crash(disk, SIM_KILL, &prng);
  assert_int_equal(disk->operations->open(disk, "a", DISK_READ, &other), OK);
  disk->operations->close(disk, other);
  disk->operations->close(disk, file);
  disk_destroy(disk);
}

static void copies_are_independent(void **state)
{
  (void)state;
  struct disk *disk = new_disk(1, (struct sim_disk_settings){0});
  sim_disk_put(disk, "a", span_text("text"));
  struct disk *copy = sim_disk_clone(disk);
  sim_disk_flip(copy, "a", 0, 't' ^ 'n');
  sim_disk_cut(copy, "a", 3);
  cut_power(disk, 1);
  cut_power(copy, 1);
  struct span bytes;
  assert_true(sim_disk_peek(disk, "a", &bytes));
  assert_true(span_equal(bytes, span_text("text")));
  assert_true(sim_disk_peek(copy, "a", &bytes));
  assert_true(span_equal(bytes, span_text("nex")));
  disk_destroy(disk);
  disk_destroy(copy);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_synced_stays),
      cmocka_unit_test(names_that_were_not_synced_survive_or_not),
      cmocka_unit_test(synced_names_stay),
      cmocka_unit_test(a_kill_loses_nothing_but_makes_nothing_safe),
      cmocka_unit_test(what_a_failed_sync_left_out_is_never_synced),
      cmocka_unit_test(space_runs_out_and_comes_back),
      cmocka_unit_test(without_reserving_writes_find_the_disk_full),
      cmocka_unit_test(stops_for_good),
      cmocka_unit_test(copies_are_independent),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
