#include "net/auth_queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

// The passwords from one place.
struct lane {
  struct backoff_source source;
  struct link link;  // of `lanes`
  struct link jobs;
  uint32_t count;
};

// ---- Jobs

void auth_job_free(struct auth_job *job)
{
  identity_unref(job->shown);
  gate_unref(job->gate);
  free(job);
}

struct auth_job *auth_job_create(uint8_t loop, struct authentication *asked, const struct auth_origin *origin,
                                 const struct auth_choice *choice, struct mono now)
{
  struct auth_job *job = calloc(1, sizeof *job);
  if (!job) return NULL;
  list_init(&job->link);
  if (origin->fact_count > 0) {
    job->shown = identity_create(&(struct identity){.facts = origin->facts, .fact_count = origin->fact_count});
    if (!job->shown) {
      free(job);
      return NULL;
    }
  }
  job->asked = asked;
  job->gate = gate_ref(origin->gate);
  job->source = backoff_source_of(origin->address);
  job->choice = *choice;
  job->asked_ms = now.ms;
  job->loop = loop;
  return job;
}

// ---- The queue

void auth_queue_init(struct auth_queue *queue, uint32_t most, uint64_t seed)
{
  *queue = (struct auth_queue){.most = most, .seed = seed};
  list_init(&queue->quick);
  list_init(&queue->lanes);
  map_init(&queue->lane_map);
}

void auth_queue_deinit(struct auth_queue *queue)
{
  assert(queue->quick_count == 0);
  assert(queue->password_count == 0);
  map_deinit(&queue->lane_map);
}

static bool is_lane_of(const void *item, const void *key)
{
  const struct lane *lane = item;
  return memcmp(&lane->source, key, sizeof lane->source) == 0;
}

static uint64_t hash_source(const struct auth_queue *queue, const struct backoff_source *source)
{
  return hash_bytes(queue->seed, source, sizeof *source);
}

static struct lane *take_lane(struct auth_queue *queue, const struct backoff_source *source)
{
  uint64_t hash = hash_source(queue, source);
  struct lane *lane = map_find(&queue->lane_map, hash, is_lane_of, source);
  if (lane) return lane;
  lane = calloc(1, sizeof *lane);
  if (!lane) return NULL;
  lane->source = *source;
  list_init(&lane->jobs);
  if (map_insert(&queue->lane_map, hash, lane) != OK) {
    free(lane);
    return NULL;
  }
  list_append(&queue->lanes, &lane->link);
  return lane;
}

// False: there is no room. From one address at most half of it is taken.
static bool add_password(struct auth_queue *queue, struct auth_job *job)
{
  if (queue->password_count >= queue->most) return false;
  struct lane *lane = take_lane(queue, &job->source);
  if (!lane || lane->count >= (queue->most + 1) / 2) return false;
  list_append(&lane->jobs, &job->link);
  lane->count++;
  queue->password_count++;
  return true;
}

static bool add_quick(struct auth_queue *queue, struct auth_job *job)
{
  if (queue->quick_count >= queue->most) return false;
  list_append(&queue->quick, &job->link);
  queue->quick_count++;
  return true;
}

bool auth_queue_add(struct auth_queue *queue, struct auth_job *job)
{
  return job->choice.method == AUTH_PASSWORD ? add_password(queue, job) : add_quick(queue, job);
}

struct auth_job *auth_queue_next_quick(struct auth_queue *queue)
{
  struct link *link = list_take_first(&queue->quick);
  if (!link) return NULL;
  queue->quick_count--;
  return CONTAINER_OF(link, struct auth_job, link);
}

// One of the first lane, which goes to the end.
struct auth_job *auth_queue_next_password(struct auth_queue *queue)
{
  struct link *link = list_take_first(&queue->lanes);
  if (!link) return NULL;
  struct lane *lane = CONTAINER_OF(link, struct lane, link);
  struct link *first = list_take_first(&lane->jobs);
  assert(first);
  queue->password_count--;
  if (--lane->count > 0) {
    list_append(&queue->lanes, &lane->link);
  } else {
    bool removed = map_remove(&queue->lane_map, hash_source(queue, &lane->source), lane);
    assert(removed);
    free(lane);
  }
  return CONTAINER_OF(first, struct auth_job, link);
}
