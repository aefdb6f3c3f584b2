#include "broker/service.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_PASSED_FD = 3 };  // SD_LISTEN_FDS_START

void service_notify(const char *state)
{
  const char *path = getenv("NOTIFY_SOCKET");
  if (!path || (path[0] != '/' && path[0] != '@')) return;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t size = strlen(path);
  if (size >= sizeof address.sun_path) return;
  memcpy(address.sun_path, path, size);
  if (path[0] == '@') address.sun_path[0] = 0;  // the abstract namespace
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
  (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address, length);
  close(fd);
}

// The name at a place of "a:b:c"; NULL when there is none.
static const char *name_at(const char *names, int place, size_t *out_size)
{
  while (place-- > 0) {
    names = strchr(names, ':');
    if (!names) return NULL;
    names++;
  }
  *out_size = strcspn(names, ":");
  return names;
}

int service_take_socket(const char *name)
{
  const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
  if (!pid || !count || strtol(pid, NULL, 10) != getpid()) return -1;
  int passed = atoi(count);
  for (int i = 0; i < passed; i++) {
    size_t size = 0;
    const char *given = names ? name_at(names, i, &size) : NULL;
    bool match = given ? strlen(name) == size && memcmp(given, name, size) == 0 : i == 0 && !names;
    if (match) return fcntl(FIRST_PASSED_FD + i, F_DUPFD_CLOEXEC, FIRST_PASSED_FD + passed);
  }
  return -1;
}
