#include "disk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 64 };

enum { SECTOR_DIRTY = 1, SECTOR_ALLOCATED = 2 };

// A file, whatever its names. `now` is what can be read, `safe` what a power cut leaves; both have `capacity` bytes, zeros
// where nothing was written.
struct inode {
  uint8_t *now, *safe;
  uint8_t *sectors;  // SECTOR_… of each
  uint64_t capacity;
  uint64_t size, safe_size;
  bool size_dirty;
  unsigned handles;
  bool seen;  // while collecting
};

struct disk_file {
  struct inode *inode;  // NULL: from before a crash
  bool writable;
  struct disk_file *next;
};

struct entry {
  char name[NAME_SIZE];
  struct inode *inode;
};

struct directory {
  struct entry *entries;
  size_t count, capacity;
};

// A change of the directory that is not synced. An unlink has no `to`, a creation no `from`.
struct change {
  char from[NAME_SIZE], to[NAME_SIZE];
  struct inode *inode;
};

struct sim_disk {
  struct disk disk;  // first: the port's pointers are to it
  struct prng prng;
  struct sim_disk_settings settings;
  struct directory now, safe;
  struct change *changes;
  size_t change_count, change_capacity;
  struct inode **inodes;
  size_t inode_count, inode_capacity;
  struct disk_file *files;                // open, or from before a crash and not closed
  uint64_t allocated;                     // sectors
  uint64_t operations, fail_at, stop_at;  // counts of operations; 0: never
  bool stopped;
};

static struct sim_disk *sim_of(struct disk *disk)
{
  return (struct sim_disk *)disk;
}

static void *grow(void *array, size_t count, size_t *capacity, size_t element)
{
  if (count < *capacity) return array;
  *capacity = *capacity ? 2 * *capacity : 16;
  array = reallocarray(array, *capacity, element);
  if (!array) abort();
  return array;
}

static bool chance(struct prng *prng, uint32_t one_in)
{
  return one_in > 0 && prng_below(prng, one_in) == 0;
}

// ---- Directories

static struct entry *find_entry(const struct directory *directory, const char *name)
{
  for (size_t i = 0; i < directory->count; i++)
    if (strcmp(directory->entries[i].name, name) == 0) return &directory->entries[i];
  return NULL;
}

static void copy_name(char out[NAME_SIZE], const char *name)
{
  size_t size = strlen(name);
  assert(size < NAME_SIZE);
  memcpy(out, name, size + 1);
}

static void remove_entry(struct directory *directory, struct entry *entry)
{
  *entry = directory->entries[--directory->count];
}

static void set_entry(struct directory *directory, const char *name, struct inode *inode)
{
  struct entry *entry = find_entry(directory, name);
  if (!entry) {
    directory->entries = grow(directory->entries, directory->count, &directory->capacity, sizeof *directory->entries);
    entry = &directory->entries[directory->count++];
    copy_name(entry->name, name);
  }
  entry->inode = inode;
}

static void apply_change(struct directory *directory, const struct change *change)
{
  struct entry *entry = change->from[0] ? find_entry(directory, change->from) : NULL;
  // Another change may not have survived, so that the name means another file, or none.
  if (entry && entry->inode == change->inode) remove_entry(directory, entry);
  if (change->to[0]) set_entry(directory, change->to, change->inode);
}

static void copy_directory(struct directory *out, const struct directory *from)
{
  out->count = 0;
  for (size_t i = 0; i < from->count; i++) set_entry(out, from->entries[i].name, from->entries[i].inode);
}

static void add_change(struct sim_disk *sim, const char *from, const char *to, struct inode *inode)
{
  sim->changes = grow(sim->changes, sim->change_count, &sim->change_capacity, sizeof *sim->changes);
  struct change *change = &sim->changes[sim->change_count++];
  *change = (struct change){.inode = inode};
  copy_name(change->from, from);
  copy_name(change->to, to);
  apply_change(&sim->now, change);
}

// ---- Files

static struct inode *make_inode(struct sim_disk *sim)
{
  struct inode *inode = calloc(1, sizeof *inode);
  if (!inode) abort();
  sim->inodes = grow(sim->inodes, sim->inode_count, &sim->inode_capacity, sizeof(struct inode *));
  sim->inodes[sim->inode_count++] = inode;
  return inode;
}

static void *grow_zeroed(void *array, uint64_t from, uint64_t to)
{
  uint8_t *grown = realloc(array, to);
  if (!grown) abort();
  memset(grown + from, 0, to - from);
  return grown;
}

static uint64_t sector_count(uint64_t size)
{
  return (size + SIM_SECTOR - 1) / SIM_SECTOR;
}

