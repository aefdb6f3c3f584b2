#include "cli/journal_filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/journal_print.h"
#include "store/log.h"
#include "store/store_batch.h"

// A record as a scan gives it: its header, and its body in `bytes`.
struct made {
  struct buffer bytes;
  struct record_header header;
  struct span body;
};

static void finish(struct made *made, uint64_t sequence)
{
  struct span bytes = buffer_peek(&made->bytes);
  struct record_reader reader = {.rest = bytes};
  made->header.checksum = record_read_u32(&reader);
  made->header.size = record_read_u32(&reader);
  made->header.mark = record_read_u64(&reader) | sequence;
  made->body = span_of(bytes.at + sizeof made->header, made->header.size);
}

static struct made message(const char *topic, const uint32_t *sessions, size_t count, uint32_t publisher)
{
  struct made made = {0};
  struct buffer targets = {0};
  for (size_t i = 0; i < count; i++) {
    const struct record_target target = {.session = sessions[i], .place = 10, .qos = 1};
    assert_int_equal(record_put_target(&targets, &target, NULL), OK);
  }
  const struct record_message record = {.qos = publisher ? 2 : 1,
                                        .has_publisher = publisher != 0,
                                        .publisher = publisher,
                                        .packet_id = publisher ? 5 : 0,
                                        .time_ms = 5000,
                                        .target_count = (uint32_t)count,
                                        .targets = buffer_peek(&targets),
                                        .topic = span_text(topic),
                                        .payload = span_text("secret")};
  assert_int_equal(record_put_message(&made.bytes, &record), OK);
  finish(&made, 100);
  buffer_deinit(&targets);
  return made;
}

static struct made done(uint32_t session)
{
  struct made made = {0};
  const struct record_done record = {.session = session, .count = 3, .place = 7, .outcome = OUTCOME_EXPIRED};
  assert_int_equal(record_put_done(&made.bytes, &record), OK);
  finish(&made, 101);
  return made;
}

static bool passes(const struct journal_filter *filter, const struct journal_names *names, const struct made *made)
{
  return journal_filter_passes(filter, names, &made->header, made->body, position_of(3, 4096));
}

static void names_of_types(void **state)
{
  (void)state;
  struct journal_filter filter = {0};
  struct error error = {0};
  assert_string_equal(journal_type_name(RECORD_MESSAGE), "message");
  assert_string_equal(journal_type_name(RECORD_RETAINED_DROP), "retained_drop");
  assert_null(journal_type_name((enum record_type)99));
  assert_int_equal(journal_filter_add_type(&filter, "done", &error), OK);
  assert_int_equal(journal_filter_add_type(&filter, "batch", &error), OK);
  assert_true(filter.types == (UINT64_C(1) << RECORD_DONE | UINT64_C(1) << RECORD_BATCH));
  assert_int_equal(journal_filter_add_type(&filter, "mesage", &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "did you mean \"message\""));
  assert_int_equal(journal_filter_add_type(&filter, "qqqqqqqqqqqq", &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "checkpoint_begin"));
  assert_non_null(strstr(error.text, "retained_drop"));
}

static void by_number(void **state)
{
  (void)state;
  struct journal_names names = {0};
  struct made record = done(1);
  assert_true(passes(&(struct journal_filter){0}, &names, &record));
  assert_true(passes(&(struct journal_filter){.from = 101}, &names, &record));
  assert_false(passes(&(struct journal_filter){.from = 102}, &names, &record));
  assert_true(passes(&(struct journal_filter){.to = 101}, &names, &record));
  assert_false(passes(&(struct journal_filter){.to = 100}, &names, &record));
  assert_true(passes(&(struct journal_filter){.segment = 3}, &names, &record));
  assert_false(passes(&(struct journal_filter){.segment = 2}, &names, &record));
  assert_true(passes(&(struct journal_filter){.types = UINT64_C(1) << RECORD_DONE}, &names, &record));
  assert_false(passes(&(struct journal_filter){.types = UINT64_C(1) << RECORD_SENT}, &names, &record));
  record.header.mark = UINT64_C(200) << RECORD_SEQUENCE_BITS | 101;
  assert_false(passes(&(struct journal_filter){.types = UINT64_MAX}, &names, &record));
  assert_true(passes(&(struct journal_filter){0}, &names, &record));
  buffer_deinit(&record.bytes);
}

static void by_session(void **state)
{
  (void)state;
  struct journal_names names = {0};
  assert_int_equal(journal_names_add(&names, 4, span_text("press")), OK);
  assert_int_equal(journal_names_add(&names, 9, span_text("press")), OK);  // came again after it had ended
  assert_int_equal(journal_names_add(&names, 5, span_text("saw")), OK);
  const struct journal_filter press = {.session = "press"};
  const uint32_t both[] = {5, 9};
  const uint32_t saw[] = {5};
  struct made record = done(4);
  assert_true(passes(&press, &names, &record));
  buffer_deinit(&record.bytes);
  record = done(5);
  assert_false(passes(&press, &names, &record));
  buffer_deinit(&record.bytes);
  record = done(77);
  assert_false(passes(&press, &names, &record));
  buffer_deinit(&record.bytes);
  record = message("a/b", both, 2, 0);
  assert_true(passes(&press, &names, &record));
  buffer_deinit(&record.bytes);
  record = message("a/b", saw, 1, 0);
  assert_false(passes(&press, &names, &record));
  buffer_deinit(&record.bytes);
  record = message("a/b", saw, 1, 4);  // published by it
  assert_true(passes(&press, &names, &record));
  record.body.size--;  // cannot be read
  assert_false(passes(&press, &names, &record));
  buffer_deinit(&record.bytes);
  journal_names_deinit(&names);
}

