// skerry-sim-journal: runs seeds through the simulated world of a broker that crashes.
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "seeds.h"
#include "world.h"

static const char USAGE[] =
    "usage: skerry-sim-journal [OPTION]...\n"
    "Runs a broker with a journal on a simulated disk that crashes; the seed decides everything. Faults last\n"
    "1200 steps.\n"
    "  --counts      print how often what happened\n";

struct totals {
  uint64_t events;
  struct statistics statistics;
};

static void add_statistics(struct statistics *into, const struct statistics *from)
{
  static_assert(sizeof *into % sizeof(uint64_t) == 0, "numbers only");
  uint64_t *to = (uint64_t *)into;
  const uint64_t *at = (const uint64_t *)from;
  for (size_t i = 0; i < sizeof *into / sizeof *to; i++) to[i] += at[i];
}

static void count_world(void *context, const struct world *world)
{
  struct totals *totals = context;
  totals->events += world->events;
  add_statistics(&totals->statistics, &world->statistics);
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
  struct seeds seeds = seeds_default(arguments[0], 1200);
  struct totals totals = {0};
  bool counts = false;
  for (int i = 1, taken; i < count; i += taken) {
    bool own = strcmp(arguments[i], "--counts") == 0;
    counts |= own;
    if ((taken = own ? 1 : seeds_read(&seeds, arguments + i)) > 0) continue;
    fprintf(stderr, "%s%s", USAGE, SEEDS_OPTIONS);
    return 2;
  }
  bool passed = seeds_run(&seeds, count_world, &totals);
  if (counts) print_counts(&totals.statistics);
  printf("simulation of crashes: %" PRIu64 " events, %" PRIu64 " messages delivered in %" PRIu64 " worlds: %" PRIu64
         " passed, %" PRIu64 " failed\n",
         totals.events, totals.statistics.delivered, seeds.passed + seeds.failed, seeds.passed, seeds.failed);
  return passed ? 0 : 1;
}
