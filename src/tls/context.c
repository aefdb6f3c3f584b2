// How OpenSSL is set up for a listener, and what it asks while it shakes hands.
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/tls1.h>
#include <openssl/x509v3.h>

#include "tls/credentials_internal.h"
#include "tls/openssl_error.h"
#include "tls/session_internal.h"

// Mozilla's "intermediate" (version 5.7): its ciphers in its order.
#define CERTIFICATE_CIPHERS                                                                                                 \
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"    \
  "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:"          \
  "DHE-RSA-CHACHA20-POLY1305"
// With forward secrecy first; what the smallest devices have comes last.
#define PSK_CIPHERS                                                                                                         \
  "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256:DHE-PSK-AES256-GCM-SHA384:ECDHE-PSK-AES128-CBC-SHA256:"            \
  "ECDHE-PSK-AES256-CBC-SHA384:PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384:PSK-CHACHA20-POLY1305:PSK-AES128-CCM:"           \
  "PSK-AES256-CCM:PSK-AES128-CBC-SHA256"
#define TLS_1_3_CIPHERS "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
#define CURVES "X25519:P-256:P-384"

enum {
  SECURITY_LEVEL = 2,              // 112 bits
  CLIENT_CHAIN_BYTES = 32 * 1024,  // what a client may send as its chain
  CLIENT_CHAIN_DEPTH = 8,
  TICKET_LIFE_S = TICKET_KEYS * TICKET_KEY_MS / 1000,
};

// ---- Which protocol, which certificate

static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *offered,
                           unsigned offered_size, void *argument)
{
  static const unsigned char mqtt[] = "\4mqtt", websocket[] = "\10http/1.1\4mqtt";
  const struct tls_credentials *credentials = argument;
  unsigned char *chosen;
  int result = credentials->websocket
                   ? SSL_select_next_proto(&chosen, out_size, websocket, sizeof websocket - 1, offered, offered_size)
                   : SSL_select_next_proto(&chosen, out_size, mqtt, sizeof mqtt - 1, offered, offered_size);
  if (result == OPENSSL_NPN_NEGOTIATED) {
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
  }
  tls_session_of(ssl)->refusal = credentials->websocket ? "the client offers neither http/1.1 nor mqtt (ALPN)"
                                                        : "the client does not offer mqtt (ALPN)";
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int select_certificate(SSL *ssl, int *alert, void *argument)
{
  (void)alert;
  const struct tls_credentials *credentials = argument;
  const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (!name || credentials->context_count == 1) return SSL_TLSEXT_ERR_OK;
  for (size_t i = 0; i < credentials->context_count; i++) {
    X509 *leaf = SSL_CTX_get0_certificate(credentials->contexts[i]);
    if (!leaf || X509_check_host(leaf, name, strlen(name), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) != 1) continue;
    if (i > 0) SSL_set_SSL_CTX(ssl, credentials->contexts[i]);
    break;
  }
  return SSL_TLSEXT_ERR_OK;
}

static int staple(SSL *ssl, void *argument)
{
  const struct tls_credentials *credentials = argument;
  const X509 *shown = SSL_get_certificate(ssl);
  for (size_t i = 0; shown && i < credentials->certificate_count; i++) {
    const struct server_certificate *certificate = &credentials->certificates[i];
    if (certificate->leaf != shown || !certificate->ocsp) continue;
    // An answer that has run out does more harm than none.
    if (certificate->ocsp_end_ms && certificate->ocsp_end_ms / 1000 <= time(NULL)) break;
    uint8_t *copy = OPENSSL_memdup(certificate->ocsp, certificate->ocsp_size);
    if (!copy) break;
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)certificate->ocsp_size);
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_NOACK;
}

// ---- Clients' certificates

// CRLs are asked of the whole chain, but only of those issuers of whom there are any.
static int verify_client(int fine, X509_STORE_CTX *context)
{
  if (fine || X509_STORE_CTX_get_error(context) != X509_V_ERR_UNABLE_TO_GET_CRL) return fine;
  const SSL *ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx());
  const struct tls_credentials *credentials = tls_session_of(ssl)->credentials;
  if (client_trust_knows(credentials->trust, X509_STORE_CTX_get_current_cert(context))) return 0;
  X509_STORE_CTX_set_error(context, X509_V_OK);
  return 1;
}

// ---- Pre-shared keys

