#include "auth/password_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sodium.h>

#include "auth/passwords.h"

// As Mosquitto 2.1 writes it: salt and hash of 64 bytes.
#define MOSQUITTO_2_1                                                                                                       \
  "$argon2id$v=19$m=47104,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg"   \
  "$0nGWzMjUf6oZ8fu++KVWZ307KBwF+7muwVYQDW8cuHnSmGdMHDscax04wks4UJxdtWjhb6cn4MM+XUREOEBN/Q"

// Made with the reference implementation of argon2, with mosquitto_passwd 2.0.11, and with Python's hashlib; the password of
// all is "secret".
static const char *const foreign[] = {
    "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$pbviq+1UUgwZCmLIr4Hgk7mEMsxnRLuOb2HfvIaBwGY",
    "$argon2id$v=19$m=256,t=2,p=4$MDEyMzQ1Njc4OWFiY2RlZg$Fcya4k4B13JITbB2iGsFgnYITGCHoY5HmMv8AoxO1Jg",
    MOSQUITTO_2_1,
    "$7$101$kEglIOvDTgqHNFXO$QlrdxMnlTEsgd7viAvETou0Cw7hIN/0PtK1pBQwT4uweyuqr0hPsXBZzxlrwHXuBHLjBsORtmEViYMdkI+4WgQ==",
    "$7$1000$c2FsdHNhbHRzYWx0$bePzWo/796SGZ2lBKpZcU2FQhQXnjiEADnvU8yLzaxu1BwlSR076rTWeGRrvgBz757DxNPmtAZpVls5xSi9daw==",
    "$6$WdCyY25fH0G+BCNS$cHXBtGbrKKPf8/ZYRi2XIjxlG1I8fDPHT+qI4kNddF/oHVkAkBbhTKNpDz5qpGNog5x1vpMA9Cfw+chbktVOjA==",
};

// "pencil", RFC 7677's salt.
static const char scram[] = "$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
                            "$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

static struct stored_password parse(const char *text)
{
  struct stored_password stored;
  struct error error = {0};
  if (stored_password_parse(span_text(text), &stored, &error) != OK) fail_msg("%s", error.text);
  return stored;
}

static void expect_match(const char *text, const char *password, enum stored_match match)
{
  struct stored_password stored = parse(text);
  assert_int_equal(stored_password_verify(&stored, span_text(password)), match);
}

static void refuse(const char *text, const char *why)
{
  struct stored_password stored;
  struct error error = {0};
  enum status status = stored_password_parse(span_text(text), &stored, &error);
  if (status != ERR_INVALID) fail_msg("accepted: %s", text);
  if (!strstr(error.text, why)) fail_msg("\"%s\" does not say \"%s\"", error.text, why);
}

static void hashes_of_others_are_verified(void **state)
{
  (void)state;
  for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
    expect_match(foreign[i], "secret", STORED_SAME);
    expect_match(foreign[i], "Secret", STORED_DIFFERENT);
    expect_match(foreign[i], "secret ", STORED_DIFFERENT);
    expect_match(foreign[i], "", STORED_DIFFERENT);
  }
}

static void a_scram_verifier_takes_a_plain_password_too(void **state)
{
  (void)state;
  expect_match(scram, "pencil", STORED_SAME);
  expect_match(scram, "pen\u00ADcil", STORED_SAME);  // the same once it is prepared
  expect_match(scram, "pencils", STORED_DIFFERENT);
  expect_match(scram, "\xFF", STORED_DIFFERENT);
  expect_match(scram, "", STORED_DIFFERENT);
}

static void an_absent_password_differs(void **state)
{
  (void)state;
  for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
    struct stored_password stored = parse(foreign[i]);
    assert_int_equal(stored_password_verify(&stored, (struct span){0}), STORED_DIFFERENT);
  }
}

static void what_was_read_is_written_the_same(void **state)
{
  (void)state;
  for (size_t i = 0; i <= sizeof foreign / sizeof foreign[0]; i++) {
    const char *text = i < sizeof foreign / sizeof foreign[0] ? foreign[i] : scram;
    struct stored_password stored = parse(text);
    char *again = stored_password_format(&stored);
    assert_string_equal(again, text);
    free(again);
  }
}

static void no_character_of_a_hash_may_be_cut_or_added(void **state)
{
  (void)state;
  for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
    struct stored_password stored;
    for (size_t size = 0; size < strlen(foreign[i]); size++) {
      enum status status = stored_password_parse(span_of(foreign[i], size), &stored, NULL);
      // Base64 without padding can be cut to a shorter hash, which then is of that size; never to one of less than 16 bytes.
      if (status == OK) assert_true(stored.kind == STORED_ARGON2ID && stored.key_size >= 16);
    }
    char longer[400];
    snprintf(longer, sizeof longer, "%s$", foreign[i]);
    assert_int_equal(stored_password_parse(span_text(longer), &stored, NULL), ERR_INVALID);
    snprintf(longer, sizeof longer, "%s ", foreign[i]);
    assert_int_equal(stored_password_parse(span_text(longer), &stored, NULL), ERR_INVALID);
  }
}

