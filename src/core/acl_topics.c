// The filters of an access control list as a trie by level. A topic finds its first rule without a look at those that are
// about other topics. Levels with variables are compared with the client's values while walking, so a client keeps no copy
// of its rules.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/nearest.h"
#include "core/acl_internal.h"
#include "mqtt/topic.h"

// ---- Variables

static bool starts_with(struct span text, const char *prefix)
{
  size_t size = strlen(prefix);
  return text.size >= size && memcmp(text.at, prefix, size) == 0;
}

static const char *const variables[] = {"client_id",   "username",         "cert.cn",      "cert.ou",
                                        "cert.o",      "cert.san_dns",     "cert.san_uri", "cert.san_email",
                                        "cert.serial", "cert.fingerprint", "jwt.sub"};

enum { VARIABLES = sizeof variables / sizeof variables[0] };

// What TLS knows of a client's certificate.
static bool is_certificate_field(struct span name)
{
  for (size_t i = 0; i < VARIABLES; i++)
    if (starts_with(name, "cert.") && span_equal(name, span_text(variables[i]))) return true;
  return false;
}

static bool variable_kind(struct span name, struct acl_part *out)
{
  if (span_equal(name, span_text("client_id"))) {
    *out = (struct acl_part){.kind = ACL_PART_CLIENT_ID};
  } else if (span_equal(name, span_text("username"))) {
    *out = (struct acl_part){.kind = ACL_PART_USER};
  } else {
    if (!is_certificate_field(name) && !(starts_with(name, "jwt.") && name.size > 4)) return false;
    *out = (struct acl_part){.kind = ACL_PART_FACT, .text = name};
  }
  return true;
}

enum part_result { PART_FOUND, PART_END, PART_BRACE, PART_UNKNOWN };

// The next run of text or variable of a level; a doubled brace is a run that is one brace. Texts point into the level.
static enum part_result next_part(struct span level, size_t *cursor, struct acl_part *out)
{
  struct span rest = span_from(level, *cursor);
  if (rest.size == 0) return PART_END;
  uint8_t first = rest.at[0];
  if (first == '{' || first == '}') {
    if (rest.size > 1 && rest.at[1] == first) {
      *out = (struct acl_part){.kind = ACL_PART_TEXT, .text = span_of(rest.at, 1)};
      *cursor += 2;
      return PART_FOUND;
    }
    const uint8_t *end = first == '{' ? memchr(rest.at, '}', rest.size) : NULL;
    if (!end) return PART_BRACE;
    struct span name = span_of(rest.at + 1, (size_t)(end - rest.at - 1));
    *cursor += name.size + 2;
    out->text = name;
    return variable_kind(name, out) ? PART_FOUND : PART_UNKNOWN;
  }
  size_t size = 0;
  while (size < rest.size && rest.at[size] != '{' && rest.at[size] != '}') size++;
  *out = (struct acl_part){.kind = ACL_PART_TEXT, .text = span_of(rest.at, size)};
  *cursor += size;
  return PART_FOUND;
}

static bool has_variables(struct span level)
{
  struct acl_part part;
  for (size_t cursor = 0; next_part(level, &cursor, &part) == PART_FOUND;)
    if (part.kind != ACL_PART_TEXT) return true;
  return false;
}

static enum status unknown_variable(struct span name, struct error *error)
{
  char word[64];
  size_t size = name.size < sizeof word - 1 ? name.size : sizeof word - 1;
  memcpy(word, name.at, size);
  word[size] = '\0';
  const char *nearest = nearest_name(word, variables, VARIABLES);
  if (nearest) return error_set(error, ERR_INVALID, "unknown variable {%s}; did you mean {%s}?", word, nearest);
  return error_set(error, ERR_INVALID,
                   "unknown variable {%s}; there are {client_id}, {username}, {cert.FIELD} and {jwt.CLAIM}", word);
}

static enum status check_level(struct span level, struct error *error)
{
  struct acl_part part;
  size_t cursor = 0, parts = 0;
  for (;;) {
    switch (next_part(level, &cursor, &part)) {
      case PART_FOUND:
        if (++parts <= UINT8_MAX) break;
        return error_set(error, ERR_INVALID, "a level has more than 255 variables and texts");
      case PART_END: return OK;
      case PART_BRACE:
        return error_set(error, ERR_INVALID, "a brace has no partner; a variable is {client_id}, a brace itself is doubled");
      case PART_UNKNOWN: return unknown_variable(part.text, error);
    }
  }
}

