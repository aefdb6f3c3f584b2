// The bare cost of keeping bytes: appends batches of a given size to preallocated files in a directory, each followed by
// fdatasync, and nothing else. What a broker that syncs before it acknowledges is measured against.
//
//   appender DIRECTORY BATCH_BYTES SECONDS    prints {"batches_per_s": …, "us_per_batch": …, "p99_us": …}
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SEGMENT_BYTES = 16 << 20, TIMES_MAX = 1 << 20 };

static double now_s(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fail(const char *what)
{
  fprintf(stderr, "appender: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int next_segment(int directory, int before)
{
  if (before >= 0) close(before);
  if (before >= 0 && unlinkat(directory, "appender.tmp", 0) < 0) fail("unlink");
  int fd = openat(directory, "appender.tmp", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) fail("open");
  if (fallocate(fd, 0, 0, SEGMENT_BYTES) < 0) fail("fallocate");
  if (fsync(directory) < 0) fail("fsync");
  return fd;
}

static int compare(const void *a, const void *b)
{
  double one = *(const double *)a, other = *(const double *)b;
  return (one > other) - (one < other);
}

int main(int argc, char **argv)
{
  if (argc != 4) {
    fputs("usage: appender DIRECTORY BATCH_BYTES SECONDS\n", stderr);
    return 2;
  }
  size_t size = strtoul(argv[2], NULL, 10);
  double seconds = strtod(argv[3], NULL);
  int directory = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) fail(argv[1]);
  if (size == 0 || size > SEGMENT_BYTES) {
    fputs("appender: BATCH_BYTES must be 1 to 16777216\n", stderr);
    return 2;
  }
  uint8_t *batch = malloc(size);
  double *times = malloc(TIMES_MAX * sizeof *times);
  if (!batch || !times) fail("malloc");
  for (size_t i = 0; i < size; i++) batch[i] = (uint8_t)(i * 131 + i / 251);
  int fd = next_segment(directory, -1);
  uint64_t offset = 0, count = 0;
  double began = now_s(), at = began;
  while (at - began < seconds) {
    if (offset + size > SEGMENT_BYTES) {
      fd = next_segment(directory, fd);
      offset = 0;
    }
    if (pwrite(fd, batch, size, (off_t)offset) != (ssize_t)size) fail("pwrite");
    if (fdatasync(fd) < 0) fail("fdatasync");
    offset += size;
    double after = now_s();
    if (count < TIMES_MAX) times[count] = after - at;
    count++;
    at = after;
  }
  close(fd);
  unlinkat(directory, "appender.tmp", 0);
  size_t kept = count < TIMES_MAX ? count : TIMES_MAX;
  qsort(times, kept, sizeof *times, compare);
  printf("{\"batches_per_s\": %.1f, \"us_per_batch\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
         (double)count / (at - began), (at - began) / (double)count * 1e6, times[kept / 2] * 1e6,
         times[kept * 99 / 100] * 1e6);
  free(batch);
  free(times);
  return 0;
}
