// The struct itself: made, set by path.
#include "broker/config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "broker/config_schema.h"

enum { MAX_EDITS = 3 };

bool config_is_listener_limit(const struct config_key *key)
{
  return strcmp(key->section, "listeners") == 0 && strncmp(key->name, "limits.", sizeof "limits." - 1) == 0;
}

enum status config_init(struct config *config)
{
  *config = (struct config){0};
  return config_set_defaults(false, config);
}

static void deinit_keys(bool listener, void *object)
{
  for (size_t i = 0; i < config_key_count; i++)
    if (config_find_section(config_keys[i].section)->list == listener) config_value_deinit(&config_keys[i], object);
}

void config_clear_listeners(struct config *config)
{
  for (size_t i = 0; i < config->listener_count; i++) deinit_keys(true, &config->listeners[i]);
  config->listener_count = 0;
}

void config_deinit(struct config *config)
{
  config_clear_listeners(config);
  free(config->listeners);
  deinit_keys(false, config);
  *config = (struct config){0};
}

struct listener_config *config_add_listener(struct config *config)
{
  if (config->listener_count == CONFIG_MAX_LISTENERS) return NULL;
  struct listener_config *grown = reallocarray(config->listeners, config->listener_count + 1, sizeof *grown);
  if (!grown) return NULL;
  config->listeners = grown;
  struct listener_config *listener = &grown[config->listener_count];
  *listener = (struct listener_config){0};
  if (config_set_defaults(true, listener)) return NULL;
  config->listener_count++;
  return listener;
}

bool config_has_method(const struct listener_config *listener, enum auth_method method)
{
  return memchr(listener->auth.items, (int)method, listener->auth.count) != NULL;
}

const char *config_listener_name(const struct listener_config *listener)
{
  return listener->name ? listener->name : listener->address.text;
}

bool config_has_journal(const struct config *config)
{
  return config->broker.data && config->journal.durability != DURABILITY_MEMORY;
}

uint32_t config_shards(const struct config *config, uint32_t cores)
{
  if (config->broker.shards) return config->broker.shards;
  if (cores <= 2) return 1;
  return cores - 1 < 4 ? cores - 1 : 4;
}

// ---- The nearest known name

struct nearest {
  const char *word;
  const char *name;  // NULL: nothing near
  size_t size;
  const struct config_key *key;  // NULL: a section
  unsigned edits;
};

static void consider(struct nearest *nearest, const char *name, size_t size, const struct config_key *key)
{
  char word[CONFIG_NAME_SIZE];
  snprintf(word, sizeof word, "%.*s", (int)size, name);
  unsigned edits = edit_distance(nearest->word, word);
  unsigned third = (unsigned)(size + 2) / 3;
  unsigned allowed = third < MAX_EDITS ? third : MAX_EDITS;
  if (edits > allowed || (nearest->name && edits >= nearest->edits)) return;
  *nearest = (struct nearest){.word = nearest->word, .name = name, .size = size, .key = key, .edits = edits};
}

// `prefix`: of the mapping that the word stands in. Names of mappings are words too.
static void consider_key(struct nearest *here, struct nearest *elsewhere, const struct config_key *key, const char *section,
                         const char *prefix)
{
  size_t size = strlen(prefix);
  if (strcmp(key->section, section ? section : "") == 0 && strncmp(key->name, prefix, size) == 0) {
    size_t first = strcspn(key->name + size, ".");
    consider(here, key->name + size, first, key);
    if (!key->name[size + first]) return;
  }
  const char *dot = strrchr(key->name, '.');
  const char *last = dot ? dot + 1 : key->name;
  consider(elsewhere, last, strlen(last), key);
}

static void list_known(const char *section, const char *prefix, char *out, size_t size)
{
  size_t n = (size_t)snprintf(out, size, "known here: ");
  const char *separator = "";
  for (size_t i = 0; i < config_section_count && !section && n < size; i++) {
    if (!config_sections[i].name[0]) continue;
    n += (size_t)snprintf(out + n, size - n, "%s%s", separator, config_sections[i].name);
    separator = ", ";
  }
  size_t cut = strlen(prefix);
  const char *last = "";
  for (size_t i = 0; i < config_key_count && n < size; i++) {
    const struct config_key *key = &config_keys[i];
    if (strcmp(key->section, section ? section : "") != 0 || strncmp(key->name, prefix, cut) != 0) continue;
    const char *name = key->name + cut;
    size_t name_size = strcspn(name, ".");
    if (strlen(last) >= name_size && memcmp(name, last, name_size) == 0 && strcspn(last, ".") == name_size) continue;
    n += (size_t)snprintf(out + n, size - n, "%s%.*s", separator, (int)name_size, name);
    separator = ", ";
    last = name;
  }
}

