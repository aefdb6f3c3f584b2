// Who may come in by a listener, and how: its TLS, the ways to authenticate and what they check against. Immutable; what
// changes (a reload, a new certificate) is a new gate, so that all of it changes as one. Reference-counted, by any
// thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/jwt.h"
#include "auth/passwords.h"
#include "base/references.h"
#include "tls/credentials.h"

enum auth_method { AUTH_CERT, AUTH_PASSWORD, AUTH_JWT, AUTH_SCRAM, AUTH_PSK, AUTH_METHODS };

const char *auth_method_name(enum auth_method method);  // "cert"; as in the configuration

struct gate {
  struct references references;
  char *name;                              // of the listener, for rules and logs
  struct tls_credentials *credentials;     // NULL: no TLS
  bool anonymous;                          // clients that show nothing may come in
  enum auth_method methods[AUTH_METHODS];  // tried in this order: the first that applies decides
  uint8_t method_count;
  char *identity;               // pattern for AUTH_CERT: see auth/certificate_name.h
  struct passwords *passwords;  // NULL: none
  struct jwt_keys *jwt;         // NULL: none
  uint8_t secret[32];           // the broker's own
};

struct gate *
gate_create(void);  // one reference, all empty; filled by the caller, who passes its references of what is in it
struct gate *gate_ref(struct gate *gate);
void gate_unref(struct gate *gate);  // NULL is harmless; wipes

// Whether somebody who has shown by this method ("password": see struct identity) to be the user may stay: not when it was a
// password, and the file does not have that user any more.
bool gate_knows(const struct gate *gate, const char *method, struct span user);
