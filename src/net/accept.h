// Takes new connections from listeners: limits, rates, and what to do when descriptors run out. Part of whatever has an
// epoll descriptor to watch them with: the accepting loop, and the handshaker for those that begin with TLS.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/transport.h"
#include "wire/ip_text.h"

enum { ADDRESS_TEXT = IP_TEXT_SIZE + 8 };  // "[2001:db8::1]:51234", with its NUL

// A listener as one accepter sees it.
struct accepting {
  enum source_kind source;
  struct listener *listener;  // NULL: removed
  struct link link;
  struct accepting *next_removed;
  uint64_t paused_until_ms;  // 0: accepting
  uint64_t round_ms;         // when it was last asked to accept
  uint64_t window_ms;        // the second that `window_count` counts in
  uint32_t window_count;
};

// Filled by its owner.
struct accepter {
  int epoll;
  const struct mono *now;
  struct log *log;
  struct net_counters *counters;
  const _Atomic uint32_t *connections, *max_connections;  // of the broker
  struct addresses *addresses;                            // NULL: none are counted
  struct link accepting;                                  // list_init
  struct accepting *removed;                              // NULL
  // Whether one more can be taken now; false: asked again in a moment. NULL: always.
  bool (*ready)(void *context);
  // Takes the socket.
  void (*open)(void *context, struct listener *listener, int fd, const struct sockaddr_storage *peer, const char *address);
  void *context;
};

void accepter_add(struct accepter *accepter, struct listener *listener);
void accepter_remove(struct accepter *accepter, const struct listener *listener);
void accepter_remove_all(struct accepter *accepter);

// Frees what was removed. Not sooner than all events are handled that came together: one of them may be the listener's.
void accepter_bury(struct accepter *accepter);

// The listener's socket has connections, or had when it was removed.
void accepter_accept(struct accepter *accepter, struct accepting *accepting);

// Whether the connection limits allow one more. Counts and logs it when they do not.
bool accepter_within_limits(struct accepter *accepter, const struct listener *listener, const char *address);

// Counts the connection for its address, which has to be told by now. False: there are too many from there; the same.
bool accepter_enter(struct accepter *accepter, const struct listener *listener, const char *address, bool *out_counted);

// Whether there would be too many from there; the same.
bool accepter_turns_away(struct accepter *accepter, const struct listener *listener, const char *address);

// Goes on with listeners whose pause is over; how long until the next is, -1: none is paused.
void accepter_resume(struct accepter *accepter);
int64_t accepter_resumes_ms(const struct accepter *accepter);
