// The disk port on a directory of the real file system. All names are opened relative to the directory, so that it may be
// moved or mounted over while it is in use; nothing is followed out of it.
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/disk.h"

struct disk_posix {
  struct disk disk;  // first: the port's pointers are to it
  int directory;
  int lock;  // -1: not locked
};

struct disk_file {
  int descriptor;
};

static struct disk_posix *posix_of(struct disk *disk)
{
  return (struct disk_posix *)disk;
}

// Of an operation on data: whatever is neither space nor memory is the device's failure, also a file system that has turned
// read-only because of one. A file that may not grow is a full disk to us.
static enum status data_status(int error_number)
{
  enum status status = status_from_errno(error_number);
  if (error_number == EFBIG) return ERR_FULL;
  return status == ERR_FULL || status == ERR_NO_MEMORY ? status : ERR_IO;
}

// Of an operation on names.
static enum status name_status(int error_number)
{
  return error_number == EROFS ? ERR_IO : status_from_errno(error_number);
}

static enum status posix_list(struct disk *disk, void (*found)(void *context, const char *name), void *context)
{
  int copy = openat(posix_of(disk)->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return name_status(errno);
  DIR *stream = fdopendir(copy);
  if (!stream) {
    enum status status = name_status(errno);
    close(copy);
    return status;
  }
  enum status status = OK;
  while (true) {
    errno = 0;
    const struct dirent *entry = readdir(stream);
    if (!entry) {
      if (errno != 0) status = name_status(errno);
      break;
    }
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) found(context, entry->d_name);
  }
  closedir(stream);
  return status;
}

static enum status posix_open(struct disk *disk, const char *name, enum disk_open how, struct disk_file **out)
{
  struct disk_file *file = malloc(sizeof *file);
  if (!file) return ERR_NO_MEMORY;
  int flags = O_CLOEXEC | O_NOFOLLOW;
  switch (how) {
    case DISK_READ: flags |= O_RDONLY; break;
    case DISK_WRITE: flags |= O_RDWR; break;
    case DISK_CREATE: flags |= O_RDWR | O_CREAT | O_TRUNC; break;
  }
  do {
    file->descriptor = openat(posix_of(disk)->directory, name, flags, 0600);
  } while (file->descriptor < 0 && errno == EINTR);
  if (file->descriptor < 0) {
    enum status status = name_status(errno);
    free(file);
    return status;
  }
  *out = file;
  return OK;
}

static void posix_close(struct disk *disk, struct disk_file *file)
{
  (void)disk;
  close(file->descriptor);  // EINTR too has closed it; what was to be safe has been synced before
  free(file);
}

static enum status posix_size(struct disk *disk, struct disk_file *file, uint64_t *out)
{
  (void)disk;
  struct stat info;
  if (fstat(file->descriptor, &info) != 0) return data_status(errno);
  *out = (uint64_t)info.st_size;
  return OK;
}

