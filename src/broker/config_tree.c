// Goes through the tree of a YAML document and fills a struct config by the table. Aliases are values like any other; merge
// keys
// ("<<") are not supported.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/utf8.h"
#include "broker/config.h"
#include "broker/config_schema.h"

enum { PATH_SIZE = 160, SHOWN_NAME = 60, NAME_SIZE = 128 };

struct loader {
  const char *file;
  struct span text;
  struct config *config;
  struct diagnostics *diagnostics;
  yaml_document_t *document;
  bool failed;
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
    // An issuer or a CRL that a template has left empty must not be any or none.
    bool guards = strcmp(key->section, "listeners") == 0 || strcmp(key->section, "auth") == 0;
    if (!key->default_text && key->type != CONFIG_URL && !guards) return;
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
}

// The path of something in a list or mapping, for messages.
static void join_path(char out[PATH_SIZE], const char *path, const char *name)
{
  snprintf(out, PATH_SIZE, "%s%s%s", path, *path ? "." : "", name);
}

static void load_words(struct loader *loader, const struct config_key *key, const yaml_node_t *node, const char *path,
                       void *object)
{
  char joined[PATH_SIZE] = "";
  size_t n = 0;
  const yaml_node_item_t *first = node->data.sequence.items.start;
  for (const yaml_node_item_t *item = first; item < node->data.sequence.items.top; item++) {
    const char *word = scalar_text(yaml_document_get_node(loader->document, *item));
    if (!word || n + strlen(word) + 2 > sizeof joined) {
      char expected[160];
      config_value_expected(key, expected, sizeof expected);
      COMPLAIN(loader, mark_of(node), "%s: holds something that is no word; write %s", path, expected);
      return;
    }
    n += (size_t)snprintf(joined + n, sizeof joined - n, "%s%s", n ? "," : "", word);
  }
  struct error error;
  if (config_value_parse(key, joined, object, &error)) COMPLAIN(loader, mark_of(node), "%s: %s", path, error.text);
}

// One of {cert: FILE, key: FILE, ocsp: FILE}; its texts are copied.
static bool load_certificate(struct loader *loader, const yaml_node_t *node, const char *path,
                             struct config_certificate *out)
{
  bool failed = loader->failed;
  loader->failed = false;
  size_t cursor = 0;
  const yaml_node_t *key_node, *value;
  while (next_pair(loader, node, path, &cursor, &key_node, &value)) {
    const char *name = scalar_text(key_node);
    const char *text = is_null(value) ? NULL : scalar_text(value);
    char **field = strcmp(name, "cert") == 0 ? &out->cert : strcmp(name, "key") == 0 ? &out->key : NULL;
    if (strcmp(name, "ocsp") == 0) field = &out->ocsp;
    char shown[SHOWN_NAME + 1];
    show_name(name, shown);
    if (!field) {
      COMPLAIN(loader, mark_of(key_node), "%s.%s: unknown key; known here: cert, key, ocsp", path, shown);
    } else if (*field) {
      COMPLAIN(loader, mark_of(key_node), "%s.%s: is there twice; keep one", path, shown);
    } else if (!text || !*text) {
      COMPLAIN(loader, mark_of(value), "%s.%s: write the path of a file", path, shown);
    } else if (!(*field = strdup(text))) {
      COMPLAIN(loader, mark_of(value), "%s.%s: out of memory", path, shown);
    }
  }
  bool good = !loader->failed;
  if (good && (!out->cert || !out->key)) {
    COMPLAIN(loader, mark_of(node), "%s: has no %s; write {cert: FILE, key: FILE}", path, out->cert ? "key" : "cert");
    good = false;
  }
  if (failed) loader->failed = true;
  return good;
}

static void load_certificates(struct loader *loader, const struct config_key *key, const yaml_node_t *node, const char *path,
                              void *object)
{
  struct config_certificates *certificates = (struct config_certificates *)(void *)((char *)object + key->offset);
  const yaml_node_item_t *first = node->data.sequence.items.start;
  size_t count = (size_t)(node->data.sequence.items.top - first);
  for (size_t i = 0; i < count && i <= CONFIG_MAX_CERTIFICATES; i++) {
    const yaml_node_t *item = yaml_document_get_node(loader->document, first[i]);
    struct config_certificate certificate = {0};
    struct error error;
    char item_path[PATH_SIZE + 32];
    snprintf(item_path, sizeof item_path, "%s[%zu]", path, i);
    if (item->type != YAML_MAPPING_NODE) {
      COMPLAIN(loader, mark_of(item), "%s: is %s; write {cert: FILE, key: FILE}", item_path, kind_of(item));
      continue;
    }
    bool good = load_certificate(loader, item, item_path, &certificate);
    if (good && config_add_certificate(certificates, &certificate, &error) != OK) {
      COMPLAIN(loader, mark_of(item), "%s: %s", item_path, error.text);
      good = false;
    }
    if (good) continue;
    free(certificate.cert);
    free(certificate.key);
    free(certificate.ocsp);
  }
}

// The whole text with all but the node blanked out, so that what is said about the node's lines and columns is right.
// libyaml counts characters.
static char *blank_out(struct span text, const yaml_node_t *node)
{
  static const uint8_t byte_order_mark[] = {0xef, 0xbb, 0xbf};
  char *copy = malloc(text.size + 1);
  if (!copy) return NULL;
  size_t n = 0;
  size_t place = 0;
  struct span rest = text;
  if (rest.size >= 3 && memcmp(rest.at, byte_order_mark, 3) == 0) rest = span_from(rest, 3);
  for (; rest.size; place++) {
    size_t size = rest.at[0] < 0x80 ? 1 : utf8_next(rest).size;
    assert(size > 0);  // it has been checked
    if (place >= node->start_mark.index && place < node->end_mark.index) {
      memcpy(copy + n, rest.at, size);
      n += size;
    } else {
      copy[n++] = rest.at[0] == '\n' ? '\n' : ' ';
    }
    rest = span_from(rest, size);
  }
  copy[n] = '\0';
  return copy;
}

