#include "tls/credentials.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "tls/credentials_internal.h"

// ---- Loading

static enum status load_certificates(struct tls_credentials *credentials, const struct tls_settings *settings,
                                     struct wall now, struct error *error)
{
  if (settings->certificate_count == 0) return OK;
  credentials->certificates = calloc(settings->certificate_count, sizeof *credentials->certificates);
  if (!credentials->certificates) return error_set(error, ERR_NO_MEMORY, "not enough memory");
  for (size_t i = 0; i < settings->certificate_count; i++) {
    struct server_certificate *certificate = &credentials->certificates[i];
    credentials->certificate_count = i + 1;
    enum status status = server_certificate_load(&settings->certificates[i], now, certificate, error);
    if (status != OK) return status;
    if (i == 0 || certificate->end_ms < credentials->end_ms) credentials->end_ms = certificate->end_ms;
  }
  return OK;
}

static enum status check_settings(const struct tls_settings *settings, struct error *error)
{
  if (settings->certificate_count == 0 && !settings->psk)
    return error_set(error, ERR_INVALID, "TLS needs a certificate (cert and key), or pre-shared keys (psk)");
  for (size_t i = 0; i < settings->certificate_count; i++)
    if (!settings->certificates[i].cert || !settings->certificates[i].key)
      return error_set(error, ERR_INVALID, "a certificate needs both: cert and key");
  if (settings->client_cert != TLS_CLIENT_CERT_NONE && !settings->client_ca)
    return error_set(error, ERR_INVALID,
                     "client_cert needs client_ca: the certificates of those who issue clients' certificates");
  if (settings->client_cert != TLS_CLIENT_CERT_NONE && settings->certificate_count == 0)
    return error_set(error, ERR_INVALID,
                     "client_cert needs a certificate of the server's (cert and key): pre-shared keys show none");
  if (settings->psk && settings->client_cert == TLS_CLIENT_CERT_REQUIRED)
    return error_set(error, ERR_INVALID,
                     "client_cert: required shuts out pre-shared keys (psk): expected client_cert: optional");
  if (settings->crl && settings->client_cert == TLS_CLIENT_CERT_NONE)
    return error_set(error, ERR_INVALID, "crl is for clients' certificates: expected client_cert: optional or required");
  return OK;
}

// What a client must show. A ticket says that it has been shown, so tickets are worth nothing once it is something else.
static enum status digest_asked(struct tls_credentials *credentials, const struct tls_settings *settings)
{
  uint8_t text[1 + CLIENT_TRUST_DIGEST] = {(uint8_t)settings->client_cert};
  if (credentials->trust) memcpy(text + 1, client_trust_digest(credentials->trust), CLIENT_TRUST_DIGEST);
  return EVP_Digest(text, sizeof text, credentials->asked, NULL, EVP_sha256(), NULL) == 1 ? OK : ERR_NO_MEMORY;
}

static enum status load(struct tls_credentials *credentials, const struct tls_settings *settings, struct wall now,
                        struct error *error)
{
  enum status status = check_settings(settings, error);
  if (status == OK) status = load_certificates(credentials, settings, now, error);
  if (status == OK && settings->client_cert != TLS_CLIENT_CERT_NONE)
    status = client_trust_load(settings->client_ca, settings->crl, now, &credentials->trust, error);
  if (status == OK && settings->psk) status = psk_load(settings->psk, &credentials->psk, error);
  if (status != OK) return status;
  credentials->websocket = settings->websocket;
  credentials->tickets = tickets_create();
  credentials->socket_method = socket_method_create();
  if (!credentials->tickets || !credentials->socket_method || !record_suites_init(&credentials->suites) ||
      digest_asked(credentials, settings) != OK)
    return error_set(error, ERR_NO_MEMORY, "not enough memory");
  return contexts_create(credentials, settings, error);
}

enum status tls_credentials_load(const struct tls_settings *settings, struct wall now, struct tls_credentials **out,
                                 struct error *error)
{
  struct tls_credentials *credentials = calloc(1, sizeof *credentials);
  if (!credentials) return error_set(error, ERR_NO_MEMORY, "not enough memory");
  references_init(&credentials->references);
  enum status status = load(credentials, settings, now, error);
  if (status == OK)
    *out = credentials;
  else
    tls_credentials_unref(credentials);
  return status;
}

// ---- Life

struct tls_credentials *tls_credentials_ref(struct tls_credentials *credentials)
{
  if (credentials) references_take(&credentials->references);
  return credentials;
}

void tls_credentials_unref(struct tls_credentials *credentials)
{
  if (!credentials || !references_drop(&credentials->references)) return;
  contexts_free(credentials);
  for (size_t i = 0; i < credentials->certificate_count; i++) server_certificate_deinit(&credentials->certificates[i]);
  free(credentials->certificates);
  client_trust_free(credentials->trust);
  psk_free(credentials->psk);
  tickets_unref(credentials->tickets);
  record_suites_deinit(&credentials->suites);
  BIO_meth_free(credentials->socket_method);
  free(credentials);
}

void tls_credentials_inherit(struct tls_credentials *credentials, const struct tls_credentials *before)
{
  if (!before || memcmp(credentials->asked, before->asked, sizeof before->asked) != 0) return;
  struct tickets *tickets = tickets_ref(before->tickets);
  tickets_unref(credentials->tickets);
  credentials->tickets = tickets;
}

int64_t tls_credentials_end_ms(const struct tls_credentials *credentials)
{
  return credentials->end_ms;
}

int64_t tls_credentials_crl_end_ms(const struct tls_credentials *credentials, int64_t *out_issued_ms)
{
  *out_issued_ms = 0;
  return credentials->trust ? client_trust_crl_end_ms(credentials->trust, out_issued_ms) : 0;
}
