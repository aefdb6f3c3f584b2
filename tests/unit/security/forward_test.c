#include "security/security.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <string.h>

#include <cmocka.h>

#include "tls/credentials.h"
#include "tls/session.h"

static void nothing_is_loaded_by_letting_go_of_nothing(void **state)
{
  (void)state;
  tls_credentials_unref(NULL);
  tls_session_free(NULL);
  assert_null(tls_credentials_ref(NULL));
  assert_null(tls_session_create(NULL, -1));
}

static void the_module_is_found_beside_the_program(void **state)
{
  (void)state;
  struct error error = {0};
  enum status status = security_load(&error);
  assert_string_equal(error.text, "");
  assert_int_equal(status, OK);
  assert_int_equal(security_load(&error), OK);
}

static void calls_reach_the_module(void **state)
{
  (void)state;
  struct tls_certificate certificate = {.cert = "/nowhere/cert.pem", .key = "/nowhere/key.pem"};
  struct tls_settings settings = {.certificates = &certificate, .certificate_count = 1};
  struct tls_credentials *credentials = NULL;
  struct error error = {0};
  assert_int_equal(tls_credentials_load(&settings, (struct wall){0}, &credentials, &error), ERR_NOT_FOUND);
  assert_non_null(strstr(error.text, "/nowhere/cert.pem"));
  assert_null(credentials);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_is_loaded_by_letting_go_of_nothing),
      cmocka_unit_test(the_module_is_found_beside_the_program),
      cmocka_unit_test(calls_reach_the_module),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
