// Tokens (RFC 7515 in its compact form, RFC 7519): their signature first, then what they claim.
#include "auth/jwt.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>

#include "auth/jwt_internal.h"

enum {
  DEPTH_MAX = 16,  // of JSON: the parser is recursive, and stacks are small
  CLAIM_NAME_BYTES = 256,
  NUMBER_TEXT = 32,
  P256_SIGNATURE = 64,  // r, s (RFC 7518 section 3.4)
  ED25519_SIGNATURE = 64,
  SIGNATURE_BYTES = 8192 / 8 + 8,  // of the longest RSA key, and what decoding may want
};

static const char no_memory[] = "no memory";

// ---- Base64url and JSON

static int sextet(uint8_t c)
{
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url_decode(struct span text, uint8_t *out, size_t *out_size)
{
  if (text.size % 4 == 1) return false;
  uint32_t bits = 0;
  unsigned count = 0;
  size_t size = 0;
  for (size_t i = 0; i < text.size; i++) {
    int value = sextet(text.at[i]);
    if (value < 0) return false;
    bits = bits << 6 | (uint32_t)value;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out[size++] = (uint8_t)(bits >> count);
  }
  if (bits & ((1u << count) - 1)) return false;
  *out_size = size;
  return true;
}

static bool nests_too_deep(struct span text)
{
  unsigned depth = 0;
  bool in_text = false;
  for (size_t i = 0; i < text.size; i++) {
    uint8_t c = text.at[i];
    if (in_text && c == '\\')
      i++;
    else if (c == '"')
      in_text = !in_text;
    else if (!in_text && (c == '{' || c == '[') && ++depth > DEPTH_MAX)
      return true;
    else if (!in_text && (c == '}' || c == ']') && depth > 0)
      depth--;
  }
  return false;
}

json_t *jwt_parse_json(struct span text, json_error_t *out_error, const char **out_why)
{
  *out_why = "not a JSON object, or one with a name twice";
  if (nests_too_deep(text)) {
    *out_why = "nested too deeply";
    return NULL;
  }
  json_t *value = json_loadb(text.at ? (const char *)text.at : "", text.size, JSON_REJECT_DUPLICATES, out_error);
  if (json_is_object(value)) return value;
  if (value && out_error) out_error->line = -1;
  json_decref(value);
  return NULL;
}

// ---- The three parts

struct parts {
  struct span header, claims, signature;  // base64url
  struct span signed_text;                // header.claims
};

static bool split(struct span token, struct parts *out)
{
  const uint8_t *first = token.size ? memchr(token.at, '.', token.size) : NULL;
  if (!first) return false;
  const uint8_t *end = token.at + token.size;
  const uint8_t *second = memchr(first + 1, '.', (size_t)(end - first) - 1);
  if (!second) return false;
  *out = (struct parts){
      .header = span_of(token.at, (size_t)(first - token.at)),
      .claims = span_of(first + 1, (size_t)(second - first) - 1),
      .signature = span_of(second + 1, (size_t)(end - second) - 1),
      .signed_text = span_of(token.at, (size_t)(second - token.at)),
  };
  return true;
}

static bool is_base64url(struct span text)
{
  for (size_t i = 0; i < text.size; i++)
    if (sextet(text.at[i]) < 0) return false;
  return true;
}

bool jwt_looks_like(struct span token)
{
  struct parts parts;
  if (!split(token, &parts)) return false;
  // An object in JSON, so "{" and at least `"alg":""}`.
  uint8_t first[3];
  size_t size = 0;
  return parts.header.size >= 14 && base64url_decode(span_of(parts.header.at, 4), first, &size) && first[0] == '{' &&
         is_base64url(parts.header) && is_base64url(parts.claims) && is_base64url(parts.signature);
}

static json_t *decode_json(struct span text, const char **out_why)
{
  uint8_t *bytes = malloc(base64url_bytes(text.size));
  size_t size = 0;
  json_t *value = NULL;
  if (bytes && base64url_decode(text, bytes, &size)) value = jwt_parse_json(span_of(bytes, size), NULL, out_why);
  if (!value)
    *out_why = bytes ? "a part of the token is not base64url of a JSON object, has a name twice or is nested too deeply"
                     : no_memory;
  free(bytes);
  return value;
}

// ---- Signatures

static bool verify_hs256(const struct jwt_key *key, struct span text, struct span signature)
{
  uint8_t right[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  bool fits = HMAC(EVP_sha256(), key->secret, (int)key->secret_size, text.at, text.size, right, &size) &&
              signature.size == size && CRYPTO_memcmp(right, signature.at, size) == 0;
  OPENSSL_cleanse(right, sizeof right);
  return fits;
}

static bool verify_public(const struct jwt_key *key, const EVP_MD *digest, struct span text, struct span signature)
{
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool fits = context && EVP_DigestVerifyInit(context, NULL, digest, NULL, key->public_key) > 0 &&
              EVP_DigestVerify(context, signature.at, signature.size, text.at, text.size) == 1;
  EVP_MD_CTX_free(context);
  ERR_clear_error();
  return fits;
}

// A token has the two numbers one after the other, OpenSSL wants them in DER.
static bool verify_es256(const struct jwt_key *key, struct span text, struct span signature)
{
  if (signature.size != P256_SIGNATURE) return false;
  bool fits = false;
  uint8_t *der = NULL;
  ECDSA_SIG *numbers = ECDSA_SIG_new();
  BIGNUM *r = BN_bin2bn(signature.at, P256_SIGNATURE / 2, NULL);
  BIGNUM *s = BN_bin2bn(signature.at + P256_SIGNATURE / 2, P256_SIGNATURE / 2, NULL);
  if (numbers && r && s && ECDSA_SIG_set0(numbers, r, s)) {
    r = s = NULL;  // they are the signature's now
    int size = i2d_ECDSA_SIG(numbers, &der);
    fits = size > 0 && verify_public(key, EVP_sha256(), text, span_of(der, (size_t)size));
  }
  OPENSSL_free(der);
  BN_free(r);
  BN_free(s);
  ECDSA_SIG_free(numbers);
  return fits;
}

static bool fits_key(const struct jwt_key *key, struct span text, struct span signature)
{
  switch (key->alg) {
    case JWT_RS256: return verify_public(key, EVP_sha256(), text, signature);
    case JWT_ES256: return verify_es256(key, text, signature);
    case JWT_EDDSA: return signature.size == ED25519_SIGNATURE && verify_public(key, NULL, text, signature);
    case JWT_HS256: return verify_hs256(key, text, signature);
    case JWT_ALGS: break;
  }
  return false;
}

// What the header says that matters here. Keys that a token brings with it (jku, jwk, x5u, x5c) are nothing to us.
struct header {
  enum jwt_alg alg;
  const char *kid;  // NULL: none
};

static const char *read_header(const json_t *json, struct header *out)
{
  const json_t *alg = json_object_get(json, "alg"), *kid = json_object_get(json, "kid");
  if (!json_is_string(alg)) return "the token's header names no algorithm";
  if (json_object_get(json, "crit")) return "the token's header asks for an extension that is not known here";
  if (kid && !json_is_string(kid)) return "the token's header has a key identifier that is no text";
  out->kid = kid ? json_string_value(kid) : NULL;
  for (enum jwt_alg i = 0; i < JWT_ALGS; i++) {
    if (strcmp(json_string_value(alg), jwt_alg_name(i)) != 0) continue;
    out->alg = i;
    return NULL;
  }
  return "the token's algorithm is none of RS256, ES256, EdDSA and HS256";
}

static const char *check_signature(const struct jwt_keys *keys, const struct header *header, const struct parts *parts)
{
  uint8_t signature[SIGNATURE_BYTES];
  size_t size = 0;
  if (base64url_bytes(parts->signature.size) > sizeof signature || !base64url_decode(parts->signature, signature, &size))
    return "the token's signature is not base64url, or too long";
  bool any = false;
  for (size_t i = 0; i < keys->count; i++) {
    const struct jwt_key *key = &keys->keys[i];
    if (key->alg != header->alg) continue;
    if (header->kid && key->kid && strcmp(header->kid, key->kid) != 0) continue;
    any = true;
    if (fits_key(key, parts->signed_text, span_of(signature, size))) return NULL;
  }
  return any ? "the token's signature does not fit" : "there is no key for the token's algorithm and key identifier";
}

// ---- Claims

// A claim by its name, or by a path with dots into objects.
static const json_t *find_claim(const json_t *claims, const char *name)
{
  const json_t *found = json_object_get(claims, name);
  while (!found && json_is_object(claims)) {
    const char *dot = strchr(name, '.');
    if (!dot) return json_object_get(claims, name);
    char first[CLAIM_NAME_BYTES];
    size_t size = (size_t)(dot - name);
    if (size >= sizeof first) return NULL;
    memcpy(first, name, size);
    first[size] = '\0';
    claims = json_object_get(claims, first);
    name = dot + 1;
  }
  return found;
}

static bool is_or_has(const json_t *value, const char *text)
{
  if (json_is_string(value)) return strcmp(json_string_value(value), text) == 0;
  size_t count = json_array_size(value);
  for (size_t i = 0; i < count; i++) {
    const json_t *element = json_array_get(value, i);
    if (json_is_string(element) && strcmp(json_string_value(element), text) == 0) return true;
  }
  return false;
}

// A time in seconds since 1970; false when it is there and is no such time. The year 9999 ends what counts as one:
// milliseconds would be far behind it, and the token good for ever.
static bool take_time(const json_t *claims, const char *name, bool *out_present, int64_t *out_ms)
{
  const json_t *value = json_object_get(claims, name);
  *out_present = value != NULL;
  if (!value) return true;
  double seconds = json_number_value(value);
  if (!json_is_number(value) || !(seconds >= 0) || seconds > 253402300799.0) return false;
  *out_ms = (int64_t)(seconds * 1000);
  return true;
}

static const char *check_times(const struct jwt_keys *keys, const json_t *claims, struct wall now, int64_t *out_expires_ms)
{
  bool has_end, has_start, has_issue;
  int64_t end_ms = 0, start_ms = 0, issue_ms = 0, leeway_ms = (int64_t)keys->leeway_s * 1000;
  if (!take_time(claims, "exp", &has_end, &end_ms)) return "the token's exp is not a time in seconds";
  if (!take_time(claims, "nbf", &has_start, &start_ms)) return "the token's nbf is not a time in seconds";
  if (!take_time(claims, "iat", &has_issue, &issue_ms)) return "the token's iat is not a time in seconds";
  if (has_end && now.ms >= end_ms + leeway_ms) return "the token has expired";
  if (has_start && now.ms < start_ms - leeway_ms) return "the token is not valid yet";
  if (has_issue && now.ms < issue_ms - leeway_ms) return "the token was issued in the future";
  *out_expires_ms = has_end ? end_ms + leeway_ms : 0;
  return NULL;
}

static const char *check_parties(const struct jwt_keys *keys, const json_t *claims)
{
  const json_t *issuer = json_object_get(claims, "iss");
  if (keys->issuer && !(json_is_string(issuer) && strcmp(json_string_value(issuer), keys->issuer) == 0))
    return "the token is from another issuer";
  if (keys->audience && !is_or_has(json_object_get(claims, "aud"), keys->audience))
    return "the token is for another audience";
  return NULL;
}

static struct span text_of(const json_t *text)
{
  return span_of(json_string_value(text), json_string_length(text));
}

// What becomes of the claims, before it is an identity. Texts are the JSON's, or lie in `texts`.
struct collected {
  struct identity_fact facts[JWT_CLAIMS_MAX];
  size_t fact_count;
  struct span groups[JWT_CLAIMS_MAX];
  size_t group_count;
  char *at;  // the next free text
  char texts[];
};

// Room for all names with "jwt." in front, each once, and a number per fact.
static struct collected *collected_create(size_t claims_bytes)
{
  size_t texts = claims_bytes + JWT_CLAIMS_MAX * (strlen("jwt.") + NUMBER_TEXT);
  struct collected *collected = malloc(sizeof *collected + texts);
  if (!collected) return NULL;
  collected->fact_count = collected->group_count = 0;
  collected->at = collected->texts;
  return collected;
}

static bool collect_value(struct collected *collected, struct span name, const json_t *value)
{
  struct span text = {0};
  switch (json_typeof(value)) {
    case JSON_STRING: text = text_of(value); break;
    case JSON_TRUE: text = span_text("true"); break;
    case JSON_FALSE: text = span_text("false"); break;
    case JSON_INTEGER:
    case JSON_REAL: break;
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_NULL: return true;
  }
  if (collected->fact_count == JWT_CLAIMS_MAX) return false;
  if (json_is_number(value)) {
    int size = json_is_integer(value)
                   ? snprintf(collected->at, NUMBER_TEXT, "%" JSON_INTEGER_FORMAT, json_integer_value(value))
                   : snprintf(collected->at, NUMBER_TEXT, "%.17g", json_real_value(value));
    assert(size > 0);
    assert(size < NUMBER_TEXT);
    text = span_of(collected->at, (size_t)size);
    collected->at += size;
  }
  collected->facts[collected->fact_count++] = (struct identity_fact){name, text};
  return true;
}

static const char *collect_facts(struct collected *collected, json_t *claims)
{
  static const char too_many[] = "the token has too many claims";
  const char *key;
  json_t *value;
  size_t names = 0;
  json_object_foreach(claims, key, value)
  {
    size_t size = strlen(key);
    if (json_is_object(value) || json_is_null(value)) continue;
    if (size > CLAIM_NAME_BYTES) return "the token has a claim with too long a name";
    if (++names > JWT_CLAIMS_MAX) return too_many;
    struct span name = span_of(collected->at, strlen("jwt.") + size);
    memcpy(collected->at, "jwt.", strlen("jwt."));
    memcpy(collected->at + strlen("jwt."), key, size);
    collected->at += name.size;
    bool room = json_is_array(value) || collect_value(collected, name, value);
    size_t count = json_array_size(value);
    for (size_t i = 0; i < count && room; i++) room = collect_value(collected, name, json_array_get(value, i));
    if (!room) return too_many;
  }
  return NULL;
}

// Groups that cannot be read are no reason to go on without them: a rule that denies by group would not see its member.
static const char *collect_groups(struct collected *collected, const json_t *groups)
{
  if (!groups || json_is_null(groups)) return NULL;
  if (json_is_string(groups)) {
    collected->groups[collected->group_count++] = text_of(groups);
    return NULL;
  }
  if (!json_is_array(groups)) return "the token's groups are neither a text nor an array of texts";
  size_t count = json_array_size(groups);
  if (count > JWT_CLAIMS_MAX) return "the token has too many groups";
  for (size_t i = 0; i < count; i++) {
    const json_t *group = json_array_get(groups, i);
    if (!json_is_string(group)) return "the token's groups are neither a text nor an array of texts";
    collected->groups[collected->group_count++] = text_of(group);
  }
  return NULL;
}

static const char *make_identity(const struct jwt_keys *keys, json_t *claims, struct collected *collected,
                                 struct identity *parts, const struct identity **out)
{
  const json_t *user = find_claim(claims, keys->username);
  if (!json_is_string(user) || json_string_length(user) == 0) return "the token has no text in the claim of the user name";
  const char *why = collect_facts(collected, claims);
  if (!why) why = collect_groups(collected, find_claim(claims, keys->groups));
  if (why) return why;
  parts->user = text_of(user);
  parts->facts = collected->facts;
  parts->fact_count = collected->fact_count;
  parts->groups = collected->groups;
  parts->group_count = collected->group_count;
  const struct identity *identity = identity_create(parts);
  if (!identity) return no_memory;
  *out = identity;
  return NULL;
}

static const char *verify_claims(const struct jwt_keys *keys, struct span text, struct span listener, struct wall now,
                                 const struct identity **out)
{
  const char *why = NULL;
  json_t *claims = decode_json(text, &why);
  if (!claims) return why;
  struct identity parts = {.method = "jwt", .listener = listener};
  struct collected *collected = collected_create(text.size);
  why = collected ? check_times(keys, claims, now, &parts.expires_ms) : no_memory;
  if (!why) why = check_parties(keys, claims);
  if (!why) why = make_identity(keys, claims, collected, &parts, out);
  free(collected);
  json_decref(claims);
  return why;
}

static const char *verify(const struct jwt_keys *keys, struct span token, struct span listener, struct wall now,
                          const struct identity **out)
{
  struct parts parts;
  const char *why = NULL;
  if (token.size > JWT_TOKEN_BYTES) return "the token is too long";
  if (!split(token, &parts)) return "the token does not have three parts";
  json_t *json = decode_json(parts.header, &why);
  if (!json) return why;
  struct header header;
  why = read_header(json, &header);
  if (!why) why = check_signature(keys, &header, &parts);
  json_decref(json);
  return why ? why : verify_claims(keys, parts.claims, listener, now, out);
}

enum status jwt_verify(const struct jwt_keys *keys, struct span token, struct span listener, struct wall now,
                       const struct identity **out, const char **out_why)
{
  *out_why = verify(keys, token, listener, now, out);
  return *out_why ? ERR_INVALID : OK;
}
