#include "tls/records.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

enum {
  NONCE = 12,
  TAG = 16,
  GCM_SALT = 4,  // of 1.2: the rest of the nonce is in each record
  GCM_EXPLICIT = 8,
  KEY_MAX = 32,
  WORN = 1 << 23,  // records: AES-GCM is good for 2^24.5 of full size (RFC 8446 section 5.5)
};

struct direction {
  EVP_CIPHER_CTX *cipher;
  uint64_t sequence;
  uint8_t secret[SECRET_MAX];
  uint8_t iv[NONCE];
};

struct records {
  struct direction in, out;
  const EVP_CIPHER *cipher;  // the suites'
  const EVP_MD *digest;      // the suites'
  uint32_t worn_after;       // records
  uint16_t plain_max;
  bool is_1_3;
  uint8_t explicit_size;  // of the nonce, in each record: 1.2 with GCM
};

// ---- Algorithms

bool record_suites_init(struct record_suites *suites)
{
  *suites = (struct record_suites){
      .aes_128_gcm = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL),
      .aes_256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL),
      .chacha20_poly1305 = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL),
      .sha256 = EVP_MD_fetch(NULL, "SHA256", NULL),
      .sha384 = EVP_MD_fetch(NULL, "SHA384", NULL),
  };
  ERR_clear_error();
  return suites->aes_128_gcm && suites->aes_256_gcm && suites->sha256 && suites->sha384;
}

void record_suites_deinit(struct record_suites *suites)
{
  EVP_CIPHER_free(suites->aes_128_gcm);
  EVP_CIPHER_free(suites->aes_256_gcm);
  EVP_CIPHER_free(suites->chacha20_poly1305);
  EVP_MD_free(suites->sha256);
  EVP_MD_free(suites->sha384);
  *suites = (struct record_suites){0};
}

static const EVP_CIPHER *cipher_of(const SSL *ssl, const struct record_suites *suites)
{
  switch (SSL_CIPHER_get_cipher_nid(SSL_get_current_cipher(ssl))) {
    case NID_aes_128_gcm: return suites->aes_128_gcm;
    case NID_aes_256_gcm: return suites->aes_256_gcm;
    case NID_chacha20_poly1305: return suites->chacha20_poly1305;
    default: return NULL;
  }
}

static const EVP_MD *digest_of(const SSL *ssl, const struct record_suites *suites)
{
  const EVP_MD *digest = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl));
  if (!digest) return NULL;
  switch (EVP_MD_get_type(digest)) {
    case NID_sha256: return suites->sha256;
    case NID_sha384: return suites->sha384;
    default: return NULL;
  }
}

// ---- Keys

static size_t secret_size(const struct records *records)
{
  return (size_t)EVP_MD_get_size(records->digest);
}

// HKDF-Expand-Label of RFC 8446 section 7.1 without a context. One block of HKDF-Expand is enough for all that is derived
// here.
static bool expand(const struct records *records, const uint8_t *secret, const char *label, uint8_t *out, size_t size)
{
  uint8_t info[64], block[EVP_MAX_MD_SIZE];
  size_t label_size = strlen(label), at = 0;
  assert(size <= secret_size(records));
  assert(label_size < 32);
  info[at++] = (uint8_t)(size >> 8);
  info[at++] = (uint8_t)size;
  info[at++] = (uint8_t)(strlen("tls13 ") + label_size);
  memcpy(info + at, "tls13 ", strlen("tls13 "));
  at += strlen("tls13 ");
  memcpy(info + at, label, label_size);
  at += label_size;
  info[at++] = 0;  // no context
  info[at++] = 1;  // the first block
  unsigned block_size = 0;
  bool fine = HMAC(records->digest, secret, (int)secret_size(records), info, at, block, &block_size) != NULL;
  if (fine) memcpy(out, block, size);
  OPENSSL_cleanse(block, sizeof block);
  return fine;
}

