// Frames in, stream out. Every good conversation is also fed cut at every byte and byte by byte.
#include "wire/websocket.h"

#include "base/prng.h"
#include "base/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const uint8_t mask_key[WEBSOCKET_MASK_SIZE] = {0x37, 0xfa, 0x21, 0x3d};
enum { FIN = 0x80 };

struct wire {
  uint8_t bytes[400000];
  size_t size;
};

// Appends a frame with any first byte, masked unless `mask` is NULL.
static void add_frame(struct wire *wire, unsigned first, const void *payload, size_t size, const uint8_t *mask)
{
  uint8_t *at = wire->bytes + wire->size;
  size_t header = websocket_write_header(at, size, WEBSOCKET_BINARY, mask);
  at[0] = (uint8_t)first;
  if (size) memcpy(at + header, payload, size);
  if (mask) websocket_mask(at + header, size, mask, 0);
  wire->size += header + size;
  assert_true(wire->size <= sizeof wire->bytes);
}

// What a conversation came to.
struct outcome {
  uint8_t stream[400000];
  size_t stream_size;
  uint8_t replies[4096];
  size_t reply_size;
  bool closed;
  uint16_t close_code;
  const char *fault;
};

static void feed(struct websocket *websocket, const uint8_t *bytes, size_t size, struct outcome *outcome)
{
  uint8_t *copy = malloc(size ? size : 1);  // exact, so that the sanitizer sees any step beyond
  assert_non_null(copy);
  memcpy(copy, bytes, size);
  struct websocket_received received;
  const uint8_t *mask = websocket->role == WEBSOCKET_CLIENT ? mask_key : NULL;
  assert_int_equal(websocket_receive(websocket, copy, size, mask, &received), OK);
  assert_true(received.payload_size <= size);
  memcpy(outcome->stream + outcome->stream_size, copy, received.payload_size);
  outcome->stream_size += received.payload_size;
  assert_true(outcome->reply_size + received.reply_size <= sizeof outcome->replies);
  memcpy(outcome->replies + outcome->reply_size, received.reply, received.reply_size);
  outcome->reply_size += received.reply_size;
  if (received.closed && !outcome->closed) {
    outcome->closed = true;
    outcome->close_code = received.close_code;
    outcome->fault = received.fault;
  }
  free(copy);
}

static struct outcome *run_in_pieces(enum websocket_role role, const struct wire *wire, size_t first, size_t step)
{
  struct outcome *outcome = calloc(1, sizeof *outcome);
  assert_non_null(outcome);
  struct websocket websocket;
  websocket_init(&websocket, role);
  size_t at = 0;
  size_t size = first;
  while (at < wire->size) {
    if (size > wire->size - at) size = wire->size - at;
    feed(&websocket, wire->bytes + at, size, outcome);
    at += size;
    size = step;
  }
  websocket_deinit(&websocket);
  return outcome;
}

static void assert_same(const struct outcome *a, const struct outcome *b)
{
  assert_int_equal(a->stream_size, b->stream_size);
  assert_memory_equal(a->stream, b->stream, a->stream_size);
  assert_int_equal(a->closed, b->closed);
  if (a->closed) assert_int_equal(a->close_code, b->close_code);
}

// Runs a conversation whole, and cut in every way; all must come to the same. Returns the whole run; free it.
static struct outcome *run(enum websocket_role role, const struct wire *wire)
{
  struct outcome *whole = run_in_pieces(role, wire, wire->size, wire->size);
  struct outcome *single = run_in_pieces(role, wire, 1, 1);
  assert_same(whole, single);
  free(single);
  for (size_t cut = 1; cut < wire->size && wire->size < 300; cut++) {
    struct outcome *halves = run_in_pieces(role, wire, cut, wire->size);
    assert_same(whole, halves);
    free(halves);
  }
  return whole;
}

static struct wire *new_wire(void)
{
  struct wire *wire = calloc(1, sizeof *wire);
  assert_non_null(wire);
  return wire;
}

