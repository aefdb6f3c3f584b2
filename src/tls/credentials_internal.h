// What credentials are made of, for context.c (how OpenSSL is set up) and session.c.
#pragma once

#include <openssl/ssl.h>

#include "base/references.h"
#include "tls/client_trust.h"
#include "tls/credentials.h"
#include "tls/psk.h"
#include "tls/records.h"
#include "tls/server_certificate.h"
#include "tls/tickets.h"

struct tls_credentials {
  struct references references;
  struct server_certificate *certificates;
  size_t certificate_count;
  SSL_CTX **contexts;  // one for each set of host names; the first is where sessions begin
  size_t context_count;
  struct client_trust *trust;  // NULL: no certificates of clients
  struct psk_list *psk;        // NULL: none
  struct tickets *tickets;
  struct record_suites suites;
  BIO_METHOD *socket_method;  // of session_socket.c
  uint8_t asked[32];          // digest of what clients must show: tickets hold as long as it stays
  bool websocket;
  int64_t end_ms;
};

// Makes the contexts of credentials that have everything else. ERR_INVALID, ERR_NO_MEMORY.
CHECK_RESULT enum status contexts_create(struct tls_credentials *credentials, const struct tls_settings *settings,
                                         struct error *error);
void contexts_free(struct tls_credentials *credentials);

// Of session_socket.c: how OpenSSL reaches the socket of a session. NULL when memory is short.
BIO_METHOD *socket_method_create(void);
