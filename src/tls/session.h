// TLS on one connection: the server's side is made here, the client's in client.h. Never blocks; one thread at a time. Bytes
// go straight between the socket and the session; what the socket does not take is kept here. An idle session holds no
// record buffers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"
#include "core/identity.h"
#include "tls/credentials.h"

struct tls_session;

// Takes its own reference of the credentials; the socket stays the caller's. NULL when memory is short.
struct tls_session *tls_session_create(struct tls_credentials *credentials, int fd);
void tls_session_free(struct tls_session *session);  // NULL is harmless

enum tls_result {
  TLS_DONE,
  TLS_AGAIN,   // when the socket can be read, or written if tls_session_unsent
  TLS_CLOSED,  // by the peer, with or without close_notify
  TLS_FAILED,  // *out_why says what; a TLS alert has been sent where there is one
};

// One step. TLS_DONE: application data may flow. *out_why: with TLS_FAILED, static or the session's. What TLS_CLOSED
// means there is for the caller to say.
enum tls_result tls_session_handshake(struct tls_session *session, const char **out_why);

enum { TLS_READ_MIN = 32 * 1024 };

// Receives once, and decrypts all that came: up to `size` bytes (at least TLS_READ_MIN). TLS_DONE: *out_size > 0. There may
// be more in the socket, but none is left here: once per event of a level-triggered epoll is enough. What ends the session
// after good bytes is told by the next call, for which there is an event too.
enum tls_result tls_session_read(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size,
                                 const char **out_why);

// Encrypts and sends from the two parts. *out_size: how much was taken; ciphertext that the socket did not take is kept and
// goes first. TLS_DONE: all was taken and sent. TLS_AGAIN: when the socket can be written. TLS_CLOSED: the connection is
// gone. Parts may be empty.
enum tls_result tls_session_write(struct tls_session *session, const struct span parts[2], size_t *out_size);
bool tls_session_unsent(const struct tls_session *session);  // call tls_session_write when the socket can be written

void tls_session_goodbye(struct tls_session *session);  // close_notify, if it can be sent at once

// ---- What is known after the handshake; of the client's side version and cipher alone

struct tls_facts {
  const char *version;      // static: "TLSv1.3"
  const char *cipher;       // static
  const char *server_name;  // that the client named; the session's; NULL: none
  bool resumed;
  const char *psk_identity;  // pre-shared key of a device; the session's; NULL: none
  const struct identity_fact
      *facts;         // of the client's certificate: "cert.cn", "cert.ou", "cert.o", "cert.san_dns", "cert.san_uri",
  size_t fact_count;  // "cert.san_email", "cert.serial", "cert.fingerprint" (SHA-256); the session's
};
void tls_session_facts(struct tls_session *session, struct tls_facts *out);

// Whether these credentials would refuse the client's certificate as revoked, or no longer have its pre-shared key. False
// without either.
bool tls_session_revoked(const struct tls_session *session, const struct tls_credentials *credentials);
