// Access control lists as they are written: our own form, YAML, and Mosquitto's acl_file. Both become the same rules
// (core/acl.h).
//
//   - {who: "user:ann", allow: [publish, subscribe, receive], topics: ["line/7/#"], qos_max: 1, retain: never}
//   - {who: "*", deny: [publish], topics: ["alarm/#"]}
//
// who: "*", "anonymous", user:PATTERN, group:PATTERN, client:PATTERN, listener:PATTERN, cert.<field>:PATTERN,
// jwt.<claim>:PATTERN.
#pragma once

#include "base/error.h"
#include "base/span.h"
#include "core/acl.h"

// The form is known by looking: Mosquitto's lines begin with "topic", "user", "pattern" or "#". ERR_INVALID: the error says
// file, line, and what would be right; all mistakes, a line each, are in *out_problems (heap texts, `*out_count` of them;
// the caller's).
CHECK_RESULT enum status acl_file_load(const char *path, struct acl **out, char ***out_problems, size_t *out_count);
CHECK_RESULT enum status acl_file_parse(struct span text, const char *name, struct acl **out, char ***out_problems,
                                        size_t *out_count);
