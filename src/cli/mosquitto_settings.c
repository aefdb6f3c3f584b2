#include "cli/mosquitto_settings.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"

struct reader {
  struct mosquitto_conf *conf;
  struct mosquitto_settings *settings;
  struct mosquitto_listener *listener;  // that what follows is of; in each file the default one at first
  const char *file;
  bool bridge;            // below "connection"
  bool security_started;  // a directive that per_listener_settings would have to stand in front of
};

// ---- Values

static size_t first_word(const char *text)
{
  return strcspn(text, " ");
}

static bool word_is(const char *text, const char *word)
{
  return strlen(word) == first_word(text) && strncmp(text, word, strlen(word)) == 0;
}

static bool read_number(struct reader *reader, const struct mosquitto_line *line,
                        const struct mosquitto_directive *directive, long long *out)
{
  long long maximum = directive->maximum ? directive->maximum : INT32_MAX;
  char *end;
  errno = 0;
  long long number = strtoll(line->value, &end, 10);
  if (errno == 0 && end != line->value && (*end == '\0' || *end == ' ') && number >= directive->minimum &&
      number <= maximum) {
    *out = number;
    return true;
  }
  mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "\"%.60s\" is not a whole number from %lld to %lld", line->value,
                 directive->minimum, maximum);
  return false;
}

static bool read_bool(struct reader *reader, const struct mosquitto_line *line, long long *out)
{
  bool yes = word_is(line->value, "true") || word_is(line->value, "1");
  bool no = word_is(line->value, "false") || word_is(line->value, "0");
  *out = yes;
  if (!yes && !no) mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "\"%.60s\" is neither true nor false", line->value);
  return yes || no;
}

// Whether the value says what would be without the directive: "" for nothing at all, true and false in their two forms.
static bool says(const char *value, const char *what)
{
  if (!what) return false;
  if (strcmp(what, "true") == 0 && word_is(value, "1")) return true;
  if (strcmp(what, "false") == 0 && word_is(value, "0")) return true;
  return word_is(value, what);
}

// ---- Directives that are not just a value

static void take_listener(struct reader *reader, const struct mosquitto_line *line)
{
  struct mosquitto_settings *settings = reader->settings;
  char *end;
  errno = 0;
  long port = strtol(line->value, &end, 10);
  size_t blanks = strspn(end, " \t");
  const char *host = end + blanks;  // up to a space; a comment is none
  size_t size = *host == '#' ? 0 : first_word(host);
  if (errno || end == line->value || (*end && blanks == 0) || port < 0 || port > UINT16_MAX || (port == 0 && size == 0)) {
    mosquitto_find(reader->conf, MOSQUITTO_ERROR, line,
                   "\"%.60s\" is no port from 1 to 65535 with perhaps an address behind it, nor 0 and a path", line->value);
    return;
  }
  if (settings->listener_count > MOSQUITTO_MAX_LISTENERS) {
    mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "there are more than %d listeners", MOSQUITTO_MAX_LISTENERS);
    return;
  }
  reader->listener = &settings->listeners[settings->listener_count++];
  *reader->listener = (struct mosquitto_listener){.line = line, .port = (uint16_t)port, .unix_socket = port == 0};
  if (size == 0) return;
  reader->listener->host = strndup(host, size);
  if (!reader->listener->host) reader->conf->short_of_memory = true;
}

static void take_per_listener(struct reader *reader, const struct mosquitto_line *line)
{
  long long number;
  if (!read_bool(reader, line, &number)) return;
  // Mosquitto minds only when it is turned on. Turned off again, it takes back what was said of a listener.
  if ((number != 0) != mosquitto_true(reader->settings->per_listener) && reader->security_started)
    mosquitto_find(
        reader->conf, MOSQUITTO_ERROR, line,
        "has to stand in front of everything that it is about (allow_anonymous, password_file, acl_file, psk_file ...)");
  reader->settings->per_listener = (struct mosquitto_setting){.line = line, .number = number};
}

