// What a reload would change.
#include "broker/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config_schema.h"

enum { VALUE_SIZE = 256 };

void config_changes_deinit(struct config_changes *changes)
{
  for (size_t i = 0; i < changes->count; i++) {
    free(changes->items[i].path);
    free(changes->items[i].before);
    free(changes->items[i].after);
  }
  free(changes->items);
  *changes = (struct config_changes){0};
}

// Takes `path`, which may be NULL when memory is short; copies the values.
static enum status add_change(struct config_changes *changes, char *path, const char *before, const char *after,
                              bool reloadable)
{
  struct config_change change = {.path = path, .reloadable = reloadable};
  if (before) change.before = strdup(before);
  if (after) change.after = strdup(after);
  struct config_change *grown = NULL;
  if (path && (change.before || !before) && (change.after || !after))
    grown = reallocarray(changes->items, changes->count + 1, sizeof *grown);
  if (!grown) {
    free(path);
    free(change.before);
    free(change.after);
    return ERR_NO_MEMORY;
  }
  changes->items = grown;
  grown[changes->count++] = change;
  if (!reloadable) changes->needs_restart++;
  return OK;
}

// "section.name" and "section[listener].name"; NULL when memory is short.
static char *make_key_path(const char *section, const char *listener, const char *name)
{
  char *path = NULL;
  const char *dot = section[0] ? "." : "";
  int size =
      listener ? asprintf(&path, "%s[%s].%s", section, listener, name) : asprintf(&path, "%s%s%s", section, dot, name);
  return size < 0 ? NULL : path;
}

static char *make_listener_path(const char *listener)
{
  char *path = NULL;
  return asprintf(&path, "listeners[%s]", listener) < 0 ? NULL : path;
}

// The keys of the plain sections, or those of one listener that both configurations have.
// A limit that a listener has from the broker changes with the broker's, which is told already.
static bool is_inherited(const struct config_key *key, const void *before, const void *after)
{
  if (!config_is_listener_limit(key)) return false;
  const struct listener_config *old = before, *new = after;
  return !config_given(&old->origin, key) && !config_given(&new->origin, key);
}

static enum status diff_keys(const char *listener, const void *before, const void *after, struct config_changes *changes)
{
  for (size_t i = 0; i < config_key_count; i++) {
    const struct config_key *key = &config_keys[i];
    if (config_find_section(key->section)->list != (listener != NULL)) continue;
    if (key->type == CONFIG_URL || config_value_equal(key, before, after) || is_inherited(key, before, after)) continue;
    char old_value[VALUE_SIZE];
    char new_value[VALUE_SIZE];
    config_value_format(key, before, old_value, sizeof old_value);
    config_value_format(key, after, new_value, sizeof new_value);
    enum status status =
        add_change(changes, make_key_path(key->section, listener, key->name), old_value, new_value, key->reloadable);
    if (status) return status;
  }
  return OK;
}

static bool same_text(const char *a, const char *b)
{
  return a == b || (a && b && strcmp(a, b) == 0);
}

// The same socket: however its URL is written.
static bool same_place(const struct listen_address *a, const struct listen_address *b)
{
  return a->kind == b->kind && a->tls == b->tls && a->port == b->port && same_text(a->host, b->host) &&
         same_text(a->path, b->path);
}

static const struct listener_config *find_listener(const struct config *config, const struct listener_config *wanted)
{
  for (size_t i = 0; i < config->listener_count; i++)
    if (same_place(&config->listeners[i].address, &wanted->address)) return &config->listeners[i];
  return NULL;
}

static enum status diff_listeners(const struct config *before, const struct config *after, struct config_changes *changes)
{
  enum status status = OK;
  for (size_t i = 0; i < before->listener_count && status == OK; i++) {
    const struct listener_config *listener = &before->listeners[i];
    const struct listener_config *other = find_listener(after, listener);
    const char *url = listener->address.text;
    status =
        other ? diff_keys(url, listener, other, changes) : add_change(changes, make_listener_path(url), url, NULL, true);
  }
  for (size_t i = 0; i < after->listener_count && status == OK; i++) {
    const struct listener_config *listener = &after->listeners[i];
    const char *url = listener->address.text;
    if (!find_listener(before, listener)) status = add_change(changes, make_listener_path(url), NULL, url, true);
  }
  return status;
}

enum status config_diff(const struct config *before, const struct config *after, struct config_changes *out)
{
  struct config_changes changes = {0};
  enum status status = diff_keys(NULL, before, after, &changes);
  if (status == OK) status = diff_listeners(before, after, &changes);
  if (status)
    config_changes_deinit(&changes);
  else
    *out = changes;
  return status;
}
