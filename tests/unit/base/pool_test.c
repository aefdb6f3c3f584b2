#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "base/prng.h"

// With AddressSanitizer the pool hands every block back to malloc; what is said about reuse then does not hold.
#if defined(__SANITIZE_ADDRESS__)
enum { REUSES = false };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { REUSES = false };
#else
enum { REUSES = true };
#endif
#else
enum { REUSES = true };
#endif

static void blocks_can_be_written_to_their_last_byte(void **state)
{
  (void)state;
  struct pool pool;
  pool_init(&pool, NULL);
  for (size_t size = 0; size <= 20000; size += size < 200 ? 1 : 997) {
    uint8_t *block = pool_alloc(&pool, size);
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % 16, 0);
    if (size > 0) memset(block, 0xAA, size);
    pool_free(&pool, block, size);
  }
  pool_free(&pool, NULL, 64);
  pool_deinit(&pool);
}

static void a_freed_block_serves_its_class_again(void **state)
{
  (void)state;
  if (!REUSES) skip();
  struct pool pool;
  pool_init(&pool, NULL);
  void *block = pool_alloc(&pool, 65);
  pool_free(&pool, block, 65);
  assert_int_equal(pool.kept_bytes, 128);
  void *smaller_class = pool_alloc(&pool, 64);
  assert_ptr_not_equal(smaller_class, block);
  assert_ptr_equal(pool_alloc(&pool, 128), block);
  assert_int_equal(pool.kept_bytes, 0);
  pool_free(&pool, block, 128);
  pool_free(&pool, smaller_class, 64);
  pool_deinit(&pool);
  assert_int_equal(pool.kept_bytes, 0);
}

static void it_keeps_no_more_than_its_share(void **state)
{
  (void)state;
  enum { BLOCKS = 200 };
  struct pool pool;
  pool_init(&pool, NULL);
  void *blocks[BLOCKS];
  for (size_t i = 0; i < BLOCKS; i++) {
    blocks[i] = pool_alloc(&pool, 8192);
    assert_non_null(blocks[i]);
  }
  for (size_t i = 0; i < BLOCKS; i++) pool_free(&pool, blocks[i], 8192);
  assert_int_equal(pool.kept_bytes, REUSES ? POOL_KEEP_BYTES : 0);

  void *large = pool_alloc(&pool, 8193);
  pool_free(&pool, large, 8193);
  assert_int_equal(pool.kept_bytes, REUSES ? POOL_KEEP_BYTES : 0);
  pool_deinit(&pool);
}

static int64_t used(const struct memory_budget *budget)
{
  return atomic_load(&budget->used_bytes);
}

static void the_budget_counts_whole_classes(void **state)
{
  (void)state;
  struct memory_budget budget = {.limit_bytes = 1 << 20};
  struct pool pool;
  pool_init(&pool, &budget);
  const struct {
    size_t size, counted;
  } cases[] = {{0, 64},      {1, 64},      {64, 64},     {65, 128},       {128, 128},
               {4097, 8192}, {8192, 8192}, {8193, 8193}, {100000, 100000}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    void *block = pool_alloc(&pool, cases[i].size);
    pool_settle(&pool);
    assert_int_equal(used(&budget), cases[i].counted);
    pool_free(&pool, block, cases[i].size);
    pool_settle(&pool);
    assert_int_equal(used(&budget), 0);
  }
  pool_deinit(&pool);
}

static void the_budget_is_never_far_behind(void **state)
{
  (void)state;
  enum { BLOCKS = 1000 };
  struct memory_budget budget = {.limit_bytes = 1 << 20};
  struct pool pool;
  pool_init(&pool, &budget);
  void *blocks[BLOCKS];
  for (int64_t i = 0; i < BLOCKS; i++) {
    blocks[i] = pool_alloc(&pool, 100);
    assert_in_range((i + 1) * 128 - used(&budget), 0, 16384);
  }
  for (int64_t i = 0; i < BLOCKS; i++) {
    pool_free(&pool, blocks[i], 100);
    assert_in_range(used(&budget) - (BLOCKS - 1 - i) * 128 + 16384, 0, 32768);
  }
  pool_deinit(&pool);
  assert_int_equal(used(&budget), 0);
}

static void going_over_the_budget_does_not_fail(void **state)
{
  (void)state;
  struct memory_budget budget = {.limit_bytes = 10};
  struct pool pool;
  pool_init(&pool, &budget);
  void *block = pool_alloc(&pool, 100000);
  assert_non_null(block);
  assert_true(used(&budget) > budget.limit_bytes);
  pool_free(&pool, block, 100000);
  pool_deinit(&pool);
}