static bool set_key(struct direction *direction, const EVP_CIPHER *cipher, const uint8_t *key, bool seal)
{
  if (!direction->cipher) direction->cipher = EVP_CIPHER_CTX_new();
  return direction->cipher && EVP_CipherInit_ex(direction->cipher, cipher, NULL, key, NULL, seal) == 1;
}

// RFC 8446 section 7.3.
static bool derive(const struct records *records, struct direction *direction, bool seal)
{
  uint8_t key[KEY_MAX];
  size_t size = (size_t)EVP_CIPHER_get_key_length(records->cipher);
  assert(size <= sizeof key);
  bool fine = expand(records, direction->secret, "key", key, size) &&
              expand(records, direction->secret, "iv", direction->iv, NONCE) &&
              set_key(direction, records->cipher, key, seal);
  OPENSSL_cleanse(key, sizeof key);
  direction->sequence = 0;
  return fine;
}

static bool update(struct records *records, struct direction *direction, bool seal)
{
  uint8_t next[SECRET_MAX];
  bool fine = expand(records, direction->secret, "traffic upd", next, secret_size(records));
  if (fine) memcpy(direction->secret, next, secret_size(records));
  OPENSSL_cleanse(next, sizeof next);
  return fine && derive(records, direction, seal);
}

bool records_update_in(struct records *records)
{
  assert(records->is_1_3);
  return update(records, &records->in, false);
}

bool records_update_out(struct records *records)
{
  assert(records->is_1_3);
  return update(records, &records->out, true);
}

bool records_worn(const struct records *records)
{
  return records->is_1_3 && records->out.sequence >= records->worn_after;
}

void records_wear(struct records *records, uint32_t after)
{
  records->worn_after = after;
}

static bool start_1_3(struct records *records, const struct record_secrets *secrets)
{
  size_t size = secret_size(records);
  if (secrets->in_size != size || secrets->out_size != size) return false;
  memcpy(records->in.secret, secrets->in, size);
  memcpy(records->out.secret, secrets->out, size);
  if (!derive(records, &records->in, false) || !derive(records, &records->out, true)) return false;
  records->out.sequence = secrets->sent;  // tickets
  return true;
}

// RFC 5246 section 6.3: key_block = PRF(master_secret, "key expansion", server_random + client_random).
static bool expand_1_2(const struct records *records, const SSL *ssl, uint8_t *out, size_t size)
{
  char label[] = "key expansion", digest[16];
  uint8_t master[SSL_MAX_MASTER_KEY_LENGTH], randoms[2 * SSL3_RANDOM_SIZE];
  size_t master_size = SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof master);
  SSL_get_server_random(ssl, randoms, SSL3_RANDOM_SIZE);
  SSL_get_client_random(ssl, randoms + SSL3_RANDOM_SIZE, SSL3_RANDOM_SIZE);
  strncpy(digest, EVP_MD_get0_name(records->digest), sizeof digest - 1);
  digest[sizeof digest - 1] = '\0';
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
                                   OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, master_size),
                                   OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, label, sizeof label - 1),
                                   OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, randoms, sizeof randoms),
                                   OSSL_PARAM_construct_end()};
  EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
  EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
  bool fine = context && EVP_KDF_derive(context, out, size, parameters) == 1;
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(kdf);
  OPENSSL_cleanse(master, sizeof master);
  return fine;
}

