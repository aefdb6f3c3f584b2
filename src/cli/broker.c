// skerry broker: the command line of the broker process.
#include <stdio.h>

#include "broker/broker.h"
#include "cli/commands.h"
#include "cli/options.h"

enum { MAX_LISTEN = 64, MAX_SETTINGS = 256 };

struct broker_words {
  const char *file;
  const char *settings[MAX_SETTINGS];
  size_t setting_count;
  const char *listen[MAX_LISTEN];
  size_t listen_count;
  char data[4096];
};

static enum status add_setting_text(struct broker_words *words, const char *setting, struct error *error)
{
  if (words->setting_count == MAX_SETTINGS) return error_set(error, ERR_INVALID, "at most %d are possible", MAX_SETTINGS);
  words->settings[words->setting_count++] = setting;
  return OK;
}

static enum status add_setting(void *target, struct option_words *rest, struct error *error)
{
  const char *setting = option_word(rest);
  if (!setting) return error_set(error, ERR_INVALID, "needs KEY=VALUE");
  return add_setting_text(target, setting, error);
}

static enum status add_listen(void *target, struct option_words *rest, struct error *error)
{
  struct broker_words *words = target;
  const char *url = option_word(rest);
  if (!url) return error_set(error, ERR_INVALID, "needs a URL such as mqtt://127.0.0.1:1883");
  if (words->listen_count == MAX_LISTEN) return error_set(error, ERR_INVALID, "at most %d are possible", MAX_LISTEN);
  words->listen[words->listen_count++] = url;
  return OK;
}

static enum status set_data(void *target, struct option_words *rest, struct error *error)
{
  struct broker_words *words = target;
  const char *directory = option_word(rest);
  if (!directory) return error_set(error, ERR_INVALID, "needs a directory");
  int size = snprintf(words->data, sizeof words->data, "broker.data=%s", directory);
  if (size < 0 || (size_t)size >= sizeof words->data) return error_set(error, ERR_INVALID, "the path is too long");
  return add_setting_text(words, words->data, error);
}

int broker_command(int argc, char **argv)
{
  struct broker_words words = {0};
  const struct option rows[] = {
      {.short_name = 'c',
       .name = "config",
       .argument = "FILE",
       .help = "the configuration, YAML; without one: a listener on mqtt://127.0.0.1:1883",
       .kind = OPTION_TEXT,
       .offset = offsetof(struct broker_words, file)},
      {.name = "listen",
       .argument = "URL",
       .help = "listen here instead of where the file says; may be repeated:\n"
               "mqtt://HOST:PORT, ws://HOST:PORT/PATH, unix:///PATH, systemd://NAME",
       .kind = OPTION_APPLY,
       .apply = add_listen},
      {.name = "data",
       .argument = "DIR",
       .help = "where the broker keeps its data (broker.data)",
       .kind = OPTION_APPLY,
       .apply = set_data},
      {.name = "set",
       .argument = "KEY=VALUE",
       .help = "override a key of the file, such as limits.connections=500; may be repeated",
       .kind = OPTION_APPLY,
       .apply = add_setting},
  };
  const struct option_section section = {
      .title = "Options", .options = rows, .count = sizeof rows / sizeof rows[0], .target = &words};
  const struct option_command command = {
      .name = "broker",
      .summary = "Runs an MQTT broker (3.1, 3.1.1 and 5.0) until SIGTERM or SIGINT. SIGHUP reloads the configuration.",
      .usage = "[-c FILE] [--listen URL]... [--data DIR] [--set KEY=VALUE]...",
      .notes =
          "Exits with 0 after a stop, 2 when the command line or the configuration is wrong, 1 when something fails at run\n"
          "time. \"skerry help config\" explains all keys, \"skerry check FILE\" checks a configuration.",
      .sections = &section,
      .section_count = 1,
  };
  int positional;
  int exit_code = options_begin(&command, argc, argv, &positional);
  if (exit_code >= 0) return exit_code;
  const struct broker_options options = {.source = {.file = words.file,
                                                    .settings = words.settings,
                                                    .setting_count = words.setting_count,
                                                    .listen = words.listen,
                                                    .listen_count = words.listen_count},
                                         .version = SKERRY_VERSION};
  return (int)broker_run(&options);
}
