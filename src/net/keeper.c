// Sleeping and waking. Measured on two cores with one commit under way at a time: both hand-overs together, a futex to the
// keeper and an eventfd back, add 10-25 µs to an fdatasync of 100-130 µs; with the client's two wake-ups a publisher waits
// for 1.25-1.35 of a bare fdatasync. Spinning, on either side or both, made that 1.4 to 4.9 (the spinning thread has the
// core that the client and the disk's interrupt want) and cost three times the CPU. So nothing spins here.
#include "net/keeper.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "net/mailbox.h"

enum {
  STACK_SIZE = 512 * 1024,
  BATCHES_MAX = 2,             // under way at a time
  LOADS_MAX = 64,              // the same
  LOADS_PER_TURN = 16,         // answered before the next batch has its turn
  RETRY_MS = 200,              // after a round that failed
  UNSYNCED_MAX = 8 << 20,      // durability `interval`: bytes after which a round does not wait for its time
  FINISH_TRIES = 5,            // of a stop on a disk that refuses
  COUNTERS_PATIENCE_MS = 250,  // how long the control thread waits for fresh counters
};

enum { KEEP_BATCH, KEEP_LOAD };  // flags of MAIL_HOST

struct waiting_load {
  struct link link;
  struct journal_load load;
  uint64_t behind;  // number of the last batch before it
};

struct keeper {
  struct store *store;
  struct log *log;
  uint32_t interval_ms;
  void (*news)(void *context, bool state);
  void *context;
  pthread_t thread;
  bool started;

  // The loop's
  _Alignas(64) uint64_t given;  // number of the last batch
  uint32_t loads_open;

  // From the keeper to the others
  _Alignas(64) _Atomic uint64_t committed;
  _Atomic uint64_t
      released;       // batches up to here do not count as under way: those committed, with an interval those written
  _Atomic int state;  // enum journal_state

  // From the others to the keeper
  _Alignas(64) _Atomic uint32_t sleeping;  // a futex
  _Atomic bool stop, counters_wanted;
  _Atomic int log_level;

  // The keeper's
  _Alignas(64) struct link loads;
  uint64_t submitted;  // number of the last batch
  uint64_t unsynced_bytes;
  uint64_t oldest_us;    // when the oldest batch that is not safe was given; 0: there is none
  uint64_t round_ms;     // when the last round was
  bool failed;           // that round left batches behind
  bool more;             // it left work of the store's own
  unsigned answered;     // loads that the loop has not been told of
  enum status finished;  // what store_finish said
  uint64_t commit_count, commit_us_sum, commit_us[COMMIT_BUCKETS];

  pthread_mutex_t counters_lock;
  pthread_cond_t counters_fresh;
  uint64_t counters_generation;
  struct store_counters counters;

  struct mailbox inbox, outbox;
};

// ---- Time

