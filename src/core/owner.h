// Whose sessions are: one that a user has made, or come back to, is no other user's, because whoever gets it gets its
// subscriptions and what waits in it. Sessions of nobody (anonymous clients) become the next one's. The journal knows whose
// a durable session is. Only files of src/core include it.
#pragma once

#include <stdbool.h>

#include "base/span.h"
#include "base/status.h"

struct session;
struct shard;

// The user name. Size 0: nobody's. Valid as long as the session has it.
struct span owner_of(const struct session *session);

// Whether a user (size 0: an anonymous client) may have it.
bool owner_allows(const struct session *session, struct span user);

// It becomes the user's, if it is nobody's and the user is somebody; the journal is told. ERR_NO_MEMORY.
CHECK_RESULT enum status owner_set(struct session *session, struct span user);
void owner_forget(struct session *session);  // the session is about to be freed. Harmless when it is nobody's
