#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "base/utf8.h"

// What the sink was given last, and how often.
struct heard {
  int count;
  enum log_level level;
  char event[64];
  size_t fields;
  uint64_t suppressed;
};

static void hear(void *context, enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
  struct heard *heard = context;
  heard->count++;
  heard->level = level;
  (void)snprintf(heard->event, sizeof heard->event, "%s", event);
  heard->fields = count;
  heard->suppressed = count > 0 && strcmp(fields[count - 1].name, "suppressed") == 0 ? fields[count - 1].u : 0;
}

static const struct mono start = {.ms = 5000};

static void events_reach_the_sink_up_to_the_level(void **state)
{
  (void)state;
  struct heard heard = {0};
  struct log log;
  log_init(&log, hear, &heard, LOG_INFO);
  LOG(&log, start, LOG_DEBUG, "whispered");
  assert_int_equal(heard.count, 0);
  log_write(&log, start, LOG_DEBUG, "whispered", NULL, 0);
  assert_int_equal(heard.count, 0);
  LOG(&log, start, LOG_INFO, "said", FIELD_INT("a", -1), FIELD_TEXT("b", "text"));
  assert_int_equal(heard.count, 1);
  assert_int_equal(heard.level, LOG_INFO);
  assert_string_equal(heard.event, "said");
  assert_int_equal(heard.fields, 2);
  LOG(&log, start, LOG_ERROR, "shouted");
  assert_int_equal(heard.count, 2);
  assert_int_equal(heard.fields, 0);
}

static void without_a_sink_nothing_happens(void **state)
{
  (void)state;
  struct log log;
  log_init(&log, NULL, NULL, LOG_DEBUG);
  LOG(&log, start, LOG_ERROR, "unheard", FIELD_BOOL("x", true));
  assert_null(log.rates[0].event);
}

static void a_burst_is_limited_and_told_later(void **state)
{
  (void)state;
  struct heard heard = {0};
  struct log log;
  log_init(&log, hear, &heard, LOG_INFO);
  for (int i = 0; i < 500; i++) LOG(&log, start, LOG_WARNING, "refused", FIELD_INT("n", i));
  assert_int_equal(heard.count, LOG_RATE_BURST);
  assert_int_equal(heard.suppressed, 0);

  struct mono last = {.ms = start.ms + LOG_RATE_WINDOW_MS - 1};
  LOG(&log, last, LOG_WARNING, "refused", FIELD_INT("n", 0));
  assert_int_equal(heard.count, LOG_RATE_BURST);

  struct mono next = {.ms = start.ms + LOG_RATE_WINDOW_MS};
  LOG(&log, next, LOG_WARNING, "refused", FIELD_INT("n", 1));
  assert_int_equal(heard.count, LOG_RATE_BURST + 1);
  assert_int_equal(heard.fields, 2);
  assert_int_equal(heard.suppressed, 501 - LOG_RATE_BURST);
  LOG(&log, next, LOG_WARNING, "refused", FIELD_INT("n", 2));
  assert_int_equal(heard.suppressed, 0);
  assert_int_equal(heard.fields, 1);
}

static void an_event_with_all_its_fields_can_still_tell(void **state)
{
  (void)state;
  struct heard heard = {0};
  struct log log;
  log_init(&log, hear, &heard, LOG_INFO);
  struct log_field fields[LOG_FIELDS_MAX];
  for (size_t i = 0; i < LOG_FIELDS_MAX; i++) fields[i] = FIELD_UINT("n", i);
  for (int i = 0; i <= LOG_RATE_BURST; i++) log_write(&log, start, LOG_INFO, "wide", fields, LOG_FIELDS_MAX);
  log_write(&log, (struct mono){start.ms + LOG_RATE_WINDOW_MS}, LOG_INFO, "wide", fields, LOG_FIELDS_MAX);
  assert_int_equal(heard.fields, LOG_FIELDS_MAX + 1);
  assert_int_equal(heard.suppressed, 1);
}

static void errors_are_never_left_out(void **state)
{
  (void)state;
  struct heard heard = {0};
  struct log log;
  log_init(&log, hear, &heard, LOG_INFO);
  for (int i = 0; i < 500; i++) LOG(&log, start, LOG_ERROR, "broken");
  assert_int_equal(heard.count, 500);
}

static void events_are_limited_one_by_one(void **state)
{
  (void)state;
  struct heard heard = {0};
  struct log log;
  log_init(&log, hear, &heard, LOG_INFO);
  // The same name at another address is the same event.
  char other_refused[] = "refused";
  for (int i = 0; i < 100; i++) {
    LOG(&log, start, LOG_INFO, i % 2 ? "refused" : other_refused);
    LOG(&log, start, LOG_INFO, "accepted");
  }
  assert_int_equal(heard.count, 2 * LOG_RATE_BURST);
}

