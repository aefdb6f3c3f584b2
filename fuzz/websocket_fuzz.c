// A WebSocket connection: a request, then frames, in portions that the input chooses. Whatever comes, all of it cut anywhere
// gives the same stream; what is accepted is answered so that a client accepts it.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "wire/websocket.h"
#include "wire/websocket_handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition)
{
  if (!condition) abort();
}

struct outcome {
  uint8_t *stream;
  size_t size;
  bool closed;
  uint16_t close_code;
};

// Feeds in portions of `step` bytes, each from memory of exactly its size.
static struct outcome run(enum websocket_role role, const uint8_t *data, size_t size, size_t step)
{
  static const uint8_t mask[WEBSOCKET_MASK_SIZE] = {0xa1, 0xb2, 0xc3, 0xd4};
  struct websocket websocket;
  struct outcome outcome = {.stream = malloc(size + 1)};
  check(outcome.stream != NULL);
  websocket_init(&websocket, role);
  for (size_t at = 0; at < size && !outcome.closed; at += step) {
    size_t portion = size - at < step ? size - at : step;
    uint8_t *bytes = malloc(portion);
    check(bytes != NULL);
    memcpy(bytes, data + at, portion);
    struct websocket_received received;
    check(websocket_receive(&websocket, bytes, portion, role == WEBSOCKET_CLIENT ? mask : NULL, &received) == OK);
    check(received.payload_size <= portion);
    check(received.reply_size <= sizeof received.reply);
    check(!received.fault || received.closed);
    memcpy(outcome.stream + outcome.size, bytes, received.payload_size);
    outcome.size += received.payload_size;
    outcome.closed = received.closed;
    outcome.close_code = received.close_code;
    free(bytes);
  }
  websocket_deinit(&websocket);
  return outcome;
}

static void fuzz_frames(enum websocket_role role, size_t step, const uint8_t *data, size_t size)
{
  struct outcome whole = run(role, data, size, size ? size : 1);
  struct outcome cut = run(role, data, size, step);
  check(whole.size == cut.size);
  check(memcmp(whole.stream, cut.stream, whole.size) == 0);
  check(whole.closed == cut.closed);
  check(!whole.closed || whole.close_code == cut.close_code);
  free(whole.stream);
  free(cut.stream);
}

static void fuzz_request(const uint8_t *data, size_t size)
{
  struct websocket_request request;
  uint8_t *bytes = malloc(size ? size : 1);
  check(bytes != NULL);
  if (size) memcpy(bytes, data, size);
  enum websocket_head head = websocket_read_request(span_of(bytes, size), "/mqtt", &request);
  if (head == WEBSOCKET_HEAD_INCOMPLETE) {
    check(size < WEBSOCKET_MAX_HEAD);
  } else {
    char response[WEBSOCKET_MAX_RESPONSE];
    check(websocket_write_response(&request, response) > 0);
    check(head == WEBSOCKET_HEAD_REFUSED || request.size <= size);
    check((head == WEBSOCKET_HEAD_ACCEPTED) == (request.http_status == 101));
  }
  // What was decided once does not change when the request grows.
  struct websocket_request shorter;
  for (size_t cut = size > 40 ? size - 40 : 0; cut < size && head != WEBSOCKET_HEAD_REFUSED; cut++) {
    enum websocket_head early = websocket_read_request(span_of(bytes, cut), "/mqtt", &shorter);
    check(early == WEBSOCKET_HEAD_INCOMPLETE || (early == head && shorter.size == request.size));
  }
  free(bytes);
}

static void fuzz_response(const uint8_t *data, size_t size)
{
  static const uint8_t nonce[WEBSOCKET_NONCE_SIZE + 1] = "the sample nonce";
  struct websocket_response response = {0};
  enum websocket_head head = websocket_read_response(span_of(data, size), "mqtt", nonce, &response);
  if (head == WEBSOCKET_HEAD_ACCEPTED) check(response.size <= size);
  if (head == WEBSOCKET_HEAD_REFUSED) check(response.why != NULL);
}

// The first byte chooses what is fuzzed, the second the portions.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2) return 0;
  size_t step = (size_t)data[1] + 1;
  switch (data[0] % 4) {
    case 0: fuzz_frames(WEBSOCKET_SERVER, step, data + 2, size - 2); break;
    case 1: fuzz_frames(WEBSOCKET_CLIENT, step, data + 2, size - 2); break;
    case 2: fuzz_request(data + 2, size - 2); break;
    default: fuzz_response(data + 2, size - 2); break;
  }
  return 0;
}
