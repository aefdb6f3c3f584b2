#include "cli/top_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct top_table table;
static struct top_broker broker;
static struct buffer out;

static int set_up(void **state)
{
  (void)state;
  top_table_init(&table, 100);
  broker = (struct top_broker){0};
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  top_table_deinit(&table);
  buffer_deinit(&out);
  return 0;
}

static void add(const char *topic, const char *payload)
{
  struct mqtt_publish publish = {.qos = 2, .topic = span_text(topic), .payload = span_text(payload)};
  assert_int_equal(top_table_add(&table, &publish, true, 1000), OK);
}

static struct top_view view(void)
{
  return (struct top_view){.rows = 10,
                           .columns = 60,
                           .sort = TOP_BY_TOPIC,
                           .address = "here:1883",
                           .state = "connected",
                           .clock = "12:00:00",
                           .now_ms = 4000};
}

static const char *drawn(const struct top_view *with)
{
  buffer_consume(&out, buffer_size(&out));
  top_table_sort(&table, with->sort, with->reverse);
  assert_int_equal(top_draw(&table, &broker, with, &out), OK);
  assert_int_equal(buffer_append(&out, "", 1), OK);
  return (const char *)buffer_peek(&out).at;
}

static size_t count(const char *text, const char *part)
{
  size_t found = 0;
  for (const char *at = text; (at = strstr(at, part)); at += strlen(part)) found++;
  return found;
}

static void screen_has_its_rows(void **state)
{
  (void)state;
  add("plant/temp", "21.5");
  add("$SYS/broker/uptime", "5 seconds");
  struct top_view with = view();
  const char *screen = drawn(&with);
  assert_int_equal(count(screen, "\r\n"), 9);  // ten rows
  assert_non_null(strstr(screen, "plant/temp"));
  assert_non_null(strstr(screen, " 2   21.5"));
  assert_non_null(strstr(screen, "3s"));
  assert_null(strstr(screen, "$SYS/broker"));
  assert_int_equal(top_visible(&table, &with), 1);
  with.show_sys = true;
  assert_non_null(strstr(drawn(&with), "$SYS/broker"));
  assert_int_equal(top_visible(&table, &with), 2);
}

static void broker_is_shown(void **state)
{
  (void)state;
  top_broker_update(&broker, span_text("$SYS/broker/version"), span_text("skerry 1"), 1000);
  top_broker_update(&broker, span_text("$SYS/broker/uptime"), span_text("3590 seconds"), 1000);
  top_broker_update(&broker, span_text("$SYS/broker/clients/connected"), span_text("12345"), 1000);
  struct top_view with = view();
  with.now_ms = 12000;  // eleven seconds after the broker said it
  const char *screen = drawn(&with);
  assert_non_null(strstr(screen, "skerry 1  up 1h00"));
  assert_non_null(strstr(screen, "clients 12.3k"));
  with.paused = true;
  with.columns = 100;
  assert_non_null(strstr(drawn(&with), "[paused]"));
}

// The widest line between two ends of line, in characters; sequences that move the cursor or colour count for nothing.
static size_t widest(const char *screen)
{
  size_t most = 0, width = 0;
  for (const char *at = screen; *at; at++) {
    if (*at == '\033')
      at = strpbrk(at + 2, "HKm");
    else if (*at == '\r' || *at == '\n')
      width = 0;
    else if (((unsigned char)*at & 0xc0) != 0x80 && ++width > most)
      most = width;
  }
  return most;
}

static void fits_any_width(void **state)
{
  (void)state;
  add("plant/line/with/a/long/name/\xc3\xa4\xc3\xb6/that/goes/on/and/on", "{\"value\":123456789,\"unit\":\"furlongs\"}");
  for (unsigned columns = TOP_MIN_COLUMNS; columns < 200; columns++) {
    struct top_view with = view();
    with.columns = columns;
    const char *screen = drawn(&with);
    assert_in_range(widest(screen), 1, columns);
    assert_int_equal(count(screen, "\r\n"), 9);
  }
}

static void scrolling(void **state)
{
  (void)state;
  static const char *const topics[] = {"a", "b", "c", "d", "e", "f"};
  for (size_t i = 0; i < 6; i++) add(topics[i], topics[i]);
  struct top_view with = view();
  assert_int_equal(top_page(&with), 3);
  with.scroll = 2;
  const char *screen = drawn(&with);
  assert_null(strstr(screen, "\r\nb "));
  assert_non_null(strstr(screen, "\r\nc "));
  assert_non_null(strstr(screen, "\r\ne "));
  assert_null(strstr(screen, "\r\nf "));
}

