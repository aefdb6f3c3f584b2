#include "security/security.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void a_missing_module_is_named(void **state)
{
  (void)state;
  struct error error = {0};
  assert_int_equal(security_load(&error), ERR_NOT_FOUND);
  assert_non_null(strstr(error.text, "need skerry-security.so, which is not where it should be"));
  assert_non_null(strstr(error.text, "install all of skerry"));
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_missing_module_is_named)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
