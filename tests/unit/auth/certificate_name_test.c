// User names out of certificates.
#include "auth/certificate_name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#define FACT(n, v)                                                                                                          \
  {                                                                                                                         \
    {(const uint8_t *)(n), sizeof(n) - 1},                                                                                  \
    {                                                                                                                       \
      (const uint8_t *)(v), sizeof(v) - 1                                                                                   \
    }                                                                                                                       \
  }

static const struct identity_fact facts[] = {
    FACT("cert.cn", "press-7"),
    FACT("cert.ou", "line"),
    FACT("cert.ou", "second"),
    FACT("cert.san_dns", "gate.office.example"),
    FACT("cert.san_dns", "press-7.plant.example"),
    FACT("cert.san_uri", "https://press.example/"),
    FACT("cert.san_uri", "spiffe://plant/press/7"),
    FACT("cert.san_email", "ann@example.com"),
    FACT("cert.serial", "0102ab"),
    FACT("jwt.sub", "eve"),
};

enum { FACTS = sizeof facts / sizeof facts[0] };

static void gives(const char *pattern, const char *expected)
{
  struct error error = {0};
  if (certificate_name_check(pattern, &error) != OK) fail_msg("%s: %s", pattern, error.text);
  const char *why = NULL;
  char *name = certificate_name(pattern, facts, FACTS, &why);
  if (!name) fail_msg("%s: %s", pattern, why);
  assert_string_equal(name, expected);
  free(name);
}

static void gives_none(const char *pattern, const struct identity_fact *some, size_t count, const char *expected_why)
{
  const char *why = NULL;
  assert_int_equal(certificate_name_check(pattern, NULL), OK);
  assert_null(certificate_name(pattern, some, count, &why));
  assert_non_null(why);
  if (!strstr(why, expected_why)) fail_msg("%s: %s", pattern, why);
}

static void a_fact_s_name_gives_its_first_value(void **state)
{
  (void)state;
  gives("cert.cn", "press-7");
  gives("cert.ou", "line");
  gives("cert.san_dns", "gate.office.example");
  gives("cert.san_uri", "https://press.example/");
  gives("cert.san_email", "ann@example.com");
  gives("cert.serial", "0102ab");
}

static void names_in_braces_are_put_together(void **state)
{
  (void)state;
  gives("{cert.cn}", "press-7");
  gives("{cert.ou}-{cert.cn}", "line-press-7");
  gives("device:{cert.cn}.", "device:press-7.");
  gives("{cert.ou}{cert.ou}", "lineline");
}

static void empty_braces_stand_for_the_name(void **state)
{
  (void)state;
  gives("spiffe://plant/{}", "press/7");
  gives("spiffe://plant/press/{}", "7");
  gives("spiffe://{}/press/7", "plant");
  gives("cert.san_uri:spiffe://plant/{}", "press/7");
  gives("cert.san_dns:{}.plant.example", "press-7");
  gives("cert.cn:press-{}", "7");
  gives("cert.cn:{}", "press-7");
  gives("cert.san_email:{}@example.com", "ann");
}

static void what_does_not_fit_gives_no_name(void **state)
{
  (void)state;
  gives_none("cert.o", facts, FACTS, "no such name");
  gives_none("{cert.cn}-{cert.o}", facts, FACTS, "does not have all");
  gives_none("spiffe://office/{}", facts, FACTS, "fits the pattern");
  gives_none("cert.cn:press-7{}", facts, FACTS, "fits the pattern");  // nothing would be left for the name
  gives_none("cert.cn:press-7-and-more-{}", facts, FACTS, "fits the pattern");
  gives_none("cert.cn", facts, 0, "no such name");
}

static void parts_of_a_frame_do_not_overlap(void **state)
{
  (void)state;
  static const struct identity_fact aba[] = {FACT("cert.cn", "aba")};
  gives_none("cert.cn:ab{}ba", aba, 1, "fits the pattern");
}

static void names_that_nobody_should_have_are_refused(void **state)
{
  (void)state;
  static const struct identity_fact empty[] = {FACT("cert.cn", "")}, nul[] = {FACT("cert.cn", "ann\0eve")},
                                    line[] = {FACT("cert.cn", "ann\n")}, bytes[] = {FACT("cert.cn", "a\xFF")},
                                    turned[] = {FACT("cert.cn", "a\xE2\x80\xAE"
                                                                "b")};
  gives_none("cert.cn", empty, 1, "empty");
  gives_none("{cert.cn}x", empty, 1, "does not have all");
  gives_none("cert.cn", nul, 1, "control");
  gives_none("{cert.cn}", nul, 1, "control");
  gives_none("cert.cn:a{}", nul, 1, "control");
  gives_none("cert.cn", line, 1, "control");
  gives_none("cert.cn", bytes, 1, "UTF-8");
  gives_none("cert.cn", turned, 1, "control");
}

static void names_have_a_bound(void **state)
{
  (void)state;
  static uint8_t text[1025];
  memset(text, 'a', sizeof text);
  struct identity_fact fact = {span_text("cert.cn"), span_of(text, 1024)};
  const char *why = NULL;
  char *name = certificate_name("{cert.cn}", &fact, 1, &why);
  assert_non_null(name);
  assert_int_equal(strlen(name), 1024);
  free(name);
  fact.value.size++;
  gives_none("{cert.cn}", &fact, 1, "too long");
  gives_none("cert.cn", &fact, 1, "too long");
  fact.value.size = 600;
  gives_none("{cert.cn}{cert.cn}", &fact, 1, "too long");
}

static void refuses(const char *pattern, const char *expected)
{
  struct error error = {0};
  assert_int_equal(certificate_name_check(pattern, &error), ERR_INVALID);
  if (!strstr(error.text, expected)) fail_msg("%s: %s", pattern, error.text);
}

static void patterns_are_checked_when_they_are_configured(void **state)
{
  (void)state;
  refuses("", "the same user name");
  refuses("ann", "the same user name");
  refuses("cert.nickname", "the same user name");
  refuses("{cert.nickname}", "certificates have no \"cert.nickname\"");
  refuses("{cert.cn", "without its }");
  refuses("{", "without its }");
  refuses("{cert.cn}}", "without its {");
  refuses("cert.cn}", "without its {");
  refuses("{jwt.sub}", "certificates have no");
  refuses("{}.plant.example", "cert.san_dns:{}.plant.example");
  refuses("{}", "matched against");
  refuses("cert.nickname:{}", "certificates have no \"cert.nickname\"");
  refuses("cert.cn:{}{}", "no other braces");
  refuses("cert.cn:{cert.ou}{}", "no other braces");
  refuses("spiffe://plant/{}}", "no other braces");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_fact_s_name_gives_its_first_value),
      cmocka_unit_test(names_in_braces_are_put_together),
      cmocka_unit_test(empty_braces_stand_for_the_name),
      cmocka_unit_test(what_does_not_fit_gives_no_name),
      cmocka_unit_test(parts_of_a_frame_do_not_overlap),
      cmocka_unit_test(names_that_nobody_should_have_are_refused),
      cmocka_unit_test(names_have_a_bound),
      cmocka_unit_test(patterns_are_checked_when_they_are_configured),
  };
  return cmocka_run_group_tests_name("certificate_name", tests, NULL, NULL);
}
