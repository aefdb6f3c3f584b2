// SCRAM-SHA-256, the server's side of one exchange: messages and proofs, without channel binding. Draws no random numbers
// and looks up no users. Source: RFC 5802, RFC 7677.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/passwords.h"
#include "base/span.h"

enum {
  SCRAM_KEY_SIZE = 32,
  SCRAM_MIN_ITERATIONS = 4096,  // RFC 7677, section 4
  SCRAM_ITERATIONS = 15000,     // of new verifiers; the client has to make as many at each CONNECT
  SCRAM_MAX_MESSAGE = 4096,
  SCRAM_MAX_NONCE = 512,
};

// What a server keeps of a password (RFC 5802, section 3), which is prepared here (auth/saslprep.h; what cannot be prepared
// is taken as it is, so that a comparison takes its time). Salt and iterations of *verifier are given, its keys are made.
// False: memory is short.
bool scram_make_keys(struct span password, struct scram_verifier *verifier);

struct scram;

struct scram *scram_create(void);      // NULL: memory is short
void scram_free(struct scram *scram);  // wipes; NULL is harmless

// Each returns NULL when it is done, else why not: a static text, after which the exchange is over. In this order:

// Client-first. The user's name is prepared.
const char *scram_take_first(struct scram *scram, struct span message);
struct span scram_user(const struct scram *scram);

// Server-first. `nonce` is ours: printable ASCII without ','. The verifiers share salt and iterations; a copy is kept. *out
// is the exchange's.
const char *scram_challenge(struct scram *scram, const struct scram_verifier *verifiers, size_t count, struct span nonce,
                            struct span *out);

// Client-final: its proof must fit one of the verifiers. Then *out is the server-final, the exchange's.
const char *scram_take_final(struct scram *scram, struct span message, struct span *out);
