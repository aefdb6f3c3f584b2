// UTF-8 one character at a time, for what is shown to people. The strict check of MQTT's strings is mqtt/topic.h's.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

struct utf8_character {
  uint32_t code;  // the Unicode scalar value
  size_t size;    // in bytes, 1 to 4; 0 when the bytes are not UTF-8
};

// The first character. The span must not be empty. Overlong forms, surrogates and values above U+10FFFF are not UTF-8
// (RFC 3629, section 3).
struct utf8_character utf8_next(struct span span);

// Whether all of it is UTF-8. NUL is.
bool utf8_valid(struct span text);

// The largest size not above `limit`, itself not above the span's size, at which no character is split. Where the bytes are
// not UTF-8, `limit`.
size_t utf8_cut(struct span span, size_t limit);

// C0, DEL, C1 (which terminals may obey), and the line and paragraph separators and direction overrides that make a line
// look like another one.
bool utf8_is_control(uint32_t code);
