#include "wire/http_head.h"

#include <assert.h>
#include <string.h>

static const char line_end[2] = {'\r', '\n'};

static uint8_t lower(uint8_t c)
{
  return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

static bool blank(uint8_t c)
{
  return c == ' ' || c == '\t';
}

static struct span trim(struct span text)
{
  while (text.size && blank(text.at[0])) text = span_from(text, 1);
  while (text.size && blank(text.at[text.size - 1])) text.size--;
  return text;
}

// RFC 9110, section 5.6.2.
static bool token_character(uint8_t c)
{
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
  return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

// Visible characters, blanks and bytes beyond ASCII: no control characters, so that neither a lone CR nor a NUL hides
// anything.
static bool value_character(uint8_t c)
{
  return c == '\t' || (c >= ' ' && c != 0x7f);
}

size_t http_head_size(struct span in)
{
  static const char end[4] = {'\r', '\n', '\r', '\n'};
  const uint8_t *found = in.size ? memmem(in.at, in.size, end, sizeof end) : NULL;
  return found ? (size_t)(found - in.at) + sizeof end : 0;
}

// The line that starts at `*cursor`, which then is behind its CRLF.
static struct span next_line(struct span head, size_t *cursor)
{
  struct span rest = span_from(head, *cursor);
  const uint8_t *end = memmem(rest.at, rest.size, line_end, sizeof line_end);
  assert(end);
  struct span line = span_of(rest.at, (size_t)(end - rest.at));
  *cursor += line.size + sizeof line_end;
  return line;
}

struct span http_first_line(struct span head)
{
  size_t cursor = 0;
  return next_line(head, &cursor);
}

enum http_next http_next_field(struct span head, size_t *cursor, struct http_field *out_field)
{
  if (*cursor == 0) next_line(head, cursor);
  struct span line = next_line(head, cursor);
  if (line.size == 0) return HTTP_END;
  const uint8_t *colon = memchr(line.at, ':', line.size);
  if (!colon || colon == line.at) return HTTP_BAD;
  struct span name = span_of(line.at, (size_t)(colon - line.at));
  for (size_t i = 0; i < name.size; i++)
    if (!token_character(name.at[i])) return HTTP_BAD;
  struct span value = span_from(line, name.size + 1);
  for (size_t i = 0; i < value.size; i++)
    if (!value_character(value.at[i])) return HTTP_BAD;
  *out_field = (struct http_field){.name = name, .value = trim(value)};
  return HTTP_FIELD;
}

bool http_equal_ignoring_case(struct span a, const char *b)
{
  if (a.size != strlen(b)) return false;
  for (size_t i = 0; i < a.size; i++)
    if (lower(a.at[i]) != lower((uint8_t)b[i])) return false;
  return true;
}

bool http_name_is(const struct http_field *field, const char *name)
{
  return http_equal_ignoring_case(field->name, name);
}

bool http_take_word(struct span *text, char separator, struct span *out_word)
{
  if (text->size == 0) return false;
  const uint8_t *end = memchr(text->at, separator, text->size);
  size_t size = end ? (size_t)(end - text->at) : text->size;
  *out_word = trim(span_of(text->at, size));
  *text = span_from(*text, end ? size + 1 : size);
  return true;
}

bool http_list_has(struct span list, const char *element)
{
  struct span word;
  while (http_take_word(&list, ',', &word))
    if (http_equal_ignoring_case(word, element)) return true;
  return false;
}
