#include "tls/client_trust.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "tls/openssl_error.h"
#include "tls/pem.h"
#include "tls/server_certificate.h"

static_assert(sizeof(struct issued) == 6 + ISSUED_SERIAL_MAX, "goes into tickets as it is: no padding");

struct client_trust {
  X509_STORE *store;
  STACK_OF(X509) * authorities;
  STACK_OF(X509_CRL) * crls;  // NULL: none
  uint8_t (*crl_issuers)[4];  // as in struct issued, one for each CRL
  uint8_t digest[CLIENT_TRUST_DIGEST];
};

static void hash_name(const X509_NAME *name, uint8_t out[4])
{
  unsigned long hash = X509_NAME_hash_ex(name, NULL, NULL, NULL);
  for (int i = 0; i < 4; i++) out[i] = (uint8_t)(hash >> 8 * i);
}

// ---- CAs

static bool valid_at(const X509 *certificate, time_t now)
{
  return X509_cmp_time(X509_get0_notBefore(certificate), &now) < 0 &&
         X509_cmp_time(X509_get0_notAfter(certificate), &now) > 0;
}

static enum status check_authorities(const char *path, STACK_OF(X509) * authorities, time_t now, struct error *error)
{
  char name[NAME_TEXT], end[TIME_TEXT];
  bool any_valid = false;
  for (int i = 0; i < sk_X509_num(authorities); i++) {
    X509 *authority = sk_X509_value(authorities, i);
    name_text(X509_get_subject_name(authority), name);
    if (X509_check_ca(authority) == 0)
      return error_set(
          error, ERR_INVALID,
          "%s: certificate %d (%s) is not of a CA (basicConstraints CA:TRUE): expected the certificates of those who "
          "issue clients' certificates",
          path, i + 1, name);
    const char *weakness = key_weakness(X509_get0_pubkey(authority));
    if (weakness)
      return error_set(error, ERR_INVALID, "%s: the key of certificate %d (%s) is too weak: %s", path, i + 1, name,
                       weakness);
    any_valid = any_valid || valid_at(authority, now);
  }
  if (any_valid) return OK;
  const X509 *first = sk_X509_value(authorities, 0);
  bool expired = X509_cmp_time(X509_get0_notAfter(first), &now) < 0;
  time_text(expired ? X509_get0_notAfter(first) : X509_get0_notBefore(first), end);
  return error_set(
      error, ERR_INVALID, "%s: no certificate in it is valid now; the first (%s) %s %s: get a new one, or set the clock",
      path, name_text(X509_get_subject_name(first), name), expired ? "has expired on" : "will only be valid from", end);
}

static enum status digest_authorities(struct client_trust *trust)
{
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool fine = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL);
  for (int i = 0; fine && i < sk_X509_num(trust->authorities); i++) {
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size;
    fine = X509_digest(sk_X509_value(trust->authorities, i), EVP_sha256(), digest, &size) &&
           EVP_DigestUpdate(context, digest, size);
  }
  fine = fine && EVP_DigestFinal_ex(context, trust->digest, NULL);
  EVP_MD_CTX_free(context);
  return fine ? OK : ERR_NO_MEMORY;
}

// ---- CRLs

static enum status check_issuer(const char *path, int number, X509_CRL *crl, const char *ca,
                                const struct client_trust *trust, struct error *error)
{
  char name[NAME_TEXT];
  const X509_NAME *issuer = X509_CRL_get_issuer(crl);
  name_text(issuer, name);
  bool known = false, may_not = false;
  for (int i = 0; i < sk_X509_num(trust->authorities); i++) {
    X509 *authority = sk_X509_value(trust->authorities, i);
    if (X509_NAME_cmp(X509_get_subject_name(authority), issuer) != 0) continue;
    known = true;
    if (X509_CRL_verify(crl, X509_get0_pubkey(authority)) != 1) continue;
    if (X509_get_key_usage(authority) & KU_CRL_SIGN) return OK;
    may_not = true;
  }
  ERR_clear_error();
  if (may_not)
    return error_set(error, ERR_INVALID,
                     "%s: CRL %d is signed by %s, which may not sign CRLs (keyUsage without cRLSign in %s)", path, number,
                     name, ca);
  if (known)
    return error_set(error, ERR_INVALID, "%s: CRL %d is not signed with the key of %s in %s: expected a CRL of that CA",
                     path, number, name, ca);
  return error_set(error, ERR_INVALID,
                   "%s: CRL %d is issued by %s, which is not in %s: expected a CRL of a CA there, or that CA there too",
                   path, number, name, ca);
}