static unsigned find_psk(SSL *ssl, const char *identity, unsigned char *key, unsigned key_max)
{
  struct tls_session *session = tls_session_of(ssl);
  size_t size = strlen(identity);
  struct span found = {0};
  if (size <= PSK_IDENTITY_MAX) found = psk_find(session->credentials->psk, span_of(identity, size));
  if (found.size > 0 && found.size <= key_max) {
    char *copy = strdup(identity);
    if (!copy) return 0;
    tls_session_set_psk(session, copy);
    memcpy(key, found.at, found.size);
    SSL_set_num_tickets(ssl, 0);  // a key is as cheap as a ticket, and is gone when the file no longer has it
    return (unsigned)found.size;
  }
  // In 1.3 it may be a ticket, or the client has a certificate's handshake in mind, too.
  if (SSL_version(ssl) >= TLS1_3_VERSION) return 0;
  // A key that nobody has: strangers do not learn which identities exist.
  session->refusal = "no such pre-shared key identity";
  return RAND_bytes(key, PSK_KEY_MIN) == 1 ? PSK_KEY_MIN : 0;
}

// ---- Tickets

static struct mono now_mono(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (struct mono){.ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000};
}

static bool use_key(const struct ticket_key *key, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, const unsigned char *iv,
                    bool seal)
{
  char digest[] = "SHA256";
  uint8_t authentication[sizeof key->authentication];
  memcpy(authentication, key->authentication, sizeof authentication);
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, authentication, sizeof authentication),
                             OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
  bool fine = EVP_MAC_CTX_set_params(mac, parameters) == 1 &&
              EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, seal) == 1;
  OPENSSL_cleanse(authentication, sizeof authentication);
  return fine;
}

// Returns what OpenSSL wants: -1 failure, 0 no ticket or none of ours, 1 fine, 2 fine, and the client gets a new one.
static int seal_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
  const struct tls_session *session = tls_session_of(ssl);
  struct tickets *tickets = session->credentials->tickets;
  struct ticket_key key;
  bool renew = false;
  int result = 0;
  if (seal) {
    if (session->psk_identity) return 0;
    if (!tickets_current(tickets, now_mono(), &key)) return -1;
    memcpy(name, key.name, sizeof key.name);
    result =
        RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 && use_key(&key, cipher, mac, iv, true) ? 1 : -1;
  } else if (tickets_find(tickets, now_mono(), name, &key, &renew)) {
    // A ticket of 1.3 serves once: each resumption brings the next.
    renew = renew || SSL_version(ssl) >= TLS1_3_VERSION;
    result = use_key(&key, cipher, mac, iv, false) ? (renew ? 2 : 1) : -1;
  }
  OPENSSL_cleanse(&key, sizeof key);
  return result;
}

// What a ticket remembers besides: who issued the chain that the client has shown, for CRLs to come, and how long that chain
// is valid.
struct ticket_note {
  uint8_t end_s[8];
  struct issued chain[];
};

static int note_in_ticket(SSL *ssl, void *argument)
{
  (void)argument;
  struct tls_session *session = tls_session_of(ssl);
  if (!tls_session_remember(session)) return 0;
  if (session->chain_size == 0) return 1;
  size_t size = sizeof(struct ticket_note) + session->chain_size * sizeof *session->chain;
  struct ticket_note *note = malloc(size);
  if (!note) return 0;
  memcpy(note->end_s, &session->chain_end_s, sizeof note->end_s);
  memcpy(note->chain, session->chain, session->chain_size * sizeof *session->chain);
  int fine = SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), note, size);
  free(note);
  return fine;
}

// Whether a client that shows this ticket would be let in with what it showed for it.
static bool still_good(struct tls_session *session, SSL_SESSION *old)
{
  if (!SSL_SESSION_get0_peer(old)) return true;  // that a certificate was not needed is in the session id context
  void *data;
  size_t size;
  if (!session->credentials->trust || !SSL_SESSION_get0_ticket_appdata(old, &data, &size)) return false;
  const struct ticket_note *note = data;
  if (size <= sizeof *note || (size - sizeof *note) % sizeof *note->chain != 0) return false;
  int64_t end_s;
  memcpy(&end_s, note->end_s, sizeof end_s);
  size_t count = (size - sizeof *note) / sizeof *note->chain;
  const struct client_trust *trust = session->credentials->trust;
  const struct wall now = {(int64_t)time(NULL) * 1000};
  if (end_s * 1000 <= now.ms || client_trust_revoked(trust, note->chain, count)) return false;
  if (client_trust_outdated(trust, note->chain, count, now)) return false;
  return tls_session_adopt(session, note->chain, count, end_s);
}

