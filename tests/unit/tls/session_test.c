#include "tls/session.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "certificates.h"
#include "peer.h"

#define PSK_HEX "000102030405060708090a0b0c0d0e0f"

enum { BUFFER_SIZE = 128 * 1024 };

struct world {
  struct identified root, intermediate, leaf, device;
  struct tls_certificate files;
  struct tls_settings settings;
  const char *root_file;
  uint8_t *buffer;
};

static int make_world(void **state)
{
  struct world *world = calloc(1, sizeof *world);
  scratch_create(NULL);
  world->root = certify(&(struct wanted){.name = "Root", .authority = true});
  world->intermediate = certify(&(struct wanted){.name = "Intermediate", .authority = true, .issuer = &world->root});
  world->leaf =
      certify(&(struct wanted){.name = "broker", .alternative = "DNS:broker.example", .issuer = &world->intermediate});
  world->device = certify(&(struct wanted){.name = "device-1", .issuer = &world->root});
  X509 *chain[] = {world->leaf.certificate, world->intermediate.certificate};
  world->files = (struct tls_certificate){.cert = write_certificates("chain.pem", chain, 2),
                                          .key = write_key("leaf.key", world->leaf.key)};
  world->settings = (struct tls_settings){.certificates = &world->files, .certificate_count = 1};
  world->root_file = write_certificate("root.pem", world->root.certificate);
  world->buffer = malloc(BUFFER_SIZE);
  *state = world;
  return 0;
}

static int free_world(void **state)
{
  struct world *world = *state;
  identified_free(&world->root);
  identified_free(&world->intermediate);
  identified_free(&world->leaf);
  identified_free(&world->device);
  free(world->buffer);
  free(world);
  scratch_remove(NULL);
  return 0;
}

static struct tls_credentials *load(const struct tls_settings *settings)
{
  struct tls_credentials *credentials = NULL;
  struct error error = {0};
  if (tls_credentials_load(settings, (struct wall){.ms = (int64_t)time(NULL) * 1000}, &credentials, &error) != OK)
    fail_msg("%s", error.text);
  return credentials;
}

static void expect_done(struct peer *peer)
{
  if (peer->result == TLS_FAILED) fail_msg("%s", peer->why);
  assert_int_equal(peer->result, TLS_DONE);
  assert_int_equal(peer->client_result, 1);
}

static void expect_failed(struct peer *peer, const char *why)
{
  assert_int_equal(peer->result, TLS_FAILED);
  assert_string_equal(peer->why, why);
}

// Connects, expects the failure, closes.
static void refuse(const struct tls_settings *settings, SSL_CTX *context, const char *why)
{
  struct tls_credentials *credentials = load(settings);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_failed(&peer, why);
  assert_int_not_equal(peer.client_result, SSL_ERROR_WANT_READ);
  peer_close(&peer);
  tls_credentials_unref(credentials);
}

static void echo(struct world *world, struct peer *peer)
{
  size_t size;
  const char *why;
  assert_int_equal(SSL_write(peer->ssl, "hello", 5), 5);
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_DONE);
  assert_int_equal(size, 5);
  assert_memory_equal(world->buffer, "hello", 5);
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_AGAIN);
  const struct span parts[2] = {span_text("good"), span_text("bye")};
  assert_int_equal(tls_session_write(peer->session, parts, &size), TLS_DONE);
  assert_int_equal(size, 7);
  char back[16];
  assert_int_equal(peer_client_reads(peer, back, sizeof back), 7);
  assert_memory_equal(back, "goodbye", 7);
}

// ---- Handshakes

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

// ---- Clients' certificates

static void show(SSL_CTX *context, const struct identified *identified)
{
  SSL_CTX_use_certificate(context, identified->certificate);
  SSL_CTX_use_PrivateKey(context, identified->key);
}

static struct tls_settings with_clients(const struct world *world, enum tls_client_cert wanted)
{
  struct tls_settings settings = world->settings;
  settings.client_ca = world->root_file;
  settings.client_cert = wanted;
  return settings;
}

static void a_client_is_known_by_its_certificate(void **state)
{
  struct world *world = *state;
  struct tls_settings settings = with_clients(world, TLS_CLIENT_CERT_REQUIRED);
  struct tls_credentials *credentials = load(&settings);
  SSL_CTX *context = client_context(world->root_file);
  show(context, &world->device);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  struct tls_facts facts;
  tls_session_facts(peer.session, &facts);
  assert_true(facts.fact_count >= 4);
  assert_true(span_equal(facts.facts[0].name, span_text("cert.cn")));
  assert_true(span_equal(facts.facts[0].value, span_text("device-1")));
  echo(world, &peer);
  tls_session_facts(peer.session, &facts);
  assert_true(span_equal(facts.facts[0].value, span_text("device-1")));
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
}

