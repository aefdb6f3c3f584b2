// What the process gives up, and what it keeps to itself: the rights of root after its sockets are open, its memory from
// core files and debuggers, its files from strangers. Called by the control thread, before other threads run unless said.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

// Files that are made from now on are nobody else's to read, but the group's.
void hardening_set_umask(void);

// No core file, and no reading of the memory by others than root: there are keys and passwords in it. Any thread.
void hardening_hide_memory(void);

struct hardening_user {
  bool change;  // false: nothing is to be done
  uid_t uid;
  gid_t gid;
  char name[65];
};

// Whom to become. `name` NULL: nobody. ERR_NOT_FOUND: there is no such user; ERR_INVALID: we are not root and cannot become
// another one.
CHECK_RESULT enum status hardening_find_user(const char *name, struct hardening_user *out, struct error *error);

// Hands a file over that was made as root. A user that is not to change: nothing.
CHECK_RESULT enum status hardening_give(const struct hardening_user *user, const char *path, struct error *error);

// Becomes the user, for good. ERR_IO when it could be undone, or does not work.
CHECK_RESULT enum status hardening_become(const struct hardening_user *user, struct error *error);

// The directory for the data: made, with all of its path, and the user's when root makes it; one that is
// there has to be of use to the user. Before hardening_become.
CHECK_RESULT enum status hardening_prepare_directory(const struct hardening_user *user, const char *path,
                                                     struct error *error);
