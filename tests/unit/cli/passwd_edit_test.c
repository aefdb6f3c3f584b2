#include "cli/passwd_edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int64_t now_ms = 1000000000;   // 1970-01-12T13:46:40Z
static const int64_t keep_ms = 1000060000;  // 1970-01-12T13:47:40Z

static struct passwd_change change_of(enum passwd_action action, const char *user, const char *hash)
{
  return (struct passwd_change){.action = action,
                                .user = span_text(user),
                                .hash = hash ? span_text(hash) : (struct span){0},
                                .until_ms = INT64_MAX,
                                .now_ms = now_ms,
                                .keep_until_ms = keep_ms};
}

static void expect_edit(const struct passwd_change *change, const char *before, const char *after)
{
  struct buffer out = {0};
  assert_int_equal(passwd_edit(span_text(before), change, &out), OK);
  assert_int_equal(buffer_append(&out, "", 1), OK);
  assert_string_equal((const char *)buffer_peek(&out).at, after);
  buffer_deinit(&out);
}

static void expect_list(const char *text, const char *table)
{
  struct buffer out = {0};
  assert_int_equal(passwd_list(span_text(text), now_ms, &out), OK);
  assert_int_equal(buffer_append(&out, "", 1), OK);
  assert_string_equal((const char *)buffer_peek(&out).at, table);
  buffer_deinit(&out);
}

static void a_new_user_comes_last(void **state)
{
  (void)state;
  struct passwd_change change = change_of(PASSWD_SET, "bob", "$6$b$b");
  expect_edit(&change, "", "bob:$6$b$b\n");
  expect_edit(&change, "ann:$6$a$a\n", "ann:$6$a$a\nbob:$6$b$b\n");
  expect_edit(&change, "ann:$6$a$a", "ann:$6$a$a\nbob:$6$b$b\n");
  change.until_ms = keep_ms;
  change.has_groups = true;
  change.groups = span_text("x,y,x");
  expect_edit(&change, "", "bob:$6$b$b:until=1970-01-12T13:47:40Z:groups=x,y\n");
}

static void what_is_not_the_users_stays_byte_by_byte(void **state)
{
  (void)state;
  struct passwd_change change = change_of(PASSWD_SET, "bob", "$6$n$n");
  expect_edit(&change, "# all of them \r\n\n  ann : $6$a$a \r\nbob:$6$b$b\r\nbobby:$6$c$c\n# end",
              "# all of them \r\n\n  ann : $6$a$a \r\nbob:$6$n$n\nbobby:$6$c$c\n# end");
}

static void a_new_password_takes_the_place_of_all_others(void **state)
{
  (void)state;
  struct passwd_change change = change_of(PASSWD_SET, "bob", "$6$n$n");
  expect_edit(&change, "bob:$6$a$a:groups=x\nann:$6$a$a\nbob:$6$b$b:until=1970-01-12T13:47:40Z:groups=y,x\n",
              "bob:$6$n$n:groups=x,y\nann:$6$a$a\n");
  change.has_groups = true;  // in none
  expect_edit(&change, "bob:$6$a$a:groups=x\n", "bob:$6$n$n\n");
}

static void rotating_lets_the_old_one_end(void **state)
{
  (void)state;
  struct passwd_change change = change_of(PASSWD_ROTATE, "bob", "$6$n$n");
  expect_edit(&change, "bob:$6$a$a\nann:$6$a$a\n", "bob:$6$a$a:until=1970-01-12T13:47:40Z\nbob:$6$n$n\nann:$6$a$a\n");
  // One that ends earlier still does, one that has ended goes.
  expect_edit(
      &change,
      "bob:$6$a$a:until=1970-01-12T13:46:39Z:groups=x\nbob:$6$b$b:until=1970-01-12T13:46:41Z\nann:$6$a$a\nbob:$6$c$c",
      "bob:$6$b$b:until=1970-01-12T13:46:41Z:groups=x\nann:$6$a$a\nbob:$6$c$c:until=1970-01-12T13:47:40Z:groups=x\n"
      "bob:$6$n$n:groups=x\n");
  // Even when nothing of the user is left, or it is the last line that goes.
  expect_edit(&change, "bob:$6$a$a:until=1970-01-12T13:46:39Z:groups=x\n", "bob:$6$n$n:groups=x\n");
}

