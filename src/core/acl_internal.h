// What acl*.c share. A list is a trie of topic filters for each subject (acl_topics.c), so that neither the rules of others
// nor the number of one's own rules cost much. Nobody outside these files includes it.
#pragma once

#include "base/map.h"
#include "base/references.h"
#include "core/acl.h"

enum { ACL_MAX_LEVELS = 128 };      // of a filter in a rule: the trie is walked recursively
enum { ACL_NO_RULE = UINT32_MAX };  // "rules" are numbers, in order: a lower one goes first

// What is left of a rule when its subject and its filters are known.
struct acl_kept {
  const char *file;
  uint32_t line;
  uint8_t verbs;
  uint8_t qos_max;
  uint8_t retain;  // enum acl_retain
  bool allow;
};

// Numbers of rules, rising.
struct acl_numbers {
  uint32_t *at;
  uint32_t count, capacity;
};

// A run of a level's text, or a variable in it.
struct acl_part {
  enum acl_part_kind { ACL_PART_TEXT, ACL_PART_CLIENT_ID, ACL_PART_USER, ACL_PART_FACT } kind;
  struct span text;  // of ACL_PART_FACT: its name
};

// A level of some filter.
struct acl_node {
  struct acl_node *of_list;             // all nodes of the list, to free them
  const struct acl_node *parent;        // NULL: the root
  struct acl_node *plus;                // the '+' child
  struct acl_node *literal, *variable;  // first of the children whose level is a text; that has variables
  struct acl_node *next;                // sibling of the same kind
  struct acl_numbers ends, multi;       // rules with a filter that ends here; that goes on with "/#"
  uint32_t first_subscribe_deny;        // the lowest here and below
  uint16_t level_size;
  uint8_t part_count;      // 0: no variables
  struct acl_part *parts;  // in the same memory
  char level[];            // as it is compared: of a literal without its doubled braces
};

// The rules with the same `who`.
struct acl_who {
  struct acl_who *of_list;
  enum acl_subject subject;
  struct span fact, who;  // in the same memory; `who` without its escapes when it is no pattern
  bool pattern;
  uint32_t first_receive_all, first_receive_deny;
  struct acl_node *root;
};

struct acl_file_name {
  struct acl_file_name *next;
  char name[];
};

struct acl {
  struct references references;
  struct acl_kept *rules;
  uint32_t rule_count, rule_capacity;
  struct acl *shadow;
  struct acl_who *whos;       // all
  struct map by_who;          // all
  struct acl_who **patterns;  // those that are patterns
  uint32_t pattern_count, pattern_capacity;
  struct map children;  // literal children of all nodes
  struct acl_node *nodes;
  struct acl_file_name *files;
};

struct acl_who_key {
  enum acl_subject subject;
  bool pattern;
  struct span fact, who;
};
uint64_t acl_who_hash(const struct acl_who_key *key);
bool acl_who_matches(const void *item, const void *key);

// Whether a text matches a pattern with '*', '?' and '\'.
bool acl_pattern_matches(struct span pattern, struct span text);

// ---- Topics (acl_topics.c)

// ERR_INVALID with words.
CHECK_RESULT enum status acl_topic_check(struct span filter, struct error *error);

struct acl_node *acl_node_create(struct acl *acl, struct acl_node *parent, struct span level, bool has_parts);
void acl_nodes_free(struct acl *acl);

// Adds rule `number` at a checked filter.
CHECK_RESULT enum status acl_topic_add(struct acl *acl, struct acl_node *root, struct span filter, uint32_t number);

struct acl_values {
  const struct identity *identity;  // NULL: anonymous
  struct span client_id;
};

// The lowest rule of this trie that decides, below `best`; `best` when there is none.
uint32_t acl_topic_find(const struct acl *acl, const struct acl_node *root, const struct acl_values *values,
                        const struct acl_request *request, uint32_t best);
