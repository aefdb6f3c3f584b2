#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/utf8.h"

static void setting_returns_the_status(void **state)
{
  (void)state;
  struct error error;
  assert_int_equal(error_set(&error, ERR_NOT_FOUND, "no file %s in %d places", "a.yaml", 3), ERR_NOT_FOUND);
  assert_int_equal(error.status, ERR_NOT_FOUND);
  assert_string_equal(error.text, "no file a.yaml in 3 places");
}

static void prefixes_pile_up_in_front(void **state)
{
  (void)state;
  struct error error;
  (void)error_set(&error, ERR_INVALID, "must be 1 to 10");
  assert_int_equal(error_prefix(&error, "limits.%s", "in_flight"), ERR_INVALID);
  assert_int_equal(error_prefix(&error, "%s:%d", "skerry.yaml", 12), ERR_INVALID);
  assert_string_equal(error.text, "skerry.yaml:12: limits.in_flight: must be 1 to 10");
}

static void nobody_needs_to_listen(void **state)
{
  (void)state;
  assert_int_equal(error_set(NULL, ERR_FULL, "unheard %d", 1), ERR_FULL);
  assert_int_equal(error_prefix(NULL, "unheard"), ERR_INVALID);
}

static void a_long_text_ends_in_dots(void **state)
{
  (void)state;
  char text[2000];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';

  struct error error;
  (void)error_set(&error, ERR_IO, "%s", text);
  assert_int_equal(strlen(error.text), sizeof error.text - 1);
  assert_string_equal(error.text + sizeof error.text - 5, "x...");

  (void)error_set(&error, ERR_IO, "short");
  (void)error_prefix(&error, "%s", text);
  assert_int_equal(strlen(error.text), sizeof error.text - 1);
  assert_string_equal(error.text + sizeof error.text - 5, "x...");
}

static void a_text_that_just_fits_is_whole(void **state)
{
  (void)state;
  struct error error;
  char text[sizeof error.text];
  memset(text, 'y', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  (void)error_set(&error, ERR_IO, "%s", text);
  assert_string_equal(error.text, text);
}

// Cuts at each of the four places inside a four-byte character, and in text and prefix alike.
static void cutting_splits_no_character(void **state)
{
  (void)state;
  for (size_t shift = 0; shift < 4; shift++) {
    char text[1200] = {0};
    memset(text, 'z', shift);
    for (size_t i = shift; i + 4 < sizeof text; i += 4) memcpy(text + i, "\xF0\x9F\x8C\x8A", 4);

    struct error error;
    (void)error_set(&error, ERR_IO, "%s", text);
    struct span span = span_text(error.text);
    assert_true(span.size >= sizeof error.text - 5);
    for (size_t i = 0; i < span.size;) {
      struct utf8_character character = utf8_next(span_from(span, i));
      assert_true(character.size > 0);
      i += character.size;
    }
    assert_string_equal(error.text + span.size - 3, "...");
  }
}

static void a_text_may_be_part_of_its_own_message(void **state)
{
  (void)state;
  struct error error;
  (void)error_set(&error, ERR_IO, "inner");
  (void)error_set(&error, ERR_IO, "outer (%s)", error.text);
  assert_string_equal(error.text, "outer (inner)");
  (void)error_prefix(&error, "again %s", error.text);
  assert_string_equal(error.text, "again outer (inner): outer (inner)");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(setting_returns_the_status),
      cmocka_unit_test(prefixes_pile_up_in_front),
      cmocka_unit_test(nobody_needs_to_listen),
      cmocka_unit_test(a_long_text_ends_in_dots),
      cmocka_unit_test(a_text_that_just_fits_is_whole),
      cmocka_unit_test(cutting_splits_no_character),
      cmocka_unit_test(a_text_may_be_part_of_its_own_message),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
