// WebSocket under a connection of the load generator: its handshake, and one frame for all that is sent at a time. One
// thread.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "cli/bench.h"

struct engine_frames;

// Begins with the request in its output. NULL: memory is short.
struct engine_frames *frames_create(const struct bench_options *options);
void frames_free(struct engine_frames *frames);  // NULL is harmless

// What is to be sent: the caller consumes it. With `out` all of that goes into it as one frame.
struct buffer *frames_output(struct engine_frames *frames, struct buffer *out);

// Takes *size bytes from the wire and leaves the stream's in front of them, *size of these. *out_open: since the handshake
// is done. NULL, or how it has ended: static.
const char *frames_receive(struct engine_frames *frames, const struct bench_options *options, uint8_t *bytes, size_t *size,
                           bool *out_open);
