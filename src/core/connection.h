// One connection: the protocol state between a transport and a session.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/list.h"
#include "base/wheel.h"
#include "core/session.h"
#include "core/shard.h"
#include "mqtt/packet.h"

// EXPECT_CONNECT → CONNECTED → CLOSING; EXPECT_CONNECT → MIGRATING, or CLOSING. EXPECT_CONNECT → EXPECT_AUTH (an exchange of
// AUTH packets, while the CONNECT is kept) → EXPECT_CONNECT (it is handled again), or CLOSING.
enum connection_state { EXPECT_CONNECT, EXPECT_AUTH, CONNECTED, CLOSING, MIGRATING };

enum {
  PAUSED_MAIL = 1,
  PAUSED_MEMORY = 2,
  PAUSED_OUTPUT = 4,
  PAUSED_ANSWER = 8,
  PAUSED_QUEUE = 16,
  PAUSED_JOURNAL = 32,  // much is under way to the disk
  PAUSED_TAKE_OVER = 64,
  PAUSED_FULL = 128,            // the journal takes nothing, and the client cannot be told
  PAUSED_AUTHENTICATION = 256,  // a question is out
  PAUSED_RATE = 512,            // it has sent more than its rates allow: see throttle.h
  PAUSED_ANY = UINT16_MAX,
};

// What a write left over.
struct unsent {
  size_t at, size;          // of bytes
  struct message *message;  // then this message's payload from `message_at` and its end, or NULL
  size_t message_at;
  uint8_t bytes[];
};

struct access;
struct aliases;

struct connection {
  struct shard *shard;
  void *transport;
  const char *address;      // the driver's
  struct session *session;  // while CONNECTED
  struct link all;          // of the shard
  struct link attention;
  struct link paused;
  struct timer timer;      // EXPECT_CONNECT: time-out; CONNECTED: keep alive; CLOSING: give up waiting for the transport
  struct buffer *input;    // what is left of a packet, or waits while paused; NULL most of the time
  struct buffer *control;  // encoded packets other than PUBLISH, written first; NULL when empty
  struct held *held;       // acknowledgements that wait for the journal; NULL: none
  struct unsent *unsent;
  struct aliases *aliases;       // NULL until one is used
  struct access *access;         // see access.h
  uint32_t heard_ms;             // low bits of when the last whole packet arrived
  uint32_t paused_ms;            // ... it was paused
  uint32_t maximum_packet_size;  // the client's; UINT32_MAX when it has none
  uint16_t in_flight;            // QoS 1/2 sent on this connection and not complete
  uint8_t limits;                // the number of its limits in shard->limits
  bool limited;                  // it has a throttle: see throttle.h
  // What CONNACK has granted to the client: it holds for this connection, whatever a reload says.
  uint32_t granted_packet_size;
  uint16_t granted_in_flight, granted_aliases;
  uint16_t receive_maximum;  // towards the client: the smaller of its and our limit
  uint16_t alias_maximum;    // towards the client: the smaller of its and our limit
  uint16_t keep_alive_s;
  uint16_t
      received_before;  // QoS 2 identifiers of earlier connections that the session still had: no part of this one's quota
  uint8_t version;      // enum mqtt_version; 0 before CONNECT
  uint8_t state : 3;
  uint8_t migrate_to : 4;
  bool admitting : 1;  // it has an admission: see admission.h
  uint8_t wants;
  bool anonymous : 1;
  bool authenticate : 1;         // its CONNECT becomes a question
  bool alone : 1;                // no other shard has its client
  bool foreign : 1;              // another shard has its client, by the name of another user
  bool adopted : 1;              // another shard has handed it over: it stays
  bool pongs_late : 1;           // there was no room for them last time
  bool bridge : 1;               // before 5.0: a bridge, which wants RETAIN as published and nothing of its own back
  bool problem_information : 1;  // may send reason strings and user properties other than in PUBLISH, CONNACK, DISCONNECT
  uint16_t pauses;               // why it is paused
  uint16_t pongs;                // PINGRESPs to write, behind the messages that were there before them
};

// Puts the connection on the attention list.
void connection_want(struct connection *connection, unsigned wants);

