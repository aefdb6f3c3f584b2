#include "cli/bench_engine.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cli/bench_frames.h"
#include "cli/bench_packets.h"
#include "tls/client.h"

enum { OPEN_TURN_NS = 100 * BENCH_NS_PER_MS };

uint64_t bench_now_ns(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * BENCH_NS_PER_S + (uint64_t)now.tv_nsec;
}

enum status engine_init(struct engine *engine, const struct bench_options *options, const struct engine_handlers *handlers,
                        void *context, struct error *error)
{
  *engine = (struct engine){.options = options, .handlers = handlers, .context = context};
  engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (engine->epoll_fd < 0) return error_set(error, status_from_errno(errno), "epoll: %s", strerror(errno));
  engine->scratch = malloc(ENGINE_READ_SIZE + ENGINE_PACKET_MAX);
  if (engine->scratch) return OK;
  engine_deinit(engine);
  return error_set(error, ERR_NO_MEMORY, "out of memory");
}

void engine_deinit(struct engine *engine)
{
  if (engine->epoll_fd >= 0) close(engine->epoll_fd);
  engine->epoll_fd = -1;
  free(engine->scratch);
  engine->scratch = NULL;
}

// ---- Opening and closing

static void release(struct engine_connection *connection)
{
  tls_session_free(connection->tls);
  connection->tls = NULL;
  frames_free(connection->frames);
  connection->frames = NULL;
  if (connection->state != ENGINE_CLOSED) close(connection->fd);
  connection->state = ENGINE_CLOSED;
  connection->blocked = false;
  buffer_deinit(&connection->in);
  buffer_deinit(&connection->out);
  buffer_deinit(&connection->hello);
  buffer_deinit(&connection->subscribe);
  free(connection->held_ids);
  connection->held_ids = NULL;
}

static void fail(struct engine *engine, struct engine_connection *connection, enum status why, const char *text)
{
  // The text may be the connection's.
  if (!engine->broken.status) (void)error_set(&engine->broken, why, "%s", text);
  release(connection);
}

void engine_close(struct engine *engine, struct engine_connection *connection)
{
  if (connection->state == ENGINE_READY && !engine->options->raw && buffer_size(&connection->out) == 0) {
    const uint8_t disconnect[] = {MQTT_DISCONNECT << 4, 0};
    // A broker that is gone already needs no farewell.
    if (buffer_append(&connection->out, disconnect, sizeof disconnect) == OK) engine_flush(engine, connection);
    if (connection->tls) tls_session_goodbye(connection->tls);
  }
  release(connection);
}

// One source address has some 28,000 ports; 127.0.0.1, 127.0.0.2, ... multiply them when the broker is on loopback.
static enum status bind_source(struct engine *engine, int fd, struct error *error)
{
  int on = 1;
  (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  uint32_t address = INADDR_LOOPBACK + engine->opened % (uint32_t)engine->options->sources;
  struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
  if (bind(fd, (const struct sockaddr *)&source, sizeof source) == 0) return OK;
  return error_set(error, status_from_errno(errno), "cannot bind to a loopback source address: %s", strerror(errno));
}

static enum status start_connecting(int fd, const struct sockaddr *address, socklen_t size, struct error *error)
{
  if (connect(fd, address, size) == 0 || errno == EINPROGRESS) return OK;
  return error_set(error, status_from_errno(errno), "cannot connect: %s", strerror(errno));
}

static enum status connect_unix(struct engine *engine, int *out_fd, struct error *error)
{
  const char *path = engine->options->unix_path;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return error_set(error, ERR_INVALID, "the path is too long");
  memcpy(address.sun_path, path, strlen(path) + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return error_set(error, status_from_errno(errno), "socket: %s", strerror(errno));
  enum status status = start_connecting(fd, (const struct sockaddr *)&address, sizeof address, error);
  if (status) {
    close(fd);
    return status;
  }
  *out_fd = fd;
  return OK;
}

static enum status connect_tcp(struct engine *engine, int *out_fd, struct error *error)
{
  const struct bench_options *options = engine->options;
  char port[8];
  snprintf(port, sizeof port, "%u", (unsigned)options->port);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
  struct addrinfo *found = NULL;
  int problem = getaddrinfo(options->host, port, &hints, &found);
  if (problem) return error_set(error, ERR_NOT_FOUND, "%s", gai_strerror(problem));
  enum status status = OK;
  int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    status = error_set(error, status_from_errno(errno), "socket: %s", strerror(errno));
  } else {
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (options->sources > 1 && found->ai_family == AF_INET) status = bind_source(engine, fd, error);
    if (!status) status = start_connecting(fd, found->ai_addr, found->ai_addrlen, error);
    if (status) close(fd);
  }
  freeaddrinfo(found);
  if (status) return status;
  *out_fd = fd;
  return OK;
}

static enum status name_broker(const struct bench_options *options, struct error *error)
{
  if (options->unix_path) return error_prefix(error, "%s", options->unix_path);
  return error_prefix(error, "%s port %u", options->host, (unsigned)options->port);
}

enum status engine_open(struct engine *engine, struct engine_connection *connection, struct error *error)
{
  assert(connection->state == ENGINE_CLOSED);
  enum status status = engine->options->unix_path ? connect_unix(engine, &connection->fd, error)
                                                  : connect_tcp(engine, &connection->fd, error);
  if (status) return name_broker(engine->options, error);
  engine->opened++;
  connection->state = ENGINE_CONNECTING;
  connection->opened_ns = bench_now_ns();
  connection->receive_maximum = UINT16_MAX;
  connection->blocked = true;
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
  if (epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) == 0) return OK;
  status = error_set(error, status_from_errno(errno), "epoll: %s", strerror(errno));
  release(connection);
  return status;
}