static uint64_t clock_us(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct mono mono_now(void)
{
  return (struct mono){clock_us() / 1000};
}

static struct wall wall_now(void)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (struct wall){(int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000};
}

// ---- Sleeping and waking

static void wake(struct keeper *keeper)
{
  // Whoever wakes has written before what there is to see. See fall_asleep.
  atomic_thread_fence(memory_order_seq_cst);
  if (!atomic_load_explicit(&keeper->sleeping, memory_order_relaxed)) return;
  if (atomic_exchange(&keeper->sleeping, 0)) syscall(SYS_futex, &keeper->sleeping, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

// Until somebody wakes the keeper, or `timeout_ms` (-1: for ever).
static void fall_asleep(struct keeper *keeper, int64_t timeout_ms)
{
  // We write `sleeping`, then look for work; the others write their work, then look at `sleeping`. One sees the other.
  atomic_store_explicit(&keeper->sleeping, 1, memory_order_seq_cst);
  atomic_thread_fence(memory_order_seq_cst);
  if (!mailbox_waiting(&keeper->inbox) && !atomic_load(&keeper->stop) && !atomic_load(&keeper->counters_wanted)) {
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000};
    syscall(SYS_futex, &keeper->sleeping, FUTEX_WAIT_PRIVATE, 1, timeout_ms < 0 ? NULL : &timeout, NULL, 0);
  }
  atomic_store_explicit(&keeper->sleeping, 0, memory_order_relaxed);
}

// ---- Counters

static void fill_counters(struct keeper *keeper, struct store_counters *out)
{
  store_counters(keeper->store, mono_now(), out);
  out->commit_count = keeper->commit_count;
  out->commit_us_sum = keeper->commit_us_sum;
  memcpy(out->commit_us, keeper->commit_us, sizeof out->commit_us);
}

static void refresh_counters(struct keeper *keeper)
{
  atomic_store(&keeper->counters_wanted, false);
  struct store_counters counters = {0};
  fill_counters(keeper, &counters);
  pthread_mutex_lock(&keeper->counters_lock);
  keeper->counters = counters;
  keeper->counters_generation++;
  pthread_cond_broadcast(&keeper->counters_fresh);
  pthread_mutex_unlock(&keeper->counters_lock);
}

void keeper_counters(struct keeper *keeper, struct store_counters *out)
{
  if (!keeper->started) {
    fill_counters(keeper, out);
    return;
  }
  struct timespec deadline;
  clock_gettime(CLOCK_MONOTONIC, &deadline);
  deadline.tv_nsec += COUNTERS_PATIENCE_MS * 1000000L;
  deadline.tv_sec += deadline.tv_nsec / 1000000000;
  deadline.tv_nsec %= 1000000000;
  pthread_mutex_lock(&keeper->counters_lock);
  uint64_t before = keeper->counters_generation;
  atomic_store(&keeper->counters_wanted, true);
  wake(keeper);
  int result = 0;
  while (keeper->counters_generation == before && result == 0)
    result = pthread_cond_timedwait(&keeper->counters_fresh, &keeper->counters_lock, &deadline);
  *out = keeper->counters;
  pthread_mutex_unlock(&keeper->counters_lock);
}

// ---- The keeper's thread

static bool is_pending(const struct keeper *keeper)
{
  return keeper->submitted > atomic_load_explicit(&keeper->committed, memory_order_relaxed);
}

static void take_batch(struct keeper *keeper, const struct mail *mail)
{
  struct journal_batch *batch = mail->pointer;
  assert(batch->number == keeper->submitted + 1);
  keeper->submitted = batch->number;
  keeper->unsynced_bytes += buffer_size(&batch->records);
  if (keeper->oldest_us == 0) keeper->oldest_us = mail->stamp;
  store_submit(keeper->store, batch);
}

static void measure(struct keeper *keeper, uint64_t now_us)
{
  uint64_t took_us = now_us - keeper->oldest_us;
  keeper->commit_count++;
  keeper->commit_us_sum += took_us;
  unsigned bucket = 0;
  while (bucket < COMMIT_BUCKETS && took_us > (UINT64_C(50) << bucket)) bucket++;
  if (bucket < COMMIT_BUCKETS) keeper->commit_us[bucket]++;
}

// Tells what the store has reached.
static void report(struct keeper *keeper)
{
  uint64_t committed = store_committed(keeper->store);
  int state = (int)store_state(keeper->store);
  bool new_state = atomic_load_explicit(&keeper->state, memory_order_relaxed) != state;
  bool progress = atomic_load_explicit(&keeper->committed, memory_order_relaxed) != committed;
  assert(committed <= keeper->submitted);
  if (progress) {
    measure(keeper, clock_us());
    keeper->oldest_us = committed == keeper->submitted ? 0 : clock_us();
    atomic_store_explicit(&keeper->committed, committed, memory_order_seq_cst);
    if (atomic_load_explicit(&keeper->released, memory_order_relaxed) < committed)
      atomic_store_explicit(&keeper->released, committed, memory_order_seq_cst);
  }
  if (new_state) atomic_store_explicit(&keeper->state, state, memory_order_seq_cst);
  if (progress || new_state) keeper->news(keeper->context, new_state);
}

static void make_round(struct keeper *keeper)
{
  struct mono now = mono_now();
  bool more = store_round(keeper->store, now, wall_now());
  keeper->round_ms = now.ms;
  report(keeper);
  keeper->failed = is_pending(keeper);
  keeper->more = more && !keeper->failed;
  if (!keeper->failed) keeper->unsynced_bytes = 0;
}

// With an interval: written now, so that a kill of the process loses nothing; synced by the round that is due later.
static void write_only(struct keeper *keeper)
{
  uint64_t before = atomic_load_explicit(&keeper->released, memory_order_relaxed);
  store_append(keeper->store, mono_now(), wall_now());
  report(keeper);
  // What a failing disk does not take stays in memory: then no more is let in.
  if (keeper->failed || store_state(keeper->store) != JOURNAL_OK) return;
  atomic_store_explicit(&keeper->released, keeper->submitted, memory_order_seq_cst);
  // The loop keeps a batch back only when BATCHES_MAX are under way: these, or some of these and one that waits here.
  if (keeper->submitted - before >= BATCHES_MAX || mailbox_waiting(&keeper->inbox)) keeper->news(keeper->context, false);
}

static int64_t earlier(int64_t a, int64_t b)
{
  return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

// Milliseconds until the next round, -1: when something comes.
static int64_t next_round_ms(const struct keeper *keeper)
{
  struct mono now = mono_now();
  int64_t since = (int64_t)(now.ms - keeper->round_ms);
  if (keeper->more) return 0;
  int64_t next = store_next_ms(keeper->store, now);
  if (keeper->failed) {  // the store knows when to try again; but never at once
    int64_t retry = since < RETRY_MS ? RETRY_MS - since : 0;
    return next > retry ? next : retry;
  }
  if (!is_pending(keeper)) return next;
  int64_t interval = (int64_t)keeper->interval_ms - since;
  return keeper->unsynced_bytes > UNSYNCED_MAX || interval < 0 ? 0 : earlier(next, interval);
}

// A load waits until what was handed over before it has been applied. Not while nothing can be applied soon, after a failure
// or with an interval: then what is there is taken from what is applied, and only a load that finds nothing there waits.
static bool answer(struct keeper *keeper, const struct waiting_load *waiting)
{
  bool due = waiting->behind <= atomic_load_explicit(&keeper->committed, memory_order_relaxed);
  if (!due && !keeper->failed && keeper->interval_ms == 0) return false;
  struct journal_loaded *loaded = store_load(keeper->store, &waiting->load);
  if (!loaded) return false;  // later
  if (!due && loaded->count == 0) {
    journal_loaded_free(loaded);
    return false;
  }
  struct mail mail = {.kind = MAIL_HOST, .flags = KEEP_LOAD, .pointer = loaded};
  size_t put = mailbox_put(&keeper->outbox, &mail, 1);
  assert(put == 1);  // LOADS_MAX
  return true;
}

static void answer_loads(struct keeper *keeper)
{
  struct link *next;
  for (struct link *link = keeper->loads.next; link != &keeper->loads && keeper->answered < LOADS_PER_TURN; link = next) {
    next = link->next;
    struct waiting_load *waiting = CONTAINER_OF(link, struct waiting_load, link);
    if (!answer(keeper, waiting)) continue;
    list_remove(link);
    free(waiting);
    keeper->answered++;
  }
}

static void tell_answers(struct keeper *keeper)
{
  if (keeper->answered > 0) keeper->news(keeper->context, false);
  keeper->answered = 0;
}

// Takes what has arrived, in order, until something waits for a round. Returns whether any batch was taken.
static bool take_mails(struct keeper *keeper)
{
  bool any = false;
  struct mail mail;
  while (keeper->answered < LOADS_PER_TURN && mailbox_take(&keeper->inbox, &mail)) {
    assert(mail.kind == MAIL_HOST);
    if (mail.flags == KEEP_BATCH) {
      take_batch(keeper, &mail);
      any = true;
      continue;
    }
    struct waiting_load *load = mail.pointer;
    load->behind = keeper->submitted;
    list_append(&keeper->loads, &load->link);
    if (any) break;
    answer_loads(keeper);
  }
  return any;
}

// A load is left that needs no round.
static bool load_is_due(const struct keeper *keeper)
{
  if (list_empty(&keeper->loads)) return false;
  const struct waiting_load *first = CONTAINER_OF(keeper->loads.next, struct waiting_load, link);
  return first->behind <= atomic_load_explicit(&keeper->committed, memory_order_relaxed);
}

static void turn(struct keeper *keeper)
{
  bool taken = take_mails(keeper);
  tell_answers(keeper);  // before the round: it takes its time
  if (taken && keeper->interval_ms > 0) write_only(keeper);
  if ((taken && keeper->interval_ms == 0) || next_round_ms(keeper) == 0) make_round(keeper);
  answer_loads(keeper);
  tell_answers(keeper);
  if (atomic_load_explicit(&keeper->counters_wanted, memory_order_relaxed)) refresh_counters(keeper);
  if (keeper->log) keeper->log->level = (enum log_level)atomic_load_explicit(&keeper->log_level, memory_order_relaxed);
  if (load_is_due(keeper) || mailbox_waiting(&keeper->inbox)) return;
  int64_t next = next_round_ms(keeper);
  if (next != 0) fall_asleep(keeper, next);
}

static void finish(struct keeper *keeper)
{
  while (mailbox_waiting(&keeper->inbox)) {
    (void)take_mails(keeper);
    keeper->answered = 0;
  }
  // A disk that refused a moment ago may take it now; but a stop must not take for ever.
  for (unsigned i = 0; i < FINISH_TRIES; i++) {
    if (i > 0) usleep(RETRY_MS * 1000);
    keeper->finished = store_finish(keeper->store, mono_now(), wall_now());
    report(keeper);
    if (!is_pending(keeper)) return;
  }
}

static void *keeper_main(void *argument)
{
  struct keeper *keeper = argument;
  while (!atomic_load_explicit(&keeper->stop, memory_order_acquire)) turn(keeper);
  finish(keeper);
  return NULL;
}

// ---- Life

static void init_mailbox(struct mailbox *mailbox)
{
  atomic_init(&mailbox->written, 0);
  atomic_init(&mailbox->read, 0);
  mailbox->read_seen = 0;
}

enum status keeper_create(const struct keeper_settings *settings, struct keeper **out, struct error *error)
{
  struct keeper *keeper = aligned_alloc(_Alignof(struct keeper), sizeof *keeper);
  if (!keeper) return error_set(error, ERR_NO_MEMORY, "no memory for the journal");
  // The rings are left alone: pages that nobody touches cost nothing.
  memset(keeper, 0, offsetof(struct keeper, inbox));
  init_mailbox(&keeper->inbox);
  init_mailbox(&keeper->outbox);
  keeper->store = settings->store;
  keeper->log = settings->log;
  keeper->interval_ms = settings->interval_ms;
  keeper->news = settings->news;
  keeper->context = settings->context;
  list_init(&keeper->loads);
  atomic_init(&keeper->state, (int)store_state(settings->store));
  atomic_init(&keeper->log_level, settings->log ? (int)settings->log->level : 0);
  pthread_mutex_init(&keeper->counters_lock, NULL);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&keeper->counters_fresh, &attributes);
  pthread_condattr_destroy(&attributes);
  *out = keeper;
  return OK;
}

enum status keeper_start(struct keeper *keeper, struct error *error)
{
  fill_counters(keeper, &keeper->counters);
  keeper->round_ms = mono_now().ms;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  int result = pthread_create(&keeper->thread, &attributes, keeper_main, keeper);
  pthread_attr_destroy(&attributes);
  if (result != 0)
    return error_set(error, status_from_errno(result), "cannot start the journal's thread: %s", strerror(result));
  (void)pthread_setname_np(keeper->thread, "skerry-store");
  keeper->started = true;
  return OK;
}

enum status keeper_stop(struct keeper *keeper, struct error *error)
{
  if (!keeper->started) return OK;
  atomic_store_explicit(&keeper->stop, true, memory_order_seq_cst);
  wake(keeper);
  pthread_join(keeper->thread, NULL);
  keeper->started = false;
  if (is_pending(keeper))
    return error_set(error, ERR_IO, "the disk did not take the last changes (journal state: %s)",
                     journal_state_name(keeper_state(keeper)));
  if (keeper->finished != OK && keeper->log)
    LOG(keeper->log, mono_now(), LOG_WARNING, "journal_checkpoint_missed",
        FIELD_TEXT("error", status_name(keeper->finished)), FIELD_TEXT("detail", "all is safe; the next start reads more"));
  return OK;
}

void keeper_destroy(struct keeper *keeper)
{
  if (!keeper) return;
  assert(!keeper->started);
  struct mail mail;
  while (mailbox_take(&keeper->inbox, &mail)) {
    if (mail.flags == KEEP_BATCH)
      journal_batch_free(mail.pointer);
    else
      free(mail.pointer);
  }
  while (mailbox_take(&keeper->outbox, &mail)) journal_loaded_free(mail.pointer);
  while (!list_empty(&keeper->loads)) {
    struct link *link = keeper->loads.next;
    list_remove(link);
    free(CONTAINER_OF(link, struct waiting_load, link));
  }
  pthread_cond_destroy(&keeper->counters_fresh);
  pthread_mutex_destroy(&keeper->counters_lock);
  free(keeper);
}

void keeper_set_log_level(struct keeper *keeper, enum log_level level)
{
  atomic_store_explicit(&keeper->log_level, (int)level, memory_order_relaxed);
}

// ---- For the loop

static void post(struct keeper *keeper, uint8_t flags, void *pointer)
{
  struct mail mail = {.kind = MAIL_HOST, .flags = flags, .pointer = pointer, .stamp = clock_us()};
  size_t put = mailbox_put(&keeper->inbox, &mail, 1);
  assert(put == 1);  // BATCHES_MAX and LOADS_MAX
  wake(keeper);
}

bool keeper_wants_batch(const struct keeper *keeper)
{
  return keeper->given - atomic_load_explicit(&keeper->released, memory_order_seq_cst) < BATCHES_MAX;
}

void keeper_give(struct keeper *keeper, struct journal_batch *batch)
{
  assert(batch->number == keeper->given + 1);
  keeper->given = batch->number;
  post(keeper, KEEP_BATCH, batch);
}

bool keeper_wants_load(const struct keeper *keeper)
{
  return keeper->loads_open < LOADS_MAX;
}

void keeper_ask(struct keeper *keeper, const struct journal_load *load)
{
  struct waiting_load *waiting = calloc(1, sizeof *waiting);
  if (!waiting) abort();
  waiting->load = *load;
  keeper->loads_open++;
  post(keeper, KEEP_LOAD, waiting);
}

struct journal_loaded *keeper_take_loaded(struct keeper *keeper)
{
  struct mail mail;
  if (!mailbox_take(&keeper->outbox, &mail)) return NULL;
  keeper->loads_open--;
  return mail.pointer;
}

uint64_t keeper_committed(const struct keeper *keeper)
{
  return atomic_load_explicit(&keeper->committed, memory_order_seq_cst);
}

enum journal_state keeper_state(const struct keeper *keeper)
{
  return (enum journal_state)atomic_load_explicit(&keeper->state, memory_order_seq_cst);
}

bool keeper_loaded_waits(const struct keeper *keeper)
{
  return mailbox_waiting(&keeper->outbox);
}
