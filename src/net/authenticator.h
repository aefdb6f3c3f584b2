// Answers the questions of shards (core/authentication.h) by what a gate says. What costs next to nothing (certificates,
// pre-shared keys, nobody) is answered where it is asked; tokens and exchanges go to one thread, passwords to others,
// because hashing takes tens of milliseconds. Both queues are bounded, and who guesses waits (auth/backoff.h). Passwords
// have their turn by address, so that many from one place do not delay the one from another.
//
// Which way decides, for a client that names no method of enhanced authentication: the first of the gate's that the client
// shows something for (net/security_answer.h). Whether that is right comes after. A client that names a method has it decide
// alone.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/authentication.h"
#include "core/identity.h"
#include "net/gate.h"

struct authenticator;

enum {
  AUTHENTICATOR_THREADS_MAX = 4,     // that hash
  AUTHENTICATOR_QUESTIONS = 1000,    // that may wait, if nothing else is set
  AUTHENTICATOR_PATIENCE_MS = 10000  // the same, how long
};

enum auth_refusal {
  AUTH_REFUSED_CREDENTIALS,     // 0x86: a password or token that does not do
  AUTH_REFUSED_NOT_AUTHORIZED,  // 0x87: nothing that the listener can check; an exchange or certificate that does not do
  AUTH_REFUSED_METHOD,          // 0x8C: a method of enhanced authentication that the listener does not have
  AUTH_REFUSED_BUSY,            // 0x89: a queue was full, the wait too long, or memory short
  AUTH_REFUSED_BACKOFF,         // 0x9F, before 5.0 0x88: too many wrong ones from there
  AUTH_REFUSED_OTHER,           // an exchange that breaks its rules
  AUTH_REFUSALS
};

// "credentials", "not_authorized", ...: the label of the metric.
const char *auth_refusal_name(enum auth_refusal refusal);

enum { HASH_BUCKETS = 12 };  // of authenticator_counters.hash_us: up to 1, 2, 4, ... 1024 ms, and more

struct authenticator_counters {
  uint64_t accepted[AUTH_METHODS];  // re-authentications too
  uint64_t accepted_anonymous;
  uint64_t refused[AUTH_REFUSALS];
  uint32_t waiting;          // questions in the queues
  uint32_t backoff_entries;  // addresses, and users at addresses, that are remembered
  uint64_t hash_count;       // passwords that were hashed
  uint64_t hash_us_sum;
  uint64_t hash_us[HASH_BUCKETS];
};

struct authenticator_settings {
  uint8_t threads;       // that hash, 1..AUTHENTICATOR_THREADS_MAX; 0: one for every two cores
  uint32_t questions;    // that may wait in each queue; half of them from one address. 0: AUTHENTICATOR_QUESTIONS
  uint32_t patience_ms;  // see authenticator_set_patience. 0: AUTHENTICATOR_PATIENCE_MS
  uint64_t seed;         // secret and random
  // authenticator_take has something for this loop. On threads of the authenticator.
  void (*news)(void *context, uint8_t loop);
  void *context;
  void (*clock)(struct mono *out_mono, struct wall *out_wall);  // NULL: the system's; tests have their own
};

// Threads start with the first question that needs them.
CHECK_RESULT enum status authenticator_create(const struct authenticator_settings *settings, struct authenticator **out,
                                              struct error *error);

// Ends the threads, after what each of them works on, and frees what is asked and not taken. The loops must not run any
// more. NULL is harmless.
void authenticator_destroy(struct authenticator *authenticator);

// ---- For loops

// What the transport knows of the client. Borrowed while authenticator_ask runs.
struct auth_origin {
  struct gate *gate;                  // the authenticator takes its own reference
  const char *address;                // "192.0.2.7:51234"
  const char *psk_identity;           // NULL: none
  const struct identity_fact *facts;  // of its certificate
  size_t fact_count;
};

// True: the answer is in `asked` already, hand it back to the shard. False: it comes by authenticator_take, on the same
// loop; until then it is the authenticator's. With MQTT_CONTINUE_AUTHENTICATION `asked->enhanced` goes back and forth; after
// every other answer it is NULL. When the client is let in again (asked->again) `asked->user` is who it is: somebody else is
// refused.
CHECK_RESULT bool authenticator_ask(struct authenticator *authenticator, uint8_t loop, struct authentication *asked,
                                    const struct auth_origin *origin);

struct authentication *authenticator_take(struct authenticator *authenticator, uint8_t loop);  // NULL: none

// Whether authenticator_take has something. Exact on the loop's thread, as far as it has been told by `news`.
bool authenticator_answered(const struct authenticator *authenticator, uint8_t loop);

// ---- For any thread

// What has waited longer than that is not worked on: its client has given up, or is about to. limits.connect_timeout.
void authenticator_set_patience(struct authenticator *authenticator, uint32_t patience_ms);

void authenticator_counters(struct authenticator *authenticator, struct authenticator_counters *out);
