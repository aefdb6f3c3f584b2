#include "auth/password_hash.h"
#include "auth/passwords.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

// "secret" and "other", cheap.
#define SECRET "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$pbviq+1UUgwZCmLIr4Hgk7mEMsxnRLuOb2HfvIaBwGY"
#define OTHER "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$mBjBThf4w328/fIyPhfjZpKRuIO7E/fmk9eAByMrTLY"
// By mosquitto_passwd 2.0.11, "secret".
#define PBKDF2                                                                                                              \
  "$7$101$kEglIOvDTgqHNFXO$QlrdxMnlTEsgd7viAvETou0Cw7hIN/0PtK1pBQwT4uweyuqr0hPsXBZzxlrwHXuBHLjBsORtmEViYMdkI+4WgQ=="
#define SHA512 "$6$WdCyY25fH0G+BCNS$cHXBtGbrKKPf8/ZYRi2XIjxlG1I8fDPHT+qI4kNddF/oHVkAkBbhTKNpDz5qpGNog5x1vpMA9Cfw+chbktVOjA=="
// "pencil" and "crayon" with one salt, "pencil" with another.
#define SALT "$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ=="
#define PENCIL SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define CRAYON SALT "$0t5b4oF2tQeSKpSUzRoqnrGCIiYINpEXwahzgpe5RCc=$4U8zylKANWQGsA9e+VLOGsj4E77bo4erneYJu/UpIY0="
#define PENCIL_5000                                                                                                         \
  "$scram-sha-256$5000$MDEyMzQ1Njc4OWFiY2RlZg==$NFclZtJfXo2b1iF1eMe0hvrU383RztZoSkWUbV7IXSg="                               \
  "$GYHelFYFSv061GIceNq82EuSqL7KcOzgR7kWUkYxZOA="

static const struct wall now = {.ms = 1000000};

static struct passwords *parse(const char *text)
{
  struct passwords *passwords = NULL;
  struct error error = {0};
  if (passwords_parse(span_text(text), "passwd.txt", &passwords, &error) != OK) fail_msg("%s", error.text);
  return passwords;
}

static enum password_answer verify(const struct passwords *passwords, const char *user, const char *password)
{
  return passwords_verify(passwords, span_text(user), span_text(password), now);
}

static void refuse(const char *text, const char *why)
{
  struct passwords *passwords = NULL;
  struct error error = {0};
  assert_int_equal(passwords_parse(span_text(text), "passwd.txt", &passwords, &error), ERR_INVALID);
  if (!strstr(error.text, why)) fail_msg("\"%s\" does not say \"%s\"", error.text, why);
  assert_null(passwords);
}

static void lines_of_mosquitto_are_read_as_they_are(void **state)
{
  (void)state;
  struct passwords *passwords = parse("# users\nann:" PBKDF2 "\r\nbob:" SHA512 "\n\ncho:" SECRET);
  assert_int_equal(passwords_users(passwords), 3);
  const char *const users[] = {"ann", "bob", "cho"};
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(verify(passwords, users[i], "secret"), PASSWORD_RIGHT);
    assert_int_equal(verify(passwords, users[i], "wrong"), PASSWORD_WRONG);
    assert_int_equal(verify(passwords, users[i], ""), PASSWORD_WRONG);
    assert_null(passwords_groups(passwords, span_text(users[i])));
  }
  assert_int_equal(verify(passwords, "an", "secret"), PASSWORD_UNKNOWN_USER);
  assert_int_equal(verify(passwords, "annn", "secret"), PASSWORD_UNKNOWN_USER);
  assert_int_equal(verify(passwords, "", "secret"), PASSWORD_UNKNOWN_USER);
  passwords_unref(passwords);
}

static void an_empty_file_lets_nobody_in(void **state)
{
  (void)state;
  struct passwords *passwords = parse("# nobody\n");
  assert_int_equal(passwords_users(passwords), 0);
  assert_int_equal(verify(passwords, "ann", "secret"), PASSWORD_UNKNOWN_USER);
  passwords_unref(passwords);
}

