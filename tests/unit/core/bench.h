// A broker of one or several shards in memory, and clients at the other end of its connections: mails are carried by hand,
// time is a number, every step checks that the counters balance. For the tests of src/core.
#pragma once

#include "test.h"

#include "base/buffer.h"
#include "bench_store.h"
#include "core/authentication.h"
#include "core/shard.h"
#include "mqtt/packet.h"

enum { BENCH_SCRATCH = 4096, BENCH_EVENTS = 64 };

struct client;

struct bench {
  uint8_t shard_count;
  struct shard *shards[SHARDS_MAX];
  struct log logs[SHARDS_MAX];
  struct limits limits;
  struct memory_budget budget;
  struct mono now;
  struct client *clients;
  bool hold[SHARDS_MAX][SHARDS_MAX];  // mails from one shard to another stay where they are
  size_t carry;                       // most mails taken at once; 0: all
  size_t scratch_size;                // BENCH_SCRATCH
  size_t yields;                      // RECEIVE_YIELD seen
  unsigned id_number;                 // of the next client that a shard must own
  uint8_t limits_number;              // of connections that are opened or handed over now
  bool authenticate;                  // connections that are opened now are asked who they are
  bool believe;                       // every question is answered at once: the client is who it says
  uint8_t numbers[SHARDS_MAX];        // of the shards
  struct authentication *questions;   // that are out, the oldest first
  struct store_bench *store;          // NULL: a broker without a journal
  bool journal_waits;
  uint64_t epoch_ms;
  char events[BENCH_EVENTS][48];  // names of the last log events
  size_t event_count;
};

// One client. Freed with the bench; `connection` is NULL when it is gone.
struct client {
  struct client *next;
  struct bench *bench;
  struct connection *connection;
  uint8_t shard;  // where its connection is
  enum mqtt_version version;
  uint16_t next_id;        // for what it sends
  struct buffer outgoing;  // sent and not yet taken by the shard
  struct buffer incoming;  // what the shard wrote
  size_t read_chunk;       // most bytes offered to the shard at once; 0: all
  size_t write_chunk;      // most bytes the transport takes at once; 0: all
  bool stalled;            // the transport takes nothing
  bool paused;             // the shard does not want to read
  bool by_broker;          // closed by the broker
  bool yielded;            // the rest of its bytes is offered after the outputs
  uint8_t *packet_bytes;   // of the packet below
  size_t packet_size;
  struct mqtt_packet packet;  // what client_expect returned
};

// NULL: the defaults, without a limit of memory.
void bench_init(struct bench *bench, uint8_t shard_count, const struct limits *limits);
void bench_deinit(struct bench *bench);  // checks that all memory came back

// With a journal; `waits`: durability `commit`. Batches are taken and safe and loads answered at once, unless bench->store
// holds them.
// When nothing is held, every run ends with a comparison: what the store knows must be what the shard knows.
void bench_init_journal(struct bench *bench, uint8_t shard_count, const struct limits *limits, bool waits);

// The same for a test that is listed as WITH_BENCH: *state becomes the bench, which is freed after the test.
struct bench *bench_make(void **state, uint8_t shard_count, const struct limits *limits);
struct bench *bench_make_journal(void **state, uint8_t shard_count, const struct limits *limits, bool waits);
int bench_free(void **state);
#define WITH_BENCH(test) cmocka_unit_test_teardown(test, bench_free)

void bench_commit(struct bench *bench, size_t count);                     // so many batches more are safe; and runs
void bench_answer_load(struct bench *bench);                              // the oldest that is held; and runs
void bench_journal_state(struct bench *bench, enum journal_state state);  // when it is not OK, nothing becomes safe

// kill -9: a new process starts `down_ms` later from what is safe. Its clock begins anew.
void bench_crash(struct bench *bench, uint64_t down_ms);

// Carries mails and bytes until nothing moves; checks the balance.
void bench_run(struct bench *bench);
void bench_advance(struct bench *bench, uint64_t ms);  // every timer fires in its millisecond
void bench_set_limits(struct bench *bench, const struct limits *limits);
void bench_set_listener_limits(struct bench *bench, uint8_t number, const struct limits *limits);  // NULL: it is gone
struct counters bench_counters(const struct bench *bench);                                         // of all shards
bool bench_logged(const struct bench *bench, const char *event);

// ---- Questions. `driver` of one is the shard that asks.

struct answer {
  enum mqtt_reason reason;
  const char *user, *data;  // NULL: none
  struct mono expires;
  struct enhanced *enhanced;
};

// What a test knows of an exchange.
struct enhanced {
  unsigned *freed;  // counts
};
struct enhanced *bench_exchange(unsigned *freed);

