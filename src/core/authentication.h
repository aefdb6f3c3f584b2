// What a shard asks about a client that wants in, and the answer. The shard does not wait: the connection is paused, others go on. Whoever drives the shard
// takes questions (shard_next_authentication), has them answered, and hands the same struct back (shard_authenticated). On the heap; moves.
#pragma once

#include <stdbool.h>
#include <stdint.h>

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
  uint8_t *answer;                  // enhanced: for AUTH or CONNACK; heap
  size_t answer_size;

  // ---- Of whoever has it
  struct authentication *next;
  void *driver;
};

// Frees what it holds. `enhanced` must have been taken away. NULL is harmless.
void authentication_free(struct authentication *authentication);
