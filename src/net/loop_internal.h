// Between loop.c (the turn), accept.c (new connections) and net.c (the control thread's side).
#pragma once

#include <pthread.h>
#include <semaphore.h>

#include "base/list.h"
#include "net/keeper.h"
#include "net/loop.h"
#include "net/mailbox.h"
#include "net/transport.h"

enum { INPUT_SIZE = 128 * 1024, SCRATCH_SIZE = 64 * 1024 };

// flags of MAIL_HOST
enum { HOST_HANDOFF, HOST_TASK };

struct handoff {
  struct transport *transport;
  uint8_t *input;
  size_t size;
};

// Something the control thread has a loop do; it waits for it.
struct task {
  void (*run)(struct loop *loop, void *argument);
  void *argument;
  sem_t *done;
};

// A listener as one loop sees it.
struct accepting {
  enum source_kind source;
  struct listener *listener;
  struct link link;
  uint64_t paused_until_ms;  // 0: accepting
  uint64_t round_ms;         // when it was last asked to accept
  uint64_t window_ms;        // the second that `window_count` counts in
  uint32_t window_count;
};

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
  struct link accepting;
  struct net_counters counters;
  pthread_t thread;
  bool started;
  _Atomic bool sleeping;
  struct mailbox *mailboxes;  // one per sender: the loops by number, then the control thread
  uint8_t input[INPUT_SIZE];
  uint8_t scratch[SCRATCH_SIZE];
};

struct net {
  struct loop *loop[SHARDS_MAX];
  struct store *store;    // NULL: there is no journal
  struct keeper *keeper;  // the same
  uint8_t loops;
  _Atomic uint32_t connections;
  _Atomic uint32_t max_connections;
};

struct mono loop_clock(void);
void *loop_main(void *loop);
void loop_begin(struct loop *loop, struct transport *transport);
void loop_drop(struct loop *loop, struct transport *transport);  // its connection is gone already
void loop_send(struct loop *loop, uint8_t target, struct mail mail);
void loop_bury(struct loop *loop);  // frees the transports that were dropped
void loop_post_outgoing(struct loop *loop);
void loop_wake(struct loop *target);
void loop_run_task(struct loop *loop, struct task *task);

// accept.c
void loop_accept(struct loop *loop, struct accepting *accepting);
void loop_resume_accepting(struct loop *loop);
int64_t loop_accept_resumes_ms(const struct loop *loop);  // -1: nothing is paused
void loop_add_listener(struct loop *loop, struct listener *listener);
void loop_remove_listener(struct loop *loop, const struct listener *listener);
