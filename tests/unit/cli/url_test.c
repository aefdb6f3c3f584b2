#include "cli/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *text_of(const char *text)
{
  return text ? text : "-";
}

static void check(const char *text, enum url_kind kind, const char *user_name, const char *password, const char *host,
                  uint16_t port, const char *topic, const char *path)
{
  struct url url;
  struct error error = {0};
  if (url_parse(text, &url, &error) != OK) fail_msg("%s", error.text);
  assert_int_equal(url.kind, kind);
  assert_int_equal(url.tls, strncmp(text, "mqtts:", 6) == 0 || strncmp(text, "wss:", 4) == 0);
  assert_string_equal(text_of(url.user_name), user_name);
  assert_string_equal(text_of(url.password), password);
  assert_string_equal(text_of(url.host), host);
  assert_int_equal(url.port, port);
  assert_string_equal(text_of(url.topic), topic);
  assert_string_equal(text_of(url.path), path);
  url_deinit(&url);
}

static void good(void **state)
{
  (void)state;
  check("mqtt://h", URL_TCP, "-", "-", "h", 1883, "-", "-");
  check("mqtt://h/", URL_TCP, "-", "-", "h", 1883, "-", "-");
  check("mqtt://h:1/a/b", URL_TCP, "-", "-", "h", 1, "a/b", "-");
  check("mqtt://u@h/a%20b", URL_TCP, "u", "-", "h", 1883, "a b", "-");
  check("mqtt://u:p%40%3a@h:65535/t", URL_TCP, "u", "p@:", "h", 65535, "t", "-");
  check("mqtt://u:@h", URL_TCP, "u", "", "h", 1883, "-", "-");
  check("mqtt://a@b:c@h", URL_TCP, "a@b", "c", "h", 1883, "-", "-");
  check("mqtt://[::1]", URL_TCP, "-", "-", "::1", 1883, "-", "-");
  check("mqtt://[fe80::1]:1884/x", URL_TCP, "-", "-", "fe80::1", 1884, "x", "-");
  check("mqtts://h", URL_TCP, "-", "-", "h", 8883, "-", "-");
  check("mqtts://u:p@h:1/a/b", URL_TCP, "u", "p", "h", 1, "a/b", "-");
  check("wss://h", URL_WEBSOCKET, "-", "-", "h", 443, "-", "-");
  check("wss://[::1]:8443/mqtt", URL_WEBSOCKET, "-", "-", "::1", 8443, "-", "/mqtt");
  check("ws://h", URL_WEBSOCKET, "-", "-", "h", 80, "-", "-");
  check("ws://h:8083/mqtt/x", URL_WEBSOCKET, "-", "-", "h", 8083, "-", "/mqtt/x");
  check("unix:///run/b.sock", URL_UNIX, "-", "-", "-", 0, "-", "/run/b.sock");
  check("http://h:9100/metrics", URL_HTTP, "-", "-", "h", 9100, "-", "/metrics");
}

static void bad(void **state)
{
  (void)state;
  static const struct {
    const char *text;
    const char *why;
  } cases[] = {
      {"", "\"\": no scheme; write mqtts://host, mqtt://host, wss://host/path, ws://host/path or unix:///path"},
      {"localhost",
       "\"localhost\": no scheme; write mqtts://host, mqtt://host, wss://host/path, ws://host/path or unix:///path"},
      {"ftp://h", "\"ftp://h\": unknown scheme \"ftp\"; known are mqtts, mqtt, wss, ws and unix"},
      {"mqtt://", "\"mqtt://\": the host is missing"},
      {"mqtt://:1883", "\"mqtt://:1883\": the host is missing"},
      {"mqtt://h:0", "\"mqtt://h:0\": port: 0 is out of range; allowed is 1 to 65535"},
      {"mqtt://h:x", "\"mqtt://h:x\": port: \"x\" is not a whole number"},
      {"mqtt://h:", "\"mqtt://h:\": port: \"\" is not a whole number"},
      {"mqtt://::1", "\"mqtt://::1\": write an IPv6 address in brackets: [::1]:1883"},
      {"mqtt://[::1", "\"mqtt://[::1\": \"[\" of an IPv6 address without \"]\""},
      {"mqtt://[::1]x", "\"mqtt://[::1]x\": \"x\" behind the IPv6 address"},
      {"mqtt://%zz@h", "\"mqtt://%zz@h\": a percent sign that is not followed by two hexadecimal digits"},
      {"mqtt://h/%4", "\"mqtt://h/%4\": a percent sign that is not followed by two hexadecimal digits"},
      {"mqtt://h/%00", "\"mqtt://h/%00\": a percent sign that is not followed by two hexadecimal digits"},
      {"unix://b.sock", "\"unix://b.sock\": a socket's path is absolute: unix:///run/skerry/broker.sock"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct url url;
    struct error error = {0};
    assert_int_equal(url_parse(cases[i].text, &url, &error), ERR_INVALID);
    assert_string_equal(error.text, cases[i].why);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(good), cmocka_unit_test(bad)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
