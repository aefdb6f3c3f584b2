// The log in bad times: files that were cut off, and bytes that changed. Whatever happened, opening works and shows all that
// is whole.
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "log_history.h"
#include "sim/disk.h"

enum { ROUNDS = 12, PER_ROUND = 4, LAST = ROUNDS * PER_ROUND };

// A small journal of several segments.
static struct disk *make_journal(struct history *history, uint64_t positions[LAST + 1])
{
  struct sim_disk_settings settings = {0};
  prng_seed(&settings.prng, 7);
  struct disk *disk = sim_disk_create(&settings);
  history_init(history, disk, 1);
  history->settings.segment_bytes = 2048;
  history->positions = positions;
  struct seen seen;
  history_open(history, &seen);
  for (unsigned i = 0; i < ROUNDS; i++) assert_int_equal(history_round(history, PER_ROUND), OK);
  assert_true(journal_log_segments(history->log) >= 4);
  history_close(history);
  history->positions = NULL;
  return disk;
}

// On a copy of the disk: opens, and goes on writing; what was there before and what was written must come back.
static void open_and_go_on(struct history *history, struct disk *disk, struct seen *out)
{
  history->settings.disk = disk;
  history_open(history, out);
  uint64_t last = out->last;
  assert_int_equal(history_round(history, PER_ROUND), OK);
  history_close(history);
  struct prng prng;
  prng_seed(&prng, 5);
  sim_disk_crash(disk, SIM_POWER_CUT, &prng);
  struct seen again;
  history_open(history, &again);
  assert_int_equal(again.last, last + PER_ROUND);
  assert_int_equal(again.count, out->count + PER_ROUND);
  history_close(history);
}

static size_t list_segments(struct history *history, struct disk *disk, struct segment_info *out, size_t capacity)
{
  history->settings.disk = disk;
  history->settings.read_only = true;
  struct seen seen;
  history_open(history, &seen);
  assert_int_equal(seen.count, LAST);
  size_t count = journal_log_segments(history->log);
  assert_true(count <= capacity);
  for (size_t i = 0; i < count; i++) journal_log_segment(history->log, i, &out[i]);
  history_close(history);
  history->settings.read_only = false;
  return count;
}

static void every_truncation_opens_to_a_prefix(void **state)
{
  (void)state;
  struct history history;
  uint64_t positions[LAST + 1];
  struct disk *disk = make_journal(&history, positions);
  struct segment_info segments[32];
  size_t count = list_segments(&history, disk, segments, 32);
  // The last segment cut off anywhere, also after the ones behind it are gone altogether.
  struct disk *base = sim_disk_clone(disk);
  for (size_t i = count; i-- > 0;) {
    char name[32];
    snprintf(name, sizeof name, "%010u.segment", segments[i].number);
    for (uint64_t size = 0; size <= segments[i].size; size++) {
      struct disk *copy = sim_disk_clone(base);
      sim_disk_cut(copy, name, size);
      struct seen seen;
      open_and_go_on(&history, copy, &seen);
      uint64_t whole = 0;
      for (uint64_t k = 1; k <= LAST; k++) {
        uint64_t end = position_offset(positions[k]) + record_length(history_body_size(k, history.largest));
        bool kept = position_segment(positions[k]) < segments[i].number ||
                    (position_segment(positions[k]) == segments[i].number && end <= size && size >= LOG_SEGMENT_HEADER);
        if (kept) whole = k;
      }
      assert_int_equal(seen.count, whole);
      assert_int_equal(seen.last, whole);
      assert_int_equal(seen.gaps, 0);
      disk_destroy(copy);
    }
    assert_int_equal(base->operations->unlink(base, name), OK);
    assert_int_equal(base->operations->sync_directory(base), OK);
  }
  disk_destroy(base);
  disk_destroy(disk);
}

static void a_segment_cut_in_the_middle_of_others_loses_only_its_end(void **state)
{
  (void)state;
  struct history history;
  uint64_t positions[LAST + 1];
  struct disk *disk = make_journal(&history, positions);
  struct segment_info segments[32];
  size_t count = list_segments(&history, disk, segments, 32);
  char name[32];
  snprintf(name, sizeof name, "%010u.segment", segments[count / 2].number);
  for (uint64_t size = LOG_SEGMENT_HEADER; size < segments[count / 2].used; size += 8) {
    struct disk *copy = sim_disk_clone(disk);
    sim_disk_cut(copy, name, size);
    struct seen seen;
    open_and_go_on(&history, copy, &seen);
    assert_int_equal(seen.last, LAST);
    assert_int_equal(seen.damages, 1);
    assert_true(seen.sequences_lost >= seen.gaps);
    assert_int_equal(seen.count + seen.gaps, LAST);
    disk_destroy(copy);
  }
  disk_destroy(disk);
}

static void a_missing_segment_is_noticed(void **state)
{
  (void)state;
  struct history history;
  uint64_t positions[LAST + 1];
  struct disk *disk = make_journal(&history, positions);
  struct segment_info segments[32];
  size_t count = list_segments(&history, disk, segments, 32);
  char name[32];
  snprintf(name, sizeof name, "%010u.segment", segments[count / 2].number);
  assert_int_equal(disk->operations->unlink(disk, name), OK);
  history.settings.disk = disk;
  struct error error;
  struct seen seen;
  assert_int_equal(journal_log_open(&history.settings, &history.log, &error), OK);
  // From where replay begins all must be there; of the time before, segments that nothing refers to have been removed.
  assert_int_equal(history_scan(&history, positions[1], &seen), OK);
  assert_int_equal(seen.damages, 1);
  assert_int_equal(seen.sequences_lost, segments[count / 2 + 1].first_sequence - segments[count / 2].first_sequence);
  assert_int_equal(history_scan(&history, 0, &seen), OK);
  assert_int_equal(seen.damages, 0);
  history_close(&history);
  disk_destroy(disk);
}

