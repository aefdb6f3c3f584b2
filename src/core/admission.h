// What a connection has shown of who it is: from the first question until it is in, and longer if it may have to show it
// again or must leave at a time. Only files of src/core include it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/span.h"
#include "base/status.h"
#include "base/wheel.h"
#include "core/authentication.h"

struct connection;
struct mqtt_connect;
struct mqtt_disconnect;
struct shard;

struct admission {
  struct connection *connection;      // NULL while it moves between shards
  const struct identity *identity;    // a reference; NULL: not known yet
  struct enhanced *enhanced;          // between two steps of an exchange
  uint64_t ticket;                    // of the question that is out; 0: none
  struct mono expires;                // ms 0: never
  struct timer expiry;                // armed while CONNECTED
  uint8_t *connect, *answer;          // EXPECT_AUTH: the CONNECT, kept; what CONNACK is to carry. Heap
  size_t connect_size, answer_size;   // the same
  size_t question_bytes;              // of that question, as counted in `charged`
  size_t charged;                     // to the pool of its shard
  size_t password_at, password_size;  // in the body of the CONNECT that is about to be kept: to be wiped there
  uint8_t version;                    // of CONNECT
  bool exchanging;                    // AUTH of the client is awaited
  uint16_t method_size;               // 0: no enhanced authentication
  char method[];
};

static inline struct span admission_method(const struct admission *admission)
{
  return span_of(admission->method, admission->method_size);
}

// Of a connection; NULL: most have none.
struct admission *admission_of(const struct connection *connection);

// Whether it is known who the client is, and its CONNECT may be handled.
bool admission_granted(const struct connection *connection);

// Turns a CONNECT into a question. Always false: the packet is not taken, or the connection is closing. `body`: of the
// packet.
bool admission_ask(struct connection *connection, const struct mqtt_connect *connect, struct span body);

// ... and a client's AUTH, which has been found to be in order. False: the connection is closing.
bool admission_ask_again(struct connection *connection, const struct mqtt_disconnect *auth);

// The bytes of the CONNECT are kept now: wipes the password in them. Harmless at all other times.
void admission_input_kept(struct connection *connection);

// The client is in: frees what is not needed any more, starts the time until it has to leave.
void admission_settle(struct connection *connection);

// The connection ends; an answer that is still to come will be dropped. Harmless without an admission.
void admission_drop(struct connection *connection);

// Moves it to a connection that is adopted. NULL is harmless. False when memory is short: it is freed.
CHECK_RESULT bool admission_take_over(struct connection *connection, struct admission *admission);

// Between admission.c and authentication.c. A new one, of the connection and charged to its shard; NULL when memory is
// short.
struct admission *admission_create(struct connection *connection, struct span method);
void admission_charge(struct shard *shard, struct admission *admission, size_t bytes);
void admission_discharge(struct shard *shard, struct admission *admission, size_t bytes);
// The question that is out, if there is one, is nobody's any more.
void admission_end_question(struct shard *shard, struct admission *admission);
// Frees an exchange of AUTH packets; *exchange is NULL then. Harmless without one.
void admission_end_exchange(struct shard *shard, struct enhanced **exchange);

// All questions that nobody has taken, for shard_destroy. Connections are gone by then.
void admission_deinit(struct shard *shard);
