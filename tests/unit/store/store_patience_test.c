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
    struct journal_loaded *loaded = NULL;
    for (unsigned i = 0; i < 100 && !loaded; i++) loaded = store_load(rig->store, &load);  // NULL: another time
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

// A file with a spot that cannot be read any more.
static struct {
  const struct disk_operations *operations;  // of the disk
  struct disk_operations wrapped;
  const char *name;
  uint64_t offset;
  struct disk_file *file;
} bad;

static enum status open_with_bad_spot(struct disk *disk, const char *name, enum disk_open how, struct disk_file **out)
{
  enum status status = bad.operations->open(disk, name, how, out);
  if (status == OK && strcmp(name, bad.name) == 0) bad.file = *out;
  return status;
}

static enum status read_with_bad_spot(struct disk *disk, struct disk_file *file, uint64_t offset, void *out, size_t size,
                                      size_t *out_size)
{
  if (file == bad.file && offset <= bad.offset && bad.offset - offset < size) return ERR_IO;
  return bad.operations->read(disk, file, offset, out, size, out_size);
}

static void close_with_bad_spot(struct disk *disk, struct disk_file *file)
{
  if (file == bad.file) bad.file = NULL;
  bad.operations->close(disk, file);
}

// From now on all files are opened through here; none has a bad spot yet.
static void watch_files(struct rig *rig)
{
  bad.operations = rig->disk->operations;
  bad.wrapped = *bad.operations;
  bad.wrapped.open = open_with_bad_spot;
  bad.wrapped.read = read_with_bad_spot;
  bad.wrapped.close = close_with_bad_spot;
  bad.name = "0000000001.segment";
  bad.offset = UINT64_MAX;
  bad.file = NULL;
  rig->disk->operations = &bad.wrapped;
}

// Opens the damaged journal while the disk refuses the `count`-th change: whether the store is there, and has not got on.
static bool opens_stuck(struct rig *rig, struct disk *whole, uint64_t count)
{
  struct error error = {0};
  rig->disk = rig->settings.disk = sim_disk_clone(whole);
  watch_files(rig);
  sim_disk_fail_at(rig->disk, count);
  enum status status = rig_try_open(rig, &error);
  if (status == OK && store_state(rig->store) == JOURNAL_FAILING) return true;
  if (status == OK) rig_close(rig);
  disk_destroy(rig->disk);
  return false;
}

static void open_stuck(struct rig *rig, struct disk *whole)
{
  uint64_t count = 1;
  while (!opens_stuck(rig, whole, count)) assert_true(++count < 1000);
}

// A segment is cleared of what can be read of it, slice by slice. A clean stop in between takes nothing of the rest with it.
static void a_stop_while_a_damaged_segment_is_emptied(void **state)
{
  struct rig *rig = *state;
  prepare(rig);
  sim_disk_flip(rig->disk, "0000000001.segment", 600000, 0x10);
  struct disk *whole = rig->disk;
  open_stuck(rig, whole);
  rig->now.ms += 1000;
  assert_true(store_round(rig->store, rig->now, rig->wall));
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  rig_crash_blind(rig, SIM_KILL);
  struct delivered delivered = drain(rig);
  assert_int_equal(delivered.damaged, 1);
  assert_int_equal(delivered.good, MESSAGES - 1);
  disk_destroy(whole);
}

// One that is to be emptied, because of a mark, while the disk reports errors now and then: all of it is read in the end.
static void errors_that_pass_while_a_segment_is_emptied(void **state)
{
  struct rig *rig = *state;
  prepare(rig);
  sim_disk_put(rig->disk, "0000000001.suspect", span_of(NULL, 0));
  struct disk *whole = rig->disk;
  open_stuck(rig, whole);
  sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){.reads = 3});
  for (unsigned i = 0; i < 100; i++) rig_rounds(rig, 1000);
  sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){0});
  assert_true(rig_logged(rig, "journal_segment_copied"));
  assert_false(rig_logged(rig, "journal_messages_lost"));
  struct delivered delivered = drain(rig);
  assert_int_equal(delivered.damaged, 0);
  assert_int_equal(delivered.good, MESSAGES);
  disk_destroy(whole);
}

// A place of the disk that stays bad: given up after some time, and only what lies there.
static void errors_that_stay_while_a_segment_is_emptied(void **state)
{
  struct rig *rig = *state;
  prepare(rig);
  sim_disk_put(rig->disk, "0000000001.suspect", span_of(NULL, 0));
  struct disk *whole = rig->disk;
  open_stuck(rig, whole);
  bad.offset = 600000;
  unsigned waits = 0;
  while (!rig_logged(rig, "journal_segment_copied")) {
    int64_t next_ms = store_next_ms(rig->store, rig->now);
    assert_true(next_ms >= 0);
    rig_rounds(rig, (uint64_t)next_ms);
    assert_true(++waits < 100);
  }
  assert_true(waits >= 5);
  struct delivered delivered = drain(rig);
  assert_in_range(delivered.damaged, 1, 10);
  assert_int_equal(delivered.good + delivered.damaged, MESSAGES);
  disk_destroy(whole);
}

// Blocks of references, messages, and the search for what a block does not tell: an error that passes costs nothing.
static void errors_that_pass_while_a_queue_is_loaded(void **state)
{
  struct rig *rig = *state;
  prepare(rig);
  for (unsigned i = 0; i < 50; i++) {
    rig_open(rig);  // nothing is in memory
    rig_rounds(rig, 1);
    sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){.reads = 2});
    struct delivered delivered = drain(rig);
    assert_int_equal(delivered.damaged, 0);
    assert_int_equal(delivered.good, MESSAGES);
    sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){0});
    rig_close(rig);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_RIG(a_stop_while_a_damaged_segment_is_emptied),
      WITH_RIG(errors_that_pass_while_a_segment_is_emptied),
      WITH_RIG(errors_that_stay_while_a_segment_is_emptied),
      WITH_RIG(errors_that_pass_while_a_queue_is_loaded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
