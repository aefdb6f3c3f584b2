// Opening always works: with bytes that changed, files that are missing, anchors of all kinds. What is whole is used, what
// is lost is told; and what belongs to somebody else is not touched.
#include "base/crc32c.h"
#include "store/anchor.h"
#include "store/log.h"
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
  model_put_owner(&rig->model, 1, "ann", &records);
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

// In segments of 8 KB.
static void prepare_many(struct rig *rig, unsigned count, uint64_t replay_bytes)
{
  rig->settings.segment_bytes = 8192;
  rig->settings.replay_bytes = replay_bytes;
  prepare(rig, count);
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

static void assert_delivered(struct rig *rig, size_t good)
{
  struct delivered one = drain(rig, 1), other = drain(rig, 2);
  assert_int_equal(one.good + other.good, good);
}

// The next message of a queue is there after a restart.
static void goes_on(struct rig *rig)
{
  struct buffer records = {0}, targets = {0};
  uint64_t tail = catalog_find(store_catalog(rig->store), 1)->tail;
  struct record_target target = {.session = 1, .place = (uint32_t)tail, .qos = 1};
  uint8_t payload[8];
  record_write_u64(payload, 1000000);
  assert_ok(record_put_target(&targets, &target, NULL));
  struct record_message message = {.qos = 1,
                                   .time_ms = 1,
                                   .target_count = 1,
                                   .targets = buffer_peek(&targets),
                                   .topic = span_text("line/1"),
                                   .payload = span_of(payload, sizeof payload)};
  assert_ok(record_put_message(&records, &message));
  struct journal_batch *batch = calloc(1, sizeof *batch);
  assert_non_null(batch);
  *batch = (struct journal_batch){.number = 1, .records = records};
  store_submit(rig->store, batch);
  struct delivered before = drain(rig, 1);
  rig_rounds(rig, 1000);
  assert_int_equal(store_committed(rig->store), 1);
  rig_crash_blind(rig, SIM_POWER_CUT);
  assert_int_equal(catalog_find(store_catalog(rig->store), 1)->tail, tail + 1);
  struct delivered after = drain(rig, 1);
  assert_int_equal(after.good, before.good + 1);
  buffer_deinit(&targets);
}

static void on_clone(struct rig *rig, struct disk *whole)
{
  rig->disk = rig->settings.disk = sim_disk_clone(whole);
}

static void on_whole(struct rig *rig, struct disk *whole)
{
  rig_close(rig);
  disk_destroy(rig->disk);
  rig->disk = rig->settings.disk = whole;
}

// Returns how many messages are lost.
static unsigned open_flipped(struct rig *rig, const char *name, size_t offset)
{
  sim_disk_flip(rig->disk, name, offset, 0x10);
  rig_open(rig);
  const struct catalog_session *anns = catalog_find(store_catalog(rig->store), 1),
                               *nobodys = catalog_find(store_catalog(rig->store), 2);
  assert_non_null(anns);
  assert_non_null(nobodys);
  assert_true(span_equal(catalog_owner(anns), span_text("ann")));
  assert_int_equal(catalog_owner(nobodys).size, 0);
  struct delivered one = drain(rig, 1), other = drain(rig, 2);
  // What was at the end may be gone without a trace in the queues.
  assert_in_range(one.good + one.damaged, offset < LOG_SEGMENT_HEADER ? 600 : 699, 700);
  assert_in_range(other.good + other.damaged, offset < LOG_SEGMENT_HEADER ? 60 : 69, 70);
  unsigned lost = (unsigned)(700 - one.good + 70 - other.good);
  bool told = rig_logged(rig, "journal_damaged") || rig_logged(rig, "journal_messages_damaged") ||
              rig_logged(rig, "journal_tail_cut");
  if (lost > 0) assert_true(told);
  goes_on(rig);
  return lost;
}

// One byte of any file: it opens, all sessions are there, and all messages but those in the damaged record are delivered.
static void any_byte_may_change(void **state)
{
  struct rig *rig = *state;
  prepare_many(rig, 700, 40000);
  rig_close(rig);
  struct names names;
  list(rig, &names);
  struct disk *whole = rig->disk;
  unsigned tried = 0, lost_some = 0;
  for (size_t i = 0; i < names.count; i++) {
    struct span bytes;
    assert_true(sim_disk_peek(whole, names.at[i], &bytes));
    size_t size = bytes.size;
    for (size_t offset = i % 7; offset < size; offset += offset < 128 ? 5 : 61) {
      on_clone(rig, whole);
      unsigned lost = open_flipped(rig, names.at[i], offset);
      // A header: all messages of one segment. Anything else: those of one record.
      if (lost > (offset < LOG_SEGMENT_HEADER ? 8192u / 100 : 1u))
        fail_msg("%s at %zu: %u messages lost", names.at[i], offset, lost);
      lost_some += lost > 0;
      on_whole(rig, whole);
      tried++;
    }
  }
  assert_true(tried > 1000);
  assert_true(lost_some > 100);
}

// ---- Segments that are damaged are emptied and set aside

static void a_damaged_segment_is_set_aside(void **state)
{
  struct rig *rig = rig_of_seed(state, 2);
  prepare_many(rig, 300, 10 << 20);  // all of it is read
  rig_close(rig);
  sim_disk_flip(rig->disk, "0000000003.segment", 4000, 1);
  rig_open(rig);
  assert_true(rig_logged(rig, "journal_damaged"));
  assert_true(rig_logged(rig, "journal_messages_lost"));
  assert_true(rig_logged(rig, "journal_segment_set_aside"));
  assert_int_equal(rig_counters(rig).damaged_records, 1);
  assert_int_equal(rig_counters(rig).damaged_messages, 1);
  struct span bytes;
  assert_false(sim_disk_peek(rig->disk, "0000000003.segment", &bytes));
  assert_true(sim_disk_peek(rig->disk, "0000000003.damaged", &bytes));
  assert_delivered(rig, 329);
  rig_crash_blind(rig, SIM_POWER_CUT);
  assert_false(rig_logged(rig, "journal_damaged"));
  assert_delivered(rig, 329);
}

// Wherever the opening that finds the damage is interrupted: the file is never removed.
static void it_is_so_after_a_crash_too(void **state)
{
  struct rig *rig = rig_of_seed(state, 12);
  prepare_many(rig, 300, 10 << 20);
  rig_close(rig);
  sim_disk_flip(rig->disk, "0000000003.segment", 4000, 1);
  struct disk *whole = rig->disk;
  bool stopped = true;
  for (uint64_t step = 1; stopped; step++) {
    assert_in_range(step, 1, 1000);
    on_clone(rig, whole);
    sim_disk_stop_at(rig->disk, step);
    struct error error;
    if (rig_try_open(rig, &error)) rig->store = NULL;
    stopped = sim_disk_stopped(rig->disk);
    rig_close(rig);
    sim_disk_crash(rig->disk, step % 2 ? SIM_KILL : SIM_POWER_CUT, &rig->prng);
    struct span bytes;
    bool there = sim_disk_peek(rig->disk, "0000000003.segment", &bytes);
    assert_true(there || sim_disk_peek(rig->disk, "0000000003.damaged", &bytes));
    rig_open(rig);
    rig_rounds(rig, 1000);
    assert_true(sim_disk_peek(rig->disk, "0000000003.damaged", &bytes));
    assert_false(sim_disk_peek(rig->disk, "0000000003.segment", &bytes));
    assert_false(sim_disk_peek(rig->disk, "0000000003.suspect", &bytes));
    assert_delivered(rig, 329);
    on_whole(rig, whole);
  }
}

// A disk that reads at the second or third try: what an opening gives up does not come back, so it is patient.
static void a_disk_that_stutters_is_no_damage(void **state)
{
  struct rig *rig = rig_of_seed(state, 13);
  prepare_many(rig, 300, 10 << 20);
  rig_close(rig);
  for (unsigned i = 0; i < 10; i++) {
    sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){.reads = 4});
    rig_open(rig);
    sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){0});
    assert_false(rig_logged(rig, "journal_damaged"));
    assert_false(rig_logged(rig, "journal_header_damaged"));
    assert_delivered(rig, 330);
    rig_close(rig);
  }
}