static enum status check_crl(const char *path, int number, X509_CRL *crl, const char *ca, const struct client_trust *trust,
                             time_t now, struct error *error)
{
  char when[TIME_TEXT];
  enum status status = check_issuer(path, number, crl, ca, trust, error);
  if (status != OK) return status;
  const ASN1_TIME *from = X509_CRL_get0_lastUpdate(crl), *until = X509_CRL_get0_nextUpdate(crl);
  if (X509_cmp_time(from, &now) >= 0)
    return error_set(error, ERR_INVALID, "%s: CRL %d is only valid from %s: set the clock, or get the one for now", path,
                     number, time_text(from, when));
  if (until && X509_cmp_time(until, &now) <= 0)
    return error_set(error, ERR_INVALID, "%s: CRL %d is out of date since %s: get a new one from the CA", path, number,
                     time_text(until, when));
  return OK;
}

static enum status load_crls(const char *path, const char *ca, time_t now, struct client_trust *trust, struct error *error)
{
  enum status status = pem_crls(path, &trust->crls, error);
  if (status != OK) return status;
  int count = sk_X509_CRL_num(trust->crls);
  trust->crl_issuers = calloc((size_t)count, sizeof *trust->crl_issuers);
  if (!trust->crl_issuers) return error_set(error, ERR_NO_MEMORY, "%s: not enough memory", path);
  for (int i = 0; i < count; i++) {
    X509_CRL *crl = sk_X509_CRL_value(trust->crls, i);
    status = check_crl(path, i + 1, crl, ca, trust, now, error);
    if (status != OK) return status;
    hash_name(X509_CRL_get_issuer(crl), trust->crl_issuers[i]);
    if (!X509_STORE_add_crl(trust->store, crl)) return error_set(error, ERR_NO_MEMORY, "%s: not enough memory", path);
  }
  // Of the whole chain, as far as there are CRLs: what verify_client (context.c) makes of a missing one.
  X509_STORE_set_flags(trust->store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  return OK;
}

// ---- Life

static enum status load(const char *ca, const char *crl, time_t now, struct client_trust *trust, struct error *error)
{
  enum status status = pem_certificates(ca, &trust->authorities, error);
  if (status != OK) return status;
  status = check_authorities(ca, trust->authorities, now, error);
  if (status != OK) return status;
  trust->store = X509_STORE_new();
  if (!trust->store || digest_authorities(trust) != OK) return error_set(error, ERR_NO_MEMORY, "%s: not enough memory", ca);
  for (int i = 0; i < sk_X509_num(trust->authorities); i++)
    if (!X509_STORE_add_cert(trust->store, sk_X509_value(trust->authorities, i)))
      return error_set(error, ERR_INVALID, "%s: certificate %d cannot be used: %s", ca, i + 1,
                       openssl_reason("not enough memory"));
  return crl ? load_crls(crl, ca, now, trust, error) : OK;
}

enum status client_trust_load(const char *ca, const char *crl, struct wall now, struct client_trust **out,
                              struct error *error)
{
  struct client_trust *trust = calloc(1, sizeof *trust);
  if (!trust) return error_set(error, ERR_NO_MEMORY, "%s: not enough memory", ca);
  enum status status = load(ca, crl, (time_t)(now.ms / 1000), trust, error);
  if (status == OK)
    *out = trust;
  else
    client_trust_free(trust);
  return status;
}

void client_trust_free(struct client_trust *trust)
{
  if (!trust) return;
  X509_STORE_free(trust->store);
  sk_X509_pop_free(trust->authorities, X509_free);
  sk_X509_CRL_pop_free(trust->crls, X509_CRL_free);
  free(trust->crl_issuers);
  free(trust);
}

X509_STORE *client_trust_store(struct client_trust *trust)
{
  return trust->store;
}

STACK_OF(X509_NAME) * client_trust_names(const struct client_trust *trust)
{
  STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
  for (int i = 0; names && i < sk_X509_num(trust->authorities); i++) {
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(sk_X509_value(trust->authorities, i)));
    if (name && sk_X509_NAME_push(names, name)) continue;
    X509_NAME_free(name);
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return NULL;
  }
  return names;
}

