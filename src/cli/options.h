// Command lines from tables: one row per option says its names, its arguments, what it sets and its help, and from the rows
// come both the parser and --help. Known forms: -p 1883, -p1883, -vR, --port 1883, --port=1883, -- (no more options). Knows
// no command.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

// The words behind an option that takes them itself.
struct option_words {
  char **next;
  int left;
};

// Takes the next word; NULL when there is none. The first is there whenever the option has an argument.
const char *option_word(struct option_words *words);

enum { OPTION_TEXTS_MAX = 256 };

// The arguments of an option that may be repeated. They live as long as argv.
struct option_texts {
  const char *at[OPTION_TEXTS_MAX];
  size_t count;
};

// What OPTION_TEXTS does, for texts that come otherwise.
CHECK_RESULT enum status option_texts_add(struct option_texts *texts, const char *text, size_t maximum, struct error *error);

// Applies an option to its section's target. On failure the error says what is wrong without naming the option.
typedef enum status option_apply(void *target, struct option_words *words, struct error *error);

enum option_kind {
  OPTION_FLAG,      // no argument; sets a bool to true
  OPTION_TEXT,      // sets a const char * to the argument, which lives as long as argv
  OPTION_TEXTS,     // adds the argument to a struct option_texts, up to `maximum`; 0: OPTION_TEXTS_MAX
  OPTION_UINT,      // sets a uint64_t, range minimum..maximum
  OPTION_DURATION,  // seconds, fractions allowed ("0.5"), also "250ms", "10s", "5m", "1h"; sets a uint64_t of milliseconds,
                    // range minimum..maximum in milliseconds
  OPTION_APPLY,     // calls `apply`, which takes its words itself
};

struct option {
  char short_name;       // 0: none
  const char *name;      // without the dashes; NULL: none
  const char *argument;  // as help shows it, "HOST"; NULL: none
  const char *help;      // one or several lines; '\n' starts a new line
  enum option_kind kind;
  size_t offset;  // of the field in the section's target
  uint64_t minimum;
  uint64_t maximum;
  option_apply *apply;
};

// Options that belong together and set fields of the same struct.
struct option_section {
  const char *title;  // "Connection"
  const struct option *options;
  size_t count;
  void *target;
};

// The section of an array of rows.
#define OPTION_SECTION(title_, rows_, target_)                                                                              \
  {                                                                                                                         \
    (title_), (rows_), sizeof(rows_) / sizeof((rows_)[0]), (target_)                                                        \
  }

struct option_command {
  const char *name;     // "pub"
  const char *summary;  // one sentence
  const char *usage;    // what follows "skerry pub ", one or several lines
  const char *notes;    // printed below the options; NULL: none
  const struct option_section *sections;
  size_t section_count;
  int positional_maximum;  // how many words that are no options are taken
};

// Goes through argv[1..argc-1] and fills the targets. Words that are no options are moved to argv[1..], their number goes to
// `out_positional`. ERR_INVALID with the error's text when the line is wrong. Stops with ERR_CLOSED when --help (or -? ) is
// met.
CHECK_RESULT enum status options_parse(const struct option_command *command, int argc, char **argv, int *out_positional,
                                       struct error *error);

void options_print_help(const struct option_command *command, FILE *out);

// What every command does first: parses, prints help to stdout or the error with a hint to stderr. Returns -1 when the
// command shall go on, and otherwise the exit code to return at once: 0 after help, 2 for a wrong line.
int options_begin(const struct option_command *command, int argc, char **argv, int *out_positional);

// How every command says what is wrong: "skerry passwd: ..." as a line on standard error.
void option_complain(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
void option_complain_list(const char *command, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

// Reads a whole number in decimal; the whole text must be one. For option_apply functions.
CHECK_RESULT enum status option_parse_uint(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *out,
                                           struct error *error);

// Reads a duration as OPTION_DURATION does.
CHECK_RESULT enum status option_parse_duration(const char *text, uint64_t minimum_ms, uint64_t maximum_ms, uint64_t *out_ms,
                                               struct error *error);
