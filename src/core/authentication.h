// What a shard asks about a client that wants in, and the answer. The shard does not wait: the connection is paused, others
// go on. Whoever drives the shard takes questions (shard_next_authentication), has them answered, and hands the same struct
// back (shard_authenticated). On the heap; moves.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/span.h"
#include "core/identity.h"
#include "mqtt/reason.h"

struct enhanced;  // an exchange of AUTH packets (auth/enhanced.h), opaque here

struct authentication {
  // ---- The question. Spans point into `bytes`.
  uint64_t ticket;
  void *transport;  // the driver's; of the connection, which may be gone when the answer comes
  uint8_t version;  // enum mqtt_version
  bool again;       // re-authentication of a client that is in (AUTH 0x19)
  bool has_user, has_password;
  struct span client_id, user, password;
  struct span method, data;   // enhanced authentication (5.0 section 4.12); method.size 0: none
  struct enhanced *enhanced;  // NULL at first; goes back and forth with the answers
  uint8_t *bytes;             // heap; wiped before it is freed
  size_t size;

  // ---- The answer
  enum mqtt_reason reason;          // MQTT_SUCCESS, MQTT_CONTINUE_AUTHENTICATION, or why not
  const char *why;                  // static, for the log; NULL: nothing to say
  const struct identity *identity;  // with MQTT_SUCCESS; a reference
  struct mono expires;              // with MQTT_SUCCESS: identity->expires_ms on the monotonic clock; 0: never
  uint8_t *answer;                  // enhanced: for AUTH or CONNACK; heap
  size_t answer_size;

  // ---- Of whoever has it
  struct authentication *next;
  void *driver;
};

// A question with its own copy of everything that the spans of `parts` refer to, and without an answer. NULL when memory is
// short.
struct authentication *authentication_create(const struct authentication *parts);

// Frees what it holds, and wipes it. `enhanced` must have been taken away. NULL is harmless.
void authentication_free(struct authentication *authentication);

// What a connection has shown so far: its identity, and what is left to be told to it. Goes along when the connection moves
// to another shard (connection_take_admission, connection_origin.admission).
struct admission;

void admission_free(struct admission *admission);  // of a connection that nobody takes. NULL is harmless
