// Preloaded into a broker: makes it possible to take back, after a kill, what a power cut would have taken. Writes go
// through and stay visible; what they replaced is noted in an undo log first, from which powercut.py rolls the directory
// back, sector by sector, to some state that the disk might have been left in. What was synced before stays.
//
//   POWERCUT_DIRECTORY   what to watch, with all below it
//   POWERCUT_LOG         the undo log, outside of it but on the same file system; files that are replaced or removed are
//   kept in
//                        the directory of the same name with ".kept" behind it
//   POWERCUT_LIE         "data": syncs of files are ignored, "directory": those of directories, "all": both
//   POWERCUT_DELAY_US    how long a sync of a file takes
//   POWERCUT_HOLD        while this file exists no sync of a file ends
//   POWERCUT_FAULT       while this file exists: writes find no space if it begins with 'w', syncs fail if with 's'
//
// State of its own, as there is nobody who could hand it in. 64-bit hosts. Must not call what it replaces: uses system
// calls. Here open and open64 are two names, as they are two symbols.
#undef _FILE_OFFSET_BITS
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SECTOR = 512, DESCRIPTORS = 32768, HOLD_US = 1000 };

// In the log, native byte order; powercut.py reads it. `one`, `two` and `data` bytes follow.
enum undo_kind {
  UNDO_WRITE = 1,   // `data`: what was at `offset`, less than `length` where the file ended; `size`: of the file before
  UNDO_RESIZE = 2,  // from `size` to `length`; `data`: what was cut off
  UNDO_SYNC = 3,    // all of the file that the log has before `offset` is safe
  UNDO_CREATE = 4,  // path one
  UNDO_RENAME = 5,  // path one to two; `data`: name under which the file replaced is kept
  UNDO_UNLINK = 6,  // path one; `data`: the same
  UNDO_SYNC_DIRECTORY = 7,  // path one: all changes in it that the log has before `offset` are safe
};

struct undo_record {
  uint32_t kind, one_size, two_size, data_size;
  uint64_t file;  // inode
  uint64_t offset, length, size;
};

static struct {
  pthread_mutex_t lock;
  bool ready;
  int log;
  bool lie_data, lie_directory;
  unsigned delay_us;
  const char *fault, *hold;
  char directory[PATH_MAX], kept[PATH_MAX];
  unsigned kept_count;
  bool watched[DESCRIPTORS];
} cut = {.lock = PTHREAD_MUTEX_INITIALIZER, .log = -1};

static void give_up(const char *what)
{
  dprintf(STDERR_FILENO, "powercut: %s: %s\n", what, strerror(errno));
  abort();
}

static const char *setting(const char *name)
{
  const char *value = getenv(name);
  return value && value[0] ? value : NULL;
}

__attribute__((constructor)) static void begin(void)
{
  const char *directory = setting("POWERCUT_DIRECTORY");
  const char *log = setting("POWERCUT_LOG");
  if (!directory || !log) return;
  if (!realpath(directory, cut.directory)) give_up(directory);
  snprintf(cut.kept, sizeof cut.kept, "%s.kept", log);
  if (mkdir(cut.kept, 0700) != 0 && errno != EEXIST) give_up(cut.kept);
  cut.log = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (cut.log < 0) give_up(log);
  const char *lie = setting("POWERCUT_LIE");
  cut.lie_data = lie && (strcmp(lie, "data") == 0 || strcmp(lie, "all") == 0);
  cut.lie_directory = lie && (strcmp(lie, "directory") == 0 || strcmp(lie, "all") == 0);
  const char *delay = setting("POWERCUT_DELAY_US");
  cut.delay_us = delay ? (unsigned)strtoul(delay, NULL, 10) : 0;
  cut.fault = setting("POWERCUT_FAULT");
  cut.hold = setting("POWERCUT_HOLD");
  cut.kept_count = (unsigned)getpid() % 100000 * 10000;
  cut.ready = true;
}

// What is wrong with the disk at the moment: 'w', 's' or 0.
static char fault(void)
{
  if (!cut.fault) return 0;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, cut.fault, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char first = 0;
  if (syscall(SYS_read, fd, &first, 1) != 1) first = 0;
  syscall(SYS_close, fd);
  return first;
}

// ---- The log

