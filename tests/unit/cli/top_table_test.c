#include "cli/top_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void add(struct top_table *table, const char *topic, const char *payload, bool counts, uint64_t now_ms)
{
  struct mqtt_publish publish = {.qos = 1, .retain = !counts, .topic = span_text(topic), .payload = span_text(payload)};
  assert_int_equal(top_table_add(table, &publish, counts, now_ms), OK);
}

static const struct top_topic *find(const struct top_table *table, const char *name)
{
  for (size_t i = 0; i < table->count; i++) {
    const struct top_topic *topic = table->items[i];
    if (span_equal(span_of(topic->topic, topic->topic_size), span_text(name))) return topic;
  }
  return NULL;
}

static void counts_and_values(void **state)
{
  (void)state;
  struct top_table table;
  top_table_init(&table, 10);
  add(&table, "a", "one", true, 5);
  add(&table, "a", "three", true, 7);
  add(&table, "b", "kept", false, 8);
  add(&table, "a", "", true, 9);
  assert_int_equal(table.count, 2);
  assert_int_equal(table.messages, 3);
  assert_int_equal(table.bytes, 8);
  const struct top_topic *a = find(&table, "a");
  assert_non_null(a);
  assert_int_equal(a->count, 3);
  assert_int_equal(a->bytes, 8);
  assert_int_equal(a->last_ms, 9);
  assert_int_equal(a->value_size, 0);
  assert_false(a->retain);
  const struct top_topic *b = find(&table, "b");
  assert_non_null(b);
  assert_int_equal(b->count, 0);
  assert_true(b->retain);
  assert_memory_equal(b->value, "kept", 4);
  top_table_deinit(&table);
}

static void long_values_are_cut(void **state)
{
  (void)state;
  char payload[TOP_VALUE_SIZE + 50];
  memset(payload, 'x', sizeof payload - 1);
  payload[sizeof payload - 1] = '\0';
  struct top_table table;
  top_table_init(&table, 10);
  add(&table, "a", payload, true, 1);
  assert_int_equal(table.items[0]->value_size, TOP_VALUE_SIZE);
  assert_int_equal(table.items[0]->payload_size, TOP_VALUE_SIZE + 49);
  top_table_deinit(&table);
}

static void topics_are_bounded(void **state)
{
  (void)state;
  struct top_table table;
  top_table_init(&table, 100);
  char topic[16];
  for (int round = 0; round < 2; round++)
    for (int i = 0; i < 150; i++) {
      snprintf(topic, sizeof topic, "t/%d", i);
      add(&table, topic, "v", true, 1);
    }
  assert_int_equal(table.count, 100);
  assert_int_equal(table.unkept, 100);
  assert_int_equal(table.messages, 300);
  assert_int_equal(find(&table, "t/99")->count, 2);
  assert_null(find(&table, "t/100"));
  top_table_deinit(&table);
}

static void rates_follow_traffic(void **state)
{
  (void)state;
  struct top_table table;
  top_table_init(&table, 10);
  for (int second = 0; second < 30; second++) {
    for (int i = 0; i < 40; i++) add(&table, "a", "12345", true, 1);
    top_table_tick(&table, 1);
  }
  assert_true(table.items[0]->rate > 39 && table.items[0]->rate < 41);
  assert_true(table.rate > 39 && table.rate < 41);
  assert_true(table.byte_rate > 195 && table.byte_rate < 205);
  for (int second = 0; second < 60; second++) top_table_tick(&table, 1);
  assert_true(table.items[0]->rate == 0);
  assert_true(table.rate == 0);
  top_table_deinit(&table);
}

static void expect_order(struct top_table *table, enum top_sort by, bool reverse, const char *wanted)
{
  char got[16] = "";
  top_table_sort(table, by, reverse);
  for (size_t i = 0; i < table->count; i++) strncat(got, (const char *)table->items[i]->topic, 1);
  assert_string_equal(got, wanted);
}

static void orders(void **state)
{
  (void)state;
  struct top_table table;
  top_table_init(&table, 10);
  add(&table, "c", "1234567890", true, 30);
  add(&table, "a", "1", true, 10);
  add(&table, "b", "12", true, 20);
  add(&table, "b", "12", true, 20);
  add(&table, "d", "", false, 5);
  top_table_tick(&table, 1);
  expect_order(&table, TOP_BY_TOPIC, false, "abcd");
  expect_order(&table, TOP_BY_TOPIC, true, "dcba");
  expect_order(&table, TOP_BY_COUNT, false, "bacd");
  expect_order(&table, TOP_BY_RATE, false, "bacd");
  expect_order(&table, TOP_BY_RATE, true, "dacb");
  expect_order(&table, TOP_BY_BYTES, false, "cbad");
  expect_order(&table, TOP_BY_AGE, false, "cbad");
  top_table_deinit(&table);
}

static void sys(struct top_broker *broker, const char *topic, const char *payload, uint64_t now_ms)
{
  top_broker_update(broker, span_text(topic), span_text(payload), now_ms);
}

static void broker_figures(void **state)
{
  (void)state;
  struct top_broker broker = {0};
  sys(&broker, "$SYS/broker/version", "mosquitto version 2.0.11", 1000);
  sys(&broker, "$SYS/broker/uptime", "2233 seconds", 1000);
  sys(&broker, "$SYS/broker/clients/connected", "3", 1000);
  sys(&broker, "$SYS/broker/retained messages/count", "42", 1000);
  sys(&broker, "$SYS/broker/unknown", "42", 1000);
  sys(&broker, "$SYS/broker/clients/total", "many", 1000);
  sys(&broker, "$SYS/broker/bytes/sent", "100", 1000);
  assert_string_equal(broker.version, "mosquitto version 2.0.11");
  assert_true(broker.uptime_s.known);
  assert_int_equal(broker.uptime_s.value, 2233);
  assert_true(broker.clients_connected.known);
  assert_int_equal(broker.clients_connected.value, 3);
  assert_int_equal(broker.retained.value, 42);
  assert_false(broker.clients_total.known);
  assert_true(broker.bytes_out.rate == 0);
  sys(&broker, "$SYS/broker/bytes/sent", "600", 3000);
  assert_true(broker.bytes_out.rate == 250);
  sys(&broker, "$SYS/broker/bytes/sent", "10", 4000);  // the broker was restarted
  assert_true(broker.bytes_out.rate == 0);
  char version[200];
  memset(version, 'v', sizeof version - 1);
  version[sizeof version - 1] = '\0';
  sys(&broker, "$SYS/broker/version", version, 1000);
  assert_int_equal(strlen(broker.version), TOP_VERSION_SIZE - 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(counts_and_values),
      cmocka_unit_test(long_values_are_cut),
      cmocka_unit_test(topics_are_bounded),
      cmocka_unit_test(rates_follow_traffic),
      cmocka_unit_test(orders),
      cmocka_unit_test(broker_figures),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
