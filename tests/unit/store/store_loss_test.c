// What rots is lost, and nothing else: whatever the disk reports now and then, while segments are copied forward, emptied and
// set aside, over stops and crashes at any time.
#include "store/log.h"
#include "store_rig.h"

enum { MESSAGES_MOST = 4000, SLOW = 1, QUICK = 2 };

// Two queues: one keeps everything, the other nothing for long, so that most of each segment is dead.
struct world {
  struct rig rig;
  uint64_t seed;
  uint64_t tail[3], head[3];   // places, by session
  uint32_t count;              // messages of the slow one; the number of each is in its payload
  bool surely[MESSAGES_MOST];  // committed
  bool rotten[MESSAGES_MOST];
  uint32_t begun;                   // those before were put before the last crash
  uint32_t pending[MESSAGES_MOST];  // by batch: the first message that is not in it
};

static uint64_t pick(struct world *world, uint64_t bound)
{
  return prng_below(&world->rig.prng, bound);
}

static void put_message(struct world *world, uint32_t session, uint32_t number, struct buffer *records)
{
  struct buffer targets = {0};
  uint8_t payload[400] = {0};
  size_t size = 8 + (size_t)pick(world, sizeof payload - 8);
  record_write_u64(payload, number);
  const struct record_target target = {.session = session, .place = (uint32_t)world->tail[session]++, .qos = 1};
  assert_ok(record_put_target(&targets, &target, NULL));
  const struct record_message message = {.qos = 1,
                                         .time_ms = 1000,
                                         .target_count = 1,
                                         .targets = buffer_peek(&targets),
                                         .topic = span_text("t"),
                                         .payload = span_of(payload, size)};
  assert_ok(record_put_message(records, &message));
  buffer_deinit(&targets);
}

static void submit(struct world *world, struct buffer *records)
{
  struct journal_batch *batch = calloc(1, sizeof *batch);
  assert_non_null(batch);
  *batch = (struct journal_batch){.number = ++world->rig.batches, .records = *records};
  *records = (struct buffer){0};
  world->pending[batch->number % MESSAGES_MOST] = world->count;
  store_submit(world->rig.store, batch);
}

static void note_committed(struct world *world)
{
  uint64_t committed = store_committed(world->rig.store);
  if (committed == 0) return;
  for (uint32_t i = world->pending[committed % MESSAGES_MOST]; i > world->begun && !world->surely[i - 1]; i--)
    world->surely[i - 1] = true;
}

static void some_messages(struct world *world)
{
  struct buffer records = {0};
  for (uint64_t i = 1 + pick(world, 30); i > 0 && world->count < MESSAGES_MOST; i--) {
    if (pick(world, 5) == 0) put_message(world, SLOW, world->count++, &records);
    put_message(world, QUICK, 0, &records);
  }
  uint64_t done = world->tail[QUICK] - world->head[QUICK];
  if (done > 0 && pick(world, 2) == 0) {
    const struct record_done record = {.session = QUICK, .place = world->head[QUICK], .count = (uint32_t)done};
    assert_ok(record_put_done(&records, &record));
    world->head[QUICK] = world->tail[QUICK];
  }
  if (buffer_size(&records) > 0) submit(world, &records);
}

static void a_round(struct world *world)
{
  struct rig *rig = &world->rig;
  rig->now.ms += pick(world, 200);
  for (uint64_t i = 1 + pick(world, 4); i > 0 && store_round(rig->store, rig->now, rig->wall); i--) continue;
  note_committed(world);
}

// A byte of a message that waits, not in the last segments: of what was written last nothing says that it was safe, and what
// follows damage there is taken for its unfinished end.
static void rot(struct world *world)
{
  struct rig *rig = &world->rig;
  struct catalog *catalog = (struct catalog *)(uintptr_t)store_catalog(rig->store);
  const struct catalog_session *session = catalog_find(catalog, SLOW);
  if (!session || session->tail == session->head) return;
  struct queue_entry entry;
  size_t count = 0;
  uint64_t next, place = session->head + pick(world, session->tail - session->head);
  assert_ok(catalog_entries(catalog, SLOW, place, &entry, 1, &count, &next));
  size_t segments = journal_log_segments(store_log(rig->store));
  struct segment_info third;
  if (segments < 3 || count == 0 || entry.position == 0) return;
  journal_log_segment(store_log(rig->store), segments - 3, &third);
  if (position_segment(entry.position) > third.number) return;
  struct record_header header;
  struct span body;
  struct record_message message;
  if (journal_log_read(store_log(rig->store), entry.position, &header, &body)) return;
  if (!record_get_message(body, &message)) return;
  struct record_reader reader = {.rest = message.payload};
  world->rotten[record_read_u64(&reader)] = true;
  char name[32];
  snprintf(name, sizeof name, "%010u.segment", (unsigned)position_segment(entry.position));
  sim_disk_flip(rig->disk, name, position_offset(entry.position) + 16 + pick(world, header.size), 0x20);
}

