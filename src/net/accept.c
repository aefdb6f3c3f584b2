// New connections: limits, rates, and what to do when descriptors run out.

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/loop_internal.h"
#include "wire/ip_text.h"

enum {
  ACCEPT_BATCH = 64,  // per turn and listener
  ACCEPT_GATHER_MS = 1,
  ACCEPT_PAUSE_MS = 100,  // after an error such as EMFILE
  ADDRESS_TEXT = IP_TEXT_SIZE + 8,
};

static void format_address(const struct sockaddr_storage *address, char out[ADDRESS_TEXT])
{
  char ip[IP_TEXT_SIZE];
  if (address->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const void *)address;
    ipv4_format((const uint8_t *)&v4->sin_addr, ip);
    snprintf(out, ADDRESS_TEXT, "%s:%u", ip, ntohs(v4->sin_port));
  } else if (address->ss_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const void *)address;
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
      ipv4_format((const uint8_t *)&v6->sin6_addr + 12, ip);
      snprintf(out, ADDRESS_TEXT, "%s:%u", ip, ntohs(v6->sin6_port));
    } else {
      ipv6_format((const uint8_t *)&v6->sin6_addr, ip);
      snprintf(out, ADDRESS_TEXT, "[%s]:%u", ip, ntohs(v6->sin6_port));
    }
  } else {
    snprintf(out, ADDRESS_TEXT, "unix");
  }
}

static void set_accepting(struct loop *loop, struct accepting *accepting, bool on)
{
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = accepting};
  (void)epoll_ctl(loop->epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, accepting->listener->fd, &event);
}

static void pause_until(struct loop *loop, struct accepting *accepting, uint64_t until_ms)
{
  if (accepting->paused_until_ms == 0) set_accepting(loop, accepting, false);
  accepting->paused_until_ms = until_ms;
}

void loop_resume_accepting(struct loop *loop)
{
  LIST_EACH (link, &loop->accepting) {
    struct accepting *accepting = CONTAINER_OF(link, struct accepting, link);
    if (accepting->paused_until_ms == 0 || loop->now.ms < accepting->paused_until_ms) continue;
    accepting->paused_until_ms = 0;
    set_accepting(loop, accepting, true);
  }
}

int64_t loop_accept_resumes_ms(const struct loop *loop)
{
  int64_t next = -1;
  LIST_EACH (link, &loop->accepting) {
    const struct accepting *accepting = CONTAINER_OF(link, struct accepting, link);
    if (accepting->paused_until_ms == 0) continue;
    uint64_t due = accepting->paused_until_ms;
    int64_t wait = due > loop->now.ms ? (int64_t)(due - loop->now.ms) : 0;
    if (next < 0 || wait < next) next = wait;
  }
  return next;
}

// Over the rate, connections wait in the kernel's queue.
static bool within_rate(struct loop *loop, struct accepting *accepting)
{
  uint32_t rate = atomic_load_explicit(&accepting->listener->rate, memory_order_relaxed);
  if (rate == 0) return true;
  uint64_t second = loop->now.ms / 1000;
  if (accepting->window_ms != second) {
    accepting->window_ms = second;
    accepting->window_count = 0;
  }
  if (accepting->window_count < rate) {
    accepting->window_count++;
    return true;
  }
  loop->counters.rate_pauses++;
  pause_until(loop, accepting, (second + 1) * 1000);
  return false;
}

static bool within_limits(const struct loop *loop, const struct listener *listener)
{
  uint32_t most = atomic_load_explicit(&listener->max_connections, memory_order_relaxed);
  return atomic_load_explicit(&loop->net->connections, memory_order_relaxed) <
             atomic_load_explicit(&loop->net->max_connections, memory_order_relaxed) &&
         (most == 0 || atomic_load_explicit(&listener->connections, memory_order_relaxed) < most);
}

static void open_connection(struct loop *loop, struct listener *listener, int fd, const char *address)
{
  struct transport *transport = transport_create(fd, listener, address);
  if (!transport) {
    close(fd);
    return;
  }
  atomic_fetch_add_explicit(&listener->connections, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&loop->net->connections, 1, memory_order_relaxed);
  struct connection_origin origin = {
      .address = transport->address,
      .anonymous = atomic_load_explicit(&listener->anonymous, memory_order_relaxed),
  };
  transport->connection = shard_open(loop->shard, transport, &origin);
  loop->counters.accepted++;
  if (transport->connection)
    loop_begin(loop, transport);
  else
    loop_drop(loop, transport);
}

static void accept_failed(struct loop *loop, struct accepting *accepting, int number)
{
  loop->counters.accept_errors++;
  LOG(&loop->log, loop->now, LOG_ERROR, "accept_failed", FIELD_TEXT("listener", accepting->listener->url),
      FIELD_TEXT("error", strerror(number)), FIELD_INT("again_in_ms", ACCEPT_PAUSE_MS));
  pause_until(loop, accepting, loop->now.ms + ACCEPT_PAUSE_MS);
}

// Connections that come one after the other are taken in batches, a millisecond apart: by then their CONNECT has arrived too, and one
// wake-up serves all of them. The first one is taken at once.
static void gather(struct loop *loop, struct accepting *accepting)
{
  if (loop->now.ms - accepting->round_ms <= ACCEPT_GATHER_MS && accepting->paused_until_ms == 0)
    pause_until(loop, accepting, loop->now.ms + ACCEPT_GATHER_MS);
  accepting->round_ms = loop->now.ms;
}

void loop_accept(struct loop *loop, struct accepting *accepting)
{
  struct listener *listener = accepting->listener;
  gather(loop, accepting);
  for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
    if (!within_rate(loop, accepting)) return;
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    int fd = accept4(listener->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN) return;
      if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
      accept_failed(loop, accepting, errno);
      return;
    }
    char address[ADDRESS_TEXT];
    format_address(&peer, address);
    if (!within_limits(loop, listener)) {
      loop->counters.refused_limit++;
      LOG(&loop->log, loop->now, LOG_WARNING, "connection_refused", FIELD_TEXT("address", address),
          FIELD_TEXT("listener", listener->url), FIELD_TEXT("cause", "too many connections"));
      close(fd);
      continue;
    }
    open_connection(loop, listener, fd, address);
  }
}

void loop_add_listener(struct loop *loop, struct listener *listener)
{
  struct accepting *accepting = calloc(1, sizeof *accepting);
  if (!accepting) abort();
  accepting->source = SOURCE_LISTENER;
  accepting->listener = listener_ref(listener);
  list_append(&loop->accepting, &accepting->link);
  set_accepting(loop, accepting, true);
}

void loop_remove_listener(struct loop *loop, const struct listener *listener)
{
  LIST_EACH (link, &loop->accepting) {
    struct accepting *accepting = CONTAINER_OF(link, struct accepting, link);
    if (accepting->listener != listener) continue;
    if (accepting->paused_until_ms == 0) set_accepting(loop, accepting, false);
    list_remove(link);
    listener_unref(accepting->listener);
    free(accepting);
  }
}
