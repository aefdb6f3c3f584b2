// Samples as messages. See sense_report.h.
#include "cli/sense_report.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "cli/json.h"

enum { TOPIC_SIZE = 1024 };

struct report {
  const struct sense_sample *before;
  const struct sense_sample *now;
  double elapsed_s;
  const char *prefix;
  sense_emit *emit;
  void *context;
  struct buffer payload;
  struct json json;
  enum status status;  // the first failure; nothing is emitted after it
};

// ---- One message

static void begin(struct report *report)
{
  json_begin(&report->json, &report->payload);
  json_open_object(&report->json);
}

static void put_uint(struct report *report, const char *key, uint64_t value)
{
  json_member_uint(&report->json, key, value);
}

static void put_number(struct report *report, const char *key, double value, unsigned decimals)
{
  json_member_number(&report->json, key, value, decimals);
}

// Counters that went back (a device was replaced) count as standing still.
static uint64_t grown(uint64_t before, uint64_t now)
{
  return now > before ? now - before : 0;
}

static void put_rate(struct report *report, const char *key, uint64_t before, uint64_t now)
{
  put_number(report, key, (double)grown(before, now) / report->elapsed_s, 1);
}

// A name as one level of a topic: no level separators, wildcards, spaces or control characters.
static void sanitize(char *name)
{
  for (; *name; name++)
    if (strchr("/+#$ ", *name) || (unsigned char)*name < 0x20 || (unsigned char)*name == 0x7f) *name = '_';
}

static void end(struct report *report, const char *series, const char *name)
{
  char topic[TOPIC_SIZE];
  char level[SENSE_PATH] = "";
  // The readings come first: they are what is left where a narrow column cuts the message.
  json_member_int(&report->json, "t", report->now->time.ms);
  json_close_object(&report->json);
  if (name) {
    snprintf(level, sizeof level, "%s", name);
    sanitize(level);
  }
  int size = snprintf(topic, sizeof topic, "%s/%s%s%s", report->prefix, series, name ? "/" : "", level);
  if (report->status == OK && report->json.failed) report->status = ERR_NO_MEMORY;
  if (report->status == OK && (size < 0 || (size_t)size >= sizeof topic)) report->status = ERR_INVALID;
  struct span payload = buffer_peek(&report->payload);
  if (report->status == OK) report->status = report->emit(report->context, span_of(topic, (size_t)size), payload);
  buffer_consume(&report->payload, payload.size);
}

// ---- The series

static const struct sense_cpu *find_cpu(const struct sense_sample *sample, int index)
{
  for (size_t i = 0; i < sample->cpu_count; i++)
    if (sample->cpus[i].index == index) return &sample->cpus[i];
  return NULL;
}

static void report_cpu(struct report *report, const struct sense_cpu *before, const struct sense_cpu *now)
{
  uint64_t user = grown(before->user, now->user) + grown(before->nice, now->nice);
  uint64_t system = grown(before->system, now->system) + grown(before->irq, now->irq) + grown(before->softirq, now->softirq);
  uint64_t iowait = grown(before->iowait, now->iowait);
  uint64_t steal = grown(before->steal, now->steal);
  uint64_t all = user + system + iowait + steal + grown(before->idle, now->idle);
  double share = all > 0 ? 100.0 / (double)all : 0;
  begin(report);
  put_number(report, "usage", (double)(user + system + steal) * share, 2);
  put_number(report, "user", (double)user * share, 2);
  put_number(report, "system", (double)system * share, 2);
  put_number(report, "iowait", (double)iowait * share, 2);
  put_number(report, "steal", (double)steal * share, 2);
  char name[16] = "total";
  if (now->index >= 0) snprintf(name, sizeof name, "%d", now->index);
  end(report, "cpu", name);
}

static void report_cpus(struct report *report)
{
  for (size_t i = 0; i < report->now->cpu_count; i++) {
    const struct sense_cpu *now = &report->now->cpus[i];
    const struct sense_cpu *before = find_cpu(report->before, now->index);
    if (before) report_cpu(report, before, now);
  }
}

static void report_memory(struct report *report)
{
  const struct sense_memory *memory = &report->now->memory;
  if (!report->now->has_memory) return;
  begin(report);
  put_uint(report, "total", memory->total_bytes);
  put_uint(report, "available", memory->available_bytes);
  put_uint(report, "free", memory->free_bytes);
  put_uint(report, "cached", memory->cached_bytes);
  put_number(report, "usage",
             (double)grown(memory->available_bytes, memory->total_bytes) * 100 / (double)memory->total_bytes, 2);
  put_uint(report, "swap_total", memory->swap_total_bytes);
  put_uint(report, "swap_used", grown(memory->swap_free_bytes, memory->swap_total_bytes));
  end(report, "memory", NULL);
}

static void report_load(struct report *report)
{
  const struct sense_load *load = &report->now->load;
  if (!report->now->has_load) return;
  begin(report);
  put_number(report, "load1", load->one, 2);
  put_number(report, "load5", load->five, 2);
  put_number(report, "load15", load->fifteen, 2);
  put_uint(report, "running", load->running);
  put_uint(report, "threads", load->threads);
  end(report, "load", NULL);
}

