#include "broker/control_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { MAX_DEPTH = 16 };

// ---- Writing

static void put(struct control_json *json, const void *bytes, size_t size)
{
  if (!json->failed && buffer_append(json->out, bytes, size) != OK) json->failed = true;
}

static void put_quoted(struct control_json *json, const char *text)
{
  put(json, "\"", 1);
  for (struct span rest = span_text(text); rest.size;) {
    struct utf8_character character = utf8_next(rest);
    size_t size = character.size ? character.size : 1;
    char escaped[16];
    if (character.size == 0) {
      put(json, "\xef\xbf\xbd", 3);  // U+FFFD
    } else if (rest.at[0] == '"' || rest.at[0] == '\\') {
      put(json, "\\", 1);
      put(json, rest.at, 1);
    } else if (rest.at[0] == '\n') {
      put(json, "\\n", 2);
    } else if (utf8_is_control(character.code)) {
      snprintf(escaped, sizeof escaped, "\\u%04" PRIx32, character.code & 0xffff);
      put(json, escaped, strlen(escaped));
    } else {
      put(json, rest.at, size);
    }
    rest = span_from(rest, size);
  }
  put(json, "\"", 1);
}

static void begin(struct control_json *json, const char *name)
{
  if (json->comma) put(json, ",", 1);
  json->comma = true;
  if (!name) return;
  put_quoted(json, name);
  put(json, ":", 1);
}

void control_json_open(struct control_json *json, const char *name, char bracket)
{
  begin(json, name);
  put(json, &bracket, 1);
  json->comma = false;
}

void control_json_close(struct control_json *json, char bracket)
{
  put(json, &bracket, 1);
  json->comma = true;
}

void control_json_text(struct control_json *json, const char *name, const char *value)
{
  begin(json, name);
  if (value)
    put_quoted(json, value);
  else
    put(json, "null", 4);
}

void control_json_number(struct control_json *json, const char *name, int64_t value)
{
  char text[24];
  snprintf(text, sizeof text, "%" PRId64, value);
  begin(json, name);
  put(json, text, strlen(text));
}

void control_json_truth(struct control_json *json, const char *name, bool value)
{
  begin(json, name);
  put(json, value ? "true" : "false", value ? 4 : 5);
}

// ---- Reading

static void skip_space(struct span *rest)
{
  while (rest->size && strchr(" \t\r\n", rest->at[0]) && rest->at[0]) *rest = span_from(*rest, 1);
}

static bool take(struct span *rest, char wanted)
{
  skip_space(rest);
  if (rest->size == 0 || rest->at[0] != (uint8_t)wanted) return false;
  *rest = span_from(*rest, 1);
  return true;
}

// A text in quotes; what is between them goes to `out` as it is written.
static bool take_text(struct span *rest, struct span *out)
{
  if (!take(rest, '"')) return false;
  for (size_t i = 0; i < rest->size; i++) {
    uint8_t byte = rest->at[i];
    if (byte < 0x20) return false;
    if (byte == '\\') {
      i++;
    } else if (byte == '"') {
      *out = span_of(rest->at, i);
      *rest = span_from(*rest, i + 1);
      return true;
    }
  }
  return false;
}

static bool take_nested(struct span *rest)
{
  size_t depth = 0;
  do {
    struct span text;
    skip_space(rest);
    if (rest->size == 0) return false;
    uint8_t byte = rest->at[0];
    if (byte == '"') {
      if (!take_text(rest, &text)) return false;
      continue;
    }
    if (byte == '{' || byte == '[') depth++;
    if (byte == '}' || byte == ']') depth--;
    if (depth > MAX_DEPTH) return false;
    *rest = span_from(*rest, 1);
  } while (depth > 0);
  return true;
}

static bool is_word(struct span value, const char *word)
{
  return span_equal(value, span_text(word));
}

static bool is_number(struct span value)
{
  for (size_t i = 0; i < value.size; i++)
    if (!strchr("0123456789+-.eE", value.at[i]) || !value.at[i]) return false;
  return value.size > 0;
}

