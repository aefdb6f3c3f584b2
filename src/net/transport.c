#include "net/transport.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/buffer.h"
#include "tls/session.h"
#include "wire/proxy.h"
#include "wire/websocket.h"
#include "wire/websocket_handshake.h"

// PROXY → HANDSHAKE → FRAMES, or PROXY → PLAIN; PLAIN needs no framing any more.
enum phase { PHASE_PROXY, PHASE_HANDSHAKE, PHASE_FRAMES, PHASE_PLAIN };

struct framing {
  enum phase phase;
  struct buffer head;  // what has arrived of a PROXY header or a request
  struct websocket websocket;
  uint64_t frame_left;                                         // bytes of MQTT that the frame under way still takes
  uint8_t unsent[WEBSOCKET_MAX_REPLY + WEBSOCKET_MAX_HEADER];  // of ours, to be written first: a reply, then a header
  uint8_t unsent_size, unsent_at;
  uint8_t reply[WEBSOCKET_MAX_REPLY];  // waits for the end of the frame, or reply, under way
  uint8_t reply_size;
};

static struct transport *create(int fd, struct listener *listener, const char *address, struct layers *layers)
{
  size_t size = strlen(address) + 1;
  struct transport *transport = calloc(1, sizeof *transport + size);
  if (!transport) return NULL;
  transport->address = transport->own_address;
  memcpy(transport->own_address, address, size);
  transport->fd = fd;
  transport->listener = listener_ref(listener);
  transport->layers = layers;
  if (layers) layers->transport = transport;
  return transport;
}

static struct layers *layers_create(bool framing)
{
  struct layers *layers = calloc(1, sizeof *layers);
  if (!layers) return NULL;
  list_init(&layers->secure);
  if (framing) layers->framing = calloc(1, sizeof *layers->framing);
  if (!framing || layers->framing) return layers;
  free(layers);
  return NULL;
}

static void free_framing(struct layers *layers)
{
  struct framing *framing = layers->framing;
  if (!framing) return;
  if (framing->phase == PHASE_FRAMES) websocket_deinit(&framing->websocket);
  buffer_deinit(&framing->head);
  free(framing);
  layers->framing = NULL;
}

static void free_layers(struct layers *layers)
{
  if (!layers) return;
  assert(link_idle(&layers->secure));
  free_framing(layers);
  if (layers->tls) tls_session_free(layers->tls);
  free(layers);
}

struct transport *transport_create(int fd, struct listener *listener, const char *address)
{
  bool proxy = atomic_load_explicit(&listener->proxy_protocol, memory_order_relaxed);
  if (!proxy && !listener->websocket) return create(fd, listener, address, NULL);
  struct layers *layers = layers_create(true);
  if (!layers) return NULL;
  layers->framing->phase = proxy ? PHASE_PROXY : PHASE_HANDSHAKE;
  struct transport *transport = create(fd, listener, address, layers);
  if (!transport) free_layers(layers);
  return transport;
}

struct transport *transport_create_tls(int fd, struct listener *listener, const char *address, struct tls_session *session,
                                       uint32_t generation)
{
  struct layers *layers = layers_create(listener->websocket);
  if (!layers) return NULL;
  if (layers->framing) layers->framing->phase = PHASE_HANDSHAKE;
  layers->generation = generation;
  struct transport *transport = create(fd, listener, address, layers);
  if (transport)
    layers->tls = session;
  else
    free_layers(layers);
  return transport;
}

static void free_address(struct transport *transport)
{
  if (transport->address != transport->own_address) free(transport->address);
}

void transport_destroy(struct transport *transport)
{
  free_layers(transport->layers);
  close(transport->fd);
  free_address(transport);
  listener_unref(transport->listener);
  free(transport);
}

// ---- Reading

