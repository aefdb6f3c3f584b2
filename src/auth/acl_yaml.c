// Our own form of an access control list, a YAML list of rules; all mistakes are told, not only the first.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "auth/acl_reading.h"
#include "auth/certificate_name.h"
#include "base/nearest.h"

enum { MAX_DEPTH = 8, MAX_ANCHORS = 1000, MAX_TOPICS = 10000, MAX_ALL_TOPICS = 1000000 };

struct reader {
  struct acl_reading *reading;
  yaml_document_t *document;
  size_t topics;  // in all rules: aliases make many of few
};

static size_t line_of(const yaml_node_t *node)
{
  return node->start_mark.line + 1;
}

static size_t column_of(const yaml_node_t *node)
{
  return node->start_mark.column + 1;
}

#define COMPLAIN(reader, node, ...) acl_complain((reader)->reading, line_of(node), column_of(node), __VA_ARGS__)

static struct span text_of(const yaml_node_t *node)
{
  return span_of(node->data.scalar.value, node->data.scalar.length);
}

static bool is(const yaml_node_t *node, const char *word)
{
  return node->type == YAML_SCALAR_NODE && span_equal(text_of(node), span_text(word));
}

static const char *kind_of(const yaml_node_t *node)
{
  if (node->type == YAML_SEQUENCE_NODE) return "a list";
  return node->type == YAML_MAPPING_NODE ? "a mapping" : "a value";
}

// ---- Who

static bool known_fact(struct span name)
{
  return certificate_fact_known(name) || (name.size > 4 && memcmp(name.at, "jwt.", 4) == 0);
}

static void complain_who(struct reader *reader, const yaml_node_t *node, struct span kind)
{
  enum { OTHERS = 5 };
  const char *kinds[OTHERS + CERTIFICATE_FACTS] = {"anonymous", "user", "group", "client", "listener"};
  memcpy(kinds + OTHERS, certificate_facts, sizeof certificate_facts);
  char shown[ACL_SHOWN + 1];
  const char *nearest = nearest_name(acl_show(kind, shown), kinds, sizeof kinds / sizeof kinds[0]);
  if (nearest)
    COMPLAIN(reader, node, "who: unknown subject \"%s\"; did you mean \"%s%s\"?", shown, nearest,
             strcmp(nearest, "anonymous") == 0 ? "" : ":");
  else
    COMPLAIN(reader, node,
             "who: unknown subject \"%s\"; it is \"*\", anonymous, user:NAME, group:NAME, client:ID, listener:NAME, "
             "cert.FIELD:VALUE "
             "or jwt.CLAIM:VALUE",
             shown);
}

// "user: ann" is nobody, and what denies it something denies nothing. Where a name really has one, a backslash says so.
static bool has_blank_around(struct span who)
{
  bool escaped = who.size > 1 && who.at[who.size - 2] == '\\';
  return who.at[0] == ' ' || (who.at[who.size - 1] == ' ' && !escaped);
}

static bool read_who(struct reader *reader, const yaml_node_t *node, struct acl_rule *rule)
{
  static const struct {
    const char *name;
    enum acl_subject subject;
  } kinds[] = {{"user", ACL_USER}, {"group", ACL_GROUP}, {"client", ACL_CLIENT}, {"listener", ACL_LISTENER}};
  if (node->type != YAML_SCALAR_NODE) {
    COMPLAIN(reader, node, "who: is %s; write one subject, \"user:ann\" for example", kind_of(node));
    return false;
  }
  struct span text = text_of(node);
  if (is(node, "*") || is(node, "anonymous")) {
    rule->subject = is(node, "*") ? ACL_ANYBODY : ACL_ANONYMOUS;
    return true;
  }
  const uint8_t *colon = text.size > 0 ? memchr(text.at, ':', text.size) : NULL;
  struct span kind = span_of(text.at, colon ? (size_t)(colon - text.at) : text.size);
  if (colon) rule->who = span_from(text, kind.size + 1);
  rule->subject = ACL_ANYBODY;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (span_equal(kind, span_text(kinds[i].name))) rule->subject = kinds[i].subject;
  if (rule->subject == ACL_ANYBODY && known_fact(kind)) {
    rule->subject = ACL_FACT;
    rule->fact = kind;
  }
  if (rule->subject == ACL_ANYBODY) {
    complain_who(reader, node, kind);
    return false;
  }
  if (rule->who.size == 0) {
    char shown[ACL_SHOWN + 1];
    COMPLAIN(reader, node, "who: names nobody; write \"%s:\" and a name, or a pattern with '*'", acl_show(kind, shown));
    return false;
  }
  if (has_blank_around(rule->who)) {
    COMPLAIN(reader, node, "who: a name has no blanks around it; write \"user:ann\", or a backslash in front of a blank");
    return false;
  }
  return true;
}

