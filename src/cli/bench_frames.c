// WebSocket for the load generator. See bench_frames.h.
#include "cli/bench_frames.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/websocket.h"
#include "wire/websocket_handshake.h"

enum { REQUEST_SIZE = 2048 };

struct engine_frames {
  struct websocket websocket;
  struct buffer head;  // of the response
  struct buffer wire;  // whole frames
  bool open;
  uint8_t nonce[WEBSOCKET_NONCE_SIZE];
};

static const char *subprotocol(const struct bench_options *options)
{
  return options->version == MQTT_3_1 ? "mqttv3.1" : "mqtt";
}

struct engine_frames *frames_create(const struct bench_options *options)
{
  struct engine_frames *frames = calloc(1, sizeof *frames);
  if (!frames) return NULL;
  websocket_init(&frames->websocket, WEBSOCKET_CLIENT);
  arc4random_buf(frames->nonce, sizeof frames->nonce);
  char host[300], request[REQUEST_SIZE];
  snprintf(host, sizeof host, strchr(options->host, ':') ? "[%s]:%u" : "%s:%u", options->host, (unsigned)options->port);
  size_t size =
      websocket_write_request(request, sizeof request, host, options->websocket_path, subprotocol(options), frames->nonce);
  if (size > 0 && buffer_append(&frames->wire, request, size) == OK) return frames;
  frames_free(frames);
  return NULL;
}

void frames_free(struct engine_frames *frames)
{
  if (!frames) return;
  websocket_deinit(&frames->websocket);
  buffer_deinit(&frames->head);
  buffer_deinit(&frames->wire);
  free(frames);
}

struct buffer *frames_output(struct engine_frames *frames, struct buffer *out)
{
  struct span bytes = buffer_peek(out);
  if (!frames->open || bytes.size == 0) return &frames->wire;
  uint8_t *at = buffer_reserve(&frames->wire, bytes.size + WEBSOCKET_MAX_HEADER);
  // Without memory it waits for the next time.
  if (!at) return &frames->wire;
  uint8_t mask[WEBSOCKET_MASK_SIZE];
  arc4random_buf(mask, sizeof mask);
  size_t header = websocket_write_header(at, bytes.size, WEBSOCKET_BINARY, mask);
  memcpy(at + header, bytes.at, bytes.size);
  websocket_mask(at + header, bytes.size, mask, 0);
  buffer_commit(&frames->wire, header + bytes.size);
  buffer_consume(out, bytes.size);
  return &frames->wire;
}

// The response to the upgrade, collected until it is whole; what is behind it goes to the front of `bytes`.
static const char *take_response(struct engine_frames *frames, const struct bench_options *options, uint8_t *bytes,
                                 size_t *size)
{
  if (buffer_append(&frames->head, bytes, *size) != OK) return "out of memory";
  struct span all = buffer_peek(&frames->head);
  struct websocket_response response;
  enum websocket_head head = websocket_read_response(all, subprotocol(options), frames->nonce, &response);
  if (head == WEBSOCKET_HEAD_REFUSED) return response.why;
  struct span rest = head == WEBSOCKET_HEAD_ACCEPTED ? span_from(all, response.size) : (struct span){0};
  assert(rest.size <= *size);
  if (rest.size) memcpy(bytes, rest.at, rest.size);
  *size = rest.size;
  frames->open = head == WEBSOCKET_HEAD_ACCEPTED;
  if (frames->open) buffer_deinit(&frames->head);
  return NULL;
}

const char *frames_receive(struct engine_frames *frames, const struct bench_options *options, uint8_t *bytes, size_t *size,
                           bool *out_open)
{
  const char *why = frames->open ? NULL : take_response(frames, options, bytes, size);
  *out_open = frames->open;
  if (why || !frames->open || *size == 0) return why;
  uint8_t mask[WEBSOCKET_MASK_SIZE];
  arc4random_buf(mask, sizeof mask);
  struct websocket_received received;
  if (websocket_receive(&frames->websocket, bytes, *size, mask, &received) != OK) return "out of memory";
  *size = received.payload_size;
  if (received.closed) return received.fault ? received.fault : "the broker closed the WebSocket";
  if (received.reply_size && buffer_append(&frames->wire, received.reply, received.reply_size) != OK) return "out of memory";
  return NULL;
}