// The references of 256 messages are in one record. They are found again.
static void damaged_references_cost_no_message(void **state)
{
  struct rig *rig = rig_of_seed(state, 10);
  prepare_many(rig, 4000, 20000);
  rig_close(rig);
  rig_open(rig);
  const struct catalog_session *session = catalog_find(store_catalog(rig->store), 1);
  assert_true(session->block_count > 4);
  uint64_t position = session->blocks[session->block_first + 1].position;
  char name[32];
  snprintf(name, sizeof name, "%010u.segment", (unsigned)position_segment(position));
  rig_close(rig);
  sim_disk_flip(rig->disk, name, position_offset(position) + 40, 1);
  rig_open(rig);
  assert_false(rig_logged(rig, "journal_damaged"));
  struct delivered one = drain(rig, 1);
  assert_true(rig_logged(rig, "journal_references_damaged"));
  assert_int_equal(one.good, 4000);
  assert_int_equal(one.damaged, 0);
}

static void a_missing_segment_is_told(void **state)
{
  struct rig *rig = rig_of_seed(state, 3);
  prepare_many(rig, 700, 40000);
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  rig_close(rig);
  assert_ok(rig->disk->operations->unlink(rig->disk, "0000000003.segment"));
  rig_open(rig);
  assert_true(rig_logged(rig, "journal_messages_lost"));
  uint64_t lost = rig_counters(rig).damaged_messages;
  assert_in_range(lost, 20, 80);
  struct delivered one = drain(rig, 1), other = drain(rig, 2);
  assert_int_equal(one.damaged + other.damaged, lost);
  assert_int_equal(one.good + other.good, 770 - lost);
}

