#include "auth/saslprep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void expect(const char *text, const char *prepared)
{
  uint8_t *out = malloc(strlen(text) + 1);
  size_t size = SIZE_MAX;
  assert_non_null(out);
  assert_true(saslprep(span_text(text), out, &size));
  assert_int_equal(size, strlen(prepared));
  if (size > 0) assert_memory_equal(out, prepared, size);
  free(out);
}

static void refuse(const char *bytes, size_t size)
{
  uint8_t out[64];
  size_t out_size = 99;
  assert_true(size <= sizeof out);
  assert_false(saslprep(span_of(bytes, size), out, &out_size));
  assert_int_equal(out_size, 99);
}

static void printable_ascii_stays_as_it_is(void **state)
{
  (void)state;
  char all[0x7F - 0x20 + 1];
  for (size_t i = 0; i < sizeof all - 1; i++) all[i] = (char)(0x20 + i);
  all[sizeof all - 1] = '\0';
  expect(all, all);
  expect("", "");
}

static void every_ascii_control_character_is_refused(void **state)
{
  (void)state;
  for (char control = 0; control < 0x20; control++) refuse(&control, 1);
  refuse("\x7F", 1);
  refuse("a\0b", 3);
}

// RFC 4013, section 3, but for the two examples that need NFKC and the one of right-to-left text.
static void the_examples_of_the_standard(void **state)
{
  (void)state;
  expect("I\u00ADX", "IX");
  expect("user", "user");
  expect("USER", "USER");
  refuse("\x07", 1);
}

static void other_spaces_become_the_space(void **state)
{
  (void)state;
  expect("a\u00A0b", "a b");
  expect("a\u3000b\u200Bc", "a b c");
}

static void what_maps_to_nothing_is_left_out(void **state)
{
  (void)state;
  expect("\uFEFFa\u200Db\uFE0F", "ab");
  expect("\u00AD", "");
}

static void letters_of_the_world_stay(void **state)
{
  (void)state;
  expect("grün", "grün");
  expect("пароль", "пароль");
  expect("密码\U0001F511", "密码\U0001F511");
}

static void prohibited_characters_are_refused(void **state)
{
  (void)state;
  static const char *const texts[] = {
      "\xC2\x80", "\u0340",     "\u06DD",     "\u200E",     "\u2028",     "\u202E",     "\u2061",
      "\u206F",   "\u2FF0",     "\uE000",     "\uF8FF",     "\uFDD0",     "\uFFF9",     "\uFFFD",
      "\uFFFE",   "\U0001D173", "\U0001FFFF", "\U000E0001", "\U000E007F", "\U000F0000", "\U0010FFFF",
  };
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) refuse(texts[i], strlen(texts[i]));
}

static void what_is_not_utf8_is_refused(void **state)
{
  (void)state;
  refuse("\xFF", 1);
  refuse("a\xC3", 2);
  refuse("\xED\xA0\x80", 3);  // a surrogate
  refuse("\xC0\x80", 2);      // overlong
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(printable_ascii_stays_as_it_is),    cmocka_unit_test(every_ascii_control_character_is_refused),
      cmocka_unit_test(the_examples_of_the_standard),      cmocka_unit_test(other_spaces_become_the_space),
      cmocka_unit_test(what_maps_to_nothing_is_left_out),  cmocka_unit_test(letters_of_the_world_stay),
      cmocka_unit_test(prohibited_characters_are_refused), cmocka_unit_test(what_is_not_utf8_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
