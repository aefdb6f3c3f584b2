// SHA-1 (FIPS 180-4, section 6.1), for one use only: the WebSocket handshake asks for it by name (RFC 6455, section 4.2.2),
// as a proof that the peer speaks WebSocket and not as a protection. Never use it where an attacker gains by a collision.
// Written here so that a broker without TLS needs no crypto library.
#pragma once

#include <stdint.h>

#include "base/span.h"

enum { SHA1_SIZE = 20 };

void sha1(struct span message, uint8_t out_digest[SHA1_SIZE]);
