#include "auth/scram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sodium.h>

// RFC 7677, section 3
#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define CLIENT_FIRST "n,,n=user,r=" CLIENT_NONCE
#define SERVER_FIRST "r=" CLIENT_NONCE SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define CLIENT_FINAL "c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=" PROOF
#define PROOF "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static struct scram_verifier verifier_for(const char *password)
{
  struct scram_verifier verifier = {.iterations = 4096, .salt_size = 16};
  size_t size = 0;
  assert_int_equal(sodium_base642bin(verifier.salt, sizeof verifier.salt, "W22ZaJ0SNY7soEsUEjb6gQ==", 24, NULL, &size, NULL,
                                     sodium_base64_VARIANT_ORIGINAL),
                   0);
  assert_true(scram_make_keys(span_text(password), &verifier));
  return verifier;
}

static void expect_text(struct span span, const char *text)
{
  if (span.size != strlen(text) || memcmp(span.at, text, span.size) != 0)
    fail_msg("%.*s is not %s", (int)span.size, (const char *)span.at, text);
}

// Up to the challenge.
static struct scram *challenged(const char *first, const struct scram_verifier *verifiers, size_t count, struct span *out)
{
  struct scram *scram = scram_create();
  assert_non_null(scram);
  const char *why = scram_take_first(scram, span_text(first));
  if (why) fail_msg("%s", why);
  assert_null(scram_challenge(scram, verifiers, count, span_text(SERVER_NONCE), out));
  return scram;
}

static const char *first(const char *message)
{
  struct scram *scram = scram_create();
  const char *why = scram_take_first(scram, span_text(message));
  scram_free(scram);
  return why;
}

static const char * final(const char *message)
{
  struct scram_verifier verifier = verifier_for("pencil");
  struct span out = {0};
  struct scram *scram = challenged(CLIENT_FIRST, &verifier, 1, &out);
  const char *why = scram_take_final(scram, span_text(message), &out);
  scram_free(scram);
  return why;
}

static void expect_why(const char *why, const char *part)
{
  if (!why) fail_msg("accepted; expected \"%s\"", part);
  if (!strstr(why, part)) fail_msg("\"%s\" does not say \"%s\"", why, part);
}

static void the_example_of_the_standard(void **state)
{
  (void)state;
  struct scram_verifier verifier = verifier_for("pencil");
  struct span out = {0};
  struct scram *scram = challenged(CLIENT_FIRST, &verifier, 1, &out);
  expect_text(scram_user(scram), "user");
  expect_text(out, SERVER_FIRST);
  assert_null(scram_take_final(scram, span_text(CLIENT_FINAL), &out));
  expect_text(out, SERVER_FINAL);
  scram_free(scram);
}

static void any_of_the_verifiers_will_do(void **state)
{
  (void)state;
  struct scram_verifier verifiers[] = {verifier_for("crayon"), verifier_for("pencil"), verifier_for("chalk")};
  struct span out = {0};
  struct scram *scram = challenged(CLIENT_FIRST, verifiers, 3, &out);
  assert_null(scram_take_final(scram, span_text(CLIENT_FINAL), &out));
  expect_text(out, SERVER_FINAL);
  scram_free(scram);
}

static void a_wrong_password_is_refused(void **state)
{
  (void)state;
  struct scram_verifier verifiers[] = {verifier_for("crayon"), verifier_for("Pencil")};
  struct span out = {0};
  struct scram *scram = challenged(CLIENT_FIRST, verifiers, 2, &out);
  out = (struct span){0};
  expect_why(scram_take_final(scram, span_text(CLIENT_FINAL), &out), "password is wrong");
  assert_null(out.at);
  scram_free(scram);
}

