// The log in good times, and its files: what is in them, whose they are, what they may take.
#include "store/log.h"

#include "base/crc32c.h"
#include "log_history.h"

static void assert_whole(const struct history *history, uint64_t last)
{
  const struct seen *seen = &history->seen;
  assert_false(seen->wrong);
  assert_int_equal(seen->count, last);
  assert_int_equal(seen->gaps, 0);
  assert_int_equal(seen->damages, 0);
  assert_int_equal(seen->torn, 0);
  if (last > 0) assert_int_equal(seen->last, last);
}

static void what_was_synced_is_there_again(void **state)
{
  struct history *history = *state;
  history_open(history);
  for (unsigned opening = 0; opening < 5; opening++) {
    assert_whole(history, opening * 60);
    assert_int_equal(journal_log_sequence(history->log), opening * 80 + 1);
    history_rounds(history, 20, 3);
    history_crash(history, SIM_POWER_CUT);
  }
}

static void records_of_all_sizes_find_their_segments(void **state)
{
  struct history *history = *state;
  history->largest = 20000;  // five segments
  history_open(history);
  uint64_t positions[301] = {0};
  history->positions = positions;
  for (unsigned i = 0; i < 100; i++) assert_ok(history_round(history, 1 + i % 5));
  uint64_t last = history->committed;
  for (uint64_t i = 1; i <= last; i++) {
    struct record_header header;
    struct span body;
    assert_ok(journal_log_read(history->log, positions[i], &header, &body));
    assert_int_equal(body.size, history_body_size(history, i));
    struct record_reader reader = {.rest = body};
    assert_int_equal(record_read_u64(&reader), i);
  }
  struct segment_info info;
  for (size_t i = 0; i < journal_log_segments(history->log); i++) {
    journal_log_segment(history->log, i, &info);
    assert_true(info.used <= info.size);
    struct span file;
    char name[32];
    segment_name(name, info.number);
    assert_true(sim_disk_peek(history->disk, name, &file));
    assert_int_equal(file.size, info.size);
  }
  history_reopen(history);
  assert_whole(history, last);
}

static void reads_what_was_written_just_now(void **state)
{
  struct history *history = *state;
  history->settings.segment_bytes = 1 << 20;
  history_open(history);
  uint64_t positions[2001] = {0};
  history->positions = positions;
  struct record_header header;
  struct span body;
  for (unsigned i = 0; i < 1000; i++) {
    history_rounds(history, 1, 1);
    // The one before fills the window up to its end; what comes next must not be taken from it.
    assert_ok(journal_log_read(history->log, positions[i + 1], &header, &body));
    assert_ok(journal_log_read(history->log, positions[1 + i / 2], &header, &body));
    assert_int_equal(journal_log_read(history->log, journal_log_end(history->log), &header, &body), ERR_INVALID);
  }
  assert_int_equal(journal_log_read(history->log, position_of(77, 64), &header, &body), ERR_NOT_FOUND);
  assert_int_equal(journal_log_read(history->log, 0, &header, &body), ERR_NOT_FOUND);
  assert_int_equal(journal_log_read(history->log, positions[5] + 8, &header, &body), ERR_INVALID);
  assert_int_equal(journal_log_read(history->log, positions[5] + 1, &header, &body), ERR_INVALID);
  assert_int_equal(journal_log_read(history->log, position_of(1, 0), &header, &body), ERR_INVALID);
  assert_int_equal(journal_log_read(history->log, position_of(1, UINT32_MAX - 7), &header, &body), ERR_INVALID);
}

