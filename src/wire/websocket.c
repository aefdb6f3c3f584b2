// Reads and writes frames. wslay parses and unmasks; what a frame means, and what is allowed when, is decided here.
// Nothing here knows MQTT packets, sockets or HTTP.
#include "wire/websocket.h"

#include "mqtt/topic.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

enum { HEADER_BASE = 2, FIN = 0x80, MASKED = 0x80, SIZE_16 = 126, SIZE_64 = 127 };

struct websocket_reader {
  wslay_frame_context_ptr frames;
  struct span input;      // wire bytes that wslay has not taken yet; empty between calls
  uint64_t taken;         // wire bytes that wslay took since this reader was made
  uint64_t accounted;     // of them, those that belong to frames seen whole, or to the seen part of the current frame
  uint64_t payload_left;  // of the current frame
  bool in_frame;          // header seen, payload incomplete
  uint8_t control_size;   // bytes of the current control frame so far
  uint8_t control[WEBSOCKET_MAX_CONTROL];
};

// ---- Writing

size_t websocket_write_header(uint8_t out[WEBSOCKET_MAX_HEADER], uint64_t payload_size, enum websocket_opcode opcode,
                              const uint8_t mask[WEBSOCKET_MASK_SIZE])
{
  size_t n = 0;
  uint8_t masked = mask ? MASKED : 0;
  unsigned size_bytes = payload_size < SIZE_16 ? 0 : payload_size <= UINT16_MAX ? 2 : 8;
  out[n++] = (uint8_t)(FIN | opcode);
  if (size_bytes == 0)
    out[n++] = (uint8_t)(masked | payload_size);
  else
    out[n++] = masked | (size_bytes == 2 ? SIZE_16 : SIZE_64);
  for (unsigned i = size_bytes; i > 0; i--) out[n++] = (uint8_t)(payload_size >> (8 * (i - 1)));
  if (mask) {
    memcpy(out + n, mask, WEBSOCKET_MASK_SIZE);
    n += WEBSOCKET_MASK_SIZE;
  }
  return n;
}

void websocket_mask(uint8_t *bytes, size_t size, const uint8_t mask[WEBSOCKET_MASK_SIZE], uint64_t offset)
{
  uint8_t turned[8];
  for (unsigned i = 0; i < sizeof turned; i++) turned[i] = mask[(offset + i) % WEBSOCKET_MASK_SIZE];
  uint64_t wide_mask;
  memcpy(&wide_mask, turned, sizeof wide_mask);
  size_t i = 0;
  for (; i + sizeof wide_mask <= size; i += sizeof wide_mask) {
    uint64_t word;
    memcpy(&word, bytes + i, sizeof word);
    word ^= wide_mask;
    memcpy(bytes + i, &word, sizeof word);
  }
  for (; i < size; i++) bytes[i] ^= turned[i % sizeof turned];
}

// One control frame into `out`; `payload` may be NULL when `size` is 0.
static size_t write_control(uint8_t *out, enum websocket_opcode opcode, const uint8_t *payload, size_t size,
                            const uint8_t *mask)
{
  assert(size <= WEBSOCKET_MAX_CONTROL);
  size_t n = websocket_write_header(out, size, opcode, mask);
  if (size) memcpy(out + n, payload, size);
  if (mask) websocket_mask(out + n, size, mask, 0);
  return n + size;
}

static size_t write_close(uint8_t *out, unsigned code, const uint8_t *mask)
{
  uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
  return write_control(out, WEBSOCKET_CLOSE, payload, code == WEBSOCKET_CODE_NONE ? 0 : sizeof payload, mask);
}

size_t websocket_close(struct websocket *websocket, enum websocket_close_code code, const uint8_t mask[WEBSOCKET_MASK_SIZE],
                       uint8_t *out)
{
  assert((websocket->role == WEBSOCKET_CLIENT) == (mask != NULL));
  if (websocket->state != WEBSOCKET_IS_OPEN) return 0;
  websocket->state = WEBSOCKET_IS_CLOSING;
  return write_close(out, code, mask);
}

// ---- Reader

static ssize_t give_input(uint8_t *out, size_t size, int flags, void *context)
{
  (void)flags;
  struct websocket_reader *reader = context;
  if (reader->input.size < size) size = reader->input.size;
  if (size == 0) return -1;  // wslay's "want read"
  memcpy(out, reader->input.at, size);
  reader->input = span_from(reader->input, size);
  reader->taken += size;
  return (ssize_t)size;
}

