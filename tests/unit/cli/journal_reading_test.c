#include "cli/journal_reading.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/store_batch.h"

// ---- Texts

static void expect_damage(struct log_damage damage, const char *wanted)
{
  char text[JOURNAL_DAMAGE_SIZE];
  assert_string_equal(journal_damage_text(&damage, text), wanted);
}

static void damages_in_words(void **state)
{
  (void)state;
  expect_damage((struct log_damage){.segment = 3, .offset = 4096, .bytes = 312, .sequences_lost = 1},
                "0000000003.segment: offset 4096: 312 bytes cannot be read, 1 record lost");
  expect_damage((struct log_damage){.segment = 3, .offset = 4096, .bytes = 312, .sequences_lost = 20},
                "0000000003.segment: offset 4096: 312 bytes cannot be read, 20 records lost");
  expect_damage((struct log_damage){.segment = UINT32_MAX, .offset = UINT32_MAX, .bytes = UINT64_MAX},
                "4294967295.segment: offset 4294967295: 18446744073709551615 bytes cannot be read");
  expect_damage((struct log_damage){.segment = 4, .sequences_lost = 7}, "0000000004.segment: is missing, 7 records lost");
  expect_damage((struct log_damage){.segment = 4, .bytes = 65536},
                "0000000004.segment: offset 0: the header is damaged, nothing of the file can be used");
  expect_damage((struct log_damage){.segment = 4, .offset = 800, .sequences_lost = 2},
                "0000000004.segment: offset 800: ends too early, 2 records lost");
  expect_damage((struct log_damage){.segment = 4, .offset = 800, .bytes = 40, .torn = true},
                "0000000004.segment: offset 800: 40 bytes of an unfinished write, never acknowledged");
}

static bool moved(uint32_t *before, size_t before_count, uint32_t *after, size_t after_count)
{
  const struct journal_files old = {.segments = before, .segment_count = before_count};
  const struct journal_files new = {.segments = after, .segment_count = after_count};
  return journal_moved_on(&old, &new);
}

static void growing_is_no_change(void **state)
{
  (void)state;
  uint32_t one[] = {1, 2, 3};
  uint32_t more[] = {1, 2, 3, 4, 7};
  uint32_t fewer[] = {2, 3, 4};
  assert_false(moved(one, 3, one, 3));
  assert_false(moved(one, 3, more, 5));
  assert_true(moved(one, 3, fewer, 3));
  assert_true(moved(one, 3, NULL, 0));
  assert_false(moved(NULL, 0, one, 3));
  const struct journal_files aside = {.damaged_count = 1};
  assert_true(journal_moved_on(&(struct journal_files){0}, &aside));
}

// ---- A small journal, written as a broker does

struct world {
  char data[64];
  char path[80];
  struct disk *disk;
  struct journal_log *log;
};

static void begin(struct world *world)
{
  snprintf(world->data, sizeof world->data, "/tmp/journal_reading_test.XXXXXX");
  assert_non_null(mkdtemp(world->data));
  snprintf(world->path, sizeof world->path, "%s/journal", world->data);
  struct error error = {0};
  assert_int_equal(disk_posix_open(world->path, true, true, &world->disk, &error), OK);
  const struct journal_log_settings settings = {
      .disk = world->disk, .segment_bytes = 4096, .limit_bytes = 1 << 20, .identity = {7}};
  const struct log_reader nothing = {0};
  assert_int_equal(journal_log_open(&settings, &world->log, &error), OK);
  assert_int_equal(journal_log_scan(world->log, 0, &nothing), OK);
  assert_int_equal(journal_log_start(world->log, &error), OK);
}

static void write_records(struct world *world, struct buffer *records)
{
  while (buffer_size(records) > 0) {
    size_t size = 0;
    uint64_t position;
    assert_int_equal(journal_log_append(world->log, records->data + records->start, buffer_size(records), &size, &position),
                     OK);
    buffer_consume(records, size);
  }
  assert_int_equal(journal_log_sync(world->log), OK);
}

static void put_message(struct buffer *out, uint32_t place)
{
  struct buffer targets = {0};
  const struct record_target target = {.session = 1, .place = place, .qos = 1};
  assert_int_equal(record_put_target(&targets, &target, NULL), OK);
  const struct record_message message = {.qos = 1,
                                         .time_ms = 2000,
                                         .target_count = 1,
                                         .targets = buffer_peek(&targets),
                                         .topic = span_text("a"),
                                         .payload = span_text("0123456789")};
  assert_int_equal(record_put_message(out, &message), OK);
  buffer_deinit(&targets);
}

