#include "wire/ip_text.h"

#include <stdio.h>
#include <string.h>

enum { GROUPS = 8 };

static int hex_value(uint8_t c)
{
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool ipv4_parse(struct span text, uint8_t out[IPV4_SIZE])
{
  uint8_t address[IPV4_SIZE];
  size_t at = 0;
  for (unsigned i = 0; i < IPV4_SIZE; i++) {
    if (i > 0 && (at == text.size || text.at[at++] != '.')) return false;
    unsigned value = 0;
    size_t first = at;
    for (; at < text.size && text.at[at] >= '0' && text.at[at] <= '9' && at - first < 3; at++)
      value = value * 10 + (text.at[at] - '0');
    bool leading_zero = at - first > 1 && text.at[first] == '0';
    if (at == first || leading_zero || value > UINT8_MAX) return false;
    address[i] = (uint8_t)value;
  }
  if (at != text.size) return false;
  memcpy(out, address, sizeof address);
  return true;
}

// Reads groups of hexadecimal digits separated by ':' into `out`, at most `limit` bytes; the last may be an IPv4 address.
// Returns how many bytes, or -1.
static int parse_groups(struct span text, uint8_t *out, size_t limit)
{
  size_t n = 0;
  while (text.size) {
    const uint8_t *colon = memchr(text.at, ':', text.size);
    size_t size = colon ? (size_t)(colon - text.at) : text.size;
    struct span group = span_of(text.at, size);
    if (!colon && n + IPV4_SIZE <= limit && memchr(group.at, '.', group.size)) {
      return ipv4_parse(group, out + n) ? (int)(n + IPV4_SIZE) : -1;
    }
    if (size == 0 || size > 4 || n + 2 > limit) return -1;
    unsigned value = 0;
    for (size_t i = 0; i < size; i++) {
      int digit = hex_value(group.at[i]);
      if (digit < 0) return -1;
      value = value << 4 | (unsigned)digit;
    }
    out[n++] = (uint8_t)(value >> 8);
    out[n++] = (uint8_t)value;
    if (!colon) break;
    text = span_from(text, size + 1);
    if (text.size == 0) return -1;  // a ':' at the end
  }
  return (int)n;
}

bool ipv6_parse(struct span text, uint8_t out[IPV6_SIZE])
{
  if (text.at == NULL || text.size == 0) return false;
  uint8_t address[IPV6_SIZE] = {0};
  static const char gap_text[2] = {':', ':'};
  const uint8_t *gap = memmem(text.at, text.size, gap_text, sizeof gap_text);
  if (!gap) {
    if (parse_groups(text, address, IPV6_SIZE) != IPV6_SIZE) return false;
  } else {
    // "::" stands for at least one group of zeros.
    struct span before = span_of(text.at, (size_t)(gap - text.at));
    struct span after = span_from(text, before.size + sizeof gap_text);
    if (before.size && memchr(before.at, '.', before.size)) return false;
    uint8_t tail[IPV6_SIZE];
    int front = parse_groups(before, address, IPV6_SIZE - 2);
    if (front < 0) return false;
    int back = parse_groups(after, tail, (size_t)(IPV6_SIZE - 2 - front));
    if (back < 0) return false;
    memcpy(address + IPV6_SIZE - back, tail, (size_t)back);
  }
  memcpy(out, address, sizeof address);
  return true;
}

size_t ipv4_format(const uint8_t address[IPV4_SIZE], char out[IP_TEXT_SIZE])
{
  return (size_t)snprintf(out, IP_TEXT_SIZE, "%u.%u.%u.%u", address[0], address[1], address[2], address[3]);
}

// The longest run of zero groups, the first one when there are several; shorter than two groups is no run.
static unsigned longest_zero_run(const uint16_t groups[GROUPS], unsigned *out_length)
{
  unsigned best = GROUPS;
  unsigned best_length = 1;
  for (unsigned i = 0; i < GROUPS; i++) {
    unsigned length = 0;
    while (i + length < GROUPS && groups[i + length] == 0) length++;
    if (length > best_length) {
      best = i;
      best_length = length;
    }
  }
  *out_length = best == GROUPS ? 0 : best_length;
  return best;
}

size_t ipv6_format(const uint8_t address[IPV6_SIZE], char out[IP_TEXT_SIZE])
{
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  if (memcmp(address, mapped, sizeof mapped) == 0)
    return (size_t)snprintf(out, IP_TEXT_SIZE, "::ffff:%u.%u.%u.%u", address[12], address[13], address[14], address[15]);
  uint16_t groups[GROUPS];
  for (unsigned i = 0; i < GROUPS; i++) groups[i] = (uint16_t)(address[2 * i] << 8 | address[2 * i + 1]);
  unsigned run_length;
  unsigned run = longest_zero_run(groups, &run_length);
  size_t n = 0;
  for (unsigned i = 0; i < GROUPS; i++) {
    if (i == run) {
      n += (size_t)snprintf(out + n, IP_TEXT_SIZE - n, "::");
      i += run_length - 1;
      continue;
    }
    bool separate = i > 0 && i != run + run_length;
    n += (size_t)snprintf(out + n, IP_TEXT_SIZE - n, separate ? ":%x" : "%x", groups[i]);
  }
  return n;
}
