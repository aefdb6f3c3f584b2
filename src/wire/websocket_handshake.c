#include "wire/websocket_handshake.h"

#include "wire/base64.h"
#include "wire/http_head.h"
#include "wire/sha1.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

// RFC 6455, section 1.3.
static const char accept_suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

enum { KEY_SIZE = 24, MAX_METHOD = 16 };

static void write_accept(struct span key, char out[WEBSOCKET_ACCEPT_SIZE])
{
  assert(key.size == KEY_SIZE);
  uint8_t text[KEY_SIZE + sizeof accept_suffix - 1];
  memcpy(text, key.at, KEY_SIZE);
  memcpy(text + KEY_SIZE, accept_suffix, sizeof accept_suffix - 1);
  uint8_t digest[SHA1_SIZE];
  sha1(span_of(text, sizeof text), digest);
  size_t size = base64_encode(span_of(digest, sizeof digest), out);
  assert(size == WEBSOCKET_ACCEPT_SIZE);
}

// ---- Server

// What the header fields of a request said.
struct request_fields {
  unsigned hosts, keys, versions;
  bool upgrade, websocket, connection_upgrade, version_13, content;
  bool mqtt, mqtt_3_1;
  struct span key;
};

static enum websocket_head refuse(struct websocket_request *out, uint16_t http_status, const char *why)
{
  *out = (struct websocket_request){.http_status = http_status, .why = why};
  return WEBSOCKET_HEAD_REFUSED;
}

static void read_field(const struct http_field *field, struct request_fields *fields)
{
  struct span value = field->value;
  if (http_name_is(field, "Host")) {
    fields->hosts++;
  } else if (http_name_is(field, "Upgrade")) {
    fields->upgrade = true;
    fields->websocket |= http_list_has(value, "websocket");
  } else if (http_name_is(field, "Connection")) {
    fields->connection_upgrade |= http_list_has(value, "upgrade");
  } else if (http_name_is(field, "Sec-WebSocket-Key")) {
    fields->keys++;
    fields->key = value;
  } else if (http_name_is(field, "Sec-WebSocket-Version")) {
    fields->versions++;
    fields->version_13 = http_list_has(value, "13");
  } else if (http_name_is(field, "Sec-WebSocket-Protocol")) {
    struct span word;
    while (http_take_word(&value, ',', &word)) {
      fields->mqtt |= span_equal(word, span_text("mqtt"));
      fields->mqtt_3_1 |= span_equal(word, span_text("mqttv3.1"));
    }
  } else if (http_name_is(field, "Transfer-Encoding")) {
    fields->content = true;
  } else if (http_name_is(field, "Content-Length")) {
    fields->content |= !span_equal(value, span_text("0"));
  }
}

// The path of a request's target: without the query, and without scheme and host when the absolute form is used.
static struct span target_path(struct span target)
{
  assert(target.at);
  const uint8_t *query = memchr(target.at, '?', target.size);
  if (query) target.size = (size_t)(query - target.at);
  static const char scheme_end[3] = {':', '/', '/'};
  if (target.size == 0 || target.at[0] == '/') return target;
  const uint8_t *scheme = memmem(target.at, target.size, scheme_end, sizeof scheme_end);
  if (!scheme) return target;
  struct span rest = span_from(target, (size_t)(scheme - target.at) + sizeof scheme_end);
  const uint8_t *slash = rest.size ? memchr(rest.at, '/', rest.size) : NULL;
  return slash ? span_from(rest, (size_t)(slash - rest.at)) : span_text("/");
}

// 0 when the request line is in order, or the status to refuse with.
static uint16_t check_request_line(struct span line, const char *path, const char **out_why)
{
  struct span method, target, version, more;
  bool whole = http_take_word(&line, ' ', &method) && http_take_word(&line, ' ', &target) &&
               http_take_word(&line, ' ', &version) && !http_take_word(&line, ' ', &more);
  *out_why = "the request line is malformed";
  if (!whole || method.size == 0 || target.size == 0) return 400;
  *out_why = "the protocol has to be HTTP/1.1";
  if (!span_equal(version, span_text("HTTP/1.1"))) return 400;
  *out_why = "the method has to be GET";
  if (!span_equal(method, span_text("GET"))) return 405;
  *out_why = "there is nothing at this path";
  if (path && !span_equal(target_path(target), span_text(path))) return 404;
  return 0;
}

