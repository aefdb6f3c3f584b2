// Records after the handshake. OpenSSL shakes hands; then its object, 14 KB of state for what might still come, gives way to
// this: two keys and two counters. TLS 1.3 with all its suites, and those of 1.2 that are AEAD; who negotiated another stays
// with OpenSSL. Source: RFC 8446 sections 5, 4.6.3, 7.2, 7.3; RFC 5246 sections 6.2.3.3, 6.3; RFC 5288; RFC 7905.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "base/span.h"

enum {
  RECORD_HEADER = 5,
  RECORD_PLAIN_MAX = 16 * 1024,
  RECORD_OVERHEAD = RECORD_HEADER + 8 + 1 + 16,     // header, the nonce of 1.2, the type of 1.3, tag
  RECORD_BODY_MAX = RECORD_PLAIN_MAX + 1 + 16 + 8,  // that we open: more is no record of these suites
  SECRET_MAX = 48,
};

enum record_type { RECORD_CHANGE_CIPHER = 20, RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };

// Alerts (RFC 8446 section 6) that are sent or looked at here.
enum record_alert {
  ALERT_CLOSE_NOTIFY = 0,
  ALERT_UNEXPECTED_MESSAGE = 10,
  ALERT_BAD_RECORD_MAC = 20,
  ALERT_RECORD_OVERFLOW = 22,
  ALERT_DECODE_ERROR = 50,
  ALERT_INTERNAL_ERROR = 80,
  ALERT_USER_CANCELED = 90,
  ALERT_NO_RENEGOTIATION = 100,
};

// The algorithms, fetched once: looking them up takes longer than using them.
struct record_suites {
  EVP_CIPHER *aes_128_gcm, *aes_256_gcm, *chacha20_poly1305;
  EVP_MD *sha256, *sha384;
};
bool record_suites_init(struct record_suites *suites);  // false: memory is short; deinit in any case
void record_suites_deinit(struct record_suites *suites);

// What 1.3 lets one see of a handshake: the first application secrets, and how many records were sent with them by then.
struct record_secrets {
  uint8_t in[SECRET_MAX], out[SECRET_MAX];
  uint8_t in_size, out_size;
  uint64_t sent;
};

struct records;

// Takes over from a handshake that is done. NULL: it cannot (another suite, memory is short); OpenSSL goes on. `secrets`:
// of 1.3.
struct records *records_take_over(SSL *ssl, const struct record_suites *suites, const struct record_secrets *secrets);
void records_free(struct records *records);  // wipes; NULL is harmless

bool records_are_1_3(const struct records *records);
size_t records_plain_max(const struct records *records);  // of what is sealed: the peer may have asked for small ones

// A record of the two parts, at most records_plain_max together, in `out`, which has room for RECORD_OVERHEAD more. Returns
// its size; 0: OpenSSL has failed.
size_t record_seal(struct records *records, enum record_type type, const struct span parts[2], uint8_t *out);

// Opens a whole record where it lies. *out lies in it. `alert`: what is wrong with it, when false.
bool record_open(struct records *records, uint8_t *record, size_t size, enum record_type *out_type, struct span *out,
                 enum record_alert *out_alert);

// 1.3: the next key of a direction. False: OpenSSL has failed.
bool records_update_in(struct records *records);
bool records_update_out(struct records *records);
bool records_worn(const struct records *records);  // so much was sealed that the key should change

// How many records that is, instead of 2^23: for tests.
void records_wear(struct records *records, uint32_t after);