static bool start_1_2(struct records *records, const SSL *ssl)
{
  uint8_t block[2 * KEY_MAX + 2 * NONCE];
  size_t key = (size_t)EVP_CIPHER_get_key_length(records->cipher);
  bool gcm = EVP_CIPHER_get_mode(records->cipher) == EVP_CIPH_GCM_MODE;
  size_t iv = gcm ? GCM_SALT : NONCE;
  records->explicit_size = gcm ? GCM_EXPLICIT : 0;
  // What the client writes comes first.
  bool server = SSL_is_server(ssl);
  struct direction *first = server ? &records->in : &records->out, *second = server ? &records->out : &records->in;
  bool fine = expand_1_2(records, ssl, block, 2 * key + 2 * iv) && set_key(first, records->cipher, block, !server) &&
              set_key(second, records->cipher, block + key, server);
  memcpy(first->iv, block + 2 * key, iv);
  memcpy(second->iv, block + 2 * key + iv, iv);
  OPENSSL_cleanse(block, sizeof block);
  records->in.sequence = records->out.sequence = 1;  // a Finished each
  return fine;
}

struct records *records_take_over(SSL *ssl, const struct record_suites *suites, const struct record_secrets *secrets)
{
  // All that has come has been used: what follows is read from the socket, from the beginning of a record.
  if (SSL_has_pending(ssl) || SSL_get_shutdown(ssl) != 0) return NULL;
  struct records *records = calloc(1, sizeof *records);
  if (!records) return NULL;
  uint8_t fragment = SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl));
  records->plain_max = fragment >= 1 && fragment <= 4 ? (uint16_t)(256u << fragment) : RECORD_PLAIN_MAX;
  records->worn_after = WORN;
  records->cipher = cipher_of(ssl, suites);
  records->digest = digest_of(ssl, suites);
  records->is_1_3 = SSL_version(ssl) == TLS1_3_VERSION;
  bool fine = records->cipher && records->digest;
  if (fine && records->is_1_3)
    fine = start_1_3(records, secrets);
  else if (fine)
    fine = SSL_version(ssl) == TLS1_2_VERSION && start_1_2(records, ssl);
  if (fine) return records;
  ERR_clear_error();
  records_free(records);
  return NULL;
}

void records_free(struct records *records)
{
  if (!records) return;
  EVP_CIPHER_CTX_free(records->in.cipher);
  EVP_CIPHER_CTX_free(records->out.cipher);
  OPENSSL_cleanse(records, sizeof *records);
  free(records);
}

bool records_are_1_3(const struct records *records)
{
  return records->is_1_3;
}

size_t records_plain_max(const struct records *records)
{
  return records->plain_max;
}

// ---- Records

static void put_be64(uint8_t *out, uint64_t value)
{
  for (int i = 7; i >= 0; i--, value >>= 8) out[i] = (uint8_t)value;
}

// `explicit`: what the record says of the nonce, 1.2 with GCM.
static void make_nonce(const struct records *records, const struct direction *direction, const uint8_t *from_record,
                       uint8_t nonce[static NONCE])
{
  memcpy(nonce, direction->iv, NONCE);
  if (records->explicit_size) {
    memcpy(nonce + GCM_SALT, from_record, GCM_EXPLICIT);
    return;
  }
  uint8_t sequence[8];
  put_be64(sequence, direction->sequence);
  for (size_t i = 0; i < sizeof sequence; i++) nonce[NONCE - sizeof sequence + i] ^= sequence[i];
}

// What is authenticated besides: the header in 1.3; in 1.2 number, type, version and length of the content.
static size_t make_additional(const struct records *records, const struct direction *direction,
                              const uint8_t header[static RECORD_HEADER], size_t content_size, uint8_t out[static 13])
{
  if (records->is_1_3) {
    memcpy(out, header, RECORD_HEADER);
    return RECORD_HEADER;
  }
  put_be64(out, direction->sequence);
  memcpy(out + 8, header, 3);
  out[11] = (uint8_t)(content_size >> 8);
  out[12] = (uint8_t)content_size;
  return 13;
}

