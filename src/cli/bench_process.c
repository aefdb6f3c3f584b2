#include "cli/bench_process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROC_TEXT_SIZE = 4096, NS_PER_S = 1000000000 };

// Reads a decimal number at the front of `text` behind blanks and returns what follows; NULL when there is none.
static const uint8_t *number_at(const uint8_t *at, const uint8_t *end, uint64_t *out)
{
  while (at < end && (*at == ' ' || *at == '\t')) at++;
  const uint8_t *first = at;
  uint64_t value = 0;
  while (at < end && *at >= '0' && *at <= '9') value = value * 10 + (uint64_t)(*at++ - '0');
  if (at == first) return NULL;
  *out = value;
  return at;
}

bool process_parse_schedstat(struct span text, uint64_t *out_ns)
{
  return number_at(text.at, text.at + text.size, out_ns) != NULL;
}

bool process_parse_stat(struct span text, uint64_t *out_ticks)
{
  const uint8_t *at = memrchr(text.at, ')', text.size);
  if (!at) return false;
  const uint8_t *end = text.at + text.size;
  // The fields are counted from 1; the name is the second, utime the 14th, stime the 15th.
  for (int field = 2; field < 14; field++) {
    at = memchr(at + 1, ' ', (size_t)(end - at - 1));
    if (!at || at + 1 >= end) return false;
  }
  uint64_t user;
  uint64_t system;
  at = number_at(at, end, &user);
  if (!at || !number_at(at, end, &system)) return false;
  *out_ticks = user + system;
  return true;
}

bool process_parse_kib_line(struct span text, const char *name, uint64_t *out_bytes)
{
  size_t name_size = strlen(name);
  const uint8_t *end = text.at + text.size;
  for (const uint8_t *line = text.at; line < end;) {
    const uint8_t *newline = memchr(line, '\n', (size_t)(end - line));
    const uint8_t *line_end = newline ? newline : end;
    uint64_t kib;
    if ((size_t)(line_end - line) > name_size && memcmp(line, name, name_size) == 0 &&
        number_at(line + name_size, line_end, &kib)) {
      *out_bytes = kib * 1024;
      return true;
    }
    line = line_end + 1;
  }
  return false;
}

static enum status read_text(const char *path, char *text, size_t size, struct span *out)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return status_from_errno(errno);
  ssize_t got = read(fd, text, size);
  int error = errno;
  close(fd);
  if (got < 0) return status_from_errno(error);
  *out = span_of(text, (size_t)got);
  return OK;
}

static enum status cpu_from_stat(pid_t pid, uint64_t *out_ns)
{
  char path[64];
  char text[PROC_TEXT_SIZE];
  struct span stat;
  uint64_t ticks;
  snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
  enum status status = read_text(path, text, sizeof text, &stat);
  if (status) return status;
  if (!process_parse_stat(stat, &ticks)) return ERR_IO;
  *out_ns = ticks * (uint64_t)(NS_PER_S / sysconf(_SC_CLK_TCK));
  return OK;
}

enum status process_cpu(pid_t pid, uint64_t *out_ns)
{
  char path[64];
  snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
  DIR *tasks = opendir(path);
  if (!tasks) return status_from_errno(errno);
  uint64_t total_ns = 0;
  bool precise = true;
  for (struct dirent *task; precise && (task = readdir(tasks));) {
    if (task->d_name[0] == '.') continue;
    char text[PROC_TEXT_SIZE];
    struct span schedstat;
    uint64_t ns;
    char file[sizeof path + sizeof task->d_name + 16];
    snprintf(file, sizeof file, "%s/%s/schedstat", path, task->d_name);
    precise = read_text(file, text, sizeof text, &schedstat) == OK && process_parse_schedstat(schedstat, &ns);
    if (precise) total_ns += ns;
  }
  closedir(tasks);
  if (!precise) return cpu_from_stat(pid, out_ns);
  *out_ns = total_ns;
  return OK;
}

enum status process_memory(pid_t pid, struct process_memory *out_memory)
{
  char path[64];
  char text[PROC_TEXT_SIZE];
  struct span rollup;
  snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", (long)pid);
  enum status status = read_text(path, text, sizeof text, &rollup);
  if (status) return status;
  struct process_memory memory;
  if (!process_parse_kib_line(rollup, "Rss:", &memory.rss_bytes)) return ERR_IO;
  if (!process_parse_kib_line(rollup, "Pss:", &memory.pss_bytes)) return ERR_IO;
  *out_memory = memory;
  return OK;
}
