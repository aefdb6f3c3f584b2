#include "cli/top_metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// A page of a real broker that had 20 of 100 messages queued for a session and dropped 80.
struct fixture {
  const char *path;
  char *page;
};

static struct fixture fixture;

static int load(void **state)
{
  (void)state;
  FILE *file = fopen(fixture.path, "r");
  if (!file) return -1;
  size_t capacity = 65536;
  fixture.page = calloc(1, capacity);
  size_t size = fixture.page ? fread(fixture.page, 1, capacity - 1, file) : 0;
  fclose(file);
  return size > 0 ? 0 : -1;
}

static int unload(void **state)
{
  (void)state;
  free(fixture.page);
  return 0;
}

static void update(struct top_metrics *metrics, const char *page, uint64_t now_ms)
{
  assert_true(top_metrics_update(metrics, span_text(page), now_ms));
  assert_true(metrics->known);
}

static void expect(const struct top_counter *counter, uint64_t value)
{
  assert_true(counter->known);
  assert_int_equal(counter->value, value);
}

static void real_page(void **state)
{
  (void)state;
  struct top_metrics metrics = {0};
  update(&metrics, fixture.page, 1000);
  expect(&metrics.clients, 2);
  expect(&metrics.sessions, 3);
  expect(&metrics.subscriptions, 3);  // 2 and a shared one
  expect(&metrics.retained, 56);
  expect(&metrics.received, 101);
  expect(&metrics.delivered, 202);
  expect(&metrics.queued, 20);
  expect(&metrics.in_flight, 0);
  expect(&metrics.expired, 0);
  expect(&metrics.refused, 0);
  expect(&metrics.dropped, 80);
  expect(&metrics.memory_limit_bytes, 64ULL << 20);
  expect(&metrics.memory_used_bytes, 28625);
  expect(&metrics.resident_bytes, 2781184);
  expect(&metrics.cpu_us, 4589);
  expect(&metrics.bytes_in, 2254);
  expect(&metrics.bytes_out, 2929);
  expect(&metrics.uptime_s, 2);
  assert_int_equal(metrics.reason_count, 1);
  assert_string_equal(metrics.reasons[0].name, "queue_full");
  assert_int_equal(metrics.reasons[0].count, 80);
  assert_true(metrics.received.rate == 0);
}

// However the page is cut, nothing is read beyond it.
static void cut_page(void **state)
{
  (void)state;
  size_t size = strlen(fixture.page);
  for (size_t cut = 0; cut <= size; cut += cut < 2000 ? 1 : 37) {
    char *copy = malloc(cut + 1);
    assert_non_null(copy);
    memcpy(copy, fixture.page, cut);
    struct top_metrics metrics = {0};
    bool known = top_metrics_update(&metrics, span_of(copy, cut), 1000);
    assert_true(known == metrics.known);
    free(copy);
  }
}

static void rates(void **state)
{
  (void)state;
  struct top_metrics metrics = {0};
  update(&metrics, "skerry_publish_received_total 100\nprocess_cpu_seconds_total 1.5\n", 1000);
  update(&metrics, "skerry_publish_received_total 300\nprocess_cpu_seconds_total 1.75\n", 2000);
  assert_true(metrics.received.rate == 200);
  assert_true(metrics.cpu_us.rate == 250000);                   // a quarter of a CPU
  update(&metrics, "skerry_publish_received_total 7\n", 3000);  // the broker was restarted
  assert_true(metrics.received.rate == 0);
  assert_false(metrics.cpu_us.known);
}

static void sums_of_both_kinds_have_rates(void **state)
{
  (void)state;
  struct top_metrics metrics = {0};
  update(&metrics, "skerry_subscriptions 1\nskerry_shared_subscriptions 2\n", 1000);
  update(&metrics, "skerry_shared_subscriptions 4\nskerry_subscriptions 1\n", 2000);
  expect(&metrics.subscriptions, 5);
  assert_true(metrics.subscriptions.rate == 2);
}

static void reasons_in_order(void **state)
{
  (void)state;
  struct top_metrics metrics = {0};
  update(&metrics,
         "skerry_copies_dropped_total{reason=\"memory\"} 2\n"
         "skerry_copies_dropped_total{reason=\"queue_full\"} 30\n"
         "skerry_copies_dropped_total{reason=\"refused\"} 0\n"
         "skerry_copies_dropped_total{shard=\"0\",reason=\"slow_consumer\"} 4\n",
         1000);
  expect(&metrics.dropped, 36);
  assert_int_equal(metrics.reason_count, 3);
  assert_string_equal(metrics.reasons[0].name, "queue_full");
  assert_string_equal(metrics.reasons[1].name, "slow_consumer");
  assert_string_equal(metrics.reasons[2].name, "memory");
  update(&metrics, "skerry_copies_dropped_total{reason=\"memory\"} 3\n", 2000);  // anew, not on top
  assert_int_equal(metrics.reason_count, 1);
}

