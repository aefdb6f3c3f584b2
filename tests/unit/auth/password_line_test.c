#include "auth/password_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static struct password_line parse(const char *text)
{
  struct password_line line;
  struct error error = {0};
  assert_int_equal(password_line_parse(span_text(text), &line, &error), OK);
  return line;
}

static void expect_span(struct span span, const char *text)
{
  assert_int_equal(span.size, strlen(text));
  if (span.size > 0) assert_memory_equal(span.at, text, span.size);
}

static void refuse_bytes(struct span text, const char *why)
{
  struct password_line line = {.until_ms = 7};
  struct error error = {0};
  assert_int_equal(password_line_parse(text, &line, &error), ERR_INVALID);
  if (!strstr(error.text, why)) fail_msg("\"%s\" does not say \"%s\"", error.text, why);
  assert_int_equal(line.until_ms, 7);
}

static void refuse(const char *text, const char *why)
{
  refuse_bytes(span_text(text), why);
}

static void a_user_and_a_hash(void **state)
{
  (void)state;
  struct password_line line = parse("ann:$7$101$c2FsdA==$a2V5");
  expect_span(line.user, "ann");
  expect_span(line.hash, "$7$101$c2FsdA==$a2V5");
  assert_int_equal(line.until_ms, INT64_MAX);
  expect_span(line.groups, "");
}

static void until_and_groups_in_any_order(void **state)
{
  (void)state;
  const char *const texts[] = {"ann:$6$a$b:until=1970-01-02T00:00:01Z:groups=ops,line 7",
                               "ann:$6$a$b:groups=ops,line 7:until=1970-01-02T00:00:01Z"};
  for (size_t i = 0; i < 2; i++) {
    struct password_line line = parse(texts[i]);
    assert_int_equal(line.until_ms, 86401000);
    struct span groups = line.groups, group;
    assert_true(password_next_group(&groups, &group));
    expect_span(group, "ops");
    assert_true(password_next_group(&groups, &group));
    expect_span(group, "line 7");
    assert_false(password_next_group(&groups, &group));
  }
}

static void blank_lines_and_comments_hold_nothing(void **state)
{
  (void)state;
  const char *const texts[] = {"", "   ", "\t", "# ann:$6$a$b", "  # x", "\xEF\xBB\xBF# a file from another world"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) assert_int_equal(parse(texts[i]).user.size, 0);
}

static void blanks_around_do_not_count(void **state)
{
  (void)state;
  struct password_line line = parse("  ann lee : $6$a$b \t");
  expect_span(line.user, "ann lee");
  expect_span(line.hash, "$6$a$b");
  expect_span(parse("\xEF\xBB\xBF"
                    "ann:$6$a$b")
                  .user,
              "ann");
}

static void what_is_wrong_is_said(void **state)
{
  (void)state;
  refuse("ann", "no \":\"");
  refuse(":$6$a$b", "user name is empty");
  refuse("ann:", "no hash follows");
  refuse("ann:$6", "no hash follows");
  refuse("ann:$6$a$b:", "neither");
  refuse("ann:$6$a$b:role=x", "neither");
  refuse("ann:$6$a$b:until=2026-12-31", "needs a time in UTC");
  refuse("ann:$6$a$b:until=2026-12-31T23:59:59+01:00", "needs a time in UTC");
  refuse("ann:$6$a$b:until=2026-12-31T23:59:59Zx", "needs a time in UTC");
  refuse("ann:$6$a$b:until=2026-12-31T23:59:59Z:until=2026-12-31T23:59:59Z", "twice");
  refuse("ann:$6$a$b:groups=a:groups=b", "twice");
  refuse("ann:$6$a$b:groups=", "name of a group is empty");
  refuse("ann:$6$a$b:groups=a,,b", "name of a group is empty");
  refuse("ann:$6$a$b:groups=a,", "name of a group is empty");
  refuse("ann:$6$a$b:groups=a, b", "begins or ends with a blank");
  refuse("a\xFFn:$6$a$b", "not UTF-8");
  refuse("a\x1Bn:$6$a$b", "control character");
  refuse("a\u202En:$6$a$b", "U+202E");
  refuse("\uFEFF\uFEFFann:$6$a$b", "byte order mark");
  refuse(" \uFEFFann:$6$a$b", "byte order mark");
  refuse_bytes(span_of("a\0n:$6$a$b", 10), "U+0000");
}

static void a_password_that_stands_there_is_not_repeated(void **state)
{
  (void)state;
  struct password_line line;
  struct error error = {0};
  assert_int_equal(password_line_parse(span_text("ann:hunter2"), &line, &error), ERR_INVALID);
  assert_null(strstr(error.text, "hunter2"));
  assert_int_equal(password_line_parse(span_text("ann:$6$a$b:hunter2"), &line, &error), ERR_INVALID);
  assert_null(strstr(error.text, "hunter2"));
}

