// How OpenSSL is set up for a client, and what it asks while it shakes hands.
#include "tls/client.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls/client_internal.h"
#include "tls/credentials_internal.h"
#include "tls/openssl_error.h"
#include "tls/pem.h"
#include "tls/session_internal.h"

// Of 1.2 only what has forward secrecy and authenticates what it encrypts; for pre-shared keys what small brokers have comes
// last.
#define CERTIFICATE_CIPHERS                                                                                                 \
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"
#define PSK_CIPHERS                                                                                                         \
  "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256:DHE-PSK-AES256-GCM-SHA384:ECDHE-PSK-AES128-CBC-SHA256:"            \
  "ECDHE-PSK-AES256-CBC-SHA384:PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384:PSK-CHACHA20-POLY1305:PSK-AES128-CBC-SHA256"
#define TLS_1_3_CIPHERS "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"

enum { SECURITY_LEVEL = 2 };  // 112 bits

static enum status no_memory(struct error *error)
{
  ERR_clear_error();
  return error_set(error, ERR_NO_MEMORY, "not enough memory");
}

// ---- Whom it trusts

static enum status trust_file(struct tls_client *client, const char *path, struct error *error)
{
  STACK_OF(X509) * authorities;
  enum status status = pem_certificates(path, &authorities, error);
  if (status != OK) return status;
  X509_STORE *store = SSL_CTX_get_cert_store(client->context);
  for (int i = 0; i < sk_X509_num(authorities) && status == OK; i++)
    if (X509_STORE_add_cert(store, sk_X509_value(authorities, i)) != 1)
      status = error_set(error, ERR_INVALID, "%s: certificate %d cannot be used: %s", path, i + 1,
                         openssl_reason("not enough memory"));
  sk_X509_pop_free(authorities, X509_free);
  return status;
}

static enum status trust_directory(struct tls_client *client, const char *path, struct error *error)
{
  struct stat about;
  if (stat(path, &about) < 0) return error_set(error, status_from_errno(errno), "%s: %s", path, strerror(errno));
  if (!S_ISDIR(about.st_mode))
    return error_set(error, ERR_INVALID, "%s: is no directory: expected one of certificates, as openssl rehash makes it",
                     path);
  return SSL_CTX_load_verify_dir(client->context, path) == 1 ? OK : no_memory(error);
}

// Only here is it known what it was about.
static int note_refusal(int fine, X509_STORE_CTX *context)
{
  const SSL *ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx());
  struct tls_session *session = tls_session_of(ssl);
  if (!fine) session->refusal = client_certificate_reason(session, context);
  return fine;
}

static enum status set_trust(struct tls_client *client, const struct tls_client_settings *settings, struct error *error)
{
  const char *from = settings->ca ? settings->ca : settings->ca_path;
  enum status status = OK;
  client->trusted = strdup(from ? from : "what this system trusts");
  if (!client->trusted) return no_memory(error);
  if (settings->ca) status = trust_file(client, settings->ca, error);
  if (status == OK && settings->ca_path) status = trust_directory(client, settings->ca_path, error);
  if (status == OK && !from && SSL_CTX_set_default_verify_paths(client->context) != 1) status = no_memory(error);
  SSL_CTX_set_verify(client->context, settings->unchecked ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, note_refusal);
  return status;
}

// ---- What it shows

static enum status check_own(const struct tls_client_settings *settings, X509 *leaf, EVP_PKEY *key, struct wall now,
                             struct error *error)
{
  char name[NAME_TEXT], when[TIME_TEXT];
  time_t now_s = (time_t)(now.ms / 1000);
  name_text(X509_get_subject_name(leaf), name);
  if (X509_check_private_key(leaf, key) != 1) {
    ERR_clear_error();
    return error_set(error, ERR_INVALID, "%s: is not the key of %s (%s): expected the key that it was made with",
                     settings->key, settings->cert, name);
  }
  if (X509_cmp_time(X509_get0_notAfter(leaf), &now_s) < 0)
    return error_set(error, ERR_INVALID, "%s: the certificate (%s) has ended on %s: get a new one", settings->cert, name,
                     time_text(X509_get0_notAfter(leaf), when));
  return OK;
}

