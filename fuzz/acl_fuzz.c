// An access control list, a NUL, a topic filter, a NUL, a topic, and perhaps a NUL and a user name. Parsing must end in a list
// or in words; of a list the decisions must agree with themselves: the cache with the walk, and who may subscribe to a filter
// may subscribe to each topic in it. What Mosquitto's list denies when it is read line by line, as mosquitto.conf(5) has it,
// is denied here, and what it allows is allowed, but for names that are more than a level.
#include <stdlib.h>
#include <string.h>

#include "auth/acl_file.h"
#include "mqtt/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition)
{
  if (!condition) abort();
}

// Up to the next NUL, in memory of its own size.
static struct span take(struct span *rest, uint8_t **out)
{
  const uint8_t *nul = rest->size > 0 ? memchr(rest->at, 0, rest->size) : NULL;
  size_t size = nul ? (size_t)(nul - rest->at) : rest->size;
  *out = malloc(size ? size : 1);
  check(*out);
  if (size) memcpy(*out, rest->at, size);
  *rest = span_from(*rest, nul ? size + 1 : size);
  return span_of(*out, size);
}

static struct acl_decision decide(struct acl_view *view, enum acl_verb verb, struct span topic)
{
  struct acl_decision first, again;
  const struct acl_request request = {.verb = verb, .topic = topic, .topic_hash = topic.size, .qos = topic.size % 3};
  acl_decide(view, &request, &first);
  acl_decide(view, &request, &again);
  check(first.allowed == again.allowed && first.matched == again.matched && first.line == again.line);
  check(first.matched || !first.allowed);
  return first;
}

// ---- Mosquitto's list, simply

enum { READ = 1, WRITE = 2, DENY = 4 };

struct rule {
  bool pattern, anonymous;
  struct span user, topic;
  int access;
};

