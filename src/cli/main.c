// The entry: finds the command by its name and hands it the rest of the line. Holds no logic of any command.
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/nearest.h"
#include "cli/commands.h"

#ifndef SKERRY_VERSION
#error "SKERRY_VERSION comes from the build"
#endif

struct command {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *summary;
};

static const struct command commands[] = {
    {"broker", broker_command, "run an MQTT broker"},
    {"pub", pub_command, "publish messages"},
    {"sub", sub_command, "subscribe and print messages"},
    {"sense", sense_command, "publish this host's readings: CPU, memory, load, disk, network, temperatures"},
    {"top", top_command, "watch a broker live: topics, rates, latest values, clients"},
    {"bench", bench_command, "load a broker, measure it, verify every message"},
    {"journal", journal_command, "look into a broker's journal: what it holds, whether it is whole, its records"},
    {"passwd", passwd_command, "set, rotate, list and verify the passwords of a broker's users"},
    {"ctl", ctl_command, "ask a running broker: reload, status, clients, disconnect ..."},
    {"acl", acl_command, "explain what an access control list decides, and check lists"},
    {"check", check_command, "say what is wrong in a configuration file"},
    {"import", import_command, "make a configuration from that of Mosquitto"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const struct command *find_command(const char *name)
{
  for (size_t i = 0; i < COMMAND_COUNT; i++)
    if (strcmp(commands[i].name, name) == 0) return &commands[i];
  return NULL;
}

static void print_overview(FILE *out)
{
  fprintf(out, "Skerry: edge-native MQTT in one small binary.\n\nUsage: skerry COMMAND [OPTIONS]\n\nCommands:\n");
  for (size_t i = 0; i < COMMAND_COUNT; i++) fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
  fprintf(out, "  %-8s %s\n", "help", "show this text, or the help of a command: skerry help pub");
  fprintf(out, "  %-8s %s\n", "", "or of the configuration: skerry help config");
  fprintf(out, "\n\"skerry COMMAND --help\" shows the options of a command, \"skerry --version\" the version.\n");
}

static int unknown_command(const char *name)
{
  const char *names[COMMAND_COUNT + 1] = {"help"};
  for (size_t i = 0; i < COMMAND_COUNT; i++) names[i + 1] = commands[i].name;
  const char *nearest = nearest_name(name, names, COMMAND_COUNT + 1);
  if (nearest)
    fprintf(stderr, "skerry: unknown command \"%s\"; did you mean \"%s\"?\n", name, nearest);
  else
    fprintf(stderr, "skerry: unknown command \"%s\"\n", name);
  fprintf(stderr, "\"skerry help\" lists the commands.\n");
  return COMMAND_USAGE;
}

static bool is_help(const char *word)
{
  return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static int help(int argc, char **argv)
{
  if (argc < 2 || is_help(argv[1])) {
    print_overview(stdout);
    return COMMAND_OK;
  }
  if (strcmp(argv[1], "config") == 0) return help_config_command(argc - 1, argv + 1);
  const struct command *command = find_command(argv[1]);
  if (!command) return unknown_command(argv[1]);
  char option[] = "--help";
  char *line[] = {argv[1], option, NULL};
  return command->run(2, line);
}

static int run(int argc, char **argv)
{
  if (argc < 2) {
    print_overview(stderr);
    return COMMAND_USAGE;
  }
  const char *name = argv[1];
  if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0 || strcmp(name, "version") == 0) {
    printf("skerry %s\n", SKERRY_VERSION);
    return COMMAND_OK;
  }
  if (is_help(name)) return help(argc - 1, argv + 1);
  const struct command *command = find_command(name);
  return command ? command->run(argc - 1, argv + 1) : unknown_command(name);
}

// Where one of the three standard streams is closed, the next file or socket that is opened would get its number, and the
// log lines. What takes its place can be used the other way round only, so that using it still fails.
static bool fill_standard_streams(void)
{
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) return false;
  return true;
}

int main(int argc, char **argv)
{
  if (!fill_standard_streams()) return COMMAND_FAILED;
  int exit_code = run(argc, argv);
  errno = 0;
  if ((fflush(stdout) == 0 && !ferror(stdout)) || exit_code != COMMAND_OK) return exit_code;
  fprintf(stderr, "skerry: standard output: %s\n", strerror(errno ? errno : EIO));
  return COMMAND_FAILED;
}
