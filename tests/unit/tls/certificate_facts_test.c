#include "tls/certificate_facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "certificates.h"

static struct span find(const struct certificate_facts *facts, const char *name, size_t nth)
{
  for (size_t i = 0; i < facts->count; i++)
    if (span_equal(facts->facts[i].name, span_text(name)) && nth-- == 0) return facts->facts[i].value;
  return (struct span){0};
}

static void expect(const struct certificate_facts *facts, const char *name, size_t nth, const char *value)
{
  struct span found = find(facts, name, nth);
  assert_non_null(found.at);
  assert_int_equal(found.size, strlen(value));
  assert_memory_equal(found.at, value, found.size);
  assert_int_equal(found.at[found.size], 0);
}

static void a_certificate_says_who_it_is_for(void **state)
{
  (void)state;
  struct identified one =
      certify(&(struct wanted){.name = "dävice-1",
                               .alternative = "DNS:a.example,URI:urn:dev:1,DNS:b.example,email:x@y.example,IP:10.0.0.1",
                               .serial = 0xbeef});
  struct certificate_facts *facts = certificate_facts(one.certificate);
  assert_non_null(facts);
  expect(facts, "cert.cn", 0, "dävice-1");
  expect(facts, "cert.ou", 0, "Line 7");
  expect(facts, "cert.san_dns", 0, "a.example");
  expect(facts, "cert.san_dns", 1, "b.example");
  expect(facts, "cert.san_uri", 0, "urn:dev:1");
  expect(facts, "cert.san_email", 0, "x@y.example");
  expect(facts, "cert.serial", 0, "beef");
  uint8_t digest[32];
  char text[65];
  X509_digest(one.certificate, EVP_sha256(), digest, NULL);
  for (int i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
  expect(facts, "cert.fingerprint", 0, text);
  assert_null(find(facts, "cert.o", 0).at);
  free(facts);
  identified_free(&one);
}

static void names_that_could_look_like_others_are_none(void **state)
{
  (void)state;
  struct identified one = certify(&(struct wanted){.name = "admin\nuser"});
  X509_NAME_add_entry_by_txt(X509_get_subject_name(one.certificate), "O", V_ASN1_UTF8STRING,
                             (const unsigned char *)"admin\0.evil", 11, -1, 0);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(one.certificate), "O", V_ASN1_UTF8STRING, (const unsigned char *)"good",
                             4, -1, 0);
  struct certificate_facts *facts = certificate_facts(one.certificate);
  assert_null(find(facts, "cert.cn", 0).at);
  expect(facts, "cert.o", 0, "good");
  free(facts);
  identified_free(&one);
}

static void a_certificate_of_many_names_still_has_its_number(void **state)
{
  (void)state;
  char names[4096] = "";
  size_t size = 0;
  for (int i = 0; i < 200; i++) size += (size_t)snprintf(names + size, sizeof names - size, "%sDNS:n%d", i ? "," : "", i);
  struct identified one = certify(&(struct wanted){.name = "many", .alternative = names, .serial = 0x1234});
  struct certificate_facts *facts = certificate_facts(one.certificate);
  assert_int_equal(facts->count, 64);
  expect(facts, "cert.cn", 0, "many");
  expect(facts, "cert.serial", 0, "1234");
  assert_non_null(find(facts, "cert.fingerprint", 0).at);
  free(facts);
  identified_free(&one);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_certificate_says_who_it_is_for),
                                     cmocka_unit_test(names_that_could_look_like_others_are_none),
                                     cmocka_unit_test(a_certificate_of_many_names_still_has_its_number)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
