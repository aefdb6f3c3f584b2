// From two samples of a host to messages: one topic and one JSON object for each series. Pure.
#pragma once

#include "base/buffer.h"
#include "base/clock.h"
#include "base/status.h"
#include "cli/sense_parse.h"

struct sense_mount {
  char path[SENSE_PATH];
  uint64_t size_bytes;
  uint64_t free_bytes;
  uint64_t available_bytes;  // for users other than root
};

struct sense_temperature {
  char name[SENSE_NAME];
  double celsius;
};

// Everything at one moment. What could not be read has a count of 0 or a false flag.
struct sense_sample {
  struct wall time;
  struct mono taken;
  size_t cpu_count;
  size_t disk_count;
  size_t network_count;
  size_t mount_count;
  size_t temperature_count;
  bool has_memory;
  bool has_load;
  bool has_uptime;
  double uptime_s;
  struct sense_memory memory;
  struct sense_load load;
  struct sense_pressure pressure[3];  // cpu, memory, io; all false when the kernel does not tell
  struct sense_cpu cpus[SENSE_CPUS];
  struct sense_disk disks[SENSE_DISKS];
  struct sense_network networks[SENSE_NETWORKS];
  struct sense_mount mounts[SENSE_MOUNTS];
  struct sense_temperature temperatures[SENSE_TEMPERATURES];
};

// Takes one message; topic and payload live until it returns. What it returns other than OK ends the report.
typedef enum status sense_emit(void *context, struct span topic, struct span payload);

// Reports `now`, with rates since `before` (both from the same host, `before` taken earlier). Topics are `prefix`/cpu/total,
// cpu/0, memory, load, disk/sda, filesystem/root, network/eth0, temperature/..., pressure/cpu, uptime; names lose what
// topics must not have. Every object has "t", the Unix time in milliseconds. Percentages are 0..100. ERR_NO_MEMORY, or what
// `emit` returned.
CHECK_RESULT enum status sense_report(const struct sense_sample *before, const struct sense_sample *now, const char *prefix,
                                      sense_emit *emit, void *context);
