// The turn of a shard: one wait, then everything that is ready, then one write per connection.

#include "net/loop_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/addresses.h"

struct mono loop_clock(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (struct mono){(uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000};
}

// ---- Transports

static struct epoll_event interest(struct transport *transport)
{
  return (struct epoll_event){.events = (transport->reading ? EPOLLIN : 0u) | (transport->blocked ? EPOLLOUT : 0u),
                              .data.ptr = transport};
}

static void set_interest(struct loop *loop, struct transport *transport)
{
  struct epoll_event event = interest(transport);
  if (transport->registered) (void)epoll_ctl(loop->epoll, EPOLL_CTL_MOD, transport->fd, &event);
}

static bool watch(struct loop *loop, struct transport *transport)
{
  struct epoll_event event = interest(transport);
  transport->registered = epoll_ctl(loop->epoll, EPOLL_CTL_ADD, transport->fd, &event) == 0;
  return transport->registered;
}

static void unwatch(struct loop *loop, struct transport *transport)
{
  if (transport->registered) (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, transport->fd, NULL);
  transport->registered = false;
}

void loop_drop(struct loop *loop, struct transport *transport)
{
  // An event of this turn may still point to it: it is freed when the turn is over.
  unwatch(loop, transport);
  if (transport->layers) loop_tls_leave(loop, transport);
  if (transport->counted) addresses_leave(loop->net->addresses, transport->listener, transport->address);
  atomic_fetch_sub_explicit(&transport->listener->connections, 1, memory_order_relaxed);
  atomic_fetch_sub_explicit(&loop->net->connections, 1, memory_order_relaxed);
  transport->connection = NULL;
  transport->next_dead = loop->dead;
  loop->dead = transport;
}

static void closed(struct loop *loop, struct transport *transport)
{
  shard_closed(loop->shard, transport->connection);
  loop_drop(loop, transport);
}

static void block(struct loop *loop, struct transport *transport, bool blocked)
{
  if (transport->blocked == blocked) return;
  transport->blocked = blocked;
  set_interest(loop, transport);
}

static void close_politely(struct loop *loop, struct transport *transport)
{
  transport_goodbye(transport);
  closed(loop, transport);
}

// The shard is done with it. What a layer still holds goes first, unless the shard's patience has ended before: it asks
// again then.
static void finish(struct loop *loop, struct transport *transport)
{
  if (transport->ending || !transport_waits(transport)) {
    close_politely(loop, transport);
    return;
  }
  transport->ending = true;
  block(loop, transport, true);
}

// There is nothing new to write. False when the connection is gone.
static bool flush(struct loop *loop, struct transport *transport)
{
  const struct span nothing[2] = {{0}, {0}};
  if (transport_waits(transport) && transport_write(transport, nothing) < 0) {
    closed(loop, transport);
    return false;
  }
  bool unsent = transport_waits(transport);
  block(loop, transport, unsent);
  if (unsent || !transport->ending) return true;
  close_politely(loop, transport);
  return false;
}

// Writes until there is nothing more or the socket is full. False when the connection is gone.
static bool write_output(struct loop *loop, struct transport *transport)
{
  struct connection *connection = transport->connection;
  for (;;) {
    struct output output;
    size_t size = connection_output(loop->shard, connection, loop->scratch, sizeof loop->scratch, &output);
    if (size == 0) return flush(loop, transport);
    ssize_t written = transport_write(transport, output.parts);
    unsigned wants = connection_sent(loop->shard, connection, written > 0 ? (size_t)written : 0);
    if (written < 0) {
      closed(loop, transport);
      return false;
    }
    if (wants & CONNECTION_CLOSE) {
      finish(loop, transport);
      return transport->connection;
    }
    if ((size_t)written < size) {
      block(loop, transport, true);
      return true;
    }
    bool unsent = transport->layers && transport_waits(transport);
    if (!(wants & CONNECTION_OUTPUT) || unsent) {
      block(loop, transport, unsent);
      return true;
    }
  }
}

static void receive(struct loop *loop, struct transport *transport, struct span bytes);

static void resume(struct loop *loop, struct transport *transport)
{
  transport->paused = false;
  if (!transport->reading) {
    transport->reading = true;
    set_interest(loop, transport);
  }
  receive(loop, transport, (struct span){0});
}

// What the connections of this turn want: written once each, however many messages there are.
static void give_attention(struct loop *loop)
{
  unsigned wants;
  for (struct connection *connection; (connection = shard_next_attention(loop->shard, &wants));) {
    struct transport *transport = connection_transport(connection);
    if (wants & CONNECTION_CLOSE) {
      finish(loop, transport);
      continue;
    }
    if (wants & CONNECTION_OUTPUT && !transport->blocked && !write_output(loop, transport)) continue;
    if (wants & CONNECTION_RESUME) resume(loop, transport);
  }
}

static void hand_over(struct loop *loop, struct transport *transport)
{
  struct handoff *handoff = calloc(1, sizeof *handoff);
  if (!handoff) abort();
  handoff->transport = transport;
  unwatch(loop, transport);
  if (transport->layers) loop_tls_leave(loop, transport);
  handoff->admission = connection_take_admission(transport->connection);
  uint8_t target = shard_detach(loop->shard, transport->connection, &handoff->input, &handoff->size);
  transport->connection = NULL;
  loop_send(loop, target, (struct mail){.kind = MAIL_HOST, .flags = HOST_HANDOFF, .pointer = handoff});
}

static void receive(struct loop *loop, struct transport *transport, struct span bytes)
{
  for (;;) {
    size_t taken;
    switch (shard_receive(loop->shard, transport->connection, bytes, &taken)) {
      case RECEIVE_OK:
      case RECEIVE_CLOSING: return;
      case RECEIVE_PAUSED: transport->paused = true; return;
      case RECEIVE_MIGRATE: hand_over(loop, transport); return;
      case RECEIVE_YIELD: bytes = span_from(bytes, taken); break;
    }
    give_attention(loop);
    if (!transport->connection) return;  // closed meanwhile
    loop_post_outgoing(loop);
  }
}

static void refuse_framing(struct loop *loop, const struct transport *transport, const char *why)
{
  loop->counters.refused_framing++;
  LOG(&loop->log, loop->now, LOG_WARNING, "framing_refused", FIELD_TEXT("address", transport->address),
      FIELD_TEXT("listener", transport->listener->url), FIELD_TEXT("detail", why ? why : ""));
}

// Behind a proxy the address is known only now. False: there are too many from there; the connection is gone.
static bool enter_proxied(struct loop *loop, struct transport *transport)
{
  transport->proxied = false;
  if (accepter_enter(&loop->accepter, transport->listener, transport->address, &transport->counted)) return true;
  closed(loop, transport);
  return false;
}

static void read_input(struct loop *loop, struct transport *transport)
{
  size_t size;
  const char *why = NULL;
  enum transport_result ended = transport_read(transport, loop->input, sizeof loop->input, &size, &why);
  if (size > 0) {
    struct span bytes;
    ended = transport_unwrap(transport, loop->input, size, &bytes, &why);
    if (transport->proxied && !enter_proxied(loop, transport)) return;
    if (bytes.size > 0) receive(loop, transport, bytes);
    if (!transport->connection) return;
  }
  if (ended == TRANSPORT_OK) {
    if (transport->layers && !transport->blocked) block(loop, transport, transport_waits(transport));
    return;
  }
  if (ended == TRANSPORT_REFUSED) refuse_framing(loop, transport, why);
  // Packets that came in front of the end have been handled; their answers are written if they can be.
  if (size > 0) give_attention(loop);
  if (transport->connection) close_politely(loop, transport);
}

static struct connection_origin origin_of(const struct transport *transport)
{
  const struct listener *listener = transport->listener;
  return (struct connection_origin){.address = transport->address,
                                    .anonymous = atomic_load_explicit(&listener->anonymous, memory_order_relaxed),
                                    .authenticate = atomic_load_explicit(&listener->gated, memory_order_acquire),
                                    .limits = atomic_load_explicit(&listener->limits, memory_order_acquire)};
}

// A new connection has often sent its CONNECT already: it is read before the kernel is asked to watch the socket, which
// saves a round trip, and the watching altogether when another loop owns the client.
void loop_open(struct loop *loop, struct transport *transport)
{
  struct connection_origin origin = origin_of(transport);
  transport->connection = shard_open(loop->shard, transport, &origin);
  if (!transport->connection) {
    loop_drop(loop, transport);
    return;
  }
  if (transport->layers) loop_tls_join(loop, transport);
  transport->reading = true;
  read_input(loop, transport);
  if (transport->connection && !watch(loop, transport)) closed(loop, transport);
}

static void handle_transport(struct loop *loop, struct transport *transport, uint32_t events)
{
  if (!transport->connection) return;  // closed earlier in this turn
  if (events & EPOLLOUT && transport->blocked) {
    if (!write_output(loop, transport)) return;
  }
  if (events & EPOLLIN && !transport->paused) {
    read_input(loop, transport);
  } else if (events & (EPOLLERR | EPOLLHUP)) {
    closed(loop, transport);
  } else if (events & EPOLLIN) {
    transport->reading = false;
    set_interest(loop, transport);
  }
}

// ---- Mail

void loop_send(struct loop *loop, uint8_t target, struct mail mail)
{
  shard_send_host(loop->shard, target, mail);
}

static void wake(struct loop *target)
{
  if (!atomic_load_explicit(&target->sleeping, memory_order_seq_cst)) return;
  uint64_t one = 1;
  ssize_t written = write(target->wake, &one, sizeof one);
  (void)written;
}

void loop_wake(struct loop *target)
{
  wake(target);
}

// To the store: first, so that the disk is at work while this loop writes.
static void post_journal(struct loop *loop)
{
  struct keeper *keeper = loop->net->keeper;
  if (!keeper || loop->number != JOURNAL_SHARD) return;
  struct journal_batch *batch;
  while (keeper_wants_batch(keeper) && (batch = shard_take_batch(loop->shard))) keeper_give(keeper, batch);
  struct journal_load load;
  while (keeper_wants_load(keeper) && shard_next_load(loop->shard, &load)) keeper_ask(keeper, &load);
}

// From the store.
static void take_journal(struct loop *loop)
{
  struct keeper *keeper = loop->net->keeper;
  if (!keeper) return;
  enum journal_state state = keeper_state(keeper);
  if (state != loop->journal_state) shard_set_journal_state(loop->shard, state);
  loop->journal_state = state;
  if (loop->number != JOURNAL_SHARD) return;
  uint64_t committed = keeper_committed(keeper);
  if (committed != loop->committed) shard_committed(loop->shard, committed);
  loop->committed = committed;
  for (struct journal_loaded *loaded; (loaded = keeper_take_loaded(keeper));) shard_loaded(loop->shard, loaded);
}

static bool journal_waits(const struct loop *loop)
{
  const struct keeper *keeper = loop->net->keeper;
  if (!keeper) return false;
  if (keeper_state(keeper) != loop->journal_state) return true;
  return loop->number == JOURNAL_SHARD && (keeper_committed(keeper) != loop->committed || keeper_loaded_waits(keeper));
}

void loop_post_outgoing(struct loop *loop)
{
  post_journal(loop);
  loop->outgoing_left = false;
  for (uint8_t i = 0; i < loop->net->loops; i++) {
    if (i == loop->number) continue;
    size_t count;
    struct mail *mails = shard_outgoing(loop->shard, i, &count);
    if (count == 0) continue;
    struct loop *target = loop->net->loop[i];
    size_t put = mailbox_put(&target->mailboxes[loop->number], mails, count);
    shard_outgoing_taken(loop->shard, i, put);
    if (put > 0) wake(target);
    if (put < count) loop->outgoing_left = true;
  }
}

static void adopt(struct loop *loop, struct handoff *handoff)
{
  struct transport *transport = handoff->transport;
  struct connection_origin origin = origin_of(transport);
  origin.admission = handoff->admission;
  transport->connection = shard_adopt(loop->shard, transport, &origin, span_of(handoff->input, handoff->size));
  transport->reading = true;
  transport->paused = false;
  if (transport->connection && transport->layers) loop_tls_join(loop, transport);
  if (!transport->connection)
    loop_drop(loop, transport);
  else if (!watch(loop, transport))
    closed(loop, transport);
  free(handoff->input);
  free(handoff);
}

static bool take_mails(struct loop *loop)
{
  bool any = false;
  for (uint8_t from = 0; from <= loop->net->loops; from++) {
    if (from == loop->number) continue;
    struct mail mail;
    // Not more than one ring's worth: the others and the sockets have their turn too.
    for (unsigned i = 0; i < MAILBOX_SLOTS && mailbox_take(&loop->mailboxes[from], &mail); i++) {
      any = true;
      if (mail.kind != MAIL_HOST)
        shard_mail(loop->shard, &mail);
      else if (mail.flags == HOST_HANDOFF)
        adopt(loop, mail.pointer);
      else
        loop_run_task(loop, mail.pointer);
    }
  }
  return any;
}

static bool mails_wait(const struct loop *loop)
{
  for (uint8_t from = 0; from <= loop->net->loops; from++)
    if (mailbox_waiting(&loop->mailboxes[from])) return true;
  return false;
}

// ---- The turn

static int timeout_ms(struct loop *loop)
{
  int64_t next = shard_next_ms(loop->shard);
  if (loop->outgoing_left && (next < 0 || next > 1)) next = 1;  // the other's mailbox was full: try again soon
  if (loop_tls_busy(loop)) next = 0;
  int64_t accept = accepter_resumes_ms(&loop->accepter);
  if (accept >= 0 && (next < 0 || accept < next)) next = accept;
  return next < 0 ? -1 : next > 1000000 ? 1000000 : (int)next;
}

static int wait_events(struct loop *loop, struct epoll_event *events, int capacity)
{
  int timeout = timeout_ms(loop);
  if (timeout != 0) {
    // The sender writes its mail, then looks at `sleeping`; we write `sleeping`, then look for mails. One of us sees the
    // other.
    atomic_store_explicit(&loop->sleeping, true, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    if (mails_wait(loop) || journal_waits(loop) || loop_tls_busy(loop) || loop_auth_waits(loop)) timeout = 0;
  }
  int count = epoll_wait(loop->epoll, events, capacity, timeout);
  atomic_store_explicit(&loop->sleeping, false, memory_order_relaxed);
  return count < 0 ? 0 : count;
}

void loop_bury(struct loop *loop)
{
  for (struct transport *next; loop->dead; loop->dead = next) {
    next = loop->dead->next_dead;
    transport_destroy(loop->dead);
  }
}

static void turn(struct loop *loop)
{
  struct epoll_event events[256];
  int count = wait_events(loop, events, sizeof events / sizeof events[0]);
  loop->now = loop_clock();
  shard_set_time(loop->shard, loop->now);
  take_journal(loop);
  loop_auth_take(loop);
  loop_tls_take_arrived(loop);
  take_mails(loop);
  for (int i = 0; i < count; i++) {
    enum source_kind kind = *(const enum source_kind *)events[i].data.ptr;
    if (kind == SOURCE_TRANSPORT) {
      handle_transport(loop, events[i].data.ptr, events[i].events);
    } else if (kind == SOURCE_LISTENER) {
      accepter_accept(&loop->accepter, events[i].data.ptr);
    }
    // SOURCE_WAKE: watched for edges, so that nobody has to read it.
  }
  loop_tls_check_some(loop);
  accepter_resume(&loop->accepter);
  shard_tick(loop->shard);
  (void)loop_auth_ask(loop);
  loop_post_outgoing(loop);  // first: the others can begin while this one writes
  do give_attention(loop);
  while (loop_auth_ask(loop));  // of connections that went on
  loop_post_outgoing(loop);
  loop_bury(loop);
  accepter_bury(&loop->accepter);
}

void *loop_main(void *argument)
{
  struct loop *loop = argument;
  while (!loop->stop) turn(loop);
  return NULL;
}
