#include "trial.h"

#include <stdarg.h>
#include <stdio.h>

enum { START_MS = 1000000 };

struct trial trial_begin(uint64_t seed, bool trace)
{
  struct trial trial = {.seed = seed, .trace = trace, .now_ms = START_MS};
  prng_seed(&trial.prng, seed);
  return trial;
}

void world_fail(struct world *world, const char *format, ...)
{
  struct trial *trial = trial_of(world);
  if (trial->failed) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(trial->failure, sizeof trial->failure, format, arguments);
  va_end(arguments);
  trial->failed = true;
  TRACE(world, "FAILED: %s", trial->failure);
}

void world_trace(struct world *world, const char *format, ...)
{
  const struct trial *trial = trial_of(world);
  va_list arguments;
  va_start(arguments, format);
  printf("%8llu.%03llu #%llu ", (unsigned long long)(trial->now_ms - START_MS) / 1000,
         (unsigned long long)trial->now_ms % 1000, (unsigned long long)trial->tick);
  vprintf(format, arguments);
  putchar('\n');
  va_end(arguments);
}

void world_log(void *world, enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
  char line[1024];
  if (!trial_of(world)->trace) return;
  size_t size = log_format_line(LOG_TEXT, (struct wall){0}, level, event, fields, count, line, sizeof line);
  world_trace(world, "  log %.*s", size > 0 ? (int)size - 1 : 0, line);
}