static enum status posix_truncate(struct disk *disk, struct disk_file *file, uint64_t size)
{
  (void)disk;
  int result;
  do {
    result = ftruncate(file->descriptor, (off_t)size);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? OK : data_status(errno);
}

static enum status posix_allocate(struct disk *disk, struct disk_file *file, uint64_t size)
{
  int result;
  do {
    result = fallocate(file->descriptor, 0, 0, (off_t)size);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return OK;
  if (errno != EOPNOTSUPP && errno != ENOSYS) return data_status(errno);
  // The file system cannot reserve: the file gets its size, and later writes may find the disk full.
  uint64_t present;
  enum status status = posix_size(disk, file, &present);
  return status || present >= size ? status : posix_truncate(disk, file, size);
}

static enum status posix_write(struct disk *disk, struct disk_file *file, uint64_t offset, struct span bytes)
{
  while (bytes.size > 0) {
    ssize_t written = pwrite(file->descriptor, bytes.at, bytes.size, (off_t)offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return data_status(errno);
    if (written == 0) return ERR_IO;
    disk->bytes_written += (uint64_t)written;
    offset += (uint64_t)written;
    bytes = span_from(bytes, (size_t)written);
  }
  return OK;
}

static enum status posix_read(struct disk *disk, struct disk_file *file, uint64_t offset, void *out, size_t size,
                              size_t *out_size)
{
  (void)disk;
  size_t done = 0;
  while (done < size) {
    ssize_t got = pread(file->descriptor, (uint8_t *)out + done, size - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return data_status(errno);
    if (got == 0) break;
    done += (size_t)got;
  }
  *out_size = done;
  return OK;
}

static enum status posix_sync(struct disk *disk, struct disk_file *file)
{
  disk->syncs++;
  int result;
  do {
    result = fdatasync(file->descriptor);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? OK : data_status(errno);
}

static enum status posix_rename(struct disk *disk, const char *from, const char *to)
{
  int directory = posix_of(disk)->directory;
  return renameat(directory, from, directory, to) == 0 ? OK : name_status(errno);
}

static enum status posix_unlink(struct disk *disk, const char *name)
{
  return unlinkat(posix_of(disk)->directory, name, 0) == 0 ? OK : name_status(errno);
}

static enum status posix_sync_directory(struct disk *disk)
{
  disk->syncs++;
  int result;
  do {
    result = fsync(posix_of(disk)->directory);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? OK : data_status(errno);
}

static enum status posix_space(struct disk *disk, uint64_t *out_free, uint64_t *out_total)
{
  struct statvfs info;
  int result;
  do {
    result = fstatvfs(posix_of(disk)->directory, &info);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return data_status(errno);
  *out_free = (uint64_t)info.f_bavail * info.f_frsize;
  *out_total = (uint64_t)info.f_blocks * info.f_frsize;
  return OK;
}

static void posix_destroy(struct disk *disk)
{
  struct disk_posix *posix = posix_of(disk);
  if (posix->lock >= 0) close(posix->lock);
  if (posix->directory >= 0) close(posix->directory);
  free(posix);
}

static const struct disk_operations operations = {
    .list = posix_list,
    .open = posix_open,
    .close = posix_close,
    .size = posix_size,
    .allocate = posix_allocate,
    .write = posix_write,
    .read = posix_read,
    .sync = posix_sync,
    .truncate = posix_truncate,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .sync_directory = posix_sync_directory,
    .space = posix_space,
    .destroy = posix_destroy,
};

// ---- Opening

void disk_posix_sync_above(const char *directory)
{
  int own = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  int above = own < 0 ? -1 : openat(own, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (above >= 0) fsync(above);  // else it is not ours to read: nothing that could be done
  if (above >= 0) close(above);
  if (own >= 0) close(own);
}

static enum status open_directory(const char *path, bool create, int *out, struct error *error)
{
  bool made = false;
  if (create) {
    made = mkdir(path, 0700) == 0;
    if (!made && errno == ENOENT)
      return error_set(error, ERR_NOT_FOUND, "%s: cannot be made: the directory above it does not exist", path);
    if (!made && errno == EROFS)
      return error_set(error, ERR_DENIED, "%s: cannot be made: the file system is read-only", path);
    if (!made && errno != EEXIST)
      return error_set(error, status_from_errno(errno), "%s: cannot be made: %s", path, strerrordesc_np(errno));
  }
  *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (*out >= 0) {
    if (made) disk_posix_sync_above(path);
    return OK;
  }
  switch (errno) {
    case ENOENT: return error_set(error, ERR_NOT_FOUND, "%s: there is no such directory", path);
    case ENOTDIR: return error_set(error, ERR_INVALID, "%s: is not a directory", path);
    case EACCES:
      return error_set(error, ERR_DENIED, "%s: permission denied: the user with id %u cannot read it", path,
                       (unsigned)geteuid());
    default: return error_set(error, status_from_errno(errno), "%s: cannot be opened: %s", path, strerrordesc_np(errno));
  }
}

static enum status lock_error(const char *path, int error_number, struct error *error)
{
  switch (error_number) {
    case EROFS:
      return error_set(error, ERR_DENIED, "%s: the file system is read-only; the broker's data directory must be writable",
                       path);
    case EACCES:
    case EPERM:
      return error_set(error, ERR_DENIED, "%s: permission denied: the user with id %u cannot write to it", path,
                       (unsigned)geteuid());
    case ENOSPC:
    case EDQUOT: return error_set(error, ERR_FULL, "%s: no space left to make the file \"lock\"", path);
    default:
      return error_set(error, status_from_errno(error_number), "%s: the file \"lock\" cannot be made or locked: %s", path,
                       strerrordesc_np(error_number));
  }
}

// Reads who holds the lock: for words only, so anything else is "unknown".
static void read_holder(int lock, char *out, size_t size)
{
  char text[24];
  ssize_t got = pread(lock, text, sizeof text - 1, 0);
  long process = 0;
  if (got > 0) {
    text[got] = '\0';
    process = strtol(text, NULL, 10);
  }
  if (process > 0)
    snprintf(out, size, " (process %ld)", process);
  else
    out[0] = '\0';
}

static enum status lock_directory(struct disk_posix *posix, const char *path, struct error *error)
{
  posix->lock = openat(posix->directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (posix->lock < 0) return lock_error(path, errno, error);
  int result;
  do {
    result = flock(posix->lock, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EWOULDBLOCK) {
    char holder[48];
    read_holder(posix->lock, holder, sizeof holder);
    return error_set(error, ERR_EXISTS, "%s: another broker%s uses this directory: stop it, or give each its own", path,
                     holder);
  }
  if (result != 0) return lock_error(path, errno, error);
  char text[24];
  int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
  // Who we are is a help only: on a full disk the lock holds without it.
  if (ftruncate(posix->lock, 0) == 0 && pwrite(posix->lock, text, (size_t)size, 0) < 0) return OK;
  return OK;
}

enum status disk_posix_open(const char *path, bool create, bool lock, struct disk **out, struct error *error)
{
  struct disk_posix *posix = calloc(1, sizeof *posix);
  if (!posix) return error_set(error, ERR_NO_MEMORY, "%s: out of memory", path);
  posix->disk.operations = &operations;
  posix->directory = -1;
  posix->lock = -1;
  enum status status = open_directory(path, create, &posix->directory, error);
  if (status == OK && lock) status = lock_directory(posix, path, error);
  if (status) {
    posix_destroy(&posix->disk);
    return status;
  }
  *out = &posix->disk;
  return OK;
}
