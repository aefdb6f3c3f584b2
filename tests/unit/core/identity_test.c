// Identities: whole copies, counted.
#include "test.h"

#include "core/identity.h"

static const struct span groups[] = {
    {(const uint8_t *)"operators", 9}, {(const uint8_t *)"", 0}, {(const uint8_t *)"night", 5}};
static const struct identity_fact facts[] = {
    {{(const uint8_t *)"cert.cn", 7}, {(const uint8_t *)"pump-7", 6}},
    {{(const uint8_t *)"jwt.site", 8}, {(const uint8_t *)"oslo", 4}},
    {{(const uint8_t *)"jwt.site", 8}, {(const uint8_t *)"bergen", 6}},
};

static void a_copy_has_everything_of_its_own(void **state)
{
  (void)state;
  char user[] = "ann", listener[] = "mqtts://0.0.0.0:8883";
  const struct identity parts = {.user = span_text(user),
                                 .method = "cert",
                                 .listener = span_text(listener),
                                 .groups = groups,
                                 .group_count = 3,
                                 .facts = facts,
                                 .fact_count = 3,
                                 .expires_ms = 1234567890123};
  const struct identity *identity = identity_create(&parts);
  assert_non_null(identity);
  memset(user, 'x', sizeof user);
  memset(listener, 'x', sizeof listener);
  assert_span_text(identity->user, "ann");
  assert_string_equal((const char *)identity->user.at, "ann");
  assert_string_equal((const char *)identity->listener.at, "mqtts://0.0.0.0:8883");
  assert_string_equal(identity->method, "cert");
  assert_int_equal(identity->expires_ms, 1234567890123);
  assert_int_equal(identity->group_count, 3);
  assert_ptr_not_equal(identity->groups, groups);
  for (size_t i = 0; i < 3; i++) {
    assert_true(span_equal(identity->groups[i], groups[i]));
    assert_ptr_not_equal(identity->groups[i].at, groups[i].at);
    assert_int_equal(identity->groups[i].at[groups[i].size], 0);
    assert_true(span_equal(identity->facts[i].name, facts[i].name));
    assert_true(span_equal(identity->facts[i].value, facts[i].value));
    assert_int_equal(identity->facts[i].value.at[facts[i].value.size], 0);
  }
  identity_unref(identity);
}

static void nothing_is_an_identity_too(void **state)
{
  (void)state;
  const struct identity *identity = identity_create(&(struct identity){.method = "anonymous"});
  assert_non_null(identity);
  assert_int_equal(identity->user.size, 0);
  assert_string_equal((const char *)identity->user.at, "");
  assert_int_equal(identity->group_count, 0);
  assert_null(identity_find(identity, span_text("cert.cn")).at);
  identity_unref(identity);
  assert_null(identity_ref(NULL));
  identity_unref(NULL);
}

static void the_last_reference_frees_it(void **state)
{
  (void)state;
  const struct identity *identity = identity_create(&(struct identity){.user = span_text("ann")});
  assert_ptr_equal(identity_ref(identity), identity);
  identity_unref(identity);
  assert_span_text(identity->user, "ann");  // a sanitizer would tell
  identity_unref(identity);
}

static void a_fact_is_found_by_its_name(void **state)
{
  (void)state;
  const struct identity *identity = identity_create(&(struct identity){.facts = facts, .fact_count = 3});
  assert_span_text(identity_find(identity, span_text("cert.cn")), "pump-7");
  assert_span_text(identity_find(identity, span_text("jwt.site")), "oslo");
  assert_null(identity_find(identity, span_text("jwt.sit")).at);
  assert_null(identity_find(identity, span_text("")).at);
  identity_unref(identity);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_copy_has_everything_of_its_own),
      cmocka_unit_test(nothing_is_an_identity_too),
      cmocka_unit_test(the_last_reference_frees_it),
      cmocka_unit_test(a_fact_is_found_by_its_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
