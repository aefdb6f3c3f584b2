// Transports over sockets whose other end does not read.
#include "net/transport.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/connection.h"
#include "net/gate.h"
#include "tls/session.h"
#include "wire/websocket.h"

// ---- What a plain WebSocket does not need

struct gate *gate_ref(struct gate *gate)
{
  return gate;
}

void gate_unref(struct gate *gate)
{
  assert_null(gate);
}

void connection_set_address(struct connection *connection, const char *address)
{
  (void)connection, (void)address;
  fail();
}

void tls_session_free(struct tls_session *session)
{
  assert_null(session);
}

enum tls_result tls_session_read(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size,
                                 const char **out_why)
{
  (void)session, (void)bytes, (void)size, (void)out_size, (void)out_why;
  fail();
  return TLS_FAILED;
}

enum tls_result tls_session_write(struct tls_session *session, const struct span parts[2], size_t *out_size)
{
  (void)session, (void)parts, (void)out_size;
  fail();
  return TLS_FAILED;
}

bool tls_session_unsent(const struct tls_session *session)
{
  (void)session;
  fail();
  return false;
}

void tls_session_goodbye(struct tls_session *session)
{
  (void)session;
  fail();
}

// ---- The bench

struct bench {
  struct listener *listener;
  struct transport *transport;
  int peer;
  uint8_t seen[1 << 20];  // what the peer has read
  size_t seen_size;
};

static void receive(struct bench *bench, const void *bytes, size_t size)
{
  static uint8_t input[TLS_READ_MIN];
  struct span mqtt;
  const char *why;
  assert_true(size <= sizeof input);
  memcpy(input, bytes, size);
  assert_int_equal(transport_unwrap(bench->transport, input, size, &mqtt, &why), TRANSPORT_OK);
  assert_int_equal(mqtt.size, 0);
}

static void peer_reads(struct bench *bench)
{
  ssize_t got;
  while ((got = recv(bench->peer, bench->seen + bench->seen_size, sizeof bench->seen - bench->seen_size, MSG_DONTWAIT)) > 0)
    bench->seen_size += (size_t)got;
  assert_int_equal(errno, EAGAIN);
}

static void begin(struct bench *bench)
{
  static const char request[] = "GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
                                "Sec-WebSocket-Protocol: mqtt\r\n\r\n";
  int ends[2], small = 4096;
  struct error error;
  const struct listener_settings settings = {
      .url = "ws://127.0.0.1:0", .host = "127.0.0.1", .passed_fd = -1, .websocket = true};
  memset(bench, 0, sizeof *bench);
  assert_int_equal(listener_open(&settings, &bench->listener, &error), OK);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
  bench->transport = transport_create(ends[0], bench->listener, "unix");
  bench->peer = ends[1];
  assert_non_null(bench->transport);
  receive(bench, request, strlen(request));
  peer_reads(bench);
  assert_memory_equal(bench->seen, "HTTP/1.1 101 ", 13);
  bench->seen_size = 0;
}

static void end(struct bench *bench)
{
  transport_destroy(bench->transport);
  close(bench->peer);
  listener_unref(bench->listener);
}

enum { PING_SIZE = 4 };

static void ping(struct bench *bench, uint32_t number)
{
  const uint8_t mask[WEBSOCKET_MASK_SIZE] = {0};
  uint8_t frame[WEBSOCKET_MAX_HEADER + WEBSOCKET_MAX_CONTROL];
  size_t size = websocket_write_header(frame, WEBSOCKET_MAX_CONTROL, WEBSOCKET_PING, mask);
  memset(frame + size, 'x', WEBSOCKET_MAX_CONTROL);
  memcpy(frame + size, &number, PING_SIZE);
  receive(bench, frame, size + WEBSOCKET_MAX_CONTROL);
}

// The next frame that the peer has seen; payloads of more than 64 KiB do not occur.
static struct span next_frame(const struct bench *bench, size_t *at, uint8_t *out_opcode)
{
  const uint8_t *head = bench->seen + *at;
  size_t size = head[1], header = 2;
  if (size == 126) {
    size = (size_t)head[2] << 8 | head[3];
    header = 4;
  }
  assert_true(size < 1 << 16);
  assert_true(*at + header + size <= bench->seen_size);
  assert_int_equal(head[0] & 0xf0, 0x80);
  *out_opcode = head[0] & 15;
  *at += header + size;
  return span_of(head + header, size);
}

// What is unsent goes, however often it takes.
static void flush(struct bench *bench)
{
  const struct span nothing[2] = {{0}, {0}};
  for (unsigned i = 0; i < 8 && transport_waits(bench->transport); i++) {
    peer_reads(bench);
    assert_int_equal(transport_write(bench->transport, nothing), 0);
  }
  assert_false(transport_waits(bench->transport));
  peer_reads(bench);
}

// ---- Tests

static void pings_of_a_peer_that_does_not_read_are_answered_by_the_last_pong(void **state)
{
  static struct bench bench;
  (void)state;
  begin(&bench);
  uint32_t number = 0, last = 0;
  while (!transport_waits(bench.transport)) ping(&bench, number++);
  for (unsigned i = 0; i < 1000; i++) ping(&bench, number++);
  flush(&bench);
  unsigned pongs = 0;
  for (size_t at = 0; at < bench.seen_size; pongs++) {
    uint8_t opcode;
    struct span payload = next_frame(&bench, &at, &opcode);
    assert_int_equal(opcode, WEBSOCKET_PONG);
    assert_int_equal(payload.size, WEBSOCKET_MAX_CONTROL);
    uint32_t answered;
    memcpy(&answered, payload.at, sizeof answered);
    assert_true(pongs == 0 ? answered == 0 : answered > last);
    last = answered;
  }
  assert_int_equal(last, number - 1);
  end(&bench);
}

static void data_goes_between_the_pongs_of_a_full_socket(void **state)
{
  static struct bench bench;
  static uint8_t data[20000];
  (void)state;
  begin(&bench);
  memset(data, 'd', sizeof data);
  uint32_t number = 0;
  while (!transport_waits(bench.transport)) ping(&bench, number++);
  ping(&bench, number++);
  size_t sent = 0, received = 0;
  for (unsigned i = 0; i < 1000 && sent < sizeof data; i++) {
    const struct span parts[2] = {span_of(data + sent, sizeof data - sent), {0}};
    ssize_t more = transport_write(bench.transport, parts);
    assert_true(more >= 0);
    sent += (size_t)more;
    ping(&bench, number++);
    peer_reads(&bench);
  }
  assert_int_equal(sent, sizeof data);
  flush(&bench);
  uint8_t opcode = 0;
  struct span payload = {0};
  for (size_t at = 0; at < bench.seen_size;) {
    payload = next_frame(&bench, &at, &opcode);
    if (opcode == WEBSOCKET_PONG) continue;
    assert_int_equal(opcode, WEBSOCKET_BINARY);
    received += payload.size;
    assert_int_equal(payload.at[0], 'd');
    assert_int_equal(payload.at[payload.size - 1], 'd');
  }
  assert_int_equal(received, sizeof data);
  assert_int_equal(opcode, WEBSOCKET_PONG);
  number--;
  assert_memory_equal(payload.at, &number, PING_SIZE);
  end(&bench);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pings_of_a_peer_that_does_not_read_are_answered_by_the_last_pong),
      cmocka_unit_test(data_goes_between_the_pongs_of_a_full_socket),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
