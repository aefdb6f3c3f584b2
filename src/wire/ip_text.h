// IP addresses as text, without the system's resolver: only literals, only their usual forms (RFC 4291 section 2.2, written
// as RFC 5952 section 4 wants).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum { IPV4_SIZE = 4, IPV6_SIZE = 16, IP_TEXT_SIZE = 46 };

bool ipv4_parse(struct span text, uint8_t out[IPV4_SIZE]);

// Without a zone ("%eth0") and without brackets.
bool ipv6_parse(struct span text, uint8_t out[IPV6_SIZE]);

// NUL-terminated; return the length.
size_t ipv4_format(const uint8_t address[IPV4_SIZE], char out[IP_TEXT_SIZE]);
size_t ipv6_format(const uint8_t address[IPV6_SIZE], char out[IP_TEXT_SIZE]);
