// Listeners that come and go while connections arrive.
#include "net/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "net/gate.h"

enum { PATIENCE_MS = 20000 };

// No listener here has a gate.
struct gate *gate_ref(struct gate *gate)
{
  assert_null(gate);
  return gate;
}

void gate_unref(struct gate *gate)
{
  assert_null(gate);
}

struct world {
  struct accepter accepter;
  struct listener *listener;
  struct log log;
  struct net_counters counters;
  struct mono now;
  _Atomic uint32_t connections, max_connections;
  unsigned opened;
};

static void take(void *context, struct listener *listener, int fd, const struct sockaddr_storage *peer, const char *address)
{
  struct world *world = context;
  (void)listener;
  (void)peer;
  (void)address;
  world->opened++;
  close(fd);
}

static void begin(struct world *world)
{
  *world = (struct world){.now = {.ms = 1000}, .max_connections = 10};
  world->accepter = (struct accepter){.epoll = epoll_create1(EPOLL_CLOEXEC),
                                      .now = &world->now,
                                      .log = &world->log,
                                      .counters = &world->counters,
                                      .connections = &world->connections,
                                      .max_connections = &world->max_connections,
                                      .open = take,
                                      .context = world};
  list_init(&world->accepter.accepting);
  struct listener_settings settings = {.url = "mqtt://127.0.0.1:0", .host = "127.0.0.1", .passed_fd = -1};
  struct error error;
  assert_int_equal(listener_open(&settings, &world->listener, &error), OK);
  accepter_add(&world->accepter, world->listener);
}

static void finish(struct world *world)
{
  accepter_remove_all(&world->accepter);
  accepter_bury(&world->accepter);
  listener_close(world->listener);
  listener_unref(world->listener);
  close(world->accepter.epoll);
}

static int connect_to(const struct listener *listener)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(listener_port(listener))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
  return fd;
}

static struct accepting *wait_for_event(const struct world *world)
{
  struct epoll_event event;
  assert_int_equal(epoll_wait(world->accepter.epoll, &event, 1, PATIENCE_MS), 1);
  return event.data.ptr;
}

static void a_connection_is_taken(void **state)
{
  (void)state;
  struct world world;
  begin(&world);
  int fd = connect_to(world.listener);
  accepter_accept(&world.accepter, wait_for_event(&world));
  assert_int_equal(world.opened, 1);
  close(fd);
  finish(&world);
}

// What epoll has told already may name a listener that another event of the same turn has removed.
static void an_event_of_a_removed_listener_is_nothing(void **state)
{
  (void)state;
  struct world world;
  begin(&world);
  int fd = connect_to(world.listener);
  struct accepting *accepting = wait_for_event(&world);
  accepter_remove(&world.accepter, world.listener);
  assert_int_equal(accepting->source, SOURCE_LISTENER);
  accepter_accept(&world.accepter, accepting);
  assert_int_equal(world.opened, 0);
  accepter_bury(&world.accepter);
  accepter_bury(&world.accepter);
  close(fd);
  finish(&world);
}

// As when the system's room for what is watched is full: the descriptor of epoll takes nothing for a while.
static void a_listener_that_cannot_be_watched_is_tried_again(void **state)
{
  (void)state;
  struct world world;
  begin(&world);
  int fd = connect_to(world.listener), again = connect_to(world.listener), epoll = world.accepter.epoll;
  accepter_accept(&world.accepter, wait_for_event(&world));
  assert_int_equal(world.opened, 2);
  // The next round comes so soon that it pauses.
  int third = connect_to(world.listener);
  accepter_accept(&world.accepter, wait_for_event(&world));
  assert_int_equal(world.opened, 3);
  assert_int_equal(accepter_resumes_ms(&world.accepter), 1);
  world.accepter.epoll = -1;
  for (unsigned i = 0; i < 3; i++) {
    world.now.ms += (uint64_t)accepter_resumes_ms(&world.accepter);
    accepter_resume(&world.accepter);
    assert_true(accepter_resumes_ms(&world.accepter) > 0);
  }
  world.accepter.epoll = epoll;
  world.now.ms += (uint64_t)accepter_resumes_ms(&world.accepter);
  accepter_resume(&world.accepter);
  assert_int_equal(accepter_resumes_ms(&world.accepter), -1);
  int fourth = connect_to(world.listener);
  accepter_accept(&world.accepter, wait_for_event(&world));
  assert_int_equal(world.opened, 4);
  close(fd);
  close(again);
  close(third);
  close(fourth);
  finish(&world);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_connection_is_taken),
      cmocka_unit_test(an_event_of_a_removed_listener_is_nothing),
      cmocka_unit_test(a_listener_that_cannot_be_watched_is_tried_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
