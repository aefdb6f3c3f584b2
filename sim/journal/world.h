// The simulated world of a broker with a journal: one broker of some shards, its store on a simulated disk, and clients that
// behave right. A seed decides everything, faults too. What is judged is what clients can see, and what the store says of
// itself; see docs/simulation.md.
//
// Instants are ticks: the world counts one up before everything it does. An effect of which a client has read the
// acknowledgement at one tick has taken place before everything that is sent later; what lies between is allowed and not
// demanded.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "acks.h"
#include "core/shard.h"
#include "disk.h"
#include "mqtt/packet.h"
#include "network.h"
#include "trial.h"
#include "splitter.h"
#include "store/store.h"
#include "vector.h"

struct client;
struct world;

enum {
  SHARDS = 4,
  CLIENTS = 12,
  TOPICS = 8,
  WILL_TOPIC = TOPICS - 1,
  FILTERS = 9,
  GROUPS = 2,
  MAILS = 256,
  WITNESSES = 2,
  BATCHES = 2,
  LOADS = 64
};

// What the seed has chosen for the whole run.
struct plan {
  bool roomy;       // no limit is near: nothing may be dropped or refused for want of room
  bool waits;       // durability `commit`
  bool bit_rot;     // bytes on the disk change
  bool backlog;     // subscribers are mostly away, publishers in a hurry
  bool steady;      // sessions last, once they have begun
  bool tiny_limit;  // of the journal: it is full now and then
  bool users;       // clients show who they are, sooner or later
  unsigned clients;
  unsigned crash_weight, cut_weight, fault_weight, jump_weight;  // of 1000 steps
  unsigned connect_percent, ack_percent, publish_percent, round_percent, burst;
  uint32_t flights;       // most unacknowledged messages of a publisher
  uint32_t payload_most;  // bytes
  uint32_t load_entries;  // most entries of a queue that are loaded at once
  size_t window;          // of the network
  uint64_t segment_bytes, limit_bytes, reserve_bytes, replay_bytes;
  uint64_t high_bytes;  // under way to the disk: publishers wait
};

// What an author wrote. Lives as long as the world.
struct message {
  uint32_t id;  // in the payload: how a copy is recognised
  struct client *author;
  uint8_t topic, qos;
  bool retain;
  bool empty;  // no payload: clears a retained message, and cannot be recognised
  bool is_will;
  uint8_t flavour;  // which properties it has
  uint32_t expiry_s;
  uint32_t payload_size;
  uint64_t sequence;                   // of the author's messages, by first sending
  uint64_t first_sent, first_sent_ms;  // tick; NEVER: not yet
  uint64_t acked, acked_ms;            // PUBACK, PUBREC or PUBCOMP was read; NEVER: not yet
  unsigned attempts;                   // how often it was sent
  unsigned generations;                // how often as a new message
  bool refused;
  bool rotten;  // its record was damaged on purpose
};

// What one session has got of one message.
struct receipt {
  uint16_t fresh;     // without DUP, because of its ordinary subscriptions
  uint16_t fresh_2;   // of these, of QoS 2 at QoS 2
  uint16_t shared;    // without DUP, by shared ones
  uint16_t shared_2;  // of these, of QoS 2 at QoS 2
  uint16_t taken;     // by the application
  uint16_t taken_2;   // of these, at QoS 2
  uint16_t retained;  // because it was retained
  uint16_t crashes;   // of the world when it came last
  // When it came first, if it must come in order; `life` 0: it did not, or need not.
  unsigned life;        // of the broker that wrote it
  uint8_t qos;          // at which it came
  uint64_t written_ms;  // when it was written
};

struct subscription {
  uint8_t filter, group, qos;
  bool no_local, retain_as_published;
  uint32_t id;
  uint64_t acked;  // SUBACK was read
  uint64_t ended;  // UNSUBSCRIBE, or another SUBSCRIBE for the same, was sent
  uint64_t dead;   // and answered
};

struct flight {
  uint16_t packet_id;
  bool released;  // PUBREC came: PUBREL is next
  struct message *message;
};

// A session as its client knows it.
struct session {
  struct client *client;
  unsigned number;
  bool over;
  bool known;                          // the client has read an acknowledgement that promises that the session is safe
  bool ever_durable;                   // it had an expiry once
  bool owned;                          // a CONNECT as a user was acknowledged: it is that user's
  bool surprise;                       // it was present although the client knew of none
  uint32_t expiry_s;                   // 0: it ends with its connection
  uint32_t least_expiry, most_expiry;  // of those asked for since
  unsigned crashes;                    // of the world when it began
  unsigned connections;
  VECTOR(struct subscription *) subscriptions;
  VECTOR(struct flight) received;  // QoS 2 that the application has, waiting for PUBREL
  struct receipt *receipts;        // by message
  size_t receipt_count;
  uint64_t order[TOPICS][CLIENTS][3];  // sequence of the newest first receipt, by topic, author, QoS
};

