// The log in bad times: files that were cut off, and bytes that changed. Whatever happened, opening works and shows all that
// is whole.
#include "log_history.h"

enum { ROUNDS = 12, PER_ROUND = 4, LAST = ROUNDS * PER_ROUND, SEGMENTS = 32 };

// A small journal of several segments, closed.
struct sample {
  struct history history;
  uint64_t positions[LAST + 1];
  struct segment_info segments[SEGMENTS];
  size_t count;
};

static int make_sample(void **state)
{
  struct sample *sample = calloc(1, sizeof *sample);
  assert_non_null(sample);
  struct history *history = &sample->history;
  history_init(history, 1, NULL);
  history->settings.segment_bytes = 2048;
  history->positions = sample->positions;
  history_open(history);
  history_rounds(history, ROUNDS, PER_ROUND);
  history->positions = NULL;
  history->settings.read_only = true;
  history_reopen(history);
  assert_int_equal(history->seen.count, LAST);
  sample->count = journal_log_segments(history->log);
  assert_in_range(sample->count, 4, SEGMENTS);
  for (size_t i = 0; i < sample->count; i++) journal_log_segment(history->log, i, &sample->segments[i]);
  history_close(history);
  history->settings.read_only = false;
  *state = sample;
  return 0;
}

static int free_sample(void **state)
{
  struct sample *sample = *state;
  history_deinit(&sample->history);
  free(sample);
  return 0;
}

// Opens a copy with a damage, and goes on writing: what was there before and what was written must come back. What the first
// opening has seen is in `copy->seen`.
static void open_and_go_on(struct history *copy)
{
  history_open(copy);
  const struct seen seen = copy->seen;
  history_rounds(copy, 1, PER_ROUND);
  history_crash(copy, SIM_POWER_CUT);
  assert_int_equal(copy->seen.last, seen.last + PER_ROUND);
  assert_int_equal(copy->seen.count, seen.count + PER_ROUND);
  copy->seen = seen;
}

static void every_truncation_opens_to_a_prefix(void **state)
{
  struct sample *sample = *state;
  struct disk *disk = sample->history.disk;
  // The last segment cut off anywhere, also after the ones behind it are gone altogether.
  for (size_t i = sample->count; i-- > 0;) {
    const struct segment_info *segment = &sample->segments[i];
    char name[32];
    segment_name(name, segment->number);
    for (uint64_t size = 0; size <= segment->size; size++) {
      struct history copy = history_copy(&sample->history);
      sim_disk_cut(copy.disk, name, size);
      open_and_go_on(&copy);
      uint64_t whole = 0;
      for (uint64_t k = 1; k <= LAST; k++) {
        uint64_t position = sample->positions[k];
        uint64_t end = position_offset(position) + record_length(history_body_size(&copy, k));
        bool kept = position_segment(position) < segment->number ||
                    (position_segment(position) == segment->number && end <= size && size >= LOG_SEGMENT_HEADER);
        if (kept) whole = k;
      }
      assert_int_equal(copy.seen.count, whole);
      assert_int_equal(copy.seen.last, whole);
      assert_int_equal(copy.seen.gaps, 0);
      history_deinit(&copy);
    }
    assert_ok(disk->operations->unlink(disk, name));
    assert_ok(disk->operations->sync_directory(disk));
  }
}

static void a_segment_cut_in_the_middle_of_others_loses_only_its_end(void **state)
{
  struct sample *sample = *state;
  const struct segment_info *middle = &sample->segments[sample->count / 2];
  char name[32];
  segment_name(name, middle->number);
  for (uint64_t size = LOG_SEGMENT_HEADER; size < middle->used; size += 8) {
    struct history copy = history_copy(&sample->history);
    sim_disk_cut(copy.disk, name, size);
    open_and_go_on(&copy);
    assert_int_equal(copy.seen.last, LAST);
    assert_int_equal(copy.seen.damages, 1);
    assert_true(copy.seen.sequences_lost >= copy.seen.gaps);
    assert_int_equal(copy.seen.count + copy.seen.gaps, LAST);
    history_deinit(&copy);
  }
}

static void a_missing_segment_is_noticed(void **state)
{
  struct sample *sample = *state;
  struct history *history = &sample->history;
  const struct segment_info *middle = &sample->segments[sample->count / 2];
  char name[32];
  segment_name(name, middle->number);
  assert_ok(history->disk->operations->unlink(history->disk, name));
  struct error error;
  assert_ok(journal_log_open(&history->settings, &history->log, &error));
  // From where replay begins all must be there; of the time before, segments that nothing refers to have been removed.
  assert_ok(history_scan(history, sample->positions[1]));
  assert_int_equal(history->seen.damages, 1);
  assert_int_equal(history->seen.sequences_lost, middle[1].first_sequence - middle->first_sequence);
  assert_ok(history_scan(history, 0));
  assert_int_equal(history->seen.damages, 0);
}

enum byte_kind { BYTE_HEADER, BYTE_RECORD, BYTE_PADDING, BYTE_ZERO };

// What the byte at `offset` of a segment belongs to; of records also which one it is (0: the one in front of a round).
static enum byte_kind classify(struct span file, uint64_t offset, uint64_t used, uint64_t *out_number)
{
  if (offset < LOG_SEGMENT_HEADER) return BYTE_HEADER;
  if (offset >= used) return BYTE_ZERO;
  for (uint64_t at = LOG_SEGMENT_HEADER; at < used;) {
    struct record_reader reader = {.rest = span_of(file.at + at, 24)};
    record_read_u32(&reader);
    uint32_t size = record_read_u32(&reader);
    uint64_t mark = record_read_u64(&reader);
    uint64_t number = record_read_u64(&reader);
    uint64_t length = record_length(size);
    if (offset < at + length) {
      *out_number = mark >> RECORD_SEQUENCE_BITS == RECORD_BATCH ? 0 : number;
      return offset < at + sizeof(struct record_header) + size ? BYTE_RECORD : BYTE_PADDING;
    }
    at += length;
  }
  return BYTE_ZERO;
}