// A session with 100 messages, over some segments.
static void fill(struct world *world)
{
  struct buffer records = {0};
  for (uint32_t i = 0; i < 100; i++) {
    const struct store_batch batch = {
        .journal_ms = 2000 + i, .wall = {1700000000000 + i}, .safe = journal_log_sequence(world->log)};
    assert_int_equal(store_batch_put(&records, &batch), OK);
    const struct record_session session = {.session = 1, .expiry_s = 60, .client_id = span_text("press")};
    if (i == 0) assert_int_equal(record_put_session(&records, &session), OK);
    put_message(&records, i);
    write_records(world, &records);
  }
  buffer_deinit(&records);
}

static void end(struct world *world)
{
  char command[120];
  journal_log_close(world->log);
  disk_destroy(world->disk);
  snprintf(command, sizeof command, "rm -rf %s", world->data);
  assert_int_equal(system(command), 0);
}

static bool count(void *context, const struct record_header *header, struct span body, uint64_t position)
{
  (void)header;
  (void)body;
  (void)position;
  uint64_t *records = context;
  (*records)++;
  return true;
}

static void reads_what_is_there(void **state)
{
  (void)state;
  struct world world;
  struct journal_reading reading;
  struct error error = {0};
  char path[JOURNAL_PATH_SIZE];
  begin(&world);
  assert_int_equal(journal_find(world.data, path, &error), OK);
  assert_string_equal(path, world.path);
  fill(&world);
  assert_int_equal(journal_find(world.path, path, &error), OK);
  assert_string_equal(path, world.path);

  uint64_t records = 0;
  assert_int_equal(journal_reading_open(&reading, path, &error), OK);
  assert_int_equal(reading.holder, getpid());
  assert_true(reading.files.segment_count > 2);
  assert_int_equal(journal_reading_replay(&reading, count, &records, &error), OK);
  assert_int_equal(records, 201);
  assert_int_equal(reading.records, 201);
  assert_int_equal(reading.sequence, 201);
  assert_true(reading.complete);
  assert_int_equal(journal_reading_damages(&reading), 0);
  const struct catalog_session *session = catalog_find(&reading.catalog, 1);
  assert_non_null(session);
  assert_int_equal(session->waiting, 100);
  // Journal time goes on with the wall clock, and does not go back with it.
  assert_int_equal(journal_reading_now_ms(&reading, 1700000000099 + 5000), 2099 + 5000);
  assert_int_equal(journal_reading_now_ms(&reading, 1600000000000), 2099);

  assert_false(journal_reading_moved_on(&reading));
  assert_int_equal(journal_log_remove(world.log, reading.files.segments[0]), OK);
  assert_true(journal_reading_moved_on(&reading));
  journal_reading_close(&reading);
  end(&world);
}

static void flip(const struct world *world, uint32_t segment, long offset)
{
  char path[JOURNAL_PATH_SIZE], name[JOURNAL_TEXT_SIZE];
  snprintf(path, sizeof path, "%s/%s", world->path, journal_segment_name(segment, name));
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  assert_int_equal(fseek(file, offset, SEEK_SET), 0);
  int byte = fgetc(file);
  assert_int_equal(fseek(file, offset, SEEK_SET), 0);
  assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
  assert_int_equal(fclose(file), 0);
}

static void looks_twice_at_damage(void **state)
{
  (void)state;
  struct world world;
  struct journal_reading reading;
  struct error error = {0};
  begin(&world);
  fill(&world);
  flip(&world, 2, 200);
  assert_int_equal(journal_reading_open(&reading, world.path, &error), OK);
  assert_int_equal(journal_reading_replay(&reading, NULL, NULL, &error), OK);
  assert_int_equal(journal_reading_damages(&reading), 1);
  assert_int_equal(reading.damages[0].segment, 2);
  assert_true(reading.damages[0].offset > 64);
  assert_true(reading.damages[0].offset <= 200);
  assert_int_equal(reading.damages[0].sequences_lost, 1);
  assert_false(journal_reading_moved_on(&reading));  // it is damaged at the second look too
  flip(&world, 2, 200);
  assert_true(journal_reading_moved_on(&reading));
  journal_reading_close(&reading);
  end(&world);
}

static void what_is_no_journal(void **state)
{
  (void)state;
  char path[JOURNAL_PATH_SIZE], data[] = "/tmp/journal_reading_test.XXXXXX";
  struct error error = {0};
  assert_non_null(mkdtemp(data));
  assert_int_equal(journal_find(data, path, &error), ERR_NOT_FOUND);
  assert_non_null(strstr(error.text, "holds no journal"));
  assert_int_equal(rmdir(data), 0);
  assert_int_not_equal(journal_find(data, path, &error), OK);
  assert_non_null(strstr(error.text, data));
  struct journal_reading reading;
  assert_int_not_equal(journal_reading_open(&reading, data, &error), OK);
  journal_reading_close(&reading);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(damages_in_words),      cmocka_unit_test(growing_is_no_change), cmocka_unit_test(reads_what_is_there),
      cmocka_unit_test(looks_twice_at_damage), cmocka_unit_test(what_is_no_journal),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
