#include "broker/control_answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void answer_say(struct answer *answer, const char *format, ...)
{
  char *line = NULL;
  va_list arguments;
  va_start(arguments, format);
  int size = vasprintf(&line, format, arguments);
  va_end(arguments);
  if (size < 0 || buffer_append(&answer->text, line, (size_t)size) != OK) answer->failed = true;
  if (size >= 0) free(line);
}
