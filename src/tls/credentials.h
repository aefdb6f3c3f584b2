// What a listener shows and asks for: certificates with their keys (several, by SNI), the CA and CRLs for clients,
// pre-shared keys, versions and ciphers. Read and checked as one; immutable; reference-counted: a connection keeps what it
// began with while new ones see the next. Source: RFC 8446, RFC 5280, RFC 4279; Mozilla's "intermediate" and "modern"
// profiles.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"

struct tls_credentials;

enum tls_client_cert { TLS_CLIENT_CERT_NONE, TLS_CLIENT_CERT_OPTIONAL, TLS_CLIENT_CERT_REQUIRED };
enum tls_profile { TLS_INTERMEDIATE, TLS_MODERN };  // modern: TLS 1.3 alone

struct tls_certificate {
  const char *cert;  // file, PEM: the leaf, then its chain
  const char *key;   // file, PEM
  const char *ocsp;  // file, DER: the response to staple; NULL: none
};

struct tls_settings {
  const struct tls_certificate *certificates;  // the first is for clients that name no host, or one that no other has
  size_t certificate_count;                    // 0: pre-shared keys alone
  const char *client_ca;                       // file, PEM; NULL with TLS_CLIENT_CERT_NONE
  const char *crl;                             // file, PEM, one or several; NULL: nothing is revoked
  const char *psk;                             // file of lines "identity:key in hex"; NULL: none
  enum tls_client_cert client_cert;
  enum tls_profile profile;
  bool tls_1_3_only;
  bool websocket;  // ALPN "http/1.1" is as good as "mqtt"
};

// Reads everything, once, and checks it: keys match, chains build, `now` lies in all validities (of several CAs for clients
// in one of them at least: old and future ones may stand beside it), keys are large enough (RSA 2048, EC 256), CRLs are of
// the CA and not out of date. ERR_INVALID (or why a file cannot be read): the error says which file, and what would be
// right.
CHECK_RESULT enum status tls_credentials_load(const struct tls_settings *settings, struct wall now,
                                              struct tls_credentials **out, struct error *error);
struct tls_credentials *tls_credentials_ref(struct tls_credentials *credentials);  // any thread; NULL is harmless
void tls_credentials_unref(struct tls_credentials *credentials);                   // the same

// New connections can resume sessions of the credentials before: the ticket keys go over, when client_ca and client_cert are
// the same.
void tls_credentials_inherit(struct tls_credentials *credentials, const struct tls_credentials *before);

// When the first of its certificates (the chains included, what clients show not) ends, wall milliseconds; 0: it has none.
int64_t tls_credentials_end_ms(const struct tls_credentials *credentials);

// When the first of its CRLs ends (nextUpdate), wall milliseconds, and when that one was issued; 0: it has none that ends.
// From then on no client with a certificate of that authority gets in.
int64_t tls_credentials_crl_end_ms(const struct tls_credentials *credentials, int64_t *out_issued_ms);
