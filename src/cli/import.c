// skerry import: makes a configuration of ours from that of another broker. Writes everything or nothing.
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/nearest.h"
#include "broker/config.h"
#include "cli/commands.h"
#include "cli/mosquitto_files.h"
#include "cli/options.h"

struct import_options {
  const char *directory, *output, *base;
  bool strict;
};

#define FIELD(name) offsetof(struct import_options, name)
#define complain(...) option_complain("import", __VA_ARGS__)

static const struct option rows[] = {
    {.short_name = 'o',
     .name = "directory",
     .argument = "DIR",
     .help = "make skerry.yaml in this directory, with copies of the password, key\nand access control files beside it",
     .kind = OPTION_TEXT,
     .offset = FIELD(directory)},
    {.name = "output",
     .argument = "FILE",
     .help = "write the configuration to this file, which must not exist;\notherwise it goes to standard output",
     .kind = OPTION_TEXT,
     .offset = FIELD(output)},
    {.name = "base",
     .argument = "DIR",
     .help = "Mosquitto's working directory, which relative paths are relative to;\notherwise the current one",
     .kind = OPTION_TEXT,
     .offset = FIELD(base)},
    {.name = "strict",
     .help = "write nothing and exit with 2 when something cannot be carried over",
     .kind = OPTION_FLAG,
     .offset = FIELD(strict)},
};

static const char notes[] = "Every directive that cannot be carried over is named with file and line and why.\n"
                            "What has to do with security and cannot be carried over is an error: then\n"
                            "nothing is written. Without -o the configuration names Mosquitto's own password,\n"
                            "key and access control files.\n"
                            "\n"
                            "Exits with 0 when the configuration is written, with 1 when it cannot be, with 2\n"
                            "for a wrong command line, and with --strict when something is lost.";

static void print_findings(const struct mosquitto_conf *conf, enum mosquitto_gravity gravity, const char *title)
{
  size_t shown = 0;
  for (size_t i = 0; i < conf->finding_count; i++) {
    if (conf->findings[i].gravity != gravity) continue;
    fprintf(stderr, "%s: %s\n", title, conf->findings[i].text);
    shown++;
  }
  if (shown < conf->counts[gravity]) fprintf(stderr, "%s: and %zu more\n", title, conf->counts[gravity] - shown);
}

// The line of the text that a message "skerry.yaml:LINE:..." is about: its comment says where it comes from.
static struct span line_of(struct span text, const char *message)
{
  unsigned line = 0;
  if (sscanf(message, "%*[^:]:%u:", &line) != 1 || line == 0) return (struct span){0};
  for (;; line--) {
    const uint8_t *end = text.size > 0 ? memchr(text.at, '\n', text.size) : NULL;
    size_t size = end ? (size_t)(end - text.at) : text.size;
    if (line == 1 || !end) return span_of(text.at, line == 1 ? size : 0);
    text = span_from(text, size + 1);
  }
}

// What we have written has to be what we can read; names and numbers that only we refuse come out here.
static void check_result(struct mosquitto_conf *conf, struct span text, const char *file)
{
  struct config config = {0};
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = file};
  enum status status = config_load_text(text, &source, &config, &diagnostics);
  if (status == ERR_NO_MEMORY) conf->short_of_memory = true;
  for (size_t i = 0; i < diagnostics.count && status != OK; i++) {
    struct span line = line_of(text, diagnostics.texts[i]);
    while (line.size > 0 && line.at[0] == ' ') line = span_from(line, 1);
    mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "what came of it is not in order: %s: %.*s", diagnostics.texts[i],
                   (int)(line.size < 200 ? line.size : 200), line.size > 0 ? (const char *)line.at : "");
  }
  if (status != OK && diagnostics.count == 0) mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "%s", status_name(status));
  config_deinit(&config);
  diagnostics_deinit(&diagnostics);
}

static int write_result(const struct import_options *options, const struct mosquitto_plan *plan, struct span text)
{
  struct error error = {0};
  enum status status = OK;
  if (options->directory)
    status = mosquitto_write_directory(options->directory, plan, text, &error);
  else if (options->output)
    status = mosquitto_write_file(options->output, text, &error);
  else if (fwrite(text.at, 1, text.size, stdout) != text.size || fflush(stdout) != 0)
    status = error_set(&error, ERR_IO, "standard output cannot be written: %s", strerror(errno));
  if (status == OK) return COMMAND_OK;
  complain("%s", error.text);
  return COMMAND_FAILED;
}

