// The frame around the commands that connect to a broker: from the command line to the exit code, and what they say on
// standard error. Main thread only.
#pragma once

#include "cli/client_options.h"

struct client_command {
  const struct option_command *command;
  struct client_options *client;  // a target of the command's sections; zeroed, it is freed at the end
  void *options;                  // for the functions below
  // Checks the command's own options and completes the settings, which the client's options have filled. ERR_INVALID.
  enum status (*check)(void *options, struct client_settings *settings, struct error *error);
  int (*run)(void *options, const struct client_settings *settings);
};

// Returns the exit code: of `run`, or what help or a wrong command line ends with.
int client_command_run(const struct client_command *command, int argc, char **argv);

// Writes "skerry sub: " and the text to standard error, unless the user wants quiet.
void client_complain(const struct client_options *options, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Sends on its way what was printed. False, with a complaint: standard output does not take it.
CHECK_RESULT bool client_flush_output(const struct client_options *options);
