#include "cli/sense_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/json.h"

struct collected {
  char text[4096];
  size_t count;
  size_t stop_after;  // 0: never
};

static enum status collect(void *context, struct span topic, struct span payload)
{
  struct collected *collected = context;
  assert_true(json_valid(payload));
  size_t used = strlen(collected->text);
  snprintf(collected->text + used, sizeof collected->text - used, "%.*s %.*s\n", (int)topic.size, (const char *)topic.at,
           (int)payload.size, (const char *)payload.at);
  collected->count++;
  return collected->count == collected->stop_after ? ERR_FULL : OK;
}

static struct sense_sample *before;
static struct sense_sample *now;

static int set_up(void **state)
{
  (void)state;
  before = calloc(1, sizeof *before);
  now = calloc(1, sizeof *now);
  if (!before || !now) return -1;
  before->taken.ms = 1000;
  now->taken.ms = 3000;
  now->time.ms = 1700000000123;
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  free(before);
  free(now);
  return 0;
}

static void expect(const char *wanted)
{
  struct collected collected = {0};
  assert_int_equal(sense_report(before, now, "host/h", collect, &collected), OK);
  assert_string_equal(collected.text, wanted);
}

static void nothing(void **state)
{
  (void)state;
  expect("");
}

static void cpu_shares(void **state)
{
  (void)state;
  before->cpu_count = 2;
  before->cpus[0] = (struct sense_cpu){.index = -1, .user = 100, .idle = 100};
  before->cpus[1] = (struct sense_cpu){.index = 3};
  now->cpu_count = 3;
  now->cpus[0] = (struct sense_cpu){
      .index = -1, .user = 110, .nice = 10, .system = 5, .irq = 5, .idle = 150, .iowait = 10, .steal = 10};
  now->cpus[1] = (struct sense_cpu){.index = 3};             // it stood still
  now->cpus[2] = (struct sense_cpu){.index = 4, .user = 5};  // it is new: there is nothing to compare with
  expect("host/h/cpu/total {\"usage\":40,\"user\":20,\"system\":10,\"iowait\":10,\"steal\":10,\"t\":1700000000123}\n"
         "host/h/cpu/3 {\"usage\":0,\"user\":0,\"system\":0,\"iowait\":0,\"steal\":0,\"t\":1700000000123}\n");
}

static void memory_load_uptime(void **state)
{
  (void)state;
  now->has_memory = now->has_load = now->has_uptime = true;
  now->memory = (struct sense_memory){.total_bytes = 1000,
                                      .available_bytes = 250,
                                      .free_bytes = 100,
                                      .cached_bytes = 50,
                                      .swap_total_bytes = 80,
                                      .swap_free_bytes = 30};
  now->load = (struct sense_load){.one = 1.5, .five = 0.25, .fifteen = 3, .running = 2, .threads = 99};
  now->uptime_s = 12.345;
  expect("host/h/memory {\"total\":1000,\"available\":250,\"free\":100,\"cached\":50,\"usage\":75,"
         "\"swap_total\":80,\"swap_used\":50,\"t\":1700000000123}\n"
         "host/h/load {\"load1\":1.5,\"load5\":0.25,\"load15\":3,\"running\":2,\"threads\":99,\"t\":1700000000123}\n"
         "host/h/uptime {\"seconds\":12.35,\"t\":1700000000123}\n");
}

// Two seconds between the samples: rates are half of what was counted.
static void rates(void **state)
{
  (void)state;
  before->disk_count = before->network_count = 1;
  before->disks[0] = (struct sense_disk){.name = "sda", .reads = 10, .read_bytes = 1000, .writes = 5, .write_bytes = 9000};
  before->networks[0] = (struct sense_network){.name = "eth0", .rx_bytes = 100, .tx_bytes = 100, .rx_packets = 9};
  now->disk_count = now->network_count = 1;
  now->disks[0] =
      (struct sense_disk){.name = "sda", .reads = 11, .read_bytes = 3000, .writes = 5, .write_bytes = 0, .busy_ms = 500};
  now->networks[0] =
      (struct sense_network){.name = "eth0", .rx_bytes = 300, .tx_bytes = 101, .rx_packets = 19, .rx_errors = 7};
  expect("host/h/disk/sda {\"read_bytes_per_s\":1000,\"write_bytes_per_s\":0,\"reads_per_s\":0.5,"
         "\"writes_per_s\":0,\"busy\":25,\"t\":1700000000123}\n"
         "host/h/network/eth0 {\"rx_bytes_per_s\":100,\"tx_bytes_per_s\":0.5,\"rx_packets_per_s\":5,"
         "\"tx_packets_per_s\":0,\"rx_errors\":7,\"tx_errors\":0,\"rx_dropped\":0,\"tx_dropped\":0,\"t\":1700000000123}\n");
}

static void names_fit_topics(void **state)
{
  (void)state;
  now->mount_count = 2;
  now->mounts[0] = (struct sense_mount){.path = "/", .size_bytes = 100, .free_bytes = 60, .available_bytes = 40};
  now->mounts[1] = (struct sense_mount){.path = "/mnt/a +#\"b", .size_bytes = 10, .free_bytes = 10, .available_bytes = 10};
  now->temperature_count = 1;
  now->temperatures[0] = (struct sense_temperature){.name = "x86/pkg temp", .celsius = -1.25};
  expect(
      "host/h/filesystem/root {\"size\":100,\"used\":40,\"available\":40,\"usage\":50,\"path\":\"/\",\"t\":1700000000123}\n"
      "host/h/filesystem/mnt_a___\"b {\"size\":10,\"used\":0,\"available\":10,\"usage\":0,"
      "\"path\":\"/mnt/a +#\\\"b\",\"t\":1700000000123}\n"
      "host/h/temperature/x86_pkg_temp {\"celsius\":-1.25,\"t\":1700000000123}\n");
}

static void pressures(void **state)
{
  (void)state;
  now->pressure[1] = (struct sense_pressure){.has_some = true, .some_10s = 1.5, .some_60s = 2, .some_300s = 0};
  expect("host/h/pressure/memory {\"some10\":1.5,\"some60\":2,\"some300\":0,\"t\":1700000000123}\n");
}

static void a_failure_ends_it(void **state)
{
  (void)state;
  now->has_memory = now->has_load = now->has_uptime = true;
  now->memory.total_bytes = 1;
  struct collected collected = {.stop_after = 2};
  assert_int_equal(sense_report(before, now, "h", collect, &collected), ERR_FULL);
  assert_int_equal(collected.count, 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(nothing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(cpu_shares, set_up, tear_down),
      cmocka_unit_test_setup_teardown(memory_load_uptime, set_up, tear_down),
      cmocka_unit_test_setup_teardown(rates, set_up, tear_down),
      cmocka_unit_test_setup_teardown(names_fit_topics, set_up, tear_down),
      cmocka_unit_test_setup_teardown(pressures, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_failure_ends_it, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
