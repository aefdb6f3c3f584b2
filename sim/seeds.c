#include "seeds.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char SEEDS_OPTIONS[] = "  --seed N      one seed\n"
                             "  --seeds A..B  many, B included\n"
                             "  --file FILE   lines of \"seed steps\", first; '#' starts a comment\n"
                             "  --steps M     how long faults last\n"
                             "  --trace       print every event\n"
                             "  --keep-going  go on after a failure\n";

struct seeds seeds_default(const char *program, uint64_t steps)
{
  return (struct seeds){.program = program, .first = 1, .last = 1, .steps = steps};
}

// ---- The command line

static bool read_number(const char *text, char **end, uint64_t *out)
{
  errno = 0;
  *out = strtoull(text, end, 10);
  return *end != text && errno == 0 && *text != '-';
}

static bool read_range(const char *text, struct seeds *seeds)
{
  char *end;
  if (!read_number(text, &end, &seeds->first) || strncmp(end, "..", 2) != 0) return false;
  return read_number(end + 2, &end, &seeds->last) && *end == '\0' && seeds->first <= seeds->last;
}

static bool read_one(const char *text, uint64_t *out)
{
  char *end;
  return read_number(text, &end, out) && *end == '\0';
}

static bool read_value(struct seeds *seeds, const char *name, const char *value)
{
  bool range = strcmp(name, "--seeds") == 0;
  if (range || strcmp(name, "--seed") == 0) {
    seeds->has_range = true;
    if (range) return read_range(value, seeds);
    bool good = read_one(value, &seeds->first);
    seeds->last = seeds->first;
    return good;
  }
  if (strcmp(name, "--steps") == 0) return read_one(value, &seeds->steps);
  if (strcmp(name, "--file") != 0) return false;
  seeds->file = value;
  return *value != '\0';
}

int seeds_read(struct seeds *seeds, char *const *arguments)
{
  bool trace = strcmp(arguments[0], "--trace") == 0;
  if (trace || strcmp(arguments[0], "--keep-going") == 0) {
    *(trace ? &seeds->trace : &seeds->keep_going) = true;
    return 1;
  }
  return arguments[1] && read_value(seeds, arguments[0], arguments[1]) ? 2 : 0;
}

// ---- Running them

// False: it failed, and no more are to be run.
static bool run_seed(struct seeds *seeds, uint64_t seed, uint64_t steps, seeds_count *count, void *totals)
{
  struct world *world = world_run(seed, steps, seeds->trace);
  const struct trial *trial = trial_of(world);
  bool failed = trial->failed;
  if (failed) {
    fflush(stdout);
    fprintf(stderr,
            "\nseed %" PRIu64 " failed at %" PRIu64 " ms, tick %" PRIu64 ": %s\nreplay: %s --seed %" PRIu64
            " --steps %" PRIu64 " --trace\n",
            seed, trial->now_ms, trial->tick, trial->failure, seeds->program, seed, steps);
  }
  *(failed ? &seeds->failed : &seeds->passed) += 1;
  count(totals, world);
  world_free(world);
  return !failed || seeds->keep_going;
}

static bool run_file(struct seeds *seeds, seeds_count *count, void *totals)
{
  char line[256];
  bool go_on = true;
  FILE *file = fopen(seeds->file, "re");
  if (!file) {
    fprintf(stderr, "%s: %s: %s\n", seeds->program, seeds->file, strerror(errno));
    seeds->failed++;
    return false;
  }
  while (go_on && fgets(line, sizeof line, file)) {
    uint64_t seed, steps;
    if (sscanf(line, "%" SCNu64 " %" SCNu64, &seed, &steps) == 2) go_on = run_seed(seeds, seed, steps, count, totals);
  }
  fclose(file);
  return go_on;
}

static void run_range(struct seeds *seeds, seeds_count *count, void *totals)
{
  bool progress = seeds->last > seeds->first && isatty(STDERR_FILENO);
  for (uint64_t seed = seeds->first; run_seed(seeds, seed, seeds->steps, count, totals) && seed < seeds->last; seed++)
    if (progress) fprintf(stderr, "\rseed %" PRIu64 " of %" PRIu64, seed, seeds->last);
  if (progress) fputc('\n', stderr);
}

bool seeds_run(struct seeds *seeds, seeds_count *count, void *totals)
{
  bool go_on = !seeds->file || run_file(seeds, count, totals);
  if (go_on && (seeds->has_range || !seeds->file)) run_range(seeds, count, totals);
  return seeds->failed == 0;
}
