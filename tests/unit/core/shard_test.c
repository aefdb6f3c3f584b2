#include "bench.h"

static void a_message_goes_through(void **state)
{
  (void)state;
  for (uint8_t shards = 1; shards <= 4; shards++) {
    struct bench bench;
    bench_init(&bench, shards, NULL);
    struct client *subscriber = client_new(&bench, MQTT_5_0, "subscriber");
    struct client *publisher = client_new(&bench, MQTT_3_1_1, "publisher");
    for (uint8_t qos = 0; qos <= 2; qos++) {
      client_subscribe(subscriber, "a/+", qos);
      for (uint8_t sent = 0; sent <= 2; sent++) {
        client_publish(publisher, "a/b", "hello", sent, false);
        client_take(subscriber, "a/b", "hello", sent < qos ? sent : qos);
      }
    }
    client_expect_nothing(subscriber);
    client_expect_nothing(publisher);
    bench_deinit(&bench);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_message_goes_through),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
