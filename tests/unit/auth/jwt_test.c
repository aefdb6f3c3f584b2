// Tokens: the vectors of the RFCs, tokens signed here with keys made here, and everything that must not pass.
#include "auth/jwt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

static const struct wall now = {1700000000000};  // in seconds 1700000000

enum { TEXT = 8192 };

// ---- Making tokens

static size_t encode(struct span bytes, char *out)
{
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  size_t size = 0;
  uint32_t bits = 0;
  unsigned count = 0;
  for (size_t i = 0; i < bytes.size; i++) {
    bits = bits << 8 | bytes.at[i];
    for (count += 8; count >= 6; count -= 6) out[size++] = alphabet[bits >> (count - 6) & 63];
  }
  if (count > 0) out[size++] = alphabet[bits << (6 - count) & 63];
  out[size] = '\0';
  return size;
}

static const uint8_t secret[32] = "0123456789abcdef0123456789abcde";

// What signs: a key pair, or NULL for the secret.
struct signer {
  EVP_PKEY *pair;
  const char *alg;
  char jwk[TEXT];
};

static size_t sign(const struct signer *signer, struct span text, uint8_t out[1024])
{
  size_t size = 1024;
  if (!signer->pair) {
    unsigned mac_size = 0;
    assert_non_null(HMAC(EVP_sha256(), secret, sizeof secret, text.at, text.size, out, &mac_size));
    return mac_size;
  }
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  const EVP_MD *digest = EVP_PKEY_get_base_id(signer->pair) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
  assert_int_equal(EVP_DigestSignInit(context, NULL, digest, NULL, signer->pair), 1);
  assert_int_equal(EVP_DigestSign(context, out, &size, text.at, text.size), 1);
  EVP_MD_CTX_free(context);
  if (EVP_PKEY_get_base_id(signer->pair) != EVP_PKEY_EC) return size;
  const uint8_t *der = out;
  ECDSA_SIG *numbers = d2i_ECDSA_SIG(NULL, &der, (long)size);
  assert_non_null(numbers);
  assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(numbers), out, 32), 32);
  assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(numbers), out + 32, 32), 32);
  ECDSA_SIG_free(numbers);
  return 64;
}

// header.claims.signature; heap.
static char *make_token(const struct signer *signer, const char *header, const char *claims)
{
  size_t room = (strlen(header) + strlen(claims)) * 2 + 2048;
  char *token = malloc(room);
  assert_non_null(token);
  size_t size = encode(span_text(header), token);
  token[size++] = '.';
  size += encode(span_text(claims), token + size);
  uint8_t signature[1024];
  size_t signature_size = sign(signer, span_of(token, size), signature);
  token[size++] = '.';
  encode(span_of(signature, signature_size), token + size);
  return token;
}

static void number_text(const EVP_PKEY *pair, const char *name, int bytes, char out[1024])
{
  BIGNUM *number = NULL;
  uint8_t raw[512];
  assert_int_equal(EVP_PKEY_get_bn_param(pair, name, &number), 1);
  int size = bytes ? BN_bn2binpad(number, raw, bytes) : BN_bn2bin(number, raw);
  assert_true(size > 0);
  encode(span_of(raw, (size_t)size), out);
  BN_free(number);
}

static void rsa_signer(struct signer *signer, unsigned bits, const char *more)
{
  char n[1024], e[1024];
  *signer = (struct signer){.pair = EVP_RSA_gen(bits), .alg = "RS256"};
  number_text(signer->pair, OSSL_PKEY_PARAM_RSA_N, 0, n);
  number_text(signer->pair, OSSL_PKEY_PARAM_RSA_E, 0, e);
  snprintf(signer->jwk, sizeof signer->jwk, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}", n, e, more);
}

static void ec_signer(struct signer *signer, const char *more)
{
  char x[1024], y[1024];
  *signer = (struct signer){.pair = EVP_EC_gen("P-256"), .alg = "ES256"};
  number_text(signer->pair, OSSL_PKEY_PARAM_EC_PUB_X, 32, x);
  number_text(signer->pair, OSSL_PKEY_PARAM_EC_PUB_Y, 32, y);
  snprintf(signer->jwk, sizeof signer->jwk, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"%s}", x, y, more);
}

static void ed_signer(struct signer *signer, const char *more)
{
  uint8_t raw[32];
  char x[64];
  size_t size = sizeof raw;
  *signer = (struct signer){.pair = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), .alg = "EdDSA"};
  assert_int_equal(EVP_PKEY_get_raw_public_key(signer->pair, raw, &size), 1);
  encode(span_of(raw, size), x);
  snprintf(signer->jwk, sizeof signer->jwk, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"%s}", x, more);
}

static void secret_signer(struct signer *signer, const char *more)
{
  char k[64];
  *signer = (struct signer){.alg = "HS256"};
  encode(span_of(secret, sizeof secret), k);
  snprintf(signer->jwk, sizeof signer->jwk, "{\"kty\":\"oct\",\"k\":\"%s\"%s}", k, more);
}

// ---- Checking them

static struct jwt_keys *parse(const struct jwt_settings *settings, const char *text)
{
  struct jwt_keys *keys = NULL;
  struct error error = {0};
  struct jwt_settings named = *settings;
  named.jwks = "keys.json";
  if (jwt_keys_parse(&named, span_text(text), &keys, &error) != OK) fail_msg("%s", error.text);
  return keys;
}