// "2m", "14d": hours, days, weeks, months, years, as Mosquitto counts them.
static void take_expiration(struct reader *reader, const struct mosquitto_line *line)
{
  static const struct {
    char unit;
    long long seconds;
  } units[] = {{'h', 3600}, {'d', 86400}, {'w', 86400 * 7}, {'m', 86400 * 30}, {'y', 86400LL * 365}};
  char *end;
  errno = 0;
  long long number = strtoll(line->value, &end, 10);
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    if (errno || number < 1 || end[0] != units[i].unit || (end[1] && end[1] != ' ') || number > UINT32_MAX) continue;
    reader->settings->expiration = (struct mosquitto_setting){.line = line, .number = number * units[i].seconds};
    return;
  }
  mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "\"%.60s\" is not a number and one of h, d, w, m, y", line->value);
}

static void take_log_dest(struct reader *reader, const struct mosquitto_line *line)
{
  bool console = word_is(line->value, "stderr") || word_is(line->value, "stdout");
  mosquitto_find(reader->conf, console ? MOSQUITTO_IDLE : MOSQUITTO_LOST, line,
                 "logs go to standard error and nowhere else; the service manager puts them where they shall be");
}

static void take_log_type(struct reader *reader, const struct mosquitto_line *line)
{
  static const struct {
    const char *word;
    unsigned type;
  } types[] = {{"all", MOSQUITTO_LOG_DEBUG},       {"debug", MOSQUITTO_LOG_DEBUG},     {"information", MOSQUITTO_LOG_INFO},
               {"notice", MOSQUITTO_LOG_INFO},     {"warning", MOSQUITTO_LOG_WARNING}, {"error", MOSQUITTO_LOG_ERROR},
               {"none", MOSQUITTO_LOG_ERROR},      {"subscribe", MOSQUITTO_LOG_DEBUG}, {"unsubscribe", MOSQUITTO_LOG_DEBUG},
               {"websockets", MOSQUITTO_LOG_INFO}, {"internal", MOSQUITTO_LOG_DEBUG}};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    if (!word_is(line->value, types[i].word)) continue;
    reader->settings->log_types |= types[i].type;
    return;
  }
  mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "\"%.60s\" is no type of log message", line->value);
}

static void take_own(struct reader *reader, const struct mosquitto_line *line)
{
  static const struct {
    const char *name;
    void (*take)(struct reader *reader, const struct mosquitto_line *line);
  } own[] = {{"listener", take_listener},
             {"per_listener_settings", take_per_listener},
             {"persistent_client_expiration", take_expiration},
             {"log_dest", take_log_dest},
             {"log_type", take_log_type}};
  for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
    if (strcmp(line->name, own[i].name) == 0) own[i].take(reader, line);
}

// ---- Lines

static void *place_of(struct reader *reader, const struct mosquitto_directive *directive)
{
  struct mosquitto_settings *settings = reader->settings;
  switch (directive->scope) {
    case SCOPE_GLOBAL: return (char *)settings + directive->offset;
    case SCOPE_LISTENER: return (char *)reader->listener + directive->offset;
    case SCOPE_FIRST: return (char *)&settings->listeners[0] + directive->offset;
    case SCOPE_SECURITY: break;
  }
  reader->security_started = true;
  bool of_listener = mosquitto_true(settings->per_listener);
  return (char *)(of_listener ? &reader->listener->security : &settings->security) + directive->offset;
}

static void take(struct reader *reader, const struct mosquitto_line *line, const struct mosquitto_directive *directive)
{
  if (directive->kind == KIND_OWN) {
    take_own(reader, line);
    return;
  }
  struct mosquitto_setting *setting = place_of(reader, directive), value = {.line = line};
  if (directive->kind == KIND_NUMBER && !read_number(reader, line, directive, &value.number)) return;
  if (directive->kind == KIND_BOOL && !read_bool(reader, line, &value.number)) return;
  if (directive->kind == KIND_TEXT && setting->line) {
    mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "is given twice; it stands in line %u of %s too",
                   setting->line->number, setting->line->file);
    return;
  }
  *setting = value;
  bool security = directive->scope == SCOPE_SECURITY && directive->kind == KIND_TEXT &&
                  strcmp(directive->name, "acl_file") != 0 && mosquitto_true(reader->settings->per_listener);
  struct mosquitto_listener *listener = directive->scope == SCOPE_FIRST ? &reader->settings->listeners[0] : reader->listener;
  if (!listener->line && (security || (directive->opens && !says(line->value, directive->opens)))) listener->opened = true;
}