// ---- Writing

static void set_blocked(struct engine *engine, struct engine_connection *connection, bool blocked)
{
  if (connection->blocked == blocked) return;
  connection->blocked = blocked;
  struct epoll_event event = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = connection};
  int result = epoll_ctl(engine->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
  assert(result == 0);
}

static void flush_secure(struct engine *engine, struct engine_connection *connection, struct buffer *wire)
{
  if (buffer_size(wire) == 0 && !tls_session_unsent(connection->tls)) {
    set_blocked(engine, connection, false);
    return;
  }
  const struct span parts[2] = {buffer_peek(wire), {0}};
  size_t taken;
  enum tls_result result = tls_session_write(connection->tls, parts, &taken);
  buffer_consume(wire, taken);
  set_blocked(engine, connection, result == TLS_AGAIN);
}

void engine_flush(struct engine *engine, struct engine_connection *connection)
{
  struct buffer *wire = connection->frames ? frames_output(connection->frames, &connection->out) : &connection->out;
  if (connection->tls) {
    flush_secure(engine, connection, wire);
    return;
  }
  while (buffer_size(wire) > 0) {
    struct span out = buffer_peek(wire);
    ssize_t sent = send(connection->fd, out.at, out.size, MSG_NOSIGNAL);
    if (sent < 0) {
      // What is wrong with the connection is told by the next read.
      set_blocked(engine, connection, errno == EAGAIN);
      return;
    }
    buffer_consume(wire, (size_t)sent);
  }
  set_blocked(engine, connection, false);
}

static void greet(struct engine *engine, struct engine_connection *connection)
{
  connection->state = ENGINE_GREETED;
  struct buffer hello = connection->hello;
  connection->hello = connection->out;
  connection->out = hello;
  engine_flush(engine, connection);
}

// The way to the broker is there.
static void begin_stream(struct engine *engine, struct engine_connection *connection)
{
  if (!engine->options->websocket_path) {
    greet(engine, connection);
    return;
  }
  connection->frames = frames_create(engine->options);
  connection->state = ENGINE_UPGRADING;
  if (connection->frames)
    engine_flush(engine, connection);
  else
    fail(engine, connection, ERR_NO_MEMORY, "no request for a WebSocket: the path cannot be one, or memory is short");
}

// One step of the handshake.
static void shake(struct engine *engine, struct engine_connection *connection)
{
  const char *why;
  enum tls_result result = tls_session_handshake(connection->tls, &why);
  if (result == TLS_DONE)
    begin_stream(engine, connection);
  else if (result == TLS_AGAIN)
    set_blocked(engine, connection, tls_session_unsent(connection->tls));
  else
    fail(engine, connection, ERR_DENIED,
         result == TLS_FAILED ? why : "the broker closed the connection while TLS shook hands");
}

