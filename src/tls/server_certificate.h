// One certificate that a listener shows: leaf, chain, key, stapled OCSP response; read and checked together.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "base/error.h"
#include "tls/credentials.h"

struct server_certificate {
  X509 *leaf;
  STACK_OF(X509) * chain;  // without the leaf
  EVP_PKEY *key;
  uint8_t *ocsp;  // heap, DER; NULL: none
  size_t ocsp_size;
  int64_t ocsp_end_ms;  // wall; after it nothing is stapled. 0: it says none
  int64_t end_ms;       // wall: when the first of leaf and chain expires
};

// Fills *out, which is zeroed. On failure what was read so far is in it: server_certificate_deinit in any case.
CHECK_RESULT enum status server_certificate_load(const struct tls_certificate *files, struct wall now,
                                                 struct server_certificate *out, struct error *error);
void server_certificate_deinit(struct server_certificate *certificate);

// Whether both are for the same names, so that a client may be shown either, as its algorithms allow.
bool server_certificate_same_names(const struct server_certificate *a, const struct server_certificate *b);

// Wall milliseconds.
int64_t certificate_time_ms(const ASN1_TIME *time);
