// Takes apart the head of an HTTP/1.1 message (RFC 9112, sections 2 to 5), strictly: CRLF only, no folded lines, no control
// characters. Just what the WebSocket handshake needs. Pure; everything points into the input.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/span.h"

// Bytes up to and with the empty line, 0 while it has not arrived.
size_t http_head_size(struct span in);

// The first line, without its CRLF. The input holds a whole head.
struct span http_first_line(struct span head);

struct http_field {
  struct span name;
  struct span value;  // without the white space around it
};

enum http_next { HTTP_FIELD, HTTP_END, HTTP_BAD };

// Walks the fields; start with *cursor = 0. The head ends with its empty line.
enum http_next http_next_field(struct span head, size_t *cursor, struct http_field *out_field);

// Whether a field has this name; case does not matter.
bool http_name_is(const struct http_field *field, const char *name);

// Takes the next word up to `separator` off the front of `*text`, without white space around it. False at the end.
bool http_take_word(struct span *text, char separator, struct span *out_word);

bool http_equal_ignoring_case(struct span a, const char *b);

// Whether a comma-separated list has this element; case does not matter.
bool http_list_has(struct span list, const char *element);