static void finish_connecting(struct engine *engine, struct engine_connection *connection)
{
  int problem = 0;
  socklen_t size = sizeof problem;
  (void)getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
  if (problem) {
    fail(engine, connection, status_from_errno(problem), strerror(problem));
    return;
  }
  if (!engine->options->tls) {
    begin_stream(engine, connection);
    return;
  }
  connection->tls = tls_client_session(engine->options->tls, engine->options->host, connection->fd);
  connection->state = ENGINE_SECURING;
  if (connection->tls)
    shake(engine, connection);
  else
    fail(engine, connection, ERR_NO_MEMORY, "out of memory");
}

// ---- Reading

static void become_ready(struct engine *engine, struct engine_connection *connection)
{
  connection->state = ENGINE_READY;
  engine->handlers->ready(engine->context, connection);
}

static enum status take_connack(struct engine *engine, struct engine_connection *connection,
                                const struct mqtt_packet *packet)
{
  const struct mqtt_connack *connack = &packet->connack;
  if (connack->reason != MQTT_SUCCESS)
    return error_set(&engine->broken, ERR_DENIED, "the broker refused: %s", mqtt_reason_name(connack->reason));
  connection->session_present = connack->session_present;
  if (MQTT_HAS(&connack->properties, RECEIVE_MAXIMUM)) connection->receive_maximum = connack->properties.receive_maximum;
  if (buffer_size(&connection->subscribe) == 0) {
    become_ready(engine, connection);
    return OK;
  }
  connection->state = ENGINE_SUBSCRIBING;
  struct span subscribe = buffer_peek(&connection->subscribe);
  if (buffer_append(&connection->out, subscribe.at, subscribe.size))
    return error_set(&engine->broken, ERR_NO_MEMORY, "out of memory");
  return OK;
}

static enum status take_suback(struct engine *engine, struct engine_connection *connection, const struct mqtt_packet *packet)
{
  struct span codes = packet->suback.codes;
  for (size_t i = 0; i < codes.size; i++)
    if (codes.at[i] >= MQTT_UNSPECIFIED_ERROR)
      return error_set(&engine->broken, ERR_DENIED, "the broker refused a subscription: %s",
                       mqtt_reason_name((enum mqtt_reason)codes.at[i]));
  become_ready(engine, connection);
  return OK;
}

// Packets that come a few times in a connection's life: decoded by the library.
static enum status take_rare(struct engine *engine, struct engine_connection *connection, uint8_t first, struct span body)
{
  struct mqtt_packet packet;
  struct mqtt_fault fault;
  if (!mqtt_decode(engine->options->version, MQTT_FROM_SERVER, first, body, &packet, &fault))
    return error_set(&engine->broken, ERR_INVALID, "the broker sent a wrong %s: %s", mqtt_packet_name(first >> 4),
                     fault.text);
  if (packet.type == MQTT_CONNACK && connection->state == ENGINE_GREETED) return take_connack(engine, connection, &packet);
  if (packet.type == MQTT_SUBACK && connection->state == ENGINE_SUBSCRIBING) return take_suback(engine, connection, &packet);
  if (packet.type == MQTT_PINGRESP) return OK;
  if (packet.type == MQTT_DISCONNECT)
    return error_set(&engine->broken, ERR_CLOSED, "the broker closed: %s", mqtt_reason_name(packet.disconnect.reason));
  return error_set(&engine->broken, ERR_INVALID, "the broker sent an unexpected %s", mqtt_packet_name(first >> 4));
}

static enum status answer(struct engine *engine, struct engine_connection *connection, uint8_t first, uint16_t packet_id)
{
  uint8_t ack[4] = {first, 2, (uint8_t)(packet_id >> 8), (uint8_t)packet_id};
  if (buffer_append(&connection->out, ack, sizeof ack)) return error_set(&engine->broken, ERR_NO_MEMORY, "out of memory");
  return OK;
}

// Whether this identifier was not held before.
static bool hold(struct engine *engine, struct engine_connection *connection, uint16_t packet_id)
{
  // The forwarder passes on the publishers' identifiers; several may use the same.
  if (engine->options->raw) return true;
  if (!connection->held_ids) connection->held_ids = calloc(UINT16_MAX / 64 + 1, sizeof(uint64_t));
  if (!connection->held_ids) return true;
  uint64_t bit = UINT64_C(1) << (packet_id % 64);
  bool fresh = (connection->held_ids[packet_id / 64] & bit) == 0;
  connection->held_ids[packet_id / 64] |= bit;
  return fresh;
}

