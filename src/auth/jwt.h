// JSON Web Tokens as passwords: RS256, ES256, EdDSA (Ed25519), HS256; keys from a JWK set in a file. Source: RFC 7515, 7517, 7518, 7519, 8037.
#pragma once

#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/span.h"
#include "core/identity.h"

struct jwt_keys;  // immutable, reference-counted

struct jwt_settings {
  const char *jwks;      // file
  const char *issuer;    // NULL: any
  const char *audience;  // NULL: any
  const char *username;  // claim that holds the user name; NULL: "sub"
  const char *groups;    // claim that holds the groups, a text or an array; NULL: "groups"
  uint32_t leeway_s;
};

// All settings are copied. ERR_INVALID: the error says file, key (by kid or number), and what would be right.
CHECK_RESULT enum status jwt_keys_load(const struct jwt_settings *settings, struct jwt_keys **out, struct error *error);
struct jwt_keys *jwt_keys_ref(struct jwt_keys *keys);  // any thread; NULL is harmless
void jwt_keys_unref(struct jwt_keys *keys);            // the same

bool jwt_looks_like(struct span token);  // three parts of base64url: worth a try

// OK: *out is who it is: user, groups, a fact "jwt.<name>" for every text, number and boolean claim (each element of an array of these),
// expires_ms. Its listener is `listener`. Otherwise ERR_INVALID, and *out_why, a static text for the log, says what is wrong.
CHECK_RESULT enum status jwt_verify(const struct jwt_keys *keys, struct span token, struct span listener, struct wall now,
                                    const struct identity **out, const char **out_why);
