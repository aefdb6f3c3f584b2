#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"

static void equal_bytes_hash_equally_wherever_they_lie(void **state)
{
  (void)state;
  uint8_t bytes[96], moved[97];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7);
  for (size_t size = 0; size <= sizeof bytes; size++) {
    memcpy(moved + 1, bytes, size);
    assert_true(hash_bytes(5, bytes, size) == hash_bytes(5, moved + 1, size));
    assert_true(hash_bytes(5, bytes, size) == hash_span(5, span_of(bytes, size)));
  }
}

// On an exact copy in the heap, so that AddressSanitizer sees a byte too many.
static void no_byte_outside_is_read(void **state)
{
  (void)state;
  for (size_t size = 1; size <= 80; size++) {
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    memset(bytes, 1, size);
    assert_true(hash_bytes(1, bytes, size) != 0);
    free(bytes);
  }
  assert_true(hash_bytes(1, NULL, 0) != hash_bytes(2, NULL, 0));
}

static void sizes_of_the_same_byte_differ(void **state)
{
  (void)state;
  uint8_t zeros[200] = {0};
  uint64_t hashes[200];
  for (size_t size = 0; size < 200; size++) {
    hashes[size] = hash_bytes(0, zeros, size);
    for (size_t other = 0; other < size; other++) assert_true(hashes[size] != hashes[other]);
  }
}

static int differing_bits(uint64_t a, uint64_t b)
{
  return __builtin_popcountll(a ^ b);
}

// Each bit of seed and bytes turns about half of the bits, low ones too: tables use those.
static void every_bit_counts(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 3);
  for (size_t size = 1; size <= 70; size++) {
    uint8_t bytes[70];
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)prng_next(&prng);
    uint64_t seed = prng_next(&prng);
    uint64_t hash = hash_bytes(seed, bytes, size);
    int turned = 0, low_turned = 0;
    for (size_t bit = 0; bit < size * 8; bit++) {
      bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
      uint64_t other = hash_bytes(seed, bytes, size);
      bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
      assert_in_range(differing_bits(hash, other), 8, 56);
      turned += differing_bits(hash, other);
      low_turned += differing_bits(hash & 0xFF, other & 0xFF);
    }
    int bits = (int)size * 8;
    assert_in_range(turned / bits, 27, 37);
    assert_in_range(low_turned * 10 / bits, 20, 60);
    for (unsigned bit = 0; bit < 64; bit++)
      assert_in_range(differing_bits(hash, hash_bytes(seed ^ UINT64_C(1) << bit, bytes, size)), 8, 56);
  }
}

// Topics as sensors have them fill a table evenly: the fullest of 4096 buckets with 16 expected stays below 48.
static void similar_topics_spread_over_a_table(void **state)
{
  (void)state;
  static const char *const names[] = {"temperature", "pressure", "vibration", "state"};
  uint8_t counts[4096] = {0};
  for (unsigned line = 0; line < 16384; line++) {
    for (unsigned name = 0; name < 4; name++) {
      char topic[64];
      int size = snprintf(topic, sizeof topic, "plant/line-%u/%s", line, names[name]);
      uint8_t *count = &counts[hash_bytes(42, topic, (size_t)size) & 4095];
      (*count)++;
      assert_true(*count < 48);
    }
  }
}

// What a constant key would allow: a block that makes a factor zero, after which everything hashes alike.
static void no_block_swallows_what_follows(void **state)
{
  (void)state;
  static const uint64_t mixes[] = {0x6A09E667F3BCC909u, 0xBB67AE8584CAA73Bu, 0x3C6EF372FE94F82Bu, 0xA54FF53A5F1D36F1u, 0};
  for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++) {
    for (size_t j = 0; j < sizeof mixes / sizeof mixes[0]; j++) {
      uint8_t bytes[40] = {0};
      memcpy(bytes + 16, &mixes[i], 8);
      memcpy(bytes + 24, &mixes[j], 8);
      uint64_t hash = hash_bytes(0x123456789ABCDEFu, bytes, sizeof bytes);
      bytes[0] = 1;
      assert_true(hash != hash_bytes(0x123456789ABCDEFu, bytes, sizeof bytes));
    }
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(equal_bytes_hash_equally_wherever_they_lie),
      cmocka_unit_test(no_byte_outside_is_read),
      cmocka_unit_test(sizes_of_the_same_byte_differ),
      cmocka_unit_test(every_bit_counts),
      cmocka_unit_test(similar_topics_spread_over_a_table),
      cmocka_unit_test(no_block_swallows_what_follows),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
