// The opening handshake of WebSocket (RFC 6455, section 4) over HTTP/1.1 (RFC 9112), both sides, for MQTT only: the
// subprotocol has to be "mqtt" (MQTT 5.0 section 6) or "mqttv3.1". Frames are in wire/websocket.h. Pure: the caller keeps
// the bytes that have arrived and asks again when there are more; nothing is allocated.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum {
  WEBSOCKET_MAX_HEAD = 8192,     // of a request or a response, with its empty line; longer ones are refused
  WEBSOCKET_MAX_RESPONSE = 512,  // what websocket_write_response writes at most
  WEBSOCKET_ACCEPT_SIZE = 28,    // characters of Sec-WebSocket-Accept
  WEBSOCKET_NONCE_SIZE = 16,     // random bytes behind Sec-WebSocket-Key
};

enum websocket_head { WEBSOCKET_HEAD_INCOMPLETE, WEBSOCKET_HEAD_ACCEPTED, WEBSOCKET_HEAD_REFUSED };

// ---- Server

struct websocket_request {
  size_t size;                         // accepted: bytes of the request; frames may follow
  uint16_t http_status;                // 101, or with what to refuse: 400, 404, 405, 426, 431
  const char *why;                     // refused: a sentence for the log and the response's body
  const char *protocol;                // accepted: the chosen subprotocol, "mqtt" before "mqttv3.1"
  char accept[WEBSOCKET_ACCEPT_SIZE];  // accepted: the answer to the client's key; no NUL
};

// Looks at all bytes of the request that have arrived. Incomplete: keep them and call again with more; the output is not
// touched. What can never become a request (an MQTT packet on a WebSocket port) is refused at its first bytes. `path` is
// compared with the request's path without its query; NULL accepts every path.
enum websocket_head websocket_read_request(struct span in, const char *path, struct websocket_request *out_request);

// Writes the response, whatever the request came to, and returns its size. After a refusal: send it and close.
size_t websocket_write_response(const struct websocket_request *request, char out[WEBSOCKET_MAX_RESPONSE]);

// ---- Client

// Writes the upgrade request. `host` is the Host header's value ("example.org:8083"), `path` starts with '/', `protocol` is
// the subprotocol to ask for ("mqtt"), `nonce` is random. None may hold spaces or control characters. Returns the size, or 0
// when `size` is too small or a text is not usable.
size_t websocket_write_request(char *out, size_t size, const char *host, const char *path, const char *protocol,
                               const uint8_t nonce[WEBSOCKET_NONCE_SIZE]);

struct websocket_response {
  size_t size;           // accepted: bytes of the response; frames may follow
  uint16_t http_status;  // 0 when it is not HTTP
  const char *why;       // refused: a sentence
};

// Looks at all bytes of the response that have arrived, as websocket_read_request does.
enum websocket_head websocket_read_response(struct span in, const char *protocol, const uint8_t nonce[WEBSOCKET_NONCE_SIZE],
                                            struct websocket_response *out_response);
