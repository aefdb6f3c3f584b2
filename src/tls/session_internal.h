// What the parts of a session know of each other.
#pragma once

#include <sys/types.h>

#include <openssl/ssl.h>

#include "base/buffer.h"
#include "tls/certificate_facts.h"
#include "tls/client_trust.h"
#include "tls/records.h"
#include "tls/session.h"

// Handshake messages that a server sends to its client later, wherever records cut them: tickets, which nobody wants.
struct tidings {
  uint8_t header[4];    // type, length
  uint8_t header_size;  // how much of it has come
  uint32_t left;        // of a ticket that is under way
};

// SHAKING (ssl) → RECORDS (records), or for suites that these do not have OPENSSL (ssl); all → ended.
struct tls_session {
  SSL *ssl;
  struct records *records;
  struct record_secrets *secrets;       // heap; of 1.3, while shaking hands
  struct tls_credentials *credentials;  // NULL: of the client's side
  struct tls_client *client;            // NULL: of the server's side
  int fd;
  bool done;         // the handshake is
  bool gone;         // the socket is closed or broken
  bool update_owed;  // the peer has asked for our next key
  bool resumed;
  uint8_t updates;        // of the peer's key, or wishes for another handshake, since it has sent data
  enum tls_result ended;  // TLS_CLOSED, TLS_FAILED; TLS_DONE: not yet
  const char *why;        // static, or `text`; with TLS_FAILED
  char *text;             // heap; NULL: none
  const char *refusal;    // static: what a callback of ours knows better than OpenSSL; NULL
  struct buffer partial;  // RECORDS: the beginning of a record
  struct tidings tidings;
  struct buffer unsent;  // ciphertext
  const char *version;   // static
  const char *cipher;    // static
  char *server_name;     // heap; NULL: none
  char *psk_identity;    // heap; NULL: none
  struct issued *chain;  // of the client's certificate, which has been verified; heap; NULL: none
  size_t chain_size;
  int64_t chain_end_s;              // wall: when the first certificate of the chain expires
  struct certificate_facts *facts;  // heap; NULL: there is no certificate
};

// The session that an SSL belongs to.
struct tls_session *tls_session_of(const SSL *ssl);

// The callback that is shown what 1.3 derives, one line for each secret: keeps those that records.c goes on with.
void session_take_secret(const SSL *ssl, const char *line);

// For tickets: makes `chain` of what the client has just shown; or of what it has shown for the ticket that it resumes with.
// False: memory is short.
bool tls_session_remember(struct tls_session *session);
bool tls_session_adopt(struct tls_session *session, const struct issued *chain, size_t count, int64_t end_s);

// The pre-shared key, or none, that was looked up last: what a client offers is tried in order. Takes the heap text.
void tls_session_set_psk(struct tls_session *session, char *identity);

// Ends it, once; returns `how`.
enum tls_result session_end(struct tls_session *session, enum tls_result how, const char *why);

// ---- session_socket.c

bool session_flush(struct tls_session *session);  // sends what is unsent; false: the socket is broken
bool session_put(struct tls_session *session, const void *bytes, size_t size);   // sends or keeps all of it; false: the same
ssize_t session_receive(struct tls_session *session, void *bytes, size_t size);  // 0: nothing now; -1: closed or broken

// ---- session_records.c

enum tls_result records_read(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size);
enum tls_result records_write(struct tls_session *session, const struct span parts[2], size_t *out_size);
void records_say(struct tls_session *session, bool fatal, enum record_alert alert);  // sends an alert
