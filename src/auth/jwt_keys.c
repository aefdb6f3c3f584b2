// JWK sets (RFC 7517): which keys there are to check tokens with.
#include "auth/jwt.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <sodium.h>

#include "auth/jwt_internal.h"
#include "base/wipe.h"
#include "tls/file.h"

enum {
  FILE_BYTES = 1 << 20,
  RSA_BITS_MAX = 8192,  // a longer modulus costs whoever checks, not whoever signs
  RSA_EXPONENT_BYTES = 8,
  COORDINATE_BYTES = 32,  // of P-256; also an Ed25519 key
  KID_SHOWN = 64,
};

const char *jwt_alg_name(enum jwt_alg alg)
{
  static const char *const names[JWT_ALGS] = {
      [JWT_RS256] = "RS256", [JWT_ES256] = "ES256", [JWT_EDDSA] = "EdDSA", [JWT_HS256] = "HS256"};
  assert(alg < JWT_ALGS);
  return names[alg];
}

// ---- Memory

static void *take_memory(size_t size)
{
  return malloc(size);
}

static void free_wiped(void *at)
{
  if (at) OPENSSL_cleanse(at, malloc_usable_size(at));
  free(at);
}

// The parser has copies of all that it reads, secrets and tokens too, and gives the memory back as it is. Before there are
// threads: it is one setting for all of them.
__attribute__((constructor)) static void wipe_what_is_parsed(void)
{
  json_set_alloc_funcs(take_memory, free_wiped);
}

// ---- One key

// Where an error is.
struct place {
  const char *file;
  size_t number;    // from 1
  const char *kid;  // NULL: none
};

static enum status refuse(const struct place *place, struct error *error, const char *what)
{
  if (place->kid)
    return error_set(error, ERR_INVALID, "%s: key %zu (kid \"%.*s\"): %s", place->file, place->number, KID_SHOWN, place->kid,
                     what);
  return error_set(error, ERR_INVALID, "%s: key %zu: %s", place->file, place->number, what);
}

struct bytes {
  uint8_t *at;  // heap
  size_t size;
};

static void bytes_wipe(struct bytes *bytes)
{
  if (bytes->at) OPENSSL_cleanse(bytes->at, bytes->size);
  free(bytes->at);
  *bytes = (struct bytes){0};
}

// A member in base64url. False: it is missing or something else.
static bool take_bytes(const json_t *jwk, const char *member, struct bytes *out)
{
  const json_t *value = json_object_get(jwk, member);
  if (!json_is_string(value)) return false;
  struct span text = span_of(json_string_value(value), json_string_length(value));
  uint8_t *at = malloc(base64url_bytes(text.size));
  size_t size = 0;
  *out = (struct bytes){at, base64url_bytes(text.size)};
  if (at && base64url_decode(text, at, &size) && size > 0) {
    out->size = size;
    return true;
  }
  bytes_wipe(out);
  return false;
}

static EVP_PKEY *make_key(const char *type, OSSL_PARAM_BLD *build)
{
  EVP_PKEY *key = NULL;
  OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
  if (!parameters || !context || EVP_PKEY_fromdata_init(context) <= 0 ||
      EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) <= 0)
    key = NULL;
  EVP_PKEY_CTX_free(context);
  OSSL_PARAM_free(parameters);
  ERR_clear_error();
  return key;
}

static EVP_PKEY *make_rsa(const struct bytes *n, const struct bytes *e)
{
  EVP_PKEY *key = NULL;
  BIGNUM *modulus = BN_bin2bn(n->at, (int)n->size, NULL), *exponent = BN_bin2bn(e->at, (int)e->size, NULL);
  OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
  if (modulus && exponent && build && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) &&
      OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent))
    key = make_key("RSA", build);
  OSSL_PARAM_BLD_free(build);
  BN_free(modulus);
  BN_free(exponent);
  return key;
}

static const char *take_rsa(const json_t *jwk, struct jwt_key *key)
{
  const char *why = NULL;
  struct bytes n = {0}, e = {0};
  if (!take_bytes(jwk, "n", &n) || !take_bytes(jwk, "e", &e)) {
    why = "\"n\" and \"e\" have to be there, in base64url without padding";
  } else if (n.size > RSA_BITS_MAX / 8 + 1 || e.size > RSA_EXPONENT_BYTES || e.at[e.size - 1] % 2 == 0 ||
             (e.size == 1 && e.at[0] < 3) || n.at[n.size - 1] % 2 == 0) {
    why = "it is no usable RSA key: a modulus of at most 8192 bits and an odd exponent of at least 3 are needed";
  } else {
    key->public_key = make_rsa(&n, &e);
    if (!key->public_key)
      why = "it is no usable RSA key";
    else if (EVP_PKEY_get_bits(key->public_key) < JWT_RSA_BITS)
      why = "it is too short: RSA keys need 2048 bits or more";
  }
  bytes_wipe(&n);
  bytes_wipe(&e);
  return why;
}

