// What of the context the tests of sessions do not reach: stapling, of two certificates and by the clock.
#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/ocsp.h>

#include "certificates.h"
#include "later.h"
#include "peer.h"

struct world {
  struct identified root, leaf, other;
  struct tls_certificate files[2];
  struct answer answer;
  struct tls_credentials *credentials;
};

static int make_world(void **state)
{
  struct world *world = calloc(1, sizeof *world);
  scratch_create(NULL);
  world->root = certify(&(struct wanted){.name = "Root", .authority = true});
  world->leaf = certify(&(struct wanted){.name = "one", .alternative = "DNS:one.example", .issuer = &world->root});
  world->other = certify(&(struct wanted){.name = "two", .alternative = "DNS:two.example", .issuer = &world->root});
  world->answer = (struct answer){.issuer = &world->root,
                                  .subject = &world->leaf,
                                  .signer = &world->root,
                                  .state = V_OCSP_CERTSTATUS_GOOD,
                                  .from_s = -60,
                                  .until_s = 3600};
  world->files[0] = (struct tls_certificate){.cert = write_certificate("one.pem", world->leaf.certificate),
                                             .key = write_key("one.key", world->leaf.key),
                                             .ocsp = write_answer("one.der", &world->answer)};
  world->files[1] = (struct tls_certificate){.cert = write_certificate("two.pem", world->other.certificate),
                                             .key = write_key("two.key", world->other.key)};
  struct tls_settings settings = {.certificates = world->files, .certificate_count = 2};
  struct error error = {0};
  if (tls_credentials_load(&settings, (struct wall){.ms = (int64_t)time(NULL) * 1000}, &world->credentials, &error) != OK)
    fail_msg("%s", error.text);
  *state = world;
  return 0;
}

static int free_world(void **state)
{
  struct world *world = *state;
  tls_credentials_unref(world->credentials);
  identified_free(&world->root);
  identified_free(&world->leaf);
  identified_free(&world->other);
  free(world);
  scratch_remove(NULL);
  return 0;
}

// How many bytes are stapled for a client that asks for them, or does not.
static long stapled(const struct world *world, int version, const char *host, bool ask)
{
  SSL_CTX *context = client_context(NULL);
  SSL_CTX_set_max_proto_version(context, version);
  if (ask) SSL_CTX_set_tlsext_status_type(context, TLSEXT_STATUSTYPE_ocsp);
  struct peer peer;
  peer_connect(&peer, world->credentials, context, host, NULL);
  assert_int_equal(peer.result, TLS_DONE);
  assert_int_equal(peer.client_result, 1);
  const unsigned char *bytes = NULL;
  long size = SSL_get_tlsext_status_ocsp_resp(peer.ssl, &bytes);
  if (size > 0) {
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &bytes, size);
    assert_non_null(response);
    OCSP_RESPONSE_free(response);
  }
  peer_close(&peer);
  SSL_CTX_free(context);
  return size > 0 ? size : 0;
}

static void an_answer_is_stapled_to_its_certificate_for_those_who_ask(void **state)
{
  const struct world *world = *state;
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    assert_true(stapled(world, version, "one.example", true) > 0);
    assert_true(stapled(world, version, NULL, true) > 0);
    assert_int_equal(stapled(world, version, "one.example", false), 0);
    assert_int_equal(stapled(world, version, "two.example", true), 0);
  }
}

static void an_answer_that_has_run_out_is_not_stapled(void **state)
{
  const struct world *world = *state;
  later_s = 3500;
  assert_true(stapled(world, TLS1_3_VERSION, "one.example", true) > 0);
  later_s = 3601;
  assert_int_equal(stapled(world, TLS1_3_VERSION, "one.example", true), 0);
  later_s = 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(an_answer_is_stapled_to_its_certificate_for_those_who_ask),
                                     cmocka_unit_test(an_answer_that_has_run_out_is_not_stapled)};
  return cmocka_run_group_tests(tests, make_world, free_world);
}