static void each_bit_of_a_proof_counts(void **state)
{
  (void)state;
  uint8_t proof[32];
  size_t size = 0;
  char text[200], base64[64];
  assert_int_equal(
      sodium_base642bin(proof, sizeof proof, PROOF, strlen(PROOF), NULL, &size, NULL, sodium_base64_VARIANT_ORIGINAL), 0);
  for (size_t bit = 0; bit < 256; bit += 5) {
    proof[bit / 8] ^= (uint8_t)(1u << bit % 8);
    sodium_bin2base64(base64, sizeof base64, proof, sizeof proof, sodium_base64_VARIANT_ORIGINAL);
    snprintf(text, sizeof text, "%s%s", "c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=", base64);
    expect_why(final(text), "password is wrong");
    proof[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
}

static void names_are_unescaped_and_prepared(void **state)
{
  (void)state;
  static const char *const names[][2] = {
      {"n,,n=a=2Cb=3Dc,r=x", "a,b=c"}, {"y,,n=ann,r=x", "ann"},      {"n,,n=a\u00ADnn,r=x", "ann"},
      {"n,,n=a\u00A0b,r=x", "a b"},    {"n,a=ann,n=ann,r=x", "ann"}, {"n,a=a=2Cb,n=a=2Cb,r=x", "a,b"},
      {"n,,n=ann,r=x,e=1,Z=", "ann"},
  };
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    struct scram *scram = scram_create();
    const char *why = scram_take_first(scram, span_text(names[i][0]));
    if (why) fail_msg("%s: %s", names[i][0], why);
    expect_text(scram_user(scram), names[i][1]);
    scram_free(scram);
  }
}

static void first_messages_that_are_none(void **state)
{
  (void)state;
  expect_why(first(""), "empty");
  expect_why(first("p=tls-unique,,n=user,r=x"), "channel binding");
  expect_why(first("n"), "does not begin");
  expect_why(first("n,"), "does not begin");
  expect_why(first("n=user,r=x"), "does not begin");
  expect_why(first("x,,n=user,r=x"), "does not begin");
  expect_why(first("n,b=x,n=user,r=x"), "does not begin");
  expect_why(first("n,a=user"), "does not begin");
  expect_why(first("n,,"), "no user name");
  expect_why(first("n,,r=x"), "no user name");
  expect_why(first("n,,m=x,n=user,r=x"), "extension");
  expect_why(first("n,,n=user"), "no nonce");
  expect_why(first("n,,n=user,r="), "no nonce");
  expect_why(first("n,,n=user,x=y,r=z"), "no nonce");
  expect_why(first("n,,n=user,r=a b"), "no nonce");
  expect_why(first("n,,n=user,r=\x7F"), "no nonce");
  expect_why(first("n,,n=user,r=x,"), "does not end");
  expect_why(first("n,,n=user,r=x,7=y"), "does not end");
  expect_why(first("n,,n=user,r=x,y"), "does not end");
  expect_why(first("n,,n=,r=x"), "user name");
  expect_why(first("n,,n=a=2cb,r=x"), "user name");
  expect_why(first("n,,n=a=,r=x"), "user name");
  expect_why(first("n,,n=a=2,r=x"), "user name");
  expect_why(first("n,,n=a\tb,r=x"), "user name");
  expect_why(first("n,,n=a\xFF,r=x"), "user name");
  expect_why(first("n,,n=\u00AD,r=x"), "user name");
  expect_why(first("n,a=root,n=user,r=x"), "authorisation");
  expect_why(first("n,a=,n=user,r=x"), "authorisation");
}

static void first_messages_have_limits(void **state)
{
  (void)state;
  char *message = malloc(SCRAM_MAX_MESSAGE + 2);
  assert_non_null(message);
  strcpy(message, "n,,n=user,r=x,e=");
  memset(message + strlen(message), 'a', SCRAM_MAX_MESSAGE - 16);
  message[SCRAM_MAX_MESSAGE] = '\0';
  assert_null(first(message));
  strcpy(message + SCRAM_MAX_MESSAGE, "a");
  expect_why(first(message), "too long");
  strcpy(message, "n,,n=user,r=");
  memset(message + 12, 'r', SCRAM_MAX_NONCE);
  message[12 + SCRAM_MAX_NONCE] = '\0';
  assert_null(first(message));
  strcpy(message + 12 + SCRAM_MAX_NONCE, "r");
  expect_why(first(message), "nonce");
  free(message);
}

static void second_messages_that_are_none(void **state)
{
  (void)state;
  static const char good[] = CLIENT_FINAL;
  assert_null(final(good));
  expect_why(final(""), "is not one");
  expect_why(final("c=biws"), "is not one");
  expect_why(final("c=biws,p=" PROOF), "is not one");
  expect_why(final("r=" CLIENT_NONCE SERVER_NONCE ",p=" PROOF), "is not one");
  expect_why(final("c=biws,r=" CLIENT_NONCE SERVER_NONCE), "is not one");
  expect_why(final("c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=" PROOF ",e=x"), "is not one");
  expect_why(final("c=biws,r=" CLIENT_NONCE SERVER_NONCE ",,p=" PROOF), "is not one");
  expect_why(final("c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p="), "proof");
  expect_why(final("c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=biws"), "proof");
  expect_why(final("c=biws,r=" CLIENT_NONCE SERVER_NONCE ",p=" PROOF "="), "proof");
  expect_why(final("c=eSws,r=" CLIENT_NONCE SERVER_NONCE ",p=" PROOF), "repeat");
  expect_why(final("c=,r=" CLIENT_NONCE SERVER_NONCE ",p=" PROOF), "repeat");
  expect_why(final("c=biwsYQ==,r=" CLIENT_NONCE SERVER_NONCE ",p=" PROOF), "repeat");
  expect_why(final("c=biws,r=" CLIENT_NONCE ",p=" PROOF), "nonce");
  expect_why(final("c=biws,r=" CLIENT_NONCE SERVER_NONCE "x,p=" PROOF), "nonce");
  expect_why(final("c=biws,r=x" CLIENT_NONCE SERVER_NONCE ",p=" PROOF), "nonce");
  // Signed as well: another message, another proof.
  expect_why(final("c=biws,r=" CLIENT_NONCE SERVER_NONCE ",e=x,p=" PROOF), "password is wrong");
}

static void every_cut_of_a_message_is_refused(void **state)
{
  (void)state;
  static const char good[] = CLIENT_FINAL;
  char cut[sizeof good];
  for (size_t size = 0; size < sizeof good - 1; size++) {
    memcpy(cut, good, size);
    cut[size] = '\0';
    assert_non_null(final(cut));
  }
}

static void messages_come_in_their_order_and_once(void **state)
{
  (void)state;
  struct scram_verifier verifier = verifier_for("pencil");
  struct span out = {0};
  struct scram *scram = scram_create();
  expect_why(scram_take_final(scram, span_text(CLIENT_FINAL), &out), "not due");
  assert_null(scram_take_first(scram, span_text(CLIENT_FIRST)));
  expect_why(scram_take_first(scram, span_text(CLIENT_FIRST)), "not due");
  scram_free(scram);

  scram = challenged(CLIENT_FIRST, &verifier, 1, &out);
  expect_why(scram_take_final(scram, span_text("c=biws"), &out), "not one");
  expect_why(scram_take_final(scram, span_text(CLIENT_FINAL), &out), "not due");
  scram_free(scram);

  scram = challenged(CLIENT_FIRST, &verifier, 1, &out);
  assert_null(scram_take_final(scram, span_text(CLIENT_FINAL), &out));
  expect_why(scram_take_final(scram, span_text(CLIENT_FINAL), &out), "not due");
  scram_free(scram);
  scram_free(NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_example_of_the_standard),       cmocka_unit_test(any_of_the_verifiers_will_do),
      cmocka_unit_test(a_wrong_password_is_refused),       cmocka_unit_test(each_bit_of_a_proof_counts),
      cmocka_unit_test(names_are_unescaped_and_prepared),  cmocka_unit_test(first_messages_that_are_none),
      cmocka_unit_test(first_messages_have_limits),        cmocka_unit_test(second_messages_that_are_none),
      cmocka_unit_test(every_cut_of_a_message_is_refused), cmocka_unit_test(messages_come_in_their_order_and_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
