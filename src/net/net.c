// The control thread's side: makes the loops, gives them tasks and waits for these.

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "auth/enhanced.h"
#include "core/access.h"
#include "net/addresses.h"
#include "net/loop_internal.h"

enum { STACK_SIZE = 256 * 1024 };

// The first loop accepts for all: two that take turns at one socket get in each other's way, which costs more than the
// work itself, and many connections move to another loop anyway when their CONNECT has been read.
enum { ACCEPTING_LOOP = 0 };

static void loop_destroy(struct loop *loop)
{
  if (!loop) return;
  accepter_remove_all(&loop->accepter);
  accepter_bury(&loop->accepter);
  shard_destroy(loop->shard);
  loop_bury(loop);
  if (loop->epoll >= 0) close(loop->epoll);
  if (loop->wake >= 0) close(loop->wake);
  free(loop->mailboxes);
  (void)munmap(loop, sizeof *loop);
}

static void open_accepted(void *context, struct listener *listener, int fd, const struct sockaddr_storage *peer,
                          const char *address)
{
  (void)peer;
  struct loop *loop = context;
  bool counted = false;
  bool proxied = atomic_load_explicit(&listener->proxy_protocol, memory_order_relaxed);
  if (!proxied && !accepter_enter(&loop->accepter, listener, address, &counted)) {
    close(fd);
    return;
  }
  struct transport *transport = transport_create(fd, listener, address);
  if (!transport) {
    if (counted) addresses_leave(loop->net->addresses, listener, address);
    close(fd);
    return;
  }
  transport->counted = counted;
  atomic_fetch_add_explicit(&listener->connections, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&loop->net->connections, 1, memory_order_relaxed);
  loop_open(loop, transport);
}

static void init_accepter(struct loop *loop)
{
  loop->accepter = (struct accepter){.epoll = loop->epoll,
                                     .now = &loop->now,
                                     .log = &loop->log,
                                     .counters = &loop->counters,
                                     .connections = &loop->net->connections,
                                     .max_connections = &loop->net->max_connections,
                                     .addresses = loop->net->addresses,
                                     .open = open_accepted,
                                     .context = loop};
  list_init(&loop->accepter.accepting);
}

static enum status loop_create(struct net *net, const struct net_settings *settings, uint8_t number, struct error *error)
{
  // Pages that nobody touches cost nothing: the buffers of an idle broker stay unmapped. calloc would zero them.
  struct loop *loop = mmap(NULL, sizeof *loop, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (loop == MAP_FAILED) return error_set(error, ERR_NO_MEMORY, "no memory for a shard");
  net->loop[number] = loop;
  loop->net = net;
  loop->number = number;
  loop->now = loop_clock();
  loop->wake_source = SOURCE_WAKE;
  list_init(&loop->secure);
  list_init(&loop->accepter.accepting);
  log_init(&loop->log, settings->log_sink, settings->log_contexts[number], settings->log_level);
  loop->epoll = epoll_create1(EPOLL_CLOEXEC);
  loop->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = &loop->wake_source};
  if (loop->epoll < 0 || loop->wake < 0 || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &event) < 0)
    return error_set(error, status_from_errno(errno), "cannot make an event loop: %s", strerror(errno));
  init_accepter(loop);
  size_t size = (settings->loops + 1u) * sizeof *loop->mailboxes;
  loop->mailboxes = aligned_alloc(_Alignof(struct mailbox), size);
  struct shard_settings shard = {.shard = number,
                                 .shard_count = settings->loops,
                                 .limits = settings->limits,
                                 .seed = settings->seed,
                                 .budget = settings->budget,
                                 .log = &loop->log,
                                 .journal = settings->store != NULL,
                                 .journal_waits = settings->store && settings->journal_interval_ms == 0,
                                 .journal_epoch_ms = settings->store ? store_epoch_ms(settings->store) : 0,
                                 .journal_high_bytes = settings->journal_high_bytes,
                                 .free_enhanced = enhanced_free};
  loop->shard = shard_create(&shard, loop->now);
  if (!loop->mailboxes || !loop->shard) return error_set(error, ERR_NO_MEMORY, "no memory for a shard");
  for (uint8_t i = 0; i <= settings->loops; i++) {
    struct mailbox *mailbox = &loop->mailboxes[i];
    atomic_init(&mailbox->written, 0);
    atomic_init(&mailbox->read, 0);
    mailbox->read_seen = 0;
  }
  return OK;
}