static void two_passwords_hold_until_the_old_one_ends(void **state)
{
  (void)state;
  struct passwords *passwords = parse("ann:" SECRET ":until=1970-01-01T00:17:00Z\nann:" OTHER "\n");
  struct span ann = span_text("ann"), secret = span_text("secret"), other = span_text("other");
  const struct wall last = {.ms = 1020000}, over = {.ms = 1020001};
  assert_int_equal(passwords_users(passwords), 1);
  assert_int_equal(passwords_verify(passwords, ann, secret, last), PASSWORD_RIGHT);
  assert_int_equal(passwords_verify(passwords, ann, secret, over), PASSWORD_WRONG);
  assert_int_equal(passwords_verify(passwords, ann, other, last), PASSWORD_RIGHT);
  assert_int_equal(passwords_verify(passwords, ann, other, over), PASSWORD_RIGHT);
  assert_int_equal(passwords_verify(passwords, ann, span_text("x"), last), PASSWORD_WRONG);
  passwords_unref(passwords);
}

static void a_user_whose_lines_have_all_ended_is_not_let_in(void **state)
{
  (void)state;
  struct passwords *passwords = parse("ann:" SECRET ":until=1970-01-01T00:00:01Z\n");
  assert_int_equal(verify(passwords, "ann", "secret"), PASSWORD_WRONG);
  passwords_unref(passwords);
}

static void groups_of_all_lines_of_a_user_count_once(void **state)
{
  (void)state;
  struct passwords *passwords =
      parse("ann:" SECRET ":groups=ops,line-7\nbob:" SECRET "\nann:" OTHER ":groups=line-7,night\n");
  assert_true(passwords_know(passwords, span_text("ann")));
  assert_false(passwords_know(passwords, span_text("an")));
  const char *const *groups = passwords_groups(passwords, span_text("ann"));
  assert_non_null(groups);
  assert_string_equal(groups[0], "ops");
  assert_string_equal(groups[1], "line-7");
  assert_string_equal(groups[2], "night");
  assert_null(groups[3]);
  assert_null(passwords_groups(passwords, span_text("bob")));
  assert_null(passwords_groups(passwords, span_text("eve")));
  passwords_unref(passwords);
}

static void mistakes_are_told_with_their_line(void **state)
{
  (void)state;
  refuse("ann:" SECRET "\n\nbob:hunter2\n", "passwd.txt:3: no hash follows");
  refuse("ann\n", "passwd.txt:1: ");
  refuse("ann:" SECRET ":until=soon", "passwd.txt:1: until= needs");
  refuse("# x\r\nann:$7$99999999$c2FsdA==$YQ==", "passwd.txt:2: ");
  refuse("ann:$argon2id$v=19$m=1048576,t=4,p=1$MDEyMzQ1Njc4OWFiY2RlZg$pbviq+1UUgwZCmLIr4Hgk7mEMsxnRLuOb2HfvIaBwGY",
         "passwd.txt:1: the argon2id hash has m=1048576");
}

static void a_user_has_a_bounded_number_of_lines(void **state)
{
  (void)state;
  char text[4096] = "";
  for (int i = 0; i < PASSWORDS_PER_USER; i++) strcat(text, "ann:" SECRET "\n");
  struct passwords *passwords = parse(text);
  passwords_unref(passwords);
  strcat(text, "bob:" SECRET "\nann:" OTHER "\n");
  refuse(text, "passwd.txt:10: the user has more than 8 lines");
}

// Against the dumbest way to find one: all of them, one after the other.
static void many_users_are_all_found(void **state)
{
  (void)state;
  enum { USERS = 3000 };
  char *text = malloc((size_t)USERS * 200), name[32];
  assert_non_null(text);
  size_t size = 0;
  for (unsigned i = 0; i < USERS; i++)
    size +=
        (size_t)sprintf(text + size, "user%u:%s:groups=g%u\n", i * 7919 % USERS, i % 2 ? SECRET : OTHER, i * 7919 % USERS);
  struct passwords *passwords = parse(text);
  assert_int_equal(passwords_users(passwords), USERS);
  for (unsigned i = 0; i < USERS; i++) {
    snprintf(name, sizeof name, "user%u", i);
    const char *const *groups = passwords_groups(passwords, span_text(name));
    assert_non_null(groups);
    assert_string_equal(groups[0] + 1, name + 4);
  }
  for (unsigned i = 0; i < 40; i++) {
    snprintf(name, sizeof name, "user%u", i * 7919 % USERS);
    assert_int_equal(verify(passwords, name, i % 2 ? "secret" : "other"), PASSWORD_RIGHT);
    assert_int_equal(verify(passwords, name, i % 2 ? "other" : "secret"), PASSWORD_WRONG);
  }
  passwords_unref(passwords);
  free(text);
}

// What verifications cost is told by the hashes that they compute: the linker puts this in front of the real function.
static struct stored_password first_hashed;
static size_t hashes;

