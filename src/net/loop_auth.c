// Between a shard that asks who its clients are and the authenticator that answers. What can be said at once goes back at
// once.

#include <assert.h>

#include "net/gate.h"
#include "net/loop_internal.h"
#include "tls/session.h"

static bool answer_at_once(struct loop *loop, struct authenticator *authenticator, struct authentication *question)
{
  const struct transport *transport = question->transport;
  struct auth_origin origin = {.gate = listener_gate(transport->listener), .address = transport->address};
  if (!origin.gate) {
    question->reason = MQTT_SERVER_UNAVAILABLE;
    question->why = "the listener has become another while the client connected";
    return true;
  }
  struct tls_session *tls = transport_tls(transport);
  if (tls) {
    struct tls_facts facts;
    tls_session_facts(tls, &facts);
    origin.psk_identity = facts.psk_identity;
    origin.facts = facts.facts;
    origin.fact_count = facts.fact_count;
  }
  bool answered = authenticator_ask(authenticator, loop->number, question, &origin);
  gate_unref(origin.gate);
  return answered;
}

bool loop_auth_ask(struct loop *loop)
{
  bool any = false;
  for (struct authentication *question; (question = shard_next_authentication(loop->shard));) {
    struct authenticator *authenticator = atomic_load(&loop->net->authenticator);
    assert(authenticator);  // net_prepare was before the gate, and the gate before the connection
    if (!answer_at_once(loop, authenticator, question)) continue;
    any = true;
    shard_authenticated(loop->shard, question);
  }
  return any;
}

// An answer may be made of a password file that has another now. Who is already in is looked over when that holds
// (roll_review), and who comes in later here: on this thread it is the one or the other.
static void look_again(const struct loop *loop, struct authentication *answer)
{
  if (answer->reason != MQTT_SUCCESS || !shard_awaits(loop->shard, answer)) return;
  const struct transport *transport = answer->transport;
  struct gate *gate = listener_gate(transport->listener);
  bool known = !gate || gate_knows(gate, answer->identity->method, answer->identity->user);
  gate_unref(gate);
  if (known) return;
  answer->reason = MQTT_NOT_AUTHORIZED;
  answer->why = "the user was deleted while the client connected";
}

void loop_auth_take(struct loop *loop)
{
  struct authenticator *authenticator = atomic_load(&loop->net->authenticator);
  if (!authenticator) return;
  for (struct authentication *answer; (answer = authenticator_take(authenticator, loop->number));) {
    look_again(loop, answer);
    shard_authenticated(loop->shard, answer);
  }
}

bool loop_auth_waits(const struct loop *loop)
{
  const struct authenticator *authenticator = atomic_load(&loop->net->authenticator);
  return authenticator && authenticator_answered(authenticator, loop->number);
}
