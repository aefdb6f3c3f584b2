#include "wire/websocket_handshake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

// RFC 6455, section 1.3: its key and the accept value that belongs to it.
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
static const char nonce_text[] = "the sample nonce";
static const char accept_value[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#define LINE "GET /mqtt HTTP/1.1\r\n"
#define HOST "Host: broker.example:8083\r\n"
#define UPGRADE "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define PROTOCOL "Sec-WebSocket-Protocol: mqtt\r\n"

static const uint8_t *nonce(void)
{
  return (const uint8_t *)nonce_text;
}

static enum websocket_head read_request(const char *text, const char *path, struct websocket_request *out)
{
  size_t size = strlen(text);
  char *copy = malloc(size ? size : 1);
  assert_non_null(copy);
  memcpy(copy, text, size);
  enum websocket_head head = websocket_read_request(span_of(copy, size), path, out);
  free(copy);
  return head;
}

static void assert_accepted(const char *text, const char *path, const char *protocol)
{
  struct websocket_request request;
  if (read_request(text, path, &request) != WEBSOCKET_HEAD_ACCEPTED)
    fail_msg("%u %s: %s", request.http_status, request.why, text);
  assert_int_equal(request.size, strlen(text));
  assert_int_equal(request.http_status, 101);
  assert_string_equal(request.protocol, protocol);
  assert_memory_equal(request.accept, accept_value, WEBSOCKET_ACCEPT_SIZE);
  char response[WEBSOCKET_MAX_RESPONSE];
  size_t size = websocket_write_response(&request, response);
  char expected[WEBSOCKET_MAX_RESPONSE];
  int expected_size = snprintf(expected, sizeof expected,
                               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
                               accept_value, protocol);
  assert_int_equal(size, expected_size);
  assert_memory_equal(response, expected, size);
}

static void assert_refused(const char *text, unsigned http_status)
{
  struct websocket_request request;
  if (read_request(text, "/mqtt", &request) != WEBSOCKET_HEAD_REFUSED) fail_msg("not refused: %s", text);
  if (request.http_status != http_status) fail_msg("%u %s: %s", request.http_status, request.why, text);
  char response[WEBSOCKET_MAX_RESPONSE];
  char start[32];
  size_t size = websocket_write_response(&request, response);
  int start_size = snprintf(start, sizeof start, "HTTP/1.1 %u ", http_status);
  assert_memory_equal(response, start, (size_t)start_size);
  const char *body = memmem(response, size, "\r\n\r\n", 4);
  assert_non_null(body);
  assert_non_null(memmem(body, size - (size_t)(body - response), request.why, strlen(request.why)));
  char length[32];
  int length_size = snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(request.why) + 1);
  assert_non_null(memmem(response, size, length, (size_t)length_size));
}

static void test_accepted(void **state)
{
  (void)state;
  assert_accepted(LINE HOST UPGRADE KEY VERSION PROTOCOL "\r\n", "/mqtt", "mqtt");
  assert_accepted(LINE HOST UPGRADE KEY VERSION PROTOCOL "\r\n", NULL, "mqtt");
  assert_accepted("GET /mqtt?token=1 HTTP/1.1\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", "/mqtt", "mqtt");
  assert_accepted("GET http://broker.example:8083/mqtt HTTP/1.1\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", "/mqtt",
                  "mqtt");
  assert_accepted("GET http://broker.example HTTP/1.1\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", "/", "mqtt");
  assert_accepted(LINE "host:x\r\nUPGRADE:WebSocket\r\nconnection: upgrade\r\n" KEY VERSION PROTOCOL
                       "Content-Length: 0\r\n\r\n",
                  "/mqtt", "mqtt");
}

static void test_protocol_choice(void **state)
{
  (void)state;
  assert_accepted(LINE HOST UPGRADE KEY VERSION "Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n", "/mqtt", "mqttv3.1");
  assert_accepted(LINE HOST UPGRADE KEY VERSION "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\r\n", "/mqtt", "mqtt");
  assert_accepted(LINE HOST UPGRADE KEY VERSION "Sec-WebSocket-Protocol: wamp,mqtt\r\n\r\n", "/mqtt", "mqtt");
  assert_accepted(LINE HOST UPGRADE KEY VERSION "Sec-WebSocket-Protocol: wamp\r\n" PROTOCOL "\r\n", "/mqtt", "mqtt");
  assert_refused(LINE HOST UPGRADE KEY VERSION "\r\n", 400);
  assert_refused(LINE HOST UPGRADE KEY VERSION "Sec-WebSocket-Protocol: MQTT\r\n\r\n", 400);
  assert_refused(LINE HOST UPGRADE KEY VERSION "Sec-WebSocket-Protocol: mqtt5\r\n\r\n", 400);
}

