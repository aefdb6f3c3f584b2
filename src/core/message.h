// An application message inside the broker: immutable, reference-counted, one allocation. Made once per PUBLISH and shared
// by every queue, every in-flight window, the retained store and other shards.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/clock.h"
#include "base/pool.h"
#include "base/span.h"
#include "mqtt/packet.h"

struct message {
  _Atomic uint32_t refs;
  uint32_t payload_size;
  uint32_t properties_size;
  uint16_t topic_size;
  uint8_t qos;      // as published
  bool retain;      // as published, for retain as published
  bool shared;      // has been mailed: other threads hold references, so counting must be atomic
  uint8_t home;     // the shard whose pool it came from and goes back to
  uint32_t time_s;  // when it was received: monotonic seconds, low bits
  union {
    uint64_t topic_hash;
    struct message *next_home;  // freed, on its way home
  };
  uint64_t origin;     // hash of the publisher's client identifier, 0: the broker. For no local
  uint64_t expiry_ms;  // monotonic time from which on it is expired; 0: never
  // Topic with its two-byte length as on the wire, payload, then the properties that are forwarded: at QoS 0 without
  // properties the first two are one copy.
  uint8_t body[];
};

static inline struct span message_topic(const struct message *message)
{
  return span_of(message->body + 2, message->topic_size);
}

static inline struct span message_payload(const struct message *message)
{
  return span_of(message->body + 2 + message->topic_size, message->payload_size);
}

static inline struct span message_properties(const struct message *message)
{
  return span_of(message->body + 2 + message->topic_size + message->payload_size, message->properties_size);
}

// What it weighs in queues and budgets.
static inline size_t message_size(const struct message *message)
{
  return sizeof *message + 2 + message->topic_size + (size_t)message->payload_size + message->properties_size;
}

static inline bool message_expired(const struct message *message, struct mono now)
{
  return message->expiry_ms && now.ms >= message->expiry_ms;
}

struct message_parts {
  struct span topic;
  struct span payload;
  struct span raw_properties;  // of the PUBLISH or the will, as received; only what is forwarded is kept
  uint64_t topic_hash;
  uint64_t origin;
  uint64_t expiry_ms;
  uint8_t qos;
  bool retain;
};

// One reference, the caller's. NULL when memory is short.
struct message *message_create(struct pool *pool, const struct message_parts *parts);

// Before a message leaves its thread. When it has left before, other threads may be reading the flag: it is not written
// again.
static inline void message_share(struct message *message)
{
  if (!message->shared) message->shared = true;
}

static inline void message_ref(struct message *message, uint32_t count)
{
  if (message->shared)
    atomic_fetch_add_explicit(&message->refs, count, memory_order_relaxed);
  else
    atomic_store_explicit(&message->refs, atomic_load_explicit(&message->refs, memory_order_relaxed) + count,
                          memory_order_relaxed);
}

// Back to its pool; when that is another shard's, it waits in a chain to be mailed there: otherwise each message that
// crosses shards would cost both sides a lock in malloc.
void message_free(struct pool *pool, struct message *message);

// A chain that came home.
void message_free_chain(struct pool *pool, struct message *first);

static inline void message_unref(struct pool *pool, struct message *message)
{
  uint32_t refs = atomic_load_explicit(&message->refs, memory_order_acquire);
  if (refs > 1) {
    if (!message->shared) {
      atomic_store_explicit(&message->refs, refs - 1, memory_order_relaxed);
      return;
    }
    if (atomic_fetch_sub_explicit(&message->refs, 1, memory_order_acq_rel) > 1) return;
  }
  message_free(pool, message);
}
