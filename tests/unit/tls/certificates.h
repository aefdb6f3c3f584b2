// Certificates that tests make for themselves, valid around now, and files of them in a directory of their own.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

enum test_key { TEST_P256, TEST_P384, TEST_P192, TEST_RSA2048, TEST_RSA1024, TEST_ED25519 };

struct identified {
  X509 *certificate;
  EVP_PKEY *key;
};

struct wanted {
  const char *name;         // common name
  const char *alternative;  // "DNS:a.example,URI:urn:x"; NULL: none
  const char *usage;        // "clientAuth", "serverAuth"; NULL: any
  const char *key_usage;    // "keyCertSign"; NULL: none is said
  const char *constraint;   // of names, "permitted;DNS:a.example"; NULL: none
  long from_s, until_s;     // after now; 0, 0: an hour before to a day after
  long serial;              // 0: random
  enum test_key key;
  bool authority;
  const struct identified *issuer;  // NULL: itself
  const EVP_MD *digest;             // NULL: SHA-256
};

struct identified certify(const struct wanted *wanted);
void identified_free(struct identified *identified);

// A directory for the test program, removed with what is in it by scratch_remove.
void scratch_create(void **state);
void scratch_remove(void **state);

// Paths in it; texts live until scratch_remove.
const char *scratch_path(const char *name);
const char *scratch_file(const char *name, const void *bytes, size_t size);
const char *write_certificates(const char *name, X509 *const *certificates, size_t count);
const char *write_certificate(const char *name, X509 *certificate);
const char *write_key(const char *name, EVP_PKEY *key);

// A CRL of the issuer that names these, from an hour ago until then (seconds after now).
struct revocation {
  const struct identified *issuer;
  X509 *const *revoked;
  size_t count;
  long from_s, until_s;             // 0, 0: an hour before to a day after
  const struct identified *signer;  // NULL: the issuer
};
X509_CRL *make_crl(const struct revocation *revocation);
const char *write_crls(const char *name, X509_CRL *const *crls, size_t count);

// What an OCSP responder says of `subject`; state: V_OCSP_CERTSTATUS_GOOD ..., times in seconds after now.
struct answer {
  const struct identified *issuer, *subject, *signer;
  int state;
  long from_s, until_s;
};
const char *write_answer(const char *name, const struct answer *answer);
