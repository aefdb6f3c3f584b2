// $SYS: which topics, what they hold, that only changes are published, and the averages against their definition.
#include "broker/sys_topics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/watch_tables.h"
#include "mqtt/topic.h"

struct fixture {
  struct sys_topics *sys;
  struct status_view *view;
  const struct net_value *values;
  size_t count;
};

static int set_up(void **state)
{
  struct fixture *fixture = calloc(1, sizeof *fixture);
  assert_non_null(fixture);
  fixture->sys = sys_topics_create();
  fixture->view = calloc(1, sizeof *fixture->view);
  assert_non_null(fixture->sys);
  assert_non_null(fixture->view);
  fixture->view->version = "0.1.0";
  fixture->view->broker_id = "cell-7";
  fixture->view->shard_count = 1;
  *state = fixture;
  return 0;
}

static int tear_down(void **state)
{
  struct fixture *fixture = *state;
  sys_topics_destroy(fixture->sys);
  free(fixture->view);
  free(fixture);
  return 0;
}

static void update(struct fixture *fixture, uint32_t interval_s)
{
  fixture->values = sys_topics_update(fixture->sys, fixture->view, interval_s, &fixture->count);
}

// NULL when the value was not published by the last update.
static const char *published(const struct fixture *fixture, const char *name)
{
  static char text[256];
  char topic[128];
  snprintf(topic, sizeof topic, "$SYS/broker/%s", name);
  for (size_t i = 0; i < fixture->count; i++) {
    if (!span_equal(fixture->values[i].topic, span_text(topic))) continue;
    struct span payload = fixture->values[i].payload;
    assert_true(payload.size < sizeof text);
    memcpy(text, payload.at, payload.size);
    text[payload.size] = '\0';
    return text;
  }
  return NULL;
}

static void expect(const struct fixture *fixture, const char *name, const char *value)
{
  const char *found = published(fixture, name);
  if (!found || strcmp(found, value) != 0) fail_msg("%s is \"%s\" and not \"%s\"", name, found ? found : "absent", value);
}

static void expect_absent(const struct fixture *fixture, const char *name)
{
  if (published(fixture, name)) fail_msg("%s was published", name);
}

// What mosquitto 2.0.11 of Debian 12 publishes, all of it.
static const char *const customary[] = {
    "bytes/received",
    "bytes/sent",
    "clients/active",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/inactive",
    "clients/maximum",
    "clients/total",
    "heap/current",
    "heap/maximum",
    "load/bytes/received/15min",
    "load/bytes/received/1min",
    "load/bytes/received/5min",
    "load/bytes/sent/15min",
    "load/bytes/sent/1min",
    "load/bytes/sent/5min",
    "load/connections/15min",
    "load/connections/1min",
    "load/connections/5min",
    "load/messages/received/15min",
    "load/messages/received/1min",
    "load/messages/received/5min",
    "load/messages/sent/15min",
    "load/messages/sent/1min",
    "load/messages/sent/5min",
    "load/publish/dropped/15min",
    "load/publish/dropped/1min",
    "load/publish/dropped/5min",
    "load/publish/received/15min",
    "load/publish/received/1min",
    "load/publish/received/5min",
    "load/publish/sent/15min",
    "load/publish/sent/1min",
    "load/publish/sent/5min",
    "load/sockets/15min",
    "load/sockets/1min",
    "load/sockets/5min",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "retained messages/count",
    "shared_subscriptions/count",
    "store/messages/bytes",
    "store/messages/count",
    "subscriptions/count",
    "uptime",
    "version",
};

static void first_update_has_every_topic(void **state)
{
  struct fixture *fixture = *state;
  update(fixture, 0);
  for (size_t i = 0; i < sizeof customary / sizeof customary[0]; i++)
    if (!published(fixture, customary[i])) fail_msg("%s is missing", customary[i]);
  for (size_t i = 0; i < fixture->count; i++) {
    assert_true(mqtt_topic_valid(fixture->values[i].topic));
    assert_true(fixture->values[i].payload.size > 0);  // an empty one would delete the retained message
    for (size_t j = 0; j < i; j++) assert_false(span_equal(fixture->values[i].topic, fixture->values[j].topic));
  }
}

static void every_topic_is_documented(void **state)
{
  struct fixture *fixture = *state;
  update(fixture, 0);
  size_t documented = 0;
  const struct sys_topic_row *row;
  for (size_t i = 0; (row = sys_topics_row(i)); i++) {
    const char *brace = strchr(row->topic, '{');
    documented += brace ? 3 : 1;
    size_t size = brace ? (size_t)(brace - row->topic) : strlen(row->topic);
    size_t found = 0;
    for (size_t j = 0; j < fixture->count; j++) {
      struct span topic = fixture->values[j].topic;
      if (topic.size >= size && memcmp(topic.at, row->topic, size) == 0 && (brace || topic.size == size)) found++;
    }
    assert_int_equal(found, brace ? 3 : 1);
  }
  assert_int_equal(documented, fixture->count);
}

