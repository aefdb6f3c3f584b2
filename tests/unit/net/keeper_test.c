// The keeper with a store of this test's own, which commits, fails and waits as it is told. What the keeper does is waited
// for by its news; no test depends on how long anything takes.
#include "net/keeper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_S = 20, BATCHES = 64 };

// ---- The store

struct store {
  struct journal_batch *batches;  // submitted, not committed; newest first
  uint64_t submitted, committed;
  uint64_t committed_at_load[BATCHES];
  unsigned loads;
  bool closed;         // rounds wait at the gate
  sem_t inside, gate;  // a round is at the gate; it may go through
  _Atomic int state;   // enum journal_state that rounds find
  _Atomic unsigned rounds, appends, finished;
  _Atomic bool empty;            // loads find nothing
  _Atomic unsigned empty_loads;  // so many have
  _Atomic int next_ms;
  unsigned work;  // rounds that leave some of the store's own
};

void store_submit(struct store *store, struct journal_batch *batch)
{
  assert_int_equal(batch->number, store->submitted + 1);
  store->submitted = batch->number;
  batch->next = store->batches;
  store->batches = batch;
}

static void drop_batches(struct store *store)
{
  for (struct journal_batch *next; store->batches; store->batches = next) {
    next = store->batches->next;
    journal_batch_free(store->batches);
  }
}

static void commit(struct store *store)
{
  if (atomic_load(&store->state) != JOURNAL_OK) return;
  drop_batches(store);
  store->committed = store->submitted;
}

bool store_round(struct store *store, struct mono now, struct wall wall)
{
  (void)now;
  (void)wall;
  if (store->closed) {
    sem_post(&store->inside);
    while (sem_wait(&store->gate) != 0) {
    }
  }
  commit(store);
  atomic_fetch_add(&store->rounds, 1);
  return store->work > 0 && store->work-- > 0;
}

void store_append(struct store *store, struct mono now, struct wall wall)
{
  (void)now;
  (void)wall;
  atomic_fetch_add(&store->appends, 1);
}

uint64_t store_committed(const struct store *store)
{
  return store->committed;
}

enum journal_state store_state(const struct store *store)
{
  return (enum journal_state)atomic_load(&store->state);
}

int64_t store_next_ms(const struct store *store, struct mono now)
{
  (void)now;
  return atomic_load(&store->next_ms);
}

struct journal_loaded *store_load(struct store *store, const struct journal_load *load)
{
  struct journal_loaded *loaded = calloc(1, sizeof *loaded);
  assert_non_null(loaded);
  bool empty = atomic_load(&store->empty);
  if (empty) atomic_fetch_add(&store->empty_loads, 1);
  *loaded = (struct journal_loaded){.session = load->session, .ticket = load->ticket, .next = load->place, .count = !empty};
  if (store->loads < BATCHES) store->committed_at_load[store->loads++] = store->committed;
  return loaded;
}

enum status store_finish(struct store *store, struct mono now, struct wall wall)
{
  (void)now;
  (void)wall;
  atomic_fetch_add(&store->finished, 1);
  commit(store);
  return store->committed == store->submitted ? OK : ERR_FULL;
}

void store_counters(struct store *store, struct mono now, struct store_counters *out)
{
  (void)now;
  *out = (struct store_counters){.records = store->committed};
}

// ---- The loop's side

struct fixture {
  struct store store;
  struct keeper *keeper;
  sem_t news;
  _Atomic unsigned state_news;
  uint64_t given;
};

static void take_news(void *context, bool state)
{
  struct fixture *fixture = context;
  if (state) atomic_fetch_add(&fixture->state_news, 1);
  sem_post(&fixture->news);
}

static void wait_on(sem_t *sem)
{
  struct timespec deadline;
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += PATIENCE_S;
  while (sem_timedwait(sem, &deadline) != 0)
    if (time(NULL) > deadline.tv_sec) fail_msg("nothing happens");
}

static void open_keeper(struct fixture *fixture, uint32_t interval_ms)
{
  struct keeper_settings settings = {
      .store = &fixture->store, .interval_ms = interval_ms, .news = take_news, .context = fixture};
  struct error error = {0};
  assert_int_equal(keeper_create(&settings, &fixture->keeper, &error), OK);
}

