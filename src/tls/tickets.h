// Keys that session tickets are sealed with: a new one each hour; those of the last two hours open. Shared by the
// credentials that follow each other on a listener; any thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

enum { TICKET_KEY_MS = 3600 * 1000, TICKET_KEYS = 2, TICKET_NAME = 16 };

struct ticket_key {
  uint8_t name[TICKET_NAME];   // told in clear with each ticket
  uint8_t cipher[32];          // AES-256
  uint8_t authentication[32];  // HMAC-SHA-256
};

struct tickets;

struct tickets *tickets_create(void);  // one reference; NULL when memory is short
struct tickets *tickets_ref(struct tickets *tickets);
void tickets_unref(struct tickets *tickets);  // the last one wipes; NULL is harmless

// The key to seal with. False: no randomness.
bool tickets_current(struct tickets *tickets, struct mono now, struct ticket_key *out);

// The key of that name. *out_renew: it is not the current one, the client should get a new ticket. False: there is none, or
// no more.
bool tickets_find(struct tickets *tickets, struct mono now, const uint8_t name[TICKET_NAME], struct ticket_key *out,
                  bool *out_renew);