enum status acl_topic_check(struct span filter, struct error *error)
{
  struct mqtt_filter parsed;
  if (filter.size == 0) return error_set(error, ERR_INVALID, "is empty");
  if (filter.size > UINT16_MAX || !mqtt_utf8_valid(filter))
    return error_set(error, ERR_INVALID, "is no text that MQTT allows");
  if (!mqtt_filter_parse(filter, &parsed))
    return error_set(error, ERR_INVALID, "is no topic filter; '+' is a whole level, '#' is the whole last level");
  if (parsed.share.size > 0)
    return error_set(error, ERR_INVALID, "name the filter alone, without $share/%.*s/ in front",
                     (int)(parsed.share.size < 60 ? parsed.share.size : 60), (const char *)parsed.share.at);
  size_t levels = 0;
  struct span level;
  for (size_t cursor = 0; mqtt_next_level(filter, &cursor, &level);) {
    if (++levels > ACL_MAX_LEVELS) return error_set(error, ERR_INVALID, "has more than %d levels", ACL_MAX_LEVELS);
    enum status status = check_level(level, error);
    if (status) return status;
  }
  return OK;
}

// The value that starts a text, of all that the variable has, and what follows it is left to match. A level never holds '/',
// '+' or '#' here: so a value with one of these matches nothing.
static bool parts_match(const struct acl_values *values, const struct acl_part *parts, size_t count, struct span text)
{
  if (count == 0) return text.size == 0;
  struct span one = {0};
  switch (parts->kind) {
    case ACL_PART_TEXT: one = parts->text; break;
    case ACL_PART_CLIENT_ID: one = values->client_id; break;
    case ACL_PART_USER: one = values->identity ? values->identity->user : (struct span){0}; break;
    case ACL_PART_FACT: break;
  }
  if (parts->kind != ACL_PART_FACT) {
    bool fits = one.size > 0 && one.size <= text.size && memcmp(one.at, text.at, one.size) == 0;
    return fits && parts_match(values, parts + 1, count - 1, span_from(text, one.size));
  }
  for (size_t i = 0; values->identity && i < values->identity->fact_count; i++) {
    const struct identity_fact *fact = &values->identity->facts[i];
    if (fact->value.size == 0 || fact->value.size > text.size || !span_equal(fact->name, parts->text)) continue;
    if (memcmp(fact->value.at, text.at, fact->value.size) != 0) continue;
    if (parts_match(values, parts + 1, count - 1, span_from(text, fact->value.size))) return true;
  }
  return false;
}

// `first`: at the beginning of a topic that does not begin with '$'.
static bool usable(struct span value, bool first)
{
  if (value.size == 0 || (first && value.at[0] == '$')) return false;
  return !memchr(value.at, '/', value.size) && !memchr(value.at, '+', value.size) && !memchr(value.at, '#', value.size);
}

static bool part_usable(const struct acl_values *values, const struct acl_part *part, bool first)
{
  const struct identity *identity = values->identity;
  switch (part->kind) {
    case ACL_PART_TEXT: return !first || part->text.size == 0 || part->text.at[0] != '$';
    case ACL_PART_CLIENT_ID: return usable(values->client_id, first);
    case ACL_PART_USER: return identity && usable(identity->user, first);
    case ACL_PART_FACT: break;
  }
  for (size_t i = 0; identity && i < identity->fact_count; i++)
    if (span_equal(identity->facts[i].name, part->text) && usable(identity->facts[i].value, first)) return true;
  return false;
}

// Whether there is any text that the level stands for.
static bool parts_usable(const struct acl_values *values, const struct acl_node *node, bool first)
{
  for (size_t i = 0; i < node->part_count; i++)
    if (!part_usable(values, &node->parts[i], first && i == 0)) return false;
  return true;
}

// ---- Nodes

struct child_key {
  const struct acl_node *parent;
  struct span level;
};

static uint64_t child_hash(const struct acl_node *parent, struct span level)
{
  return hash_span((uintptr_t)parent * 0x9e3779b97f4a7c15u, level);
}

static bool child_matches(const void *item, const void *key)
{
  const struct acl_node *node = item;
  const struct child_key *wanted = key;
  return node->parent == wanted->parent && span_equal(span_of(node->level, node->level_size), wanted->level);
}

// `level` without its doubled braces, and what it is made of.
static void fill_level(struct acl_node *node, struct span level)
{
  struct acl_part part;
  size_t size = 0;
  for (size_t cursor = 0; next_part(level, &cursor, &part) == PART_FOUND;) {
    if (node->parts) {
      struct span text = part.text;
      if (text.size > 0) memcpy(node->level + size, text.at, text.size);
      part.text = span_of(node->level + size, text.size);
      node->parts[node->part_count++] = part;
    } else {
      memcpy(node->level + size, part.text.at, part.text.size);
    }
    size += part.text.size;
  }
  node->level_size = (uint16_t)size;
}

