// A client's byte stream. See transport.h.
#include "cli/transport.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_BYTES = 65536, READS_PER_TURN = 16 };

void transport_init(struct transport *transport)
{
  *transport = (struct transport){.fd = -1, .state = TRANSPORT_CLOSED};
}

static void drop_socket(struct transport *transport)
{
  tls_session_free(transport->tls);
  transport->tls = NULL;
  if (transport->fd >= 0) close(transport->fd);
  transport->fd = -1;
  transport->state = TRANSPORT_CLOSED;
}

void transport_close(struct transport *transport)
{
  drop_socket(transport);
  if (transport->resolved) freeaddrinfo(transport->resolved);
  if (transport->address && transport->address->websocket_path) websocket_deinit(&transport->websocket);
  buffer_deinit(&transport->out);
  buffer_deinit(&transport->upgrade);
  transport_init(transport);
}

static enum status system_error(const struct transport *transport, int number, struct error *error)
{
  const struct transport_address *address = transport->address;
  if (address->unix_path)
    return error_set(error, status_from_errno(number), "cannot connect to %s: %s", address->unix_path, strerror(number));
  return error_set(error, status_from_errno(number), "cannot connect to %s port %u: %s", address->host, address->port,
                   strerror(number));
}

static bool is_websocket(const struct transport *transport)
{
  return transport->address && transport->address->websocket_path;
}

// ---- Connecting

static enum status send_upgrade(struct transport *transport, struct error *error)
{
  const struct transport_address *address = transport->address;
  char host[300] = "localhost";
  bool v6 = address->host && strchr(address->host, ':');
  if (address->host) snprintf(host, sizeof host, v6 ? "[%s]:%u" : "%s:%u", address->host, address->port);
  arc4random_buf(transport->nonce, sizeof transport->nonce);
  char request[2048];
  size_t size = websocket_write_request(request, sizeof request, host, address->websocket_path, address->subprotocol,
                                        transport->nonce);
  if (size == 0) return error_set(error, ERR_INVALID, "\"%s\" cannot be a WebSocket path", address->websocket_path);
  if (buffer_append(&transport->out, request, size) != OK) return error_set(error, ERR_NO_MEMORY, "out of memory");
  transport->state = TRANSPORT_UPGRADING;
  return OK;
}

static enum status secured(struct transport *transport, struct error *error)
{
  if (is_websocket(transport)) return send_upgrade(transport, error);
  transport->state = TRANSPORT_OPEN;
  return OK;
}

// One step of the handshake.
static enum status shake(struct transport *transport, struct error *error)
{
  const struct transport_address *address = transport->address;
  const char *why;
  switch (tls_session_handshake(transport->tls, &why)) {
    case TLS_DONE: return secured(transport, error);
    case TLS_AGAIN: return OK;
    case TLS_CLOSED:
      return error_set(error, ERR_CLOSED,
                       "%s port %u closes the connection while TLS shakes hands: is it a port with TLS, and does it take "
                       "connections?",
                       address->host, address->port);
    case TLS_FAILED: break;
  }
  return error_set(error, ERR_DENIED, "no TLS with %s port %u: %s", address->host, address->port, why);
}

static enum status connected(struct transport *transport, struct error *error)
{
  if (!transport->address->tls) return secured(transport, error);
  transport->tls = tls_client_session(transport->address->tls, transport->address->host, transport->fd);
  if (!transport->tls) return error_set(error, ERR_NO_MEMORY, "out of memory");
  transport->state = TRANSPORT_SECURING;
  return shake(transport, error);
}