void config_unknown_key(const char *section, const char *name, char *out, size_t size)
{
  const char *dot = strrchr(name, '.');
  char prefix[CONFIG_NAME_SIZE] = "";
  if (dot) snprintf(prefix, sizeof prefix, "%.*s", (int)(dot - name) + 1, name);
  const char *word = dot ? dot + 1 : name;
  struct nearest here = {.word = word};
  struct nearest elsewhere = {.word = word};
  size_t n = (size_t)snprintf(out, size, "unknown key; ");
  for (size_t i = 0; i < config_section_count && !section; i++)
    if (config_sections[i].name[0]) consider(&here, config_sections[i].name, strlen(config_sections[i].name), NULL);
  for (size_t i = 0; i < config_key_count; i++) consider_key(&here, &elsewhere, &config_keys[i], section, prefix);
  if (here.name) {
    snprintf(out + n, size - n, "did you mean \"%.*s\"?", (int)here.size, here.name);
  } else if (elsewhere.name) {
    char path[2 * CONFIG_NAME_SIZE];
    config_key_path(elsewhere.key, path, sizeof path);
    snprintf(out + n, size - n, "did you mean \"%s\"?", path);
  } else {
    list_known(section, prefix, out + n, size - n);
  }
}

// ---- Setting by path

static enum status set_key(const char *section, const char *name, const char *value, void *object,
                           struct config_origin *origin, struct error *error)
{
  const struct config_key *key = config_find_key(section, name);
  const struct config_key *inner = key ? NULL : config_find_group(section, name);
  if (inner) return error_set(error, ERR_INVALID, "is several keys; write one of them, such as %s", inner->name);
  if (!key) {
    char message[CONFIG_UNKNOWN_KEY_SIZE];
    config_unknown_key(section, name, message, sizeof message);
    return error_set(error, ERR_INVALID, "%s", message);
  }
  config_set_given(origin, key, (struct config_mark){0});  // also when it is wrong: then it is not missing
  return config_value_parse(key, value, object, error);
}

// "[0].anonymous" or "[0]", behind "listeners".
static enum status set_listener(struct config *config, const char *path, const char *value, struct error *error)
{
  char *end = NULL;
  bool digit = path[0] == '[' && path[1] >= '0' && path[1] <= '9';
  unsigned long index = digit ? strtoul(path + 1, &end, 10) : 0;
  if (!digit || end[0] != ']' || (end[1] != '.' && end[1] != '\0'))
    return error_set(error, ERR_INVALID, "listeners are set one by one; write listeners[0].anonymous=false");
  if (index > config->listener_count)
    return error_set(error, ERR_INVALID, "there are %zu listeners; write an index from 0 to %zu", config->listener_count,
                     config->listener_count);
  if (index == config->listener_count && !config_add_listener(config))
    return error_set(error, ERR_INVALID, "there are too many listeners; at most %d are possible", CONFIG_MAX_LISTENERS);
  struct listener_config *listener = &config->listeners[index];
  const char *name = end[1] == '.' ? end + 2 : "url";
  return set_key("listeners", name, value, listener, &listener->origin, error);
}

enum status config_set(struct config *config, const char *path, const char *value, struct error *error)
{
  struct error local;
  if (!error) error = &local;
  if (*path && config_find_key("", path)) return set_key("", path, value, config, &config->origin, error);
  char section[CONFIG_NAME_SIZE];
  size_t section_size = config_section_of(path, section);
  const struct config_section *found = section[0] ? config_find_section(section) : NULL;
  if (!found) {
    char message[CONFIG_UNKNOWN_KEY_SIZE];
    config_unknown_key(NULL, section, message, sizeof message);
    return error_set(error, ERR_INVALID, "%s", message);
  }
  if (found->list) return set_listener(config, path + section_size, value, error);
  if (path[section_size] != '.')
    return error_set(error, ERR_INVALID, "this is a section; write the key too, such as log.level=debug");
  return set_key(section, path + section_size + 1, value, config, &config->origin, error);
}
