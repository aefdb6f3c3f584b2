#include "broker/process_stats.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { LINE_SIZE = 1024 };

static bool read_line(const char *path, char line[static LINE_SIZE])
{
  FILE *file = fopen(path, "re");
  if (!file) return false;
  bool got = fgets(line, LINE_SIZE, file);
  fclose(file);
  return got;
}

// When the machine was started, in seconds since 1970; not the first line of /proc/stat. A hardened service does not see
// that file (ProcSubset=pid): then from the clocks, which may differ by a few milliseconds each time.
static uint64_t boot_time(void)
{
  FILE *file = fopen("/proc/stat", "re");
  uint64_t time_s = 0;
  bool found = false;
  char line[LINE_SIZE];
  while (file && !found && fgets(line, sizeof line, file)) found = sscanf(line, "btime %" SCNu64, &time_s) == 1;
  if (file) fclose(file);
  if (found) return time_s;
  struct timespec now, since_boot;
  clock_gettime(CLOCK_REALTIME, &now);
  clock_gettime(CLOCK_BOOTTIME, &since_boot);
  return now.tv_sec > since_boot.tv_sec ? (uint64_t)(now.tv_sec - since_boot.tv_sec) : 0;
}

static bool read_stat(struct process_stats *stats)
{
  char line[LINE_SIZE];
  uint64_t start_ticks, virtual_bytes, resident_pages;
  long ticks = sysconf(_SC_CLK_TCK);
  long page = sysconf(_SC_PAGESIZE);
  if (ticks <= 0 || page <= 0) return false;
  if (!read_line("/proc/self/stat", line)) return false;
  // The name in parentheses may hold anything; behind its end come fields 3 to 52 of proc(5), 22 to 24 are these.
  const char *fields = strrchr(line, ')');
  if (!fields) return false;
  int got = sscanf(fields + 1,
                   " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
                   " %" SCNu64 " %" SCNu64 " %" SCNu64,
                   &start_ticks, &virtual_bytes, &resident_pages);
  if (got != 3) return false;
  stats->start_time_ms = boot_time() * 1000 + start_ticks * 1000 / (uint64_t)ticks;
  stats->virtual_bytes = virtual_bytes;
  stats->resident_bytes = resident_pages * (uint64_t)page;
  return true;
}

static bool count_fds(uint64_t *out_count)
{
  DIR *directory = opendir("/proc/self/fd");
  if (!directory) return false;
  uint64_t count = 0;
  for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
    if (entry->d_name[0] != '.') count++;
  closedir(directory);
  *out_count = count > 0 ? count - 1 : 0;  // not the one that was open for looking
  return true;
}

static uint64_t time_us(struct timeval time)
{
  return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

enum status process_stats_read(struct process_stats *out)
{
  struct process_stats stats = {0};
  struct rusage usage;
  struct rlimit limit;
  if (getrusage(RUSAGE_SELF, &usage) < 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0) return ERR_NOT_FOUND;
  if (!read_stat(&stats) || !count_fds(&stats.open_fds)) return ERR_NOT_FOUND;
  stats.cpu_us = time_us(usage.ru_utime) + time_us(usage.ru_stime);
  stats.max_fds = limit.rlim_cur == RLIM_INFINITY ? 0 : limit.rlim_cur;
  *out = stats;
  return OK;
}