// A set of one key.
static struct jwt_keys *keys_of(const struct jwt_settings *settings, const struct signer *signer)
{
  char text[TEXT + 64];
  snprintf(text, sizeof text, "{\"keys\":[%s]}", signer->jwk);
  return parse(settings, text);
}

static const struct identity *accepts_at(const struct jwt_keys *keys, const char *token, struct wall at)
{
  const struct identity *identity = NULL;
  const char *why = NULL;
  if (jwt_verify(keys, span_text(token), span_text("wan"), at, &identity, &why) != OK) fail_msg("%s: %s", token, why);
  assert_non_null(identity);
  assert_string_equal(identity->method, "jwt");
  assert_true(span_equal(identity->listener, span_text("wan")));
  return identity;
}

static void refuses_at(const struct jwt_keys *keys, const char *token, struct wall at, const char *expected)
{
  const struct identity *identity = NULL;
  const char *why = NULL;
  assert_int_equal(jwt_verify(keys, span_text(token), span_text("wan"), at, &identity, &why), ERR_INVALID);
  assert_null(identity);
  if (!why || !strstr(why, expected)) fail_msg("\"%s\" and not \"%s\"", why, expected);
}

static void refuses(const struct jwt_keys *keys, const char *token, const char *expected)
{
  refuses_at(keys, token, now, expected);
}

static bool has_fact(const struct identity *identity, const char *name, const char *value)
{
  for (size_t i = 0; i < identity->fact_count; i++)
    if (span_equal(identity->facts[i].name, span_text(name)) && span_equal(identity->facts[i].value, span_text(value)))
      return true;
  return false;
}

// With HS256: whether claims are accepted, and what with.
static void claims_refused(const struct jwt_settings *settings, const char *claims, const char *expected)
{
  struct signer signer;
  secret_signer(&signer, "");
  struct jwt_keys *keys = keys_of(settings, &signer);
  char *token = make_token(&signer, "{\"alg\":\"HS256\"}", claims);
  refuses(keys, token, expected);
  free(token);
  jwt_keys_unref(keys);
}

static const struct identity *claims_accepted(const struct jwt_settings *settings, const char *claims)
{
  struct signer signer;
  secret_signer(&signer, "");
  struct jwt_keys *keys = keys_of(settings, &signer);
  char *token = make_token(&signer, "{\"alg\":\"HS256\"}", claims);
  const struct identity *identity = accepts_at(keys, token, now);
  free(token);
  jwt_keys_unref(keys);
  return identity;
}

// ---- Vectors

#define JOE "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

static void check_joe(const char *jwks, const char *token)
{
  struct jwt_keys *keys = parse(&(struct jwt_settings){.username = "iss", .issuer = "joe"}, jwks);
  const struct identity *identity = accepts_at(keys, token, (struct wall){1300819379999});
  assert_true(span_equal(identity->user, span_text("joe")));
  assert_int_equal(identity->expires_ms, 1300819380000);
  assert_true(has_fact(identity, "jwt.http://example.com/is_root", "true"));
  assert_true(has_fact(identity, "jwt.exp", "1300819380"));
  assert_int_equal(identity->fact_count, 3);
  identity_unref(identity);
  refuses_at(keys, token, (struct wall){1300819380000}, "expired");
  // Every bit of the token counts.
  char *other = strdup(token);
  for (size_t i = 0; token[i]; i++) {
    if (token[i] == '.') continue;
    other[i] = token[i] == 'A' ? 'Q' : 'A';
    refuses_at(keys, other, (struct wall){1300819379999}, "");
    other[i] = token[i];
  }
  free(other);
  jwt_keys_unref(keys);
}

static void rfc_7515_a_1_is_verified(void **state)
{
  (void)state;
  check_joe("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-"
            "1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9C"
            "Aow\"}]}",
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." JOE ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}

static void rfc_7515_a_2_is_verified(void **state)
{
  (void)state;
  check_joe(
      "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-"
      "4qPCJrcS2mJPME"
      "zP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-K"
      "XBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs"
      "91kzk2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"}]}",
      "eyJhbGciOiJSUzI1NiJ9." JOE
      ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZ"
      "cAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-e"
      "OkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw");
}