static enum status try_socket(struct transport *transport, int family, const struct sockaddr *address, socklen_t size,
                              struct error *error)
{
  transport->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (transport->fd < 0) return system_error(transport, errno, error);
  int on = 1;
  if (family != AF_UNIX) (void)setsockopt(transport->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  transport->state = TRANSPORT_CONNECTING;
  if (connect(transport->fd, address, size) == 0) return connected(transport, error);
  if (errno == EINPROGRESS) return OK;
  int number = errno;
  drop_socket(transport);
  return system_error(transport, number, error);
}

// Tries address after address until one does not fail at once.
static enum status try_next(struct transport *transport, struct error *error)
{
  enum status status = ERR_NOT_FOUND;
  while (transport->next) {
    struct addrinfo *address = transport->next;
    transport->next = address->ai_next;
    status = try_socket(transport, address->ai_family, address->ai_addr, address->ai_addrlen, error);
    if (status == OK) return OK;
  }
  return status;
}

static enum status connect_unix(struct transport *transport, struct error *error)
{
  const char *path = transport->address->unix_path;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t size = strlen(path);
  if (size == 0 || size >= sizeof address.sun_path)
    return error_set(error, ERR_INVALID, "\"%s\" is too long for a socket's path (%zu bytes at most)", path,
                     sizeof address.sun_path - 1);
  memcpy(address.sun_path, path, size + 1);
  return try_socket(transport, AF_UNIX, (const struct sockaddr *)&address, sizeof address, error);
}

enum status transport_connect(struct transport *transport, const struct transport_address *address, struct error *error)
{
  assert(transport->state == TRANSPORT_CLOSED);
  transport_close(transport);
  transport->address = address;
  if (address->websocket_path) websocket_init(&transport->websocket, WEBSOCKET_CLIENT);
  if (address->unix_path) return connect_unix(transport, error);
  char port[8];
  snprintf(port, sizeof port, "%u", address->port);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
  int result = getaddrinfo(address->host, port, &hints, &transport->resolved);
  if (result != 0)
    return error_set(error, ERR_NOT_FOUND, "cannot find host %s: %s", address->host,
                     result == EAI_SYSTEM ? strerror(errno) : gai_strerror(result));
  transport->next = transport->resolved;
  return try_next(transport, error);
}

static enum status finish_connecting(struct transport *transport, struct error *error)
{
  int number = 0;
  socklen_t size = sizeof number;
  if (getsockopt(transport->fd, SOL_SOCKET, SO_ERROR, &number, &size) < 0) number = errno;
  if (number == 0) return connected(transport, error);
  drop_socket(transport);
  enum status status = system_error(transport, number, error);
  return transport->next ? try_next(transport, error) : status;
}

// ---- Reading

static enum status send_reply(struct transport *transport, const struct websocket_received *received)
{
  if (received->reply_size == 0) return OK;
  return buffer_append(&transport->out, received->reply, received->reply_size);
}

// Takes wire bytes that were read into `in`'s reserved room at `bytes` and commits what is the stream's.
static enum status take_bytes(struct transport *transport, struct buffer *in, uint8_t *bytes, size_t size,
                              struct error *error)
{
  if (!is_websocket(transport)) {
    buffer_commit(in, size);
    return OK;
  }
  uint8_t mask[WEBSOCKET_MASK_SIZE];
  arc4random_buf(mask, sizeof mask);
  struct websocket_received received;
  enum status status = websocket_receive(&transport->websocket, bytes, size, mask, &received);
  if (status == OK) status = send_reply(transport, &received);
  if (status != OK) return error_set(error, status, "out of memory");
  buffer_commit(in, received.payload_size);
  if (!received.closed) return OK;
  if (received.fault) return error_set(error, ERR_CLOSED, "the broker broke the WebSocket protocol: %s", received.fault);
  return error_set(error, ERR_CLOSED, "the broker closed the WebSocket (code %u)", received.close_code);
}

// The response to the upgrade, collected until it is whole. Frames can be right behind it.
static enum status take_upgrade(struct transport *transport, struct buffer *in, const uint8_t *bytes, size_t size,
                                struct error *error)
{
  if (buffer_append(&transport->upgrade, bytes, size) != OK) return error_set(error, ERR_NO_MEMORY, "out of memory");
  struct span all = buffer_peek(&transport->upgrade);
  struct websocket_response response;
  enum websocket_head head = websocket_read_response(all, transport->address->subprotocol, transport->nonce, &response);
  if (head == WEBSOCKET_HEAD_INCOMPLETE) return OK;
  if (head == WEBSOCKET_HEAD_REFUSED && response.http_status != 0)
    return error_set(error, ERR_DENIED, "no WebSocket there: %s (HTTP status %u)", response.why, response.http_status);
  if (head == WEBSOCKET_HEAD_REFUSED) return error_set(error, ERR_DENIED, "no WebSocket there: %s", response.why);
  transport->state = TRANSPORT_OPEN;
  struct span rest = span_from(all, response.size);
  enum status status = OK;
  if (rest.size > 0) {
    uint8_t *at = buffer_reserve(in, rest.size);
    if (!at) return error_set(error, ERR_NO_MEMORY, "out of memory");
    memcpy(at, rest.at, rest.size);
    status = take_bytes(transport, in, at, rest.size, error);
  }
  buffer_deinit(&transport->upgrade);
  return status;
}

// *out_size: 0 when there is nothing.
static enum status receive_plain(struct transport *transport, uint8_t *bytes, size_t *out_size, struct error *error)
{
  ssize_t size = recv(transport->fd, bytes, READ_BYTES, 0);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return OK;
  if (size < 0) return error_set(error, status_from_errno(errno), "%s", strerror(errno));
  if (size == 0) return error_set(error, ERR_CLOSED, "the broker closed the connection");
  *out_size = (size_t)size;
  return OK;
}

static enum status receive_secure(struct transport *transport, uint8_t *bytes, size_t *out_size, struct error *error)
{
  const char *why;
  switch (tls_session_read(transport->tls, bytes, READ_BYTES, out_size, &why)) {
    case TLS_DONE:
    case TLS_AGAIN: return OK;
    case TLS_CLOSED: return error_set(error, ERR_CLOSED, "the broker closed the connection");
    case TLS_FAILED: break;
  }
  return error_set(error, ERR_DENIED, "TLS: %s", why);
}

static enum status read_some(struct transport *transport, struct buffer *in, bool *out_more, struct error *error)
{
  *out_more = false;
  uint8_t *at = buffer_reserve(in, READ_BYTES);
  if (!at) return error_set(error, ERR_NO_MEMORY, "out of memory");
  size_t size = 0;
  enum status status =
      transport->tls ? receive_secure(transport, at, &size, error) : receive_plain(transport, at, &size, error);
  if (status != OK || size == 0) return status;
  *out_more = size > READ_BYTES / 2;
  if (transport->state == TRANSPORT_UPGRADING) return take_upgrade(transport, in, at, size, error);
  return take_bytes(transport, in, at, size, error);
}

short transport_poll_events(const struct transport *transport)
{
  if (transport->state == TRANSPORT_CLOSED) return 0;
  if (transport->state == TRANSPORT_CONNECTING) return POLLOUT;
  return transport_unsent(transport) > 0 ? POLLIN | POLLOUT : POLLIN;
}

enum status transport_handle(struct transport *transport, short events, struct buffer *in, struct error *error)
{
  if (events == 0 || transport->state == TRANSPORT_CLOSED) return OK;
  if (transport->state == TRANSPORT_CONNECTING) return finish_connecting(transport, error);
  if (transport->state == TRANSPORT_SECURING) return shake(transport, error);
  if ((events & (POLLIN | POLLHUP | POLLERR)) == 0) return OK;
  bool more = true;
  enum status status = OK;
  for (int i = 0; i < READS_PER_TURN && more && status == OK; i++) status = read_some(transport, in, &more, error);
  return status;
}

// ---- Writing

uint8_t *transport_reserve(struct transport *transport, size_t size)
{
  assert(transport->state == TRANSPORT_OPEN);
  if (!is_websocket(transport)) return buffer_reserve(&transport->out, size);
  uint8_t *at = buffer_reserve(&transport->out, size + WEBSOCKET_MAX_HEADER);
  return at ? at + WEBSOCKET_MAX_HEADER : NULL;
}

void transport_commit(struct transport *transport, uint8_t *bytes, size_t size)
{
  if (!is_websocket(transport)) {
    buffer_commit(&transport->out, size);
    return;
  }
  // The header's size is known only now, so that the payload moves up to it.
  uint8_t mask[WEBSOCKET_MASK_SIZE];
  uint8_t header[WEBSOCKET_MAX_HEADER];
  arc4random_buf(mask, sizeof mask);
  websocket_mask(bytes, size, mask, 0);
  size_t header_size = websocket_write_header(header, size, WEBSOCKET_BINARY, mask);
  uint8_t *start = bytes - WEBSOCKET_MAX_HEADER;
  memmove(start + header_size, bytes, size);
  memcpy(start, header, header_size);
  buffer_commit(&transport->out, header_size + size);
}

size_t transport_unsent(const struct transport *transport)
{
  return buffer_size(&transport->out) + (transport->tls && tls_session_unsent(transport->tls));
}

uint64_t transport_end(const struct transport *transport)
{
  return transport->taken_bytes + buffer_size(&transport->out);
}

static enum status flush_plain(struct transport *transport, struct error *error)
{
  while (buffer_size(&transport->out) > 0) {
    struct span bytes = buffer_peek(&transport->out);
    ssize_t size = send(transport->fd, bytes.at, bytes.size, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return OK;
    if (size < 0) return error_set(error, status_from_errno(errno), "%s", strerror(errno));
    buffer_consume(&transport->out, (size_t)size);
    transport->taken_bytes += (uint64_t)size;
    transport->flushed_bytes = transport->taken_bytes;
  }
  return OK;
}

static enum status flush_secure(struct transport *transport, struct error *error)
{
  if (transport_unsent(transport) == 0) return OK;
  const struct span parts[2] = {buffer_peek(&transport->out), {0}};
  size_t taken;
  enum tls_result result = tls_session_write(transport->tls, parts, &taken);
  buffer_consume(&transport->out, taken);
  transport->taken_bytes += taken;
  if (result != TLS_DONE && result != TLS_AGAIN) return error_set(error, ERR_CLOSED, "the broker closed the connection");
  // What TLS has taken may still wait for the socket, as a whole.
  if (!tls_session_unsent(transport->tls)) transport->flushed_bytes = transport->taken_bytes;
  return OK;
}

enum status transport_flush(struct transport *transport, struct error *error)
{
  if (transport->state < TRANSPORT_UPGRADING) return OK;
  enum status status = transport->tls ? flush_secure(transport, error) : flush_plain(transport, error);
  if (status != OK || transport_unsent(transport) > 0 || !transport->finishing || transport->finished) return status;
  transport->finished = true;
  if (transport->tls) tls_session_goodbye(transport->tls);
  (void)shutdown(transport->fd, SHUT_WR);
  return OK;
}

void transport_finish(struct transport *transport)
{
  if (transport->state != TRANSPORT_OPEN || transport->finishing) return;
  transport->finishing = true;
  if (!is_websocket(transport)) return;
  uint8_t mask[WEBSOCKET_MASK_SIZE];
  uint8_t frame[WEBSOCKET_MAX_REPLY];
  arc4random_buf(mask, sizeof mask);
  size_t size = websocket_close(&transport->websocket, WEBSOCKET_CODE_NORMAL, mask, frame);
  // Without memory the Close is left out: the end of the stream says the same.
  if (size > 0) (void)!buffer_append(&transport->out, frame, size);
}

const char *transport_security(struct transport *transport, char *text, size_t size)
{
  if (!transport->tls || transport->state < TRANSPORT_UPGRADING) return NULL;
  struct tls_facts facts;
  tls_session_facts(transport->tls, &facts);
  snprintf(text, size, "%s, %s", facts.version, facts.cipher);
  return text;
}
