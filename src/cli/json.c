// JSON out, and a check of JSON in. See json.h.
#include "cli/json.h"

#include "base/utf8.h"
#include "wire/base64.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 64, DECIMALS_MAX = 9 };

static void put(struct json *json, const void *bytes, size_t size)
{
  if (!json->failed && buffer_append(json->out, bytes, size) != OK) json->failed = true;
}

static void put_text(struct json *json, const char *text)
{
  put(json, text, strlen(text));
}

static void before_value(struct json *json)
{
  if (json->comma) put(json, ",", 1);
  json->comma = true;
}

void json_begin(struct json *json, struct buffer *out)
{
  *json = (struct json){.out = out};
}

void json_open_object(struct json *json)
{
  before_value(json);
  put(json, "{", 1);
  json->comma = false;
}

void json_close_object(struct json *json)
{
  put(json, "}", 1);
  json->comma = true;
}

void json_open_array(struct json *json)
{
  before_value(json);
  put(json, "[", 1);
  json->comma = false;
}

void json_close_array(struct json *json)
{
  put(json, "]", 1);
  json->comma = true;
}

static void put_escaped(struct json *json, uint8_t byte)
{
  char text[8];
  switch (byte) {
    case '"': put_text(json, "\\\""); return;
    case '\\': put_text(json, "\\\\"); return;
    case '\n': put_text(json, "\\n"); return;
    case '\r': put_text(json, "\\r"); return;
    case '\t': put_text(json, "\\t"); return;
    default: break;
  }
  snprintf(text, sizeof text, "\\u%04x", byte);
  put_text(json, text);
}

static void put_quoted(struct json *json, struct span text)
{
  put(json, "\"", 1);
  size_t from = 0;
  size_t at = 0;
  while (at < text.size) {
    uint8_t byte = text.at[at];
    size_t size = utf8_next(span_from(text, at)).size;
    if (size > 0 && byte >= 0x20 && byte != 0x7f && byte != '"' && byte != '\\') {
      at += size;
      continue;
    }
    put(json, text.at + from, at - from);
    if (size == 0)
      put_text(json, "\xef\xbf\xbd");
    else
      put_escaped(json, byte);
    from = ++at;
  }
  if (at > from) put(json, text.at + from, at - from);
  put(json, "\"", 1);
}

void json_key(struct json *json, const char *key)
{
  before_value(json);
  put_quoted(json, span_text(key));
  put(json, ":", 1);
  json->comma = false;
}

void json_text(struct json *json, struct span text)
{
  before_value(json);
  put_quoted(json, text);
}

void json_uint(struct json *json, uint64_t value)
{
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, value);
  before_value(json);
  put_text(json, text);
}

void json_int(struct json *json, int64_t value)
{
  char text[24];
  snprintf(text, sizeof text, "%" PRId64, value);
  before_value(json);
  put_text(json, text);
}

void json_bool(struct json *json, bool value)
{
  before_value(json);
  put_text(json, value ? "true" : "false");
}

void json_number(struct json *json, double value, unsigned decimals)
{
  assert(decimals <= DECIMALS_MAX);
  before_value(json);
  if (!isfinite(value) || fabs(value) >= 1e18) {
    put_text(json, "null");
    return;
  }
  char text[40];
  int size = snprintf(text, sizeof text, "%.*f", (int)decimals, value);
  assert(size > 0 && (size_t)size < sizeof text);
  if (decimals > 0) {
    while (text[size - 1] == '0') size--;
    if (text[size - 1] == '.') size--;
  }
  text[size] = '\0';
  put_text(json, strcmp(text, "-0") == 0 ? "0" : text);
}

void json_base64(struct json *json, struct span bytes)
{
  before_value(json);
  put(json, "\"", 1);
  uint8_t *at = json->failed ? NULL : buffer_reserve(json->out, base64_size(bytes.size) + 1);
  if (at)
    buffer_commit(json->out, base64_encode(bytes, (char *)at));
  else
    json->failed = true;
  put(json, "\"", 1);
}

void json_raw(struct json *json, struct span value)
{
  before_value(json);
  put(json, value.at, value.size);
}

void json_member_text(struct json *json, const char *key, struct span text)
{
  json_key(json, key);
  json_text(json, text);
}

