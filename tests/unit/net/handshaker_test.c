// The handshaker with real sockets, a clock of the test's own, and a TLS in which '+' ends a good handshake, '-' a bad one,
// and "." is in the middle.
#include "net/handshaker.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/gate.h"
#include "net/loop_internal.h"
#include "tls/session.h"

enum { PATIENCE_MS = 20000, TIME_LIMIT_MS = 5000, CLIENTS_MAX = 16 };

// ---- The world around it

static _Atomic uint64_t clock_ms = 1000;  // of all tests: they run one after the other

struct mono loop_clock(void)
{
  return (struct mono){atomic_load(&clock_ms)};
}

void net_counters_add(struct net_counters *sum, const struct net_counters *other)
{
  *sum = *other;
}

void connection_set_address(struct connection *connection, const char *address)
{
  (void)connection;
  (void)address;
}

struct tls_session {
  int fd;
};

struct tls_session *tls_session_create(struct tls_credentials *credentials, int fd)
{
  assert_non_null(credentials);
  struct tls_session *session = malloc(sizeof *session);
  if (session) session->fd = fd;
  return session;
}

void tls_session_free(struct tls_session *session)
{
  free(session);
}

enum tls_result tls_session_handshake(struct tls_session *session, const char **out_why)
{
  char word = '.';
  ssize_t size = 1;
  while (size == 1 && word == '.') size = recv(session->fd, &word, 1, MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN ? TLS_AGAIN : TLS_CLOSED;
  if (size == 0) return TLS_CLOSED;
  *out_why = "the peer says no";
  return word == '+' ? TLS_DONE : TLS_FAILED;
}

enum tls_result tls_session_read(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size,
                                 const char **out_why)
{
  (void)session, (void)bytes, (void)size, (void)out_why;
  *out_size = 0;
  return TLS_AGAIN;
}

enum tls_result tls_session_write(struct tls_session *session, const struct span parts[2], size_t *out_size)
{
  (void)session;
  *out_size = parts[0].size + parts[1].size;
  return TLS_DONE;
}

bool tls_session_unsent(const struct tls_session *session)
{
  (void)session;
  return false;
}

void tls_session_goodbye(struct tls_session *session)
{
  (void)session;
}

void tls_session_facts(struct tls_session *session, struct tls_facts *out)
{
  (void)session;
  *out = (struct tls_facts){.version = "TLSv1.3", .cipher = "none"};
}

void tls_credentials_unref(struct tls_credentials *credentials)
{
  (void)credentials;
}

void passwords_unref(struct passwords *passwords)
{
  (void)passwords;
}

bool passwords_know(const struct passwords *passwords, struct span user)
{
  (void)passwords, (void)user;
  return true;
}

void jwt_keys_unref(struct jwt_keys *keys)
{
  (void)keys;
}

// ---- The bench

struct bench {
  struct handshaker *handshaker;
  struct listener *listener;
  _Atomic uint32_t connections, max_connections;
  sem_t through;
  struct transport *_Atomic last;
  int clients[CLIENTS_MAX];
  size_t client_count;
};

static void take_through(void *context, struct transport *transport)
{
  struct bench *bench = context;
  struct transport *before = atomic_exchange(&bench->last, transport);
  if (before) transport_destroy(before);
  sem_post(&bench->through);
}

static void begin(struct bench *bench, uint32_t most, uint32_t most_per_address)
{
  *bench = (struct bench){.max_connections = 1000};
  sem_init(&bench->through, 0, 0);
  const struct listener_settings where = {
      .url = "mqtts://127.0.0.1:0", .kind = LISTENER_TCP, .host = "127.0.0.1", .passed_fd = -1, .tls = true};
  struct error error = {0};
  assert_int_equal(listener_open(&where, &bench->listener, &error), OK);
  struct gate *gate = gate_create();
  assert_non_null(gate);
  gate->credentials = (void *)bench;  // the TLS of this test only looks whether there are some
  listener_set_gate(bench->listener, gate);
  const struct handshaker_settings settings = {.most = most,
                                               .most_per_address = most_per_address,
                                               .time_limit_ms = TIME_LIMIT_MS,
                                               .seed = 7,
                                               .log_level = LOG_ERROR,
                                               .connections = &bench->connections,
                                               .max_connections = &bench->max_connections,
                                               .through = take_through,
                                               .context = bench};
  assert_int_equal(handshaker_create(&settings, &bench->handshaker, &error), OK);
  handshaker_add_listener(bench->handshaker, bench->listener);
}

static void end(struct bench *bench)
{
  handshaker_destroy(bench->handshaker);
  if (bench->last) transport_destroy(bench->last);
  for (size_t i = 0; i < bench->client_count; i++) close(bench->clients[i]);
  listener_unref(bench->listener);
  sem_destroy(&bench->through);
}

static struct net_counters counters(struct bench *bench)
{
  struct net_counters counters = {0};
  handshaker_count(bench->handshaker, &counters);
  return counters;
}

// By turns of the handshaker, each of which an order brings about.
#define EVENTUALLY(bench, field, value)                                                                                     \
  do {                                                                                                                      \
    uint64_t got_ = 0;                                                                                                      \
    for (unsigned tries_ = 0; tries_ < 1000000; tries_++)                                                                   \
      if ((got_ = counters(bench).field) == (value)) break;                                                                 \
    assert_int_equal(got_, (value));                                                                                        \
  } while (0)

static void pass_time(struct bench *bench, uint64_t ms)
{
  atomic_fetch_add(&clock_ms, ms);
  (void)counters(bench);  // it takes notice in the turn of this order
}

// From 127.0.0.`host`; returns when the handshaker has it, unless it cannot take it now.
static int client(struct bench *bench, unsigned host, const char *words)
{
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7F000000 + host)};
  assert_int_equal(bind(fd, (const struct sockaddr *)&from, sizeof from), 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  to.sin_port = htons(listener_port(bench->listener));
  assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
  assert_int_equal(send(fd, words, strlen(words), MSG_NOSIGNAL), strlen(words));
  assert_true(bench->client_count < CLIENTS_MAX);
  bench->clients[bench->client_count++] = fd;
  return fd;
}