struct request {
  uint16_t packet_id;
  bool unsubscribe;
  uint64_t sent;
  struct subscription *subscription;
};

enum client_kind { KIND_DURABLE, KIND_MIXED, KIND_CLEAN };

struct client {
  struct world *world;
  unsigned index;
  char id[16];
  enum mqtt_version version;
  enum client_kind kind;
  bool any_order;   // acknowledges in any order, not only in those that the standard allows
  bool named;       // shows who it is from now on
  bool is_witness;  // came last, to look at the retained messages
  uint16_t receive_maximum;
  unsigned connect_percent, publish_percent;

  struct session *session;  // NULL: it knows of none
  bool must_clean;          // it has let go of a session that the broker may still have
  bool connect_open;        // a CONNECT that may have begun a session was not answered
  bool connect_clean;       // of the last CONNECT
  uint32_t connect_expiry_s;
  bool connect_gone;  // its session had surely expired by then
  uint64_t connect_ms;
  uint64_t alive_ms,
      alive_before_ms;  // last time at which the broker surely had its connection; when the last CONNECT was sent
  uint64_t away_ms;     // it surely has none since then
  bool away_by_crash;   // which the journal was not told

  struct wire *link;  // NULL: not connected
  bool connected;     // CONNACK was read
  struct splitter in;
  uint64_t bytes_read;  // of this connection
  uint16_t next_packet_id, server_receive_maximum;
  VECTOR(struct flight) flights;
  struct acks acks;
  VECTOR(struct request) requests;
  uint64_t sequence;
  struct message *retained[TOPICS];  // a witness's findings
};

struct written {
  uint64_t end, ms;  // bytes up to here were there to be written at this time
};

// A network connection.
struct wire {
  struct client *client;
  unsigned number;
  unsigned life;  // of the broker: another one after each crash, from 1 on
  struct pipe up, down;
  bool client_done, ended, paused, blocked, closing;
  bool answered;  // CONNACK was written
  uint8_t shard;
  struct connection *connection;
  struct buffer handed_over;
  struct admission *admission;  // while it moves between shards
  uint64_t bytes_written;
  VECTOR(struct written) written;
};

struct mailbox {
  struct mail mails[MAILS];
  size_t first, count, arrived;
};

struct waiting {
  struct journal_batch *batch;  // or a load
  struct journal_load load;
  uint64_t behind;
};

// What is between the shards and the store, as src/net/keeper.c has it.
struct keeper {
  struct store *store;
  VECTOR(struct waiting) inbox, loads;
  VECTOR(struct journal_loaded *) answers;
  uint64_t given, submitted, released;
  uint64_t committed;  // as reported
  unsigned loads_open;
  bool failed;
  bool more;  // the last round left work of the store's own
  enum journal_state state, told[SHARDS];
};

struct broker {
  bool up;
  uint8_t shard_count;
  struct limits limits;
  struct memory_budget budget;
  struct log logs[SHARDS], store_log;
  struct shard *shards[SHARDS];
  uint64_t ticked_ms[SHARDS];
  struct mailbox mail[SHARDS][SHARDS];
  uint64_t told_committed;
  struct keeper keeper;
  unsigned doom;  // so many connections are attended to, then the process dies; 0: none
  bool dying;
  VECTOR(struct wire *) links;
};

// How often things happened, over many worlds.
struct statistics {
  uint64_t kills, power_cuts, stops, mid_write, mid_turn, in_recovery, disk_faults, full, errors, rot, rounds, checkpoints,
      removed, copied, loads, loaded, torn, blocks, batches, resharded, retained, shared, acked, owed, delivered,
      expired_sessions, resumed, wills, redelivered, dropped, refused, damaged, digests, compared, intruders;
};

