// Reads the configuration: its YAML, which config_tree.c goes through, and what the command line puts over it. All mistakes
// are collected, not only the first.
#include "broker/config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "base/utf8.h"
#include "broker/config_schema.h"

enum { PATH_SIZE = 128, MAX_DEPTH = 16, MAX_ANCHORS = 1000 };

// ---- YAML

struct loader {
  const char *file;
  struct config *config;
  struct diagnostics *diagnostics;
  bool failed;
};

#define COMPLAIN(loader, mark, ...)                                                                                         \
  do {                                                                                                                      \
    (loader)->failed = true;                                                                                                \
    (void)diagnostics_add((loader)->diagnostics, (loader)->file, (mark), __VA_ARGS__);                                      \
  } while (0)

static struct config_mark mark_of(const yaml_mark_t *mark)
{
  return (struct config_mark){.line = (uint32_t)mark->line + 1, .column = (uint32_t)mark->column + 1};
}

static struct config_mark mark_of_offset(struct span text, size_t offset)
{
  struct config_mark mark = {.line = 1, .column = 1};
  for (size_t i = 0; i < offset && i < text.size; i++) {
    mark.column++;
    if (text.at[i] != '\n') continue;
    mark.line++;
    mark.column = 1;
  }
  return mark;
}

static void complain_syntax(struct loader *loader, const yaml_parser_t *parser, struct span text)
{
  if (parser->error == YAML_READER_ERROR) {
    COMPLAIN(loader, mark_of_offset(text, parser->problem_offset), "not YAML: %s", parser->problem);
    return;
  }
  if (parser->error == YAML_MEMORY_ERROR) {
    COMPLAIN(loader, (struct config_mark){0}, "out of memory");
    return;
  }
  size_t at = parser->problem_mark.index;
  bool tab = at < text.size && text.at[at] == '\t';
  struct config_mark mark = mark_of(&parser->problem_mark);
  COMPLAIN(loader, mark, "not YAML: %s%s%s%s", parser->problem ? parser->problem : "it cannot be read",
           parser->context ? " " : "", parser->context ? parser->context : "",
           tab ? "; indent with spaces, not with tabs" : "");
}

static bool check_utf8(struct loader *loader, struct span text)
{
  struct span rest = text;
  while (rest.size) {
    size_t size = rest.at[0] < 0x80 ? 1 : utf8_next(rest).size;
    if (size == 0) {
      COMPLAIN(loader, mark_of_offset(text, text.size - rest.size), "not UTF-8: byte 0x%02x; save the file as UTF-8",
               rest.at[0]);
      return false;
    }
    rest = span_from(rest, size);
  }
  return true;
}

static void load_document(struct loader *loader, yaml_parser_t *parser, struct span text)
{
  yaml_document_t document;
  if (!yaml_parser_load(parser, &document)) {
    complain_syntax(loader, parser, text);
    return;
  }
  const yaml_node_t *root = yaml_document_get_root_node(&document);
  if (!config_load_tree(loader->config, loader->file, text, &document, loader->diagnostics)) loader->failed = true;
  yaml_document_delete(&document);
  if (!root) return;

  if (!yaml_parser_load(parser, &document)) {
    complain_syntax(loader, parser, text);
    return;
  }
  root = yaml_document_get_root_node(&document);
  struct config_mark mark = root ? mark_of(&root->start_mark) : (struct config_mark){0};
  if (root) COMPLAIN(loader, mark, "a second document starts here; keep one");
  yaml_document_delete(&document);
}

static const char *event_anchor(const yaml_event_t *event)
{
  switch (event->type) {
    case YAML_SCALAR_EVENT: return (const char *)event->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT: return (const char *)event->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT: return (const char *)event->data.mapping_start.anchor;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
    case YAML_ALIAS_EVENT:
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: return NULL;
  }
  return NULL;
}

// libyaml's time grows with the square of the nesting and of the anchors: a file of 1 MiB could take minutes. So a first
// pass, which needs no tree, looks for more of either than any configuration has. Mistakes in the YAML are left to the
// second pass.
static bool check_shape(struct loader *loader, struct span text)
{
  yaml_parser_t parser;
  yaml_event_t event;
  size_t depth = 0;
  size_t anchors = 0;
  const char *wrong = NULL;
  if (!yaml_parser_initialize(&parser)) return true;  // the second pass says so
  yaml_parser_set_input_string(&parser, text.at, text.size);
  for (bool more = true; more && !wrong && yaml_parser_parse(&parser, &event);) {
    yaml_event_type_t type = event.type;
    if (type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT) depth++;
    if (type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT) depth--;
    if (event_anchor(&event)) anchors++;
    if (depth > MAX_DEPTH) wrong = "sections and lists are nested too deep; no key needs more than five levels";
    if (anchors > MAX_ANCHORS) wrong = "there are more than 1000 anchors; remove those that no alias uses";
    struct config_mark mark = mark_of(&event.start_mark);
    if (wrong) COMPLAIN(loader, mark, "%s", wrong);
    more = type != YAML_STREAM_END_EVENT && type != YAML_NO_EVENT;
    yaml_event_delete(&event);
  }
  yaml_parser_delete(&parser);
  return !wrong;
}

