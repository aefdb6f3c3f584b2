// The bare single-thread forwarder: what moving the bytes costs when nothing is done with them. Reads large chunks from
// publishers and writes them to the subscribers of their group. It is the floor that brokers are compared with, and no
// broker: no sessions, no topics, no limits. `skerry bench --raw` speaks its announcement:
//   1 byte 'S' or 'P', 1 byte group, 3 bytes size of each PUBLISH; answered with one byte when the connection is known.
// With --ack 1 or 2 it looks at fixed headers and packet identifiers too and answers as a broker must at that QoS.
//
//   forwarder --port 18830 [--ack 0|1|2]
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  READ_SIZE = 256 * 1024,
  PACKET_MAX = 2 * 1024 * 1024,
  HELLO_SIZE = 5,
  EVENTS = 256,
  GROUPS = 256,
  PENDING_MAX = 4 * 1024 * 1024,  // with more than this waiting for a subscriber, its publishers are not read
  PUBLISH = 3,
  PUBREC = 5,
  PUBREL = 6,
};

struct bytes {
  uint8_t *data;
  size_t size;
  size_t capacity;
};

struct peer {
  int fd;
  char role;  // 'S', 'P', or 0 before the announcement
  uint8_t group;
  uint32_t frame;
  bool closed;
  struct bytes in;  // the beginning of a packet
  struct bytes out;
  struct peer *next;  // among the subscribers of its group, or the closed ones
};

struct forwarder {
  int epoll_fd;
  int listen_fd;
  int ack;
  uint8_t *scratch;
  struct peer *subscribers[GROUPS];
  struct peer *publishers[GROUPS];
  struct peer *closed;
};

