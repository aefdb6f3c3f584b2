#include "security/security.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tls/credentials.h"

static void a_module_of_another_version_is_refused(void **state)
{
  (void)state;
  struct error error = {0};
  assert_int_equal(security_load(&error), ERR_INVALID);
  assert_non_null(strstr(error.text, "skerry-security.so is of skerry "));
  assert_non_null(strstr(error.text, "this program is skerry 0.0.0-other"));
}

static void loading_credentials_says_so_too(void **state)
{
  (void)state;
  struct tls_settings settings = {0};
  struct tls_credentials *credentials = NULL;
  struct error error = {0};
  assert_int_equal(tls_credentials_load(&settings, (struct wall){0}, &credentials, &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "install both from the same build"));
  assert_null(credentials);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_module_of_another_version_is_refused),
      cmocka_unit_test(loading_credentials_says_so_too),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