static void put(struct undo_record *record, const char *one, const char *two, const void *data, size_t size)
{
  record->one_size = one ? (uint32_t)strlen(one) : 0;
  record->two_size = two ? (uint32_t)strlen(two) : 0;
  record->data_size = (uint32_t)size;
  const struct iovec parts[] = {
      {.iov_base = record, .iov_len = sizeof *record},
      {.iov_base = (void *)(uintptr_t)one, .iov_len = record->one_size},
      {.iov_base = (void *)(uintptr_t)two, .iov_len = record->two_size},
      {.iov_base = (void *)(uintptr_t)data, .iov_len = size},
  };
  const size_t all = sizeof *record + record->one_size + record->two_size + size;
  if (syscall(SYS_writev, cut.log, parts, 4) != (long)all) give_up("cannot write the undo log");
}

static uint64_t log_end(void)
{
  const long end = syscall(SYS_lseek, cut.log, 0, SEEK_END);
  if (end < 0) give_up("lseek");
  return (uint64_t)end;
}

static bool watched(int fd)
{
  return cut.ready && fd >= 0 && fd < DESCRIPTORS && cut.watched[fd];
}

static struct stat facts(int fd)
{
  struct stat found;
  if (fstat(fd, &found) != 0) give_up("fstat");
  return found;
}

// What is in the file from `offset` on, at most `length` bytes. On the heap.
static void *content(int fd, uint64_t offset, uint64_t length, size_t *out_size)
{
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const int own = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);  // fd may be for writing only
  char *bytes = malloc(length ? length : 1);
  if (own < 0 || !bytes) give_up("cannot read what is replaced");
  size_t have = 0;
  while (have < length) {
    const long got = syscall(SYS_pread64, own, bytes + have, length - have, offset + have);
    if (got < 0) give_up("pread");
    if (got == 0) break;
    have += (size_t)got;
  }
  syscall(SYS_close, own);
  *out_size = have;
  return bytes;
}

static void note_write(int fd, uint64_t offset, uint64_t length)
{
  const struct stat before = facts(fd);
  const uint64_t from = offset / SECTOR * SECTOR;
  const uint64_t to = (offset + length + SECTOR - 1) / SECTOR * SECTOR;
  size_t size;
  void *old = content(fd, from, to - from, &size);
  struct undo_record record = {
      .kind = UNDO_WRITE, .file = before.st_ino, .offset = from, .length = to - from, .size = (uint64_t)before.st_size};
  // A write that extends the file only to within its last sector has no more than that in it.
  if (offset + length > record.size) record.length = offset + length - from;
  put(&record, NULL, NULL, old, size);
  free(old);
}

static void note_resize(int fd, uint64_t length)
{
  const struct stat before = facts(fd);
  struct undo_record record = {
      .kind = UNDO_RESIZE, .file = before.st_ino, .length = length, .size = (uint64_t)before.st_size};
  size_t size = 0;
  void *old = NULL;
  if (length < record.size) old = content(fd, length, record.size - length, &size);
  record.offset = length;
  put(&record, NULL, NULL, old, size);
  free(old);
}

// ---- Paths

// Absolute, without following the last part. False when it is not below the directory.
static bool locate(int at, const char *path, char out[PATH_MAX])
{
  if (!cut.ready) return false;
  char base[PATH_MAX] = "", name[64];
  if (path[0] != '/') {
    if (at == AT_FDCWD)
      snprintf(name, sizeof name, "/proc/self/cwd");
    else
      snprintf(name, sizeof name, "/proc/self/fd/%d", at);
    const ssize_t got = readlink(name, base, sizeof base - 1);
    if (got < 0) return false;
    base[got] = 0;
  }
  while (path[0] == '.' && path[1] == '/') path += 2;
  if ((size_t)snprintf(out, PATH_MAX, "%s%s%s", base, path[0] == '/' ? "" : "/", path) >= PATH_MAX) return false;
  const size_t prefix = strlen(cut.directory);
  return strncmp(out, cut.directory, prefix) == 0 && (out[prefix] == '/' || out[prefix] == 0);
}

static bool exists(const char *path)
{
  struct stat found;
  return lstat(path, &found) == 0;
}

// Gives the file a second name, so that it can be put back. Empty when there is no such file.
static void keep(const char *path, char name[32])
{
  name[0] = 0;
  if (!exists(path)) return;
  char whole[PATH_MAX + 32];
  snprintf(name, 32, "%u", ++cut.kept_count);
  snprintf(whole, sizeof whole, "%s/%s", cut.kept, name);
  if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, whole, 0) != 0) give_up(whole);
}

