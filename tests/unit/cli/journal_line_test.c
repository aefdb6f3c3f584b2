#include "cli/journal_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect(struct buffer *buffer, const char *wanted)
{
  struct span got = buffer_peek(buffer);
  char text[2048];
  assert_true(got.size < sizeof text);
  if (got.size > 0) memcpy(text, got.at, got.size);
  text[got.size] = '\0';
  assert_string_equal(text, wanted);
  buffer_consume(buffer, got.size);
}

static void write_line(struct buffer *out, enum line_form form)
{
  struct journal_line line;
  line_begin(&line, out, form);
  line_number(&line, "sequence", 7);
  line_word(&line, "type", "message");
  line_uint(&line, "size", UINT64_MAX);
  line_int(&line, "delta", -3);
  line_flag(&line, "retain", true);
  line_flag(&line, "store", false);
  line_text(&line, "topic", span_text("a/\"b\"\n"));
  line_time(&line, "time", 1700000000123);
  line_open_object(&line, "publisher");
  line_uint(&line, "session", 1);
  line_uint(&line, "packet_id", 2);
  line_close_object(&line);
  line_open_list(&line, "targets");
  for (unsigned i = 0; i < 2; i++) {
    line_open_item(&line);
    line_uint(&line, "session", i);
    line_open_list(&line, "ids");
    line_value(&line, 4);
    line_value(&line, 5);
    line_close_list(&line);
    line_close_item(&line);
  }
  line_close_list(&line);
  line_uint(&line, "last", 0);
  assert_int_equal(line_end(&line), OK);
}

static void lines_of_text(void **state)
{
  (void)state;
  struct buffer out = {0};
  write_line(&out, LINE_TEXT);
  expect(&out, "7 message size=18446744073709551615 delta=-3 retain topic=\"a/\\\"b\\\"\\n\" time=2023-11-14T22:13:20.123Z "
               "publisher={session=1 packet_id=2} targets=[{session=0 ids=[4 5]} {session=1 ids=[4 5]}] last=0\n");
  buffer_deinit(&out);
}

static void lines_of_json(void **state)
{
  (void)state;
  struct buffer out = {0};
  write_line(&out, LINE_JSON);
  assert_true(json_valid(buffer_peek(&out)));
  expect(&out,
         "{\"sequence\":7,\"type\":\"message\",\"size\":18446744073709551615,\"delta\":-3,\"retain\":true,\"store\":false,"
         "\"topic\":\"a/\\\"b\\\"\\n\",\"time\":\"2023-11-14T22:13:20.123Z\",\"publisher\":{\"session\":1,\"packet_id\":2},"
         "\"targets\":[{\"session\":0,\"ids\":[4,5]},{\"session\":1,\"ids\":[4,5]}],\"last\":0}\n");
  buffer_deinit(&out);
}

static void check_bytes(enum line_form form, struct span value, enum line_bytes how, const char *wanted)
{
  struct buffer out = {0};
  struct journal_line line;
  line_begin(&line, &out, form);
  line_bytes(&line, "payload", value, how);
  assert_int_equal(line_end(&line), OK);
  expect(&out, wanted);
  buffer_deinit(&out);
}

static void bytes_as_asked(void **state)
{
  (void)state;
  struct span text = span_text("21.5 \xc2\xb0");
  struct span binary = span_of("\xff\x00\x01", 3);
  check_bytes(LINE_TEXT, text, LINE_BYTES_NONE, "\n");
  check_bytes(LINE_TEXT, text, LINE_BYTES_TEXT, "payload=\"21.5 \xc2\xb0\"\n");
  check_bytes(LINE_TEXT, text, LINE_BYTES_BASE64, "payload_base64=\"MjEuNSDCsA==\"\n");
  check_bytes(LINE_TEXT, binary, LINE_BYTES_TEXT, "payload_base64=\"/wAB\"\n");
  check_bytes(LINE_JSON, text, LINE_BYTES_NONE, "{}\n");
  check_bytes(LINE_JSON, text, LINE_BYTES_TEXT, "{\"payload\":\"21.5 \xc2\xb0\"}\n");
  check_bytes(LINE_JSON, text, LINE_BYTES_BASE64, "{\"payload_base64\":\"MjEuNSDCsA==\"}\n");
  check_bytes(LINE_JSON, binary, LINE_BYTES_TEXT, "{\"payload_base64\":\"/wAB\"}\n");
  check_bytes(LINE_TEXT, (struct span){0}, LINE_BYTES_TEXT, "payload=\"\"\n");
}

static void check_escape(struct span text, const char *wanted)
{
  struct buffer out = {0};
  assert_int_equal(journal_escape(&out, text), OK);
  expect(&out, wanted);
  buffer_deinit(&out);
}

// A client identifier must not be able to write on the terminal of whoever looks.
static void terminals_are_safe(void **state)
{
  (void)state;
  check_escape(span_text(""), "");
  check_escape(span_text("plain"), "plain");
  check_escape(span_text("a\tb\r\n\x1b[2J\x7f"), "a\\tb\\r\\n\\x1b[2J\\x7f");
  check_escape(span_text("\\ \""), "\\\\ \\\"");
  check_escape(span_text("\xe2\x80\xae\xc2\x9b"), "\\u202e\\u009b");
  check_escape(span_of("\xff"
                       "x\x00",
                       3),
               "\\xffx\\x00");
}

static void sizes_ages_times(void **state)
{
  (void)state;
  char text[JOURNAL_TEXT_SIZE];
  assert_string_equal(journal_size_text(0, text), "0 B");
  assert_string_equal(journal_size_text(1023, text), "1023 B");
  assert_string_equal(journal_size_text(1024, text), "1.0 KiB");
  assert_string_equal(journal_size_text(16 << 20, text), "16.0 MiB");
  assert_string_equal(journal_size_text((1 << 20) - 1, text), "1.0 MiB");
  assert_string_equal(journal_size_text(UINT64_C(5) << 40, text), "5.0 TiB");
  assert_string_equal(journal_size_text(UINT64_MAX, text), "16384.0 PiB");
  char count[JOURNAL_COUNT_SIZE];
  assert_string_equal(journal_count_text(0, "record", count), "0 records");
  assert_string_equal(journal_count_text(1, "record", count), "1 record");
  assert_string_equal(journal_count_text(2, "record", count), "2 records");
  assert_string_equal(journal_age_text(0, text), "0s");
  assert_string_equal(journal_age_text(59, text), "59s");
  assert_string_equal(journal_age_text(60, text), "1m");
  assert_string_equal(journal_age_text(200, text), "3m 20s");
  assert_string_equal(journal_age_text(7200 + 59, text), "2h");
  assert_string_equal(journal_age_text(86400 * 6 + 3600, text), "6d 1h");
  assert_string_equal(journal_time_text(0, text), "1970-01-01T00:00:00.000Z");
  assert_string_equal(journal_time_text(-1, text), "1969-12-31T23:59:59.999Z");
  assert_string_equal(journal_time_text(1700000000123, text), "2023-11-14T22:13:20.123Z");
  assert_string_equal(journal_time_text(INT64_MAX, text), "9223372036854775807");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_of_text),      cmocka_unit_test(lines_of_json),    cmocka_unit_test(bytes_as_asked),
      cmocka_unit_test(terminals_are_safe), cmocka_unit_test(sizes_ages_times),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
