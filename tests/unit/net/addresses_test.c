// Connections of each address, against a plain table.
#include "net/addresses.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/prng.h"
#include "net/listener.h"

static void as_many_as_the_limit(void **state)
{
  (void)state;
  struct addresses *addresses = addresses_create(7);
  struct listener listener = {.most_per_address = 2}, other = {.most_per_address = 2}, open = {0};
  bool counted;
  for (unsigned i = 0; i < 2; i++) {
    assert_false(addresses_full(addresses, &listener, "192.0.2.7:1"));
    assert_true(addresses_enter(addresses, &listener, i ? "192.0.2.7:2" : "[::ffff:192.0.2.7]:3", &counted));
    assert_true(counted);
  }
  assert_true(addresses_full(addresses, &listener, "192.0.2.7:4"));
  assert_false(addresses_enter(addresses, &listener, "192.0.2.7:4", &counted));
  assert_false(counted);
  // Others: another address, another listener, one without the limit, this machine.
  assert_true(addresses_enter(addresses, &listener, "192.0.2.8:1", &counted));
  assert_true(addresses_enter(addresses, &other, "192.0.2.7:1", &counted));
  for (unsigned i = 0; i < 5; i++) {
    assert_true(addresses_enter(addresses, &open, "192.0.2.7:1", &counted));
    assert_false(counted);
    assert_true(addresses_enter(addresses, &listener, "unix", &counted));
    assert_false(counted);
  }
  addresses_leave(addresses, &listener, "192.0.2.7:9");
  assert_true(addresses_enter(addresses, &listener, "192.0.2.7:4", &counted));
  // A lower limit throws nobody out.
  listener.most_per_address = 1;
  assert_true(addresses_full(addresses, &listener, "192.0.2.7:1"));
  addresses_leave(addresses, &listener, "192.0.2.7:1");
  assert_true(addresses_full(addresses, &listener, "192.0.2.7:1"));
  addresses_leave(addresses, &listener, "192.0.2.7:1");
  assert_false(addresses_full(addresses, &listener, "192.0.2.7:1"));
  addresses_destroy(addresses);
  addresses_destroy(NULL);
}

static void ipv6_counts_by_64_bits(void **state)
{
  (void)state;
  struct addresses *addresses = addresses_create(7);
  struct listener listener = {.most_per_address = 1};
  bool counted;
  assert_true(addresses_enter(addresses, &listener, "[2001:db8::1]:1", &counted));
  assert_false(addresses_enter(addresses, &listener, "[2001:db8::ffff:1]:1", &counted));
  assert_true(addresses_enter(addresses, &listener, "[2001:db8:0:1::1]:1", &counted));
  addresses_destroy(addresses);
}

enum { ADDRESSES = 40, STEPS = 20000, MOST = 5 };

static void it_agrees_with_a_plain_table(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 3);
  struct addresses *addresses = addresses_create(7);
  struct listener listener = {.most_per_address = MOST};
  unsigned count[ADDRESSES] = {0};
  for (unsigned step = 0; step < STEPS; step++) {
    unsigned which = (unsigned)prng_below(&prng, ADDRESSES);
    char address[32];
    snprintf(address, sizeof address, "192.0.2.%u:%u", which, step);
    bool counted;
    if (prng_below(&prng, 2)) {
      bool room = count[which] < MOST;
      assert_int_equal(addresses_full(addresses, &listener, address), !room);
      assert_int_equal(addresses_enter(addresses, &listener, address, &counted), room);
      assert_int_equal(counted, room);
      count[which] += room;
    } else if (count[which] > 0) {
      addresses_leave(addresses, &listener, address);
      count[which]--;
    }
  }
  addresses_destroy(addresses);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(as_many_as_the_limit),
      cmocka_unit_test(ipv6_counts_by_64_bits),
      cmocka_unit_test(it_agrees_with_a_plain_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