static enum status take_publish(struct engine *engine, struct engine_connection *connection, uint8_t first, struct span body)
{
  struct packet_publish publish;
  if (!packet_read_publish(engine->options->version, first, body, &publish))
    return error_set(&engine->broken, ERR_INVALID, "the broker sent a wrong PUBLISH");
  bool fresh = true;
  enum status status = OK;
  if (publish.qos == 1) {
    status = answer(engine, connection, MQTT_PUBACK << 4, publish.packet_id);
  } else if (publish.qos == 2) {
    fresh = hold(engine, connection, publish.packet_id);
    status = answer(engine, connection, MQTT_PUBREC << 4, publish.packet_id);
  }
  if (fresh) engine->handlers->message(engine->context, connection, publish.payload.at, publish.payload.size);
  return status;
}

static enum status take_ack(struct engine *engine, struct engine_connection *connection, uint8_t first, struct span body)
{
  struct packet_ack ack;
  if (!packet_read_ack(body, &ack))
    return error_set(&engine->broken, ERR_INVALID, "the broker sent a wrong acknowledgement");
  unsigned type = first >> 4;
  if (type == MQTT_PUBREL) {
    if (connection->held_ids) connection->held_ids[ack.packet_id / 64] &= ~(UINT64_C(1) << (ack.packet_id % 64));
    return answer(engine, connection, MQTT_PUBCOMP << 4, ack.packet_id);
  }
  if (type == MQTT_PUBREC && ack.reason < MQTT_UNSPECIFIED_ERROR)
    return answer(engine, connection, MQTT_PUBREL << 4 | 2, ack.packet_id);
  engine->handlers->acknowledged(engine->context, connection, ack.packet_id, ack.reason);
  return OK;
}

static inline enum status take_packet(struct engine *engine, struct engine_connection *connection, uint8_t first,
                                      struct span body)
{
  unsigned type = first >> 4;
  // A resumed session's messages may come behind CONNACK, before SUBACK.
  if (type == MQTT_PUBLISH && connection->state >= ENGINE_SUBSCRIBING) return take_publish(engine, connection, first, body);
  if (type >= MQTT_PUBACK && type <= MQTT_PUBCOMP && connection->state >= ENGINE_SUBSCRIBING)
    return take_ack(engine, connection, first, body);
  return take_rare(engine, connection, first, body);
}

// Handles the whole packets in `bytes`; `out_used` is where the first incomplete one begins.
static enum status take_bytes(struct engine *engine, struct engine_connection *connection, struct span bytes,
                              size_t *out_used)
{
  size_t at = 0;
  if (engine->options->raw && connection->state == ENGINE_GREETED) {
    at = 1;  // the forwarder says with one byte that it knows us
    become_ready(engine, connection);
  }
  for (;;) {
    struct mqtt_fixed_header header;
    enum mqtt_header_result result = mqtt_fixed_header(span_from(bytes, at), &header);
    if (result == MQTT_HEADER_INCOMPLETE) break;
    if (result == MQTT_HEADER_MALFORMED || header.remaining > ENGINE_PACKET_MAX - MQTT_MAX_FIXED_HEADER)
      return error_set(&engine->broken, ERR_INVALID, "the broker sent a wrong or too large packet");
    if (bytes.size - at < header.size + (size_t)header.remaining) break;
    struct span body = {.at = bytes.at + at + header.size, .size = header.remaining};
    enum status status = take_packet(engine, connection, header.first, body);
    if (status) return status;
    at += header.size + (size_t)header.remaining;
  }
  *out_used = at;
  return OK;
}

// NULL, with *out_size 0 when there is nothing; or how it has ended.
static const char *receive_plain(const struct engine_connection *connection, uint8_t *bytes, size_t *out_size)
{
  ssize_t got = recv(connection->fd, bytes, ENGINE_READ_SIZE, 0);
  if (got > 0) *out_size = (size_t)got;
  if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return NULL;
  return got < 0 ? strerror(errno) : "the broker closed the connection";
}

static const char *receive_secure(struct engine_connection *connection, uint8_t *bytes, size_t *out_size)
{
  const char *why;
  enum tls_result result = tls_session_read(connection->tls, bytes, ENGINE_READ_SIZE, out_size, &why);
  if (result == TLS_DONE || result == TLS_AGAIN) return NULL;
  return result == TLS_FAILED ? why : "the broker closed the connection";
}

