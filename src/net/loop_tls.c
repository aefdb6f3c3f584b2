// What connections with TLS need of their loop besides: coming from the handshaker, and being looked over when a CRL is new.

#include "net/gate.h"
#include "net/loop_internal.h"
#include "tls/session.h"

enum { CHECKS_PER_TURN = 256 };  // a microsecond or so each

// ---- From the handshaker

void loop_tls_arrive(struct loop *loop, struct transport *transport)
{
  struct transport *before = atomic_load_explicit(&loop->arrived, memory_order_relaxed);
  do transport->next_dead = before;
  while (!atomic_compare_exchange_weak(&loop->arrived, &before, transport));
  loop_wake(loop);
}

void loop_tls_take_arrived(struct loop *loop)
{
  if (!atomic_load_explicit(&loop->arrived, memory_order_relaxed)) return;
  struct transport *first = NULL;
  for (struct transport *last = atomic_exchange(&loop->arrived, NULL), *next; last; last = next) {
    next = last->next_dead;
    last->next_dead = first;
    first = last;
  }
  for (struct transport *next; first; first = next) {
    next = first->next_dead;
    loop_open(loop, first);
  }
}

// ---- Revoked certificates

static void report(struct loop *loop, const struct transport *transport)
{
  struct tls_facts facts;
  tls_session_facts(transport->layers->tls, &facts);
  LOG(&loop->log, loop->now, LOG_WARNING, facts.psk_identity ? "pre_shared_key_gone" : "certificate_revoked",
      FIELD_TEXT("address", transport->address), FIELD_TEXT("listener", transport->listener->url));
}

// A client whose certificate or key the listener's gate would refuse now is told so and goes.
static void check(struct loop *loop, struct transport *transport)
{
  struct layers *layers = transport->layers;
  uint32_t generation = atomic_load(&transport->listener->gate_generation);
  if (layers->generation == generation) return;
  layers->generation = generation;
  struct gate *gate = listener_gate(transport->listener);
  bool revoked = gate && gate->credentials && tls_session_revoked(layers->tls, gate->credentials);
  gate_unref(gate);
  if (!revoked) return;
  loop->counters.tls_revoked++;
  report(loop, transport);
  shard_disconnect(loop->shard, transport->connection, MQTT_NOT_AUTHORIZED);
}

void loop_tls_check_all(struct loop *loop)
{
  loop->unchecked = loop->secure_count;
}

// So many in a turn that nobody else waits for it.
void loop_tls_check_some(struct loop *loop)
{
  for (unsigned i = 0; i < CHECKS_PER_TURN && loop->unchecked > 0; i++) {
    struct link *link = list_take_first(&loop->secure);
    if (!link) {
      loop->unchecked = 0;
      return;
    }
    list_append(&loop->secure, link);
    loop->unchecked--;
    check(loop, CONTAINER_OF(link, struct layers, secure)->transport);
  }
}

// ---- Coming and going

void loop_tls_join(struct loop *loop, struct transport *transport)
{
  struct layers *layers = transport->layers;
  if (!layers->tls) return;
  list_append(&loop->secure, &layers->secure);
  loop->secure_count++;
  check(loop, transport);  // the gate may have changed while it was on its way
}

void loop_tls_leave(struct loop *loop, struct transport *transport)
{
  struct layers *layers = transport->layers;
  if (!layers->tls || link_idle(&layers->secure)) return;
  list_remove(&layers->secure);
  loop->secure_count--;
}

bool loop_tls_busy(const struct loop *loop)
{
  return loop->unchecked > 0 || atomic_load(&loop->arrived);
}