enum stored_match __real_stored_password_verify(const struct stored_password *stored, struct span password);
enum stored_match __wrap_stored_password_verify(const struct stored_password *stored, struct span password);

enum stored_match __wrap_stored_password_verify(const struct stored_password *stored, struct span password)
{
  if (hashes++ == 0) first_hashed = *stored;
  return __real_stored_password_verify(stored, password);
}

static void assert_costs_one(const struct passwords *passwords, const char *user, const char *hash)
{
  struct stored_password like;
  struct error error;
  assert_int_equal(stored_password_parse(span_text(hash), &like, &error), OK);
  hashes = 0;
  assert_int_not_equal(verify(passwords, user, "wrong"), PASSWORD_RIGHT);
  assert_int_equal(hashes, 1);
  assert_int_equal(stored_password_compare_cost(&first_hashed, &like), 0);
}

static void an_unknown_user_costs_as_much_as_a_known_one(void **state)
{
  (void)state;
#define DEAR                                                                                                                \
  "$7$60000$c2FsdHNhbHRzYWx0$bePzWo/796SGZ2lBKpZcU2FQhQXnjiEADnvU8yLzaxu1BwlSR076rTWeGRrvgBz757DxNPmtAZpVls5xSi9daw=="
  struct passwords *passwords =
      parse("ann:" DEAR "\nbob:" DEAR "\ncho:" SECRET "\ndan:" DEAR ":until=1970-01-01T00:00:01Z\n");
  assert_costs_one(passwords, "ann", DEAR);
  assert_costs_one(passwords, "eve", DEAR);  // is not there
  assert_costs_one(passwords, "dan", DEAR);  // has ended
  assert_costs_one(passwords, "cho", SECRET);
  passwords_unref(passwords);

  // Who is not there costs what most cost.
  passwords = parse("ann:" SECRET "\nbob:" DEAR "\ncho:" SECRET "\n");
  assert_costs_one(passwords, "eve", SECRET);
  passwords_unref(passwords);
}

static void references_keep_it(void **state)
{
  (void)state;
  struct passwords *passwords = parse("ann:" SECRET "\n");
  assert_ptr_equal(passwords_ref(passwords), passwords);
  passwords_unref(passwords);
  assert_int_equal(verify(passwords, "ann", "secret"), PASSWORD_RIGHT);
  passwords_unref(passwords);
  assert_null(passwords_ref(NULL));
  passwords_unref(NULL);
}

// ---- Files

static void files_are_loaded_or_refused_with_their_name(void **state)
{
  (void)state;
  char directory[] = "/tmp/skerry-passwords-XXXXXX", path[64], other[64];
  struct passwords *passwords = NULL;
  struct error error = {0};
  assert_non_null(mkdtemp(directory));
  snprintf(path, sizeof path, "%s/passwd", directory);
  snprintf(other, sizeof other, "%s/fifo", directory);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs("ann:" SECRET "\n", file);
  fclose(file);
  assert_int_equal(passwords_load(path, &passwords, &error), OK);
  assert_int_equal(verify(passwords, "ann", "secret"), PASSWORD_RIGHT);
  passwords_unref(passwords);

  file = fopen(path, "a");
  fputs("bob\n", file);
  fclose(file);
  assert_int_equal(passwords_load(path, &passwords, &error), ERR_INVALID);
  assert_memory_equal(error.text, path, strlen(path));
  assert_memory_equal(error.text + strlen(path), ":2: ", 4);

  assert_int_equal(truncate(path, PASSWORDS_MAX_FILE_BYTES + 1), 0);
  assert_int_equal(passwords_load(path, &passwords, &error), ERR_LIMIT);
  assert_int_equal(mkfifo(other, 0600), 0);
  assert_int_equal(passwords_load(other, &passwords, &error), ERR_INVALID);
  assert_int_equal(passwords_load(directory, &passwords, &error), ERR_INVALID);
  unlink(other);
  unlink(path);
  assert_int_equal(passwords_load(path, &passwords, &error), ERR_NOT_FOUND);
  assert_non_null(strstr(error.text, "No such file or directory: expected a password file"));
  rmdir(directory);
}

// ---- SCRAM

static const char broker_secret[] = "0123456789abcdef0123456789abcdef";

static size_t scram(const struct passwords *passwords, const char *user, int64_t ms, struct scram_verifier *out)
{
  return passwords_scram(passwords, span_text(user), span_text(broker_secret), (struct wall){ms}, out);
}