static bool is_name(const char *name, const char *pattern)
{
  size_t size = strlen(pattern);
  if (size > 0 && pattern[size - 1] == '*') return strncmp(name, pattern, size - 1) == 0;
  return strcmp(name, pattern) == 0;
}

static void find_unknown(struct reader *reader, const struct mosquitto_line *line)
{
  const char **names = calloc(mosquitto_directive_count, sizeof *names);
  for (size_t i = 0; names && i < mosquitto_directive_count; i++) names[i] = mosquitto_directives[i].name;
  const char *nearest = names && strlen(line->name) < 64 ? nearest_name(line->name, names, mosquitto_directive_count) : NULL;
  if (nearest)
    mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "is no directive of Mosquitto; did it mean \"%s\"?", nearest);
  else
    mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "is no directive of Mosquitto");
  free(names);
}

static void read_directive(struct reader *reader, const struct mosquitto_line *line,
                           const struct mosquitto_directive *directive)
{
  if (directive->fate == DIRECTIVE_BRIDGE && strcmp(line->name, "connection") != 0 && !reader->bridge) {
    mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "stands outside of a bridge: there is no \"connection\" above it");
    return;
  }
  if (line->value[0] == '\0') {
    mosquitto_find(reader->conf, MOSQUITTO_ERROR, line, "has no value");
    return;
  }
  switch (directive->fate) {
    case DIRECTIVE_TAKEN: take(reader, line, directive); return;
    case DIRECTIVE_IDLE: mosquitto_find(reader->conf, MOSQUITTO_IDLE, line, "%s", directive->why); return;
    case DIRECTIVE_BRIDGE:
      reader->bridge = true;
      mosquitto_find(reader->conf, MOSQUITTO_LOST, line, "%s", directive->why);
      return;
    case DIRECTIVE_LOST:
    case DIRECTIVE_REFUSED: break;
  }
  if (says(line->value, directive->harmless)) return;
  enum mosquitto_gravity gravity = directive->fate == DIRECTIVE_LOST ? MOSQUITTO_LOST : MOSQUITTO_ERROR;
  mosquitto_find(reader->conf, gravity, line, "%s", directive->why);
}

static void read_line(struct reader *reader, const struct mosquitto_line *line)
{
  for (size_t i = 0; i < mosquitto_directive_count; i++) {
    if (!is_name(line->name, mosquitto_directives[i].name)) continue;
    read_directive(reader, line, &mosquitto_directives[i]);
    return;
  }
  find_unknown(reader, line);
}

// ---- All of it

// Without any listener there is one for this machine alone.
static void complete(struct reader *reader)
{
  struct mosquitto_settings *settings = reader->settings;
  struct mosquitto_listener *first = &settings->listeners[0];
  first->port = first->port_given.line ? (uint16_t)first->port_given.number : 1883;
  first->local_only = !first->opened && settings->listener_count == 1;
  if (!first->bind_address.line) return;
  first->host = strdup(first->bind_address.line->value);
  if (!first->host) reader->conf->short_of_memory = true;
}

// Every file begins at the default listener; behind an include_dir the file that it stands in goes on where it was.
void mosquitto_settings_read(struct mosquitto_conf *conf, struct mosquitto_settings *out)
{
  *out = (struct mosquitto_settings){.listener_count = 1};
  struct reader reader = {.conf = conf, .settings = out, .listener = &out->listeners[0]}, main = reader;
  const char *main_file = conf->line_count > 0 ? conf->lines[0].file : NULL;
  reader.file = main_file;
  for (size_t i = 0; i < conf->line_count; i++) {
    const struct mosquitto_line *line = &conf->lines[i];
    if (line->file != reader.file) {
      bool returns = line->file == main_file;
      if (reader.file == main_file) main = reader;
      reader.listener = returns ? main.listener : &out->listeners[0];
      reader.bridge = returns && main.bridge;
      reader.file = line->file;
    }
    read_line(&reader, line);
  }
  complete(&reader);
}

void mosquitto_settings_deinit(struct mosquitto_settings *settings)
{
  for (size_t i = 0; i < settings->listener_count; i++) free(settings->listeners[i].host);
  *settings = (struct mosquitto_settings){0};
}