static void a_certificate_is_asked_for_as_configured(void **state)
{
  struct world *world = *state;
  SSL_CTX *context = client_context(world->root_file);
  struct tls_settings required = with_clients(world, TLS_CLIENT_CERT_REQUIRED);
  refuse(&required, context, "the client shows no certificate");
  struct tls_settings optional = with_clients(world, TLS_CLIENT_CERT_OPTIONAL);
  struct tls_credentials *credentials = load(&optional);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  struct tls_facts facts;
  tls_session_facts(peer.session, &facts);
  assert_int_equal(facts.fact_count, 0);
  assert_false(tls_session_revoked(peer.session, credentials));
  peer_close(&peer);
  tls_credentials_unref(credentials);
  SSL_CTX_free(context);
}

static void refuse_device(const struct world *world, const struct identified *device, const char *why)
{
  SSL_CTX *context = client_context(world->root_file);
  struct tls_settings settings = with_clients(world, TLS_CLIENT_CERT_OPTIONAL);
  SSL_CTX_set_security_level(context, 0);
  show(context, device);
  refuse(&settings, context, why);
  SSL_CTX_free(context);
}

static void bad_certificates_are_refused_with_the_reason(void **state)
{
  struct world *world = *state;
  struct identified alien = certify(&(struct wanted){.name = "alien"});
  refuse_device(world, &alien, "self-signed certificate");
  struct identified lost = certify(&(struct wanted){.name = "lost", .issuer = &alien});
  refuse_device(world, &lost, "unable to get local issuer certificate");
  struct identified old = certify(&(struct wanted){.name = "old", .issuer = &world->root, .from_s = -7200, .until_s = -60});
  refuse_device(world, &old, "certificate has expired");
  struct identified early =
      certify(&(struct wanted){.name = "early", .issuer = &world->root, .from_s = 3600, .until_s = 7200});
  refuse_device(world, &early, "certificate is not yet valid");
  struct identified weak = certify(&(struct wanted){.name = "weak", .issuer = &world->root, .key = TEST_RSA1024});
  refuse_device(world, &weak, "EE certificate key too weak");
  struct identified server = certify(&(struct wanted){.name = "server", .issuer = &world->root, .usage = "serverAuth"});
  refuse_device(world, &server, "unsuitable certificate purpose");
  struct identified sha1 = certify(&(struct wanted){.name = "sha1", .issuer = &world->root, .digest = EVP_sha1()});
  refuse_device(world, &sha1, "CA signature digest algorithm too weak");
  identified_free(&alien);
  identified_free(&lost);
  identified_free(&old);
  identified_free(&early);
  identified_free(&weak);
  identified_free(&server);
  identified_free(&sha1);
}

static void revocation_is_asked_of_the_whole_chain_as_far_as_there_are_lists(void **state)
{
  struct world *world = *state;
  struct identified below = certify(&(struct wanted){.name = "below", .issuer = &world->intermediate});
  X509_CRL *none = make_crl(&(struct revocation){.issuer = &world->root});
  X509_CRL *device =
      make_crl(&(struct revocation){.issuer = &world->root, .revoked = &world->device.certificate, .count = 1});
  X509_CRL *middle =
      make_crl(&(struct revocation){.issuer = &world->root, .revoked = &world->intermediate.certificate, .count = 1});
  struct tls_settings settings = with_clients(world, TLS_CLIENT_CERT_REQUIRED), lists = settings;
  lists.crl = write_crls("none.crl", &none, 1);
  struct tls_credentials *fresh = load(&lists), *plain = load(&settings);
  lists.crl = write_crls("device.crl", &device, 1);
  struct tls_credentials *no_device = load(&lists);
  SSL_CTX *context = client_context(world->root_file);
  show(context, &world->device);
  refuse(&lists, context, "certificate revoked");
  struct peer peer;
  peer_connect(&peer, fresh, context, NULL, NULL);
  expect_done(&peer);
  assert_false(tls_session_revoked(peer.session, fresh));
  assert_false(tls_session_revoked(peer.session, plain));
  assert_true(tls_session_revoked(peer.session, no_device));
  peer_close(&peer);

  // There is no list of the intermediate's, which is fine; but the root may revoke the intermediate.
  show(context, &below);
  SSL_CTX_add1_chain_cert(context, world->intermediate.certificate);
  lists.crl = write_crls("middle.crl", &middle, 1);
  refuse(&lists, context, "certificate revoked");
  struct tls_credentials *no_middle = load(&lists);
  peer_connect(&peer, no_device, context, NULL, NULL);
  expect_done(&peer);
  assert_false(tls_session_revoked(peer.session, no_device));
  assert_true(tls_session_revoked(peer.session, no_middle));
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(fresh);
  tls_credentials_unref(plain);
  tls_credentials_unref(no_device);
  tls_credentials_unref(no_middle);
  X509_CRL_free(none);
  X509_CRL_free(device);
  X509_CRL_free(middle);
  identified_free(&below);
}

