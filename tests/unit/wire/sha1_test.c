// The published examples of FIPS 180 and RFC 3174, and the sizes around the padding's edges against a slower way to hash.
#include "wire/sha1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void assert_digest(struct span message, const char *expected)
{
  uint8_t digest[SHA1_SIZE];
  char text[2 * SHA1_SIZE + 1];
  sha1(message, digest);
  for (size_t i = 0; i < SHA1_SIZE; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
  assert_string_equal(text, expected);
}

static void test_published_examples(void **state)
{
  (void)state;
  assert_digest(span_text(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  assert_digest(span_text("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  assert_digest(span_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  assert_digest(span_text("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
                          "mnopqrstnopqrstu"),
                "a49b2446a02c645bf419f995b67091253a04a259");
}

static void test_million_letters(void **state)
{
  (void)state;
  size_t size = 1000000;
  char *letters = malloc(size);
  assert_non_null(letters);
  memset(letters, 'a', size);
  assert_digest(span_of(letters, size), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  free(letters);
}

// RFC 3174's fourth example: 80 times "01234567" repeated. A multiple of the block, so that padding is a block of its own.
static void test_whole_blocks(void **state)
{
  (void)state;
  char text[640];
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('0' + i % 8);
  assert_digest(span_of(text, sizeof text), "dea356a2cddd90c7a7ecedc5ebb563934f460452");
}

// 55 bytes are the most that leave room for the length in the same block.
static void test_padding_edges(void **state)
{
  (void)state;
  char text[64];
  memset(text, 'a', sizeof text);
  assert_digest(span_of(text, 55), "c1c8bbdc22796e28c0e15163d20899b65621d65a");
  assert_digest(span_of(text, 56), "c2db330f6083854c99d4b5bfb6e8f29f201be699");
  assert_digest(span_of(text, 63), "03f09f5b158a7a8cdad920bddc29b81c18a551f5");
  assert_digest(span_of(text, 64), "0098ba824b5c16427bd7a1122a5a442a25ec644d");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_published_examples),
      cmocka_unit_test(test_million_letters),
      cmocka_unit_test(test_whole_blocks),
      cmocka_unit_test(test_padding_edges),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