// ---- Values

// The items of a list; a single value is a list of one.
static size_t item_count(const yaml_node_t *node)
{
  if (node->type != YAML_SEQUENCE_NODE) return 1;
  return (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
}

static const yaml_node_t *item(struct reader *reader, const yaml_node_t *node, size_t index)
{
  if (node->type != YAML_SEQUENCE_NODE) return node;
  return yaml_document_get_node(reader->document, node->data.sequence.items.start[index]);
}

static bool read_verbs(struct reader *reader, const yaml_node_t *node, const char *key, uint8_t *out)
{
  static const char *const verbs[] = {"publish", "subscribe", "receive"};
  char shown[ACL_SHOWN + 1];
  bool good = true;
  for (size_t i = 0; i < item_count(node); i++) {
    const yaml_node_t *verb = item(reader, node, i);
    size_t place = 0;
    while (place < 3 && !is(verb, verbs[place])) place++;
    if (place < 3) {
      *out = (uint8_t)(*out | 1u << place);
      continue;
    }
    good = false;
    if (verb->type != YAML_SCALAR_NODE) {
      COMPLAIN(reader, verb, "%s: is %s; write a list of publish, subscribe and receive", key, kind_of(verb));
      continue;
    }
    const char *nearest = nearest_name(acl_show(text_of(verb), shown), verbs, 3);
    COMPLAIN(reader, verb, "%s: unknown verb \"%s\"; %s%s%s", key, shown,
             nearest ? "did you mean \"" : "there are publish, subscribe and receive", nearest ? nearest : "",
             nearest ? "\"?" : "");
  }
  if (good && *out == 0) COMPLAIN(reader, node, "%s: is empty; name publish, subscribe or receive", key);
  return good && *out != 0;
}

static bool read_qos(struct reader *reader, const yaml_node_t *node, uint8_t *out)
{
  static const char *const values[] = {"0", "1", "2"};
  for (uint8_t i = 0; i < 3; i++) {
    if (!is(node, values[i])) continue;
    *out = i;
    return true;
  }
  COMPLAIN(reader, node, "qos_max: has to be 0, 1 or 2");
  return false;
}

static bool read_retain(struct reader *reader, const yaml_node_t *node, enum acl_retain *out)
{
  static const char *const values[] = {"any", "only", "never"};
  for (unsigned i = 0; i < 3; i++) {
    if (!is(node, values[i])) continue;
    *out = (enum acl_retain)i;
    return true;
  }
  COMPLAIN(reader, node, "retain: has to be any, only or never");
  return false;
}

// Heap; NULL after a complaint.
static struct span *read_topics(struct reader *reader, const yaml_node_t *node, size_t *out_count)
{
  size_t count = item_count(node);
  if (count == 0 || node->type == YAML_MAPPING_NODE || count > MAX_TOPICS) {
    COMPLAIN(reader, node, "topics: %s; write a list of topic filters, [\"line/7/#\"] for example",
             count == 0           ? "is empty"
             : count > MAX_TOPICS ? "are more than 10000"
                                  : "is a mapping");
    return NULL;
  }
  struct span *topics = calloc(count, sizeof *topics);
  if (!topics) {
    reader->reading->failed = reader->reading->short_of_memory = true;
    return NULL;
  }
  for (size_t i = 0; i < count; i++) {
    const yaml_node_t *topic = item(reader, node, i);
    if (topic->type != YAML_SCALAR_NODE) {
      // {client_id} without quotes is a mapping for YAML.
      COMPLAIN(reader, topic, "topics: is %s; put topic filters in quotes", kind_of(topic));
      free(topics);
      return NULL;
    }
    topics[i] = text_of(topic);
  }
  reader->topics += count;
  *out_count = count;
  return topics;
}

// ---- Rules

enum key { KEY_WHO, KEY_ALLOW, KEY_DENY, KEY_TOPICS, KEY_QOS_MAX, KEY_RETAIN, KEYS };

static const char *const key_names[KEYS] = {"who", "allow", "deny", "topics", "qos_max", "retain"};

// The values of a rule by their keys.
static bool find_keys(struct reader *reader, const yaml_node_t *node, const yaml_node_t *values[KEYS])
{
  char shown[ACL_SHOWN + 1];
  bool good = true;
  for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
    const yaml_node_t *key = yaml_document_get_node(reader->document, pair->key);
    unsigned place = 0;
    while (place < KEYS && !is(key, key_names[place])) place++;
    if (place < KEYS && !values[place]) {
      values[place] = yaml_document_get_node(reader->document, pair->value);
      continue;
    }
    good = false;
    if (place < KEYS) {
      COMPLAIN(reader, key, "%s: is there twice; keep one", key_names[place]);
    } else if (key->type != YAML_SCALAR_NODE) {
      COMPLAIN(reader, key, "a key has to be a word");
    } else {
      const char *nearest = nearest_name(acl_show(text_of(key), shown), key_names, KEYS);
      COMPLAIN(reader, key, "%s: unknown key; %s%s%s", shown,
               nearest ? "did you mean \"" : "a rule has who, allow or deny, topics, qos_max and retain",
               nearest ? nearest : "", nearest ? "\"?" : "");
    }
  }
  return good;
}

