// What one shard is told at its start and again at a reload. Sizes are bytes, times are in the unit of the name.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum share_strategy { SHARE_ROUND_ROBIN, SHARE_RANDOM, SHARE_LEAST_IN_FLIGHT, SHARE_STICKY };

// What happens when a queue is full: its oldest message goes, the new one is not queued, or its publisher is refused (0x97;
// a publisher that cannot be told, before 5.0 or on another shard, sees `newest`).
enum queue_drop { QUEUE_DROP_OLDEST, QUEUE_DROP_NEWEST, QUEUE_REJECT };

// What becomes of a client that sends more than its rates allow: it is not read from for a while, or it is disconnected
// (0x96).
enum rate_action { RATE_SHAPE, RATE_DISCONNECT };

// The broker's own, and those of its listeners: each connection and session has one set by its number, BROKER_LIMITS or a
// listener's. What is about all sessions together (retained messages, the share strategy) is taken from the broker's.
enum { BROKER_LIMITS = 0, LIMIT_SETS = 65 };

struct limits {
  uint32_t packet_size;     // largest packet accepted, fixed header included (5.0: Maximum Packet Size)
  uint16_t in_flight;       // receive maximum that we grant, and most QoS 1/2 messages unacknowledged at a client
  uint16_t topic_alias;     // aliases accepted from, and used towards, a client
  uint16_t topic_levels;    // most levels in a topic name or filter
  uint32_t subscriptions;   // per session
  uint32_t queue_messages;  // QoS 1/2 waiting per session; 0: no limit by count
  uint64_t queue_bytes;     // the same in bytes of the messages
  uint32_t queue_age_s;     // waiting for longer than this: dropped; 0: no limit
  enum queue_drop queue_drop;
  uint64_t output_bytes;       // QoS 0 bytes waiting for one client before new ones are dropped
  uint32_t retained_messages;  // 0: no limit by count
  uint64_t retained_bytes;
  uint32_t keep_alive_max_s;      // 0: no limit
  uint32_t session_expiry_max_s;  // UINT32_MAX: sessions may live for ever
  uint32_t connect_timeout_ms;
  uint32_t message_rate;   // PUBLISH packets in a second from one client; 0: no limit
  uint64_t byte_rate;      // bytes of MQTT in a second from one client; 0: no limit
  uint32_t rate_burst_ms;  // a client that was silent may send at once what these bring in so long
  enum rate_action rate_action;
  enum share_strategy share_strategy;
  bool denied_disconnects;  // before 5.0: a PUBLISH that access control denies ends its connection; else it is acknowledged
                            // and dropped
};

// The defaults of the configuration, for tests and simulation.
struct limits limits_default(void);