static void foreign_memory_is_counted_too(void **state)
{
  (void)state;
  struct memory_budget budget = {.limit_bytes = 1 << 20};
  struct pool pool;
  pool_init(&pool, &budget);
  pool_charge(&pool, 100);
  assert_int_equal(used(&budget), 0);
  pool_charge(&pool, 50000);
  assert_int_equal(used(&budget), 50100);
  pool_charge(&pool, -50000);
  pool_charge(&pool, -50);
  pool_settle(&pool);
  assert_int_equal(used(&budget), 50);
  pool_charge(&pool, -50);
  pool_deinit(&pool);
  assert_int_equal(used(&budget), 0);
  pool_charge(&(struct pool){0}, 100);
}

static void a_block_may_go_home_to_another_pool(void **state)
{
  (void)state;
  struct memory_budget budget = {.limit_bytes = 1 << 20};
  struct pool pools[2];
  pool_init(&pools[0], &budget);
  pool_init(&pools[1], &budget);
  for (int i = 0; i < 100; i++) pool_free(&pools[1], pool_alloc(&pools[0], 300), 300);
  assert_int_equal(pools[0].kept_bytes, 0);
  assert_int_equal(pools[1].kept_bytes, REUSES ? 100 * 512 : 0);
  pool_deinit(&pools[0]);
  pool_deinit(&pools[1]);
  assert_int_equal(used(&budget), 0);
}

// No two live blocks overlap: each is filled with its own byte and checked when it is freed.
static void random_use_keeps_blocks_apart(void **state)
{
  (void)state;
  enum { BLOCKS = 100 };
  struct {
    uint8_t *at;
    size_t size;
  } blocks[BLOCKS] = {0};
  struct memory_budget budget = {.limit_bytes = 1 << 20};
  struct pool pool;
  pool_init(&pool, &budget);
  struct prng prng;
  prng_seed(&prng, 17);
  for (int step = 0; step < 50000; step++) {
    size_t i = (size_t)prng_below(&prng, BLOCKS);
    if (blocks[i].at) {
      for (size_t at = 0; at < blocks[i].size; at++) assert_int_equal(blocks[i].at[at], (uint8_t)i);
      pool_free(&pool, blocks[i].at, blocks[i].size);
      blocks[i].at = NULL;
    } else {
      blocks[i].size = (size_t)prng_below(&prng, UINT64_C(1) << prng_below(&prng, 15));
      blocks[i].at = pool_alloc(&pool, blocks[i].size);
      assert_non_null(blocks[i].at);
      memset(blocks[i].at, (int)i, blocks[i].size);
    }
  }
  for (size_t i = 0; i < BLOCKS; i++) pool_free(&pool, blocks[i].at, blocks[i].size);
  pool_deinit(&pool);
  assert_int_equal(used(&budget), 0);
}

static void marks_of_the_budget(void **state)
{
  (void)state;
  struct memory_budget budget = {.limit_bytes = 1000};
  struct pool pool;
  pool_init(&pool, &budget);
  pool_charge(&pool, 750);
  assert_false(pool_tight(&pool));
  pool_charge(&pool, 1);  // not settled yet, and counted all the same
  assert_true(pool_tight(&pool));
  assert_false(pool_full(&pool));
  pool_settle(&pool);
  assert_true(pool_tight(&pool));
  pool_charge(&pool, 250);
  assert_true(pool_full(&pool));
  // A new limit, and what other pools take, are seen when it settles, also when it has nothing to add.
  pool_settle(&pool);
  atomic_store(&budget.limit_bytes, 2000);
  pool_settle(&pool);
  assert_false(pool_tight(&pool));
  atomic_fetch_add(&budget.used_bytes, 1000);
  assert_false(pool_full(&pool));
  pool_settle(&pool);
  assert_true(pool_full(&pool));
  atomic_fetch_sub(&budget.used_bytes, 1000);
  pool_charge(&pool, -1001);
  pool_deinit(&pool);
  struct pool free_of_budget;
  pool_init(&free_of_budget, NULL);
  pool_charge(&free_of_budget, 1 << 30);
  assert_false(pool_tight(&free_of_budget));
  assert_false(pool_full(&free_of_budget));
  pool_deinit(&free_of_budget);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(marks_of_the_budget),
      cmocka_unit_test(blocks_can_be_written_to_their_last_byte),
      cmocka_unit_test(a_freed_block_serves_its_class_again),
      cmocka_unit_test(it_keeps_no_more_than_its_share),
      cmocka_unit_test(the_budget_counts_whole_classes),
      cmocka_unit_test(the_budget_is_never_far_behind),
      cmocka_unit_test(going_over_the_budget_does_not_fail),
      cmocka_unit_test(foreign_memory_is_counted_too),
      cmocka_unit_test(a_block_may_go_home_to_another_pool),
      cmocka_unit_test(random_use_keeps_blocks_apart),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