// On the keeper's thread.
static void take_news(void *context, bool state)
{
  struct net *net = context;
  if (state)
    for (uint8_t i = 0; i < net->loops; i++) loop_wake(net->loop[i]);
  else
    loop_wake(net->loop[JOURNAL_SHARD]);
}

static enum status create_keeper(struct net *net, const struct net_settings *settings, struct error *error)
{
  if (!settings->store) return OK;
  net->store = settings->store;
  struct keeper_settings keeper = {.store = settings->store,
                                   .log = settings->store_log,
                                   .interval_ms = settings->journal_interval_ms,
                                   .news = take_news,
                                   .context = net};
  return keeper_create(&keeper, &net->keeper, error);
}

static void through(void *context, struct transport *transport)
{
  struct net *net = context;
  loop_tls_arrive(net->loop[ACCEPTING_LOOP], transport);
}

// What the handshaker needs when there is to be one.
static struct handshaker_settings handshakes_of(struct net *net, const struct net_settings *settings)
{
  return (struct handshaker_settings){.time_limit_ms = settings->limits.connect_timeout_ms,
                                      .seed = settings->seed,
                                      .log_sink = settings->log_sink,
                                      .log_context = settings->side_log_context ? settings->side_log_context
                                                                                : settings->log_contexts[0],
                                      .log_level = settings->log_level,
                                      .connections = &net->connections,
                                      .max_connections = &net->max_connections,
                                      .addresses = net->addresses,
                                      .through = through,
                                      .context = net};
}

enum status net_create(const struct net_settings *settings, struct net **out, struct error *error)
{
  assert(settings->loops >= 1);
  assert(settings->loops <= SHARDS_MAX);
  struct net *net = calloc(1, sizeof *net);
  if (!net) return error_set(error, ERR_NO_MEMORY, "no memory for the network");
  net->loops = settings->loops;
  net->max_connections = settings->max_connections;
  net->connect_timeout_ms[BROKER_LIMITS] = settings->limits.connect_timeout_ms;
  net->addresses = addresses_create(settings->seed);
  if (!net->addresses) {
    free(net);
    return error_set(error, ERR_NO_MEMORY, "no memory for the network");
  }
  net->handshakes = handshakes_of(net, settings);
  enum status status = OK;
  for (uint8_t i = 0; i < settings->loops && status == OK; i++) {
    status = loop_create(net, settings, i, error);
    if (status == OK) access_set_list(net->loop[i]->shard, settings->acl);
  }
  if (status == OK) status = create_keeper(net, settings, error);
  if (status == OK)
    *out = net;
  else
    net_destroy(net);
  return status;
}

enum status net_restore(struct net *net, struct error *error)
{
  if (!net->keeper) return OK;
  struct shard *shards[SHARDS_MAX];
  for (uint8_t i = 0; i < net->loops; i++) shards[i] = net->loop[i]->shard;
  return store_restore(net->store, shards, net->loops, error);
}

enum status net_start(struct net *net, struct error *error)
{
  if (net->keeper) {
    enum status status = keeper_start(net->keeper, error);
    if (status != OK) return status;
  }
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  int result = 0;
  for (uint8_t i = 0; i < net->loops && result == 0; i++) {
    result = pthread_create(&net->loop[i]->thread, &attributes, loop_main, net->loop[i]);
    net->loop[i]->started = result == 0;
  }
  pthread_attr_destroy(&attributes);
  return result == 0 ? OK : error_set(error, status_from_errno(result), "cannot start a thread: %s", strerror(result));
}