static void rfc_7515_a_3_is_verified(void **state)
{
  (void)state;
  check_joe("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_"
            "FEzRu9m36HLN_tue659LNpXW"
            "6pCyStikYjKIWI5a0\"}]}",
            "eyJhbGciOiJFUzI1NiJ9." JOE
            ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
}

// The signed text of that one is no JSON, so the signature is what passes.
static void rfc_8037_a_4_is_verified(void **state)
{
  (void)state;
  static const char jwks[] =
      "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
  static const char token[] =
      "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIb"
      "QR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
  struct jwt_keys *keys = parse(&(struct jwt_settings){0}, jwks);
  refuses(keys, token, "JSON object");
  char *other = strdup(token);
  other[60] = other[60] == 'x' ? 'y' : 'x';
  refuses(keys, other, "signature");
  free(other);
  jwt_keys_unref(keys);
}

// ---- Algorithms and keys

enum { SIGNERS = 4 };

static void make_signers(struct signer signers[SIGNERS])
{
  rsa_signer(&signers[0], 2048, ",\"kid\":\"r\"");
  ec_signer(&signers[1], ",\"kid\":\"e\",\"use\":\"sig\",\"alg\":\"ES256\"");
  ed_signer(&signers[2], ",\"kid\":\"o\",\"key_ops\":[\"sign\",\"verify\"]");
  secret_signer(&signers[3], ",\"kid\":\"s\"");
}

static void free_signers(struct signer signers[SIGNERS])
{
  for (size_t i = 0; i < SIGNERS; i++) EVP_PKEY_free(signers[i].pair);
}

static char *token_of(const struct signer *signer, const char *alg, const char *kid)
{
  char header[128];
  snprintf(header, sizeof header, kid ? "{\"alg\":\"%s\",\"kid\":\"%s\"}" : "{\"alg\":\"%s\"}", alg, kid);
  return make_token(signer, header, "{\"sub\":\"ann\",\"exp\":1700000100}");
}

static void each_algorithm_is_verified_with_a_key_of_its_kind_only(void **state)
{
  (void)state;
  struct signer signers[SIGNERS];
  make_signers(signers);
  for (size_t k = 0; k < SIGNERS; k++) {
    struct jwt_keys *keys = keys_of(&(struct jwt_settings){0}, &signers[k]);
    for (size_t i = 0; i < SIGNERS; i++) {
      for (size_t a = 0; a < SIGNERS; a++) {
        char *token = token_of(&signers[i], signers[a].alg, NULL);
        if (i == k && a == k)
          identity_unref(accepts_at(keys, token, now));
        else
          refuses(keys, token, a == k ? "signature" : "no key");
        free(token);
      }
    }
    jwt_keys_unref(keys);
  }
  free_signers(signers);
}

static void a_public_key_is_no_secret_for_hs256(void **state)
{
  (void)state;
  struct signer rsa, mac = {.alg = "HS256"};
  rsa_signer(&rsa, 2048, "");
  struct jwt_keys *keys = keys_of(&(struct jwt_settings){0}, &rsa);
  char *token = token_of(&mac, "HS256", NULL);
  refuses(keys, token, "no key");
  free(token);
  EVP_PKEY_free(rsa.pair);
  jwt_keys_unref(keys);
}

static void a_set_has_keys_of_several_kinds_and_finds_them_by_kid(void **state)
{
  (void)state;
  struct signer signers[SIGNERS], second;
  make_signers(signers);
  ec_signer(&second, ",\"kid\":\"e2\"");
  static char text[6 * TEXT];
  snprintf(text, sizeof text, "{\"keys\":[%s,%s,%s,%s,%s]}", signers[0].jwk, signers[1].jwk, signers[2].jwk, signers[3].jwk,
           second.jwk);
  struct jwt_keys *keys = parse(&(struct jwt_settings){0}, text);
  static const char *const kids[SIGNERS] = {"r", "e", "o", "s"};
  for (size_t i = 0; i < SIGNERS; i++) {
    char *named = token_of(&signers[i], signers[i].alg, kids[i]), *unnamed = token_of(&signers[i], signers[i].alg, NULL);
    char *other = token_of(&signers[i], signers[i].alg, "nobody's");
    identity_unref(accepts_at(keys, named, now));
    identity_unref(accepts_at(keys, unnamed, now));
    refuses(keys, other, "no key");
    free(named);
    free(unnamed);
    free(other);
  }
  char *wrong = token_of(&second, "ES256", "e"), *right = token_of(&second, "ES256", "e2"),
       *tried = token_of(&second, "ES256", NULL);
  refuses(keys, wrong, "signature");
  identity_unref(accepts_at(keys, right, now));
  identity_unref(accepts_at(keys, tried, now));
  free(wrong);
  free(right);
  free(tried);
  EVP_PKEY_free(second.pair);
  free_signers(signers);
  jwt_keys_unref(keys);
}

static void headers_that_ask_for_more_or_less_are_refused(void **state)
{
  (void)state;
  static const struct {
    const char *header, *expected;
  } cases[] = {
      {"{\"alg\":\"none\"}", "none of RS256"},
      {"{\"alg\":\"None\"}", "none of RS256"},
      {"{\"alg\":\"hs256\"}", "none of RS256"},
      {"{\"alg\":\"HS512\"}", "none of RS256"},
      {"{\"alg\":\"\"}", "none of RS256"},
      {"{\"typ\":\"JWT\"}", "no algorithm"},
      {"{\"alg\":[\"HS256\"]}", "no algorithm"},
      {"{\"alg\":\"HS256\",\"alg\":\"HS256\"}", "twice"},
      {"{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}", "extension"},
      {"{\"alg\":\"HS256\",\"b64\":false,\"crit\":[\"b64\"]}", "extension"},
      {"{\"alg\":\"HS256\",\"kid\":7}", "no text"},
      {"[\"HS256\"]", "JSON object"},
      {"{\"alg\":\"HS256\"", "JSON object"},
      {"{\"alg\":\"HS256\"}x", "JSON object"},
      {"", "JSON object"},
  };
  struct signer signer;
  secret_signer(&signer, "");
  struct jwt_keys *keys = keys_of(&(struct jwt_settings){0}, &signer);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char *token = make_token(&signer, cases[i].header, "{\"sub\":\"ann\"}");
    refuses(keys, token, cases[i].expected);
    free(token);
  }
  // A key that the token brings along changes nothing.
  char *token = make_token(&signer, "{\"alg\":\"HS256\",\"jku\":\"https://example.com/\",\"jwk\":{},\"typ\":\"JWT\"}",
                           "{\"sub\":\"ann\"}");
  identity_unref(accepts_at(keys, token, now));
  free(token);
  jwt_keys_unref(keys);
}

