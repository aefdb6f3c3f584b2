// The frame around the commands that connect to a broker. See client_command.h.
#include "cli/client_command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"

void client_complain(const struct client_options *options, const char *format, ...)
{
  if (options->quiet) return;
  va_list arguments;
  va_start(arguments, format);
  option_complain_list(options->command, format, arguments);
  va_end(arguments);
}

bool client_flush_output(const struct client_options *options)
{
  if (fflush(stdout) == 0 && !ferror(stdout)) return true;
  client_complain(options, "standard output: %s", strerror(errno));
  return false;
}

int client_command_run(const struct client_command *command, int argc, char **argv)
{
  struct client_options *client = command->client;
  struct client_settings settings;
  struct error error = {0};
  client->command = command->command->name;
  int result = options_begin(command->command, argc, argv, NULL);
  if (result < 0) {
    enum status status = client_options_settings(client, &settings, &error);
    if (status == OK) status = command->check(command->options, &settings, &error);
    if (status == OK && client_options_read(client, &settings, &error) != OK) {
      client_complain(client, "%s", error.text);
      result = COMMAND_FAILED;
    } else if (status == OK) {
      result = command->run(command->options, &settings);
    } else {
      client_complain(client, "%s\nTry \"skerry %s --help\".", error.text, client->command);
      result = COMMAND_USAGE;
    }
  }
  client_options_deinit(client);
  return result;
}
