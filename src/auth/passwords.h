// The password file: who may come in with a password. One line per user, "#" begins a comment:
//
//   user:hash[:until=2026-12-31T23:59:59Z][:groups=a,b]     several lines for one user: several passwords hold at a time
//
// Hashes: argon2id ("$argon2id$v=19$..."), and Mosquitto's: PBKDF2-SHA512 ("$7$iterations$salt$hash") and "$argon2id$" as it
// writes it; its salted SHA-512 ("$6$salt$hash") too. Also a SCRAM-SHA-256 verifier
// ("$scram-sha-256$iterations$salt$stored$server"), against which a plain password can be checked as well. The lines
// themselves: auth/password_line.h; the hashes: auth/password_hash.h. Source: RFC 9106, RFC 8018, RFC 5802, RFC 7677.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/span.h"

struct passwords;  // immutable, reference-counted

enum {
  PASSWORDS_PER_USER = 8,  // lines; each of them costs a hash when a wrong password is shown
  PASSWORDS_MAX_FILE_BYTES = 1 << 26,
};

// ERR_INVALID: the error says file, line, and what would be right.
CHECK_RESULT enum status passwords_load(const char *path, struct passwords **out, struct error *error);
CHECK_RESULT enum status passwords_parse(struct span text, const char *name, struct passwords **out, struct error *error);
struct passwords *passwords_ref(struct passwords *passwords);  // any thread; NULL is harmless
void passwords_unref(struct passwords *passwords);             // the same

size_t passwords_users(const struct passwords *passwords);

bool passwords_know(const struct passwords *passwords,
                    struct span user);  // whatever its passwords, and whether they hold yet

enum password_answer {
  PASSWORD_RIGHT,
  PASSWORD_WRONG,  // or right once, until its not-after
  PASSWORD_UNKNOWN_USER,
  PASSWORD_FAILED,  // memory is too short for the hash: says nothing about the password
};

// Takes tens of milliseconds, and as long for a user that is not in the file: a hash of the kind and cost that most lines
// have. Any thread.
enum password_answer passwords_verify(const struct passwords *passwords, struct span user, struct span password,
                                      struct wall now);

// Of a user; the file's, NULL-terminated array; NULL: none.
const char *const *passwords_groups(const struct passwords *passwords, struct span user);

struct scram_verifier {
  uint32_t iterations;
  uint8_t salt[64];
  size_t salt_size;
  uint8_t stored_key[32], server_key[32];
};
// The verifiers of a user that hold now; all in out[] share one salt and number of iterations, which a client is told before
// it proves anything: those of the line that holds longest. Returns how many. 0: the user has none; then out[0] is one that
// no password fits, made from `secret`, the same each time for the same user.
size_t passwords_scram(const struct passwords *passwords, struct span user, struct span secret, struct wall now,
                       struct scram_verifier out[PASSWORDS_PER_USER]);

// ---- Making lines (skerry passwd)

enum password_kind { PASSWORD_ARGON2ID, PASSWORD_SCRAM };

// A hash, as it stands in the file. NUL-terminated, heap. argon2id costs what OWASP advises: 19 MiB, two passes. `like` is
// the hash of the user's password before: a new SCRAM verifier takes over its salt and iterations if it is one as well, so
// that both can hold at a time; empty: a new salt. ERR_INVALID: the password is empty, or has what SCRAM does not allow
// (auth/saslprep.h).
CHECK_RESULT enum status password_hash(enum password_kind kind, struct span password, struct span like, char **out,
                                       struct error *error);