static void scans_from_any_record(void **state)
{
  struct history *history = *state;
  history_open(history);
  uint64_t positions[130] = {0};
  history->positions = positions;
  history_rounds(history, 40, 3);
  for (unsigned i = 1; i <= 120; i++) {
    assert_ok(history_scan(history, positions[i]));
    assert_false(history->seen.wrong);
    assert_int_equal(history->seen.first, i);
    assert_int_equal(history->seen.last, 120);
    assert_int_equal(history->seen.gaps + history->seen.damages + history->seen.torn, 0);
  }
  history_close(history);
  // From the last record on is enough to go on writing.
  struct error error;
  assert_ok(journal_log_open(&history->settings, &history->log, &error));
  assert_ok(history_scan(history, positions[120]));
  assert_int_equal(history->seen.count, 1);
  assert_ok(journal_log_start(history->log, &error));
  assert_int_equal(journal_log_sequence(history->log), 161);
  history_rounds(history, 1, 1);
  history_close(history);
  // And so is nothing at all, also when something is torn.
  sim_disk_cut(history->disk, "0000000001.segment", 4096);
  assert_ok(journal_log_open(&history->settings, &history->log, &error));
  assert_ok(journal_log_start(history->log, &error));
  assert_int_equal(journal_log_sequence(history->log), 163);
}

// ---- Whose files they are

static void fill_journal(struct history *history, unsigned rounds)
{
  history_open(history);
  history_rounds(history, rounds, 5);
  history_close(history);
}

static void put_header(struct disk *disk, const char *name, const uint8_t header[LOG_SEGMENT_HEADER])
{
  struct span file;
  assert_true(sim_disk_peek(disk, name, &file));
  for (size_t i = 0; i < LOG_SEGMENT_HEADER; i++) {
    uint8_t mask = file.at[i] ^ header[i];
    if (mask) sim_disk_flip(disk, name, i, mask);
  }
}

static void count_name(void *context, const char *name)
{
  (void)name;
  ++*(unsigned *)context;
}

static void assert_refused_untouched(const struct history *history, const char *word)
{
  struct disk *disk = history->disk;
  unsigned before = 0, after = 0;
  assert_ok(disk->operations->list(disk, count_name, &before));
  uint64_t operations = sim_disk_operations(disk);
  struct journal_log *log = NULL;
  struct error error;
  assert_int_equal(journal_log_open(&history->settings, &log, &error), ERR_INVALID);
  assert_null(log);
  assert_non_null(strstr(error.text, word));
  assert_int_equal(sim_disk_operations(disk), operations);
  assert_ok(disk->operations->list(disk, count_name, &after));
  assert_int_equal(before, after);
}

static uint32_t version_of(const struct history *history, unsigned number)
{
  char name[32];
  struct span file;
  segment_name(name, number);
  assert_true(sim_disk_peek(history->disk, name, &file));
  struct record_reader reader = {.rest = span_from(file, LOG_MAGIC_SIZE)};
  return record_read_u32(&reader);
}

static void set_version(const struct history *history, unsigned number, uint32_t version)
{
  char name[32];
  struct span file;
  uint8_t header[LOG_SEGMENT_HEADER];
  segment_name(name, number);
  assert_true(sim_disk_peek(history->disk, name, &file));
  memcpy(header, file.at, sizeof header);
  record_write_u32(header + LOG_MAGIC_SIZE, version);
  record_write_u32(header + LOG_CHECKSUM_OFFSET, crc32c(0, span_of(header, LOG_CHECKSUM_OFFSET)));
  put_header(history->disk, name, header);
}

static void refuses_a_newer_version(void **state)
{
  struct history *history = *state;
  fill_journal(history, 30);
  set_version(history, 3, LOG_VERSION + 1);
  // Also when something else in the directory is damaged.
  sim_disk_flip(history->disk, "0000000001.segment", 9, 1);
  assert_refused_untouched(history, "format version 3");
}

// What an older program has written stays as it is: it must not take what is new for its own.
static void goes_on_behind_an_older_version(void **state)
{
  struct history *history = *state;
  fill_journal(history, 10);
  history_open(history);
  unsigned last = (unsigned)journal_log_segments(history->log);
  history_close(history);
  assert_true(last > 1);
  for (unsigned i = 1; i <= last; i++) set_version(history, i, LOG_VERSION_LEAST);
  history_open(history);
  for (unsigned opening = 0; opening < 3; opening++) {
    assert_whole(history, 50 + opening * 3);
    struct segment_info info;
    journal_log_segment(history->log, last - 1, &info);
    assert_int_equal(info.version, LOG_VERSION_LEAST);
    history_rounds(history, 1, 3);
    // One new segment, not one at each opening.
    assert_int_equal(journal_log_segments(history->log), last + 1);
    assert_int_equal(version_of(history, last), LOG_VERSION_LEAST);
    assert_int_equal(version_of(history, last + 1), LOG_VERSION);
    history_crash(history, SIM_POWER_CUT);
  }
  history_close(history);
  set_version(history, 1, 0);
  assert_refused_untouched(history, "format version 0");
}

