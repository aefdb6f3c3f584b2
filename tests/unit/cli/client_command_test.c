#include "cli/client_command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/commands.h"

struct probe {
  struct client_options client;
  bool wrong;  // what check shall find
  unsigned checks;
  unsigned runs;
  uint16_t keep_alive_s;
  char id[64];
};

static enum status check(void *options, struct client_settings *settings, struct error *error)
{
  struct probe *probe = options;
  probe->checks++;
  settings->keep_alive_s++;
  return probe->wrong ? error_set(error, ERR_INVALID, "as the test wants it") : OK;
}

static int run(void *options, const struct client_settings *settings)
{
  struct probe *probe = options;
  probe->runs++;
  probe->keep_alive_s = settings->keep_alive_s;
  snprintf(probe->id, sizeof probe->id, "%.*s", (int)settings->client_id.size, (const char *)settings->client_id.at);
  return 42;
}

static int command_run(struct probe *probe, const char *first, const char *second)
{
  char words[3][32] = {"probe"};
  char *argv[] = {words[0], words[1], words[2], NULL};
  snprintf(words[1], sizeof words[1], "%s", first);
  snprintf(words[2], sizeof words[2], "%s", second ? second : "");
  const struct option_section sections[] = {client_connection_section(&probe->client),
                                            client_session_section(&probe->client)};
  const struct option_command command = {
      .name = "probe", .summary = "Tests.", .usage = "", .sections = sections, .section_count = 2};
  const struct client_command frame = {
      .command = &command, .client = &probe->client, .options = probe, .check = check, .run = run};
  return client_command_run(&frame, second ? 3 : 2, argv);
}

static void runs_what_is_right(void **state)
{
  (void)state;
  struct probe probe = {0};
  assert_int_equal(command_run(&probe, "-k", "20"), 42);
  assert_int_equal(probe.checks, 1);
  assert_int_equal(probe.runs, 1);
  assert_int_equal(probe.keep_alive_s, 21);  // with what check did to it
  assert_int_equal(strncmp(probe.id, "skerry-probe-", 13), 0);
  assert_int_equal(probe.client.keep_alive_s, 20);
}

static void stops_at_what_is_wrong(void **state)
{
  (void)state;
  struct probe probe = {0};
  assert_int_equal(command_run(&probe, "--no-such-option", NULL), COMMAND_USAGE);
  assert_int_equal(command_run(&probe, "-k", "often"), COMMAND_USAGE);
  assert_int_equal(probe.checks, 0);
  probe = (struct probe){0};
  assert_int_equal(command_run(&probe, "-i", "\xff"), COMMAND_USAGE);  // the client's options do not go
  assert_int_equal(probe.checks, 0);
  probe = (struct probe){.wrong = true};
  assert_int_equal(command_run(&probe, "--quiet", NULL), COMMAND_USAGE);
  assert_int_equal(probe.checks, 1);
  assert_int_equal(probe.runs, 0);
}

static void help_is_no_run(void **state)
{
  (void)state;
  struct probe probe = {0};
  assert_int_equal(command_run(&probe, "--help", NULL), COMMAND_OK);
  assert_int_equal(probe.checks, 0);
  assert_int_equal(probe.runs, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(runs_what_is_right),
      cmocka_unit_test(stops_at_what_is_wrong),
      cmocka_unit_test(help_is_no_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
