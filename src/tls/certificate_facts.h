// What a certificate says of its owner, as facts of an identity (core/identity.h).
#pragma once

#include <openssl/x509.h>

#include "core/identity.h"

// One block of memory: free() it.
struct certificate_facts {
  size_t count;
  struct identity_fact facts[];
};

// "cert.cn", "cert.ou", "cert.o", "cert.san_dns", "cert.san_uri", "cert.san_email", "cert.serial" (hexadecimal, as OpenSSL
// prints it), "cert.fingerprint" (SHA-256, hexadecimal). Names may come several times, in the certificate's order. What is
// not UTF-8, or holds control characters, is no fact: it could look like something else. NULL when memory is short.
struct certificate_facts *certificate_facts(X509 *certificate);
