#include "broker/config_schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static const struct config_key *find(const char *section, const char *name)
{
  const struct config_key *key = config_find_key(section, name);
  if (!key) fail_msg("no key %s.%s", section, name);
  return key;
}

// Sets a key in a fresh configuration and gives back how it is written then; NULL and the message in `out` when refused.
static const char *set(const char *section, const char *name, const char *text, char out[512])
{
  struct config config;
  struct listener_config listener = {0};
  struct error error = {0};
  assert_int_equal(config_init(&config), OK);
  const struct config_key *key = find(section, name);
  bool list = config_find_section(section)->list;
  void *object = list ? (void *)&listener : (void *)&config;
  bool good = config_value_parse(key, text, object, &error) == OK;
  if (good)
    config_value_format(key, object, out, 512);
  else
    memcpy(out, error.text, sizeof error.text);
  if (list) config_value_deinit(key, object);
  config_deinit(&config);
  return good ? out : NULL;
}

static void assert_value(const char *section, const char *name, const char *text, const char *written)
{
  char out[512];
  if (!set(section, name, text, out)) fail_msg("%s.%s = %s: %s", section, name, text, out);
  assert_string_equal(out, written);
}

static void assert_refused(const char *section, const char *name, const char *text, const char *message)
{
  char out[512];
  if (set(section, name, text, out)) fail_msg("%s.%s = %s was taken", section, name, text);
  assert_string_equal(out, message);
}

static void integers(void **state)
{
  (void)state;
  assert_value("limits", "connections", "1", "1");
  assert_value("limits", "connections", "10000000", "10000000");
  assert_refused("limits", "connections", "0", "\"0\" is too small; write a whole number from 1 to 10000000, such as 10000");
  assert_refused("limits", "connections", "10000001",
                 "\"10000001\" is too large; write a whole number from 1 to 10000000, such as 10000");
  assert_refused("limits", "connections", "99999999999999999999999999",
                 "\"99999999999999999999999999\" is too large; write a whole number from 1 to 10000000, such as 10000");
  static const char *const wrong[] = {"", "many", "-1", "1.5", "1e3", "0x10", " 1", "1 ", "1KiB"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    char out[512];
    assert_null(set("limits", "connections", wrong[i], out));
    assert_non_null(strstr(out, "is not a whole number; write a whole number from 1 to 10000000, such as 10000"));
  }
}

static void words_for_special_values(void **state)
{
  (void)state;
  assert_value("broker", "shards", "auto", "auto");
  assert_value("broker", "shards", "0", "auto");
  assert_value("broker", "shards", "16", "16");
  assert_refused("broker", "shards", "17", "\"17\" is too large; write a whole number from 1 to 16, or \"auto\", such as 2");
  assert_value("limits", "session_expiry_max", "never", "never");
  assert_value("limits", "keep_alive_max", "unlimited", "unlimited");
  assert_value("limits", "queue_messages", "0", "unlimited");
  assert_value("sys", "interval", "off", "off");
  assert_value("sys", "interval", "0", "off");
  assert_value("sys", "interval", "0s", "off");
}

static void sizes(void **state)
{
  (void)state;
  assert_value("limits", "packet_size", "256", "256");
  assert_value("limits", "packet_size", "300B", "300");
  assert_value("limits", "packet_size", "64KiB", "64KiB");
  assert_value("limits", "packet_size", "65536", "64KiB");
  assert_value("limits", "packet_size", "1 MiB", "1MiB");
  assert_value("limits", "packet_size", "256MiB", "256MiB");
  assert_value("broker", "memory_limit", "1TiB", "1TiB");
  assert_value("broker", "memory_limit", "1536MiB", "1536MiB");
  assert_refused("limits", "packet_size", "255", "\"255\" is too small; write a size from 256 to 256MiB, such as 1MiB");
  assert_refused("limits", "packet_size", "1GiB", "\"1GiB\" is too large; write a size from 256 to 256MiB, such as 1MiB");
  assert_refused(
      "limits", "packet_size", "1MB",
      "\"1MB\" has an unknown unit (known are B, KiB, MiB, GiB and TiB); write a size from 256 to 256MiB, such as 1MiB");
  assert_refused("limits", "packet_size", "1.5MiB",
                 "\"1.5MiB\" is not a whole number of units; write a size from 256 to 256MiB, such as 1MiB");
  assert_refused("limits", "packet_size", "big", "\"big\" is not a size; write a size from 256 to 256MiB, such as 1MiB");
  assert_refused("broker", "memory_limit", "99999999999TiB",
                 "\"99999999999TiB\" is too large; write a size from 4MiB to 1TiB, such as 64MiB");
}

