// skerry-sim-journal: runs seeds through the simulated world of a broker that crashes.
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

static const char USAGE[] =
    "usage: skerry-sim-journal [--seed N | --seeds A..B] [--file FILE] [--steps M] [--trace] [--counts]\n"
    "Runs a broker with a journal on a simulated disk that crashes; the seed decides everything.\n"
    "  --seed N      one seed\n"
    "  --seeds A..B  many, B included\n"
    "  --file FILE   lines of \"seed steps\", first; '#' starts a comment\n"
    "  --steps M     how long faults last (default 1200)\n"
    "  --trace       print every event\n"
    "  --counts      print how often what happened\n"
    "  --keep-going  go on after a failure\n";

struct options {
  uint64_t first, last, steps;
  const char *file;
  bool has_range;  // seeds, or nothing at all, were named
  bool trace, counts, keep_going;
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

static bool *find_flag(struct options *options, const char *name)
{
  if (strcmp(name, "--trace") == 0) return &options->trace;
  if (strcmp(name, "--counts") == 0) return &options->counts;
  if (strcmp(name, "--keep-going") == 0) return &options->keep_going;
  return NULL;
}

static bool read_value(struct options *options, const char *name, const char *value)
{
  bool range = strcmp(name, "--seeds") == 0;
  if (range || strcmp(name, "--seed") == 0) {
    options->has_range = true;
    if (range) return read_range(value, options);
    bool good = read_one(value, &options->first);
    options->last = options->first;
    return good;
  }
  if (strcmp(name, "--steps") == 0) return read_one(value, &options->steps);
  if (strcmp(name, "--file") != 0) return false;
  options->file = value;
  return *value != '\0';
}

static bool read_options(int count, char **arguments, struct options *out)
{
  *out = (struct options){.first = 1, .last = 1, .steps = 1200};
  for (int i = 1; i < count; i++) {
    bool *flag = find_flag(out, arguments[i]);
    if (flag) {
      *flag = true;
      continue;
    }
    if (!read_value(out, arguments[i], i + 1 < count ? arguments[i + 1] : "")) return false;
    i++;
  }
  if (!out->file) out->has_range = true;
  return true;
}

struct totals {
  uint64_t seeds, failed, events;
  struct statistics statistics;
};

static void add_statistics(struct statistics *into, const struct statistics *from)
{
  static_assert(sizeof *into % sizeof(uint64_t) == 0, "numbers only");
  uint64_t *to = (uint64_t *)into;
  const uint64_t *at = (const uint64_t *)from;
  for (size_t i = 0; i < sizeof *into / sizeof *to; i++) to[i] += at[i];
}

// False: it failed, and no more are to be run.
static bool run_seed(const struct options *options, uint64_t seed, uint64_t steps, struct totals *totals)
{
  struct world *world = malloc(sizeof *world);
  if (!world) abort();
  bool ok = world_run(world, seed, steps, options->trace);
  if (!ok) {
    fflush(stdout);
    fprintf(stderr,
            "\nseed %" PRIu64 " failed at %" PRIu64 " ms, tick %" PRIu64 ": %s\nreplay: skerry-sim-journal --seed %" PRIu64
            " --steps %" PRIu64 " --trace\n",
            seed, world->trial.now_ms, world->trial.tick, world->trial.failure, seed, steps);
  }
  totals->seeds++;
  totals->failed += !ok;
  totals->events += world->events;
  add_statistics(&totals->statistics, &world->statistics);
  world_free(world);
  free(world);
  return ok || options->keep_going;
}

static bool run_file(const struct options *options, struct totals *totals)
{
  char line[256];
  bool go_on = true;
  FILE *file = fopen(options->file, "re");
  if (!file) {
    fprintf(stderr, "skerry-sim-journal: %s: %s\n", options->file, strerror(errno));
    totals->failed++;
    return false;
  }
  while (go_on && fgets(line, sizeof line, file)) {
    uint64_t seed, steps;
    if (sscanf(line, "%" SCNu64 " %" SCNu64, &seed, &steps) == 2) go_on = run_seed(options, seed, steps, totals);
  }
  fclose(file);
  return go_on;
}

static void run_range(const struct options *options, struct totals *totals)
{
  bool progress = options->last > options->first && isatty(STDERR_FILENO);
  for (uint64_t seed = options->first; run_seed(options, seed, options->steps, totals) && seed < options->last; seed++)
    if (progress) fprintf(stderr, "\rseed %" PRIu64 " of %" PRIu64, seed, options->last);
  if (progress) fputc('\n', stderr);
}

static void print_counts(const struct statistics *s)
{
  const struct {
    const char *name;
    uint64_t count;
  } lines[] = {
      {"killed", s->kills},
      {"power cuts", s->power_cuts},
      {"  armed in the middle of writing", s->mid_write},
      {"  armed in the middle of a turn", s->mid_turn},
      {"  while recovering", s->in_recovery},
      {"clean stops", s->stops},
      {"starts with another number of shards", s->resharded},
      {"catalogs equal after replay", s->digests},
      {"catalogs equal to the shards", s->compared},
      {"torn tails", s->torn},
      {"disk failing or full", s->disk_faults},
      {"  rounds while not ok", s->full},
      {"  rounds that failed", s->errors},
      {"bytes rotten", s->rot},
      {"  copies dropped as damaged", s->damaged},
      {"batches", s->batches},
      {"rounds", s->rounds},
      {"checkpoints", s->checkpoints},
      {"segments removed", s->removed},
      {"segments copied forward", s->copied},
      {"lives that ended with blocks of references", s->blocks},
      {"loads", s->loads},
      {"entries loaded", s->loaded},
      {"messages acknowledged", s->acked},
      {"copies read", s->delivered},
      {"  by shared subscriptions", s->shared},
      {"  sent again", s->redelivered},
      {"copies owed and there", s->owed},
      {"copies dropped", s->dropped},
      {"messages refused", s->refused},
      {"sessions resumed", s->resumed},
      {"sessions expired", s->expired_sessions},
      {"wills sent", s->wills},
      {"intruders", s->intruders},
      {"retained values found", s->retained},
  };
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) printf("%-44s %12" PRIu64 "\n", lines[i].name, lines[i].count);
}

int main(int count, char **arguments)
{
  struct options options;
  struct totals totals = {0};
  if (!read_options(count, arguments, &options)) {
    fputs(USAGE, stderr);
    return 2;
  }
  if ((!options.file || run_file(&options, &totals)) && options.has_range) run_range(&options, &totals);
  if (options.counts) print_counts(&totals.statistics);
  printf("simulation of crashes: %" PRIu64 " events, %" PRIu64 " messages delivered in %" PRIu64 " worlds: %" PRIu64
         " passed, %" PRIu64 " failed\n",
         totals.events, totals.statistics.delivered, totals.seeds, totals.seeds - totals.failed, totals.failed);
  return totals.failed ? 1 : 0;
}