static void more_names_than_entries_forget_the_oldest(void **state)
{
  (void)state;
  struct heard heard = {0};
  struct log log;
  log_init(&log, hear, &heard, LOG_INFO);
  char names[LOG_RATE_EVENTS + 1][16];
  for (unsigned i = 0; i <= LOG_RATE_EVENTS; i++) {
    (void)snprintf(names[i], sizeof names[i], "event-%u", i);
    for (int n = 0; n < LOG_RATE_BURST; n++) LOG(&log, ((struct mono){start.ms + i}), LOG_INFO, names[i]);
  }
  assert_int_equal(heard.count, (LOG_RATE_EVENTS + 1) * LOG_RATE_BURST);
  struct mono now = {.ms = start.ms + 100};
  LOG(&log, now, LOG_INFO, names[2]);
  assert_int_equal(heard.count, (LOG_RATE_EVENTS + 1) * LOG_RATE_BURST);
  LOG(&log, now, LOG_INFO, names[0]);
  assert_int_equal(heard.count, (LOG_RATE_EVENTS + 1) * LOG_RATE_BURST + 1);
}

static const struct wall some_time = {.ms = 1769860800123};  // 2026-01-31T12:00:00.123Z

static void assert_line(enum log_format format, struct wall time, const struct log_field *fields, size_t count,
                        const char *expected)
{
  char out[4096];
  size_t length = log_format_line(format, time, LOG_INFO, "ready", fields, count, out, sizeof out - 1);
  assert_true(length < sizeof out);
  out[length] = '\0';
  assert_string_equal(out, expected);
}

static void the_two_forms(void **state)
{
  (void)state;
  const struct log_field fields[] = {
      FIELD_INT("listeners", 2),
      FIELD_TEXT("url", "mqtt://127.0.0.1:1883"),
      FIELD_TEXT("client", "pump-7.a_b"),
      FIELD_UINT("n", UINT64_MAX),
      FIELD_INT("low", INT64_MIN),
      FIELD_BOOL("yes", true),
      FIELD_BOOL("no", false),
      FIELD_TEXT("empty", ""),
  };
  assert_line(LOG_TEXT, some_time, fields, 8,
              "2026-01-31T12:00:00.123Z info ready listeners=2 url=\"mqtt://127.0.0.1:1883\" client=pump-7.a_b "
              "n=18446744073709551615 low=-9223372036854775808 yes=true no=false empty=\"\"\n");
  assert_line(LOG_JSON, some_time, fields, 8,
              "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"info\",\"event\":\"ready\",\"listeners\":2,"
              "\"url\":\"mqtt://127.0.0.1:1883\",\"client\":\"pump-7.a_b\",\"n\":18446744073709551615,"
              "\"low\":-9223372036854775808,\"yes\":true,\"no\":false,\"empty\":\"\"}\n");
  assert_line(LOG_TEXT, some_time, NULL, 0, "2026-01-31T12:00:00.123Z info ready\n");
  assert_line(LOG_JSON, some_time, NULL, 0,
              "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"info\",\"event\":\"ready\"}\n");
}

static void every_level_has_its_name(void **state)
{
  (void)state;
  const char *const names[] = {"error", "warning", "info", "debug"};
  for (size_t i = 0; i < 4; i++) {
    char out[200], expected[200];
    size_t length = log_format_line(LOG_TEXT, some_time, (enum log_level)i, "x", NULL, 0, out, sizeof out);
    int wanted = snprintf(expected, sizeof expected, "2026-01-31T12:00:00.123Z %s x\n", names[i]);
    assert_int_equal(length, wanted);
    assert_memory_equal(out, expected, length);
  }
}

