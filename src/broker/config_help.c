#include "broker/config_help.h"

#include <string.h>

#include "broker/config_schema.h"

enum { WIDTH = 88, INDENT = 6, TEXT_SIZE = 200 };

static const char type_help[] =
    "Sizes are written as 512, 64KiB, 1MiB or 2GiB, durations as 500ms, 10s, 5m, 1h, 7d or 1h30m.";
static const char override_help[] =
    "On the command line, --set limits.connections=100 or --set 'listeners[0].anonymous=false' "
    "overrides the file.";
static const char reload_help[] =
    "SIGHUP reads the file again. A reload is all or nothing: with a mistake in the file, or a change to a "
    "key that needs a restart, everything stays as it was, and the log says why.";

static void print_wrapped(FILE *out, const char *text, size_t indent)
{
  size_t column = 0;
  while (*text) {
    size_t size = strcspn(text, " ");
    if (column && column + 1 + size > WIDTH - indent) {
      fprintf(out, "\n");
      column = 0;
    }
    fprintf(out, "%*s%.*s", column ? 1 : (int)indent, "", (int)size, text);
    column += size + (column ? 1 : 0);
    text += size;
    while (*text == ' ') text++;
  }
  fprintf(out, "\n");
}

static const char *default_of(const struct config_key *key)
{
  return key->default_text ? key->default_text : key->default_note;
}

static void print_path(FILE *out, const struct config_key *key)
{
  char path[2 * CONFIG_NAME_SIZE];
  config_key_path(key, path, sizeof path);
  fprintf(out, "%s", path);
}

static void print_key(FILE *out, const struct config_key *key)
{
  char expected[TEXT_SIZE];
  char line[2 * TEXT_SIZE];
  config_value_expected(key, expected, sizeof expected);
  fprintf(out, "  ");
  print_path(out, key);
  fprintf(out, "\n");
  print_wrapped(out, key->help, INDENT);
  snprintf(line, sizeof line, "Takes %s. Default: %s.%s", expected, default_of(key),
           key->reloadable ? "" : " Needs a restart.");
  print_wrapped(out, line, INDENT);
}

// The keys that stand at the top themselves are about one thing.
static const char *title_of(const struct config_section *section)
{
  return section->name[0] ? section->name : "acl";
}

static void print_section(FILE *out, const struct config_section *section)
{
  fprintf(out, "%s:\n", title_of(section));
  print_wrapped(out, section->help, 2);
  for (size_t i = 0; i < config_key_count; i++) {
    if (strcmp(config_keys[i].section, section->name) != 0) continue;
    fprintf(out, "\n");
    print_key(out, &config_keys[i]);
  }
}

void config_help_overview(FILE *out)
{
  print_wrapped(
      out,
      "The broker is configured by a YAML file (skerry broker -c FILE). Every key has a default; \"skerry check FILE\" says "
      "what is wrong in a file.",
      0);
  fprintf(out, "\n");
  print_wrapped(out, type_help, 0);
  print_wrapped(out, override_help, 0);
  fprintf(out, "\n");
  print_wrapped(out, reload_help, 0);
  for (size_t i = 0; i < config_section_count; i++) {
    fprintf(out, "\n");
    print_section(out, &config_sections[i]);
  }
}

enum status config_help_topic(FILE *out, const char *topic, struct error *error)
{
  char section[CONFIG_NAME_SIZE];
  char message[CONFIG_UNKNOWN_KEY_SIZE];
  (void)config_section_of(topic, section);
  const struct config_key *top = config_find_key("", topic);
  if (top) {
    if (strcmp(topic, title_of(config_find_section(""))) == 0)
      print_section(out, config_find_section(""));
    else
      print_key(out, top);
    return OK;
  }
  const struct config_section *found = section[0] ? config_find_section(section) : NULL;
  if (!found) {
    config_unknown_key(NULL, section, message, sizeof message);
    return error_set(error, ERR_NOT_FOUND, "%s: %s", section, message);
  }
  const char *name = strchr(topic, '.');
  if (!name) {
    print_section(out, found);
    return OK;
  }
  const struct config_key *key = config_find_key(section, name + 1);
  if (!key) {
    config_unknown_key(section, name + 1, message, sizeof message);
    return error_set(error, ERR_NOT_FOUND, "%.80s: %s", topic, message);
  }
  print_key(out, key);
  return OK;
}

// ---- Markdown

// Text inside a table's cell.
static void print_cell(FILE *out, const char *text)
{
  for (; *text; text++) {
    if (strchr("|*<", *text)) fputc('\\', out);
    fputc(*text, out);
  }
}

static void print_row(FILE *out, const struct config_key *key)
{
  char expected[TEXT_SIZE];
  config_value_expected(key, expected, sizeof expected);
  fprintf(out, "| `");
  print_path(out, key);
  fprintf(out, "` | ");
  if (key->default_text)
    fprintf(out, "`%s`", key->default_text);
  else
    print_cell(out, key->default_note);
  fprintf(out, " | ");
  print_cell(out, expected);
  fprintf(out, " | %s | ", key->reloadable ? "reload" : "restart");
  print_cell(out, key->help);
  fprintf(out, " |\n");
}

void config_help_markdown(FILE *out)
{
  fprintf(
      out,
      "# Configuration\n\n"
      "This page is made from the program's own table of keys: `skerry help config --markdown > docs/configuration.md`.\n\n"
      "`skerry broker -c FILE` reads a YAML file; every key in it has a default, and without a file the broker listens on\n"
      "`mqtt://127.0.0.1:1883`. `skerry check FILE` lists all mistakes in a file with line and column, and exits with 2 "
      "when\n"
      "there are any. `skerry help config limits.packet_size` shows one key.\n\n");
  fprintf(out, "%s\n\n%s\n\n%s\nThe column \"changes by\" says which keys a reload can change.\n", type_help, override_help,
          reload_help);
  for (size_t i = 0; i < config_section_count; i++) {
    const struct config_section *section = &config_sections[i];
    fprintf(out, "\n## %s\n\n%s\n\n| Key | Default | Takes | Changes by | Meaning |\n|---|---|---|---|---|\n",
            title_of(section), section->help);
    for (size_t j = 0; j < config_key_count; j++)
      if (strcmp(config_keys[j].section, section->name) == 0) print_row(out, &config_keys[j]);
  }
}
