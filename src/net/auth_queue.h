// The questions that wait for a thread of net/authenticator.c, and whose turn it is. Bounded. Guarded by its owner's lock.
//
// What is quick (a token, a step of an exchange) waits in order. Passwords wait in lanes, one for each place that they come
// from, whose turn it is one after the other: many from one place do not hold up those from others.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "auth/backoff.h"
#include "base/list.h"
#include "base/map.h"
#include "core/authentication.h"
#include "net/authenticator.h"
#include "net/security_answer.h"

// A question that waits.
struct auth_job {
  struct link link;
  struct authentication *asked;
  struct gate *gate;             // a reference
  const struct identity *shown;  // its facts are those of the certificate; NULL: none
  struct backoff_source source;
  struct auth_choice choice;
  uint64_t asked_ms;
  uint8_t loop;
};

struct auth_queue {
  uint32_t most;  // of the quick ones, and of passwords
  uint64_t seed;
  struct link quick;  // in order
  uint32_t quick_count;
  struct link lanes;  // the one whose turn it is comes first
  struct map lane_map;
  uint32_t password_count;
};

// `asked` stays the caller's. NULL when memory is short.
struct auth_job *auth_job_create(uint8_t loop, struct authentication *asked, const struct auth_origin *origin,
                                 const struct auth_choice *choice, struct mono now);
void auth_job_free(struct auth_job *job);

void auth_queue_init(struct auth_queue *queue, uint32_t most, uint64_t seed);
void auth_queue_deinit(struct auth_queue *queue);  // which is empty

// False: there is no room, or memory is short; passwords from one place take at most half of the room.
bool auth_queue_add(struct auth_queue *queue, struct auth_job *job);

// The caller's from then on; NULL: none waits.
struct auth_job *auth_queue_next_quick(struct auth_queue *queue);
struct auth_job *auth_queue_next_password(struct auth_queue *queue);
