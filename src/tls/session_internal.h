// What the parts of a session know of each other.
#pragma once

#include <openssl/ssl.h>

#include "base/buffer.h"
#include "tls/certificate_facts.h"
#include "tls/client_trust.h"
#include "tls/session.h"

struct tls_session {
  SSL *ssl;
  struct tls_credentials *credentials;
  int fd;
  bool done;              // the handshake is
  bool buffered;          // OpenSSL reads from `incoming`, not from the socket
  bool gone;              // the socket is closed or broken
  enum tls_result ended;  // TLS_CLOSED, TLS_FAILED; TLS_DONE: not yet
  const char *why;        // static; with TLS_FAILED
  const char *refusal;    // static: what a callback of ours knows better than OpenSSL; NULL
  struct span incoming;   // ciphertext, in the caller's buffer; only while tls_session_read runs
  struct buffer unsent;   // ciphertext
  char *psk_identity;     // heap; NULL: none
  struct issued *chain;   // of the client's certificate, which has been verified; heap; NULL: none
  size_t chain_size;
  int64_t chain_end_s;              // wall: when the first certificate of the chain expires
  struct certificate_facts *facts;  // heap; NULL: not asked for yet, or none
};

// The session that an SSL belongs to.
struct tls_session *tls_session_of(const SSL *ssl);

// For tickets: makes `chain` of what the client has just shown; or of what it has shown for the ticket that it resumes with. False: memory is
// short.
bool tls_session_remember(struct tls_session *session);
bool tls_session_adopt(struct tls_session *session, const struct issued *chain, size_t count, int64_t end_s);

// The pre-shared key, or none, that was looked up last: what a client offers is tried in order. Takes the heap text.
void tls_session_set_psk(struct tls_session *session, char *identity);
