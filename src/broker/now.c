#include "broker/now.h"

#include <time.h>

struct mono broker_now(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (struct mono){(uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000};
}

struct wall broker_wall(void)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (struct wall){(int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000};
}
