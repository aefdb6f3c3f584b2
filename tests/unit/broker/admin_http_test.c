// The admin HTTP server, with plain sockets as its clients. Server and client take turns in one thread: nothing sleeps, and
// a client that gets no answer fails after a bounded number of turns.
#include "broker/admin_http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

enum { ANSWER_MAX = 64 * 1024, TURNS = 2000, TURN_MS = 5 };

struct fixture {
  struct event_base *base;
  struct admin_http *http;
  uint16_t port;
  unsigned views;
  bool ready;
  enum journal_state journal_state;
  char answer[ANSWER_MAX];
  size_t answer_size;
};

static void fill(void *context, struct status_view *out)
{
  struct fixture *fixture = context;
  fixture->views++;
  *out = (struct status_view){.version = "0.1.0",
                              .broker_id = "cell-7",
                              .shard_count = 1,
                              .ready = fixture->ready,
                              .has_journal = true,
                              .journal_state = fixture->journal_state};
  out->total.publish_received = 42;
}

// A port that is free now; somebody else may take it before it is used, hence the tries.
static uint16_t free_port(void)
{
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  assert_true(fd >= 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
  close(fd);
  return ntohs(address.sin_port);
}

static void open_on(struct fixture *fixture, const char *host)
{
  struct error error = {0};
  for (unsigned try = 0; try < 20; try++) {
    fixture->port = free_port();
    if (admin_http_open(fixture->base, host, fixture->port, fill, fixture, &fixture->http, &error) == OK) return;
  }
  fail_msg("%s", error.text);
}

static int set_up(void **state)
{
  struct fixture *fixture = calloc(1, sizeof *fixture);
  assert_non_null(fixture);
  fixture->base = event_base_new();
  assert_non_null(fixture->base);
  fixture->ready = true;
  open_on(fixture, "127.0.0.1");
  *state = fixture;
  return 0;
}

static int tear_down(void **state)
{
  struct fixture *fixture = *state;
  admin_http_close(fixture->http);
  event_base_free(fixture->base);
  free(fixture);
  return 0;
}

static int connect_to(const struct fixture *fixture)
{
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(fixture->port)};
  assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
  return fd;
}

static void send_text(int fd, const char *text)
{
  assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void turn(struct fixture *fixture)
{
  assert_true(event_base_loop(fixture->base, EVLOOP_NONBLOCK) >= 0);
}

// Reads until `end` has come as the end of what was received, or until the server closes when `end` is NULL. Adds to the
// answer.
static void receive_until(struct fixture *fixture, int fd, const char *end)
{
  for (unsigned i = 0; i < TURNS; i++) {
    turn(fixture);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, TURN_MS) == 0) continue;
    ssize_t got = recv(fd, fixture->answer + fixture->answer_size, ANSWER_MAX - 1 - fixture->answer_size, MSG_DONTWAIT);
    if (got == 0 && !end) return;
    if (got <= 0) fail_msg("closed after: %s", fixture->answer);
    fixture->answer_size += (size_t)got;
    fixture->answer[fixture->answer_size] = '\0';
    size_t size = end ? strlen(end) : 0;
    if (end && fixture->answer_size >= size && strcmp(fixture->answer + fixture->answer_size - size, end) == 0) return;
  }
  fail_msg("no end after: %s", fixture->answer);
}

// One request on a connection of its own; the answer whole, head and body.
static const char *ask(struct fixture *fixture, const char *request)
{
  fixture->answer_size = 0;
  fixture->answer[0] = '\0';
  int fd = connect_to(fixture);
  send_text(fd, request);
  receive_until(fixture, fd, NULL);
  close(fd);
  return fixture->answer;
}

static const char *ask_for(struct fixture *fixture, const char *method, const char *path)
{
  char request[256];
  snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, path);
  return ask(fixture, request);
}

static const char *body(const char *answer)
{
  const char *end = strstr(answer, "\r\n\r\n");
  assert_non_null(end);
  return end + 4;
}

