// A network of one-way pipes: what is written arrives later, in other portions, or never. No clock: whoever owns a pipe
// decides when something arrives; how much is decided by the seed.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/prng.h"
#include "base/span.h"

struct pipe {
  struct buffer bytes;  // written and not yet read
  size_t arrived;       // of these, how many the reader can see
  size_t window;        // most bytes on the way; a full pipe takes nothing
  bool closed;          // the writer has ended, or the pipe was cut: nothing more is written
  bool end_arrived;     // the reader can see the end once it has read everything
};

void pipe_init(struct pipe *pipe, size_t window);
void pipe_deinit(struct pipe *pipe);

// Bytes that a write takes now.
size_t pipe_room(const struct pipe *pipe);

// Exactly these bytes; what does not fit the window is the caller's fault only when it asked pipe_room (clients do not).
void pipe_write(struct pipe *pipe, struct span bytes);

// What the reader can see.
struct span pipe_peek(const struct pipe *pipe);
void pipe_read(struct pipe *pipe, size_t size);

// Lets some of what is on the way arrive; `everything` lets all of it arrive. Returns whether anything has changed.
bool pipe_move(struct pipe *pipe, struct prng *prng, bool everything);

// The writer's end: what is on the way still arrives.
void pipe_close(struct pipe *pipe);

// A break in the line: what has not arrived is lost.
void pipe_cut(struct pipe *pipe);

// The reader has seen everything and the end.
bool pipe_at_end(const struct pipe *pipe);