// In the middle. (Of one that has said nothing the kernel does not tell for a second.)
static int half_way(struct bench *bench, unsigned host)
{
  uint64_t before = counters(bench).accepted;
  int fd = client(bench, host, ".");
  pass_time(bench, 2);  // accepting pauses for a millisecond between rounds
  EVENTUALLY(bench, accepted, before + 1);
  return fd;
}

static bool ended(int fd)
{
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
  char byte;
  return recv(fd, &byte, 1, 0) <= 0;
}

static bool open_still(int fd)
{
  struct pollfd look = {.fd = fd, .events = POLLIN};
  return poll(&look, 1, 0) == 0;
}

static void wait_through(struct bench *bench)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_MS / 1000;
  assert_int_equal(sem_timedwait(&bench->through, &until), 0);
}

// ---- The tests

static void good_handshakes_go_on_as_transports(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  int fd = client(&bench, 1, ".");
  EVENTUALLY(&bench, tls_in_progress, 1);
  send(fd, "..+", 3, MSG_NOSIGNAL);
  wait_through(&bench);
  assert_non_null(transport_tls(bench.last));
  assert_int_equal(strncmp(bench.last->address, "127.0.0.1:", 10), 0);
  assert_int_equal(bench.last->layers->generation, 1);
  assert_int_equal(bench.connections, 1);
  assert_int_equal(bench.listener->connections, 1);
  EVENTUALLY(&bench, tls_full, 1);
  EVENTUALLY(&bench, tls_in_progress, 0);
  end(&bench);
}

static void what_comes_at_once_needs_no_turn_of_its_own(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  client(&bench, 1, "..+");
  wait_through(&bench);
  int fd = client(&bench, 1, ".-");
  pass_time(&bench, 5);
  assert_true(ended(fd));
  EVENTUALLY(&bench, tls_full, 1);
  EVENTUALLY(&bench, tls_failed, 1);
  EVENTUALLY(&bench, tls_in_progress, 0);
  end(&bench);
}

static void bad_ones_are_closed_and_counted(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  assert_true(ended(client(&bench, 1, "-")));
  EVENTUALLY(&bench, tls_failed, 1);
  int gone = half_way(&bench, 1);
  shutdown(gone, SHUT_RDWR);
  EVENTUALLY(&bench, tls_closed, 1);
  EVENTUALLY(&bench, tls_in_progress, 0);
  end(&bench);
}

