// Command lines from tables. See options.h.
#include "cli/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "base/nearest.h"

enum { NAMES_MAX = 128, HELP_WIDTH = 100, HELP_COLUMN_MAX = 34 };

struct found {
  const struct option *option;
  void *target;
};

const char *option_word(struct option_words *words)
{
  if (words->left <= 0) return NULL;
  words->left--;
  return *words->next++;
}

enum status option_texts_add(struct option_texts *texts, const char *text, size_t maximum, struct error *error)
{
  if (maximum == 0 || maximum > OPTION_TEXTS_MAX) maximum = OPTION_TEXTS_MAX;
  if (texts->count >= maximum) return error_set(error, ERR_INVALID, "at most %zu are possible", maximum);
  texts->at[texts->count++] = text;
  return OK;
}

enum status option_parse_uint(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *out, struct error *error)
{
  char *end = NULL;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  // strtoull takes "-1" and " 1"; a number here starts with a digit.
  if (!isdigit((unsigned char)text[0]) || *end != '\0')
    return error_set(error, ERR_INVALID, "\"%s\" is not a whole number", text);
  if (errno == ERANGE || value < minimum || value > maximum)
    return error_set(error, ERR_INVALID, "%s is out of range; allowed is %" PRIu64 " to %" PRIu64, text, minimum, maximum);
  *out = value;
  return OK;
}

static double unit_ms(const char *unit)
{
  static const struct {
    const char *name;
    double ms;
  } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60e3}, {"min", 60e3}, {"h", 3600e3}, {"d", 86400e3}};
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
    if (strcmp(unit, units[i].name) == 0) return units[i].ms;
  return 0;
}

enum status option_parse_duration(const char *text, uint64_t minimum_ms, uint64_t maximum_ms, uint64_t *out_ms,
                                  struct error *error)
{
  char *end = NULL;
  double number = strtod(text, &end);
  double unit = unit_ms(end);
  bool digits = isdigit((unsigned char)text[0]) || (text[0] == '.' && isdigit((unsigned char)text[1]));
  if (!digits || unit <= 0)
    return error_set(error, ERR_INVALID, "\"%s\" is not a time; write seconds (0.5), or 250ms, 10s, 5m, 1h", text);
  double ms = number * unit;
  if (!(ms >= (double)minimum_ms && ms <= (double)maximum_ms))
    return error_set(error, ERR_INVALID, "%s is out of range; allowed is %.10g to %.10g seconds", text,
                     (double)minimum_ms / 1000, (double)maximum_ms / 1000);
  *out_ms = (uint64_t)(ms + 0.5);
  return OK;
}

// ---- Parsing

static struct found find_short(const struct option_command *command, char name)
{
  for (size_t s = 0; s < command->section_count; s++) {
    const struct option_section *section = &command->sections[s];
    for (size_t i = 0; i < section->count; i++)
      if (section->options[i].short_name == name) return (struct found){&section->options[i], section->target};
  }
  return (struct found){0};
}

static struct found find_long(const struct option_command *command, const char *name, size_t size)
{
  for (size_t s = 0; s < command->section_count; s++) {
    const struct option_section *section = &command->sections[s];
    for (size_t i = 0; i < section->count; i++) {
      const char *known = section->options[i].name;
      if (known && strlen(known) == size && memcmp(known, name, size) == 0)
        return (struct found){&section->options[i], section->target};
    }
  }
  return (struct found){0};
}

static enum status unknown_long(const struct option_command *command, const char *name, struct error *error)
{
  const char *names[NAMES_MAX];
  size_t count = 0;
  names[count++] = "help";
  for (size_t s = 0; s < command->section_count; s++)
    for (size_t i = 0; i < command->sections[s].count && count < NAMES_MAX; i++)
      names[count++] = command->sections[s].options[i].name;
  const char *nearest = nearest_name(name, names, count);
  if (nearest) return error_set(error, ERR_INVALID, "unknown option --%s; did you mean --%s?", name, nearest);
  return error_set(error, ERR_INVALID, "unknown option --%s", name);
}

