#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "certificates.h"
#include "peer.h"
#include "tls/records.h"
#include "world.h"

static void many_records_come_with_one_read(void **state)
{
  struct world *world = *state;
  struct meeting meeting;
  struct peer *peer = meet(&meeting, world, TLS1_3_VERSION);
  uint8_t byte = 0;
  for (int i = 0; i < 100; i++) {
    byte = (uint8_t)i;
    assert_int_equal(SSL_write(peer->ssl, &byte, 1), 1);
  }
  size_t size;
  const char *why;
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_DONE);
  assert_int_equal(size, 100);
  for (int i = 0; i < 100; i++) assert_int_equal(world->buffer[i], i);
  part(&meeting);
}

static uint8_t pattern(size_t at)
{
  return (uint8_t)(at * 7 + at / 251);
}

// However the ciphertext is cut, and however small the buffer is: relays what the client writes in pieces.
static void relay(struct world *world, struct tls_credentials *credentials, SSL_CTX *context, size_t piece, size_t buffer)
{
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  // The client's ciphertext is caught on its way.
  BIO *caught = BIO_new(BIO_s_mem());
  BIO_up_ref(caught);
  SSL_set0_wbio(peer.ssl, caught);
  enum { TOTAL = 300000 };
  uint8_t *sent = malloc(TOTAL);
  for (size_t i = 0; i < TOTAL; i++) sent[i] = pattern(i);
  assert_int_equal(SSL_write(peer.ssl, sent, TOTAL), TOTAL);
  char *ciphertext;
  size_t left = (size_t)BIO_get_mem_data(caught, &ciphertext), got = 0, size;
  const char *why;
  while (left > 0) {
    size_t now = left < piece ? left : piece;
    ssize_t written = send(peer.fds[1], ciphertext, now, MSG_DONTWAIT);
    if (written > 0) {
      ciphertext += written;
      left -= (size_t)written;
    }
    enum tls_result result;
    while ((result = tls_session_read(peer.session, world->buffer, buffer, &size, &why)) == TLS_DONE) {
      assert_in_range(size, 1, TOTAL - got);
      assert_memory_equal(world->buffer, sent + got, size);
      got += size;
    }
    assert_int_equal(result, TLS_AGAIN);
  }
  assert_int_equal(got, TOTAL);
  BIO_free(caught);
  free(sent);
  peer_close(&peer);
}

static void ciphertext_may_be_cut_anywhere(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    SSL_CTX *context = client_context(world->root_file);
    SSL_CTX_set_max_proto_version(context, version);
    relay(world, credentials, context, 1 << 20, BUFFER_SIZE);
    relay(world, credentials, context, 1 << 20, TLS_READ_MIN);
    relay(world, credentials, context, 16384 + 21, TLS_READ_MIN);
    relay(world, credentials, context, 16411, TLS_READ_MIN + 1);
    relay(world, credentials, context, 1009, BUFFER_SIZE);
    relay(world, credentials, context, 7, TLS_READ_MIN);
    SSL_CTX_free(context);
  }
  tls_credentials_unref(credentials);
}

static void what_a_full_socket_does_not_take_is_kept(void **state)
{
  struct world *world = *state;
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    struct meeting meeting;
    struct peer *peer = meet(&meeting, world, version);
    int small = 4096;
    setsockopt(peer->fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    enum { TOTAL = 400000 };
    uint8_t *bytes = malloc(TOTAL), *back = malloc(TOTAL);
    for (size_t i = 0; i < TOTAL; i++) bytes[i] = pattern(i);
    size_t sent = 0, got = 0, size;
    bool waited = false;
    while (got < TOTAL) {
      // Two parts, cut at an odd place, as a loop offers them: what is left of a control buffer, then messages.
      size_t left = TOTAL - sent, head = left < 100 ? left : 100 + sent % 3000;
      if (head > left) head = left;
      const struct span parts[2] = {span_of(bytes + sent, head), span_of(bytes + sent + head, left - head)};
      enum tls_result result = tls_session_write(peer->session, parts, &size);
      sent += size;
      assert_int_equal(result, tls_session_unsent(peer->session) ? TLS_AGAIN : TLS_DONE);
      if (result == TLS_AGAIN) {
        waited = true;
        // Nothing more is taken until it is gone.
        assert_int_equal(tls_session_write(peer->session, parts, &size), TLS_AGAIN);
        assert_int_equal(size, 0);
      }
      got += peer_client_reads(peer, back + got, TOTAL - got);
    }
    assert_true(waited);
    assert_memory_equal(bytes, back, TOTAL);
    assert_false(tls_session_unsent(peer->session));
    free(bytes);
    free(back);
    part(&meeting);
  }
}