static void deleting_takes_every_line(void **state)
{
  (void)state;
  const struct passwd_change change = change_of(PASSWD_DELETE, "bob", NULL);
  expect_edit(&change, "# x\nbob:$6$a$a\nann:$6$a$a\nbob:$6$b$b", "# x\nann:$6$a$a\n");
  expect_edit(&change, "bob:$6$a$a", "");
}

static void regrouping_leaves_the_passwords(void **state)
{
  (void)state;
  struct passwd_change change = change_of(PASSWD_REGROUP, "bob", NULL);
  change.has_groups = true;
  change.groups = span_text("z");
  expect_edit(&change, "bob:$6$a$a:until=1970-01-12T13:46:39Z\nann:$6$a$a:groups=x\nbob:$6$b$b:groups=y\n",
              "bob:$6$a$a:until=1970-01-12T13:46:39Z:groups=z\nann:$6$a$a:groups=x\nbob:$6$b$b:groups=z\n");
  change.groups = (struct span){0};
  expect_edit(&change, "bob:$6$a$a:groups=x,y\n", "bob:$6$a$a\n");
}

static void the_verifier_that_holds_longest_is_found(void **state)
{
  (void)state;
  const char text[] = "bob:$scram-sha-256$1$old:until=1970-01-12T13:46:39Z\n"
                      "bob:$scram-sha-256$1$ends:until=1970-01-12T13:47:40Z\n"
                      "ann:$scram-sha-256$1$hers\n"
                      "bob:$scram-sha-256$1$first\n"
                      "bob:$scram-sha-256$1$second\n"
                      "bob:$6$b$b\n"
                      "cho:$scram-sha-256$1$old:until=1970-01-12T13:46:39Z\n";
  struct passwd_lines lines = passwd_look(span_text(text), span_text("bob"), now_ms);
  assert_int_equal(lines.count, 5);
  assert_true(span_equal(lines.scram, span_text("$scram-sha-256$1$second")));
  lines = passwd_look(span_text(text), span_text("cho"), now_ms);
  assert_int_equal(lines.count, 1);
  assert_int_equal(lines.scram.size, 0);
  assert_int_equal(passwd_look(span_text(text), span_text("eve"), now_ms).count, 0);
}

static void the_list_shows_no_hash(void **state)
{
  (void)state;
  expect_list("# "
              "x\n\ngrün:$7$101$a$b\nann:$argon2id$v=19$x:until=1970-01-12T13:46:39Z:groups=ops,night\nb:$6$a$b:until=1970-"
              "01-12T13:47:40Z\n"
              "c:$scram-sha-256$1$a:groups=x\n",
              "USER  KIND           UNTIL                        GROUPS\n"
              "grün  pbkdf2-sha512  -                            -\n"
              "ann   argon2id       1970-01-12T13:46:39Z (over)  ops,night\n"
              "b     sha512         1970-01-12T13:47:40Z         -\n"
              "c     scram-sha-256  -                            x\n");
  expect_list("", "USER  KIND  UNTIL  GROUPS\n");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_new_user_comes_last),
      cmocka_unit_test(what_is_not_the_users_stays_byte_by_byte),
      cmocka_unit_test(a_new_password_takes_the_place_of_all_others),
      cmocka_unit_test(rotating_lets_the_old_one_end),
      cmocka_unit_test(deleting_takes_every_line),
      cmocka_unit_test(regrouping_leaves_the_passwords),
      cmocka_unit_test(the_verifier_that_holds_longest_is_found),
      cmocka_unit_test(the_list_shows_no_hash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
