// Reads YAML with libyaml's document interface and fills a struct config by the table. All mistakes are collected, not only
// the first. Aliases are values like any other; merge keys ("<<") are not supported.
#include "broker/config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "base/utf8.h"
#include "broker/config_schema.h"

enum { MESSAGE_SIZE = 700, PATH_SIZE = 128, SHOWN_NAME = 60, MAX_DEPTH = 16, MAX_ANCHORS = 1000 };

// ---- Messages

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

// ---- The tree

struct loader {
  const char *file;
  struct config *config;
  struct diagnostics *diagnostics;
  yaml_document_t *document;
  bool failed;
  bool has_listeners;
};

static struct config_mark mark_of(const yaml_node_t *node)
{
  return (struct config_mark){.line = (uint32_t)node->start_mark.line + 1, .column = (uint32_t)node->start_mark.column + 1};
}

#define COMPLAIN(loader, mark, ...)                                                                                         \
  do {                                                                                                                      \
    (loader)->failed = true;                                                                                                \
    (void)diagnostics_add((loader)->diagnostics, (loader)->file, (mark), __VA_ARGS__);                                      \
  } while (0)

// A scalar's text, NULL when the node is none or holds a NUL.
static const char *scalar_text(const yaml_node_t *node)
{
  if (node->type != YAML_SCALAR_NODE) return NULL;
  const char *text = (const char *)node->data.scalar.value;
  return strlen(text) == node->data.scalar.length ? text : NULL;
}

// Nothing was written behind the colon, or one of YAML's words for it.
static bool is_null(const yaml_node_t *node)
{
  if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
  static const char *const words[] = {"", "~", "null", "Null", "NULL"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcmp((const char *)node->data.scalar.value, words[i]) == 0) return true;
  return false;
}

static const char *kind_of(const yaml_node_t *node)
{
  if (node->type == YAML_SEQUENCE_NODE) return "a list";
  return node->type == YAML_MAPPING_NODE ? "a section" : "a value";
}

// The name of a key as messages show it.
static void show_name(const char *name, char out[SHOWN_NAME + 1])
{
  struct span text = span_text(name);
  size_t size = utf8_cut(text, text.size < SHOWN_NAME ? text.size : SHOWN_NAME);
  memcpy(out, name, size);
  out[size] = '\0';
  for (size_t i = 0; i < size; i++)
    if ((unsigned char)out[i] < ' ' || out[i] == 0x7f) out[i] = '?';
}

// A mapping's keys one by one; false at the end. Keys that are no text are complained about and skipped.
static bool next_pair(struct loader *loader, const yaml_node_t *mapping, const char *path, size_t *cursor,
                      const yaml_node_t **out_key, const yaml_node_t **out_value)
{
  for (;;) {
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start + *cursor;
    if (pair >= mapping->data.mapping.pairs.top || loader->diagnostics->more) return false;
    (*cursor)++;
    *out_key = yaml_document_get_node(loader->document, pair->key);
    *out_value = yaml_document_get_node(loader->document, pair->value);
    assert(*out_key);
    assert(*out_value);
    const char *name = scalar_text(*out_key);
    if (!name) {
      COMPLAIN(loader, mark_of(*out_key), "%s%sa key has to be a word", path, *path ? ": " : "");
    } else if (strcmp(name, "<<") == 0) {
      COMPLAIN(loader, mark_of(*out_key),
               "%s%smerge keys (<<) are not supported; write the keys out, or use an alias for a value", path,
               *path ? ": " : "");
    } else {
      return true;
    }
  }
}

static void load_value(struct loader *loader, const struct config_key *key, const yaml_node_t *node, const char *path,
                       void *object)
{
  char expected[160];
  struct error error;
  if (is_null(node)) {
    if (!key->default_text && key->type != CONFIG_URL) return;
    config_value_expected(key, expected, sizeof expected);
    COMPLAIN(loader, mark_of(node), "%s: has no value; write %s, or remove the key", path, expected);
    return;
  }
  const char *text = scalar_text(node);
  if (!text) {
    config_value_expected(key, expected, sizeof expected);
    const char *kind = node->type == YAML_SCALAR_NODE ? "a text with a NUL in it" : kind_of(node);
    COMPLAIN(loader, mark_of(node), "%s: is %s; write %s", path, kind, expected);
    return;
  }
  if (config_value_parse(key, text, object, &error)) COMPLAIN(loader, mark_of(node), "%s: %s", path, error.text);
  if (object == loader->config) loader->config->marks[key - config_keys] = mark_of(node);
}

// All keys of a section or of a list's item into `object`; remembers in `given` which were there.
static void load_keys(struct loader *loader, const char *section, const char *path, const yaml_node_t *mapping, void *object,
                      uint64_t *given)
{
  size_t cursor = 0;
  const yaml_node_t *key_node, *value;
  while (next_pair(loader, mapping, path, &cursor, &key_node, &value)) {
    const char *name = scalar_text(key_node);
    char shown[SHOWN_NAME + 1];
    char key_path[PATH_SIZE];
    show_name(name, shown);
    snprintf(key_path, sizeof key_path, "%s.%s", path, shown);
    const struct config_key *key = config_find_key(section, name);
    if (!key) {
      char message[256];
      config_unknown_key(section, name, message, sizeof message);
      COMPLAIN(loader, mark_of(key_node), "%s: %s", key_path, message);
      continue;
    }
    if (*given & config_key_bit(key)) {
      COMPLAIN(loader, mark_of(key_node), "%s: is there twice; keep one", key_path);
      continue;
    }
    *given |= config_key_bit(key);
    load_value(loader, key, value, key_path, object);
  }
}