static void start(struct fixture *fixture, uint32_t interval_ms)
{
  struct error error = {0};
  open_keeper(fixture, interval_ms);
  assert_int_equal(keeper_start(fixture->keeper, &error), OK);
}

static void give(struct fixture *fixture)
{
  struct journal_batch *batch = calloc(1, sizeof *batch);
  assert_non_null(batch);
  batch->number = ++fixture->given;
  assert_int_equal(buffer_append(&batch->records, "records!", 8), OK);
  keeper_give(fixture->keeper, batch);
}

static void ask(struct fixture *fixture, uint32_t ticket)
{
  assert_true(keeper_wants_load(fixture->keeper));
  keeper_ask(fixture->keeper, &(struct journal_load){.session = 7, .ticket = ticket, .place = 3, .max_entries = 10});
}

static void wait_committed(struct fixture *fixture, uint64_t number)
{
  while (keeper_committed(fixture->keeper) < number) wait_on(&fixture->news);
  assert_int_equal(keeper_committed(fixture->keeper), number);
}

static void wait_state(struct fixture *fixture, enum journal_state state)
{
  while (keeper_state(fixture->keeper) != state) wait_on(&fixture->news);
}

static void expect_loaded(struct fixture *fixture, uint32_t ticket)
{
  struct journal_loaded *loaded;
  while (!(loaded = keeper_take_loaded(fixture->keeper))) wait_on(&fixture->news);
  assert_int_equal(loaded->session, 7);
  assert_int_equal(loaded->ticket, ticket);
  assert_int_equal(loaded->count, 1);
  journal_loaded_free(loaded);
}

static void set_up_gate(struct fixture *fixture)
{
  fixture->store.closed = true;
}

static void wait_at_gate(struct fixture *fixture)
{
  wait_on(&fixture->store.inside);
}

static void open_gate(struct fixture *fixture)
{
  sem_post(&fixture->store.gate);
}

static void stop(struct fixture *fixture)
{
  struct error error = {0};
  for (unsigned i = 0; i < 100; i++) open_gate(fixture);
  assert_int_equal(keeper_stop(fixture->keeper, &error), OK);
  assert_int_equal(fixture->store.finished, 1);
}

static int set_up(void **state)
{
  struct fixture *fixture = calloc(1, sizeof *fixture);
  assert_non_null(fixture);
  sem_init(&fixture->news, 0, 0);
  sem_init(&fixture->store.inside, 0, 0);
  sem_init(&fixture->store.gate, 0, 0);
  atomic_init(&fixture->store.next_ms, -1);
  *state = fixture;
  return 0;
}

static int tear_down(void **state)
{
  struct fixture *fixture = *state;
  keeper_destroy(fixture->keeper);
  drop_batches(&fixture->store);
  sem_destroy(&fixture->news);
  sem_destroy(&fixture->store.inside);
  sem_destroy(&fixture->store.gate);
  free(fixture);
  return 0;
}

// ---- Tests

static void batches_are_committed_one_by_one(void **state)
{
  struct fixture *fixture = *state;
  start(fixture, 0);
  for (uint64_t i = 1; i <= 20; i++) {
    assert_true(keeper_wants_batch(fixture->keeper));
    give(fixture);
    wait_committed(fixture, i);
  }
  stop(fixture);
  assert_int_equal(fixture->store.appends, 0);
  assert_true(fixture->store.rounds >= 20);
}

// The third grows where it is, until one of the two is done.
static void two_are_under_way_at_most(void **state)
{
  struct fixture *fixture = *state;
  set_up_gate(fixture);
  start(fixture, 0);
  give(fixture);
  wait_at_gate(fixture);
  assert_true(keeper_wants_batch(fixture->keeper));
  give(fixture);
  assert_false(keeper_wants_batch(fixture->keeper));
  open_gate(fixture);
  wait_committed(fixture, 1);
  assert_true(keeper_wants_batch(fixture->keeper));
  wait_at_gate(fixture);
  open_gate(fixture);
  wait_committed(fixture, 2);
  stop(fixture);
}