static void durations(void **state)
{
  (void)state;
  assert_value("limits", "connect_timeout", "500ms", "500ms");
  assert_value("limits", "connect_timeout", "90s", "1m30s");
  assert_value("limits", "connect_timeout", "1m30s", "1m30s");
  assert_value("limits", "connect_timeout", "1500ms", "1s500ms");
  assert_value("limits", "keep_alive_max", "1h", "1h");
  assert_value("limits", "keep_alive_max", "65535s", "18h12m15s");
  assert_value("limits", "session_expiry_max", "7d", "7d");
  assert_value("limits", "session_expiry_max", "0", "0s");
  assert_value("limits", "session_expiry_max", "1d2h3m4s", "1d2h3m4s");
  assert_refused("limits", "connect_timeout", "10", "\"10\" has no unit; write a duration from 100ms to 10m, such as 10s");
  assert_refused(
      "limits", "connect_timeout", "10sec",
      "\"10sec\" has an unknown unit (known are ms, s, m, h and d); write a duration from 100ms to 10m, such as 10s");
  assert_refused("limits", "connect_timeout", "99ms",
                 "\"99ms\" is too small; write a duration from 100ms to 10m, such as 10s");
  assert_refused("limits", "connect_timeout", "11m",
                 "\"11m\" is too large; write a duration from 100ms to 10m, such as 10s");
  assert_refused("limits", "connect_timeout", "1.5s",
                 "\"1.5s\" is not a whole number of units; write a duration from 100ms to 10m, such as 10s");
  assert_refused("limits", "connect_timeout", "5s1m",
                 "\"5s1m\" has its units in the wrong order; write a duration from 100ms to 10m, such as 10s");
  assert_refused("limits", "connect_timeout", "1s1s",
                 "\"1s1s\" has its units in the wrong order; write a duration from 100ms to 10m, such as 10s");
  assert_refused("limits", "connect_timeout", "soon",
                 "\"soon\" is not a duration; write a duration from 100ms to 10m, such as 10s");
  assert_refused(
      "limits", "keep_alive_max", "1500ms",
      "\"1500ms\" is not a whole number of seconds; write a duration from 1s to 18h12m15s, or \"unlimited\", such as 1h");
  assert_refused("limits", "connect_timeout", "999999999999999999d",
                 "\"999999999999999999d\" is too large; write a duration from 100ms to 10m, such as 10s");
}

static void truth_values(void **state)
{
  (void)state;
  assert_value("listeners", "proxy_protocol", "true", "true");
  assert_value("listeners", "proxy_protocol", "false", "false");
  assert_refused("listeners", "proxy_protocol", "yes", "\"yes\" is not a truth value; write true or false");
  assert_refused("listeners", "proxy_protocol", "True", "\"True\" is not a truth value; write true or false");
  assert_refused("listeners", "proxy_protocol", "1", "\"1\" is not a truth value; write true or false");
}

static void choices(void **state)
{
  (void)state;
  assert_value("log", "level", "debug", "debug");
  assert_value("log", "format", "json", "json");
  assert_value("shared_subscriptions", "strategy", "least_in_flight", "least_in_flight");
  assert_refused("log", "level", "warn", "\"warn\" is not one of the choices; write error, warning, info or debug");
  assert_refused("log", "level", "INFO", "\"INFO\" is not one of the choices; write error, warning, info or debug");
  assert_refused("log", "format", "", "\"\" is not one of the choices; write text or json");
}

static void modes(void **state)
{
  (void)state;
  assert_value("listeners", "mode", "0600", "0600");
  assert_value("listeners", "mode", "660", "0660");
  assert_value("listeners", "mode", "0o666", "0666");
  assert_value("listeners", "mode", "0", "0000");
  assert_refused("listeners", "mode", "0888",
                 "\"0888\" is not octal; write octal permissions from 0000 to 0777, such as 0660");
  assert_refused("listeners", "mode", "1777",
                 "\"1777\" is too large; write octal permissions from 0000 to 0777, such as 0660");
  assert_refused("listeners", "mode", "rw-",
                 "\"rw-\" is not octal; write octal permissions from 0000 to 0777, such as 0660");
}

