// An HTTP response. See top_answer.h.
#include "cli/top_answer.h"

#include <string.h>

#include "wire/http_head.h"

enum { HEAD_MAX = 16384, LINE_MAX_SIZE = 256 };

// How long the body is (RFC 9112, section 6.3).
struct framing {
  bool chunked;
  bool sized;
  size_t size;
};

static enum top_answer_state broken(struct top_answer *out, const char *why)
{
  out->why = why;
  return TOP_ANSWER_BROKEN;
}

static bool read_number(struct span text, unsigned base, size_t *out)
{
  size_t value = 0;
  for (size_t i = 0; i < text.size; i++) {
    uint8_t c = text.at[i];
    unsigned digit = base;
    if (c >= '0' && c <= '9') digit = c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') digit = (c | 0x20) - 'a' + 10u;
    if (digit >= base) return false;
    // Beyond the limit it only has to stay beyond.
    value = value > TOP_ANSWER_MAX ? value : value * base + digit;
  }
  *out = value;
  return text.size > 0;
}

// ---- The head

static bool read_status_line(struct span line, struct top_answer *out)
{
  size_t status = 0;
  if (line.size < 12 || memcmp(line.at, "HTTP/1.", 7) != 0 || line.at[8] != ' ') return false;
  if (!read_number(span_of(line.at + 9, 3), 10, &status)) return false;
  out->http_status = (unsigned)status;
  out->keep = line.at[7] == '1';
  return true;
}

static const char *read_head(struct span head, struct framing *framing, struct top_answer *out)
{
  if (!read_status_line(http_first_line(head), out)) return "no HTTP answer";
  struct http_field field;
  enum http_next next = HTTP_FIELD;
  for (size_t cursor = 0; (next = http_next_field(head, &cursor, &field)) == HTTP_FIELD;) {
    if (http_name_is(&field, "Transfer-Encoding")) {
      if (framing->chunked || !http_equal_ignoring_case(field.value, "chunked")) return "an unknown transfer encoding";
      framing->chunked = true;
    } else if (http_name_is(&field, "Content-Length")) {
      size_t size = 0;
      if (!read_number(field.value, 10, &size)) return "a faulty Content-Length";
      if (framing->sized && framing->size != size) return "two different Content-Lengths";
      framing->sized = true;
      framing->size = size;
    } else if (http_name_is(&field, "Connection") && http_list_has(field.value, "close")) {
      out->keep = false;
    }
  }
  if (next == HTTP_BAD) return "a faulty field in the head";
  if (framing->sized && framing->size > TOP_ANSWER_MAX) return "the page is too large";
  return NULL;
}

// ---- Chunks (RFC 9112, section 7.1)

// Takes a line with its CRLF. False when it has not arrived whole.
static bool take_line(struct span *rest, struct span *out_line)
{
  const uint8_t *end = rest->size ? memmem(rest->at, rest->size, "\r\n", 2) : NULL;
  if (!end) return false;
  *out_line = span_of(rest->at, (size_t)(end - rest->at));
  *rest = span_from(*rest, out_line->size + 2);
  return true;
}

static enum top_answer_state skip_trailer(struct span rest)
{
  struct span line;
  while (take_line(&rest, &line))
    if (line.size == 0) return TOP_ANSWER_WHOLE;
  return TOP_ANSWER_INCOMPLETE;
}

// Goes over the chunks; with `to` their data is moved there, one behind the other, which never overtakes the reading.
static enum top_answer_state walk_chunks(struct span rest, uint8_t *to, struct top_answer *out)
{
  size_t total = 0;
  for (;;) {
    struct span line, digits;
    size_t size = 0;
    bool whole = take_line(&rest, &line);
    if (!whole && rest.size < LINE_MAX_SIZE) return TOP_ANSWER_INCOMPLETE;
    if (!whole || !http_take_word(&line, ';', &digits) || !read_number(digits, 16, &size))
      return broken(out, "a faulty chunk");
    if (size == 0) break;
    if (size > TOP_ANSWER_MAX - total) return broken(out, "the page is too large");
    if (rest.size < size + 2) return TOP_ANSWER_INCOMPLETE;
    if (memcmp(rest.at + size, "\r\n", 2) != 0) return broken(out, "a faulty chunk");
    if (to) memmove(to + total, rest.at, size);
    total += size;
    rest = span_from(rest, size + 2);
  }
  out->body = span_of(to, total);
  return skip_trailer(rest);
}

// ---- The whole

static enum top_answer_state read_body(uint8_t *bytes, size_t size, bool closed, const struct framing *framing,
                                       struct top_answer *out)
{
  struct span rest = span_of(bytes, size);
  if (framing->chunked) {
    // Chunks of one byte have frames of five.
    if (size > TOP_ANSWER_MAX * 2) return broken(out, "the page is too large");
    enum top_answer_state state = walk_chunks(rest, NULL, out);
    return state == TOP_ANSWER_WHOLE ? walk_chunks(rest, bytes, out) : state;
  }
  if (!framing->sized) {
    out->keep = false;
    if (size > TOP_ANSWER_MAX) return broken(out, "the page is too large");
  }
  if (framing->sized ? size < framing->size : !closed) return TOP_ANSWER_INCOMPLETE;
  out->body = span_of(bytes, framing->sized ? framing->size : size);
  return TOP_ANSWER_WHOLE;
}

enum top_answer_state top_answer_read(uint8_t *bytes, size_t size, bool closed, struct top_answer *out)
{
  *out = (struct top_answer){0};
  struct framing framing = {0};
  size_t head = http_head_size(span_of(bytes, size));
  enum top_answer_state state = TOP_ANSWER_INCOMPLETE;
  if (head == 0 && size > HEAD_MAX) return broken(out, "no HTTP answer");
  if (head > 0) {
    const char *why = read_head(span_of(bytes, head), &framing, out);
    if (why) return broken(out, why);
    if (out->http_status != 200) {
      // Its body is nobody's, and where it ends has rules of its own.
      out->keep = false;
      return TOP_ANSWER_WHOLE;
    }
    state = read_body(bytes + head, size - head, closed, &framing, out);
  }
  if (state == TOP_ANSWER_INCOMPLETE && closed) return broken(out, "the connection was closed in the middle");
  return state;
}