static void make_room(struct inode *inode, uint64_t size)
{
  if (size <= inode->capacity) return;
  uint64_t capacity = sector_count(size > inode->capacity * 2 ? size : inode->capacity * 2) * SIM_SECTOR;
  inode->now = grow_zeroed(inode->now, inode->capacity, capacity);
  inode->safe = grow_zeroed(inode->safe, inode->capacity, capacity);
  inode->sectors = grow_zeroed(inode->sectors, inode->capacity / SIM_SECTOR, capacity / SIM_SECTOR);
  inode->capacity = capacity;
}

static bool allocate_sector(struct sim_disk *sim, struct inode *inode, uint64_t sector)
{
  if (inode->sectors[sector] & SECTOR_ALLOCATED) return true;
  if (sim->settings.capacity && (sim->allocated + 1) * SIM_SECTOR > sim->settings.capacity) return false;
  inode->sectors[sector] |= SECTOR_ALLOCATED;
  sim->allocated++;
  return true;
}

static void release_sectors(struct sim_disk *sim, struct inode *inode, uint64_t from)
{
  for (uint64_t i = from; i < inode->capacity / SIM_SECTOR; i++) {
    if (!(inode->sectors[i] & SECTOR_ALLOCATED)) continue;
    inode->sectors[i] &= (uint8_t)~SECTOR_ALLOCATED;
    assert(sim->allocated > 0);
    sim->allocated--;
  }
}

static void set_size(struct inode *inode, uint64_t size)
{
  if (size == inode->size) return;
  make_room(inode, size);
  if (size < inode->size) {
    memset(inode->now + size, 0, inode->size - size);
    for (uint64_t i = size / SIM_SECTOR; i < sector_count(inode->size); i++) inode->sectors[i] |= SECTOR_DIRTY;
  }
  inode->size = size;
  inode->size_dirty = true;
}

static void save_sector(struct inode *inode, uint64_t sector)
{
  memcpy(inode->safe + sector * SIM_SECTOR, inode->now + sector * SIM_SECTOR, SIM_SECTOR);
}

static void save_size(struct inode *inode)
{
  inode->safe_size = inode->size;
  inode->size_dirty = false;
}

// All of it, or each sector for itself with an even chance. `forget`: what is not saved counts as clean all the same.
static void save(struct inode *inode, struct prng *some, bool forget)
{
  for (uint64_t i = 0; i < inode->capacity / SIM_SECTOR; i++) {
    if (!(inode->sectors[i] & SECTOR_DIRTY)) continue;
    bool saved = !some || prng_below(some, 2) == 0;
    if (saved) save_sector(inode, i);
    if (saved || forget) inode->sectors[i] &= (uint8_t)~SECTOR_DIRTY;
  }
  if (inode->size_dirty && (!some || prng_below(some, 2) == 0)) save_size(inode);
}

static void free_inode(struct sim_disk *sim, struct inode *inode)
{
  release_sectors(sim, inode, 0);
  free(inode->now);
  free(inode->safe);
  free(inode->sectors);
  free(inode);
}

static void mark(struct directory *directory)
{
  for (size_t i = 0; i < directory->count; i++) directory->entries[i].inode->seen = true;
}

// Frees what has no name and is not open. What only a power cut could bring back takes no space, as on a disk that has
// removed it.
static void collect(struct sim_disk *sim)
{
  for (size_t i = 0; i < sim->inode_count; i++) sim->inodes[i]->seen = sim->inodes[i]->handles > 0;
  mark(&sim->now);
  for (size_t i = 0; i < sim->inode_count; i++)
    if (!sim->inodes[i]->seen) release_sectors(sim, sim->inodes[i], 0);
  mark(&sim->safe);
  for (size_t i = 0; i < sim->change_count; i++) sim->changes[i].inode->seen = true;
  size_t kept = 0;
  for (size_t i = 0; i < sim->inode_count; i++) {
    struct inode *inode = sim->inodes[i];
    if (inode->seen)
      sim->inodes[kept++] = inode;
    else
      free_inode(sim, inode);
  }
  sim->inode_count = kept;
}

// ---- Faults

enum operation { OPERATION_DONE, OPERATION_FAILS, OPERATION_STOPS };

// Counts an operation that changes something, and says what becomes of it.
static enum operation begin(struct sim_disk *sim, uint32_t one_in)
{
  if (sim->stopped) return OPERATION_STOPS;
  sim->operations++;
  if (sim->operations == sim->stop_at) {
    sim->stopped = true;
    return OPERATION_STOPS;
  }
  if (sim->operations == sim->fail_at || chance(&sim->prng, one_in)) return OPERATION_FAILS;
  return OPERATION_DONE;
}