static void without_certificate_nobody_gets_in(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  listener_set_gate(bench.listener, NULL);
  assert_true(ended(client(&bench, 1, "+")));
  EVENTUALLY(&bench, tls_failed, 1);
  end(&bench);
}

static void they_end_in_time(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  int first = half_way(&bench, 1);
  pass_time(&bench, TIME_LIMIT_MS / 2);
  int second = half_way(&bench, 1);
  send(first, ".", 1, MSG_NOSIGNAL);  // that it moves is no excuse
  pass_time(&bench, TIME_LIMIT_MS / 2 + 1);
  assert_true(ended(first));
  assert_true(open_still(second));
  assert_int_equal(counters(&bench).tls_timeouts, 1);
  handshaker_set_limits(bench.handshaker, 10, LOG_ERROR);
  pass_time(&bench, 0);
  assert_true(ended(second));
  EVENTUALLY(&bench, tls_timeouts, 2);
  end(&bench);
}

static void the_oldest_of_the_busiest_address_makes_room(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 4, 4);
  int other = half_way(&bench, 3);
  int oldest = half_way(&bench, 2), next = half_way(&bench, 2), last = half_way(&bench, 2);
  pass_time(&bench, 1000);
  client(&bench, 4, "+");
  pass_time(&bench, 10);
  wait_through(&bench);
  assert_true(ended(oldest));
  assert_true(open_still(other));
  assert_true(open_still(next));
  assert_true(open_still(last));
  assert_int_equal(counters(&bench).tls_crowded, 1);
  end(&bench);
}

static void who_has_just_moved_is_not_thrown_out(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 2, 2);
  int first = half_way(&bench, 2), second = half_way(&bench, 3);
  client(&bench, 4, "+");
  for (int i = 0; i < 10; i++) pass_time(&bench, 10);
  assert_int_equal(counters(&bench).accepted, 2);  // the third waits in the kernel's queue
  assert_true(open_still(first));
  for (int i = 0; i < 20; i++) pass_time(&bench, 10);
  wait_through(&bench);
  assert_int_equal(counters(&bench).tls_crowded, 1);
  assert_true(open_still(first) != open_still(second));
  end(&bench);
}

static void drops_of_bytes_do_not_hold_the_room(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 1, 1);
  int slow = half_way(&bench, 2);
  client(&bench, 3, "+");
  for (int i = 0; i < 45; i++) {
    send(slow, ".", 1, MSG_NOSIGNAL);
    pass_time(&bench, 50);
  }
  wait_through(&bench);
  assert_int_equal(counters(&bench).tls_crowded, 1);
  end(&bench);
}

static void an_address_has_its_share(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 2);
  int first = half_way(&bench, 2), second = half_way(&bench, 2);
  assert_true(ended(half_way(&bench, 2)));  // nobody from there has been idle: the newest goes
  assert_true(open_still(first));
  half_way(&bench, 3);
  pass_time(&bench, 1000);
  int third = half_way(&bench, 2);
  assert_true(ended(first));
  assert_true(open_still(second));
  assert_true(open_still(third));
  assert_int_equal(counters(&bench).tls_crowded, 2);
  assert_int_equal(counters(&bench).tls_in_progress, 3);
  end(&bench);
}

static void behind_a_proxy_clients_count_by_their_own_addresses(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 1);
  atomic_store(&bench.listener->proxy_protocol, true);
  int one = client(&bench, 1, "PROXY TCP4 192.0.2.1 192.0.2.9 1111 8883\r\n");
  pass_time(&bench, 5);
  int two = client(&bench, 1, "PROXY TCP4 192.0.2.2 192.0.2.9 1111 8883\r\n");
  pass_time(&bench, 5);
  EVENTUALLY(&bench, accepted, 2);
  int again = client(&bench, 1, "PROXY TCP4 192.0.2.2 192.0.2.9 2222 8883\r\n");
  pass_time(&bench, 5);
  assert_true(ended(again));
  assert_true(open_still(one));
  assert_true(open_still(two));
  send(two, "+", 1, MSG_NOSIGNAL);
  wait_through(&bench);
  assert_string_equal(bench.last->address, "192.0.2.2:1111");
  int wrong = client(&bench, 1, "+");
  pass_time(&bench, 5);
  assert_true(ended(wrong));
  EVENTUALLY(&bench, refused_framing, 1);
  end(&bench);
}

