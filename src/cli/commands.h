// The commands of the one binary. main.c dispatches to them by name; each is given its own name as argv[0] and the rest of
// the command line behind it, owns the main thread until it returns, and returns the exit code of the process.
#pragma once

// What a command exits with. Codes from 128 on are the MQTT reason code with which a broker refused something.
enum command_exit {
  COMMAND_OK = 0,
  COMMAND_FAILED = 1,    // it failed at run time: network, files, memory
  COMMAND_USAGE = 2,     // the command line or a configuration file is wrong
  COMMAND_TIMEOUT = 27,  // the time that was asked for has passed, as users of mosquitto_sub know it
};

int broker_command(int argc, char **argv);
int pub_command(int argc, char **argv);
int sub_command(int argc, char **argv);
int bench_command(int argc, char **argv);
int sense_command(int argc, char **argv);
int top_command(int argc, char **argv);
int journal_command(int argc, char **argv);
int passwd_command(int argc, char **argv);
int check_command(int argc, char **argv);
int acl_command(int argc, char **argv);
int ctl_command(int argc, char **argv);
int import_command(int argc, char **argv);

// "skerry help config ...": argv[0] is "config".
int help_config_command(int argc, char **argv);
