#include "wire/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void assert_encoding(const char *bytes, const char *expected)
{
  char text[64];
  size_t size = base64_encode(span_text(bytes), text);
  assert_int_equal(size, base64_size(strlen(bytes)));
  assert_int_equal(size, strlen(expected));
  assert_memory_equal(text, expected, size);
  assert_true(base64_valid(span_of(text, size), strlen(bytes)));
}

// RFC 4648, section 10.
static void test_published_examples(void **state)
{
  (void)state;
  assert_encoding("", "");
  assert_encoding("f", "Zg==");
  assert_encoding("fo", "Zm8=");
  assert_encoding("foo", "Zm9v");
  assert_encoding("foob", "Zm9vYg==");
  assert_encoding("fooba", "Zm9vYmE=");
  assert_encoding("foobar", "Zm9vYmFy");
}

static void test_whole_alphabet(void **state)
{
  (void)state;
  uint8_t bytes[48];
  for (size_t group = 0; group < 16; group++) {  // 6-bit values 0, 1, 2 ... 63 in a row
    unsigned first = (unsigned)group * 4;
    uint32_t value = first << 18 | (first + 1) << 12 | (first + 2) << 6 | (first + 3);
    bytes[3 * group] = (uint8_t)(value >> 16);
    bytes[3 * group + 1] = (uint8_t)(value >> 8);
    bytes[3 * group + 2] = (uint8_t)value;
  }
  char text[64];
  assert_int_equal(base64_encode(span_of(bytes, sizeof bytes), text), 64);
  assert_memory_equal(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 64);
}

static void test_refuses_what_is_no_encoding(void **state)
{
  (void)state;
  assert_true(base64_valid(span_text("dGhlIHNhbXBsZSBub25jZQ=="), 16));
  assert_false(base64_valid(span_text("dGhlIHNhbXBsZSBub25jZQ="), 16));   // padding cut
  assert_false(base64_valid(span_text("dGhlIHNhbXBsZSBub25jZQ"), 16));    // none
  assert_false(base64_valid(span_text("dGhlIHNhbXBsZSBub25jZR=="), 16));  // unused bits set
  assert_false(base64_valid(span_text("dGhlIHNhbXBsZSBub25j.Q=="), 16));  // not in the alphabet
  assert_false(base64_valid(span_text("dGhlIHNhbXBsZSBub25j=Q=="), 16));  // padding in the middle
  assert_false(base64_valid(span_text("dGhlIHNhbXBsZSBub25jZWQ="), 16));  // 17 bytes
  assert_false(base64_valid(span_text("Zm9v"), 4));
  assert_false(base64_valid(span_text("Zm9="), 2));
  assert_true(base64_valid(span_text("Zm8="), 2));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_published_examples),
      cmocka_unit_test(test_whole_alphabet),
      cmocka_unit_test(test_refuses_what_is_no_encoding),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
