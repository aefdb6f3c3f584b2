#include "tls/credentials.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ocsp.h>
#include <openssl/pem.h>

#include "certificates.h"

// One good set of everything; tests change what they are about.
struct world {
  struct identified root, intermediate, leaf, other;
};

static struct wall now(void)
{
  return (struct wall){.ms = (int64_t)time(NULL) * 1000};
}

static int make_world(void **state)
{
  struct world *world = calloc(1, sizeof *world);
  scratch_create(NULL);
  world->root = certify(&(struct wanted){.name = "Root", .authority = true});
  world->intermediate = certify(&(struct wanted){.name = "Intermediate", .authority = true, .issuer = &world->root});
  world->leaf =
      certify(&(struct wanted){.name = "broker", .alternative = "DNS:broker.example", .issuer = &world->intermediate});
  world->other = certify(&(struct wanted){.name = "Other", .authority = true});
  *state = world;
  return 0;
}

static int free_world(void **state)
{
  struct world *world = *state;
  identified_free(&world->root);
  identified_free(&world->intermediate);
  identified_free(&world->leaf);
  identified_free(&world->other);
  free(world);
  scratch_remove(NULL);
  return 0;
}

static void expect_refused(const struct tls_settings *settings, const char *wanted)
{
  struct tls_credentials *credentials = NULL;
  struct error error = {0};
  assert_int_not_equal(tls_credentials_load(settings, now(), &credentials, &error), OK);
  assert_null(credentials);
  if (!strstr(error.text, wanted)) fail_msg("\"%s\" does not say \"%s\"", error.text, wanted);
}

static void expect_certificate_refused(const char *cert, const char *key, const char *wanted)
{
  struct tls_certificate files = {.cert = cert, .key = key};
  expect_refused(&(struct tls_settings){.certificates = &files, .certificate_count = 1}, wanted);
}

static struct tls_credentials *load(const struct tls_settings *settings)
{
  struct tls_credentials *credentials = NULL;
  struct error error = {0};
  enum status status = tls_credentials_load(settings, now(), &credentials, &error);
  if (status != OK) fail_msg("%s", error.text);
  return credentials;
}

static void a_chain_with_its_key_is_good(void **state)
{
  struct world *world = *state;
  X509 *chain[] = {world->leaf.certificate, world->intermediate.certificate, world->root.certificate};
  struct tls_certificate files = {.key = write_key("leaf.key", world->leaf.key)};
  for (size_t count = 1; count <= 3; count++) {
    files.cert = write_certificates("chain.pem", chain, count);
    struct tls_credentials *credentials = load(&(struct tls_settings){.certificates = &files, .certificate_count = 1});
    int64_t left_ms = tls_credentials_end_ms(credentials) - now().ms;
    assert_in_range(left_ms, 86300 * 1000, 86400 * 1000);
    assert_ptr_equal(tls_credentials_ref(credentials), credentials);
    tls_credentials_unref(credentials);
    tls_credentials_unref(credentials);
  }
  tls_credentials_unref(NULL);
}

static void the_end_is_that_of_the_first_to_expire(void **state)
{
  struct world *world = *state;
  struct identified brief =
      certify(&(struct wanted){.name = "Brief", .authority = true, .issuer = &world->root, .from_s = -60, .until_s = 3600});
  struct identified leaf = certify(&(struct wanted){.name = "broker", .issuer = &brief});
  X509 *chain[] = {leaf.certificate, brief.certificate};
  struct tls_certificate files = {.cert = write_certificates("brief.pem", chain, 2),
                                  .key = write_key("brief.key", leaf.key)};
  struct tls_credentials *credentials = load(&(struct tls_settings){.certificates = &files, .certificate_count = 1});
  assert_in_range(tls_credentials_end_ms(credentials) - now().ms, 3500 * 1000, 3600 * 1000);
  tls_credentials_unref(credentials);
  identified_free(&brief);
  identified_free(&leaf);
}

