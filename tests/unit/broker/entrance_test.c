// From a configuration to gates and a list: what is made, what is told about mistakes, and what goes on when nothing has
// changed.
#include "broker/entrance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t secret[ENTRANCE_SECRET_SIZE] = {1, 2, 3};
static const struct wall now = {INT64_C(1767225600000)};

// A hash of "secret"; what it is of does not matter here.
#define HASH                                                                                                                \
  "$7$101$4gRmZ1y8nBbDQ0QZ$"                                                                                                \
  "mCwIhIjDqwRDxzSsFHyQ0dHYyeUsZTn2cQWVJuFg0yuV0wIG2SYmWlFzBNpbB0Yx2cOvYtGl8ioy5O1M9AMZ4A=="

// Gates that can still be made.
static unsigned gates_left = UINT_MAX;

struct gate *__real_gate_create(void);
struct gate *__wrap_gate_create(void);

struct gate *__wrap_gate_create(void)
{
  return gates_left-- > 0 ? __real_gate_create() : NULL;
}

struct bench {
  char directory[64];
  char file[96];  // of the configuration
  struct config config;
  struct entrance entrance;
  struct diagnostics diagnostics;
};

static void write_file(const struct bench *bench, const char *name, const char *text)
{
  char path[128];
  snprintf(path, sizeof path, "%s/%s", bench->directory, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
  assert_int_equal(chmod(path, 0600), 0);
}

static int set_up(void **state)
{
  struct bench *bench = calloc(1, sizeof *bench);
  assert_non_null(bench);
  strcpy(bench->directory, "/tmp/skerry-entrance-XXXXXX");
  assert_non_null(mkdtemp(bench->directory));
  snprintf(bench->file, sizeof bench->file, "%s/b.yaml", bench->directory);
  *state = bench;
  return 0;
}

static int tear_down(void **state)
{
  struct bench *bench = *state;
  char command[128];
  entrance_deinit(&bench->entrance);
  config_deinit(&bench->config);
  diagnostics_deinit(&bench->diagnostics);
  static const char *const names[] = {"passwd.txt", "own.txt", "acl.yaml", "next.yaml", "keys.json"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    snprintf(command, sizeof command, "%s/%s", bench->directory, names[i]);
    (void)unlink(command);
  }
  assert_int_equal(rmdir(bench->directory), 0);
  free(bench);
  return 0;
}

static struct config load(const struct bench *bench, const char *text)
{
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = bench->file};
  if (config_load_text(span_text(text), &source, &config, &diagnostics) != OK) fail_msg("%s", diagnostics.texts[0]);
  return config;
}

static enum status build(struct bench *bench, const char *text)
{
  bench->config = load(bench, text);
  return entrance_build(&bench->config, bench->file, secret, now, NULL, &bench->entrance, &bench->diagnostics);
}

static void assert_message(const struct bench *bench, size_t index, const char *part)
{
  if (index >= bench->diagnostics.count) fail_msg("there is no message %zu", index);
  if (!strstr(bench->diagnostics.texts[index], part)) fail_msg("%s", bench->diagnostics.texts[index]);
}

static void without_security_there_is_nothing(void **state)
{
  struct bench *bench = *state;
  assert_int_equal(build(bench, "listeners: [mqtt://127.0.0.1:1]\n"), OK);
  assert_int_equal(bench->entrance.count, 1);
  assert_null(bench->entrance.gates[0]);
  assert_null(bench->entrance.acl);
  assert_int_equal(bench->entrance.files.count, 0);
  assert_false(entrance_has_secrets(&bench->config));
  assert_int_equal(entrance_end_ms(&bench->entrance, 0), 0);
}

