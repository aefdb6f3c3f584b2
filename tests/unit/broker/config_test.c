// Loading: defaults, the example of the documentation, every class of mistake, overrides.
#include "broker/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/config_schema.h"

static struct config load_good(const char *text)
{
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = "broker.yaml"};
  if (config_load_text(span_text(text), &source, &config, &diagnostics))
    fail_msg("%s", diagnostics.count ? diagnostics.texts[0] : "no message");
  assert_int_equal(diagnostics.count, 0);
  return config;
}

// The text must give exactly these messages, one a line.
static void assert_messages(const char *text, const char *expected)
{
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = "broker.yaml"};
  char all[8192] = "";
  size_t n = 0;
  assert_int_equal(config_load_text(span_text(text), &source, &config, &diagnostics), ERR_INVALID);
  for (size_t i = 0; i < diagnostics.count; i++)
    n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? "\n" : "", diagnostics.texts[i]);
  assert_string_equal(all, expected);
  diagnostics_deinit(&diagnostics);
}

static void nothing_gives_the_defaults(void **state)
{
  (void)state;
  static const char *const texts[] = {"",  "# only a comment\n",         "---\n", "limits:\n", "{}",
                                      "~", "\xef\xbb\xbf# with a mark\n"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    struct config config = load_good(texts[i]);
    assert_int_equal(config.listener_count, 1);
    assert_string_equal(config.listeners[0].address.text, "mqtt://127.0.0.1:1883");
    assert_true(config.listeners[0].anonymous);
    assert_null(config.broker.id);
    assert_null(config.broker.data);
    assert_int_equal(config.broker.shards, 0);
    assert_int_equal(config.broker.memory_limit_bytes, 64 << 20);
    assert_int_equal(config.connections, 10000);
    assert_int_equal(config.connection_rate, 0);
    assert_int_equal(config.limits.packet_size, 1 << 20);
    assert_int_equal(config.limits.in_flight, 32);
    assert_int_equal(config.limits.queue_messages, 100000);
    assert_int_equal(config.limits.queue_bytes, 64 << 20);
    assert_int_equal(config.limits.queue_age_s, 7 * 86400);
    assert_int_equal(config.limits.queue_drop, QUEUE_DROP_OLDEST);
    assert_int_equal(config.limits.output_bytes, 1 << 20);
    assert_int_equal(config.limits.topic_alias, 32);
    assert_int_equal(config.limits.topic_levels, 1024);
    assert_int_equal(config.limits.subscriptions, 10000);
    assert_int_equal(config.limits.retained_messages, 100000);
    assert_int_equal(config.limits.retained_bytes, 256 << 20);
    assert_int_equal(config.journal.durability, DURABILITY_COMMIT);
    assert_int_equal(config.journal.interval_ms, 100);
    assert_int_equal(config.journal.segment_bytes, 16 << 20);
    assert_int_equal(config.journal.limit_bytes, UINT64_C(8) << 30);
    assert_int_equal(config.journal.reserve_bytes, 64 << 20);
    assert_int_equal(config.journal.replay_bytes, 64 << 20);
    assert_false(config_has_journal(&config));
    assert_int_equal(config.limits.keep_alive_max_s, 3600);
    assert_int_equal(config.limits.session_expiry_max_s, 7 * 86400);
    assert_int_equal(config.limits.connect_timeout_ms, 10000);
    assert_int_equal(config.limits.share_strategy, SHARE_ROUND_ROBIN);
    assert_null(config.metrics.listen.text);
    assert_int_equal(config.sys.interval_s, 10);
    assert_int_equal(config.log.level, LOG_INFO);
    assert_int_equal(config.log.format, LOG_TEXT);
    config_deinit(&config);
  }
}

// Simulation and unit tests of the shard run with limits_default: they have to test what users get.
static void limits_default_is_the_same(void **state)
{
  (void)state;
  struct config ours = load_good("");
  struct config theirs = load_good("");
  struct config_changes changes;
  theirs.limits = limits_default();
  assert_int_equal(config_diff(&ours, &theirs, &changes), OK);
  for (size_t i = 0; i < changes.count; i++)
    fail_msg("%s: %s in the table, %s in limits_default", changes.items[i].path, changes.items[i].before,
             changes.items[i].after);
  config_changes_deinit(&changes);
  config_deinit(&ours);
  config_deinit(&theirs);
}