static void files_that_are_not_what_they_should_be(void **state)
{
  struct world *world = *state;
  const char *cert = write_certificate("ok.pem", world->leaf.certificate), *key = write_key("ok.key", world->leaf.key);
  const char *garbage = scratch_file("garbage.pem", "\x16\x03\x01\0\0", 5);
  static const char broken[] = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
  static const char truncated[] = "-----BEGIN CERTIFICATE-----\nMIIBsdfkjhsdf";
  expect_certificate_refused(scratch_path("none.pem"), key,
                             "none.pem: No such file or directory: expected certificates in PEM");
  expect_certificate_refused("/tmp", key, "/tmp: is no regular file");
  expect_certificate_refused(garbage, key, "garbage.pem: holds no certificate: expected certificates in PEM");
  expect_certificate_refused(scratch_file("empty.pem", "", 0), key, "empty.pem: holds no certificate");
  expect_certificate_refused(scratch_file("broken.pem", broken, sizeof broken - 1), key,
                             "broken.pem: certificate 1 cannot be read");
  expect_certificate_refused(scratch_file("cut.pem", truncated, sizeof truncated - 1), key,
                             "cut.pem: certificate 1 cannot be read");
  expect_certificate_refused(key, key, "ok.key: holds no certificate");
  expect_certificate_refused(cert, cert, "ok.pem: holds no private key");
  expect_certificate_refused(cert, garbage, "garbage.pem: holds no private key: expected a private key in PEM");
  expect_certificate_refused(cert, scratch_path("none.key"), "none.key: No such file");
  expect_certificate_refused(cert, write_key("other.key", world->other.key), "other.key: is not the key of");
  const char *fifo = scratch_path("fifo");
  assert_int_equal(mkfifo(fifo, 0600), 0);
  expect_certificate_refused(fifo, key, "fifo: is no regular file");
}

static void an_encrypted_key_is_said_to_be_one(void **state)
{
  struct world *world = *state;
  const char *path = scratch_path("encrypted.key");
  FILE *file = fopen(path, "w");
  PEM_write_PrivateKey(file, world->leaf.key, EVP_aes_256_cbc(), (const unsigned char *)"secret", 6, NULL, NULL);
  fclose(file);
  expect_certificate_refused(write_certificate("ok.pem", world->leaf.certificate), path,
                             "encrypted.key: the key is encrypted");
}

// With the pass phrase at hand for whoever would ask: without a terminal OpenSSL asks the standard input.
static void nobody_is_asked_for_the_pass_phrase_of_a_certificate(void **state)
{
  struct world *world = *state;
  const char *path = scratch_path("encrypted.pem"), phrase[] = "secret\n";
  FILE *file = fopen(path, "w");
  PEM_ASN1_write((i2d_of_void *)i2d_X509, PEM_STRING_X509, file, world->leaf.certificate, EVP_aes_256_cbc(),
                 (const unsigned char *)"secret", 6, NULL, NULL);
  fclose(file);
  int ends[2], input = dup(STDIN_FILENO);
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(write(ends[1], phrase, strlen(phrase)), strlen(phrase));
  close(ends[1]);
  assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
  expect_certificate_refused(path, write_key("ok.key", world->leaf.key), "encrypted.pem: certificate 1 cannot be read");
  char left[sizeof phrase] = "";
  assert_int_equal(read(ends[0], left, sizeof left - 1), strlen(phrase));
  assert_string_equal(left, phrase);
  close(ends[0]);
  if (input >= 0) dup2(input, STDIN_FILENO);
  close(input);
}

// Of an algorithm that came after this OpenSSL: elsewhere in the certificate nothing is wrong.
static X509 *with_unknown_key(const X509 *certificate)
{
  static const uint8_t ec_key[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01};
  uint8_t *bytes = NULL;
  int size = i2d_X509(certificate, &bytes);
  assert_true(size > 0);
  uint8_t *algorithm = memmem(bytes, (size_t)size, ec_key, sizeof ec_key);
  assert_non_null(algorithm);
  algorithm[sizeof ec_key - 1] = 0x7f;
  const uint8_t *place = bytes;
  X509 *odd = d2i_X509(NULL, &place, size);
  assert_non_null(odd);
  OPENSSL_free(bytes);
  return odd;
}