static void gates_are_filled(void **state)
{
  struct bench *bench = *state;
  write_file(bench, "passwd.txt", "ann:" HASH "\n");
  write_file(bench, "own.txt", "bob:" HASH "\neve:" HASH "\n");
  assert_int_equal(build(bench, "listeners:\n"
                                "  - {url: mqtt://127.0.0.1:1, name: one, auth: [password]}\n"
                                "  - {url: mqtt://127.0.0.1:2, auth: [scram, password], anonymous: true}\n"
                                "  - {url: mqtt://127.0.0.1:3, auth: [password], passwords: own.txt}\n"
                                "  - mqtt://127.0.0.1:4\n"
                                "auth: {passwords: passwd.txt}\n"),
                   OK);
  struct gate *const *gates = bench->entrance.gates;
  assert_string_equal(gates[0]->name, "one");
  assert_false(gates[0]->anonymous);
  assert_int_equal(gates[0]->method_count, 1);
  assert_int_equal(gates[0]->methods[0], AUTH_PASSWORD);
  assert_memory_equal(gates[0]->secret, secret, sizeof secret);
  assert_string_equal(gates[1]->name, "mqtt://127.0.0.1:2");
  assert_true(gates[1]->anonymous);
  assert_int_equal(gates[1]->methods[0], AUTH_SCRAM);
  // One file is read once, whoever uses it.
  assert_ptr_equal(gates[0]->passwords, gates[1]->passwords);
  assert_int_equal(passwords_users(gates[0]->passwords), 1);
  assert_int_equal(passwords_users(gates[2]->passwords), 2);
  assert_null(gates[3]);
  assert_int_equal(bench->entrance.files.count, 2);
  assert_true(entrance_has_secrets(&bench->config));
}

// Rules may name listeners, so everybody has to come by a gate that knows its listener's name.
static void a_list_needs_gates_everywhere(void **state)
{
  struct bench *bench = *state;
  assert_int_equal(build(bench, "listeners: [mqtt://127.0.0.1:1]\nacl:\n"
                                "  - {who: \"listener:*\", allow: [publish], topics: [\"a/#\"]}\n"
                                "  - {who: \"*\", deny: [publish], topics: [\"b\"]}\n"),
                   OK);
  assert_non_null(bench->entrance.gates[0]);
  assert_true(bench->entrance.gates[0]->anonymous);
  assert_int_equal(acl_rule_count(bench->entrance.acl), 2);
  assert_false(entrance_has_secrets(&bench->config));
}

static void mistakes_name_their_place(void **state)
{
  struct bench *bench = *state;
  write_file(bench, "own.txt", "nonsense\n");
  assert_int_equal(build(bench, "listeners:\n"
                                "  - {url: mqtt://127.0.0.1:1, auth: [password]}\n"
                                "  - {url: mqtt://127.0.0.1:2, auth: [password], passwords: own.txt}\n"
                                "  - {url: mqtt://127.0.0.1:3, auth: [jwt]}\n"
                                "  - {url: mqtt://127.0.0.1:4, auth: [jwt]}\n"
                                "auth: {passwords: passwd.txt, jwt: {jwks: keys.json}}\n"
                                "acl:\n  - {who: nobody}\n"),
                   ERR_INVALID);
  assert_message(bench, 0, "/b.yaml:6:19: auth.passwords: ");
  assert_message(bench, 0, "passwd.txt");
  assert_message(bench, 1, "/b.yaml:3:60: listeners[1].passwords: ");
  assert_message(bench, 1, "own.txt:1:");
  assert_message(bench, 2, "/b.yaml:6:43: auth.jwt.jwks: ");  // once
  assert_message(bench, 3, "/b.yaml:8");
  for (size_t i = 0; i < 4; i++) {
    assert_true(bench->entrance.failed[i]);
    assert_null(bench->entrance.gates[i]);
  }
  assert_true(bench->entrance.acl_failed);
  // Files that are wrong are watched all the same.
  assert_int_equal(bench->entrance.files.count, 3);
}

static void what_is_good_is_there_in_spite_of_the_rest(void **state)
{
  struct bench *bench = *state;
  write_file(bench, "passwd.txt", "ann:" HASH "\n");
  assert_int_equal(build(bench, "listeners:\n"
                                "  - {url: mqtt://127.0.0.1:1, auth: [password]}\n"
                                "  - {url: mqtt://127.0.0.1:2, auth: [password], passwords: own.txt}\n"
                                "auth: {passwords: passwd.txt}\nacl: acl.yaml\n"),
                   ERR_INVALID);
  assert_non_null(bench->entrance.gates[0]);
  assert_false(bench->entrance.failed[0]);
  assert_true(bench->entrance.failed[1]);
  assert_true(bench->entrance.acl_failed);
}