// ---- What is replaced

static int watch_open(int at, const char *path, int flags, mode_t mode)
{
  char whole[PATH_MAX];
  const bool within = locate(at, path, whole);
  if (!within) return (int)syscall(SYS_openat, at, path, flags, mode);
  pthread_mutex_lock(&cut.lock);
  const bool was = exists(whole);
  const bool creates = (flags & O_CREAT) != 0 && !was;
  const bool truncates = (flags & O_TRUNC) != 0 && was;
  if (truncates) {
    const int old = (int)syscall(SYS_openat, AT_FDCWD, whole, O_RDONLY | O_CLOEXEC);
    if (old >= 0) {
      note_resize(old, 0);
      syscall(SYS_close, old);
    }
  }
  struct undo_record record = {.kind = UNDO_CREATE};
  if (creates) put(&record, whole, NULL, NULL, 0);
  const int fd = (int)syscall(SYS_openat, at, path, flags, mode);
  const int error = errno;
  if (fd >= 0 && fd < DESCRIPTORS) cut.watched[fd] = true;
  pthread_mutex_unlock(&cut.lock);
  errno = error;
  return fd;
}

#define MODE_OF(flags, mode)                                                                                                \
  do {                                                                                                                      \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                                \
      va_list rest;                                                                                                         \
      va_start(rest, flags);                                                                                                \
      (mode) = va_arg(rest, mode_t);                                                                                        \
      va_end(rest);                                                                                                         \
    }                                                                                                                       \
  } while (0)

int open(const char *path, int flags, ...)
{
  mode_t mode = 0;
  MODE_OF(flags, mode);
  return watch_open(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
  mode_t mode = 0;
  MODE_OF(flags, mode);
  return watch_open(at, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int at, const char *path, int flags, ...) __attribute__((alias("openat")));

// What open and openat become with _FORTIFY_SOURCE where the compiler does not know the flags.
int __open_2(const char *path, int flags);
int __openat_2(int at, const char *path, int flags);

int __open_2(const char *path, int flags)
{
  return watch_open(AT_FDCWD, path, flags, 0);
}

int __openat_2(int at, const char *path, int flags)
{
  return watch_open(at, path, flags, 0);
}

int __open64_2(const char *path, int flags) __attribute__((alias("__open_2")));
int __openat64_2(int at, const char *path, int flags) __attribute__((alias("__openat_2")));

int creat(const char *path, mode_t mode)
{
  return watch_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int close(int fd)
{
  if (watched(fd)) cut.watched[fd] = false;
  return (int)syscall(SYS_close, fd);
}

static ssize_t watch_write(int fd, const struct iovec *parts, int count, off_t offset, bool at_offset)
{
  if (!watched(fd)) {
    return at_offset ? syscall(SYS_pwritev, fd, parts, count, offset, 0) : syscall(SYS_writev, fd, parts, count);
  }
  if (fault() == 'w') {
    errno = ENOSPC;
    return -1;
  }
  uint64_t length = 0;
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  pthread_mutex_lock(&cut.lock);
  long from = offset;
  if (!at_offset) {
    const bool appends = (syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND) != 0;
    from = appends ? facts(fd).st_size : syscall(SYS_lseek, fd, 0, SEEK_CUR);
  }
  if (from < 0) give_up("where is this written to");
  if (length > 0) note_write(fd, (uint64_t)from, length);
  const ssize_t done = at_offset ? syscall(SYS_pwritev, fd, parts, count, offset, 0) : syscall(SYS_writev, fd, parts, count);
  const int error = errno;
  pthread_mutex_unlock(&cut.lock);
  errno = error;
  return done;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
  const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
  return watch_write(fd, &part, 1, 0, false);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
  const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
  return watch_write(fd, &part, 1, offset, true);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
  return watch_write(fd, parts, count, 0, false);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
  return watch_write(fd, parts, count, offset, true);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset) __attribute__((alias("pwrite")));
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) __attribute__((alias("pwritev")));

int ftruncate(int fd, off_t size)
{
  if (!watched(fd)) return (int)syscall(SYS_ftruncate, fd, size);
  pthread_mutex_lock(&cut.lock);
  note_resize(fd, (uint64_t)size);
  const int done = (int)syscall(SYS_ftruncate, fd, size);
  pthread_mutex_unlock(&cut.lock);
  return done;
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
  if (!watched(fd)) return (int)syscall(SYS_fallocate, fd, mode, offset, length);
  if (fault() == 'w') {
    errno = ENOSPC;
    return -1;
  }
  pthread_mutex_lock(&cut.lock);
  if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE) give_up("fallocate with a mode that it does not know");
  const uint64_t end = (uint64_t)(offset + length);
  if (mode == 0 && end > (uint64_t)facts(fd).st_size) note_resize(fd, end);
  const int done = (int)syscall(SYS_fallocate, fd, mode, offset, length);
  const int error = errno;
  pthread_mutex_unlock(&cut.lock);
  errno = error;
  return done;
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
  return fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
}

int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int mode, off_t offset, off_t length) __attribute__((alias("fallocate")));
int posix_fallocate64(int fd, off_t offset, off_t length) __attribute__((alias("posix_fallocate")));

