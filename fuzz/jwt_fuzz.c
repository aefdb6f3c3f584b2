// Tokens and sets of keys. The first byte says what the rest is: 'k' a JWK set; 't' a token; 'c' a header and, behind a
// newline, claims, which are signed here, so that what comes behind a signature is reached. What is refused says why; what
// is accepted is somebody.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/hmac.h>

#include "auth/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct wall now = {1700000000000};
static const uint8_t secret[32] = {0};

static void check(bool condition)
{
  if (!condition) abort();
}

static struct jwt_keys *load(struct span text)
{
  static const struct jwt_settings settings = {.jwks = "keys.json", .groups = "realm.groups", .leeway_s = 30};
  struct jwt_keys *keys = NULL;
  struct error error = {0};
  enum status status = jwt_keys_parse(&settings, text, &keys, &error);
  check((status == OK) == (keys != NULL));
  check(status == OK || (error.status == status && error.text[0]));
  return keys;
}

static enum status verify_at(const struct jwt_keys *keys, struct span token, int64_t ms)
{
  const struct identity *identity = NULL;
  const char *why = NULL;
  enum status status = jwt_verify(keys, token, span_text("wan"), (struct wall){ms}, &identity, &why);
  identity_unref(identity);
  return status;
}

// It holds until its end and not longer, is taken for a token where one is looked for, and fits nothing but what was signed.
static void check_accepted(const struct jwt_keys *keys, struct span token, int64_t expires_ms)
{
  check(verify_at(keys, token, expires_ms > 0 ? expires_ms - 1 : now.ms * 4) == OK);
  if (expires_ms > 0) check(verify_at(keys, token, expires_ms) == ERR_INVALID);
  check(token.at[0] != 'e' || jwt_looks_like(token));  // 'e': a header that begins with a brace
  uint8_t *other = malloc(token.size);
  check(other != NULL);
  memcpy(other, token.at, token.size);
  size_t place = (size_t)((const uint8_t *)memrchr(token.at, '.', token.size) - token.at) + 1;
  other[place] = other[place] == 'A' ? 'B' : 'A';
  check(verify_at(keys, span_of(other, token.size), now.ms) == ERR_INVALID);
  free(other);
}

static void verify(const struct jwt_keys *keys, struct span token)
{
  const struct identity *identity = NULL;
  const char *why = NULL;
  enum status status = jwt_verify(keys, token, span_text("wan"), now, &identity, &why);
  if (status != OK) {
    check(identity == NULL);
    check(why != NULL);
    return;
  }
  check(why == NULL);
  check(token.size <= JWT_TOKEN_BYTES);
  check(identity->user.size > 0);
  check(identity->fact_count <= JWT_CLAIMS_MAX);
  check(identity->group_count <= JWT_CLAIMS_MAX);
  check(identity->expires_ms == 0 || identity->expires_ms > now.ms);
  for (size_t i = 0; i < identity->fact_count; i++)
    check(identity->facts[i].name.size >= 4 && memcmp(identity->facts[i].name.at, "jwt.", 4) == 0);
  check_accepted(keys, token, identity->expires_ms);
  identity_unref(identity);
}

static struct jwt_keys *own_keys(void)
{
  struct jwt_keys *keys =
      load(span_text("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"},"
                     "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
                     "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},"
                     "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"));
  check(keys != NULL);
  return keys;
}

static size_t encode(struct span bytes, uint8_t *out)
{
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  size_t size = 0;
  uint32_t bits = 0;
  unsigned count = 0;
  for (size_t i = 0; i < bytes.size; i++) {
    bits = bits << 8 | bytes.at[i];
    for (count += 8; count >= 6; count -= 6) out[size++] = (uint8_t)alphabet[bits >> (count - 6) & 63];
  }
  if (count > 0) out[size++] = (uint8_t)alphabet[bits << (6 - count) & 63];
  return size;
}

static void verify_signed(const struct jwt_keys *keys, struct span input)
{
  const uint8_t *newline = input.size ? memchr(input.at, '\n', input.size) : NULL;
  struct span header = newline ? span_of(input.at, (size_t)(newline - input.at)) : span_text("{\"alg\":\"HS256\"}");
  struct span claims = newline ? span_from(input, header.size + 1) : input;
  uint8_t *token = malloc((header.size + claims.size) * 2 + 64), mac[EVP_MAX_MD_SIZE];
  check(token != NULL);
  size_t size = encode(header, token);
  token[size++] = '.';
  size += encode(claims, token + size);
  unsigned mac_size = 0;
  check(HMAC(EVP_sha256(), secret, sizeof secret, token, size, mac, &mac_size) != NULL);
  token[size++] = '.';
  size += encode(span_of(mac, mac_size), token + size);
  verify(keys, span_of(token, size));
  free(token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size == 0) return 0;
  struct span rest = span_of(data + 1, size - 1);
  struct jwt_keys *keys = data[0] == 'k' ? load(rest) : own_keys();
  if (!keys) return 0;
  if (data[0] == 't') {
    (void)jwt_looks_like(rest);
    verify(keys, rest);
  } else if (data[0] == 'c') {
    verify_signed(keys, rest);
  } else {
    verify(keys, span_text("eyJhbGciOiJIUzI1NiJ9.e30.c2ln"));
  }
  jwt_keys_unref(keys);
  return 0;
}