static void reopen(struct world *world, bool finish)
{
  struct rig *rig = &world->rig;
  if (finish && store_finish(rig->store, rig->now, rig->wall) == OK) note_committed(world);
  note_committed(world);
  rig_close(rig);
  sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){0});
  sim_disk_crash(rig->disk, pick(world, 2) ? SIM_KILL : SIM_POWER_CUT, &rig->prng);
  rig_open(rig);
  world->begun = world->count;
}

static void step(struct world *world)
{
  struct rig *rig = &world->rig;
  uint64_t what = pick(world, 100);
  if (what < 45) {
    some_messages(world);
  } else if (what < 90) {
    a_round(world);
  } else if (what < 92) {
    rot(world);
  } else if (what < 95) {
    const struct sim_disk_faults faults = {.reads = 4 * (uint32_t)pick(world, 3), .writes = 9 * (uint32_t)pick(world, 2)};
    sim_disk_set_faults(rig->disk, &faults);
  } else if (what < 98) {
    sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){0});
  } else {
    reopen(world, pick(world, 2));
  }
}

// All that waits, once each.
static void take_all(struct world *world)
{
  struct rig *rig = &world->rig;
  bool *taken = calloc(MESSAGES_MOST, sizeof *taken);
  assert_non_null(taken);
  struct journal_load load = {.session = SLOW, .max_entries = 1000, .max_bytes = 1 << 20};
  for (bool end = false; !end;) {
    struct journal_loaded *loaded = NULL;
    for (unsigned i = 0; i < 100 && !loaded; i++) loaded = store_load(rig->store, &load);
    assert_non_null(loaded);
    struct journal_entry entry;
    for (size_t cursor = 0; journal_next_entry(loaded, &cursor, &entry);) {
      if (entry.state == LOADED_DAMAGED) continue;
      struct record_reader reader = {.rest = entry.message.payload};
      uint64_t number = record_read_u64(&reader);
      assert_true(number < world->count);
      if (taken[number]) fail_msg("seed %u: message %u twice", (unsigned)world->seed, (unsigned)number);
      taken[number] = true;
    }
    end = loaded->count == 0;
    load.place = loaded->next;
    journal_loaded_free(loaded);
  }
  for (uint32_t i = 0; i < world->count; i++)
    if (world->surely[i] && !world->rotten[i] && !taken[i])
      fail_msg("seed %u: message %u of %u is lost", (unsigned)world->seed, (unsigned)i, (unsigned)world->count);
  free(taken);
}

static void live(struct world *world, uint64_t seed)
{
  struct rig *rig = &world->rig;
  *world = (struct world){.seed = seed};
  rig_init(rig, seed);
  rig->settings.limit_bytes = 96 << 10;
  rig->settings.reserve_bytes = 12 << 10;
  rig->settings.replay_bytes = UINT64_C(4096) << pick(world, 4);
  rig_open(rig);
  struct buffer records = {0};
  for (uint32_t number = SLOW; number <= QUICK; number++)
    assert_ok(record_put_session(
        &records, &(struct record_session){.session = number, .client_id = span_text(number == SLOW ? "slow" : "quick")}));
  submit(world, &records);
  rig_rounds(rig, 1);
  for (unsigned i = 0; i < 600; i++) step(world);
  sim_disk_set_faults(rig->disk, &(struct sim_disk_faults){0});
  for (unsigned i = 0; i < 10; i++) rig_rounds(rig, 6000);
  note_committed(world);
  take_all(world);
  reopen(world, true);
  take_all(world);
  rig_deinit(rig);
}

static void what_rots_is_lost_and_nothing_else(void **state)
{
  (void)state;
  struct world *world = malloc(sizeof *world);
  assert_non_null(world);
  for (uint64_t seed = 1; seed <= 200; seed++) live(world, seed);
  free(world);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_rots_is_lost_and_nothing_else),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