static bool is_blank(uint8_t byte)
{
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static struct span cut_blanks(struct span text)
{
  while (text.size > 0 && is_blank(text.at[0])) text = span_from(text, 1);
  while (text.size > 0 && is_blank(text.at[text.size - 1])) text.size--;
  return text;
}

static struct span take_word(struct span *rest)
{
  while (rest->size > 0 && rest->at[0] == ' ') *rest = span_from(*rest, 1);
  size_t size = 0;
  while (size < rest->size && rest->at[size] != ' ') size++;
  struct span word = span_of(rest->at, size);
  *rest = span_from(*rest, size);
  return word;
}

// False: Mosquitto would not take the line. A line that is no rule leaves rule->access 0.
static bool read_rule(struct span line, struct rule *rule)
{
  static const char *const names[] = {"read", "write", "readwrite", "deny"};
  static const int accesses[] = {READ, WRITE, READ | WRITE, DENY};
  rule->access = 0;
  while (line.size > 0 && is_blank(line.at[line.size - 1])) line.size--;
  struct span word = line.size > 0 && line.at[0] == '#' ? (struct span){0} : take_word(&line);
  if (word.size == 0) return true;
  if (span_equal(word, span_text("user"))) {
    rule->user = cut_blanks(line);
    rule->anonymous = false;
    return rule->user.size > 0;
  }
  rule->pattern = span_equal(word, span_text("pattern"));
  if (!rule->pattern && !span_equal(word, span_text("topic"))) return false;
  word = take_word(&line);
  rule->topic = cut_blanks(line);
  rule->access = READ | WRITE;
  if (rule->topic.size == 0) {
    rule->topic = word;
    return word.size > 0;
  }
  for (size_t i = 0; i < 4; i++) {
    rule->access = accesses[i];
    if (span_equal(word, span_text(names[i]))) return true;
  }
  return false;
}

static bool rule_matches(const struct rule *rule, struct span user, struct span client_id, struct span topic)
{
  uint8_t filter[1 << 16];
  size_t size = 0;
  for (size_t i = 0; i < rule->topic.size; i++) {
    uint8_t next = rule->pattern && rule->topic.at[i] == '%' && i + 1 < rule->topic.size ? rule->topic.at[i + 1] : 0;
    struct span one = next == 'c' ? client_id : next == 'u' ? user : span_of(rule->topic.at + i, 1);
    if (next == 'u' && user.size == 0) return false;
    if (next == 'c' || next == 'u') i++;
    if (one.size > sizeof filter - size) return false;
    memcpy(filter + size, one.at, one.size);
    size += one.size;
  }
  return mqtt_filter_matches(span_of(filter, size), topic);
}

// Takes the next line off *text.
static struct span take_line(struct span *text)
{
  const uint8_t *end = memchr(text->at, '\n', text->size);
  struct span line = span_of(text->at, end ? (size_t)(end - text->at) : text->size);
  *text = span_from(*text, line.size + (end != NULL));
  return line;
}

// 1: some rule of this kind has the topic, 0: none, -1: Mosquitto does not take the list.
static int any_rule(struct span text, bool pattern, bool denies, int access, struct span user, struct span client_id,
                    struct span topic)
{
  struct rule rule = {.anonymous = true};
  int found = 0;
  while (text.size > 0) {
    if (!read_rule(take_line(&text), &rule)) return -1;
    bool of_client = rule.anonymous ? user.size == 0 : span_equal(rule.user, user);
    if (rule.access == 0 || rule.pattern != pattern || (!pattern && !of_client)) continue;
    if ((rule.access & (denies ? DENY : access)) && rule_matches(&rule, user, client_id, topic)) found = 1;
  }
  return found;
}

static bool has_any(struct span text, const char *bytes)
{
  for (size_t i = 0; i < text.size; i++)
    if (text.at[i] && strchr(bytes, text.at[i])) return true;
  return false;
}

static bool has_patterns(struct span text)
{
  struct rule rule = {.anonymous = true};
  bool found = false;
  while (text.size > 0) found |= read_rule(take_line(&text), &rule) && rule.access != 0 && rule.pattern;
  return found;
}

// 1: allowed, 0: denied, -1: no list of Mosquitto's.
static int mosquitto_allows(struct span text, int access, struct span user, struct span client_id, struct span topic)
{
  int first = any_rule(text, false, true, access, user, client_id, topic);
  if (first != 0) return first < 0 ? -1 : 0;
  if (any_rule(text, false, false, access, user, client_id, topic)) return 1;
  if (has_patterns(text) && (has_any(user, "+#") || has_any(client_id, "+#"))) return 0;
  if (any_rule(text, true, true, access, user, client_id, topic)) return 0;
  return any_rule(text, true, false, access, user, client_id, topic);
}

static bool is_odd(struct span name)
{
  return has_any(name, "/") || (name.size > 0 && name.at[0] == '$');
}

static void compare(struct acl_view *view, struct span text, struct span user, struct span client_id, struct span topic)
{
  static const enum acl_verb verbs[] = {ACL_PUBLISH, ACL_RECEIVE};
  for (size_t i = 0; i < 2; i++) {
    int theirs = mosquitto_allows(text, verbs[i] == ACL_PUBLISH ? WRITE : READ, user, client_id, topic);
    if (theirs < 0) return;
    bool ours = decide(view, verbs[i], topic).allowed;
    check(!ours || theirs == 1);
    check(ours || theirs == 0 || is_odd(user) || is_odd(client_id));
  }
}

// ---- Asking

static void ask(struct acl *acl, struct span text, const struct identity *identity, struct span client_id,
                struct span filter, struct span topic)
{
  struct acl_view *view;
  if (acl_view_create(acl, identity, client_id, &view) != OK) return;
  bool may_subscribe = decide(view, ACL_SUBSCRIBE, filter).allowed;
  if (mqtt_topic_valid(topic)) {
    if (may_subscribe && mqtt_filter_matches(filter, topic)) check(decide(view, ACL_SUBSCRIBE, topic).allowed);
    decide(view, ACL_PUBLISH, topic);
    bool may_receive = decide(view, ACL_RECEIVE, topic).allowed;
    if (acl_view_receives_all(view) && topic.at[0] != '$') check(may_receive);
    if (client_id.size > 0) compare(view, text, identity ? identity->user : (struct span){0}, client_id, topic);
  }
  acl_view_free(view);
}

static void ask_all(struct acl *acl, struct span text, struct span filter, struct span topic, struct span user)
{
  const struct span groups[] = {topic, span_text("operators")};
  const struct identity_fact facts[] = {
      {span_text("cert.cn"), span_text("a")}, {span_text("jwt.site"), topic}, {span_text("jwt.site"), span_text("b")}};
  const struct identity parts = {.user = user.size > 0 ? user : span_text("ann"),
                                 .listener = span_text("mqtt://127.0.0.1:1883"),
                                 .groups = groups,
                                 .group_count = 2,
                                 .facts = facts,
                                 .fact_count = 3};
  const struct identity *identity = identity_create(&parts);
  check(identity);
  ask(acl, text, NULL, span_text("c"), filter, topic);
  ask(acl, text, identity, topic, filter, topic);
  ask(acl, text, identity, span_text("a"), filter, topic);
  identity_unref(identity);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size > 8192) return 0;
  struct span rest = span_of(data, size);
  uint8_t *owned[4];
  struct span text = take(&rest, &owned[0]), filter = take(&rest, &owned[1]), topic = take(&rest, &owned[2]),
              user = take(&rest, &owned[3]);
  struct acl *acl;
  char **problems;
  size_t count;
  struct mqtt_filter parsed;
  enum status status = acl_file_parse(text, "acl", &acl, &problems, &count);
  check((status == OK) == (count == 0) || status == ERR_NO_MEMORY);
  if (status == OK) {
    if (mqtt_filter_parse(filter, &parsed)) ask_all(acl, text, parsed.filter, topic, user);
    acl_unref(acl);
  }
  for (size_t i = 0; i < count; i++) {
    check(strncmp(problems[i], "acl", 3) == 0);
    free(problems[i]);
  }
  free(problems);
  for (size_t i = 0; i < 4; i++) free(owned[i]);
  return 0;
}
