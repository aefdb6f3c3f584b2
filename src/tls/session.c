// Between the socket and OpenSSL. OpenSSL never sees a full socket: what is not taken is kept here, so it never has to be asked to write the same
// again. For the other direction it gets what one recv has brought, however many records that is.
#include "tls/session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/err.h>

#include "tls/credentials_internal.h"
#include "tls/openssl_error.h"
#include "tls/session_internal.h"

enum {
  RECORD_SIZE = 16 * 1024,
  // Plaintext overtakes the ciphertext that it comes from, which lies behind it in the same buffer, by one record at most: the one whose
  // beginning had come before.
  READ_HEADROOM = RECORD_SIZE + 1024,
  UNSENT_MAX = 256 * 1024,  // only a peer that has us answer, and does not read, comes near it
};
static_assert((int)TLS_READ_MIN > (int)READ_HEADROOM, "room for ciphertext");

// ---- The socket, as OpenSSL sees it

static ssize_t send_now(struct tls_session *session, const void *bytes, size_t size)
{
  for (;;) {
    ssize_t sent = send(session->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return sent;
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    session->gone = true;
    return -1;
  }
}

// -1: the socket is broken, or the peer is too far behind.
static int write_socket(BIO *bio, const char *bytes, size_t size, size_t *out_size)
{
  struct tls_session *session = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (session->gone) return -1;
  size_t sent = 0;
  if (buffer_size(&session->unsent) == 0) {
    ssize_t now = send_now(session, bytes, size);
    if (now < 0) return -1;
    sent = (size_t)now;
  }
  if (sent < size && (buffer_size(&session->unsent) + size - sent > UNSENT_MAX ||
                      buffer_append(&session->unsent, bytes + sent, size - sent) != OK)) {
    session->gone = true;
    return -1;
  }
  *out_size = size;
  return 1;
}

static ssize_t receive_now(struct tls_session *session, void *bytes, size_t size)
{
  for (;;) {
    ssize_t got = recv(session->fd, bytes, size, MSG_DONTWAIT);
    if (got > 0) return got;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return -1;
    session->gone = true;
    return 0;
  }
}

static int read_socket(BIO *bio, char *bytes, size_t size, size_t *out_size)
{
  struct tls_session *session = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (!session->buffered) {
    // While shaking hands just what OpenSSL asks for: what comes behind it stays in the socket, where epoll sees it.
    ssize_t got = receive_now(session, bytes, size);
    if (got < 0) BIO_set_retry_read(bio);
    *out_size = got > 0 ? (size_t)got : 0;
    return got > 0;
  }
  if (session->incoming.size == 0) {
    BIO_set_retry_read(bio);
    return 0;
  }
  size_t taken = size < session->incoming.size ? size : session->incoming.size;
  memcpy(bytes, session->incoming.at, taken);
  session->incoming = span_from(session->incoming, taken);
  *out_size = taken;
  return 1;
}

static long control_socket(BIO *bio, int command, long number, void *pointer)
{
  (void)bio, (void)number, (void)pointer;
  return command == BIO_CTRL_FLUSH;
}

BIO_METHOD *socket_method_create(void)
{
  BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "skerry socket");
  if (method && BIO_meth_set_write_ex(method, write_socket) && BIO_meth_set_read_ex(method, read_socket) &&
      BIO_meth_set_ctrl(method, control_socket))
    return method;
  BIO_meth_free(method);
  return NULL;
}

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

void tls_session_free(struct tls_session *session)
{
  if (!session) return;
  SSL_free(session->ssl);
  tls_credentials_unref(session->credentials);
  buffer_deinit(&session->unsent);
  free(session->psk_identity);
  free(session->chain);
  free(session->facts);
  free(session);
}

// ---- How things end

