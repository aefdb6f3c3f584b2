// What a shard counts. Written by its thread only; others ask for a snapshot by mail, so that every snapshot balances:
//
//   publish_received = publish_routed + publish_unrouted + the publish_refused of all reasons      (packets from clients)
//   copies           = delivered + copies_queued + copies_in_flight + expired + all dropped        (copies for subscribers)
//
// `publish_routed` counts a message once however many subscribers it has; a copy is one message for one session.
// A message from another shard, a will, a $SYS value or a retained one that is sent at SUBSCRIBE makes copies but is not
// `received`.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Why a copy was not delivered. The names in the metrics are those of drop_reason_name.
enum drop_reason {
  DROP_QUEUE_FULL,        // queue_messages or queue_bytes reached
  DROP_SLOW_CONSUMER,     // QoS 0 and output_bytes reached
  DROP_OFFLINE_QOS_0,     // QoS 0 for a session without a connection, or waiting when the connection ended
  DROP_PACKET_TOO_LARGE,  // the client's maximum packet size [MQTT-3.1.2-24, -25]
  DROP_SESSION_ENDED,     // still queued when the session ended
  DROP_MEMORY,            // memory_limit reached
  DROP_REFUSED,           // the subscriber answered PUBACK or PUBREC with a reason code of 0x80 or more
  DROP_QUEUE_AGE,         // waited for longer than queue_age
  DROP_DAMAGED,           // its record in the journal cannot be read any more
  DROP_NOT_AUTHORIZED,    // access control does not let the client receive it
  DROP_REASONS
};

// Why a PUBLISH from a client was not taken.
enum refuse_reason {
  REFUSE_MEMORY,          // memory_limit reached
  REFUSE_RETAINED_LIMIT,  // retained_messages or retained_bytes reached, and the client could be told
  REFUSE_TOPIC_LEVELS,    // more levels than topic_levels
  REFUSE_DUPLICATE,       // QoS 2 packet identifier already received: answered, not delivered again
  REFUSE_NOT_AUTHORIZED,
  REFUSE_JOURNAL,     // the journal is full or fails
  REFUSE_QUEUE_FULL,  // queue_drop is `reject` and a queue that it would go to is full
  REFUSE_REASONS
};

// What a client has run into, besides what the reasons above tell. The names in the metrics are those of limit_name.
enum limit {
  LIMIT_PACKET_SIZE,     // its connection ended
  LIMIT_IN_FLIGHT,       // the same
  LIMIT_TOPIC_LEVELS,    // a PUBLISH, a filter or a CONNECT (for its will) was refused
  LIMIT_SUBSCRIPTIONS,   // a filter was refused
  LIMIT_SESSION_EXPIRY,  // its session ends earlier than it has asked for
  LIMIT_MESSAGE_RATE,    // it was not read from for a while, or its connection ended
  LIMIT_BYTE_RATE,       // the same
  LIMITS
};

enum { ACCESS_VERBS = 3 };  // publish, subscribe, receive

struct counters {
  // gauges
  uint64_t connections, clients, sessions, subscriptions, shared_subscriptions;  // clients: connections past CONNECT
  uint64_t retained_messages, retained_bytes;
  uint64_t copies_queued, copies_in_flight, queued_bytes;
  uint64_t paused_connections;
  // since start
  uint64_t connections_accepted, connects_accepted, connects_refused, takeovers;
  uint64_t disconnects_clean, disconnects_lost, disconnects_protocol, keep_alive_timeouts, connect_timeouts;
  uint64_t sessions_expired, wills_sent, subscribes_refused;
  uint64_t not_retained;  // messages that were passed on, although the retained store had no room for them
  uint64_t packets_received[16], packets_sent[16];
  uint64_t bytes_received, bytes_sent;
  uint64_t publish_received, publish_routed, publish_unrouted, publish_refused[REFUSE_REASONS];
  uint64_t publish_received_bytes, delivered_bytes;  // payloads
  uint64_t copies, delivered, expired, dropped[DROP_REASONS];
  uint64_t redelivered;                                              // sent again with DUP; not in the balance
  uint64_t access_denied[ACCESS_VERBS], trial_denied[ACCESS_VERBS];  // wills too; what a list on trial would have denied
  uint64_t limits_reached[LIMITS];
  uint64_t mails_sent, mails_received, pauses;
  uint64_t match_hits, match_misses;
  uint64_t faults[256];  // connections closed by us or acknowledgements refused, by reason code
};

const char *drop_reason_name(enum drop_reason reason);      // "queue_full"
const char *refuse_reason_name(enum refuse_reason reason);  // "memory"
const char *limit_name(enum limit limit);                   // "packet_size"

// Adds `from` to `into`, field by field.
void counters_add(struct counters *into, const struct counters *from);
