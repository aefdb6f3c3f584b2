// How many connections each address has to each listener: limits.connections_per_address. Only where that limit is set
// anything is counted. Any thread.
//
// An IPv6 address counts by its first 64 bits, which is what one customer of a provider has; unix sockets are one place, and
// not counted.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct addresses;
struct listener;

// NULL when memory is short. `seed`: secret and random.
struct addresses *addresses_create(uint64_t seed);
void addresses_destroy(struct addresses *addresses);  // NULL is harmless

// Counts one more connection to the listener from this address ("192.0.2.7:51234"). False: there are as many as its limit
// allows, or memory is short. *out_counted: whether addresses_leave has to be called for it.
bool addresses_enter(struct addresses *addresses, const struct listener *listener, const char *address, bool *out_counted);

// The connection is gone.
void addresses_leave(struct addresses *addresses, const struct listener *listener, const char *address);

// Whether one more would be too many.
bool addresses_full(struct addresses *addresses, const struct listener *listener, const char *address);
