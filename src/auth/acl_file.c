// Access control lists from files: which form it is, and what is wrong in it.

#include "auth/acl_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/acl_reading.h"
#include "base/utf8.h"
#include "tls/file.h"

enum { MAX_FILE = 16 << 20 };

// ---- Mistakes

void acl_complain(struct acl_reading *reading, size_t line, size_t column, const char *format, ...)
{
  reading->failed = true;
  if (reading->problem_count == ACL_MAX_PROBLEMS) return;
  char where[48] = "", *text = NULL, *whole = NULL;
  if (line && column)
    snprintf(where, sizeof where, ":%zu:%zu", line, column);
  else if (line)
    snprintf(where, sizeof where, ":%zu", line);
  va_list arguments;
  va_start(arguments, format);
  int size = vasprintf(&text, format, arguments);
  va_end(arguments);
  if (size >= 0 && asprintf(&whole, "%s%s: %s", reading->name, where, text) < 0) whole = NULL;
  if (size >= 0) free(text);
  if (!reading->problems) reading->problems = calloc(ACL_MAX_PROBLEMS, sizeof *reading->problems);
  if (whole && reading->problems) {
    reading->problems[reading->problem_count++] = whole;
  } else {
    reading->short_of_memory = true;
    free(whole);
  }
}

void acl_take(struct acl_reading *reading, const struct acl_rule *rule, size_t column)
{
  struct error error;
  enum status status = acl_add(reading->acl, rule, &error);
  if (status == ERR_NO_MEMORY) reading->short_of_memory = reading->failed = true;
  if (status && status != ERR_NO_MEMORY) acl_complain(reading, rule->line, column, "%s", error.text);
}

const char *acl_show(struct span text, char out[ACL_SHOWN + 1])
{
  size_t size = utf8_cut(text, text.size < ACL_SHOWN ? text.size : ACL_SHOWN);
  for (size_t i = 0; i < size; i++) out[i] = (char)(text.at[i] < ' ' || text.at[i] == 0x7f ? '?' : text.at[i]);
  out[size] = '\0';
  return out;
}

// ---- Which form

static struct span next_line(struct span text, size_t *cursor)
{
  struct span rest = span_from(text, *cursor);
  const uint8_t *end = rest.size > 0 ? memchr(rest.at, '\n', rest.size) : NULL;
  size_t size = end ? (size_t)(end - rest.at) : rest.size;
  *cursor += size + (end != NULL);
  return span_of(rest.at, size);
}

// The first line that is no comment says it. A key of YAML has a colon behind it.
static bool is_mosquitto(struct span text)
{
  static const char *const words[] = {"topic", "user", "pattern"};
  for (size_t cursor = 0; cursor < text.size;) {
    struct span line = next_line(text, &cursor);
    while (line.size > 0 && line.at[0] == ' ') line = span_from(line, 1);
    if (line.size == 0 || line.at[0] == '#' || line.at[0] == '\r') continue;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
      size_t size = strlen(words[i]);
      if (line.size > size && memcmp(line.at, words[i], size) == 0 && line.at[size] == ' ') return true;
    }
    while (line.size > 0 && strchr(" \t\r", line.at[0])) line = span_from(line, 1);
    if (line.size > 0 && line.at[0] != '#') return false;
  }
  return false;
}

static bool is_text(struct acl_reading *reading, struct span text)
{
  size_t line = 1, start = 0;
  for (size_t at = 0; at < text.size;) {
    size_t size = text.at[at] < 0x80 ? text.at[at] != 0 : utf8_next(span_from(text, at)).size;
    if (size == 0) {
      acl_complain(reading, line, at - start + 1, "not UTF-8 text: byte 0x%02x; save the file as UTF-8", text.at[at]);
      return false;
    }
    if (text.at[at] == '\n') {
      line++;
      start = at + 1;
    }
    at += size;
  }
  return true;
}

enum status acl_file_parse(struct span text, const char *name, struct acl **out, char ***out_problems, size_t *out_count)
{
  struct acl_reading reading = {.name = name};
  *out_problems = NULL;
  *out_count = 0;
  enum status status = acl_create(&reading.acl);
  if (status) return status;
  if (text.size > MAX_FILE)
    acl_complain(&reading, 0, 0, "is larger than 16MiB; this is no access control list");
  else if (!is_text(&reading, text))
    ;  // said
  else if (is_mosquitto(text))
    acl_read_mosquitto(&reading, text);
  else
    acl_read_yaml(&reading, text);
  *out_problems = reading.problems;
  *out_count = reading.problem_count;
  if (!reading.failed) {
    *out = reading.acl;
    return OK;
  }
  acl_unref(reading.acl);
  return reading.short_of_memory ? ERR_NO_MEMORY : ERR_INVALID;
}

// ---- Files

enum status acl_file_load(const char *path, struct acl **out, char ***out_problems, size_t *out_count)
{
  *out_problems = NULL;
  *out_count = 0;
  uint8_t *text = NULL;
  size_t size = 0;
  struct error error = {0};
  enum status status = file_read(path, "an access control list", MAX_FILE, &text, &size, &error);
  if (status == OK) {
    status = acl_file_parse(span_of(text, size), path, out, out_problems, out_count);
  } else {
    struct acl_reading reading = {.name = path};
    struct span whole = span_text(error.text), name = span_text(path);
    bool named = whole.size > name.size + 2 && memcmp(whole.at, name.at, name.size) == 0;
    acl_complain(&reading, 0, 0, "cannot be read: %s", named ? error.text + name.size + 2 : error.text);
    *out_problems = reading.problems;
    *out_count = reading.problem_count;
  }
  free(text);
  return status;
}