// Everything that can be found is found before anything is written.
static int import_file(const struct import_options *options, const struct mosquitto_place *place, const char *file)
{
  struct mosquitto_conf conf = {0};
  struct mosquitto_settings *settings = calloc(1, sizeof *settings);
  struct mosquitto_plan *plan = calloc(1, sizeof *plan);
  struct buffer text = {0};
  enum status status = settings && plan ? OK : ERR_NO_MEMORY;
  if (status == OK) {
    mosquitto_read_files(&conf, file, place);
    mosquitto_settings_read(&conf, settings);
    mosquitto_plan_make(&conf, settings, place, plan);
    mosquitto_check_files(&conf, plan);
    if (conf.counts[MOSQUITTO_ERROR] == 0) status = mosquitto_write(plan, &conf, &text);
    if (conf.counts[MOSQUITTO_ERROR] == 0 && status == OK) check_result(&conf, buffer_peek(&text), "skerry.yaml");
  }
  print_findings(&conf, MOSQUITTO_ERROR, "error");
  print_findings(&conf, MOSQUITTO_LOST, "not carried over");
  print_findings(&conf, MOSQUITTO_NOTE, "note");
  int code = COMMAND_FAILED;
  if (status != OK || conf.short_of_memory)
    complain("memory is short");
  else if (conf.counts[MOSQUITTO_ERROR] > 0)
    complain("nothing is written");
  else if (options->strict && conf.counts[MOSQUITTO_LOST] > 0)
    code = COMMAND_USAGE;
  else
    code = write_result(options, plan, buffer_peek(&text));
  buffer_deinit(&text);
  if (plan) mosquitto_plan_deinit(plan);
  if (settings) mosquitto_settings_deinit(settings);
  free(plan);
  free(settings);
  mosquitto_conf_deinit(&conf);
  return code;
}

// NULL when it cannot be told; a message has been printed. Heap.
static char *find_base(const struct import_options *options)
{
  char *base = realpath(options->base ? options->base : ".", NULL);
  if (!base) complain("%s: %s", options->base ? options->base : "the current directory", strerror(errno));
  return base;
}

// False: a message has been printed.
static bool take_words(const struct import_options *options, int words, char **argv)
{
  static const char *const sources[] = {"mosquitto"};
  if (words == 0 || strcmp(argv[1], sources[0]) != 0) {
    const char *nearest = words > 0 ? nearest_name(argv[1], sources, 1) : NULL;
    if (words == 0)
      complain("nothing given; write \"skerry import mosquitto mosquitto.conf\"");
    else
      complain("\"%s\" is not known%s; \"mosquitto\" is", argv[1], nearest ? ", did you mean \"mosquitto\"?" : "");
    return false;
  }
  if (words < 2) complain("no file given; write \"skerry import mosquitto /etc/mosquitto/mosquitto.conf\"");
  if (words > 2) complain("\"%s\" is one word too many; one file at a time", argv[3]);
  if (words == 2 && options->directory && options->output) {
    complain("--directory and --output exclude each other");
    return false;
  }
  return words == 2;
}

int import_command(int argc, char **argv)
{
  struct import_options options = {0};
  const struct option_section section = OPTION_SECTION("Options", rows, &options);
  const struct option_command command = {
      .name = "import",
      .summary = "Makes a configuration from that of another broker.",
      .usage = "mosquitto [-o DIR | --output FILE] [--base DIR] [--strict] FILE",
      .notes = notes,
      .sections = &section,
      .section_count = 1,
      .positional_maximum = 3,
  };
  int words = 0;
  int code = options_begin(&command, argc, argv, &words);
  if (code >= 0) return code;
  if (!take_words(&options, words, argv)) return COMMAND_USAGE;
  char *base = find_base(&options);
  if (!base) return COMMAND_FAILED;
  const struct mosquitto_place place = {
      .base = base,
      .default_user = geteuid() != 0          ? NULL
                      : getpwnam("mosquitto") ? "mosquitto"
                                              : "nobody",
      .copies = options.directory != NULL,
      .ipv6 = access("/proc/net/if_inet6", F_OK) == 0,
  };
  code = import_file(&options, &place, argv[2]);
  free(base);
  return code;
}
