#include "base/search.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { NUMBERS = 40 };

static size_t dumb_search(const int *numbers, size_t count, int wanted)
{
  size_t i = 0;
  while (i < count && numbers[i] < wanted) i++;
  return i;
}

static void the_first_that_is_not_before(void **state)
{
  (void)state;
  int numbers[NUMBERS];
  for (int i = 0; i < NUMBERS; i++) numbers[i] = 2 * (i / 3);  // with equals, and with gaps
  for (size_t count = 0; count <= NUMBERS; count++)
    for (int wanted = -1; wanted <= NUMBERS; wanted++)
      assert_int_equal(SEARCH_FIRST(i, count, numbers[i] < wanted), dumb_search(numbers, count, wanted));
}

static void nothing_is_asked_of_nothing(void **state)
{
  (void)state;
  const int *none = NULL;
  assert_int_equal(SEARCH_FIRST(i, 0, none[i] < 1), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_that_is_not_before),
      cmocka_unit_test(nothing_is_asked_of_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