static void no_file_gives_the_defaults(void **state)
{
  (void)state;
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {0};
  assert_int_equal(config_load(&source, &config, &diagnostics), OK);
  assert_int_equal(config.listener_count, 1);
  assert_int_equal(config.listeners[0].mark.line, 0);
  config_deinit(&config);
}

static void a_whole_file(void **state)
{
  (void)state;
  struct config config =
      load_good("broker: {id: cell-7, data: ./store, shards: 2, memory_limit: 128MiB}\n"
                "listeners:\n"
                "  - {url: \"mqtt://127.0.0.1:1883\", anonymous: true}\n"
                "  - {url: \"ws://0.0.0.0:8083/mqtt\", anonymous: true}\n"
                "  - {url: \"unix:///run/skerry/broker.sock\", mode: 0600}\n"
                "  - {url: \"mqtt://[::]:1884\", anonymous: true}\n"
                "  - url: systemd://mqtt\n"
                "    anonymous: true\n"
                "    proxy_protocol: true\n"
                "    max_connections: 50\n"
                "limits: {connections: 20000, packet_size: 2MiB, in_flight: 64, queue_messages: 2000, topic_alias: 16, "
                "keep_alive_max: 30m,\n"
                "         session_expiry_max: 1d, connect_timeout: 500ms, topic_levels: 10, connection_rate: 100,\n"
                "         queue_age: 1h30m, queue_drop: reject}\n"
                "journal: {durability: interval, interval: 1s, segment: 4MiB, limit: 1GiB, reserve: 8MiB, replay: 8MiB}\n"
                "shared_subscriptions: {strategy: sticky}\n"
                "metrics: {listen: \"127.0.0.1:9100\"}\n"
                "sys: {interval: 1m}\n"
                "log: {level: debug, format: json}\n");
  assert_string_equal(config.broker.id, "cell-7");
  assert_string_equal(config.broker.data, "./store");
  assert_int_equal(config.broker.shards, 2);
  assert_int_equal(config.broker.memory_limit_bytes, 128 << 20);
  assert_int_equal(config.listener_count, 5);
  assert_int_equal(config.listeners[0].address.kind, LISTEN_TCP);
  assert_true(config.listeners[0].anonymous);
  assert_int_equal(config.listeners[0].mark.line, 3);
  assert_true(config.listeners[1].anonymous);
  assert_int_equal(config.listeners[1].mode, 0660);
  assert_true(config.listeners[2].anonymous);
  assert_int_equal(config.listeners[2].mode, 0600);
  assert_int_equal(config.listeners[3].address.port, 1884);
  assert_int_equal(config.listeners[4].address.kind, LISTEN_SYSTEMD);
  assert_true(config.listeners[4].proxy_protocol);
  assert_int_equal(config.listeners[4].max_connections, 50);
  assert_int_equal(config.connections, 20000);
  assert_int_equal(config.connection_rate, 100);
  assert_int_equal(config.limits.packet_size, 2 << 20);
  assert_int_equal(config.limits.in_flight, 64);
  assert_int_equal(config.limits.queue_messages, 2000);
  assert_int_equal(config.limits.topic_alias, 16);
  assert_int_equal(config.limits.topic_levels, 10);
  assert_int_equal(config.limits.keep_alive_max_s, 1800);
  assert_int_equal(config.limits.session_expiry_max_s, 86400);
  assert_int_equal(config.limits.connect_timeout_ms, 500);
  assert_int_equal(config.limits.share_strategy, SHARE_STICKY);
  assert_int_equal(config.limits.queue_age_s, 5400);
  assert_int_equal(config.limits.queue_drop, QUEUE_REJECT);
  assert_int_equal(config.journal.durability, DURABILITY_INTERVAL);
  assert_int_equal(config.journal.interval_ms, 1000);
  assert_int_equal(config.journal.segment_bytes, 4 << 20);
  assert_int_equal(config.journal.limit_bytes, 1 << 30);
  assert_int_equal(config.journal.reserve_bytes, 8 << 20);
  assert_int_equal(config.journal.replay_bytes, 8 << 20);
  assert_true(config_has_journal(&config));
  assert_int_equal(config.metrics.listen.port, 9100);
  assert_int_equal(config.sys.interval_s, 60);
  assert_int_equal(config.log.level, LOG_DEBUG);
  assert_int_equal(config.log.format, LOG_JSON);
  config_deinit(&config);
}

