#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/prng.h"

struct item {
  uint32_t key;
  bool present;
  bool seen;
};

static bool has_key(const void *item, const void *key)
{
  return ((const struct item *)item)->key == *(const uint32_t *)key;
}

static void an_empty_map_has_nothing(void **state)
{
  (void)state;
  struct map map = {0};
  uint32_t key = 1;
  size_t cursor = 0;
  assert_null(map_find(&map, 1, has_key, &key));
  assert_false(map_remove(&map, 1, &key));
  assert_null(map_next(&map, &cursor));
  map_deinit(&map);
}

static void items_with_the_same_hash_are_told_apart_by_key(void **state)
{
  (void)state;
  struct map map;
  map_init(&map);
  struct item items[] = {{.key = 1}, {.key = 2}, {.key = 3}};
  for (size_t i = 0; i < 3; i++) assert_int_equal(map_insert(&map, 77, &items[i]), OK);
  for (size_t i = 0; i < 3; i++) assert_ptr_equal(map_find(&map, 77, has_key, &items[i].key), &items[i]);
  uint32_t absent = 4;
  assert_null(map_find(&map, 77, has_key, &absent));
  assert_true(map_remove(&map, 77, &items[0]));
  assert_ptr_equal(map_find(&map, 77, has_key, &items[2].key), &items[2]);
  map_deinit(&map);
}

static void removing_is_by_pointer(void **state)
{
  (void)state;
  struct map map;
  map_init(&map);
  struct item item = {.key = 1}, same_key = {.key = 1};
  assert_int_equal(map_insert(&map, 5, &item), OK);
  assert_false(map_remove(&map, 5, &same_key));
  assert_false(map_remove(&map, 6, &item));
  assert_true(map_remove(&map, 5, &item));
  assert_false(map_remove(&map, 5, &item));
  assert_int_equal(map.count, 0);
  map_deinit(&map);
}

static void it_grows_at_three_quarters_and_shrinks_at_an_eighth(void **state)
{
  (void)state;
  enum { COUNT = 1000 };
  static struct item items[COUNT];
  struct map map;
  map_init(&map);
  for (uint32_t i = 0; i < COUNT; i++) {
    items[i].key = i;
    assert_int_equal(map_insert(&map, i, &items[i]), OK);
    assert_true(map.count * 4 <= map.capacity * 3);
    assert_true(map.capacity == 8 || map.count * 8 > map.capacity);
  }
  assert_int_equal(map.capacity, 2048);
  for (uint32_t i = 0; i < COUNT; i++) {
    assert_true(map_remove(&map, i, &items[i]));
    assert_true(map.capacity == 8 || map.count * 8 > map.capacity);
  }
  assert_int_equal(map.capacity, 8);
  map_deinit(&map);
  assert_int_equal(map.capacity, 0);
}

enum { ITEMS = 600 };

// Hashes of few values, so that runs of slots collide, merge and wrap around the end of the table.
static uint64_t poor_hash(uint32_t key, uint32_t values)
{
  return (uint64_t)(key % values) - values / 2;
}

static void check_walk(const struct map *map, struct item *items)
{
  for (size_t i = 0; i < ITEMS; i++) items[i].seen = false;
  size_t cursor = 0, walked = 0;
  for (struct item *item = map_next(map, &cursor); item; item = map_next(map, &cursor), walked++) {
    assert_true(item->present);
    assert_false(item->seen);
    item->seen = true;
  }
  assert_int_equal(walked, map->count);
}

// The model is a flag on each item.
static void random_changes_agree_with_flags(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 13);
  for (uint32_t values = 3; values < 3000; values *= 4) {
    struct item items[ITEMS] = {0};
    for (uint32_t i = 0; i < ITEMS; i++) items[i].key = i * 7;
    struct map map;
    map_init(&map);
    size_t count = 0;
    for (int step = 0; step < 6000; step++) {
      // Mostly filling, then mostly emptying, in turns.
      bool filling = step / 1000 % 2 == 0;
      struct item *item = &items[prng_below(&prng, ITEMS)];
      uint64_t hash = poor_hash(item->key, values);
      assert_ptr_equal(map_find(&map, hash, has_key, &item->key), item->present ? item : NULL);
      if (item->present && (!filling || prng_below(&prng, 4) == 0)) {
        assert_true(map_remove(&map, hash, item));
        item->present = false;
        count--;
      } else if (!item->present && (filling || prng_below(&prng, 4) == 0)) {
        assert_int_equal(map_insert(&map, hash, item), OK);
        item->present = true;
        count++;
      }
      assert_int_equal(map.count, count);
      if (step % 100 == 0) check_walk(&map, items);
    }
    map_deinit(&map);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_empty_map_has_nothing),
      cmocka_unit_test(items_with_the_same_hash_are_told_apart_by_key),
      cmocka_unit_test(removing_is_by_pointer),
      cmocka_unit_test(it_grows_at_three_quarters_and_shrinks_at_an_eighth),
      cmocka_unit_test(random_changes_agree_with_flags),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