static void die(const char *what)
{
  fprintf(stderr, "forwarder: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void append(struct bytes *bytes, const void *from, size_t size)
{
  if (size == 0) return;
  if (bytes->size + size > bytes->capacity) {
    size_t capacity = bytes->capacity ? bytes->capacity : 4096;
    while (capacity < bytes->size + size) capacity *= 2;
    bytes->data = realloc(bytes->data, capacity);
    if (!bytes->data) die("memory");
    bytes->capacity = capacity;
  }
  memcpy(bytes->data + bytes->size, from, size);
  bytes->size += size;
}

static void drop_front(struct bytes *bytes, size_t size)
{
  assert(size <= bytes->size);
  bytes->size -= size;
  if (bytes->size) memmove(bytes->data, bytes->data + size, bytes->size);
}

// ---- Connections

static void watch(struct forwarder *forwarder, struct peer *peer, int operation, uint32_t events)
{
  struct epoll_event event = {.events = events, .data.ptr = peer};
  if (epoll_ctl(forwarder->epoll_fd, operation, peer->fd, &event)) die("epoll");
}

static void unlink_peer(struct peer **list, const struct peer *peer)
{
  for (struct peer **at = list; *at; at = &(*at)->next) {
    if (*at != peer) continue;
    *at = peer->next;
    return;
  }
}

// The memory is freed at the end of the turn: events of it may still be waiting.
static void close_peer(struct forwarder *forwarder, struct peer *peer)
{
  if (peer->closed) return;
  if (peer->role == 'S') unlink_peer(&forwarder->subscribers[peer->group], peer);
  if (peer->role == 'P') unlink_peer(&forwarder->publishers[peer->group], peer);
  peer->closed = true;
  close(peer->fd);
  peer->next = forwarder->closed;
  forwarder->closed = peer;
}

static void free_closed(struct forwarder *forwarder)
{
  while (forwarder->closed) {
    struct peer *peer = forwarder->closed;
    forwarder->closed = peer->next;
    free(peer->in.data);
    free(peer->out.data);
    free(peer);
  }
}

static void accept_all(struct forwarder *forwarder)
{
  for (;;) {
    int fd = accept4(forwarder->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer) die("memory");
    peer->fd = fd;
    watch(forwarder, peer, EPOLL_CTL_ADD, EPOLLIN);
  }
}

// ---- Writing

static void watch_publishers(struct forwarder *forwarder, uint8_t group, uint32_t events)
{
  for (struct peer *peer = forwarder->publishers[group]; peer; peer = peer->next)
    watch(forwarder, peer, EPOLL_CTL_MOD, peer->out.size ? events | EPOLLOUT : events);
}

static void write_to(struct forwarder *forwarder, struct peer *peer, const uint8_t *data, size_t size)
{
  size_t done = 0;
  if (peer->out.size == 0) {
    ssize_t sent = send(peer->fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return;  // the next read tells
    if (sent > 0) done = (size_t)sent;
    if (done == size) return;
    watch(forwarder, peer, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  }
  size_t before = peer->out.size;
  append(&peer->out, data + done, size - done);
  if (peer->role == 'S' && before <= PENDING_MAX && peer->out.size > PENDING_MAX)
    watch_publishers(forwarder, peer->group, 0);
}

static void write_pending(struct forwarder *forwarder, struct peer *peer)
{
  size_t before = peer->out.size;
  ssize_t sent = send(peer->fd, peer->out.data, peer->out.size, MSG_NOSIGNAL);
  if (sent < 0) return;
  drop_front(&peer->out, (size_t)sent);
  if (peer->out.size == 0) watch(forwarder, peer, EPOLL_CTL_MOD, EPOLLIN);
  if (peer->role == 'S' && before > PENDING_MAX && peer->out.size <= PENDING_MAX)
    watch_publishers(forwarder, peer->group, EPOLLIN);
}

static void forward(struct forwarder *forwarder, const struct peer *publisher, const uint8_t *data, size_t size)
{
  if (size == 0) return;
  for (struct peer *peer = forwarder->subscribers[publisher->group]; peer; peer = peer->next)
    write_to(forwarder, peer, data, size);
}

// ---- Reading

static bool take_hello(struct forwarder *forwarder, struct peer *peer, const uint8_t *data)
{
  if (data[0] != 'S' && data[0] != 'P') return false;
  peer->role = (char)data[0];
  peer->group = data[1];
  peer->frame = (uint32_t)data[2] << 16 | (uint32_t)data[3] << 8 | data[4];
  if (peer->frame == 0) return false;
  struct peer **list = peer->role == 'S' ? &forwarder->subscribers[peer->group] : &forwarder->publishers[peer->group];
  peer->next = *list;
  *list = peer;
  write_to(forwarder, peer, (const uint8_t[]){'R'}, 1);
  return true;
}

// Length of the packet at the front, 0 when it is not whole yet.
static size_t packet_length(const uint8_t *data, size_t size, size_t *out_body)
{
  size_t remaining = 0;
  for (size_t i = 1; i < size && i < 5; i++) {
    remaining |= (size_t)(data[i] & 0x7f) << (7 * (i - 1));
    if (data[i] & 0x80) continue;
    *out_body = i + 1;
    return size >= i + 1 + remaining ? i + 1 + remaining : 0;
  }
  return 0;
}

static size_t answer(const struct forwarder *forwarder, const uint8_t *packet, size_t body, uint8_t *out)
{
  const uint8_t *packet_id = packet + body;
  uint8_t first;
  switch (packet[0] >> 4) {
    case PUBLISH:
      packet_id += 2 + (packet_id[0] << 8 | packet_id[1]);
      first = forwarder->ack == 1 ? 0x40 : 0x50;
      break;
    case PUBREC: first = 0x62; break;
    case PUBREL: first = 0x70; break;
    default: return 0;  // PUBACK and PUBCOMP end it
  }
  memcpy(out, (const uint8_t[]){first, 2, packet_id[0], packet_id[1]}, 4);
  return 4;
}

// Forwards runs of PUBLISH, answers every packet that wants an answer. Returns how much was whole.
static size_t take_packets(struct forwarder *forwarder, struct peer *peer, const uint8_t *data, size_t size)
{
  static uint8_t answers[READ_SIZE + PACKET_MAX];
  size_t answers_size = 0;
  size_t at = 0;
  size_t run = 0;
  for (size_t body, length; (length = packet_length(data + at, size - at, &body)) > 0; at += length) {
    answers_size += answer(forwarder, data + at, body, answers + answers_size);
    if (data[at] >> 4 == PUBLISH && peer->role == 'P') continue;
    forward(forwarder, peer, data + run, at - run);
    run = at + length;
  }
  forward(forwarder, peer, data + run, at - run);
  if (answers_size) write_to(forwarder, peer, answers, answers_size);
  return at;
}

static size_t take(struct forwarder *forwarder, struct peer *peer, const uint8_t *data, size_t size)
{
  size_t at = 0;
  if (!peer->role) {
    if (size < HELLO_SIZE) return 0;
    if (!take_hello(forwarder, peer, data)) {
      close_peer(forwarder, peer);
      return size;
    }
    at = HELLO_SIZE;
  }
  if (forwarder->ack) return at + take_packets(forwarder, peer, data + at, size - at);
  if (peer->role == 'S') return size;
  // Publishers take turns on a subscriber's connection, so only whole packets may go there.
  size_t whole = size - at - (size - at) % peer->frame;
  forward(forwarder, peer, data + at, whole);
  return at + whole;
}

static void read_peer(struct forwarder *forwarder, struct peer *peer)
{
  size_t kept = peer->in.size;
  if (kept) memcpy(forwarder->scratch, peer->in.data, kept);
  ssize_t got = recv(peer->fd, forwarder->scratch + kept, READ_SIZE, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    close_peer(forwarder, peer);
    return;
  }
  size_t size = kept + (size_t)got;
  peer->in.size = 0;
  size_t used = take(forwarder, peer, forwarder->scratch, size);
  if (size - used >= PACKET_MAX)
    close_peer(forwarder, peer);
  else
    append(&peer->in, forwarder->scratch + used, size - used);
}

// ---- The process

static void listen_on(struct forwarder *forwarder, uint16_t port)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int on = 1;
  forwarder->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (forwarder->listen_fd < 0) die("socket");
  (void)setsockopt(forwarder->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(forwarder->listen_fd, (const struct sockaddr *)&address, sizeof address)) die("bind");
  if (listen(forwarder->listen_fd, 1024)) die("listen");
  struct epoll_event event = {.events = EPOLLIN};  // no peer: the listener
  if (epoll_ctl(forwarder->epoll_fd, EPOLL_CTL_ADD, forwarder->listen_fd, &event)) die("epoll");
}

static void run(struct forwarder *forwarder)
{
  struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(forwarder->epoll_fd, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct peer *peer = events[i].data.ptr;
      if (!peer) {
        accept_all(forwarder);
        continue;
      }
      if (!peer->closed && (events[i].events & EPOLLOUT)) write_pending(forwarder, peer);
      if (!peer->closed && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))) read_peer(forwarder, peer);
    }
    free_closed(forwarder);
  }
}

static long option(int argc, char **argv, const char *name, long otherwise)
{
  for (int i = 1; i + 1 < argc; i++)
    if (strcmp(argv[i], name) == 0) return strtol(argv[i + 1], NULL, 10);
  return otherwise;
}

int main(int argc, char **argv)
{
  long port = option(argc, argv, "--port", 0);
  long ack = option(argc, argv, "--ack", 0);
  if (port < 1 || port > 65535 || ack < 0 || ack > 2) {
    fprintf(stderr, "Usage: forwarder --port PORT [--ack 0|1|2]\n");
    return 2;
  }
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
  }
  signal(SIGPIPE, SIG_IGN);
  struct forwarder forwarder = {.ack = (int)ack, .scratch = malloc(READ_SIZE + PACKET_MAX)};
  if (!forwarder.scratch) die("memory");
  forwarder.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (forwarder.epoll_fd < 0) die("epoll");
  listen_on(&forwarder, (uint16_t)port);
  run(&forwarder);
}
