// Fetching from a server that is played by hand, on the loopback, in one thread; time is the test's.
#include "cli/top_fetch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 5000 };  // of poll, for what comes at once

#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"

struct bench {
  int listener;
  int server;  // the accepted connection
  struct top_fetch fetch;
  uint64_t now_ms;
  struct error error;
  char page[64];
};

static void listen_somewhere(struct bench *bench, char url[64])
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  bench->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(bench->listener >= 0);
  assert_int_equal(bind(bench->listener, (const struct sockaddr *)&address, size), 0);
  assert_int_equal(listen(bench->listener, 4), 0);
  assert_int_equal(getsockname(bench->listener, (struct sockaddr *)&address, &size), 0);
  snprintf(url, 64, "127.0.0.1:%u", ntohs(address.sin_port));
}

static int set_up(void **state)
{
  static struct bench bench;
  char text[64];
  struct url url;
  bench = (struct bench){.server = -1, .now_ms = 1000};
  listen_somewhere(&bench, text);
  assert_int_equal(top_fetch_parse(text, &url, &bench.error), OK);
  top_fetch_init(&bench.fetch, &url);
  *state = &bench;
  return 0;
}

static int tear_down(void **state)
{
  struct bench *bench = *state;
  top_fetch_deinit(&bench->fetch);
  if (bench->server >= 0) close(bench->server);
  if (bench->listener >= 0) close(bench->listener);
  return 0;
}

// One turn, after poll when there is something to wait for.
static enum top_fetched turn(struct bench *bench, int timeout_ms)
{
  struct span page = {0};
  struct pollfd fd = top_fetch_pollfd(&bench->fetch);
  int ready = poll(&fd, 1, fd.fd >= 0 ? timeout_ms : 0);
  assert_true(ready >= 0);
  short events = ready > 0 ? fd.revents : 0;
  enum top_fetched fetched = top_fetch_turn(&bench->fetch, events, bench->now_ms, &page, &bench->error);
  if (fetched != TOP_FETCHED_PAGE) return fetched;
  assert_in_range(page.size, 0, sizeof bench->page - 1);
  if (page.size > 0) memcpy(bench->page, page.at, page.size);
  bench->page[page.size] = '\0';
  return fetched;
}

// Turns until something has come of it.
static enum top_fetched outcome(struct bench *bench)
{
  for (int i = 0; i < 20; i++) {
    enum top_fetched fetched = turn(bench, PATIENCE_MS);
    if (fetched != TOP_FETCHED_NOTHING) return fetched;
  }
  return TOP_FETCHED_NOTHING;
}

static void accept_connection(struct bench *bench)
{
  struct pollfd fd = {.fd = bench->listener, .events = POLLIN};
  assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
  if (bench->server >= 0) close(bench->server);
  bench->server = accept4(bench->listener, NULL, NULL, SOCK_CLOEXEC);
  assert_true(bench->server >= 0);
}

