#include "broker/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/now.h"

enum { QUIET_MS = 200, LATEST_MS = 2000, SLOW_S = 60, MAX_LINKS = 16, EVENTS_SIZE = 16 * 1024 };

// What shows in a directory when a file in it, or a link, becomes another one. Not every write: a file that is still open is
// not finished.
enum {
  SIGNS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
};

struct watch {
  int fd;
  struct event_base *base;
  struct event *signs;
  struct event *quiet;
  struct event *slow;
  void (*changed)(void *context);
  void *context;
  uint64_t first_ms;  // of the signs that wait to be told; 0: none
  char **paths;
  size_t count;
};

// ---- Directories

// The directory, or the nearest above it that exists: then its coming is seen.
static void watch_directory(struct watch *watch, const char *directory)
{
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s", directory);
  while (inotify_add_watch(watch->fd, path, SIGNS | IN_ONLYDIR) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
    char *slash = strrchr(path, '/');
    if (!slash) {
      snprintf(path, sizeof path, ".");
      (void)inotify_add_watch(watch->fd, path, SIGNS | IN_ONLYDIR);
      return;
    }
    if (slash == path) slash++;  // the root
    if (!*slash) return;
    *slash = '\0';
  }
}

// "a/b" of "a/b/c", "." of "c", "/" of "/c".
static void directory_of(const char *path, char out[PATH_MAX])
{
  const char *slash = strrchr(path, '/');
  size_t size = slash ? (size_t)(slash - path) : 0;
  if (slash == path) size = 1;
  snprintf(out, PATH_MAX, "%.*s", (int)size, path);
  if (!slash) snprintf(out, PATH_MAX, ".");
}

// Where the link at the front of a path leads, with the rest of the path behind. False when it does not fit.
static bool follow(const char *link, const char *rest, char out[PATH_MAX])
{
  char target[PATH_MAX];
  char directory[PATH_MAX];
  ssize_t size = readlink(link, target, sizeof target - 1);
  if (size < 0) return false;
  target[size] = '\0';
  directory_of(link, directory);
  bool absolute = target[0] == '/';
  int made = snprintf(out, PATH_MAX, "%s%s%s%s", absolute ? "" : directory, absolute ? "" : "/", target, rest);
  return made > 0 && made < PATH_MAX;
}

// Every directory in which an entry decides where the path leads: that of the file, and that of each link on the way.
static void watch_way(struct watch *watch, const char *path)
{
  char current[PATH_MAX];
  char next[PATH_MAX];
  char directory[PATH_MAX];
  if (snprintf(current, sizeof current, "%s", path) >= PATH_MAX) return;
  for (unsigned links = 0; links < MAX_LINKS; links++) {
    bool followed = false;
    for (char *slash = current + 1; !followed; slash++) {
      slash += strcspn(slash, "/");
      char kept = *slash;
      *slash = '\0';
      struct stat info;
      bool link = lstat(current, &info) == 0 && S_ISLNK(info.st_mode);
      if (link) directory_of(current, directory);
      char front[PATH_MAX];
      snprintf(front, sizeof front, "%s", current);
      *slash = kept;
      if (link) {
        watch_directory(watch, directory);
        if (!follow(front, slash, next)) return;
        followed = true;
      }
      if (!kept) break;
    }
    if (!followed) break;
    memcpy(current, next, sizeof current);
  }
  directory_of(current, directory);
  watch_directory(watch, directory);
}

// What is watched already stays: the kernel knows a directory by itself, not by its name.
static void watch_all(struct watch *watch)
{
  for (size_t i = 0; i < watch->count; i++) watch_way(watch, watch->paths[i]);
}

// ---- Signs

static void arm(struct event *event, uint64_t ms)
{
  struct timeval in = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
  event_add(event, &in);
}

