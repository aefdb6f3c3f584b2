// Greetings that are none, or cut, or garbled.
#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "certificates.h"
#include "peer.h"
#include "world.h"

static enum tls_result greet(struct tls_credentials *credentials, const void *bytes, size_t size, bool then_close,
                             const char **why)
{
  struct peer peer;
  peer_prepare(&peer, credentials, NULL);
  size_t sent = 0;
  enum tls_result result = TLS_AGAIN;
  while (sent < size && result == TLS_AGAIN) {
    ssize_t now = send(peer.fds[1], (const uint8_t *)bytes + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    assert_true(now > 0);
    sent += (size_t)now;
    result = tls_session_handshake(peer.session, why);
  }
  if (then_close && result == TLS_AGAIN) {
    shutdown(peer.fds[1], SHUT_WR);
    result = tls_session_handshake(peer.session, why);
  }
  peer_close(&peer);
  return result;
}

static size_t hello_of(SSL_CTX *context, uint8_t *bytes, size_t size)
{
  SSL *ssl = SSL_new(context);
  SSL_set_connect_state(ssl);
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  (void)SSL_do_handshake(ssl);
  int got = BIO_read(SSL_get_wbio(ssl), bytes, (int)size);
  SSL_free(ssl);
  ERR_clear_error();
  return got > 0 ? (size_t)got : 0;
}

static void garbage_is_no_handshake(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  const char *why = NULL;
  assert_int_equal(greet(credentials, "GET / HTTP/1.1\r\n\r\n", 18, false, &why), TLS_FAILED);
  assert_string_equal(why, "this is HTTP without TLS");
  assert_int_equal(greet(credentials,
                         "\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00\x03"
                         "abc",
                         18, false, &why),
                   TLS_FAILED);
  assert_string_equal(why, "this is not TLS: plain MQTT on a TLS port?");
  uint8_t zeros[1000] = {0};
  assert_int_equal(greet(credentials, zeros, sizeof zeros, false, &why), TLS_FAILED);
  // A record that is longer than any may be; a greeting that claims to be 16 MiB; an alert in front of all.
  assert_int_equal(greet(credentials, "\x16\x03\x01\xff\xff\x01\x00\x00\x00\x00\x00", 11, false, &why), TLS_FAILED);
  assert_int_equal(greet(credentials, "\x16\x03\x01\x00\x09\x01\xff\xff\xff\x03\x03\x00\x00\x00", 14, false, &why),
                   TLS_FAILED);
  assert_int_equal(greet(credentials, "\x15\x03\x01\x00\x02\x02\x28", 7, true, &why), TLS_FAILED);
  tls_credentials_unref(credentials);
}

static void a_greeting_may_be_cut_short_anywhere(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  SSL_CTX *context = client_context(NULL);
  uint8_t hello[1024];
  size_t size = hello_of(context, hello, sizeof hello);
  assert_in_range(size, 100, sizeof hello);
  const char *why;
  for (size_t cut = 0; cut < size; cut++) assert_int_equal(greet(credentials, hello, cut, true, &why), TLS_CLOSED);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
}

static void a_greeting_may_be_garbled_anywhere(void **state)
{
  struct world *world = *state;
  struct tls_settings settings = with_psk(world, true);
  settings.client_ca = world->root_file;
  settings.client_cert = TLS_CLIENT_CERT_OPTIONAL;
  struct tls_credentials *credentials = load(&settings);
  SSL_CTX *context = client_context(NULL);
  uint8_t hello[1024];
  size_t size = hello_of(context, hello, sizeof hello);
  const char *why;
  for (size_t at = 0; at < size; at++) {
    uint8_t before = hello[at];
    hello[at] = (uint8_t)(before ^ (1u << at % 8));
    enum tls_result result = greet(credentials, hello, size, true, &why);
    assert_true(result == TLS_FAILED || result == TLS_CLOSED);
    hello[at] = before;
  }
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(garbage_is_no_handshake),
      cmocka_unit_test(a_greeting_may_be_cut_short_anywhere),
      cmocka_unit_test(a_greeting_may_be_garbled_anywhere),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
