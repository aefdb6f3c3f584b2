// Threads and queues around net/security_answer.c. One lock guards everything that is shared; it is held for list
// operations, never while something is worked out. Expensive work runs at a lower priority than the loops, so that on a busy
// host clients that are in go first.
#include "net/authenticator.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "auth/backoff.h"
#include "auth/enhanced.h"
#include "base/hash.h"
#include "base/wipe.h"
#include "core/shard.h"
#include "mqtt/packet.h"
#include "net/auth_queue.h"
#include "net/security_answer.h"

enum { STACK_SIZE = 512 * 1024, NICENESS = 5 };

// Threads for one kind of work. They start with the first of it: where only certificates are shown there are none.
struct workers {
  void *(*main)(void *authenticator);
  pthread_cond_t there_is_work;
  pthread_t threads[AUTHENTICATOR_THREADS_MAX];
  uint8_t wanted, running;
};

struct answers {
  struct authentication *first, *last;
  _Atomic uint32_t count;
};

struct authenticator {
  void (*news)(void *context, uint8_t loop);
  void *context;
  void (*clock)(struct mono *out_mono, struct wall *out_wall);
  _Atomic uint32_t patience_ms;

  pthread_mutex_t lock;
  struct workers quick_workers, hash_workers;
  bool stop;
  struct auth_queue queue;
  struct backoff *backoff;
  struct authenticator_counters counters;
  struct answers answers[SHARDS_MAX];
};

const char *auth_refusal_name(enum auth_refusal refusal)
{
  static const char *const names[AUTH_REFUSALS] = {
      [AUTH_REFUSED_CREDENTIALS] = "credentials", [AUTH_REFUSED_NOT_AUTHORIZED] = "not_authorized",
      [AUTH_REFUSED_METHOD] = "method",           [AUTH_REFUSED_BUSY] = "busy",
      [AUTH_REFUSED_BACKOFF] = "backoff",         [AUTH_REFUSED_OTHER] = "other"};
  assert(refusal < AUTH_REFUSALS);
  return names[refusal];
}