size_t record_seal(struct records *records, enum record_type type, const struct span parts[2], uint8_t *out)
{
  struct direction *direction = &records->out;
  size_t content = parts[0].size + parts[1].size, prefix = records->explicit_size;
  assert(content <= records->plain_max);
  uint8_t *body = out + RECORD_HEADER + prefix;
  if (parts[0].size) memcpy(body, parts[0].at, parts[0].size);
  if (parts[1].size) memcpy(body + parts[0].size, parts[1].at, parts[1].size);
  if (records->is_1_3) body[content++] = (uint8_t)type;
  size_t size = prefix + content + TAG;
  out[0] = records->is_1_3 ? RECORD_DATA : (uint8_t)type;
  out[1] = 3;
  out[2] = 3;
  out[3] = (uint8_t)(size >> 8);
  out[4] = (uint8_t)size;
  // OpenSSL has chosen the nonce of its one record at random out of 2^64; ours are the numbers from 1 on.
  if (prefix) put_be64(out + RECORD_HEADER, direction->sequence);

  uint8_t nonce[NONCE], additional[13];
  size_t additional_size = make_additional(records, direction, out, content, additional);
  make_nonce(records, direction, out + RECORD_HEADER, nonce);
  EVP_CIPHER_CTX *cipher = direction->cipher;
  int written = 0, rest = 0;
  bool fine = EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, nonce) == 1 &&
              EVP_EncryptUpdate(cipher, NULL, &written, additional, (int)additional_size) == 1 &&
              EVP_EncryptUpdate(cipher, body, &written, body, (int)content) == 1 &&
              EVP_EncryptFinal_ex(cipher, body + written, &rest) == 1 &&
              EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG, body + content) == 1;
  direction->sequence++;
  return fine ? RECORD_HEADER + size : 0;
}

static bool refuse(enum record_alert *out_alert, enum record_alert alert)
{
  *out_alert = alert;
  return false;
}

// Of 1.3: the type is the last byte of the content that is not zero (RFC 8446 section 5.2).
static bool unpad(struct span *content, enum record_type *type)
{
  while (content->size > 0 && content->at[content->size - 1] == 0) content->size--;
  if (content->size == 0) return false;
  *type = (enum record_type)content->at[--content->size];
  return true;
}

bool record_open(struct records *records, uint8_t *record, size_t size, enum record_type *out_type, struct span *out,
                 enum record_alert *out_alert)
{
  struct direction *direction = &records->in;
  size_t prefix = records->explicit_size;
  // In 1.3 nothing comes in clear any more, and an outer type is but one.
  if (records->is_1_3 && record[0] != RECORD_DATA) return refuse(out_alert, ALERT_UNEXPECTED_MESSAGE);
  if (size < RECORD_HEADER + prefix + TAG) return refuse(out_alert, ALERT_BAD_RECORD_MAC);
  size_t content = size - RECORD_HEADER - prefix - TAG;
  if (content > RECORD_PLAIN_MAX + (records->is_1_3 ? 1 : 0)) return refuse(out_alert, ALERT_RECORD_OVERFLOW);

  uint8_t nonce[NONCE], additional[13], *body = record + RECORD_HEADER + prefix;
  size_t additional_size = make_additional(records, direction, record, content, additional);
  make_nonce(records, direction, record + RECORD_HEADER, nonce);
  EVP_CIPHER_CTX *cipher = direction->cipher;
  int written = 0, rest = 0;
  bool fine = EVP_DecryptInit_ex(cipher, NULL, NULL, NULL, nonce) == 1 &&
              EVP_DecryptUpdate(cipher, NULL, &written, additional, (int)additional_size) == 1 &&
              EVP_DecryptUpdate(cipher, body, &written, body, (int)content) == 1 &&
              EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG, body + content) == 1 &&
              EVP_DecryptFinal_ex(cipher, body + content, &rest) == 1;
  if (!fine) return refuse(out_alert, ALERT_BAD_RECORD_MAC);
  direction->sequence++;
  *out = span_of(body, content);
  *out_type = (enum record_type)record[0];
  if (records->is_1_3 && !unpad(out, out_type)) return refuse(out_alert, ALERT_UNEXPECTED_MESSAGE);
  return true;
}
