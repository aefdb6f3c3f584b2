#include "tls/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/wipe.h"

static void write_file(const char *path, size_t size)
{
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  for (size_t i = 0; i < size; i++) fputc('x', file);
  assert_int_equal(fclose(file), 0);
}

static void refuses(const char *path, enum status status, const char *what)
{
  uint8_t *bytes = NULL;
  size_t size = 7;
  struct error error = {0};
  assert_int_equal(file_read(path, "ten letters", 10, &bytes, &size, &error), status);
  assert_memory_equal(error.text, path, strlen(path));
  assert_memory_equal(error.text + strlen(path), ": ", 2);
  assert_non_null(strstr(error.text, what));
  assert_null(bytes);
  assert_int_equal(size, 7);
}

static void a_file_is_read_whole(void **state)
{
  (void)state;
  char path[] = "/tmp/skerry-file-XXXXXX";
  close(mkstemp(path));
  for (size_t size = 0; size <= 10; size += 5) {
    uint8_t *bytes = NULL;
    size_t got = 0;
    struct error error = {0};
    write_file(path, size);
    assert_int_equal(file_read(path, "ten letters", 10, &bytes, &got, &error), OK);
    assert_int_equal(got, size);
    assert_memory_equal(bytes, "xxxxxxxxxx", size);
    assert_int_equal(bytes[size], '\0');
    wipe_and_free(bytes, got);
  }
  write_file(path, 11);
  refuses(path, ERR_LIMIT, "is larger than 10 bytes: expected ten letters");
  unlink(path);
  refuses(path, ERR_NOT_FOUND, "No such file or directory: expected ten letters");
}

// A pipe would be waited for, and hold up whoever reads: it is not even begun with.
static void only_a_regular_file_is(void **state)
{
  (void)state;
  char directory[] = "/tmp/skerry-file-XXXXXX", pipe[64];
  assert_non_null(mkdtemp(directory));
  snprintf(pipe, sizeof pipe, "%s/pipe", directory);
  assert_int_equal(mkfifo(pipe, 0600), 0);
  refuses(pipe, ERR_INVALID, "is no regular file");
  refuses(directory, ERR_INVALID, "is no regular file");
  refuses("/dev/zero", ERR_INVALID, "is no regular file");
  unlink(pipe);
  rmdir(directory);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_file_is_read_whole), cmocka_unit_test(only_a_regular_file_is)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
