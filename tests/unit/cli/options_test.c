#include "cli/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct values {
  const char *host;
  uint64_t port;
  uint64_t wait_ms;
  bool verbose;
  bool retain;
  unsigned pairs;
  char last_pair[64];
  struct option_texts tags, few;
};

static enum status add_pair(void *target, struct option_words *words, struct error *error)
{
  struct values *values = target;
  const char *name = option_word(words);
  const char *value = option_word(words);
  if (!value) return error_set(error, ERR_INVALID, "needs NAME and VALUE");
  snprintf(values->last_pair, sizeof values->last_pair, "%s=%s", name, value);
  values->pairs++;
  return OK;
}

static const struct option options[] = {
    {'h', "host", "HOST", "The host.", OPTION_TEXT, offsetof(struct values, host), 0, 0, NULL},
    {'p', "port", "PORT", "The port.", OPTION_UINT, offsetof(struct values, port), 1, 65535, NULL},
    {'W', "wait", "TIME", "How long.", OPTION_DURATION, offsetof(struct values, wait_ms), 1, 3600000, NULL},
    {'v', "verbose", NULL, "Say more.\nMuch more.", OPTION_FLAG, offsetof(struct values, verbose), 0, 0, NULL},
    {'r', NULL, NULL, "Retain.", OPTION_FLAG, offsetof(struct values, retain), 0, 0, NULL},
    {'D', "define", "NAME VALUE", "A pair.", OPTION_APPLY, 0, 0, 0, add_pair},
    {'t', "tag", "TAG", "Tags.", OPTION_TEXTS, offsetof(struct values, tags), 0, 0, NULL},
    {0, "few", "TAG", "Two.", OPTION_TEXTS, offsetof(struct values, few), 0, 2, NULL},
    {0, "a-very-long-option-name-that-takes-a-line", "X", "Long.", OPTION_TEXT, offsetof(struct values, host), 0, 0, NULL},
};

struct outcome {
  enum status status;
  struct error error;
  struct values values;
  int positional;
  char *argv[16];
};

static char storage[16][64];

// Parses a line whose words are separated by one space each.
static struct outcome parse(const char *line, int positional_maximum)
{
  struct outcome outcome = {.positional = -1};
  int argc = 0;
  outcome.argv[argc++] = strcpy(storage[0], "test");
  while (*line) {
    size_t size = strcspn(line, " ");
    assert_true(size < sizeof storage[0]);
    memcpy(storage[argc], line, size);
    storage[argc][size] = '\0';
    outcome.argv[argc] = storage[argc];
    argc++;
    line += size + (line[size] == ' ');
  }
  const struct option_section section = {"Test", options, sizeof options / sizeof options[0], &outcome.values};
  const struct option_command command = {.name = "test",
                                         .summary = "Tests.",
                                         .usage = "[OPTIONS]",
                                         .sections = &section,
                                         .section_count = 1,
                                         .positional_maximum = positional_maximum};
  outcome.status = options_parse(&command, argc, outcome.argv, &outcome.positional, &outcome.error);
  return outcome;
}

static void every_form(void **state)
{
  (void)state;
  static const char *const lines[] = {"-h sun -p 1884 -v",         "-hsun -p1884 -v", "--host sun --port 1884 --verbose",
                                      "--host=sun --port=1884 -v", "-vh sun -p 1884", "-vhsun -p1884"};
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
    struct outcome outcome = parse(lines[i], 0);
    assert_int_equal(outcome.status, OK);
    assert_string_equal(outcome.values.host, "sun");
    assert_int_equal(outcome.values.port, 1884);
    assert_true(outcome.values.verbose);
    assert_false(outcome.values.retain);
    assert_int_equal(outcome.positional, 0);
  }
}

static void values_may_look_like_options(void **state)
{
  (void)state;
  struct outcome outcome = parse("-h -p -p 5", 0);
  assert_int_equal(outcome.status, OK);
  assert_string_equal(outcome.values.host, "-p");
  assert_int_equal(outcome.values.port, 5);
  outcome = parse("--host=a=b", 0);
  assert_string_equal(outcome.values.host, "a=b");
}

static void several_words(void **state)
{
  (void)state;
  struct outcome outcome = parse("-D a b --define c d -v", 0);
  assert_int_equal(outcome.status, OK);
  assert_int_equal(outcome.values.pairs, 2);
  assert_string_equal(outcome.values.last_pair, "c=d");
  assert_true(outcome.values.verbose);
  assert_int_equal(parse("-D a", 0).status, ERR_INVALID);
}

static void repeated(void **state)
{
  (void)state;
  struct outcome outcome = parse("-t one --tag=two -tthree", 0);
  assert_int_equal(outcome.status, OK);
  assert_int_equal(outcome.values.tags.count, 3);
  assert_string_equal(outcome.values.tags.at[0], "one");
  assert_string_equal(outcome.values.tags.at[1], "two");
  assert_string_equal(outcome.values.tags.at[2], "three");
  assert_int_equal(parse("--few a --few b", 0).values.few.count, 2);
  outcome = parse("--few a --few b --few c", 0);
  assert_int_equal(outcome.status, ERR_INVALID);
  assert_string_equal(outcome.error.text, "--few: at most 2 are possible");
}

static void texts_have_an_end(void **state)
{
  (void)state;
  static struct option_texts texts;
  struct error error;
  for (size_t i = 0; i < OPTION_TEXTS_MAX; i++) assert_int_equal(option_texts_add(&texts, "x", 0, &error), OK);
  assert_int_equal(option_texts_add(&texts, "x", 0, &error), ERR_INVALID);
  assert_int_equal(option_texts_add(&texts, "x", OPTION_TEXTS_MAX + 1, &error), ERR_INVALID);
  assert_int_equal(texts.count, OPTION_TEXTS_MAX);
}