static void aliases_are_values(void **state)
{
  (void)state;
  struct config config = load_good("limits: {queue_bytes: &size 4MiB, output_bytes: *size}\n"
                                   "listeners: &all [mqtt://127.0.0.1:1]\n");
  assert_int_equal(config.limits.queue_bytes, 4 << 20);
  assert_int_equal(config.limits.output_bytes, 4 << 20);
  config_deinit(&config);
  assert_messages("listeners: &self [*self]\n",
                  "broker.yaml:1:12: listeners[0]: has to be a URL or a mapping; write {url: \"mqtt://127.0.0.1:1883\"}");
  assert_messages("limits: &self\n  connections: *self\n",
                  "broker.yaml:1:9: limits.connections: is a section; write a whole number from 1 to 10000000");
}

static void quoted_values_and_null(void **state)
{
  (void)state;
  struct config config =
      load_good("limits: {connections: \"77\"}\nmetrics: {listen: }\nbroker: {id: ~}\nlog:\nlisteners:\n");
  assert_int_equal(config.connections, 77);
  assert_null(config.metrics.listen.text);
  assert_null(config.broker.id);
  config_deinit(&config);
  config = load_good("broker: {id: \"null\"}\n");
  assert_string_equal(config.broker.id, "null");
  config_deinit(&config);
}

static void unknown_keys_are_told_all_that_are_known(void **state)
{
  (void)state;
  for (size_t i = 0; i < config_key_count; i++) {
    char message[CONFIG_UNKNOWN_KEY_SIZE], name[CONFIG_NAME_SIZE];
    const struct config_key *key = &config_keys[i];
    if (!key->section[0]) continue;
    config_unknown_key(key->section, "nothing_that_is_near", message, sizeof message);
    snprintf(name, sizeof name, " %.*s", (int)strcspn(key->name, "."), key->name);
    assert_non_null(strstr(message, name));
  }
}

static void unknown_keys_name_the_nearest(void **state)
{
  (void)state;
  assert_messages("limits:\n  conections: 5\n",
                  "broker.yaml:2:3: limits.conections: unknown key; did you mean \"connections\"?");
  assert_messages("limit: {}\n", "broker.yaml:1:1: limit: unknown key; did you mean \"limits\"?");
  assert_messages("Listeners: []\n", "broker.yaml:1:1: Listeners: unknown key; did you mean \"listeners\"?");
  assert_messages("limits: {in_filght: 5}\n",
                  "broker.yaml:1:10: limits.in_filght: unknown key; did you mean \"in_flight\"?");
  // The right word in the wrong place.
  assert_messages("broker: {packet_size: 5}\n",
                  "broker.yaml:1:10: broker.packet_size: unknown key; did you mean \"limits.packet_size\"?");
  assert_messages("packet_size: 5\n", "broker.yaml:1:1: packet_size: unknown key; did you mean \"limits.packet_size\"?");
  assert_messages("anonymus: true\n", "broker.yaml:1:1: anonymus: unknown key; did you mean \"listeners[].anonymous\"?");
  // Nothing near: all that would be possible.
  assert_messages("log: {colour: true}\n", "broker.yaml:1:7: log.colour: unknown key; known here: level, format");
  assert_messages("x: 1\n", "broker.yaml:1:1: x: unknown key; known here: broker, listeners, auth, limits, journal, "
                            "shared_subscriptions, metrics, control, sys, log, acl, acl_shadow, acl_denied");
  assert_messages("listeners: [{url: mqtt://127.0.0.1, anonymos: true}]\n",
                  "broker.yaml:1:37: listeners[0].anonymos: unknown key; did you mean \"anonymous\"?");
  assert_messages("\"a\\tb\": 1\n",
                  "broker.yaml:1:1: a?b: unknown key; known here: broker, listeners, auth, limits, "
                  "journal, shared_subscriptions, metrics, control, sys, log, acl, acl_shadow, acl_denied");
}

static void all_mistakes_are_told(void **state)
{
  (void)state;
  assert_messages(
      "broker: {shards: many}\n"
      "limits:\n"
      "  conections: 5\n"
      "  packet_size: 1\n"
      "listeners:\n"
      "  - {anonymous: true}\n",
      "broker.yaml:1:18: broker.shards: \"many\" is not a whole number; write a whole number from 1 to 16, or \"auto\", "
      "such as 2\n"
      "broker.yaml:3:3: limits.conections: unknown key; did you mean \"connections\"?\n"
      "broker.yaml:4:16: limits.packet_size: \"1\" is too small; write a size from 256 to 256MiB, such as 1MiB\n"
      "broker.yaml:6:5: listeners[0].url: is missing; write a URL, such as mqtt://127.0.0.1:1883");
}