// ---- The port

static enum status sim_list(struct disk *disk, void (*found)(void *context, const char *name), void *context)
{
  struct sim_disk *sim = sim_of(disk);
  if (sim->stopped) return ERR_IO;
  for (size_t i = 0; i < sim->now.count; i++) found(context, sim->now.entries[i].name);
  return OK;
}

static enum status sim_open(struct disk *disk, const char *name, enum disk_open how, struct disk_file **out)
{
  struct sim_disk *sim = sim_of(disk);
  if (sim->stopped || (how != DISK_CREATE && chance(&sim->prng, sim->settings.faults.names))) return ERR_IO;
  struct entry *entry = find_entry(&sim->now, name);
  if (!entry && how != DISK_CREATE) return ERR_NOT_FOUND;
  if (how == DISK_CREATE && begin(sim, sim->settings.faults.names)) return ERR_IO;
  struct inode *inode = entry ? entry->inode : NULL;
  if (inode && how == DISK_CREATE) {
    set_size(inode, 0);
    release_sectors(sim, inode, 0);
  } else if (!inode) {
    inode = make_inode(sim);
    add_change(sim, "", name, inode);
  }
  struct disk_file *file = calloc(1, sizeof *file);
  if (!file) abort();
  *file = (struct disk_file){.inode = inode, .writable = how != DISK_READ, .next = sim->files};
  sim->files = file;
  inode->handles++;
  *out = file;
  return OK;
}

static void sim_close(struct disk *disk, struct disk_file *file)
{
  struct sim_disk *sim = sim_of(disk);
  struct disk_file **at = &sim->files;
  while (*at && *at != file) at = &(*at)->next;
  assert(*at == file);
  *at = file->next;
  if (file->inode) {
    assert(file->inode->handles > 0);
    file->inode->handles--;
    collect(sim);
  }
  free(file);
}

static enum status sim_size(struct disk *disk, struct disk_file *file, uint64_t *out)
{
  if (sim_of(disk)->stopped || !file->inode) return ERR_IO;
  *out = file->inode->size;
  return OK;
}

static enum status sim_allocate(struct disk *disk, struct disk_file *file, uint64_t size)
{
  struct sim_disk *sim = sim_of(disk);
  if (!file->inode) return ERR_IO;
  assert(file->writable);
  if (begin(sim, sim->settings.faults.writes)) return ERR_IO;
  make_room(file->inode, size);
  for (uint64_t i = 0; i < sector_count(size) && !sim->settings.no_reserve; i++)
    if (!allocate_sector(sim, file->inode, i)) return ERR_FULL;
  if (size > file->inode->size) set_size(file->inode, size);
  return OK;
}

// Part of it may already have been written back, in the middle of anything.
static void write_back(struct sim_disk *sim, struct inode *inode)
{
  if (prng_below(&sim->prng, 16) == 0) save(inode, &sim->prng, false);
}

static enum status put_bytes(struct sim_disk *sim, struct inode *inode, uint64_t offset, struct span bytes)
{
  if (bytes.size == 0) return OK;
  make_room(inode, offset + bytes.size);
  uint64_t end = offset + bytes.size;
  enum status status = OK;
  for (uint64_t i = offset / SIM_SECTOR; i < sector_count(end) && status == OK; i++) {
    if (allocate_sector(sim, inode, i)) continue;
    status = ERR_FULL;
    end = i * SIM_SECTOR > offset ? i * SIM_SECTOR : offset;
  }
  if (end == offset) return status;
  memcpy(inode->now + offset, bytes.at, end - offset);
  for (uint64_t i = offset / SIM_SECTOR; i < sector_count(end); i++) inode->sectors[i] |= SECTOR_DIRTY;
  if (end > inode->size) set_size(inode, end);
  sim->disk.bytes_written += end - offset;
  return status;
}

static enum status sim_write(struct disk *disk, struct disk_file *file, uint64_t offset, struct span bytes)
{
  struct sim_disk *sim = sim_of(disk);
  if (!file->inode) return ERR_IO;
  assert(file->writable);
  bool was_stopped = sim->stopped;
  enum operation operation = begin(sim, sim->settings.faults.writes);
  if (was_stopped) return ERR_IO;
  if (operation != OPERATION_DONE) {
    bytes.size = (size_t)prng_below(&sim->prng, bytes.size + 1);
    enum status partly = put_bytes(sim, file->inode, offset, bytes);
    (void)partly;
    return ERR_IO;
  }
  write_back(sim, file->inode);
  enum status status = put_bytes(sim, file->inode, offset, bytes);
  write_back(sim, file->inode);
  return status;
}