static void an_unsigned_token_is_refused(void **state)
{
  (void)state;
  struct signer signer;
  secret_signer(&signer, "");
  struct jwt_keys *keys = keys_of(&(struct jwt_settings){0}, &signer);
  char *token = make_token(&signer, "{\"alg\":\"HS256\"}", "{\"sub\":\"ann\"}");
  strrchr(token, '.')[1] = '\0';
  refuses(keys, token, "signature");
  *strrchr(token, '.') = '\0';
  refuses(keys, token, "three parts");
  refuses(keys, "", "three parts");
  refuses(keys, "..", "JSON object");
  refuses(keys, ".", "three parts");
  free(token);
  jwt_keys_unref(keys);
}

static void a_signature_in_der_or_with_more_behind_it_is_refused(void **state)
{
  (void)state;
  struct signer signers[SIGNERS];
  make_signers(signers);
  for (size_t i = 0; i < SIGNERS; i++) {
    struct jwt_keys *keys = keys_of(&(struct jwt_settings){0}, &signers[i]);
    char *token = token_of(&signers[i], signers[i].alg, NULL);
    size_t size = strlen(token);
    memcpy(token + size, "AAAA", 5);  // three more bytes
    refuses(keys, token, "signature");
    memcpy(token + size, ".AAA", 5);
    refuses(keys, token, "base64url");
    memcpy(token + size, "=", 2);
    refuses(keys, token, "base64url");
    token[size - 4] = '\0';
    refuses(keys, token, "signature");
    memset(token + size - 4, 'A', 1500);  // make_token leaves more room than that
    token[size + 1400] = '\0';
    refuses(keys, token, i == 0 ? "signature" : "");
    free(token);
    jwt_keys_unref(keys);
  }
  free_signers(signers);
}

// ---- Claims

static void claims_become_an_identity(void **state)
{
  (void)state;
  const struct identity *identity = claims_accepted(
      &(struct jwt_settings){0},
      "{\"sub\":\"ann\",\"site\":\"north\",\"level\":3,\"share\":0.5,\"boss\":true,\"temp\":false,\"nothing\":null,\"deep\":"
      "{\"a\":1},"
      "\"lines\":[\"l1\",2,true,null,{\"b\":1},[3]],\"groups\":[\"ops\",\"fitters\"],\"na\\u00efve\":\"\\u20ac\"}");
  assert_true(span_equal(identity->user, span_text("ann")));
  assert_int_equal(identity->expires_ms, 0);
  assert_int_equal(identity->group_count, 2);
  assert_true(span_equal(identity->groups[0], span_text("ops")));
  assert_true(span_equal(identity->groups[1], span_text("fitters")));
  assert_true(has_fact(identity, "jwt.sub", "ann"));
  assert_true(has_fact(identity, "jwt.site", "north"));
  assert_true(has_fact(identity, "jwt.level", "3"));
  assert_true(has_fact(identity, "jwt.share", "0.5"));
  assert_true(has_fact(identity, "jwt.boss", "true"));
  assert_true(has_fact(identity, "jwt.temp", "false"));
  assert_true(has_fact(identity, "jwt.lines", "l1"));
  assert_true(has_fact(identity, "jwt.lines", "2"));
  assert_true(has_fact(identity, "jwt.lines", "true"));
  assert_true(has_fact(identity, "jwt.groups", "fitters"));
  assert_true(has_fact(identity, "jwt.na\xC3\xAFve", "\xE2\x82\xAC"));
  assert_int_equal(identity->fact_count, 12);
  identity_unref(identity);
}

static void the_user_name_and_groups_are_in_the_claims_that_are_configured(void **state)
{
  (void)state;
  static const char claims[] =
      "{\"sub\":\"a-1\",\"email\":\"ann@example.com\",\"dotted.name\":\"flat\",\"dotted\":{\"name\":\"deep\"},"
      "\"realm\":{\"access\":{\"roles\":[\"ops\"]},\"name\":\"ann\"},\"role\":\"one\"}";
  struct jwt_settings settings = {.username = "email", .groups = "realm.access.roles"};
  const struct identity *identity = claims_accepted(&settings, claims);
  assert_true(span_equal(identity->user, span_text("ann@example.com")));
  assert_int_equal(identity->group_count, 1);
  assert_true(span_equal(identity->groups[0], span_text("ops")));
  identity_unref(identity);

  settings = (struct jwt_settings){.username = "realm.name", .groups = "role"};
  identity = claims_accepted(&settings, claims);
  assert_true(span_equal(identity->user, span_text("ann")));
  assert_true(span_equal(identity->groups[0], span_text("one")));
  identity_unref(identity);

  settings = (struct jwt_settings){.username = "dotted.name"};
  identity = claims_accepted(&settings, claims);
  assert_true(span_equal(identity->user, span_text("flat")));
  assert_int_equal(identity->group_count, 0);
  identity_unref(identity);

  settings.username = "realm.nobody";
  claims_refused(&settings, claims, "user name");
  settings.username = "email.name";
  claims_refused(&settings, claims, "user name");
  settings.username = "realm.access.";
  claims_refused(&settings, claims, "user name");
}