static bool check_keys(struct reader *reader, const yaml_node_t *node, const yaml_node_t *const values[KEYS])
{
  const char *wrong = NULL;
  if (!values[KEY_WHO])
    wrong = "has no \"who\"; write who: \"*\" for everybody";
  else if (!values[KEY_ALLOW] && !values[KEY_DENY])
    wrong = "has neither \"allow\" nor \"deny\"; write allow: [publish, subscribe, receive]";
  else if (values[KEY_ALLOW] && values[KEY_DENY])
    wrong = "has both \"allow\" and \"deny\"; make two rules of it";
  else if (!values[KEY_TOPICS])
    wrong = "has no \"topics\"; write topics: [\"#\"] for all but those that begin with '$'";
  else if (values[KEY_DENY] && values[KEY_QOS_MAX])
    wrong = "has \"qos_max\" with \"deny\", but it narrows what is allowed; write an allowing rule in front of it";
  if (wrong) COMPLAIN(reader, node, "the rule %s", wrong);
  return !wrong;
}

static void read_rule(struct reader *reader, const yaml_node_t *node)
{
  if (node->type != YAML_MAPPING_NODE) {
    COMPLAIN(reader, node, "a rule has to be a mapping: {who: \"user:ann\", allow: [publish], topics: [\"line/7/#\"]}");
    return;
  }
  const yaml_node_t *values[KEYS] = {0};
  bool good = find_keys(reader, node, values);
  if (!good || !check_keys(reader, node, values)) return;
  bool allow = values[KEY_ALLOW];
  struct acl_rule rule = {.allow = allow, .qos_max = 2, .file = reader->reading->name, .line = (uint32_t)line_of(node)};
  good &= read_who(reader, values[KEY_WHO], &rule);
  good &= read_verbs(reader, allow ? values[KEY_ALLOW] : values[KEY_DENY], allow ? "allow" : "deny", &rule.verbs);
  if (values[KEY_QOS_MAX]) good &= read_qos(reader, values[KEY_QOS_MAX], &rule.qos_max);
  if (values[KEY_RETAIN]) good &= read_retain(reader, values[KEY_RETAIN], &rule.retain);
  if (good && rule.retain != ACL_RETAIN_ANY && !(rule.verbs & ACL_PUBLISH)) {
    COMPLAIN(reader, values[KEY_RETAIN], "retain: narrows publishing only, and the rule does not name publish");
    good = false;
  }
  struct span *topics = read_topics(reader, values[KEY_TOPICS], &rule.topic_count);
  rule.topics = topics;
  if (good && topics) acl_take(reader->reading, &rule, column_of(values[KEY_TOPICS]));
  free(topics);
}

