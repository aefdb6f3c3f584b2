// Readings out of texts. See sense_parse.h.
#include "cli/sense_parse.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  SECTOR_BYTES = 512,
  DEVICE_SIZE = 128,
  NUMBER_SIZE = 64
};  // a sector of /proc/diskstats is 512 bytes on every device

// ---- Words of lines

static bool next_line(struct span *text, struct span *out_line)
{
  if (text->size == 0) return false;
  const uint8_t *newline = memchr(text->at, '\n', text->size);
  size_t size = newline ? (size_t)(newline - text->at) : text->size;
  *out_line = span_of(text->at, size);
  *text = span_from(*text, newline ? size + 1 : size);
  return true;
}

static bool is_space(uint8_t c)
{
  return c == ' ' || c == '\t';
}

static bool next_word(struct span *line, struct span *out_word)
{
  while (line->size > 0 && is_space(line->at[0])) *line = span_from(*line, 1);
  size_t size = 0;
  while (size < line->size && !is_space(line->at[size])) size++;
  *out_word = span_of(line->at, size);
  *line = span_from(*line, size);
  return size > 0;
}

static bool starts_with(struct span text, const char *prefix)
{
  size_t size = strlen(prefix);
  return text.size >= size && memcmp(text.at, prefix, size) == 0;
}

static bool to_uint(struct span word, uint64_t *out)
{
  uint64_t value = 0;
  if (word.size == 0 || word.size > 20) return false;
  for (size_t i = 0; i < word.size; i++) {
    if (!isdigit(word.at[i])) return false;
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t)(word.at[i] - '0'), &value))
      return false;
  }
  *out = value;
  return true;
}

// Takes up to `count` numbers; the others stay as they are. Returns how many there were.
static size_t next_uints(struct span *line, uint64_t *out, size_t count)
{
  struct span word;
  size_t taken = 0;
  while (taken < count && next_word(line, &word) && to_uint(word, &out[taken])) taken++;
  return taken;
}

static bool to_double(struct span word, double *out)
{
  char text[NUMBER_SIZE];
  if (word.size == 0 || word.size >= sizeof text || !isdigit(word.at[0])) return false;
  memcpy(text, word.at, word.size);
  text[word.size] = '\0';
  char *end = NULL;
  double value = strtod(text, &end);
  if (*end != '\0') return false;
  *out = value;
  return true;
}

static bool copy_name(struct span word, char out[SENSE_NAME])
{
  if (word.size == 0 || word.size >= SENSE_NAME) return false;
  memcpy(out, word.at, word.size);
  out[word.size] = '\0';
  return true;
}

// ---- /proc/stat

static bool parse_cpu(struct span line, struct sense_cpu *out)
{
  struct span word;
  if (!starts_with(line, "cpu") || !next_word(&line, &word)) return false;
  struct span digits = span_from(word, 3);
  uint64_t index = 0;
  if (digits.size > 0 && (!to_uint(digits, &index) || index > INT16_MAX)) return false;
  uint64_t ticks[8] = {0};
  if (next_uints(&line, ticks, 8) < 4) return false;
  *out = (struct sense_cpu){.index = digits.size > 0 ? (int)index : -1,
                            .user = ticks[0],
                            .nice = ticks[1],
                            .system = ticks[2],
                            .idle = ticks[3],
                            .iowait = ticks[4],
                            .irq = ticks[5],
                            .softirq = ticks[6],
                            .steal = ticks[7]};
  return true;
}

size_t sense_parse_cpus(struct span stat, struct sense_cpu *out, size_t maximum)
{
  size_t count = 0;
  struct span line;
  while (count < maximum && next_line(&stat, &line))
    if (parse_cpu(line, &out[count])) count++;
  return count;
}

// ---- /proc/meminfo

