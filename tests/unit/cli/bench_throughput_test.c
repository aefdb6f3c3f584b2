// The whole load generator against a relay in a thread that treats messages badly on purpose: what it does must be seen.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/bench.h"
#include "cli/commands.h"

enum { HELLO_SIZE = 5, FRAME_MAX = 4096, MESSAGES = 2000, VICTIM = 700 };

enum mischief { NOTHING, DROP, REPEAT, SWAP, DAMAGE, FORGE, HANG_UP };

struct relay {
  int listen_fd;
  enum mischief mischief;
  pthread_t thread;
};

static bool read_whole(int fd, uint8_t *out, size_t size)
{
  for (size_t done = 0; done < size;) {
    ssize_t got = read(fd, out + done, size - done);
    if (got <= 0) return false;
    done += (size_t)got;
  }
  return true;
}

static void write_whole(int fd, const uint8_t *data, size_t size)
{
  for (size_t done = 0; done < size;) {
    ssize_t sent = send(fd, data + done, size - done, MSG_NOSIGNAL);
    if (sent <= 0) return;
    done += (size_t)sent;
  }
}

static int accept_role(int listen_fd, uint8_t role, size_t *out_frame)
{
  uint8_t hello[HELLO_SIZE] = {0};
  int fd = accept(listen_fd, NULL, NULL);
  if (fd >= 0 && read_whole(fd, hello, sizeof hello) && hello[0] == role) {
    *out_frame = (size_t)hello[2] << 16 | (size_t)hello[3] << 8 | hello[4];
    write_whole(fd, (const uint8_t[]){'R'}, 1);
  }
  return fd;
}

// Relays the message of number VICTIM; false ends the connection.
static bool harm(enum mischief mischief, int publisher, int subscriber, uint8_t *frame, size_t size)
{
  uint8_t second[FRAME_MAX];
  switch (mischief) {
    case NOTHING: break;
    case DROP: return true;
    case REPEAT: write_whole(subscriber, frame, size); break;
    case SWAP:
      if (!read_whole(publisher, second, size)) return false;
      write_whole(subscriber, second, size);
      break;
    // The last byte is pattern; the payload of 64 bytes begins with the publisher's index.
    case DAMAGE: frame[size - 1] ^= 1; break;
    case FORGE: frame[size - 64] = 99; break;
    case HANG_UP: return false;
  }
  write_whole(subscriber, frame, size);
  return true;
}

static void *relay_run(void *argument)
{
  struct relay *relay = argument;
  uint8_t frame[FRAME_MAX];
  size_t size = 0;
  int subscriber = accept_role(relay->listen_fd, 'S', &size);
  int publisher = accept_role(relay->listen_fd, 'P', &size);
  bool going = size > 64 && size <= FRAME_MAX;
  for (uint32_t number = 0; going && read_whole(publisher, frame, size); number++) {
    if (number == VICTIM)
      going = harm(relay->mischief, publisher, subscriber, frame, size);
    else
      write_whole(subscriber, frame, size);
  }
  close(publisher);
  close(subscriber);
  return NULL;
}

static int run_against(enum mischief mischief)
{
  struct relay relay = {.mischief = mischief};
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t address_size = sizeof address;
  relay.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(relay.listen_fd, (const struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(listen(relay.listen_fd, 4), 0);
  assert_int_equal(getsockname(relay.listen_fd, (struct sockaddr *)&address, &address_size), 0);
  assert_int_equal(pthread_create(&relay.thread, NULL, relay_run, &relay), 0);
  struct bench_options options = {.host = "127.0.0.1",
                                  .port = ntohs(address.sin_port),
                                  .prefix = "bench",
                                  .version = MQTT_3_1_1,
                                  .publishers = 1,
                                  .subscribers = 1,
                                  .topics = 1,
                                  .window = 1,
                                  .payload_bytes = 64,
                                  .messages = MESSAGES,
                                  .timeout_ms = 300,
                                  .at_once = 10,
                                  .sources = 1,
                                  .raw = true,
                                  .quiet = true};
  int code = bench_throughput(&options);
  close(relay.listen_fd);
  pthread_join(relay.thread, NULL);
  return code;
}

static void test_faithful_relay_passes(void **state)
{
  (void)state;
  assert_int_equal(run_against(NOTHING), COMMAND_OK);
}

static void test_loss_fails(void **state)
{
  (void)state;
  assert_int_equal(run_against(DROP), COMMAND_FAILED);
}

static void test_repetition_fails_at_qos_0(void **state)
{
  (void)state;
  assert_int_equal(run_against(REPEAT), COMMAND_FAILED);
}

static void test_disorder_fails(void **state)
{
  (void)state;
  assert_int_equal(run_against(SWAP), COMMAND_FAILED);
}

static void test_damage_fails(void **state)
{
  (void)state;
  assert_int_equal(run_against(DAMAGE), COMMAND_FAILED);
}

static void test_stranger_fails(void **state)
{
  (void)state;
  assert_int_equal(run_against(FORGE), COMMAND_FAILED);
}

static void test_lost_connection_fails(void **state)
{
  (void)state;
  assert_int_equal(run_against(HANG_UP), COMMAND_FAILED);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_faithful_relay_passes),
      cmocka_unit_test(test_loss_fails),
      cmocka_unit_test(test_repetition_fails_at_qos_0),
      cmocka_unit_test(test_disorder_fails),
      cmocka_unit_test(test_damage_fails),
      cmocka_unit_test(test_stranger_fails),
      cmocka_unit_test(test_lost_connection_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