static void report_uptime(struct report *report)
{
  if (!report->now->has_uptime) return;
  begin(report);
  put_number(report, "seconds", report->now->uptime_s, 2);
  end(report, "uptime", NULL);
}

static void report_disks(struct report *report)
{
  for (size_t i = 0; i < report->now->disk_count; i++) {
    const struct sense_disk *now = &report->now->disks[i];
    const struct sense_disk *before = NULL;
    for (size_t j = 0; j < report->before->disk_count; j++)
      if (strcmp(report->before->disks[j].name, now->name) == 0) before = &report->before->disks[j];
    if (!before) continue;
    double busy = (double)grown(before->busy_ms, now->busy_ms) / (report->elapsed_s * 10);
    begin(report);
    put_rate(report, "read_bytes_per_s", before->read_bytes, now->read_bytes);
    put_rate(report, "write_bytes_per_s", before->write_bytes, now->write_bytes);
    put_rate(report, "reads_per_s", before->reads, now->reads);
    put_rate(report, "writes_per_s", before->writes, now->writes);
    put_number(report, "busy", busy < 100 ? busy : 100, 2);
    end(report, "disk", now->name);
  }
}

static void report_networks(struct report *report)
{
  for (size_t i = 0; i < report->now->network_count; i++) {
    const struct sense_network *now = &report->now->networks[i];
    const struct sense_network *before = NULL;
    for (size_t j = 0; j < report->before->network_count; j++)
      if (strcmp(report->before->networks[j].name, now->name) == 0) before = &report->before->networks[j];
    if (!before) continue;
    begin(report);
    put_rate(report, "rx_bytes_per_s", before->rx_bytes, now->rx_bytes);
    put_rate(report, "tx_bytes_per_s", before->tx_bytes, now->tx_bytes);
    put_rate(report, "rx_packets_per_s", before->rx_packets, now->rx_packets);
    put_rate(report, "tx_packets_per_s", before->tx_packets, now->tx_packets);
    put_uint(report, "rx_errors", now->rx_errors);
    put_uint(report, "tx_errors", now->tx_errors);
    put_uint(report, "rx_dropped", now->rx_dropped);
    put_uint(report, "tx_dropped", now->tx_dropped);
    end(report, "network", now->name);
  }
}

static void report_mounts(struct report *report)
{
  for (size_t i = 0; i < report->now->mount_count; i++) {
    const struct sense_mount *mount = &report->now->mounts[i];
    uint64_t used = grown(mount->free_bytes, mount->size_bytes);
    uint64_t usable = used + mount->available_bytes;
    const char *path = strcmp(mount->path, "/") == 0 ? "root" : mount->path + 1;
    begin(report);
    put_uint(report, "size", mount->size_bytes);
    put_uint(report, "used", used);
    put_uint(report, "available", mount->available_bytes);
    put_number(report, "usage", usable > 0 ? (double)used * 100 / (double)usable : 0, 2);
    json_member_text(&report->json, "path", span_text(mount->path));
    end(report, "filesystem", path);
  }
}

static void report_temperatures(struct report *report)
{
  for (size_t i = 0; i < report->now->temperature_count; i++) {
    begin(report);
    put_number(report, "celsius", report->now->temperatures[i].celsius, 3);
    end(report, "temperature", report->now->temperatures[i].name);
  }
}

static void report_pressure(struct report *report)
{
  static const char *const names[3] = {"cpu", "memory", "io"};
  for (size_t i = 0; i < 3; i++) {
    const struct sense_pressure *pressure = &report->now->pressure[i];
    if (!pressure->has_some && !pressure->has_full) continue;
    begin(report);
    if (pressure->has_some) {
      put_number(report, "some10", pressure->some_10s, 2);
      put_number(report, "some60", pressure->some_60s, 2);
      put_number(report, "some300", pressure->some_300s, 2);
    }
    if (pressure->has_full) {
      put_number(report, "full10", pressure->full_10s, 2);
      put_number(report, "full60", pressure->full_60s, 2);
      put_number(report, "full300", pressure->full_300s, 2);
    }
    end(report, "pressure", names[i]);
  }
}

enum status sense_report(const struct sense_sample *before, const struct sense_sample *now, const char *prefix,
                         sense_emit *emit, void *context)
{
  assert(now->taken.ms >= before->taken.ms);
  uint64_t elapsed_ms = now->taken.ms - before->taken.ms;
  struct report report = {.before = before,
                          .now = now,
                          .prefix = prefix,
                          .emit = emit,
                          .context = context,
                          .elapsed_s = elapsed_ms > 0 ? (double)elapsed_ms / 1000 : 0.001};
  report_cpus(&report);
  report_memory(&report);
  report_load(&report);
  report_disks(&report);
  report_mounts(&report);
  report_networks(&report);
  report_temperatures(&report);
  report_pressure(&report);
  report_uptime(&report);
  buffer_deinit(&report.payload);
  return report.status;
}