static void calendar_days(void **state)
{
  (void)state;
  const struct {
    int64_t ms;
    const char *line;
  } cases[] = {
      {0, "1970-01-01T00:00:00.000Z info ready\n"},
      {-1, "1969-12-31T23:59:59.999Z info ready\n"},
      {951782400000, "2000-02-29T00:00:00.000Z info ready\n"},
      {951868800000, "2000-03-01T00:00:00.000Z info ready\n"},
      {978307199999, "2000-12-31T23:59:59.999Z info ready\n"},
      {1709164800000, "2024-02-29T00:00:00.000Z info ready\n"},
      {4107542400000, "2100-03-01T00:00:00.000Z info ready\n"},
      {-62167219200000, "0000-01-01T00:00:00.000Z info ready\n"},
      {253402300799999, "9999-12-31T23:59:59.999Z info ready\n"},
      {INT64_MIN, "0000-01-01T00:00:00.000Z info ready\n"},
      {INT64_MAX, "9999-12-31T23:59:59.999Z info ready\n"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    assert_line(LOG_TEXT, (struct wall){cases[i].ms}, NULL, 0, cases[i].line);
}

// Day by day against a calendar that counts like a child.
static void every_day_of_eight_centuries(void **state)
{
  (void)state;
  static const unsigned lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  unsigned year = 1970, month = 1, day = 1;
  for (int64_t days = 0; year < 2770; days++) {
    char out[100], expected[100];
    size_t length = log_format_line(LOG_TEXT, (struct wall){days * 86400000}, LOG_INFO, "e", NULL, 0, out, sizeof out);
    int wanted = snprintf(expected, sizeof expected, "%04u-%02u-%02uT00:00:00.000Z info e\n", year, month, day);
    assert_int_equal(length, wanted);
    assert_memory_equal(out, expected, length);
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (++day <= lengths[month - 1] + (leap && month == 2 ? 1 : 0)) continue;
    day = 1;
    if (++month <= 12) continue;
    month = 1;
    year++;
  }
}

static void assert_value(enum log_format format, struct span value, const char *expected)
{
  char line[2048];
  const struct log_field field = FIELD_SPAN("v", value);
  (void)snprintf(line, sizeof line,
                 format == LOG_JSON
                     ? "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"info\",\"event\":\"ready\",\"v\":%s}\n"
                     : "2026-01-31T12:00:00.123Z info ready v=%s\n",
                 expected);
  assert_line(format, some_time, &field, 1, line);
}

static void values_are_escaped(void **state)
{
  (void)state;
  const struct {
    const char *value, *text, *json;
  } cases[] = {
      {"a b", "\"a b\"", "\"a b\""},
      {"a=b", "\"a=b\"", "\"a=b\""},
      {"say \"hi\"", "\"say \\\"hi\\\"\"", "\"say \\\"hi\\\"\""},
      {"c:\\x", "\"c:\\\\x\"", "\"c:\\\\x\""},
      {"1\n2\r3\t4", "\"1\\n2\\r3\\t4\"", "\"1\\n2\\r3\\t4\""},
      {"\x1B[31m", "\"\\x1b[31m\"", "\"\\u001b[31m\""},
      {"\x7F", "\"\\x7f\"", "\"\\u007f\""},
      {"\xC2\x9B"
       "31m",
       "\"\\u009b31m\"", "\"\\u009b31m\""},
      {"\xE2\x80\xAE"
       "gpj",
       "\"\\u202egpj\"", "\"\\u202egpj\""},
      {"M\xC3\xBChle \xE2\x82\xAC \xF0\x9F\x8C\x8A", "\"M\xC3\xBChle \xE2\x82\xAC \xF0\x9F\x8C\x8A\"",
       "\"M\xC3\xBChle \xE2\x82\xAC \xF0\x9F\x8C\x8A\""},
      {"a\xFF"
       "b\xC3",
       "\"a\\xffb\\xc3\"",
       "\"a\xEF\xBF\xBD"
       "b\xEF\xBF\xBD\""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_value(LOG_TEXT, span_text(cases[i].value), cases[i].text);
    assert_value(LOG_JSON, span_text(cases[i].value), cases[i].json);
  }
  assert_value(LOG_TEXT, span_of("a\0b", 3), "\"a\\x00b\"");
  assert_value(LOG_JSON, span_of("a\0b", 3), "\"a\\u0000b\"");
  assert_value(LOG_TEXT, span_of(NULL, 0), "\"\"");
}

static void long_values_are_cut_between_characters(void **state)
{
  (void)state;
  char value[400], expected[400];
  memset(value, 'a', sizeof value);
  assert_value(LOG_TEXT, span_of(value, 256), (memset(expected, 'a', 256), expected[256] = '\0', expected));
  (void)snprintf(expected, sizeof expected, "\"%.256s...\"", value);
  assert_value(LOG_TEXT, span_of(value, 257), expected);
  assert_value(LOG_JSON, span_of(value, sizeof value), expected);

  memcpy(value + 255, "\xE2\x82\xAC", 3);
  (void)snprintf(expected, sizeof expected, "\"%.255s...\"", value);
  assert_value(LOG_JSON, span_of(value, sizeof value), expected);
}

// A JSON reader that only says yes or no, to an object of strings, numbers and booleans on one line.
static bool is_json_string(const char **at, const char *end)
{
  if (*at == end || *(*at)++ != '"') return false;
  while (*at < end && **at != '"') {
    struct utf8_character character = utf8_next(span_of(*at, (size_t)(end - *at)));
    if (character.size == 0 || character.code < 0x20) return false;
    if (character.code == '\\') {
      size_t size = (*at)[1] == 'u' ? 6 : 2;
      if ((size_t)(end - *at) < size || !strchr("\"\\nrtu", (*at)[1])) return false;
      *at += size;
    } else {
      *at += character.size;
    }
  }
  return *at < end && *(*at)++ == '"';
}

static bool is_json_line(const char *at, const char *end)
{
  if (end - at < 3 || end[-1] != '\n' || end[-2] != '}' || *at != '{') return false;
  for (end -= 2; at < end;) {
    at++;
    if (!is_json_string(&at, end) || at == end || *at++ != ':' || at == end) return false;
    if (*at == '"') {
      if (!is_json_string(&at, end)) return false;
    } else {
      while (at < end && strchr("-0123456789truefals", *at)) at++;
    }
    if (at < end && *at != ',') return false;
  }
  return true;
}

static bool is_text_line(const char *at, const char *end)
{
  if (at == end || end[-1] != '\n') return false;
  for (end--; at < end;) {
    struct utf8_character character = utf8_next(span_of(at, (size_t)(end - at)));
    if (character.size == 0 || utf8_is_control(character.code)) return false;
    at += character.size;
  }
  return true;
}

// Random bytes in fields and every size of line: always a whole line in its form, never a byte too many.
static void lines_of_any_size_are_well_formed(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 19);
  for (int round = 0; round < 3000; round++) {
    uint8_t bytes[40];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)prng_next(&prng);
    if (round % 3 == 0) memcpy(bytes + 3, "\xF0\x9F\x8C\x8A\xC2\x9B\\\"", 8);
    const struct log_field fields[] = {
        FIELD_SPAN("first", span_of(bytes, (size_t)prng_below(&prng, 40))),
        FIELD_INT("number", (int64_t)prng_next(&prng)),
        FIELD_SPAN("second", span_of(bytes + 20, (size_t)prng_below(&prng, 20))),
        FIELD_BOOL("flag", true),
    };
    size_t size = (size_t)prng_below(&prng, 400);
    char *out = malloc(size > 0 ? size : 1);
    assert_non_null(out);
    enum log_format format = round % 2 ? LOG_JSON : LOG_TEXT;
    size_t length = log_format_line(format, some_time, LOG_INFO, "event", fields, 4, out, size);
    assert_true(length <= size);
    if (size >= 100) assert_true(length > 0);
    if (length > 0) assert_true(format == LOG_JSON ? is_json_line(out, out + length) : is_text_line(out, out + length));
    free(out);
  }
}

static void a_line_that_was_cut_says_so(void **state)
{
  (void)state;
  const struct log_field fields[] = {FIELD_TEXT("a", "12345678901234567890"), FIELD_TEXT("b", "12345678901234567890"),
                                     FIELD_INT("c", 1)};
  char out[100] = {0};
  assert_true(log_format_line(LOG_TEXT, some_time, LOG_INFO, "ready", fields, 3, out, 75) > 0);
  assert_string_equal(out, "2026-01-31T12:00:00.123Z info ready a=12345678901234567890 cut=true\n");
  assert_int_equal(log_format_line(LOG_TEXT, some_time, LOG_INFO, "ready", fields, 3, out, 20), 0);
  assert_int_equal(log_format_line(LOG_JSON, some_time, LOG_INFO, "ready", fields, 3, out, 50), 0);
  assert_int_equal(log_format_line(LOG_JSON, some_time, LOG_INFO, "ready", fields, 3, out, 0), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(events_reach_the_sink_up_to_the_level),
      cmocka_unit_test(without_a_sink_nothing_happens),
      cmocka_unit_test(a_burst_is_limited_and_told_later),
      cmocka_unit_test(an_event_with_all_its_fields_can_still_tell),
      cmocka_unit_test(errors_are_never_left_out),
      cmocka_unit_test(events_are_limited_one_by_one),
      cmocka_unit_test(more_names_than_entries_forget_the_oldest),
      cmocka_unit_test(the_two_forms),
      cmocka_unit_test(every_level_has_its_name),
      cmocka_unit_test(calendar_days),
      cmocka_unit_test(every_day_of_eight_centuries),
      cmocka_unit_test(values_are_escaped),
      cmocka_unit_test(long_values_are_cut_between_characters),
      cmocka_unit_test(lines_of_any_size_are_well_formed),
      cmocka_unit_test(a_line_that_was_cut_says_so),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
