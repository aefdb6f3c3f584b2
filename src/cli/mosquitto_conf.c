#include "cli/mosquitto_conf.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void mosquitto_conf_deinit(struct mosquitto_conf *conf)
{
  for (size_t i = 0; i < conf->line_count; i++) {
    free(conf->lines[i].name);
    free(conf->lines[i].value);
  }
  for (size_t i = 0; i < conf->file_count; i++) free(conf->files[i]);
  for (size_t i = 0; i < conf->finding_count; i++) free(conf->findings[i].text);
  free(conf->lines);
  free(conf->files);
  free(conf->findings);
  *conf = (struct mosquitto_conf){0};
}

// Texts come from files: no control character of theirs reaches a terminal, or ends a comment.
static void disarm(char *text)
{
  for (; *text; text++)
    if ((unsigned char)*text < ' ' || *text == 0x7f) *text = '?';
}

const char *mosquitto_conf_file(struct mosquitto_conf *conf, const char *name)
{
  char **files = reallocarray(conf->files, conf->file_count + 1, sizeof *files);
  char *copy = files ? strdup(name) : NULL;
  if (files) conf->files = files;
  if (!copy) {
    conf->short_of_memory = true;
    return NULL;
  }
  disarm(copy);
  return conf->files[conf->file_count++] = copy;
}

// ---- Findings

static void keep_finding(struct mosquitto_conf *conf, enum mosquitto_gravity gravity, char *text)
{
  conf->counts[gravity]++;
  // There is an end to what anybody reads; what decides is the counts.
  if (conf->finding_count >= MOSQUITTO_MAX_FINDINGS) {
    free(text);
    return;
  }
  struct mosquitto_finding *findings = reallocarray(conf->findings, conf->finding_count + 1, sizeof *findings);
  if (!findings) {
    conf->short_of_memory = true;
    free(text);
    return;
  }
  conf->findings = findings;
  disarm(text);
  findings[conf->finding_count++] = (struct mosquitto_finding){.gravity = gravity, .text = text};
}

void mosquitto_find(struct mosquitto_conf *conf, enum mosquitto_gravity gravity, const struct mosquitto_line *line,
                    const char *format, ...)
{
  char *what = NULL, *text = NULL;
  va_list arguments;
  va_start(arguments, format);
  int size = vasprintf(&what, format, arguments);
  va_end(arguments);
  if (size < 0) {
    conf->short_of_memory = true;
    return;
  }
  if (line) {
    size = asprintf(&text, "%s:%u: %.80s: %s", line->file, line->number, line->name, what);
    free(what);
  } else {
    text = what;
  }
  if (size < 0)
    conf->short_of_memory = true;
  else
    keep_finding(conf, gravity, text);
}

// ---- Lines

static bool is_blank(uint8_t byte)
{
  return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\f' || byte == '\v';
}

static struct span trimmed(struct span text)
{
  while (text.size > 0 && is_blank(text.at[0])) text = span_from(text, 1);
  while (text.size > 0 && is_blank(text.at[text.size - 1])) text.size--;
  return text;
}

static bool is_text(struct span text)
{
  while (text.size > 0) {
    size_t size = text.at[0] != 0 ? utf8_next(text).size : 0;
    if (size == 0) return false;
    text = span_from(text, size);
  }
  return true;
}

static struct mosquitto_line *add_line(struct mosquitto_conf *conf, const char *file, unsigned number, struct span name,
                                       struct span value)
{
  if (conf->line_count == conf->line_capacity) {
    size_t capacity = conf->line_capacity ? conf->line_capacity * 2 : 64;
    struct mosquitto_line *lines = reallocarray(conf->lines, capacity, sizeof *lines);
    if (lines) {
      conf->lines = lines;
      conf->line_capacity = capacity;
    }
  }
  struct mosquitto_line line = {.file = file, .number = number};
  if (conf->line_count < conf->line_capacity) {
    line.name = strndup((const char *)name.at, name.size);
    line.value = value.size > 0 ? strndup((const char *)value.at, value.size) : strdup("");
  }
  if (!line.name || !line.value) {
    conf->short_of_memory = true;
    free(line.name);
    free(line.value);
    return NULL;
  }
  conf->lines[conf->line_count] = line;
  return &conf->lines[conf->line_count++];
}

// A line is a comment only when '#' is its very first character. Blanks in front are skipped, and the name ends at a space.
static const struct mosquitto_line *read_line(struct mosquitto_conf *conf, const char *file, unsigned number,
                                              struct span text)
{
  while (text.size > 0 && text.at[text.size - 1] == '\r') text.size--;
  if (text.size == 0 || text.at[0] == '#') return NULL;
  if (!is_text(text)) {
    mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "%s:%u: is not UTF-8 text", file, number);
    return NULL;
  }
  while (text.size > 0 && text.at[0] == ' ') text = span_from(text, 1);
  const uint8_t *space = text.size > 0 ? memchr(text.at, ' ', text.size) : NULL;
  size_t size = space ? (size_t)(space - text.at) : text.size;
  if (size == 0) return NULL;
  return add_line(conf, file, number, span_of(text.at, size), trimmed(span_from(text, size)));
}

void mosquitto_conf_read(struct mosquitto_conf *conf, const char *name, struct span *text, unsigned *number,
                         size_t *out_include)
{
  if (out_include) *out_include = SIZE_MAX;
  while (text->size > 0 && !conf->short_of_memory) {
    if (conf->line_count >= MOSQUITTO_MAX_LINES) {
      mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "%s:%u: there are more than %d lines; this is no mosquitto.conf", name,
                     *number, MOSQUITTO_MAX_LINES);
      return;
    }
    const uint8_t *end = memchr(text->at, '\n', text->size);
    struct span one = span_of(text->at, end ? (size_t)(end - text->at) : text->size);
    *text = span_from(*text, one.size + (end != NULL));
    const struct mosquitto_line *line = read_line(conf, name, ++*number, one);
    if (!line || !out_include || strcmp(line->name, "include_dir") != 0) continue;
    *out_include = conf->line_count - 1;
    return;
  }
}

int mosquitto_compare_names(const char *a, const char *b)
{
  for (; *a && *a == *b; a++, b++) continue;
  unsigned char left = (unsigned char)*a, right = (unsigned char)*b;
  int letters = toupper(left) - toupper(right);
  return letters ? letters : left - right;
}
