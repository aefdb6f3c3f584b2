// What the tests of the store share: a dumb model of what the records mean, records made at random that keep its rules, and
// one text that describes a model and what a store says alike. The model knows nothing of segments, blocks or checkpoints.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/prng.h"
#include "core/record.h"
#include "store/store.h"

enum { MODEL_SESSIONS = 64, MODEL_FILTERS = 4, MODEL_IDS = 8, MODEL_TOPICS = 6, MODEL_PAYLOAD_MAX = 4096 };

enum model_state { MODEL_WAITING, MODEL_SENT, MODEL_DONE };

struct model_entry {
  uint64_t message;  // its number, which its payload begins with
  uint32_t weight;
  uint8_t state;
};

struct model_subscription {
  bool exists;
  uint32_t id;
  uint8_t qos;
  bool no_local, retain_as_published;
};

struct model_session {
  bool exists;
  uint32_t number, expiry_s;
  bool connected;
  uint16_t window;
  uint64_t since_ms, sent;
  struct model_entry *entries;
  uint64_t tail, capacity;
  uint64_t outcomes[OUTCOMES];
  struct model_subscription subscriptions[MODEL_FILTERS];
  bool received[MODEL_IDS];
  uint64_t will;  // number of its payload, 0: none
  char user[16];  // whose it is; "": nobody's
};

struct model {
  struct model_session sessions[MODEL_SESSIONS];  // by number % MODEL_SESSIONS
  uint32_t next_session;
  uint64_t next_message;
  uint64_t retained[MODEL_TOPICS];
};

void model_init(struct model *model);
void model_deinit(struct model *model);

// Applies one record, header first.
void model_apply(struct model *model, struct span record);

// What kinds of records are made, and how large their messages are.
struct model_mix {
  unsigned sessions;                   // about as many at once
  unsigned payload_most;               // bytes
  unsigned message_share, done_share;  // of 100; the rest is of all other kinds
  unsigned fan_out;                    // most queues that one message goes to
};

// Appends a record that may come next, and applies it to the model.
void model_next(struct model *model, struct prng *prng, const struct model_mix *mix, struct buffer *out);

// One message to the queue of one session, which is known to the model.
void model_put_message(struct model *model, uint32_t session, unsigned payload_size, struct buffer *out);
void model_put_done(struct model *model, uint32_t session, uint64_t place, uint32_t count, struct buffer *out);
void model_put_session(struct model *model, struct buffer *out);
void model_put_owner(struct model *model, uint32_t session, const char *user, struct buffer *out);

// All of it as text, into a buffer that is emptied first. `queues`: messages of each queue are loaded, too.
void model_describe(const struct model *model, struct buffer *out);
void store_describe(struct store *store, struct buffer *out);

uint64_t text_hash(const struct buffer *text);
