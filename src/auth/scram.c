// SCRAM-SHA-256, the server's side. See scram.h.
#include "auth/scram.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>

#include "auth/saslprep.h"
#include "base/buffer.h"
#include "wire/base64.h"

static const char no_memory[] = "memory is short";

// The exchange goes on only this way; whatever fails ends it: NEW -> NAMED -> CHALLENGED -> OVER.
enum stage { STAGE_NEW, STAGE_NAMED, STAGE_CHALLENGED, STAGE_OVER };

struct scram {
  enum stage stage;
  uint8_t *first;                              // client-first, whole
  struct span gs2_header, bare, client_nonce;  // in `first`
  uint8_t *user;
  size_t user_size;
  struct buffer challenge;  // server-first
  size_t nonce_size;        // of the whole nonce, which follows "r=" there
  struct scram_verifier verifiers[PASSWORDS_PER_USER];
  size_t verifier_count;
  char answer[2 + 44 + 1];  // "v=" and the signature
};

// ---- Keys

static bool hmac(const uint8_t key[SCRAM_KEY_SIZE], struct span text, uint8_t out[SCRAM_KEY_SIZE])
{
  unsigned size = SCRAM_KEY_SIZE;
  return HMAC(EVP_sha256(), key, SCRAM_KEY_SIZE, text.at, text.size, out, &size) != NULL;
}

static bool sha256(const uint8_t in[SCRAM_KEY_SIZE], uint8_t out[SCRAM_KEY_SIZE])
{
  return EVP_Digest(in, SCRAM_KEY_SIZE, out, NULL, EVP_sha256(), NULL) == 1;
}

bool scram_make_keys(struct span password, struct scram_verifier *verifier)
{
  assert(verifier->salt_size <= sizeof verifier->salt);
  assert(password.size <= INT32_MAX);
  uint8_t salted[SCRAM_KEY_SIZE], client_key[SCRAM_KEY_SIZE];
  uint8_t *prepared = malloc(password.size + 1);
  if (!prepared) return false;
  size_t size = 0;
  if (!saslprep(password, prepared, &size)) {
    size = password.size;
    if (size > 0) memcpy(prepared, password.at, size);
  }
  bool good = PKCS5_PBKDF2_HMAC((const char *)prepared, (int)size, verifier->salt, (int)verifier->salt_size,
                                (int)verifier->iterations, EVP_sha256(), SCRAM_KEY_SIZE, salted) == 1;
  good = good && hmac(salted, span_text("Client Key"), client_key) && sha256(client_key, verifier->stored_key) &&
         hmac(salted, span_text("Server Key"), verifier->server_key);
  OPENSSL_cleanse(prepared, password.size);
  free(prepared);
  OPENSSL_cleanse(salted, sizeof salted);
  OPENSSL_cleanse(client_key, sizeof client_key);
  return good;
}

// ---- Lifetime

struct scram *scram_create(void)
{
  return calloc(1, sizeof(struct scram));
}

void scram_free(struct scram *scram)
{
  if (!scram) return;
  free(scram->first);
  free(scram->user);
  buffer_deinit(&scram->challenge);
  OPENSSL_cleanse(scram, sizeof *scram);
  free(scram);
}

// ---- Messages

// Takes an attribute "x=value" and the ',' behind it off *rest, whose at is NULL when nothing follows.
static bool take_attribute(struct span *rest, char name, struct span *out_value)
{
  if (rest->size < 2 || rest->at[0] != (uint8_t)name || rest->at[1] != '=') return false;
  struct span value = span_from(*rest, 2);
  const uint8_t *comma = value.size > 0 ? memchr(value.at, ',', value.size) : NULL;
  *rest = comma ? span_from(value, (size_t)(comma - value.at) + 1) : (struct span){0};
  *out_value = span_of(value.at, comma ? (size_t)(comma - value.at) : value.size);
  return true;
}

// Attributes that we do not know are allowed at the end, a letter each; nothing follows the last ','.
static bool are_extensions(struct span rest)
{
  while (rest.at) {
    struct span value;
    bool letter = rest.size > 0 && ((rest.at[0] >= 'a' && rest.at[0] <= 'z') || (rest.at[0] >= 'A' && rest.at[0] <= 'Z'));
    if (!letter || !take_attribute(&rest, (char)rest.at[0], &value)) return false;
  }
  return true;
}

static bool is_nonce(struct span nonce)
{
  if (nonce.size == 0 || nonce.size > SCRAM_MAX_NONCE) return false;
  for (size_t i = 0; i < nonce.size; i++)
    if (nonce.at[i] < 0x21 || nonce.at[i] > 0x7E || nonce.at[i] == ',') return false;
  return true;
}

// "=2C" is ',' and "=3D" is '=' (RFC 5802, section 5.1). Not longer than what it came from.
static bool unescape_name(struct span name, uint8_t *out, size_t *out_size)
{
  size_t size = 0;
  for (size_t i = 0; i < name.size; i++) {
    if (name.at[i] != '=') {
      out[size++] = name.at[i];
      continue;
    }
    bool comma = name.size - i >= 3 && memcmp(name.at + i, "=2C", 3) == 0;
    bool equals = name.size - i >= 3 && memcmp(name.at + i, "=3D", 3) == 0;
    if (!comma && !equals) return false;
    out[size++] = comma ? ',' : '=';
    i += 2;
  }
  *out_size = size;
  return true;
}