const uint8_t *client_trust_digest(const struct client_trust *trust)
{
  return trust->digest;
}

// ---- Revocation

struct issued issued_of(const X509 *certificate)
{
  struct issued issued = {0};
  hash_name(X509_get_issuer_name(certificate), issued.issuer);
  const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
  int size = ASN1_STRING_length(serial);
  issued.negative = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER;
  if (size < 0 || size > ISSUED_SERIAL_MAX) {
    issued.serial_size = ISSUED_SERIAL_TOO_LONG;
    return issued;
  }
  issued.serial_size = (uint8_t)size;
  memcpy(issued.serial, ASN1_STRING_get0_data(serial), (size_t)size);
  return issued;
}

static bool knows(const struct client_trust *trust, const uint8_t issuer[4])
{
  for (int i = 0; i < sk_X509_CRL_num(trust->crls); i++)
    if (memcmp(trust->crl_issuers[i], issuer, 4) == 0) return true;
  return false;
}

int64_t client_trust_crl_end_ms(const struct client_trust *trust, int64_t *out_issued_ms)
{
  int64_t first_ms = 0;
  *out_issued_ms = 0;
  for (int i = 0; i < sk_X509_CRL_num(trust->crls); i++) {
    const X509_CRL *crl = sk_X509_CRL_value(trust->crls, i);
    if (!X509_CRL_get0_nextUpdate(crl)) continue;
    int64_t end_ms = certificate_time_ms(X509_CRL_get0_nextUpdate(crl));
    if (first_ms && end_ms >= first_ms) continue;
    first_ms = end_ms;
    *out_issued_ms = certificate_time_ms(X509_CRL_get0_lastUpdate(crl));
  }
  return first_ms;
}

bool client_trust_knows(const struct client_trust *trust, const X509 *certificate)
{
  uint8_t issuer[4];
  hash_name(X509_get_issuer_name(certificate), issuer);
  return knows(trust, issuer);
}

static bool revoked(const struct client_trust *trust, const struct issued *issued)
{
  if (!knows(trust, issued->issuer)) return false;
  if (issued->serial_size == ISSUED_SERIAL_TOO_LONG) return true;
  ASN1_INTEGER *serial = ASN1_STRING_type_new(issued->negative ? V_ASN1_NEG_INTEGER : V_ASN1_INTEGER);
  if (!serial || !ASN1_STRING_set(serial, issued->serial, issued->serial_size)) {
    ASN1_INTEGER_free(serial);
    return true;  // out of memory: rather one connection too few
  }
  bool found = false;
  for (int i = 0; i < sk_X509_CRL_num(trust->crls) && !found; i++) {
    X509_REVOKED *entry;
    if (memcmp(trust->crl_issuers[i], issued->issuer, 4) != 0) continue;
    found = X509_CRL_get0_by_serial(sk_X509_CRL_value(trust->crls, i), &entry, serial) == 1;
  }
  ASN1_INTEGER_free(serial);
  return found;
}

bool client_trust_revoked(const struct client_trust *trust, const struct issued *issued, size_t count)
{
  for (size_t i = 0; i < count; i++)
    if (revoked(trust, &issued[i])) return true;
  return false;
}

static bool outdated(const struct client_trust *trust, const struct issued *issued, struct wall now)
{
  bool any = false;
  for (int i = 0; i < sk_X509_CRL_num(trust->crls); i++) {
    if (memcmp(trust->crl_issuers[i], issued->issuer, 4) != 0) continue;
    const ASN1_TIME *end = X509_CRL_get0_nextUpdate(sk_X509_CRL_value(trust->crls, i));
    if (!end || certificate_time_ms(end) > now.ms) return false;
    any = true;
  }
  return any;
}

bool client_trust_outdated(const struct client_trust *trust, const struct issued *issued, size_t count, struct wall now)
{
  for (size_t i = 0; i < count; i++)
    if (outdated(trust, &issued[i], now)) return true;
  return false;
}
