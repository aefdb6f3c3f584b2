#include "broker/file_set.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"

enum { NS_PER_S = 1000000000 };

struct file_stamp file_stamp_of(const char *path)
{
  struct stat info;
  if (stat(path, &info) < 0) return (struct file_stamp){0};
  return (struct file_stamp){.device = (uint64_t)info.st_dev,
                             .inode = (uint64_t)info.st_ino,
                             .size = (uint64_t)info.st_size,
                             .modified_ns = (int64_t)info.st_mtim.tv_sec * NS_PER_S + info.st_mtim.tv_nsec,
                             .changed_ns = (int64_t)info.st_ctim.tv_sec * NS_PER_S + info.st_ctim.tv_nsec};
}

bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b)
{
  return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified_ns == b->modified_ns &&
         a->changed_ns == b->changed_ns;
}

void file_set_deinit(struct file_set *set)
{
  for (size_t i = 0; i < set->count; i++) free(set->items[i].path);
  free(set->items);
  *set = (struct file_set){0};
}

static struct file_set_item *find(const struct file_set *set, const char *path)
{
  for (size_t i = 0; i < set->count; i++)
    if (strcmp(set->items[i].path, path) == 0) return &set->items[i];
  return NULL;
}

static bool is_nothing(const struct file_stamp *stamp)
{
  const struct file_stamp nothing = {0};
  return file_stamp_equal(stamp, &nothing);
}

enum status file_set_add(struct file_set *set, const char *path)
{
  if (!path || find(set, path)) return OK;
  struct file_set_item item = {.path = strdup(path), .stamp = file_stamp_of(path)};
  struct file_set_item *grown = item.path ? reallocarray(set->items, set->count + 1, sizeof *grown) : NULL;
  if (!grown) {
    free(item.path);
    return ERR_NO_MEMORY;
  }
  set->items = grown;
  grown[set->count++] = item;
  return OK;
}

bool file_set_holds_still(const struct file_set *set, const char *path)
{
  const struct file_set_item *item = find(set, path);
  if (!item) return false;
  struct file_stamp now = file_stamp_of(path);
  return !is_nothing(&now) && file_stamp_equal(&item->stamp, &now);
}

enum status file_set_copy(const struct file_set *set, struct file_set *out)
{
  *out = (struct file_set){0};
  enum status status = OK;
  for (size_t i = 0; i < set->count && status == OK; i++) {
    status = file_set_add(out, set->items[i].path);
    if (status == OK) out->items[i].stamp = set->items[i].stamp;
  }
  if (status != OK) file_set_deinit(out);
  return status;
}

void file_set_refuse(struct file_set *set, const struct file_set *undone)
{
  for (size_t i = 0; i < set->count; i++) {
    const struct file_set_item *other = find(undone, set->items[i].path);
    if (other && !file_stamp_equal(&other->stamp, &set->items[i].stamp)) set->items[i].refused = other->stamp;
  }
}

static bool is_refused(const struct file_set_item *item, const struct file_stamp *now)
{
  return !is_nothing(now) && file_stamp_equal(&item->refused, now);
}

bool file_set_is_refused(const struct file_set *set, const char *path)
{
  const struct file_set_item *item = find(set, path);
  struct file_stamp now = file_stamp_of(path);
  return item && is_refused(item, &now);
}

void file_set_carry(struct file_set *set, const struct file_set *before, const char *path)
{
  struct file_set_item *item = find(set, path);
  const struct file_set_item *other = find(before, path);
  if (!item || !other || !is_refused(other, &item->stamp)) return;
  item->stamp = other->stamp;
  item->refused = other->refused;
}

void file_set_distrust(struct file_set *set, size_t index)
{
  set->items[index].stamp = (struct file_stamp){.device = UINT64_MAX};
}

uint64_t file_set_fingerprint_then(const struct file_set *set)
{
  uint64_t fingerprint = 1;
  for (size_t i = 0; i < set->count; i++) {
    const struct file_set_item *item = &set->items[i];
    const struct file_stamp *stamp = is_nothing(&item->refused) ? &item->stamp : &item->refused;
    fingerprint = hash_bytes(fingerprint, stamp, sizeof *stamp);
  }
  return fingerprint;
}

uint64_t file_set_fingerprint_now(const struct file_set *set)
{
  uint64_t fingerprint = 1;
  for (size_t i = 0; i < set->count; i++) {
    struct file_stamp now = file_stamp_of(set->items[i].path);
    fingerprint = hash_bytes(fingerprint, &now, sizeof now);
  }
  return fingerprint;
}