static void refuses_segments_of_several_journals(void **state)
{
  struct history *history = *state;
  fill_journal(history, 30);
  uint8_t header[LOG_SEGMENT_HEADER];
  log_segment_header(header, (const uint8_t *)"somebody else..", 3, 1);
  put_header(history->disk, "0000000003.segment", header);
  assert_refused_untouched(history, "another journal");
}

static void keeps_its_identity(void **state)
{
  struct history *history = *state;
  fill_journal(history, 3);
  memset(history->settings.identity, 'x', LOG_IDENTITY_SIZE);
  history_open(history);
  assert_whole(history, 15);
  assert_memory_equal(journal_log_identity(history->log), "an identity 123", LOG_IDENTITY_SIZE);
}

static void puts_a_damaged_header_aside_and_uses_the_rest(void **state)
{
  (void)state;
  for (unsigned which = 0; which < 3; which++) {
    struct history history;
    history_init(&history, 1, NULL);
    fill_journal(&history, 40);
    struct error error;
    assert_ok(journal_log_open(&history.settings, &history.log, &error));
    size_t segments = journal_log_segments(history.log);
    assert_true(segments > 4);
    struct segment_info info;
    size_t index = which == 0 ? 0 : which == 1 ? segments / 2 : segments - 1;
    journal_log_segment(history.log, index, &info);
    history_close(&history);

    char name[32], aside[32];
    segment_name(name, info.number);
    snprintf(aside, sizeof aside, "%010u.damaged", info.number);
    sim_disk_flip(history.disk, name, 20, 0x10);
    struct span file;
    history.settings.read_only = true;
    history_open(&history);
    assert_int_equal(history.seen.damages, 1);
    assert_true(sim_disk_peek(history.disk, name, &file));
    history.settings.read_only = false;
    history_reopen(&history);
    assert_int_equal(journal_log_segments(history.log), segments - 1);
    assert_int_equal(history.seen.damages, 1);
    assert_false(sim_disk_peek(history.disk, name, &file));
    assert_true(sim_disk_peek(history.disk, aside, &file));
    if (which == 1) assert_true(history.seen.sequences_lost > 0);
    if (which != 2) assert_int_equal(history.seen.last, 200);
    // Its number is not used again, and what is written now comes back.
    uint64_t last = history.seen.last;
    history_rounds(&history, 1, 5);
    history_reopen(&history);
    assert_int_equal(history.seen.last, last + 5);
    history_close(&history);
    assert_true(sim_disk_peek(history.disk, aside, &file));
    history_deinit(&history);
  }
}

static void removes_a_segment_in_which_nothing_is(void **state)
{
  struct history *history = *state;
  fill_journal(history, 20);
  uint8_t zeros[4096] = {0};
  sim_disk_put(history->disk, "0000000090.segment", span_of(zeros, sizeof zeros));
  sim_disk_put(history->disk, "0000000091.segment", span_of(zeros, 0));
  struct span file;
  history_open(history);
  assert_whole(history, 100);
  assert_false(sim_disk_peek(history->disk, "0000000090.segment", &file));
  assert_false(sim_disk_peek(history->disk, "0000000090.damaged", &file));
  assert_false(sim_disk_peek(history->disk, "0000000091.segment", &file));
}

static void files_that_are_not_its_own_stay(void **state)
{
  static const char *const names[] = {"lock",
                                      "anchor",
                                      "1.segment",
                                      "0000000001.segment.old",
                                      "x000000001.segment",
                                      "0000000000.segment",
                                      "9999999999.segment"};
  struct history *history = *state;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) sim_disk_put(history->disk, names[i], span_text("something"));
  history_open(history);
  assert_whole(history, 0);
  history_rounds(history, 1, 5);
  history_close(history);
  struct span file;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) assert_true(sim_disk_peek(history->disk, names[i], &file));
}

