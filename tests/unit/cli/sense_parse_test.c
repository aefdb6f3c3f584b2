#include "cli/sense_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void cpus(void **state)
{
  (void)state;
  struct sense_cpu cpu[3];
  struct span text = span_text("cpu  10 20 30 40 50 60 70 80 90 100\n"
                               "cpu0 1 2 3 4\n"
                               "cpux 1 2 3 4\n"
                               "cpu1 1 2 3\n"
                               "cpu12 5 6 7 8 9 10 11 12\n"
                               "intr 5 6 7 8\n");
  assert_int_equal(sense_parse_cpus(text, cpu, 3), 3);
  assert_int_equal(cpu[0].index, -1);
  assert_int_equal(cpu[0].user, 10);
  assert_int_equal(cpu[0].steal, 80);
  assert_int_equal(cpu[1].index, 0);
  assert_int_equal(cpu[1].idle, 4);
  assert_int_equal(cpu[1].iowait, 0);
  assert_int_equal(cpu[2].index, 12);
  assert_int_equal(cpu[2].steal, 12);
  assert_int_equal(sense_parse_cpus(text, cpu, 1), 1);
  assert_int_equal(sense_parse_cpus(span_text(""), cpu, 3), 0);
}

static void memory(void **state)
{
  (void)state;
  struct sense_memory memory;
  assert_true(sense_parse_memory(span_text("MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n"
                                           "Buffers: 5 kB\nCached:           300 kB\nSwapCached:       9 kB\n"
                                           "SwapTotal:        50 kB\nSwapFree:         20 kB\n"),
                                 &memory));
  assert_int_equal(memory.total_bytes, 1024000);
  assert_int_equal(memory.free_bytes, 102400);
  assert_int_equal(memory.available_bytes, 409600);
  assert_int_equal(memory.cached_bytes, 307200);
  assert_int_equal(memory.swap_total_bytes, 51200);
  assert_int_equal(memory.swap_free_bytes, 20480);
  // Kernels before 3.14 do not say what is available.
  assert_true(sense_parse_memory(span_text("MemTotal: 10 kB\nMemFree: 3 kB\nCached: 2 kB\n"), &memory));
  assert_int_equal(memory.available_bytes, 5 * 1024);
  assert_false(sense_parse_memory(span_text("MemFree: 3 kB\n"), &memory));
  assert_false(sense_parse_memory(span_text("MemTotal: 0 kB\n"), &memory));
  assert_false(sense_parse_memory(span_text("MemTotal: lots\n"), &memory));
}

static void load_and_uptime(void **state)
{
  (void)state;
  struct sense_load load;
  assert_true(sense_parse_load(span_text("1.41 1.13 0.68 7/112 2925\n"), &load));
  assert_true(load.one == 1.41 && load.five == 1.13 && load.fifteen == 0.68);
  assert_int_equal(load.running, 7);
  assert_int_equal(load.threads, 112);
  assert_false(sense_parse_load(span_text("1.41 1.13 0.68 7 2925\n"), &load));
  assert_false(sense_parse_load(span_text("1.41 x 0.68 7/1 2925\n"), &load));
  assert_false(sense_parse_load(span_text(""), &load));
  double uptime = 0;
  assert_true(sense_parse_uptime(span_text("3030.85 5188.48\n"), &uptime));
  assert_true(uptime == 3030.85);
  assert_false(sense_parse_uptime(span_text("\n"), &uptime));
  assert_false(sense_parse_uptime(span_text("inf 1\n"), &uptime));
}

static void disks(void **state)
{
  (void)state;
  struct sense_disk disk[4];
  struct span text = span_text("   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
                               " 254       0 vda 100 5 2000 7 200 8 4000 9 0 1234 99 0 0 0 0 0 0\n"
                               " 254       1 vda1 1 2 3 4 5 6 7 8 9 10 11\n"
                               " 254       2 broken 1 2 3\n");
  assert_int_equal(sense_parse_disks(text, disk, 4), 2);
  assert_string_equal(disk[0].name, "vda");
  assert_int_equal(disk[0].reads, 100);
  assert_int_equal(disk[0].read_bytes, 2000 * 512);
  assert_int_equal(disk[0].writes, 200);
  assert_int_equal(disk[0].write_bytes, 4000 * 512);
  assert_int_equal(disk[0].busy_ms, 1234);
  assert_string_equal(disk[1].name, "vda1");
}

