// An access control list: rules by subject.

#include "core/acl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/acl_internal.h"

enum status acl_create(struct acl **out)
{
  struct acl *acl = calloc(1, sizeof *acl);
  if (!acl) return ERR_NO_MEMORY;
  references_init(&acl->references);
  *out = acl;
  return OK;
}

struct acl *acl_ref(struct acl *acl)
{
  if (acl) references_take(&acl->references);
  return acl;
}

void acl_unref(struct acl *acl)
{
  if (!acl || !references_drop(&acl->references)) return;
  acl_unref(acl->shadow);
  acl_nodes_free(acl);
  for (struct acl_who *who = acl->whos, *next; who; who = next) {
    next = who->of_list;
    free(who);
  }
  for (struct acl_file_name *file = acl->files, *next; file; file = next) {
    next = file->next;
    free(file);
  }
  map_deinit(&acl->by_who);
  map_deinit(&acl->children);
  free(acl->patterns);
  free(acl->rules);
  free(acl);
}

void acl_set_shadow(struct acl *acl, struct acl *shadow)
{
  assert(acl != shadow);
  acl_unref(acl->shadow);
  acl->shadow = shadow;
}

size_t acl_rule_count(const struct acl *acl)
{
  return acl->rule_count;
}

const char *acl_verb_name(enum acl_verb verb)
{
  return verb == ACL_PUBLISH ? "publish" : verb == ACL_SUBSCRIBE ? "subscribe" : "receive";
}

// ---- Patterns

static bool is_pattern(struct span text)
{
  for (size_t i = 0; i < text.size; i++) {
    if (text.at[i] == '*' || text.at[i] == '?') return true;
    if (text.at[i] == '\\') i++;
  }
  return false;
}

// The character of a pattern, and how many bytes it takes there.
static size_t pattern_byte(struct span pattern, size_t at, uint8_t *out)
{
  bool escaped = pattern.at[at] == '\\' && at + 1 < pattern.size;
  *out = pattern.at[at + escaped];
  return escaped ? 2 : 1;
}

static size_t character_size(struct span text, size_t at)
{
  size_t size = 1;
  while (at + size < text.size && (text.at[at + size] & 0xc0) == 0x80) size++;
  return size;
}

// A '*' takes nothing at first; where the rest does not fit it takes one byte more. Only the last one ever has to.
bool acl_pattern_matches(struct span pattern, struct span text)
{
  size_t p = 0, t = 0, star = SIZE_MAX, star_t = 0;
  while (t < text.size) {
    uint8_t wanted = 0;
    size_t step = p < pattern.size ? pattern_byte(pattern, p, &wanted) : 0;
    if (step == 1 && wanted == '*') {
      star = ++p;
      star_t = t;
    } else if (step == 1 && wanted == '?') {
      p++;
      t += character_size(text, t);
    } else if (step > 0 && wanted == text.at[t]) {
      p += step;
      t++;
    } else if (star != SIZE_MAX) {
      p = star;
      t = ++star_t;
    } else {
      return false;
    }
  }
  while (p < pattern.size && pattern.at[p] == '*') p++;
  return p == pattern.size;
}

// ---- Subjects

uint64_t acl_who_hash(const struct acl_who_key *key)
{
  uint64_t seed = ((uint64_t)key->subject + 1) << 1 | key->pattern;
  return hash_span(hash_span(seed, key->fact), key->who);
}

bool acl_who_matches(const void *item, const void *key)
{
  const struct acl_who *who = item;
  const struct acl_who_key *wanted = key;
  if (who->subject != wanted->subject || who->pattern != wanted->pattern) return false;
  return span_equal(who->fact, wanted->fact) && span_equal(who->who, wanted->who);
}

static struct acl_who *who_create(struct acl *acl, const struct acl_rule *rule, bool pattern)
{
  struct acl_who *who = malloc(sizeof *who + rule->fact.size + rule->who.size);
  if (!who) return NULL;
  *who = (struct acl_who){.subject = rule->subject,
                          .pattern = pattern,
                          .first_receive_all = ACL_NO_RULE,
                          .first_receive_deny = ACL_NO_RULE,
                          .root = acl_node_create(acl, NULL, (struct span){0}, false)};
  if (!who->root) {
    free(who);
    return NULL;
  }
  uint8_t *text = (uint8_t *)(who + 1);
  if (rule->fact.size > 0) memcpy(text, rule->fact.at, rule->fact.size);
  who->fact = span_of(text, rule->fact.size);
  text += rule->fact.size;
  size_t size = 0;
  for (size_t at = 0; at < rule->who.size; size++) {
    if (pattern)
      text[size] = rule->who.at[at++];
    else
      at += pattern_byte(rule->who, at, &text[size]);
  }
  who->who = span_of(text, size);
  who->of_list = acl->whos;
  acl->whos = who;
  return who;
}

static bool patterns_reserve(struct acl *acl)
{
  if (acl->pattern_count < acl->pattern_capacity) return true;
  uint32_t capacity = acl->pattern_capacity ? acl->pattern_capacity * 2 : 8;
  struct acl_who **patterns = reallocarray(acl->patterns, capacity, sizeof *patterns);
  if (!patterns) return false;
  acl->patterns = patterns;
  acl->pattern_capacity = capacity;
  return true;
}