static enum status use_own(struct tls_client *client, const struct tls_client_settings *settings, STACK_OF(X509) * chain,
                           struct wall now, struct error *error)
{
  EVP_PKEY *key;
  enum status status = pem_key(settings->key, &key, error);
  if (status != OK) return status;
  X509 *leaf = sk_X509_shift(chain);
  status = check_own(settings, leaf, key, now, error);
  if (status == OK && SSL_CTX_use_cert_and_key(client->context, leaf, key, chain, 0) != 1)
    status =
        error_set(error, ERR_INVALID, "%s: cannot be used for TLS: %s", settings->cert, openssl_reason("not enough memory"));
  client->shows = status == OK;
  X509_free(leaf);
  EVP_PKEY_free(key);
  return status;
}

static enum status set_own(struct tls_client *client, const struct tls_client_settings *settings, struct wall now,
                           struct error *error)
{
  STACK_OF(X509) * chain;
  enum status status = pem_certificates(settings->cert, &chain, error);
  if (status != OK) return status;
  status = use_own(client, settings, chain, now, error);
  sk_X509_pop_free(chain, X509_free);
  return status;
}

// ---- Pre-shared keys

static unsigned offer_key(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key,
                          unsigned key_max)
{
  (void)hint;
  const struct tls_client *client = tls_session_of(ssl)->client;
  size_t size = strlen(client->psk_identity) + 1;
  if (size > identity_max || client->psk_key_size > key_max) return 0;
  memcpy(identity, client->psk_identity, size);
  memcpy(key, client->psk_key, client->psk_key_size);
  return client->psk_key_size;
}

