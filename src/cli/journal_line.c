// Lines of `skerry journal`. See journal_line.h.
#include "cli/journal_line.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { NAME_MAX_SIZE = 64 };

static void put(struct journal_line *line, const void *bytes, size_t size)
{
  if (!line->failed && buffer_append(line->out, bytes, size) != OK) line->failed = true;
}

static void put_text(struct journal_line *line, const char *text)
{
  put(line, text, strlen(text));
}

static void put_space(struct journal_line *line)
{
  if (line->space) put(line, " ", 1);
  line->space = true;
}

static void put_name(struct journal_line *line, const char *name)
{
  put_space(line);
  put_text(line, name);
  put(line, "=", 1);
}

void line_begin(struct journal_line *line, struct buffer *out, enum line_form form)
{
  *line = (struct journal_line){.out = out, .form = form};
  json_begin(&line->json, out);
  if (form == LINE_JSON) json_open_object(&line->json);
}

enum status line_end(struct journal_line *line)
{
  if (line->form == LINE_JSON) json_close_object(&line->json);
  put(line, "\n", 1);
  return line->failed || line->json.failed ? ERR_NO_MEMORY : OK;
}

void line_value(struct journal_line *line, uint64_t value)
{
  if (line->form == LINE_JSON) {
    json_uint(&line->json, value);
    return;
  }
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, value);
  put_space(line);
  put_text(line, text);
}

void line_word(struct journal_line *line, const char *name, const char *value)
{
  if (line->form == LINE_JSON) {
    line_text(line, name, span_text(value));
    return;
  }
  put_space(line);
  put_text(line, value);
}

void line_number(struct journal_line *line, const char *name, uint64_t value)
{
  if (line->form == LINE_JSON)
    line_uint(line, name, value);
  else
    line_value(line, value);
}

void line_uint(struct journal_line *line, const char *name, uint64_t value)
{
  if (line->form == LINE_JSON) {
    json_member_uint(&line->json, name, value);
    return;
  }
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, value);
  put_name(line, name);
  put_text(line, text);
}

void line_int(struct journal_line *line, const char *name, int64_t value)
{
  if (line->form == LINE_JSON) {
    json_member_int(&line->json, name, value);
    return;
  }
  char text[24];
  snprintf(text, sizeof text, "%" PRId64, value);
  put_name(line, name);
  put_text(line, text);
}

void line_flag(struct journal_line *line, const char *name, bool value)
{
  if (line->form == LINE_JSON) {
    json_member_bool(&line->json, name, value);
    return;
  }
  if (!value) return;
  put_space(line);
  put_text(line, name);
}

void line_text(struct journal_line *line, const char *name, struct span value)
{
  if (line->form == LINE_JSON) {
    json_member_text(&line->json, name, value);
    return;
  }
  put_name(line, name);
  put(line, "\"", 1);
  if (!line->failed && journal_escape(line->out, value) != OK) line->failed = true;
  put(line, "\"", 1);
}

void line_time(struct journal_line *line, const char *name, int64_t unix_ms)
{
  char text[JOURNAL_TEXT_SIZE];
  journal_time_text(unix_ms, text);
  if (line->form == LINE_JSON) {
    line_text(line, name, span_text(text));
    return;
  }
  put_name(line, name);
  put_text(line, text);
}

static void put_base64(struct journal_line *line, const char *name, struct span value)
{
  char key[NAME_MAX_SIZE];
  snprintf(key, sizeof key, "%s_base64", name);
  if (line->form == LINE_JSON) {
    json_key(&line->json, key);
    json_base64(&line->json, value);
    return;
  }
  // The JSON writer's quoted base64 reads well in text too.
  put_name(line, key);
  struct json json;
  json_begin(&json, line->out);
  json_base64(&json, value);
  line->failed = line->failed || json.failed;
}

void line_bytes(struct journal_line *line, const char *name, struct span value, enum line_bytes form)
{
  switch (form) {
    case LINE_BYTES_NONE: return;
    case LINE_BYTES_TEXT:
      if (utf8_valid(value))
        line_text(line, name, value);
      else
        put_base64(line, name, value);
      return;
    case LINE_BYTES_BASE64: put_base64(line, name, value); return;
  }
}

static void open_group(struct journal_line *line, const char *bracket)
{
  put_text(line, bracket);
  line->space = false;
}

static void close_group(struct journal_line *line, const char *bracket)
{
  put_text(line, bracket);
  line->space = true;
}

void line_open_list(struct journal_line *line, const char *name)
{
  if (line->form == LINE_JSON) {
    json_key(&line->json, name);
    json_open_array(&line->json);
    return;
  }
  put_name(line, name);
  open_group(line, "[");
}

