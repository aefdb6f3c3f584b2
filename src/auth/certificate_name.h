// The user name that a certificate gives: "cert.cn", "cert.san_uri", "cert.san_dns", "cert.san_email" or a pattern with these in braces
// ("{cert.ou}-{cert.cn}"; "spiffe://plant/{}" against cert.san_uri: see docs/security.md).
#pragma once

#include "base/error.h"
#include "base/span.h"
#include "core/identity.h"

// Checks a pattern as it is configured.
CHECK_RESULT enum status certificate_name_check(const char *pattern, struct error *error);

// Heap, NUL-terminated. NULL: the certificate has no such name, or memory is short; *out_why says which.
char *certificate_name(const char *pattern, const struct identity_fact *facts, size_t fact_count, const char **out_why);
