#include "tls/pem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/wipe.h"
#include "tls/file.h"
#include "tls/openssl_error.h"

enum {
  CERTIFICATES_LIMIT = 4 << 20,  // a system's whole bundle of CAs is a quarter of it
  KEY_LIMIT = 64 << 10,
  CRLS_LIMIT = 256 << 20,
};

// ---- Files

// Reads a file into a BIO over memory; wipe_and_free the bytes after the BIO is freed.
static enum status open_pem(const char *path, const char *expected, size_t limit, uint8_t **bytes, size_t *size, BIO **out,
                            struct error *error)
{
  enum status status = file_read(path, expected, limit, bytes, size, error);
  if (status != OK) return status;
  *out = BIO_new_mem_buf(*bytes, (int)*size);
  if (*out) return OK;
  wipe_and_free(*bytes, *size);
  return error_set(error, ERR_NO_MEMORY, "%s: not enough memory to read it", path);
}

// ---- PEM

// The next item of a file has failed to parse: the end of the file, or a mistake in it?
static bool at_end(void)
{
  unsigned long why = ERR_peek_last_error();
  return ERR_GET_LIB(why) == ERR_LIB_PEM && ERR_GET_REASON(why) == PEM_R_NO_START_LINE;
}

static enum status explain(const char *path, const char *kind, int count, const char *expected, struct error *error)
{
  if (at_end()) {
    ERR_clear_error();
    return count > 0 ? OK : error_set(error, ERR_INVALID, "%s: holds no %s: expected %s", path, kind, expected);
  }
  return error_set(error, ERR_INVALID, "%s: %s %d cannot be read (%s): expected %s", path, kind, count + 1,
                   openssl_reason("malformed"), expected);
}

// OpenSSL asks for the pass phrase of what is encrypted, on the terminal: there is nobody to type it.
static int no_pass_phrase(char *text, int size, int writing, void *asked)
{
  (void)text, (void)size, (void)writing;
  *(bool *)asked = true;
  return -1;
}

enum status pem_certificates(const char *path, STACK_OF(X509) * *out, struct error *error)
{
  static const char expected[] = "certificates in PEM (-----BEGIN CERTIFICATE-----)";
  uint8_t *bytes;
  size_t size;
  BIO *file;
  enum status status = open_pem(path, expected, CERTIFICATES_LIMIT, &bytes, &size, &file, error);
  if (status != OK) return status;
  STACK_OF(X509) *certificates = sk_X509_new_null();
  X509 *certificate;
  bool encrypted;
  ERR_clear_error();
  while ((certificate = PEM_read_bio_X509(file, NULL, no_pass_phrase, &encrypted)))
    if (!sk_X509_push(certificates, certificate)) {
      X509_free(certificate);
      break;
    }
  status = explain(path, "certificate", sk_X509_num(certificates), expected, error);
  BIO_free(file);
  wipe_and_free(bytes, size);
  if (status == OK)
    *out = certificates;
  else
    sk_X509_pop_free(certificates, X509_free);
  return status;
}

enum status pem_crls(const char *path, STACK_OF(X509_CRL) * *out, struct error *error)
{
  static const char expected[] = "certificate revocation lists in PEM (-----BEGIN X509 CRL-----)";
  uint8_t *bytes;
  size_t size;
  BIO *file;
  enum status status = open_pem(path, expected, CRLS_LIMIT, &bytes, &size, &file, error);
  if (status != OK) return status;
  STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
  X509_CRL *crl;
  bool encrypted;
  ERR_clear_error();
  while ((crl = PEM_read_bio_X509_CRL(file, NULL, no_pass_phrase, &encrypted)))
    if (!sk_X509_CRL_push(crls, crl)) {
      X509_CRL_free(crl);
      break;
    }
  status = explain(path, "CRL", sk_X509_CRL_num(crls), expected, error);
  BIO_free(file);
  wipe_and_free(bytes, size);
  if (status == OK)
    *out = crls;
  else
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
  return status;
}

enum status pem_key(const char *path, EVP_PKEY **out, struct error *error)
{
  static const char expected[] = "a private key in PEM (-----BEGIN PRIVATE KEY-----)";
  uint8_t *bytes;
  size_t size;
  BIO *file;
  enum status status = open_pem(path, expected, KEY_LIMIT, &bytes, &size, &file, error);
  if (status != OK) return status;
  bool encrypted = false;
  ERR_clear_error();
  EVP_PKEY *key = PEM_read_bio_PrivateKey(file, NULL, no_pass_phrase, &encrypted);
  if (key)
    *out = key;
  else if (encrypted)
    status =
        error_set(error, ERR_INVALID,
                  "%s: the key is encrypted, and nobody is there to type its pass phrase: decrypt it (openssl pkey -in %s)",
                  path, path);
  else if (!memmem(bytes, size, "PRIVATE KEY-----", strlen("PRIVATE KEY-----")))
    status = error_set(error, ERR_INVALID, "%s: holds no private key: expected %s", path, expected);
  else
    status = error_set(error, ERR_INVALID, "%s: the key cannot be read (%s): expected %s", path, openssl_reason("malformed"),
                       expected);
  ERR_clear_error();
  BIO_free(file);
  wipe_and_free(bytes, size);
  return status;
}

// ---- Words

const char *name_text(const X509_NAME *name, char text[static NAME_TEXT])
{
  BIO *out = BIO_new(BIO_s_mem());
  int size = 0;
  if (out && X509_NAME_print_ex(out, name, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB & ~XN_FLAG_SPC_EQ) >= 0)
    size = BIO_read(out, text, NAME_TEXT - 1);
  text[size > 0 ? size : 0] = '\0';
  BIO_free(out);
  return text[0] ? text : "without a name";
}

const char *time_text(const ASN1_TIME *time, char text[static TIME_TEXT])
{
  BIO *out = BIO_new(BIO_s_mem());
  int size = 0;
  if (out && ASN1_TIME_print_ex(out, time, ASN1_DTFLGS_ISO8601) > 0) size = BIO_read(out, text, TIME_TEXT - 1);
  text[size > 0 ? size : 0] = '\0';
  BIO_free(out);
  return text[0] ? text : "an unreadable date";
}

const char *key_weakness(const EVP_PKEY *key)
{
  int bits = EVP_PKEY_get_bits(key);
  switch (key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS: return bits < 2048 ? "RSA keys need at least 2048 bits" : NULL;
    case EVP_PKEY_EC: return bits < 256 ? "EC keys need at least 256 bits (P-256)" : NULL;
    case EVP_PKEY_ED25519:
    case EVP_PKEY_ED448: return NULL;
    default: return "keys have to be RSA of at least 2048 bits, EC of at least 256 bits, Ed25519 or Ed448";
  }
}
