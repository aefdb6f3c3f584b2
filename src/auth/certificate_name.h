// The user name that a certificate gives, by a pattern of one of three forms:
//
//   cert.cn                          the first value of that name: cert.cn, cert.ou, cert.o, cert.san_dns, cert.san_uri,
//                                    cert.san_email, cert.serial, cert.fingerprint
//   {cert.ou}-{cert.cn}              a text with such names in braces
//   cert.san_dns:{}.plant.example    the first value that fits; {} stands for the user name, at least one character.
//                                    spiffe://plant/{} is short for cert.san_uri:spiffe://plant/{}
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/span.h"
#include "core/identity.h"

// What is known of a certificate: names of facts, "cert.cn". The same list as in tls/session.h.
enum { CERTIFICATE_FACTS = 8 };
extern const char *const certificate_facts[CERTIFICATE_FACTS];
bool certificate_fact_known(struct span name);

// Checks a pattern as it is configured. ERR_INVALID: the error says what would be right.
CHECK_RESULT enum status certificate_name_check(const char *pattern, struct error *error);

// Heap, NUL-terminated. NULL: the certificate has no such name, or memory is short; *out_why says which.
char *certificate_name(const char *pattern, const struct identity_fact *facts, size_t fact_count, const char **out_why);