static void expect_status(const char *answer, unsigned code)
{
  char line[32];
  snprintf(line, sizeof line, "HTTP/1.1 %u ", code);
  if (strncmp(answer, line, strlen(line)) != 0) fail_msg("not %u: %s", code, answer);
}

static void metrics(void **state)
{
  struct fixture *fixture = *state;
  const char *answer = ask_for(fixture, "GET", "/metrics");
  expect_status(answer, 200);
  assert_non_null(strstr(answer, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  assert_non_null(strstr(body(answer), "\nskerry_publish_received_total 42\n"));
  char length[64];
  snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", strlen(body(answer)));
  assert_non_null(strstr(answer, length));
  assert_int_equal(fixture->views, 1);
}

static void health(void **state)
{
  struct fixture *fixture = *state;
  const char *answer = ask_for(fixture, "GET", "/healthz");
  expect_status(answer, 200);
  assert_string_equal(body(answer), "ok\n");
  // A restart would not help: not an error status.
  fixture->journal_state = JOURNAL_FULL;
  answer = ask_for(fixture, "GET", "/healthz");
  expect_status(answer, 200);
  assert_string_equal(body(answer), "degraded: journal full\n");
  fixture->journal_state = JOURNAL_FAILING;
  assert_string_equal(body(ask_for(fixture, "GET", "/healthz")), "degraded: journal failing\n");
  fixture->ready = false;
  answer = ask_for(fixture, "GET", "/healthz?verbose=1");
  expect_status(answer, 503);
  assert_string_equal(body(answer), "starting\n");
}

static void index_and_unknown_paths(void **state)
{
  struct fixture *fixture = *state;
  const char *answer = ask_for(fixture, "GET", "/");
  expect_status(answer, 200);
  assert_non_null(strstr(body(answer), "/metrics"));
  assert_non_null(strstr(body(answer), "/healthz"));
  static const char *const unknown[] = {"/metrics/", "/metric", "/Metrics", "/healthz/../metrics", "/%6detrics"};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) expect_status(ask_for(fixture, "GET", unknown[i]), 404);
  assert_int_equal(fixture->views, 0);  // no work for nothing
}

// The same head as GET has, and nothing behind it.
static void head(void **state)
{
  struct fixture *fixture = *state;
  const char *answer = ask_for(fixture, "HEAD", "/healthz");
  expect_status(answer, 200);
  assert_non_null(strstr(answer, "\r\nContent-Length: 3\r\n"));
  assert_string_equal(body(answer), "");
}

static void other_methods(void **state)
{
  struct fixture *fixture = *state;
  static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"};
  for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
    const char *answer = ask_for(fixture, methods[i], "/metrics");
    expect_status(answer, 405);
    assert_non_null(strstr(answer, "\r\nAllow: GET, HEAD\r\n"));
  }
  const char *answer =
      ask(fixture, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc");
  expect_status(answer, 405);
  assert_int_equal(fixture->views, 0);
}

static void connections_are_kept(void **state)
{
  struct fixture *fixture = *state;
  int fd = connect_to(fixture);
  for (unsigned i = 0; i < 3; i++) {
    fixture->answer_size = 0;
    send_text(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    receive_until(fixture, fd, "\r\n\r\nok\n");
    expect_status(fixture->answer, 200);
  }
  close(fd);
  turn(fixture);
}

static void requests_are_bounded(void **state)
{
  struct fixture *fixture = *state;
  char *request = calloc(1, 32 * 1024);
  assert_non_null(request);
  memcpy(request, "GET / HTTP/1.1\r\nX: ", 19);
  memset(request + 19, 'x', 16 * 1024);
  strcat(request, "\r\n\r\n");
  assert_null(strstr(ask(fixture, request), " 200 "));
  const char *answer = ask(fixture, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000000\r\n\r\n");
  assert_null(strstr(answer, " 200 "));
  free(request);
}

// Whatever comes, others are answered.
static void noise_disturbs_nobody(void **state)
{
  struct fixture *fixture = *state;
  static const char *const noise[] = {
      "", "\x10\x20", "GET", "GET /metrics HTTP/1.1\r\nHost", "\r\n\r\n\r\n", "GET  \r\n\r\n"};
  int fds[sizeof noise / sizeof noise[0]];
  for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
    fds[i] = connect_to(fixture);
    send_text(fds[i], noise[i]);
    turn(fixture);
  }
  expect_status(ask_for(fixture, "GET", "/metrics"), 200);
  for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) close(fds[i]);
  expect_status(ask_for(fixture, "GET", "/metrics"), 200);
}

static void an_address_in_use_is_told(void **state)
{
  struct fixture *fixture = *state;
  struct error error = {0};
  struct admin_http *second = NULL;
  assert_int_equal(admin_http_open(fixture->base, "127.0.0.1", fixture->port, fill, fixture, &second, &error), ERR_EXISTS);
  assert_null(second);
  char address[32];
  snprintf(address, sizeof address, "127.0.0.1:%u: cannot ", fixture->port);
  assert_non_null(strstr(error.text, address));
  assert_non_null(strstr(error.text, "in use"));
}

static void other_addresses_that_fail(void **state)
{
  struct fixture *fixture = *state;
  struct error error = {0};
  struct admin_http *second = NULL;
  assert_int_not_equal(admin_http_open(fixture->base, "192.0.2.1", 9100, fill, fixture, &second, &error), OK);
  assert_non_null(strstr(error.text, "192.0.2.1:9100: cannot bind the address: "));
  assert_int_not_equal(admin_http_open(fixture->base, "2001:db8::1", 9100, fill, fixture, &second, &error), OK);
  assert_non_null(strstr(error.text, "[2001:db8::1]:9100: cannot "));
  assert_int_equal(admin_http_open(fixture->base, "not an address", 9100, fill, fixture, &second, &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "not an address:9100: cannot find the address: "));
  assert_null(second);
}

static void all_addresses(void **state)
{
  struct fixture *fixture = *state;
  admin_http_close(fixture->http);
  open_on(fixture, NULL);
  expect_status(ask_for(fixture, "GET", "/healthz"), 200);
}

// The port is free as soon as the server is closed, also when connections were open.
static void closing_frees_the_port(void **state)
{
  struct fixture *fixture = *state;
  int fd = connect_to(fixture);
  send_text(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  receive_until(fixture, fd, "ok\n");
  admin_http_close(fixture->http);
  fixture->http = NULL;
  fixture->answer_size = 0;
  receive_until(fixture, fd, NULL);  // it says goodbye
  assert_int_equal(fixture->answer_size, 0);
  close(fd);
  struct error error = {0};
  assert_int_equal(admin_http_open(fixture->base, "127.0.0.1", fixture->port, fill, fixture, &fixture->http, &error), OK);
  admin_http_close(NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(metrics, set_up, tear_down),
      cmocka_unit_test_setup_teardown(health, set_up, tear_down),
      cmocka_unit_test_setup_teardown(index_and_unknown_paths, set_up, tear_down),
      cmocka_unit_test_setup_teardown(head, set_up, tear_down),
      cmocka_unit_test_setup_teardown(other_methods, set_up, tear_down),
      cmocka_unit_test_setup_teardown(connections_are_kept, set_up, tear_down),
      cmocka_unit_test_setup_teardown(requests_are_bounded, set_up, tear_down),
      cmocka_unit_test_setup_teardown(noise_disturbs_nobody, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_address_in_use_is_told, set_up, tear_down),
      cmocka_unit_test_setup_teardown(other_addresses_that_fail, set_up, tear_down),
      cmocka_unit_test_setup_teardown(all_addresses, set_up, tear_down),
      cmocka_unit_test_setup_teardown(closing_frees_the_port, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
