#include "net/handshaker.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "net/accept.h"
#include "net/addresses.h"
#include "net/gate.h"
#include "net/handshake_peers.h"
#include "net/loop_internal.h"
#include "tls/session.h"
#include "wire/proxy.h"

enum {
  STACK_SIZE = 256 * 1024,
  EVENTS = 256,
  GRACE_MS = 200,   // who has moved within this time is not thrown out for others,
  HASTE_MS = 2000,  // ... unless it is at it for longer than this: some would send a byte at a time
  NICENESS = 5,     // when there is one core for all, connected clients come first
  DEFER_S = 1,
};

// A connection in progress. PROXY header (where the listener wants one) → handshake → gone.
struct pending {
  enum source_kind source;
  int fd;
  struct listener *listener;
  struct tls_session *session;  // NULL: nothing has arrived, so nothing is spent on it
  uint32_t generation;          // of the gate that the session is by
  bool proxied;                 // the PROXY header is still to come
  bool writing;                 // waits until the socket takes more
  bool watched;
  bool dead;
  struct peer *peer;
  bool local;  // the proxy speaks for itself: its address is nobody's
  uint64_t began_ms, moved_ms;
  struct link all;      // oldest first; of the dead when it is
  struct link of_peer;  // the same
  char address[PROXY_MAX_TEXT];
};

// What the control thread has the handshaker do, and waits for.
struct order {
  void (*run)(struct handshaker *handshaker, void *argument);
  void *argument;
  sem_t done;
};

struct handshaker {
  struct handshaker_settings settings;
  struct log log;
  struct net_counters counters;
  struct accepter accepter;
  struct mono now;
  int epoll;
  int wake;  // eventfd
  enum source_kind wake_source;
  bool stop;
  pthread_t thread;
  _Atomic(struct order *) order;
  uint32_t in_progress;
  uint64_t next_end_ms;    // none is to end for its time before
  struct pending *yields;  // between has_room and take_socket: the one that goes
  struct peers peers;
  struct link pendings;
  struct link dead;
};

// ---- Ends of handshakes

// When it is late: a reload holds for those that are in progress too.
static uint64_t end_ms(const struct handshaker *handshaker, const struct pending *pending)
{
  uint32_t own_ms = atomic_load_explicit(&pending->listener->connect_timeout_ms, memory_order_relaxed);
  return pending->began_ms + (own_ms > 0 ? own_ms : handshaker->settings.time_limit_ms);
}

// It is not watched any more and takes no room; an event of this turn may still point to it.
static void retire(struct handshaker *handshaker, struct pending *pending)
{
  if (pending->watched) (void)epoll_ctl(handshaker->epoll, EPOLL_CTL_DEL, pending->fd, NULL);
  peers_leave(&handshaker->peers, pending->peer, &pending->of_peer);
  pending->dead = true;
  list_remove(&pending->all);
  list_append(&handshaker->dead, &pending->all);
  handshaker->in_progress--;
}

static void drop(struct handshaker *handshaker, struct pending *pending, uint64_t *counter, enum log_level level,
                 const char *event, const char *why)
{
  (*counter)++;
  LOG(&handshaker->log, handshaker->now, level, event, FIELD_TEXT("address", pending->address),
      FIELD_TEXT("listener", pending->listener->url), FIELD_TEXT("detail", why));
  retire(handshaker, pending);
  tls_session_free(pending->session);  // words are of the session, so not before
  pending->session = NULL;
  close(pending->fd);
}

static void fail(struct handshaker *handshaker, struct pending *pending, const char *why)
{
  drop(handshaker, pending, &handshaker->counters.tls_failed, LOG_WARNING, "tls_handshake_failed", why);
}

static void crowd_out(struct handshaker *handshaker, struct pending *pending)
{
  drop(handshaker, pending, &handshaker->counters.tls_crowded, LOG_WARNING, "tls_handshake_crowded_out",
       "too many handshakes are in progress");
}

// The oldest that has not moved for a moment; NULL: there is none.
static struct pending *idle_of(const struct handshaker *handshaker, const struct peer *peer)
{
  LIST_EACH (link, &peer->members) {
    struct pending *pending = CONTAINER_OF(link, struct pending, of_peer);
    if (handshaker->now.ms - pending->moved_ms >= GRACE_MS || handshaker->now.ms - pending->began_ms >= HASTE_MS)
      return pending;
  }
  return NULL;
}