static enum websocket_head check_fields(const struct request_fields *fields, struct websocket_request *out)
{
  if (fields->hosts != 1) return refuse(out, 400, "a request has exactly one Host header");
  if (fields->content) return refuse(out, 400, "an upgrade request has no body");
  if (!fields->upgrade) return refuse(out, 426, "this port speaks MQTT over WebSocket only");
  if (!fields->websocket) return refuse(out, 400, "the Upgrade header has to say websocket");
  if (!fields->connection_upgrade) return refuse(out, 400, "the Connection header has to say Upgrade");
  if (fields->versions != 1 || !fields->version_13) return refuse(out, 426, "the WebSocket version has to be 13");
  if (fields->keys != 1 || !base64_valid(fields->key, WEBSOCKET_NONCE_SIZE))
    return refuse(out, 400, "the Sec-WebSocket-Key header has to be 16 bytes in base64");
  // [MQTT-6.0.0-3]
  if (!fields->mqtt && !fields->mqtt_3_1) return refuse(out, 400, "the Sec-WebSocket-Protocol header has to offer mqtt");
  return WEBSOCKET_HEAD_ACCEPTED;
}

// True as long as the bytes may still become a request: a method in capital letters, then a space.
static bool may_be_request(struct span in)
{
  for (size_t i = 0; i < in.size && i <= MAX_METHOD; i++) {
    if (in.at[i] == ' ') return i > 0;
    if (in.at[i] < 'A' || in.at[i] > 'Z') return false;
  }
  return in.size <= MAX_METHOD;
}

enum websocket_head websocket_read_request(struct span in, const char *path, struct websocket_request *out_request)
{
  if (!may_be_request(in)) return refuse(out_request, 400, "this is not an HTTP request");
  struct span head = span_of(in.at, in.size < WEBSOCKET_MAX_HEAD ? in.size : WEBSOCKET_MAX_HEAD);
  head.size = http_head_size(head);
  if (head.size == 0) {
    if (in.size < WEBSOCKET_MAX_HEAD) return WEBSOCKET_HEAD_INCOMPLETE;
    return refuse(out_request, 431, "the request's head is longer than 8 KiB");
  }
  const char *why;
  uint16_t line_status = check_request_line(http_first_line(head), path, &why);
  if (line_status) return refuse(out_request, line_status, why);

  struct request_fields fields = {0};
  struct http_field field;
  size_t cursor = 0;
  enum http_next next;
  while ((next = http_next_field(head, &cursor, &field)) == HTTP_FIELD) read_field(&field, &fields);
  if (next == HTTP_BAD) return refuse(out_request, 400, "a header is malformed");
  if (check_fields(&fields, out_request) == WEBSOCKET_HEAD_REFUSED) return WEBSOCKET_HEAD_REFUSED;

  *out_request = (struct websocket_request){
      .size = head.size, .http_status = 101, .protocol = fields.mqtt ? "mqtt" : "mqttv3.1"};  // [MQTT-6.0.0-4]
  write_accept(fields.key, out_request->accept);
  return WEBSOCKET_HEAD_ACCEPTED;
}

static const char *reason_phrase(uint16_t http_status)
{
  switch (http_status) {
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 426: return "Upgrade Required";
    case 431: return "Request Header Fields Too Large";
    default: return "Bad Request";
  }
}

size_t websocket_write_response(const struct websocket_request *request, char out[WEBSOCKET_MAX_RESPONSE])
{
  int size;
  if (request->http_status == 101) {
    size = snprintf(out, WEBSOCKET_MAX_RESPONSE,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Accept: %.*s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
                    WEBSOCKET_ACCEPT_SIZE, request->accept, request->protocol);
  } else {
    const char *extra = "";
    if (request->http_status == 405) extra = "Allow: GET\r\n";
    if (request->http_status == 426) extra = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    size = snprintf(out, WEBSOCKET_MAX_RESPONSE,
                    "HTTP/1.1 %u %s\r\n%sConnection: %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                    "Content-Length: %zu\r\n\r\n%s\n",
                    request->http_status, reason_phrase(request->http_status), extra,
                    request->http_status == 426 ? "close, Upgrade" : "close", strlen(request->why) + 1, request->why);
  }
  assert(size > 0);
  assert(size < WEBSOCKET_MAX_RESPONSE);
  return (size_t)size;
}

// ---- Client

// Would end up inside a header: printable ASCII without spaces.
static bool header_safe(const char *text)
{
  if (*text == '\0') return false;
  for (; *text; text++)
    if (*text <= ' ' || *text > '~') return false;
  return true;
}

