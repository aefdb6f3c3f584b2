// The disk port: all that the store asks of a file system, for one directory, so that a real one and a simulated one are
// interchangeable. Names are plain file names within the directory. Every function returns a status; ERR_FULL: no space;
// ERR_IO: the device failed. One thread at a time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/span.h"
#include "base/status.h"

struct disk;
struct disk_file;

enum disk_open {
  DISK_READ,
  DISK_WRITE,
  DISK_CREATE
};  // WRITE: existing, also for reading; CREATE: must not exist, or is emptied

struct disk_operations {
  // Calls back with each name, in no order.
  enum status (*list)(struct disk *disk, void (*found)(void *context, const char *name), void *context);
  enum status (*open)(struct disk *disk, const char *name, enum disk_open how, struct disk_file **out);
  void (*close)(struct disk *disk, struct disk_file *file);
  enum status (*size)(struct disk *disk, struct disk_file *file, uint64_t *out);
  // Reserves space, so that writes below `size` cannot fail for want of it; the file is at least that large and reads as
  // zeros where nothing was written.
  enum status (*allocate)(struct disk *disk, struct disk_file *file, uint64_t size);
  // All or an error; after an error any part may have been written.
  enum status (*write)(struct disk *disk, struct disk_file *file, uint64_t offset, struct span bytes);
  // Fewer bytes only at the end of the file.
  enum status (*read)(struct disk *disk, struct disk_file *file, uint64_t offset, void *out, size_t size, size_t *out_size);
  // The file's data, and its size, are safe when this returns OK (fdatasync). After an error nothing is known about what was
  // written since the last OK: it must be written again, elsewhere.
  enum status (*sync)(struct disk *disk, struct disk_file *file);
  enum status (*truncate)(struct disk *disk, struct disk_file *file, uint64_t size);
  enum status (*rename)(struct disk *disk, const char *from, const char *to);  // replaces `to`
  enum status (*unlink)(struct disk *disk, const char *name);
  enum status (*sync_directory)(struct disk *disk);  // creations, renames and removals are safe
  // Of the file system: free bytes that this process may use, and all.
  enum status (*space)(struct disk *disk, uint64_t *out_free, uint64_t *out_total);
  void (*destroy)(struct disk *disk);
};

struct disk {
  const struct disk_operations *operations;
  uint64_t bytes_written, syncs;  // counted by the implementation
};

// A directory of the real file system. `create`: makes it (mode 0700) if it is missing. `lock`: takes an exclusive lock on
// the file "lock" in it, until disk_destroy; ERR_EXISTS when another process holds it. Not locked: for readers of a
// directory in use.
CHECK_RESULT enum status disk_posix_open(const char *path, bool create, bool lock, struct disk **out, struct error *error);

// Has the directory above remember this one, which was just made, or a power cut takes it with all that is in it.
void disk_posix_sync_above(const char *directory);

static inline void disk_destroy(struct disk *disk)
{
  if (disk) disk->operations->destroy(disk);
}
