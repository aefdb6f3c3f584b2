#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/prng.h"

static void assert_character(const char *bytes, uint32_t code, size_t size)
{
  struct utf8_character character = utf8_next(span_text(bytes));
  assert_int_equal(character.size, size);
  if (size > 0) assert_int_equal(character.code, code);
}

static void the_first_and_last_of_each_length(void **state)
{
  (void)state;
  assert_int_equal(utf8_next(span_of("", 1)).size, 1);
  assert_character("A", 'A', 1);
  assert_character("\x7F", 0x7F, 1);
  assert_character("\xC2\x80", 0x80, 2);
  assert_character("\xDF\xBF", 0x7FF, 2);
  assert_character("\xE0\xA0\x80", 0x800, 3);
  assert_character("\xED\x9F\xBF", 0xD7FF, 3);
  assert_character("\xEE\x80\x80", 0xE000, 3);
  assert_character("\xEF\xBF\xBF", 0xFFFF, 3);
  assert_character("\xF0\x90\x80\x80", 0x10000, 4);
  assert_character("\xF4\x8F\xBF\xBF", 0x10FFFF, 4);
}

static void what_is_not_utf8(void **state)
{
  (void)state;
  static const char *const wrong[] = {
      "\x80",              // a continuation alone
      "\xBF",              //
      "\xC0\x80",          // overlong NUL
      "\xC1\xBF",          //
      "\xC2",              // cut
      "\xC2\x41",          // no continuation
      "\xE0\x9F\xBF",      // overlong
      "\xED\xA0\x80",      // surrogates
      "\xED\xBF\xBF",      //
      "\xE2\x82",          // cut
      "\xF0\x8F\xBF\xBF",  // overlong
      "\xF4\x90\x80\x80",  // above U+10FFFF
      "\xF5\x80\x80\x80",  //
      "\xF0\x9F\x8C",      // cut
      "\xFF",              //
  };
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    char text[16];
    int size = snprintf(text, sizeof text, "\xC3\xA9 %s", wrong[i]);
    assert_int_equal(utf8_next(span_text(wrong[i])).size, 0);
    assert_false(utf8_valid(span_text(wrong[i])));
    assert_false(utf8_valid(span_text(text)));
    assert_true(utf8_valid(span_of(text, (size_t)size - strlen(wrong[i]))));
  }
  assert_true(utf8_valid(span_text("")));
  assert_true(utf8_valid(span_of("a\0b", 3)));
}

static size_t encode(uint32_t code, uint8_t *out)
{
  if (code < 0x80) {
    out[0] = (uint8_t)code;
    return 1;
  }
  size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (size_t i = size - 1; i > 0; i--, code >>= 6) out[i] = (uint8_t)(0x80 | (code & 0x3F));
  out[0] = (uint8_t)((0xF00u >> size & 0xFF) | code);
  return size;
}

static void every_scalar_value_is_read_back(void **state)
{
  (void)state;
  for (uint32_t code = 0; code <= 0x10FFFF; code++) {
    uint8_t bytes[4];
    size_t size = encode(code, bytes);
    struct utf8_character character = utf8_next(span_of(bytes, size));
    bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (character.size != (surrogate ? 0 : size)) fail_msg("U+%04X", code);
    if (!surrogate && character.code != code) fail_msg("U+%04X", code);
  }
}

static void cutting_is_between_characters(void **state)
{
  (void)state;
  struct span span = span_text("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8C\x8A");
  static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
  for (size_t limit = 0; limit <= span.size; limit++) assert_int_equal(utf8_cut(span, limit), expected[limit]);
}

static void cutting_what_is_not_utf8_takes_the_limit(void **state)
{
  (void)state;
  struct span span = span_text("\x80\x80\x80\x80\x80\x80\xFF\xFF");
  for (size_t limit = 0; limit <= span.size; limit++) assert_int_equal(utf8_cut(span, limit), limit);
}

static void controls_are_what_a_terminal_or_a_reader_may_obey(void **state)
{
  (void)state;
  static const uint32_t controls[] = {0,    7,      0x1B,   0x1F,   0x7F,   0x80,   0x9B,
                                      0x9F, 0x2028, 0x2029, 0x202A, 0x202E, 0x2066, 0x2069};
  static const uint32_t harmless[] = {' ', 'a', '~', 0xA0, 0xE9, 0x2027, 0x202F, 0x2065, 0x206A, 0x20AC, 0x1F30A, 0x10FFFF};
  for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) assert_true(utf8_is_control(controls[i]));
  for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) assert_false(utf8_is_control(harmless[i]));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_and_last_of_each_length),
      cmocka_unit_test(what_is_not_utf8),
      cmocka_unit_test(every_scalar_value_is_read_back),
      cmocka_unit_test(cutting_is_between_characters),
      cmocka_unit_test(cutting_what_is_not_utf8_takes_the_limit),
      cmocka_unit_test(controls_are_what_a_terminal_or_a_reader_may_obey),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