// Whatever a publisher sends, it moves no cursor and rings no bell.
static void hostile_values(void **state)
{
  (void)state;
  add("evil/\033[2J", "a\033]0;title\a\r\nb\xc2\x9b"
                      "31m\xff\x7f");
  struct top_view with = view();
  const char *screen = drawn(&with);
  assert_null(strstr(screen, "\033[2J"));
  assert_null(strstr(screen, "\033]"));
  assert_null(strchr(screen, '\a'));
  assert_null(strstr(screen, "\xc2\x9b"));
  assert_null(strchr(screen, '\xff'));
  assert_null(strchr(screen, '\x7f'));
  assert_int_equal(count(screen, "\r\n"), 9);
}

static void plain_lines(void **state)
{
  (void)state;
  add("a", "1");
  add("b", "2");
  struct top_view with = view();
  top_table_sort(&table, TOP_BY_TOPIC, false);
  assert_int_equal(top_print(&table, &broker, &with, 1, &out), OK);
  assert_int_equal(buffer_append(&out, "", 1), OK);
  const char *text = (const char *)buffer_peek(&out).at;
  assert_int_equal(strncmp(text, "12:00:00 here:1883: connected; 2 topics, 0 msg/s, 0 B/s, 2 messages\n", 68), 0);
  assert_int_equal(count(text, "\n"), 2);
  assert_null(strchr(text, '\033'));
}

static struct top_metrics some_metrics(void)
{
  static const char first[] = "skerry_clients 7\nskerry_sessions 8\nskerry_publish_received_total 100\n"
                              "process_cpu_seconds_total 1\n";
  static const char second[] = "skerry_clients 7\nskerry_sessions 8\nskerry_publish_received_total 350\n"
                               "skerry_copies_queued 20000\nskerry_copies_in_flight 3\n"
                               "skerry_copies_dropped_total{reason=\"queue_full\"} 12\n"
                               "skerry_copies_dropped_total{reason=\"mem\033[2J\"} 2\n"
                               "skerry_memory_used_bytes 1572864\nskerry_memory_limit_bytes 67108864\n"
                               "process_cpu_seconds_total 1.034\nprocess_resident_memory_bytes 5242880\n";
  struct top_metrics metrics = {0};
  assert_true(top_metrics_update(&metrics, span_text(first), 1000));
  assert_true(top_metrics_update(&metrics, span_text(second), 2000));
  return metrics;
}

static void metrics_are_shown(void **state)
{
  (void)state;
  top_broker_update(&broker, span_text("$SYS/broker/clients/connected"), span_text("99"), 1000);
  top_broker_update(&broker, span_text("$SYS/broker/heap/current"), span_text("98765"), 1000);
  struct top_metrics metrics = some_metrics();
  struct top_view with = view();
  with.columns = 120;
  with.metrics = &metrics;
  with.metrics_state = "";
  const char *screen = drawn(&with);
  assert_int_equal(count(screen, "\r\n"), 9);  // ten rows, as without
  assert_int_equal(top_page(&with), 1);
  assert_non_null(strstr(screen, "clients 7   sessions 8"));  // not what $SYS says
  assert_null(strstr(screen, "98"));
  assert_non_null(strstr(screen, "broker  in 250 msg/s"));
  assert_non_null(strstr(screen, "process cpu 3.4%   resident 5MiB   memory 1.5MiB of 64MiB\033[K"));
  assert_non_null(strstr(screen, "queued 20k   in flight 3   dropped 14: queue_full 12, mem\xc2\xb7[2J 2\033[K"));
  assert_null(strstr(screen, "\033[2J"));
  with.rows = TOP_MIN_ROWS;  // too low for more
  screen = drawn(&with);
  assert_int_equal(count(screen, "\r\n"), TOP_MIN_ROWS - 1);
  assert_null(strstr(screen, "process"));
}

static void metrics_fail(void **state)
{
  (void)state;
  top_broker_update(&broker, span_text("$SYS/broker/clients/connected"), span_text("99"), 1000);
  struct top_metrics metrics = {0};
  struct top_view with = view();
  with.metrics = &metrics;
  with.metrics_state = "unreachable (\a)";
  const char *screen = drawn(&with);
  assert_non_null(strstr(screen, "connected; metrics: unreachable (\xc2\xb7)"));
  assert_non_null(strstr(screen, "clients 99"));  // what there is
  assert_int_equal(count(screen, "\r\n"), 9);
}

