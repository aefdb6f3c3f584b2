// Texts are put together in a buffer of their own first, so that an error's text may be an argument of its own message.
#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

// For a text that did not fit: ends it with "...", without splitting a UTF-8 sequence.
static void mark_cut(char *text, size_t size)
{
  size_t at = size - sizeof "...";
  while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80) at--;
  memcpy(text + at, "...", sizeof "...");
}

static void format_text(char *text, size_t size, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

static void format_text(char *text, size_t size, const char *format, va_list arguments)
{
  int length = vsnprintf(text, size, format, arguments);
  if (length < 0)
    text[0] = '\0';
  else if ((size_t)length >= size)
    mark_cut(text, size);
}

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
  assert(status < OK);
  if (!error) return status;

  char text[sizeof error->text];
  va_list arguments;
  va_start(arguments, format);
  format_text(text, sizeof text, format, arguments);
  va_end(arguments);

  error->status = status;
  memcpy(error->text, text, strlen(text) + 1);
  return status;
}

enum status error_prefix(struct error *error, const char *format, ...)
{
  if (!error) return ERR_INVALID;

  char text[sizeof error->text];
  va_list arguments;
  va_start(arguments, format);
  format_text(text, sizeof text, format, arguments);
  va_end(arguments);

  size_t length = strlen(text);
  int added = snprintf(text + length, sizeof text - length, ": %s", error->text);
  if (added < 0 || (size_t)added >= sizeof text - length) mark_cut(text, sizeof text);
  memcpy(error->text, text, strlen(text) + 1);
  return error->status;
}