static void test_bytes_behind_the_request_are_left(void **state)
{
  (void)state;
  struct websocket_request request;
  const char *text = LINE HOST UPGRADE KEY VERSION PROTOCOL "\r\n";
  char longer[512];
  snprintf(longer, sizeof longer, "%s\x82\x80", text);
  assert_int_equal(read_request(longer, "/mqtt", &request), WEBSOCKET_HEAD_ACCEPTED);
  assert_int_equal(request.size, strlen(text));
}

static void test_cut_at_every_byte(void **state)
{
  (void)state;
  const char *text = LINE HOST UPGRADE KEY VERSION PROTOCOL "\r\n";
  char cut[512];
  for (size_t size = 0; size < strlen(text); size++) {
    struct websocket_request request;
    memcpy(cut, text, size);
    cut[size] = '\0';
    assert_int_equal(read_request(cut, "/mqtt", &request), WEBSOCKET_HEAD_INCOMPLETE);
  }
}

static void test_refused(void **state)
{
  (void)state;
  assert_refused("GET /other HTTP/1.1\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 404);
  assert_refused("GET /mqttx HTTP/1.1\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 404);
  assert_refused("GET mqtt HTTP/1.1\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 404);
  assert_refused("POST /mqtt HTTP/1.1\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 405);
  assert_refused("GET /mqtt HTTP/1.0\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 400);
  assert_refused("GET /mqtt\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 400);
  assert_refused("GET  HTTP/1.1\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 400);
  assert_refused("GET /mqtt HTTP/1.1 x\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 400);
  assert_refused(LINE UPGRADE KEY VERSION PROTOCOL "\r\n", 400);            // no Host
  assert_refused(LINE HOST HOST UPGRADE KEY VERSION PROTOCOL "\r\n", 400);  // two
  assert_refused(LINE HOST "\r\n", 426);                                    // a browser
  assert_refused(LINE HOST "Upgrade: h2c\r\nConnection: Upgrade\r\n" KEY VERSION PROTOCOL "\r\n", 400);
  assert_refused(LINE HOST "Upgrade: websocket\r\n" KEY VERSION PROTOCOL "\r\n", 400);
  assert_refused(LINE HOST "Upgrade: websocket\r\nConnection: close\r\n" KEY VERSION PROTOCOL "\r\n", 400);
  assert_refused(LINE HOST UPGRADE KEY PROTOCOL "\r\n", 426);
  assert_refused(LINE HOST UPGRADE KEY "Sec-WebSocket-Version: 8\r\n" PROTOCOL "\r\n", 426);
  assert_refused(LINE HOST UPGRADE VERSION PROTOCOL "\r\n", 400);
  assert_refused(LINE HOST UPGRADE KEY KEY VERSION PROTOCOL "\r\n", 400);
  assert_refused(LINE HOST UPGRADE "Sec-WebSocket-Key: short==\r\n" VERSION PROTOCOL "\r\n", 400);
  assert_refused(LINE HOST UPGRADE KEY VERSION PROTOCOL "Content-Length: 5\r\n\r\n", 400);
  assert_refused(LINE HOST UPGRADE KEY VERSION PROTOCOL "Transfer-Encoding: chunked\r\n\r\n", 400);
  assert_refused(LINE HOST UPGRADE KEY VERSION PROTOCOL " folded\r\n\r\n", 400);
}

static void test_refusals_tell_what_would_be_right(void **state)
{
  (void)state;
  struct websocket_request request;
  char response[WEBSOCKET_MAX_RESPONSE];
  assert_int_equal(read_request(LINE HOST "\r\n", "/mqtt", &request), WEBSOCKET_HEAD_REFUSED);
  size_t size = websocket_write_response(&request, response);
  assert_non_null(memmem(response, size, "Sec-WebSocket-Version: 13\r\n", 27));
  assert_non_null(memmem(response, size, "Upgrade: websocket\r\n", 20));
  assert_int_equal(read_request("PUT /mqtt HTTP/1.1\r\n\r\n", "/mqtt", &request), WEBSOCKET_HEAD_REFUSED);
  size = websocket_write_response(&request, response);
  assert_non_null(memmem(response, size, "Allow: GET\r\n", 12));
}

static void test_not_http_is_seen_at_once(void **state)
{
  (void)state;
  struct websocket_request request;
  assert_int_equal(read_request("\x10", "/mqtt", &request), WEBSOCKET_HEAD_REFUSED);          // an MQTT CONNECT
  assert_int_equal(read_request("\x16\x03\x01", "/mqtt", &request), WEBSOCKET_HEAD_REFUSED);  // TLS
  assert_int_equal(read_request("get ", "/mqtt", &request), WEBSOCKET_HEAD_REFUSED);
  assert_int_equal(read_request(" ", "/mqtt", &request), WEBSOCKET_HEAD_REFUSED);
  assert_int_equal(read_request("AAAAAAAAAAAAAAAAA", "/mqtt", &request), WEBSOCKET_HEAD_REFUSED);
  assert_int_equal(read_request("AAAAAAAAAAAAAAAA", "/mqtt", &request), WEBSOCKET_HEAD_INCOMPLETE);
}

static void test_head_is_bounded(void **state)
{
  (void)state;
  static char text[WEBSOCKET_MAX_HEAD + 100];
  memset(text, 'x', sizeof text);
  const char start[] = LINE "X: ";
  memcpy(text, start, sizeof start - 1);
  struct websocket_request request;
  assert_int_equal(websocket_read_request(span_of(text, WEBSOCKET_MAX_HEAD - 1), NULL, &request), WEBSOCKET_HEAD_INCOMPLETE);
  assert_int_equal(websocket_read_request(span_of(text, WEBSOCKET_MAX_HEAD), NULL, &request), WEBSOCKET_HEAD_REFUSED);
  assert_int_equal(request.http_status, 431);
  char response[WEBSOCKET_MAX_RESPONSE];
  websocket_write_response(&request, response);
  assert_memory_equal(response, "HTTP/1.1 431 ", 13);
  const char end[] = "\r\n" HOST UPGRADE KEY VERSION PROTOCOL "\r\n";  // the longest that fits
  memcpy(text + WEBSOCKET_MAX_HEAD - (sizeof end - 1), end, sizeof end - 1);
  assert_int_equal(websocket_read_request(span_of(text, sizeof text), NULL, &request), WEBSOCKET_HEAD_ACCEPTED);
  assert_int_equal(request.size, WEBSOCKET_MAX_HEAD);
}

static void test_client_request(void **state)
{
  (void)state;
  char text[512];
  const char *expected =
      "GET /mqtt HTTP/1.1\r\nHost: broker.example:8083\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" KEY
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
  size_t size = websocket_write_request(text, sizeof text, "broker.example:8083", "/mqtt", "mqtt", nonce());
  assert_int_equal(size, strlen(expected));
  assert_memory_equal(text, expected, size);
  struct websocket_request request;
  assert_int_equal(websocket_read_request(span_of(text, size), "/mqtt", &request), WEBSOCKET_HEAD_ACCEPTED);

  assert_int_equal(websocket_write_request(text, size + 1, "broker.example:8083", "/mqtt", "mqtt", nonce()), size);
  assert_int_equal(websocket_write_request(text, size, "broker.example:8083", "/mqtt", "mqtt", nonce()), 0);
  assert_int_equal(websocket_write_request(text, sizeof text, "a\r\nX: y", "/mqtt", "mqtt", nonce()), 0);
  assert_int_equal(websocket_write_request(text, sizeof text, "a", "/mq tt", "mqtt", nonce()), 0);
  assert_int_equal(websocket_write_request(text, sizeof text, "a", "mqtt", "mqtt", nonce()), 0);
  assert_int_equal(websocket_write_request(text, sizeof text, "", "/", "mqtt", nonce()), 0);
}

#define SWITCHING "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

static void assert_response(const char *text, enum websocket_head expected, unsigned http_status)
{
  struct websocket_response response = {.http_status = 1};
  enum websocket_head head = websocket_read_response(span_text(text), "mqtt", nonce(), &response);
  if (head != expected) fail_msg("%d for %s", head, text);
  if (head == WEBSOCKET_HEAD_INCOMPLETE) return;
  assert_int_equal(response.http_status, http_status);
  if (head == WEBSOCKET_HEAD_ACCEPTED) assert_int_equal(response.size, strlen(text));
  if (head == WEBSOCKET_HEAD_REFUSED) assert_non_null(response.why);
}

static void test_client_reads_response(void **state)
{
  (void)state;
  const char *good = SWITCHING ACCEPT PROTOCOL "\r\n";
  assert_response(good, WEBSOCKET_HEAD_ACCEPTED, 101);
  char cut[512];
  for (size_t size = 0; size < strlen(good); size++) {
    memcpy(cut, good, size);
    cut[size] = '\0';
    assert_response(cut, WEBSOCKET_HEAD_INCOMPLETE, 0);
  }
  assert_response("HTTP/1.1 404 Not Found\r\n\r\n", WEBSOCKET_HEAD_REFUSED, 404);
  assert_response("HTTP/1.1 200\r\n\r\n", WEBSOCKET_HEAD_REFUSED, 200);
  assert_response("SSH-2.0-OpenSSH\r\n", WEBSOCKET_HEAD_REFUSED, 0);
  assert_response("HTTP/1.1 1x1 No\r\n\r\n", WEBSOCKET_HEAD_REFUSED, 0);
  assert_response("HTTP/1.1 1011 No\r\n\r\n", WEBSOCKET_HEAD_REFUSED, 0);
  assert_response("HTTP/1.1\r\n\r\n", WEBSOCKET_HEAD_REFUSED, 0);
  assert_response(SWITCHING PROTOCOL "\r\n", WEBSOCKET_HEAD_REFUSED, 101);
  assert_response(SWITCHING "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo\r\n" PROTOCOL "\r\n", WEBSOCKET_HEAD_REFUSED,
                  101);
  assert_response(SWITCHING ACCEPT "\r\n", WEBSOCKET_HEAD_REFUSED, 101);
  assert_response(SWITCHING ACCEPT "Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n", WEBSOCKET_HEAD_REFUSED, 101);
  assert_response(SWITCHING ACCEPT PROTOCOL "Sec-WebSocket-Extensions: x\r\n\r\n", WEBSOCKET_HEAD_REFUSED, 101);
  assert_response("HTTP/1.1 101 S\r\nConnection: Upgrade\r\n" ACCEPT PROTOCOL "\r\n", WEBSOCKET_HEAD_REFUSED, 101);
  assert_response("HTTP/1.1 101 S\r\nUpgrade: websocket\r\n" ACCEPT PROTOCOL "\r\n", WEBSOCKET_HEAD_REFUSED, 101);
  assert_response(SWITCHING ACCEPT PROTOCOL "bad header\r\n\r\n", WEBSOCKET_HEAD_REFUSED, 101);
}

static void test_client_bounds_response(void **state)
{
  (void)state;
  static char text[WEBSOCKET_MAX_HEAD];
  memset(text, 'x', sizeof text);
  memcpy(text, SWITCHING "X: ", sizeof SWITCHING "X: " - 1);
  struct websocket_response response;
  assert_int_equal(websocket_read_response(span_of(text, sizeof text - 1), "mqtt", nonce(), &response),
                   WEBSOCKET_HEAD_INCOMPLETE);
  assert_int_equal(websocket_read_response(span_of(text, sizeof text), "mqtt", nonce(), &response), WEBSOCKET_HEAD_REFUSED);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_accepted),
      cmocka_unit_test(test_protocol_choice),
      cmocka_unit_test(test_bytes_behind_the_request_are_left),
      cmocka_unit_test(test_cut_at_every_byte),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_refusals_tell_what_would_be_right),
      cmocka_unit_test(test_not_http_is_seen_at_once),
      cmocka_unit_test(test_head_is_bounded),
      cmocka_unit_test(test_client_request),
      cmocka_unit_test(test_client_reads_response),
      cmocka_unit_test(test_client_bounds_response),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