static void what_would_cost_too_much_is_refused(void **state)
{
  (void)state;
#define TAIL "$MDEyMzQ1Njc4OWFiY2RlZg$pbviq+1UUgwZCmLIr4Hgk7mEMsxnRLuOb2HfvIaBwGY"
  (void)parse("$argon2id$v=19$m=262144,t=16,p=1" TAIL);
  refuse("$argon2id$v=19$m=262144,t=17,p=1" TAIL, "t=17");
  refuse("$argon2id$v=19$m=262145,t=1,p=1" TAIL, "m=262145");
  refuse("$argon2id$v=19$m=4294967295,t=1,p=1" TAIL, "256 MiB");
  refuse("$argon2id$v=19$m=64,t=65537,p=1" TAIL, "t=65537");
  refuse("$argon2id$v=19$m=64,t=4294967295,p=1" TAIL, "t=4294967295");
  refuse("$argon2id$v=19$m=256,t=1,p=17" TAIL, "p=17");
  refuse("$argon2id$v=19$m=15,t=1,p=2" TAIL, "m=15");
  refuse("$argon2id$v=19$m=0,t=1,p=1" TAIL, "m=0");
  refuse("$argon2id$v=19$m=64,t=0,p=1" TAIL, "t=0");
  refuse("$argon2id$v=19$m=64,t=1,p=0" TAIL, "p=0");
#define TAIL_64 "$c2FsdHNhbHRzYWx0$bePzWo/796SGZ2lBKpZcU2FQhQXnjiEADnvU8yLzaxu1BwlSR076rTWeGRrvgBz757DxNPmtAZpVls5xSi9daw=="
  (void)parse("$7$10000000" TAIL_64);
  refuse("$7$10000001" TAIL_64, "10000001 iterations");
  refuse("$7$0" TAIL_64, "0 iterations");
  refuse("$7$4294967296" TAIL_64, "damaged");
  refuse("$scram-sha-256$4095$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$"
         "wfPLwcE6nTWhTAmQ7tl2KeoiWGPl"
         "ZqQxSrmfPwDl2dU=",
         "4096 to 10000000");
}

static void damaged_hashes_are_refused(void **state)
{
  (void)state;
  refuse("$argon2id$v=16$m=64,t=1,p=1" TAIL, "damaged");
  refuse("$argon2id$m=64,t=1,p=1" TAIL, "damaged");
  refuse("$argon2id$v=19$t=1,m=64,p=1" TAIL, "damaged");
  refuse("$argon2id$v=19$m=64,t=1,p=1,x=2" TAIL, "damaged");
  refuse("$argon2id$v=19$m=64,t=1,p=1," TAIL, "damaged");
  refuse("$argon2id$v=19$m=064,t=1,p=1" TAIL, "damaged");
  refuse("$argon2id$v=19$m=-1,t=1,p=1" TAIL, "damaged");
  refuse("$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ$pbviq+1UUgwZCmLIr4Hgk7mEMsxnRLuOb2HfvIaBwGY", "damaged");
  refuse("$argon2id$v=19$m=64,t=1,p=1$$", "damaged");
  refuse("$7$+101" TAIL_64, "damaged");
  refuse("$7$101$$bePzWo/796SGZ2lBKpZcU2FQhQXnjiEADnvU8yLzaxu1BwlSR076rTWeGRrvgBz757DxNPmtAZpVls5xSi9daw==", "damaged");
  refuse("$7$101$c2FsdHNhbHRzYWx0$bePzWo", "damaged");
  refuse("$7$101$c2F\xFF\xFF\xFF\xFF"
         "dHNhbHRzYWx0$bePzWo/796SGZ2lBKpZcU2FQhQXnjiEADnvU8yLzaxu1BwlSR076rTWeGRrvgBz757DxNPmtAZpVls5xSi9daw==",
         "damaged");
  refuse("$6$c2FsdHNhbHRzYWx0$bePzWo/7", "crypt(3)");
  refuse("$argon2i$v=19$m=64,t=2,p=1" TAIL, "not known");
  refuse("$2y$10$abcdefghijklmnopqrstuu", "not known");
  refuse("$$", "not known");
  refuse("secret", "not known");
}

