// The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): a header that a load balancer sends before the
// client's bytes, so that the broker knows who the client is. Pure: the caller keeps what has arrived and asks again.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum {
  PROXY_MAX_V1 = 107,        // with its CRLF
  PROXY_MAX_V2 = 16 + 4096,  // the protocol allows 64 KiB; nobody sends that, and it has to be buffered
  PROXY_MAX_TEXT = 128,      // of proxy_format_source, with its NUL
  PROXY_UNIX_PATH = 108,
};

enum proxy_result { PROXY_INCOMPLETE, PROXY_OK, PROXY_INVALID };

// Where the client's connection came from.
struct proxy_source {
  enum proxy_family {
    PROXY_UNKNOWN,  // the proxy's own connection (health checks), or a transport without addresses: use the socket's address
    PROXY_IPV4,
    PROXY_IPV6,
    PROXY_UNIX,
  } family;
  uint16_t port;               // of the client, IP only
  uint8_t address[16];         // network order; IPv4 uses the first four
  char path[PROXY_UNIX_PATH];  // Unix only, NUL-terminated unless it fills the array
};

// Reads the header at the front of `in`. Incomplete: call again with more bytes. OK: `out_size` bytes belong to the header.
// Invalid: there is no PROXY header, or a wrong one; close. The header's additional fields (TLVs) are skipped.
enum proxy_result proxy_parse(struct span in, size_t *out_size, struct proxy_source *out_source);

// Writes "192.0.2.1:4711", "[2001:db8::1]:4711", "unix:/path" or "unknown", NUL-terminated; returns its length.
size_t proxy_format_source(const struct proxy_source *source, char out[PROXY_MAX_TEXT]);