static struct websocket_reader *reader_create(void)
{
  struct websocket_reader *reader = calloc(1, sizeof *reader);
  if (!reader) return NULL;
  const struct wslay_frame_callbacks callbacks = {.recv_callback = give_input};
  if (wslay_frame_context_init(&reader->frames, &callbacks, reader) != 0) {
    free(reader);
    return NULL;
  }
  return reader;
}

static void reader_destroy(struct websocket_reader *reader)
{
  if (!reader) return;
  wslay_frame_context_free(reader->frames);
  free(reader);
}

// Nothing of a frame, not even a part of its header, is held inside wslay.
static bool reader_idle(const struct websocket_reader *reader)
{
  assert(reader->accounted <= reader->taken);
  return !reader->in_frame && reader->accounted == reader->taken;
}

void websocket_init(struct websocket *websocket, enum websocket_role role)
{
  *websocket = (struct websocket){.role = role};
}

void websocket_deinit(struct websocket *websocket)
{
  reader_destroy(websocket->reader);
  websocket->reader = NULL;
}

// ---- Receiving

static void close_for_fault(struct websocket *websocket, enum websocket_close_code code, const char *fault,
                            const uint8_t *mask, struct websocket_received *received)
{
  received->closed = true;
  received->close_code = (uint16_t)code;
  received->fault = fault;
  received->reply_size = websocket->state == WEBSOCKET_IS_OPEN ? write_close(received->reply, code, mask) : 0;
  websocket->state = WEBSOCKET_IS_CLOSED;
}