// Who has a key wants nobody else's word: a server that does not know the key could show a certificate of anybody's.
static int refuse_certificate(X509_STORE_CTX *context, void *argument)
{
  (void)argument;
  const SSL *ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx());
  tls_session_of(ssl)->refusal = "it does not know our pre-shared key, and shows a certificate instead";
  X509_STORE_CTX_set_error(context, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

static enum status find_key(struct tls_client *client, const struct tls_client_settings *settings,
                            const struct psk_list *list, struct error *error)
{
  struct span identity = settings->psk_identity ? span_text(settings->psk_identity) : psk_only(list);
  if (identity.size == 0)
    return error_set(error, ERR_INVALID, "%s: holds several keys: say which by its identity", settings->psk);
  struct span key = psk_find(list, identity);
  if (key.size == 0)
    return error_set(error, ERR_INVALID, "%s: has no line for \"%s\": expected %s:KEY", settings->psk,
                     settings->psk_identity, settings->psk_identity);
  assert(key.size <= sizeof client->psk_key);
  client->psk_identity = malloc(identity.size + 1);
  if (!client->psk_identity) return no_memory(error);
  memcpy(client->psk_identity, identity.at, identity.size);
  client->psk_identity[identity.size] = '\0';
  memcpy(client->psk_key, key.at, key.size);
  client->psk_key_size = (uint8_t)key.size;
  return OK;
}

static enum status set_key(struct tls_client *client, const struct tls_client_settings *settings, struct error *error)
{
  struct psk_list *list;
  enum status status = psk_load(settings->psk, &list, error);
  if (status != OK) return status;
  status = find_key(client, settings, list, error);
  psk_free(list);
  if (status != OK) return status;
  SSL_CTX_set_psk_client_callback(client->context, offer_key);
  SSL_CTX_set_cert_verify_callback(client->context, refuse_certificate, NULL);
  SSL_CTX_set_verify(client->context, SSL_VERIFY_PEER, NULL);
  return OK;
}

// ---- Loading

static bool set_versions(SSL_CTX *context, const struct tls_client_settings *settings)
{
  int lowest = settings->versions == TLS_1_3_ONLY ? TLS1_3_VERSION : TLS1_2_VERSION;
  int highest = settings->versions == TLS_1_2_ONLY ? TLS1_2_VERSION : TLS1_3_VERSION;
  SSL_CTX_set_security_level(context, SECURITY_LEVEL);
  SSL_CTX_clear_options(context, SSL_OP_LEGACY_SERVER_CONNECT);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_keylog_callback(context, session_take_secret);
  return SSL_CTX_set_min_proto_version(context, lowest) && SSL_CTX_set_max_proto_version(context, highest) &&
         SSL_CTX_set_cipher_list(context, settings->psk ? PSK_CIPHERS : CERTIFICATE_CIPHERS) &&
         SSL_CTX_set_ciphersuites(context, TLS_1_3_CIPHERS);
}

static bool set_protocol(SSL_CTX *context, const char *protocol)
{
  uint8_t list[256];
  if (!protocol) return true;
  size_t size = strlen(protocol);
  assert(size > 0);
  assert(size < sizeof list);
  list[0] = (uint8_t)size;
  memcpy(list + 1, protocol, size);
  return SSL_CTX_set_alpn_protos(context, list, (unsigned)size + 1) == 0;
}

static enum status load(struct tls_client *client, const struct tls_client_settings *settings, struct wall now,
                        struct error *error)
{
  if (!settings->cert != !settings->key)
    return error_set(error, ERR_INVALID, "a certificate and its key belong together: give both, or neither");
  client->context = SSL_CTX_new(TLS_client_method());
  client->socket_method = socket_method_create();
  if (!client->context || !client->socket_method || !record_suites_init(&client->suites)) return no_memory(error);
  if (!set_versions(client->context, settings) || !set_protocol(client->context, settings->protocol))
    return error_set(error, ERR_INVALID, "TLS cannot be set up: %s", openssl_reason("not enough memory"));
  enum status status = settings->psk ? set_key(client, settings, error) : set_trust(client, settings, error);
  if (status == OK && settings->cert) status = set_own(client, settings, now, error);
  // What was merely looked for in vain is not to be taken for a later handshake's.
  ERR_clear_error();
  return status;
}

enum status tls_client_load(const struct tls_client_settings *settings, struct wall now, struct tls_client **out,
                            struct error *error)
{
  struct tls_client *client = calloc(1, sizeof *client);
  if (!client) return no_memory(error);
  references_init(&client->references);
  enum status status = load(client, settings, now, error);
  if (status == OK)
    *out = client;
  else
    tls_client_unref(client);
  return status;
}

struct tls_client *tls_client_ref(struct tls_client *client)
{
  if (client) references_take(&client->references);
  return client;
}

void tls_client_unref(struct tls_client *client)
{
  if (!client || !references_drop(&client->references)) return;
  SSL_CTX_free(client->context);
  record_suites_deinit(&client->suites);
  BIO_meth_free(client->socket_method);
  free(client->trusted);
  free(client->psk_identity);
  OPENSSL_cleanse(client, sizeof *client);
  free(client);
}

// ---- Sessions

// Names are sent along and compared as names, addresses only compared, as such.
static bool expect_host(SSL *ssl, const char *host)
{
  uint8_t address[16];
  if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
  char name[256];
  size_t size = strlen(host);
  // "broker.example." is the same name, and in no certificate.
  if (size > 1 && host[size - 1] == '.') size--;
  if (size >= sizeof name) return false;
  memcpy(name, host, size);
  name[size] = '\0';
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set1_host(ssl, name) == 1 && SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name) == 1;
}

static bool attach(struct tls_session *session, const char *host)
{
  session->ssl = SSL_new(session->client->context);
  BIO *bio = session->ssl ? BIO_new(session->client->socket_method) : NULL;
  if (!bio) return false;
  BIO_set_data(bio, session);
  BIO_set_init(bio, 1);
  SSL_set_bio(session->ssl, bio, bio);
  SSL_set_connect_state(session->ssl);
  return expect_host(session->ssl, host);
}

struct tls_session *tls_client_session(struct tls_client *client, const char *host, int fd)
{
  struct tls_session *session = calloc(1, sizeof *session);
  if (!session) return NULL;
  session->client = tls_client_ref(client);
  session->fd = fd;
  if (attach(session, host)) return session;
  ERR_clear_error();
  tls_session_free(session);
  return NULL;
}
