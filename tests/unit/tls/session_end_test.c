// How sessions end: by a goodbye, by a lost connection, by records that nobody has made.
#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "certificates.h"
#include "peer.h"
#include "world.h"

static bool has_event(int fd)
{
  struct pollfd look = {.fd = fd, .events = POLLIN};
  return poll(&look, 1, 0) == 1 && (look.revents & POLLIN);
}

static void a_goodbye_ends_it_from_either_side(void **state)
{
  struct world *world = *state;
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    struct meeting meeting;
    struct peer *peer = meet(&meeting, world, version);
    size_t size;
    const char *why;
    // Data in front of it is not lost.
    SSL_write(peer->ssl, "last", 4);
    SSL_shutdown(peer->ssl);
    assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_DONE);
    assert_int_equal(size, 4);
    assert_true(has_event(peer->fds[0]));
    assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_CLOSED);
    // The other direction is open: it is told goodbye, too.
    const struct span parts[2] = {span_text("rest"), {0}};
    assert_int_equal(tls_session_write(peer->session, parts, &size), TLS_DONE);
    tls_session_goodbye(peer->session);
    char rest[8];
    assert_int_equal(SSL_read(peer->ssl, rest, sizeof rest), 4);
    assert_int_equal(SSL_read(peer->ssl, rest, sizeof rest), 0);
    assert_int_equal(SSL_get_error(peer->ssl, 0), SSL_ERROR_ZERO_RETURN);
    part(&meeting);

    meet(&meeting, world, version);
    tls_session_goodbye(peer->session);
    char byte;
    assert_int_equal(SSL_read(peer->ssl, &byte, 1), 0);
    assert_int_equal(SSL_get_error(peer->ssl, 0), SSL_ERROR_ZERO_RETURN);
    part(&meeting);
  }
}

static void a_lost_connection_is_closed(void **state)
{
  struct world *world = *state;
  struct meeting meeting;
  struct peer *peer = meet(&meeting, world, TLS1_3_VERSION);
  close(peer->fds[1]);
  peer->fds[1] = -1;
  size_t size;
  const char *why;
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_CLOSED);
  const struct span parts[2] = {span_text("x"), {0}};
  assert_int_equal(tls_session_write(peer->session, parts, &size), TLS_CLOSED);
  tls_session_goodbye(peer->session);
  peer_close(peer);

  // In the middle of the handshake, too.
  peer_prepare(peer, meeting.credentials, meeting.context);
  (void)SSL_do_handshake(peer->ssl);
  assert_int_equal(tls_session_handshake(peer->session, &why), TLS_AGAIN);
  close(peer->fds[1]);
  peer->fds[1] = -1;
  assert_int_equal(tls_session_handshake(peer->session, &why), TLS_CLOSED);
  assert_int_equal(tls_session_handshake(peer->session, &why), TLS_CLOSED);
  part(&meeting);
}

static void forged_records_end_it(void **state)
{
  struct world *world = *state;
  static const struct {
    const char *bytes;
    size_t size;
  } cases[] = {
      {"\x17\x03\x03\x00\x20"
       "0123456789abcdef0123456789abcdef",
       37},  // nobody's ciphertext
      {"\x17\x03\x03\x00\x05"
       "01234",
       10},  // shorter than its tag
      {"\x17\x03\x03\xff\xff"
       "0123",
       9},                                               // longer than any record
      {"\x14\x03\x03\x00\x01\x01", 6},                   // a change of cipher, too late
      {"\x16\x03\x03\x00\x04\x00\x00\x00\x00", 9},       // a handshake in clear
      {"\x10\x10\x00\x04MQTT\x05\x00\x00\x00", 12},      // no TLS at all
      {"\x17\x03\x03\x00\x00\x17\x03\x03\x00\x00", 10},  // nothing, twice
  };
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
      struct meeting meeting;
      struct peer *peer = meet(&meeting, world, version);
      SSL_write(peer->ssl, "good", 4);
      assert_int_equal(send(peer->fds[1], cases[i].bytes, cases[i].size, 0), cases[i].size);
      size_t size;
      const char *why = NULL;
      assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_DONE);
      assert_int_equal(size, 4);
      assert_true(has_event(peer->fds[0]));
      assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_FAILED);
      assert_int_equal(size, 0);
      assert_non_null(why);
      // The client has been told.
      char byte;
      int returned = SSL_read(peer->ssl, &byte, 1);
      assert_int_equal(SSL_get_error(peer->ssl, returned), SSL_ERROR_SSL);
      ERR_clear_error();
      const struct span parts[2] = {span_text("x"), {0}};
      assert_int_equal(tls_session_write(peer->session, parts, &size), TLS_CLOSED);
      tls_session_goodbye(peer->session);
      part(&meeting);
    }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_goodbye_ends_it_from_either_side),
      cmocka_unit_test(a_lost_connection_is_closed),
      cmocka_unit_test(forged_records_end_it),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