static void load_listener(struct loader *loader, const yaml_node_t *node, size_t index)
{
  char path[PATH_SIZE];
  snprintf(path, sizeof path, "listeners[%zu]", index);
  const char *url = scalar_text(node);
  if (node->type == YAML_SEQUENCE_NODE || is_null(node) || (node->type == YAML_SCALAR_NODE && !url)) {
    COMPLAIN(loader, mark_of(node), "%s: has to be a URL or a mapping; write {url: \"mqtt://127.0.0.1:1883\"}", path);
    return;
  }
  struct listener_config *listener = config_add_listener(loader->config);
  if (!listener) {
    COMPLAIN(loader, mark_of(node), "%s: one too many; at most %d listeners are possible", path, CONFIG_MAX_LISTENERS);
    return;
  }
  listener->mark = mark_of(node);
  if (url) {
    struct error error;
    const struct config_key *key = config_find_key("listeners", "url");
    listener->given |= config_key_bit(key);
    if (config_value_parse(key, url, listener, &error)) COMPLAIN(loader, listener->mark, "%s: %s", path, error.text);
    return;
  }
  load_keys(loader, "listeners", path, node, listener, &listener->given);
}

static void load_listeners(struct loader *loader, const yaml_node_t *node)
{
  if (is_null(node)) return;
  if (node->type != YAML_SEQUENCE_NODE) {
    COMPLAIN(loader, mark_of(node), "listeners: is %s; write a list, each item on a line that starts with a dash",
             kind_of(node));
    return;
  }
  const yaml_node_item_t *first = node->data.sequence.items.start;
  size_t count = (size_t)(node->data.sequence.items.top - first);
  if (count == 0)
    COMPLAIN(loader, mark_of(node), "listeners: is empty; add a URL, or remove the key for mqtt://127.0.0.1:1883");
  // One beyond the limit is looked at, and complained about; of a million more nobody wants to read.
  for (size_t i = 0; i < count && i <= CONFIG_MAX_LISTENERS && !loader->diagnostics->more; i++)
    load_listener(loader, yaml_document_get_node(loader->document, first[i]), i);
}

static void load_section(struct loader *loader, const struct config_section *section, const yaml_node_t *node)
{
  if (section->list) {
    load_listeners(loader, node);
    return;
  }
  if (is_null(node)) return;  // all its keys are commented out
  if (node->type != YAML_MAPPING_NODE) {
    COMPLAIN(loader, mark_of(node), "%s: is %s; write its keys below it, indented", section->name, kind_of(node));
    return;
  }
  load_keys(loader, section->name, section->name, node, loader->config, &loader->config->given);
}

static void load_root(struct loader *loader, const yaml_node_t *root)
{
  if (is_null(root)) return;
  if (root->type != YAML_MAPPING_NODE) {
    COMPLAIN(loader, mark_of(root), "the file is %s; write sections such as \"listeners:\" and \"limits:\"", kind_of(root));
    return;
  }
  uint64_t seen = 0;
  size_t cursor = 0;
  const yaml_node_t *key_node, *value;
  while (next_pair(loader, root, "", &cursor, &key_node, &value)) {
    const char *name = scalar_text(key_node);
    const struct config_section *section = config_find_section(name);
    char shown[SHOWN_NAME + 1];
    show_name(name, shown);
    if (!section) {
      char message[256];
      config_unknown_key(NULL, name, message, sizeof message);
      COMPLAIN(loader, mark_of(key_node), "%s: %s", shown, message);
      continue;
    }
    uint64_t bit = UINT64_C(1) << (section - config_sections);
    if (seen & bit) {
      COMPLAIN(loader, mark_of(key_node), "%s: is there twice; keep one", shown);
      continue;
    }
    seen |= bit;
    load_section(loader, section, value);
  }
}

// ---- YAML

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
  struct config_mark mark = {.line = (uint32_t)parser->problem_mark.line + 1,
                             .column = (uint32_t)parser->problem_mark.column + 1};
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
  loader->document = &document;
  const yaml_node_t *root = yaml_document_get_root_node(&document);
  if (root) load_root(loader, root);
  yaml_document_delete(&document);
  if (!root) return;

  if (!yaml_parser_load(parser, &document)) {
    complain_syntax(loader, parser, text);
    return;
  }
  root = yaml_document_get_root_node(&document);
  if (root) COMPLAIN(loader, mark_of(root), "a second document starts here; keep one");
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

// libyaml's time grows with the square of the nesting and of the anchors: a file of 1 MiB could take minutes. So a first pass,
// which needs no tree, looks for more of either than any configuration has. Mistakes in the YAML are left to the second pass.
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
    if (depth > MAX_DEPTH) wrong = "sections and lists are nested too deep; no key needs more than three levels";
    if (anchors > MAX_ANCHORS) wrong = "there are more than 1000 anchors; remove those that no alias uses";
    struct config_mark mark = {.line = (uint32_t)event.start_mark.line + 1, .column = (uint32_t)event.start_mark.column + 1};
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
  for (size_t i = 0; i < config->listener_count; i++) listen_address_deinit(&config->listeners[i].address);
  config->listener_count = 0;
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
