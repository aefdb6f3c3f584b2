// What MQTT owes to whom: dumb lists of everything that was published, subscribed and delivered, with the instants at which
// it may and at which it must have taken effect. The shards of a broker work concurrently, so some things are open: a
// message that is published while somebody subscribes may or may not reach him. Every effect therefore has two ends: not
// before `taken` or `start`, surely from `effective` or `end` on. What lies between is allowed and not demanded; everything
// else is decided.
//
// Instants are ticks: the world counts one up before everything it does.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mqtt/packet.h"
#include "trial.h"
#include "vector.h"

struct broker;
struct client;
struct link;
struct world;

enum { SIM_SHARDS = 4, SIM_CLIENTS = 16, SIM_TOPICS = 20, SIM_FILTERS = 24, SIM_GROUPS = 2, SIM_IDS = 8 };

// An instant as one shard sees it: how many mails of each other shard had reached it by then.
struct moment {
  uint64_t tick;
  uint64_t ms;
  uint64_t mails[SIM_SHARDS];
};

// What an author wrote. Lives as long as the world.
struct message {
  uint32_t id;            // in the payload: how a copy is recognised
  struct client *author;  // NULL: the broker
  uint8_t topic;          // index into the world's topics
  uint8_t qos;
  bool retain;
  bool empty;  // no payload, hence no id: clears a retained message
  bool is_will;
  bool probe;         // sent when all is well: owed at QoS 0 too
  uint8_t flavour;    // which properties it has, see message_properties
  uint32_t expiry_s;  // 0: none
  uint16_t payload_size;
  struct publication *publications;  // newest first
  VECTOR(struct copy *) copies;
};

// One receipt of a message by a broker. A message that its author had to send again has several.
struct publication {
  struct message *message;
  struct publication *older;
  struct broker *broker;
  uint64_t sequence;  // in the order in which the broker took them, from 1
  uint8_t shard;
  struct moment start;        // not before
  uint64_t end, end_ms;       // by now routed by its shard and mails made, if at all; NEVER: not known
  uint64_t need[SIM_SHARDS];  // mails from its shard which the other shard has read when it has surely seen this one
  bool doubtful;              // perhaps a repetition that is not delivered again
  bool refused;               // it never took place: refused, or a will that was cancelled
};

struct subscription {
  struct session *session;
  uint8_t filter;  // index into the world's filters
  uint8_t group;   // 0: not shared
  uint8_t qos;
  bool no_local, retain_as_published;
  uint8_t retain_handling;
  bool is_new;          // the session had no such subscription
  uint32_t id;          // 0: none
  struct moment taken;  // not effective before
  uint64_t effective;   // SUBACK was written; NEVER: not yet, or the connection ended before
  bool failed;
  struct moment end;  // may have ended from here on (tick NEVER: no)
  uint64_t ended;     // surely ended
};

// One copy of a message for one session: what the broker wrote, and what became of it.
struct copy {
  struct message *message;
  struct session *session;
  uint8_t qos;
  uint8_t group;   // 0: not by a shared subscription
  uint8_t filter;  // of the shared subscription
  bool retain;
  unsigned times_read;   // by the client
  unsigned times_taken;  // by the application: QoS 2 repeats are filtered out
  struct link *last_link;
  uint16_t packet_id;
  enum { COPY_OPEN, COPY_RECEIVED, COPY_DONE } state;  // RECEIVED: PUBREC was taken
};

struct session {
  struct client *client;
  struct broker *broker;
  uint32_t number;
  bool gone;
  struct link *link;  // NULL: not connected
  uint8_t shard;
  uint32_t expiry_s;
  uint64_t closed_lo_ms, closed_hi_ms;
  unsigned connections;  // how often it lost its connection: what shared subscriptions may redistribute
  VECTOR(struct subscription *) subscriptions;
  VECTOR(struct copy *) copies;
  VECTOR(struct copy *) open;           // QoS 1 and 2 written and not acknowledged, in the order of their first writing
  struct message *incoming[256];        // QoS 2 from the client, by packet identifier
  uint64_t last_sequence[SIM_CLIENTS];  // per author: the receipt that was delivered last
};

struct will {
  struct message *message;
  struct publication *publication;
  struct session *session;
  uint8_t shard;
  uint64_t due_lo_ms, due_hi_ms;  // sent at an instant between; due_hi NEVER: not certain to be sent
  bool cancelled;
  bool doubtful;      // perhaps not sent: a DISCONNECT may have come in time
  bool reconnecting;  // the client's next CONNECT was taken: the session may end, and the will be due, at once
};

// ---- Messages

struct message *model_message(struct world *world, struct client *author);

// The payload and the properties that every copy must have. `scratch` holds them, 2048 bytes.
struct span message_payload(const struct message *message, uint8_t *scratch);
void message_properties(const struct message *message, uint8_t *scratch, struct mqtt_properties *out);

// Whether a PUBLISH with this message may be larger than a client's maximum packet size (0: none): such copies are dropped.
bool message_may_exceed(const struct world *world, const struct message *message, uint32_t maximum_packet_size);

// The message whose id the payload names; NULL when there is none.
struct message *model_find(struct world *world, struct span payload);

// ---- What brokers take (called by tap.c, in this order)

struct moment model_moment(const struct broker *broker, uint8_t shard);  // now
struct publication *model_publication(struct broker *broker, uint8_t shard, struct message *message, struct moment at);

// The shard has surely processed it: its mails are made.
void publication_processed(struct publication *publication);

// ---- Judgements

// Of two QoS.
static inline unsigned smaller(unsigned a, unsigned b)
{
  return a < b ? a : b;
}

bool subscription_matches(const struct world *world, const struct subscription *subscription, const struct message *message);
bool subscription_may_get(const struct subscription *subscription, const struct publication *publication);
bool subscription_must_get(const struct subscription *subscription, const struct publication *publication);

// Whether the publication may be, or surely is, the value that the subscription was sent as retained.
bool retained_may(const struct world *world, const struct subscription *subscription, const struct publication *publication);
bool retained_must(const struct world *world, const struct subscription *subscription,
                   const struct publication *publication);

// ---- Sessions

bool session_may_be_gone(const struct session *session, uint64_t now_ms);
bool session_surely_gone(const struct session *session, uint64_t now_ms, uint64_t lag_ms);
struct session *model_session_begin(struct client *client, struct link *link);
void model_session_end(struct session *session);
void model_session_free(struct session *session);

// ---- Wills

// The connection has ended, or may have, without a DISCONNECT: its will is due between these times after its delay.
void model_will_due(struct link *link, uint64_t lo_ms, uint64_t hi_ms);

// CONNECT of the same client was taken: from here on its wills may be sent or cancelled.
void model_will_connecting(struct link *link);

// The outcome: wills that wait are cancelled (it resumes the session) or due at once.
void model_will_reconnect(struct link *link, bool resumed);
