// A TLS client at the other end of a socket pair from a session of ours, both in one thread.
#pragma once

#include <openssl/ssl.h>

#include "tls/session.h"

struct peer {
  int fds[2];  // ours, the client's
  struct tls_session *session;
  SSL *ssl;                // the client
  enum tls_result result;  // of the handshake, here
  const char *why;
  int client_result;  // 1: fine; SSL_get_error of it otherwise
};

// A context that trusts `authority` (a file; NULL: everybody).
SSL_CTX *client_context(const char *authority);

// Connects both and has them shake hands until both are done, or one has failed.
void peer_connect(struct peer *peer, struct tls_credentials *credentials, SSL_CTX *context, const char *host,
                  SSL_SESSION *resume);
void peer_prepare(struct peer *peer, struct tls_credentials *credentials, SSL_CTX *context);
void peer_shake(struct peer *peer);
void peer_close(struct peer *peer);

// What the client gets, until there is nothing. Returns how many bytes.
size_t peer_client_reads(struct peer *peer, void *bytes, size_t size);