// What a person can do something about, where OpenSSL says it in terms of its own.
static const char *explain(const struct tls_session *session)
{
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

static enum tls_result end(struct tls_session *session, enum tls_result how)
{
  session->ended = how;
  if (how == TLS_FAILED) session->why = explain(session);
  ERR_clear_error();
  return how;
}

// After an operation of OpenSSL's did not succeed.
static enum tls_result judge(struct tls_session *session, int returned)
{
  int kind = SSL_get_error(session->ssl, returned);
  if (kind == SSL_ERROR_SSL && !session->gone) return end(session, TLS_FAILED);
  if (session->gone || kind == SSL_ERROR_ZERO_RETURN) return end(session, TLS_CLOSED);
  if (kind == SSL_ERROR_WANT_READ) return TLS_AGAIN;
  return end(session, kind == SSL_ERROR_SYSCALL ? TLS_CLOSED : TLS_FAILED);
}

// Sends what waits. False: the socket is gone.
static bool flush(struct tls_session *session)
{
  struct span waiting = buffer_peek(&session->unsent);
  if (waiting.size == 0) return true;
  ssize_t sent = send_now(session, waiting.at, waiting.size);
  if (sent < 0) return false;
  buffer_consume(&session->unsent, (size_t)sent);
  if (buffer_size(&session->unsent) == 0) buffer_deinit(&session->unsent);
  return true;
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

enum tls_result tls_session_handshake(struct tls_session *session, const char **out_why)
{
  *out_why = session->why;
  if (session->done) return TLS_DONE;
  if (session->ended != TLS_DONE) return session->ended;
  if (!flush(session)) return end(session, TLS_CLOSED);
  ERR_clear_error();
  int returned = SSL_do_handshake(session->ssl);
  if (returned != 1) {
    enum tls_result result = judge(session, returned);
    *out_why = session->why;
    return result;
  }
  // A key that 1.3 has looked up and not used proves nothing.
  if (SSL_version(session->ssl) >= TLS1_3_VERSION && !SSL_session_reused(session->ssl)) tls_session_set_psk(session, NULL);
  if (!tls_session_remember(session)) {
    session->refusal = "not enough memory";
    *out_why = session->refusal;
    return end(session, TLS_FAILED);
  }
  session->done = true;
  return TLS_DONE;
}

// ---- Data

// Plaintext goes to the front of the buffer, ciphertext lies at its end and shrinks. Returns how OpenSSL stopped.
static int decrypt(struct tls_session *session, uint8_t *bytes, size_t *out_size)
{
  size_t total = 0;
  for (;;) {
    // Up to the ciphertext that is still to be read.
    size_t room = (size_t)(session->incoming.at - bytes) - total;
    assert(room > 0);
    size_t got = 0;
    int returned = SSL_read_ex(session->ssl, bytes + total, room, &got);
    if (returned != 1) {
      *out_size = total;
      return returned;
    }
    total += got;
  }
}

enum tls_result tls_session_read(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size,
                                 const char **out_why)
{
  assert(size >= TLS_READ_MIN);
  assert(session->done);
  *out_size = 0;
  *out_why = session->why;
  if (session->ended != TLS_DONE) return session->ended;
  ssize_t received = receive_now(session, bytes + READ_HEADROOM, size - READ_HEADROOM);
  if (received < 0) return TLS_AGAIN;
  if (received == 0) return end(session, TLS_CLOSED);
  ERR_clear_error();
  session->buffered = true;
  session->incoming = span_of(bytes + READ_HEADROOM, (size_t)received);
  int returned = decrypt(session, bytes, out_size);
  session->buffered = false;
  enum tls_result result = judge(session, returned);
  session->incoming = (struct span){0};
  *out_why = session->why;
  return *out_size > 0 ? TLS_DONE : result;
}

// What goes into the next record, in front of `at`: straight from the one part, or put together from both.
static struct span next_record(const struct span parts[2], size_t at, uint8_t together[static RECORD_SIZE])
{
  if (at >= parts[0].size) {
    struct span rest = span_from(parts[1], at - parts[0].size);
    if (rest.size > RECORD_SIZE) rest.size = RECORD_SIZE;
    return rest;
  }
  struct span first = span_from(parts[0], at);
  if (first.size >= RECORD_SIZE || parts[1].size == 0) {
    if (first.size > RECORD_SIZE) first.size = RECORD_SIZE;
    return first;
  }
  size_t second = parts[1].size < RECORD_SIZE - first.size ? parts[1].size : RECORD_SIZE - first.size;
  memcpy(together, first.at, first.size);
  memcpy(together + first.size, parts[1].at, second);
  return span_of(together, first.size + second);
}

enum tls_result tls_session_write(struct tls_session *session, const struct span parts[2], size_t *out_size)
{
  assert(session->done);
  *out_size = 0;
  if (session->ended == TLS_FAILED || session->gone || !flush(session)) return TLS_CLOSED;
  uint8_t together[RECORD_SIZE];
  size_t total = parts[0].size + parts[1].size;
  while (*out_size < total && buffer_size(&session->unsent) == 0) {
    struct span record = next_record(parts, *out_size, together);
    size_t taken = 0;
    ERR_clear_error();
    int returned = SSL_write_ex(session->ssl, record.at, record.size, &taken);
    if (returned != 1) {
      (void)judge(session, returned);
      return TLS_CLOSED;
    }
    *out_size += taken;
  }
  return buffer_size(&session->unsent) > 0 ? TLS_AGAIN : TLS_DONE;
}

bool tls_session_unsent(const struct tls_session *session)
{
  return buffer_size(&session->unsent) > 0;
}

void tls_session_goodbye(struct tls_session *session)
{
  if (!session->done || session->ended == TLS_FAILED || session->gone) return;
  if (!flush(session) || buffer_size(&session->unsent) > 0) return;
  (void)SSL_shutdown(session->ssl);
  ERR_clear_error();
}

// ---- What is known

void tls_session_facts(struct tls_session *session, struct tls_facts *out)
{
  assert(session->done);
  *out = (struct tls_facts){
      .version = SSL_get_version(session->ssl),
      .cipher = SSL_get_cipher_name(session->ssl),
      .server_name = SSL_get_servername(session->ssl, TLSEXT_NAMETYPE_host_name),
      .resumed = SSL_session_reused(session->ssl) && !session->psk_identity,
      .psk_identity = session->psk_identity,
  };
  X509 *certificate = SSL_get0_peer_certificate(session->ssl);
  if (certificate && !session->facts) session->facts = certificate_facts(certificate);
  if (!session->facts) return;
  out->facts = session->facts->facts;
  out->fact_count = session->facts->count;
}

bool tls_session_revoked(const struct tls_session *session, const struct tls_credentials *credentials)
{
  return session->chain_size > 0 && credentials->trust &&
         client_trust_revoked(credentials->trust, session->chain, session->chain_size);
}