static void system_clock(struct mono *out_mono, struct wall *out_wall)
{
  struct timespec mono, wall;
  clock_gettime(CLOCK_MONOTONIC, &mono);
  clock_gettime(CLOCK_REALTIME, &wall);
  *out_mono = (struct mono){(uint64_t)mono.tv_sec * 1000 + (uint64_t)mono.tv_nsec / 1000000};
  *out_wall = (struct wall){(int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000};
}

static uint64_t stopwatch_us(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

// ---- Answers

static enum auth_refusal refusal_of(enum mqtt_reason reason)
{
  switch ((unsigned)reason) {
    case MQTT_BAD_USER_NAME_OR_PASSWORD: return AUTH_REFUSED_CREDENTIALS;
    case MQTT_NOT_AUTHORIZED: return AUTH_REFUSED_NOT_AUTHORIZED;
    case MQTT_BAD_AUTHENTICATION_METHOD: return AUTH_REFUSED_METHOD;
    case MQTT_SERVER_BUSY: return AUTH_REFUSED_BUSY;
    case MQTT_SERVER_UNAVAILABLE:
    case MQTT_CONNECTION_RATE_EXCEEDED: return AUTH_REFUSED_BACKOFF;
    default: return AUTH_REFUSED_OTHER;
  }
}

// The lock is held.
static void count_answer(struct authenticator *authenticator, const struct auth_choice *choice,
                         const struct authentication *asked)
{
  struct authenticator_counters *counters = &authenticator->counters;
  if (asked->reason == MQTT_CONTINUE_AUTHENTICATION) return;
  if (asked->reason != MQTT_SUCCESS)
    counters->refused[refusal_of(asked->reason)]++;
  else if (choice->kind == CHOICE_ANONYMOUS)
    counters->accepted_anonymous++;
  else
    counters->accepted[choice->method]++;
}

// What the shard finds besides what was decided: no exchange that is over, no data with a refusal, and when it has to go.
static void finish_answer(struct authentication *asked, struct mono mono, struct wall wall)
{
  if (asked->reason != MQTT_CONTINUE_AUTHENTICATION && asked->enhanced) {
    enhanced_free(asked->enhanced);
    asked->enhanced = NULL;
  }
  if (asked->reason != MQTT_CONTINUE_AUTHENTICATION && asked->reason != MQTT_SUCCESS && asked->answer) {
    wipe_and_free(asked->answer, asked->answer_size);
    asked->answer = NULL;
    asked->answer_size = 0;
  }
  if (!asked->identity || asked->identity->expires_ms == 0) return;
  int64_t left_ms = asked->identity->expires_ms - wall.ms;
  asked->expires = (struct mono){mono.ms + (left_ms > 0 ? (uint64_t)left_ms : 1)};
}

// What stands for a client identifier where user names are counted.
enum { CLIENT_KEY = 1 + sizeof(uint64_t) };

// By what name guesses are counted. A token has none before it is verified: then the client's. That is for anybody to choose,
// so it is kept apart from user names: or whoever has a token could forgive guesses at the user whose name it takes.
static struct span guessed_user(enum auth_method method, const struct authentication *asked, uint8_t key[CLIENT_KEY])
{
  if (method == AUTH_SCRAM) return asked->enhanced ? enhanced_user(asked->enhanced) : (struct span){0};
  if (method != AUTH_JWT || asked->user.size > 0 || asked->client_id.size == 0) return asked->user;
  uint64_t hash = hash_span(0, asked->client_id);
  key[0] = '\0';  // no user name has one
  memcpy(key + 1, &hash, sizeof hash);
  return span_of(key, CLIENT_KEY);
}

static bool has_to_wait(struct authenticator *authenticator, const struct backoff_source *source, enum auth_method method,
                        struct authentication *asked, struct mono now)
{
  uint8_t key[CLIENT_KEY];
  struct span user = guessed_user(method, asked, key);
  // The name in an exchange comes with its first step, so the first step is taken.
  if (method == AUTH_SCRAM && user.size == 0) return false;
  if (backoff_wait_ms(authenticator->backoff, source, user, now) == 0) return false;
  // 0x9F is no CONNACK's before 5.0, where 0x88 is what can be said: return code 3.
  enum mqtt_reason reason = asked->version == MQTT_5_0 ? MQTT_CONNECTION_RATE_EXCEEDED : MQTT_SERVER_UNAVAILABLE;
  auth_refuse(asked, reason, "too many wrong credentials from there lately: it has to wait");
  return true;
}

// What was shown was right or wrong; the lock is held.
static void learn(struct authenticator *authenticator, const struct auth_job *job, struct mono now)
{
  struct authentication *asked = job->asked;
  uint8_t key[CLIENT_KEY];
  struct span user = guessed_user(job->choice.method, asked, key);
  if (asked->reason == MQTT_SUCCESS)
    backoff_right(authenticator->backoff, &job->source, user);
  else if (asked->reason == MQTT_BAD_USER_NAME_OR_PASSWORD || asked->reason == MQTT_NOT_AUTHORIZED)
    backoff_wrong(authenticator->backoff, &job->source, user, now);
  else if (asked->reason == MQTT_CONTINUE_AUTHENTICATION)
    (void)has_to_wait(authenticator, &job->source, job->choice.method, asked, now);
}

// ---- Threads

// False: there is none. The lock is held.
static bool start_workers(struct authenticator *authenticator, struct workers *workers)
{
  if (workers->running == workers->wanted) return true;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  // What cannot be started now is tried again with the next question.
  while (workers->running < workers->wanted &&
         pthread_create(&workers->threads[workers->running], &attributes, workers->main, authenticator) == 0)
    workers->running++;
  pthread_attr_destroy(&attributes);
  return workers->running > 0;
}

// False: there is no room, or nobody to do it.
static bool enqueue(struct authenticator *authenticator, struct auth_job *job)
{
  bool hashes = job->choice.method == AUTH_PASSWORD;
  struct workers *workers = hashes ? &authenticator->hash_workers : &authenticator->quick_workers;
  if (!start_workers(authenticator, workers)) return false;
  if (!auth_queue_add(&authenticator->queue, job)) return false;
  pthread_cond_signal(&workers->there_is_work);
  return true;
}

// ---- Working

static void count_hash(struct authenticator *authenticator, uint64_t us)
{
  unsigned bucket = 0;
  while (bucket + 1 < HASH_BUCKETS && us > (UINT64_C(1000) << bucket)) bucket++;
  authenticator->counters.hash_count++;
  authenticator->counters.hash_us_sum += us;
  authenticator->counters.hash_us[bucket]++;
}

// Whether it is still worth the work; the lock is held.
static bool is_due(struct authenticator *authenticator, struct auth_job *job, struct mono now)
{
  uint32_t patience_ms = atomic_load_explicit(&authenticator->patience_ms, memory_order_relaxed);
  if (now.ms > job->asked_ms && now.ms - job->asked_ms > patience_ms) {
    auth_refuse(job->asked, MQTT_SERVER_BUSY, "it has waited too long for its credentials to be looked at");
    return false;
  }
  // Many may have come before the first of them was found wrong.
  return !has_to_wait(authenticator, &job->source, job->choice.method, job->asked, now);
}

// The lock is held when it is called and when it returns, not while it works.
static void work(struct authenticator *authenticator, struct auth_job *job)
{
  struct mono mono;
  struct wall wall;
  authenticator->clock(&mono, &wall);
  if (is_due(authenticator, job, mono)) {
    pthread_mutex_unlock(&authenticator->lock);
    const struct auth_origin origin = {.gate = job->gate,
                                       .facts = job->shown ? job->shown->facts : NULL,
                                       .fact_count = job->shown ? job->shown->fact_count : 0};
    uint64_t begun_us = stopwatch_us();
    auth_decide(&job->choice, &origin, wall, job->asked);
    uint64_t took_us = stopwatch_us() - begun_us;
    authenticator->clock(&mono, &wall);
    pthread_mutex_lock(&authenticator->lock);
    if (job->choice.method == AUTH_PASSWORD) count_hash(authenticator, took_us);
    learn(authenticator, job, mono);
  }
  finish_answer(job->asked, mono, wall);
  count_answer(authenticator, &job->choice, job->asked);
}

// Tells the loop, without the lock; takes it again.
static void hand_back(struct authenticator *authenticator, struct auth_job *job)
{
  struct answers *answers = &authenticator->answers[job->loop];
  uint8_t loop = job->loop;
  job->asked->next = NULL;
  if (answers->last)
    answers->last->next = job->asked;
  else
    answers->first = job->asked;
  answers->last = job->asked;
  atomic_fetch_add(&answers->count, 1);
  pthread_mutex_unlock(&authenticator->lock);
  authenticator->news(authenticator->context, loop);
  auth_job_free(job);
  pthread_mutex_lock(&authenticator->lock);
}

static void run(struct authenticator *authenticator, struct workers *workers,
                struct auth_job *(*next)(struct auth_queue *queue))
{
  pthread_mutex_lock(&authenticator->lock);
  while (!authenticator->stop) {
    struct auth_job *job = next(&authenticator->queue);
    if (job) {
      work(authenticator, job);
      hand_back(authenticator, job);
    } else {
      pthread_cond_wait(&workers->there_is_work, &authenticator->lock);
    }
  }
  pthread_mutex_unlock(&authenticator->lock);
}

static void *quick_main(void *argument)
{
  struct authenticator *authenticator = argument;
  (void)pthread_setname_np(pthread_self(), "skerry-auth");
  run(authenticator, &authenticator->quick_workers, auth_queue_next_quick);
  return NULL;
}

static void *hash_main(void *argument)
{
  struct authenticator *authenticator = argument;
  (void)pthread_setname_np(pthread_self(), "skerry-hash");
  (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
  run(authenticator, &authenticator->hash_workers, auth_queue_next_password);
  return NULL;
}

// ---- For loops

bool authenticator_ask(struct authenticator *authenticator, uint8_t loop, struct authentication *asked,
                       const struct auth_origin *origin)
{
  assert(loop < SHARDS_MAX);
  struct mono mono;
  struct wall wall;
  authenticator->clock(&mono, &wall);
  struct auth_choice choice = auth_choose(origin->gate, asked, origin);
  bool at_once = choice.kind != CHOICE_METHOD || choice.method == AUTH_CERT || choice.method == AUTH_PSK;
  struct auth_job *job = at_once ? NULL : auth_job_create(loop, asked, origin, &choice, mono);
  if (at_once)
    auth_decide(&choice, origin, wall, asked);
  else if (!job)
    auth_refuse(asked, MQTT_SERVER_BUSY, "no memory");
  pthread_mutex_lock(&authenticator->lock);
  bool queued = false;
  if (job && !has_to_wait(authenticator, &job->source, choice.method, asked, mono)) {
    queued = enqueue(authenticator, job);
    if (!queued) auth_refuse(asked, MQTT_SERVER_BUSY, "too many clients wait for their credentials to be looked at");
  }
  // What is queued is another thread's from here on.
  if (!queued) {
    finish_answer(asked, mono, wall);
    count_answer(authenticator, &choice, asked);
  }
  pthread_mutex_unlock(&authenticator->lock);
  if (job && !queued) auth_job_free(job);
  return !queued;
}

struct authentication *authenticator_take(struct authenticator *authenticator, uint8_t loop)
{
  if (!authenticator_answered(authenticator, loop)) return NULL;
  struct answers *answers = &authenticator->answers[loop];
  pthread_mutex_lock(&authenticator->lock);
  struct authentication *asked = answers->first;
  assert(asked);
  answers->first = asked->next;
  if (!answers->first) answers->last = NULL;
  asked->next = NULL;
  atomic_fetch_sub(&answers->count, 1);
  pthread_mutex_unlock(&authenticator->lock);
  return asked;
}

bool authenticator_answered(const struct authenticator *authenticator, uint8_t loop)
{
  return atomic_load(&authenticator->answers[loop].count) > 0;
}

// ---- For any thread

void authenticator_set_patience(struct authenticator *authenticator, uint32_t patience_ms)
{
  atomic_store_explicit(&authenticator->patience_ms, patience_ms > 0 ? patience_ms : AUTHENTICATOR_PATIENCE_MS,
                        memory_order_relaxed);
}

void authenticator_counters(struct authenticator *authenticator, struct authenticator_counters *out)
{
  pthread_mutex_lock(&authenticator->lock);
  *out = authenticator->counters;
  out->waiting = authenticator->queue.quick_count + authenticator->queue.password_count;
  out->backoff_entries = backoff_count(authenticator->backoff);
  pthread_mutex_unlock(&authenticator->lock);
}

// ---- Starting and ending

static uint8_t hashing_threads(uint8_t wanted)
{
  if (wanted > 0) return wanted < AUTHENTICATOR_THREADS_MAX ? wanted : AUTHENTICATOR_THREADS_MAX;
  long half = sysconf(_SC_NPROCESSORS_ONLN) / 2;
  return half < 1 ? 1 : half > AUTHENTICATOR_THREADS_MAX ? AUTHENTICATOR_THREADS_MAX : (uint8_t)half;
}

static void workers_init(struct workers *workers, void *(*entry)(void *authenticator), uint8_t wanted)
{
  workers->main = entry;
  workers->wanted = wanted;
  pthread_cond_init(&workers->there_is_work, NULL);
}

enum status authenticator_create(const struct authenticator_settings *settings, struct authenticator **out,
                                 struct error *error)
{
  assert(settings->news);
  struct authenticator *authenticator = calloc(1, sizeof *authenticator);
  struct backoff *backoff = authenticator ? backoff_create(BACKOFF_ENTRIES, settings->seed) : NULL;
  if (!backoff) {
    free(authenticator);
    return error_set(error, ERR_NO_MEMORY, "no memory to check credentials with");
  }
  auth_queue_init(&authenticator->queue, settings->questions > 0 ? settings->questions : AUTHENTICATOR_QUESTIONS,
                  settings->seed);
  authenticator->news = settings->news;
  authenticator->context = settings->context;
  authenticator->clock = settings->clock ? settings->clock : system_clock;
  authenticator->backoff = backoff;
  authenticator_set_patience(authenticator, settings->patience_ms);
  pthread_mutex_init(&authenticator->lock, NULL);
  workers_init(&authenticator->quick_workers, quick_main, 1);
  workers_init(&authenticator->hash_workers, hash_main, hashing_threads(settings->threads));
  *out = authenticator;
  return OK;
}

static void discard(struct authentication *asked)
{
  if (asked->enhanced) enhanced_free(asked->enhanced);
  asked->enhanced = NULL;
  authentication_free(asked);
}

static void workers_end(struct workers *workers)
{
  for (uint8_t i = 0; i < workers->running; i++) pthread_join(workers->threads[i], NULL);
  pthread_cond_destroy(&workers->there_is_work);
}

void authenticator_destroy(struct authenticator *authenticator)
{
  if (!authenticator) return;
  pthread_mutex_lock(&authenticator->lock);
  authenticator->stop = true;
  pthread_cond_broadcast(&authenticator->quick_workers.there_is_work);
  pthread_cond_broadcast(&authenticator->hash_workers.there_is_work);
  pthread_mutex_unlock(&authenticator->lock);
  workers_end(&authenticator->quick_workers);
  workers_end(&authenticator->hash_workers);
  struct auth_queue *queue = &authenticator->queue;
  for (struct auth_job *job; (job = auth_queue_next_quick(queue)) || (job = auth_queue_next_password(queue));) {
    discard(job->asked);
    auth_job_free(job);
  }
  for (uint8_t i = 0; i < SHARDS_MAX; i++)
    for (struct authentication *asked; (asked = authenticator_take(authenticator, i));) discard(asked);
  auth_queue_deinit(queue);
  backoff_destroy(authenticator->backoff);
  pthread_mutex_destroy(&authenticator->lock);
  free(authenticator);
}