// ---- Pre-shared keys

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

static struct tls_settings with_psk(const struct world *world, bool certificate)
{
  struct tls_settings settings = world->settings;
  settings.psk = scratch_file("psk.txt", "sensor-1:" PSK_HEX "\n", strlen("sensor-1:" PSK_HEX "\n"));
  if (!certificate) settings.certificate_count = 0;
  return settings;
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
    struct tls_credentials *credentials = load(&settings);
    assert_int_equal(tls_credentials_end_ms(credentials) > 0, i % 2);
    SSL_CTX *context = psk_context(i < 2 ? TLS1_3_VERSION : TLS1_2_VERSION, right_key);
    struct peer peer;
    peer_connect(&peer, credentials, context, NULL, NULL);
    expect_done(&peer);
    struct tls_facts facts;
    tls_session_facts(peer.session, &facts);
    assert_string_equal(facts.psk_identity, "sensor-1");
    assert_false(tls_session_revoked(peer.session, credentials));
    assert_false(facts.resumed);
    assert_int_equal(facts.fact_count, 0);
    echo(world, &peer);
    peer_close(&peer);
    SSL_CTX_free(context);
    tls_credentials_unref(credentials);
  }
}

static void the_smallest_devices_can_come_in(void **state)
{
  struct world *world = *state;
  static const char *const ciphers[] = {"PSK-AES128-GCM-SHA256", "PSK-AES128-CCM", "PSK-AES128-CBC-SHA256",
                                        "DHE-PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"};
  struct tls_settings settings = with_psk(world, false);
  struct tls_credentials *credentials = load(&settings);
  for (size_t i = 0; i < sizeof ciphers / sizeof *ciphers; i++) {
    SSL_CTX *context = psk_context(TLS1_2_VERSION, right_key);
    SSL_CTX_set_cipher_list(context, ciphers[i]);
    struct peer peer;
    peer_connect(&peer, credentials, context, NULL, NULL);
    expect_done(&peer);
    echo(world, &peer);
    peer_close(&peer);
    SSL_CTX_free(context);
  }
  tls_credentials_unref(credentials);
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

// ---- Data

static void many_records_come_with_one_read(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  SSL_CTX *context = client_context(world->root_file);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  uint8_t byte = 0;
  for (int i = 0; i < 100; i++) {
    byte = (uint8_t)i;
    assert_int_equal(SSL_write(peer.ssl, &byte, 1), 1);
  }
  size_t size;
  const char *why;
  assert_int_equal(tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why), TLS_DONE);
  assert_int_equal(size, 100);
  for (int i = 0; i < 100; i++) assert_int_equal(world->buffer[i], i);
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
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
  struct tls_credentials *credentials = load(&world->settings);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    SSL_CTX *context = client_context(world->root_file);
    SSL_CTX_set_max_proto_version(context, version);
    struct peer peer;
    peer_connect(&peer, credentials, context, NULL, NULL);
    expect_done(&peer);
    int small = 4096;
    setsockopt(peer.fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
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
      enum tls_result result = tls_session_write(peer.session, parts, &size);
      sent += size;
      assert_int_equal(result, tls_session_unsent(peer.session) ? TLS_AGAIN : TLS_DONE);
      if (result == TLS_AGAIN) {
        waited = true;
        // Nothing more is taken until it is gone.
        assert_int_equal(tls_session_write(peer.session, parts, &size), TLS_AGAIN);
        assert_int_equal(size, 0);
      }
      got += peer_client_reads(&peer, back + got, TOTAL - got);
    }
    assert_true(waited);
    assert_memory_equal(bytes, back, TOTAL);
    assert_false(tls_session_unsent(peer.session));
    free(bytes);
    free(back);
    peer_close(&peer);
    SSL_CTX_free(context);
  }
  tls_credentials_unref(credentials);
}

