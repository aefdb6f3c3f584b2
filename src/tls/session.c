// A session's life: the handshake is OpenSSL's, with its parts in context.c; data then goes through session_records.c, or,
// with suites that are not AEAD, still through OpenSSL.
#include "tls/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "tls/client_internal.h"
#include "tls/credentials_internal.h"
#include "tls/openssl_error.h"
#include "tls/session_internal.h"

struct tls_session *tls_session_of(const SSL *ssl)
{
  return BIO_get_data(SSL_get_rbio(ssl));
}

// ---- Life

static bool attach(struct tls_session *session)
{
  BIO *bio = BIO_new(session->credentials->socket_method);
  if (!bio) return false;
  BIO_set_data(bio, session);
  BIO_set_init(bio, 1);
  SSL_set_bio(session->ssl, bio, bio);
  SSL_set_accept_state(session->ssl);
  return true;
}

struct tls_session *tls_session_create(struct tls_credentials *credentials, int fd)
{
  struct tls_session *session = calloc(1, sizeof *session);
  if (!session) return NULL;
  session->credentials = tls_credentials_ref(credentials);
  session->fd = fd;
  session->ssl = SSL_new(credentials->contexts[0]);
  if (session->ssl && attach(session)) return session;
  ERR_clear_error();
  tls_session_free(session);
  return NULL;
}

static void free_secrets(struct tls_session *session)
{
  if (!session->secrets) return;
  OPENSSL_cleanse(session->secrets, sizeof *session->secrets);
  free(session->secrets);
  session->secrets = NULL;
}

void tls_session_free(struct tls_session *session)
{
  if (!session) return;
  SSL_free(session->ssl);
  records_free(session->records);
  free_secrets(session);
  tls_credentials_unref(session->credentials);
  tls_client_unref(session->client);
  buffer_deinit(&session->partial);
  buffer_deinit(&session->unsent);
  free(session->server_name);
  free(session->psk_identity);
  free(session->chain);
  free(session->facts);
  free(session->text);
  free(session);
}

// ---- How things end

// What a person can do something about, where OpenSSL says it in terms of its own.
static const char *explain(struct tls_session *session)
{
  if (session->client) return client_reason(session);
  if (session->refusal) return session->refusal;
  unsigned long error = ERR_peek_error();
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return openssl_reason("TLS failed");
  switch (ERR_GET_REASON(error)) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_BAD_PACKET_LENGTH:
    case SSL_R_RECORD_LENGTH_MISMATCH:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
      return session->done ? "no valid TLS record" : "this is not TLS: plain MQTT on a TLS port?";
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST: return "this is HTTP without TLS";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW: return "the client's TLS version is too old";
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
      if (session->credentials->psk) return "there is no such pre-shared key, and no certificate that the client could take";
      return "the client has no kind of key in common with us";
    case SSL_R_NO_SHARED_CIPHER: return "the client has no cipher, or no kind of key, in common with us";
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return "the client shows no certificate";
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return X509_verify_cert_error_string(SSL_get_verify_result(session->ssl));
    case SSL_R_BINDER_DOES_NOT_VERIFY: return "the pre-shared key is wrong";
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
      return session->done ? "a record does not decrypt" : "a record does not decrypt: another pre-shared key?";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA: return "the client does not know our CA";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE: return "the client refuses our certificate";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED: return "the client takes our certificate for expired";
    default: return openssl_reason("TLS failed");
  }
}

enum tls_result session_end(struct tls_session *session, enum tls_result how, const char *why)
{
  session->ended = how;
  session->why = why;
  return how;
}

// After an operation of OpenSSL's did not succeed.
static enum tls_result judge(struct tls_session *session, int returned)
{
  int kind = SSL_get_error(session->ssl, returned);
  enum tls_result result;
  if (kind == SSL_ERROR_SSL && !session->gone)
    result = session_end(session, TLS_FAILED, explain(session));
  else if (session->gone || kind == SSL_ERROR_ZERO_RETURN || kind == SSL_ERROR_SYSCALL)
    result = session_end(session, TLS_CLOSED, NULL);
  else if (kind == SSL_ERROR_WANT_READ)
    result = TLS_AGAIN;
  else
    result = session_end(session, TLS_FAILED, explain(session));
  ERR_clear_error();
  return result;
}