static void texts(void **state)
{
  struct fixture *fixture = *state;
  fixture->view->uptime_s = 4;
  update(fixture, 0);
  expect(fixture, "version", "skerry version 0.1.0");
  expect(fixture, "id", "cell-7");
  expect(fixture, "uptime", "4 seconds");
}

static void numbers(void **state)
{
  struct fixture *fixture = *state;
  struct counters *total = &fixture->view->total;
  *total = (struct counters){.connections = 3,
                             .clients = 3,
                             .sessions = 5,
                             .subscriptions = 11,
                             .shared_subscriptions = 12,
                             .retained_messages = 100,
                             .retained_bytes = 1000,
                             .copies_queued = 20,
                             .copies_in_flight = 3,
                             .queued_bytes = 500,
                             .sessions_expired = 6,
                             .bytes_received = 70,
                             .bytes_sent = 80,
                             .publish_received = 9,
                             .publish_received_bytes = 90,
                             .delivered_bytes = 95};
  total->packets_received[1] = 2;
  total->packets_received[15] = 3;
  total->packets_sent[3] = 7;
  total->packets_sent[13] = 1;
  total->dropped[0] = 1;
  total->dropped[DROP_REASONS - 1] = 2;
  fixture->view->memory_used_bytes = 4096;
  update(fixture, 0);
  expect(fixture, "clients/total", "5");
  expect(fixture, "clients/connected", "3");
  expect(fixture, "clients/active", "3");
  expect(fixture, "clients/disconnected", "2");
  expect(fixture, "clients/inactive", "2");
  expect(fixture, "clients/expired", "6");
  expect(fixture, "clients/maximum", "3");
  expect(fixture, "messages/received", "5");
  expect(fixture, "messages/sent", "8");
  expect(fixture, "messages/stored", "123");
  expect(fixture, "messages/inflight", "3");
  expect(fixture, "store/messages/count", "123");
  expect(fixture, "store/messages/bytes", "1500");
  expect(fixture, "subscriptions/count", "11");
  expect(fixture, "shared_subscriptions/count", "12");
  expect(fixture, "retained messages/count", "100");
  expect(fixture, "publish/messages/received", "9");
  expect(fixture, "publish/messages/sent", "7");
  expect(fixture, "publish/messages/dropped", "3");
  expect(fixture, "publish/bytes/received", "90");
  expect(fixture, "publish/bytes/sent", "95");
  expect(fixture, "bytes/received", "70");
  expect(fixture, "bytes/sent", "80");
  expect(fixture, "heap/current", "4096");
  expect(fixture, "heap/maximum", "4096");
}

static void connections_without_a_session_are_no_clients(void **state)
{
  struct fixture *fixture = *state;
  fixture->view->total.connections = 100;
  fixture->view->total.sessions = fixture->view->total.clients = 2;
  update(fixture, 0);
  expect(fixture, "clients/connected", "2");
  expect(fixture, "clients/disconnected", "0");
}

static void only_changes_are_published(void **state)
{
  struct fixture *fixture = *state;
  update(fixture, 0);
  update(fixture, 10);
  assert_int_equal(fixture->count, 0);
  fixture->view->total.subscriptions = 1;
  update(fixture, 10);
  assert_int_equal(fixture->count, 1);
  expect(fixture, "subscriptions/count", "1");
  fixture->view->total.subscriptions = 0;
  update(fixture, 10);
  assert_int_equal(fixture->count, 1);
  expect(fixture, "subscriptions/count", "0");
}

static void maxima_stay(void **state)
{
  struct fixture *fixture = *state;
  fixture->view->total.clients = fixture->view->total.sessions = 9;
  fixture->view->memory_used_bytes = 900;
  update(fixture, 0);
  fixture->view->total.clients = fixture->view->total.sessions = 1;
  fixture->view->memory_used_bytes = -5;
  update(fixture, 10);
  expect(fixture, "clients/connected", "1");
  expect(fixture, "heap/current", "0");
  expect_absent(fixture, "clients/maximum");
  expect_absent(fixture, "heap/maximum");
}

// What was counted before the first update is no growth.
static void averages_start_at_nothing(void **state)
{
  struct fixture *fixture = *state;
  fixture->view->total.bytes_received = 1000000;
  update(fixture, 0);
  expect(fixture, "load/bytes/received/1min", "0.00");
  update(fixture, 10);
  expect_absent(fixture, "load/bytes/received/1min");
}

