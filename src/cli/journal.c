// skerry journal: looks into the directory in which a broker keeps what has to survive. Changes nothing there.
#include "cli/journal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "mqtt/topic.h"

void journal_complain(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  option_complain_list("journal", format, arguments);
  va_end(arguments);
}

// ---- Options

static enum status add_type(void *target, struct option_words *words, struct error *error)
{
  struct journal_options *options = target;
  const char *name = option_word(words);
  return journal_filter_add_type(&options->filter, name, error);
}

static enum status set_topic(void *target, struct option_words *words, struct error *error)
{
  struct journal_options *options = target;
  const char *text = option_word(words);
  struct mqtt_filter filter;
  if (!mqtt_filter_parse(span_text(text), &filter) || filter.share.size > 0)
    return error_set(error, ERR_INVALID, "\"%s\" is no topic filter", text);
  options->filter.topic = text;
  return OK;
}

static enum status set_segment(void *target, struct option_words *words, struct error *error)
{
  struct journal_options *options = target;
  const char *text = option_word(words);
  uint64_t segment = 0;
  enum status status = option_parse_uint(text, 1, UINT32_MAX, &segment, error);
  if (status == OK) options->filter.segment = (uint32_t)segment;
  return status;
}

static enum status set_payloads(void *target, struct option_words *words, struct error *error)
{
  struct journal_options *options = target;
  const char *text = option_word(words);
  if (strcmp(text, "text") == 0)
    options->payloads = LINE_BYTES_TEXT;
  else if (strcmp(text, "base64") == 0)
    options->payloads = LINE_BYTES_BASE64;
  else
    return error_set(error, ERR_INVALID, "needs text or base64 behind it");
  return OK;
}

#define FIELD(name) offsetof(struct journal_options, name)

static const struct option directory_rows[] = {
    {'c', "config", "FILE", "The journal of the broker with this configuration, instead of DIR.", OPTION_TEXT, FIELD(config),
     0, 0, NULL},
    {0, "set", "KEY=VALUE", "Override a key of that file, as \"skerry broker --set\" does; may be repeated.", OPTION_TEXTS,
     FIELD(settings), 0, 0, NULL},
    {0, "json", NULL, "Print JSON: info and verify one object, dump an object on each line.", OPTION_FLAG, FIELD(json), 0, 0,
     NULL},
};

static const struct option info_rows[] = {
    {0, "all", NULL, "Every session, not only the 20 with the longest queues.", OPTION_FLAG, FIELD(all), 0, 0, NULL},
};

static const struct option dump_rows[] = {
    {0, "session", "CLIENT_ID", "Only records that concern sessions of this client.", OPTION_TEXT, FIELD(filter.session), 0,
     0, NULL},
    {0, "topic", "FILTER", "Only messages, wills and retained entries whose topic matches.", OPTION_APPLY, 0, 0, 0,
     set_topic},
    {0, "type", "TYPE", "Only records of this type, such as message, done or subscribe; may be repeated.", OPTION_APPLY, 0,
     0, 0, add_type},
    {0, "from", "SEQUENCE", "Only from this sequence number on.", OPTION_UINT, FIELD(filter.from), 0, UINT64_MAX, NULL},
    {0, "to", "SEQUENCE", "Only up to this sequence number.", OPTION_UINT, FIELD(filter.to), 1, UINT64_MAX, NULL},
    {0, "segment", "N", "Only what is in this segment.", OPTION_APPLY, 0, 0, 0, set_segment},
    {0, "payload", "FORM",
     "Show payloads and properties too, which are left out otherwise: text (base64 where it is not UTF-8) or base64.",
     OPTION_APPLY, 0, 0, 0, set_payloads},
};

enum { SECTIONS = 3 };

static const char notes[] =
    "DIR is the directory with the segments, or the broker.data in which it is called journal. Nothing in it is changed, "
    "and\n"
    "no lock is taken: it may be that of a running broker.\n"
    "\n"
    "Exits with 0, with 1 when something in the journal is damaged, and with 2 when the command line is wrong or there is\n"
    "no journal that can be opened.\n"
    "\n"
    "  skerry journal info /var/lib/skerry\n"
    "  skerry journal verify -c /etc/skerry/skerry.yaml\n"
    "  skerry journal dump --session press-4 --type message --json /var/lib/skerry";