static void load_rules(struct loader *loader, const struct config_key *key, const yaml_node_t *node, void *object)
{
  struct config_acl *acl = (struct config_acl *)(void *)((char *)object + key->offset);
  acl->rules = blank_out(loader->text, node);
  if (!acl->rules) COMPLAIN(loader, mark_of(node), "%s: out of memory", key->name);
}

static void load_key(struct loader *loader, const struct config_key *key, const yaml_node_t *node, const char *path,
                     void *object)
{
  if (node->type == YAML_SEQUENCE_NODE && key->type == CONFIG_WORDS)
    load_words(loader, key, node, path, object);
  else if (node->type == YAML_SEQUENCE_NODE && key->type == CONFIG_CERTIFICATES)
    load_certificates(loader, key, node, path, object);
  else if (node->type == YAML_SEQUENCE_NODE && key->type == CONFIG_ACL)
    load_rules(loader, key, node, object);
  else if (is_null(node) && key->type == CONFIG_ACL)  // rules that are all commented out must not be none
    COMPLAIN(loader, mark_of(node), "%s: has no rules; write [] to deny everything, or remove the key to allow everything",
             path);
  else
    load_value(loader, key, node, path, object);
}

// Where keys go, and what has been there.
struct target {
  const char *section;
  void *object;
  struct config_origin *origin;
};

// All keys of a section, or of a mapping in it, into the target. `prefix`: "tls." for the keys of such a mapping.
static void load_keys(struct loader *loader, const struct target *target, const char *prefix, const char *path,
                      const yaml_node_t *mapping)
{
  size_t cursor = 0;
  const yaml_node_t *key_node, *value;
  while (next_pair(loader, mapping, path, &cursor, &key_node, &value)) {
    char shown[SHOWN_NAME + 1], key_path[PATH_SIZE], name[NAME_SIZE], group[NAME_SIZE + 1];
    const char *written = scalar_text(key_node);
    show_name(written, shown);
    join_path(key_path, path, shown);
    bool fits = (size_t)snprintf(name, sizeof name, "%s%s", prefix, written) < sizeof name && !strchr(written, '.');
    const struct config_key *key = fits ? config_find_key(target->section, name) : NULL;
    if (!key && fits && config_find_group(target->section, name)) {
      snprintf(group, sizeof group, "%s.", name);
      if (value->type == YAML_MAPPING_NODE)
        load_keys(loader, target, group, key_path, value);
      else if (!is_null(value))
        COMPLAIN(loader, mark_of(value), "%s: is %s; write its keys below it, indented", key_path, kind_of(value));
      continue;
    }
    if (!key) {
      char message[CONFIG_UNKNOWN_KEY_SIZE];
      const char *dot = strrchr(written, '.');
      if (dot && config_find_key(target->section, name))
        snprintf(message, sizeof message, "is not one word; write %.*s: {%s: ...}", (int)(dot - written), written, dot + 1);
      else
        config_unknown_key(target->section, name, message, sizeof message);
      COMPLAIN(loader, mark_of(key_node), "%s: %s", key_path, message);
    } else if (config_given(target->origin, key)) {
      COMPLAIN(loader, mark_of(key_node), "%s: is there twice; keep one", key_path);
    } else {
      config_set_given(target->origin, key, mark_of(value));
      load_key(loader, key, value, key_path, target->object);
    }
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
    config_set_given(&listener->origin, key, listener->mark);
    if (config_value_parse(key, url, listener, &error)) COMPLAIN(loader, listener->mark, "%s: %s", path, error.text);
    return;
  }
  const struct target target = {.section = "listeners", .object = listener, .origin = &listener->origin};
  load_keys(loader, &target, "", path, node);
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
  const struct target target = {.section = section->name, .object = loader->config, .origin = &loader->config->origin};
  load_keys(loader, &target, "", section->name, node);
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
    char shown[SHOWN_NAME + 1];
    show_name(name, shown);
    const struct config_section *section = *name ? config_find_section(name) : NULL;
    const struct config_key *key = config_find_key("", name);
    if (key && !config_given(&loader->config->origin, key)) {
      config_set_given(&loader->config->origin, key, mark_of(value));
      load_key(loader, key, value, shown, loader->config);
      continue;
    }
    if (!section && !key) {
      char message[CONFIG_UNKNOWN_KEY_SIZE];
      config_unknown_key(NULL, name, message, sizeof message);
      COMPLAIN(loader, mark_of(key_node), "%s: %s", shown, message);
      continue;
    }
    uint64_t bit = section ? UINT64_C(1) << (section - config_sections) : 0;
    if (key || (seen & bit)) {
      COMPLAIN(loader, mark_of(key_node), "%s: is there twice; keep one", shown);
      continue;
    }
    seen |= bit;
    load_section(loader, section, value);
  }
}

bool config_load_tree(struct config *config, const char *file, struct span text, struct yaml_document_s *document,
                      struct diagnostics *diagnostics)
{
  struct loader loader = {.file = file, .text = text, .config = config, .document = document, .diagnostics = diagnostics};
  const yaml_node_t *root = yaml_document_get_root_node(document);
  if (root) load_root(&loader, root);
  return !loader.failed;
}