// Room for `size` bytes in the control buffer, NULL when memory is short (the connection is then closing). Commit with what
// was written.
uint8_t *control_reserve(struct connection *connection, size_t size);
void control_commit(struct connection *connection, size_t size);

// All of the control buffer has been handed to the driver.
void control_written(struct connection *connection);

// Whether the packet is within the client's maximum packet size.
bool connection_fits(const struct connection *connection, const struct mqtt_packet *packet);

// Encodes a packet into the control buffer, or behind the acknowledgements that are held. The reason string and user
// properties must have been left out by the caller if they do not fit the client's maximum packet size.
void connection_send(struct connection *connection, const struct mqtt_packet *packet);

// PUBACK, PUBREC, PUBREL, PUBCOMP; the shortest form. `need`: what of the journal must be safe first (journal_need), 0:
// nothing. They keep their order among each other.
void connection_send_ack(struct connection *connection, enum mqtt_packet_type type, uint16_t packet_id,
                         enum mqtt_reason reason, const char *reason_string, uint64_t need);

// An encoded answer to a request that others must not overtake: neither messages nor the answers to later requests. While it
// waits the connection is paused (PAUSED_ANSWER).
void connection_answer(struct connection *connection, struct span bytes, uint64_t need);
void connection_answer_packet(struct connection *connection, const struct mqtt_packet *packet, uint64_t need);

// Ends the connection because of what the peer did: logs, counts, tells 5.0 clients the reason, closes. Detaches the session
// (with its will).
void connection_fail(struct connection *connection, const struct mqtt_fault *fault);

// The same because of a limit, which is counted and logged.
void connection_exceed(struct connection *connection, enum limit limit, const struct mqtt_fault *fault);

// Says in the log which limit a client has run into and what became of it: "refused", "slowed down", "disconnected".
void log_limit(const struct connection *connection, enum limit limit, const char *outcome);

// Ends it without a word, because there is none that the client could be told. The session ends as by a DISCONNECT.
void connection_abandon(struct connection *connection, const char *why);

// Ends it for a reason of ours.
void connection_end(struct connection *connection, enum mqtt_reason reason, bool with_will);

void connection_pause(struct connection *connection, unsigned why);
void connection_unpause(struct connection *connection, unsigned why);

void connection_free(struct connection *connection);

// Takes the first packet out of what is kept of the input; there is one. The caller frees it. NULL when memory is short.
uint8_t *connection_take_packet(struct connection *connection, size_t *out_size);

// The reverse: puts it in front of what is kept. False when memory is short; the connection is then closing.
bool connection_put_packet(struct connection *connection, struct span packet);

// Lets go of what was offered to the driver or is left over of a write (outbox.c).
void connection_free_output(struct connection *connection);

// ---- Packets from clients (handle_*.c). Each returns false when the connection is closing.

bool handle_connect(struct connection *connection, uint8_t first, struct span body);
bool handle_auth(struct connection *connection, const struct mqtt_disconnect *auth);
bool handle_in_exchange(struct connection *connection, uint8_t first, struct span body);  // before CONNACK
bool handle_publish(struct connection *connection, uint8_t first, struct span body);
bool handle_ack(struct connection *connection, enum mqtt_packet_type type, uint8_t first, struct span body);
bool handle_subscribe(struct connection *connection, const struct mqtt_subscribe *subscribe);
bool handle_unsubscribe(struct connection *connection, const struct mqtt_unsubscribe *unsubscribe);

// ---- Topic aliases (aliases.c; 5.0 section 3.3.2.3.4)

// The client's: resolves or sets. False: the alias is not valid; fault is filled.
bool aliases_receive(struct connection *connection, struct mqtt_publish *publish, struct mqtt_fault *out_fault);

// Ours: the alias to use for a topic. *out_known: the client has it already, the topic can be left empty. 0: none.
// aliases_sent must be called when the packet that introduces it is written.
uint16_t aliases_send(struct connection *connection, const struct message *message, bool *out_known);
void aliases_sent(struct connection *connection, const struct message *message, uint16_t alias);
void aliases_free(struct aliases *aliases);
