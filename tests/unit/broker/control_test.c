// Requests of the control socket, and its path. Its clients are tested with the real binary.
#include "broker/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// What accept4 says instead of a descriptor; 0: what it says itself.
static int accept_errno;
static unsigned accepts;

int __real_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
  accepts++;
  if (accept_errno == 0) return __real_accept4(fd, address, size, flags);
  errno = accept_errno;
  return -1;
}

static struct control_request parse(const char *line)
{
  struct control_request request;
  struct error error;
  if (control_parse(span_text(line), &request, &error) != OK) fail_msg("%s: %s", line, error.text);
  return request;
}

static void requests(void **state)
{
  (void)state;
  assert_int_equal(parse("{\"command\":\"status\"}").command, CONTROL_STATUS);
  assert_int_equal(parse("{\"command\":\"confirm\"}").command, CONTROL_CONFIRM);
  assert_int_equal(parse("{\"command\":\"rollback\"}").command, CONTROL_ROLLBACK);
  assert_int_equal(parse("{\"command\":\"reload\"}").command, CONTROL_RELOAD);
  assert_int_equal(parse("{\"command\":\"reload\"}").confirm_ms, 0);
  assert_int_equal(parse("{ \"confirm_ms\": 60000, \"command\": \"\\u0072eload\" }").confirm_ms, 60000);
  assert_int_equal(parse("{\"command\":\"reload\",\"confirm_ms\":86400000}").confirm_ms, CONTROL_CONFIRM_MAX_MS);
  assert_int_equal(parse("{\"command\":\"status\"}").uid, -1);
  assert_int_equal(parse("{\"command\":\"clients\"}").command, CONTROL_CLIENTS);
  assert_string_equal(parse("{\"command\":\"clients\",\"user\":\"ann\"}").user, "ann");
  struct control_request request = parse("{\"client\":\"a\\u0020b\",\"command\":\"disconnect\"}");
  assert_int_equal(request.command, CONTROL_DISCONNECT);
  assert_string_equal(request.client, "a b");
  assert_string_equal(request.user, "");
}

static void wrong_requests(void **state)
{
  (void)state;
  static const struct {
    const char *line, *part;
  } cases[] = {
      {"", "not a JSON object"},
      {"{}", "no command"},
      {"{\"command\":\"stop\"}", "known are reload, confirm, rollback, status, clients and disconnect"},
      {"{\"command\":null}", "unknown command"},
      {"{\"command\":\"a very long word that no command has, whatever it is\"}", "unknown command"},
      {"{\"comand\":\"status\"}", "known are command, confirm_ms, client and user"},
      {"{\"command\":\"reload\",\"confirm_ms\":86400001}", "confirm_ms has to be"},
      {"{\"command\":\"reload\",\"confirm_ms\":1e3}", "confirm_ms has to be"},
      {"{\"command\":\"reload\",\"confirm_ms\":4294967296}", "confirm_ms has to be"},
      {"{\"command\":\"confirm\",\"confirm_ms\":1}", "goes with reload"},
      {"{\"command\":\"disconnect\"}", "needs a client, a user"},
      {"{\"command\":\"disconnect\",\"user\":\"\"}", "user has to be"},
      {"{\"command\":\"disconnect\",\"client\":5}", "client has to be"},
      {"{\"command\":\"disconnect\",\"client\":\"a\\u0000b\"}", "client has to be"},
      {"{\"command\":\"status\",\"client\":\"a\"}", "go with clients and disconnect"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct control_request request;
    struct error error = {0};
    if (control_parse(span_text(cases[i].line), &request, &error) != ERR_INVALID) fail_msg("accepted: %s", cases[i].line);
    if (!strstr(error.text, cases[i].part)) fail_msg("%s gives: %s", cases[i].line, error.text);
  }
}

static void never(void *context, const struct control_request *request, struct buffer *out)
{
  (void)context;
  (void)request;
  (void)out;
  fail();
}

#define SOCKETS "/tmp/skerry-control-XXXXXX"

// A directory for sockets, made from that pattern, and the address of a socket in it.
static struct sockaddr_un make_address(char directory[])
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  assert_non_null(mkdtemp(directory));
  snprintf(address.sun_path, sizeof address.sun_path, "%s/c.sock", directory);
  return address;
}

static void the_socket_is_its_owners(void **state)
{
  (void)state;
  char directory[] = SOCKETS;
  const struct sockaddr_un address = make_address(directory);
  const char *path = address.sun_path;
  struct event_base *base = event_base_new();
  struct control *control = NULL;
  struct control *other = NULL;
  struct error error = {0};
  struct stat info;
  assert_int_equal(control_open(base, path, 0600, never, NULL, &control, &error), OK);
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(info.st_mode & 07777, 0600);
  control_set_mode(control, 0660);
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(info.st_mode & 07777, 0660);
  assert_int_equal(control_open(base, path, 0600, never, NULL, &other, &error), ERR_EXISTS);
  assert_non_null(strstr(error.text, "another process listens"));
  control_retire(control, NULL);
  assert_int_equal(access(path, F_OK), -1);
  assert_int_equal(control_open(base, path, 0600, never, NULL, &other, &error), OK);
  control_close(control);  // the path is the other's now
  assert_int_equal(access(path, F_OK), 0);
  control_close(other);
  assert_int_equal(access(path, F_OK), -1);
  control_close(NULL);
  assert_int_equal(chmod(directory, 0777), 0);
  assert_int_equal(control_open(base, path, 0600, never, NULL, &other, &error), ERR_DENIED);
  event_base_free(base);
  assert_int_equal(rmdir(directory), 0);
}

static void without_descriptors_it_does_not_spin(void **state)
{
  (void)state;
  char directory[] = SOCKETS;
  const struct sockaddr_un address = make_address(directory);
  struct event_base *base = event_base_new();
  struct control *control = NULL;
  struct error error = {0};
  assert_int_equal(control_open(base, address.sun_path, 0600, never, NULL, &control, &error), OK);
  int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(client, (const struct sockaddr *)&address, sizeof address), 0);
  accept_errno = EMFILE;
  accepts = 0;
  for (unsigned i = 0; i < 5; i++) assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
  // Each of them was a wait: for the pause to end, or for whom it is to accept.
  assert_in_range(accepts, 2, 3);
  accept_errno = 0;
  while (accepts < 4) assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
  control_close(control);
  event_base_free(base);
  char byte;
  assert_int_equal(recv(client, &byte, 1, MSG_DONTWAIT), 0);  // it was accepted
  close(client);
  assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(requests),
      cmocka_unit_test(wrong_requests),
      cmocka_unit_test(the_socket_is_its_owners),
      cmocka_unit_test(without_descriptors_it_does_not_spin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
