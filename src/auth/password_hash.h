// The hashes of a password file (auth/passwords.h): read, checked against limits, compared with a password. Any thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/span.h"

enum stored_kind {
  STORED_ARGON2ID,       // $argon2id$v=19$m=19456,t=2,p=1$salt$key, base64 without padding
  STORED_PBKDF2_SHA512,  // $7$iterations$salt$key, base64 with padding, as all below
  STORED_SHA512,         // $6$salt$key: SHA-512 of password and salt
  STORED_SCRAM_SHA256,   // $scram-sha-256$iterations$salt$stored key$server key
};

// What a line of a file may cost whoever verifies against it: some seconds at the very most.
enum {
  STORED_MAX_SALT = 64,
  STORED_MAX_KEY = 64,
  STORED_MAX_MEMORY_KIB = 256 * 1024,
  STORED_MAX_PASSES_KIB = 4 * 1024 * 1024,  // memory times passes
  STORED_MAX_LANES = 16,
  STORED_MAX_ITERATIONS = 10 * 1000 * 1000,
};

struct stored_password {
  enum stored_kind kind;
  uint32_t iterations;         // passes of argon2id; 1 for $6$
  uint32_t memory_kib, lanes;  // of argon2id, else 0
  uint8_t salt_size, key_size;
  uint8_t salt[STORED_MAX_SALT];
  uint8_t key[STORED_MAX_KEY];  // of SCRAM, the stored key
  uint8_t server_key[32];       // of SCRAM
};

// ERR_INVALID: not a hash that is known, or one that costs too much; the error says what is allowed.
CHECK_RESULT enum status stored_password_parse(struct span text, struct stored_password *out, struct error *error);

// As in a file. NUL-terminated, heap; NULL: memory is short.
char *stored_password_format(const struct stored_password *stored);

enum stored_match { STORED_SAME, STORED_DIFFERENT, STORED_NO_MEMORY };
enum stored_match stored_password_verify(const struct stored_password *stored, struct span password);

// Orders by kind and cost; 0: a comparison takes as long with the one as with the other.
int stored_password_compare_cost(const struct stored_password *a, const struct stored_password *b);

// Sets salt and key of *stored to random bytes: nobody has the password to it. Its kind, costs and sizes stay.
void stored_password_randomise(struct stored_password *stored);