static void wrong_kinds(void **state)
{
  (void)state;
  assert_messages("limits: 5\n", "broker.yaml:1:9: limits: is a value; write its keys below it, indented");
  assert_messages("limits: [a]\n", "broker.yaml:1:9: limits: is a list; write its keys below it, indented");
  assert_messages("limits: {connections: [1]}\n",
                  "broker.yaml:1:23: limits.connections: is a list; write a whole number from 1 to 10000000");
  assert_messages("log: {level: {a: b}}\n",
                  "broker.yaml:1:14: log.level: is a section; write error, warning, info or debug");
  assert_messages("- a\n", "broker.yaml:1:1: the file is a list; write sections such as \"listeners:\" and \"limits:\"");
  assert_messages("hello\n", "broker.yaml:1:1: the file is a value; write sections such as \"listeners:\" and \"limits:\"");
  assert_messages("listeners: mqtt://127.0.0.1\n",
                  "broker.yaml:1:12: listeners: is a value; write a list, each item on a line that starts with a dash");
  assert_messages("listeners: {url: mqtt://127.0.0.1}\n",
                  "broker.yaml:1:12: listeners: is a section; write a list, each item on a line that starts with a dash");
  assert_messages("listeners: []\n",
                  "broker.yaml:1:12: listeners: is empty; add a URL, or remove the key for mqtt://127.0.0.1:1883");
  assert_messages("listeners: [[a]]\n",
                  "broker.yaml:1:13: listeners[0]: has to be a URL or a mapping; write {url: \"mqtt://127.0.0.1:1883\"}");
  assert_messages("listeners:\n  -\n",
                  "broker.yaml:2:4: listeners[0]: has to be a URL or a mapping; write {url: \"mqtt://127.0.0.1:1883\"}");
  assert_messages("limits: {connections: }\n",
                  "broker.yaml:1:23: limits.connections: has no value; write a whole number from 1 to "
                  "10000000, or remove the key");
  assert_messages("[a]: b\n", "broker.yaml:1:1: a key has to be a word");
  assert_messages("limits: {[a]: b}\n", "broker.yaml:1:10: limits: a key has to be a word");
  assert_messages("broker: {id: \"a\\0b\"}\n",
                  "broker.yaml:1:14: broker.id: is a text with a NUL in it; write a text of at most 128 bytes");
  assert_messages("broker: {<<: {id: a}}\n",
                  "broker.yaml:1:10: broker: merge keys (<<) are not supported; write the keys out, or "
                  "use an alias for a value");
}

static void keys_that_are_there_twice(void **state)
{
  (void)state;
  assert_messages("limits: {connections: 1, connections: 2}\n",
                  "broker.yaml:1:26: limits.connections: is there twice; keep one");
  assert_messages("log: {}\nsys: {}\nlog: {}\n", "broker.yaml:3:1: log: is there twice; keep one");
  assert_messages("listeners:\n  - url: mqtt://127.0.0.1\n    url: mqtt://127.0.0.2\n",
                  "broker.yaml:3:5: listeners[0].url: is there twice; keep one");
}

static void listeners_are_checked(void **state)
{
  (void)state;
  assert_messages(
      "listeners:\n  - mqtt://127.0.0.1\n  - ws://127.0.0.1:1883/x\n",
      "broker.yaml:3:5: listeners[1].url: listens where listeners[0] (mqtt://127.0.0.1) does; use another port or path");
  assert_messages("listeners:\n  - tcp://127.0.0.1\n",
                  "broker.yaml:2:5: listeners[0]: \"tcp\" is not a known scheme; write mqtt://host:port");
  assert_messages(
      "listeners:\n  - {url: \"mqtt://127.0.0.1:x\"}\n",
      "broker.yaml:2:11: listeners[0].url: \"x\" is not a port; write a number from 1 to 65535, or 0 for any free one");
  assert_messages(
      "listeners:\n  - {url: \"mqtt://127.0.0.1\", mode: 0600}\n",
      "broker.yaml:2:37: listeners[0].mode: only unix sockets have permissions; remove it, or use a unix:// URL");
  assert_messages("listeners:\n  - {url: \"mqtt://127.0.0.1\", ipv6_only: true}\n",
                  "broker.yaml:2:42: listeners[0].ipv6_only: the address is not IPv6; remove it, or use the host * or [::]");
  assert_messages("listeners: [{url: }]\n",
                  "broker.yaml:1:19: listeners[0].url: has no value; write a URL, or remove the key");
  struct config config = load_good("listeners:\n  - {url: \"mqtt://0.0.0.0\", anonymous: true}\n"
                                   "  - {url: \"mqtt://[::]\", ipv6_only: true, anonymous: true}\n");
  assert_int_equal(config.listener_count, 2);
  config_deinit(&config);
}

