// The file that `skerry passwd` changes. See passwd_file.h.
#include "cli/passwd_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "auth/passwords.h"

enum { LOCK_TRIES = 200, LOCK_PAUSE_MS = 50 };

static enum status fail(struct error *error, const char *path, const char *what)
{
  int why = errno;
  return error_set(error, status_from_errno(why), "%s: %s: %s", path, what, strerror(why));
}

// The directory part of a path, on the heap.
static char *directory_of(const char *path)
{
  char *copy = strdup(path);
  if (!copy) return NULL;
  char *directory = strdup(dirname(copy));
  free(copy);
  return directory;
}

static const char *name_of(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

// ---- Reading

// A temporary file that another run left behind would not matter; two runs at a time would lose what one of them wrote.
static enum status lock(struct passwd_file *file, struct error *error)
{
  for (int i = 0; flock(file->directory, LOCK_EX | LOCK_NB) < 0; i++) {
    if (errno != EWOULDBLOCK && errno != EINTR) return fail(error, file->path, "its directory cannot be locked");
    if (i == LOCK_TRIES)
      return error_set(error, ERR_TIMEOUT,
                       "%s: another \"skerry passwd\" has been changing files in this directory for %d seconds", file->path,
                       LOCK_TRIES * LOCK_PAUSE_MS / 1000);
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
    nanosleep(&pause, NULL);
  }
  return OK;
}

static enum status open_directory(struct passwd_file *file, struct error *error)
{
  char *directory = directory_of(file->path);
  if (!directory) return error_set(error, ERR_NO_MEMORY, "memory is short");
  file->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  enum status status = file->directory < 0 ? fail(error, directory, "cannot be opened") : OK;
  free(directory);
  return status;
}

static enum status read_text(struct passwd_file *file, int fd, struct error *error)
{
  if (fstat(fd, &file->stat) < 0) return fail(error, file->path, "cannot be read");
  if (!S_ISREG(file->stat.st_mode)) return error_set(error, ERR_INVALID, "%s: is not a regular file", file->path);
  if (file->stat.st_size > PASSWORDS_MAX_FILE_BYTES)
    return error_set(error, ERR_LIMIT, "%s: is larger than %d MiB", file->path, PASSWORDS_MAX_FILE_BYTES >> 20);
  size_t size = (size_t)file->stat.st_size;
  uint8_t *at = buffer_reserve(&file->text, size);
  if (!at) return error_set(error, ERR_NO_MEMORY, "memory is short");
  while (size > 0) {
    ssize_t got = read(fd, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(error, file->path, "cannot be read");
    if (got == 0) break;
    buffer_commit(&file->text, (size_t)got);
    at += got;
    size -= (size_t)got;
  }
  return OK;
}

static enum status read_file(struct passwd_file *file, struct error *error)
{
  int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return errno == ENOENT ? OK : fail(error, file->path, "cannot be opened");
  file->exists = true;
  enum status status = read_text(file, fd, error);
  close(fd);
  return status;
}

enum status passwd_file_open(struct passwd_file *file, const char *path, struct error *error)
{
  *file = (struct passwd_file){.directory = -1};
  file->path = realpath(path, NULL);
  if (!file->path && errno == ENOENT) {
    struct stat link;
    if (lstat(path, &link) == 0)
      return error_set(error, ERR_NOT_FOUND, "%s: is a symbolic link to a file that does not exist", path);
    file->path = strdup(path);
  }
  if (!file->path) return fail(error, path, "cannot be opened");
  enum status status = open_directory(file, error);
  if (status == OK) status = lock(file, error);
  if (status == OK) status = read_file(file, error);
  return status;
}

void passwd_file_close(struct passwd_file *file)
{
  if (!file->path) return;
  buffer_wipe(&file->text);
  if (file->directory >= 0) close(file->directory);
  free(file->path);
  *file = (struct passwd_file){.directory = -1};
}

// ---- Writing

static enum status write_all(int fd, struct span text, const char *path, struct error *error)
{
  while (text.size > 0) {
    ssize_t done = write(fd, text.at, text.size);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return fail(error, path, "cannot be written");
    text = span_from(text, (size_t)done);
  }
  return OK;
}

// Owner first: changing it may take bits off the mode.
static enum status keep_rights(const struct passwd_file *file, int fd, struct error *error)
{
  struct stat now;
  if (!file->exists) return OK;
  if (fstat(fd, &now) < 0) return fail(error, file->path, "cannot be written");
  uid_t user = now.st_uid == file->stat.st_uid ? (uid_t)-1 : file->stat.st_uid;
  gid_t group = now.st_gid == file->stat.st_gid ? (gid_t)-1 : file->stat.st_gid;
  bool same = user == (uid_t)-1 && group == (gid_t)-1;
  if (!same && fchown(fd, user, group) < 0)
    return fail(error, file->path, "would have another owner or group afterwards; do this as its owner or as root");
  if (fchmod(fd, file->stat.st_mode & 07777) < 0) return fail(error, file->path, "its mode cannot be kept");
  return OK;
}

static enum status fill(const struct passwd_file *file, int fd, struct span text, struct error *error)
{
  enum status status = keep_rights(file, fd, error);
  if (status == OK) status = write_all(fd, text, file->path, error);
  if (status == OK && fsync(fd) < 0) status = fail(error, file->path, "cannot be written");
  return status;
}

enum status passwd_file_write(const struct passwd_file *file, struct span text, struct error *error)
{
  char *directory = directory_of(file->path), *temporary = NULL;
  if (!directory || asprintf(&temporary, "%s/.%s.XXXXXX", directory, name_of(file->path)) < 0) {
    free(directory);
    return error_set(error, ERR_NO_MEMORY, "memory is short");
  }
  free(directory);
  int fd = mkostemp(temporary, O_CLOEXEC);
  enum status status = fd < 0 ? fail(error, temporary, "cannot be made") : fill(file, fd, text, error);
  if (fd >= 0 && close(fd) < 0 && status == OK) status = fail(error, file->path, "cannot be written");
  if (status == OK && rename(temporary, file->path) < 0) status = fail(error, file->path, "cannot be replaced");
  if (status != OK && fd >= 0) unlink(temporary);
  if (status == OK && fsync(file->directory) < 0) status = fail(error, file->path, "its directory cannot be synced");
  free(temporary);
  return status;
}
