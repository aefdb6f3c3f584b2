// What clients are made of, for client.c (how OpenSSL is set up), client_reason.c and session.c.
#pragma once

#include <openssl/ssl.h>

#include "base/references.h"
#include "tls/client.h"
#include "tls/psk.h"
#include "tls/records.h"

struct tls_client {
  struct references references;
  SSL_CTX *context;
  struct record_suites suites;
  BIO_METHOD *socket_method;  // of session_socket.c
  char *trusted;              // heap: where the authorities come from, for people
  bool shows;                 // a certificate
  char *psk_identity;         // heap; NULL: none
  uint8_t psk_key[PSK_KEY_MAX];
  uint8_t psk_key_size;
};

// ---- client_reason.c

// Why the last operation of OpenSSL's has failed; static, or the session's.
const char *client_reason(struct tls_session *session);

// Why the server's certificate is refused, while it is looked at; the session's.
const char *client_certificate_reason(struct tls_session *session, X509_STORE_CTX *context);

// What the alert of a server's means; static.
const char *client_alert_reason(int alert);
