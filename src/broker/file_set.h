// Files that a configuration depends on, and how each looked when it was read: whether something has changed is seen without
// reading again.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

// Of what a path leads to, through all symbolic links. All zeros: nothing is there.
struct file_stamp {
  uint64_t device, inode, size;
  int64_t modified_ns, changed_ns;
};

struct file_stamp file_stamp_of(const char *path);
bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b);

struct file_set_item {
  char *path;
  struct file_stamp stamp;
  struct file_stamp refused;  // how it looked when a change of it was undone; all zeros: none was
};

// A zeroed struct is empty.
struct file_set {
  struct file_set_item *items;
  size_t count;
};

void file_set_deinit(struct file_set *set);

// Adds the path with its stamp of now, unless it is in the set already. NULL is harmless. ERR_NO_MEMORY.
CHECK_RESULT enum status file_set_add(struct file_set *set, const char *path);

CHECK_RESULT enum status file_set_copy(const struct file_set *set, struct file_set *out);

// What the set was made of holds again, and `undone`, what came after it, does not: files that look now as in `undone` are
// refused until they change once more.
void file_set_refuse(struct file_set *set, const struct file_set *undone);
bool file_set_is_refused(const struct file_set *set, const char *path);  // and looks so now

// The path, which has just been added, is still refused in `before`: then it is here too.
void file_set_carry(struct file_set *set, const struct file_set *before, const char *path);

// As if the file had looked otherwise: it does not hold still, whatever it does.
void file_set_distrust(struct file_set *set, size_t index);

// Whether the path is in the set, and there is a file that looks as it did then.
bool file_set_holds_still(const struct file_set *set, const char *path);

// A number that is another one when any of the files looks different: as they did when they were added (or refused), and as
// they do now.
uint64_t file_set_fingerprint_then(const struct file_set *set);
uint64_t file_set_fingerprint_now(const struct file_set *set);