static EVP_PKEY *make_p256(const struct bytes *x, const struct bytes *y)
{
  uint8_t point[1 + 2 * COORDINATE_BYTES] = {0x04};
  memcpy(point + 1, x->at, COORDINATE_BYTES);
  memcpy(point + 1 + COORDINATE_BYTES, y->at, COORDINATE_BYTES);
  EVP_PKEY *key = NULL;
  OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
  if (build && OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) &&
      OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point))
    key = make_key("EC", build);
  OSSL_PARAM_BLD_free(build);
  return key;
}

static bool is_sound(EVP_PKEY *key)
{
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
  bool sound = context && EVP_PKEY_public_check(context) > 0;
  EVP_PKEY_CTX_free(context);
  ERR_clear_error();
  return sound;
}

static const char *take_ec(const json_t *jwk, struct jwt_key *key)
{
  const char *why = "\"x\" and \"y\" have to be there, 32 bytes each in base64url without padding";
  struct bytes x = {0}, y = {0};
  if (take_bytes(jwk, "x", &x) && take_bytes(jwk, "y", &y) && x.size == COORDINATE_BYTES && y.size == COORDINATE_BYTES) {
    key->public_key = make_p256(&x, &y);
    why = key->public_key && is_sound(key->public_key) ? NULL : "it is not a point of the curve P-256";
  }
  bytes_wipe(&x);
  bytes_wipe(&y);
  return why;
}

static const char *take_okp(const json_t *jwk, struct jwt_key *key)
{
  const char *why = "\"x\" has to be there, 32 bytes in base64url without padding";
  struct bytes x = {0};
  if (take_bytes(jwk, "x", &x) && x.size == COORDINATE_BYTES) {
    // OpenSSL takes any bytes for a key; with a point of small order, anybody's signature would fit.
    bool sound = crypto_core_ed25519_is_valid_point(x.at) == 1;
    key->public_key = sound ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x.at, x.size) : NULL;
    why = key->public_key ? NULL : "it is no usable Ed25519 key";
    ERR_clear_error();
  }
  bytes_wipe(&x);
  return why;
}

static const char *take_oct(const json_t *jwk, struct jwt_key *key)
{
  struct bytes k = {0};
  if (!take_bytes(jwk, "k", &k)) return "\"k\" has to be there, in base64url without padding";
  key->secret = k.at;
  key->secret_size = k.size;
  return k.size < JWT_SECRET_BYTES ? "it is too short: secrets for HS256 need 32 bytes or more" : NULL;
}

