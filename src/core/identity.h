// Who a client is, as far as access control is concerned. Made where it is authenticated (src/auth), from what its transport
// knows and what it has shown; immutable, with a count of references that any thread may change. Holds no secret.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/span.h"
#include "base/status.h"

// What else is known of it: "cert.cn", "cert.ou", "cert.san_uri", "jwt.<claim>". A name may come several times, with several
// values.
struct identity_fact {
  struct span name, value;
};

// Texts are followed by a NUL where they are the identity's.
struct identity {
  struct span user;      // size 0: anonymous
  const char *method;    // static: "anonymous", "cert", "password", "jwt", "scram", "psk"; "restored": from the journal
  struct span listener;  // its name in the configuration, else its URL
  const struct span *groups;
  size_t group_count;
  const struct identity_fact *facts;
  size_t fact_count;
  int64_t expires_ms;  // wall time at which the client is to be disconnected (the end of a token); 0: never
};

// A copy of everything, with one reference. NULL when memory is short.
const struct identity *identity_create(const struct identity *parts);

const struct identity *identity_ref(const struct identity *identity);  // NULL is harmless
void identity_unref(const struct identity *identity);                  // the same

// As it stands in the journal (docs/formats/journal.md, WILL): all that access control knows of it. ERR_NO_MEMORY.
CHECK_RESULT enum status identity_write(struct buffer *out, const struct identity *identity);
bool identity_readable(struct span bytes);                // whether they are one, and nothing else
const struct identity *identity_read(struct span bytes);  // which are readable; one reference. NULL when memory is short

struct span identity_find(const struct identity *identity, struct span name);  // its first value; at is NULL: none
