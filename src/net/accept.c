#include "net/accept.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net/addresses.h"

enum {
  ACCEPT_BATCH = 64,  // per turn and listener
  ACCEPT_GATHER_MS = 1,
  ACCEPT_FULL_MS = 5,     // when there is no room
  ACCEPT_PAUSE_MS = 100,  // after an error such as EMFILE, or ENOSPC of epoll
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

// When the kernel has no more room for what is watched (fs.epoll.max_user_watches) it is asked again in a moment.
static void watch(struct accepter *accepter, struct accepting *accepting)
{
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = accepting};
  bool watched = epoll_ctl(accepter->epoll, EPOLL_CTL_ADD, accepting->listener->fd, &event) == 0;
  accepting->paused_until_ms = watched ? 0 : accepter->now->ms + ACCEPT_PAUSE_MS;
}

static void unwatch(struct accepter *accepter, struct accepting *accepting)
{
  if (accepting->paused_until_ms != 0) return;
  (void)epoll_ctl(accepter->epoll, EPOLL_CTL_DEL, accepting->listener->fd, NULL);
}

static void pause_until(struct accepter *accepter, struct accepting *accepting, uint64_t until_ms)
{
  unwatch(accepter, accepting);
  accepting->paused_until_ms = until_ms;
}

void accepter_resume(struct accepter *accepter)
{
  LIST_EACH (link, &accepter->accepting) {
    struct accepting *accepting = CONTAINER_OF(link, struct accepting, link);
    if (accepting->paused_until_ms == 0 || accepter->now->ms < accepting->paused_until_ms) continue;
    watch(accepter, accepting);
  }
}

int64_t accepter_resumes_ms(const struct accepter *accepter)
{
  int64_t next = -1;
  LIST_EACH (link, &accepter->accepting) {
    const struct accepting *accepting = CONTAINER_OF(link, struct accepting, link);
    if (accepting->paused_until_ms == 0) continue;
    uint64_t due = accepting->paused_until_ms;
    int64_t wait = due > accepter->now->ms ? (int64_t)(due - accepter->now->ms) : 0;
    if (next < 0 || wait < next) next = wait;
  }
  return next;
}

// Over the rate, connections wait in the kernel's queue.
static bool within_rate(struct accepter *accepter, struct accepting *accepting)
{
  uint32_t rate = atomic_load_explicit(&accepting->listener->rate, memory_order_relaxed);
  if (rate == 0) return true;
  uint64_t second = accepter->now->ms / 1000;
  if (accepting->window_ms != second) {
    accepting->window_ms = second;
    accepting->window_count = 0;
  }
  if (accepting->window_count < rate) {
    accepting->window_count++;
    return true;
  }
  accepter->counters->rate_pauses++;
  pause_until(accepter, accepting, (second + 1) * 1000);
  return false;
}

static void log_refused(struct accepter *accepter, const struct listener *listener, const char *address, const char *cause)
{
  LOG(accepter->log, *accepter->now, LOG_WARNING, "connection_refused", FIELD_TEXT("address", address),
      FIELD_TEXT("listener", listener->url), FIELD_TEXT("cause", cause));
}

bool accepter_within_limits(struct accepter *accepter, const struct listener *listener, const char *address)
{
  uint32_t most = atomic_load_explicit(&listener->max_connections, memory_order_relaxed);
  if (atomic_load_explicit(accepter->connections, memory_order_relaxed) <
          atomic_load_explicit(accepter->max_connections, memory_order_relaxed) &&
      (most == 0 || atomic_load_explicit(&listener->connections, memory_order_relaxed) < most))
    return true;
  accepter->counters->refused_limit++;
  log_refused(accepter, listener, address, "too many connections");
  return false;
}

static void refuse_address(struct accepter *accepter, const struct listener *listener, const char *address)
{
  accepter->counters->refused_address++;
  log_refused(accepter, listener, address, "too many connections from this address");
}

bool accepter_enter(struct accepter *accepter, const struct listener *listener, const char *address, bool *out_counted)
{
  *out_counted = false;
  if (!accepter->addresses || addresses_enter(accepter->addresses, listener, address, out_counted)) return true;
  refuse_address(accepter, listener, address);
  return false;
}

bool accepter_turns_away(struct accepter *accepter, const struct listener *listener, const char *address)
{
  if (!accepter->addresses || !addresses_full(accepter->addresses, listener, address)) return false;
  refuse_address(accepter, listener, address);
  return true;
}

static void accept_failed(struct accepter *accepter, struct accepting *accepting, int number)
{
  accepter->counters->accept_errors++;
  LOG(accepter->log, *accepter->now, LOG_ERROR, "accept_failed", FIELD_TEXT("listener", accepting->listener->url),
      FIELD_TEXT("error", strerror(number)), FIELD_INT("again_in_ms", ACCEPT_PAUSE_MS));
  pause_until(accepter, accepting, accepter->now->ms + ACCEPT_PAUSE_MS);
}

// Connections that come one after the other are taken in batches, a millisecond apart: by then their CONNECT has arrived
// too, and one wake-up serves all of them. The first one is taken at once.
static void gather(struct accepter *accepter, struct accepting *accepting)
{
  if (accepter->now->ms - accepting->round_ms <= ACCEPT_GATHER_MS && accepting->paused_until_ms == 0)
    pause_until(accepter, accepting, accepter->now->ms + ACCEPT_GATHER_MS);
  accepting->round_ms = accepter->now->ms;
}

void accepter_accept(struct accepter *accepter, struct accepting *accepting)
{
  struct listener *listener = accepting->listener;
  if (!listener) return;
  gather(accepter, accepting);
  for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
    if (accepter->ready && !accepter->ready(accepter->context)) {
      pause_until(accepter, accepting, accepter->now->ms + ACCEPT_FULL_MS);
      return;
    }
    if (!within_rate(accepter, accepting)) return;
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    int fd = accept4(listener->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN) return;
      if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
      accept_failed(accepter, accepting, errno);
      return;
    }
    char address[ADDRESS_TEXT];
    format_address(&peer, address);
    if (!accepter_within_limits(accepter, listener, address)) {
      close(fd);
      continue;
    }
    accepter->counters->accepted++;
    accepter->open(accepter->context, listener, fd, &peer, address);
  }
}

void accepter_add(struct accepter *accepter, struct listener *listener)
{
  struct accepting *accepting = calloc(1, sizeof *accepting);
  if (!accepting) abort();
  accepting->source = SOURCE_LISTENER;
  accepting->listener = listener_ref(listener);
  list_append(&accepter->accepting, &accepting->link);
  watch(accepter, accepting);
}

static void stop_accepting(struct accepter *accepter, struct accepting *accepting)
{
  unwatch(accepter, accepting);
  list_remove(&accepting->link);
  listener_unref(accepting->listener);
  accepting->listener = NULL;
  accepting->next_removed = accepter->removed;
  accepter->removed = accepting;
}

void accepter_bury(struct accepter *accepter)
{
  for (struct accepting *next; accepter->removed; accepter->removed = next) {
    next = accepter->removed->next_removed;
    free(accepter->removed);
  }
}

void accepter_remove(struct accepter *accepter, const struct listener *listener)
{
  LIST_EACH (link, &accepter->accepting) {
    struct accepting *accepting = CONTAINER_OF(link, struct accepting, link);
    if (accepting->listener == listener) stop_accepting(accepter, accepting);
  }
}

void accepter_remove_all(struct accepter *accepter)
{
  while (!list_empty(&accepter->accepting))
    stop_accepting(accepter, CONTAINER_OF(accepter->accepting.next, struct accepting, link));
}
