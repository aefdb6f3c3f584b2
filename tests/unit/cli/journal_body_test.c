#include "cli/journal_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void properties(void **state)
{
  (void)state;
  static const char bytes[] = "\x01\x01"
                              "\x03\x00\x04text"
                              "\x08\x00\x01r"
                              "\x09\x00\x02\xff\x00"
                              "\x26\x00\x01k\x00\x02vv";
  struct span all = span_of(bytes, sizeof bytes - 1);
  struct journal_property property;
  size_t cursor = 0;
  assert_true(journal_next_property(all, &cursor, &property));
  assert_string_equal(property.name, "payload-format-indicator");
  assert_int_equal(property.kind, PROPERTY_NUMBER);
  assert_int_equal(property.number, 1);
  assert_true(journal_next_property(all, &cursor, &property));
  assert_string_equal(property.name, "content-type");
  assert_true(span_equal(property.value, span_text("text")));
  assert_true(journal_next_property(all, &cursor, &property));
  assert_string_equal(property.name, "response-topic");
  assert_true(journal_next_property(all, &cursor, &property));
  assert_string_equal(property.name, "correlation-data");
  assert_true(span_equal(property.value, span_of("\xff\x00", 2)));
  assert_true(journal_next_property(all, &cursor, &property));
  assert_int_equal(property.kind, PROPERTY_PAIR);
  assert_true(span_equal(property.key, span_text("k")));
  assert_true(span_equal(property.value, span_text("vv")));
  assert_false(journal_next_property(all, &cursor, &property));
  assert_int_equal(cursor, all.size);
}

// Each cut ends the walk early, inside of the bytes; on the heap, so that a sanitizer sees it.
static void cut_properties(void **state)
{
  (void)state;
  static const char bytes[] = "\x03\x00\x04text\x26\x00\x01k\x00\x02vv\x01\x01";
  for (size_t size = 0; size < sizeof bytes - 1; size++) {
    uint8_t *copy = malloc(size + 1);
    assert_non_null(copy);
    memcpy(copy + 1, bytes, size);
    struct journal_property property;
    size_t cursor = 0;
    size_t found = 0;
    while (journal_next_property(span_of(copy + 1, size), &cursor, &property)) found++;
    assert_int_equal(found, size < 7 ? 0 : size < 15 ? 1 : 2);
    free(copy);
  }
  struct journal_property property;
  size_t cursor = 0;
  assert_false(journal_next_property(span_of("\x02\x00\x00\x00\x01", 5), &cursor, &property));
}

static void retained_entries(void **state)
{
  (void)state;
  // Positions 0x100000040 and 64 before it; the second expires at 300; weights 60 and 61.
  static const char bytes[] = "\x80\x81\x80\x80\x20\x00\x3c\x03"
                              "a/b"
                              "\x7f\xac\x02\x3d\x01"
                              "c";
  struct span all = span_of(bytes, sizeof bytes - 1);
  struct journal_retained entry = {0};
  size_t cursor = 0;
  assert_true(journal_next_retained(all, &cursor, &entry));
  assert_true(entry.position == UINT64_C(0x100000040));
  assert_int_equal(entry.expiry_ms, 0);
  assert_int_equal(entry.weight, 60);
  assert_true(span_equal(entry.topic, span_text("a/b")));
  assert_true(journal_next_retained(all, &cursor, &entry));
  assert_true(entry.position == UINT64_C(0x100000000));
  assert_int_equal(entry.expiry_ms, 300);
  assert_true(span_equal(entry.topic, span_text("c")));
  assert_false(journal_next_retained(all, &cursor, &entry));
  assert_true(journal_body_valid(RECORD_CHECKPOINT_RETAINED, all));
  for (size_t size = 1; size < all.size; size++)
    assert_true(journal_body_valid(RECORD_CHECKPOINT_RETAINED, span_of(bytes, size)) == (size == 11));
}

static void add(void *context, uint32_t session)
{
  uint64_t *sum = context;
  *sum = *sum * 100 + session;
}

static uint64_t sessions_of(enum record_type type, const struct buffer *record)
{
  uint64_t sum = 0;
  struct span body = span_from(buffer_peek(record), sizeof(struct record_header));
  struct record_reader reader = {.rest = span_from(buffer_peek(record), 4)};
  body.size = record_read_u32(&reader);
  assert_true(journal_body_valid(type, body));
  journal_each_session(type, body, add, &sum);
  for (size_t size = 0; size < body.size; size++) {  // no part of it is one
    uint64_t none = 0;
    assert_false(journal_body_valid(type, span_of(body.at, size)));
    journal_each_session(type, span_of(body.at, size), add, &none);
    assert_int_equal(none, 0);
  }
  return sum;
}

static void whose_records(void **state)
{
  (void)state;
  struct buffer out = {0};
#define EXPECT(type, put, ...)                                                                                              \
  do {                                                                                                                      \
    assert_int_equal(put(&out, &(__VA_ARGS__)), OK);                                                                        \
    assert_int_equal(sessions_of(type, &out), 12);                                                                          \
    buffer_consume(&out, buffer_size(&out));                                                                                \
  } while (0)
  EXPECT(RECORD_SESSION, record_put_session, (struct record_session){.session = 12, .client_id = span_text("x")});
  EXPECT(RECORD_SESSION_END, record_put_session_end, (struct record_session_end){.session = 12});
  EXPECT(RECORD_SESSION_BACK, record_put_session_back, (struct record_session_back){.session = 12});
  EXPECT(RECORD_SESSION_AWAY, record_put_session_away, (struct record_session_away){.session = 12});
  EXPECT(RECORD_SUBSCRIBE, record_put_subscribe, (struct record_subscribe){.session = 12, .filter = span_text("#")});
  EXPECT(RECORD_UNSUBSCRIBE, record_put_unsubscribe, (struct record_unsubscribe){.session = 12, .filter = span_text("#")});
  EXPECT(RECORD_WILL, record_put_will, (struct record_will){.session = 12, .topic = span_text("w")});
  EXPECT(RECORD_SENT, record_put_sent, (struct record_sent){.session = 12});
  EXPECT(RECORD_DONE, record_put_done, (struct record_done){.session = 12, .count = 1});
  EXPECT(RECORD_OWNER, record_put_owner, (struct record_owner){.session = 12, .user = span_text("ann")});
#undef EXPECT
  const struct record_packet_id id = {.session = 12, .packet_id = 1};
  assert_int_equal(record_put_packet_id(&out, RECORD_RECEIVED, &id), OK);
  assert_int_equal(sessions_of(RECORD_RECEIVED, &out), 12);
  buffer_deinit(&out);
}

static void unknown_types(void **state)
{
  (void)state;
  assert_false(journal_body_valid((enum record_type)200, span_text("anything")));
  assert_false(journal_body_valid(RECORD_NONE, (struct span){0}));
  uint64_t sum = 0;
  journal_each_session((enum record_type)200, span_text("anything"), add, &sum);
  assert_int_equal(sum, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(properties),    cmocka_unit_test(cut_properties), cmocka_unit_test(retained_entries),
      cmocka_unit_test(whose_records), cmocka_unit_test(unknown_types),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