enum transport_result transport_read(struct transport *transport, uint8_t *bytes, size_t size, size_t *out_size,
                                     const char **out_why)
{
  *out_size = 0;
  struct tls_session *tls = transport_tls(transport);
  if (tls) {
    enum tls_result result = tls_session_read(tls, bytes, size, out_size, out_why);
    return result == TLS_CLOSED ? TRANSPORT_CLOSED : result == TLS_FAILED ? TRANSPORT_REFUSED : TRANSPORT_OK;
  }
  ssize_t got = recv(transport->fd, bytes, size, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return TRANSPORT_OK;
  if (got <= 0) return TRANSPORT_CLOSED;
  *out_size = (size_t)got;
  return TRANSPORT_OK;
}

static void write_now(const struct transport *transport, const void *bytes, size_t size)
{
  // Handshakes and goodbyes fit an empty socket buffer; a peer that does not take them has itself to blame.
  struct tls_session *tls = transport_tls(transport);
  if (tls) {
    const struct span parts[2] = {span_of(bytes, size), {0}};
    size_t taken;
    (void)tls_session_write(tls, parts, &taken);
    return;
  }
  ssize_t written = send(transport->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)written;
}

// Takes a header of some kind off the front: all that has arrived is in `head`.
static enum transport_result take_proxy(struct transport *transport, const char **out_why)
{
  struct framing *framing = transport->layers->framing;
  struct proxy_source source;
  size_t size;
  enum proxy_result result = proxy_parse(buffer_peek(&framing->head), &size, &source);
  if (result == PROXY_INCOMPLETE) return TRANSPORT_OK;
  if (result == PROXY_INVALID) {
    *out_why = "no valid PROXY header";
    return TRANSPORT_REFUSED;
  }
  buffer_consume(&framing->head, size);
  framing->phase = transport->listener->websocket ? PHASE_HANDSHAKE : PHASE_PLAIN;
  if (source.family == PROXY_UNKNOWN) return TRANSPORT_OK;
  char text[PROXY_MAX_TEXT];
  proxy_format_source(&source, text);
  char *address = strdup(text);
  if (!address) return TRANSPORT_OK;
  connection_set_address(transport->connection, address);
  free_address(transport);
  transport->address = address;
  transport->proxied = true;
  return TRANSPORT_OK;
}

static enum transport_result take_handshake(struct transport *transport, const char **out_why)
{
  struct framing *framing = transport->layers->framing;
  struct websocket_request request;
  enum websocket_head head =
      websocket_read_request(buffer_peek(&framing->head), transport->listener->websocket_path, &request);
  if (head == WEBSOCKET_HEAD_INCOMPLETE) return TRANSPORT_OK;
  char response[WEBSOCKET_MAX_RESPONSE];
  write_now(transport, response, websocket_write_response(&request, response));
  if (head == WEBSOCKET_HEAD_REFUSED) {
    *out_why = request.why;
    return TRANSPORT_REFUSED;
  }
  buffer_consume(&framing->head, request.size);
  framing->phase = PHASE_FRAMES;
  websocket_init(&framing->websocket, WEBSOCKET_SERVER);
  return TRANSPORT_OK;
}

static void queue_reply(struct framing *framing, const uint8_t *reply, size_t size)
{
  // A second Pong before the first was written replaces it (RFC 6455, 5.5.3).
  memcpy(framing->reply, reply, size);
  framing->reply_size = (uint8_t)size;
}

static enum transport_result take_frames(struct transport *transport, uint8_t *bytes, size_t size, struct span *out,
                                         const char **out_why)
{
  struct framing *framing = transport->layers->framing;
  struct websocket_received received;
  if (websocket_receive(&framing->websocket, bytes, size, NULL, &received) != OK) {
    *out_why = "out of memory";
    return TRANSPORT_REFUSED;
  }
  *out = span_of(bytes, received.payload_size);
  if (received.reply_size) {
    queue_reply(framing, received.reply, received.reply_size);
    const struct span nothing[2] = {{0}, {0}};
    if (transport_write(transport, nothing) < 0) return TRANSPORT_CLOSED;
  }
  if (!received.closed) return TRANSPORT_OK;
  *out_why = received.fault;
  return received.fault ? TRANSPORT_REFUSED : TRANSPORT_CLOSED;
}

enum transport_result transport_unwrap(struct transport *transport, uint8_t *bytes, size_t size, struct span *out,
                                       const char **out_why)
{
  struct layers *layers = transport->layers;
  struct framing *framing = layers ? layers->framing : NULL;
  *out = span_of(bytes, size);
  *out_why = NULL;
  if (!framing) return TRANSPORT_OK;
  if (framing->phase == PHASE_FRAMES) return take_frames(transport, bytes, size, out, out_why);
  *out = (struct span){0};
  if (buffer_append(&framing->head, bytes, size) != OK) {
    *out_why = "out of memory";
    return TRANSPORT_REFUSED;
  }
  enum transport_result result = TRANSPORT_OK;
  if (framing->phase == PHASE_PROXY) result = take_proxy(transport, out_why);
  if (result == TRANSPORT_OK && framing->phase == PHASE_HANDSHAKE) result = take_handshake(transport, out_why);
  if (result != TRANSPORT_OK || framing->phase < PHASE_FRAMES) return result;
  // What came behind the headers is stream already. It is no longer than what was just read.
  struct span rest = buffer_peek(&framing->head);
  assert(rest.size <= size);
  if (rest.size) memcpy(bytes, rest.at, rest.size);
  buffer_deinit(&framing->head);
  *out = span_of(bytes, rest.size);
  if (framing->phase == PHASE_FRAMES)
    return rest.size ? take_frames(transport, bytes, rest.size, out, out_why) : TRANSPORT_OK;
  free_layers(layers);  // PROXY without TLS: done
  transport->layers = NULL;
  return TRANSPORT_OK;
}

// ---- Writing

static ssize_t write_vector(int fd, struct iovec *vector, int count)
{
  struct msghdr message = {.msg_iov = vector, .msg_iovlen = (size_t)count};
  for (;;) {
    ssize_t written = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written >= 0) return written;
    if (errno == EINTR) continue;
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
  }
}

