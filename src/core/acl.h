// Access control: an ordered list of rules; the first that matches decides, no match is denied. Immutable once it is shared,
// with a count of references that any thread may change. Pure: filled by src/auth from the configuration or a file, asked by
// the shards.
//
// A client does not walk the whole list: the rules that can concern it are picked out when it connects (struct acl_view),
// with variables replaced, and decisions are remembered by topic.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/span.h"
#include "base/status.h"
#include "core/identity.h"

struct acl;

enum acl_verb { ACL_PUBLISH = 1, ACL_SUBSCRIBE = 2, ACL_RECEIVE = 4 };
enum acl_subject { ACL_ANYBODY, ACL_USER, ACL_GROUP, ACL_CLIENT, ACL_FACT, ACL_LISTENER, ACL_ANONYMOUS };
enum acl_retain { ACL_RETAIN_ANY, ACL_RETAIN_ONLY, ACL_RETAIN_NEVER };

// A rule as it is written. Borrowed while acl_add runs.
struct acl_rule {
  enum acl_subject subject;
  struct span fact;  // ACL_FACT: "cert.ou"
  // Pattern of the user, group, client identifier, fact or listener: '*' is any run of characters, '?' any one, a backslash
  // takes the next one as it is.
  struct span who;
  uint8_t verbs;  // enum acl_verb, or-ed
  bool allow;
  uint8_t qos_max;  // 0..2; of an allowing rule: a PUBLISH with more does not match it, a subscription is granted no more
  enum acl_retain retain;  // ... of a PUBLISH
  // Filters with {client_id}, {username}, {cert.cn}, {jwt.claim}: whole levels or parts of one. A brace itself is doubled.
  const struct span *topics;
  size_t topic_count;
  const char *file;  // where it stands; NULL: nowhere
  uint32_t line;
};

CHECK_RESULT enum status acl_create(struct acl **out);
struct acl *acl_ref(struct acl *acl);
void acl_unref(struct acl *acl);  // NULL is harmless

// Behind the others. ERR_INVALID with words: no valid filter, an unknown variable. After ERR_NO_MEMORY the list is of no
// use.
//
// A filter of a rule matches a topic name as MQTT says; one that begins with a wildcard or a variable matches nothing that
// begins with '$'. A SUBSCRIBE matches an allowing rule when the rule's filter covers all of what is asked for, level by
// level ("a/#" covers "a/+/b"), and a denying rule when the two have a topic in common: nobody gets round it with a wider
// filter. A variable with several values stands for each of them. One without a value, or whose value has '+', '#' or '/' in
// it, makes a rule that uses it match nothing, so that nobody can choose a name that means more than itself.
CHECK_RESULT enum status acl_add(struct acl *acl, const struct acl_rule *rule, struct error *error);

// A list on trial: `acl` decides, what `shadow` would deny is reported beside it. Takes the caller's reference of `shadow`;
// NULL: none.
void acl_set_shadow(struct acl *acl, struct acl *shadow);

size_t acl_rule_count(const struct acl *acl);

const char *acl_verb_name(enum acl_verb verb);  // "publish"

// ---- Asking

struct acl_request {
  enum acl_verb verb;
  struct span topic;  // a topic name; ACL_SUBSCRIBE: a filter, without "$share/group/"
  uint64_t topic_hash;
  uint8_t qos;
  bool retain;
};

struct acl_decision {
  bool allowed;
  bool shadow_denies;  // the list on trial would not allow it
  uint8_t qos_max;     // of what is allowed
  bool matched;        // false: no rule did; file and line are nothing then
  const char *file;    // of the rule that decided; lives as long as the list
  uint32_t line;
  const char *shadow_file;  // the same of the list on trial; NULL: no rule of it matched
  uint32_t shadow_line;
};

// The list as one client sees it. Belongs to a connection and its thread; keeps a reference of the list.
struct acl_view;

CHECK_RESULT enum status acl_view_create(struct acl *acl, const struct identity *identity, struct span client_id,
                                         struct acl_view **out);
void acl_view_free(struct acl_view *view);           // NULL is harmless
size_t acl_view_bytes(const struct acl_view *view);  // of memory
const struct acl *acl_view_list(const struct acl_view *view);

// Nothing is denied at delivery, so nobody need ask, but for topics that begin with '$'.
bool acl_view_receives_all(const struct acl_view *view);

void acl_decide(struct acl_view *view, const struct acl_request *request, struct acl_decision *out);
