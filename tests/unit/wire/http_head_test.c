#include "wire/http_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_head_size(void **state)
{
  (void)state;
  assert_int_equal(http_head_size(span_of(NULL, 0)), 0);
  assert_int_equal(http_head_size(span_text("GET / HTTP/1.1\r\nA: b\r\n")), 0);
  assert_int_equal(http_head_size(span_text("GET / HTTP/1.1\r\nA: b\r\n\r\nbody")), 24);
  assert_int_equal(http_head_size(span_text("GET / HTTP/1.1\n\n")), 0);  // bare line feeds end nothing
}

static void test_fields(void **state)
{
  (void)state;
  struct span head = span_text("GET / HTTP/1.1\r\nHost: a:1\r\nEmpty:\r\nX-Tab:\t v w \t\r\n\r\n");
  size_t cursor = 0;
  struct http_field field;
  assert_true(span_equal(http_first_line(head), span_text("GET / HTTP/1.1")));
  assert_int_equal(http_next_field(head, &cursor, &field), HTTP_FIELD);
  assert_true(http_name_is(&field, "hOST"));
  assert_false(http_name_is(&field, "hos"));
  assert_true(span_equal(field.value, span_text("a:1")));
  assert_int_equal(http_next_field(head, &cursor, &field), HTTP_FIELD);
  assert_int_equal(field.value.size, 0);
  assert_int_equal(http_next_field(head, &cursor, &field), HTTP_FIELD);
  assert_true(span_equal(field.value, span_text("v w")));
  assert_int_equal(http_next_field(head, &cursor, &field), HTTP_END);
}

static void test_bad_fields(void **state)
{
  (void)state;
  static const char *const heads[] = {
      "GET / HTTP/1.1\r\nno colon\r\n\r\n",   "GET / HTTP/1.1\r\n: no name\r\n\r\n", "GET / HTTP/1.1\r\nspace : x\r\n\r\n",
      "GET / HTTP/1.1\r\n folded: x\r\n\r\n", "GET / HTTP/1.1\r\nA: x\ny\r\n\r\n",   "GET / HTTP/1.1\r\nA: x\ry\r\n\r\n",
      "GET / HTTP/1.1\r\nA: \x01\r\n\r\n",    "GET / HTTP/1.1\r\nA: \x7f\r\n\r\n",   "GET / HTTP/1.1\r\n\xc3\xa4: x\r\n\r\n",
  };
  for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
    size_t cursor = 0;
    struct http_field field;
    if (http_next_field(span_text(heads[i]), &cursor, &field) != HTTP_BAD) fail_msg("accepted: %s", heads[i]);
  }
}

static void test_words(void **state)
{
  (void)state;
  struct span list = span_text(" a ,, b");
  struct span word;
  assert_true(http_take_word(&list, ',', &word));
  assert_true(span_equal(word, span_text("a")));
  assert_true(http_take_word(&list, ',', &word));
  assert_int_equal(word.size, 0);
  assert_true(http_take_word(&list, ',', &word));
  assert_true(span_equal(word, span_text("b")));
  assert_false(http_take_word(&list, ',', &word));
}

static void test_lists(void **state)
{
  (void)state;
  assert_true(http_list_has(span_text("keep-alive, Upgrade"), "upgrade"));
  assert_true(http_list_has(span_text("UPGRADE"), "upgrade"));
  assert_false(http_list_has(span_text("upgrades, up grade"), "upgrade"));
  assert_false(http_list_has(span_text(""), "upgrade"));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_head_size), cmocka_unit_test(test_fields), cmocka_unit_test(test_bad_fields),
      cmocka_unit_test(test_words),     cmocka_unit_test(test_lists),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
