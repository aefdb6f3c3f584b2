// Readings of a Linux host, taken out of the texts of /proc and /sys. Pure: the texts come in, so that tests can give any.
// Formats: proc(5) and the kernel's Documentation (admin-guide/iostats, accounting/psi).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum {
  SENSE_NAME = 64,
  SENSE_PATH = 256,
  SENSE_CPUS = 257,
  SENSE_DISKS = 32,
  SENSE_NETWORKS = 64,
  SENSE_MOUNTS = 32,
  SENSE_TEMPERATURES = 64
};

// Ticks since the start of the host.
struct sense_cpu {
  int index;  // -1: all together
  uint64_t user;
  uint64_t nice;
  uint64_t system;
  uint64_t idle;
  uint64_t iowait;
  uint64_t irq;
  uint64_t softirq;
  uint64_t steal;
};

struct sense_memory {
  uint64_t total_bytes;
  uint64_t free_bytes;
  uint64_t available_bytes;
  uint64_t cached_bytes;
  uint64_t swap_total_bytes;
  uint64_t swap_free_bytes;
};

struct sense_load {
  double one;
  double five;
  double fifteen;
  uint64_t running;
  uint64_t threads;
};

// Since the start of the host.
struct sense_disk {
  char name[SENSE_NAME];
  uint64_t reads;
  uint64_t read_bytes;
  uint64_t writes;
  uint64_t write_bytes;
  uint64_t busy_ms;
};

// Since the start of the interface.
struct sense_network {
  char name[SENSE_NAME];
  uint64_t rx_bytes;
  uint64_t rx_packets;
  uint64_t rx_errors;
  uint64_t rx_dropped;
  uint64_t tx_bytes;
  uint64_t tx_packets;
  uint64_t tx_errors;
  uint64_t tx_dropped;
};

// Percent of the time in which some, or all, tasks waited.
struct sense_pressure {
  bool has_some;
  bool has_full;
  double some_10s, some_60s, some_300s;
  double full_10s, full_60s, full_300s;
};

// Each fills at most `maximum` elements and returns how many; lines that it does not know are skipped.
size_t sense_parse_cpus(struct span stat, struct sense_cpu *out, size_t maximum);
size_t sense_parse_disks(struct span diskstats, struct sense_disk *out, size_t maximum);      // without those never used
size_t sense_parse_networks(struct span net_dev, struct sense_network *out, size_t maximum);  // without those never used
// Mount points of file systems on block devices, one for each device.
size_t sense_parse_mounts(struct span mounts, char out[][SENSE_PATH], size_t maximum);

// False when the text is not what it should be; the output is not touched then.
bool sense_parse_memory(struct span meminfo, struct sense_memory *out);
bool sense_parse_load(struct span loadavg, struct sense_load *out);
bool sense_parse_uptime(struct span uptime, double *out_s);
bool sense_parse_pressure(struct span pressure, struct sense_pressure *out);
bool sense_parse_millidegrees(struct span text, double *out_celsius);
