// The entry: finds the command by its name and hands it the rest of the line. Holds no logic of any command.
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "base/nearest.h"

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

static int help(int argc, char **argv)
{
  if (argc < 2) {
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

int main(int argc, char **argv)
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
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) return help(argc - 1, argv + 1);
  const struct command *command = find_command(name);
  return command ? command->run(argc - 1, argv + 1) : unknown_command(name);
}