// Whether its address may have it in progress too. Otherwise the oldest from there goes, or it itself: then false. That may
// be the same one: it was long in telling its address.
static bool fits(struct handshaker *handshaker, struct pending *pending)
{
  const struct peer *peer = pending->peer;
  if (peer->count <= handshaker->settings.most_per_address) return true;
  struct pending *idle = idle_of(handshaker, peer);
  crowd_out(handshaker, idle ? idle : pending);
  return idle && idle != pending;
}

static void bury(struct handshaker *handshaker)
{
  for (struct link *link; (link = list_take_first(&handshaker->dead));) {
    struct pending *pending = CONTAINER_OF(link, struct pending, all);
    listener_unref(pending->listener);
    free(pending);
  }
}

static void log_through(struct handshaker *handshaker, const struct pending *pending, const struct tls_facts *facts)
{
  struct span name = {0};
  for (size_t i = 0; i < facts->fact_count && !name.at; i++)
    if (span_equal(facts->facts[i].name, span_text("cert.cn"))) name = facts->facts[i].value;
  if (!name.at && facts->psk_identity) name = span_text(facts->psk_identity);
  LOG(&handshaker->log, handshaker->now, LOG_DEBUG, "tls_handshake", FIELD_TEXT("address", pending->address),
      FIELD_TEXT("listener", pending->listener->url), FIELD_TEXT("version", facts->version),
      FIELD_TEXT("cipher", facts->cipher), FIELD_BOOL("resumed", facts->resumed),
      FIELD_TEXT("server_name", facts->server_name ? facts->server_name : ""), FIELD_SPAN("name", name));
}