static void reasons_are_bounded(void **state)
{
  (void)state;
  char page[8192];
  size_t size = 0;
  for (unsigned i = 0; i < 40; i++)
    size += (size_t)snprintf(page + size, sizeof page - size,
                             "skerry_copies_dropped_total{reason=\"a reason with a very long name of its own %u\"} 1\n", i);
  struct top_metrics metrics = {0};
  update(&metrics, page, 1000);
  expect(&metrics.dropped, 40);
  assert_int_equal(metrics.reason_count, TOP_REASONS_MAX);
  assert_int_equal(strlen(metrics.reasons[0].name), TOP_REASON_SIZE - 1);
}

static void other_pages(void **state)
{
  (void)state;
  struct top_metrics metrics = {0};
  update(&metrics, "skerry_clients 1\n", 1000);
  // Every program that Prometheus watches has these.
  assert_false(top_metrics_update(&metrics, span_text("process_cpu_seconds_total 1\nup 1\n"), 2000));
  assert_false(metrics.known);
  assert_false(metrics.clients.known);
  assert_false(metrics.cpu_us.known);
  assert_false(top_metrics_update(&metrics, span_text("<html>skerry_clients</html>"), 2000));
  assert_false(top_metrics_update(&metrics, span_of(NULL, 0), 2000));
}

static void values_out_of_range(void **state)
{
  (void)state;
  struct top_metrics metrics = {0};
  update(&metrics, "skerry_clients 1e300\nskerry_sessions 2\nskerry_copies_dropped_total{reason=\"x\"} 1e30\n", 1000);
  assert_false(metrics.clients.known);
  assert_false(metrics.dropped.known);
  assert_int_equal(metrics.reason_count, 0);
  expect(&metrics.sessions, 2);
}

static void samples(void **state)
{
  (void)state;
  static const struct {
    const char *line;
    const char *name;  // NULL: no sample
    double value;
  } cases[] = {
      {"a 1", "a", 1},
      {"  a\t1.5e3 1700000000000", "a", 1500},
      {"a{} 2", "a", 2},
      {"a {x=\"1\"} 3\r", "a", 3},
      {"a{x=\"1\",} 4", "a", 4},
      {"a{ x = \"}\" , y=\"\\\"} 9\" } 5", "a", 5},
      {"# a 1", NULL, 0},
      {"", NULL, 0},
      {"a", NULL, 0},
      {"a ", NULL, 0},
      {"a one", NULL, 0},
      {"a 1x", NULL, 0},
      {"a -1", NULL, 0},
      {"a NaN", NULL, 0},
      {"a +Inf", NULL, 0},
      {"a{x=\"1\" 1", NULL, 0},
      {"a{x=\"1} 1", NULL, 0},
      {"a{x=\"1\\", NULL, 0},
      {"a{x=1} 1", NULL, 0},
      {"a{x} 1", NULL, 0},
      {"a{=\"1\"} 1", NULL, 0},
      {"{x=\"1\"} 1", NULL, 0},
      {"a 0000000000000000000000000000000000000000000000000000000000000000000001", NULL, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct span page = span_text(cases[i].line);
    struct top_sample sample;
    assert_int_equal(top_next_sample(&page, &sample), cases[i].name != NULL);
    assert_int_equal(page.size, 0);
    if (!cases[i].name) continue;
    assert_true(span_equal(sample.name, span_text(cases[i].name)));
    assert_true(sample.value == cases[i].value);
  }
}

static void labels(void **state)
{
  (void)state;
  struct span page = span_text("#\na{x=\"1\", long_name=\"}, x=\\\"2\\\"\",z=\"\"} 1\nb 2");
  struct top_sample sample;
  assert_true(top_next_sample(&page, &sample));
  assert_true(span_equal(top_sample_label(&sample, "x"), span_text("1")));
  assert_true(span_equal(top_sample_label(&sample, "long_name"), span_text("}, x=\\\"2\\\"")));
  assert_int_equal(top_sample_label(&sample, "z").size, 0);
  assert_int_equal(top_sample_label(&sample, "y").size, 0);
  assert_true(top_next_sample(&page, &sample));
  assert_true(span_equal(sample.name, span_text("b")));
  assert_int_equal(top_sample_label(&sample, "x").size, 0);
  assert_false(top_next_sample(&page, &sample));
}

int main(int argc, char **argv)
{
  if (argc != 2) return 2;
  fixture.path = argv[1];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(real_page),
      cmocka_unit_test(cut_page),
      cmocka_unit_test(rates),
      cmocka_unit_test(sums_of_both_kinds_have_rates),
      cmocka_unit_test(reasons_in_order),
      cmocka_unit_test(reasons_are_bounded),
      cmocka_unit_test(other_pages),
      cmocka_unit_test(values_out_of_range),
      cmocka_unit_test(samples),
      cmocka_unit_test(labels),
  };
  return cmocka_run_group_tests(tests, load, unload);
}