static void take_signs(evutil_socket_t fd, short what, void *context)
{
  (void)what;
  struct watch *watch = context;
  _Alignas(struct inotify_event) char events[EVENTS_SIZE];
  bool any = false;
  while (read(fd, events, sizeof events) > 0) any = true;
  if (!any) return;
  uint64_t now = broker_now().ms;
  if (watch->first_ms == 0) watch->first_ms = now;
  uint64_t latest = watch->first_ms + LATEST_MS;
  uint64_t left = latest > now ? latest - now : 0;
  arm(watch->quiet, left < QUIET_MS ? left : QUIET_MS);
}

// Writing gives no sign before the file is closed, but shows in its time. Half a file may look like a whole one.
static bool is_being_written(const struct watch *watch)
{
  int64_t now_ms = broker_wall().ms;
  for (size_t i = 0; i < watch->count; i++) {
    struct stat info;
    if (stat(watch->paths[i], &info) < 0) continue;
    int64_t age_ms = now_ms - ((int64_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000);
    if (age_ms >= 0 && age_ms < QUIET_MS) return true;
  }
  return false;
}

static void tell(evutil_socket_t fd, short what, void *context)
{
  (void)fd;
  (void)what;
  struct watch *watch = context;
  uint64_t now = broker_now().ms;
  if (watch->first_ms == 0) watch->first_ms = now;
  if (now < watch->first_ms + LATEST_MS && is_being_written(watch)) {
    arm(watch->quiet, QUIET_MS);
    return;
  }
  watch->first_ms = 0;
  watch_all(watch);  // a link may lead elsewhere now
  watch->changed(watch->context);
}

// ---- Life

enum status watch_open(struct event_base *base, void (*changed)(void *context), void *context, struct watch **out,
                       struct error *error)
{
  struct watch *watch = calloc(1, sizeof *watch);
  if (!watch) return error_set(error, ERR_NO_MEMORY, "out of memory");
  *watch =
      (struct watch){.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), .base = base, .changed = changed, .context = context};
  if (watch->fd < 0) {
    enum status status = error_set(error, status_from_errno(errno), "cannot watch files: %s", strerror(errno));
    watch_close(watch);
    return status;
  }
  watch->signs = event_new(base, watch->fd, EV_READ | EV_PERSIST, take_signs, watch);
  watch->quiet = event_new(base, -1, 0, tell, watch);
  watch->slow = event_new(base, -1, EV_PERSIST, tell, watch);
  if (!watch->signs || !watch->quiet || !watch->slow) {
    watch_close(watch);
    return error_set(error, ERR_NO_MEMORY, "out of memory");
  }
  event_add(watch->signs, NULL);
  arm(watch->slow, SLOW_S * 1000);
  *out = watch;
  return OK;
}

static void forget_paths(struct watch *watch)
{
  for (size_t i = 0; i < watch->count; i++) free(watch->paths[i]);
  free(watch->paths);
  watch->paths = NULL;
  watch->count = 0;
}

void watch_close(struct watch *watch)
{
  if (!watch) return;
  if (watch->signs) event_free(watch->signs);
  if (watch->quiet) event_free(watch->quiet);
  if (watch->slow) event_free(watch->slow);
  if (watch->fd >= 0) close(watch->fd);
  forget_paths(watch);
  free(watch);
}

enum status watch_files(struct watch *watch, const struct file_set *files, struct error *error)
{
  // A new inotify instance: what is not asked for any more is forgotten with the old one.
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return error_set(error, status_from_errno(errno), "cannot watch files: %s", strerror(errno));
  event_del(watch->signs);
  close(watch->fd);
  watch->fd = fd;
  (void)event_assign(watch->signs, watch->base, fd, EV_READ | EV_PERSIST, take_signs, watch);
  event_add(watch->signs, NULL);
  forget_paths(watch);
  watch->paths = calloc(files->count, sizeof *watch->paths);
  if (!watch->paths && files->count) return error_set(error, ERR_NO_MEMORY, "out of memory");
  for (size_t i = 0; i < files->count; i++) {
    watch->paths[i] = strdup(files->items[i].path);
    if (!watch->paths[i]) return error_set(error, ERR_NO_MEMORY, "out of memory");
    watch->count++;
  }
  watch_all(watch);
  arm(watch->quiet, QUIET_MS);  // what has changed in between gave no sign
  return OK;
}
