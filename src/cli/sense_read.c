// Reads /proc and /sys; what the texts mean is sense_parse.c's.
#include "cli/sense_read.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_MAX = 1 << 20, SMALL_MAX = 128 };

// Reads up to `size` bytes; empty when the file cannot be read.
static struct span read_text(const char *path, char *out, size_t size)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return (struct span){0};
  size_t filled = 0;
  ssize_t got;
  while (filled < size && (got = read(fd, out + filled, size - filled)) > 0) filled += (size_t)got;
  close(fd);
  return span_of(out, filled);
}

static void read_disks(struct sense_sample *sample, char *text)
{
  struct sense_disk disks[4 * SENSE_DISKS];
  size_t count = sense_parse_disks(read_text("/proc/diskstats", text, TEXT_MAX), disks, 4 * SENSE_DISKS);
  for (size_t i = 0; i < count && sample->disk_count < SENSE_DISKS; i++) {
    char path[SENSE_NAME + 16];
    snprintf(path, sizeof path, "/sys/block/%.63s", disks[i].name);
    // Partitions are not there; a '/' in a name is '!' there, which no disk of use has.
    if (access(path, F_OK) == 0) sample->disks[sample->disk_count++] = disks[i];
  }
}

static void read_mounts(struct sense_sample *sample, char *text)
{
  static_assert(sizeof(char[SENSE_MOUNTS][SENSE_PATH]) < 16384, "it lives on the stack");
  char paths[SENSE_MOUNTS][SENSE_PATH];
  size_t count = sense_parse_mounts(read_text("/proc/self/mounts", text, TEXT_MAX), paths, SENSE_MOUNTS);
  for (size_t i = 0; i < count; i++) {
    struct statvfs info;
    if (statvfs(paths[i], &info) < 0 || info.f_blocks == 0) continue;
    struct sense_mount *mount = &sample->mounts[sample->mount_count++];
    memcpy(mount->path, paths[i], sizeof mount->path);
    mount->size_bytes = (uint64_t)info.f_blocks * info.f_frsize;
    mount->free_bytes = (uint64_t)info.f_bfree * info.f_frsize;
    mount->available_bytes = (uint64_t)info.f_bavail * info.f_frsize;
  }
}

// The first line of a small file, without its newline.
static void read_name(const char *path, char *out, size_t size)
{
  struct span text = read_text(path, out, size - 1);
  out[text.size] = '\0';
  out[strcspn(out, "\n")] = '\0';
}

static void add_temperature(struct sense_sample *sample, const char *path, const char *name)
{
  char text[SMALL_MAX];
  double celsius = 0;
  if (sample->temperature_count == SENSE_TEMPERATURES) return;
  if (!sense_parse_millidegrees(read_text(path, text, sizeof text), &celsius)) return;
  struct sense_temperature *temperature = &sample->temperatures[sample->temperature_count++];
  snprintf(temperature->name, sizeof temperature->name, "%s", name);
  temperature->celsius = celsius;
}

// /sys/class/thermal/thermal_zone0: type, temp. Several zones may have the same type.
static void read_thermal_zones(struct sense_sample *sample)
{
  for (unsigned i = 0; i < SENSE_TEMPERATURES; i++) {
    char path[SMALL_MAX];
    char type[32];
    char name[SENSE_NAME];
    snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%u/type", i);
    if (access(path, R_OK) != 0) return;
    read_name(path, type, sizeof type);
    snprintf(name, sizeof name, "%s-%u", type, i);
    snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%u/temp", i);
    add_temperature(sample, path, name);
  }
}

// /sys/class/hwmon/hwmon0: name, temp1_input, temp1_label ...
static void read_hwmon(struct sense_sample *sample)
{
  enum { CHIPS = 32, INPUTS = 32 };
  for (unsigned chip = 0; chip < CHIPS; chip++) {
    char path[SMALL_MAX];
    char chip_name[24];
    snprintf(path, sizeof path, "/sys/class/hwmon/hwmon%u/name", chip);
    if (access(path, R_OK) != 0) continue;
    read_name(path, chip_name, sizeof chip_name);
    for (unsigned input = 1; input <= INPUTS; input++) {
      char label[24];
      char name[SENSE_NAME];
      snprintf(path, sizeof path, "/sys/class/hwmon/hwmon%u/temp%u_label", chip, input);
      read_name(path, label, sizeof label);
      if (label[0])
        snprintf(name, sizeof name, "%s%u-%s", chip_name, chip, label);
      else
        snprintf(name, sizeof name, "%s%u-%u", chip_name, chip, input);
      snprintf(path, sizeof path, "/sys/class/hwmon/hwmon%u/temp%u_input", chip, input);
      add_temperature(sample, path, name);
    }
  }
}

static void read_pressure(struct sense_sample *sample)
{
  static const char *const paths[3] = {"/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io"};
  char text[512];
  for (size_t i = 0; i < 3; i++) (void)sense_parse_pressure(read_text(paths[i], text, sizeof text), &sample->pressure[i]);
}

void sense_read(struct sense_sample *out)
{
  struct timespec now;
  memset(out, 0, sizeof *out);
  clock_gettime(CLOCK_REALTIME, &now);
  out->time.ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
  clock_gettime(CLOCK_MONOTONIC, &now);
  out->taken.ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  char *text = malloc(TEXT_MAX);
  if (!text) return;
  out->cpu_count = sense_parse_cpus(read_text("/proc/stat", text, TEXT_MAX), out->cpus, SENSE_CPUS);
  out->has_memory = sense_parse_memory(read_text("/proc/meminfo", text, TEXT_MAX), &out->memory);
  out->has_load = sense_parse_load(read_text("/proc/loadavg", text, TEXT_MAX), &out->load);
  out->has_uptime = sense_parse_uptime(read_text("/proc/uptime", text, TEXT_MAX), &out->uptime_s);
  out->network_count = sense_parse_networks(read_text("/proc/net/dev", text, TEXT_MAX), out->networks, SENSE_NETWORKS);
  read_disks(out, text);
  read_mounts(out, text);
  free(text);
  read_thermal_zones(out);
  read_hwmon(out);
  read_pressure(out);
}
