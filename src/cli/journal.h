// What the subcommands of `skerry journal` share: their options, and a journal's directory that is only read, whether a
// broker runs on it or not.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/journal_filter.h"
#include "cli/journal_line.h"
#include "cli/options.h"
#include "store/anchor.h"
#include "store/disk.h"
#include "store/log.h"

enum { JOURNAL_PATH_SIZE = 4200, JOURNAL_TOP = 20, JOURNAL_TRIES = 5 };

// What `skerry journal` exits with; COMMAND_USAGE also when the journal cannot be opened.
enum { JOURNAL_WHOLE = 0, JOURNAL_DAMAGED = 1 };

struct journal_options {
  const char *config;
  struct option_texts settings;
  bool json;
  bool all;                  // info: every queue
  enum line_bytes payloads;  // dump
  struct journal_filter filter;
  char path[JOURNAL_PATH_SIZE];  // of the directory with the segments
};

int journal_info(const struct journal_options *options);
int journal_verify(const struct journal_options *options);
int journal_dump(const struct journal_options *options);

// "skerry journal: ..." on standard error.
void journal_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- The directory

// The files of a journal, besides the segments' contents.
struct journal_files {
  uint32_t *segments;  // numbers, ascending
  size_t segment_count;
  uint32_t *damaged;  // numbers of NNNNNNNNNN.damaged, ascending
  size_t damaged_count;
  size_t spares;
  bool anchor;
  enum status failure;  // of reading the list
};

// Finds the journal: `where` itself, or the directory "journal" in it.
CHECK_RESULT enum status journal_find(const char *where, char out_path[static JOURNAL_PATH_SIZE], struct error *error);

// The same through the configuration of a broker.
CHECK_RESULT enum status journal_find_configured(const struct journal_options *options,
                                                 char out_path[static JOURNAL_PATH_SIZE], struct error *error);

CHECK_RESULT enum status journal_list(struct disk *disk, struct journal_files *out);
void journal_files_deinit(struct journal_files *files);

// Whether a running broker has removed or set aside segments between two looks: then what was read in between may be a mix
// of two states, and reading once more is worth more than a complaint.
bool journal_moved_on(const struct journal_files *before, const struct journal_files *after);

// The process that holds the directory's lock; 0: none, or it cannot be known.
uint32_t journal_holder(const char *path);

// "0000000003.segment"
const char *journal_segment_name(uint32_t segment, char out[static JOURNAL_TEXT_SIZE]);