// Nothing is left but the file names.
static void all_segments_may_be_lost(void **state)
{
  struct rig *rig = rig_of_seed(state, 9);
  prepare(rig, 300);
  rig_close(rig);
  struct names names;
  list(rig, &names);
  for (size_t i = 0; i < names.count; i++)
    if (strstr(names.at[i], ".segment")) sim_disk_flip(rig->disk, names.at[i], 3, 1);
  rig_open(rig);
  assert_int_equal(store_catalog(rig->store)->sessions.count, 0);
  rig_rounds(rig, 1);
  model_deinit(&rig->model);
  model_init(&rig->model);
  rig->count = rig->committed = 0;
  buffer_consume(&rig->records, buffer_size(&rig->records));
  rig_submit(rig, 20);
  rig_rounds(rig, 1);
  assert_int_equal(rig->committed, 20);
  rig_crash(rig, SIM_POWER_CUT);
  rig_check(rig);
}

// Damage that shows when messages are loaded is counted once, however often they are.
static void damage_is_counted_once(void **state)
{
  struct rig *rig = rig_of_seed(state, 14);
  prepare_many(rig, 700, 40000);
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  rig_close(rig);
  for (unsigned i = 0; i < 40; i++) sim_disk_flip(rig->disk, "0000000003.segment", 200 + i * 150, 1);
  rig_open(rig);
  assert_false(rig_logged(rig, "journal_damaged"));
  struct delivered one = drain(rig, 1), other = drain(rig, 2);
  assert_in_range(one.damaged, 20, 40);
  assert_in_range(other.damaged, 1, 10);
  assert_int_equal(rig_counters(rig).damaged_messages, one.damaged + other.damaged);
  for (unsigned i = 0; i < 3; i++) {
    struct delivered again = drain(rig, 1 + i % 2);
    assert_int_equal(again.damaged, i % 2 ? other.damaged : one.damaged);
  }
  assert_int_equal(rig_counters(rig).damaged_messages, one.damaged + other.damaged);
}

// ---- Anchors

static void without_an_anchor_all_is_read(void **state)
{
  (void)state;
  for (unsigned i = 0; i < 4; i++) {
    struct rig rig;
    rig_init(&rig, 4);
    rig.settings.replay_bytes = 10000;
    rig_open(&rig);
    for (unsigned j = 0; j < 40; j++) {
      rig_submit(&rig, 20);
      rig_rounds(&rig, 1);
    }
    rig_close(&rig);
    if (i == 0) assert_ok(rig.disk->operations->unlink(rig.disk, ANCHOR_FILE));
    if (i == 1) sim_disk_put(rig.disk, ANCHOR_FILE, span_text("what is this?"));
    if (i == 2) sim_disk_cut(rig.disk, ANCHOR_FILE, 0);
    if (i == 3) sim_disk_flip(rig.disk, ANCHOR_FILE, 41, 1);  // one slot is left
    rig_open(&rig);
    if (i < 3) assert_true(rig_logged(&rig, "journal_anchor_damaged") || rig_logged(&rig, "journal_anchor_missing"));
    rig_check(&rig);
    rig_crash(&rig, SIM_POWER_CUT);
    assert_false(rig_logged(&rig, "journal_anchor_damaged") || rig_logged(&rig, "journal_anchor_missing"));
    rig_check(&rig);
    rig_deinit(&rig);
  }
}

// Every file as it was.
static void assert_untouched(struct disk *before, struct disk *after, const struct names *names)
{
  for (size_t i = 0; i < names->count; i++) {
    struct span a, b;
    assert_true(sim_disk_peek(before, names->at[i], &a));
    assert_true(sim_disk_peek(after, names->at[i], &b));
    assert_true(span_equal(a, b));
  }
}

