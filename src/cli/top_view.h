// How `skerry top` looks: the screen of a terminal, and plain lines. Pure: into a buffer. Whatever bytes arrive, no control
// character of theirs reaches the terminal.
#pragma once

#include "base/buffer.h"
#include "cli/top_metrics.h"
#include "cli/top_table.h"

// The metrics' rows are there when metrics are asked for and the screen is not too low.
enum { TOP_HEADER_ROWS = 6, TOP_METRICS_ROWS = 2, TOP_FOOTER_ROWS = 1, TOP_MIN_ROWS = 8, TOP_MIN_COLUMNS = 40 };

struct top_view {
  unsigned rows;
  unsigned columns;
  size_t scroll;  // the first topic that is shown
  enum top_sort sort;
  bool reverse;
  bool paused;
  bool show_sys;        // topics that start with '$' too
  const char *address;  // of the broker
  const char *state;    // "connected", or why not
  const char *clock;    // "12:34:56"
  uint64_t now_ms;
  const struct top_metrics *metrics;  // NULL: not asked for
  const char *metrics_state;          // "" or what is wrong with them
};

// How many topics the table shows with this view's filter, and how many rows a screen has for them.
size_t top_visible(const struct top_table *table, const struct top_view *view);
size_t top_page(const struct top_view *view);

// Draws the whole screen, from its home position on. ERR_NO_MEMORY.
CHECK_RESULT enum status top_draw(const struct top_table *table, const struct top_broker *broker,
                                  const struct top_view *view, struct buffer *out);

// One line of totals and one line for each of the first `topics` topics.
CHECK_RESULT enum status top_print(const struct top_table *table, const struct top_broker *broker,
                                   const struct top_view *view, size_t topics, struct buffer *out);

// For people: 1234 → "1234", 12345678 → "12.3M"; bytes a second with the same letters.
void top_human(double value, char *out, size_t size);

// Of memory, whose limits are powers of two: 67108864 → "64MiB".
void top_human_memory(double bytes, char *out, size_t size);

// The keys that the screen knows, from the bytes that a terminal sends.
enum top_key {
  TOP_KEY_NONE,
  TOP_KEY_QUIT,
  TOP_KEY_PAUSE,
  TOP_KEY_UP,
  TOP_KEY_DOWN,
  TOP_KEY_PAGE_UP,
  TOP_KEY_PAGE_DOWN,
  TOP_KEY_HOME,
  TOP_KEY_END,
  TOP_KEY_SORT_NEXT,
  TOP_KEY_REVERSE,
  TOP_KEY_SYS,
  TOP_KEY_SORT_FIRST
};  // TOP_KEY_SORT_FIRST + enum top_sort: sort by that

// Takes one key off the front. Unknown bytes are taken as TOP_KEY_NONE.
enum top_key top_next_key(struct span *input);
