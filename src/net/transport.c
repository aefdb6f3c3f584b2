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
#include "wire/proxy.h"
#include "wire/websocket.h"
#include "wire/websocket_handshake.h"

// PROXY → HANDSHAKE → FRAMES, or PROXY → PLAIN; PLAIN needs no framing any more.
enum phase { PHASE_PROXY, PHASE_HANDSHAKE, PHASE_FRAMES, PHASE_PLAIN };

struct framing {
  enum phase phase;
  struct buffer head;  // what has arrived of a PROXY header or a request
  struct websocket websocket;
  uint64_t frame_left;                                             // bytes of MQTT that the frame under way still takes
  uint8_t unsent[WEBSOCKET_MAX_REPLY * 2 + WEBSOCKET_MAX_HEADER];  // of ours, to be written first
  uint8_t unsent_size, unsent_at;
  uint8_t reply[WEBSOCKET_MAX_REPLY];  // waits for the end of the frame under way
  uint8_t reply_size;
};

struct transport *transport_create(int fd, struct listener *listener, const char *address)
{
  size_t size = strlen(address) + 1;
  struct transport *transport = calloc(1, sizeof *transport + size);
  if (!transport) return NULL;
  bool proxy = listener->proxy_protocol;
  transport->address = transport->own_address;
  memcpy(transport->own_address, address, size);
  if (proxy || listener->websocket) transport->framing = calloc(1, sizeof *transport->framing);
  if ((proxy || listener->websocket) && !transport->framing) {
    free(transport);
    return NULL;
  }
  if (transport->framing) transport->framing->phase = proxy ? PHASE_PROXY : PHASE_HANDSHAKE;
  transport->fd = fd;
  transport->listener = listener_ref(listener);
  return transport;
}

static void free_framing(struct transport *transport)
{
  struct framing *framing = transport->framing;
  if (!framing) return;
  if (framing->phase == PHASE_FRAMES) websocket_deinit(&framing->websocket);
  buffer_deinit(&framing->head);
  free(framing);
  transport->framing = NULL;
}

static void free_address(struct transport *transport)
{
  if (transport->address != transport->own_address) free(transport->address);
}

void transport_destroy(struct transport *transport)
{
  close(transport->fd);
  free_framing(transport);
  free_address(transport);
  listener_unref(transport->listener);
  free(transport);
}

// ---- Reading

static void write_now(const struct transport *transport, const void *bytes, size_t size)
{
  // Handshakes and goodbyes fit an empty socket buffer; a peer that does not take them has itself to blame.
  ssize_t written = send(transport->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)written;
}

// Takes a header of some kind off the front: all that has arrived is in `head`.
static enum transport_result take_proxy(struct transport *transport, const char **out_why)
{
  struct framing *framing = transport->framing;
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
  return TRANSPORT_OK;
}

static enum transport_result take_handshake(struct transport *transport, const char **out_why)
{
  struct framing *framing = transport->framing;
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
  struct framing *framing = transport->framing;
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
  struct framing *framing = transport->framing;
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
  free_framing(transport);
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

// A frame per write: its header in front of the bytes, unless a frame is under way whose rest comes first.
static ssize_t write_frames(struct transport *transport, const struct span parts[2])
{
  struct framing *framing = transport->framing;
  if (framing->phase != PHASE_FRAMES) return 0;
  size_t total = parts[0].size + parts[1].size;
  if (framing->frame_left == 0) {
    assert((size_t)framing->unsent_size + framing->reply_size + WEBSOCKET_MAX_HEADER <= sizeof framing->unsent);
    memcpy(framing->unsent + framing->unsent_size, framing->reply, framing->reply_size);
    framing->unsent_size = (uint8_t)(framing->unsent_size + framing->reply_size);
    framing->reply_size = 0;
    if (total > 0) {
      size_t size = websocket_write_header(framing->unsent + framing->unsent_size, total, WEBSOCKET_BINARY, NULL);
      framing->unsent_size = (uint8_t)(framing->unsent_size + size);
      framing->frame_left = total;
    }
  }
  assert(total == 0 || total >= framing->frame_left);
  struct iovec vector[3] = {
      iovec_of(span_of(framing->unsent + framing->unsent_at, (size_t)framing->unsent_size - framing->unsent_at)),
      iovec_of(parts[0]), iovec_of(parts[1])};
  size_t own = vector[0].iov_len;
  // What is offered may have grown since the frame was begun: only what the header announced.
  size_t left = total ? framing->frame_left : 0;
  for (int i = 1; i < 3; i++) {
    if (vector[i].iov_len > left) vector[i].iov_len = left;
    left -= vector[i].iov_len;
  }
  if (own + vector[1].iov_len + vector[2].iov_len == 0) return 0;
  ssize_t written = write_vector(transport->fd, vector, 3);
  if (written < 0) return -1;
  size_t own_written = (size_t)written < own ? (size_t)written : own;
  framing->unsent_at = (uint8_t)(framing->unsent_at + own_written);
  if (framing->unsent_at == framing->unsent_size) framing->unsent_at = framing->unsent_size = 0;
  framing->frame_left -= (size_t)written - own_written;
  return written - (ssize_t)own_written;
}

ssize_t transport_write(struct transport *transport, const struct span parts[2])
{
  if (transport->framing) return write_frames(transport, parts);
  struct iovec vector[2] = {iovec_of(parts[0]), iovec_of(parts[1])};
  return write_vector(transport->fd, vector, parts[1].size ? 2 : 1);
}

bool transport_frame_unsent(const struct transport *transport)
{
  const struct framing *framing = transport->framing;
  return framing && (framing->unsent_size > 0 || (framing->reply_size > 0 && framing->frame_left == 0));
}

void transport_goodbye(struct transport *transport)
{
  struct framing *framing = transport->framing;
  if (!framing || framing->phase != PHASE_FRAMES || framing->frame_left > 0 || framing->unsent_size > 0) return;
  uint8_t frame[WEBSOCKET_MAX_REPLY];
  size_t size = websocket_close(&framing->websocket, WEBSOCKET_CODE_NORMAL, NULL, frame);
  if (size) write_now(transport, frame, size);
}