enum byte_kind { BYTE_HEADER, BYTE_RECORD, BYTE_PADDING, BYTE_ZERO };

// What the byte at `offset` of a segment belongs to; of records also which one it is (0: the one in front of a round).
static enum byte_kind classify(struct span file, uint64_t offset, uint64_t used, uint64_t *out_number,
                               bool *out_first_of_rest)
{
  if (offset < LOG_SEGMENT_HEADER) return BYTE_HEADER;
  if (offset >= used) return BYTE_ZERO;
  (void)out_first_of_rest;
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

static void check_flip(struct history *history, struct disk *disk, const struct segment_info *segment, bool last,
                       uint64_t offset, uint8_t mask)
{
  char name[32];
  snprintf(name, sizeof name, "%010u.segment", segment->number);
  struct span file;
  assert_true(sim_disk_peek(disk, name, &file));
  uint64_t number = 0;
  bool first = false;
  enum byte_kind kind = classify(file, offset, segment->used, &number, &first);
  struct disk *copy = sim_disk_clone(disk);
  sim_disk_flip(copy, name, offset, mask);
  struct seen seen;
  open_and_go_on(history, copy, &seen);
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
  disk_destroy(copy);
}

static void every_flipped_byte_is_noticed_or_harmless(void **state)
{
  (void)state;
  struct history history;
  uint64_t positions[LAST + 1];
  struct disk *disk = make_journal(&history, positions);
  struct segment_info segments[32];
  size_t count = list_segments(&history, disk, segments, 32);
  struct prng prng;
  prng_seed(&prng, 11);
  for (size_t i = 0; i < count; i++)
    for (uint64_t offset = 0; offset < segments[i].size; offset++) {
      uint8_t mask = (uint8_t)(1u << prng_below(&prng, 8));
      check_flip(&history, disk, &segments[i], i + 1 == count, offset, mask);
      if (offset % 5 == 0) check_flip(&history, disk, &segments[i], i + 1 == count, offset, 0xff);
    }
  disk_destroy(disk);
}

static void a_record_that_changed_is_not_read(void **state)
{
  (void)state;
  struct history history;
  uint64_t positions[LAST + 1];
  struct disk *disk = make_journal(&history, positions);
  history.settings.disk = disk;
  struct seen seen;
  history_open(&history, &seen);
  struct record_header header;
  struct span body;
  for (uint64_t k = 1; k <= LAST; k++) {
    char name[32];
    snprintf(name, sizeof name, "%010u.segment", position_segment(positions[k]));
    uint64_t size = sizeof header + history_body_size(k, history.largest);
    for (uint64_t i = 0; i < size; i++) {
      assert_int_equal(journal_log_read(history.log, positions[k], &header, &body), OK);
      history_close(&history);  // and with it what was read before
      sim_disk_flip(disk, name, position_offset(positions[k]) + i, 0x40);
      struct error error;
      history.settings.read_only = true;
      assert_int_equal(journal_log_open(&history.settings, &history.log, &error), OK);
      assert_int_equal(journal_log_read(history.log, positions[k], &header, &body), ERR_INVALID);
      // Whoever mends it is seen at once.
      sim_disk_flip(disk, name, position_offset(positions[k]) + i, 0x40);
    }
  }
  history_close(&history);
  disk_destroy(disk);
}

static void a_bad_spot_does_not_take_its_surroundings_along(void **state)
{
  (void)state;
  struct sim_disk_settings settings = {0};
  prng_seed(&settings.prng, 9);
  struct disk *disk = sim_disk_create(&settings);
  struct history history;
  history_init(&history, disk, 1);
  history.settings.segment_bytes = 1 << 20;
  struct seen seen;
  history_open(&history, &seen);
  uint64_t positions[4001] = {0};
  history.positions = positions;
  for (unsigned i = 0; i < 40; i++) assert_int_equal(history_round(&history, 100), OK);
  // One read of three fails for a moment: each is repeated block by block.
  sim_disk_set_faults(disk, &(struct sim_disk_faults){.reads = 3});
  struct record_header header;
  struct span body;
  unsigned failed = 0;
  for (uint64_t k = 1; k <= 4000; k++) {
    enum status status = journal_log_read(history.log, positions[k], &header, &body);
    assert_true(status == OK || status == ERR_IO);  // never "damaged"
    failed += status != OK;
  }
  assert_true(failed < 400);
  // A disk that cannot read at all is not damage either.
  sim_disk_set_faults(disk, &(struct sim_disk_faults){.reads = 1});
  assert_int_equal(history_scan(&history, 0, &seen), ERR_IO);
  sim_disk_set_faults(disk, &(struct sim_disk_faults){0});
  assert_int_equal(history_scan(&history, 0, &seen), OK);
  assert_int_equal(seen.count, 4000);
  history_close(&history);
  disk_destroy(disk);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_truncation_opens_to_a_prefix),
      cmocka_unit_test(a_segment_cut_in_the_middle_of_others_loses_only_its_end),
      cmocka_unit_test(a_missing_segment_is_noticed),
      cmocka_unit_test(every_flipped_byte_is_noticed_or_harmless),
      cmocka_unit_test(a_record_that_changed_is_not_read),
      cmocka_unit_test(a_bad_spot_does_not_take_its_surroundings_along),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