// Codes that may travel: RFC 6455 section 7.4, and IANA's registry for 1012..1014.
static bool close_code_valid(unsigned code)
{
  if (code >= 3000 && code <= 4999) return true;
  return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

static void peer_closes(struct websocket *websocket, const uint8_t *mask, struct websocket_received *received)
{
  const struct websocket_reader *reader = websocket->reader;
  unsigned code = WEBSOCKET_CODE_NONE;
  if (reader->control_size == 1) {
    close_for_fault(websocket, WEBSOCKET_CODE_PROTOCOL_ERROR, "the Close frame has half a code", mask, received);
    return;
  }
  if (reader->control_size >= 2) {
    code = (unsigned)reader->control[0] << 8 | reader->control[1];
    if (!close_code_valid(code)) {
      close_for_fault(websocket, WEBSOCKET_CODE_PROTOCOL_ERROR, "the Close frame has an invalid code", mask, received);
      return;
    }
    if (!mqtt_utf8_valid(span_of(reader->control + 2, reader->control_size - 2u))) {
      close_for_fault(websocket, WEBSOCKET_CODE_INVALID_PAYLOAD, "the reason in the Close frame is not UTF-8", mask,
                      received);
      return;
    }
  }
  received->closed = true;
  received->close_code = (uint16_t)code;
  received->reply_size = websocket->state == WEBSOCKET_IS_OPEN ? write_close(received->reply, code, mask) : 0;
  websocket->state = WEBSOCKET_IS_CLOSED;
}

struct frame_fault {
  enum websocket_close_code code;
  const char *text;  // NULL: nothing is wrong
};

// What is wrong with the frame whose header was just seen.
static struct frame_fault check_frame(const struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
  if (frame->rsv) return (struct frame_fault){WEBSOCKET_CODE_PROTOCOL_ERROR, "a reserved bit is set"};
  if (websocket->role == WEBSOCKET_SERVER && !frame->mask)
    return (struct frame_fault){WEBSOCKET_CODE_PROTOCOL_ERROR, "a client's frame is not masked"};
  if (websocket->role == WEBSOCKET_CLIENT && frame->mask)
    return (struct frame_fault){WEBSOCKET_CODE_PROTOCOL_ERROR, "a server's frame is masked"};
  switch (frame->opcode) {
    case WEBSOCKET_CONTINUATION:
      if (!websocket->in_message)
        return (struct frame_fault){WEBSOCKET_CODE_PROTOCOL_ERROR, "a continuation frame continues nothing"};
      break;
    case WEBSOCKET_BINARY:
      if (websocket->in_message)
        return (struct frame_fault){WEBSOCKET_CODE_PROTOCOL_ERROR, "a message starts inside another message"};
      break;
    case WEBSOCKET_TEXT:
      return (struct frame_fault){WEBSOCKET_CODE_UNSUPPORTED_DATA, "a text frame; MQTT needs binary frames"};
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG: break;
    default: return (struct frame_fault){WEBSOCKET_CODE_PROTOCOL_ERROR, "an unknown opcode"};
  }
  return (struct frame_fault){0};
}

static uint64_t header_size(const struct wslay_frame_iocb *frame)
{
  uint64_t size = HEADER_BASE + (frame->mask ? WEBSOCKET_MASK_SIZE : 0);
  if (frame->payload_length < SIZE_16) return size;
  return size + (frame->payload_length <= UINT16_MAX ? 2 : 8);
}

static void frame_begins(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
  struct websocket_reader *reader = websocket->reader;
  reader->in_frame = true;
  reader->control_size = 0;
  reader->payload_left = frame->payload_length;
  reader->accounted += header_size(frame);
  if (!wslay_is_ctrl_frame(frame->opcode)) websocket->in_message = !frame->fin;
}

static void take_payload(struct websocket *websocket, const struct wslay_frame_iocb *frame, uint8_t *bytes,
                         struct websocket_received *received)
{
  struct websocket_reader *reader = websocket->reader;
  assert(frame->data_length <= reader->payload_left);
  reader->payload_left -= frame->data_length;
  reader->accounted += frame->data_length;
  if (frame->data_length == 0) return;
  if (wslay_is_ctrl_frame(frame->opcode)) {
    assert(frame->data_length <= (size_t)(WEBSOCKET_MAX_CONTROL - reader->control_size));
    memcpy(reader->control + reader->control_size, frame->data, frame->data_length);
    reader->control_size = (uint8_t)(reader->control_size + frame->data_length);
  } else if (websocket->state == WEBSOCKET_IS_OPEN) {
    memcpy(bytes + received->payload_size, frame->data, frame->data_length);
    received->payload_size += frame->data_length;
  }
}

static void frame_ends(struct websocket *websocket, unsigned opcode, const uint8_t *mask,
                       struct websocket_received *received)
{
  struct websocket_reader *reader = websocket->reader;
  reader->in_frame = false;
  if (opcode == WEBSOCKET_CLOSE)
    peer_closes(websocket, mask, received);
  else if (opcode == WEBSOCKET_PING && websocket->state == WEBSOCKET_IS_OPEN)
    received->reply_size = write_control(received->reply, WEBSOCKET_PONG, reader->control, reader->control_size, mask);
}

enum status websocket_receive(struct websocket *websocket, uint8_t *bytes, size_t size,
                              const uint8_t mask[WEBSOCKET_MASK_SIZE], struct websocket_received *out_received)
{
  assert((websocket->role == WEBSOCKET_CLIENT) == (mask != NULL));
  struct websocket_received received;
  received.payload_size = received.reply_size = 0;
  received.closed = websocket->state == WEBSOCKET_IS_CLOSED;
  received.close_code = WEBSOCKET_CODE_NONE;
  received.fault = NULL;

  if (!websocket->reader && size && !received.closed && !(websocket->reader = reader_create())) return ERR_NO_MEMORY;
  struct websocket_reader *reader = websocket->reader;
  if (reader) reader->input = span_of(bytes, size);
  while (reader && !received.closed) {
    struct wslay_frame_iocb frame = {0};
    ssize_t result = wslay_frame_recv(reader->frames, &frame);
    if (result == WSLAY_ERR_WANT_READ) break;
    if (result < 0) {
      close_for_fault(websocket, WEBSOCKET_CODE_PROTOCOL_ERROR, "a malformed frame header", mask, &received);
      break;
    }
    if (!reader->in_frame) {
      struct frame_fault fault = check_frame(websocket, &frame);
      if (fault.text) {
        close_for_fault(websocket, fault.code, fault.text, mask, &received);
        break;
      }
      frame_begins(websocket, &frame);
    }
    // Safe in place: wslay holds at most a part of a header between calls, so payload never overtakes the bytes it came
    // from.
    take_payload(websocket, &frame, bytes, &received);
    if (reader->payload_left == 0) frame_ends(websocket, frame.opcode, mask, &received);
  }
  if (reader && (received.closed || reader_idle(reader))) websocket_deinit(websocket);
  *out_received = received;
  return OK;
}
