#include "broker/listen_address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static struct listen_address parse(const char *text)
{
  struct listen_address address = {0};
  struct error error;
  if (listen_url_parse(text, &address, &error)) fail_msg("%s: %s", text, error.text);
  assert_string_equal(address.text, text);
  return address;
}

static void assert_parsed(const char *text, enum listen_kind kind, const char *host, unsigned port, const char *path)
{
  struct listen_address address = parse(text);
  assert_int_equal(address.kind, kind);
  assert_int_equal(address.port, port);
  if (host)
    assert_string_equal(address.host, host);
  else
    assert_null(address.host);
  if (path)
    assert_string_equal(address.path, path);
  else
    assert_null(address.path);
  listen_address_deinit(&address);
  assert_null(address.text);
}

static void urls_are_taken_apart(void **state)
{
  (void)state;
  assert_parsed("mqtt://127.0.0.1:1883", LISTEN_TCP, "127.0.0.1", 1883, NULL);
  assert_parsed("mqtt://127.0.0.1", LISTEN_TCP, "127.0.0.1", 1883, NULL);
  assert_parsed("mqtt://127.0.0.1:1883/", LISTEN_TCP, "127.0.0.1", 1883, NULL);
  assert_parsed("mqtt://[::1]:1884", LISTEN_TCP, "::1", 1884, NULL);
  assert_parsed("mqtt://[fe80::1%eth0]", LISTEN_TCP, "fe80::1%eth0", 1883, NULL);
  assert_parsed("mqtt://*:1883", LISTEN_TCP, NULL, 1883, NULL);
  assert_parsed("mqtt://:1883", LISTEN_TCP, NULL, 1883, NULL);
  assert_parsed("mqtt://", LISTEN_TCP, NULL, 1883, NULL);
  assert_parsed("mqtt://0.0.0.0:0", LISTEN_TCP, "0.0.0.0", 0, NULL);
  assert_parsed("mqtt://gateway-7.example:65535", LISTEN_TCP, "gateway-7.example", 65535, NULL);
  assert_parsed("ws://127.0.0.1:8083/mqtt", LISTEN_WEBSOCKET, "127.0.0.1", 8083, "/mqtt");
  assert_parsed("ws://127.0.0.1:8083", LISTEN_WEBSOCKET, "127.0.0.1", 8083, NULL);
  assert_parsed("ws://[::]/a/b", LISTEN_WEBSOCKET, "::", 80, "/a/b");
  assert_parsed("ws://*:8083/", LISTEN_WEBSOCKET, NULL, 8083, "/");
  assert_parsed("mqtts://127.0.0.1", LISTEN_TCP, "127.0.0.1", 8883, NULL);
  assert_parsed("wss://*/mqtt", LISTEN_WEBSOCKET, NULL, 443, "/mqtt");
  assert_parsed("wss://[::1]:8084", LISTEN_WEBSOCKET, "::1", 8084, NULL);
  assert_parsed("unix:///run/skerry/broker.sock", LISTEN_UNIX, NULL, 0, "/run/skerry/broker.sock");
  assert_parsed("unix://./b.sock", LISTEN_UNIX, NULL, 0, "./b.sock");
  assert_parsed("systemd://mqtt", LISTEN_SYSTEMD, NULL, 0, "mqtt");
}

static void tls_is_in_the_scheme(void **state)
{
  (void)state;
  static const char *const urls[] = {"mqtt://a", "ws://a", "unix:///a", "systemd://a", "mqtts://a", "wss://a"};
  for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
    struct listen_address address = parse(urls[i]);
    assert_int_equal(address.tls, i >= 4);
    listen_address_deinit(&address);
  }
}

