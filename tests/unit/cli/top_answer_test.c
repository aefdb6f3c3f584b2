#include "cli/top_answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

// Reads a copy that ends where the bytes end, so that a sanitizer sees what is read beyond.
static enum top_answer_state read_bytes(const char *bytes, size_t size, bool closed, struct top_answer *out, char *body,
                                        size_t body_size)
{
  uint8_t *copy = malloc(size + 1);
  assert_non_null(copy);
  uint8_t *at = copy + 1;
  memcpy(at, bytes, size);
  enum top_answer_state state = top_answer_read(at, size, closed, out);
  if (state == TOP_ANSWER_WHOLE) {
    assert_in_range(out->body.size, 0, body_size - 1);
    if (out->body.size > 0) memcpy(body, out->body.at, out->body.size);
    body[out->body.size] = '\0';
  }
  free(copy);
  return state;
}

static void expect_whole(const char *text, bool closed, const char *wanted, bool keep)
{
  struct top_answer answer;
  char body[256];
  assert_int_equal(read_bytes(text, strlen(text), closed, &answer, body, sizeof body), TOP_ANSWER_WHOLE);
  assert_string_equal(body, wanted);
  assert_int_equal(answer.keep, keep);
  assert_int_equal(answer.http_status, 200);
}

static void expect_broken(const char *text, bool closed, const char *why)
{
  struct top_answer answer;
  char body[256];
  assert_int_equal(read_bytes(text, strlen(text), closed, &answer, body, sizeof body), TOP_ANSWER_BROKEN);
  assert_string_equal(answer.why, why);
}

// Every byte that is missing makes it incomplete, or broken once nothing more comes.
static void expect_whole_at_the_end_only(const char *text, const char *wanted)
{
  struct top_answer answer;
  char body[256];
  for (size_t size = 0; size < strlen(text); size++) {
    assert_int_equal(read_bytes(text, size, false, &answer, body, sizeof body), TOP_ANSWER_INCOMPLETE);
    assert_int_equal(read_bytes(text, size, true, &answer, body, sizeof body), TOP_ANSWER_BROKEN);
  }
  expect_whole(text, false, wanted, true);
}

static void with_a_length(void **state)
{
  (void)state;
  expect_whole_at_the_end_only(HEAD "content-length:  5 \r\n\r\nhello", "hello");
  expect_whole(HEAD "Content-Length: 0\r\n\r\n", false, "", true);
  expect_whole(HEAD "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", false, "ok", true);
  expect_whole(HEAD "Content-Length: 2\r\nConnection: Close\r\n\r\nok", true, "ok", false);
  expect_whole("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "ok", false);
}

static void in_chunks(void **state)
{
  (void)state;
  expect_whole_at_the_end_only(HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0b;x=y\r\n, good day!\r\n0\r\n\r\n",
                               "hello, good day!");
  expect_whole(HEAD "Transfer-Encoding: Chunked\r\nContent-Length: 1\r\n\r\n1\r\n\r\r\n0\r\nTrailer: 1\r\n\r\n", false, "\r",
               true);
  expect_whole(HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, "", true);
}

static void until_the_end(void **state)
{
  (void)state;
  struct top_answer answer;
  char body[256];
  expect_whole(HEAD "\r\nall of it", true, "all of it", false);
  assert_int_equal(read_bytes(HEAD "\r\nall", strlen(HEAD) + 5, false, &answer, body, sizeof body), TOP_ANSWER_INCOMPLETE);
}

// Its body does not matter.
static void other_statuses(void **state)
{
  (void)state;
  struct top_answer answer;
  uint8_t text[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\n<html>";
  assert_int_equal(top_answer_read(text, sizeof text - 1, false, &answer), TOP_ANSWER_WHOLE);
  assert_int_equal(answer.http_status, 404);
  assert_int_equal(answer.body.size, 0);
  assert_false(answer.keep);
}

static void faults(void **state)
{
  (void)state;
  expect_broken("SSH-2.0-OpenSSH\r\n\r\n", false, "no HTTP answer");
  expect_broken("HTTP/2.0 200 OK\r\n\r\n", false, "no HTTP answer");
  expect_broken("HTTP/1.1 2x0 OK\r\n\r\n", false, "no HTTP answer");
  expect_broken("HTTP/1.1\r\n\r\n", false, "no HTTP answer");
  expect_broken(HEAD "no field\r\n\r\n", false, "a faulty field in the head");
  expect_broken(HEAD "Content-Length: -1\r\n\r\n", false, "a faulty Content-Length");
  expect_broken(HEAD "Content-Length:\r\n\r\n", false, "a faulty Content-Length");
  expect_broken(HEAD "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", false, "two different Content-Lengths");
  expect_broken(HEAD "Transfer-Encoding: gzip\r\n\r\n", false, "an unknown transfer encoding");
  expect_broken(HEAD "Transfer-Encoding: chunked\r\n\r\nx\r\n", false, "a faulty chunk");
  expect_broken(HEAD "Transfer-Encoding: chunked\r\n\r\n\r\n", false, "a faulty chunk");
  expect_broken(HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\nabc", false, "a faulty chunk");
  expect_broken("", true, "the connection was closed in the middle");
}

static void limits(void **state)
{
  (void)state;
  expect_broken(HEAD "Content-Length: 1048577\r\n\r\n", false, "the page is too large");
  expect_broken(HEAD "Content-Length: 99999999999999999999999999999\r\n\r\n", false, "the page is too large");
  expect_broken(HEAD "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n", false, "the page is too large");
  struct top_answer answer;
  size_t size = TOP_ANSWER_MAX * 3;
  uint8_t *bytes = malloc(size);
  assert_non_null(bytes);
  memset(bytes, '1', size);
  assert_int_equal(top_answer_read(bytes, size, false, &answer), TOP_ANSWER_BROKEN);  // a head without end
  memcpy(bytes, HEAD "\r\n", strlen(HEAD) + 2);
  assert_int_equal(top_answer_read(bytes, strlen(HEAD) + 2 + TOP_ANSWER_MAX, false, &answer), TOP_ANSWER_INCOMPLETE);
  assert_int_equal(top_answer_read(bytes, strlen(HEAD) + 3 + TOP_ANSWER_MAX, false, &answer), TOP_ANSWER_BROKEN);
  static const char chunked[] = HEAD "Transfer-Encoding: chunked\r\n\r\n";
  memcpy(bytes, chunked, sizeof chunked - 1);
  // A chunk's size without end.
  assert_int_equal(top_answer_read(bytes, sizeof chunked - 1 + 1000, false, &answer), TOP_ANSWER_BROKEN);
  // Tiny chunks: more frame than data.
  for (size_t at = sizeof chunked - 1; at + 6 <= size; at += 6) memcpy(bytes + at, "1\r\na\r\n", 6);
  assert_int_equal(top_answer_read(bytes, size, false, &answer), TOP_ANSWER_BROKEN);
  free(bytes);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(with_a_length),  cmocka_unit_test(in_chunks), cmocka_unit_test(until_the_end),
      cmocka_unit_test(other_statuses), cmocka_unit_test(faults),    cmocka_unit_test(limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
