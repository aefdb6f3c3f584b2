// The hashes of a password file. See password_hash.h.
#include "auth/password_hash.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "auth/passwords.h"
#include "auth/password_line.h"
#include "auth/saslprep.h"
#include "auth/scram.h"

enum {
  ARGON2_MEMORY_KIB = 19456,  // OWASP's advice of 2023; half of it is too little, double is much for a gateway
  ARGON2_PASSES = 2,
  ARGON2_SALT = 16,
  ARGON2_KEY = 32,
  SHA512_SIZE = 64,
  SCRAM_SALT = 16,
  MAX_TEXT = 512,
};

static_assert((int)SCRAM_KEY_SIZE <= (int)STORED_MAX_KEY, "keys of SCRAM have room");
static_assert(sizeof((struct scram_verifier *)NULL)->salt >= STORED_MAX_SALT, "salts have room in a verifier");

static const char kind_names[][16] = {"argon2id", "7", "6", "scram-sha-256"};

// ---- Reading

// Takes what is before the next '$' off *rest, whose at is NULL when nothing follows.
static struct span take_field(struct span *rest)
{
  const uint8_t *found = rest->size > 0 ? memchr(rest->at, '$', rest->size) : NULL;
  struct span field = span_of(rest->at, found ? (size_t)(found - rest->at) : rest->size);
  *rest = found ? span_from(*rest, field.size + 1) : (struct span){0};
  return field;
}

// A decimal number without sign, blanks and zeros in front.
static bool parse_number(struct span text, uint32_t *out)
{
  uint64_t value = 0;
  if (text.size == 0 || text.size > 10 || (text.size > 1 && text.at[0] == '0')) return false;
  for (size_t i = 0; i < text.size; i++) {
    if (text.at[i] < '0' || text.at[i] > '9') return false;
    value = value * 10 + (uint64_t)(text.at[i] - '0');
  }
  if (value > UINT32_MAX) return false;
  *out = (uint32_t)value;
  return true;
}

// "m=19456": the number behind `name` and '='; takes it and the ',' behind it off *rest.
static bool take_parameter(struct span *rest, char name, uint32_t *out)
{
  if (rest->size < 2 || rest->at[0] != (uint8_t)name || rest->at[1] != '=') return false;
  struct span value = span_from(*rest, 2);
  const uint8_t *comma = value.size > 0 ? memchr(value.at, ',', value.size) : NULL;
  *rest = comma ? span_from(value, (size_t)(comma - value.at) + 1) : (struct span){0};
  return parse_number(span_of(value.at, comma ? (size_t)(comma - value.at) : value.size), out);
}

// sodium_base642bin takes bytes above 0x7F for letters.
static bool is_ascii(struct span text)
{
  for (size_t i = 0; i < text.size; i++)
    if (text.at[i] > 0x7F) return false;
  return true;
}

static bool take_base64(struct span *rest, int variant, size_t minimum, size_t maximum, uint8_t *out, uint8_t *out_size)
{
  struct span field = take_field(rest);
  size_t size = 0;
  if (field.size == 0 || !is_ascii(field)) return false;
  if (sodium_base642bin(out, maximum, (const char *)field.at, field.size, NULL, &size, NULL, variant) != 0) return false;
  if (size < minimum) return false;
  *out_size = (uint8_t)size;
  return true;
}

static bool take_salt(struct span *rest, int variant, size_t minimum, struct stored_password *stored)
{
  return take_base64(rest, variant, minimum, STORED_MAX_SALT, stored->salt, &stored->salt_size);
}

static bool take_key(struct span *rest, int variant, size_t minimum, size_t maximum, struct stored_password *stored)
{
  return take_base64(rest, variant, minimum, maximum, stored->key, &stored->key_size);
}

static enum status check_argon2id(const struct stored_password *stored, struct error *error)
{
  if (stored->lanes < 1 || stored->lanes > STORED_MAX_LANES)
    return error_set(error, ERR_INVALID, "the argon2id hash has p=%" PRIu32 "; 1 to %d is possible", stored->lanes,
                     STORED_MAX_LANES);
  if (stored->memory_kib < 8 * stored->lanes || stored->memory_kib > STORED_MAX_MEMORY_KIB)
    return error_set(error, ERR_INVALID,
                     "the argon2id hash has m=%" PRIu32 " (KiB); 8 for each lane to %d (256 MiB) is possible",
                     stored->memory_kib, STORED_MAX_MEMORY_KIB);
  if (stored->iterations < 1 || (uint64_t)stored->iterations * stored->memory_kib > STORED_MAX_PASSES_KIB)
    return error_set(error, ERR_INVALID,
                     "the argon2id hash has t=%" PRIu32 " with m=%" PRIu32 "; at least 1, and at most %" PRIu32
                     " with so much memory, is possible",
                     stored->iterations, stored->memory_kib, STORED_MAX_PASSES_KIB / stored->memory_kib);
  return OK;
}

