// skerry broker: the command line of the broker process.
#include <stdio.h>

#include "broker/broker.h"
#include "cli/commands.h"
#include "cli/options.h"

enum { MAX_LISTEN = 64 };

struct broker_words {
  const char *file;
  struct option_texts settings, listen;
  char data[4096];
};

static enum status set_data(void *target, struct option_words *rest, struct error *error)
{
  struct broker_words *words = target;
  const char *directory = option_word(rest);
  int size = snprintf(words->data, sizeof words->data, "broker.data=%s", directory);
  if (size < 0 || (size_t)size >= sizeof words->data) return error_set(error, ERR_INVALID, "the path is too long");
  return option_texts_add(&words->settings, words->data, 0, error);
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
       .kind = OPTION_TEXTS,
       .offset = offsetof(struct broker_words, listen),
       .maximum = MAX_LISTEN},
      {.name = "data",
       .argument = "DIR",
       .help = "where the broker keeps its data (broker.data)",
       .kind = OPTION_APPLY,
       .apply = set_data},
      {.name = "set",
       .argument = "KEY=VALUE",
       .help = "override a key of the file, such as limits.connections=500; may be repeated",
       .kind = OPTION_TEXTS,
       .offset = offsetof(struct broker_words, settings)},
  };
  const struct option_section section = OPTION_SECTION("Options", rows, &words);
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
                                                    .settings = words.settings.at,
                                                    .setting_count = words.settings.count,
                                                    .listen = words.listen.at,
                                                    .listen_count = words.listen.count},
                                         .version = SKERRY_VERSION};
  return (int)broker_run(&options);
}
