// JSON Web Tokens as passwords: RS256, ES256, EdDSA (Ed25519), HS256; keys from a JWK set in a file. Source: RFC 7515, 7517,
// 7518, 7519, 8037.
//
// The set may hold keys for other uses, kinds or algorithms; they are passed over. One that is meant for us and cannot be
// used (too short, not on its curve, not base64url) is an error. A token's algorithm has to be that of the key's kind: RSA
// is RS256, EC P-256 is ES256, OKP Ed25519 is EdDSA, oct is HS256. Private parts of keys are not read.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/span.h"
#include "core/identity.h"

struct jwt_keys;  // immutable, reference-counted

enum {
  JWT_TOKEN_BYTES = 16384,  // a longer one is refused
  JWT_CLAIMS_MAX = 256,     // values of claims that become facts; groups too
  JWT_KEYS_MAX = 64,        // of a set
  JWT_RSA_BITS = 2048,      // at least
  JWT_SECRET_BYTES = 32     // of HS256, at least
};

struct jwt_settings {
  const char *jwks;      // file
  const char *issuer;    // NULL: any
  const char *audience;  // NULL: any
  const char *username;  // claim that holds the user name; NULL: "sub". One inside of another: "realm_access.name"
  const char *groups;    // the same for the groups, a text or an array of texts; NULL: "groups"
  uint32_t leeway_s;
};

// All settings are copied. ERR_INVALID: the error says file, key (by kid or number), and what would be right.
CHECK_RESULT enum status jwt_keys_load(const struct jwt_settings *settings, struct jwt_keys **out, struct error *error);
// The same of a text; settings->jwks is its name in errors.
CHECK_RESULT enum status jwt_keys_parse(const struct jwt_settings *settings, struct span text, struct jwt_keys **out,
                                        struct error *error);
struct jwt_keys *jwt_keys_ref(struct jwt_keys *keys);  // any thread; NULL is harmless
void jwt_keys_unref(struct jwt_keys *keys);            // the same

// Three parts of base64url, the first of which is a JSON object: not something that anybody would have as a password.
bool jwt_looks_like(struct span token);

// OK: *out is who it is: user, groups, a fact "jwt.<name>" for every text, number and boolean claim (each element of an
// array of these), expires_ms (the leeway included; 0 when it has no end). Its listener is `listener`. Otherwise
// ERR_INVALID, and *out_why, a static text for the log, says what is wrong.
CHECK_RESULT enum status jwt_verify(const struct jwt_keys *keys, struct span token, struct span listener, struct wall now,
                                    const struct identity **out, const char **out_why);