static void metrics_are_checked(void **state)
{
  (void)state;
  assert_messages("metrics: {listen: 9100}\n",
                  "broker.yaml:1:19: metrics.listen: the port is missing; write host:port, such as 127.0.0.1:9100");
  assert_messages("listeners: [{url: mqtt://*:9100, anonymous: true}]\nmetrics: {listen: \"127.0.0.1:9100\"}\n",
                  "broker.yaml:2:19: metrics.listen: listens where listeners[0] (mqtt://*:9100) does; use another port");
}

static void the_journal_is_checked(void **state)
{
  (void)state;
  assert_messages("journal:\n  limit: 64MiB\n",
                  "broker.yaml:2:10: journal.limit: the limit of 64MiB does not hold 4 segments of 16MiB, the reserve of "
                  "64MiB and the replay of 64MiB; write a journal.limit of at least 192MiB, or less for the others");
  assert_messages("journal: {reserve: 8193MiB}\n",
                  "broker.yaml:1:20: journal.reserve: the limit of 8GiB does not hold 4 segments of 16MiB, the reserve of "
                  "8193MiB and the replay of 64MiB; write a journal.limit of at least 8336MiB, or less for the others");
  assert_messages("journal: {segment: 1GiB, limit: 4608MiB, reserve: 64MiB}\n",
                  "broker.yaml:1:33: journal.limit: the limit of 4608MiB does not hold 4 segments of 1GiB, the reserve of "
                  "64MiB and the replay of 64MiB; write a journal.limit of at least 5184MiB, or less for the others");
  assert_messages("journal: {replay: 8GiB}\n",
                  "broker.yaml:1:19: journal.replay: the limit of 8GiB does not hold 4 segments of 16MiB, the reserve of "
                  "64MiB and the replay of 8GiB; write a journal.limit of at least 8320MiB, or less for the others");
  assert_messages("journal: {segment: 1KiB}\n", "broker.yaml:1:20: journal.segment: \"1KiB\" is too small; write a size "
                                                "from 64KiB to 1GiB, such as 16MiB");
  assert_messages("journal: {durability: always}\n", "broker.yaml:1:23: journal.durability: \"always\" is not one of the "
                                                     "choices; write commit, interval or memory");
  struct config config =
      load_good("journal: {segment: 64KiB, limit: 1MiB, reserve: 200KiB, replay: 512KiB}\nbroker: {data: x}\n"
                "limits: {packet_size: 32KiB}\n");
  assert_true(config_has_journal(&config));
  config_deinit(&config);
  config = load_good("journal: {durability: memory}\nbroker: {data: x}\n");
  assert_false(config_has_journal(&config));
  config_deinit(&config);
}