// 100 bytes a second are 6000 a minute. One step of 10 s: 6000 * (1 - e^(-10/60)), and so for the longer periods.
static void averages_of_one_step(void **state)
{
  struct fixture *fixture = *state;
  update(fixture, 0);
  fixture->view->total.bytes_received = 1000;
  fixture->view->net.accepted = 1;
  fixture->view->total.packets_received[1] = 2;
  fixture->view->total.publish_received = 3;
  fixture->view->total.packets_sent[3] = 4;
  fixture->view->total.dropped[1] = 5;
  fixture->view->total.bytes_sent = 6;
  update(fixture, 10);
  expect(fixture, "load/bytes/received/1min", "921.11");
  expect(fixture, "load/bytes/received/5min", "196.70");
  expect(fixture, "load/bytes/received/15min", "66.30");
  expect(fixture, "load/sockets/1min", "0.92");
  expect(fixture, "load/connections/1min", "1.84");
  expect(fixture, "load/messages/received/1min", "1.84");
  expect(fixture, "load/publish/received/1min", "2.76");
  expect(fixture, "load/publish/sent/1min", "3.68");
  expect(fixture, "load/messages/sent/1min", "3.68");
  expect(fixture, "load/publish/dropped/1min", "4.61");
  expect(fixture, "load/bytes/sent/1min", "5.53");
}

// The same whether an hour is told in one step or in 3600: the steps compose.
static void averages_do_not_depend_on_the_steps(void **state)
{
  struct fixture *fixture = *state;
  char fine[32];
  update(fixture, 0);
  for (unsigned i = 1; i <= 600; i++) {
    fixture->view->total.bytes_sent = i * 50;
    update(fixture, 1);
  }
  snprintf(fine, sizeof fine, "%s", published(fixture, "load/bytes/sent/15min"));
  struct sys_topics *coarse = sys_topics_create();
  assert_non_null(coarse);
  fixture->view->total.bytes_sent = 0;
  size_t count;
  (void)sys_topics_update(coarse, fixture->view, 0, &count);
  fixture->view->total.bytes_sent = 30000;
  fixture->values = sys_topics_update(coarse, fixture->view, 600, &fixture->count);
  expect(fixture, "load/bytes/sent/15min", fine);
  expect(fixture, "load/bytes/sent/1min", "2999.86");
  sys_topics_destroy(coarse);
}

static void averages_fade(void **state)
{
  struct fixture *fixture = *state;
  update(fixture, 0);
  fixture->view->total.bytes_received = 1000;
  update(fixture, 10);
  update(fixture, 60);
  expect(fixture, "load/bytes/received/1min", "338.86");  // 921.11 / e
  update(fixture, UINT32_MAX);
  expect(fixture, "load/bytes/received/1min", "0.00");
  expect(fixture, "load/bytes/received/15min", "0.00");
}

// A second update at once (a reload): what was counted in between is not lost for the averages.
static void no_time_no_average(void **state)
{
  struct fixture *fixture = *state;
  update(fixture, 0);
  fixture->view->total.bytes_received = 1000;
  update(fixture, 0);
  expect(fixture, "bytes/received", "1000");
  expect_absent(fixture, "load/bytes/received/1min");
  update(fixture, 10);
  expect(fixture, "load/bytes/received/1min", "921.11");
}

static void long_names_are_cut(void **state)
{
  struct fixture *fixture = *state;
  char id[1000];
  memset(id, 'x', sizeof id - 1);
  id[sizeof id - 1] = '\0';
  fixture->view->broker_id = id;
  update(fixture, 0);
  assert_int_equal(strspn(published(fixture, "id"), "x"), 159);
  update(fixture, 0);
  assert_int_equal(fixture->count, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(first_update_has_every_topic, set_up, tear_down),
      cmocka_unit_test_setup_teardown(every_topic_is_documented, set_up, tear_down),
      cmocka_unit_test_setup_teardown(texts, set_up, tear_down),
      cmocka_unit_test_setup_teardown(numbers, set_up, tear_down),
      cmocka_unit_test_setup_teardown(connections_without_a_session_are_no_clients, set_up, tear_down),
      cmocka_unit_test_setup_teardown(only_changes_are_published, set_up, tear_down),
      cmocka_unit_test_setup_teardown(maxima_stay, set_up, tear_down),
      cmocka_unit_test_setup_teardown(averages_start_at_nothing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(averages_of_one_step, set_up, tear_down),
      cmocka_unit_test_setup_teardown(averages_do_not_depend_on_the_steps, set_up, tear_down),
      cmocka_unit_test_setup_teardown(averages_fade, set_up, tear_down),
      cmocka_unit_test_setup_teardown(no_time_no_average, set_up, tear_down),
      cmocka_unit_test_setup_teardown(long_names_are_cut, set_up, tear_down),
  };
  sys_topics_destroy(NULL);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