static enum status sim_read(struct disk *disk, struct disk_file *file, uint64_t offset, void *out, size_t size,
                            size_t *out_size)
{
  struct sim_disk *sim = sim_of(disk);
  if (sim->stopped || !file->inode || chance(&sim->prng, sim->settings.faults.reads)) return ERR_IO;
  uint64_t left = offset < file->inode->size ? file->inode->size - offset : 0;
  *out_size = left < size ? (size_t)left : size;
  if (*out_size > 0) memcpy(out, file->inode->now + offset, *out_size);
  return OK;
}

static enum status sim_sync(struct disk *disk, struct disk_file *file)
{
  struct sim_disk *sim = sim_of(disk);
  if (!file->inode) return ERR_IO;
  disk->syncs++;
  enum operation operation = begin(sim, sim->settings.faults.syncs);
  if (operation == OPERATION_STOPS) return ERR_IO;
  if (operation == OPERATION_FAILS) {
    save(file->inode, &sim->prng, true);
    return ERR_IO;
  }
  save(file->inode, NULL, false);
  return OK;
}

static enum status sim_truncate(struct disk *disk, struct disk_file *file, uint64_t size)
{
  struct sim_disk *sim = sim_of(disk);
  if (!file->inode) return ERR_IO;
  assert(file->writable);
  if (begin(sim, sim->settings.faults.writes)) return ERR_IO;
  set_size(file->inode, size);
  release_sectors(sim, file->inode, sector_count(size));
  return OK;
}

static enum status sim_rename(struct disk *disk, const char *from, const char *to)
{
  struct sim_disk *sim = sim_of(disk);
  if (begin(sim, sim->settings.faults.names)) return ERR_IO;
  struct entry *entry = find_entry(&sim->now, from);
  if (!entry) return ERR_NOT_FOUND;
  add_change(sim, from, to, entry->inode);
  collect(sim);
  return OK;
}

static enum status sim_unlink(struct disk *disk, const char *name)
{
  struct sim_disk *sim = sim_of(disk);
  if (begin(sim, sim->settings.faults.names)) return ERR_IO;
  struct entry *entry = find_entry(&sim->now, name);
  if (!entry) return ERR_NOT_FOUND;
  add_change(sim, name, "", entry->inode);
  collect(sim);
  return OK;
}

static enum status sim_sync_directory(struct disk *disk)
{
  struct sim_disk *sim = sim_of(disk);
  disk->syncs++;
  if (begin(sim, sim->settings.faults.names)) return ERR_IO;
  copy_directory(&sim->safe, &sim->now);
  sim->change_count = 0;
  collect(sim);
  return OK;
}

static enum status sim_space(struct disk *disk, uint64_t *out_free, uint64_t *out_total)
{
  struct sim_disk *sim = sim_of(disk);
  if (sim->stopped) return ERR_IO;
  uint64_t capacity = sim->settings.capacity ? sim->settings.capacity : UINT64_C(1) << 50;
  uint64_t used = sim->allocated * SIM_SECTOR;
  *out_free = used < capacity ? capacity - used : 0;
  *out_total = capacity;
  return OK;
}

static void sim_destroy(struct disk *disk)
{
  struct sim_disk *sim = sim_of(disk);
  while (sim->files) {
    struct disk_file *file = sim->files;
    sim->files = file->next;
    free(file);
  }
  for (size_t i = 0; i < sim->inode_count; i++) free_inode(sim, sim->inodes[i]);
  free(sim->inodes);
  free(sim->now.entries);
  free(sim->safe.entries);
  free(sim->changes);
  free(sim);
}

static const struct disk_operations operations = {
    .list = sim_list,
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .allocate = sim_allocate,
    .write = sim_write,
    .read = sim_read,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .sync_directory = sim_sync_directory,
    .space = sim_space,
    .destroy = sim_destroy,
};

// ---- Control

struct disk *sim_disk_create(const struct sim_disk_settings *settings)
{
  struct sim_disk *sim = calloc(1, sizeof *sim);
  if (!sim) abort();
  sim->disk.operations = &operations;
  sim->settings = *settings;
  sim->prng = settings->prng;
  return &sim->disk;
}

void sim_disk_set_capacity(struct disk *disk, uint64_t bytes)
{
  sim_of(disk)->settings.capacity = bytes;
}

void sim_disk_set_faults(struct disk *disk, const struct sim_disk_faults *faults)
{
  sim_of(disk)->settings.faults = *faults;
}

uint64_t sim_disk_operations(const struct disk *disk)
{
  return ((const struct sim_disk *)disk)->operations;
}