void json_member_uint(struct json *json, const char *key, uint64_t value)
{
  json_key(json, key);
  json_uint(json, value);
}

void json_member_int(struct json *json, const char *key, int64_t value)
{
  json_key(json, key);
  json_int(json, value);
}

void json_member_bool(struct json *json, const char *key, bool value)
{
  json_key(json, key);
  json_bool(json, value);
}

void json_member_number(struct json *json, const char *key, double value, unsigned decimals)
{
  json_key(json, key);
  json_number(json, value, decimals);
}

// ---- Checking

struct reader {
  struct span text;
  size_t at;
};

static int peek(const struct reader *reader)
{
  return reader->at < reader->text.size ? reader->text.at[reader->at] : -1;
}

static bool take(struct reader *reader, char wanted)
{
  if (peek(reader) != wanted) return false;
  reader->at++;
  return true;
}

static void skip_space(struct reader *reader)
{
  for (;;) {
    int c = peek(reader);
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
    reader->at++;
  }
}

static bool is_digit(int c)
{
  return c >= '0' && c <= '9';
}

static bool read_word(struct reader *reader, const char *word)
{
  size_t size = strlen(word);
  if (reader->text.size - reader->at < size || memcmp(reader->text.at + reader->at, word, size) != 0) return false;
  reader->at += size;
  return true;
}

static bool read_digits(struct reader *reader)
{
  if (!is_digit(peek(reader))) return false;
  while (is_digit(peek(reader))) reader->at++;
  return true;
}

static bool read_number(struct reader *reader)
{
  (void)take(reader, '-');
  if (!take(reader, '0') && !read_digits(reader)) return false;
  if (take(reader, '.') && !read_digits(reader)) return false;
  if (peek(reader) != 'e' && peek(reader) != 'E') return true;
  reader->at++;
  if (!take(reader, '+')) (void)take(reader, '-');
  return read_digits(reader);
}

static bool read_escape(struct reader *reader)
{
  int c = peek(reader);
  if (c <= 0 || !strchr("\"\\/bfnrtu", c)) return false;
  reader->at++;
  if (c != 'u') return true;
  for (int i = 0; i < 4; i++) {
    int digit = peek(reader);
    if (!is_digit(digit) && !(digit >= 'a' && digit <= 'f') && !(digit >= 'A' && digit <= 'F')) return false;
    reader->at++;
  }
  return true;
}

static bool read_string(struct reader *reader)
{
  if (!take(reader, '"')) return false;
  while (!take(reader, '"')) {
    int c = peek(reader);
    if (c < 0x20) return false;
    if (take(reader, '\\')) {
      if (!read_escape(reader)) return false;
      continue;
    }
    size_t size = utf8_next(span_from(reader->text, reader->at)).size;
    if (size == 0) return false;
    reader->at += size;
  }
  return true;
}

static bool read_value(struct reader *reader, unsigned depth);

static bool read_members(struct reader *reader, unsigned depth, char close, bool keys)
{
  skip_space(reader);
  if (take(reader, close)) return true;
  for (;;) {
    skip_space(reader);
    if (keys) {
      if (!read_string(reader)) return false;
      skip_space(reader);
      if (!take(reader, ':')) return false;
    }
    if (!read_value(reader, depth + 1)) return false;
    if (take(reader, close)) return true;
    if (!take(reader, ',')) return false;
  }
}

static bool read_value(struct reader *reader, unsigned depth)
{
  if (depth > DEPTH_MAX) return false;
  skip_space(reader);
  bool good = false;
  switch (peek(reader)) {
    case '{':
      reader->at++;
      good = read_members(reader, depth, '}', true);
      break;
    case '[':
      reader->at++;
      good = read_members(reader, depth, ']', false);
      break;
    case '"': good = read_string(reader); break;
    case 't': good = read_word(reader, "true"); break;
    case 'f': good = read_word(reader, "false"); break;
    case 'n': good = read_word(reader, "null"); break;
    default: good = read_number(reader); break;
  }
  skip_space(reader);
  return good;
}

bool json_valid(struct span text)
{
  struct reader reader = {.text = text};
  return read_value(&reader, 0) && reader.at == text.size;
}
