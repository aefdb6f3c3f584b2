#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void every_status_has_a_name_of_its_own(void **state)
{
  (void)state;
  for (int a = ERR_IO; a <= OK; a++) {
    const char *name = status_name((enum status)a);
    assert_non_null(name);
    assert_string_not_equal(name, "unknown status");
    for (int b = ERR_IO; b < a; b++) assert_string_not_equal(name, status_name((enum status)b));
  }
  assert_string_equal(status_name(OK), "ok");
  assert_string_equal(status_name(ERR_NOT_FOUND), "not found");
}

static void a_number_that_is_no_status_has_a_name_too(void **state)
{
  (void)state;
  assert_string_equal(status_name((enum status)(-1000)), "unknown status");
}

static void errno_values_map_to_what_callers_act_upon(void **state)
{
  (void)state;
  const struct {
    int error_number;
    enum status status;
  } cases[] = {
      {0, OK},
      {ENOMEM, ERR_NO_MEMORY},
      {EINVAL, ERR_INVALID},
      {ENAMETOOLONG, ERR_INVALID},
      {ENOENT, ERR_NOT_FOUND},
      {EADDRNOTAVAIL, ERR_NOT_FOUND},
      {EEXIST, ERR_EXISTS},
      {EADDRINUSE, ERR_EXISTS},
      {ENOSPC, ERR_FULL},
      {ENOBUFS, ERR_FULL},
      {EAGAIN, ERR_AGAIN},
      {EINTR, ERR_AGAIN},
      {EINPROGRESS, ERR_AGAIN},
      {EPIPE, ERR_CLOSED},
      {ECONNRESET, ERR_CLOSED},
      {ECONNREFUSED, ERR_CLOSED},
      {EACCES, ERR_DENIED},
      {EPERM, ERR_DENIED},
      {EROFS, ERR_DENIED},
      {ETIMEDOUT, ERR_TIMEOUT},
      {EMFILE, ERR_LIMIT},
      {ENFILE, ERR_LIMIT},
      {EMSGSIZE, ERR_LIMIT},
      {EIO, ERR_IO},
      {-5, ERR_IO},
      {99999, ERR_IO},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    assert_int_equal(status_from_errno(cases[i].error_number), cases[i].status);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_status_has_a_name_of_its_own),
      cmocka_unit_test(a_number_that_is_no_status_has_a_name_too),
      cmocka_unit_test(errno_values_map_to_what_callers_act_upon),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