static void a_record_made_up_by_a_client_is_not_one(void **state)
{
  // The payload of record 1 is a record with a right sequence and a checksum that anybody can compute. When record 1 is damaged, the
  // search for the next one comes across it.
  struct history *history = *state;
  history_open(history);
  uint8_t records[16 + 48] = {0};
  uint8_t *inner = records + 16 + 8;
  record_write_u32(inner + 4, 16);
  record_write_u64(inner + 8, (uint64_t)RECORD_MESSAGE << RECORD_SEQUENCE_BITS);
  log_stamp(inner, 0, 2);
  record_write_u32(records + 4, 48);
  record_write_u64(records + 8, (uint64_t)RECORD_MESSAGE << RECORD_SEQUENCE_BITS);
  size_t size;
  uint64_t position;
  assert_ok(journal_log_append(history->log, records, sizeof records, &size, &position));
  assert_int_equal(size, sizeof records);
  assert_ok(journal_log_sync(history->log));
  history->safe_sequence = 2;
  history_rounds(history, 30, 5);
  history_close(history);
  char name[32];
  segment_name(name, position_segment(position));
  sim_disk_flip(history->disk, name, position_offset(position), 1);
  history_open(history);
  assert_int_equal(history->seen.count, 150);
  assert_int_equal(history->seen.last, 150);
  assert_int_equal(history->seen.damages, 1);
  assert_int_equal(history->seen.sequences_lost, 1);
}

// ---- What it may take

static void keeps_to_the_limit_and_recovers(void **state)
{
  struct history *history = *state;
  history->settings.limit_bytes = 12 * 4096;
  history->settings.reserve_bytes = 2 * 4096;
  history_open(history);
  assert_true(journal_log_roomy(history->log, true));
  unsigned rounds = 0, roomy = 0;
  while (history_round(history, 5) == OK) {
    rounds++;
    if (journal_log_roomy(history->log, true)) roomy = rounds;
    assert_true(journal_log_bytes(history->log) <= history->settings.limit_bytes);
    assert_true(rounds < 1000);
  }
  // Refusing begins before the reserve is touched: two segments and more go on behind it.
  assert_true(roomy > 0);
  assert_true(roomy * 12 < rounds * 11);
  assert_false(journal_log_roomy(history->log, true));
  for (unsigned i = 0; i < 3; i++) assert_int_equal(history_round(history, 5), ERR_FULL);
  // What still has room goes on: the end was not lost with the round that found none.
  struct segment_info info;
  journal_log_segment(history->log, 0, &info);
  assert_ok(journal_log_remove(history->log, info.number));
  assert_int_equal(journal_log_remove(history->log, info.number), ERR_NOT_FOUND);
  history_rounds(history, 1, 5);
  for (unsigned i = 0; i < 5; i++) {
    journal_log_segment(history->log, 0, &info);
    assert_ok(journal_log_remove(history->log, info.number));
  }
  assert_true(journal_log_roomy(history->log, true));
  history_rounds(history, 1, 5);
  uint64_t last = history->committed;
  history_reopen(history);
  assert_false(history->seen.wrong);
  assert_int_equal(history->seen.last, last);
  assert_int_equal(history->seen.gaps + history->seen.damages, 0);
}