size_t websocket_write_request(char *out, size_t size, const char *host, const char *path, const char *protocol,
                               const uint8_t nonce[WEBSOCKET_NONCE_SIZE])
{
  if (!header_safe(host) || !header_safe(path) || !header_safe(protocol) || path[0] != '/') return 0;
  char key[KEY_SIZE];
  base64_encode(span_of(nonce, WEBSOCKET_NONCE_SIZE), key);
  int written = snprintf(out, size,
                         "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: %.*s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
                         path, host, KEY_SIZE, key, protocol);
  return written > 0 && (size_t)written < size ? (size_t)written : 0;
}

static enum websocket_head refuse_response(struct websocket_response *out, uint16_t http_status, const char *why)
{
  *out = (struct websocket_response){.http_status = http_status, .why = why};
  return WEBSOCKET_HEAD_REFUSED;
}

// The status of "HTTP/1.1 101 Switching Protocols", 0 when it is not such a line.
static uint16_t read_status_line(struct span line)
{
  static const char version[] = "HTTP/1.";
  size_t digits = sizeof version - 1 + 2;  // behind the minor version and a space
  if (line.size < digits + 3 || memcmp(line.at, version, sizeof version - 1) != 0 || line.at[digits - 1] != ' ') return 0;
  unsigned status = 0;
  for (size_t i = digits; i < digits + 3; i++) {
    if (line.at[i] < '0' || line.at[i] > '9') return 0;
    status = status * 10 + (line.at[i] - '0');
  }
  if (line.size > digits + 3 && line.at[digits + 3] != ' ') return 0;
  return status >= 100 ? (uint16_t)status : 0;
}

struct response_fields {
  bool websocket, connection_upgrade, accept, protocol, extension;
};

static void read_response_field(const struct http_field *field, const char *accept, const char *protocol,
                                struct response_fields *fields)
{
  if (http_name_is(field, "Upgrade"))
    fields->websocket |= http_equal_ignoring_case(field->value, "websocket");
  else if (http_name_is(field, "Connection"))
    fields->connection_upgrade |= http_list_has(field->value, "upgrade");
  else if (http_name_is(field, "Sec-WebSocket-Accept"))
    fields->accept = span_equal(field->value, span_of(accept, WEBSOCKET_ACCEPT_SIZE));
  else if (http_name_is(field, "Sec-WebSocket-Protocol"))
    fields->protocol = span_equal(field->value, span_text(protocol));
  else if (http_name_is(field, "Sec-WebSocket-Extensions"))
    fields->extension = true;
}

enum websocket_head websocket_read_response(struct span in, const char *protocol, const uint8_t nonce[WEBSOCKET_NONCE_SIZE],
                                            struct websocket_response *out_response)
{
  struct span start = span_text("HTTP/1.");
  size_t compared = in.size < start.size ? in.size : start.size;
  if (compared && memcmp(in.at, start.at, compared) != 0)
    return refuse_response(out_response, 0, "the answer is not HTTP/1.1");
  struct span head = span_of(in.at, in.size < WEBSOCKET_MAX_HEAD ? in.size : WEBSOCKET_MAX_HEAD);
  head.size = http_head_size(head);
  if (head.size == 0) {
    if (in.size < WEBSOCKET_MAX_HEAD) return WEBSOCKET_HEAD_INCOMPLETE;
    return refuse_response(out_response, 0, "the answer's head is longer than 8 KiB");
  }
  uint16_t status = read_status_line(http_first_line(head));
  if (status == 0) return refuse_response(out_response, 0, "the answer is not HTTP/1.1");
  if (status != 101) return refuse_response(out_response, status, "the server does not upgrade to WebSocket here");

  char key[KEY_SIZE];
  char accept[WEBSOCKET_ACCEPT_SIZE];
  base64_encode(span_of(nonce, WEBSOCKET_NONCE_SIZE), key);
  write_accept(span_of(key, sizeof key), accept);
  struct response_fields fields = {0};
  struct http_field field;
  size_t cursor = 0;
  enum http_next next;
  while ((next = http_next_field(head, &cursor, &field)) == HTTP_FIELD)
    read_response_field(&field, accept, protocol, &fields);
  const char *why = NULL;
  if (next == HTTP_BAD)
    why = "a header of the answer is malformed";
  else if (!fields.websocket || !fields.connection_upgrade)
    why = "the answer upgrades to something else than WebSocket";
  else if (!fields.accept)
    why = "the answer does not prove that the server read our key";
  else if (!fields.protocol)
    why = "the server did not choose the MQTT subprotocol";
  else if (fields.extension)
    why = "the server chose an extension that was not offered";
  if (why) return refuse_response(out_response, status, why);
  *out_response = (struct websocket_response){.size = head.size, .http_status = status};
  return WEBSOCKET_HEAD_ACCEPTED;
}