// ---- Tasks

void loop_run_task(struct loop *loop, struct task *task)
{
  sem_t *done = task->done;
  task->run(loop, task->argument);
  sem_post(done);  // the task belongs to the waiting thread again
}

static void post(struct net *net, uint8_t number, struct task *task)
{
  struct loop *loop = net->loop[number];
  struct mail mail = {.kind = MAIL_HOST, .flags = HOST_TASK, .pointer = task};
  // The control thread waits for each task, so the ring always has room.
  size_t put = mailbox_put(&loop->mailboxes[net->loops], &mail, 1);
  assert(put == 1);
  loop_wake(loop);
}

static void wait_for(sem_t *done, unsigned count)
{
  while (count > 0)
    if (sem_wait(done) == 0) count--;
}

// Runs on the loops `first` to `last` at once, returns when all have. Before they are started: here and now.
static void run_on(struct net *net, uint8_t first, uint8_t last, void (*run)(struct loop *, void *), void *argument)
{
  sem_t done;
  sem_init(&done, 0, 0);
  struct task task = {.run = run, .argument = argument, .done = &done};
  unsigned waiting = 0;
  for (uint8_t i = first; i <= last; i++) {
    if (net->loop[i]->started) {
      post(net, i, &task);
      waiting++;
    } else {
      run(net->loop[i], argument);
    }
  }
  wait_for(&done, waiting);
  sem_destroy(&done);
}

static void run_on_all(struct net *net, void (*run)(struct loop *, void *), void *argument)
{
  run_on(net, 0, (uint8_t)(net->loops - 1), run, argument);
}

static void add_listener(struct loop *loop, void *argument)
{
  accepter_add(&loop->accepter, argument);
}

static void remove_listener(struct loop *loop, void *argument)
{
  accepter_remove(&loop->accepter, argument);
}

uint8_t net_loops(const struct net *net)
{
  return net->loops;
}

// On a thread of the authenticator.
static void answered(void *context, uint8_t loop)
{
  struct net *net = context;
  loop_wake(net->loop[loop]);
}

// As long as the most patient listener waits.
static uint32_t patience_ms(const struct net *net)
{
  uint32_t longest_ms = 0;
  for (unsigned i = 0; i < LIMIT_SETS; i++)
    if (net->connect_timeout_ms[i] > longest_ms) longest_ms = net->connect_timeout_ms[i];
  return longest_ms;
}

static enum status create_authenticator(struct net *net, struct error *error)
{
  const struct authenticator_settings settings = {
      .patience_ms = patience_ms(net), .seed = net->handshakes.seed, .news = answered, .context = net};
  struct authenticator *authenticator;
  enum status status = authenticator_create(&settings, &authenticator, error);
  if (status == OK) atomic_store(&net->authenticator, authenticator);
  return status;
}

enum status net_prepare(struct net *net, const struct listener *listener, const struct gate *gate, struct error *error)
{
  enum status status = OK;
  if (gate && !atomic_load(&net->authenticator)) status = create_authenticator(net, error);
  if (status == OK && listener->tls && !net->handshaker)
    status = handshaker_create(&net->handshakes, &net->handshaker, error);
  return status;
}

void net_add_listener(struct net *net, struct listener *listener)
{
  if (listener->tls && net_prepare(net, listener, NULL, NULL) != OK) abort();
  if (listener->tls)
    handshaker_add_listener(net->handshaker, listener);
  else
    run_on(net, ACCEPTING_LOOP, ACCEPTING_LOOP, add_listener, listener);
}

struct listener_limits {
  uint8_t number;
  const struct limits *limits;
};

static void set_listener_limits(struct loop *loop, void *argument)
{
  const struct listener_limits *new_limits = argument;
  shard_set_listener_limits(loop->shard, new_limits->number, new_limits->limits);
}