// Runs the frames as a server and checks the end: the code we close with, and the Close frame on the wire.
static void assert_closes(struct wire *wire, unsigned code, const char *stream)
{
  struct outcome *outcome = run(WEBSOCKET_SERVER, wire);
  assert_true(outcome->closed);
  assert_int_equal(outcome->close_code, code);
  assert_int_equal(outcome->stream_size, strlen(stream));
  assert_memory_equal(outcome->stream, stream, strlen(stream));
  assert_non_null(outcome->fault);
  uint8_t expected[4] = {FIN | WEBSOCKET_CLOSE, 2, (uint8_t)(code >> 8), (uint8_t)code};
  assert_int_equal(outcome->reply_size, sizeof expected);
  assert_memory_equal(outcome->replies, expected, sizeof expected);
  free(outcome);
  free(wire);
}

static void test_header_sizes(void **state)
{
  (void)state;
  static const struct {
    uint64_t size;
    size_t header;
    const char *bytes;
  } cases[] = {
      {0, 2, "\x82\x00"},
      {125, 2, "\x82\x7d"},
      {126, 4, "\x82\x7e\x00\x7e"},
      {65535, 4, "\x82\x7e\xff\xff"},
      {65536, 10, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
      {268435460, 10, "\x82\x7f\x00\x00\x00\x00\x10\x00\x00\x04"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t out[WEBSOCKET_MAX_HEADER];
    assert_int_equal(websocket_write_header(out, cases[i].size, WEBSOCKET_BINARY, NULL), cases[i].header);
    assert_memory_equal(out, cases[i].bytes, cases[i].header);
    assert_int_equal(websocket_write_header(out, cases[i].size, WEBSOCKET_BINARY, mask_key), cases[i].header + 4);
    assert_int_equal(out[1], (uint8_t)cases[i].bytes[1] | 0x80);
    assert_memory_equal(out + cases[i].header, mask_key, 4);
  }
}

// RFC 6455, section 5.7: "Hello", masked.
static void test_mask_of_the_standard(void **state)
{
  (void)state;
  uint8_t text[5] = {'H', 'e', 'l', 'l', 'o'};
  websocket_mask(text, sizeof text, mask_key, 0);
  assert_memory_equal(text, "\x7f\x9f\x4d\x51\x58", 5);
}

static void test_mask_in_pieces(void **state)
{
  (void)state;
  uint8_t bytes[67], slow[67], pieces[67];
  for (size_t i = 0; i < sizeof bytes; i++) {
    bytes[i] = (uint8_t)(i * 7);
    slow[i] = (uint8_t)(bytes[i] ^ mask_key[i % 4]);
  }
  for (size_t step = 1; step <= sizeof bytes; step++) {
    memcpy(pieces, bytes, sizeof bytes);
    for (size_t at = 0; at < sizeof bytes; at += step) {
      size_t size = sizeof bytes - at < step ? sizeof bytes - at : step;
      websocket_mask(pieces + at, size, mask_key, at);
    }
    assert_memory_equal(pieces, slow, sizeof slow);
  }
}

static void test_stream_across_frames(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  add_frame(wire, FIN | WEBSOCKET_BINARY, "one packet and a ha", 19, mask_key);
  add_frame(wire, FIN | WEBSOCKET_BINARY, "", 0, mask_key);
  add_frame(wire, FIN | WEBSOCKET_BINARY, "lf", 2, mask_key);
  struct outcome *outcome = run(WEBSOCKET_SERVER, wire);
  assert_int_equal(outcome->stream_size, 21);
  assert_memory_equal(outcome->stream, "one packet and a half", 21);
  assert_false(outcome->closed);
  assert_int_equal(outcome->reply_size, 0);
  free(outcome);
  free(wire);
}

static void test_fragments_with_ping_between(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  add_frame(wire, WEBSOCKET_BINARY, "abc", 3, mask_key);
  add_frame(wire, FIN | WEBSOCKET_PING, "are you there?", 14, mask_key);
  add_frame(wire, WEBSOCKET_CONTINUATION, "", 0, mask_key);
  add_frame(wire, FIN | WEBSOCKET_CONTINUATION, "def", 3, mask_key);
  add_frame(wire, FIN | WEBSOCKET_BINARY, "ghi", 3, mask_key);
  struct outcome *outcome = run(WEBSOCKET_SERVER, wire);
  assert_int_equal(outcome->stream_size, 9);
  assert_memory_equal(outcome->stream, "abcdefghi", 9);
  assert_int_equal(outcome->reply_size, 16);
  assert_memory_equal(outcome->replies,
                      "\x8a\x0e"
                      "are you there?",
                      16);
  free(outcome);
  free(wire);
}

static void test_only_the_last_ping_of_a_read_is_answered(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  add_frame(wire, FIN | WEBSOCKET_PING, "1", 1, mask_key);
  add_frame(wire, FIN | WEBSOCKET_PING, "2", 1, mask_key);
  struct outcome *outcome = run_in_pieces(WEBSOCKET_SERVER, wire, wire->size, 1);
  assert_int_equal(outcome->reply_size, 3);
  assert_memory_equal(outcome->replies,
                      "\x8a\x01"
                      "2",
                      3);
  free(outcome);
  outcome = run_in_pieces(WEBSOCKET_SERVER, wire, wire->size / 2, wire->size);  // two reads, two answers
  assert_int_equal(outcome->reply_size, 6);
  free(outcome);
  free(wire);
}

static void test_longest_ping_and_lone_pong(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  char payload[WEBSOCKET_MAX_CONTROL];
  memset(payload, 'p', sizeof payload);
  add_frame(wire, FIN | WEBSOCKET_PONG, "nobody asked", 12, mask_key);
  add_frame(wire, FIN | WEBSOCKET_PING, payload, sizeof payload, mask_key);
  struct outcome *outcome = run(WEBSOCKET_SERVER, wire);
  assert_false(outcome->closed);
  assert_int_equal(outcome->reply_size, 2 + WEBSOCKET_MAX_CONTROL);
  assert_memory_equal(outcome->replies + 2, payload, sizeof payload);
  free(outcome);
  free(wire);
}

static void test_close_is_echoed(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  add_frame(wire, FIN | WEBSOCKET_BINARY, "bye", 3, mask_key);
  add_frame(wire, FIN | WEBSOCKET_CLOSE, "\x03\xe9going away", 12, mask_key);
  add_frame(wire, FIN | WEBSOCKET_BINARY, "ignored", 7, mask_key);
  struct outcome *outcome = run(WEBSOCKET_SERVER, wire);
  assert_true(outcome->closed);
  assert_int_equal(outcome->close_code, WEBSOCKET_CODE_GOING_AWAY);
  assert_null(outcome->fault);
  assert_int_equal(outcome->stream_size, 3);
  assert_int_equal(outcome->reply_size, 4);
  assert_memory_equal(outcome->replies, "\x88\x02\x03\xe9", 4);
  free(outcome);
  free(wire);
}

static void test_close_without_code(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  add_frame(wire, FIN | WEBSOCKET_CLOSE, "", 0, mask_key);
  struct outcome *outcome = run(WEBSOCKET_SERVER, wire);
  assert_int_equal(outcome->close_code, WEBSOCKET_CODE_NONE);
  assert_null(outcome->fault);
  assert_int_equal(outcome->reply_size, 2);
  assert_memory_equal(outcome->replies, "\x88\x00", 2);
  free(outcome);
  free(wire);
}

static void test_close_codes(void **state)
{
  (void)state;
  static const struct {
    unsigned code;
    bool valid;
  } cases[] = {{999, false},  {1000, true}, {1003, true},  {1004, false}, {1005, false},
               {1006, false}, {1007, true}, {1014, true},  {1015, false}, {2999, false},
               {3000, true},  {4999, true}, {5000, false}, {0, false},    {65535, false}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct wire *wire = new_wire();
    uint8_t payload[2] = {(uint8_t)(cases[i].code >> 8), (uint8_t)cases[i].code};
    add_frame(wire, FIN | WEBSOCKET_CLOSE, payload, 2, mask_key);
    struct outcome *outcome = run(WEBSOCKET_SERVER, wire);
    assert_true(outcome->closed);
    assert_int_equal(outcome->fault == NULL, cases[i].valid);
    assert_int_equal(outcome->close_code, cases[i].valid ? cases[i].code : WEBSOCKET_CODE_PROTOCOL_ERROR);
    free(outcome);
    free(wire);
  }
}

static void test_malformed_close(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  add_frame(wire, FIN | WEBSOCKET_CLOSE, "\x03", 1, mask_key);
  assert_closes(wire, WEBSOCKET_CODE_PROTOCOL_ERROR, "");
  wire = new_wire();
  add_frame(wire, FIN | WEBSOCKET_CLOSE, "\x03\xe8\xff\xfe", 4, mask_key);
  assert_closes(wire, WEBSOCKET_CODE_INVALID_PAYLOAD, "");
}

static void test_our_close_first(void **state)
{
  (void)state;
  struct websocket websocket;
  websocket_init(&websocket, WEBSOCKET_SERVER);
  uint8_t out[WEBSOCKET_MAX_REPLY];
  assert_int_equal(websocket_close(&websocket, WEBSOCKET_CODE_GOING_AWAY, NULL, out), 4);
  assert_memory_equal(out, "\x88\x02\x03\xe9", 4);
  assert_int_equal(websocket_close(&websocket, WEBSOCKET_CODE_NORMAL, NULL, out), 0);

  struct wire *wire = new_wire();
  struct outcome *outcome = calloc(1, sizeof *outcome);
  assert_non_null(outcome);
  add_frame(wire, FIN | WEBSOCKET_BINARY, "late", 4, mask_key);
  add_frame(wire, FIN | WEBSOCKET_PING, "late", 4, mask_key);
  add_frame(wire, FIN | WEBSOCKET_CLOSE, "\x03\xe9", 2, mask_key);
  feed(&websocket, wire->bytes, wire->size, outcome);
  assert_true(outcome->closed);
  assert_null(outcome->fault);
  assert_int_equal(outcome->stream_size, 0);
  assert_int_equal(outcome->reply_size, 0);
  feed(&websocket, wire->bytes, wire->size, outcome);  // and nothing comes after
  assert_int_equal(outcome->stream_size, 0);
  websocket_deinit(&websocket);
  free(outcome);
  free(wire);
}

static void test_faults_of_a_client(void **state)
{
  (void)state;
  static const struct {
    unsigned first;
    unsigned code;
    bool masked;
  } cases[] = {
      {FIN | WEBSOCKET_TEXT, WEBSOCKET_CODE_UNSUPPORTED_DATA, true},  // [MQTT-6.0.0-1]
      {WEBSOCKET_TEXT, WEBSOCKET_CODE_UNSUPPORTED_DATA, true},
      {FIN | WEBSOCKET_BINARY, WEBSOCKET_CODE_PROTOCOL_ERROR, false},
      {FIN | WEBSOCKET_PING, WEBSOCKET_CODE_PROTOCOL_ERROR, false},
      {FIN | 0x40 | WEBSOCKET_BINARY, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {FIN | 0x20 | WEBSOCKET_BINARY, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {FIN | 0x10 | WEBSOCKET_BINARY, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {FIN | 0x3, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {FIN | 0x7, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {FIN | 0xb, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {FIN | 0xf, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {FIN | WEBSOCKET_CONTINUATION, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {WEBSOCKET_CONTINUATION, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
      {WEBSOCKET_PING, WEBSOCKET_CODE_PROTOCOL_ERROR, true},  // control frames are never fragmented
      {WEBSOCKET_CLOSE, WEBSOCKET_CODE_PROTOCOL_ERROR, true},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct wire *wire = new_wire();
    add_frame(wire, FIN | WEBSOCKET_BINARY, "good", 4, mask_key);
    add_frame(wire, cases[i].first, "bad", 3, cases[i].masked ? mask_key : NULL);
    assert_closes(wire, cases[i].code, "good");
  }
}

static void test_message_inside_message(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  add_frame(wire, WEBSOCKET_BINARY, "begin", 5, mask_key);
  add_frame(wire, FIN | WEBSOCKET_BINARY, "again", 5, mask_key);
  assert_closes(wire, WEBSOCKET_CODE_PROTOCOL_ERROR, "begin");
}

static void test_control_frame_too_large(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  char payload[126] = {0};
  add_frame(wire, FIN | WEBSOCKET_PING, payload, sizeof payload, mask_key);
  assert_closes(wire, WEBSOCKET_CODE_PROTOCOL_ERROR, "");
}

static void test_lengths_in_more_bytes_than_needed(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  memcpy(wire->bytes, "\x82\xfe\x00\x05\0\0\0\0hello", 13);
  wire->size = 13;
  assert_closes(wire, WEBSOCKET_CODE_PROTOCOL_ERROR, "");
  wire = new_wire();
  memcpy(wire->bytes, "\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff\0\0\0\0", 14);
  wire->size = 14;
  assert_closes(wire, WEBSOCKET_CODE_PROTOCOL_ERROR, "");
  wire = new_wire();
  memcpy(wire->bytes, "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\0\0\0\0", 14);  // beyond 2^63
  wire->size = 14;
  assert_closes(wire, WEBSOCKET_CODE_PROTOCOL_ERROR, "");
}

static void test_random_frames_in_random_pieces(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 42);
  static const size_t sizes[] = {0, 1, 2, 125, 126, 127, 4095, 4096, 4097, 8192, 65535, 65536, 70000};
  for (unsigned round = 0; round < 60; round++) {
    struct wire *wire = new_wire();
    static uint8_t stream[400000];
    size_t stream_size = 0;
    bool open = false;
    for (unsigned frame = 0; frame < 4; frame++) {
      uint8_t mask[WEBSOCKET_MASK_SIZE];
      uint64_t random = prng_next(&prng);
      memcpy(mask, &random, sizeof mask);
      size_t size = sizes[prng_below(&prng, sizeof sizes / sizeof sizes[0])];
      for (size_t i = 0; i < size; i++) stream[stream_size + i] = (uint8_t)prng_next(&prng);
      bool last = prng_below(&prng, 2) != 0;
      unsigned opcode = open ? WEBSOCKET_CONTINUATION : WEBSOCKET_BINARY;
      add_frame(wire, (last ? FIN : 0) | opcode, stream + stream_size, size, mask);
      open = !last;
      stream_size += size;
    }
    struct outcome *outcome =
        run_in_pieces(WEBSOCKET_SERVER, wire, (size_t)prng_below(&prng, 9000) + 1, (size_t)prng_below(&prng, 9000) + 1);
    assert_false(outcome->closed);
    assert_int_equal(outcome->stream_size, stream_size);
    assert_memory_equal(outcome->stream, stream, stream_size);
    free(outcome);
    free(wire);
  }
}

// P10: an idle connection owns no buffer.
static void test_no_memory_between_frames(void **state)
{
  (void)state;
  struct websocket websocket;
  websocket_init(&websocket, WEBSOCKET_SERVER);
  assert_true(sizeof websocket <= 24);
  struct wire *wire = new_wire();
  struct outcome *outcome = calloc(1, sizeof *outcome);
  assert_non_null(outcome);
  add_frame(wire, WEBSOCKET_BINARY, "half a message", 14, mask_key);
  feed(&websocket, wire->bytes, wire->size, outcome);
  assert_null(websocket.reader);
  feed(&websocket, wire->bytes, 0, outcome);
  assert_null(websocket.reader);
  uint8_t next[20] = {FIN | WEBSOCKET_CONTINUATION, 0x80 | 1, 0, 0, 0, 0, 'x'};
  feed(&websocket, next, 1, outcome);
  assert_non_null(websocket.reader);
  feed(&websocket, next + 1, 5, outcome);
  assert_non_null(websocket.reader);
  feed(&websocket, next + 6, 1, outcome);
  assert_null(websocket.reader);
  assert_int_equal(outcome->stream_size, 15);
  websocket_deinit(&websocket);
  websocket_deinit(&websocket);
  free(outcome);
  free(wire);
}

static void test_client_role(void **state)
{
  (void)state;
  struct wire *wire = new_wire();
  add_frame(wire, FIN | WEBSOCKET_BINARY, "from the server", 15, NULL);
  add_frame(wire, FIN | WEBSOCKET_PING, "Hello", 5, NULL);
  struct outcome *outcome = run(WEBSOCKET_CLIENT, wire);
  assert_false(outcome->closed);
  assert_int_equal(outcome->stream_size, 15);
  assert_int_equal(outcome->reply_size, 11);  // masked
  assert_memory_equal(outcome->replies, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11);
  free(outcome);
  wire->size = 0;
  add_frame(wire, FIN | WEBSOCKET_BINARY, "masked", 6, mask_key);
  outcome = run(WEBSOCKET_CLIENT, wire);
  assert_true(outcome->closed);
  assert_int_equal(outcome->close_code, WEBSOCKET_CODE_PROTOCOL_ERROR);
  free(outcome);
  free(wire);
}

static void test_client_to_server(void **state)
{
  (void)state;
  struct websocket client, server;
  websocket_init(&client, WEBSOCKET_CLIENT);
  websocket_init(&server, WEBSOCKET_SERVER);
  uint8_t close[WEBSOCKET_MAX_REPLY];
  size_t size = websocket_close(&client, WEBSOCKET_CODE_NORMAL, mask_key, close);
  assert_int_equal(size, 8);
  struct websocket_received received;
  assert_int_equal(websocket_receive(&server, close, size, NULL, &received), OK);
  assert_true(received.closed);
  assert_int_equal(received.close_code, WEBSOCKET_CODE_NORMAL);
  struct websocket_received answer;
  assert_int_equal(websocket_receive(&client, received.reply, received.reply_size, mask_key, &answer), OK);
  assert_true(answer.closed);
  assert_int_equal(answer.close_code, WEBSOCKET_CODE_NORMAL);
  assert_int_equal(answer.reply_size, 0);
  websocket_deinit(&client);
  websocket_deinit(&server);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_header_sizes),
      cmocka_unit_test(test_mask_of_the_standard),
      cmocka_unit_test(test_mask_in_pieces),
      cmocka_unit_test(test_stream_across_frames),
      cmocka_unit_test(test_fragments_with_ping_between),
      cmocka_unit_test(test_only_the_last_ping_of_a_read_is_answered),
      cmocka_unit_test(test_longest_ping_and_lone_pong),
      cmocka_unit_test(test_close_is_echoed),
      cmocka_unit_test(test_close_without_code),
      cmocka_unit_test(test_close_codes),
      cmocka_unit_test(test_malformed_close),
      cmocka_unit_test(test_our_close_first),
      cmocka_unit_test(test_faults_of_a_client),
      cmocka_unit_test(test_message_inside_message),
      cmocka_unit_test(test_control_frame_too_large),
      cmocka_unit_test(test_lengths_in_more_bytes_than_needed),
      cmocka_unit_test(test_random_frames_in_random_pieces),
      cmocka_unit_test(test_no_memory_between_frames),
      cmocka_unit_test(test_client_role),
      cmocka_unit_test(test_client_to_server),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
