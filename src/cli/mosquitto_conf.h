// mosquitto.conf as it is written: its lines, and what was found to be wrong with them. Knows no directive. Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/span.h"

enum { MOSQUITTO_MAX_FILE = 1 << 20, MOSQUITTO_MAX_LINES = 100000, MOSQUITTO_MAX_FINDINGS = 1000 };

struct mosquitto_line {
  const char *file;  // the conf's
  unsigned number;   // from 1
  char *name;
  char *value;  // "" when there is none; without blanks around it
};

// What there is to say to a person, gravest first.
enum mosquitto_gravity {
  MOSQUITTO_ERROR,  // nothing is written: a mistake, or what cannot be carried over and would leave the broker less safe
  MOSQUITTO_LOST,   // cannot be carried over
  MOSQUITTO_IDLE,   // has no counterpart and needs none
  MOSQUITTO_NOTE,   // to know
};

struct mosquitto_finding {
  enum mosquitto_gravity gravity;
  char *text;  // "mosquitto.conf:7: tls_engine: ..."
};

// All texts are on the heap and belong to the struct. A zeroed struct is empty.
struct mosquitto_conf {
  struct mosquitto_line *lines;
  size_t line_count, line_capacity;
  char **files;
  size_t file_count;
  struct mosquitto_finding *findings;
  size_t finding_count;
  size_t counts[MOSQUITTO_NOTE + 1];  // of findings, those that are not kept any more too
  bool short_of_memory;
};

void mosquitto_conf_deinit(struct mosquitto_conf *conf);

// Appends the lines of one file. Mistakes become findings. The first `include_dir` ends the reading when `out_include` is
// not NULL: *out_include is then the index of its line, and *text what stands behind it; otherwise *out_include is
// SIZE_MAX. `out_include` is NULL in files that are included themselves: there, Mosquitto ignores the directive. `name`
// and `number` (lines read of this file so far) go on over several calls; `name` is the conf's, from mosquitto_conf_file.
void mosquitto_conf_read(struct mosquitto_conf *conf, const char *name, struct span *text, unsigned *number,
                         size_t *out_include);

// Keeps a file's name, to be shown. NULL when memory is short.
const char *mosquitto_conf_file(struct mosquitto_conf *conf, const char *name);

// Adds a finding; `line` NULL: none in particular.
void mosquitto_find(struct mosquitto_conf *conf, enum mosquitto_gravity gravity, const struct mosquitto_line *line,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));

// Mosquitto's order of the files in an include_dir: by letter, and of one letter the upper case first.
int mosquitto_compare_names(const char *a, const char *b);
