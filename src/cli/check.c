// skerry check: reads configuration files as the broker would, with the certificates, passwords and rules that they name,
// and says what is wrong in them. Starts nothing.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "broker/config.h"
#include "broker/entrance.h"
#include "cli/commands.h"
#include "cli/options.h"

struct check_options {
  struct option_texts settings;
  bool keys_only;
};

static struct wall wall_now(void)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (struct wall){(int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000};
}

// The files that the configuration names.
static enum status check_named_files(const struct config *config, const char *file, struct diagnostics *diagnostics)
{
  static const uint8_t no_secret[ENTRANCE_SECRET_SIZE] = {0};
  struct entrance entrance;
  enum status status = entrance_build(config, file, no_secret, wall_now(), NULL, &entrance, diagnostics);
  entrance_deinit(&entrance);
  return status;
}

// True when the file is in order.
static bool check_file(const char *file, const struct check_options *options)
{
  struct config config = {0};
  struct diagnostics diagnostics = {0};
  const struct config_source source = {
      .file = file, .settings = options->settings.at, .setting_count = options->settings.count};
  enum status status = config_load(&source, &config, &diagnostics);
  if (status == OK && !options->keys_only) status = check_named_files(&config, file, &diagnostics);
  if (status == OK) config_warn(&config, file, &diagnostics);
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
       .kind = OPTION_TEXTS,
       .offset = offsetof(struct check_options, settings)},
      {.name = "keys-only",
       .help =
           "do not read the certificates, passwords and rules that the file\nnames: for a machine that does not have them",
       .kind = OPTION_FLAG,
       .offset = offsetof(struct check_options, keys_only)},
  };
  const struct option_section section = OPTION_SECTION("Options", rows, &options);
  const struct option_command command = {
      .name = "check",
      .summary =
          "Says what is wrong in configuration files of the broker and the files that they name, or that all is in order.",
      .usage = "[--set KEY=VALUE] [--keys-only] FILE...",
      .notes = "Exits with 0 when all files are in order, with 2 otherwise. \"skerry help config\" explains all keys.",
      .sections = &section,
      .section_count = 1,
      .positional_maximum = 1000,
  };
  int files = 0;
  int exit_code = options_begin(&command, argc, argv, &files);
  if (exit_code >= 0) return exit_code;
  if (files == 0) {
    option_complain("check", "no file given; write \"skerry check broker.yaml\"");
    return COMMAND_USAGE;
  }
  bool good = true;
  for (int i = 1; i <= files; i++)
    if (!check_file(argv[i], &options)) good = false;
  return good ? COMMAND_OK : COMMAND_USAGE;
}
