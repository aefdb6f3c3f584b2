#include "broker/log_output.h"

#include <string.h>
#include <unistd.h>

#include "broker/now.h"

enum { LINE_SIZE = 4096, FIELDS = 24 };

void log_output_write(void *context, enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
  const struct log_origin *origin = context;
  struct log_field all[FIELDS];
  if (count > FIELDS - 1) count = FIELDS - 1;
  memcpy(all, fields, count * sizeof *fields);
  if (origin->shard >= 0) all[count++] = FIELD_INT("shard", origin->shard);
  char line[LINE_SIZE];
  enum log_format format = (enum log_format)atomic_load_explicit(&origin->output->format, memory_order_relaxed);
  size_t size = log_format_line(format, broker_wall(), level, event, all, count, line, sizeof line);
  (void)!write(origin->output->fd, line, size);
}