// The socket and the session go on as a transport.
static void finish(struct handshaker *handshaker, struct pending *pending)
{
  bool counted = false;
  if (!accepter_within_limits(&handshaker->accepter, pending->listener, pending->address) ||
      (!pending->local && !accepter_enter(&handshaker->accepter, pending->listener, pending->address, &counted))) {
    retire(handshaker, pending);
    tls_session_free(pending->session);
    close(pending->fd);
    return;
  }
  struct tls_facts facts;
  tls_session_facts(pending->session, &facts);
  log_through(handshaker, pending, &facts);
  if (facts.resumed)
    handshaker->counters.tls_resumed++;
  else
    handshaker->counters.tls_full++;
  struct transport *transport =
      transport_create_tls(pending->fd, pending->listener, pending->address, pending->session, pending->generation);
  retire(handshaker, pending);
  if (!transport) {
    if (counted) addresses_leave(handshaker->settings.addresses, pending->listener, pending->address);
    tls_session_free(pending->session);
    close(pending->fd);
    return;
  }
  transport->counted = counted;
  atomic_fetch_add_explicit(&pending->listener->connections, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(handshaker->settings.connections, 1, memory_order_relaxed);
  handshaker->settings.through(handshaker->settings.context, transport);
}

// ---- Steps

// To the address that the proxy has told. False: the connection has ended.
static bool move(struct handshaker *handshaker, struct pending *pending, const struct proxy_source *source)
{
  uint8_t key[PEER_KEY];
  peer_key_proxied(source, key);
  struct peer *peer = peers_find(&handshaker->peers, key);
  if (!peer) {
    fail(handshaker, pending, "out of memory");
    return false;
  }
  if (peer == pending->peer) return true;
  peers_leave(&handshaker->peers, pending->peer, &pending->of_peer);
  pending->peer = peer;
  peer_join(peer, &pending->of_peer);
  return fits(handshaker, pending);
}

// The header is taken off the socket alone: what follows it is the session's. False: it has not all come, or the
// connection has ended.
static bool take_proxy(struct handshaker *handshaker, struct pending *pending)
{
  uint8_t head[PROXY_MAX_V2];
  ssize_t size = recv(pending->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (size <= 0) {
    drop(handshaker, pending, &handshaker->counters.tls_closed, LOG_INFO, "tls_handshake_closed", "by the peer");
    return false;
  }
  struct proxy_source source;
  size_t header;
  enum proxy_result result = proxy_parse(span_of(head, (size_t)size), &header, &source);
  if (result == PROXY_INCOMPLETE) return false;
  if (result == PROXY_OK && recv(pending->fd, head, header, MSG_DONTWAIT) != (ssize_t)header) result = PROXY_INVALID;
  if (result == PROXY_INVALID) {
    handshaker->counters.refused_framing++;
    fail(handshaker, pending, "no valid PROXY header");
    return false;
  }
  pending->proxied = false;
  if (source.family == PROXY_UNKNOWN) {
    pending->local = true;
    return true;
  }
  proxy_format_source(&source, pending->address);
  return move(handshaker, pending, &source);
}

static bool begin_session(struct handshaker *handshaker, struct pending *pending)
{
  pending->generation = atomic_load(&pending->listener->gate_generation);  // first: a newer gate is looked at again
  struct gate *gate = listener_gate(pending->listener);
  if (gate && gate->credentials) pending->session = tls_session_create(gate->credentials, pending->fd);
  bool has = gate && gate->credentials;
  gate_unref(gate);
  if (pending->session) return true;
  fail(handshaker, pending, has ? "out of memory" : "the listener has no certificate");
  return false;
}

// For more to read, and to write while something is unsent. What has come before is seen, too.
static void watch(struct handshaker *handshaker, struct pending *pending)
{
  bool writing = pending->session && tls_session_unsent(pending->session);
  if (pending->watched && writing == pending->writing) return;
  struct epoll_event event = {.events = EPOLLIN | EPOLLET | (writing ? EPOLLOUT : 0u), .data.ptr = pending};
  if (epoll_ctl(handshaker->epoll, pending->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, pending->fd, &event) < 0) {
    fail(handshaker, pending, strerror(errno));
    return;
  }
  pending->watched = true;
  pending->writing = writing;
}

static void step(struct handshaker *handshaker, struct pending *pending)
{
  if (pending->proxied && !take_proxy(handshaker, pending)) return;
  if (!pending->session && !begin_session(handshaker, pending)) return;
  const char *why = "";
  switch (tls_session_handshake(pending->session, &why)) {
    case TLS_DONE: finish(handshaker, pending); break;
    case TLS_AGAIN: break;
    case TLS_CLOSED:
      drop(handshaker, pending, &handshaker->counters.tls_closed, LOG_INFO, "tls_handshake_closed", "by the peer");
      break;
    case TLS_FAILED: fail(handshaker, pending, why ? why : ""); break;
  }
}

// Something has come, or may be sent.
static void go_on(struct handshaker *handshaker, struct pending *pending)
{
  pending->moved_ms = handshaker->now.ms;
  step(handshaker, pending);
  if (!pending->dead) watch(handshaker, pending);
}

// ---- New ones

// Asked before each is accepted. Who makes room goes when there really is one.
static bool has_room(void *context)
{
  struct handshaker *handshaker = context;
  handshaker->yields = NULL;
  if (handshaker->in_progress < handshaker->settings.most) return true;
  handshaker->yields = idle_of(handshaker, peers_busiest(&handshaker->peers));
  return handshaker->yields;
}

// NULL when memory is short; the socket is the caller's then.
static struct pending *pending_create(struct handshaker *handshaker, struct listener *listener, int fd,
                                      const struct sockaddr_storage *from, const char *address)
{
  struct pending *pending = calloc(1, sizeof *pending);
  if (!pending) return NULL;
  uint8_t key[PEER_KEY];
  peer_key(from, key);
  pending->peer = peers_find(&handshaker->peers, key);
  if (!pending->peer) {
    free(pending);
    return NULL;
  }
  peer_join(pending->peer, &pending->of_peer);
  pending->source = SOURCE_PENDING;
  pending->fd = fd;
  pending->listener = listener_ref(listener);
  pending->proxied = atomic_load_explicit(&listener->proxy_protocol, memory_order_relaxed);
  pending->began_ms = pending->moved_ms = handshaker->now.ms;
  uint64_t end = end_ms(handshaker, pending);
  if (end < handshaker->next_end_ms) handshaker->next_end_ms = end;
  snprintf(pending->address, sizeof pending->address, "%s", address);
  list_append(&handshaker->pendings, &pending->all);
  handshaker->in_progress++;
  return pending;
}

static bool has_come(int fd)
{
  uint8_t byte;
  return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void take_socket(void *context, struct listener *listener, int fd, const struct sockaddr_storage *from,
                        const char *address)
{
  struct handshaker *handshaker = context;
  bool proxied = atomic_load_explicit(&listener->proxy_protocol, memory_order_relaxed);
  if (!proxied && accepter_turns_away(&handshaker->accepter, listener, address)) {
    close(fd);
    return;
  }
  if (handshaker->yields) crowd_out(handshaker, handshaker->yields);
  handshaker->yields = NULL;
  struct pending *pending = pending_create(handshaker, listener, fd, from, address);
  if (!pending) {
    close(fd);
    return;
  }
  // Behind a proxy the address is the proxy's, until the header has told another.
  if (!pending->proxied && !fits(handshaker, pending)) return;
  // As a rule the greeting is here (see defer): one turn less. For the silent nothing is spent.
  if (has_come(fd)) step(handshaker, pending);
  if (!pending->dead) watch(handshaker, pending);
}

// ---- The turn

static void take_order(struct handshaker *handshaker)
{
  struct order *order = atomic_exchange(&handshaker->order, NULL);
  if (!order) return;
  order->run(handshaker, order->argument);
  sem_post(&order->done);  // it belongs to the waiting thread again
}

// Listeners have times of their own, so that the next to end is not always the oldest.
static void end_late(struct handshaker *handshaker)
{
  if (handshaker->now.ms < handshaker->next_end_ms) return;
  handshaker->next_end_ms = UINT64_MAX;
  LIST_EACH (link, &handshaker->pendings) {
    struct pending *pending = CONTAINER_OF(link, struct pending, all);
    uint64_t end = end_ms(handshaker, pending);
    if (handshaker->now.ms < end) {
      if (end < handshaker->next_end_ms) handshaker->next_end_ms = end;
      continue;
    }
    drop(handshaker, pending, &handshaker->counters.tls_timeouts, LOG_INFO, "tls_handshake_timeout",
         pending->session ? "the handshake was not finished in time" : "nothing was sent in time");
  }
}

static int timeout_ms(const struct handshaker *handshaker)
{
  int64_t next = accepter_resumes_ms(&handshaker->accepter);
  if (!list_empty(&handshaker->pendings)) {
    uint64_t due = handshaker->next_end_ms;
    int64_t left = due > handshaker->now.ms ? (int64_t)(due - handshaker->now.ms) : 0;
    if (next < 0 || left < next) next = left;
  }
  return next < 0 ? -1 : next > 1000000 ? 1000000 : (int)next;
}

static void turn(struct handshaker *handshaker)
{
  struct epoll_event events[EVENTS];
  int count = epoll_wait(handshaker->epoll, events, EVENTS, timeout_ms(handshaker));
  struct accepting *accepting[EVENTS];
  size_t listeners = 0;
  handshaker->now = loop_clock();
  for (int i = 0; i < count; i++) {
    enum source_kind kind = *(const enum source_kind *)events[i].data.ptr;
    if (kind == SOURCE_PENDING) {
      struct pending *pending = events[i].data.ptr;
      if (!pending->dead) go_on(handshaker, pending);
    } else if (kind == SOURCE_LISTENER) {
      accepting[listeners++] = events[i].data.ptr;
    }
    // SOURCE_WAKE: watched for edges, so that nobody has to read it.
  }
  // Those that are in progress come first: no more are taken than there is time for.
  for (size_t i = 0; i < listeners; i++) accepter_accept(&handshaker->accepter, accepting[i]);
  accepter_resume(&handshaker->accepter);
  end_late(handshaker);
  bury(handshaker);
  take_order(handshaker);
  accepter_bury(&handshaker->accepter);
}

static void *handshaker_main(void *argument)
{
  struct handshaker *handshaker = argument;
  (void)setpriority(PRIO_PROCESS, 0, NICENESS);  // on Linux: of this thread
  while (!handshaker->stop) turn(handshaker);
  return NULL;
}

// ---- The control thread's side

static void give_order(struct handshaker *handshaker, void (*run)(struct handshaker *, void *), void *argument)
{
  struct order order = {.run = run, .argument = argument};
  sem_init(&order.done, 0, 0);
  atomic_store(&handshaker->order, &order);
  uint64_t one = 1;
  ssize_t written = write(handshaker->wake, &one, sizeof one);
  (void)written;
  while (sem_wait(&order.done) != 0) continue;
  sem_destroy(&order.done);
}

// The kernel keeps a connection to itself until its first bytes are here, for a second at most: clients of TLS speak first.
// So one turn does what took two, and those that never say a word cost next to nothing. Other sockets refuse, harmlessly.
static void defer(const struct listener *listener, int seconds)
{
  (void)setsockopt(listener->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
}

static void add_listener(struct handshaker *handshaker, void *argument)
{
  defer(argument, DEFER_S);
  accepter_add(&handshaker->accepter, argument);
}

static void remove_listener(struct handshaker *handshaker, void *argument)
{
  defer(argument, 0);
  accepter_remove(&handshaker->accepter, argument);
}

void handshaker_add_listener(struct handshaker *handshaker, struct listener *listener)
{
  give_order(handshaker, add_listener, listener);
}

void handshaker_remove_listener(struct handshaker *handshaker, struct listener *listener)
{
  give_order(handshaker, remove_listener, listener);
}

struct new_limits {
  uint32_t time_limit_ms;
  enum log_level log_level;
};

static void set_limits(struct handshaker *handshaker, void *argument)
{
  const struct new_limits *limits = argument;
  handshaker->settings.time_limit_ms = limits->time_limit_ms;
  handshaker->next_end_ms = 0;  // looked for anew
  handshaker->log.level = limits->log_level;
}

void handshaker_set_limits(struct handshaker *handshaker, uint32_t time_limit_ms, enum log_level log_level)
{
  struct new_limits limits = {.time_limit_ms = time_limit_ms, .log_level = log_level};
  give_order(handshaker, set_limits, &limits);
}

static void count(struct handshaker *handshaker, void *argument)
{
  handshaker->counters.tls_in_progress = handshaker->in_progress;
  net_counters_add(argument, &handshaker->counters);
}

void handshaker_count(struct handshaker *handshaker, struct net_counters *sums)
{
  give_order(handshaker, count, sums);
}

static void stop(struct handshaker *handshaker, void *argument)
{
  (void)argument;
  handshaker->stop = true;
}

static void settle(struct handshaker *handshaker, const struct handshaker_settings *settings)
{
  handshaker->settings = *settings;
  if (settings->most == 0) handshaker->settings.most = HANDSHAKES_MAX;
  if (settings->most_per_address == 0) handshaker->settings.most_per_address = HANDSHAKES_PER_ADDRESS;
  handshaker->now = loop_clock();
  handshaker->next_end_ms = UINT64_MAX;
  handshaker->wake_source = SOURCE_WAKE;
  peers_init(&handshaker->peers, settings->seed);
  list_init(&handshaker->pendings);
  list_init(&handshaker->dead);
  log_init(&handshaker->log, settings->log_sink, settings->log_context, settings->log_level);
  handshaker->accepter = (struct accepter){.epoll = handshaker->epoll,
                                           .now = &handshaker->now,
                                           .log = &handshaker->log,
                                           .counters = &handshaker->counters,
                                           .connections = settings->connections,
                                           .max_connections = settings->max_connections,
                                           .addresses = settings->addresses,
                                           .ready = has_room,
                                           .open = take_socket,
                                           .context = handshaker};
  list_init(&handshaker->accepter.accepting);
}

static enum status start(struct handshaker *handshaker)
{
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = &handshaker->wake_source};
  if (handshaker->epoll < 0 || handshaker->wake < 0 ||
      epoll_ctl(handshaker->epoll, EPOLL_CTL_ADD, handshaker->wake, &event) < 0)
    return status_from_errno(errno);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  int result = pthread_create(&handshaker->thread, &attributes, handshaker_main, handshaker);
  pthread_attr_destroy(&attributes);
  errno = result;  // for the caller's words
  return result == 0 ? OK : status_from_errno(result);
}

static void release(struct handshaker *handshaker)
{
  accepter_remove_all(&handshaker->accepter);
  accepter_bury(&handshaker->accepter);
  while (!list_empty(&handshaker->pendings)) {
    struct pending *pending = CONTAINER_OF(handshaker->pendings.next, struct pending, all);
    retire(handshaker, pending);
    tls_session_free(pending->session);
    close(pending->fd);
  }
  bury(handshaker);
  peers_deinit(&handshaker->peers);
  if (handshaker->epoll >= 0) close(handshaker->epoll);
  if (handshaker->wake >= 0) close(handshaker->wake);
  free(handshaker);
}

enum status handshaker_create(const struct handshaker_settings *settings, struct handshaker **out, struct error *error)
{
  struct handshaker *handshaker = calloc(1, sizeof *handshaker);
  if (!handshaker) return error_set(error, ERR_NO_MEMORY, "no memory for TLS");
  handshaker->epoll = epoll_create1(EPOLL_CLOEXEC);
  handshaker->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  settle(handshaker, settings);
  enum status status = start(handshaker);
  if (status != OK) {
    status = error_set(error, status, "cannot start the thread for TLS handshakes: %s", strerror(errno));
    release(handshaker);
    return status;
  }
  *out = handshaker;
  return OK;
}

void handshaker_destroy(struct handshaker *handshaker)
{
  if (!handshaker) return;
  give_order(handshaker, stop, NULL);
  pthread_join(handshaker->thread, NULL);
  release(handshaker);
}
