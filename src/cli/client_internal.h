// What the client's files share, each above those that it calls: client_state.c sends packets and loses connections,
// client_publish.c holds outgoing messages until they are acknowledged, client_receive.c handles what arrives, client.c
// connects and keeps time.
#pragma once

#include "base/buffer.h"
#include "base/list.h"
#include "base/prng.h"
#include "cli/client.h"

// A message on its way out.
//   QUEUED → SENT → freed            QoS 0 (SENT until the kernel has it), QoS 1 (until PUBACK)
//   QUEUED → SENT → RELEASED → freed QoS 2 (PUBREC, then PUBCOMP)
struct outgoing {
  struct link link;  // in client.queued, or in client.flying
  enum { OUTGOING_QUEUED, OUTGOING_SENT, OUTGOING_RELEASED } phase;
  uint16_t packet_id;  // QoS 1 and 2, from SENT on
  uint64_t tag;
  uint64_t end;  // QoS 0: where in the transport's stream it ends
  struct mqtt_publish publish;
  uint8_t bytes[];  // topic, payload
};

struct topic_alias {
  uint8_t *topic;  // NULL: not assigned on this connection
  size_t size;
};

struct client {
  struct client_settings settings;
  struct client_handler handler;
  enum client_state state;
  struct transport transport;
  struct buffer in;
  struct prng prng;

  // The broker's answer: scalars only, its spans are dropped.
  struct mqtt_connack connack;
  bool was_online;
  uint16_t keep_alive_s;
  size_t in_flight_limit;
  char assigned_id[256];  // client identifier that the broker chose

  uint64_t deadline_ms;  // CONNECTING: give up; WAITING: try again; ENDING: close
  uint64_t online_since_ms;
  uint64_t last_sent_ms;
  uint64_t last_received_ms;
  bool ping_waits;  // PINGREQ sent and not answered
  uint64_t backoff_ms;

  struct link queued;     // struct outgoing
  struct link flying;     // sent; QoS 1 and 2 in the order of sending
  struct link unflushed;  // QoS 0 whose bytes the kernel does not have
  size_t flying_count;
  size_t unfinished_count;
  size_t queued_bytes;
  uint16_t last_packet_id;

  uint8_t
      *received_ids;  // a bit for each packet identifier of a QoS 2 message between PUBREC and PUBREL; NULL until the first
  struct topic_alias aliases[CLIENT_TOPIC_ALIASES];

  struct error failure;
  int exit_code;
};

// client_state.c
void client_fail(struct client *client, int exit_code, const char *format, ...) __attribute__((format(printf, 3, 4)));
// The connection is unusable: back-off or failure, as the settings say.
void client_lose(struct client *client, const char *text);
// Encodes into the transport. False: the connection was lost or the packet cannot be encoded.
bool client_send(struct client *client, const struct mqtt_packet *packet);
void client_trace(const struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The connection is lost: messages of this list, in flight or not flushed, are queued again.
void client_requeue(struct client *client, struct link *list);

// client_publish.c
uint16_t client_next_packet_id(struct client *client);
void client_send_queued(struct client *client);
// After a flush: QoS 0 messages that the kernel has are done.
void client_settle_flushed(struct client *client);
// After CONNACK: sends again what the session needs, or queues it anew when the broker has no session.
void client_resume(struct client *client, bool session_present);
void client_handle_ack(struct client *client, enum mqtt_packet_type type, const struct mqtt_ack *ack);
void client_free_outgoing(struct client *client);

// client_receive.c
void client_receive(struct client *client);
// A new connection has no aliases; a new session no QoS 2 messages half way.
void client_forget_aliases(struct client *client);
