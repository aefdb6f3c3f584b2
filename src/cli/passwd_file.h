// The file that `skerry passwd` changes: one at a time, and as a whole or not at all. Main thread.
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/span.h"

struct passwd_file {
  char *path;     // of the file itself: symbolic links are followed, so that one stays one
  int directory;  // held open; the lock is on it
  bool exists;
  struct stat stat;  // of the file, when it exists
  struct buffer text;
};

// Waits up to ten seconds for whoever else changes files in this directory, then reads the file; one that does not exist is
// empty. Errors name the file.
CHECK_RESULT enum status passwd_file_open(struct passwd_file *file, const char *path, struct error *error);

// Replaces it: a temporary file beside it, synced, then renamed. Owner, group and mode stay; a new file is its owner's alone
// (0600).
CHECK_RESULT enum status passwd_file_write(const struct passwd_file *file, struct span text, struct error *error);

void passwd_file_close(struct passwd_file *file);  // wipes, and gives the lock back; a zeroed struct is harmless