static enum status apply_value(const struct found *found, const char *value, struct option_words *words, struct error *error)
{
  const struct option *option = found->option;
  char *field = found->target ? (char *)found->target + option->offset : NULL;
  switch (option->kind) {
    case OPTION_FLAG: *(bool *)(void *)field = true; return OK;
    case OPTION_TEXT: *(const char **)(void *)field = value; return OK;
    case OPTION_TEXTS: return option_texts_add((struct option_texts *)(void *)field, value, option->maximum, error);
    case OPTION_UINT: return option_parse_uint(value, option->minimum, option->maximum, (uint64_t *)(void *)field, error);
    case OPTION_DURATION:
      return option_parse_duration(value, option->minimum, option->maximum, (uint64_t *)(void *)field, error);
    case OPTION_APPLY: return option->apply(found->target, words, error);
  }
  assert(false && "an option of no kind");
  return ERR_INVALID;
}

// `attached` is the value that is part of the same word (--port=1883, -p1883), or NULL.
static enum status apply_option(const struct found *found, char *attached, struct option_words *words, struct error *error)
{
  const struct option *option = found->option;
  if (!option->argument) {
    if (attached) return error_set(error, ERR_INVALID, "takes no argument");
    return apply_value(found, NULL, words, error);
  }
  if (option->kind == OPTION_APPLY) {
    if (!attached && words->left <= 0) return error_set(error, ERR_INVALID, "needs %s behind it", option->argument);
    if (!attached) return apply_value(found, NULL, words, error);
    // An attached word is the first of the option's words; what it takes beyond that comes from the line.
    char *first[1] = {attached};
    struct option_words one = {.next = first, .left = 1};
    return apply_value(found, NULL, &one, error);
  }
  const char *value = attached ? attached : option_word(words);
  if (!value) return error_set(error, ERR_INVALID, "needs %s behind it", option->argument);
  return apply_value(found, value, words, error);
}

static enum status parse_long(const struct option_command *command, char *word, struct option_words *words,
                              struct error *error)
{
  char *name = word + 2;
  char *equals = strchr(name, '=');
  size_t size = equals ? (size_t)(equals - name) : strlen(name);
  if (size == 4 && memcmp(name, "help", 4) == 0) return ERR_CLOSED;
  struct found found = find_long(command, name, size);
  if (!found.option) {
    if (equals) *equals = '\0';
    return unknown_long(command, name, error);
  }
  enum status status = apply_option(&found, equals ? equals + 1 : NULL, words, error);
  if (status != OK) return error_prefix(error, "--%.*s", (int)size, name);
  return OK;
}

// One word of short options: flags can be joined, and the last may have its argument attached.
static enum status parse_short(const struct option_command *command, char *word, struct option_words *words,
                               struct error *error)
{
  for (char *at = word + 1; *at; at++) {
    struct found found = find_short(command, *at);
    if (!found.option && *at == '?') return ERR_CLOSED;
    if (!found.option) return error_set(error, ERR_INVALID, "unknown option -%c", *at);
    bool takes = found.option->argument != NULL;
    char *attached = takes && at[1] != '\0' ? at + 1 : NULL;
    enum status status = apply_option(&found, attached, words, error);
    if (status != OK) return error_prefix(error, "-%c", *at);
    if (takes) return OK;
  }
  return OK;
}

enum status options_parse(const struct option_command *command, int argc, char **argv, int *out_positional,
                          struct error *error)
{
  int positional = 0;
  bool options_over = false;
  struct option_words words = {.next = argv + 1, .left = argc > 0 ? argc - 1 : 0};
  while (words.left > 0) {
    char *word = *words.next;
    (void)option_word(&words);
    enum status status = OK;
    if (options_over || word[0] != '-' || word[1] == '\0') {
      if (positional == command->positional_maximum)
        return error_set(error, ERR_INVALID, "\"%s\" is one word too many", word);
      argv[++positional] = word;
    } else if (strcmp(word, "--") == 0) {
      options_over = true;
    } else if (word[1] == '-') {
      status = parse_long(command, word, &words, error);
    } else {
      status = parse_short(command, word, &words, error);
    }
    if (status != OK) return status;
  }
  *out_positional = positional;
  return OK;
}