void line_close_list(struct journal_line *line)
{
  if (line->form == LINE_JSON)
    json_close_array(&line->json);
  else
    close_group(line, "]");
}

void line_open_item(struct journal_line *line)
{
  if (line->form == LINE_JSON) {
    json_open_object(&line->json);
    return;
  }
  put_space(line);
  open_group(line, "{");
}

void line_close_item(struct journal_line *line)
{
  if (line->form == LINE_JSON)
    json_close_object(&line->json);
  else
    close_group(line, "}");
}

void line_open_object(struct journal_line *line, const char *name)
{
  if (line->form == LINE_JSON) {
    json_key(&line->json, name);
    json_open_object(&line->json);
    return;
  }
  put_name(line, name);
  open_group(line, "{");
}

void line_close_object(struct journal_line *line)
{
  line_close_item(line);
}

// ---- For tables

const char *journal_size_text(uint64_t bytes, char out[static JOURNAL_TEXT_SIZE])
{
  static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) {
    snprintf(out, JOURNAL_TEXT_SIZE, "%u B", (unsigned)bytes);
    return out;
  }
  double value = (double)bytes / 1024;
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < sizeof units / sizeof units[0]) {
    value /= 1024;
    unit++;
  }
  snprintf(out, JOURNAL_TEXT_SIZE, "%.1f %s", value, units[unit]);
  return out;
}

const char *journal_count_text(uint64_t count, const char *what, char out[static JOURNAL_COUNT_SIZE])
{
  snprintf(out, JOURNAL_COUNT_SIZE, "%" PRIu64 " %s%s", count, what, count == 1 ? "" : "s");
  return out;
}

const char *journal_age_text(uint64_t seconds, char out[static JOURNAL_TEXT_SIZE])
{
  static const struct {
    uint64_t seconds;
    char name;
  } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
  size_t i = 0;
  while (i + 1 < sizeof units / sizeof units[0] && seconds < units[i].seconds) i++;
  int size = snprintf(out, JOURNAL_TEXT_SIZE, "%" PRIu64 "%c", seconds / units[i].seconds, units[i].name);
  if (i + 1 == sizeof units / sizeof units[0]) return out;
  uint64_t rest = seconds % units[i].seconds / units[i + 1].seconds;
  if (rest > 0 && size > 0)
    snprintf(out + size, JOURNAL_TEXT_SIZE - (size_t)size, " %" PRIu64 "%c", rest, units[i + 1].name);
  return out;
}

const char *journal_time_text(int64_t unix_ms, char out[static JOURNAL_TEXT_SIZE])
{
  int64_t rest = unix_ms % 1000;
  if (rest < 0) rest += 1000;
  time_t seconds = (time_t)((unix_ms - rest) / 1000);
  struct tm utc;
  // Years of more than four digits are of no clock: shown as the number.
  if (!gmtime_r(&seconds, &utc) || utc.tm_year < -1900 || utc.tm_year > 8099) {
    snprintf(out, JOURNAL_TEXT_SIZE, "%" PRId64, unix_ms);
    return out;
  }
  size_t size = strftime(out, JOURNAL_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf(out + size, JOURNAL_TEXT_SIZE - size, ".%03dZ", (int)rest);
  return out;
}

static int write_escape(char out[static 12], uint8_t byte, const struct utf8_character *character)
{
  if (character->size == 0) return snprintf(out, 12, "\\x%02x", byte);
  switch (character->code) {
    case '\n': return snprintf(out, 12, "\\n");
    case '\r': return snprintf(out, 12, "\\r");
    case '\t': return snprintf(out, 12, "\\t");
    case '"':
    case '\\': return snprintf(out, 12, "\\%c", (char)character->code);
    default: break;
  }
  return snprintf(out, 12, character->code < 0x80 ? "\\x%02x" : "\\u%04x", (unsigned)character->code);
}

enum status journal_escape(struct buffer *out, struct span text)
{
  size_t from = 0;
  size_t at = 0;
  while (at < text.size) {
    struct utf8_character character = utf8_next(span_from(text, at));
    if (character.size > 0 && character.code != '"' && character.code != '\\' && !utf8_is_control(character.code)) {
      at += character.size;
      continue;
    }
    if (at > from && buffer_append(out, text.at + from, at - from) != OK) return ERR_NO_MEMORY;
    char escape[12];
    int size = write_escape(escape, text.at[at], &character);
    if (buffer_append(out, escape, (size_t)size) != OK) return ERR_NO_MEMORY;
    at += character.size > 0 ? character.size : 1;
    from = at;
  }
  return at > from ? buffer_append(out, text.at + from, at - from) : OK;
}