// A packet of the largest size must fit what a full disk leaves.
static void packets_must_fit_the_journal(void **state)
{
  (void)state;
  assert_messages("broker: {data: x}\njournal:\n  segment: 1MiB\n",
                  "broker.yaml:3:12: journal.segment: the journal's segment of 1MiB does not hold 2 packets of 1MiB; "
                  "write a journal.segment of at least 2MiB, or a limits.packet_size of at most 512KiB");
  assert_messages("broker: {data: x}\njournal: {reserve: 3MiB}\n",
                  "broker.yaml:2:20: journal.reserve: the journal's reserve of 3MiB does not hold 4 packets of 1MiB; "
                  "write a journal.reserve of at least 4MiB, or a limits.packet_size of at most 768KiB");
  assert_messages(
      "broker: {data: x}\nlimits: {packet_size: 16385KiB}\n",
      "broker.yaml:2:23: limits.packet_size: the journal's segment of 16MiB does not hold 2 packets of 16385KiB; "
      "write a journal.segment of at least 32770KiB, or a limits.packet_size of at most 8MiB\n"
      "broker.yaml:2:23: limits.packet_size: the journal's reserve of 64MiB does not hold 4 packets of 16385KiB; "
      "write a journal.reserve of at least 65540KiB, or a limits.packet_size of at most 16MiB");
  static const char *const good[] = {
      "broker: {data: x}\nlimits: {packet_size: 8MiB}\n",
      "broker: {data: x}\nlimits: {packet_size: 256MiB}\njournal: {segment: 512MiB, reserve: 1GiB}\n",
      "limits: {packet_size: 256MiB}\n",
      "broker: {data: x}\nlimits: {packet_size: 256MiB}\njournal: {durability: memory}\n",
  };
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    struct config config = load_good(good[i]);
    config_deinit(&config);
  }
}

static void too_many_listeners(void **state)
{
  (void)state;
  char text[8192];
  size_t n = (size_t)snprintf(text, sizeof text, "listeners:\n");
  for (unsigned i = 0; i < CONFIG_MAX_LISTENERS + 5; i++)
    n += (size_t)snprintf(text + n, sizeof text - n, "  - mqtt://127.0.0.1:%u\n", 2000 + i);
  assert_messages(text, "broker.yaml:66:5: listeners[64]: one too many; at most 64 listeners are possible");
}

static void broken_yaml(void **state)
{
  (void)state;
  assert_messages("limits: {connections: 5\n",
                  "broker.yaml:2:1: not YAML: did not find expected ',' or '}' while parsing a flow "
                  "mapping");
  assert_messages("limits:\n\tconnections: 5\n",
                  "broker.yaml:2:1: not YAML: found character that cannot start any token while "
                  "scanning for the next token; indent with spaces, not with tabs");
  assert_messages("a: b: c\n", "broker.yaml:1:5: not YAML: mapping values are not allowed in this context");
  assert_messages("limits: *nowhere\n", "broker.yaml:1:9: not YAML: found undefined alias");
  assert_messages("limits: {}\n---\nlog: {}\n", "broker.yaml:3:1: a second document starts here; keep one");
  assert_messages("limits: {}\n...\n}\n", "broker.yaml:3:1: not YAML: did not find expected <document start>");
  assert_messages("log:\n  # caf\xe9\n", "broker.yaml:2:8: not UTF-8: byte 0xe9; save the file as UTF-8");
  assert_messages("log: {\x01}\n", "broker.yaml:1:7: not YAML: control characters are not allowed");
}

static void the_number_of_messages_is_bounded(void **state)
{
  (void)state;
  char *text = malloc(200000);
  assert_non_null(text);
  size_t n = 0;
  for (unsigned i = 0; i < 10000; i++) n += (size_t)snprintf(text + n, 200000 - n, "key%u: 1\n", i);
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = "broker.yaml"};
  assert_int_equal(config_load_text(span_of(text, n), &source, &config, &diagnostics), ERR_INVALID);
  assert_int_equal(diagnostics.count, CONFIG_MAX_DIAGNOSTICS);
  assert_true(diagnostics.more);
  diagnostics_deinit(&diagnostics);
  free(text);
}

static void a_file_that_is_too_large(void **state)
{
  (void)state;
  char *text = malloc(CONFIG_MAX_FILE + 1);
  assert_non_null(text);
  memset(text, '#', CONFIG_MAX_FILE + 1);
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = "broker.yaml"};
  assert_int_equal(config_load_text(span_of(text, CONFIG_MAX_FILE), &source, &config, &diagnostics), OK);
  config_deinit(&config);
  assert_int_equal(config_load_text(span_of(text, CONFIG_MAX_FILE + 1), &source, &config, &diagnostics), ERR_INVALID);
  assert_string_equal(diagnostics.texts[0], "broker.yaml: the file is larger than 1MiB; this is no configuration");
  diagnostics_deinit(&diagnostics);
  free(text);
}

