#include "tls/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/wipe.h"

static enum status read_descriptor(int fd, const char *path, const char *expected, size_t limit, uint8_t **out,
                                   size_t *out_size, struct error *error)
{
  struct stat facts;
  if (fstat(fd, &facts) != 0) return error_set(error, status_from_errno(errno), "%s: %s", path, strerror(errno));
  if (!S_ISREG(facts.st_mode)) return error_set(error, ERR_INVALID, "%s: is no regular file: expected %s", path, expected);
  if (facts.st_size < 0 || (uint64_t)facts.st_size > limit)
    return error_set(error, ERR_LIMIT, "%s: is larger than %zu bytes: expected %s", path, limit, expected);
  size_t size = (size_t)facts.st_size;
  uint8_t *bytes = malloc(size + 1);
  if (!bytes) return error_set(error, ERR_NO_MEMORY, "%s: not enough memory to read it", path);
  size_t got = 0;
  while (got < size) {
    ssize_t count = read(fd, bytes + got, size - got);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      int why = errno;
      wipe_and_free(bytes, size);
      return error_set(error, status_from_errno(why), "%s: %s", path, strerror(why));
    }
    if (count == 0) break;  // it has become shorter: what is there is looked at
    got += (size_t)count;
  }
  bytes[got] = '\0';
  *out = bytes;
  *out_size = got;
  return OK;
}

enum status file_read(const char *path, const char *expected, size_t limit, uint8_t **out, size_t *out_size,
                      struct error *error)
{
  // A named pipe must not hold up a reload.
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return error_set(error, status_from_errno(errno), "%s: %s: expected %s", path, strerror(errno), expected);
  enum status status = read_descriptor(fd, path, expected, limit, out, out_size, error);
  close(fd);
  return status;
}
