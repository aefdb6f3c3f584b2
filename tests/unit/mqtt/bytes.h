// Packets written down for people, and what the tests of src/mqtt do with them.
#pragma once

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mqtt/packet.h"
#include "recode.h"

enum { BYTES_MAX = 4096 };

static inline unsigned hex_digit(char digit)
{
  return (unsigned)(isdigit((unsigned char)digit) ? digit - '0' : tolower((unsigned char)digit) - 'a' + 10);
}

// "00 03 'a/b' ff": hexadecimal bytes, spaces as one likes, and text in single quotes. Returns how many bytes `out` got.
static inline size_t bytes_parse(const char *text, uint8_t *out)
{
  size_t size = 0;
  while (*text) {
    assert_true(size < BYTES_MAX);
    if (*text == ' ') {
      text++;
    } else if (*text == '\'') {
      for (text++; *text != '\''; text++) out[size++] = (uint8_t)*text;
      text++;
    } else {
      assert_true(isxdigit((unsigned char)text[0]));
      assert_true(isxdigit((unsigned char)text[1]));
      out[size++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
      text += 2;
    }
  }
  return size;
}

// Memory of exactly this size, so that a sanitizer sees every read beyond it.
static inline struct span exact_copy(const uint8_t *bytes, size_t size)
{
  uint8_t *copy = malloc(size > 0 ? size : 1);
  assert_non_null(copy);
  if (size > 0) memcpy(copy, bytes, size);
  return span_of(copy, size);
}

static inline void exact_free(struct span copy)
{
  union {
    const uint8_t *borrowed;
    void *owned;
  } memory = {.borrowed = copy.at};
  free(memory.owned);
}

// A packet and what decoding makes of it.
struct packet_case {
  const char *what;
  enum mqtt_version version;
  enum mqtt_sender sender;
  const char *bytes;        // the first byte of the fixed header, then the body: the remaining length is left out
  enum mqtt_reason reason;  // MQTT_SUCCESS: accepted
  const char *statement;
};

// Whatever is cut off must not be read, and when a shorter packet happens to be one too it must be a consistent one.
static inline void check_cut(const struct packet_case *test, uint8_t first, const uint8_t *body, size_t size)
{
  for (size_t cut = 0; cut < size; cut++) {
    struct span copy = exact_copy(body, cut);
    struct mqtt_packet packet;
    struct mqtt_fault fault = {0};
    if (mqtt_decode(test->version, test->sender, first, copy, &packet, &fault)) {
      uint8_t out[BYTES_MAX];
      size_t recoded = recode(test->version, &packet, out, sizeof out);
      if (recoded == 0 || recoded > cut + MQTT_MAX_FIXED_HEADER) fail_msg("%s, cut at %zu: inconsistent", test->what, cut);
    } else {
      assert_true(fault.reason >= MQTT_UNSPECIFIED_ERROR);
      assert_non_null(fault.text);
    }
    exact_free(copy);
  }
}

// An accepted packet survives encoding, and so does what that makes of it.
static inline void check_round_trip(const struct packet_case *test, const struct mqtt_packet *packet)
{
  uint8_t once[BYTES_MAX];
  uint8_t twice[BYTES_MAX];
  size_t once_size = recode(test->version, packet, once, sizeof once);
  if (once_size == 0) fail_msg("%s: cannot be encoded", test->what);
  struct mqtt_fixed_header header = {0};
  assert_int_equal(mqtt_fixed_header(span_of(once, once_size), &header), MQTT_HEADER_OK);
  assert_int_equal(header.size + header.remaining, once_size);
  struct mqtt_packet again;
  struct mqtt_fault fault;
  if (!mqtt_decode(test->version, test->sender, header.first, span_of(once + header.size, header.remaining), &again, &fault))
    fail_msg("%s: encoded, but not decoded again: %s", test->what, fault.text);
  assert_int_equal(recode(test->version, &again, twice, sizeof twice), once_size);
  assert_memory_equal(once, twice, once_size);
}

static inline void run_packet_case(const struct packet_case *test)
{
  uint8_t bytes[BYTES_MAX];
  size_t size = bytes_parse(test->bytes, bytes);
  assert_true(size >= 1);
  struct span body = exact_copy(bytes + 1, size - 1);
  struct mqtt_packet packet;
  struct mqtt_fault fault = {0};
  bool decoded = mqtt_decode(test->version, test->sender, bytes[0], body, &packet, &fault);
  enum mqtt_reason reason = decoded ? MQTT_SUCCESS : fault.reason;
  if (reason != test->reason)
    fail_msg("%s (version %d): %#x instead of %#x (%s)", test->what, (int)test->version, (unsigned)reason,
             (unsigned)test->reason, decoded ? "accepted" : fault.text);
  if (!decoded) {
    if (test->statement ? !fault.statement || strcmp(test->statement, fault.statement) != 0 : fault.statement != NULL)
      fail_msg("%s (version %d): statement %s instead of %s", test->what, (int)test->version,
               fault.statement ? fault.statement : "none", test->statement ? test->statement : "none");
    assert_non_null(fault.text);
  } else {
    assert_int_equal(packet.type, bytes[0] >> 4);
    check_round_trip(test, &packet);
  }
  exact_free(body);
  check_cut(test, bytes[0], bytes + 1, size - 1);
}

static inline void run_packet_cases(const struct packet_case *cases, size_t count)
{
  for (size_t i = 0; i < count; i++) run_packet_case(&cases[i]);
}

#define RUN_PACKET_CASES(cases) run_packet_cases((cases), sizeof(cases) / sizeof(cases)[0])

// Decodes what must be well-formed. `storage` holds the bytes that the packet borrows.
static inline void decode_bytes(enum mqtt_version version, enum mqtt_sender sender, const char *text, uint8_t *storage,
                                struct mqtt_packet *out)
{
  size_t size = bytes_parse(text, storage);
  struct mqtt_fault fault = {0};
  if (!mqtt_decode(version, sender, storage[0], span_of(storage + 1, size - 1), out, &fault))
    fail_msg("%s: %s", text, fault.text);
}

#define assert_span_text(span, text) assert_true(span_equal((span), span_text(text)))