struct acl_node *acl_node_create(struct acl *acl, struct acl_node *parent, struct span level, bool has_parts)
{
  size_t parts = 0;
  struct acl_part part;
  for (size_t cursor = 0; has_parts && next_part(level, &cursor, &part) == PART_FOUND;) parts++;
  size_t texts = (sizeof(struct acl_node) + level.size + _Alignof(struct acl_part) - 1) & ~(_Alignof(struct acl_part) - 1);
  struct acl_node *node = malloc(texts + parts * sizeof *node->parts);
  if (!node) return NULL;
  *node = (struct acl_node){.parent = parent, .first_subscribe_deny = ACL_NO_RULE};
  if (parts) node->parts = (struct acl_part *)((char *)node + texts);
  fill_level(node, level);
  node->of_list = acl->nodes;
  acl->nodes = node;
  return node;
}

void acl_nodes_free(struct acl *acl)
{
  for (struct acl_node *node = acl->nodes, *next; node; node = next) {
    next = node->of_list;
    free(node->ends.at);
    free(node->multi.at);
    free(node);
  }
  acl->nodes = NULL;
}

static struct acl_node *literal_child(struct acl *acl, struct acl_node *parent, struct span level)
{
  struct acl_node *node = acl_node_create(acl, parent, level, false);
  if (!node) return NULL;
  struct span text = span_of(node->level, node->level_size);
  struct child_key key = {.parent = parent, .level = text};
  struct acl_node *there = map_find(&acl->children, child_hash(parent, text), child_matches, &key);
  if (there) {
    acl->nodes = node->of_list;
    free(node);
    return there;
  }
  if (map_insert(&acl->children, child_hash(parent, text), node) != OK) return NULL;
  node->next = parent->literal;
  parent->literal = node;
  return node;
}

static bool same_parts(const struct acl_node *a, const struct acl_node *b)
{
  if (a->part_count != b->part_count) return false;
  for (size_t i = 0; i < a->part_count; i++)
    if (a->parts[i].kind != b->parts[i].kind || !span_equal(a->parts[i].text, b->parts[i].text)) return false;
  return true;
}

static struct acl_node *variable_child(struct acl *acl, struct acl_node *parent, struct span level)
{
  struct acl_node *node = acl_node_create(acl, parent, level, true);
  if (!node) return NULL;
  struct acl_node *there = parent->variable;
  while (there && !same_parts(there, node)) there = there->next;
  if (there) {
    acl->nodes = node->of_list;
    free(node);
    return there;
  }
  node->next = parent->variable;
  parent->variable = node;
  return node;
}

static struct acl_node *child(struct acl *acl, struct acl_node *parent, struct span level)
{
  if (level.size == 1 && level.at[0] == '+') {
    if (!parent->plus) parent->plus = acl_node_create(acl, parent, level, false);
    return parent->plus;
  }
  return has_variables(level) ? variable_child(acl, parent, level) : literal_child(acl, parent, level);
}

static enum status numbers_add(struct acl_numbers *numbers, uint32_t number)
{
  if (numbers->count > 0 && numbers->at[numbers->count - 1] == number) return OK;  // the same filter twice in a rule
  if (numbers->count == numbers->capacity) {
    uint32_t capacity = numbers->capacity ? numbers->capacity * 2 : 1;
    uint32_t *at = reallocarray(numbers->at, capacity, sizeof *at);
    if (!at) return ERR_NO_MEMORY;
    numbers->at = at;
    numbers->capacity = capacity;
  }
  numbers->at[numbers->count++] = number;
  return OK;
}

enum status acl_topic_add(struct acl *acl, struct acl_node *root, struct span filter, uint32_t number)
{
  const struct acl_kept *rule = &acl->rules[number];
  bool denies = !rule->allow && (rule->verbs & ACL_SUBSCRIBE);
  struct acl_node *node = root;
  struct span level;
  bool multi = false;
  if (denies && node->first_subscribe_deny == ACL_NO_RULE) node->first_subscribe_deny = number;
  for (size_t cursor = 0; mqtt_next_level(filter, &cursor, &level);) {
    multi = level.size == 1 && level.at[0] == '#';
    if (multi) break;
    node = child(acl, node, level);
    if (!node) return ERR_NO_MEMORY;
    if (denies && node->first_subscribe_deny == ACL_NO_RULE) node->first_subscribe_deny = number;
  }
  return numbers_add(multi ? &node->multi : &node->ends, number);
}

// ---- Finding

struct search {
  const struct acl *acl;
  const struct acl_values *values;
  const struct acl_request *request;
  uint32_t best;
};

