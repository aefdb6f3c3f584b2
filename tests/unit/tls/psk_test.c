#include "tls/psk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "certificates.h"

#define KEY "000102030405060708090a0b0c0d0e0F"

static void expect_error(const char *text, const char *wanted)
{
  struct psk_list *list = NULL;
  struct error error = {0};
  assert_int_equal(psk_parse(span_text(text), "psk.txt", &list, &error), ERR_INVALID);
  assert_null(list);
  if (!strstr(error.text, wanted)) fail_msg("\"%s\" does not say \"%s\"", error.text, wanted);
  if (strstr(error.text, "0a0b0c")) fail_msg("\"%s\" tells the key", error.text);
}

static void keys_are_found_by_identity(void **state)
{
  (void)state;
  struct psk_list *list = NULL;
  struct error error = {0};
  const char *text = "# devices\r\n\n  sensor-1:" KEY "\r\nurn:dev:7:" KEY "00ff\nlast:" KEY;
  assert_int_equal(psk_parse(span_text(text), "psk.txt", &list, &error), OK);
  struct span key = psk_find(list, span_text("sensor-1"));
  assert_int_equal(key.size, 16);
  assert_int_equal(key.at[15], 0x0f);
  key = psk_find(list, span_text("urn:dev:7"));
  assert_int_equal(key.size, 18);
  assert_int_equal(key.at[17], 0xff);
  assert_int_equal(psk_find(list, span_text("last")).size, 16);
  assert_int_equal(psk_find(list, span_text("sensor")).size, 0);
  assert_int_equal(psk_find(list, span_text("")).size, 0);
  psk_free(list);
  psk_free(NULL);
}

// It is of the file, not of the first identity.
static void a_byte_order_mark_is_no_part_of_it(void **state)
{
  (void)state;
  static const char *const texts[] = {"\xef\xbb\xbfsensor-1:" KEY "\n", "\xef\xbb\xbf# devices\nsensor-1:" KEY "\n"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    struct psk_list *list = NULL;
    struct error error = {0};
    assert_int_equal(psk_parse(span_text(texts[i]), "psk.txt", &list, &error), OK);
    assert_int_equal(psk_find(list, span_text("sensor-1")).size, 16);
    psk_free(list);
  }
  expect_error("\xef\xbb\xbf", "psk.txt: holds no keys");
}

static void mistakes_are_told_with_their_line(void **state)
{
  (void)state;
  expect_error("", "psk.txt: holds no keys");
  expect_error("# nothing\n", "psk.txt: holds no keys");
  expect_error("a:" KEY "\nb\n", "psk.txt:2: expected identity:key");
  expect_error("\n:" KEY, "psk.txt:2: the identity is empty");
  expect_error("a:" KEY "0", "psk.txt:1: the key has an odd number");
  expect_error("a:000102030405060708090a0b0c0d0e", "psk.txt:1: the key is too short: expected at least 32");
  expect_error("a:000102030405060708090a0b0c0d0ex0", "psk.txt:1: the key is not hexadecimal");
  expect_error("a:" KEY KEY KEY KEY "00", "psk.txt:1: the key is too long");
  expect_error("a:" KEY "\n# b\na:" KEY "\n", "psk.txt:3: identity \"a\" is in line 1 already");
  expect_error("\xff:" KEY, "psk.txt:1: the identity is not UTF-8");
  expect_error("a\033[2J:" KEY, "psk.txt:1: the identity is not UTF-8, or holds control characters");
}

static void the_longest_identity_fits_and_no_longer_one(void **state)
{
  (void)state;
  char text[200];
  struct psk_list *list = NULL;
  struct error error = {0};
  snprintf(text, sizeof text, "%0128d:%s", 7, KEY);
  assert_int_equal(psk_parse(span_text(text), "psk.txt", &list, &error), OK);
  assert_int_equal(psk_find(list, span_of(text, 128)).size, 16);
  psk_free(list);
  snprintf(text, sizeof text, "%0129d:%s", 7, KEY);
  expect_error(text, "longer than 128 bytes");
}

static void zero_bytes_are_no_text(void **state)
{
  (void)state;
  struct psk_list *list = NULL;
  struct error error = {0};
  static const char text[] = "a\0b:" KEY;
  assert_int_equal(psk_parse(span_of(text, sizeof text - 1), "psk.txt", &list, &error), ERR_INVALID);
  assert_null(list);
}

static void files_are_read(void **state)
{
  (void)state;
  struct psk_list *list = NULL;
  struct error error = {0};
  assert_int_equal(psk_load(scratch_path("none.txt"), &list, &error), ERR_NOT_FOUND);
  assert_non_null(strstr(error.text, "none.txt: No such file"));
  const char *path = scratch_file("psk.txt", "a:" KEY, strlen("a:" KEY));
  assert_int_equal(psk_load(path, &list, &error), OK);
  assert_int_equal(psk_find(list, span_text("a")).size, 16);
  psk_free(list);
  assert_int_equal(psk_load("/tmp", &list, &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "is no regular file"));
}

static void many_keys_are_kept_apart(void **state)
{
  (void)state;
  enum { COUNT = 5000 };
  char *text = malloc(COUNT * 64);
  size_t size = 0;
  for (unsigned i = 0; i < COUNT; i++) size += (size_t)sprintf(text + size, "device-%u:%032x\n", i, i);
  struct psk_list *list = NULL;
  struct error error = {0};
  assert_int_equal(psk_parse(span_of(text, size), "psk.txt", &list, &error), OK);
  for (unsigned i = 0; i < COUNT; i++) {
    char identity[32];
    snprintf(identity, sizeof identity, "device-%u", i);
    struct span key = psk_find(list, span_text(identity));
    assert_int_equal(key.size, 16);
    assert_int_equal(key.at[15] | key.at[14] << 8, i);
  }
  psk_free(list);
  free(text);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(keys_are_found_by_identity),
                                     cmocka_unit_test(a_byte_order_mark_is_no_part_of_it),
                                     cmocka_unit_test(mistakes_are_told_with_their_line),
                                     cmocka_unit_test(the_longest_identity_fits_and_no_longer_one),
                                     cmocka_unit_test(zero_bytes_are_no_text),
                                     cmocka_unit_test(files_are_read),
                                     cmocka_unit_test(many_keys_are_kept_apart)};
  scratch_create(NULL);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  scratch_remove(NULL);
  return failed;
}
