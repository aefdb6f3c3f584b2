#include "broker/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config_schema.h"

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

// Two values of a key, as texts.
static void values_of(const struct config_key *key, char first[64], char second[64])
{
  unsigned long long low = key->minimum, unit_ms = key->unit_ms;
  strcpy(first, "a.b");
  strcpy(second, "c.d");
  switch (key->type) {
    case CONFIG_BOOL:
      strcpy(first, "false");
      strcpy(second, "true");
      break;
    case CONFIG_CHOICE:
    case CONFIG_WORDS:
      strcpy(first, key->choices[0]);
      strcpy(second, key->choices[1]);
      break;
    case CONFIG_MODE:
      strcpy(first, "0600");
      strcpy(second, "0640");
      break;
    case CONFIG_HOST_PORT:
      strcpy(first, "127.0.0.1:1");
      strcpy(second, "127.0.0.1:2");
      break;
    case CONFIG_INTEGER:
    case CONFIG_SIZE:
      snprintf(first, 64, "%llu", low);
      snprintf(second, 64, "%llu", low + 1);
      break;
    case CONFIG_DURATION:
      snprintf(first, 64, "%llums", low * unit_ms);
      snprintf(second, 64, "%llums", (low + 1) * unit_ms);
      break;
    case CONFIG_STRING:
    case CONFIG_PATH:
    case CONFIG_URL:
    case CONFIG_CERTIFICATES:
    case CONFIG_ACL: break;
  }
}

static void set_value(const struct config_key *key, const char *text, struct config *config)
{
  bool list = config_find_section(key->section)->list;
  void *object = list ? (void *)&config->listeners[0] : (void *)config;
  struct error error;
  if (list) config_set_given(&config->listeners[0].origin, key, (struct config_mark){0});
  struct config_certificate item = {.cert = strdup(text), .key = strdup(text)};
  if (key->type == CONFIG_CERTIFICATES) {
    assert_int_equal(config_add_certificate((void *)((char *)object + key->offset), &item, &error), OK);
  } else {
    free(item.cert);
    free(item.key);
    if (key->type == CONFIG_ACL)
      config->acl.path = strdup(text);
    else if (config_value_parse(key, text, object, &error) != OK)
      fail_msg("%s.%s: %s: %s", key->section, key->name, text, error.text);
  }
}

static struct config with_value(const struct config_key *key, const char *text)
{
  struct config config;
  struct error error;
  assert_int_equal(config_init(&config), OK);
  assert_non_null(config_add_listener(&config));
  assert_int_equal(config_set(&config, "listeners[0].url", "mqtt://127.0.0.1:1", &error), OK);
  set_value(key, text, &config);
  return config;
}

// Whatever key is changed, a reload takes it or names it among what needs a restart: none is passed over.
static void no_key_is_passed_over(void **state)
{
  (void)state;
  size_t restarts = 0;
  for (size_t i = 0; i < config_key_count; i++) {
    const struct config_key *key = &config_keys[i];
    if (key->type == CONFIG_URL) continue;  // another listener
    char values[2][64], path[128];
    values_of(key, values[0], values[1]);
    struct config before = with_value(key, values[0]), after = with_value(key, values[1]);
    struct config_changes changes;
    assert_int_equal(config_diff(&before, &after, &changes), OK);
    bool list = config_find_section(key->section)->list;
    snprintf(path, sizeof path, "%s%s%s%s", key->section, list ? "[mqtt://127.0.0.1:1]" : "", key->section[0] ? "." : "",
             key->name);
    if (changes.count != 1) fail_msg("%s: %zu changes", path, changes.count);
    assert_string_equal(changes.items[0].path, path);
    assert_int_equal(changes.needs_restart, key->reloadable ? 0 : 1);
    restarts += changes.needs_restart;
    config_changes_deinit(&changes);
    config_deinit(&before);
    config_deinit(&after);
  }
  assert_in_range(restarts, 5, config_key_count / 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_same_has_no_changes), cmocka_unit_test(keys_change),      cmocka_unit_test(some_need_a_restart),
      cmocka_unit_test(listeners_come_and_go),   cmocka_unit_test(listeners_change), cmocka_unit_test(security_changes),
      cmocka_unit_test(no_key_is_passed_over),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