static void who_tells_its_address_late_goes_itself_where_it_is_one_too_many(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 1);
  atomic_store(&bench.listener->proxy_protocol, true);
  int late = client(&bench, 1, "PROXY TCP4 192.0.2.1");
  EVENTUALLY(&bench, tls_in_progress, 1);
  pass_time(&bench, 3000);
  int other = client(&bench, 1, "PROXY TCP4 192.0.2.1 192.0.2.9 1111 8883\r\n");
  EVENTUALLY(&bench, tls_in_progress, 2);
  assert_int_equal(send(late, " 192.0.2.9 2222 8883\r\n", 22, MSG_NOSIGNAL), 22);
  assert_true(ended(late));
  EVENTUALLY(&bench, tls_in_progress, 1);
  assert_int_equal(counters(&bench).tls_crowded, 1);
  assert_int_equal(counters(&bench).tls_closed + counters(&bench).tls_failed, 0);
  assert_true(open_still(other));
  send(other, "+", 1, MSG_NOSIGNAL);
  wait_through(&bench);
  EVENTUALLY(&bench, tls_in_progress, 0);
  end(&bench);
}

static void connection_limits_hold_after_the_handshake_too(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  int waiting = half_way(&bench, 1);
  atomic_store(&bench.max_connections, 0);
  send(waiting, "+", 1, MSG_NOSIGNAL);
  assert_true(ended(waiting));
  EVENTUALLY(&bench, refused_limit, 1);
  assert_true(ended(client(&bench, 1, "+")));
  EVENTUALLY(&bench, refused_limit, 2);
  end(&bench);
}

static void handshakes_outlive_their_listener(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  int waiting = half_way(&bench, 1);
  handshaker_remove_listener(bench.handshaker, bench.listener);
  listener_close(bench.listener);
  send(waiting, "+", 1, MSG_NOSIGNAL);
  wait_through(&bench);
  end(&bench);
}

static void what_is_in_progress_ends_with_it(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  int waiting = half_way(&bench, 1);
  handshaker_destroy(bench.handshaker);
  bench.handshaker = NULL;
  assert_true(ended(waiting));
  end(&bench);
}

static void gates_are_counted(void **state)
{
  (void)state;
  struct bench bench;
  begin(&bench, 10, 10);
  struct gate *first = listener_gate(bench.listener);
  assert_int_equal(first->references.count, 2);
  struct gate *next = gate_create();
  listener_set_gate(bench.listener, next);
  assert_int_equal(first->references.count, 1);
  assert_int_equal(bench.listener->gate_generation, 2);
  assert_true(bench.listener->gated);
  gate_unref(first);
  listener_set_gate(bench.listener, NULL);
  assert_false(bench.listener->gated);
  assert_null(listener_gate(bench.listener));
  gate_unref(NULL);
  assert_string_equal(auth_method_name(AUTH_CERT), "cert");
  assert_string_equal(auth_method_name(AUTH_PSK), "psk");
  end(&bench);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(good_handshakes_go_on_as_transports),
      cmocka_unit_test(what_comes_at_once_needs_no_turn_of_its_own),
      cmocka_unit_test(bad_ones_are_closed_and_counted),
      cmocka_unit_test(without_certificate_nobody_gets_in),
      cmocka_unit_test(they_end_in_time),
      cmocka_unit_test(the_oldest_of_the_busiest_address_makes_room),
      cmocka_unit_test(who_has_just_moved_is_not_thrown_out),
      cmocka_unit_test(drops_of_bytes_do_not_hold_the_room),
      cmocka_unit_test(an_address_has_its_share),
      cmocka_unit_test(behind_a_proxy_clients_count_by_their_own_addresses),
      cmocka_unit_test(who_tells_its_address_late_goes_itself_where_it_is_one_too_many),
      cmocka_unit_test(connection_limits_hold_after_the_handshake_too),
      cmocka_unit_test(handshakes_outlive_their_listener),
      cmocka_unit_test(what_is_in_progress_ends_with_it),
      cmocka_unit_test(gates_are_counted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