static void verifiers_with_one_salt_hold_together(void **state)
{
  (void)state;
  struct scram_verifier out[PASSWORDS_PER_USER];
  struct passwords *passwords =
      parse("ann:" PENCIL ":until=1970-01-01T00:17:00Z\nann:" SECRET "\nann:" CRAYON "\nbob:" PENCIL_5000 "\n");
  assert_int_equal(scram(passwords, "ann", 0, out), 2);
  assert_int_equal(out[0].iterations, 4096);
  assert_int_equal(out[0].salt_size, 16);
  assert_memory_equal(out[0].salt, out[1].salt, 16);
  assert_memory_not_equal(out[0].stored_key, out[1].stored_key, 32);
  assert_int_equal(scram(passwords, "ann", 1020001, out), 1);
  assert_int_equal(scram(passwords, "bob", 0, out), 1);
  assert_int_equal(out[0].iterations, 5000);
  passwords_unref(passwords);
}

static void of_several_salts_the_one_that_holds_longest_is_told(void **state)
{
  (void)state;
  struct scram_verifier out[PASSWORDS_PER_USER];
  struct passwords *passwords = parse("ann:" PENCIL_5000 "\nann:" CRAYON ":until=1970-01-01T00:17:00Z\n");
  assert_int_equal(scram(passwords, "ann", 0, out), 1);
  assert_int_equal(out[0].iterations, 5000);
  passwords_unref(passwords);
  passwords = parse("ann:" PENCIL_5000 "\nann:" CRAYON "\n");  // neither ends: the later line
  assert_int_equal(scram(passwords, "ann", 0, out), 1);
  assert_int_equal(out[0].iterations, 4096);
  passwords_unref(passwords);
}

static void who_does_not_exist_gets_the_same_salt_each_time(void **state)
{
  (void)state;
  struct scram_verifier out[PASSWORDS_PER_USER], again[PASSWORDS_PER_USER];
  struct passwords *passwords = parse("ann:" PENCIL_5000 "\nbob:" SECRET "\ncho:" SECRET "\n");
  assert_int_equal(scram(passwords, "eve", 0, out), 0);
  assert_int_equal(scram(passwords, "eve", 5, again), 0);
  assert_int_equal(out[0].iterations, 5000);
  assert_int_equal(out[0].salt_size, 16);
  assert_memory_equal(out[0].salt, again[0].salt, 16);
  assert_memory_not_equal(out[0].stored_key, again[0].stored_key, 32);  // nobody can have it
  assert_int_equal(scram(passwords, "mallory", 0, again), 0);
  assert_memory_not_equal(out[0].salt, again[0].salt, 16);
  assert_int_equal(passwords_scram(passwords, span_text("eve"), span_text("another secret"), now, again), 0);
  assert_memory_not_equal(out[0].salt, again[0].salt, 16);
  assert_int_equal(scram(passwords, "bob", 0, out), 0);  // known, but without a verifier
  assert_int_equal(out[0].salt_size, 16);
  passwords_unref(passwords);
}

static void a_scram_line_is_a_password_too(void **state)
{
  (void)state;
  struct passwords *passwords = parse("ann:" PENCIL "\n");
  assert_int_equal(verify(passwords, "ann", "pencil"), PASSWORD_RIGHT);
  assert_int_equal(verify(passwords, "ann", "crayon"), PASSWORD_WRONG);
  passwords_unref(passwords);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_of_mosquitto_are_read_as_they_are),
      cmocka_unit_test(an_empty_file_lets_nobody_in),
      cmocka_unit_test(two_passwords_hold_until_the_old_one_ends),
      cmocka_unit_test(a_user_whose_lines_have_all_ended_is_not_let_in),
      cmocka_unit_test(groups_of_all_lines_of_a_user_count_once),
      cmocka_unit_test(mistakes_are_told_with_their_line),
      cmocka_unit_test(a_user_has_a_bounded_number_of_lines),
      cmocka_unit_test(many_users_are_all_found),
      cmocka_unit_test(an_unknown_user_costs_as_much_as_a_known_one),
      cmocka_unit_test(references_keep_it),
      cmocka_unit_test(files_are_loaded_or_refused_with_their_name),
      cmocka_unit_test(verifiers_with_one_salt_hold_together),
      cmocka_unit_test(of_several_salts_the_one_that_holds_longest_is_told),
      cmocka_unit_test(who_does_not_exist_gets_the_same_salt_each_time),
      cmocka_unit_test(a_scram_line_is_a_password_too),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
