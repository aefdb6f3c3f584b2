// Handshakes as they should be: versions, suites, protocols, certificates by host name.
#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "certificates.h"
#include "peer.h"
#include "world.h"

static void both_versions_and_all_suites_carry_data(void **state)
{
  struct world *world = *state;
  static const struct {
    int version;
    const char *ciphers;
  } cases[] = {{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
               {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
               {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
               {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
               {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"}};
  struct tls_credentials *credentials = load(&world->settings);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    SSL_CTX *context = client_context(world->root_file);
    SSL_CTX_set_max_proto_version(context, cases[i].version);
    if (cases[i].version == TLS1_3_VERSION)
      SSL_CTX_set_ciphersuites(context, cases[i].ciphers);
    else
      SSL_CTX_set_cipher_list(context, cases[i].ciphers);
    struct peer peer;
    peer_connect(&peer, credentials, context, "broker.example", NULL);
    expect_done(&peer);
    struct tls_facts facts;
    tls_session_facts(peer.session, &facts);
    assert_string_equal(facts.version, cases[i].version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
    assert_string_equal(facts.cipher, cases[i].ciphers);
    assert_string_equal(facts.server_name, "broker.example");
    assert_false(facts.resumed);
    assert_null(facts.psk_identity);
    assert_int_equal(facts.fact_count, 0);
    echo(world, &peer);
    echo(world, &peer);
    peer_close(&peer);
    SSL_CTX_free(context);
  }
  tls_credentials_unref(credentials);
}

static void old_versions_and_ciphers_are_refused(void **state)
{
  struct world *world = *state;
  SSL_CTX *context = client_context(NULL);
  SSL_CTX_set_security_level(context, 0);
  SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
  SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
  refuse(&world->settings, context, "the client's TLS version is too old");
  SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context, "ECDHE-ECDSA-AES128-SHA");
  refuse(&world->settings, context, "the client has no cipher, or no kind of key, in common with us");
  SSL_CTX_set_cipher_list(context, "HIGH");
  struct tls_settings modern = world->settings;
  modern.profile = TLS_MODERN;
  refuse(&modern, context, "the client's TLS version is too old");
  modern.profile = TLS_INTERMEDIATE;
  modern.tls_1_3_only = true;
  refuse(&modern, context, "the client's TLS version is too old");
  SSL_CTX_free(context);
}

static void a_client_that_does_not_know_our_ca_says_so(void **state)
{
  struct world *world = *state;
  SSL_CTX *context = client_context(write_certificate("device.pem", world->device.certificate));
  refuse(&world->settings, context, "the client does not know our CA");
  SSL_CTX_free(context);
}

static void the_application_protocol_has_to_be_mqtt(void **state)
{
  struct world *world = *state;
  static const struct {
    const char *offer;
    bool websocket;
    const char *chosen;  // NULL: refused
  } cases[] = {{"\4mqtt", false, "mqtt"}, {"\2h2\4mqtt", false, "mqtt"},         {"\10http/1.1", false, NULL},
               {"\2h2", true, NULL},      {"\2h2\10http/1.1", true, "http/1.1"}, {"\4mqtt", true, "mqtt"},
               {"\5mqtts", false, NULL}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct tls_settings settings = world->settings;
    settings.websocket = cases[i].websocket;
    struct tls_credentials *credentials = load(&settings);
    SSL_CTX *context = client_context(world->root_file);
    SSL_CTX_set_alpn_protos(context, (const unsigned char *)cases[i].offer, (unsigned)strlen(cases[i].offer));
    struct peer peer;
    peer_connect(&peer, credentials, context, NULL, NULL);
    if (cases[i].chosen) {
      const unsigned char *chosen;
      unsigned size;
      expect_done(&peer);
      SSL_get0_alpn_selected(peer.ssl, &chosen, &size);
      assert_int_equal(size, strlen(cases[i].chosen));
      assert_memory_equal(chosen, cases[i].chosen, size);
    } else {
      expect_failed(&peer, settings.websocket ? "the client offers neither http/1.1 nor mqtt (ALPN)"
                                              : "the client does not offer mqtt (ALPN)");
      assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    }
    ERR_clear_error();
    peer_close(&peer);
    SSL_CTX_free(context);
    tls_credentials_unref(credentials);
  }
}

static void expect_shown(struct tls_credentials *credentials, SSL_CTX *context, const char *host, const X509 *wanted)
{
  struct peer peer;
  peer_connect(&peer, credentials, context, host, NULL);
  expect_done(&peer);
  assert_int_equal(X509_cmp(SSL_get0_peer_certificate(peer.ssl), wanted), 0);
  peer_close(&peer);
}

static void the_host_that_a_client_names_chooses_the_certificate(void **state)
{
  struct world *world = *state;
  struct identified wild =
      certify(&(struct wanted){.name = "wild", .alternative = "DNS:*.site.example", .issuer = &world->root});
  struct identified rsa = certify(
      &(struct wanted){.name = "broker", .alternative = "DNS:broker.example", .issuer = &world->root, .key = TEST_RSA2048});
  struct tls_certificate files[3] = {
      world->files,
      {.cert = write_certificate("wild.pem", wild.certificate), .key = write_key("wild.key", wild.key)},
      {.cert = write_certificate("rsa.pem", rsa.certificate), .key = write_key("rsa.key", rsa.key)}};
  struct tls_credentials *credentials = load(&(struct tls_settings){.certificates = files, .certificate_count = 3});
  SSL_CTX *context = client_context(world->root_file);
  expect_shown(credentials, context, "broker.example", world->leaf.certificate);
  expect_shown(credentials, context, "a.site.example", wild.certificate);
  expect_shown(credentials, context, "A.SITE.example", wild.certificate);
  expect_shown(credentials, context, "a.b.site.example", world->leaf.certificate);
  expect_shown(credentials, context, "unknown.example", world->leaf.certificate);
  expect_shown(credentials, context, NULL, world->leaf.certificate);
  char algorithms[] = "RSA-PSS+SHA256";
  SSL_CTX_set1_sigalgs_list(context, algorithms);
  expect_shown(credentials, context, "broker.example", rsa.certificate);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
  identified_free(&wild);
  identified_free(&rsa);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(both_versions_and_all_suites_carry_data),
      cmocka_unit_test(old_versions_and_ciphers_are_refused),
      cmocka_unit_test(a_client_that_does_not_know_our_ca_says_so),
      cmocka_unit_test(the_application_protocol_has_to_be_mqtt),
      cmocka_unit_test(the_host_that_a_client_names_chooses_the_certificate),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