static void load_yaml(struct loader *loader, struct span text)
{
  if (!text.at) text = span_text("");
  if (text.size > CONFIG_MAX_FILE) {
    COMPLAIN(loader, (struct config_mark){0}, "the file is larger than 1MiB; this is no configuration");
    return;
  }
  if (!check_utf8(loader, text) || !check_shape(loader, text)) return;
  yaml_parser_t parser;
  if (!yaml_parser_initialize(&parser)) {
    COMPLAIN(loader, (struct config_mark){0}, "out of memory");
    return;
  }
  yaml_parser_set_input_string(&parser, text.at, text.size);
  load_document(loader, &parser, text);
  yaml_parser_delete(&parser);
}

// ---- Overrides

static void apply_listen(struct loader *loader, const struct config_source *source)
{
  struct config *config = loader->config;
  if (source->listen_count == 0) return;
  config_clear_listeners(config);
  for (size_t i = 0; i < source->listen_count; i++) {
    struct error error;
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "listeners[%zu].url", config->listener_count);
    if (config_set(config, path, source->listen[i], &error) == OK) continue;
    loader->failed = true;
    (void)diagnostics_add(loader->diagnostics, NULL, (struct config_mark){0}, "--listen %s: %s", source->listen[i],
                          error.text);
  }
}

static void apply_setting(struct loader *loader, const char *setting)
{
  struct error error;
  const char *equals = strchr(setting, '=');
  char path[PATH_SIZE];
  size_t size = equals ? (size_t)(equals - setting) : 0;
  if (!equals || size == 0 || size >= sizeof path) {
    loader->failed = true;
    (void)diagnostics_add(loader->diagnostics, NULL, (struct config_mark){0},
                          "--set %.60s: has no key and value; write --set limits.connections=100", setting);
    return;
  }
  memcpy(path, setting, size);
  path[size] = '\0';
  if (config_set(loader->config, path, equals + 1, &error) == OK) return;
  loader->failed = true;
  (void)diagnostics_add(loader->diagnostics, NULL, (struct config_mark){0}, "--set %s: %s", path, error.text);
}

// ---- Entry points

static enum status load(const struct span *text, const struct config_source *source, struct config *out,
                        struct diagnostics *diagnostics)
{
  struct config config;
  struct loader loader = {.file = source->file, .config = &config, .diagnostics = diagnostics};
  enum status status = config_init(&config);
  if (status == OK) {
    if (text) load_yaml(&loader, *text);
    apply_listen(&loader, source);
    for (size_t i = 0; i < source->setting_count; i++) apply_setting(&loader, source->settings[i]);
    status = config_resolve_paths(&config, source->file);
  }
  if (status == OK) {
    // Also after mistakes, so that all are told.
    if (!config_complete(&config, source->file, diagnostics)) loader.failed = true;
    status = loader.failed ? ERR_INVALID : OK;
  }
  if (status)
    config_deinit(&config);
  else
    *out = config;
  return status;
}

enum status config_load_text(struct span text, const struct config_source *source, struct config *out,
                             struct diagnostics *diagnostics)
{
  return load(&text, source, out, diagnostics);
}

// The whole file, but of a larger one only so much that it is seen to be too large. The caller frees it.
static enum status read_file(const char *path, char **out_text, size_t *out_size, int *out_errno)
{
  *out_errno = 0;
  char *text = malloc(CONFIG_MAX_FILE + 1);
  if (!text) return ERR_NO_MEMORY;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  size_t size = 0;
  ssize_t got = fd < 0 ? -1 : 1;
  while (got > 0 && size <= CONFIG_MAX_FILE) {
    got = read(fd, text + size, CONFIG_MAX_FILE + 1 - size);
    if (got < 0 && errno == EINTR)
      got = 1;
    else if (got > 0)
      size += (size_t)got;
  }
  if (got < 0) *out_errno = errno;
  if (fd >= 0) close(fd);
  if (got < 0) {
    free(text);
    return status_from_errno(*out_errno);
  }
  *out_text = text;
  *out_size = size;
  return OK;
}

enum status config_load(const struct config_source *source, struct config *out, struct diagnostics *diagnostics)
{
  if (!source->file) return load(NULL, source, out, diagnostics);
  char *text = NULL;
  size_t size = 0;
  int error_number;
  enum status status = read_file(source->file, &text, &size, &error_number);
  if (status) {
    (void)diagnostics_add(diagnostics, source->file, (struct config_mark){0}, "cannot be read: %s",
                          error_number ? strerror(error_number) : status_name(status));
    return status;
  }
  status = config_load_text(span_of(text, size), source, out, diagnostics);
  free(text);
  return status;
}