// False: it has ended.
static bool take_frames(struct engine *engine, struct engine_connection *connection, uint8_t *bytes, size_t *size)
{
  bool open;
  const char *why = frames_receive(connection->frames, engine->options, bytes, size, &open);
  if (why) {
    fail(engine, connection, ERR_CLOSED, why);
    return false;
  }
  if (open && connection->state == ENGINE_UPGRADING) greet(engine, connection);
  // A Pong may be all that there is to do.
  if (*size == 0 && !connection->blocked) engine_flush(engine, connection);
  return true;
}

static void read_connection(struct engine *engine, struct engine_connection *connection)
{
  struct span kept = buffer_peek(&connection->in);
  assert(kept.size < ENGINE_PACKET_MAX);
  if (kept.size) memcpy(engine->scratch, kept.at, kept.size);
  size_t got = 0;
  const char *why = connection->tls ? receive_secure(connection, engine->scratch + kept.size, &got)
                                    : receive_plain(connection, engine->scratch + kept.size, &got);
  if (why) {
    fail(engine, connection, ERR_CLOSED, why);
    return;
  }
  if (got > 0 && connection->frames && !take_frames(engine, connection, engine->scratch + kept.size, &got)) return;
  if (got == 0) return;
  engine->now_ns = bench_now_ns();
  struct span bytes = {.at = engine->scratch, .size = kept.size + got};
  size_t used = 0;
  enum status status = take_bytes(engine, connection, bytes, &used);
  buffer_consume(&connection->in, kept.size);
  if (!status && used < bytes.size) {
    status = buffer_append(&connection->in, bytes.at + used, bytes.size - used);
    if (status) status = error_set(&engine->broken, status, "out of memory");
  }
  if (status) {
    release(connection);
    return;
  }
  if (!connection->blocked) engine_flush(engine, connection);
}

enum status engine_poll(struct engine *engine, uint64_t timeout_ns, struct error *error)
{
  struct epoll_event events[ENGINE_EVENTS];
  struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / BENCH_NS_PER_S),
                             .tv_nsec = (long)(timeout_ns % BENCH_NS_PER_S)};
  int count = epoll_pwait2(engine->epoll_fd, events, ENGINE_EVENTS, &timeout, NULL);
  if (count < 0 && errno != EINTR) return error_set(error, status_from_errno(errno), "epoll: %s", strerror(errno));
  for (int i = 0; i < count; i++) {
    struct engine_connection *connection = events[i].data.ptr;
    if (connection->state == ENGINE_CONNECTING) {
      if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) finish_connecting(engine, connection);
    } else if (connection->state == ENGINE_SECURING) {
      shake(engine, connection);
    } else {
      if (events[i].events & EPOLLOUT) engine_flush(engine, connection);
      if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) read_connection(engine, connection);
    }
    if (!engine->broken.status) continue;
    *error = engine->broken;
    return error->status;
  }
  return OK;
}

// Waits until no more than `most` connections are on their way.
static enum status wait_for_ready(struct engine *engine, struct engine_opening *opening, uint64_t most, struct error *error)
{
  if (opening->seen_ns == 0) {
    opening->seen_ready = *opening->ready_count;
    opening->seen_ns = bench_now_ns();
  }
  while (opening->opened - *opening->ready_count > most) {
    enum status status = engine_poll(engine, OPEN_TURN_NS, error);
    if (status) {
      (void)error_prefix(error, "connection %u of %u", *opening->ready_count + 1, opening->opened);
      return name_broker(engine->options, error);
    }
    if (*opening->ready_count != opening->seen_ready) {
      opening->seen_ready = *opening->ready_count;
      opening->seen_ns = engine->now_ns;
    } else if (bench_now_ns() - opening->seen_ns > engine->options->timeout_ms * BENCH_NS_PER_MS) {
      return error_set(error, ERR_TIMEOUT, "%u connections were accepted, then no more", opening->seen_ready);
    }
  }
  return OK;
}

enum status engine_open_next(struct engine *engine, struct engine_opening *opening, struct engine_connection *connection,
                             struct error *error)
{
  enum status status = wait_for_ready(engine, opening, engine->options->at_once - 1, error);
  if (!status) status = opening->prepare(engine->context, connection, error);
  if (!status) status = engine_open(engine, connection, error);
  if (!status) opening->opened++;
  return status;
}

enum status engine_open_finish(struct engine *engine, struct engine_opening *opening, struct error *error)
{
  return wait_for_ready(engine, opening, 0, error);
}
