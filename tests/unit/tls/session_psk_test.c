// Devices that have a key in common with us.
#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "certificates.h"
#include "peer.h"
#include "world.h"

static unsigned right_key(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key,
                          unsigned key_max)
{
  (void)ssl, (void)hint, (void)key_max;
  strncpy(identity, "sensor-1", identity_max);
  for (unsigned char i = 0; i < 16; i++) key[i] = i;
  return 16;
}

static unsigned wrong_key(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key,
                          unsigned key_max)
{
  right_key(ssl, hint, identity, identity_max, key, key_max);
  key[15] ^= 1;
  return 16;
}

static unsigned wrong_identity(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key,
                               unsigned key_max)
{
  right_key(ssl, hint, identity, identity_max, key, key_max);
  strncpy(identity, "sensor-2", identity_max);
  return 16;
}

static SSL_CTX *psk_context(int version, SSL_psk_client_cb_func callback)
{
  SSL_CTX *context = client_context(NULL);
  SSL_CTX_set_max_proto_version(context, version);
  SSL_CTX_set_psk_client_callback(context, callback);
  if (version == TLS1_2_VERSION) SSL_CTX_set_cipher_list(context, "PSK");
  return context;
}

static void a_device_is_known_by_its_key(void **state)
{
  struct world *world = *state;
  for (int i = 0; i < 4; i++) {
    struct tls_settings settings = with_psk(world, i % 2);
    struct meeting meeting;
    struct peer *peer = meet_with(&meeting, &settings, psk_context(i < 2 ? TLS1_3_VERSION : TLS1_2_VERSION, right_key));
    assert_int_equal(tls_credentials_end_ms(meeting.credentials) > 0, i % 2);
    struct tls_facts facts;
    tls_session_facts(peer->session, &facts);
    assert_string_equal(facts.psk_identity, "sensor-1");
    assert_false(tls_session_revoked(peer->session, meeting.credentials));
    assert_false(facts.resumed);
    assert_int_equal(facts.fact_count, 0);
    echo(world, peer);
    part(&meeting);
  }
}

static void the_smallest_devices_can_come_in(void **state)
{
  struct world *world = *state;
  static const char *const ciphers[] = {"PSK-AES128-GCM-SHA256", "PSK-AES128-CCM", "PSK-AES128-CBC-SHA256",
                                        "DHE-PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"};
  struct tls_settings settings = with_psk(world, false);
  for (size_t i = 0; i < sizeof ciphers / sizeof *ciphers; i++) {
    SSL_CTX *context = psk_context(TLS1_2_VERSION, right_key);
    SSL_CTX_set_cipher_list(context, ciphers[i]);
    struct meeting meeting;
    echo(world, meet_with(&meeting, &settings, context));
    part(&meeting);
  }
}

static void wrong_keys_are_refused(void **state)
{
  struct world *world = *state;
  struct tls_settings settings = with_psk(world, false);
  SSL_CTX *context = psk_context(TLS1_3_VERSION, wrong_key);
  refuse(&settings, context, "the pre-shared key is wrong");
  SSL_CTX_free(context);
  context = psk_context(TLS1_2_VERSION, wrong_key);
  refuse(&settings, context, "a record does not decrypt: another pre-shared key?");
  SSL_CTX_free(context);
  context = psk_context(TLS1_2_VERSION, wrong_identity);
  refuse(&settings, context, "no such pre-shared key identity");
  SSL_CTX_free(context);
  context = psk_context(TLS1_3_VERSION, wrong_identity);
  refuse(&settings, context, "there is no such pre-shared key, and no certificate that the client could take");
  SSL_CTX_free(context);
}

static void an_identity_that_was_not_proved_is_none(void **state)
{
  // 1.3: the client offers a key that we do not have, and goes on with our certificate.
  struct world *world = *state;
  struct tls_settings settings = with_psk(world, true);
  struct tls_credentials *credentials = load(&settings);
  SSL_CTX *context = psk_context(TLS1_3_VERSION, wrong_identity);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  struct tls_facts facts;
  tls_session_facts(peer.session, &facts);
  assert_null(facts.psk_identity);
  peer_close(&peer);
  // It offers the right one, but for a hash that the cipher it insists on does not have.
  SSL_CTX_set_psk_client_callback(context, right_key);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
  peer_connect(&peer, credentials, context, NULL, NULL);
  if (peer.result == TLS_DONE) {
    tls_session_facts(peer.session, &facts);
    assert_null(facts.psk_identity);
  }
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_device_is_known_by_its_key),
      cmocka_unit_test(the_smallest_devices_can_come_in),
      cmocka_unit_test(wrong_keys_are_refused),
      cmocka_unit_test(an_identity_that_was_not_proved_is_none),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
