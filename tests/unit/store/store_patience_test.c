// What the store does not give up in a hurry: messages that it has not come to yet, or that the disk does not read at the
// moment.
#include "store/log.h"
#include "store_rig.h"

enum { MESSAGES = 1500 };

static size_t size_of(const struct rig *rig, const char *name)
{
  struct span bytes;
  assert_true(sim_disk_peek(rig->disk, name, &bytes));
  return bytes.size;
}

struct delivered {
  size_t good, damaged;
};

static struct delivered drain(struct rig *rig)
{
  struct delivered delivered = {0};
  struct journal_load load = {.session = 1, .max_entries = 1000, .max_bytes = 1 << 20};
  for (bool end = false; !end;) {
    struct journal_loaded *loaded = store_load(rig->store, &load);
    assert_non_null(loaded);
    struct journal_entry entry;
    for (size_t cursor = 0; journal_next_entry(loaded, &cursor, &entry);)
      *(entry.state == LOADED_DAMAGED ? &delivered.damaged : &delivered.good) += 1;
    end = loaded->count == 0;
    load.place = loaded->next;
    journal_loaded_free(loaded);
  }
  return delivered;
}

// A queue in segments of 1 MiB: the first is full of it.
static void prepare(struct rig *rig)
{
  rig->settings.segment_bytes = rig->settings.reserve_bytes = 1 << 20;
  rig->settings.replay_bytes = 16 << 20;
  rig_open(rig);
  rig_put_session(rig);
  rig_put_messages(rig, 1, MESSAGES, 1000);
  rig_close(rig);
  assert_int_equal(size_of(rig, "0000000001.segment"), 1 << 20);
}

// Opens the damaged journal while the disk refuses the `count`-th change: whether the store is there, and has not got on.
static bool opens_stuck(struct rig *rig, struct disk *whole, uint64_t count)
{
  struct error error = {0};
  rig->disk = rig->settings.disk = sim_disk_clone(whole);
  sim_disk_fail_at(rig->disk, count);
  enum status status = rig_try_open(rig, &error);
  if (status == OK && store_state(rig->store) == JOURNAL_FAILING) return true;
  if (status == OK) rig_close(rig);
  disk_destroy(rig->disk);
  return false;
}

// A segment is cleared of what can be read of it, slice by slice. A clean stop in between takes nothing of the rest with it.
static void a_stop_while_a_damaged_segment_is_emptied(void **state)
{
  struct rig *rig = *state;
  prepare(rig);
  sim_disk_flip(rig->disk, "0000000001.segment", 600000, 0x10);
  struct disk *whole = rig->disk;
  uint64_t count = 1;
  while (!opens_stuck(rig, whole, count)) assert_true(++count < 1000);
  rig->now.ms += 1000;
  assert_true(store_round(rig->store, rig->now, rig->wall));
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  rig_crash_blind(rig, SIM_KILL);
  struct delivered delivered = drain(rig);
  assert_int_equal(delivered.damaged, 1);
  assert_int_equal(delivered.good, MESSAGES - 1);
  disk_destroy(whole);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_RIG(a_stop_while_a_damaged_segment_is_emptied),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