static SSL_TICKET_RETURN judge_ticket(SSL *ssl, SSL_SESSION *old, const unsigned char *name, size_t name_size,
                                      SSL_TICKET_STATUS status, void *argument)
{
  (void)name, (void)name_size, (void)argument;
  if (status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW) {
    tls_session_set_psk(tls_session_of(ssl), NULL);
    if (!still_good(tls_session_of(ssl), old)) return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
  }
  return status == SSL_TICKET_EMPTY || status == SSL_TICKET_NO_DECRYPT ? SSL_TICKET_RETURN_IGNORE_RENEW
                                                                       : SSL_TICKET_RETURN_ABORT;
}

// ---- What 1.3 shows of its secrets, for records.c

static int digit(char character)
{
  return character <= '9' ? character - '0' : (character | 32) - 'a' + 10;
}

// The line is "LABEL random-of-the-client secret", the last two in hexadecimal.
void session_take_secret(const SSL *ssl, const char *line)
{
  struct tls_session *session = tls_session_of(ssl);
  bool client = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;
  if (!client && strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0) return;
  bool in = client != (session->client != NULL);
  if (!session->secrets) session->secrets = calloc(1, sizeof *session->secrets);
  const char *text = strrchr(line, ' ') + 1;
  size_t size = strlen(text) / 2;
  if (!session->secrets || size > SECRET_MAX) return;
  uint8_t *secret = in ? session->secrets->in : session->secrets->out;
  for (size_t i = 0; i < size; i++) secret[i] = (uint8_t)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
  *(in ? &session->secrets->in_size : &session->secrets->out_size) = (uint8_t)size;
}

// Counts the records that go out under the application's key: tickets.
static void count_record(int out, int version, int type, const void *bytes, size_t size, SSL *ssl, void *argument)
{
  (void)version, (void)bytes, (void)size, (void)argument;
  if (!out || type != SSL3_RT_HEADER) return;
  struct record_secrets *secrets = tls_session_of(ssl)->secrets;
  if (secrets && secrets->out_size) secrets->sent++;
}

// ---- Contexts

static bool set_protocol(SSL_CTX *context, const struct tls_settings *settings)
{
  const char *ciphers = !settings->psk                     ? CERTIFICATE_CIPHERS
                        : settings->certificate_count == 0 ? PSK_CIPHERS
                                                           : CERTIFICATE_CIPHERS ":" PSK_CIPHERS;
  char curves[] = CURVES;
  bool modern = settings->profile == TLS_MODERN || settings->tls_1_3_only;
  SSL_CTX_set_security_level(context, SECURITY_LEVEL);
  // Of the system's own configuration nothing is kept that could be weaker; its options only forbid.
  SSL_CTX_clear_options(context, SSL_OP_LEGACY_SERVER_CONNECT);
  // Our order counts, which begins with SHA-256: with SHA-384 a handshake derives its keys at twice the cost, and in 1.3 a
  // pre-shared key would be left aside. A client without AES in hardware puts ChaCha20 first, and gets it.
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                   SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_NO_AUTO_CHAIN);
  return SSL_CTX_set_min_proto_version(context, modern ? TLS1_3_VERSION : TLS1_2_VERSION) &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) && SSL_CTX_set_cipher_list(context, ciphers) &&
         SSL_CTX_set_ciphersuites(context, TLS_1_3_CIPHERS) && SSL_CTX_set1_groups_list(context, curves) &&
         SSL_CTX_set_dh_auto(context, 1);
}

static bool set_resumption(SSL_CTX *context, struct tls_credentials *credentials)
{
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);  // tickets alone: they cost no memory here
  SSL_CTX_set_timeout(context, TICKET_LIFE_S);
  return SSL_CTX_set_num_tickets(context, 1) && SSL_CTX_set_tlsext_ticket_key_evp_cb(context, seal_ticket) &&
         SSL_CTX_set_session_ticket_cb(context, note_in_ticket, judge_ticket, NULL) &&
         SSL_CTX_set_session_id_context(context, credentials->asked, sizeof credentials->asked);
}