// Files that would keep libyaml busy for minutes.
static void shapes_that_no_configuration_has(void **state)
{
  (void)state;
  enum { SIZE = 600000 };
  char *text = malloc(SIZE);
  assert_non_null(text);
  memset(text, '[', SIZE - 1);
  text[SIZE - 1] = '\0';
  assert_messages(text, "broker.yaml:1:17: sections and lists are nested too deep; no key needs more than five levels");
  size_t n = (size_t)snprintf(text, SIZE, "log: [");
  for (unsigned i = 0; i < 30000; i++) n += (size_t)snprintf(text + n, SIZE - n, "&a%u x, ", i);
  assert_messages(text, "broker.yaml:1:8897: there are more than 1000 anchors; remove those that no alias uses");
  free(text);
}

static void files(void **state)
{
  (void)state;
  char path[] = "/tmp/skerry-config-XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, "limits: {in_flight: 7}\n", 23), 23);
  close(fd);
  struct config config;
  struct diagnostics diagnostics = {0};
  struct config_source source = {.file = path};
  assert_int_equal(config_load(&source, &config, &diagnostics), OK);
  assert_int_equal(config.limits.in_flight, 7);
  config_deinit(&config);
  assert_int_equal(unlink(path), 0);

  char message[128];
  assert_int_equal(config_load(&source, &config, &diagnostics), ERR_NOT_FOUND);
  snprintf(message, sizeof message, "%s: cannot be read: No such file or directory", path);
  assert_string_equal(diagnostics.texts[0], message);
  source.file = "/tmp";
  assert_int_not_equal(config_load(&source, &config, &diagnostics), OK);
  assert_string_equal(diagnostics.texts[1], "/tmp: cannot be read: Is a directory");
  diagnostics_deinit(&diagnostics);
}

// ---- Overrides

static void settings_override_the_file(void **state)
{
  (void)state;
  struct config config;
  struct diagnostics diagnostics = {0};
  const char *const settings[] = {
      "limits.connections=100", "listeners[0].anonymous=false", "listeners[1]=unix:///run/x.sock", "broker.id=a=b",
      "log.level=debug",        "listeners[1].mode=0600"};
  const struct config_source source = {.file = "broker.yaml", .settings = settings, .setting_count = 6};
  const char *text = "limits: {connections: 5, in_flight: 6}\nlisteners: [mqtt://127.0.0.1:1]\n";
  assert_int_equal(config_load_text(span_text(text), &source, &config, &diagnostics), OK);
  assert_int_equal(config.connections, 100);
  assert_int_equal(config.limits.in_flight, 6);
  assert_int_equal(config.listener_count, 2);
  assert_false(config.listeners[0].anonymous);
  assert_true(config.listeners[1].anonymous);
  assert_int_equal(config.listeners[1].mode, 0600);
  assert_string_equal(config.broker.id, "a=b");
  assert_int_equal(config.log.level, LOG_DEBUG);
  config_deinit(&config);
}

static void listen_replaces_the_listeners(void **state)
{
  (void)state;
  struct config config;
  struct diagnostics diagnostics = {0};
  const char *const listen[] = {"mqtt://127.0.0.1:7", "ws://0.0.0.0:8/mqtt"};
  const char *const settings[] = {"listeners[1].anonymous=true"};
  const struct config_source source = {
      .file = "broker.yaml", .listen = listen, .listen_count = 2, .settings = settings, .setting_count = 1};
  const char *text = "listeners: [mqtt://127.0.0.1:1, mqtt://127.0.0.1:2, mqtt://127.0.0.1:3]\n";
  assert_int_equal(config_load_text(span_text(text), &source, &config, &diagnostics), OK);
  assert_int_equal(config.listener_count, 2);
  assert_string_equal(config.listeners[0].address.text, "mqtt://127.0.0.1:7");
  assert_true(config.listeners[0].anonymous);
  assert_true(config.listeners[1].anonymous);
  config_deinit(&config);
}

