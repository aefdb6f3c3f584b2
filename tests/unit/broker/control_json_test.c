// The JSON of the control socket, both ways.
#include "broker/control_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static void note(void *context, const struct control_json_member *member)
{
  static const char kinds[] = "tnb0*";
  char *out = context;
  size_t n = strlen(out);
  snprintf(out + n, 1024 - n, "%s%.*s:%c:%.*s", n ? " " : "", (int)member->name.size, (const char *)member->name.at,
           kinds[member->kind], (int)member->value.size, (const char *)member->value.at);
}

static void assert_read(const char *text, const char *expected)
{
  char out[1024] = "";
  if (!control_json_read(span_text(text), note, out)) fail_msg("refused: %s", text);
  assert_string_equal(out, expected);
}

static void members_are_read(void **state)
{
  (void)state;
  assert_read("{}", "");
  assert_read("  { }  \n", "");
  assert_read("{\"a\":\"b\"}", "a:t:b");
  assert_read("{ \"a\" : 12 , \"b\":-1.5e3,\"c\":true,\"d\":false,\"e\":null}",
              "a:n:12 b:n:-1.5e3 c:b:true d:b:false e:0:null");
  assert_read("{\"a\":\"x\\\"y\\\\\",\"b\":\"\"}", "a:t:x\\\"y\\\\ b:t:");
  assert_read("{\"a\":{\"b\":[1,{\"c\":\"}]\"}]},\"d\":[],\"e\":1}", "a:*:{\"b\":[1,{\"c\":\"}]\"}]} d:*:[] e:n:1");
}

static void what_is_no_object_is_refused(void **state)
{
  (void)state;
  static const char *const texts[] = {"",
                                      " ",
                                      "{",
                                      "}",
                                      "[]",
                                      "\"a\"",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{\"a\":1",
                                      "{a:1}",
                                      "{\"a\":b}",
                                      "{\"a\":\"b}",
                                      "{\"a\" 1}",
                                      "{}{}",
                                      "{} x",
                                      "{\"a\":tru}",
                                      "{\"a\":\"\n\"}",
                                      "{,}",
                                      "{\"a\":\"\\",
                                      "{\"a\":1 \"b\":2}"};
  char out[1024];
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    out[0] = '\0';
    if (control_json_read(span_text(texts[i]), note, out)) fail_msg("accepted: %s", texts[i]);
  }
  char deep[200] = "{\"a\":";
  size_t n = strlen(deep);
  memset(deep + n, '[', 17);
  memset(deep + n + 17, ']', 17);
  strcpy(deep + n + 34, "}");
  out[0] = '\0';
  assert_false(control_json_read(span_text(deep), note, out));
}

// Every cut of a valid text is refused without reading behind its end.
static void cut_texts_are_refused(void **state)
{
  (void)state;
  static const char text[] = "{\"a\":\"\\u00e4\",\"b\":[1,{\"c\":null}],\"d\":true}";
  char out[1024];
  for (size_t size = 0; size < sizeof text - 1; size++) {
    char *copy = test_malloc(size + 1);
    memcpy(copy, text, size);
    out[0] = '\0';
    assert_false(control_json_read(span_of(copy, size), note, out));
    test_free(copy);
  }
}

static void escapes(void **state)
{
  (void)state;
  char out[16];
  assert_true(control_json_unescape(span_text("a\\n\\t\\\"\\\\\\/\\u0041"), out, sizeof out));
  assert_string_equal(out, "a\n\t\"\\/A");
  assert_true(control_json_unescape(span_text("\\u00e4\\u20ac"), out, sizeof out));
  assert_string_equal(out, "\xc3\xa4\xe2\x82\xac");
  assert_true(control_json_unescape(span_text(""), out, sizeof out));
  assert_string_equal(out, "");
  static const char *const wrong[] = {"\\", "\\x", "\\u", "\\u12", "\\u00g0", "\\u0000", "\\ud800", "0123456789abcdef"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    if (control_json_unescape(span_text(wrong[i]), out, sizeof out)) fail_msg("accepted: %s", wrong[i]);
  assert_false(control_json_unescape(span_of("a\0b", 3), out, sizeof out));
  assert_true(control_json_unescape(span_text("0123456789abcde"), out, sizeof out));
}

static void what_is_written_can_be_read(void **state)
{
  (void)state;
  struct buffer bytes = {0};
  struct control_json json = {.out = &bytes};
  control_json_open(&json, NULL, '{');
  control_json_truth(&json, "ok", true);
  control_json_text(&json, "text", "line\nwith \"quotes\", \\ and \x1b[0m, \xff");
  control_json_text(&json, "none", NULL);
  control_json_open(&json, "list", '[');
  control_json_text(&json, NULL, "a");
  control_json_text(&json, NULL, "b");
  control_json_open(&json, NULL, '{');
  control_json_number(&json, "n", -5);
  control_json_close(&json, '}');
  control_json_close(&json, ']');
  control_json_truth(&json, "last", false);
  control_json_close(&json, '}');
  assert_false(json.failed);
  assert_int_equal(buffer_append(&bytes, "", 1), OK);
  const char *text = (const char *)buffer_peek(&bytes).at;
  assert_string_equal(
      text, "{\"ok\":true,\"text\":\"line\\nwith \\\"quotes\\\", \\\\ and \\u001b[0m, \xef\xbf\xbd\",\"none\":null,"
            "\"list\":[\"a\",\"b\",{\"n\":-5}],\"last\":false}");
  char out[1024] = "";
  assert_true(control_json_read(span_text(text), note, out));
  buffer_deinit(&bytes);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(members_are_read),
      cmocka_unit_test(what_is_no_object_is_refused),
      cmocka_unit_test(cut_texts_are_refused),
      cmocka_unit_test(escapes),
      cmocka_unit_test(what_is_written_can_be_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
