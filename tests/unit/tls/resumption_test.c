#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "certificates.h"
#include "later.h"
#include "peer.h"

struct world {
  struct identified root, other, leaf, device;
  struct tls_certificate files;
  const char *root_file, *other_file;
};

static int make_world(void **state)
{
  struct world *world = calloc(1, sizeof *world);
  scratch_create(NULL);
  world->root = certify(&(struct wanted){.name = "Root", .authority = true});
  world->other = certify(&(struct wanted){.name = "Other", .authority = true});
  world->leaf = certify(&(struct wanted){.name = "broker", .issuer = &world->root});
  world->device = certify(&(struct wanted){.name = "device-1", .issuer = &world->root});
  world->files = (struct tls_certificate){.cert = write_certificate("leaf.pem", world->leaf.certificate),
                                          .key = write_key("leaf.key", world->leaf.key)};
  world->root_file = write_certificate("root.pem", world->root.certificate);
  X509 *both[] = {world->other.certificate, world->root.certificate};
  world->other_file = write_certificates("other.pem", both, 2);
  *state = world;
  return 0;
}

static int free_world(void **state)
{
  struct world *world = *state;
  identified_free(&world->root);
  identified_free(&world->other);
  identified_free(&world->leaf);
  identified_free(&world->device);
  free(world);
  scratch_remove(NULL);
  return 0;
}

static struct tls_credentials *load(const struct world *world, enum tls_client_cert wanted, const char *ca, const char *crl)
{
  struct tls_settings settings = {
      .certificates = &world->files, .certificate_count = 1, .client_cert = wanted, .client_ca = ca, .crl = crl};
  struct tls_credentials *credentials = NULL;
  struct error error = {0};
  if (tls_credentials_load(&settings, (struct wall){.ms = (int64_t)time(NULL) * 1000}, &credentials, &error) != OK)
    fail_msg("%s", error.text);
  return credentials;
}

static SSL_CTX *context_of(const struct world *world, int version)
{
  SSL_CTX *context = client_context(world->root_file);
  SSL_CTX_set_max_proto_version(context, version);
  SSL_CTX_use_certificate(context, world->device.certificate);
  SSL_CTX_use_PrivateKey(context, world->device.key);
  return context;
}

// Connects with the ticket of before, if any. Returns the ticket for the next time.
static SSL_SESSION *connect_once(struct tls_credentials *credentials, SSL_CTX *context, SSL_SESSION *ticket,
                                 bool expect_resumed, bool expect_certificate)
{
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, ticket);
  if (peer.result == TLS_FAILED) fail_msg("%s", peer.why);
  assert_int_equal(peer.result, TLS_DONE);
  struct tls_facts facts;
  tls_session_facts(peer.session, &facts);
  assert_int_equal(facts.resumed, expect_resumed);
  assert_int_equal(SSL_session_reused(peer.ssl), expect_resumed);
  assert_int_equal(facts.fact_count > 0, expect_certificate);
  if (expect_certificate) assert_true(span_equal(facts.facts[0].value, span_text("device-1")));
  // Data flows, and brings the ticket of 1.3.
  size_t size;
  char back[4];
  const struct span parts[2] = {span_text("hi"), {0}};
  assert_int_equal(tls_session_write(peer.session, parts, &size), TLS_DONE);
  assert_int_equal(peer_client_reads(&peer, back, 2), 2);
  SSL_SESSION *next = SSL_get1_session(peer.ssl);
  peer_close(&peer);
  if (ticket) SSL_SESSION_free(ticket);
  return next;
}

static void a_ticket_saves_the_handshake(void **state)
{
  struct world *world = *state;
  struct tls_credentials *credentials = load(world, TLS_CLIENT_CERT_NONE, NULL, NULL);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    SSL_CTX *context = context_of(world, version);
    SSL_SESSION *ticket = connect_once(credentials, context, NULL, false, false);
    ticket = connect_once(credentials, context, ticket, true, false);
    ticket = connect_once(credentials, context, ticket, true, false);
    SSL_SESSION_free(ticket);
    SSL_CTX_free(context);
  }
  tls_credentials_unref(credentials);
}

static void who_resumes_is_still_known_by_its_certificate(void **state)
{
  struct world *world = *state;
  X509_CRL *crl = make_crl(&(struct revocation){.issuer = &world->root, .revoked = &world->device.certificate, .count = 1});
  struct tls_credentials *revoking = load(world, TLS_CLIENT_CERT_REQUIRED, world->root_file, write_crls("crl.pem", &crl, 1));
  struct tls_credentials *credentials = load(world, TLS_CLIENT_CERT_REQUIRED, world->root_file, NULL);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    SSL_CTX *context = context_of(world, version);
    SSL_SESSION *ticket = connect_once(credentials, context, NULL, false, true);
    ticket = connect_once(credentials, context, ticket, true, true);
    struct peer peer;
    peer_connect(&peer, credentials, context, NULL, ticket);
    assert_int_equal(peer.result, TLS_DONE);
    assert_true(tls_session_revoked(peer.session, revoking));
    assert_false(tls_session_revoked(peer.session, credentials));
    peer_close(&peer);
    SSL_SESSION_free(ticket);
    SSL_CTX_free(context);
  }
  tls_credentials_unref(credentials);
  tls_credentials_unref(revoking);
  X509_CRL_free(crl);
}

