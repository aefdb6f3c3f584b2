#include "wire/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

// A version 2 header; the block is `length` zero bytes unless filled by the test.
static size_t v2_header(uint8_t *out, uint8_t version_command, uint8_t transport, size_t length)
{
  memset(out, 0, 16 + length);
  memcpy(out, signature, sizeof signature);
  out[12] = version_command;
  out[13] = transport;
  out[14] = (uint8_t)(length >> 8);
  out[15] = (uint8_t)length;
  return 16 + length;
}

// Parses with `behind` more bytes after it; and checks that every shorter cut asks for more, from an exact heap copy so that
// the sanitizer sees any read too far.
static enum proxy_result parse(const void *bytes, size_t size, struct proxy_source *out_source)
{
  size_t header_size = 0;
  enum proxy_result result = proxy_parse(span_of(bytes, size), &header_size, out_source);
  if (result != PROXY_OK) return result;
  assert_int_equal(header_size, size);
  for (size_t cut = 0; cut < size; cut++) {
    struct proxy_source unused;
    uint8_t *copy = malloc(cut ? cut : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, cut);
    assert_int_equal(proxy_parse(span_of(copy, cut), &header_size, &unused), PROXY_INCOMPLETE);
    free(copy);
  }
  uint8_t *longer = calloc(1, size + 10);
  assert_non_null(longer);
  memcpy(longer, bytes, size);
  assert_int_equal(proxy_parse(span_of(longer, size + 10), &header_size, out_source), PROXY_OK);
  assert_int_equal(header_size, size);
  free(longer);
  return result;
}

static void assert_v1(const char *line, enum proxy_result expected, const char *source_text)
{
  struct proxy_source source;
  enum proxy_result result = parse(line, strlen(line), &source);
  if (result != expected) fail_msg("\"%s\" gives %d", line, result);
  if (result != PROXY_OK) return;
  char text[PROXY_MAX_TEXT];
  size_t size = proxy_format_source(&source, text);
  assert_int_equal(size, strlen(text));
  assert_string_equal(text, source_text);
}

static void test_v1_good(void **state)
{
  (void)state;
  assert_v1("PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n", PROXY_OK, "192.0.2.1:56324");
  assert_v1("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", PROXY_OK, "[2001:db8::1]:1");
  assert_v1("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", PROXY_OK, "255.255.255.255:65535");
  assert_v1("PROXY TCP4 1.2.3.4 1.2.3.4 0 0\r\n", PROXY_OK, "1.2.3.4:0");
  assert_v1("PROXY UNKNOWN\r\n", PROXY_OK, "unknown");
  assert_v1("PROXY UNKNOWN ffff::1 whatever 1 2 3 4\r\n", PROXY_OK, "unknown");
  assert_v1("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            PROXY_OK, "unknown");
}

static void test_v1_bad(void **state)
{
  (void)state;
  static const char *const lines[] = {
      "GET / HTTP/1.1\r\n",
      "PROXY\r\n",
      "PROXY \r\n",
      "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
      "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
      "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4\r\n",
      "PROXY TCP4 1.2.3.4\r\n",
      "PROXY TCP4\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
      "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
      "PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n",
      "PROXY TCP4 1.2.3.400 1.2.3.4 1 2\r\n",
      "PROXY TCP4 ::1 ::1 1 2\r\n",
      "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
      "PROXY TCP6 ::1 1.2.3.4 1 2\r\n",
      "PROXY TCP6 :::1 ::1 1 2\r\n",
  };
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) assert_v1(lines[i], PROXY_INVALID, NULL);
}

static void test_v1_is_bounded(void **state)
{
  (void)state;
  struct proxy_source source;
  size_t size;
  char line[200];
  memset(line, 'x', sizeof line);
  memcpy(line, "PROXY UNKNOWN ", 14);
  assert_int_equal(proxy_parse(span_of(line, PROXY_MAX_V1 - 1), &size, &source), PROXY_INCOMPLETE);
  assert_int_equal(proxy_parse(span_of(line, PROXY_MAX_V1), &size, &source), PROXY_INVALID);
  memcpy(line + PROXY_MAX_V1 - 2, "\r\n", 2);
  assert_int_equal(proxy_parse(span_of(line, sizeof line), &size, &source), PROXY_OK);
  assert_int_equal(size, PROXY_MAX_V1);
  memcpy(line + PROXY_MAX_V1 - 2, "x\r\n", 3);
  assert_int_equal(proxy_parse(span_of(line, sizeof line), &size, &source), PROXY_INVALID);
}

static void test_wrong_first_bytes_are_seen_at_once(void **state)
{
  (void)state;
  struct proxy_source source;
  size_t size;
  assert_int_equal(proxy_parse(span_text("\x10"), &size, &source), PROXY_INVALID);
  assert_int_equal(proxy_parse(span_text("PROXZ"), &size, &source), PROXY_INVALID);
  assert_int_equal(proxy_parse(span_text("\r\n\r\r"), &size, &source), PROXY_INVALID);
  assert_int_equal(proxy_parse(span_of(NULL, 0), &size, &source), PROXY_INCOMPLETE);
}