// ---- The handshake

void tls_session_set_psk(struct tls_session *session, char *identity)
{
  free(session->psk_identity);
  session->psk_identity = identity;
  if (!identity) return;
  free(session->chain);
  session->chain = NULL;
  session->chain_size = 0;
}

bool tls_session_adopt(struct tls_session *session, const struct issued *chain, size_t count, int64_t end_s)
{
  struct issued *copy = malloc(count * sizeof *copy);
  if (!copy) return false;
  memcpy(copy, chain, count * sizeof *copy);
  free(session->chain);
  session->chain = copy;
  session->chain_size = count;
  session->chain_end_s = end_s;
  return true;
}

bool tls_session_remember(struct tls_session *session)
{
  if (SSL_session_reused(session->ssl)) return true;  // adopted with the ticket
  free(session->chain);
  session->chain = NULL;
  session->chain_size = 0;
  STACK_OF(X509) *chain = SSL_get0_verified_chain(session->ssl);
  int count = SSL_get0_peer_certificate(session->ssl) ? sk_X509_num(chain) : 0;
  if (count <= 0) return true;
  session->chain = malloc((size_t)count * sizeof *session->chain);
  if (!session->chain) return false;
  session->chain_size = (size_t)count;
  for (int i = 0; i < count; i++) {
    const X509 *one = sk_X509_value(chain, i);
    session->chain[i] = issued_of(one);
    int64_t end_s = certificate_time_ms(X509_get0_notAfter(one)) / 1000;
    if (i == 0 || end_s < session->chain_end_s) session->chain_end_s = end_s;
  }
  return true;
}

// What a server is asked later about its client. False: memory is short.
static bool keep_facts(struct tls_session *session)
{
  SSL *ssl = session->ssl;
  // A key that 1.3 has looked up and not used proves nothing.
  if (SSL_version(ssl) >= TLS1_3_VERSION && !SSL_session_reused(ssl)) tls_session_set_psk(session, NULL);
  if (!tls_session_remember(session)) return false;
  session->resumed = SSL_session_reused(ssl) && !session->psk_identity;
  const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name && !(session->server_name = strdup(name))) return false;
  X509 *certificate = SSL_get0_peer_certificate(ssl);
  return !certificate || (session->facts = certificate_facts(certificate)) != NULL;
}

// Keeps what is asked for later, and lets OpenSSL go where its part is over. False: memory is short.
static bool finish(struct tls_session *session)
{
  SSL *ssl = session->ssl;
  if (!session->client && !keep_facts(session)) return false;
  session->version = SSL_get_version(ssl);
  session->cipher = SSL_get_cipher_name(ssl);
  const struct record_suites *suites = session->client ? &session->client->suites : &session->credentials->suites;
  static const struct record_secrets none;
  session->records = records_take_over(ssl, suites, session->secrets ? session->secrets : &none);
  free_secrets(session);
  if (!session->records) return true;
  SSL_free(ssl);
  session->ssl = NULL;
  return true;
}

enum tls_result tls_session_handshake(struct tls_session *session, const char **out_why)
{
  *out_why = session->why;
  if (session->done) return TLS_DONE;
  if (session->ended != TLS_DONE) return session->ended;
  if (!session_flush(session)) return session_end(session, TLS_CLOSED, NULL);
  ERR_clear_error();
  int returned = SSL_do_handshake(session->ssl);
  enum tls_result result = returned == 1 ? TLS_DONE : judge(session, returned);
  if (returned == 1 && !finish(session)) result = session_end(session, TLS_FAILED, "not enough memory");
  session->done = result == TLS_DONE;
  *out_why = session->why;
  return result;
}

// ---- Data