static enum status parse_argon2id(struct span rest, struct stored_password *stored, struct error *error)
{
  struct span version = take_field(&rest), costs = take_field(&rest);
  bool good = span_equal(version, span_text("v=19")) && take_parameter(&costs, 'm', &stored->memory_kib) &&
              take_parameter(&costs, 't', &stored->iterations) && take_parameter(&costs, 'p', &stored->lanes) && !costs.at;
  // crypto_pwhash_str_verify takes no shorter ones.
  good = good && take_salt(&rest, sodium_base64_VARIANT_ORIGINAL_NO_PADDING, 8, stored) &&
         take_key(&rest, sodium_base64_VARIANT_ORIGINAL_NO_PADDING, 16, STORED_MAX_KEY, stored) && !rest.at;
  if (!good)
    return error_set(error, ERR_INVALID,
                     "the argon2id hash is damaged; it is written $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH, salt and "
                     "hash in base64 without padding");
  return check_argon2id(stored, error);
}

static enum status check_iterations(const char *name, uint32_t iterations, uint32_t minimum, struct error *error)
{
  if (iterations >= minimum && iterations <= STORED_MAX_ITERATIONS) return OK;
  return error_set(error, ERR_INVALID, "the %s hash has %" PRIu32 " iterations; %" PRIu32 " to %d is possible", name,
                   iterations, minimum, STORED_MAX_ITERATIONS);
}

static enum status parse_pbkdf2(struct span rest, struct stored_password *stored, struct error *error)
{
  bool good = parse_number(take_field(&rest), &stored->iterations) &&
              take_salt(&rest, sodium_base64_VARIANT_ORIGINAL, 1, stored) &&
              take_key(&rest, sodium_base64_VARIANT_ORIGINAL, SHA512_SIZE, SHA512_SIZE, stored) && !rest.at;
  if (!good)
    return error_set(
        error, ERR_INVALID,
        "the PBKDF2 hash is damaged; it is written $7$ITERATIONS$SALT$HASH, salt and hash in base64, the hash of 64 bytes");
  return check_iterations("PBKDF2", stored->iterations, 1, error);
}

static enum status parse_sha512(struct span rest, struct stored_password *stored, struct error *error)
{
  stored->iterations = 1;
  bool good = take_salt(&rest, sodium_base64_VARIANT_ORIGINAL, 1, stored) &&
              take_key(&rest, sodium_base64_VARIANT_ORIGINAL, SHA512_SIZE, SHA512_SIZE, stored) && !rest.at;
  if (good) return OK;
  return error_set(
      error, ERR_INVALID,
      "the SHA-512 hash is damaged; it is written $6$SALT$HASH, salt and hash in base64, the hash of 64 bytes (that of "
      "crypt(3) also begins with $6$, and is another)");
}

static enum status parse_scram(struct span rest, struct stored_password *stored, struct error *error)
{
  uint8_t server_size = 0;
  bool good =
      parse_number(take_field(&rest), &stored->iterations) && take_salt(&rest, sodium_base64_VARIANT_ORIGINAL, 8, stored) &&
      take_key(&rest, sodium_base64_VARIANT_ORIGINAL, SCRAM_KEY_SIZE, SCRAM_KEY_SIZE, stored) &&
      take_base64(&rest, sodium_base64_VARIANT_ORIGINAL, SCRAM_KEY_SIZE, SCRAM_KEY_SIZE, stored->server_key, &server_size) &&
      !rest.at;
  if (!good)
    return error_set(
        error, ERR_INVALID,
        "the SCRAM verifier is damaged; it is written $scram-sha-256$ITERATIONS$SALT$STORED$SERVER, in base64, the two "
        "keys of 32 bytes");
  return check_iterations("SCRAM", stored->iterations, SCRAM_MIN_ITERATIONS, error);
}

typedef enum status parse_kind(struct span rest, struct stored_password *stored, struct error *error);