static void cost_is_kind_memory_passes_and_lanes(void **state)
{
  (void)state;
  struct stored_password a = parse(foreign[0]), b = parse("$argon2id$v=19$m=64,t=1,p=1" TAIL), c = parse(foreign[1]);
  stored_password_randomise(&b);
  assert_int_equal(stored_password_compare_cost(&a, &b), 0);
  assert_true(stored_password_compare_cost(&a, &c) < 0);
  assert_true(stored_password_compare_cost(&c, &a) > 0);
  struct stored_password pbkdf2 = parse(foreign[3]), dearer = parse(foreign[4]);
  assert_true(stored_password_compare_cost(&pbkdf2, &dearer) < 0);
  assert_true(stored_password_compare_cost(&pbkdf2, &c) > 0);
}

static void random_ones_fit_no_password(void **state)
{
  (void)state;
  for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
    struct stored_password stored = parse(foreign[i]);
    stored_password_randomise(&stored);
    assert_int_equal(stored_password_verify(&stored, span_text("secret")), STORED_DIFFERENT);
    char *text = stored_password_format(&stored);
    struct stored_password again = parse(text);
    assert_int_equal(stored_password_compare_cost(&stored, &again), 0);
    free(text);
  }
}

static char *make(enum password_kind kind, const char *password, const char *like)
{
  char *hash = NULL;
  struct error error = {0};
  enum status status = password_hash(kind, span_text(password), like ? span_text(like) : (struct span){0}, &hash, &error);
  if (status != OK) fail_msg("%s", error.text);
  return hash;
}

static void new_hashes_hold_and_differ(void **state)
{
  (void)state;
  for (int kind = PASSWORD_ARGON2ID; kind <= PASSWORD_SCRAM; kind++) {
    char *first = make((enum password_kind)kind, "grün und blau", NULL),
         *second = make((enum password_kind)kind, "grün und blau", NULL);
    assert_string_not_equal(first, second);
    expect_match(first, "grün und blau", STORED_SAME);
    expect_match(first, "grün und rot", STORED_DIFFERENT);
    free(first);
    free(second);
  }
}

static void new_hashes_cost_what_is_advised(void **state)
{
  (void)state;
  char *text = make(PASSWORD_ARGON2ID, "secret", NULL);
  assert_memory_equal(text, "$argon2id$v=19$m=19456,t=2,p=1$", 31);
  free(text);
  text = make(PASSWORD_SCRAM, "secret", NULL);
  assert_memory_equal(text, "$scram-sha-256$15000$", 21);
  free(text);
}

static void a_new_verifier_can_have_the_salt_of_the_old_one(void **state)
{
  (void)state;
  char *text = make(PASSWORD_SCRAM, "crayon", scram);
  struct stored_password before = parse(scram), after = parse(text);
  assert_int_equal(after.iterations, before.iterations);
  assert_int_equal(after.salt_size, before.salt_size);
  assert_memory_equal(after.salt, before.salt, before.salt_size);
  assert_memory_not_equal(after.key, before.key, before.key_size);
  expect_match(text, "crayon", STORED_SAME);
  free(text);
  text = make(PASSWORD_SCRAM, "crayon", foreign[0]);  // of another kind: nothing to take over
  assert_memory_equal(text, "$scram-sha-256$15000$", 21);
  free(text);
}

static void passwords_that_cannot_be_are_refused(void **state)
{
  (void)state;
  char *hash = NULL;
  assert_int_equal(password_hash(PASSWORD_ARGON2ID, (struct span){0}, (struct span){0}, &hash, NULL), ERR_INVALID);
  assert_int_equal(password_hash(PASSWORD_SCRAM, (struct span){0}, (struct span){0}, &hash, NULL), ERR_INVALID);
  assert_int_equal(password_hash(PASSWORD_SCRAM, span_text("a\tb"), (struct span){0}, &hash, NULL), ERR_INVALID);
  assert_int_equal(password_hash(PASSWORD_SCRAM, span_text("\u00AD"), (struct span){0}, &hash, NULL), ERR_INVALID);
  assert_null(hash);
}

int main(void)
{
  if (sodium_init() < 0) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(hashes_of_others_are_verified),
      cmocka_unit_test(a_scram_verifier_takes_a_plain_password_too),
      cmocka_unit_test(an_absent_password_differs),
      cmocka_unit_test(what_was_read_is_written_the_same),
      cmocka_unit_test(no_character_of_a_hash_may_be_cut_or_added),
      cmocka_unit_test(what_would_cost_too_much_is_refused),
      cmocka_unit_test(damaged_hashes_are_refused),
      cmocka_unit_test(cost_is_kind_memory_passes_and_lanes),
      cmocka_unit_test(random_ones_fit_no_password),
      cmocka_unit_test(new_hashes_hold_and_differ),
      cmocka_unit_test(new_hashes_cost_what_is_advised),
      cmocka_unit_test(a_new_verifier_can_have_the_salt_of_the_old_one),
      cmocka_unit_test(passwords_that_cannot_be_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
