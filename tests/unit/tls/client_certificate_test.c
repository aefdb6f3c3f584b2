// Clients that show a certificate.
#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "certificates.h"
#include "peer.h"
#include "world.h"

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
  SSL_CTX *context = client_context(world->root_file);
  show(context, &world->device);
  struct meeting meeting;
  struct peer *peer = meet_with(&meeting, &settings, context);
  struct tls_facts facts;
  tls_session_facts(peer->session, &facts);
  assert_true(facts.fact_count >= 4);
  assert_true(span_equal(facts.facts[0].name, span_text("cert.cn")));
  assert_true(span_equal(facts.facts[0].value, span_text("device-1")));
  echo(world, peer);
  tls_session_facts(peer->session, &facts);
  assert_true(span_equal(facts.facts[0].value, span_text("device-1")));
  part(&meeting);
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

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_client_is_known_by_its_certificate),
      cmocka_unit_test(a_certificate_is_asked_for_as_configured),
      cmocka_unit_test(bad_certificates_are_refused_with_the_reason),
      cmocka_unit_test(revocation_is_asked_of_the_whole_chain_as_far_as_there_are_lists),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
