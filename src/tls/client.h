// The client's side of TLS: whom it trusts and what it shows, read and checked once, and the sessions that begin with it,
// which then go by session.h like those of the server's side. A session costs no more than one there: OpenSSL's part is let
// go after the handshake. Sessions are not resumed. Reference-counted: sessions keep what they began with. Source: RFC 8446,
// RFC 5280, RFC 6125, RFC 4279.
#pragma once

#include <stdbool.h>

#include "base/clock.h"
#include "base/error.h"
#include "tls/session.h"

struct tls_client;

enum tls_versions { TLS_1_2_OR_1_3, TLS_1_2_ONLY, TLS_1_3_ONLY };

struct tls_client_settings {
  const char *ca;            // file, PEM: the authorities that are trusted; without this and ca_path: those of the system
  const char *ca_path;       // directory of such, named by hash (openssl rehash); NULL: none
  const char *cert;          // file, PEM: the leaf, then its chain; NULL: none is shown
  const char *key;           // file, PEM, of `cert`
  const char *psk;           // file of lines "identity:key in hex": instead of all certificates; NULL: none
  const char *psk_identity;  // which of them; NULL: there is but one
  const char *protocol;      // that is offered (ALPN), "mqtt"; at most 255 bytes; NULL: none
  enum tls_versions versions;
  bool unchecked;  // takes every certificate: whoever is between reads and changes what passes
};

// Reads everything, once, and checks it. ERR_INVALID, or why a file cannot be read: the error says which, and what would be
// right. Any thread.
CHECK_RESULT enum status tls_client_load(const struct tls_client_settings *settings, struct wall now,
                                         struct tls_client **out, struct error *error);
struct tls_client *tls_client_ref(struct tls_client *client);  // any thread; NULL is harmless
void tls_client_unref(struct tls_client *client);              // the same

// A session over a socket that is connected, or connecting, to `host`: a name, which is sent along (SNI), or an address of
// IPv4 or IPv6. The other side's certificate has to be for it. Takes its own reference of the client; the socket stays the
// caller's. NULL when memory is short. Go on with tls_session_handshake; what it says of a failure is written for people.
struct tls_session *tls_client_session(struct tls_client *client, const char *host, int fd);
