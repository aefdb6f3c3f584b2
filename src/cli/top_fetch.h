// Fetches the broker's metrics once a second, over one connection that is kept; never blocks but for the look-up of a host's
// name. Main thread only.
#pragma once

#include <poll.h>

#include "base/error.h"
#include "cli/transport.h"
#include "cli/url.h"

enum {
  TOP_FETCH_PERIOD_MS = 1000,
  TOP_FETCH_TIMEOUT_MS = 1000,
  TOP_FETCH_NO_HOST_MS = 10000,  // until an unknown name is looked up again: that blocks
};

struct top_fetch {
  struct url url;  // memory is NULL: there is nothing to fetch
  struct transport_address address;
  struct transport transport;
  struct buffer in;
  size_t answered;  // bytes at the front of `in` that were handed out
  bool waiting;     // for an answer, or for the connection
  bool sent;
  uint64_t next_ms;
  uint64_t deadline_ms;
};

// HOST:PORT, or http://HOST[:PORT][/PATH]; the path is /metrics when there is none. ERR_INVALID with what is wrong.
CHECK_RESULT enum status top_fetch_parse(const char *text, struct url *out, struct error *error);

// Takes the URL, one that was parsed or a zeroed one. Must not move afterwards.
void top_fetch_init(struct top_fetch *fetch, struct url *url);
void top_fetch_deinit(struct top_fetch *fetch);

// What to poll, and when to call top_fetch_turn at the latest.
struct pollfd top_fetch_pollfd(const struct top_fetch *fetch);
uint64_t top_fetch_due_ms(const struct top_fetch *fetch);

// PAGE: the page is valid until the next call. FAILED: the error says why; it goes on trying.
enum top_fetched { TOP_FETCHED_NOTHING, TOP_FETCHED_PAGE, TOP_FETCHED_FAILED };

// Goes on after poll.
enum top_fetched top_fetch_turn(struct top_fetch *fetch, short events, uint64_t now_ms, struct span *out_page,
                                struct error *error);