static void test_v2_families(void **state)
{
  (void)state;
  uint8_t bytes[512];
  char text[PROXY_MAX_TEXT];
  struct proxy_source source;

  size_t size = v2_header(bytes, 0x21, 0x11, 12);
  memcpy(bytes + 16, "\xc0\x00\x02\x01\xc6\x33\x64\x07\x12\x34\x07\x5b", 12);
  assert_int_equal(parse(bytes, size, &source), PROXY_OK);
  proxy_format_source(&source, text);
  assert_string_equal(text, "192.0.2.1:4660");

  size = v2_header(bytes, 0x21, 0x21, 36);
  memcpy(bytes + 16, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09", 16);
  bytes[16 + 32] = 0x12;
  bytes[16 + 33] = 0x35;
  assert_int_equal(parse(bytes, size, &source), PROXY_OK);
  proxy_format_source(&source, text);
  assert_string_equal(text, "[2001:db8::9]:4661");

  size = v2_header(bytes, 0x21, 0x31, 216);
  memcpy(bytes + 16, "/run/client.sock", 16);
  assert_int_equal(parse(bytes, size, &source), PROXY_OK);
  proxy_format_source(&source, text);
  assert_string_equal(text, "unix:/run/client.sock");

  memset(bytes + 16, 'p', PROXY_UNIX_PATH);  // a path without NUL
  assert_int_equal(parse(bytes, size, &source), PROXY_OK);
  assert_int_equal(proxy_format_source(&source, text), 5 + PROXY_UNIX_PATH);
}

static void test_v2_without_addresses(void **state)
{
  (void)state;
  uint8_t bytes[512];
  struct proxy_source source;
  static const uint8_t transports[] = {0x00, 0x12, 0x22, 0x32, 0x41, 0xff};  // unspecified, datagrams, unknown
  for (size_t i = 0; i < sizeof transports; i++) {
    size_t size = v2_header(bytes, 0x21, transports[i], 3);
    assert_int_equal(parse(bytes, size, &source), PROXY_OK);
    assert_int_equal(source.family, PROXY_UNKNOWN);
  }
  size_t size = v2_header(bytes, 0x20, 0x11, 0);  // LOCAL: the block is to be ignored, even when it is too short
  assert_int_equal(parse(bytes, size, &source), PROXY_OK);
  assert_int_equal(source.family, PROXY_UNKNOWN);
}

static void test_v2_skips_additional_fields(void **state)
{
  (void)state;
  static uint8_t bytes[PROXY_MAX_V2 + 1];
  struct proxy_source source;
  size_t size = v2_header(bytes, 0x21, 0x11, 12 + 7);
  bytes[16] = 10;
  memcpy(bytes + 28, "\x04\x00\x04\0\0\0\0", 7);  // a NOOP field
  assert_int_equal(parse(bytes, size, &source), PROXY_OK);
  assert_int_equal(source.address[0], 10);
  size = v2_header(bytes, 0x21, 0x11, PROXY_MAX_V2 - 16);
  size_t header_size;
  assert_int_equal(proxy_parse(span_of(bytes, size), &header_size, &source), PROXY_OK);
  assert_int_equal(header_size, PROXY_MAX_V2);
}

static void test_v2_bad(void **state)
{
  (void)state;
  static uint8_t bytes[PROXY_MAX_V2 + 1];
  struct proxy_source source;
  assert_int_equal(parse(bytes, v2_header(bytes, 0x11, 0x11, 12), &source), PROXY_INVALID);  // version 1
  assert_int_equal(parse(bytes, v2_header(bytes, 0x22, 0x11, 12), &source), PROXY_INVALID);  // unknown command
  assert_int_equal(parse(bytes, v2_header(bytes, 0x21, 0x11, 11), &source), PROXY_INVALID);  // blocks too short
  assert_int_equal(parse(bytes, v2_header(bytes, 0x21, 0x21, 35), &source), PROXY_INVALID);
  assert_int_equal(parse(bytes, v2_header(bytes, 0x21, 0x31, 215), &source), PROXY_INVALID);
  assert_int_equal(parse(bytes, v2_header(bytes, 0x21, 0x11, 4097), &source), PROXY_INVALID);  // longer than we take
  v2_header(bytes, 0x21, 0x11, 4097);
  assert_int_equal(parse(bytes, 16, &source), PROXY_INVALID);  // refused before it is collected
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_v1_good),
      cmocka_unit_test(test_v1_bad),
      cmocka_unit_test(test_v1_is_bounded),
      cmocka_unit_test(test_wrong_first_bytes_are_seen_at_once),
      cmocka_unit_test(test_v2_families),
      cmocka_unit_test(test_v2_without_addresses),
      cmocka_unit_test(test_v2_skips_additional_fields),
      cmocka_unit_test(test_v2_bad),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
