// Between jwt_keys.c (the set of keys) and jwt.c (tokens).
#pragma once

#include <stddef.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "auth/jwt.h"
#include "base/references.h"

enum jwt_alg { JWT_RS256, JWT_ES256, JWT_EDDSA, JWT_HS256, JWT_ALGS };

struct jwt_key {
  enum jwt_alg alg;
  char *kid;             // NULL: it has none
  EVP_PKEY *public_key;  // NULL for HS256
  uint8_t *secret;       // of HS256
  size_t secret_size;
};

struct jwt_keys {
  struct references references;
  char *issuer, *audience;  // NULL: any
  char *username, *groups;
  uint32_t leeway_s;
  struct jwt_key *keys;
  size_t count;
};

const char *jwt_alg_name(enum jwt_alg alg);  // "RS256"

// Bytes that `size` characters of base64url stand for, at most.
static inline size_t base64url_bytes(size_t size)
{
  return size / 4 * 3 + 2;
}

// Strictly: no padding, no other characters, unused bits zero (RFC 4648 section 5). False, or *out_size.
bool base64url_decode(struct span text, uint8_t *out, size_t *out_size);

// Parsed, with depth and names checked; NULL with a static reason, or (by *out_error, unless NULL) a place.
json_t *jwt_parse_json(struct span text, json_error_t *out_error, const char **out_why);