struct world {
  struct trial trial;  // at first, see trial_of
  struct plan plan;
  uint64_t events;
  bool healing, ending;
  bool lossy;   // a crash may have taken back what was acknowledged (no `commit`), or bytes have rotted: only integrity is
                // judged
  bool rotten;  // bytes have rotted
  bool topic_rotten[TOPICS];
  bool nameless_rotten;  // a message without payload
  bool unreadable;       // the disk failed to read or to open some, but not all: what is there may be given up
  bool ever_bad;         // the disk failed since the broker started
  unsigned bad_crash;    // `crashes` after the last one of a broker whose disk had failed
  bool has_digest;       // of what was applied when it died
  uint64_t digest;
  unsigned crashes, link_count, session_count;
  uint32_t subscription_ids;
  struct disk *disk;
  bool disk_bad;
  struct sim_disk_faults faults;  // while it is bad
  uint64_t crash_at;              // a stop of the disk is pending since this tick, 0: none
  struct broker broker;
  struct client *clients[CLIENTS];
  unsigned client_count;
  bool matches[FILTERS][TOPICS];
  bool disturbed[GROUPS + 1][FILTERS];  // a member was not durable, or left: its messages may be lost, or come twice
  bool used[GROUPS + 1][FILTERS];
  VECTOR(struct message *) messages;
  VECTOR(struct session *) sessions;
  struct counters past;  // of all shards that are gone
  struct statistics statistics;
};

extern const char *const TOPIC_NAMES[TOPICS];
extern const char *const FILTER_NAMES[FILTERS];

// ---- The broker (broker.c)

struct wire *broker_connect(struct world *world, struct client *client);

// One turn of a shard's loop. `everything`: with all that has arrived. Returns whether anything was moved.
bool broker_turn(struct world *world, uint8_t shard, bool everything);
bool broker_move_mails(struct world *world, uint8_t from, uint8_t to, bool everything);
void broker_close_all(struct world *world);  // before a clean stop
void broker_destroy(struct world *world);    // the shards, and what is on the way between them
void broker_counters(const struct world *world, struct counters *out);
void link_free(struct wire *link);

// ---- The store (keeper.c)

void keeper_post(struct world *world);                                  // what shard 0 has for the store
void keeper_take(struct world *world, uint8_t shard, bool everything);  // and the other way
bool keeper_turn(struct world *world, bool everything);                 // a turn of the store's thread
bool keeper_idle(const struct world *world);                            // all that was given is applied, and told
void keeper_free(struct world *world);

// ---- Life and death (life.c)

void life_start(struct world *world);  // until it is up, whatever the disk does meanwhile
void life_stop(struct world *world);
void life_heal_disk(struct world *world);
void life_restart(struct world *world);  // crash or stop, time passes, start

// ---- Clients (client.c, client_receive.c)

struct client *client_create(struct world *world, unsigned index);
void client_destroy(struct client *client);
bool client_act(struct client *client);
void client_connect(struct client *client, bool clean_start);
void client_subscribe(struct client *client, uint8_t filter, uint8_t group);
void client_disconnect(struct client *client, bool with_will, bool end_session);
void client_publish(struct client *client, struct message *message);
bool client_may_publish(const struct client *client);
bool client_read(struct client *client, size_t size);
void client_send(struct client *client, const struct mqtt_packet *packet);
void client_send_again(struct client *client);
void client_publish_again(struct client *client);
void client_lose_link(struct client *client);

// ---- Users (users.c)

size_t users_name(const struct client *client, char out[16]);
void users_set_list(struct world *world);                                // of all shards, which are new
bool users_answer(struct world *world, uint8_t shard, bool everything);  // questions of a shard
void users_intrude(struct world *world);                                 // nobody is connected yet

// ---- The model (model.c)

struct message *model_message(struct world *world, struct client *author);
struct message *model_find(struct world *world, struct span payload);
size_t message_payload(const struct message *message, uint8_t *out);
void message_properties(const struct message *message, uint8_t *scratch, struct mqtt_properties *out);
struct session *session_begin(struct client *client);
void session_over(struct session *session);
struct receipt *session_receipt(struct session *session, const struct message *message);
struct subscription *session_subscription(const struct session *session, uint8_t filter, uint8_t group);
bool session_may_be_gone(const struct session *session);
bool session_surely_gone(const struct session *session);

// ---- Oracles

// oracle.c: a client has read this. Returns the message, NULL when it cannot be told.
struct message *oracle_receive(struct client *client, const struct mqtt_publish *publish, uint64_t written_ms,
                               bool repeated);
void oracle_taken(struct client *client, struct message *message, const struct mqtt_publish *publish);
void oracle_connack(struct client *client, bool present);

// oracle_final.c
void oracle_ledger(struct world *world, uint8_t shard);   // after every turn
void oracle_catalog(struct world *world);                 // nobody is connected, all is applied
uint64_t oracle_digest(struct world *world, bool trace);  // of the catalog
void oracle_owed(struct world *world);                    // at rest, all are back
void oracle_retained(struct world *world);
void oracle_empty(struct world *world);  // everything is over
