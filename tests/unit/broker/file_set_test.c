// Files and how they looked.
#include "broker/file_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct folder {
  char path[64], a[80], b[80];
};

static void write_file(const char *path, const char *text)
{
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static struct folder make_folder(void)
{
  struct folder folder;
  strcpy(folder.path, "/tmp/skerry-files-XXXXXX");
  assert_non_null(mkdtemp(folder.path));
  snprintf(folder.a, sizeof folder.a, "%s/a", folder.path);
  snprintf(folder.b, sizeof folder.b, "%s/b", folder.path);
  return folder;
}

static void remove_folder(const struct folder *folder)
{
  (void)unlink(folder->a);
  (void)unlink(folder->b);
  assert_int_equal(rmdir(folder->path), 0);
}

static void every_path_is_there_once(void **state)
{
  (void)state;
  struct file_set set = {0};
  assert_int_equal(file_set_add(&set, "/none/a"), OK);
  assert_int_equal(file_set_add(&set, "/none/b"), OK);
  assert_int_equal(file_set_add(&set, "/none/a"), OK);
  assert_int_equal(file_set_add(&set, NULL), OK);
  assert_int_equal(set.count, 2);
  file_set_deinit(&set);
  assert_int_equal(set.count, 0);
}

static void changes_are_seen(void **state)
{
  (void)state;
  struct folder folder = make_folder();
  write_file(folder.a, "one");
  struct file_set set = {0};
  assert_int_equal(file_set_add(&set, folder.a), OK);
  assert_int_equal(file_set_add(&set, folder.b), OK);
  uint64_t before = file_set_fingerprint_then(&set);
  assert_true(file_set_holds_still(&set, folder.a));
  assert_int_equal(file_set_fingerprint_now(&set), before);
  write_file(folder.a, "three");
  assert_false(file_set_holds_still(&set, folder.a));
  assert_true(file_set_fingerprint_now(&set) != before);
  assert_int_equal(file_set_fingerprint_then(&set), before);
  file_set_deinit(&set);
  remove_folder(&folder);
}

static void a_file_in_anothers_place_is_another(void **state)
{
  (void)state;
  struct folder folder = make_folder();
  write_file(folder.a, "one");
  write_file(folder.b, "one");
  struct file_set set = {0};
  assert_int_equal(file_set_add(&set, folder.a), OK);
  assert_int_equal(rename(folder.b, folder.a), 0);
  assert_false(file_set_holds_still(&set, folder.a));
  file_set_deinit(&set);
  remove_folder(&folder);
}

static void links_are_followed(void **state)
{
  (void)state;
  struct folder folder = make_folder();
  write_file(folder.a, "one");
  assert_int_equal(symlink("a", folder.b), 0);
  struct file_stamp through = file_stamp_of(folder.b);
  struct file_stamp directly = file_stamp_of(folder.a);
  assert_true(file_stamp_equal(&through, &directly));
  remove_folder(&folder);
}

// What is not there, or is not trusted, has to be read: it never holds still.
static void what_is_gone_does_not_hold_still(void **state)
{
  (void)state;
  struct folder folder = make_folder();
  struct file_set set = {0};
  assert_int_equal(file_set_add(&set, folder.a), OK);
  assert_false(file_set_holds_still(&set, folder.a));
  assert_false(file_set_holds_still(&set, "/not/in/it"));
  file_set_deinit(&set);
  write_file(folder.a, "one");
  assert_int_equal(file_set_add(&set, folder.a), OK);
  assert_true(file_set_holds_still(&set, folder.a));
  file_set_distrust(&set, 0);
  assert_false(file_set_holds_still(&set, folder.a));
  file_set_deinit(&set);
  remove_folder(&folder);
}

// What was undone is refused while it looks so, and only that.
static void what_was_undone_is_refused(void **state)
{
  (void)state;
  struct folder folder = make_folder();
  struct file_set set = {0}, undone = {0}, next = {0};
  write_file(folder.a, "one");
  write_file(folder.b, "one");
  assert_int_equal(file_set_add(&set, folder.a), OK);
  assert_int_equal(file_set_add(&set, folder.b), OK);
  uint64_t first = file_set_fingerprint_then(&set);
  write_file(folder.a, "three");
  struct file_set read = {0};
  assert_int_equal(file_set_add(&read, folder.a), OK);
  assert_int_equal(file_set_add(&read, folder.b), OK);
  assert_int_equal(file_set_copy(&read, &undone), OK);
  file_set_deinit(&read);
  assert_false(file_set_is_refused(&set, folder.a));
  file_set_refuse(&set, &undone);
  assert_true(file_set_is_refused(&set, folder.a));
  assert_false(file_set_is_refused(&set, folder.b));
  assert_false(file_set_is_refused(&set, "/not/in/it"));
  assert_false(file_set_holds_still(&set, folder.a));  // who asks for it gets it
  assert_true(file_set_fingerprint_then(&set) != first);
  assert_int_equal(file_set_fingerprint_then(&set), file_set_fingerprint_now(&set));
  assert_int_equal(file_set_add(&next, folder.a), OK);
  file_set_carry(&next, &set, folder.a);
  file_set_carry(&next, &set, folder.b);
  assert_true(file_set_is_refused(&next, folder.a));
  assert_false(file_set_holds_still(&next, folder.a));
  write_file(folder.a, "seven");
  assert_false(file_set_is_refused(&set, folder.a));
  assert_true(file_set_fingerprint_then(&set) != file_set_fingerprint_now(&set));
  file_set_deinit(&next);
  assert_int_equal(file_set_add(&next, folder.a), OK);
  file_set_carry(&next, &set, folder.a);
  assert_true(file_set_holds_still(&next, folder.a));
  file_set_deinit(&next);
  file_set_deinit(&undone);
  file_set_deinit(&set);
  remove_folder(&folder);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_path_is_there_once),
      cmocka_unit_test(changes_are_seen),
      cmocka_unit_test(a_file_in_anothers_place_is_another),
      cmocka_unit_test(links_are_followed),
      cmocka_unit_test(what_is_gone_does_not_hold_still),
      cmocka_unit_test(what_was_undone_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
