// skerry-sim: runs seeds through the simulated world.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

static const char USAGE[] = "usage: skerry-sim [--seed N | --seeds A..B] [--file FILE] [--steps M] [--trace]\n"
                            "Runs the broker's shards in a simulated world; the seed decides everything.\n"
                            "  --seed N      one seed\n"
                            "  --seeds A..B  many, B included\n"
                            "  --file FILE   lines of \"seed steps\", first; '#' starts a comment\n"
                            "  --steps M     how long faults last (default 1500)\n"
                            "  --trace       print every event\n";

struct options {
  uint64_t first, last, steps;
  const char *file;
  bool has_range;  // seeds, or nothing at all, were named
  bool trace;
};

static bool read_number(const char *text, char **end, uint64_t *out)
{
  errno = 0;
  *out = strtoull(text, end, 10);
  return *end != text && errno == 0 && *text != '-';
}

static bool read_range(const char *text, struct options *options)
{
  char *end;
  if (!read_number(text, &end, &options->first) || strncmp(end, "..", 2) != 0) return false;
  return read_number(end + 2, &end, &options->last) && *end == '\0' && options->first <= options->last;
}

static bool read_one(const char *text, uint64_t *out)
{
  char *end;
  return read_number(text, &end, out) && *end == '\0';
}

static bool read_options(int count, char **arguments, struct options *out)
{
  *out = (struct options){.first = 1, .last = 1, .steps = 1500};
  for (int i = 1; i < count; i++) {
    const char *value = i + 1 < count ? arguments[i + 1] : "";
    if (strcmp(arguments[i], "--trace") == 0) {
      out->trace = true;
      continue;
    }
    bool ok = false;
    if (strcmp(arguments[i], "--seed") == 0) {
      ok = read_one(value, &out->first);
      out->last = out->first;
      out->has_range = true;
    } else if (strcmp(arguments[i], "--seeds") == 0) {
      ok = read_range(value, out);
      out->has_range = true;
    } else if (strcmp(arguments[i], "--steps") == 0) {
      ok = read_one(value, &out->steps);
    } else if (strcmp(arguments[i], "--file") == 0) {
      out->file = value;
      ok = *value != '\0';
    }
    if (!ok) return false;
    i++;
  }
  if (!out->file) out->has_range = true;
  return true;
}

struct totals {
  uint64_t seeds;
  unsigned long long events, delivered;
};

static bool run_seed(uint64_t seed, uint64_t steps, bool trace, struct totals *totals)
{
  struct world *world = malloc(sizeof *world);
  if (!world) abort();
  bool ok = world_run(world, seed, steps, trace);
  if (!ok) {
    fflush(stdout);
    fprintf(stderr,
            "\nseed %" PRIu64 " failed at %" PRIu64 " ms, tick %" PRIu64 ": %s\nreplay: make sim SEED=%" PRIu64
            " STEPS=%" PRIu64 "\n",
            seed, world->trial.now_ms, world->trial.tick, world->trial.failure, seed, steps);
  }
  totals->seeds++;
  totals->events += world->trial.tick;
  totals->delivered += world->delivered;
  world_free(world);
  free(world);
  return ok;
}

static bool run_file(const struct options *options, struct totals *totals)
{
  char line[256];
  bool ok = true;
  FILE *file = fopen(options->file, "re");
  if (!file) {
    fprintf(stderr, "skerry-sim: %s: %s\n", options->file, strerror(errno));
    return false;
  }
  while (ok && fgets(line, sizeof line, file)) {
    uint64_t seed, steps;
    if (sscanf(line, "%" SCNu64 " %" SCNu64, &seed, &steps) == 2) ok = run_seed(seed, steps, options->trace, totals);
  }
  fclose(file);
  return ok;
}

static bool run_range(const struct options *options, struct totals *totals)
{
  bool progress = options->last > options->first && isatty(STDERR_FILENO);
  for (uint64_t seed = options->first;; seed++) {
    if (!run_seed(seed, options->steps, options->trace, totals)) return false;
    if (progress) fprintf(stderr, "\rseed %" PRIu64 " of %" PRIu64, seed, options->last);
    if (seed == options->last) break;
  }
  if (progress) fputc('\n', stderr);
  return true;
}

int main(int count, char **arguments)
{
  struct options options;
  struct totals totals = {0};
  if (!read_options(count, arguments, &options)) {
    fputs(USAGE, stderr);
    return 2;
  }
  bool ok = (!options.file || run_file(&options, &totals)) && (!options.has_range || run_range(&options, &totals));
  printf("simulation: %llu events, %llu messages delivered in %" PRIu64 " worlds: %" PRIu64 " passed, %d failed\n",
         totals.events, totals.delivered, totals.seeds, totals.seeds - !ok, !ok);
  return ok ? 0 : 1;
}