static bool memory_line(struct span line, const char *name, uint64_t *out_bytes)
{
  struct span word;
  uint64_t kib = 0;
  if (!starts_with(line, name) || !next_word(&line, &word) || word.size != strlen(name)) return false;
  if (next_uints(&line, &kib, 1) != 1 || kib > UINT64_MAX / 1024) return false;
  *out_bytes = kib * 1024;
  return true;
}

bool sense_parse_memory(struct span meminfo, struct sense_memory *out)
{
  struct sense_memory memory = {0};
  struct span line;
  bool total = false;
  bool available = false;
  while (next_line(&meminfo, &line)) {
    if (memory_line(line, "MemTotal:", &memory.total_bytes)) total = true;
    if (memory_line(line, "MemAvailable:", &memory.available_bytes)) available = true;
    (void)memory_line(line, "MemFree:", &memory.free_bytes);
    (void)memory_line(line, "Cached:", &memory.cached_bytes);
    (void)memory_line(line, "SwapTotal:", &memory.swap_total_bytes);
    (void)memory_line(line, "SwapFree:", &memory.swap_free_bytes);
  }
  if (!total || memory.total_bytes == 0) return false;
  if (!available) memory.available_bytes = memory.free_bytes + memory.cached_bytes;
  *out = memory;
  return true;
}

// ---- /proc/loadavg, /proc/uptime

bool sense_parse_load(struct span loadavg, struct sense_load *out)
{
  struct sense_load load;
  struct span line;
  struct span one, five, fifteen, tasks;
  if (!next_line(&loadavg, &line)) return false;
  if (!next_word(&line, &one) || !next_word(&line, &five) || !next_word(&line, &fifteen) || !next_word(&line, &tasks))
    return false;
  if (!to_double(one, &load.one) || !to_double(five, &load.five) || !to_double(fifteen, &load.fifteen)) return false;
  const uint8_t *slash = memchr(tasks.at, '/', tasks.size);
  if (!slash) return false;
  size_t size = (size_t)(slash - tasks.at);
  if (!to_uint(span_of(tasks.at, size), &load.running) || !to_uint(span_from(tasks, size + 1), &load.threads)) return false;
  *out = load;
  return true;
}

bool sense_parse_uptime(struct span uptime, double *out_s)
{
  struct span line;
  struct span word;
  return next_line(&uptime, &line) && next_word(&line, &word) && to_double(word, out_s);
}

// ---- /proc/diskstats

static bool parse_disk(struct span line, struct sense_disk *out)
{
  uint64_t numbers[2];
  uint64_t counters[10];
  struct span name;
  struct sense_disk disk;
  if (next_uints(&line, numbers, 2) != 2 || !next_word(&line, &name) || !copy_name(name, disk.name)) return false;
  if (next_uints(&line, counters, 10) != 10) return false;
  disk.reads = counters[0];
  disk.read_bytes = counters[2] * SECTOR_BYTES;
  disk.writes = counters[4];
  disk.write_bytes = counters[6] * SECTOR_BYTES;
  disk.busy_ms = counters[9];
  if (disk.reads == 0 && disk.writes == 0) return false;
  *out = disk;
  return true;
}

size_t sense_parse_disks(struct span diskstats, struct sense_disk *out, size_t maximum)
{
  size_t count = 0;
  struct span line;
  while (count < maximum && next_line(&diskstats, &line))
    if (parse_disk(line, &out[count])) count++;
  return count;
}

// ---- /proc/net/dev

static bool parse_network(struct span line, struct sense_network *out)
{
  const uint8_t *colon = line.size > 0 ? memchr(line.at, ':', line.size) : NULL;
  if (!colon) return false;
  size_t size = (size_t)(colon - line.at);
  struct span before = span_of(line.at, size);
  struct span after = span_from(line, size + 1);
  struct span name;
  uint64_t counters[16];
  struct sense_network network;
  if (!next_word(&before, &name) || !copy_name(name, network.name) || next_uints(&after, counters, 16) != 16) return false;
  network.rx_bytes = counters[0];
  network.rx_packets = counters[1];
  network.rx_errors = counters[2];
  network.rx_dropped = counters[3];
  network.tx_bytes = counters[8];
  network.tx_packets = counters[9];
  network.tx_errors = counters[10];
  network.tx_dropped = counters[11];
  if (network.rx_packets == 0 && network.tx_packets == 0) return false;
  *out = network;
  return true;
}