static void networks(void **state)
{
  (void)state;
  struct sense_network network[4];
  struct span text = span_text(
      "Inter-|   Receive                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n"
      "    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
      "  ifb0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0  0  0\n"
      "eth0:100 2 0 0 0 0 0 0 300 4 0 0 0 0 0 0\n");
  assert_int_equal(sense_parse_networks(text, network, 4), 2);
  assert_string_equal(network[0].name, "lo");
  assert_int_equal(network[0].rx_bytes, 1);
  assert_int_equal(network[0].rx_packets, 2);
  assert_int_equal(network[0].rx_errors, 3);
  assert_int_equal(network[0].rx_dropped, 4);
  assert_int_equal(network[0].tx_bytes, 9);
  assert_int_equal(network[0].tx_packets, 10);
  assert_int_equal(network[0].tx_errors, 11);
  assert_int_equal(network[0].tx_dropped, 12);
  assert_string_equal(network[1].name, "eth0");
  assert_int_equal(network[1].rx_bytes, 100);
}

static void mounts(void **state)
{
  (void)state;
  char paths[4][SENSE_PATH];
  struct span text = span_text("proc /proc proc rw 0 0\n"
                               "/dev/vda1 / ext4 rw 0 0\n"
                               "/dev/vda1 /var/lib/bind ext4 rw 0 0\n"
                               "/dev/sdb /media/my\\040disk vfat rw 0 0\n"
                               "/dev/sdc\n");
  assert_int_equal(sense_parse_mounts(text, paths, 4), 2);
  assert_string_equal(paths[0], "/");
  assert_string_equal(paths[1], "/media/my disk");
  assert_int_equal(sense_parse_mounts(text, paths, 1), 1);
}

static void pressure(void **state)
{
  (void)state;
  struct sense_pressure pressure;
  assert_true(sense_parse_pressure(span_text("some avg10=1.50 avg60=2.25 avg300=3.00 total=94684346\n"
                                             "full avg10=0.10 avg60=0.20 avg300=0.30 total=0\n"),
                                   &pressure));
  assert_true(pressure.has_some && pressure.some_10s == 1.5 && pressure.some_60s == 2.25 && pressure.some_300s == 3);
  assert_true(pressure.has_full && pressure.full_10s == 0.1 && pressure.full_300s == 0.3);
  assert_true(sense_parse_pressure(span_text("some avg10=1.50 avg60=2.25 avg300=3.00 total=9\n"), &pressure));
  assert_false(pressure.has_full);
  assert_false(sense_parse_pressure(span_text("some avg10=x avg60=2.25 avg300=3.00 total=9\n"), &pressure));
  assert_false(sense_parse_pressure(span_text(""), &pressure));
}

static void temperatures(void **state)
{
  (void)state;
  double celsius = 0;
  assert_true(sense_parse_millidegrees(span_text("45500\n"), &celsius));
  assert_true(celsius == 45.5);
  assert_true(sense_parse_millidegrees(span_text("-1000"), &celsius));
  assert_true(celsius == -1);
  assert_false(sense_parse_millidegrees(span_text("99999999\n"), &celsius));
  assert_false(sense_parse_millidegrees(span_text("warm\n"), &celsius));
  assert_false(sense_parse_millidegrees(span_text("-\n"), &celsius));
  assert_false(sense_parse_millidegrees(span_text(""), &celsius));
}

// Every text cut at every byte, in memory of exactly that size: nothing reads beyond it.
static void cut_anywhere(void **state)
{
  (void)state;
  static const char whole[] =
      "cpu0 1 2 3 4\nMemTotal: 5 kB\n1.41 1.13 0.68 7/112 2\n 254 0 vda 1 5 2 7 2 8 4 9 0 1 9\n"
      "eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n/dev/sdb /m\\040d vfat\nsome avg10=1 avg60=2 avg300=3\n";
  for (size_t size = 0; size < sizeof whole; size++) {
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, whole, size);
    struct span text = span_of(copy, size);
    struct sense_cpu cpu[2];
    struct sense_disk disk[2];
    struct sense_network network[2];
    struct sense_memory memory_;
    struct sense_load load;
    struct sense_pressure pressure_;
    char paths[2][SENSE_PATH];
    double number = 0;
    assert_true(sense_parse_cpus(text, cpu, 2) <= 1);
    assert_true(sense_parse_disks(text, disk, 2) <= 1);
    assert_true(sense_parse_networks(text, network, 2) <= 1);
    assert_true(sense_parse_mounts(text, paths, 2) <= 1);
    (void)sense_parse_memory(text, &memory_);
    (void)sense_parse_load(text, &load);
    (void)sense_parse_uptime(text, &number);
    (void)sense_parse_pressure(text, &pressure_);
    (void)sense_parse_millidegrees(text, &number);
    free(copy);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cpus),     cmocka_unit_test(memory),       cmocka_unit_test(load_and_uptime),
      cmocka_unit_test(disks),    cmocka_unit_test(networks),     cmocka_unit_test(mounts),
      cmocka_unit_test(pressure), cmocka_unit_test(temperatures), cmocka_unit_test(cut_anywhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
