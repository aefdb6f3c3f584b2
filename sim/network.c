#include "network.h"

#include <stdlib.h>

void pipe_init(struct pipe *pipe, size_t window)
{
  *pipe = (struct pipe){.window = window};
  buffer_init(&pipe->bytes);
}

void pipe_deinit(struct pipe *pipe)
{
  buffer_deinit(&pipe->bytes);
}

size_t pipe_room(const struct pipe *pipe)
{
  size_t size = buffer_size(&pipe->bytes);
  return pipe->closed || size >= pipe->window ? 0 : pipe->window - size;
}

void pipe_write(struct pipe *pipe, struct span bytes)
{
  if (pipe->closed || bytes.size == 0) return;
  if (buffer_append(&pipe->bytes, bytes.at, bytes.size) != OK) abort();
}

struct span pipe_peek(const struct pipe *pipe)
{
  return (struct span){.at = buffer_peek(&pipe->bytes).at, .size = pipe->arrived};
}

void pipe_read(struct pipe *pipe, size_t size)
{
  buffer_consume(&pipe->bytes, size);
  pipe->arrived -= size;
}

bool pipe_move(struct pipe *pipe, struct prng *prng, bool everything)
{
  size_t waiting = buffer_size(&pipe->bytes) - pipe->arrived;
  if (waiting > 0) {
    bool all = everything || prng_below(prng, 2) == 0;
    pipe->arrived += all ? waiting : 1 + (size_t)prng_below(prng, waiting);
    return true;
  }
  if (pipe->closed && !pipe->end_arrived && (everything || prng_below(prng, 2) == 0)) {
    pipe->end_arrived = true;
    return true;
  }
  return false;
}

void pipe_close(struct pipe *pipe)
{
  pipe->closed = true;
}

void pipe_cut(struct pipe *pipe)
{
  struct buffer kept = {0};
  if (buffer_append(&kept, buffer_peek(&pipe->bytes).at, pipe->arrived) != OK) abort();
  buffer_deinit(&pipe->bytes);
  pipe->bytes = kept;
  pipe->closed = true;
}

bool pipe_at_end(const struct pipe *pipe)
{
  return pipe->end_arrived && buffer_size(&pipe->bytes) == 0;
}