enum status stored_password_parse(struct span text, struct stored_password *out, struct error *error)
{
  static parse_kind *const parsers[] = {parse_argon2id, parse_pbkdf2, parse_sha512, parse_scram};
  struct span kind = password_hash_kind(text);
  for (size_t i = 0; i < sizeof parsers / sizeof parsers[0]; i++) {
    if (!span_equal(kind, span_text(kind_names[i]))) continue;
    struct stored_password stored = {.kind = (enum stored_kind)i};
    enum status status = parsers[i](span_from(text, kind.size + 2), &stored, error);
    if (status == OK) *out = stored;
    OPENSSL_cleanse(&stored, sizeof stored);
    return status;
  }
  return error_set(
      error, ERR_INVALID,
      "the hash is of a kind that is not known; known are $argon2id$, $scram-sha-256$, $7$ (PBKDF2-SHA512) and $6$ "
      "(salted SHA-512)");
}

// ---- Writing

// Appends '$' and the bytes in base64.
static size_t write_base64(char *text, size_t at, const uint8_t *bytes, size_t size, int variant)
{
  text[at++] = '$';
  sodium_bin2base64(text + at, MAX_TEXT - at, bytes, size, variant);
  return at + strlen(text + at);
}

static void write_text(const struct stored_password *stored, char text[MAX_TEXT])
{
  int variant = stored->kind == STORED_ARGON2ID ? sodium_base64_VARIANT_ORIGINAL_NO_PADDING : sodium_base64_VARIANT_ORIGINAL;
  int head = 0;
  switch (stored->kind) {
    case STORED_ARGON2ID:
      head = snprintf(text, MAX_TEXT, "$argon2id$v=19$m=%" PRIu32 ",t=%" PRIu32 ",p=%" PRIu32, stored->memory_kib,
                      stored->iterations, stored->lanes);
      break;
    case STORED_SHA512: head = snprintf(text, MAX_TEXT, "$6"); break;
    case STORED_PBKDF2_SHA512:
    case STORED_SCRAM_SHA256:
      head = snprintf(text, MAX_TEXT, "$%s$%" PRIu32, kind_names[stored->kind], stored->iterations);
      break;
  }
  size_t at = write_base64(text, (size_t)head, stored->salt, stored->salt_size, variant);
  at = write_base64(text, at, stored->key, stored->key_size, variant);
  if (stored->kind == STORED_SCRAM_SHA256)
    (void)write_base64(text, at, stored->server_key, sizeof stored->server_key, variant);
}

char *stored_password_format(const struct stored_password *stored)
{
  char text[MAX_TEXT];
  write_text(stored, text);
  char *copy = strdup(text);
  OPENSSL_cleanse(text, sizeof text);
  return copy;
}

// ---- Comparing

static enum stored_match verify_argon2id(const struct stored_password *stored, struct span password)
{
  // libsodium computes one lane only, but compares with what was made with more; it takes the text as it stands in a file.
  char text[MAX_TEXT];
  write_text(stored, text);
  errno = 0;
  int result = crypto_pwhash_argon2id_str_verify(text, (const char *)password.at, password.size);
  int why = errno;
  OPENSSL_cleanse(text, sizeof text);
  if (result == 0) return STORED_SAME;
  return why == EINVAL ? STORED_DIFFERENT : STORED_NO_MEMORY;
}

static bool digest_salted(const struct stored_password *stored, struct span password, uint8_t out[SHA512_SIZE])
{
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool good = context && EVP_DigestInit_ex(context, EVP_sha512(), NULL) == 1 &&
              EVP_DigestUpdate(context, password.at, password.size) == 1 &&
              EVP_DigestUpdate(context, stored->salt, stored->salt_size) == 1 && EVP_DigestFinal_ex(context, out, NULL) == 1;
  EVP_MD_CTX_free(context);
  return good;
}

static struct scram_verifier verifier_of(const struct stored_password *stored)
{
  struct scram_verifier verifier = {.iterations = stored->iterations, .salt_size = stored->salt_size};
  memcpy(verifier.salt, stored->salt, stored->salt_size);
  return verifier;
}

static bool make_key(const struct stored_password *stored, struct span password, uint8_t out[STORED_MAX_KEY])
{
  if (stored->kind == STORED_SHA512) return digest_salted(stored, password, out);
  if (stored->kind == STORED_PBKDF2_SHA512)
    return PKCS5_PBKDF2_HMAC((const char *)password.at, (int)password.size, stored->salt, stored->salt_size,
                             (int)stored->iterations, EVP_sha512(), SHA512_SIZE, out) == 1;
  assert(stored->kind == STORED_SCRAM_SHA256);
  struct scram_verifier verifier = verifier_of(stored);
  bool made = scram_make_keys(password, &verifier);
  memcpy(out, verifier.stored_key, sizeof verifier.stored_key);
  OPENSSL_cleanse(&verifier, sizeof verifier);
  return made;
}

