// Whose certificates clients may show: the CAs, and what these have revoked. Immutable.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "base/clock.h"
#include "base/error.h"

struct client_trust;

// `crl` may be NULL. The error says which file, which certificate in it, and what would be right.
CHECK_RESULT enum status client_trust_load(const char *ca, const char *crl, struct wall now, struct client_trust **out,
                                           struct error *error);
void client_trust_free(struct client_trust *trust);  // NULL is harmless

X509_STORE *client_trust_store(struct client_trust *trust);  // the trust's
STACK_OF(X509_NAME) *
    client_trust_names(const struct client_trust *trust);  // a copy, to be told to clients; NULL when memory is short

enum { CLIENT_TRUST_DIGEST = 32 };
const uint8_t *client_trust_digest(const struct client_trust *trust);  // of its CAs

// Whether it has a CRL of whoever issued the certificate.
bool client_trust_knows(const struct client_trust *trust, const X509 *certificate);

// When the first of its CRLs has to be replaced by a new one (nextUpdate), wall milliseconds, and when that one was issued;
// 0: there is none, or none says.
int64_t client_trust_crl_end_ms(const struct client_trust *trust, int64_t *out_issued_ms);

// ---- What a CRL is asked, without keeping whole certificates: who issued one, as which number

enum { ISSUED_SERIAL_MAX = 32, ISSUED_SERIAL_TOO_LONG = 255 };
struct issued {
  uint8_t issuer[4];  // hash of the canonical name
  uint8_t negative;
  uint8_t serial_size;  // or ISSUED_SERIAL_TOO_LONG: revoked whenever there is a CRL of its issuer
  uint8_t serial[ISSUED_SERIAL_MAX];
};
struct issued issued_of(const X509 *certificate);

// Whether any of these has been revoked.
bool client_trust_revoked(const struct client_trust *trust, const struct issued *issued, size_t count);

// Whether nobody knows that, because all CRLs of an issuer have ended.
bool client_trust_outdated(const struct client_trust *trust, const struct issued *issued, size_t count, struct wall now);
