// The socket of a session, as it is and as OpenSSL sees it: nobody meets a full one. What it does not take is kept, and goes
// first.
#include <errno.h>
#include <sys/socket.h>

#include <openssl/bio.h>

#include "tls/credentials_internal.h"
#include "tls/session_internal.h"

enum {
  UNSENT_MAX = 256 * 1024,  // only a peer that has us answer, and does not read, comes near it
};

// How much the socket took; -1: it is broken.
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

bool session_flush(struct tls_session *session)
{
  struct span waiting = buffer_peek(&session->unsent);
  if (waiting.size == 0) return true;
  ssize_t sent = send_now(session, waiting.at, waiting.size);
  if (sent < 0) return false;
  buffer_consume(&session->unsent, (size_t)sent);
  if (buffer_size(&session->unsent) == 0) buffer_deinit(&session->unsent);
  return true;
}

bool session_put(struct tls_session *session, const void *bytes, size_t size)
{
  if (session->gone) return false;
  size_t sent = 0;
  if (buffer_size(&session->unsent) == 0) {
    ssize_t now = send_now(session, bytes, size);
    if (now < 0) return false;
    sent = (size_t)now;
  }
  size_t left = size - sent;
  if (left == 0) return true;
  if (buffer_size(&session->unsent) + left <= UNSENT_MAX &&
      buffer_append(&session->unsent, (const uint8_t *)bytes + sent, left) == OK)
    return true;
  session->gone = true;
  return false;
}

ssize_t session_receive(struct tls_session *session, void *bytes, size_t size)
{
  for (;;) {
    ssize_t got = recv(session->fd, bytes, size, MSG_DONTWAIT);
    if (got > 0) return got;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
    session->gone = true;
    return -1;
  }
}

// ---- As OpenSSL sees it

static int write_socket(BIO *bio, const char *bytes, size_t size, size_t *out_size)
{
  BIO_clear_retry_flags(bio);
  if (!session_put(BIO_get_data(bio), bytes, size)) return -1;
  *out_size = size;
  return 1;
}

// Just what is asked for: what comes behind stays in the socket, where epoll, and what takes over from OpenSSL, find it.
static int read_socket(BIO *bio, char *bytes, size_t size, size_t *out_size)
{
  BIO_clear_retry_flags(bio);
  ssize_t got = session_receive(BIO_get_data(bio), bytes, size);
  if (got == 0) BIO_set_retry_read(bio);
  *out_size = got > 0 ? (size_t)got : 0;
  return got > 0;
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