static void check_flip(const struct sample *sample, size_t index, uint64_t offset, uint8_t mask)
{
  const struct segment_info *segment = &sample->segments[index];
  bool last = index + 1 == sample->count;
  char name[32];
  segment_name(name, segment->number);
  struct span file;
  assert_true(sim_disk_peek(sample->history.disk, name, &file));
  uint64_t number = 0;
  enum byte_kind kind = classify(file, offset, segment->used, &number);
  struct history copy = history_copy(&sample->history);
  sim_disk_flip(copy.disk, name, offset, mask);
  open_and_go_on(&copy);
  const struct seen seen = copy.seen;
  assert_int_equal(seen.first - 1 + seen.count + seen.gaps, seen.last);
  switch (kind) {
    case BYTE_HEADER:
      // The segment is put aside; all others are used.
      assert_int_equal(seen.damages, 1);
      assert_true(seen.count < LAST);
      if (!last) assert_int_equal(seen.last, LAST);
      break;
    case BYTE_RECORD:
      if (!last) {
        assert_int_equal(seen.damages, 1);
        assert_int_equal(seen.sequences_lost, 1);
        assert_int_equal(seen.last, LAST);
        assert_int_equal(seen.count, number ? LAST - 1 : LAST);
        assert_int_equal(seen.batches, number ? ROUNDS : ROUNDS - 1);
      } else {
        // Nothing says that the last round was ever safe. Of those before it exactly the one record is missing.
        assert_int_equal(seen.damages + seen.torn, 1);
        if (seen.damages)
          assert_true(seen.last == LAST && seen.sequences_lost == 1 && seen.count == (number ? LAST - 1 : LAST));
        if (seen.torn) assert_true(seen.gaps == 0 && seen.last >= LAST - PER_ROUND && seen.last < LAST);
      }
      break;
    case BYTE_PADDING:
      assert_int_equal(seen.count, LAST);
      assert_int_equal(seen.damages + seen.torn, 0);
      break;
    case BYTE_ZERO:
      assert_int_equal(seen.count, LAST);
      assert_int_equal(seen.last, LAST);
      if (last) assert_int_equal(seen.damages, 0);
      break;
  }
  history_deinit(&copy);
}

static void every_flipped_byte_is_noticed_or_harmless(void **state)
{
  struct sample *sample = *state;
  struct prng prng;
  prng_seed(&prng, 11);
  for (size_t i = 0; i < sample->count; i++)
    for (uint64_t offset = 0; offset < sample->segments[i].size; offset++) {
      check_flip(sample, i, offset, (uint8_t)(1u << prng_below(&prng, 8)));
      if (offset % 5 == 0) check_flip(sample, i, offset, 0xff);
    }
}

static void a_record_that_changed_is_not_read(void **state)
{
  struct sample *sample = *state;
  struct history *history = &sample->history;
  history_open(history);
  struct record_header header;
  struct span body;
  for (uint64_t k = 1; k <= LAST; k++) {
    uint64_t position = sample->positions[k];
    char name[32];
    segment_name(name, position_segment(position));
    uint64_t size = sizeof header + history_body_size(history, k);
    for (uint64_t i = 0; i < size; i++) {
      assert_ok(journal_log_read(history->log, position, &header, &body));
      history_close(history);  // and with it what was read before
      sim_disk_flip(history->disk, name, position_offset(position) + i, 0x40);
      struct error error;
      history->settings.read_only = true;
      assert_ok(journal_log_open(&history->settings, &history->log, &error));
      assert_int_equal(journal_log_read(history->log, position, &header, &body), ERR_INVALID);
      // Whoever mends it is seen at once.
      sim_disk_flip(history->disk, name, position_offset(position) + i, 0x40);
    }
  }
}

static void a_bad_spot_does_not_take_its_surroundings_along(void **state)
{
  struct history *history = *state;
  history->settings.segment_bytes = 1 << 20;
  history_open(history);
  uint64_t positions[4001] = {0};
  history->positions = positions;
  history_rounds(history, 40, 100);
  // One read of three fails for a moment: each is repeated block by block.
  sim_disk_set_faults(history->disk, &(struct sim_disk_faults){.reads = 3});
  struct record_header header;
  struct span body;
  unsigned failed = 0;
  for (uint64_t k = 1; k <= 4000; k++) {
    enum status status = journal_log_read(history->log, positions[k], &header, &body);
    assert_true(status == OK || status == ERR_IO);  // never "damaged"
    failed += status != OK;
  }
  assert_true(failed < 400);
  // A disk that cannot read at all is not damage either.
  sim_disk_set_faults(history->disk, &(struct sim_disk_faults){.reads = 1});
  assert_int_equal(history_scan(history, 0), ERR_IO);
  sim_disk_set_faults(history->disk, &(struct sim_disk_faults){0});
  assert_ok(history_scan(history, 0));
  assert_int_equal(history->seen.count, 4000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_sample, free_sample)
  const struct CMUnitTest tests[] = {
      TEST(every_truncation_opens_to_a_prefix), TEST(a_segment_cut_in_the_middle_of_others_loses_only_its_end),
      TEST(a_missing_segment_is_noticed),       TEST(every_flipped_byte_is_noticed_or_harmless),
      TEST(a_record_that_changed_is_not_read),  WITH_HISTORY(a_bad_spot_does_not_take_its_surroundings_along),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
