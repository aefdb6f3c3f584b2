#include "base/crc32c.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/crc32c_table.h"
#include "base/prng.h"

static uint32_t slow(uint32_t crc, struct span bytes)
{
  crc = ~crc;
  for (size_t i = 0; i < bytes.size; i++) {
    crc ^= bytes.at[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

static void expect(struct span bytes, uint32_t value)
{
  assert_int_equal(crc32c(0, bytes), value);
  assert_int_equal(crc32c_table(0, bytes), value);
  assert_int_equal(slow(0, bytes), value);
}

static void gives_the_published_values(void **state)
{
  (void)state;
  // RFC 3720, B.4; its bytes are listed in the order of transmission.
  uint8_t bytes[48];
  memset(bytes, 0, 32);
  expect(span_of(bytes, 32), 0x8a9136aa);
  memset(bytes, 0xff, 32);
  expect(span_of(bytes, 32), 0x62a8ab43);
  for (uint8_t i = 0; i < 32; i++) bytes[i] = i;
  expect(span_of(bytes, 32), 0x46dd794e);
  for (uint8_t i = 0; i < 32; i++) bytes[i] = (uint8_t)(31 - i);
  expect(span_of(bytes, 32), 0x113fdb5c);
  static const uint8_t read_command[48] = {0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                           0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
                                           0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
                                           0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  expect(span_of(read_command, sizeof read_command), 0xd9963a56);
  expect(span_text("123456789"), 0xe3069283);
  expect(span_of(NULL, 0), 0);
}

static void tables_are_what_they_should_be(void **state)
{
  (void)state;
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0x82f63b78u : value >> 1;
    for (int k = 0; k < 8; k++) {
      assert_int_equal(crc32c_tables[k][byte], value);
      for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0x82f63b78u : value >> 1;
    }
  }
}

static void both_ways_agree_at_every_alignment_and_size(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 1);
  uint8_t bytes[4096];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)prng_next(&prng);
  for (size_t start = 0; start < 16; start++)
    for (size_t size = 0; size < 200; size++) {
      struct span span = span_of(bytes + start, size);
      uint32_t seed = (uint32_t)prng_next(&prng);
      assert_int_equal(crc32c(seed, span), slow(seed, span));
      assert_int_equal(crc32c_table(seed, span), slow(seed, span));
    }
  expect(span_of(bytes, sizeof bytes), slow(0, span_of(bytes, sizeof bytes)));
}

static void goes_on_where_it_stopped(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 2);
  uint8_t bytes[257];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)prng_next(&prng);
  uint32_t whole = crc32c(0, span_of(bytes, sizeof bytes));
  for (size_t cut = 0; cut <= sizeof bytes; cut++) {
    struct span rest = span_of(bytes + cut, sizeof bytes - cut);
    assert_int_equal(crc32c(crc32c(0, span_of(bytes, cut)), rest), whole);
    assert_int_equal(crc32c_table(crc32c_table(0, span_of(bytes, cut)), rest), whole);
  }
}

static void notices_every_flipped_bit(void **state)
{
  (void)state;
  uint8_t bytes[64] = "what was written is what is read";
  uint32_t whole = crc32c(0, span_of(bytes, sizeof bytes));
  for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    assert_int_not_equal(crc32c(0, span_of(bytes, sizeof bytes)), whole);
    assert_int_not_equal(crc32c_table(0, span_of(bytes, sizeof bytes)), whole);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_the_published_values),
      cmocka_unit_test(tables_are_what_they_should_be),
      cmocka_unit_test(both_ways_agree_at_every_alignment_and_size),
      cmocka_unit_test(goes_on_where_it_stopped),
      cmocka_unit_test(notices_every_flipped_bit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
