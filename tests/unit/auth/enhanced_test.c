// Whole exchanges, with a client of the test's own that knows the standard only (RFC 5802, section 3) and computes with
// libsodium.
#include "auth/enhanced.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sodium.h>

// "pencil" and "crayon" with one salt.
#define SALT "$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ=="
#define PENCIL SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define CRAYON SALT "$0t5b4oF2tQeSKpSUzRoqnrGCIiYINpEXwahzgpe5RCc=$4U8zylKANWQGsA9e+VLOGsj4E77bo4erneYJu/UpIY0="

static const struct wall now = {.ms = 1000000};
static const char secret[] = "of the broker";

static struct passwords *file(const char *text)
{
  struct passwords *passwords = NULL;
  struct error error = {0};
  if (passwords_parse(span_text(text), "passwd", &passwords, &error) != OK) fail_msg("%s", error.text);
  return passwords;
}

// ---- The client

struct client {
  char first[128];      // without "n,,"
  char challenge[256];  // what the server said
  char final[512];
  char expected[80];  // what the server has to prove
};

static void hmac_sha256(const uint8_t key[32], const void *text, size_t size, uint8_t out[32])
{
  crypto_auth_hmacsha256(out, text, size, key);
}

// PBKDF2 with one block, as written in the standard.
static void salt_password(const char *password, const uint8_t *salt, size_t salt_size, unsigned iterations, uint8_t out[32])
{
  crypto_auth_hmacsha256_state state;
  uint8_t round[32];
  static const uint8_t one[4] = {0, 0, 0, 1};
  crypto_auth_hmacsha256_init(&state, (const uint8_t *)password, strlen(password));
  crypto_auth_hmacsha256_update(&state, salt, salt_size);
  crypto_auth_hmacsha256_update(&state, one, sizeof one);
  crypto_auth_hmacsha256_final(&state, round);
  memcpy(out, round, 32);
  for (unsigned i = 1; i < iterations; i++) {
    crypto_auth_hmacsha256_init(&state, (const uint8_t *)password, strlen(password));
    crypto_auth_hmacsha256_update(&state, round, sizeof round);
    crypto_auth_hmacsha256_final(&state, round);
    for (size_t k = 0; k < 32; k++) out[k] ^= round[k];
  }
}

// Answers client->challenge.
static void answer(struct client *client, const char *password)
{
  char nonce[128], salt_text[128], without_proof[200], text[800], proof_text[64], signature_text[64];
  unsigned iterations = 0;
  uint8_t salt[64], salted[32], key[32], stored[32], signature[32], server_key[32];
  size_t salt_size = 0;
  assert_int_equal(sscanf(client->challenge, "r=%127[^,],s=%127[^,],i=%u", nonce, salt_text, &iterations), 3);
  assert_int_equal(sodium_base642bin(salt, sizeof salt, salt_text, strlen(salt_text), NULL, &salt_size, NULL,
                                     sodium_base64_VARIANT_ORIGINAL),
                   0);
  salt_password(password, salt, salt_size, iterations, salted);
  snprintf(without_proof, sizeof without_proof, "c=biws,r=%s", nonce);
  int size = snprintf(text, sizeof text, "%s,%s,%s", client->first, client->challenge, without_proof);
  hmac_sha256(salted, "Client Key", 10, key);
  crypto_hash_sha256(stored, key, sizeof key);
  hmac_sha256(stored, text, (size_t)size, signature);
  for (size_t i = 0; i < 32; i++) key[i] ^= signature[i];
  sodium_bin2base64(proof_text, sizeof proof_text, key, 32, sodium_base64_VARIANT_ORIGINAL);
  snprintf(client->final, sizeof client->final, "%s,p=%s", without_proof, proof_text);
  hmac_sha256(salted, "Server Key", 10, server_key);
  hmac_sha256(server_key, text, (size_t)size, signature);
  sodium_bin2base64(signature_text, sizeof signature_text, signature, 32, sodium_base64_VARIANT_ORIGINAL);
  snprintf(client->expected, sizeof client->expected, "v=%s", signature_text);
}