static void what_was_written_is_read_again(void **state)
{
  (void)state;
  const char *const texts[] = {
      "ann:$6$a$b\n",
      "ann:$6$a$b:groups=x,y\n",
      "ann:$6$a$b:until=2026-12-31T23:59:59Z\n",
      "ann:$6$a$b:until=9999-12-31T23:59:59Z:groups=x\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    struct span text = span_text(texts[i]), first;
    struct password_line line;
    struct buffer out = {0};
    assert_true(password_next_line(&text, &first));
    assert_int_equal(password_line_parse(first, &line, NULL), OK);
    assert_int_equal(password_line_append(&line, &out), OK);
    expect_span(buffer_peek(&out), texts[i]);
    buffer_deinit(&out);
  }
}

static void lines_end_in_either_way(void **state)
{
  (void)state;
  struct span text = span_text("a\r\nb\n\nc"), line;
  const char *const lines[] = {"a", "b", "", "c"};
  for (size_t i = 0; i < 4; i++) {
    assert_true(password_next_line(&text, &line));
    expect_span(line, lines[i]);
  }
  assert_false(password_next_line(&text, &line));
}

static void kinds_stand_between_the_first_two_dollars(void **state)
{
  (void)state;
  expect_span(password_hash_kind(span_text("$argon2id$v=19$x")), "argon2id");
  expect_span(password_hash_kind(span_text("$7$")), "7");
  expect_span(password_hash_kind(span_text("$7")), "");
  expect_span(password_hash_kind(span_text("7$8$")), "");
  expect_span(password_hash_kind(span_text("")), "");
}

// Against the C library's calendar, a day after the other and at odd seconds.
static void times_are_those_of_the_calendar(void **state)
{
  (void)state;
  int64_t days = 0;
  for (int64_t second = 0; days < 8030 * 366; days += 13, second = (second + 7919) % 86400) {
    time_t time = (time_t)(days * 86400 + second);
    struct tm parts;
    char expected[64], text[PASSWORD_UNTIL_TEXT];
    if (!gmtime_r(&time, &parts) || parts.tm_year + 1900 > 9999) break;
    strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%SZ", &parts);
    password_until_format((int64_t)time * 1000 + 999, text);
    assert_string_equal(text, expected);
    int64_t ms = -1;
    assert_true(password_until_parse(span_text(text), &ms));
    assert_int_equal(ms, (int64_t)time * 1000);
  }
  assert_true(days > 2900000);
}

static void times_that_do_not_exist_are_refused(void **state)
{
  (void)state;
  const char *const texts[] = {
      "2025-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z",
      "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
      "2026-01-01T00:00:60Z", "1969-12-31T23:59:59Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00z",
  };
  int64_t ms = 5;
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) assert_false(password_until_parse(span_text(texts[i]), &ms));
  assert_int_equal(ms, 5);
  assert_true(password_until_parse(span_text("2024-02-29T00:00:00Z"), &ms));
  assert_true(password_until_parse(span_text("2000-02-29T00:00:00Z"), &ms));
}

static void times_out_of_range_become_the_nearest(void **state)
{
  (void)state;
  char text[PASSWORD_UNTIL_TEXT];
  password_until_format(INT64_MIN, text);
  assert_string_equal(text, "1970-01-01T00:00:00Z");
  password_until_format(INT64_MAX, text);
  assert_string_equal(text, "9999-12-31T23:59:59Z");
}

static void names_have_limits(void **state)
{
  (void)state;
  static uint8_t long_name[PASSWORD_MAX_USER + 1];
  memset(long_name, 'a', sizeof long_name);
  assert_int_equal(password_user_check(span_of(long_name, PASSWORD_MAX_USER), NULL), OK);
  assert_int_equal(password_user_check(span_of(long_name, PASSWORD_MAX_USER + 1), NULL), ERR_INVALID);
  assert_int_equal(password_group_check(span_of(long_name, PASSWORD_MAX_GROUP), NULL), OK);
  assert_int_equal(password_group_check(span_of(long_name, PASSWORD_MAX_GROUP + 1), NULL), ERR_INVALID);
  const char *const bad[] = {"", "a:b", "#a", " a", "a ", "\t", "a\nb", "\x7F"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal(password_user_check(span_text(bad[i]), NULL), ERR_INVALID);
  assert_int_equal(password_user_check(span_text("a#b,c=d$e f"), NULL), OK);
  assert_int_equal(password_group_check(span_text("a,b"), NULL), ERR_INVALID);
  assert_int_equal(password_group_check(span_text("a:b"), NULL), ERR_INVALID);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_user_and_a_hash),
      cmocka_unit_test(until_and_groups_in_any_order),
      cmocka_unit_test(blank_lines_and_comments_hold_nothing),
      cmocka_unit_test(blanks_around_do_not_count),
      cmocka_unit_test(what_is_wrong_is_said),
      cmocka_unit_test(a_password_that_stands_there_is_not_repeated),
      cmocka_unit_test(what_was_written_is_read_again),
      cmocka_unit_test(lines_end_in_either_way),
      cmocka_unit_test(kinds_stand_between_the_first_two_dollars),
      cmocka_unit_test(times_are_those_of_the_calendar),
      cmocka_unit_test(times_that_do_not_exist_are_refused),
      cmocka_unit_test(times_out_of_range_become_the_nearest),
      cmocka_unit_test(names_have_limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