// Heap; NULL: no name (out_why says why).
static uint8_t *prepare_name(struct span name, size_t *out_size, const char **out_why)
{
  *out_why = no_memory;
  uint8_t *plain = malloc(name.size + 1), *prepared = malloc(name.size + 1);
  if (plain && prepared) {
    size_t size = 0;
    *out_why = "the user name is not one that SCRAM allows";
    if (unescape_name(name, plain, &size) && saslprep(span_of(plain, size), prepared, out_size) && *out_size > 0)
      *out_why = NULL;
  }
  free(plain);
  if (!*out_why) return prepared;
  free(prepared);
  return NULL;
}

// "n,," or "y,a=user,": what comes before client-first-bare. An authorisation identity is taken apart but not judged.
static const char *parse_gs2_header(struct span message, size_t *out_size, struct span *out_authorization)
{
  struct span rest;
  if (message.size > 0 && message.at[0] == 'p') return "channel binding is asked for, which the mechanism does not have";
  if (message.size < 3 || (message.at[0] != 'n' && message.at[0] != 'y') || message.at[1] != ',')
    return "the first SCRAM message does not begin as one";
  rest = span_from(message, 2);
  *out_authorization = (struct span){0};
  if (rest.at[0] == ',')
    rest = span_from(rest, 1);
  else if (!take_attribute(&rest, 'a', out_authorization) || !rest.at)
    return "the first SCRAM message does not begin as one";
  *out_size = (size_t)(rest.at - message.at);
  return NULL;
}

// Nobody comes in as somebody else: an authorisation identity has to be the user.
static const char *check_authorization(const struct scram *scram, struct span authorization)
{
  if (!authorization.at) return NULL;
  const char *why;
  size_t size = 0;
  uint8_t *name = prepare_name(authorization, &size, &why);
  bool same = name && span_equal(span_of(name, size), scram_user(scram));
  free(name);
  return same ? NULL : "the authorisation identity is not the user";
}

static const char *parse_first(struct scram *scram, struct span message)
{
  struct span authorization, name;
  size_t header_size = 0;
  const char *why = parse_gs2_header(message, &header_size, &authorization);
  if (why) return why;
  scram->gs2_header = span_of(message.at, header_size);
  scram->bare = span_from(message, header_size);

  struct span rest = scram->bare;
  if (rest.size > 0 && rest.at[0] == 'm') return "the first SCRAM message has an extension that is not known";
  if (!take_attribute(&rest, 'n', &name)) return "the first SCRAM message has no user name";
  if (!take_attribute(&rest, 'r', &scram->client_nonce) || !is_nonce(scram->client_nonce))
    return "the first SCRAM message has no nonce, or one that is not allowed";
  if (!are_extensions(rest)) return "the first SCRAM message does not end as one";
  scram->user = prepare_name(name, &scram->user_size, &why);
  if (!scram->user) return why;
  return check_authorization(scram, authorization);
}

const char *scram_take_first(struct scram *scram, struct span message)
{
  if (scram->stage != STAGE_NEW) return "a first SCRAM message is not due";
  scram->stage = STAGE_OVER;
  if (message.size == 0 || message.size > SCRAM_MAX_MESSAGE) return "the first SCRAM message is empty or too long";
  scram->first = malloc(message.size);
  if (!scram->first) return no_memory;
  memcpy(scram->first, message.at, message.size);
  const char *why = parse_first(scram, span_of(scram->first, message.size));
  if (!why) scram->stage = STAGE_NAMED;
  return why;
}

struct span scram_user(const struct scram *scram)
{
  return span_of(scram->user, scram->user_size);
}

const char *scram_challenge(struct scram *scram, const struct scram_verifier *verifiers, size_t count, struct span nonce,
                            struct span *out)
{
  assert(scram->stage == STAGE_NAMED);
  assert(count > 0);
  assert(count <= PASSWORDS_PER_USER);
  assert(is_nonce(nonce));
  scram->stage = STAGE_OVER;
  memcpy(scram->verifiers, verifiers, count * sizeof *verifiers);
  scram->verifier_count = count;
  char tail[4 + (sizeof verifiers->salt + 2) / 3 * 4 + 16];
  int at = snprintf(tail, sizeof tail, ",s=");
  at += (int)base64_encode(span_of(verifiers->salt, verifiers->salt_size), tail + at);
  at += snprintf(tail + at, sizeof tail - (size_t)at, ",i=%" PRIu32, verifiers->iterations);

  struct buffer *challenge = &scram->challenge;
  enum status status = buffer_append(challenge, "r=", 2);
  if (status == OK) status = buffer_append(challenge, scram->client_nonce.at, scram->client_nonce.size);
  if (status == OK) status = buffer_append(challenge, nonce.at, nonce.size);
  if (status == OK) status = buffer_append(challenge, tail, (size_t)at);
  if (status != OK) return no_memory;
  scram->nonce_size = scram->client_nonce.size + nonce.size;
  scram->stage = STAGE_CHALLENGED;
  *out = buffer_peek(challenge);
  return NULL;
}

