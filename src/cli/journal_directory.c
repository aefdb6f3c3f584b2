// The directory of a journal, for readers. See journal.h.
#include "cli/journal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "broker/config.h"

enum { NUMBER_DIGITS = 10 };

const char *journal_segment_name(uint32_t segment, char out[static JOURNAL_TEXT_SIZE])
{
  snprintf(out, JOURNAL_TEXT_SIZE, "%010" PRIu32 ".segment", segment);
  return out;
}

// ---- The list

struct lister {
  struct journal_files *files;
  size_t segment_capacity;
  size_t damaged_capacity;
};

static void add_number(struct journal_files *files, uint32_t **numbers, size_t *count, size_t *capacity, uint32_t number)
{
  if (*count == *capacity) {
    size_t larger = *capacity > 0 ? *capacity * 2 : 64;
    uint32_t *grown = realloc(*numbers, larger * sizeof *grown);
    if (!grown) {
      files->failure = ERR_NO_MEMORY;
      return;
    }
    *numbers = grown;
    *capacity = larger;
  }
  (*numbers)[(*count)++] = number;
}

// "0000000003.segment" → 3 and ".segment"; false for other names.
static bool split_name(const char *name, uint32_t *out_number, const char **out_rest)
{
  uint64_t number = 0;
  for (size_t i = 0; i < NUMBER_DIGITS; i++) {
    if (!isdigit((unsigned char)name[i])) return false;
    number = number * 10 + (uint64_t)(name[i] - '0');
  }
  if (number == 0 || number > UINT32_MAX) return false;
  *out_number = (uint32_t)number;
  *out_rest = name + NUMBER_DIGITS;
  return true;
}

static void found_file(void *context, const char *name)
{
  struct lister *lister = context;
  struct journal_files *files = lister->files;
  uint32_t number = 0;
  const char *rest = NULL;
  if (strcmp(name, ANCHOR_FILE) == 0) files->anchor = true;
  if (!split_name(name, &number, &rest)) return;
  if (strcmp(rest, ".segment") == 0)
    add_number(files, &files->segments, &files->segment_count, &lister->segment_capacity, number);
  else if (strcmp(rest, ".damaged") == 0)
    add_number(files, &files->damaged, &files->damaged_count, &lister->damaged_capacity, number);
  else if (strcmp(rest, ".spare") == 0)
    files->spares++;
}

static int compare_numbers(const void *a, const void *b)
{
  const uint32_t *left = a;
  const uint32_t *right = b;
  return (*left > *right) - (*left < *right);
}

enum status journal_list(struct disk *disk, struct journal_files *out)
{
  *out = (struct journal_files){0};
  struct lister lister = {.files = out};
  enum status status = disk->operations->list(disk, found_file, &lister);
  if (status == OK) status = out->failure;
  if (status != OK) {
    journal_files_deinit(out);
    return status;
  }
  if (out->segment_count > 1) qsort(out->segments, out->segment_count, sizeof *out->segments, compare_numbers);
  if (out->damaged_count > 1) qsort(out->damaged, out->damaged_count, sizeof *out->damaged, compare_numbers);
  return OK;
}

void journal_files_deinit(struct journal_files *files)
{
  free(files->segments);
  free(files->damaged);
  *files = (struct journal_files){0};
}

bool journal_moved_on(const struct journal_files *before, const struct journal_files *after)
{
  size_t j = 0;
  for (size_t i = 0; i < before->segment_count; i++) {
    while (j < after->segment_count && after->segments[j] < before->segments[i]) j++;
    if (j == after->segment_count || after->segments[j] != before->segments[i]) return true;
  }
  return before->damaged_count != after->damaged_count;
}

// ---- Where it is

static bool is_directory(const char *path)
{
  struct stat found;
  return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

static enum status holds_journal(const char *path, bool *out, struct error *error)
{
  struct disk *disk;
  struct journal_files files;
  enum status status = disk_posix_open(path, false, false, &disk, error);
  if (status != OK) return status;
  status = journal_list(disk, &files);
  disk_destroy(disk);
  if (status != OK) return error_set(error, status, "%s: cannot be listed: %s", path, status_name(status));
  *out = files.anchor || files.segment_count > 0 || files.spares > 0 || files.damaged_count > 0;
  journal_files_deinit(&files);
  return OK;
}

enum status journal_find(const char *where, char out_path[static JOURNAL_PATH_SIZE], struct error *error)
{
  bool found = false;
  int size = snprintf(out_path, JOURNAL_PATH_SIZE, "%s", where);
  if (size >= JOURNAL_PATH_SIZE) return error_set(error, ERR_INVALID, "the path is too long");
  enum status status = holds_journal(out_path, &found, error);
  if (status != OK || found) return status;
  size = snprintf(out_path, JOURNAL_PATH_SIZE, "%s%sjournal", where, where[0] && where[strlen(where) - 1] == '/' ? "" : "/");
  if (size >= JOURNAL_PATH_SIZE) return error_set(error, ERR_INVALID, "the path is too long");
  if (is_directory(out_path)) {
    status = holds_journal(out_path, &found, error);
    if (status != OK || found) return status;
  }
  return error_set(error, ERR_NOT_FOUND,
                   "%s holds no journal: there are no segments in it, nor in a directory journal in it", where);
}

static enum status data_of(const struct config *config, const char *file, char out_path[static JOURNAL_PATH_SIZE],
                           struct error *error)
{
  if (!config->broker.data)
    return error_set(error, ERR_INVALID, "%s: broker.data is not set: this broker keeps everything in memory", file);
  if (!config_has_journal(config))
    return error_set(error, ERR_INVALID, "%s: journal.durability is memory: this broker has no journal", file);
  return journal_find(config->broker.data, out_path, error);
}

enum status journal_find_configured(const struct journal_options *options, char out_path[static JOURNAL_PATH_SIZE],
                                    struct error *error)
{
  struct config config = {0};
  struct diagnostics diagnostics = {0};
  const struct config_source source = {
      .file = options->config, .settings = options->settings.at, .setting_count = options->settings.count};
  enum status status = config_load(&source, &config, &diagnostics);
  for (size_t i = 0; i < diagnostics.count; i++) fprintf(stderr, "%s\n", diagnostics.texts[i]);
  if (status == OK)
    status = data_of(&config, options->config, out_path, error);
  else if (diagnostics.count == 0)
    error_set(error, status, "%s: %s", options->config, status_name(status));
  config_deinit(&config);
  diagnostics_deinit(&diagnostics);
  return status;
}

// ---- Whose it is

// The kernel's list is asked, for a lock that is tried is a lock that is held for a moment, and a broker that starts in that
// moment would be refused.
uint32_t journal_holder(const char *path)
{
  char name[JOURNAL_PATH_SIZE + 8];
  struct stat lock;
  snprintf(name, sizeof name, "%s/lock", path);
  if (stat(name, &lock) != 0) return 0;
  FILE *locks = fopen("/proc/locks", "re");
  if (!locks) return 0;
  char line[256];
  uint32_t holder = 0;
  while (holder == 0 && fgets(line, sizeof line, locks)) {
    unsigned process = 0, major_number = 0, minor_number = 0;
    uint64_t inode = 0;
    if (sscanf(line, "%*s FLOCK %*s WRITE %u %x:%x:%" SCNu64, &process, &major_number, &minor_number, &inode) != 4) continue;
    if (inode == lock.st_ino && major_number == major(lock.st_dev) && minor_number == minor(lock.st_dev)) holder = process;
  }
  fclose(locks);
  return holder;
}
