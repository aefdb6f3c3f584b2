// Between loop.c (the turn), loop_tls.c (what connections with TLS need besides), loop_auth.c (who clients are) and net.c
// (the control thread's side).
#pragma once

#include <pthread.h>
#include <semaphore.h>

#include "base/list.h"
#include "net/accept.h"
#include "net/authenticator.h"
#include "net/handshaker.h"
#include "net/keeper.h"
#include "net/loop.h"
#include "net/mailbox.h"
#include "net/transport.h"

enum { INPUT_SIZE = 128 * 1024, SCRATCH_SIZE = 64 * 1024 };

// flags of MAIL_HOST
enum { HOST_HANDOFF, HOST_TASK };

struct handoff {
  struct transport *transport;
  struct admission *admission;  // what the client has shown; NULL: nothing
  uint8_t *input;
  size_t size;
};

// Something the control thread has a loop do; it waits for it.
struct task {
  void (*run)(struct loop *loop, void *argument);
  void *argument;
  sem_t *done;
};

struct addresses;

struct loop {
  struct net *net;
  struct shard *shard;
  uint8_t number;
  bool stop;
  bool outgoing_left;
  int epoll;
  int wake;  // eventfd
  enum source_kind wake_source;
  enum journal_state journal_state;  // as the shard knows it
  uint64_t committed;                // the same; on JOURNAL_SHARD
  struct mono now;
  struct log log;
  struct transport *dead;
  struct accepter accepter;
  struct net_counters counters;
  // Connections with TLS
  _Atomic(struct transport *) arrived;  // through with their handshake; the last one first
  struct link secure;                   // all
  uint32_t secure_count, unchecked;     // so many, from the front of `secure`, are to be looked at with new CRLs
  pthread_t thread;
  bool started;
  _Atomic bool sleeping;
  struct mailbox *mailboxes;  // one per sender: the loops by number, then the control thread
  uint8_t input[INPUT_SIZE];
  uint8_t scratch[SCRATCH_SIZE];
};

struct net {
  struct loop *loop[SHARDS_MAX];
  struct store *store;            // NULL: there is no journal
  struct keeper *keeper;          // the same
  struct handshaker *handshaker;  // NULL: no listener has had TLS yet
  struct handshaker_settings handshakes;
  _Atomic(struct authenticator *) authenticator;  // NULL: no listener has had a gate yet
  uint8_t loops;
  _Atomic uint32_t connections;
  _Atomic uint32_t max_connections;
  struct addresses *addresses;
  // The control thread's: by the number of limits, how long a CONNECT may take; 0: the number is free.
  uint32_t connect_timeout_ms[LIMIT_SETS];
};

struct mono loop_clock(void);
void *loop_main(void *loop);
void loop_drop(struct loop *loop, struct transport *transport);  // its connection is gone already
void loop_send(struct loop *loop, uint8_t target, struct mail mail);
void loop_bury(struct loop *loop);  // frees the transports that were dropped
void loop_post_outgoing(struct loop *loop);
void loop_wake(struct loop *target);
void loop_run_task(struct loop *loop, struct task *task);

// What is new to the shard, with the bytes that it has sent already.
void loop_open(struct loop *loop, struct transport *transport);

// loop_tls.c
void loop_tls_arrive(struct loop *loop, struct transport *transport);  // the handshaker's thread
void loop_tls_take_arrived(struct loop *loop);
void loop_tls_join(struct loop *loop, struct transport *transport);   // it is this loop's now
void loop_tls_leave(struct loop *loop, struct transport *transport);  // ... no longer
void loop_tls_check_all(struct loop *loop);                           // a gate is new: looked over in the next turns
void loop_tls_check_some(struct loop *loop);
bool loop_tls_busy(const struct loop *loop);  // the next turn is not to wait

// loop_auth.c
bool loop_auth_ask(struct loop *loop);  // whether answers have gone back to the shard
void loop_auth_take(struct loop *loop);
bool loop_auth_waits(const struct loop *loop);  // there are answers to take