static bool applies(const struct acl_kept *rule, const struct acl_request *request)
{
  if (!(rule->verbs & request->verb)) return false;
  if (request->verb != ACL_PUBLISH) return true;
  if (rule->retain == ACL_RETAIN_ONLY && !request->retain) return false;
  if (rule->retain == ACL_RETAIN_NEVER && request->retain) return false;
  return !rule->allow || request->qos <= rule->qos_max;
}

// `covers`: the rules' filter has all that is asked for, not only some of it.
static void look(struct search *search, const struct acl_numbers *numbers, bool covers)
{
  for (uint32_t i = 0; i < numbers->count && numbers->at[i] < search->best; i++) {
    const struct acl_kept *rule = &search->acl->rules[numbers->at[i]];
    if ((rule->allow && !covers) || !applies(rule, search->request)) continue;
    search->best = numbers->at[i];
    return;
  }
}

static const struct acl_node *find_child(const struct search *search, const struct acl_node *parent, struct span level)
{
  if (!parent->literal) return NULL;
  struct child_key key = {.parent = parent, .level = level};
  return map_find(&search->acl->children, child_hash(parent, level), child_matches, &key);
}

// Whether a level with variables may stand for the first level of a topic that begins with '$': only when the rule itself
// says so.
static bool names_dollar(const struct acl_node *node)
{
  return node->parts[0].kind == ACL_PART_TEXT && node->parts[0].text.size > 0;
}

// A topic name: what matches it covers it.
static void find_name(struct search *search, const struct acl_node *node, size_t cursor)
{
  struct span topic = search->request->topic, level;
  bool hidden = !node->parent && topic.size > 0 && topic.at[0] == '$';  // [MQTT-4.7.2-1]
  if (!hidden) look(search, &node->multi, true);
  if (!mqtt_next_level(topic, &cursor, &level)) {
    look(search, &node->ends, true);
    return;
  }
  const struct acl_node *next = find_child(search, node, level);
  if (next) find_name(search, next, cursor);
  if (node->plus && !hidden) find_name(search, node->plus, cursor);
  for (next = node->variable; next; next = next->next)
    if ((!hidden || names_dollar(next)) && parts_match(search->values, next->parts, next->part_count, level))
      find_name(search, next, cursor);
}

static void find_filter(struct search *search, const struct acl_node *node, size_t cursor, bool covers);

// Children that a wildcard level of the request stands for, besides others: they may deny.
static void find_below(struct search *search, const struct acl_node *node, size_t cursor, bool first)
{
  if (node->first_subscribe_deny >= search->best) return;
  for (const struct acl_node *next = node->literal; next; next = next->next)
    if (!first || next->level_size == 0 || next->level[0] != '$') find_filter(search, next, cursor, false);
  for (const struct acl_node *next = node->variable; next; next = next->next)
    if (parts_usable(search->values, next, first)) find_filter(search, next, cursor, false);
}

// A topic filter: an allowing rule has to cover all of it, a denying one only touches it.
static void find_filter(struct search *search, const struct acl_node *node, size_t cursor, bool covers)
{
  if (!covers && node->first_subscribe_deny >= search->best) return;
  struct span filter = search->request->topic, level;
  size_t start = cursor;
  bool first = !node->parent;
  bool hidden = first && filter.size > 0 && filter.at[0] == '$';
  if (!hidden) look(search, &node->multi, covers);
  if (!mqtt_next_level(filter, &cursor, &level)) {
    look(search, &node->ends, covers);
    return;
  }
  if (level.size == 1 && level.at[0] == '#') {
    look(search, &node->ends, false);
    if (node->plus) find_filter(search, node->plus, start, false);
    find_below(search, node, start, first);
    return;
  }
  if (level.size == 1 && level.at[0] == '+') {
    if (node->plus) find_filter(search, node->plus, cursor, covers);
    find_below(search, node, cursor, first);
    return;
  }
  const struct acl_node *next = find_child(search, node, level);
  if (next) find_filter(search, next, cursor, covers);
  if (node->plus && !hidden) find_filter(search, node->plus, cursor, covers);
  for (next = node->variable; next; next = next->next)
    if ((!hidden || names_dollar(next)) && parts_match(search->values, next->parts, next->part_count, level))
      find_filter(search, next, cursor, covers);
}

uint32_t acl_topic_find(const struct acl *acl, const struct acl_node *root, const struct acl_values *values,
                        const struct acl_request *request, uint32_t best)
{
  struct search search = {.acl = acl, .values = values, .request = request, .best = best};
  if (request->verb == ACL_SUBSCRIBE)
    find_filter(&search, root, 0, true);
  else
    find_name(&search, root, 0);
  return search.best;
}