static void what_memory_did_not_do_for_is_failed(void **state)
{
  struct bench *bench = *state;
  write_file(bench, "passwd.txt", "ann:" HASH "\n");
  write_file(bench, "acl.yaml", "- {who: \"*\", allow: [publish], topics: [a]}\n");
  gates_left = 1;
  enum status status = build(bench, "listeners:\n"
                                    "  - {url: mqtt://127.0.0.1:1, auth: [password]}\n"
                                    "  - {url: mqtt://127.0.0.1:2, auth: [password]}\n"
                                    "  - mqtt://127.0.0.1:3\n"
                                    "auth: {passwords: passwd.txt}\n"
                                    "acl: acl.yaml\n");
  gates_left = UINT_MAX;
  assert_int_equal(status, ERR_NO_MEMORY);
  assert_non_null(bench->entrance.gates[0]);
  assert_false(bench->entrance.failed[0]);
  assert_true(bench->entrance.failed[1]);
  assert_true(bench->entrance.failed[2]);
  assert_true(bench->entrance.acl_failed);
}

static void a_pattern_that_is_none(void **state)
{
  struct bench *bench = *state;
  write_file(bench, "passwd.txt", "ann:" HASH "\n");
  bench->config =
      load(bench, "listeners:\n  - {url: mqtt://127.0.0.1:1, auth: [password]}\nauth: {passwords: passwd.txt}\n");
  bench->config.listeners[0].identity = strdup("cert.shoe_size");
  assert_int_equal(entrance_build(&bench->config, bench->file, secret, now, NULL, &bench->entrance, &bench->diagnostics),
                   ERR_INVALID);
  assert_message(bench, 0, "listeners[0].identity: ");
}

static const char twice[] = "listeners:\n  - {url: mqtt://127.0.0.1:1, auth: [password]}\nauth: {passwords: passwd.txt}\n"
                            "acl: acl.yaml\n";

static void what_has_not_changed_goes_on(void **state)
{
  struct bench *bench = *state;
  write_file(bench, "passwd.txt", "ann:" HASH "\n");
  write_file(bench, "acl.yaml", "- {who: \"*\", allow: [publish], topics: [a]}\n");
  assert_int_equal(build(bench, twice), OK);
  const struct entrance_before before = {.config = &bench->config, .entrance = &bench->entrance};
  struct config config = load(bench, twice);
  struct entrance next;
  assert_int_equal(entrance_build(&config, bench->file, secret, now, &before, &next, &bench->diagnostics), OK);
  assert_ptr_equal(next.gates[0]->passwords, bench->entrance.gates[0]->passwords);
  assert_int_equal(next.fingerprint, bench->entrance.fingerprint);
  entrance_deinit(&next);
  write_file(bench, "passwd.txt", "ann:" HASH "\nbob:" HASH "\n");
  assert_int_equal(entrance_build(&config, bench->file, secret, now, &before, &next, &bench->diagnostics), OK);
  assert_ptr_not_equal(next.gates[0]->passwords, bench->entrance.gates[0]->passwords);
  assert_int_equal(passwords_users(next.gates[0]->passwords), 2);
  assert_int_not_equal(next.fingerprint, bench->entrance.fingerprint);
  entrance_deinit(&next);
  config_deinit(&config);
}

static void a_list_on_trial(void **state)
{
  struct bench *bench = *state;
  write_file(bench, "acl.yaml", "- {who: \"*\", allow: [publish], topics: [a]}\n");
  assert_int_equal(build(bench, "acl: acl.yaml\nacl_shadow: next.yaml\n"), ERR_INVALID);
  assert_message(bench, 0, "next.yaml");
  assert_null(bench->entrance.acl);
  write_file(bench, "next.yaml", "- {who: \"*\", deny: [publish], topics: [a]}\n");
  entrance_deinit(&bench->entrance);
  assert_int_equal(entrance_build(&bench->config, bench->file, secret, now, NULL, &bench->entrance, &bench->diagnostics),
                   OK);
  assert_int_equal(bench->entrance.files.count, 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(without_security_there_is_nothing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(gates_are_filled, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_list_needs_gates_everywhere, set_up, tear_down),
      cmocka_unit_test_setup_teardown(mistakes_name_their_place, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_is_good_is_there_in_spite_of_the_rest, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_memory_did_not_do_for_is_failed, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_pattern_that_is_none, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_has_not_changed_goes_on, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_list_on_trial, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