// ---- The server

static enum mqtt_reason step(struct enhanced *exchange, const struct passwords *passwords, const char *data, char *out,
                             size_t room, const char **why)
{
  uint8_t *bytes = NULL;
  size_t size = 0;
  enum mqtt_reason reason = enhanced_step(exchange, passwords, span_text(secret), now, span_text(data), &bytes, &size, why);
  assert_true(size < room);
  if (bytes) memcpy(out, bytes, size);
  out[size] = '\0';
  assert_int_equal(bytes != NULL, reason == MQTT_SUCCESS || reason == MQTT_CONTINUE_AUTHENTICATION);
  free(bytes);
  return reason;
}

// One exchange; why it failed, or NULL. The challenge stays in *client.
static const char *log_in(const struct passwords *passwords, const char *user, const char *password, struct client *client)
{
  struct enhanced *exchange = enhanced_begin(span_text("SCRAM-SHA-256"));
  const char *why = NULL;
  char first[200], last[200];
  assert_non_null(exchange);
  snprintf(client->first, sizeof client->first, "n=%s,r=fyko+d2lbbFgONRv9qkxdawL", user);
  snprintf(first, sizeof first, "n,,%s", client->first);
  assert_int_equal(step(exchange, passwords, first, client->challenge, sizeof client->challenge, &why),
                   MQTT_CONTINUE_AUTHENTICATION);
  answer(client, password);
  enum mqtt_reason reason = step(exchange, passwords, client->final, last, sizeof last, &why);
  assert_int_equal(reason, why ? MQTT_NOT_AUTHORIZED : MQTT_SUCCESS);
  if (!why) {
    assert_string_equal(last, client->expected);
    assert_true(span_equal(enhanced_user(exchange), span_text(user)));
  }
  enhanced_free(exchange);
  return why;
}

static void only_scram_sha_256_is_known(void **state)
{
  (void)state;
  assert_true(enhanced_knows(span_text("SCRAM-SHA-256")));
  const char *const others[] = {"", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256", "PLAIN", "K5"};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    assert_false(enhanced_knows(span_text(others[i])));
    assert_null(enhanced_begin(span_text(others[i])));
  }
  enhanced_free(NULL);
}

static void who_has_the_password_comes_in(void **state)
{
  (void)state;
  struct client client;
  struct passwords *passwords = file("ann:" PENCIL "\nbob:" CRAYON "\n");
  assert_null(log_in(passwords, "ann", "pencil", &client));
  assert_null(log_in(passwords, "bob", "crayon", &client));
  assert_string_equal(log_in(passwords, "ann", "crayon", &client), "the password is wrong, or there is no such user");
  passwords_unref(passwords);
}

static void while_passwords_rotate_both_hold(void **state)
{
  (void)state;
  struct client client;
  struct passwords *passwords = file("ann:" PENCIL ":until=1970-01-01T00:17:00Z\nann:" CRAYON "\n");
  assert_null(log_in(passwords, "ann", "pencil", &client));
  assert_null(log_in(passwords, "ann", "crayon", &client));
  assert_non_null(log_in(passwords, "ann", "chalk", &client));
  passwords_unref(passwords);
  passwords = file("ann:" PENCIL ":until=1970-01-01T00:16:39Z\nann:" CRAYON "\n");
  assert_non_null(log_in(passwords, "ann", "pencil", &client));
  assert_null(log_in(passwords, "ann", "crayon", &client));
  passwords_unref(passwords);
}

