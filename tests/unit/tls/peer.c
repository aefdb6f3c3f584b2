#include "peer.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

enum { STEPS_MAX = 100 };

SSL_CTX *client_context(const char *authority)
{
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  if (authority) {
    int loaded = SSL_CTX_load_verify_locations(context, authority, NULL);
    assert(loaded == 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
  }
  return context;
}

void peer_prepare(struct peer *peer, struct tls_credentials *credentials, SSL_CTX *context)
{
  *peer = (struct peer){.result = TLS_AGAIN};
  int made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, peer->fds);
  assert(made == 0);
  peer->session = tls_session_create(credentials, peer->fds[0]);
  assert(peer->session);
  if (!context) return;
  peer->ssl = SSL_new(context);
  SSL_set_fd(peer->ssl, peer->fds[1]);
  SSL_set_connect_state(peer->ssl);
}

void peer_shake(struct peer *peer)
{
  peer->client_result = SSL_ERROR_WANT_READ;
  for (int step = 0; step < STEPS_MAX; step++) {
    if (peer->client_result == SSL_ERROR_WANT_READ) {
      ERR_clear_error();
      int returned = SSL_do_handshake(peer->ssl);
      peer->client_result = returned == 1 ? 1 : SSL_get_error(peer->ssl, returned);
    }
    if (peer->result == TLS_AGAIN) peer->result = tls_session_handshake(peer->session, &peer->why);
    if (peer->result == TLS_FAILED || peer->result == TLS_CLOSED) {
      // The client may still read our alert.
      if (peer->client_result == SSL_ERROR_WANT_READ) {
        int returned = SSL_do_handshake(peer->ssl);
        peer->client_result = returned == 1 ? 1 : SSL_get_error(peer->ssl, returned);
      }
      return;
    }
    if (peer->result == TLS_DONE && peer->client_result != SSL_ERROR_WANT_READ) return;
  }
}

void peer_connect(struct peer *peer, struct tls_credentials *credentials, SSL_CTX *context, const char *host,
                  SSL_SESSION *resume)
{
  peer_prepare(peer, credentials, context);
  if (host) SSL_ctrl(peer->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)host);
  if (resume) SSL_set_session(peer->ssl, resume);
  peer_shake(peer);
}

void peer_close(struct peer *peer)
{
  tls_session_free(peer->session);
  // Without an orderly end OpenSSL's client takes its ticket for worthless.
  if (peer->ssl) SSL_set_shutdown(peer->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(peer->ssl);
  close(peer->fds[0]);
  if (peer->fds[1] >= 0) close(peer->fds[1]);
}

size_t peer_client_reads(struct peer *peer, void *bytes, size_t size)
{
  size_t total = 0;
  int got;
  while (total < size && (got = SSL_read(peer->ssl, (char *)bytes + total, (int)(size - total))) > 0) total += (size_t)got;
  ERR_clear_error();
  return total;
}