static void texts(void **state)
{
  (void)state;
  assert_value("broker", "id", "cell-7", "cell-7");
  assert_value("broker", "id", "Z\xc3\xbcrich", "Z\xc3\xbcrich");
  assert_value("broker", "data", "/var/lib/skerry", "/var/lib/skerry");
  assert_refused("broker", "id", "", "\"\" is empty; write a text of at most 128 bytes, such as cell-7");
  assert_refused("broker", "id", "a/b",
                 "\"a/b\" holds one of the characters /+#; write a text of at most 128 bytes, such as cell-7");
  assert_refused("broker", "id", "a\nb",
                 "\"a?b\" holds a control character; write a text of at most 128 bytes, such as cell-7");
  assert_refused("broker", "id", "a\xff", "\"a?\" is not UTF-8; write a text of at most 128 bytes, such as cell-7");
  char long_text[131];
  char out[512];
  memset(long_text, 'x', sizeof long_text);
  long_text[129] = '\0';
  assert_null(set("broker", "id", long_text, out));
  assert_string_equal(out, "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\" is too long; write a text of at most 128 bytes, "
                           "such as cell-7");
  long_text[128] = '\0';
  assert_non_null(set("broker", "id", long_text, out));
}

static void addresses(void **state)
{
  (void)state;
  assert_value("metrics", "listen", "127.0.0.1:9100", "127.0.0.1:9100");
  assert_value("listeners", "url", "ws://[::1]:8083/mqtt", "ws://[::1]:8083/mqtt");
  assert_refused("metrics", "listen", "9100", "the port is missing; write host:port, such as 127.0.0.1:9100");
}

static void words(void **state)
{
  (void)state;
  assert_value("listeners", "auth", "[cert, password]", "[cert, password]");
  assert_value("listeners", "auth", "jwt,scram", "[jwt, scram]");
  assert_value("listeners", "auth", "psk", "[psk]");
  assert_value("listeners", "auth", "[]", "");
  assert_refused("listeners", "auth", "cert,magic",
                 "\"cert,magic\" holds an unknown word; write a list of cert, password, jwt, scram or psk, such as "
                 "[cert, password]");
  assert_refused(
      "listeners", "auth", "jwt,jwt",
      "\"jwt,jwt\" holds a word twice; write a list of cert, password, jwt, scram or psk, such as [cert, password]");
  assert_refused(
      "listeners", "tls.certificates", "a.pem",
      "\"a.pem\" is no list of certificates; it can be written in the file only; write a list of {cert: FILE, key: "
      "FILE, ocsp: FILE}, such as [{cert: b.pem, key: b.key}]");
}

static void a_refused_value_changes_nothing(void **state)
{
  (void)state;
  struct config config;
  struct error error;
  assert_int_equal(config_init(&config), OK);
  assert_int_equal(config_set(&config, "broker.id", "one", &error), OK);
  assert_int_equal(config_set(&config, "broker.id", "t/wo", &error), ERR_INVALID);
  assert_string_equal(config.broker.id, "one");
  assert_int_equal(config_set(&config, "metrics.listen", "127.0.0.1:1", &error), OK);
  assert_int_equal(config_set(&config, "metrics.listen", "127.0.0.1", &error), ERR_INVALID);
  assert_string_equal(config.metrics.listen.text, "127.0.0.1:1");
  assert_int_equal(config_set(&config, "limits.in_flight", "65536", &error), ERR_INVALID);
  assert_int_equal(config.limits.in_flight, 32);
  config_deinit(&config);
}

// Every row: its default and its ends are written as they are read, and it says what it takes.
static void every_row_of_the_table(void **state)
{
  (void)state;
  for (size_t i = 0; i < config_key_count; i++) {
    const struct config_key *key = &config_keys[i];
    char text[512];
    char again[512];
    config_value_expected(key, text, sizeof text);
    assert_true(strlen(text) > 0);
    assert_true(strlen(key->help) > 10);
    assert_int_equal(key->help[strlen(key->help) - 1], '.');
    assert_true(key->default_text || key->default_note);
    assert_non_null(config_find_section(key->section));
    assert_ptr_equal(config_find_key(key->section, key->name), key);
    const char *const samples[] = {key->default_text, key->example, key->special_word};
    for (size_t j = 0; j < sizeof samples / sizeof samples[0]; j++) {
      if (!samples[j] || key->type == CONFIG_CERTIFICATES) continue;  // these are written in a file only
      if (!set(key->section, key->name, samples[j], text)) fail_msg("%s.%s: %s", key->section, key->name, text);
      assert_string_equal(text, samples[j]);
      assert_non_null(set(key->section, key->name, text, again));
      assert_string_equal(again, text);
    }
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(integers),
      cmocka_unit_test(words_for_special_values),
      cmocka_unit_test(sizes),
      cmocka_unit_test(durations),
      cmocka_unit_test(truth_values),
      cmocka_unit_test(choices),
      cmocka_unit_test(modes),
      cmocka_unit_test(texts),
      cmocka_unit_test(addresses),
      cmocka_unit_test(words),
      cmocka_unit_test(a_refused_value_changes_nothing),
      cmocka_unit_test(every_row_of_the_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