static void positional_words(void **state)
{
  (void)state;
  struct outcome outcome = parse("one -v two -- -v", 3);
  assert_int_equal(outcome.status, OK);
  assert_int_equal(outcome.positional, 3);
  assert_string_equal(outcome.argv[1], "one");
  assert_string_equal(outcome.argv[2], "two");
  assert_string_equal(outcome.argv[3], "-v");
  assert_int_equal(parse("-", 1).positional, 1);
  outcome = parse("one two", 1);
  assert_int_equal(outcome.status, ERR_INVALID);
  assert_string_equal(outcome.error.text, "\"two\" is one word too many");
}

static void refuses(const char *line, const char *wanted)
{
  struct outcome outcome = parse(line, 0);
  assert_int_equal(outcome.status, ERR_INVALID);
  assert_string_equal(outcome.error.text, wanted);
}

static void errors_say_what_is_wrong(void **state)
{
  (void)state;
  refuses("--hots x", "unknown option --hots; did you mean --host?");
  refuses("--verbsoe=x", "unknown option --verbsoe; did you mean --verbose?");
  refuses("--zebra", "unknown option --zebra");
  refuses("-z", "unknown option -z");
  refuses("-vz", "unknown option -z");
  refuses("-p", "-p: needs PORT behind it");
  refuses("--port", "--port: needs PORT behind it");
  refuses("-D", "-D: needs NAME VALUE behind it");
  refuses("--define", "--define: needs NAME VALUE behind it");
  refuses("-t", "-t: needs TAG behind it");
  refuses("-p x", "-p: \"x\" is not a whole number");
  refuses("-p 12x", "-p: \"12x\" is not a whole number");
  refuses("-p -1", "-p: \"-1\" is not a whole number");
  refuses("-p=5", "-p: \"=5\" is not a whole number");
  refuses("--port 0", "--port: 0 is out of range; allowed is 1 to 65535");
  refuses("--port 65536", "--port: 65536 is out of range; allowed is 1 to 65535");
  refuses("--port 99999999999999999999", "--port: 99999999999999999999 is out of range; allowed is 1 to 65535");
  refuses("--verbose=yes", "--verbose: takes no argument");
  refuses("-W soon", "-W: \"soon\" is not a time; write seconds (0.5), or 250ms, 10s, 5m, 1h");
  refuses("-W 2h", "-W: 2h is out of range; allowed is 0.001 to 3600 seconds");
  uint64_t year_ms;
  struct error error;
  assert_int_equal(option_parse_duration("0", 1, UINT64_C(365) * 86400000, &year_ms, &error), ERR_INVALID);
  assert_string_equal(error.text, "0 is out of range; allowed is 0.001 to 31536000 seconds");
  refuses("stray", "\"stray\" is one word too many");
}

static void durations(void **state)
{
  (void)state;
  static const struct {
    const char *text;
    uint64_t ms;
  } good[] = {{"1", 1000}, {"0.5", 500}, {".25", 250}, {"250ms", 250}, {"10s", 10000}, {"5m", 300000}, {"1h", 3600000}};
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    uint64_t ms = 0;
    struct error error;
    assert_int_equal(option_parse_duration(good[i].text, 0, 3600000, &ms, &error), OK);
    assert_int_equal(ms, good[i].ms);
  }
  static const char *const bad[] = {"", "-1", "+1", "1x", "nan", "inf", "1 s", "."};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    uint64_t ms = 7;
    assert_int_equal(option_parse_duration(bad[i], 0, 3600000, &ms, NULL), ERR_INVALID);
    assert_int_equal(ms, 7);
  }
}

static void help_is_asked_for(void **state)
{
  (void)state;
  assert_int_equal(parse("--help", 0).status, ERR_CLOSED);
  assert_int_equal(parse("-v --help --nonsense", 0).status, ERR_CLOSED);
  assert_int_equal(parse("-?", 0).status, ERR_CLOSED);
}

static void help_is_aligned(void **state)
{
  (void)state;
  const struct option_section section = {"Test", options, sizeof options / sizeof options[0], NULL};
  const struct option_command command = {
      .name = "test", .summary = "Tests.", .usage = "[A]\n[B]", .notes = "Notes.", .sections = &section, .section_count = 1};
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_non_null(file);
  options_print_help(&command, file);
  fclose(file);
  assert_string_equal(text, "Tests.\n\n"
                            "Usage: skerry test [A]\n"
                            "       skerry test [B]\n\n"
                            "Test:\n"
                            "  -h, --host HOST          The host.\n"
                            "  -p, --port PORT          The port.\n"
                            "  -W, --wait TIME          How long.\n"
                            "  -v, --verbose            Say more.\n"
                            "                           Much more.\n"
                            "  -r                       Retain.\n"
                            "  -D, --define NAME VALUE  A pair.\n"
                            "  -t, --tag TAG            Tags.\n"
                            "      --few TAG            Two.\n"
                            "      --a-very-long-option-name-that-takes-a-line X\n"
                            "                           Long.\n\n"
                            "      --help               Show this text.\n\n"
                            "Notes.\n");
  free(text);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_form),        cmocka_unit_test(values_may_look_like_options),
      cmocka_unit_test(several_words),     cmocka_unit_test(positional_words),
      cmocka_unit_test(repeated),          cmocka_unit_test(texts_have_an_end),
      cmocka_unit_test(durations),         cmocka_unit_test(errors_say_what_is_wrong),
      cmocka_unit_test(help_is_asked_for), cmocka_unit_test(help_is_aligned),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
