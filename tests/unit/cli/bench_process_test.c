#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/bench_process.h"

static void test_schedstat(void **state)
{
  (void)state;
  uint64_t ns = 0;
  assert_true(process_parse_schedstat(span_text("5915583 292446 6\n"), &ns));
  assert_int_equal(ns, 5915583);
  assert_false(process_parse_schedstat(span_text(""), &ns));
  assert_false(process_parse_schedstat(span_text("x 1 2"), &ns));
}

static void test_stat(void **state)
{
  (void)state;
  uint64_t ticks = 0;
  const char *plain = "42 (skerry) S 1 42 42 0 -1 4194304 1 2 3 4 150 25 7 8 20 0 3 0 99 1 2";
  assert_true(process_parse_stat(span_text(plain), &ticks));
  assert_int_equal(ticks, 175);
  // A name may hold anything, even what looks like the end of it.
  const char *nasty = "42 (a) b (c) 1 2) S 1 42 42 0 -1 4194304 1 2 3 4 1000 1 7 8 20 0 3 0 99 1 2";
  assert_true(process_parse_stat(span_text(nasty), &ticks));
  assert_int_equal(ticks, 1001);
}

static void test_stat_cut_short(void **state)
{
  (void)state;
  const char *text = "42 (skerry) S 1 42 42 0 -1 4194304 1 2 3 4 150 25";
  uint64_t ticks = 77;
  // Whole up to stime: every shorter text lacks something, or ends within the last number.
  for (size_t size = 0; size + 2 < strlen(text); size++) assert_false(process_parse_stat(span_of(text, size), &ticks));
  assert_int_equal(ticks, 77);
  assert_false(process_parse_stat(span_text("no parenthesis"), &ticks));
}

static void test_rollup(void **state)
{
  (void)state;
  const char *text = "5595b027b000-7ffd9fba1000 ---p 00000000 00:00 0    [rollup]\n"
                     "Rss:                8540 kB\nPss:                7005 kB\nPss_Dirty:          1064 kB\n";
  uint64_t bytes = 0;
  assert_true(process_parse_kib_line(span_text(text), "Rss:", &bytes));
  assert_int_equal(bytes, 8540 * 1024);
  assert_true(process_parse_kib_line(span_text(text), "Pss:", &bytes));
  assert_int_equal(bytes, 7005 * 1024);
  assert_true(process_parse_kib_line(span_text(text), "Pss_Dirty:", &bytes));
  assert_int_equal(bytes, 1064 * 1024);
  assert_false(process_parse_kib_line(span_text(text), "Swap:", &bytes));
  assert_false(process_parse_kib_line(span_text(text), "rollup", &bytes));
  assert_false(process_parse_kib_line(span_text("Rss:"), "Rss:", &bytes));
  assert_false(process_parse_kib_line(span_text(""), "Rss:", &bytes));
}

static void test_this_process(void **state)
{
  (void)state;
  uint64_t ns = 0;
  assert_int_equal(process_cpu(getpid(), &ns), OK);
  struct process_memory memory = {0};
  assert_int_equal(process_memory(getpid(), &memory), OK);
  assert_true(memory.rss_bytes > 100 * 1024);
  assert_true(memory.pss_bytes > 0);
  assert_true(memory.pss_bytes <= memory.rss_bytes);
}

static void test_cpu_time_grows_with_work(void **state)
{
  (void)state;
  uint64_t before = 0;
  uint64_t after = 0;
  assert_int_equal(process_cpu(getpid(), &before), OK);
  volatile uint64_t steps = 0;
  // The kernel's counter may lag by a tick, so work until it moves; a hundred million steps are far more than one.
  for (uint64_t i = 0; i < 100; i++) {
    for (steps = 0; steps < 1000000;) steps++;
    assert_int_equal(process_cpu(getpid(), &after), OK);
    if (after > before) break;
  }
  assert_true(after > before);
}

static void test_no_such_process(void **state)
{
  (void)state;
  uint64_t ns = 1;
  struct process_memory memory;
  // Beyond the kernel's largest process identifier.
  assert_int_equal(process_cpu(0x7ffffff0, &ns), ERR_NOT_FOUND);
  assert_int_equal(process_memory(0x7ffffff0, &memory), ERR_NOT_FOUND);
  assert_int_equal(ns, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_schedstat),       cmocka_unit_test(test_stat),
      cmocka_unit_test(test_stat_cut_short),  cmocka_unit_test(test_rollup),
      cmocka_unit_test(test_this_process),    cmocka_unit_test(test_cpu_time_grows_with_work),
      cmocka_unit_test(test_no_such_process),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