enum stored_match stored_password_verify(const struct stored_password *stored, struct span password)
{
  if (password.size > INT32_MAX) return STORED_DIFFERENT;
  if (password.size == 0) password = span_text("");  // the libraries want an address
  if (stored->kind == STORED_ARGON2ID) return verify_argon2id(stored, password);
  uint8_t key[STORED_MAX_KEY];
  enum stored_match match = STORED_NO_MEMORY;
  if (make_key(stored, password, key))
    match = CRYPTO_memcmp(key, stored->key, stored->key_size) == 0 ? STORED_SAME : STORED_DIFFERENT;
  OPENSSL_cleanse(key, sizeof key);
  return match;
}

int stored_password_compare_cost(const struct stored_password *a, const struct stored_password *b)
{
  if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
  if (a->memory_kib != b->memory_kib) return a->memory_kib < b->memory_kib ? -1 : 1;
  if (a->iterations != b->iterations) return a->iterations < b->iterations ? -1 : 1;
  if (a->lanes != b->lanes) return a->lanes < b->lanes ? -1 : 1;
  return 0;
}

void stored_password_randomise(struct stored_password *stored)
{
  randombytes_buf(stored->salt, stored->salt_size);
  randombytes_buf(stored->key, stored->key_size);
  randombytes_buf(stored->server_key, sizeof stored->server_key);
}

// ---- Making new ones

static enum status make_argon2id(struct span password, struct stored_password *stored, struct error *error)
{
  *stored = (struct stored_password){.kind = STORED_ARGON2ID,
                                     .iterations = ARGON2_PASSES,
                                     .memory_kib = ARGON2_MEMORY_KIB,
                                     .lanes = 1,
                                     .salt_size = ARGON2_SALT,
                                     .key_size = ARGON2_KEY};
  randombytes_buf(stored->salt, stored->salt_size);
  if (crypto_pwhash(stored->key, stored->key_size, (const char *)password.at, password.size, stored->salt, ARGON2_PASSES,
                    (size_t)ARGON2_MEMORY_KIB * 1024, crypto_pwhash_ALG_ARGON2ID13) == 0)
    return OK;
  return error_set(error, ERR_NO_MEMORY, "memory is short: the hash needs %d MiB", ARGON2_MEMORY_KIB / 1024);
}

static enum status make_scram(struct span password, struct span like, struct stored_password *stored, struct error *error)
{
  struct stored_password before;
  uint8_t *prepared = malloc(password.size);
  size_t size = 0;
  if (!prepared) return error_set(error, ERR_NO_MEMORY, "memory is short");
  bool good = saslprep(password, prepared, &size) && size > 0;
  OPENSSL_cleanse(prepared, password.size);
  free(prepared);
  if (!good)
    return error_set(error, ERR_INVALID, "the password has characters in it that SCRAM does not allow, or is not UTF-8");

  *stored = (struct stored_password){
      .kind = STORED_SCRAM_SHA256, .iterations = SCRAM_ITERATIONS, .salt_size = SCRAM_SALT, .key_size = SCRAM_KEY_SIZE};
  randombytes_buf(stored->salt, stored->salt_size);
  if (like.size > 0 && stored_password_parse(like, &before, NULL) == OK && before.kind == STORED_SCRAM_SHA256) {
    stored->iterations = before.iterations;
    stored->salt_size = before.salt_size;
    memcpy(stored->salt, before.salt, before.salt_size);
    OPENSSL_cleanse(&before, sizeof before);
  }
  struct scram_verifier verifier = verifier_of(stored);
  if (!scram_make_keys(password, &verifier)) return error_set(error, ERR_NO_MEMORY, "memory is short");
  memcpy(stored->key, verifier.stored_key, SCRAM_KEY_SIZE);
  memcpy(stored->server_key, verifier.server_key, SCRAM_KEY_SIZE);
  OPENSSL_cleanse(&verifier, sizeof verifier);
  return OK;
}

enum status password_hash(enum password_kind kind, struct span password, struct span like, char **out, struct error *error)
{
  struct stored_password stored;
  if (sodium_init() < 0) return error_set(error, ERR_IO, "the system gives no random numbers");
  if (password.size == 0) return error_set(error, ERR_INVALID, "the password is empty");
  if (password.size > INT32_MAX) return error_set(error, ERR_INVALID, "the password is too long");
  enum status status =
      kind == PASSWORD_SCRAM ? make_scram(password, like, &stored, error) : make_argon2id(password, &stored, error);
  if (status != OK) return status;
  *out = stored_password_format(&stored);
  OPENSSL_cleanse(&stored, sizeof stored);
  return *out ? OK : error_set(error, ERR_NO_MEMORY, "memory is short");
}
