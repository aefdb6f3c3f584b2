// How long somebody who has shown wrong credentials has to wait before more are looked at. Two things are counted: wrong
// guesses of one user name from one address, and of any name from that address. The second forgives more, and with the time,
// so that one device with an old password does not keep out the others behind the same router; who tries one name after the
// other meets it soon enough. A user who was right from there before does not wait for the address. Pure: time comes in. Not
// thread-safe.
//
// What is refused while somebody has to wait is not counted as another guess: it tells the guesser nothing.
#pragma once

#include <stdint.h>

#include "base/clock.h"
#include "base/span.h"

struct backoff;

enum {
  BACKOFF_ENTRIES = 4096,         // of users at addresses, and as many of addresses; the least recent one goes
  BACKOFF_FREE_USER = 3,          // wrong guesses of one user name before there is a wait
  BACKOFF_FREE_ADDRESS = 12,      // ... of any names from one address
  BACKOFF_FIRST_MS = 1000,        // the first wait; each further wrong guess doubles it
  BACKOFF_MOST_MS = 60000,        // the longest
  BACKOFF_DRAIN_MS = 30000,       // an address is forgiven one guess each
  BACKOFF_FORGET_MS = 15 * 60000  // after so long without a wrong guess nothing is held against anybody
};

// Where somebody comes from: an IPv4 address, the first 64 bits of an IPv6 address (the rest is the guesser's to choose), or
// this host by a Unix socket.
struct backoff_source {
  uint8_t bytes[16];
};

// Of an address as transports have it: "192.0.2.7:51234", "[2001:db8::1]:51234", "unix". What is neither counts as one
// place.
struct backoff_source backoff_source_of(const char *address);

// `entries`: at least 1. `seed`: secret and random. NULL when memory is short. Memory for entries is taken when there are
// any.
struct backoff *backoff_create(uint32_t entries, uint64_t seed);
void backoff_destroy(struct backoff *backoff);  // NULL is harmless

// How long until this user's credentials from there will be looked at; 0: now. `user` with size 0: only the address counts.
uint64_t backoff_wait_ms(const struct backoff *backoff, const struct backoff_source *source, struct span user,
                         struct mono now);

void backoff_wrong(struct backoff *backoff, const struct backoff_source *source, struct span user, struct mono now);

// Forgives the user what was wrong from there, not the address: or whoever has one password could guess at the others for
// ever.
void backoff_right(struct backoff *backoff, const struct backoff_source *source, struct span user);

uint32_t backoff_count(const struct backoff *backoff);  // entries that are kept: of users and of addresses