struct subcommand {
  const char *name;
  const char *title;  // as the options call it: "journal info"
  const char *summary;
  const char *usage;
  int (*run)(const struct journal_options *options);
  const struct option *rows;
  size_t row_count;
};

static const struct subcommand subcommands[] = {
    {"info", "journal info", "Says what a journal holds: segments, queues with depth and age, retained messages.",
     "[--all] [--json] DIR | -c FILE", journal_info, info_rows, sizeof info_rows / sizeof info_rows[0]},
    {"verify", "journal verify",
     "Checks every record of a journal, and that every message that waits is there; says what is damaged and what is lost.",
     "[--json] DIR | -c FILE", journal_verify, NULL, 0},
    {"dump", "journal dump", "Prints the records of a journal, a line each.", "[OPTIONS] DIR | -c FILE", journal_dump,
     dump_rows, sizeof dump_rows / sizeof dump_rows[0]},
};

enum { SUBCOMMANDS = sizeof subcommands / sizeof subcommands[0] };

// ---- Running

static int find_and_run(const struct subcommand *subcommand, struct journal_options *options, const char *where)
{
  struct error error = {0};
  enum status status =
      where ? journal_find(where, options->path, &error) : journal_find_configured(options, options->path, &error);
  if (status == OK) return subcommand->run(options);
  // What is wrong in a configuration was told line by line.
  if (error.text[0]) journal_complain("%s", error.text);
  return COMMAND_USAGE;
}

static int run(const struct subcommand *subcommand, int argc, char **argv)
{
  struct journal_options options = {0};
  const struct option_section sections[] = {
      OPTION_SECTION("Options", directory_rows, &options),
      {"What is shown", subcommand->rows, subcommand->row_count, &options},
  };
  const struct option_command command = {
      .name = subcommand->title,
      .summary = subcommand->summary,
      .usage = subcommand->usage,
      .notes = notes,
      .sections = sections,
      .section_count = subcommand->row_count > 0 ? 2 : 1,
      .positional_maximum = 1,
  };
  int positional = 0;
  int exit_code = options_begin(&command, argc, argv, &positional);
  if (exit_code >= 0) return exit_code;
  if (positional == 0 && !options.config) {
    journal_complain("no journal given; write \"skerry %s /var/lib/skerry\", or --config FILE", subcommand->title);
    return COMMAND_USAGE;
  }
  if (positional > 0 && options.config) {
    journal_complain("both %s and --config %s given; one of them says where the journal is", argv[1], options.config);
    return COMMAND_USAGE;
  }
  if (options.settings.count > 0 && !options.config) {
    journal_complain("--set overrides keys of a configuration: it needs --config FILE");
    return COMMAND_USAGE;
  }
  return find_and_run(subcommand, &options, positional > 0 ? argv[1] : NULL);
}

static void help(FILE *out)
{
  struct journal_options options = {0};
  const struct option_section sections[SECTIONS] = {
      OPTION_SECTION("Options", directory_rows, &options),
      OPTION_SECTION("info", info_rows, &options),
      OPTION_SECTION("dump", dump_rows, &options),
  };
  const struct option_command command = {
      .name = "journal",
      .summary = "Looks into the journal, where a broker keeps sessions, their queues and retained messages.",
      .usage = "info [--all] [--json] DIR | -c FILE     what it holds\n"
               "verify [--json] DIR | -c FILE           whether all of it is whole\n"
               "dump [OPTIONS] DIR | -c FILE            its records, a line each",
      .notes = notes,
      .sections = sections,
      .section_count = SECTIONS,
  };
  options_print_help(&command, out);
}

int journal_command(int argc, char **argv)
{
  const char *name = argc > 1 ? argv[1] : NULL;
  if (name && (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0 || strcmp(name, "-?") == 0)) {
    help(stdout);
    return COMMAND_OK;
  }
  for (size_t i = 0; name && i < SUBCOMMANDS; i++)
    if (strcmp(name, subcommands[i].name) == 0) return run(&subcommands[i], argc - 1, argv + 1);
  if (name)
    journal_complain("\"%s\" is none of info, verify and dump", name);
  else
    journal_complain("info, verify or dump has to follow");
  fprintf(stderr, "Try \"skerry journal --help\".\n");
  return COMMAND_USAGE;
}