static void read_root(struct reader *reader, const yaml_node_t *root)
{
  bool empty = root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0;
  if (empty) return;
  if (root->type != YAML_SEQUENCE_NODE) {
    COMPLAIN(reader, root, "is %s; an access control list is a list of rules, each with a dash in front", kind_of(root));
    return;
  }
  for (size_t i = 0; i < item_count(root) && reader->topics <= MAX_ALL_TOPICS; i++) read_rule(reader, item(reader, root, i));
  if (reader->topics > MAX_ALL_TOPICS) COMPLAIN(reader, root, "the rules have more than %d topics", MAX_ALL_TOPICS);
}

// ---- YAML

// libyaml's time grows with the square of the nesting and of the anchors. A first pass without a tree finds more of either
// than a list needs.
static bool check_shape(struct acl_reading *reading, struct span text)
{
  yaml_parser_t parser;
  yaml_event_t event;
  size_t depth = 0, anchors = 0;
  const char *wrong = NULL;
  if (!yaml_parser_initialize(&parser)) return true;  // the second pass says so
  yaml_parser_set_input_string(&parser, text.at, text.size);
  for (bool more = true; more && !wrong && yaml_parser_parse(&parser, &event);) {
    bool sequence = event.type == YAML_SEQUENCE_START_EVENT, mapping = event.type == YAML_MAPPING_START_EVENT;
    if (sequence || mapping) depth++;
    if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT) depth--;
    anchors += (sequence && event.data.sequence_start.anchor) || (mapping && event.data.mapping_start.anchor) ||
               (event.type == YAML_SCALAR_EVENT && event.data.scalar.anchor);
    if (depth > MAX_DEPTH) wrong = "lists and mappings are nested too deep";
    if (anchors > MAX_ANCHORS) wrong = "there are more than 1000 anchors";
    if (wrong) acl_complain(reading, event.start_mark.line + 1, event.start_mark.column + 1, "%s", wrong);
    more = event.type != YAML_STREAM_END_EVENT && event.type != YAML_NO_EVENT;
    yaml_event_delete(&event);
  }
  yaml_parser_delete(&parser);
  return !wrong;
}

static void complain_syntax(struct acl_reading *reading, const yaml_parser_t *parser, struct span text)
{
  if (parser->error == YAML_MEMORY_ERROR) {
    reading->failed = reading->short_of_memory = true;
    return;
  }
  if (parser->error == YAML_READER_ERROR) {
    acl_complain(reading, 0, 0, "not YAML: %s", parser->problem);
    return;
  }
  size_t at = parser->problem_mark.index;
  bool tab = at < text.size && text.at[at] == '\t';
  bool star = at > 0 && at <= text.size && text.at[at - 1] == '*';
  acl_complain(reading, parser->problem_mark.line + 1, parser->problem_mark.column + 1, "not YAML: %s%s%s%s",
               parser->problem ? parser->problem : "it cannot be read", parser->context ? " " : "",
               parser->context ? parser->context : "",
               tab    ? "; indent with spaces, not with tabs"
               : star ? "; put the star in quotes"
                      : "");
}

void acl_read_yaml(struct acl_reading *reading, struct span text)
{
  if (!text.at) text = span_text("");
  if (!check_shape(reading, text)) return;
  yaml_parser_t parser;
  yaml_document_t document, another;
  if (!yaml_parser_initialize(&parser)) {
    reading->failed = reading->short_of_memory = true;
    return;
  }
  yaml_parser_set_input_string(&parser, text.at, text.size);
  if (!yaml_parser_load(&parser, &document)) {
    complain_syntax(reading, &parser, text);
    yaml_parser_delete(&parser);
    return;
  }
  struct reader reader = {.reading = reading, .document = &document};
  const yaml_node_t *root = yaml_document_get_root_node(&document);
  if (root) {
    read_root(&reader, root);
    if (!yaml_parser_load(&parser, &another)) {
      complain_syntax(reading, &parser, text);
    } else {
      root = yaml_document_get_root_node(&another);
      if (root) COMPLAIN(&reader, root, "a second document begins here; keep one list");
      yaml_document_delete(&another);
    }
  }
  yaml_document_delete(&document);
  yaml_parser_delete(&parser);
}