static void keys_of_a_kind_that_is_not_known_are_none(void **state)
{
  struct world *world = *state;
  X509 *chain[] = {with_unknown_key(world->leaf.certificate), with_unknown_key(world->intermediate.certificate)};
  const char *key = write_key("ok.key", world->leaf.key);
  expect_certificate_refused(write_certificate("odd.pem", chain[0]), key,
                             "odd.pem: the key of certificate 1 (CN=broker, OU=Line 7) is too weak: keys have to be RSA");
  X509 *odd_issuer[] = {world->leaf.certificate, chain[1]};
  expect_certificate_refused(write_certificates("odd-chain.pem", odd_issuer, 2), key, "the chain does not build");
  struct tls_certificate files = {.cert = write_certificate("ok.pem", world->leaf.certificate), .key = key};
  struct tls_settings settings = {.certificates = &files,
                                  .certificate_count = 1,
                                  .client_ca = write_certificate("odd-ca.pem", chain[1]),
                                  .client_cert = TLS_CLIENT_CERT_OPTIONAL};
  expect_refused(&settings,
                 "odd-ca.pem: the key of certificate 1 (CN=Intermediate, OU=Line 7) is too weak: keys have to be");
  X509_free(chain[0]);
  X509_free(chain[1]);
}

static void chains_have_to_build(void **state)
{
  struct world *world = *state;
  const char *key = write_key("ok.key", world->leaf.key);
  X509 *gap[] = {world->leaf.certificate, world->root.certificate};
  expect_certificate_refused(write_certificates("gap.pem", gap, 2), key,
                             "gap.pem: the chain does not build: certificate 1 is issued by CN=Intermediate, OU=Line 7, but "
                             "certificate 2 is CN=Root");
  X509 *backwards[] = {world->intermediate.certificate, world->leaf.certificate};
  expect_certificate_refused(write_certificates("backwards.pem", backwards, 2), key,
                             "expected the server's certificate first");

  // The same name, another key; and somebody who may issue nothing.
  struct identified twin = certify(&(struct wanted){.name = "Intermediate", .authority = true, .issuer = &world->root});
  X509 *wrong[] = {world->leaf.certificate, twin.certificate};
  expect_certificate_refused(write_certificates("twin.pem", wrong, 2), key, "the chain does not build");
  struct identified nobody = certify(&(struct wanted){.name = "Nobody", .issuer = &world->root});
  struct identified leaf = certify(&(struct wanted){.name = "broker", .issuer = &nobody});
  X509 *usurped[] = {leaf.certificate, nobody.certificate};
  expect_certificate_refused(write_certificates("usurped.pem", usurped, 2), write_key("usurped.key", leaf.key), "or no CA");

  struct identified narrow = certify(&(struct wanted){
      .name = "Narrow", .authority = true, .issuer = &world->root, .constraint = "critical,permitted;DNS:plant.example"});
  struct identified outside =
      certify(&(struct wanted){.name = "broker", .alternative = "DNS:office.example", .issuer = &narrow});
  X509 *constrained[] = {outside.certificate, narrow.certificate};
  expect_certificate_refused(write_certificates("narrow.pem", constrained, 2), write_key("narrow.key", outside.key),
                             "clients would refuse it (permitted subtree violation)");
  identified_free(&twin);
  identified_free(&nobody);
  identified_free(&leaf);
  identified_free(&narrow);
  identified_free(&outside);
}

static void expect_leaf_refused(const struct wanted *wanted, const char *text)
{
  struct identified leaf = certify(wanted);
  expect_certificate_refused(write_certificate("bad.pem", leaf.certificate), write_key("bad.key", leaf.key), text);
  identified_free(&leaf);
}

