#include "wire/base64.h"

#include <stdint.h>

static const char alphabet[64] = {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"};

size_t base64_encode(struct span bytes, char *out)
{
  size_t n = 0;
  for (size_t i = 0; i < bytes.size; i += 3) {
    size_t have = bytes.size - i;
    uint32_t group = (uint32_t)bytes.at[i] << 16;
    if (have > 1) group |= (uint32_t)bytes.at[i + 1] << 8;
    if (have > 2) group |= bytes.at[i + 2];
    out[n++] = alphabet[group >> 18];
    out[n++] = alphabet[group >> 12 & 63];
    out[n++] = have > 1 ? alphabet[group >> 6 & 63] : '=';
    out[n++] = have > 2 ? alphabet[group & 63] : '=';
  }
  return n;
}

// The value of a character, -1 when it is not in the alphabet.
static int value_of(uint8_t character)
{
  const char *found = memchr(alphabet, character, sizeof alphabet);
  return found ? (int)(found - alphabet) : -1;
}

bool base64_valid(struct span text, size_t size)
{
  if (text.size != base64_size(size)) return false;
  size_t padding = (3 - size % 3) % 3;
  size_t characters = text.size - padding;
  for (size_t i = 0; i < characters; i++)
    if (value_of(text.at[i]) < 0) return false;
  for (size_t i = characters; i < text.size; i++)
    if (text.at[i] != '=') return false;
  if (padding == 0) return true;
  unsigned unused = padding == 1 ? 0x03 : 0x0f;
  return ((unsigned)value_of(text.at[characters - 1]) & unused) == 0;
}