void sim_disk_fail_at(struct disk *disk, uint64_t count)
{
  struct sim_disk *sim = sim_of(disk);
  sim->fail_at = count ? sim->operations + count : 0;
}

void sim_disk_stop_at(struct disk *disk, uint64_t count)
{
  struct sim_disk *sim = sim_of(disk);
  sim->stop_at = count ? sim->operations + count : 0;
}

bool sim_disk_stopped(const struct disk *disk)
{
  return ((const struct sim_disk *)disk)->stopped;
}

// What was not synced survives, or not: each sector, each size and each name for itself.
static void cut_power(struct sim_disk *sim, struct prng *prng)
{
  for (size_t i = 0; i < sim->change_count; i++)
    if (prng_below(prng, 2) == 0) apply_change(&sim->safe, &sim->changes[i]);
  sim->change_count = 0;
  copy_directory(&sim->now, &sim->safe);
  for (size_t i = 0; i < sim->inode_count; i++) {
    struct inode *inode = sim->inodes[i];
    save(inode, prng, true);
    // Behind the end there is nothing, whatever was there.
    if (inode->safe_size < inode->capacity) memset(inode->safe + inode->safe_size, 0, inode->capacity - inode->safe_size);
    if (inode->capacity > 0) memcpy(inode->now, inode->safe, inode->capacity);
    inode->size = inode->safe_size;
    inode->size_dirty = false;
  }
}

// After a power cut: what is in a file takes space, also in one that came back.
static void count_space(struct sim_disk *sim)
{
  for (size_t i = 0; i < sim->inode_count; i++) {
    struct inode *inode = sim->inodes[i];
    release_sectors(sim, inode, sector_count(inode->size));
    for (uint64_t k = 0; k < sector_count(inode->size); k++) {
      if (inode->sectors[k] & SECTOR_ALLOCATED) continue;
      inode->sectors[k] |= SECTOR_ALLOCATED;
      sim->allocated++;
    }
  }
}

void sim_disk_crash(struct disk *disk, enum sim_crash how, struct prng *prng)
{
  struct sim_disk *sim = sim_of(disk);
  for (struct disk_file *file = sim->files; file; file = file->next) {
    if (file->inode) file->inode->handles--;
    file->inode = NULL;
  }
  sim->stopped = false;
  sim->fail_at = 0;
  sim->stop_at = 0;
  if (how == SIM_POWER_CUT) cut_power(sim, prng);
  collect(sim);
  if (how == SIM_POWER_CUT && !sim->settings.no_reserve) count_space(sim);
}

// ---- For tests

bool sim_disk_peek(const struct disk *disk, const char *name, struct span *out)
{
  const struct entry *entry = find_entry(&((const struct sim_disk *)disk)->now, name);
  if (!entry) return false;
  *out = span_of(entry->inode->now, (size_t)entry->inode->size);
  return true;
}

void sim_disk_flip(struct disk *disk, const char *name, uint64_t offset, uint8_t mask)
{
  struct entry *entry = find_entry(&sim_of(disk)->now, name);
  assert(entry);
  assert(offset < entry->inode->size);
  entry->inode->now[offset] ^= mask;
  entry->inode->safe[offset] ^= mask;
}

void sim_disk_cut(struct disk *disk, const char *name, uint64_t size)
{
  struct sim_disk *sim = sim_of(disk);
  struct entry *entry = find_entry(&sim->now, name);
  assert(entry);
  set_size(entry->inode, size);
  release_sectors(sim, entry->inode, sector_count(size));
  save(entry->inode, NULL, false);
}

void sim_disk_put(struct disk *disk, const char *name, struct span bytes)
{
  struct sim_disk *sim = sim_of(disk);
  struct inode *inode = make_inode(sim);
  set_entry(&sim->now, name, inode);
  set_entry(&sim->safe, name, inode);
  uint64_t capacity = sim->settings.capacity;
  sim->settings.capacity = 0;  // what is put there is there
  enum status status = put_bytes(sim, inode, 0, bytes);
  sim->settings.capacity = capacity;
  assert(status == OK);
  save(inode, NULL, false);
  collect(sim);
}

struct disk *sim_disk_clone(struct disk *disk)
{
  struct sim_disk *sim = sim_of(disk);
  struct sim_disk_settings settings = sim->settings;
  settings.prng = sim->prng;
  struct disk *clone = sim_disk_create(&settings);
  for (size_t i = 0; i < sim->now.count; i++) {
    const struct entry *entry = &sim->now.entries[i];
    sim_disk_put(clone, entry->name, span_of(entry->inode->now, (size_t)entry->inode->size));
  }
  return clone;
}