static void certificates_have_to_be_valid_now_and_strong(void **state)
{
  struct world *world = *state;
  expect_leaf_refused(&(struct wanted){.name = "old", .issuer = &world->root, .from_s = -7200, .until_s = -60},
                      "bad.pem: certificate 1 (CN=old, OU=Line 7) has expired on ");
  expect_leaf_refused(&(struct wanted){.name = "new", .issuer = &world->root, .from_s = 3600, .until_s = 7200},
                      "bad.pem: certificate 1 (CN=new, OU=Line 7) is not yet valid, only from ");
  expect_leaf_refused(&(struct wanted){.name = "weak", .issuer = &world->root, .key = TEST_RSA1024},
                      "the key of certificate 1 (CN=weak, OU=Line 7) is too weak: RSA keys need at least 2048 bits");
  expect_leaf_refused(&(struct wanted){.name = "weak", .issuer = &world->root, .key = TEST_P192},
                      "EC keys need at least 256 bits");
  expect_leaf_refused(&(struct wanted){.name = "client", .issuer = &world->root, .usage = "clientAuth"},
                      "clients would refuse it");
  struct identified old = certify(
      &(struct wanted){.name = "Old CA", .authority = true, .issuer = &world->root, .from_s = -7200, .until_s = -60});
  struct identified leaf = certify(&(struct wanted){.name = "broker", .issuer = &old});
  X509 *chain[] = {leaf.certificate, old.certificate};
  expect_certificate_refused(write_certificates("old.pem", chain, 2), write_key("old.key", leaf.key),
                             "old.pem: certificate 2 (CN=Old CA, OU=Line 7) has expired");
  identified_free(&old);
  identified_free(&leaf);
}

// ---- What clients show

static struct tls_settings with_clients(struct world *world, struct tls_certificate *files)
{
  *files = (struct tls_certificate){.cert = write_certificate("ok.pem", world->leaf.certificate),
                                    .key = write_key("ok.key", world->leaf.key)};
  return (struct tls_settings){.certificates = files,
                               .certificate_count = 1,
                               .client_ca = write_certificate("ca.pem", world->root.certificate),
                               .client_cert = TLS_CLIENT_CERT_REQUIRED};
}

static void settings_have_to_fit_each_other(void **state)
{
  struct world *world = *state;
  struct tls_certificate files;
  expect_refused(&(struct tls_settings){0}, "needs a certificate");
  struct tls_settings settings = with_clients(world, &files);
  settings.client_ca = NULL;
  expect_refused(&settings, "client_cert needs client_ca");
  settings = with_clients(world, &files);
  settings.client_cert = TLS_CLIENT_CERT_NONE;
  settings.crl = "crl.pem";
  expect_refused(&settings, "crl is for clients' certificates");
  settings = with_clients(world, &files);
  files.key = NULL;
  expect_refused(&settings, "needs both: cert and key");
  settings = with_clients(world, &files);
  settings.psk = scratch_file("psk.txt", "a:000102030405060708090a0b0c0d0e0f\n", 35);
  expect_refused(&settings, "client_cert: required shuts out");
}

static void authorities_have_to_be_some(void **state)
{
  struct world *world = *state;
  struct tls_certificate files;
  struct tls_settings settings = with_clients(world, &files);
  settings.client_ca = write_certificate("leaf.pem", world->leaf.certificate);
  expect_refused(&settings, "leaf.pem: certificate 1 (CN=broker, OU=Line 7) is not of a CA");
  settings.client_ca = scratch_path("none-ca.pem");
  expect_refused(&settings, "none-ca.pem: No such file");
  struct identified weak = certify(&(struct wanted){.name = "Weak CA", .authority = true, .key = TEST_RSA1024});
  settings.client_ca = write_certificate("weak-ca.pem", weak.certificate);
  expect_refused(&settings, "weak-ca.pem: the key of certificate 1 (CN=Weak CA, OU=Line 7) is too weak");
  identified_free(&weak);
}

