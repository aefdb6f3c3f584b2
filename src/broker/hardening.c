#include "broker/hardening.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/disk.h"

enum { PASSWD_BYTES = 16 * 1024, GROUPS_MAX = 256 };

void hardening_set_umask(void)
{
  mode_t stricter = umask(027);
  (void)umask(stricter | 027);
}

void hardening_hide_memory(void)
{
  const struct rlimit none = {0};
  (void)setrlimit(RLIMIT_CORE, &none);
  (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

enum status hardening_find_user(const char *name, struct hardening_user *out, struct error *error)
{
  *out = (struct hardening_user){0};
  if (!name) return OK;
  struct passwd entry;
  struct passwd *found = NULL;
  char *bytes = malloc(PASSWD_BYTES);
  if (!bytes) return error_set(error, ERR_NO_MEMORY, "out of memory");
  int number = getpwnam_r(name, &entry, bytes, PASSWD_BYTES, &found);
  struct hardening_user user = {.change = true};
  if (found) user.uid = found->pw_uid;
  if (found) user.gid = found->pw_gid;
  snprintf(user.name, sizeof user.name, "%s", name);
  free(bytes);
  if (!found && number != 0)
    return error_set(error, status_from_errno(number), "broker.user %s: cannot be looked up: %s", name, strerror(number));
  if (!found)
    return error_set(error, ERR_NOT_FOUND,
                     "broker.user %s: there is no such user; make it (adduser --system --group %s), or remove the key", name,
                     name);
  if (geteuid() != 0 && geteuid() != user.uid)
    return error_set(error, ERR_INVALID,
                     "broker.user %s: only root can become another user; start as root, or remove the key", name);
  if (user.uid == 0) return error_set(error, ERR_INVALID, "broker.user %s: is root; write a user without its rights", name);
  user.change = geteuid() == 0;
  *out = user;
  return OK;
}

enum status hardening_give(const struct hardening_user *user, const char *path, struct error *error)
{
  if (!user->change || lchown(path, user->uid, user->gid) == 0) return OK;
  return error_set(error, status_from_errno(errno), "%s: cannot be given to %s: %s", path, user->name, strerror(errno));
}

enum status hardening_become(const struct hardening_user *user, struct error *error)
{
  if (!user->change) return OK;
  if (initgroups(user->name, user->gid) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
      setresuid(user->uid, user->uid, user->uid) < 0)
    return error_set(error, ERR_IO, "broker.user %s: cannot become it: %s", user->name, strerror(errno));
  if (setresuid(0, 0, 0) == 0 || setresgid(0, 0, 0) == 0)
    return error_set(error, ERR_IO, "broker.user %s: the rights of root could be taken back", user->name);
  return OK;
}

// ---- The directory

// Whether the user's identifiers and groups may list, enter and change the directory. What access lists and the like say
// comes out later.
static bool may_use(const struct hardening_user *user, const struct stat *info)
{
  gid_t groups[GROUPS_MAX];
  int count = GROUPS_MAX;
  if (getgrouplist(user->name, user->gid, groups, &count) < 0) count = GROUPS_MAX;
  if (info->st_uid == user->uid) return (info->st_mode & 0700) == 0700;
  for (int i = 0; i < count; i++)
    if (groups[i] == info->st_gid) return (info->st_mode & 0070) == 0070;
  return (info->st_mode & 0007) == 0007;
}

// With all of its path. What is there keeps its permissions; what is made is given to the user, and outlives a power cut.
static enum status make_directories(const struct hardening_user *user, const char *path, struct error *error)
{
  char *copy = strdup(path);
  if (!copy) return error_set(error, ERR_NO_MEMORY, "out of memory");
  enum status status = OK;
  int error_number = 0;
  char *slash = copy;
  do {
    slash = strchr(slash + 1, '/');
    if (slash) *slash = '\0';
    if (mkdir(copy, 0700) == 0) {
      status = hardening_give(user, copy, error);
      disk_posix_sync_above(copy);
    } else if (errno != EEXIST) {
      error_number = errno;
    }
    if (slash) *slash = '/';
  } while (slash && slash[1] && status == OK);
  free(copy);
  struct stat info;
  if (stat(path, &info) == 0) error_number = S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
  if (status != OK || error_number == 0) return status;
  return error_set(error, status_from_errno(error_number), "cannot make the directory: %s", strerror(error_number));
}

enum status hardening_prepare_directory(const struct hardening_user *user, const char *path, struct error *error)
{
  struct stat info;
  if (make_directories(user, path, error) != OK) return error_prefix(error, "broker.data %s", path);
  if (!user->change || stat(path, &info) < 0 || may_use(user, &info)) return OK;
  return error_set(
      error, ERR_IO,
      "broker.data %s: broker.user %s cannot use this directory; give it to that user (chown -R %s %s), or write "
      "another one",
      path, user->name, user->name, path);
}