static bool take_plain(struct span *rest, struct control_json_member *member)
{
  size_t size = 0;
  while (size < rest->size && rest->at[size] > ' ' && rest->at[size] != ',' && rest->at[size] != '}') size++;
  member->value = span_of(rest->at, size);
  *rest = span_from(*rest, size);
  if (is_word(member->value, "true") || is_word(member->value, "false"))
    member->kind = CONTROL_JSON_TRUTH;
  else if (is_word(member->value, "null"))
    member->kind = CONTROL_JSON_NULL;
  else if (is_number(member->value))
    member->kind = CONTROL_JSON_NUMBER;
  else
    return false;
  return true;
}

static bool take_value(struct span *rest, struct control_json_member *member)
{
  skip_space(rest);
  if (rest->size == 0) return false;
  const uint8_t *from = rest->at;
  if (from[0] == '"') {
    member->kind = CONTROL_JSON_TEXT;
    return take_text(rest, &member->value);
  }
  if (from[0] != '{' && from[0] != '[') return take_plain(rest, member);
  member->kind = CONTROL_JSON_NESTED;
  if (!take_nested(rest)) return false;
  member->value = span_of(from, (size_t)(rest->at - from));
  return true;
}

bool control_json_read(struct span text, void (*take_member)(void *context, const struct control_json_member *member),
                       void *context)
{
  struct span rest = text;
  if (!take(&rest, '{')) return false;
  bool more = !take(&rest, '}');
  while (more) {
    struct control_json_member member;
    if (!take_text(&rest, &member.name) || !take(&rest, ':') || !take_value(&rest, &member)) return false;
    take_member(context, &member);
    more = take(&rest, ',');
    if (!more && !take(&rest, '}')) return false;
  }
  skip_space(&rest);
  return rest.size == 0;
}

static int hexadecimal(uint8_t byte)
{
  if (byte >= '0' && byte <= '9') return byte - '0';
  byte |= 0x20;
  return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

// A character of the basic plane, which is all that our own writer escapes. Returns its size in UTF-8; 0: none, or half of a
// pair.
static size_t unescape_code(struct span rest, char out[3])
{
  unsigned code = 0;
  if (rest.size < 4) return 0;
  for (size_t i = 0; i < 4; i++) {
    int digit = hexadecimal(rest.at[i]);
    if (digit < 0) return 0;
    code = code << 4 | (unsigned)digit;
  }
  if (code == 0 || (code >= 0xd800 && code <= 0xdfff)) return 0;
  if (code < 0x80) {
    out[0] = (char)code;
    return 1;
  }
  size_t size = code < 0x800 ? 2 : 3;
  if (size == 2) out[0] = (char)(0xc0 | code >> 6);
  if (size == 3) out[0] = (char)(0xe0 | code >> 12);
  if (size == 3) out[1] = (char)(0x80 | (code >> 6 & 0x3f));
  out[size - 1] = (char)(0x80 | (code & 0x3f));
  return size;
}

bool control_json_unescape(struct span value, char *out, size_t size)
{
  static const char escapes[] = "\"\\/bfnrt";
  static const char meanings[] = "\"\\/\b\f\n\r\t";
  size_t n = 0;
  for (size_t i = 0; i < value.size; i++) {
    char bytes[3] = {(char)value.at[i]};
    size_t count = 1;
    if (value.at[i] == '\\') {
      if (++i == value.size) return false;
      const char *escape = value.at[i] ? strchr(escapes, value.at[i]) : NULL;
      if (escape) {
        bytes[0] = meanings[escape - escapes];
      } else {
        count = value.at[i] == 'u' ? unescape_code(span_from(value, i + 1), bytes) : 0;
        i += 4;
      }
    }
    if (count == 0 || bytes[0] == '\0' || n + count >= size) return false;
    memcpy(out + n, bytes, count);
    n += count;
  }
  if (n >= size) return false;
  out[n] = '\0';
  return true;
}
