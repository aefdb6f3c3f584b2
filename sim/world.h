// The simulated world: brokers made of shards, clients, and the network between them, in one thread with a clock of its own.
// A seed decides everything. The world is torn down and made anew for each seed.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "core/shard.h"
#include "model.h"
#include "network.h"
#include "trial.h"
#include "splitter.h"

enum { SIM_BROKERS = 2, SIM_MAILS = 256 };

// What the seed has chosen for the whole run.
struct plan {
  unsigned brokers;
  bool roomy;           // limits are so wide that nothing may be dropped for want of room
  uint64_t lag_ms;      // how late a shard's turn may come
  size_t scratch_size;  // most bytes for connection_output
  size_t window;        // of the network, per direction
  unsigned mailbox;     // mails on the way per pair of shards
  unsigned cut_weight, stall_weight, jump_weight;
  unsigned connect_percent, ack_percent, publish_percent;  // how eager clients are
};

struct mailbox {
  struct mail mails[SIM_MAILS];
  size_t first, count;
  size_t arrived;  // of these, how many the receiver can see
  uint64_t posted, delivered;
};

// A network connection, from the client's connect to the end of both sides.
struct link {
  struct world *world;
  struct broker *broker;
  struct client *client;
  unsigned number;
  struct admission *admission;  // while it moves between shards
  struct pipe up, down;
  bool abandoned;    // the client has gone on with another one and told nobody
  bool client_done;  // the client has seen the end or has closed

  // The driver's side
  uint8_t shard;
  struct connection *connection;  // NULL: not yet, not any more, or on its way to another shard
  bool travelling;                // handed over, waiting in the other shard's hall
  bool paused, blocked;
  bool ended;                 // shard_closed was called
  struct buffer handed_over;  // input that travels along
  struct buffer offered;      // output shown by the shard and not yet taken by the pipe

  // The model's side (tap.c)
  struct splitter in, out;
  enum mqtt_version version;
  bool connect_taken, connack_written;
  bool disconnect_taken;  // and the will with it
  bool clean_start;
  uint32_t expiry_s;             // as asked for in CONNECT
  uint32_t maximum_packet_size;  // 0: none
  uint16_t receive_maximum, alias_maximum;
  uint32_t keep_alive_ms;
  uint64_t last_packet_ms;  // the last whole packet
  uint64_t last_taken_ms;   // the last byte
  uint64_t closing_ms;      // since when the broker may be closing it, NEVER
  bool guilty;              // the client gave a reason to close it
  struct message *will_message;
  uint32_t will_delay_ms;
  bool will_made;  // model_will_due was called
  struct will *will;
  struct session *session;
  uint8_t aliases[256];             // topic + 1
  VECTOR(struct message *) writes;  // PUBLISH written by the client and not yet taken, in order
  size_t writes_first;
  VECTOR(struct copy *) reads;  // copies written and not yet read by the client, in order
  size_t reads_first;
  VECTOR(struct request) requests;  // SUBSCRIBE and UNSUBSCRIBE without an answer
  VECTOR(struct receipt) receipts;  // PUBLISH at QoS 1 and 2 without PUBACK or PUBREC
};

struct request {
  uint16_t packet_id;
  bool unsubscribe;
  unsigned count;
  struct subscription *subscriptions[8];  // SUBSCRIBE: one per filter
  struct {
    uint8_t filter, group;
  } filters[8];
  uint64_t taken;
};

struct receipt {
  uint16_t packet_id;
  uint8_t qos;
  struct publication *publication;  // NULL: a repeat
};

struct broker {
  struct world *world;
  unsigned index;
  uint8_t shard_count;
  struct limits limits;
  struct memory_budget budget;
  struct log logs[SIM_SHARDS];
  struct shard *shards[SIM_SHARDS];
  int64_t idle_bytes;                           // used by the shards when they are new
  struct mailbox mail[SIM_SHARDS][SIM_SHARDS];  // [from][to]
  uint64_t ticked_ms[SIM_SHARDS];
  uint64_t bytes_out[SIM_SHARDS];
  bool authenticate;                             // clients are asked who they are
  struct authentication *questions[SIM_SHARDS];  // that are not answered yet
  struct client *clients[SIM_CLIENTS];
  unsigned client_count;
  VECTOR(struct link *) links;  // open ones
  VECTOR(struct session *) sessions;
  VECTOR(struct publication *) publications;
  VECTOR(struct will *) wills;
};

struct world {
  struct trial trial;  // at first, see trial_of
  struct plan plan;
  bool healing;  // the second phase: the network is good, clients do what they should
  bool ending;   // the third: clients do not come back
  unsigned link_count;
  uint32_t subscription_ids;
  uint32_t session_count;
  char topics[SIM_TOPICS][64];
  char filters[SIM_FILTERS][64];
  bool matches[SIM_FILTERS][SIM_TOPICS];  // by the definition, mqtt_filter_matches
  struct broker brokers[SIM_BROKERS];
  VECTOR(struct message *) messages;
  VECTOR(struct link *) dead_links;  // kept until the end: copies refer to them
  uint64_t delivered;
};

// ---- Brokers (broker.c)

void broker_start(struct broker *broker);
void broker_stop(struct broker *broker);  // destroys the shards
struct link *broker_connect(struct broker *broker, struct client *client);

// One turn of a shard's loop. `everything`: with all that has arrived. Returns whether anything was moved.
bool broker_turn(struct broker *broker, uint8_t shard, bool everything);

// Lets mails arrive. Returns whether any did.
bool broker_move_mails(struct broker *broker, uint8_t from, uint8_t to, bool everything);

// The broker ends a connection, and publishes, for reasons of its own.
void broker_kick(struct link *link);
void broker_publish(struct broker *broker, uint8_t shard, struct message *message);

void broker_counters(const struct broker *broker, struct counters *out);  // of all shards
void link_free(struct link *link);

// ---- What passes between shards and connections (tap.c)

void tap_in(struct link *link, struct span bytes);  // the shard has these bytes, it need not have looked at them
void tap_take(struct link *link, uint64_t count, const struct moment *at);  // it has handled so many packets
bool tap_has_packet(const struct link *link);                               // a whole one waits
void tap_out(struct link *link, struct span bytes);
void tap_closed(struct link *link);  // the session is without this connection now; may be called again

// ---- Oracles

void oracle_ledger(struct broker *broker, uint8_t shard);                    // after every turn
void oracle_connections(struct broker *broker);                              // after every turn
void oracle_publish(struct link *link, const struct mqtt_publish *publish);  // a PUBLISH was written
void oracle_wills(struct broker *broker, uint8_t shard);
void oracle_final(struct broker *broker);
void oracle_retained(struct broker *broker);
void oracle_drained(struct broker *broker);
