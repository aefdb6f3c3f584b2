#include "net/handshake_peers.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static struct sockaddr_storage address_of(const char *text)
{
  struct sockaddr_storage address = {0};
  struct sockaddr_in *v4 = (void *)&address;
  struct sockaddr_in6 *v6 = (void *)&address;
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
    v4->sin_family = AF_INET;
  else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
    v6->sin6_family = AF_INET6;
  return address;
}

static bool same_peer(const char *one, const char *other)
{
  uint8_t keys[2][PEER_KEY];
  struct sockaddr_storage addresses[2] = {address_of(one), address_of(other)};
  for (int i = 0; i < 2; i++) peer_key(&addresses[i], keys[i]);
  return memcmp(keys[0], keys[1], PEER_KEY) == 0;
}

static void addresses_are_told_apart_as_far_as_they_belong_to_somebody(void **state)
{
  (void)state;
  assert_true(same_peer("192.0.2.1", "192.0.2.1"));
  assert_false(same_peer("192.0.2.1", "192.0.2.2"));
  assert_true(same_peer("192.0.2.1", "::ffff:192.0.2.1"));
  assert_true(same_peer("2001:db8::1", "2001:db8::ffff:1"));
  assert_false(same_peer("2001:db8::1", "2001:db8:0:1::1"));
  assert_false(same_peer("::", "0.0.0.0"));
}

static void behind_a_proxy_the_same_holds(void **state)
{
  (void)state;
  struct sockaddr_storage direct = address_of("192.0.2.1");
  struct proxy_source source = {.family = PROXY_IPV4, .address = {192, 0, 2, 1}};
  uint8_t keys[2][PEER_KEY];
  peer_key(&direct, keys[0]);
  peer_key_proxied(&source, keys[1]);
  assert_memory_equal(keys[0], keys[1], PEER_KEY);
  direct = address_of("2001:db8::1");
  source = (struct proxy_source){.family = PROXY_IPV6, .address = {0x20, 1, 0x0d, 0xb8, [15] = 9}};
  peer_key(&direct, keys[0]);
  peer_key_proxied(&source, keys[1]);
  assert_memory_equal(keys[0], keys[1], PEER_KEY);
  // Whoever comes by a socket of the proxy's host is one.
  source = (struct proxy_source){.family = PROXY_UNIX, .address = {1}};
  static const uint8_t none[PEER_KEY];
  peer_key_proxied(&source, keys[1]);
  assert_memory_equal(keys[1], none, PEER_KEY);
}

static struct peer *join(struct peers *peers, const char *address, struct link *member)
{
  uint8_t key[PEER_KEY];
  struct sockaddr_storage from = address_of(address);
  peer_key(&from, key);
  struct peer *peer = peers_find(peers, key);
  assert_non_null(peer);
  peer_join(peer, member);
  return peer;
}

static void the_busiest_is_who_has_most(void **state)
{
  (void)state;
  struct peers peers;
  struct link members[4];
  peers_init(&peers, 7);
  assert_null(peers_busiest(&peers));
  struct peer *one = join(&peers, "192.0.2.1", &members[0]);
  assert_ptr_equal(peers_busiest(&peers), one);
  struct peer *two = join(&peers, "192.0.2.2", &members[1]);
  assert_ptr_equal(join(&peers, "192.0.2.2", &members[2]), two);
  assert_ptr_equal(peers_busiest(&peers), two);
  assert_int_equal(two->count, 2);
  assert_ptr_equal(two->members.next, &members[1]);
  peers_leave(&peers, two, &members[1]);
  assert_ptr_equal(two->members.next, &members[2]);
  peers_leave(&peers, two, &members[2]);
  assert_ptr_equal(peers_busiest(&peers), one);
  two = join(&peers, "192.0.2.2", &members[3]);
  assert_int_equal(two->count, 1);
  peers_leave(&peers, two, &members[3]);
  peers_leave(&peers, one, &members[0]);
  assert_null(peers_busiest(&peers));
  peers_deinit(&peers);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(addresses_are_told_apart_as_far_as_they_belong_to_somebody),
      cmocka_unit_test(behind_a_proxy_the_same_holds),
      cmocka_unit_test(the_busiest_is_who_has_most),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
