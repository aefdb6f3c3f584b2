// WebSocket framing (RFC 6455, sections 5 to 7) as MQTT uses it (MQTT 5.0 section 6): binary messages whose boundaries mean
// nothing, so that a connection is one stream of bytes each way. Both roles. Pure: bytes in, bytes out; the random masks of
// a client come in as arguments. The opening handshake is in wire/websocket_handshake.h. Frames are read by wslay.
//
// One thread at a time per connection.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum websocket_role { WEBSOCKET_SERVER, WEBSOCKET_CLIENT };

enum websocket_opcode {
  WEBSOCKET_CONTINUATION = 0,
  WEBSOCKET_TEXT = 1,
  WEBSOCKET_BINARY = 2,
  WEBSOCKET_CLOSE = 8,
  WEBSOCKET_PING = 9,
  WEBSOCKET_PONG = 10,
};

// RFC 6455, section 7.4.1.
enum websocket_close_code {
  WEBSOCKET_CODE_NORMAL = 1000,
  WEBSOCKET_CODE_GOING_AWAY = 1001,
  WEBSOCKET_CODE_PROTOCOL_ERROR = 1002,
  WEBSOCKET_CODE_UNSUPPORTED_DATA = 1003,  // a text message: [MQTT-6.0.0-1]
  WEBSOCKET_CODE_NONE = 1005,              // in `struct websocket_received` only: the peer gave no code
  WEBSOCKET_CODE_INVALID_PAYLOAD = 1007,   // the peer's reason for closing is not UTF-8
  WEBSOCKET_CODE_POLICY = 1008,
  WEBSOCKET_CODE_TOO_BIG = 1009,
  WEBSOCKET_CODE_INTERNAL = 1011,
};

enum {
  WEBSOCKET_MAX_HEADER = 14,    // 2, up to 8 of length, 4 of mask
  WEBSOCKET_MAX_CONTROL = 125,  // payload of a control frame
  WEBSOCKET_MAX_REPLY = 2 + 4 + WEBSOCKET_MAX_CONTROL,
  WEBSOCKET_MASK_SIZE = 4,
};

struct websocket_reader;  // memory needed only in the middle of a frame

// A connection after its handshake. Between frames it owns no memory beyond this struct.
//   OPEN → CLOSING (we sent Close) → CLOSED (theirs arrived)
//   OPEN → CLOSED (theirs arrived and our answer is in `reply`, or they broke the protocol)
struct websocket {
  struct websocket_reader *reader;
  enum websocket_role role;
  enum websocket_state { WEBSOCKET_IS_OPEN, WEBSOCKET_IS_CLOSING, WEBSOCKET_IS_CLOSED } state;
  bool in_message;  // a fragmented message is under way
};

void websocket_init(struct websocket *websocket, enum websocket_role role);
void websocket_deinit(struct websocket *websocket);

// What came out of one call of websocket_receive.
struct websocket_received {
  size_t payload_size;  // bytes of the stream, now at the front of the caller's memory
  bool closed;          // send the reply, then close the connection; nothing is read from it any more
  uint16_t close_code;  // meaningful when closed: the peer's code, or the one that we close with for its fault
  const char *fault;    // when closed for what the peer did wrong: a sentence for logs; otherwise NULL
  size_t reply_size;    // 0: nothing to send
  uint8_t reply[WEBSOCKET_MAX_REPLY];  // one whole frame, Pong or Close, to be sent between two frames of our own
};

// Takes all `size` wire bytes and leaves the stream's bytes in front of them, unmasked, in the same memory: a loop reads
// from the socket into its large buffer, calls this, and parses packets there as it does for plain TCP. Frames may be cut
// anywhere and may be of any size; none is collected. Of several Pings in one call only the last is answered (RFC
// 6455, 5.5.3), so that Pings cannot be used to make us write more than they cost. `mask` is for the reply: NULL for a
// server, four unpredictable bytes for a client, fresh for each call. Bytes that follow a Close are ignored.
//
// ERR_NO_MEMORY: the reader could not be allocated; the connection cannot go on.
CHECK_RESULT enum status websocket_receive(struct websocket *websocket, uint8_t *bytes, size_t size,
                                           const uint8_t mask[WEBSOCKET_MASK_SIZE], struct websocket_received *out_received);

// Writes a Close frame and remembers that it was sent: data that still arrives is thrown away, and the peer's Close ends the
// connection without another reply. Returns its size, at most WEBSOCKET_MAX_REPLY; 0 when a Close was sent before.
// `mask` as for websocket_write_header.
size_t websocket_close(struct websocket *websocket, enum websocket_close_code code, const uint8_t mask[WEBSOCKET_MASK_SIZE],
                       uint8_t *out);

// Writes the header of one whole (unfragmented) frame and returns its size, 2..WEBSOCKET_MAX_HEADER. `mask` is NULL for a
// server; a client gives four unpredictable bytes, fresh for each frame, and masks the payload with websocket_mask.
size_t websocket_write_header(uint8_t out[WEBSOCKET_MAX_HEADER], uint64_t payload_size, enum websocket_opcode opcode,
                              const uint8_t mask[WEBSOCKET_MASK_SIZE]);

// Masks (or unmasks: it is its own inverse) payload bytes in place. `offset` is the position of the first in its frame.
void websocket_mask(uint8_t *bytes, size_t size, const uint8_t mask[WEBSOCKET_MASK_SIZE], uint64_t offset);