static void assert_refused(struct rig *rig, const char *words)
{
  struct disk *before = sim_disk_clone(rig->disk);
  struct names names, names_after;
  list(rig, &names);
  struct error error = {0};
  uint64_t operations = sim_disk_operations(rig->disk);
  assert_int_equal(rig_try_open(rig, &error), ERR_INVALID);
  if (!strstr(error.text, words)) fail_msg("not in \"%s\": %s", error.text, words);
  assert_int_equal(sim_disk_operations(rig->disk), operations);
  list(rig, &names_after);
  assert_int_equal(names_after.count, names.count);
  assert_untouched(before, rig->disk, &names);
  disk_destroy(before);
}

static void another_brokers_journal_is_refused(void **state)
{
  struct rig *rig = rig_of_seed(state, 5);
  rig->settings.broker_id = "north";
  prepare(rig, 50);
  rig_close(rig);
  rig->settings.broker_id = "south";
  assert_refused(rig, "\"north\"");
  assert_refused(rig, "broker.data");
  rig->settings.broker_id = NULL;  // not configured: not compared
  rig_open(rig);
  rig_close(rig);
  rig->settings.broker_id = "north";
  rig_open(rig);
  rig_check(rig);
}

static void a_journal_takes_the_first_name_that_it_gets(void **state)
{
  struct rig *rig = rig_of_seed(state, 6);
  prepare(rig, 50);
  rig_close(rig);
  rig->settings.broker_id = "north";
  rig_open(rig);
  rig_close(rig);
  rig->settings.broker_id = "south";
  assert_refused(rig, "\"north\"");
}

static void a_newer_version_is_refused(void **state)
{
  struct rig *rig = rig_of_seed(state, 7);
  prepare(rig, 50);
  assert_ok(store_finish(rig->store, rig->now, rig->wall));
  rig_close(rig);
  struct span bytes;
  assert_true(sim_disk_peek(rig->disk, ANCHOR_FILE, &bytes));
  uint8_t anchor[ANCHOR_SLOT_DISTANCE + ANCHOR_SLOT_SIZE];
  assert_int_equal(bytes.size, sizeof anchor);
  memcpy(anchor, bytes.at, sizeof anchor);
  uint8_t *slot = memcmp(anchor, "SKRYANCR", 8) == 0 ? anchor : anchor + ANCHOR_SLOT_DISTANCE;
  record_write_u32(slot + 8, ANCHOR_VERSION + 1);
  record_write_u32(slot + ANCHOR_SLOT_SIZE - 4, crc32c(0, span_of(slot, ANCHOR_SLOT_SIZE - 4)));
  sim_disk_put(rig->disk, ANCHOR_FILE, span_of(anchor, sizeof anchor));
  assert_refused(rig, "newer version");
}

// ---- Reading only

static void read_only_changes_nothing(void **state)
{
  struct rig *rig = rig_of_seed(state, 8);
  rig->settings.segment_bytes = 8192;
  prepare(rig, 300);
  rig_close(rig);
  struct names names, after;
  list(rig, &names);
  for (unsigned i = 0; i < 2; i++) {
    if (i == 1) sim_disk_flip(rig->disk, "0000000003.segment", 4000, 1);
    struct disk *before = sim_disk_clone(rig->disk);
    uint64_t operations = sim_disk_operations(rig->disk);
    rig->settings.read_only = true;
    rig_open(rig);
    assert_delivered(rig, 330 - i);
    assert_ok(store_finish(rig->store, rig->now, rig->wall));
    rig_close(rig);
    assert_int_equal(sim_disk_operations(rig->disk), operations);
    list(rig, &after);
    assert_int_equal(after.count, names.count);
    assert_untouched(before, rig->disk, &names);
    disk_destroy(before);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_RIG(any_byte_may_change),
      WITH_RIG(a_damaged_segment_is_set_aside),
      WITH_RIG(it_is_so_after_a_crash_too),
      WITH_RIG(a_disk_that_stutters_is_no_damage),
      WITH_RIG(damaged_references_cost_no_message),
      WITH_RIG(a_missing_segment_is_told),
      WITH_RIG(damage_is_counted_once),
      WITH_RIG(all_segments_may_be_lost),
      cmocka_unit_test(without_an_anchor_all_is_read),
      WITH_RIG(another_brokers_journal_is_refused),
      WITH_RIG(a_journal_takes_the_first_name_that_it_gets),
      WITH_RIG(a_newer_version_is_refused),
      WITH_RIG(read_only_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