size_t sense_parse_networks(struct span net_dev, struct sense_network *out, size_t maximum)
{
  size_t count = 0;
  struct span line;
  while (count < maximum && next_line(&net_dev, &line))
    if (parse_network(line, &out[count])) count++;
  return count;
}

// ---- /proc/self/mounts

// Spaces and the like are written as \040.
static bool copy_path(struct span word, char out[SENSE_PATH])
{
  size_t size = 0;
  for (size_t i = 0; i < word.size; i++) {
    uint8_t c = word.at[i];
    if (c == '\\' && word.size - i >= 4) {
      c = (uint8_t)((word.at[i + 1] - '0') * 64 + (word.at[i + 2] - '0') * 8 + (word.at[i + 3] - '0'));
      i += 3;
    }
    if (size + 1 >= SENSE_PATH) return false;
    out[size++] = (char)c;
  }
  out[size] = '\0';
  return size > 0;
}

size_t sense_parse_mounts(struct span mounts, char out[][SENSE_PATH], size_t maximum)
{
  struct span devices[SENSE_MOUNTS];
  size_t count = 0;
  struct span line;
  if (maximum > SENSE_MOUNTS) maximum = SENSE_MOUNTS;
  while (count < maximum && next_line(&mounts, &line)) {
    struct span device, path;
    if (!starts_with(line, "/dev/") || !next_word(&line, &device) || !next_word(&line, &path)) continue;
    bool known = false;
    for (size_t i = 0; i < count; i++) known = known || span_equal(devices[i], device);
    if (known || !copy_path(path, out[count])) continue;
    devices[count++] = device;
  }
  return count;
}

// ---- /proc/pressure/*

// some avg10=0.00 avg60=0.00 avg300=0.00 total=0
static bool parse_averages(struct span line, double out[3])
{
  static const char *const names[3] = {"avg10=", "avg60=", "avg300="};
  for (size_t i = 0; i < 3; i++) {
    struct span word;
    if (!next_word(&line, &word) || !starts_with(word, names[i])) return false;
    if (!to_double(span_from(word, strlen(names[i])), &out[i])) return false;
  }
  return true;
}

bool sense_parse_pressure(struct span pressure, struct sense_pressure *out)
{
  struct sense_pressure result = {0};
  struct span line;
  while (next_line(&pressure, &line)) {
    struct span word;
    double averages[3];
    if (!next_word(&line, &word) || !parse_averages(line, averages)) continue;
    if (span_equal(word, span_text("some"))) {
      result.has_some = true;
      result.some_10s = averages[0];
      result.some_60s = averages[1];
      result.some_300s = averages[2];
    } else if (span_equal(word, span_text("full"))) {
      result.has_full = true;
      result.full_10s = averages[0];
      result.full_60s = averages[1];
      result.full_300s = averages[2];
    }
  }
  if (!result.has_some && !result.has_full) return false;
  *out = result;
  return true;
}

// ---- /sys/class/thermal, /sys/class/hwmon

bool sense_parse_millidegrees(struct span text, double *out_celsius)
{
  struct span line;
  struct span word;
  if (!next_line(&text, &line) || !next_word(&line, &word)) return false;
  bool negative = word.at[0] == '-';
  if (negative) word = span_from(word, 1);
  uint64_t value = 0;
  if (!to_uint(word, &value) || value > 1000000) return false;
  *out_celsius = negative ? -(double)value / 1000 : (double)value / 1000;
  return true;
}