static void who_does_not_exist_is_refused_at_the_end_only(void **state)
{
  (void)state;
  struct client client, again;
  struct passwords *passwords = file("ann:" PENCIL "\n");
  assert_string_equal(log_in(passwords, "eve", "pencil", &client), "the password is wrong, or there is no such user");
  assert_non_null(log_in(passwords, "eve", "crayon", &again));
  const char *salt = strstr(client.challenge, ",s=");
  assert_non_null(salt);
  assert_string_equal(salt, strstr(again.challenge, ",s="));
  assert_non_null(strstr(salt, ",i=4096"));
  passwords_unref(passwords);
}

static void a_user_without_a_verifier_is_refused(void **state)
{
  (void)state;
  struct client client;
  struct passwords *passwords =
      file("ann:$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$pbviq+1UUgwZCmLIr4Hgk7mEMsxnRLuOb2HfvIaBwGY\n");
  assert_non_null(log_in(passwords, "ann", "secret", &client));
  passwords_unref(passwords);
}

static void nonces_differ_and_begin_with_the_clients(void **state)
{
  (void)state;
  struct client client, again;
  struct passwords *passwords = file("ann:" PENCIL "\n");
  assert_null(log_in(passwords, "ann", "pencil", &client));
  assert_null(log_in(passwords, "ann", "pencil", &again));
  static const char begin[] = "r=fyko+d2lbbFgONRv9qkxdawL";
  assert_memory_equal(client.challenge, begin, sizeof begin - 1);
  assert_memory_not_equal(client.challenge + sizeof begin - 1, again.challenge + sizeof begin - 1, 24);
  assert_int_equal(client.challenge[sizeof begin - 1 + 24], ',');
  passwords_unref(passwords);
}

static void an_answer_cannot_be_used_again(void **state)
{
  (void)state;
  struct client client;
  struct passwords *passwords = file("ann:" PENCIL "\n");
  assert_null(log_in(passwords, "ann", "pencil", &client));
  struct enhanced *exchange = enhanced_begin(span_text("SCRAM-SHA-256"));
  const char *why = NULL;
  char first[200], out[300];
  snprintf(first, sizeof first, "n,,%s", client.first);
  assert_int_equal(step(exchange, passwords, first, out, sizeof out, &why), MQTT_CONTINUE_AUTHENTICATION);
  assert_int_equal(step(exchange, passwords, client.final, out, sizeof out, &why), MQTT_NOT_AUTHORIZED);
  assert_string_equal(why, "the nonce of the second SCRAM message is not ours");
  assert_int_equal(step(exchange, passwords, client.final, out, sizeof out, &why), MQTT_NOT_AUTHORIZED);
  enhanced_free(exchange);
  passwords_unref(passwords);
}

static void what_is_not_scram_is_refused(void **state)
{
  (void)state;
  struct passwords *passwords = file("ann:" PENCIL "\n");
  const char *const messages[] = {"", "hello", "n,,", "p=tls-unique,,n=ann,r=x", "n,a=bob,n=ann,r=x"};
  for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
    struct enhanced *exchange = enhanced_begin(span_text("SCRAM-SHA-256"));
    const char *why = NULL;
    char out[300];
    assert_int_equal(step(exchange, passwords, messages[i], out, sizeof out, &why), MQTT_NOT_AUTHORIZED);
    assert_non_null(why);
    assert_int_equal(step(exchange, passwords, "n,,n=ann,r=x", out, sizeof out, &why), MQTT_NOT_AUTHORIZED);
    enhanced_free(exchange);
  }
  passwords_unref(passwords);
}

int main(void)
{
  if (sodium_init() < 0) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_scram_sha_256_is_known),
      cmocka_unit_test(who_has_the_password_comes_in),
      cmocka_unit_test(while_passwords_rotate_both_hold),
      cmocka_unit_test(who_does_not_exist_is_refused_at_the_end_only),
      cmocka_unit_test(a_user_without_a_verifier_is_refused),
      cmocka_unit_test(nonces_differ_and_begin_with_the_clients),
      cmocka_unit_test(an_answer_cannot_be_used_again),
      cmocka_unit_test(what_is_not_scram_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
