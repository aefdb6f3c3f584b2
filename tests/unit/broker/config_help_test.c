// Help and documentation. The first argument is docs/configuration.md, which has to be what the table says now; the second
// is the example configuration, which has to be in order.
#include "broker/config_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "broker/config_schema.h"

struct arguments {
  const char *documentation;
  const char *example;
};

static char *read_all(const char *path)
{
  FILE *file = fopen(path, "r");
  if (!file) fail_msg("cannot open %s", path);
  char *text = calloc(1, 1 << 20);
  assert_non_null(text);
  size_t size = fread(text, 1, (1 << 20) - 1, file);
  assert_true(size > 0);
  fclose(file);
  return text;
}

static char *capture(void (*print)(FILE *))
{
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_non_null(file);
  print(file);
  fclose(file);
  return text;
}

static char *topic(const char *name, enum status expected, struct error *error)
{
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_non_null(file);
  assert_int_equal(config_help_topic(file, name, error), expected);
  fclose(file);
  return text;
}

static void documentation_is_up_to_date(void **state)
{
  const struct arguments *arguments = *state;
  char *made = capture(config_help_markdown);
  char *kept = read_all(arguments->documentation);
  if (strcmp(made, kept) != 0) fail_msg("run: skerry help config --markdown > docs/configuration.md");
  free(made);
  free(kept);
}

static void the_example_is_in_order(void **state)
{
  const struct arguments *arguments = *state;
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = arguments->example};
  if (config_load(&source, &config, &diagnostics)) fail_msg("%s", diagnostics.texts[0]);
  assert_int_equal(config.listener_count, 3);
  assert_string_equal(config.metrics.listen.text, "127.0.0.1:9100");
  config_deinit(&config);
}

static void overview_holds_every_key(void **state)
{
  (void)state;
  char *help = capture(config_help_overview);
  char *markdown = capture(config_help_markdown);
  for (size_t i = 0; i < config_key_count; i++) {
    char path[128];
    const struct config_key *key = &config_keys[i];
    config_key_path(key, path, sizeof path);
    assert_non_null(strstr(help, path));
    assert_non_null(strstr(markdown, path));
  }
  for (const char *line = help; *line; line = strchr(line, '\n') + 1) assert_true(strcspn(line, "\n") <= 90);
  free(help);
  free(markdown);
}

static void one_key(void **state)
{
  (void)state;
  char *text = topic("limits.packet_size", OK, NULL);
  assert_string_equal(text, "  limits.packet_size\n"
                            "      The largest MQTT packet that is accepted. Told to 5.0 clients as Maximum Packet\n"
                            "      Size. With a journal, at most half of journal.segment and a quarter of\n"
                            "      journal.reserve.\n"
                            "      Takes a size from 256 to 256MiB. Default: 1MiB.\n");
  free(text);
  text = topic("listeners[].url", OK, NULL);
  assert_non_null(strstr(text, "mqtt://host:port"));
  free(text);
  text = topic("listeners.url", OK, NULL);
  assert_non_null(strstr(text, "mqtt://host:port"));
  free(text);
  text = topic("broker.shards", OK, NULL);
  assert_non_null(strstr(text, "Needs a restart."));
  free(text);
}

static void one_section(void **state)
{
  (void)state;
  char *text = topic("log", OK, NULL);
  assert_non_null(strstr(text, "log.level"));
  assert_non_null(strstr(text, "log.format"));
  assert_null(strstr(text, "limits."));
  free(text);
}

static void nested_and_top_keys(void **state)
{
  (void)state;
  char *text = topic("listeners.tls.cert", OK, NULL);
  assert_non_null(strstr(text, "  listeners[].tls.cert\n"));
  free(text);
  text = topic("auth.jwt.leeway", OK, NULL);
  assert_non_null(strstr(text, "  auth.jwt.leeway\n"));
  free(text);
  text = topic("acl", OK, NULL);
  assert_non_null(strstr(text, "acl:\n"));
  assert_non_null(strstr(text, "  acl_shadow\n"));
  free(text);
  text = topic("acl_denied", OK, NULL);
  assert_non_null(strstr(text, "  acl_denied\n"));
  assert_null(strstr(text, "acl_shadow"));
  free(text);
}

static void unknown_topics(void **state)
{
  (void)state;
  struct error error;
  free(topic("limit", ERR_NOT_FOUND, &error));
  assert_string_equal(error.text, "limit: unknown key; did you mean \"limits\"?");
  free(topic("limits.packetsize", ERR_NOT_FOUND, &error));
  assert_string_equal(error.text, "limits.packetsize: unknown key; did you mean \"packet_size\"?");
}

int main(int argc, char **argv)
{
  if (argc != 3) return 2;
  struct arguments arguments = {.documentation = argv[1], .example = argv[2]};
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_prestate(documentation_is_up_to_date, &arguments),
      cmocka_unit_test_prestate(the_example_is_in_order, &arguments),
      cmocka_unit_test(overview_holds_every_key),
      cmocka_unit_test(one_key),
      cmocka_unit_test(one_section),
      cmocka_unit_test(nested_and_top_keys),
      cmocka_unit_test(unknown_topics),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
