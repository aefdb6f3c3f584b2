// What is in the bodies of records, for looking and printing. Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"
#include "core/record.h"

// Whether the body is what its type says, as far as the body alone can tell. False for types that are not known.
bool journal_body_valid(enum record_type type, struct span body);

// Records that say whose a session is.
bool journal_session_name(enum record_type type, struct span body, uint32_t *out_session, struct span *out_client_id);

// Calls back with each session that a record concerns, and with each topic of a message, will or retained entry in it.
// Nothing for a body that cannot be read.
void journal_each_session(enum record_type type, struct span body, void (*found)(void *context, uint32_t session),
                          void *context);
void journal_each_topic(enum record_type type, struct span body, void (*found)(void *context, struct span topic),
                        void *context);

// A retained message, as RECORD_CHECKPOINT_RETAINED and RECORD_RETAINED_DROP (position and topic only) name it.
struct journal_retained {
  uint64_t position;
  uint64_t expiry_ms;  // journal time, 0: never
  uint64_t weight;
  struct span topic;
};
bool journal_get_drop(struct span body, struct journal_retained *out);

// Walks a RECORD_CHECKPOINT_RETAINED; starts with *cursor = 0 and a zeroed *entry, which it goes on from. False at the end,
// where *cursor is the body's size, or at something that is no entry.
bool journal_next_retained(struct span body, size_t *cursor, struct journal_retained *entry);

struct journal_checkpoint_end {
  uint32_t next_session, sessions;
  uint64_t retained;
};
bool journal_get_checkpoint_begin(struct span body, uint64_t *out_now_ms);
bool journal_get_checkpoint_end(struct span body, struct journal_checkpoint_end *out);

// ---- Properties that are forwarded, encoded as in PUBLISH

enum journal_property_kind { PROPERTY_NUMBER, PROPERTY_BYTES, PROPERTY_PAIR };

struct journal_property {
  const char *name;  // "content-type"
  enum journal_property_kind kind;
  uint64_t number;
  struct span key, value;  // key: of a pair
};

// Starts with *cursor = 0. False at the end, or at something that is none of them.
bool journal_next_property(struct span properties, size_t *cursor, struct journal_property *out);