static void loads_keep_their_place_among_batches(void **state)
{
  struct fixture *fixture = *state;
  set_up_gate(fixture);
  start(fixture, 0);
  give(fixture);
  wait_at_gate(fixture);
  ask(fixture, 1);
  ask(fixture, 2);
  give(fixture);
  ask(fixture, 3);
  assert_null(keeper_take_loaded(fixture->keeper));
  open_gate(fixture);
  // Before the next round: it has not been let through its gate.
  expect_loaded(fixture, 1);
  expect_loaded(fixture, 2);
  assert_null(keeper_take_loaded(fixture->keeper));
  wait_at_gate(fixture);
  open_gate(fixture);
  expect_loaded(fixture, 3);
  stop(fixture);
  assert_int_equal(fixture->store.committed_at_load[0], 1);
  assert_int_equal(fixture->store.committed_at_load[1], 1);
  assert_int_equal(fixture->store.committed_at_load[2], 2);
}

static void loads_are_bounded(void **state)
{
  struct fixture *fixture = *state;
  start(fixture, 0);
  uint32_t asked = 0;
  while (keeper_wants_load(fixture->keeper)) ask(fixture, asked++);
  assert_in_range(asked, 16, 1000);
  for (uint32_t i = 0; i < asked; i++) {
    expect_loaded(fixture, i);
    assert_true(keeper_wants_load(fixture->keeper));
  }
  stop(fixture);
}

static void failures_are_told_and_repeated(void **state)
{
  struct fixture *fixture = *state;
  start(fixture, 0);
  give(fixture);
  wait_committed(fixture, 1);
  atomic_store(&fixture->store.state, JOURNAL_FAILING);
  give(fixture);
  wait_state(fixture, JOURNAL_FAILING);
  assert_int_equal(fixture->state_news, 1);
  assert_int_equal(keeper_committed(fixture->keeper), 1);
  give(fixture);
  assert_false(keeper_wants_batch(fixture->keeper));
  // What is there can be read all the same.
  ask(fixture, 1);
  expect_loaded(fixture, 1);
  atomic_store(&fixture->store.state, JOURNAL_OK);
  wait_committed(fixture, 3);
  assert_int_equal(keeper_state(fixture->keeper), JOURNAL_OK);
  assert_int_equal(fixture->state_news, 2);
  stop(fixture);
}

// A load of what is in a batch that the disk does not take yet.
static void a_load_that_finds_nothing_waits_for_its_batch(void **state)
{
  struct fixture *fixture = *state;
  start(fixture, 0);
  atomic_store(&fixture->store.state, JOURNAL_FULL);
  give(fixture);
  wait_state(fixture, JOURNAL_FULL);
  atomic_store(&fixture->store.empty, true);
  ask(fixture, 1);
  while (atomic_load(&fixture->store.empty_loads) == 0) sched_yield();
  assert_null(keeper_take_loaded(fixture->keeper));
  atomic_store(&fixture->store.empty, false);
  atomic_store(&fixture->store.state, JOURNAL_OK);
  expect_loaded(fixture, 1);
  stop(fixture);
}

static void an_interval_writes_at_once_and_syncs_later(void **state)
{
  struct fixture *fixture = *state;
  start(fixture, 3600 * 1000);
  for (unsigned i = 0; i < 10; i++) {
    while (!keeper_wants_batch(fixture->keeper)) wait_on(&fixture->news);
    give(fixture);
  }
  while (!keeper_wants_batch(fixture->keeper)) wait_on(&fixture->news);
  assert_int_equal(keeper_committed(fixture->keeper), 0);
  assert_int_equal(fixture->store.rounds, 0);
  assert_in_range(fixture->store.appends, 1, 10);
  stop(fixture);
  assert_int_equal(keeper_committed(fixture->keeper), 10);
}

static void an_interval_ends(void **state)
{
  struct fixture *fixture = *state;
  start(fixture, 5);
  give(fixture);
  wait_committed(fixture, 1);
  stop(fixture);
}

static void a_failing_disk_holds_back_with_an_interval_too(void **state)
{
  struct fixture *fixture = *state;
  atomic_store(&fixture->store.state, JOURNAL_FAILING);
  start(fixture, 5);
  give(fixture);
  give(fixture);
  assert_false(keeper_wants_batch(fixture->keeper));
  atomic_store(&fixture->store.state, JOURNAL_OK);
  wait_committed(fixture, 2);
  assert_true(keeper_wants_batch(fixture->keeper));
  stop(fixture);
}