static void small_fragments_are_made_for_those_who_ask(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  SSL_CTX *context = client_context(world->root_file);
  SSL_CTX_set_tlsext_max_fragment_length(context, TLSEXT_max_fragment_length_512);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  uint8_t bytes[3000], back[3000];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = pattern(i);
  size_t size, got = 0;
  const struct span parts[2] = {span_of(bytes, 1000), span_of(bytes + 1000, 2000)};
  assert_int_equal(tls_session_write(peer.session, parts, &size), TLS_DONE);
  assert_int_equal(size, 3000);
  // One SSL_read gives one record.
  int first = SSL_read(peer.ssl, back, sizeof back);
  assert_in_range(first, 1, 512);
  got = (size_t)first + peer_client_reads(&peer, back + first, sizeof back - (size_t)first);
  assert_int_equal(got, 3000);
  assert_memory_equal(bytes, back, 3000);
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
}

static void keys_may_be_changed_on_the_way(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  SSL_CTX *context = client_context(world->root_file);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  echo(world, &peer);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(SSL_key_update(peer.ssl, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    echo(world, &peer);
    echo(world, &peer);
  }
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
}

static void keys_are_not_changed_for_the_sake_of_it(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  SSL_CTX *context = client_context(world->root_file);
  struct peer peer;
  size_t size;
  const char *why;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  for (int i = 0; i < 16; i++) {
    assert_int_equal(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(peer.ssl), 1);
  }
  assert_int_equal(tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why), TLS_AGAIN);
  // Sixteen wishes are answered once.
  echo(world, &peer);
  for (int i = 0; i < 17; i++) {
    assert_int_equal(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(peer.ssl), 1);
  }
  assert_int_equal(tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why), TLS_FAILED);
  assert_string_equal(why, "a message that does not belong there");
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
}

static void nobody_renegotiates(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  SSL_CTX *context = client_context(world->root_file);
  SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  assert_int_equal(SSL_renegotiate(peer.ssl), 1);
  (void)SSL_do_handshake(peer.ssl);
  size_t size;
  const char *why;
  enum tls_result result = tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why);
  assert_true(result == TLS_AGAIN || result == TLS_FAILED);
  assert_int_equal(size, 0);
  char byte;
  int returned = SSL_read(peer.ssl, &byte, 1);
  assert_true(returned <= 0);
  assert_int_equal(SSL_get_error(peer.ssl, returned), SSL_ERROR_SSL);
  ERR_clear_error();
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
}

static void an_idle_session_is_small(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    SSL_CTX *context = client_context(world->root_file);
    SSL_CTX_set_max_proto_version(context, version);
    struct peer peer;
    peer_connect(&peer, credentials, context, NULL, NULL);
    expect_done(&peer);
    echo(world, &peer);
    size_t before = mallinfo2().uordblks;
    tls_session_free(peer.session);
    size_t after = mallinfo2().uordblks;
    peer.session = NULL;
    assert_in_range(before - after, 0, 4000);
    peer_close(&peer);
    SSL_CTX_free(context);
  }
  tls_credentials_unref(credentials);
}

// ---- Ends

static void a_goodbye_ends_it_from_either_side(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    SSL_CTX *context = client_context(world->root_file);
    SSL_CTX_set_max_proto_version(context, version);
    struct peer peer;
    peer_connect(&peer, credentials, context, NULL, NULL);
    expect_done(&peer);
    size_t size;
    const char *why;
    // Data in front of it is not lost.
    SSL_write(peer.ssl, "last", 4);
    SSL_shutdown(peer.ssl);
    assert_int_equal(tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why), TLS_DONE);
    assert_int_equal(size, 4);
    assert_int_equal(tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why), TLS_CLOSED);
    peer_close(&peer);

    peer_connect(&peer, credentials, context, NULL, NULL);
    tls_session_goodbye(peer.session);
    char byte;
    assert_int_equal(SSL_read(peer.ssl, &byte, 1), 0);
    assert_int_equal(SSL_get_error(peer.ssl, 0), SSL_ERROR_ZERO_RETURN);
    peer_close(&peer);
    SSL_CTX_free(context);
  }
  tls_credentials_unref(credentials);
}

