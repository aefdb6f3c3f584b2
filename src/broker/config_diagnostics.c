// Messages about a configuration, collected with their places.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/config.h"
#include "broker/config_schema.h"

enum { MESSAGE_SIZE = 700 };

bool diagnostics_add(struct diagnostics *diagnostics, const char *file, struct config_mark mark, const char *format, ...)
{
  if (diagnostics->count == CONFIG_MAX_DIAGNOSTICS) {
    diagnostics->more = true;
    return false;
  }
  char text[MESSAGE_SIZE];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  char *line = NULL;
  int size;
  if (file && mark.line)
    size = asprintf(&line, "%s:%u:%u: %s", file, mark.line, mark.column, text);
  else
    size = asprintf(&line, "%s%s%s", file ? file : "", file ? ": " : "", text);
  if (size < 0) return false;
  if (!diagnostics->texts) diagnostics->texts = calloc(CONFIG_MAX_DIAGNOSTICS, sizeof *diagnostics->texts);
  if (!diagnostics->texts) {
    free(line);
    return false;
  }
  diagnostics->texts[diagnostics->count++] = line;
  return true;
}

void diagnostics_deinit(struct diagnostics *diagnostics)
{
  for (size_t i = 0; i < diagnostics->count; i++) free(diagnostics->texts[i]);
  free(diagnostics->texts);
  *diagnostics = (struct diagnostics){0};
}

void config_complain(struct checker *checker, const struct listener_config *listener, size_t index, const char *key,
                     const char *format, ...)
{
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  checker->failed = true;
  const struct config_key *row = config_find_key("listeners", key);
  struct config_mark mark = row && row->type != CONFIG_URL ? listener->origin.marks[row - config_keys] : listener->mark;
  (void)diagnostics_add(checker->diagnostics, checker->file, mark.line ? mark : listener->mark, "listeners[%zu].%s: %s",
                        index, key, text);
}
