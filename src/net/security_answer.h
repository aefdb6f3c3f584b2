// What decides about a client that wants in, and the decision: the part of net/authenticator.c that has neither threads,
// queues nor clocks.
//
//   AUTH_CERT      the transport has seen a certificate. Its name, by the gate's pattern, is the user
//   AUTH_PSK       the transport has used a pre-shared key. Its identity is the user
//   AUTH_JWT       the password looks like a token
//   AUTH_PASSWORD  there are a user name and a password, which does not look like a token, or the gate takes none
//   AUTH_SCRAM     the client has named a method of enhanced authentication; then the others do not count
#pragma once

#include <stdbool.h>

#include "base/clock.h"
#include "core/authentication.h"
#include "net/authenticator.h"

struct auth_choice {
  enum { CHOICE_METHOD, CHOICE_ANONYMOUS, CHOICE_REFUSED } kind;
  enum auth_method method;  // CHOICE_METHOD
  enum mqtt_reason reason;  // CHOICE_REFUSED
  const char *why;          // the same; static
};

// The first of the gate's methods that the client has shown something for.
struct auth_choice auth_choose(const struct gate *gate, const struct authentication *asked,
                               const struct auth_origin *origin);

// Works it out: fills in the answer. Takes as long as the method does; any thread. `asked->enhanced` stays, whatever the
// answer.
void auth_decide(const struct auth_choice *choice, const struct auth_origin *origin, struct wall now,
                 struct authentication *asked);

// A refusal with nothing more to it.
void auth_refuse(struct authentication *asked, enum mqtt_reason reason, const char *why);
