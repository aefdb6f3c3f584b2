// The struct itself: made, completed, checked as a whole, set by path.
#include "broker/config.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "broker/config_schema.h"

static const char default_listener[] = "mqtt://127.0.0.1:1883";

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
  if (!key) {
    char message[256];
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
    char message[256];
    config_unknown_key(NULL, section, message, sizeof message);
    return error_set(error, ERR_INVALID, "%s", message);
  }
  if (found->list) return set_listener(config, path + section_size, value, error);
  if (path[section_size] != '.')
    return error_set(error, ERR_INVALID, "this is a section; write the key too, such as log.level=debug");
  return set_key(section, path + section_size + 1, value, config, &config->origin, error);
}

// ---- Checks that need more than one key

static struct config_mark mark_of(const struct config *config, const char *section, const char *name)
{
  return config->origin.marks[config_find_key(section, name) - config_keys];
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

static bool given(const struct listener_config *listener, const char *name)
{
  return config_given(&listener->origin, config_find_key("listeners", name));
}

static void check_listener(struct checker *checker, struct listener_config *listener, size_t index)
{
  const struct listen_address *address = &listener->address;
  if (!address->text) {
    // A URL that was written and is wrong has been complained about.
    checker->failed = true;
    if (!given(listener, "url"))
      config_complain(checker, listener, index, "url", "is missing; write a URL, such as mqtt://127.0.0.1:1883");
    return;
  }
  bool network = address->kind == LISTEN_TCP || address->kind == LISTEN_WEBSOCKET;
  if (given(listener, "mode") && address->kind != LISTEN_UNIX)
    config_complain(checker, listener, index, "mode", "only unix sockets have permissions; remove it, or use a unix:// URL");
  if (listener->ipv6_only && (!network || (address->host && !strchr(address->host, ':'))))
    config_complain(checker, listener, index, "ipv6_only", "the address is not IPv6; remove it, or use the host * or [::]");
}

static void check_clashes(struct checker *checker, const struct config *config, size_t index)
{
  const struct listener_config *listener = &config->listeners[index];
  if (!listener->address.text) return;
  for (size_t i = 0; i < index; i++) {
    const struct listener_config *other = &config->listeners[i];
    if (!other->address.text ||
        !listen_address_clashes(&listener->address, listener->ipv6_only, &other->address, other->ipv6_only))
      continue;
    config_complain(checker, listener, index, "url", "listens where listeners[%zu] (%.80s) does; use another port or path",
                    i, other->address.text);
    return;
  }
  const struct listen_address *metrics = &config->metrics.listen;
  if (metrics->text && listen_address_clashes(&listener->address, listener->ipv6_only, metrics, false)) {
    checker->failed = true;
    (void)diagnostics_add(checker->diagnostics, checker->file, mark_of(config, "metrics", "listen"),
                          "metrics.listen: listens where listeners[%zu] (%.80s) does; use another port", index,
                          listener->address.text);
  }
}

// The key to blame for what several do together: the first of these that was written, else the first.
static const struct config_key *to_blame(const struct config *config, const struct config_key *const *keys, size_t count)
{
  for (size_t i = 0; i < count; i++)
    if (config_given(&config->origin, keys[i])) return keys[i];
  return keys[0];
}

// One segment is written, others wait to be emptied: with fewer than this there is no room to work in. And what a checkpoint
// does not cover yet cannot be given back, however dead it is.
enum { SEGMENTS_LEAST = 4 };

static void check_journal_limit(struct checker *checker, const struct config *config)
{
  uint64_t segment = config->journal.segment_bytes;
  uint64_t reserve = (config->journal.reserve_bytes + segment - 1) / segment * segment;
  uint64_t least = reserve + config->journal.replay_bytes + SEGMENTS_LEAST * segment;
  if (config->journal.limit_bytes >= least) return;
  char texts[5][CONFIG_NUMBER_SIZE];
  const uint64_t values[5] = {config->journal.limit_bytes, segment, config->journal.reserve_bytes,
                              config->journal.replay_bytes, least};
  for (size_t i = 0; i < 5; i++) config_format_size(values[i], texts[i], sizeof texts[i]);
  const struct config_key *keys[] = {config_find_key("journal", "limit"), config_find_key("journal", "reserve"),
                                     config_find_key("journal", "segment"), config_find_key("journal", "replay")};
  const struct config_key *key = to_blame(config, keys, sizeof keys / sizeof keys[0]);
  checker->failed = true;
  (void)diagnostics_add(
      checker->diagnostics, checker->file, config->origin.marks[key - config_keys],
      "journal.%s: the limit of %s does not hold %d segments of %s, the reserve of %s and the replay of %s; "
      "write a journal.limit of at least %s, or less for the others",
      key->name, texts[0], SEGMENTS_LEAST, texts[1], texts[2], texts[3], texts[4]);
}

// A message that no file of the reserve holds could not be written on a full disk, and what is to clear up stands behind it.
enum { PACKETS_PER_SEGMENT = 2, PACKETS_PER_RESERVE = 4 };

static void check_packet_fits(struct checker *checker, const struct config *config, const char *name, uint64_t bytes,
                              uint64_t packets)
{
  uint64_t packet = config->limits.packet_size;
  if (bytes >= packets * packet) return;
  char texts[4][CONFIG_NUMBER_SIZE];
  const uint64_t values[4] = {bytes, packet, packets * packet, bytes / packets};
  for (size_t i = 0; i < 4; i++) config_format_size(values[i], texts[i], sizeof texts[i]);
  const struct config_key *keys[] = {config_find_key("journal", name), config_find_key("limits", "packet_size")};
  const struct config_key *key = to_blame(config, keys, sizeof keys / sizeof keys[0]);
  checker->failed = true;
  (void)diagnostics_add(checker->diagnostics, checker->file, config->origin.marks[key - config_keys],
                        "%s.%s: the journal's %s of %s does not hold %u packets of %s; "
                        "write a journal.%s of at least %s, or a limits.packet_size of at most %s",
                        key->section, key->name, name, texts[0], (unsigned)packets, texts[1], name, texts[2], texts[3]);
}

// The same of a listener with a packet size of its own.
static void check_listener_packets(struct checker *checker, const struct config *config, size_t index)
{
  const struct listener_config *listener = &config->listeners[index];
  uint64_t segment = config->journal.segment_bytes / PACKETS_PER_SEGMENT;
  uint64_t reserve = config->journal.reserve_bytes / PACKETS_PER_RESERVE;
  uint64_t most = segment < reserve ? segment : reserve;
  if (!given(listener, "limits.packet_size") || listener->limits.packet_size <= most) return;
  char text[CONFIG_NUMBER_SIZE];
  config_format_size(most, text, sizeof text);
  config_complain(checker, listener, index, "limits.packet_size",
                  "the journal's segments and reserve do not hold such packets; write at most %s, or enlarge journal.%s",
                  text, segment < reserve ? "segment" : "reserve");
}

static void check_journal(struct checker *checker, const struct config *config)
{
  check_journal_limit(checker, config);
  if (!config_has_journal(config)) return;  // without one, packets may be as large as they like
  check_packet_fits(checker, config, "segment", config->journal.segment_bytes, PACKETS_PER_SEGMENT);
  check_packet_fits(checker, config, "reserve", config->journal.reserve_bytes, PACKETS_PER_RESERVE);
  for (size_t i = 0; i < config->listener_count; i++) check_listener_packets(checker, config, i);
}

// A listener has the broker's limits but for those of its own.
static void complete_limits(const struct config *config, struct listener_config *listener)
{
  const struct listener_config own = *listener;
  listener->limits = config->limits;
  listener->connection_rate = config->connection_rate;
  listener->connections_per_address = config->connections_per_address;
  for (size_t i = 0; i < config_key_count; i++) {
    const struct config_key *key = &config_keys[i];
    if (!config_is_listener_limit(key) || !config_given(&own.origin, key)) continue;
    memcpy((uint8_t *)listener + key->offset, (const uint8_t *)&own + key->offset, key->width);
  }
}

bool config_complete(struct config *config, const char *file, struct diagnostics *diagnostics)
{
  struct checker checker = {.file = file, .diagnostics = diagnostics};
  if (config->listener_count == 0) {
    struct error error;
    if (config_set(config, "listeners[0].url", default_listener, &error)) {
      assert(error.status == ERR_NO_MEMORY);
      return false;
    }
  }
  for (size_t i = 0; i < config->listener_count; i++) check_listener(&checker, &config->listeners[i], i);
  for (size_t i = 0; i < config->listener_count; i++) check_clashes(&checker, config, i);
  config->limits.denied_disconnects = config->acl_denied == ACL_DENIED_DISCONNECT;
  for (size_t i = 0; i < config->listener_count; i++) complete_limits(config, &config->listeners[i]);
  check_journal(&checker, config);
  config_check_security(&checker, config);
  return !checker.failed;
}
