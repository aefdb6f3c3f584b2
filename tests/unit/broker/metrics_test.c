// The metrics page. The first argument is docs/metrics.md, which has to be what the tables say now; with "--write" behind it
// the program writes that file instead of testing.
#include "broker/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/metrics_help.h"
#include "broker/process_stats.h"
#include "broker/watch_tables.h"

enum { TEXT_MAX = 1 << 20 };

static struct status_view *view_create(void)
{
  struct status_view *view = calloc(1, sizeof *view);
  assert_non_null(view);
  view->shard_count = 2;
  view->version = "0.1.0";
  view->broker_id = "cell-7";
  return view;
}

// NUL-terminated; the caller frees.
static char *format(const struct status_view *view)
{
  struct buffer out;
  buffer_init(&out);
  assert_int_equal(metrics_format(view, &out), OK);
  assert_int_equal(buffer_append(&out, "", 1), OK);
  char *text = strdup((const char *)buffer_peek(&out).at);
  assert_non_null(text);
  buffer_deinit(&out);
  return text;
}

// The value of a series ("name" or "name{labels}"); -1 when there is no such line.
static int64_t value_of(const char *text, const char *series)
{
  size_t size = strlen(series);
  for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
    if (strncmp(line, series, size) == 0 && line[size] == ' ') return strtoll(line + size + 1, NULL, 10);
  return -1;
}

static void expect(const struct status_view *view, const char *series, int64_t value)
{
  char *text = format(view);
  int64_t found = value_of(text, series);
  if (found != value) fail_msg("%s is %" PRId64 " and not %" PRId64, series, found, value);
  free(text);
}

static void plain_values(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->total.publish_received = 18446744073709551615u;
  view->total.connections = 3;
  view->net.accepted = 12;
  view->uptime_s = 61;
  char *text = format(view);
  assert_non_null(strstr(text, "\nskerry_publish_routed_total 0\n"));
  assert_non_null(strstr(text, "skerry_publish_received_total 18446744073709551615\n"));
  assert_int_equal(value_of(text, "skerry_connections"), 3);
  assert_int_equal(value_of(text, "skerry_connections_accepted_total"), 12);
  assert_int_equal(value_of(text, "skerry_uptime_seconds"), 61);
  free(text);
  free(view);
}

// A budget may be below zero for a moment, when shards have not told it of what they freed and took.
static void memory_is_never_negative(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->memory_used_bytes = -1;
  view->memory_limit_bytes = INT64_C(1) << 40;
  expect(view, "skerry_memory_used_bytes", 0);
  expect(view, "skerry_memory_limit_bytes", INT64_C(1) << 40);
  view->memory_used_bytes = 4096;
  expect(view, "skerry_memory_used_bytes", 4096);
  free(view);
}

static void labels_by_enumeration(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  for (unsigned i = 0; i < DROP_REASONS; i++) view->total.dropped[i] = 100 + i;
  for (unsigned i = 0; i < REFUSE_REASONS; i++) view->total.publish_refused[i] = 200 + i;
  char series[128];
  for (unsigned i = 0; i < DROP_REASONS; i++) {
    snprintf(series, sizeof series, "skerry_copies_dropped_total{reason=\"%s\"}", drop_reason_name((enum drop_reason)i));
    expect(view, series, 100 + (int64_t)i);
  }
  for (unsigned i = 0; i < REFUSE_REASONS; i++) {
    snprintf(series, sizeof series, "skerry_publish_refused_total{reason=\"%s\"}",
             refuse_reason_name((enum refuse_reason)i));
    expect(view, series, 200 + (int64_t)i);
  }
  free(view);
}

static void labels_of_single_rows(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->net.refused_limit = 4;
  view->net.refused_framing = 5;
  view->total.disconnects_lost = 6;
  view->reloads = 7;
  view->reloads_refused = 8;
  expect(view, "skerry_connections_refused_total{reason=\"limit\"}", 4);
  expect(view, "skerry_connections_refused_total{reason=\"framing\"}", 5);
  expect(view, "skerry_disconnects_total{reason=\"lost\"}", 6);
  expect(view, "skerry_disconnects_total{reason=\"clean\"}", 0);
  expect(view, "skerry_config_reloads_total{result=\"applied\"}", 7);
  expect(view, "skerry_config_reloads_total{result=\"refused\"}", 8);
  free(view);
}