static struct acl_who *who_for(struct acl *acl, const struct acl_rule *rule)
{
  bool pattern = is_pattern(rule->who);
  if (pattern && !patterns_reserve(acl)) return NULL;
  struct acl_who *who = who_create(acl, rule, pattern);
  if (!who) return NULL;
  struct acl_who_key key = {.subject = who->subject, .pattern = pattern, .fact = who->fact, .who = who->who};
  uint64_t hash = acl_who_hash(&key);
  struct acl_who *there = map_find(&acl->by_who, hash, acl_who_matches, &key);
  if (!there) {
    if (map_insert(&acl->by_who, hash, who) != OK) return NULL;
    if (pattern) acl->patterns[acl->pattern_count++] = who;
    return who;
  }
  acl->whos = who->of_list;
  acl->nodes = who->root->of_list;  // it was made last
  free(who->root);
  free(who);
  return there;
}

// ---- Rules

static const char *keep_file(struct acl *acl, const char *name)
{
  if (!name) return NULL;
  for (const struct acl_file_name *file = acl->files; file; file = file->next)
    if (strcmp(file->name, name) == 0) return file->name;
  struct acl_file_name *file = malloc(sizeof *file + strlen(name) + 1);
  if (!file) return NULL;
  memcpy(file->name, name, strlen(name) + 1);
  file->next = acl->files;
  acl->files = file;
  return file->name;
}

static enum status keep_rule(struct acl *acl, const struct acl_rule *rule)
{
  const char *file = keep_file(acl, rule->file);
  if (rule->file && !file) return ERR_NO_MEMORY;
  if (acl->rule_count == acl->rule_capacity) {
    uint32_t capacity = acl->rule_capacity ? acl->rule_capacity * 2 : 16;
    struct acl_kept *rules = reallocarray(acl->rules, capacity, sizeof *rules);
    if (!rules) return ERR_NO_MEMORY;
    acl->rules = rules;
    acl->rule_capacity = capacity;
  }
  acl->rules[acl->rule_count] = (struct acl_kept){.file = file,
                                                  .line = rule->line,
                                                  .verbs = rule->verbs,
                                                  .qos_max = rule->qos_max,
                                                  .retain = (uint8_t)rule->retain,
                                                  .allow = rule->allow};
  return OK;
}

static enum status check_rule(const struct acl_rule *rule, struct error *error)
{
  bool named = rule->subject != ACL_ANYBODY && rule->subject != ACL_ANONYMOUS;
  if (named && rule->who.size == 0) return error_set(error, ERR_INVALID, "names nobody");
  if ((rule->subject == ACL_FACT) != (rule->fact.size > 0)) return error_set(error, ERR_INVALID, "names no attribute");
  if ((rule->verbs & (ACL_PUBLISH | ACL_SUBSCRIBE | ACL_RECEIVE)) == 0)
    return error_set(error, ERR_INVALID, "names no verb: publish, subscribe or receive");
  if (rule->qos_max > 2) return error_set(error, ERR_INVALID, "qos_max is 0, 1 or 2");
  if (rule->topic_count == 0) return error_set(error, ERR_INVALID, "names no topics");
  for (size_t i = 0; i < rule->topic_count; i++) {
    enum status status = acl_topic_check(rule->topics[i], error);
    if (!status) continue;
    size_t shown = rule->topics[i].size < 100 ? rule->topics[i].size : 100;
    return error_prefix(error, "topic \"%.*s\"", (int)shown, (const char *)rule->topics[i].at);
  }
  return OK;
}

static bool is_all(struct span filter)
{
  return filter.size == 1 && filter.at[0] == '#';
}

enum status acl_add(struct acl *acl, const struct acl_rule *rule, struct error *error)
{
  enum status status = check_rule(rule, error);
  if (status) return status;
  if (acl->rule_count == ACL_NO_RULE - 1) return error_set(error, ERR_LIMIT, "the list is too long");
  struct acl_rule plain = *rule;
  if (rule->subject == ACL_ANYBODY || rule->subject == ACL_ANONYMOUS) plain.who = (struct span){0};
  struct acl_who *who = who_for(acl, &plain);
  status = who ? keep_rule(acl, rule) : ERR_NO_MEMORY;
  uint32_t number = acl->rule_count;
  bool all = false;
  for (size_t i = 0; i < rule->topic_count && status == OK; i++) {
    status = acl_topic_add(acl, who->root, rule->topics[i], number);
    all |= is_all(rule->topics[i]);
  }
  if (status) return error_set(error, status, "out of memory");
  acl->rule_count++;
  if ((rule->verbs & ACL_RECEIVE) == 0) return OK;
  if (!rule->allow && who->first_receive_deny == ACL_NO_RULE) who->first_receive_deny = number;
  if (rule->allow && all && who->first_receive_all == ACL_NO_RULE) who->first_receive_all = number;
  return OK;
}