static uint8_t free_number(const struct net *net)
{
  for (uint8_t i = BROKER_LIMITS + 1; i < LIMIT_SETS; i++)
    if (net->connect_timeout_ms[i] == 0) return i;
  abort();  // more listeners than a configuration can have
}

void net_set_listener_limits(struct net *net, struct listener *listener, const struct limits *limits)
{
  uint8_t number = atomic_load(&listener->limits);
  if (number == BROKER_LIMITS) number = free_number(net);
  struct listener_limits new_limits = {.number = number, .limits = limits};
  net->connect_timeout_ms[number] = limits->connect_timeout_ms;
  run_on_all(net, set_listener_limits, &new_limits);
  atomic_store(&listener->limits, number);  // only now: every shard has them
  atomic_store(&listener->connect_timeout_ms, limits->connect_timeout_ms);
  struct authenticator *authenticator = atomic_load(&net->authenticator);
  if (authenticator) authenticator_set_patience(authenticator, patience_ms(net));
}

// The number is free when no shard has a connection or session with it any more. What comes through yet (a handshake, a
// connection that moves between shards) asks the listener, and gets the broker's.
static void give_limits_back(struct net *net, struct listener *listener)
{
  struct listener_limits gone = {.number = atomic_exchange(&listener->limits, BROKER_LIMITS)};
  if (gone.number == BROKER_LIMITS) return;
  run_on_all(net, set_listener_limits, &gone);
  net->connect_timeout_ms[gone.number] = 0;
}

void net_remove_listener(struct net *net, struct listener *listener)
{
  if (!listener->tls)
    run_on(net, ACCEPTING_LOOP, ACCEPTING_LOOP, remove_listener, listener);
  else if (net->handshaker)
    handshaker_remove_listener(net->handshaker, listener);
  give_limits_back(net, listener);
}

static void check_all(struct loop *loop, void *argument)
{
  (void)argument;
  loop_tls_check_all(loop);
}

void net_set_gate(struct net *net, struct listener *listener, struct gate *gate)
{
  if (net_prepare(net, listener, gate, NULL) != OK) abort();
  listener_set_gate(listener, gate);
  if (listener->tls && net->handshaker) run_on_all(net, check_all, NULL);
}

static void set_acl(struct loop *loop, void *argument)
{
  access_set_list(loop->shard, argument);
}

void net_set_acl(struct net *net, struct acl *acl)
{
  run_on_all(net, set_acl, acl);
}

struct errand {
  void (*run)(struct shard *shard, uint8_t number, void *argument);
  void *argument;
};

static void run_errand(struct loop *loop, void *argument)
{
  const struct errand *errand = argument;
  errand->run(loop->shard, loop->number, errand->argument);
}

void net_run_on_shards(struct net *net, void (*run)(struct shard *shard, uint8_t number, void *argument), void *argument)
{
  struct errand errand = {.run = run, .argument = argument};
  run_on_all(net, run_errand, &errand);
}

struct new_limits {
  const struct limits *limits;
  enum log_level log_level;
};

static void set_limits(struct loop *loop, void *argument)
{
  const struct new_limits *new_limits = argument;
  shard_set_limits(loop->shard, new_limits->limits);
  loop->log.level = new_limits->log_level;
}

void net_set_limits(struct net *net, const struct limits *limits, uint32_t max_connections, enum log_level log_level)
{
  struct new_limits new_limits = {.limits = limits, .log_level = log_level};
  atomic_store(&net->max_connections, max_connections);
  net->handshakes.time_limit_ms = limits->connect_timeout_ms;
  net->handshakes.log_level = log_level;
  if (net->handshaker) handshaker_set_limits(net->handshaker, limits->connect_timeout_ms, log_level);
  struct authenticator *authenticator = atomic_load(&net->authenticator);
  net->connect_timeout_ms[BROKER_LIMITS] = limits->connect_timeout_ms;
  if (authenticator) authenticator_set_patience(authenticator, patience_ms(net));
  if (net->keeper) keeper_set_log_level(net->keeper, log_level);
  run_on_all(net, set_limits, &new_limits);
}

