// skerry help config [KEY]: what can be configured, for a terminal or as docs/configuration.md.
#include <stdio.h>
#include <string.h>

#include "broker/config_help.h"
#include "cli/commands.h"

static int usage(FILE *out, int exit_code)
{
  fprintf(out, "Usage: skerry help config [SECTION | KEY]\n"
               "       skerry help config --markdown\n\n"
               "Explains the broker's configuration: everything, one section (limits), or one key (limits.packet_size).\n");
  return exit_code;
}

int help_config_command(int argc, char **argv)
{
  if (argc < 2) {
    config_help_overview(stdout);
    return COMMAND_OK;
  }
  if (argc > 2) return usage(stderr, COMMAND_USAGE);
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return usage(stdout, COMMAND_OK);
  if (strcmp(argv[1], "--markdown") == 0) {
    config_help_markdown(stdout);
    return COMMAND_OK;
  }
  struct error error;
  if (config_help_topic(stdout, argv[1], &error) == OK) return COMMAND_OK;
  fprintf(stderr, "skerry help config: %s\n", error.text);
  return COMMAND_USAGE;
}
