#include "cli/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(struct buffer *buffer, const char *wanted)
{
  struct span got = buffer_peek(buffer);
  char text[1024];
  assert_true(got.size < sizeof text);
  memcpy(text, got.at, got.size);
  text[got.size] = '\0';
  assert_string_equal(text, wanted);
  buffer_consume(buffer, got.size);
}

static void members(void **state)
{
  (void)state;
  struct buffer buffer = {0};
  struct json json;
  json_begin(&json, &buffer);
  json_open_object(&json);
  json_member_text(&json, "text", span_text("a\"b"));
  json_member_uint(&json, "uint", UINT64_MAX);
  json_member_int(&json, "int", -7);
  json_member_bool(&json, "bool", false);
  json_member_number(&json, "number", 2.5, 2);
  json_close_object(&json);
  assert_false(json.failed);
  expect(&buffer, "{\"text\":\"a\\\"b\",\"uint\":18446744073709551615,\"int\":-7,\"bool\":false,\"number\":2.5}");
  buffer_deinit(&buffer);
}

static void commas_and_nesting(void **state)
{
  (void)state;
  struct buffer buffer = {0};
  struct json json;
  json_begin(&json, &buffer);
  json_open_object(&json);
  json_key(&json, "a");
  json_uint(&json, 18446744073709551615U);
  json_key(&json, "b");
  json_open_array(&json);
  json_int(&json, -9223372036854775807 - 1);
  json_bool(&json, true);
  json_open_object(&json);
  json_close_object(&json);
  json_open_array(&json);
  json_close_array(&json);
  json_close_array(&json);
  json_key(&json, "c");
  json_raw(&json, span_text("[1]"));
  json_close_object(&json);
  assert_false(json.failed);
  expect(&buffer, "{\"a\":18446744073709551615,\"b\":[-9223372036854775808,true,{},[]],\"c\":[1]}");
  buffer_deinit(&buffer);
}

static void text(const void *bytes, size_t size, const char *wanted)
{
  struct buffer buffer = {0};
  struct json json;
  json_begin(&json, &buffer);
  json_text(&json, span_of(bytes, size));
  assert_true(json_valid(buffer_peek(&buffer)));
  expect(&buffer, wanted);
  buffer_deinit(&buffer);
}

#define TEXT(literal, wanted) text(literal, sizeof literal - 1, wanted)

static void escapes(void **state)
{
  (void)state;
  TEXT("", "\"\"");
  TEXT("plain", "\"plain\"");
  TEXT("a\"b\\c/d", "\"a\\\"b\\\\c/d\"");
  TEXT("\n\r\t\b\x01\x7f", "\"\\n\\r\\t\\u0008\\u0001\\u007f\"");
  TEXT("a\0b", "\"a\\u0000b\"");
  TEXT("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
  TEXT("a\xff"
       "b",
       "\"a\xef\xbf\xbd"
       "b\"");
  TEXT("\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\"");                                  // overlong
  TEXT("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");                  // surrogate
  TEXT("\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");  // above U+10FFFF
  TEXT("\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"");                                  // cut
}

static void number(double value, unsigned decimals, const char *wanted)
{
  struct buffer buffer = {0};
  struct json json;
  json_begin(&json, &buffer);
  json_number(&json, value, decimals);
  expect(&buffer, wanted);
  buffer_deinit(&buffer);
}

static void numbers(void **state)
{
  (void)state;
  number(0, 2, "0");
  number(-0.001, 2, "0");
  number(1.5, 3, "1.5");
  number(100, 2, "100");
  number(100, 0, "100");
  number(12.345, 2, "12.35");
  number(-3.25, 1, "-3.2");
  number((double)NAN, 2, "null");
  number((double)INFINITY, 2, "null");
  number(1e30, 2, "null");
}

static void base64(const char *bytes, const char *wanted)
{
  struct buffer buffer = {0};
  struct json json;
  json_begin(&json, &buffer);
  json_base64(&json, span_text(bytes));
  expect(&buffer, wanted);
  buffer_deinit(&buffer);
}

// The vectors of RFC 4648 section 10.
static void base64_vectors(void **state)
{
  (void)state;
  base64("", "\"\"");
  base64("f", "\"Zg==\"");
  base64("fo", "\"Zm8=\"");
  base64("foo", "\"Zm9v\"");
  base64("foob", "\"Zm9vYg==\"");
  base64("fooba", "\"Zm9vYmE=\"");
  base64("foobar", "\"Zm9vYmFy\"");
  base64("\xff\xfe\xfb", "\"//77\"");
}

// An exact heap copy, so that reading one byte too far is seen by the sanitizers.
static bool valid(const char *text_, size_t size)
{
  uint8_t *copy = malloc(size ? size : 1);
  assert_non_null(copy);
  memcpy(copy, text_, size);
  bool result = json_valid(span_of(copy, size));
  free(copy);
  return result;
}

static void validity(void **state)
{
  (void)state;
  static const char *const good[] = {"{}",
                                     "[]",
                                     "0",
                                     "-0",
                                     "1.5e+10",
                                     "1E5",
                                     "\"\"",
                                     " true ",
                                     "null",
                                     "false",
                                     "{\"a\":[1,2,{\"b\":null}],\"c\":\"\\u00e9\\n\"}",
                                     "[ ]",
                                     "{ \"a\" : 1 }\n",
                                     "\"\xc3\xa9\""};
  static const char *const bad[] = {"",      " ",          "{",           "}",        "[1,]",     "{\"a\"}", "{\"a\":}",
                                    "{a:1}", "01",         "1.",          ".5",       "+1",       "1e",      "-",
                                    "\"",    "\"\\x\"",    "\"\\u12g4\"", "\"\\",     "tru",      "nul",     "1 2",
                                    "[1 2]", "{\"a\":1,}", "\"\xff\"",    "\"\xc3\"", "\"a\nb\"", "NaN",     "'a'"};
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    if (!valid(good[i], strlen(good[i]))) fail_msg("refused: %s", good[i]);
  }
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    if (valid(bad[i], strlen(bad[i]))) fail_msg("accepted: %s", bad[i]);
  }
  assert_false(valid("\"\\\0\"", 4));
}

static void cut_anywhere(void **state)
{
  (void)state;
  static const char whole[] = "{\"a\":[-1.5e-3,true,\"\\u00e9\xc3\xa9\"],\"b\":{\"c\":null}}";
  assert_true(valid(whole, sizeof whole - 1));
  for (size_t size = 0; size < sizeof whole - 1; size++) assert_false(valid(whole, size));
}

static void depth_is_bounded(void **state)
{
  (void)state;
  char deep[200];
  memset(deep, '[', 64);
  memset(deep + 64, ']', 64);
  assert_true(valid(deep, 128));
  memset(deep, '[', 66);
  memset(deep + 66, ']', 66);
  assert_false(valid(deep, 132));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(members),      cmocka_unit_test(commas_and_nesting), cmocka_unit_test(escapes),
      cmocka_unit_test(numbers),      cmocka_unit_test(base64_vectors),     cmocka_unit_test(validity),
      cmocka_unit_test(cut_anywhere), cmocka_unit_test(depth_is_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
