// Names and passwords as SCRAM compares them. See saslprep.h.
#include "auth/saslprep.h"

#include <string.h>

#include "base/utf8.h"

struct range {
  uint32_t first, last;
};

// RFC 3454, C.1.2
static const struct range spaces[] = {
    {0x00A0, 0x00A0}, {0x1680, 0x1680}, {0x2000, 0x200B}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
};

// B.1. U+200B is among the spaces, too, and becomes one.
static const struct range nothing[] = {
    {0x00AD, 0x00AD}, {0x034F, 0x034F}, {0x1806, 0x1806}, {0x180B, 0x180D},
    {0x200C, 0x200D}, {0x2060, 0x2060}, {0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF},
};

// C.2.1 to C.9, in order; the surrogates of C.5 are no UTF-8.
static const struct range prohibited[] = {
    {0x0000, 0x001F},    {0x007F, 0x009F},   {0x0340, 0x0341},   {0x06DD, 0x06DD},   {0x070F, 0x070F},   {0x180E, 0x180E},
    {0x200E, 0x200F},    {0x2028, 0x202E},   {0x2060, 0x2063},   {0x206A, 0x206F},   {0x2FF0, 0x2FFB},   {0xE000, 0xF8FF},
    {0xFDD0, 0xFDEF},    {0xFFF9, 0xFFFF},   {0x1D173, 0x1D17A}, {0x1FFFE, 0x1FFFF}, {0x2FFFE, 0x2FFFF}, {0x3FFFE, 0x3FFFF},
    {0x4FFFE, 0x4FFFF},  {0x5FFFE, 0x5FFFF}, {0x6FFFE, 0x6FFFF}, {0x7FFFE, 0x7FFFF}, {0x8FFFE, 0x8FFFF}, {0x9FFFE, 0x9FFFF},
    {0xAFFFE, 0xAFFFF},  {0xBFFFE, 0xBFFFF}, {0xCFFFE, 0xCFFFF}, {0xDFFFE, 0xDFFFF}, {0xE0001, 0xE0001}, {0xE0020, 0xE007F},
    {0xEFFFE, 0x10FFFF},
};

static bool within(uint32_t code, const struct range *ranges, size_t count)
{
  for (size_t i = 0; i < count && ranges[i].first <= code; i++)
    if (code <= ranges[i].last) return true;
  return false;
}

#define WITHIN(code, ranges) within(code, ranges, sizeof(ranges) / sizeof(ranges)[0])

bool saslprep(struct span text, uint8_t *out, size_t *out_size)
{
  size_t size = 0;
  while (text.size > 0) {
    struct utf8_character character = utf8_next(text);
    if (character.size == 0) return false;
    if (WITHIN(character.code, spaces)) {
      out[size++] = ' ';
    } else if (!WITHIN(character.code, nothing)) {
      if (WITHIN(character.code, prohibited)) return false;
      memcpy(out + size, text.at, character.size);
      size += character.size;
    }
    text = span_from(text, character.size);
  }
  *out_size = size;
  return true;
}
