// skerry check: reads configuration files as the broker would, and says what is wrong in them. Starts nothing.
#include <stdio.h>
#include <stdlib.h>

#include "broker/config.h"
#include "cli/commands.h"
#include "cli/options.h"

enum { MAX_SETTINGS = 64 };

struct check_options {
  const char *settings[MAX_SETTINGS];
  size_t setting_count;
};

static enum status add_setting(void *target, struct option_words *words, struct error *error)
{
  struct check_options *options = target;
  const char *setting = option_word(words);
  if (!setting) return error_set(error, ERR_INVALID, "needs KEY=VALUE");
  if (options->setting_count == MAX_SETTINGS) return error_set(error, ERR_INVALID, "at most %d are possible", MAX_SETTINGS);
  options->settings[options->setting_count++] = setting;
  return OK;
}

// True when the file is in order.
static bool check_file(const char *file, const struct check_options *options)
{
  struct config config = {0};
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = file, .settings = options->settings, .setting_count = options->setting_count};
  enum status status = config_load(&source, &config, &diagnostics);
  for (size_t i = 0; i < diagnostics.count; i++) fprintf(stderr, "%s\n", diagnostics.texts[i]);
  if (diagnostics.more) fprintf(stderr, "%s: and more\n", file);
  if (status == OK)
    printf("%s: ok\n", file);
  else if (diagnostics.count == 0)
    fprintf(stderr, "%s: %s\n", file, status_name(status));
  config_deinit(&config);
  diagnostics_deinit(&diagnostics);
  return status == OK;
}

int check_command(int argc, char **argv)
{
  struct check_options options = {0};
  const struct option rows[] = {
      {.name = "set",
       .argument = "KEY=VALUE",
       .help = "override a key of the file, as \"skerry broker --set\" does; may be repeated",
       .kind = OPTION_APPLY,
       .apply = add_setting},
  };
  const struct option_section section = {
      .title = "Options", .options = rows, .count = sizeof rows / sizeof rows[0], .target = &options};
  const struct option_command command = {
      .name = "check",
      .summary = "Says what is wrong in configuration files of the broker, or that they are in order.",
      .usage = "[--set KEY=VALUE] FILE...",
      .notes = "Exits with 0 when all files are in order, with 2 otherwise. \"skerry help config\" explains all keys.",
      .sections = &section,
      .section_count = 1,
      .positional_maximum = 1000,
  };
  int files = 0;
  int exit_code = options_begin(&command, argc, argv, &files);
  if (exit_code >= 0) return exit_code;
  if (files == 0) {
    fprintf(stderr, "skerry check: no file given; write \"skerry check broker.yaml\"\n");
    return COMMAND_USAGE;
  }
  bool good = true;
  for (int i = 1; i <= files; i++)
    if (!check_file(argv[i], &options)) good = false;
  return good ? COMMAND_OK : COMMAND_USAGE;
}