static void by_topic(void **state)
{
  (void)state;
  struct journal_names names = {0};
  struct made record = message("plant/4/temp", NULL, 0, 0);
  assert_true(passes(&(struct journal_filter){.topic = "plant/+/temp"}, &names, &record));
  assert_true(passes(&(struct journal_filter){.topic = "#"}, &names, &record));
  assert_false(passes(&(struct journal_filter){.topic = "plant/+"}, &names, &record));
  buffer_deinit(&record.bytes);
  record = done(1);
  assert_false(passes(&(struct journal_filter){.topic = "#"}, &names, &record));
  buffer_deinit(&record.bytes);
  struct made will = {0};
  const struct record_will text = {.session = 1, .topic = span_text("plant/gone"), .payload = span_text("x")};
  assert_int_equal(record_put_will(&will.bytes, &text), OK);
  finish(&will, 102);
  assert_true(passes(&(struct journal_filter){.topic = "plant/#"}, &names, &will));
  assert_false(passes(&(struct journal_filter){.topic = "x/#"}, &names, &will));
  buffer_deinit(&will.bytes);
}

// ---- Lines of records

static void expect_line(const struct made *made, enum line_form form, enum line_bytes payloads,
                        const struct journal_names *names, const char *wanted)
{
  struct buffer out = {0};
  const struct journal_print print = {.out = &out, .form = form, .payloads = payloads, .names = names};
  assert_int_equal(journal_print_record(&print, &made->header, made->body, position_of(3, 4096)), OK);
  assert_int_equal(buffer_append(&out, "", 1), OK);
  assert_string_equal((const char *)buffer_peek(&out).at, wanted);
  buffer_deinit(&out);
}

static void lines_of_records(void **state)
{
  (void)state;
  struct journal_names names = {0};
  const uint32_t sessions[] = {4};
  assert_int_equal(journal_names_add(&names, 4, span_text("press")), OK);
  struct made record = message("a/b", sessions, 1, 8);
  expect_line(&record, LINE_TEXT, LINE_BYTES_NONE, &names,
              "100 message segment=3 offset=4096 size=51 topic=\"a/b\" qos=2 time_ms=5000 publisher={session=8 packet_id=5} "
              "payload_size=6 targets=[{session=4 client=\"press\" place=10 qos=1}]\n");
  names.clock_known = true;
  names.clock_ms = 1700000000123 - 5000;
  expect_line(&record, LINE_JSON, LINE_BYTES_TEXT, &names,
              "{\"sequence\":100,\"type\":\"message\",\"segment\":3,\"offset\":4096,\"size\":51,\"topic\":\"a/b\",\"qos\":2,"
              "\"retain\":false,\"store\":false,\"time\":\"2023-11-14T22:13:20.123Z\",\"publisher\":{\"session\":8,"
              "\"packet_id\":5},\"payload_size\":6,\"payload\":\"secret\",\"targets\":[{\"session\":4,\"client\":\"press\","
              "\"place\":10,\"qos\":1,\"retain\":false}]}\n");
  record.body.size--;
  expect_line(&record, LINE_TEXT, LINE_BYTES_TEXT, &names, "100 message segment=3 offset=4096 size=51 unreadable\n");
  record.header.mark = UINT64_C(200) << RECORD_SEQUENCE_BITS | 7;
  expect_line(&record, LINE_TEXT, LINE_BYTES_TEXT, &names, "7 type_200 segment=3 offset=4096 size=51 unreadable\n");
  buffer_deinit(&record.bytes);
  record = done(4);
  expect_line(&record, LINE_TEXT, LINE_BYTES_NONE, &names,
              "101 done segment=3 offset=4096 size=17 session=4 client=\"press\" place=7 count=3 outcome=\"expired\"\n");
  buffer_deinit(&record.bytes);
  journal_names_deinit(&names);
}

static void names_and_time_are_learned(void **state)
{
  (void)state;
  struct journal_names names = {0};
  struct made made = {0};
  struct span client_id;
  const struct record_session session = {.session = 12, .expiry_s = UINT32_MAX, .client_id = span_text("gate")};
  assert_int_equal(record_put_session(&made.bytes, &session), OK);
  finish(&made, 1);
  assert_false(journal_names_find(&names, 12, &client_id));
  assert_int_equal(journal_learn(&names, RECORD_SESSION, made.body), OK);
  assert_int_equal(journal_learn(&names, RECORD_SESSION, made.body), OK);
  assert_true(journal_names_find(&names, 12, &client_id));
  assert_true(span_equal(client_id, span_text("gate")));
  expect_line(&made, LINE_TEXT, LINE_BYTES_NONE, &names,
              "1 session segment=3 offset=4096 size=14 session=12 client=\"gate\" expiry=\"never\"\n");
  buffer_deinit(&made.bytes);
  struct made batch = {0};
  const struct store_batch record = {.journal_ms = 1000, .wall = {1700000000123}, .safe = 9};
  assert_int_equal(store_batch_put(&batch.bytes, &record), OK);
  finish(&batch, 9);
  assert_false(names.clock_known);
  assert_int_equal(journal_learn(&names, RECORD_BATCH, batch.body), OK);
  assert_true(names.clock_known);
  assert_int_equal(names.clock_ms, 1700000000123 - 1000);
  expect_line(&batch, LINE_TEXT, LINE_BYTES_NONE, &names,
              "9 batch segment=3 offset=4096 size=24 time=2023-11-14T22:13:20.123Z journal_ms=1000 safe=9\n");
  buffer_deinit(&batch.bytes);
  journal_names_deinit(&names);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_of_types), cmocka_unit_test(by_number),        cmocka_unit_test(by_session),
      cmocka_unit_test(by_topic),       cmocka_unit_test(lines_of_records), cmocka_unit_test(names_and_time_are_learned),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
