#include "broker/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static struct config load(const char *text)
{
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = "broker.yaml"};
  if (config_load_text(span_text(text), &source, &config, &diagnostics)) fail_msg("%s", diagnostics.texts[0]);
  return config;
}

// Each change as "path: before -> after", with "!" when it needs a restart.
static void assert_changes(const char *before_text, const char *after_text, size_t needs_restart, const char *expected)
{
  struct config before = load(before_text);
  struct config after = load(after_text);
  struct config_changes changes;
  char all[2048] = "";
  size_t n = 0;
  assert_int_equal(config_diff(&before, &after, &changes), OK);
  for (size_t i = 0; i < changes.count; i++) {
    const struct config_change *change = &changes.items[i];
    n += (size_t)snprintf(all + n, sizeof all - n, "%s%s: %s -> %s%s", i ? "\n" : "", change->path,
                          change->before ? change->before : "none", change->after ? change->after : "none",
                          change->reloadable ? "" : " !");
  }
  assert_string_equal(all, expected);
  assert_int_equal(changes.needs_restart, needs_restart);
  config_changes_deinit(&changes);
  config_deinit(&before);
  config_deinit(&after);
}

static void the_same_has_no_changes(void **state)
{
  (void)state;
  assert_changes("", "", 0, "");
  assert_changes("limits: {packet_size: 1MiB}\n", "limits: {packet_size: 1048576}\n", 0, "");
  assert_changes("listeners: [mqtt://127.0.0.1, unix:///x]\n", "listeners: [unix:///x, {url: mqtt://127.0.0.1:1883}]\n", 0,
                 "");
}

static void keys_change(void **state)
{
  (void)state;
  assert_changes("limits: {connections: 5}\n", "log: {level: debug}\n", 0,
                 "limits.connections: 5 -> 10000\nlog.level: info -> debug");
  assert_changes("", "limits: {session_expiry_max: never, packet_size: 2MiB}\nshared_subscriptions: {strategy: random}\n", 0,
                 "limits.packet_size: 1MiB -> 2MiB\nlimits.session_expiry_max: 7d -> never\n"
                 "shared_subscriptions.strategy: round_robin -> random");
}

static void some_need_a_restart(void **state)
{
  (void)state;
  assert_changes("broker: {id: a}\n",
                 "broker: {shards: 2, data: /var/x}\nmetrics: {listen: \"127.0.0.1:9100\"}\nsys: {interval: 1s}\n", 4,
                 "broker.id: a ->  !\nbroker.data:  -> /var/x !\nbroker.shards: auto -> 2 !\n"
                 "metrics.listen:  -> 127.0.0.1:9100 !\nsys.interval: 10s -> 1s");
  assert_changes("journal: {interval: 1s}\n",
                 "journal: {durability: memory, limit: 1GiB}\nlimits: {queue_age: 0, queue_drop: reject}\n", 3,
                 "limits.queue_age: 7d -> unlimited\nlimits.queue_drop: oldest -> reject\n"
                 "journal.durability: commit -> memory !\njournal.interval: 1s -> 100ms !\njournal.limit: 8GiB -> 1GiB !");
}

static void listeners_come_and_go(void **state)
{
  (void)state;
  assert_changes("listeners: [mqtt://127.0.0.1:1, ws://127.0.0.1:2/a]\n",
                 "listeners: [mqtt://127.0.0.1:1, ws://127.0.0.1:2/b]\n", 0,
                 "listeners[ws://127.0.0.1:2/a]: ws://127.0.0.1:2/a -> none\n"
                 "listeners[ws://127.0.0.1:2/b]: none -> ws://127.0.0.1:2/b");
  assert_changes("listeners: [{url: mqtt://*:1, anonymous: true}]\n",
                 "listeners: [{url: mqtt://:1, anonymous: true}, {url: mqtt://*:2, anonymous: true}]\n", 0,
                 "listeners[mqtt://*:2]: none -> mqtt://*:2");
}

static void listeners_change(void **state)
{
  (void)state;
  assert_changes("listeners: [{url: mqtt://127.0.0.1:1}, {url: mqtt://127.0.0.1:2}]\n",
                 "listeners: [{url: mqtt://127.0.0.1:1, anonymous: false, max_connections: 9}, {url: mqtt://127.0.0.1:2}]\n",
                 0,
                 "listeners[mqtt://127.0.0.1:1].anonymous: true -> false\n"
                 "listeners[mqtt://127.0.0.1:1].max_connections: unlimited -> 9");
}

static void security_changes(void **state)
{
  (void)state;
  assert_changes(
      "listeners: [{url: mqtts://127.0.0.1:1, tls: {cert: a.pem, key: a.key}}]\n",
      "listeners: [{url: mqtts://127.0.0.1:1, tls: {cert: b.pem, key: a.key, min_version: \"1.3\"}, auth: [password]}]\n"
      "auth: {passwords: p}\nacl: [{who: \"*\", allow: [publish], topics: [a]}]\n",
      0,
      "auth.passwords:  -> p\nacl:  -> (a list of rules)\n"
      "listeners[mqtts://127.0.0.1:1].auth:  -> [password]\n"
      "listeners[mqtts://127.0.0.1:1].anonymous: true -> false\n"
      "listeners[mqtts://127.0.0.1:1].tls.cert: a.pem -> b.pem\n"
      "listeners[mqtts://127.0.0.1:1].tls.min_version: 1.2 -> 1.3");
  assert_changes("acl: [{who: a}]\n", "log:\n\nacl:\n     [{who: a}]\n", 0, "");
  assert_changes("acl: [{who: a}]\n", "acl: x.yaml\n", 0, "acl: (a list of rules) -> x.yaml");
  // The same port with and without TLS is not the same listener.
  assert_changes("listeners: [mqtt://127.0.0.1:1]\n", "listeners: [{url: mqtts://127.0.0.1:1, tls: {cert: a, key: b}}]\n", 0,
                 "listeners[mqtt://127.0.0.1:1]: mqtt://127.0.0.1:1 -> none\n"
                 "listeners[mqtts://127.0.0.1:1]: none -> mqtts://127.0.0.1:1");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_same_has_no_changes), cmocka_unit_test(keys_change),      cmocka_unit_test(some_need_a_restart),
      cmocka_unit_test(listeners_come_and_go),   cmocka_unit_test(listeners_change), cmocka_unit_test(security_changes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