// ---- Help

static int print_names(const struct option *option, char *out, size_t size)
{
  char short_part[8] = "    ";
  if (option->short_name) snprintf(short_part, sizeof short_part, "-%c%s", option->short_name, option->name ? ", " : "");
  return snprintf(out, size, "  %s%s%s%s%s", short_part, option->name ? "--" : "", option->name ? option->name : "",
                  option->argument ? " " : "", option->argument ? option->argument : "");
}

static size_t names_column(const struct option_command *command)
{
  size_t widest = 0;
  char text[160];
  for (size_t s = 0; s < command->section_count; s++)
    for (size_t i = 0; i < command->sections[s].count; i++) {
      size_t width = (size_t)print_names(&command->sections[s].options[i], text, sizeof text);
      if (width > widest && width <= HELP_COLUMN_MAX) widest = width;
    }
  return widest + 2;
}

// Prints the text from the current column on, breaking at spaces and at '\n' to lines that start at `column`.
static void print_wrapped(FILE *out, const char *text, size_t column)
{
  size_t at = column;
  while (*text) {
    size_t word = strcspn(text, " \n");
    if (at > column && at + 1 + word > HELP_WIDTH) {
      fprintf(out, "\n%*s", (int)column, "");
      at = column;
    } else if (at > column) {
      fputc(' ', out);
      at++;
    }
    fwrite(text, 1, word, out);
    at += word;
    text += word;
    if (*text == '\n') {
      fprintf(out, "\n%*s", (int)column, "");
      at = column;
    }
    if (*text) text++;
  }
  fputc('\n', out);
}

static void print_option(FILE *out, const struct option *option, size_t column)
{
  char names[160];
  size_t width = (size_t)print_names(option, names, sizeof names);
  if (width + 2 <= column)
    fprintf(out, "%-*s", (int)column, names);
  else
    fprintf(out, "%s\n%*s", names, (int)column, "");
  print_wrapped(out, option->help, column);
}

void options_print_help(const struct option_command *command, FILE *out)
{
  fprintf(out, "%s\n\n", command->summary);
  const char *line = command->usage;
  for (bool first = true; *line; first = false) {
    size_t size = strcspn(line, "\n");
    fprintf(out, "%s skerry %s %.*s\n", first ? "Usage:" : "      ", command->name, (int)size, line);
    line += size + (line[size] == '\n');
  }
  size_t column = names_column(command);
  for (size_t s = 0; s < command->section_count; s++) {
    fprintf(out, "\n%s:\n", command->sections[s].title);
    for (size_t i = 0; i < command->sections[s].count; i++) print_option(out, &command->sections[s].options[i], column);
  }
  static const struct option help = {.name = "help", .help = "Show this text."};
  fprintf(out, "\n");
  print_option(out, &help, column);
  if (command->notes) fprintf(out, "\n%s\n", command->notes);
}

int options_begin(const struct option_command *command, int argc, char **argv, int *out_positional)
{
  struct error error = {0};
  int positional = 0;
  enum status status = options_parse(command, argc, argv, &positional, &error);
  if (status == ERR_CLOSED) {
    options_print_help(command, stdout);
    return COMMAND_OK;
  }
  if (status != OK) {
    option_complain(command->name, "%s\nTry \"skerry %s --help\".", error.text, command->name);
    return COMMAND_USAGE;
  }
  if (out_positional) *out_positional = positional;
  return -1;
}

// ---- Complaints

void option_complain_list(const char *command, const char *format, va_list arguments)
{
  fprintf(stderr, "skerry %s: ", command);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
}

void option_complain(const char *command, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  option_complain_list(command, format, arguments);
  va_end(arguments);
}