static void packets_have_the_types_of_their_direction(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->total.packets_received[3] = 9;
  view->total.packets_sent[2] = 8;
  expect(view, "skerry_packets_received_total{type=\"PUBLISH\"}", 9);
  expect(view, "skerry_packets_received_total{type=\"PINGREQ\"}", 0);
  expect(view, "skerry_packets_received_total{type=\"CONNACK\"}", -1);
  expect(view, "skerry_packets_sent_total{type=\"CONNACK\"}", 8);
  expect(view, "skerry_packets_sent_total{type=\"CONNECT\"}", -1);
  view->total.packets_received[2] = 1;  // cannot be, but would have to be seen
  expect(view, "skerry_packets_received_total{type=\"CONNACK\"}", 1);
  free(view);
}

static void faults_only_where_there_are_any(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->total.faults[0x93] = 2;
  char *text = format(view);
  assert_int_equal(value_of(text, "skerry_faults_total{reason=\"0x93\",name=\"receive maximum exceeded\"}"), 2);
  assert_null(strstr(text, "reason=\"0x94\""));
  assert_non_null(strstr(text, "# TYPE skerry_faults_total counter\n"));
  free(text);
  free(view);
}

static void shards_are_told_apart(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->shards[0].connections = 5;
  view->shards[1].connections = 6;
  view->total.connections = 11;
  expect(view, "skerry_shards", 2);
  expect(view, "skerry_shard_connections{shard=\"0\"}", 5);
  expect(view, "skerry_shard_connections{shard=\"1\"}", 6);
  expect(view, "skerry_shard_connections{shard=\"2\"}", -1);
  expect(view, "skerry_connections", 11);
  view->shard_count = SHARDS_MAX;
  expect(view, "skerry_shard_connections{shard=\"15\"}", 0);
  free(view);
}

static void label_values_are_escaped(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->broker_id = "a\"b\\c\nd\xc3\xa9\xff!";
  char *text = format(view);
  assert_non_null(
      strstr(text, "\nskerry_build_info{version=\"0.1.0\",broker_id=\"a\\\"b\\\\c\\nd\xc3\xa9\xef\xbf\xbd!\"} 1\n"));
  free(text);
  free(view);
}

// The process itself: numbers that must lie between what is known otherwise.
static void process_values(void **state)
{
  (void)state;
  struct process_stats before, after;
  assert_int_equal(process_stats_read(&before), OK);
  assert_in_range(before.resident_bytes, 256 * 1024, before.virtual_bytes);
  assert_true(before.virtual_bytes > before.resident_bytes);
  uint64_t now_ms = (uint64_t)time(NULL) * 1000;
  assert_in_range(before.start_time_ms, now_ms - 3600 * 1000, now_ms + 5000);
  int fds[8];
  for (size_t i = 0; i < 8; i++) assert_true((fds[i] = dup(STDERR_FILENO)) >= 0);
  // Some work, so that there is CPU time to be seen.
  volatile uint64_t sink = 0;
  clock_t start = clock();
  while (clock() - start < CLOCKS_PER_SEC / 20) sink = sink + 1;
  assert_int_equal(process_stats_read(&after), OK);
  assert_int_equal(after.open_fds, before.open_fds + 8);
  assert_in_range(after.cpu_us - before.cpu_us, 20000, 10000000);
  assert_true(after.max_fds == 0 || after.max_fds >= after.open_fds);
  for (size_t i = 0; i < 8; i++) close(fds[i]);

  struct status_view *view = view_create();
  char *text = format(view);
  assert_in_range(value_of(text, "process_resident_memory_bytes"), 256 * 1024, INT64_C(1) << 40);
  assert_in_range(value_of(text, "process_start_time_seconds"), now_ms / 1000 - 3600, now_ms / 1000 + 5);
  const char *cpu = strstr(text, "\nprocess_cpu_seconds_total ");
  assert_non_null(cpu);
  const char *point = strchr(cpu, '.');
  assert_non_null(point);
  assert_int_equal(strspn(point + 1, "0123456789"), 6);
  free(text);
  free(view);
}

// What is in the buffer before stays, and a full memory leaves nothing half.
static void appends(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  struct buffer out;
  buffer_init(&out);
  assert_int_equal(buffer_append(&out, "before\n", 7), OK);
  assert_int_equal(metrics_format(view, &out), OK);
  struct span text = buffer_peek(&out);
  assert_memory_equal(text.at, "before\n# HELP ", 14);
  assert_int_equal(text.at[text.size - 1], '\n');
  buffer_deinit(&out);
  free(view);
}

// ---- The table

static bool name_is_valid(const char *name)
{
  for (const char *c = name; *c; c++)
    if (!islower((unsigned char)*c) && *c != '_') return false;
  return strncmp(name, "skerry_", 7) == 0 || strncmp(name, "process_", 8) == 0;
}