static const char *printed(const struct top_view *with)
{
  buffer_consume(&out, buffer_size(&out));
  assert_int_equal(top_print(&table, &broker, with, 1, &out), OK);
  assert_int_equal(buffer_append(&out, "", 1), OK);
  return (const char *)buffer_peek(&out).at;
}

static void metrics_in_plain_lines(void **state)
{
  (void)state;
  struct top_metrics metrics = some_metrics();
  struct top_view with = view();
  with.metrics = &metrics;
  with.metrics_state = "";
  assert_string_equal(printed(&with),
                      "12:00:00 here:1883: connected; 0 topics, 0 msg/s, 0 B/s, 0 messages; clients 7   sessions 8; in 250 "
                      "msg/s 0 B/s   out 0 msg/s 0 B/s; cpu 3.4%   resident 5MiB   memory 1.5MiB of 64MiB; queued 20k   in "
                      "flight 3   dropped 14: queue_full 12, mem\xc2\xb7[2J 2\n");
  metrics.known = false;
  with.metrics_state = "unreachable (gone)";
  assert_string_equal(printed(&with), "12:00:00 here:1883: connected; 0 topics, 0 msg/s, 0 B/s, 0 messages; metrics: "
                                      "unreachable (gone)\n");
}

static void human_memory(void **state)
{
  (void)state;
  static const struct {
    double bytes;
    const char *text;
  } cases[] = {{0, "0B"},
               {1023, "1023B"},
               {1024, "1KiB"},
               {1536, "1.5KiB"},
               {67108864, "64MiB"},
               {1e9, "954MiB"},
               {1073741824.0 * 16, "16GiB"},
               {1e18, "909495TiB"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[16];
    top_human_memory(cases[i].bytes, text, sizeof text);
    assert_string_equal(text, cases[i].text);
  }
}

static void human_numbers(void **state)
{
  (void)state;
  static const struct {
    double value;
    const char *text;
  } cases[] = {{0, "0"},       {0.25, "0.2"},    {3, "3"},         {12.34, "12.3"},     {100.4, "100"}, {9999, "9999"},
               {10000, "10k"}, {12345, "12.3k"}, {123456, "123k"}, {12345678, "12.3M"}, {-1, "0"},      {1e15, "1000T"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[16];
    top_human(cases[i].value, text, sizeof text);
    assert_string_equal(text, cases[i].text);
  }
}

static void keys(void **state)
{
  (void)state;
  struct span input = span_text("q\033[A\033[6~t z$");
  assert_int_equal(top_next_key(&input), TOP_KEY_QUIT);
  assert_int_equal(top_next_key(&input), TOP_KEY_UP);
  assert_int_equal(top_next_key(&input), TOP_KEY_PAGE_DOWN);
  assert_int_equal(top_next_key(&input), TOP_KEY_SORT_FIRST + TOP_BY_TOPIC);
  assert_int_equal(top_next_key(&input), TOP_KEY_PAUSE);
  assert_int_equal(top_next_key(&input), TOP_KEY_NONE);
  assert_int_equal(top_next_key(&input), TOP_KEY_SYS);
  assert_int_equal(input.size, 0);
  assert_int_equal(top_next_key(&input), TOP_KEY_NONE);
  input = span_text("\033[99qqq");  // its end is no key to quit
  assert_int_equal(top_next_key(&input), TOP_KEY_NONE);
  assert_int_equal(input.size, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(screen_has_its_rows, set_up, tear_down),
      cmocka_unit_test_setup_teardown(broker_is_shown, set_up, tear_down),
      cmocka_unit_test_setup_teardown(fits_any_width, set_up, tear_down),
      cmocka_unit_test_setup_teardown(scrolling, set_up, tear_down),
      cmocka_unit_test_setup_teardown(hostile_values, set_up, tear_down),
      cmocka_unit_test_setup_teardown(plain_lines, set_up, tear_down),
      cmocka_unit_test_setup_teardown(metrics_are_shown, set_up, tear_down),
      cmocka_unit_test_setup_teardown(metrics_fail, set_up, tear_down),
      cmocka_unit_test_setup_teardown(metrics_in_plain_lines, set_up, tear_down),
      cmocka_unit_test(human_memory),
      cmocka_unit_test(human_numbers),
      cmocka_unit_test(keys),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