static struct iovec iovec_of(struct span span)
{
  return (struct iovec){.iov_base = (void *)(uintptr_t)span.at, .iov_len = span.size};
}

// As many bytes of the three as the socket, or the session, takes.
static ssize_t write_three(struct transport *transport, const struct span spans[3])
{
  struct tls_session *tls = transport->layers->tls;
  if (!tls) {
    struct iovec vector[3] = {iovec_of(spans[0]), iovec_of(spans[1]), iovec_of(spans[2])};
    return write_vector(transport->fd, vector, 3);
  }
  const struct span front[2] = {spans[0], spans[1]}, back[2] = {spans[2], {0}};
  size_t taken, rest = 0;
  enum tls_result result = tls_session_write(tls, front, &taken);
  if ((result == TLS_DONE || result == TLS_AGAIN) && spans[2].size > 0 && taken == spans[0].size + spans[1].size)
    result = tls_session_write(tls, back, &rest);
  return result == TLS_DONE || result == TLS_AGAIN ? (ssize_t)(taken + rest) : -1;
}

// Makes the header of the next frame, unless one is under way.
static void begin_frame(struct framing *framing, size_t total)
{
  if (framing->frame_left > 0) return;
  // One reply at a time: a peer may send any number of Pings and read none of the Pongs.
  if (framing->unsent_size == 0) {
    memcpy(framing->unsent, framing->reply, framing->reply_size);
    framing->unsent_size = framing->reply_size;
    framing->reply_size = 0;
  }
  if (total == 0) return;
  assert(framing->unsent_size <= WEBSOCKET_MAX_REPLY);
  size_t size = websocket_write_header(framing->unsent + framing->unsent_size, total, WEBSOCKET_BINARY, NULL);
  framing->unsent_size = (uint8_t)(framing->unsent_size + size);
  framing->frame_left = total;
}

// A frame per write: its header in front of the bytes, unless a frame is under way whose rest comes first.
static ssize_t write_frames(struct transport *transport, const struct span parts[2])
{
  struct framing *framing = transport->layers->framing;
  size_t total = parts[0].size + parts[1].size;
  begin_frame(framing, total);
  assert(total == 0 || total >= framing->frame_left);
  struct span spans[3] = {span_of(framing->unsent + framing->unsent_at, (size_t)framing->unsent_size - framing->unsent_at),
                          parts[0], parts[1]};
  size_t own = spans[0].size;
  // What is offered may have grown since the frame was begun: only what the header announced.
  size_t left = total ? framing->frame_left : 0;
  for (int i = 1; i < 3; i++) {
    if (spans[i].size > left) spans[i].size = left;
    left -= spans[i].size;
  }
  if (own + spans[1].size + spans[2].size == 0 && !transport_waits(transport)) return 0;
  ssize_t written = write_three(transport, spans);
  if (written < 0) return -1;
  size_t own_written = (size_t)written < own ? (size_t)written : own;
  framing->unsent_at = (uint8_t)(framing->unsent_at + own_written);
  if (framing->unsent_at == framing->unsent_size) framing->unsent_at = framing->unsent_size = 0;
  framing->frame_left -= (size_t)written - own_written;
  return written - (ssize_t)own_written;
}

static ssize_t write_layers(struct transport *transport, const struct span parts[2])
{
  struct layers *layers = transport->layers;
  const struct span nothing[2] = {{0}, {0}};
  if (layers->framing) {
    if (layers->framing->phase == PHASE_FRAMES) return write_frames(transport, parts);
    if (!layers->tls) return 0;
    parts = nothing;
  }
  size_t taken;
  enum tls_result result = tls_session_write(layers->tls, parts, &taken);
  return result == TLS_DONE || result == TLS_AGAIN ? (ssize_t)taken : -1;
}

ssize_t transport_write(struct transport *transport, const struct span parts[2])
{
  if (transport->layers) return write_layers(transport, parts);
  struct iovec vector[2] = {iovec_of(parts[0]), iovec_of(parts[1])};
  return write_vector(transport->fd, vector, parts[1].size ? 2 : 1);
}

bool transport_waits(const struct transport *transport)
{
  const struct layers *layers = transport->layers;
  if (!layers) return false;
  if (layers->tls && tls_session_unsent(layers->tls)) return true;
  const struct framing *framing = layers->framing;
  return framing && (framing->unsent_size > 0 || (framing->reply_size > 0 && framing->frame_left == 0));
}

static void close_frames(struct transport *transport, struct framing *framing)
{
  if (framing->phase != PHASE_FRAMES || framing->frame_left > 0 || framing->unsent_size > 0) return;
  uint8_t frame[WEBSOCKET_MAX_REPLY];
  size_t size = websocket_close(&framing->websocket, WEBSOCKET_CODE_NORMAL, NULL, frame);
  if (size) write_now(transport, frame, size);
}

void transport_goodbye(struct transport *transport)
{
  struct layers *layers = transport->layers;
  if (!layers) return;
  if (layers->framing) close_frames(transport, layers->framing);
  if (layers->tls) tls_session_goodbye(layers->tls);
}