const struct authentication *bench_question(const struct bench *bench);  // the oldest, there must be one
void bench_answer(struct bench *bench, const struct answer *answer);     // of it; and runs

// A client identifier that the shard owns: "c<number>", the first from `*number` on, which is left behind it.
void bench_new_id(struct bench *bench, uint8_t shard, char out[16]);  // one that it has not given before
void bench_id_on(const struct bench *bench, uint8_t shard, unsigned *number, char out[16]);

// ---- Clients

struct client *client_open(struct bench *bench, enum mqtt_version version, uint8_t shard);
void client_send_bytes(struct client *client, const void *bytes, size_t size);  // and runs
void client_queue_bytes(struct client *client, const void *bytes, size_t size);
void client_send(struct client *client, const struct mqtt_packet *packet);
void client_queue(struct client *client, const struct mqtt_packet *packet);  // sent with the next run
void client_drop(struct client *client);                                     // the transport is gone
void client_disconnect(struct client *client, enum mqtt_reason reason);
void client_unstall(struct client *client);

struct mqtt_packet connect_packet(enum mqtt_version version, const char *id);
void property_set(struct mqtt_properties *properties, enum mqtt_property property);

// Connects; the CONNACK must say that all is well. Returns it.
const struct mqtt_connack *client_connect(struct client *client, const char *id, bool clean_start, uint32_t expiry_s);
const struct mqtt_connack *client_connect_packet(struct client *client, const struct mqtt_packet *packet);

// Opens and connects, cleanly.
struct client *client_new(struct bench *bench, enum mqtt_version version, const char *id);
// Opens and connects to a session that outlives its connection.
struct client *client_lasting(struct bench *bench, enum mqtt_version version, const char *id);

// ... cleanly, with an identifier of its own that the shard owns.
struct client *client_new_on(struct bench *bench, enum mqtt_version version, uint8_t shard);

// ... cleanly, and subscribes.
struct client *client_subscribed(struct bench *bench, enum mqtt_version version, const char *id, const char *filter,
                                 uint8_t qos);

// ... with 5.0, to a session that outlives its connection, and subscribes; and comes back to that session.
struct client *client_durable(struct bench *bench, const char *id, const char *filter, uint8_t qos);
struct client *client_back(struct bench *bench, const char *id);

// The next packet from the broker must be this one. Valid until the next call for the same client.
const struct mqtt_packet *client_expect(struct client *client, enum mqtt_packet_type type);
const struct mqtt_publish *client_expect_publish(struct client *client, const char *topic, const char *payload);
void client_expect_ack(struct client *client, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason);
void client_expect_nothing(struct client *client);
size_t client_waiting(const struct client *client);                             // bytes not yet looked at
void client_expect_closed(struct client *client);                               // without a word
void client_expect_disconnect(struct client *client, enum mqtt_reason reason);  // 5.0: told; before: closed
void client_expect_refused(struct client *client, enum mqtt_reason reason);     // CONNACK, closed

struct sub {
  const char *filter;
  uint8_t qos;
  bool no_local, retain_as_published;
  enum mqtt_retain_handling retain_handling;
  uint32_t id;
};
void client_queue_subscribe(struct client *client, const struct sub *subs, size_t count);  // returns before the answer
void client_subscribe(struct client *client, const char *filter, uint8_t qos);
void client_subscribe_with(struct client *client, const struct sub *sub, enum mqtt_reason expected);
void client_expect_codes(struct client *client, const struct sub *subs, const uint8_t *codes, size_t count);  // SUBACK
enum mqtt_reason client_unsubscribe(struct client *client, const char *filter);

struct mqtt_packet publish_packet(struct client *client, const char *topic, const char *payload, uint8_t qos);
uint16_t client_send_publish(struct client *client, const char *topic, const char *payload, uint8_t qos,
                             bool retain);  // returns its packet identifier before the answer
void client_publish(struct client *client, const char *topic, const char *payload, uint8_t qos,
                    bool retain);  // whole exchange
void client_ack(struct client *client, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason);

// Expects a PUBLISH at the QoS and completes the exchange.
void client_take(struct client *client, const char *topic, const char *payload, uint8_t qos);

// ---- Messages that are numbered: the payload is "0", "1" …; of several, up to `to` and without it

void publish_numbers(struct client *client, const char *topic, unsigned from, unsigned to, uint8_t qos);
void take_numbers(struct client *client, const char *topic, unsigned from, unsigned to, uint8_t qos);
uint16_t expect_number(struct client *client, const char *topic, unsigned number,
                       bool dup);  // returns its packet identifier