static void wrong_urls_are_explained(void **state)
{
  (void)state;
  static const struct {
    const char *url;
    const char *part;
  } cases[] = {
      {"", "is not a URL; write mqtt://"},
      {"127.0.0.1:1883", "is not a URL"},
      {"MQTT://127.0.0.1", "is not a URL"},
      {"tcp://127.0.0.1:1883", "\"tcp\" is not a known scheme; write mqtt://host:port"},
      {"mqtts://127.0.0.1/topic", "an mqtt URL has no path"},
      {"wss://127.0.0.1:x", "\"x\" is not a port"},
      {"mqtt://127.0.0.1:65536", "\"65536\" is not a port; write a number from 1 to 65535"},
      {"mqtt://127.0.0.1:", "\"\" is not a port"},
      {"mqtt://127.0.0.1:1x", "\"1x\" is not a port"},
      {"mqtt://127.0.0.1:-1", "\"-1\" is not a port"},
      {"mqtt://127.0.0.1:000001", "is not a port"},
      {"mqtt://127.0.0.256", "is not an IPv4 address"},
      {"mqtt://1.2.3", "is not an IPv4 address"},
      {"mqtt://::1:1883", "write IPv6 addresses in brackets"},
      {"mqtt://[::1", "is not closed"},
      {"mqtt://[::1]1883", "a port goes behind a colon"},
      {"mqtt://[1.2.3.4]", "is not an IPv6 address"},
      {"mqtt://[]", "is not an IPv6 address"},
      {"mqtt://[::1%]", "is not an IPv6 address"},
      {"mqtt://a b", "is not a host"},
      {"mqtt://h\xc3\xa4", "is not a host"},
      {"mqtt://user:secret@127.0.0.1", "holds no user name"},
      {"mqtt://127.0.0.1/topic", "an mqtt URL has no path"},
      {"ws://127.0.0.1/a?b", "a character that a URL's path cannot have"},
      {"ws://127.0.0.1/a b", "a character that a URL's path cannot have"},
      {"unix://", "the path of the socket is missing"},
      {"unix:///run/", "the path of the socket is missing"},
      {"systemd://", "the name of the passed socket is missing"},
      {"systemd://a:b", "no spaces, colons or slashes"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct listen_address address = {0};
    struct error error = {0};
    if (listen_url_parse(cases[i].url, &address, &error) != ERR_INVALID) fail_msg("accepted: %s", cases[i].url);
    if (!strstr(error.text, cases[i].part)) fail_msg("%s gives: %s", cases[i].url, error.text);
    assert_null(address.text);
    assert_null(address.host);
    assert_null(address.path);
  }
}

static void socket_paths_have_the_systems_limit(void **state)
{
  (void)state;
  char url[200];
  struct error error;
  struct listen_address address = {0};
  memset(url, 'a', sizeof url);
  memcpy(url, "unix:///", 8);
  url[7 + LISTEN_UNIX_PATH_MAX] = '\0';
  assert_int_equal(listen_url_parse(url, &address, &error), OK);
  assert_int_equal(strlen(address.path), LISTEN_UNIX_PATH_MAX);
  listen_address_deinit(&address);
  url[7 + LISTEN_UNIX_PATH_MAX] = 'a';
  url[7 + LISTEN_UNIX_PATH_MAX + 1] = '\0';
  assert_int_equal(listen_url_parse(url, &address, &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "has 108 bytes"));
}

static void host_and_port(void **state)
{
  (void)state;
  struct listen_address address = {0};
  struct error error;
  assert_int_equal(listen_host_port_parse("127.0.0.1:9100", &address, &error), OK);
  assert_string_equal(address.host, "127.0.0.1");
  assert_int_equal(address.port, 9100);
  listen_address_deinit(&address);
  assert_int_equal(listen_host_port_parse(":9100", &address, &error), OK);
  assert_null(address.host);
  listen_address_deinit(&address);
  assert_int_equal(listen_host_port_parse("[::1]:9100", &address, &error), OK);
  assert_string_equal(address.host, "::1");
  listen_address_deinit(&address);

  assert_int_equal(listen_host_port_parse("9100", &address, &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "the port is missing; write host:port"));
  assert_int_equal(listen_host_port_parse("127.0.0.1", &address, &error), ERR_INVALID);
  assert_int_equal(listen_host_port_parse("http://127.0.0.1:9100", &address, &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "without scheme and path"));
  assert_int_equal(listen_host_port_parse("127.0.0.1:9100/metrics", &address, &error), ERR_INVALID);
  assert_int_equal(listen_host_port_parse("", &address, &error), ERR_INVALID);
}

static void local_addresses(void **state)
{
  (void)state;
  static const struct {
    const char *url;
    bool local;
  } cases[] = {
      {"mqtt://127.0.0.1:1883", true}, {"mqtt://127.8.8.8:1883", true}, {"mqtt://[::1]:1883", true},
      {"mqtt://localhost:1883", true}, {"mqtt://LocalHost:1883", true}, {"ws://127.0.0.1/x", true},
      {"unix:///run/x", true},         {"systemd://mqtt", false},       {"mqtt://*:1883", false},
      {"mqtt://0.0.0.0:1883", false},  {"mqtt://[::]:1883", false},     {"mqtt://128.0.0.1:1883", false},
      {"mqtt://gateway:1883", false},  {"mqtt://[::2]:1883", false},    {"mqtt://localhost.example:1883", false},
      {"mqtt://[fe80::1%lo]", false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct listen_address address = parse(cases[i].url);
    if (listen_address_local(&address) != cases[i].local) fail_msg("%s", cases[i].url);
    listen_address_deinit(&address);
  }
}

static void clashing_addresses(void **state)
{
  (void)state;
  static const struct {
    const char *a, *b;
    bool clash;
  } cases[] = {
      {"mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1883", true},
      {"mqtt://127.0.0.1:1883", "ws://127.0.0.1:1883/x", true},
      {"mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1884", false},
      {"mqtt://127.0.0.1:1883", "mqtt://127.0.0.2:1883", false},
      {"mqtt://127.0.0.1:1883", "mqtt://[::1]:1883", false},
      {"mqtt://127.0.0.1:1883", "mqtt://*:1883", true},
      {"mqtt://127.0.0.1:1883", "mqtt://0.0.0.0:1883", true},
      {"mqtt://127.0.0.1:1883", "mqtt://[::]:1883", true},
      {"mqtt://[::1]:1883", "mqtt://0.0.0.0:1883", false},
      {"mqtt://[::1]:1883", "mqtt://[0:0::0:1]:1883", true},
      {"mqtt://[fe80::1%a]:1883", "mqtt://[fe80::1%b]:1883", false},
      {"mqtt://[fe80::1%a]:1883", "mqtt://[fe80::1%a]:1883", true},
      {"mqtt://name:1883", "mqtt://NAME:1883", true},
      {"mqtt://name:1883", "mqtt://other:1883", false},
      {"mqtt://127.0.0.1:0", "mqtt://127.0.0.1:0", false},
      {"unix:///run/a", "unix:///run/a", true},
      {"unix:///run/a", "unix:///run/b", false},
      {"systemd://a", "systemd://a", true},
      {"systemd://a", "systemd://b", false},
      {"systemd://a", "unix://a", false},
      {"unix:///run/a", "mqtt://*:1883", false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct listen_address a = parse(cases[i].a);
    struct listen_address b = parse(cases[i].b);
    if (listen_address_clashes(&a, false, &b, false) != cases[i].clash) fail_msg("%s and %s", cases[i].a, cases[i].b);
    assert_int_equal(listen_address_clashes(&b, false, &a, false), cases[i].clash);
    listen_address_deinit(&a);
    listen_address_deinit(&b);
  }
  struct listen_address v4 = parse("mqtt://0.0.0.0:1883");
  struct listen_address v6 = parse("mqtt://[::]:1883");
  assert_true(listen_address_clashes(&v4, false, &v6, false));
  assert_false(listen_address_clashes(&v4, false, &v6, true));
  listen_address_deinit(&v4);
  listen_address_deinit(&v6);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(urls_are_taken_apart),
      cmocka_unit_test(tls_is_in_the_scheme),
      cmocka_unit_test(wrong_urls_are_explained),
      cmocka_unit_test(socket_paths_have_the_systems_limit),
      cmocka_unit_test(host_and_port),
      cmocka_unit_test(local_addresses),
      cmocka_unit_test(clashing_addresses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