struct snapshot {
  struct counters *shards;
  struct net_counters *loops;
};

static void snapshot(struct loop *loop, void *argument)
{
  const struct snapshot *into = argument;
  shard_counters(loop->shard, &into->shards[loop->number]);
  into->loops[loop->number] = loop->counters;
  into->loops[loop->number].tls_connections = loop->secure_count;
}

void net_counters_add(struct net_counters *sum, const struct net_counters *other)
{
  sum->accepted += other->accepted;
  sum->refused_limit += other->refused_limit;
  sum->refused_address += other->refused_address;
  sum->refused_framing += other->refused_framing;
  sum->accept_errors += other->accept_errors;
  sum->rate_pauses += other->rate_pauses;
  sum->tls_full += other->tls_full;
  sum->tls_resumed += other->tls_resumed;
  sum->tls_failed += other->tls_failed;
  sum->tls_closed += other->tls_closed;
  sum->tls_timeouts += other->tls_timeouts;
  sum->tls_crowded += other->tls_crowded;
  sum->tls_in_progress += other->tls_in_progress;
  sum->tls_connections += other->tls_connections;
  sum->tls_revoked += other->tls_revoked;
}

void net_snapshot(struct net *net, struct counters *out, struct net_counters *out_net)
{
  struct net_counters loops[SHARDS_MAX];
  struct snapshot into = {.shards = out, .loops = loops};
  run_on_all(net, snapshot, &into);
  *out_net = (struct net_counters){0};
  for (uint8_t i = 0; i < net->loops; i++) net_counters_add(out_net, &loops[i]);
  if (net->handshaker) handshaker_count(net->handshaker, out_net);
}

bool net_authentication(struct net *net, struct authenticator_counters *out)
{
  struct authenticator *authenticator = atomic_load(&net->authenticator);
  if (authenticator) authenticator_counters(authenticator, out);
  return authenticator;
}

bool net_journal(struct net *net, struct store_counters *out, enum journal_state *out_state)
{
  if (!net->keeper) return false;
  keeper_counters(net->keeper, out);
  *out_state = keeper_state(net->keeper);
  return true;
}

struct values {
  const struct net_value *values;
  size_t count;
  bool retain;
};

static void publish(struct loop *loop, void *argument)
{
  const struct values *values = argument;
  for (size_t i = 0; i < values->count; i++)
    shard_publish(loop->shard, values->values[i].topic, values->values[i].payload, 0, values->retain);
}

void net_publish(struct net *net, const struct net_value *values, size_t count, bool retain)
{
  struct values all = {.values = values, .count = count, .retain = retain};
  run_on(net, 0, 0, publish, &all);
}

// ---- The end

static void disconnect_all(struct loop *loop, void *argument)
{
  shard_disconnect_all(loop->shard, *(const enum mqtt_reason *)argument);
}

static void stop(struct loop *loop, void *argument)
{
  (void)argument;
  loop->stop = true;
}

// Transports that are still open, also those whose goodbye the peer has not taken: the shard is about to free their
// connections.
static void close_transports(struct loop *loop)
{
  shard_disconnect_all(loop->shard, MQTT_SERVER_SHUTTING_DOWN);
  for (struct connection *connection; (connection = shard_any_connection(loop->shard));) {
    struct transport *transport = connection_transport(connection);
    shard_closed(loop->shard, connection);
    loop_drop(loop, transport);
  }
}

static void discard_handoff(struct handoff *handoff)
{
  admission_free(handoff->admission);
  transport_destroy(handoff->transport);
  free(handoff->input);
  free(handoff);
}