static void an_expired_authority_may_stand_beside_a_valid_one(void **state)
{
  struct world *world = *state;
  struct tls_certificate files;
  struct tls_settings settings = with_clients(world, &files);
  struct identified old = certify(&(struct wanted){.name = "Old CA", .authority = true, .from_s = -7200, .until_s = -60});
  settings.client_ca = write_certificate("old-ca.pem", old.certificate);
  expect_refused(&settings,
                 "old-ca.pem: no certificate in it is valid now; the first (CN=Old CA, OU=Line 7) has expired on");
  X509 *both[] = {old.certificate, world->root.certificate};
  settings.client_ca = write_certificates("both-ca.pem", both, 2);
  tls_credentials_unref(load(&settings));
  identified_free(&old);
}

static void expect_crl_refused(struct world *world, const struct revocation *revocation, const char *wanted)
{
  struct tls_certificate files;
  struct tls_settings settings = with_clients(world, &files);
  X509_CRL *crl = make_crl(revocation);
  settings.crl = write_crls("bad-crl.pem", &crl, 1);
  expect_refused(&settings, wanted);
  X509_CRL_free(crl);
}

// Of several the one that ends first.
static void when_crls_end(void **state)
{
  struct world *world = *state;
  struct tls_certificate files;
  struct tls_settings settings = with_clients(world, &files);
  int64_t issued_ms = -1, now_ms = (int64_t)time(NULL) * 1000;
  struct tls_credentials *without = load(&settings);
  assert_int_equal(tls_credentials_crl_end_ms(without, &issued_ms), 0);
  assert_int_equal(issued_ms, 0);
  tls_credentials_unref(without);
  X509_CRL *crls[2] = {make_crl(&(struct revocation){.issuer = &world->root, .from_s = -60, .until_s = 9000}),
                       make_crl(&(struct revocation){.issuer = &world->root, .from_s = -600, .until_s = 6000})};
  settings.crl = write_crls("two-crls.pem", crls, 2);
  struct tls_credentials *credentials = load(&settings);
  int64_t end_ms = tls_credentials_crl_end_ms(credentials, &issued_ms);
  assert_in_range(end_ms, now_ms + 5990 * 1000, now_ms + 6100 * 1000);
  assert_int_equal(end_ms - issued_ms, 6600 * 1000);
  tls_credentials_unref(credentials);
  for (size_t i = 0; i < 2; i++) X509_CRL_free(crls[i]);
}

static void crls_have_to_be_of_the_ca_and_of_now(void **state)
{
  struct world *world = *state;
  struct tls_certificate files;
  struct tls_settings settings = with_clients(world, &files);
  X509_CRL *good = make_crl(&(struct revocation){.issuer = &world->root});
  settings.crl = write_crls("crl.pem", &good, 1);
  tls_credentials_unref(load(&settings));
  X509_CRL_free(good);

  expect_crl_refused(world, &(struct revocation){.issuer = &world->other},
                     "bad-crl.pem: CRL 1 is issued by CN=Other, OU=Line 7, which is not in ");
  expect_crl_refused(world, &(struct revocation){.issuer = &world->root, .signer = &world->other},
                     "bad-crl.pem: CRL 1 is not signed with the key of CN=Root, OU=Line 7");
  expect_crl_refused(world, &(struct revocation){.issuer = &world->root, .from_s = -7200, .until_s = -60},
                     "bad-crl.pem: CRL 1 is out of date since");
  expect_crl_refused(world, &(struct revocation){.issuer = &world->root, .from_s = 3600, .until_s = 7200},
                     "bad-crl.pem: CRL 1 is only valid from");
  settings.crl = scratch_file("no-crl.pem", "nothing\n", 8);
  expect_refused(&settings, "no-crl.pem: holds no CRL: expected certificate revocation lists in PEM");

  struct identified mute = certify(&(struct wanted){.name = "Mute", .authority = true, .key_usage = "keyCertSign"});
  settings.client_ca = write_certificate("mute.pem", mute.certificate);
  X509_CRL *crl = make_crl(&(struct revocation){.issuer = &mute});
  settings.crl = write_crls("mute-crl.pem", &crl, 1);
  expect_refused(&settings, "which may not sign CRLs");
  X509_CRL_free(crl);
  identified_free(&mute);
}

