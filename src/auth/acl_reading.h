// What the readers of the two forms of access control lists share: a list that grows, and the mistakes that were found.
#pragma once

#include "auth/acl_file.h"

enum { ACL_MAX_PROBLEMS = 100, ACL_SHOWN = 60 };

struct acl_reading {
  const char *name;  // of the file
  struct acl *acl;
  char **problems;
  size_t problem_count;
  bool failed;  // there are problems, or memory is short
  bool short_of_memory;
};

// "acl.yaml:3:7: qos_max: ...". Column 0: none is shown; line 0: neither.
void acl_complain(struct acl_reading *reading, size_t line, size_t column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// Adds the rule, or complains in front of the reason that acl_add gives.
void acl_take(struct acl_reading *reading, const struct acl_rule *rule, size_t column);

// At most ACL_SHOWN bytes of a text without control characters, for a message.
const char *acl_show(struct span text, char out[ACL_SHOWN + 1]);

void acl_read_yaml(struct acl_reading *reading, struct span text);
void acl_read_mosquitto(struct acl_reading *reading, struct span text);
