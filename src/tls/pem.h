// Files of certificates, keys and lists, read once each and looked at in memory, so that what is checked is what is used.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/error.h"
#include "base/span.h"

// All certificates of a file, in order; at least one. The caller frees with sk_X509_pop_free(…, X509_free).
CHECK_RESULT enum status pem_certificates(const char *path, STACK_OF(X509) * *out, struct error *error);

// The private key of a file, unencrypted.
CHECK_RESULT enum status pem_key(const char *path, EVP_PKEY **out, struct error *error);

// All CRLs of a file; at least one. The caller frees with sk_X509_CRL_pop_free(…, X509_CRL_free).
CHECK_RESULT enum status pem_crls(const char *path, STACK_OF(X509_CRL) * *out, struct error *error);

// For messages: the subject "CN=broker, O=Plant", cut to what fits; and a time "2026-12-31 23:59:59Z".
enum { NAME_TEXT = 128, TIME_TEXT = 32 };
const char *name_text(const X509_NAME *name, char text[static NAME_TEXT]);
const char *time_text(const ASN1_TIME *time, char text[static TIME_TEXT]);

// Whether it is large enough to be relied on: RSA 2048, EC 256, Ed25519, Ed448. Returns NULL, or static text of what would be
// right. `key` NULL: of a certificate whose key OpenSSL does not know.
const char *key_weakness(const EVP_PKEY *key);
