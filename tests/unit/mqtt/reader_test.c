#include "bytes.h"

#include "mqtt/internal.h"

static struct reader reader_of(struct span bytes, struct mqtt_fault *fault)
{
  return (struct reader){.at = bytes.at, .end = bytes.at + bytes.size, .fault = fault, .version = MQTT_5_0};
}

static void variable_byte_integers(void **state)
{
  (void)state;
  static const struct {
    const char *bytes;
    bool valid;
    uint32_t value;
    const char *statement;
  } cases[] = {
      {"00", true, 0, NULL},
      {"7f", true, 127, NULL},
      {"8001", true, 128, NULL},
      {"ff7f", true, 16383, NULL},
      {"808001", true, 16384, NULL},
      {"ffff7f", true, 2097151, NULL},
      {"80808001", true, 2097152, NULL},
      {"ffffff7f", true, 268435455, NULL},
      {"", false, 0, NULL},
      {"80", false, 0, NULL},
      {"ffffff", false, 0, NULL},
      {"80808080", false, 0, NULL},
      {"ffffffff01", false, 0, NULL},
      {"8000", false, 0, "MQTT-1.5.5-1"},
      {"ff00", false, 0, "MQTT-1.5.5-1"},
      {"80808000", false, 0, "MQTT-1.5.5-1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t bytes[BYTES_MAX];
    size_t size = bytes_parse(cases[i].bytes, bytes);
    struct span copy = exact_copy(bytes, size);
    struct mqtt_fault fault = {0};
    struct reader reader = reader_of(copy, &fault);
    uint32_t value = 0;
    assert_int_equal(mqtt_take_varint(&reader, &value), cases[i].valid);
    assert_int_equal(value, cases[i].value);
    if (cases[i].valid) {
      assert_int_equal(reader_left(&reader), 0);
    } else {
      assert_int_equal(fault.reason, MQTT_MALFORMED_PACKET);
      if (cases[i].statement) assert_string_equal(fault.statement, cases[i].statement);
      if (!cases[i].statement) assert_null(fault.statement);
    }
    exact_free(copy);
  }
}

static void numbers_need_all_their_bytes(void **state)
{
  (void)state;
  struct mqtt_fault fault;
  for (size_t size = 0; size <= 4; size++) {
    struct span copy = exact_copy((const uint8_t *)"\x12\x34\x56\xf8", size);
    uint8_t u8 = 0;
    uint16_t u16 = 0;
    uint32_t u32 = 0;
    struct reader reader = reader_of(copy, &fault);
    assert_int_equal(read_u8(&reader, &u8), size >= 1);
    reader = reader_of(copy, &fault);
    assert_int_equal(read_u16(&reader, &u16), size >= 2);
    reader = reader_of(copy, &fault);
    assert_int_equal(read_u32(&reader, &u32), size >= 4);
    assert_int_equal(u8, size >= 1 ? 0x12 : 0);
    assert_int_equal(u16, size >= 2 ? 0x1234 : 0);
    assert_int_equal(u32, size >= 4 ? 0x123456f8 : 0);
    exact_free(copy);
  }
}

static void texts_say_what_is_wrong(void **state)
{
  (void)state;
  static const struct text_words words = TEXT_WORDS("it");
  static const struct {
    const char *bytes;
    const char *text;
  } cases[] = {
      {"0002'ab'", NULL},
      {"0000", NULL},
      {"", "it is cut off"},
      {"00", "it is cut off"},
      {"0003'ab'", "it is cut off"},
      {"0002 'a' ff", "it is not well-formed UTF-8"},
      {"0002 'a' 00", "it contains U+0000"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t bytes[BYTES_MAX];
    struct span copy = exact_copy(bytes, bytes_parse(cases[i].bytes, bytes));
    struct mqtt_fault fault = {0};
    struct reader reader = reader_of(copy, &fault);
    struct span text;
    bool valid = mqtt_take_text(&reader, &words, &text);
    assert_int_equal(valid, cases[i].text == NULL);
    if (!valid) assert_string_equal(fault.text, cases[i].text);
    exact_free(copy);
  }
}

static void statements_are_numbered_by_version(void **state)
{
  (void)state;
  struct mqtt_fault fault;
  struct reader reader = reader_of(span_of("", 0), &fault);
  assert_false(reader_refuse(&reader, MQTT_MALFORMED_PACKET, STATEMENT("five", "three"), "text"));
  assert_string_equal(fault.statement, "five");
  reader.version = MQTT_3_1_1;
  assert_false(reader_refuse(&reader, MQTT_MALFORMED_PACKET, STATEMENT("five", "three"), "text"));
  assert_string_equal(fault.statement, "three");
  assert_string_equal(fault.text, "text");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(variable_byte_integers),
      cmocka_unit_test(numbers_need_all_their_bytes),
      cmocka_unit_test(texts_say_what_is_wrong),
      cmocka_unit_test(statements_are_numbered_by_version),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
