#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
  int number;
  struct link link;
};

static int number_of(struct link *link)
{
  return CONTAINER_OF(link, struct item, link)->number;
}

static void assert_numbers(struct link *head, const int *numbers, size_t count)
{
  size_t i = 0;
  LIST_EACH (link, head) {
    assert_true(i < count);
    assert_int_equal(number_of(link), numbers[i]);
    assert_ptr_equal(link->next->previous, link);
    assert_ptr_equal(link->previous->next, link);
    i++;
  }
  assert_int_equal(i, count);
}

#define ASSERT_NUMBERS(head, ...)                                                                                           \
  assert_numbers((head), (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static void items_come_in_order(void **state)
{
  (void)state;
  struct link head;
  list_init(&head);
  assert_true(list_empty(&head));
  struct item items[] = {{.number = 1}, {.number = 2}, {.number = 3}};
  list_append(&head, &items[1].link);
  list_append(&head, &items[2].link);
  list_insert_before(&items[1].link, &items[0].link);
  assert_false(list_empty(&head));
  ASSERT_NUMBERS(&head, 1, 2, 3);
}

static void removing_leaves_an_idle_link(void **state)
{
  (void)state;
  struct link head;
  list_init(&head);
  struct item items[] = {{.number = 1}, {.number = 2}, {.number = 3}};
  for (size_t i = 0; i < 3; i++) list_append(&head, &items[i].link);
  assert_false(link_idle(&items[1].link));
  list_remove(&items[1].link);
  assert_true(link_idle(&items[1].link));
  ASSERT_NUMBERS(&head, 1, 3);
  list_remove(&items[1].link);
  ASSERT_NUMBERS(&head, 1, 3);
}

static void taking_from_the_front_until_empty(void **state)
{
  (void)state;
  struct link head;
  list_init(&head);
  assert_null(list_take_first(&head));
  struct item items[] = {{.number = 1}, {.number = 2}};
  for (size_t i = 0; i < 2; i++) list_append(&head, &items[i].link);
  assert_int_equal(number_of(list_take_first(&head)), 1);
  assert_int_equal(number_of(list_take_first(&head)), 2);
  assert_null(list_take_first(&head));
  assert_true(link_idle(&items[0].link));
}

static void the_current_item_may_go_while_walking(void **state)
{
  (void)state;
  struct link head;
  list_init(&head);
  struct item items[6];
  for (int i = 0; i < 6; i++) {
    items[i].number = i;
    list_append(&head, &items[i].link);
  }
  LIST_EACH (link, &head) {
    if (number_of(link) % 2 == 0) list_remove(link);
  }
  ASSERT_NUMBERS(&head, 1, 3, 5);
}

static void taking_all_moves_them_in_order(void **state)
{
  (void)state;
  struct link from, to;
  list_init(&from);
  list_take_all(&to, &from);
  assert_true(list_empty(&to));
  struct item items[] = {{.number = 1}, {.number = 2}, {.number = 3}};
  for (size_t i = 0; i < 3; i++) list_append(&from, &items[i].link);
  list_take_all(&to, &from);
  assert_true(list_empty(&from));
  ASSERT_NUMBERS(&to, 1, 2, 3);
  list_append(&from, list_take_first(&to));
  ASSERT_NUMBERS(&from, 1);
  ASSERT_NUMBERS(&to, 2, 3);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(items_come_in_order),
      cmocka_unit_test(removing_leaves_an_idle_link),
      cmocka_unit_test(taking_from_the_front_until_empty),
      cmocka_unit_test(the_current_item_may_go_while_walking),
      cmocka_unit_test(taking_all_moves_them_in_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