static void claims_of_the_wrong_kind_are_refused(void **state)
{
  (void)state;
  static const struct {
    const char *claims, *expected;
  } cases[] = {
      {"{}", "user name"},
      {"{\"sub\":7}", "user name"},
      {"{\"sub\":\"\"}", "user name"},
      {"{\"sub\":[\"ann\"]}", "user name"},
      {"{\"sub\":\"an\\u0000n\"}", "JSON object"},
      {"{\"sub\":\"ann\",\"sub\":\"eve\"}", "twice"},
      {"{\"sub\":\"ann\",\"groups\":7}", "groups"},
      {"{\"sub\":\"ann\",\"groups\":[\"ops\",7]}", "groups"},
      {"{\"sub\":\"ann\",\"groups\":{}}", "groups"},
      {"{\"sub\":\"ann\",\"exp\":\"1700000100\"}", "exp is not"},
      {"{\"sub\":\"ann\",\"exp\":null}", "exp is not"},
      {"{\"sub\":\"ann\",\"exp\":1700000100000}", "exp is not"},  // milliseconds
      {"{\"sub\":\"ann\",\"exp\":-1}", "exp is not"},
      {"{\"sub\":\"ann\",\"exp\":1e400}", "JSON object"},
      {"{\"sub\":\"ann\",\"exp\":99999999999999999999}", "JSON object"},
      {"{\"sub\":\"ann\",\"nbf\":\"x\"}", "nbf is not"},
      {"{\"sub\":\"ann\",\"iat\":\"x\"}", "iat is not"},
      {"[{\"sub\":\"ann\"}]", "JSON object"},
      {"\"ann\"", "JSON object"},
      {"{\"sub\":\"ann\"} {}", "JSON object"},
      {"{\"sub\":\"a\xFFn\"}", "JSON object"},
      {"{\"sub\":\"ann\",\"d\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}", "too deeply"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    claims_refused(&(struct jwt_settings){0}, cases[i].claims, cases[i].expected);
}

static void brackets_in_texts_are_no_depth(void **state)
{
  (void)state;
  identity_unref(claims_accepted(
      &(struct jwt_settings){0},
      "{\"sub\":\"ann\",\"t\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[\",\"d\":[[[[[[[[[[]]]]]]]]]],\"e\":[[[[[[[[[[]]]]]]]]]]}"));
}

static void times_count_with_their_leeway(void **state)
{
  (void)state;
  static const struct {
    const char *claims;
    uint32_t leeway_s;
    const char *expected;  // NULL: accepted
    int64_t expires_ms;
  } cases[] = {
      {"{\"sub\":\"ann\",\"exp\":1700000000}", 0, "expired", 0},
      {"{\"sub\":\"ann\",\"exp\":1700000000.5}", 0, NULL, 1700000000500},
      {"{\"sub\":\"ann\",\"exp\":1700000001}", 0, NULL, 1700000001000},
      {"{\"sub\":\"ann\",\"exp\":1699999971}", 30, NULL, 1700000001000},
      {"{\"sub\":\"ann\",\"exp\":1699999970}", 30, "expired", 0},
      {"{\"sub\":\"ann\",\"exp\":0}", 30, "expired", 0},
      {"{\"sub\":\"ann\",\"exp\":9999999999}", 30, NULL, 10000000029000},
      {"{\"sub\":\"ann\",\"nbf\":1700000000}", 0, NULL, 0},
      {"{\"sub\":\"ann\",\"nbf\":1700000001}", 0, "not valid yet", 0},
      {"{\"sub\":\"ann\",\"nbf\":1700000030}", 30, NULL, 0},
      {"{\"sub\":\"ann\",\"nbf\":1700000031}", 30, "not valid yet", 0},
      {"{\"sub\":\"ann\",\"iat\":1700000001}", 0, "in the future", 0},
      {"{\"sub\":\"ann\",\"iat\":1700000030}", 30, NULL, 0},
      {"{\"sub\":\"ann\",\"iat\":1600000000}", 0, NULL, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const struct jwt_settings settings = {.leeway_s = cases[i].leeway_s};
    if (cases[i].expected) {
      claims_refused(&settings, cases[i].claims, cases[i].expected);
      continue;
    }
    const struct identity *identity = claims_accepted(&settings, cases[i].claims);
    assert_int_equal(identity->expires_ms, cases[i].expires_ms);
    identity_unref(identity);
  }
}

static void issuer_and_audience_have_to_be_ours(void **state)
{
  (void)state;
  const struct jwt_settings settings = {.issuer = "https://id.example/", .audience = "skerry"};
  identity_unref(claims_accepted(&settings, "{\"sub\":\"ann\",\"iss\":\"https://id.example/\",\"aud\":\"skerry\"}"));
  identity_unref(
      claims_accepted(&settings, "{\"sub\":\"ann\",\"iss\":\"https://id.example/\",\"aud\":[\"other\",\"skerry\"]}"));
  claims_refused(&settings, "{\"sub\":\"ann\",\"aud\":\"skerry\"}", "issuer");
  claims_refused(&settings, "{\"sub\":\"ann\",\"iss\":\"https://id.example\",\"aud\":\"skerry\"}", "issuer");
  claims_refused(&settings, "{\"sub\":\"ann\",\"iss\":[\"https://id.example/\"],\"aud\":\"skerry\"}", "issuer");
  claims_refused(&settings, "{\"sub\":\"ann\",\"iss\":\"https://id.example/\"}", "audience");
  claims_refused(&settings, "{\"sub\":\"ann\",\"iss\":\"https://id.example/\",\"aud\":\"Skerry\"}", "audience");
  claims_refused(&settings, "{\"sub\":\"ann\",\"iss\":\"https://id.example/\",\"aud\":[]}", "audience");
  claims_refused(&settings, "{\"sub\":\"ann\",\"iss\":\"https://id.example/\",\"aud\":[7,\"skerry2\"]}", "audience");
}

// `count` claims beside the subject.
static char *many_claims(unsigned count)
{
  char *claims = malloc(32 + count * 16);
  assert_non_null(claims);
  int at = sprintf(claims, "{\"sub\":\"ann\"");
  for (unsigned i = 0; i < count; i++) at += sprintf(claims + at, ",\"c%u\":%u", i, i);
  strcpy(claims + at, "}");
  return claims;
}

static void claims_have_a_bound(void **state)
{
  (void)state;
  char *claims = many_claims(JWT_CLAIMS_MAX - 1);
  const struct identity *identity = claims_accepted(&(struct jwt_settings){0}, claims);
  assert_int_equal(identity->fact_count, JWT_CLAIMS_MAX);
  identity_unref(identity);
  free(claims);
  claims = many_claims(JWT_CLAIMS_MAX);
  claims_refused(&(struct jwt_settings){0}, claims, "too many claims");
  free(claims);

  static char text[4096] = "{\"sub\":\"ann\",\"groups\":[\"g\"";
  for (unsigned i = 0; i < JWT_CLAIMS_MAX; i++) strcat(text, ",\"g\"");
  strcat(text, "]}");
  claims_refused(&(struct jwt_settings){0}, text, "too many");
  claims_refused(&(struct jwt_settings){.groups = "none"}, text, "too many claims");

  char name[300];
  memset(name, 'n', sizeof name);
  snprintf(text, sizeof text, "{\"sub\":\"ann\",\"%.257s\":1}", name);
  claims_refused(&(struct jwt_settings){0}, text, "too long a name");
  snprintf(text, sizeof text, "{\"sub\":\"ann\",\"%.256s\":1}", name);
  identity_unref(claims_accepted(&(struct jwt_settings){0}, text));
}

static void tokens_have_a_bound(void **state)
{
  (void)state;
  struct signer signer;
  secret_signer(&signer, "");
  struct jwt_keys *keys = keys_of(&(struct jwt_settings){0}, &signer);
  static char claims[16384];
  for (size_t filler = 12180; filler < 12280; filler++) {
    size_t at = (size_t)sprintf(claims, "{\"sub\":\"ann\",\"f\":\"");
    memset(claims + at, 'f', filler);
    strcpy(claims + at + filler, "\"}");
    char *token = make_token(&signer, "{\"alg\":\"HS256\"}", claims);
    if (strlen(token) <= JWT_TOKEN_BYTES)
      identity_unref(accepts_at(keys, token, now));
    else
      refuses(keys, token, "too long");
    free(token);
  }
  jwt_keys_unref(keys);
}

// ---- Sets of keys

static void refuses_set(const char *text, const char *expected)
{
  struct jwt_keys *keys = NULL;
  struct error error = {0};
  const struct jwt_settings settings = {.jwks = "keys.json"};
  assert_int_equal(jwt_keys_parse(&settings, span_text(text), &keys, &error), ERR_INVALID);
  assert_null(keys);
  assert_memory_equal(error.text, "keys.json:", 10);
  if (!strstr(error.text, expected)) fail_msg("\"%s\" and not \"%s\"", error.text, expected);
}

#define SECRET_K "\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\""

static void sets_that_are_none_are_refused(void **state)
{
  (void)state;
  refuses_set("", "not JSON");
  refuses_set("{", "keys.json:1: not JSON");
  refuses_set("{\n\n\"keys\": nobody}", "keys.json:3: not JSON");
  refuses_set("[]", "not a JSON object");
  refuses_set("{}", "\"keys\" is needed");
  refuses_set("{\"keys\":{}}", "array");
  refuses_set("{\"keys\":[]}", "none of its 0 keys");
  refuses_set("{\"keys\":[],\"keys\":[]}", "not JSON: duplicate");
  refuses_set("{\"keys\":[7]}", "key 1: a key is a JSON object");
  refuses_set("{\"keys\":[{}]}", "key 1: \"kty\"");
  refuses_set("{\"keys\":[{\"kty\":\"oct\",\"kid\":7," SECRET_K "}]}", "\"kid\" has to be a text");
  refuses_set("{\"keys\":[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]}", "nested too deeply");
}

static void keys_that_are_too_weak_or_broken_are_refused(void **state)
{
  (void)state;
  refuses_set("{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\"}]}", "key 1 (kid \"a\"): \"k\" has to be there");
  refuses_set("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}", "32 bytes or more");
  refuses_set("{\"keys\":[{\"kty\":\"oct\"," SECRET_K "},{\"kty\":\"oct\",\"k\":\"AAAA==\"}]}", "key 2: \"k\"");
  refuses_set("{\"keys\":[{\"kty\":\"oct\",\"k\":\"\"}]}", "\"k\" has to be there");
  refuses_set("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\"}]}", "\"n\" and \"e\"");
  refuses_set("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "2048 bits");
  refuses_set("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQ\"}]}", "no usable RSA key");
  refuses_set("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAA\",\"e\":\"AQAB\"}]}", "no usable RSA key");
  refuses_set("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAC\"}]}", "no usable RSA key");
  refuses_set("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQAB\",\"y\":\"AQAB\"}]}", "32 bytes each");
  refuses_set("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"y\":"
              "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}",
              "not a point of the curve");
  refuses_set("{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQAB\"}]}", "32 bytes");
  // Not on the curve; and its neutral point, to which everybody can sign.
  refuses_set("{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}",
              "no usable Ed25519 key");
  refuses_set("{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}",
              "no usable Ed25519 key");
  struct signer weak;
  char text[TEXT + 64];
  rsa_signer(&weak, 1024, ",\"kid\":\"old\"");
  snprintf(text, sizeof text, "{\"keys\":[%s]}", weak.jwk);
  refuses_set(text, "key 1 (kid \"old\"): it is too short: RSA keys need 2048 bits");
  EVP_PKEY_free(weak.pair);
}

static void the_secret_is_in_no_error(void **state)
{
  (void)state;
  struct jwt_keys *keys = NULL;
  struct error error = {0};
  const struct jwt_settings settings = {.jwks = "keys.json"};
  assert_int_equal(jwt_keys_parse(&settings, span_text("{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}"), &keys, &error),
                   ERR_INVALID);
  assert_null(strstr(error.text, "c2VjcmV0"));
  assert_null(strstr(error.text, "secret\""));
}

// What the library and its parser give back must not hold what was secret.
static struct {
  struct span texts[3];
  size_t freed, held;
} watched;

void __real_free(void *at);
void __wrap_free(void *at);

void __wrap_free(void *at)
{
  size_t size = at ? malloc_usable_size(at) : 0;
  watched.freed += size > 0;
  for (size_t i = 0; i < 3; i++)
    if (size > 0 && watched.texts[i].size > 0 && memmem(at, size, watched.texts[i].at, watched.texts[i].size))
      watched.held++;
  __real_free(at);
}

static void secrets_are_wiped_before_their_memory_goes(void **state)
{
  (void)state;
  static const char file[] =
      "{\"keys\":[{\"kty\":\"oct\",\"k\":\"dGhpcyBpcyBhIHNlY3JldCBvZiAzMiBieXRlcywgb3IgbW9yZQ\"},"
      "{\"kty\":\"oct\",\"use\":\"enc\",\"k\":\"bm90IGZvciB1cywgYW5kIG5vbmUgdGhlIGxlc3MgYSBzZWNyZXQ\"}]}";
  static const char broken[] =
      "{\"keys\":[{\"kty\":\"oct\",\"k\":\"dGhpcyBpcyBhIHNlY3JldCBvZiAzMiBieXRlcywgb3IgbW9yZQ=\"}]}";
  const struct jwt_settings settings = {.jwks = "keys.json"};
  struct jwt_keys *keys = NULL;
  struct error error = {0};
  watched.texts[0] = span_text("dGhpcyBpcyBhIHNlY3Jld");
  watched.texts[1] = span_text("bm90IGZvciB1cywgYW5k");
  watched.texts[2] = span_text("this is a secret");
  watched.freed = watched.held = 0;
  assert_int_equal(jwt_keys_parse(&settings, span_text(file), &keys, &error), OK);
  jwt_keys_unref(keys);
  assert_int_equal(jwt_keys_parse(&settings, span_text(broken), &keys, &error), ERR_INVALID);
  size_t freed = watched.freed, held = watched.held;
  watched.texts[0] = watched.texts[1] = watched.texts[2] = (struct span){0};
  assert_true(freed > 10);  // it does look
  assert_int_equal(held, 0);
}

static void keys_for_something_else_are_passed_over(void **state)
{
  (void)state;
  static const char *const others[] = {
      "{\"kty\":\"oct\",\"use\":\"enc\"," SECRET_K "}",
      "{\"kty\":\"oct\",\"alg\":\"HS512\"," SECRET_K "}",
      "{\"kty\":\"oct\",\"key_ops\":[\"encrypt\"]," SECRET_K "}",
      "{\"kty\":\"oct\",\"key_ops\":\"verify\"," SECRET_K "}",
      "{\"kty\":\"RSA\",\"use\":\"enc\",\"n\":\"AQAB\",\"e\":\"AQAB\"}",
      "{\"kty\":\"RSA\",\"alg\":\"RSA-OAEP\",\"n\":\"AQAB\",\"e\":\"AQAB\"}",
      "{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"AQAB\",\"y\":\"AQAB\"}",
      "{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AQAB\"}",
      "{\"kty\":\"lattice\"}",
  };
  struct signer signer;
  secret_signer(&signer, "");
  char *token = token_of(&signer, "HS256", NULL);
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    char text[TEXT + 512];
    snprintf(text, sizeof text, "{\"keys\":[%s]}", others[i]);
    refuses_set(text, "none of its 1 keys can check tokens");
    snprintf(text, sizeof text, "{\"keys\":[%s,%s]}", others[i], signer.jwk);
    struct jwt_keys *keys = parse(&(struct jwt_settings){0}, text);
    identity_unref(accepts_at(keys, token, now));
    jwt_keys_unref(keys);
  }
  free(token);
}

static void sets_have_a_bound(void **state)
{
  (void)state;
  static char text[(JWT_KEYS_MAX + 2) * 96] = "{\"keys\":[{\"kty\":\"oct\"," SECRET_K "}";
  for (unsigned i = 1; i < JWT_KEYS_MAX; i++) strcat(text, ",{\"kty\":\"oct\"," SECRET_K "}");
  size_t size = strlen(text);
  strcpy(text + size, "]}");
  struct jwt_keys *keys = parse(&(struct jwt_settings){0}, text);
  jwt_keys_unref(keys);
  strcpy(text + size, ",{\"kty\":\"oct\"," SECRET_K "}]}");
  refuses_set(text, "key 65: there are too many keys");
}

static void a_set_is_read_from_its_file(void **state)
{
  (void)state;
  char path[] = "/tmp/skerry-jwt-XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  struct signer signer;
  char text[TEXT + 64];
  secret_signer(&signer, "");
  snprintf(text, sizeof text, "{\"keys\":[%s]}\n", signer.jwk);
  assert_int_equal(write(fd, text, strlen(text)), strlen(text));
  struct jwt_keys *keys = NULL;
  struct error error = {0};
  struct jwt_settings settings = {.jwks = path};
  assert_int_equal(jwt_keys_load(&settings, &keys, &error), OK);
  assert_ptr_equal(jwt_keys_ref(keys), keys);
  jwt_keys_unref(keys);
  char *token = token_of(&signer, "HS256", NULL);
  identity_unref(accepts_at(keys, token, now));
  free(token);
  jwt_keys_unref(keys);
  assert_null(jwt_keys_ref(NULL));
  jwt_keys_unref(NULL);

  assert_int_equal(ftruncate(fd, (1 << 20) + 1), 0);
  keys = NULL;
  assert_int_equal(jwt_keys_load(&settings, &keys, &error), ERR_LIMIT);
  assert_non_null(strstr(error.text, "1048576 bytes"));
  assert_int_equal(unlink(path), 0);
  assert_int_equal(jwt_keys_load(&settings, &keys, &error), ERR_NOT_FOUND);
  assert_non_null(strstr(error.text, path));
  settings.jwks = "/";
  assert_int_not_equal(jwt_keys_load(&settings, &keys, &error), OK);
  assert_null(keys);
  close(fd);
}

static void what_looks_like_a_token_is_told_from_passwords(void **state)
{
  (void)state;
  assert_true(jwt_looks_like(span_text("eyJhbGciOiJub25lIn0.e30.")));
  assert_true(jwt_looks_like(span_text("eyJhbGciOiJub25lIn0.e30.c2ln")));
  assert_true(jwt_looks_like(span_text("ewoiYWxnIjoiSFMyNTYifQ.e30.c2ln")));
  assert_false(jwt_looks_like(span_text("")));
  assert_false(jwt_looks_like(span_text("..")));
  assert_false(jwt_looks_like(span_text("my.pass.word")));
  assert_false(jwt_looks_like(span_text("correct-horse-battery.staple.x")));
  assert_false(jwt_looks_like(span_text("eyJhbGciOiJub25lIn0")));
  assert_false(jwt_looks_like(span_text("eyJhbGciOiJub25lIn0.e30")));
  assert_false(jwt_looks_like(span_text("eyJhbGciOiJub25lIn0.e30.c2ln.c2ln")));
  assert_false(jwt_looks_like(span_text("eyJhbGciOiJub25lIn0.e30.c2l=")));
  assert_false(jwt_looks_like(span_text("eyJhbGciOiJub25lIn0.e 0.c2ln")));
  assert_false(jwt_looks_like(span_text("eyJh.e30.c2ln")));
  assert_false(jwt_looks_like((struct span){0}));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rfc_7515_a_1_is_verified),
      cmocka_unit_test(rfc_7515_a_2_is_verified),
      cmocka_unit_test(rfc_7515_a_3_is_verified),
      cmocka_unit_test(rfc_8037_a_4_is_verified),
      cmocka_unit_test(each_algorithm_is_verified_with_a_key_of_its_kind_only),
      cmocka_unit_test(a_public_key_is_no_secret_for_hs256),
      cmocka_unit_test(a_set_has_keys_of_several_kinds_and_finds_them_by_kid),
      cmocka_unit_test(headers_that_ask_for_more_or_less_are_refused),
      cmocka_unit_test(an_unsigned_token_is_refused),
      cmocka_unit_test(a_signature_in_der_or_with_more_behind_it_is_refused),
      cmocka_unit_test(claims_become_an_identity),
      cmocka_unit_test(the_user_name_and_groups_are_in_the_claims_that_are_configured),
      cmocka_unit_test(claims_of_the_wrong_kind_are_refused),
      cmocka_unit_test(brackets_in_texts_are_no_depth),
      cmocka_unit_test(times_count_with_their_leeway),
      cmocka_unit_test(issuer_and_audience_have_to_be_ours),
      cmocka_unit_test(claims_have_a_bound),
      cmocka_unit_test(tokens_have_a_bound),
      cmocka_unit_test(sets_that_are_none_are_refused),
      cmocka_unit_test(keys_that_are_too_weak_or_broken_are_refused),
      cmocka_unit_test(the_secret_is_in_no_error),
      cmocka_unit_test(secrets_are_wiped_before_their_memory_goes),
      cmocka_unit_test(keys_for_something_else_are_passed_over),
      cmocka_unit_test(sets_have_a_bound),
      cmocka_unit_test(a_set_is_read_from_its_file),
      cmocka_unit_test(what_looks_like_a_token_is_told_from_passwords),
  };
  return cmocka_run_group_tests_name("jwt", tests, NULL, NULL);
}