static bool set_client_trust(SSL_CTX *context, struct tls_credentials *credentials, enum tls_client_cert wanted)
{
  if (wanted == TLS_CLIENT_CERT_NONE) return true;
  int mode = SSL_VERIFY_PEER | (wanted == TLS_CLIENT_CERT_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
  STACK_OF(X509_NAME) *names = client_trust_names(credentials->trust);
  if (!names) return false;
  SSL_CTX_set_client_CA_list(context, names);
  SSL_CTX_set1_cert_store(context, client_trust_store(credentials->trust));
  SSL_CTX_set_max_cert_list(context, CLIENT_CHAIN_BYTES);
  SSL_CTX_set_verify_depth(context, CLIENT_CHAIN_DEPTH);
  SSL_CTX_set_verify(context, mode, verify_client);
  return true;
}

static bool set_callbacks(SSL_CTX *context, struct tls_credentials *credentials)
{
  SSL_CTX_set_keylog_callback(context, session_take_secret);
  SSL_CTX_set_msg_callback(context, count_record);
  SSL_CTX_set_alpn_select_cb(context, select_protocol, credentials);
  if (credentials->psk) SSL_CTX_set_psk_server_callback(context, find_psk);
  return SSL_CTX_set_tlsext_servername_callback(context, select_certificate) &&
         SSL_CTX_set_tlsext_servername_arg(context, credentials) && SSL_CTX_set_tlsext_status_cb(context, staple) &&
         SSL_CTX_set_tlsext_status_arg(context, credentials);
}

static enum status add_context(struct tls_credentials *credentials, const struct tls_settings *settings, struct error *error)
{
  SSL_CTX *context = SSL_CTX_new(TLS_server_method());
  if (!context) return error_set(error, ERR_NO_MEMORY, "TLS cannot be set up: %s", openssl_reason("not enough memory"));
  credentials->contexts[credentials->context_count++] = context;
  if (set_protocol(context, settings) && set_resumption(context, credentials) &&
      set_client_trust(context, credentials, settings->client_cert) && set_callbacks(context, credentials))
    return OK;
  return error_set(error, ERR_INVALID, "TLS cannot be set up: %s", openssl_reason("not enough memory"));
}

// The context that shows certificate `i`: another algorithm's certificate for the same names goes beside the first.
static enum status find_context(struct tls_credentials *credentials, const struct tls_settings *settings,
                                size_t *contexts_of, size_t i, struct error *error)
{
  const struct server_certificate *certificate = &credentials->certificates[i];
  for (size_t j = 0; j < i; j++) {
    const struct server_certificate *other = &credentials->certificates[j];
    if (!server_certificate_same_names(certificate, other)) continue;
    if (EVP_PKEY_get_base_id(certificate->key) == EVP_PKEY_get_base_id(other->key))
      return error_set(error, ERR_INVALID,
                       "%s: is for the same names as %s, with a key of the same kind: expected one of them",
                       settings->certificates[i].cert, settings->certificates[j].cert);
    contexts_of[i] = contexts_of[j];
  }
  if (contexts_of[i] < credentials->context_count) return OK;
  contexts_of[i] = credentials->context_count;
  return add_context(credentials, settings, error);
}

static enum status add_certificates(struct tls_credentials *credentials, const struct tls_settings *settings,
                                    size_t *contexts_of, struct error *error)
{
  for (size_t i = 0; i < credentials->certificate_count; i++) {
    const struct server_certificate *certificate = &credentials->certificates[i];
    contexts_of[i] = SIZE_MAX;
    enum status status = find_context(credentials, settings, contexts_of, i, error);
    if (status != OK) return status;
    if (SSL_CTX_use_cert_and_key(credentials->contexts[contexts_of[i]], certificate->leaf, certificate->key,
                                 certificate->chain, 0) != 1)
      return error_set(error, ERR_INVALID, "%s: cannot be used for TLS: %s", settings->certificates[i].cert,
                       openssl_reason("not enough memory"));
  }
  return OK;
}

enum status contexts_create(struct tls_credentials *credentials, const struct tls_settings *settings, struct error *error)
{
  size_t most = credentials->certificate_count ? credentials->certificate_count : 1;
  credentials->contexts = calloc(most, sizeof(SSL_CTX *));
  if (!credentials->contexts) return error_set(error, ERR_NO_MEMORY, "not enough memory");
  if (credentials->certificate_count == 0) return add_context(credentials, settings, error);
  size_t *contexts_of = calloc(most, sizeof *contexts_of);
  if (!contexts_of) return error_set(error, ERR_NO_MEMORY, "not enough memory");
  enum status status = add_certificates(credentials, settings, contexts_of, error);
  free(contexts_of);
  // After them, so that X509 errors of theirs are not taken for a later handshake's.
  ERR_clear_error();
  return status;
}

void contexts_free(struct tls_credentials *credentials)
{
  for (size_t i = 0; i < credentials->context_count; i++) SSL_CTX_free(credentials->contexts[i]);
  free(credentials->contexts);
}