static void a_lost_connection_is_closed(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(&world->settings);
  SSL_CTX *context = client_context(world->root_file);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_done(&peer);
  close(peer.fds[1]);
  peer.fds[1] = -1;
  size_t size;
  const char *why;
  assert_int_equal(tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why), TLS_CLOSED);
  const struct span parts[2] = {span_text("x"), {0}};
  assert_int_equal(tls_session_write(peer.session, parts, &size), TLS_CLOSED);
  tls_session_goodbye(peer.session);
  peer_close(&peer);

  // In the middle of the handshake, too.
  peer_prepare(&peer, credentials, context);
  (void)SSL_do_handshake(peer.ssl);
  assert_int_equal(tls_session_handshake(peer.session, &why), TLS_AGAIN);
  close(peer.fds[1]);
  peer.fds[1] = -1;
  assert_int_equal(tls_session_handshake(peer.session, &why), TLS_CLOSED);
  assert_int_equal(tls_session_handshake(peer.session, &why), TLS_CLOSED);
  peer_close(&peer);
  SSL_CTX_free(context);
  tls_credentials_unref(credentials);
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
  struct tls_credentials *credentials = load(&world->settings);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
      SSL_CTX *context = client_context(world->root_file);
      SSL_CTX_set_max_proto_version(context, version);
      struct peer peer;
      peer_connect(&peer, credentials, context, NULL, NULL);
      expect_done(&peer);
      SSL_write(peer.ssl, "good", 4);
      assert_int_equal(send(peer.fds[1], cases[i].bytes, cases[i].size, 0), cases[i].size);
      size_t size;
      const char *why = NULL;
      assert_int_equal(tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why), TLS_DONE);
      assert_int_equal(size, 4);
      assert_int_equal(tls_session_read(peer.session, world->buffer, BUFFER_SIZE, &size, &why), TLS_FAILED);
      assert_int_equal(size, 0);
      assert_non_null(why);
      // The client has been told.
      char byte;
      int returned = SSL_read(peer.ssl, &byte, 1);
      assert_int_equal(SSL_get_error(peer.ssl, returned), SSL_ERROR_SSL);
      ERR_clear_error();
      const struct span parts[2] = {span_text("x"), {0}};
      assert_int_equal(tls_session_write(peer.session, parts, &size), TLS_CLOSED);
      tls_session_goodbye(peer.session);
      peer_close(&peer);
      SSL_CTX_free(context);
    }
  tls_credentials_unref(credentials);
}

// ---- Hostile handshakes

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
      cmocka_unit_test(both_versions_and_all_suites_carry_data),
      cmocka_unit_test(old_versions_and_ciphers_are_refused),
      cmocka_unit_test(a_client_that_does_not_know_our_ca_says_so),
      cmocka_unit_test(the_application_protocol_has_to_be_mqtt),
      cmocka_unit_test(the_host_that_a_client_names_chooses_the_certificate),
      cmocka_unit_test(a_client_is_known_by_its_certificate),
      cmocka_unit_test(a_certificate_is_asked_for_as_configured),
      cmocka_unit_test(bad_certificates_are_refused_with_the_reason),
      cmocka_unit_test(revocation_is_asked_of_the_whole_chain_as_far_as_there_are_lists),
      cmocka_unit_test(a_device_is_known_by_its_key),
      cmocka_unit_test(the_smallest_devices_can_come_in),
      cmocka_unit_test(wrong_keys_are_refused),
      cmocka_unit_test(an_identity_that_was_not_proved_is_none),
      cmocka_unit_test(many_records_come_with_one_read),
      cmocka_unit_test(ciphertext_may_be_cut_anywhere),
      cmocka_unit_test(what_a_full_socket_does_not_take_is_kept),
      cmocka_unit_test(small_fragments_are_made_for_those_who_ask),
      cmocka_unit_test(keys_may_be_changed_on_the_way),
      cmocka_unit_test(keys_are_not_changed_for_the_sake_of_it),
      cmocka_unit_test(nobody_renegotiates),
      cmocka_unit_test(an_idle_session_is_small),
      cmocka_unit_test(a_goodbye_ends_it_from_either_side),
      cmocka_unit_test(a_lost_connection_is_closed),
      cmocka_unit_test(forged_records_end_it),
      cmocka_unit_test(garbage_is_no_handshake),
      cmocka_unit_test(a_greeting_may_be_cut_short_anywhere),
      cmocka_unit_test(a_greeting_may_be_garbled_anywhere),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
