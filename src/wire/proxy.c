#include "wire/proxy.h"

#include "wire/ip_text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { V2_HEADER = 16, V2_IPV4 = 12, V2_IPV6 = 36, V2_UNIX = 216, V2_MAX_LENGTH = PROXY_MAX_V2 - V2_HEADER };

static const uint8_t v2_signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
static const char v1_signature[6] = {'P', 'R', 'O', 'X', 'Y', ' '};

// Whether `in`, as far as it goes, starts with these bytes.
static bool may_start_with(struct span in, const void *bytes, size_t size)
{
  return in.size == 0 || memcmp(in.at, bytes, in.size < size ? in.size : size) == 0;
}

static bool take_word(struct span *line, struct span *out_word)
{
  if (line->size == 0) return false;
  const uint8_t *space = memchr(line->at, ' ', line->size);
  size_t size = space ? (size_t)(space - line->at) : line->size;
  *out_word = span_of(line->at, size);
  if (space && size + 1 == line->size) return false;  // a space at the end
  *line = span_from(*line, space ? size + 1 : size);
  return size > 0;
}

static bool port_parse(struct span text, uint16_t *out)
{
  if (text.size == 0 || text.size > 5 || (text.size > 1 && text.at[0] == '0')) return false;
  unsigned value = 0;
  for (size_t i = 0; i < text.size; i++) {
    if (text.at[i] < '0' || text.at[i] > '9') return false;
    value = value * 10 + (text.at[i] - '0');
  }
  if (value > UINT16_MAX) return false;
  *out = (uint16_t)value;
  return true;
}

// The line behind "PROXY ", without its CRLF.
static bool parse_v1_line(struct span line, struct proxy_source *out)
{
  struct span transport, source, destination, source_port, destination_port;
  if (!take_word(&line, &transport)) return false;
  if (span_equal(transport, span_text("UNKNOWN"))) return true;  // whatever follows is to be ignored
  bool ipv6 = span_equal(transport, span_text("TCP6"));
  if (!ipv6 && !span_equal(transport, span_text("TCP4"))) return false;
  if (!take_word(&line, &source) || !take_word(&line, &destination)) return false;
  if (!take_word(&line, &source_port) || !take_word(&line, &destination_port) || line.size) return false;
  uint8_t unused[IPV6_SIZE];
  uint16_t unused_port;
  if (ipv6 ? !ipv6_parse(source, out->address) : !ipv4_parse(source, out->address)) return false;
  if (ipv6 ? !ipv6_parse(destination, unused) : !ipv4_parse(destination, unused)) return false;
  if (!port_parse(source_port, &out->port) || !port_parse(destination_port, &unused_port)) return false;
  out->family = ipv6 ? PROXY_IPV6 : PROXY_IPV4;
  return true;
}

static enum proxy_result parse_v1(struct span in, size_t *out_size, struct proxy_source *out_source)
{
  struct span window = span_of(in.at, in.size < PROXY_MAX_V1 ? in.size : PROXY_MAX_V1);
  const uint8_t *newline = memchr(window.at, '\n', window.size);
  if (!newline) return in.size < PROXY_MAX_V1 ? PROXY_INCOMPLETE : PROXY_INVALID;
  size_t size = (size_t)(newline - in.at) + 1;
  if (size < sizeof v1_signature + 2 || in.at[size - 2] != '\r') return PROXY_INVALID;
  struct proxy_source source = {0};
  if (!parse_v1_line(span_of(in.at + sizeof v1_signature, size - sizeof v1_signature - 2), &source)) return PROXY_INVALID;
  *out_size = size;
  *out_source = source;
  return PROXY_OK;
}

static uint16_t read_be16(const uint8_t *at)
{
  return (uint16_t)(at[0] << 8 | at[1]);
}

// The address block behind the fixed part. Families and transports that are not known, and datagrams, carry nothing for us.
static bool parse_v2_addresses(uint8_t transport, struct span block, struct proxy_source *out)
{
  switch (transport) {
    case 0x11:  // TCP over IPv4
      if (block.size < V2_IPV4) return false;
      *out = (struct proxy_source){.family = PROXY_IPV4, .port = read_be16(block.at + 8)};
      memcpy(out->address, block.at, IPV4_SIZE);
      return true;
    case 0x21:  // TCP over IPv6
      if (block.size < V2_IPV6) return false;
      *out = (struct proxy_source){.family = PROXY_IPV6, .port = read_be16(block.at + 32)};
      memcpy(out->address, block.at, IPV6_SIZE);
      return true;
    case 0x31:  // Unix stream
      if (block.size < V2_UNIX) return false;
      *out = (struct proxy_source){.family = PROXY_UNIX};
      memcpy(out->path, block.at, PROXY_UNIX_PATH);
      return true;
    default: *out = (struct proxy_source){.family = PROXY_UNKNOWN}; return true;
  }
}

static enum proxy_result parse_v2(struct span in, size_t *out_size, struct proxy_source *out_source)
{
  if (in.size < V2_HEADER) return PROXY_INCOMPLETE;
  unsigned version = in.at[12] >> 4;
  unsigned command = in.at[12] & 0x0f;
  size_t length = read_be16(in.at + 14);
  if (version != 2 || command > 1 || length > V2_MAX_LENGTH) return PROXY_INVALID;
  if (in.size < V2_HEADER + length) return PROXY_INCOMPLETE;
  struct proxy_source source = {0};
  bool local = command == 0;
  if (!local && !parse_v2_addresses(in.at[13], span_of(in.at + V2_HEADER, length), &source)) return PROXY_INVALID;
  *out_size = V2_HEADER + length;
  *out_source = source;
  return PROXY_OK;
}

enum proxy_result proxy_parse(struct span in, size_t *out_size, struct proxy_source *out_source)
{
  if (in.size == 0) return PROXY_INCOMPLETE;
  if (may_start_with(in, v2_signature, sizeof v2_signature)) return parse_v2(in, out_size, out_source);
  if (may_start_with(in, v1_signature, sizeof v1_signature)) return parse_v1(in, out_size, out_source);
  return PROXY_INVALID;
}

size_t proxy_format_source(const struct proxy_source *source, char out[PROXY_MAX_TEXT])
{
  char text[IP_TEXT_SIZE];
  int size = 0;
  switch (source->family) {
    case PROXY_UNKNOWN: size = snprintf(out, PROXY_MAX_TEXT, "unknown"); break;
    case PROXY_IPV4:
      ipv4_format(source->address, text);
      size = snprintf(out, PROXY_MAX_TEXT, "%s:%u", text, source->port);
      break;
    case PROXY_IPV6:
      ipv6_format(source->address, text);
      size = snprintf(out, PROXY_MAX_TEXT, "[%s]:%u", text, source->port);
      break;
    case PROXY_UNIX: size = snprintf(out, PROXY_MAX_TEXT, "unix:%.*s", PROXY_UNIX_PATH, source->path); break;
  }
  return (size_t)size;
}