// ---- The proof

// c= repeats the header of the first message (RFC 5802, section 7: without channel binding it is all that is in it).
static bool repeats_header(const struct scram *scram, struct span binding)
{
  if (binding.size != base64_size(scram->gs2_header.size)) return false;
  char *expected = malloc(binding.size + 1);
  if (!expected) return false;
  size_t size = base64_encode(scram->gs2_header, expected);
  bool same = span_equal(binding, span_of(expected, size));
  free(expected);
  return same;
}

// Takes client-final apart; *out_signed is what is before the proof.
static const char *parse_final(const struct scram *scram, struct span message, struct span *out_signed,
                               uint8_t out_proof[SCRAM_KEY_SIZE])
{
  static const char malformed[] = "the second SCRAM message is not one";
  const uint8_t *comma = message.size > 0 ? memrchr(message.at, ',', message.size) : NULL;
  if (!comma) return malformed;
  *out_signed = span_of(message.at, (size_t)(comma - message.at));
  struct span rest = *out_signed, last = span_from(message, out_signed->size + 1), binding, nonce, proof;
  if (!take_attribute(&rest, 'c', &binding) || !take_attribute(&rest, 'r', &nonce) || !are_extensions(rest))
    return malformed;
  if (!take_attribute(&last, 'p', &proof)) return malformed;
  if (!base64_valid(proof, SCRAM_KEY_SIZE)) return "the SCRAM proof is not one";
  if (!repeats_header(scram, binding)) return "the second SCRAM message does not repeat how the first began";
  struct span ours = buffer_peek(&scram->challenge);
  if (!span_equal(nonce, span_of(ours.at + 2, scram->nonce_size)))
    return "the nonce of the second SCRAM message is not ours";
  size_t size = 0;
  int wrong = sodium_base642bin(out_proof, SCRAM_KEY_SIZE, (const char *)proof.at, proof.size, NULL, &size, NULL,
                                sodium_base64_VARIANT_ORIGINAL);
  return wrong || size != SCRAM_KEY_SIZE ? "the SCRAM proof is not one" : NULL;
}

// The stored key has to be the hash of what the proof, undone with the signature, gives (RFC 5802, section 3).
static bool proves(const struct scram_verifier *verifier, struct span text, const uint8_t proof[SCRAM_KEY_SIZE])
{
  uint8_t signature[SCRAM_KEY_SIZE], client_key[SCRAM_KEY_SIZE], stored[SCRAM_KEY_SIZE];
  bool made = hmac(verifier->stored_key, text, signature);
  for (size_t i = 0; made && i < SCRAM_KEY_SIZE; i++) client_key[i] = proof[i] ^ signature[i];
  bool good = made && sha256(client_key, stored) && CRYPTO_memcmp(stored, verifier->stored_key, SCRAM_KEY_SIZE) == 0;
  OPENSSL_cleanse(signature, sizeof signature);
  OPENSSL_cleanse(client_key, sizeof client_key);
  OPENSSL_cleanse(stored, sizeof stored);
  return good;
}

static const char *answer(struct scram *scram, const struct scram_verifier *verifier, struct span text, struct span *out)
{
  uint8_t signature[SCRAM_KEY_SIZE];
  if (!hmac(verifier->server_key, text, signature)) return no_memory;
  memcpy(scram->answer, "v=", 2);
  size_t size = 2 + base64_encode(span_of(signature, sizeof signature), scram->answer + 2);
  *out = span_of(scram->answer, size);
  return NULL;
}

static bool append_part(struct buffer *text, struct span part, bool comma)
{
  return (!comma || buffer_append(text, ",", 1) == OK) && buffer_append(text, part.at, part.size) == OK;
}

const char *scram_take_final(struct scram *scram, struct span message, struct span *out)
{
  if (scram->stage != STAGE_CHALLENGED) return "a second SCRAM message is not due";
  scram->stage = STAGE_OVER;
  struct span without_proof;
  uint8_t proof[SCRAM_KEY_SIZE];
  if (message.size > SCRAM_MAX_MESSAGE) return "the second SCRAM message is too long";
  const char *why = parse_final(scram, message, &without_proof, proof);
  if (why) return why;

  struct buffer text = {0};
  why = no_memory;
  if (append_part(&text, scram->bare, false) && append_part(&text, buffer_peek(&scram->challenge), true) &&
      append_part(&text, without_proof, true)) {
    why = "the password is wrong, or there is no such user";
    for (size_t i = 0; i < scram->verifier_count; i++)
      if (proves(&scram->verifiers[i], buffer_peek(&text), proof)) {
        why = answer(scram, &scram->verifiers[i], buffer_peek(&text), out);
        break;
      }
  }
  buffer_deinit(&text);
  OPENSSL_cleanse(proof, sizeof proof);
  return why;
}