// The store's own work, when nothing is handed over.
static void rounds_are_made_when_they_are_due(void **state)
{
  struct fixture *fixture = *state;
  atomic_store(&fixture->store.next_ms, 1);
  set_up_gate(fixture);
  start(fixture, 0);
  // The first time is over at once.
  atomic_store(&fixture->store.next_ms, 0);
  ask(fixture, 1);
  wait_at_gate(fixture);
  open_gate(fixture);
  wait_at_gate(fixture);
  atomic_store(&fixture->store.next_ms, -1);
  stop(fixture);
}

static void rounds_go_on_while_the_store_has_work(void **state)
{
  struct fixture *fixture = *state;
  fixture->store.work = 5;
  set_up_gate(fixture);
  start(fixture, 0);
  give(fixture);
  for (unsigned i = 0; i < 6; i++) {
    wait_at_gate(fixture);
    open_gate(fixture);
  }
  wait_committed(fixture, 1);
  struct store_counters counters;
  keeper_counters(fixture->keeper, &counters);
  assert_int_equal(fixture->store.rounds, 6);
  stop(fixture);
}

static void a_stop_commits_what_is_left(void **state)
{
  struct fixture *fixture = *state;
  start(fixture, 0);
  for (unsigned i = 0; i < 5; i++) give(fixture);  // also when it is not wanted
  stop(fixture);
  assert_int_equal(keeper_committed(fixture->keeper), 5);
}

static void a_stop_says_what_the_disk_did_not_take(void **state)
{
  struct fixture *fixture = *state;
  struct error error = {0};
  start(fixture, 0);
  atomic_store(&fixture->store.state, JOURNAL_FULL);
  give(fixture);
  assert_int_equal(keeper_stop(fixture->keeper, &error), ERR_IO);
  assert_non_null(strstr(error.text, "full"));
  assert_int_equal(keeper_committed(fixture->keeper), 0);
}

static void counters_come_fresh(void **state)
{
  struct fixture *fixture = *state;
  struct store_counters counters;
  start(fixture, 0);
  for (uint64_t i = 1; i <= 3; i++) {
    give(fixture);
    wait_committed(fixture, i);
    keeper_counters(fixture->keeper, &counters);
    assert_int_equal(counters.records, i);
    assert_int_equal(counters.commit_count, i);
  }
  uint64_t sum = 0;
  for (unsigned i = 0; i < COMMIT_BUCKETS; i++) sum += counters.commit_us[i];
  assert_in_range(sum, 1, 3);
  stop(fixture);
  keeper_counters(fixture->keeper, &counters);
  assert_int_equal(counters.commit_count, 3);
}

static void counters_do_not_wait_for_the_disk(void **state)
{
  struct fixture *fixture = *state;
  struct store_counters counters = {.records = 99};
  set_up_gate(fixture);
  start(fixture, 0);
  give(fixture);
  wait_at_gate(fixture);
  keeper_counters(fixture->keeper, &counters);
  assert_int_equal(counters.records, 0);
  stop(fixture);
}

static void one_that_never_started_frees_what_it_got(void **state)
{
  struct fixture *fixture = *state;
  struct error error = {0};
  open_keeper(fixture, 0);
  give(fixture);
  ask(fixture, 1);
  assert_int_equal(keeper_stop(fixture->keeper, &error), OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(batches_are_committed_one_by_one),
      TEST(two_are_under_way_at_most),
      TEST(loads_keep_their_place_among_batches),
      TEST(loads_are_bounded),
      TEST(failures_are_told_and_repeated),
      TEST(a_load_that_finds_nothing_waits_for_its_batch),
      TEST(an_interval_writes_at_once_and_syncs_later),
      TEST(an_interval_ends),
      TEST(a_failing_disk_holds_back_with_an_interval_too),
      TEST(rounds_are_made_when_they_are_due),
      TEST(rounds_go_on_while_the_store_has_work),
      TEST(a_stop_commits_what_is_left),
      TEST(a_stop_says_what_the_disk_did_not_take),
      TEST(counters_come_fresh),
      TEST(counters_do_not_wait_for_the_disk),
      TEST(one_that_never_started_frees_what_it_got),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