// Whole records only, so that nothing decrypted is left behind.
static enum tls_result openssl_read(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size)
{
  ERR_clear_error();
  while (size - *out_size >= RECORD_PLAIN_MAX) {
    size_t got = 0;
    int returned = SSL_read_ex(session->ssl, bytes + *out_size, size - *out_size, &got);
    if (returned != 1) {
      enum tls_result result = judge(session, returned);
      return *out_size > 0 ? TLS_DONE : result;
    }
    *out_size += got;
  }
  return TLS_DONE;
}

static enum tls_result openssl_write(struct tls_session *session, const struct span parts[2], size_t *out_size)
{
  ERR_clear_error();
  for (int i = 0; i < 2; i++)
    for (size_t at = 0; at < parts[i].size; at += RECORD_PLAIN_MAX) {
      if (buffer_size(&session->unsent) > 0) return TLS_AGAIN;
      struct span rest = span_from(parts[i], at);
      size_t taken = 0;
      // Never partially, for write_socket takes everything.
      int returned =
          SSL_write_ex(session->ssl, rest.at, rest.size < RECORD_PLAIN_MAX ? rest.size : RECORD_PLAIN_MAX, &taken);
      if (returned != 1) {
        (void)judge(session, returned);
        return TLS_CLOSED;
      }
      *out_size += taken;
    }
  return buffer_size(&session->unsent) > 0 ? TLS_AGAIN : TLS_DONE;
}

enum tls_result tls_session_read(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size,
                                 const char **out_why)
{
  assert(size >= TLS_READ_MIN);
  assert(session->done);
  *out_size = 0;
  enum tls_result result = session->ended;
  if (result == TLS_DONE)
    result = session->records ? records_read(session, bytes, size, out_size) : openssl_read(session, bytes, size, out_size);
  // For the end that came along with good bytes there may be no other event: now the socket can be read until it is told.
  if (*out_size > 0 && session->ended != TLS_DONE) (void)shutdown(session->fd, SHUT_RD);
  *out_why = session->why;
  return result;
}

enum tls_result tls_session_write(struct tls_session *session, const struct span parts[2], size_t *out_size)
{
  assert(session->done);
  *out_size = 0;
  if (session->ended == TLS_FAILED || session->gone || !session_flush(session)) return TLS_CLOSED;
  if (buffer_size(&session->unsent) > 0) return TLS_AGAIN;
  return session->records ? records_write(session, parts, out_size) : openssl_write(session, parts, out_size);
}

bool tls_session_unsent(const struct tls_session *session)
{
  return buffer_size(&session->unsent) > 0;
}

void tls_session_goodbye(struct tls_session *session)
{
  if (!session->done || session->ended == TLS_FAILED || session->gone) return;
  if (!session_flush(session) || buffer_size(&session->unsent) > 0) return;
  if (session->records)
    records_say(session, false, ALERT_CLOSE_NOTIFY);
  else
    (void)SSL_shutdown(session->ssl);
  ERR_clear_error();
}

// ---- What is known

void tls_session_facts(struct tls_session *session, struct tls_facts *out)
{
  assert(session->done);
  *out = (struct tls_facts){
      .version = session->version,
      .cipher = session->cipher,
      .server_name = session->server_name,
      .resumed = session->resumed,
      .psk_identity = session->psk_identity,
      .facts = session->facts ? session->facts->facts : NULL,
      .fact_count = session->facts ? session->facts->count : 0,
  };
}

static struct span key_of(const struct tls_credentials *credentials, const char *identity)
{
  return credentials->psk ? psk_find(credentials->psk, span_text(identity)) : (struct span){0};
}

bool tls_session_revoked(const struct tls_session *session, const struct tls_credentials *credentials)
{
  const char *identity = session->psk_identity;
  if (identity && !span_equal(key_of(session->credentials, identity), key_of(credentials, identity))) return true;
  return session->chain_size > 0 && credentials->trust &&
         client_trust_revoked(credentials->trust, session->chain, session->chain_size);
}