int renameat(int from_at, const char *from, int to_at, const char *to)
{
  char one[PATH_MAX], two[PATH_MAX], name[32];
  const bool within_one = locate(from_at, from, one);
  const bool within_two = locate(to_at, to, two);
  if (!within_one && !within_two) return (int)syscall(SYS_renameat2, from_at, from, to_at, to, 0);
  if (within_one != within_two) give_up("a rename across the directory's border");
  pthread_mutex_lock(&cut.lock);
  keep(two, name);
  struct undo_record record = {.kind = UNDO_RENAME};
  if (exists(one)) put(&record, one, two, name, strlen(name));
  const int done = (int)syscall(SYS_renameat2, from_at, from, to_at, to, 0);
  const int error = errno;
  pthread_mutex_unlock(&cut.lock);
  errno = error;
  return done;
}

int rename(const char *from, const char *to)
{
  return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlinkat(int at, const char *path, int flags)
{
  char whole[PATH_MAX], name[32];
  if (!locate(at, path, whole) || (flags & AT_REMOVEDIR)) return (int)syscall(SYS_unlinkat, at, path, flags);
  pthread_mutex_lock(&cut.lock);
  keep(whole, name);
  struct undo_record record = {.kind = UNDO_UNLINK};
  if (name[0]) put(&record, whole, NULL, name, strlen(name));
  const int done = (int)syscall(SYS_unlinkat, at, path, flags);
  const int error = errno;
  pthread_mutex_unlock(&cut.lock);
  errno = error;
  return done;
}

int unlink(const char *path)
{
  return unlinkat(AT_FDCWD, path, 0);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
  char whole[PATH_MAX];
  if (!locate(to_at, to, whole)) return (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
  pthread_mutex_lock(&cut.lock);
  struct undo_record record = {.kind = UNDO_CREATE};
  if (!exists(whole)) put(&record, whole, NULL, NULL, 0);
  const int done = (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
  const int error = errno;
  pthread_mutex_unlock(&cut.lock);
  errno = error;
  return done;
}

int link(const char *from, const char *to)
{
  return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

// What was noted before the call is safe after it; what other threads write meanwhile is not.
static int watch_sync(int fd, long number)
{
  if (!watched(fd)) return (int)syscall(number, fd);
  if (fault() == 's') {
    errno = EIO;
    return -1;
  }
  const struct stat what = facts(fd);
  const bool directory = S_ISDIR(what.st_mode);
  pthread_mutex_lock(&cut.lock);
  const uint64_t end = log_end();
  pthread_mutex_unlock(&cut.lock);
  if (cut.delay_us && !directory) usleep(cut.delay_us);
  while (cut.hold && !directory && syscall(SYS_faccessat, AT_FDCWD, cut.hold, F_OK) == 0) usleep(HOLD_US);
  if (directory ? cut.lie_directory : cut.lie_data) return 0;
  // The page cache survives a kill: the undo log alone decides what is lost, nothing has to reach the disk.
  pthread_mutex_lock(&cut.lock);
  struct undo_record record = {.kind = directory ? UNDO_SYNC_DIRECTORY : UNDO_SYNC, .file = what.st_ino, .offset = end};
  char whole[PATH_MAX];
  put(&record, directory && locate(fd, ".", whole) ? whole : NULL, NULL, NULL, 0);
  pthread_mutex_unlock(&cut.lock);
  return 0;
}

int fdatasync(int fd)
{
  return watch_sync(fd, SYS_fdatasync);
}

int fsync(int fd)
{
  return watch_sync(fd, SYS_fsync);
}
