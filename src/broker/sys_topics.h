// $SYS: the broker's state as retained messages, with the names that Mosquitto made customary.
#pragma once

#include <stddef.h>

#include "broker/status_view.h"
#include "net/loop.h"

struct sys_topics;

// Keeps what the averages over 1, 5 and 15 minutes need. NULL when memory is short.
struct sys_topics *sys_topics_create(void);
void sys_topics_destroy(struct sys_topics *sys);  // NULL is harmless

// The values to publish now: only those that have changed since the last call. `interval_s`: time since the last call, 0 for
// the first. Valid until the next call.
const struct net_value *sys_topics_update(struct sys_topics *sys, const struct status_view *view, uint32_t interval_s,
                                          size_t *out_count);
