#include "base/references.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { THREADS = 4, ROUNDS = 20000 };

static void the_last_one_is_told(void **state)
{
  (void)state;
  struct references references;
  references_init(&references);
  assert_true(references_drop(&references));
  references_init(&references);
  for (int i = 0; i < 3; i++) references_take(&references);
  for (int i = 0; i < 3; i++) assert_false(references_drop(&references));
  references_take(&references);
  assert_false(references_drop(&references));
  assert_true(references_drop(&references));
}

// What the threads share; its last holder frees it, so that a sanitizer sees who comes late or twice.
struct shared {
  struct references references;
  int *drops;  // the last one counts itself here, unlocked
  int value;
};

static void let_go(struct shared *shared)
{
  if (!references_drop(&shared->references)) return;
  *shared->drops += shared->value;
  free(shared);
}

static void *take_and_drop(void *argument)
{
  struct shared *shared = argument;
  for (int i = 0; i < ROUNDS; i++) {
    references_take(&shared->references);
    let_go(shared);
  }
  let_go(shared);
  return NULL;
}

static void threads_agree_on_the_last(void **state)
{
  (void)state;
  int drops = 0;
  struct shared *shared = malloc(sizeof *shared);
  assert_non_null(shared);
  *shared = (struct shared){.drops = &drops, .value = 7};
  references_init(&shared->references);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    references_take(&shared->references);  // goes along to the thread
    assert_int_equal(pthread_create(&threads[i], NULL, take_and_drop, shared), 0);
  }
  let_go(shared);
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(drops, 7);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_last_one_is_told), cmocka_unit_test(threads_agree_on_the_last)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