static void take_last(struct loop *loop, struct mail *mail)
{
  if (mail->kind != MAIL_HOST)
    shard_mail(loop->shard, mail);
  else if (mail->flags == HOST_HANDOFF)
    discard_handoff(mail->pointer);
}

// What other shards have taken, and acknowledged where nothing waits for the disk, may still be on its way to the one
// that keeps it.
static void take_last_mails(struct net *net, struct loop *loop)
{
  for (uint8_t from = 0; from < net->loops; from++) {
    if (from == loop->number) continue;
    struct mail mail;
    while (mailbox_take(&loop->mailboxes[from], &mail)) take_last(loop, &mail);
    size_t count;
    struct mail *kept = shard_outgoing(net->loop[from]->shard, loop->number, &count);
    for (size_t i = 0; i < count; i++) take_last(loop, &kept[i]);
    shard_outgoing_taken(net->loop[from]->shard, loop->number, count);
  }
}

// The loops have ended. What the shard still has for the store goes there, the ends of the last connections too.
static enum status stop_keeper(struct net *net, struct error *error)
{
  struct loop *loop = net->loop[JOURNAL_SHARD];
  shard_set_time(loop->shard, loop_clock());
  take_last_mails(net, loop);
  close_transports(loop);
  struct journal_batch *batch = shard_take_batch(loop->shard);
  if (batch) keeper_give(net->keeper, batch);
  return keeper_stop(net->keeper, error);
}

// What it was asked last, nobody waits for any more.
static void destroy_authenticator(struct net *net)
{
  authenticator_destroy(atomic_exchange(&net->authenticator, NULL));
}

enum status net_stop(struct net *net, enum mqtt_reason reason, unsigned patience_ms, struct error *error)
{
  handshaker_destroy(net->handshaker);
  net->handshaker = NULL;
  run_on_all(net, disconnect_all, &reason);
  uint64_t deadline_ms = loop_clock().ms + patience_ms;
  while (atomic_load(&net->connections) > 0 && loop_clock().ms < deadline_ms) usleep(1000);
  run_on_all(net, stop, NULL);
  for (uint8_t i = 0; i < net->loops; i++) {
    if (!net->loop[i]->started) continue;
    pthread_join(net->loop[i]->thread, NULL);
    net->loop[i]->started = false;
  }
  destroy_authenticator(net);
  return net->keeper ? stop_keeper(net, error) : OK;
}

static void discard_mails(struct loop *loop)
{
  struct mail mail;
  for (uint8_t from = 0; from <= loop->net->loops; from++)
    while (mailbox_take(&loop->mailboxes[from], &mail)) {
      if (mail.kind != MAIL_HOST)
        mail_discard(loop->shard, &mail);
      else if (mail.flags == HOST_HANDOFF)
        discard_handoff(mail.pointer);
    }
}

// Handoffs that a full mailbox kept back. Other mail is the shard's own to discard.
static void discard_outgoing_handoffs(struct loop *loop)
{
  for (uint8_t to = 0; to < loop->net->loops; to++) {
    if (to == loop->number) continue;
    size_t count;
    const struct mail *mails = shard_outgoing(loop->shard, to, &count);
    for (size_t i = 0; i < count; i++)
      if (mails[i].kind == MAIL_HOST) discard_handoff(mails[i].pointer);
  }
}

void net_destroy(struct net *net)
{
  if (!net) return;
  handshaker_destroy(net->handshaker);
  for (uint8_t i = 0; i < net->loops; i++)
    if (net->loop[i] && net->loop[i]->shard && net->loop[i]->mailboxes) {
      discard_mails(net->loop[i]);
      discard_outgoing_handoffs(net->loop[i]);
      loop_tls_take_arrived(net->loop[i]);
      close_transports(net->loop[i]);
    }
  destroy_authenticator(net);
  for (uint8_t i = 0; i < net->loops; i++) loop_destroy(net->loop[i]);
  keeper_destroy(net->keeper);
  addresses_destroy(net->addresses);
  free(net);
}