static void tickets_outlive_a_swap(void **state)
{
  struct world *world = *state;
  SSL_CTX *context = context_of(world, TLS1_3_VERSION);
  struct tls_credentials *before = load(world, TLS_CLIENT_CERT_OPTIONAL, world->root_file, NULL);
  SSL_SESSION *ticket = connect_once(before, context, NULL, false, true);

  struct tls_credentials *stranger = load(world, TLS_CLIENT_CERT_OPTIONAL, world->root_file, NULL);
  ticket = connect_once(stranger, context, ticket, false, true);
  tls_credentials_unref(stranger);
  SSL_SESSION_free(ticket);

  ticket = connect_once(before, context, NULL, false, true);
  struct tls_credentials *after = load(world, TLS_CLIENT_CERT_OPTIONAL, world->root_file, NULL);
  tls_credentials_inherit(after, before);
  tls_credentials_inherit(after, NULL);
  tls_credentials_unref(before);
  ticket = connect_once(after, context, ticket, true, true);
  SSL_SESSION_free(ticket);
  tls_credentials_unref(after);
  SSL_CTX_free(context);
}

static void tickets_end_when_clients_must_show_something_else(void **state)
{
  struct world *world = *state;
  SSL_CTX *context = context_of(world, TLS1_3_VERSION);
  struct tls_credentials *before = load(world, TLS_CLIENT_CERT_OPTIONAL, world->root_file, NULL);
  struct tls_credentials *required = load(world, TLS_CLIENT_CERT_REQUIRED, world->root_file, NULL);
  struct tls_credentials *other = load(world, TLS_CLIENT_CERT_OPTIONAL, world->other_file, NULL);
  struct tls_credentials *none = load(world, TLS_CLIENT_CERT_NONE, NULL, NULL);
  struct tls_credentials *all[] = {required, other, none};
  for (size_t i = 0; i < 3; i++) {
    SSL_SESSION *ticket = connect_once(before, context, NULL, false, true);
    tls_credentials_inherit(all[i], before);
    SSL_SESSION_free(connect_once(all[i], context, ticket, false, all[i] != none));
    tls_credentials_unref(all[i]);
  }
  tls_credentials_unref(before);
  SSL_CTX_free(context);
}

static void a_revoked_certificate_does_not_come_back_with_its_ticket(void **state)
{
  struct world *world = *state;
  X509_CRL *crl = make_crl(&(struct revocation){.issuer = &world->root, .revoked = &world->device.certificate, .count = 1});
  const char *path = write_crls("crl.pem", &crl, 1);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    struct tls_credentials *before = load(world, TLS_CLIENT_CERT_REQUIRED, world->root_file, NULL);
    struct tls_credentials *after = load(world, TLS_CLIENT_CERT_REQUIRED, world->root_file, path);
    tls_credentials_inherit(after, before);
    SSL_CTX *context = context_of(world, version);
    SSL_SESSION *ticket = connect_once(before, context, NULL, false, true);
    struct peer peer;
    peer_connect(&peer, after, context, NULL, ticket);
    assert_int_equal(peer.result, TLS_FAILED);
    assert_string_equal(peer.why, "certificate revoked");
    peer_close(&peer);
    SSL_SESSION_free(ticket);
    SSL_CTX_free(context);
    tls_credentials_unref(before);
    tls_credentials_unref(after);
  }
  X509_CRL_free(crl);
}

static void an_expired_certificate_does_not_come_back_with_its_ticket(void **state)
{
  struct world *world = *state;
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    struct tls_credentials *credentials = load(world, TLS_CLIENT_CERT_REQUIRED, world->root_file, NULL);
    SSL_CTX *context = context_of(world, version);
    SSL_SESSION *ticket = connect_once(credentials, context, NULL, false, true);
    later_s = 86000;
    ticket = connect_once(credentials, context, ticket, true, true);
    // OpenSSL's own clock goes on as it is, so that the whole handshake succeeds: but there has to be one.
    later_s = 86401;
    ticket = connect_once(credentials, context, ticket, false, true);
    later_s = 0;
    SSL_SESSION_free(ticket);
    SSL_CTX_free(context);
    tls_credentials_unref(credentials);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_ticket_saves_the_handshake),
      cmocka_unit_test(who_resumes_is_still_known_by_its_certificate),
      cmocka_unit_test(tickets_outlive_a_swap),
      cmocka_unit_test(tickets_end_when_clients_must_show_something_else),
      cmocka_unit_test(a_revoked_certificate_does_not_come_back_with_its_ticket),
      cmocka_unit_test(an_expired_certificate_does_not_come_back_with_its_ticket),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
