// Checked against the C library's inet_pton and inet_ntop, on listed texts and on random ones.
#include "wire/ip_text.h"

#include "base/prng.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void compare_parsing(const char *text)
{
  uint8_t ours[IPV6_SIZE] = {0};
  uint8_t theirs[IPV6_SIZE] = {0};
  bool valid = ipv6_parse(span_text(text), ours);
  if (valid != (inet_pton(AF_INET6, text, theirs) == 1)) fail_msg("IPv6 \"%s\": we say %d", text, valid);
  if (valid) assert_memory_equal(ours, theirs, IPV6_SIZE);
  valid = ipv4_parse(span_text(text), ours);
  if (valid != (inet_pton(AF_INET, text, theirs) == 1)) fail_msg("IPv4 \"%s\": we say %d", text, valid);
  if (valid) assert_memory_equal(ours, theirs, IPV4_SIZE);
}

static void test_listed_texts(void **state)
{
  (void)state;
  static const char *const texts[] = {
      "",
      "0.0.0.0",
      "255.255.255.255",
      "256.0.0.1",
      "1.2.3",
      "1.2.3.",
      "1.2.3.4.",
      ".1.2.3",
      "1..2.3",
      "01.2.3.4",
      "1.2.3.4 ",
      "0001.2.3.4",
      "a.b.c.d",
      "1.2.3.4.5",
      "-1.2.3.4",
      "::",
      "::1",
      "1::",
      "1::2",
      ":",
      ":::",
      "1:2:3:4:5:6:7:8",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7::",
      "::2:3:4:5:6:7:8",
      "1::3:4:5:6:7:8",
      "1:2:3:4::5:6:7:8",
      "1::2::3",
      "12345::",
      "g::",
      "1:",
      ":1",
      "1:2:3:4:5:6:7:",
      "::ffff:1.2.3.4",
      "::ffff:1.2.3",
      "1:2:3:4:5:6:1.2.3.4",
      "1:2:3:4:5:6:7:1.2.3.4",
      "1.2.3.4::",
      "::1.2.3.4:5",
      "fe80::1%eth0",
      "2001:DB8::a",
      "::00001",
      "1.2.3.4:1883",
      "[::1]",
      "::1.2.3.04",
  };
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) compare_parsing(texts[i]);
}

static void test_random_texts(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 7);
  static const char pieces[] = "::::....0011f2a9";
  for (unsigned round = 0; round < 200000; round++) {
    char text[24];
    size_t size = (size_t)prng_below(&prng, sizeof text - 1);
    for (size_t i = 0; i < size; i++) text[i] = pieces[prng_below(&prng, sizeof pieces - 1)];
    text[size] = '\0';
    compare_parsing(text);
  }
}

static void test_format(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 11);
  for (unsigned round = 0; round < 20000; round++) {
    uint8_t address[IPV6_SIZE];
    uint64_t zeros = prng_next(&prng) & prng_next(&prng);
    for (size_t i = 0; i < IPV6_SIZE; i++) address[i] = (zeros >> (i / 2 * 3)) & 1 ? 0 : (uint8_t)prng_next(&prng);
    char ours[IP_TEXT_SIZE];
    char theirs[INET6_ADDRSTRLEN];
    uint8_t again[IPV6_SIZE];
    size_t size = ipv6_format(address, ours);
    assert_int_equal(size, strlen(ours));
    assert_true(ipv6_parse(span_of(ours, size), again));
    assert_memory_equal(again, address, IPV6_SIZE);
    inet_ntop(AF_INET6, address, theirs, sizeof theirs);
    if (!strchr(theirs, '.')) assert_string_equal(ours, theirs);  // it writes ::a.b.c.d for addresses that nobody uses
    size = ipv4_format(address, ours);
    assert_int_equal(size, strlen(ours));
    inet_ntop(AF_INET, address, theirs, sizeof theirs);
    assert_string_equal(ours, theirs);
  }
}

static void test_format_known(void **state)
{
  (void)state;
  static const char *const texts[] = {"::",
                                      "::1",
                                      "1::",
                                      "2001:db8::1:0:0:1",
                                      "2001:db8:0:1:1:1:1:1",
                                      "::ffff:192.0.2.1",
                                      "fe80::1",
                                      "1:2:3:4:5:6:7:8",
                                      "1:0:0:2::3",
                                      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    uint8_t address[IPV6_SIZE];
    char text[IP_TEXT_SIZE];
    assert_true(ipv6_parse(span_text(texts[i]), address));
    ipv6_format(address, text);
    assert_string_equal(text, texts[i]);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_listed_texts),
      cmocka_unit_test(test_random_texts),
      cmocka_unit_test(test_format),
      cmocka_unit_test(test_format_known),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
