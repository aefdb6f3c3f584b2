#include "bytes.h"

#include "base/prng.h"
#include "mqtt/topic.h"

// ---- UTF-8

static void utf8_table(void **state)
{
  (void)state;
  static const struct {
    const char *bytes;
    bool valid;
  } cases[] = {
      {"", true},
      {"'a'", true},
      {"00", false},
      {"'abcdefg' 00", false},
      {"'abcdefgh' 00", false},
      {"01", true},  // control characters may be refused by a receiver; we do not
      {"1f 7f", true},
      {"80", false},
      {"bf", false},
      {"c0 80", false},
      {"c1 bf", false},
      {"c2 80", true},
      {"c2 7f", false},
      {"c2", false},
      {"df bf", true},
      {"e0 80 80", false},
      {"e0 9f bf", false},
      {"e0 a0 80", true},
      {"e1 80 80", true},
      {"e1 80", false},
      {"e1 80 c0", false},
      {"ec bf bf", true},
      {"ed 9f bf", true},
      {"ed a0 80", false},
      {"ed bf bf", false},
      {"ee 80 80", true},
      {"ef bb bf", true},
      {"ef bf be", true},  // a non-character
      {"ef bf bf", true},
      {"f0 80 80 80", false},
      {"f0 8f bf bf", false},
      {"f0 90 80 80", true},
      {"f3 bf bf bf", true},
      {"f4 8f bf bf", true},
      {"f4 90 80 80", false},
      {"f5 80 80 80", false},
      {"f0 90 80", false},
      {"f0 90", false},
      {"f8 88 80 80 80", false},
      {"ff", false},
      {"fe", false},
      {"ed a0 bd ed b8 80", false},
      {"'abcdefghijkl' e6b8a9 'mnopqrst' f09f8ca1 'uvwxyz'", true},
      {"'abcdefghijkl' e6b8a9 'mnopqrst' f09f8c", false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t bytes[BYTES_MAX];
    struct span copy = exact_copy(bytes, bytes_parse(cases[i].bytes, bytes));
    if (mqtt_utf8_valid(copy) != cases[i].valid) fail_msg("%s", cases[i].bytes);
    exact_free(copy);
  }
  assert_true(mqtt_utf8_valid(span_of(NULL, 0)));
}

// Every scalar value, encoded by the definition, is valid alone; surrogates are not.
static void utf8_all_characters(void **state)
{
  (void)state;
  for (uint32_t code = 1; code <= 0x10ffff; code++) {
    uint8_t bytes[4];
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    uint32_t rest = code;
    for (size_t i = size; i-- > 1; rest >>= 6) bytes[i] = (uint8_t)(0x80 | (rest & 0x3f));
    static const uint8_t marks[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    bytes[0] = (uint8_t)(marks[size] | rest);
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    if (mqtt_utf8_valid(span_of(bytes, size)) == surrogate) fail_msg("U+%04X", (unsigned)code);
  }
}

// The dumb way: decode the code point, then ask whether its shortest form has this length.
static bool naive_utf8_valid(const uint8_t *at, size_t size)
{
  for (size_t i = 0; i < size;) {
    uint32_t code = at[i];
    size_t more = 0;
    if (at[i] >= 0xf8) return false;
    if (at[i] >= 0xf0) {
      code = at[i] & 0x07;
      more = 3;
    } else if (at[i] >= 0xe0) {
      code = at[i] & 0x0f;
      more = 2;
    } else if (at[i] >= 0xc0) {
      code = at[i] & 0x1f;
      more = 1;
    } else if (at[i] >= 0x80) {
      return false;
    }
    for (size_t k = 1; k <= more; k++) {
      if (i + k >= size || at[i + k] >> 6 != 2) return false;
      code = code << 6 | (at[i + k] & 0x3f);
    }
    size_t shortest = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    if (more != shortest || code == 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
    i += more + 1;
  }
  return true;
}

static void utf8_against_the_dumb_way(void **state)
{
  (void)state;
  // Bytes at the borders of what is allowed, and enough ASCII for the fast path.
  static const uint8_t alphabet[] = {'a',  'b',  '/',  'z',  'a',  'b',  'c',  'd',  0x7f, 0x80, 0x8f,
                                     0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xc1, 0xdf, 0xe0, 0xe1, 0xed, 0xef,
                                     0xf0, 0xf1, 0xf4, 0xf5, 'e',  'f',  'g',  'h',  'i',  0x00};
  struct prng prng;
  prng_seed(&prng, 20190307);
  size_t valid = 0;
  for (unsigned round = 0; round < 200000; round++) {
    uint8_t bytes[24];
    size_t size = (size_t)prng_below(&prng, sizeof bytes + 1);
    // Half of the time mostly ASCII, or nothing long would be valid.
    bool plain = prng_below(&prng, 2);
    for (size_t i = 0; i < size; i++)
      bytes[i] = plain && prng_below(&prng, 16) ? 'k' : alphabet[prng_below(&prng, sizeof alphabet)];
    bool wanted = naive_utf8_valid(bytes, size);
    valid += wanted;
    if (mqtt_utf8_valid(span_of(bytes, size)) != wanted) fail_msg("round %u", round);
  }
  assert_true(valid > 10000);
}

// ---- Topics and filters

static void topic_names(void **state)
{
  (void)state;
  assert_true(mqtt_topic_valid(span_text("a")));
  assert_true(mqtt_topic_valid(span_text("/")));
  assert_true(mqtt_topic_valid(span_text("a//b")));
  assert_true(mqtt_topic_valid(span_text("$SYS/broker")));
  assert_true(mqtt_topic_valid(span_text("Accounts payable")));
  assert_false(mqtt_topic_valid(span_text("")));
  assert_false(mqtt_topic_valid(span_of(NULL, 0)));
  assert_false(mqtt_topic_valid(span_text("+")));
  assert_false(mqtt_topic_valid(span_text("a/#")));
  assert_false(mqtt_topic_valid(span_text("a+b")));
  assert_false(mqtt_topic_valid(span_text("a/b#")));
}

static void filters_are_taken_apart(void **state)
{
  (void)state;
  static const struct {
    const char *text;
    const char *filter;  // NULL: not valid
    const char *share;
    bool wildcard;
  } cases[] = {
      {"a", "a", "", false},
      {"/", "/", "", false},
      {"a/b/c", "a/b/c", "", false},
      {"#", "#", "", true},
      {"/#", "/#", "", true},
      {"sport/tennis/#", "sport/tennis/#", "", true},
      {"+", "+", "", true},
      {"+/tennis/#", "+/tennis/#", "", true},
      {"sport/+/player1", "sport/+/player1", "", true},
      {"/+", "/+", "", true},
      {"+/+", "+/+", "", true},
      {"a/+", "a/+", "", true},
      {"a b/c", "a b/c", "", false},
      {"", NULL, NULL, false},
      {"sport/tennis#", NULL, NULL, false},
      {"sport/tennis/#/ranking", NULL, NULL, false},
      {"##", NULL, NULL, false},
      {"#/", NULL, NULL, false},
      {"a#", NULL, NULL, false},
      {"sport+", NULL, NULL, false},
      {"+a", NULL, NULL, false},
      {"a/+b/c", NULL, NULL, false},
      {"a/b+/c", NULL, NULL, false},
      {"++", NULL, NULL, false},
      {"+#", NULL, NULL, false},
      {"#+", NULL, NULL, false},
      {"$SYS/#", "$SYS/#", "", true},
      {"$share", "$share", "", false},
      {"$shared/a/b", "$shared/a/b", "", false},
      {"a/$share/b", "a/$share/b", "", false},
      {"$share/g/a", "a", "g", false},
      {"$share/group 1/a/b", "a/b", "group 1", false},
      {"$share/g/#", "#", "g", true},
      {"$share/g//", "/", "g", false},
      {"$share/g//a", "/a", "g", false},
      {"$share/g/$share/h/a", "$share/h/a", "g", false},
      {"$share/", NULL, NULL, false},
      {"$share//", NULL, NULL, false},
      {"$share//a", NULL, NULL, false},
      {"$share/g", NULL, NULL, false},
      {"$share/g/", NULL, NULL, false},
      {"$share/+/a", NULL, NULL, false},
      {"$share/#/a", NULL, NULL, false},
      {"$share/g+/a", NULL, NULL, false},
      {"$share/#", NULL, NULL, false},
      {"$share/g/a#", NULL, NULL, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct span copy = exact_copy((const uint8_t *)cases[i].text, strlen(cases[i].text));
    struct mqtt_filter filter;
    if (mqtt_filter_parse(copy, &filter) != (cases[i].filter != NULL)) fail_msg("%s", cases[i].text);
    if (cases[i].filter) {
      assert_span_text(filter.filter, cases[i].filter);
      assert_span_text(filter.share, cases[i].share);
      assert_int_equal(filter.wildcard, cases[i].wildcard);
    }
    exact_free(copy);
  }
}

static void levels_are_walked(void **state)
{
  (void)state;
  static const struct {
    const char *topic;
    const char *levels[5];
  } cases[] = {
      {"a", {"a"}},
      {"", {""}},
      {"/", {"", ""}},
      {"a/b/c", {"a", "b", "c"}},
      {"a//b", {"a", "", "b"}},
      {"/a/", {"", "a", ""}},
      {"//", {"", "", ""}},
      {"abc/#", {"abc", "#"}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    size_t cursor = 0;
    struct span level;
    size_t count = 0;
    while (mqtt_next_level(span_text(cases[i].topic), &cursor, &level)) {
      assert_true(count < 5);
      assert_non_null(cases[i].levels[count]);
      assert_span_text(level, cases[i].levels[count]);
      count++;
    }
    assert_true(count == 5 || cases[i].levels[count] == NULL);
    assert_false(mqtt_next_level(span_text(cases[i].topic), &cursor, &level));
  }
}

// Section 4.7's examples and their neighbours.
static void filters_match_as_the_standard_says(void **state)
{
  (void)state;
  static const struct {
    const char *filter;
    const char *topic;
    bool matches;
  } cases[] = {
      {"sport/tennis/player1/#", "sport/tennis/player1", true},
      {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
      {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
      {"sport/tennis/player1/#", "sport/tennis/player12", false},
      {"sport/tennis/player1/#", "sport/tennis", false},
      {"sport/#", "sport", true},
      {"sport/#", "sport/", true},
      {"sport/#", "sports", false},
      {"#", "a", true},
      {"#", "/", true},
      {"#", "a/b/c", true},
      {"sport/tennis/+", "sport/tennis/player1", true},
      {"sport/tennis/+", "sport/tennis/player1/ranking", false},
      {"sport/tennis/+", "sport/tennis", false},
      {"sport/+", "sport", false},
      {"sport/+", "sport/", true},
      {"+/tennis/#", "sport/tennis", true},
      {"+/tennis/#", "sport/tennis/a/b", true},
      {"+/tennis/#", "/tennis", true},
      {"+/+", "/finance", true},
      {"/+", "/finance", true},
      {"+", "/finance", false},
      {"+", "finance", true},
      {"+/+/+", "//", true},
      {"a//b", "a//b", true},
      {"a/+/b", "a//b", true},
      {"a//b", "a/b", false},
      {"#", "$SYS/monitor", false},
      {"#", "$", false},
      {"+/monitor/Clients", "$SYS/monitor/Clients", false},
      {"+", "$SYS", false},
      {"$SYS/#", "$SYS/", true},
      {"$SYS/#", "$SYS", true},
      {"$SYS/#", "$SYS/monitor/Clients", true},
      {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
      {"a/#", "a/$b", true},
      {"+/$b", "a/$b", true},
      {"ACCOUNTS", "Accounts", false},
      {"Accounts payable", "Accounts payable", true},
      {"/finance", "finance", false},
      {"finance/", "finance", false},
      {"a", "a/", false},
      {"a/b", "a", false},
      {"a", "ab", false},
      {"ab", "a", false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    if (mqtt_filter_matches(span_text(cases[i].filter), span_text(cases[i].topic)) != cases[i].matches)
      fail_msg("%s %s", cases[i].filter, cases[i].topic);
}

static void deep_and_long_topics(void **state)
{
  (void)state;
  uint8_t *topic = malloc(MQTT_MAX_STRING);
  uint8_t *filter = malloc(MQTT_MAX_STRING);
  assert_non_null(topic);
  assert_non_null(filter);
  memset(topic, '/', MQTT_MAX_STRING);
  for (size_t i = 0; i < MQTT_MAX_STRING; i++) filter[i] = i % 2 ? '/' : '+';
  struct mqtt_filter parsed;
  assert_true(mqtt_filter_parse(span_of(filter, MQTT_MAX_STRING), &parsed));
  assert_true(parsed.wildcard);
  assert_true(mqtt_filter_matches(span_of(filter, MQTT_MAX_STRING), span_of(topic, MQTT_MAX_STRING / 2)));
  assert_false(mqtt_filter_matches(span_of(filter, MQTT_MAX_STRING), span_of(topic, MQTT_MAX_STRING / 2 + 1)));
  filter[MQTT_MAX_STRING - 1] = '#';
  assert_true(mqtt_filter_matches(span_of(filter, MQTT_MAX_STRING), span_of(topic, MQTT_MAX_STRING)));
  free(topic);
  free(filter);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(utf8_table),
      cmocka_unit_test(utf8_all_characters),
      cmocka_unit_test(utf8_against_the_dumb_way),
      cmocka_unit_test(topic_names),
      cmocka_unit_test(filters_are_taken_apart),
      cmocka_unit_test(levels_are_walked),
      cmocka_unit_test(filters_match_as_the_standard_says),
      cmocka_unit_test(deep_and_long_topics),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