static void small_fragments_are_made_for_those_who_ask(void **state)
{
  struct world *world = *state;
  SSL_CTX *context = client_context(world->root_file);
  SSL_CTX_set_tlsext_max_fragment_length(context, TLSEXT_max_fragment_length_512);
  struct meeting meeting;
  struct peer *peer = meet_with(&meeting, &world->settings, context);
  uint8_t bytes[3000], back[3000];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = pattern(i);
  size_t size, got = 0;
  const struct span parts[2] = {span_of(bytes, 1000), span_of(bytes + 1000, 2000)};
  assert_int_equal(tls_session_write(peer->session, parts, &size), TLS_DONE);
  assert_int_equal(size, 3000);
  // One SSL_read gives one record.
  int first = SSL_read(peer->ssl, back, sizeof back);
  assert_in_range(first, 1, 512);
  got = (size_t)first + peer_client_reads(peer, back + first, sizeof back - (size_t)first);
  assert_int_equal(got, 3000);
  assert_memory_equal(bytes, back, 3000);
  part(&meeting);
}

static void keys_may_be_changed_on_the_way(void **state)
{
  struct world *world = *state;
  struct meeting meeting;
  struct peer *peer = meet(&meeting, world, TLS1_3_VERSION);
  echo(world, peer);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(SSL_key_update(peer->ssl, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    echo(world, peer);
    echo(world, peer);
  }
  part(&meeting);
}

static void keys_are_not_changed_for_the_sake_of_it(void **state)
{
  struct world *world = *state;
  struct meeting meeting;
  struct peer *peer = meet(&meeting, world, TLS1_3_VERSION);
  size_t size;
  const char *why;
  for (int i = 0; i < 16; i++) {
    assert_int_equal(SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(peer->ssl), 1);
  }
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_AGAIN);
  // Sixteen wishes are answered once.
  echo(world, peer);
  for (int i = 0; i < 17; i++) {
    assert_int_equal(SSL_key_update(peer->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(peer->ssl), 1);
  }
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_FAILED);
  assert_string_equal(why, "a message that does not belong there");
  part(&meeting);
}

static void nobody_renegotiates(void **state)
{
  struct world *world = *state;
  struct meeting meeting;
  struct peer *peer = meet(&meeting, world, TLS1_2_VERSION);
  assert_int_equal(SSL_renegotiate(peer->ssl), 1);
  (void)SSL_do_handshake(peer->ssl);
  size_t size;
  const char *why;
  enum tls_result result = tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why);
  assert_true(result == TLS_AGAIN || result == TLS_FAILED);
  assert_int_equal(size, 0);
  char byte;
  int returned = SSL_read(peer->ssl, &byte, 1);
  assert_true(returned <= 0);
  assert_int_equal(SSL_get_error(peer->ssl, returned), SSL_ERROR_SSL);
  ERR_clear_error();
  part(&meeting);
}

static void wishes_for_another_handshake_come_to_an_end(void **state)
{
  struct world *world = *state;
  struct meeting meeting;
  struct peer *peer = meet(&meeting, world, TLS1_2_VERSION);
  struct record_suites suites;
  assert_true(record_suites_init(&suites));
  struct records *client = records_take_over(peer->ssl, &suites, &(struct record_secrets){0});
  assert_non_null(client);
  const struct span wish[2] = {span_text("\1"), {0}}, data[2] = {span_text("data"), {0}};
  for (int i = 0; i < 33; i++) {
    uint8_t record[16 + RECORD_OVERHEAD];
    // Data begins the count anew.
    size_t size = record_seal(client, i == 16 ? RECORD_DATA : RECORD_HANDSHAKE, i == 16 ? data : wish, record), got;
    const char *why;
    assert_int_equal(send(peer->fds[1], record, size, 0), size);
    assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &got, &why),
                     i == 16 ? TLS_DONE : TLS_AGAIN);
  }
  uint8_t record[16 + RECORD_OVERHEAD];
  size_t size = record_seal(client, RECORD_HANDSHAKE, wish, record), got;
  const char *why;
  assert_int_equal(send(peer->fds[1], record, size, 0), size);
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &got, &why), TLS_FAILED);
  assert_string_equal(why, "a message that does not belong there");
  records_free(client);
  record_suites_deinit(&suites);
  part(&meeting);
}

static void an_idle_session_is_small(void **state)
{
  struct world *world = *state;
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    struct meeting meeting;
    struct peer *peer = meet(&meeting, world, version);
    echo(world, peer);
    size_t before = mallinfo2().uordblks;
    tls_session_free(peer->session);
    size_t after = mallinfo2().uordblks;
    peer->session = NULL;
    assert_in_range(before - after, 0, 4000);
    part(&meeting);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_records_come_with_one_read),
      cmocka_unit_test(ciphertext_may_be_cut_anywhere),
      cmocka_unit_test(what_a_full_socket_does_not_take_is_kept),
      cmocka_unit_test(small_fragments_are_made_for_those_who_ask),
      cmocka_unit_test(keys_may_be_changed_on_the_way),
      cmocka_unit_test(keys_are_not_changed_for_the_sake_of_it),
      cmocka_unit_test(nobody_renegotiates),
      cmocka_unit_test(wishes_for_another_handshake_come_to_an_end),
      cmocka_unit_test(an_idle_session_is_small),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