static bool text_is(const json_t *value, const char *text)
{
  return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

// The algorithm of a key of this kind; JWT_ALGS: none of ours.
static enum jwt_alg alg_of(const json_t *jwk)
{
  const json_t *kty = json_object_get(jwk, "kty"), *crv = json_object_get(jwk, "crv");
  if (text_is(kty, "RSA")) return JWT_RS256;
  if (text_is(kty, "EC") && text_is(crv, "P-256")) return JWT_ES256;
  if (text_is(kty, "OKP") && text_is(crv, "Ed25519")) return JWT_EDDSA;
  return text_is(kty, "oct") ? JWT_HS256 : JWT_ALGS;
}

// Whether it is for checking signatures, as far as it says what it is for (RFC 7517 sections 4.2 to 4.4).
static bool is_for_us(const json_t *jwk, enum jwt_alg alg)
{
  const json_t *use = json_object_get(jwk, "use"), *operations = json_object_get(jwk, "key_ops");
  const json_t *named = json_object_get(jwk, "alg");
  if (alg == JWT_ALGS) return false;
  if (use && !text_is(use, "sig")) return false;
  if (named && !text_is(named, jwt_alg_name(alg))) return false;
  if (!operations) return true;
  size_t count = json_array_size(operations);
  for (size_t i = 0; i < count; i++)
    if (text_is(json_array_get(operations, i), "verify")) return true;
  return false;
}

static const char *take_material(const json_t *jwk, struct jwt_key *key)
{
  switch (key->alg) {
    case JWT_RS256: return take_rsa(jwk, key);
    case JWT_ES256: return take_ec(jwk, key);
    case JWT_EDDSA: return take_okp(jwk, key);
    case JWT_HS256: return take_oct(jwk, key);
    case JWT_ALGS: break;
  }
  return "it is of no kind that can be used";
}

// ---- The set

static enum status take_key(struct jwt_keys *keys, const char *file, size_t number, const json_t *jwk, struct error *error)
{
  const json_t *kid = json_object_get(jwk, "kid");
  const struct place place = {file, number, json_is_string(kid) ? json_string_value(kid) : NULL};
  if (!json_is_object(jwk)) return refuse(&place, error, "a key is a JSON object");
  if (!json_is_string(json_object_get(jwk, "kty"))) return refuse(&place, error, "\"kty\" has to say of what kind it is");
  if (kid && !json_is_string(kid)) return refuse(&place, error, "\"kid\" has to be a text");
  enum jwt_alg alg = alg_of(jwk);
  if (!is_for_us(jwk, alg)) return OK;
  if (keys->count == JWT_KEYS_MAX) return refuse(&place, error, "there are too many keys: 64 are the most");
  struct jwt_key *key = &keys->keys[keys->count++];
  *key = (struct jwt_key){.alg = alg};
  const char *why = take_material(jwk, key);
  if (why) return refuse(&place, error, why);
  if (!place.kid) return OK;
  key->kid = strdup(place.kid);
  return key->kid ? OK : error_set(error, ERR_NO_MEMORY, "%s: no memory", file);
}

static enum status take_set(struct jwt_keys *keys, const char *file, const json_t *root, struct error *error)
{
  const json_t *set = json_object_get(root, "keys");
  if (!set) return error_set(error, ERR_INVALID, "%s: not a JWK set: an object with an array \"keys\" is needed", file);
  if (!json_is_array(set)) return error_set(error, ERR_INVALID, "%s: \"keys\" has to be an array of keys", file);
  size_t count = json_array_size(set);
  for (size_t i = 0; i < count; i++) {
    enum status status = take_key(keys, file, i + 1, json_array_get(set, i), error);
    if (status != OK) return status;
  }
  if (keys->count > 0) return OK;
  return error_set(error, ERR_INVALID,
                   "%s: none of its %zu keys can check tokens: RSA (RS256), EC P-256 (ES256), OKP Ed25519 (EdDSA) or oct "
                   "(HS256) is needed, for \"sig\"",
                   file, count);
}

static char *copy_or(const char *text, const char *otherwise, bool *failed)
{
  const char *from = text ? text : otherwise;
  char *copy = from ? strdup(from) : NULL;
  if (from && !copy) *failed = true;
  return copy;
}

static struct jwt_keys *create(const struct jwt_settings *settings)
{
  struct jwt_keys *keys = calloc(1, sizeof *keys);
  if (!keys) return NULL;
  bool failed = false;
  references_init(&keys->references);
  keys->issuer = copy_or(settings->issuer, NULL, &failed);
  keys->audience = copy_or(settings->audience, NULL, &failed);
  keys->username = copy_or(settings->username, "sub", &failed);
  keys->groups = copy_or(settings->groups, "groups", &failed);
  keys->leeway_s = settings->leeway_s;
  keys->keys = calloc(JWT_KEYS_MAX, sizeof *keys->keys);
  if (!failed && keys->keys) return keys;
  jwt_keys_unref(keys);
  return NULL;
}

enum status jwt_keys_parse(const struct jwt_settings *settings, struct span text, struct jwt_keys **out, struct error *error)
{
  json_error_t at = {.line = -1};
  const char *why = NULL;
  json_t *root = jwt_parse_json(text, &at, &why);
  if (!root && at.line > 0) return error_set(error, ERR_INVALID, "%s:%d: not JSON: %s", settings->jwks, at.line, at.text);
  if (!root) return error_set(error, ERR_INVALID, "%s: %s", settings->jwks, why);
  struct jwt_keys *keys = create(settings);
  enum status status =
      keys ? take_set(keys, settings->jwks, root, error) : error_set(error, ERR_NO_MEMORY, "%s: no memory", settings->jwks);
  json_decref(root);
  if (status == OK)
    *out = keys;
  else
    jwt_keys_unref(keys);
  return status;
}

enum status jwt_keys_load(const struct jwt_settings *settings, struct jwt_keys **out, struct error *error)
{
  uint8_t *bytes = NULL;
  size_t size = 0;
  enum status status = file_read(settings->jwks, "a JWK set", FILE_BYTES, &bytes, &size, error);
  if (status == OK) status = jwt_keys_parse(settings, span_of(bytes, size), out, error);
  wipe_and_free(bytes, size);
  return status;
}

struct jwt_keys *jwt_keys_ref(struct jwt_keys *keys)
{
  if (keys) references_take(&keys->references);
  return keys;
}

void jwt_keys_unref(struct jwt_keys *keys)
{
  if (!keys || !references_drop(&keys->references)) return;
  for (size_t i = 0; i < keys->count; i++) {
    struct jwt_key *key = &keys->keys[i];
    EVP_PKEY_free(key->public_key);
    if (key->secret) OPENSSL_cleanse(key->secret, key->secret_size);
    free(key->secret);
    free(key->kid);
  }
  free(keys->keys);
  free(keys->issuer);
  free(keys->audience);
  free(keys->username);
  free(keys->groups);
  free(keys);
}
