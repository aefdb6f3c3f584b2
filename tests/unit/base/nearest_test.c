#include "base/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void distances(void **state)
{
  (void)state;
  assert_int_equal(edit_distance("", ""), 0);
  assert_int_equal(edit_distance("pub", ""), 3);
  assert_int_equal(edit_distance("", "pub"), 3);
  assert_int_equal(edit_distance("pub", "pub"), 0);
  assert_int_equal(edit_distance("PUB", "pub"), 0);
  assert_int_equal(edit_distance("pub", "sub"), 1);
  assert_int_equal(edit_distance("pbu", "pub"), 1);
  assert_int_equal(edit_distance("brokr", "broker"), 1);
  assert_int_equal(edit_distance("kitten", "sitting"), 3);
  char word[200];
  memset(word, 'a', sizeof word);
  word[sizeof word - 1] = '\0';
  assert_int_equal(edit_distance(word, ""), 63);
}

static void nearest(void **state)
{
  (void)state;
  static const char *const names[] = {"broker", NULL, "pub", "sub", "sense", "top"};
  size_t count = sizeof names / sizeof names[0];
  assert_string_equal(nearest_name("brokre", names, count), "broker");
  assert_string_equal(nearest_name("sesne", names, count), "sense");
  assert_string_equal(nearest_name("Sub", names, count), "sub");
  assert_string_equal(nearest_name("tops", names, count), "top");
  assert_null(nearest_name("zzz", names, count));
  assert_null(nearest_name("xy", names, count));
  assert_null(nearest_name("subscribe", names, count));
  assert_null(nearest_name("", names, count));
  assert_null(nearest_name("pub", names, 0));
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(distances), cmocka_unit_test(nearest)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
