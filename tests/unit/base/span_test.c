#include "base/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_span_of_text_has_no_nul(void **state)
{
  (void)state;
  struct span span = span_text("abc");
  assert_int_equal(span.size, 3);
  assert_memory_equal(span.at, "abc", 3);
  assert_int_equal(span_text("").size, 0);
}

static void equality_is_of_size_and_bytes(void **state)
{
  (void)state;
  assert_true(span_equal(span_text("abc"), span_of("abcd", 3)));
  assert_false(span_equal(span_text("abc"), span_text("abd")));
  assert_false(span_equal(span_text("abc"), span_text("ab")));
  assert_true(span_equal(span_of("a\0b", 3), span_of("a\0b", 3)));
  assert_false(span_equal(span_of("a\0b", 3), span_of("a\0c", 3)));
}

static void empty_spans_are_equal_wherever_they_point(void **state)
{
  (void)state;
  assert_true(span_equal(span_of(NULL, 0), span_text("")));
  assert_true(span_equal(span_of(NULL, 0), span_of(NULL, 0)));
  assert_false(span_equal(span_of(NULL, 0), span_text("a")));
}

static void the_rest_may_be_everything_or_nothing(void **state)
{
  (void)state;
  struct span span = span_text("abc");
  assert_true(span_equal(span_from(span, 0), span));
  assert_true(span_equal(span_from(span, 2), span_text("c")));
  assert_int_equal(span_from(span, 3).size, 0);
  assert_null(span_from(span_of(NULL, 0), 0).at);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_span_of_text_has_no_nul),
      cmocka_unit_test(equality_is_of_size_and_bytes),
      cmocka_unit_test(empty_spans_are_equal_wherever_they_point),
      cmocka_unit_test(the_rest_may_be_everything_or_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