static void wrong_overrides(void **state)
{
  (void)state;
  static const struct {
    const char *setting;
    const char *message;
  } cases[] = {
      {"limits.conections=5", "--set limits.conections: unknown key; did you mean \"connections\"?"},
      {"limts.connections=5", "--set limts.connections: unknown key; did you mean \"limits\"?"},
      {"limits.connections", "--set limits.connections: has no key and value; write --set limits.connections=100"},
      {"=5", "--set =5: has no key and value; write --set limits.connections=100"},
      {"limits=5", "--set limits: this is a section; write the key too, such as log.level=debug"},
      {"auth.jwt=x", "--set auth.jwt: is several keys; write one of them, such as jwt.jwks"},
      {"log.level=loud", "--set log.level: \"loud\" is not one of the choices; write error, warning, info or debug"},
      {"listeners=mqtt://127.0.0.1", "--set listeners: listeners are set one by one; write listeners[0].anonymous=false"},
      {"listeners[x].anonymous=true", "--set listeners[x].anonymous: listeners are set one by one; write "
                                      "listeners[0].anonymous=false"},
      {"listeners[0=true", "--set listeners[0: listeners are set one by one; write listeners[0].anonymous=false"},
      {"listeners[1].anonymous=true", "--set listeners[1].anonymous: there are 0 listeners; write an index from 0 to 0"},
      {"listeners[99999999999999999999].url=x",
       "--set listeners[99999999999999999999].url: there are 0 listeners; write an index from 0 to 0"},
      {"listeners[0].url=x", "--set listeners[0].url: \"x\" is not a URL; write mqtt://host:port, ws://host:port/path, "
                             "unix:///path or systemd://name"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct config config;
    struct diagnostics diagnostics = {0};
    const char *const settings[] = {cases[i].setting};
    const struct config_source source = {.settings = settings, .setting_count = 1};
    assert_int_equal(config_load(&source, &config, &diagnostics), ERR_INVALID);
    assert_int_equal(diagnostics.count, 1);
    assert_string_equal(diagnostics.texts[0], cases[i].message);
    diagnostics_deinit(&diagnostics);
  }
  struct config config;
  struct diagnostics diagnostics = {0};
  const char *const listen[] = {"mqtt://127.0.0.1:7", "nowhere"};
  const struct config_source source = {.listen = listen, .listen_count = 2};
  assert_int_equal(config_load(&source, &config, &diagnostics), ERR_INVALID);
  assert_string_equal(diagnostics.texts[0], "--listen nowhere: \"nowhere\" is not a URL; write mqtt://host:port, "
                                            "ws://host:port/path, unix:///path or systemd://name");
  diagnostics_deinit(&diagnostics);
  const char *const open_listen[] = {"mqtt://127.0.0.1:7", "mqtt://*:8"};
  const struct config_source open_source = {.listen = open_listen, .listen_count = 2};
  assert_int_equal(config_load(&open_source, &config, &diagnostics), ERR_INVALID);
  assert_string_equal(diagnostics.texts[0],
                      "listeners[1].auth: nobody can come in at mqtt://*:8; write how clients show who they are, such as "
                      "auth: [password], or anonymous: true (--set listeners[1].anonymous=true) to let everybody in who "
                      "reaches it");
  diagnostics_deinit(&diagnostics);
}

static void shards_by_cores(void **state)
{
  (void)state;
  struct config config = {0};
  static const uint32_t expected[] = {1, 1, 1, 2, 3, 4, 4};
  for (uint32_t cores = 0; cores < 7; cores++) assert_int_equal(config_shards(&config, cores), expected[cores]);
  config.broker.shards = 7;
  assert_int_equal(config_shards(&config, 2), 7);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_gives_the_defaults),
      cmocka_unit_test(limits_default_is_the_same),
      cmocka_unit_test(no_file_gives_the_defaults),
      cmocka_unit_test(a_whole_file),
      cmocka_unit_test(aliases_are_values),
      cmocka_unit_test(quoted_values_and_null),
      cmocka_unit_test(unknown_keys_are_told_all_that_are_known),
      cmocka_unit_test(unknown_keys_name_the_nearest),
      cmocka_unit_test(all_mistakes_are_told),
      cmocka_unit_test(wrong_kinds),
      cmocka_unit_test(keys_that_are_there_twice),
      cmocka_unit_test(listeners_are_checked),
      cmocka_unit_test(metrics_are_checked),
      cmocka_unit_test(the_journal_is_checked),
      cmocka_unit_test(packets_must_fit_the_journal),
      cmocka_unit_test(too_many_listeners),
      cmocka_unit_test(broken_yaml),
      cmocka_unit_test(the_number_of_messages_is_bounded),
      cmocka_unit_test(a_file_that_is_too_large),
      cmocka_unit_test(shapes_that_no_configuration_has),
      cmocka_unit_test(files),
      cmocka_unit_test(settings_override_the_file),
      cmocka_unit_test(listen_replaces_the_listeners),
      cmocka_unit_test(wrong_overrides),
      cmocka_unit_test(shards_by_cores),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
