// skerry-sim: runs seeds through the simulated world.
#include <inttypes.h>
#include <stdio.h>

#include "seeds.h"
#include "world.h"

static const char USAGE[] =
    "usage: skerry-sim [OPTION]...\n"
    "Runs the broker's shards in a simulated world; the seed decides everything. Faults last 1500 steps.\n";

struct totals {
  uint64_t events, delivered;
};

static void count_world(void *context, const struct world *world)
{
  struct totals *totals = context;
  totals->events += world->trial.tick;
  totals->delivered += world->delivered;
}

int main(int count, char **arguments)
{
  struct seeds seeds = seeds_default(arguments[0], 1500);
  struct totals totals = {0};
  for (int i = 1, taken; i < count; i += taken) {
    if ((taken = seeds_read(&seeds, arguments + i)) > 0) continue;
    fprintf(stderr, "%s%s", USAGE, SEEDS_OPTIONS);
    return 2;
  }
  bool passed = seeds_run(&seeds, count_world, &totals);
  printf("simulation: %" PRIu64 " events, %" PRIu64 " messages delivered in %" PRIu64 " worlds: %" PRIu64 " passed, %" PRIu64
         " failed\n",
         totals.events, totals.delivered, seeds.passed + seeds.failed, seeds.passed, seeds.failed);
  return passed ? 0 : 1;
}