static void expect_request(struct bench *bench)
{
  char request[1024];
  struct pollfd fd = {.fd = bench->server, .events = POLLIN};
  assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
  ssize_t size = recv(bench->server, request, sizeof request - 1, 0);
  assert_true(size > 0);
  request[size] = '\0';
  assert_int_equal(strncmp(request, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:", 39), 0);
  assert_non_null(strstr(request, "\r\n\r\n"));
}

static void answer(struct bench *bench, const char *text)
{
  assert_int_equal(send(bench->server, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

// Connects, and takes the request.
static void begin(struct bench *bench)
{
  assert_int_equal(turn(bench, 0), TOP_FETCHED_NOTHING);
  accept_connection(bench);
  assert_int_equal(turn(bench, PATIENCE_MS), TOP_FETCHED_NOTHING);
  expect_request(bench);
}

static void one_connection_for_all(void **state)
{
  struct bench *bench = *state;
  begin(bench);
  answer(bench, ANSWER "one\n");
  assert_int_equal(outcome(bench), TOP_FETCHED_PAGE);
  assert_string_equal(bench->page, "one\n");
  assert_int_equal(top_fetch_due_ms(&bench->fetch), bench->now_ms + TOP_FETCH_PERIOD_MS);
  bench->now_ms += TOP_FETCH_PERIOD_MS - 1;
  assert_int_equal(turn(bench, 0), TOP_FETCHED_NOTHING);
  bench->now_ms++;
  assert_int_equal(turn(bench, 0), TOP_FETCHED_NOTHING);
  expect_request(bench);  // on the same connection
  answer(bench, ANSWER "t");
  assert_int_equal(turn(bench, PATIENCE_MS), TOP_FETCHED_NOTHING);
  answer(bench, "wo\n");
  assert_int_equal(outcome(bench), TOP_FETCHED_PAGE);
  assert_string_equal(bench->page, "two\n");
}

static void closed_between_requests(void **state)
{
  struct bench *bench = *state;
  begin(bench);
  answer(bench, ANSWER "one\n");
  assert_int_equal(outcome(bench), TOP_FETCHED_PAGE);
  close(bench->server);
  bench->server = -1;
  assert_int_equal(turn(bench, PATIENCE_MS), TOP_FETCHED_NOTHING);
  assert_int_equal(top_fetch_pollfd(&bench->fetch).fd, -1);
  bench->now_ms += TOP_FETCH_PERIOD_MS;
  begin(bench);
  answer(bench, ANSWER "two\n");
  assert_int_equal(outcome(bench), TOP_FETCHED_PAGE);
}

static void server_that_closes(void **state)
{
  struct bench *bench = *state;
  begin(bench);
  answer(bench, "HTTP/1.0 200 OK\r\n\r\nall of it\n");
  close(bench->server);
  bench->server = -1;
  assert_int_equal(outcome(bench), TOP_FETCHED_PAGE);
  assert_string_equal(bench->page, "all of it\n");
  assert_int_equal(top_fetch_pollfd(&bench->fetch).fd, -1);
}

static void closed_in_the_middle(void **state)
{
  struct bench *bench = *state;
  begin(bench);
  answer(bench, ANSWER "on");
  close(bench->server);
  bench->server = -1;
  assert_int_equal(outcome(bench), TOP_FETCHED_FAILED);
  assert_string_equal(bench->error.text, "the connection was closed in the middle");
}

static void no_answer(void **state)
{
  struct bench *bench = *state;
  begin(bench);
  assert_int_equal(top_fetch_due_ms(&bench->fetch), bench->now_ms + TOP_FETCH_TIMEOUT_MS);
  bench->now_ms += TOP_FETCH_TIMEOUT_MS - 1;
  answer(bench, ANSWER);
  assert_int_equal(turn(bench, PATIENCE_MS), TOP_FETCHED_NOTHING);
  bench->now_ms++;
  assert_int_equal(turn(bench, 0), TOP_FETCHED_FAILED);
  assert_string_equal(bench->error.text, "no answer within 1 s");
  // It goes on, and what is left of the old answer is not taken for a new one.
  begin(bench);
  answer(bench, ANSWER "two\n");
  assert_int_equal(outcome(bench), TOP_FETCHED_PAGE);
  assert_string_equal(bench->page, "two\n");
}

static void other_status(void **state)
{
  struct bench *bench = *state;
  begin(bench);
  answer(bench, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  assert_int_equal(outcome(bench), TOP_FETCHED_FAILED);
  assert_string_equal(bench->error.text, "HTTP status 404");
}

static void nobody_there(void **state)
{
  struct bench *bench = *state;
  close(bench->listener);
  bench->listener = -1;
  assert_int_equal(outcome(bench), TOP_FETCHED_FAILED);
  assert_non_null(strstr(bench->error.text, "Connection refused"));
  assert_int_equal(top_fetch_due_ms(&bench->fetch), bench->now_ms + TOP_FETCH_PERIOD_MS);
}

static void nothing_to_fetch(void **state)
{
  (void)state;
  struct top_fetch fetch;
  struct url none = {0};
  struct span page;
  struct error error;
  top_fetch_init(&fetch, &none);
  assert_int_equal(top_fetch_pollfd(&fetch).fd, -1);
  assert_true(top_fetch_due_ms(&fetch) == UINT64_MAX);
  assert_int_equal(top_fetch_turn(&fetch, 0, 5000, &page, &error), TOP_FETCHED_NOTHING);
  top_fetch_deinit(&fetch);
}

static void addresses(void **state)
{
  (void)state;
  static const struct {
    const char *text;
    const char *host;  // NULL: wrong
    uint16_t port;
    const char *path;  // NULL: none
  } cases[] = {
      {"gateway:9100", "gateway", 9100, NULL},
      {"[::1]:9100", "::1", 9100, NULL},
      {"http://gateway:9100/metrics", "gateway", 9100, "/metrics"},
      {"http://gateway/a%20b?c=d", "gateway", 80, "/a%20b?c=d"},
      {"http://gateway/a b", NULL, 0, NULL},
      {"http://gateway/a\r\nEvil: 1", NULL, 0, NULL},
      {"http://user:secret@gateway:9100/", NULL, 0, NULL},
      {"mqtt://gateway", NULL, 0, NULL},
      {"https://gateway", NULL, 0, NULL},
      {"gateway:0", NULL, 0, NULL},
      {":9100", NULL, 0, NULL},
      {"", NULL, 0, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct url url = {0};
    struct error error = {0};
    enum status status = top_fetch_parse(cases[i].text, &url, &error);
    assert_int_equal(status, cases[i].host ? OK : ERR_INVALID);
    if (!cases[i].host) {
      assert_true(error.text[0] != '\0');
      continue;
    }
    assert_string_equal(url.host, cases[i].host);
    assert_int_equal(url.port, cases[i].port);
    assert_string_equal(url.path ? url.path : "-", cases[i].path ? cases[i].path : "-");
    url_deinit(&url);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(one_connection_for_all, set_up, tear_down),
      cmocka_unit_test_setup_teardown(closed_between_requests, set_up, tear_down),
      cmocka_unit_test_setup_teardown(server_that_closes, set_up, tear_down),
      cmocka_unit_test_setup_teardown(closed_in_the_middle, set_up, tear_down),
      cmocka_unit_test_setup_teardown(no_answer, set_up, tear_down),
      cmocka_unit_test_setup_teardown(other_status, set_up, tear_down),
      cmocka_unit_test_setup_teardown(nobody_there, set_up, tear_down),
      cmocka_unit_test(nothing_to_fetch),
      cmocka_unit_test(addresses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