static void two_certificates_need_different_names_or_kinds(void **state)
{
  struct world *world = *state;
  struct identified twin =
      certify(&(struct wanted){.name = "broker", .alternative = "DNS:broker.example", .issuer = &world->root});
  struct identified rsa = certify(
      &(struct wanted){.name = "broker", .alternative = "DNS:broker.example", .issuer = &world->root, .key = TEST_RSA2048});
  struct tls_certificate files[2] = {
      {.cert = write_certificate("a.pem", world->leaf.certificate), .key = write_key("a.key", world->leaf.key)},
      {.cert = write_certificate("b.pem", twin.certificate), .key = write_key("b.key", twin.key)}};
  struct tls_settings settings = {.certificates = files, .certificate_count = 2};
  expect_refused(&settings, "b.pem: is for the same names as ");
  files[1] =
      (struct tls_certificate){.cert = write_certificate("c.pem", rsa.certificate), .key = write_key("c.key", rsa.key)};
  tls_credentials_unref(load(&settings));
  identified_free(&twin);
  identified_free(&rsa);
}

// ---- OCSP

static void stapled_answers_have_to_be_good_ones_about_it(void **state)
{
  struct world *world = *state;
  X509 *chain[] = {world->leaf.certificate, world->intermediate.certificate};
  struct tls_certificate files = {.cert = write_certificates("chain.pem", chain, 2),
                                  .key = write_key("leaf.key", world->leaf.key)};
  struct tls_settings settings = {.certificates = &files, .certificate_count = 1};
  const struct answer good = {.issuer = &world->intermediate,
                              .subject = &world->leaf,
                              .signer = &world->intermediate,
                              .state = V_OCSP_CERTSTATUS_GOOD,
                              .from_s = -60,
                              .until_s = 3600};
  files.ocsp = write_answer("good.der", &good);
  tls_credentials_unref(load(&settings));

  struct answer bad = good;
  bad.state = V_OCSP_CERTSTATUS_REVOKED;
  files.ocsp = write_answer("revoked.der", &bad);
  expect_refused(&settings, "revoked.der: says that the certificate is revoked");
  bad = good;
  bad.until_s = -10;
  files.ocsp = write_answer("late.der", &bad);
  expect_refused(&settings, "late.der: is out of date");
  bad = good;
  bad.from_s = 600;
  files.ocsp = write_answer("early.der", &bad);
  expect_refused(&settings, "early.der: is not yet valid");
  bad = good;
  bad.subject = &world->other;
  files.ocsp = write_answer("other.der", &bad);
  expect_refused(&settings, "other.der: is about another certificate");
  bad = good;
  bad.signer = &world->other;
  files.ocsp = write_answer("forged.der", &bad);
  expect_refused(&settings, "forged.der: is not signed by the certificate's issuer");
  files.ocsp = scratch_file("garbage.der", "garbage", 7);
  expect_refused(&settings, "garbage.der: cannot be read: expected the responder's current answer");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_chain_with_its_key_is_good),
      cmocka_unit_test(the_end_is_that_of_the_first_to_expire),
      cmocka_unit_test(files_that_are_not_what_they_should_be),
      cmocka_unit_test(an_encrypted_key_is_said_to_be_one),
      cmocka_unit_test(nobody_is_asked_for_the_pass_phrase_of_a_certificate),
      cmocka_unit_test(keys_of_a_kind_that_is_not_known_are_none),
      cmocka_unit_test(chains_have_to_build),
      cmocka_unit_test(certificates_have_to_be_valid_now_and_strong),
      cmocka_unit_test(settings_have_to_fit_each_other),
      cmocka_unit_test(authorities_have_to_be_some),
      cmocka_unit_test(an_expired_authority_may_stand_beside_a_valid_one),
      cmocka_unit_test(crls_have_to_be_of_the_ca_and_of_now),
      cmocka_unit_test(when_crls_end),
      cmocka_unit_test(two_certificates_need_different_names_or_kinds),
      cmocka_unit_test(stapled_answers_have_to_be_good_ones_about_it),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