static void a_full_disk_is_survived(void **state)
{
  (void)state;
  unsigned with_room = 0;
  for (unsigned variant = 0; variant < 20; variant++) {
    bool no_reserve = variant % 2;
    struct history history;
    history_init(&history, 1, &(struct sim_disk_settings){.capacity = 20 * 4096, .no_reserve = no_reserve});
    history.settings.reserve_bytes = 3 * 4096;
    history.largest = 150 + 10 * variant;
    history_open(&history);
    unsigned rounds = 0;
    while (history_round(&history, 40) == OK) assert_true(++rounds < 1000);
    for (unsigned i = 0; i < 5; i++) assert_int_equal(history_round(&history, 40), ERR_FULL);
    // Smaller ones still find room behind what was written last, if there is any.
    unsigned small = 0;
    bool room = 4096 - position_offset(journal_log_end(history.log)) > 64 + history.largest;
    while (history_round(&history, 1) == OK) assert_true(++small < 1000);
    if (room) assert_true(no_reserve || small > 0);
    assert_false(journal_log_roomy(history.log, true));
    with_room += room;
    struct history copy = history_copy(&history);
    sim_disk_set_capacity(copy.disk, 0);
    history_open(&copy);
    assert_int_equal(copy.seen.last, history.committed);
    assert_int_equal(copy.seen.gaps + copy.seen.damages, 0);
    history_deinit(&copy);

    sim_disk_set_capacity(history.disk, 0);
    assert_true(journal_log_roomy(history.log, true));
    history_rounds(&history, 1, 40);
    sim_disk_crash(history.disk, SIM_POWER_CUT, &history.prng);
    history_reopen(&history);
    assert_int_equal(history.seen.last, history.committed);
    assert_int_equal(history.seen.count, history.committed);
    assert_int_equal(history.seen.damages, 0);
    history_deinit(&history);
  }
  assert_true(with_room > 5);
}

static void a_disk_that_is_full_at_the_start_is_no_obstacle(void **state)
{
  struct history *history = *state;
  sim_disk_set_capacity(history->disk, 100);
  history_open(history);
  assert_false(journal_log_roomy(history->log, true));
  assert_int_equal(history_round(history, 1), ERR_FULL);
  sim_disk_set_capacity(history->disk, 1 << 20);
  assert_true(journal_log_roomy(history->log, true));
  history_rounds(history, 1, 1);
}

static void spares_of_another_size_are_made_fit(void **state)
{
  struct history *history = *state;
  history->settings.reserve_bytes = 3 * 4096;
  history_open(history);
  history_rounds(history, 1, 5);
  history_close(history);
  for (unsigned step = 0; step < 3; step++) {
    static const uint64_t sizes[] = {8192, 2048, 4096};
    history->settings.segment_bytes = sizes[step];
    history->settings.reserve_bytes = 3 * sizes[step] - step * 2048;
    history_open(history);
    assert_true(journal_log_roomy(history->log, true));
    size_t spares = step == 0 ? 3 : step == 1 ? 2 : 2;
    assert_int_equal(journal_log_bytes(history->log), 4096 + spares * sizes[step]);
    history_close(history);
  }
}

static void the_one_that_is_written_is_not_removed(void **state)
{
  struct history *history = *state;
  fill_journal(history, 10);
  history_open(history);
  struct segment_info info;
  journal_log_segment(history->log, journal_log_segments(history->log) - 1, &info);
  assert_int_equal(journal_log_remove(history->log, info.number), ERR_INVALID);
  assert_int_equal(journal_log_set_aside(history->log, info.number), ERR_INVALID);
  journal_log_segment(history->log, 0, &info);
  assert_ok(journal_log_set_aside(history->log, info.number));
  char name[32];
  snprintf(name, sizeof name, "%010u.damaged", info.number);
  struct span file;
  assert_true(sim_disk_peek(history->disk, name, &file));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_HISTORY(what_was_synced_is_there_again),
      WITH_HISTORY(records_of_all_sizes_find_their_segments),
      WITH_HISTORY(reads_what_was_written_just_now),
      WITH_HISTORY(scans_from_any_record),
      WITH_HISTORY(refuses_a_newer_version),
      WITH_HISTORY(goes_on_behind_an_older_version),
      WITH_HISTORY(refuses_segments_of_several_journals),
      WITH_HISTORY(keeps_its_identity),
      cmocka_unit_test(puts_a_damaged_header_aside_and_uses_the_rest),
      WITH_HISTORY(removes_a_segment_in_which_nothing_is),
      WITH_HISTORY(files_that_are_not_its_own_stay),
      WITH_HISTORY(a_record_made_up_by_a_client_is_not_one),
      WITH_HISTORY(keeps_to_the_limit_and_recovers),
      cmocka_unit_test(a_full_disk_is_survived),
      WITH_HISTORY(a_disk_that_is_full_at_the_start_is_no_obstacle),
      WITH_HISTORY(spares_of_another_size_are_made_fit),
      WITH_HISTORY(the_one_that_is_written_is_not_removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
