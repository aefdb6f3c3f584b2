#include "base/utf8.h"

#include <assert.h>

struct utf8_character utf8_next(struct span span)
{
  assert(span.size > 0);
  const struct utf8_character invalid = {0};
  uint8_t lead = span.at[0];
  if (lead < 0x80) return (struct utf8_character){.code = lead, .size = 1};
  if (lead < 0xC2 || lead > 0xF4) return invalid;

  size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (span.size < size) return invalid;
  uint32_t code = lead & (0xFFu >> (size + 1));
  for (size_t i = 1; i < size; i++) {
    if ((span.at[i] & 0xC0) != 0x80) return invalid;
    code = code << 6 | (span.at[i] & 0x3Fu);
  }
  if ((size == 3 && code < 0x800) || (size == 4 && code < 0x10000)) return invalid;
  if ((code >= 0xD800 && code <= 0xDFFF) || code > 0x10FFFF) return invalid;
  return (struct utf8_character){.code = code, .size = size};
}

bool utf8_valid(struct span text)
{
  while (text.size > 0) {
    size_t size = utf8_next(text).size;
    if (size == 0) return false;
    text = span_from(text, size);
  }
  return true;
}

size_t utf8_cut(struct span span, size_t limit)
{
  assert(limit <= span.size);
  if (limit == span.size) return limit;
  for (size_t back = 1; back <= 3 && back <= limit; back++) {
    uint8_t byte = span.at[limit - back];
    if ((byte & 0xC0) == 0x80) continue;
    struct utf8_character character = utf8_next(span_from(span, limit - back));
    return character.size > back ? limit - back : limit;
  }
  return limit;
}

bool utf8_is_control(uint32_t code)
{
  if (code < 0x20 || (code >= 0x7F && code < 0xA0)) return true;
  return code == 0x2028 || code == 0x2029 || (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}