static bool ends_with(const char *text, const char *end)
{
  return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static void the_table_is_in_order(void **state)
{
  (void)state;
  size_t count;
  const struct metric *table = metrics_table(&count);
  assert_true(count > 40);
  for (size_t i = 0; i < count; i++) {
    const struct metric *metric = &table[i];
    if (!name_is_valid(metric->name)) fail_msg("%s", metric->name);
    if (ends_with(metric->name, "_total") != (metric->type == METRIC_COUNTER)) fail_msg("%s", metric->name);
    if (!metric->help) {
      assert_true(i > 0);
      assert_string_equal(metric->name, table[i - 1].name);
      assert_int_equal(metric->type, table[i - 1].type);
      assert_non_null(metric->series);
      continue;
    }
    assert_null(strpbrk(metric->help, "\n\\|"));  // neither for the page nor for Markdown
    assert_int_equal(metric->help[strlen(metric->help) - 1], '.');
    for (size_t j = 0; j < i; j++)
      if (strcmp(table[j].name, metric->name) == 0) fail_msg("%s is there twice", metric->name);
  }
}

// Every number of struct counters can be seen: setting any of them changes the page.
static void nothing_is_hidden(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  uint64_t *counts = (uint64_t *)(void *)&view->total;
  for (size_t i = 0; i < sizeof view->total / sizeof *counts; i++) {
    size_t offset = i * sizeof *counts;
    if (offset == offsetof(struct counters, connections_accepted)) continue;  // the net counts them too
    counts[i] = 7777777777;
    char *text = format(view);
    if (!strstr(text, " 7777777777\n")) fail_msg("counter at offset %zu is not shown", offset);
    free(text);
    counts[i] = 0;
  }
  free(view);
}

// The same for the store's, but for the commits, which are a histogram.
static void nothing_of_the_journal_is_hidden(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->has_journal = true;
  uint64_t *counts = (uint64_t *)(void *)&view->journal;
  for (size_t offset = 0; offset < offsetof(struct store_counters, commit_count); offset += sizeof *counts) {
    uint64_t *count = &counts[offset / sizeof *counts];
    *count = 7777777777;
    char *text = format(view);
    // open_ms is shown in seconds.
    if (!strstr(text, " 7777777777\n") && !strstr(text, " 7777777.777\n")) fail_msg("the one at %zu is not shown", offset);
    free(text);
    *count = 0;
  }
  free(view);
}

static void a_journal_is_described(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  char *text = format(view);
  assert_null(strstr(text, "skerry_journal"));
  free(text);
  view->has_journal = true;
  expect(view, "skerry_journal_state{state=\"ok\"}", 1);
  view->journal_state = JOURNAL_FULL;
  expect(view, "skerry_journal_state{state=\"ok\"}", 0);
  expect(view, "skerry_journal_state{state=\"full\"}", 1);
  expect(view, "skerry_journal_state{state=\"failing\"}", 0);
  expect(view, "skerry_journal_bytes_per_message", 0);
  view->journal.bytes_written = 1000;
  view->journal.messages = 3;
  text = format(view);
  assert_non_null(strstr(text, "\nskerry_journal_bytes_per_message 333.3\n"));
  free(text);
  free(view);
}

static void commits_are_a_histogram(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->has_journal = true;
  view->journal.commit_us[0] = 5;
  view->journal.commit_us[1] = 2;
  view->journal.commit_us[COMMIT_BUCKETS - 1] = 1;
  view->journal.commit_count = 10;  // two were longer than the last bound
  view->journal.commit_us_sum = 12345678;
  char *text = format(view);
  assert_non_null(strstr(text, "\n# TYPE skerry_journal_commit_seconds histogram\n"
                               "skerry_journal_commit_seconds_bucket{le=\"0.000050\"} 5\n"
                               "skerry_journal_commit_seconds_bucket{le=\"0.000100\"} 7\n"
                               "skerry_journal_commit_seconds_bucket{le=\"0.000200\"} 7\n"));
  assert_non_null(strstr(text, "skerry_journal_commit_seconds_bucket{le=\"1.638400\"} 8\n"
                               "skerry_journal_commit_seconds_bucket{le=\"+Inf\"} 10\n"
                               "skerry_journal_commit_seconds_sum 12.345678\n"
                               "skerry_journal_commit_seconds_count 10\n"));
  free(text);
  free(view);
}

// ---- promtool, where it is installed

static int run_promtool(const char *text)
{
  FILE *tool = popen("promtool check metrics >/dev/null 2>&1", "w");
  assert_non_null(tool);
  fputs(text, tool);
  return pclose(tool);
}

static void promtool_likes_it(void **state)
{
  (void)state;
  if (system("command -v promtool >/dev/null 2>&1") != 0) skip();
  struct status_view *view = view_create();
  view->broker_id = "\"\\\n\xff";
  view->has_journal = true;
  view->journal.commit_us[3] = view->journal.commit_count = 4;
  for (size_t i = 0; i < 256; i++) view->total.faults[i] = i;
  char *text = format(view);
  assert_int_equal(run_promtool(text), 0);
  assert_int_not_equal(run_promtool("wrong{ 1\n"), 0);
  free(text);
  free(view);
}

// ---- Documentation

static char *make_documentation(void)
{
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_non_null(file);
  metrics_help_markdown(file);
  fclose(file);
  return text;
}

static void documentation_is_up_to_date(void **state)
{
  const char *path = *state;
  FILE *file = fopen(path, "r");
  if (!file) fail_msg("cannot open %s", path);
  char *kept = calloc(1, TEXT_MAX);
  assert_non_null(kept);
  assert_true(fread(kept, 1, TEXT_MAX - 1, file) > 0);
  fclose(file);
  char *made = make_documentation();
  if (strcmp(made, kept) != 0) fail_msg("run: broker_metrics_test docs/metrics.md --write");
  free(made);
  free(kept);
}

static void documentation_holds_every_name(void **state)
{
  (void)state;
  char *made = make_documentation();
  size_t count;
  const struct metric *table = metrics_table(&count);
  char cell[128];
  for (size_t i = 0; i < count; i++) {
    snprintf(cell, sizeof cell, "| `%s` |", table[i].name);
    if (!strstr(made, cell)) fail_msg("%s", table[i].name);
  }
  const struct sys_topic_row *row;
  for (size_t i = 0; (row = sys_topics_row(i)); i++)
    if (!strstr(made, row->topic)) fail_msg("%s", row->topic);
  free(made);
}

static void certificates_by_listener(void **state)
{
  (void)state;
  struct status_view *view = view_create();
  view->certificates[0] = (struct certificate_view){.listener = "mqtts://*:8883", .end_s = INT64_C(4102444800)};
  view->certificates[1] = (struct certificate_view){.listener = "a \"name\"", .end_s = 5};
  view->certificates[1].crl_end_s = 7;
  view->certificate_count = 2;
  expect(view, "skerry_tls_certificate_end_seconds{listener=\"mqtts://*:8883\"}", INT64_C(4102444800));
  expect(view, "skerry_tls_certificate_end_seconds{listener=\"a \\\"name\\\"\"}", 5);
  expect(view, "skerry_tls_crl_end_seconds{listener=\"a \\\"name\\\"\"}", 7);
  struct buffer page = {0};
  assert_int_equal(metrics_format(view, &page), OK);
  assert_int_equal(buffer_append(&page, "", 1), OK);
  assert_null(strstr((const char *)buffer_peek(&page).at, "skerry_tls_crl_end_seconds{listener=\"mqtts"));
  buffer_deinit(&page);
  free(view);
}

static int write_documentation(const char *path)
{
  FILE *file = fopen(path, "w");
  if (!file) {
    perror(path);
    return 1;
  }
  metrics_help_markdown(file);
  return fclose(file) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
  if (argc < 2) return 2;
  if (argc == 3 && strcmp(argv[2], "--write") == 0) return write_documentation(argv[1]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_values),
      cmocka_unit_test(memory_is_never_negative),
      cmocka_unit_test(labels_by_enumeration),
      cmocka_unit_test(labels_of_single_rows),
      cmocka_unit_test(packets_have_the_types_of_their_direction),
      cmocka_unit_test(faults_only_where_there_are_any),
      cmocka_unit_test(shards_are_told_apart),
      cmocka_unit_test(label_values_are_escaped),
      cmocka_unit_test(process_values),
      cmocka_unit_test(appends),
      cmocka_unit_test(the_table_is_in_order),
      cmocka_unit_test(nothing_is_hidden),
      cmocka_unit_test(nothing_of_the_journal_is_hidden),
      cmocka_unit_test(a_journal_is_described),
      cmocka_unit_test(commits_are_a_histogram),
      cmocka_unit_test(certificates_by_listener),
      cmocka_unit_test(promtool_likes_it),
      cmocka_unit_test_prestate(documentation_is_up_to_date, argv[1]),
      cmocka_unit_test(documentation_holds_every_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
